//! What can be done with any communicator.
use super::cartesian::{CartesianCommunicator, Grid};
use super::group::{GroupRelation, Members, UserGroup, members, relation};
use super::sealed::{AsHandle, CommunicatorHandle};
use super::shared::{Role, Shared};
use super::{
    AnyProcess, AsCommunicator, Color, CommunicatorRelation, Group, InterCommunicator, Key,
    Process, Rank, SimpleCommunicator,
};
use crate::coll;
use crate::datatype::{Buffer, BufferMut, Datatype, pack, span};
use crate::environment::process;
use crate::job::FailureKind;
use crate::{Count, Tag};
use core::panic::Location;
use std::sync::Arc;

/// Processes with ranks and a context of their own. It is object-safe: `&dyn Communicator` has collectives too.
///
/// ```
/// use tercio::traits::*;
/// fn sum_of_ranks(comm: &dyn Communicator) -> i32 {
///     let mut sum = 0;
///     comm.all_reduce_into(&comm.rank(), &mut sum, tercio::collective::SystemOperation::sum());
///     sum
/// }
/// tercio::testing::ranks(4, |world| assert_eq!(sum_of_ranks(&world), 6));
/// ```
pub trait Communicator: AsHandle {
    /// How many processes messages can go to: [`size`](Self::size), or the size of the other group.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().target_size(), 1);
    /// ```
    #[track_caller]
    fn target_size(&self) -> Rank {
        let shared = shared(self);
        shared.instance().check_alive();
        shared.coll().size() as Rank
    }

    /// How many processes; of an inter-communicator, how many in this process's group.
    ///
    /// Corresponds to `MPI_Comm_size`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| assert_eq!(world.size(), 3));
    /// ```
    #[track_caller]
    fn size(&self) -> Rank {
        let shared = shared(self);
        shared.instance().check_alive();
        shared.coll().comm().own().len() as Rank
    }

    /// This process's rank.
    ///
    /// Corresponds to `MPI_Comm_rank`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| assert!((0..3).contains(&world.rank())));
    /// ```
    #[track_caller]
    fn rank(&self) -> Rank {
        let shared = shared(self);
        shared.instance().check_alive();
        shared.coll().rank() as Rank
    }

    /// The process with rank `r`. Panics if there is none.
    ///
    /// ```should_panic
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// universe.world().process_at_rank(1); // of one
    /// ```
    #[track_caller]
    fn process_at_rank(&self, r: Rank) -> Process<'_> {
        let size = self.target_size();
        assert!(
            (0..size).contains(&r),
            "process_at_rank was asked for rank {r} of a communicator of {size}; ranks are 0 to size - 1"
        );
        Process::new(self.as_handle(), r)
    }

    /// Any process: a source of messages.
    ///
    /// Corresponds to `MPI_ANY_SOURCE`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert!(universe.world().any_process().immediate_probe().is_none());
    /// ```
    fn any_process(&self) -> AnyProcess<'_> {
        AnyProcess(self.as_handle())
    }

    /// This process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert!(universe.world().this_process().is_self());
    /// ```
    #[track_caller]
    fn this_process(&self) -> Process<'_> {
        Process::new(self.as_handle(), self.rank())
    }

    /// How this communicator and `other` compare.
    ///
    /// Corresponds to `MPI_Comm_compare`.
    ///
    /// ```
    /// use tercio::{topology::CommunicatorRelation, traits::*};
    /// tercio::testing::ranks(2, |world| {
    ///     assert_eq!(world.compare(&world.duplicate()), CommunicatorRelation::Congruent);
    /// });
    /// ```
    fn compare(&self, other: &dyn Communicator) -> CommunicatorRelation {
        let (one, other) = (shared(self), shared(other));
        if Arc::ptr_eq(one, other) {
            return CommunicatorRelation::Identical;
        }
        let (one, other) = (one.coll().comm(), other.coll().comm());
        if one.is_inter() != other.is_inter() {
            return CommunicatorRelation::Unequal;
        }
        let groups = [
            relation(one.own(), other.own()),
            relation(one.members(), other.members()),
        ];
        let least = if groups.contains(&GroupRelation::Unequal) {
            GroupRelation::Unequal
        } else if groups.contains(&GroupRelation::Similar) {
            GroupRelation::Similar
        } else {
            GroupRelation::Identical
        };
        match least {
            GroupRelation::Identical => CommunicatorRelation::Congruent,
            GroupRelation::Similar => CommunicatorRelation::Similar,
            GroupRelation::Unequal => CommunicatorRelation::Unequal,
        }
    }

    /// A new communicator of the same processes (collective). Attributes that want it are cloned.
    ///
    /// Corresponds to `MPI_Comm_dup`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| assert_eq!(world.duplicate().rank(), world.rank()));
    /// ```
    #[track_caller]
    fn duplicate(&self) -> SimpleCommunicator {
        let parent = shared(self);
        let instance = parent.instance();
        let _entry = instance.enter();
        let coll = instance.check(coll::duplicate(
            instance.engine(),
            parent.coll(),
            Location::caller(),
        ));
        let copy = Shared::with_grid(instance, coll, Role::User, parent.grid().cloned());
        parent.attributes.clone_to(&copy.attributes);
        SimpleCommunicator::from_shared(copy)
    }

    /// A new communicator for each color (collective), its members in the order of their ranks here.
    ///
    /// Corresponds to `MPI_Comm_split`.
    ///
    /// ```
    /// use tercio::{topology::Color, traits::*};
    /// tercio::testing::ranks(4, |world| {
    ///     let parity = world.split_by_color(Color::with_value(world.rank() % 2)).unwrap();
    ///     assert_eq!((parity.rank(), parity.size()), (world.rank() / 2, 2));
    /// });
    /// ```
    #[track_caller]
    fn split_by_color(&self, color: Color) -> Option<SimpleCommunicator> {
        self.split_by_color_with_key(color, Key::default())
    }

    /// A new communicator for each color (collective), its members in the order of their keys; those with equal keys in the order of their
    /// ranks here.
    ///
    /// Corresponds to `MPI_Comm_split`.
    ///
    /// ```
    /// use tercio::{topology::Color, traits::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let reversed = world.split_by_color_with_key(Color::with_value(0), -world.rank()).unwrap();
    ///     assert_eq!(reversed.rank(), 2 - world.rank());
    /// });
    /// ```
    #[track_caller]
    fn split_by_color_with_key(&self, color: Color, key: Key) -> Option<SimpleCommunicator> {
        split(shared(self), color.value(), key, None).map(SimpleCommunicator::from_shared)
    }

    /// A new communicator for each host (collective).
    ///
    /// Corresponds to `MPI_Comm_split_type` with `MPI_COMM_TYPE_SHARED`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(2, |world| assert_eq!(world.split_shared(0).size(), 2));
    /// ```
    #[track_caller]
    fn split_shared(&self, key: Key) -> SimpleCommunicator {
        // All ranks of a job are on one host.
        match split(shared(self), Some(0), key, None) {
            Some(comm) => SimpleCommunicator::from_shared(comm),
            None => unreachable!("a color gives a communicator"),
        }
    }

    /// A new communicator of the processes of `group` (collective over this communicator; each process gives the group that it is in, or any
    /// that it is not in). `None` where the process is not in its group.
    ///
    /// Corresponds to `MPI_Comm_create`. Panics if a member of the group is not in this communicator.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let two = world.group().include(&[2, 0]);
    ///     let comm = world.split_by_subgroup_collective(&two);
    ///     assert_eq!(comm.map(|c| c.rank()), [Some(1), None, Some(0)][world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn split_by_subgroup_collective(&self, group: &dyn Group) -> Option<SimpleCommunicator> {
        let parent = shared(self);
        let ranks = subgroup_ranks("split_by_subgroup_collective", parent, group);
        // Groups that are given together are equal or disjoint, so the first member tells them apart.
        let color = group.rank().and(ranks.first()).map(|&first| first as i32);
        split(parent, color, group.rank().unwrap_or(0), None).map(SimpleCommunicator::from_shared)
    }

    /// A new communicator of the processes of `group`, which alone make the call. `None` where the process is not in the group.
    ///
    /// Corresponds to `MPI_Comm_create_group`. Panics if a member of the group is not in this communicator.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let two = world.group().include(&[0, 2]);
    ///     if world.rank() != 1 {
    ///         assert_eq!(world.split_by_subgroup(&two).unwrap().size(), 2);
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn split_by_subgroup(&self, group: &dyn Group) -> Option<SimpleCommunicator> {
        self.split_by_subgroup_with_tag(group, Tag::default())
    }

    /// As [`split_by_subgroup`](Self::split_by_subgroup), with a tag that tells apart calls that threads of a process make at once.
    ///
    /// Corresponds to `MPI_Comm_create_group`. Panics if the tag is negative or a member of the group is not in this communicator.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(2, |world| {
    ///     let comm = world.split_by_subgroup_with_tag(&world.group(), 3).unwrap();
    ///     assert_eq!(comm.size(), 2);
    /// });
    /// ```
    #[track_caller]
    fn split_by_subgroup_with_tag(
        &self,
        group: &dyn Group,
        tag: Tag,
    ) -> Option<SimpleCommunicator> {
        assert!(
            tag >= 0,
            "split_by_subgroup_with_tag was asked for tag {tag}; tags must not be negative"
        );
        let parent = shared(self);
        let ranks = subgroup_ranks("split_by_subgroup", parent, group);
        if !ranks.contains(&parent.coll().rank()) {
            return None;
        }
        let instance = parent.instance();
        let _entry = instance.enter();
        let coll = coll::form(
            instance.engine(),
            parent.coll(),
            &ranks,
            tag,
            Location::caller(),
        );
        let comm = Shared::new(instance, instance.check(coll), Role::User);
        Some(SimpleCommunicator::from_shared(comm))
    }

    /// The group of this communicator's processes.
    ///
    /// Corresponds to `MPI_Comm_group`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| assert_eq!(world.group().rank(), Some(world.rank())));
    /// ```
    #[track_caller]
    fn group(&self) -> UserGroup {
        let shared = shared(self);
        shared.instance().check_alive();
        UserGroup::new(Members::new(
            shared.coll().comm().own().to_vec(),
            Some(shared.instance().engine().rank()),
        ))
    }

    /// Ends the whole job at once, with exit code `errorcode & 255`, or 120 if that is 0.
    ///
    /// Corresponds to `MPI_Abort`.
    ///
    /// ```no_run
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// universe.world().abort(3);
    /// ```
    #[track_caller]
    fn abort(&self, errorcode: i32) -> ! {
        let instance = shared(self).instance();
        let code = match errorcode & 255 {
            0 => 120,
            code => code,
        };
        let at = Location::caller();
        let text = format!(
            "rank {} called abort({errorcode}) at {}:{}",
            instance.engine().rank(),
            at.file(),
            at.line()
        );
        instance.end(FailureKind::Abort, code, &text)
    }

    /// Whether this is an inter-communicator.
    ///
    /// Corresponds to `MPI_Comm_test_inter`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert!(!universe.world().test_inter());
    /// ```
    fn test_inter(&self) -> bool {
        shared(self).coll().comm().is_inter()
    }

    /// The communicator with the processes that spawned this one; `None` if it was not spawned, or after
    /// [`disconnect_parent`](crate::environment::Universe::disconnect_parent).
    ///
    /// Corresponds to `MPI_Comm_get_parent`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert!(universe.world().parent().is_none());
    /// ```
    #[track_caller]
    fn parent(&self) -> Option<InterCommunicator> {
        shared(self).instance().check_alive();
        let parent = process::rank("the parent's communicator").parent()?;
        Some(InterCommunicator::from_shared(parent))
    }

    /// Gives the communicator a name, for messages to people.
    ///
    /// Corresponds to `MPI_Comm_set_name`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let copy = universe.world().duplicate();
    /// copy.set_name("halo");
    /// assert_eq!(copy.get_name(), "halo");
    /// ```
    #[track_caller]
    fn set_name(&self, name: &str) {
        let shared = shared(self);
        shared.instance().check_alive();
        shared.set_name(name);
    }

    /// The communicator's name. The world's is `MPI_COMM_WORLD` unless it was given another.
    ///
    /// Corresponds to `MPI_Comm_get_name`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().get_name(), "MPI_COMM_WORLD");
    /// ```
    #[track_caller]
    fn get_name(&self) -> String {
        let shared = shared(self);
        shared.instance().check_alive();
        shared.name()
    }

    /// A new communicator whose processes form a grid of `dims[i]` processes along dimension `i`, closed to a ring where `periods[i]`
    /// (collective). `None` for the processes that the grid has no place for. Ranks are not reordered.
    ///
    /// Corresponds to `MPI_Cart_create`. Panics if the slices differ in length, a dimension is not positive, or there are too few processes.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(6, |world| {
    ///     let grid = world.create_cartesian_communicator(&[2, 3], &[false, true], false).unwrap();
    ///     assert_eq!(grid.coordinates_to_rank(&[1, 4]), 4); // 4 is 1 on a ring of 3
    /// });
    /// ```
    #[track_caller]
    fn create_cartesian_communicator(
        &self,
        dims: &[Count],
        periods: &[bool],
        reorder: bool,
    ) -> Option<CartesianCommunicator> {
        let _ = reorder;
        let parent = shared(self);
        let grid = Grid::new("create_cartesian_communicator", dims, periods);
        let (places, size) = (grid.places(), parent.coll().size());
        assert!(
            dims.iter().all(|&d| d > 0),
            "create_cartesian_communicator was asked for a grid of {dims:?}; every dimension needs at least one process"
        );
        assert!(
            places <= size as u64,
            "create_cartesian_communicator was asked for a grid of {dims:?}, which is {places} processes, but there are {size}; ask for a \
             smaller grid"
        );
        let color = ((parent.coll().rank() as u64) < places).then_some(0);
        let comm = split(parent, color, 0, Some(grid))?;
        Some(CartesianCommunicator(SimpleCommunicator::from_shared(comm)))
    }

    /// The rank that this process would have in a grid; `None` if the grid has no place for it.
    ///
    /// Corresponds to `MPI_Cart_map`. Panics if the slices differ in length, a dimension is negative, or there are too few processes.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let expected = if world.rank() < 2 { Some(world.rank()) } else { None };
    ///     assert_eq!(world.cartesian_map(&[2, 1], &[false, false]), expected);
    /// });
    /// ```
    #[track_caller]
    fn cartesian_map(&self, dims: &[Count], periods: &[bool]) -> Option<Rank> {
        let comm = shared(self).coll();
        assert!(
            !self.test_inter(),
            "cartesian_map was called on an inter-communicator; merge it into one communicator of both groups"
        );
        let places = Grid::new("cartesian_map", dims, periods).places();
        assert!(
            places <= comm.size() as u64,
            "cartesian_map was asked for a grid of {dims:?}, which is {places} processes, but there are {}; ask for a smaller grid",
            comm.size()
        );
        ((comm.rank() as u64) < places).then_some(comm.rank() as Rank)
    }

    /// Bytes that `incount` packed elements of `datatype` take.
    ///
    /// Corresponds to `MPI_Pack_size`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().pack_size(3, &f64::equivalent_datatype()), 24);
    /// ```
    #[track_caller]
    fn pack_size<Dt: Datatype>(&self, incount: Count, datatype: &Dt) -> Count
    where
        Self: Sized,
    {
        pack::size(incount, span::Kind::of(datatype, None).size())
    }

    /// The packed bytes of a buffer.
    ///
    /// Corresponds to `MPI_Pack`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().pack(&[1u8, 2]), [1, 2]);
    /// ```
    #[track_caller]
    fn pack<Buf: ?Sized + Buffer>(&self, inbuf: &Buf) -> Vec<u8>
    where
        Self: Sized,
    {
        pack::pack(inbuf)
    }

    /// Packs a buffer to `outbuf` from byte `position` on; where the next may go. Panics if it does not fit.
    ///
    /// Corresponds to `MPI_Pack`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let mut bytes = [0; 3];
    /// let next = world.pack_into(&7u8, &mut bytes, 0);
    /// world.pack_into(&[8u8, 9], &mut bytes, next);
    /// assert_eq!(bytes, [7, 8, 9]);
    /// ```
    #[track_caller]
    fn pack_into<Buf: ?Sized + Buffer>(
        &self,
        inbuf: &Buf,
        outbuf: &mut [u8],
        position: Count,
    ) -> Count
    where
        Self: Sized,
    {
        pack::pack_into(inbuf, outbuf, position)
    }

    /// Fills a buffer from byte `position` of packed bytes; where the next begins. Panics if there are too few bytes, or a `bool` is neither 0
    /// nor 1.
    ///
    /// Corresponds to `MPI_Unpack`.
    ///
    /// # Safety
    ///
    /// The bytes at `position` must be packed from elements that go with the buffer's.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let mut numbers = [0i32; 2];
    /// unsafe { world.unpack_into(&world.pack(&[3i32, 4]), &mut numbers, 0) };
    /// assert_eq!(numbers, [3, 4]);
    /// ```
    #[track_caller]
    unsafe fn unpack_into<Buf: ?Sized + BufferMut>(
        &self,
        inbuf: &[u8],
        outbuf: &mut Buf,
        position: Count,
    ) -> Count
    where
        Self: Sized,
    {
        pack::unpack_into(inbuf, outbuf, position)
    }
}

/// What stands behind any communicator.
#[inline]
pub(crate) fn shared<C: ?Sized + AsHandle>(comm: &C) -> &Arc<Shared> {
    let CommunicatorHandle(shared) = comm.as_handle();
    shared
}

/// What stands behind the communicator of a process, or of whatever else has one.
#[inline]
pub(crate) fn shared_of<A: ?Sized + AsCommunicator>(of: &A) -> &Arc<Shared> {
    shared(of.as_communicator())
}

#[track_caller]
pub(super) fn split(
    parent: &Shared,
    color: Option<i32>,
    key: Key,
    grid: Option<Grid>,
) -> Option<Arc<Shared>> {
    let instance = parent.instance();
    let _entry = instance.enter();
    let coll = instance.check(coll::split(
        instance.engine(),
        parent.coll(),
        color,
        key,
        Location::caller(),
    ))?;
    Some(Shared::with_grid(instance, coll, Role::User, grid))
}

/// The ranks in `parent` of the members of `group`, or a sentence.
#[track_caller]
fn subgroup_ranks(call: &str, parent: &Shared, group: &dyn Group) -> Vec<usize> {
    let comm = parent.coll().comm();
    let mut ranks = Vec::with_capacity(members(group).ranks().len());
    for &world in members(group).ranks() {
        let Some(rank) = comm.member(world) else {
            panic!(
                "{call} was given a group with world rank {world}, which is not in the communicator; take groups from the communicator itself"
            )
        };
        ranks.push(rank);
    }
    ranks
}
