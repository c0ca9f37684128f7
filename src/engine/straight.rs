//! The way of a long message on which nothing stands: a stream is free, and its receiver waits for it alone. Offer and bytes go without a request on either side; where one rank
//! has to wait for the other after all, a request takes over what has been done.
//!
//! As in `hot.rs`, each function does the whole of a call, or has done nothing when it says so.
use super::large::{Staging, pour, take};
use super::protocol::{self, INLINE, LONG_MAX, Offer, RTS, Source};
use super::receiving::{finished, types_differ};
use super::requests::Send;
use super::*;
use crate::transport::shm::{LaneTx, Passage};

/// Longer messages have requests, which cost them nothing: so nothing else waits for its progress longer than this one takes.
const LONGEST: usize = 1 << 20;

/// What became of a message.
pub(super) enum Straight<T> {
    Over(T),
    /// This request has the rest.
    Rest(RequestId),
}

impl Engine {
    /// Blocking send of a message that is too long for the lane, through a stream that is free for it.
    #[inline(never)]
    pub(super) fn send_straight(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
    ) -> Option<Result<Straight<()>>> {
        let Peer::Rank(rank) = to else { return None };
        let &world = comm.members().get(rank)?;
        let fits = (LONG_MAX + 1..=LONGEST).contains(&span.len());
        if !fits || tag < 0 || mode == SendMode::Synchronous {
            return None;
        }
        let mut state = self.state.get_unlocked()?;
        if state.finalized || state.progress_is_due() || !state.goes_straight(world, span) {
            return None;
        }
        let passage = match state.take_stream(world, span.len(), false) {
            Ok(Staging::Now(passage)) => passage,
            Ok(_) => return None,
            Err(error) => return Some(Err(error.at(site))),
        };
        let envelope = self.envelope(&mut state.sites, comm, tag, span, mode, site);
        let sent = state.stream_straight(world, envelope, span, mode, site, passage)?;
        Some(Ok(sent))
    }

    /// Blocking receive of the next message of the lane, if it is a long one that comes through a stream, and is what is wanted, and nothing else could match it.
    #[inline(never)]
    pub(super) fn receive_straight(
        &self,
        comm: &Comm,
        from: Peer,
        tag: Option<i32>,
        span: &RecvSpan,
        site: Site,
    ) -> Option<Result<Straight<Status>>> {
        let due = |state: &mut State| state.progress_was_due();
        let (mut state, world, context) = self.next_from(comm, from, tag, span, site, due)?;
        let state = &mut *state;
        if state.moves_something() {
            return None;
        }
        let arrival = state.links.get(world)?.rx.longer()?;
        let head = &arrival.head;
        if head.kind != RTS
            || arrival.len as usize > INLINE
            || head.context != context
            || from != Peer::Rank(head.source as usize)
            || head.tag < 0
            || tag.is_some_and(|tag| tag != head.tag)
        {
            return None;
        }
        let (bytes, offer) = protocol::offer_of(head, &arrival.body());
        let Some(Offer {
            source: Source::Stream(passage),
            ..
        }) = offer
        else {
            return None;
        };
        let envelope = protocol::envelope_of(head, bytes);
        if bytes > span.len().min(LONGEST) as u64
            || types_differ(&envelope, span)
            || state.learns_from(world, bytes as usize)
        {
            return None;
        }
        let mut rx = state.incoming(world, passage).ok()?;
        let link = &mut state.links[world];
        link.received += 1;
        if link.rx.consume(&arrival, 0) {
            state.notify(world);
        }
        let mut got = 0;
        let total = bytes as usize;
        let mut left = state.waiter.first_polls();
        while got < total {
            // SAFETY: the span is lent for the length of the call, and as long as the message.
            let any = unsafe {
                take(&mut rx, total, span, total, &mut got, || {
                    state.waiter.wake(world)
                })
            };
            match any {
                Ok(true) => left = state.waiter.first_polls(),
                Ok(false) if left > 0 => left -= 1,
                Ok(false) => break,
                Err(error) => return Some(Err(error.at(site))),
            }
        }
        state.notify(world);
        if got == total {
            let status = finished(span, &envelope).map_err(|e| e.at(site));
            return Some(status.map(Straight::Over));
        }
        let mut receive = super::receive_of(comm, from, tag, span.clone(), site);
        receive.message = Some((envelope, world));
        let rx = Box::new(rx);
        receive.phase = RecvPhase::Streaming { rx, got };
        let id = state.requests.add_receive(receive);
        state.receiving.push(id);
        Some(Ok(Straight::Rest(id)))
    }
}

impl State {
    /// Whether this rank has begun anything that goes on only while it is looked after.
    fn moves_something(&self) -> bool {
        !(self.sending.is_empty()
            && self.granted.is_empty()
            && self.receiving.is_empty()
            && self.backlog.is_empty()
            && self.runs.is_empty())
    }

    /// Whether nothing but a stream is needed, or to be learned, to send `span` to `to` now, and nothing else waits for its turn.
    fn goes_straight(&mut self, to: usize, span: &SendSpan) -> bool {
        if self.moves_something() {
            return false;
        }
        self.look_at_distance(to);
        let streamed = self.is_streamed(to, span.len()) && self.in_own_heap(span).is_none();
        let link = &mut self.links[to];
        streamed && link.queue.is_empty() && link.tx.as_mut().is_some_and(LaneTx::has_slot)
    }

    /// Offers the message whose passage has been taken, and copies as much of it as there is room for.
    fn stream_straight(
        &mut self,
        to: usize,
        envelope: Envelope,
        span: &SendSpan,
        mode: SendMode,
        site: Site,
        passage: Passage,
    ) -> Option<Straight<()>> {
        // What comes through a stream is never asked for.
        let (send, source) = (RequestId::COMPLETE, Source::Stream(passage));
        let (head, body) = protocol::offer(&envelope, &Offer { send, source });
        let link = &mut self.links[to];
        if !link.lane().is_some_and(|tx| tx.try_inline(&head, &body)) {
            self.leave_stream(&passage);
            return None;
        }
        link.sent += 1;
        // The receiver should see the offer before this rank is busy with copying.
        self.notify(to);
        let own = &mut self.streams[passage.stream];
        let ways = (passage.stream == 0 && !self.on_mesh).then(|| &mut self.links[to].ways);
        let mut sent = 0;
        if let Some(tx) = &mut own.tx {
            pour(tx, ways, self.on_mesh, span, &mut sent, || {
                self.waiter.wake(to)
            });
        }
        if sent == span.len() {
            own.lent = false;
            self.notify(to);
            return Some(Straight::Over(()));
        }
        let (span, stream) = (span.clone(), passage.stream);
        let phase = SendPhase::Streaming { stream, sent };
        let send = Send {
            envelope,
            to,
            span,
            mode,
            phase,
            site,
        };
        let id = self.requests.add(Request::Send(Box::new(send)));
        self.sending.push(id);
        Some(Straight::Rest(id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{here, into, out, pattern, ranks_with};
    use super::*;
    use crate::transport::shm::single_copy::SingleCopyMode;
    use std::sync::Barrier;

    fn streaming() -> Settings {
        Settings {
            single_copy: SingleCopyMode::Off,
            ..Settings::new(ThreadLevel::Single)
        }
    }

    /// What fits into the ring needs nobody; of what does not the rest goes on in requests, on both sides.
    #[test]
    fn what_has_to_wait_goes_on_in_a_request() {
        let (fits, too_long) = (20_000, 200_000);
        let sent = Barrier::new(2);
        ranks_with(2, streaming(), |engine, world| {
            let peer = Peer::Rank(1 - world.rank());
            if world.rank() == 0 {
                // A lane is there from the first message on.
                let hello = out(&[1]);
                engine
                    .send(world, peer, 0, &hello, SendMode::Standard, here())
                    .unwrap();
                // The receive of that one would take this one out of the lane, too.
                sent.wait();
                let data = pattern(fits, 0);
                let first =
                    engine.send_straight(world, peer, 1, &out(&data), SendMode::Standard, here());
                assert!(matches!(first, Some(Ok(Straight::Over(())))));
                sent.wait();
                sent.wait();
                let data = pattern(too_long, 5);
                let second =
                    engine.send_straight(world, peer, 2, &out(&data), SendMode::Standard, here());
                let Some(Ok(Straight::Rest(request))) = second else {
                    panic!("there was room for all of it");
                };
                // That one goes on only while it is looked after.
                let data = pattern(fits, 0);
                let third =
                    engine.send_straight(world, peer, 3, &out(&data), SendMode::Standard, here());
                assert!(third.is_none());
                sent.wait();
                sent.wait();
                engine.wait(request, here()).unwrap();
            } else {
                let mut got = vec![0; 1];
                engine
                    .receive(world, peer, Some(0), &into(&mut got), here())
                    .unwrap();
                sent.wait();
                sent.wait();
                let mut got = vec![0; fits];
                // Another tag, another type and too little memory are not for this way.
                let others = [
                    engine.receive_straight(world, peer, Some(9), &into(&mut got), here()),
                    engine.receive_straight(world, Peer::Any, None, &into(&mut got), here()),
                    engine.receive_straight(world, peer, None, &into(&mut got[1..]), here()),
                ];
                assert!(others.iter().all(Option::is_none));
                let first = engine.receive_straight(world, peer, None, &into(&mut got), here());
                let Some(Ok(Straight::Over(status))) = first else {
                    panic!("all of it was there");
                };
                assert_eq!((status.tag, status.bytes), (Some(1), 4 * fits as u64));
                assert_eq!(got, pattern(fits, 0));
                sent.wait();
                sent.wait();
                let mut got = vec![0; too_long];
                let second = engine.receive_straight(world, peer, Some(2), &into(&mut got), here());
                let Some(Ok(Straight::Rest(request))) = second else {
                    panic!("its sender did nothing meanwhile");
                };
                sent.wait();
                let status = engine.wait(request, here()).unwrap();
                assert_eq!((status.tag, status.bytes), (Some(2), 4 * too_long as u64));
                assert_eq!(got, pattern(too_long, 5));
            }
        });
    }

    /// In any order with messages that take other ways, each comes to the receive that matching gives it.
    #[test]
    fn no_message_overtakes_another() {
        let length = |i: usize| [20_000, 3, 200_000, 600, 5_000, 40_000, 3_000][i % 7];
        ranks_with(2, streaming(), |engine, world| {
            let peer = Peer::Rank(1 - world.rank());
            for round in 0..if cfg!(miri) { 1 } else { 30 } {
                let messages = round % 9 + 1;
                if world.rank() == 0 {
                    let data: Vec<_> = (0..messages)
                        .map(|i| pattern(length(i + round), i as i32))
                        .collect();
                    let mut behind = Vec::new();
                    for (i, data) in data.iter().enumerate() {
                        let (span, tag) = (out(data), (i % 2) as i32);
                        // What is received after later ones must not make this rank wait.
                        if round % 3 == 0 && i % 2 == 0 {
                            let mode = SendMode::Standard;
                            let request = engine.start_send(world, peer, tag, span, mode, here());
                            behind.push(request.unwrap());
                        } else {
                            engine
                                .send(world, peer, tag, &span, SendMode::Standard, here())
                                .unwrap();
                        }
                    }
                    for request in behind {
                        engine.wait(request, here()).unwrap();
                    }
                    let mut word = [0];
                    engine
                        .receive(world, peer, None, &into(&mut word), here())
                        .unwrap();
                } else {
                    // All of one tag first, or as they come, or the first one by a posted receive.
                    let order: Vec<usize> = match round % 3 {
                        0 => (0..messages)
                            .filter(|i| i % 2 == 1)
                            .chain((0..messages).step_by(2))
                            .collect(),
                        _ => (0..messages).collect(),
                    };
                    for i in order {
                        let mut got = vec![0; length(i + round)];
                        let (span, tag) = (into(&mut got), Some((i % 2) as i32));
                        if round % 3 == 2 && i % 3 == 0 {
                            let request = engine
                                .start_receive(world, peer, tag, span, here())
                                .unwrap();
                            engine.wait(request, here()).unwrap();
                        } else {
                            engine.receive(world, peer, tag, &span, here()).unwrap();
                        }
                        assert_eq!(
                            got,
                            pattern(length(i + round), i as i32),
                            "round {round}, message {i}"
                        );
                    }
                    engine
                        .send(world, peer, 0, &out(&[1]), SendMode::Standard, here())
                        .unwrap();
                }
            }
        });
    }
}
