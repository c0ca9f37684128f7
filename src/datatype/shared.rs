//! Buffers that other ranks of the host read where they lie.
use super::Equivalence;
use crate::job::HeapBlock;
use crate::topology::Communicator;
use core::fmt;
use core::ops::{Deref, DerefMut};

/// A slice of `T`s in memory that the other ranks of this host can read: what is sent from it is copied once, by its receiver.
///
/// It is a buffer like a `Vec` of the same length, for every call that takes one, and so is each slice of it:
///
/// * a message of more than 8 KiB to a rank of this host is copied straight out of it into the receiver's memory, wherever that is faster. Ordinary memory is copied twice,
///   though by two cores at a time, which is faster for up to a few 100 KiB that the sender wrote just before: both ways are measured while the program runs. A send may be over
///   only when its receiver has taken the message: two ranks that both begin by a blocking send to each other wait for ever, as they would with any longer message;
/// * what a rank contributes from it to a blocking broadcast, gather or reduction among ranks of this host, 8 KiB or more, is read there by those who need it, again where that is
///   measured to be faster. A root that broadcasts from it returns when all have read it, as it may with any buffer;
/// * everywhere else (short messages, other collectives, other hosts, `--transport tcp` and `mpi:all`) it is memory like all other.
///
/// Ranks need not agree: some may have shared buffers, some not.
///
/// The memory is made when the buffer is, a page (4 KiB) at least, and goes back to the system when it is dropped: so make few, large ones and keep them. A
/// rank of a job has room for 4 GiB. What does not fit, or cannot be shared here, is ordinary memory instead; [`is_shared`](SharedBuffer::is_shared)
/// tells. It may outlive the `Universe`, and is ordinary memory then.
///
/// Corresponds to `MPI_Alloc_mem` and, on drop, `MPI_Free_mem`.
///
/// ```
/// use tercio::datatype::SharedBuffer;
/// use tercio::traits::*;
///
/// tercio::testing::ranks(2, |world| {
///     if world.rank() == 0 {
///         let mut field = SharedBuffer::filled(&world, 100_000, 0.0_f64);
///         for step in 0..3 {
///             field.fill(f64::from(step));
///             world.process_at_rank(1).send(&field[500..]);
///         }
///     } else {
///         let mut theirs = vec![0.0; 99_500];
///         for step in 0..3 {
///             world.process_at_rank(0).receive_into(&mut theirs[..]);
///             assert!(theirs.iter().all(|&x| x == f64::from(step)));
///         }
///     }
/// });
/// ```
///
/// Contributions to collectives:
///
/// ```
/// use tercio::datatype::SharedBuffer;
/// use tercio::{collective::SystemOperation, traits::*};
///
/// tercio::testing::ranks(2, |world| {
///     let mut part = SharedBuffer::filled(&world, 10_000, 0_u64);
///     let mut sums = vec![0_u64; 10_000];
///     for step in 1..20 {
///         part.fill(step); // over what the others read in the step before
///         world.all_reduce_into(&part[..], &mut sums[..], SystemOperation::sum());
///         assert!(sums.iter().all(|&sum| sum == 2 * step));
///     }
/// });
/// ```
pub struct SharedBuffer<T> {
    memory: Memory<T>,
}

enum Memory<T> {
    /// The block holds so many values.
    Heap(HeapBlock, usize, core::marker::PhantomData<T>),
    Own(Vec<T>),
}

impl<T: Equivalence + Copy> SharedBuffer<T> {
    /// A buffer of `len` times `value`, which the ranks of this host can read: those of `communicator` and all others. Not collective.
    ///
    /// # Panics
    /// After the `Universe` was dropped, and on a thread that may not call the library.
    ///
    /// ```
    /// use tercio::datatype::SharedBuffer;
    /// use tercio::traits::*;
    ///
    /// let universe = tercio::initialize().unwrap();
    /// let mut sums = SharedBuffer::filled(&universe.world(), 3, 0_i32);
    /// let one = SharedBuffer::filled(&universe.world(), 3, 1_i32);
    /// universe.world().all_reduce_into(&one, &mut sums, tercio::collective::SystemOperation::sum());
    /// assert_eq!(sums[..], [1; 3]);
    /// ```
    #[track_caller]
    pub fn filled<C: Communicator + ?Sized>(communicator: &C, len: usize, value: T) -> Self {
        let instance = communicator.as_handle().0.instance();
        let _entry = instance.enter();
        let bytes = len.checked_mul(size_of::<T>());
        let block = bytes
            .filter(|&bytes| bytes > 0)
            .and_then(|bytes| instance.engine().take_from_heap(bytes));
        let memory = match block {
            Some(block) => {
                const { assert!(align_of::<T>() <= 4096) };
                let values: *mut T = block.ptr().as_ptr().cast();
                for i in 0..len {
                    // SAFETY: the block has room for `len` values, begins at a page, and is nobody else's.
                    unsafe { values.add(i).write(value) };
                }
                Memory::Heap(block, len, core::marker::PhantomData)
            }
            None => Memory::Own(vec![value; len]),
        };
        SharedBuffer { memory }
    }

    /// Whether the memory is of the kind that others can read. Where it is not, the buffer is sent as a `Vec` is.
    ///
    /// ```
    /// use tercio::datatype::SharedBuffer;
    ///
    /// let universe = tercio::initialize().unwrap();
    /// assert!(SharedBuffer::filled(&universe.world(), 1000, 0_u8).is_shared());
    /// // More than a rank's room, which is 64 MiB where no launcher started it.
    /// assert!(!SharedBuffer::filled(&universe.world(), 65 << 20, 0_u8).is_shared());
    /// ```
    pub fn is_shared(&self) -> bool {
        matches!(self.memory, Memory::Heap(..))
    }
}

impl<T> Deref for SharedBuffer<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        match &self.memory {
            // SAFETY: the block holds `len` values since it was made. Other processes only read it.
            Memory::Heap(block, len, _) => unsafe {
                core::slice::from_raw_parts(block.ptr().as_ptr().cast(), *len)
            },
            Memory::Own(values) => values,
        }
    }
}

impl<T> DerefMut for SharedBuffer<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.memory {
            // SAFETY: as above. Other processes read it only while a call or a request of this one borrows the buffer (job/README.md).
            Memory::Heap(block, len, _) => unsafe {
                core::slice::from_raw_parts_mut(block.ptr().as_ptr().cast(), *len)
            },
            Memory::Own(values) => values,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for SharedBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}
