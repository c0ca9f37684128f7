//! The system's MPI between hosts: frames in and out, and parts of long payloads. README.md has the protocol.
//!
//! May use the operating system's floor, where MPI's calls are; must never know matching, requests or communicators.
use crate::sys::mpi::{Mpi, Request};
use crate::sys::mpi_request::Arrived;
use crate::transport::tcp::frame::{Frame, HEAD};
use std::collections::VecDeque;

/// The longest message that travels as one frame. 8 KiB: where MPI implementations themselves go from copies to a rendezvous is at 4 to 64 KiB, and it
/// bounds what the ring takes.
pub(crate) const EAGER: usize = 8 * 1024;
/// Bytes of a frame with its body.
const FRAME: usize = HEAD + EAGER;
/// Receives that are posted for frames: 130 KiB.
const SLOTS: usize = 16;
/// Bytes of a part: large enough that MPI's own pipelines fill, small enough for the buffer of a payload with gaps.
pub(crate) const PART: usize = 8 << 20;
/// Parts of one message that are under way at a time.
pub(crate) const AHEAD: usize = 2;
/// Long messages that come at a time by numbers of one kind: MPI promises tags up to 32767.
pub(crate) const NUMBERS: usize = 16 * 1024 - 1;

/// Tags of MPI's messages: frames, the parts of payloads that were granted, and of those that follow their envelope.
const FRAMES: i32 = 0;
const GRANTED: i32 = 1;
const FOLLOWING: i32 = GRANTED + NUMBERS as i32;

/// What keeps the parts of one long message apart from those of others of the same pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// The receiver gave it.
    Granted(usize),
    /// The sender took it.
    Following(usize),
}

impl Number {
    fn tag(self) -> i32 {
        match self {
            Number::Granted(number) => GRANTED + number as i32,
            Number::Following(number) => FOLLOWING + number as i32,
        }
    }
}

/// Numbers of one kind, each used by one message at a time.
#[derive(Default)]
pub(crate) struct Numbers {
    free: Vec<usize>,
    used: usize,
}

impl Numbers {
    /// One that is free.
    pub(crate) fn take(&mut self) -> Option<usize> {
        self.free.pop().or_else(|| {
            let next = self.used;
            (next < NUMBERS).then(|| {
                self.used += 1;
                next
            })
        })
    }

    pub(crate) fn give_back(&mut self, number: usize) {
        self.free.push(number);
    }
}

/// A part of a payload under way.
pub(crate) struct Part {
    request: Request,
    /// Where it lies meanwhile, if not in the user's memory.
    pub(crate) buffer: Option<Vec<u8>>,
    pub(crate) len: usize,
    over: bool,
}

struct Slot {
    bytes: Box<[u8]>,
    request: Option<Request>,
    /// What came, once that was seen.
    arrived: Option<Arrived>,
}

impl Slot {
    fn of(bytes: Box<[u8]>, request: Request) -> Slot {
        Slot {
            bytes,
            request: Some(request),
            arrived: None,
        }
    }
}

/// What a rank has of the system's MPI.
pub(crate) struct Fabric {
    mpi: Mpi,
    ring: Vec<Slot>,
    head: usize,
    /// Frames that MPI has not let go of yet, oldest first.
    leaving: VecDeque<(Request, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Fabric {
    /// Posts the ring, if it is to be `open`.
    pub(crate) fn over(mpi: Mpi, open: bool) -> Fabric {
        let mut fabric = Fabric {
            mpi,
            ring: Vec::with_capacity(SLOTS),
            head: 0,
            leaving: VecDeque::new(),
            spare: Vec::new(),
        };
        for _ in 0..if open { SLOTS } else { 0 } {
            let mut bytes = vec![0; FRAME].into_boxed_slice();
            let request = fabric.post(&mut bytes);
            fabric.ring.push(Slot::of(bytes, request));
        }
        fabric
    }

    fn post(&self, bytes: &mut [u8]) -> Request {
        // SAFETY: the bytes are on the heap and belong to the ring, which touches them only after the receive was seen to be over, and cancels it before it
        // lets go of them.
        unsafe {
            self.mpi
                .receive(None, FRAMES, bytes.as_mut_ptr(), bytes.len())
        }
    }

    /// The next frame, with its body behind its head, and who sent it. It stays the next one.
    #[inline]
    pub(crate) fn first(&mut self) -> Option<(usize, &[u8])> {
        let slot = &mut self.ring[self.head];
        if let Some(request) = &mut slot.request {
            slot.arrived = Some(self.mpi.received(request)?);
            slot.request = None;
        }
        let Arrived { from, bytes } = slot.arrived?;
        Some((from, slot.bytes.get(..bytes)?))
    }

    /// Takes that frame. The bytes, of which so many are the frame's, are to be given back.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(usize, Box<[u8]>, usize)> {
        let (from, frame) = self.first()?;
        let len = frame.len();
        Some((from, core::mem::take(&mut self.ring[self.head].bytes), len))
    }

    /// Is done with the frame that [`Fabric::first`] gave.
    #[inline]
    pub(crate) fn pass(&mut self) {
        let bytes = core::mem::take(&mut self.ring[self.head].bytes);
        self.give_back(bytes);
    }

    /// Takes the bytes of the frame that [`Fabric::next`] gave last.
    #[inline]
    pub(crate) fn give_back(&mut self, mut bytes: Box<[u8]>) {
        let request = self.post(&mut bytes);
        self.ring[self.head] = Slot::of(bytes, request);
        self.head = (self.head + 1) % SLOTS;
    }

    /// Sends a frame; `body` appends what belongs behind its head.
    #[inline]
    pub(crate) fn send(&mut self, to: usize, frame: &Frame, body: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(&frame.encode());
        body(&mut bytes);
        debug_assert_eq!(bytes.len(), HEAD + frame.len);
        // SAFETY: the bytes are on the heap and are kept, untouched, until the send was seen to be over.
        let mut request = unsafe { self.mpi.send(to, FRAMES, bytes.as_ptr(), bytes.len()) };
        if self.mpi.sent(&mut request) {
            self.spare.push(bytes);
        } else {
            self.leaving.push_back((request, bytes));
        }
    }

    /// Looks which frames MPI has let go of. Whether any.
    pub(crate) fn look_at_sends(&mut self) -> bool {
        let before = self.leaving.len();
        while let Some((request, _)) = self.leaving.front_mut() {
            if !self.mpi.sent(request) {
                break;
            }
            self.spare
                .extend(self.leaving.pop_front().map(|(_, bytes)| bytes));
        }
        self.leaving.len() < before
    }

    /// Whether anything can be received.
    pub(crate) fn is_open(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Whether frames are under way.
    pub(crate) fn owes(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Starts to send a part that lies in memory of others.
    ///
    /// # Safety
    /// The `len` bytes at `from` stay as they are until the part was seen to have left.
    pub(crate) unsafe fn send_lent(
        &self,
        to: usize,
        number: Number,
        from: *const u8,
        len: usize,
    ) -> Part {
        // SAFETY: the caller keeps the bytes.
        let request = unsafe {
            match number {
                Number::Granted(_) => self.mpi.send(to, number.tag(), from, len),
                // The number is free again, and a synchronous send over, when the last part's receive has begun.
                Number::Following(_) => self.mpi.send_matched(to, number.tag(), from, len),
            }
        };
        Part {
            request,
            buffer: None,
            len,
            over: false,
        }
    }

    /// Starts to send a part.
    pub(crate) fn send_packed(&self, to: usize, number: Number, bytes: Vec<u8>) -> Part {
        // SAFETY: the bytes are on the heap, and the part keeps them.
        let mut part = unsafe { self.send_lent(to, number, bytes.as_ptr(), bytes.len()) };
        part.buffer = Some(bytes);
        part
    }

    /// Starts to receive a part into memory of others.
    ///
    /// # Safety
    /// The `len` bytes at `to` are nobody else's until the part was seen to be there.
    pub(crate) unsafe fn receive_lent(
        &self,
        from: usize,
        number: Number,
        to: *mut u8,
        len: usize,
    ) -> Part {
        Part {
            // SAFETY: the caller keeps the bytes.
            request: unsafe { self.mpi.receive(Some(from), number.tag(), to, len) },
            buffer: None,
            len,
            over: false,
        }
    }

    /// Starts to receive a part into a buffer of its own.
    pub(crate) fn receive_packed(&self, from: usize, number: Number, len: usize) -> Part {
        let mut bytes = vec![0; len];
        // SAFETY: the bytes are on the heap, and the part keeps them.
        let mut part = unsafe { self.receive_lent(from, number, bytes.as_mut_ptr(), len) };
        part.buffer = Some(bytes);
        part
    }

    /// Whether a part has left.
    pub(crate) fn has_left(&self, part: &mut Part) -> bool {
        part.over = self.mpi.sent(&mut part.request);
        part.over
    }

    /// Whether a part is there, and how many bytes came.
    pub(crate) fn is_there(&self, part: &mut Part) -> Option<usize> {
        let arrived = self.mpi.received(&mut part.request)?;
        part.over = true;
        Some(arrived.bytes)
    }

    /// Leaves MPI, when nothing is under way. All ranks do.
    pub(crate) fn finish(mut self) {
        for slot in self.ring.drain(..) {
            if let Some(request) = slot.request {
                self.mpi.cancel(request);
            }
        }
        self.mpi.finish();
    }
}

/// Without [`Fabric::finish`] MPI may still write to, or read from, what it was given: then that is never freed.
impl Drop for Fabric {
    fn drop(&mut self) {
        core::mem::forget(core::mem::take(&mut self.ring));
        core::mem::forget(core::mem::take(&mut self.leaving));
    }
}

/// As for [`Fabric`]: a part that is given up before its end leaves its bytes to MPI.
impl Drop for Part {
    fn drop(&mut self) {
        if !self.over {
            core::mem::forget(self.buffer.take());
        }
    }
}
