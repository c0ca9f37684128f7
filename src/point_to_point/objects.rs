//! Messages that are objects: values of any type that serde can serialize.
use super::source::{outcome, sure};
use super::try_destination::send;
use super::try_source::receive_vec;
use super::{Destination, Source, Status, TrySource};
use crate::Tag;
use crate::datatype::object;
use crate::engine::SendMode;
use crate::model::Error;
use crate::topology::communicator::shared_of as shared;
use core::panic::Location;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Sending objects.
///
/// An object is a value of any type that serde can serialize. It travels as bytes, with the name of its type before it, and is received by
/// [`ReceiveObject`] as the type that was sent; text may be sent as `&str` and received as `String`, and slices as vectors. For numbers in bulk
/// buffers are faster: they are not serialized.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tercio::prelude::*;
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// enum Order {
///     Stop,
///     Work { files: Vec<String>, limit: Option<u32> },
/// }
///
/// tercio::testing::ranks(2, |world| match world.rank() {
///     0 => {
///         let files = vec!["a.txt".to_string(), "b.txt".to_string()];
///         world.process_at_rank(1).send_object(&Order::Work { files, limit: None });
///         world.process_at_rank(1).send_object(&Order::Stop);
///     }
///     _ => {
///         let (order, status) = world.any_process().receive_object::<Order>();
///         assert!(matches!(order, Order::Work { files, limit: None } if files.len() == 2));
///         assert_eq!(status.source_rank(), 0);
///         assert_eq!(world.any_process().receive_object::<Order>().0, Order::Stop);
///     }
/// });
/// ```
pub trait SendObject: Destination {
    /// Sends an object with `tag`, and returns when it may be changed again.
    ///
    /// Corresponds to `MPI_Send`. Panics if the object cannot be serialized, or the tag is negative.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let me = universe.world();
    /// let me = me.this_process();
    /// me.send_object_with_tag(&Some("text"), 3);
    /// assert_eq!(me.receive_object_with_tag::<Option<String>>(3).0.unwrap(), "text");
    /// ```
    #[track_caller]
    fn send_object_with_tag<T: ?Sized + Serialize>(&self, object: &T, tag: Tag) {
        sure(self, self.try_send_object_with_tag(object, tag));
    }

    /// Sends an object with tag 0.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let me = universe.world();
    /// let me = me.this_process();
    /// me.send_object("text");
    /// assert_eq!(me.receive_object::<String>().0, "text");
    /// ```
    #[track_caller]
    fn send_object<T: ?Sized + Serialize>(&self, object: &T) {
        sure(self, self.try_send_object(object));
    }

    /// [`send_object_with_tag`](Self::send_object_with_tag) with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().this_process().try_send_object_with_tag("text", -3).unwrap_err();
    /// assert_eq!((error.class(), error.operation()), (ErrorClass::Tag, Some("send_object_with_tag")));
    /// ```
    #[track_caller]
    fn try_send_object_with_tag<T>(&self, object: &T, tag: Tag) -> Result<(), Error>
    where
        T: ?Sized + Serialize,
    {
        send_encoded(self, "send_object_with_tag", object, tag)
    }

    /// [`send_object`](Self::send_object) with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// struct Secret;
    /// impl serde::Serialize for Secret {
    ///     fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
    ///         Err(serde::ser::Error::custom("this is nobody's business"))
    ///     }
    /// }
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().this_process().try_send_object(&Secret).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Object);
    /// ```
    #[track_caller]
    fn try_send_object<T: ?Sized + Serialize>(&self, object: &T) -> Result<(), Error> {
        send_encoded(self, "send_object", object, Tag::default())
    }
}

impl<D: ?Sized + Destination> SendObject for D {}

/// Receiving objects that [`SendObject`] sent.
///
/// ```
/// use tercio::prelude::*;
/// tercio::testing::ranks(3, |world| {
///     if world.rank() > 0 {
///         return world.process_at_rank(0).send_object(&vec![Some(world.rank()), None]);
///     }
///     for _ in 1..3 {
///         let (numbers, status) = world.any_process().receive_object::<Vec<Option<i32>>>();
///         assert_eq!(numbers, [Some(status.source_rank()), None]);
///     }
/// });
/// ```
pub trait ReceiveObject: Source {
    /// Receives an object with `tag`.
    ///
    /// Corresponds to `MPI_Recv`. Panics if the message is no object or cannot be read as a `T`, or the tag is negative. An object of another
    /// type ends the job, as elements of another type do.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_object_with_tag(&(1, "one"), 3);
    /// assert_eq!(world.any_process().receive_object_with_tag::<(i32, String)>(3).0.1, "one");
    /// ```
    #[track_caller]
    fn receive_object_with_tag<T: DeserializeOwned>(&self, tag: Tag) -> (T, Status) {
        sure(self, self.try_receive_object_with_tag(tag))
    }

    /// Receives an object with any tag.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_object(&vec!["a", "b"]);
    /// assert_eq!(world.any_process().receive_object::<Vec<String>>().0.concat(), "ab");
    /// ```
    #[track_caller]
    fn receive_object<T: DeserializeOwned>(&self) -> (T, Status) {
        sure(self, self.try_receive_object())
    }
}

impl<S: ?Sized + Source> ReceiveObject for S {}

/// [`ReceiveObject`] with errors as values, with or without a [time limit](crate::topology::Process::within).
///
/// ```
/// use std::time::Duration;
/// use tercio::{ErrorClass, prelude::*};
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let soon = world.any_process().within(Duration::from_millis(1));
/// assert_eq!(soon.try_receive_object::<String>().unwrap_err().class(), ErrorClass::TimeLimit);
/// ```
pub trait TryReceiveObject: TrySource {
    /// [`ReceiveObject::receive_object_with_tag`] with errors as values. The message is gone with the error.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let me = universe.world();
    /// let me = me.this_process();
    /// me.send_with_tag(b"no object", 3);
    /// let error = me.try_receive_object_with_tag::<String>(3).unwrap_err();
    /// assert_eq!((error.class(), error.size()), (ErrorClass::Object, Some(9)));
    /// ```
    #[track_caller]
    fn try_receive_object_with_tag<T>(&self, tag: Tag) -> Result<(T, Status), Error>
    where
        T: DeserializeOwned,
    {
        receive_encoded(self, "receive_object_with_tag", Some(tag))
    }

    /// [`ReceiveObject::receive_object`] with errors as values. The message is gone with the error.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let me = universe.world();
    /// let me = me.this_process();
    /// me.send_object(&5_u32);
    /// let error = me.try_receive_object::<f64>().unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Type);
    /// assert!(error.text().starts_with("receive_object was asked for a f64, but rank 0 sent a u32"));
    /// ```
    #[track_caller]
    fn try_receive_object<T: DeserializeOwned>(&self) -> Result<(T, Status), Error> {
        receive_encoded(self, "receive_object", None)
    }
}

impl<S: ?Sized + TrySource> TryReceiveObject for S {}

#[track_caller]
fn send_encoded<D, T>(
    destination: &D,
    call: &'static str,
    object: &T,
    tag: Tag,
) -> Result<(), Error>
where
    D: ?Sized + Destination,
    T: ?Sized + Serialize,
{
    let (to, site) = (destination.destination_rank(), Location::caller());
    let encoded = object::encode(call, object);
    let bytes = outcome(shared(destination), call, (to, Some(tag)), site, encoded)?;
    send(destination, call, &bytes[..], tag, SendMode::Standard)
}

#[track_caller]
fn receive_encoded<S, T>(
    source: &S,
    call: &'static str,
    tag: Option<Tag>,
) -> Result<(T, Status), Error>
where
    S: ?Sized + TrySource,
    T: DeserializeOwned,
{
    let (wanted, site) = (source.wanted(), Location::caller());
    let (bytes, status) = receive_vec::<u8>(wanted, call, tag)?;
    let from = (status.source_rank(), Some(status.tag()));
    let decoded = object::decode(call, &bytes, status.source_rank());
    Ok((outcome(wanted.shared, call, from, site, decoded)?, status))
}
