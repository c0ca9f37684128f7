//! Messages between two ranks, by criterion: `cargo bench --bench messages`. Latency is half the round trip of a blocking
//! message; bandwidth is a window of 64 nonblocking messages and an answer, and so is the rate, of 8 bytes.
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::Operation;
use tercio::request::multiple_scope;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

const WINDOW: usize = 64;
const DATA: i32 = 1;
const ANSWER: i32 = 2;

fn main() -> ExitCode {
    let latency = Operation {
        name: "latency",
        sizes: &[
            8,
            256,
            1 << 10,
            4 << 10,
            16 << 10,
            64 << 10,
            1 << 20,
            4 << 20,
        ],
        messages: 1,
        run: latency,
    };
    let bandwidth = Operation {
        name: "bandwidth",
        sizes: &[1 << 10, 4 << 10, 64 << 10, 1 << 20],
        messages: WINDOW as u64,
        run: windows,
    };
    let rate = Operation {
        name: "rate",
        sizes: &[8],
        ..bandwidth
    };
    support::main(&[2], &[latency, bandwidth, rate])
}

fn latency(world: &SimpleCommunicator, bytes: usize, times: u64) -> Duration {
    let (message, mut room) = (vec![1_u8; bytes], vec![0_u8; bytes]);
    let rank = world.rank();
    let peer = world.process_at_rank(1 - rank);
    let start = Instant::now();
    for _ in 0..times {
        if rank == 0 {
            peer.send_with_tag(&message[..], DATA);
        }
        peer.receive_into_with_tag(&mut room[..], DATA);
        if rank == 1 {
            peer.send_with_tag(&message[..], DATA);
        }
    }
    start.elapsed() / 2
}

fn windows(world: &SimpleCommunicator, bytes: usize, times: u64) -> Duration {
    let message = vec![1_u8; bytes];
    let mut room = vec![0_u8; bytes * WINDOW];
    let mut answer = 0_u8;
    let rank = world.rank();
    let peer = world.process_at_rank(1 - rank);
    let start = Instant::now();
    for _ in 0..times {
        multiple_scope(WINDOW, |scope, requests| {
            if rank == 0 {
                for _ in 0..WINDOW {
                    requests.add(peer.immediate_send_with_tag(scope, &message[..], DATA));
                }
            } else {
                for buffer in room.chunks_exact_mut(bytes) {
                    requests.add(peer.immediate_receive_into_with_tag(scope, buffer, DATA));
                }
            }
            requests.wait_all(&mut Vec::with_capacity(WINDOW));
        });
        if rank == 0 {
            peer.receive_into_with_tag(&mut answer, ANSWER);
        } else {
            peer.send_with_tag(&answer, ANSWER);
        }
    }
    start.elapsed()
}
