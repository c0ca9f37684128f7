//! What a member can know to be wrong with a collective call before anything happens, in sentences.
use super::{Call, Communicator, Part};
use crate::engine::RecvSpan;
use crate::model::error::Result;
use crate::model::{Error, ErrorClass};

/// What this member can know to be wrong, before anything happens.
#[inline(always)]
pub(super) fn check(call: &Call<'_>, c: &Communicator) -> Result<()> {
    let (rank, size) = (c.rank(), c.size());
    let name = call.kind().name();
    if let Some(root) = call.root().filter(|root| *root >= size) {
        return Err(Error::new(
            ErrorClass::Root,
            format!(
                "{name} with root {root} was asked on a communicator of {size}; a root is a rank from 0 to {}",
                size - 1
            ),
        ));
    }
    let has_recv = call.recv().is_some();
    let expected = match call {
        Call::Gather { root, .. } | Call::GatherVar { root, .. } | Call::Reduce { root, .. } => {
            has_recv == (*root == rank)
        }
        Call::Scatter { root, .. } | Call::ScatterVar { root, .. } => {
            call.send().is_some() == (*root == rank)
        }
        _ => true,
    };
    if !expected {
        return Err(Error::new(
            ErrorClass::Buffer,
            format!("{name} takes the buffer for all members at its root, and only there"),
        ));
    }
    if let (Some(send), Some(recv)) = (call.send(), call.recv()) {
        if !send.code().goes_with(recv.code()) && send.len() > 0 && recv.len() > 0 {
            return Err(Error::new(
                ErrorClass::Type,
                format!(
                    "{name} was given a source of {} and a destination of {}; they must be of the same types",
                    send.code().name(),
                    recv.code().name()
                ),
            ));
        }
        let (give, take) = match call {
            Call::Gather { .. } | Call::AllGather { .. } => (send.len() * size, recv.len()),
            Call::Scatter { .. } | Call::ReduceScatterBlock { .. } => {
                (send.len(), recv.len() * size)
            }
            Call::Reduce { .. }
            | Call::AllReduce { .. }
            | Call::Scan { .. }
            | Call::ExclusiveScan { .. }
            | Call::AllToAll { .. } => (send.len(), recv.len()),
            _ => (0, 0),
        };
        if give != take {
            let what_to_do = match call {
                Call::Gather { .. } | Call::AllGather { .. } => {
                    format!("make room for {size} times what each member sends")
                }
                Call::Scatter { .. } | Call::ReduceScatterBlock { .. } => {
                    format!("send {size} times what each member has room for")
                }
                _ => "make both the same length".to_string(),
            };
            return Err(Error::new(
                ErrorClass::Count,
                format!(
                    "{name} on a communicator of {size} was given {} bytes to send and room for {}; {what_to_do}",
                    send.len(),
                    recv.len()
                ),
            ));
        }
    }
    match call {
        Call::AllToAll { send, .. } if send.len() % size != 0 => Err(Error::new(
            ErrorClass::Count,
            format!(
                "{name} was given {} bytes, which are not one block for each of {size} members",
                send.len()
            ),
        )),
        Call::GatherVar {
            send,
            recv: Some((recv, parts)),
            ..
        }
        | Call::AllGatherVar { send, recv, parts } => {
            check_parts(name, parts, recv.len(), size)?;
            check_own(name, send.len(), parts[rank].bytes)
        }
        Call::ScatterVar {
            send: Some((send, parts)),
            recv,
            ..
        } => {
            check_parts(name, parts, send.len(), size)?;
            check_own(name, parts[rank].bytes, recv.len())
        }
        Call::AllToAllVar {
            send,
            send_parts,
            recv,
            recv_parts,
        } => {
            check_parts(name, send_parts, send.len(), size)?;
            check_parts(name, recv_parts, recv.len(), size)?;
            check_own(name, send_parts[rank].bytes, recv_parts[rank].bytes)
        }
        _ => Ok(()),
    }
}

pub(super) fn check_parts(name: &str, parts: &[Part], bytes: usize, size: usize) -> Result<()> {
    if parts.len() != size {
        return Err(Error::new(
            ErrorClass::Count,
            format!(
                "{name} was given {} counts on a communicator of {size}; there must be one for each member",
                parts.len()
            ),
        ));
    }
    let inside = |part: &Part| part.at <= bytes && part.bytes <= bytes - part.at;
    match parts.iter().position(|part| !inside(part)) {
        Some(member) => Err(Error::new(
            ErrorClass::Count,
            format!(
                "{name} was given {} bytes at {} for rank {member}, which is not inside the buffer of {bytes} bytes; keep every part inside",
                parts[member].bytes, parts[member].at
            ),
        )),
        None => Ok(()),
    }
}

fn check_own(name: &str, give: usize, take: usize) -> Result<()> {
    if give == take {
        return Ok(());
    }
    Err(Error::new(
        ErrorClass::Count,
        format!(
            "{name} has this rank send {give} bytes to itself, but room for {take} from itself; make its own two counts the same"
        ),
    ))
}

/// A `bool` that is neither 0 nor 1 can come only from a member that sent raw bytes.
#[cold]
pub(super) fn check_bools(
    name: &str,
    call: Call<'_>,
    recv: &RecvSpan,
    c: &Communicator,
) -> Result<()> {
    // What stays as it was is the face's, and valid.
    if matches!(call, Call::ExclusiveScan { .. }) && c.rank() == 0 {
        return Ok(());
    }
    match recv.invalid_bool(recv.len()) {
        Some(value) => Err(Error::new(
            ErrorClass::Type,
            format!(
                "{name} brought the byte {value} for a bool, which must be 0 or 1; another member sent raw bytes; send bool from bool"
            ),
        )),
        None => Ok(()),
    }
}
