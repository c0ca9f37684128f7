//! Long payloads: through staging streams, both cores copying at once, or straight out of the sender's memory.
use super::protocol::FLAG_SINGLE_COPY;
use super::receiving;
use super::requests::{RecvPhase, SendPhase};
use super::settings::SingleCopyMode;
use super::state::{State, corrupt};
use super::{RequestId, SendSpan};
use crate::job::layout::STREAMS;
use crate::model::error::Result;
use crate::model::{Envelope, Status};
use crate::sys::cma;
use crate::transport::shm::{StreamTx, chunk};
use std::time::Instant;

/// Streams that are lent to messages which may not be matched for long; the others go to matched ones only.
const SPECULATIVE: usize = STREAMS / 2;

/// Messages of at least this length decide whether single copy is faster: shorter ones measure the call, not the copy.
const TRIAL_BYTES: usize = 256 * 1024;
/// Both ways are tried so often before one is chosen.
const TRIALS: u32 = 3;

/// Which way long payloads between this rank and a peer take (`TERCIO_SINGLE_COPY=auto`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Preference {
    /// As a sender: long messages sent so far, and what the receiver said of its last trial.
    sent: u32,
    receiver_prefers: bool,
    /// As a receiver: the best nanoseconds per MiB seen, and how often each way was measured.
    copied: Option<u64>,
    staged: Option<u64>,
    refused: bool,
}

impl Preference {
    /// The receiver's answer.
    pub(super) fn told(&mut self, prefers: bool) {
        self.receiver_prefers = prefers;
    }

    fn measured(which: &mut Option<u64>, bytes: usize, since: Instant) {
        let per_mib = (since.elapsed().as_nanos() as u64) * 1024 / (bytes as u64 / 1024).max(1);
        *which = Some(which.map_or(per_mib, |best| best.min(per_mib)));
    }

    /// The receiver's answer to the sender: 0 or `FLAG_SINGLE_COPY`.
    pub(super) fn verdict(&self) -> u8 {
        let faster = match (self.copied, self.staged) {
            (Some(copied), Some(staged)) => copied < staged,
            _ => false,
        };
        if faster && !self.refused {
            FLAG_SINGLE_COPY
        } else {
            0
        }
    }
}

impl State {
    /// The address to offer for a single copy, where that way is to be taken or tried.
    pub(super) fn offers_address(&mut self, to: usize, span: &SendSpan) -> Option<u64> {
        let address = span.contiguous_ptr()?.addr() as u64;
        let preference = &mut self.links[to].single_copy;
        match self.single_copy {
            SingleCopyMode::Off => None,
            SingleCopyMode::Force => Some(address),
            SingleCopyMode::Auto => {
                if span.len() < TRIAL_BYTES {
                    return preference.receiver_prefers.then_some(address);
                }
                preference.sent += 1;
                // Odd ones of the first few are trials of the single copy, the even ones show what staging takes.
                let trial = preference.sent <= 2 * TRIALS && preference.sent.is_multiple_of(2);
                (trial || preference.receiver_prefers).then_some(address)
            }
        }
    }

    /// Reads the payload out of the sender's memory, if that is allowed. Completes the receive and tells so.
    pub(super) fn try_single_copy(
        &mut self,
        id: RequestId,
        envelope: &Envelope,
        from: usize,
        address: u64,
    ) -> Result<bool> {
        if self.single_copy == SingleCopyMode::Off || self.links[from].single_copy.refused {
            return Ok(false);
        }
        let claim = self
            .segment
            .control()
            .claim(from)
            .load(core::sync::atomic::Ordering::Acquire);
        // Ranks that are threads of one process have no claim: they read their own process.
        let pid = if claim == 0 {
            std::process::id()
        } else {
            (claim >> 32) as u32
        };
        let Some(receive) = self.requests.receive(id) else {
            return Ok(true);
        };
        let Some(into) = receive.span.contiguous_ptr() else {
            return Ok(false);
        };
        let len = envelope.bytes as usize;
        let since = Instant::now();
        // SAFETY: `len` fits the span (the caller checked), which is lent until the request is complete.
        if unsafe { cma::read(pid, address, into, len) }.is_err() {
            self.links[from].single_copy.refused = true;
            return Ok(false);
        }
        let site = receive.site;
        let result = receiving::finished(&receive.span, envelope).map_err(|e| e.at(site));
        self.requests.complete(id, result);
        if len >= TRIAL_BYTES {
            Preference::measured(&mut self.links[from].single_copy.copied, len, since);
        }
        Ok(true)
    }

    /// Takes a free stream; its number and position. Unmatched messages may have the first half only.
    pub(super) fn take_stream(&mut self, matched: bool) -> Result<Option<(usize, u64)>> {
        let choice = if matched { 0..STREAMS } else { 0..SPECULATIVE };
        for k in choice {
            let own = &mut self.streams[k];
            if let (Some(until), Some(tx)) = (own.until, &mut own.tx) {
                if tx.consumed() < until {
                    continue;
                }
                own.until = None;
            }
            if own.tx.is_none() {
                own.tx = Some(StreamTx::open(&self.segment, self.rank, k)?);
            }
            if let Some(tx) = &mut own.tx {
                tx.begin();
                let start = tx.sent();
                own.until = Some(start);
                return Ok(Some((k, start)));
            }
        }
        Ok(None)
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
        let len = send.span.len();
        let step = chunk(len);
        let mut any = false;
        while *sent < len {
            let (room, free) = tx.room();
            let n = free.min(step).min(len - *sent);
            if n == 0 {
                break;
            }
            // SAFETY: `n` bytes of the span, into `n` free bytes of the stream's ring, which the receiver does not read before `publish`.
            unsafe { send.span.pack(*sent, n, room) };
            tx.publish(n);
            *sent += n;
            self.waiter.wake(send.to);
            any = true;
        }
        let (to, done) = (send.to, *sent == len);
        if any {
            self.notify(to);
        }
        if done {
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
        let step = chunk(total);
        let since = (*got == 0 && total >= TRIAL_BYTES).then(Instant::now);
        let mut any = false;
        while *got < total {
            let (data, ready) = rx.available()?;
            let n = ready.min(step);
            if n == 0 {
                break;
            }
            if n > total - *got {
                return Err(corrupt(from, "more payload than was announced"));
            }
            if *got < room {
                let fits = n.min(room - *got);
                // SAFETY: `fits` bytes fit the span, are in the stream, and the span is lent until the request is complete.
                unsafe { receive.span.unpack(*got, fits, data) };
            }
            rx.consume(n);
            *got += n;
            self.waiter.wake(from);
            any = true;
        }
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
            self.requests.complete(id, result.map_err(|e| e.at(site)));
            if let Some(since) = since {
                // Only a message that came in one go says what staging takes; others waited for their sender.
                Preference::measured(&mut self.links[from].single_copy.staged, total, since);
            }
        }
        if any {
            self.notify(from);
        }
        Ok(any)
    }
}
