//! The agent of ranks that another launcher started: srun, or an mpiexec of the MPICH family.
//!
//! Such ranks are nobody's children here, and the launcher owns their output and their exit codes. So this agent does less than the one of a
//! job of our own: it makes the segment and hands it to the ranks of its host, watches each by a pidfd, and when one fails it says which and why,
//! sets the abort word, and ends the others. Should it end itself, the ranks' lifelines end them. It leaves when the last of its ranks has.
//!
//! With ranks on several hosts there is such an agent on each, and they know each other (`company.rs`): the first host's alone says what failed.
mod blame;
mod candidate;
mod company;

pub(crate) use self::candidate::{Candidate, start};
use self::company::{Company, First, Heard, Member};
use super::judge::{self, Told};
use super::verdict::{Cause, Findings};
use super::wire::{Order, Report};
use crate::job::claim::CLAIM;
use crate::job::directory::{Record, places};
use crate::job::exchange::{self, Request};
use crate::job::spawn::{Answer, SPAWN};
use crate::job::tasks::{Between, HELLO_BYTES, Hello, Service};
use crate::job::{RankState, Segment};
use crate::sys::fd::{self, Interest, Watch};
use crate::sys::net;
use crate::sys::process::{self, Exit};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a rank that catches TERM may go on when the job ends, before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// A launcher that sees a rank's connection close kills the others before that rank itself is quite dead: so long its end is waited for.
const DYING: Duration = Duration::from_millis(300);
/// So long after the verdict ranks are ended: srun does not pass on what came just before its tasks' ends.
const PASSED_ON: Duration = Duration::from_millis(20);
/// How long somebody who connected may take to say who it is.
const SILENT: Duration = Duration::from_secs(5);
/// How long the first host's agent may take to answer that a rank failed here, before this one says so itself.
const ANSWER: Duration = Duration::from_secs(2);
/// The most connections that have not said who they are.
const STRANGERS: usize = 64;

/// A rank of this host; its index in the list is the one in the segment.
struct Rank {
    number: usize,
    pid: u32,
    process: OwnedFd,
    program: String,
    /// Once it has come.
    connection: Option<OwnedFd>,
    _lifeline: Option<OwnedFd>,
    over: bool,
}

struct Attendant {
    service: Service,
    listener: OwnedFd,
    segment: Segment,
    name: String,
    strangers: Vec<(OwnedFd, Instant)>,
    ranks: Vec<Rank>,
    processors: BTreeSet<usize>,
    begun: Instant,
    /// When ranks that are left are killed, once the job ends.
    ending: Option<Instant>,
    /// Ranks here that failed.
    failed: Vec<(usize, Told)>,
    /// What failed on other hosts, in the order in which it was heard.
    elsewhere: Vec<Findings>,
    /// When it is judged which failure was the cause of the others.
    judged: Option<Instant>,
    /// What the first host's agent was told of failures here, and when.
    told: Option<(Instant, Findings)>,
    /// A rank that left without goodbye, here or on another host.
    no_goodbye: Option<Findings>,
    company: Company,
}

impl Attendant {
    /// The agent, and where it listens for those of other hosts.
    fn new(service: Service) -> Result<(Attendant, String), String> {
        process::raise_descriptor_limit();
        let listener = fd::listen(&service.name)
            .map_err(|error| format!("it cannot listen for the ranks: {error}"))?;
        let here: Vec<usize> = (0..service.hosts.len())
            .filter(|&rank| service.hosts[rank] == service.here)
            .collect();
        let segment = Segment::create(here.len(), here.len()).map_err(|error| error.to_string())?;
        let places = places(service.hosts.iter().map(|&host| host as u32));
        segment
            .directory()
            .settle(&places, service.here as u32)
            .map_err(|error| error.to_string())?;
        if service.between.secret().is_some() {
            let bells = here.iter().map(|_| net::event()).collect::<io::Result<_>>();
            segment.set_bells(bells.map_err(|error| {
                format!("it cannot make an event descriptor for each rank: {error}")
            })?);
        }
        let (hosts, mut listens) = (service.host_count(), String::new());
        let company = match &service.between {
            Between::First { secret, listen } if hosts > 1 => {
                let first = First::open(*secret, listen, hosts).map_err(|error| {
                    format!("it cannot listen for the agents of other hosts: {error}")
                })?;
                listens = first.1;
                Company::First(first.0)
            }
            Between::Member { secret, at } => {
                let member = Member::connect(secret, at, service.here);
                Company::Member(member.map_err(|error| error.to_string())?)
            }
            Between::First { .. } | Between::Nothing => Company::Alone,
        };
        let mut ranks = Vec::with_capacity(here.len());
        for number in here {
            let pid = service.pids[number];
            let process = process::open(pid)
                .map_err(|error| format!("rank {number}, process {pid}, has ended ({error})"))?;
            ranks.push(Rank {
                number,
                pid,
                process,
                program: program(pid),
                connection: None,
                _lifeline: None,
                over: false,
            });
        }
        let attendant = Attendant {
            name: super::job_name(process::id()),
            service,
            listener,
            segment,
            strangers: Vec::new(),
            ranks,
            processors: BTreeSet::new(),
            begun: Instant::now(),
            ending: None,
            failed: Vec::new(),
            elsewhere: Vec::new(),
            judged: None,
            told: None,
            no_goodbye: None,
            company,
        };
        Ok((attendant, listens))
    }

    fn run(mut self) {
        while !self.is_over() {
            let mut watch = Watch::default();
            let listener = watch.add(self.listener.as_fd(), Interest::Read);
            let mut add = |fd: &OwnedFd| watch.add(fd.as_fd(), Interest::Read);
            let strangers: Vec<_> = self.strangers.iter().map(|(fd, _)| add(fd)).collect();
            let ranks: Vec<_> = self
                .ranks
                .iter()
                .map(|rank| {
                    let process = (!rank.over).then(|| add(&rank.process));
                    (rank.connection.as_ref().map(&mut add), process)
                })
                .collect();
            self.company.watch(&mut watch);
            watch.wait(
                self.deadline()
                    .map(|at| at.saturating_duration_since(Instant::now())),
            );
            // Who came says who it is before anybody's end is judged.
            for at in (0..strangers.len()).rev() {
                if watch.ready(strangers[at]) {
                    self.meet(at);
                }
            }
            if watch.ready(listener) {
                self.admit();
            }
            let mut ended = Vec::new();
            for (at, (connection, process)) in ranks.into_iter().enumerate() {
                if connection.is_some_and(|index| watch.ready(index)) {
                    self.serve(at);
                }
                if process.is_some_and(|index| watch.ready(index)) {
                    ended.push(at);
                }
            }
            self.take_ends(&ended);
            self.hear();
            self.advance();
        }
        let done = Report::Done(Box::default());
        self.company.report(&done);
        self.company.drain(GRACE);
        if let (None, Some(findings), false) =
            (self.ending, &self.no_goodbye, self.company.is_member())
        {
            eprint!("{}", findings.verdict().text());
        }
    }

    /// Takes what agents of other hosts say.
    fn hear(&mut self) {
        for (host, heard) in self.company.reports() {
            match heard {
                Heard::Report(Report::Published(record)) => {
                    self.append(&record);
                    self.company.order(&Order::Publish(record), Some(host));
                }
                Heard::Report(Report::Gone(rank, state)) => {
                    self.note_gone(rank, state);
                    self.company.order(&Order::Gone(rank, state), Some(host));
                }
                Heard::Report(Report::Failed(findings)) => match findings.cause {
                    Cause::NoGoodbye(_) => {
                        self.no_goodbye.get_or_insert(*findings);
                    }
                    _ => self.elsewhere.push(*findings),
                },
                Heard::Report(_) => {}
                Heard::Lost(name, why) => {
                    let how = format!(
                        "host \"{name}\" was lost: {why}; it is down, cut off, or its agent was killed"
                    );
                    self.elsewhere.push(Findings {
                        cause: Cause::LostHost(how),
                        rank: None,
                        size: self.service.hosts.len(),
                        host: name,
                        job: self.name.clone(),
                        after: self.begun.elapsed(),
                        ended: Vec::new(),
                        doing: Vec::new(),
                    });
                }
            }
        }
        for order in self.company.orders() {
            match order {
                Order::Publish(record) => self.append(&record),
                Order::Gone(rank, state) => self.note_gone(rank, state),
                Order::Fail => self.end(),
                Order::Go => self.company.let_go(),
                _ => {}
            }
        }
        if self.company.is_lost() && self.ending.is_none() {
            eprintln!(
                "tercio: the agent of the first host cannot be heard any more: it was killed, or that host is down or cut off; the ranks of host {} end",
                super::host()
            );
            self.end();
        }
    }

    /// A rank of another host is gone.
    fn note_gone(&self, rank: u32, state: u32) {
        let directory = self.segment.directory();
        if (rank as usize) < directory.world() {
            directory.set_state(rank as usize, RankState::from_word(state));
        }
    }

    fn append(&self, record: &Record) {
        if let Err(error) = self.segment.directory().append(record) {
            eprintln!("tercio: {error}");
        }
    }

    /// Ends the ranks of this host.
    fn end(&mut self) {
        if self.ending.is_none() {
            self.segment.control().raise_abort();
            self.signal(libc::SIGTERM);
            self.signal(libc::SIGCONT);
            self.ending = Some(Instant::now() + GRACE);
        }
    }

    /// Whether nothing is left to do.
    fn is_over(&self) -> bool {
        let now = Instant::now();
        let over = self.ranks.iter().all(|rank| rank.over);
        // An agent that has told of a failure waits for what the first says to it.
        let waits = self.company.expects_more() || (self.told.is_some() && self.ending.is_none());
        (over && !waits)
            || self
                .ending
                .as_ref()
                .is_some_and(|kill| now > *kill + SILENT)
    }

    fn deadline(&self) -> Option<Instant> {
        let strangers = self.strangers.iter().map(|(_, since)| *since + SILENT);
        let kill = self.ending.as_ref().map(|kill| {
            if Instant::now() < *kill {
                *kill
            } else {
                *kill + SILENT
            }
        });
        // A little later, so that what is looked for then has passed.
        let judged = self.judged.filter(|_| self.ending.is_none());
        let told = self.told.as_ref().filter(|_| self.ending.is_none());
        strangers
            .chain(kill)
            .chain(judged)
            .chain(told.map(|(since, _)| *since + ANSWER))
            .chain(self.company.deadline())
            .min()
            .map(|at| at + Duration::from_millis(1))
    }

    fn advance(&mut self) {
        let now = Instant::now();
        self.strangers.retain(|(_, since)| now <= *since + SILENT);
        if self.ending.as_ref().is_some_and(|kill| now >= *kill) {
            self.signal(libc::SIGKILL);
        }
        self.judge();
    }

    fn signal(&self, signal: i32) {
        for rank in self.ranks.iter().filter(|rank| !rank.over) {
            let _ = process::signal(rank.process.as_fd(), signal);
        }
    }

    /// Takes in who connects.
    fn admit(&mut self) {
        while let Ok(connection) = fd::accept(&self.listener) {
            let ours = fd::peer_and_user(connection.as_fd())
                .is_ok_and(|(_, user)| user == process::user());
            if ours && self.strangers.len() < STRANGERS {
                let _ = fd::ask_credentials(connection.as_fd());
                self.strangers.push((connection, Instant::now()));
            }
        }
    }

    /// A stranger has said something: its hello, or it goes.
    fn meet(&mut self, at: usize) {
        let (connection, _) = self.strangers.swap_remove(at);
        let Some(at) = self.recognize(&connection) else {
            return;
        };
        let answer = self
            .segment
            .fd()
            .map(|fd| fd::send_descriptors(connection.as_fd(), self.name.as_bytes(), &[fd]));
        let bells: Vec<_> = self.segment.bells().iter().map(AsFd::as_fd).collect();
        let rung = bells
            .chunks(fd::MOST_DESCRIPTORS)
            .try_for_each(|some| fd::send_descriptors(connection.as_fd(), b"bells", some));
        if matches!((answer, rung), (Some(Ok(())), Ok(()))) {
            self.ranks[at].connection = Some(connection);
        }
    }

    /// Which rank has said hello.
    fn recognize(&mut self, connection: &OwnedFd) -> Option<usize> {
        let packet = fd::receive_descriptors(connection.as_fd(), HELLO_BYTES).ok()??;
        let hello = Hello::decode(&packet.bytes)?;
        // Every byte is looked at, whatever the first ones say.
        let differ = hello.key.iter().zip(&self.service.key);
        if differ.fold(0, |all, (a, b)| all | (a ^ b)) != 0 {
            return None;
        }
        // Who connected: packets from before the connection was taken in need not tell.
        let (pid, _) = fd::peer_and_user(connection.as_fd()).ok()?;
        let is_it = |rank: &Rank| rank.number == hello.rank && rank.pid == pid;
        let at = self.ranks.iter().position(is_it)?;
        self.processors.extend(hello.processors);
        let cores = self.processors.len().min(self.ranks.len()).max(1);
        self.segment
            .control()
            .claimed_cores()
            .store(cores as u32, Ordering::Relaxed);
        Some(at)
    }

    /// A rank says something: that it claims its place, or what an agent is asked for.
    fn serve(&mut self, at: usize) {
        let rank = &mut self.ranks[at];
        let Some(connection) = &rank.connection else {
            return;
        };
        let packet = match fd::receive_descriptors(connection.as_fd(), exchange::PACKET) {
            Ok(Some(packet)) => packet,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(None) | Err(_) => {
                rank.connection = None;
                return;
            }
        };
        if packet.sender.is_none_or(|(pid, _)| pid != rank.pid) {
            return;
        }
        if packet.bytes == CLAIM {
            rank._lifeline = packet.descriptors.into_iter().next();
        } else if packet.bytes == SPAWN {
            if let Some(answer) = packet.descriptors.get(1) {
                let text =
                    "only jobs that `tercio run` started can spawn ranks; start the program by it"
                        .into();
                let refused = Answer::Refused { failed: 1, text };
                let _ = fd::send(answer.as_fd(), &refused.encode(), false);
            }
        } else {
            match Request::decode(&packet.bytes) {
                Some(Request::Put { key, value }) => {
                    let record = Record {
                        rank: rank.number as u32,
                        key,
                        value,
                    };
                    self.append(&record);
                    self.company.order(&Order::Publish(record.clone()), None);
                    self.company.report(&Report::Published(record));
                }
                Some(Request::Secret) => {
                    let secret = self.service.between.secret();
                    let _ = fd::send(connection.as_fd(), Request::answer(secret), false);
                }
                None => {}
            }
        }
    }

    fn take_ends(&mut self, ended: &[usize]) {
        for &at in ended {
            let rank = &mut self.ranks[at];
            rank.over = true;
            let told = process::exit_of_stranger(rank.process.as_fd(), rank.pid);
            let control = self.segment.control();
            match (control.state(at), told) {
                // What it exits with after its goodbye is the launcher's to judge.
                (RankState::Finalized, _) => {}
                (RankState::Empty, Some(Exit::Code(0))) => {
                    control.set_state(at, RankState::EndedWithoutInit);
                }
                (_, Some(Exit::Code(0))) if control.failure(at).is_none() => {
                    control.set_state(at, RankState::Exited);
                    if self.no_goodbye.is_none() {
                        let findings = self.findings(at, Cause::NoGoodbye(None));
                        let report = Report::Failed(Box::new(findings.clone()));
                        self.company.report(&report);
                        self.no_goodbye = Some(findings);
                    }
                }
                (_, told) => self.failed.push((at, told)),
            }
            let (number, state) = (
                self.ranks[at].number as u32,
                self.segment.control().state(at),
            );
            if state.is_gone() {
                self.company.order(&Order::Gone(number, state as u32), None);
                self.company.report(&Report::Gone(number, state as u32));
            }
        }
        if !ended.is_empty() && self.failed.is_empty() && self.ranks.iter().all(|rank| rank.over) {
            // The launcher may take this agent along once its host's tasks are over: the others need it no more.
            self.company.order(&Order::Go, None);
        }
    }
}

/// What a process runs, in words.
fn program(pid: u32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&words)
        .trim_end_matches('\0')
        .replace('\0', " ");
    judge::shortened(&text)
}
