//! The loops that are measured: those of the OSU micro-benchmarks, and a ping-pong beside blocked ranks.
use crate::World;
use mpi::collective::SystemOperation;
use mpi::request::multiple_scope;
use mpi::traits::*;

const WINDOW: usize = 64;
/// Messages of a window that are received at once have a buffer each, up to this much memory together.
const WINDOW_BYTES: usize = 4 << 20;
const DATA: i32 = 1;
const ANSWER: i32 = 2;

/// One operation of one size, and its buffers on this rank.
#[derive(Default)]
pub struct Work {
    op: String,
    bytes: usize,
    rewrite: bool,
    synced: bool,
    round: u8,
    send: Vec<u8>,
    receive: Vec<u8>,
    terms: Vec<f64>,
    sums: Vec<f64>,
}

impl Work {
    /// Buffers for this operation; they stay while it stays the same.
    pub fn prepare(&mut self, world: &World, op: &str, bytes: usize, rewrite: bool, synced: bool) {
        (self.rewrite, self.synced) = (rewrite, synced);
        if self.op == op && self.bytes == bytes {
            return;
        }
        let ranks = world.size() as usize;
        let (send, receive, terms, sums) = match op {
            "bandwidth" | "bibandwidth" => (bytes, bytes * at_once(bytes), 0, 0),
            "reduce" | "allreduce" | "scan" => (0, 0, bytes / 8, bytes / 8),
            "reducescatter" => (0, 0, ranks * bytes / 8, bytes / 8),
            "gather" | "allgather" => (bytes, bytes * ranks, 0, 0),
            "scatter" => (bytes * ranks, bytes, 0, 0),
            "alltoall" => (bytes * ranks, bytes * ranks, 0, 0),
            "barrier" => (0, 0, 0, 0),
            _ => (bytes, bytes, 0, 0),
        };
        *self = Work {
            op: op.to_owned(),
            bytes,
            rewrite,
            synced,
            round: 0,
            send: vec![1; send],
            receive: vec![2; receive],
            terms: vec![1.0; terms],
            sums: vec![2.0; sums],
        };
    }

    /// So many steps of this rank's part.
    pub fn run(&mut self, world: &World, steps: usize) {
        let rank = world.rank();
        match (self.op.as_str(), rank) {
            ("latency", 0) => self.ping(world, steps),
            ("latency", 1) => self.pong(world, steps),
            ("exchange", 0 | 1) => self.both_ways(world, steps),
            ("bandwidth", 0) => self.send_windows(world, steps),
            ("bandwidth", 1) => self.receive_windows(world, steps),
            ("bibandwidth", 0 | 1) => self.exchange_windows(world, steps),
            ("latency" | "exchange" | "bandwidth" | "bibandwidth", _) => {}
            _ => self.collective(world, steps),
        }
    }

    /// Writes the send buffer anew, if that was asked for.
    fn rewrite(&mut self) {
        if self.rewrite {
            self.round = self.round.wrapping_add(1);
            self.send.fill(self.round);
            self.terms.fill(f64::from(self.round));
        }
    }

    fn ping(&mut self, world: &World, steps: usize) {
        let peer = world.process_at_rank(1);
        for _ in 0..steps {
            self.rewrite();
            peer.send_with_tag(&self.send[..], DATA);
            peer.receive_into_with_tag(&mut self.receive[..], DATA);
        }
    }

    fn pong(&mut self, world: &World, steps: usize) {
        let peer = world.process_at_rank(0);
        for _ in 0..steps {
            peer.receive_into_with_tag(&mut self.receive[..], DATA);
            self.rewrite();
            peer.send_with_tag(&self.send[..], DATA);
        }
    }

    fn both_ways(&mut self, world: &World, steps: usize) {
        let peer = world.process_at_rank(1 - world.rank());
        for _ in 0..steps {
            self.rewrite();
            let Work { send, receive, .. } = &mut *self;
            mpi::request::scope(|scope| {
                let request = peer.immediate_receive_into_with_tag(scope, &mut receive[..], DATA);
                peer.send_with_tag(&send[..], DATA);
                request.wait();
            });
        }
    }

    fn send_windows(&mut self, world: &World, steps: usize) {
        let peer = world.process_at_rank(1);
        let mut answer = 0_u8;
        for _ in 0..steps {
            self.rewrite();
            let message = &self.send[..];
            multiple_scope(WINDOW, |scope, requests| {
                for _ in 0..WINDOW {
                    requests.add(peer.immediate_send_with_tag(scope, message, DATA));
                }
                requests.wait_all(&mut Vec::with_capacity(WINDOW));
            });
            peer.receive_into_with_tag(&mut answer, ANSWER);
        }
    }

    fn receive_windows(&mut self, world: &World, steps: usize) {
        let peer = world.process_at_rank(0);
        let (bytes, at_once) = (self.bytes, at_once(self.bytes));
        for _ in 0..steps {
            for _ in 0..WINDOW / at_once {
                let mut room = &mut self.receive[..];
                multiple_scope(at_once, |scope, requests| {
                    for _ in 0..at_once {
                        let (buffer, rest) = room.split_at_mut(bytes);
                        room = rest;
                        requests.add(peer.immediate_receive_into_with_tag(scope, buffer, DATA));
                    }
                    requests.wait_all(&mut Vec::with_capacity(at_once));
                });
            }
            peer.send_with_tag(&0_u8, ANSWER);
        }
    }

    fn exchange_windows(&mut self, world: &World, steps: usize) {
        let peer = world.process_at_rank(1 - world.rank());
        let (bytes, at_once) = (self.bytes, at_once(self.bytes));
        for _ in 0..steps {
            self.rewrite();
            let message = &self.send[..];
            for _ in 0..WINDOW / at_once {
                let mut room = &mut self.receive[..];
                multiple_scope(2 * at_once, |scope, requests| {
                    for _ in 0..at_once {
                        let (buffer, rest) = room.split_at_mut(bytes);
                        room = rest;
                        requests.add(peer.immediate_receive_into_with_tag(scope, buffer, DATA));
                    }
                    for _ in 0..at_once {
                        requests.add(peer.immediate_send_with_tag(scope, message, DATA));
                    }
                    requests.wait_all(&mut Vec::with_capacity(2 * at_once));
                });
            }
        }
    }

    fn collective(&mut self, world: &World, steps: usize) {
        let root = world.process_at_rank(0);
        let at_root = world.rank() == 0;
        let sum = SystemOperation::sum;
        let op = std::mem::take(&mut self.op);
        for _ in 0..steps {
            self.rewrite();
            if self.synced {
                world.barrier();
            }
            let Work {
                send,
                receive,
                terms,
                sums,
                ..
            } = &mut *self;
            match op.as_str() {
                "barrier" => world.barrier(),
                "nothing" => {}
                "bcast" => root.broadcast_into(&mut send[..]),
                "reduce" if at_root => root.reduce_into_root(&terms[..], &mut sums[..], sum()),
                "reduce" => root.reduce_into(&terms[..], sum()),
                "allreduce" => world.all_reduce_into(&terms[..], &mut sums[..], sum()),
                "reducescatter" => {
                    world.reduce_scatter_block_into(&terms[..], &mut sums[..], sum())
                }
                "scan" => world.scan_into(&terms[..], &mut sums[..], sum()),
                "gather" if at_root => root.gather_into_root(&send[..], &mut receive[..]),
                "gather" => root.gather_into(&send[..]),
                "scatter" if at_root => root.scatter_into_root(&send[..], &mut receive[..]),
                "scatter" => root.scatter_into(&mut receive[..]),
                "allgather" => world.all_gather_into(&send[..], &mut receive[..]),
                "alltoall" => world.all_to_all_into(&send[..], &mut receive[..]),
                other => panic!("no such operation: {other}"),
            }
        }
        self.op = op;
    }
}

/// How many messages of a window are received at the same time: a power of two, so that it divides the window.
fn at_once(bytes: usize) -> usize {
    let fitting = (WINDOW_BYTES / bytes.max(1)).clamp(1, WINDOW);
    1 << fitting.ilog2()
}
