//! Collectives between two groups: what a process gets comes from the other group. They run among both groups as one, as an exchange in
//! which nobody has anything for its own group.
use super::arguments::check_parts;
use super::{Call, Communicator, Part};
use crate::model::error::Result;
use crate::model::{CollKind, Error, ErrorClass};

/// The exchange that a call between two groups is: a part for each member of both, in the order of both as one.
#[derive(Default)]
pub(super) struct Exchange {
    send: Vec<Part>,
    recv: Vec<Part>,
}

const NOTHING: Part = Part { at: 0, bytes: 0 };

impl Exchange {
    /// What `call` on `inter` is on `union`, both of its groups as one. An error for what is not done between two groups.
    pub(super) fn new(
        call: &Call<'_>,
        kind: CollKind,
        inter: &Communicator,
        union: &Communicator,
    ) -> Result<Exchange> {
        let (others, name) = (inter.size(), kind.name());
        if call.kind() != kind {
            // A step of what makes a communicator.
            return Err(between_groups(name));
        }
        let own = inter.comm().own();
        // The own group is the first of the two or the second.
        let first = match union.comm().member(own[0]) {
            Some(0) => own.len(),
            _ => 0,
        };
        let spread = |part: &dyn Fn(usize) -> Part| -> Vec<Part> {
            let mut parts = vec![NOTHING; union.size()];
            for (other, place) in parts[first..first + others].iter_mut().enumerate() {
                *place = part(other);
            }
            parts
        };
        let blocks = |bytes: usize| {
            let block = bytes / others;
            match bytes % others {
                0 => Ok(spread(&|other| Part {
                    at: other * block,
                    bytes: block,
                })),
                _ => Err(Error::new(
                    ErrorClass::Count,
                    format!(
                        "{name} between two groups was given {bytes} bytes, which are not one block for each of {others} members of the other group"
                    ),
                )),
            }
        };
        let given = |parts: &[Part], bytes: usize| -> Result<Vec<Part>> {
            check_parts(name, parts, bytes, others)?;
            Ok(spread(&|other| parts[other]))
        };
        let to_all = |bytes: usize| spread(&|_| Part { at: 0, bytes });
        Ok(match call {
            Call::Barrier => Exchange::default(),
            Call::AllGather { send, recv } => Exchange {
                send: to_all(send.len()),
                recv: blocks(recv.len())?,
            },
            Call::AllGatherVar { send, recv, parts } => Exchange {
                send: to_all(send.len()),
                recv: given(parts, recv.len())?,
            },
            Call::AllToAll { send, recv } => Exchange {
                send: blocks(send.len())?,
                recv: blocks(recv.len())?,
            },
            Call::AllToAllVar {
                send,
                send_parts,
                recv,
                recv_parts,
            } => Exchange {
                send: given(send_parts, send.len())?,
                recv: given(recv_parts, recv.len())?,
            },
            _ => return Err(between_groups(name)),
        })
    }

    /// `call` as this exchange.
    pub(super) fn of<'c>(&'c self, call: Call<'c>) -> Call<'c> {
        match call {
            Call::AllGather { send, recv }
            | Call::AllGatherVar { send, recv, .. }
            | Call::AllToAll { send, recv }
            | Call::AllToAllVar { send, recv, .. } => Call::AllToAllVar {
                send,
                send_parts: &self.send,
                recv,
                recv_parts: &self.recv,
            },
            other => other,
        }
    }
}

/// The error of a collective that is not for two groups.
#[cold]
pub(super) fn between_groups(name: &str) -> Error {
    Error::new(
        ErrorClass::Comm,
        format!(
            "{name} was called on an inter-communicator, which has messages, barrier, all_gather, all_to_all and merge; merge it into one \
             communicator of both groups"
        ),
    )
}
