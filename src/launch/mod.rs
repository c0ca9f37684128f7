//! Start, own, watch and end the ranks of a job, on one host or several.
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
//! let outcome = Job::new().program(Program::new("hostname", 4)).output(Output::Capture { tag: false }).run().unwrap();
//! assert_eq!(outcome.code, 0);
//! ```

mod agent;
pub(crate) mod attend;
mod cgroup;
mod channel;
mod cores;
mod course;
mod describe;
mod events;
mod examine;
#[cfg(test)]
mod fuzz;
mod guard;
mod hub;
mod job;
mod judge;
mod logs;
mod outbox;
mod plan;
mod pulse;
mod ranks;
mod relay;
mod running;
mod spawn;
mod streams;
mod teardown;
mod verdict;
mod wire;

pub use examine::{Check, Level, examine};
pub use job::{Bind, Error, Host, Job, Output, Program, Reach, Stdin};
pub use plan::Plan;
pub use running::{Ending, Handle, Outcome, Running};
pub use verdict::Verdict;

/// The variables by which a guard knows that it is one.
const ROLE: &str = "TERCIO_ROLE";
const CONTROL: &str = "TERCIO_CONTROL_FD";

/// Runs the guard or the agent of a job if this process was started to be one; returns otherwise.
///
/// ```
/// tercio::launch::role(); // the first line of main
/// // what the program does, starting jobs if it wants to
/// ```
///
/// It must be the first line of `main`, before any thread is started: the guard forks the agent while it has one
/// thread. In a program that never starts jobs it is not needed.
pub fn role() {
    match std::env::var_os(ROLE) {
        Some(role) if role == "guard" => {}
        Some(role) if role == "agent" => give_up(match guard::run_there() {
            Err(why) => why,
            Ok(never) => match never {},
        }),
        _ => return,
    }
    let number = std::env::var(CONTROL)
        .ok()
        .and_then(|text| text.parse().ok());
    let why = match number.map(guard::run) {
        Some(Err(why)) => why,
        Some(Ok(never)) => match never {},
        None => format!("{ROLE} is set but {CONTROL} is not; only tercio itself sets them"),
    };
    give_up(why)
}

fn give_up(why: String) -> ! {
    eprintln!("tercio: {why}");
    crate::sys::process::exit_now(125)
}

/// Whether a variable is meant for a guard, and not for ranks.
fn is_our_role(name: &std::ffi::OsStr) -> bool {
    name == ROLE || name == CONTROL
}

/// This host's name for messages.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "this host".into(), |name| name.trim_end().to_owned())
}

/// The job's name for messages: its agent, and when that was started.
fn job_name(agent: u32) -> String {
    format!(
        "{agent}-{}",
        crate::sys::process::start_time(agent).unwrap_or(0)
    )
}
