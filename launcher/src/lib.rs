//! The launcher of Tercio: command line, plan, building by cargo, signals and presentation. Everything that owns a process
//! (guard, agent, ranks, streams, teardown) is `tercio::launch`; this crate only says what to start and shows what came of it.

mod bench;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

/// Tercio: starts ranked processes that send to each other and act together, and stops all of them when one fails.
#[derive(Parser)]
#[command(name = "tercio", version)]
struct Tercio {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// Measure latency, bandwidth and collectives on this machine, beside the limits of its memory.
    Bench(bench::Args),
}

/// Does what the words of a command line say (`words[0]` is the name we were called by); the exit code.
pub fn main(words: Vec<OsString>) -> i32 {
    match Tercio::try_parse_from(words) {
        Ok(Tercio {
            command: Commands::Bench(args),
        }) => bench::main(args),
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() { 125 } else { 0 }
        }
    }
}
