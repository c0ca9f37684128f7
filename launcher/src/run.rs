//! `tercio run`: reads the command line, builds what is to be built, runs the job and shows how it ended.
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tercio::launch::{Bind, Host, Job, Outcome, Output, Program, Stdin};

use crate::costs;
use crate::environment;
use crate::hosts::place::Hosts;
use crate::hosts::reach::Way;
use crate::mpiexec;
use crate::options::{self, Binding, Input, Reading};
use crate::plan::{Plan, Surroundings, What};
use crate::sentence::Sentence;
use crate::signals::Signals;

/// Runs a job as the words after `tercio run` say; the exit code.
pub(crate) fn main(words: Vec<OsString>) -> i32 {
    match read_and_run(words) {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("tercio: {sentence}");
            sentence.code
        }
    }
}

fn read_and_run(words: Vec<OsString>) -> Result<i32, Sentence> {
    let plan = match options::read(words)? {
        Reading::Text(text) => {
            print(&text);
            return Ok(0);
        }
        Reading::Programs(programs, remarks) => {
            let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
            Plan::new(
                programs,
                remarks,
                &Surroundings {
                    cores,
                    variable: &|name| std::env::var_os(name),
                },
            )?
        }
    };
    for remark in &plan.remarks {
        eprintln!("tercio: {remark}");
    }
    if plan.by_mpi {
        return mpiexec::run(&plan);
    }
    if plan.dry_run {
        print(&plan.to_string());
        return Ok(0);
    }
    if let Some(file) = &plan.verdict {
        // Before anything runs: a job of hours must not end without its verdict for a misspelt directory, nor with an older job's.
        let emptied = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(file);
        emptied.map_err(|error| unwritable(file, &error))?;
    }
    let ended = run(&plan);
    if let Some(file) = &plan.verdict {
        let json = match &ended {
            Ok(outcome) => json(outcome),
            Err(sentence) => {
                let Sentence { code, text } = sentence;
                json!({ "code": code, "code_of": "launcher", "cause": "not started", "text": text })
                    .to_string()
            }
        };
        let opened = OpenOptions::new().append(true).open(file);
        opened
            .and_then(|mut file| writeln!(file, "{json}"))
            .map_err(|error| unwritable(file, &error))?;
    }
    let outcome = ended?;
    if let Some(verdict) = &outcome.verdict {
        eprint!("{}", verdict.text());
    }
    Ok(outcome.code)
}

fn run(plan: &Plan) -> Result<Outcome, Sentence> {
    let job = job(plan)?;
    let signals = Signals::catch()
        .map_err(|error| Sentence::own(format!("cannot catch signals: {error}")))?;
    let running = job
        .start_with(|handle| signals.deliver_to(handle))
        .map_err(|error| Sentence {
            text: error.to_string(),
            code: error.code(),
        })?;
    Ok(running.wait())
}

/// The job that a plan describes; builds what cargo is to build.
fn job(plan: &Plan) -> Result<Job, Sentence> {
    let terminal = std::io::stdin().is_terminal();
    let mut job = Job::new()
        .grace(plan.grace)
        .verbose(plan.verbose)
        .foreign_names(plan.foreign_names)
        .bind(match plan.binding {
            Binding::Core => Bind::Core,
            Binding::None => Bind::None,
        })
        .stdin(match plan.stdin {
            Input::None => Stdin::None,
            Input::Rank(rank) if terminal => Stdin::Forward { rank },
            Input::Rank(rank) => Stdin::Inherit { rank },
        })
        .output(match &plan.output {
            Some(path) => Output::Directory {
                path: path.clone(),
                tag: plan.tag,
            },
            None => Output::Inherit { tag: plan.tag },
        });
    if let Some(universe) = plan.universe {
        job = job.universe_size(universe);
    }
    if let Some(limit) = plan.timeout {
        job = job.timeout(limit);
    }
    let changes = environment::changes();
    for (name, _) in &changes {
        job = job.env_remove(name);
    }
    let costs = plan.hosts.as_ref().map(|_| costs::variable()).transpose()?;
    for part in &plan.programs {
        let command = match &part.what {
            What::Command(command) => command.clone(),
            What::Target(target) => target.build()?.into(),
        };
        let mut program = Program::new(command, part.ranks).args(part.args.iter().cloned());
        program.wdir = part.wdir.clone();
        let kept = changes
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        program.env = kept.chain(part.env.clone()).chain(costs.clone()).collect();
        job = job.program(program);
    }
    if let Some(limit) = plan.start_timeout {
        job = job.start_limit(limit);
    }
    if let Some(limit) = plan.silence {
        job = job.silence(limit);
    }
    if let Some(hosts) = &plan.hosts {
        job = spread(job, plan, hosts)?;
    }
    Ok(job)
}

/// The job over the hosts of the plan.
fn spread(mut job: Job, plan: &Plan, hosts: &Hosts) -> Result<Job, Sentence> {
    let start_limit = plan.start_timeout.unwrap_or(Duration::from_secs(30));
    let way = Way::new(&plan.starter, plan.push, start_limit)?;
    for name in plan.starter.disturbing() {
        job = job.env_remove(name);
    }
    for (entry, ranks) in hosts.by_host() {
        job = job.host(Host {
            name: entry.name.clone(),
            reach: way.to(entry),
            ranks,
        });
    }
    Ok(job)
}

fn json(outcome: &Outcome) -> String {
    match &outcome.verdict {
        Some(verdict) => verdict.json(),
        None => json!({ "code": outcome.code, "cause": null }).to_string(),
    }
}

fn unwritable(file: &Path, error: &std::io::Error) -> Sentence {
    Sentence::own(format!(
        "--verdict {}: cannot write there: {error}",
        file.display()
    ))
}

/// To standard output; nobody is told of a reader that left early.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
