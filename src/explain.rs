//! Why a collective of several hosts runs as it does: what messages cost.
pub use crate::model::Costs;
