//! From the face's buffers to collective calls.
use super::integers::Converted;
use super::operation::{Operation, element, predefined, prepare};
use crate::coll::{self, Call, Part};
use crate::datatype::partition::apart;
use crate::datatype::span::{self, Kind};
use crate::datatype::{Buffer, BufferMut, PartitionedBuffer, PartitionedBufferMut};
use crate::engine::{RecvSpan, RequestId, SendSpan};
use crate::environment::process::{State, current};
use crate::model::{Error, ErrorClass, Op, Site};
use crate::request::Live;
use crate::topology::Rank;
use crate::topology::shared::Shared;
use core::panic::Location;
use std::sync::Arc;

/// A blocking call of the face: what its errors tell of it.
pub(super) struct Asked<'s> {
    shared: &'s Shared,
    /// Its name.
    pub(super) call: &'static str,
    root: Option<Rank>,
    site: Site,
}

/// Does the blocking call `call` with `f`; its errors are returned, but for those that end the job.
#[inline]
#[track_caller]
pub(super) fn attempt<T>(
    shared: &Shared,
    call: &'static str,
    root: Option<Rank>,
    f: impl FnOnce(&Asked<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let asked = Asked {
        shared,
        call,
        root,
        site: Location::caller(),
    };
    match f(&asked) {
        Ok(value) => Ok(value),
        Err(error) => Err(shared.told(call, asked.site, error.about(root, None, None))),
    }
}

impl Asked<'_> {
    /// Makes the collective call, and returns when this process's part is done.
    #[inline(always)]
    pub(super) fn run(&self, call: Call<'_>) -> Result<(), Error> {
        let instance = self.shared.instance();
        let _entry = instance.admit()?;
        let done = coll::run(instance.engine(), self.shared.coll(), call, self.site);
        done.map_err(|error| error.about(None, None, Some(call.bytes())))
    }

    /// How many processes there are.
    pub(super) fn size(&self) -> usize {
        self.shared.coll().size()
    }

    /// This process's rank.
    pub(super) fn rank(&self) -> usize {
        self.shared.coll().rank()
    }

    /// The root, for the root's form of a call.
    #[inline]
    pub(super) fn at_root(&self) -> Result<usize, Error> {
        at_root(self.shared, self.root()?, self.call)
    }

    /// The root, for the form of a call that the others make.
    #[inline]
    pub(super) fn not_at_root(&self) -> Result<usize, Error> {
        not_at_root(self.shared, self.root()?, self.call)
    }

    /// The root.
    #[inline]
    pub(super) fn root(&self) -> Result<usize, Error> {
        let (root, size) = (self.root.unwrap_or(-1), self.size());
        match usize::try_from(root) {
            Ok(root) if root < size => Ok(root),
            _ => Err(Error::new(
                ErrorClass::Root,
                format!(
                    "{} was asked for root {root} of a communicator of {size}; ranks are 0 to size - 1",
                    self.call
                ),
            )),
        }
    }
}

/// The root, which is to be the calling process.
pub(super) fn at_root(shared: &Shared, root: usize, call: &str) -> Result<usize, Error> {
    match shared.coll().rank() {
        me if me == root => Ok(root),
        me => Err(Error::new(
            ErrorClass::Root,
            format!(
                "{call} with root {root} was called by rank {me}; it is the root's form, and {} is for the others",
                other(call)
            ),
        )),
    }
}

/// The root, which is not to be the calling process.
#[inline]
pub(super) fn not_at_root(shared: &Shared, root: usize, call: &str) -> Result<usize, Error> {
    match shared.coll().rank() {
        me if me != root => Ok(root),
        _ => Err(Error::new(
            ErrorClass::Root,
            format!(
                "{call} was called by its root, rank {root}; it is the form for the others, and {} is the root's",
                other(call)
            ),
        )),
    }
}

/// The name of the other form.
fn other(call: &str) -> String {
    match call.strip_suffix("_root") {
        Some(others) => others.to_string(),
        None => format!("{call}_root"),
    }
}

/// The value, or the panic that the error deserves.
#[inline]
#[track_caller]
pub(super) fn sure<T>(shared: &Shared, result: Result<T, Error>) -> T {
    shared.instance().check(result)
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

fn parts(
    call: &str,
    kind: &Kind,
    counts: &[i32],
    displs: &[i32],
    room: usize,
    ranks: usize,
) -> Result<(usize, Vec<Part>), Error> {
    let refuse = |text| Err(Error::new(ErrorClass::Count, text));
    for (what, len) in [("counts", counts.len()), ("displacements", displs.len())] {
        if len != ranks {
            return refuse(format!(
                "{call} was given a partition with {len} {what} for {ranks} ranks; give one for each rank"
            ));
        }
    }
    let mut end = 0;
    let mut parts = Vec::with_capacity(ranks);
    for (&count, &displ) in counts.iter().zip(displs) {
        if count < 0 || displ < 0 {
            return refuse(format!(
                "{call} was given a part of {count} elements at {displ}; neither may be negative"
            ));
        }
        let (count, displ) = (count as usize, displ as usize);
        // An empty part may lie anywhere.
        if count > 0 {
            end = end.max(count + displ);
        }
        if end > room {
            return refuse(format!(
                "{call} was given a part of {count} elements at {displ}, but the buffer has {room}; keep every part inside"
            ));
        }
        parts.push(Part {
            at: if count > 0 { displ * kind.size() } else { 0 },
            bytes: count * kind.size(),
        });
    }
    Ok((end, parts))
}

/// # Safety
/// `buffer` stays borrowed until the call that takes the span is complete.
#[track_caller]
pub(super) unsafe fn send_parts<B: ?Sized + PartitionedBuffer>(
    call: &str,
    buffer: &B,
    ranks: usize,
) -> Result<Parts<SendSpan>, Error> {
    let kind = Kind::of(&buffer.as_datatype(), buffer.element_size());
    let (counts, displs) = (buffer.counts(), buffer.displs());
    let (count, parts) = parts(call, &kind, counts, displs, buffer.room(), ranks)?;
    // SAFETY: the parts were just checked to lie in the buffer, or the buffer's own promise says so.
    let span = unsafe { kind.send(buffer.pointer().cast(), count) };
    Ok(Parts { span, parts })
}

/// # Safety
/// `buffer` stays mutably borrowed until the call that takes the span is complete.
#[track_caller]
pub(super) unsafe fn recv_parts<B: ?Sized + PartitionedBufferMut>(
    call: &str,
    buffer: &mut B,
    ranks: usize,
) -> Result<Parts<RecvSpan>, Error> {
    let kind = Kind::of(&buffer.as_datatype(), buffer.element_size());
    let (counts, displs) = (buffer.counts(), buffer.displs());
    let (count, parts) = parts(call, &kind, counts, displs, buffer.room(), ranks)?;
    if let Err(text) = apart("PartitionMut", counts, displs) {
        return Err(Error::new(ErrorClass::Count, text));
    }
    // SAFETY: the parts were just checked to lie in the buffer, or the buffer's own promise says so.
    let span = unsafe { kind.recv(buffer.pointer_mut().cast(), count) };
    Ok(Parts { span, parts })
}

/// `buffer` as `ranks` parts of equal length, to send; what is left over at the end is not sent.
///
/// # Safety
/// `buffer` stays borrowed until the call that takes the span is complete.
#[track_caller]
pub(super) unsafe fn send_even<B: ?Sized + Buffer>(buffer: &B, ranks: usize) -> SendSpan {
    let count = buffer.elements() / ranks * ranks;
    // SAFETY: not more elements than the buffer has.
    unsafe { span::kind(buffer).send(buffer.pointer().cast(), count) }
}

/// `buffer` as `ranks` parts of equal length, to receive into; what is left over at the end is left alone.
///
/// # Safety
/// `buffer` stays mutably borrowed until the call that takes the span is complete.
#[track_caller]
pub(super) unsafe fn recv_even<B: ?Sized + BufferMut>(buffer: &mut B, ranks: usize) -> RecvSpan {
    let (kind, count) = (span::kind(buffer), buffer.elements() / ranks * ranks);
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
#[inline(always)]
#[track_caller]
pub(super) unsafe fn contribution<S: ?Sized + Buffer>(
    call: &str,
    send: &S,
    op: &impl Operation,
) -> Result<Reduction<()>, Error> {
    let (count, from) = (send.elements(), send.pointer().cast());
    let (element, op) = match (span::kind(send), predefined(op)) {
        (Kind::Basic(basic), Some(op)) if op.defined_for(basic) => {
            (coll::Element::of(basic), Op::Predefined(op))
        }
        (kind, _) => (element(&kind), ending_in_panic(prepare(op, call, &kind)?)),
    };
    Ok(Reduction {
        // SAFETY: by the contract of this function.
        send: unsafe { span::kind(send).send(from, count) },
        recv: (),
        op,
        element,
        converted: None,
    })
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
) -> Result<Reduction<RecvSpan>, Error>
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
{
    // SAFETY: by the contract of this function.
    let local = unsafe { local_reduction(call, send, recv, per_result, op)? };
    Ok(Reduction {
        op: ending_in_panic(local.op),
        ..local
    })
}

/// Does a blocking reduction: `run` makes the call. Where this rank gets no result, nothing of its buffer is converted.
///
/// The operands stay where they are made: a value that is handed up is written in words and copied in pairs of them, which takes as long as the rest of a
/// short call.
///
/// # Safety
/// As for [`reduction`].
#[inline(always)]
#[track_caller]
pub(super) unsafe fn reducing<S, R>(
    asked: &Asked<'_>,
    (send, recv): (&S, &mut R),
    per_result: Option<usize>,
    op: &impl Operation,
    has_result: bool,
    run: impl FnOnce(&Reduction<RecvSpan>) -> Result<(), Error>,
) -> Result<(), Error>
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
{
    // SAFETY: by the contract of this function.
    unsafe {
        if let Some(plain) = plain_reduction(send, recv, per_result, op) {
            return run(&plain);
        }
        reducing_anything(asked, (send, recv), per_result, op, has_result, run)
    }
}

/// [`reducing`] of whatever there may be.
///
/// # Safety
/// As for [`reduction`].
#[inline(never)]
#[track_caller]
unsafe fn reducing_anything<S, R>(
    asked: &Asked<'_>,
    (send, recv): (&S, &mut R),
    per_result: Option<usize>,
    op: &impl Operation,
    has_result: bool,
    run: impl FnOnce(&Reduction<RecvSpan>) -> Result<(), Error>,
) -> Result<(), Error>
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
{
    // SAFETY: by the contract of this function.
    let reduction = unsafe { questioned_reduction(asked.call, send, recv, per_result, op)? };
    run(&reduction)?;
    match reduction.converted {
        Some(converted) if has_result => converted.settle(),
        _ => Ok(()),
    }
}

/// The reduction, if there is nothing to ask: items of one basic type, one of MPI's operations that it has, and room for the result.
///
/// # Safety
/// As for [`reduction`].
#[inline(always)]
unsafe fn plain_reduction<S, R>(
    send: &S,
    recv: &mut R,
    per_result: Option<usize>,
    op: &impl Operation,
) -> Option<Reduction<RecvSpan>>
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
{
    let (sent, received) = fitting(send.elements(), recv.elements(), per_result)?;
    let (from, into) = (send.pointer().cast(), recv.pointer_mut().cast());
    let (Kind::Basic(basic), Kind::Basic(other)) = (span::kind(send), span::kind(recv)) else {
        return None;
    };
    let op = predefined(op).filter(|op| basic == other && op.defined_for(basic))?;
    // SAFETY: by the contract of this function; not more elements than either has.
    let (send, recv) = unsafe {
        (
            Kind::Basic(basic).send(from, sent),
            Kind::Basic(basic).recv(into, received),
        )
    };
    Some(Reduction {
        send,
        recv,
        op: Op::Predefined(op),
        element: coll::Element::of(basic),
        converted: None,
    })
}

/// The reduction, whatever it may be of; with its results converted, if need be.
///
/// # Safety
/// As for [`reduction`].
#[track_caller]
unsafe fn questioned_reduction<S, R>(
    call: &'static str,
    send: &S,
    recv: &mut R,
    per_result: Option<usize>,
    op: &impl Operation,
) -> Result<Reduction<RecvSpan>, Error>
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
{
    let (from, into) = (span::kind(send), span::kind(recv));
    if from.code() == into.code() || !Converted::takes(&from, &into) {
        // SAFETY: by the contract of this function.
        return unsafe { reduction(call, send, recv, per_result, op) };
    }
    let (sent, count) = lengths(call, send, recv, per_result)?;
    let op = ending_in_panic(prepare(op, call, &from)?);
    // SAFETY: by the contract of this function; not more elements than either has.
    unsafe {
        let to = recv.pointer_mut().cast();
        let (converted, span) = Converted::new(call, (&from, &into), to, count);
        Ok(Reduction {
            send: from.send(send.pointer().cast(), sent),
            recv: span,
            op,
            element: element(&from),
            converted: Some(converted),
        })
    }
}

/// The operation for a call that others take part in: they cannot go on when this rank leaves it half done, and memory is lent to it. So a
/// panic in a user's function ends the process.
#[inline]
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
) -> Result<Reduction<RecvSpan>, Error>
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
{
    let (from, into) = (span::kind(send), span::kind(recv));
    if from.code() != into.code() || from.size() != into.size() {
        let (from, into) = (from.name(), into.name());
        let text =
            format!("{call} was asked to reduce {from} into {into}; both must be of one type");
        return Err(Error::new(ErrorClass::Arg, text));
    }
    let (sent, received) = lengths(call, send, recv, per_result)?;
    let op = prepare(op, call, &from)?;
    // SAFETY: by the contract of this function; not more elements than either has.
    let (send, recv) = unsafe {
        (
            from.send(send.pointer().cast(), sent),
            into.recv(recv.pointer_mut().cast(), received),
        )
    };
    Ok(Reduction {
        send,
        recv,
        op,
        element: element(&from),
        converted: None,
    })
}

/// How many of `sent` elements a reduction sends and how many results it has, if there is `room` for them.
#[inline(always)]
fn fitting(sent: usize, room: usize, per_result: Option<usize>) -> Option<(usize, usize)> {
    match per_result {
        None => (room >= sent).then_some((sent, sent)),
        Some(ranks) => (room.checked_mul(ranks) == Some(sent)).then_some((sent, room)),
    }
}

/// How many elements a reduction sends and how many results it has.
fn lengths<S, R>(
    call: &str,
    send: &S,
    recv: &R,
    per_result: Option<usize>,
) -> Result<(usize, usize), Error>
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
{
    let (sent, room) = (send.elements(), recv.elements());
    if let Some(lengths) = fitting(sent, room, per_result) {
        return Ok(lengths);
    }
    let text = match per_result {
        None => format!(
            "{call} was asked to reduce {sent} elements into a buffer of {room}; give it room for all"
        ),
        Some(ranks) => format!(
            "{call} was asked to reduce {sent} elements to {room} for each of {ranks} ranks; send {ranks} times as many as are received"
        ),
    };
    Err(Error::new(ErrorClass::Count, text))
}
