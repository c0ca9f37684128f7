//! What the tests share: jobs of shell scripts, a mark by which everything of a job is found, and what is left of it.
use crate::parts::PART;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tercio::launch::{Job, Outcome, Output, Program};

/// An end of a job must be seen within half a second, and usually is within a few milliseconds; on a machine that has more to do than
/// processors, within as much more as everything takes longer there.
pub fn soon() -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load
        .split(' ')
        .next()
        .and_then(|load| load.parse().ok())
        .unwrap_or(0.0);
    let processors = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    Duration::from_millis(500).mul_f64((load / processors).clamp(1.0, 20.0))
}

/// A variable that all processes of one test's job carry.
pub struct Mark(String);

/// A job that should have ended long ago ends with 124, and its verdict tells where its ranks are.
const HANGS: Duration = Duration::from_secs(50);

const MARK: &str = "TERCIO_TEST_MARK";

impl Mark {
    pub fn new() -> Mark {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Mark(format!(
            "{}.{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ))
    }

    /// `ranks` ranks of a shell script that carry the mark.
    pub fn sh(&self, ranks: usize, script: &str) -> Program {
        Program::new("sh", ranks)
            .args(["-c", script])
            .env(MARK, &self.0)
    }

    /// A job of this executable in a part, with the mark; its output is captured.
    pub fn part(&self, ranks: usize, part: &str, args: &[&str]) -> Job {
        self.part_with(ranks, part, args, &[])
    }

    /// The same, with these variables too.
    pub fn part_with(
        &self,
        ranks: usize,
        part: &str,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Job {
        let me = std::env::current_exe().unwrap();
        let mut program = Program::new(me, ranks)
            .args(args.iter().copied())
            .env(PART, part)
            .env(MARK, &self.0);
        for (name, value) in variables {
            program = program.env(name, value);
        }
        Job::new()
            .program(program)
            .timeout(HANGS)
            .output(Output::Capture { tag: false })
    }

    /// A job of one such program whose output is captured.
    pub fn job(&self, ranks: usize, script: &str) -> Job {
        Job::new()
            .program(self.sh(ranks, script))
            .timeout(HANGS)
            .output(Output::Capture { tag: false })
    }

    /// A job whose ranks are this executable: `others` for all but rank 2, which does `two`. Its output is captured.
    pub fn ranks(&self, ranks: usize, others: &str, two: &str) -> Job {
        let me = std::env::current_exe().unwrap();
        let program = Program::new(me, ranks)
            .args([others, two])
            .env(PART, "rank")
            .env(MARK, &self.0)
            .env("RUST_BACKTRACE", "0");
        Job::new()
            .program(program)
            .timeout(HANGS)
            .output(Output::Capture { tag: false })
    }

    /// The same as a shell's command.
    pub fn rank_command(&self, others: &str, two: &str) -> String {
        format!(
            "RUST_BACKTRACE=0 {PART}=rank '{}' '{others}' '{two}'",
            std::env::current_exe().unwrap().display()
        )
    }

    /// A launcher of its own whose ranks are this executable.
    pub fn launcher_of_ranks(&self, ranks: usize, others: &str, two: &str) -> Launcher {
        self.launcher(
            ranks,
            &format!(
                "export {PART}=rank; exec '{}' '{others}' '{two}'",
                std::env::current_exe().unwrap().display()
            ),
            &[],
        )
    }

    /// Everything alive that carries the mark: process ids and names.
    pub fn alive(&self) -> BTreeSet<String> {
        let wanted = format!("{MARK}={}", self.0);
        let Ok(all) = std::fs::read_dir("/proc") else {
            return BTreeSet::new();
        };
        all.flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| {
                let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment
                    .split(|byte| *byte == 0)
                    .any(|variable| variable == wanted.as_bytes())
            })
            .map(|pid| {
                format!(
                    "{pid} {}",
                    std::fs::read_to_string(format!("/proc/{pid}/comm"))
                        .unwrap_or_default()
                        .trim()
                )
            })
            .collect()
    }

    /// Nothing that carries the mark is alive, now and without waiting for it.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let alive = self.alive();
        assert!(alive.is_empty(), "left of the job: {alive:?}");
    }

    /// A launcher of its own, started by this executable: it and everything below it carry the mark.
    pub fn launcher(&self, ranks: usize, script: &str, options: &[&str]) -> Launcher {
        let mut launcher = self.spawn_launcher(ranks, script, options);
        let mut line = [0; 64];
        let len = launcher.told.read(&mut line).unwrap();
        let line = text(&line[..len]);
        let words: Vec<u32> = line
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        launcher.guard = words.first().copied().unwrap_or(0);
        launcher.agent = words.get(1).copied().unwrap_or(0);
        launcher.ranks = words.get(2..).unwrap_or_default().to_vec();
        launcher
    }

    /// The same, not waited for.
    pub fn spawn_launcher(&self, ranks: usize, script: &str, options: &[&str]) -> Launcher {
        let mut command = Command::new("/proc/self/exe");
        let (alive, hold) = pipe();
        let (told, tell) = pipe();
        let numbers = [hold.as_raw_fd(), tell.as_raw_fd()];
        command
            .arg(ranks.to_string())
            .arg(script)
            .args(options)
            .env(PART, "launcher")
            .env(TELL, tell.as_raw_fd().to_string())
            .env(MARK, &self.0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Every process below inherits the writing end, so that the reading end tells when the last of them is gone.
        // SAFETY: fcntl is a plain system call that may be made between fork and exec.
        unsafe {
            command.pre_exec(move || {
                for number in numbers {
                    libc::fcntl(number, libc::F_SETFD, 0);
                }
                Ok(())
            })
        };
        let child = command.spawn().unwrap();
        drop((hold, tell));
        Launcher {
            child,
            alive,
            told,
            guard: 0,
            agent: 0,
            ranks: Vec::new(),
        }
    }
}

/// A launcher in a process of its own.
pub struct Launcher {
    pub child: Child,
    alive: File,
    told: File,
    pub guard: u32,
    pub agent: u32,
    pub ranks: Vec<u32>,
}

impl Launcher {
    /// Waits until the launcher and everything that it started is gone; how long that took.
    #[track_caller]
    pub fn all_gone(&self, mark: &Mark) -> Duration {
        let begun = Instant::now();
        let mut set = libc::pollfd {
            fd: self.alive.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the set is one valid entry.
        let ready = unsafe { libc::poll(&mut set, 1, 20_000) };
        assert_eq!(ready, 1, "20 s later there is left: {:?}", mark.alive());
        begun.elapsed()
    }

    /// Reads its standard output until `count` lines were `wanted`.
    pub fn await_lines(&mut self, wanted: &str, count: usize) {
        let lines = BufReader::new(self.child.stdout.as_mut().unwrap()).lines();
        let seen = lines
            .map_while(Result::ok)
            .filter(|line| line == wanted)
            .take(count)
            .count();
        assert_eq!(seen, count, "the job ended early");
    }

    /// Waits for its end; its code, and what it wrote to standard error.
    pub fn finish(mut self) -> (Option<i32>, String, String) {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }
}

/// The descriptor on which a launcher tells its guard and agent.
pub const TELL: &str = "TERCIO_TEST_TELL";

/// A pipe's ends, of which a child inherits none unless told.
fn pipe() -> (File, OwnedFd) {
    let mut fds = [-1; 2];
    // SAFETY: `fds` takes the two descriptors, which then belong to nobody else.
    unsafe {
        assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (File::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    }
}

pub fn kill(pid: u32, signal: i32) {
    assert!(pid > 1);
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid as i32, signal) };
}

/// Runs a job and tells how long that took.
pub fn timed(job: Job) -> (Outcome, Duration) {
    let begun = Instant::now();
    let outcome = job.run().unwrap();
    (outcome, begun.elapsed())
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The verdict's text; empty if there is none.
pub fn verdict(outcome: &Outcome) -> String {
    outcome
        .verdict
        .as_ref()
        .map(|verdict| verdict.text())
        .unwrap_or_default()
}

/// A test by its name.
pub fn trial(name: &str, test: fn()) -> libtest_mimic::Trial {
    libtest_mimic::Trial::test(name, move || {
        test();
        Ok(())
    })
}
