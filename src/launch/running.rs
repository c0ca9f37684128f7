//! A job under way, as its caller sees it: its guard is a child of the caller, and a thread reads what the agent reports.
use super::describe::describe;
use super::job::{Error, Job, Output, Stdin};
use super::streams::Merge;
use super::wire::{Order, PACKET, Report, Stream};
use super::{CONTROL, ROLE, Verdict, relay};
use crate::job::identity;
use crate::sys::{fd, process};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How much longer than the grace an ending job may take before its caller kills guard and agent.
const PATIENCE: Duration = Duration::from_secs(15);
/// How much later than the agent the caller itself sees to the time limit: the agent may be stopped.
const LATER: Duration = Duration::from_millis(500);
/// How long a pause is waited for.
const PAUSING: Duration = Duration::from_secs(1);
/// How long the caller's own output may take when the job was told to end.
const BLOCKED_OUTPUT: Duration = Duration::from_secs(1);

/// Why the caller ends a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The launcher got this signal; the job's code is 128 + its number.
    Signal(i32),
    /// The time limit is over; the job's code is 124.
    TimeLimit,
}

/// What came of a job.
///
/// ```no_run
/// use tercio::launch::{Job, Output, Program};
///
/// tercio::launch::role();
/// let outcome = Job::new().program(Program::new("./simulate", 4)).output(Output::Capture { tag: false }).run().unwrap();
/// if let Some(verdict) = &outcome.verdict {
///     eprint!("{}", verdict.text());
/// }
/// println!("{} bytes of output", outcome.stdout.len());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The code that a launcher exits with: 0, that of the first rank that failed on its own, 120 if Tercio ended the job, 124
    /// for the time limit, 125 for a failure of the launcher's own, 128 + n for signal n.
    pub code: i32,
    /// What failed first, if anything did.
    pub verdict: Option<Verdict>,
    /// The ranks' standard output, with [`Output::Capture`].
    pub stdout: Vec<u8>,
    /// The ranks' standard error, with [`Output::Capture`].
    pub stderr: Vec<u8>,
    /// What there was to say while the job ran, a sentence each (a stopped rank, ranks that could not be bound). Unless output is
    /// captured they stand on the caller's standard error already, each as it arose.
    pub notes: Vec<String>,
}

/// What the caller's threads know of a job.
#[derive(Default)]
pub(super) struct State {
    started: bool,
    agent_pid: u32,
    /// The agent, so that it can be made to go on when it is stopped.
    agent: Option<OwnedFd>,
    ranks: Vec<u32>,
    refused: Option<Error>,
    done: Option<(i32, Option<Verdict>)>,
    /// Guard and agent have closed their end.
    over: bool,
    paused: bool,
    ending: Option<Instant>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    notes: Vec<String>,
    /// Bytes of standard input that the agent has not passed on yet.
    pub(super) stdin_held: usize,
}

impl State {
    pub(super) fn is_over(&self) -> bool {
        self.over || self.done.is_some()
    }
}

/// What the handles, the caller and its threads share.
pub(super) struct Shared {
    pub(super) control: OwnedFd,
    state: Mutex<State>,
    pub(super) changed: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked while it held the lock left nothing half-done that matters.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn order(&self, order: &Order) {
        // If the agent is gone there is nobody to order.
        let _ = fd::send(self.control.as_fd(), &order.encode(), true);
    }

    /// Waits until `done` says so or `until` has come.
    pub(super) fn wait_until<'s>(
        &self,
        mut state: MutexGuard<'s, State>,
        until: Option<Instant>,
        mut done: impl FnMut(&State) -> bool,
    ) -> MutexGuard<'s, State> {
        while !done(&state) {
            let rest = until.map(|until| until.saturating_duration_since(Instant::now()));
            if rest == Some(Duration::ZERO) {
                break;
            }
            // No limit is waited for in long steps: the result is the same.
            let step = rest.unwrap_or(Duration::from_secs(3600));
            state = match self.changed.wait_timeout(state, step) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        state
    }

    /// Reads what the agent reports until it has no more to say.
    fn read(&self, mut sink: relay::Sink, tag: bool) {
        let mut merge = [Merge::new(tag), Merge::new(tag)];
        let mut packet = vec![0_u8; PACKET];
        loop {
            let len = match fd::receive(self.control.as_fd(), &mut packet, true) {
                Ok(len) if len > 0 => len,
                // The agent ended before it had read all orders; what it had sent before follows.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => continue,
                Ok(_) | Err(_) => break,
            };
            let Some(report) = Report::decode(&packet[..len]) else {
                continue;
            };
            let mut state = self.state();
            match report {
                Report::Ranks { first, pids } => {
                    state.ranks.truncate(first as usize);
                    state.ranks.extend(pids);
                    continue;
                }
                Report::Started { agent } => {
                    (state.started, state.agent_pid) = (true, agent);
                    // It lives or is a zombie of the guard's: it has just told us, and ends only after it was waited for.
                    state.agent = process::open(agent).ok();
                }
                Report::Refused { code, text } => state.refused = Some(Error::new(code, text)),
                Report::Output {
                    stream,
                    rank,
                    bytes,
                    ..
                } => {
                    let credit = bytes.len() as u32;
                    let bytes = merge[stream as usize].pass(rank as usize, bytes);
                    match (&sink, stream) {
                        (relay::Sink::Captured, Stream::Out) => state.stdout.extend(&bytes),
                        (relay::Sink::Captured, Stream::Err) => state.stderr.extend(&bytes),
                        (relay::Sink::Writer(_), _) => {}
                    }
                    drop(state);
                    match &mut sink {
                        relay::Sink::Captured => self.order(&Order::Taken(credit)),
                        relay::Sink::Writer(writer) => writer.write(stream, bytes, credit),
                    }
                    continue;
                }
                Report::Note(text) => {
                    if let relay::Sink::Writer(writer) = &mut sink {
                        writer.say(&text);
                    }
                    state.notes.push(text);
                }
                Report::Paused => state.paused = true,
                Report::StdinTaken(bytes) => {
                    state.stdin_held = state.stdin_held.saturating_sub(bytes as usize)
                }
                Report::Done(account) => {
                    let done = match &account.findings {
                        None => (0, None),
                        Some(findings) => (findings.cause.code().0, Some(findings.verdict())),
                    };
                    state.done.get_or_insert(done);
                }
                // What agents say to the hub of a job of several hosts, which passes on what is for us.
                Report::Hello(_)
                | Report::Published(_)
                | Report::Gone(..)
                | Report::Beat
                | Report::Failed(_) => {}
            }
            drop(state);
            self.changed.notify_all();
        }
        drop(sink);
        self.state().over = true;
        self.changed.notify_all();
    }
}

/// A job under way. Dropping it without [`Running::wait`] kills the job.
///
/// ```no_run
/// use tercio::launch::{Job, Program};
///
/// tercio::launch::role();
/// let running = Job::new().program(Program::new("./simulate", 4)).start().unwrap();
/// println!("rank 0 is process {}", running.rank_pids()[0]);
/// println!("the job's code is {}", running.wait().code);
/// ```
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    guard: Child,
    guard_process: Option<OwnedFd>,
    written: Option<relay::Written>,
    reports: Option<JoinHandle<()>>,
    ranks: Vec<u32>,
    time_limit: Option<Instant>,
    grace: Duration,
    /// Closed when this is dropped: the thread that reads standard input sees it.
    _stdin: Option<OwnedFd>,
}

/// Starts a guard on this host for `job`, or for this host's part of it; the guard, and the socket to its agent.
pub(super) fn spawn_guard(job: &Job) -> Result<(Child, OwnedFd), Error> {
    let (control, theirs) = fd::packet_pair().map_err(|error| {
        Error::new(
            125,
            format!("cannot make the job's control socket: {error}"),
        )
    })?;
    let number = theirs.as_raw_fd();
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("tercio-guard")
        .env(ROLE, "guard")
        .env(CONTROL, number.to_string());
    for name in [
        identity::RANK,
        identity::SIZE,
        identity::SEGMENT_FD,
        identity::CLAIM_FD,
        identity::JOB,
        identity::APPNUM,
        identity::BIRTH,
    ] {
        command.env_remove(name);
    }
    // What the guard does not have its ranks cannot inherit.
    for name in &job.removed {
        command.env_remove(name);
    }
    command
        .stdin(if matches!(job.stdin, Stdin::Inherit { .. }) {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::null());
    let guard = process::spawn_in_session(&mut command, Some(number)).map_err(|error| {
        Error::new(
            125,
            format!(
                "cannot start the job's guard from /proc/self/exe: {error}; /proc must be mounted"
            ),
        )
    })?;
    Ok((guard, control))
}

/// Starts `job`: see [`Job::start_with`].
pub(super) fn start(mut job: Job, tell: impl FnOnce(Handle)) -> Result<Running, Error> {
    if std::env::var_os(ROLE).is_some() {
        // Going on would start guards of guards without end.
        return Err(Error::new(
            125,
            "this process was started as a job's guard and did not become one; a program that starts jobs must begin with tercio::launch::role()",
        ));
    }
    job.plan()?;
    job.find_reader();
    let failed = |what: &'static str| {
        move |error: std::io::Error| Error::new(125, format!("cannot {what}: {error}"))
    };
    let (guard, control) = spawn_guard(&job)?;
    let guard_process = process::open(guard.id()).ok();
    let shared = Arc::new(Shared {
        control,
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    let (Output::Inherit { tag } | Output::Capture { tag } | Output::Directory { tag, .. }) =
        job.output;
    let (sink, written) = match job.output {
        Output::Capture { .. } => (relay::Sink::Captured, None),
        Output::Inherit { .. } | Output::Directory { .. } => {
            let (writer, written) = relay::Writer::start(&shared)
                .map_err(failed("start a thread for the ranks' output"))?;
            (relay::Sink::Writer(writer), Some(written))
        }
    };
    let mut running = Running {
        shared: shared.clone(),
        guard,
        guard_process,
        written,
        reports: None,
        ranks: Vec::new(),
        time_limit: None,
        grace: job.grace,
        _stdin: None,
    };
    let reports = std::thread::Builder::new()
        .name("tercio-reports".into())
        .spawn(move || shared.read(sink, tag))
        .map_err(failed("start a thread for the job's reports"))?;
    running.reports = Some(reports);
    tell(running.handle());
    for order in describe(&job) {
        running.shared.order(&order);
    }
    let state = running
        .shared
        .wait_until(running.shared.state(), None, |state| {
            state.started || state.refused.is_some() || state.is_over()
        });
    let refused = state.refused.clone();
    running.ranks = state.ranks.clone();
    let lost = !state.started && state.done.is_none();
    drop(state);
    if refused.is_some() || lost {
        let status = running.bury();
        return Err(refused.unwrap_or_else(|| {
            Error::new(125, format!("the job's guard and agent ended before the job began ({status}); a program that starts jobs must begin with tercio::launch::role()"))
        }));
    }
    running.time_limit = job.timeout.map(|limit| Instant::now() + limit + LATER);
    if let Stdin::Forward { .. } = job.stdin {
        running._stdin = Some(
            relay::forward_stdin(&running.shared)
                .map_err(failed("start a thread for standard input"))?,
        );
    }
    Ok(running)
}

impl Running {
    /// Waits for the job's end; when this returns nothing of the job is left.
    pub fn wait(mut self) -> Outcome {
        let handle = self.handle();
        loop {
            let state = self.shared.state();
            if state.over {
                break;
            }
            let deadline = match state.ending {
                Some(since) => Some(since + self.grace + PATIENCE),
                None => self.time_limit,
            };
            let ending = state.ending;
            let state = self.shared.wait_until(state, deadline, |state| {
                state.over || state.ending != ending
            });
            if state.over {
                break;
            }
            let late = deadline.is_some_and(|at| at <= Instant::now());
            drop(state);
            match ending {
                None if late => handle.end(Ending::TimeLimit),
                Some(_) if late => self.kill_own(),
                _ => {}
            }
        }
        self.bury();
        let impatient = self.shared.state().ending.is_some();
        if let Some(written) = self.written.take() {
            written.wait(impatient.then_some(BLOCKED_OUTPUT));
        }
        let mut state = self.shared.state();
        let (code, verdict) = state.done.take().unwrap_or((125, None));
        if verdict.is_none() && code == 125 && state.refused.is_none() {
            state.notes.push(
                "the job's guard and agent were both killed; its ranks were killed with them"
                    .into(),
            );
        }
        Outcome {
            code,
            verdict,
            stdout: std::mem::take(&mut state.stdout),
            stderr: std::mem::take(&mut state.stderr),
            notes: std::mem::take(&mut state.notes),
        }
    }

    /// Something by which another thread can end or pause the job.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: self.shared.clone(),
        }
    }

    /// The process id of the job's guard.
    pub fn guard_pid(&self) -> u32 {
        self.guard.id()
    }

    /// The process id of the job's agent.
    pub fn agent_pid(&self) -> u32 {
        self.shared.state().agent_pid
    }

    /// The process ids of the processes that were started as ranks, by rank.
    pub fn rank_pids(&self) -> &[u32] {
        &self.ranks
    }

    /// Waits for the guard, and for no other child: those are their owners'. Then nobody is left to report.
    fn bury(&mut self) -> String {
        let ended = self.guard.wait();
        fd::shut_down(self.shared.control.as_fd());
        if let Some(reports) = self.reports.take() {
            let _ = reports.join();
        }
        match ended {
            Ok(status) => status.to_string(),
            // The program ignores SIGCHLD, or waits for all children: then it is gone all the same.
            Err(error) => error.to_string(),
        }
    }

    /// Kills guard and agent. The ranks' parent-death signals and lifelines end them.
    fn kill_own(&self) {
        if let Some(agent) = &self.shared.state().agent {
            let _ = process::signal(agent.as_fd(), libc::SIGKILL);
        }
        if let Some(guard) = &self.guard_process {
            let _ = process::signal(guard.as_fd(), libc::SIGKILL);
        }
        // Whoever of them cannot die does not keep the caller.
        fd::shut_down(self.shared.control.as_fd());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `wait` this finds nothing: the agent's end is closed and the guard was waited for.
        fd::shut_down(self.shared.control.as_fd());
        self.bury();
    }
}

/// Ends, pauses, resumes and signals a job from any thread; does nothing once the job has ended.
///
/// ```no_run
/// use tercio::launch::{Ending, Job, Program};
///
/// tercio::launch::role();
/// let running = Job::new().program(Program::new("./simulate", 4)).start().unwrap();
/// let handle = running.handle();
/// std::thread::spawn(move || {
///     let _ = std::io::stdin().read_line(&mut String::new());
///     handle.end(Ending::Signal(15)); // as if the launcher had got SIGTERM
/// });
/// std::process::exit(running.wait().code);
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Ends the job: TERM to every rank, KILL after the grace. Stopped ranks end too. A second signal kills at once.
    pub fn end(&self, why: Ending) {
        let mut state = self.shared.state();
        state.ending.get_or_insert_with(Instant::now);
        // A stopped agent would not hear it.
        if let Some(agent) = &state.agent {
            let _ = process::signal(agent.as_fd(), libc::SIGCONT);
        }
        drop(state);
        self.shared.changed.notify_all();
        self.shared.order(&Order::End(why));
    }

    /// Stops every rank, and returns when they are stopped (or after a second, if one cannot be).
    pub fn pause(&self) {
        self.shared.state().paused = false;
        self.shared.order(&Order::Pause);
        let until = Instant::now() + PAUSING;
        drop(
            self.shared
                .wait_until(self.shared.state(), Some(until), |state| {
                    state.paused || state.is_over()
                }),
        );
    }

    /// Sends every rank this signal, for instance SIGUSR1, which a program may catch to write a checkpoint. A rank that is started by a wrapper
    /// gets it itself, once it has initialized; before that whatever runs in its place gets it, and ends by it unless it catches it.
    ///
    /// A number that is no signal sends nothing. To end or pause a job use [`Handle::end`] and [`Handle::pause`], which know what it means.
    pub fn signal(&self, signal: i32) {
        self.shared.order(&Order::Signal(signal));
    }

    /// Lets every rank go on.
    pub fn resume(&self) {
        self.shared.order(&Order::Resume);
    }
}
