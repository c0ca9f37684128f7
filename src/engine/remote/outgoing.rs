//! Sends to ranks that are reached through sockets.
use super::super::protocol::{CTS, EAGER_COST, FLAG_AHEAD, FLAG_READY, FLAG_SYNC};
use super::super::requests::{Send, SendPhase, State as Request};
use super::super::state::{State, corrupt};
use super::super::{RequestId, SendMode, SendSpan};
use super::{Remote, plain};
use crate::model::error::Result;
use crate::model::{Envelope, Site, Status};
use crate::transport::shm::{CONTROL, SlotHead};
use crate::transport::tcp::credit::CREDIT;
use crate::transport::tcp::frame::{DATA_MAX, EAGER_MAX, Frame, Kind, OFFER};
use crate::transport::tcp::line::LOW;

/// Credit that is worth telling whom a message goes anyhow.
pub(super) const NEWS: u64 = 64 * 1024;
/// Payloads up to this are copied, and their sends are over at once; longer ones are worth the care of leaving them where they are.
const COPIED: usize = 8 * 1024;
/// Messages up to this go whole behind a long path. Longer ones go ahead of their grant, in parts, if there is credit for that, which is a twentieth faster at 128 and 256 KiB behind 1 ms.
const EAGER_FAR: usize = 64 * 1024;
/// Packed bytes of a payload with gaps that are put into the outbox at a time.
const PACKED: usize = 256 * 1024;

/// The head of a frame with an envelope.
pub(super) fn head_of(envelope: &Envelope) -> SlotHead {
    let flags =
        if envelope.sync { FLAG_SYNC } else { 0 } | if envelope.ready { FLAG_READY } else { 0 };
    SlotHead {
        kind: 0,
        flags,
        context: envelope.context,
        tag: envelope.tag,
        site: envelope.site,
        source: envelope.source,
        code: envelope.code.0,
    }
}

/// The head of a frame for a request of its receiver.
pub(super) fn head_for(request: RequestId, code: u64) -> SlotHead {
    SlotHead {
        context: request.index(),
        tag: request.generation() as i32,
        code,
        ..SlotHead::default()
    }
}

impl State {
    /// Starts a send; `None` if it is over already. With `gather` a short message may wait a moment for others, see gather.rs.
    pub(in super::super) fn start_remote_send(
        &mut self,
        to: usize,
        envelope: Envelope,
        span: SendSpan,
        mode: SendMode,
        site: Site,
        gather: bool,
    ) -> Result<Option<RequestId>> {
        if self.mpi.is_some() {
            return Ok(self.start_mpi_send(to, envelope, span, mode, site));
        }
        let Some(remote) = self.remote(to) else {
            return Ok(None);
        };
        let joined = remote.line.is_some();
        if joined
            && mode != SendMode::Synchronous
            && span.len() <= COPIED
            && self.has_remote_credit(to, span.len())
        {
            self.put_copied(to, &envelope, &span);
            if !(gather && self.gathers(to)) {
                self.write_remote(to, false)?;
            }
            // Asking after the first of a burst lets the others go too.
            return Ok(gather.then_some(RequestId::GATHERED));
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
        if joined {
            self.offer_remote(to, id);
            self.write_remote(to, false)?;
        } else {
            self.want(to);
            if let Some(remote) = self.remote(to) {
                remote.waiting.push_back(id);
            }
            self.progress_net()?;
        }
        Ok(Some(id))
    }

    /// A connection with `to` is needed.
    fn want(&mut self, to: usize) {
        if let Some(net) = &mut self.net {
            if !net.wanted.contains(&to) {
                net.wanted.push(to);
            }
            net.due = true;
        }
    }

    /// Whether a message of so many bytes may go whole, before it is matched.
    fn has_remote_credit(&self, to: usize, bytes: usize) -> bool {
        let link = &self.links[to];
        let after = link.charged + (bytes as u64).max(EAGER_COST);
        let allowed = link.remote.as_ref().map_or(0, |remote| remote.allowed);
        // Behind what whole messages are left of the credit there may be none to go ahead by.
        let goes_ahead = link.remote.as_ref().is_some_and(|remote| remote.far)
            && after.saturating_add(CREDIT) <= allowed;
        bytes <= if goes_ahead { EAGER_FAR } else { EAGER_MAX } && after <= allowed
    }

    /// An eager message whose payload is copied.
    fn put_copied(&mut self, to: usize, envelope: &Envelope, span: &SendSpan) {
        // What goes there anyhow takes the news along: an answer to a window of messages lets the next window go at once.
        self.tell_credit(to, Some(NEWS));
        let link = &mut self.links[to];
        let frame = Frame {
            kind: Kind::Eager,
            len: span.len(),
            head: head_of(envelope),
        };
        link.charged += (span.len() as u64).max(EAGER_COST);
        if let Some(remote) = &mut link.remote {
            remote
                .outbox
                .push(&frame, |out| append(out, span, 0, span.len()));
        }
        self.writes(to);
    }

    /// Whether nothing is under way to `to` that a payload ahead of its grant could hold up.
    fn is_idle_towards(&self, to: usize) -> bool {
        self.links[to].remote.as_deref().is_some_and(|remote| {
            remote.outbox.is_empty() && remote.granted.is_empty() && remote.sends.is_empty()
        })
    }

    /// Puts the envelope of a queued send into the outbox, with its payload if that may go along.
    pub(super) fn offer_remote(&mut self, to: usize, id: RequestId) {
        let Some(send) = self.requests.send(id) else {
            return;
        };
        let (envelope, span, mode) = (send.envelope, send.span.clone(), send.mode);
        let len = span.len();
        let eager = mode != SendMode::Synchronous && self.has_remote_credit(to, len);
        let ahead = !eager
            && mode != SendMode::Synchronous
            && len > 0
            && (self.is_still_far(to) || self.is_idle_towards(to));
        if eager && (len <= COPIED || span.contiguous_ptr().is_none()) {
            self.put_copied(to, &envelope, &span);
            self.finish(id, Status::EMPTY);
            return;
        }
        let mut frame = Frame {
            kind: Kind::Eager,
            len,
            head: head_of(&envelope),
        };
        let link = &mut self.links[to];
        let Some(remote) = &mut link.remote else {
            return;
        };
        let phase = if eager {
            link.charged += len as u64;
            remote.outbox.push_lent(&frame, id.number(), 0);
            SendPhase::Leaving { left: len }
        } else {
            (frame.kind, frame.len) = (Kind::Offer, OFFER);
            if ahead {
                frame.head.flags |= FLAG_AHEAD;
                let lent = span.contiguous_ptr().is_some();
                let most = if lent { DATA_MAX } else { PACKED };
                remote.sends.offer(id.number(), len, most);
            }
            remote.outbox.push(&frame, |out| {
                out.extend(envelope.bytes.to_le_bytes());
                out.extend(id.number().to_le_bytes());
            });
            match ahead {
                true => SendPhase::Leaving { left: len },
                false => SendPhase::Offered,
            }
        };
        if let Some(send) = self.requests.send(id) {
            send.phase = phase;
        }
        self.writes(to);
        if ahead {
            self.put_parts(to);
        }
    }

    /// `GRANT`: the receive is matched, the payload may go.
    pub(super) fn arrive_remote_grant(
        &mut self,
        from: usize,
        id: RequestId,
        receive: RequestId,
    ) -> Result<()> {
        if self
            .remote(from)
            .is_some_and(|remote| remote.sends.grant(id.number()))
        {
            self.put_parts(from);
            return Ok(());
        }
        match self.requests.send(id) {
            Some(send) if send.to == from && matches!(send.phase, SendPhase::Offered) => {
                send.phase = SendPhase::Leaving {
                    left: send.span.len(),
                };
            }
            _ => return Err(corrupt(from, "an answer to a send that is not under way")),
        }
        if let Some(remote) = self.remote(from) {
            remote.granted.push_back((id, receive, 0));
        }
        self.put_parts(from);
        Ok(())
    }

    /// Puts parts of matched payloads, and of those that go ahead, into an outbox that runs low.
    pub(super) fn put_parts(&mut self, to: usize) {
        loop {
            let Some(remote) = self.links[to].remote.as_deref_mut() else {
                return;
            };
            if remote.outbox.pending() >= LOW {
                return;
            }
            let Some(&(id, receive, at)) = remote.granted.front() else {
                if self.put_ahead(to) {
                    continue;
                }
                return;
            };
            let Some(send) = self.requests.send(id) else {
                remote.granted.pop_front();
                continue;
            };
            let lent = send.span.contiguous_ptr().is_some();
            let len = (send.span.len() - at).min(if lent { DATA_MAX } else { PACKED });
            let frame = Frame {
                kind: Kind::Data,
                len,
                head: head_for(receive, at as u64),
            };
            if lent {
                remote.outbox.push_lent(&frame, id.number(), at);
            } else {
                remote
                    .outbox
                    .push(&frame, |out| append(out, &send.span, at, len));
            }
            let done = at + len == send.span.len();
            if done {
                remote.granted.pop_front();
            } else if let Some(first) = remote.granted.front_mut() {
                first.2 += len;
            }
            if done && !lent {
                self.finish(id, Status::EMPTY);
            }
            self.writes(to);
        }
    }

    /// An answer to a sender: `CTS` becomes `GRANT`, `DONE` stays.
    pub(in super::super) fn push_remote_control(
        &mut self,
        to: usize,
        head: SlotHead,
        body: [u8; CONTROL],
    ) -> Result<()> {
        if self.mpi.is_some() {
            return self.push_mpi_control(to, head, body);
        }
        let request = super::super::protocol::address_of(&head);
        let frame = if head.kind == CTS {
            let receive = super::super::protocol::id_of(&body);
            plain(Kind::Grant, head_for(request, receive.number()))
        } else {
            plain(Kind::Done, head_for(request, 0))
        };
        self.push_frame(to, &frame);
        Ok(())
    }

    pub(super) fn push_frame(&mut self, to: usize, frame: &Frame) {
        if self.mpi.is_some() {
            return self.send_frame(to, frame, |_| {});
        }
        // Whoever said goodbye has sent all that it had, and reads no more.
        if let Some(remote) = self.remote(to).filter(|remote| !remote.heard_goodbye) {
            remote.outbox.push(frame, |_| {});
            self.writes(to);
        }
    }

    /// There is something to write to `to`.
    pub(super) fn writes(&mut self, to: usize) {
        let Some(remote) = self.remote(to) else {
            return;
        };
        if !core::mem::replace(&mut remote.writes, true) {
            if let Some(net) = &mut self.net {
                net.writing.push(to);
            }
        }
    }

    /// Whether something that was to be written is still here.
    pub(in super::super) fn holds_output(&self) -> bool {
        let holds = |to: &usize| {
            let remote = self.links[*to].remote.as_ref();
            remote.is_some_and(|remote| {
                let line = remote.line.as_ref();
                line.is_some_and(|line| line.has_output(&remote.outbox))
            })
        };
        self.net
            .as_ref()
            .is_some_and(|net| net.writing.iter().any(holds))
    }

    /// Writes wherever there is something to write. `all`: the epoll set is to tell when there is room for what is left.
    pub(super) fn write_remotes(&mut self, all: bool) -> Result<bool> {
        let mut any = false;
        let mut at = 0;
        while let Some(&to) = self.net.as_ref().and_then(|net| net.writing.get(at)) {
            any |= self.write_remote(to, all)?;
            let Some(remote) = self.links[to].remote.as_deref_mut() else {
                break;
            };
            remote.burst.end();
            let pending = remote
                .line
                .as_ref()
                .is_some_and(|line| line.has_output(&remote.outbox));
            if pending {
                at += 1;
                continue;
            }
            remote.writes = false;
            if let Some(net) = &mut self.net {
                net.writing.swap_remove(at);
            }
        }
        Ok(any)
    }

    /// Writes to one peer what can be written.
    pub(super) fn write_remote(&mut self, to: usize, all: bool) -> Result<bool> {
        let mut any = false;
        loop {
            let Some(remote) = self.links[to].remote.as_deref_mut() else {
                return Ok(any);
            };
            let Remote { outbox, line, .. } = remote;
            let Some(line) = line else { return Ok(any) };
            let requests = &mut self.requests;
            let mut gone: Vec<(u64, usize)> = Vec::new();
            let written = line.write(
                outbox,
                |send, at, len| {
                    let span = &requests.send(RequestId::from_number(send))?.span;
                    let first = span.contiguous_ptr().filter(|_| at + len <= span.len())?;
                    // SAFETY: `at` is inside of the payload, which is contiguous.
                    Some(unsafe { first.add(at) })
                },
                |send, n| gone.push((send, n)),
            );
            let full = written.as_ref().is_ok_and(|written| written.full);
            // Once nothing is left the set must not tell of room, which there is from then on: the rank would never sleep.
            let pending = line.has_output(outbox);
            let room = match (&written, &mut self.net) {
                (Ok(_), Some(net)) if all || !pending => net.net.watch_room(line, pending),
                _ => Ok(()),
            };
            for (send, n) in gone {
                self.has_left(RequestId::from_number(send), n);
            }
            match written.and_then(|written| room.map(|()| written)) {
                Ok(written) => any |= written.any,
                Err(end) => {
                    // All that has come before the end is still to be read: whoever has left sent it, and the kernel may have MiBs of it.
                    while self.read_remote(to)? {}
                    if self.remote(to).is_some_and(|r| r.line.is_some()) {
                        self.end_line(to, end)?;
                    }
                    return Ok(true);
                }
            }
            self.put_parts(to);
            // A grant that has come lets more go along with what is left here.
            let asks = |remote: &mut Remote| {
                !remote.far && remote.outbox.pending() < LOW && remote.sends.has_more()
            };
            if !full && self.remote(to).is_some_and(asks) {
                self.read_remote(to)?;
                self.put_parts(to);
            }
            let more = self
                .remote(to)
                .is_some_and(|remote| !remote.outbox.is_empty());
            if full || !more {
                return Ok(any);
            }
        }
    }

    /// So many bytes of a send's payload have left.
    fn has_left(&mut self, id: RequestId, n: usize) {
        let Some(send) = self.requests.send(id) else {
            return;
        };
        if let SendPhase::Leaving { left } = &mut send.phase {
            *left -= n.min(*left);
            if *left == 0 {
                self.finish(id, Status::EMPTY);
            }
        }
    }
}

/// Appends packed bytes of a payload.
pub(super) fn append(out: &mut Vec<u8>, span: &SendSpan, at: usize, len: usize) {
    let from = out.len();
    out.resize(from + len, 0);
    span.pack_at(at, &mut out[from..]);
}
