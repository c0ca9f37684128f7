//! What all processes of a communicator do together.
//!
//! Every process of the communicator makes the same call, in the same order as all others. Calls that treat all alike are methods of the
//! communicator ([`CommunicatorCollectives`]); those with a root are methods of the root's process ([`Root`]), in a form for the root and one
//! for the others:
//!
//! ```
//! use tercio::traits::*;
//! tercio::testing::ranks(4, |world| {
//!     let root = world.process_at_rank(0);
//!     let square = world.rank() * world.rank();
//!     if world.rank() == 0 {
//!         let mut squares = [0; 4];
//!         root.gather_into_root(&square, &mut squares);
//!         assert_eq!(squares, [0, 1, 4, 9]);
//!     } else {
//!         root.gather_into(&square);
//!     }
//! });
//! ```
//!
//! Without an `if` for the root, and with values instead of buffers, the same is a call of [`ValueCollectives`], in the [prelude](crate::prelude):
//!
//! ```
//! use tercio::prelude::*;
//! tercio::testing::ranks(4, |world| {
//!     if let Some(squares) = world.gather(0, &(world.rank() * world.rank())) {
//!         assert_eq!(squares, [0, 1, 4, 9]);
//!     }
//! });
//! ```
//!
//! Processes that call differently (another collective, root, operation, type or length) end the job, and are told which calls they made.
//!
//! This folder makes calls of coll/ of buffers; how the data moves is its business.

mod all;
mod call;
mod integers;
#[cfg(feature = "serde")]
mod objects;
mod operation;
mod parts;
mod root;
mod spawn;
mod try_all;
mod try_root;
mod try_values;
mod user;
mod values;

pub use all::CommunicatorCollectives;
#[cfg(feature = "serde")]
pub use objects::ObjectCollectives;
pub use operation::{Operation, SystemOperation};
pub use root::Root;
pub use spawn::MpiError;
pub use try_all::TryCollectives;
pub use try_root::TryRoot;
pub use try_values::TryValueCollectives;
pub use user::{UnsafeUserFunction, UnsafeUserOperation, UserOperation};
pub use values::ValueCollectives;

pub mod traits {
    //! The traits of this module.
    pub use super::{CommunicatorCollectives, Operation, Root};
}

use crate::coll;
use crate::datatype::{Buffer, BufferMut};

/// Makes every element of `inoutbuf` the combination of that of `inbuf` and its own, in this process alone.
///
/// Corresponds to `MPI_Reduce_local`. Panics if `inoutbuf` is shorter, of another type, or the operation is not defined for the type.
///
/// ```
/// use tercio::collective::{SystemOperation, reduce_local_into};
/// let mut y = [1, 2];
/// reduce_local_into(&[10, 20], &mut y, SystemOperation::sum());
/// assert_eq!(y, [11, 22]);
/// ```
#[track_caller]
pub fn reduce_local_into<S, R, O>(inbuf: &S, inoutbuf: &mut R, op: O)
where
    S: ?Sized + Buffer,
    R: ?Sized + BufferMut,
    O: Operation,
{
    // SAFETY: both are borrowed for the call.
    let r = unsafe { call::local_reduction("reduce_local_into", inbuf, inoutbuf, None, &op) };
    let done = r.and_then(|r| coll::reduce_local(&r.send, &r.recv, &r.op, &r.element));
    if let Err(error) = done {
        panic!("{}", error.text());
    }
}
