//! Who is there: communicators, groups, processes, Cartesian grids.
//!
//! A [`Communicator`] is an ordered group of processes with a context of its own: messages of one never meet receives of another. All start
//! with [`Universe::world`](crate::environment::Universe::world). A [`Process`] is a rank of a communicator: messages and rooted
//! collectives are its methods. A [`Group`] is members only, without a context.
//!
//! This folder knows who the ranks are; it must never know how messages move.

mod attributes;
mod cartesian;
pub(crate) mod communicator;
pub(crate) mod dims;
mod group;
mod inter;
mod process;
pub(crate) mod sealed;
pub(crate) mod shared;
mod simple;

use core::ffi::c_int;

pub use attributes::AnyCommunicator;
pub use cartesian::{CartesianCommunicator, CartesianLayout};
pub use communicator::Communicator;
pub use group::{Group, GroupRelation, SystemGroup, UserGroup};
pub use inter::{InterCommunicator, MergeOrder};
pub use process::{AnyProcess, Process};
pub use simple::{
    DistributedGraphCommunicator, GraphCommunicator, IntoTopology, SimpleCommunicator, Topology,
};

pub mod traits {
    //! The traits of this module.
    pub use super::{AnyCommunicator, AsCommunicator, Communicator, Group};
}

/// A process's number in a communicator: `0..size`.
pub type Rank = i32;

/// The name that [`SimpleCommunicator`] had for the world's communicator up to rsmpi 0.6.
///
/// ```
/// fn rank_of(world: &tercio::topology::SystemCommunicator) -> i32 {
///     tercio::traits::Communicator::rank(world)
/// }
/// let universe = tercio::initialize().unwrap();
/// assert_eq!(rank_of(&universe.world()), 0);
/// ```
pub type SystemCommunicator = SimpleCommunicator;

/// The name that [`SimpleCommunicator`] had for all others up to rsmpi 0.6.
///
/// ```
/// use tercio::{topology::UserCommunicator, traits::*};
/// let universe = tercio::initialize().unwrap();
/// let copy: UserCommunicator = universe.world().duplicate();
/// assert_eq!(copy.size(), 1);
/// ```
pub type UserCommunicator = SimpleCommunicator;

/// Orders the members of a new communicator; see [`Communicator::split_by_color_with_key`].
///
/// ```
/// use tercio::{topology::{Color, Key}, traits::*};
/// tercio::testing::ranks(2, |world| {
///     let last_first: Key = -world.rank();
///     let turned = world.split_by_color_with_key(Color::with_value(0), last_first).unwrap();
///     assert_eq!(turned.rank(), 1 - world.rank());
/// });
/// ```
pub type Key = i32;

/// Something with a communicator.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// assert_eq!(world.process_at_rank(0).as_communicator().size(), 1);
/// ```
pub trait AsCommunicator {
    /// The communicator's type.
    type Out: Communicator;
    /// The communicator.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().as_communicator().rank(), 0);
    /// ```
    fn as_communicator(&self) -> &Self::Out;
}

/// Which of the new communicators of a split a process goes to.
///
/// ```
/// use tercio::{topology::Color, traits::*};
/// tercio::testing::ranks(4, |world| {
///     let half = world.split_by_color(Color::with_value(world.rank() / 2)).unwrap();
///     assert_eq!(half.size(), 2);
/// });
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Color(Option<i32>);

impl Color {
    /// To none.
    ///
    /// ```
    /// use tercio::{topology::Color, traits::*};
    /// let universe = tercio::initialize().unwrap();
    /// assert!(universe.world().split_by_color(Color::undefined()).is_none());
    /// ```
    pub fn undefined() -> Color {
        Color(None)
    }

    /// To the one of all processes that say `value`. Panics if it is negative.
    ///
    /// ```
    /// use tercio::{topology::Color, traits::*};
    /// let universe = tercio::initialize().unwrap();
    /// assert!(universe.world().split_by_color(Color::with_value(7)).is_some());
    /// ```
    #[track_caller]
    pub fn with_value(value: i32) -> Color {
        assert!(
            value >= 0,
            "a color of {value} was asked for; colors must not be negative (Color::undefined() is for no communicator)"
        );
        Color(Some(value))
    }

    pub(crate) fn value(self) -> Option<i32> {
        self.0
    }
}

/// How two communicators compare; see [`Communicator::compare`].
///
/// ```
/// use tercio::{topology::CommunicatorRelation, traits::*};
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// assert_eq!(world.compare(&world.duplicate()), CommunicatorRelation::Congruent);
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum CommunicatorRelation {
    /// The same communicator.
    Identical,
    /// The same processes in the same order, but another context.
    Congruent,
    /// The same processes in another order.
    Similar,
    /// Different processes.
    Unequal,
}

/// The relation of a number of the MPI standard (0 to 3, from the same to different). Panics for others.
///
/// ```
/// use tercio::topology::CommunicatorRelation;
/// assert_eq!(CommunicatorRelation::from(0), CommunicatorRelation::Identical);
/// ```
impl From<c_int> for CommunicatorRelation {
    #[track_caller]
    fn from(relation: c_int) -> CommunicatorRelation {
        match relation {
            0 => CommunicatorRelation::Identical,
            1 => CommunicatorRelation::Congruent,
            2 => CommunicatorRelation::Similar,
            3 => CommunicatorRelation::Unequal,
            _ => panic!(
                "{relation} is no relation of communicators; they are 0 (Identical) to 3 (Unequal)"
            ),
        }
    }
}
