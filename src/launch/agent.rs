//! The agent: makes the segment, starts the ranks, watches each of them, and ends all of them when one fails.
//!
//! One thread and one loop: every event (a process's end, output, an order, a deadline) is waited for by poll(2); nothing is asked for
//! at intervals. The thread that forked the ranks is the process's only one, so their parent-death signal means its death.
use super::cgroup::Groups;
use super::channel::Channel;
use super::cores::{Claims, Usable};
use super::describe::Description;
use super::guard::UNKILLABLE;
use super::hub;
use super::job::{Bind, Error, Job, Output, Stdin};
use super::judge::Culprit;
use super::logs::{self, Logs};
use super::outbox::Outbox;
use super::pulse::Pulse;
use super::ranks::{Launch, Rank};
use super::spawn::Spawn;
use super::teardown;
use super::wire::{Order, Report};
use crate::job::Segment;
use crate::job::exchange::Secret;
use crate::sys::fd::{self, Interest, Watch};
use crate::sys::{net, process, random};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How far a job has come. Each phase leads to the next, and none back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// All ranks are over of themselves; what they left behind may still write, until then.
    Draining(Instant),
    /// TERM was sent; KILL follows at this time.
    Ending(Instant),
    /// KILL was sent, and is sent again until nothing is left, or until then.
    Killing(Instant),
    /// Nothing is left; the launcher gets what it has not yet got, until then if there is a time.
    Telling(Option<Instant>),
}

/// Input for the rank to which standard input is forwarded.
#[derive(Default)]
pub(super) struct Feed {
    pub(super) pipe: Option<OwnedFd>,
    pub(super) held: Vec<u8>,
    pub(super) ended: bool,
}

/// The agent of one job. Its loop is here; what it does about each event is in `events`, how the job's end goes on in `course`, whose
/// fault it was in `judge`.
pub(super) struct Agent {
    pub(super) control: Channel,
    /// The launcher's process; from another host only the channel's end tells.
    pub(super) launcher: Option<OwnedFd>,
    pub(super) guard: OwnedFd,
    pub(super) guard_pid: u32,
    pub(super) guard_is_gone: bool,
    pub(super) children: OwnedFd,
    pub(super) job: Job,
    pub(super) name: String,
    pub(super) segment: Segment,
    pub(super) claims: Claims,
    /// Whether ranks are bound to the cores that are claimed.
    pub(super) bound: bool,
    pub(super) limit: Option<process::DescriptorLimit>,
    pub(super) ranks: Vec<Rank>,
    /// Where ranks that could not be started tell why; at its end all have been.
    pub(super) launch: Option<OwnedFd>,
    pub(super) refused: Option<Error>,
    /// Ranks on their way that others asked for.
    pub(super) spawns: Vec<Spawn>,
    pub(super) outbox: Outbox,
    pub(super) logs: Option<Logs>,
    pub(super) feed: Feed,
    pub(super) phase: Phase,
    pub(super) culprit: Option<Culprit>,
    /// The first rank that ended with code 0 and without goodbye.
    pub(super) no_goodbye: Option<usize>,
    /// The ranks that were not over when the job began to end.
    pub(super) ended_with: Vec<usize>,
    pub(super) begun: Instant,
    /// How long the job had run when it was over or began to end.
    pub(super) ended_after: Option<Duration>,
    /// When claimants that are not our children are looked at next, while there are any.
    pub(super) next_look: Option<Instant>,
    pub(super) paused: bool,
    pub(super) pausing: Option<Instant>,
    pub(super) memory: Option<Groups>,
    pub(super) kills_before: Option<u64>,
    /// The ranks' numbers among those of all hosts, by index; empty if there is one host.
    pub(super) numbers: Vec<usize>,
    pub(super) secret: Option<Secret>,
    /// Signs of life, where the launcher is on another host.
    pub(super) pulse: Option<Pulse>,
}

/// What an agent has of those around it.
pub(super) struct Ends {
    pub(super) control: Channel,
    /// The launcher's process; from another host only the channel's end tells.
    pub(super) launcher: Option<OwnedFd>,
    pub(super) guard: OwnedFd,
}

/// An agent on another host hears something of the launcher's side at least this often until it has its job.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the agent: gets the job from the launcher, runs it, tells what came of it.
pub(super) fn run(mut ends: Ends) -> ! {
    process::new_session();
    process::set_name(c"tercio-agent");
    let Some((job, secret)) = receive_job(&mut ends.control) else {
        // The launcher is gone. The guard sees that too, unless it is stopped.
        let _ = process::signal(ends.guard.as_fd(), libc::SIGKILL);
        process::exit_now(0)
    };
    if job.spans_hosts() {
        hub::run(ends, job)
    }
    let mut ends = Some(ends);
    let error = match Agent::start(&mut ends, job, secret) {
        Ok(agent) => agent.run(),
        Err(error) => error,
    };
    if let Some(mut ends) = ends {
        let report = Report::Refused {
            code: error.code(),
            text: error.to_string(),
        };
        send_at_last(&mut ends.control, &report);
    }
    // Ranks that were started already end with us.
    teardown_unstarted();
    process::exit_now(0)
}

/// Sends a report however long that takes; who reads it reads all.
pub(super) fn send_at_last(control: &mut Channel, report: &Report) {
    let mut sent = control.send(&report.encode());
    loop {
        match sent {
            Ok(()) if control.is_flushed() => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            _ => {}
        }
        let mut watch = Watch::default();
        control.watch(&mut watch, true);
        watch.wait(Some(PATIENCE));
        sent = match sent {
            Ok(()) => control.flush(),
            Err(_) => control.send(&report.encode()),
        };
    }
}

/// The job, and the secret if it has one. `None` if the launcher's side is gone.
fn receive_job(control: &mut Channel) -> Option<(Job, Option<Secret>)> {
    let (mut description, mut secret) = (Description::default(), None);
    loop {
        let frame = match control.receive() {
            Ok(frame) => frame,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut watch = Watch::default();
                let index = control.watch(&mut watch, false);
                watch.wait(control.is_remote().then_some(PATIENCE));
                if !watch.ready(index) && control.is_remote() {
                    return None;
                }
                continue;
            }
            Err(_) => return None,
        };
        match Order::decode(&frame)? {
            Order::Secret(given) => secret = Some(given),
            Order::Describe(part) if description.push(&part) => {}
            Order::Go => return Some((description.job()?, secret)),
            Order::Beat => {}
            _ => return None,
        }
    }
}

/// What to do about a limit that was met, as the end of a sentence.
fn advice(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            "; each rank takes six descriptors here: raise the limit (`ulimit -n`) or use fewer ranks"
        }
        Some(libc::EAGAIN) => {
            "; raise the limit of processes (`ulimit -u`, or the container's) or use fewer ranks"
        }
        Some(libc::ENOMEM) => "; use fewer ranks or allow more memory",
        _ => "",
    }
}

/// Kills what a start that failed half-way left.
fn teardown_unstarted() {
    let until = Instant::now() + UNKILLABLE;
    while !teardown::kill(&[]).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Agent {
    /// Starts all ranks. `ends` is left as it was if that fails.
    fn start(ends: &mut Option<Ends>, job: Job, secret: Option<Secret>) -> Result<Agent, Error> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| {
                Error::new(
                    125,
                    format!("the job's agent cannot {what}: {error}{}", advice(&error)),
                )
            }
        };
        let guard_pid = process::parent();
        process::adopt_orphans().map_err(failed("adopt orphans"))?;
        let children = fd::signals(&[libc::SIGCHLD]).map_err(failed("watch its children"))?;
        let limit = process::raise_descriptor_limit();
        process::ignore_file_size_signal();
        let plan = job.plan()?;
        let size = job.ranks();
        let (name, numbers) = match &job.site {
            Some(site) => (site.job.clone(), site.numbers()),
            None => (super::job_name(process::id()), Vec::new()),
        };
        let usable = Usable::here();
        let room = job.room(usable.count());
        let segment =
            Segment::create(size, room).map_err(|error| Error::new(125, error.to_string()))?;
        let mut universe = job.universe(usable.count());
        if let Some(site) = &job.site {
            universe = universe.max(site.host_of_rank.len());
            segment
                .directory()
                .settle(&site.places(), site.here)
                .map_err(|error| Error::new(125, error.to_string()))?;
        }
        segment
            .control()
            .universe()
            .store(universe as u32, Ordering::Relaxed);
        let secret = match secret {
            None if job.has_sockets() => {
                Some(random::bytes().map_err(failed("draw the job's secret"))?)
            }
            given => given,
        };
        if secret.is_some() {
            let bells = (0..segment.ranks()).map(|_| net::event());
            let bells = bells.collect::<std::io::Result<_>>();
            segment.set_bells(bells.map_err(failed("make an event descriptor for each rank"))?);
        }
        let claims = Claims::take(size, &usable);
        segment
            .control()
            .claimed_cores()
            .store(claims.cores().len() as u32, Ordering::Relaxed);
        let bound = job.bind == Bind::Core && claims.cores().len() == size;
        let logs = match &job.output {
            Output::Inherit { .. } | Output::Capture { .. } => None,
            Output::Directory { path, tag } if numbers.is_empty() => {
                Some(logs::open(path, *tag, 0..size)?)
            }
            Output::Directory { path, tag } => {
                Some(logs::open(path, *tag, numbers.iter().copied())?)
            }
        };
        let (fed, feed) = match job.stdin {
            Stdin::Forward { .. } => {
                let (read_end, write_end) = fd::pipe().map_err(failed("make a pipe"))?;
                fd::set_nonblocking(&write_end).map_err(failed("make a pipe"))?;
                (Some(read_end), Some(write_end))
            }
            _ => (None, None),
        };
        let memory = Groups::of("memory");
        let kills_before = memory.as_ref().and_then(Groups::out_of_memory_kills);
        let (launch, tell) = fd::pipe().map_err(failed("make a pipe"))?;
        let mut ranks = Vec::with_capacity(size);
        let null = File::open("/dev/null")
            .map_err(failed("open /dev/null"))?
            .into();
        let common = Launch {
            job: &job,
            name: &name,
            segment: &segment,
            world: 0..size,
            first_program: 0,
            birth: None,
            cores: if bound { claims.cores() } else { &[] },
            null,
            fed,
            tell,
            limit,
            numbers: &numbers,
        };
        for (program, file) in plan.files().enumerate() {
            for _ in 0..job.programs[program].ranks {
                let rank = ranks.len();
                ranks.push(
                    common
                        .start(rank, program, file)
                        .map_err(failed(&format!("start rank {rank}")))?,
                );
            }
        }
        drop(common);
        let Some(Ends {
            control,
            launcher,
            guard,
        }) = ends.take()
        else {
            unreachable!("the ends are taken once")
        };
        let pulse = control
            .is_remote()
            .then(|| Pulse::new(job.silence, Instant::now()));
        let mut agent = Agent {
            control,
            launcher,
            guard,
            guard_pid,
            guard_is_gone: false,
            children,
            name,
            segment,
            ranks,
            launch: Some(launch),
            refused: None,
            spawns: Vec::new(),
            bound,
            limit,
            outbox: Outbox::default(),
            logs,
            feed: Feed {
                pipe: feed,
                ..Feed::default()
            },
            phase: Phase::Running,
            culprit: None,
            no_goodbye: None,
            ended_with: Vec::new(),
            begun: Instant::now(),
            ended_after: None,
            next_look: None,
            paused: false,
            pausing: None,
            memory,
            kills_before,
            numbers,
            secret,
            pulse,
            claims,
            job,
        };
        if agent.job.verbose {
            agent.tell_cores(bound, &usable);
        }
        Ok(agent)
    }

    fn tell_cores(&mut self, bound: bool, usable: &Usable) {
        let (size, mine) = (self.ranks.len(), self.claims.cores());
        let text = if bound {
            format!(
                "{size} ranks are bound to a core each: {}",
                mine.iter()
                    .map(usize::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        } else if self.job.bind == Bind::None {
            format!(
                "ranks are not bound, as asked; {} cores are claimed",
                mine.len()
            )
        } else {
            format!(
                "ranks are not bound to cores: {size} ranks, {} usable cores, {} of them free of other jobs",
                usable.count(),
                mine.len()
            )
        };
        self.note(text);
        if self.secret.is_some() {
            self.note(match self.job.encrypts() {
                true => "ranks that share no memory are connected by TCP, encrypted".into(),
                false => "ranks that share no memory are connected by TCP, which keeps strangers out but is not encrypted (--encrypt)".into(),
            });
        }
        self.note(format!(
            "job {}: guard {}, agent {}",
            self.name,
            self.guard_pid,
            process::id()
        ));
    }

    /// The number of the rank with index `local` among those of all hosts.
    pub(super) fn number(&self, local: usize) -> usize {
        self.numbers.get(local).copied().unwrap_or(local)
    }

    pub(super) fn note(&mut self, text: String) {
        self.outbox.report(&Report::Note(text));
    }

    fn run(mut self) -> ! {
        loop {
            self.advance();
            self.outbox.send(&mut self.control);
            let mut watch = Watch::default();
            let launcher = self
                .launcher
                .as_ref()
                .map(|launcher| watch.add(launcher.as_fd(), Interest::Read));
            // A guard that is gone already is not waited for again.
            let guard =
                (!self.guard_is_gone).then(|| watch.add(self.guard.as_fd(), Interest::Read));
            let orders = self.control.watch(&mut watch, self.outbox.wants_room());
            let children = watch.add(self.children.as_fd(), Interest::Read);
            let launch = self
                .launch
                .as_ref()
                .map(|pipe| watch.add(pipe.as_fd(), Interest::Read));
            let spawns: Vec<usize> = self
                .spawns
                .iter()
                .map(|spawn| watch.add(spawn.launch.as_fd(), Interest::Read))
                .collect();
            if let Some(pipe) = self
                .feed
                .pipe
                .as_ref()
                .filter(|_| !self.feed.held.is_empty())
            {
                watch.add(pipe.as_fd(), Interest::Write);
            }
            let room = self.outbox.has_room();
            let mut watched: Vec<(usize, usize, Event)> = Vec::new();
            for (number, rank) in self.ranks.iter().enumerate() {
                let mut add =
                    |fd, event| watched.push((watch.add(fd, Interest::Read), number, event));
                if rank.exit.is_none() {
                    add(rank.process.as_fd(), Event::Process);
                }
                if let Some(claim) = &rank.claim {
                    add(claim.as_fd(), Event::Claim);
                }
                if let Some(claimant) = rank
                    .claimant
                    .as_ref()
                    .filter(|c| !c.ended && c.pid != rank.pid)
                {
                    add(claimant.process.as_fd(), Event::Claimant);
                }
                for (stream, (pipe, _)) in rank.streams.iter().enumerate() {
                    if let Some(pipe) = pipe.as_ref().filter(|_| room) {
                        add(pipe.as_fd(), Event::Output(stream));
                    }
                }
            }
            watch.wait(
                self.deadline()
                    .map(|at| at.saturating_duration_since(Instant::now())),
            );
            if launcher.is_some_and(|launcher| watch.ready(launcher)) {
                self.forsaken();
            }
            if guard.is_some_and(|guard| watch.ready(guard)) {
                self.lose_guard();
            }
            if launch.is_some_and(|launch| watch.ready(launch)) {
                self.take_launch();
            }
            // From the back: one that is over goes out of the list.
            for (at, index) in spawns.into_iter().enumerate().rev() {
                if watch.ready(index) {
                    self.take_spawn(at);
                }
            }
            // Claims before ends: who claimed a rank decides what its end means.
            let ready = |kind: fn(Event) -> bool| {
                let set: Vec<_> = watched
                    .iter()
                    .filter(|(index, _, event)| kind(*event) && watch.ready(*index))
                    .copied()
                    .collect();
                set
            };
            for (_, rank, _) in ready(|event| event == Event::Claim) {
                self.take_claim(rank);
            }
            let ends = ready(|event| matches!(event, Event::Process | Event::Claimant));
            if !ends.is_empty() {
                self.take_ends(
                    ends.iter()
                        .map(|(_, rank, event)| (*rank, *event == Event::Claimant)),
                );
            }
            // After ends: what was seen here comes before what is told of others.
            // A stream may hold frames that were read with earlier ones.
            if watch.ready(orders) || self.control.is_remote() {
                self.take_orders();
            }
            self.feed();
            self.keep_pulse();
            for (_, rank, event) in ready(|event| matches!(event, Event::Output(_))) {
                if let Event::Output(stream) = event {
                    self.take_output(rank, stream);
                }
            }
            if watch.ready(children) {
                fd::clear_signals(&self.children);
                self.take_changes();
            }
        }
    }
}

/// What is watched of a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Process,
    Claim,
    Claimant,
    Output(usize),
}
