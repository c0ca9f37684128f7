//! Every collective as a schedule: rounds of messages and local steps on one scratch buffer.
//!
//! Immediate collectives run so, and those of communicators without cells, and those whose sizes only some members know. The builders
//! are pure: they know sizes and ranks, no memory and no engine; `simulator` runs the schedules of all members in the tests.
//!
//! Between two members, the messages of one collective are received in the order in which they were sent.
pub(super) mod across;
mod exchange;
mod reduction;
mod rooted;
#[cfg(test)]
mod simulator;

pub(super) use exchange::{all_gather, all_to_all, barrier};
pub(super) use reduction::{Fold, all_reduce, exclusive_scan, reduce, reduce_scatter_block, scan};
pub(super) use rooted::{broadcast, gather, scatter};

use super::Part;
use crate::model::{Local, Round, Schedule, Transfer};
use core::ops::Range;

/// A schedule, and what its scratch buffer has to do with the caller's buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) schedule: Schedule,
    /// Parts of the packed source and where in the scratch buffer they go before the start.
    pub(super) inputs: Vec<(Part, usize)>,
    /// Ranges of the scratch buffer and where in the packed destination they go at the end.
    pub(super) outputs: Vec<(Range<usize>, usize)>,
}

/// Builds the plan of one member.
struct Builder {
    size: usize,
    rank: usize,
    plan: Plan,
}

impl Builder {
    fn new(size: usize, rank: usize) -> Builder {
        Builder {
            size,
            rank,
            plan: Plan::default(),
        }
    }

    /// `bytes` more of scratch.
    fn room(&mut self, bytes: usize) -> Range<usize> {
        let at = self.plan.schedule.scratch;
        self.plan.schedule.scratch += bytes;
        at..at + bytes
    }

    /// Room that starts with a part of the source.
    fn input(&mut self, at: usize, bytes: usize) -> Range<usize> {
        let room = self.room(bytes);
        self.plan.inputs.push((Part { at, bytes }, room.start));
        room
    }

    /// Has a room that there is already start with bytes of the source.
    fn fill(&mut self, room: &Range<usize>, at: usize) {
        let part = Part {
            at,
            bytes: room.len(),
        };
        self.plan.inputs.push((part, room.start));
    }

    fn output(&mut self, from: Range<usize>, at: usize) {
        self.plan.outputs.push((from, at));
    }

    fn round(&mut self, transfers: Vec<Transfer>, then: Vec<Local>) {
        self.plan.schedule.rounds.push(Round { transfers, then });
    }

    /// The member `distance` after this one, in the circle.
    fn after(&self, distance: usize) -> usize {
        (self.rank + distance) % self.size
    }

    /// The member `distance` before this one, in the circle.
    fn before(&self, distance: usize) -> usize {
        (self.rank + self.size - distance % self.size) % self.size
    }

    fn done(self) -> Plan {
        self.plan
    }
}

fn send(to: usize, part: &Range<usize>) -> Transfer {
    Transfer::Send {
        to,
        part: part.clone(),
    }
}

fn receive(from: usize, part: &Range<usize>) -> Transfer {
    Transfer::Receive {
        from,
        part: part.clone(),
    }
}

/// `inout = input op inout`, where `input` comes from lower ranks.
fn combine(input: &Range<usize>, inout: &Range<usize>) -> Local {
    Local::Combine {
        input: input.clone(),
        inout: inout.clone(),
    }
}
