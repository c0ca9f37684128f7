//! What goes on between ranks that have much to say at once, as whole jobs.
use crate::parts::PART;
use crate::support::{timed, trial, verdict};
use libtest_mimic::Trial;
use std::thread;
use std::time::Duration;
use tercio::Threading;
use tercio::launch::{Job, Output, Program};
use tercio::traits::*;

pub fn tests() -> Vec<Trial> {
    vec![
        trial(
            "eight_threads_with_eight_peers_exchange_a_million_messages",
            a_million,
        ),
        trial(
            "a_thread_sends_what_another_of_its_rank_waits_for",
            serves_itself,
        ),
    ]
}

/// A job of `ranks` ranks that play `part`; it must end well within 20 s.
fn run(part: &str, ranks: usize) {
    let me = std::env::current_exe().unwrap();
    let program = Program::new(me, ranks)
        .env(PART, part)
        .env("RUST_BACKTRACE", "0");
    let job = Job::new()
        .program(program)
        .timeout(Duration::from_secs(20))
        .output(Output::Capture { tag: false });
    let (outcome, _) = timed(job);
    assert_eq!(outcome.code, 0, "{}", verdict(&outcome));
}

fn a_million() {
    run("million", 8);
}

fn serves_itself() {
    run("serves-itself", 2);
}

/// Thread t of every rank talks to thread t of every rank, itself among them: 8 x 8 x 8 messages a round.
pub fn million() {
    let (universe, level) = tercio::initialize_with_threading(Threading::Multiple).unwrap();
    assert_eq!(level, Threading::Multiple);
    let world = universe.world();
    let ranks = world.size();
    thread::scope(|scope| {
        for thread in 0..8 {
            let world = &world;
            scope.spawn(move || {
                for round in 0..1_000_000 / (8 * 8 * 8) + 1 {
                    let say = |rank: i32| ((round * 8 + thread) * ranks + rank) as u64;
                    for to in 0..ranks {
                        let to = world.process_at_rank(to);
                        to.send_with_tag(&say(world.rank()), thread);
                    }
                    for from in 0..ranks {
                        let source = world.process_at_rank(from);
                        let (heard, _) = source.receive_with_tag::<u64>(thread);
                        assert_eq!(heard, say(from));
                    }
                }
            });
        }
    });
}

/// One thread is blocked in each kind of wait; only then another thread of the same rank sends what ends it. Rank 1 has
/// left by then, or is about to.
pub fn serve_oneself() {
    let (universe, _) = tercio::initialize_with_threading(Threading::Multiple).unwrap();
    let world = universe.world();
    world.barrier();
    if world.rank() == 1 {
        return;
    }
    let me = world.process_at_rank(world.rank());
    let waits: [fn(&tercio::topology::SimpleCommunicator, &Me<'_>); 4] = [
        |_, me| assert_eq!(me.receive::<u64>().0, 7),
        |world, _| assert_eq!(world.any_process().receive::<u64>().0, 7),
        |_, me| {
            me.probe();
            assert_eq!(me.receive_vec::<u64>().0, [7]);
        },
        |world, _| {
            assert_eq!(
                world
                    .any_process()
                    .matched_probe()
                    .0
                    .matched_receive::<u64>()
                    .0,
                7
            )
        },
    ];
    for wait in waits {
        thread::scope(|scope| {
            let blocked = scope.spawn(|| wait(&world, &me));
            // Long enough for it to sleep.
            thread::sleep(Duration::from_millis(50));
            assert!(!blocked.is_finished());
            me.send(&7_u64);
        });
    }
}

type Me<'w> = tercio::topology::Process<'w>;
