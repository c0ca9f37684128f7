//! What comes from ranks that are reached through sockets: matched when its head is there, and read straight to where it belongs.
use super::super::RequestId;
use super::super::matching::Payload;
use super::super::protocol::{
    EAGER_COST, FLAG_AHEAD, FLAG_FOLLOWS, FLAG_READY, FLAG_SYNC, Offer, Source,
};
use super::super::receiving::{finished, self_checked, status_of};
use super::super::requests::RecvPhase;
use super::super::state::{State, corrupt};
use crate::model::error::Result;
use crate::model::{Envelope, Error, TypeCode};
use crate::transport::mpi::Number;
use crate::transport::shm::CONTROL;
use crate::transport::tcp::frame::{Broken, Frame, Kind};
use crate::transport::tcp::inbox::Sink;
use crate::transport::tcp::line::{End, Line, Place, Read};

/// Frames up to this that come in parts are put together first.
const GATHERED: usize = 4096;
/// Reads of one socket in a row.
const READS: usize = 64;

/// The body that is under way on a connection.
#[derive(Default)]
pub(super) enum Incoming {
    #[default]
    Nothing,
    /// A short frame, until it is whole.
    Gathering(Frame, Vec<u8>),
    /// For a receive: from byte `at` on, up to `end`.
    Message {
        id: RequestId,
        at: usize,
        end: usize,
    },
    /// For a message that no receive has asked for when it began.
    Whole { number: usize },
    /// For a message whose payload goes ahead, and which no receive has asked for: so many bytes of the frame are still to come.
    Kept { send: u64, left: usize },
}

/// An unmatched message, on its way or there.
pub(super) struct Coming {
    /// What is here of it.
    bytes: Vec<u8>,
    /// How long it is.
    len: usize,
}

/// Takes frames of one peer.
pub(super) struct Taker<'s> {
    pub(super) state: &'s mut State,
    pub(super) from: usize,
    /// An error of the engine's own, not of the frames.
    pub(super) failed: Option<Error>,
}

/// Takes what came with the handshake.
pub(super) fn begin(
    state: &mut State,
    from: usize,
    line: &mut Line,
    rest: &[u8],
) -> core::result::Result<(), End> {
    let mut taker = Taker {
        state,
        from,
        failed: None,
    };
    line.begin(rest, &mut taker)
}

impl Taker<'_> {
    /// The engine's errors stop the reading like broken frames.
    fn check<T>(&mut self, result: Result<T>) -> core::result::Result<T, Broken> {
        result.map_err(|error| {
            let text = error.to_string();
            self.failed = Some(error);
            Broken(text)
        })
    }
}

impl Sink for Taker<'_> {
    fn whole(&mut self, frame: &Frame, body: &[u8]) -> core::result::Result<(), Broken> {
        let taken = self.state.take_frame(self.from, frame, body);
        self.check(taken)
    }

    fn begin(&mut self, frame: &Frame) -> core::result::Result<(), Broken> {
        let begun = self.state.begin_frame(self.from, frame);
        self.check(begun)
    }

    fn part(&mut self, bytes: &[u8]) -> core::result::Result<(), Broken> {
        let taken = self.state.take_part(self.from, bytes);
        self.check(taken)
    }
}

impl Place for Taker<'_> {
    fn place(&mut self, left: usize) -> Option<(*mut u8, usize)> {
        self.state.place_of_body(self.from, left)
    }

    fn placed(&mut self, n: usize) -> core::result::Result<(), Broken> {
        let moved = self.state.move_on(self.from, n);
        self.check(moved)
    }
}

pub(super) fn envelope_of(frame: &Frame, bytes: u64) -> Envelope {
    Envelope {
        context: frame.head.context,
        source: frame.head.source,
        tag: frame.head.tag,
        bytes,
        code: TypeCode(frame.head.code),
        site: frame.head.site,
        sync: frame.head.flags & FLAG_SYNC != 0,
        ready: frame.head.flags & FLAG_READY != 0,
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |n, byte| n << 8 | u64::from(*byte))
}

impl State {
    /// Reads what has come from `peer`.
    pub(super) fn read_remote(&mut self, peer: usize) -> Result<bool> {
        let Some(mut line) = self.remote(peer).and_then(|remote| remote.line.take()) else {
            return Ok(false);
        };
        let mut room = self
            .net
            .as_mut()
            .map(|net| core::mem::take(&mut net.room))
            .unwrap_or_default();
        debug_assert!(!room.is_empty(), "a read inside of another one");
        let mut any = false;
        let mut ended = None;
        let mut failed = None;
        let completed = self.requests.completed;
        for _ in 0..READS {
            // Something is complete, and whoever waits for it may ask for what comes next: its payload stays in the kernel until the next look, so that
            // it need not be kept and copied if a receive is posted until then.
            if self.requests.completed != completed && self.is_unasked(peer, &line) {
                break;
            }
            let mut taker = Taker {
                state: self,
                from: peer,
                failed: None,
            };
            match line.read(&mut taker, &mut room) {
                Ok(Read::Nothing) => break,
                Ok(read) => {
                    any = true;
                    if read == Read::Last {
                        break;
                    }
                }
                Err(end) => {
                    failed = taker.failed;
                    ended = Some(end);
                    break;
                }
            }
        }
        if let Some(remote) = self.remote(peer) {
            line.rest(remote.far);
            remote.line = Some(line);
        }
        if let Some(net) = &mut self.net {
            net.room = room;
            // The one that is of use is looked at first.
            if any && net.joined.first() != Some(&peer) {
                net.joined.retain(|joined| *joined != peer);
                net.joined.insert(0, peer);
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if self
            .remote(peer)
            .is_some_and(|remote| remote.is_to_be_measured)
        {
            self.measure_path(peer);
        }
        if let Some(end) = ended {
            self.end_line(peer, end)?;
            return Ok(true);
        }
        Ok(any)
    }

    /// Whether a long payload is under way from `peer`, behind a long path, for which no receive is posted.
    fn is_unasked(&self, peer: usize, line: &Line) -> bool {
        let remote = self.links[peer].remote.as_ref();
        remote.is_some_and(|remote| {
            remote.far
                && match remote.incoming {
                    Incoming::Kept { .. } => true,
                    Incoming::Whole { .. } => line.is_amid_long(),
                    _ => false,
                }
        })
    }

    pub(super) fn take_frame(&mut self, from: usize, frame: &Frame, body: &[u8]) -> Result<()> {
        if self.remote(from).is_some_and(|remote| remote.heard_goodbye) {
            return Err(corrupt(from, "a frame behind its goodbye"));
        }
        let request = RequestId::new(frame.head.context, frame.head.tag as u32);
        match frame.kind {
            Kind::Eager => self.take_eager(from, frame, body),
            Kind::Offer => {
                let envelope = self.remote_envelope(from, frame, number(&body[..8]))?;
                let send = number(&body[8..]);
                let source = match frame.head.flags & FLAG_FOLLOWS {
                    0 => Source::Held,
                    _ => match Number::of_offer(send).filter(|_| envelope.bytes > 0) {
                        Some(number) if self.mpi.is_some() => {
                            self.was_offered(from, &envelope, number);
                            Source::Following(number)
                        }
                        _ => return Err(corrupt(from, "an offer that no sender writes")),
                    },
                };
                let source = match (source, frame.head.flags & FLAG_AHEAD) {
                    (source, 0) => source,
                    (Source::Held, _) if self.mpi.is_none() => {
                        self.open_ahead(from, send, envelope.bytes)?;
                        Source::Ahead
                    }
                    _ => return Err(corrupt(from, "an offer that no sender writes")),
                };
                let offer = Offer {
                    send: RequestId::from_number(send),
                    source,
                };
                self.take_offer(from, envelope, offer)
            }
            Kind::Grant if self.mpi.is_some() => {
                self.arrive_mpi_grant(from, request, frame.head.code)
            }
            Kind::Grant => {
                self.arrive_remote_grant(from, request, RequestId::from_number(frame.head.code))
            }
            Kind::Data | Kind::Ahead => {
                self.begin_frame(from, frame)?;
                self.take_part(from, body)
            }
            Kind::Done => self.arrive_done(from, request, 0),
            Kind::Credit => {
                self.arrive_credit(from, frame.head.code);
                Ok(())
            }
            Kind::Goodbye => {
                if let Some(remote) = self.remote(from) {
                    remote.heard_goodbye = true;
                }
                if let Some(mpi) = &mut self.mpi {
                    mpi.has_told(from, frame.head.site);
                }
                Ok(())
            }
        }
    }

    fn remote_envelope(&self, from: usize, frame: &Frame, bytes: u64) -> Result<Envelope> {
        let envelope = envelope_of(frame, bytes);
        if envelope.source as usize >= self.links.len() || envelope.tag < 0 {
            return Err(corrupt(from, "an envelope that no sender writes"));
        }
        Ok(envelope)
    }

    /// A whole eager message.
    fn take_eager(&mut self, from: usize, frame: &Frame, body: &[u8]) -> Result<()> {
        let envelope = self.remote_envelope(from, frame, body.len() as u64)?;
        self.take_credit(from, envelope.bytes.max(EAGER_COST))?;
        if self.fill_plain(from, &envelope, body) {
            self.add_remote_matched(from, envelope.bytes.max(EAGER_COST));
            return Ok(());
        }
        let queues = self.contexts.of(envelope.context);
        match queues.match_posted(envelope.source as usize, envelope.tag) {
            Some(posted) => {
                self.deliver_packed(posted.request, envelope, from, body);
                self.add_remote_matched(from, envelope.bytes.max(EAGER_COST));
            }
            None => {
                let payload = if body.len() <= CONTROL {
                    let mut bytes = [0; CONTROL];
                    bytes[..body.len()].copy_from_slice(body);
                    Payload::Inline(bytes)
                } else {
                    Payload::Heap(body.into())
                };
                self.hold(envelope, from, payload);
            }
        }
        Ok(())
    }

    /// Gives a whole message to the plain receive that was posted first for its source, if it goes there without any question: as from a lane (hot.rs).
    fn fill_plain(&mut self, from: usize, envelope: &Envelope, body: &[u8]) -> bool {
        let queues = self.contexts.of(envelope.context);
        let Some(posted) = queues.posted_alone(envelope.source as usize) else {
            return false;
        };
        let Some(request) = posted.front().and_then(|p| p.request_if(envelope.tag)) else {
            return false;
        };
        let filled = self.requests.complete_plain(request, |plain| {
            if plain.world as usize != from
                || body.len() > plain.bytes
                || !envelope.code.goes_with(plain.code)
            {
                return None;
            }
            // SAFETY: the length was checked, and the memory is lent until the request is complete; what was read ahead is elsewhere.
            unsafe { core::ptr::copy_nonoverlapping(body.as_ptr(), plain.ptr, body.len()) };
            Some(status_of(envelope))
        });
        if filled {
            posted.pop_front();
        }
        filled
    }

    /// A frame has begun whose body is not here yet.
    fn begin_frame(&mut self, from: usize, frame: &Frame) -> Result<()> {
        let incoming = match frame.kind {
            Kind::Data => self.begin_data(from, frame)?,
            Kind::Ahead => self.begin_ahead(from, frame)?,
            Kind::Eager if frame.len > GATHERED => self.begin_eager(from, frame)?,
            _ => Incoming::Gathering(*frame, Vec::with_capacity(frame.len)),
        };
        if let Some(remote) = self.remote(from) {
            remote.incoming = incoming;
        }
        Ok(())
    }

    /// An eager message has begun: it matches now.
    fn begin_eager(&mut self, from: usize, frame: &Frame) -> Result<Incoming> {
        if self.remote(from).is_some_and(|remote| remote.heard_goodbye) {
            return Err(corrupt(from, "a frame behind its goodbye"));
        }
        let envelope = self.remote_envelope(from, frame, frame.len as u64)?;
        self.take_credit(from, envelope.bytes.max(EAGER_COST))?;
        let queues = self.contexts.of(envelope.context);
        let Some(posted) = queues.match_posted(envelope.source as usize, envelope.tag) else {
            let number = self.keep_coming(frame.len);
            self.hold(envelope, from, Payload::Coming(number));
            return Ok(Incoming::Whole { number });
        };
        self.add_remote_matched(from, envelope.bytes.max(EAGER_COST));
        self.begin_message(posted.request, envelope, from);
        Ok(Incoming::Message {
            id: posted.request,
            at: 0,
            end: frame.len,
        })
    }

    /// A receive has been matched with an eager message that is under way.
    fn begin_message(&mut self, id: RequestId, envelope: Envelope, from: usize) {
        let (me, segment) = (self.rank, self.segment.clone());
        if let Some(receive) = self.requests.receive(id) {
            let checked = self_checked(
                me,
                &segment,
                &receive.span,
                receive.signature(),
                &envelope,
                from,
            );
            receive.message = Some((envelope, from));
            receive.phase = RecvPhase::Coming { got: 0 };
            receive.refused = checked.err().map(|error| error.at(receive.site));
        }
    }

    /// A part of a payload that was granted.
    fn begin_data(&mut self, from: usize, frame: &Frame) -> Result<Incoming> {
        let id = RequestId::new(frame.head.context, frame.head.tag as u32);
        let at = usize::try_from(frame.head.code).unwrap_or(usize::MAX);
        let fits = self.requests.receive(id).is_some_and(|receive| {
            let got = match receive.phase {
                RecvPhase::Awaiting => 0,
                RecvPhase::Coming { got } => got,
                _ => return false,
            };
            receive.message.is_some_and(|(envelope, sender)| {
                sender == from && at == got && frame.len as u64 <= envelope.bytes - at as u64
            })
        });
        if !fits {
            return Err(corrupt(
                from,
                "a payload for a receive that does not wait for it",
            ));
        }
        if let Some(receive) = self.requests.receive(id) {
            receive.phase = RecvPhase::Coming { got: at };
        }
        Ok(Incoming::Message {
            id,
            at,
            end: at + frame.len,
        })
    }

    /// Makes room for a message of `len` bytes that no receive has asked for.
    fn keep_coming(&mut self, len: usize) -> usize {
        let Some(net) = &mut self.net else { return 0 };
        let coming = Some(Coming {
            bytes: net.spares.take(len),
            len,
        });
        match net.coming.iter().position(Option::is_none) {
            Some(free) => {
                net.coming[free] = coming;
                free
            }
            None => {
                net.coming.push(coming);
                net.coming.len() - 1
            }
        }
    }

    /// Bytes of the body under way.
    fn take_part(&mut self, from: usize, bytes: &[u8]) -> Result<()> {
        if let Some(remote) = self.remote(from) {
            if let Incoming::Gathering(frame, have) = &mut remote.incoming {
                have.extend_from_slice(bytes);
                if have.len() < frame.len {
                    return Ok(());
                }
                let (frame, have) = (*frame, core::mem::take(have));
                remote.incoming = Incoming::Nothing;
                return self.take_frame(from, &frame, &have);
            }
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = match self.place_of_body(from, rest.len()) {
                Some((to, room)) => {
                    let n = room.min(rest.len());
                    // SAFETY: the place is `room` bytes of memory that is this transfer's; a read-ahead buffer is elsewhere.
                    unsafe { core::ptr::copy_nonoverlapping(rest.as_ptr(), to, n) };
                    n
                }
                None => self.unplaced(from, rest),
            };
            self.move_on(from, n)?;
            rest = &rest[n..];
        }
        Ok(())
    }

    /// Where the next bytes of the body under way belong, if that is contiguous memory.
    fn place_of_body(&mut self, from: usize, left: usize) -> Option<(*mut u8, usize)> {
        match self.remote(from)?.incoming {
            Incoming::Message { id, at, .. } => {
                let receive = self.requests.receive(id)?;
                let room = receive.span.len();
                let first = receive.span.contiguous_ptr()?;
                if receive.refused.is_some() || at >= room {
                    return None;
                }
                // SAFETY: `at` is inside of the lent memory, which is contiguous.
                Some((unsafe { first.add(at) }, left.min(room - at)))
            }
            Incoming::Whole { number } => {
                let coming = self.net.as_mut()?.coming.get_mut(number)?.as_mut()?;
                let rest = coming.len - coming.bytes.len();
                let room = coming.bytes.spare_capacity_mut();
                Some((room.as_mut_ptr().cast(), left.min(rest).min(room.len())))
            }
            Incoming::Kept { send, left: rest } => {
                let kept = self.remote(from)?.offers.kept(send)?;
                let room = kept.spare_capacity_mut();
                Some((room.as_mut_ptr().cast(), left.min(rest).min(room.len())))
            }
            _ => None,
        }
    }

    /// Bytes that have no contiguous place: unpacked, or thrown away. How many were taken.
    fn unplaced(&mut self, from: usize, bytes: &[u8]) -> usize {
        let Some(Incoming::Message { id, at, .. }) = self.links[from]
            .remote
            .as_ref()
            .map(|remote| &remote.incoming)
        else {
            return bytes.len();
        };
        let (id, at) = (*id, *at);
        if let Some(receive) = self.requests.receive(id) {
            let room = receive.span.len();
            if receive.refused.is_none() && at < room {
                let n = bytes.len().min(room - at);
                receive.span.fill_at(at, &bytes[..n]);
                return n;
            }
        }
        bytes.len()
    }

    /// So many bytes of the body under way are where they belong.
    fn move_on(&mut self, from: usize, n: usize) -> Result<()> {
        let Some(remote) = self.remote(from) else {
            return Ok(());
        };
        match &mut remote.incoming {
            Incoming::Message { id, at, end } => {
                *at += n;
                let (id, at, over) = (*id, *at, *at == *end);
                if over {
                    remote.incoming = Incoming::Nothing;
                    self.end_part(id, at);
                }
            }
            Incoming::Whole { number } => {
                let number = *number;
                let Some(net) = &mut self.net else {
                    return Ok(());
                };
                let Some(Some(coming)) = net.coming.get_mut(number) else {
                    return Ok(());
                };
                // SAFETY: the bytes behind the last one were put there: `place_of_body` gave room for them, and nothing else was done to it since.
                unsafe { coming.bytes.set_len(coming.bytes.len() + n) };
                if coming.bytes.len() == coming.len {
                    if let Some(remote) = self.remote(from) {
                        remote.incoming = Incoming::Nothing;
                    }
                }
            }
            Incoming::Kept { send, left } => {
                *left -= n;
                if let Some(kept) = remote.offers.kept(*send) {
                    // SAFETY: the bytes behind the last one were put there: `place_of_body` gave room for them, and nothing else was done to it since.
                    unsafe { kept.set_len(kept.len() + n) };
                }
                if *left == 0 {
                    remote.incoming = Incoming::Nothing;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A frame's part of a receive is complete, up to byte `at` of the message.
    pub(super) fn end_part(&mut self, id: RequestId, at: usize) {
        let Some(receive) = self.requests.receive(id) else {
            return;
        };
        receive.phase = RecvPhase::Coming { got: at };
        let Some((envelope, _)) = receive.message else {
            return;
        };
        if at as u64 == envelope.bytes {
            let site = receive.site;
            let result = match receive.refused.take() {
                Some(error) => Err(error),
                None => finished(&receive.span, &envelope),
            };
            self.requests.complete(id, result.map_err(|e| e.at(site)));
        }
    }

    /// A receive has been matched with a message that is kept, or on its way: it gets what is here, and the rest goes straight to it.
    pub(in super::super) fn claim_coming(
        &mut self,
        id: RequestId,
        number: usize,
        envelope: Envelope,
        from: usize,
    ) {
        let coming = self
            .net
            .as_mut()
            .and_then(|net| net.coming.get_mut(number)?.take());
        let Some(Coming { bytes, len }) = coming else {
            return;
        };
        if bytes.len() == len {
            self.deliver_packed(id, envelope, from, &bytes);
        } else {
            self.begin_message(id, envelope, from);
            if let Some(remote) = self.remote(from) {
                let (at, end) = (bytes.len(), len);
                debug_assert!(
                    matches!(remote.incoming, Incoming::Whole { number: n } if n == number),
                    "what is half here is what comes on its connection"
                );
                remote.incoming = Incoming::Message { id, at, end };
            }
            self.put_first(id, &bytes);
        }
        if let Some(net) = &mut self.net {
            net.spares.give(bytes);
        }
    }

    /// Gives a receive the first bytes of its message, as many as it has room for.
    pub(super) fn put_first(&mut self, id: RequestId, bytes: &[u8]) {
        if let Some(receive) = self.requests.receive(id) {
            let here = bytes.len().min(receive.span.len());
            if receive.refused.is_none() {
                receive.span.fill_at(0, &bytes[..here]);
            }
        }
    }
}
