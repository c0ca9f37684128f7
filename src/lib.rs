//! Tercio: a message-passing runtime for high-performance computing.
//!
//! One command starts N processes, the *ranks*, in one shared context. They send to each other by rank and act together through
//! collectives; if one of them fails, all stop at once and the user is told which, where and why.
//!
//! ```
//! use tercio::{collective::SystemOperation, traits::*};
//!
//! fn main() {
//!     let universe = tercio::initialize().unwrap();
//!     let world = universe.world();
//!
//!     // A message around the ring of all ranks ...
//!     let (rank, size) = (world.rank(), world.size());
//!     let next = world.process_at_rank((rank + 1) % size);
//!     let previous = world.process_at_rank((rank + size - 1) % size);
//!     let (theirs, _status): (i32, _) = tercio::point_to_point::send_receive(&rank, &next, &previous);
//!     assert_eq!(theirs, previous.rank());
//!
//!     // ... and a sum over all of them.
//!     let mut sum = 0;
//!     world.all_reduce_into(&rank, &mut sum, SystemOperation::sum());
//!     assert_eq!(sum, size * (size - 1) / 2);
//! }
//! ```
//!
//! `tercio run -n 4 ./prog` starts it on four ranks; started alone it is rank 0 of 1.
//!
//! The names and shapes are those of the crate `mpi` 0.8 (rsmpi): a program that was written for it compiles with
//! `mpi = { package = "tercio", ... }` in its Cargo.toml. What is wrong there and undefined is a panic here, with a sentence that says what was
//! asked, what is so and what to do.
#![warn(missing_docs)]

// The derive macro speaks of the library by this name, in its own tests too.
extern crate self as tercio;

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!(
    "tercio runs on 64-bit Linux on x86-64 and aarch64; other systems are not supported yet"
);

pub mod attribute;
pub(crate) mod coll;
pub mod collective;
pub mod datatype;
pub(crate) mod engine;
pub mod environment;
pub mod explain;
pub mod ffi;
pub(crate) mod job;
pub mod launch;
pub(crate) mod model;
pub mod point_to_point;
pub mod raw;
pub mod request;
pub(crate) mod sys;
pub mod testing;
pub mod topology;
pub(crate) mod transport;
pub(crate) mod wait;

pub mod traits {
    //! All traits, and the derive macro: `use tercio::traits::*`.
    pub use crate::attribute::traits::*;
    pub use crate::collective::traits::*;
    pub use crate::datatype::traits::*;
    pub use crate::point_to_point::traits::*;
    pub use crate::raw::traits::*;
    pub use crate::topology::traits::*;
    #[cfg(feature = "derive")]
    pub use tercio_derive::Equivalence;
}

pub mod prelude {
    //! [`traits`](crate::traits), and the traits that the crate `mpi` does not have: `use tercio::prelude::*`.
    //!
    //! They are not in `traits`, so that no name of theirs can meet one of a program that was written for the crate `mpi`.
    //!
    //! ```
    //! use tercio::prelude::*;
    //! let universe = tercio::initialize().unwrap();
    //! let world = universe.world();
    //! world.this_process().send(&5); // of `traits`
    //! assert!(world.any_process().try_receive::<i32>().is_ok());
    //! ```
    #[cfg(feature = "serde")]
    pub use crate::collective::ObjectCollectives;
    pub use crate::collective::{TryCollectives, TryRoot, TryValueCollectives, ValueCollectives};
    #[cfg(feature = "serde")]
    pub use crate::point_to_point::{ReceiveObject, SendObject, TryReceiveObject};
    pub use crate::point_to_point::{TryDestination, TrySource};
    pub use crate::traits::*;
}

#[doc(hidden)]
pub mod internal {
    //! What the macros expand to.
    pub use crate::datatype::derived::{DerivedType, Field, Fields};
    #[cfg(feature = "derive")]
    pub use crate::testing::harness::Test;
}

#[cfg(feature = "derive")]
pub use tercio_derive::test;

pub use collective::MpiError;
pub use environment::{
    Threading, initialize, initialize_with_threading, is_finalized, is_initialized, time,
    time_resolution,
};
pub use ffi::MPI_Aint as Address;
pub use model::{Error, ErrorClass};
pub use topology::Rank;

/// A number of elements.
pub type Count = i32;

/// What a message carries beside its elements, and a receive may ask for: 0 to `i32::MAX`.
pub type Tag = i32;

/// The code in the documents is compiled and run with the other examples.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../docs/coming-from-rsmpi.md")]
    struct ComingFromRsmpi;
    #[doc = include_str!("../docs/guide.md")]
    struct Guide;
}
