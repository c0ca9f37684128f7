//! The guard: started by the launcher, parent of the agent. It does nothing but see to it that nothing outlives either.
use super::agent::{self, Ends};
use super::channel::{Channel, MAGIC};
use super::teardown;
use super::verdict::{Cause, Findings, signal_name};
use super::wire::{Account, BYTE_ORDER, Hello, Report, WIRE};
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
    let parent = fd::peer(control.as_fd())
        .map_err(|error| format!("the guard does not know its launcher ({error})"))?;
    let launcher = process::open(parent);
    if process::parent() != parent {
        // It is gone already, and its number may be another's.
        process::exit_now(125);
    }
    let launcher = launcher.map_err(no_pidfd)?;
    begin(Side::Here { control, launcher })
}

/// Runs the guard of an agent on another host than the launcher's, to which standard input and output lead.
pub(super) fn run_there() -> Result<std::convert::Infallible, String> {
    let failed = |error| format!("the guard cannot use its standard input and output ({error})");
    let input = fd::take_over(0).map_err(failed)?;
    begin(Side::There { input })
}

fn no_pidfd(error: std::io::Error) -> String {
    format!("this kernel has no pidfd_open ({error}); Linux 5.4 or newer is needed")
}

/// Forks the agent, and watches it and the launcher.
fn begin(side: Side) -> Result<std::convert::Infallible, String> {
    process::set_name(c"tercio-guard");
    process::adopt_orphans()
        .map_err(|error| format!("the guard cannot adopt orphans ({error})"))?;
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
            let (control, launcher) = match side {
                Side::Here { control, launcher } => (Channel::Packets(control), Some(launcher)),
                Side::There { input } => (greet(input)?, None),
            };
            agent::run(Ends {
                control,
                launcher,
                guard: me,
            })
        }
        Fork::Parent(pid) => {
            drop((me, go));
            let agent = process::open(pid).map_err(no_pidfd)?;
            match &side {
                // Until now the launcher's starting thread took us along, for there was nobody to kill a guard that was stopped. From here on
                // there is the agent, and the thread may end.
                Side::Here { .. } => process::live_without_parent(),
                // The agent's alone: its end is to be seen at the other side.
                Side::There { .. } => drop(fd::take_over(1)),
            }
            let _ = fd::write(tell.as_raw_fd(), &[0]);
            drop(tell);
            Guard {
                side,
                agent,
                pid,
                children,
                begun,
            }
            .watch()
        }
    }
}

/// The channel of an agent on another host, on which it has said who it is.
fn greet(input: OwnedFd) -> Result<Channel, String> {
    let output = fd::take_over(1)
        .map_err(|error| format!("the agent cannot use its standard output ({error})"))?;
    let mut all = MAGIC;
    while !all.is_empty() {
        let sent = fd::write(output.as_raw_fd(), all)
            .map_err(|error| format!("the launcher's side is gone ({error})"))?;
        all = &all[sent..];
    }
    let mut channel = Channel::stream(input, output);
    let hello = Hello {
        order: BYTE_ORDER.to_ne_bytes(),
        wire: WIRE,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: process::id(),
    };
    agent::send_at_last(&mut channel, &Report::Hello(hello));
    Ok(channel)
}

/// The launcher as a guard sees it.
enum Side {
    /// A process of this host, which hears from the guard what the agent cannot tell.
    Here { control: OwnedFd, launcher: OwnedFd },
    /// On another host: all that there is of it is the stream that the agent reads.
    There { input: OwnedFd },
}

struct Guard {
    side: Side,
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
            let launcher = match &self.side {
                Side::Here { launcher, .. } => watch.add(launcher.as_fd(), Interest::Read),
                Side::There { input } => watch.add(input.as_fd(), Interest::End),
            };
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
                self.tell(&Report::Note(text), false);
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
            self.tell(&Report::Note(note), false);
        }
        let how = match exit {
            Exit::Code(code) => format!("ended early with code {code}"),
            Exit::Signal(signal) => {
                format!("was killed by signal {signal} ({})", signal_name(signal))
            }
        };
        let findings = Findings {
            cause: Cause::Lost {
                who: "agent".into(),
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
        // The launcher reads all that comes before this, so there is room soon; if it is gone the error does not matter.
        let account = Account {
            findings: Some(findings),
            ..Account::default()
        };
        self.tell(&Report::Done(Box::new(account)), true);
        process::exit_now(125)
    }

    /// Tells the launcher in the agent's place. On another host that cannot be done: the agent may have ended amid a frame. The launcher's side
    /// sees the stream's end, and what is said here where the remote shell's own messages go.
    fn tell(&self, report: &Report, wait: bool) {
        match (&self.side, report) {
            (Side::Here { control, .. }, report) => {
                let _ = fd::send(control.as_fd(), &report.encode(), wait);
            }
            (Side::There { .. }, Report::Note(text)) => eprintln!("tercio: {text}"),
            (Side::There { .. }, Report::Done(account)) => {
                if let Some(findings) = &account.findings {
                    eprint!("{}", findings.verdict().text());
                }
            }
            (Side::There { .. }, _) => {}
        }
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
