//! Sending and receiving, as calls.
use super::remote::{Left, Soon};
use super::sending::MIDDLE;
use super::straight::Straight;
use super::*;
use crate::transport::shm::SMALL;

impl Engine {
    /// Whether all other ranks are reached through the site's MPI. Known where the program is built without it, so that the way by lanes is no longer for it.
    #[inline(always)]
    fn has_no_lanes(&self) -> bool {
        crate::sys::mpi::Mpi::PRESENT && self.has_no_lanes
    }

    /// Blocking send.
    #[inline(always)]
    pub(crate) fn send(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<()> {
        match self.has_no_lanes() {
            true => self.send_afar(comm, to, tag, span, mode, site),
            false => self.send_near(comm, to, tag, span, mode, site),
        }
    }

    /// As [`Engine::send`] where some other ranks are reached through lanes.
    #[inline]
    fn send_near(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<()> {
        if self.send_now(comm, to, tag, span, mode, site, (SMALL, false)) {
            return Ok(());
        }
        self.send_generally(comm, to, tag, span, mode, site)
    }

    /// As [`Engine::send`] where all other ranks are reached through the site's MPI.
    #[inline(always)]
    fn send_afar(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<()> {
        match self.send_again(comm, to, tag, span, mode, site) {
            Some(None) => Ok(()),
            Some(Some(leaving)) => self.finish_request(leaving, None, site).map(drop),
            None => self.send_generally(comm, to, tag, span, mode, site),
        }
    }

    #[inline(never)]
    fn send_generally(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<()> {
        // A shorter one would meet what it has met, or has no lane to go by.
        let sent = match span.len() {
            0..=SMALL => false,
            len if len < MIDDLE => {
                self.send_now(comm, to, tag, span, mode, site, (MIDDLE - 1, false))
            }
            _ => self.send_middle(comm, to, tag, span, mode, site, false),
        };
        if sent {
            return Ok(());
        }
        match self.send_straight(comm, to, tag, span, mode, site) {
            Some(Ok(Straight::Over(()))) => return Ok(()),
            Some(Ok(Straight::Rest(request))) => {
                return self.finish_request(request, None, site).map(drop);
            }
            Some(Err(error)) => return Err(error),
            None => {}
        }
        match self.send_through_mpi(comm, to, tag, span, mode, site) {
            Some(None) => return Ok(()),
            Some(Some(leaving)) => return self.finish_request(leaving, None, site).map(drop),
            None => {}
        }
        if let Some(sent) = self.send_through_socket(comm, to, tag, span, mode, site) {
            return sent.map_err(|e| e.at(site));
        }
        self.send_in_any_way(comm, to, tag, span.clone(), mode, site)
    }

    #[inline(never)]
    fn send_in_any_way(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<()> {
        let mut state = self.enter(site)?;
        let Some((world, envelope)) = self.address(&mut state, comm, to, tag, &span, mode, site)?
        else {
            return Ok(());
        };
        if mode != SendMode::Synchronous
            && state.links[world].queue.is_empty()
            && state.try_eager(world, &envelope, &span, false)
        {
            return Ok(());
        }
        let completed = state.requests.completed;
        let request = state.start_send(world, envelope, span, mode, site)?;
        self.leave(state, completed);
        match request {
            None => Ok(()),
            Some(request) => self.finish_request(request, None, site).map(drop),
        }
    }

    /// Starts a send. The span's memory must stay as it is until the request is complete.
    ///
    /// Inlined, as [`Engine::start_receive`], so that what is known of the span stays so: 64 messages of 8 bytes are bound by such things.
    #[inline(always)]
    pub(crate) fn start_send(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<RequestId> {
        if self.send_now(comm, to, tag, &span, mode, site, (SMALL, true)) {
            return Ok(RequestId::COMPLETE);
        }
        self.start_send_generally(comm, to, tag, span.clone(), mode, site)
    }

    #[inline(never)]
    fn start_send_generally(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<RequestId> {
        let sent = match span.len() < MIDDLE {
            true => self.send_now(comm, to, tag, &span, mode, site, (MIDDLE - 1, true)),
            false => self.send_middle(comm, to, tag, &span, mode, site, true),
        };
        if sent {
            return Ok(RequestId::COMPLETE);
        }
        let mut state = self.enter(site)?;
        let completed = state.requests.completed;
        let request = match self.address(&mut state, comm, to, tag, &span, mode, site)? {
            Some((world, envelope)) if state.links[world].remote.is_some() => {
                // Where another thread may sleep in the one place that writes, nothing is left for later.
                let gather = !self.state.is_locked();
                state.start_remote_send(world, envelope, span, mode, site, gather)?
            }
            Some((world, envelope)) => state.start_send(world, envelope, span, mode, site)?,
            None => None,
        };
        self.leave(state, completed);
        Ok(request.unwrap_or(RequestId::COMPLETE))
    }

    /// A send that nobody may wait for soon: it leaves now.
    pub(crate) fn let_go(&self, request: RequestId, site: Site) -> Result<()> {
        self.enter(site)?.let_go(request).map_err(|e| e.at(site))
    }

    /// Blocking receive; `tag` `None` is any.
    #[inline(always)]
    pub(crate) fn receive(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
    ) -> Result<Status> {
        match self.has_no_lanes() {
            true => self.receive_afar(comm, from, tag, span, site),
            false => self.receive_near(comm, from, tag, span, site),
        }
    }

    /// As [`Engine::receive`] where some other ranks are reached through lanes.
    #[inline]
    fn receive_near(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
    ) -> Result<Status> {
        if let Some(status) = self.receive_now(comm, from, tag, span, site) {
            return Ok(status);
        }
        self.receive_generally(comm, from, tag, span.clone(), site)
    }

    /// As [`Engine::receive`] where all other ranks are reached through the site's MPI.
    #[inline(always)]
    fn receive_afar(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
    ) -> Result<Status> {
        match self.receive_again(comm, from, tag, span, site, State::progress_is_due) {
            Ok(came) => Ok(came.status()),
            Err(left) => self.receive_after(left, comm, from, tag, span, site),
        }
    }

    /// As [`Engine::receive`], after [`Engine::receive_now`]. On its own, so that the way of most messages through the site's MPI is short.
    #[inline(never)]
    fn receive_generally(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: RecvSpan,
        site: Site,
    ) -> Result<Status> {
        match self.receive_straight(comm, from, tag, &span, site) {
            Some(Ok(Straight::Over(status))) => return Ok(status),
            Some(Ok(Straight::Rest(request))) => return self.finish_request(request, None, site),
            Some(Err(error)) => return Err(error),
            None => {}
        }
        let was_due = |state: &mut State| state.progress_was_due();
        match self.receive_again(comm, from, tag, &span, site, was_due) {
            Ok(came) => Ok(came.status()),
            Err(left) => self.receive_after(left, comm, from, tag, &span, site),
        }
    }

    /// What is left to do after [`Engine::receive_again`].
    #[inline(never)]
    fn receive_after(
        &self,
        left: Left,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
    ) -> Result<Status> {
        match left {
            Left::Comes(request) => self.finish_request(request, None, site),
            Left::Waited => self.receive_in_any_way(comm, from, tag, span.clone(), site),
            Left::Everything => self.receive_otherwise(comm, from, tag, span.clone(), site),
        }
    }

    #[inline(never)]
    fn receive_otherwise(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: RecvSpan,
        site: Site,
    ) -> Result<Status> {
        match self.receive_from_afar(comm, from, tag, &span, site) {
            Some(Ok(Soon::Here(came))) => Ok(came.status()),
            Some(Ok(Soon::Comes(request))) => self.finish_request(request, None, site),
            Some(Err(error)) => Err(error),
            None => self.receive_in_any_way(comm, from, tag, span, site),
        }
    }

    #[inline(never)]
    fn receive_in_any_way(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: RecvSpan,
        site: Site,
    ) -> Result<Status> {
        let mut state = self.enter(site)?;
        if self
            .wanted(&mut state, comm, from, tag, Call::Receive, site)?
            .is_none()
        {
            return Ok(Status::EMPTY);
        }
        if state.progress_was_due() {
            drop(state);
            self.progress().map_err(|e| e.at(site))?;
            if let Some(status) = self.receive_now(comm, from, tag, &span, site) {
                return Ok(status);
            }
            match self.receive_from_afar(comm, from, tag, &span, site) {
                Some(Ok(Soon::Here(came))) => return Ok(came.status()),
                Some(Ok(Soon::Comes(request))) => return self.finish_request(request, None, site),
                Some(Err(error)) => return Err(error),
                None => {}
            }
            state = self.state.get();
        }
        let receive = receive_of(comm, from, tag, span, site);
        let completed = state.requests.completed;
        let request = state.start_receive(receive)?;
        self.leave(state, completed);
        self.finish_request(request, None, site)
    }

    /// As [`Engine::receive`], for at most `limit`. With an error of class `TimeLimit` no message was taken: one that comes later meets the
    /// receives of then. One that has begun to come is received, also if that takes longer.
    pub(crate) fn receive_within(
        &self,
        limit: Limit,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
    ) -> Result<Status> {
        let request = self.start_receive(comm, from, tag, span.clone(), site)?;
        match self.finish_request(request, Some(limit), site) {
            Err(error) if is_late(&error) => {}
            done => return done,
        }
        self.cancel(request, site)?;
        match self.finish_request(request, None, site)? {
            taken_back if taken_back.cancelled => Err(limit.no_message(from, tag).at(site)),
            status => Ok(status),
        }
    }

    /// Posts a receive. The span's memory belongs to the engine until the request is complete.
    #[inline(always)]
    pub(crate) fn start_receive(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: RecvSpan,
        site: Site,
    ) -> Result<RequestId> {
        match self.post_now(comm, from, tag, &span, site) {
            Some(request) => Ok(request),
            None => self.start_receive_generally(comm, from, tag, span.clone(), site),
        }
    }

    #[inline(never)]
    fn start_receive_generally(
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
            return Ok(RequestId::COMPLETE);
        }
        let completed = state.requests.completed;
        // What has arrived so far came before this receive was posted; the order of arrival across sources is as it was.
        let request = state.start_receive(receive_of(comm, from, tag, span, site))?;
        self.leave(state, completed);
        Ok(request)
    }

    /// Whether the request is complete; if so it is gone. Makes progress on everything. `tell` is called once if receives are tested again and
    /// again which can never be complete.
    pub(crate) fn test(
        &self,
        request: RequestId,
        site: Site,
        tell: impl FnOnce(Error),
    ) -> Result<Option<Status>> {
        let mut state = self.enter(site)?;
        state.let_go(request).map_err(|e| e.at(site))?;
        if let Some(result) = state.requests.take_result(request) {
            return result.map(Some).map_err(|e| e.at(site));
        }
        drop(state);
        self.progress()?;
        let mut state = self.state.get();
        if let Some(result) = state.requests.take_result(request) {
            return result.map(Some).map_err(|e| e.at(site));
        }
        if !state.look_for_gone() {
            return Ok(None);
        }
        // Once more, now that it is known who is gone: what they sent is there by now.
        let completed = state.requests.completed;
        let idle = !state.progress()?
            && !state.requests.is_complete(request)
            && !state.may_serve_itself(request);
        let error = idle.then(|| state.hopeless(request)).flatten();
        // The caller may be about to take the receive back.
        let may_cancel = state.may_be_cancelled(request);
        let vain = error.is_some() && may_cancel && state.is_tested_in_vain();
        self.leave(state, completed);
        match error {
            Some(error) if vain => tell(error.at(site)),
            Some(error) if !may_cancel => return Err(error.at(site)),
            _ => {}
        }
        Ok(None)
    }

    /// Waits until the request is complete; then it is gone.
    pub(crate) fn wait(&self, request: RequestId, site: Site) -> Result<Status> {
        self.wait_within(None, request, site)
    }

    /// As [`Engine::wait`], for at most `limit`. With an error of class `TimeLimit` the request goes on.
    pub(crate) fn wait_within(
        &self,
        limit: Option<Limit>,
        request: RequestId,
        site: Site,
    ) -> Result<Status> {
        if let Some(status) = self.wait_for_lane(request).map_err(|e| e.at(site))? {
            return Ok(status);
        }
        {
            let mut state = self.enter(site)?;
            state.let_go(request).map_err(|e| e.at(site))?;
            if let Some(result) = state.requests.take_result(request) {
                return result.map_err(|e| e.at(site));
            }
            let site_id = state.sites.id(&self.segment, self.rank, site);
            note_call(&self.last_call, Call::Wait as u32, site_id);
        }
        self.finish_request(request, limit, site)
    }

    /// Waits until one of the requests is complete; which, and its status. It is gone then; the others stay.
    pub(crate) fn wait_any(&self, requests: &[RequestId], site: Site) -> Result<(usize, Status)> {
        {
            let mut state = self.enter(site)?;
            let site_id = state.sites.id(&self.segment, self.rank, site);
            note_call(&self.last_call, Call::Wait as u32, site_id);
        }
        self.block(
            requests,
            site,
            |state| {
                requests.iter().enumerate().find_map(|(at, &request)| {
                    let result = state.requests.take_result(request)?;
                    Some(result.map(|status| (at, status)))
                })
            },
            // As long as one of them can be complete, the wait makes sense.
            |state| {
                let mut first = None;
                for &request in requests {
                    let error = state
                        .hopeless(request)
                        .or_else(|| state.waits_for_itself(request))?;
                    first.get_or_insert(error);
                }
                first
            },
        )
    }

    /// As [`Engine::wait`], for a collective: `check` is asked now and then whether the wait makes sense at all.
    pub(crate) fn wait_collective(
        &self,
        request: RequestId,
        check: &dyn Fn() -> Result<()>,
        site: Site,
    ) -> Result<Status> {
        self.block(
            &[request],
            site,
            |state| state.requests.take_result(request),
            |state| {
                let error = check().err().or_else(|| state.is_elsewhere(request));
                error.or_else(|| state.hopeless(request))
            },
        )
    }

    pub(super) fn finish_request(
        &self,
        request: RequestId,
        limit: Option<Limit>,
        site: Site,
    ) -> Result<Status> {
        self.block_within(
            limit,
            &[request],
            site,
            |state| state.requests.take_result(request),
            |state| {
                let error = state.is_elsewhere(request);
                let error = error.or_else(|| state.hopeless(request));
                error.or_else(|| match limit {
                    None => state.waits_for_itself(request),
                    Some(_) => None,
                })
            },
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
}
