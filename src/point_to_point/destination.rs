//! Sending.
use super::source::sure;
use super::{TryDestination, checked_tag};
use crate::Tag;
use crate::datatype::{Buffer, span};
use crate::engine::{Peer, SendMode};
use crate::request::{Live, Request, Scope};
use crate::topology::communicator::shared_of as shared;
use crate::topology::{AsCommunicator, Process, Rank};
use core::panic::Location;

/// Where messages go.
pub trait Destination: AsCommunicator {
    /// The rank.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().this_process().destination_rank(), 0);
    /// ```
    fn destination_rank(&self) -> Rank;

    /// Sends a buffer with `tag`, and returns when it may be used again.
    ///
    /// Corresponds to `MPI_Send`. Panics if the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&[1, 2, 3], 4);
    /// assert_eq!(world.this_process().receive_vec_with_tag::<i32>(4).0, [1, 2, 3]);
    /// ```
    #[inline]
    #[track_caller]
    fn send_with_tag<Buf: ?Sized + Buffer>(&self, buf: &Buf, tag: Tag) {
        sure(self, self.try_send_with_tag(buf, tag));
    }

    /// Sends a buffer with tag 0.
    ///
    /// Corresponds to `MPI_Send`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&3.5);
    /// assert_eq!(world.this_process().receive::<f64>().0, 3.5);
    /// ```
    #[inline]
    #[track_caller]
    fn send<Buf: ?Sized + Buffer>(&self, buf: &Buf) {
        sure(self, self.try_send(buf));
    }

    /// Copies a buffer to the one that [`set_buffer_size`](crate::environment::Universe::set_buffer_size) attached, and sends it from there with
    /// `tag`.
    ///
    /// Corresponds to `MPI_Bsend`. Panics if the attached buffer has no room for it.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let mut universe = tercio::initialize().unwrap();
    /// universe.set_buffer_size(1000);
    /// let world = universe.world();
    /// world.this_process().buffered_send_with_tag(&1, 2);
    /// assert_eq!(world.any_process().receive_with_tag::<i32>(2).0, 1);
    /// ```
    #[track_caller]
    fn buffered_send_with_tag<Buf: ?Sized + Buffer>(&self, buf: &Buf, tag: Tag) {
        sure(self, self.try_buffered_send_with_tag(buf, tag));
    }

    /// [`buffered_send_with_tag`](Self::buffered_send_with_tag) with tag 0.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let mut universe = tercio::initialize().unwrap();
    /// universe.set_buffer_size(1000);
    /// let world = universe.world();
    /// world.this_process().buffered_send(&1);
    /// assert_eq!(world.any_process().receive::<i32>().0, 1);
    /// ```
    #[track_caller]
    fn buffered_send<Buf: ?Sized + Buffer>(&self, buf: &Buf) {
        sure(self, self.try_buffered_send(buf));
    }

    /// Sends a buffer with `tag`, and returns when its receive has begun.
    ///
    /// Corresponds to `MPI_Ssend`. Panics if the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(2, |world| match world.rank() {
    ///     0 => world.process_at_rank(1).synchronous_send_with_tag(&1, 2),
    ///     _ => assert_eq!(world.any_process().receive_with_tag::<i32>(2).0, 1),
    /// });
    /// ```
    #[track_caller]
    fn synchronous_send_with_tag<Buf: ?Sized + Buffer>(&self, buf: &Buf, tag: Tag) {
        sure(self, self.try_synchronous_send_with_tag(buf, tag));
    }

    /// [`synchronous_send_with_tag`](Self::synchronous_send_with_tag) with tag 0.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(2, |world| match world.rank() {
    ///     0 => world.process_at_rank(1).synchronous_send(&1),
    ///     _ => assert_eq!(world.any_process().receive::<i32>().0, 1),
    /// });
    /// ```
    #[track_caller]
    fn synchronous_send<Buf: ?Sized + Buffer>(&self, buf: &Buf) {
        sure(self, self.try_synchronous_send(buf));
    }

    /// Sends a buffer with `tag` to a receive that is posted already.
    ///
    /// Corresponds to `MPI_Rsend`.
    ///
    /// # Safety
    ///
    /// A matching receive must have been posted.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let future = world.any_process().immediate_receive_with_tag::<i32>(2);
    /// unsafe { world.this_process().ready_send_with_tag(&1, 2) };
    /// assert_eq!(future.get().0, 1);
    /// ```
    #[track_caller]
    unsafe fn ready_send_with_tag<Buf: ?Sized + Buffer>(&self, buf: &Buf, tag: Tag) {
        // SAFETY: promised by the caller.
        sure(self, unsafe { self.try_ready_send_with_tag(buf, tag) });
    }

    /// [`ready_send_with_tag`](Self::ready_send_with_tag) with tag 0.
    ///
    /// # Safety
    ///
    /// A matching receive must have been posted.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let future = world.any_process().immediate_receive::<i32>();
    /// unsafe { world.this_process().ready_send(&1) };
    /// assert_eq!(future.get().0, 1);
    /// ```
    #[track_caller]
    unsafe fn ready_send<Buf: ?Sized + Buffer>(&self, buf: &Buf) {
        // SAFETY: promised by the caller.
        sure(self, unsafe { self.try_ready_send(buf) });
    }

    /// Starts to send a buffer with `tag`.
    ///
    /// Corresponds to `MPI_Isend`. Panics if the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let x = 1;
    /// tercio::request::scope(|scope| {
    ///     let request = world.this_process().immediate_send_with_tag(scope, &x, 2);
    ///     assert_eq!(world.any_process().receive_with_tag::<i32>(2).0, 1);
    ///     request.wait();
    /// });
    /// ```
    #[inline(always)]
    #[track_caller]
    fn immediate_send_with_tag<'a, Sc, Buf>(
        &self,
        scope: Sc,
        buf: &'a Buf,
        tag: Tag,
    ) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + Buffer,
        Sc: Scope<'a>,
    {
        start(
            self,
            "immediate_send_with_tag",
            scope,
            buf,
            tag,
            SendMode::Standard,
        )
    }

    /// [`immediate_send_with_tag`](Self::immediate_send_with_tag) with tag 0.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let x = 1;
    /// tercio::request::scope(|scope| {
    ///     let request = world.this_process().immediate_send(scope, &x);
    ///     assert_eq!(world.any_process().receive::<i32>().0, 1);
    ///     request.wait();
    /// });
    /// ```
    #[inline(always)]
    #[track_caller]
    fn immediate_send<'a, Sc, Buf>(&self, scope: Sc, buf: &'a Buf) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + Buffer,
        Sc: Scope<'a>,
    {
        start(
            self,
            "immediate_send",
            scope,
            buf,
            Tag::default(),
            SendMode::Standard,
        )
    }

    /// As [`buffered_send_with_tag`](Self::buffered_send_with_tag); the request is complete from the start.
    ///
    /// Corresponds to `MPI_Ibsend`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let mut universe = tercio::initialize().unwrap();
    /// universe.set_buffer_size(1000);
    /// let world = universe.world();
    /// let x = 1;
    /// tercio::request::scope(|scope| {
    ///     world.this_process().immediate_buffered_send_with_tag(scope, &x, 2).wait();
    ///     assert_eq!(world.any_process().receive_with_tag::<i32>(2).0, 1);
    /// });
    /// ```
    #[track_caller]
    fn immediate_buffered_send_with_tag<'a, Sc, Buf>(
        &self,
        scope: Sc,
        buf: &'a Buf,
        tag: Tag,
    ) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + Buffer,
        Sc: Scope<'a>,
    {
        self.buffered_send_with_tag(buf, tag);
        nothing(self, scope, buf)
    }

    /// [`immediate_buffered_send_with_tag`](Self::immediate_buffered_send_with_tag) with tag 0.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let mut universe = tercio::initialize().unwrap();
    /// universe.set_buffer_size(1000);
    /// let world = universe.world();
    /// let x = 1;
    /// tercio::request::scope(|scope| {
    ///     world.this_process().immediate_buffered_send(scope, &x).wait();
    ///     assert_eq!(world.any_process().receive::<i32>().0, 1);
    /// });
    /// ```
    #[track_caller]
    fn immediate_buffered_send<'a, Sc, Buf>(&self, scope: Sc, buf: &'a Buf) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + Buffer,
        Sc: Scope<'a>,
    {
        self.immediate_buffered_send_with_tag(scope, buf, Tag::default())
    }

    /// Starts to send a buffer with `tag`; the request is complete when its receive has begun.
    ///
    /// Corresponds to `MPI_Issend`. Panics if the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let x = 1;
    /// tercio::request::scope(|scope| {
    ///     let request = world.this_process().immediate_synchronous_send_with_tag(scope, &x, 2);
    ///     assert_eq!(world.any_process().receive_with_tag::<i32>(2).0, 1);
    ///     request.wait();
    /// });
    /// ```
    #[track_caller]
    fn immediate_synchronous_send_with_tag<'a, Sc, Buf>(
        &self,
        scope: Sc,
        buf: &'a Buf,
        tag: Tag,
    ) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + Buffer,
        Sc: Scope<'a>,
    {
        start(
            self,
            "immediate_synchronous_send_with_tag",
            scope,
            buf,
            tag,
            SendMode::Synchronous,
        )
    }

    /// [`immediate_synchronous_send_with_tag`](Self::immediate_synchronous_send_with_tag) with tag 0.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let x = 1;
    /// tercio::request::scope(|scope| {
    ///     let request = world.this_process().immediate_synchronous_send(scope, &x);
    ///     assert_eq!(world.any_process().receive::<i32>().0, 1);
    ///     request.wait();
    /// });
    /// ```
    #[track_caller]
    fn immediate_synchronous_send<'a, Sc, Buf>(
        &self,
        scope: Sc,
        buf: &'a Buf,
    ) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + Buffer,
        Sc: Scope<'a>,
    {
        start(
            self,
            "immediate_synchronous_send",
            scope,
            buf,
            Tag::default(),
            SendMode::Synchronous,
        )
    }

    /// Starts to send a buffer with `tag` to a receive that is posted already.
    ///
    /// Corresponds to `MPI_Irsend`.
    ///
    /// # Safety
    ///
    /// A matching receive must have been posted.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let x = 1;
    /// let future = world.any_process().immediate_receive::<i32>();
    /// tercio::request::scope(|scope| {
    ///     unsafe { world.this_process().immediate_ready_send_with_tag(scope, &x, 2) }.wait();
    /// });
    /// assert_eq!(future.get().0, 1);
    /// ```
    #[track_caller]
    unsafe fn immediate_ready_send_with_tag<'a, Sc, Buf>(
        &self,
        scope: Sc,
        buf: &'a Buf,
        tag: Tag,
    ) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + Buffer,
        Sc: Scope<'a>,
    {
        start(
            self,
            "immediate_ready_send_with_tag",
            scope,
            buf,
            tag,
            SendMode::Ready,
        )
    }

    /// [`immediate_ready_send_with_tag`](Self::immediate_ready_send_with_tag) with tag 0.
    ///
    /// # Safety
    ///
    /// A matching receive must have been posted.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let x = 1;
    /// let future = world.any_process().immediate_receive::<i32>();
    /// tercio::request::scope(|scope| {
    ///     unsafe { world.this_process().immediate_ready_send(scope, &x) }.wait();
    /// });
    /// assert_eq!(future.get().0, 1);
    /// ```
    #[track_caller]
    unsafe fn immediate_ready_send<'a, Sc, Buf>(
        &self,
        scope: Sc,
        buf: &'a Buf,
    ) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + Buffer,
        Sc: Scope<'a>,
    {
        start(
            self,
            "immediate_ready_send",
            scope,
            buf,
            Tag::default(),
            SendMode::Ready,
        )
    }
}

impl Destination for Process<'_> {
    fn destination_rank(&self) -> Rank {
        self.rank()
    }
}

/// The peer that a rank of ours is.
#[inline]
pub(super) fn to(rank: Rank) -> Peer {
    usize::try_from(rank).map_or(Peer::Null, Peer::Rank)
}

/// Inlined, as `Live::new` says.
#[inline(always)]
#[track_caller]
fn start<'a, D, Sc, Buf>(
    destination: &D,
    call: &'static str,
    scope: Sc,
    buf: &'a Buf,
    tag: Tag,
    mode: SendMode,
) -> Request<'a, Buf, Sc>
where
    D: ?Sized + Destination,
    Buf: 'a + ?Sized + Buffer,
    Sc: Scope<'a>,
{
    let shared = shared(destination);
    let instance = shared.instance();
    let _entry = instance.enter();
    let tag = instance.check(checked_tag(call, tag));
    let site = Location::caller();
    // SAFETY: borrowed for 'a, and the request completes before 'a ends.
    let span = unsafe { span::send(buf) };
    let peer = to(destination.destination_rank());
    let id = instance.check(instance.engine().start_send(
        shared.coll().comm(),
        peer,
        tag,
        span,
        mode,
        site,
    ));
    Request::new(Live::new(shared, id, site), buf, scope)
}

/// A request that is complete from the start.
#[track_caller]
fn nothing<'a, D, Sc, Buf>(destination: &D, scope: Sc, buf: &'a Buf) -> Request<'a, Buf, Sc>
where
    D: ?Sized + Destination,
    Buf: 'a + ?Sized + Buffer,
    Sc: Scope<'a>,
{
    let shared = shared(destination);
    let instance = shared.instance();
    let _entry = instance.enter();
    let (site, empty) = (Location::caller(), crate::engine::SendSpan::bytes_of(&[]));
    let started = instance.engine().start_send(
        shared.coll().comm(),
        Peer::Null,
        0,
        empty,
        SendMode::Standard,
        site,
    );
    Request::new(Live::new(shared, instance.check(started), site), buf, scope)
}
