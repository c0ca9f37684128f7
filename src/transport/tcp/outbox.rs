//! From frames to a stream of bytes. Small bodies are copied here, so that many messages leave in one system call; long ones stay where they are, and the
//! outbox keeps only whose they are.
#![forbid(unsafe_code)]
use super::frame::{AGAIN, Frame, HEAD, Kind};
use std::collections::VecDeque;

/// A piece of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// So many of the copied bytes.
    Copied(usize),
    /// Bytes `at..at + len` of the payload of the send with this number.
    Lent { send: u64, at: usize, len: usize },
}

/// The sending end of a connection's frames.
#[derive(Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Piece>,
    copied: Vec<u8>,
    /// Bytes of `copied` that have left.
    gone: usize,
    pending: usize,
    /// The last `EAGER` frame.
    eager: Option<Frame>,
}

/// Copied bytes that have left are kept up to this many, so that moving the rest forward is rare.
const KEEP: usize = 64 * 1024;

impl Outbox {
    /// Appends a frame whose body is copied by `fill`, which appends exactly `frame.len` bytes.
    pub(crate) fn push(&mut self, frame: &Frame, fill: impl FnOnce(&mut Vec<u8>)) {
        let before = self.copied.len();
        if self.eager.as_ref() == Some(frame) {
            self.copied.push(AGAIN);
        } else {
            self.put_head(frame);
        }
        let head = self.copied.len() - before;
        fill(&mut self.copied);
        let n = self.copied.len() - before;
        assert!(n == head + frame.len, "a frame's body has its length");
        self.pending += n;
        match self.pieces.back_mut() {
            Some(Piece::Copied(len)) => *len += n,
            _ => self.pieces.push_back(Piece::Copied(n)),
        }
    }

    /// The head of a frame that goes without passing here, where nothing waits: its bytes, and how many they are.
    pub(crate) fn head(&mut self, frame: &Frame) -> ([u8; HEAD], usize) {
        assert!(self.is_empty(), "a frame goes before those that wait");
        if self.eager.as_ref() == Some(frame) {
            return ([AGAIN; HEAD], 1);
        }
        if frame.kind == Kind::Eager {
            self.eager = Some(*frame);
        }
        (frame.encode(), HEAD)
    }

    /// What is left of a frame that went so, and of which so many bytes have left: copied.
    pub(crate) fn push_rest(&mut self, head: &[u8], body: &[u8], gone: usize) {
        let rest = head.len() + body.len() - gone;
        if rest == 0 {
            return;
        }
        self.copied.extend_from_slice(&head[gone.min(head.len())..]);
        self.copied
            .extend_from_slice(&body[gone.saturating_sub(head.len())..]);
        self.pending += rest;
        self.pieces.push_back(Piece::Copied(rest));
    }

    /// The bytes that wait, where all of them are copied.
    pub(crate) fn copied(&self) -> &[u8] {
        &self.copied[self.gone..]
    }

    fn put_head(&mut self, frame: &Frame) {
        self.copied.extend_from_slice(&frame.encode());
        if frame.kind == Kind::Eager {
            self.eager = Some(*frame);
        }
    }

    /// Appends a frame whose body stays with the send `send`, from byte `at` of its payload.
    pub(crate) fn push_lent(&mut self, frame: &Frame, send: u64, at: usize) {
        self.put_head(frame);
        match self.pieces.back_mut() {
            Some(Piece::Copied(len)) => *len += HEAD,
            _ => self.pieces.push_back(Piece::Copied(HEAD)),
        }
        if frame.len > 0 {
            self.pieces.push_back(Piece::Lent {
                send,
                at,
                len: frame.len,
            });
        }
        self.pending += HEAD + frame.len;
    }

    /// Bytes that have not left.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// The first pieces, in order; the copied bytes with those that are copied.
    pub(crate) fn front(&self) -> impl Iterator<Item = (Piece, &[u8])> {
        let mut at = self.gone;
        self.pieces.iter().map(move |&piece| match piece {
            Piece::Copied(len) => {
                at += len;
                (piece, &self.copied[at - len..at])
            }
            Piece::Lent { .. } => (piece, &[][..]),
        })
    }

    /// So many bytes have left. Tells of each send from whose payload some have: number, bytes.
    pub(crate) fn sent(&mut self, mut n: usize, mut of: impl FnMut(u64, usize)) {
        assert!(n <= self.pending, "more has left than was there");
        self.pending -= n;
        while n > 0 {
            let Some(first) = self.pieces.front_mut() else {
                break;
            };
            let (len, take) = match first {
                Piece::Copied(len) => {
                    let take = n.min(*len);
                    self.gone += take;
                    (len, take)
                }
                Piece::Lent { send, at, len } => {
                    let take = n.min(*len);
                    *at += take;
                    of(*send, take);
                    (len, take)
                }
            };
            *len -= take;
            n -= take;
            if *len == 0 {
                self.pieces.pop_front();
            }
        }
        if self.gone == self.copied.len() {
            self.copied.clear();
            self.gone = 0;
        } else if self.gone >= KEEP {
            self.copied.drain(..self.gone);
            self.gone = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Kind;
    use super::super::inbox::{Inbox, tests::Kept};
    use super::*;
    use crate::transport::shm::SlotHead;
    use proptest::prelude::*;

    proptest! {
        /// What leaves, in whatever portions, is what was put in.
        #[test]
        fn the_stream_is_the_frames(
            bodies in proptest::collection::vec((0_usize..300, any::<bool>(), 0..3), 1..30),
            portions in proptest::collection::vec(1_usize..500, 1..50),
        ) {
            let payload = |send: usize, len: usize| -> Vec<u8> { (0..len).map(|b| (b * 7 + send) as u8).collect() };
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            let mut lent = vec![0; bodies.len()];
            let (mut stream, mut portion) = (Vec::new(), portions.iter().cycle());
            let mut len = 0;
            let mut same = 0;
            for (i, &(fresh, copy, change)) in bodies.iter().enumerate() {
                // Two of three have the head of the one before.
                if i == 0 || change == 0 {
                    (len, same) = (fresh, i);
                }
                let frame = Frame { kind: Kind::Eager, len, head: SlotHead { tag: same as i32, ..SlotHead::default() } };
                let body = payload(i, len);
                if copy { outbox.push(&frame, |out| out.extend(&body)) } else { outbox.push_lent(&frame, i as u64, 0) }
                expected.push((frame, body));
                let bytes: Vec<u8> = outbox.front().flat_map(|(piece, copied)| match piece {
                    Piece::Copied(_) => copied.to_vec(),
                    Piece::Lent { send, at, len } => payload(send as usize, at + len)[at..].to_vec(),
                }).collect();
                prop_assert_eq!(bytes.len(), outbox.pending());
                let last = i + 1 == bodies.len();
                let n = if last { bytes.len() } else { (*portion.next().expect("endless")).min(bytes.len()) };
                stream.extend(&bytes[..n]);
                outbox.sent(n, |send, n| lent[send as usize] += n);
            }
            prop_assert!(outbox.is_empty());
            for (i, &(_, copy, _)) in bodies.iter().enumerate() {
                prop_assert_eq!(lent[i], if copy { 0 } else { expected[i].0.len });
            }
            let (mut inbox, mut kept) = (Inbox::default(), Kept::default());
            inbox.take(&stream, &mut kept).expect("good frames");
            prop_assert_eq!(kept.0, expected);
        }
    }

    proptest! {
        /// A frame that goes past the outbox leaves there what is left of it, before what comes next.
        #[test]
        fn what_is_left_of_a_frame_comes_first(len in 0_usize..300, again: bool, gone in 0_usize..400) {
            let mut outbox = Outbox::default();
            let frame = Frame { kind: Kind::Eager, len, head: SlotHead::default() };
            let body: Vec<u8> = (0..len).map(|b| b as u8).collect();
            let mut stream = Vec::new();
            for _ in 0..=usize::from(again) {
                let (head, n) = outbox.head(&frame);
                let whole = [&head[..n], &body].concat();
                let gone = gone.min(whole.len());
                stream.extend(&whole[..gone]);
                outbox.push_rest(&head[..n], &body, gone);
                prop_assert_eq!(outbox.pending(), whole.len() - gone);
                stream.extend(outbox.copied());
                outbox.sent(outbox.pending(), |_, _| {});
                prop_assert!(outbox.is_empty());
            }
            outbox.push(&frame, |out| out.extend(&body));
            stream.extend(outbox.copied());
            let (mut inbox, mut kept) = (Inbox::default(), Kept::default());
            inbox.take(&stream, &mut kept).expect("good frames");
            prop_assert_eq!(kept.0, vec![(frame, body); 2 + usize::from(again)]);
        }
    }

    #[test]
    fn a_window_of_small_messages_fits_one_packet() {
        let mut outbox = Outbox::default();
        let head = SlotHead {
            tag: 1,
            ..SlotHead::default()
        };
        let frame = Frame {
            kind: Kind::Eager,
            len: 8,
            head,
        };
        for _ in 0..64 {
            outbox.push(&frame, |out| out.extend([7; 8]));
        }
        // 1500 bytes are a packet of Ethernet; 52 of them are heads of IP and TCP.
        assert!(
            outbox.pending() <= 1448,
            "{} bytes are more than a packet holds",
            outbox.pending()
        );
    }
}
