//! The system's MPI between hosts: frames in and out, and parts of long payloads. README.md has the protocol.
//!
//! May use the operating system's floor, where MPI's calls are; must never know matching, requests or communicators.
mod pair;
mod ring;

use crate::sys::mpi::{Mpi, Request};
use crate::sys::mpi_request::Arrived;
use crate::transport::shm::SlotHead;
use crate::transport::tcp::frame::{Frame, HEAD, Kind, OFFER};
use core::ops::Range;
pub(crate) use pair::Next;
use pair::{Incoming, Outgoing, PAYLOADS, Sort};
use ring::Ring;
use std::collections::VecDeque;

/// The longest message that travels with its envelope. At a receiver that does not wait for it, it is copied once more than MPI does; a longer one costs a
/// message more, unless it is asked for ahead (measured by scripts/compare --rows mpi).
pub(crate) const EAGER: usize = 16 * 1024;
/// The longest message that may not follow its envelope before it is matched.
pub(crate) const HELD: usize = 8 * 1024;
/// Bytes of a frame with its body.
const FRAME: usize = HEAD + EAGER;
/// Bytes of a part: large enough that MPI's own pipelines fill, small enough for the buffer of a payload with gaps.
pub(crate) const PART: usize = 8 << 20;
/// Parts of one message that are under way at a time.
pub(crate) const AHEAD: usize = 2;
/// Long messages that come at a time by numbers of one kind.
const NUMBERS: usize = 8 * 1024 - 1;

/// Tags of messages with a receive of their own: parts of payloads that were granted, and of those that follow their envelope.
const GRANTED: i32 = 0;
const FOLLOWING: i32 = GRANTED + NUMBERS as i32;

/// On the communicator of the parts: what a rank may send.
const CREDIT: i32 = FOLLOWING + NUMBERS as i32;
/// Payloads that their receiver can ask for ahead.
const AHEAD_OF_OFFERS: i32 = CREDIT + 1;
// MPI promises tags up to 32767.
const _: () = assert!(AHEAD_OF_OFFERS + PAYLOADS as i32 <= 32768);
/// Bytes of credit: how many bytes it may in all, and how many messages were taken.
const TOLD: usize = 12;

/// Looks of a straight receive between two looks whether something else has come from there.
const ASIDE: u32 = 16;
/// A message counts once more for each so many bytes.
const COSTLY: usize = 4096;
/// Payloads of blocking sends that MPI may read from copies at a time.
const COPIES: usize = 16;
/// Messages that must have been taken out of the ring one by one before it is to run out: at least, and at most where that was of no use.
const PATIENCE: u32 = 8;
const MOST_PATIENCE: u32 = 1024;

/// What keeps the parts of one long message apart from those of others of the same pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// The receiver gave it.
    Granted(usize),
    /// The sender took it.
    Following(usize),
    /// Both knew it: that of a message like one before, and the number of that message in the pair's sequence.
    Known(usize, u32),
}

impl Number {
    fn tag(self) -> i32 {
        match self {
            Number::Granted(number) => GRANTED + number as i32,
            Number::Following(number) => FOLLOWING + number as i32,
            Number::Known(number, _) => AHEAD_OF_OFFERS + number as i32,
        }
    }

    /// Whether MPI tells payloads by these numbers not apart.
    pub(crate) fn is_as(self, other: Number) -> bool {
        self.tag() == other.tag()
    }

    /// As an offer tells its receiver.
    pub(crate) fn told(self) -> u64 {
        match self {
            Number::Granted(number) | Number::Following(number) => number as u64,
            Number::Known(number, message) => (NUMBERS + number) as u64 | u64::from(message) << 32,
        }
    }

    /// What an offer tells; `None`: no sender writes that.
    pub(crate) fn of_offer(told: u64) -> Option<Number> {
        let (number, message) = (told as u32 as usize, (told >> 32) as u32);
        match number.checked_sub(NUMBERS) {
            None => (message == 0).then_some(Number::Following(number)),
            Some(number) => (number < PAYLOADS).then_some(Number::Known(number, message)),
        }
    }

    /// What a grant tells.
    pub(crate) fn of_grant(told: u64) -> Option<Number> {
        let number = usize::try_from(told).ok()?;
        (number < NUMBERS).then_some(Number::Granted(number))
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

impl Part {
    fn lent(request: Request, len: usize) -> Part {
        Part {
            request,
            buffer: None,
            len,
            over: false,
        }
    }
}

/// What a straight receive asks for.
#[derive(Clone, Copy)]
pub(crate) struct Expected(Sort);

/// A straight receive that was begun.
pub(crate) struct Asked {
    request: Request,
    from: usize,
    sort: Sort,
    len: usize,
}

/// What was taken from the ring.
pub(crate) struct Taken {
    pub(crate) from: usize,
    /// The frame, and where in the bytes its body is; `None`: it is none.
    pub(crate) frame: Option<(Frame, Range<usize>)>,
    pub(crate) bytes: Vec<u8>,
}

/// What became of a receive straight into its memory.
pub(crate) enum Straight {
    /// The message is there.
    Here,
    /// It has not come, and the receive was taken back.
    Nothing,
    /// It is on its way.
    UnderWay(Part),
}

/// What a rank has of the system's MPI.
pub(crate) struct Fabric {
    mpi: Mpi,
    ring: Ring,
    /// Frames that MPI has not let go of yet, oldest first.
    leaving: VecDeque<(Request, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    /// By rank: what was sent there, and what came from there.
    sent: Vec<Option<Box<Outgoing>>>,
    came: Vec<Option<Box<Incoming>>>,
    /// Messages sent to any rank.
    sends: u64,
    /// The receive of what others tell of credit, if there is any.
    credit: Option<(Vec<u8>, Request)>,
    /// By rank that has said goodbye: how often it has told credit.
    promised: Vec<Option<u32>>,
    /// Messages in a row that were taken out of the open ring one by one, long ones counting more, or straight, while it was closed.
    streak: u32,
    /// Whether the last straight receive saw a message of another rank first.
    saw_another: bool,
    /// The last straight receive whose message came, until MPI lets go of it.
    done: Option<Request>,
    patience: u32,
}

impl Fabric {
    /// Receives nothing, unless it is to be `open`.
    pub(crate) fn over(mpi: Mpi, open: bool) -> Fabric {
        let ranks = mpi.size();
        let mut fabric = Fabric {
            ring: match open {
                true => Ring::of(&mpi, FRAME),
                false => Ring::default(),
            },
            credit: open.then(|| {
                let mut bytes = vec![0; TOLD];
                let request = mpi.receive_tagged(CREDIT, bytes.as_mut_ptr(), TOLD);
                (bytes, request)
            }),
            promised: vec![None; ranks],
            mpi,
            leaving: VecDeque::new(),
            spare: Vec::new(),
            sent: (0..ranks).map(|_| None).collect(),
            came: (0..ranks).map(|_| None).collect(),
            sends: 0,
            streak: 0,
            saw_another: false,
            done: None,
            patience: PATIENCE,
        };
        fabric.listen();
        fabric
    }

    /// Starts the receive of what others tell of credit.
    fn listen(&mut self) {
        if let Some((_, request)) = &mut self.credit {
            // SAFETY: the bytes are on the heap, and are read only after the receive was seen to be over; it is cancelled before they are let go of.
            unsafe { self.mpi.start_again(request) };
        }
    }

    /// What a rank tells: how many bytes it allows in all.
    pub(crate) fn hear(&mut self) -> Option<(usize, u64)> {
        let (bytes, request) = self.credit.as_mut()?;
        let from = self.mpi.received(request)?.from;
        let (allowed, taken) = bytes.split_first_chunk()?;
        let (allowed, taken) = (u64::from_le_bytes(*allowed), taken.first_chunk().copied());
        self.listen();
        if let (Some(Some(sent)), Some(taken)) = (self.sent.get_mut(from), taken) {
            sent.were_taken(u32::from_le_bytes(taken));
        }
        Some((from, allowed))
    }

    /// Tells a rank how many bytes it may send in all.
    pub(crate) fn tell(&mut self, to: usize, allowed: u64) {
        let Some(Some(came)) = self.came.get_mut(to) else {
            return;
        };
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend(allowed.to_le_bytes());
        bytes.extend(came.tell().to_le_bytes());
        // SAFETY: the bytes are on the heap and are kept, untouched, until the send was seen to be over.
        let request = unsafe { self.mpi.send_own(to, CREDIT, bytes.as_ptr(), bytes.len()) };
        self.leaves(request, bytes);
    }

    /// Bytes that MPI still reads, perhaps.
    #[inline]
    fn leaves(&mut self, mut request: Request, bytes: Vec<u8>) {
        if self.mpi.is_over(&mut request) {
            self.spare.push(bytes);
        } else {
            self.leaving.push_back((request, bytes));
        }
    }

    /// Whether a rank is to be told how many of its messages were taken.
    #[inline]
    pub(crate) fn is_to_tell(&self, from: usize) -> bool {
        let came = self.came.get(from).and_then(Option::as_ref);
        came.is_some_and(|came| came.is_to_tell())
    }

    /// How often a rank was told.
    pub(crate) fn told(&self, to: usize) -> u32 {
        let came = self.came.get(to).and_then(Option::as_ref);
        came.map_or(0, |came| came.told())
    }

    /// A rank says at its end how often it has told.
    pub(crate) fn has_told(&mut self, from: usize, times: u32) {
        if let Some(promised) = self.promised.get_mut(from) {
            *promised = Some(times);
        }
    }

    /// Whether all was heard that ranks have told which have said goodbye.
    pub(crate) fn heard_all(&self) -> bool {
        let heard = |sent: &Option<Box<Outgoing>>| sent.as_ref().map_or(0, |sent| sent.heard());
        let mut ranks = self.promised.iter().zip(&self.sent);
        let enough = |heard: u32, times: u32| heard.wrapping_sub(times) < u32::MAX / 2;
        ranks.all(|(promised, sent)| promised.is_none_or(|times| enough(heard(sent), times)))
    }

    /// Whether so many messages are under way to a rank that it is time to hear what was taken of them.
    #[inline]
    pub(crate) fn is_far_ahead(&self, to: usize) -> bool {
        let sent = self.sent.get(to).and_then(Option::as_ref);
        sent.is_some_and(|sent| sent.is_far_ahead())
    }

    /// Whether messages may be received straight into their receives' memory: nothing else takes them then.
    #[inline(always)]
    pub(crate) fn goes_straight(&mut self) -> bool {
        if !self.ring.is_open() {
            if self.streak >= PATIENCE {
                self.patience = PATIENCE;
            }
            return true;
        }
        let closed = self.streak >= self.patience && self.ring.runs_out();
        if closed {
            self.streak = 0;
        }
        closed
    }

    /// What the next message from a rank will be if it is like one before it that is `wanted`: as what it is asked for, its head and length.
    #[inline(always)]
    pub(crate) fn expected(
        &self,
        from: usize,
        wanted: impl Fn(&SlotHead, usize) -> bool,
    ) -> Option<(Expected, &SlotHead, usize)> {
        let came = self.came.get(from)?.as_ref()?;
        let (sort, head, len) = came.expected(wanted)?;
        Some((Expected(sort), head, len))
    }

    /// Asks for the next message of a rank straight, as what is expected of it. It must be so that [`Fabric::goes_straight`].
    ///
    /// # Safety
    /// There is room for the `len` bytes of what is expected at `to`, which are nobody else's until [`Fabric::receive_straight`] has given the message, or nothing.
    #[inline(always)]
    pub(crate) unsafe fn ask(
        &self,
        from: usize,
        (Expected(sort), len): (Expected, usize),
        to: *mut u8,
    ) -> Asked {
        Asked {
            // SAFETY: the caller's promise.
            request: unsafe { self.mpi.receive_numbered(from, sort.tag(), to, len) },
            from,
            sort,
            len,
        }
    }

    /// Receives what was asked for, if it comes by the last of so many looks, which is asked after the first, and before a message that nobody asked for is seen
    /// there: `aside`, one of another rank is looked for at first, and [`Fabric::saw_another`] tells of it.
    #[inline(always)]
    pub(crate) fn receive_straight(
        &mut self,
        asked: Asked,
        looks: impl FnOnce() -> u32,
        aside: bool,
    ) -> Straight {
        let Asked {
            mut request,
            from,
            sort,
            len,
        } = asked;
        // Counted before it is there: who waits has the time, and whom it answers has not.
        self.streak += 1;
        if let Some(Some(came)) = self.came.get_mut(from) {
            came.take(sort, len);
        }
        let other = aside && self.is_another_there(from);
        self.saw_another = other;
        if !other && self.mpi.is_over(&mut request) {
            return Straight::Here;
        }
        // There is time for that now.
        self.lets_go();
        if !other && self.comes_soon(&request, from, looks()) {
            self.done = Some(request);
            return Straight::Here;
        }
        self.takes_back(request, from, len)
    }

    /// Whether a message of another rank than this one is the first that nobody asked for, or one behind which others may be: the offer of what was taken before.
    #[cold]
    fn is_another_there(&self, than: usize) -> bool {
        let first = self.mpi.first_unasked();
        first.is_some_and(|(from, tag)| from != than || tag == Sort::Offer.tag())
    }

    /// Whether what was asked for comes by the last of so many looks, after the first, and before something else from there. On its own, so that a look is short.
    #[inline(never)]
    fn comes_soon(&self, request: &Request, from: usize, looks: u32) -> bool {
        for look in 2..=looks {
            if self.mpi.is_here(request) {
                return true;
            }
            if look % ASIDE == 0 && self.mpi.is_there(Some(from)) {
                return false;
            }
        }
        false
    }

    /// What was asked for is not there yet.
    #[cold]
    #[inline(never)]
    fn takes_back(&mut self, mut request: Request, from: usize, len: usize) -> Straight {
        let taken_back = self.mpi.take_back(&mut request);
        if let Some(Some(_)) = taken_back {
            return Straight::Here;
        }
        self.streak -= 1;
        if taken_back.is_none() {
            return Straight::UnderWay(Part::lent(request, len));
        }
        if let Some(Some(came)) = self.came.get_mut(from) {
            came.put_back();
        }
        self.was_straight();
        Straight::Nothing
    }

    /// Whether the last straight receive saw a message of another rank. Its own message may have been there all the same.
    pub(crate) fn saw_another(&self) -> bool {
        self.saw_another
    }

    /// What was expected did not come: how much a closed ring was of use tells how soon it is closed again.
    #[cold]
    fn was_straight(&mut self) {
        self.patience = match self.streak {
            ..PATIENCE => (2 * self.patience).min(MOST_PATIENCE),
            _ => PATIENCE,
        };
        self.streak = 0;
    }

    /// Asks for the payload that the next message of a rank offers, as what is expected of it; `None`: there could be others like it, or it is not likely to come.
    ///
    /// # Safety
    /// As for [`Fabric::ask`], until [`Fabric::receive_ahead`] has given something, and the part was seen to be there, if it is one.
    pub(crate) unsafe fn ask_ahead(
        &mut self,
        from: usize,
        (Expected(sort), len): (Expected, usize),
        to: *mut u8,
    ) -> Option<(Part, Number)> {
        let came = self.came.get_mut(from)?.as_mut()?;
        let number = Number::Known(sort.payload()?, came.next_number());
        if !came.asks_ahead() {
            return None;
        }
        // SAFETY: the caller's promise.
        let part = unsafe { self.receive_lent(from, number, to, len) };
        Some((part, number))
    }

    /// Receives what was asked for, if it comes by the last of so many looks, and before another message. It is the next message of that rank then, whether it is
    /// offered later or not.
    pub(crate) fn receive_ahead(
        &mut self,
        from: usize,
        (mut part, number): (Part, Number),
        looks: u32,
    ) -> Straight {
        let mut another = false;
        for look in 1..=looks {
            if self.has_left(&mut part) {
                return self.came_ahead(from, Straight::Here);
            }
            another = look % ASIDE == 0 && self.arrives(1).is_some();
            if another {
                break;
            }
        }
        if another && self.ring_offers() == Some((from, number)) {
            self.ring.pass();
            return self.came_ahead(from, Straight::UnderWay(part));
        }
        match self.mpi.take_back(&mut part.request) {
            Some(Some(_)) => self.came_ahead(from, Straight::Here),
            None => self.came_ahead(from, Straight::UnderWay(part)),
            Some(None) => {
                if let Some(Some(came)) = self.came.get_mut(from) {
                    came.was_ahead(false);
                }
                Straight::Nothing
            }
        }
    }

    /// What was asked for ahead is there, or on its way: its offer need not be waited for.
    fn came_ahead(&mut self, from: usize, straight: Straight) -> Straight {
        if let Some(Some(came)) = self.came.get_mut(from) {
            came.was_ahead(true);
            came.take(Sort::Frame, 0);
        }
        straight
    }

    /// Who offers a payload in the next message of the ring, which is there, and by which number, if its receiver may have asked for it ahead.
    #[cold]
    fn ring_offers(&mut self) -> Option<(usize, Number)> {
        let Arrived { from, tag, bytes } = self.ring.look(&self.mpi, 1)?;
        let (head, body) = self.ring.bytes()[..bytes].split_first_chunk::<HEAD>()?;
        let told = body.get(OFFER - 8..OFFER)?.first_chunk().copied()?;
        Frame::decode(head)
            .ok()
            .filter(|_| tag == Sort::Offer.tag())?;
        Some((from, Number::of_offer(u64::from_le_bytes(told))?))
    }

    /// What has come next, if it is there by the last of so many looks. The offer of a payload that was taken before it is nothing.
    #[inline(always)]
    fn arrives(&mut self, looks: u32) -> Option<Arrived> {
        let arrived = self.ring.look(&self.mpi, looks)?;
        match arrived.tag == Sort::Offer.tag() {
            true => self.arrives_behind(looks),
            false => Some(arrived),
        }
    }

    #[inline(never)]
    fn arrives_behind(&mut self, looks: u32) -> Option<Arrived> {
        while let Some((from, Number::Known(_, message))) = self.ring_offers() {
            let came = self.came.get(from).and_then(Option::as_deref);
            if !came.is_some_and(|came| came.was_taken(message)) {
                break;
            }
            self.ring.pass();
            self.ring.look(&self.mpi, looks)?;
        }
        self.ring.look(&self.mpi, 1)
    }

    /// What both ranks know the payload by that the next message to a rank may offer, of so many bytes and with this head; another one may still be under way by it.
    pub(crate) fn like_before(&self, to: usize, head: &SlotHead, len: usize) -> Option<Number> {
        let sent = self.sent.get(to)?.as_ref()?;
        let number = sent.like_before(head, len)?;
        Some(Number::Known(number, sent.next_number()))
    }

    /// Starts to send a payload by a number that both ranks know, as the next message. It is to be offered by [`Fabric::offer`] if it does not leave, and before anything
    /// else is sent.
    ///
    /// # Safety
    /// As for [`Fabric::send_lent`].
    pub(crate) unsafe fn send_ahead(
        &mut self,
        to: usize,
        number: Number,
        from: *const u8,
        len: usize,
    ) -> Part {
        // SAFETY: the caller keeps the bytes.
        let part = unsafe { self.send_lent(to, number, from, len) };
        self.counts(to);
        part
    }

    /// Whether the payload of the next message to a rank is likely to be asked for before it is offered.
    pub(crate) fn is_awaited(&mut self, to: usize) -> bool {
        let sent = self.sent.get_mut(to).and_then(Option::as_mut);
        sent.is_some_and(|sent| sent.is_awaited())
    }

    /// A payload that was likely to be has been, or has not.
    pub(crate) fn was_awaited(&mut self, to: usize, awaited: bool) {
        if let Some(Some(sent)) = self.sent.get_mut(to) {
            sent.was_awaited(awaited);
        }
    }

    /// Offers the payload that was sent last to a rank, by a number that both know.
    pub(crate) fn offer(&mut self, to: usize, frame: &Frame, body: impl FnOnce(&mut Vec<u8>)) {
        self.send_counted(to, Sort::Offer, Some(frame), body);
    }

    /// The next message to a rank offers a payload of so many bytes with this head.
    pub(crate) fn offers(&mut self, to: usize, head: &SlotHead, len: usize) {
        if let Some(sent) = self.sent.get_mut(to) {
            sent.get_or_insert_default().offers(head, len);
        }
    }

    /// The message that was taken last offers a payload by this number, of so many bytes and with this head.
    pub(crate) fn was_offered(&mut self, from: usize, head: &SlotHead, len: usize, number: Number) {
        if let Some(Some(came)) = self.came.get_mut(from) {
            came.was_offered(head, len, matches!(number, Number::Known(..)));
        }
    }

    /// A receive has met the offer of that payload.
    pub(crate) fn was_matched(&mut self, from: usize, number: Number) {
        if let (Some(Some(came)), Number::Known(..)) = (self.came.get_mut(from), number) {
            came.was_matched();
        }
    }

    /// The short message that comes next, by its sender, head and body, if it is there by the last of so many looks. It stays the next one. `None` too where
    /// something else comes next.
    #[inline(always)]
    pub(crate) fn first_short(&mut self, looks: u32) -> Option<(usize, &SlotHead, &[u8])> {
        let Arrived { from, tag, bytes } = self.arrives(looks)?;
        let came = self.came.get(from)?.as_ref()?;
        let head = came.head_of(came.sort(tag, bytes)?)?;
        Some((from, head, self.ring.bytes().get(..bytes)?))
    }

    /// Is done with the message that [`Fabric::first_short`] gave.
    #[inline]
    pub(crate) fn pass(&mut self) {
        if let Some(Arrived { from, tag, bytes }) = self.ring.look(&self.mpi, 1) {
            if let Some(Some(came)) = self.came.get_mut(from) {
                if let Some(sort) = came.sort(tag, bytes) {
                    came.take(sort, bytes);
                }
            }
            // The longer it is, the more its copy costs.
            self.streak += 1 + (bytes / COSTLY) as u32;
        }
        self.ring.pass();
    }

    /// Takes the next frame: who sent it, the frame if it can be one, and where in the bytes its body is. The bytes are to be given back.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Taken> {
        let Arrived { from, tag, bytes } = self.arrives(1)?;
        self.streak = 0;
        let all = core::mem::take(self.ring.bytes());
        let whole = |came: &mut Option<Box<Incoming>>| {
            let came = came.get_or_insert_default();
            let sort = came.sort(tag, bytes)?;
            if let Some(head) = came.head_of(sort).copied() {
                came.take(sort, bytes);
                let frame = Frame {
                    kind: Kind::Eager,
                    len: bytes,
                    head,
                };
                return Some((frame, 0..bytes));
            }
            let frame = Frame::decode(all.get(..bytes)?.first_chunk()?).ok()?;
            if let Sort::Remembered(place) = sort {
                came.remember(place, &frame.head);
            }
            came.take(sort, frame.len);
            (frame.len == bytes - HEAD && frame.kind != Kind::Data).then_some((frame, HEAD..bytes))
        };
        let frame = self.came.get_mut(from).and_then(whole);
        Some(Taken {
            from,
            frame,
            bytes: all,
        })
    }

    /// Takes the bytes of the frame that [`Fabric::next`] gave last.
    #[inline]
    pub(crate) fn give_back(&mut self, bytes: Vec<u8>) {
        *self.ring.bytes() = bytes;
        self.ring.pass();
    }

    /// Sends a frame; `body` appends what belongs behind its head.
    #[inline]
    pub(crate) fn send(&mut self, to: usize, frame: &Frame, body: impl FnOnce(&mut Vec<u8>)) {
        self.send_copied(to, Sort::Frame, Some(frame), body);
    }

    /// Sends the offer of a payload that goes by this number, or by none yet.
    pub(crate) fn send_offer(
        &mut self,
        to: usize,
        number: Option<Number>,
        frame: &Frame,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let sort = match number {
            Some(Number::Known(..)) => Sort::Offer,
            _ => Sort::Frame,
        };
        self.send_copied(to, sort, Some(frame), body);
    }

    #[inline]
    fn send_copied(
        &mut self,
        to: usize,
        sort: Sort,
        frame: Option<&Frame>,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        self.counts(to);
        self.send_counted(to, sort, frame, body);
    }

    /// One more message goes to a rank.
    #[inline]
    fn counts(&mut self, to: usize) {
        self.sent[to].get_or_insert_default().count();
        self.has_sent();
    }

    #[inline]
    fn send_counted(
        &mut self,
        to: usize,
        sort: Sort,
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
        let request = unsafe { self.mpi.send(to, sort.tag(), bytes.as_ptr(), bytes.len()) };
        self.leaves(request, bytes);
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
        let sent = self.sent[to].get_or_insert_default();
        let (sort, frame_or_none) = match (sent.known(&frame.head, frame.len), lent) {
            (Some(sort), Some(from)) => {
                // SAFETY: the caller keeps the bytes.
                return unsafe { self.send_body(to, sort, from, frame.len, || 1) };
            }
            (Some(sort), None) => (sort, None),
            (None, _) => (sent.remember(&frame.head, frame.len), Some(frame)),
        };
        self.send_copied(to, sort, frame_or_none, body);
        None
    }

    /// As [`Fabric::send_short`], of a message whose head is remembered; `None`: it is not. If its payload has left by the last of so many looks, which is asked
    /// after the first, there is no part.
    ///
    /// # Safety
    /// The `len` bytes at `payload` stay as they are until the part was seen to have left.
    #[inline(always)]
    pub(crate) unsafe fn send_known(
        &mut self,
        to: usize,
        head: &SlotHead,
        payload: *const u8,
        len: usize,
        looks: impl FnOnce() -> u32,
    ) -> Option<Option<Part>> {
        let sort = self.sent.get_mut(to)?.as_mut()?.known(head, len)?;
        // SAFETY: the caller keeps the bytes.
        Some(unsafe { self.send_body(to, sort, payload, len, looks) })
    }

    /// As what the next message to this rank goes that has the head of the one which [`Fabric::send_known`] has just sent there.
    pub(crate) fn next_like(&self, to: usize) -> Option<Next> {
        self.sent.get(to)?.as_ref()?.next()
    }

    /// The same, once a message was sent so, and counted.
    pub(crate) fn renewed(&self, to: usize, next: &Next) -> Option<Next> {
        self.sent.get(to)?.as_ref()?.renewed(next)
    }

    /// How many messages were sent, to any rank. As what the next one goes was worked out for the number of then.
    #[inline(always)]
    pub(crate) fn sends(&self) -> u64 {
        self.sends
    }

    /// Starts to send a message as was worked out since the last one was sent. It must be counted by [`Fabric::count_next`] before anything else is done.
    ///
    /// # Safety
    /// The `len` bytes at `payload` stay as they are until the part was seen to have left.
    #[inline(always)]
    pub(crate) unsafe fn start_next(
        &self,
        to: usize,
        next: &Next,
        payload: *const u8,
        len: usize,
    ) -> Part {
        // SAFETY: the caller keeps the bytes.
        Part::lent(
            unsafe { self.mpi.send(to, next.tag(len), payload, len) },
            len,
        )
    }

    /// As [`Fabric::start_next`], of a copy, so that it is over. False, and nothing was done: MPI reads from enough of them.
    pub(crate) fn start_next_copied(&mut self, to: usize, next: &Next, payload: &[u8]) -> bool {
        if self.leaving.len() >= COPIES {
            self.look_at_sends();
            if self.leaving.len() >= COPIES {
                return false;
            }
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(payload);
        let (tag, len) = (next.tag(bytes.len()), bytes.len());
        // SAFETY: the bytes are on the heap and are kept, untouched, until the send was seen to be over.
        let request = unsafe { self.mpi.send(to, tag, bytes.as_ptr(), len) };
        // Nobody waits for it, and a look before it is over takes as long as the send.
        self.leaving.push_back((request, bytes));
        true
    }

    /// Counts what [`Fabric::start_next`] has sent.
    #[inline]
    pub(crate) fn count_next(&mut self, to: usize, next: &Next, len: usize) {
        if let Some(Some(sent)) = self.sent.get_mut(to) {
            sent.count_next(next, len);
        }
        self.has_sent();
    }

    #[inline(always)]
    fn has_sent(&mut self) {
        self.sends += 1;
    }

    /// A send's part, if it has not left by the last of so many looks, after the first.
    pub(crate) fn leaves_late(&self, mut part: Part, looks: u32) -> Option<Part> {
        for _ in 1..looks {
            if self.has_left(&mut part) {
                return None;
            }
        }
        Some(part)
    }

    /// Has MPI let go of what it has for the last message that was received straight.
    fn lets_go(&mut self) {
        if let Some(mut done) = self.done.take() {
            let over = self.mpi.is_over(&mut done);
            debug_assert!(over, "MPI has said that it is complete");
        }
    }

    /// # Safety
    /// As for [`Fabric::send_known`].
    #[inline(always)]
    unsafe fn send_body(
        &mut self,
        to: usize,
        sort: Sort,
        from: *const u8,
        len: usize,
        looks: impl FnOnce() -> u32,
    ) -> Option<Part> {
        // SAFETY: the caller keeps the bytes.
        let request = unsafe { self.mpi.send(to, sort.tag(), from, len) };
        if let Some(Some(sent)) = self.sent.get_mut(to) {
            sent.count();
        }
        self.has_sent();
        let mut part = Part::lent(request, len);
        match self.has_left(&mut part) {
            true => None,
            false => self.leaves_late(part, looks()),
        }
    }

    /// Looks which frames MPI has let go of. Whether any.
    #[inline(never)]
    pub(crate) fn look_at_sends(&mut self) -> bool {
        let before = self.leaving.len();
        while let Some((request, _)) = self.leaving.front_mut() {
            if !self.mpi.is_over(request) {
                break;
            }
            self.spare
                .extend(self.leaving.pop_front().map(|(_, bytes)| bytes));
        }
        self.leaving.len() < before
    }

    /// Whether anything can be received.
    pub(crate) fn is_open(&self) -> bool {
        self.ring.has_slots()
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
                Number::Following(_) | Number::Known(..) => {
                    self.mpi.send_matched(to, number.tag(), from, len)
                }
            }
        };
        Part::lent(request, len)
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
        // SAFETY: the caller keeps the bytes.
        let request = unsafe { self.mpi.receive_own(from, number.tag(), to, len) };
        Part::lent(request, len)
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
        part.over = self.mpi.is_over(&mut part.request);
        part.over
    }

    /// Whether a part is there, and how many bytes came.
    pub(crate) fn is_there(&self, part: &mut Part) -> Option<usize> {
        if part.over {
            return Some(part.len);
        }
        let arrived = self.mpi.received(&mut part.request)?;
        part.over = true;
        Some(arrived.bytes)
    }

    /// Leaves MPI, when nothing is under way. All ranks do.
    pub(crate) fn finish(mut self) {
        self.lets_go();
        self.ring.finish(&self.mpi);
        if let Some((_, request)) = self.credit.take() {
            self.mpi.free(request, true);
        }
        self.mpi.finish();
    }
}

/// Without [`Fabric::finish`] MPI may still write to, or read from, what it was given: then that is never freed.
impl Drop for Fabric {
    fn drop(&mut self) {
        core::mem::forget(core::mem::take(&mut self.leaving));
        core::mem::forget(self.credit.take());
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
