//! Buffers whose element type is known at run time only: what a user's operation gets.
use super::handle::basic_layout;
use super::user::layout_of;
use super::{
    AsDatatype, Buffer, BufferMut, Collection, DatatypeRef, Equivalence, Pointer, PointerMut,
    UncommittedDatatype,
};
use crate::Count;
use crate::ffi::MPI_Datatype;
use crate::model::Layout;
use crate::raw::AsRaw;
use core::ffi::c_void;
use core::slice;
use std::sync::{Arc, Mutex, PoisonError};

/// A handle for `datatype` that lives for ever. An owned one dies with `datatype`, so an equal one is kept; there are as many as distinct
/// layouts.
fn lasting<D: UncommittedDatatype>(datatype: &D) -> MPI_Datatype {
    static KEPT: Mutex<Vec<Arc<Layout>>> = Mutex::new(Vec::new());
    if !datatype.owns_handle() {
        return datatype.as_raw();
    }
    let layout = layout_of(datatype);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    match kept.iter().find(|k| **k == layout) {
        Some(same) => MPI_Datatype::borrowed(same),
        None => {
            let copy = Arc::new(Layout::clone(&layout));
            let handle = MPI_Datatype::borrowed(&copy);
            kept.push(copy);
            handle
        }
    }
}

/// Whether elements of `datatype` are values of `T`.
fn is<T: Equivalence>(datatype: MPI_Datatype) -> bool {
    let own = T::equivalent_datatype();
    let fits = |layout: &Layout| layout.extent() == size_of::<T>() as isize;
    own.as_raw() == datatype
        && match datatype.as_basic() {
            Some(basic) => fits(basic_layout(basic)),
            None => fits(&layout_of(&own)),
        }
}

#[track_caller]
fn check_pointer<T>(ptr: *const T, len: Count) {
    assert!(
        !ptr.is_null(),
        "a dynamic buffer was asked for at the null pointer; give it memory"
    );
    assert!(
        len >= 0,
        "a dynamic buffer of {len} elements was asked for; lengths must not be negative"
    );
}

/// A buffer to read whose element type is known at run time only.
///
/// ```
/// use tercio::datatype::DynBuffer;
/// let numbers = [1.5f64, 2.5];
/// let buffer = DynBuffer::new(&numbers);
/// assert!(buffer.is::<f64>() && !buffer.is::<u64>());
/// assert_eq!(buffer.downcast::<f64>(), Some(&numbers[..]));
/// ```
#[derive(Copy, Clone, Debug)]
pub struct DynBuffer<'a> {
    ptr: *const c_void,
    len: Count,
    datatype: DatatypeRef<'a>,
}

/// A buffer to write whose element type is known at run time only.
///
/// ```
/// use tercio::datatype::DynBufferMut;
/// let mut numbers = [1, 2];
/// let buffer = DynBufferMut::new(&mut numbers);
/// buffer.downcast::<i32>().unwrap()[1] = 5;
/// assert_eq!(numbers, [1, 5]);
/// ```
#[derive(Debug)]
pub struct DynBufferMut<'a> {
    ptr: *mut c_void,
    len: Count,
    datatype: DatatypeRef<'a>,
}

// SAFETY: like `&[T]` of plain data.
unsafe impl Send for DynBuffer<'_> {}
// SAFETY: as above.
unsafe impl Sync for DynBuffer<'_> {}
// SAFETY: like `&mut [T]` of plain data.
unsafe impl Send for DynBufferMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for DynBufferMut<'_> {}

macro_rules! common {
    ($name:ident) => {
        // SAFETY: said by whoever made the buffer.
        unsafe impl Collection for $name<'_> {
            fn count(&self) -> Count {
                self.len
            }
        }

        // SAFETY: said by whoever made the buffer.
        unsafe impl Pointer for $name<'_> {
            fn pointer(&self) -> *const c_void {
                self.ptr
            }
        }

        // SAFETY: said by whoever made the buffer.
        unsafe impl<'a> AsDatatype for $name<'a> {
            type Out = DatatypeRef<'a>;
            fn as_datatype(&self) -> DatatypeRef<'a> {
                self.datatype
            }
        }

        // SAFETY: the three speak of the same elements.
        unsafe impl Buffer for $name<'_> {}

        impl $name<'_> {
            /// Whether the elements are values of `T`: whether the buffer has the very datatype that `T` has.
            ///
            /// ```
            /// use tercio::datatype::DynBuffer;
            /// assert!(DynBuffer::new(&[1i64]).is::<isize>());
            /// assert!(!DynBuffer::new(&[1i64]).is::<f64>());
            /// ```
            pub fn is<T: Equivalence>(&self) -> bool {
                is::<T>(self.datatype.as_raw()) && self.ptr.cast::<T>().is_aligned()
            }

            /// The number of elements.
            ///
            /// ```
            /// assert_eq!(tercio::datatype::DynBuffer::new(&[1i64, 2]).len(), 2);
            /// ```
            pub fn len(&self) -> usize {
                self.len as usize
            }

            /// Whether there is no element.
            ///
            /// ```
            /// assert!(tercio::datatype::DynBuffer::new::<u8>(&[]).is_empty());
            /// ```
            pub fn is_empty(&self) -> bool {
                self.len == 0
            }

            /// Where the first element lies.
            ///
            /// ```
            /// let x = [5u8];
            /// assert_eq!(tercio::datatype::DynBuffer::new(&x).as_ptr(), x.as_ptr().cast());
            /// ```
            pub fn as_ptr(&self) -> *const c_void {
                self.ptr
            }
        }
    };
}

common!(DynBuffer);
common!(DynBufferMut);

// SAFETY: said by whoever made the buffer.
unsafe impl PointerMut for DynBufferMut<'_> {
    fn pointer_mut(&mut self) -> *mut c_void {
        self.ptr
    }
}

// SAFETY: the three speak of the same elements.
unsafe impl BufferMut for DynBufferMut<'_> {}

impl<'a> DynBuffer<'a> {
    /// The elements of a slice.
    ///
    /// ```
    /// assert_eq!(tercio::datatype::DynBuffer::new(&[1, 2, 3]).len(), 3);
    /// ```
    #[track_caller]
    pub fn new<T: Equivalence>(buf: &'a [T]) -> Self {
        let datatype = DatatypeRef::new(lasting(&T::equivalent_datatype()));
        DynBuffer {
            ptr: buf.as_ptr().cast(),
            len: buf.count(),
            datatype,
        }
    }

    /// The elements as a slice of `T`, if they are.
    ///
    /// ```
    /// let buffer = tercio::datatype::DynBuffer::new(&[1u8, 2]);
    /// assert_eq!(buffer.downcast::<u8>(), Some(&[1, 2][..]));
    /// assert_eq!(buffer.downcast::<bool>(), None);
    /// ```
    pub fn downcast<T: Equivalence>(self) -> Option<&'a [T]> {
        // SAFETY: the elements have T's datatype, size and alignment.
        self.is::<T>()
            .then(|| unsafe { slice::from_raw_parts(self.ptr.cast(), self.len()) })
    }

    /// `len` elements of `datatype` at `ptr`. Panics if `ptr` is null or `len` negative.
    ///
    /// # Safety
    ///
    /// The elements must be there, readable for `'a`, and nobody may write them meanwhile.
    ///
    /// ```
    /// use tercio::{datatype::DynBuffer, traits::*};
    /// let x = [1u16, 2];
    /// let buffer = unsafe { DynBuffer::from_raw(x.as_ptr(), 2, u16::equivalent_datatype()) };
    /// assert_eq!(buffer.downcast::<u16>(), Some(&x[..]));
    /// ```
    #[track_caller]
    pub unsafe fn from_raw<T>(ptr: *const T, len: Count, datatype: DatatypeRef<'a>) -> Self {
        check_pointer(ptr, len);
        DynBuffer {
            ptr: ptr.cast(),
            len,
            datatype,
        }
    }
}

impl<'a> DynBufferMut<'a> {
    /// The elements of a slice.
    ///
    /// ```
    /// assert_eq!(tercio::datatype::DynBufferMut::new(&mut [1, 2, 3]).len(), 3);
    /// ```
    #[track_caller]
    pub fn new<T: Equivalence>(buf: &'a mut [T]) -> Self {
        let datatype = DatatypeRef::new(lasting(&T::equivalent_datatype()));
        DynBufferMut {
            len: buf.count(),
            ptr: buf.as_mut_ptr().cast(),
            datatype,
        }
    }

    /// The elements as a slice of `T`, if they are.
    ///
    /// ```
    /// let mut x = [1u8, 2];
    /// assert!(tercio::datatype::DynBufferMut::new(&mut x).downcast::<u8>().is_some());
    /// ```
    pub fn downcast<T: Equivalence>(self) -> Option<&'a mut [T]> {
        // SAFETY: the elements have T's datatype, size and alignment.
        self.is::<T>()
            .then(|| unsafe { slice::from_raw_parts_mut(self.ptr.cast(), self.len()) })
    }

    /// `len` elements of `datatype` at `ptr`. Panics if `ptr` is null or `len` negative.
    ///
    /// # Safety
    ///
    /// The elements must be there, nobody else's for `'a`, and any values of the datatype's items must be valid there.
    ///
    /// ```
    /// use tercio::{datatype::DynBufferMut, traits::*};
    /// let mut x = [1u16, 2];
    /// let buffer = unsafe { DynBufferMut::from_raw(x.as_mut_ptr(), 2, u16::equivalent_datatype()) };
    /// assert!(buffer.is::<u16>());
    /// ```
    #[track_caller]
    pub unsafe fn from_raw<T>(ptr: *mut T, len: Count, datatype: DatatypeRef<'a>) -> Self {
        check_pointer(ptr, len);
        DynBufferMut {
            ptr: ptr.cast(),
            len,
            datatype,
        }
    }

    /// Where the first element lies.
    ///
    /// ```
    /// let mut x = [1u16, 2];
    /// let p = x.as_mut_ptr();
    /// assert_eq!(tercio::datatype::DynBufferMut::new(&mut x).as_mut_ptr(), p.cast());
    /// ```
    pub fn as_mut_ptr(&mut self) -> *mut c_void {
        self.ptr
    }

    /// The same elements, to read, for a shorter time.
    ///
    /// ```
    /// let mut x = [1u16, 2];
    /// let buffer = tercio::datatype::DynBufferMut::new(&mut x);
    /// assert_eq!(buffer.reborrow().downcast::<u16>(), Some(&[1, 2][..]));
    /// ```
    pub fn reborrow(&self) -> DynBuffer<'_> {
        DynBuffer {
            ptr: self.ptr,
            len: self.len,
            datatype: self.datatype,
        }
    }

    /// The same elements for a shorter time.
    ///
    /// ```
    /// let mut x = [1u16, 2];
    /// let mut buffer = tercio::datatype::DynBufferMut::new(&mut x);
    /// buffer.reborrow_mut().downcast::<u16>().unwrap()[0] = 9;
    /// assert_eq!(buffer.downcast::<u16>().unwrap(), [9, 2]);
    /// ```
    pub fn reborrow_mut(&mut self) -> DynBufferMut<'_> {
        DynBufferMut {
            ptr: self.ptr,
            len: self.len,
            datatype: self.datatype,
        }
    }

    /// The same elements, to read.
    ///
    /// ```
    /// let mut x = [1u16, 2];
    /// assert_eq!(tercio::datatype::DynBufferMut::new(&mut x).downgrade().len(), 2);
    /// ```
    pub fn downgrade(self) -> DynBuffer<'a> {
        DynBuffer {
            ptr: self.ptr,
            len: self.len,
            datatype: self.datatype,
        }
    }
}
