//! `tercio bench`: how fast the lanes and the collectives are here, each figure beside the limit probed in the same second.
//!
//! The launcher starts itself as the ranks of a job; `rank` is what they do, `op` the loops through the public interface,
//! `probe` the limits of the machine without anything of the library, `wire` that of its sockets and `mpi` that of its MPI, `limit` which limit belongs to which row, `report`
//! the table and the JSON, `start` the row of starting and ending jobs, `check` the comparison of the probes with C.

mod check;
mod limit;
mod mpi;
mod op;
mod probe;
mod rank;
mod report;
mod start;
mod wire;

use clap::ValueEnum;
use op::Op;
use std::ffi::OsString;
use std::num::NonZero;
use tercio::launch::{Job, Program};

/// The command line of `tercio bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to measure.
    #[arg(value_enum, required_unless_present = "check_limits")]
    op: Option<Op>,
    /// How many ranks.
    #[arg(short = 'n', long = "n", value_name = "N", default_value_t = 2)]
    ranks: usize,
    /// Sizes of the messages in bytes; K, M and G are powers of 1024.
    #[arg(long, value_name = "8,1K,64K,1M", value_delimiter = ',', value_parser = size)]
    sizes: Vec<usize>,
    /// How many iterations a row has, instead of as many as take about 20 ms.
    #[arg(long, value_name = "COUNT")]
    iters: Option<usize>,
    /// Write the send buffer before each iteration: a buffer that never changes flatters shared memory.
    #[arg(long)]
    rewrite: bool,
    /// Send from buffers that the other ranks of the host read where they lie (`tercio::datatype::SharedBuffer`).
    #[arg(long)]
    shared: bool,
    /// Measure nothing else: no limits, and so no programs beside the ranks' messages that would keep cores, caches and paths busy between them.
    #[arg(long, conflicts_with = "check_limits")]
    no_limit: bool,
    /// Through memory, through sockets beside a raw connection of the same two processes, or through the system's MPI (mpi: between hosts;
    /// mpi:all: inside of a host too) beside the same MPI alone.
    #[arg(long, value_name = "shm|tcp|mpi|mpi:all", value_parser = ["shm", "tcp", "mpi", "mpi:all"], default_value = "shm")]
    transport: String,
    /// The launcher of the system's MPI, with --transport mpi [default: mpiexec]
    #[arg(long, value_name = "COMMAND")]
    mpiexec: Option<OsString>,
    /// After each size, print the way that messages of that size take from rank 0 to rank 1, and why.
    #[arg(long, conflicts_with = "json")]
    explain: bool,
    /// On these hosts, neighbouring ranks on different ones, through sockets; as for `tercio run`.
    #[arg(short = 'H', long = "hosts", alias = "host", value_name = "a,b")]
    hosts: Option<String>,
    /// The same, from a file.
    #[arg(long, value_name = "FILE")]
    hostfile: Option<OsString>,
    /// Reach hosts by this command instead of ssh.
    #[arg(long, value_name = "COMMAND")]
    rsh_agent: Option<OsString>,
    /// Which cores the ranks on several hosts get; as for `tercio run`.
    #[arg(long, value_name = "core|none")]
    bind_to: Option<OsString>,
    /// Print one line of JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Compare the probes of the limits with programs in C, which are compiled now.
    #[arg(long)]
    check_limits: bool,
    /// This process is a rank of the benchmark, on a machine with so many cores for its job.
    #[arg(long, value_name = "CORES", hide = true)]
    as_rank: Option<usize>,
    /// Its neighbours are on other hosts.
    #[arg(long, hide = true)]
    apart: bool,
}

/// Runs the benchmark; the exit code of the launcher.
pub fn main(args: Args) -> i32 {
    if cfg!(debug_assertions) {
        eprintln!(
            "tercio: a debug build says nothing about speed; build the launcher with \"cargo build --release\" and run \
             \"target/release/tercio bench\""
        );
        return 125;
    }
    if let Some(cores) = args.as_rank {
        return rank::main(&args, cores);
    }
    if args.check_limits {
        return check::main();
    }
    if args.op == Some(Op::Launch) {
        return start::main(&args);
    }
    if args.spreads() && args.op.is_some_and(|op| !op.moves_messages()) {
        eprintln!(
            "tercio: bench {} measures one host; latency, bandwidth, bibandwidth and rate go between hosts",
            args.op_name()
        );
        return 125;
    }
    if args.ranks < 2 && args.op.is_some_and(Op::moves_messages) || args.ranks == 0 {
        eprintln!(
            "tercio: bench {} needs at least two ranks: give -n 2 or more",
            args.op_name()
        );
        return 125;
    }
    if args.explain && !args.op.is_some_and(Op::moves_messages) {
        eprintln!(
            "tercio: bench {} --explain: the way of a message is told, and this is not about messages; use it with latency, bandwidth, \
             bibandwidth or rate",
            args.op_name()
        );
        return 125;
    }
    if args.shared && (args.way() != report::Way::Memory || args.spreads()) {
        eprintln!(
            "tercio: bench {} --shared: such buffers are read inside of one host, through memory; leave out --transport and the hosts",
            args.op_name()
        );
        return 125;
    }
    if let Err(sentence) = args.check_mpi() {
        eprintln!("tercio: bench {}: {sentence}", args.op_name());
        return 125;
    }
    if args.spreads() || args.by_mpi() {
        return match std::env::current_exe() {
            Ok(own) => crate::run::main(args.words_of_run(own.into())),
            Err(error) => no_own_file(&error),
        };
    }
    let program = match ranks_program(&args) {
        Ok(program) => program,
        Err(error) => return no_own_file(&error),
    };
    finish(Job::new().program(program).run())
}

fn no_own_file(error: &std::io::Error) -> i32 {
    eprintln!(
        "tercio: cannot find this launcher's own file, which the benchmark starts as its ranks: {error}"
    );
    125
}

/// The program of a benchmark's ranks: this launcher once more.
fn ranks_program(args: &Args) -> std::io::Result<Program> {
    let transport = match args.way() {
        report::Way::Sockets => "tcp",
        _ => "auto",
    };
    Ok(Program::new(std::env::current_exe()?, args.ranks)
        .args(args.words())
        .env("TERCIO_TRANSPORT", transport))
}

/// Shows what went wrong, if anything; the exit code.
fn finish(outcome: Result<tercio::launch::Outcome, tercio::launch::Error>) -> i32 {
    match outcome {
        Ok(outcome) => {
            if let Some(verdict) = &outcome.verdict {
                eprintln!("{}", verdict.text());
            }
            outcome.code
        }
        Err(error) => {
            eprintln!("tercio: {error}");
            125
        }
    }
}

impl Args {
    /// What messages between neighbours go through.
    fn way(&self) -> report::Way {
        match self.transport.as_str() {
            name if name.starts_with("mpi") => report::Way::Mpi,
            "tcp" => report::Way::Sockets,
            _ if self.apart => report::Way::Sockets,
            _ => report::Way::Memory,
        }
    }

    /// Whether the ranks are on several hosts.
    fn spreads(&self) -> bool {
        self.hosts.is_some() || self.hostfile.is_some()
    }

    /// Whether the system's MPI carries messages.
    fn by_mpi(&self) -> bool {
        self.transport.starts_with("mpi")
    }

    /// Whether an MPI can be measured, if that is asked for.
    fn check_mpi(&self) -> Result<(), &'static str> {
        if !self.by_mpi() {
            return if self.mpiexec.is_some() {
                Err(
                    "--mpiexec says by what an MPI starts its ranks; it goes with --transport mpi or mpi:all",
                )
            } else {
                Ok(())
            };
        }
        if !cfg!(feature = "system-mpi") {
            return Err(
                "this launcher was built without an MPI; build it with \"cargo build --release -p tercio-launcher --features system-mpi\", \
                 and with MPICC=/path/to/mpicc for another MPI than the one in PATH",
            );
        }
        if self.transport == "mpi" && !self.spreads() {
            return Err(
                "inside one host --transport mpi leaves messages in shared memory; give hosts by -H, or send all through the MPI by \
                 --transport mpi:all",
            );
        }
        Ok(())
    }

    /// The words behind `tercio run` for a benchmark on several hosts or through an MPI, with this launcher's file as the ranks' program.
    fn words_of_run(&self, own: OsString) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["-n".into(), self.ranks.to_string().into()];
        if self.by_mpi() {
            // Its launcher takes hosts in turn by itself where each has one rank; some cannot be told to.
            words.extend(["--transport".into(), self.transport.clone().into()]);
        } else {
            words.extend(["--map-by".into(), "node".into()]);
        }
        let options = [
            ("--host", self.hosts.as_ref().map(Into::into)),
            ("--hostfile", self.hostfile.clone()),
            ("--rsh-agent", self.rsh_agent.clone()),
            ("--bind-to", self.bind_to.clone()),
            ("--mpiexec", self.mpiexec.clone()),
        ];
        for (option, value) in options {
            if let Some(value) = value {
                words.extend([option.into(), value]);
            }
        }
        words.push(own);
        words.extend(self.words());
        if self.spreads() {
            words.push("--apart".into());
        }
        words
    }

    fn op_name(&self) -> String {
        let value = self.op.and_then(|op| op.to_possible_value());
        value.map_or(String::new(), |value| value.get_name().to_owned())
    }

    fn sizes_of(&self, op: Op) -> Vec<usize> {
        if self.sizes.is_empty() || !op.has_sizes() {
            op.default_sizes().to_vec()
        } else {
            self.sizes.clone()
        }
    }

    /// The same command line for a rank.
    fn words(&self) -> Vec<OsString> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let mut words: Vec<String> = vec!["bench".into(), format!("--as-rank={cores}")];
        words.extend(self.op.map(|_| self.op_name()));
        words.push(format!("--transport={}", self.transport));
        words.extend(self.iters.map(|iters| format!("--iters={iters}")));
        if !self.sizes.is_empty() {
            let sizes: Vec<String> = self.sizes.iter().map(usize::to_string).collect();
            words.push(format!("--sizes={}", sizes.join(",")));
        }
        for (given, word) in [
            (self.rewrite, "--rewrite"),
            (self.shared, "--shared"),
            (self.explain, "--explain"),
            (self.json, "--json"),
            (self.no_limit, "--no-limit"),
            (self.check_limits, "--check-limits"),
        ] {
            if given {
                words.push(word.into());
            }
        }
        words.into_iter().map(Into::into).collect()
    }
}

/// Bytes, with K, M or G for powers of 1024.
pub(crate) fn size(word: &str) -> Result<usize, String> {
    let (digits, shift) = match word.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&word[..word.len() - 1], 10),
        Some(b'M') => (&word[..word.len() - 1], 20),
        Some(b'G') => (&word[..word.len() - 1], 30),
        _ => (word, 0),
    };
    let number: usize = digits
        .parse()
        .map_err(|_| "a size is a number of bytes, as in 8, 64K or 1M".to_owned())?;
    number
        .checked_mul(1 << shift)
        .filter(|&bytes| bytes <= 1 << 30)
        .ok_or_else(|| "sizes go up to 1G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_in_powers_of_1024() {
        assert_eq!(size("8"), Ok(8));
        assert_eq!(size("64K"), Ok(65536));
        assert_eq!(size("1m"), Ok(1 << 20));
        assert!(size("K").is_err());
        assert!(size("12X").is_err());
        assert!(size("2G").unwrap_err().contains("1G"));
    }
}
