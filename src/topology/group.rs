//! Ordered sets of processes.
use super::Rank;
use crate::ffi::MPI_Group;
use crate::raw::AsRaw;
use core::ffi::c_int;

/// The members of a group, by their ranks in the world.
pub(super) struct Members {
    ranks: Vec<usize>,
    /// This process's rank in the world; `None` in the empty group that belongs to nobody.
    me: Option<usize>,
}

impl Members {
    pub(super) const fn new(ranks: Vec<usize>, me: Option<usize>) -> Members {
        Members { ranks, me }
    }

    pub(super) fn ranks(&self) -> &[usize] {
        &self.ranks
    }

    fn position(&self, world_rank: usize) -> Option<usize> {
        self.ranks.iter().position(|&r| r == world_rank)
    }

    fn at(&self, rank: Rank) -> Option<usize> {
        self.ranks.get(usize::try_from(rank).ok()?).copied()
    }

    /// Group members from `ranks` (in this group's numbering), each once.
    #[track_caller]
    fn pick(&self, call: &str, ranks: &[Rank]) -> Vec<usize> {
        let mut picked = Vec::with_capacity(ranks.len());
        let mut taken = vec![false; self.ranks.len()];
        for &rank in ranks {
            let Some(member) = self.at(rank) else {
                panic!(
                    "{call} was asked for rank {rank} of a group of {}; ranks are 0 to size - 1",
                    self.ranks.len()
                )
            };
            assert!(
                !taken[rank as usize],
                "{call} was given rank {rank} twice; give each rank once"
            );
            taken[rank as usize] = true;
            picked.push(member);
        }
        picked
    }
}

/// A group of the library's own.
#[derive(Copy, Clone)]
pub struct SystemGroup(());

static EMPTY: Members = Members::new(Vec::new(), None);

impl SystemGroup {
    /// The group without members.
    ///
    /// Corresponds to `MPI_GROUP_EMPTY`.
    ///
    /// ```
    /// use tercio::{topology::SystemGroup, traits::*};
    /// assert_eq!(SystemGroup::empty().size(), 0);
    /// ```
    pub fn empty() -> SystemGroup {
        SystemGroup(())
    }
}

// SAFETY: a static.
unsafe impl AsRaw for SystemGroup {
    type Raw = MPI_Group;
    fn as_raw(&self) -> MPI_Group {
        MPI_Group((&raw const EMPTY).cast())
    }
}

impl Group for SystemGroup {}

/// A group that a program made.
///
/// ```
/// use tercio::traits::*;
/// tercio::testing::ranks(4, |world| {
///     let even = world.group().include(&[0, 2]);
///     assert_eq!(even.rank(), [Some(0), None, Some(1), None][world.rank() as usize]);
/// });
/// ```
pub struct UserGroup(Box<Members>);

impl UserGroup {
    pub(super) fn new(members: Members) -> UserGroup {
        UserGroup(Box::new(members))
    }
}

// SAFETY: the members stay where they are while the group lives.
unsafe impl AsRaw for UserGroup {
    type Raw = MPI_Group;
    fn as_raw(&self) -> MPI_Group {
        MPI_Group((&raw const *self.0).cast())
    }
}

impl Group for UserGroup {}

/// The members of any group.
pub(super) fn members<G: ?Sized + Group>(group: &G) -> &Members {
    let members: *const Members = group.as_raw().0.cast();
    // SAFETY: by the contract of AsRaw the handle is one of a group that lives as long as `group`, and those point to members.
    unsafe { &*members }
}

/// How two groups compare; see [`Group::compare`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum GroupRelation {
    /// The same processes in the same order.
    Identical,
    /// The same processes in another order.
    Similar,
    /// Different processes.
    Unequal,
}

/// The relation of a number that MPI libraries have for it: 0, 2 and 3, as for communicators. Panics for others.
///
/// ```
/// use tercio::topology::GroupRelation;
/// assert_eq!(GroupRelation::from(2), GroupRelation::Similar);
/// ```
impl From<c_int> for GroupRelation {
    #[track_caller]
    fn from(relation: c_int) -> GroupRelation {
        match relation {
            0 => GroupRelation::Identical,
            2 => GroupRelation::Similar,
            3 => GroupRelation::Unequal,
            _ => panic!(
                "{relation} is no relation of groups; they are 0 (Identical), 2 (Similar) and 3 (Unequal)"
            ),
        }
    }
}

/// How two orders of processes compare.
pub(super) fn relation(one: &[usize], other: &[usize]) -> GroupRelation {
    if one == other {
        return GroupRelation::Identical;
    }
    let sorted = |ranks: &[usize]| {
        let mut ranks = ranks.to_vec();
        ranks.sort_unstable();
        ranks
    };
    if one.len() == other.len() && sorted(one) == sorted(other) {
        GroupRelation::Similar
    } else {
        GroupRelation::Unequal
    }
}

/// An ordered set of processes.
///
/// ```
/// use tercio::{topology::GroupRelation, traits::*};
/// tercio::testing::ranks(4, |world| {
///     let all = world.group();
///     let (low, high) = (all.include(&[0, 1]), all.exclude(&[0, 1]));
///     assert_eq!(low.union(&high).compare(&all), GroupRelation::Identical);
/// });
/// ```
pub trait Group: AsRaw<Raw = MPI_Group> {
    /// The members of this group, then those of `other` that are not in it.
    ///
    /// Corresponds to `MPI_Group_union`.
    ///
    /// ```
    /// use tercio::{topology::SystemGroup, traits::*};
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(SystemGroup::empty().union(&universe.world().group()).size(), 1);
    /// ```
    fn union<G: Group>(&self, other: &G) -> UserGroup
    where
        Self: Sized,
    {
        let (mine, theirs) = (members(self), members(other));
        let added = theirs.ranks.iter().filter(|&&r| mine.position(r).is_none());
        let ranks = mine.ranks.iter().chain(added).copied().collect();
        UserGroup::new(Members::new(ranks, mine.me.or(theirs.me)))
    }

    /// The members of this group that are in `other` too.
    ///
    /// Corresponds to `MPI_Group_intersection`.
    ///
    /// ```
    /// use tercio::{topology::SystemGroup, traits::*};
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().group().intersection(&SystemGroup::empty()).size(), 0);
    /// ```
    fn intersection<G: Group>(&self, other: &G) -> UserGroup
    where
        Self: Sized,
    {
        let (mine, theirs) = (members(self), members(other));
        let ranks = mine
            .ranks
            .iter()
            .copied()
            .filter(|&r| theirs.position(r).is_some())
            .collect();
        UserGroup::new(Members::new(ranks, mine.me.or(theirs.me)))
    }

    /// The members of this group that are not in `other`.
    ///
    /// Corresponds to `MPI_Group_difference`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let all = universe.world().group();
    /// assert_eq!(all.difference(&all).size(), 0);
    /// ```
    fn difference<G: Group>(&self, other: &G) -> UserGroup
    where
        Self: Sized,
    {
        let (mine, theirs) = (members(self), members(other));
        let ranks = mine
            .ranks
            .iter()
            .copied()
            .filter(|&r| theirs.position(r).is_none())
            .collect();
        UserGroup::new(Members::new(ranks, mine.me.or(theirs.me)))
    }

    /// The members with `ranks`, in that order.
    ///
    /// Corresponds to `MPI_Group_incl`. Panics if a rank is not in the group or comes twice.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().group().include(&[0]).rank(), Some(0));
    /// ```
    #[track_caller]
    fn include(&self, ranks: &[Rank]) -> UserGroup {
        let mine = members(self);
        UserGroup::new(Members::new(mine.pick("include", ranks), mine.me))
    }

    /// The members but those with `ranks`.
    ///
    /// Corresponds to `MPI_Group_excl`. Panics if a rank is not in the group or comes twice.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().group().exclude(&[0]).rank(), None);
    /// ```
    #[track_caller]
    fn exclude(&self, ranks: &[Rank]) -> UserGroup {
        let mine = members(self);
        let out = mine.pick("exclude", ranks);
        let left = mine
            .ranks
            .iter()
            .copied()
            .filter(|r| !out.contains(r))
            .collect();
        UserGroup::new(Members::new(left, mine.me))
    }

    /// How many members.
    ///
    /// Corresponds to `MPI_Group_size`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().group().size(), 1);
    /// ```
    fn size(&self) -> Rank {
        members(self).ranks.len() as Rank
    }

    /// This process's rank in the group, if it is a member.
    ///
    /// Corresponds to `MPI_Group_rank`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().group().rank(), Some(0));
    /// ```
    fn rank(&self) -> Option<Rank> {
        let mine = members(self);
        mine.position(mine.me?).map(|p| p as Rank)
    }

    /// The rank in `other` of the process that has `rank` here, if it is a member there. Panics if `rank` is not in this group.
    ///
    /// Corresponds to `MPI_Group_translate_ranks`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let all = world.group();
    ///     let reversed = all.include(&[2, 1, 0]);
    ///     assert_eq!(all.translate_rank(0, &reversed), Some(2));
    /// });
    /// ```
    #[track_caller]
    fn translate_rank<G: Group>(&self, rank: Rank, other: &G) -> Option<Rank>
    where
        Self: Sized,
    {
        let mine = members(self);
        match mine.at(rank) {
            Some(process) => members(other).position(process).map(|p| p as Rank),
            None => panic!(
                "translate_rank was asked for rank {rank} of a group of {}; ranks are 0 to size - 1",
                mine.ranks.len()
            ),
        }
    }

    /// [`translate_rank`](Self::translate_rank) of each.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let all = world.group();
    ///     let some = all.include(&[2, 0]);
    ///     assert_eq!(all.translate_ranks(&[0, 1, 2], &some), [Some(1), None, Some(0)]);
    /// });
    /// ```
    #[track_caller]
    fn translate_ranks<G: Group>(&self, ranks: &[Rank], other: &G) -> Vec<Option<Rank>>
    where
        Self: Sized,
    {
        let mut translated = Vec::with_capacity(ranks.len());
        for &rank in ranks {
            translated.push(self.translate_rank(rank, other));
        }
        translated
    }

    /// How the groups compare.
    ///
    /// Corresponds to `MPI_Group_compare`.
    ///
    /// ```
    /// use tercio::{topology::GroupRelation, traits::*};
    /// tercio::testing::ranks(2, |world| {
    ///     let all = world.group();
    ///     assert_eq!(all.compare(&all.include(&[1, 0])), GroupRelation::Similar);
    ///     assert_eq!(all.compare(&all.include(&[1])), GroupRelation::Unequal);
    /// });
    /// ```
    fn compare<G: Group>(&self, other: &G) -> GroupRelation
    where
        Self: Sized,
    {
        relation(&members(self).ranks, &members(other).ranks)
    }
}
