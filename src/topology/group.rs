//! Ordered sets of processes.
use super::Rank;
use super::sealed::AsMembers;
use crate::ffi::MPI_Group;
use crate::raw::AsRaw;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The members of a group, by their ranks in the world.
pub struct Members {
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

// SAFETY: the ABI's number of the empty group.
unsafe impl AsRaw for SystemGroup {
    type Raw = MPI_Group;
    fn as_raw(&self) -> MPI_Group {
        MPI_Group(0x109)
    }
}

impl AsMembers for SystemGroup {
    fn as_members(&self) -> &Members {
        &EMPTY
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
pub struct UserGroup {
    members: Members,
    number: usize,
}

impl UserGroup {
    pub(super) fn new(members: Members) -> UserGroup {
        static NEXT: AtomicUsize = AtomicUsize::new(4096);
        UserGroup {
            members,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }
}

// SAFETY: a number that no other group ever has.
unsafe impl AsRaw for UserGroup {
    type Raw = MPI_Group;
    fn as_raw(&self) -> MPI_Group {
        MPI_Group(self.number)
    }
}

impl AsMembers for UserGroup {
    fn as_members(&self) -> &Members {
        &self.members
    }
}

impl Group for UserGroup {}

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
pub trait Group: AsMembers {
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
        let (mine, theirs) = (self.as_members(), other.as_members());
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
        let (mine, theirs) = (self.as_members(), other.as_members());
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
        let (mine, theirs) = (self.as_members(), other.as_members());
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
        let mine = self.as_members();
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
        let mine = self.as_members();
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
        self.as_members().ranks.len() as Rank
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
        let mine = self.as_members();
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
        let mine = self.as_members();
        match mine.at(rank) {
            Some(process) => other.as_members().position(process).map(|p| p as Rank),
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
        relation(&self.as_members().ranks, &other.as_members().ranks)
    }
}
