//! Ways by which envelopes and bytes travel. A transport delivers envelopes; matching is the engine's.
pub(crate) mod mpi;
pub(crate) mod shm;
pub(crate) mod tcp;
