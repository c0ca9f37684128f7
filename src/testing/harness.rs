//! What `#[tercio::test]` expands to calls these: a test that runs as a job of its own executable, started anew.
//!
//! ```text
//! test binary (under `cargo test` or nextest): test `halo::np_4`
//!   └─ run: a job of 4 ranks of /proc/self/exe with `halo::np_4 --exact`, whose environment says so
//!        ├─ guard: the same executable, which becomes the guard before its main (a constructor in the expansion)
//!        └─ ranks: the same test again; `run` sees what it is and calls the test's function
//! ```
use crate::environment::{Universe, initialize};
use crate::job::identity;
use crate::launch::{Bind, Job, Output, Program};
use crate::topology::SimpleCommunicator;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::exit;
use std::time::Duration;

/// By this variable a rank knows which test it runs. A job in a job (a test that starts another) is none of it.
const TEST: &str = "TERCIO_TEST";
/// A test that takes longer has hung.
const LIMIT: Duration = Duration::from_secs(60);

/// A test as its attribute describes it.
pub struct Test {
    /// The path of the test's function, the crate first.
    pub path: &'static str,
    /// How many ranks.
    pub ranks: usize,
    /// Seconds until the test counts as hung.
    pub timeout: Option<f64>,
}

/// What a test's function may take.
pub trait Argument {
    /// Makes the argument of a universe.
    fn take(universe: &mut Option<Universe>) -> Self;
}

impl Argument for SimpleCommunicator {
    fn take(universe: &mut Option<Universe>) -> SimpleCommunicator {
        match universe {
            Some(universe) => universe.world(),
            None => unreachable!("made before it is asked for"),
        }
    }
}

impl Argument for Universe {
    fn take(universe: &mut Option<Universe>) -> Universe {
        match universe.take() {
            Some(universe) => universe,
            None => unreachable!("made before it is asked for"),
        }
    }
}

/// What a test's function may return.
pub trait Report {
    /// Panics if the test failed.
    fn report(self);
}

impl Report for () {
    fn report(self) {}
}

impl<T: Report, E: Debug> Report for Result<T, E> {
    fn report(self) {
        match self {
            Ok(value) => value.report(),
            Err(error) => panic!("the test returned Err({error:?})"),
        }
    }
}

impl Test {
    /// The test, whose function initializes the library itself.
    #[track_caller]
    pub fn run<R: Report>(&self, function: fn() -> R) {
        self.launch_or(|| function().report());
    }

    /// The test, whose function takes the universe or its world.
    #[track_caller]
    pub fn run_with<A: Argument, R: Report>(&self, function: fn(A) -> R) {
        self.launch_or(|| {
            let mut universe = initialize();
            if universe.is_none() {
                panic!(
                    "the library was initialized before the test began; let the test's function take no argument and do it"
                );
            }
            let argument = A::take(&mut universe);
            function(argument).report();
        });
    }

    /// In a rank: does `body` and ends. Else: starts the ranks and judges.
    #[track_caller]
    fn launch_or(&self, body: impl FnOnce()) {
        // libtest's names begin below the crate.
        let name = self
            .path
            .split_once("::")
            .map_or(self.path, |(_, name)| name);
        let is_rank = std::env::var(TEST).is_ok_and(|test| test == name);
        if !(is_rank && std::env::var_os(identity::RANK).is_some()) {
            return self.launch(name);
        }
        // Before libtest says anything more: the rank's output is the test's own. A panic has been written by then.
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => exit(0),
            Err(_) => exit(101),
        }
    }

    #[track_caller]
    fn launch(&self, name: &str) {
        let executable = match std::env::current_exe() {
            Ok(executable) => executable,
            Err(error) => {
                panic!("cannot find the test's own executable: {error}; /proc must be mounted")
            }
        };
        let limit = self.timeout.map_or(LIMIT, Duration::from_secs_f64);
        let program = Program::new(executable, self.ranks)
            .args([
                name,
                "--exact",
                "--nocapture",
                "--include-ignored",
                "--quiet",
            ])
            .env(TEST, name);
        // Tests run beside others, so no test may take a core for itself.
        let job = Job::new()
            .program(program)
            .bind(Bind::None)
            .timeout(limit)
            .output(Output::Capture { tag: true });
        let outcome = match job.run() {
            Ok(outcome) => outcome,
            Err(error) => panic!(
                "the test's {} ranks could not be started: {error}",
                self.ranks
            ),
        };
        print!("{}", without_header(&outcome.stdout));
        eprint!("{}", String::from_utf8_lossy(&outcome.stderr));
        for note in &outcome.notes {
            eprintln!("tercio: {note}");
        }
        match (&outcome.verdict, outcome.code) {
            (None, 0) => {}
            (Some(verdict), _) => fail(verdict.text().trim_end().into()),
            (None, code) => fail(format!("the test's ranks ended with code {code}")),
        }
    }
}

/// Fails the test with `text` and without a panic's place and backtrace: those of the rank that failed are there already.
fn fail(text: String) -> ! {
    eprintln!("{text}");
    resume_unwind(Box::new(text))
}

/// The labelled output without what libtest writes before a test.
fn without_header(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let mut ranks_begun = Vec::new();
    let mut rest = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (label, said) = line.split_once("] ").unwrap_or(("", line));
        if !ranks_begun.contains(&label) {
            match said.trim_end() {
                "" => continue,
                "running 1 test" => {
                    ranks_begun.push(label);
                    continue;
                }
                _ => {}
            }
        }
        rest.push_str(line);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::without_header;

    #[test]
    fn only_the_header_of_each_rank_goes() {
        let output = "[1] \n[0] \n[1] running 1 test\n[1] hello\n[0] running 1 test\n[1] \n[0] running 1 test\n";
        assert_eq!(
            without_header(output.as_bytes()),
            "[1] hello\n[1] \n[0] running 1 test\n"
        );
    }
}
