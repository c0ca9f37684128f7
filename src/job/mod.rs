//! Who am I: identity, wire-up, the segments and their control page. README.md says how ranks learn of each other.

pub(crate) mod bytes;
pub(crate) mod claim;
pub(crate) mod collected;
pub(crate) mod control;
pub(crate) mod directory;
pub(crate) mod exchange;
pub(crate) mod heap;
pub(crate) mod identity;
pub(crate) mod layout;
pub(crate) mod leave;
pub(crate) mod lifeline;
mod pmi;
pub(crate) mod segment;
pub(crate) mod spawn;
#[cfg(test)]
pub(crate) mod spoil;
pub(crate) mod tasks;

pub(crate) use claim::Membership;
pub(crate) use control::{Control, FailureKind, RankState};
pub(crate) use exchange::Exchange;
pub(crate) use heap::HeapBlock;
pub(crate) use segment::Segment;
