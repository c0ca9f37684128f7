//! Frames: encoding and decoding, and what no sender writes.
#![forbid(unsafe_code)]
use crate::transport::shm::SlotHead;

/// Bytes of a frame's head.
pub(crate) const HEAD: usize = 32;
/// The one byte that stands for the head of the `EAGER` frame before, where the next one has the same: a window of 64 messages of 8 bytes fits one packet then,
/// see the README.
pub(crate) const AGAIN: u8 = 8;
/// The longest message that travels as one frame: see the README.
pub(crate) const EAGER_MAX: usize = 512 * 1024;
/// The most payload of one `DATA` frame: what other messages of the pair may have to wait for, 0.4 ms on the fastest path measured.
pub(crate) const DATA_MAX: usize = 4 * 1024 * 1024;
/// The most payload of one `AHEAD` frame that costs credit: so much of it is given and taken at a time.
pub(crate) const AHEAD_MAX: usize = 1024 * 1024;
/// On an `AHEAD` frame: its message is granted, and the frame costs no credit.
pub(crate) const GRANTED: u8 = 1;
/// Bytes of an offer's body.
pub(crate) const OFFER: usize = 16;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Eager = 1,
    Offer = 2,
    Grant = 3,
    Data = 4,
    Done = 5,
    Credit = 6,
    Goodbye = 7,
    Ahead = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Eager,
            2 => Kind::Offer,
            3 => Kind::Grant,
            4 => Kind::Data,
            5 => Kind::Done,
            6 => Kind::Credit,
            7 => Kind::Goodbye,
            9 => Kind::Ahead,
            _ => return None,
        })
    }

    /// Whether a body can have this length.
    fn allows(self, len: usize) -> bool {
        match self {
            Kind::Eager => len <= EAGER_MAX,
            Kind::Offer => len == OFFER,
            Kind::Data | Kind::Ahead => (1..=DATA_MAX).contains(&len),
            Kind::Grant | Kind::Done | Kind::Credit | Kind::Goodbye => len == 0,
        }
    }
}

/// A frame without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// Bytes of the body.
    pub(crate) len: usize,
    /// The fields of a message's head; its own kind is not used.
    pub(crate) head: SlotHead,
}

/// The peer wrote what no peer of this version writes; in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) String);

impl Frame {
    pub(crate) fn encode(&self) -> [u8; HEAD] {
        debug_assert!(self.kind.allows(self.len));
        let mut out = [0; HEAD];
        out[0] = self.kind as u8;
        out[1] = self.head.flags;
        out[4..8].copy_from_slice(&(self.len as u32).to_le_bytes());
        out[8..12].copy_from_slice(&self.head.context.to_le_bytes());
        out[12..16].copy_from_slice(&self.head.tag.to_le_bytes());
        out[16..20].copy_from_slice(&self.head.site.to_le_bytes());
        out[20..24].copy_from_slice(&self.head.source.to_le_bytes());
        out[24..32].copy_from_slice(&self.head.code.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; HEAD]) -> Result<Frame, Broken> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let kind = Kind::from_byte(bytes[0])
            .ok_or_else(|| Broken(format!("a frame of the unknown kind {}", bytes[0])))?;
        let len = word(4) as usize;
        if !kind.allows(len) || bytes[2..4] != [0, 0] {
            return Err(Broken(format!(
                "a {kind:?} frame with a body of {len} bytes"
            )));
        }
        let head = SlotHead {
            kind: 0,
            flags: bytes[1],
            context: word(8),
            tag: word(12) as i32,
            site: word(16),
            source: word(20),
            code: u64::from(word(24)) | u64::from(word(28)) << 32,
        };
        Ok(Frame { kind, len, head })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_refused(bytes: [u8; HEAD]) {
            if let Ok(frame) = Frame::decode(&bytes) {
                prop_assert!(frame.kind.allows(frame.len));
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let mut frame = Frame {
            kind: Kind::Eager,
            len: 0,
            head: SlotHead::default(),
        };
        for (kind, len, good) in [
            (Kind::Eager, EAGER_MAX, true),
            (Kind::Data, DATA_MAX, true),
            (Kind::Ahead, DATA_MAX, true),
            (Kind::Ahead, DATA_MAX + 1, false),
            (Kind::Ahead, 0, false),
            (Kind::Grant, 0, true),
            (Kind::Eager, EAGER_MAX + 1, false),
            (Kind::Data, DATA_MAX + 1, false),
            (Kind::Data, 0, false),
            (Kind::Offer, 0, false),
            (Kind::Goodbye, 1, false),
        ] {
            frame.kind = kind;
            let mut bytes = Frame {
                len: if matches!(kind, Kind::Data | Kind::Ahead) {
                    1
                } else if kind == Kind::Offer {
                    OFFER
                } else {
                    0
                },
                ..frame
            }
            .encode();
            bytes[4..8].copy_from_slice(&(len as u32).to_le_bytes());
            assert_eq!(Frame::decode(&bytes).is_ok(), good, "{kind:?} {len}");
        }
    }
}
