//! The shared words and bytes of a lane, as the lane's algorithm sees them: in a segment, or in a loom model.
use crate::job::Segment;
use crate::job::layout::{LANE, LANE_RING, LANE_SLOTS, LONG_SPANS, PAGE, SLOT, SLOT_INLINE};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// 64-bit words of a slot.
pub(super) const SLOT_WORDS: usize = SLOT / 8;
/// The first body word of a slot.
pub(super) const BODY: usize = 4;

/// A shared 64-bit word.
pub(crate) trait Word {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
}

impl Word for AtomicU64 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline(always)]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }
}

/// The words of the credit line. Each counts up for ever and is written by the receiver alone.
#[derive(Clone, Copy)]
pub(crate) enum Credit {
    /// Slots that the receiver has freed.
    Slots = 0,
    /// Byte-ring positions that the receiver has freed.
    Ring = 1,
    /// Eager bytes that the receiver has matched.
    Matched = 2,
}

/// What a lane is made of.
pub(crate) trait LaneMemory {
    type Word: Word;
    /// Slots; a power of two.
    const SLOTS: usize;
    /// Bytes of the byte ring; a power of two and at least twice the longest span.
    const RING: usize;
    /// Bytes of the sender's long ring.
    const LONG: usize;

    /// The words of slot `slot` (below `SLOTS`).
    fn slot(&self, slot: usize) -> &[Self::Word; SLOT_WORDS];

    fn credit(&self, which: Credit) -> &Self::Word;

    /// The body of slot `slot`, as bytes.
    fn body(&self, slot: usize) -> *const u8;

    /// Has `fill` write the `len` bytes of the body of slot `slot`; they fit.
    fn fill_body(&self, slot: usize, len: usize, fill: impl FnOnce(*mut u8));

    /// Has `fill` write the `len` bytes at `at` of the byte ring; `at + len <= RING`.
    fn fill(&self, at: usize, len: usize, fill: impl FnOnce(*mut u8));

    /// The `len` bytes at `at` of the byte ring, for reading.
    fn span(&self, at: usize, len: usize) -> *const u8;

    /// The `len` bytes at `at` of the sender's long ring, for reading; `at + len <= LONG`.
    fn long_span(&self, at: usize, len: usize) -> *const u8;
}

/// A lane in a segment.
pub(crate) struct SegmentLane {
    slots: *const [AtomicU64; SLOT_WORDS],
    ring: *mut u8,
    credit: *const [AtomicU64; 3],
    /// The sender's long ring, which it may not have taken the memory for yet.
    long: *const u8,
    long_at: usize,
    /// It is mapped here.
    has_long: Cell<bool>,
    /// Keeps the mapping, into which the pointers point.
    segment: Arc<Segment>,
}

// SAFETY: the pointers lead into the segment's mapping, which the value keeps alive and which any thread may use.
unsafe impl Send for SegmentLane {}

impl SegmentLane {
    pub(super) fn new(segment: &Arc<Segment>, src: usize, dst: usize) -> SegmentLane {
        let map = segment.layout();
        let lane = map.lane(src, dst);
        SegmentLane {
            slots: segment.at(lane, LANE_SLOTS * SLOT).cast_const().cast(),
            ring: segment.at(lane + LANE_SLOTS * SLOT, LANE_RING),
            credit: segment.at(map.credit(src, dst), 24).cast_const().cast(),
            long: segment.at(map.long_spans(src), LONG_SPANS),
            long_at: map.long_spans(src),
            has_long: Cell::new(false),
            segment: segment.clone(),
        }
    }

    /// Has the system map the lane's pages here now: a prefetch of a page that is not mapped walks the page tables in vain each time.
    pub(super) fn touch(&self) {
        for at in (0..LANE).step_by(PAGE) {
            // SAFETY: the ring follows the slots, and `new` checked both; what is read does not matter.
            unsafe { self.slots.cast::<u8>().add(at).read_volatile() };
        }
    }
}

impl LaneMemory for SegmentLane {
    type Word = AtomicU64;
    const SLOTS: usize = LANE_SLOTS;
    const RING: usize = LANE_RING;
    const LONG: usize = LONG_SPANS;

    #[inline(always)]
    fn slot(&self, slot: usize) -> &[AtomicU64; SLOT_WORDS] {
        debug_assert!(slot < LANE_SLOTS);
        // SAFETY: the callers mask `slot`, so it lies in the range that `new` checked; slots are aligned to their size, and every access to
        // them while they are shared is atomic or a raw copy of a published body.
        unsafe { &*self.slots.add(slot) }
    }

    #[inline(always)]
    fn credit(&self, which: Credit) -> &AtomicU64 {
        // SAFETY: `new` checked the range; the line is 128-byte aligned and accessed atomically only.
        unsafe { &(*self.credit)[which as usize] }
    }

    #[inline(always)]
    fn body(&self, slot: usize) -> *const u8 {
        debug_assert!(slot < LANE_SLOTS);
        // SAFETY: as for `slot`: the body lies in a slot inside the checked range.
        unsafe { self.slots.add(slot).cast::<u8>().add(BODY * 8) }
    }

    #[inline(always)]
    fn fill_body(&self, slot: usize, len: usize, fill: impl FnOnce(*mut u8)) {
        debug_assert!(slot < LANE_SLOTS && len <= SLOT_INLINE);
        fill(self.body(slot).cast_mut());
    }

    #[inline(always)]
    fn fill(&self, at: usize, len: usize, fill: impl FnOnce(*mut u8)) {
        debug_assert!(at + len <= LANE_RING);
        // SAFETY: `span_at` keeps spans inside the ring, whose range `new` checked.
        fill(unsafe { self.ring.add(at) });
    }

    #[inline(always)]
    fn span(&self, at: usize, len: usize) -> *const u8 {
        debug_assert!(at + len <= LANE_RING);
        // SAFETY: as for `fill`.
        unsafe { self.ring.add(at) }
    }

    #[inline]
    fn long_span(&self, at: usize, len: usize) -> *const u8 {
        assert!(at + len <= LONG_SPANS);
        if !self.has_long.replace(true) {
            self.segment
                .map_now(self.long_at..self.long_at + LONG_SPANS);
        }
        // SAFETY: inside the ring by the assertion, whose range `new` checked.
        unsafe { self.long.add(at) }
    }
}

const _: () = assert!(LANE_SLOTS.is_power_of_two() && LANE_RING.is_power_of_two());
