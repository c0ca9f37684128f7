//! The agent: makes the segment, starts the ranks, watches each of them, and ends all of them when one fails.
//!
//! One thread and one loop: every event (a process's end, output, an order, a deadline) is waited for by poll(2); nothing is asked for
//! at intervals. The thread that forked the ranks is the process's only one, so their parent-death signal means its death.
use super::cgroup::Groups;
use super::cores::{Claims, Usable};
use super::guard::UNKILLABLE;
use super::job::{Bind, Error, Job, Output, Stdin};
use super::judge::Culprit;
use super::logs::{self, Logs};
use super::outbox::Outbox;
use super::ranks::{Launch, Rank};
use super::spawn::Spawn;
use super::streams::Merge;
use super::teardown;
use super::wire::{Description, Order, PACKET, Report};
use crate::job::Segment;
use crate::sys::fd::{self, Interest, Watch};
use crate::sys::process;
use std::fs::File;
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
    pub(super) control: OwnedFd,
    pub(super) launcher: OwnedFd,
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
    pub(super) merge: [Merge; 2],
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
}

/// Runs the agent: gets the job from the launcher, runs it, tells what came of it.
pub(super) fn run(control: OwnedFd, launcher: OwnedFd, guard: OwnedFd) -> ! {
    process::new_session();
    process::set_name(c"tercio-agent");
    let Some(job) = receive_job(&control) else {
        // The launcher is gone. The guard sees that too, unless it is stopped.
        let _ = process::signal(guard.as_fd(), libc::SIGKILL);
        process::exit_now(0)
    };
    match Agent::start(control.try_clone(), launcher, guard, job) {
        Ok(agent) => agent.run(),
        Err(error) => {
            let report = Report::Refused {
                code: error.code(),
                text: error.to_string(),
            };
            let _ = fd::send(control.as_fd(), &report.encode(), true);
            // Ranks that were started already end with us.
            teardown_unstarted();
            process::exit_now(0)
        }
    }
}

fn receive_job(control: &OwnedFd) -> Option<Job> {
    let mut description = Description::default();
    let mut packet = vec![0_u8; PACKET];
    loop {
        let len = fd::receive(control.as_fd(), &mut packet, true)
            .ok()
            .filter(|len| *len > 0)?;
        match Order::decode(&packet[..len])? {
            Order::Describe(part) if description.push(&part) => {}
            Order::Go => return description.job(),
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
    fn start(
        control: std::io::Result<OwnedFd>,
        launcher: OwnedFd,
        guard: OwnedFd,
        job: Job,
    ) -> Result<Agent, Error> {
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
        let control = control.map_err(failed("use its control socket"))?;
        process::adopt_orphans().map_err(failed("adopt orphans"))?;
        let children = fd::signals(&[libc::SIGCHLD]).map_err(failed("watch its children"))?;
        let limit = process::raise_descriptor_limit();
        process::ignore_file_size_signal();
        let plan = job.plan()?;
        let size = job.ranks();
        let name = super::job_name(process::id());
        let usable = Usable::here();
        let room = job.room(usable.count());
        let segment =
            Segment::create(size, room).map_err(|error| Error::new(125, error.to_string()))?;
        let universe = job.universe(usable.count());
        segment
            .control()
            .universe()
            .store(universe as u32, Ordering::Relaxed);
        let claims = Claims::take(size, &usable);
        segment
            .control()
            .claimed_cores()
            .store(claims.cores().len() as u32, Ordering::Relaxed);
        let bound = job.bind == Bind::Core && claims.cores().len() == size;
        let (tag, logs) = match &job.output {
            Output::Inherit { tag } | Output::Capture { tag } => (*tag, None),
            Output::Directory { path, tag } => (false, Some(logs::open(path, *tag, size)?)),
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
            merge: [Merge::new(tag), Merge::new(tag)],
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
        self.note(format!(
            "job {}: guard {}, agent {}",
            self.name,
            self.guard_pid,
            process::id()
        ));
    }

    pub(super) fn note(&mut self, text: String) {
        self.outbox.report(&Report::Note(text));
    }

    fn run(mut self) -> ! {
        loop {
            self.advance();
            self.outbox.send(self.control.as_fd());
            let mut watch = Watch::default();
            let launcher = watch.add(self.launcher.as_fd(), Interest::Read);
            // A guard that is gone already is not waited for again.
            let guard =
                (!self.guard_is_gone).then(|| watch.add(self.guard.as_fd(), Interest::Read));
            let orders = watch.add(self.control.as_fd(), Interest::Read);
            let children = watch.add(self.children.as_fd(), Interest::Read);
            if self.outbox.wants_room() {
                watch.add(self.control.as_fd(), Interest::Write);
            }
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
            if watch.ready(launcher) {
                self.forsaken();
            }
            if guard.is_some_and(|guard| watch.ready(guard)) {
                self.lose_guard();
            }
            if watch.ready(orders) {
                self.take_orders();
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
            self.feed();
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
