//! The sockets of one rank: it listens, dials, greets, and hands over connections that stand.
use super::address;
use super::calling::Calling;
use super::door::{Do, Door, Id};
use super::greeting::Key;
use super::line::{End, Line};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass};
use crate::sys::net::{self, Alarm, Congestion, Epoll, Interface, Ready};
use crate::sys::random;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Numbers in the epoll set: listeners from here, connections that greet from there, lines by their peer's rank.
const LISTENERS: u64 = 1 << 32;
/// How long callers are left waiting where the system has no descriptor or no memory for a connection.
const DEAF: Duration = Duration::from_millis(100);
const GREETING: u64 = 1 << 33;
/// The alarm's number, which no connection ever has.
const ALARM: u64 = u64::MAX - 1;

/// Seconds of silence before the kernel asks whether the other host is there, and between its questions.
const IDLE: u32 = 10;
const INTERVAL: u32 = 5;

/// What happened.
pub(crate) enum Event {
    /// The connection with this rank stands; bytes that came with it already.
    Joined(u32, Line, Vec<u8>),
    /// Something can be read from the connection with this rank, or it has ended.
    Readable(u32),
    /// There is room to write again.
    Writable(u32),
    /// This rank cannot be reached: what each of its addresses answered.
    OutOfReach(u32, String),
}

/// A connection without a line yet.
struct Greeter {
    socket: TcpStream,
    /// To whom, where it was dialed and does not stand yet.
    connecting: Option<(u32, SocketAddr)>,
    /// Where it was dialed.
    dialed: Option<(u32, SocketAddr)>,
}

/// How a rank is to listen.
pub(crate) struct Listen<'a> {
    pub(crate) me: u32,
    /// All ranks of the job.
    pub(crate) ranks: u32,
    pub(crate) key: Key,
    /// The addresses that the user named, if any.
    pub(crate) interface: &'a str,
    /// Nobody comes from another host.
    pub(crate) alone: bool,
}

/// All sockets of a rank.
pub(crate) struct Net {
    started: Instant,
    epoll: Arc<Epoll>,
    interfaces: Vec<Interface>,
    listeners: Vec<(TcpListener, SocketAddr)>,
    /// The system's congestion control, if it paces.
    pacing: Option<Congestion>,
    door: Door,
    greeters: BTreeMap<Id, Greeter>,
    callings: HashMap<u32, Calling>,
    next: Id,
    ready: Vec<Ready>,
    /// Rouses a rank that sleeps when a call or a stranger's time is to be looked at, and when that is.
    alarm: Alarm,
    alarm_at: Option<Duration>,
    /// Until when the listeners are out of the set, whose callers could not be accepted.
    deaf_until: Option<Duration>,
    /// Whether the user was told of that.
    was_deaf: bool,
}

fn refused(text: String) -> Error {
    Error::new(ErrorClass::Join, text)
}

impl Net {
    /// Listens. Every socket is put into `epoll`.
    pub(crate) fn open(listen: Listen<'_>, epoll: &Arc<Epoll>) -> Result<Net> {
        let rank = listen.me;
        let interfaces = net::interfaces().map_err(|e| {
            refused(format!(
                "rank {rank} cannot list this host's addresses ({e})"
            ))
        })?;
        let addresses = address::choose(&interfaces, listen.interface, listen.alone)
            .map_err(|text| refused(format!("rank {rank} finds nowhere to listen for other hosts: {text}; name one by --interface")))?;
        let unwatched = |error: io::Error| {
            refused(format!(
                "rank {rank} cannot watch its sockets ({error}); raise `ulimit -n`"
            ))
        };
        let alarm = Alarm::new()
            .and_then(|alarm| epoll.add(alarm.as_fd(), ALARM, false).map(|()| alarm))
            .map_err(unwatched)?;
        let mut listeners = Vec::new();
        let mut pacing = None;
        let mut why = String::new();
        for ip in addresses {
            match TcpListener::bind((ip, 0)).and_then(|l| Ok((l.local_addr()?, l))) {
                Ok((at, listener)) => {
                    let number = LISTENERS + listeners.len() as u64;
                    pacing = net::pacing(listener.as_fd());
                    if pacing.is_some() {
                        net::unpace(listener.as_fd());
                    }
                    listener
                        .set_nonblocking(true)
                        .and_then(|()| epoll.add(listener.as_fd(), number, false))
                        .map_err(unwatched)?;
                    listeners.push((listener, at));
                }
                // An address that has just gone, or an IPv6 one that is not ready.
                Err(error) => why = format!("{ip}: {error}"),
            }
        }
        if listeners.is_empty() {
            return Err(refused(format!(
                "rank {rank} cannot listen for other hosts ({why})"
            )));
        }
        Ok(Net {
            started: Instant::now(),
            epoll: epoll.clone(),
            interfaces,
            listeners,
            pacing,
            door: Door::new(listen.key, listen.me, listen.ranks),
            greeters: BTreeMap::new(),
            callings: HashMap::new(),
            next: 0,
            ready: Vec::new(),
            alarm,
            alarm_at: None,
            deaf_until: None,
            was_deaf: false,
        })
    }

    /// Where this rank listens, to be published.
    pub(crate) fn address(&self) -> Vec<u8> {
        let all: Vec<SocketAddr> = self.listeners.iter().map(|(_, at)| *at).collect();
        address::encode(&all)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether a connection to `peer` is being made by this rank.
    pub(crate) fn is_calling(&self, peer: u32) -> bool {
        self.callings.contains_key(&peer)
    }

    /// Whether there is anything that time moves on.
    pub(crate) fn is_busy(&self) -> bool {
        !self.callings.is_empty() || !self.greeters.is_empty()
    }

    /// Begins to connect to `peer`, which has published `published`. It is done if a connection stands or is being made.
    pub(crate) fn call(&mut self, peer: u32, published: &[u8], events: &mut Vec<Event>) {
        if self.door.is_joined(peer) || self.is_calling(peer) {
            return;
        }
        let addresses = address::decode(published, &self.interfaces);
        if addresses.is_empty() {
            events.push(Event::OutOfReach(
                peer,
                "it has published no address".into(),
            ));
            return;
        }
        self.callings
            .insert(peer, Calling::new(addresses, self.now()));
        self.move_calls(events);
        self.set_alarm();
    }

    /// Looks at all sockets, waits for none.
    pub(crate) fn look(&mut self, events: &mut Vec<Event>) {
        let mut ready = core::mem::take(&mut self.ready);
        self.epoll.wait(Some(Duration::ZERO), &mut ready);
        for it in &ready {
            match it.number {
                ALARM => {
                    // Nobody reads it: it stays readable until it is set again.
                    self.alarm.set(None);
                    self.alarm_at = None;
                }
                number if number >= GREETING => self.serve(number - GREETING, it.write, events),
                number if number >= LISTENERS => self.accept((number - LISTENERS) as usize),
                peer => {
                    if it.read {
                        events.push(Event::Readable(peer as u32));
                    }
                    if it.write {
                        events.push(Event::Writable(peer as u32));
                    }
                }
            }
        }
        self.ready = ready;
        if self.deaf_until.is_some_and(|until| self.now() >= until) {
            self.listen_again();
        }
        if self.is_busy() {
            let mut todo = Vec::new();
            self.door.tick(self.now(), &mut todo);
            self.act(todo, events);
            self.move_calls(events);
        }
        self.set_alarm();
    }

    /// Has the alarm go off when time alone moves something.
    fn set_alarm(&mut self) {
        let calls = self.callings.values().filter_map(Calling::deadline);
        let at = calls
            .chain(self.door.deadline())
            .chain(self.deaf_until)
            .min();
        if at != self.alarm_at {
            self.alarm_at = at;
            self.alarm.set(at.map(|at| at.saturating_sub(self.now())));
        }
    }

    /// Dials what is due, and gives up what is out of reach.
    fn move_calls(&mut self, events: &mut Vec<Event>) {
        let now = self.now();
        let peers: Vec<u32> = self.callings.keys().copied().collect();
        for peer in peers {
            while let Some(to) = self
                .callings
                .get_mut(&peer)
                .and_then(|calling| calling.due(now))
            {
                if let Err(error) = self.dial(peer, to) {
                    self.dial_failed(peer, to, &error.to_string());
                }
            }
            let given_up = self
                .callings
                .get(&peer)
                .and_then(|calling| calling.given_up(now));
            if let Some(text) = given_up {
                self.callings.remove(&peer);
                events.push(Event::OutOfReach(peer, text));
            }
        }
    }

    fn dial(&mut self, peer: u32, to: SocketAddr) -> io::Result<()> {
        let socket = net::connect(to, self.pacing.is_some())?;
        net::prepare(socket.as_fd(), IDLE, INTERVAL)?;
        self.next += 1;
        self.epoll.add(socket.as_fd(), GREETING + self.next, true)?;
        let greeter = Greeter {
            socket: socket.into(),
            connecting: Some((peer, to)),
            dialed: Some((peer, to)),
        };
        self.greeters.insert(self.next, greeter);
        Ok(())
    }

    fn dial_failed(&mut self, peer: u32, to: SocketAddr, why: &str) {
        let now = self.now();
        if let Some(calling) = self.callings.get_mut(&peer) {
            calling.failed(to, why, now);
        }
    }

    fn accept(&mut self, listener: usize) {
        // Bounded: a flood of strangers must not keep the rank here.
        for _ in 0..16 {
            let Some((from, here)) = self.listeners.get(listener) else {
                return;
            };
            let (socket, there) = match from.accept() {
                Ok(accepted) => accepted,
                Err(error) => return self.may_go_deaf(&error),
            };
            let here = socket.local_addr().unwrap_or(*here);
            self.next += 1;
            let id = self.next;
            let ready = net::prepare(socket.as_fd(), IDLE, INTERVAL)
                .and_then(|()| socket.set_nonblocking(true))
                .and_then(|()| self.epoll.add(socket.as_fd(), GREETING + id, false))
                .and_then(|()| random::bytes());
            let Ok(nonce) = ready else { continue };
            let mut todo = Vec::new();
            self.door
                .accepted(id, here, there, nonce, self.now(), &mut todo);
            let greeter = Greeter {
                socket,
                connecting: None,
                dialed: None,
            };
            self.greeters.insert(id, greeter);
            // Only closes others.
            self.act(todo, &mut Vec::new());
        }
    }

    /// A caller that cannot be accepted stays in the queue: were its listener still watched, this rank would never sleep.
    fn may_go_deaf(&mut self, error: &io::Error) {
        let short = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        if !error
            .raw_os_error()
            .is_some_and(|code| short.contains(&code))
        {
            return;
        }
        if !core::mem::replace(&mut self.was_deaf, true) {
            eprintln!(
                "tercio: a rank that calls this one cannot be accepted ({error}); it is tried again until it can; close files, or raise `ulimit -n`"
            );
        }
        for (listener, _) in &self.listeners {
            // What is not in the set need not leave it.
            let _ = self.epoll.remove(listener.as_fd());
        }
        self.deaf_until = Some(self.now() + DEAF);
    }

    fn listen_again(&mut self) {
        self.deaf_until = None;
        for (number, (listener, _)) in self.listeners.iter().enumerate() {
            let number = LISTENERS + number as u64;
            let added = self.epoll.add(listener.as_fd(), number, false);
            if added.is_err_and(|e| e.kind() != io::ErrorKind::AlreadyExists) {
                self.deaf_until = Some(self.now() + DEAF);
            }
        }
    }

    /// A connection without a line is ready.
    fn serve(&mut self, id: Id, writable: bool, events: &mut Vec<Event>) {
        let Some(greeter) = self.greeters.get_mut(&id) else {
            return;
        };
        if let Some((peer, to)) = greeter.connecting {
            if !writable {
                return;
            }
            match Self::stands(&greeter.socket) {
                Ok((here, there)) => {
                    greeter.connecting = None;
                    let watched = self
                        .epoll
                        .change(greeter.socket.as_fd(), GREETING + id, false);
                    let (Ok(()), Ok(nonce)) = (watched, random::bytes()) else {
                        return self.end(id, "the system refused");
                    };
                    let hello = self.door.dialed(id, peer, here, there, nonce);
                    let now = self.now();
                    if let Some(calling) = self.callings.get_mut(&peer) {
                        calling.connected(to, now);
                    }
                    self.act(vec![Do::Send(id, hello)], events);
                }
                Err(error) => {
                    self.greeters.remove(&id);
                    self.dial_failed(peer, to, &error.to_string());
                }
            }
            return;
        }
        let Some(most) = self.door.listens_to(id) else {
            return self.end(id, "closed");
        };
        let mut bytes = vec![0; most];
        // SAFETY: no memory of others is given.
        match unsafe {
            net::receive(
                greeter.socket.as_fd(),
                (core::ptr::null_mut(), 0),
                &mut bytes,
            )
        } {
            Ok(None) => {}
            Ok(Some(0)) => self.end(id, "it closed the connection before it had answered"),
            Ok(Some(n)) => {
                let mut todo = Vec::new();
                self.door.received(id, &bytes[..n], &mut todo);
                self.act(todo, events);
            }
            Err(error) => self.end(id, &error.to_string()),
        }
    }

    /// Whether a dialed connection stands: both its ends, or why not.
    fn stands(socket: &TcpStream) -> io::Result<(SocketAddr, SocketAddr)> {
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        Ok((socket.local_addr()?, socket.peer_addr()?))
    }

    /// A connection has ended before it had a line.
    fn end(&mut self, id: Id, why: &str) {
        self.door.ended(id);
        if let Some(Greeter {
            dialed: Some((peer, to)),
            ..
        }) = self.greeters.remove(&id)
        {
            self.dial_failed(peer, to, why);
        }
    }

    fn act(&mut self, todo: Vec<Do>, events: &mut Vec<Event>) {
        for what in todo {
            match what {
                Do::Send(id, bytes) => {
                    // The socket is empty: a handshake's message fits, or the connection is broken.
                    let sent = self
                        .greeters
                        .get(&id)
                        .map(|greeter| net::send(greeter.socket.as_fd(), &[IoSlice::new(&bytes)]));
                    if !matches!(sent, Some(Ok(Some(n))) if n == bytes.len()) {
                        self.end(id, "the connection broke");
                    }
                }
                Do::Close(id) => self.end(id, "it is no rank of this job, or of another version"),
                Do::Wait { peer } => {
                    if let Some(calling) = self.callings.get_mut(&peer) {
                        calling.asked(self.started.elapsed());
                    }
                }
                Do::Join {
                    id,
                    peer,
                    cipher,
                    rest,
                } => {
                    self.callings.remove(&peer);
                    let Some(greeter) = self.greeters.remove(&id) else {
                        continue;
                    };
                    let socket = OwnedFd::from(greeter.socket);
                    // From now on the set tells of it by its peer's rank.
                    let _ = self.epoll.change(socket.as_fd(), u64::from(peer), false);
                    events.push(Event::Joined(
                        peer,
                        Line::new(socket, u64::from(peer), cipher, self.pacing),
                        rest,
                    ));
                }
            }
        }
        // Dials to a peer that is joined, and still do not stand.
        let callings = &self.callings;
        self.greeters.retain(|_, g| {
            g.connecting
                .is_none_or(|(peer, _)| callings.contains_key(&peer))
        });
    }

    /// Whether the set is to tell of room to write on `line`.
    pub(crate) fn watch_room(&self, line: &mut Line, watch: bool) -> core::result::Result<(), End> {
        if line.watches_room == watch {
            return Ok(());
        }
        line.watches_room = watch;
        self.epoll
            .change(line.socket().as_fd(), line.number(), watch)
            .map_err(|error| End::Failed(error.to_string()))
    }
}
