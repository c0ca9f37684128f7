//! Payloads ahead of their grant. transport/tcp/README.md has the rules, and transport/tcp/ahead.rs what decides.
use super::super::RequestId;
use super::super::requests::RecvPhase;
use super::super::state::{State, corrupt};
use super::incoming::Incoming;
use super::outgoing::{append, head_for};
use super::plain;
use crate::model::Status;
use crate::model::error::Result;
use crate::transport::tcp::ahead::{Part, Whither};
use crate::transport::tcp::credit::CREDIT;
use crate::transport::tcp::frame::{AHEAD_MAX, Broken, Frame, GRANTED, Kind};

impl State {
    /// Puts the next part of the payloads that may go ahead into an outbox. Whether there was one.
    pub(super) fn put_ahead(&mut self, to: usize) -> bool {
        let link = &mut self.links[to];
        let Some(remote) = link.remote.as_deref_mut() else {
            return false;
        };
        // The last of the credit is for whole messages, as all or half of it is where the path is short.
        let whole = if remote.far { CREDIT } else { CREDIT / 2 };
        let credit = remote.allowed.saturating_sub(link.charged + whole);
        let Some(part) = remote.sends.next(credit, AHEAD_MAX) else {
            return false;
        };
        let Part { send, at, len, .. } = part;
        let id = RequestId::from_number(send);
        let Some(span) = self.requests.send(id).map(|send| send.span.clone()) else {
            return false;
        };
        let mut frame = Frame {
            kind: Kind::Ahead,
            len,
            head: head_for(id, at as u64),
        };
        if part.granted {
            frame.head.flags = GRANTED;
        } else {
            link.charged += len as u64;
        }
        if span.contiguous_ptr().is_some() {
            remote.outbox.push_lent(&frame, send, at);
        } else {
            remote
                .outbox
                .push(&frame, |out| append(out, &span, at, len));
            if part.last {
                self.finish(id, Status::EMPTY);
            }
        }
        self.writes(to);
        true
    }

    /// A message is offered whose payload may go ahead.
    pub(super) fn open_ahead(&mut self, from: usize, send: u64, bytes: u64) -> Result<()> {
        let opened = self
            .remote(from)
            .map_or(Ok(()), |remote| remote.offers.offer(send, bytes));
        opened.map_err(|Broken(what)| corrupt(from, &what))
    }

    /// A part of a payload begins that goes ahead, or did.
    pub(super) fn begin_ahead(&mut self, from: usize, frame: &Frame) -> Result<Incoming> {
        let granted = match frame.head.flags {
            0 => false,
            GRANTED => true,
            _ => return Err(corrupt(from, "a payload that no sender writes")),
        };
        let (len, at) = (frame.len, frame.head.code);
        if !granted {
            self.take_credit(from, len as u64)?;
        }
        let send = RequestId::new(frame.head.context, frame.head.tag as u32).number();
        let (Some(net), Some(remote)) = (&mut self.net, self.links[from].remote.as_deref_mut())
        else {
            return Ok(Incoming::Nothing);
        };
        let room = |len| net.spares.take(len);
        let whither = remote.offers.begin(send, at, len, granted, room);
        Ok(
            match whither.map_err(|Broken(what)| corrupt(from, &what))? {
                Whither::Kept => Incoming::Kept { send, left: len },
                Whither::Receive(number) => {
                    if !granted {
                        self.add_remote_matched(from, len as u64);
                    }
                    let at = at as usize;
                    Incoming::Message {
                        id: RequestId::from_number(number),
                        at,
                        end: at + len,
                    }
                }
            },
        )
    }

    /// A receive has been matched with a message of which something may be here, and more under way: it gets all of it, and the sender may send the rest.
    pub(in super::super) fn accept_ahead(
        &mut self,
        id: RequestId,
        from: usize,
        send: RequestId,
    ) -> Result<()> {
        let number = send.number();
        let claimed = self.remote(from).and_then(|remote| {
            let claimed = remote.offers.claim(number, id.number())?;
            let at = claimed.bytes.len();
            match remote.incoming {
                // The rest of the frame under way goes there too.
                Incoming::Kept { send, left } if send == number => {
                    let end = at + left;
                    remote.incoming = Incoming::Message { id, at, end };
                }
                _ => {}
            }
            Some(claimed)
        });
        let Some(claimed) = claimed else {
            return Err(corrupt(from, "an offer that was answered"));
        };
        self.add_remote_matched(from, claimed.begun as u64);
        self.push_frame(from, &plain(Kind::Grant, head_for(send, id.number())));
        if let Some(receive) = self.requests.receive(id) {
            receive.phase = RecvPhase::Coming { got: 0 };
        }
        self.put_first(id, &claimed.bytes);
        self.end_part(id, claimed.bytes.len());
        if let Some(net) = &mut self.net {
            net.spares.give(claimed.bytes);
        }
        Ok(())
    }
}
