//! The hub: what the agent is to a job of one host, this is to a job of several. The guard forks it in the agent's place; it starts an agent on each
//! host, over the channel that the host's command is, and stands between them and the launcher. It starts no rank and judges none: it
//! tells all hosts when one of them has failed, and puts their accounts together.
//!
//! One thread and one loop, which waits for nobody: a launcher that is stopped or does not read holds up output and nothing else.
mod account;
mod link;
mod output;
mod part;
mod starting;
mod why;

use self::link::{Event, Link, State};
use self::output::Owed;
use self::part::Around;
use self::why::Failed;
use super::agent::{Ends, send_at_last};
use super::channel::Channel;
use super::guard::UNKILLABLE;
use super::job::{Error, Job, Stdin};
use super::outbox::Outbox;
use super::pulse::Pulse;
use super::running::Ending;
use super::teardown;
use super::verdict::{Cause, Findings};
use super::wire::{Order, Report};
use crate::job::exchange::Secret;
use crate::sys::fd::{self, Interest, Watch};
use crate::sys::process;
use crate::sys::random;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Commands that are started and have no agent yet, at one time.
const AT_ONCE: usize = 64;
/// After this, and at twice the time again and again, one line says who is waited for.
const PROGRESS: Duration = Duration::from_secs(2);
/// How long a launcher that was told to end may take to take output.
const BLOCKED_OUTPUT: Duration = Duration::from_secs(1);
/// How long commands that are done may take to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// How far the job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Agents are started; no rank is.
    Starting,
    /// Every host was told to go.
    Running,
    /// Every host was told to end.
    Ending,
}

struct Hub {
    control: Channel,
    launcher: Option<OwnedFd>,
    guard: OwnedFd,
    guard_pid: u32,
    guard_is_gone: bool,
    children: OwnedFd,
    job: Job,
    around: Around,
    secret: Secret,
    name: String,
    links: Vec<Link>,
    outbox: Outbox,
    owed: VecDeque<Owed>,
    phase: Phase,
    begun: Instant,
    /// When all ranks ran.
    started: Option<Instant>,
    ended_after: Option<Duration>,
    culprit: Option<Findings>,
    refused: Option<Error>,
    /// Hosts that cannot be used, a sentence each.
    unusable: Vec<String>,
    progress: Duration,
    pausing: bool,
}

/// Runs the hub of a job that was received.
pub(super) fn run(ends: Ends, job: Job) -> ! {
    process::set_name(c"tercio-hub");
    let Ends {
        mut control,
        launcher,
        guard,
    } = ends;
    let _ = process::adopt_orphans();
    process::raise_descriptor_limit();
    let children = match fd::signals(&[libc::SIGCHLD]) {
        Ok(children) => children,
        Err(error) => {
            let text = format!("the job's hub cannot watch its children: {error}");
            send_at_last(&mut control, &Report::Refused { code: 125, text });
            process::exit_now(0)
        }
    };
    // The directory first, before anything else runs that could change it.
    let around = Around::here().map_err(|error| {
        format!("the directory that the job is started in cannot be told to other hosts: {error}; start it in one that exists")
    });
    let secret = random::bytes()
        .map_err(|error| format!("the system gives no random bytes for the job's secret: {error}"));
    let (around, secret) = match around.and_then(|around| Ok((around, secret?))) {
        Ok(both) => both,
        Err(text) => {
            send_at_last(&mut control, &Report::Refused { code: 125, text });
            process::exit_now(0)
        }
    };
    let now = Instant::now();
    Hub {
        around,
        secret,
        control,
        launcher,
        guard,
        guard_pid: process::parent(),
        guard_is_gone: false,
        children,
        name: super::job_name(process::id()),
        links: job.hosts.iter().map(Link::new).collect(),
        outbox: Outbox::default(),
        owed: VecDeque::new(),
        phase: Phase::Starting,
        begun: now,
        started: None,
        ended_after: None,
        culprit: None,
        refused: None,
        unusable: Vec::new(),
        progress: PROGRESS,
        pausing: false,
        job,
    }
    .serve()
}

impl Hub {
    fn serve(mut self) -> ! {
        loop {
            self.advance();
            let sent = self.outbox.send(&mut self.control);
            self.pay(sent);
            for link in &mut self.links {
                link.send();
            }
            let mut watch = Watch::default();
            let launcher = self
                .launcher
                .as_ref()
                .map(|launcher| watch.add(launcher.as_fd(), Interest::Read));
            let guard =
                (!self.guard_is_gone).then(|| watch.add(self.guard.as_fd(), Interest::Read));
            let children = watch.add(self.children.as_fd(), Interest::Read);
            let orders = self.control.watch(&mut watch, self.outbox.wants_room());
            let watched: Vec<_> = self
                .links
                .iter()
                .map(|link| link.watch(&mut watch))
                .collect();
            let deadline = self.deadline();
            watch.wait(deadline.map(|at| at.saturating_duration_since(Instant::now())));
            if launcher.is_some_and(|launcher| watch.ready(launcher)) {
                self.forsaken();
            }
            if guard.is_some_and(|guard| watch.ready(guard)) {
                self.lose_guard();
            }
            for (at, [said, channel]) in watched.into_iter().enumerate() {
                if said.is_some_and(|said| watch.ready(said)) {
                    self.links[at].listen();
                }
                if channel.is_some_and(|channel| watch.ready(channel)) {
                    self.hear(at);
                }
            }
            if watch.ready(children) {
                fd::clear_signals(&self.children);
                for link in &mut self.links {
                    link.reap();
                }
            }
            if watch.ready(orders) {
                self.take_orders();
            }
        }
    }

    /// Does everything whose time has come.
    fn advance(&mut self) {
        let now = Instant::now();
        self.keep_pulses(now);
        for at in 0..self.links.len() {
            if self.links[at].has_ended(now) {
                self.bury(at);
            }
        }
        match self.phase {
            Phase::Starting => self.start(now),
            Phase::Running => {
                self.look_at_start(now);
                let limit = self.job.timeout;
                let up = |limit: &Duration| {
                    self.started
                        .is_some_and(|since| now.duration_since(since) >= *limit)
                };
                if limit.as_ref().is_some_and(up) {
                    self.end_by(Cause::TimeLimit(limit), &Order::End(Ending::TimeLimit));
                }
            }
            Phase::Ending => {}
        }
        if self.phase != Phase::Starting && self.links.iter().all(Link::is_over) {
            self.finish();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let links = self.links.iter();
        let pulses = links.clone().filter_map(|link| link.pulse.as_ref());
        let endings = links.clone().filter_map(Link::deadline);
        let starting = links.filter_map(|link| match (&link.state, self.phase) {
            (State::Connecting, Phase::Starting) => Some(link.since + self.job.start_limit),
            (State::Up, Phase::Running) => Some(link.since + 2 * self.job.start_limit),
            _ => None,
        });
        let progress = (self.started.is_none() && self.phase != Phase::Ending)
            .then(|| self.begun + self.progress);
        let limit = self
            .started
            .filter(|_| self.phase == Phase::Running)
            .and_then(|since| Some(since + self.job.timeout?));
        pulses
            .map(Pulse::deadline)
            .chain(endings)
            .chain(starting)
            .chain(progress)
            .chain(limit)
            .min()
    }

    fn keep_pulses(&mut self, now: Instant) {
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            let is_running = matches!(link.state, State::Running);
            let Some(pulse) = &mut link.pulse else {
                continue;
            };
            let due = pulse.look(now);
            if !is_running {
                // An agent that starts its ranks gives no signs: its time is limited otherwise.
                pulse.hear(now);
            }
            let silent = pulse.silence(now);
            if due {
                link.order(&Order::Beat);
            }
            if let Some(silent) = silent {
                let how = format!(
                    "host \"{}\" was lost: nothing was heard from it for {:.1} s; it is down, cut off, or its agent is stopped (--silence \
                     allows more)",
                    link.name,
                    silent.as_secs_f64()
                );
                self.lose(at, how);
            }
        }
    }

    /// Takes everything that a host's agent has to say now.
    fn hear(&mut self, at: usize) {
        while let Some(event) = self.links[at].hear() {
            match event {
                Event::Hello(hello) => self.greet(at, &hello),
                Event::Report(report) => self.take(at, report),
                Event::Lost => return self.links[at].lose(),
            }
        }
    }

    fn greet(&mut self, at: usize, hello: &super::wire::Hello) {
        let link = &mut self.links[at];
        if !matches!(link.state, State::Connecting) {
            return;
        }
        if !why::fits(hello) {
            let text = link.why(&Failed::Strange(hello));
            return self.give_up(at, text);
        }
        link.state = State::Up;
        link.order(&Order::Secret(self.secret));
        link.agent = Some(hello.pid);
        link.pulse = Some(Pulse::new(self.job.silence, Instant::now()));
    }

    fn take(&mut self, at: usize, report: Report) {
        let link = &mut self.links[at];
        match report {
            Report::Ranks { first, pids } => {
                link.pids.truncate(first as usize);
                link.pids.extend(pids);
            }
            Report::Started { agent } => {
                link.agent = Some(agent);
                link.state = State::Running;
            }
            Report::Refused { code, text } => {
                let text = match link.is_remote() {
                    true => format!("host \"{}\": {text}", link.name),
                    false => text,
                };
                link.drop_it(None);
                self.refused.get_or_insert(Error::new(code, text));
                self.fail_all(at);
            }
            Report::Output {
                stream,
                rank,
                more,
                bytes,
            } => self.relay(at, stream, rank, more, bytes),
            Report::Note(text) => {
                let text = match link.is_remote() {
                    true => format!("{}: {text}", link.name),
                    false => text,
                };
                self.note(text);
            }
            Report::Paused => {
                link.paused = true;
                self.look_at_pause();
            }
            Report::StdinTaken(bytes) => self.outbox.report(&Report::StdinTaken(bytes)),
            Report::Done(account) => {
                self.flush_held(at);
                self.links[at].drop_it(Some(account));
                self.look_at_pause();
            }
            Report::Published(record) => self.tell_others(at, &Order::Publish(record)),
            Report::Gone(rank, state) => self.tell_others(at, &Order::Gone(rank, state)),
            Report::Failed(findings) => self.fail(at, *findings),
            Report::Hello(_) | Report::Beat => {}
        }
    }

    fn tell_others(&mut self, at: usize, order: &Order) {
        for (other, link) in self.links.iter_mut().enumerate() {
            if other != at && link.is_up() {
                link.order(order);
            }
        }
    }

    fn look_at_pause(&mut self) {
        let all = self.links.iter().all(|link| link.paused || link.is_over());
        if self.pausing && all {
            self.pausing = false;
            self.outbox.report(&Report::Paused);
        }
    }

    fn take_orders(&mut self) {
        loop {
            match self.control.receive() {
                Ok(frame) => {
                    if let Some(order) = Order::decode(&frame) {
                        self.obey(order);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => self.forsaken(),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Taken(bytes) => self.outbox.taken(bytes as usize),
            Order::Pause | Order::Resume => {
                self.pausing = order == Order::Pause;
                for link in &mut self.links {
                    link.paused = false;
                    link.order(&order);
                }
                self.look_at_pause();
            }
            Order::Stdin(_) => {
                let reader = match self.job.stdin {
                    Stdin::Forward { rank } | Stdin::Inherit { rank } => Some(rank),
                    Stdin::None => None,
                };
                let of = |link: &&mut Link| reader.is_some_and(|r| link.ranks.contains(&r));
                match self.links.iter_mut().find(of).filter(|link| link.is_up()) {
                    Some(link) => link.order(&order),
                    None => {
                        if let Order::Stdin(bytes) = order {
                            self.outbox.report(&Report::StdinTaken(bytes.len() as u32));
                        }
                    }
                }
            }
            Order::Closed(_) | Order::Signal(_) => {
                self.links.iter_mut().for_each(|link| link.order(&order))
            }
            Order::End(why) => {
                let cause = match why {
                    Ending::TimeLimit => Cause::TimeLimit(self.job.timeout),
                    Ending::Signal(signal) => Cause::Interrupted(signal),
                };
                self.end_by(cause, &order);
            }
            _ => {}
        }
    }

    fn note(&mut self, text: String) {
        self.outbox.report(&Report::Note(text));
    }

    /// The launcher is gone: the agents see their channels' ends, and everything here is killed.
    fn forsaken(&mut self) -> ! {
        for link in &mut self.links {
            link.drop_it(None);
        }
        self.sweep(UNKILLABLE);
        let _ = process::signal(self.guard.as_fd(), libc::SIGKILL);
        process::exit_now(125)
    }

    /// Kills every descendant, for at most so long.
    fn sweep(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        while !teardown::kill(&[]).is_empty() && Instant::now() < until {
            let mut watch = Watch::default();
            watch.add(self.children.as_fd(), Interest::Read);
            watch.wait(Some(until.saturating_duration_since(Instant::now())));
            fd::clear_signals(&self.children);
        }
    }

    /// Every host has given its account: the job's is made of them, and the job is over.
    fn finish(&mut self) -> ! {
        let impatient = self
            .culprit
            .as_ref()
            .is_some_and(|it| matches!(it.cause, Cause::TimeLimit(_) | Cause::Interrupted(_)));
        let until = Instant::now() + FAREWELL;
        while self.links.iter_mut().any(|link| !link.reap()) && Instant::now() < until {
            let mut watch = Watch::default();
            watch.add(self.children.as_fd(), Interest::Read);
            watch.wait(Some(until.saturating_duration_since(Instant::now())));
            fd::clear_signals(&self.children);
        }
        self.sweep(UNKILLABLE);
        let report = match &self.refused {
            Some(error) => Report::Refused {
                code: error.code(),
                text: error.to_string(),
            },
            None => Report::Done(Box::new(self.account())),
        };
        let begun = Instant::now();
        let mut limit = impatient.then_some(BLOCKED_OUTPUT);
        let mut told = false;
        loop {
            if !told && self.outbox.is_drained() {
                self.outbox.report(&report);
                told = true;
            }
            self.outbox.send(&mut self.control);
            if told && self.outbox.is_empty() {
                process::exit_now(0)
            }
            if limit.is_some_and(|limit| begun.elapsed() >= limit) {
                self.outbox.discard_output();
                limit = None;
                continue;
            }
            let mut watch = Watch::default();
            let orders = self.control.watch(&mut watch, self.outbox.wants_room());
            let launcher = self
                .launcher
                .as_ref()
                .map(|launcher| watch.add(launcher.as_fd(), Interest::Read));
            watch.wait(limit);
            if launcher.is_some_and(|launcher| watch.ready(launcher)) {
                process::exit_now(125)
            }
            if watch.ready(orders) {
                match self.control.receive().map(|frame| Order::decode(&frame)) {
                    Ok(Some(Order::Taken(bytes))) => self.outbox.taken(bytes as usize),
                    Ok(Some(Order::End(_))) => limit = Some(BLOCKED_OUTPUT),
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => process::exit_now(125),
                }
            }
        }
    }
}
