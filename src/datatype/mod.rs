//! Datatypes: what an element of a message looks like in memory, and the buffers that messages are sent from and received into.
//!
//! A Rust type takes part in messages when it is [`Equivalence`]: the primitives are, `#[derive(Equivalence)]` makes structs so, and it
//! can be implemented by hand with a [`UserDatatype`]. What travels is the *packed typemap*: the basic items of the elements, in
//! the datatype's order, without padding. So two structs of different layout but equal sequence of items go together, and a struct of
//! three `i32` can be received as `[i32; 3]`.
//!
//! Buffers are `&x`, `&x[..]`, `&vec`, `&[..; N]`, a [`SharedBuffer`], a [`View`], a [`DynBuffer`]; the `varcount` collectives take a [`Partition`].
//!
//! This folder knows of memory and types; it must never know of messages.

mod buffer;
#[cfg(feature = "complex")]
pub(crate) mod complex;
mod construct;
pub(crate) mod derived;
mod dynamic;
mod equivalence;
mod handle;
#[cfg(feature = "serde")]
pub(crate) mod object;
pub(crate) mod pack;
pub(crate) mod partition;
pub(crate) mod room;
mod shared;
pub(crate) mod span;
mod user;
mod view;

pub use buffer::{AsDatatype, Buffer, BufferMut, Collection, Pointer, PointerMut};
pub use dynamic::{DynBuffer, DynBufferMut};
pub use equivalence::{Equivalence, SystemDatatype};
pub use partition::{
    Partition, PartitionMut, Partitioned, PartitionedBuffer, PartitionedBufferMut,
};
pub use shared::SharedBuffer;
pub use user::{
    Datatype, DatatypeRef, UncommittedDatatype, UncommittedDatatypeRef, UncommittedUserDatatype,
    UserDatatype,
};
pub use view::{MutView, View};

pub mod traits {
    //! The traits of this module.
    pub use super::{
        AsDatatype, Buffer, BufferMut, Collection, Datatype, Equivalence, Partitioned,
        PartitionedBuffer, PartitionedBufferMut, Pointer, PointerMut, UncommittedDatatype,
    };
}

/// The address of `x` as a number, for the displacements of a [`UserDatatype::structured`].
///
/// Corresponds to `MPI_Get_address`.
///
/// ```
/// let pair = (1u8, 2u64);
/// let distance = tercio::datatype::address_of(&pair.1) - tercio::datatype::address_of(&pair.0);
/// assert_eq!(distance.abs(), 8);
/// ```
pub fn address_of<T>(x: &T) -> crate::Address {
    core::ptr::from_ref(x).addr() as crate::Address
}
