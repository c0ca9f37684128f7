//! Instructions of a small message, counted: `cargo bench --bench counting`. A count is the same on every machine of a kind, so, other
//! than a time, it can be held to a bound: a change that makes the way longer is found here.
//!
//! Two ranks as two threads over memory of the heap take turns: one's messages are all in the lane before the other begins, and valgrind
//! (callgrind) counts the instructions of one rank's part alone. With arguments that are not meant for this program (those of criterion)
//! every part runs once, without valgrind and without a bound.
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::Barrier;
use tercio::request::scope;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

/// Messages of a count: fewer than a lane has slots.
const MESSAGES: usize = 32;
/// Rounds before the one that is counted.
const WARM: usize = 20;
const TAG: i32 = 7;

/// A part of a message's way on one rank, and the most instructions it may take for each message of 8 bytes.
struct Part {
    name: &'static str,
    bound: u64,
}

const PARTS: [Part; 5] = [
    Part {
        name: "send",
        bound: 130,
    },
    Part {
        name: "receive",
        bound: 190,
    },
    Part {
        name: "immediate_send_and_wait",
        // Six of them ask for a slot ahead, without which the stores of two messages fill the store buffer.
        bound: 205,
    },
    Part {
        name: "immediate_receive",
        bound: 230,
    },
    Part {
        name: "wait_of_receive",
        bound: 280,
    },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [count, name] if count == "--count" => {
            play(name);
            ExitCode::SUCCESS
        }
        // What cargo itself adds.
        [] => judge(),
        [bench] if bench == "--bench" => judge(),
        _ => {
            PARTS.iter().for_each(|part| play(part.name));
            ExitCode::SUCCESS
        }
    }
}

/// Counts all parts, and compares.
fn judge() -> ExitCode {
    let mut exceeded = false;
    println!("instructions a message of 8 bytes");
    for part in &PARTS {
        let count = count(part.name) / MESSAGES as u64;
        let verdict = if count > part.bound { "  TOO MANY" } else { "" };
        println!(
            "{:<24} {count:>5}  at most {:>5}{verdict}",
            part.name, part.bound
        );
        exceeded |= count > part.bound;
    }
    if exceeded {
        println!("the way of a small message became longer; callgrind_annotate shows where");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs this program under callgrind; the instructions inside of [`counted`].
fn count(part: &str) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let out = program.with_file_name(format!("counting-{part}.callgrind"));
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*counted*",
        ])
        .arg("--dump-instr=yes")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["--count", part])
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot start valgrind ({error}); it is a package of that name")
        });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{part} under valgrind: {said}");
    let line = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, collected) =
        line.unwrap_or_else(|| panic!("valgrind did not say what it counted: {said}"));
    collected.trim().parse().expect("a number of instructions")
}

/// One part; the last round of its own rank is counted.
fn play(part: &str) {
    let turns = Barrier::new(2);
    tercio::testing::ranks(2, |world| {
        for round in 0..=WARM {
            turn(part, &world, &turns, round == WARM);
        }
    });
}

/// Messages from rank 0 to rank 1, which begins when all are there.
fn turn(part: &str, world: &SimpleCommunicator, turns: &Barrier, last: bool) {
    let counts = |name| last && part == name;
    if world.rank() == 0 {
        if part == "immediate_send_and_wait" {
            do_or_count(last, || immediate_sends(world));
        } else {
            do_or_count(counts("send"), || sends(world));
        }
        turns.wait();
    } else {
        turns.wait();
        if part == "immediate_receive" || part == "wait_of_receive" {
            let mut rooms = [0_u64; MESSAGES];
            scope(|scope| {
                let mut requests = Vec::with_capacity(MESSAGES);
                let peer = world.process_at_rank(0);
                do_or_count(counts("immediate_receive"), || {
                    for room in &mut rooms {
                        requests.push(peer.immediate_receive_into_with_tag(scope, room, TAG));
                    }
                });
                do_or_count(counts("wait_of_receive"), || {
                    for request in requests {
                        request.wait();
                    }
                });
            });
            assert!((0..).zip(&rooms).all(|(i, &room)| i == room));
        } else {
            do_or_count(counts("receive"), || receives(world));
        }
    }
    turns.wait();
}

fn do_or_count(count: bool, work: impl FnOnce()) {
    if count { counted(work) } else { work() }
}

/// Callgrind counts while this runs, by its name.
#[inline(never)]
fn counted(work: impl FnOnce()) {
    work();
    black_box(());
}

fn sends(world: &SimpleCommunicator) {
    let peer = world.process_at_rank(1);
    for value in 0..MESSAGES as u64 {
        peer.send_with_tag(&value, TAG);
    }
}

fn receives(world: &SimpleCommunicator) {
    let peer = world.process_at_rank(0);
    let mut value = 0_u64;
    for expected in 0..MESSAGES as u64 {
        peer.receive_into_with_tag(&mut value, TAG);
        assert_eq!(value, expected);
    }
}

fn immediate_sends(world: &SimpleCommunicator) {
    let peer = world.process_at_rank(1);
    let values: [u64; MESSAGES] = core::array::from_fn(|i| i as u64);
    scope(|scope| {
        let mut requests = Vec::with_capacity(MESSAGES);
        for value in &values {
            requests.push(peer.immediate_send_with_tag(scope, value, TAG));
        }
        for request in requests {
            request.wait();
        }
    });
}
