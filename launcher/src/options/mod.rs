//! The command line of `tercio run`. Two families of launchers have taught people's fingers two sets of names; both are accepted
//! here, with one dash or two, and none is deprecated. `spelling` brings every word to the one form that the struct below
//! declares; `split` finds the programs. Reading a command line touches nothing outside it.
mod spelling;
mod split;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser};

use crate::hosts::place::By;
use crate::sentence::Sentence;

pub(crate) use split::Stretch;

/// What the options before one program say. Options about the job as a whole count wherever they stand; the last one rules.
#[derive(Debug, Parser)]
#[command(
    name = "tercio",
    bin_name = "tercio run",
    version,
    about = "Start ranks of a program, on this host or several; if one of them fails, end all and say which, where and why.",
    override_usage = "tercio run [OPTIONS] [--] PROGRAM [ARGUMENTS] [: [OPTIONS] PROGRAM [ARGUMENTS]] ...\n       \
                      tercio run [OPTIONS] --example NAME [--] [ARGUMENTS]",
    after_help = AFTER_HELP,
    args_override_self = true,
    disable_help_subcommand = true
)]
pub(crate) struct Options {
    /// Ranks of this program [default: what a resource manager was asked for, as many as fit the hosts, or one for each usable core]
    #[arg(short = 'n', long = "n", visible_alias = "np", value_name = "N", value_parser = ranks)]
    pub ranks: Option<usize>,

    /// Ranks on each host
    #[arg(short = 'N', long = "npernode", value_name = "N", value_parser = ranks)]
    pub per_host: Option<usize>,

    /// Run this program on these hosts (of a hostfile: on these of them), with so many ranks on each
    #[arg(
        short = 'H',
        long = "host",
        visible_alias = "hosts",
        value_name = "NAME[:N],..."
    )]
    pub hosts: Option<String>,

    /// Give this program's ranks a variable: with a value, or with the launcher's own
    #[arg(short = 'x', value_name = "NAME[=VALUE]")]
    pub x: Vec<OsString>,

    // The value names are two, because `spelling` joins two words to NAME=VALUE before clap sees them.
    /// Give the ranks of all programs a variable (-env: of this program)
    #[arg(long = "genv", value_name = "NAME> <VALUE")]
    pub genv: Vec<OsString>,

    /// Start this program's ranks in another directory
    #[arg(long = "wdir", visible_alias = "wd", value_name = "DIR")]
    pub wdir: Option<PathBuf>,

    #[command(flatten)]
    pub build: Build,

    #[command(flatten)]
    pub job: JobOptions,

    /// The program and its arguments
    #[arg(last = true, hide = true)]
    pub words: Vec<OsString>,
}

/// What cargo builds before the ranks start.
#[derive(Debug, Args)]
#[command(next_help_heading = "Built by cargo first")]
pub(crate) struct Build {
    /// Run this example
    #[arg(long, value_name = "NAME", conflicts_with = "bin")]
    pub example: Option<String>,

    /// Run this binary
    #[arg(long, value_name = "NAME")]
    pub bin: Option<String>,

    /// Of this package; alone: its only binary
    #[arg(short = 'p', long, value_name = "NAME")]
    pub package: Option<String>,

    /// Build it in release mode [default: as the launcher itself was built]
    #[arg(long, conflicts_with = "profile")]
    pub release: bool,

    /// Build it in this profile
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,

    /// Build it with these features
    #[arg(long, value_name = "LIST")]
    pub features: Vec<String>,
}

/// What concerns the job as a whole.
#[derive(Debug, Args)]
#[command(next_help_heading = "The whole job")]
pub(crate) struct JobOptions {
    /// The hosts of the job, one a line (hostfile.example shows the syntax)
    #[arg(short = 'f', long, visible_alias = "machinefile", value_name = "FILE")]
    pub hostfile: Option<PathBuf>,

    /// Fill each host's slots in turn, or give each host one rank at a time [default: slot]
    #[arg(long, value_name = "slot|node", value_parser = by)]
    pub map_by: Option<By>,

    /// Number the ranks host by host, or one of each host in turn [default: as --map-by]
    #[arg(long, value_name = "slot|node", value_parser = by)]
    pub rank_by: Option<By>,

    /// Reach other hosts by this command, which gets the host and a command line [default: ssh]
    #[arg(long, value_name = "COMMAND")]
    pub rsh_agent: Option<String>,

    /// Bring this program along to hosts that do not have it (kept in ~/.cache/tercio there)
    #[arg(long)]
    pub push: bool,

    /// The time that each host has until its agent is there [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = time_limit)]
    pub start_timeout: Option<Duration>,

    /// A host of which nothing is heard for so long is lost, and the job with it [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = silence)]
    pub silence: Option<Duration>,

    /// Through memory where ranks share it and through sockets else; through sockets everywhere; or between hosts, or everywhere, through the
    /// system's MPI, whose launcher then starts the ranks [default: auto]
    #[arg(long, value_name = "auto|tcp|mpi|mpi:all", value_parser = transport)]
    pub transport: Option<&'static str>,

    /// The launcher of the system's MPI, with --transport mpi [default: mpiexec]
    #[arg(long, value_name = "COMMAND")]
    pub mpiexec: Option<OsString>,

    /// Connect hosts over these of their interfaces, addresses or networks only (eth0,10.0.0.0/8)
    #[arg(long, value_name = "LIST")]
    pub interface: Option<OsString>,

    /// Encrypt what goes through sockets
    #[arg(long)]
    pub encrypt: bool,

    /// Begin each line of output with the rank it came from
    #[arg(short = 'l', long = "tag-output", visible_alias = "prefix")]
    pub tag: bool,

    /// Write each rank's output to files in this directory instead
    #[arg(long, value_name = "DIR")]
    pub output_filename: Option<PathBuf>,

    /// The rank that gets standard input [default: 0]
    #[arg(long, value_name = "RANK|none", value_parser = stdin)]
    pub stdin: Option<Input>,

    /// Give each rank a core of its own if every rank can have one, or bind none [default: core]
    #[arg(long, value_name = "core|none", value_parser = binding)]
    pub bind_to: Option<Binding>,

    /// End the job after this time (exit code 124)
    #[arg(long, value_name = "SECONDS", value_parser = time_limit)]
    pub timeout: Option<Duration>,

    /// When the job is ended, the time from TERM to KILL [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub grace: Option<Duration>,

    /// Write how the job ended to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub verdict: Option<PathBuf>,

    /// How many ranks the job may have in all, with those that programs spawn [default: 16 more than it begins with]
    #[arg(long, visible_alias = "usize", value_name = "N", value_parser = ranks)]
    pub universe_size: Option<usize>,

    /// Accepted: more ranks than cores are always allowed
    #[arg(long)]
    pub oversubscribe: bool,

    /// Give ranks the variables of Open MPI, hydra and torch too (OMPI_COMM_WORLD_RANK, PMI_RANK, RANK ...)
    #[arg(long)]
    pub foreign_names: bool,

    /// Show the plan and start nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Say what is started, where, and what was decided
    #[arg(short = 'v', long)]
    pub verbose: bool,
}

const AFTER_HELP: &str = "\
Options may be written with one dash or two, with a space or with '=': -np 4,
--np 4, --np=4. Many other names that mpirun and mpiexec know are understood.
The first word that is no option ends the options; what follows belongs to the
program. A lone ':' begins the next program of the same job.

Exit code: that of the first rank that failed on its own, 128+N for signal N;
  120 Tercio ended the job, and no rank has a code of its own
  124 time limit               125 the launcher's own failure
  126 cannot be executed       127 not found
  130 interrupted (Ctrl-C)     143 terminated

Examples:
  tercio run -n 4 ./program input.txt
  tercio run -n 4 --example wordcount -- README.md
  tercio run -n 1 ./reader : -n 3 ./worker
  tercio run --hostfile hosts -n 64 ./program
  tercio run -n 4 -l --timeout 60 --verdict end.json ./program";

/// A time that is as good as endless, in seconds, and that can be added to any point in time: a hundred years.
const FOREVER: f64 = 3.2e9;

/// Where standard input goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Rank(usize),
    None,
}

/// Whether ranks are bound to cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    Core,
    None,
}

fn ranks(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("a job needs at least one rank".into()),
        Ok(ranks) => Ok(ranks),
        Err(_) => Err("the number of ranks is a whole number, such as 4".into()),
    }
}

fn stdin(text: &str) -> Result<Input, String> {
    match text {
        "none" => Ok(Input::None),
        "all" => Err("one rank reads standard input, not all; name the rank and let it broadcast what it reads".into()),
        _ => text.parse().map(Input::Rank).map_err(|_| "give the rank that reads standard input, or none".into()),
    }
}

fn by(text: &str) -> Result<By, String> {
    match text {
        "slot" => Ok(By::Slot),
        "node" => Ok(By::Node),
        _ => Err("ranks go by slot or by node".into()),
    }
}

fn transport(text: &str) -> Result<&'static str, String> {
    match text {
        "auto" => Ok("auto"),
        "tcp" => Ok("tcp"),
        "mpi" => Ok("mpi"),
        "mpi:all" => Ok("mpi:all"),
        _ => Err("messages go by the shortest way, auto, all through sockets, tcp, between hosts through the system's MPI, mpi, or all through it, mpi:all".into()),
    }
}

fn binding(text: &str) -> Result<Binding, String> {
    match text {
        "core" => Ok(Binding::Core),
        "none" => Ok(Binding::None),
        _ => Err("ranks can be bound to cores or not at all; give core or none".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds < 0.0 => Err("give a time in seconds that is not negative".into()),
        Ok(seconds) if seconds.is_finite() => Ok(Duration::from_secs_f64(seconds.min(FOREVER))),
        _ => Err("give a time in seconds, such as 10 or 0.5".into()),
    }
}

fn time_limit(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => {
            Err("a job without any time cannot run; give a time above 0 seconds".into())
        }
        limit => Ok(limit),
    }
}

fn silence(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        limit if limit < Duration::from_secs(1) => Err(
            "hosts give a sign of life several times in that time; give at least 1 second".into(),
        ),
        limit => Ok(limit),
    }
}

/// What reading a command line came to, if not a sentence about what is wrong with it.
#[derive(Debug)]
pub(crate) enum Reading {
    /// The programs in order, and remarks for the user about options that have no effect here.
    Programs(Vec<Options>, Vec<String>),
    /// Help or version was asked for.
    Text(String),
}

/// Reads the words after `tercio run`.
pub(crate) fn read(words: Vec<OsString>) -> Result<Reading, Sentence> {
    let mut command = Options::command();
    command.build();
    let split = split::split(&command, words)?;
    let mut programs = Vec::new();
    for stretch in split.stretches {
        match parse(stretch)? {
            Reading::Text(text) => return Ok(Reading::Text(text)),
            Reading::Programs(options, _) => programs.extend(options),
        }
    }
    Ok(Reading::Programs(programs, split.remarks))
}

fn parse(stretch: Stretch) -> Result<Reading, Sentence> {
    use clap::error::ErrorKind;
    let words = std::iter::once("tercio run".into())
        .chain(stretch.options)
        .chain(std::iter::once("--".into()));
    let parsed = Options::command()
        .try_get_matches_from(words.chain(stretch.program))
        .and_then(|mut matches| Options::from_arg_matches_mut(&mut matches));
    match parsed {
        Ok(options) => Ok(Reading::Programs(vec![options], Vec::new())),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) =>
        {
            Ok(Reading::Text(error.render().to_string()))
        }
        Err(error) => Err(describe(&error)),
    }
}

/// clap's finding as one sentence.
fn describe(error: &clap::Error) -> Sentence {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" and "),
        _ => String::new(),
    };
    // "--n <N>" and "-x <NAME[=VALUE]>": the option as people write it.
    let option = |kind| {
        let shown = text(kind);
        let name = shown
            .split([' ', '='])
            .next()
            .unwrap_or_default()
            .to_owned();
        if name.len() == 3 {
            name[1..].to_owned()
        } else {
            name
        }
    };
    let said = match error.kind() {
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error)
                .map(ToString::to_string)
                .unwrap_or_default();
            format!(
                "{} {}: {why}",
                option(ContextKind::InvalidArg),
                text(ContextKind::InvalidValue)
            )
        }
        ErrorKind::ArgumentConflict => {
            let (one, other) = (
                option(ContextKind::InvalidArg),
                option(ContextKind::PriorArg),
            );
            format!("{one} and {other} contradict each other; give one of them")
        }
        ErrorKind::TooManyValues => format!("{} takes no value", option(ContextKind::InvalidArg)),
        ErrorKind::InvalidUtf8 => "an option's value is not valid UTF-8".into(),
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    };
    Sentence::usage(said)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Words that look like a command line of `tercio run`: known and unknown options, numbers, names, ':' and "--".
    fn word() -> impl Strategy<Value = String> {
        let known = prop::sample::select(vec![
            "-n",
            "-np",
            "--n=2",
            "-x",
            "-genv",
            "-env",
            "-l",
            "--timeout",
            "--stdin",
            "--mca",
            "-H",
            "--map-by",
            "--example",
            "--release",
            "--features",
            ":",
            "--",
            "-",
            "2",
            "0",
            "A=1",
            "localhost:2",
            "--hostfile",
            "--rank-by",
            "ppr:2:node",
            "none",
        ]);
        prop_oneof![4 => known.prop_map(str::to_owned), 1 => "-{0,2}[a-z=:]{0,5}", 1 => "\\PC{0,6}"]
    }

    proptest! {
        #[test]
        fn any_words_are_read_or_refused(words in prop::collection::vec(word(), 0..12)) {
            let _ = read(words.into_iter().map(OsString::from).collect());
        }

        #[test]
        fn what_follows_the_program_is_the_programs(words in prop::collection::vec(word(), 0..8)) {
            let words: Vec<OsString> = words.into_iter().filter(|word| word != ":").map(OsString::from).collect();
            let line = ["-n", "2", "program"].map(OsString::from).into_iter().chain(words.clone()).collect();
            match read(line) {
                Ok(Reading::Programs(programs, remarks)) => {
                    prop_assert_eq!(programs.len(), 1);
                    prop_assert_eq!(&programs[0].words[1..], words);
                    prop_assert!(remarks.is_empty());
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn the_table_names_options_of_ours() {
        let mut command = Options::command();
        command.build();
        for (names, meaning) in spelling::TABLE {
            if let spelling::Meaning::Same(name) | spelling::Meaning::Pair(name) = meaning {
                assert!(
                    split::argument(&command, name).is_some(),
                    "{names:?} mean --{name}, which there is not"
                );
            }
        }
    }
}
