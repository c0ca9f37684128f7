//! Waits that only this rank itself could end, while all of its threads wait.
//!
//! Below `Multiple` the thread that waits is the only one that may call, so a wait for a message from this rank itself can never end. At
//! `Multiple` another thread may serve it. So each thread whose wait only this rank could end is counted, and when as many are counted as
//! the process has threads (the lifeline's apart), none is left that could. The count belongs to an epoch, the number of requests completed:
//! a thread counts itself under the engine's lock, right after it has seen that its wait is not over, and whatever ends such a wait
//! completes a request (or brings a message for probes, which counts as that). So when the count is full nobody's wait is over. A wait with
//! a time limit ends by itself: its thread is never counted. A process with a thread that idles elsewhere is never accused.
use super::requests::{RecvPhase, SendPhase, Senders, State as Request};
use super::state::{State, tag_in_words};
use super::{Comm, Peer, RequestId};
use crate::model::{Error, ErrorClass};
use crate::sys::process;
use core::time::Duration;
use std::time::Instant;

/// A thread's part in the count of those that wait without hope.
#[derive(Default)]
pub(super) struct Counted(Option<u64>);

/// Whether receives were tested that can never be complete.
#[derive(Default)]
pub(super) enum Vain {
    #[default]
    Never,
    Since(Instant),
    Told,
}

/// The threads that wait for what only this rank could do.
#[derive(Default)]
pub(super) struct Alone {
    epoch: u64,
    threads: usize,
}

/// How long receives are tested that can never be complete before that is told.
const IN_VAIN: Duration = Duration::from_secs(1);

impl State {
    /// Whether the request is a receive that has met no message yet.
    pub(super) fn may_be_cancelled(&mut self, request: RequestId) -> bool {
        match self.requests.get(request) {
            Some(Request::Plain(_)) => true,
            Some(Request::Receive(receive)) => {
                matches!(receive.phase, RecvPhase::Posted) && receive.collective.is_none()
            }
            _ => false,
        }
    }

    /// A receive was tested that can never be complete. Whether it is time to tell.
    pub(super) fn is_tested_in_vain(&mut self) -> bool {
        match self.vain {
            Vain::Never => self.vain = Vain::Since(Instant::now()),
            Vain::Since(first) if first.elapsed() >= IN_VAIN => {
                self.vain = Vain::Told;
                return true;
            }
            _ => {}
        }
        false
    }

    /// Why `request` can never become complete while this thread waits for it: only a further call of this rank could make it so.
    pub(super) fn waits_for_itself(&mut self, request: RequestId) -> Option<Error> {
        // An operator of the user's, in a collective that is under way, may call too.
        if self.threads || !self.runs.is_empty() {
            return None;
        }
        let me = self.rank;
        match self.requests.get(request)? {
            Request::Send(send) if send.to == me && matches!(send.phase, SendPhase::Offered) => {
                let (bytes, tag) = (send.envelope.bytes, send.envelope.tag);
                Some(for_itself(
                    me,
                    &format!("a send of {bytes} bytes with tag {tag} to itself"),
                    "start the receive first, by an immediate call",
                ))
            }
            Request::Receive(receive) if matches!(receive.phase, RecvPhase::Posted) => {
                let only_me = match &receive.senders {
                    Senders::One(from) => *from == me,
                    Senders::Any(members) => members.iter().all(|&member| member == me),
                };
                let what = format!("a receive with {} from itself", tag_in_words(receive.tag));
                only_me.then(|| for_itself(me, &what, SEND_FIRST))
            }
            _ => None,
        }
    }

    /// The same of a probe.
    pub(super) fn probes_itself(&self, comm: &Comm, from: Peer) -> Option<Error> {
        let only_me = match from {
            Peer::Rank(rank) => comm.world_rank(rank) == self.rank,
            _ => comm.members().iter().all(|&member| member == self.rank),
        };
        (only_me && !self.threads && self.runs.is_empty())
            .then(|| for_itself(self.rank, "a probe of its own messages", SEND_FIRST))
    }

    /// What `hopeless` says of a wait if no other thread of this rank can do anything any more. The thread is counted, unless its wait is
    /// one that another rank could end.
    pub(super) fn hopeless_of_all_threads(
        &mut self,
        counted: &mut Counted,
        hopeless: impl Fn(&mut State) -> Option<Error>,
    ) -> Option<Error> {
        if !self.threads || !self.runs.is_empty() {
            return None;
        }
        self.threads = false;
        let error = hopeless(self);
        self.threads = true;
        let error = error?;
        let now = self.requests.completed;
        if self.alone.epoch != now {
            self.alone = Alone {
                epoch: now,
                threads: 0,
            };
        }
        if counted.0 != Some(now) {
            self.alone.threads += 1;
            counted.0 = Some(now);
        }
        let threads = self.alone.threads;
        (process::threads_but(crate::job::lifeline::THREAD) == Some(threads)).then(|| match threads
        {
            1 => error,
            _ => {
                let text = format!("{}; all {threads} threads of it wait", error.text());
                Error::new(ErrorClass::Gone, text)
            }
        })
    }

    /// The thread waits no longer.
    pub(super) fn waits_no_longer(&mut self, counted: &Counted) {
        if counted.0 == Some(self.alone.epoch) {
            self.alone.threads -= 1;
        }
    }
}

const SEND_FIRST: &str = "send first, or receive by an immediate call";

fn for_itself(me: usize, what: &str, advice: &str) -> Error {
    Error::new(
        ErrorClass::Gone,
        format!(
            "rank {me} waits in {what}, which nobody else can satisfy, so that it would wait for ever; {advice}"
        ),
    )
}
