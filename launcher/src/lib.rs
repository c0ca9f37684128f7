//! The launcher of Tercio: command line, plan, building by cargo, signals and presentation. Everything that owns a process
//! (guard, agent, ranks, streams, teardown) is `tercio::launch`; this crate only says what to start and shows what came of it.

mod bench;
mod cargo;
mod costs;
mod doctor;
mod environment;
mod explain;
mod hosts;
mod mpiexec;
mod options;
mod plan;
mod run;
mod sentence;
mod signals;
mod tune;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Parser, Subcommand};

/// Tercio: starts ranked processes that send to each other and act together, and stops all of them when one fails.
#[derive(Parser)]
#[command(
    name = "tercio",
    bin_name = "tercio",
    version,
    arg_required_else_help = true
)]
struct Tercio {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// Start ranks of a program, on this host or several: tercio run -n 4 ./program
    #[command(disable_help_flag = true)]
    Run {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        words: Vec<OsString>,
    },
    /// Measure latency, bandwidth and collectives on this machine, beside the limits of its memory.
    Bench(bench::Args),
    /// Show the ways in which a collective of several hosts can run, what each comes to, and which one does.
    Explain(explain::Args),
    /// Measure what messages cost between two hosts, by which jobs of several choose how collectives run.
    Tune(tune::Args),
    /// Look at this host, or those of a job, and say what keeps jobs from running there and what mends it.
    Doctor(doctor::Args),
}

/// Does what the words of a command line say (`words[0]` is the name we were called by); the exit code.
pub fn main(words: Vec<OsString>) -> i32 {
    if words.first().is_some_and(|name| is_mpi_name(name)) {
        return run::main(words.into_iter().skip(1).collect());
    }
    // `run` has its own reader, which knows more spellings than clap can.
    if words.get(1).is_some_and(|word| word == "run") {
        return run::main(words.into_iter().skip(2).collect());
    }
    if words.iter().skip(1).take(2).eq(["help", "run"]) {
        return run::main(vec!["--help".into()]);
    }
    match Tercio::try_parse_from(words) {
        Ok(Tercio {
            command: Commands::Bench(args),
        }) => bench::main(args),
        Ok(Tercio {
            command: Commands::Explain(args),
        }) => explain::main(args),
        Ok(Tercio {
            command: Commands::Tune(args),
        }) => tune::main(args),
        Ok(Tercio {
            command: Commands::Doctor(args),
        }) => doctor::main(args),
        Ok(Tercio {
            command: Commands::Run { words },
        }) => run::main(words),
        Err(error) if error.use_stderr() => {
            match misplaced(&error) {
                Some(sentence) => eprintln!("tercio: {sentence}"),
                None => drop(error.print()),
            }
            125
        }
        Err(text) => {
            let _ = text.print();
            0
        }
    }
}

/// For people who type `tercio ./program` or `tercio -n 4 ./program`.
fn misplaced(error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let kind = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return None,
    };
    let Some(ContextValue::String(word)) = error.get(kind) else {
        return None;
    };
    let suggestion = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(names)) if !names.is_empty() => {
            format!("did you mean {}?", names[0])
        }
        _ => format!("to start a program: tercio run {word} ..."),
    };
    Some(format!(
        "there is no command {word}; {suggestion} (all commands: tercio --help)"
    ))
}

/// `mpirun`, `mpiexec`, and the same with an ending (`mpiexec.hydra`).
fn is_mpi_name(name: &OsStr) -> bool {
    let file = Path::new(name)
        .file_name()
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    matches!(file.split('.').next(), Some("mpirun" | "mpiexec"))
}
