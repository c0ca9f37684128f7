//! What a program's library shares with its tests: types that derive through `mpi`.
use mpi::traits::*;

/// A point of a grid.
#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Where it is.
    pub place: [f64; 3],
    /// Whether it moves.
    pub free: bool,
}
