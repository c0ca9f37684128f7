//! The operations, as the OSU micro-benchmarks define their loops, through the typed public interface alone.
use std::ops::{Deref, DerefMut};
use tercio::collective::SystemOperation;
use tercio::datatype::SharedBuffer;
use tercio::request::{WaitGuard, scope};
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

/// What `tercio bench` can measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Op {
    /// Blocking send and receive between ranks 0 and 1, half the round trip; further ranks wait in a barrier.
    Latency,
    /// 64 nonblocking sends from rank 0 to rank 1, then an answer.
    Bandwidth,
    /// The same in both directions at once.
    Bibandwidth,
    /// The same one way for pairs of ranks (r and r + N/2): messages a second of all pairs together.
    Rate,
    /// Barriers back to back.
    Barrier,
    /// Broadcasts from rank 0 back to back.
    Bcast,
    /// Sums of doubles to rank 0 back to back.
    Reduce,
    /// Sums of doubles to all ranks back to back.
    Allreduce,
    /// Gathers to rank 0 back to back; the size is that of one rank's part.
    Gather,
    /// Scatters from rank 0 back to back; the size is that of one rank's part.
    Scatter,
    /// Gathers to all ranks back to back; the size is that of one rank's part.
    Allgather,
    /// All-to-all exchanges back to back; the size is that of one pair's part.
    Alltoall,
    /// Start and end of a job whose ranks only initialize and finalize.
    Launch,
}

impl Op {
    /// The sizes that are measured when none are asked for.
    pub fn default_sizes(self) -> &'static [usize] {
        match self {
            Op::Barrier | Op::Launch => &[0],
            Op::Rate => &[8],
            _ => &[8, 1 << 10, 64 << 10, 1 << 20],
        }
    }

    /// Whether sizes mean something.
    pub fn has_sizes(self) -> bool {
        !matches!(self, Op::Barrier | Op::Launch)
    }

    /// Whether rows have a rate of bytes and of messages.
    pub fn moves_messages(self) -> bool {
        matches!(
            self,
            Op::Latency | Op::Bandwidth | Op::Bibandwidth | Op::Rate
        )
    }

    /// Sums need whole doubles.
    pub fn rounded(self, bytes: usize) -> usize {
        if matches!(self, Op::Reduce | Op::Allreduce) {
            bytes.max(8).next_multiple_of(8)
        } else {
            bytes
        }
    }

    /// Messages (or operations) that one step of the loop stands for; a step's time is divided by it.
    pub fn per_step(self) -> f64 {
        match self {
            Op::Latency => 2.0,
            Op::Bandwidth | Op::Rate => WINDOW as f64,
            Op::Bibandwidth => 2.0 * WINDOW as f64,
            _ => 1.0,
        }
    }
}

const WINDOW: usize = 64;
/// Messages of a window that are received at once have a buffer each, up to this much memory together.
const WINDOW_BYTES: usize = 4 << 20;
const DATA: i32 = 1;
const ANSWER: i32 = 2;

/// What is sent from: memory like all other, or such as the other ranks of the host read where it lies.
enum Memory<T> {
    Ordinary(Vec<T>),
    Shared(SharedBuffer<T>),
}

impl<T: Equivalence + Copy> Memory<T> {
    fn new(world: &SimpleCommunicator, len: usize, value: T, shared: bool) -> Memory<T> {
        match shared {
            true => Memory::Shared(SharedBuffer::filled(world, len, value)),
            false => Memory::Ordinary(vec![value; len]),
        }
    }
}

impl<T> Deref for Memory<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Memory::Ordinary(values) => values,
            Memory::Shared(values) => values,
        }
    }
}

impl<T> DerefMut for Memory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Memory::Ordinary(values) => values,
            Memory::Shared(values) => values,
        }
    }
}

/// One row's loop and its buffers on one rank.
pub struct Work<'w> {
    world: &'w SimpleCommunicator,
    op: Op,
    bytes: usize,
    rewrite: bool,
    round: u8,
    send: Memory<u8>,
    receive: Vec<u8>,
    terms: Memory<f64>,
    sums: Vec<f64>,
}

impl<'w> Work<'w> {
    pub fn new(
        world: &'w SimpleCommunicator,
        op: Op,
        bytes: usize,
        rewrite: bool,
        shared: bool,
    ) -> Work<'w> {
        let ranks = world.size() as usize;
        let (send, receive, doubles) = match op {
            Op::Bandwidth | Op::Bibandwidth | Op::Rate => (bytes, bytes * at_once(bytes), 0),
            Op::Reduce | Op::Allreduce => (0, 0, bytes / 8),
            Op::Gather | Op::Allgather => (bytes, bytes * ranks, 0),
            Op::Scatter => (bytes * ranks, bytes, 0),
            Op::Alltoall => (bytes * ranks, bytes * ranks, 0),
            _ => (bytes, bytes, 0),
        };
        Work {
            world,
            op,
            bytes,
            rewrite,
            round: 0,
            send: Memory::new(world, send, 1, shared),
            receive: vec![0; receive],
            terms: Memory::new(world, doubles, 1.0, shared),
            sums: vec![0.0; doubles],
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

    /// The loop of this rank.
    pub fn run(&mut self, steps: usize) {
        let (rank, ranks) = (self.world.rank(), self.world.size());
        match self.op {
            Op::Latency if rank == 0 => self.ping(steps),
            Op::Latency if rank == 1 => self.pong(steps),
            Op::Bandwidth if rank == 0 => self.send_windows(1, steps),
            Op::Bandwidth if rank == 1 => self.receive_windows(0, steps),
            Op::Bibandwidth if rank < 2 => self.exchange_windows(1 - rank, steps),
            Op::Rate if rank < ranks / 2 => self.send_windows(rank + ranks / 2, steps),
            Op::Rate if rank < ranks / 2 * 2 => self.receive_windows(rank - ranks / 2, steps),
            Op::Latency | Op::Bandwidth | Op::Bibandwidth | Op::Rate | Op::Launch => {}
            _ => self.collective(steps),
        }
    }

    fn ping(&mut self, steps: usize) {
        let peer = self.world.process_at_rank(1);
        for _ in 0..steps {
            self.rewrite();
            peer.send_with_tag(&self.send[..], DATA);
            peer.receive_into_with_tag(&mut self.receive[..], DATA);
        }
    }

    fn pong(&mut self, steps: usize) {
        let peer = self.world.process_at_rank(0);
        for _ in 0..steps {
            peer.receive_into_with_tag(&mut self.receive[..], DATA);
            self.rewrite();
            peer.send_with_tag(&self.send[..], DATA);
        }
    }

    fn send_windows(&mut self, peer: i32, steps: usize) {
        let peer = self.world.process_at_rank(peer);
        for _ in 0..steps {
            self.rewrite();
            let message = &self.send[..];
            scope(|scope| {
                let mut requests = Vec::with_capacity(WINDOW);
                for _ in 0..WINDOW {
                    requests.push(WaitGuard::from(
                        peer.immediate_send_with_tag(scope, message, DATA),
                    ));
                }
            });
            peer.receive_with_tag::<u8>(ANSWER);
        }
    }

    fn receive_windows(&mut self, peer: i32, steps: usize) {
        let peer = self.world.process_at_rank(peer);
        let (bytes, at_once) = (self.bytes, at_once(self.bytes));
        for _ in 0..steps {
            for _ in 0..WINDOW / at_once {
                let mut room = &mut self.receive[..];
                scope(|scope| {
                    let mut requests = Vec::with_capacity(at_once);
                    for _ in 0..at_once {
                        let (buffer, rest) = room.split_at_mut(bytes);
                        room = rest;
                        requests.push(WaitGuard::from(
                            peer.immediate_receive_into_with_tag(scope, buffer, DATA),
                        ));
                    }
                });
            }
            peer.send_with_tag(&0_u8, ANSWER);
        }
    }

    fn exchange_windows(&mut self, peer: i32, steps: usize) {
        let peer = self.world.process_at_rank(peer);
        let (bytes, at_once) = (self.bytes, at_once(self.bytes));
        for _ in 0..steps {
            self.rewrite();
            let message = &self.send[..];
            for _ in 0..WINDOW / at_once {
                let mut room = &mut self.receive[..];
                scope(|scope| {
                    let mut requests = Vec::with_capacity(2 * at_once);
                    for _ in 0..at_once {
                        let (buffer, rest) = room.split_at_mut(bytes);
                        room = rest;
                        requests.push(WaitGuard::from(
                            peer.immediate_receive_into_with_tag(scope, buffer, DATA),
                        ));
                    }
                    for _ in 0..at_once {
                        requests.push(WaitGuard::from(
                            peer.immediate_send_with_tag(scope, message, DATA),
                        ));
                    }
                });
            }
        }
    }

    fn collective(&mut self, steps: usize) {
        let (world, op) = (self.world, self.op);
        let root = world.process_at_rank(0);
        let at_root = world.rank() == 0;
        for _ in 0..steps {
            self.rewrite();
            let Work {
                send,
                receive,
                terms,
                sums,
                ..
            } = self;
            match op {
                Op::Barrier => world.barrier(),
                Op::Bcast => root.broadcast_into(&mut send[..]),
                Op::Reduce if at_root => {
                    root.reduce_into_root(&terms[..], &mut sums[..], SystemOperation::sum())
                }
                Op::Reduce => root.reduce_into(&terms[..], SystemOperation::sum()),
                Op::Allreduce => {
                    world.all_reduce_into(&terms[..], &mut sums[..], SystemOperation::sum())
                }
                Op::Gather if at_root => root.gather_into_root(&send[..], &mut receive[..]),
                Op::Gather => root.gather_into(&send[..]),
                Op::Scatter if at_root => root.scatter_into_root(&send[..], &mut receive[..]),
                Op::Scatter => root.scatter_into(&mut receive[..]),
                Op::Allgather => world.all_gather_into(&send[..], &mut receive[..]),
                Op::Alltoall => world.all_to_all_into(&send[..], &mut receive[..]),
                _ => {}
            }
        }
    }
}

/// How many messages of a window are received at the same time: a power of two, so that it divides the window.
fn at_once(bytes: usize) -> usize {
    let fitting = (WINDOW_BYTES / bytes.max(1)).clamp(1, WINDOW);
    1 << fitting.ilog2()
}
