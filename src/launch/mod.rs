//! Start, own, watch and end the ranks of one host.
//!
//! [`Job`] describes what is to run, [`Running`] is a job under way, [`Outcome`] is what came of it. Behind them stand
//! two processes of our own, the guard and the agent, which see to it that nothing of a job survives it; the README
//! beside this file says who watches whom, and why nothing can be left.
//!
//! A program that starts jobs begins with [`role`], since guard and agent are the same executable started anew:
//!
//! ```no_run
//! use tercio::launch::{Job, Output, Program};
//!
//! tercio::launch::role(); // the first line of main; does not return in a guard or an agent
//! let outcome = Job::new().program(Program::new("hostname", 4)).output(Output::Capture).run().unwrap();
//! assert_eq!(outcome.code, 0);
//! ```

mod job;
mod running;
mod verdict;

pub use job::{Bind, Error, Job, Output, Program, Stdin};
pub use running::{Ending, Handle, Outcome, Running};
pub use verdict::Verdict;

/// Runs the guard or the agent of a job if this process was started to be one; returns otherwise.
///
/// It must be the first line of `main`, before any thread is started: the guard forks the agent while it has one
/// thread. In a program that never starts jobs it is not needed.
pub fn role() {}
