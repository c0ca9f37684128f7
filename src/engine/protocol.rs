//! What stands in a slot's head and body, by kind (see README.md). Encoding and decoding only.
use super::RequestId;
use crate::model::{Envelope, TypeCode};
use crate::transport::mpi::Number;
use crate::transport::shm::{self, Passage, SlotHead};

pub(super) use shm::{CONTROL, EAGER_MAX, INLINE, LONG_MAX};

pub(super) const EAGER: u8 = 1;
pub(super) const RTS: u8 = 2;
pub(super) const CTS: u8 = 3;
pub(super) const DATA: u8 = 4;
pub(super) const STREAM: u8 = 5;
pub(super) const DONE: u8 = 6;

pub(super) const FLAG_SYNC: u8 = 1;
pub(super) const FLAG_READY: u8 = 2;
/// The payload may be read straight out of the sender's memory.
const FLAG_READABLE: u8 = 4;
/// The sender would like to know whether reading it so is faster; or, on `DONE`: it was.
pub(super) const FLAG_SINGLE_COPY: u8 = 8;
/// On an offer over the system's MPI: the payload follows at once, by the number in the sender's place.
pub(super) const FLAG_FOLLOWS: u8 = 16;
/// The payload lies in the sender's heap, which every rank of the host can map; or, on `CTS`: the next ones that do should come
/// through streams.
pub(super) const FLAG_HEAP: u8 = 32;

/// On an offer through a socket: its payload may come before it is granted.
pub(super) const FLAG_AHEAD: u8 = 32;

/// What an eager message costs of the credit, at least: what the receiver needs to hold it.
pub(super) const EAGER_COST: u64 = shm::SMALL as u64;
/// Eager bytes that may lie unmatched at a receiver for each sender. 64 KiB: what the peers allow; a ring of 256 slots is 16 KiB of it.
pub(super) const CREDIT: u64 = 64 * 1024;

/// Where the payload of an offered message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// With the sender until `CTS`.
    Held,
    /// Coming through a stream of the sender.
    Stream(Passage),
    /// At this address of the sender's memory, or with the sender until `CTS`.
    Address(u64),
    /// At this offset of the sender's heap, or with the sender until `CTS`.
    Heap(u64),
    /// On its way as messages of the system's MPI, which bear this number. Never in a lane.
    Following(Number),
    /// Here, or coming through a socket before `GRANT` as well as after it. Never in a lane.
    Ahead,
}

/// The body of `RTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) send: RequestId,
    pub(super) source: Source,
}

const NO_STREAM: u32 = u32::MAX;

fn put32(body: &mut [u8; CONTROL], at: usize, value: u32) {
    body[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put64(body: &mut [u8; CONTROL], at: usize, value: u64) {
    body[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get32(body: &[u8; CONTROL], at: usize) -> u32 {
    u32::from_le_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]])
}

fn get64(body: &[u8; CONTROL], at: usize) -> u64 {
    get32(body, at) as u64 | (get32(body, at + 4) as u64) << 32
}

/// The head of an `EAGER` or `RTS` slot.
#[inline(always)]
pub(super) fn envelope_head(kind: u8, envelope: &Envelope) -> SlotHead {
    let flags =
        if envelope.sync { FLAG_SYNC } else { 0 } | if envelope.ready { FLAG_READY } else { 0 };
    SlotHead {
        kind,
        flags,
        context: envelope.context,
        tag: envelope.tag,
        site: envelope.site,
        source: envelope.source,
        code: envelope.code.0,
    }
}

/// The envelope in the head of an `EAGER` or `RTS` slot.
#[inline]
pub(super) fn envelope_of(head: &SlotHead, bytes: u64) -> Envelope {
    Envelope {
        context: head.context,
        source: head.source,
        tag: head.tag,
        bytes,
        code: TypeCode(head.code),
        site: head.site,
        sync: head.flags & FLAG_SYNC != 0,
        ready: head.flags & FLAG_READY != 0,
    }
}

/// An `RTS` slot.
pub(super) fn offer(envelope: &Envelope, offer: &Offer) -> (SlotHead, [u8; CONTROL]) {
    let mut head = envelope_head(RTS, envelope);
    let mut body = [0; CONTROL];
    put64(&mut body, 0, envelope.bytes);
    put32(&mut body, 8, offer.send.index());
    put32(&mut body, 12, offer.send.generation());
    let (stream, word) = match offer.source {
        Source::Held | Source::Following(_) | Source::Ahead => (NO_STREAM, 0),
        Source::Stream(passage) => (passage.place(), passage.start),
        Source::Address(address) => {
            head.flags |= FLAG_READABLE;
            (NO_STREAM, address)
        }
        Source::Heap(at) => {
            head.flags |= FLAG_HEAP;
            (NO_STREAM, at)
        }
    };
    put32(&mut body, 16, stream);
    put64(&mut body, 24, word);
    (head, body)
}

/// The length and the offer in an `RTS` slot.
/// `None` for the offer: there can be no such stream.
pub(super) fn offer_of(head: &SlotHead, body: &[u8; CONTROL]) -> (u64, Option<Offer>) {
    let send = RequestId::new(get32(body, 8), get32(body, 12));
    let source = match get32(body, 16) {
        NO_STREAM if head.flags & FLAG_READABLE != 0 => Some(Source::Address(get64(body, 24))),
        NO_STREAM if head.flags & FLAG_HEAP != 0 => Some(Source::Heap(get64(body, 24))),
        NO_STREAM => Some(Source::Held),
        place => Passage::of(place, get64(body, 24)).map(Source::Stream),
    };
    (get64(body, 0), source.map(|source| Offer { send, source }))
}

/// The head of a slot that is addressed to a request of the receiver of the slot.
pub(super) fn addressed(kind: u8, flags: u8, to: RequestId) -> SlotHead {
    SlotHead {
        kind,
        flags,
        context: to.index(),
        tag: to.generation() as i32,
        site: 0,
        source: 0,
        code: 0,
    }
}

/// The request that such a slot is addressed to.
pub(super) fn address_of(head: &SlotHead) -> RequestId {
    RequestId::new(head.context, head.tag as u32)
}

/// The body of `CTS`: the receive.
pub(super) fn id_body(id: RequestId) -> [u8; CONTROL] {
    let mut body = [0; CONTROL];
    put32(&mut body, 0, id.index());
    put32(&mut body, 4, id.generation());
    body
}

pub(super) fn id_of(body: &[u8; CONTROL]) -> RequestId {
    RequestId::new(get32(body, 0), get32(body, 4))
}

/// The body of `STREAM`.
pub(super) fn stream_body(passage: &Passage) -> [u8; CONTROL] {
    let mut body = [0; CONTROL];
    put32(&mut body, 0, passage.place());
    put64(&mut body, 8, passage.start);
    body
}

/// The passage in it; `None`: there can be no such stream.
pub(super) fn stream_of(body: &[u8; CONTROL]) -> Option<Passage> {
    Passage::of(get32(body, 0), get64(body, 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_say_what_was_put_in() {
        let envelope = Envelope {
            context: 9,
            source: 3,
            tag: 7,
            bytes: 1 << 40,
            code: TypeCode(1 << 63 | 5),
            site: 2,
            sync: true,
            ready: false,
        };
        let id = RequestId::new(4, u32::MAX);
        let passage = |stream, tail, long| Passage {
            stream,
            tail,
            long,
            through: long,
            start: 1 << 50,
        };
        for source in [
            Source::Held,
            Source::Address(0xffff_ffff_1234),
            Source::Heap(1 << 33 | 77),
            Source::Stream(passage(3, 15, false)),
            Source::Stream(passage(0, 0, true)),
        ] {
            let (head, body) = offer(&envelope, &Offer { send: id, source });
            let (bytes, offer) = offer_of(&head, &body);
            assert_eq!(
                (offer, envelope_of(&head, bytes)),
                (Some(Offer { send: id, source }), envelope)
            );
        }
        assert_eq!(address_of(&addressed(CTS, 0, id)), id);
        assert_eq!(id_of(&id_body(id)), id);
        let known = passage(5, 9, false);
        assert_eq!(stream_of(&stream_body(&known)), Some(known));
        for strange in [
            passage(8, 0, false),
            passage(0, 16, false),
            passage(1, 0, true),
        ] {
            assert_eq!(stream_of(&stream_body(&strange)), None);
        }
    }
}
