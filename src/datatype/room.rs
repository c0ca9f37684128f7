//! Memory that values are received into before they are values.
use super::Equivalence;
use super::span::Kind;
use crate::engine::RecvSpan;
use core::mem::MaybeUninit;

/// Room for one `T`.
pub(crate) struct Place<T> {
    kind: Kind,
    value: MaybeUninit<T>,
}

impl<T: Equivalence> Place<T> {
    #[inline]
    #[track_caller]
    pub(crate) fn new() -> Place<T> {
        Place {
            kind: Kind::of(&T::equivalent_datatype(), Some(size_of::<T>())),
            // What the datatype leaves out is to be zero, as Equivalence demands.
            value: MaybeUninit::zeroed(),
        }
    }

    /// What is received into it.
    ///
    /// # Safety
    /// The place stays where it is, and is not looked at, until the transfer that takes the span is complete.
    #[inline]
    pub(crate) unsafe fn span(&mut self) -> RecvSpan {
        // SAFETY: by the contract of this function.
        unsafe { self.kind.recv(self.value.as_mut_ptr().cast(), 1) }
    }

    /// Packed bytes of the value.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.kind.size()
    }

    /// The value.
    ///
    /// # Safety
    /// All of its packed bytes must have been received.
    #[inline]
    pub(crate) unsafe fn value(self) -> T {
        // SAFETY: all of the datatype was received, and the rest is zero.
        unsafe { self.value.assume_init() }
    }
}

/// Room for a vector of `T`.
pub(crate) struct Room<T> {
    kind: Kind,
    values: Vec<T>,
    count: usize,
}

impl<T: Equivalence> Room<T> {
    /// Room for `count`; `None` if there is not so much memory.
    #[track_caller]
    pub(crate) fn new(count: usize) -> Option<Room<T>> {
        let kind = Kind::of(&T::equivalent_datatype(), Some(size_of::<T>()));
        let mut values: Vec<T> = Vec::new();
        values.try_reserve_exact(count).ok()?;
        if let Kind::User(_) = kind {
            // SAFETY: there is room for `count`; what the datatype leaves out is to be zero, as Equivalence demands.
            unsafe { values.as_mut_ptr().write_bytes(0, count) };
        }
        Some(Room {
            kind,
            values,
            count,
        })
    }

    /// Packed bytes of an element.
    pub(crate) fn size(&self) -> usize {
        self.kind.size()
    }

    /// What is received into it.
    ///
    /// # Safety
    /// The room is not used otherwise until the transfer that takes the span is complete.
    pub(crate) unsafe fn span(&mut self) -> RecvSpan {
        // SAFETY: there is room for so many, on the heap; and by the contract of this function.
        unsafe { self.kind.recv(self.values.as_mut_ptr().cast(), self.count) }
    }

    /// The values.
    ///
    /// # Safety
    /// All of their packed bytes must have been received.
    pub(crate) unsafe fn values(mut self) -> Vec<T> {
        // SAFETY: `new` reserved so many, and all of them were received.
        unsafe { self.values.set_len(self.count) };
        self.values
    }
}
