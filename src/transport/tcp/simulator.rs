//! Two ranks and a network made of queues: delays, cuts at every byte, addresses that swallow everything, dials that cross. All by a seed, which a failure prints.
use super::calling::Calling;
use super::door::{Do, Door, Id};
use super::frame::{Frame, Kind};
use super::greeting::Key;
use super::inbox::{Inbox, tests::Kept};
use super::outbox::{Outbox, Piece};
use crate::transport::shm::SlotHead;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// xorshift64*: small, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Way {
    /// Bytes under way, with when they arrive. `None`: the end of the stream.
    bytes: VecDeque<(u64, Option<u8>)>,
    arrives: u64,
}

/// One connection. Its number is its id at both ends.
struct Wire {
    dialer: usize,
    address: SocketAddr,
    /// To the dialer, and to the acceptor.
    ways: [Way; 2],
    /// After so many more bytes, either way together, it is cut.
    cut_after: Option<u64>,
    /// Nothing that is sent arrives, and nothing says so.
    silent: bool,
    /// When it stands for the dialer and is seen by the acceptor.
    stands: Option<u64>,
    open: [bool; 2],
}

struct Rank {
    door: Door,
    calling: Option<Calling>,
    joined: Option<(Id, bool)>,
    outbox: Outbox,
    inbox: Inbox,
    got: Kept,
    /// The stream ended without goodbye.
    lost: bool,
    sent: Vec<i32>,
    to_send: i32,
}

impl Rank {
    fn said_goodbye(&self) -> bool {
        self.got
            .0
            .last()
            .is_some_and(|(f, _)| f.kind == Kind::Goodbye)
    }
    fn tags(&self) -> Vec<i32> {
        let eager = |(f, _): &&(Frame, Vec<u8>)| f.kind == Kind::Eager;
        self.got
            .0
            .iter()
            .filter(eager)
            .map(|(f, _)| f.head.tag)
            .collect()
    }
}

/// What a run of the network may do.
#[derive(Clone, Copy)]
struct Weather {
    /// Cuts, in hundredths of the connections; and whether they may come after the handshake.
    cuts: u64,
    late_cuts: bool,
    silent: u64,
}

struct World {
    random: Random,
    weather: Weather,
    now: u64,
    ranks: [Rank; 2],
    wires: BTreeMap<Id, Wire>,
    next: Id,
}

/// After so many microseconds a dead connection is found out.
const KEEPALIVE: u64 = 25_000_000;
/// The handshake's bytes, both ways: 84 + 64 + 32 + 33.
const HANDSHAKE: u64 = 213;

impl World {
    fn new(seed: u64, weather: Weather) -> World {
        let mut random = Random::new(seed);
        let key = Key {
            secret: [9; 32],
            job: "simulated".into(),
            encrypt: false,
        };
        let ranks = [0, 1].map(|me| Rank {
            door: Door::new(key.clone(), me, 2),
            calling: None,
            joined: None,
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            got: Kept::default(),
            lost: false,
            sent: Vec::new(),
            to_send: random.below(20) as i32,
        });
        World {
            random,
            weather,
            now: 0,
            ranks,
            wires: BTreeMap::new(),
            next: 0,
        }
    }

    fn time(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    fn address(rank: usize, which: u64) -> SocketAddr {
        ([10, 0, rank as u8, which as u8], 7).into()
    }

    /// `from` puts bytes on a wire.
    fn send(&mut self, id: Id, from: usize, bytes: &[u8]) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        if !wire.open[from] || wire.silent {
            return;
        }
        for &byte in bytes {
            if let Some(left) = &mut wire.cut_after {
                if *left == 0 {
                    return self.cut(id);
                }
                *left -= 1;
            }
            let gap = if self.random.below(8) == 0 {
                self.random.below(5000)
            } else {
                0
            };
            let way = &mut wire.ways[usize::from(wire.dialer == from)];
            way.arrives = way.arrives.max(self.now + 10) + gap;
            way.bytes.push_back((way.arrives, Some(byte)));
        }
    }

    /// The network cuts a wire: what is under way is lost, both ends see an end some time later.
    fn cut(&mut self, id: Id) {
        let (a, b) = (self.random.below(3000), self.random.below(3000));
        if let Some(wire) = self.wires.get_mut(&id) {
            for (way, delay) in wire.ways.iter_mut().zip([a, b]) {
                let keep = way.bytes.len() / 2;
                way.bytes.truncate(keep);
                way.arrives = way.arrives.max(self.now) + delay;
                way.bytes.push_back((way.arrives, None));
            }
            wire.cut_after = None;
            wire.silent = true;
        }
    }

    /// `by` closes its end: the other sees the end of the stream behind all that was sent.
    fn close(&mut self, id: Id, by: usize) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.open[by] = false;
            if !wire.silent {
                let way = &mut wire.ways[usize::from(wire.dialer == by)];
                way.arrives = way.arrives.max(self.now + 10);
                way.bytes.push_back((way.arrives, None));
            }
        }
    }

    fn act(&mut self, me: usize, todo: Vec<Do>) {
        for what in todo {
            match what {
                Do::Send(id, bytes) => self.send(id, me, &bytes),
                Do::Close(id) => {
                    self.close(id, me);
                    self.call_ended(me, id);
                }
                Do::Wait { .. } => {
                    let now = self.time();
                    if let Some(calling) = &mut self.ranks[me].calling {
                        calling.asked(now);
                    }
                }
                Do::Join { id, rest, .. } => {
                    let rank = &mut self.ranks[me];
                    assert!(rank.joined.is_none(), "a rank joined twice");
                    rank.joined = Some((id, true));
                    rank.calling = None;
                    rank.inbox.take(&rest, &mut rank.got).expect("good frames");
                }
            }
        }
    }

    fn call_ended(&mut self, me: usize, id: Id) {
        let now = self.time();
        if let (Some(wire), Some(calling)) = (self.wires.get(&id), &mut self.ranks[me].calling) {
            if wire.dialer == me {
                calling.failed(wire.address, "cut", now);
            }
        }
    }

    fn dial(&mut self, me: usize) {
        let now = self.time();
        let rank = &mut self.ranks[me];
        if rank.joined.is_some() {
            return;
        }
        let calling = rank.calling.get_or_insert_with(|| {
            Calling::new(
                vec![Self::address(1 - me, 0), Self::address(1 - me, 1)],
                now,
            )
        });
        let Some(address) = calling.due(now) else {
            return;
        };
        self.next += 1;
        let roll = |random: &mut Random, of: u64| random.below(100) < of;
        let cut = roll(&mut self.random, self.weather.cuts);
        let span = if self.weather.late_cuts {
            3 * HANDSHAKE
        } else {
            HANDSHAKE - 33
        };
        let silent = roll(&mut self.random, self.weather.silent);
        let mut ways: [Way; 2] = Default::default();
        if silent {
            // Keepalive finds out, in the end.
            ways[0].bytes.push_back((self.now + KEEPALIVE, None));
        }
        let wire = Wire {
            dialer: me,
            address,
            ways,
            cut_after: cut.then(|| self.random.below(span)),
            silent,
            stands: Some(self.now + self.random.below(2000)),
            open: [true, true],
        };
        self.wires.insert(self.next, wire);
    }

    /// Wires that stand by now.
    fn connect(&mut self) {
        let due: Vec<(Id, usize)> = self
            .wires
            .iter()
            .filter(|(_, w)| w.stands.is_some_and(|at| at <= self.now))
            .map(|(id, w)| (*id, w.dialer))
            .collect();
        for (id, me) in due {
            let now = self.time();
            let address = self.wires[&id].address;
            let (here, there) = (Self::address(me, 9), Self::address(1 - me, 0));
            if let Some(wire) = self.wires.get_mut(&id) {
                wire.stands = None;
            }
            let nonce = [id as u8; 32];
            let mut todo = Vec::new();
            if !self.wires[&id].silent {
                self.ranks[1 - me]
                    .door
                    .accepted(id, there, here, nonce, now, &mut todo);
            }
            if let Some(calling) = &mut self.ranks[me].calling {
                calling.connected(address, now);
            }
            // The dialer may have joined by another connection meanwhile; its driver then drops this one.
            if self.ranks[me].joined.is_some() {
                self.close(id, me);
            } else {
                let hello = self.ranks[me]
                    .door
                    .dialed(id, 1 - me as u32, here, there, nonce);
                self.send(id, me, &hello);
            }
            self.act(1 - me, todo);
        }
    }

    fn deliver(&mut self, id: Id, me: usize) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let way = &mut wire.ways[usize::from(wire.dialer != me)];
        let mut bytes = Vec::new();
        let mut ended = false;
        while let Some(&(at, byte)) = way.bytes.front() {
            if at > self.now {
                break;
            }
            way.bytes.pop_front();
            match byte {
                Some(byte) => bytes.push(byte),
                None => ended = true,
            }
        }
        if !wire.open[me] || (bytes.is_empty() && !ended) {
            return;
        }
        let rank = &mut self.ranks[me];
        let is_ours = rank.joined.is_some_and(|(ours, _)| ours == id);
        let mut todo = Vec::new();
        if is_ours {
            rank.inbox.take(&bytes, &mut rank.got).expect("good frames");
        } else {
            rank.door.received(id, &bytes, &mut todo);
        }
        self.act(me, todo);
        if ended {
            let rank = &mut self.ranks[me];
            match &mut rank.joined {
                Some((ours, alive)) if *ours == id => {
                    *alive = false;
                    // After goodbye too, for who has not said all.
                    let owes = rank.sent.len() as i32 <= rank.to_send || !rank.outbox.is_empty();
                    rank.lost |= !rank.said_goodbye() || owes;
                }
                _ => {
                    rank.door.ended(id);
                    self.call_ended(me, id);
                }
            }
            if let Some(wire) = self.wires.get_mut(&id) {
                wire.open[me] = false;
            }
        }
        self.wires.retain(|_, wire| wire.open != [false, false]);
    }

    /// A rank adds to what it sends, and some of it leaves.
    fn talk(&mut self, me: usize) {
        let rank = &mut self.ranks[me];
        let done = rank.sent.len() as i32;
        let frame = |kind, tag, len| Frame {
            kind,
            len,
            head: SlotHead {
                tag,
                ..SlotHead::default()
            },
        };
        if done < rank.to_send {
            let len = self.random.below(100) as usize;
            rank.outbox.push(&frame(Kind::Eager, done, len), |out| {
                out.extend(vec![done as u8; len])
            });
            rank.sent.push(done);
        } else if done == rank.to_send {
            rank.outbox.push(&frame(Kind::Goodbye, 0, 0), |_| {});
            rank.sent.push(-1);
        }
        let Some((id, true)) = rank.joined else {
            return;
        };
        let bytes: Vec<u8> = rank
            .outbox
            .front()
            .flat_map(|(piece, copied)| match piece {
                Piece::Copied(_) => copied.to_vec(),
                Piece::Lent { .. } => unreachable!("nothing is lent here"),
            })
            .collect();
        let n = (1 + self.random.below(400) as usize).min(bytes.len());
        rank.outbox.sent(n, |_, _| {});
        self.send(id, me, &bytes[..n]);
    }

    fn over(&self) -> bool {
        let lost = self.ranks.iter().any(|r| r.lost);
        let done = |r: &Rank| match r.joined {
            Some(_) => r.lost || (r.said_goodbye() && r.outbox.is_empty()),
            // The acceptor had accepted when the connection was cut: it ends the job.
            None => lost,
        };
        self.ranks.iter().all(done)
    }

    /// When something happens next, if neither rank says anything before.
    fn next_event(&self) -> u64 {
        let arrivals = self.wires.values().flat_map(|wire| {
            let ways = wire
                .ways
                .iter()
                .filter_map(|way| way.bytes.front().map(|(at, _)| *at));
            ways.chain(wire.stands)
        });
        let calls = self.ranks.iter().filter_map(|rank| {
            let calling = rank.calling.as_ref()?;
            Some(calling.deadline()?.as_micros() as u64)
        });
        arrivals.chain(calls).min().unwrap_or(0)
    }

    /// Runs until both have all or have lost each other.
    fn run(&mut self) {
        while !self.over() {
            assert!(self.now < 20 * KEEPALIVE, "nothing more happens");
            let quiet = self.ranks.iter().all(|r| {
                r.sent.len() as i32 > r.to_send && r.outbox.is_empty() || r.joined.is_none()
            });
            if quiet {
                self.now = self.now.max(self.next_event());
            }
            self.now += 20 + self.random.below(2000);
            let now = self.time();
            for me in 0..2 {
                // Either may be busy with something else for a while.
                if self.random.below(4) == 0 {
                    continue;
                }
                let mut todo = Vec::new();
                self.ranks[me].door.tick(now, &mut todo);
                self.act(me, todo);
                if !self.ranks[me].sent.is_empty() || self.random.below(3) == 0 {
                    self.dial(me);
                }
                self.connect();
                let ids: Vec<Id> = self.wires.keys().copied().collect();
                ids.into_iter().for_each(|id| self.deliver(id, me));
                self.talk(me);
                // What a rank that is lost to its peer would do: its driver sees the end too.
                if self.ranks[me].lost {
                    if let Some((id, alive)) = &mut self.ranks[me].joined {
                        if *alive {
                            *alive = false;
                            let id = *id;
                            self.close(id, me);
                        }
                    }
                }
            }
        }
    }

    fn check(&self) {
        for me in 0..2 {
            let (rank, peer) = (&self.ranks[me], &self.ranks[1 - me]);
            let got = rank.tags();
            let expected: Vec<i32> = (0..peer.to_send).collect();
            assert!(
                expected.starts_with(&got),
                "messages came out of order or twice"
            );
            if rank.joined.is_some() && !rank.lost {
                assert_eq!(got, expected, "goodbye came before the last message");
            }
        }
        if let [Some((a, _)), Some((b, _))] = [self.ranks[0].joined, self.ranks[1].joined] {
            let lost = self.ranks.iter().any(|r| r.lost);
            assert!(a == b || lost, "the ranks mean different connections");
        }
    }
}

/// Runs seeds; a failure prints its seed.
fn seeds(count: u64, weather: impl Fn(u64) -> Weather) {
    let first = std::env::var("TERCIO_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let range = first.map_or(0..count, |seed| seed..seed + 1);
    for seed in range {
        let weather = weather(seed);
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, weather);
            world.run();
            world.check();
            if !weather.late_cuts {
                let lost = world.ranks.iter().any(|r| r.lost);
                assert!(!lost, "a cut in the handshake must only cost time");
            }
        });
        if let Err(panic) = run {
            eprintln!("seed {seed}; run it alone with TERCIO_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_pair_comes_together_by_one_connection_whatever_is_cut_in_between() {
    let cuts = if cfg!(miri) { 5 } else { 5000 };
    seeds(cuts, |seed| Weather {
        cuts: seed % 70,
        late_cuts: false,
        silent: seed % 3 * 20,
    });
}

#[test]
fn a_connection_that_is_cut_is_noticed_and_loses_no_order() {
    let cuts = if cfg!(miri) { 5 } else { 5000 };
    seeds(cuts, |seed| Weather {
        cuts: 20 + seed % 80,
        late_cuts: true,
        silent: seed % 3 * 10,
    });
}
