//! The long ring of a rank: where its messages of middle size to near cores lie. README.md says why it is long, and why it may be written again.
use super::copy;
use crate::job::Segment;
use crate::job::layout::LONG_SPANS;
use crate::model::error::Result;
use std::collections::VecDeque;
use std::sync::Arc;

const SIZE: u64 = LONG_SPANS as u64;
/// Spans begin on lines.
const LINE: u64 = super::lane::SPAN;

/// A message that lies in the ring.
struct Lent {
    to: usize,
    /// Its position in the lane to `to`: when the receiver has freed that slot, it has copied the message.
    position: u64,
    end: u64,
}

/// One rank's long ring; only that rank writes it. Positions count up for ever.
pub(crate) struct LongSpans {
    ring: *mut u8,
    head: u64,
    /// Everything before is free.
    tail: u64,
    lent: VecDeque<Lent>,
    /// Keeps the mapping, into which the pointer points.
    _segment: Arc<Segment>,
}

// SAFETY: the pointer leads into the segment's mapping, which the value keeps alive and which any thread may use.
unsafe impl Send for LongSpans {}

/// Room for a message: where it is, and what the receiver must be told.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub(crate) ptr: *mut u8,
    pub(crate) at: u64,
}

impl LongSpans {
    /// Opens the ring of the rank with this index (once) and takes its memory.
    pub(crate) fn open(segment: &Arc<Segment>, local: usize) -> Result<LongSpans> {
        let at = segment.layout().long_spans(local);
        segment.reserve_mapped(at, LONG_SPANS)?;
        Ok(LongSpans {
            ring: segment.at(at, LONG_SPANS),
            head: 0,
            tail: 0,
            lent: VecDeque::new(),
            _segment: segment.clone(),
        })
    }

    /// Room for `len` bytes, on a line and in one piece. It is nobody's until it is lent. `freed` tells whether the receiver has taken the
    /// message at this position out of its lane; `None`: not so much is free now.
    #[inline]
    pub(crate) fn room(
        &mut self,
        len: usize,
        mut freed: impl FnMut(usize, u64) -> bool,
    ) -> Option<Room> {
        let size = (len as u64).next_multiple_of(LINE);
        let place = self.head % SIZE;
        let at = if place + size > SIZE {
            self.head + (SIZE - place)
        } else {
            self.head
        };
        while at + size > self.tail + SIZE {
            let first = self.lent.front()?;
            if !freed(first.to, first.position) {
                return None;
            }
            self.tail = first.end;
            self.lent.pop_front();
        }
        // SAFETY: `size` bytes from there on lie inside the ring, whose range `open` checked.
        let ptr = unsafe { self.ring.add((at % SIZE) as usize) };
        Some(Room { ptr, at })
    }

    /// The room has become a message of `len` bytes, at this position of the lane to `to`.
    #[inline]
    pub(crate) fn lend(&mut self, room: Room, len: usize, to: usize, position: u64) {
        self.head = room.at + (len as u64).next_multiple_of(LINE);
        self.lent.push_back(Lent {
            to,
            position,
            end: self.head,
        });
        // The next one is mostly as long, and begins where `room` would put it.
        let place = match self.head % SIZE {
            place if place + len as u64 <= SIZE => place as usize,
            _ => 0,
        };
        copy::claim_ahead(self.ring.wrapping_add(place), len);
    }
}
