//! A buffer looked at through another datatype than its own.
use super::{AsDatatype, Buffer, BufferMut, Collection, Datatype, Pointer, PointerMut};
use crate::Count;
use core::ffi::c_void;

/// A buffer to send from, seen as elements of another datatype.
///
/// ```
/// use tercio::{datatype::{UserDatatype, View}, traits::*};
/// let universe = tercio::initialize().unwrap();
/// let matrix = [[1, 2], [3, 4]].concat();
/// let column = UserDatatype::vector(2, 1, 2, &i32::equivalent_datatype());
/// let view = unsafe { View::with_count_and_datatype(&matrix[..], 1, &column) };
/// assert_eq!(universe.world().pack(&view), [1i32, 3].map(i32::to_ne_bytes).concat());
/// ```
pub struct View<'d, 'b, D: 'd + Datatype, B: 'b + ?Sized + Pointer> {
    datatype: &'d D,
    count: Count,
    buffer: &'b B,
}

impl<'d, 'b, D: 'd + Datatype, B: 'b + ?Sized + Pointer> View<'d, 'b, D, B> {
    /// `buffer` seen as `count` elements of `datatype`. Panics if `count` is negative.
    ///
    /// # Safety
    ///
    /// So many elements of the datatype, from the buffer's first element on, must lie within the buffer.
    ///
    /// ```
    /// use tercio::{datatype::{UserDatatype, View}, traits::*};
    /// let pair = UserDatatype::contiguous(2, &u8::equivalent_datatype());
    /// let view = unsafe { View::with_count_and_datatype(&[1u8, 2, 3, 4], 2, &pair) };
    /// assert_eq!(view.count(), 2);
    /// ```
    #[track_caller]
    pub unsafe fn with_count_and_datatype(buffer: &'b B, count: Count, datatype: &'d D) -> Self {
        assert!(
            count >= 0,
            "a View of {count} elements was asked for; counts must not be negative"
        );
        View {
            datatype,
            count,
            buffer,
        }
    }
}

/// A buffer to receive into, seen as elements of another datatype.
///
/// ```
/// use tercio::{datatype::{MutView, UserDatatype}, traits::*};
/// let universe = tercio::initialize().unwrap();
/// let mut matrix = [0; 4];
/// let column = UserDatatype::vector(2, 1, 2, &i32::equivalent_datatype());
/// let mut view = unsafe { MutView::with_count_and_datatype(&mut matrix[..], 1, &column) };
/// unsafe { universe.world().unpack_into(&[1i32, 3].map(i32::to_ne_bytes).concat(), &mut view, 0) };
/// assert_eq!(matrix, [1, 0, 3, 0]);
/// ```
pub struct MutView<'d, 'b, D: 'd + Datatype, B: 'b + ?Sized + PointerMut> {
    datatype: &'d D,
    count: Count,
    buffer: &'b mut B,
}

impl<'d, 'b, D: 'd + Datatype, B: 'b + ?Sized + PointerMut> MutView<'d, 'b, D, B> {
    /// `buffer` seen as `count` elements of `datatype`. Panics if `count` is negative.
    ///
    /// # Safety
    ///
    /// So many elements of the datatype, from the buffer's first element on, must lie within the buffer, and any values of the datatype's
    /// items must be valid there.
    ///
    /// ```
    /// use tercio::{datatype::{MutView, UserDatatype}, traits::*};
    /// let pair = UserDatatype::contiguous(2, &u8::equivalent_datatype());
    /// let mut bytes = [0u8; 4];
    /// let view = unsafe { MutView::with_count_and_datatype(&mut bytes, 2, &pair) };
    /// assert_eq!(view.count(), 2);
    /// ```
    #[track_caller]
    pub unsafe fn with_count_and_datatype(
        buffer: &'b mut B,
        count: Count,
        datatype: &'d D,
    ) -> Self {
        assert!(
            count >= 0,
            "a MutView of {count} elements was asked for; counts must not be negative"
        );
        MutView {
            datatype,
            count,
            buffer,
        }
    }
}

// SAFETY: promised by the caller of the constructor, here and below.
unsafe impl<'d, D: Datatype, B: ?Sized + Pointer> AsDatatype for View<'d, '_, D, B> {
    type Out = &'d D;
    fn as_datatype(&self) -> &'d D {
        self.datatype
    }
}

// SAFETY: see above.
unsafe impl<D: Datatype, B: ?Sized + Pointer> Collection for View<'_, '_, D, B> {
    fn count(&self) -> Count {
        self.count
    }
}

// SAFETY: see above.
unsafe impl<D: Datatype, B: ?Sized + Pointer> Pointer for View<'_, '_, D, B> {
    fn pointer(&self) -> *const c_void {
        self.buffer.pointer()
    }
}

// SAFETY: see above.
unsafe impl<D: Datatype, B: ?Sized + Pointer> Buffer for View<'_, '_, D, B> {}

// SAFETY: see above.
unsafe impl<'d, D: Datatype, B: ?Sized + PointerMut> AsDatatype for MutView<'d, '_, D, B> {
    type Out = &'d D;
    fn as_datatype(&self) -> &'d D {
        self.datatype
    }
}

// SAFETY: see above.
unsafe impl<D: Datatype, B: ?Sized + PointerMut> Collection for MutView<'_, '_, D, B> {
    fn count(&self) -> Count {
        self.count
    }
}

// SAFETY: see above.
unsafe impl<D: Datatype, B: ?Sized + PointerMut> PointerMut for MutView<'_, '_, D, B> {
    fn pointer_mut(&mut self) -> *mut c_void {
        self.buffer.pointer_mut()
    }
}

// SAFETY: see above.
unsafe impl<D: Datatype, B: ?Sized + PointerMut> BufferMut for MutView<'_, '_, D, B> {}
