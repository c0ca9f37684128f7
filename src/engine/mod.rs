//! What MPI means in motion: matching, requests, eager and rendezvous, the schedule runner, progress.
//!
//! The engine is an object. It knows ranks of communicators as `usize`, memory as spans, and never panics or exits: every failure is an
//! [`Error`] that its caller decides about. `ErrorClass::Aborted` says that the job is ending.
//!
//! Calling threads: below [`ThreadLevel::Multiple`] the caller (the face) guarantees that only one thread at a time is inside; at
//! `Multiple` the engine locks, and holds no lock while it blocks or runs a user's function.

pub(crate) mod comm;
pub(crate) mod span;

pub(crate) use comm::Comm;
pub(crate) use span::{RecvSpan, SendSpan};

use crate::job::Segment;
use crate::model::error::Result;
use crate::model::{Schedule, Signature, Site, Status};
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

/// The engine of one rank.
pub(crate) struct Engine {
    segment: Arc<Segment>,
    rank: usize,
    level: ThreadLevel,
}

/// Every method is a complete call: `site` is where the user's program made it.
impl Engine {
    /// The engine of local rank `rank` over `segment`. The rank counts as awake from here on.
    pub(crate) fn new(segment: Arc<Segment>, rank: usize, level: ThreadLevel) -> Result<Engine> {
        Ok(Engine {
            segment,
            rank,
            level,
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

    /// Blocking send.
    pub(crate) fn send(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<()> {
        let _ = (comm, to, tag, span, mode, site);
        unimplemented!()
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
        let _ = (comm, to, tag, span, mode, site);
        unimplemented!()
    }

    /// Blocking receive; `tag` `None` is any.
    pub(crate) fn receive(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
    ) -> Result<Status> {
        let _ = (comm, from, tag, span, site);
        unimplemented!()
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
        let _ = (comm, from, tag, span, site);
        unimplemented!()
    }

    /// Waits until a message is there.
    pub(crate) fn probe(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        site: Site,
    ) -> Result<Status> {
        let _ = (comm, from, tag, site);
        unimplemented!()
    }

    pub(crate) fn immediate_probe(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        site: Site,
    ) -> Result<Option<Status>> {
        let _ = (comm, from, tag, site);
        unimplemented!()
    }

    /// Waits for a message and takes it out of matching. From `Peer::Null` there is none: the status is empty and a receive of it too.
    pub(crate) fn matched_probe(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        site: Site,
    ) -> Result<MatchedMessage> {
        let _ = (comm, from, tag, site);
        unimplemented!()
    }

    pub(crate) fn immediate_matched_probe(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        site: Site,
    ) -> Result<Option<MatchedMessage>> {
        let _ = (comm, from, tag, site);
        unimplemented!()
    }

    /// Starts the receive of a message that a matched probe took.
    pub(crate) fn start_matched_receive(
        &self,
        message: MatchedMessage,
        span: RecvSpan,
        site: Site,
    ) -> Result<RequestId> {
        let _ = (message, span, site);
        unimplemented!()
    }

    /// Whether the request is complete; if so it is gone. Makes progress on everything.
    pub(crate) fn test(&self, request: RequestId, site: Site) -> Result<Option<Status>> {
        let _ = (request, site);
        unimplemented!()
    }

    /// Waits until the request is complete; then it is gone.
    pub(crate) fn wait(&self, request: RequestId, site: Site) -> Result<Status> {
        let _ = (request, site);
        unimplemented!()
    }

    /// Asks that a posted receive be taken back; sends and matched receives go on. The request must still be waited for.
    pub(crate) fn cancel(&self, request: RequestId, site: Site) -> Result<()> {
        let _ = (request, site);
        unimplemented!()
    }

    /// Starts a collective's schedule on the communicator's collective context.
    pub(crate) fn start_schedule(
        &self,
        comm: &Comm,
        start: StartSchedule,
        site: Site,
    ) -> Result<RequestId> {
        let _ = (comm, start, site);
        unimplemented!()
    }

    /// Waits until the 64-bit word at `offset` of the segment is at least `value`, making progress on everything meanwhile.
    ///
    /// `member` is the rank of `comm` that will write the word: if it is gone, that is an error. `check` is asked now and then, off the
    /// fast path, whether the wait makes sense at all (mismatched collectives).
    pub(crate) fn wait_word(
        &self,
        comm: &Comm,
        offset: usize,
        value: u64,
        member: usize,
        check: &dyn Fn() -> Result<()>,
        site: Site,
    ) -> Result<()> {
        let _ = (comm, offset, value, member, check, site);
        unimplemented!()
    }

    /// After a word that others wait for was written (Release): wakes the members that sleep.
    pub(crate) fn wake_members(&self, comm: &Comm) {
        let _ = comm;
        unimplemented!()
    }

    /// Makes progress on everything, without waiting.
    pub(crate) fn progress(&self) -> Result<()> {
        unimplemented!()
    }

    /// Drains what this rank still owes to others (sends that were started), and says goodbye. Later calls are errors of class `State`.
    /// The texts name unreceived messages and unfinished requests.
    pub(crate) fn finalize(&self, site: Site) -> Result<Vec<String>> {
        let _ = site;
        unimplemented!()
    }

    /// This rank's number for a place in the user's program (written to its table in the segment at first use).
    pub(crate) fn site_id(&self, site: Site) -> u32 {
        let _ = site;
        unimplemented!()
    }
}
