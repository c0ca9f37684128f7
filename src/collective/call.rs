//! From the face's buffers to collective calls.
use super::integers::Converted;
use super::operation::{Elements, Operation, element};
use crate::coll::{self, Call, Part};
use crate::datatype::partition::check_apart;
use crate::datatype::span::{self, Kind};
use crate::datatype::{Buffer, BufferMut, PartitionedBuffer, PartitionedBufferMut};
use crate::engine::{RecvSpan, RequestId, SendSpan};
use crate::environment::process::{State, current};
use crate::model::Op;
use crate::request::Live;
use crate::topology::shared::Shared;
use core::panic::Location;
use std::sync::Arc;

/// Does the call and returns when this process's part is done.
#[inline]
#[track_caller]
pub(super) fn run(shared: &Shared, call: Call<'_>) {
    let instance = shared.instance();
    let _entry = instance.enter();
    instance.check(coll::run(
        instance.engine(),
        shared.coll(),
        call,
        Location::caller(),
    ));
}

/// Starts the call.
#[track_caller]
pub(super) fn start(shared: &Arc<Shared>, call: Call<'_>) -> Live {
    let instance = shared.instance();
    let _entry = instance.enter();
    let site = Location::caller();
    let id: RequestId = instance.check(coll::start(instance.engine(), shared.coll(), call, site));
    Live::collective(shared, id, site)
}

/// A partitioned buffer: the memory that its parts lie in, and the parts.
pub(super) struct Parts<S> {
    pub(super) span: S,
    pub(super) parts: Vec<Part>,
}

#[track_caller]
fn parts(
    call: &str,
    kind: &Kind,
    counts: &[i32],
    displs: &[i32],
    room: usize,
    ranks: usize,
) -> (usize, Vec<Part>) {
    for (what, len) in [("counts", counts.len()), ("displacements", displs.len())] {
        assert!(
            len == ranks,
            "{call} was given a partition with {len} {what} for {ranks} ranks; give one for each rank"
        );
    }
    let mut end = 0;
    let mut parts = Vec::with_capacity(ranks);
    for (&count, &displ) in counts.iter().zip(displs) {
        assert!(
            count >= 0 && displ >= 0,
            "{call} was given a part of {count} elements at {displ}; neither may be negative"
        );
        let (count, displ) = (count as usize, displ as usize);
        // An empty part may lie anywhere.
        if count > 0 {
            end = end.max(count + displ);
        }
        assert!(
            end <= room,
            "{call} was given a part of {count} elements at {displ}, but the buffer has {room}; keep every part inside"
        );
        parts.push(Part {
            at: if count > 0 { displ * kind.size() } else { 0 },
            bytes: count * kind.size(),
        });
    }
    (end, parts)
}

/// # Safety
/// `buffer` stays borrowed until the call that takes the span is complete.
#[track_caller]
pub(super) unsafe fn send_parts<B: ?Sized + PartitionedBuffer>(
    call: &str,
    buffer: &B,
    ranks: usize,
) -> Parts<SendSpan> {
    let kind = Kind::of(&buffer.as_datatype(), buffer.element_size());
    let (counts, displs) = (buffer.counts(), buffer.displs());
    let (count, parts) = parts(call, &kind, counts, displs, buffer.room(), ranks);
    // SAFETY: the parts were just checked to lie in the buffer, or the buffer's own promise says so.
    let span = unsafe { kind.send(buffer.pointer().cast(), count) };
    Parts { span, parts }
}

/// # Safety
/// `buffer` stays mutably borrowed until the call that takes the span is complete.
#[track_caller]
pub(super) unsafe fn recv_parts<B: ?Sized + PartitionedBufferMut>(
    call: &str,
    buffer: &mut B,
    ranks: usize,
) -> Parts<RecvSpan> {
    let kind = Kind::of(&buffer.as_datatype(), buffer.element_size());
    let (counts, displs) = (buffer.counts(), buffer.displs());
    let (count, parts) = parts(call, &kind, counts, displs, buffer.room(), ranks);
    check_apart("PartitionMut", counts, displs);
    // SAFETY: the parts were just checked to lie in the buffer, or the buffer's own promise says so.
    let span = unsafe { kind.recv(buffer.pointer_mut().cast(), count) };
    Parts { span, parts }
}

/// `buffer` as `ranks` parts of equal length, to send; what is left over at the end is not sent.
///
/// # Safety
/// `buffer` stays borrowed until the call that takes the span is complete.
#[track_caller]
pub(super) unsafe fn send_even<B: ?Sized + Buffer>(buffer: &B, ranks: usize) -> SendSpan {
    let count = span::count(buffer) / ranks * ranks;
    // SAFETY: not more elements than the buffer has.
    unsafe { span::kind(buffer).send(buffer.pointer().cast(), count) }
}

/// `buffer` as `ranks` parts of equal length, to receive into; what is left over at the end is left alone.
///
/// # Safety
/// `buffer` stays mutably borrowed until the call that takes the span is complete.
#[track_caller]
pub(super) unsafe fn recv_even<B: ?Sized + BufferMut>(buffer: &mut B, ranks: usize) -> RecvSpan {
    let (kind, count) = (span::kind(buffer), span::count(buffer) / ranks * ranks);
    // SAFETY: not more elements than the buffer has.
    unsafe { kind.recv(buffer.pointer_mut().cast(), count) }
}

/// The operands of a reduction.
pub(super) struct Reduction<R> {
    pub(super) send: SendSpan,
    pub(super) recv: R,
    pub(super) op: Op,
    pub(super) element: coll::Element,
    /// Results that have to be converted, once they are there.
    pub(super) converted: Option<Converted>,
}

/// A reduction of `send` whose result goes elsewhere.
///
/// # Safety
/// As for [`send_even`].
#[track_caller]
pub(super) unsafe fn contribution<S: ?Sized + Buffer>(
    call: &str,
    send: &S,
    op: &impl Operation,
) -> Reduction<()> {
    let kind = span::kind(send);
    let op = ending_in_panic(op.prepare(call, &Elements(&kind)).0);
    // SAFETY: by the contract of this function.
    let send = unsafe { span::send(send) };
    Reduction {
        send,
        recv: (),
        op,
        element: element(&kind),
        converted: None,
    }
}

/// A reduction of `send` into `recv`, of which there are `per_result` elements sent for one received.
///
/// # Safety
/// As for [`send_even`] and [`recv_even`].
#[track_caller]
pub(super) unsafe fn reduction<S, R>(
    call: &str,
    send: &S,
    recv: &mut R,
    per_result: Option<usize>,
    op: &impl Operation,
) -> Reduction<RecvSpan>
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
{
    // SAFETY: by the contract of this function.
    let local = unsafe { local_reduction(call, send, recv, per_result, op) };
    Reduction {
        op: ending_in_panic(local.op),
        ..local
    }
}

/// As [`reduction`], for a call that returns when the results are there: integers may go into integers of another type. The caller calls
/// [`settle`] then.
///
/// # Safety
/// As for [`reduction`].
#[track_caller]
pub(super) unsafe fn blocking_reduction<S, R>(
    call: &'static str,
    send: &S,
    recv: &mut R,
    per_result: Option<usize>,
    op: &impl Operation,
) -> Reduction<RecvSpan>
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
{
    let (from, into) = (span::kind(send), span::kind(recv));
    if from.code() == into.code() || !Converted::takes(&from, &into) {
        // SAFETY: by the contract of this function.
        return unsafe { reduction(call, send, recv, per_result, op) };
    }
    let (sent, count) = lengths(call, send, recv, per_result);
    let op = ending_in_panic(op.prepare(call, &Elements(&from)).0);
    // SAFETY: by the contract of this function; not more elements than either has.
    unsafe {
        let to = recv.pointer_mut().cast();
        let (converted, span) = Converted::new(call, (&from, &into), to, count);
        Reduction {
            send: from.send(send.pointer().cast(), sent),
            recv: span,
            op,
            element: element(&from),
            converted: Some(converted),
        }
    }
}

/// The operation for a call that others take part in: they cannot go on when this rank leaves it half done, and memory is lent to it. So a
/// panic in a user's function ends the process.
fn ending_in_panic(op: Op) -> Op {
    struct Called;
    impl Drop for Called {
        fn drop(&mut self) {
            if let State::Rank(rank) = current() {
                rank.instance.end_in_panic();
            }
        }
    }
    let Op::User {
        function,
        commutative,
    } = op
    else {
        return op;
    };
    Op::User {
        function: Arc::new(move |input: &[u8], inout: &mut [u8]| {
            let called = Called;
            function(input, inout);
            core::mem::forget(called);
        }),
        commutative,
    }
}

/// To be called when the call that [`blocking_reduction`] was for has returned.
#[inline]
#[track_caller]
pub(super) fn settle(reduction: Reduction<RecvSpan>) {
    if let Some(converted) = reduction.converted {
        converted.settle();
    }
}

/// As [`reduction`], for a call that is this rank's alone.
///
/// # Safety
/// As for [`reduction`].
#[track_caller]
pub(super) unsafe fn local_reduction<S, R>(
    call: &str,
    send: &S,
    recv: &mut R,
    per_result: Option<usize>,
    op: &impl Operation,
) -> Reduction<RecvSpan>
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
{
    let (from, into) = (span::kind(send), span::kind(recv));
    assert!(
        from.code() == into.code() && from.size() == into.size(),
        "{call} was asked to reduce {} into {}; both must be of one type",
        from.name(),
        into.name()
    );
    let (sent, received) = lengths(call, send, recv, per_result);
    let op = op.prepare(call, &Elements(&from)).0;
    // SAFETY: by the contract of this function; not more elements than either has.
    let (send, recv) = unsafe {
        (
            from.send(send.pointer().cast(), sent),
            into.recv(recv.pointer_mut().cast(), received),
        )
    };
    Reduction {
        send,
        recv,
        op,
        element: element(&from),
        converted: None,
    }
}

/// How many elements a reduction sends and how many results it has.
#[track_caller]
fn lengths<S, R>(call: &str, send: &S, recv: &R, per_result: Option<usize>) -> (usize, usize)
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
{
    let (sent, room) = (span::count(send), span::count(recv));
    match per_result {
        None => {
            assert!(
                room >= sent,
                "{call} was asked to reduce {sent} elements into a buffer of {room}; give it room for all"
            );
            (sent, sent)
        }
        Some(ranks) => {
            assert!(
                room.checked_mul(ranks) == Some(sent),
                "{call} was asked to reduce {sent} elements to {room} for each of {ranks} ranks; send {ranks} times as many as are received"
            );
            (sent, room)
        }
    }
}
