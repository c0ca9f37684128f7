//! The receive of one value under way.
use super::source::from;
use super::try_source::check_one;
use super::{Source, Status, checked_tag};
use crate::Tag;
use crate::datatype::Equivalence;
use crate::datatype::span::Kind;
use crate::model::Error;
use crate::request::{Live, Request, StaticScope};
use crate::topology::communicator::shared_of as shared;
use core::mem::MaybeUninit;
use core::panic::Location;
use core::time::Duration;

/// A value that is to be received; see [`Source::immediate_receive`]. It must be completed: dropping it panics.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let mut future = world.any_process().immediate_receive::<f64>();
/// world.this_process().send(&1.25);
/// let x = loop {
///     match future.r#try() {
///         Ok((x, _status)) => break x,
///         Err(again) => future = again,
///     }
/// };
/// assert_eq!(x, 1.25);
/// ```
#[must_use]
pub struct ReceiveFuture<T> {
    /// Made by Box; leaked if the future is dropped alive, since the library may be writing there.
    value: *mut MaybeUninit<T>,
    request: Request<'static, ()>,
    size: usize,
}

impl<T: Equivalence> ReceiveFuture<T> {
    #[track_caller]
    pub(super) fn post<S: ?Sized + Source>(
        source: &S,
        call: &'static str,
        tag: Option<Tag>,
    ) -> ReceiveFuture<T> {
        let shared = shared(source);
        let instance = shared.instance();
        let _entry = instance.enter();
        let tag = instance.check(checked_tag(call, tag));
        let site = Location::caller();
        let kind = Kind::of(&T::equivalent_datatype(), Some(size_of::<T>()));
        let value = Box::into_raw(Box::new(MaybeUninit::<T>::zeroed()));
        // SAFETY: freed only after the request is complete.
        let span = unsafe { kind.recv(value.cast(), 1) };
        let peer = from(source.source_rank());
        let id = instance.check(instance.engine().start_receive(
            shared.coll().comm(),
            peer,
            tag,
            span,
            site,
        ));
        ReceiveFuture {
            value,
            request: Request::new(Live::new(shared, id, site), &(), StaticScope),
            size: kind.size(),
        }
    }

    /// The value, once the operation is complete.
    fn take(
        value: *mut MaybeUninit<T>,
        status: Result<Status, Error>,
        size: usize,
    ) -> Result<(T, Status), Error> {
        // SAFETY: made by Box in `post`, and the operation is complete.
        let value = unsafe { Box::from_raw(value) };
        let status = check_one::<T>("immediate_receive", status?, size)?;
        // SAFETY: all of the datatype was received, and the rest is zero, as Equivalence demands.
        Ok((unsafe { MaybeUninit::assume_init(*value) }, status))
    }

    /// Waits for the value. Panics if the message is not exactly one element.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let future = world.any_process().immediate_receive::<u8>();
    /// world.this_process().send(&8u8);
    /// assert_eq!(future.get().0, 8);
    /// ```
    #[track_caller]
    pub fn get(self) -> (T, Status) {
        let status = self.request.wait();
        one(Self::take(self.value, Ok(status), self.size))
    }

    /// [`get`](Self::get) with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let future = world.any_process().immediate_receive::<u8>();
    /// world.this_process().send(&[1u8, 2]);
    /// assert_eq!(future.try_get().unwrap_err().class(), ErrorClass::Truncate);
    /// ```
    #[track_caller]
    pub fn try_get(self) -> Result<(T, Status), Error> {
        let site = Location::caller();
        Self::take(self.value, self.request.try_wait(), self.size)
            .map_err(|error| error.at(site).of("immediate_receive", None))
    }

    /// The value if it comes within `limit`, else the future again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let future = world.any_process().immediate_receive::<u8>();
    /// let future = future.get_within(Duration::from_millis(1)).err().unwrap(); // nobody has sent
    /// world.this_process().send(&8u8);
    /// assert_eq!(future.get().0, 8);
    /// ```
    #[track_caller]
    #[allow(clippy::result_large_err)] // the shape of `try`
    pub fn get_within(self, limit: Duration) -> Result<(T, Status), Self> {
        let ReceiveFuture {
            value,
            request,
            size,
        } = self;
        match request.wait_within(limit) {
            Ok(status) => Ok(one(Self::take(value, Ok(status), size))),
            Err(request) => Err(ReceiveFuture {
                value,
                request,
                size,
            }),
        }
    }

    /// The value if it is there, else the future again.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let future = world.any_process().immediate_receive::<u8>();
    /// let future = future.r#try().err().unwrap(); // nobody has sent
    /// world.this_process().send(&8u8);
    /// assert_eq!(future.get().0, 8);
    /// ```
    #[track_caller]
    #[allow(clippy::result_large_err)] // rsmpi's shape
    pub fn r#try(self) -> Result<(T, Status), Self> {
        let ReceiveFuture {
            value,
            request,
            size,
        } = self;
        match request.test() {
            Ok(status) => Ok(one(Self::take(value, Ok(status), size))),
            Err(request) => Err(ReceiveFuture {
                value,
                request,
                size,
            }),
        }
    }
}

/// The value, or a panic: the message was not exactly one element.
#[track_caller]
fn one<V>(taken: Result<V, Error>) -> V {
    match taken {
        Ok(value) => value,
        Err(error) => panic!("{}", error.text()),
    }
}
