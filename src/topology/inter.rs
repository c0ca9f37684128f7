//! Communicators between two groups: those who spawned, and those whom they spawned.
use super::communicator::shared;
use super::group::Members;
use super::sealed::{AsHandle, CommunicatorHandle};
use super::shared::{Role, Shared};
use super::{AsCommunicator, Communicator, Rank, SimpleCommunicator, UserGroup};
use crate::coll;
use crate::ffi::MPI_Comm;
use crate::raw::{AsRaw, FromRaw};
use core::panic::Location;
use std::sync::Arc;

/// A communicator between two groups that have no process in common. Messages go to and come from processes of the other group, which its
/// ranks count; [`rank`](Communicator::rank) and [`size`](Communicator::size) are those of the own group.
///
/// A group that spawned another has one with it ([`Root::spawn`](crate::collective::Root::spawn)), the spawned one has the other end
/// ([`Communicator::parent`]). It has messages, a barrier, and the collectives `all_gather_into` and `all_to_all_into` with their `varcount` and
/// `immediate_` forms, in which each process gives to the other group and gets from it, elements of one type; for other collectives
/// [`merge`](Self::merge) it.
///
/// ```no_run
/// use tercio::{topology::MergeOrder, traits::*};
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let all = match world.parent() {
///     Some(parent) => {
///         parent.process_at_rank(0).send(&world.rank());
///         parent.merge(MergeOrder::High)
///     }
///     None => {
///         let this = std::process::Command::new(std::env::current_exe().unwrap());
///         let children = world.process_at_rank(0).spawn(&this, 2).unwrap();
///         if world.rank() == 0 {
///             let (one, _) = children.any_process().receive::<i32>();
///             let (other, _) = children.any_process().receive::<i32>();
///             assert_eq!(one + other, 1);
///         }
///         children.merge(MergeOrder::Low)
///     }
/// };
/// println!("rank {} of {} old and new ones", all.rank(), all.size());
/// ```
pub struct InterCommunicator(pub(crate) CommunicatorHandle);

/// Which group comes first when an [`InterCommunicator`] is merged.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum MergeOrder {
    /// The own group comes first.
    Low,
    /// The own group comes last.
    High,
}

impl InterCommunicator {
    /// A further handle of the communicator that `raw` is of, if that is one between two groups.
    ///
    /// # Safety
    ///
    /// `raw` must be the handle of a communicator that is alive.
    ///
    /// ```
    /// use tercio::{topology::InterCommunicator, traits::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// // SAFETY: alive.
    /// assert!(unsafe { InterCommunicator::try_from_raw(world.as_raw()) }.is_none());
    /// ```
    pub unsafe fn try_from_raw(raw: MPI_Comm) -> Option<InterCommunicator> {
        // SAFETY: by the contract of this function.
        let inter = InterCommunicator(unsafe { CommunicatorHandle::of(raw) });
        inter.test_inter().then_some(inter)
    }

    pub(crate) fn from_shared(shared: Arc<Shared>) -> InterCommunicator {
        InterCommunicator(CommunicatorHandle(shared))
    }

    /// How many processes the other group has.
    ///
    /// Corresponds to `MPI_Comm_remote_size`.
    ///
    /// ```no_run
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let worker = std::process::Command::new("./worker");
    /// let workers = universe.world().process_at_rank(0).spawn(&worker, 3).unwrap();
    /// assert_eq!(workers.remote_size(), 3);
    /// ```
    #[track_caller]
    pub fn remote_size(&self) -> Rank {
        self.target_size()
    }

    /// The other group.
    ///
    /// Corresponds to `MPI_Comm_remote_group`.
    ///
    /// ```no_run
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let worker = std::process::Command::new("./worker");
    /// let workers = universe.world().process_at_rank(0).spawn(&worker, 3).unwrap();
    /// assert_eq!(workers.remote_group().rank(), None); // this process is in the other one
    /// ```
    #[track_caller]
    pub fn remote_group(&self) -> UserGroup {
        let shared = shared(self);
        shared.instance().check_alive();
        UserGroup::new(Members::new(
            shared.coll().comm().members().to_vec(),
            Some(shared.instance().engine().rank()),
        ))
    }

    /// One communicator of both groups (collective over both). All members of a group say the same order; where both groups do, those who
    /// spawned come first.
    ///
    /// Corresponds to `MPI_Intercomm_merge`. Ends the job if the members of a group say different orders.
    ///
    /// ```no_run
    /// use tercio::{topology::MergeOrder, traits::*};
    /// let universe = tercio::initialize().unwrap();
    /// let worker = std::process::Command::new("./worker");
    /// let workers = universe.world().process_at_rank(0).spawn(&worker, 3).unwrap();
    /// let all = workers.merge(MergeOrder::Low); // the workers say High
    /// assert_eq!(all.size(), universe.world().size() + 3);
    /// ```
    #[track_caller]
    pub fn merge(&self, merge_order: MergeOrder) -> SimpleCommunicator {
        let shared = shared(self);
        let instance = shared.instance();
        let _entry = instance.enter();
        let coll = instance.check(coll::merge(
            instance.engine(),
            shared.coll(),
            merge_order == MergeOrder::High,
            Location::caller(),
        ));
        SimpleCommunicator::from_shared(Shared::new(instance, coll, Role::User))
    }
}

// SAFETY: that of the handle.
unsafe impl AsRaw for InterCommunicator {
    type Raw = MPI_Comm;
    fn as_raw(&self) -> MPI_Comm {
        self.0.as_raw()
    }
}

/// A further handle of the same communicator. Panics if that is not one between two groups.
impl FromRaw for InterCommunicator {
    #[track_caller]
    unsafe fn from_raw(raw: MPI_Comm) -> Self {
        // SAFETY: by the contract of FromRaw.
        match unsafe { Self::try_from_raw(raw) } {
            Some(inter) => inter,
            None => panic!(
                "InterCommunicator::from_raw was given the handle of a communicator of one group; take SimpleCommunicator::from_raw"
            ),
        }
    }
}

impl AsHandle for InterCommunicator {
    fn as_handle(&self) -> &CommunicatorHandle {
        &self.0
    }
}

impl Communicator for InterCommunicator {}

impl AsCommunicator for InterCommunicator {
    type Out = InterCommunicator;
    fn as_communicator(&self) -> &InterCommunicator {
        self
    }
}
