//! The fast path of a blocking receive: the next message of the lane is the one that is wanted.
use super::*;

impl State {
    /// The fast path of a blocking receive: the message is, or soon will be, the next one in the lane, and nothing else could match it.
    /// `None`: take the general path.
    #[inline]
    pub(super) fn receive_expected(
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
}
