//! The shared words and bytes of a communicator's cells: where they are, and raw copies to and from them. What they mean and who may
//! write when is coll's; the protocol and its proof are in coll/README.md.
use super::copy;
use super::way::Way;
use crate::job::Segment;
use crate::job::layout::{CELL_AREA, CELL_BLOCKS, LONG_CELL_BLOCKS, LONG_CELLS, PAGE};
use crate::model::error::Result;
use crate::sys::cpu;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

/// Lines of a member: so many rounds can a member be ahead of the slowest, at most.
pub(crate) const LINES: u64 = 16;
/// Payload words of a line.
pub(crate) const LINE_WORDS: usize = 5;
/// Payload bytes of a line.
pub(crate) const INLINE: usize = 8 * LINE_WORDS;
/// Buffers of a member, taken in turn by the rounds.
pub(crate) const SLOTS: u64 = 8;
/// Bytes of a buffer.
pub(crate) const SLOT: usize = (CELL_AREA - PAGE) / SLOTS as usize;
/// Calls that a member's history remembers.
pub(crate) const HISTORY: u64 = 16;

/// What a member says in one round: one cache line, written by it alone, `round` last. It has the line beside it for its own, for
/// prefetchers fetch both (two members that write and poll at the same time: 53 ns a round instead of 62).
#[repr(C, align(128))]
pub(crate) struct Line {
    pub(crate) round: AtomicU64,
    /// Of the call that the round belongs to.
    pub(crate) signature: AtomicU64,
    /// Of the call before it.
    pub(crate) previous: AtomicU64,
    pub(crate) words: [AtomicU64; LINE_WORDS],
}

/// A call that a member has begun, in whatever form. `sequence` is 0 while the rest changes.
#[repr(C)]
pub(crate) struct Entry {
    pub(crate) sequence: AtomicU64,
    pub(crate) signature: AtomicU64,
    pub(crate) site: AtomicU64,
    _pad: u64,
}

/// Words that tell whose heaps a member has mapped.
const MAPPED: usize = 16;

/// A line, and the one beside it for the prefetchers.
#[repr(C, align(128))]
struct Mapped([AtomicU64; MAPPED]);

/// A member's control page. Only the member writes it.
#[repr(C)]
struct ControlPage {
    lines: [Line; LINES as usize],
    history: [Entry; HISTORY as usize],
    /// The last round that the member announced: what others read to know which of their buffers are free. On lines of its own.
    progress: AtomicU64,
    /// A bit for each member whose heap this one has mapped: that one may contribute in place. Members beyond have none.
    mapped: Mapped,
}

const _: () = assert!(
    size_of::<Line>() == 128
        && size_of::<ControlPage>() <= PAGE
        && offset_of!(ControlPage, progress) % 128 == 0
        && SLOT % 64 == 0
);

/// Offset of the reference count in a block's header page.
const REFERENCES: usize = 0;
/// The world's block: never free, never given back.
const WORLD: usize = 0;

/// The cells of one communicator, as one of its members sees them.
pub(crate) struct Cells {
    segment: Arc<Segment>,
    block: usize,
    member: usize,
    members: usize,
    /// The control pages of all members, side by side.
    pages: *const ControlPage,
    /// Where they begin in the segment.
    pages_at: usize,
    /// The buffers of all members, side by side.
    buffers: *mut u8,
    /// Their long areas, side by side, in blocks that have such.
    long: Option<*mut u8>,
}

// SAFETY: the pointers lead into the segment's mapping, which the value keeps alive; pages are accessed atomically, buffers by raw copies.
unsafe impl Send for Cells {}
// SAFETY: as above.
unsafe impl Sync for Cells {}

impl Cells {
    /// The cells of the world that the job began with, as `member` of `members` sees them.
    pub(crate) fn world(segment: &Arc<Segment>, member: usize, members: usize) -> Result<Cells> {
        let start = segment.layout().cell_block(WORLD);
        // Every rank does this, since none knows whether another did: what is there already stays.
        segment.reserve(start, PAGE * (1 + members))?;
        Ok(Cells::attach(segment, WORLD, member, members))
    }

    /// Gives back a block that was taken for a communicator that did not come about.
    pub(crate) fn give_back(segment: &Segment, block: usize) {
        // Release: pairs with the Acquire in `take`.
        segment
            .control()
            .cell_bitmap()
            .fetch_and(!(1 << block), Ordering::Release);
    }

    /// Takes a free block for a communicator of `members` and makes it ready; `None` if all are taken.
    pub(crate) fn take(segment: &Segment, members: usize) -> Result<Option<usize>> {
        let bitmap = segment.control().cell_bitmap();
        let mut seen = bitmap.load(Ordering::Relaxed);
        let block = loop {
            let block = (!(seen | 1 << WORLD)).trailing_zeros() as usize;
            if block >= CELL_BLOCKS {
                return Ok(None);
            }
            // Acquire: pairs with the Release in `drop`; the last user of the block is done with it.
            match bitmap.compare_exchange_weak(
                seen,
                seen | 1 << block,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => break block,
                Err(now) => seen = now,
            }
        };
        let start = segment.layout().cell_block(block);
        let bytes = PAGE * (1 + members);
        segment.reserve(start, bytes)?;
        // SAFETY: `at` checks the bounds; the block belongs to this caller until it tells others, so nobody else looks.
        unsafe { segment.at(start, bytes).write_bytes(0, bytes) };
        segment
            .u32(start + REFERENCES)
            .store(members as u32, Ordering::Relaxed);
        Ok(Some(block))
    }

    /// Block `block`, as `member` of `members` sees it. Whoever took the block has told the number, after it was ready.
    pub(crate) fn attach(
        segment: &Arc<Segment>,
        block: usize,
        member: usize,
        members: usize,
    ) -> Cells {
        let map = segment.layout();
        let pages_at = map.cell_control(block, 0);
        let pages = segment.at(pages_at, members * PAGE);
        let buffers = segment.at(map.cell_buffers(block, 0), members * (CELL_AREA - PAGE));
        let long = (block < LONG_CELL_BLOCKS)
            .then(|| segment.at(map.long_cells(block, 0), members * LONG_CELLS));
        Cells {
            segment: segment.clone(),
            block,
            member,
            members,
            pages: pages.cast_const().cast(),
            pages_at,
            buffers,
            long,
        }
    }

    /// Takes memory for this member's buffers; before it first writes to one.
    pub(crate) fn reserve_buffers(&self) -> Result<()> {
        let start = self.segment.layout().cell_buffers(self.block, self.member);
        self.segment.reserve_mapped(start, CELL_AREA - PAGE)
    }

    /// Takes memory for this member's long area, once. `false`: there is none, or none to be had.
    pub(crate) fn reserve_long(&self) -> bool {
        self.long.is_some() && {
            let start = self.segment.layout().long_cells(self.block, self.member);
            self.segment.reserve_mapped(start, LONG_CELLS).is_ok()
        }
    }

    #[inline]
    fn page_at(&self, member: usize) -> usize {
        self.pages_at + member * PAGE
    }

    #[inline]
    fn page(&self, member: usize) -> &ControlPage {
        assert!(member < self.members);
        // SAFETY: one of the pages whose range `attach` checked, page-aligned; the mapping lives as long as `self`; the page consists of
        // atomics and padding, valid for every bit pattern, and everybody accesses it atomically.
        unsafe { &*self.pages.byte_add(member * PAGE) }
    }

    /// The line in which `member` announces `round`.
    #[inline]
    pub(crate) fn line(&self, member: usize, round: u64) -> &Line {
        &self.page(member).lines[(round % LINES) as usize]
    }

    /// Asks for the line in which `member` announces `round`.
    #[inline]
    pub(crate) fn prefetch_line(&self, member: usize, round: u64) {
        copy::prefetch(core::ptr::from_ref(self.line(member, round)).cast());
    }

    /// Asks for this member's line of a round that it will announce soon without waiting for anybody: stores wait in order for a line that
    /// others have read, and what a call stores in between fills the store buffer.
    #[inline(always)]
    pub(crate) fn prefetch_own(&self, round: u64) {
        let line = core::ptr::from_ref(self.line(self.member, round));
        copy::prefetch_to_write(line.cast());
    }

    /// Where the round word of that line is in the segment.
    #[inline]
    pub(crate) fn line_at(&self, member: usize, round: u64) -> usize {
        self.page_at(member)
            + offset_of!(ControlPage, lines)
            + (round % LINES) as usize * size_of::<Line>()
    }

    #[inline]
    pub(crate) fn progress(&self, member: usize) -> &AtomicU64 {
        &self.page(member).progress
    }

    /// Where the progress word is in the segment.
    #[inline]
    pub(crate) fn progress_at(&self, member: usize) -> usize {
        self.page_at(member) + offset_of!(ControlPage, progress)
    }

    /// Whether `member` can read in `owner`'s heap, as it has said.
    #[inline]
    pub(crate) fn has_mapped(&self, member: usize, owner: usize) -> bool {
        let word = self.page(member).mapped.0.get(owner / 64);
        // Nothing comes with it: the mapping is the reader's own matter.
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (owner % 64) & 1 == 1)
    }

    /// Says that this member can read in `owner`'s heap.
    pub(crate) fn say_mapped(&self, owner: usize) {
        if let Some(word) = self.page(self.member).mapped.0.get(owner / 64) {
            word.fetch_or(1 << (owner % 64), Ordering::Relaxed);
        }
    }

    /// `len` bytes at `at` of the heap of the rank with index `local`, which are only read; `None` where there are none or they cannot be mapped.
    pub(crate) fn in_heap(&self, local: usize, at: usize, len: usize) -> Option<Window<'_>> {
        if !self.segment.heaps_hold(at as u64, len as u64) {
            return None;
        }
        let ptr = self.segment.in_heap(local, at, len)?.cast_mut();
        Some(Window {
            ptr,
            len,
            // Its owner may have written it just now.
            way: if cpu::is_mesh() {
                Way::Upwards
            } else {
                Way::Through
            },
            _segment: PhantomData,
        })
    }

    /// Where `member` notes its call number `sequence`.
    #[inline]
    pub(crate) fn entry(&self, member: usize, sequence: u64) -> &Entry {
        &self.page(member).history[(sequence % HISTORY) as usize]
    }

    /// The buffers of `member` for `rounds` rounds from `round` on, which lie side by side.
    #[inline]
    pub(crate) fn slots(&self, member: usize, round: u64, rounds: u64) -> Window<'_> {
        let first = round % SLOTS;
        assert!(member < self.members && first + rounds <= SLOTS);
        let at = member * (CELL_AREA - PAGE) + first as usize * SLOT;
        Window {
            // SAFETY: inside the buffers whose range `attach` checked, by the assertion.
            ptr: unsafe { self.buffers.add(at) },
            len: rounds as usize * SLOT,
            way: Way::Around,
            _segment: PhantomData,
        }
    }

    /// `len` bytes of the long area of `member` from `at` on; `None` where that cannot be.
    #[inline]
    pub(crate) fn long_slots(&self, member: usize, at: usize, len: usize) -> Option<Window<'_>> {
        assert!(member < self.members);
        let long = self.long?;
        (at <= LONG_CELLS && len <= LONG_CELLS - at).then(|| Window {
            // SAFETY: inside the member's long area, whose range `attach` checked.
            ptr: unsafe { long.add(member * LONG_CELLS + at) },
            len,
            way: Way::Around,
            _segment: PhantomData,
        })
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        if self.block == WORLD {
            return;
        }
        let references: &AtomicU32 = self
            .segment
            .u32(self.segment.layout().cell_block(self.block) + REFERENCES);
        // AcqRel: the last one comes after everything that the others did here.
        if references.fetch_sub(1, Ordering::AcqRel) == 1 {
            Cells::give_back(&self.segment, self.block);
        }
    }
}

/// A range of shared memory. It is copied to and from, never borrowed: others may write it, if they break the protocol at any time.
#[derive(Clone, Copy)]
pub(crate) struct Window<'s> {
    ptr: *mut u8,
    len: usize,
    /// How long copies into it are made, or were by whoever wrote it.
    way: Way,
    _segment: PhantomData<&'s Segment>,
}

impl<'s> Window<'s> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first byte; valid for [`Window::len`] bytes of raw copies.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }

    #[inline]
    pub(crate) fn way(&self) -> Way {
        self.way
    }

    /// The same, to be written by `way`.
    #[inline]
    pub(crate) fn by(self, way: Way) -> Window<'s> {
        Window { way, ..self }
    }

    /// The part `at..at + len`.
    #[inline]
    pub(crate) fn part(&self, at: usize, len: usize) -> Window<'s> {
        assert!(at <= self.len && len <= self.len - at);
        Window {
            // SAFETY: in bounds by the assertion.
            ptr: unsafe { self.ptr.add(at) },
            len,
            ..*self
        }
    }

    /// Copies the first bytes out, as many as `out` has.
    #[inline]
    pub(crate) fn read(&self, out: &mut [u8]) {
        assert!(out.len() <= self.len);
        // SAFETY: the window lies in the segment's mapping, which a slice of this process's own memory does not overlap. Who may write it
        // when is the protocol of coll/README.md; the bytes are of no value to the program before they are copied.
        unsafe { copy::from_ring(self.ptr, out.as_mut_ptr(), out.len(), self.way) }
    }

    /// All whole items of `N` bytes, each read once.
    #[inline(always)]
    pub(crate) fn items<const N: usize>(&self) -> impl Iterator<Item = [u8; N]> + use<N> {
        let ptr = self.ptr.cast_const();
        // SAFETY: in bounds of the window; else as for `read`. An array of bytes may lie anywhere.
        (0..self.len / N).map(move |i| unsafe { ptr.add(i * N).cast::<[u8; N]>().read() })
    }

    /// Copies `bytes` to the start.
    #[inline]
    pub(crate) fn write(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.len);
        // SAFETY: as for `read`; by the protocol this member is the only one that uses the range now.
        unsafe { copy::to_ring(bytes.as_ptr(), self.ptr, bytes.len(), self.way) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_taken_once_and_come_back() {
        let segment = Arc::new(Segment::private(3).unwrap());
        let mut held = Vec::new();
        while let Some(block) = Cells::take(&segment, 2).unwrap() {
            held.push([
                Cells::attach(&segment, block, 0, 2),
                Cells::attach(&segment, block, 1, 2),
            ]);
        }
        assert_eq!(held.len(), CELL_BLOCKS - 1);
        let [a, b] = held.swap_remove(7);
        a.line(0, 5).round.store(5, Ordering::Relaxed);
        drop(a);
        assert_eq!(Cells::take(&segment, 2).unwrap(), None);
        drop(b);
        let again = Cells::take(&segment, 1).unwrap().unwrap();
        let cells = Cells::attach(&segment, again, 0, 1);
        assert_eq!(cells.line(0, 5).round.load(Ordering::Relaxed), 0);
        assert_eq!(cells.line_at(0, 5) % 64, 0);
    }
}
