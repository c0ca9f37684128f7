//! Long payloads: through staging streams, both cores copying at once, or straight out of the sender's memory: its heap, or any by a system call.
use super::in_place::{InPlace, Taken};
use super::protocol::FLAG_SINGLE_COPY;
use super::receiving;
use super::requests::{RecvPhase, SendPhase};
use super::state::State;
use super::{RecvSpan, RequestId, SendSpan};
use crate::job::layout::{OTHER_RING, STREAMS};
use crate::model::error::Result;
use crate::model::{Envelope, Status};
use crate::transport::shm::Passage;
use crate::transport::shm::copy;
use crate::transport::shm::single_copy::{PairState, SingleCopyMode};
use crate::transport::shm::stream::{LONG_RING, StreamRx, StreamTx, chunk};
use crate::transport::shm::way::{Distance, Way, Ways};
use std::time::Instant;

/// Streams that are lent to messages which may not be matched for long; the others go to matched ones only.
const SPECULATIVE: usize = STREAMS / 2;

/// So many bytes to a peer go through streams first: those are slow as long as the ring has not grown and gone round once (64 KiB near: single
/// copy, which takes 6.9 us, had won against the first messages, and streams take 2.7 later).
const WARM: usize = 2 * LONG_RING;
/// Then the sender offers its memory for three messages, alternating with streams, and after that it goes by the peer's answers.
const TRIALS: u32 = 6;
/// Shorter messages measure nothing.
const TRIAL_BYTES: usize = 64 * 1024;

/// Shorter messages are taken out of the cache downwards, chunk by chunk. The target of a longer one is no longer in the receiver's cache, and its
/// lines come faster upwards. Near, upwards and downwards: 32 KiB 1.65 and 1.51 us, 64 KiB 2.75 and 2.54, 128 KiB 4.9 and 4.6, 256 KiB 8.9 and 8.5, 512 KiB 18.5 and 17.3, 1
/// MiB 33.9 and 35.9, 4 MiB 183 and 323.
const DOWNWARDS_BELOW: usize = 1024 * 1024;

/// Whether a message can have a staging stream.
pub(super) enum Staging {
    Now(Passage),
    /// The first one will take it as soon as its own receiver has taken what is in it: better than a short ring now.
    Soon,
    Full,
}

/// What a sender knows of a receiver's wish to read its memory (`TERCIO_SINGLE_COPY=auto`). The choice is the receiver's, which measures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// Bytes of the messages before the trials.
    streamed: usize,
    /// Messages of the trials.
    offered: u32,
    wanted: bool,
}

impl Wish {
    /// The peer reads faster than streams bring it.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// The receiver's answer.
    pub(super) fn told(&mut self, wanted: bool) {
        if self.wanted && !wanted {
            // It would like to compare again.
            self.offered = 0;
        }
        self.wanted = wanted;
    }
}

impl State {
    /// Where in this rank's heap all of `span` lies, if it is packed and does.
    pub(super) fn in_own_heap(&self, span: &SendSpan) -> Option<usize> {
        let ptr = span.contiguous_ptr()?;
        self.segment
            .place_in_heap(self.places.local(), ptr, span.len())
    }

    /// What is known of reading in the heap of `peer`, and of its reading in this one.
    pub(super) fn in_place(&mut self, peer: usize) -> &mut InPlace {
        self.links[peer].in_place.get_or_insert_default()
    }

    /// Copies the payload out of the sender's heap and completes the receive, if that is the better way. The caller has checked the place and the length.
    pub(super) fn take_from_heap(
        &mut self,
        id: RequestId,
        envelope: &Envelope,
        from: usize,
        at: usize,
    ) -> Taken {
        let len = envelope.bytes as usize;
        let taken = self.in_place(from).take(len);
        let began = Instant::now();
        let Some(receive) = self.requests.receive(id) else {
            return Taken::InPlace;
        };
        if taken != Taken::InPlace {
            receive.asked = Some((began, taken));
            return taken;
        }
        let Some(ptr) = self.segment.in_heap(self.places.index(from), at, len) else {
            return Taken::Streamed;
        };
        // SAFETY: the length fits the span (the caller checked), which is lent until the request is complete; the bytes are in the heap of another rank, so
        // that they do not overlap it.
        unsafe { receive.span.unpack(0, len, ptr) };
        let site = receive.site;
        let result = receiving::finished(&receive.span, envelope).map_err(|e| e.at(site));
        self.in_place(from).took(len, taken, began.elapsed());
        self.requests.complete(id, result);
        Taken::InPlace
    }

    /// The address to offer for a single copy, where that way is to be taken or tried.
    pub(super) fn offers_address(&mut self, to: usize, span: &SendSpan) -> Option<u64> {
        let address = span.contiguous_ptr()?.addr() as u64;
        let wish = &mut self.links[to].wish;
        let offer = match self.single_copy.mode() {
            SingleCopyMode::Off => false,
            SingleCopyMode::Force => true,
            SingleCopyMode::Auto if wish.streamed < WARM => {
                wish.streamed += span.len();
                false
            }
            SingleCopyMode::Auto if wish.offered < TRIALS && span.len() >= TRIAL_BYTES => {
                wish.offered += 1;
                wish.offered % 2 == 0
            }
            SingleCopyMode::Auto => wish.wanted,
        };
        offer.then_some(address)
    }

    /// Whether a message of `len` bytes goes through a stream, as far as a single copy is concerned, and nothing is to be learned from it about that.
    pub(super) fn is_streamed(&self, to: usize, len: usize) -> bool {
        let wish = &self.links[to].wish;
        match self.single_copy.mode() {
            SingleCopyMode::Off => true,
            SingleCopyMode::Force => false,
            SingleCopyMode::Auto => {
                let tried = wish.offered >= TRIALS || len < TRIAL_BYTES;
                wish.streamed >= WARM && tried && !wish.wanted
            }
        }
    }

    /// Whether the time that a message of `len` bytes takes is still wanted.
    pub(super) fn learns_from(&self, from: usize, len: usize) -> bool {
        len >= TRIAL_BYTES && self.single_copy.is_measuring(from)
    }

    /// Reads the payload out of the sender's memory, if that is allowed. Completes the receive and tells so.
    pub(super) fn try_single_copy(
        &mut self,
        id: RequestId,
        envelope: &Envelope,
        from: usize,
        address: u64,
    ) -> bool {
        if self.single_copy.mode() == SingleCopyMode::Off
            || matches!(
                self.single_copy.state(from),
                PairState::Refused | PairState::Slower
            )
        {
            return false;
        }
        let claim = self
            .segment
            .control()
            .claim(self.places.index(from))
            .load(core::sync::atomic::Ordering::Acquire);
        // Ranks that are threads of one process have no claim: they read their own process.
        let pid = if claim == 0 {
            std::process::id()
        } else {
            (claim >> 32) as u32
        };
        let Some(receive) = self.requests.receive(id) else {
            return true;
        };
        let Some(into) = receive.span.contiguous_ptr() else {
            return false;
        };
        // SAFETY: the length fits the span (the caller checked), which is lent until the request is complete.
        if unsafe {
            self.single_copy
                .read(from, pid as i32, address, into, envelope.bytes as usize)
        }
        .is_err()
        {
            return false;
        }
        let site = receive.site;
        let result = receiving::finished(&receive.span, envelope).map_err(|e| e.at(site));
        self.requests.complete(id, result);
        true
    }

    /// What `DONE` tells the sender: whether this rank would like to read its memory again.
    pub(super) fn wish_flags(&self, from: usize) -> u8 {
        if self.single_copy.state(from) == PairState::Allowed {
            FLAG_SINGLE_COPY
        } else {
            0
        }
    }

    /// Begins a message of `len` bytes to `to` in a stream that has room for it. Unmatched messages may have the first half of the streams only.
    pub(super) fn take_stream(&mut self, to: usize, len: usize, matched: bool) -> Result<Staging> {
        let choice = if matched { 0..STREAMS } else { 0..SPECULATIVE };
        for k in choice {
            let own = &mut self.streams[k];
            if own.tx.is_none() {
                own.tx = Some(StreamTx::open(&self.segment, self.places.local(), k)?);
            }
            let Some(tx) = &mut own.tx else { continue };
            let compared = k == 0 && !self.on_mesh;
            let near = compared && self.links[to].ways.distance() == Distance::Near;
            if near && self.may_grow && !self.waiter.is_crowded() && tx.is_idle() {
                // Once: it has grown, or there is no memory for that.
                tx.grow();
                self.may_grow = false;
            }
            if !own.lent && tx.takes(len, to) {
                own.lent = true;
                let mut passage = tx.begin(to, matched);
                let way = self.links[to].ways.way(tx.is_long());
                passage.through = compared && len < DOWNWARDS_BELOW && way == Way::Through;
                return Ok(Staging::Now(passage));
            }
            tx.check()?;
            // What is matched may wait for that alone which is matched too; what is not is offered, and waits for nothing.
            let follows = match matched {
                true => tx.flows(to),
                false => len > OTHER_RING && tx.leads_to(to),
            };
            if k == 0 && follows {
                return Ok(Staging::Soon);
            }
        }
        Ok(Staging::Full)
    }

    /// The message that has just been given this passage will not be sent now.
    pub(super) fn leave_stream(&mut self, passage: &Passage) {
        let own = &mut self.streams[passage.stream];
        own.lent = false;
        own.tx.iter_mut().for_each(|tx| tx.take_back());
    }

    /// The receiving end of a stream of `from`.
    pub(super) fn incoming(&mut self, from: usize, passage: Passage) -> Result<StreamRx> {
        let rx = StreamRx::new(&self.segment, self.places.index(from), passage)?;
        if passage.long && !std::mem::replace(&mut self.links[from].has_long, true) {
            self.segment.map_now(rx.ring());
        }
        Ok(rx)
    }

    /// Copies as much of a streaming send into its stream as there is room for.
    pub(super) fn pump_send(&mut self, id: RequestId) -> Result<bool> {
        let Some(send) = self.requests.send(id) else {
            return Ok(false);
        };
        let SendPhase::Streaming { stream, sent } = &mut send.phase else {
            return Ok(false);
        };
        let Some(tx) = &mut self.streams[*stream].tx else {
            return Ok(false);
        };
        let ways = (*stream == 0 && !self.on_mesh).then(|| &mut self.links[send.to].ways);
        let (to, stream) = (send.to, *stream);
        let any = pour(tx, ways, self.on_mesh, &send.span, sent, || {
            self.waiter.wake(to)
        });
        let done = *sent == send.span.len();
        if any {
            self.notify(to);
        }
        if done {
            self.streams[stream].lent = false;
            self.finish(id, Status::EMPTY);
        }
        Ok(any)
    }

    /// Takes what has come through the stream of a receive.
    pub(super) fn pump_receive(&mut self, id: RequestId) -> Result<bool> {
        let Some(receive) = self.requests.receive(id) else {
            return Ok(false);
        };
        let (RecvPhase::Streaming { rx, got }, Some((envelope, from))) =
            (&mut receive.phase, receive.message)
        else {
            return Ok(false);
        };
        let total = envelope.bytes as usize;
        let room = if receive.refused.is_some() {
            0
        } else {
            receive.span.len()
        };
        let since = (*got == 0 && total >= TRIAL_BYTES && self.single_copy.is_measuring(from))
            .then(Instant::now);
        // SAFETY: the span is lent until the request is complete.
        let any = unsafe {
            take(rx, total, &receive.span, room, got, || {
                self.waiter.wake(from)
            })
        }?;
        let Some(receive) = self.requests.receive(id) else {
            return Ok(any);
        };
        let RecvPhase::Streaming { got, .. } = &receive.phase else {
            return Ok(any);
        };
        if *got == total {
            let site = receive.site;
            let result = match receive.refused.take() {
                Some(error) => Err(error),
                None => receiving::finished(&receive.span, &envelope),
            };
            let asked = receive.asked;
            self.requests.complete(id, result.map_err(|e| e.at(site)));
            if let Some((since, taken)) = asked {
                self.in_place(from).took(total, taken, since.elapsed());
            }
            if let Some(since) = since {
                // Only a message that came in one go says what staging takes; others waited for their sender.
                self.single_copy.streamed(from, total, since.elapsed());
            }
        }
        if any {
            self.notify(from);
        }
        Ok(any)
    }
}

/// Copies as much of the span, from `sent` on, as its stream has room for, and tells whether anything went. `each` is called for each chunk. `ways`: those of the receiver, if
/// they are compared in this stream.
pub(super) fn pour(
    tx: &mut StreamTx,
    ways: Option<&mut Ways>,
    on_mesh: bool,
    span: &SendSpan,
    sent: &mut usize,
    mut each: impl FnMut(),
) -> bool {
    let (len, long) = (span.len(), tx.is_long());
    let step = chunk(len);
    // In the other rings, which are short, all goes around.
    let uncompared = match on_mesh {
        true => Way::Upwards,
        false => Way::Around,
    };
    let mut ways = ways.filter(|_| span.contiguous_ptr().is_some());
    if let (Some(ways), 0) = (&mut ways, *sent) {
        ways.begin();
    }
    let (mut any, mut through) = (false, false);
    while *sent < len {
        let (room, free) = tx.room();
        let n = free.min(step).min(len - *sent);
        if n == 0 {
            return any;
        }
        let (way, timed) = ways.as_ref().map_or((uncompared, false), |ways| {
            ways.of_chunk(*sent / step, long)
        });
        // A piece cut short by the ring's end says little.
        let began = (timed && n == step).then(Instant::now);
        // SAFETY: `n` bytes of the span, into `n` free bytes of the stream's ring, which the receiver does not read before `publish`.
        unsafe { span.pack_ring(*sent, n, room, way) };
        if let (Some(ways), Some(began)) = (&mut ways, began) {
            ways.took(way, n, began.elapsed());
        }
        tx.publish(n);
        *sent += n;
        each();
        (any, through) = (true, way == Way::Through);
    }
    tx.end(through);
    any
}

/// Takes what has come of a message of `total` bytes, of which it `got` some, and tells whether anything had. What lies behind `room` bytes is thrown away. `each` is called
/// for each chunk.
///
/// # Safety
/// The span, of `room` bytes at least, is lent.
pub(super) unsafe fn take(
    rx: &mut StreamRx,
    total: usize,
    span: &RecvSpan,
    room: usize,
    got: &mut usize,
    mut each: impl FnMut(),
) -> Result<bool> {
    let step = chunk(total);
    let mut any = false;
    while *got < total {
        let (data, ready) = rx.available(total - *got)?;
        let n = ready.min(step);
        if n == 0 {
            break;
        }
        if *got < room {
            let fits = n.min(room - *got);
            // Where more than this is there, the sender is ahead, and what it wrote first has left the first of its caches.
            let way = if ready <= step { rx.way() } else { Way::Around };
            let past_cache = (total >= copy::past_cache_from())
                .then(|| span.contiguous_ptr())
                .flatten();
            // SAFETY: `fits` bytes fit the span, are in the stream, and the caller promises that the span is lent.
            unsafe {
                match past_cache {
                    Some(into) => copy::past_cache(data, into.add(*got), fits),
                    None => span.unpack_ring(*got, fits, data, way),
                }
            }
        }
        rx.consume(n);
        *got += n;
        each();
        any = true;
    }
    Ok(any)
}
