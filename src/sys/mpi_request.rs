//! What the two forms of [`mpi`](super::mpi) share.

/// A message that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) from: usize,
    pub(crate) tag: i32,
    pub(crate) bytes: usize,
}
