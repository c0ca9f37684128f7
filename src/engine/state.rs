//! The engine's state, and progress: emptying lanes, moving what is queued, pumping streams.
use super::comm::Members;
use super::in_place::InPlace;
use super::matching::{Contexts, Payload};
use super::places::Places;
use super::protocol::{
    self, CONTROL, CREDIT, CTS, DATA, DONE, EAGER, EAGER_COST, INLINE, RTS, STREAM,
};
use super::remote::{Mpi, Remote, Sockets};
use super::requests::{RecvPhase, Requests, SendPhase, Senders, State as Request};
use super::sites::Sites;
use super::{RequestId, SendMode, Settings, ThreadLevel};
use crate::job::Segment;
use crate::job::layout::STREAMS;
use crate::model::error::Result;
use crate::model::{Envelope, Error, ErrorClass, Status};
use crate::sys::cpu;
use crate::transport::shm::near::Nearness;
use crate::transport::shm::spans::LongSpans;
use crate::transport::shm::way::Ways;
use crate::transport::shm::{Arrival, LaneRx, LaneTx, SingleCopy, SlotHead, StreamTx};
use crate::wait::Waiter;
use core::sync::atomic::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

/// Arrivals taken from one lane before the next one is looked at: fair, and long enough to keep a stream of small messages going.
pub(super) const BATCH: usize = 64;

/// After so many calls in a row whose message or word was there at once, everything else gets its progress: a full look costs about as much
/// as a few messages, so that this adds a few per cent.
const QUICK_CALLS: u32 = 64;

/// What waits for room in a lane.
pub(super) enum Queued {
    /// The envelope of a send.
    Envelope(RequestId),
    /// The payload of a matched small send.
    Data(RequestId),
    Control(SlotHead, [u8; CONTROL]),
}

/// The two lanes between this rank and another.
pub(super) struct Link {
    pub(super) tx: Option<LaneTx>,
    pub(super) rx: LaneRx,
    pub(super) queue: VecDeque<Queued>,
    /// Eager bytes charged so far, and how many of them the receiver had matched when last looked at.
    pub(super) charged: u64,
    pub(super) matched: u64,
    /// How far the peer had come when a send waited for it in vain.
    pub(super) in_vain: Option<u64>,
    /// Messages started towards the peer, and taken from it.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// So many messages of up to [`EAGER_COST`] bytes, as several of which a longer one counts, may go without a look at queue, slots and credit: that many slots are free, there
    /// is credit for them, and nothing is queued. Whoever else uses the lane, or queues, takes them back ([`Link::lane`]).
    pub(super) grants: u32,
    /// Pushed to since the last full fence.
    pub(super) dirty: bool,
    pub(super) wish: super::large::Wish,
    /// How the first staging stream is filled for the peer.
    pub(super) ways: Ways,
    /// How far away its core is, as the lane tells.
    pub(super) near: Nearness,
    /// The slot of an answer is asked for when a message has come: there is a lane, on a mesh, and the core is not known to be near.
    pub(super) claims: bool,
    /// What this rank is to one that is reached through a socket; such a link has no lanes.
    pub(super) remote: Option<Box<Remote>>,
    /// The long ring of the peer's first staging stream is mapped here.
    pub(super) has_long: bool,
    /// Once one of the two has sent the other a long message out of its heap.
    pub(super) in_place: Option<Box<InPlace>>,
}

impl Link {
    /// The lane to the peer, for everything but granted messages.
    #[inline]
    pub(super) fn lane(&mut self) -> Option<&mut LaneTx> {
        self.grants = 0;
        self.tx.as_mut()
    }

    /// A message of `len` bytes from the peer was received.
    #[inline(always)]
    pub(super) fn expect_answer(&self, len: usize) {
        if let (true, Some(tx)) = (self.claims, &self.tx) {
            tx.expect_answer(len);
        }
    }

    /// After an eager message: lets the next small ones go without further looks.
    #[inline]
    pub(super) fn grant(&mut self) {
        if let (Some(tx), true) = (&self.tx, self.queue.is_empty()) {
            let credit = (CREDIT - (self.charged - self.matched).min(CREDIT)) / EAGER_COST;
            self.grants = credit.min(tx.free_slots()) as u32;
        }
    }
}

/// One of this rank's staging streams.
pub(super) struct OwnStream {
    pub(super) tx: Option<StreamTx>,
    /// A send is writing its payload to it.
    pub(super) lent: bool,
}

/// This rank's long ring, for messages of middle size to near cores.
pub(super) enum Spans {
    Untried,
    /// There was no memory for it; lanes have rings of their own.
    Without,
    Open(LongSpans),
}

/// A word in the segment that a thread waits for while another one polls (`Multiple`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) offset: usize,
    pub(super) value: u64,
}

pub(super) struct State {
    pub(super) segment: Arc<Segment>,
    pub(super) rank: usize,
    pub(super) places: Arc<Places>,
    pub(super) waiter: Arc<Waiter>,
    /// Whether this rank reads long payloads out of its peers' memory.
    pub(super) single_copy: SingleCopy,
    /// Other threads of this rank may send while one waits.
    pub(super) threads: bool,
    pub(super) alone: super::alone::Alone,
    pub(super) vain: super::alone::Vain,
    pub(super) links: Vec<Link>,
    /// In jobs with sockets.
    pub(super) net: Option<Box<Sockets>>,
    /// In jobs whose hosts are connected by the system's MPI.
    pub(super) mpi: Option<Box<Mpi>>,
    /// The same where all ranks share memory: it is only left at the end.
    pub(super) parked_mpi: Option<Box<Mpi>>,
    pub(super) contexts: Contexts,
    pub(super) requests: Requests,
    pub(super) sites: Sites,
    pub(super) streams: Vec<OwnStream>,
    /// The first stream's ring may become long: that was not tried yet.
    pub(super) may_grow: bool,
    /// All cores sit around one cache (`sys::cpu::is_mesh`): there all streams are written by `Way::Upwards`, and nothing is compared.
    pub(super) on_mesh: bool,
    pub(super) spans: Spans,
    /// Ranks whose lanes to us are open, and the bitmap that told so.
    open: Vec<usize>,
    open_seen: Vec<u64>,
    /// Links whose queue is not empty.
    pub(super) backlog: Vec<usize>,
    /// Sends that stream, sends that wait for a stream, receives that stream, collectives.
    pub(super) sending: Vec<RequestId>,
    pub(super) granted: VecDeque<RequestId>,
    pub(super) receiving: Vec<RequestId>,
    pub(super) runs: Vec<RequestId>,
    /// The scratch buffer of a collective that is over.
    pub(super) scratch: Vec<u8>,
    /// Collectives whose next step is local and runs outside of this state.
    pub(super) ready: Vec<RequestId>,
    pub(super) watches: Vec<Watch>,
    dirty: Vec<usize>,
    departures: u32,
    gone: Vec<bool>,
    pub(super) any_gone: bool,
    /// Threads of this rank that wait in probes.
    pub(super) probing: usize,
    pub(super) finalized: bool,
    /// Calls that may be satisfied without a look at anything else.
    quick_calls: u32,
}

pub(super) fn tag_in_words(tag: Option<i32>) -> String {
    tag.map_or("any tag".to_string(), |t| format!("tag {t}"))
}

/// A peer wrote something that no peer of this version writes.
pub(super) fn corrupt(from: usize, what: &str) -> Error {
    let text = format!(
        "the lane from rank {from} holds {what}; its memory was overwritten (a stray pointer in some rank?)"
    );
    Error::new(ErrorClass::Corrupt, text)
}

impl State {
    pub(super) fn new(
        segment: Arc<Segment>,
        places: Arc<Places>,
        waiter: Arc<Waiter>,
        settings: Settings,
    ) -> State {
        let ranks = places.ranks();
        let links = (0..ranks).map(|peer| Link {
            tx: None,
            rx: LaneRx::new(&segment, places.index(peer), places.local()),
            remote: places.is_remote(peer).then(Box::default),
            queue: VecDeque::new(),
            charged: 0,
            matched: 0,
            in_vain: None,
            sent: 0,
            received: 0,
            grants: 0,
            dirty: false,
            wish: Default::default(),
            ways: Ways::default(),
            near: Nearness::default(),
            claims: false,
            has_long: false,
            in_place: None,
        });
        State {
            links: links.collect(),
            rank: places.rank(),
            net: None,
            mpi: None,
            parked_mpi: None,
            waiter,
            single_copy: SingleCopy::new(settings.single_copy, ranks),
            threads: settings.level == ThreadLevel::Multiple,
            alone: Default::default(),
            vain: Default::default(),
            contexts: Contexts::new(),
            requests: Requests::new(),
            sites: Sites::new(),
            streams: (0..STREAMS)
                .map(|_| OwnStream {
                    tx: None,
                    lent: false,
                })
                .collect(),
            may_grow: true,
            on_mesh: cpu::is_mesh(),
            spans: Spans::Untried,
            open: Vec::new(),
            open_seen: vec![0; segment.ranks().div_ceil(64)],
            backlog: Vec::new(),
            sending: Vec::new(),
            granted: VecDeque::new(),
            receiving: Vec::new(),
            runs: Vec::new(),
            scratch: Vec::new(),
            ready: Vec::new(),
            watches: Vec::new(),
            dirty: Vec::new(),
            departures: 0,
            gone: vec![false; ranks],
            any_gone: false,
            probing: 0,
            finalized: false,
            quick_calls: 0,
            places,
            segment,
        }
    }

    /// Counts a call that may be satisfied without a look at anything else, and tells whether it is time for such a look.
    #[inline]
    pub(super) fn progress_is_due(&mut self) -> bool {
        self.quick_calls = self.quick_calls.wrapping_add(1);
        self.progress_was_due()
    }

    /// What [`State::progress_is_due`] said last.
    pub(super) fn progress_was_due(&self) -> bool {
        self.quick_calls % QUICK_CALLS == 0
    }

    /// Something was written that `peer` may sleep for.
    #[inline]
    pub(super) fn notify(&mut self, peer: usize) {
        self.waiter.wake(peer);
        if !self.links[peer].dirty {
            self.mark_dirty(peer);
        }
    }

    /// `peer` gets a second look after the next full fence.
    #[cold]
    pub(super) fn mark_dirty(&mut self, peer: usize) {
        self.links[peer].dirty = true;
        self.dirty.push(peer);
    }

    /// The full fence and the second look at the sleep words of all that were notified since the last one.
    pub(super) fn fence(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        self.waiter.fence();
        while let Some(peer) = self.dirty.pop() {
            self.links[peer].dirty = false;
            self.waiter.wake(peer);
        }
    }

    /// Finds lanes that were opened since the last look.
    fn find_open_lanes(&mut self) {
        let control = self.segment.control();
        for word in 0..self.open_seen.len() {
            // Acquire: pairs with the Release by which the sender opens its lane.
            let now = control
                .open_lanes(self.places.local(), word)
                .load(Ordering::Acquire);
            let mut fresh = now & !self.open_seen[word];
            self.open_seen[word] |= now;
            while fresh != 0 {
                let peer = self.places.at(word * 64 + fresh.trailing_zeros() as usize);
                fresh &= fresh - 1;
                if let Some(peer) = peer.filter(|peer| *peer != self.rank) {
                    self.links[peer].rx.opened();
                    self.open.push(peer);
                }
            }
        }
    }

    /// Makes progress on everything. Tells whether anything happened.
    pub(super) fn progress(&mut self) -> Result<bool> {
        let mut any = self.progress_lanes()?;
        if self.net.is_some() {
            any |= self.progress_net()?;
        }
        if self.mpi.is_some() {
            any |= self.progress_mpi()?;
        }
        if !self.runs.is_empty() {
            any |= self.advance_runs()?;
        }
        Ok(any)
    }

    /// As [`State::progress`], on what comes and goes through the memory of this host.
    #[inline(always)]
    pub(super) fn progress_lanes(&mut self) -> Result<bool> {
        self.find_open_lanes();
        let mut any = false;
        for at in 0..self.open.len() {
            any |= self.drain(self.open[at])?;
        }
        if !self.backlog.is_empty() {
            any |= self.flush()?;
        }
        if !self.sending.is_empty() || !self.granted.is_empty() {
            any |= self.pump_sends()?;
        }
        if !self.receiving.is_empty() {
            any |= self.pump_receives()?;
        }
        Ok(any)
    }

    /// Takes what has arrived from `from`, up to a batch.
    pub(super) fn drain(&mut self, from: usize) -> Result<bool> {
        let (mut taken, mut published) = (0, false);
        while taken < BATCH {
            let posted = self.take_posted(from, BATCH - taken);
            taken += posted.0;
            published |= posted.1;
            let Some(arrival) = self.links[from].rx.peek()? else {
                break;
            };
            self.handle(from, &arrival)?;
            published |= self.links[from].rx.consume(&arrival, 0);
            taken += 1;
        }
        if published {
            // The sender may sleep because its lane was full.
            self.notify(from);
        }
        Ok(taken > 0)
    }

    /// Acts on the slot at the head of a lane; the caller frees it.
    pub(super) fn handle(&mut self, from: usize, arrival: &Arrival) -> Result<()> {
        let head = &arrival.head;
        if matches!(head.kind, RTS | CTS | STREAM) && arrival.len as usize > INLINE {
            return Err(corrupt(from, "an envelope of an impossible length"));
        }
        match head.kind {
            EAGER => self.arrive_eager(from, arrival),
            RTS => self.arrive_offer(from, arrival),
            CTS => {
                let receive = protocol::id_of(&arrival.body());
                self.arrive_grant(from, protocol::address_of(head), head.flags, receive)
            }
            DATA => self.arrive_data(from, arrival),
            STREAM => {
                let passage = protocol::stream_of(&arrival.body());
                self.arrive_stream(from, protocol::address_of(head), passage)
            }
            DONE => self.arrive_done(from, protocol::address_of(head), head.flags),
            _ => Err(corrupt(from, "a message of an unknown kind")),
        }
    }

    /// Sends a slot that is not an envelope, or queues it.
    pub(super) fn push_control(
        &mut self,
        to: usize,
        head: SlotHead,
        body: [u8; CONTROL],
    ) -> Result<()> {
        if self.links[to].remote.is_some() {
            return self.push_remote_control(to, head, body);
        }
        self.open_lane(to)?;
        let link = &mut self.links[to];
        if link.queue.is_empty() && link.lane().is_some_and(|tx| tx.try_inline(&head, &body)) {
            self.notify(to);
        } else {
            self.enqueue(to, Queued::Control(head, body));
        }
        Ok(())
    }

    pub(super) fn enqueue(&mut self, to: usize, what: Queued) {
        let link = &mut self.links[to];
        if link.queue.is_empty() {
            self.backlog.push(to);
        }
        link.grants = 0;
        link.queue.push_back(what);
    }

    /// Makes sure that the lane to `to` can be written.
    #[inline]
    pub(super) fn open_lane(&mut self, to: usize) -> Result<()> {
        if self.links[to].tx.is_none() {
            let (me, to_index) = (self.places.local(), self.places.index(to));
            self.links[to].tx = Some(LaneTx::open(&self.segment, me, to_index)?);
            self.links[to].claims = self.on_mesh;
        }
        Ok(())
    }

    /// Moves queued slots into lanes that have room again.
    fn flush(&mut self) -> Result<bool> {
        let mut any = false;
        let mut at = 0;
        while at < self.backlog.len() {
            let to = self.backlog[at];
            let mut moved = false;
            while let Some(first) = self.links[to].queue.pop_front() {
                let done = match &first {
                    Queued::Envelope(id) => self.try_envelope(to, *id)?,
                    Queued::Data(id) => self.try_data(to, *id)?,
                    Queued::Control(head, body) => self.links[to]
                        .lane()
                        .is_some_and(|tx| tx.try_inline(head, body)),
                };
                if !done {
                    if let Some(tx) = &self.links[to].tx {
                        tx.check()?;
                    }
                    self.links[to].queue.push_front(first);
                    break;
                }
                moved = true;
            }
            if moved {
                any = true;
                self.notify(to);
            }
            if self.links[to].queue.is_empty() {
                self.backlog.swap_remove(at);
            } else {
                at += 1;
            }
        }
        Ok(any)
    }

    /// Before this rank sleeps: gives back all credit, shows how many messages went and came, and looks a second time whether anybody sleeps
    /// who was told something. Wakes nobody else: two ranks that both wait would otherwise wake each other for ever.
    pub(super) fn before_sleep(&mut self) {
        let map = self.segment.layout();
        let (places, me) = (&self.places, self.places.local());
        for (peer, link) in self.links.iter_mut().enumerate() {
            let at = places.index(peer);
            if link.received > 0 {
                if link.rx.publish() && !link.dirty {
                    link.dirty = true;
                    self.dirty.push(peer);
                }
                self.segment
                    .u64(map.received(me, at))
                    .store(link.received, Ordering::Relaxed);
            }
            if link.sent > 0 {
                self.segment
                    .u64(map.sent(me, at))
                    .store(link.sent, Ordering::Relaxed);
            }
        }
        self.fence();
    }

    /// Whether a watched word has reached its value.
    pub(super) fn watch_is_met(&self) -> bool {
        self.watches
            .iter()
            .any(|w| self.segment.u64(w.offset).load(Ordering::Acquire) >= w.value)
    }

    /// Looks who is gone, if anybody went since the last look. What gone ranks sent is in the lanes by then.
    pub(super) fn look_for_gone(&mut self) -> bool {
        let control = self.segment.control();
        // Acquire: pairs with the count by whoever left or saw somebody leave.
        let now = control.departures().load(Ordering::Acquire);
        if now != self.departures {
            self.departures = now;
            for rank in 0..self.gone.len() {
                self.gone[rank] =
                    rank != self.rank && self.places.state(&self.segment, rank).is_gone();
            }
            self.any_gone = self.gone.contains(&true);
        }
        self.any_gone
    }

    pub(super) fn departures_moved(&self) -> bool {
        self.segment.control().departures().load(Ordering::Acquire) != self.departures
    }

    /// Whether nothing more can come from `rank`: it is gone, and all that it sent over a socket has been read.
    pub(super) fn is_gone(&self, rank: usize) -> bool {
        match &self.links[rank].remote {
            None => self.gone[rank],
            Some(remote) => (self.gone[rank] && remote.is_over()) || remote.is_lost_for_long(),
        }
    }

    /// Counts eager bytes of `from` whose message has been matched.
    pub(super) fn add_matched(&mut self, from: usize, bytes: u64) {
        let link = &mut self.links[from];
        match &mut link.remote {
            None if link.rx.add_matched(bytes) => self.notify(from),
            None => {}
            Some(_) => self.add_remote_matched(from, bytes),
        }
    }

    /// Whether a caller that does not block may yet send itself what this receive waits for.
    pub(super) fn may_serve_itself(&mut self, id: RequestId) -> bool {
        matches!(self.requests.get(id), Some(Request::Receive(receive))
            if matches!(receive.phase, RecvPhase::Posted) && receive.from == super::Peer::Any)
    }

    /// Why `request` can never become complete, if so: only ranks that are gone could make it.
    pub(super) fn hopeless(&mut self, id: RequestId) -> Option<Error> {
        enum On {
            Rank(usize, String),
            Members(Members, String),
            Parts(Vec<RequestId>),
        }
        let on = match self.requests.get(id)? {
            Request::Plain(plain) => On::Rank(
                plain.world as usize,
                format!("a receive with {}", tag_in_words(plain.tag)),
            ),
            Request::Send(send) => match send.phase {
                SendPhase::Offered
                | SendPhase::Granted(_)
                | SendPhase::Queued
                | SendPhase::Leaving { .. }
                | SendPhase::Streaming { .. } => {
                    let what = if send.mode == SendMode::Synchronous {
                        "synchronous send"
                    } else {
                        "send"
                    };
                    On::Rank(
                        send.to,
                        format!(
                            "a {what} of {} bytes with tag {}",
                            send.envelope.bytes, send.envelope.tag
                        ),
                    )
                }
            },
            Request::Receive(receive) => {
                let tag = tag_in_words(receive.tag);
                let matched = match receive.phase {
                    RecvPhase::Posted => None,
                    _ => receive.message.map(|(_, from)| from),
                };
                match (matched, &receive.senders) {
                    (Some(from), _) | (None, &Senders::One(from)) => {
                        On::Rank(from, format!("a receive with {tag}"))
                    }
                    (None, Senders::Any(members)) => On::Members(
                        members.clone(),
                        format!("a receive from any rank with {tag}"),
                    ),
                }
            }
            Request::Run(Some(run)) => On::Parts(run.pending().to_vec()),
            _ => return None,
        };
        match on {
            On::Rank(rank, what) => self.gone_error(rank, &what),
            On::Members(members, what) => self.all_gone_error(&members, &what),
            On::Parts(parts) => parts.into_iter().find_map(|part| self.hopeless(part)),
        }
    }

    /// The error of a wait for `rank`, if it is gone.
    pub(super) fn gone_error(&self, rank: usize, what: &str) -> Option<Error> {
        self.is_gone(rank).then(|| {
            let state = self.state_words(rank);
            let text = format!(
                "rank {} waits in {what} for rank {rank}, which {state}; it can never be satisfied",
                self.rank
            );
            Error::new(ErrorClass::Gone, text)
        })
    }

    /// The error of a wait for any member but this rank, if all are gone.
    pub(super) fn all_gone_error(&self, members: &Members, what: &str) -> Option<Error> {
        let others = || members.iter().filter(|&&m| m != self.rank);
        // With several threads, one may yet send what another waits for.
        let lonely = !self.threads && others().count() > 0;
        (lonely && others().all(|&m| self.is_gone(m))).then(|| {
            let text = format!("rank {} waits in {what}, but all other ranks of its communicator are gone; it can never be satisfied", self.rank);
            Error::new(ErrorClass::Gone, text)
        })
    }

    /// Completes a request with a status.
    pub(super) fn finish(&mut self, id: RequestId, status: Status) {
        self.requests.complete(id, Ok(status));
    }

    /// What nobody received and what was never completed, in words.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let mut texts = Vec::new();
        for unexpected in self.contexts.all().flat_map(|q| q.leftovers()) {
            let envelope = &unexpected.envelope;
            if envelope.context & 1 == 0 {
                let place = self
                    .segment
                    .directory()
                    .site(unexpected.from, envelope.site)
                    .map(|s| format!(", sent at {s},"))
                    .unwrap_or_default();
                texts.push(format!(
                    "rank {}: a message of {} bytes with tag {} from rank {}{place} was never received",
                    self.rank, envelope.bytes, envelope.tag, unexpected.from
                ));
            }
        }
        for request in self.requests.active() {
            let (what, site) = match request {
                Request::Send(send) => ("send", send.site),
                Request::Receive(receive) if receive.context & 1 == 0 => ("receive", receive.site),
                Request::Plain(plain) => ("receive", plain.site),
                _ => continue,
            };
            texts.push(format!(
                "rank {}: the {what} started at {}:{} was never completed",
                self.rank,
                site.file(),
                site.line()
            ));
        }
        texts
    }

    /// Whether everything that this rank owes to others has left.
    pub(super) fn is_drained(&self) -> bool {
        let owes = |r: &Request| match r {
            Request::Send(send) => send.to != self.rank,
            Request::Run(_) => true,
            _ => false,
        };
        self.backlog.is_empty() && !self.requests.active().any(owes) && !self.owes_bytes()
    }

    /// Holds a message that no receive has asked for yet.
    pub(super) fn hold(&mut self, envelope: Envelope, from: usize, payload: Payload) {
        self.contexts
            .of(envelope.context)
            .add_unexpected(envelope, from, payload);
        if self.probing > 0 {
            // News for the threads that wait for messages without a receive.
            self.requests.completed += 1;
        }
    }

    /// A held payload's bytes, for copies out of matching.
    pub(super) fn inline_payload(arrival: &Arrival) -> Payload {
        if (arrival.len as usize) <= CONTROL {
            Payload::Inline(arrival.body())
        } else {
            Payload::Heap(arrival.to_vec().into_boxed_slice())
        }
    }
}
