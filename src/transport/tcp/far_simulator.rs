//! A sender, a receiver and a long path between them, made of queues: messages go whole, or offered with payloads ahead of their grant; receives are posted before, in the
//! middle and long after, in any order. All by a seed, which a failure prints.
use super::ahead::{Offers, Sends, Whither};
use super::credit::Given;
use super::frame::{Broken, Frame, GRANTED, Kind, OFFER};
use super::inbox::{Inbox, Sink};
use super::outbox::{Outbox, Piece};
use super::simulator::Random;
use crate::transport::shm::SlotHead;
use std::collections::VecDeque;

/// Messages up to this go whole where there is credit.
const WHOLE: usize = 60;
/// The most of a frame ahead, and bytes of the outbox under which it gets more.
const MOST: usize = 100;
/// The same where it is granted.
const MOST_GRANTED: usize = 250;
const LOW: usize = 150;

fn byte(send: u64, at: usize) -> u8 {
    (send as usize * 31 + at * 7) as u8
}

fn frame(kind: Kind, len: usize, send: u64, code: u64) -> Frame {
    let head = SlotHead {
        context: send as u32,
        code,
        ..SlotHead::default()
    };
    Frame { kind, len, head }
}

#[derive(Default)]
struct Sender {
    sends: Sends,
    outbox: Outbox,
    inbox: Inbox,
    charged: u64,
    allowed: u64,
    /// Credit that is left to whole messages.
    kept_back: u64,
    lens: Vec<usize>,
    started: usize,
    grants: Vec<u64>,
}

impl Sender {
    fn start(&mut self) {
        let Some(&len) = self.lens.get(self.started) else {
            return;
        };
        let send = self.started as u64;
        self.started += 1;
        if len <= WHOLE && self.charged + len as u64 <= self.allowed {
            self.charged += len as u64;
            let body = |out: &mut Vec<u8>| out.extend((0..len).map(|at| byte(send, at)));
            self.outbox.push(&frame(Kind::Eager, len, send, 0), body);
            return;
        }
        self.outbox
            .push(&frame(Kind::Offer, OFFER, send, 0), |out| {
                out.extend((len as u64).to_le_bytes());
                out.extend(send.to_le_bytes());
            });
        self.sends.offer(send, len, MOST_GRANTED);
    }

    fn refill(&mut self) {
        while self.outbox.pending() < LOW {
            let credit = self.allowed.saturating_sub(self.charged + self.kept_back);
            let Some(part) = self.sends.next(credit, MOST) else {
                return;
            };
            let mut frame = frame(Kind::Ahead, part.len, part.send, part.at as u64);
            match part.granted {
                true => frame.head.flags = GRANTED,
                false => {
                    self.charged += part.len as u64;
                    assert!(self.charged <= self.allowed);
                }
            }
            self.outbox.push_lent(&frame, part.send, part.at);
        }
    }

    /// The next bytes of the stream.
    fn write(&mut self, most: usize) -> Vec<u8> {
        self.refill();
        let mut bytes = Vec::new();
        for (piece, copied) in self.outbox.front() {
            match piece {
                Piece::Copied(_) => bytes.extend_from_slice(copied),
                Piece::Lent { send, at, len } => {
                    bytes.extend((at..at + len).map(|at| byte(send, at)));
                }
            }
        }
        bytes.truncate(most);
        self.outbox.sent(bytes.len(), |_, _| {});
        bytes
    }
}

impl Sink for Sender {
    fn whole(&mut self, frame: &Frame, _: &[u8]) -> Result<(), Broken> {
        match frame.kind {
            Kind::Credit => self.allowed = self.allowed.max(frame.head.code),
            Kind::Grant => {
                let send = u64::from(frame.head.context);
                assert!(self.sends.grant(send), "a grant of {send} that is not due");
                assert!(!self.sends.grant(send), "a second grant");
                self.grants.push(send);
            }
            kind => panic!("{kind:?} to a sender"),
        }
        Ok(())
    }
    fn begin(&mut self, _: &Frame) -> Result<(), Broken> {
        panic!("frames to a sender have no body");
    }
    fn part(&mut self, _: &[u8]) -> Result<(), Broken> {
        panic!("frames to a sender have no body");
    }
}

/// The body under way.
enum Body {
    Nothing,
    Short(Frame, Vec<u8>),
    Message { send: u64, left: usize },
    Kept { send: u64, left: usize },
}

struct Receiver {
    offers: Offers,
    given: Given,
    pool: u64,
    window: u64,
    outbox: Outbox,
    body: Body,
    /// Of each message: whether a receive is posted, whether its envelope is here, its length if it was offered, and what its receive has.
    posted: Vec<bool>,
    here: Vec<bool>,
    offered: Vec<Option<usize>>,
    got: Vec<Option<Vec<u8>>>,
    /// Whole messages without a receive, and bytes of them and of payloads ahead.
    unmatched: Vec<(u64, Vec<u8>)>,
    kept: u64,
}

impl Receiver {
    fn give(&mut self, bytes: u64) {
        self.given.matched(bytes);
        if self.given.is_due(None) {
            let allowed = self.given.tell(self.window, &mut self.pool);
            self.outbox
                .push(&frame(Kind::Credit, 0, 0, allowed), |_| {});
        }
    }

    fn post(&mut self, send: u64) {
        let at = send as usize;
        if core::mem::replace(&mut self.posted[at], true) || !self.here[at] {
            return;
        }
        if self.offered[at].is_some() {
            return self.claim(send);
        }
        let held = self.unmatched.iter().position(|(other, _)| *other == send);
        let (_, bytes) = self.unmatched.swap_remove(held.expect("it is held"));
        self.kept -= bytes.len() as u64;
        self.give(bytes.len() as u64);
        self.got[at] = Some(bytes);
    }

    fn claim(&mut self, send: u64) {
        let claimed = self
            .offers
            .claim(send, 1000 + send)
            .expect("it was offered");
        assert!(self.offers.claim(send, 0).is_none(), "two receives");
        if let Body::Kept { send: other, left } = self.body {
            if other == send {
                self.body = Body::Message { send, left };
            }
        }
        self.kept -= claimed.begun as u64;
        self.give(claimed.begun as u64);
        self.outbox.push(&frame(Kind::Grant, 0, send, 0), |_| {});
        self.got[send as usize] = Some(claimed.bytes);
    }

    fn take_whole(&mut self, frame: &Frame, body: &[u8]) -> Result<(), Broken> {
        let send = u64::from(frame.head.context);
        match frame.kind {
            Kind::Eager => {
                assert!(self.given.take(body.len() as u64), "beyond its credit");
                self.here[send as usize] = true;
                if self.posted[send as usize] {
                    self.got[send as usize] = Some(body.to_vec());
                    self.give(body.len() as u64);
                } else {
                    self.kept += body.len() as u64;
                    self.unmatched.push((send, body.to_vec()));
                }
            }
            Kind::Offer => {
                let len = u64::from_le_bytes(body[..8].try_into().unwrap());
                self.offers.offer(send, len)?;
                self.here[send as usize] = true;
                self.offered[send as usize] = Some(len as usize);
                if self.posted[send as usize] {
                    self.claim(send);
                }
            }
            kind => panic!("{kind:?} to a receiver"),
        }
        Ok(())
    }
}

impl Sink for Receiver {
    fn whole(&mut self, frame: &Frame, body: &[u8]) -> Result<(), Broken> {
        if frame.kind != Kind::Ahead {
            return self.take_whole(frame, body);
        }
        self.begin(frame)?;
        self.part(body)
    }

    fn begin(&mut self, frame: &Frame) -> Result<(), Broken> {
        if frame.kind != Kind::Ahead {
            self.body = Body::Short(*frame, Vec::new());
            return Ok(());
        }
        let (send, left) = (u64::from(frame.head.context), frame.len);
        let granted = frame.head.flags == GRANTED;
        assert!(granted || self.given.take(left as u64), "beyond its credit");
        self.body =
            match self
                .offers
                .begin(send, frame.head.code, left, granted, Vec::with_capacity)?
            {
                Whither::Receive(receive) => {
                    assert_eq!(receive, 1000 + send);
                    if !granted {
                        self.give(left as u64);
                    }
                    Body::Message { send, left }
                }
                Whither::Kept => {
                    self.kept += left as u64;
                    Body::Kept { send, left }
                }
            };
        Ok(())
    }

    fn part(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let left = match &mut self.body {
            Body::Nothing => panic!("a part of nothing"),
            Body::Short(frame, have) => {
                have.extend(bytes);
                if have.len() < frame.len {
                    return Ok(());
                }
                let (frame, have) = (*frame, core::mem::take(have));
                self.body = Body::Nothing;
                return self.take_whole(&frame, &have);
            }
            Body::Message { send, left } => {
                let got = self.got[*send as usize].as_mut();
                got.expect("a receive has it").extend(bytes);
                left
            }
            Body::Kept { send, left } => {
                let kept = self.offers.kept(*send).expect("it is kept");
                assert!(
                    kept.capacity() - kept.len() >= *left,
                    "there is room for it"
                );
                kept.extend(bytes);
                left
            }
        };
        *left -= bytes.len();
        if *left == 0 {
            self.body = Body::Nothing;
        }
        Ok(())
    }
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let messages = 1 + random.below(12) as usize;
    let lens: Vec<usize> = (0..messages)
        .map(|_| {
            let most = [30, 200, 1000][random.below(3) as usize];
            1 + random.below(most) as usize
        })
        .collect();
    let window = 64 + random.below(1500);
    let mut sender = Sender {
        lens: lens.clone(),
        allowed: window,
        kept_back: random.below(window),
        ..Sender::default()
    };
    let mut receiver = Receiver {
        offers: Offers::default(),
        given: Given::new(window),
        pool: 0,
        window,
        outbox: Outbox::default(),
        body: Body::Nothing,
        posted: vec![false; messages],
        here: vec![false; messages],
        offered: vec![None; messages],
        got: vec![None; messages],
        unmatched: Vec::new(),
        kept: 0,
    };
    let mut inbox = Inbox::default();
    let (mut there, mut back) = (VecDeque::new(), VecDeque::new());
    // How much is under way, and how often receives are posted; at the end everything is.
    let room = 200 + random.below(5000) as usize;
    let lazy = 1 + random.below(12);
    let mut order: Vec<u64> = (0..messages as u64).collect();
    for at in (1..messages).rev() {
        order.swap(at, random.below(at as u64 + 1) as usize);
    }
    let mut posted = 0;
    for step in 0.. {
        assert!(step < 100_000, "seed {seed}: it never ends");
        let patience = step > 500;
        match random.below(4 + lazy) {
            0 => sender.start(),
            1 => {
                let free = room.saturating_sub(there.len());
                there.extend(sender.write(free));
            }
            2 => {
                let n = (1 + random.below(400) as usize).min(there.len());
                let bytes: Vec<u8> = there.drain(..n).collect();
                inbox.take(&bytes, &mut receiver).expect("good frames");
            }
            3 => {
                let n = (random.below(100) as usize).min(back.len());
                let bytes: Vec<u8> = back.drain(..n).collect();
                let mut inbox = core::mem::take(&mut sender.inbox);
                inbox.take(&bytes, &mut sender).expect("good frames");
                sender.inbox = inbox;
            }
            4 if posted < messages => {
                receiver.post(order[posted]);
                posted += 1;
            }
            _ if patience && posted < messages => {
                receiver.post(order[posted]);
                posted += 1;
            }
            _ => {}
        }
        let n = receiver.outbox.pending();
        let answers = receiver.outbox.front();
        back.extend(answers.flat_map(|(_, copied)| copied.to_vec()));
        receiver.outbox.sent(n, |_, _| {});
        assert!(
            receiver.kept <= window,
            "seed {seed}: {} kept",
            receiver.kept
        );
        let whole = |(got, len): (&Option<Vec<u8>>, &usize)| {
            got.as_ref().is_some_and(|got| got.len() == *len)
        };
        if receiver.got.iter().zip(&lens).all(whole) && there.is_empty() && back.is_empty() {
            break;
        }
    }
    for (send, (got, len)) in (0..).zip(receiver.got.iter().zip(&lens)) {
        let right: Vec<u8> = (0..*len).map(|at| byte(send, at)).collect();
        assert!(got.as_ref() == Some(&right), "seed {seed}: message {send}");
    }
    // Every offer was answered once, and nothing is left over.
    let offers = receiver.offered.iter().flatten().count();
    assert_eq!(sender.grants.len(), offers, "seed {seed}");
    assert!(sender.outbox.is_empty() && sender.sends.next(u64::MAX, MOST).is_none());
    assert_eq!(receiver.kept, 0, "seed {seed}");
}

#[test]
fn messages_arrive_whole_and_what_is_kept_is_bounded() {
    for seed in 0..if cfg!(miri) { 3 } else { 10_000 } {
        run(seed);
    }
}

#[test]
fn what_no_sender_writes_is_refused() {
    let mut offers = Offers::default();
    let refused = |result: Result<Whither, Broken>| result.is_err();
    assert!(offers.offer(1, 0).is_err());
    assert!(offers.offer(1, 100).is_ok());
    assert!(offers.offer(1, 100).is_err(), "two offers");
    let mut offers = Offers::default();
    assert!(offers.offer(1, 100).is_ok());
    assert!(
        refused(offers.begin(2, 0, 10, false, Vec::with_capacity)),
        "not offered"
    );
    assert!(
        refused(offers.begin(1, 1, 10, false, Vec::with_capacity)),
        "not the first part"
    );
    assert!(
        refused(offers.begin(1, 0, 101, false, Vec::with_capacity)),
        "too much"
    );
    assert!(
        refused(offers.begin(1, 0, 10, true, Vec::with_capacity)),
        "not granted"
    );
    assert_eq!(
        offers.begin(1, 0, 10, false, Vec::with_capacity),
        Ok(Whither::Kept)
    );
    assert!(
        refused(offers.begin(1, 0, 10, false, Vec::with_capacity)),
        "once more"
    );
    assert!(
        refused(offers.begin(1, u64::MAX, 10, false, Vec::with_capacity)),
        "nowhere"
    );
    assert!(offers.claim(1, 7).is_some());
    assert_eq!(
        offers.begin(1, 10, 90, true, Vec::with_capacity),
        Ok(Whither::Receive(7))
    );
    assert!(
        refused(offers.begin(1, 100, 1, true, Vec::with_capacity)),
        "behind its end"
    );
    assert!(offers.claim(1, 7).is_none(), "it has all");
}
