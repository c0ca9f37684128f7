//! A collective as data: rounds of transfers, and what is computed between them.
//!
//! A schedule works on one scratch buffer of packed bytes. The engine runs it (engine/schedule.rs); so can a simulator.
use core::ops::Range;

/// One message of a round. Peers are ranks of the communicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    Send { to: usize, part: Range<usize> },
    Receive { from: usize, part: Range<usize> },
}

impl Transfer {
    /// What of the scratch buffer is sent or received.
    pub(crate) fn part(&self) -> &Range<usize> {
        match self {
            Transfer::Send { part, .. } | Transfer::Receive { part, .. } => part,
        }
    }
}

/// One local step; both ranges lie in the scratch buffer and have the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// `inout = input op inout`, where `input` comes from lower ranks than `inout`. The ranges do not overlap.
    Combine {
        input: Range<usize>,
        inout: Range<usize>,
    },
    /// The bytes of `from` once more, from `to` on. The two do not overlap.
    Copy { from: Range<usize>, to: usize },
}

/// All transfers of a round are started together; its local steps run in order when all of them are complete; then the next round starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) then: Vec<Local>,
}

/// What one rank does in a collective.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Bytes of the scratch buffer.
    pub(crate) scratch: usize,
    pub(crate) rounds: Vec<Round>,
}
