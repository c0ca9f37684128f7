//! `tercio bench --check-limits`: are the probes as good as programs in C that do the same? Both print lines of a name, a
//! placement and a value; they run by turns, and the lowest tenths of the same placement are compared. Each value is a median
//! already, but how two to five lines of a message travel (L(64), L(256)) differs from process to process on both sides, by a
//! factor of 1.8: a limit is the faster of the two ways. A probe that is faster than C is only a stricter limit.
use super::probe::{Probe, Shape};
use super::report::{Placement, percentile};
use super::{Args, finish, ranks_program};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tercio::launch::{Job, Output};

/// How often each side runs, at most.
const ROUNDS: usize = 20;
/// A figure that one side saw less often in a placement says nothing.
const ENOUGH: usize = 5;
/// What a probe may be slower by.
const TOLERANCE: f64 = 0.1;
const SOURCES: [&str; 3] = ["slots.c", "rings.c", "wakes.c"];
/// Samples of each figure in one run, here as in C.
const BATCHES: usize = 7;

type Values = BTreeMap<(String, String), Vec<f64>>;

/// The launcher's part: compiles the C programs, runs them and our own probes by turns, and compares.
pub fn main() -> i32 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/limits");
    let build = std::env::temp_dir().join(format!("tercio-limits-{}", std::process::id()));
    let result = compile(&folder, &build).map(|programs| compare(&programs));
    let _ = std::fs::remove_dir_all(&build);
    match result {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("tercio: {sentence}");
            125
        }
    }
}

fn compile(folder: &Path, build: &Path) -> Result<Vec<PathBuf>, String> {
    std::fs::create_dir_all(build)
        .map_err(|error| format!("cannot make {}: {error}", build.display()))?;
    let mut programs = Vec::new();
    for source in SOURCES {
        let program = build.join(source.trim_end_matches(".c"));
        let path = folder.join(source);
        let status = Command::new("cc")
            .args(["-O2", "-march=native", "-o"])
            .arg(&program)
            .arg(&path)
            .status();
        let status = status.map_err(|error| format!("cannot start the C compiler cc: {error}"))?;
        if !status.success() {
            return Err(format!(
                "cc could not compile {}; the limits can be checked only beside the sources",
                path.display()
            ));
        }
        programs.push(program);
    }
    Ok(programs)
}

fn compare(programs: &[PathBuf]) -> i32 {
    let args = Args {
        op: None,
        ranks: 2,
        sizes: Vec::new(),
        iters: None,
        rewrite: false,
        no_limit: false,
        shared: false,
        explain: false,
        transport: "shm".into(),
        json: false,
        check_limits: true,
        as_rank: None,
        apart: false,
        hosts: None,
        hostfile: None,
        rsh_agent: None,
        bind_to: None,
        mpiexec: None,
    };
    let (mut theirs, mut ours) = (Values::new(), Values::new());
    for _ in 0..ROUNDS {
        for program in programs {
            match Command::new(program).output() {
                Ok(output) => add(&output.stdout, &mut theirs),
                Err(error) => eprintln!("tercio: cannot run {}: {error}", program.display()),
            }
        }
        let job = ranks_program(&args).map(|program| {
            Job::new()
                .program(program)
                .output(Output::Capture { tag: false })
                .run()
        });
        match job {
            Ok(Ok(outcome)) if outcome.code == 0 => add(&outcome.stdout, &mut ours),
            Ok(outcome) => return finish(outcome),
            Err(error) => {
                eprintln!("tercio: cannot find this launcher's own file: {error}");
                return 125;
            }
        }
    }
    let mut slower = false;
    println!(
        "{:<28}{:<8}{:>12}{:>12}{:>8}",
        "limit", "cores", "C, ns", "here, ns", "here/C"
    );
    for ((name, placement), mut values) in theirs {
        let mut here = ours
            .remove(&(name.clone(), placement.clone()))
            .unwrap_or_default();
        if values.len().min(here.len()) < ENOUGH {
            continue;
        }
        let c = percentile(&mut values, 0.1).unwrap_or(f64::NAN);
        let rust = percentile(&mut here, 0.1).unwrap_or(f64::NAN);
        let off = rust > c * (1.0 + TOLERANCE);
        slower |= off;
        let remark = if off { "  slower" } else { "" };
        println!(
            "{name:<28}{placement:<8}{c:>12.1}{rust:>12.1}{:>8.2}{remark}",
            rust / c
        );
    }
    i32::from(slower)
}

/// Takes in what one run printed.
fn add(output: &[u8], values: &mut Values) {
    for line in String::from_utf8_lossy(output).lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(placement), Some(Ok(value))) =
            (words.next(), words.next(), words.next().map(str::parse))
        {
            values
                .entry((name.to_owned(), placement.to_owned()))
                .or_default()
                .push(value);
        }
    }
}

/// The ranks' part: the same figures by our own probes, in the same form as the C programs print them.
pub fn print_own(probe: &mut Probe, print: bool) {
    let ring = |chunk, ring| Shape { chunk, ring };
    probe.apart(|probe| {
        let mut figure = |name: &str, measure: &mut dyn FnMut(&mut Probe) -> f64| {
            let mut kept = [Vec::new(), Vec::new()];
            measure(probe);
            for _ in 0..BATCHES {
                let before = probe.slot_latency(8, 500);
                let value = measure(probe);
                let after = probe.slot_latency(8, 500);
                match Placement::of(before, after) {
                    Placement::Near => kept[0].push(value),
                    Placement::Far => kept[1].push(value),
                    Placement::Mixed => {}
                }
            }
            for (mut values, placement) in kept.into_iter().zip(["near", "far"]) {
                if let Some(median) = percentile(&mut values, 0.5).filter(|_| print) {
                    println!("{name} {placement} {median:.2}");
                }
            }
        };
        // First, as in C: after other work the core sleeps more deeply, and wakes 5 µs later.
        figure("W0", &mut |probe| probe.wake(10, 300_000));
        figure("L0", &mut |probe| probe.slot_latency(8, 3000));
        figure("S0", &mut |probe| probe.slot_stream(8, 30_000));
        for n in [64, 256, 1024, 2048] {
            figure(&format!("L({n})"), &mut |probe| probe.slot_latency(n, 1000));
        }
        for (n, shape) in [
            (4096, ring(4096, 256 << 10)),
            (65536, ring(16384, 256 << 10)),
            (1 << 20, ring(32768, 1 << 20)),
        ] {
            let count = (1 << 22) / n;
            figure(&format!("P({n})"), &mut |probe| {
                probe.ring_latency(n, shape, count)
            });
            figure(&format!("P({n})-stream"), &mut |probe| {
                probe.ring_stream(n, shape, 2 * count)
            });
        }
        for n in [65536, 1 << 20] {
            figure(&format!("C({n})"), &mut |probe| {
                probe.shared_copy(n, false, (1 << 23) / n)
            });
            figure(&format!("C({n})-rewritten"), &mut |probe| {
                probe.shared_copy(n, true, (1 << 23) / n)
            });
            figure(&format!("M({n})"), &mut |probe| {
                probe.copy(n, (1 << 23) / n)
            });
        }
        figure("Y0", &mut |probe| probe.hand_over(2000));
    });
}
