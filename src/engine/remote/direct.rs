//! Short messages between hosts on which nothing stands: straight from the program's memory to the socket, and from the socket to the receive that waits for them.
//! README.md of the engine has the rules.
use super::super::protocol::EAGER_COST;
use super::super::requests::{Plain, State as Request};
use super::super::state::State;
use super::super::{RequestId, SendSpan};
use super::incoming::Taker;
use super::outgoing::{NEWS, head_of};
use super::{Came, Remote, Soon};
use crate::model::error::Result;
use crate::model::{Envelope, TypeCode};
use crate::transport::tcp::frame::{Frame, Kind};

/// Messages up to this go so; of longer ones the copying costs more than what it saves.
const SHORT: usize = 32 * 1024;
/// Of so many such receives one goes the general way: other ranks call, and send.
const QUICK: u32 = 64;
/// Looks at the one socket before anything else gets its turn, each a quarter of a microsecond: about twice a round trip between hosts.
const LOOKS: u32 = 64;

impl State {
    /// Sends a message at once, if nothing stands in its way: then it is over.
    #[inline]
    pub(in super::super) fn send_directly(
        &mut self,
        to: usize,
        envelope: &Envelope,
        span: &SendSpan,
    ) -> Option<Result<()>> {
        let (len, payload) = (span.len(), span.contiguous_ptr()?);
        let link = self.links.get_mut(to)?;
        let Remote {
            line: Some(line),
            outbox,
            allowed,
            given,
            ..
        } = link.remote.as_deref_mut()?
        else {
            return None;
        };
        let charged = link.charged + (len as u64).max(EAGER_COST);
        // News of credit go with a message the general way.
        if charged > *allowed || !line.writes_now(outbox, len) || given.is_due(Some(NEWS)) {
            return None;
        }
        link.charged = charged;
        let frame = Frame {
            kind: Kind::Eager,
            len,
            head: head_of(envelope),
        };
        // SAFETY: the span is lent for the length of the call, and is contiguous.
        let body = unsafe { core::slice::from_raw_parts(payload, len) };
        line.write_now(outbox, &frame, body);
        if outbox.is_empty() {
            return Some(Ok(()));
        }
        self.writes(to);
        Some(self.write_remote(to, false).map(drop))
    }

    /// Whether so long a message may be sent so.
    pub(in super::super) fn sends_directly(&self, to: usize, len: usize) -> bool {
        let joined = |remote: &Remote| remote.line.is_some();
        let link = self.links.get(to);
        len <= SHORT && link.is_some_and(|link| link.remote.as_deref().is_some_and(joined))
    }

    /// Receives the next message from a rank, if it is what this receive wants and comes soon; else the receive is posted. `None`: nothing was done.
    #[inline]
    pub(in super::super) fn receive_directly(&mut self, wanted: Plain) -> Option<Result<Soon>> {
        let from = wanted.world as usize;
        let net = self.net.as_deref_mut()?;
        let remote = self.links.get_mut(from)?.remote.as_deref_mut()?;
        let line = remote.line.as_deref_mut()?;
        // What others wait for, and whatever this rank has begun, gets its turn with every poll.
        let alone = net.writing.is_empty() && self.runs.is_empty();
        if wanted.bytes > SHORT
            || !alone
            || remote.far
            || remote.heard_goodbye
            || !line.is_between_frames()
            || self.waiter.is_crowded()
        {
            return None;
        }
        net.quick += 1;
        if net.quick == QUICK {
            net.quick = 0;
            net.due = true;
            return None;
        }
        if net.unheard != Some(from) {
            self.hear_all();
            self.hear_less(from);
        }
        Some(self.await_directly(wanted))
    }

    /// The set is not told of short messages from this rank, which is read without it.
    fn hear_less(&mut self, from: usize) {
        if let Some(net) = &mut self.net {
            net.unheard = Some(from);
        }
        if let Some(line) = self.remote(from).and_then(|remote| remote.line.as_mut()) {
            line.set_unheard(true);
        }
    }

    /// The set is told of everything again: before anybody asks it, or sleeps in it.
    pub(super) fn hear_all(&mut self) {
        let unheard = self.net.as_mut().and_then(|net| net.unheard.take());
        let remote = unheard.and_then(|from| self.remote(from));
        if let Some(line) = remote.and_then(|remote| remote.line.as_mut()) {
            line.set_unheard(false);
        }
    }

    fn await_directly(&mut self, wanted: Plain) -> Result<Soon> {
        let from = wanted.world as usize;
        let (Some(mut line), Some(mut room)) = (
            self.remote(from).and_then(|remote| remote.line.take()),
            self.net.as_mut().map(|net| core::mem::take(&mut net.room)),
        ) else {
            return Ok(Soon::Comes(self.post(wanted)));
        };
        let heard = line.listen(&mut room, LOOKS);
        let bytes = &room[..heard.as_ref().map_or(0, |n| n.unwrap_or(0))];
        let mut soon = None;
        if let Some((frame, body)) = line.lone(bytes) {
            if self.take_wanted(&wanted, &frame, body) {
                soon = Some(Soon::Here(Came::of(&frame.head, body.len())));
            }
        }
        let (mut failed, mut ended) = (None, heard.err());
        let soon = soon.unwrap_or_else(|| {
            // What has come meets the receive the general way.
            let id = self.post(wanted);
            let mut taker = Taker {
                state: self,
                from,
                failed: None,
            };
            let taken = line.take(bytes, &mut taker);
            failed = taker.failed;
            ended = ended.take().or(taken.err());
            Soon::Comes(id)
        });
        if let Some(remote) = self.remote(from) {
            remote.line = Some(line);
        }
        if let Some(net) = &mut self.net {
            net.room = room;
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(end) = ended {
            self.end_line(from, end)?;
        }
        // News of credit.
        if !self.is_let_go() {
            self.write_remotes(false)?;
        }
        Ok(soon)
    }

    fn post(&mut self, wanted: Plain) -> RequestId {
        let id = self.requests.add_with(|| Request::Plain(wanted));
        let queues = self.contexts.of(wanted.context);
        queues.post(Some(wanted.source as usize), wanted.tag, id);
        id
    }

    /// Takes a message for the receive, if it is for that and fits.
    #[inline]
    fn take_wanted(&mut self, wanted: &Plain, frame: &Frame, body: &[u8]) -> bool {
        let head = &frame.head;
        let cost = (body.len() as u64).max(EAGER_COST);
        let fits = head.context == wanted.context
            && head.source == wanted.source
            && wanted.tag.is_none_or(|tag| tag == head.tag)
            && head.tag >= 0
            && body.len() <= wanted.bytes
            && TypeCode(head.code).goes_with(wanted.code);
        let from = wanted.world as usize;
        if !fits
            || !self
                .remote(from)
                .is_some_and(|remote| remote.given.take(cost))
        {
            return false;
        }
        // SAFETY: the length was checked, and the memory is lent until the receive is over; what was read ahead is elsewhere.
        unsafe { core::ptr::copy_nonoverlapping(body.as_ptr(), wanted.ptr, body.len()) };
        self.add_remote_matched(from, cost);
        true
    }
}
