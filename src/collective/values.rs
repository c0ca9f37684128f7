//! Collectives that every process calls alike, and that give values.
use super::call::sure;
use super::{Operation, TryValueCollectives};
use crate::datatype::{BufferMut, Equivalence};
use crate::topology::communicator::shared;
use crate::topology::{Communicator, Rank};

/// Collectives in which every process makes the same call: with the root's rank where there is one, and with values instead of buffers.
///
/// The crate `mpi` has no such calls; they are in the prelude. Counts are `usize`s: nothing here is bound to the `i32`s of MPI.
///
/// ```
/// use tercio::{collective::SystemOperation, prelude::*};
/// tercio::testing::ranks(4, |world| {
///     let mine = world.scatter(0, (world.rank() == 0).then_some(&[2, 4, 6, 8][..]));
///     let sum = world.all_reduce(mine, SystemOperation::sum());
///     let shares = world.gather(0, &(f64::from(mine) / f64::from(sum)));
///     if let Some(shares) = shares {
///         assert_eq!(shares, [0.1, 0.2, 0.3, 0.4]);
///     }
/// });
/// ```
pub trait ValueCollectives: Communicator {
    /// Gives the root's elements to all: what `buffer` holds at the root is in all buffers then, which are of equal length.
    ///
    /// Corresponds to `MPI_Bcast`.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut x = [world.rank(); 2];
    ///     world.broadcast(1, &mut x);
    ///     assert_eq!(x, [1, 1]);
    /// });
    /// ```
    #[track_caller]
    fn broadcast<Buf: ?Sized + BufferMut>(&self, root: Rank, buffer: &mut Buf) {
        sure(shared(self), self.try_broadcast(root, buffer));
    }

    /// Gives the root's vector to all, whose vectors become as long.
    ///
    /// Two broadcasts (`MPI_Bcast`): of the length, and of the elements.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut names = if world.rank() == 0 { b"tercio".to_vec() } else { vec![] };
    ///     world.broadcast_vec(0, &mut names);
    ///     assert_eq!(names, b"tercio");
    /// });
    /// ```
    #[track_caller]
    fn broadcast_vec<T: Equivalence>(&self, root: Rank, values: &mut Vec<T>) {
        sure(shared(self), self.try_broadcast_vec(root, values));
    }

    /// The values of all processes, in the order of ranks, at the root; `None` at the others.
    ///
    /// Corresponds to `MPI_Gather`.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let squares = world.gather(1, &(world.rank() * world.rank()));
    ///     assert_eq!(squares, (world.rank() == 1).then(|| vec![0, 1, 4]));
    /// });
    /// ```
    #[track_caller]
    fn gather<T: Equivalence>(&self, root: Rank, value: &T) -> Option<Vec<T>> {
        sure(shared(self), self.try_gather(root, value))
    }

    /// The slices of all processes, which may differ in length, in the order of ranks, at the root; `None` at the others.
    ///
    /// Gathers the lengths and then the elements (`MPI_Gather`, `MPI_Gatherv`).
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mine = vec![world.rank(); world.rank() as usize];
    ///     if let Some(all) = world.gather_slices(0, &mine) {
    ///         assert_eq!(all, [vec![], vec![1], vec![2, 2]]);
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn gather_slices<T: Equivalence>(&self, root: Rank, values: &[T]) -> Option<Vec<Vec<T>>> {
        sure(shared(self), self.try_gather_slices(root, values))
    }

    /// The values of all processes, in the order of ranks, at all of them.
    ///
    /// Corresponds to `MPI_Allgather`.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     assert_eq!(world.all_gather(&world.rank()), [0, 1, 2]);
    /// });
    /// ```
    #[track_caller]
    fn all_gather<T: Equivalence>(&self, value: &T) -> Vec<T> {
        sure(shared(self), self.try_all_gather(value))
    }

    /// The slices of all processes, which may differ in length, in the order of ranks, at all of them.
    ///
    /// Gathers the lengths and then the elements (`MPI_Allgather`, `MPI_Allgatherv`).
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mine = vec![world.rank(); world.rank() as usize];
    ///     assert_eq!(world.all_gather_slices(&mine), [vec![], vec![1], vec![2, 2]]);
    /// });
    /// ```
    #[track_caller]
    fn all_gather_slices<T: Equivalence>(&self, values: &[T]) -> Vec<Vec<T>> {
        sure(shared(self), self.try_all_gather_slices(values))
    }

    /// One of the root's values for each process, in the order of ranks. The root gives `Some`; what the others give is not looked at.
    ///
    /// Corresponds to `MPI_Scatter`. Panics at the root if there is not one value for each process.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let values = (world.rank() == 0).then_some([5, 6, 7]);
    ///     let mine = world.scatter(0, values.as_ref().map(|values| &values[..]));
    ///     assert_eq!(mine, 5 + world.rank());
    /// });
    /// ```
    #[track_caller]
    fn scatter<T: Equivalence>(&self, root: Rank, values: Option<&[T]>) -> T {
        sure(shared(self), self.try_scatter(root, values))
    }

    /// One of the root's vectors, which may differ in length, for each process, in the order of ranks. The root gives `Some`; what the others give
    /// is not looked at.
    ///
    /// Scatters the lengths and then the elements (`MPI_Scatter`, `MPI_Scatterv`), which the root copies into one buffer first. Panics at the root
    /// if there is not one vector for each process.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let values = (world.rank() == 0).then(|| [vec![], vec![1], vec![2, 2]]);
    ///     let mine = world.scatter_slices(0, values.as_ref().map(|values| &values[..]));
    ///     assert_eq!(mine, vec![world.rank(); world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn scatter_slices<T: Equivalence>(&self, root: Rank, values: Option<&[Vec<T>]>) -> Vec<T> {
        sure(shared(self), self.try_scatter_slices(root, values))
    }

    /// Sends to each process its part of `values`, all parts being equally long, and gives what came from each, in the order of ranks.
    ///
    /// Corresponds to `MPI_Alltoall`. Panics if there are not as many values for each process.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let theirs = world.all_to_all(&[10 * world.rank(); 3]);
    ///     assert_eq!(theirs, [0, 10, 20]);
    /// });
    /// ```
    #[track_caller]
    fn all_to_all<T: Equivalence>(&self, values: &[T]) -> Vec<T> {
        sure(shared(self), self.try_all_to_all(values))
    }

    /// Sends to each process its vector of `values`, which may differ in length, and gives what came from each, in the order of ranks.
    ///
    /// Exchanges the lengths and then the elements (`MPI_Alltoall`, `MPI_Alltoallv`), which are copied into one buffer first. Panics if there is not
    /// one vector for each process.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let r = world.rank();
    ///     let theirs = world.all_to_all_slices(&[vec![], vec![r], vec![r, r]]); // as many as the receiver's rank
    ///     assert_eq!(theirs, [0, 1, 2].map(|from| vec![from; r as usize]));
    /// });
    /// ```
    #[track_caller]
    fn all_to_all_slices<T: Equivalence>(&self, values: &[Vec<T>]) -> Vec<Vec<T>> {
        sure(shared(self), self.try_all_to_all_slices(values))
    }

    /// The values of all processes, combined, at the root; `None` at the others.
    ///
    /// Corresponds to `MPI_Reduce`. Panics if the operation is not defined for the type.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let sum = world.reduce(2, world.rank(), SystemOperation::sum());
    ///     assert_eq!(sum, (world.rank() == 2).then_some(3));
    /// });
    /// ```
    #[track_caller]
    fn reduce<T: Equivalence, O: Operation>(&self, root: Rank, value: T, op: O) -> Option<T> {
        sure(shared(self), self.try_reduce(root, value, op))
    }

    /// The slices of all processes, which are equally long, combined element by element, at the root; `None` at the others.
    ///
    /// Corresponds to `MPI_Reduce`. Panics if the operation is not defined for the type.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let sums = world.reduce_slice(0, &[world.rank(), 1], SystemOperation::sum());
    ///     assert_eq!(sums, (world.rank() == 0).then(|| vec![3, 3]));
    /// });
    /// ```
    #[track_caller]
    fn reduce_slice<T: Equivalence, O: Operation>(
        &self,
        root: Rank,
        values: &[T],
        op: O,
    ) -> Option<Vec<T>> {
        sure(shared(self), self.try_reduce_slice(root, values, op))
    }

    /// The values of all processes, combined, at all of them.
    ///
    /// Corresponds to `MPI_Allreduce`. Panics if the operation is not defined for the type.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     assert_eq!(world.all_reduce(world.rank(), SystemOperation::sum()), 3);
    /// });
    /// ```
    #[track_caller]
    fn all_reduce<T: Equivalence, O: Operation>(&self, value: T, op: O) -> T {
        sure(shared(self), self.try_all_reduce(value, op))
    }

    /// The slices of all processes, which are equally long, combined element by element, at all of them.
    ///
    /// Corresponds to `MPI_Allreduce`. Panics if the operation is not defined for the type.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let sums = world.all_reduce_slice(&[world.rank(), 1], SystemOperation::sum());
    ///     assert_eq!(sums, [3, 3]);
    /// });
    /// ```
    #[track_caller]
    fn all_reduce_slice<T: Equivalence, O: Operation>(&self, values: &[T], op: O) -> Vec<T> {
        sure(shared(self), self.try_all_reduce_slice(values, op))
    }

    /// The values of all processes up to this one, combined.
    ///
    /// Corresponds to `MPI_Scan`. Panics if the operation is not defined for the type.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let sum = world.scan(world.rank(), SystemOperation::sum());
    ///     assert_eq!(sum, [0, 1, 3][world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn scan<T: Equivalence, O: Operation>(&self, value: T, op: O) -> T {
        sure(shared(self), self.try_scan(value, op))
    }

    /// The values of all processes before this one, combined; `None` at the first.
    ///
    /// Corresponds to `MPI_Exscan`. Panics if the operation is not defined for the type.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let (mine, op) = (10_usize, SystemOperation::sum());
    ///     let before = world.exclusive_scan(mine, op).unwrap_or(0);
    ///     assert_eq!(before, 10 * world.rank() as usize); // where this process's part of a file begins
    /// });
    /// ```
    #[track_caller]
    fn exclusive_scan<T: Equivalence, O: Operation>(&self, value: T, op: O) -> Option<T> {
        sure(shared(self), self.try_exclusive_scan(value, op))
    }
}

impl<C: ?Sized + Communicator> ValueCollectives for C {}
