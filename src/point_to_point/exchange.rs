//! Sending and receiving at once, so that a ring of processes does not block.
use super::source::sure;
use super::{
    Destination, Source, Status, try_send_receive, try_send_receive_into,
    try_send_receive_into_with_tags, try_send_receive_replace_into,
    try_send_receive_replace_into_with_tags, try_send_receive_with_tags,
};
use crate::Tag;
use crate::datatype::{Buffer, BufferMut, Equivalence};

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
    sure(
        source,
        try_send_receive_with_tags(msg, destination, sendtag, source, receivetag),
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
    sure(source, try_send_receive(msg, destination, source))
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
    sure(
        source,
        try_send_receive_into_with_tags(msg, destination, sendtag, buf, source, receivetag),
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
    sure(source, try_send_receive_into(msg, destination, buf, source))
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
    sure(
        source,
        try_send_receive_replace_into_with_tags(buf, destination, sendtag, source, receivetag),
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
    sure(
        source,
        try_send_receive_replace_into(buf, destination, source),
    )
}
