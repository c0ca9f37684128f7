//! What a command line comes to: which rank runs what, where, with what around it. `--dry-run` shows it; `run` carries it out.
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::cargo::Target;
use crate::hosts::place::{By, Hosts, Wish};
use crate::hosts::reach::Starter;
use crate::hosts::{self, Entry, allocation};
use crate::options::{Binding, Input, JobOptions, Options};
use crate::sentence::Sentence;

/// TERM to KILL, unless `--grace` says otherwise.
const GRACE: Duration = Duration::from_secs(2);

/// A job, as asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub programs: Vec<Program>,
    pub tag: bool,
    pub output: Option<PathBuf>,
    pub stdin: Input,
    pub binding: Binding,
    pub timeout: Option<Duration>,
    pub grace: Duration,
    pub verdict: Option<PathBuf>,
    pub verbose: bool,
    pub foreign_names: bool,
    pub universe: Option<usize>,
    pub dry_run: bool,
    /// Which rank runs on which host; `None` if all are on this one.
    pub hosts: Option<Hosts>,
    /// Whether the site's launcher starts the ranks, and which one if it was named.
    pub by_mpi: bool,
    pub mpiexec: Option<OsString>,
    /// What starts the agents of other hosts.
    pub starter: Starter,
    pub push: bool,
    pub start_timeout: Option<Duration>,
    pub silence: Option<Duration>,
    /// The resource manager's job that the hosts are of.
    pub allocation: Option<String>,
    /// For the user: what was asked for in vain.
    pub remarks: Vec<String>,
    cores: usize,
}

/// The ranks that run the same program.
#[derive(Debug)]
pub(crate) struct Program {
    pub first: usize,
    pub ranks: usize,
    pub what: What,
    pub args: Vec<OsString>,
    pub env: BTreeMap<OsString, OsString>,
    pub wdir: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) enum What {
    Command(OsString),
    /// What cargo builds.
    Target(Target),
}

/// What a plan takes from the process that makes it.
pub(crate) struct Surroundings<'a> {
    pub cores: usize,
    pub variable: &'a dyn Fn(&OsStr) -> Option<OsString>,
}

impl Plan {
    pub(crate) fn new(
        programs: Vec<Options>,
        remarks: Vec<String>,
        around: &Surroundings,
    ) -> Result<Plan, Sentence> {
        let alone = programs.len() == 1;
        let mut plan = Plan {
            programs: Vec::new(),
            tag: false,
            output: None,
            stdin: Input::Rank(0),
            binding: Binding::Core,
            timeout: None,
            grace: GRACE,
            verdict: None,
            verbose: false,
            foreign_names: false,
            universe: None,
            dry_run: false,
            hosts: None,
            by_mpi: false,
            mpiexec: None,
            starter: Starter::Shell("ssh".into()),
            push: false,
            start_timeout: None,
            silence: None,
            allocation: None,
            remarks,
            cores: around.cores,
        };
        let file = options_of(&programs, |job| job.hostfile.as_ref());
        let file = file.map(|path| hosts::read(path)).transpose()?;
        let mapping = (
            options_of(&programs, |job| job.map_by.as_ref()).copied(),
            options_of(&programs, |job| job.rank_by.as_ref()).copied(),
        );
        // Programs that name no host have the first that are named.
        let first = programs.iter().find_map(|options| options.hosts.as_deref());
        if file.is_some() || first.is_some() {
            let entries = match (&file, first) {
                (None, Some(list)) => hosts::list("--host", list)?,
                (file, _) => file.clone().unwrap_or_default(),
            };
            plan.hosts = Some(Hosts {
                entries,
                ..Hosts::default()
            });
        }
        let allocation = match plan.hosts {
            Some(_) => None,
            None => allocation::found(around.variable)?,
        };
        if let Some(found) = &allocation {
            plan.hosts = Some(Hosts {
                entries: found.entries.clone(),
                ..Hosts::default()
            });
            plan.allocation = Some(found.job.clone());
            // Where the site does not have it for all to use, ssh may do.
            let starter = found.manager.starter();
            let path = (around.variable)(OsStr::new("PATH")).unwrap_or_default();
            let is_there = |starter: &Starter| {
                std::env::split_paths(&path).any(|entry| entry.join(starter.name()).is_file())
            };
            plan.starter = starter.filter(is_there).unwrap_or(plan.starter);
        }
        let mut global = BTreeMap::new();
        let sockets = sockets(&programs);
        for mut options in programs {
            plan.settle(&options);
            if alone && options.per_host.is_none() {
                let asked = allocation.as_ref().and_then(|found| found.ranks);
                options.ranks = options.ranks.or(asked);
            }
            for word in &options.genv {
                global.extend(plan.variable(word, around)?);
            }
            let program = plan.place(options, alone, file.as_deref(), mapping, around)?;
            plan.programs.push(program);
        }
        // A job whose hosts are all this one is a job of this host.
        if plan
            .hosts
            .as_ref()
            .is_some_and(|hosts| hosts.by_host().iter().all(|(entry, _)| entry.is_here()))
        {
            plan.hosts = None;
        }
        for program in &mut plan.programs {
            program.env.extend(sockets.clone());
            for (name, value) in &global {
                program
                    .env
                    .entry(name.clone())
                    .or_insert_with(|| value.clone());
            }
        }
        match plan.stdin {
            Input::Rank(rank) if rank >= plan.ranks() => Err(Sentence::usage(format!(
                "--stdin {rank}: the job has {}, numbered from 0; give one of them, or none",
                count(plan.ranks(), "rank")
            ))),
            _ => Ok(plan),
        }
    }

    /// Usable cores of this host.
    pub(crate) fn cores(&self) -> usize {
        self.cores
    }

    /// All ranks of the job.
    pub(crate) fn ranks(&self) -> usize {
        self.programs.iter().map(|program| program.ranks).sum()
    }

    /// What the options say about the job as a whole.
    fn settle(&mut self, options: &Options) {
        let job = &options.job;
        self.tag |= job.tag;
        self.by_mpi |= job.transport.is_some_and(|name| name.starts_with("mpi"));
        self.mpiexec = job.mpiexec.clone().or(self.mpiexec.take());
        self.verbose |= job.verbose;
        self.foreign_names |= job.foreign_names;
        self.dry_run |= job.dry_run;
        self.push |= job.push;
        self.start_timeout = job.start_timeout.or(self.start_timeout);
        self.silence = job.silence.or(self.silence);
        if let Some(agent) = &job.rsh_agent {
            self.starter = Starter::Shell(agent.clone());
        }
        self.stdin = job.stdin.unwrap_or(self.stdin);
        self.binding = job.bind_to.unwrap_or(self.binding);
        self.universe = job.universe_size.or(self.universe);
        self.grace = job.grace.unwrap_or(self.grace);
        self.timeout = job.timeout.or(self.timeout);
        self.output = job.output_filename.clone().or(self.output.take());
        self.verdict = job.verdict.clone().or(self.verdict.take());
        let needless = "--oversubscribe is not needed: more ranks than cores are always allowed";
        if job.oversubscribe && !self.remarks.iter().any(|remark| remark == needless) {
            self.remarks.push(needless.into());
        }
    }

    fn place(
        &mut self,
        options: Options,
        alone: bool,
        file: Option<&[Entry]>,
        (map_by, rank_by): (Option<By>, Option<By>),
        around: &Surroundings,
    ) -> Result<Program, Sentence> {
        let number = self.programs.len() + 1;
        let mut words = options.words.into_iter();
        let mut build = options.build;
        let built = build.example.is_some() || build.bin.is_some() || build.package.is_some();
        if self.by_mpi && built && build.features.is_empty() {
            build.features.push("tercio/system-mpi".into());
        }
        let what = match Target::from_options(build)? {
            Some(target) => What::Target(target),
            None => match words.next() {
                Some(command) if command.is_empty() => {
                    return Err(Sentence::usage("the program's name is empty"));
                }
                Some(command) => What::Command(command),
                None if alone => {
                    return Err(Sentence::usage(
                        "no program is given; for example: tercio run -n 4 ./program",
                    ));
                }
                None => {
                    let what = format!("no program is given for part {number} of the command line");
                    return Err(Sentence::usage(what + "; a lone ':' separates programs"));
                }
            },
        };
        let own = options
            .hosts
            .as_deref()
            .map(|list| hosts::list("--host", list))
            .transpose()?;
        let own = match (own, file) {
            (Some(own), Some(file)) => hosts::select(file, own)?,
            (own, _) => own.unwrap_or_default(),
        };
        let counted = options.ranks.or(options.per_host).is_some()
            || own.iter().any(|entry| entry.slots.is_some());
        if !alone && !counted {
            return Err(Sentence::usage(format!(
                "of several programs each needs its number of ranks; give -n N in part {number} of the command line"
            )));
        }
        let first = self.ranks();
        let ranks = match &mut self.hosts {
            Some(hosts) => {
                let wish = Wish {
                    ranks: options.ranks,
                    per_host: options.per_host,
                    map_by: map_by.unwrap_or_default(),
                    rank_by,
                };
                hosts.place(wish, &own, around.cores)?
            }
            None => options.ranks.or(options.per_host).unwrap_or(around.cores),
        };
        let mut env = BTreeMap::new();
        for word in &options.x {
            env.extend(self.variable(word, around)?);
        }
        Ok(Program {
            first,
            ranks,
            what,
            args: words.collect(),
            env,
            wdir: options.wdir,
        })
    }

    /// `NAME=VALUE`, or `NAME` with the value that the launcher has.
    fn variable(
        &mut self,
        word: &OsStr,
        around: &Surroundings,
    ) -> Result<Option<(OsString, OsString)>, Sentence> {
        use std::os::unix::ffi::OsStrExt;
        let bytes = word.as_bytes();
        let (name, value) = match bytes.iter().position(|&byte| byte == b'=') {
            Some(at) => (
                OsStr::from_bytes(&bytes[..at]),
                Some(OsStr::from_bytes(&bytes[at + 1..]).to_owned()),
            ),
            None => (word, (around.variable)(word)),
        };
        if name.is_empty() {
            return Err(Sentence::usage(format!(
                "{}: the variable has no name",
                quoted(word)
            )));
        }
        if value.is_none() {
            self.remarks.push(format!(
                "-x {0} passes nothing on: the launcher has no variable {0}",
                name.to_string_lossy()
            ));
        }
        Ok(value.map(|value| (name.to_owned(), value)))
    }
}

/// What ranks are told of their sockets, by variables of theirs.
fn sockets(programs: &[Options]) -> Vec<(OsString, OsString)> {
    let transport = options_of(programs, |job| job.transport.as_ref()).map(|name| name.into());
    let interface = options_of(programs, |job| job.interface.as_ref()).cloned();
    let encrypt = programs.iter().any(|options| options.job.encrypt);
    [
        ("TERCIO_TRANSPORT", transport),
        ("TERCIO_INTERFACE", interface),
        ("TERCIO_ENCRYPT", encrypt.then(|| "1".into())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.into(), value?)))
    .collect()
}

/// What the last program that says it says about the whole job.
fn options_of<'a, T>(
    programs: &'a [Options],
    of: impl Fn(&'a JobOptions) -> Option<&'a T>,
) -> Option<&'a T> {
    programs.iter().rev().find_map(|options| of(&options.job))
}

/// "rank 3", "ranks 0-3 and 8".
fn ranks_shown(ranks: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &rank in ranks {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == rank => *last = rank,
            _ => runs.push((rank, rank)),
        }
    }
    let run = |&(a, b): &(usize, usize)| {
        if a == b {
            a.to_string()
        } else {
            format!("{a}-{b}")
        }
    };
    let shown: Vec<_> = runs.iter().map(run).collect();
    let noun = if ranks.len() == 1 { "rank" } else { "ranks" };
    format!("{noun} {}", shown.join(", "))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            None => writeln!(
                f,
                "{} on this host, which has {}",
                count(self.ranks(), "rank"),
                count(self.cores, "usable core")
            )?,
            Some(hosts) => {
                let by_host = hosts.by_host();
                writeln!(
                    f,
                    "{} on {}",
                    count(self.ranks(), "rank"),
                    count(by_host.len(), "host")
                )?;
                for (entry, ranks) in by_host {
                    let here = if entry.is_here() { " (this host)" } else { "" };
                    writeln!(f, "host {}{here}: {}", entry.target(), ranks_shown(&ranks))?;
                }
            }
        }
        if let Some(job) = &self.allocation {
            let by = self.starter.name();
            match self.hosts.is_some() {
                true => writeln!(
                    f,
                    "hosts: those of {job}, others than this one reached by {by}"
                )?,
                false => writeln!(f, "hosts: those of {job}")?,
            }
        }
        for program in &self.programs {
            write!(f, "{program}")?;
        }
        match (&self.output, self.tag) {
            (Some(directory), true) => writeln!(
                f,
                "output: files in {}, labelled by rank",
                quoted(directory.as_os_str())
            )?,
            (Some(directory), false) => {
                writeln!(f, "output: files in {}", quoted(directory.as_os_str()))?
            }
            (None, true) => writeln!(f, "output: labelled by rank")?,
            (None, false) => writeln!(f, "output: as it comes, in whole lines")?,
        }
        match self.stdin {
            Input::Rank(rank) => writeln!(f, "input: to rank {rank}")?,
            Input::None => writeln!(f, "input: to no rank")?,
        }
        match self.binding {
            Binding::Core => {
                writeln!(f, "binding: a core for each rank, if there is one for each")?
            }
            Binding::None => writeln!(f, "binding: none")?,
        }
        match self.timeout {
            Some(limit) => writeln!(f, "time limit: {} s", limit.as_secs_f64())?,
            None => writeln!(f, "time limit: none")?,
        }
        writeln!(f, "grace: {} s", self.grace.as_secs_f64())?;
        if let Some(universe) = self.universe {
            writeln!(f, "room: {} in all", count(universe, "rank"))?;
        }
        if self.foreign_names {
            writeln!(f, "variables: those of Open MPI, hydra and torch too")?;
        }
        if let Some(file) = &self.verdict {
            writeln!(f, "verdict: {}", quoted(file.as_os_str()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ranks {
            1 => write!(f, "rank {}:", self.first)?,
            ranks => write!(f, "ranks {}-{}:", self.first, self.first + ranks - 1)?,
        }
        match &self.what {
            What::Command(command) => write!(f, " {}", quoted(command))?,
            What::Target(target) => write!(f, " {target}")?,
        }
        for word in &self.args {
            write!(f, " {}", quoted(word))?;
        }
        writeln!(f)?;
        if let What::Target(target) = &self.what {
            writeln!(f, "  built by: cargo {}", target.arguments().join(" "))?;
        }
        if let Some(directory) = &self.wdir {
            writeln!(f, "  in: {}", quoted(directory.as_os_str()))?;
        }
        for (name, value) in &self.env {
            writeln!(f, "  with: {}={}", name.to_string_lossy(), quoted(value))?;
        }
        Ok(())
    }
}

/// "1 rank", "4 ranks".
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A word as a shell would have to be given it.
pub(crate) fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
