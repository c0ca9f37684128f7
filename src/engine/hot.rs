//! The way of a small message on which nothing stands: one look at a link, one line, one copy.
//!
//! Each function here does the whole of a call, or has done nothing when it says so; then its caller takes the general way, which knows
//! every case and finds every error. benches/counting.rs counts their instructions.
use super::protocol::LONG_MAX;
use super::remote::{Came, Left, Soon};
use super::requests::Plain;
use super::sending::MIDDLE;
use super::state::BATCH;
use super::*;
use crate::model::TypeCode;
use crate::transport::mpi::Part;
use crate::transport::shm::lane::FirstWord;
use crate::transport::shm::{INLINE, LaneRx, SMALL};

// All that goes this way has room in a slot.
const _: () = assert!(MIDDLE <= INLINE);

impl Engine {
    /// Sends a message of at most `most` bytes, less than [`MIDDLE`], now, if nothing stands in its way; `more`: others are likely to follow at once.
    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the call's own, one for one"
    )]
    pub(super) fn send_now(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
        (most, more): (usize, bool),
    ) -> bool {
        let (Peer::Rank(rank), Some(ptr)) = (to, span.contiguous_ptr()) else {
            return false;
        };
        let len = span.len();
        if len > most || tag < 0 || mode == SendMode::Synchronous {
            return false;
        }
        let Some(&world) = comm.members().get(rank) else {
            return false;
        };
        let Some(mut state) = self.state.get_unlocked() else {
            return false;
        };
        let state = &mut *state;
        let Some(link) = state.links.get_mut(world) else {
            return false;
        };
        // Each grant has the bytes of a small one.
        let (grants, cost) = match most {
            SMALL => (1, EAGER_COST),
            _ => (len.div_ceil(SMALL).max(1) as u32, len.max(SMALL) as u64),
        };
        let Some(tx) = link.tx.as_mut().filter(|_| link.grants >= grants) else {
            return false;
        };
        let envelope = self.envelope(&mut state.sites, comm, tag, span, mode, site);
        let head = protocol::envelope_head(EAGER, &envelope);
        // SAFETY: the span is lent for the length of the call, and its length was checked; a grant is a free slot.
        unsafe { tx.push(&head, ptr, span.len()) };
        if more {
            tx.expect_more(len);
        }
        link.grants -= grants;
        link.charged += cost;
        link.sent += 1;
        state.waiter.wake(world);
        if !link.dirty {
            state.mark_dirty(world);
        }
        true
    }

    /// Sends a message now that goes whole, if nothing stands in its way; `more` is as in [`Engine::send_now`].
    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the call's own, one for one"
    )]
    pub(super) fn send_middle(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
        more: bool,
    ) -> bool {
        let Peer::Rank(rank) = to else { return false };
        let Some(&world) = comm.members().get(rank) else {
            return false;
        };
        if span.len() > LONG_MAX || tag < 0 || mode == SendMode::Synchronous {
            return false;
        }
        let Some(mut state) = self.state.get_unlocked() else {
            return false;
        };
        let waits = !state.links[world].queue.is_empty();
        if state.finalized || waits || state.places.is_remote(world) {
            return false;
        }
        let envelope = self.envelope(&mut state.sites, comm, tag, span, mode, site);
        let sent = state.try_eager(world, &envelope, span, more);
        if let (true, Some(tx)) = (sent && more, &state.links[world].tx) {
            // Longer ones are mostly in a ring.
            tx.expect_more(0);
        }
        sent
    }

    /// What a receive of the next message from one rank needs, if no other message could match it, and no other receive that one: the state, that rank, and the
    /// communicator's context. `due` tells whether everything else is to get its progress now.
    #[inline(always)]
    pub(super) fn next_from(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
        due: impl FnOnce(&mut State) -> bool,
    ) -> Option<(Guard<'_, State>, usize, u32)> {
        let Peer::Rank(rank) = from else { return None };
        let &world = comm.members().get(rank)?;
        if tag.is_some_and(|tag| tag < 0) || span.has_bools() || world == self.rank {
            return None;
        }
        let mut guard = self.state.get_unlocked()?;
        let state = &mut *guard;
        if state.finalized || due(state) {
            return None;
        }
        let context = comm.context();
        if !state.contexts.of(context).is_quiet(rank) {
            return None;
        }
        let site_id = state.sites.id(&self.segment, self.rank, site);
        note_call(&self.last_call, Call::Receive as u32, site_id);
        Some((guard, world, context))
    }

    /// Receives the next message of the lane, if it is there or comes soon, and is what is wanted, and nothing else could match it.
    #[inline(always)]
    pub(super) fn receive_now(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
    ) -> Option<Status> {
        let Peer::Rank(rank) = from else { return None };
        let (mut state, world, context) =
            self.next_from(comm, from, tag, span, site, State::progress_is_due)?;
        let state = &mut *state;
        let link = state.links.get_mut(world)?;
        let first = match link.rx.first() {
            Some(first) => first,
            None if state.places.is_remote(world) => return None,
            None => await_soon(&link.rx, &state.waiter)?,
        };
        let arrival = match link.rx.short(first) {
            Some(arrival) => arrival,
            None => link.rx.longer()?,
        };
        let (head, len) = (&arrival.head, arrival.len as usize);
        if head.kind != EAGER
            || head.context != context
            || tag.is_some_and(|tag| tag != head.tag)
            || len > span.len()
            || !TypeCode(head.code).goes_with(span.code())
        {
            return None;
        }
        // SAFETY: the length was checked, the bytes are in the lane, and the span is lent for the length of the call.
        unsafe { span.take(&arrival) };
        let tag = head.tag;
        link.received += 1;
        link.expect_answer(len);
        if link.rx.consume(&arrival, (len as u64).max(EAGER_COST)) {
            state.notify(world);
        }
        Some(Status {
            source: Some(rank),
            tag: Some(tag),
            bytes: len as u64,
            cancelled: false,
        })
    }

    /// As [`Engine::send_now`], which has been tried, to a rank that is reached through the site's MPI; a request if it is not over.
    #[inline(always)]
    pub(super) fn send_through_mpi(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Option<Option<RequestId>> {
        let Peer::Rank(rank) = to else { return None };
        let &world = comm.members().get(rank)?;
        if tag < 0 || mode == SendMode::Synchronous {
            return None;
        }
        let mut state = self.state.get_unlocked()?;
        if !state.sends_soon(world, span.len()) {
            return None;
        }
        let envelope = self.envelope(&mut state.sites, comm, tag, span, mode, site);
        state.send_soon(world, envelope, span, mode, site)
    }

    /// Sends a message as the blocking send before it went through the site's MPI, if it is like that one: this is the way of most, and as short as can be. A
    /// request if it is not over; `None`: it is not like that one, or something stands in its way.
    #[inline(always)]
    pub(super) fn send_again(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Option<Option<RequestId>> {
        let Peer::Rank(rank) = to else { return None };
        let &world = comm.members().get(rank)?;
        let mut state = self.state.get_unlocked()?;
        let note = |site_id| note_call(&self.last_call, Call::Send as u32, site_id);
        let part = state.send_again((comm, world), tag, span, mode, site, note)?;
        Some(part.map(|part| self.leaves(&mut state, (comm, world), tag, span, mode, site, part)))
    }

    /// A request for what [`Engine::send_again`] has sent, and has not left.
    #[cold]
    #[inline(never)]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the call's own, one for one"
    )]
    fn leaves(
        &self,
        state: &mut State,
        (comm, world): (&Comm, usize),
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
        part: Part,
    ) -> RequestId {
        let envelope = self.envelope(&mut state.sites, comm, tag, span, mode, site);
        state.leaves(world, envelope, span.clone(), mode, site, (None, part))
    }

    /// As [`Engine::send_now`], which has been tried, to a rank that is reached through a socket.
    #[inline(always)]
    pub(super) fn send_through_socket(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Option<Result<()>> {
        let Peer::Rank(rank) = to else { return None };
        let &world = comm.members().get(rank)?;
        if tag < 0 || mode == SendMode::Synchronous {
            return None;
        }
        let mut state = self.state.get_unlocked()?;
        if state.finalized || !state.sends_directly(world, span.len()) {
            return None;
        }
        let envelope = self.envelope(&mut state.sites, comm, tag, span, mode, site);
        state.send_directly(world, &envelope, span)
    }

    /// As [`Engine::receive_now`], which has been tried, from a rank that is reached through a socket or the site's MPI. On its own, so that the other way stays
    /// short. What it gives is small and without gaps: a status, moved as a whole, is read before it is written out.
    #[inline(always)]
    pub(super) fn receive_from_afar(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
    ) -> Option<Result<Soon>> {
        let mut due = false;
        let not_now = |state: &mut State| {
            due = state.progress_was_due();
            state.mpi.is_none() && (state.net.is_none() || due)
        };
        let (mut state, world, _) = self.next_from(comm, from, tag, span, site, not_now)?;
        if !state.places.is_remote(world) {
            return None;
        }
        if state.mpi.is_some() {
            let soon = state.receive_soon(world, (comm, from, tag), span, site, due)?;
            return Some(soon.map_err(|e| e.at(site)));
        }
        let Peer::Rank(rank) = from else { return None };
        let ptr = span.contiguous_ptr()?;
        let soon = state.receive_directly(plain(ptr, (rank, world), comm, tag, span, site))?;
        Some(soon.map_err(|e| e.at(site)))
    }

    /// As [`Engine::receive_from_afar`], through the site's MPI, of a message like one before: this is the way of most, and as short as can be.
    /// `due` is as in [`Engine::next_from`].
    #[inline(always)]
    pub(super) fn receive_again(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
        due: impl FnOnce(&mut State) -> bool,
    ) -> core::result::Result<Came, Left> {
        let Peer::Rank(rank) = from else {
            return Err(Left::Everything);
        };
        let &world = comm.members().get(rank).ok_or(Left::Everything)?;
        if span.has_bools() {
            return Err(Left::Everything);
        }
        let mut state = self.state.get_unlocked().ok_or(Left::Everything)?;
        if due(&mut state)
            || state.mpi.is_none()
            || state.finalized
            || !state.places.is_remote(world)
            || !state.contexts.of(comm.context()).is_quiet(rank)
        {
            return Err(Left::Everything);
        }
        state.receive_again(world, (comm, from, tag), span, site, |state| {
            let site_id = state.sites.id(&self.segment, self.rank, site);
            note_call(&self.last_call, Call::Receive as u32, site_id);
        })
    }

    /// Posts a receive of plain items from one rank, where nothing that it could take is held.
    #[inline(always)]
    pub(super) fn post_now(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
    ) -> Option<RequestId> {
        let Peer::Rank(rank) = from else { return None };
        let &world = comm.members().get(rank)?;
        if tag.is_some_and(|tag| tag < 0) || span.has_bools() || world == self.rank {
            return None;
        }
        let ptr = span.contiguous_ptr()?;
        let mut state = self.state.get_unlocked()?;
        let state = &mut *state;
        if state.finalized {
            return None;
        }
        let queues = state.contexts.of(comm.context());
        if !queues.none_unexpected(rank) {
            return None;
        }
        let peer = (rank, world);
        let id = state
            .requests
            .add_with(|| Request::Plain(plain(ptr, peer, comm, tag, span, site)));
        queues.post(Some(rank), tag, id);
        let site_id = state.sites.id(&self.segment, self.rank, site);
        note_call(&self.last_call, Call::Receive as u32, site_id);
        Some(id)
    }

    /// The status of a request that has completed without an error; then it is gone.
    #[inline(always)]
    pub(crate) fn take_now(&self, request: RequestId) -> Option<Status> {
        if request == RequestId::COMPLETE {
            return Some(Status::EMPTY);
        }
        let mut state = self.state.get_unlocked()?;
        if state.finalized {
            return None;
        }
        if request == RequestId::GATHERED {
            return state.is_let_go().then_some(Status::EMPTY);
        }
        state.requests.take_status(request)
    }

    /// Gives `got` the statuses of these requests, which are gone then, up to the first one that has not completed without an error.
    #[inline(always)]
    pub(crate) fn take_row<T>(
        &self,
        row: impl Iterator<Item = (RequestId, T)>,
        mut got: impl FnMut(T, Status),
    ) {
        let Some(mut state) = self.state.get_unlocked() else {
            return;
        };
        if state.finalized {
            return;
        }
        for (id, whose) in row {
            // A send that was gathered, and has left with the one before it that was waited for.
            let status = match id.is_always_complete() && state.is_let_go() {
                true => Some(Status::EMPTY),
                false => state.requests.take_status(id),
            };
            let Some(status) = status else { return };
            got(whose, status);
        }
    }

    /// As [`Engine::take_now`], after a look at the lane from which the message of a plain receive comes, and a few flights of a message if it is not there: who has
    /// just sent something itself would else stand at the general way's fence until that has left, and only then look again.
    pub(super) fn wait_for_lane(&self, request: RequestId) -> Result<Option<Status>> {
        let Some(mut state) = self.state.get_unlocked() else {
            return Ok(None);
        };
        let state = &mut *state;
        let from = state.requests.plain(request).map(|plain| plain.world);
        let Some(world) = from.map(|world| world as usize) else {
            return Ok(None);
        };
        if state.finalized || state.progress_is_due() {
            return Ok(None);
        }
        let (taken, published) = state.take_posted(world, BATCH);
        if published {
            // The sender may sleep because its lane was full.
            state.notify(world);
        }
        if taken == 0 {
            state.await_posted(world)?;
        }
        Ok(state.requests.take_status(request))
    }
}

/// A receive from the rank with these numbers in the communicator and in the world, into contiguous memory, as a plain one.
#[inline(always)]
fn plain(
    ptr: *mut u8,
    (rank, world): (usize, usize),
    comm: &Comm,
    tag: Option<i32>,
    span: &RecvSpan,
    site: Site,
) -> Plain {
    Plain {
        ptr,
        bytes: span.len(),
        code: span.code(),
        period: span.period() as u32,
        context: comm.context(),
        source: rank as u32,
        world: world as u32,
        tag,
        site,
    }
}

/// Polls the lane alone for a few flights of a message.
#[inline(always)]
fn await_soon(rx: &LaneRx, waiter: &Waiter) -> Option<FirstWord> {
    // Counting the ranks awake reads two shared lines; a message that is there already need not wait for that.
    let mut left = waiter.first_polls();
    while left > 0 {
        if let Some(first) = rx.first() {
            return Some(first);
        }
        rx.prefetch_span();
        left -= 1;
    }
    None
}

impl State {
    /// Waits a moment for the next message of the lane, and takes it.
    #[inline(never)]
    fn await_posted(&mut self, from: usize) -> Result<()> {
        let rx = &self.links[from].rx;
        let is_there = rx.first().is_some()
            || (!self.places.is_remote(from) && await_soon(rx, &self.waiter).is_some());
        if !is_there {
            return Ok(());
        }
        let (taken, published) = self.take_posted(from, BATCH);
        if published {
            self.notify(from);
        }
        if taken == 0 {
            self.drain(from)?;
        }
        Ok(())
    }

    /// Copies messages at the head of the lane, up to `limit`, to the plain receives that are the first ones posted for their source, as long
    /// as they go there without any question. How many, and whether the sender can see it. Where no receive is posted there is no look at the next message: two ranks
    /// that send to each other at once would each fetch the line that the other one is about to write, and send nothing before it has come.
    #[inline(always)]
    pub(super) fn take_posted(&mut self, from: usize, limit: usize) -> (usize, bool) {
        let (mut taken, mut published) = (0, false);
        let link = &mut self.links[from];
        while taken < limit {
            let Some(first) = link.rx.first() else {
                break;
            };
            // What is wrong with a message is found by the general way.
            let arrival = match link.rx.short(first) {
                Some(arrival) => arrival,
                None => match link.rx.longer() {
                    Some(arrival) => arrival,
                    None => break,
                },
            };
            let (head, len) = (&arrival.head, arrival.len as usize);
            if head.kind != EAGER {
                break;
            }
            let queues = self.contexts.of(head.context);
            let Some(posted) = queues.posted_alone(head.source as usize) else {
                break;
            };
            let Some(request) = posted.front().and_then(|p| p.request_if(head.tag)) else {
                break;
            };
            let filled = self.requests.complete_plain(request, |plain| {
                if plain.world as usize != from
                    || len > plain.bytes
                    || !TypeCode(head.code).goes_with(plain.code)
                {
                    return None;
                }
                // SAFETY: the length was checked, the bytes are in the lane, and the memory is lent until the request is complete.
                unsafe { arrival.copy_to(plain.ptr) };
                Some(Status {
                    source: Some(plain.source as usize),
                    tag: Some(head.tag),
                    bytes: len as u64,
                    cancelled: false,
                })
            });
            if !filled {
                break;
            }
            posted.pop_front();
            link.received += 1;
            published |= link.rx.consume(&arrival, (len as u64).max(EAGER_COST));
            taken += 1;
            if posted.is_empty() {
                link.expect_answer(len);
                break;
            }
        }
        (taken, published)
    }
}
