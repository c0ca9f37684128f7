//! How criterion measures ranks: the bench executable starts itself as a job. Rank 0 is criterion's; before each sample it tells
//! the others, which sleep in a broadcast meanwhile, how often which operation runs on how many bytes.
use criterion::{BenchmarkId, Criterion, Throughput};
use std::process::ExitCode;
use std::time::Duration;
use tercio::launch::{Job, Program};
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

const RANK: &str = "TERCIO_BENCH_RANK";

/// Something that all ranks do together, in these sizes.
pub struct Operation {
    /// The group's name.
    pub name: &'static str,
    /// Bytes of a message, or of one rank's part.
    pub sizes: &'static [usize],
    /// How many messages one repetition moves.
    pub messages: u64,
    /// This rank's part of so many repetitions on so many bytes, and the time they took.
    pub run: fn(&SimpleCommunicator, usize, u64) -> Duration,
}

/// The whole of a bench executable: a job for each number of ranks.
pub fn main(ranks: &[usize], operations: &[Operation]) -> ExitCode {
    tercio::launch::role();
    if std::env::var_os(RANK).is_none() {
        return start(ranks);
    }
    let universe = tercio::initialize().expect("initialized for the first time");
    let world = universe.world();
    match world.rank() {
        0 => measure(&world, operations),
        _ => follow(&world, operations),
    }
    ExitCode::SUCCESS
}

/// The process that cargo started: the same command line once more, as ranks.
fn start(ranks: &[usize]) -> ExitCode {
    for &count in ranks {
        let program = Program::new(std::env::current_exe().expect("this file"), count)
            .args(std::env::args_os().skip(1))
            .env(RANK, "1");
        match Job::new().program(program).run() {
            Ok(outcome) if outcome.code == 0 => {}
            Ok(outcome) => {
                if let Some(verdict) = &outcome.verdict {
                    eprintln!("{}", verdict.text());
                }
                return ExitCode::from(outcome.code as u8);
            }
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn measure(world: &SimpleCommunicator, operations: &[Operation]) {
    let mut criterion = Criterion::default().configure_from_args();
    for (number, operation) in operations.iter().enumerate() {
        let name = match world.size() {
            2 => operation.name.to_owned(),
            ranks => format!("{} of {ranks}", operation.name),
        };
        let mut group = criterion.benchmark_group(name);
        for &bytes in operation.sizes {
            group.throughput(match operation.messages {
                1 => Throughput::Bytes(bytes as u64),
                messages if bytes <= 8 => Throughput::Elements(messages),
                messages => Throughput::Bytes(messages * bytes as u64),
            });
            group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
                bencher.iter_custom(|times| {
                    tell(world, [number as u64, bytes as u64, times]);
                    (operation.run)(world, bytes, times)
                })
            });
        }
        group.finish();
    }
    criterion.final_summary();
    // No such operation: the end.
    tell(world, [u64::MAX, 0, 0]);
}

/// What comes next, on every rank; all are awake when it is over.
fn tell(world: &SimpleCommunicator, mut next: [u64; 3]) -> [u64; 3] {
    world.process_at_rank(0).broadcast_into(&mut next[..]);
    world.barrier();
    next
}

fn follow(world: &SimpleCommunicator, operations: &[Operation]) {
    loop {
        let [number, bytes, times] = tell(world, [0; 3]);
        let Some(operation) = operations.get(number as usize) else {
            return;
        };
        (operation.run)(world, bytes as usize, times);
    }
}
