//! The opaque handle types that programs written for rsmpi name, chiefly in the signature of a function for
//! [`UnsafeUserOperation`](crate::collective::UnsafeUserOperation).
//!
//! There is no C library behind them and there are no C functions here.
#![allow(non_camel_case_types)]

/// A datatype's handle.
///
/// ```
/// use tercio::traits::*;
/// assert_eq!(usize::equivalent_datatype().as_raw(), u64::equivalent_datatype().as_raw());
/// assert_ne!(f32::equivalent_datatype().as_raw(), f64::equivalent_datatype().as_raw());
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Datatype(pub(crate) *const core::ffi::c_void);

// SAFETY: the pointer is never written through; it is a number of a basic type or points to an immutable layout.
unsafe impl Send for MPI_Datatype {}
// SAFETY: as above.
unsafe impl Sync for MPI_Datatype {}

/// A communicator's handle: unique in the life of the process.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// assert_ne!(world.as_raw(), world.duplicate().as_raw());
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Comm(pub(crate) usize);

/// A group's handle: unique among the groups that are alive.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let (one, other) = (universe.world().group(), universe.world().group());
/// assert_ne!(one.as_raw(), other.as_raw());
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Group(pub(crate) usize);

/// An operation's handle.
///
/// ```
/// use tercio::{collective::SystemOperation, traits::*};
/// assert_ne!(SystemOperation::sum().as_raw(), SystemOperation::max().as_raw());
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Op(pub(crate) usize);

/// A request's handle: unique among the operations under way.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let (mut x, mut y) = (0, 0);
/// tercio::request::scope(|scope| {
///     let one = world.any_process().immediate_receive_into(scope, &mut x);
///     let other = world.any_process().immediate_receive_into(scope, &mut y);
///     assert_ne!(one.as_raw(), other.as_raw());
///     world.this_process().send(&1);
///     world.this_process().send(&2);
///     one.wait();
///     other.wait();
/// });
/// assert_eq!((x, y), (1, 2));
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Request(pub(crate) usize);

/// An address or a distance in bytes.
///
/// ```
/// let x = [0_u16; 2];
/// let distance: tercio::ffi::MPI_Aint = tercio::datatype::address_of(&x[1]) - tercio::datatype::address_of(&x[0]);
/// assert_eq!(distance, 2);
/// ```
pub type MPI_Aint = isize;

/// A status as the MPI 5 ABI lays it out.
///
/// ```
/// use tercio::{ffi::MPI_Status, point_to_point::Status};
/// let mut raw = MPI_Status::default();
/// (raw.MPI_SOURCE, raw.MPI_TAG) = (2, 7);
/// let status = Status::from_raw(raw);
/// assert_eq!((status.source_rank(), status.tag()), (2, 7));
/// ```
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
