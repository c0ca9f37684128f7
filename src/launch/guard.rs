//! The guard: started by the launcher, parent of the agent. It does nothing but see to it that nothing outlives either.
use super::agent;
use super::teardown;
use super::verdict::{Cause, Findings, signal_name};
use super::wire::Report;
use crate::sys::fd::{self, Interest, Watch};
use crate::sys::process::{self, Change, Exit, Fork};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long killed processes may take to be gone before we say that they cannot be killed.
pub(super) const UNKILLABLE: Duration = Duration::from_secs(5);
/// A stop is told after this.
pub(super) const STOPPED: Duration = Duration::from_secs(5);

/// Runs the guard of a job whose control socket has the number `control`. `Err` is why it could not even begin.
pub(super) fn run(control: i32) -> Result<std::convert::Infallible, String> {
    let control = fd::inherited(control)
        .map_err(|error| format!("the guard has no control socket ({error})"))?;
    process::set_name(c"tercio-guard");
    process::adopt_orphans()
        .map_err(|error| format!("the guard cannot adopt orphans ({error})"))?;
    let parent = fd::peer(control.as_fd())
        .map_err(|error| format!("the guard does not know its launcher ({error})"))?;
    let no_pidfd =
        |error| format!("this kernel has no pidfd_open ({error}); Linux 5.4 or newer is needed");
    let launcher = process::open(parent);
    if process::parent() != parent {
        // It is gone already, and its number may be another's.
        process::exit_now(125);
    }
    let launcher = launcher.map_err(no_pidfd)?;
    let me = process::open(process::id()).map_err(no_pidfd)?;
    let children = fd::signals(&[libc::SIGCHLD])
        .map_err(|error| format!("the guard cannot watch its children ({error})"))?;
    let begun = Instant::now();
    let (go, tell) =
        fd::pipe().map_err(|error| format!("the guard cannot make a pipe ({error})"))?;
    match process::fork().map_err(|error| {
        format!(
            "the guard cannot start the agent ({error}); `role()` must be the first line of main"
        )
    })? {
        Fork::Child => {
            drop((children, tell));
            // Nothing comes if the guard ends before it has let go of its launcher.
            let mut byte = [0];
            if fd::read(go.as_raw_fd(), &mut byte).unwrap_or(0) == 0 {
                process::exit_now(125);
            }
            agent::run(control, launcher, me)
        }
        Fork::Parent(pid) => {
            drop((me, go));
            let agent = process::open(pid).map_err(no_pidfd)?;
            // Until now the launcher's starting thread took us along, for there was nobody to kill a guard that was stopped. From here on
            // there is the agent, and the thread may end.
            process::live_without_parent();
            let _ = fd::write(tell.as_raw_fd(), &[0]);
            drop(tell);
            Guard {
                control,
                launcher,
                agent,
                pid,
                children,
                begun,
            }
            .watch()
        }
    }
}

struct Guard {
    control: OwnedFd,
    launcher: OwnedFd,
    agent: OwnedFd,
    pid: u32,
    children: OwnedFd,
    begun: Instant,
}

impl Guard {
    fn watch(self) -> ! {
        let mut stopped: Option<Instant> = None;
        let mut told = false;
        loop {
            let mut watch = Watch::default();
            let launcher = watch.add(self.launcher.as_fd(), Interest::Read);
            let agent = watch.add(self.agent.as_fd(), Interest::Read);
            let children = watch.add(self.children.as_fd(), Interest::Read);
            let limit = stopped
                .filter(|_| !told)
                .map(|since| (since + STOPPED).saturating_duration_since(Instant::now()));
            watch.wait(limit);
            if watch.ready(launcher) {
                // The agent knows too, but may be stopped: its death takes the ranks along, and what is left comes to us.
                let _ = process::signal(self.agent.as_fd(), libc::SIGKILL);
                self.sweep();
                process::exit_now(125);
            }
            if watch.ready(agent) {
                self.bury();
            }
            if watch.ready(children) {
                fd::clear_signals(&self.children);
                match process::change(self.agent.as_fd()) {
                    Some(Change::Stopped(_)) => stopped = Some(Instant::now()),
                    Some(Change::Continued) => (stopped, told) = (None, false),
                    None => {}
                }
            }
            if stopped.is_some_and(|since| since.elapsed() >= STOPPED) && !told {
                told = true;
                let text = format!(
                    "the job's agent (process {0}) is stopped, and the job waits for it; `kill -CONT {0}` lets it go on",
                    self.pid
                );
                let _ = fd::send(self.control.as_fd(), &Report::Note(text).encode(), false);
            }
        }
    }

    /// The agent has ended: after its work, or before it.
    fn bury(&self) -> ! {
        let exit = process::reap(self.pid).unwrap_or(Exit::Code(125));
        if exit == Exit::Code(0) {
            // It has swept, and told of what cannot be killed.
            teardown::kill(&[]);
            process::exit_now(0);
        }
        let left = self.sweep();
        if let Some(note) = left {
            let _ = fd::send(self.control.as_fd(), &Report::Note(note).encode(), false);
        }
        let how = match exit {
            Exit::Code(code) => format!("ended early with code {code}"),
            Exit::Signal(signal) => {
                format!("was killed by signal {signal} ({})", signal_name(signal))
            }
        };
        let findings = Findings {
            cause: Cause::Lost {
                who: "agent",
                pid: self.pid,
                how,
            },
            rank: None,
            size: 0,
            host: super::host(),
            job: super::job_name(self.pid),
            after: self.begun.elapsed(),
            ended: Vec::new(),
            doing: Vec::new(),
        };
        let (code, _) = findings.cause.code();
        let verdict = findings.verdict();
        // The launcher reads all that comes before this, so there is room soon; if it is gone the error does not matter.
        let _ = fd::send(
            self.control.as_fd(),
            &Report::Done {
                code,
                verdict: Some((verdict.text, verdict.json)),
            }
            .encode(),
            true,
        );
        process::exit_now(125)
    }

    /// Kills every descendant. What could not be killed is a sentence.
    fn sweep(&self) -> Option<String> {
        let until = Instant::now() + UNKILLABLE;
        loop {
            let living = teardown::kill(&[]);
            if living.is_empty() {
                return None;
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Some(unkillable(&living));
            }
            let mut watch = Watch::default();
            watch.add(self.children.as_fd(), Interest::Read);
            watch.wait(Some(rest));
            fd::clear_signals(&self.children);
        }
    }
}

/// A sentence about processes that outlived KILL.
pub(super) fn unkillable(living: &[u32]) -> String {
    let names: Vec<String> = living
        .iter()
        .map(|&pid| {
            format!(
                "{pid} ({})",
                process::name(pid).unwrap_or_else(|| "gone".into())
            )
        })
        .collect();
    format!(
        "these processes could not be killed within {} s: {}; they run as another user, or wait inside the kernel",
        UNKILLABLE.as_secs(),
        names.join(", ")
    )
}
