//! Ranks that are reached through sockets: connections on demand, and the engine's messages as frames. README.md of the engine has the protocol.
mod ahead;
mod credit;
mod direct;
mod fabric;
mod gather;
mod incoming;
mod outgoing;
mod spares;

pub(crate) use fabric::Mpi;
pub(super) use fabric::{Came, Left, Soon};

use super::RequestId;
use super::places::Places;
use super::state::State;
use super::{Engine, Settings};
use crate::job::exchange::Secret;
use crate::job::{Exchange, RankState, Segment};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass, Site};
use crate::sys::net::Epoll;
use crate::transport::shm::SlotHead;
use crate::transport::tcp::ahead::{Offers, Sends};
use crate::transport::tcp::credit::{CREDIT, Given, POOL};
use crate::transport::tcp::driver::{Event, Listen, Net};
use crate::transport::tcp::frame::{Frame, Kind};
use crate::transport::tcp::greeting::Key;
use crate::transport::tcp::line::{End, Line, READ_AHEAD};
use crate::transport::tcp::outbox::Outbox;
use gather::Burst;
use incoming::{Coming, Incoming};
use spares::Spares;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Under this key a rank publishes where it listens.
const ADDRESS: &str = "tcp";
/// Calls of progress between two looks at all sockets; the busiest ones are looked at each time.
const LOOK: u32 = 32;
/// The same while connections are being made.
const LOOK_BUSY: u32 = 4;
/// Sockets that are read at each progress: those that were of use last. A read that finds nothing costs 0.2 µs here.
const HOT: usize = 2;
/// How long a broken connection waits for the launcher to say what has become of the other rank. Its agents notice a silent host within 5 s.
const VERDICT: Duration = Duration::from_secs(10);

/// Between two looks whether a connection may be closed.
const LEAST_NAP: Duration = Duration::from_micros(200);
const MOST_NAP: Duration = Duration::from_millis(20);

/// What this rank is to one that is reached through a socket.
pub(super) struct Remote {
    outbox: Outbox,
    line: Option<Box<Line>>,
    incoming: Incoming,
    /// Sends that wait for the connection.
    waiting: VecDeque<RequestId>,
    /// Matched sends whose payload goes out in parts: send, receive, how much has been put into the outbox.
    granted: VecDeque<(RequestId, RequestId, usize)>,
    /// Sends and offers whose payload may go ahead of its grant.
    sends: Sends,
    offers: Offers,
    /// The credit that it has here, and what it allows this rank to send in all.
    given: Given,
    allowed: u64,
    /// Whether the path is so long that a rendezvous is dear; bytes that the kernel kept of what came, when last looked at; whether to look again.
    far: bool,
    kept: usize,
    is_to_be_measured: bool,
    heard_goodbye: bool,
    /// Whether it says goodbye also where it never sent anything.
    pub(super) promises_goodbye: bool,
    /// The connection broke, or none came about: why, and when.
    lost: Option<(String, Instant)>,
    /// Whether it stands in `Sockets::writing`.
    writes: bool,
    burst: Burst,
}

impl Default for Remote {
    fn default() -> Remote {
        Remote {
            outbox: Outbox::default(),
            line: None,
            incoming: Incoming::default(),
            waiting: VecDeque::new(),
            granted: VecDeque::new(),
            sends: Sends::default(),
            offers: Offers::default(),
            given: Given::new(CREDIT),
            allowed: CREDIT,
            far: false,
            kept: 0,
            is_to_be_measured: false,
            heard_goodbye: false,
            promises_goodbye: false,
            lost: None,
            writes: false,
            burst: Burst::default(),
        }
    }
}

impl Remote {
    /// Whether all that can come has been read.
    pub(super) fn is_over(&self) -> bool {
        (self.line.is_none() && !self.promises_goodbye) || self.heard_goodbye
    }

    /// Whether the connection broke, and nobody has said why for so long that it is an error by itself.
    pub(super) fn is_lost_for_long(&self) -> bool {
        self.lost
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() >= VERDICT)
    }
}

/// All sockets of a rank.
pub(crate) struct Sockets {
    net: Net,
    epoll: Arc<Epoll>,
    exchange: Exchange,
    /// Ranks with a connection; the one that was of use last comes first.
    joined: Vec<usize>,
    /// Ranks to be called, whose address is not known yet.
    wanted: Vec<usize>,
    /// Ranks for which there may be something to write.
    writing: Vec<usize>,
    /// Unmatched messages that are kept, or on their way.
    coming: Vec<Option<Coming>>,
    spares: Spares,
    /// What is read ahead.
    room: Vec<u8>,
    turns: u32,
    /// The rank of whose short messages the epoll set does not tell.
    unheard: Option<usize>,
    /// Receives that looked at one connection alone since the last look at all.
    quick: u32,
    /// From so many microseconds of a round trip on a path is far; how many such there are, and what is left of the credit for them.
    far_from: u32,
    far: usize,
    pool: u64,
    /// All sockets are to be looked at in the next progress.
    due: bool,
}

impl Sockets {
    /// Opens this rank's sockets and publishes where it listens.
    pub(crate) fn open(
        segment: &Segment,
        places: &Places,
        job: &str,
        settings: &Settings,
        interface: &str,
        (exchange, secret): (Exchange, Secret),
    ) -> Result<Sockets> {
        let epoll = Epoll::new().map_err(|e| {
            let text = format!("cannot make an epoll set ({e}); raise `ulimit -n`");
            Error::new(ErrorClass::Join, text)
        })?;
        let epoll = Arc::new(epoll);
        let listen = Listen {
            me: places.rank() as u32,
            ranks: places.ranks() as u32,
            key: Key {
                secret,
                job: job.into(),
                encrypt: settings.encrypt,
            },
            interface,
            alone: segment.directory().hosts() <= 1,
        };
        let net = Net::open(listen, &epoll)?;
        exchange.put(ADDRESS, &net.address())?;
        Ok(Sockets {
            net,
            epoll,
            exchange,
            joined: Vec::new(),
            wanted: Vec::new(),
            writing: Vec::new(),
            coming: Vec::new(),
            spares: Spares::default(),
            room: vec![0; READ_AHEAD],
            turns: 0,
            unheard: None,
            quick: 0,
            far_from: settings.far,
            far: 0,
            pool: POOL,
            due: true,
        })
    }

    /// Waits until all ranks have published where they listen, as is needed where who passes that on may leave before the others.
    pub(crate) fn meet(&mut self) -> Result<()> {
        self.exchange.fence()
    }

    pub(super) fn epoll(&self) -> Arc<Epoll> {
        self.epoll.clone()
    }
}

/// A frame of a kind that has no envelope.
fn plain(kind: Kind, head: SlotHead) -> Frame {
    Frame { kind, len: 0, head }
}

impl State {
    fn remote(&mut self, peer: usize) -> Option<&mut Remote> {
        self.links.get_mut(peer)?.remote.as_deref_mut()
    }

    /// Looks at the sockets. Whether anything happened.
    #[cold]
    pub(super) fn progress_net(&mut self) -> Result<bool> {
        let Some(net) = &mut self.net else {
            return Ok(false);
        };
        net.turns = net.turns.wrapping_add(1);
        let every = if net.net.is_busy() { LOOK_BUSY } else { LOOK };
        let mut any = false;
        if core::mem::take(&mut net.due) || net.turns % every == 0 {
            any |= self.look_at_sockets()?;
        }
        for at in 0..HOT {
            let Some(&peer) = self.net.as_ref().and_then(|net| net.joined.get(at)) else {
                break;
            };
            any |= self.read_remote(peer)?;
        }
        any |= self.write_remotes(false)?;
        Ok(any)
    }

    /// Before a look that decides whether to sleep: everything is to be looked at, and all that can be written is written.
    /// Whether anything was.
    pub(super) fn settle_net(&mut self) -> Result<bool> {
        let Some(net) = &mut self.net else {
            return Ok(false);
        };
        net.due = true;
        self.write_remotes(true)
    }

    /// Calls whom it is time to call, and looks at every socket.
    fn look_at_sockets(&mut self) -> Result<bool> {
        self.hear_all();
        let mut events = Vec::new();
        let Some(net) = &mut self.net else {
            return Ok(false);
        };
        let Sockets {
            net: driver,
            exchange,
            wanted,
            ..
        } = &mut **net;
        wanted.retain(|&peer| match exchange.get(peer, ADDRESS) {
            Some(address) => {
                driver.call(peer as u32, address, &mut events);
                false
            }
            None => true,
        });
        driver.look(&mut events);
        let any = !events.is_empty();
        for event in events {
            match event {
                Event::Joined(peer, line, rest) => self.join(peer as usize, line, &rest)?,
                Event::Readable(peer) => {
                    self.read_remote(peer as usize)?;
                }
                Event::Writable(peer) => {
                    self.write_remote(peer as usize, false)?;
                }
                Event::OutOfReach(peer, why) => self.lose(
                    peer as usize,
                    &format!("none of its addresses can be reached: {why}"),
                ),
            }
        }
        Ok(any | self.read_resting()?)
    }

    /// Reads what the set may be silent about: on older kernels it is where the socket's buffer is full before a good part of a body is there.
    fn read_resting(&mut self) -> Result<bool> {
        let Some(net) = self.net.as_ref().filter(|net| net.far > 0) else {
            return Ok(false);
        };
        let rests = |&peer: &usize| {
            let remote = self.links[peer].remote.as_ref();
            let line = remote.and_then(|remote| remote.line.as_ref());
            line.is_some_and(|line| line.rests())
        };
        // The others are read in each progress.
        let resting: Vec<usize> = net.joined.iter().skip(HOT).copied().filter(rests).collect();
        let mut any = false;
        for peer in resting {
            any |= self.read_remote(peer)?;
        }
        Ok(any)
    }

    /// The connection with `peer` stands.
    fn join(&mut self, peer: usize, mut line: Line, rest: &[u8]) -> Result<()> {
        let begun = incoming::begin(self, peer, &mut line, rest);
        let Some(remote) = self.remote(peer) else {
            return Ok(());
        };
        remote.line = Some(Box::new(line));
        let waiting = core::mem::take(&mut remote.waiting);
        self.begin_path(peer);
        if let Some(net) = &mut self.net {
            net.joined.insert(0, peer);
        }
        for id in waiting {
            self.offer_remote(peer, id);
        }
        match begun {
            Ok(()) => {
                self.write_remote(peer, false)?;
                self.read_remote(peer)?;
            }
            Err(end) => self.end_line(peer, end)?,
        }
        Ok(())
    }

    /// The connection with `peer` has ended.
    fn end_line(&mut self, peer: usize, end: End) -> Result<()> {
        let Some(remote) = self.remote(peer) else {
            return Ok(());
        };
        remote.line = None;
        self.end_path(peer);
        let Some(remote) = self.remote(peer) else {
            return Ok(());
        };
        let owes = !remote.outbox.is_empty();
        let told = remote.heard_goodbye;
        if let Some(net) = &mut self.net {
            net.joined.retain(|joined| *joined != peer);
        }
        match end {
            End::Broken(what) => {
                let text = format!(
                    "the connection from rank {peer} carries {what}; some rank wrote where it must not, or something on the path changed what was sent"
                );
                return Err(Error::new(ErrorClass::Corrupt, text));
            }
            End::Closed | End::Failed(_) if told && !owes => {}
            End::Closed => self.lose(peer, "it was closed without a goodbye"),
            End::Failed(why) => self.lose(peer, &why),
        }
        // Whoever waits for that rank looks again.
        self.requests.completed += 1;
        Ok(())
    }

    fn lose(&mut self, peer: usize, why: &str) {
        if let Some(remote) = self.remote(peer) {
            remote
                .lost
                .get_or_insert_with(|| (why.into(), Instant::now()));
        }
    }

    /// "has ...", of a rank that a wait needs in vain.
    pub(super) fn state_words(&self, rank: usize) -> String {
        let state = self.places.state(&self.segment, rank);
        match self.links[rank]
            .remote
            .as_ref()
            .and_then(|remote| remote.lost.as_ref())
        {
            Some((why, _)) if !state.is_gone() => {
                format!("cannot be reached (the connection between the two broke: {why})")
            }
            _ => state.words().into(),
        }
    }

    /// Whether something that was handed over for sending is still here.
    pub(super) fn owes_bytes(&self) -> bool {
        self.mpi.as_ref().is_some_and(|mpi| mpi.owes())
            || self.net.is_some()
                && self.links.iter().any(|link| {
                    link.remote.as_ref().is_some_and(|remote| {
                        remote.lost.is_none()
                            && remote
                                .line
                                .as_ref()
                                .is_some_and(|line| line.has_output(&remote.outbox))
                    })
                })
    }

    /// Says goodbye on every connection.
    fn say_goodbye(&mut self) {
        let joined = self
            .net
            .as_ref()
            .map(|net| net.joined.clone())
            .unwrap_or_default();
        for peer in joined {
            if let Some(remote) = self.remote(peer) {
                remote
                    .outbox
                    .push(&plain(Kind::Goodbye, SlotHead::default()), |_| {});
            }
            self.writes(peer);
        }
    }

    /// Whether all connections may be closed: the other end has all, or will send nothing that could meet a closed socket.
    fn may_close(&self) -> bool {
        self.links
            .iter()
            .filter_map(|link| link.remote.as_ref())
            .all(|remote| match &remote.line {
                Some(line) => {
                    !line.has_output(&remote.outbox)
                        && (remote.heard_goodbye || line.is_acknowledged())
                }
                None => true,
            })
    }
}

impl Engine {
    /// Says goodbye to ranks that are reached through sockets, and waits until a close can lose nothing.
    pub(super) fn take_leave(&self, site: Site) -> Result<()> {
        if self.state.get().mpi.is_some() {
            return self.leave_mpi(site);
        }
        let parked = self.state.get().parked_mpi.take();
        if let Some(mpi) = parked {
            let control = self.segment.control();
            control.set_state(self.places.local(), RankState::Finalized);
            mpi.leave();
            return Ok(());
        }
        {
            let mut state = self.state.get();
            if state.net.is_none() {
                return Ok(());
            }
            state.say_goodbye();
        }
        let mut nap = LEAST_NAP;
        loop {
            {
                let mut state = self.state.get();
                let wrote = state.settle_net().map_err(|e| e.at(site))?;
                if state.progress_net().map_err(|e| e.at(site))? || wrote {
                    nap = LEAST_NAP;
                }
                if state.may_close() {
                    return Ok(());
                }
            }
            if self.segment.control().is_aborted() {
                return Err(super::aborted());
            }
            // No event tells of an acknowledgement. It takes 40 ms where the other end is slow to say so, and as long as it likes where that
            // computes and does not read.
            std::thread::sleep(nap);
            nap = (2 * nap).min(MOST_NAP);
        }
    }
}
