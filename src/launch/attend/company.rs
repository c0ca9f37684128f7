//! The agents of a job's hosts, where another launcher started the ranks: how they know of each other. That of the first host is the middle of a
//! star; the others connect to it, and say what its hub would hear from agents of a job of our own: what ranks publish, which are gone, which failed.
//!
//! Both sides know the job's secret by the handshake of Noise, with the secret as its key, and every byte after it is encrypted.
use super::super::pulse::Pulse;
use super::super::wire::{Order, PACKET, Report};
use super::{SILENT, STRANGERS};
use crate::job::exchange::Secret;
use crate::sys::fd::{self, Interest, Watch};
use snow::{Builder, HandshakeState, TransportState};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";
const PROLOGUE: &[u8] = b"tercio company 1";
/// Each of the two messages of the handshake: a key, and its tag.
const GREETING: usize = 48;
const TAG: usize = 16;
/// The most bytes of a host's name.
const NAME: usize = 255;
/// How long the connection to the first host's agent may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the other side may be silent.
const SILENCE: Duration = Duration::from_secs(5);
/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// This agent among those of all hosts.
pub(super) enum Company {
    /// There is no other, or each is on its own.
    Alone,
    First(First),
    Member(Member),
}

/// The agent of the first host.
pub(super) struct First {
    listeners: Vec<TcpListener>,
    secret: Secret,
    strangers: Vec<Stranger>,
    /// By the number of the host: its name, and the way there.
    members: BTreeMap<u32, (String, Line)>,
    /// Hosts of which nothing more will come.
    done: Vec<u32>,
    hosts: u32,
}

/// An agent of another host.
pub(super) struct Member {
    line: Line,
    lost: bool,
    /// The first host's ranks are over and all went well there, so that its agent may go at any time.
    free: bool,
}

/// Somebody who connected and has not shown to know the secret.
struct Stranger {
    socket: TcpStream,
    since: Instant,
    read: Vec<u8>,
    noise: Option<TransportState>,
}

/// What the first host's agent hears.
pub(super) enum Heard {
    Report(Report),
    /// The host of this name cannot be heard any more, for this reason.
    Lost(String, String),
}

fn builder(secret: &Secret) -> Result<Builder<'_>, snow::Error> {
    Builder::new(PATTERN.parse()?)
        .prologue(PROLOGUE)?
        .psk(0, secret)
}

fn other(error: snow::Error) -> io::Error {
    io::Error::other(format!("the handshake failed: {error}"))
}

/// A connection on which both sides have shown to know the secret.
struct Line {
    socket: TcpStream,
    noise: TransportState,
    read: Vec<u8>,
    unsent: Vec<u8>,
    pulse: Pulse,
    ended: bool,
}

/// Seals a frame: the length of what follows, and the sealed bytes.
fn seal(noise: &mut TransportState, frame: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let (at, len) = (out.len(), frame.len() + TAG);
    out.extend((len as u16).to_le_bytes());
    out.resize(at + 2 + len, 0);
    noise
        .write_message(frame, &mut out[at + 2..])
        .map(drop)
        .map_err(other)
}

/// Takes the first sealed frame out of `read`, if all of it is there.
fn open(noise: &mut TransportState, read: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let Some((len, rest)) = read.split_first_chunk::<2>() else {
        return Ok(None);
    };
    let len = u16::from_le_bytes(*len) as usize;
    if !(TAG..=PACKET + TAG).contains(&len) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let Some(sealed) = rest.get(..len) else {
        return Ok(None);
    };
    let mut frame = vec![0; len];
    let got = noise.read_message(sealed, &mut frame).map_err(other)?;
    frame.truncate(got);
    read.drain(..2 + len);
    Ok(Some(frame))
}

impl Line {
    fn new(socket: TcpStream, noise: TransportState, read: Vec<u8>) -> io::Result<Line> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Line {
            socket,
            noise,
            read,
            unsent: Vec::new(),
            pulse: Pulse::new(SILENCE, Instant::now()),
            ended: false,
        })
    }

    fn send(&mut self, frame: &[u8]) {
        let sealed = seal(&mut self.noise, frame, &mut self.unsent);
        self.ended |= sealed.is_err();
        self.flush();
    }

    /// Sends what can be sent. An error shows when the connection is read.
    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match fd::write_now(self.socket.as_fd(), &self.unsent) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(_) => return,
            }
        }
    }

    /// The next frame, if one is there; `ended` is set when no more will come.
    fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            match open(&mut self.noise, &mut self.read) {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(_) => self.ended = true,
            }
            if self.ended {
                return None;
            }
            let held = self.read.len();
            self.read.resize(held + CHUNK, 0);
            let got = fd::read_now(self.socket.as_fd(), &mut self.read[held..]);
            self.read.truncate(held + *got.as_ref().unwrap_or(&0));
            match got {
                Ok(len) if len > 0 => self.pulse.hear(Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Ok(_) | Err(_) => self.ended = true,
            }
        }
    }

    fn watch(&self, watch: &mut Watch) {
        watch.add(self.socket.as_fd(), Interest::Read);
        if !self.unsent.is_empty() {
            watch.add(self.socket.as_fd(), Interest::Write);
        }
    }

    /// Sends what is left, for at most so long.
    fn drain(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        self.flush();
        while !self.unsent.is_empty() && Instant::now() < until && !self.ended {
            let mut watch = Watch::default();
            watch.add(self.socket.as_fd(), Interest::Write);
            watch.wait(Some(until.saturating_duration_since(Instant::now())));
            self.flush();
        }
    }
}

impl First {
    /// Listens for the agents of the other `hosts`; where, in words with commas between.
    pub(super) fn open(
        secret: Secret,
        listen: &[IpAddr],
        hosts: usize,
    ) -> io::Result<(First, String)> {
        let mut listeners = Vec::new();
        let mut places = Vec::new();
        let mut failed = None;
        for &ip in listen {
            let bound = TcpListener::bind((ip, 0)).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok((listener.local_addr()?, listener))
            });
            match bound {
                Ok((at, listener)) => {
                    places.push(at.to_string());
                    listeners.push(listener);
                }
                // An address that has just gone, or an IPv6 one that is not ready.
                Err(error) => failed = Some(error),
            }
        }
        if let (Some(error), true) = (failed, listeners.is_empty()) {
            return Err(error);
        }
        let first = First {
            listeners,
            secret,
            strangers: Vec::new(),
            members: BTreeMap::new(),
            done: Vec::new(),
            hosts: hosts as u32,
        };
        Ok((first, places.join(",")))
    }

    fn admit(&mut self) {
        for listener in &self.listeners {
            while let Ok((socket, _)) = listener.accept() {
                if self.strangers.len() >= STRANGERS {
                    self.strangers.remove(0);
                }
                if socket.set_nonblocking(true).is_ok() {
                    self.strangers.push(Stranger {
                        socket,
                        since: Instant::now(),
                        read: Vec::new(),
                        noise: None,
                    });
                }
            }
        }
    }

    /// Hears strangers out; whoever knows the secret is a member.
    fn meet(&mut self) {
        let now = Instant::now();
        for at in (0..self.strangers.len()).rev() {
            let stranger = &mut self.strangers[at];
            match stranger.greet(&self.secret) {
                Ok(None) if now < stranger.since + SILENT => {}
                Ok(Some((host, name))) => {
                    let Stranger {
                        socket,
                        read,
                        noise,
                        ..
                    } = self.strangers.swap_remove(at);
                    let known = self.members.contains_key(&host);
                    if let (Some(noise), true) = (noise, !known && (1..self.hosts).contains(&host))
                    {
                        if let Ok(line) = Line::new(socket, noise, read) {
                            self.members.insert(host, (name, line));
                        }
                    }
                }
                Ok(None) | Err(_) => drop(self.strangers.swap_remove(at)),
            }
        }
    }

    /// What the other agents have to say, with the numbers of their hosts.
    fn hear(&mut self) -> Vec<(u32, Heard)> {
        self.admit();
        self.meet();
        let now = Instant::now();
        let mut heard = Vec::new();
        for (&host, (name, line)) in &mut self.members {
            if self.done.contains(&host) {
                continue;
            }
            while let Some(frame) = line.receive() {
                match Report::decode(&frame) {
                    Some(Report::Beat) => {}
                    Some(report) => {
                        if matches!(report, Report::Done(_)) {
                            self.done.push(host);
                        }
                        heard.push((host, Heard::Report(report)));
                    }
                    None => line.ended = true,
                }
            }
            if line.pulse.look(now) {
                line.send(&Order::Beat.encode());
            }
            let why = match (line.ended, line.pulse.silence(now)) {
                (true, _) => "the connection to its agent ended".to_owned(),
                (_, Some(silent)) => {
                    format!(
                        "nothing was heard from it for {:.1} s",
                        silent.as_secs_f64()
                    )
                }
                _ => continue,
            };
            if !self.done.contains(&host) {
                self.done.push(host);
                heard.push((host, Heard::Lost(name.clone(), why)));
            }
        }
        heard
    }
}

impl Stranger {
    /// The number and the name of its host, once it has shown to know the secret.
    fn greet(&mut self, secret: &Secret) -> io::Result<Option<(u32, String)>> {
        // Never more than a greeting may have.
        let most = GREETING + 2 + TAG + 4 + NAME;
        let mut buffer = [0; GREETING + 2 + TAG + 4 + NAME];
        let room = most - self.read.len();
        match fd::read_now(self.socket.as_fd(), &mut buffer[..room]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => self.read.extend(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        if self.noise.is_none() && self.read.len() >= GREETING {
            let mut state = builder(secret)
                .and_then(Builder::build_responder)
                .map_err(other)?;
            state
                .read_message(&self.read[..GREETING], &mut [0; GREETING])
                .map_err(other)?;
            self.read.drain(..GREETING);
            let mut answer = [0; GREETING];
            let len = state.write_message(&[], &mut answer).map_err(other)?;
            // It fits into the empty buffer of a new socket.
            fd::write_now(self.socket.as_fd(), &answer[..len])?;
            self.noise = Some(state.into_transport_mode().map_err(other)?);
        }
        let Some(noise) = &mut self.noise else {
            return Ok(None);
        };
        let Some(frame) = open(noise, &mut self.read)? else {
            return Ok(None);
        };
        let Some((host, name)) = frame.split_first_chunk::<4>() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let name = String::from_utf8_lossy(name).into_owned();
        Ok(Some((u32::from_le_bytes(*host), name)))
    }
}

impl Member {
    /// Connects to the first host's agent, at one of these places, as that of host number `host`.
    pub(super) fn connect(
        secret: &Secret,
        places: &[SocketAddr],
        host: usize,
    ) -> io::Result<Member> {
        let until = Instant::now() + CONNECT;
        let mut why = String::from("it listens nowhere");
        while Instant::now() < until && !places.is_empty() {
            for at in places {
                match Member::connect_to(secret, *at, host) {
                    Ok(line) => {
                        return Ok(Member {
                            line,
                            lost: false,
                            free: false,
                        });
                    }
                    Err(error) => why = format!("{at}: {error}"),
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(io::Error::other(format!(
            "it cannot reach the agent of the first host ({why}); set TERCIO_INTERFACE to an interface that the hosts share"
        )))
    }

    fn connect_to(secret: &Secret, at: SocketAddr, host: usize) -> io::Result<Line> {
        let limit = Some(Duration::from_secs(2));
        let mut socket = TcpStream::connect_timeout(&at, Duration::from_secs(2))?;
        socket.set_read_timeout(limit)?;
        socket.set_write_timeout(limit)?;
        let mut state: HandshakeState = builder(secret)
            .and_then(Builder::build_initiator)
            .map_err(other)?;
        let mut greeting = [0; GREETING];
        let len = state.write_message(&[], &mut greeting).map_err(other)?;
        io::Write::write_all(&mut socket, &greeting[..len])?;
        io::Read::read_exact(&mut socket, &mut greeting)?;
        state
            .read_message(&greeting, &mut [0; GREETING])
            .map_err(other)?;
        let mut noise = state.into_transport_mode().map_err(other)?;
        let mut name = super::super::host().into_bytes();
        name.truncate(NAME);
        let mut sealed = Vec::new();
        let hello = [&(host as u32).to_le_bytes()[..], &name].concat();
        seal(&mut noise, &hello, &mut sealed)?;
        io::Write::write_all(&mut socket, &sealed)?;
        Line::new(socket, noise, Vec::new())
    }

    fn hear(&mut self) -> Vec<Order> {
        let now = Instant::now();
        let mut heard = Vec::new();
        while let Some(frame) = self.line.receive() {
            match Order::decode(&frame) {
                Some(Order::Beat) => {}
                Some(order) => heard.push(order),
                None => self.line.ended = true,
            }
        }
        if self.line.pulse.look(now) {
            self.line.send(&Report::Beat.encode());
        }
        self.lost |= self.line.ended || self.line.pulse.silence(now).is_some();
        heard
    }
}

impl Company {
    /// Watches for what comes from the other agents; what has come is looked for after each wait.
    pub(super) fn watch(&self, watch: &mut Watch) {
        match self {
            Company::Alone => {}
            Company::First(first) => {
                for listener in &first.listeners {
                    watch.add(listener.as_fd(), Interest::Read);
                }
                for stranger in &first.strangers {
                    watch.add(stranger.socket.as_fd(), Interest::Read);
                }
                let alive = first.members.iter();
                for (_, (_, line)) in alive.filter(|(host, _)| !first.done.contains(host)) {
                    line.watch(watch);
                }
            }
            Company::Member(member) if member.lost => {}
            Company::Member(member) => member.line.watch(watch),
        }
    }

    /// When to look again though nothing has come.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Company::Alone => None,
            Company::First(first) => {
                let strangers = first.strangers.iter().map(|it| it.since + SILENT);
                let members = first.members.iter();
                let alive = members.filter(|(host, _)| !first.done.contains(host));
                strangers
                    .chain(alive.map(|(_, (_, line))| line.pulse.deadline()))
                    .min()
            }
            Company::Member(member) if member.lost => None,
            Company::Member(member) => Some(member.line.pulse.deadline()),
        }
    }

    /// What the other agents say to that of the first host.
    pub(super) fn reports(&mut self) -> Vec<(u32, Heard)> {
        match self {
            Company::First(first) => first.hear(),
            _ => Vec::new(),
        }
    }

    /// What the first host's agent says to another.
    pub(super) fn orders(&mut self) -> Vec<Order> {
        match self {
            Company::Member(member) => member.hear(),
            _ => Vec::new(),
        }
    }

    /// To the first host's agent.
    pub(super) fn report(&mut self, report: &Report) {
        if let Company::Member(member) = self {
            member.line.send(&report.encode());
        }
    }

    /// To the agents of all other hosts but one.
    pub(super) fn order(&mut self, order: &Order, but: Option<u32>) {
        if let Company::First(first) = self {
            for (host, (_, line)) in &mut first.members {
                if Some(*host) != but && !first.done.contains(host) {
                    line.send(&order.encode());
                }
            }
        }
    }

    /// Whether it is an agent of another host than the first, that the first's can hear.
    pub(super) fn is_member(&self) -> bool {
        matches!(self, Company::Member(member) if !member.lost)
    }

    /// Whether it was one, and is cut off although it is needed.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Company::Member(member) if member.lost && !member.free)
    }

    /// The first host's agent may go.
    pub(super) fn let_go(&mut self) {
        if let Company::Member(member) = self {
            member.free = true;
        }
    }

    /// Whether there are others.
    pub(super) fn is_several(&self) -> bool {
        !matches!(self, Company::Alone)
    }

    /// Whether there are ranks on other hosts that may still run. A host whose agent never came has none: its ranks cannot have left `initialize`,
    /// nor can those here have done so without it.
    pub(super) fn expects_more(&self) -> bool {
        match self {
            Company::First(first) => first.members.keys().any(|host| !first.done.contains(host)),
            _ => false,
        }
    }

    /// Sends what is left to be sent, for at most so long.
    pub(super) fn drain(&mut self, limit: Duration) {
        match self {
            Company::Alone => {}
            Company::First(first) => {
                for (_, line) in first.members.values_mut() {
                    line.drain(limit);
                }
            }
            Company::Member(member) => member.line.drain(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = [7; 32];

    fn first(hosts: usize) -> (Company, Vec<SocketAddr>) {
        let here = [IpAddr::from([127, 0, 0, 1])];
        let (first, places) = First::open(SECRET, &here, hosts).unwrap();
        let places = places.split(',').map(|at| at.parse().unwrap()).collect();
        (Company::First(first), places)
    }

    /// What `company` hears while `until` has not come true.
    fn hear(company: &mut Company, until: impl Fn(&[(u32, Heard)]) -> bool) -> Vec<(u32, Heard)> {
        let mut all = Vec::new();
        let begun = Instant::now();
        while !until(&all) {
            assert!(begun.elapsed() < Duration::from_secs(20));
            let mut watch = Watch::default();
            company.watch(&mut watch);
            watch.wait(Some(Duration::from_millis(20)));
            all.extend(company.reports());
        }
        all
    }

    #[test]
    fn members_report_and_are_ordered() {
        let (mut company, places) = first(3);
        let join = |host| {
            let places = places.clone();
            std::thread::spawn(move || {
                let member = Member::connect(&SECRET, &places, host).unwrap();
                let mut company = Company::Member(member);
                company.report(&Report::Gone(host as u32, 3));
                let begun = Instant::now();
                let mut heard = Vec::new();
                while heard.is_empty() {
                    assert!(begun.elapsed() < Duration::from_secs(20));
                    heard = company.orders();
                }
                company.report(&Report::Done(Box::default()));
                company.drain(Duration::from_secs(5));
                heard
            })
        };
        let members = [join(1), join(2)];
        let heard = hear(&mut company, |all| all.len() == 2);
        for (host, heard) in heard {
            assert!(matches!(heard, Heard::Report(Report::Gone(rank, 3)) if rank == host));
        }
        company.order(&Order::Gone(9, 3), Some(1));
        company.order(&Order::Fail, Some(2));
        let orders = members.map(|member| member.join().unwrap());
        assert_eq!(orders, [vec![Order::Fail], vec![Order::Gone(9, 3)]]);
        // Done, and no word of a loss after it.
        let heard = hear(&mut company, |all| all.len() == 2);
        assert!(
            heard
                .iter()
                .all(|(_, heard)| matches!(heard, Heard::Report(Report::Done(_))))
        );
        assert!(!company.expects_more());
    }

    #[test]
    fn strangers_are_refused_and_a_member_that_goes_without_a_word_is_lost() {
        let (mut company, places) = first(2);
        let at = places[0];
        let refused = std::thread::spawn(move || {
            let wrong = Member::connect_to(&[8; 32], at, 1).is_err();
            let mut garbage = TcpStream::connect(at).unwrap();
            io::Write::write_all(&mut garbage, &[0x16; 600]).unwrap();
            let mut byte = [0];
            let closed = !matches!(io::Read::read(&mut garbage, &mut byte), Ok(len) if len > 0);
            let stranger = Member::connect_to(&SECRET, at, 7);
            drop(Member::connect_to(&SECRET, at, 1).unwrap());
            (wrong, closed, stranger.is_ok())
        });
        let heard = hear(&mut company, |all| !all.is_empty());
        assert_eq!(refused.join().unwrap(), (true, true, true));
        assert!(matches!(&heard[..], [(1, Heard::Lost(..))]));
        assert!(!company.expects_more());
    }
}
