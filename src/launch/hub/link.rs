//! A host as the hub sees it: the command that leads there, the channel to its agent, and how far that has come.
use super::why::{self, Failed};
use crate::launch::channel::{Channel, MAGIC};
use crate::launch::job::{Host, Job, Reach};
use crate::launch::pulse::Pulse;
use crate::launch::running::spawn_guard;
use crate::launch::wire::{Account, Hello, Order, Report};
use crate::sys::fd::{self, Interest, Watch};
use crate::sys::process::{self, Exit};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a command may say to its standard error before only the end of it is kept, and what may come before an agent.
const SAID: usize = 16 << 10;
/// A line by which a host's shell asks for our executable.
const WANTS: &[u8] = b"TERCIO-WANTS\n";
/// A command whose stream has ended has so long to end itself before we go by what we know.
const LINGER: Duration = Duration::from_secs(1);

/// How far a host has come. Each leads to a later one.
#[derive(Debug)]
pub(super) enum State {
    /// Its turn has not come.
    Waiting,
    /// Its command runs.
    Connecting,
    /// Its agent is there.
    Up,
    /// All its ranks run.
    Running,
    /// Its stream has ended without an account; its command may yet say why.
    Ending(Instant),
    /// It has given its account, or never will.
    Over(Option<Box<Account>>),
}

/// One host of the job.
pub(super) struct Link {
    pub(super) name: String,
    pub(super) ranks: Vec<usize>,
    reach: Reach,
    pub(super) state: State,
    /// When its command was started.
    pub(super) since: Instant,
    channel: Option<Channel>,
    /// Whether frames come by now; before that it is whatever the remote shell prints.
    framed: bool,
    noise: Vec<u8>,
    stderr: Option<OwnedFd>,
    said: Vec<u8>,
    orders: VecDeque<Vec<u8>>,
    child: Option<u32>,
    exit: Option<Exit>,
    pub(super) pulse: Option<Pulse>,
    pub(super) agent: Option<u32>,
    pub(super) pids: Vec<u32>,
    /// Output of which more was announced.
    pub(super) held: Vec<u8>,
    pub(super) paused: bool,
}

/// Something that a link has to tell.
pub(super) enum Event {
    Report(Report),
    /// Its agent says who it is.
    Hello(Hello),
    /// The stream has ended, or is no stream of ours.
    Lost,
}

impl Link {
    pub(super) fn new(host: &Host) -> Link {
        Link {
            name: host.name.clone(),
            ranks: host.ranks.clone(),
            reach: host.reach.clone(),
            state: State::Waiting,
            since: Instant::now(),
            channel: None,
            framed: false,
            noise: Vec::new(),
            stderr: None,
            said: Vec::new(),
            orders: VecDeque::new(),
            child: None,
            exit: None,
            pulse: None,
            agent: None,
            pids: Vec::new(),
            held: Vec::new(),
            paused: false,
        }
    }

    /// The name of the command that leads there.
    pub(super) fn program(&self) -> String {
        match &self.reach {
            Reach::Command { words, .. } => words.first().map_or_else(String::new, |word| {
                let word = word.to_string_lossy();
                word.rsplit('/').next().unwrap_or_default().to_owned()
            }),
            Reach::Here => "this host".into(),
        }
    }

    pub(super) fn is_remote(&self) -> bool {
        self.reach != Reach::Here
    }

    /// Starts what leads to the host's agent. `Err` is why that cannot be.
    pub(super) fn connect(&mut self, job: &Job) -> Result<(), String> {
        self.since = Instant::now();
        let Reach::Command { words, .. } = &self.reach else {
            let (guard, control) = spawn_guard(job).map_err(|error| error.to_string())?;
            self.child = Some(guard.id());
            self.channel = Some(Channel::Packets(control));
            self.framed = true;
            // It is this very program.
            self.state = State::Up;
            return Ok(());
        };
        let Some((program, arguments)) = words.split_first() else {
            return Err(format!(
                "host \"{}\": there is no command to reach it",
                self.name
            ));
        };
        let started = || -> io::Result<(u32, OwnedFd, OwnedFd)> {
            let (ours, theirs) = fd::stream_pair()?;
            let (said, says) = fd::pipe()?;
            let mut command = Command::new(program);
            command
                .args(arguments)
                .env_remove(crate::launch::ROLE)
                .env_remove(crate::launch::CONTROL)
                .stdin(theirs.try_clone()?)
                .stdout(theirs)
                .stderr(Stdio::from(says));
            let child = process::spawn_in_session(&mut command, None)?;
            Ok((child.id(), ours, said))
        };
        let (child, ours, said) = started().map_err(|error| self.why(&Failed::Command(&error)))?;
        let input = ours
            .try_clone()
            .map_err(|error| self.why(&Failed::Command(&error)))?;
        self.child = Some(child);
        self.channel = Some(Channel::stream(input, ours));
        self.stderr = Some(said);
        self.state = State::Connecting;
        Ok(())
    }

    /// The sentence about why the host cannot be used.
    pub(super) fn why(&self, failed: &Failed<'_>) -> String {
        let words: Vec<String> = match &self.reach {
            Reach::Here => Vec::new(),
            Reach::Command { words, .. } => words
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        why::sentence(
            &self.name,
            &words,
            failed,
            &text(&self.said),
            &text(&self.noise),
        )
    }

    /// Why it ended before there was an agent.
    pub(super) fn why_ended(&self) -> String {
        match self.exit {
            Some(Exit::Code(0)) if !self.noise.is_empty() => self.why(&Failed::Noise),
            None if self.noise.len() > SAID => self.why(&Failed::Noise),
            exit => self.why(&Failed::Ended(exit)),
        }
    }

    /// How the connection ended, for the account of a lost host.
    pub(super) fn how_ended(&self) -> String {
        let last = why::last_words(&String::from_utf8_lossy(&self.said));
        let how = match self.exit {
            Some(Exit::Code(code)) => format!("exit {code}"),
            Some(Exit::Signal(signal)) => format!("signal {signal}"),
            None => "end of stream".into(),
        };
        match last.is_empty() {
            true => how,
            false => format!("{how}: {last}"),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    /// Whether its agent is there and is owed orders.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up | State::Running)
    }

    /// Lets go of the host: its agent sees the channel's end and ends everything there.
    pub(super) fn drop_it(&mut self, account: Option<Box<Account>>) {
        self.channel = None;
        self.orders.clear();
        self.pulse = None;
        self.state = State::Over(account);
    }

    /// Ends the command that leads there.
    pub(super) fn kill(&mut self) {
        // It was not waited for, so the number is its own.
        if let Some(child) = self.child {
            let _ = process::signal_number(child, libc::SIGKILL);
        }
    }

    pub(super) fn order(&mut self, order: &Order) {
        if self.channel.is_some() {
            self.orders.push_back(order.encode());
        }
    }

    /// Sends what can be sent.
    pub(super) fn send(&mut self) {
        let Some(channel) = &mut self.channel else {
            return;
        };
        // An error shows when the stream is read.
        let _ = channel.flush();
        while let Some(order) = self.orders.front() {
            if channel.send(order).is_err() {
                return;
            }
            self.orders.pop_front();
        }
    }

    pub(super) fn watch(&self, watch: &mut Watch) -> [Option<usize>; 2] {
        let said = self
            .stderr
            .as_ref()
            .map(|stderr| watch.add(stderr.as_fd(), Interest::Read));
        let channel = self
            .channel
            .as_ref()
            .filter(|_| !matches!(self.state, State::Ending(_)));
        [
            said,
            channel.map(|channel| channel.watch(watch, !self.orders.is_empty())),
        ]
    }

    /// Reads what the command says of itself.
    pub(super) fn listen(&mut self) {
        let Some(stderr) = &self.stderr else { return };
        let mut buffer = [0_u8; 4096];
        match fd::read_now(stderr.as_fd(), &mut buffer) {
            Ok(len) if len > 0 => {
                self.said.extend(&buffer[..len]);
                let surplus = self.said.len().saturating_sub(SAID);
                self.said.drain(..surplus);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => self.stderr = None,
        }
    }

    /// The next thing that its agent says; `None` if there is nothing now.
    pub(super) fn hear(&mut self) -> Option<Event> {
        if !self.framed {
            match self.find_agent() {
                Ok(true) => self.framed = true,
                Ok(false) => return None,
                Err(_) => return Some(Event::Lost),
            }
        }
        let frame = match self.channel.as_mut()?.receive() {
            Ok(frame) => frame,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(Event::Lost),
        };
        if let Some(pulse) = &mut self.pulse {
            pulse.hear(Instant::now());
        }
        match Report::decode(&frame) {
            Some(Report::Hello(hello)) => Some(Event::Hello(hello)),
            Some(report) => Some(Event::Report(report)),
            // A frame that is none of ours: nothing behind it can be relied on.
            None => Some(Event::Lost),
        }
    }

    /// Looks for the agent's first bytes in what the remote shell prints. An error is the stream's end.
    fn find_agent(&mut self) -> io::Result<bool> {
        let Some(Channel::Stream(stream)) = &mut self.channel else {
            return Ok(false);
        };
        loop {
            if let Some(at) = find(&self.noise, MAGIC) {
                let rest = self.noise.split_off(at + MAGIC.len());
                self.noise.truncate(at);
                stream.put_back(&rest);
                return Ok(true);
            }
            if let Some(at) = find(&self.noise, WANTS) {
                self.noise.drain(at..at + WANTS.len());
                if matches!(self.reach, Reach::Command { push: true, .. }) {
                    let mut program = Vec::new();
                    std::fs::File::open("/proc/self/exe")?.read_to_end(&mut program)?;
                    stream.send_raw(format!("{}\n", program.len()).as_bytes())?;
                    stream.send_raw(&program)?;
                }
                continue;
            }
            if self.noise.len() > SAID {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match stream.take_raw() {
                Ok(bytes) => self.noise.extend(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// The stream has ended: the command may still say why.
    pub(super) fn lose(&mut self) {
        if !self.is_over() && !matches!(self.state, State::Ending(_)) {
            self.state = State::Ending(Instant::now() + LINGER);
        }
    }

    /// Whether all is known of how it ended that will be.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        match self.state {
            State::Ending(until) => now >= until || (self.child.is_none() && self.stderr.is_none()),
            _ => false,
        }
    }

    /// When [`Link::has_ended`] changes by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Ending(until) => Some(until),
            _ => None,
        }
    }

    /// Waits for the command if it has ended; whether it is gone.
    pub(super) fn reap(&mut self) -> bool {
        if let Some(exit) = self.child.and_then(process::reap) {
            (self.exit, self.child) = (Some(exit), None);
        }
        self.child.is_none()
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
