//! Leaving a job that is ending.
use crate::sys::process;

/// The code of a rank that left because the job was ending. The agent never takes it for a cause.
const FOLLOWED: i32 = 120;

/// Ends this process silently, because the abort word is set. A program that does something of its own on TERM is not ended: the
/// calling thread stays here for good while handlers and other threads do their work, until the program ends itself or is killed.
pub(crate) fn leave() -> ! {
    while process::catches_term() {
        process::pause();
    }
    process::exit_now(FOLLOWED)
}
