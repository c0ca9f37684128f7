//! Ranks that wait for each other through sockets rest, and their threads hear of what others of them complete.
use crate::cpu::cpu_time;
use crate::parts::PART;
use crate::support::{timed, trial, verdict};
use libtest_mimic::Trial;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tercio::Threading;
use tercio::launch::{Job, Output, Program};
use tercio::request::scope;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

pub fn tests() -> Vec<Trial> {
    vec![
        trial("ranks_that_wait_for_sockets_use_no_cpu", || {
            run("rests", "tcp")
        }),
        trial("a_rank_short_of_files_rests_and_goes_on", || {
            run("short-of-files", "tcp")
        }),
        trial("a_thread_hears_what_others_wrote_and_completed", || {
            run("hears", "tcp")
        }),
        trial("a_thread_goes_on_with_what_was_there_already", || {
            run("goes-on", "auto")
        }),
    ]
}

fn run(part: &str, transport: &str) {
    let me = std::env::current_exe().unwrap();
    let program = Program::new(me, 2)
        .env(PART, part)
        .env("RUST_BACKTRACE", "0")
        .env("TERCIO_TRANSPORT", transport);
    let job = Job::new()
        .program(program)
        .timeout(Duration::from_secs(50))
        .output(Output::Capture { tag: false });
    let (outcome, _) = timed(job);
    assert_eq!(outcome.code, 0, "{}", verdict(&outcome));
}

/// Rank 0 waits for a message that comes in 400 ms.
fn rest(world: &SimpleCommunicator, after: &str) {
    let other = world.process_at_rank(1 - world.rank());
    if world.rank() == 1 {
        sleep(Duration::from_millis(400));
        return other.send(&1_u8);
    }
    let before = cpu_time();
    other.receive::<u8>();
    let used = cpu_time() - before;
    assert!(
        used < Duration::from_millis(40),
        "{used:?} of 400 ms {after}"
    );
}

/// After a first call that nobody took for long, and after messages for which the socket had no room.
pub fn rests() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let (rank, other) = (world.rank(), world.process_at_rank(1 - world.rank()));
    if rank == 1 {
        // Longer than a caller tries one address.
        sleep(Duration::from_millis(900));
        other.receive::<u8>();
    } else {
        other.send(&1_u8);
    }
    rest(&world, "after a late first call");
    let mut bytes = vec![0_u8; 500_000];
    for _ in 0..8 {
        for _ in 0..6 {
            if rank == 1 {
                sleep(Duration::from_millis(1));
                other.receive_into(&mut bytes[..]);
            } else {
                other.send(&bytes[..]);
            }
        }
        rest(&world, "after a socket was full");
    }
}

/// Rank 1 calls for the first time while rank 0 has no descriptor left to accept it with.
pub fn short_of_files() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    if world.rank() == 1 {
        sleep(Duration::from_millis(200));
        return world.process_at_rank(0).send(&1_u8);
    }
    let few = libc::rlimit {
        rlim_cur: 100,
        rlim_max: 100,
    };
    // SAFETY: reads one structure.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &few) }, 0);
    let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(!files.is_empty());
    std::thread::spawn(|| {
        sleep(Duration::from_millis(700));
        drop(files);
    });
    let before = cpu_time();
    world.process_at_rank(1).receive::<u8>();
    let used = cpu_time() - before;
    assert!(used < Duration::from_millis(100), "{used:?} of 700 ms");
}

/// What a thread that sleeps through it learns of later, by itself.
const LATE: Duration = Duration::from_millis(90);
const ROUNDS: usize = 20;

/// One thread of rank 0 waits for the last message while `act` goes `ROUNDS` times with its peer.
fn beside_a_waiting_thread(act: impl Fn(&SimpleCommunicator)) {
    let (universe, level) = tercio::initialize_with_threading(Threading::Multiple).unwrap();
    assert_eq!(level, Threading::Multiple);
    let world = universe.world();
    world.barrier();
    let (rank, other) = (world.rank(), world.process_at_rank(1 - world.rank()));
    if rank == 1 {
        for _ in 0..ROUNDS {
            act(&world);
        }
        // Until then rank 0's other thread waits.
        other.receive_with_tag::<u8>(8);
        return other.send_with_tag(&1_u8, 9);
    }
    std::thread::scope(|threads| {
        threads.spawn(|| other.receive_with_tag::<u8>(9));
        let mut late = 0;
        for _ in 0..ROUNDS {
            // The other thread sleeps by now.
            sleep(Duration::from_millis(20));
            let begun = Instant::now();
            act(&world);
            late += usize::from(begun.elapsed() > LATE);
        }
        other.send_with_tag(&1_u8, 8);
        assert!(late < ROUNDS / 2, "{late} of {ROUNDS} were late");
    });
}

/// Messages for which the socket has no room at first, while another thread polls.
pub fn hears() {
    beside_a_waiting_thread(|world| {
        let other = world.process_at_rank(1 - world.rank());
        let mut bytes = vec![0_u8; 500_000];
        if world.rank() == 1 {
            // The socket fills before it is read.
            sleep(Duration::from_millis(30));
        }
        for _ in 0..6 {
            if world.rank() == 1 {
                other.receive_into_with_tag(&mut bytes[..], 1);
            } else {
                other.send_with_tag(&bytes[..], 1);
            }
        }
        if world.rank() == 1 {
            other.send_with_tag(&1_u8, 2);
        } else {
            other.receive_with_tag::<u8>(2);
        }
    });
}

/// A schedule whose first message lies there already.
pub fn goes_on() {
    beside_a_waiting_thread(|world| {
        let mut value = [0_u8; 8];
        scope(|scope| {
            let root = world.process_at_rank(1);
            root.immediate_broadcast_into(scope, &mut value[..]).wait();
        });
    });
}
