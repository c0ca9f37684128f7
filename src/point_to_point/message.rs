//! Messages that a matched probe took out of matching.
use super::Status;
use super::source::check_one;
use crate::datatype::span::{self, Kind};
use crate::datatype::{BufferMut, Equivalence};
use crate::engine::{MatchedMessage, RecvSpan};
use crate::request::{Live, Request, Scope};
use crate::topology::shared::Shared;
use core::mem::MaybeUninit;
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
    #[track_caller]
    fn start(mut self, span: RecvSpan) -> Live {
        let instance = self.shared.instance().clone();
        let _entry = instance.enter();
        let site = Location::caller();
        let Some(found) = self.found.take() else {
            unreachable!("a message is received once, by value")
        };
        let id = instance.check(instance.engine().start_matched_receive(found, span, site));
        Live::new(&self.shared, id, site)
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
    pub fn matched_receive<Msg: Equivalence>(self) -> (Msg, Status) {
        let kind = Kind::of(&Msg::equivalent_datatype(), Some(size_of::<Msg>()));
        let mut value = MaybeUninit::<Msg>::zeroed();
        // SAFETY: `value` outlives the wait.
        let span = unsafe { kind.recv(value.as_mut_ptr().cast(), 1) };
        let status = self.start(span).wait();
        check_one::<Msg>("matched_receive", status, kind.size());
        // SAFETY: all of the datatype was received, and the rest is zero, as Equivalence demands.
        (unsafe { value.assume_init() }, status)
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
    pub fn matched_receive_into<Buf: ?Sized + BufferMut>(self, buf: &mut Buf) -> Status {
        // SAFETY: borrowed until the wait is over.
        let span = unsafe { span::recv(buf) };
        self.start(span).wait()
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
        self,
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
        Request::new(self.start(span), data, scope)
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
        let (message, status) = self;
        let kind = Kind::of(&Msg::equivalent_datatype(), Some(size_of::<Msg>()));
        let mut values: Vec<Msg> = Vec::new();
        let count = match (kind.size() as u64, status.bytes()) {
            (0, 0) => 0,
            (size, bytes) if size > 0 && bytes % size == 0 => (bytes / size) as usize,
            (size, bytes) => {
                let (source, name) = (status.source_rank(), core::any::type_name::<Msg>());
                // The message is given up with the panic.
                panic!(
                    "receive_vec was asked for {name}s of {size} bytes, but the message from rank {source} has {bytes} bytes, which is no whole \
                     number of them; receive it as what was sent"
                )
            }
        };
        if values.try_reserve_exact(count).is_err() {
            panic!(
                "receive_vec got a message of {} bytes, for which there is no memory; receive it in parts",
                status.bytes()
            );
        }
        if let Kind::User(_) = kind {
            // SAFETY: there is room for `count`; fields that the datatype leaves out are to be zero.
            unsafe { values.as_mut_ptr().write_bytes(0, count) };
        }
        // SAFETY: the vector is not touched until the wait is over.
        let span = unsafe { kind.recv(values.as_mut_ptr().cast(), count) };
        let status = message.start(span).wait();
        assert!(
            status.bytes() == (count * kind.size()) as u64,
            "a message changed its length between probe and receive"
        );
        // SAFETY: all elements were received.
        unsafe { values.set_len(count) };
        (values, status)
    }
}
