//! Ranks that wait for what only they themselves could do, and ranks that look at what can never come.
use crate::support::{Mark, text, trial};
use libtest_mimic::Trial;
use std::thread;
use std::time::{Duration, Instant};
use tercio::launch::Outcome;
use tercio::point_to_point::TrySource;
use tercio::request::{scope, wait_any};
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;
use tercio::{Threading, initialize_with_threading};

pub fn tests() -> Vec<Trial> {
    vec![
        trial("alone_a_wait_for_oneself_is_told", for_oneself),
        trial(
            "alone_threads_that_all_wait_for_each_other_are_told",
            all_threads,
        ),
        trial(
            "alone_threads_of_which_one_may_yet_send_are_left_alone",
            one_sends,
        ),
        trial("alone_a_receive_that_is_tested_may_be_cancelled", tested),
    ]
}

fn run(ranks: usize, mode: &str) -> Outcome {
    let mark = Mark::new();
    let outcome = mark.part(ranks, "alone", &[mode]).run().unwrap();
    mark.assert_nothing_left();
    outcome
}

/// It ends at once, with a sentence that holds these words.
fn ends(ranks: usize, mode: &str, words: &[&str]) {
    let outcome = run(ranks, mode);
    let said = outcome.verdict.map_or_else(String::new, |it| it.text());
    assert_eq!(outcome.code, 120, "{mode}: {said}");
    for word in words.iter().chain(&["tests/jobs/alone.rs:"]) {
        assert!(said.contains(word), "{mode}: {word:?} is not in:\n{said}");
    }
}

/// It ends well; what it said on standard error.
fn passes(ranks: usize, mode: &str) -> String {
    let outcome = run(ranks, mode);
    let verdict = outcome.verdict.map(|it| it.text());
    assert_eq!(outcome.code, 0, "{mode}: {verdict:?}");
    text(&outcome.stderr).to_string()
}

fn for_oneself() {
    for (ranks, mode, words) in [
        (1, "receive", "a receive with tag 3 from itself"),
        (2, "receive", "a receive with tag 3 from itself"),
        (1, "receive-any", "a receive with any tag from itself"),
        (1, "probe", "a probe of its own messages"),
        (2, "matched-probe", "a probe of its own messages"),
        (2, "send", "a send of 4000000 bytes with tag 0 to itself"),
        (1, "synchronous", "a send of 4 bytes with tag 0 to itself"),
        (1, "wait", "a receive with tag 1 from itself"),
        (1, "wait-any", "from itself"),
        (1, "wait-within-scope", "from itself"),
    ] {
        ends(ranks, mode, &[words, "nobody else can satisfy"]);
    }
    // With a time limit nothing is for ever.
    passes(1, "within");
}

fn all_threads() {
    for (ranks, mode, words) in [
        (1, "threads-receive", "all 4 threads of it wait"),
        (2, "threads-receive-any", "all 4 threads of it wait"),
        (2, "thread-receive-any", "all other ranks"),
        (1, "thread-receive", "nobody else can satisfy"),
        (1, "threads-probe", "all 3 threads of it wait"),
    ] {
        ends(ranks, mode, &[words]);
    }
}

fn one_sends() {
    for _ in 0..3 {
        passes(1, "threads-serve");
        passes(2, "threads-serve");
    }
}

fn tested() {
    assert_eq!(passes(2, "test-once"), "");
    let said = passes(2, "test-often");
    for words in [
        "tercio: rank 0 waits in a receive with tag 5 for rank 1, which has finalized",
        "cancel it",
        "tests/jobs/alone.rs:",
    ] {
        assert!(said.contains(words), "{words} is not in:\n{said}");
    }
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// The part of a rank.
pub fn alone() {
    let mode = std::env::args().nth(1).unwrap();
    if mode.contains("thread") {
        return with_threads(&mode);
    }
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    if mode.starts_with("test") {
        return if world.rank() == 0 {
            test(&world, &mode);
        };
    }
    if world.rank() != 0 {
        // Alive until the end.
        world.barrier();
        return;
    }
    let me = world.this_process();
    let mut number = 0;
    match mode.as_str() {
        "receive" => drop(me.receive_with_tag::<i32>(3)),
        "receive-any" => drop(world.any_process().receive::<i32>()),
        "probe" => drop(me.probe()),
        "matched-probe" => drop(me.matched_probe()),
        "send" => me.send(&vec![1; 1_000_000][..]),
        "synchronous" => me.synchronous_send(&1),
        "wait" => scope(|scope| {
            me.immediate_receive_into_with_tag(scope, &mut number, 1)
                .wait();
        }),
        "wait-any" => {
            let mut other = 0;
            scope(|scope| {
                let first = me.immediate_receive_into(scope, &mut number);
                let second = world
                    .any_process()
                    .immediate_receive_into(scope, &mut other);
                wait_any(&mut vec![first, second]);
            });
        }
        "wait-within-scope" => scope(|scope| {
            let _guard =
                tercio::request::WaitGuard::from(me.immediate_receive_into(scope, &mut number));
        }),
        "within" => {
            let limit = Duration::from_millis(50);
            let error = me.within(limit).try_receive::<i32>().unwrap_err();
            assert_eq!(error.class(), tercio::ErrorClass::TimeLimit, "{error}");
        }
        other => panic!("there is no mode {other}"),
    }
    world.barrier();
}

/// Rank 1 leaves; rank 0 looks at a receive from it, and takes it back.
fn test(world: &SimpleCommunicator, mode: &str) {
    let mut number = 7;
    let until =
        Instant::now() + Duration::from_millis(if mode == "test-often" { 2500 } else { 300 });
    scope(|scope| {
        let mut receive =
            world
                .process_at_rank(1)
                .immediate_receive_into_with_tag(scope, &mut number, 5);
        while Instant::now() < until {
            receive = receive.test().expect_err("nobody sends");
        }
        receive.cancel();
        assert!(receive.wait().is_cancelled());
    });
    assert_eq!(number, 7);
}

fn with_threads(mode: &str) {
    let (universe, _) = initialize_with_threading(Threading::Multiple).unwrap();
    let world = universe.world();
    if world.rank() == 1 {
        return;
    }
    let (me, any) = (world.this_process(), world.any_process());
    thread::scope(|threads| match mode {
        "thread-receive" => drop(me.receive::<i32>()),
        "thread-receive-any" => drop(any.receive::<i32>()),
        "threads-receive" => {
            for tag in 1..4 {
                threads.spawn(move || me.receive_with_tag::<i32>(tag));
            }
            me.synchronous_send(&1);
        }
        "threads-receive-any" => {
            for tag in 1..4 {
                threads.spawn(move || any.receive_with_tag::<i32>(tag));
            }
            any.receive::<i32>();
        }
        "threads-probe" => {
            threads.spawn(move || any.probe_with_tag(8));
            threads.spawn(move || me.matched_probe_with_tag(9));
            me.receive::<i32>();
        }
        "threads-serve" => {
            // A ring of threads, of which one is asleep elsewhere most of the time.
            for tag in 0..4 {
                threads.spawn(move || {
                    for _ in 0..50 {
                        let (number, _) = any.receive_with_tag::<i32>(tag);
                        match number % 200 {
                            199 => {}
                            _ => me.send_with_tag(&(number + 1), (tag + 1) % 4),
                        }
                    }
                });
            }
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(100));
            }
            me.send_with_tag(&0, 0);
        }
        other => panic!("there is no mode {other}"),
    });
}
