//! The opaque handle types that programs written for rsmpi name, chiefly in the signature of a function for
//! [`UnsafeUserOperation`](crate::collective::UnsafeUserOperation).
//!
//! There is no C library behind them and there are no C functions here.
#![allow(non_camel_case_types)]

/// A datatype's handle.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Datatype(pub(crate) *const core::ffi::c_void);

// SAFETY: the pointer is never written through; it is a number of a basic type or points to an immutable layout.
unsafe impl Send for MPI_Datatype {}
// SAFETY: as above.
unsafe impl Sync for MPI_Datatype {}

/// A communicator's handle: unique in the life of the process.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Comm(pub(crate) usize);

/// A group's handle: unique among the groups that are alive.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Group(pub(crate) usize);

/// An operation's handle.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Op(pub(crate) usize);

/// A request's handle: unique among the requests that are alive.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Request(pub(crate) usize);

/// An address or a distance in bytes.
pub type MPI_Aint = isize;

/// A status as the MPI 5 ABI lays it out.
#[allow(non_snake_case)]
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MPI_Status {
    /// The sender's rank.
    pub MPI_SOURCE: i32,
    /// The message's tag.
    pub MPI_TAG: i32,
    /// An error class.
    pub MPI_ERROR: i32,
    /// Packed bytes (two words), and whether the operation was cancelled.
    pub(crate) reserved: [i32; 5],
}

impl MPI_Status {
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.reserved[0] as u32) | u64::from(self.reserved[1] as u32) << 32
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.reserved[2] != 0
    }
}
