//! Receives: what an arrival does, how payloads reach the user's memory, what is checked on the way.
use super::in_place::Taken;
use super::matching::{Payload, Unexpected};
use super::protocol::{self, CTS, EAGER_COST, Offer, Source};
use super::requests::{Receive, RecvPhase};
use super::state::{State, corrupt};
use super::{Peer, RecvSpan, RequestId, SendSpan};
use crate::model::error::Result;
use crate::model::{Envelope, Error, ErrorClass, Signature, Status, TypeCode};
use crate::transport::shm::{Arrival, Passage, SlotHead};

const NO_SUCH_STREAM: &str = "a stream that does not exist";
const NO_SUCH_PLACE: &str = "a place in a heap that has none such";

impl State {
    /// A whole small message is at the head of the lane.
    pub(super) fn arrive_eager(&mut self, from: usize, arrival: &Arrival) -> Result<()> {
        let envelope = self.checked_envelope(from, &arrival.head, arrival.len as u64)?;
        self.links[from].received += 1;
        let queues = self.contexts.of(envelope.context);
        match queues.match_posted(envelope.source as usize, envelope.tag) {
            Some(posted) => {
                let bytes = (arrival.len as u64).max(EAGER_COST);
                if self.links[from].rx.add_matched(bytes) {
                    self.notify(from);
                }
                let Some(receive) = self.requests.receive(posted.request) else {
                    return Ok(());
                };
                let result = self_checked(
                    self.rank,
                    &self.segment,
                    &receive.span,
                    receive.signature(),
                    &envelope,
                    from,
                );
                let result = result.and_then(|()| {
                    let len = (arrival.len as usize).min(receive.span.len());
                    // SAFETY: `len` bytes fit the span, are in the lane, and the span is lent until the request is complete.
                    unsafe {
                        receive
                            .span
                            .unpack_ring(0, len, arrival.payload, arrival.way)
                    };
                    finished(&receive.span, &envelope)
                });
                let site = receive.site;
                self.requests
                    .complete(posted.request, result.map_err(|e| e.at(site)));
            }
            None => self.hold(envelope, from, State::inline_payload(arrival)),
        }
        Ok(())
    }

    /// The envelope in a slot, if it can be one.
    #[inline]
    fn checked_envelope(&self, from: usize, head: &SlotHead, bytes: u64) -> Result<Envelope> {
        let envelope = protocol::envelope_of(head, bytes);
        // No communicator has more members than there are ranks.
        if envelope.source as usize >= self.links.len() || envelope.tag < 0 {
            return Err(corrupt(from, "an envelope that no sender writes"));
        }
        Ok(envelope)
    }

    /// The envelope of a message whose payload is elsewhere.
    pub(super) fn arrive_offer(&mut self, from: usize, arrival: &Arrival) -> Result<()> {
        let (bytes, offer) = protocol::offer_of(&arrival.head, &arrival.body());
        let offer = offer.ok_or_else(|| corrupt(from, NO_SUCH_STREAM))?;
        let envelope = self.checked_envelope(from, &arrival.head, bytes)?;
        self.links[from].received += 1;
        self.take_offer(from, envelope, offer)
    }

    /// A message whose payload is elsewhere has come: it matches now.
    pub(super) fn take_offer(
        &mut self,
        from: usize,
        envelope: Envelope,
        offer: Offer,
    ) -> Result<()> {
        let queues = self.contexts.of(envelope.context);
        match queues.match_posted(envelope.source as usize, envelope.tag) {
            Some(posted) => self.accept(posted.request, envelope, from, offer),
            None => {
                self.hold(envelope, from, Payload::Offered(offer));
                Ok(())
            }
        }
    }

    /// A receive has been matched with an offered message: get its payload.
    fn accept(
        &mut self,
        id: RequestId,
        envelope: Envelope,
        from: usize,
        offer: Offer,
    ) -> Result<()> {
        let Some(receive) = self.requests.receive(id) else {
            return Ok(());
        };
        receive.message = Some((envelope, from));
        let checked = self_checked(
            self.rank,
            &self.segment,
            &receive.span,
            receive.signature(),
            &envelope,
            from,
        );
        let (site, room) = (receive.site, receive.span.len());
        let unwanted = checked.is_err() || envelope.bytes > room as u64;
        match offer.source {
            Source::Stream(passage) => {
                // Even an unwanted payload is drained, so that the sender gets its stream back; what does not fit is thrown away.
                if let Err(error) = checked {
                    receive.refused = Some(error.at(site));
                }
                let rx = Box::new(self.incoming(from, passage)?);
                if let Some(receive) = self.requests.receive(id) {
                    receive.phase = RecvPhase::Streaming { rx, got: 0 };
                }
                self.receiving.push(id);
                self.pump_receive(id)?;
            }
            Source::Following(number) => {
                // Even an unwanted payload is received, so that its sender ends and the number is free again.
                receive.refused = checked.err().map(|error| error.at(site));
                self.follow(id, from, number, envelope.bytes as usize);
            }
            Source::Ahead => {
                // What is unwanted is thrown away as it comes: its sender does not wait for an answer.
                receive.refused = checked.err().map(|error| error.at(site));
                self.accept_ahead(id, from, offer.send)?;
            }
            // A frame of data is never empty.
            Source::Heap(at) if !self.segment.heaps_hold(at, envelope.bytes) => {
                return Err(corrupt(from, NO_SUCH_PLACE));
            }
            Source::Held | Source::Address(_) | Source::Heap(_)
                if unwanted || (envelope.bytes == 0 && self.places.is_remote(from)) =>
            {
                let result = checked.and_then(|()| finished(&receive.span, &envelope));
                self.push_done(from, offer.send, 0)?;
                self.requests.complete(id, result.map_err(|e| e.at(site)));
            }
            Source::Address(address) if self.try_single_copy(id, &envelope, from, address) => {
                let flags = self.wish_flags(from);
                self.push_done(from, offer.send, flags)?;
            }
            Source::Heap(at) => {
                let taken = self.take_from_heap(id, &envelope, from, at as usize);
                match taken {
                    Taken::InPlace => self.push_done(from, offer.send, 0)?,
                    Taken::Once => self.ask_for(id, from, offer.send, 0)?,
                    Taken::Streamed => self.ask_for(id, from, offer.send, protocol::FLAG_HEAP)?,
                }
            }
            Source::Held | Source::Address(_) => self.ask_for(id, from, offer.send, 0)?,
        }
        Ok(())
    }

    /// `CTS`: the receive waits for its payload.
    fn ask_for(&mut self, id: RequestId, from: usize, send: RequestId, flags: u8) -> Result<()> {
        if let Some(receive) = self.requests.receive(id) {
            receive.phase = RecvPhase::Awaiting;
        }
        let head = protocol::addressed(CTS, flags, send);
        self.push_control(from, head, protocol::id_body(id))
    }

    /// The payload of a small message that was offered.
    pub(super) fn arrive_data(&mut self, from: usize, arrival: &Arrival) -> Result<()> {
        let id = protocol::address_of(&arrival.head);
        let Some(receive) = self.awaiting(id, from) else {
            return Err(corrupt(
                from,
                "a payload for a receive that does not wait for one",
            ));
        };
        let Some((envelope, _)) = receive.message else {
            return Ok(());
        };
        if arrival.len as u64 != envelope.bytes || arrival.len as usize > receive.span.len() {
            return Err(corrupt(
                from,
                "a payload of another length than was announced",
            ));
        }
        // SAFETY: the length was checked, the bytes are in the lane, and the span is lent until the request is complete.
        unsafe {
            receive
                .span
                .unpack(0, arrival.len as usize, arrival.payload)
        };
        let site = receive.site;
        let result = finished(&receive.span, &envelope).map_err(|e| e.at(site));
        self.requests.complete(id, result);
        Ok(())
    }

    /// The payload of a long message comes through this stream.
    pub(super) fn arrive_stream(
        &mut self,
        from: usize,
        id: RequestId,
        passage: Option<Passage>,
    ) -> Result<()> {
        let passage = passage.ok_or_else(|| corrupt(from, NO_SUCH_STREAM))?;
        let rx = self.incoming(from, passage)?;
        let Some(receive) = self.awaiting(id, from) else {
            return Err(corrupt(
                from,
                "a stream for a receive that does not wait for one",
            ));
        };
        receive.phase = RecvPhase::Streaming {
            rx: Box::new(rx),
            got: 0,
        };
        self.receiving.push(id);
        self.pump_receive(id)?;
        Ok(())
    }

    fn awaiting(&mut self, id: RequestId, from: usize) -> Option<&mut Receive> {
        self.requests.receive(id).filter(|r| {
            matches!(r.phase, RecvPhase::Awaiting)
                && r.message.is_some_and(|(_, sender)| sender == from)
        })
    }

    /// Posts a receive, or starts it on a message that is held already.
    pub(super) fn start_receive(&mut self, receive: Receive) -> Result<RequestId> {
        let from = match receive.from {
            Peer::Rank(rank) => Some(rank),
            _ => None,
        };
        let (context, tag) = (receive.context, receive.tag);
        let id = self.requests.add_receive(receive);
        match self.contexts.of(context).take_unexpected(from, tag) {
            Some(unexpected) => self.deliver(id, unexpected)?,
            None => self.contexts.of(context).post(from, tag, id),
        }
        Ok(id)
    }

    /// Gives a held message to a receive.
    pub(super) fn deliver(&mut self, id: RequestId, unexpected: Unexpected) -> Result<()> {
        let Unexpected {
            envelope,
            from,
            payload,
            ..
        } = unexpected;
        match payload {
            Payload::Offered(offer) => return self.accept(id, envelope, from, offer),
            Payload::Inline(bytes) => {
                self.deliver_packed(
                    id,
                    envelope,
                    from,
                    &bytes[..(envelope.bytes as usize).min(bytes.len())],
                );
            }
            Payload::Heap(bytes) => self.deliver_packed(id, envelope, from, &bytes),
            Payload::Coming(number) => self.claim_coming(id, number, envelope, from),
            Payload::Local(send) => {
                if let Some(span) = self.requests.send(send).map(|s| s.span.clone()) {
                    self.deliver_own(id, envelope, &span);
                }
                self.finish(send, Status::EMPTY);
                return Ok(());
            }
        }
        if from != self.rank {
            self.add_matched(from, envelope.bytes.max(EAGER_COST));
        }
        Ok(())
    }

    /// Completes a receive with a message of this rank's own, which lies in the memory of its send: as much of it as there is room for.
    pub(super) fn deliver_own(&mut self, id: RequestId, envelope: Envelope, span: &SendSpan) {
        let room = self.requests.receive(id).map_or(0, |r| r.span.len());
        let len = span.len().min(room);
        let mut packed = vec![0; if span.is_packed() { 0 } else { len }];
        self.deliver_packed(id, envelope, self.rank, span.bytes_at(0, len, &mut packed));
    }

    /// Completes a receive with a message whose packed bytes are at hand.
    pub(super) fn deliver_packed(
        &mut self,
        id: RequestId,
        envelope: Envelope,
        from: usize,
        bytes: &[u8],
    ) {
        let Some(receive) = self.requests.receive(id) else {
            return;
        };
        let site = receive.site;
        let result = self_checked(
            self.rank,
            &self.segment,
            &receive.span,
            receive.signature(),
            &envelope,
            from,
        )
        .and_then(|()| {
            receive
                .span
                .fill_at(0, &bytes[..bytes.len().min(receive.span.len())]);
            finished(&receive.span, &envelope)
        });
        self.requests.complete(id, result.map_err(|e| e.at(site)));
    }

    /// Moves all streaming receives on.
    pub(super) fn pump_receives(&mut self) -> Result<bool> {
        let mut any = false;
        let mut at = 0;
        while at < self.receiving.len() {
            let id = self.receiving[at];
            any |= self.pump_receive(id)?;
            if self.requests.is_complete(id) {
                self.receiving.swap_remove(at);
            } else {
                at += 1;
            }
        }
        Ok(any)
    }
}

/// What a receive reports when its payload is in place.
pub(super) fn finished(span: &RecvSpan, envelope: &Envelope) -> Result<Status> {
    // Looked at also where the message is too long: what is in the user's memory must be valid then too.
    let invalid = match span.has_bools() {
        true => span.invalid_bool((envelope.bytes as usize).min(span.len())),
        false => None,
    };
    if envelope.bytes > span.len() as u64 {
        return Err(too_long(envelope, span.len(), envelope.source as usize));
    }
    if let Some(value) = invalid {
        let text = format!(
            "a message from rank {} with tag {} was received as bool but holds the byte {value}, which is neither 0 nor 1; \
                 receive it as u8",
            envelope.source, envelope.tag
        );
        return Err(about(Error::new(ErrorClass::Buffer, text), envelope));
    }
    Ok(status_of(envelope))
}

pub(super) fn status_of(envelope: &Envelope) -> Status {
    Status {
        source: Some(envelope.source as usize),
        tag: Some(envelope.tag),
        bytes: envelope.bytes,
        cancelled: false,
    }
}

pub(super) fn too_long(envelope: &Envelope, room: usize, from: usize) -> Error {
    let text = format!(
        "a message of {} bytes from rank {from} with tag {} does not fit the buffer of {room} bytes; probe for the length or receive into a Vec",
        envelope.bytes, envelope.tag
    );
    about(Error::new(ErrorClass::Truncate, text), envelope)
}

/// The error knows which message it is about.
fn about(error: Error, envelope: &Envelope) -> Error {
    let (peer, bytes) = (envelope.source as i32, envelope.bytes as usize);
    error.about(Some(peer), Some(envelope.tag), Some(bytes))
}

/// Whether a message may be received so: element types for messages, signatures for collectives.
pub(super) fn self_checked(
    me: usize,
    segment: &crate::job::Segment,
    span: &RecvSpan,
    signature: Option<Signature>,
    envelope: &Envelope,
    from: usize,
) -> Result<()> {
    match signature {
        Some(own) if !own.goes_with(Signature(envelope.code.0)) => {
            let place = segment
                .directory()
                .site(from, envelope.site)
                .map(|s| format!(" at {s}"))
                .unwrap_or_default();
            let theirs = Signature(envelope.code.0);
            let text = format!(
                "rank {me} called {}, but rank {from} called {}{place}: they differ in {}; all members of a communicator must call the same \
                 collectives in the same order",
                own.describe(),
                theirs.describe(),
                own.difference(theirs)
            );
            Err(Error::new(ErrorClass::Mismatch, text))
        }
        // What has its own length for each member is not in the signature.
        Some(own) if envelope.bytes != span.len() as u64 => {
            let place = segment
                .directory()
                .site(from, envelope.site)
                .map(|s| format!(" at {s}"))
                .unwrap_or_default();
            let text = format!(
                "rank {me} is in {} and expects {} bytes from rank {from}, which sends {}{place}; the counts must say what is sent",
                own.describe(),
                span.len(),
                envelope.bytes
            );
            Err(Error::new(ErrorClass::Mismatch, text))
        }
        Some(_) => Ok(()),
        None if types_differ(envelope, span) => {
            let place = segment
                .directory()
                .site(from, envelope.site)
                .map(|s| format!(" at {s}"))
                .unwrap_or_default();
            let text = format!(
                "rank {me} receives {} but rank {from} sent {} bytes of {}{place} (tag {}); receive the type that was sent",
                span.code().name(),
                envelope.bytes,
                TypeCode(envelope.code.0).name(),
                envelope.tag
            );
            Err(about(Error::new(ErrorClass::Type, text), envelope))
        }
        None => Ok(()),
    }
}

/// A message without elements has no types. A message that is no whole number of a structure may be a prefix of it, which MPI allows.
#[inline]
pub(super) fn types_differ(envelope: &Envelope, span: &RecvSpan) -> bool {
    !envelope.code.goes_with(span.code())
        && envelope.bytes > 0
        && (span.code().is_basic() || envelope.bytes % (span.period().max(1) as u64) == 0)
}
