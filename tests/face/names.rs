//! Every name that the crate `mpi` 0.8.2 has, with the shape that it has there: this file compiles, or a program written for that crate may not.
//!
//! A function is held by the type that it coerces to, a type by the traits that it has. Left out: what has no meaning without a C library (most of
//! `mpi::ffi`, the two `extern "C"` functions of `CommAttribute`, a message's `as_raw_mut`), and `mpi::Error`, an integer that nothing there uses.
#![allow(clippy::type_complexity)] // types are what this file is about

use std::ffi::NulError;
use std::fmt::Debug;
use std::hash::Hash;
use std::os::raw::{c_int, c_void};
use std::process::Command;
use std::string::FromUtf8Error;
use tercio as mpi;
use tercio::collective::{
    SystemOperation, UnsafeUserFunction, UnsafeUserOperation, UserOperation, reduce_local_into,
};
use tercio::datatype::*;
use tercio::environment::Universe;
use tercio::ffi::*;
use tercio::point_to_point::*;
use tercio::request::*;
use tercio::topology::*;
use tercio::traits::*;
use tercio::{Address, Count, MpiError, Tag, Threading};

/// Each expression is of the type beside it.
macro_rules! of_type {
    ($($what:expr => $of:ty;)*) => {$(const _: $of = $what;)*};
}

/// Each type has the traits beside it.
macro_rules! with_traits {
    ($($of:ty: $($bound:path),+;)*) => {$(const _: fn() = || {
        fn has<T: ?Sized $(+ $bound)+>() {}
        has::<$of>()
    };)*};
}

// Stand-ins for what a program has: a buffer, a scope, a request for it, a process.
type B = [i32];
type Sc = &'static LocalScope<'static>;
type Req<D = B> = Request<'static, D, Sc>;
type P = Process<'static>;
type Any = AnyProcess<'static>;
type C = SimpleCommunicator;
type Dyn = dyn Communicator;
type G = dyn Group;
type Counts = Vec<Count>;
type Parts = Partition<'static, B, Counts, &'static [Count]>;
type PartsMut = PartitionMut<'static, B, Counts, &'static [Count]>;
type Op = SystemOperation;
type Grid = CartesianCommunicator;
type Inter = InterCommunicator;
type Done = (usize, Status, &'static B);

// The crate's root and `environment`.
of_type! {
    mpi::initialize => fn() -> Option<Universe>;
    mpi::environment::initialize => fn() -> Option<Universe>;
    mpi::initialize_with_threading => fn(Threading) -> Option<(Universe, Threading)>;
    mpi::is_initialized => fn() -> bool;
    mpi::is_finalized => fn() -> bool;
    mpi::time => fn() -> f64;
    mpi::time_resolution => fn() -> f64;
    mpi::environment::threading_support => fn() -> mpi::environment::Threading;
    mpi::environment::version => fn() -> (c_int, c_int);
    mpi::environment::library_version => fn() -> Result<String, FromUtf8Error>;
    mpi::environment::processor_name => fn() -> Result<String, FromUtf8Error>;
    Universe::world => fn(&Universe) -> C;
    Universe::size => fn(&Universe) -> Option<usize>;
    Universe::appnum => fn(&Universe) -> Option<isize>;
    Universe::buffer_size => fn(&Universe) -> usize;
    Universe::set_buffer_size => fn(&mut Universe, usize);
    Universe::detach_buffer => fn(&mut Universe);
    Universe::disconnect_parent => fn(&mut Universe);
    [Threading::Single, Threading::Funneled, Threading::Serialized, Threading::Multiple] => [Threading; 4];
    0 as mpi::Rank => c_int;
    0 as Tag => c_int;
    0 as Count => c_int;
    0 as Address => MPI_Aint;
    0 as mpi::topology::Rank => mpi::Rank;
    0 as Key => c_int;
}
with_traits! {
    Universe: Send, Sync;
    Threading: Copy, Eq, Ord, Debug, Send, Sync, From<c_int>;
}

// `attribute` and `raw`.
#[derive(Clone)]
struct Attribute;
impl CommAttribute for Attribute {}
of_type! {
    Attribute::CLONE_ON_DUP => bool;
    <Attribute as CommAttribute>::get_key => fn() -> mpi::attribute::AttributeKey;
    mpi::attribute::AttributeKey::new_unchecked => unsafe fn(i32) -> mpi::attribute::AttributeKey;
    AnyCommunicator::get_attr::<Attribute> => fn(&C) -> Option<&Attribute>;
    AnyCommunicator::set_attr::<Attribute> => fn(&mut C, Attribute);
    AnyCommunicator::get_attr::<Attribute> => fn(&Dyn) -> Option<&Attribute>;
}
with_traits! {
    mpi::attribute::AttributeKey: AsRaw<Raw = c_int>, Clone, Debug;
    C: AsRaw<Raw = MPI_Comm>, FromRaw;
    Grid: AsRaw<Raw = MPI_Comm>, FromRaw;
    P: AsRaw<Raw = MPI_Comm>;
    Any: AsRaw<Raw = MPI_Comm>;
    SystemGroup: AsRaw<Raw = MPI_Group>;
    UserGroup: AsRaw<Raw = MPI_Group>;
    Message: AsRaw<Raw = MPI_Message>;
    Req: AsRaw<Raw = MPI_Request>;
    WaitGuard<'static, B, Sc>: AsRaw<Raw = MPI_Request>;
    Op: AsRaw<Raw = MPI_Op>;
    UserOperation<'static>: AsRaw<Raw = MPI_Op>;
    UnsafeUserOperation: AsRaw<Raw = MPI_Op>;
    &'static &'static C: AsRaw<Raw = MPI_Comm>;
    SystemDatatype: AsRaw<Raw = MPI_Datatype>, FromRaw, MatchesRaw;
    UncommittedDatatypeRef<'static>: AsRaw<Raw = MPI_Datatype>, FromRaw, MatchesRaw;
    UserDatatype: AsRaw<Raw = MPI_Datatype>, FromRaw, MatchesRaw;
    UncommittedUserDatatype: AsRaw<Raw = MPI_Datatype>, FromRaw, MatchesRaw;
    MPI_Comm: Copy, Eq, Debug;
    MPI_Datatype: Copy, Eq, Debug;
}
const _: fn(&mut dyn AsRawMut<Raw = c_int>) -> *mut c_int = |value| value.as_raw_mut();

// `topology`.
of_type! {
    C::world => fn() -> C;
    C::self_comm => fn() -> C;
    C::topology => fn(&C) -> Topology;
    C::into_topology => fn(C) -> IntoTopology;
    [Topology::Graph, Topology::Cartesian, Topology::DistributedGraph, Topology::Undefined] => [Topology; 4];
    IntoTopology::Graph => fn(GraphCommunicator) -> IntoTopology;
    IntoTopology::Cartesian => fn(Grid) -> IntoTopology;
    IntoTopology::DistributedGraph => fn(DistributedGraphCommunicator) -> IntoTopology;
    IntoTopology::Undefined => fn(C) -> IntoTopology;
    GraphCommunicator => GraphCommunicator;
    DistributedGraphCommunicator => DistributedGraphCommunicator;
    Communicator::target_size => fn(&Dyn) -> Rank;
    Communicator::size => fn(&Dyn) -> Rank;
    Communicator::rank => fn(&Dyn) -> Rank;
    Communicator::process_at_rank => fn(&Dyn, Rank) -> Process<'_>;
    Communicator::any_process => fn(&Dyn) -> AnyProcess<'_>;
    Communicator::this_process => fn(&Dyn) -> Process<'_>;
    Communicator::compare => fn(&Dyn, &Dyn) -> CommunicatorRelation;
    Communicator::duplicate => fn(&Dyn) -> C;
    Communicator::split_by_color => fn(&Dyn, Color) -> Option<C>;
    Communicator::split_by_color_with_key => fn(&Dyn, Color, Key) -> Option<C>;
    Communicator::split_shared => fn(&Dyn, c_int) -> C;
    Communicator::split_by_subgroup_collective => fn(&Dyn, &dyn Group) -> Option<C>;
    Communicator::split_by_subgroup => fn(&Dyn, &dyn Group) -> Option<C>;
    Communicator::split_by_subgroup_with_tag => fn(&Dyn, &dyn Group, Tag) -> Option<C>;
    Communicator::group => fn(&Dyn) -> UserGroup;
    Communicator::abort => fn(&Dyn, c_int) -> !;
    Communicator::test_inter => fn(&Dyn) -> bool;
    Communicator::set_name => fn(&Dyn, &str);
    Communicator::get_name => fn(&Dyn) -> String;
    Communicator::create_cartesian_communicator => fn(&Dyn, &[Count], &[bool], bool) -> Option<Grid>;
    Communicator::cartesian_map => fn(&Dyn, &[Count], &[bool]) -> Option<Rank>;
    Communicator::pack_size::<SystemDatatype> => fn(&C, Count, &SystemDatatype) -> Count;
    Communicator::pack::<B> => fn(&C, &B) -> Vec<u8>;
    Communicator::pack_into::<B> => fn(&C, &B, &mut [u8], Count) -> Count;
    Communicator::unpack_into::<B> => unsafe fn(&C, &[u8], &mut B, Count) -> Count;
    AsCommunicator::as_communicator => fn(&C) -> &C;
    AsCommunicator::as_communicator => fn(&Grid) -> &Grid;
    AsCommunicator::as_communicator => fn(&P) -> &Any;
    AsCommunicator::as_communicator => fn(&Any) -> &Any;
    Color::undefined => fn() -> Color;
    Color::with_value => fn(c_int) -> Color;
    P::rank => fn(&P) -> Rank;
    P::is_self => fn(&P) -> bool;
    [CommunicatorRelation::Identical, CommunicatorRelation::Congruent, CommunicatorRelation::Similar, CommunicatorRelation::Unequal] => [CommunicatorRelation; 4];
    [GroupRelation::Identical, GroupRelation::Similar, GroupRelation::Unequal] => [GroupRelation; 3];
    SystemGroup::empty => fn() -> SystemGroup;
    Communicator::parent => fn(&Dyn) -> Option<Inter>;
    Inter::try_from_raw => unsafe fn(MPI_Comm) -> Option<Inter>;
    Inter::remote_size => fn(&Inter) -> Rank;
    Inter::remote_group => fn(&Inter) -> UserGroup;
    Inter::merge => fn(&Inter, MergeOrder) -> C;
    [MergeOrder::Low, MergeOrder::High] => [MergeOrder; 2];
    Group::size => fn(&G) -> Rank;
    Group::rank => fn(&G) -> Option<Rank>;
    Group::include => fn(&G, &[Rank]) -> UserGroup;
    Group::exclude => fn(&G, &[Rank]) -> UserGroup;
    Group::union::<SystemGroup> => fn(&UserGroup, &SystemGroup) -> UserGroup;
    Group::intersection::<SystemGroup> => fn(&UserGroup, &SystemGroup) -> UserGroup;
    Group::difference::<SystemGroup> => fn(&UserGroup, &SystemGroup) -> UserGroup;
    Group::translate_rank::<UserGroup> => fn(&UserGroup, Rank, &UserGroup) -> Option<Rank>;
    Group::translate_ranks::<UserGroup> => fn(&UserGroup, &[Rank], &UserGroup) -> Vec<Option<Rank>>;
    Group::compare::<UserGroup> => fn(&UserGroup, &UserGroup) -> GroupRelation;
    Grid::try_from_raw => unsafe fn(MPI_Comm) -> Option<Grid>;
    Grid::num_dimensions => fn(&Grid) -> Count;
    Grid::get_layout => fn(&Grid) -> CartesianLayout;
    Grid::get_layout_into => fn(&Grid, &mut [Count], &mut [bool], &mut [Count]);
    Grid::get_layout_into_unchecked => unsafe fn(&Grid, &mut [Count], &mut [bool], &mut [Count]);
    Grid::coordinates_to_rank => fn(&Grid, &[Count]) -> Rank;
    Grid::coordinates_to_rank_unchecked => unsafe fn(&Grid, &[Count]) -> Rank;
    Grid::rank_to_coordinates => fn(&Grid, Rank) -> Vec<Count>;
    Grid::rank_to_coordinates_into => fn(&Grid, Rank, &mut [Count]);
    Grid::rank_to_coordinates_into_unchecked => unsafe fn(&Grid, Rank, &mut [Count]);
    Grid::shift => fn(&Grid, Count, Count) -> (Option<Rank>, Option<Rank>);
    Grid::shift_unchecked => unsafe fn(&Grid, Count, Count) -> (Option<Rank>, Option<Rank>);
    Grid::subgroup => fn(&Grid, &[bool]) -> Grid;
    Grid::subgroup_unchecked => unsafe fn(&Grid, &[bool]) -> Grid;
    |layout| (layout.dims, layout.periods, layout.coords) => fn(CartesianLayout) -> (Vec<Count>, Vec<bool>, Vec<Count>);
}
with_traits! {
    C: Communicator, AsCommunicator, AnyCommunicator, CommunicatorCollectives, Send, Sync;
    Grid: Communicator, AsCommunicator, AnyCommunicator, CommunicatorCollectives, Send, Sync;
    Inter: Communicator, AsCommunicator, AnyCommunicator, CommunicatorCollectives, AsRaw<Raw = MPI_Comm>, FromRaw, Send, Sync;
    MergeOrder: Copy;
    P: Communicator, AsCommunicator, CommunicatorCollectives, Source, Destination, Root, Copy, Send, Sync;
    Any: Communicator, AsCommunicator, CommunicatorCollectives, Source, Copy, Send, Sync;
    Dyn: AnyCommunicator, CommunicatorCollectives;
    SystemGroup: Group, Copy, Send, Sync;
    UserGroup: Group, Send, Sync;
    Color: Copy, Debug;
    Topology: Copy, Eq, Debug;
    CommunicatorRelation: Copy, Eq, Debug, From<c_int>;
    GroupRelation: Copy, Eq, Debug, From<c_int>;
}

// `point_to_point`.
of_type! {
    Source::source_rank => fn(&Any) -> Rank;
    Source::probe => fn(&Any) -> Status;
    Source::probe_with_tag => fn(&Any, Tag) -> Status;
    Source::matched_probe => fn(&Any) -> (Message, Status);
    Source::matched_probe_with_tag => fn(&Any, Tag) -> (Message, Status);
    Source::receive::<i32> => fn(&Any) -> (i32, Status);
    Source::receive_with_tag::<i32> => fn(&Any, Tag) -> (i32, Status);
    Source::receive_into::<B> => fn(&Any, &mut B) -> Status;
    Source::receive_into_with_tag::<B> => fn(&Any, &mut B, Tag) -> Status;
    Source::receive_vec::<i32> => fn(&Any) -> (Vec<i32>, Status);
    Source::receive_vec_with_tag::<i32> => fn(&Any, Tag) -> (Vec<i32>, Status);
    Source::immediate_receive_into::<Sc, B> => fn(&Any, Sc, &'static mut B) -> Req;
    Source::immediate_receive_into_with_tag::<Sc, B> => fn(&Any, Sc, &'static mut B, Tag) -> Req;
    Source::immediate_receive::<i32> => fn(&Any) -> ReceiveFuture<i32>;
    Source::immediate_receive_with_tag::<i32> => fn(&Any, Tag) -> ReceiveFuture<i32>;
    Source::immediate_probe => fn(&Any) -> Option<Status>;
    Source::immediate_probe_with_tag => fn(&Any, Tag) -> Option<Status>;
    Source::immediate_matched_probe => fn(&Any) -> Option<(Message, Status)>;
    Source::immediate_matched_probe_with_tag => fn(&Any, Tag) -> Option<(Message, Status)>;
    Destination::destination_rank => fn(&P) -> Rank;
    Destination::send::<B> => fn(&P, &B);
    Destination::send_with_tag::<B> => fn(&P, &B, Tag);
    Destination::buffered_send::<B> => fn(&P, &B);
    Destination::buffered_send_with_tag::<B> => fn(&P, &B, Tag);
    Destination::synchronous_send::<B> => fn(&P, &B);
    Destination::synchronous_send_with_tag::<B> => fn(&P, &B, Tag);
    Destination::ready_send::<B> => unsafe fn(&P, &B);
    Destination::ready_send_with_tag::<B> => unsafe fn(&P, &B, Tag);
    Destination::immediate_send::<Sc, B> => fn(&P, Sc, &'static B) -> Req;
    Destination::immediate_send_with_tag::<Sc, B> => fn(&P, Sc, &'static B, Tag) -> Req;
    Destination::immediate_buffered_send::<Sc, B> => fn(&P, Sc, &'static B) -> Req;
    Destination::immediate_buffered_send_with_tag::<Sc, B> => fn(&P, Sc, &'static B, Tag) -> Req;
    Destination::immediate_synchronous_send::<Sc, B> => fn(&P, Sc, &'static B) -> Req;
    Destination::immediate_synchronous_send_with_tag::<Sc, B> => fn(&P, Sc, &'static B, Tag) -> Req;
    Destination::immediate_ready_send::<Sc, B> => unsafe fn(&P, Sc, &'static B) -> Req;
    Destination::immediate_ready_send_with_tag::<Sc, B> => unsafe fn(&P, Sc, &'static B, Tag) -> Req;
    Status::from_raw => fn(MPI_Status) -> Status;
    Status::source_rank => fn(&Status) -> Rank;
    Status::tag => fn(&Status) -> Tag;
    Status::count::<SystemDatatype> => fn(&Status, SystemDatatype) -> Count;
    Message::is_no_proc => fn(&Message) -> bool;
    Message::matched_receive::<i32> => fn(Message) -> (i32, Status);
    Message::matched_receive_into::<B> => fn(Message, &mut B) -> Status;
    Message::immediate_matched_receive_into::<Sc, B> => fn(Message, Sc, &'static mut B) -> Req;
    MatchedReceiveVec::matched_receive_vec::<i32> => fn((Message, Status)) -> (Vec<i32>, Status);
    send_receive::<i64, i32, P, Any> => fn(&i32, &P, &Any) -> (i64, Status);
    send_receive_with_tags::<i32, P, i64, Any> => fn(&i32, &P, Tag, &Any, Tag) -> (i64, Status);
    send_receive_into::<B, P, B, Any> => fn(&B, &P, &mut B, &Any) -> Status;
    send_receive_into_with_tags::<B, P, B, Any> => fn(&B, &P, Tag, &mut B, &Any, Tag) -> Status;
    send_receive_replace_into::<B, P, Any> => fn(&mut B, &P, &Any) -> Status;
    send_receive_replace_into_with_tags::<B, P, Any> => fn(&mut B, &P, Tag, &Any, Tag) -> Status;
    ReceiveFuture::<i32>::get => fn(ReceiveFuture<i32>) -> (i32, Status);
    ReceiveFuture::<i32>::r#try => fn(ReceiveFuture<i32>) -> Result<(i32, Status), ReceiveFuture<i32>>;
}
with_traits! {
    Status: Copy, Debug, Send, Sync;
}

// `collective`.
of_type! {
    CommunicatorCollectives::barrier => fn(&Dyn);
    CommunicatorCollectives::all_gather_into::<B, B> => fn(&Dyn, &B, &mut B);
    CommunicatorCollectives::all_gather_varcount_into::<B, PartsMut> => fn(&Dyn, &B, &mut PartsMut);
    CommunicatorCollectives::all_to_all_into::<B, B> => fn(&Dyn, &B, &mut B);
    CommunicatorCollectives::all_to_all_varcount_into::<Parts, PartsMut> => fn(&Dyn, &Parts, &mut PartsMut);
    CommunicatorCollectives::all_reduce_into::<B, B, Op> => fn(&Dyn, &B, &mut B, Op);
    CommunicatorCollectives::reduce_scatter_block_into::<B, B, Op> => fn(&Dyn, &B, &mut B, Op);
    CommunicatorCollectives::scan_into::<B, B, Op> => fn(&Dyn, &B, &mut B, Op);
    CommunicatorCollectives::exclusive_scan_into::<B, B, Op> => fn(&Dyn, &B, &mut B, Op);
    CommunicatorCollectives::immediate_barrier => fn(&Dyn) -> Request<'static, ()>;
    CommunicatorCollectives::immediate_all_gather_into::<B, B, Sc> => fn(&Dyn, Sc, &'static B, &'static mut B) -> Req;
    CommunicatorCollectives::immediate_all_gather_varcount_into::<B, PartsMut, Sc> => fn(&Dyn, Sc, &'static B, &'static mut PartsMut) -> Req<PartsMut>;
    CommunicatorCollectives::immediate_all_to_all_into::<B, B, Sc> => fn(&Dyn, Sc, &'static B, &'static mut B) -> Req;
    CommunicatorCollectives::immediate_all_to_all_varcount_into::<Parts, PartsMut, Sc> => fn(&Dyn, Sc, &'static Parts, &'static mut PartsMut) -> Req<PartsMut>;
    CommunicatorCollectives::immediate_all_reduce_into::<B, B, Op, Sc> => fn(&Dyn, Sc, &'static B, &'static mut B, Op) -> Req;
    CommunicatorCollectives::immediate_reduce_scatter_block_into::<B, B, Op, Sc> => fn(&Dyn, Sc, &'static B, &'static mut B, Op) -> Req;
    CommunicatorCollectives::immediate_scan_into::<B, B, Op, Sc> => fn(&Dyn, Sc, &'static B, &'static mut B, Op) -> Req;
    CommunicatorCollectives::immediate_exclusive_scan_into::<B, B, Op, Sc> => fn(&Dyn, Sc, &'static B, &'static mut B, Op) -> Req;
    Root::root_rank => fn(&P) -> Rank;
    Root::spawn => fn(&P, &Command, Rank) -> Result<Inter, MpiError>;
    Root::spawn_multiple => fn(&P, &[Command], &[Rank]) -> Result<Inter, MpiError>;
    MpiError::Spawn => fn(Rank, Rank) -> MpiError;
    MpiError::StringNul => fn(NulError) -> MpiError;
    Root::broadcast_into::<B> => fn(&P, &mut B);
    Root::gather_into::<B> => fn(&P, &B);
    Root::gather_into_root::<B, B> => fn(&P, &B, &mut B);
    Root::gather_varcount_into::<B> => fn(&P, &B);
    Root::gather_varcount_into_root::<B, PartsMut> => fn(&P, &B, &mut PartsMut);
    Root::scatter_into::<B> => fn(&P, &mut B);
    Root::scatter_into_root::<B, B> => fn(&P, &B, &mut B);
    Root::scatter_varcount_into::<B> => fn(&P, &mut B);
    Root::scatter_varcount_into_root::<Parts, B> => fn(&P, &Parts, &mut B);
    Root::reduce_into::<B, Op> => fn(&P, &B, Op);
    Root::reduce_into_root::<B, B, Op> => fn(&P, &B, &mut B, Op);
    Root::immediate_broadcast_into::<B, Sc> => fn(&P, Sc, &'static mut B) -> Req;
    Root::immediate_gather_into::<B, Sc> => fn(&P, Sc, &'static B) -> Req;
    Root::immediate_gather_into_root::<B, B, Sc> => fn(&P, Sc, &'static B, &'static mut B) -> Req;
    Root::immediate_gather_varcount_into::<Sc, B> => fn(&P, Sc, &'static B) -> Req;
    Root::immediate_gather_varcount_into_root::<Sc, B, PartsMut> => fn(&P, Sc, &'static B, &'static mut PartsMut) -> Req<PartsMut>;
    Root::immediate_scatter_into::<Sc, B> => fn(&P, Sc, &'static mut B) -> Req;
    Root::immediate_scatter_into_root::<Sc, B, B> => fn(&P, Sc, &'static B, &'static mut B) -> Req;
    Root::immediate_scatter_varcount_into::<Sc, B> => fn(&P, Sc, &'static mut B) -> Req;
    Root::immediate_scatter_varcount_into_root::<Sc, Parts, B> => fn(&P, Sc, &'static Parts, &'static mut B) -> Req;
    Root::immediate_reduce_into::<Sc, B, Op> => fn(&P, Sc, &'static B, Op) -> Req;
    Root::immediate_reduce_into_root::<Sc, B, B, Op> => fn(&P, Sc, &'static B, &'static mut B, Op) -> Req;
    reduce_local_into::<B, B, Op> => fn(&B, &mut B, Op);
    Operation::is_commutative => fn(&Op) -> bool;
    [
        Op::max, Op::min, Op::sum, Op::product, Op::logical_and, Op::bitwise_and, Op::logical_or, Op::bitwise_or, Op::logical_xor, Op::bitwise_xor,
    ] => [fn() -> Op; 10];
    UserOperation::from_raw::<()> => unsafe fn(MPI_Op, Box<()>) -> UserOperation<'static>;
    UnsafeUserOperation::associative => unsafe fn(UnsafeUserFunction) -> UnsafeUserOperation;
    UnsafeUserOperation::commutative => unsafe fn(UnsafeUserFunction) -> UnsafeUserOperation;
    UnsafeUserOperation::new => unsafe fn(bool, UnsafeUserFunction) -> UnsafeUserOperation;
}
const _: fn(
    UnsafeUserFunction,
) -> unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_int, *mut MPI_Datatype) =
    |function| function;
const _: fn() -> [UserOperation<'static>; 3] = || {
    let function = |_: DynBuffer, _: DynBufferMut| {};
    [
        UserOperation::associative(function),
        UserOperation::commutative(function),
        UserOperation::new(true, function),
    ]
};
with_traits! {
    Op: Operation, Copy, Send, Sync;
    MpiError: std::error::Error, From<NulError>;
    &'static Op: Operation;
    &'static UserOperation<'static>: Operation;
    &'static UnsafeUserOperation: Operation;
    UserOperation<'static>: Debug;
    UnsafeUserOperation: Debug, Send, Sync;
}

// `datatype`.
/// The constructors, which are the same twice.
macro_rules! constructors {
    ($($of:ty),*) => {$(of_type! {
        <$of>::contiguous::<SystemDatatype> => fn(Count, &SystemDatatype) -> $of;
        <$of>::vector::<SystemDatatype> => fn(Count, Count, Count, &SystemDatatype) -> $of;
        <$of>::heterogeneous_vector::<SystemDatatype> => fn(Count, Count, Address, &SystemDatatype) -> $of;
        <$of>::indexed::<SystemDatatype> => fn(&[Count], &[Count], &SystemDatatype) -> $of;
        <$of>::heterogeneous_indexed::<SystemDatatype> => fn(&[Count], &[Address], &SystemDatatype) -> $of;
        <$of>::indexed_block::<SystemDatatype> => fn(Count, &[Count], &SystemDatatype) -> $of;
        <$of>::heterogeneous_indexed_block::<SystemDatatype> => fn(Count, &[Address], &SystemDatatype) -> $of;
        <$of>::structured::<UncommittedDatatypeRef<'static>> => fn(&[Count], &[Address], &[UncommittedDatatypeRef<'static>]) -> $of;
    })*};
}
constructors!(UserDatatype, UncommittedUserDatatype);
of_type! {
    UserDatatype::as_ref => fn(&UserDatatype) -> DatatypeRef<'_>;
    UncommittedUserDatatype::as_ref => fn(&UncommittedUserDatatype) -> UncommittedDatatypeRef<'_>;
    UncommittedUserDatatype::commit => fn(UncommittedUserDatatype) -> UserDatatype;
    UncommittedDatatype::dup => fn(&SystemDatatype) -> UserDatatype;
    UncommittedDatatype::dup => fn(&UserDatatype) -> UserDatatype;
    UncommittedDatatype::dup => fn(&UncommittedUserDatatype) -> UncommittedUserDatatype;
    UncommittedDatatype::dup => fn(&UncommittedDatatypeRef<'static>) -> UncommittedUserDatatype;
    <i32 as Equivalence>::equivalent_datatype => fn() -> SystemDatatype;
    AsDatatype::as_datatype => fn(&B) -> SystemDatatype;
    Collection::count => fn(&B) -> Count;
    Pointer::pointer => fn(&B) -> *const c_void;
    PointerMut::pointer_mut => fn(&mut B) -> *mut c_void;
    Partitioned::counts => fn(&Parts) -> &[Count];
    Partitioned::displs => fn(&Parts) -> &[Count];
    Parts::new => fn(&'static B, Counts, &'static [Count]) -> Parts;
    PartsMut::new => fn(&'static mut B, Counts, &'static [Count]) -> PartsMut;
    View::<'static, 'static, UserDatatype, B>::with_count_and_datatype => unsafe fn(&'static B, Count, &'static UserDatatype) -> View<'static, 'static, UserDatatype, B>;
    MutView::<'static, 'static, UserDatatype, B>::with_count_and_datatype => unsafe fn(&'static mut B, Count, &'static UserDatatype) -> MutView<'static, 'static, UserDatatype, B>;
    DynBuffer::new::<i32> => fn(&'static B) -> DynBuffer<'static>;
    DynBuffer::is::<i32> => fn(&DynBuffer<'static>) -> bool;
    DynBuffer::downcast::<i32> => fn(DynBuffer<'static>) -> Option<&'static B>;
    DynBuffer::from_raw::<i32> => unsafe fn(*const i32, Count, SystemDatatype) -> DynBuffer<'static>;
    DynBuffer::len => fn(&DynBuffer<'static>) -> usize;
    DynBuffer::is_empty => fn(&DynBuffer<'static>) -> bool;
    DynBuffer::as_ptr => fn(&DynBuffer<'static>) -> *const c_void;
    DynBufferMut::new::<i32> => fn(&'static mut B) -> DynBufferMut<'static>;
    DynBufferMut::is::<i32> => fn(&DynBufferMut<'static>) -> bool;
    DynBufferMut::downcast::<i32> => fn(DynBufferMut<'static>) -> Option<&'static mut B>;
    DynBufferMut::from_raw::<i32> => unsafe fn(*mut i32, Count, SystemDatatype) -> DynBufferMut<'static>;
    DynBufferMut::len => fn(&DynBufferMut<'static>) -> usize;
    DynBufferMut::is_empty => fn(&DynBufferMut<'static>) -> bool;
    DynBufferMut::as_ptr => fn(&DynBufferMut<'static>) -> *const c_void;
    DynBufferMut::as_mut_ptr => fn(&mut DynBufferMut<'static>) -> *mut c_void;
    DynBufferMut::reborrow => for<'b> fn(&'b DynBufferMut<'static>) -> DynBuffer<'b>;
    DynBufferMut::reborrow_mut => for<'b> fn(&'b mut DynBufferMut<'static>) -> DynBufferMut<'b>;
    DynBufferMut::downgrade => fn(DynBufferMut<'static>) -> DynBuffer<'static>;
    address_of::<B2> => fn(&B2) -> Address;
}
type B2 = [i32; 2];
with_traits! {
    bool: Equivalence<Out = SystemDatatype>;
    f32: Equivalence<Out = SystemDatatype>;
    f64: Equivalence<Out = SystemDatatype>;
    i8: Equivalence<Out = SystemDatatype>;
    i16: Equivalence<Out = SystemDatatype>;
    i32: Equivalence<Out = SystemDatatype>;
    i64: Equivalence<Out = SystemDatatype>;
    isize: Equivalence<Out = SystemDatatype>;
    u8: Equivalence<Out = SystemDatatype>;
    u16: Equivalence<Out = SystemDatatype>;
    u32: Equivalence<Out = SystemDatatype>;
    u64: Equivalence<Out = SystemDatatype>;
    usize: Equivalence<Out = SystemDatatype>;
    i32: Buffer, BufferMut;
    B: Buffer, BufferMut;
    B2: Buffer, BufferMut;
    Vec<i32>: Buffer, BufferMut;
    View<'static, 'static, UserDatatype, B>: Buffer;
    MutView<'static, 'static, UserDatatype, B>: BufferMut;
    DynBuffer<'static>: Buffer, Copy, Debug, Send, Sync;
    DynBufferMut<'static>: Buffer, BufferMut, Debug, Send, Sync;
    Parts: PartitionedBuffer;
    PartsMut: PartitionedBufferMut;
    SystemDatatype: Datatype, Copy, Debug;
    &'static UserDatatype: Datatype;
    UserDatatype: Datatype, Clone, Send, Sync;
    UncommittedUserDatatype: UncommittedDatatype, Clone;
    UncommittedDatatypeRef<'static>: UncommittedDatatype, Copy, Debug, From<SystemDatatype>, From<&'static UserDatatype>, From<&'static UncommittedUserDatatype>;
    DatatypeRef<'static>: From<&'static UserDatatype>;
}
#[cfg(feature = "complex")]
with_traits! {
    num_complex::Complex32: Equivalence<Out = SystemDatatype>;
    num_complex::Complex64: Equivalence<Out = SystemDatatype>;
}

// `request`.
of_type! {
    Req::<B>::wait => fn(Req) -> Status;
    Req::<B>::wait_without_status => fn(Req);
    Req::<B>::wait_for_data => fn(Req) -> &'static B;
    Req::<B>::test => fn(Req) -> Result<Status, Req>;
    Req::<B>::test_with_data => fn(Req) -> Result<(Status, &'static B), Req>;
    Req::<B>::cancel => fn(&Req);
    Req::<B>::shrink_scope_to::<Sc> => fn(Req, Sc) -> Req;
    Req::<B>::from_raw => unsafe fn(MPI_Request, &'static B, Sc) -> Req;
    Req::<B>::into_raw => unsafe fn(Req) -> (MPI_Request, &'static B, Sc);
    Scope::register => fn(&Sc);
    Scope::unregister => unsafe fn(&Sc);
    wait_any::<i32, Sc> => fn(&mut Vec<Req<i32>>) -> Option<(usize, Status)>;
    RequestCollection::add::<Sc> => fn(&mut RequestCollection<'static, B>, Req) -> usize;
    RequestCollection::incomplete => fn(&RequestCollection<'static, B>) -> usize;
    RequestCollection::wait_any => fn(&mut RequestCollection<'static, B>) -> Option<Done>;
    RequestCollection::wait_some => fn(&mut RequestCollection<'static, B>, &mut Vec<Done>);
    RequestCollection::wait_all => fn(&mut RequestCollection<'static, B>, &mut Vec<Done>);
    RequestCollection::test_any => fn(&mut RequestCollection<'static, B>) -> Option<Done>;
    RequestCollection::test_some => fn(&mut RequestCollection<'static, B>, &mut Vec<Done>);
    RequestCollection::test_all => fn(&mut RequestCollection<'static, B>, &mut Vec<Done>) -> bool;
}
const _: fn(usize) -> usize = |reserve| {
    let counted = multiple_scope(
        reserve,
        |_: &LocalScope<'_>, requests: &mut RequestCollection<'_, B>| requests.incomplete(),
    );
    scope(|_: &LocalScope<'_>| counted)
};
with_traits! {
    Req: Debug, From<WaitGuard<'static, B, Sc>>;
    Request<'static, B>: Send;
    RequestCollection<'static, B>: Send;
    WaitGuard<'static, B, Sc>: Debug, From<Req>, From<CancelGuard<'static, B, Sc>>;
    WaitGuard<'static, B>: Debug;
    CancelGuard<'static, B, Sc>: Debug, From<Req>, From<WaitGuard<'static, B, Sc>>;
    LocalScope<'static>: Debug;
    StaticScope: Scope<'static>, Debug, Copy, Default, Eq, Hash;
}
