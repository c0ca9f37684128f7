//! Probes, and receives of what a matched probe took.
use super::*;

impl Engine {
    /// Waits until a message is there, for at most `limit`: then an error of class `TimeLimit`.
    pub(crate) fn probe(
        &self,
        limit: Option<Limit>,
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
        let result = self.block_probing(limit, site, found, |state| {
            state.hopeless_probe(comm, from, limit)
        });
        result.map_err(|error| in_time(error, limit, from, tag))
    }

    /// As [`Engine::block`], for a message that is no request's: other threads that take it in tell of it.
    fn block_probing<T>(
        &self,
        limit: Option<Limit>,
        site: Site,
        found: impl FnMut(&mut State) -> Option<Result<T>>,
        hopeless: impl Fn(&mut State) -> Option<Error>,
    ) -> Result<T> {
        self.state.get().probing += 1;
        let result = self.block_within(limit, &[], site, found, hopeless);
        self.state.get().probing -= 1;
        result
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

    /// Waits for a message, for at most `limit` as [`Engine::probe`], and takes it out of matching. From `Peer::Null` there is none: the
    /// status is empty and a receive of it too.
    pub(crate) fn matched_probe(
        &self,
        limit: Option<Limit>,
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
        let result = self.block_probing(
            limit,
            site,
            |state| state.take_message(comm, from, tag).map(Ok),
            |state| state.hopeless_probe(comm, from, limit),
        );
        result.map_err(|error| in_time(error, limit, from, tag))
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
            senders: Senders::One(unexpected.from),
            collective: None,
            refused: None,
            asked: None,
        };
        let request = state.requests.add(Request::Receive(Box::new(receive)));
        state.deliver(request, *unexpected)?;
        self.leave(state, completed);
        Ok(request)
    }
}

/// The error of a probe, which tells what did not come in time.
fn in_time(error: Error, limit: Option<Limit>, from: Peer, tag: Option<i32>) -> Error {
    match (limit, error.site()) {
        (Some(limit), Some(site)) if is_late(&error) => limit.no_message(from, tag).at(site),
        _ => error,
    }
}

impl State {
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

    fn hopeless_probe(&self, comm: &Comm, from: Peer, limit: Option<Limit>) -> Option<Error> {
        let gone = match from {
            Peer::Rank(rank) => self.gone_error(comm.world_rank(rank), "a probe"),
            _ => self.all_gone_error(comm.members(), "a probe for any rank"),
        };
        gone.or_else(|| match limit {
            None => self.probes_itself(comm, from),
            Some(_) => None,
        })
    }
}
