//! Receiving.
use super::{Message, ReceiveFuture, Status, TrySource, checked_tag};
use crate::Tag;
use crate::datatype::{BufferMut, Equivalence, span};
use crate::engine::Peer;
use crate::model::{Error, Site};
use crate::request::{Live, Request, Scope};
use crate::topology::communicator::shared_of as shared;
use crate::topology::shared::Shared;
use crate::topology::{AnyProcess, AsCommunicator, Process, Rank};
use core::panic::Location;

/// Where messages come from: a process, or any.
///
/// # Safety
///
/// The rank must be one of the communicator, or `MPI_ANY_SOURCE`.
pub unsafe trait Source: AsCommunicator {
    /// The rank; negative for any process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert!(universe.world().any_process().source_rank() < 0);
    /// ```
    fn source_rank(&self) -> Rank;

    /// Waits until a message with `tag` is there, and leaves it there.
    ///
    /// Corresponds to `MPI_Probe`. Panics if the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&[1u8, 2], 3);
    /// assert_eq!(world.any_process().probe_with_tag(3).count(u8::equivalent_datatype()), 2);
    /// # world.any_process().receive_vec::<u8>();
    /// ```
    #[track_caller]
    fn probe_with_tag(&self, tag: Tag) -> Status {
        sure(self, self.try_probe_with_tag(tag))
    }

    /// Waits until a message is there, and leaves it there.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&1, 3);
    /// assert_eq!(world.any_process().probe().tag(), 3);
    /// # world.any_process().receive::<i32>();
    /// ```
    #[track_caller]
    fn probe(&self) -> Status {
        sure(self, self.try_probe())
    }

    /// Waits for a message with `tag`, and takes it out: only the [`Message`] can receive it.
    ///
    /// Corresponds to `MPI_Mprobe`. Panics if the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&1, 3);
    /// let (message, _status) = world.any_process().matched_probe_with_tag(3);
    /// assert_eq!(message.matched_receive::<i32>().0, 1);
    /// ```
    #[track_caller]
    fn matched_probe_with_tag(&self, tag: Tag) -> (Message, Status) {
        sure(self, self.try_matched_probe_with_tag(tag))
    }

    /// Waits for a message, and takes it out: only the [`Message`] can receive it.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&1);
    /// let (message, _status) = world.any_process().matched_probe();
    /// assert_eq!(message.matched_receive::<i32>().0, 1);
    /// ```
    #[track_caller]
    fn matched_probe(&self) -> (Message, Status) {
        sure(self, self.try_matched_probe())
    }

    /// Receives one `Msg` with `tag`.
    ///
    /// Corresponds to `MPI_Recv`. Panics if the message is not exactly one element, or the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&true, 3);
    /// assert!(world.any_process().receive_with_tag::<bool>(3).0);
    /// ```
    #[inline]
    #[track_caller]
    fn receive_with_tag<Msg: Equivalence>(&self, tag: Tag) -> (Msg, Status) {
        sure(self, self.try_receive_with_tag(tag))
    }

    /// Receives one `Msg` with any tag.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&2.5f32);
    /// let (x, _status) = world.any_process().receive::<f32>();
    /// assert_eq!(x, 2.5);
    /// ```
    #[inline]
    #[track_caller]
    fn receive<Msg: Equivalence>(&self) -> (Msg, Status) {
        sure(self, self.try_receive())
    }

    /// Receives a message with `tag` into a buffer. The message may be shorter than the buffer.
    ///
    /// Corresponds to `MPI_Recv`. Panics if the message is longer, or the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&[1, 2], 3);
    /// let mut buffer = [0; 3];
    /// world.any_process().receive_into_with_tag(&mut buffer, 3);
    /// assert_eq!(buffer, [1, 2, 0]);
    /// ```
    #[inline]
    #[track_caller]
    fn receive_into_with_tag<Buf: ?Sized + BufferMut>(&self, buf: &mut Buf, tag: Tag) -> Status {
        sure(self, self.try_receive_into_with_tag(buf, tag))
    }

    /// Receives a message with any tag into a buffer. The message may be shorter than the buffer.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1, 2, 3]);
    /// let mut buffer = vec![0; 3];
    /// world.any_process().receive_into(&mut buffer);
    /// assert_eq!(buffer, [1, 2, 3]);
    /// ```
    #[inline]
    #[track_caller]
    fn receive_into<Buf: ?Sized + BufferMut>(&self, buf: &mut Buf) -> Status {
        sure(self, self.try_receive_into(buf))
    }

    /// Receives a message with `tag` of whatever length.
    ///
    /// Panics if it is no whole number of elements, or the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&[1, 2, 3], 3);
    /// assert_eq!(world.any_process().receive_vec_with_tag::<i32>(3).0, [1, 2, 3]);
    /// ```
    #[track_caller]
    fn receive_vec_with_tag<Msg: Equivalence>(&self, tag: Tag) -> (Vec<Msg>, Status) {
        sure(self, self.try_receive_vec_with_tag(tag))
    }

    /// Receives a message with any tag, of whatever length. Panics if it is no whole number of elements.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1, 2, 3]);
    /// assert_eq!(world.any_process().receive_vec::<i32>().0, [1, 2, 3]);
    /// ```
    #[track_caller]
    fn receive_vec<Msg: Equivalence>(&self) -> (Vec<Msg>, Status) {
        sure(self, self.try_receive_vec())
    }

    /// Posts the receive of a message with `tag` into a buffer.
    ///
    /// Corresponds to `MPI_Irecv`. Panics if the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let mut x = 0;
    /// tercio::request::scope(|scope| {
    ///     let request = world.any_process().immediate_receive_into_with_tag(scope, &mut x, 3);
    ///     world.this_process().send_with_tag(&5, 3);
    ///     request.wait();
    /// });
    /// assert_eq!(x, 5);
    /// ```
    #[inline(always)]
    #[track_caller]
    fn immediate_receive_into_with_tag<'a, Sc, Buf>(
        &self,
        scope: Sc,
        buf: &'a mut Buf,
        tag: Tag,
    ) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + BufferMut,
        Sc: Scope<'a>,
    {
        start_receive(
            self,
            "immediate_receive_into_with_tag",
            scope,
            buf,
            Some(tag),
        )
    }

    /// Posts the receive of a message with any tag into a buffer.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let mut x = 0;
    /// tercio::request::scope(|scope| {
    ///     let request = world.any_process().immediate_receive_into(scope, &mut x);
    ///     world.this_process().send(&5);
    ///     request.wait();
    /// });
    /// assert_eq!(x, 5);
    /// ```
    #[inline(always)]
    #[track_caller]
    fn immediate_receive_into<'a, Sc, Buf>(
        &self,
        scope: Sc,
        buf: &'a mut Buf,
    ) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + BufferMut,
        Sc: Scope<'a>,
    {
        start_receive(self, "immediate_receive_into", scope, buf, None)
    }

    /// Posts the receive of one `Msg` with `tag`.
    ///
    /// Corresponds to `MPI_Irecv`. Panics if the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let future = world.any_process().immediate_receive_with_tag::<i32>(3);
    /// world.this_process().send_with_tag(&5, 3);
    /// assert_eq!(future.get().0, 5);
    /// ```
    #[track_caller]
    fn immediate_receive_with_tag<Msg: Equivalence>(&self, tag: Tag) -> ReceiveFuture<Msg> {
        ReceiveFuture::post(self, "immediate_receive_with_tag", Some(tag))
    }

    /// Posts the receive of one `Msg` with any tag.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let future = world.any_process().immediate_receive::<i32>();
    /// world.this_process().send(&5);
    /// assert_eq!(future.get().0, 5);
    /// ```
    #[track_caller]
    fn immediate_receive<Msg: Equivalence>(&self) -> ReceiveFuture<Msg> {
        ReceiveFuture::post(self, "immediate_receive", None)
    }

    /// Tells whether a message with `tag` is there, and leaves it there.
    ///
    /// Corresponds to `MPI_Iprobe`. Panics if the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert!(universe.world().any_process().immediate_probe_with_tag(3).is_none());
    /// ```
    #[track_caller]
    fn immediate_probe_with_tag(&self, tag: Tag) -> Option<Status> {
        immediate_probe(self, "immediate_probe_with_tag", Some(tag))
    }

    /// Tells whether a message is there, and leaves it there.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert!(universe.world().any_process().immediate_probe().is_none());
    /// ```
    #[track_caller]
    fn immediate_probe(&self) -> Option<Status> {
        immediate_probe(self, "immediate_probe", None)
    }

    /// Takes out a message with `tag`, if one is there.
    ///
    /// Corresponds to `MPI_Improbe`. Panics if the tag is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert!(universe.world().any_process().immediate_matched_probe_with_tag(3).is_none());
    /// ```
    #[track_caller]
    fn immediate_matched_probe_with_tag(&self, tag: Tag) -> Option<(Message, Status)> {
        immediate_matched_probe(self, "immediate_matched_probe_with_tag", Some(tag))
    }

    /// Takes out a message, if one is there.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert!(universe.world().any_process().immediate_matched_probe().is_none());
    /// ```
    #[track_caller]
    fn immediate_matched_probe(&self) -> Option<(Message, Status)> {
        immediate_matched_probe(self, "immediate_matched_probe", None)
    }
}

// SAFETY: a rank of the communicator, as `process_at_rank` checks.
unsafe impl Source for Process<'_> {
    fn source_rank(&self) -> Rank {
        self.rank()
    }
}

// SAFETY: any.
unsafe impl Source for AnyProcess<'_> {
    fn source_rank(&self) -> Rank {
        -1
    }
}

/// The peer that a rank of ours is.
#[inline]
pub(super) fn from(rank: Rank) -> Peer {
    usize::try_from(rank).map_or(Peer::Any, Peer::Rank)
}

/// A call's result as its `try_` form returns it.
#[inline]
#[track_caller]
pub(super) fn outcome<T>(
    shared: &Shared,
    call: &'static str,
    (rank, tag): (Rank, Option<Tag>),
    site: Site,
    result: Result<T, Error>,
) -> Result<T, Error> {
    match result {
        Ok(value) => Ok(value),
        Err(error) => {
            let rank = (rank >= 0).then_some(rank);
            Err(shared.told(call, site, error.about(rank, tag, None)))
        }
    }
}

/// A `try_` form's value, or the end that its error deserves.
#[inline]
#[track_caller]
pub(super) fn sure<S: ?Sized + AsCommunicator, T>(of: &S, result: Result<T, Error>) -> T {
    shared(of).instance().check(result)
}

#[track_caller]
fn immediate_probe<S: ?Sized + Source>(
    source: &S,
    call: &'static str,
    tag: Option<Tag>,
) -> Option<Status> {
    let (shared, site) = (shared(source), Location::caller());
    let instance = shared.instance();
    let _entry = instance.enter();
    let tag = instance.check(checked_tag(call, tag));
    let peer = from(source.source_rank());
    let comm = shared.coll().comm();
    instance
        .check(instance.engine().immediate_probe(comm, peer, tag, site))
        .map(Status::new)
}

#[track_caller]
fn immediate_matched_probe<S: ?Sized + Source>(
    source: &S,
    call: &'static str,
    tag: Option<Tag>,
) -> Option<(Message, Status)> {
    let (shared, site) = (shared(source), Location::caller());
    let instance = shared.instance();
    let _entry = instance.enter();
    let tag = instance.check(checked_tag(call, tag));
    let peer = from(source.source_rank());
    let comm = shared.coll().comm();
    let engine = instance.engine();
    let found = instance.check(engine.immediate_matched_probe(comm, peer, tag, site));
    found.map(|message| Message::new(shared, message))
}

/// Inlined, as `Live::new` says.
#[inline(always)]
#[track_caller]
fn start_receive<'a, S, Sc, Buf>(
    source: &S,
    call: &'static str,
    scope: Sc,
    buf: &'a mut Buf,
    tag: Option<Tag>,
) -> Request<'a, Buf, Sc>
where
    S: ?Sized + Source,
    Buf: 'a + ?Sized + BufferMut,
    Sc: Scope<'a>,
{
    let shared = shared(source);
    let instance = shared.instance();
    let _entry = instance.enter();
    let tag = instance.check(checked_tag(call, tag));
    let site = Location::caller();
    let data: *mut Buf = buf;
    // SAFETY: borrowed for 'a, and the request completes before 'a ends.
    let span = unsafe { span::recv(&mut *data) };
    let peer = from(source.source_rank());
    let id = instance.check(instance.engine().start_receive(
        shared.coll().comm(),
        peer,
        tag,
        span,
        site,
    ));
    Request::new(Live::new(shared, id, site), data, scope)
}
