//! The system's MPI between hosts: frames in and out, and parts of long payloads. README.md has the protocol.
//!
//! May use the operating system's floor, where MPI's calls are; must never know matching, requests or communicators.
use crate::sys::mpi::{Mpi, Request};
use crate::sys::mpi_request::Arrived;
use crate::transport::shm::{SMALL, SlotHead, copy};
use crate::transport::tcp::frame::{Frame, HEAD, Kind};
use core::ops::Range;
use std::collections::VecDeque;

/// The longest message that travels with its envelope. At the receiver it is copied once more than MPI does; a longer one costs a message more (measured by
/// scripts/compare --rows mpi).
pub(crate) const EAGER: usize = 8 * 1024;
/// Bytes of a frame with its body.
const FRAME: usize = HEAD + EAGER;
/// Receives that are started for frames: 130 KiB.
const SLOTS: usize = 16;
/// Bytes of a part: large enough that MPI's own pipelines fill, small enough for the buffer of a payload with gaps.
pub(crate) const PART: usize = 8 << 20;
/// Parts of one message that are under way at a time.
pub(crate) const AHEAD: usize = 2;
/// Long messages that come at a time by numbers of one kind: MPI promises tags up to 32767.
pub(crate) const NUMBERS: usize = 16 * 1024 - 1;

/// Tags of messages with a receive of their own: parts of payloads that were granted, and of those that follow their envelope.
const GRANTED: i32 = 0;
const FOLLOWING: i32 = GRANTED + NUMBERS as i32;

/// Heads that a pair remembers in each direction: a short message whose head was sent before is sent without.
const HEADS: usize = 16;
/// Tags of messages that any of the ring's receives takes: a frame; a frame whose head is to be remembered as this one of the pair's; the body of a frame whose
/// head is this one.
const FRAMES: i32 = 0;
const REMEMBERED: i32 = 1;
const BODIES: i32 = REMEMBERED + HEADS as i32;

/// The heads that a pair remembers in one direction.
type Heads = Option<Box<[SlotHead; HEADS]>>;

/// Where a pair remembers a head: the receiver does what the sender says.
fn place_of(head: &SlotHead) -> usize {
    (head.tag as usize
        ^ (head.tag as usize >> 4)
        ^ head.context as usize
        ^ head.site as usize
        ^ head.source as usize
        ^ head.code as usize)
        % HEADS
}

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

/// A receive of the ring. Started are those from the head on, but for the head's own once it was seen to be over, and but for the last `idle` ones.
struct Slot {
    /// MPI keeps its address.
    bytes: Vec<u8>,
    request: Request,
    /// What came, once that was seen.
    arrived: Option<Arrived>,
}

/// What was taken from the ring.
pub(crate) struct Taken {
    pub(crate) from: usize,
    /// The frame, and where in the bytes its body is; `None`: it is none.
    pub(crate) frame: Option<(Frame, Range<usize>)>,
    pub(crate) bytes: Vec<u8>,
}

/// What a rank has of the system's MPI.
pub(crate) struct Fabric {
    mpi: Mpi,
    ring: Vec<Slot>,
    head: usize,
    /// Slots before the head whose receive is to be started again. That is done when nothing has come, so that a message does not wait for it.
    idle: usize,
    /// Frames that MPI has not let go of yet, oldest first.
    leaving: VecDeque<(Request, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    /// Where the next small payload leaves from: `SMALL` bytes.
    small: Vec<u8>,
    /// By rank: heads that were sent there, and that came from there.
    sent: Vec<Heads>,
    came: Vec<Heads>,
}

impl Fabric {
    /// Starts the ring's receives, if it is to be `open`.
    pub(crate) fn over(mpi: Mpi, open: bool) -> Fabric {
        let ranks = mpi.size();
        let heads = || (0..ranks).map(|_| None).collect();
        let mut fabric = Fabric {
            sent: heads(),
            came: heads(),
            mpi,
            ring: Vec::new(),
            head: 0,
            idle: 0,
            leaving: VecDeque::new(),
            spare: Vec::new(),
            small: vec![0; SMALL],
        };
        if open {
            let slots = (0..SLOTS).map(|_| {
                let mut bytes = vec![0; FRAME];
                Slot {
                    request: fabric.mpi.receive(bytes.as_mut_ptr(), FRAME),
                    bytes,
                    arrived: None,
                }
            });
            fabric.ring = slots.collect();
            fabric.idle = SLOTS;
            fabric.start_again();
        }
        fabric
    }

    /// What has come next, if it is there by the last of so many looks.
    #[inline(always)]
    fn look(&mut self, mut looks: u32) -> Option<Arrived> {
        if self.idle == SLOTS {
            self.start_again();
        }
        if let Some(arrived) = self.ring[self.head].arrived {
            return Some(arrived);
        }
        loop {
            let slot = &mut self.ring[self.head];
            if let Some(arrived) = self.mpi.received(&mut slot.request) {
                slot.arrived = Some(arrived);
                return Some(arrived);
            }
            if self.idle > 0 {
                self.start_again();
            }
            looks = looks.checked_sub(1).filter(|left| *left > 0)?;
        }
    }

    /// Starts the receives of the slots before the head again, in the order of the ring.
    #[inline(never)]
    fn start_again(&mut self) {
        while self.idle > 0 {
            let at = (self.head + SLOTS - self.idle) % SLOTS;
            // SAFETY: the bytes are on the heap and belong to the ring, which touches them only after the receive was seen to be over, and cancels it before it
            // lets go of them.
            unsafe { self.mpi.start_again(&mut self.ring[at].request) };
            self.idle -= 1;
        }
    }

    /// The short message that comes next, by its sender, head and body, if it is there by the last of so many looks. It stays the next one. `None` too where
    /// something else comes next.
    #[inline(always)]
    pub(crate) fn first_short(&mut self, looks: u32) -> Option<(usize, &SlotHead, &[u8])> {
        let Arrived { from, tag, bytes } = self.look(looks)?;
        let heads = self.came.get(from).and_then(Option::as_ref);
        let place = usize::try_from(tag - BODIES).unwrap_or(usize::MAX);
        Some((
            from,
            heads?.get(place)?,
            self.ring[self.head].bytes.get(..bytes)?,
        ))
    }

    /// Takes the next frame: who sent it, the frame if it can be one, and where in the bytes its body is. The bytes are to be given back.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Taken> {
        let Arrived { from, tag, bytes } = self.look(1)?;
        let all = core::mem::take(&mut self.ring[self.head].bytes);
        let whole = |heads: &mut Heads| {
            if let Some(place) = usize::try_from(tag - BODIES).ok().filter(|p| *p < HEADS) {
                let head = heads.as_ref()?[place];
                let frame = Frame {
                    kind: Kind::Eager,
                    len: bytes,
                    head,
                };
                return Some((frame, 0..bytes));
            }
            let frame = Frame::decode(all.get(..bytes)?.first_chunk()?).ok()?;
            if let Ok(place) = usize::try_from(tag - REMEMBERED) {
                let heads = heads.get_or_insert_with(|| Box::new([SlotHead::default(); HEADS]));
                *heads.get_mut(place)? = frame.head;
            }
            (frame.len == bytes - HEAD && frame.kind != Kind::Data).then_some((frame, HEAD..bytes))
        };
        let frame = self.came.get_mut(from).and_then(whole);
        Some(Taken {
            from,
            frame,
            bytes: all,
        })
    }

    /// Is done with the message that [`Fabric::first_short`] gave.
    #[inline]
    pub(crate) fn pass(&mut self) {
        self.ring[self.head].arrived = None;
        self.head = (self.head + 1) % SLOTS;
        self.idle += 1;
    }

    /// Takes the bytes of the frame that [`Fabric::next`] gave last.
    #[inline]
    pub(crate) fn give_back(&mut self, bytes: Vec<u8>) {
        self.ring[self.head].bytes = bytes;
        self.pass();
    }

    /// Sends a frame; `body` appends what belongs behind its head.
    #[inline]
    pub(crate) fn send(&mut self, to: usize, frame: &Frame, body: impl FnOnce(&mut Vec<u8>)) {
        self.send_copied(to, FRAMES, Some(frame), body);
    }

    #[inline]
    fn send_copied(
        &mut self,
        to: usize,
        tag: i32,
        frame: Option<&Frame>,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        if let Some(frame) = frame {
            bytes.extend_from_slice(&frame.encode());
        }
        body(&mut bytes);
        debug_assert!(frame.is_none_or(|frame| bytes.len() == HEAD + frame.len));
        // SAFETY: the bytes are on the heap and are kept, untouched, until the send was seen to be over.
        let mut request = unsafe { self.mpi.send(to, tag, bytes.as_ptr(), bytes.len()) };
        if self.mpi.sent(&mut request) {
            self.spare.push(bytes);
        } else {
            self.leaving.push_back((request, bytes));
        }
    }

    /// Sends a short message. A part, if its payload still lies in memory of others, `lent`; without that `body` appends it to a buffer, and there is none.
    ///
    /// # Safety
    /// The `frame.len` bytes at `lent` stay as they are until the part was seen to have left.
    #[inline]
    pub(crate) unsafe fn send_short(
        &mut self,
        to: usize,
        frame: &Frame,
        lent: Option<*const u8>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Part> {
        let place = place_of(&frame.head);
        let heads = self.sent[to].get_or_insert_with(|| Box::new([SlotHead::default(); HEADS]));
        // What was never sent is all zero here.
        if heads[place] != frame.head || frame.head == SlotHead::default() {
            heads[place] = frame.head;
            self.send_copied(to, REMEMBERED + place as i32, Some(frame), body);
            return None;
        }
        let tag = BODIES + place as i32;
        let Some(from) = lent else {
            self.send_copied(to, tag, None, body);
            return None;
        };
        // SAFETY: the caller keeps the bytes.
        let mut request = unsafe { self.mpi.send(to, tag, from, frame.len) };
        (!self.mpi.sent(&mut request)).then_some(Part {
            request,
            buffer: None,
            len: frame.len,
            over: false,
        })
    }

    /// Sends a message of up to [`SMALL`] bytes whose head is remembered. False: it is not.
    ///
    /// # Safety
    /// The `len` bytes at `payload` can be read.
    #[inline(always)]
    pub(crate) unsafe fn send_small(
        &mut self,
        to: usize,
        head: &SlotHead,
        payload: *const u8,
        len: usize,
    ) -> bool {
        let place = place_of(head);
        let heads = self.sent.get(to).and_then(Option::as_ref);
        if len > SMALL || heads.is_none_or(|heads| heads[place] != *head) {
            return false;
        }
        // SAFETY: the caller's promise; there is room for `SMALL` bytes, which are nobody else's, and are kept until the send was seen to be over.
        let mut request = unsafe {
            copy::mostly_8(payload, self.small.as_mut_ptr(), len);
            let tag = BODIES + place as i32;
            self.mpi.send(to, tag, self.small.as_ptr(), len)
        };
        if !self.mpi.sent(&mut request) {
            let sent = core::mem::replace(&mut self.small, vec![0; SMALL]);
            self.leaving.push_back((request, sent));
        }
        true
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
                Number::Granted(_) => self.mpi.send_own(to, number.tag(), from, len),
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
            request: unsafe { self.mpi.receive_own(from, number.tag(), to, len) },
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
        let started = SLOTS - self.idle;
        for (at, slot) in self.ring.drain(..).enumerate() {
            let ahead = (at + SLOTS - self.head) % SLOTS;
            self.mpi
                .free(slot.request, ahead < started && slot.arrived.is_none());
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
