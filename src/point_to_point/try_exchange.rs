//! Sending and receiving at once, with errors as values.
use super::destination::to;
use super::source::from;
use super::try_source::check_one;
use super::{Destination, Source, Status, checked_tag};
use crate::Tag;
use crate::datatype::room::Place;
use crate::datatype::{Buffer, BufferMut, Equivalence, span};
use crate::engine::{RecvSpan, SendMode, SendSpan};
use crate::model::{Error, ErrorClass};
use crate::topology::communicator::shared_of as shared;
use core::panic::Location;
use std::sync::Arc;

/// [`send_receive_with_tags`](super::send_receive_with_tags) with errors as values.
///
/// ```
/// use tercio::{point_to_point::try_send_receive_with_tags, prelude::*};
/// tercio::testing::ranks(2, |world| {
///     let other = world.process_at_rank(1 - world.rank());
///     let theirs = try_send_receive_with_tags(&world.rank(), &other, 1, &other, 1);
///     assert_eq!(theirs.map(|(rank, _): (i32, _)| rank).unwrap(), other.rank());
/// });
/// ```
#[track_caller]
pub fn try_send_receive_with_tags<M, D, R, S>(
    msg: &M,
    destination: &D,
    sendtag: Tag,
    source: &S,
    receivetag: Tag,
) -> Result<(R, Status), Error>
where
    M: Equivalence,
    D: Destination,
    R: Equivalence,
    S: Source,
{
    one(
        "send_receive_with_tags",
        msg,
        destination,
        (sendtag, Some(receivetag)),
        source,
    )
}

/// [`send_receive`](super::send_receive) with errors as values.
///
/// ```
/// use tercio::{ErrorClass, point_to_point::try_send_receive, prelude::*};
/// tercio::testing::ranks(2, |world| {
///     let copy = world.duplicate();
///     let (to, from) = (world.process_at_rank(0), copy.process_at_rank(0));
///     let error = try_send_receive::<i32, _, _, _>(&5, &to, &from).unwrap_err();
///     assert_eq!(error.class(), ErrorClass::Comm); // of two communicators
/// });
/// ```
#[track_caller]
pub fn try_send_receive<R, M, D, S>(
    msg: &M,
    destination: &D,
    source: &S,
) -> Result<(R, Status), Error>
where
    M: Equivalence,
    D: Destination,
    R: Equivalence,
    S: Source,
{
    one(
        "send_receive",
        msg,
        destination,
        (Tag::default(), None),
        source,
    )
}

/// [`send_receive_into_with_tags`](super::send_receive_into_with_tags) with errors as values.
///
/// ```
/// use tercio::{point_to_point::try_send_receive_into_with_tags, prelude::*};
/// tercio::testing::ranks(2, |world| {
///     let other = world.process_at_rank(1 - world.rank());
///     let mut theirs = -1;
///     try_send_receive_into_with_tags(&world.rank(), &other, 1, &mut theirs, &other, 1).unwrap();
///     assert_eq!(theirs, other.rank());
/// });
/// ```
#[track_caller]
pub fn try_send_receive_into_with_tags<M, D, B, S>(
    msg: &M,
    destination: &D,
    sendtag: Tag,
    buf: &mut B,
    source: &S,
    receivetag: Tag,
) -> Result<Status, Error>
where
    M: ?Sized + Buffer,
    D: Destination,
    B: ?Sized + BufferMut,
    S: Source,
{
    into(
        "send_receive_into_with_tags",
        msg,
        destination,
        (sendtag, Some(receivetag)),
        buf,
        source,
    )
}

/// [`send_receive_into`](super::send_receive_into) with errors as values.
///
/// ```
/// use tercio::{ErrorClass, point_to_point::try_send_receive_into, prelude::*};
/// tercio::testing::ranks(2, |world| {
///     let other = world.process_at_rank(1 - world.rank());
///     let error = try_send_receive_into(&[1, 2], &other, &mut [0; 1], &other).unwrap_err();
///     assert_eq!(error.class(), ErrorClass::Truncate);
/// });
/// ```
#[track_caller]
pub fn try_send_receive_into<M, D, B, S>(
    msg: &M,
    destination: &D,
    buf: &mut B,
    source: &S,
) -> Result<Status, Error>
where
    M: ?Sized + Buffer,
    D: Destination,
    B: ?Sized + BufferMut,
    S: Source,
{
    into(
        "send_receive_into",
        msg,
        destination,
        (Tag::default(), None),
        buf,
        source,
    )
}

/// [`send_receive_replace_into_with_tags`](super::send_receive_replace_into_with_tags) with errors as values.
///
/// ```
/// use tercio::{point_to_point::try_send_receive_replace_into_with_tags, prelude::*};
/// tercio::testing::ranks(2, |world| {
///     let other = world.process_at_rank(1 - world.rank());
///     let mut x = world.rank();
///     try_send_receive_replace_into_with_tags(&mut x, &other, 1, &other, 1).unwrap();
///     assert_eq!(x, other.rank());
/// });
/// ```
#[track_caller]
pub fn try_send_receive_replace_into_with_tags<B, D, S>(
    buf: &mut B,
    destination: &D,
    sendtag: Tag,
    source: &S,
    receivetag: Tag,
) -> Result<Status, Error>
where
    B: ?Sized + BufferMut,
    D: Destination,
    S: Source,
{
    replace(
        "send_receive_replace_into_with_tags",
        buf,
        destination,
        (sendtag, Some(receivetag)),
        source,
    )
}

/// [`send_receive_replace_into`](super::send_receive_replace_into) with errors as values.
///
/// ```
/// use tercio::{point_to_point::try_send_receive_replace_into, prelude::*};
/// tercio::testing::ranks(2, |world| {
///     let other = world.process_at_rank(1 - world.rank());
///     let mut x = world.rank();
///     try_send_receive_replace_into(&mut x, &other, &other).unwrap();
///     assert_eq!(x, other.rank());
/// });
/// ```
#[track_caller]
pub fn try_send_receive_replace_into<B, D, S>(
    buf: &mut B,
    destination: &D,
    source: &S,
) -> Result<Status, Error>
where
    B: ?Sized + BufferMut,
    D: Destination,
    S: Source,
{
    replace(
        "send_receive_replace_into",
        buf,
        destination,
        (Tag::default(), None),
        source,
    )
}

/// The tags to send with and to wait for.
type Tags = (Tag, Option<Tag>);

#[track_caller]
fn one<M, D, R, S>(
    call: &'static str,
    msg: &M,
    destination: &D,
    tags: Tags,
    source: &S,
) -> Result<(R, Status), Error>
where
    M: Equivalence,
    D: Destination,
    R: Equivalence,
    S: Source,
{
    let mut place = Place::<R>::new();
    let size = place.size();
    // SAFETY: both outlive the exchange.
    let (send, receive) = unsafe { (span::send(msg), place.span()) };
    let check = |status| check_one::<R>(call, status, size);
    let status = exchange(call, destination, tags, &send, source, receive, check)?;
    // SAFETY: it was received whole.
    Ok((unsafe { place.value() }, status))
}

#[track_caller]
fn into<M, D, B, S>(
    call: &'static str,
    msg: &M,
    destination: &D,
    tags: Tags,
    buf: &mut B,
    source: &S,
) -> Result<Status, Error>
where
    M: ?Sized + Buffer,
    D: Destination,
    B: ?Sized + BufferMut,
    S: Source,
{
    // SAFETY: both are borrowed until the exchange is over.
    let (send, receive) = unsafe { (span::send(msg), span::recv(buf)) };
    exchange(call, destination, tags, &send, source, receive, Ok)
}

#[track_caller]
fn replace<B, D, S>(
    call: &'static str,
    buf: &mut B,
    destination: &D,
    tags: Tags,
    source: &S,
) -> Result<Status, Error>
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
    exchange(call, destination, tags, &send, source, receive, Ok)
}

/// What both spans cover is lent for the call.
#[track_caller]
fn exchange<D, S>(
    call: &'static str,
    destination: &D,
    (sendtag, receivetag): Tags,
    send: &SendSpan,
    source: &S,
    receive: RecvSpan,
    check: impl FnOnce(Status) -> Result<Status, Error>,
) -> Result<Status, Error>
where
    D: Destination,
    S: Source,
{
    let (sender, shared) = (shared(destination), shared(source));
    let (instance, comm, site) = (shared.instance(), shared.coll().comm(), Location::caller());
    let (to_rank, from_rank) = (destination.destination_rank(), source.source_rank());
    let attempt = || {
        let (sendtag, receivetag) = (checked_tag(call, sendtag)?, checked_tag(call, receivetag)?);
        if !Arc::ptr_eq(sender, shared) {
            let text = format!(
                "{call} was given a destination of one communicator and a source of another; take both from the same"
            );
            return Err(Error::new(ErrorClass::Comm, text));
        }
        let _entry = instance.admit()?;
        let engine = instance.engine();
        let receiving = engine.start_receive(comm, from(from_rank), receivetag, receive, site)?;
        let mode = SendMode::Standard;
        if let Err(error) = engine.send(comm, to(to_rank), sendtag, send, mode, site) {
            // The arguments were checked, so this ends the job; if not, the receive must not be left behind.
            let error = instance.told(error.at(site));
            engine.cancel(receiving, site)?;
            engine.wait(receiving, site)?;
            return Err(error);
        }
        check(Status::new(engine.wait(receiving, site)?))
    };
    attempt().map_err(|error| shared.told(call, site, error.about(None, receivetag, None)))
}
