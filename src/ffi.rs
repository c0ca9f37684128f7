//! The opaque handle types that programs written for rsmpi name, chiefly in the signature of a function for
//! [`UnsafeUserOperation`](crate::collective::UnsafeUserOperation), and the two functions that they call for want of a name in rsmpi.
//!
//! There is no C library behind them.
#![allow(non_camel_case_types, non_snake_case)]

use core::ffi::c_int;
use core::panic::Location;

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

/// A communicator's handle: unique among the communicators that are alive.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let (world, copy) = (universe.world(), universe.world().duplicate());
/// assert_ne!(world.as_raw(), copy.as_raw());
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Comm(pub(crate) *const core::ffi::c_void);

// SAFETY: what is pointed to is shared between threads, and only the unsafe `from_raw` looks at it.
unsafe impl Send for MPI_Comm {}
// SAFETY: as above.
unsafe impl Sync for MPI_Comm {}

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
pub struct MPI_Group(pub(crate) *const core::ffi::c_void);

// SAFETY: the members of a group never change.
unsafe impl Send for MPI_Group {}
// SAFETY: as above.
unsafe impl Sync for MPI_Group {}

/// An operation's handle.
///
/// ```
/// use tercio::{collective::SystemOperation, traits::*};
/// assert_ne!(SystemOperation::sum().as_raw(), SystemOperation::max().as_raw());
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Op(pub(crate) *const core::ffi::c_void);

// SAFETY: a number of the library's own operations, or what points to a function that any thread may call.
unsafe impl Send for MPI_Op {}
// SAFETY: as above.
unsafe impl Sync for MPI_Op {}

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

/// The handle of a message that a matched probe took.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// world.this_process().send(&1);
/// world.this_process().send(&2);
/// let ((one, _), (other, _)) = (world.any_process().matched_probe(), world.any_process().matched_probe());
/// assert_ne!(one.as_raw(), other.as_raw());
/// assert_eq!(one.matched_receive::<i32>().0 + other.matched_receive::<i32>().0, 3);
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MPI_Message(pub(crate) usize);

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

/// Leaves the job, as the drop of the [`Universe`](crate::environment::Universe) does, which need not be dropped then: for programs that keep it in
/// a static. Gives 0.
///
/// Corresponds to `MPI_Finalize`. Panics before initialization, and if the process has left before.
///
/// # Safety
///
/// None is needed; in rsmpi it is a C function.
///
/// ```
/// use std::sync::OnceLock;
/// use tercio::environment::Universe;
/// static UNIVERSE: OnceLock<Universe> = OnceLock::new();
/// UNIVERSE.get_or_init(|| tercio::initialize().unwrap());
/// assert_eq!(unsafe { tercio::ffi::MPI_Finalize() }, 0);
/// assert!(tercio::is_finalized());
/// ```
#[track_caller]
pub unsafe fn MPI_Finalize() -> c_int {
    crate::environment::finalize(Location::caller());
    0
}

/// Fills in the zeros of `dims` so that a grid of `nnodes` processes is as even as it can be. Gives 0.
///
/// Corresponds to `MPI_Dims_create`. Panics if there is no such grid.
///
/// # Safety
///
/// `dims` must point to `ndims` numbers.
///
/// ```
/// let mut dims = [0, 0, 1];
/// unsafe { tercio::ffi::MPI_Dims_create(12, 3, dims.as_mut_ptr()) };
/// assert_eq!(dims, [4, 3, 1]);
/// ```
#[track_caller]
pub unsafe fn MPI_Dims_create(nnodes: c_int, ndims: c_int, dims: *mut c_int) -> c_int {
    let dims = match usize::try_from(ndims) {
        Ok(0) => &mut [],
        // SAFETY: promised to this function.
        Ok(length) => unsafe { core::slice::from_raw_parts_mut(dims, length) },
        Err(_) => panic!(
            "MPI_Dims_create was asked for {ndims} dimensions; their number must not be negative"
        ),
    };
    match crate::topology::dims::balance(nnodes, dims) {
        Ok(()) => 0,
        Err(text) => panic!("{text}"),
    }
}
