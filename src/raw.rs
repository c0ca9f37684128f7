//! Conversion to and from the opaque handles of [`crate::ffi`]: what generic programs written for rsmpi name in their bounds.
//!
//! ```
//! use tercio::{ffi::MPI_Comm, traits::*};
//! fn same(one: &impl AsRaw<Raw = MPI_Comm>, other: &impl AsRaw<Raw = MPI_Comm>) -> bool {
//!     one.as_raw() == other.as_raw()
//! }
//! let universe = tercio::initialize().unwrap();
//! let world = universe.world();
//! assert!(same(&world, &universe.world()) && !same(&world, &world.duplicate()));
//! ```

pub mod traits {
    //! The traits of this module.
    pub use super::{AsRaw, AsRawMut, FromRaw, MatchesRaw};
}

/// Something that stands behind an opaque handle.
///
/// ```
/// use tercio::{collective::SystemOperation, traits::*};
/// fn handle<T: AsRaw>(of: &T) -> T::Raw {
///     of.as_raw()
/// }
/// assert_eq!(handle(&SystemOperation::sum()), SystemOperation::sum().as_raw());
/// ```
///
/// # Safety
///
/// The handle must stay valid while the value that gave it lives.
pub unsafe trait AsRaw {
    /// The type of the handle.
    type Raw;
    /// The handle. It is only borrowed: it is valid while `self` lives.
    ///
    /// ```
    /// use tercio::traits::*;
    /// assert_eq!(usize::equivalent_datatype().as_raw(), u64::equivalent_datatype().as_raw());
    /// ```
    fn as_raw(&self) -> Self::Raw;
}

// SAFETY: a reference is alive only while its referent is.
unsafe impl<T: AsRaw + ?Sized> AsRaw for &T {
    type Raw = T::Raw;
    fn as_raw(&self) -> Self::Raw {
        (**self).as_raw()
    }
}

/// Something whose handle can be changed in place: nothing of the library's own, but a program may have such types.
///
/// ```
/// use tercio::{ffi::MPI_Datatype, traits::*};
/// struct Current(MPI_Datatype);
/// // SAFETY: handles of basic types are valid for ever.
/// unsafe impl AsRaw for Current {
///     type Raw = MPI_Datatype;
///     fn as_raw(&self) -> MPI_Datatype {
///         self.0
///     }
/// }
/// // SAFETY: the handle that `as_raw` gives.
/// unsafe impl AsRawMut for Current {
///     fn as_raw_mut(&mut self) -> *mut MPI_Datatype {
///         &mut self.0
///     }
/// }
/// let mut current = Current(f32::equivalent_datatype().as_raw());
/// // SAFETY: nobody else uses `current`.
/// unsafe { *current.as_raw_mut() = f64::equivalent_datatype().as_raw() };
/// assert_eq!(current.as_raw(), f64::equivalent_datatype().as_raw());
/// ```
///
/// # Safety
///
/// The pointer must be to the handle that `as_raw` gives.
pub unsafe trait AsRawMut: AsRaw {
    /// A pointer to the handle.
    ///
    /// ```
    /// fn replace<T: tercio::raw::AsRawMut>(value: &mut T, handle: T::Raw) {
    ///     // SAFETY: `value` is borrowed by nobody else.
    ///     unsafe { *value.as_raw_mut() = handle };
    /// }
    /// ```
    fn as_raw_mut(&mut self) -> *mut <Self as AsRaw>::Raw;
}

/// Something that can be made from a handle.
///
/// ```
/// use tercio::{datatype::UserDatatype, traits::*};
/// let pairs = core::mem::ManuallyDrop::new(UserDatatype::contiguous(2, &i32::equivalent_datatype()));
/// // SAFETY: alive, and its first owner gives it up.
/// let same = unsafe { UserDatatype::from_raw(pairs.as_raw()) };
/// assert_eq!(same.as_raw(), pairs.as_raw());
/// ```
pub trait FromRaw: AsRaw {
    /// Takes over what `handle` stands for.
    ///
    /// ```
    /// use tercio::{datatype::DatatypeRef, traits::*};
    /// // SAFETY: handles of basic types are valid for ever, and owned by nobody.
    /// let float = unsafe { DatatypeRef::from_raw(f32::equivalent_datatype().as_raw()) };
    /// assert_eq!(float.as_raw(), f32::equivalent_datatype().as_raw());
    /// ```
    ///
    /// # Safety
    ///
    /// `handle` must be alive and must not be owned by anything else.
    unsafe fn from_raw(handle: <Self as AsRaw>::Raw) -> Self;
}

/// Something that is nothing but its handle, so that a slice of it is a slice of handles.
///
/// ```
/// use tercio::{datatype::DatatypeRef, ffi::MPI_Datatype, traits::*};
/// fn handles<T: MatchesRaw>(of: &[T]) -> &[T::Raw] {
///     // SAFETY: `T` has the layout of its handle.
///     unsafe { core::slice::from_raw_parts(of.as_ptr().cast(), of.len()) }
/// }
/// let types: [DatatypeRef<'_>; 2] = [i8::equivalent_datatype(), u8::equivalent_datatype()];
/// assert_eq!(handles(&types)[1], types[1].as_raw());
/// ```
///
/// # Safety
///
/// The type must have the layout of its handle.
pub unsafe trait MatchesRaw: AsRaw {}
