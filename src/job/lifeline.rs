//! The lifeline: a connection to the agent whose end is this process's end, even while it computes.
use crate::sys::{fd, process};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The code of a process whose agent is gone. Nobody is left to see it.
const AGENT_GONE: i32 = 120;

/// The name of the thread, as the kernel tells it (which keeps 15 bytes).
pub(crate) const THREAD: &str = "tercio-lifeline";

/// The smallest stack that all our targets accept; the thread calls recv and nothing else.
const STACK: usize = 64 * 1024;

/// Starts the thread that holds `lifeline` and ends the process when its other end is closed.
pub(crate) fn hold(lifeline: OwnedFd) -> io::Result<()> {
    // Blocked before the thread starts, so that no signal of the program is ever handled there.
    let blocked = process::SignalsBlocked::new();
    let started = std::thread::Builder::new()
        .name(THREAD.into())
        .stack_size(STACK)
        .spawn(move || {
            let mut byte = [0_u8; 1];
            loop {
                match fd::receive(lifeline.as_fd(), &mut byte, true) {
                    // The program closed descriptors that are not its own; the parent-death signal still watches.
                    Err(error) if error.raw_os_error() == Some(libc::EBADF) => return,
                    Ok(0) | Err(_) => process::exit_now(AGENT_GONE),
                    Ok(_) => {}
                }
            }
        });
    drop(blocked);
    started.map(drop)
}
