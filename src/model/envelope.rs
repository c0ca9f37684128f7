//! What a message says about itself, and what a receive tells of it.
use super::TypeCode;

/// The largest tag: 2^31 - 1.
pub(crate) const MAX_TAG: i32 = i32::MAX;

/// Everything that matching and checking need to know of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) context: u32,
    /// The sender's rank in the communicator of `context`. Lanes imply it: transports fill in the world rank, the engine translates.
    pub(crate) source: u32,
    pub(crate) tag: i32,
    /// Packed bytes.
    pub(crate) bytes: u64,
    pub(crate) code: TypeCode,
    /// The sender's call-site id; 0 unknown.
    pub(crate) site: u32,
    /// The sender waits for the match.
    pub(crate) sync: bool,
    pub(crate) ready: bool,
}

/// What is known of a finished receive or a probed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// The sender's rank in the communicator; `None` for `PROC_NULL`.
    pub(crate) source: Option<usize>,
    /// `None` for `PROC_NULL` (`MPI_ANY_TAG`).
    pub(crate) tag: Option<i32>,
    pub(crate) bytes: u64,
    pub(crate) cancelled: bool,
}

impl Status {
    /// What a receive from `PROC_NULL`, or a send, reports.
    pub(crate) const EMPTY: Status = Status {
        source: None,
        tag: None,
        bytes: 0,
        cancelled: false,
    };
}
