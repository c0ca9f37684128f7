//! `tercio bench launch`: how long it takes to start and end a job whose ranks only initialize and finalize, beside the
//! spawning and waiting for as many empty programs.
use super::probe::now;
use super::report::{self, Machine, Row, percentile};
use super::{Args, finish, ranks_program};
use std::process::Command;
use tercio::launch::{Job, Output};

/// Jobs that are started, unless `--iters` says otherwise.
const JOBS: usize = 20;

pub fn main(args: &Args) -> i32 {
    let program = match ranks_program(args) {
        Ok(program) => program,
        Err(error) => {
            eprintln!(
                "tercio: cannot find this launcher's own file, which the benchmark starts as its ranks: {error}"
            );
            return 125;
        }
    };
    let (mut jobs, mut spawns) = (Vec::new(), Vec::new());
    for _ in 0..args.iters.unwrap_or(JOBS).max(1) {
        let start = now();
        let outcome = Job::new()
            .program(program.clone())
            .output(Output::Capture { tag: false })
            .run();
        jobs.push((now() - start) as f64);
        if !matches!(&outcome, Ok(outcome) if outcome.code == 0) {
            return finish(outcome);
        }
        spawns.extend(empty_programs(args.ranks));
    }
    let row = Row {
        p50_ns: percentile(&mut jobs, 0.5).unwrap_or(f64::NAN),
        p99_ns: percentile(&mut jobs, 0.99),
        limit: percentile(&mut spawns, 0.5),
        ..Row::default()
    };
    if args.json {
        println!(
            "{}",
            report::json("launch", args.ranks, &Machine::default(), &[row])
        );
    } else {
        println!(
            "{}",
            report::heading("launch", args.ranks, &Machine::default())
        );
        println!("{}", report::line(&row));
    }
    0
}

/// Spawns that many programs that do nothing and waits for them; nothing where there is no such program.
fn empty_programs(count: usize) -> Option<f64> {
    let start = now();
    let mut children = Vec::new();
    for _ in 0..count {
        children.extend(Command::new("/bin/true").spawn());
    }
    let all = children.len() == count;
    for mut child in children {
        let _ = child.wait();
    }
    all.then(|| (now() - start) as f64)
}
