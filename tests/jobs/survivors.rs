//! Nothing survives: whoever is killed, whatever it left.
use crate::support::{Mark, kill, soon, text, trial, verdict};
use std::time::{Duration, Instant};

pub fn tests() -> Vec<libtest_mimic::Trial> {
    vec![
        trial("orphans_end_with_the_job", orphans),
        trial("a_killed_launcher_leaves_nothing", killed_launcher),
        trial(
            "a_killed_launcher_leaves_nothing_stopped",
            killed_launcher_stopped,
        ),
        trial("a_killed_agent_leaves_nothing", killed_agent),
        trial("a_killed_guard_leaves_nothing", killed_guard),
        trial(
            "a_stopped_agent_is_told_and_does_not_keep_the_job_from_ending",
            stopped_agent,
        ),
        trial("a_stopped_launcher_is_a_pause", stopped_launcher),
        trial("nothing_is_left_in_dev_shm", no_files),
        trial("whoever_is_killed_whenever_nothing_is_left", chaos),
    ]
}

/// Everything that a shell can hide: a background child, a session of its own, a double fork in one, one that ignores TERM.
const HIDING: &str = "sleep 60 & setsid sleep 61 & (setsid sh -c '(sleep 62 &) ; sleep 63 & exit 0' &) ; \
                      setsid sh -c 'trap \"\" TERM HUP INT; (sleep 64; sleep 65) & wait; sleep 66' & ";

fn orphans() {
    for (end, code) in [("exit 0", 0), ("exit 5", 5), ("kill -KILL $$", 137)] {
        let mark = Mark::new();
        let begun = Instant::now();
        let outcome = mark
            .job(3, &format!("{HIDING} sleep 0.1; {end}"))
            .run()
            .unwrap();
        mark.assert_nothing_left();
        assert_eq!(outcome.code, code, "{}", verdict(&outcome));
        assert!(
            begun.elapsed() < Duration::from_millis(250) + soon(),
            "{:?}",
            begun.elapsed()
        );
    }
}

/// A job whose ranks hide things, under a launcher of its own, once they are hidden.
fn hiding(mark: &Mark) -> crate::support::Launcher {
    let launcher = mark.launcher(3, &format!("{HIDING} sleep 67; true"), &[]);
    let until = Instant::now() + Duration::from_secs(10);
    let hidden = |seconds: u32| {
        let wanted = format!("sleep\0{seconds}\0");
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let mine: Vec<String> = mark
            .alive()
            .iter()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        let found =
            all.filter(|entry| mine.contains(&entry.file_name().to_string_lossy().into_owned()));
        found
            .filter(|entry| {
                std::fs::read(entry.path().join("cmdline")).unwrap_or_default() == wanted.as_bytes()
            })
            .count()
    };
    while [60, 61, 62, 63, 64, 67]
        .iter()
        .any(|seconds| hidden(*seconds) < 3)
    {
        assert!(Instant::now() < until, "{:?}", mark.alive());
        std::thread::yield_now();
    }
    launcher
}

fn killed_launcher() {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT] {
        let mark = Mark::new();
        let launcher = hiding(&mark);
        kill(launcher.child.id(), signal);
        let took = launcher.all_gone(&mark);
        mark.assert_nothing_left();
        assert!(took < soon(), "{took:?}");
        launcher.finish();
    }
}

fn killed_launcher_stopped() {
    for who in ["agent", "guard"] {
        let mark = Mark::new();
        let launcher = hiding(&mark);
        kill(
            if who == "agent" {
                launcher.agent
            } else {
                launcher.guard
            },
            libc::SIGSTOP,
        );
        kill(launcher.child.id(), libc::SIGKILL);
        let took = launcher.all_gone(&mark);
        mark.assert_nothing_left();
        assert!(took < soon(), "{who}: {took:?}");
        launcher.finish();
    }
}

fn killed_agent() {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT] {
        let mark = Mark::new();
        let launcher = hiding(&mark);
        kill(launcher.agent, signal);
        let took = launcher.all_gone(&mark);
        mark.assert_nothing_left();
        assert!(took < soon(), "{took:?}");
        let (code, _, err) = launcher.finish();
        assert_eq!(code, Some(125), "{err}");
        assert!(
            err.contains("the job's agent (process")
                && err.contains(&format!("was killed by signal {signal}")),
            "{err}"
        );
    }
}

fn killed_guard() {
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let mark = Mark::new();
        let launcher = hiding(&mark);
        kill(launcher.guard, signal);
        let took = launcher.all_gone(&mark);
        mark.assert_nothing_left();
        assert!(took < soon(), "{took:?}");
        let (code, _, err) = launcher.finish();
        assert_eq!(code, Some(125), "{err}");
        assert!(err.contains("the job's guard (process"), "{err}");
    }
}

fn stopped_agent() {
    let mark = Mark::new();
    let running = mark.job(2, "sleep 60; true").start().unwrap();
    kill(running.agent_pid(), libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(5) + soon());
    let begun = Instant::now();
    running
        .handle()
        .end(tercio::launch::Ending::Signal(libc::SIGTERM));
    let outcome = running.wait();
    mark.assert_nothing_left();
    assert_eq!(outcome.code, 143);
    assert!(begun.elapsed() < soon(), "{:?}", begun.elapsed());
    assert!(
        outcome
            .notes
            .iter()
            .any(|note| note.contains("agent") && note.contains("is stopped")),
        "{:?}",
        outcome.notes
    );
}

fn stopped_launcher() {
    let mark = Mark::new();
    let launcher = mark.launcher(
        2,
        "i=0; while test $i -lt 20000; do echo $i; i=$((i+1)); done",
        &[],
    );
    kill(launcher.child.id(), libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(300));
    kill(launcher.child.id(), libc::SIGCONT);
    let (code, out, err) = launcher.finish();
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out.lines().count(), 40_000);
}

fn no_files() {
    let list = || {
        std::fs::read_dir("/dev/shm")
            .map(|dir| {
                dir.flatten()
                    .map(|entry| entry.file_name())
                    .collect::<Vec<_>>()
            })
            .unwrap_or_default()
    };
    let before = list();
    let mark = Mark::new();
    let outcome = mark.job(4, "ls /dev/shm; kill -KILL $$").run().unwrap();
    assert_eq!(
        (outcome.code, list()),
        (137, before),
        "{}",
        text(&outcome.stdout)
    );
}

/// At some moment, often while the job is still starting, something of it is killed, and then the launcher.
fn chaos() {
    let given = std::env::var("TERCIO_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64
    });
    println!("TERCIO_TEST_SEED={seed}");
    let mut state = seed | 1;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..40 {
        let mark = Mark::new();
        let launcher = mark.spawn_launcher(3, &format!("{HIDING} sleep 67; true"), &[]);
        std::thread::sleep(Duration::from_micros(draw(40_000)));
        let alive: Vec<String> = mark.alive().into_iter().collect();
        let signal = [
            libc::SIGKILL,
            libc::SIGKILL,
            libc::SIGTERM,
            libc::SIGABRT,
            libc::SIGSTOP,
        ][draw(5) as usize];
        let victim = alive.get(draw(alive.len().max(1) as u64) as usize);
        // A copy of the launcher that is not yet the guard, in the first microsecond after fork, is nobody's when it is stopped just there.
        let victim = victim.filter(|process| signal != libc::SIGSTOP || !process.ends_with(" exe"));
        if let Some(pid) = victim.and_then(|process| process.split(' ').next()?.parse().ok()) {
            kill(pid, signal);
        }
        std::thread::sleep(Duration::from_micros(draw(5_000)));
        kill(launcher.child.id(), libc::SIGKILL);
        launcher.all_gone(&mark);
        mark.assert_nothing_left();
        launcher.finish();
    }
}
