//! What waiting costs, as a user notices it: a blocked rank leaves its core to others, and a message reaches it however its sender goes on.
#[path = "jobs/cpu.rs"]
mod cpu;

use cpu::cpu_time;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tercio::request::scope;
use tercio::testing::ranks;
use tercio::traits::*;

fn compute(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[test]
fn a_rank_blocked_in_a_receive_uses_no_cpu() {
    ranks(2, |world| {
        if world.rank() == 0 {
            std::thread::sleep(Duration::from_secs(1));
            world.process_at_rank(1).send(&1_u64);
            return;
        }
        let before = cpu_time();
        let (message, _) = world.process_at_rank(0).receive::<u64>();
        let used = cpu_time() - before;
        assert_eq!(message, 1);
        // At most 1 % after the first 5 ms.
        assert!(used < Duration::from_millis(15), "{used:?} of a second");
    });
}

#[test]
fn ranks_blocked_in_a_barrier_use_no_cpu() {
    ranks(4, |world| {
        if world.rank() == 3 {
            std::thread::sleep(Duration::from_secs(1));
            world.barrier();
            return;
        }
        let before = cpu_time();
        world.barrier();
        let used = cpu_time() - before;
        assert!(used < Duration::from_millis(15), "{used:?} of a second");
    });
}

/// What a rank tells others before it sleeps must not keep them awake, or both wake each other for as long as they wait.
#[test]
fn ranks_that_had_messages_from_each_other_use_no_cpu_while_both_wait() {
    ranks(3, |world| {
        let (rank, third) = (world.rank(), world.process_at_rank(2));
        if rank == 2 {
            std::thread::sleep(Duration::from_secs(1));
            world.process_at_rank(0).send(&1_u64);
            world.process_at_rank(1).send(&1_u64);
            return;
        }
        let other = world.process_at_rank(1 - rank);
        for round in 0..10_u64 {
            if rank == 0 {
                other.send(&round);
                other.receive::<u64>();
            } else {
                other.receive::<u64>();
                other.send(&round);
            }
        }
        let before = cpu_time();
        third.receive::<u64>();
        let used = cpu_time() - before;
        assert!(used < Duration::from_millis(15), "{used:?} of a second");
    });
}

/// The sender leaves the library at once and never comes back while it computes; nothing but its one look at the sleep word, or the
/// sleeper's own limit, brings the message over.
#[test]
fn a_sleeper_gets_what_an_immediate_send_left_it() {
    const ROUNDS: usize = 10;
    let sent = Mutex::new(Instant::now());
    ranks(2, |world| {
        for round in 0..ROUNDS {
            world.barrier();
            if world.rank() == 0 {
                // By now the receiver sleeps.
                std::thread::sleep(Duration::from_millis(20));
                let message = round as u64;
                scope(|scope| {
                    *sent.lock().unwrap() = Instant::now();
                    let request = world.process_at_rank(1).immediate_send(scope, &message);
                    compute(Duration::from_millis(300));
                    request.wait();
                });
            } else {
                let (message, _) = world.process_at_rank(0).receive::<u64>();
                let late = sent.lock().unwrap().elapsed();
                assert_eq!(message, round as u64);
                // 2 ms on a quiet machine; the sender comes back after 300.
                assert!(late < Duration::from_millis(150), "{late:?}");
            }
        }
    });
}

/// One rank works at a time and seven wait; whoever waits gives its core away.
#[test]
fn a_token_goes_round_among_more_ranks_than_cores() {
    ranks(8, |world| {
        let (me, size) = (world.rank(), world.size());
        let next = world.process_at_rank((me + 1) % size);
        let before = world.process_at_rank((me + size - 1) % size);
        let mut token = 0_u64;
        for _ in 0..200 {
            if me == 0 {
                next.send(&token);
                token = before.receive::<u64>().0;
            } else {
                token = before.receive::<u64>().0;
                next.send(&(token + 1));
            }
        }
        if me == 0 {
            assert_eq!(token, 200 * (size as u64 - 1));
        }
    });
}
