//! The agent of ranks that another launcher started: srun, or an mpiexec of the MPICH family.
//!
//! Such ranks are nobody's children here, and the launcher owns their output and their exit codes. So this agent does less than the one of a
//! job of our own: it makes the segment and hands it to the ranks of its host, watches each by a pidfd, and when one fails it says which and why,
//! sets the abort word, and ends the others. Should it end itself, the ranks' lifelines end them. It leaves when the last of its ranks has.
//!
//! With ranks on several hosts there is such an agent on each, and they know each other (`company.rs`): the first host's alone says what failed.
mod company;

use self::company::{Company, First, Heard, Member};
use super::judge::{self, Told};
use super::verdict::{Cause, Findings, Subject};
use super::wire::{Order, Report};
use crate::job::claim::CLAIM;
use crate::job::directory::{Record, places};
use crate::job::exchange::{self, Request};
use crate::job::spawn::{Answer, SPAWN};
use crate::job::tasks::{Between, HELLO_BYTES, Hello, Service};
use crate::job::{RankState, Segment};
use crate::sys::fd::{self, Interest, Watch};
use crate::sys::net;
use crate::sys::process::{self, Exit, Fork};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
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
/// What an agent says when ranks can connect, before where it listens for other agents.
const READY: &str = "ready ";
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

/// A process that may become this host's agent, made while the program has one thread; it ends if nobody asks it to.
pub(crate) struct Candidate {
    service: OwnedFd,
    told: OwnedFd,
}

/// Starts the agent of this host as a process of its own; returns, when ranks can connect, where it listens for agents of other hosts.
pub(crate) fn start(service: Service) -> io::Result<String> {
    Candidate::new()?.serve(service)
}

impl Candidate {
    /// Makes the process.
    pub(crate) fn new() -> io::Result<Candidate> {
        if process::threads() != 1 {
            return Err(io::Error::other(
                "the program has started threads already; initialize the library before that, or start the program by `tercio run`",
            ));
        }
        let (hear, service) = fd::pipe()?;
        let (told, tell) = fd::pipe()?;
        match process::fork()? {
            Fork::Child => {
                // The agent is a grandchild, so that it is not among the children that the program may wait for.
                if let Ok(Fork::Child) = process::fork() {
                    become_candidate(hear, tell);
                }
                process::exit_now(0)
            }
            Fork::Parent(child) => {
                let process = process::open(child)?;
                let mut watch = Watch::default();
                watch.add(process.as_fd(), Interest::Read);
                watch.wait(None);
                process::reap(child);
                Ok(Candidate { service, told })
            }
        }
    }

    /// Has it become the agent; returns, when ranks can connect, where it listens for agents of other hosts.
    pub(crate) fn serve(self, service: Service) -> io::Result<String> {
        let Candidate {
            service: pipe,
            told,
        } = self;
        File::from(pipe).write_all(service.encode().as_bytes())?;
        let mut text = String::new();
        File::from(told).read_to_string(&mut text)?;
        match (text.strip_prefix(READY), text.as_str()) {
            (Some(listens), _) => Ok(listens.to_owned()),
            (None, "") => Err(io::Error::other("it ended at once")),
            (None, why) => Err(io::Error::other(why.to_owned())),
        }
    }
}

/// In the new process. Nothing of the program runs here any more, and nothing of it is dropped.
fn become_candidate(hear: OwnedFd, tell: OwnedFd) -> ! {
    process::new_session();
    process::set_name(c"tercio-agent");
    process::reset_signals();
    process::ignore_signals(&[libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE]);
    // The launcher waits for the ends of the pipes that the program has; of those only standard error is ours too.
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = fd::duplicate_onto(null.as_raw_fd(), 0);
        let _ = fd::duplicate_onto(null.as_raw_fd(), 1);
    }
    // SAFETY: this process was forked from one thread and runs nothing but this function, which never returns: what owns the closed descriptors
    // is not used again.
    unsafe { fd::close_all(3, &[hear.as_raw_fd(), tell.as_raw_fd()]) };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut text = String::new();
        let heard = File::from(hear).read_to_string(&mut text);
        // Another rank of this host was chosen, or the program has ended.
        let Some(service) = heard.ok().and_then(|_| Service::decode(&text)) else {
            return;
        };
        match Attendant::new(service) {
            Ok((attendant, listens)) => {
                let _ = fd::write(tell.as_raw_fd(), format!("{READY}{listens}").as_bytes());
                drop(tell);
                attendant.run()
            }
            Err(why) => {
                let _ = fd::write(tell.as_raw_fd(), why.as_bytes());
            }
        }
    }));
    process::exit_now(if ran.is_ok() { 0 } else { 125 })
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

    /// Who of this host's ranks failed first, and why, as far as is known by now.
    fn accused(&mut self) -> Option<Findings> {
        let control = self.segment.control();
        self.failed.sort_by_key(|(_, told)| is_by_launcher(*told));
        let (at, told) = match (control.first_failed(), self.failed.first()) {
            (Some(at), _) => (at, None),
            (None, Some(&(at, told))) => (at, Some(told)),
            (None, None) => return None,
        };
        Some(self.findings(at, judge::cause(control, at, told)))
    }

    /// Ends the job if a rank failed and it is known which did so first.
    fn judge(&mut self) {
        let failed = !self.failed.is_empty() || self.segment.control().is_aborted();
        if self.ending.is_some() || (!failed && self.elsewhere.is_empty()) {
            return;
        }
        let (now, own) = (Instant::now(), self.accused());
        if self.company.is_member() {
            let Some(own) = own else { return };
            let again = |told: &Findings| is_doubtful(&told.cause) && !is_doubtful(&own.cause);
            let (since, told) = match self.told.take() {
                Some((since, told)) if !again(&told) => (since, told),
                _ => {
                    self.company.report(&Report::Failed(Box::new(own.clone())));
                    (now, own)
                }
            };
            if now >= since + ANSWER {
                eprint!("{}", told.verdict().text());
                self.end();
            }
            self.told = Some((since, told));
            return;
        }
        let mut all: Vec<&Findings> = self.elsewhere.iter().collect();
        all.extend(&own);
        // What others may have caused comes behind what nobody can have caused.
        all.sort_by_key(|findings| is_doubtful(&findings.cause));
        let Some(&cause) = all.first() else { return };
        let alive = self.ranks.iter().any(|rank| !rank.over) || self.company.expects_more();
        let doubtful = match cause.cause {
            Cause::Gone(_) => self.company.is_several(),
            _ => is_doubtful(&cause.cause),
        };
        if doubtful && self.no_goodbye.is_none() && alive {
            let until = *self.judged.get_or_insert(now + DYING);
            if now < until {
                return;
            }
        }
        let findings = match (self.no_goodbye.take(), &cause.cause) {
            (Some(left), Cause::Signal(libc::SIGTERM | libc::SIGKILL)) => left,
            (Some(left), Cause::Gone(waiter)) => Findings {
                cause: Cause::NoGoodbye(Some(waiter.clone())),
                ..left
            },
            _ => cause.clone(),
        };
        let findings = self.with_all_that_ended(findings);
        // First of all, and not when all have ended: some launchers stop listening soon.
        eprint!("{}", findings.verdict().text());
        std::thread::sleep(PASSED_ON);
        self.company.order(&Order::Fail, None);
        self.end();
    }

    /// The same, with the ranks of all hosts that end with the accused.
    fn with_all_that_ended(&self, mut findings: Findings) -> Findings {
        if self.company.is_several() {
            let accused = findings.rank.as_ref().map(|subject| subject.rank);
            let here = |rank| self.ranks.iter().find(|other| other.number == rank);
            let runs = |rank: &usize| {
                let is_over = here(*rank).is_some_and(|other| other.over);
                let is_gone = self.segment.directory().state(*rank).is_gone();
                Some(*rank) != accused && !is_over && !is_gone
            };
            findings.ended = (0..self.service.hosts.len()).filter(runs).collect();
        }
        findings
    }

    fn findings(&self, at: usize, cause: Cause) -> Findings {
        let rank = &self.ranks[at];
        let others = self.ranks.iter().filter(|other| !other.over);
        let mut ended: Vec<usize> = others.map(|other| other.number).collect();
        ended.retain(|number| *number != rank.number);
        ended.sort_unstable();
        Findings {
            cause,
            rank: Some(Subject {
                rank: rank.number,
                pid: rank.pid,
                program: rank.program.clone(),
                call: judge::last_call(self.segment.control(), at),
            }),
            size: self.service.hosts.len(),
            host: super::host(),
            job: self.name.clone(),
            after: self.begun.elapsed(),
            ended,
            doing: Vec::new(),
        }
    }
}

/// Whether this may be what another failure caused: a launcher's kill, a wait for one that is gone. A host that is lost is not:
/// what failed there, or here, is heard of before the launcher acts on it.
fn is_doubtful(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Signal(libc::SIGTERM | libc::SIGKILL) | Cause::Gone(_)
    )
}

/// Whether a rank ended as those do that a launcher ends because of another.
fn is_by_launcher(told: Told) -> bool {
    matches!(told, Some(Exit::Signal(libc::SIGTERM | libc::SIGKILL)))
}

/// What a process runs, in words.
fn program(pid: u32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&words)
        .trim_end_matches('\0')
        .replace('\0', " ");
    judge::shortened(&text)
}
