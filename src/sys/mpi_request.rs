//! What the two forms of [`mpi`](super::mpi) share.

/// A message that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) from: usize,
    pub(crate) tag: i32,
    pub(crate) bytes: usize,
}

/// Who calls MPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Threads {
    /// The only thread that uses the library.
    Single,
    /// The thread that initialized it, of several.
    Funneled,
    /// One at a time.
    Serialized,
}
