//! Short messages on a line on which nothing else is under way: one call of the system for each, and no look at anything else.
use super::{End, LONG, Line, READ_AHEAD, broken};
use crate::sys::net;
use crate::transport::tcp::frame::Frame;
use crate::transport::tcp::inbox::Sink;
use crate::transport::tcp::outbox::Outbox;
use std::io::IoSlice;
use std::os::fd::AsFd;

/// Payloads up to this are put behind their head, so that the call takes one slice: a second one costs what copying so much does.
const TOGETHER: usize = 8 * 1024;
/// The part of a long body behind a long path that is worth a wake, or else the rest of it: a packet there may be 64 KiB, and each wake takes the core of whatever brings the next one.
const GOOD_PART: usize = 512 * 1024;
/// Less than this is told of at once. It is more than `READ_AHEAD`.
const LEAST_PART: usize = 256 * 1024;

impl Line {
    /// Whether the next bytes begin a frame, and are read as they are.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.sealed.is_none() && self.inbox.is_between_frames()
    }

    /// Whether what has come so far is to be no news for the epoll set: for a rank that reads this line again and again. README.md says what it gains.
    pub(crate) fn set_unheard(&mut self, unheard: bool) {
        self.tell_from(if unheard { READ_AHEAD } else { 1 });
    }

    /// To be called when reading ends for now. Behind a path that is `far` the set tells of a long body whenever a good part of it has come, and not of each packet.
    pub(crate) fn rest(&mut self, far: bool) {
        let part = self.inbox.body_left().min(GOOD_PART);
        if far && self.sealed.is_none() && part >= LEAST_PART {
            self.tell_from(part);
        } else if self.rests() {
            self.tell_from(1);
        }
    }

    /// Whether the set is silent about a part of a body that is less than a good one.
    pub(crate) fn rests(&self) -> bool {
        self.told_from >= LEAST_PART
    }

    fn tell_from(&mut self, bytes: usize) {
        if self.told_from != bytes {
            self.told_from = bytes;
            net::set_unheard(self.socket.as_fd(), bytes);
        }
    }

    /// The next bytes, if some come within so many looks. How many.
    pub(crate) fn listen(&mut self, room: &mut [u8], looks: u32) -> Result<Option<usize>, End> {
        for _ in 0..looks {
            // SAFETY: no memory of others is given.
            let read =
                unsafe { net::receive(self.socket.as_fd(), (core::ptr::null_mut(), 0), room) };
            match read {
                Ok(None) => {}
                Ok(Some(0)) => return Err(End::Closed),
                Ok(read) => return Ok(read),
                Err(error) => return Err(End::Failed(error.to_string())),
            }
        }
        Ok(None)
    }

    /// The one whole eager message that these bytes are; what is anything else is to be taken by [`Line::take`].
    pub(crate) fn lone<'b>(&mut self, bytes: &'b [u8]) -> Option<(Frame, &'b [u8])> {
        self.inbox.lone(bytes)
    }

    /// Takes bytes that were read.
    pub(crate) fn take(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), End> {
        self.inbox.take(bytes, sink).map_err(broken)
    }

    /// Whether [`Line::write_now`] may write so long a frame: nothing waits, and nothing is to be found out before.
    pub(crate) fn writes_now(&self, outbox: &Outbox, len: usize) -> bool {
        outbox.is_empty() && self.sealed.is_none() && (len < LONG || self.room.little.is_some())
    }

    /// Writes an eager frame at once. What the system does not take, or refuses, is in the outbox then; the body is free.
    pub(crate) fn write_now(&mut self, outbox: &mut Outbox, frame: &Frame, body: &[u8]) {
        let written = if body.len() <= TOGETHER {
            outbox.push(frame, |out| out.extend_from_slice(body));
            net::send(self.socket.as_fd(), &[IoSlice::new(outbox.copied())])
        } else {
            let (head, len) = outbox.head(frame);
            let slices = [IoSlice::new(&head[..len]), IoSlice::new(body)];
            let written = net::send(self.socket.as_fd(), &slices);
            let gone = written.as_ref().map_or(0, |n| n.unwrap_or(0));
            outbox.push_rest(&head[..len], body, gone);
            written.map(|_| None)
        };
        // An error meets whoever writes next.
        if let Ok(Some(n)) = written {
            outbox.sent(n, |_, _| {});
        }
        if self.room.little.is_some() {
            let left = frame.len.saturating_sub(outbox.pending());
            self.room.wrote(left, &self.socket);
        }
    }
}
