//! Collectives back to back among 2 and 4 ranks, by criterion: `cargo bench --bench collectives`. Sizes are bytes of one rank's part.
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::Operation;
use tercio::collective::SystemOperation;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

const SIZES: &[usize] = &[8, 1 << 10, 64 << 10, 1 << 20];

fn main() -> ExitCode {
    let of = |name, sizes, run| Operation {
        name,
        sizes,
        messages: 1,
        run,
    };
    support::main(
        &[2, 4],
        &[
            of("barrier", &[0], |world, _, times| {
                repeat(times, || world.barrier())
            }),
            of("bcast", SIZES, |world, bytes, times| {
                let mut buffer = vec![1_u8; bytes];
                let root = world.process_at_rank(0);
                repeat(times, || root.broadcast_into(&mut buffer[..]))
            }),
            of("reduce", SIZES, reduce),
            of("allreduce", SIZES, |world, bytes, times| {
                let (terms, mut sums) = (vec![1.0; bytes / 8], vec![0.0; bytes / 8]);
                repeat(times, || {
                    world.all_reduce_into(&terms[..], &mut sums[..], SystemOperation::sum())
                })
            }),
            of("gather", SIZES, gather),
            of("scatter", SIZES, scatter),
            of("allgather", SIZES, |world, bytes, times| {
                let (part, mut all) = buffers(world, bytes);
                repeat(times, || world.all_gather_into(&part[..], &mut all[..]))
            }),
            of("alltoall", SIZES, |world, bytes, times| {
                let (_, mut all) = buffers(world, bytes);
                let parts = all.clone();
                repeat(times, || world.all_to_all_into(&parts[..], &mut all[..]))
            }),
        ],
    )
}

fn reduce(world: &SimpleCommunicator, bytes: usize, times: u64) -> Duration {
    let (terms, mut sums) = (vec![1.0; bytes / 8], vec![0.0; bytes / 8]);
    let root = world.process_at_rank(0);
    let sum = SystemOperation::sum;
    repeat(times, || match world.rank() {
        0 => root.reduce_into_root(&terms[..], &mut sums[..], sum()),
        _ => root.reduce_into(&terms[..], sum()),
    })
}

fn gather(world: &SimpleCommunicator, bytes: usize, times: u64) -> Duration {
    let (part, mut all) = buffers(world, bytes);
    let root = world.process_at_rank(0);
    repeat(times, || match world.rank() {
        0 => root.gather_into_root(&part[..], &mut all[..]),
        _ => root.gather_into(&part[..]),
    })
}

fn scatter(world: &SimpleCommunicator, bytes: usize, times: u64) -> Duration {
    let (mut part, all) = buffers(world, bytes);
    let root = world.process_at_rank(0);
    repeat(times, || match world.rank() {
        0 => root.scatter_into_root(&all[..], &mut part[..]),
        _ => root.scatter_into(&mut part[..]),
    })
}

/// One rank's part, and those of all ranks.
fn buffers(world: &SimpleCommunicator, bytes: usize) -> (Vec<u8>, Vec<u8>) {
    (vec![1; bytes], vec![0; bytes * world.size() as usize])
}

fn repeat(times: u64, mut operation: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..times {
        operation();
    }
    start.elapsed()
}
