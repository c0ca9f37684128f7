//! Ranks of a communicator as values: what messages go to and come from.
use super::sealed::{AsHandle, CommunicatorHandle};
use super::{AsCommunicator, Communicator, Rank};
use crate::ffi::MPI_Comm;
use crate::raw::AsRaw;

/// A process of a communicator.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let me = world.this_process();
/// assert!(me.is_self() && me.rank() == 0);
/// ```
#[derive(Copy, Clone)]
pub struct Process<'a> {
    comm: AnyProcess<'a>,
    rank: Rank,
}

impl<'a> Process<'a> {
    pub(super) fn new(handle: &'a CommunicatorHandle, rank: Rank) -> Process<'a> {
        Process {
            comm: AnyProcess(handle),
            rank,
        }
    }

    pub(crate) fn handle(self) -> &'a CommunicatorHandle {
        self.comm.0
    }

    /// The process's rank.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().process_at_rank(0).rank(), 0);
    /// ```
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// Whether it is the calling one.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(2, |world| {
    ///     assert_eq!(world.process_at_rank(1).is_self(), world.rank() == 1);
    /// });
    /// ```
    #[track_caller]
    pub fn is_self(&self) -> bool {
        self.comm.rank() == self.rank && !self.comm.test_inter()
    }
}

/// Any process of a communicator: a source of messages.
///
/// ```
/// use tercio::traits::*;
/// tercio::testing::ranks(3, |world| {
///     if world.rank() == 0 {
///         let sum: i32 = (1..3).map(|_| world.any_process().receive::<i32>().0).sum();
///         assert_eq!(sum, 3);
///     } else {
///         world.process_at_rank(0).send(&world.rank());
///     }
/// });
/// ```
#[derive(Copy, Clone)]
pub struct AnyProcess<'a>(pub(super) &'a CommunicatorHandle);

impl<'a> AnyProcess<'a> {
    pub(crate) fn handle(self) -> &'a CommunicatorHandle {
        self.0
    }
}

// SAFETY: that of the handle.
unsafe impl AsRaw for Process<'_> {
    type Raw = MPI_Comm;
    fn as_raw(&self) -> MPI_Comm {
        self.comm.as_raw()
    }
}

impl AsHandle for Process<'_> {
    #[inline]
    fn as_handle(&self) -> &CommunicatorHandle {
        self.comm.0
    }
}

impl Communicator for Process<'_> {}

impl<'a> AsCommunicator for Process<'a> {
    type Out = AnyProcess<'a>;
    #[inline]
    fn as_communicator(&self) -> &AnyProcess<'a> {
        &self.comm
    }
}

// SAFETY: that of the handle.
unsafe impl AsRaw for AnyProcess<'_> {
    type Raw = MPI_Comm;
    fn as_raw(&self) -> MPI_Comm {
        self.0.as_raw()
    }
}

impl AsHandle for AnyProcess<'_> {
    #[inline]
    fn as_handle(&self) -> &CommunicatorHandle {
        self.0
    }
}

impl Communicator for AnyProcess<'_> {}

impl<'a> AsCommunicator for AnyProcess<'a> {
    type Out = AnyProcess<'a>;
    #[inline]
    fn as_communicator(&self) -> &AnyProcess<'a> {
        self
    }
}
