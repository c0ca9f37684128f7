//! Shared memory inside a host: lanes for small messages, staging streams and single copy for large ones.
//!
//! Knows the segment and the waiting floor; must never know matching, requests or communicators. The protocols, their races and their
//! proofs are in README.md.

pub(crate) mod cells;
pub(crate) mod copy;
pub(crate) mod lane;
mod memory;
pub(crate) mod near;
pub(crate) mod single_copy;
pub(crate) mod spans;
pub(crate) mod stream;
pub(crate) mod way;

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use lane::{
    Arrival, CONTROL, EAGER_MAX, INLINE, LONG_MAX, LaneRx, LaneTx, SMALL, SlotHead,
};
pub(crate) use single_copy::SingleCopy;
pub(crate) use stream::{Passage, StreamRx, StreamTx};
