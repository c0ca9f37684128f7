//! From a stream of bytes to frames. It keeps no payload: bodies go where the sink wants them.
#![forbid(unsafe_code)]
use super::frame::{AGAIN, Broken, Frame, HEAD, Kind};

/// What takes frames.
pub(crate) trait Sink {
    /// A frame with all of its body.
    fn whole(&mut self, frame: &Frame, body: &[u8]) -> Result<(), Broken>;
    /// A frame whose body comes in parts.
    fn begin(&mut self, frame: &Frame) -> Result<(), Broken>;
    /// The next part of the body of the frame that began last. When it has all, the frame is over.
    fn part(&mut self, bytes: &[u8]) -> Result<(), Broken>;
}

/// The receiving end of a connection's frames.
#[derive(Default)]
pub(crate) struct Inbox {
    head: [u8; HEAD],
    /// Bytes of `head` that are there.
    have: usize,
    /// Bytes of the current body still to come.
    left: usize,
    /// The last `EAGER` frame.
    eager: Option<Frame>,
}

impl Inbox {
    /// Takes bytes in the order in which they came.
    pub(crate) fn take(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = self.left.min(bytes.len());
                self.left -= n;
                sink.part(&bytes[..n])?;
                bytes = &bytes[n..];
                continue;
            }
            let frame = if self.have == 0 && bytes[0] == AGAIN {
                bytes = &bytes[1..];
                self.eager
                    .ok_or_else(|| Broken("a repeated head before any other".into()))?
            } else {
                let n = (HEAD - self.have).min(bytes.len());
                self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
                self.have += n;
                bytes = &bytes[n..];
                if self.have < HEAD {
                    break;
                }
                self.have = 0;
                let frame = Frame::decode(&self.head)?;
                if frame.kind == Kind::Eager {
                    self.eager = Some(frame);
                }
                frame
            };
            if frame.len <= bytes.len() {
                sink.whole(&frame, &bytes[..frame.len])?;
                bytes = &bytes[frame.len..];
            } else {
                self.left = frame.len;
                sink.begin(&frame)?;
            }
        }
        Ok(())
    }

    /// Whether the next byte begins a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.left == 0 && self.have == 0
    }

    /// The `EAGER` frame that these bytes are, exactly, where the next byte begins a frame. They are taken then; else nothing has happened.
    pub(crate) fn lone<'b>(&mut self, bytes: &'b [u8]) -> Option<(Frame, &'b [u8])> {
        if !self.is_between_frames() {
            return None;
        }
        let (frame, body) = match bytes.split_first() {
            Some((&AGAIN, body)) => (self.eager?, body),
            _ => {
                let (head, body) = bytes.split_first_chunk::<HEAD>()?;
                (Frame::decode(head).ok()?, body)
            }
        };
        if frame.kind != Kind::Eager || frame.len != body.len() {
            return None;
        }
        self.eager = Some(frame);
        Some((frame, body))
    }

    /// How many of the next bytes belong to a body that has begun: they may be read straight to where the sink wants them.
    pub(crate) fn body_left(&self) -> usize {
        self.left
    }

    /// So many bytes of the body were put in place without passing here; the sink knows.
    pub(crate) fn skip(&mut self, n: usize) {
        assert!(n <= self.left, "more was read than the body has");
        self.left -= n;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::frame::Kind;
    use super::*;
    use crate::transport::shm::SlotHead;
    use proptest::prelude::*;

    /// Keeps all frames, with what came of their bodies.
    #[derive(Default)]
    pub(crate) struct Kept(pub(crate) Vec<(Frame, Vec<u8>)>);

    impl Sink for Kept {
        fn whole(&mut self, frame: &Frame, body: &[u8]) -> Result<(), Broken> {
            self.0.push((*frame, body.to_vec()));
            Ok(())
        }
        fn begin(&mut self, frame: &Frame) -> Result<(), Broken> {
            self.0.push((*frame, Vec::new()));
            Ok(())
        }
        fn part(&mut self, bytes: &[u8]) -> Result<(), Broken> {
            let (frame, body) = self.0.last_mut().expect("a frame has begun");
            body.extend_from_slice(bytes);
            assert!(body.len() <= frame.len);
            Ok(())
        }
    }

    fn frame(len: usize, tag: i32) -> Frame {
        Frame {
            kind: Kind::Eager,
            len,
            head: SlotHead {
                tag,
                ..SlotHead::default()
            },
        }
    }

    proptest! {
        /// A lone message is what it would be among others, and what is none stays as it is.
        #[test]
        fn a_lone_message_is_the_same(
            lens in proptest::collection::vec((0_usize..60, any::<bool>()), 1..8),
            cut in 1_usize..90,
        ) {
            let (mut alone, mut all) = (Inbox::default(), Inbox::default());
            let (mut met, mut kept) = (Kept::default(), Kept::default());
            let mut last = None;
            for (i, &(len, again)) in lens.iter().enumerate() {
                let frame = last.filter(|_| again).unwrap_or(frame(len, i as i32));
                let mut stream = match last == Some(frame) {
                    true => vec![AGAIN],
                    false => frame.encode().to_vec(),
                };
                last = Some(frame);
                stream.extend((0..frame.len).map(|b| (b + i) as u8));
                let n = cut.min(stream.len());
                all.take(&stream, &mut kept).expect("good frames");
                for part in [&stream[..n], &stream[n..]] {
                    match alone.lone(part) {
                        Some((frame, body)) => met.0.push((frame, body.to_vec())),
                        None => alone.take(part, &mut met).expect("good frames"),
                    }
                }
            }
            prop_assert_eq!(met.0, kept.0);
        }

        /// However the stream is cut into pieces, the same frames come out.
        #[test]
        fn frames_are_the_same_at_every_cut(
            lens in proptest::collection::vec(0_usize..200, 1..8),
            cuts in proptest::collection::vec(1_usize..90, 1..60),
        ) {
            let mut stream = Vec::new();
            let mut sent = Vec::new();
            for (i, &len) in lens.iter().enumerate() {
                let frame = frame(len, i as i32);
                let body: Vec<u8> = (0..len).map(|b| (b + i) as u8).collect();
                stream.extend(frame.encode());
                stream.extend(&body);
                sent.push((frame, body));
            }
            let (mut inbox, mut kept) = (Inbox::default(), Kept::default());
            let (mut at, mut cut) = (0, cuts.iter().cycle());
            while at < stream.len() {
                let n = (*cut.next().expect("endless")).min(stream.len() - at);
                inbox.take(&stream[at..at + n], &mut kept).expect("good frames");
                at += n;
            }
            prop_assert_eq!(kept.0, sent);
        }

        #[test]
        fn repeated_heads_are_the_last_eager_one(count in 1_usize..9, len in 0_usize..50, cut in 1_usize..60) {
            let mut stream = Vec::new();
            for (kind, tag) in [(Kind::Eager, 1), (Kind::Eager, 2), (Kind::Credit, 3)] {
                let first = Frame { kind, len: if kind == Kind::Credit { 0 } else { len }, ..frame(0, tag) };
                stream.extend(first.encode());
                stream.extend(vec![0; first.len]);
            }
            for again in 0..count {
                stream.push(AGAIN);
                stream.extend(vec![again as u8; len]);
            }
            let (mut inbox, mut kept) = (Inbox::default(), Kept::default());
            for part in stream.chunks(cut) {
                inbox.take(part, &mut kept).expect("good frames");
            }
            let again: Vec<_> = (0..count).map(|again| (frame(len, 2), vec![again as u8; len])).collect();
            prop_assert_eq!(&kept.0[3..], &again[..]);
        }

        #[test]
        fn any_bytes_are_frames_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (mut inbox, mut kept) = (Inbox::default(), Kept::default());
            let _ = inbox.take(&bytes, &mut kept);
        }
    }

    #[test]
    fn a_repeated_head_needs_one() {
        let (mut inbox, mut kept) = (Inbox::default(), Kept::default());
        let goodbye = Frame {
            kind: Kind::Goodbye,
            ..frame(0, 0)
        };
        assert!(inbox.take(&goodbye.encode(), &mut kept).is_ok());
        assert!(inbox.take(&[AGAIN], &mut kept).is_err());
    }
}
