//! Messages that a matched probe took out of matching.
use super::Status;
use super::try_source::check_one;
use crate::datatype::room::{Place, Room};
use crate::datatype::span::{self, Kind};
use crate::datatype::{BufferMut, Equivalence};
use crate::engine::{MatchedMessage, RecvSpan};
use crate::ffi::MPI_Message;
use crate::model::{Error, ErrorClass, Site};
use crate::raw::AsRaw;
use crate::request::{Live, Request, Scope};
use crate::topology::shared::Shared;
use core::panic::Location;
use std::sync::Arc;

/// A message that only its holder can receive. It must be received: dropping it panics.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// world.this_process().send(&[1, 2]);
/// let (message, status) = world.any_process().matched_probe();
/// let mut buffer = vec![0; status.count(i32::equivalent_datatype()) as usize];
/// message.matched_receive_into(&mut buffer[..]);
/// assert_eq!(buffer, [1, 2]);
/// ```
#[must_use]
pub struct Message {
    shared: Arc<Shared>,
    found: Option<MatchedMessage>,
}

impl Message {
    pub(super) fn new(shared: &Arc<Shared>, found: MatchedMessage) -> (Message, Status) {
        let status = Status::new(found.status);
        (
            Message {
                shared: shared.clone(),
                found: Some(found),
            },
            status,
        )
    }

    /// Whether it is the message that a probe of no process finds; such ones are not made by this library.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&1);
    /// let (message, _) = world.any_process().matched_probe();
    /// assert!(!message.is_no_proc());
    /// message.matched_receive::<i32>();
    /// ```
    pub fn is_no_proc(&self) -> bool {
        false
    }

    /// Starts to receive it.
    ///
    /// # Safety
    /// What the span covers is lent until the request is complete.
    fn start(&mut self, span: RecvSpan, site: Site) -> Result<Live, Error> {
        let Some(found) = self.found.take() else {
            unreachable!("a message is received once, by value")
        };
        let instance = self.shared.instance();
        let _entry = instance.admit()?;
        let engine = instance.engine();
        let id = engine.start_matched_receive(found, span, site)?;
        Ok(Live::new(&self.shared, id, site))
    }

    /// Receives it with `call`.
    ///
    /// # Safety
    /// What the span covers is lent for the call.
    #[track_caller]
    fn receive(
        &mut self,
        call: &'static str,
        span: RecvSpan,
        check: impl FnOnce(Status) -> Result<Status, Error>,
    ) -> Result<Status, Error> {
        let site = Location::caller();
        let result = self.start(span, site).and_then(|live| live.finish(site));
        result
            .and_then(check)
            .map_err(|error| self.shared.told(call, site, error))
    }

    /// Receives one `Msg`.
    #[track_caller]
    fn receive_one<Msg: Equivalence>(&mut self) -> Result<(Msg, Status), Error> {
        let call = "matched_receive";
        let mut place = Place::<Msg>::new();
        let size = place.size();
        // SAFETY: it stays here until the call is over.
        let span = unsafe { place.span() };
        let status = self.receive(call, span, |status| check_one::<Msg>(call, status, size))?;
        // SAFETY: it was received whole.
        Ok((unsafe { place.value() }, status))
    }

    /// Receives it into a buffer.
    #[track_caller]
    fn receive_into<Buf: ?Sized + BufferMut>(&mut self, buf: &mut Buf) -> Result<Status, Error> {
        // SAFETY: borrowed until the call is over.
        let span = unsafe { span::recv(buf) };
        self.receive("matched_receive_into", span, Ok)
    }

    /// Its status.
    fn status(&self) -> Status {
        match &self.found {
            Some(found) => Status::new(found.status),
            None => unreachable!("a message is received once, by value"),
        }
    }

    /// Receives the whole of it with `call`.
    #[track_caller]
    pub(super) fn receive_vec<Msg: Equivalence>(
        &mut self,
        call: &'static str,
    ) -> Result<(Vec<Msg>, Status), Error> {
        let status = self.status();
        let kind = Kind::of(&Msg::equivalent_datatype(), Some(size_of::<Msg>()));
        let count = match (kind.size() as u64, status.bytes()) {
            (0, 0) => 0,
            (size, bytes) if size > 0 && bytes % size == 0 => (bytes / size) as usize,
            (size, bytes) => {
                let (source, name) = (status.source_rank(), core::any::type_name::<Msg>());
                let text = format!(
                    "{call} was asked for a vector of {name}, {size} bytes each, but the message from rank {source} has {bytes} bytes, which is no whole \
                     number of them; receive it as what was sent"
                );
                return Err(self.give_up(call, status.error(text)));
            }
        };
        let Some(mut room) = Room::<Msg>::new(count) else {
            let text = format!(
                "{call} got a message of {} bytes, for which there is no memory; receive it in parts",
                status.bytes()
            );
            return Err(self.give_up(call, status.error(text)));
        };
        // SAFETY: it is not touched until the call is over.
        let span = unsafe { room.span() };
        let status = self.receive(call, span, |now| match now.bytes() == status.bytes() {
            true => Ok(now),
            false => Err(Error::new(
                ErrorClass::Internal,
                "a message changed its length between probe and receive",
            )),
        })?;
        // SAFETY: all elements were received.
        Ok((unsafe { room.values() }, status))
    }

    /// Throws the message away, so that its sender can go on; the error of `call` that made it so.
    #[track_caller]
    fn give_up(&mut self, call: &'static str, error: Error) -> Error {
        let site = Location::caller();
        // That it does not fit is known.
        let nothing = RecvSpan::bytes_of(&mut []);
        drop(self.start(nothing, site).and_then(|live| live.finish(site)));
        self.shared.told(call, site, error)
    }

    /// Receives one `Msg`.
    ///
    /// Corresponds to `MPI_Mrecv`. Panics if the message is not exactly one element.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&1.5);
    /// let (message, _) = world.any_process().matched_probe();
    /// assert_eq!(message.matched_receive::<f64>().0, 1.5);
    /// ```
    #[track_caller]
    pub fn matched_receive<Msg: Equivalence>(mut self) -> (Msg, Status) {
        let received = self.receive_one();
        self.shared.instance().check(received)
    }

    /// [`matched_receive`](Self::matched_receive) with errors as values. The message is gone with the error.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1, 2]);
    /// let (message, _) = world.any_process().matched_probe();
    /// let error = message.try_matched_receive::<i32>().unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Truncate);
    /// ```
    #[track_caller]
    pub fn try_matched_receive<Msg: Equivalence>(mut self) -> Result<(Msg, Status), Error> {
        self.receive_one()
    }

    /// Receives it into a buffer, which may be longer.
    ///
    /// Corresponds to `MPI_Mrecv`. Panics if the message is longer.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1, 2]);
    /// let (message, _) = world.any_process().matched_probe();
    /// let mut buffer = [0; 2];
    /// message.matched_receive_into(&mut buffer);
    /// assert_eq!(buffer, [1, 2]);
    /// ```
    #[track_caller]
    pub fn matched_receive_into<Buf: ?Sized + BufferMut>(mut self, buf: &mut Buf) -> Status {
        let received = self.receive_into(buf);
        self.shared.instance().check(received)
    }

    /// [`matched_receive_into`](Self::matched_receive_into) with errors as values. The message is gone with the error.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1, 2]);
    /// let (message, _) = world.any_process().matched_probe();
    /// let error = message.try_matched_receive_into(&mut [0]).unwrap_err();
    /// assert_eq!((error.class(), error.size()), (ErrorClass::Truncate, Some(8)));
    /// ```
    #[track_caller]
    pub fn try_matched_receive_into<Buf>(mut self, buf: &mut Buf) -> Result<Status, Error>
    where
        Buf: ?Sized + BufferMut,
    {
        self.receive_into(buf)
    }

    /// [`MatchedReceiveVec::matched_receive_vec`] with errors as values. The message is gone with the error.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1u8, 2, 3]);
    /// let (message, _) = world.any_process().matched_probe();
    /// let error = message.try_matched_receive_vec::<u16>().unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Count);
    /// ```
    #[track_caller]
    pub fn try_matched_receive_vec<Msg>(mut self) -> Result<(Vec<Msg>, Status), Error>
    where
        Msg: Equivalence,
    {
        self.receive_vec("matched_receive_vec")
    }

    /// Starts to receive it into a buffer.
    ///
    /// Corresponds to `MPI_Imrecv`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let mut x = 0;
    /// tercio::request::scope(|scope| {
    ///     world.this_process().send(&1);
    ///     let (message, _) = world.any_process().matched_probe();
    ///     message.immediate_matched_receive_into(scope, &mut x).wait();
    /// });
    /// assert_eq!(x, 1);
    /// ```
    #[track_caller]
    pub fn immediate_matched_receive_into<'a, Sc, Buf>(
        mut self,
        scope: Sc,
        buf: &'a mut Buf,
    ) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + BufferMut,
        Sc: Scope<'a>,
    {
        let data: *mut Buf = buf;
        // SAFETY: borrowed for 'a, and the request completes before 'a ends.
        let span = unsafe { span::recv(&mut *data) };
        let started = self.start(span, Location::caller());
        Request::new(self.shared.instance().check(started), data, scope)
    }
}

// SAFETY: a number that no other message has while this one is there.
unsafe impl AsRaw for Message {
    type Raw = MPI_Message;
    fn as_raw(&self) -> MPI_Message {
        MPI_Message(
            self.found
                .as_ref()
                .map_or(0, |found| found.id.number() as usize),
        )
    }
}

impl Drop for Message {
    #[track_caller]
    fn drop(&mut self) {
        // In a panic it stays unreceived; finalize will tell.
        if self.found.is_some() && !std::thread::panicking() {
            panic!(
                "a message that a matched probe took was dropped; receive it with one of the matched_receive calls"
            );
        }
    }
}

/// Receiving what a matched probe gave as a vector.
pub trait MatchedReceiveVec {
    /// Receives the whole message.
    ///
    /// Corresponds to `MPI_Mrecv`. Panics if the message is no whole number of elements.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1u8, 2, 3]);
    /// assert_eq!(world.any_process().matched_probe().matched_receive_vec::<u8>().0, [1, 2, 3]);
    /// ```
    fn matched_receive_vec<Msg: Equivalence>(self) -> (Vec<Msg>, Status);
}

impl MatchedReceiveVec for (Message, Status) {
    #[track_caller]
    fn matched_receive_vec<Msg: Equivalence>(self) -> (Vec<Msg>, Status) {
        let (mut message, _) = self;
        let received = message.receive_vec("matched_receive_vec");
        message.shared.instance().check(received)
    }
}
