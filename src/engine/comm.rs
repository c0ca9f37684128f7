//! A communicator as the engine knows it: who its members are, and which contexts its messages carry.

use std::sync::Arc;

/// The world rank of each member of a communicator.
pub(crate) type Members = Arc<[usize]>;

/// A group of world ranks with a context of its own. Contexts are even; the odd one above belongs to collectives.
#[derive(Debug)]
pub(crate) struct Comm {
    context: u32,
    members: Members,
    /// The member that each world rank is; `u32::MAX` for none.
    index: Vec<u32>,
    rank: usize,
}

impl Comm {
    /// `members` are world ranks, each once, `me` among them; `world` is the world's size.
    pub(crate) fn new(context: u32, members: Vec<usize>, me: usize, world: usize) -> Comm {
        debug_assert!(context % 2 == 0);
        let mut index = vec![u32::MAX; world];
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
        }
    }

    pub(crate) fn context(&self) -> u32 {
        self.context
    }

    /// This process's rank in the communicator.
    #[inline]
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.members.len()
    }

    /// The world rank of member `rank`.
    #[inline]
    pub(crate) fn world_rank(&self, rank: usize) -> usize {
        self.members[rank]
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// The member that world rank `world` is.
    #[inline]
    pub(crate) fn member(&self, world: usize) -> Option<usize> {
        self.index
            .get(world)
            .copied()
            .filter(|&m| m != u32::MAX)
            .map(|m| m as usize)
    }
}
