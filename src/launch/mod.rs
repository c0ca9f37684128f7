//! Start, own, watch and end the ranks of one host.

/// Runs the guard or the agent of a job if this process was started to be one; returns otherwise.
pub fn role() {}
