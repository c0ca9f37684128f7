//! Long paths: payloads go ahead of their grant. A loopback is one too, if it is said that every path is.
use crate::parts::PART;
use crate::sockets::{hosts, program, run};
use crate::support::trial;
use libtest_mimic::Trial;
use std::time::{Duration, Instant};
use tercio::ErrorClass;
use tercio::Threading;
use tercio::datatype::{MutView, UserDatatype, View};
use tercio::launch::{Job, Program};
use tercio::prelude::*;
use tercio::request::{multiple_scope, scope};
use tercio::topology::{Process, SimpleCommunicator};

/// From so many microseconds of a round trip on a path is long.
const FAR: &str = "TERCIO_FAR";

pub fn tests() -> Vec<Trial> {
    vec![
        trial("order_holds_on_long_paths", || {
            run(hosts(far("mixed", 5, false)))
        }),
        trial("order_holds_on_long_encrypted_paths", || {
            run(Job::new().program(far("mixed", 4, true)))
        }),
        trial("a_rank_may_compute_at_the_end_of_a_long_path", || {
            run(Job::new().program(far("busy", 2, false)))
        }),
        trial("payloads_go_ahead_of_late_receives", || ahead(1, false)),
        trial("payloads_go_ahead_of_late_receives_sealed", || {
            ahead(1, true)
        }),
        trial("payloads_go_ahead_of_the_receives_of_threads", || {
            ahead(4, false)
        }),
    ]
}

fn far(part: &str, ranks: usize, encrypt: bool) -> Program {
    program(part, ranks)
        .env("TERCIO_TRANSPORT", "tcp")
        .env(FAR, "0")
        .env("TERCIO_ENCRYPT", if encrypt { "1" } else { "0" })
}

const THREADS: &str = "TERCIO_TEST_THREADS";

fn ahead(threads: usize, encrypt: bool) {
    let program = far("ahead", 2, encrypt).env(THREADS, threads.to_string());
    run(Job::new().program(program));
}

/// Bytes of message number `number`: 250 MB all together.
fn len(number: usize) -> usize {
    700_001 * (1 + number * 7 % 16)
}

const MESSAGES: usize = 42;
const SHORT: i32 = 1000;
const NEVER: i32 = 1001;
const GAPS: i32 = 1002;

/// Rank 0 sends long messages and then a short one; rank 1 takes the short one first and the long ones in other orders, by each kind of receive.
pub fn go_ahead() {
    assert!(std::env::var_os(PART).is_none());
    let threads: usize = std::env::var(THREADS).unwrap().parse().unwrap();
    let level = match threads {
        1 => Threading::Funneled,
        _ => Threading::Multiple,
    };
    let (universe, _) = tercio::initialize_with_threading(level).unwrap();
    let world = universe.world();
    let peer = world.process_at_rank(1 - world.rank());
    if world.rank() == 0 {
        send(&peer);
    } else {
        receive(&world, &peer, threads);
    }
    // The other way round, with receives that are posted before.
    let data = vec![world.rank() as u8; 20_000_000];
    let mut back = vec![9_u8; data.len()];
    scope(|scope| {
        let receive = peer.immediate_receive_into(scope, &mut back[..]);
        world.barrier();
        peer.send(&data[..]);
        receive.wait();
    });
    assert!(back.iter().all(|byte| i32::from(*byte) == 1 - world.rank()));
    world.barrier();
}

fn send(peer: &Process<'_>) {
    let data: Vec<Vec<u8>> = (0..MESSAGES)
        .map(|number| vec![number as u8; len(number)])
        .collect();
    multiple_scope(MESSAGES, |scope, sends| {
        for (tag, data) in (0..).zip(&data) {
            sends.add(peer.immediate_send_with_tag(scope, &data[..], tag));
        }
        peer.send_with_tag(&7_u64, SHORT);
        sends.wait_all(&mut Vec::new());
    });
    let table: Vec<u32> = (0..3_000_000).collect();
    let column = UserDatatype::vector(1_000_000, 1, 3, &u32::equivalent_datatype());
    // SAFETY: every third of three million.
    let view = unsafe { View::with_count_and_datatype(&table[..], 1, &column) };
    peer.send_with_tag(&view, GAPS);
}

fn receive(world: &SimpleCommunicator, peer: &Process<'_>, threads: usize) {
    let before = resident();
    assert_eq!(peer.receive_with_tag::<u64>(SHORT).0, 7);
    // As much comes as may, and no more.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        assert!(peer.immediate_probe_with_tag(NEVER).is_none());
    }
    let more = (resident() - before) / 1024;
    assert!(more < 110, "{more} MiB of messages that nobody asked for");
    let mut nothing = [0_u8; 8];
    scope(|scope| {
        let request = peer.immediate_receive_into_with_tag(scope, &mut nothing[..], NEVER);
        request.cancel();
        assert!(request.wait().is_cancelled());
    });
    let turn = |thread: usize| {
        for number in (0..MESSAGES).rev().filter(|n| n % threads == thread) {
            take(world, peer, number);
        }
    };
    std::thread::scope(|scope| {
        for thread in 1..threads {
            let turn = &turn;
            scope.spawn(move || turn(thread));
        }
        turn(0);
    });
    let mut table = vec![u32::MAX; 2_000_000];
    let column = UserDatatype::vector(1_000_000, 1, 2, &u32::equivalent_datatype());
    {
        // SAFETY: every second of two million.
        let mut view = unsafe { MutView::with_count_and_datatype(&mut table[..], 1, &column) };
        peer.receive_into_with_tag(&mut view, GAPS);
    }
    for (at, pair) in (0..).zip(table.chunks(2)) {
        assert_eq!(pair, [3 * at, u32::MAX]);
    }
}

/// One message, by a kind of receive that depends on its number.
fn take(world: &SimpleCommunicator, peer: &Process<'_>, number: usize) {
    let (tag, len) = (number as i32, len(number));
    let mut data = vec![255_u8; len];
    let mut good = len;
    match number % 4 {
        0 => drop(peer.receive_into_with_tag(&mut data[..], tag)),
        1 => {
            let (message, status) = peer.matched_probe_with_tag(tag);
            assert_eq!(status.count(u8::equivalent_datatype()) as usize, len);
            // What is on its way goes on coming meanwhile.
            for _ in 0..100 {
                assert!(peer.immediate_probe_with_tag(NEVER).is_none());
            }
            message.matched_receive_into(&mut data[..]);
        }
        2 => {
            good = len / 3;
            let short = &mut data[..good];
            let error = peer.try_receive_into_with_tag(short, tag).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Truncate, "{error}");
        }
        _ => {
            let any = world.any_process();
            any.receive_into_with_tag(&mut data[..], tag);
        }
    }
    assert!(data[..good].iter().all(|byte| *byte == number as u8));
    assert!(data[good..].iter().all(|byte| *byte == 255));
}

/// KiB of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let word = line.unwrap().split_whitespace().nth(1);
    word.unwrap().parse().unwrap()
}
