//! One benchmark program for every implementation: written for the crate `mpi`, and built against it and against Tercio.
//!
//! `scripts/compare` starts it as a job, `compare FOLDER` (`compare FOLDER apart` where its ranks are on two hosts), and gives each rank r its commands through the pipe FOLDER/in.r; what
//! a rank measured goes back through FOLDER/out.r. Between commands every rank sleeps in a read, so that the jobs of
//! all implementations live side by side and are measured by turns, sample by sample, on the same two cores.
//!
//! | command | answer |
//! |---|---|
//! | `run OP BYTES STEPS REWRITE SYNCED` | ns a step, and the distance of the cores in ns before and after (0 with more than two ranks) |
//! | `limit KIND BYTES COUNT CHUNK RING` | ns: a limit of the two cores, by ranks 0 and 1 alone |
//! | `wake COUNT`, `blocked MS`, `beside STEPS`, `compute STEPS` | a blocked rank: ns to its wake-up, its CPU time; a compute loop beside it |
//! | `memory` | bytes that came on top of the program's own: private ones, and those of the memory shared by the job |
//! | `pid`, `stuck` | for the test of a killed rank; the probes' memory is given back first |
//!
//! Without ranks: `--start COMMAND...` prints how long the command ran, `--spawn N` how long N empty programs took.
use mpi::traits::*;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::Command;

mod idle;
#[path = "../../../launcher/src/bench/probe.rs"]
#[allow(dead_code)] // it is the file of `tercio bench`, which measures more
mod probe;
mod work;

use probe::{Probe, Shape, now};
use work::Work;

type World = mpi::topology::SimpleCommunicator;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--nothing") => {}
        Some("--launch") => drop(mpi::initialize()),
        Some("--start") => start(&arguments[1..]),
        Some("--spawn") => spawn(arguments[1].parse().expect("a number")),
        Some(folder) => serve(folder, arguments.get(1).map(String::as_str) == Some("apart")),
        None => eprintln!("compare: started by scripts/compare"),
    }
}

/// Runs a command and prints the ns from its start to its end.
fn start(command: &[String]) {
    let start = now();
    let status = Command::new(&command[0]).args(&command[1..]).status();
    let time = now() - start;
    let code = status.ok().and_then(|status| status.code()).unwrap_or(-1);
    println!("{time} {code}");
}

/// Starts `count` empty programs, waits for all, and prints the ns.
fn spawn(count: usize) {
    let program = std::env::current_exe().expect("this file");
    let start = now();
    let mut children: Vec<_> = (0..count)
        .map(|_| {
            Command::new(&program)
                .arg("--nothing")
                .spawn()
                .expect("an empty program")
        })
        .collect();
    for child in &mut children {
        child.wait().expect("its end");
    }
    println!("{} 0", now() - start);
}

/// A rank: one command after the other, until the other end of the pipe is closed. Ranks that are `apart` share no memory for the probes.
fn serve(folder: &str, apart: bool) {
    let mut before = idle::Memory::now();
    let universe = mpi::initialize().expect("initialized once");
    let world = universe.world();
    let rank = world.rank();
    let without = idle::Memory::now();
    let mut probe = if apart { None } else { connect(&world, folder) };
    before.add(&without, &idle::Memory::now()); // the probe is the program's own
    let commands = File::open(format!("{folder}/in.{rank}")).expect("the pipe of commands");
    let mut answers = OpenOptions::new()
        .write(true)
        .open(format!("{folder}/out.{rank}"))
        .expect("the pipe of answers");
    writeln!(
        answers,
        "ready {}",
        mpi::environment::library_version()
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default()
    )
    .expect("an answer");
    let mut work = Work::default();
    for line in BufReader::new(commands).lines() {
        let line = line.expect("a command");
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<usize>().expect("a number");
        let answer = match words[0] {
            "run" => {
                work.prepare(&world, words[1], number(2), number(4) != 0, number(5) != 0);
                sample(&world, probe.as_mut(), &mut work, number(3))
            }
            "limit" => match &mut probe {
                Some(probe) => {
                    limit(probe, words[1], number(2), number(3), number(4), number(5)).to_string()
                }
                None => String::new(),
            },
            "wake" => idle::wake(&world, number(1)),
            "blocked" => idle::blocked(&world, number(1)),
            "compute" => idle::compute(number(1)),
            "beside" => idle::beside(&world, number(1)),
            "memory" => idle::memory(&world, &before),
            "pid" => std::process::id().to_string(),
            "stuck" => {
                // Giving 18 MiB back to the system takes 2 ms, and they are the measurement's own.
                drop(probe.take());
                // Everybody but rank 0 waits for it; the one that is killed is another.
                if rank != 0 {
                    world.barrier();
                }
                loop {
                    std::hint::spin_loop();
                }
            }
            other => panic!("no such command: {other}"),
        };
        writeln!(answers, "{answer}").expect("an answer");
    }
}

/// Ranks 0 and 1 share a mapping for the probes, which uses nothing of what is measured.
fn connect(world: &World, folder: &str) -> Option<Probe> {
    if world.size() < 2 {
        return None;
    }
    let path = format!("{folder}/probe");
    let mut probe = None;
    if world.rank() == 0 {
        let made = Probe::create().expect("memory for the probes");
        std::fs::write(&path, made.path()).expect("a file");
        probe = Some(made);
    }
    world.barrier();
    if world.rank() == 1 {
        let place = std::fs::read_to_string(&path).expect("rank 0 wrote it");
        probe = Some(Probe::open(&place).expect("rank 0's mapping"));
    }
    world.barrier();
    probe
}

/// A batch of steps after a quarter as many that warm it up.
fn sample(world: &World, probe: Option<&mut Probe>, work: &mut Work, steps: usize) -> String {
    let mut probe = probe.filter(|_| world.size() == 2);
    let distance = |probe: &mut Option<&mut Probe>| match probe {
        Some(probe) => probe.apart(|probe| probe.slot_latency(8, 300)),
        None => 0.0,
    };
    work.run(world, steps.div_ceil(4));
    world.barrier();
    let before = distance(&mut probe);
    world.barrier();
    let start = now();
    work.run(world, steps);
    let each = (now() - start) as f64 / steps as f64;
    world.barrier();
    let after = distance(&mut probe);
    format!("{each} {before} {after}")
}

/// A limit in ns a message, by ranks 0 and 1.
fn limit(probe: &mut Probe, kind: &str, n: usize, count: usize, chunk: usize, ring: usize) -> f64 {
    let shape = Shape { chunk, ring };
    match kind {
        "handover" => probe.hand_over(count),
        "sleep" => probe.wake(count, idle::ASLEEP_NS),
        "slots" => probe.apart(|probe| probe.slot_latency(n, count)),
        "slotstream" => probe.apart(|probe| probe.slot_stream(n, count)),
        "ring" => probe.apart(|probe| probe.ring_latency(n, shape, count)),
        "ringstream" => probe.apart(|probe| probe.ring_stream(n, shape, count)),
        "copy" => probe.apart(|probe| probe.copy(n, count)),
        "fill" => probe.apart(|probe| probe.fill(n, count)),
        other => panic!("no such limit: {other}"),
    }
}
