//! `tercio tune`: measures what messages cost inside of a host and between two, and writes the file from which jobs of several hosts are told.
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tercio::collective::{SystemOperation, reduce_local_into};
use tercio::explain::Costs;
use tercio::launch::{Bind, Host, Job, Output, Program};
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

use crate::costs;
use crate::doctor::named;
use crate::hosts::reach::{Starter, Way};
use crate::sentence::Sentence;

/// The command line of `tercio tune`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The hosts of the cluster, as for tercio run; the first two are measured
    #[arg(short = 'f', long, visible_alias = "machinefile", value_name = "FILE")]
    hostfile: Option<PathBuf>,
    /// The same as a list
    #[arg(short = 'H', long, value_name = "HOST,HOST,...")]
    host: Option<String>,
    /// Where to write, instead of where jobs look
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Reach other hosts by this command, which gets the host and a command line
    #[arg(long, value_name = "COMMAND", default_value = "ssh")]
    rsh_agent: String,
    /// Bring this program along to hosts that do not have it
    #[arg(long)]
    push: bool,
    /// The network between the hosts: its name or an address
    #[arg(long, value_name = "NAME|ADDRESS")]
    interface: Option<String>,
    /// The time in seconds that each host has until its agent is there
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    start_timeout: u64,
    /// This process is one of the ranks that measure
    #[arg(long, hide = true)]
    as_rank: bool,
}

/// How long the measurement may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Ranks on each of the two hosts: as many connections at one time.
const PAIRS: usize = 2;
/// Bytes of a long message.
const LONG: usize = 4 << 20;

/// Measures and writes; the exit code.
pub(crate) fn main(args: Args) -> i32 {
    if args.as_rank {
        return rank();
    }
    match tune(&args) {
        Ok((file, costs)) => {
            print!("{costs}");
            eprintln!("tercio: written to {}", file.display());
            0
        }
        Err(sentence) => {
            eprintln!("tercio: {sentence}");
            sentence.code
        }
    }
}

fn tune(args: &Args) -> Result<(PathBuf, Costs), Sentence> {
    let file = args.output.clone();
    let file = file.or_else(|| costs::place(|name| std::env::var_os(name)));
    let file = file.ok_or_else(|| {
        Sentence::own("there is no directory of settings to write to (HOME is not set); name a file with --output")
    })?;
    let hosts = named(args.hostfile.as_deref(), args.host.as_deref())?;
    let [one, two, ..] = &hosts[..] else {
        return Err(Sentence::own(
            "what messages between hosts cost takes two hosts to measure; name them with --hostfile or --host",
        ));
    };
    if cfg!(debug_assertions) {
        eprintln!("tercio: this is a debug build, whose own time is in what it measures");
    }
    let start_limit = Duration::from_secs(args.start_timeout.max(1));
    let starter = Starter::Shell(args.rsh_agent.clone());
    let way = Way::new(&starter, args.push, start_limit)?;
    // The agent's own file, which is this program; in a directory that every host has.
    let mut program = Program::new("/proc/self/exe", 2 * PAIRS).args(["tune", "--as-rank"]);
    program.wdir = Some("/".into());
    if let Some(interface) = &args.interface {
        program = program.env("TERCIO_INTERFACE", interface);
    }
    let mut job = Job::new()
        .bind(Bind::None)
        .output(Output::Capture { tag: false })
        .start_limit(start_limit)
        .timeout(LIMIT)
        .program(program);
    for (first, entry) in [(0, one), (PAIRS, two)] {
        job = job.host(Host {
            name: entry.name.clone(),
            reach: way.to(entry),
            ranks: (first..first + PAIRS).collect(),
        });
    }
    let outcome = job.run().map_err(|error| Sentence {
        text: error.to_string(),
        code: error.code(),
    })?;
    if let Some(verdict) = &outcome.verdict {
        return Err(Sentence {
            text: verdict.text(),
            code: outcome.code,
        });
    }
    let told = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let costs =
        Costs::parse(&told, "the measurement").map_err(|error| Sentence::own(error.to_string()))?;
    let text = format!(
        "# What messages cost, in nanoseconds: `tercio tune`, between {} and {}.\n# latency: a small message; kib: 1024 bytes; host.kib: of all connections of a host together.\n{costs}",
        one.name, two.name
    );
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(&file, text))
        .map_err(|error| {
            Sentence::own(format!(
                "what messages cost cannot be written to {}: {error}; name another file with --output",
                file.display()
            ))
        })?;
    Ok((file, costs))
}

/// A rank of the measurement: ranks 0 and 1 on one host, 2 and 3 on the other.
fn rank() -> i32 {
    let Some(universe) = tercio::initialize() else {
        return 125;
    };
    let world = universe.world();
    let inside = exchange(&world, &[(0, 1)]);
    let between = exchange(&world, &[(0, 2)]);
    let all = exchange(&world, &[(0, 2), (1, 3)]);
    if world.rank() == 0 {
        let kib = |times: (f64, f64)| (times.1 - times.0) * 1024.0 / LONG as f64;
        let whole = |ns: f64| (ns.round() as u64).max(1);
        let between_kib = whole(kib(between));
        let costs = Costs {
            inside_latency: whole(inside.0),
            inside_kib: whole(kib(inside)),
            between_latency: whole(between.0),
            between_kib,
            // Two connections at most as fast as two, at least as fast as one.
            host_kib: whole(kib(all) / 2.0).clamp(between_kib.div_ceil(2), between_kib),
            combine_kib: whole(combining()),
        };
        print!("{costs}");
    }
    0
}

/// The way of one message between the ranks of these pairs, all at the same time, in nanoseconds: a small one's, and a long one's.
fn exchange(world: &SimpleCommunicator, pairs: &[(i32, i32)]) -> (f64, f64) {
    let me = world.rank();
    let pair = pairs.iter().find(|(a, b)| [*a, *b].contains(&me));
    let of = |bytes: usize, times: usize| {
        let mut data = vec![1_u8; bytes];
        let mut all = Vec::new();
        for _ in 0..times {
            world.barrier();
            let begun = Instant::now();
            if let Some(&(first, second)) = pair {
                let other = world.process_at_rank(if me == first { second } else { first });
                if me == first {
                    other.send(&data[..]);
                    other.receive_into(&mut data[..]);
                } else {
                    other.receive_into(&mut data[..]);
                    other.send(&data[..]);
                }
            }
            all.push(begun.elapsed().as_nanos() as f64 / 2.0);
        }
        all.sort_by(f64::total_cmp);
        all[times / 2]
    };
    (of(8, 301), of(LONG, 15))
}

/// Nanoseconds in which 1024 bytes are combined.
fn combining() -> f64 {
    let (input, mut inout) = (vec![1.0_f64; 8192], vec![1.0_f64; 8192]);
    let mut all: Vec<_> = (0..101)
        .map(|_| {
            let begun = Instant::now();
            reduce_local_into(&input[..], &mut inout[..], SystemOperation::sum());
            begun.elapsed().as_nanos() as f64 / 64.0
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[50]
}
