//! `tercio bench`: how fast the lanes and the collectives are here, each figure beside the limit probed in the same second.

/// The command line of `tercio bench`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the benchmark; the exit code of the launcher.
pub fn main(_args: Args) -> i32 {
    eprintln!("tercio: no benchmark is built in yet");
    125
}
