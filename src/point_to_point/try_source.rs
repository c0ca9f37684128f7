//! Receiving with errors as values.
use super::source::{from, outcome};
use super::{Message, Source, Status, checked_tag};
use crate::Tag;
use crate::datatype::room::Place;
use crate::datatype::{BufferMut, Equivalence, span};
use crate::engine::Limit;
use crate::model::Error;
use crate::topology::communicator::shared_of as shared;
use crate::topology::shared::Shared;
use crate::topology::{AnyProcess, Process, Rank};
use core::panic::Location;
use core::time::Duration;
use std::sync::Arc;

/// The calls of [`Source`] that return errors: each as the one without `try_`, whose panic is an [`Error`] here.
///
/// What was wrong with the arguments is found before anything happens. A message that came and did not fit is gone with the error; the next
/// ones arrive. What ends the job by design, a rank that died while this one waits for it, ends it here too.
///
/// ```
/// use tercio::{ErrorClass, prelude::*};
/// let universe = tercio::initialize().unwrap();
/// let me = universe.world();
/// let me = me.this_process();
/// me.send(&1.5);
/// let error = me.try_receive::<u64>().unwrap_err();
/// assert_eq!(error.class(), ErrorClass::Type);
/// assert!(error.text().contains("receives u64 but rank 0 sent 8 bytes of f64"));
/// ```
pub trait TrySource {
    #[doc(hidden)]
    fn wanted(&self) -> Wanted<'_>;

    /// [`Source::probe_with_tag`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().any_process().try_probe_with_tag(-2).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Tag);
    /// ```
    #[track_caller]
    fn try_probe_with_tag(&self, tag: Tag) -> Result<Status, Error> {
        probe(self.wanted(), "probe_with_tag", Some(tag))
    }

    /// [`Source::probe`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&1, 3);
    /// assert_eq!(world.any_process().try_probe()?.tag(), 3);
    /// # world.any_process().receive::<i32>();
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[track_caller]
    fn try_probe(&self) -> Result<Status, Error> {
        probe(self.wanted(), "probe", None)
    }

    /// [`Source::matched_probe_with_tag`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&1, 3);
    /// let (message, _status) = world.any_process().try_matched_probe_with_tag(3)?;
    /// assert_eq!(message.try_matched_receive::<i32>()?.0, 1);
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[track_caller]
    fn try_matched_probe_with_tag(&self, tag: Tag) -> Result<(Message, Status), Error> {
        matched_probe(self.wanted(), "matched_probe_with_tag", Some(tag))
    }

    /// [`Source::matched_probe`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&1);
    /// let (message, _status) = world.any_process().try_matched_probe()?;
    /// assert_eq!(message.try_matched_receive::<i32>()?.0, 1);
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[track_caller]
    fn try_matched_probe(&self) -> Result<(Message, Status), Error> {
        matched_probe(self.wanted(), "matched_probe", None)
    }

    /// [`Source::receive_with_tag`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&true, 3);
    /// assert!(world.any_process().try_receive_with_tag::<bool>(3)?.0);
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    fn try_receive_with_tag<Msg: Equivalence>(&self, tag: Tag) -> Result<(Msg, Status), Error> {
        receive(self.wanted(), "receive_with_tag", Some(tag))
    }

    /// [`Source::receive`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1, 2]);
    /// let error = world.any_process().try_receive::<i32>().unwrap_err(); // two came
    /// assert_eq!((error.class(), error.size()), (ErrorClass::Truncate, Some(8)));
    /// ```
    #[inline]
    #[track_caller]
    fn try_receive<Msg: Equivalence>(&self) -> Result<(Msg, Status), Error> {
        receive(self.wanted(), "receive", None)
    }

    /// [`Source::receive_into_with_tag`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&[1, 2], 3);
    /// let mut buffer = [0; 2];
    /// world.any_process().try_receive_into_with_tag(&mut buffer, 3)?;
    /// assert_eq!(buffer, [1, 2]);
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    fn try_receive_into_with_tag<Buf>(&self, buf: &mut Buf, tag: Tag) -> Result<Status, Error>
    where
        Buf: ?Sized + BufferMut,
    {
        receive_into(self.wanted(), "receive_into_with_tag", buf, Some(tag))
    }

    /// [`Source::receive_into`] with errors as values. After an error the buffer holds valid elements, but no one says which.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1, 2, 3]);
    /// let error = world.any_process().try_receive_into(&mut [0; 2]).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Truncate);
    /// ```
    #[inline]
    #[track_caller]
    fn try_receive_into<Buf>(&self, buf: &mut Buf) -> Result<Status, Error>
    where
        Buf: ?Sized + BufferMut,
    {
        receive_into(self.wanted(), "receive_into", buf, None)
    }

    /// [`Source::receive_vec_with_tag`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&[1, 2, 3], 3);
    /// assert_eq!(world.any_process().try_receive_vec_with_tag::<i32>(3)?.0, [1, 2, 3]);
    /// # Ok::<(), tercio::Error>(())
    /// ```
    #[track_caller]
    fn try_receive_vec_with_tag<Msg>(&self, tag: Tag) -> Result<(Vec<Msg>, Status), Error>
    where
        Msg: Equivalence,
    {
        receive_vec(self.wanted(), "receive_vec_with_tag", Some(tag))
    }

    /// [`Source::receive_vec`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1u8, 2, 3]);
    /// let error = world.any_process().try_receive_vec::<u16>().unwrap_err();
    /// assert_eq!((error.class(), error.size()), (ErrorClass::Count, Some(3)));
    /// ```
    #[track_caller]
    fn try_receive_vec<Msg: Equivalence>(&self) -> Result<(Vec<Msg>, Status), Error> {
        receive_vec(self.wanted(), "receive_vec", None)
    }
}

impl<S: ?Sized + Source> TrySource for S {
    #[inline]
    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            shared: shared(self),
            rank: self.source_rank(),
            limit: None,
        }
    }
}

impl<'a> Process<'a> {
    /// The same source, for calls that wait at most so long: then they return an error of class [`TimeLimit`](crate::ErrorClass::TimeLimit).
    ///
    /// With that error no message was taken: one that comes later can be received by the next call. One that has begun to come is received,
    /// also if that takes longer. A limit of zero takes what is there. A wait that can never be satisfied, since all who could send are gone,
    /// ends the job as without a limit.
    ///
    /// A send or a collective that has begun cannot be taken back, so that it has no limit: start it with its `immediate_` form, and wait
    /// for the request with [`Request::wait_within`](crate::request::Request::wait_within), which gives it back when the time runs out.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let soon = world.any_process().within(Duration::from_millis(2));
    /// let error = soon.try_receive::<i32>().unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::TimeLimit);
    /// assert!(error.text().starts_with("no message from any rank with any tag came within 2ms"));
    /// world.this_process().send(&5);
    /// assert_eq!(soon.try_receive::<i32>().unwrap().0, 5);
    /// ```
    pub fn within(self, limit: Duration) -> Within<'a> {
        Within(Wanted {
            shared: &self.handle().0,
            rank: self.rank(),
            limit: Some(limit),
        })
    }
}

impl<'a> AnyProcess<'a> {
    /// The same source, for calls that wait at most so long; see [`Process::within`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let soon = world.any_process().within(Duration::from_millis(1));
    /// assert!(soon.try_matched_probe().is_err());
    /// ```
    pub fn within(self, limit: Duration) -> Within<'a> {
        Within(Wanted {
            shared: &self.handle().0,
            rank: self.source_rank(),
            limit: Some(limit),
        })
    }
}

/// A source whose calls wait at most so long; see [`Process::within`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use tercio::{ErrorClass, prelude::*};
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let began = Instant::now();
/// let error = world.any_process().within(Duration::from_millis(5)).try_probe().unwrap_err();
/// assert_eq!(error.class(), ErrorClass::TimeLimit);
/// assert!(began.elapsed() >= Duration::from_millis(5));
/// ```
#[derive(Clone, Copy)]
pub struct Within<'s>(Wanted<'s>);

impl TrySource for Within<'_> {
    #[inline]
    fn wanted(&self) -> Wanted<'_> {
        self.0
    }
}

/// Whose messages a call wants. Opaque outside of the library.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Wanted<'s> {
    pub(super) shared: &'s Arc<Shared>,
    /// Negative for any.
    rank: Rank,
    limit: Option<Duration>,
}

impl Wanted<'_> {
    /// The limit of a call that begins now.
    #[inline]
    fn limit(&self) -> Option<Limit> {
        self.limit.map(Limit::of)
    }
}

#[track_caller]
fn probe(wanted: Wanted<'_>, call: &'static str, tag: Option<Tag>) -> Result<Status, Error> {
    let (shared, site) = (wanted.shared, Location::caller());
    let (instance, peer) = (shared.instance(), from(wanted.rank));
    let result = checked_tag(call, tag).and_then(|tag| {
        let _entry = instance.admit()?;
        let comm = shared.coll().comm();
        let engine = instance.engine();
        engine.probe(wanted.limit(), comm, peer, tag, site)
    });
    let status = outcome(shared, call, (wanted.rank, tag), site, result)?;
    Ok(Status::new(status))
}

#[track_caller]
fn matched_probe(
    wanted: Wanted<'_>,
    call: &'static str,
    tag: Option<Tag>,
) -> Result<(Message, Status), Error> {
    let (shared, site) = (wanted.shared, Location::caller());
    let (instance, peer) = (shared.instance(), from(wanted.rank));
    let result = checked_tag(call, tag).and_then(|tag| {
        let _entry = instance.admit()?;
        let comm = shared.coll().comm();
        let engine = instance.engine();
        engine.matched_probe(wanted.limit(), comm, peer, tag, site)
    });
    let found = outcome(shared, call, (wanted.rank, tag), site, result)?;
    Ok(Message::new(shared, found))
}

#[inline]
#[track_caller]
fn receive<Msg: Equivalence>(
    wanted: Wanted<'_>,
    call: &'static str,
    tag: Option<Tag>,
) -> Result<(Msg, Status), Error> {
    let (shared, site) = (wanted.shared, Location::caller());
    let (instance, peer) = (shared.instance(), from(wanted.rank));
    let mut place = Place::<Msg>::new();
    let size = place.size();
    // SAFETY: it stays here until the blocking call returns.
    let span = unsafe { place.span() };
    let result = checked_tag(call, tag).and_then(|tag| {
        let _entry = instance.admit()?;
        let (engine, comm) = (instance.engine(), shared.coll().comm());
        let status = match wanted.limit() {
            None => engine.receive(comm, peer, tag, &span, site)?,
            Some(limit) => engine.receive_within(limit, comm, peer, tag, &span, site)?,
        };
        check_one::<Msg>(call, Status::new(status), size)
    });
    let status = outcome(shared, call, (wanted.rank, tag), site, result)?;
    // SAFETY: it was received whole.
    Ok((unsafe { place.value() }, status))
}

#[inline]
#[track_caller]
fn receive_into<Buf: ?Sized + BufferMut>(
    wanted: Wanted<'_>,
    call: &'static str,
    buf: &mut Buf,
    tag: Option<Tag>,
) -> Result<Status, Error> {
    let (shared, site) = (wanted.shared, Location::caller());
    let (instance, peer) = (shared.instance(), from(wanted.rank));
    // SAFETY: borrowed until the blocking call returns.
    let span = unsafe { span::recv(buf) };
    let result = checked_tag(call, tag).and_then(|tag| {
        let _entry = instance.admit()?;
        let (engine, comm) = (instance.engine(), shared.coll().comm());
        match wanted.limit() {
            None => engine.receive(comm, peer, tag, &span, site),
            Some(limit) => engine.receive_within(limit, comm, peer, tag, &span, site),
        }
    });
    match result {
        Ok(status) => Ok(Status::new(status)),
        Err(error) => {
            let error = error.about(None, None, Some(span.len()));
            outcome(shared, call, (wanted.rank, tag), site, Err(error))
        }
    }
}

#[track_caller]
pub(super) fn receive_vec<Msg: Equivalence>(
    wanted: Wanted<'_>,
    call: &'static str,
    tag: Option<Tag>,
) -> Result<(Vec<Msg>, Status), Error> {
    let (mut message, _) = matched_probe(wanted, call, tag)?;
    message.receive_vec(call)
}

/// The status, if the message was exactly one `Msg` of `size` packed bytes.
#[inline]
pub(super) fn check_one<Msg>(call: &str, status: Status, size: usize) -> Result<Status, Error> {
    if status.bytes() != size as u64 {
        return Err(not_one(call, status, size, core::any::type_name::<Msg>()));
    }
    Ok(status)
}

#[cold]
fn not_one(call: &str, status: Status, size: usize, name: &str) -> Error {
    let bytes = status.bytes();
    let source = status.source_rank();
    let text = format!(
        "{call} was asked for one {name} of {size} bytes, but the message from rank {source} has {bytes}; receive it with receive_vec or receive_into"
    );
    status.error(text)
}
