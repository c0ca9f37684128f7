//! Collectives of a communicator that spans hosts. ../README.md says what each way is, and why the order of combination is the same in all.
mod circulant;
mod folding;
mod groups;
mod moving;
#[cfg(test)]
mod tests;

pub(in crate::coll) use folding::{all_reduce, prefix, reduce, reduce_scatter_block};
pub(in crate::coll) use moving::BLOCK;
pub(in crate::coll) use moving::{all_gather, all_to_all, barrier, broadcast, gather, scatter};

/// How a collective of several hosts runs. Not every collective has every way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::coll) enum Way {
    /// As if each member were on a host of its own.
    Flat,
    /// One member of each host speaks for it; between them a tree or as few rounds as there can be.
    Leaders,
    /// As `Leaders`, with all contributions brought to where they are folded, whole.
    Gathered,
    /// One member of each host, in blocks, each of which is passed on while the next one comes.
    Blocks,
    /// Each member of a host moves, and folds, its slice.
    Lanes,
    /// Slices again, and each goes with what is folded of it from run to run of neighbours on one host.
    Chain,
    /// Each member folds its slice, of which it gets everybody's contribution.
    Spread,
}

impl Way {
    pub(in crate::coll) const fn name(self) -> &'static str {
        match self {
            Way::Flat => "flat",
            Way::Leaders => "leaders",
            Way::Gathered => "gathered",
            Way::Blocks => "blocks",
            Way::Lanes => "lanes",
            Way::Chain => "chain",
            Way::Spread => "spread",
        }
    }
}

/// The most slices that members of a host move at the same time.
pub(in crate::coll) const LANES: usize = 16;
