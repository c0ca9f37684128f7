//! Memory that is lent to a transfer: where it is, how many packed bytes it holds, and how they lie in it.
//!
//! The unsafe of copying between user memory and packed bytes is here and nowhere else above the transport.
use crate::model::datatype::Strided;
use crate::model::{Basic, Layout, TypeCode};
use crate::transport::shm::Arrival;
use crate::transport::shm::cells::Window;
use crate::transport::shm::copy;
use crate::transport::shm::way::Way;
use std::sync::Arc;

/// Memory to send from.
#[derive(Clone, Debug)]
pub(crate) struct SendSpan {
    ptr: *const u8,
    bytes: usize,
    code: TypeCode,
    /// `None`: the packed bytes are the memory itself.
    strided: Option<Strided>,
}

/// Memory to receive into.
#[derive(Clone, Debug)]
pub(crate) struct RecvSpan {
    ptr: *mut u8,
    bytes: usize,
    code: TypeCode,
    /// Packed bytes after which the signature repeats.
    period: usize,
    /// Every byte that arrives must be 0 or 1.
    bools: bool,
    strided: Option<Strided>,
}

// SAFETY: a span is a loan whose lender (the face's scopes, or a blocking call) promises that the memory stays valid and unshared until the
// transfer is complete, on whichever thread progress happens.
unsafe impl Send for SendSpan {}
// SAFETY: as above; nothing is written through it.
unsafe impl Sync for SendSpan {}
// SAFETY: as for SendSpan; the engine's state is locked or single-threaded when it writes.
unsafe impl Send for RecvSpan {}
// SAFETY: as above; writing needs the unsafe methods.
unsafe impl Sync for RecvSpan {}

/// The address and the elements that hold bytes `at..at + len` of the packed stream, if those are whole elements.
fn elements(strided: &Strided, at: usize, len: usize) -> Option<(isize, Strided)> {
    let size = strided.layout.size();
    if size == 0 || at % size != 0 || len % size != 0 {
        return None;
    }
    let part = Strided {
        layout: strided.layout.clone(),
        count: len / size,
    };
    Some(((at / size) as isize * strided.layout.extent(), part))
}

/// Copies between the packed stream and the blocks of `count` elements at `base`, from byte `at` of the stream, `len` bytes:
/// `each(memory, packed offset, run length)` for every run.
fn runs(strided: &Strided, at: usize, len: usize, mut each: impl FnMut(isize, usize, usize)) {
    let layout = &*strided.layout;
    let size = layout.size();
    if size == 0 || len == 0 {
        return;
    }
    let mut done = 0;
    let (mut element, mut skip) = (at / size, at % size);
    while done < len && element < strided.count {
        let origin = element as isize * layout.extent();
        for block in layout.blocks() {
            if skip >= block.len {
                skip -= block.len;
                continue;
            }
            let run = (block.len - skip).min(len - done);
            each(origin + block.disp + skip as isize, done, run);
            done += run;
            skip = 0;
            if done == len {
                return;
            }
        }
        element += 1;
    }
}

impl SendSpan {
    /// `bytes` contiguous bytes at `ptr` of basic items with type code `code`.
    ///
    /// # Safety
    /// The memory is readable and unchanged until the transfer that takes the span is complete.
    #[inline]
    pub(crate) unsafe fn contiguous(ptr: *const u8, bytes: usize, code: TypeCode) -> SendSpan {
        SendSpan {
            ptr,
            bytes,
            code,
            strided: None,
        }
    }

    /// `count` elements of `layout`, the first at `ptr`.
    ///
    /// # Safety
    /// As for [`SendSpan::contiguous`], for all bytes that the layout covers.
    pub(crate) unsafe fn strided(ptr: *const u8, count: usize, layout: &Arc<Layout>) -> SendSpan {
        let strided = (!layout.is_contiguous()).then(|| Strided {
            layout: layout.clone(),
            count,
        });
        SendSpan {
            ptr,
            bytes: count * layout.size(),
            code: layout.code(),
            strided,
        }
    }

    /// A span of packed bytes; goes together with every type.
    pub(crate) fn bytes_of(bytes: &[u8]) -> SendSpan {
        SendSpan {
            ptr: bytes.as_ptr(),
            bytes: bytes.len(),
            code: TypeCode::UNCHECKED,
            strided: None,
        }
    }

    /// `count` elements of a layout that lie in `memory`, for tests.
    #[cfg(test)]
    pub(crate) fn over(memory: &[u8], count: usize, layout: &Arc<Layout>) -> SendSpan {
        assert!(count as isize * layout.extent() <= memory.len() as isize);
        // SAFETY: in bounds, as far as the layout stays within its extent; tests keep the memory.
        unsafe { SendSpan::strided(memory.as_ptr(), count, layout) }
    }

    /// Packed bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(crate) fn code(&self) -> TypeCode {
        self.code
    }

    /// The memory itself, where the packed bytes are the memory.
    #[inline]
    pub(crate) fn contiguous_ptr(&self) -> Option<*const u8> {
        self.strided.is_none().then_some(self.ptr)
    }

    /// Packs bytes `at..at + len` of the stream to `out`.
    ///
    /// # Safety
    /// The range lies inside the span, `out` is valid for `len` bytes and does not overlap the span, and the loan still holds.
    #[inline]
    pub(crate) unsafe fn pack(&self, at: usize, len: usize, out: *mut u8) {
        debug_assert!(at + len <= self.bytes);
        match &self.strided {
            // SAFETY: by the contract of this function.
            None => unsafe { copy::mostly_8(self.ptr.add(at), out, len) },
            Some(strided) => runs(strided, at, len, |disp, done, run| {
                // SAFETY: the layout's blocks lie in the lent memory; `done + run <= len`.
                unsafe { core::ptr::copy_nonoverlapping(self.ptr.offset(disp), out.add(done), run) }
            }),
        }
    }

    /// Packs the first `len` bytes into the ring of a lane; `far`: the receiver's core is known to be far.
    ///
    /// # Safety
    /// As for [`SendSpan::pack`].
    #[inline]
    pub(crate) unsafe fn pack_lane(&self, len: usize, out: *mut u8, far: bool) {
        match &self.strided {
            // SAFETY: by the contract of this function.
            None => unsafe { copy::to_lane(self.ptr, out, len, far) },
            // SAFETY: by the contract of this function.
            Some(_) => unsafe { self.pack(0, len, out) },
        }
    }

    /// As [`SendSpan::pack`], into a staging ring or a cell.
    ///
    /// # Safety
    /// As for [`SendSpan::pack`].
    #[inline]
    pub(crate) unsafe fn pack_ring(&self, at: usize, len: usize, out: *mut u8, way: Way) {
        match &self.strided {
            // SAFETY: by the contract of this function.
            None => unsafe { copy::to_ring(self.ptr.add(at), out, len, way) },
            // SAFETY: by the contract of this function.
            Some(_) => unsafe { self.pack(at, len, out) },
        }
    }

    /// Whether the packed bytes are the memory itself.
    pub(crate) fn is_packed(&self) -> bool {
        self.strided.is_none()
    }

    /// All packed bytes, as a vector.
    pub(crate) fn to_packed(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes);
        // SAFETY: the vector has room for all bytes, which `pack` initializes; the span is lent to the caller.
        unsafe {
            self.pack(0, self.bytes, out.as_mut_ptr());
            out.set_len(self.bytes);
        }
        out
    }

    /// Packs bytes `at..` of the stream to `out`, as many as it has.
    #[inline]
    pub(crate) fn pack_at(&self, at: usize, out: &mut [u8]) {
        assert!(at <= self.bytes && out.len() <= self.bytes - at);
        // SAFETY: in bounds by the assertion; memory that is lent for reading does not overlap an exclusive slice; the span is lent.
        unsafe { self.pack(at, out.len(), out.as_mut_ptr()) }
    }

    /// Packs bytes `at..` of the stream to shared memory, as many as it has.
    #[inline]
    pub(crate) fn pack_to(&self, at: usize, out: &Window<'_>) {
        assert!(at <= self.bytes && out.len() <= self.bytes - at);
        // SAFETY: in bounds by the assertion; a window does not overlap a user's memory; the span is lent.
        unsafe { self.pack_ring(at, out.len(), out.as_ptr(), out.way()) }
    }

    /// As [`SendSpan::pack_to`], and at the same time to bytes `to + at..` of `also`'s stream. `false`: not all of it is packed, and nothing was done.
    pub(crate) fn pack_twice(
        &self,
        at: usize,
        out: &Window<'_>,
        also: &RecvSpan,
        to: usize,
    ) -> bool {
        let len = out.len();
        assert!(at <= self.bytes && len <= self.bytes - at);
        assert!(to + at <= also.bytes && len <= also.bytes - to - at);
        let both = self.strided.is_none() && also.strided.is_none();
        if both {
            // SAFETY: in bounds by the assertions; a window does not overlap a user's memory; both spans are lent, one for writing alone.
            unsafe {
                let (from, also) = (self.ptr.add(at), also.ptr.add(to + at));
                copy::to_two(from, out.as_ptr(), also, len);
            }
        }
        both
    }

    /// Bytes `at..at + len` of the stream: the memory itself where it is packed, else a copy in `room`.
    #[inline]
    pub(crate) fn bytes_at<'a>(&'a self, at: usize, len: usize, room: &'a mut [u8]) -> &'a [u8] {
        assert!(at <= self.bytes && len <= self.bytes - at);
        match &self.strided {
            // SAFETY: in bounds by the assertion; the memory is lent for reading and unchanged while the span is.
            None => unsafe { core::slice::from_raw_parts(self.ptr.add(at), len) },
            Some(_) => {
                self.pack_at(at, &mut room[..len]);
                &room[..len]
            }
        }
    }
}

impl RecvSpan {
    /// Room for `bytes` contiguous bytes at `ptr`, of items with the type code and period of `basic`.
    ///
    /// # Safety
    /// The memory is writable and nobody else's until the transfer that takes the span is complete.
    #[inline]
    pub(crate) unsafe fn contiguous(ptr: *mut u8, bytes: usize, basic: Basic) -> RecvSpan {
        RecvSpan {
            ptr,
            bytes,
            code: TypeCode::of(basic),
            period: basic.size(),
            bools: matches!(basic, Basic::Bool),
            strided: None,
        }
    }

    /// Room for `bytes` contiguous bytes at `ptr` of items that are not `bool`, with this code and period.
    ///
    /// # Safety
    /// As for [`RecvSpan::contiguous`].
    #[inline]
    pub(crate) unsafe fn plain(
        ptr: *mut u8,
        bytes: usize,
        code: TypeCode,
        period: usize,
    ) -> RecvSpan {
        RecvSpan {
            ptr,
            bytes,
            code,
            period,
            bools: false,
            strided: None,
        }
    }

    /// Room for `count` elements of `layout`, the first at `ptr`.
    ///
    /// # Safety
    /// As for [`RecvSpan::contiguous`], for all bytes that the layout covers.
    pub(crate) unsafe fn strided(ptr: *mut u8, count: usize, layout: &Arc<Layout>) -> RecvSpan {
        let bools = layout.items().iter().any(|i| i.1 == Basic::Bool);
        // A contiguous layout that mixes bool with other items keeps its layout: the check needs to know which bytes are bool.
        let keep = !layout.is_contiguous() || (bools && layout.uniform().is_none());
        let strided = keep.then(|| Strided {
            layout: layout.clone(),
            count,
        });
        RecvSpan {
            ptr,
            bytes: count * layout.size(),
            code: layout.code(),
            period: layout.period(),
            bools,
            strided,
        }
    }

    /// Room for packed bytes; goes together with every type.
    pub(crate) fn bytes_of(bytes: &mut [u8]) -> RecvSpan {
        RecvSpan {
            ptr: bytes.as_mut_ptr(),
            bytes: bytes.len(),
            code: TypeCode::UNCHECKED,
            period: 1,
            bools: false,
            strided: None,
        }
    }

    /// Room for `count` elements of a layout in `memory`, for tests.
    #[cfg(test)]
    pub(crate) fn over(memory: &mut [u8], count: usize, layout: &Arc<Layout>) -> RecvSpan {
        assert!(count as isize * layout.extent() <= memory.len() as isize);
        // SAFETY: in bounds, as far as the layout stays within its extent; tests keep the memory.
        unsafe { RecvSpan::strided(memory.as_mut_ptr(), count, layout) }
    }

    /// Packed bytes that fit.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(crate) fn code(&self) -> TypeCode {
        self.code
    }

    #[inline]
    pub(crate) fn period(&self) -> usize {
        self.period
    }

    #[inline]
    pub(crate) fn contiguous_ptr(&self) -> Option<*mut u8> {
        self.strided.is_none().then_some(self.ptr)
    }

    /// Whether [`RecvSpan::invalid_bool`] has something to look at.
    #[inline]
    pub(crate) fn has_bools(&self) -> bool {
        self.bools
    }

    /// Unpacks `len` bytes from `from` to bytes `at..at + len` of the stream.
    ///
    /// # Safety
    /// The range lies inside the span, `from` is valid for `len` bytes and does not overlap the span, and the loan still holds.
    #[inline]
    pub(crate) unsafe fn unpack(&self, at: usize, len: usize, from: *const u8) {
        debug_assert!(at + len <= self.bytes);
        match &self.strided {
            // SAFETY: by the contract of this function.
            None => unsafe { copy::from_shared(from, self.ptr.add(at), len) },
            Some(strided) => runs(strided, at, len, |disp, done, run| {
                // SAFETY: the layout's blocks lie in the lent memory; `done + run <= len`.
                unsafe {
                    core::ptr::copy_nonoverlapping(from.add(done), self.ptr.offset(disp), run)
                }
            }),
        }
    }

    /// As [`RecvSpan::unpack`], out of a ring that was filled by `way`.
    ///
    /// # Safety
    /// As for [`RecvSpan::unpack`].
    #[inline]
    pub(crate) unsafe fn unpack_ring(&self, at: usize, len: usize, from: *const u8, way: Way) {
        debug_assert!(at + len <= self.bytes);
        match &self.strided {
            // SAFETY: by the contract of this function.
            None => unsafe { copy::from_ring(from, self.ptr.add(at), len, way) },
            // SAFETY: by the contract of this function.
            Some(_) => unsafe { self.unpack(at, len, from) },
        }
    }

    /// Unpacks a message that is no longer than the span.
    ///
    /// # Safety
    /// The loan still holds.
    #[inline(always)]
    pub(crate) unsafe fn take(&self, message: &Arrival) {
        debug_assert!(message.len as usize <= self.bytes);
        match &self.strided {
            // SAFETY: the message fits, as the caller has checked, and a lane does not overlap a user's memory.
            None => unsafe { message.copy_to(self.ptr) },
            // SAFETY: as above; the message's bytes are in the lane.
            Some(_) => unsafe { self.unpack(0, message.len as usize, message.payload) },
        }
    }

    /// Unpacks all of `bytes` to byte `at` of the stream.
    #[inline]
    pub(crate) fn fill_at(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.bytes && bytes.len() <= self.bytes - at);
        // SAFETY: in bounds by the assertion; a slice elsewhere does not overlap memory that is lent exclusively.
        unsafe {
            match self.strided {
                None => copy::mostly_8(bytes.as_ptr(), self.ptr.add(at), bytes.len()),
                Some(_) => self.unpack(at, bytes.len(), bytes.as_ptr()),
            }
        }
    }

    /// The packed bytes that the memory holds now (a receive buffer that is also the source of data, as in broadcast at the root).
    ///
    /// # Safety
    /// The memory has been initialized.
    pub(crate) unsafe fn as_send(&self) -> SendSpan {
        SendSpan {
            ptr: self.ptr,
            bytes: self.bytes,
            code: self.code,
            strided: self.strided.clone(),
        }
    }

    /// Unpacks all of a range of shared memory to byte `at` of the stream.
    #[inline]
    pub(crate) fn fill_from(&self, at: usize, from: &Window<'_>) {
        assert!(at <= self.bytes && from.len() <= self.bytes - at);
        // SAFETY: in bounds by the assertion; a window does not overlap a user's memory; the span is lent.
        unsafe { self.unpack_ring(at, from.len(), from.as_ptr(), from.way()) }
    }

    /// Has `change` change bytes `at..at + len` of the stream, which were written before: in place where the memory is packed.
    pub(crate) fn change_at(
        &self,
        at: usize,
        len: usize,
        room: &mut [u8],
        change: impl FnOnce(&mut [u8]),
    ) {
        assert!(at <= self.bytes && len <= self.bytes - at);
        if self.strided.is_none() {
            // SAFETY: in bounds by the assertion; the memory is lent exclusively and has been written.
            return change(unsafe { core::slice::from_raw_parts_mut(self.ptr.add(at), len) });
        }
        let room = &mut room[..len];
        self.source().pack_at(at, room);
        change(room);
        self.fill_at(at, room);
    }

    /// What the memory holds now, to send from: a receive buffer that is also the source (broadcast at the root). The face lends
    /// initialized values only.
    pub(crate) fn source(&self) -> SendSpan {
        // SAFETY: see above.
        unsafe { self.as_send() }
    }

    /// The part `at..at + len` of the packed stream (`None` if it cuts an element of a layout with gaps).
    pub(crate) fn part(&self, at: usize, len: usize) -> Option<RecvSpan> {
        assert!(at <= self.bytes && len <= self.bytes - at);
        let (disp, strided) = match &self.strided {
            None => (at as isize, None),
            Some(strided) => elements(strided, at, len).map(|(disp, s)| (disp, Some(s)))?,
        };
        Some(RecvSpan {
            // SAFETY: the range lies in the lent memory by the assertion.
            ptr: unsafe { self.ptr.offset(disp) },
            bytes: len,
            strided,
            ..self.clone()
        })
    }

    /// Looks through the first `len` received bytes for a `bool` that is neither 0 nor 1, makes such ones `true`, and tells the first.
    pub(crate) fn invalid_bool(&self, len: usize) -> Option<u8> {
        let mut found = None;
        let mut look = |p: *mut u8| {
            // SAFETY: `p` points into the lent memory, at a byte that the transfer has written.
            let value = unsafe { p.read() };
            if value > 1 {
                found.get_or_insert(value);
                // SAFETY: as above.
                unsafe { p.write(1) };
            }
        };
        match &self.strided {
            // SAFETY: `len` is at most the span's length.
            None => (0..len.min(self.bytes)).for_each(|i| look(unsafe { self.ptr.add(i) })),
            Some(Strided { layout, count }) => {
                let mut left = len;
                'all: for element in 0..*count {
                    for &(disp, basic) in layout.items() {
                        if left < basic.size() {
                            break 'all;
                        }
                        left -= basic.size();
                        if basic == Basic::Bool {
                            // SAFETY: the layout's items lie in the lent memory.
                            look(unsafe {
                                self.ptr.offset(element as isize * layout.extent() + disp)
                            });
                        }
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_stops_and_goes_on_at_any_byte() {
        #[repr(C)]
        #[derive(Clone, Copy, Default, PartialEq, Debug)]
        struct Gappy {
            a: u8,
            b: u32,
            c: u16,
        }
        let layout = Arc::new(Layout::new(
            vec![(0, Basic::U8), (4, Basic::U32), (8, Basic::U16)],
            0,
            12,
        ));
        let from: Vec<Gappy> = (0..5)
            .map(|i| Gappy {
                a: i,
                b: 0x0101_0101 * i as u32,
                c: 1000 + i as u16,
            })
            .collect();
        // SAFETY: `from` outlives the span.
        let span = unsafe { SendSpan::strided(from.as_ptr().cast(), from.len(), &layout) };
        assert_eq!(span.len(), 35);
        let packed = span.to_packed();
        for cut in 0..=35 {
            let mut to = vec![Gappy::default(); 5];
            // SAFETY: `to` outlives the span and is not touched meanwhile.
            let into = unsafe { RecvSpan::strided(to.as_mut_ptr().cast(), 5, &layout) };
            into.fill_at(cut, &packed[cut..]);
            into.fill_at(0, &packed[..cut]);
            assert_eq!(to, from);
        }
    }

    #[test]
    fn a_bool_that_is_none_is_found() {
        let mut bytes = [1_u8, 0, 7, 1];
        // SAFETY: `bytes` outlives the span.
        let span = unsafe { RecvSpan::contiguous(bytes.as_mut_ptr(), 4, Basic::Bool) };
        assert_eq!(span.invalid_bool(2), None);
        assert_eq!(span.invalid_bool(4), Some(7));
        assert_eq!(bytes, [1, 0, 1, 1]);
    }
}
