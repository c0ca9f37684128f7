//! Half the round trip of blocking messages between two ranks, by criterion: `cargo bench`.
//!
//! The bench executable starts itself as the two ranks. Rank 0 is criterion's; before each sample it tells rank 1 how many
//! round trips of how many bytes come, and between samples rank 1 sleeps in a receive.
use criterion::{BenchmarkId, Criterion, Throughput};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tercio::launch::{Job, Program};
use tercio::topology::{Process, SimpleCommunicator};
use tercio::traits::*;

const RANK: &str = "TERCIO_BENCH_RANK";
const SIZES: [usize; 4] = [8, 1 << 10, 64 << 10, 1 << 20];
/// Tags of what rank 0 announces, and of the messages that are measured.
const SAMPLE: i32 = 1;
const DATA: i32 = 2;

fn main() -> ExitCode {
    tercio::launch::role();
    if std::env::var_os(RANK).is_none() {
        return start_ranks();
    }
    let universe = tercio::initialize().expect("initialized for the first time");
    let world = universe.world();
    match world.rank() {
        0 => measure(&world),
        _ => answer(&world.process_at_rank(0)),
    }
    ExitCode::SUCCESS
}

/// The process that cargo started: the same command line once more, as two ranks.
fn start_ranks() -> ExitCode {
    let program = Program::new(std::env::current_exe().expect("this file"), 2)
        .args(std::env::args_os().skip(1))
        .env(RANK, "1");
    match Job::new().program(program).run() {
        Ok(outcome) => {
            if let Some(verdict) = &outcome.verdict {
                eprintln!("{}", verdict.text());
            }
            ExitCode::from(outcome.code as u8)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(world: &SimpleCommunicator) {
    let peer = world.process_at_rank(1);
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("latency");
    for bytes in SIZES {
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter_custom(|round_trips| sample(&peer, bytes, round_trips))
        });
    }
    group.finish();
    criterion.final_summary();
    // No round trips: the end.
    peer.send_with_tag(&[0_u64, 0], SAMPLE);
}

/// One sample of criterion's: so many round trips, of which the half is the latency.
fn sample(peer: &Process, bytes: usize, round_trips: u64) -> Duration {
    let (message, mut reply) = (vec![1_u8; bytes], vec![0_u8; bytes]);
    peer.send_with_tag(&[round_trips, bytes as u64], SAMPLE);
    // Rank 1 is awake when its first answer comes, which is not measured.
    peer.receive_into_with_tag(&mut reply[..], DATA);
    let start = Instant::now();
    for _ in 0..round_trips {
        peer.send_with_tag(&message[..], DATA);
        peer.receive_into_with_tag(&mut reply[..], DATA);
    }
    start.elapsed() / 2
}

fn answer(peer: &Process) {
    loop {
        let mut announced = [0_u64; 2];
        peer.receive_into_with_tag(&mut announced, SAMPLE);
        let [round_trips, bytes] = announced;
        if round_trips == 0 {
            return;
        }
        let mut message = vec![0_u8; bytes as usize];
        peer.send_with_tag(&message[..], DATA);
        for _ in 0..round_trips {
            peer.receive_into_with_tag(&mut message[..], DATA);
            peer.send_with_tag(&message[..], DATA);
        }
    }
}
