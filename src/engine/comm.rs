//! A communicator as the engine knows it: who its members are, and which contexts its messages carry.

use std::sync::Arc;

/// The number in the job of each member of a communicator: its rank in the world, for those that the job began with.
pub(crate) type Members = Arc<[usize]>;

/// A group of ranks with a context of its own. Contexts are even; the odd one above belongs to collectives.
///
/// Between two groups the members are those whom messages go to and come from, the other group, and this rank is one of its own group.
#[derive(Debug)]
pub(crate) struct Comm {
    context: u32,
    members: Members,
    /// The member that each rank of the job is; `u32::MAX` for none.
    index: Vec<u32>,
    rank: usize,
    /// This rank's own group, if it is not the members.
    own: Option<Members>,
}

impl Comm {
    /// `members` are ranks of the job, each once, `me` among them; `job` is how many the job has room for.
    pub(crate) fn new(context: u32, members: Vec<usize>, me: usize, job: usize) -> Comm {
        debug_assert!(context % 2 == 0);
        let mut index = vec![u32::MAX; job];
        for (member, &world_rank) in members.iter().enumerate() {
            index[world_rank] = member as u32;
        }
        let rank = index[me] as usize;
        debug_assert!(rank < members.len());
        Comm {
            context,
            members: members.into(),
            index,
            rank,
            own: None,
        }
    }

    /// As [`Comm::new`], between the group `own`, `me` among it, and the group `others`.
    pub(crate) fn between(
        context: u32,
        own: Vec<usize>,
        others: Vec<usize>,
        me: usize,
        job: usize,
    ) -> Comm {
        let own = Comm::new(context, own, me, job);
        let mut index = vec![u32::MAX; job];
        for (member, &other) in others.iter().enumerate() {
            index[other] = member as u32;
        }
        Comm {
            context,
            members: others.into(),
            index,
            rank: own.rank,
            own: Some(own.members),
        }
    }

    pub(crate) fn context(&self) -> u32 {
        self.context
    }

    /// This process's own group.
    pub(crate) fn own(&self) -> &Members {
        self.own.as_ref().unwrap_or(&self.members)
    }

    /// Whether this is between two groups.
    pub(crate) fn is_inter(&self) -> bool {
        self.own.is_some()
    }

    /// This process's rank in its own group.
    #[inline]
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.members.len()
    }

    /// The number in the job of member `rank`.
    #[inline]
    pub(crate) fn world_rank(&self, rank: usize) -> usize {
        self.members[rank]
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// The member that rank `world` of the job is.
    #[inline]
    pub(crate) fn member(&self, world: usize) -> Option<usize> {
        self.index
            .get(world)
            .copied()
            .filter(|&m| m != u32::MAX)
            .map(|m| m as usize)
    }
}
