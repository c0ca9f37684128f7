//! Sending with errors as values.
use super::destination::to;
use super::source::outcome;
use super::{Destination, checked_tag};
use crate::Tag;
use crate::datatype::{Buffer, span};
use crate::engine::SendMode;
use crate::model::Error;
use crate::topology::communicator::shared_of as shared;
use core::panic::Location;

/// The calls of [`Destination`] that return errors: each as the one without `try_`, whose panic is an [`Error`] here.
///
/// With an error nothing was sent. What ends the job by design, a rank that died while this one waits for it, ends it here too.
///
/// ```
/// use tercio::{ErrorClass, prelude::*};
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// // Nobody has attached a buffer.
/// let error = world.this_process().try_buffered_send(&1).unwrap_err();
/// assert_eq!(error.class(), ErrorClass::Buffer);
/// assert!(error.text().contains("set_buffer_size"));
/// ```
pub trait TryDestination: Destination {
    /// [`Destination::send_with_tag`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().try_send_with_tag(&5, 2)?;
    /// assert_eq!(world.this_process().try_receive::<i32>()?.0, 5);
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    fn try_send_with_tag<Buf: ?Sized + Buffer>(&self, buf: &Buf, tag: Tag) -> Result<(), Error> {
        send(self, "send_with_tag", buf, tag, SendMode::Standard)
    }

    /// [`Destination::send`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().try_send(&5)?;
    /// assert_eq!(world.this_process().try_receive::<i32>()?.0, 5);
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    fn try_send<Buf: ?Sized + Buffer>(&self, buf: &Buf) -> Result<(), Error> {
        send(self, "send", buf, Tag::default(), SendMode::Standard)
    }

    /// [`Destination::buffered_send_with_tag`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let mut universe = tercio::initialize().unwrap();
    /// universe.set_buffer_size(1000);
    /// let world = universe.world();
    /// world.this_process().try_buffered_send_with_tag(&5, 2)?;
    /// assert_eq!(world.any_process().try_receive::<i32>()?.0, 5);
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[track_caller]
    fn try_buffered_send_with_tag<Buf: ?Sized + Buffer>(
        &self,
        buf: &Buf,
        tag: Tag,
    ) -> Result<(), Error> {
        buffered_send(self, "buffered_send_with_tag", buf, tag)
    }

    /// [`Destination::buffered_send`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let mut universe = tercio::initialize().unwrap();
    /// universe.set_buffer_size(1000);
    /// let world = universe.world();
    /// world.this_process().try_buffered_send(&5)?;
    /// assert_eq!(world.any_process().try_receive::<i32>()?.0, 5);
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[track_caller]
    fn try_buffered_send<Buf: ?Sized + Buffer>(&self, buf: &Buf) -> Result<(), Error> {
        buffered_send(self, "buffered_send", buf, Tag::default())
    }

    /// [`Destination::synchronous_send_with_tag`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(2, |world| match world.rank() {
    ///     0 => world.process_at_rank(1).try_synchronous_send_with_tag(&5, 2).unwrap(),
    ///     _ => assert_eq!(world.any_process().receive::<i32>().0, 5),
    /// });
    /// ```
    #[track_caller]
    fn try_synchronous_send_with_tag<Buf: ?Sized + Buffer>(
        &self,
        buf: &Buf,
        tag: Tag,
    ) -> Result<(), Error> {
        send(
            self,
            "synchronous_send_with_tag",
            buf,
            tag,
            SendMode::Synchronous,
        )
    }

    /// [`Destination::synchronous_send`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(2, |world| match world.rank() {
    ///     0 => world.process_at_rank(1).try_synchronous_send(&5).unwrap(),
    ///     _ => assert_eq!(world.any_process().receive::<i32>().0, 5),
    /// });
    /// ```
    #[track_caller]
    fn try_synchronous_send<Buf: ?Sized + Buffer>(&self, buf: &Buf) -> Result<(), Error> {
        send(
            self,
            "synchronous_send",
            buf,
            Tag::default(),
            SendMode::Synchronous,
        )
    }

    /// [`Destination::ready_send_with_tag`] with errors as values.
    ///
    /// # Safety
    ///
    /// A matching receive must have been posted.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let future = world.any_process().immediate_receive::<i32>();
    /// unsafe { world.this_process().try_ready_send_with_tag(&5, 2) }?;
    /// assert_eq!(future.get().0, 5);
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[track_caller]
    unsafe fn try_ready_send_with_tag<Buf: ?Sized + Buffer>(
        &self,
        buf: &Buf,
        tag: Tag,
    ) -> Result<(), Error> {
        send(self, "ready_send_with_tag", buf, tag, SendMode::Ready)
    }

    /// [`Destination::ready_send`] with errors as values.
    ///
    /// # Safety
    ///
    /// A matching receive must have been posted.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let future = world.any_process().immediate_receive::<i32>();
    /// unsafe { world.this_process().try_ready_send(&5) }?;
    /// assert_eq!(future.get().0, 5);
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[track_caller]
    unsafe fn try_ready_send<Buf: ?Sized + Buffer>(&self, buf: &Buf) -> Result<(), Error> {
        send(self, "ready_send", buf, Tag::default(), SendMode::Ready)
    }
}

impl<D: ?Sized + Destination> TryDestination for D {}

#[inline]
#[track_caller]
pub(super) fn send<D: ?Sized + Destination, Buf: ?Sized + Buffer>(
    destination: &D,
    call: &'static str,
    buf: &Buf,
    tag: Tag,
    mode: SendMode,
) -> Result<(), Error> {
    let (shared, site) = (shared(destination), Location::caller());
    let (instance, rank) = (shared.instance(), destination.destination_rank());
    // SAFETY: borrowed until the blocking call returns.
    let span = unsafe { span::send(buf) };
    let result = checked_tag(call, tag).and_then(|tag| {
        let _entry = instance.admit()?;
        let comm = shared.coll().comm();
        let engine = instance.engine();
        engine.send(comm, to(rank), tag, &span, mode, site)
    });
    match result {
        Ok(()) => Ok(()),
        Err(error) => {
            let error = error.about(None, None, Some(span.len()));
            outcome(shared, call, (rank, Some(tag)), site, Err(error))
        }
    }
}

#[track_caller]
fn buffered_send<D: ?Sized + Destination, Buf: ?Sized + Buffer>(
    destination: &D,
    call: &'static str,
    buf: &Buf,
    tag: Tag,
) -> Result<(), Error> {
    let (shared, site) = (shared(destination), Location::caller());
    let (instance, rank) = (shared.instance(), destination.destination_rank());
    // SAFETY: borrowed for the call; what is sent is a copy.
    let span = unsafe { span::send(buf) };
    let result = checked_tag(call, tag).and_then(|tag| {
        let _entry = instance.admit()?;
        let comm = shared.coll().comm();
        instance.buffered_send(comm, to(rank), tag, &span, site)
    });
    let result = result.map_err(|error| error.about(None, None, Some(span.len())));
    outcome(shared, call, (rank, Some(tag)), site, result)
}
