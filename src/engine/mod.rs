//! What MPI means in motion: matching, requests, eager and rendezvous, the schedule runner, progress.
//!
//! The engine is an object. It knows ranks of communicators as `usize`, memory as spans, and never panics or exits: every failure is an
//! [`Error`] that its caller decides about. `ErrorClass::Aborted` says that the job is ending.
//!
//! Calling threads: below [`ThreadLevel::Multiple`] the caller (the face) guarantees that only one thread at a time is inside; at
//! `Multiple` the engine locks, and holds no lock while it blocks or runs a user's function.

mod alone;
mod block;
mod collectives;
pub(crate) mod comm;
mod explain;
mod fifo;
mod guarded;
mod hot;
mod in_place;
mod large;
mod limit;
mod matching;
mod messages;
mod places;
mod probing;
mod protocol;
mod receiving;
mod remote;
mod requests;
mod run;
mod sending;
mod settings;
mod sites;
pub(crate) mod span;
mod state;
mod straight;

pub(crate) use comm::Comm;
pub(crate) use limit::{Limit, is_late};
pub(crate) use places::Places;
pub(crate) use remote::{Mpi, Sockets};
pub(crate) use settings::Settings;
pub(crate) use span::{RecvSpan, SendSpan};

use crate::job::control::note_call;
use crate::job::segment::Word;
use crate::job::{HeapBlock, RankState, Segment};
use crate::model::error::Result;
use crate::model::{
    COLLECTIVE_CALLS, Call, Costs, Envelope, Error, ErrorClass, Schedule, Signature, Site, Status,
};
use crate::wait::{Turn, Waiter};
use core::sync::atomic::{AtomicU64, Ordering};
use guarded::{Guard, Guarded};
use protocol::{EAGER, EAGER_COST};
use requests::{Receive, RecvPhase, SendPhase, Senders, State as Request};
use run::Run;
use sites::Sites;
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
///
/// One word, for it is handed up right after a send: written in halves and read whole it would wait, like a fence, until the send's store
/// has reached the other core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestId(u64);

impl RequestId {
    /// An operation that was over when its call returned, with an empty status: it has no entry.
    pub(crate) const COMPLETE: RequestId = RequestId(u32::MAX as u64);
    /// A send that was over too, but whose message, or one behind it, may still be gathered with others: asking after it lets them go.
    pub(super) const GATHERED: RequestId = RequestId(1 << 32 | u32::MAX as u64);

    #[inline]
    pub(crate) fn new(index: u32, generation: u32) -> RequestId {
        RequestId(u64::from(generation) << 32 | u64::from(index))
    }

    #[inline]
    pub(crate) fn index(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether it stands for what was over when its call returned.
    #[inline]
    pub(super) fn is_always_complete(self) -> bool {
        self.index() == u32::MAX
    }

    /// The status of what was over when its call returned, and needs nobody's attention any more.
    #[inline(always)]
    pub(crate) fn settled(self) -> Option<Status> {
        (self == RequestId::COMPLETE).then_some(Status::EMPTY)
    }

    /// The request with this number.
    pub(super) fn from_number(number: u64) -> RequestId {
        RequestId(number)
    }

    /// A number that no other operation under way of this rank has at the same time.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
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
    /// The scratch buffer, at least as long as the schedule asks, filled with this rank's packed contribution.
    pub(crate) scratch: Vec<u8>,
    pub(crate) combine: Option<Combine>,
    /// Where parts of the scratch buffer are unpacked to at the end.
    pub(crate) results: Vec<(core::ops::Range<usize>, RecvSpan)>,
    pub(crate) signature: Signature,
    /// The number of this collective on its communicator; the same on all members.
    pub(crate) sequence: u64,
}

/// By what ranks are reached that share no memory.
pub(crate) enum Carrier {
    Sockets(Box<Sockets>),
    Mpi(Box<Mpi>),
}

/// The engine of one rank.
pub(crate) struct Engine {
    segment: Arc<Segment>,
    rank: usize,
    places: Arc<Places>,
    level: ThreadLevel,
    costs: Costs,
    last_call: Word<AtomicU64>,
    /// Whether the site's MPI has every message to another rank.
    has_no_lanes: bool,
    waiter: Arc<Waiter>,
    turn: Turn,
    state: Guarded<State>,
}

/// Every method is a complete call: `site` is where the user's program made it.
impl Engine {
    /// The engine of local rank `rank` over `segment`. The rank counts as awake from here on.
    #[cfg(test)]
    pub(crate) fn new(segment: Arc<Segment>, rank: usize, settings: Settings) -> Result<Engine> {
        Engine::among(
            segment.clone(),
            Places::here(&segment, rank),
            settings,
            None,
        )
    }

    /// The engine of a rank of a job with several hosts. With `sockets` the ranks that `places` says are remote are reached.
    pub(crate) fn among(
        segment: Arc<Segment>,
        places: Places,
        settings: Settings,
        carrier: Option<Carrier>,
    ) -> Result<Engine> {
        let places = Arc::new(places);
        let (rank, local) = (places.rank(), places.local());
        let (sockets, mpi) = match carrier {
            None => (None, None),
            Some(Carrier::Sockets(sockets)) => (Some(sockets), None),
            Some(Carrier::Mpi(mpi)) => (None, Some(mpi)),
        };
        let epoll = sockets.as_ref().map(|sockets| sockets.epoll());
        let nap = mpi.as_ref().and_then(|mpi| mpi.nap());
        let waiter = Waiter::among(
            &segment,
            places.indices(),
            rank,
            settings.wait,
            settings.spread,
            epoll,
            nap,
        );
        let waiter = Arc::new(waiter);
        let mut state = State::new(segment.clone(), places.clone(), waiter.clone(), settings);
        state.net = sockets;
        if let Some(mpi) = mpi {
            state.join_mpi(mpi);
        }
        let mut others = (0..places.ranks()).filter(|&other| other != rank);
        let has_no_lanes = state.mpi.is_some() && others.all(|other| places.is_remote(other));
        let control = segment.control();
        control.set_state(local, RankState::Active);
        let last_call = Word::at64(&segment, control.last_call_word(local));
        let locked = settings.level == ThreadLevel::Multiple;
        Ok(Engine {
            segment,
            rank,
            places,
            level: settings.level,
            costs: settings.costs,
            last_call,
            has_no_lanes,
            waiter,
            turn: Turn::default(),
            state: Guarded::new(state, locked),
        })
    }

    /// This process's number in the job: its rank in the world, unless it was spawned.
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks the job has room for.
    pub(crate) fn size(&self) -> usize {
        self.places.ranks()
    }

    /// Whether some ranks are reached through sockets.
    pub(crate) fn has_sockets(&self) -> bool {
        self.places.any_remote()
    }

    /// A number for the host that each of these ranks of the job is on.
    pub(crate) fn hosts_of(&self, ranks: &[usize]) -> Vec<u32> {
        let of = |rank: &usize| self.places.host(&self.segment, *rank);
        ranks.iter().map(of).collect()
    }

    /// What messages cost inside of hosts and between them.
    pub(crate) fn costs(&self) -> &Costs {
        &self.costs
    }

    /// Whether these ranks of the job, of which this is one, share memory.
    pub(crate) fn share_memory(&self, ranks: &[usize]) -> bool {
        !ranks.iter().any(|&rank| self.places.is_remote(rank))
    }

    pub(crate) fn level(&self) -> ThreadLevel {
        self.level
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Memory that the ranks of this host can read; `None` where there is none.
    pub(crate) fn take_from_heap(&self, bytes: usize) -> Option<HeapBlock> {
        HeapBlock::take(&self.segment, self.places.local(), bytes)
    }

    /// Where in this rank's heap all of `span` lies, if it is packed and does.
    pub(crate) fn place_in_heap(&self, span: &SendSpan) -> Option<usize> {
        self.state.get().in_own_heap(span)
    }

    /// The index of a rank of this host in what the host's ranks share.
    pub(crate) fn local_index(&self, rank: usize) -> usize {
        self.places.index(rank)
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
        if !self.state.is_locked() {
            return;
        }
        let news = state.requests.completed != completed;
        // The thread that polls may sleep, and does not know that the set is to tell it of room.
        let unwritten = state.holds_output();
        drop(state);
        if news {
            self.turn.news();
        }
        if news || unwritten {
            self.waiter.wake_fenced(self.rank);
        }
    }

    /// The world rank of `to`, and the envelope of a message to it. `None`: to nobody.
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the call's own, one for one"
    )]
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
        let envelope = self.envelope(&mut state.sites, comm, tag, span, mode, site);
        Ok(Some((comm.world_rank(rank), envelope)))
    }

    /// The envelope of a message that is sent at `site`, which is noted.
    #[inline(always)]
    fn envelope(
        &self,
        sites: &mut Sites,
        comm: &Comm,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Envelope {
        let site_id = sites.id(&self.segment, self.rank, site);
        note_call(&self.last_call, Call::Send as u32, site_id);
        Envelope {
            context: comm.context(),
            source: comm.rank() as u32,
            tag,
            bytes: span.len() as u64,
            code: span.code(),
            site: site_id,
            sync: mode == SendMode::Synchronous,
            ready: mode == SendMode::Ready,
        }
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
        note_call(&self.last_call, call as u32, site_id);
        Ok(Some(()))
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
            note_call(&self.last_call, Call::Finalize as u32, site_id);
        }
        self.block(
            &[],
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
        state.links.iter_mut().for_each(|link| link.grants = 0);
        drop(state);
        self.take_leave(site)?;
        let control = self.segment.control();
        control.set_state(self.places.local(), RankState::Finalized);
        Ok(leftovers)
    }
}

impl State {
    /// Why this rank can never drain what it owes.
    fn hopeless_drain(&mut self) -> Option<Error> {
        let stuck = |r: &Request| match r {
            Request::Send(send) if self.is_gone(send.to) => match send.phase {
                SendPhase::Queued
                | SendPhase::Offered
                | SendPhase::Granted(_)
                | SendPhase::Leaving { .. }
                | SendPhase::Streaming { .. } => Some((send.to, send.envelope.bytes)),
            },
            _ => None,
        };
        if let Some((to, bytes)) = self.requests.active().find_map(stuck) {
            return self.gone_error(to, &format!("finalize with a send of {bytes} bytes"));
        }
        // Collectives that were started and never waited for.
        let runs = self.runs.clone();
        runs.into_iter().find_map(|run| self.hopeless(run))
    }
}

fn rank_of(from: Peer) -> Option<usize> {
    match from {
        Peer::Rank(rank) => Some(rank),
        _ => None,
    }
}

fn receive_of(comm: &Comm, from: Peer, tag: Option<i32>, span: RecvSpan, site: Site) -> Receive {
    let senders = match from {
        Peer::Rank(rank) => Senders::One(comm.world_rank(rank)),
        _ => Senders::Any(comm.members().clone()),
    };
    Receive {
        context: comm.context(),
        from,
        tag,
        span,
        phase: RecvPhase::Posted,
        site,
        message: None,
        senders,
        collective: None,
        refused: None,
        asked: None,
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
mod races;
#[cfg(test)]
mod tests;
