//! Buffers divided among the ranks, for the collectives with varying counts.
use super::{AsDatatype, Buffer, BufferMut, Pointer, PointerMut};
use crate::Count;
use core::borrow::Borrow;
use core::ffi::c_void;

/// Something divided into one part for each rank.
pub trait Partitioned {
    /// The number of elements of each part.
    ///
    /// ```
    /// use tercio::{datatype::Partition, traits::*};
    /// let parts = Partition::new(&[1, 2, 3], vec![1, 2], vec![0, 1]);
    /// assert_eq!(parts.counts(), [1, 2]);
    /// ```
    fn counts(&self) -> &[Count];

    /// Where each part begins, in elements.
    ///
    /// ```
    /// use tercio::{datatype::Partition, traits::*};
    /// let parts = Partition::new(&[1, 2, 3], vec![1, 2], vec![0, 1]);
    /// assert_eq!(parts.displs(), [0, 1]);
    /// ```
    fn displs(&self) -> &[Count];

    /// See `Collection::element_size`.
    #[doc(hidden)]
    fn element_size(&self) -> Option<usize> {
        None
    }

    /// How many elements there are to divide, where the library itself is to see that the parts lie among them.
    #[doc(hidden)]
    fn room(&self) -> usize {
        usize::MAX
    }
}

/// A divided buffer to send from.
///
/// # Safety
///
/// The parts must lie where [`Pointer`] points.
pub unsafe trait PartitionedBuffer: Partitioned + Pointer + AsDatatype {}

/// A divided buffer to receive into.
///
/// # Safety
///
/// The parts must lie where [`PointerMut`] points.
pub unsafe trait PartitionedBufferMut: Partitioned + PointerMut + AsDatatype {}

/// A buffer to send from, divided among the ranks.
///
/// ```
/// use tercio::{datatype::Partition, traits::*};
/// tercio::testing::ranks(3, |world| {
///     let root = world.process_at_rank(0);
///     let mut mine = vec![0; world.rank() as usize];
///     if world.rank() == 0 {
///         let all = [10, 20, 21]; // nothing for rank 0, one for rank 1, two for rank 2
///         let parts = Partition::new(&all, vec![0, 1, 2], vec![0, 0, 1]);
///         root.scatter_varcount_into_root(&parts, &mut mine[..]);
///     } else {
///         root.scatter_varcount_into(&mut mine[..]);
///     }
///     assert_eq!(mine, [&[][..], &[10], &[20, 21]][world.rank() as usize]);
/// });
/// ```
pub struct Partition<'b, B: 'b + ?Sized, C, D> {
    buf: &'b B,
    counts: C,
    displs: D,
    len: usize,
    element_size: Option<usize>,
}

/// A buffer to receive into, divided among the ranks.
///
/// ```
/// use tercio::{datatype::PartitionMut, traits::*};
/// tercio::testing::ranks(3, |world| {
///     let mine = vec![world.rank(); world.rank() as usize];
///     let mut all = [0; 3];
///     {
///         let mut parts = PartitionMut::new(&mut all, vec![0, 1, 2], vec![0, 0, 1]);
///         world.all_gather_varcount_into(&mine[..], &mut parts);
///     }
///     assert_eq!(all, [1, 2, 2]);
/// });
/// ```
pub struct PartitionMut<'b, B: 'b + ?Sized, C, D> {
    buf: &'b mut B,
    counts: C,
    displs: D,
    len: usize,
    element_size: Option<usize>,
}

/// Every part lies in `0..len`.
#[track_caller]
fn check(what: &str, len: usize, counts: &[Count], displs: &[Count]) {
    assert!(
        counts.len() == displs.len(),
        "a {what} was given {} counts but {} displacements; each part needs one of both",
        counts.len(),
        displs.len()
    );
    for (part, (&count, &displ)) in counts.iter().zip(displs).enumerate() {
        assert!(
            count >= 0 && displ >= 0 && i64::from(count) + i64::from(displ) <= len as i64,
            "part {part} of a {what} has {count} elements from {displ} on, but the buffer has {len}; keep every part inside"
        );
    }
}

/// Whether no two parts share an element, or a sentence.
pub(crate) fn apart(what: &str, counts: &[Count], displs: &[Count]) -> Result<(), String> {
    let end = |part: usize| i64::from(counts[part]) + i64::from(displs[part]);
    let mut parts: Vec<usize> = (0..counts.len()).filter(|&part| counts[part] > 0).collect();
    if !parts.is_sorted_by_key(|&part| displs[part]) {
        parts.sort_by_key(|&part| displs[part]);
    }
    for pair in parts.windows(2) {
        let (one, next) = (pair[0], pair[1]);
        if end(one) > i64::from(displs[next]) {
            return Err(format!(
                "parts {one} and {next} of a {what} overlap (elements {}..{} and {}..{}); give each its own elements",
                displs[one],
                end(one),
                displs[next],
                end(next)
            ));
        }
    }
    Ok(())
}

impl<'b, B: 'b + ?Sized + Buffer, C: Borrow<[Count]>, D: Borrow<[Count]>> Partition<'b, B, C, D> {
    /// `buf` divided into parts of `counts[i]` elements from element `displs[i]` on.
    ///
    /// Panics if the two differ in length, a number is negative, or a part reaches beyond the buffer.
    ///
    /// ```
    /// use tercio::{datatype::Partition, traits::*};
    /// let displs = [0, 2];
    /// let parts = Partition::new(&[1.5, 2.5, 3.5], vec![2, 1], &displs[..]);
    /// assert_eq!(parts.counts().len(), 2);
    /// ```
    #[track_caller]
    pub fn new(buf: &'b B, counts: C, displs: D) -> Self {
        let len = buf.elements();
        check("Partition", len, counts.borrow(), displs.borrow());
        Partition {
            len,
            element_size: buf.element_size(),
            buf,
            counts,
            displs,
        }
    }
}

impl<'b, B: 'b + ?Sized + BufferMut, C: Borrow<[Count]>, D: Borrow<[Count]>>
    PartitionMut<'b, B, C, D>
{
    /// `buf` divided into parts of `counts[i]` elements from element `displs[i]` on.
    ///
    /// Panics if the two differ in length, a number is negative, a part reaches beyond the buffer, or two parts overlap.
    ///
    /// ```should_panic
    /// use tercio::datatype::PartitionMut;
    /// let mut all = [0; 3];
    /// let _ = PartitionMut::new(&mut all, vec![2, 2], vec![0, 1]); // both have element 1
    /// ```
    #[track_caller]
    pub fn new(buf: &'b mut B, counts: C, displs: D) -> Self {
        let len = buf.elements();
        check("PartitionMut", len, counts.borrow(), displs.borrow());
        if let Err(text) = apart("PartitionMut", counts.borrow(), displs.borrow()) {
            panic!("{text}");
        }
        PartitionMut {
            len,
            element_size: buf.element_size(),
            buf,
            counts,
            displs,
        }
    }
}

macro_rules! partition {
    ($name:ident, $marker:ident, $pointer:ident) => {
        // SAFETY: that of the buffer.
        unsafe impl<B: ?Sized + AsDatatype, C, D> AsDatatype for $name<'_, B, C, D> {
            type Out = B::Out;
            fn as_datatype(&self) -> B::Out {
                self.buf.as_datatype()
            }
        }

        impl<B: ?Sized, C: Borrow<[Count]>, D: Borrow<[Count]>> Partitioned for $name<'_, B, C, D> {
            fn counts(&self) -> &[Count] {
                self.counts.borrow()
            }
            fn displs(&self) -> &[Count] {
                self.displs.borrow()
            }
            fn element_size(&self) -> Option<usize> {
                self.element_size
            }
            fn room(&self) -> usize {
                self.len
            }
        }

        // SAFETY: the parts are checked against `room` when they are used: what `borrow` gives may not be the same each time.
        unsafe impl<B: ?Sized + $pointer + AsDatatype, C: Borrow<[Count]>, D: Borrow<[Count]>>
            $marker for $name<'_, B, C, D>
        {
        }
    };
}

partition!(Partition, PartitionedBuffer, Pointer);
partition!(PartitionMut, PartitionedBufferMut, PointerMut);

// SAFETY: that of the buffer.
unsafe impl<B: ?Sized + Pointer, C, D> Pointer for Partition<'_, B, C, D> {
    fn pointer(&self) -> *const c_void {
        self.buf.pointer()
    }
}

// SAFETY: that of the buffer.
unsafe impl<B: ?Sized + PointerMut, C, D> PointerMut for PartitionMut<'_, B, C, D> {
    fn pointer_mut(&mut self) -> *mut c_void {
        self.buf.pointer_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(counts: [Count; 2], displs: [Count; 2]) -> String {
        let error = std::panic::catch_unwind(|| {
            let mut buffer = [0_u8; 4];
            PartitionMut::new(&mut buffer, counts.to_vec(), displs.to_vec());
        });
        *error.unwrap_err().downcast::<String>().unwrap()
    }

    #[test]
    fn what_would_write_outside_or_twice_is_refused() {
        assert!(
            refused([1, 1], [-1, 0]).contains("part 0 of a PartitionMut has 1 elements from -1 on")
        );
        assert!(refused([1, -1], [0, 1]).contains("part 1"));
        assert!(refused([1, 3], [0, 2]).contains("but the buffer has 4"));
        assert!(refused([1, i32::MAX], [0, i32::MAX]).contains("keep every part inside"));
        assert!(
            refused([2, 2], [1, 0])
                .contains("parts 1 and 0 of a PartitionMut overlap (elements 0..2 and 1..3)")
        );
    }

    #[test]
    fn empty_parts_may_lie_anywhere_and_the_order_is_free() {
        let mut buffer = [0_u8; 4];
        PartitionMut::new(&mut buffer, vec![2, 0, 2], vec![2, 3, 0]);
        Partition::new(&buffer, vec![4, 4], vec![0, 0]); // sending twice is harmless
    }
}
