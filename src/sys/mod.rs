//! Every call to the operating system, each behind a safe, typed wrapper.
//! Nothing here knows of ranks, messages or jobs.

pub(crate) mod clock;
pub(crate) mod cma;
pub(crate) mod cpu;
pub(crate) mod fd;
pub(crate) mod futex;
pub(crate) mod mem;
#[cfg_attr(not(feature = "system-mpi"), path = "no_mpi.rs")]
pub(crate) mod mpi;
pub(crate) mod mpi_request;
pub(crate) mod net;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod simd;

/// The calling thread's last operating-system error as words for a sentence.
pub(crate) fn last_error() -> std::io::Error {
    std::io::Error::last_os_error()
}
