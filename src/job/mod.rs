//! Who am I: identity, wire-up, the segments and their control page.

pub(crate) mod control;
pub(crate) mod layout;
pub(crate) mod segment;

pub(crate) use control::{Control, FailureKind, RankState};
pub(crate) use segment::Segment;
