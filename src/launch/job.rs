//! What is to run: the job, its programs and how they are connected to the world.
use super::running::{self, Handle, Outcome, Running};
use crate::job::directory::{Place, places};
use crate::job::identity;
use crate::job::layout::MAX_LOCAL_RANKS;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// One program of a job, and how many ranks run it.
///
/// ```
/// use tercio::launch::Program;
/// let mut program = Program::new("./simulate", 4);
/// program.args.push("--steps=100".into());
/// program.env.push(("RUST_BACKTRACE".into(), "1".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The file to execute; without a slash it is looked up in `PATH`.
    pub command: OsString,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// How many ranks run it.
    pub ranks: usize,
    /// Variables that its ranks get beside the caller's environment.
    pub env: Vec<(OsString, OsString)>,
    /// The directory that its ranks start in; the caller's if there is none.
    pub wdir: Option<PathBuf>,
}

impl Program {
    /// `ranks` ranks of `command`, without arguments, in the caller's environment and directory.
    pub fn new(command: impl Into<OsString>, ranks: usize) -> Program {
        Program {
            command: command.into(),
            args: Vec::new(),
            ranks,
            env: Vec::new(),
            wdir: None,
        }
    }

    /// The same program with these arguments behind those it has.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Program {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// The same program with one more variable in its ranks' environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Program {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// Whether ranks are bound to cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bind {
    /// Each rank to a core of its own, where the job can claim one for every rank; else none.
    #[default]
    Core,
    /// No rank is bound. Cores are claimed all the same, so that other jobs keep off them.
    None,
}

/// Where the ranks' standard input comes from. Ranks that do not get it read `/dev/null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// No rank reads anything.
    #[default]
    None,
    /// One rank has the caller's standard input itself: right for files and pipes.
    Inherit {
        /// The rank that reads.
        rank: usize,
    },
    /// The caller's standard input is read here and forwarded to one rank, at most a pipe's buffer ahead and only while the
    /// caller is in the foreground: right for terminals.
    Forward {
        /// The rank that reads.
        rank: usize,
    },
}

/// Where the ranks' standard output and error go: in whole lines, or after 100 ms in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To the caller's standard output and error; with `tag` each line begins with `[rank] `.
    Inherit {
        /// Whether lines are labelled.
        tag: bool,
    },
    /// Into files `rank.N/stdout` and `rank.N/stderr` of a directory, which is made if need be.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Whether lines are labelled.
        tag: bool,
    },
    /// Into [`Outcome::stdout`] and [`Outcome::stderr`].
    Capture {
        /// Whether lines are labelled.
        tag: bool,
    },
}

impl Default for Output {
    fn default() -> Output {
        Output::Inherit { tag: false }
    }
}

/// How the agent of a host is started.
///
/// ```
/// use tercio::launch::Reach;
/// let words = ["ssh", "-o", "BatchMode=yes", "node01", "TERCIO_ROLE=agent /opt/bin/simulate"].map(Into::into).to_vec();
/// assert_ne!(Reach::Command { words, push: false }, Reach::Here);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is this host.
    Here,
    /// By this command, whose standard input and output become the agent's: `ssh node01 ...`. What it starts there at last must be a
    /// program of this version that begins with [`role`](super::role), with `TERCIO_ROLE=agent` in its environment.
    Command {
        /// The command and its arguments.
        words: Vec<OsString>,
        /// Whether the other side may ask for this program's executable: a line `TERCIO-WANTS` on its standard output, to which the answer
        /// is its length in decimal, a line's end, and its bytes.
        push: bool,
    },
}

/// A host of a job, and the ranks that run there.
///
/// ```
/// use tercio::launch::{Host, Job, Program, Reach};
/// let words = ["ssh", "node01", "TERCIO_ROLE=agent /opt/bin/simulate"].map(Into::into).to_vec();
/// let job = Job::new()
///     .program(Program::new("./simulate", 4))
///     .host(Host { name: "localhost".into(), reach: Reach::Here, ranks: vec![0, 1] })
///     .host(Host { name: "node01".into(), reach: Reach::Command { words, push: false }, ranks: vec![2, 3] });
/// assert_eq!(job.ranks(), 4);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name for messages.
    pub name: String,
    /// How to get there.
    pub reach: Reach,
    /// The numbers of its ranks, ascending.
    pub ranks: Vec<usize>,
}

/// What an agent knows of the job of which it runs a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// This host's name for messages.
    pub(super) name: String,
    /// The job's name.
    pub(super) job: String,
    /// This host's number.
    pub(super) here: u32,
    /// For each rank of the world the number of its host.
    pub(super) host_of_rank: Vec<u32>,
    /// For each program of this part its number in the job.
    pub(super) appnums: Vec<u32>,
}

impl Site {
    /// The numbers of the ranks here, by their index.
    pub(super) fn numbers(&self) -> Vec<usize> {
        let here = |rank: &usize| self.host_of_rank[*rank] == self.here;
        (0..self.host_of_rank.len()).filter(here).collect()
    }

    /// Where each rank of the world is.
    pub(super) fn places(&self) -> Vec<Place> {
        places(self.host_of_rank.iter().copied())
    }
}

/// A job: its programs, its hosts and how it runs. Ranks are numbered through the programs in their order.
///
/// ```no_run
/// use std::time::Duration;
/// use tercio::launch::{Job, Program};
///
/// tercio::launch::role();
/// let outcome = Job::new().program(Program::new("./simulate", 4)).timeout(Duration::from_secs(60)).run().unwrap();
/// std::process::exit(outcome.code);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a job runs when `start` or `run` is called"]
pub struct Job {
    pub(super) programs: Vec<Program>,
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) bind: Bind,
    pub(super) stdin: Stdin,
    pub(super) output: Output,
    pub(super) verbose: bool,
    pub(super) foreign_names: bool,
    pub(super) removed: Vec<OsString>,
    pub(super) universe: Option<usize>,
    pub(super) hosts: Vec<Host>,
    pub(super) start_limit: Duration,
    pub(super) silence: Duration,
    /// For an agent of a job of several hosts.
    pub(super) site: Option<Site>,
}

/// How many ranks can be spawned where nobody said how many: room for them is only room, no memory.
const SPARE_RANKS: usize = 16;

impl Default for Job {
    fn default() -> Job {
        Job::new()
    }
}

impl Job {
    /// A job without programs, limits or standard input; ranks are bound where they can be, output goes to the caller's.
    pub fn new() -> Job {
        Job {
            programs: Vec::new(),
            timeout: None,
            grace: Duration::from_secs(2),
            bind: Bind::default(),
            stdin: Stdin::default(),
            output: Output::default(),
            verbose: false,
            foreign_names: false,
            removed: Vec::new(),
            universe: None,
            hosts: Vec::new(),
            start_limit: Duration::from_secs(30),
            silence: Duration::from_secs(5),
            site: None,
        }
    }

    /// Adds a program; its ranks follow those of the programs before it.
    pub fn program(mut self, program: Program) -> Job {
        self.programs.push(program);
        self
    }

    /// Ends the job, with code 124, when it has run for this long.
    pub fn timeout(mut self, limit: Duration) -> Job {
        self.timeout = Some(limit);
        self
    }

    /// How long a rank that catches TERM may go on when the job ends, before it is killed (2 s unless told).
    pub fn grace(mut self, grace: Duration) -> Job {
        self.grace = grace;
        self
    }

    /// Whether ranks are bound to cores.
    pub fn bind(mut self, bind: Bind) -> Job {
        self.bind = bind;
        self
    }

    /// Which rank gets the caller's standard input.
    pub fn stdin(mut self, stdin: Stdin) -> Job {
        self.stdin = stdin;
        self
    }

    /// Where the ranks' output goes.
    pub fn output(mut self, output: Output) -> Job {
        self.output = output;
        self
    }

    /// Whether notes tell what was decided (cores, processes) and not only what is amiss.
    pub fn verbose(mut self, verbose: bool) -> Job {
        self.verbose = verbose;
        self
    }

    /// Whether ranks also get rank and size under the names that Open MPI, hydra and torch use, for scripts that read them.
    pub fn foreign_names(mut self, set: bool) -> Job {
        self.foreign_names = set;
        self
    }

    /// A variable of the caller's environment that ranks do not inherit; a program's own variables still count.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Job {
        self.removed.push(name.into());
        self
    }

    /// How many ranks the job may have in all, with those that it spawns: what [`Universe::size`](crate::environment::Universe::size) says.
    /// Unless told, that is a rank for each usable core, and at least what the job begins with; 16 more may be spawned all the same.
    pub fn universe_size(mut self, ranks: usize) -> Job {
        self.universe = Some(ranks);
        self
    }

    /// What ranks learn as the universe's size, with `cores` usable.
    pub(super) fn universe(&self, cores: usize) -> usize {
        let least = self.ranks();
        self.universe.unwrap_or(cores).max(least)
    }

    /// How many ranks there is room for in all.
    pub(super) fn room(&self, cores: usize) -> usize {
        let universe = self.universe(cores);
        match self.universe {
            Some(_) => universe,
            None => universe.max(self.ranks() + SPARE_RANKS),
        }
        .min(MAX_LOCAL_RANKS)
    }

    /// Adds a host. Each rank runs on exactly one of a job's hosts; a job without any runs on this one.
    pub fn host(mut self, host: Host) -> Job {
        self.hosts.push(host);
        self
    }

    /// How long each host may take until its agent is there (30 s unless told).
    pub fn start_limit(mut self, limit: Duration) -> Job {
        self.start_limit = limit;
        self
    }

    /// After how long without a sign of life a host is lost, and the job with it (5 s unless told; at least 1 s).
    pub fn silence(mut self, limit: Duration) -> Job {
        self.silence = limit.max(Duration::from_secs(1));
        self
    }

    /// Whether ranks run on several hosts, or on one that is not this.
    pub(super) fn spans_hosts(&self) -> bool {
        match &self.hosts[..] {
            [] => false,
            [only] => only.reach != Reach::Here,
            _ => true,
        }
    }

    /// Whether ranks of one host are to reach each other through sockets.
    pub(super) fn has_sockets(&self) -> bool {
        self.tells(identity::TRANSPORT, |value| value == "tcp")
    }

    /// Whether what goes through sockets is encrypted.
    pub(super) fn encrypts(&self) -> bool {
        self.tells(identity::ENCRYPT, |value| value != "0")
    }

    /// Whether ranks of some program find such a value in this variable.
    fn tells(&self, name: &str, such: impl Fn(&OsStr) -> bool) -> bool {
        let inherited = std::env::var_os(name);
        self.programs.iter().any(|program| {
            let given = program.env.iter().rev().find(|(given, _)| given == name);
            let value = given.map(|(_, value)| value).or(inherited.as_ref());
            value.is_some_and(|value| such(value))
        })
    }

    /// The number of ranks of all programs.
    pub fn ranks(&self) -> usize {
        self.programs.iter().map(|program| program.ranks).sum()
    }

    /// Starts the job and returns once all its ranks run.
    ///
    /// # Errors
    /// 127 if a program is not found, 126 if it cannot be executed, 125 if anything else keeps the job from starting.
    pub fn start(self) -> Result<Running, Error> {
        running::start(self, drop)
    }

    /// [`Job::start`], with a handle for `tell` as soon as there is something to end: hosts may take long to start.
    ///
    /// # Errors
    /// Those of [`Job::start`].
    ///
    /// ```no_run
    /// use tercio::launch::{Ending, Job, Program};
    ///
    /// tercio::launch::role();
    /// let running = Job::new().program(Program::new("./simulate", 4)).start_with(|handle| {
    ///     std::thread::spawn(move || {
    ///         let _ = std::io::stdin().read_line(&mut String::new());
    ///         handle.end(Ending::Signal(2));
    ///     });
    /// });
    /// std::process::exit(running.unwrap().wait().code);
    /// ```
    pub fn start_with(self, tell: impl FnOnce(Handle)) -> Result<Running, Error> {
        running::start(self, tell)
    }

    /// Starts the job and waits for its end.
    ///
    /// # Errors
    /// Those of [`Job::start`]; a rank's failure is an [`Outcome`].
    pub fn run(self) -> Result<Outcome, Error> {
        self.start().map(Running::wait)
    }
}

/// Why a job could not be started: a sentence, and the code that a launcher exits with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: i32,
    text: String,
}

impl Error {
    pub(super) fn new(code: i32, text: impl Into<String>) -> Error {
        Error {
            code,
            text: text.into(),
        }
    }

    /// 125, 126 or 127.
    pub fn code(&self) -> i32 {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
