//! Messages between two processes.
//!
//! A [`Process`](crate::topology::Process) is a [`Destination`] and a [`Source`]; [`AnyProcess`](crate::topology::AnyProcess) is a source.
//! The calls without `_with_tag` send with tag 0 and receive with any tag.
//!
//! ```
//! use tercio::traits::*;
//! tercio::testing::ranks(2, |world| {
//!     if world.rank() == 0 {
//!         world.process_at_rank(1).send_with_tag(&[1.5, 2.5][..], 7);
//!     } else {
//!         let (numbers, status) = world.any_process().receive_vec::<f64>();
//!         assert_eq!((numbers, status.source_rank(), status.tag()), (vec![1.5, 2.5], 0, 7));
//!     }
//! });
//! ```
//!
//! Messages from one process to another in one communicator are received in the order in which they were sent. A message that is longer than
//! the buffer that receives it is an error at the receiver, and so are element types that do not go together.
//!
//! This folder makes engine calls of buffers; how messages move is the engine's business.

mod destination;
mod exchange;
mod future;
mod message;
#[cfg(feature = "serde")]
mod objects;
mod source;
mod status;
mod try_destination;
mod try_exchange;
mod try_source;

pub use destination::Destination;
pub use exchange::{
    send_receive, send_receive_into, send_receive_into_with_tags, send_receive_replace_into,
    send_receive_replace_into_with_tags, send_receive_with_tags,
};
pub use future::ReceiveFuture;
pub use message::{MatchedReceiveVec, Message};
#[cfg(feature = "serde")]
pub use objects::{ReceiveObject, SendObject, TryReceiveObject};
pub use source::Source;
pub use status::Status;
pub use try_destination::TryDestination;
pub use try_exchange::{
    try_send_receive, try_send_receive_into, try_send_receive_into_with_tags,
    try_send_receive_replace_into, try_send_receive_replace_into_with_tags,
    try_send_receive_with_tags,
};
pub use try_source::{TrySource, Within};

pub mod traits {
    //! The traits of this module.
    pub use super::{Destination, MatchedReceiveVec, Source};
}

use crate::Tag;
use crate::model::{Error, ErrorClass};

/// A tag to send with or to wait for, or a sentence.
#[inline]
fn checked_tag<T: Copy + Into<Option<Tag>>>(call: &str, tag: T) -> Result<T, Error> {
    match tag.into() {
        Some(tag) if tag < 0 => Err(bad_tag(call, tag)),
        _ => Ok(tag),
    }
}

#[cold]
fn bad_tag(call: &str, tag: Tag) -> Error {
    let text = format!(
        "{call} was asked for tag {tag}; tags are 0 to {} (any tag is what the calls without _with_tag wait for)",
        Tag::MAX
    );
    Error::new(ErrorClass::Tag, text)
}
