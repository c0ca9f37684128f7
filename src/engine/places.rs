//! Where the ranks of the job are, as the engine sees them: which share memory with this one, and where in the segment they are.
use crate::job::{RankState, Segment};

/// Ranks are numbers of the job everywhere in the engine; the segment goes by indices of its own.
pub(crate) struct Places {
    rank: usize,
    /// Each rank's index in the segment, for those of this host.
    index: Vec<Option<usize>>,
    /// The rank at each index.
    at: Vec<usize>,
    /// Ranks that are reached through sockets; empty if none is.
    remote: Vec<bool>,
    /// Whether the job has other hosts.
    many: bool,
}

impl Places {
    /// Everybody shares the segment, and ranks are its indices.
    pub(crate) fn here(segment: &Segment, rank: usize) -> Places {
        let ranks = segment.ranks();
        Places {
            rank,
            index: (0..ranks).map(Some).collect(),
            at: (0..ranks).collect(),
            remote: Vec::new(),
            many: false,
        }
    }

    /// As the job's directory says. `everywhere`: all other ranks are reached through sockets, also those of this host.
    pub(crate) fn of(segment: &Segment, rank: usize, everywhere: bool) -> Places {
        let mut places = match segment.directory().hosts() {
            0 | 1 => Places::here(segment, rank),
            _ => Places::among_hosts(segment, rank),
        };
        if everywhere {
            places.remote = (0..places.ranks()).map(|other| other != rank).collect();
        }
        places
    }

    fn among_hosts(segment: &Segment, rank: usize) -> Places {
        let directory = segment.directory();
        let here = |rank: usize| {
            let place = directory.place(rank);
            let local = place.local as usize;
            (place.host == directory.here() && local < segment.ranks()).then_some(local)
        };
        let index: Vec<_> = (0..directory.world()).map(here).collect();
        let mut at = vec![rank; segment.ranks()];
        for (rank, index) in index.iter().enumerate() {
            if let Some(index) = *index {
                at[index] = rank;
            }
        }
        Places {
            rank,
            remote: index.iter().map(Option::is_none).collect(),
            index,
            at,
            many: true,
        }
    }

    /// How many ranks there are, or there is room for.
    pub(super) fn ranks(&self) -> usize {
        self.index.len()
    }

    pub(super) fn rank(&self) -> usize {
        self.rank
    }

    /// This rank's index in the segment.
    pub(super) fn local(&self) -> usize {
        self.index(self.rank)
    }

    /// A rank's index in the segment. For a rank of another host it is this one's: its lane to itself, which nobody uses, stands for the lane that
    /// does not exist.
    pub(super) fn index(&self, rank: usize) -> usize {
        self.index[rank].or(self.index[self.rank]).unwrap_or(0)
    }

    /// The index of each rank, for those of this host.
    pub(super) fn indices(&self) -> &[Option<usize>] {
        &self.index
    }

    /// The rank at an index of the segment.
    pub(super) fn at(&self, index: usize) -> Option<usize> {
        self.at.get(index).copied()
    }

    /// The number of the host that a rank is on.
    pub(super) fn host(&self, segment: &Segment, rank: usize) -> u32 {
        match self.many {
            true => segment.directory().place(rank).host,
            false => 0,
        }
    }

    /// Whether it is reached through a socket.
    #[inline]
    pub(super) fn is_remote(&self, rank: usize) -> bool {
        self.remote.get(rank).copied().unwrap_or(false)
    }

    /// Whether any rank is.
    pub(crate) fn any_remote(&self) -> bool {
        !self.remote.is_empty()
    }

    /// How far a rank has come, as this host knows.
    pub(super) fn state(&self, segment: &Segment, rank: usize) -> RankState {
        match self.many {
            true => segment.directory().state(rank),
            false => segment.control().state(rank),
        }
    }
}
