//! A lane: the path of small messages from one rank to one other.
//!
//! A ring of slots, each with its flag, header and up to [`INLINE`] bytes, and a byte ring beside it for middle sizes. One
//! producer, one consumer; cursors are private, and the only thing that goes back is the credit line. README.md has the proof.
use super::copy;
use super::memory::{BODY, Credit, LaneMemory, SegmentLane, Word};
use super::way::Way;
use crate::job::Segment;
use crate::job::layout::{LANE, LANE_RING, LINE, LONG_SPANS, PAGE, SLOT, SLOT_INLINE};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that travel in the slot itself.
pub(crate) const INLINE: usize = SLOT_INLINE;
/// The longest message whose way is the shortest: what counts as many eager bytes as an empty one does.
pub(crate) const SMALL: usize = 64;
const _: () = assert!(SMALL <= INLINE);
/// The longest message of which a receiver takes notice at once; a longer one's lines it asks for first. Also the longest one that is written by words.
const SHORT: usize = 96;
const _: () = assert!(SMALL <= SHORT && SHORT <= INLINE);
/// Of these, those in the line of the header.
const FIRST_LINE: usize = 32;
/// Bytes of a slot's body that the engine's own messages use.
pub(crate) const CONTROL: usize = 32;
const _: () = assert!(CONTROL <= INLINE);
/// The longest message that travels through the byte ring.
pub(crate) const EAGER_MAX: usize = 8 * 1024;
const _: () = assert!(EAGER_MAX <= LANE_RING / 2 && EAGER_MAX <= u16::MAX as usize);
/// The longest message that travels through a rank's long ring. Near, half a round trip of 16 KiB through it and through a staging stream: 1.06 and 1.23 us, a
/// window of 64 both ways at once 0.70 and 0.94 us a message.
pub(crate) const LONG_MAX: usize = 16 * 1024;
const _: () = assert!(LONG_MAX <= LONG_SPANS / 4 && LONG_MAX <= u16::MAX as usize);

/// So many messages ahead of the one that is taken a receiver asks for a slot: one that is behind its sender finds them there (64 messages of 8
/// bytes, near 50.7 to 46.0 ns each, far 104 to 84; 2 to 8 ahead are alike).
const AHEAD: u64 = 4;

/// So many messages ahead a sender of many asks for a slot to write: else its stores, of which a message has thirty, stand behind the one into a line that
/// the receiver has, and two messages fill the store buffer. Not where there is one message at a time: its slot is in the receiver's hands again
/// by the time it is written (64 bytes near: 88 to 104 ns).
const BEHIND: u64 = 8;

/// Spans of the byte ring begin on lines, so that two messages never share one.
pub(super) const SPAN: u64 = 64;

/// In a slot's flags: the payload is in the sender's long ring, and the slot's body says where.
const FLAG_LONG: u8 = 0x80;
/// In a slot's flags: the payload is in the lane's byte ring. With neither it is in the slot. The other flags are the engine's.
const FLAG_RING: u8 = 0x40;

/// The header of a message, as it lies in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotHead {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) context: u32,
    pub(crate) tag: i32,
    pub(crate) site: u32,
    /// The sender's rank in the communicator.
    pub(crate) source: u32,
    pub(crate) code: u64,
}

/// The first word of a slot whose message is there.
#[derive(Clone, Copy)]
pub(crate) struct FirstWord(u64);

/// The message in the slot that a receiver expects next. It stays there until [`LaneRx::consume`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) head: SlotHead,
    /// Bytes at `payload`; at most [`LONG_MAX`].
    pub(crate) len: u16,
    /// The first position of the byte ring after it.
    ring_after: u64,
    /// Inside the segment. Copy it before interpreting it: a faulty sender may still write there.
    pub(crate) payload: *const u8,
    /// How it was written: through the cache in a long ring, or in whichever way.
    pub(crate) way: Way,
}

impl Arrival {
    /// The first [`CONTROL`] bytes of a slot's body; what is above `len` is unspecified. For messages of at most [`INLINE`] bytes.
    #[inline]
    pub(crate) fn body(&self) -> [u8; CONTROL] {
        assert!(self.len as usize <= INLINE);
        // SAFETY: the payload of such a message is a slot's body, which is INLINE bytes of the segment; they are copied before use.
        unsafe { self.payload.cast::<[u8; CONTROL]>().read_unaligned() }
    }

    /// Copies the payload.
    ///
    /// # Safety
    /// `to` is valid for writing `len` bytes, and outside of the segment.
    #[inline(always)]
    pub(crate) unsafe fn copy_to(&self, to: *mut u8) {
        let len = self.len as usize;
        if len == 8 {
            // SAFETY: the caller's promise; `peek` checked that `len` bytes at `payload` are inside the segment.
            unsafe {
                let word = self.payload.cast::<u64>().read_unaligned();
                to.cast::<u64>().write_unaligned(word);
            }
        } else {
            // SAFETY: as above.
            unsafe { copy::from_lane(self.payload, to, len, self.way) }
        }
    }

    /// A copy of the payload.
    pub(crate) fn to_vec(self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        // SAFETY: `peek` checked that `len` bytes at `payload` are inside the segment.
        unsafe { core::ptr::copy_nonoverlapping(self.payload, bytes.as_mut_ptr(), bytes.len()) };
        bytes
    }
}

/// The sending end of a lane in a segment.
pub(crate) type LaneTx = Tx<SegmentLane>;
/// The receiving end of a lane in a segment.
pub(crate) type LaneRx = Rx<SegmentLane>;

/// Slot word 0: sequence (32 bits), length (16), flags (8), kind (8). It is stored last, so it is the slot's flag too.
#[inline(always)]
fn first_word(sequence: u32, len: usize, head: &SlotHead) -> u64 {
    (sequence as u64) << 32 | (len as u64) << 16 | (head.flags as u64) << 8 | head.kind as u64
}

/// The sequence that the slot at `position` of the endless row of slots gets: its lap, from 1, since fresh memory holds 0.
#[inline(always)]
fn sequence<M: LaneMemory>(position: u64) -> u32 {
    (position / M::SLOTS as u64) as u32 + 1
}

/// Where a span of `len` bytes begins and ends if `from` is the first unused position of the byte ring: a span is contiguous, so one
/// that would cross the ring's end begins at its start. Both ends compute this alike, so no position travels.
#[inline(always)]
fn span_at<M: LaneMemory>(from: u64, len: usize) -> (u64, u64) {
    let size = (len as u64).next_multiple_of(SPAN);
    let at = from % M::RING as u64;
    let begin = if at + size > M::RING as u64 {
        from + (M::RING as u64 - at)
    } else {
        from
    };
    (begin, begin + size)
}

/// The sending end.
pub(crate) struct Tx<M> {
    memory: M,
    /// Messages sent; the next one's position.
    next: u64,
    /// Slots known to be free again.
    freed: u64,
    /// The first unused position of the byte ring.
    ring: u64,
    /// Byte-ring positions known to be free again.
    ring_freed: u64,
    matched: u64,
    /// The credit line held something that no receiver writes.
    damaged: bool,
    src: u32,
    dst: u32,
}

impl LaneTx {
    /// Opens the lane from `src` to `dst` (once): takes its memory and lets `dst` know that there is a lane to poll.
    pub(crate) fn open(segment: &Arc<Segment>, src: usize, dst: usize) -> Result<LaneTx> {
        let map = segment.layout();
        segment.reserve(map.lane(src, dst), LANE)?;
        let credit = map.credit(src, dst);
        segment.reserve(credit / PAGE * PAGE, PAGE)?;
        const { assert!(PAGE % LINE == 0) };
        let lane = Tx::new(SegmentLane::new(segment, src, dst), src, dst);
        // Release: pairs with the Acquire of the receiver that then polls the lane.
        segment
            .control()
            .open_lanes(dst, src / 64)
            .fetch_or(1 << (src % 64), Release);
        Ok(lane)
    }
}

impl<M: LaneMemory> Tx<M> {
    pub(super) fn new(memory: M, src: usize, dst: usize) -> Tx<M> {
        Tx {
            memory,
            next: 0,
            freed: 0,
            ring: 0,
            ring_freed: 0,
            matched: 0,
            damaged: false,
            src: src as u32,
            dst: dst as u32,
        }
    }

    /// Sends a message of at most [`INLINE`] bytes. `false`: no slot is free now.
    #[inline]
    pub(crate) fn try_inline(&mut self, head: &SlotHead, body: &[u8]) -> bool {
        // SAFETY: the slice is readable for its length.
        unsafe { self.try_inline_raw(head, body.as_ptr(), body.len()) }
    }

    /// Sends the `len` <= [`INLINE`] bytes at `ptr`. `false`: no slot is free now.
    ///
    /// # Safety
    /// `ptr` is valid for reading `len` bytes.
    #[inline]
    pub(crate) unsafe fn try_inline_raw(
        &mut self,
        head: &SlotHead,
        ptr: *const u8,
        len: usize,
    ) -> bool {
        if !self.has_slot() {
            return false;
        }
        // SAFETY: the caller's promise; a slot is free.
        unsafe { self.push(head, ptr, len) };
        true
    }

    /// Slots that are known to be free.
    #[inline]
    pub(crate) fn free_slots(&self) -> u64 {
        M::SLOTS as u64 - (self.next - self.freed)
    }

    /// Sends the `len` <= [`INLINE`] bytes at `ptr` in a slot that is known to be free.
    ///
    /// # Safety
    /// `ptr` is valid for reading `len` bytes.
    #[inline(always)]
    pub(crate) unsafe fn push(&mut self, head: &SlotHead, ptr: *const u8, len: usize) {
        debug_assert!(len <= INLINE && self.free_slots() > 0);
        if len == 8 {
            // SAFETY: the caller's promise.
            let word = unsafe { ptr.cast::<u64>().read_unaligned() };
            self.memory.slot(self.place())[BODY].store(word, Relaxed);
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.write_body(ptr, len) };
        }
        self.publish_slot(head, len);
    }

    /// Sends a message of `len` <= [`INLINE`] bytes that `fill` writes to the given place. `false`: no slot is free now, and `fill` was not called.
    #[inline]
    pub(crate) fn try_slot(
        &mut self,
        head: &SlotHead,
        len: usize,
        fill: impl FnOnce(*mut u8),
    ) -> bool {
        assert!(len <= INLINE);
        if !self.has_slot() {
            return false;
        }
        self.memory.fill_body(self.place(), len, fill);
        self.publish_slot(head, len);
        true
    }

    /// A message was sent, with `len` bytes of it in its slot, and others follow, mostly as long: asks for the slot of one of them. Where it holds a message that was
    /// not received yet, the lines are this core's own anyway. (The first line alone: 128, 256, 448 bytes in windows, near, 54, 57, 95 ns; all 50, 53, 79.)
    #[inline(always)]
    pub(crate) fn expect_more(&self, len: usize) {
        let behind = (self.next + BEHIND) as usize & (M::SLOTS - 1);
        let body = self.memory.body(behind);
        copy::prefetch_to_write(body);
        for line in (FIRST_LINE..len).step_by(SPAN as usize) {
            copy::prefetch_to_write(body.wrapping_add(line));
        }
    }

    /// A message of `len` bytes was received from the core that this lane leads to: asks for the slot of the next one that goes there, which is likely to be its
    /// answer, and as long. The line is then on its way during all that the ranks do between the two. For meshes alone, where it takes so long that the
    /// polls of the other rank do not get it back before; and for what lies in one line: with a second one to write it is gone again.
    #[inline(always)]
    pub(crate) fn expect_answer(&self, len: usize) {
        if len <= FIRST_LINE {
            copy::prefetch_to_write(self.memory.body(self.place()));
        }
    }

    /// The slot of the next message.
    #[inline(always)]
    fn place(&self) -> usize {
        self.next as usize & (M::SLOTS - 1)
    }

    /// Writes the next message's body of any length. A call, so that the way of 8 bytes stays short.
    ///
    /// # Safety
    /// `ptr` is valid for reading `len` <= [`INLINE`] bytes.
    #[inline(never)]
    unsafe fn write_body(&self, ptr: *const u8, len: usize) {
        if len > SHORT {
            // From the first line on, in which the receiver looks for the message: to get that back takes longest.
            let len = if len <= INLINE { len } else { INLINE };
            // SAFETY: the caller's promise; there is room for `len` bytes.
            let fill = |to| unsafe { core::ptr::copy_nonoverlapping(ptr, to, len) };
            self.memory.fill_body(self.place(), len, fill);
            return;
        }
        let slot = &self.memory.slot(self.place())[BODY..];
        let words = len.div_ceil(8);
        if len <= FIRST_LINE {
            // SAFETY: the caller's promise; `len` is at most 32.
            let body = unsafe { copy::up_to_32(ptr, len) };
            for (place, word) in slot.iter().zip(body).take(words) {
                place.store(word, Relaxed);
            }
            return;
        }
        // The second line first: then the first one is written in one go, and the receiver that polls it takes it away but once.
        for i in (FIRST_LINE / 8..words - 1).chain(0..FIRST_LINE / 8) {
            // SAFETY: the caller's promise; word `i` is not the last, so it lies whole inside `len` bytes.
            let word = unsafe { ptr.cast::<u64>().add(i).read_unaligned() };
            slot[i].store(word, Relaxed);
        }
        // SAFETY: the caller's promise; `len` is above 8.
        let last = unsafe { copy::last_word(ptr, len) };
        slot[words - 1].store(last, Relaxed);
    }

    /// Sends a message of `len` bytes, [`SHORT`] < `len` <= [`EAGER_MAX`], through the byte ring; `fill` writes it to the given place. `false`: no room
    /// now, and `fill` was not called.
    #[inline]
    pub(crate) fn try_ring(
        &mut self,
        head: &SlotHead,
        len: usize,
        fill: impl FnOnce(*mut u8),
    ) -> bool {
        debug_assert!(len > SHORT && len <= EAGER_MAX && 2 * len <= M::RING);
        if !self.has_slot() {
            return false;
        }
        let (begin, end) = span_at::<M>(self.ring, len);
        if end - self.ring_freed > M::RING as u64 {
            self.refresh();
            if end - self.ring_freed > M::RING as u64 {
                return false;
            }
        }
        self.memory
            .fill((begin % M::RING as u64) as usize, len, fill);
        self.ring = end;
        let flags = head.flags | FLAG_RING;
        self.publish_slot(&SlotHead { flags, ..*head }, len);
        true
    }

    /// Sends a message of `len` bytes, [`SHORT`] < `len` <= [`LONG_MAX`], which lies at this position of the rank's long ring; it may lie there until
    /// [`Tx::has_freed`] says so of the position returned. `None`: no slot is free now.
    #[inline]
    pub(crate) fn try_long(&mut self, head: &SlotHead, len: usize, at: u64) -> Option<u64> {
        debug_assert!(len > SHORT && len <= LONG_MAX);
        if !self.has_slot() {
            return None;
        }
        let position = self.next;
        self.memory.slot(self.place())[BODY].store(at, Relaxed);
        let flags = head.flags | FLAG_LONG;
        self.publish_slot(&SlotHead { flags, ..*head }, len);
        Some(position)
    }

    /// Whether the receiver has taken the message at this position out of the lane.
    #[inline]
    pub(crate) fn has_freed(&mut self, position: u64) -> bool {
        if position >= self.freed {
            self.refresh();
        }
        position < self.freed
    }

    /// How long a look at the credit line took, if the receiver has written it since the last look: then it came from the receiver's core.
    #[inline]
    pub(crate) fn time_credit(&mut self) -> Option<Duration> {
        let before = (self.freed, self.ring_freed);
        let began = Instant::now();
        self.refresh();
        let time = began.elapsed();
        (before != (self.freed, self.ring_freed)).then_some(time)
    }

    /// How many eager bytes the receiver says it has matched. Never goes back.
    #[inline]
    pub(crate) fn matched_bytes(&mut self) -> u64 {
        // The whole line has come: whoever times the next look at it must not take this one's.
        self.refresh();
        // Acquire: pairs with the Release in `Rx::publish`.
        let matched = self.memory.credit(Credit::Matched).load(Acquire);
        self.matched = self.matched.max(matched);
        self.matched
    }

    /// Whether the credit line has been damaged. Ask after a `false`: the lane then stays full for ever.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.damaged {
            return Ok(());
        }
        Err(corrupt(
            self.src,
            self.dst,
            "its credit line grants more than was ever sent",
        ))
    }

    /// Whether a slot is free now.
    #[inline(always)]
    pub(crate) fn has_slot(&mut self) -> bool {
        if self.next - self.freed < M::SLOTS as u64 {
            return true;
        }
        self.refresh();
        self.next - self.freed < M::SLOTS as u64
    }

    /// Reads the credit line. What cannot be true is not believed: credit lies between what was known and what was sent.
    #[cold]
    fn refresh(&mut self) {
        // Acquire: pairs with the Release in `Rx::publish`; the receiver's reads of what it freed come before our next writes there.
        let slots = self.memory.credit(Credit::Slots).load(Acquire);
        let ring = self.memory.credit(Credit::Ring).load(Acquire);
        if slots.wrapping_sub(self.freed) > self.next - self.freed
            || ring.wrapping_sub(self.ring_freed) > self.ring - self.ring_freed
        {
            self.damaged = true;
            return;
        }
        self.freed = slots;
        self.ring_freed = ring;
    }

    /// Writes the header, the word with the flag last.
    #[inline(always)]
    fn publish_slot(&mut self, head: &SlotHead, len: usize) {
        let pair = |low: u32, high: u32| low as u64 | (high as u64) << 32;
        let first = first_word(sequence::<M>(self.next), len, head);
        let slot = self.memory.slot(self.place());
        slot[1].store(pair(head.context, head.tag as u32), Relaxed);
        slot[2].store(pair(head.site, head.source), Relaxed);
        slot[3].store(head.code, Relaxed);
        // Release: pairs with the Acquire in `Rx::peek`; header, body and ring span are written before.
        slot[0].store(first, Release);
        self.next += 1;
    }
}

/// The receiving end.
pub(crate) struct Rx<M> {
    memory: M,
    /// Messages consumed; the expected one's position.
    next: u64,
    /// The first position of the byte ring after the spans consumed.
    ring: u64,
    matched: u64,
    /// The values in the credit line.
    published: u64,
    ring_published: u64,
    matched_published: u64,
    src: u32,
    dst: u32,
}

impl LaneRx {
    /// The receiving end of the lane from `src` to `dst`. It touches nothing yet: the lane has memory once `src` has opened it, and a look
    /// before that would take some for a pair that may never talk.
    pub(crate) fn new(segment: &Arc<Segment>, src: usize, dst: usize) -> LaneRx {
        Rx::over(SegmentLane::new(segment, src, dst), src, dst)
    }

    /// The lane has been opened (its bit in `Control::open_lanes`, Acquire), and will be polled from now on.
    pub(crate) fn opened(&self) {
        self.memory.touch();
    }
}

impl<M: LaneMemory> Rx<M> {
    pub(super) fn over(memory: M, src: usize, dst: usize) -> Rx<M> {
        Rx {
            memory,
            next: 0,
            ring: 0,
            matched: 0,
            published: 0,
            ring_published: 0,
            matched_published: 0,
            src: src as u32,
            dst: dst as u32,
        }
    }

    /// The slot of the next message.
    #[inline(always)]
    fn place(&self) -> usize {
        self.next as usize & (M::SLOTS - 1)
    }

    /// The first word of the next message, if it is there. Looks at one line.
    #[inline(always)]
    pub(crate) fn first(&self) -> Option<FirstWord> {
        // Acquire: pairs with the Release in `Tx::publish_slot`.
        let first = self.memory.slot(self.place())[0].load(Acquire);
        ((first >> 32) as u32 == sequence::<M>(self.next)).then_some(FirstWord(first))
    }

    /// The message whose first word was seen, if it is [`SHORT`]. What is longer is for [`Rx::peek`].
    #[inline(always)]
    pub(crate) fn short(&self, FirstWord(first): FirstWord) -> Option<Arrival> {
        let len = (first >> 16) as u16;
        (len as usize <= SHORT).then(|| Arrival {
            head: self.head(first),
            len,
            ring_after: self.ring,
            payload: self.memory.body(self.place()),
            way: Way::Around,
        })
    }

    #[inline(always)]
    fn head(&self, first: u64) -> SlotHead {
        let slot = self.memory.slot(self.place());
        let second = slot[1].load(Relaxed);
        let third = slot[2].load(Relaxed);
        SlotHead {
            kind: first as u8,
            flags: (first >> 8) as u8,
            context: second as u32,
            tag: (second >> 32) as i32,
            site: third as u32,
            source: (third >> 32) as u32,
            code: slot[3].load(Relaxed),
        }
    }

    /// While the next message is not there. Should it come through the ring, its first line is then on its way together with the slot's
    /// (measured for one line of it: 74 ns instead of 96).
    #[inline(always)]
    pub(crate) fn prefetch_span(&self) {
        copy::prefetch(self.memory.span((self.ring % M::RING as u64) as usize, 0));
    }

    /// The next message, if it is there and nothing is wrong with it. A call, so that the way of short ones stays short.
    #[inline(never)]
    pub(crate) fn longer(&self) -> Option<Arrival> {
        self.peek().ok()?
    }

    /// The next message, if it is there. Looks at one line.
    #[inline]
    pub(crate) fn peek(&self) -> Result<Option<Arrival>> {
        let expected = sequence::<M>(self.next);
        // Acquire: pairs with the Release in `Tx::publish_slot`.
        let first = self.memory.slot(self.place())[0].load(Acquire);
        let found = (first >> 32) as u32;
        if found != expected {
            if found == expected.wrapping_sub(1) {
                self.prefetch_span();
                return Ok(None);
            }
            return Err(self.strange("a slot's sequence number"));
        }
        let len = (first >> 16) as u16;
        let flags = (first >> 8) as u8;
        let most = match flags & FLAG_LONG != 0 {
            true => LONG_MAX,
            false => EAGER_MAX.min(M::RING / 2),
        };
        // What is short lies in its slot.
        if len as usize > most || flags & (FLAG_LONG | FLAG_RING) != 0 && len as usize <= SHORT {
            return Err(self.strange("a message's length"));
        }
        let mut way = Way::Around;
        let (ring_after, payload) = if flags & (FLAG_LONG | FLAG_RING) == 0 {
            if len as usize > INLINE {
                return Err(self.strange("a message's length"));
            }
            let body = self.memory.body(self.place());
            // All at once: copying asks for them one after the other (512 bytes near 116 to 78 ns, half a round trip of two bare loops).
            for line in (FIRST_LINE..len as usize).step_by(SPAN as usize) {
                copy::prefetch(body.wrapping_add(line));
            }
            (self.ring, body)
        } else if flags & FLAG_LONG != 0 {
            let at = self.memory.slot(self.place())[BODY].load(Relaxed);
            let at = (at % M::LONG as u64) as usize;
            if at % SPAN as usize != 0 || at + len as usize > M::LONG {
                return Err(self.strange("a message's place"));
            }
            way = Way::Through;
            (self.ring, self.memory.long_span(at, len as usize))
        } else {
            let (begin, end) = span_at::<M>(self.ring, len as usize);
            let at = (begin % M::RING as u64) as usize;
            (end, self.memory.span(at, len as usize))
        };
        let mut head = self.head(first);
        head.flags &= !(FLAG_LONG | FLAG_RING);
        Ok(Some(Arrival {
            head,
            len,
            ring_after,
            payload,
            way,
        }))
    }

    /// Frees the slot and the span of the next message, which was looked at, and counts `matched` eager bytes. Tells whether the sender can
    /// see it now.
    #[inline(always)]
    pub(crate) fn consume(&mut self, arrival: &Arrival, matched: u64) -> bool {
        // Behind the last slot lies the ring: a few useless ones each lap cost less than finding the right ones.
        let body = self.memory.body(self.place());
        copy::prefetch(body.wrapping_add((AHEAD as usize + 1) * SLOT));
        self.next += 1;
        self.matched += matched;
        // A quarter: the line travels four times a lap, and a sender that finds three quarters used has not stalled yet. What is matched
        // as it is consumed uses up slots or ring at least as fast as credit, unless it lay in the long ring.
        let mut due = self.next - self.published >= M::SLOTS as u64 / 4;
        // What is short lies in its slot.
        if arrival.len as usize > SHORT {
            self.ring = arrival.ring_after;
            due |= self.ring - self.ring_published >= M::RING as u64 / 4
                || arrival.way == Way::Through && self.owes_matched();
        }
        if due {
            self.publish();
        }
        due
    }

    /// Whether the sender should hear of what was matched.
    #[inline]
    fn owes_matched(&self) -> bool {
        self.matched - self.matched_published >= M::RING as u64 / 4
    }

    /// Counts eager bytes whose message has been matched. Tells whether the sender was told credit for which it may sleep.
    #[inline]
    pub(crate) fn add_matched(&mut self, bytes: u64) -> bool {
        self.matched += bytes;
        self.owes_matched() && self.publish()
    }

    /// Tells the sender all credit now: before sleeping, or when a sender may be starving. Writes nothing if it knows already; tells whether
    /// it wrote.
    #[inline(never)]
    pub(crate) fn publish(&mut self) -> bool {
        let mut any = false;
        // Release: pairs with the Acquire in `Tx::refresh` and `Tx::matched_bytes`; our reads of the freed places come before.
        if self.next != self.published {
            self.memory.credit(Credit::Slots).store(self.next, Release);
            self.published = self.next;
            any = true;
        }
        if self.ring != self.ring_published {
            self.memory.credit(Credit::Ring).store(self.ring, Release);
            self.ring_published = self.ring;
            any = true;
        }
        if self.matched != self.matched_published {
            self.memory
                .credit(Credit::Matched)
                .store(self.matched, Release);
            self.matched_published = self.matched;
            any = true;
        }
        any
    }

    #[cold]
    fn strange(&self, what: &str) -> Error {
        corrupt(
            self.src,
            self.dst,
            &format!("{what} cannot be (message {})", self.next),
        )
    }
}

#[cold]
fn corrupt(src: u32, dst: u32, what: &str) -> Error {
    Error::new(
        ErrorClass::Corrupt,
        format!(
            "the lane from rank {src} to rank {dst} is damaged: {what}; some rank of this host wrote where it must not (look for out-of-bounds \
             writes in unsafe code)"
        ),
    )
}
