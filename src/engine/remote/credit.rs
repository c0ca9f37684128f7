//! Credit: what senders that are reached through sockets may send of whole messages, and of payloads ahead of their grant. transport/tcp/README.md has the rules.
use super::super::RequestId;
use super::super::protocol::EAGER_COST;
use super::super::requests::{Senders, State as Request};
use super::super::state::{State, corrupt};
use super::{fabric, plain};
use crate::model::error::Result;
use crate::transport::shm::SlotHead;
use crate::transport::tcp::credit::{CREDIT, for_far};
use crate::transport::tcp::frame::Kind;

/// How often a wait that would be long asks the kernel again, of however many requests: 0.2 µs each.
const ASKS: u32 = 2;

impl State {
    /// Bytes have come from `from` that cost credit.
    pub(super) fn take_credit(&mut self, from: usize, bytes: u64) -> Result<()> {
        let allowed = self
            .remote(from)
            .is_none_or(|remote| remote.given.take(bytes));
        match allowed {
            true => Ok(()),
            false => Err(corrupt(from, "more than it was given credit for")),
        }
    }

    /// Counts bytes of `from` that cost credit and whose message has been matched, and tells the sender now and then.
    #[inline]
    pub(in super::super) fn add_remote_matched(&mut self, from: usize, bytes: u64) {
        if let Some(remote) = self.remote(from) {
            remote.given.matched(bytes);
            self.tell_credit(from, None);
        }
        if self.mpi.as_ref().is_some_and(|mpi| mpi.is_to_tell(from)) {
            self.give_credit(from);
        }
    }

    /// Counts a message that came through MPI and has been matched. Nobody is told: that stands between a message and its receiver.
    #[inline(always)]
    pub(super) fn count_mpi_matched(&mut self, from: usize, len: usize) {
        let link = self.links.get_mut(from);
        if let Some(remote) = link.and_then(|link| link.remote.as_mut()) {
            remote.given.matched((len as u64).max(EAGER_COST));
        }
    }

    /// What was counted by [`State::count_mpi_matched`] has not come.
    pub(super) fn uncount_mpi_matched(&mut self, from: usize, len: usize) {
        if let Some(remote) = self.remote(from) {
            remote.given.put_back((len as u64).max(EAGER_COST));
        }
    }

    /// Tells `from` what it may send through MPI, and how many of its messages were taken, if it is time.
    #[inline(always)]
    pub(super) fn tell_through_mpi(&mut self, from: usize) {
        let link = self.links.get(from);
        let (Some(remote), Some(mpi)) = (link.and_then(|link| link.remote.as_ref()), &self.mpi)
        else {
            return;
        };
        if remote.given.is_due(Some(fabric::CREDIT / 4)) || mpi.is_to_tell(from) {
            self.give_credit(from);
        }
    }

    /// Tells `from` what it may send, if that is `least` bytes more than it knows; `None`: if it is worth a frame of its own.
    #[inline]
    pub(super) fn tell_credit(&mut self, from: usize, least: Option<u64>) {
        if self
            .remote(from)
            .is_some_and(|remote| remote.given.is_due(least))
        {
            self.give_credit(from);
        }
    }

    #[inline(never)]
    fn give_credit(&mut self, from: usize) {
        let Some(remote) = self.links[from].remote.as_deref_mut() else {
            return;
        };
        let allowed = match &mut self.net {
            Some(net) => {
                let window = match remote.far {
                    true => for_far(remote.kept, net.far),
                    false => CREDIT,
                };
                remote.is_to_be_measured = remote.far;
                remote.given.tell(window, &mut net.pool)
            }
            None => remote.given.tell(fabric::CREDIT, &mut 0),
        };
        if let Some(mpi) = &mut self.mpi {
            return mpi.tell(from, allowed);
        }
        let head = SlotHead {
            code: allowed,
            ..SlotHead::default()
        };
        self.push_frame(from, &plain(Kind::Credit, head));
    }

    /// The connection with `peer` stands: is it long?
    pub(super) fn begin_path(&mut self, peer: usize) {
        if let Some(remote) = self.remote(peer) {
            remote.far = true;
        }
        if let Some(net) = &mut self.net {
            net.far += 1;
        }
        if self.is_still_far(peer) {
            self.measure_path(peer);
            self.give_credit(peer);
        }
    }

    /// Whether the path to `peer` is long. One that was found to be short stays so: the first round trips are those that other work on a host makes longer.
    pub(super) fn is_still_far(&mut self, peer: usize) -> bool {
        let (Some(remote), Some(net)) = (self.links[peer].remote.as_deref_mut(), &mut self.net)
        else {
            return false;
        };
        if let (true, Some(line)) = (remote.far, &mut remote.line) {
            remote.far = line.round_trip().is_some_and(|time| time >= net.far_from);
            net.far -= usize::from(!remote.far);
            if !remote.far {
                // Nobody looks after connections that rest where no path is long.
                line.rest(false);
            }
        }
        remote.far
    }

    /// Whether the path to `peer` was long when last looked at.
    pub(in super::super) fn is_known_as_far(&self, peer: usize) -> bool {
        let remote = self.links[peer].remote.as_ref();
        remote.is_some_and(|remote| remote.far)
    }

    /// Whether all of these requests are for peers behind long paths, and there is one at least.
    pub(in super::super) fn are_far(&mut self, requests: &[RequestId]) -> bool {
        let any_far = self.net.as_ref().is_some_and(|net| net.far > 0);
        let mut asks = ASKS;
        let mut is_far = |id: &RequestId| self.is_far(*id, &mut asks);
        any_far && !requests.is_empty() && requests.iter().all(&mut is_far)
    }

    /// `asks`: how often the kernel may still be asked.
    fn is_far(&mut self, id: RequestId, asks: &mut u32) -> bool {
        let peer = match self.requests.get(id) {
            Some(Request::Plain(plain)) => plain.world as usize,
            Some(Request::Send(send)) => send.to,
            Some(Request::Receive(receive)) => match (receive.message, &receive.senders) {
                (Some((_, from)), _) | (None, &Senders::One(from)) => from,
                (None, Senders::Any(_)) => return false,
            },
            Some(Request::Run(Some(run))) => {
                let pending = run.pending().to_vec();
                return self.are_far(&pending);
            }
            _ => return false,
        };
        // Asked anew: the first round trips may have been longer than the path is, and short messages alone never ask. A wait that is long can spare the time.
        match asks.checked_sub(1) {
            None => self.is_known_as_far(peer),
            Some(left) => {
                *asks = left;
                self.is_still_far(peer)
            }
        }
    }

    /// How much the kernel now keeps of what comes from `peer`.
    pub(super) fn measure_path(&mut self, peer: usize) {
        if !self.is_still_far(peer) {
            return;
        }
        if let Some(remote) = self.remote(peer) {
            remote.is_to_be_measured = false;
            remote.kept = remote.line.as_ref().map_or(0, |line| line.kept());
        }
    }

    /// The connection with `peer` is no more.
    pub(super) fn end_path(&mut self, peer: usize) {
        let was_far = self
            .remote(peer)
            .is_some_and(|remote| core::mem::take(&mut remote.far));
        if let Some(net) = &mut self.net {
            net.far -= usize::from(was_far);
        }
    }

    /// `CREDIT`: `from` lets this rank send so much in all. Nonsense harms only the bound on its own memory.
    pub(super) fn arrive_credit(&mut self, from: usize, allowed: u64) {
        if let Some(remote) = self.remote(from) {
            remote.allowed = remote.allowed.max(allowed);
        }
        self.put_parts(from);
    }
}
