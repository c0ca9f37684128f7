//! Sends: which path a message takes, and how it gets there when lanes and streams have room again.
use super::large::Staging;
use super::matching::Payload;
use super::protocol::{
    self, CREDIT, DATA, DONE, EAGER, EAGER_COST, EAGER_MAX, INLINE, LONG_MAX, Offer, STREAM, Source,
};
use super::requests::{Send, SendPhase, State as Request};
use super::state::{Link, Queued, Spans, State, corrupt};
use super::{RequestId, SendMode, SendSpan};
use crate::model::error::Result;
use crate::model::{Envelope, Site, Status};
use crate::transport::shm::spans::LongSpans;
use crate::transport::shm::way::{Distance, Way};
use crate::transport::shm::{LaneTx, SlotHead, StreamTx};
use std::time::{Duration, Instant};

/// From here on a message is worth a look at how far it goes: the lane's ring is written around the cache where it goes far.
pub(super) const MIDDLE: usize = 512;
/// From here on a message to a near core goes through the long ring. Near, half a round trip through the lane's and through the long one: 512 bytes 179 and
/// 192 ns, 1 KiB 255 and 187, 2 KiB 347 and 238, 4 KiB 770 and 287 (Zen 4).
pub(super) const LONG_FROM: usize = 1024;
/// The same of messages that follow each other: a slot's lines are in their receiver's cache, those of a ring that is longer than that mostly are not. In windows of 64, near, through the
/// slot and through the long ring: 512 bytes 84 and 78 ns a message, 768 bytes 137 and 89, 1000 bytes 190 and 116.
pub(super) const LONG_FROM_OF_MANY: usize = MIDDLE;
const _: () = assert!(LONG_FROM > INLINE);

/// A send whose best way is closed waits so long for its receiver to take what it was sent, or longer while the receiver sends something itself. With it a
/// window of 64 both ways at once takes, near, 221 ns a message of 4 KiB instead of 516, of 8 KiB 324 instead of 963.
const PATIENCE: Duration = Duration::from_micros(2);
const PATIENCE_BUSY: Duration = Duration::from_micros(20);

fn has_slot(link: &mut Link) -> bool {
    link.tx.as_mut().is_some_and(LaneTx::has_slot)
}

/// Sends a message of middle size through the lane's own ring, whatever the distance.
fn push_in_lane(link: &mut Link, head: &SlotHead, span: &SendSpan) -> bool {
    let far = link.near.distance() == Some(Distance::Far);
    let Some(tx) = &mut link.tx else { return false };
    let len = span.len();
    // SAFETY: all of the span, into room for `len` bytes in the ring.
    tx.try_ring(head, len, |out| unsafe { span.pack_lane(len, out, far) })
}

impl State {
    /// Whether the receiver owes so little that `bytes` more may be sent before they are matched.
    #[inline]
    pub(super) fn has_credit(&mut self, to: usize, bytes: usize) -> bool {
        let link = &mut self.links[to];
        let cost = (bytes as u64).max(EAGER_COST);
        if link.charged + cost - link.matched <= CREDIT {
            return true;
        }
        if let Some(tx) = &mut link.tx {
            // A neighbour that writes nonsense here harms only the bound on its own memory.
            link.matched = tx.matched_bytes().min(link.charged);
        }
        link.charged + cost - link.matched <= CREDIT
    }

    /// Sends the whole message now, if it is small, there is credit, and the lane has room. `more`: others are likely to follow at once.
    #[inline]
    pub(super) fn try_eager(
        &mut self,
        to: usize,
        envelope: &Envelope,
        span: &SendSpan,
        more: bool,
    ) -> bool {
        let len = span.len();
        if len > LONG_MAX {
            return false;
        }
        // On a mesh the shortest ones are sent otherwise to near cores, too.
        if len >= MIDDLE || self.on_mesh {
            self.look_at_distance(to);
        }
        if !self.is_eager(to, len) || !self.has_credit(to, len) {
            return false;
        }
        let head = protocol::envelope_head(EAGER, envelope);
        let link = &mut self.links[to];
        let distance = if len >= MIDDLE {
            link.near.distance()
        } else {
            None
        };
        let (near, far) = (
            distance == Some(Distance::Near),
            distance == Some(Distance::Far),
        );
        let long_from = if more { LONG_FROM_OF_MANY } else { LONG_FROM };
        let Some(tx) = link.lane() else { return false };
        let pushed = match span.contiguous_ptr() {
            _ if near && len >= long_from => self.push_long(to, &head, span),
            // Around the cache, for which a body in its slot is no place: 697 ns, half a round trip of 512 bytes, instead of 511.
            _ if far && len <= INLINE => push_in_lane(link, &head, span),
            // SAFETY: the span is lent for the length of the send.
            Some(ptr) if len <= INLINE => unsafe { tx.try_inline_raw(&head, ptr, len) },
            None if len <= INLINE => {
                // SAFETY: all of the span, into room for `len` bytes in the slot.
                tx.try_slot(&head, len, |out| unsafe { span.pack(0, len, out) })
            }
            _ => push_in_lane(link, &head, span),
        };
        let link = &mut self.links[to];
        if pushed {
            link.charged += (len as u64).max(EAGER_COST);
            link.sent += 1;
            link.grant();
            self.notify(to);
        }
        pushed
    }

    /// A send of `len` bytes finds its best way closed: takes what has come from `to`, and waits a moment for it to take what it was sent. Tells
    /// whether the way is open then. Two ranks that send each other many messages at once thus take turns, where each would otherwise only offer its
    /// messages until the other begins to receive.
    fn finds_room(&mut self, to: usize, len: usize) -> Result<bool> {
        // What stands behind an own message that is still being written is offered.
        let eager = self.is_eager(to, len);
        let behind = !eager && (self.streams[0].lent || !self.granted.is_empty());
        let in_vain = self.links[to].in_vain == Some(self.taken_by(to));
        if behind || in_vain || self.waiter.is_crowded() {
            return Ok(false);
        }
        let began = Instant::now();
        loop {
            let any = self.drain(to)?;
            if self.has_room(to, len) {
                return Ok(true);
            }
            let waited = began.elapsed();
            if waited > if any { PATIENCE_BUSY } else { PATIENCE } {
                // Not again before it has taken something.
                self.links[to].in_vain = Some(self.taken_by(to));
                return Ok(false);
            }
        }
    }

    /// Whether a message of `len` bytes would not have to be offered.
    fn has_room(&mut self, to: usize, len: usize) -> bool {
        if self.is_eager(to, len) {
            return self.has_credit(to, len) && has_slot(&mut self.links[to]);
        }
        let tx = self.streams[0].tx.as_mut();
        tx.is_none_or(|tx| tx.takes(len, to))
    }

    /// A number that grows as `to` takes what it was sent.
    fn taken_by(&self, to: usize) -> u64 {
        let stream = self.streams[0].tx.as_ref().map_or(0, StreamTx::taken);
        self.links[to].matched.wrapping_add(stream)
    }

    /// Whether a message of `len` bytes to `to` goes at once with its envelope, if there is room and credit.
    pub(super) fn is_eager(&self, to: usize, len: usize) -> bool {
        len <= EAGER_MAX
            || (len <= LONG_MAX
                && self.links[to].near.distance() == Some(Distance::Near)
                && match self.spans {
                    Spans::Untried => !self.waiter.is_crowded(),
                    Spans::Without => false,
                    Spans::Open(_) => true,
                })
    }

    /// Now and then looks how far away the core of `to` is.
    #[inline]
    pub(super) fn look_at_distance(&mut self, to: usize) {
        let link = &mut self.links[to];
        if let (true, Some(tx)) = (link.near.is_due(), &mut link.tx) {
            if let Some(time) = tx.time_credit() {
                link.near.saw(time);
                let near = link.near.distance() == Some(Distance::Near);
                if near {
                    link.ways.is_near();
                }
                link.claims = self.on_mesh && !near;
            } else {
                link.near.saw_nothing();
            }
        }
    }

    /// Sends a message of middle size to a near core: through this rank's long ring, if there is room in it, else through the lane's, if it is
    /// short enough for that.
    fn push_long(&mut self, to: usize, head: &SlotHead, span: &SendSpan) -> bool {
        if matches!(self.spans, Spans::Untried) && !self.waiter.is_crowded() {
            self.spans = match LongSpans::open(&self.segment, self.places.local()) {
                Ok(spans) => Spans::Open(spans),
                Err(_) => Spans::Without,
            };
        }
        let links = &mut self.links;
        if let (Spans::Open(spans), true) = (&mut self.spans, has_slot(&mut links[to])) {
            let len = span.len();
            let freed = |to: usize, position| {
                let tx = links[to].tx.as_mut();
                tx.is_some_and(|tx| tx.has_freed(position))
            };
            if let Some(room) = spans.room(len, freed) {
                // SAFETY: all of the span, into room for `len` bytes in the ring, which nobody reads before it is in the lane.
                unsafe { span.pack_ring(0, len, room.ptr, Way::Through) };
                let tx = links[to].tx.as_mut();
                let Some(position) = tx.and_then(|tx| tx.try_long(head, len, room.at)) else {
                    return false;
                };
                spans.lend(room, len, to, position);
                return true;
            }
        }
        span.len() <= EAGER_MAX && push_in_lane(&mut self.links[to], head, span)
    }

    /// Starts a send to another rank or to this one; `None` if it is complete already.
    pub(super) fn start_send(
        &mut self,
        to: usize,
        envelope: Envelope,
        span: SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<Option<RequestId>> {
        if to == self.rank {
            return self.send_to_self(envelope, span, mode, site);
        }
        if self.links[to].tx.is_none() {
            if self.links[to].remote.is_some() {
                return self.start_remote_send(to, envelope, span, mode, site, false);
            }
            self.open_lane(to)?;
        }
        let first = self.links[to].queue.is_empty();
        if first && mode != SendMode::Synchronous {
            if self.try_eager(to, &envelope, &span, false) {
                return Ok(None);
            }
            if !self.has_room(to, span.len())
                && self.finds_room(to, span.len())?
                && self.try_eager(to, &envelope, &span, false)
            {
                return Ok(None);
            }
        }
        let send = Send {
            envelope,
            to,
            span,
            mode,
            phase: SendPhase::Queued,
            site,
        };
        let id = self.requests.add(Request::Send(Box::new(send)));
        if first && self.try_envelope(to, id)? {
            self.notify(to);
        } else {
            self.enqueue(to, Queued::Envelope(id));
        }
        Ok(Some(id))
    }

    /// Puts the envelope of a queued send into the lane; false if there is no room.
    pub(super) fn try_envelope(&mut self, to: usize, id: RequestId) -> Result<bool> {
        let Some(send) = self.requests.send(id) else {
            return Ok(true);
        };
        let (envelope, span, mode) = (send.envelope, send.span.clone(), send.mode);
        let long = span.len() > EAGER_MAX;
        if !long && mode != SendMode::Synchronous && self.has_credit(to, span.len()) {
            let pushed = self.try_eager(to, &envelope, &span, false);
            if pushed {
                self.finish(id, Status::EMPTY);
            }
            return Ok(pushed);
        }
        if long {
            self.look_at_distance(to);
        }
        let source = match long {
            true => self.source_of_long(to, &span, mode)?,
            false => Source::Held,
        };
        let passage = match source {
            Source::Stream(passage) => Some(passage),
            _ => None,
        };
        let (head, body) = protocol::offer(&envelope, &Offer { send: id, source });
        let link = &mut self.links[to];
        if !link.lane().is_some_and(|tx| tx.try_inline(&head, &body)) {
            if let Some(passage) = &passage {
                self.leave_stream(passage);
            }
            return Ok(false);
        }
        link.sent += 1;
        let phase = match passage {
            Some(passage) => SendPhase::streaming(&passage),
            None => SendPhase::Offered,
        };
        if let Some(send) = self.requests.send(id) {
            send.phase = phase;
        }
        if passage.is_some() {
            // The receiver should see the offer before this rank is busy with copying.
            self.notify(to);
            self.stream(id)?;
        }
        Ok(true)
    }

    /// Where the receiver is to find the payload of a long message.
    fn source_of_long(&mut self, to: usize, span: &SendSpan, mode: SendMode) -> Result<Source> {
        if let Some(at) = self.in_own_heap(span) {
            if self.in_place(to).offers(span.len()) {
                return Ok(Source::Heap(at as u64));
            }
        }
        if let Some(address) = self.offers_address(to, span) {
            return Ok(Source::Address(address));
        }
        if mode == SendMode::Synchronous {
            return Ok(Source::Held);
        }
        Ok(match self.take_stream(to, span.len(), false)? {
            Staging::Now(passage) => Source::Stream(passage),
            Staging::Soon | Staging::Full => Source::Held,
        })
    }

    /// `CTS`: the receive is matched, the payload may go.
    pub(super) fn arrive_grant(
        &mut self,
        from: usize,
        id: RequestId,
        flags: u8,
        receive: RequestId,
    ) -> Result<()> {
        let len = match self.requests.send(id) {
            Some(send) if send.to == from && matches!(send.phase, SendPhase::Offered) => {
                send.phase = SendPhase::Granted(receive);
                send.span.len()
            }
            _ => return Err(corrupt(from, "an answer to a send that is not under way")),
        };
        if len > EAGER_MAX {
            if flags & protocol::FLAG_HEAP != 0 {
                self.in_place(from).refused(len);
            }
            self.granted.push_back(id);
            self.pump_sends()?;
            return Ok(());
        }
        if self.links[from].queue.is_empty() && self.try_data(from, id)? {
            self.notify(from);
        } else {
            self.enqueue(from, Queued::Data(id));
        }
        Ok(())
    }

    /// Sends the payload of a granted small message; false if there is no room.
    pub(super) fn try_data(&mut self, to: usize, id: RequestId) -> Result<bool> {
        let Some(send) = self.requests.send(id) else {
            return Ok(true);
        };
        let SendPhase::Granted(receive) = send.phase else {
            return Ok(true);
        };
        let span = send.span.clone();
        let head = protocol::addressed(DATA, 0, receive);
        let len = span.len();
        let Some(tx) = self.links[to].lane() else {
            return Ok(false);
        };
        let pushed = if len <= INLINE {
            // SAFETY: all of the span, into room for `len` bytes in the slot.
            tx.try_slot(&head, len, |out| unsafe { span.pack(0, len, out) })
        } else {
            // SAFETY: all of the span, into room for `len` bytes in the ring.
            tx.try_ring(&head, len, |out| unsafe { span.pack(0, len, out) })
        };
        if pushed {
            self.finish(id, Status::EMPTY);
        }
        Ok(pushed)
    }

    /// `DONE`: the receiver has the payload, or does not want it.
    pub(super) fn arrive_done(&mut self, from: usize, id: RequestId, flags: u8) -> Result<()> {
        match self.requests.send(id) {
            Some(send) if send.to == from && matches!(send.phase, SendPhase::Offered) => {}
            _ => return Err(corrupt(from, "an answer to a send that is not under way")),
        }
        self.links[from]
            .wish
            .told(flags & protocol::FLAG_SINGLE_COPY != 0);
        self.finish(id, Status::EMPTY);
        Ok(())
    }

    /// Begins to copy a send into the stream that it has; what does not go now goes with progress.
    fn stream(&mut self, id: RequestId) -> Result<()> {
        self.pump_send(id)?;
        if !self.requests.is_complete(id) {
            self.sending.push(id);
        }
        Ok(())
    }

    /// Gives granted sends streams that have become free, and moves all streaming ones on.
    pub(super) fn pump_sends(&mut self) -> Result<bool> {
        let mut any = false;
        let (mut at, mut behind) = (0, None);
        while let Some(&id) = self.granted.get(at) {
            let Some(send) = self.requests.send(id) else {
                self.granted.remove(at);
                continue;
            };
            let (to, len) = (send.to, send.span.len());
            let SendPhase::Granted(receive) = send.phase else {
                self.granted.remove(at);
                continue;
            };
            if behind == Some(to) {
                at += 1;
                continue;
            }
            let passage = match self.take_stream(to, len, true)? {
                Staging::Now(passage) => passage,
                Staging::Soon => {
                    behind = Some(to);
                    continue;
                }
                Staging::Full => break,
            };
            self.granted.remove(at);
            if let Some(send) = self.requests.send(id) {
                send.phase = SendPhase::streaming(&passage);
            }
            self.push_control(
                to,
                protocol::addressed(STREAM, 0, receive),
                protocol::stream_body(&passage),
            )?;
            self.stream(id)?;
            any = true;
        }
        let mut at = 0;
        while at < self.sending.len() {
            let id = self.sending[at];
            any |= self.pump_send(id)?;
            if self.requests.is_complete(id) {
                self.sending.swap_remove(at);
            } else {
                at += 1;
            }
        }
        Ok(any)
    }

    /// A message to this rank itself.
    fn send_to_self(
        &mut self,
        envelope: Envelope,
        span: SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Result<Option<RequestId>> {
        let me = self.rank;
        let queues = self.contexts.of(envelope.context);
        if let Some(posted) = queues.match_posted(envelope.source as usize, envelope.tag) {
            self.deliver_own(posted.request, envelope, &span);
            return Ok(None);
        }
        // Small messages are held like any other's; longer ones stay in the sender's memory until they are received.
        if mode != SendMode::Synchronous && span.len() <= EAGER_MAX {
            let payload = Payload::Heap(span.to_packed().into_boxed_slice());
            self.hold(envelope, me, payload);
            return Ok(None);
        }
        let send = Send {
            envelope,
            to: me,
            span,
            mode,
            phase: SendPhase::Offered,
            site,
        };
        let id = self.requests.add(Request::Send(Box::new(send)));
        self.hold(envelope, me, Payload::Local(id));
        Ok(Some(id))
    }

    /// Tells the sender that its payload is not needed any more.
    pub(super) fn push_done(&mut self, to: usize, send: RequestId, flags: u8) -> Result<()> {
        self.push_control(
            to,
            protocol::addressed(DONE, flags, send),
            [0; protocol::CONTROL],
        )
    }
}
