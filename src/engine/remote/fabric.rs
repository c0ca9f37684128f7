//! Ranks that are reached through the system's MPI: the engine's messages as frames of it, and long payloads straight between the users' memories.
//! transport/mpi/README.md has the protocol.
use super::super::protocol::{CTS, EAGER_COST, FLAG_FOLLOWS, id_of};
use super::super::requests::{Receive, RecvPhase, Send, SendPhase, State as Request};
use super::super::state::{Link, State, corrupt};
use super::super::{
    Comm, Engine, Peer, RecvSpan, RequestId, SendMode, SendSpan, aborted, protocol, receive_of,
};
use super::outgoing::{append, head_for, head_of};
use super::plain;
use crate::job::RankState;
use crate::model::error::Result;
use crate::model::{Envelope, Site, Status, TypeCode};
use crate::transport::mpi::{
    AHEAD, EAGER, Fabric, HELD, Next, Number, Numbers, PART, Part, Straight,
};
use crate::transport::shm::{CONTROL, SMALL, SlotHead};
use crate::transport::tcp::credit::Given;
use crate::transport::tcp::frame::{Frame, Kind, OFFER};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Eager bytes that may lie unmatched at a receiver for each sender.
pub(super) const CREDIT: u64 = 4 * 1024 * 1024;
/// Frames that are handled before anything else is looked at.
const BATCH: usize = 32;
/// Looks for a short message before a receive takes the general way; each is a call of MPI.
const SOON: u32 = 100;
/// The same where its memory is MPI's meanwhile, and where a send's is: a longer one of them takes 4 µs here.
const STRAIGHT: u32 = 400;
/// One in so many of these a sender waits before it offers what its receiver is likely to have asked for: 30 µs at 64 KiB, which take 8 here. A longer one than
/// this is offered at once, which costs less than a hundredth of its time.
const EARLY: u32 = 4;
const LONGEST_EARLY: usize = 256 * 1024;
/// A rank with a payload under way does not sleep before so much time has passed without any news of it: an MPI moves bytes only while it is called.
const MOVING: Duration = Duration::from_millis(10);
/// Payloads of blocking sends up to this are copied where MPI keeps them for long, so many of them before one is lent again. Half a round trip over Open MPI 4.1, near,
/// of lent and of copied ones: 512 B 275 and 258 ns, 1 KiB 291 and 297, 2 KiB 369 and 401.
const COPIED: usize = 512;
const COPIES: u32 = 256;
/// How long a blocked rank sleeps between two looks: nothing wakes it when a message comes.
const NAP: Duration = Duration::from_micros(100);

/// A long payload that comes.
struct Coming {
    id: RequestId,
    from: usize,
    /// None of a message that is one part which was asked for before it was seen.
    number: Option<Number>,
    total: usize,
    /// Bytes for which receives are posted, and bytes that are there.
    asked: usize,
    got: usize,
    parts: VecDeque<Part>,
}

/// A long payload that goes.
struct Going {
    id: RequestId,
    to: usize,
    /// None of a short message, which is one part.
    number: Option<Number>,
    total: usize,
    at: usize,
    parts: VecDeque<Part>,
}

/// All that makes a message's head, the site by its address, and the rank it goes to. (Whose rank sends it follows from the context.)
#[derive(Clone, Copy)]
struct Like {
    to: usize,
    code: u64,
    site: usize,
    context: u32,
    tag: i32,
    mode: SendMode,
}

impl Like {
    #[inline(always)]
    fn of(comm: &Comm, to: usize, tag: i32, span: &SendSpan, mode: SendMode, site: Site) -> Like {
        Like {
            to,
            code: span.code().0,
            site: core::ptr::from_ref(site).addr(),
            context: comm.context(),
            tag,
            mode,
        }
    }

    /// All fields are looked at: that costs less than to guess whether the next one needs to be.
    #[inline(always)]
    fn is(&self, other: &Like) -> bool {
        (self.to == other.to)
            & (self.code == other.code)
            & (self.site == other.site)
            & (self.context == other.context)
            & (self.tag == other.tag)
            & (self.mode == other.mode)
    }
}

/// A blocking send like the one before, worked out ahead.
struct Ready {
    like: Like,
    /// The site's id.
    site: u32,
    /// Shorter ones than this may go so: credit, and what travels with its envelope ([`EAGER`]), allow no more.
    shorter: usize,
    /// It holds as long as no more messages than these were sent.
    sends: u64,
    next: Next,
    /// So many more payloads are to be copied: MPI did not let go of one at once.
    copies: u32,
}

/// What a rank has under way through the system's MPI.
pub(crate) struct Mpi {
    pub(super) fabric: Fabric,
    ready: Option<Ready>,
    coming: Vec<Coming>,
    /// Numbers that senders are granted, and those that this rank's payloads follow by.
    grants: Numbers,
    follows: Numbers,
    /// Receives whose grant waits for a number: sender's request, receive, sender.
    waiting: VecDeque<(RequestId, RequestId, usize)>,
    going: Vec<Going>,
    /// When a payload last began, or went on.
    moved: Instant,
}

impl Mpi {
    /// Ranks are reached through `mpi`; nothing is posted there unless some are (`all_near`).
    pub(crate) fn over(mpi: crate::sys::mpi::Mpi, all_near: bool) -> Mpi {
        let fabric = Fabric::over(mpi, !all_near);
        Mpi {
            fabric,
            ready: None,
            coming: Vec::new(),
            grants: Numbers::default(),
            follows: Numbers::default(),
            waiting: VecDeque::new(),
            going: Vec::new(),
            moved: Instant::now(),
        }
    }

    /// Whether payloads are under way, for which MPI may need this rank's processor.
    pub(in super::super) fn is_moving(&self) -> bool {
        !self.is_still() && self.moved.elapsed() < MOVING
    }

    /// Whether no payload is under way.
    fn is_still(&self) -> bool {
        self.coming.is_empty() && self.going.is_empty()
    }

    /// Leaves MPI, when nothing is under way.
    pub(super) fn leave(self) {
        self.fabric.finish();
    }

    /// How long a rank that waits for it may sleep at a time.
    pub(in super::super) fn nap(&self) -> Option<Duration> {
        self.fabric.is_open().then_some(NAP)
    }

    /// Whether a rank is to be told how many of its messages were taken.
    #[inline]
    pub(super) fn is_to_tell(&self, from: usize) -> bool {
        self.fabric.is_to_tell(from)
    }

    /// By which number a payload of so many bytes is to follow the offer with this head, which is the next message to this rank; `None`: none is free.
    fn follows_by(&mut self, to: usize, head: &SlotHead, len: usize) -> Option<Number> {
        let number = self.follows.take()?;
        let known = self.is_known(to, head, len);
        if len > EAGER {
            self.fabric.offers(to, head, len);
        }
        if known.is_some() {
            self.follows.give_back(number);
        }
        known.or(Some(Number::Following(number)))
    }

    /// By which number the receiver can know such a payload before it is offered, if it can.
    fn is_known(&self, to: usize, head: &SlotHead, len: usize) -> Option<Number> {
        let known = self.fabric.like_before(to, head, len)?;
        let is_its = |going: &Going| {
            going.to == to && going.number.is_some_and(|number| number.is_as(known))
        };
        let is_one_part = (EAGER + 1..=PART).contains(&len);
        (is_one_part && !self.going.iter().any(is_its)).then_some(known)
    }

    /// Tells a rank how many bytes it may send in all.
    pub(super) fn tell(&mut self, to: usize, allowed: u64) {
        self.fabric.tell(to, allowed);
    }

    /// A rank says goodbye, and how often it has told credit.
    pub(super) fn has_told(&mut self, from: usize, times: u32) {
        self.fabric.has_told(from, times);
    }

    /// Whether frames are under way that nobody's request stands for.
    pub(super) fn owes(&self) -> bool {
        self.fabric.owes()
    }
}

/// A message that a receive has got, in few words.
#[derive(Clone, Copy)]
pub(in super::super) struct Came {
    source: u32,
    tag: i32,
    bytes: usize,
}

impl Came {
    #[inline(always)]
    pub(super) fn of(head: &SlotHead, bytes: usize) -> Came {
        Came {
            source: head.source,
            tag: head.tag,
            bytes,
        }
    }

    #[inline(always)]
    pub(in super::super) fn status(self) -> Status {
        Status {
            source: Some(self.source as usize),
            tag: Some(self.tag),
            bytes: self.bytes as u64,
            cancelled: false,
        }
    }
}

/// What an offer says behind its head.
fn offer(bytes: u64, answer: u64) -> impl FnOnce(&mut Vec<u8>) {
    move |out| {
        out.extend(bytes.to_le_bytes());
        out.extend(answer.to_le_bytes());
    }
}

/// Looks for a message of so many bytes where its memory is MPI's meanwhile.
#[inline(always)]
fn looks(bytes: usize) -> u32 {
    STRAIGHT + (bytes / 64) as u32
}

/// Whether a message with this head and of so many bytes is what a receive wants, and has room there.
#[inline(always)]
fn fits(head: &SlotHead, len: usize, comm: &Comm, tag: Option<i32>, span: &RecvSpan) -> bool {
    head.context == comm.context()
        && tag.is_none_or(|tag| tag == head.tag)
        && len <= span.len()
        && TypeCode(head.code).goes_with(span.code())
}

/// What became of a receive of the next message.
pub(in super::super) enum Soon {
    Here(Came),
    /// It is on its way: this receive gets it.
    Comes(RequestId),
}

/// What is left to do after [`State::receive_again`], in so few words that they need no memory.
#[derive(Clone, Copy)]
pub(in super::super) enum Left {
    /// The message is on its way to this receive.
    Comes(RequestId),
    /// It was waited for in vain.
    Waited,
    Everything,
}

/// The message that came, or what is left to do.
#[inline(always)]
fn came(again: Option<Option<Soon>>) -> core::result::Result<Came, Left> {
    match again {
        Some(Some(Soon::Here(came))) => Ok(came),
        Some(Some(Soon::Comes(request))) => Err(Left::Comes(request)),
        Some(None) => Err(Left::Waited),
        None => Err(Left::Everything),
    }
}

/// Whether the payload of so many bytes is to get into the receive's memory.
fn wants(receive: &Receive, total: usize) -> bool {
    receive.refused.is_none() && total <= receive.span.len()
}

impl State {
    /// Ranks of other hosts are reached through `mpi` from here on.
    pub(in super::super) fn join_mpi(&mut self, mpi: Box<Mpi>) {
        if !mpi.fabric.is_open() {
            self.parked_mpi = Some(mpi);
            return;
        }
        for link in &mut self.links {
            if let Some(remote) = &mut link.remote {
                remote.promises_goodbye = true;
                remote.given = Given::new(CREDIT);
                remote.allowed = CREDIT;
            }
        }
        self.mpi = Some(mpi);
    }

    /// Sends a message as the blocking send before it, if it is like that one and nothing stands in its way. `note` is told the site's id before it goes. What
    /// is left to do, if it has not left, is to be done by [`State::leaves`].
    #[inline(always)]
    pub(in super::super) fn send_again(
        &mut self,
        (comm, world): (&Comm, usize),
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
        note: impl FnOnce(u32),
    ) -> Option<Option<Part>> {
        let mpi = self.mpi.as_deref()?;
        let payload = span.contiguous_ptr()?;
        let ready = mpi.ready.as_ref()?;
        let len = span.len();
        if !ready.like.is(&Like::of(comm, world, tag, span, mode, site))
            || ready.sends != mpi.fabric.sends()
            || len >= ready.shorter
            || len > EAGER
        {
            return None;
        }
        note(ready.site);
        if ready.copies > 0 {
            return self.send_copied_again(payload, len);
        }
        // SAFETY: the payload is lent until the send is over; it is over when the part has left.
        let leaving = unsafe { mpi.fabric.start_next(world, &ready.next, payload, len) };
        self.sent_again(leaving)
    }

    /// What is left to do when the send that was worked out has been started.
    #[inline(always)]
    fn sent_again(&mut self, mut leaving: Part) -> Option<Option<Part>> {
        // While it leaves.
        self.sent_as_ready(leaving.len);
        let left = |mpi: &Mpi| mpi.fabric.has_left(&mut leaving);
        match self.mpi.as_deref().is_some_and(left) {
            true => Some(None),
            false => Some(self.leaves_late(leaving)),
        }
    }

    /// As [`State::send_again`], after the like of which MPI did not let go of a payload at once: of a copy, as what MPI waits for would delay the receive of the
    /// answer.
    #[inline(never)]
    fn send_copied_again(&mut self, payload: *const u8, len: usize) -> Option<Option<Part>> {
        let mpi = self.mpi.as_deref_mut()?;
        let ready = mpi.ready.as_mut()?;
        ready.copies -= 1;
        let (to, next) = (ready.like.to, &ready.next);
        // SAFETY: the payload is lent for the length of the call.
        let bytes = unsafe { core::slice::from_raw_parts(payload, len) };
        if len <= COPIED && mpi.fabric.start_next_copied(to, next, bytes) {
            self.sent_as_ready(len);
            return Some(None);
        }
        // SAFETY: the payload is lent until the send is over; it is over when the part has left.
        let leaving = unsafe { mpi.fabric.start_next(to, next, payload, len) };
        self.sent_again(leaving)
    }

    /// A message was sent as was worked out. Works out how the next one goes.
    #[inline(never)]
    fn sent_as_ready(&mut self, len: usize) {
        let Some(mpi) = self.mpi.as_deref_mut() else {
            return;
        };
        let Some(ready) = &mut mpi.ready else {
            return;
        };
        let to = ready.like.to;
        mpi.fabric.count_next(to, &ready.next, len);
        self.charge(to, (len as u64).max(EAGER_COST));
        self.get_ready();
    }

    /// A message that had not left at the first look.
    #[cold]
    #[inline(never)]
    fn leaves_late(&mut self, leaving: Part) -> Option<Part> {
        let most = looks(leaving.len).min(self.waiter.first_polls());
        let Some(mpi) = self.mpi.as_deref_mut() else {
            return Some(leaving);
        };
        if let Some(ready) = mpi.ready.as_mut().filter(|_| leaving.len <= COPIED) {
            ready.copies = COPIES;
        }
        mpi.fabric.leaves_late(leaving, most)
    }

    /// A message has been sent that costs so much. Hears credit if that is used up soon.
    #[inline(always)]
    fn charge(&mut self, to: usize, cost: u64) {
        let (Some(link), Some(mpi)) = (self.links.get_mut(to), &self.mpi) else {
            return;
        };
        link.charged += cost;
        let allowed = link.remote.as_ref().map_or(0, |remote| remote.allowed);
        if mpi.fabric.is_far_ahead(to) || link.charged + CREDIT / 2 > allowed {
            self.hear_credit();
        }
    }

    /// Works out how the next send goes that is like the one before.
    #[inline]
    fn get_ready(&mut self) {
        let Some(mpi) = self.mpi.as_deref_mut() else {
            return;
        };
        let Some(ready) = &mut mpi.ready else {
            return;
        };
        let to = ready.like.to;
        let Some(next) = mpi.fabric.renewed(to, &ready.next) else {
            mpi.ready = None;
            return;
        };
        let allowed = |link: &Link| {
            let remote = link.remote.as_ref()?;
            Some(remote.allowed.saturating_sub(link.charged))
        };
        ready.shorter = match self.links.get(to).and_then(allowed) {
            Some(left) if left >= EAGER_COST => left.min(EAGER as u64) as usize + 1,
            _ => 0,
        };
        ready.sends = mpi.fabric.sends();
        ready.next = next;
    }

    /// Whether so short a message to another rank may go by [`State::send_soon`].
    #[inline(always)]
    pub(in super::super) fn sends_soon(&self, to: usize, len: usize) -> bool {
        let far = |link: &Link| link.remote.is_some();
        len <= PART && self.mpi.is_some() && self.links.get(to).is_some_and(far)
    }

    /// Sends a message whose like was sent before, if its way is MPI and nothing stands in it. `Some(None)`: it has left.
    #[inline(always)]
    pub(in super::super) fn send_soon(
        &mut self,
        to: usize,
        envelope: Envelope,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Option<Option<RequestId>> {
        if span.len() > EAGER {
            return self.send_ahead(to, envelope, span, mode, site);
        }
        let (mpi, payload) = (self.mpi.as_mut()?, span.contiguous_ptr()?);
        let link = self.links.get_mut(to)?;
        let cost = (span.len() as u64).max(EAGER_COST);
        let allowed = link.remote.as_ref()?.allowed;
        if link.charged + cost > allowed {
            return None;
        }
        let waiter = &self.waiter;
        // SAFETY: the payload is lent until the send is over; it is over when the part has left.
        let part = unsafe {
            let head = head_of(&envelope);
            let most = || looks(span.len()).min(waiter.first_polls());
            mpi.fabric.send_known(to, &head, payload, span.len(), most)
        }?;
        let like = Like {
            to,
            code: envelope.code.0,
            site: core::ptr::from_ref(site).addr(),
            context: envelope.context,
            tag: envelope.tag,
            mode,
        };
        mpi.ready = mpi.fabric.next_like(to).map(|next| Ready {
            like,
            site: envelope.site,
            shorter: 0,
            sends: 0,
            next,
            copies: 0,
        });
        self.charge(to, cost);
        self.get_ready();
        match part {
            None => Some(None),
            Some(part) => Some(Some(self.leaves(
                to,
                envelope,
                span.clone(),
                mode,
                site,
                (None, part),
            ))),
        }
    }

    /// Sends the payload of a message like one before, and then its offer: the receiver may have asked for it.
    #[inline(never)]
    fn send_ahead(
        &mut self,
        to: usize,
        envelope: Envelope,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Option<Option<RequestId>> {
        let (payload, len) = (span.contiguous_ptr()?, span.len());
        let mut frame = Frame {
            kind: Kind::Offer,
            len: OFFER,
            head: head_of(&envelope),
        };
        self.hear_if_far_ahead(to);
        let mpi = self.mpi.as_deref_mut()?;
        let number = mpi.is_known(to, &frame.head, len)?;
        let awaited = len <= LONGEST_EARLY && mpi.fabric.is_awaited(to);
        // SAFETY: the payload is lent until the send is over; it is over when the part has left.
        let mut part = unsafe { mpi.fabric.send_ahead(to, number, payload, len) };
        let polls = self.waiter.first_polls();
        if awaited {
            // One that is asked for has left as soon as it has been copied: then it is nothing that anybody needs to be told of.
            let mut early = 0..looks(len).min(polls) / EARLY;
            let left = early.any(|_| mpi.fabric.has_left(&mut part));
            mpi.fabric.was_awaited(to, left);
            if left {
                return Some(None);
            }
        }
        frame.head.flags |= FLAG_FOLLOWS;
        let told = offer(envelope.bytes, number.told());
        mpi.fabric.offer(to, &frame, told);
        let Some(part) = mpi.fabric.leaves_late(part, looks(len).min(polls)) else {
            return Some(None);
        };
        let part = (Some(number), part);
        Some(Some(self.leaves(
            to,
            envelope,
            span.clone(),
            mode,
            site,
            part,
        )))
    }

    /// Hears what was taken of what was sent to a rank, if that is time.
    fn hear_if_far_ahead(&mut self, to: usize) {
        let is_far = |mpi: &Mpi| mpi.fabric.is_far_ahead(to);
        if self.mpi.as_deref().is_some_and(is_far) {
            self.hear_credit();
        }
    }

    /// Hears what other ranks allow.
    #[cold]
    fn hear_credit(&mut self) {
        let Some(mpi) = &mut self.mpi else { return };
        while let Some((from, allowed)) = mpi.fabric.hear() {
            let link = self.links.get_mut(from);
            if let Some(remote) = link.and_then(|link| link.remote.as_mut()) {
                // Nonsense harms only the bound on the other's memory.
                remote.allowed = remote.allowed.max(allowed);
            }
        }
    }

    /// Starts a send; `None` if it is over already.
    pub(super) fn start_mpi_send(
        &mut self,
        to: usize,
        envelope: Envelope,
        span: SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Option<RequestId> {
        let len = span.len();
        let cost = (len as u64).max(EAGER_COST);
        let mut frame = Frame {
            kind: Kind::Eager,
            len,
            head: head_of(&envelope),
        };
        let may = |link: &Link| {
            let remote = link.remote.as_ref();
            remote.is_some_and(|remote| link.charged + cost <= remote.allowed)
        };
        if !may(&self.links[to]) {
            self.hear_credit();
        }
        self.hear_if_far_ahead(to);
        let link = &mut self.links[to];
        if mode != SendMode::Synchronous && len <= EAGER && may(link) {
            link.charged += cost;
            // What is small is copied, so that its send is over at once.
            let lent = span.contiguous_ptr().filter(|_| len > SMALL);
            // SAFETY: the payload is lent until the send is over; it is over when the part has left.
            let part = unsafe {
                let fabric = &mut self.mpi.as_mut()?.fabric;
                fabric.send_short(to, &frame, lent, |out| append(out, &span, 0, len))
            };
            return part.map(|part| self.leaves(to, envelope, span, mode, site, (None, part)));
        }
        let send = Send {
            envelope,
            to,
            span,
            mode,
            phase: SendPhase::Offered,
            site,
        };
        let id = self.requests.add(Request::Send(Box::new(send)));
        (frame.kind, frame.len) = (Kind::Offer, OFFER);
        let number = match len {
            ..=HELD => None,
            _ => self
                .mpi
                .as_mut()
                .and_then(|mpi| mpi.follows_by(to, &frame.head, len)),
        };
        // A receiver that knows the number has asked for the payload, and waits for that.
        if let Some(number @ Number::Known(..)) = number {
            self.begin_to_send(id, to, number, len);
        }
        if number.is_some() {
            frame.head.flags |= FLAG_FOLLOWS;
        }
        let answer = number.map_or(id.number(), Number::told);
        if let Some(mpi) = &mut self.mpi {
            let told = offer(envelope.bytes, answer);
            mpi.fabric.send_offer(to, number, &frame, told);
        }
        if let Some(number @ Number::Following(_)) = number {
            self.begin_to_send(id, to, number, len);
        }
        Some(id)
    }

    /// A message has been sent, by this number if it is a long one, and MPI has not let go of its payload, which is one part.
    #[cold]
    pub(in super::super) fn leaves(
        &mut self,
        to: usize,
        envelope: Envelope,
        span: SendSpan,
        mode: SendMode,
        site: Site,
        (number, part): (Option<Number>, Part),
    ) -> RequestId {
        let total = span.len();
        let send = Send {
            envelope,
            to,
            span,
            mode,
            phase: SendPhase::Leaving { left: total },
            site,
        };
        let id = self.requests.add(Request::Send(Box::new(send)));
        if let Some(mpi) = &mut self.mpi {
            mpi.moved = Instant::now();
            mpi.going.push(Going {
                id,
                to,
                number,
                total,
                at: total,
                parts: VecDeque::from([part]),
            });
        }
        id
    }

    /// The payload of a send leaves from here on.
    fn begin_to_send(&mut self, id: RequestId, to: usize, number: Number, total: usize) {
        if let Some(mpi) = &mut self.mpi {
            mpi.moved = Instant::now();
            mpi.going.push(Going {
                id,
                to,
                number: Some(number),
                total,
                at: 0,
                parts: VecDeque::new(),
            });
            let last = mpi.going.len() - 1;
            self.send_parts(last);
        }
    }

    pub(super) fn send_frame(&mut self, to: usize, frame: &Frame, body: impl FnOnce(&mut Vec<u8>)) {
        if let Some(mpi) = &mut self.mpi {
            mpi.fabric.send(to, frame, body);
        }
    }

    /// An answer to a sender: `CTS` becomes `GRANT`, as soon as there is a number, `DONE` stays.
    pub(super) fn push_mpi_control(
        &mut self,
        to: usize,
        head: SlotHead,
        body: [u8; CONTROL],
    ) -> Result<()> {
        let request = super::super::protocol::address_of(&head);
        if head.kind != CTS {
            self.send_frame(to, &plain(Kind::Done, head_for(request, 0)), |_| {});
            return Ok(());
        }
        if let Some(mpi) = &mut self.mpi {
            mpi.waiting.push_back((request, id_of(&body), to));
        }
        self.grant_numbers();
        Ok(())
    }

    /// Gives numbers to the receives that wait for one, posts them, and tells their senders.
    fn grant_numbers(&mut self) {
        while let Some(mpi) = self.mpi.as_mut().filter(|mpi| !mpi.waiting.is_empty()) {
            let Some(number) = mpi.grants.take() else {
                return;
            };
            let Some((request, id, from)) = mpi.waiting.pop_front() else {
                return;
            };
            let message = self
                .requests
                .receive(id)
                .and_then(|receive| receive.message);
            let Some((envelope, _)) = message else {
                if let Some(mpi) = &mut self.mpi {
                    mpi.grants.give_back(number);
                }
                continue;
            };
            self.begin_to_receive(id, from, Number::Granted(number), envelope.bytes as usize);
            let grant = plain(Kind::Grant, head_for(request, number as u64));
            self.send_frame(from, &grant, |_| {});
        }
    }

    /// A receive has been matched with a message whose payload follows.
    pub(in super::super) fn follow(
        &mut self,
        id: RequestId,
        from: usize,
        number: Number,
        total: usize,
    ) {
        if let Some(mpi) = &mut self.mpi {
            mpi.fabric.was_matched(from, number);
        }
        self.begin_to_receive(id, from, number, total);
        self.tell_through_mpi(from);
    }

    /// An offer was taken whose payload goes by this number.
    pub(super) fn was_offered(&mut self, from: usize, envelope: &Envelope, number: Number) {
        if let Some(mpi) = &mut self.mpi {
            if envelope.bytes > EAGER as u64 {
                let (head, len) = (head_of(envelope), envelope.bytes as usize);
                mpi.fabric.was_offered(from, &head, len, number);
            }
        }
    }

    /// The payload of a receive comes from here on.
    fn begin_to_receive(&mut self, id: RequestId, from: usize, number: Number, total: usize) {
        if let Some(receive) = self.requests.receive(id) {
            receive.phase = RecvPhase::Coming { got: 0 };
        }
        if let Some(mpi) = &mut self.mpi {
            mpi.moved = Instant::now();
            mpi.coming.push(Coming {
                id,
                from,
                number: Some(number),
                total,
                asked: 0,
                got: 0,
                parts: VecDeque::new(),
            });
            let last = mpi.coming.len() - 1;
            self.ask_for_parts(last);
        }
    }

    /// Posts receives for the next parts.
    fn ask_for_parts(&mut self, index: usize) {
        let Some(mpi) = &mut self.mpi else { return };
        let Mpi { fabric, coming, .. } = &mut **mpi;
        let coming = &mut coming[index];
        let Some(receive) = self.requests.receive(coming.id) else {
            return;
        };
        let Some(number) = coming.number else { return };
        // What is refused, or does not fit, is thrown away.
        let lent = receive
            .span
            .contiguous_ptr()
            .filter(|_| wants(receive, coming.total));
        while coming.parts.len() < AHEAD && coming.asked < coming.total {
            let (at, len) = (coming.asked, (coming.total - coming.asked).min(PART));
            let part = match lent {
                // SAFETY: bytes `at..at + len` are inside of the receive's memory, which is lent until it is over; it is over when all parts are there.
                Some(first) => unsafe {
                    fabric.receive_lent(coming.from, number, first.add(at), len)
                },
                None => fabric.receive_packed(coming.from, number, len),
            };
            coming.parts.push_back(part);
            coming.asked += len;
        }
    }

    /// `GRANT`: the receive is matched, the payload may go.
    pub(super) fn arrive_mpi_grant(
        &mut self,
        from: usize,
        id: RequestId,
        number: u64,
    ) -> Result<()> {
        let total = match self.requests.send(id) {
            Some(send) if send.to == from && matches!(send.phase, SendPhase::Offered) => {
                let total = send.span.len();
                send.phase = SendPhase::Leaving { left: total };
                total
            }
            _ => return Err(corrupt(from, "an answer to a send that is not under way")),
        };
        let Some(number) = Number::of_grant(number) else {
            return Err(corrupt(
                from,
                "an answer with a number that no receiver gives",
            ));
        };
        self.begin_to_send(id, from, number, total);
        Ok(())
    }

    /// Starts to send the next parts of a payload that goes.
    fn send_parts(&mut self, index: usize) {
        let Some(mpi) = &mut self.mpi else { return };
        let Mpi { fabric, going, .. } = &mut **mpi;
        let going = &mut going[index];
        let Some(send) = self.requests.send(going.id) else {
            return;
        };
        let Some(number) = going.number else { return };
        while going.parts.len() < AHEAD && going.at < going.total {
            let (at, len) = (going.at, (going.total - going.at).min(PART));
            let part = match send.span.contiguous_ptr() {
                // SAFETY: bytes `at..at + len` are inside of the payload, which is lent until the send is over; it is over when all parts have left.
                Some(first) => unsafe { fabric.send_lent(going.to, number, first.add(at), len) },
                None => {
                    let mut bytes = Vec::with_capacity(len);
                    append(&mut bytes, &send.span, at, len);
                    fabric.send_packed(going.to, number, bytes)
                }
            };
            going.parts.push_back(part);
            going.at += len;
        }
    }

    /// Receives the next message that comes through MPI, if it is there or comes soon, is the one that is wanted, and is short. The caller has seen that nothing
    /// else could match it. Where something else comes, that stays for the next progress. `due`: everything else is to get its progress now, which it gets here
    /// if that is soon done.
    #[inline(always)]
    pub(in super::super) fn receive_soon(
        &mut self,
        world: usize,
        (comm, from, tag): (&Comm, Peer, Option<i32>),
        span: &RecvSpan,
        site: Site,
        due: bool,
    ) -> Option<Result<Soon>> {
        let straight = self.mpi.as_mut()?.fabric.goes_straight();
        if due {
            match self.progress_beside(straight) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        if straight {
            let soon = self.receive_straight(world, (comm, from, tag), span, site, due, |_| {})?;
            // Where the message was there already nothing was taken back, and who else has sent something gets a turn now: a rank that sends without end would
            // be all that is heard otherwise.
            let turn = due && soon.is_some();
            if turn
                && self
                    .mpi
                    .as_ref()
                    .is_some_and(|mpi| mpi.fabric.saw_another())
            {
                if let Err(error) = self.progress_mpi() {
                    return Some(Err(error));
                }
            }
            return soon.map(Ok);
        }
        let mpi = self.mpi.as_mut()?;
        let polls = self.waiter.first_polls();
        let (sender, head, body) = mpi.fabric.first_short(polls.min(SOON))?;
        let len = body.len();
        if sender != world || !fits(head, len, comm, tag, span) {
            return None;
        }
        let came = Came::of(head, len);
        span.fill_at(0, body);
        mpi.fabric.pass();
        self.count_mpi_matched(world, len);
        self.tell_through_mpi(world);
        Some(Ok(Soon::Here(came)))
    }

    /// As [`State::receive_soon`], where nothing else is due, and if the message can be received straight; `note` is called before it is waited for.
    #[inline(always)]
    pub(in super::super) fn receive_again(
        &mut self,
        world: usize,
        what: (&Comm, Peer, Option<i32>),
        span: &RecvSpan,
        site: Site,
        note: impl Fn(&mut State),
    ) -> core::result::Result<Came, Left> {
        let mpi = self.mpi.as_mut().ok_or(Left::Everything)?;
        if mpi.fabric.goes_straight() {
            let soon = self.receive_straight(world, what, span, site, false, &note);
            if let Some(soon) = soon {
                return came(Some(soon));
            }
        }
        came(self.receive_ahead(world, what, span, site, &note))
    }

    /// Receives the payload of a message that is likely to be offered, into the receive's memory, before it is known to be.
    #[inline(never)]
    fn receive_ahead(
        &mut self,
        world: usize,
        (comm, from, tag): (&Comm, Peer, Option<i32>),
        span: &RecvSpan,
        site: Site,
        note: &dyn Fn(&mut State),
    ) -> Option<Option<Soon>> {
        let mpi = self.mpi.as_deref_mut()?;
        let room = span.contiguous_ptr()?;
        let wanted = |head: &SlotHead, len: usize| fits(head, len, comm, tag, span);
        let (expected, head, len) = mpi.fabric.expected(world, wanted)?;
        if len <= EAGER || len > PART {
            return None;
        }
        let (message, head) = (Came::of(head, len), *head);
        // SAFETY: it fits the span, which is lent for the length of the call, or until the request is complete.
        let (part, number) = unsafe { mpi.fabric.ask_ahead(world, (expected, len), room) }?;
        note(self);
        self.tell_through_mpi(world);
        let (mpi, waiter) = (self.mpi.as_deref_mut()?, &self.waiter);
        let most = waiter.first_polls().min(looks(len));
        let soon = match mpi.fabric.receive_ahead(world, (part, number), most) {
            Straight::Here => Soon::Here(message),
            Straight::Nothing => return Some(None),
            Straight::UnderWay(part) => {
                let receive = receive_of(comm, from, tag, span.clone(), site);
                Soon::Comes(self.comes(world, receive, (&head, len as u64), part))
            }
        };
        Some(Some(soon))
    }

    #[inline(always)]
    fn receive_straight(
        &mut self,
        world: usize,
        (comm, from, tag): (&Comm, Peer, Option<i32>),
        span: &RecvSpan,
        site: Site,
        due: bool,
        note: impl FnOnce(&mut State),
    ) -> Option<Option<Soon>> {
        let mpi = self.mpi.as_mut()?;
        let wanted = |head: &SlotHead, len: usize| fits(head, len, comm, tag, span);
        let known = match span.contiguous_ptr() {
            Some(room) => mpi
                .fabric
                .expected(world, wanted)
                .map(|known| (room, known)),
            None => None,
        };
        let (room, (expected, head, len)) = known.filter(|(_, (_, _, len))| *len <= EAGER)?;
        let (message, head) = (Came::of(head, len), *head);
        // SAFETY: it fits the span, which is lent for the length of the call, or until the request is complete.
        let asked = unsafe { mpi.fabric.ask(world, (expected, len), room) };
        note(self);
        // Of earlier messages, now, so that no answer waits for that.
        self.tell_through_mpi(world);
        // What the answer would wait for too.
        self.count_mpi_matched(world, len);
        self.look_at_copies();
        let (mpi, waiter) = (self.mpi.as_mut()?, &self.waiter);
        let most = || waiter.first_polls().min(looks(len));
        let soon = match mpi.fabric.receive_straight(asked, most, due) {
            Straight::Here => Soon::Here(message),
            Straight::Nothing => {
                self.uncount_mpi_matched(world, len);
                return Some(None);
            }
            Straight::UnderWay(part) => {
                let receive = receive_of(comm, from, tag, span.clone(), site);
                Soon::Comes(self.comes(world, receive, (&head, len as u64), part))
            }
        };
        Some(Some(soon))
    }

    /// Looks which copies MPI has let go of.
    #[inline(always)]
    fn look_at_copies(&mut self) {
        if let Some(mpi) = self.mpi.as_deref_mut().filter(|mpi| mpi.owes()) {
            mpi.fabric.look_at_sends();
        }
    }

    /// Makes progress on all but MPI and collectives before a straight receive, which looks after what else comes through MPI itself. False if there is more
    /// to do than that.
    #[cold]
    #[inline(never)]
    fn progress_beside(&mut self, straight: bool) -> Result<bool> {
        if !straight
            || !self.runs.is_empty()
            || !self.mpi.as_deref().is_some_and(Mpi::is_still)
            || self.segment.control().is_aborted()
        {
            return Ok(false);
        }
        self.fence();
        self.progress_lanes()?;
        Ok(true)
    }

    /// A message of which nothing else is to come, with this head and of so many bytes, is on its way to its receive.
    #[cold]
    fn comes(
        &mut self,
        from: usize,
        mut receive: Receive,
        (head, bytes): (&SlotHead, u64),
        part: Part,
    ) -> RequestId {
        let total = part.len;
        receive.message = Some((protocol::envelope_of(head, bytes), from));
        receive.phase = RecvPhase::Coming { got: 0 };
        let id = self.requests.add_receive(receive);
        if let Some(mpi) = &mut self.mpi {
            mpi.moved = Instant::now();
            mpi.coming.push(Coming {
                id,
                from,
                number: None,
                total,
                asked: total,
                got: 0,
                parts: VecDeque::from([part]),
            });
        }
        id
    }

    /// Looks at everything that comes and goes through MPI. Whether anything happened.
    #[inline]
    pub(in super::super) fn progress_mpi(&mut self) -> Result<bool> {
        let mut any = false;
        for _ in 0..BATCH {
            let Some(taken) = self.mpi.as_mut().and_then(|mpi| mpi.fabric.next()) else {
                break;
            };
            any = true;
            let from = taken.from;
            let taken_well = match taken.frame {
                Some((frame, body)) => self.take_mpi_frame(from, frame, &taken.bytes[body]),
                None => Err(corrupt(from, "a frame that no sender writes")),
            };
            if let Some(mpi) = &mut self.mpi {
                mpi.fabric.give_back(taken.bytes);
            }
            taken_well?;
        }
        let Some(mpi) = &mut self.mpi else {
            return Ok(any);
        };
        if mpi.fabric.owes() {
            any |= mpi.fabric.look_at_sends();
        }
        if !mpi.coming.is_empty() {
            any |= self.look_at_coming()?;
        }
        if self.mpi.as_ref().is_some_and(|mpi| !mpi.going.is_empty()) {
            any |= self.look_at_going();
        }
        Ok(any)
    }

    fn take_mpi_frame(&mut self, from: usize, frame: Frame, body: &[u8]) -> Result<()> {
        if from >= self.links.len() {
            return Err(corrupt(from, "a frame of a rank that does not exist"));
        }
        if frame.kind == Kind::Goodbye && !self.shares_host(from) {
            // No agent here hears of that rank. Whoever waits for it must look again.
            self.segment
                .directory()
                .set_state(from, RankState::Finalized);
        }
        self.take_frame(from, &frame, body)
    }

    /// Looks which parts are there.
    fn look_at_coming(&mut self) -> Result<bool> {
        let (mut any, mut at) = (false, 0);
        while let Some(mpi) = &mut self.mpi {
            let Mpi {
                fabric,
                coming,
                grants,
                moved: last,
                ..
            } = &mut **mpi;
            let Some(payload) = coming.get_mut(at) else {
                break;
            };
            let mut moved = false;
            while let Some(part) = payload.parts.front_mut() {
                let Some(bytes) = fabric.is_there(part) else {
                    break;
                };
                if bytes != part.len {
                    return Err(corrupt(
                        payload.from,
                        "a part of a payload that is too short",
                    ));
                }
                if let (Some(buffer), Some(receive)) =
                    (&part.buffer, self.requests.receive(payload.id))
                {
                    if wants(receive, payload.total) {
                        receive.span.fill_at(payload.got, buffer);
                    }
                }
                payload.got += bytes;
                payload.parts.pop_front();
                moved = true;
            }
            any |= moved;
            if moved {
                *last = Instant::now();
            }
            if moved && payload.got == payload.total {
                let (id, total) = (payload.id, payload.total);
                if let Some(Number::Granted(number)) = payload.number {
                    grants.give_back(number);
                }
                coming.swap_remove(at);
                self.end_part(id, total);
                self.grant_numbers();
                continue;
            }
            if moved {
                self.ask_for_parts(at);
            }
            at += 1;
        }
        Ok(any)
    }

    /// Looks which parts have left.
    fn look_at_going(&mut self) -> bool {
        let (mut any, mut at) = (false, 0);
        while let Some(mpi) = &mut self.mpi {
            let Mpi {
                fabric,
                going,
                follows,
                moved: last,
                ..
            } = &mut **mpi;
            let Some(payload) = going.get_mut(at) else {
                break;
            };
            let mut moved = false;
            while let Some(part) = payload.parts.front_mut() {
                if !fabric.has_left(part) {
                    break;
                }
                payload.parts.pop_front();
                moved = true;
            }
            any |= moved;
            if moved {
                *last = Instant::now();
            }
            if moved && payload.parts.is_empty() && payload.at == payload.total {
                let id = payload.id;
                if let Some(Number::Following(number)) = payload.number {
                    follows.give_back(number);
                }
                going.swap_remove(at);
                self.finish(id, Status::EMPTY);
                continue;
            }
            if moved {
                self.send_parts(at);
            }
            at += 1;
        }
        any
    }

    /// Whether a rank is one of this host.
    fn shares_host(&self, rank: usize) -> bool {
        self.places.indices().get(rank).copied().flatten().is_some()
    }
}

impl Engine {
    /// Says goodbye to all ranks that are reached through MPI, waits until they have too, and leaves it.
    pub(super) fn leave_mpi(&self, site: Site) -> Result<()> {
        {
            let mut state = self.state.get();
            for peer in 0..state.links.len() {
                if state.links[peer].remote.is_some() {
                    let head = SlotHead {
                        site: state.mpi.as_ref().map_or(0, |mpi| mpi.fabric.told(peer)),
                        ..SlotHead::default()
                    };
                    state.send_frame(peer, &plain(Kind::Goodbye, head), |_| {});
                }
            }
        }
        let (mut naps, mut told) = (0_u32, false);
        loop {
            {
                let mut state = self.state.get();
                let moved = state.progress_mpi().map_err(|e| e.at(site))?;
                state.hear_credit();
                let heard = state.mpi.as_ref().is_none_or(|mpi| mpi.fabric.heard_all());
                let all = state
                    .links
                    .iter()
                    .all(|link| link.remote.as_ref().is_none_or(|r| r.heard_goodbye));
                // Before MPI is left, which may take until all leave it: whoever waits for this rank is to know.
                if !state.mpi.as_ref().is_some_and(|mpi| mpi.owes()) && !told {
                    told = true;
                    let control = self.segment.control();
                    control.set_state(self.places.local(), RankState::Finalized);
                }
                if all && heard && told {
                    if let Some(mpi) = state.mpi.take() {
                        mpi.leave();
                    }
                    return Ok(());
                }
                if moved {
                    naps = 0;
                }
            }
            if self.segment.control().is_aborted() {
                return Err(aborted());
            }
            naps += 1;
            if naps > 1000 {
                std::thread::sleep(Duration::from_micros(100));
            } else {
                std::thread::yield_now();
            }
        }
    }
}
