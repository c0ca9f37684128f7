//! Which limit stands beside which row: the least that two cores and their memory need for the same movement of bytes.
use super::op::Op;
use super::probe::{Probe, SOURCE, Shape};
use super::wire::Wire;

/// Messages below this travel in slots with a flag; from here on through a ring, in chunks.
const RINGED: usize = 4096;

/// The movement of bytes whose time is a row's limit, and how many of them one operation needs at least.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub movement: Movement,
    pub times: f64,
    /// How much of one writing of the send buffer is added: none, or what falls to one message.
    written: f64,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Movement {
    /// One message, waited for: L0, L(n), P(n).
    Message(usize),
    /// One message of a stream: S0, S(n), streaming P(n).
    Stream(usize),
    /// So many bytes that the other side copies straight out of where they were written: C(n). Where `rewritten` the writing counts.
    InPlace { bytes: usize, rewritten: bool },
    /// Ranks that outnumber the cores: each runs once (Y0 a hand-over), and these bytes are copied by all cores together.
    Turns {
        turns: usize,
        bytes: usize,
        cores: usize,
    },
}

/// The limit of one operation on `bytes` bytes, written before each if `rewrite`, among `ranks` ranks on `cores` cores. `shared`: out of buffers that
/// others read where they lie.
pub fn limit(
    op: Op,
    bytes: usize,
    ranks: usize,
    cores: usize,
    rewrite: bool,
    shared: bool,
) -> Limit {
    use Movement::{Message, Stream, Turns};
    let rounds = ranks.next_power_of_two().trailing_zeros() as f64;
    let others = (ranks - 1) as f64;
    let (movement, times) = match op {
        Op::Latency => (Message(bytes), 1.0),
        Op::Bandwidth | Op::Bibandwidth | Op::Rate => (Stream(bytes), 1.0),
        _ if ranks > cores => {
            let copies = match op {
                Op::Allreduce => 2 * ranks,
                Op::Allgather | Op::Alltoall => ranks * ranks,
                _ => ranks,
            };
            (
                Turns {
                    turns: ranks.div_ceil(cores),
                    bytes: copies * bytes,
                    cores,
                },
                1.0,
            )
        }
        Op::Barrier => (Message(8), rounds),
        Op::Allreduce => (Message(bytes), rounds),
        Op::Bcast | Op::Reduce => (Stream(bytes), 1.0),
        Op::Gather | Op::Scatter => (Stream(bytes), others),
        Op::Allgather | Op::Alltoall => (Message(bytes), others),
        Op::Launch => (
            Turns {
                turns: 0,
                bytes: 0,
                cores,
            },
            0.0,
        ),
    };
    // A window of messages is sent from a buffer that was written once.
    let share = if op == Op::Latency {
        1.0
    } else {
        1.0 / op.per_step()
    };
    let mut written = if rewrite && bytes > 0 { share } else { 0.0 };
    let movement = match movement {
        Message(n) | Stream(n) if shared && n >= RINGED => {
            let rewritten = written == 1.0;
            if rewritten {
                written = 0.0;
            }
            Movement::InPlace {
                bytes: n,
                rewritten,
            }
        }
        other => other,
    };
    Limit {
        movement,
        times,
        written,
        shape: Shape {
            chunk: 4096,
            ring: 256 << 10,
        },
    }
}

impl Limit {
    /// Finds the chunk and the ring that are best for this size where the two cores sit now. Both sides call it.
    pub fn choose_shape(&mut self, probe: &mut Probe) {
        let (n, latency) = match self.movement {
            Movement::Message(n) if n >= RINGED => (n, true),
            Movement::Stream(n) if n >= RINGED => (n, false),
            _ => return,
        };
        let mut best = f64::INFINITY;
        for ring in [128 << 10, 256 << 10, 1 << 20] {
            for chunk in [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10] {
                if chunk > n {
                    continue;
                }
                let shape = Shape { chunk, ring };
                let count = ((1 << 20) / n).clamp(2, 100);
                // Once to warm the ring, then twice: the smaller counts.
                ring_time(probe, n, shape, latency, (ring / n).max(1));
                let time = (0..2)
                    .map(|_| ring_time(probe, n, shape, latency, count))
                    .fold(f64::INFINITY, f64::min);
                if time < best {
                    best = time;
                    self.shape = shape;
                }
            }
        }
    }

    /// Finds how many bytes under way are best for this size on a raw connection. Both sides call it.
    pub fn choose_bound(&self, wire: &mut Wire) {
        wire.choose_bound(|wire| self.raw(wire, 1 << 20));
    }

    /// The limit of sockets in ns, measured now. Both sides call it.
    pub fn measure_wire(&self, wire: &mut Wire) -> f64 {
        self.raw(wire, 4 << 20) * self.times
    }

    fn raw(&self, wire: &mut Wire, bytes: usize) -> f64 {
        match self.movement {
            Movement::Message(n) => wire.latency(n, (bytes / n.max(1)).clamp(2, 200)),
            Movement::Stream(n) => wire.stream(n, (bytes / n.max(1)).clamp(8, 20_000)),
            // Ranks that outnumber the cores have none: a raw connection says nothing of their turns.
            Movement::Turns { .. } => 0.0,
            // Sockets know no such memory.
            Movement::InPlace { bytes: n, .. } => wire.latency(n, (bytes / n.max(1)).clamp(2, 200)),
        }
    }

    /// The limit in ns, measured now. Both sides call it.
    pub fn measure(&self, probe: &mut Probe) -> f64 {
        let time = match self.movement {
            Movement::Message(n) if n < RINGED => probe.slot_latency(n.max(8), 300),
            Movement::Stream(n) if n < RINGED => probe.slot_stream(n.max(8), 5000),
            Movement::Message(n) => {
                ring_time(probe, n, self.shape, true, ((4 << 20) / n).clamp(2, 200))
            }
            Movement::Stream(n) => {
                ring_time(probe, n, self.shape, false, ((16 << 20) / n).clamp(2, 500))
            }
            Movement::InPlace { bytes, rewritten } => {
                let each = bytes.min(SOURCE);
                let time = probe.shared_copy(each, rewritten, ((4 << 20) / each).clamp(2, 200));
                time * bytes as f64 / each as f64
            }
            Movement::Turns {
                turns,
                bytes,
                cores,
            } => {
                let each = bytes.clamp(64, 1 << 20);
                let copying =
                    probe.copy(each, ((1 << 20) / each).clamp(1, 200)) * bytes as f64 / each as f64;
                turns as f64 * probe.hand_over(200) + copying / cores as f64
            }
        };
        let written = match self.movement {
            Movement::Message(n) | Movement::Stream(n) | Movement::InPlace { bytes: n, .. }
                if self.written > 0.0 =>
            {
                probe.fill(n, ((1 << 20) / n.max(1)).clamp(2, 500))
            }
            _ => 0.0,
        };
        time * self.times + written * self.written
    }
}

fn ring_time(probe: &mut Probe, n: usize, shape: Shape, latency: bool, count: usize) -> f64 {
    if latency {
        probe.ring_latency(n, shape, count)
    } else {
        probe.ring_stream(n, shape, count)
    }
}
