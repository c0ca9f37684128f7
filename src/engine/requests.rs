//! Requests: objects with a state, found by index and generation.
use super::in_place::Taken;
use super::run::Run;
use super::{Peer, RecvSpan, RequestId, SendMode, SendSpan};
use crate::model::error::Result;
use crate::model::{Envelope, Error, ErrorClass, Signature, Site, Status, TypeCode};
use crate::transport::shm::{Passage, StreamRx};
use core::mem::MaybeUninit;
use std::time::Instant;

/// How far a send has come.
#[derive(Debug)]
pub(super) enum SendPhase {
    /// The lane is full; the envelope waits in the link's queue.
    Queued,
    /// The envelope is out; the payload waits for `CTS` or `DONE`. A message to this rank itself waits so for its receive.
    Offered,
    /// Matched; the receive to which the payload goes, as soon as a stream or the lane has room.
    Granted(RequestId),
    /// The payload goes through this stream of ours; so many bytes have gone.
    Streaming { stream: usize, sent: usize },
    /// The payload leaves through a socket; so many bytes are still here.
    Leaving { left: usize },
}

impl SendPhase {
    /// Nothing has gone yet.
    pub(super) fn streaming(passage: &Passage) -> SendPhase {
        SendPhase::Streaming {
            stream: passage.stream,
            sent: 0,
        }
    }
}

pub(super) struct Send {
    pub(super) envelope: Envelope,
    /// The receiver's world rank.
    pub(super) to: usize,
    pub(super) span: SendSpan,
    pub(super) mode: SendMode,
    pub(super) phase: SendPhase,
    pub(super) site: Site,
}

/// How far a receive has come.
pub(super) enum RecvPhase {
    Posted,
    /// `CTS` sent; payload or a stream follows.
    Awaiting,
    /// The payload comes through a socket; so many bytes have come.
    Coming {
        got: usize,
    },
    /// The payload comes through this stream of its sender; so many bytes have come.
    Streaming {
        rx: Box<StreamRx>,
        got: usize,
    },
}

/// Whose messages a receive takes, in ranks of the world: for the check against departures.
pub(super) enum Senders {
    One(usize),
    Any(super::comm::Members),
}

pub(super) struct Receive {
    pub(super) context: u32,
    pub(super) from: Peer,
    pub(super) tag: Option<i32>,
    pub(super) span: RecvSpan,
    pub(super) phase: RecvPhase,
    pub(super) site: Site,
    /// Once matched: the message, and its sender's world rank.
    pub(super) message: Option<(Envelope, usize)>,
    pub(super) senders: Senders,
    /// What a collective's message must carry; `None` for the user's messages.
    pub(super) collective: Option<Signature>,
    /// Why the payload that is coming will not be delivered.
    pub(super) refused: Option<Error>,
    /// When a payload that could have been read in its sender's heap was asked for through a stream instead.
    pub(super) asked: Option<(Instant, Taken)>,
}

impl Receive {
    pub(super) fn signature(&self) -> Option<Signature> {
        self.collective
    }
}

/// A posted receive as most are: contiguous items without questions, from one other rank. It needs no room of its own; when it meets anything
/// but a small message it becomes a [`Receive`].
#[derive(Clone, Copy)]
pub(super) struct Plain {
    pub(super) ptr: *mut u8,
    pub(super) bytes: usize,
    pub(super) code: TypeCode,
    pub(super) period: u32,
    pub(super) context: u32,
    /// The sender's rank in the communicator, and in the world.
    pub(super) source: u32,
    pub(super) world: u32,
    pub(super) tag: Option<i32>,
    pub(super) site: Site,
}

// SAFETY: as for the `RecvSpan` from which it was made, which is a loan that holds on every thread.
unsafe impl core::marker::Send for Plain {}

impl Plain {
    /// The same receive, ready for everything.
    fn into_receive(self) -> Receive {
        Receive {
            context: self.context,
            from: Peer::Rank(self.source as usize),
            tag: self.tag,
            // SAFETY: the loan of the span from which it was made still holds.
            span: unsafe { RecvSpan::plain(self.ptr, self.bytes, self.code, self.period as usize) },
            phase: RecvPhase::Posted,
            site: self.site,
            message: None,
            senders: Senders::One(self.world as usize),
            collective: None,
            refused: None,
            asked: None,
        }
    }
}

pub(super) enum State {
    Free,
    Plain(Plain),
    Send(Box<Send>),
    Receive(Box<Receive>),
    /// A collective; `None` while its local steps run outside of the engine's state.
    Run(Option<Box<Run>>),
    /// A message that a matched probe took.
    Message(Box<super::matching::Unexpected>),
    Complete(Result<Status>),
}

struct Entry {
    generation: u32,
    state: State,
}

/// Rooms of receives that are kept for the next ones: a window of them is posted and completed without the allocator.
const SPARE: usize = 64;

/// All requests of a rank.
pub(super) struct Requests {
    entries: Vec<Entry>,
    free: Vec<u32>,
    #[expect(clippy::vec_box, reason = "it is the boxes that are kept")]
    spare: Vec<Box<MaybeUninit<Receive>>>,
    /// Counts requests that became complete, and whatever else other threads of the rank may wait for.
    pub(super) completed: u64,
}

impl Requests {
    pub(super) fn new() -> Requests {
        Requests {
            entries: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            completed: 0,
        }
    }

    pub(super) fn add(&mut self, state: State) -> RequestId {
        self.add_with(|| state)
    }

    /// As [`Requests::add`], with a state that is made in its place.
    #[inline(always)]
    pub(super) fn add_with(&mut self, state: impl FnOnce() -> State) -> RequestId {
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.grow(),
        };
        let entry = &mut self.entries[index as usize];
        debug_assert!(matches!(entry.state, State::Free));
        // Nothing is in a free entry that would have to be dropped.
        core::mem::forget(core::mem::replace(&mut entry.state, state()));
        RequestId::new(index, entry.generation)
    }

    /// One more entry.
    #[cold]
    fn grow(&mut self) -> u32 {
        self.entries.push(Entry {
            generation: 0,
            state: State::Free,
        });
        // All can be free at once: giving one back needs no memory.
        self.free.reserve(self.entries.len());
        self.entries.len() as u32 - 1
    }

    /// Adds a receive.
    pub(super) fn add_receive(&mut self, receive: Receive) -> RequestId {
        let receive = self.room(receive);
        self.add(State::Receive(receive))
    }

    /// A room for a receive: one that another one has left if there is any.
    fn room(&mut self, receive: Receive) -> Box<Receive> {
        match self.spare.pop() {
            None => Box::new(receive),
            Some(mut room) => {
                room.write(receive);
                // SAFETY: just written; a `MaybeUninit` has the layout of what it may hold.
                unsafe { Box::from_raw(Box::into_raw(room).cast()) }
            }
        }
    }

    #[inline(always)]
    fn entry(&mut self, id: RequestId) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(id.index() as usize)?;
        (entry.generation == id.generation()).then_some(entry)
    }

    /// The request's state; `None` for an id that is stale or was never given out.
    pub(super) fn get(&mut self, id: RequestId) -> Option<&mut State> {
        let state = &mut self.entry(id)?.state;
        (!matches!(state, State::Free)).then_some(state)
    }

    /// The plain receive that the request still is.
    pub(super) fn plain(&mut self, id: RequestId) -> Option<&Plain> {
        match &self.entry(id)?.state {
            State::Plain(plain) => Some(plain),
            _ => None,
        }
    }

    /// Completes a request that is still a plain receive, if `fill` fills its memory.
    #[inline(always)]
    pub(super) fn complete_plain(
        &mut self,
        id: RequestId,
        fill: impl FnOnce(&Plain) -> Option<Status>,
    ) -> bool {
        let Some(entry) = self.entry(id) else {
            return false;
        };
        let State::Plain(plain) = &entry.state else {
            return false;
        };
        let Some(status) = fill(plain) else {
            return false;
        };
        // Nothing of a plain receive would have to be dropped.
        let complete = State::Complete(Ok(status));
        core::mem::forget(core::mem::replace(&mut entry.state, complete));
        self.completed += 1;
        true
    }

    /// The status of a request that completed without an error, which is then gone.
    #[inline(always)]
    pub(super) fn take_status(&mut self, id: RequestId) -> Option<Status> {
        let entry = self.entry(id)?;
        let State::Complete(Ok(status)) = entry.state else {
            return None;
        };
        core::mem::forget(core::mem::replace(&mut entry.state, State::Free));
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.index());
        Some(status)
    }

    pub(super) fn send(&mut self, id: RequestId) -> Option<&mut Send> {
        match self.get(id)? {
            State::Send(send) => Some(send),
            _ => None,
        }
    }

    /// A receive that is not complete; a plain one gets a room of its own by this.
    pub(super) fn receive(&mut self, id: RequestId) -> Option<&mut Receive> {
        if let Some(&plain) = self.plain(id) {
            let receive = self.room(plain.into_receive());
            *self.get(id)? = State::Receive(receive);
        }
        match self.get(id)? {
            State::Receive(receive) => Some(receive),
            _ => None,
        }
    }

    pub(super) fn complete(&mut self, id: RequestId, result: Result<Status>) {
        if let Some(state) = self.get(id) {
            let before = core::mem::replace(state, State::Complete(result));
            self.completed += 1;
            if let State::Receive(receive) = before {
                self.keep_room(receive);
            }
        }
    }

    #[inline]
    fn keep_room(&mut self, receive: Box<Receive>) {
        if self.spare.len() < SPARE {
            let receive = Box::into_raw(receive);
            // SAFETY: owned, and never used as a receive again; a `MaybeUninit` of the same layout needs nothing of what was in it.
            unsafe {
                receive.drop_in_place();
                self.spare.push(Box::from_raw(receive.cast()));
            }
        }
    }

    pub(super) fn is_complete(&mut self, id: RequestId) -> bool {
        matches!(self.get(id), None | Some(State::Complete(_)))
    }

    /// Removes the request and gives its state.
    pub(super) fn remove(&mut self, id: RequestId) -> State {
        match self.get(id) {
            None => State::Free,
            Some(state) => {
                let state = core::mem::replace(state, State::Free);
                let entry = &mut self.entries[id.index() as usize];
                entry.generation = entry.generation.wrapping_add(1);
                self.free.push(id.index());
                state
            }
        }
    }

    /// The result of a complete request, which is then gone; `None` while it is active.
    #[inline]
    pub(super) fn take_result(&mut self, id: RequestId) -> Option<Result<Status>> {
        if id.is_always_complete() {
            return Some(Ok(Status::EMPTY));
        }
        match self.get(id) {
            Some(State::Complete(_)) => match self.remove(id) {
                State::Complete(result) => Some(result),
                _ => None,
            },
            Some(_) => None,
            None => Some(Err(Error::new(
                ErrorClass::Request,
                "this request was completed before; a request can be waited for once",
            ))),
        }
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &State> {
        self.entries
            .iter()
            .map(|e| &e.state)
            .filter(|s| !matches!(s, State::Free | State::Complete(_)))
    }
}
