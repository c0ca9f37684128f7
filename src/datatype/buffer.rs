//! What can be sent from and received into: a pointer, a count and a datatype.
use super::{Datatype, Equivalence, SharedBuffer};
use crate::Count;
use core::ffi::c_void;

/// Something whose elements have a datatype.
///
/// # Safety
///
/// The datatype must describe the elements that [`Pointer`] or [`PointerMut`] points to.
pub unsafe trait AsDatatype {
    /// The datatype's type.
    type Out: Datatype;
    /// The datatype of one element.
    ///
    /// ```
    /// use tercio::traits::*;
    /// assert_eq!([1u32, 2].as_datatype().as_raw(), u32::equivalent_datatype().as_raw());
    /// ```
    fn as_datatype(&self) -> Self::Out;
}

/// Something with a number of elements.
///
/// # Safety
///
/// So many elements must lie where [`Pointer`] or [`PointerMut`] points.
pub unsafe trait Collection {
    /// How many elements.
    ///
    /// Panics if there are more than `i32::MAX`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// assert_eq!((7.5f64.count(), [0u8; 12].count()), (1, 12));
    /// ```
    fn count(&self) -> Count;

    /// How many elements, also where a `Count` cannot say it.
    #[doc(hidden)]
    #[track_caller]
    fn elements(&self) -> usize {
        let count = self.count();
        match usize::try_from(count) {
            Ok(count) => count,
            Err(_) => {
                panic!("a buffer says that it has {count} elements; counts must not be negative")
            }
        }
    }

    /// Bytes from one element to the next, where that is the size of a Rust type; else it is the datatype's extent.
    #[doc(hidden)]
    fn element_size(&self) -> Option<usize> {
        None
    }
}

/// Something whose elements can be read.
///
/// # Safety
///
/// The pointer must be good for reading the elements while `self` is borrowed.
pub unsafe trait Pointer {
    /// Where the first element lies.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let x = 5i32;
    /// assert_eq!(x.pointer(), (&raw const x).cast());
    /// ```
    fn pointer(&self) -> *const c_void;
}

/// Something whose elements can be written.
///
/// # Safety
///
/// The pointer must be good for reading and writing the elements while `self` is mutably borrowed.
pub unsafe trait PointerMut {
    /// Where the first element lies.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let mut x = 5i32;
    /// assert!(!x.pointer_mut().is_null());
    /// ```
    fn pointer_mut(&mut self) -> *mut c_void;
}

/// What can be sent: `&x`, `&x[..]`, `&vec`, `&[..; N]` and [`SharedBuffer`]s of [`Equivalence`] types, and views.
///
/// # Safety
///
/// The promises of the three parts hold together.
pub unsafe trait Buffer: Pointer + Collection + AsDatatype {}

/// What can be received into.
///
/// # Safety
///
/// The promises of the three parts hold together.
pub unsafe trait BufferMut: PointerMut + Collection + AsDatatype {}

/// `len` as MPI counts, or a sentence.
#[track_caller]
#[inline]
pub(super) fn as_count(len: usize) -> Count {
    match Count::try_from(len) {
        Ok(count) => count,
        Err(_) => too_many(len),
    }
}

#[cold]
#[track_caller]
fn too_many(len: usize) -> ! {
    panic!(
        "a buffer of {len} elements is longer than the {} that a Count can say; take it in parts",
        Count::MAX
    )
}

macro_rules! elements {
    ($([$($generics:tt)*] $buffer:ty, |$x:ident| $len:expr, $ptr:expr, $mut_ptr:expr;)*) => {$(
        // SAFETY: the elements are all of type T.
        unsafe impl<T: Equivalence, $($generics)*> AsDatatype for $buffer {
            type Out = T::Out;
            fn as_datatype(&self) -> T::Out {
                T::equivalent_datatype()
            }
        }

        // SAFETY: the number of elements that the type says it has.
        unsafe impl<T: Equivalence, $($generics)*> Collection for $buffer {
            #[track_caller]
            fn count(&self) -> Count {
                let $x = self;
                as_count($len)
            }
            #[inline]
            fn elements(&self) -> usize {
                let $x = self;
                $len
            }
            fn element_size(&self) -> Option<usize> {
                Some(size_of::<T>())
            }
        }

        // SAFETY: the elements that `self` owns or is.
        unsafe impl<T: Equivalence, $($generics)*> Pointer for $buffer {
            fn pointer(&self) -> *const c_void {
                let $x = self;
                $ptr.cast()
            }
        }

        // SAFETY: as above.
        unsafe impl<T: Equivalence, $($generics)*> PointerMut for $buffer {
            fn pointer_mut(&mut self) -> *mut c_void {
                let $x = self;
                $mut_ptr.cast()
            }
        }

        // SAFETY: pointer, count and datatype speak of the same elements.
        unsafe impl<T: Equivalence, $($generics)*> Buffer for $buffer {}
        // SAFETY: as above.
        unsafe impl<T: Equivalence, $($generics)*> BufferMut for $buffer {}
    )*};
}

elements! {
    [] T, |_x| 1, core::ptr::from_ref(_x), core::ptr::from_mut(_x);
    [] [T], |x| x.len(), x.as_ptr(), x.as_mut_ptr();
    [] Vec<T>, |x| x.len(), x.as_ptr(), x.as_mut_ptr();
    [] SharedBuffer<T>, |x| x.len(), x.as_ptr(), x.as_mut_ptr();
    [const N: usize] [T; N], |x| x.len(), x.as_ptr(), x.as_mut_ptr();
}
