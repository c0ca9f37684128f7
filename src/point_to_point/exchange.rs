//! Sending and receiving at once, so that a ring of processes does not block.
use super::destination::to;
use super::source::{check_one, from};
use super::{Destination, Source, Status, checked_tag};
use crate::Tag;
use crate::datatype::span::{self, Kind};
use crate::datatype::{Buffer, BufferMut, Equivalence};
use crate::engine::{RecvSpan, SendMode, SendSpan};
use crate::topology::communicator::shared;
use core::mem::MaybeUninit;
use core::panic::Location;
use std::sync::Arc;

/// Sends `msg` to `destination` with `sendtag`, and receives one `R` from `source` with `receivetag`.
///
/// Corresponds to `MPI_Sendrecv`. Panics if the two are of different communicators, a tag is negative, or the message is not exactly one
/// element.
///
/// ```
/// use tercio::{point_to_point::send_receive_with_tags, traits::*};
/// tercio::testing::ranks(3, |world| {
///     let (next, previous) = ((world.rank() + 1) % 3, (world.rank() + 2) % 3);
///     let (next, previous) = (world.process_at_rank(next), world.process_at_rank(previous));
///     let (theirs, _): (i32, _) = send_receive_with_tags(&world.rank(), &next, 1, &previous, 1);
///     assert_eq!(theirs, previous.rank());
/// });
/// ```
#[track_caller]
pub fn send_receive_with_tags<M, D, R, S>(
    msg: &M,
    destination: &D,
    sendtag: Tag,
    source: &S,
    receivetag: Tag,
) -> (R, Status)
where
    M: Equivalence,
    D: Destination,
    R: Equivalence,
    S: Source,
{
    one(
        msg,
        destination,
        sendtag,
        source,
        Some(checked_tag("send_receive_with_tags", receivetag)),
    )
}

/// [`send_receive_with_tags`], sending with tag 0 and receiving with any.
///
/// ```
/// use tercio::{point_to_point::send_receive, traits::*};
/// tercio::testing::ranks(2, |world| {
///     let other = world.process_at_rank(1 - world.rank());
///     let (theirs, _): (i32, _) = send_receive(&world.rank(), &other, &other);
///     assert_eq!(theirs, other.rank());
/// });
/// ```
#[track_caller]
pub fn send_receive<R, M, D, S>(msg: &M, destination: &D, source: &S) -> (R, Status)
where
    M: Equivalence,
    D: Destination,
    R: Equivalence,
    S: Source,
{
    one(msg, destination, Tag::default(), source, None)
}

/// Sends `msg` to `destination` with `sendtag`, and receives from `source` with `receivetag` into `buf`.
///
/// Corresponds to `MPI_Sendrecv`. Panics if the two are of different communicators, a tag is negative, or the message is too long.
///
/// ```
/// use tercio::{point_to_point::send_receive_into_with_tags, traits::*};
/// tercio::testing::ranks(2, |world| {
///     let other = world.process_at_rank(1 - world.rank());
///     let mut theirs = [0; 2];
///     send_receive_into_with_tags(&[world.rank(); 2], &other, 1, &mut theirs, &other, 1);
///     assert_eq!(theirs, [other.rank(); 2]);
/// });
/// ```
#[track_caller]
pub fn send_receive_into_with_tags<M, D, B, S>(
    msg: &M,
    destination: &D,
    sendtag: Tag,
    buf: &mut B,
    source: &S,
    receivetag: Tag,
) -> Status
where
    M: ?Sized + Buffer,
    D: Destination,
    B: ?Sized + BufferMut,
    S: Source,
{
    into(
        msg,
        destination,
        sendtag,
        buf,
        source,
        Some(checked_tag("send_receive_into_with_tags", receivetag)),
    )
}

/// [`send_receive_into_with_tags`], sending with tag 0 and receiving with any.
///
/// ```
/// use tercio::{point_to_point::send_receive_into, traits::*};
/// tercio::testing::ranks(2, |world| {
///     let other = world.process_at_rank(1 - world.rank());
///     let mut theirs = -1;
///     send_receive_into(&world.rank(), &other, &mut theirs, &other);
///     assert_eq!(theirs, other.rank());
/// });
/// ```
#[track_caller]
pub fn send_receive_into<M, D, B, S>(msg: &M, destination: &D, buf: &mut B, source: &S) -> Status
where
    M: ?Sized + Buffer,
    D: Destination,
    B: ?Sized + BufferMut,
    S: Source,
{
    into(msg, destination, Tag::default(), buf, source, None)
}

/// Sends what is in `buf` to `destination` with `sendtag`, and receives from `source` with `receivetag` in its place.
///
/// Corresponds to `MPI_Sendrecv_replace`. Panics if the two are of different communicators, a tag is negative, or the message is too long.
///
/// ```
/// use tercio::{point_to_point::send_receive_replace_into_with_tags, traits::*};
/// tercio::testing::ranks(2, |world| {
///     let other = world.process_at_rank(1 - world.rank());
///     let mut x = world.rank();
///     send_receive_replace_into_with_tags(&mut x, &other, 1, &other, 1);
///     assert_eq!(x, other.rank());
/// });
/// ```
#[track_caller]
pub fn send_receive_replace_into_with_tags<B, D, S>(
    buf: &mut B,
    destination: &D,
    sendtag: Tag,
    source: &S,
    receivetag: Tag,
) -> Status
where
    B: ?Sized + BufferMut,
    D: Destination,
    S: Source,
{
    replace(
        buf,
        destination,
        sendtag,
        source,
        Some(checked_tag(
            "send_receive_replace_into_with_tags",
            receivetag,
        )),
    )
}

/// [`send_receive_replace_into_with_tags`], sending with tag 0 and receiving with any.
///
/// ```
/// use tercio::{point_to_point::send_receive_replace_into, traits::*};
/// tercio::testing::ranks(2, |world| {
///     let other = world.process_at_rank(1 - world.rank());
///     let mut x = world.rank();
///     send_receive_replace_into(&mut x, &other, &other);
///     assert_eq!(x, other.rank());
/// });
/// ```
#[track_caller]
pub fn send_receive_replace_into<B, D, S>(buf: &mut B, destination: &D, source: &S) -> Status
where
    B: ?Sized + BufferMut,
    D: Destination,
    S: Source,
{
    replace(buf, destination, Tag::default(), source, None)
}

#[track_caller]
fn one<M, D, R, S>(
    msg: &M,
    destination: &D,
    sendtag: Tag,
    source: &S,
    receivetag: Option<Tag>,
) -> (R, Status)
where
    M: Equivalence,
    D: Destination,
    R: Equivalence,
    S: Source,
{
    let kind = Kind::of(&R::equivalent_datatype(), Some(size_of::<R>()));
    let mut value = MaybeUninit::<R>::zeroed();
    // SAFETY: both outlive the exchange.
    let (send, receive) = unsafe { (span::send(msg), kind.recv(value.as_mut_ptr().cast(), 1)) };
    let status = exchange(destination, sendtag, &send, source, receivetag, receive);
    check_one::<R>("send_receive", status, kind.size());
    // SAFETY: all of the datatype was received, and the rest is zero, as Equivalence demands.
    (unsafe { value.assume_init() }, status)
}

#[track_caller]
fn into<M, D, B, S>(
    msg: &M,
    destination: &D,
    sendtag: Tag,
    buf: &mut B,
    source: &S,
    receivetag: Option<Tag>,
) -> Status
where
    M: ?Sized + Buffer,
    D: Destination,
    B: ?Sized + BufferMut,
    S: Source,
{
    // SAFETY: both are borrowed until the exchange is over.
    let (send, receive) = unsafe { (span::send(msg), span::recv(buf)) };
    exchange(destination, sendtag, &send, source, receivetag, receive)
}

#[track_caller]
fn replace<B, D, S>(
    buf: &mut B,
    destination: &D,
    sendtag: Tag,
    source: &S,
    receivetag: Option<Tag>,
) -> Status
where
    B: ?Sized + BufferMut,
    D: Destination,
    S: Source,
{
    // SAFETY: borrowed until the exchange is over.
    let receive = unsafe { span::recv(buf) };
    // SAFETY: buffers are initialized.
    let copy = unsafe { receive.as_send() }.to_packed();
    // SAFETY: `copy` outlives the exchange.
    let send = unsafe { SendSpan::contiguous(copy.as_ptr(), copy.len(), receive.code()) };
    exchange(destination, sendtag, &send, source, receivetag, receive)
}

#[track_caller]
fn exchange<D, S>(
    destination: &D,
    sendtag: Tag,
    send: &SendSpan,
    source: &S,
    receivetag: Option<Tag>,
    receive: RecvSpan,
) -> Status
where
    D: Destination,
    S: Source,
{
    let sendtag = checked_tag("send_receive", sendtag);
    let (sender, shared) = (shared(destination), shared(source));
    assert!(
        Arc::ptr_eq(sender, shared),
        "send_receive was given a destination of one communicator and a source of another; take both from the same"
    );
    let (instance, comm, site) = (shared.instance(), shared.coll().comm(), Location::caller());
    let _entry = instance.enter();
    let engine = instance.engine();
    let receiving = instance.check(engine.start_receive(
        comm,
        from(source.source_rank()),
        receivetag,
        receive,
        site,
    ));
    // An error of a send whose arguments are checked ends the job, so the posted receive is not left behind.
    instance.check(engine.send(
        comm,
        to(destination.destination_rank()),
        sendtag,
        send,
        SendMode::Standard,
        site,
    ));
    Status::new(instance.check(engine.wait(receiving, site)))
}
