//! The parts that this executable plays when a test starts it anew, named by a variable.
use crate::support::TELL;
use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::time::Duration;
use tercio::launch::{Bind, Ending, Job, Output, Program, Stdin};

pub const PART: &str = "TERCIO_TEST_PART";

/// Plays the part that the environment names and exits; returns if it names none.
pub fn play() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    // Ranks are other programs, or this one in a part of their own.
    // SAFETY: this process has one thread yet.
    unsafe { std::env::remove_var(PART) };
    let code = match part.as_str() {
        "launcher" => launcher(),
        other => panic!("there is no part {other}"),
    };
    std::process::exit(code)
}

/// A small launcher: RANKS SCRIPT [option...]; options are tag, stdin, forward, verbose, unbound. Exits as `tercio run` would.
fn launcher() -> i32 {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ranks = words[0].parse().unwrap();
    let option = |name: &str| words[2..].iter().any(|word| word == name);
    let stdin = match (option("stdin"), option("forward")) {
        (true, _) => Stdin::Inherit { rank: 0 },
        (_, true) => Stdin::Forward { rank: 0 },
        _ => Stdin::None,
    };
    let job = Job::new()
        .program(Program::new("sh", ranks).args(["-c", &words[1]]))
        .stdin(stdin)
        .bind(if option("unbound") {
            Bind::None
        } else {
            Bind::Core
        })
        .verbose(option("verbose"))
        .grace(Duration::from_secs(2))
        .output(Output::Inherit { tag: option("tag") });
    if option("again") {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = (open(), threads());
        for _ in 0..20 {
            assert_eq!(job.clone().run().unwrap().code, 0);
        }
        assert_eq!((open(), threads()), before);
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        assert_eq!(children, "");
    }
    let running = match job.start() {
        Ok(running) => running,
        Err(error) => {
            eprintln!("tercio: {error}");
            return error.code();
        }
    };
    let tell: i32 = std::env::var(TELL).unwrap().parse().unwrap();
    // SAFETY: the test opened it for this, and nothing else here owns it.
    let mut tell = unsafe { File::from_raw_fd(tell) };
    tell.write_all(format!("{} {}", running.guard_pid(), running.agent_pid()).as_bytes())
        .unwrap();
    if option("end") {
        running.handle().end(Ending::Signal(libc::SIGTERM));
    }
    let outcome = running.wait();
    if let Some(verdict) = outcome.verdict {
        eprint!("{}", verdict.text());
    }
    outcome.code
}
