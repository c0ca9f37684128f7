//! What the ranks of a benchmark do: ranks 0 and 1 probe before and after each sample, all run the operation's loop, and
//! rank 0 prints.
use super::limit::{Limit, Movement, limit};
use super::op::{Op, Work};
use super::probe::{Probe, now};
use super::report::{self, Machine, Placement, Row, Way, percentile};
use super::wire::Wire;
use super::{Args, check};
use tercio::collective::SystemOperation;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

/// Samples of a row; each is a batch of the operation's loop between two probes.
const SAMPLES: usize = 20;
/// How long a batch runs, where `--iters` does not say it.
const BATCH_NS: f64 = 1e6;
/// Single operations that are timed in each sample, for the 99th percentile.
const SINGLES: usize = 50;

/// The whole of a rank of `tercio bench`.
pub fn main(args: &Args, cores: usize) -> i32 {
    let Some(universe) = tercio::initialize() else {
        return 1;
    };
    let world = universe.world();
    if args.op == Some(Op::Launch) {
        return 0;
    }
    // Nothing is shared between hosts but the wire.
    let mut probe = match args.apart || args.no_limit {
        true => None,
        false => connect(&world),
    };
    if args.check_limits {
        if let Some(probe) = &mut probe {
            check::print_own(probe, world.rank() == 0);
        }
        return 0;
    }
    let Some(op) = args.op else { return 1 };
    let two_cores = agreed(
        &world,
        probe
            .as_mut()
            .map_or(0.0, |probe| f64::from(probe.two_cores())),
    ) != 0.0;
    let machine = Machine {
        way: args.way(),
        ..machine(probe.as_mut().filter(|_| two_cores))
    };
    let ranks = world.size() as usize;
    let name = args.op_name();
    if world.rank() == 0 && !args.json {
        println!("{}", report::heading(&name, ranks, &machine));
    }
    let mut wire = match args.way() {
        _ if args.no_limit => None,
        Way::Memory => None,
        Way::Sockets => Wire::connect(&world, args.apart),
        Way::Mpi => Wire::of_mpi(&world),
    };
    let mut rows = Vec::new();
    for bytes in args.sizes_of(op) {
        let bytes = op.rounded(bytes);
        let cores = if two_cores { cores.max(2) } else { 1 };
        let row = Measurement {
            world: &world,
            op,
            bytes,
            limit: limit(op, bytes, ranks, cores, args.rewrite, args.shared),
            two_cores,
        }
        .row(probe.as_mut(), wire.as_mut(), args);
        if world.rank() == 0 && !args.json {
            println!("{}", report::line(&row));
            if args.explain {
                println!("  {}", tercio::environment::path_of_message(1, bytes));
            }
        }
        rows.push(row);
    }
    if world.rank() == 0 && args.json {
        println!("{}", report::json(&name, ranks, &machine, &rows));
    }
    0
}

/// Ranks 0 and 1 share a mapping for the probes: rank 1 opens what rank 0 made.
fn connect(world: &SimpleCommunicator) -> Option<Probe> {
    let probe = match world.rank() {
        0 => {
            let probe = Probe::create().expect("memory for the probes");
            if world.size() > 1 {
                world.process_at_rank(1).send(probe.path().as_bytes());
            }
            Some(probe)
        }
        1 => {
            let (path, _status) = world.process_at_rank(0).receive_vec::<u8>();
            let path = String::from_utf8(path).expect("a path");
            Some(Probe::open(&path).unwrap_or_else(|error| {
                panic!("cannot open the mapping of the probes, {path}: {error}")
            }))
        }
        _ => None,
    };
    // Rank 0 keeps the descriptor open; nobody begins before rank 1 has the mapping.
    world.barrier();
    probe.filter(|_| world.size() > 1)
}

/// Rank 0's value on every rank.
fn agreed(world: &SimpleCommunicator, mut value: f64) -> f64 {
    world.process_at_rank(0).broadcast_into(&mut value);
    value
}

fn machine(probe: Option<&mut Probe>) -> Machine {
    let Some(probe) = probe else {
        return Machine::default();
    };
    probe.apart(|probe| {
        let mut lines: Vec<f64> = (0..9).map(|_| probe.slot_latency(8, 1000)).collect();
        let mut copies: Vec<f64> = (0..9)
            .map(|_| f64::from(1 << 20) / probe.copy(1 << 20, 8))
            .collect();
        Machine {
            core_to_core_ns: percentile(&mut lines, 0.5),
            memcpy_gbps: percentile(&mut copies, 0.5),
            wake_ns: Some(probe.wake(20, 300_000)),
            ..Machine::default()
        }
    })
}

/// One row to be measured, on one rank.
struct Measurement<'m> {
    world: &'m SimpleCommunicator,
    op: Op,
    bytes: usize,
    limit: Limit,
    two_cores: bool,
}

/// What one batch gave, on rank 0.
struct Sample {
    each: f64,
    singles: Vec<f64>,
    limit: f64,
    before: f64,
    after: f64,
}

impl Measurement<'_> {
    fn row(
        mut self,
        mut probe: Option<&mut Probe>,
        mut wire: Option<&mut Wire>,
        args: &Args,
    ) -> Row {
        let mut work = Work::new(self.world, self.op, self.bytes, args.rewrite, args.shared);
        let steps = self.steps(&mut work, args.iters);
        if let (None, Some(wire)) = (probe.as_deref_mut(), wire.as_deref_mut()) {
            self.limit.choose_bound(wire);
        }
        if let Some(probe) = probe.as_deref_mut().filter(|_| self.two_cores) {
            match wire.as_deref_mut() {
                Some(wire) => probe.apart(|_| self.limit.choose_bound(wire)),
                None => probe.apart(|probe| self.limit.choose_shape(probe)),
            }
        }
        let samples: Vec<Sample> = (0..SAMPLES)
            .map(|_| self.sample(&mut work, probe.as_deref_mut(), wire.as_deref_mut(), steps))
            .collect();
        self.summary(samples)
    }

    /// How many steps a batch has, equal on all ranks.
    fn steps(&self, work: &mut Work, iters: Option<usize>) -> usize {
        self.batch(work, 1);
        if let Some(iters) = iters {
            return iters.div_ceil(SAMPLES).max(1);
        }
        let mut steps = 1;
        loop {
            let time = agreed(self.world, self.batch(work, steps) * steps as f64);
            if time > BATCH_NS / 4.0 || steps >= 1 << 20 {
                return ((BATCH_NS / time * steps as f64) as usize).clamp(1, 1 << 20);
            }
            steps *= 2;
        }
    }

    /// The time of one step in a batch of them, in ns; for a collective the mean of all ranks, as OSU's.
    fn batch(&self, work: &mut Work, steps: usize) -> f64 {
        self.world.barrier();
        let start = now();
        work.run(steps);
        let mine = (now() - start) as f64 / steps as f64;
        if self.op.moves_messages() {
            return mine;
        }
        let mut sum = 0.0;
        self.world
            .all_reduce_into(&mine, &mut sum, SystemOperation::sum());
        sum / f64::from(self.world.size())
    }

    fn sample(
        &self,
        work: &mut Work,
        mut probe: Option<&mut Probe>,
        wire: Option<&mut Wire>,
        steps: usize,
    ) -> Sample {
        let two_cores = self.two_cores;
        let distance = |probe: &mut Option<&mut Probe>| match probe {
            Some(probe) if two_cores => probe.apart(|probe| probe.slot_latency(8, 300)),
            _ => 0.0,
        };
        let before = distance(&mut probe);
        let each = self.batch(work, steps) / self.op.per_step();
        let singles = (0..SINGLES.min(steps))
            .map(|_| {
                let start = now();
                work.run(1);
                (now() - start) as f64 / self.op.per_step()
            })
            .collect();
        self.world.barrier();
        let limit = match (probe.as_deref_mut(), wire, self.limit.movement) {
            (None, Some(wire), _) => self.limit.measure_wire(wire),
            (None, None, _) => 0.0,
            (Some(probe), Some(wire), _) if two_cores => {
                probe.apart(|_| self.limit.measure_wire(wire))
            }
            (Some(_), Some(_), _) => 0.0,
            (Some(probe), None, Movement::Turns { .. }) => self.limit.measure(probe),
            (Some(probe), None, _) if two_cores => probe.apart(|probe| self.limit.measure(probe)),
            (Some(_), None, _) => 0.0,
        };
        let after = distance(&mut probe);
        Sample {
            each,
            singles,
            limit,
            before,
            after,
        }
    }

    /// The medians of the samples that were taken in one placement of the cores, the most frequent one.
    fn summary(&self, mut samples: Vec<Sample>) -> Row {
        let placement = self.two_cores.then(|| keep_one_placement(&mut samples));
        let median = |value: fn(&Sample) -> f64| {
            percentile(&mut samples.iter().map(value).collect::<Vec<_>>(), 0.5)
        };
        let p50_ns = median(|sample| sample.each).unwrap_or(f64::NAN);
        let mut singles: Vec<f64> = samples
            .iter()
            .flat_map(|sample| &sample.singles)
            .copied()
            .collect();
        let pairs = if self.op == Op::Rate {
            f64::from(self.world.size() / 2)
        } else {
            1.0
        };
        Row {
            bytes: self.op.has_sizes().then_some(self.bytes),
            p50_ns,
            p99_ns: percentile(&mut singles, 0.99),
            gbps: self
                .op
                .moves_messages()
                .then_some(pairs * self.bytes as f64 / p50_ns),
            msg_per_s: self.op.moves_messages().then_some(pairs * 1e9 / p50_ns),
            limit: median(|sample| sample.limit).filter(|&limit| limit > 0.0),
            placement,
        }
    }
}

/// Drops the samples during which the cores moved, and those taken elsewhere than most. All are kept where too few agree.
fn keep_one_placement(samples: &mut Vec<Sample>) -> Placement {
    let count = |placement| {
        samples
            .iter()
            .filter(|sample| sample.placement() == placement)
            .count()
    };
    let (near, far) = (count(Placement::Near), count(Placement::Far));
    if near.max(far) < samples.len() / 4 {
        return Placement::Mixed;
    }
    let placement = if near >= far {
        Placement::Near
    } else {
        Placement::Far
    };
    samples.retain(|sample| sample.placement() == placement);
    // Siblings on one core and neighbours on one die are both near, and twice apart.
    let mut distances: Vec<f64> = samples.iter().map(|sample| sample.before).collect();
    if let Some(middle) = percentile(&mut distances, 0.5) {
        samples.retain(|sample| sample.before < 1.5 * middle && middle < 1.5 * sample.before);
    }
    placement
}

impl Sample {
    fn placement(&self) -> Placement {
        Placement::of(self.before, self.after)
    }
}
