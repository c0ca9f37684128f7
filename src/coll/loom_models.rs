//! Loom runs the rounds, with rings of two, through every interleaving: nobody reads anything but what was said in the round it waits for.
//!
//! The payload is relaxed, as the words of a line are; a buffer's bytes are ordered by the same stores. What a member may overwrite when is
//! the real rule (`cells::passed_before`); announcing and waiting are written out here as in `cells::Run`, with a yield for a wait.
use super::cells::passed_before;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

const RING: u64 = 2;

#[derive(Default)]
struct Member {
    rounds: [AtomicU64; RING as usize],
    payload: [AtomicU64; RING as usize],
    progress: AtomicU64,
}

type Members = Arc<Vec<Member>>;

fn members(count: usize) -> Members {
    Arc::new((0..count).map(|_| Member::default()).collect())
}

fn wait(word: &AtomicU64, value: u64) {
    while word.load(Ordering::Acquire) < value {
        thread::yield_now();
    }
}

/// Says `said` in `round`; this member has read all of the rounds before `done`.
fn announce(all: &Members, me: usize, round: u64, said: u64, done: u64) {
    for (other, member) in all.iter().enumerate() {
        if other != me {
            wait(&member.progress, passed_before(round, RING));
        }
    }
    let at = (round % RING) as usize;
    all[me].payload[at].store(said, Ordering::Relaxed);
    all[me].rounds[at].store(round, Ordering::Release);
    all[me].progress.store(done, Ordering::Release);
}

/// What `member` says in `round`.
fn hear(all: &Members, member: usize, round: u64) -> u64 {
    let at = (round % RING) as usize;
    wait(&all[member].rounds[at], round);
    all[member].payload[at].load(Ordering::Relaxed)
}

#[test]
fn loom_an_exchange_of_two() {
    loom::model(|| {
        let all = members(2);
        let run = |all: Members, me: usize| {
            for round in 1..=3 {
                announce(&all, me, round, 10 * round + me as u64, round);
                let other = 1 - me;
                assert_eq!(hear(&all, other, round), 10 * round + other as u64);
            }
        };
        let other = all.clone();
        let thread = thread::spawn(move || run(other, 1));
        run(all, 0);
        thread.join().unwrap();
    });
}

#[test]
fn loom_a_broadcast_runs_ahead_of_its_reader() {
    loom::model(|| {
        let all = members(2);
        let reader = all.clone();
        let thread = thread::spawn(move || {
            for round in 1..=4 {
                assert_eq!(hear(&reader, 0, round), round);
                reader[1].progress.store(round + 1, Ordering::Release);
            }
        });
        for round in 1..=4 {
            announce(&all, 0, round, round, round);
        }
        thread.join().unwrap();
    });
}

#[test]
fn loom_roots_that_change() {
    loom::model(|| {
        let all = members(2);
        let run = |all: Members, me: usize| {
            for round in 1..=4_u64 {
                let root = (round / 2 % 2) as usize;
                if me == root {
                    announce(&all, me, round, round, round);
                } else {
                    assert_eq!(hear(&all, root, round), round);
                    all[me].progress.store(round + 1, Ordering::Release);
                }
            }
        };
        let other = all.clone();
        let thread = thread::spawn(move || run(other, 1));
        run(all, 0);
        thread.join().unwrap();
    });
}

/// Two members fold a half each: what the second step says is made of what the first one said, and neither is overwritten while it is read.
#[test]
fn loom_halves_of_two() {
    loom::model(|| {
        let all = members(2);
        let run = |all: Members, me: usize| {
            for piece in 0..2_u64 {
                let (first, second) = (2 * piece + 1, 2 * piece + 2);
                let other = 1 - me;
                announce(&all, me, first, 10 * first + me as u64, first);
                let sum = hear(&all, other, first) + 10 * first + me as u64;
                announce(&all, me, second, 100 * sum + me as u64, second);
                let want = 100 * (20 * first + 1) + other as u64;
                assert_eq!(hear(&all, other, second), want);
            }
        };
        let other = all.clone();
        let thread = thread::spawn(move || run(other, 1));
        run(all, 0);
        thread.join().unwrap();
    });
}

/// A contribution that lies in its owner's heap: the owner writes it again as soon as its call is over, and the reader of the call before has read what it was
/// then.
#[test]
fn loom_a_contribution_in_place() {
    loom::model(|| {
        let all = members(2);
        let heap = Arc::new(AtomicU64::new(0));
        let (others, shared) = (all.clone(), heap.clone());
        let thread = thread::spawn(move || {
            for round in 1..=2 {
                assert_eq!(hear(&others, 0, round), round);
                assert_eq!(shared.load(Ordering::Relaxed), 7 * round);
                others[1].progress.store(round + 1, Ordering::Release);
            }
        });
        for round in 1..=2 {
            heap.store(7 * round, Ordering::Relaxed);
            announce(&all, 0, round, round, round);
            wait(&all[1].progress, round + 1);
        }
        thread.join().unwrap();
    });
}
