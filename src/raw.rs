//! Conversion to and from the opaque handles of [`crate::ffi`]: what generic programs written for rsmpi name in their bounds.

pub mod traits {
    //! The traits of this module.
    pub use super::{AsRaw, AsRawMut, FromRaw, MatchesRaw};
}

/// Something that stands behind an opaque handle.
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

/// Something whose handle can be changed in place.
///
/// # Safety
///
/// The pointer must be to the handle that `as_raw` gives.
pub unsafe trait AsRawMut: AsRaw {
    /// A pointer to the handle.
    fn as_raw_mut(&mut self) -> *mut <Self as AsRaw>::Raw;
}

/// Something that can be made from a handle.
pub trait FromRaw: AsRaw {
    /// Takes over what `handle` stands for.
    ///
    /// # Safety
    ///
    /// `handle` must be alive and must not be owned by anything else.
    unsafe fn from_raw(handle: <Self as AsRaw>::Raw) -> Self;
}

/// Something that is nothing but its handle, so that a slice of it is a slice of handles.
///
/// # Safety
///
/// The type must have the layout of its handle.
pub unsafe trait MatchesRaw: AsRaw {}
