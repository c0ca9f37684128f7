//! A staging stream: a ring through which one large message at a time is copied in and out, both cores working at once.
//!
//! Positions count up for the life of the stream and are never reset, so a message's start position (in its RTS) is all that its receiver
//! needs to know.
use crate::job::Segment;
use crate::job::layout::{LINE, PAGE, STREAM_RING, STREAMS};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::Arc;

/// Bytes of the ring of stream `k`. The first carries nearly everything. Stores around the cache are as fast in 256 KiB; those through it need a
/// ring whose lines have left both private caches (1 MiB each on Zen 4) before they are written again: near, 1 MiB takes 104 us in 256
/// KiB, 59 in 512, 45 in 640, 40 in 704. This is as much as a rank's memory below 1 MiB has room for. The others, for more large messages at one
/// time, are small.
pub(crate) const fn ring(k: usize) -> usize {
    if k == 0 { 680 * 1024 } else { 64 * 1024 }
}
const _: () = assert!(ring(0) <= STREAM_RING && ring(1) <= STREAM_RING);

/// Bytes after which the sender of a message of `len` bytes publishes, so that the receiver copies one chunk while the sender fills the
/// next. Measured on Zen 4: smaller ones pay more hand-overs than they overlap, larger ones overlap too little (64 KiB near: 5.3 us by 8
/// KiB, 5.5 by 16).
pub(crate) const fn chunk(len: usize) -> usize {
    if len >= 256 * 1024 {
        16 * 1024
    } else if len >= 16 * 1024 {
        8 * 1024
    } else {
        4 * 1024
    }
}

/// What both ends see.
struct Shared {
    /// Bytes that the sender has published.
    head: *const AtomicU64,
    /// Bytes that the receivers have consumed.
    tail: *const AtomicU64,
    ring: *mut u8,
    size: u64,
    _segment: Arc<Segment>,
}

// SAFETY: the pointers lead into the segment's mapping, which the value keeps alive and which any thread may use.
unsafe impl Send for Shared {}

impl Shared {
    fn new(segment: &Arc<Segment>, rank: usize, k: usize) -> Shared {
        let at = segment.layout().stream(rank, k);
        Shared {
            head: segment.u64(at),
            tail: segment.u64(at + LINE),
            ring: segment.at(at + PAGE, ring(k)),
            size: ring(k) as u64,
            _segment: segment.clone(),
        }
    }

    #[inline]
    fn head(&self) -> &AtomicU64 {
        // SAFETY: made from a reference into the mapping that `_segment` keeps alive.
        unsafe { &*self.head }
    }

    #[inline]
    fn tail(&self) -> &AtomicU64 {
        // SAFETY: as for `head`.
        unsafe { &*self.tail }
    }

    /// The place of `position`, and how many bytes follow it until the ring's end.
    #[inline]
    fn place(&self, position: u64) -> (*mut u8, usize) {
        let at = (position % self.size) as usize;
        // SAFETY: `at` lies inside the ring, whose range `new` checked.
        (unsafe { self.ring.add(at) }, self.size as usize - at)
    }
}

/// The sending end of one of the rank's own streams.
pub(crate) struct StreamTx {
    shared: Shared,
    head: u64,
    tail: u64,
    damaged: bool,
}

impl StreamTx {
    /// Opens stream `k` of `rank` (once) and takes its memory.
    pub(crate) fn open(segment: &Arc<Segment>, rank: usize, k: usize) -> Result<StreamTx> {
        segment.reserve(segment.layout().stream(rank, k), PAGE + ring(k))?;
        Ok(StreamTx {
            shared: Shared::new(segment, rank, k),
            head: 0,
            tail: 0,
            damaged: false,
        })
    }

    /// Whether everything sent has been consumed, so that the stream can be lent to another message.
    #[inline]
    pub(crate) fn is_idle(&mut self) -> bool {
        self.consumed() == self.head
    }

    /// Starts a message and returns its position, which its receiver must be told. Only when idle.
    pub(crate) fn begin(&mut self) -> u64 {
        debug_assert!(self.consumed() == self.head);
        // A message starts on a line; what is skipped counts as consumed.
        self.head = self.head.next_multiple_of(64);
        self.tail = self.head;
        // Relaxed: the RTS that tells the position is published after this, by a Release store in the lane.
        self.shared.head().store(self.head, Relaxed);
        self.head
    }

    /// The free piece that comes next: contiguous, perhaps empty. A whole number of lines unless the message ends in it.
    #[inline]
    pub(crate) fn room(&mut self) -> (*mut u8, usize) {
        let (ptr, until_end) = self.shared.place(self.head);
        let mut free = self.shared.size - (self.head - self.tail);
        if free < self.shared.size / 2 {
            self.consumed();
            free = self.shared.size - (self.head - self.tail);
        }
        (ptr, until_end.min(free as usize))
    }

    /// Hands the first `len` bytes of the room to the receiver.
    #[inline]
    pub(crate) fn publish(&mut self, len: usize) {
        self.head += len as u64;
        debug_assert!(self.head - self.tail <= self.shared.size);
        // Release: pairs with the Acquire in `StreamRx::available`.
        self.shared.head().store(self.head, Release);
    }

    /// The position after what was consumed.
    #[inline]
    pub(crate) fn consumed(&mut self) -> u64 {
        // Acquire: pairs with the Release in `StreamRx::consume`; the receiver's reads come before our next writes there.
        let tail = self.shared.tail().load(Acquire);
        if tail.wrapping_sub(self.tail) <= self.head - self.tail {
            self.tail = tail;
        } else if tail.wrapping_add(64) <= self.tail || tail > self.head {
            // Only what `begin` skipped may lie between a true tail and the one that we know.
            self.damaged = true;
        }
        self.tail
    }

    /// Whether the receiver's position has been damaged; the stream then never becomes idle.
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
    cursor: u64,
}

impl StreamRx {
    /// The receiving end of the message that `src` sends through its stream `k` from position `start` on, as its RTS says.
    pub(crate) fn new(
        segment: &Arc<Segment>,
        src: usize,
        k: usize,
        start: u64,
    ) -> Result<StreamRx> {
        if k >= STREAMS || src >= segment.ranks() {
            return Err(corrupt("a message names a stream that does not exist"));
        }
        Ok(StreamRx {
            shared: Shared::new(segment, src, k),
            cursor: start,
        })
    }

    /// The published piece that comes next: contiguous, perhaps empty. It may hold more than the message's rest only if the sender is
    /// faulty: take no more than is due.
    #[inline]
    pub(crate) fn available(&mut self) -> Result<(*const u8, usize)> {
        // Acquire: pairs with the Release in `StreamTx::publish`.
        let head = self.shared.head().load(Acquire);
        let there = head.wrapping_sub(self.cursor);
        if there > self.shared.size {
            return Err(corrupt("its sender's position is out of reach"));
        }
        let (ptr, until_end) = self.shared.place(self.cursor);
        Ok((ptr, until_end.min(there as usize)))
    }

    /// Gives the first `len` available bytes back to the sender.
    #[inline]
    pub(crate) fn consume(&mut self, len: usize) {
        self.cursor = self.cursor.wrapping_add(len as u64);
        // Release: pairs with the Acquire in `StreamTx::consumed`.
        self.shared.tail().store(self.cursor, Release);
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
                        while !tx.is_idle() {
                            std::thread::yield_now();
                        }
                        rts.send(tx.begin()).unwrap();
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
                        tx.check().unwrap();
                    }
                });
                for (m, &len) in lengths.iter().enumerate() {
                    let mut rx = StreamRx::new(&segment, 1, k, started.recv().unwrap()).unwrap();
                    let mut got = vec![0_u8; len];
                    let mut done = 0;
                    while done < len {
                        let (ptr, there) = rx.available().unwrap();
                        assert!(there <= len - done);
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

    /// A start that no sender tells leads around the end of all numbers; that is garbage, and no more.
    #[test]
    fn a_position_may_be_any_number() {
        let segment = Arc::new(Segment::private(2).unwrap());
        let mut rx = StreamRx::new(&segment, 1, 0, u64::MAX - 10).unwrap();
        segment
            .u64(segment.layout().stream(1, 0))
            .store(100, Relaxed);
        let (_, there) = rx.available().unwrap();
        rx.consume(there);
        assert!(rx.available().is_ok());
    }
}
