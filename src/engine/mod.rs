//! What MPI means in motion: matching, requests, eager and rendezvous, the schedule runner, progress.
//!
//! The engine is an object. It knows ranks of communicators as `usize`, memory as spans, and never panics or exits: every failure is an
//! [`Error`] that its caller decides about. `ErrorClass::Aborted` says that the job is ending.
//!
//! Calling threads: below [`ThreadLevel::Multiple`] the caller (the face) guarantees that only one thread at a time is inside; at
//! `Multiple` the engine locks, and holds no lock while it blocks or runs a user's function.

mod block;
pub(crate) mod comm;
mod guarded;
mod large;
mod matching;
mod protocol;
mod receiving;
mod requests;
mod run;
mod sending;
mod settings;
mod sites;
pub(crate) mod span;
mod state;

pub(crate) use comm::Comm;
pub(crate) use settings::Settings;
pub(crate) use span::{RecvSpan, SendSpan};

use crate::job::{RankState, Segment};
use crate::model::error::Result;
use crate::model::{Envelope, Error, ErrorClass, Schedule, Signature, Site, Status};
use crate::transport::shm::Arrival;
use crate::wait::{Turn, Waiter};
use core::sync::atomic::Ordering;
use guarded::{Guard, Guarded};
use protocol::{EAGER, EAGER_COST, INLINE};
use requests::{Receive, RecvPhase, SendPhase, State as Request};
use run::Run;
use state::State;
use std::sync::Arc;

/// Which threads may call (the MPI thread levels).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ThreadLevel {
    Single,
    Funneled,
    Serialized,
    Multiple,
}

/// Whom a message goes to or comes from, in ranks of the communicator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Rank(usize),
    /// Receives only.
    Any,
    /// `PROC_NULL`: completes at once.
    Null,
}

/// When a send is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendMode {
    /// When the buffer may be used again.
    Standard,
    /// When the receive has been matched.
    Synchronous,
    /// As standard; the caller vouches that the receive is posted.
    Ready,
}

/// A request: an index and a generation, so that a stale handle is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A message that a matched probe took out of matching. It belongs to whoever holds this, and must be received.
#[derive(Debug)]
pub(crate) struct MatchedMessage {
    pub(crate) id: RequestId,
    pub(crate) status: Status,
}

/// Combines two packed buffers: `inout = input op inout`.
pub(crate) type Combine = Arc<dyn Fn(&[u8], &mut [u8]) + Send + Sync>;

/// A schedule with everything that it needs to run.
pub(crate) struct StartSchedule {
    pub(crate) schedule: Schedule,
    /// The scratch buffer, filled with this rank's packed contribution.
    pub(crate) scratch: Vec<u8>,
    pub(crate) combine: Option<Combine>,
    /// Where parts of the scratch buffer are unpacked to at the end.
    pub(crate) results: Vec<(core::ops::Range<usize>, RecvSpan)>,
    pub(crate) signature: Signature,
    /// The number of this collective on its communicator; the same on all members.
    pub(crate) sequence: u64,
}

/// Numbers of calls, as a verdict shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Call {
    Send = 1,
    Receive = 2,
    Probe = 3,
    Wait = 4,
    Collective = 5,
    Finalize = 6,
}

impl Call {
    /// The word for call number `number`.
    pub(crate) fn name(number: u32) -> &'static str {
        match number {
            1 => "send",
            2 => "receive",
            3 => "probe",
            4 => "wait for a request",
            5 => "collective",
            6 => "finalize",
            _ => "unknown call",
        }
    }
}

/// The engine of one rank.
pub(crate) struct Engine {
    segment: Arc<Segment>,
    rank: usize,
    level: ThreadLevel,
    waiter: Arc<Waiter>,
    turn: Turn,
    state: Guarded<State>,
}

/// Every method is a complete call: `site` is where the user's program made it.
impl Engine {
    /// The engine of local rank `rank` over `segment`. The rank counts as awake from here on.
    pub(crate) fn new(segment: Arc<Segment>, rank: usize, settings: Settings) -> Result<Engine> {
        let waiter = Arc::new(Waiter::new(&segment, rank, settings.wait));
        let state = State::new(segment.clone(), rank, waiter.clone(), settings.single_copy);
        let control = segment.control();
        control.set_state(rank, RankState::Active);
        let locked = settings.level == ThreadLevel::Multiple;
        Ok(Engine {
            segment,
            rank,
            level: settings.level,
            waiter,
            turn: Turn::default(),
            state: Guarded::new(state, locked),
        })
    }

    /// This process's rank in the world.
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// Ranks of the world.
    pub(crate) fn size(&self) -> usize {
        self.segment.ranks()
    }

    pub(crate) fn level(&self) -> ThreadLevel {
        self.level
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The state for a call; an error after finalize.
    #[inline]
    fn enter(&self, site: Site) -> Result<Guard<'_, State>> {
        let state = self.state.get();
        if state.finalized {
            Err(after_finalize().at(site))
        } else {
            Ok(state)
        }
    }

    /// Leaves a call that may have completed what other threads of this rank wait for.
    fn leave(&self, state: Guard<'_, State>, completed: u64) {
        let news = self.state.is_locked() && state.requests.completed != completed;
        drop(state);
        if news {
            self.turn.news();
            self.waiter.wake_fenced(self.rank);
        }
    }

    /// The world rank of `to`, and the envelope of a message to it. `None`: to nobody.
    #[inline]
    fn address(
        &self,
        state: &mut State,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<Option<(usize, Envelope)>> {
        let rank = match to {
            Peer::Rank(rank) if rank < comm.size() => rank,
            Peer::Null => return Ok(None),
            Peer::Rank(rank) => return Err(no_such_rank("send to", rank, comm).at(site)),
            Peer::Any => {
                return Err(Error::new(
                    ErrorClass::Rank,
                    "a message cannot be sent to any rank; name one",
                )
                .at(site));
            }
        };
        check_tag(Some(tag), site)?;
        let site_id = state.sites.id(&self.segment, self.rank, site);
        self.segment
            .control()
            .note_call(self.rank, Call::Send as u32, site_id);
        let envelope = Envelope {
            context: comm.context(),
            source: comm.rank() as u32,
            tag,
            bytes: span.len() as u64,
            code: span.code(),
            site: site_id,
            sync: mode == SendMode::Synchronous,
            ready: mode == SendMode::Ready,
        };
        Ok(Some((comm.world_rank(rank), envelope)))
    }

    /// Blocking send.
    #[inline]
    pub(crate) fn send(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<()> {
        let mut state = self.enter(site)?;
        let Some((world, envelope)) = self.address(&mut state, comm, to, tag, span, mode, site)?
        else {
            return Ok(());
        };
        if mode != SendMode::Synchronous
            && state.links[world].queue.is_empty()
            && state.try_eager(world, &envelope, span)
        {
            return Ok(());
        }
        let completed = state.requests.completed;
        let request = state.start_send(world, envelope, span.clone(), mode, site)?;
        self.leave(state, completed);
        match request {
            None => Ok(()),
            Some(request) => self.finish_request(request, site).map(drop),
        }
    }

    /// Starts a send. The span's memory must stay as it is until the request is complete.
    pub(crate) fn start_send(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<RequestId> {
        let mut state = self.enter(site)?;
        let completed = state.requests.completed;
        let request = match self.address(&mut state, comm, to, tag, &span, mode, site)? {
            Some((world, envelope)) => state.start_send(world, envelope, span, mode, site)?,
            None => None,
        };
        let request =
            request.unwrap_or_else(|| state.requests.add(Request::Complete(Ok(Status::EMPTY))));
        self.leave(state, completed);
        Ok(request)
    }

    /// Checks a receive's or probe's arguments; `None`: from nobody.
    #[inline]
    fn wanted(
        &self,
        state: &mut State,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        call: Call,
        site: Site,
    ) -> Result<Option<()>> {
        match from {
            Peer::Rank(rank) if rank >= comm.size() => {
                return Err(no_such_rank("receive from", rank, comm).at(site));
            }
            Peer::Null => return Ok(None),
            _ => check_tag(tag, site)?,
        }
        let site_id = state.sites.id(&self.segment, self.rank, site);
        self.segment
            .control()
            .note_call(self.rank, call as u32, site_id);
        Ok(Some(()))
    }

    /// Blocking receive; `tag` `None` is any.
    #[inline]
    pub(crate) fn receive(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
    ) -> Result<Status> {
        let mut state = self.enter(site)?;
        if self
            .wanted(&mut state, comm, from, tag, Call::Receive, site)?
            .is_none()
        {
            return Ok(Status::EMPTY);
        }
        if let Peer::Rank(rank) = from {
            let world = comm.world_rank(rank);
            if !self.state.is_locked() && world != self.rank {
                if let Some(result) =
                    state.receive_expected(comm.context(), rank, world, tag, span)?
                {
                    return result.map_err(|e| e.at(site));
                }
            }
        }
        let receive = receive_of(comm, from, tag, span.clone(), site);
        let completed = state.requests.completed;
        let request = state.start_receive(receive)?;
        self.leave(state, completed);
        self.finish_request(request, site)
    }

    /// Posts a receive. The span's memory belongs to the engine until the request is complete.
    pub(crate) fn start_receive(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: RecvSpan,
        site: Site,
    ) -> Result<RequestId> {
        let mut state = self.enter(site)?;
        if self
            .wanted(&mut state, comm, from, tag, Call::Receive, site)?
            .is_none()
        {
            return Ok(state.requests.add(Request::Complete(Ok(Status::EMPTY))));
        }
        let completed = state.requests.completed;
        // What has arrived so far came before this receive was posted; the order of arrival across sources is as it was.
        let request = state.start_receive(receive_of(comm, from, tag, span, site))?;
        self.leave(state, completed);
        Ok(request)
    }

    /// Waits until a message is there.
    pub(crate) fn probe(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        site: Site,
    ) -> Result<Status> {
        if self
            .wanted(&mut *self.enter(site)?, comm, from, tag, Call::Probe, site)?
            .is_none()
        {
            return Ok(Status::EMPTY);
        }
        let found = |state: &mut State| {
            state
                .contexts
                .of(comm.context())
                .peek_unexpected(rank_of(from), tag)
                .map(|u| Ok(receiving::status_of(&u.envelope)))
        };
        self.block(site, found, |state| state.hopeless_probe(comm, from))
    }

    pub(crate) fn immediate_probe(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        site: Site,
    ) -> Result<Option<Status>> {
        if self
            .wanted(&mut *self.enter(site)?, comm, from, tag, Call::Probe, site)?
            .is_none()
        {
            return Ok(Some(Status::EMPTY));
        }
        self.progress()?;
        let mut state = self.state.get();
        Ok(state
            .contexts
            .of(comm.context())
            .peek_unexpected(rank_of(from), tag)
            .map(|u| receiving::status_of(&u.envelope)))
    }

    /// Waits for a message and takes it out of matching. From `Peer::Null` there is none: the status is empty and a receive of it too.
    pub(crate) fn matched_probe(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        site: Site,
    ) -> Result<MatchedMessage> {
        let mut state = self.enter(site)?;
        if self
            .wanted(&mut state, comm, from, tag, Call::Probe, site)?
            .is_none()
        {
            let id = state.requests.add(Request::Complete(Ok(Status::EMPTY)));
            return Ok(MatchedMessage {
                id,
                status: Status::EMPTY,
            });
        }
        drop(state);
        self.block(
            site,
            |state| state.take_message(comm, from, tag).map(Ok),
            |state| state.hopeless_probe(comm, from),
        )
    }

    pub(crate) fn immediate_matched_probe(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        site: Site,
    ) -> Result<Option<MatchedMessage>> {
        let mut state = self.enter(site)?;
        if self
            .wanted(&mut state, comm, from, tag, Call::Probe, site)?
            .is_none()
        {
            let id = state.requests.add(Request::Complete(Ok(Status::EMPTY)));
            return Ok(Some(MatchedMessage {
                id,
                status: Status::EMPTY,
            }));
        }
        drop(state);
        self.progress()?;
        Ok(self.state.get().take_message(comm, from, tag))
    }

    /// Starts the receive of a message that a matched probe took.
    pub(crate) fn start_matched_receive(
        &self,
        message: MatchedMessage,
        span: RecvSpan,
        site: Site,
    ) -> Result<RequestId> {
        let mut state = self.enter(site)?;
        let completed = state.requests.completed;
        let unexpected = match state.requests.remove(message.id) {
            Request::Message(unexpected) => unexpected,
            Request::Complete(result) => return Ok(state.requests.add(Request::Complete(result))),
            _ => {
                return Err(
                    Error::new(ErrorClass::Request, "this message was received before").at(site),
                );
            }
        };
        let receive = Receive {
            context: unexpected.envelope.context,
            from: Peer::Rank(unexpected.envelope.source as usize),
            tag: Some(unexpected.envelope.tag),
            span,
            phase: RecvPhase::Posted,
            site,
            message: Some((unexpected.envelope, unexpected.from)),
            members: Arc::from([]),
            collective: None,
            refused: None,
        };
        let request = state.requests.add(Request::Receive(Box::new(receive)));
        state.deliver(request, *unexpected)?;
        self.leave(state, completed);
        Ok(request)
    }

    /// Whether the request is complete; if so it is gone. Makes progress on everything.
    pub(crate) fn test(&self, request: RequestId, site: Site) -> Result<Option<Status>> {
        let mut state = self.enter(site)?;
        if let Some(result) = state.requests.take_result(request) {
            return result.map(Some).map_err(|e| e.at(site));
        }
        drop(state);
        self.progress()?;
        let mut state = self.state.get();
        if let Some(result) = state.requests.take_result(request) {
            return result.map(Some).map_err(|e| e.at(site));
        }
        if state.look_for_gone()
            && !state.progress()?
            && !state.requests.is_complete(request)
            && !state.may_serve_itself(request)
        {
            if let Some(error) = state.hopeless(request) {
                return Err(error.at(site));
            }
        }
        Ok(None)
    }

    /// Waits until the request is complete; then it is gone.
    pub(crate) fn wait(&self, request: RequestId, site: Site) -> Result<Status> {
        {
            let mut state = self.enter(site)?;
            let site_id = state.sites.id(&self.segment, self.rank, site);
            self.segment
                .control()
                .note_call(self.rank, Call::Wait as u32, site_id);
        }
        self.finish_request(request, site)
    }

    /// As [`Engine::wait`], for a collective: `check` is asked now and then whether the wait makes sense at all.
    pub(crate) fn wait_collective(
        &self,
        request: RequestId,
        check: &dyn Fn() -> Result<()>,
        site: Site,
    ) -> Result<Status> {
        self.block(
            site,
            |state| state.requests.take_result(request),
            |state| check().err().or_else(|| state.hopeless(request)),
        )
    }

    fn finish_request(&self, request: RequestId, site: Site) -> Result<Status> {
        self.block(
            site,
            |state| state.requests.take_result(request),
            |state| state.hopeless(request),
        )
    }

    /// Asks that a posted receive be taken back; sends and matched receives go on. The request must still be waited for.
    pub(crate) fn cancel(&self, request: RequestId, site: Site) -> Result<()> {
        let mut state = self.enter(site)?;
        let completed = state.requests.completed;
        let Some(receive) = state.requests.receive(request) else {
            return Ok(());
        };
        let context = receive.context;
        if matches!(receive.phase, RecvPhase::Posted) && state.contexts.of(context).unpost(request)
        {
            state.requests.complete(
                request,
                Ok(Status {
                    cancelled: true,
                    ..Status::EMPTY
                }),
            );
        }
        self.leave(state, completed);
        Ok(())
    }

    /// Starts a collective's schedule on the communicator's collective context.
    pub(crate) fn start_schedule(
        &self,
        comm: &Comm,
        start: StartSchedule,
        site: Site,
    ) -> Result<RequestId> {
        let mut state = self.enter(site)?;
        let site_id = state.sites.id(&self.segment, self.rank, site);
        self.segment
            .control()
            .note_call(self.rank, Call::Collective as u32, site_id);
        let id = state.start_run(Run::new(comm, start, site, site_id))?;
        drop(state);
        self.run_ready()?;
        Ok(id)
    }

    /// Runs what collectives have to compute, outside of the state.
    fn run_ready(&self) -> Result<()> {
        loop {
            let Some((id, mut run)) = self.state.get().take_ready() else {
                return Ok(());
            };
            run.compute();
            let mut state = self.state.get();
            let completed = state.requests.completed;
            state.put_back(id, run)?;
            self.leave(state, completed);
        }
    }

    /// Waits until the 64-bit word at `offset` of the segment is at least `value`, making progress on everything meanwhile.
    ///
    /// `member` is the rank of `comm` that will write the word: if it is gone, that is an error. `check` is asked now and then, off the
    /// fast path, whether the wait makes sense at all (mismatched collectives).
    #[inline]
    pub(crate) fn wait_word(
        &self,
        comm: &Comm,
        offset: usize,
        value: u64,
        member: usize,
        check: &dyn Fn() -> Result<()>,
        site: Site,
    ) -> Result<()> {
        let word = self.segment.u64(offset);
        for _ in 0..32 {
            // Acquire: pairs with the Release by which the member announced.
            if word.load(Ordering::Acquire) >= value {
                return Ok(());
            }
        }
        self.wait_word_slow(comm, offset, value, member, check, site)
    }

    #[cold]
    fn wait_word_slow(
        &self,
        comm: &Comm,
        offset: usize,
        value: u64,
        member: usize,
        check: &dyn Fn() -> Result<()>,
        site: Site,
    ) -> Result<()> {
        let world = comm.world_rank(member);
        let watch = state::Watch { offset, value };
        if self.state.is_locked() {
            self.state.get().watches.push(watch);
        }
        let word = self.segment.u64(offset);
        let result = self.block(
            site,
            |_| (word.load(Ordering::Acquire) >= value).then_some(Ok(())),
            |state| {
                check()
                    .err()
                    .or_else(|| state.gone_error(world, "a collective"))
            },
        );
        if self.state.is_locked() {
            let mut state = self.state.get();
            if let Some(at) = state.watches.iter().position(|w| *w == watch) {
                state.watches.swap_remove(at);
            }
        }
        result.map_err(|e| e.at(site))
    }

    /// After a word that others wait for was written (Release): wakes the members that sleep.
    #[inline]
    pub(crate) fn wake_members(&self, comm: &Comm) {
        let mut state = self.state.get();
        for &member in comm.members().iter() {
            if member != self.rank {
                state.notify(member);
            }
        }
    }

    /// Notes a collective as the call that this rank is in; gives the call-site id.
    #[inline]
    pub(crate) fn note_collective(&self, site: Site) -> Result<u32> {
        let mut state = self.enter(site)?;
        let site_id = state.sites.id(&self.segment, self.rank, site);
        self.segment
            .control()
            .note_call(self.rank, Call::Collective as u32, site_id);
        Ok(site_id)
    }

    /// Makes progress on everything, without waiting.
    pub(crate) fn progress(&self) -> Result<()> {
        let mut state = self.state.get();
        if self.segment.control().is_aborted() {
            return Err(aborted());
        }
        let completed = state.requests.completed;
        state.fence();
        state.progress()?;
        self.leave(state, completed);
        self.run_ready()
    }

    /// A communicator is not used any more.
    pub(crate) fn forget(&self, comm: &Comm) {
        let mut state = self.state.get();
        state.contexts.forget(comm.context());
        state.contexts.forget(comm.context() | 1);
    }

    /// Drains what this rank still owes to others (sends that were started), and says goodbye. Later calls are errors of class `State`.
    /// The texts name unreceived messages and unfinished requests.
    pub(crate) fn finalize(&self, site: Site) -> Result<Vec<String>> {
        {
            let mut state = self.enter(site)?;
            let site_id = state.sites.id(&self.segment, self.rank, site);
            self.segment
                .control()
                .note_call(self.rank, Call::Finalize as u32, site_id);
        }
        self.block(
            site,
            |state| state.is_drained().then_some(Ok(())),
            |state| state.hopeless_drain(),
        )?;
        let mut state = self.state.get();
        // What has arrived by now and was never asked for is to be told.
        state.progress()?;
        let leftovers = state.leftovers();
        state.fence();
        state.finalized = true;
        drop(state);
        let control = self.segment.control();
        control.set_state(self.rank, RankState::Finalized);
        Ok(leftovers)
    }

    /// This rank's number for a place in the user's program (written to its table in the segment at first use).
    pub(crate) fn site_id(&self, site: Site) -> u32 {
        self.state.get().sites.id(&self.segment, self.rank, site)
    }
}

impl State {
    /// The fast path of a blocking receive: the message is, or soon will be, the next one in the lane, and nothing else could match it.
    /// `None`: take the general path.
    #[inline]
    fn receive_expected(
        &mut self,
        context: u32,
        source: usize,
        world: usize,
        tag: Option<i32>,
        span: &RecvSpan,
    ) -> Result<Option<Result<Status>>> {
        let queues = self.contexts.of(context);
        if !queues.none_posted(source) || !queues.none_unexpected(source) {
            return Ok(None);
        }
        let rx = &mut self.links[world].rx;
        let (mut polls, mut limit) = (0, 0);
        loop {
            let Some(arrival) = rx.peek()? else {
                polls += 1;
                // Counting the ranks awake reads two shared lines; a message that is there already need not wait for that.
                if polls == 1 {
                    limit = self.waiter.first_polls();
                }
                if polls > limit {
                    return Ok(None);
                }
                continue;
            };
            let head = &arrival.head;
            if head.kind != EAGER || head.context != context || tag.is_some_and(|t| t != head.tag) {
                return Ok(None);
            }
            return Ok(Some(self.take_expected(world, &arrival, span)));
        }
    }

    /// Copies the message at the head of the lane into the user's memory.
    #[inline]
    fn take_expected(
        &mut self,
        world: usize,
        arrival: &Arrival,
        span: &RecvSpan,
    ) -> Result<Status> {
        let envelope = protocol::envelope_of(&arrival.head, arrival.len as u64);
        let len = arrival.len as usize;
        let plain =
            !receiving::types_differ(&envelope, span) && len <= span.len() && !span.has_bools();
        let result = if plain {
            // SAFETY: the length was checked, the bytes are in the lane, and the span is lent for the length of the call.
            unsafe { span.unpack(0, len, arrival.payload) };
            Ok(receiving::status_of(&envelope))
        } else {
            self.take_with_care(world, arrival, span, &envelope)
        };
        let link = &mut self.links[world];
        link.rx.add_matched((len as u64).max(EAGER_COST));
        link.rx.consume();
        link.received += 1;
        self.notify(world);
        result
    }

    #[cold]
    fn take_with_care(
        &mut self,
        world: usize,
        arrival: &Arrival,
        span: &RecvSpan,
        envelope: &Envelope,
    ) -> Result<Status> {
        receiving::self_checked(self.rank, &self.segment, span, None, envelope, world)?;
        let len = (arrival.len as usize).min(span.len());
        // SAFETY: `len` bytes fit the span and are in the lane; the span is lent for the length of the call.
        unsafe { span.unpack(0, len, arrival.payload) };
        receiving::finished(span, envelope)
    }

    fn take_message(
        &mut self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
    ) -> Option<MatchedMessage> {
        let unexpected = self
            .contexts
            .of(comm.context())
            .take_unexpected(rank_of(from), tag)?;
        let status = receiving::status_of(&unexpected.envelope);
        let id = self.requests.add(Request::Message(Box::new(unexpected)));
        Some(MatchedMessage { id, status })
    }

    fn hopeless_probe(&self, comm: &Comm, from: Peer) -> Option<Error> {
        match from {
            Peer::Rank(rank) => self.gone_error(comm.world_rank(rank), "a probe"),
            _ => self.all_gone_error(comm.members(), "a probe for any rank"),
        }
    }

    /// Why this rank can never drain what it owes.
    fn hopeless_drain(&mut self) -> Option<Error> {
        let stuck = |r: &Request| match r {
            Request::Send(send) if self.is_gone(send.to) => match send.phase {
                SendPhase::Queued
                | SendPhase::Offered
                | SendPhase::Granted(_)
                | SendPhase::Streaming { .. } => Some((send.to, send.envelope.bytes)),
            },
            _ => None,
        };
        let (to, bytes) = self.requests.active().find_map(stuck)?;
        self.gone_error(to, &format!("finalize with a send of {bytes} bytes"))
    }
}

fn rank_of(from: Peer) -> Option<usize> {
    match from {
        Peer::Rank(rank) => Some(rank),
        _ => None,
    }
}

fn receive_of(comm: &Comm, from: Peer, tag: Option<i32>, span: RecvSpan, site: Site) -> Receive {
    let members = comm.members().clone();
    Receive {
        context: comm.context(),
        from,
        tag,
        span,
        phase: RecvPhase::Posted,
        site,
        message: None,
        members,
        collective: None,
        refused: None,
    }
}

#[inline]
fn check_tag(tag: Option<i32>, site: Site) -> Result<()> {
    match tag {
        Some(tag) if tag < 0 => {
            let text = format!(
                "the tag is {tag}; tags go from 0 to {}",
                crate::model::envelope::MAX_TAG
            );
            Err(Error::new(ErrorClass::Tag, text).at(site))
        }
        _ => Ok(()),
    }
}

#[cold]
fn no_such_rank(what: &str, rank: usize, comm: &Comm) -> Error {
    Error::new(
        ErrorClass::Rank,
        format!(
            "{what} rank {rank} of a communicator with {} ranks (0 to {})",
            comm.size(),
            comm.size() - 1
        ),
    )
}

#[cold]
fn after_finalize() -> Error {
    Error::new(
        ErrorClass::State,
        "a call after finalize: the Universe has been dropped; keep it alive as long as its communicators are used",
    )
}

fn aborted() -> Error {
    Error::new(ErrorClass::Aborted, "the job is ending")
}

#[cfg(test)]
mod tests;
