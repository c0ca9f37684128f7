//! From buffers to the spans that the engine moves.
use super::handle::basic_layout;
use super::user::layout_of;
use super::{Buffer, BufferMut, Collection};
use crate::engine::{RecvSpan, SendSpan};
use crate::ffi::MPI_Datatype;
use crate::model::{Basic, Layout, TypeCode};
use crate::raw::AsRaw;
use std::sync::Arc;

/// What one element of a buffer is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// One basic item, elements side by side: the fast path.
    Basic(Basic),
    User(Arc<Layout>),
}

impl Kind {
    /// The elements of `datatype`. With `element_size`, those of a Rust type of so many bytes: the datatype must lie within it, and elements
    /// are so far apart whatever the datatype's extent says (a hand-made datatype may leave out the last field).
    #[inline]
    #[track_caller]
    pub(crate) fn of<D: AsRaw<Raw = MPI_Datatype>>(
        datatype: &D,
        element_size: Option<usize>,
    ) -> Kind {
        if let Some(basic) = datatype.as_raw().as_basic() {
            if element_size.is_none_or(|size| size == basic.size()) {
                return Kind::Basic(basic);
            }
        }
        Kind::of_user(layout_of(datatype), element_size)
    }

    #[cold]
    #[track_caller]
    fn of_user(layout: Arc<Layout>, element_size: Option<usize>) -> Kind {
        let Some(size) = element_size else {
            return Kind::User(layout);
        };
        for block in layout.blocks() {
            let end = block.disp.checked_add_unsigned(block.len);
            assert!(
                block.disp >= 0 && end.is_some_and(|end| end as usize <= size),
                "the datatype of a type of {size} bytes covers {} bytes at offset {}, which is outside of it; correct its Equivalence",
                block.len,
                block.disp
            );
        }
        if layout.extent() == size as isize {
            return Kind::User(layout);
        }
        Kind::User(Arc::new(Layout::new(
            layout.items().to_vec(),
            layout.lower_bound(),
            size as isize,
        )))
    }

    /// Packed bytes of one element.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        match self {
            Kind::Basic(basic) => basic.size(),
            Kind::User(layout) => layout.size(),
        }
    }

    pub(crate) fn code(&self) -> TypeCode {
        match self {
            Kind::Basic(basic) => TypeCode::of(*basic),
            Kind::User(layout) => layout.code(),
        }
    }

    /// The one basic item that an element consists of: what predefined operators work on.
    pub(crate) fn single(&self) -> Option<Basic> {
        match self {
            Kind::Basic(basic) => Some(*basic),
            Kind::User(layout) => match layout.items() {
                [(_, basic)] => Some(*basic),
                _ => None,
            },
        }
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        match self {
            Kind::Basic(basic) => basic_layout(*basic),
            Kind::User(layout) => layout,
        }
    }

    /// For error texts: "i32", "(bool, f64, u16)".
    pub(crate) fn name(&self) -> String {
        match self {
            Kind::Basic(basic) => basic.name().to_string(),
            Kind::User(layout) => {
                let names: Vec<_> = layout.items().iter().take(8).map(|i| i.1.name()).collect();
                let more = if layout.items().len() > 8 {
                    ", ..."
                } else {
                    ""
                };
                format!("({}{more})", names.join(", "))
            }
        }
    }

    /// `count` elements to send, the first at `ptr`.
    ///
    /// # Safety
    /// The memory is readable and unchanged until the transfer that takes the span is complete.
    #[inline]
    pub(crate) unsafe fn send(&self, ptr: *const u8, count: usize) -> SendSpan {
        match self {
            // SAFETY: by the contract of this function.
            Kind::Basic(basic) => unsafe {
                SendSpan::contiguous(ptr, count * basic.size(), TypeCode::of(*basic))
            },
            // SAFETY: by the contract of this function.
            Kind::User(layout) => unsafe { SendSpan::strided(ptr, count, layout) },
        }
    }

    /// Room for `count` elements, the first at `ptr`.
    ///
    /// # Safety
    /// The memory is writable and nobody else's until the transfer that takes the span is complete.
    #[inline]
    pub(crate) unsafe fn recv(&self, ptr: *mut u8, count: usize) -> RecvSpan {
        match self {
            // SAFETY: by the contract of this function.
            Kind::Basic(basic) => unsafe {
                RecvSpan::contiguous(ptr, count * basic.size(), *basic)
            },
            // SAFETY: by the contract of this function.
            Kind::User(layout) => unsafe { RecvSpan::strided(ptr, count, layout) },
        }
    }
}

/// What the elements of a buffer are.
#[inline]
#[track_caller]
pub(crate) fn kind<B: ?Sized + Collection + super::AsDatatype>(buffer: &B) -> Kind {
    Kind::of(&buffer.as_datatype(), buffer.element_size())
}

/// The whole of `buffer`, to send.
///
/// # Safety
/// `buffer` stays borrowed until the transfer that takes the span is complete.
#[inline]
#[track_caller]
pub(crate) unsafe fn send<B: ?Sized + Buffer>(buffer: &B) -> SendSpan {
    // What may panic comes before the kind, which would have to be dropped then: so that nothing is left of it where it is known.
    let (count, pointer) = (buffer.elements(), buffer.pointer());
    // SAFETY: by the contracts of Buffer and of this function.
    unsafe { kind(buffer).send(pointer.cast(), count) }
}

/// The whole of `buffer`, to receive into.
///
/// # Safety
/// `buffer` stays mutably borrowed until the transfer that takes the span is complete.
#[inline]
#[track_caller]
pub(crate) unsafe fn recv<B: ?Sized + BufferMut>(buffer: &mut B) -> RecvSpan {
    let (count, pointer) = (buffer.elements(), buffer.pointer_mut());
    // SAFETY: by the contracts of BufferMut and of this function.
    unsafe { kind(buffer).recv(pointer.cast(), count) }
}
