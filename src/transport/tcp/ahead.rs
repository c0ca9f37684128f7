//! Payloads that go ahead of their grant: what a sender may send of the messages that it has offered, and what a receiver keeps of those that nobody has asked for.
//! README.md has the rules.
#![forbid(unsafe_code)]
use super::frame::Broken;
use std::collections::{HashMap, VecDeque};

/// Less than such a part of the most goes ahead only if it is all that is left of a payload: a frame should be worth its head.
const LEAST: usize = 16;

/// A part of a payload, to be sent in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) send: u64,
    pub(crate) at: usize,
    pub(crate) len: usize,
    /// Whether the message is granted, so that the part costs no credit.
    pub(crate) granted: bool,
    /// Whether it is the last one of its message.
    pub(crate) last: bool,
}

/// A message of the sender, from its offer until it is granted and all of it was put out.
struct Sending {
    len: usize,
    put: usize,
    granted: bool,
    /// The most of it in one frame, once it is granted.
    most: usize,
}

/// The sender's side of one connection.
#[derive(Default)]
pub(crate) struct Sends {
    sends: HashMap<u64, Sending>,
    /// Sends that wait for their grant, and have more to put out unless they are granted now; and granted ones that have more.
    offered: VecDeque<u64>,
    granted: VecDeque<u64>,
}

impl Sends {
    /// A message is offered, whose payload has `len` bytes, one at least, and goes `most` bytes at a time once it is granted.
    pub(crate) fn offer(&mut self, send: u64, len: usize, most: usize) {
        let sending = Sending {
            len,
            put: 0,
            granted: false,
            most,
        };
        self.sends.insert(send, sending);
        self.offered.push_back(send);
    }

    /// Whether no message waits for its grant, and none has anything to put out.
    pub(crate) fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// Whether there is more to put out: now, or as soon as it is granted.
    pub(crate) fn has_more(&self) -> bool {
        !self.offered.is_empty() || !self.granted.is_empty()
    }

    /// The answer to an offer has come. Whether it was one of these that waits for it.
    pub(crate) fn grant(&mut self, send: u64) -> bool {
        let Some(sending) = self.sends.get_mut(&send) else {
            return false;
        };
        if core::mem::replace(&mut sending.granted, true) {
            return false;
        }
        if sending.put == sending.len {
            self.sends.remove(&send);
        } else {
            self.granted.push_back(send);
        }
        true
    }

    /// What goes next: granted payloads first, then those ahead of their grant, of which no more than `credit` bytes, and `most` bytes at a time.
    pub(crate) fn next(&mut self, credit: u64, most: usize) -> Option<Part> {
        if let Some(&send) = self.granted.front() {
            return self.part(send, self.sends.get(&send)?.most);
        }
        while let Some(&send) = self.offered.front() {
            let Some(sending) = self.sends.get(&send).filter(|sending| !sending.granted) else {
                self.offered.pop_front();
                continue;
            };
            let least = (most / LEAST).min(sending.len - sending.put);
            let most = most.min(usize::try_from(credit).unwrap_or(usize::MAX));
            if most < least.max(1) {
                return None;
            }
            return self.part(send, most);
        }
        None
    }

    fn part(&mut self, send: u64, most: usize) -> Option<Part> {
        let sending = self.sends.get_mut(&send)?;
        let part = Part {
            send,
            at: sending.put,
            len: (sending.len - sending.put).min(most),
            granted: sending.granted,
            last: sending.len - sending.put <= most,
        };
        sending.put += part.len;
        if part.last && part.granted {
            self.granted.pop_front();
            self.sends.remove(&send);
        } else if part.last {
            self.offered.pop_front();
        }
        Some(part)
    }
}

/// Where the body of a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whither {
    /// To the receive with this number, from the frame's place in the message on.
    Receive(u64),
    /// To the bytes that are kept of the message.
    Kept,
}

/// A message that was offered, from its offer until its last frame has begun and a receive has been matched with it.
struct Offered {
    len: usize,
    /// Bytes whose frames have begun.
    begun: usize,
    receive: Option<u64>,
    /// What has come before a receive was matched.
    kept: Vec<u8>,
}

/// What a receiver has of a message when a receive is matched with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// All that is here of it.
    pub(crate) bytes: Vec<u8>,
    /// Bytes whose frames have begun: that many of the credit were theirs.
    pub(crate) begun: usize,
}

/// The receiver's side of one connection.
#[derive(Default)]
pub(crate) struct Offers {
    offers: HashMap<u64, Offered>,
}

fn broken<T>(what: &str) -> Result<T, Broken> {
    Err(Broken(what.into()))
}

impl Offers {
    /// A message of `len` bytes is offered, whose payload may come before it is granted.
    pub(crate) fn offer(&mut self, send: u64, len: u64) -> Result<(), Broken> {
        let Some(len) = usize::try_from(len).ok().filter(|len| *len > 0) else {
            return broken("an offer of a payload that there cannot be");
        };
        let offered = Offered {
            len,
            begun: 0,
            receive: None,
            kept: Vec::new(),
        };
        match self.offers.insert(send, offered) {
            None => Ok(()),
            Some(_) => broken("two offers of one message"),
        }
    }

    /// A frame with `len` bytes of a payload begins, from byte `at` on. `room` gives empty memory for the first ones that are kept.
    pub(crate) fn begin(
        &mut self,
        send: u64,
        at: u64,
        len: usize,
        granted: bool,
        room: impl FnOnce(usize) -> Vec<u8>,
    ) -> Result<Whither, Broken> {
        let Some(offered) = self.offers.get_mut(&send) else {
            return broken("a payload that was not offered");
        };
        if at != offered.begun as u64 || len == 0 || len > offered.len - offered.begun {
            return broken("a part of a payload that is not the next one");
        }
        if granted && offered.receive.is_none() {
            return broken("a payload without credit that was not granted");
        }
        offered.begun += len;
        let Some(receive) = offered.receive else {
            if offered.kept.capacity() == 0 {
                offered.kept = room(len);
            }
            offered.kept.reserve(len);
            return Ok(Whither::Kept);
        };
        if offered.begun == offered.len {
            self.offers.remove(&send);
        }
        Ok(Whither::Receive(receive))
    }

    /// Where what is kept of a message is put.
    pub(crate) fn kept(&mut self, send: u64) -> Option<&mut Vec<u8>> {
        self.offers.get_mut(&send).map(|offered| &mut offered.kept)
    }

    /// The receive with this number has been matched with the message.
    pub(crate) fn claim(&mut self, send: u64, receive: u64) -> Option<Claimed> {
        let offered = self.offers.get_mut(&send)?;
        if offered.receive.is_some() {
            return None;
        }
        let claimed = Claimed {
            bytes: core::mem::take(&mut offered.kept),
            begun: offered.begun,
        };
        offered.receive = Some(receive);
        if offered.begun == offered.len {
            self.offers.remove(&send);
        }
        Some(claimed)
    }
}
