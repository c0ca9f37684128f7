//! A staging stream: a ring through which large messages are copied in and out, both cores working at once.
//!
//! Positions count up for the life of the stream and are never reset, so a message's start (in its RTS) is all that its receiver needs to
//! know. README.md has the protocol.
use super::copy;
use super::way::Way;
use crate::job::Segment;
use crate::job::layout::{FIRST_RING, LINE, OTHER_RING, PAGE, STREAM_TAILS, STREAMS};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of the first stream's ring at first: enough for stores around the cache, which are as fast in 256 KiB as in more (1 MiB far: 45
/// us in both).
const SHORT_RING: usize = 256 * 1024;
/// Its bytes once a near receiver takes many large messages. Stores through the cache need a ring whose lines have left both private caches
/// (1 MiB each on Zen 4) before they are written again. Near, half a round trip by rings of 256 KiB, 1, 1.5, 2 and 4 MiB: 64 KiB takes 7.9, 4.3,
/// 2.5, 2.3 and 2.3 us, 1 MiB 104, 35, 33, 34 and 35; in a stream, 64 KiB by 256 KiB, 1 and 2 MiB: 7.7, 5.1 and 1.7 us.
pub(crate) const LONG_RING: usize = FIRST_RING;
/// Bytes of a ring that may be under way at one time. Less than a long one has: what a sender writes again shall have been read long ago.
const WINDOW: u64 = 512 * 1024;
const _: () = assert!(SHORT_RING < LONG_RING && SHORT_RING % PAGE == 0);

/// Bytes after which the sender of a message of `len` bytes publishes, so that the receiver copies one chunk while the sender fills the
/// next. Measured on Zen 4: smaller ones pay more hand-overs than they overlap, larger ones overlap too little (64 KiB near: 5.3 us by 8
/// KiB, 5.5 by 16; 512 KiB, 1 MiB and windows of 1 MiB by 32 instead of 16 KiB 0.98, 0.97 and 0.97 of the time).
pub(crate) const fn chunk(len: usize) -> usize {
    if len >= 512 * 1024 {
        32 * 1024
    } else if len >= 256 * 1024 {
        16 * 1024
    } else if len >= 16 * 1024 {
        8 * 1024
    } else {
        4 * 1024
    }
}

/// Where a message travels: what its receiver must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passage {
    /// Which of the sender's streams.
    pub(crate) stream: usize,
    /// Which of its tails is the receiver's.
    pub(crate) tail: usize,
    /// Whether the stream's ring has grown.
    pub(crate) long: bool,
    /// Whether its lines are mostly in the sender's cache: how they are read best.
    pub(crate) through: bool,
    /// The position of the first byte.
    pub(crate) start: u64,
}

impl Passage {
    /// All but the start, in 32 bits.
    pub(crate) fn place(&self) -> u32 {
        let flags = (self.long as u32) << 16 | (self.through as u32) << 17;
        self.stream as u32 | (self.tail as u32) << 8 | flags
    }

    /// The passage that a sender tells; `None` if there can be no such.
    pub(crate) fn of(place: u32, start: u64) -> Option<Passage> {
        let passage = Passage {
            stream: (place & 0xff) as usize,
            tail: (place >> 8 & 0xff) as usize,
            long: place >> 16 & 1 == 1,
            through: place >> 17 & 1 == 1,
            start,
        };
        let is_there = passage.stream < STREAMS
            && passage.tail < STREAM_TAILS
            && place >> 18 == 0
            && (passage.stream == 0 || place >> 16 == 0);
        is_there.then_some(passage)
    }

    fn ring(&self) -> usize {
        match (self.stream, self.long) {
            (0, false) => SHORT_RING,
            (0, true) => LONG_RING,
            _ => OTHER_RING,
        }
    }
}

/// What both ends see.
struct Shared {
    /// Bytes that the sender has published.
    head: *const AtomicU64,
    /// Bytes that the receivers have consumed: one word for each message under way.
    tails: *const AtomicU64,
    ring: *mut u8,
    size: u64,
    _segment: Arc<Segment>,
}

// SAFETY: the pointers lead into the segment's mapping, which the value keeps alive and which any thread may use.
unsafe impl Send for Shared {}

impl Shared {
    fn new(segment: &Arc<Segment>, rank: usize, k: usize, size: usize) -> Shared {
        const { assert!(LINE * (1 + STREAM_TAILS) <= PAGE) };
        let at = segment.layout().stream(rank, k);
        Shared {
            head: segment.u64(at),
            tails: segment.at(at + LINE, LINE * STREAM_TAILS).cast(),
            ring: segment.at(at + PAGE, size),
            size: size as u64,
            _segment: segment.clone(),
        }
    }

    #[inline]
    fn head(&self) -> &AtomicU64 {
        // SAFETY: made from a reference into the mapping that `_segment` keeps alive.
        unsafe { &*self.head }
    }

    #[inline]
    fn tail(&self, k: usize) -> &AtomicU64 {
        assert!(k < STREAM_TAILS);
        // SAFETY: one of the words whose range `new` checked, each on lines of its own; everybody accesses them atomically, and the mapping lives.
        unsafe { &*self.tails.byte_add(k * LINE) }
    }

    /// The place of `position`, and how many bytes follow it until the ring's end.
    #[inline]
    fn place(&self, position: u64) -> (*mut u8, usize) {
        let at = (position % self.size) as usize;
        // SAFETY: `at` lies inside the ring, whose range `new` checked.
        (unsafe { self.ring.add(at) }, self.size as usize - at)
    }
}

/// A message that is in the ring, or was when last looked at.
struct Underway {
    tail: usize,
    to: usize,
    /// Its receiver is known to be taking it, so that its room comes back whatever else happens.
    matched: bool,
    begin: u64,
    /// `None` while it is being written.
    end: Option<u64>,
}

/// The sending end of one of the rank's own streams.
pub(crate) struct StreamTx {
    shared: Shared,
    segment: Arc<Segment>,
    rank: usize,
    k: usize,
    long: bool,
    head: u64,
    /// Everything before has been consumed.
    tail: u64,
    /// In the order of their positions.
    underway: VecDeque<Underway>,
    messages: usize,
    damaged: bool,
}

impl StreamTx {
    /// Opens stream `k` of `rank` (once) and takes its memory.
    pub(crate) fn open(segment: &Arc<Segment>, rank: usize, k: usize) -> Result<StreamTx> {
        let ring = if k == 0 { SHORT_RING } else { OTHER_RING };
        segment.reserve_mapped(segment.layout().stream(rank, k), PAGE + ring)?;
        Ok(StreamTx {
            shared: Shared::new(segment, rank, k, ring),
            segment: segment.clone(),
            rank,
            k,
            long: false,
            head: 0,
            tail: 0,
            underway: VecDeque::new(),
            messages: 0,
            damaged: false,
        })
    }

    /// Whether the ring has grown.
    #[inline]
    pub(crate) fn is_long(&self) -> bool {
        self.long
    }

    /// Makes the first stream's ring long, if nothing is in it. `false`: not now, or there is no memory for that, which is no error.
    pub(crate) fn grow(&mut self) -> bool {
        self.consumed();
        if self.k != 0 || self.long || !self.underway.is_empty() {
            return self.long;
        }
        let at = self.segment.layout().stream(self.rank, self.k);
        if self.segment.reserve_mapped(at, PAGE + LONG_RING).is_err() {
            return false;
        }
        self.shared = Shared::new(&self.segment, self.rank, self.k, LONG_RING);
        self.long = true;
        true
    }

    /// Bytes that may be in the ring at one time.
    #[inline]
    fn window(&self) -> u64 {
        self.shared.size.min(WINDOW)
    }

    /// Whether everything sent has been consumed.
    #[inline]
    pub(crate) fn is_idle(&mut self) -> bool {
        self.consumed();
        self.underway.is_empty()
    }

    /// The position up to which everything was consumed when last looked at.
    #[inline]
    pub(crate) fn taken(&self) -> u64 {
        self.tail
    }

    /// Whether a message of `len` bytes to `to` may begin. It may if nothing is in the ring; or if all of it fits behind what is there; or if all
    /// that is there goes to the same receiver, which is taking it: then nothing else can hold up the room that it needs.
    pub(crate) fn takes(&mut self, len: usize, to: usize) -> bool {
        let (begin, window) = (self.head.next_multiple_of(64), self.window());
        let fits = |stream: &StreamTx| begin + len as u64 - stream.tail <= window;
        // What is known to be free needs no look: the line with a tail comes from its receiver's core.
        if !fits(self) || self.underway.len() == STREAM_TAILS {
            self.consumed();
        }
        match self.underway.back() {
            _ if self.damaged => false,
            None => true,
            Some(last) if last.end.is_none() || self.underway.len() == STREAM_TAILS => false,
            Some(_) => fits(self) || self.flows(to),
        }
    }

    /// Whether all that is in the ring goes to `to`, which is known to be taking it.
    pub(crate) fn flows(&mut self, to: usize) -> bool {
        let shared = &self.shared;
        self.underway.iter_mut().all(|message| {
            // Relaxed: who has begun to take a message goes on; nothing is read on the strength of it.
            message.matched |= shared.tail(message.tail).load(Relaxed) != message.begin;
            message.matched && message.to == to
        })
    }

    /// Whether all that is in the ring goes to `to`.
    pub(crate) fn leads_to(&self, to: usize) -> bool {
        self.underway.iter().all(|message| message.to == to)
    }

    /// Starts a message to `to`, which has been matched or not, and returns what its receiver must be told. Only where the stream takes it.
    pub(crate) fn begin(&mut self, to: usize, matched: bool) -> Passage {
        debug_assert!(self.underway.back().is_none_or(|last| last.end.is_some()));
        // A message starts on a line.
        self.head = self.head.next_multiple_of(64);
        if self.underway.is_empty() {
            self.tail = self.head;
        }
        let tail = self.messages % STREAM_TAILS;
        self.messages += 1;
        self.underway.push_back(Underway {
            tail,
            to,
            matched,
            begin: self.head,
            end: None,
        });
        // Relaxed: the RTS that tells the passage is published after this, by a Release store in the lane; and the message that had this tail
        // before has been consumed, so that its receiver writes there no more.
        self.shared.tail(tail).store(self.head, Relaxed);
        // Release: pairs with the Acquire in `StreamRx::available`, where the message before may be under way still, and takes its last bytes for
        // published on the strength of this.
        self.shared.head().store(self.head, Release);
        Passage {
            stream: self.k,
            tail,
            long: self.long,
            through: false,
            start: self.head,
        }
    }

    /// The message that was begun last will not be sent after all; nothing of it has been published.
    pub(crate) fn take_back(&mut self) {
        self.underway.pop_back();
        // Tails are taken in turn: were one left out, another would come round while its message is under way.
        self.messages -= 1;
    }

    /// All of the message that was begun last has been published. `through`: it was written through the cache.
    #[inline]
    pub(crate) fn end(&mut self, through: bool) {
        if let Some(last) = self.underway.back_mut() {
            last.end = Some(self.head);
        }
        if self.long && through {
            // The first chunk of the next one.
            let (ptr, until_end) = self.shared.place(self.head.next_multiple_of(64));
            copy::claim_ahead(ptr, until_end);
        }
    }

    /// The free piece that comes next: contiguous, perhaps empty. A whole number of lines unless the message ends in it.
    #[inline]
    pub(crate) fn room(&mut self) -> (*mut u8, usize) {
        let (ptr, until_end) = self.shared.place(self.head);
        // Less than nothing: a message began on the line after a full ring.
        let free = |stream: &StreamTx| stream.window().saturating_sub(stream.head - stream.tail);
        let mut now = free(self);
        if now < self.window() / 2 {
            self.consumed();
            now = free(self);
        }
        (ptr, until_end.min(now as usize))
    }

    /// Hands the first `len` bytes of the room to the receiver.
    #[inline]
    pub(crate) fn publish(&mut self, len: usize) {
        self.head += len as u64;
        debug_assert!(len as u64 <= self.shared.size);
        // Release: pairs with the Acquire in `StreamRx::available`.
        self.shared.head().store(self.head, Release);
    }

    /// Looks how far the receivers have come, and takes back the room of what they have consumed, in the order of the positions.
    pub(crate) fn consumed(&mut self) {
        while let Some(first) = self.underway.front() {
            let end = first.end.unwrap_or(self.head);
            // Acquire: pairs with the Release in `StreamRx::consume`; the receiver's reads come before our next writes there.
            let tail = self.shared.tail(first.tail).load(Acquire);
            if tail < first.begin.max(self.tail) || tail > end {
                self.damaged = true;
                return;
            }
            self.tail = tail;
            if first.end != Some(tail) {
                return;
            }
            // The next one begins on a line.
            self.tail = tail.next_multiple_of(64).min(self.head);
            self.underway.pop_front();
        }
    }

    /// Whether a receiver's position has been damaged; the stream then never becomes idle.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.damaged {
            return Ok(());
        }
        Err(corrupt("its receiver's position was never sent"))
    }
}

/// The receiving end, for one message.
pub(crate) struct StreamRx {
    shared: Shared,
    ring: core::ops::Range<usize>,
    tail: usize,
    cursor: u64,
    way: Way,
}

impl StreamRx {
    /// The receiving end of the message that `src` sends by `passage`, as its RTS says.
    pub(crate) fn new(segment: &Arc<Segment>, src: usize, passage: Passage) -> Result<StreamRx> {
        if src >= segment.ranks() {
            return Err(corrupt("a message names a rank that does not exist"));
        }
        let ring = segment.layout().stream(src, passage.stream) + PAGE;
        Ok(StreamRx {
            shared: Shared::new(segment, src, passage.stream, passage.ring()),
            ring: ring..ring + passage.ring(),
            tail: passage.tail,
            cursor: passage.start,
            way: match passage.through {
                true => Way::Through,
                false => Way::Around,
            },
        })
    }

    /// How most of the message was written.
    #[inline]
    pub(crate) fn way(&self) -> Way {
        self.way
    }

    /// Where the ring is in the segment.
    pub(crate) fn ring(&self) -> core::ops::Range<usize> {
        self.ring.clone()
    }

    /// The published piece that comes next: contiguous, perhaps empty, at most `due` bytes; what lies behind is another message's.
    #[inline]
    pub(crate) fn available(&mut self, due: usize) -> Result<(*const u8, usize)> {
        // Acquire: pairs with the Release in `StreamTx::publish`.
        let head = self.shared.head().load(Acquire);
        let there = head.wrapping_sub(self.cursor);
        if there > self.shared.size {
            return Err(corrupt("its sender's position is out of reach"));
        }
        let (ptr, until_end) = self.shared.place(self.cursor);
        Ok((ptr, until_end.min(there as usize).min(due)))
    }

    /// Gives the first `len` available bytes back to the sender.
    #[inline]
    pub(crate) fn consume(&mut self, len: usize) {
        self.cursor = self.cursor.wrapping_add(len as u64);
        // Release: pairs with the Acquire in `StreamTx::consumed`.
        self.shared.tail(self.tail).store(self.cursor, Release);
    }
}

#[cold]
fn corrupt(what: &str) -> Error {
    Error::new(
        ErrorClass::Corrupt,
        format!(
            "a staging stream is damaged: {what}; some rank of this host wrote where it must not (look for out-of-bounds writes in unsafe \
             code)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of many lengths through one stream, two threads, every byte checked.
    #[test]
    fn messages_follow_each_other_through_a_stream() {
        let segment = Arc::new(Segment::private(2).unwrap());
        let lengths: Vec<usize> = [1, 63, 64, 4097, 70_000, 262_144, 262_145, 1_000_003]
            .into_iter()
            .cycle()
            .take(if cfg!(miri) { 4 } else { 40 })
            .collect();
        let (rts, started) = std::sync::mpsc::channel();
        let byte = |message: usize, at: usize| (at * 31 + at / 253 + message) as u8;
        for k in [0, 3] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut tx = StreamTx::open(&segment, 1, k).unwrap();
                    for (m, &len) in lengths.iter().enumerate() {
                        if m == lengths.len() / 2 {
                            while !tx.is_idle() {
                                std::thread::yield_now();
                            }
                            assert_eq!(tx.grow(), k == 0);
                        }
                        while !tx.takes(len, 0) {
                            std::thread::yield_now();
                        }
                        rts.send(tx.begin(0, m % 2 == 0)).unwrap();
                        let data: Vec<u8> = (0..len).map(|at| byte(m, at)).collect();
                        let mut done = 0;
                        while done < len {
                            let (ptr, room) = tx.room();
                            let now = room.min(len - done).min(chunk(len));
                            if now == 0 {
                                std::thread::yield_now();
                                continue;
                            }
                            // SAFETY: `now` is within the data and within the room.
                            unsafe {
                                super::super::copy::to_shared(data.as_ptr().add(done), ptr, now)
                            };
                            tx.publish(now);
                            done += now;
                        }
                        tx.end(m % 2 == 0);
                        tx.check().unwrap();
                    }
                });
                for (m, &len) in lengths.iter().enumerate() {
                    let mut rx = StreamRx::new(&segment, 1, started.recv().unwrap()).unwrap();
                    let mut got = vec![0_u8; len];
                    let mut done = 0;
                    while done < len {
                        let (ptr, there) = rx.available(len - done).unwrap();
                        if there == 0 {
                            std::thread::yield_now();
                            continue;
                        }
                        // SAFETY: `there` bytes are published and fit.
                        unsafe {
                            core::ptr::copy_nonoverlapping(ptr, got.as_mut_ptr().add(done), there)
                        };
                        rx.consume(there);
                        done += there;
                    }
                    assert!(got.iter().enumerate().all(|(at, &b)| b == byte(m, at)));
                }
            });
        }
    }

    /// Messages are taken in any order; their room comes back in the order of the positions, and none begins that might wait for another.
    #[test]
    fn room_comes_back_in_order_whoever_is_first() {
        let segment = Arc::new(Segment::private(3).unwrap());
        let mut tx = StreamTx::open(&segment, 0, 0).unwrap();
        let len = SHORT_RING / 4;
        let send = |tx: &mut StreamTx, to, matched| {
            assert!(tx.takes(len, to));
            let passage = tx.begin(to, matched);
            tx.publish(len);
            tx.end(false);
            StreamRx::new(&segment, 0, passage).unwrap()
        };
        let take = |rx: &mut StreamRx| {
            let mut left = len;
            while left > 0 {
                let (_, there) = rx.available(left).unwrap();
                rx.consume(there);
                left -= there;
            }
        };
        let (mut first, mut second) = (send(&mut tx, 1, false), send(&mut tx, 2, false));
        // What does not fit begins only where all goes to one receiver that takes it.
        assert!(!tx.takes(3 * len, 1) && !tx.flows(1));
        take(&mut second);
        assert!(!tx.takes(3 * len, 1) && tx.takes(2 * len, 1));
        take(&mut first);
        assert!(tx.takes(3 * len, 1) && tx.is_idle());
        let mut third = send(&mut tx, 2, true);
        assert!(tx.takes(4 * len, 2) && !tx.takes(4 * len, 1));
        let passage = tx.begin(2, false);
        // One message is written at a time.
        assert!(!tx.takes(1, 2));
        for _ in 0..2 * STREAM_TAILS {
            tx.take_back();
            assert!(tx.takes(1, 2));
            assert_eq!(tx.begin(2, false).tail, passage.tail);
        }
        tx.take_back();
        // Nor does the ring grow under a message.
        assert!(!tx.grow());
        take(&mut third);
        assert!(tx.grow() && tx.is_long() && tx.is_idle());
        tx.check().unwrap();
    }

    /// A start that no sender tells leads around the end of all numbers; that is garbage, and no more.
    #[test]
    fn a_position_may_be_any_number() {
        let segment = Arc::new(Segment::private(2).unwrap());
        let passage = Passage {
            stream: 0,
            tail: 0,
            long: true,
            through: true,
            start: u64::MAX - 10,
        };
        let mut rx = StreamRx::new(&segment, 1, passage).unwrap();
        segment
            .u64(segment.layout().stream(1, 0))
            .store(100, Relaxed);
        let (_, there) = rx.available(1000).unwrap();
        rx.consume(there);
        assert!(rx.available(1000).is_ok());
    }
}
