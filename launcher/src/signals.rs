//! Signals to the launcher: INT, TERM, HUP and QUIT end the job, the terminal's stop pauses it, USR1 and USR2 go to the ranks. These have process groups of
//! their own, so what a terminal sends reaches this process alone.
use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::low_level;
use tercio::launch::{Ending, Handle};

/// Signals caught from now on, and kept until there is a job to deliver them to.
pub(crate) struct Signals(signal_hook::iterator::Signals);

impl Signals {
    pub(crate) fn catch() -> io::Result<Signals> {
        let mut caught = vec![SIGINT, SIGTERM, SIGQUIT, SIGTSTP, SIGUSR1, SIGUSR2];
        // Under nohup a hangup is ignored, and stays so. (INT is caught even if ignored: a shell script's background jobs
        // begin so, and whoever sends them one means it.)
        if !ignored(SIGHUP) {
            caught.push(SIGHUP);
        }
        signal_hook::iterator::Signals::new(caught).map(Signals)
    }

    /// From a thread of its own, until the process ends.
    pub(crate) fn deliver_to(mut self, job: Handle) {
        std::thread::spawn(move || {
            for signal in self.0.forever() {
                match signal {
                    SIGTSTP => {
                        job.pause();
                        // As a stop, not as TSTP: that is caught. Returns when somebody sends CONT.
                        let _ = low_level::raise(SIGSTOP);
                        job.resume();
                    }
                    SIGUSR1 | SIGUSR2 => job.signal(signal),
                    // A second one kills at once: `end` again means that waiting for the grace is over.
                    _ => job.end(Ending::Signal(signal)),
                }
            }
        });
    }
}

fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.unwrap_or(0) & (1 << (signal - 1)) != 0
}
