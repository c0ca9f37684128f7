//! The ordinary communicator.
use super::cartesian::CartesianCommunicator;
use super::sealed::{AsHandle, CommunicatorHandle};
use super::shared::Shared;
use super::{AsCommunicator, Communicator};
use crate::environment::process;
use crate::ffi::MPI_Comm;
use crate::raw::{AsRaw, FromRaw};
use std::sync::Arc;

/// A communicator of processes that send to each other.
///
/// ```
/// use tercio::traits::*;
/// tercio::testing::ranks(2, |world| {
///     let other = 1 - world.rank();
///     let copy = world.duplicate(); // messages of the copy and of the world never meet
///     copy.process_at_rank(other).send(&world.rank());
///     assert_eq!(copy.any_process().receive::<i32>().0, other);
/// });
/// ```
pub struct SimpleCommunicator(pub(crate) CommunicatorHandle);

impl SimpleCommunicator {
    pub(crate) fn from_shared(shared: Arc<Shared>) -> SimpleCommunicator {
        SimpleCommunicator(CommunicatorHandle(shared))
    }

    /// The communicator of all ranks. Panics before initialization.
    ///
    /// Corresponds to `MPI_COMM_WORLD`.
    ///
    /// ```
    /// use tercio::{topology::SimpleCommunicator, traits::*};
    /// let _universe = tercio::initialize().unwrap();
    /// assert_eq!(SimpleCommunicator::world().size(), 1);
    /// ```
    #[track_caller]
    pub fn world() -> SimpleCommunicator {
        SimpleCommunicator::from_shared(process::rank("the world's communicator").world)
    }

    /// The communicator of this process alone. Panics before initialization.
    ///
    /// Corresponds to `MPI_COMM_SELF`.
    ///
    /// ```
    /// use tercio::{topology::SimpleCommunicator, traits::*};
    /// tercio::testing::ranks(3, |_| {
    ///     let me = SimpleCommunicator::self_comm();
    ///     assert_eq!((me.rank(), me.size()), (0, 1));
    /// });
    /// ```
    #[track_caller]
    pub fn self_comm() -> SimpleCommunicator {
        SimpleCommunicator::from_shared(process::rank("this process's communicator").self_comm)
    }

    /// What kind of order the communicator's processes have.
    ///
    /// Corresponds to `MPI_Topo_test`.
    ///
    /// ```
    /// use tercio::topology::Topology;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().topology(), Topology::Undefined);
    /// ```
    pub fn topology(&self) -> Topology {
        if self.0.0.grid().is_some() {
            Topology::Cartesian
        } else {
            Topology::Undefined
        }
    }

    /// The communicator as the type that its order has.
    ///
    /// ```
    /// use tercio::topology::IntoTopology;
    /// let universe = tercio::initialize().unwrap();
    /// assert!(matches!(universe.world().into_topology(), IntoTopology::Undefined(_)));
    /// ```
    pub fn into_topology(self) -> IntoTopology {
        match self.topology() {
            Topology::Cartesian => IntoTopology::Cartesian(CartesianCommunicator(self)),
            _ => IntoTopology::Undefined(self),
        }
    }
}

// SAFETY: that of the handle.
unsafe impl AsRaw for SimpleCommunicator {
    type Raw = MPI_Comm;
    fn as_raw(&self) -> MPI_Comm {
        self.0.as_raw()
    }
}

/// A further handle of the same communicator: it goes when the last one does. Panics if that is one between two groups.
impl FromRaw for SimpleCommunicator {
    #[track_caller]
    unsafe fn from_raw(raw: MPI_Comm) -> Self {
        // SAFETY: by the contract of FromRaw.
        let simple = SimpleCommunicator(unsafe { CommunicatorHandle::of(raw) });
        assert!(
            !simple.test_inter(),
            "SimpleCommunicator::from_raw was given the handle of a communicator between two groups; take InterCommunicator::from_raw"
        );
        simple
    }
}

impl AsHandle for SimpleCommunicator {
    fn as_handle(&self) -> &CommunicatorHandle {
        &self.0
    }
}

impl Communicator for SimpleCommunicator {}

impl AsCommunicator for SimpleCommunicator {
    type Out = SimpleCommunicator;
    fn as_communicator(&self) -> &SimpleCommunicator {
        self
    }
}

/// The kinds of order that a communicator's processes can have.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Topology {
    /// A graph; not made by this library.
    Graph,
    /// A grid; see [`CartesianCommunicator`].
    Cartesian,
    /// A distributed graph; not made by this library.
    DistributedGraph,
    /// None but the ranks.
    Undefined,
}

/// A communicator as the type of its order; see [`SimpleCommunicator::into_topology`].
pub enum IntoTopology {
    /// A graph; not made by this library.
    Graph(GraphCommunicator),
    /// A grid.
    Cartesian(CartesianCommunicator),
    /// A distributed graph; not made by this library.
    DistributedGraph(DistributedGraphCommunicator),
    /// None but the ranks.
    Undefined(SimpleCommunicator),
}

/// A communicator whose processes form a graph. There is none in this library, as in rsmpi; the name is for matches on [`IntoTopology`].
#[derive(Debug)]
pub struct GraphCommunicator;

/// A communicator whose processes form a distributed graph. There is none in this library, as in rsmpi; the name is for matches on
/// [`IntoTopology`].
#[derive(Debug)]
pub struct DistributedGraphCommunicator;
