//! Ranks that are programs of ours: every way one of them can end, whatever the others do.
use crate::support::{Mark, kill, soon, text, timed, trial, verdict};
use libtest_mimic::Trial;
use std::time::Duration;
use tercio::launch::Outcome;

pub fn tests() -> Vec<Trial> {
    let mut all = vec![
        trial("ranks_that_do_nothing_wrong_end_with_0", nothing),
        trial("a_caught_panic_ends_nothing", caught_panic),
        trial(
            "a_panic_in_a_scope_with_an_open_request_ends_the_job",
            panic_in_scope,
        ),
        trial(
            "a_request_that_is_dropped_alive_ends_the_job",
            request_dropped,
        ),
        trial("a_refused_wait_ends_the_job", refused_wait),
        trial("an_operator_that_panics_ends_the_job", operator_panics),
        trial(
            "a_destructor_that_would_wait_in_a_panic_ends_the_job",
            waiting_destructor,
        ),
        trial("an_abort_has_its_code", abort),
        trial("a_checkpoint_is_written_from_a_signal_thread", checkpoint),
        trial("finalizing_early_ends_those_who_wait", early_finalize),
        trial("a_code_after_goodbye_counts", after_goodbye),
        trial("exiting_without_goodbye_lets_the_others_go_on", no_goodbye),
        trial("a_rank_that_never_initializes_may_exit", never),
        trial("a_claimant_under_a_wrapper_is_watched", wrapper),
        trial("a_second_claimant_is_refused", second_claimant),
        trial("a_rank_killed_amid_messages_is_the_one_accused", amid),
        trial("closed_descriptors_are_told", closed_descriptors),
    ];
    all.extend(own_ends());
    all.extend(kill_matrix());
    all
}

/// Four ranks: `others` for all but rank 2, which does `two`.
fn run(mark: &Mark, others: &str, two: &str) -> (Outcome, Duration) {
    let (outcome, took) = timed(mark.ranks(4, others, two).grace(Duration::from_secs(20)));
    mark.assert_nothing_left();
    (outcome, took)
}

/// What the others are doing: by name, what to write for it, and whether it waits for rank 2.
const OTHERS: [(&str, &str, bool); 9] = [
    ("before_init", "sleep", false),
    ("computing", "init compute", false),
    ("sleeping", "init sleep", false),
    ("in_a_shells_child", "init shell", false),
    ("in_receive", "init receive", true),
    ("in_probe", "init probe", true),
    ("in_barrier", "init barrier", true),
    ("in_all_reduce", "init all-reduce", true),
    ("finalized", "init finalize sleep", false),
];

/// Rank 2 ends in each way, before and after it has initialized, while the others are in each state.
fn own_ends() -> Vec<Trial> {
    let ways = [
        ("exit-3", 3, "exited with code 3"),
        ("panic", 101, "panicked at tests/jobs/parts.rs:"),
        ("segv", 139, "was killed by signal 11 (SIGSEGV"),
        ("kill", 137, "was killed by signal 9 (SIGKILL"),
        ("abrt", 134, "was killed by signal 6 (SIGABRT"),
    ];
    let mut all = Vec::new();
    for (state, others, waits) in OTHERS {
        for (way, code, words) in ways {
            for (when, before) in [
                ("before_init", ""),
                ("after_init", "init "),
                ("after_finalize", "init finalize "),
            ] {
                // A rank that has finalized ends those who wait for it, before it can do anything else.
                if when == "after_finalize" && waits {
                    continue;
                }
                let name = format!(
                    "rank_{}_{when}_while_others_are_{state}",
                    way.replace('-', "_")
                );
                // Without initialize nobody reads what a panic says but the user.
                let words = if way == "panic" && when == "before_init" {
                    "exited with code 101"
                } else {
                    words
                };
                all.push(Trial::test(name, move || {
                    let mark = Mark::new();
                    let (outcome, took) = run(&mark, others, &format!("{before}{way}"));
                    let said = verdict(&outcome);
                    assert_eq!(outcome.code, code, "{said}");
                    assert!(
                        said.starts_with(&format!("tercio: rank 2 of 4 {words}")),
                        "{said}"
                    );
                    assert!(took < soon(), "{took:?}\n{said}");
                    Ok(())
                }));
            }
        }
    }
    all
}

/// Everybody of the job is killed, told to end or stopped from outside in each state.
fn kill_matrix() -> Vec<Trial> {
    let states = [
        ("before_init", "ready sleep"),
        ("computing", "init ready compute"),
        ("in_receive", "init ready receive"),
        ("in_barrier", "init ready barrier"),
        ("finalized", "init finalize ready sleep"),
    ];
    let mut all = Vec::new();
    for (state, script) in states {
        for who in ["rank", "agent", "guard", "launcher"] {
            for (how, signal) in [
                ("kill", libc::SIGKILL),
                ("term", libc::SIGTERM),
                ("stop_and_continue", libc::SIGSTOP),
            ] {
                let name = format!("{how}_the_{who}_while_ranks_are_{state}");
                all.push(Trial::test(name, move || {
                    from_outside(script, who, signal);
                    Ok(())
                }));
            }
        }
    }
    all
}

fn from_outside(script: &str, who: &str, signal: i32) {
    let mark = Mark::new();
    // Rank 2 does not enter the barrier, so that the others stay in it; and receives from itself what nobody sends.
    let two = script.replace("barrier", "sleep");
    let mut launcher = mark.launcher_of_ranks(4, script, &two);
    launcher.await_lines("ready", 4);
    let victim = match who {
        "rank" => launcher.ranks[2],
        "agent" => launcher.agent,
        "guard" => launcher.guard,
        _ => launcher.child.id(),
    };
    kill(victim, signal);
    if signal == libc::SIGSTOP {
        std::thread::sleep(Duration::from_millis(100));
        kill(victim, libc::SIGCONT);
        std::thread::sleep(Duration::from_millis(50));
        assert!(
            launcher.child.try_wait().unwrap().is_none(),
            "a stop ended the job"
        );
        for rank in &launcher.ranks {
            assert!(
                mark.alive()
                    .iter()
                    .any(|process| process.starts_with(&format!("{rank} "))),
                "a stop ended a rank"
            );
        }
        kill(launcher.child.id(), libc::SIGKILL);
    }
    let took = launcher.all_gone(&mark);
    mark.assert_nothing_left();
    assert!(took < soon(), "{took:?}");
    let (code, _, err) = launcher.finish();
    if signal == libc::SIGSTOP {
        return;
    }
    match who {
        "rank" => {
            assert_eq!(code, Some(128 + signal), "{err}");
            assert!(
                err.contains(&format!(
                    "tercio: rank 2 of 4 was killed by signal {signal}"
                )),
                "{err}"
            );
        }
        "agent" | "guard" => {
            assert_eq!(code, Some(125), "{err}");
            assert!(
                err.contains(&format!(
                    "tercio: the job's {who} (process {victim}) was killed by signal {signal}"
                )),
                "{err}"
            );
        }
        _ => assert_eq!(code, None, "{err}"),
    }
}

fn nothing() {
    let mark = Mark::new();
    let (outcome, _) = run(
        &mark,
        "init barrier all-reduce finalize",
        "init barrier all-reduce finalize",
    );
    assert_eq!(
        (outcome.code, outcome.verdict),
        (0, None),
        "{}",
        text(&outcome.stderr)
    );
}

fn caught_panic() {
    let mark = Mark::new();
    let (outcome, _) = run(
        &mark,
        "init barrier finalize",
        "init panic-caught panic-in-thread barrier finalize",
    );
    assert_eq!(
        (outcome.code, outcome.verdict),
        (0, None),
        "{}",
        text(&outcome.stderr)
    );
}

fn panic_in_scope() {
    let mark = Mark::new();
    let (outcome, took) = run(&mark, "init barrier", "init scope");
    let said = verdict(&outcome);
    assert_eq!(outcome.code, 101, "{said}");
    assert!(
        said.starts_with("tercio: rank 2 of 4 panicked at tests/jobs/parts.rs:")
            && said.contains(": left the scope\n"),
        "{said}"
    );
    assert!(took < soon(), "{took:?}");
}

/// Rank 2 panics with `words` in the first line and ends all with 101.
fn ends_with_panic(others: &str, two: &str, words: &str) {
    let mark = Mark::new();
    let (outcome, took) = run(&mark, others, two);
    let said = verdict(&outcome);
    assert_eq!(outcome.code, 101, "{said}");
    let first = said.lines().next().unwrap();
    assert!(
        first.starts_with("tercio: rank 2 of 4 panicked at ") && first.contains(words),
        "{said}"
    );
    assert!(took < soon(), "{took:?}\n{said}");
}

fn request_dropped() {
    ends_with_panic(
        "init barrier",
        "init scope-dropped",
        "the request that was started at tests/jobs/parts.rs:",
    );
}

fn refused_wait() {
    ends_with_panic(
        "init sleep",
        "refused-wait",
        "two threads are in the library at once",
    );
}

fn operator_panics() {
    ends_with_panic("init operator", "init operator-panics", ": in the operator");
}

fn waiting_destructor() {
    ends_with_panic(
        "init receive",
        "init waiting-destructor",
        ": before its destructors",
    );
}

fn abort() {
    let mark = Mark::new();
    let (outcome, took) = run(&mark, "init receive-any", "init abort");
    let said = verdict(&outcome);
    assert_eq!(outcome.code, 7, "{said}");
    assert!(
        said.starts_with("tercio: rank 2 of 4 ") && said.contains("abort"),
        "{said}"
    );
    assert!(took < soon(), "{took:?}");
}

fn checkpoint() {
    let mark = Mark::new();
    let (outcome, took) = run(
        &mark,
        "checkpoint init receive",
        "init compute-a-little exit-3",
    );
    assert_eq!(outcome.code, 3, "{}", verdict(&outcome));
    assert_eq!(
        text(&outcome.stdout),
        "checkpoint\ncheckpoint\ncheckpoint\n"
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
}

fn early_finalize() {
    for others in ["init receive", "init barrier", "init probe"] {
        let mark = Mark::new();
        let (outcome, took) = run(&mark, others, "init finalize");
        let said = verdict(&outcome);
        assert_eq!(outcome.code, 120, "{said}");
        assert!(
            said.contains("rank 2")
                && said.contains("finalized")
                && said.contains("tests/jobs/parts.rs:"),
            "{said}"
        );
        assert!(took < soon(), "{took:?}");
    }
}

fn after_goodbye() {
    let mark = Mark::new();
    let (outcome, _) = run(&mark, "init finalize sleep", "init finalize exit-3");
    assert_eq!(outcome.code, 3, "{}", verdict(&outcome));
}

fn no_goodbye() {
    let mark = Mark::new();
    let (outcome, took) = run(&mark, "init compute-a-little ready finalize", "init exit-0");
    let said = verdict(&outcome);
    assert_eq!(
        (outcome.code, text(&outcome.stdout).as_str()),
        (120, "ready\nready\nready\n"),
        "{said}"
    );
    assert!(
        said.starts_with("tercio: rank 2 of 4 exited with code 0 without finalizing"),
        "{said}"
    );
    assert!(took < Duration::from_millis(200) + soon(), "{took:?}");
    for others in ["init barrier", "init receive", "init all-reduce"] {
        let mark = Mark::new();
        let (outcome, took) = run(&mark, others, "init exit-0");
        let said = verdict(&outcome);
        assert_eq!(outcome.code, 120, "{said}");
        assert!(
            said.starts_with("tercio: rank 2 of 4 exited with code 0 without finalizing"),
            "{said}"
        );
        assert!(
            said.contains("found by   ") && said.contains("tests/jobs/parts.rs:"),
            "{said}"
        );
        assert!(took < soon(), "{took:?}");
    }
}

fn never() {
    let mark = Mark::new();
    let (outcome, _) = run(&mark, "init compute-a-little finalize", "exit-0");
    assert_eq!((outcome.code, outcome.verdict), (0, None));
    for others in ["init barrier", "init receive"] {
        let mark = Mark::new();
        let (outcome, took) = run(&mark, others, "exit-0");
        let said = verdict(&outcome);
        assert_eq!(outcome.code, 120, "{said}");
        assert!(
            said.contains("rank 2") && said.contains("without initializing"),
            "{said}"
        );
        assert!(took < soon(), "{took:?}");
    }
}

fn wrapper() {
    for (way, code) in [("segv", 139), ("exit-3", 3), ("panic", 101)] {
        let mark = Mark::new();
        let me = mark.rank_command("init barrier", &format!("init {way}"));
        let (outcome, took) = timed(mark.job(4, &format!("{me}; sleep 60; true")));
        mark.assert_nothing_left();
        let said = verdict(&outcome);
        assert_eq!(outcome.code, code, "{said}");
        assert!(said.starts_with("tercio: rank 2 of 4 "), "{said}");
        assert!(took < soon(), "{took:?}");
    }
    let mark = Mark::new();
    let me = mark.rank_command("init barrier finalize", "init barrier finalize");
    let outcome = mark.job(4, &format!("{me}; echo after")).run().unwrap();
    assert_eq!(
        (outcome.code, text(&outcome.stdout).as_str()),
        (0, "after\nafter\nafter\nafter\n")
    );
}

fn second_claimant() {
    let mark = Mark::new();
    let me = mark.rank_command("init finalize", "init finalize");
    let outcome = mark.job(1, &format!("{me}; {me}")).run().unwrap();
    assert_ne!(outcome.code, 0);
    let said = text(&outcome.stderr);
    assert!(
        said.contains("rank 0 of job ") && said.contains("already"),
        "{said}"
    );
}

fn closed_descriptors() {
    let mark = Mark::new();
    let outcome = mark.ranks(1, "close-descriptors init", "").run().unwrap();
    assert_ne!(outcome.code, 0);
    let said = text(&outcome.stderr);
    assert!(said.contains("is not open in this process"), "{said}");
}

/// The others see their peer gone in every state of a message, and none of them is taken for the cause.
fn amid() {
    for round in 0..25 {
        let mark = Mark::new();
        let running = mark.ranks(4, "init work", "init work").start().unwrap();
        std::thread::sleep(Duration::from_micros(1300 * round));
        let begun = std::time::Instant::now();
        kill(running.rank_pids()[2], libc::SIGKILL);
        let outcome = running.wait();
        mark.assert_nothing_left();
        let said = verdict(&outcome);
        assert_eq!(outcome.code, 137, "{said}{}", text(&outcome.stderr));
        assert!(
            said.starts_with("tercio: rank 2 of 4 was killed by signal 9"),
            "{said}"
        );
        assert_eq!(text(&outcome.stderr), "");
        assert!(begun.elapsed() < soon(), "{:?}", begun.elapsed());
    }
}
