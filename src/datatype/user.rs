//! Datatypes as values: those of the library, and those that programs build.
use super::construct::{self, Part};
use crate::ffi::MPI_Datatype;
use crate::model::Layout;
use crate::raw::{AsRaw, FromRaw, MatchesRaw};
use crate::{Address, Count};
use core::fmt;
use core::marker::PhantomData;
use std::sync::Arc;

/// A datatype that messages can be sent with.
pub trait Datatype: UncommittedDatatype {}

impl<D: Datatype> Datatype for &D {}

/// A datatype, whether or not it may be used in messages yet: enough to build others from.
pub trait UncommittedDatatype: AsRaw<Raw = MPI_Datatype> {
    /// What [`dup`](Self::dup) gives.
    type DuplicatedDatatype: FromRaw<Raw = MPI_Datatype>;

    /// A new datatype that is equal to this one.
    ///
    /// Corresponds to `MPI_Type_dup`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let int = i32::equivalent_datatype().dup();
    /// assert_ne!(int.as_raw(), i32::equivalent_datatype().as_raw());
    /// ```
    fn dup(&self) -> Self::DuplicatedDatatype {
        let copy = Arc::new(Layout::clone(&layout_of(self)));
        // SAFETY: the handle owns the only count of a fresh layout.
        unsafe { Self::DuplicatedDatatype::from_raw(MPI_Datatype::from_owned(copy)) }
    }

    /// Whether the handle dies with `self`.
    #[doc(hidden)]
    fn owns_handle(&self) -> bool {
        false
    }
}

impl<D: UncommittedDatatype> UncommittedDatatype for &D {
    type DuplicatedDatatype = D::DuplicatedDatatype;
}

/// The layout of `datatype`.
pub(crate) fn layout_of<D: AsRaw<Raw = MPI_Datatype> + ?Sized>(datatype: &D) -> Arc<Layout> {
    // SAFETY: by the contract of AsRaw the handle is alive while `datatype` is.
    unsafe { datatype.as_raw().layout() }
}

macro_rules! reference {
    ($name:ident, $doc:literal, $dup:ident) => {
        #[doc = $doc]
        #[derive(Copy, Clone, Debug)]
        #[repr(transparent)]
        pub struct $name<'a> {
            raw: MPI_Datatype,
            owner: PhantomData<&'a ()>,
        }

        impl $name<'_> {
            /// The caller sees to it that what `raw` stands for outlives the lifetime.
            pub(crate) const fn new(raw: MPI_Datatype) -> Self {
                $name {
                    raw,
                    owner: PhantomData,
                }
            }
        }

        // SAFETY: the lifetime is that of the handle's owner.
        unsafe impl AsRaw for $name<'_> {
            type Raw = MPI_Datatype;
            fn as_raw(&self) -> MPI_Datatype {
                self.raw
            }
        }

        impl FromRaw for $name<'_> {
            unsafe fn from_raw(raw: MPI_Datatype) -> Self {
                Self::new(raw)
            }
        }

        // SAFETY: transparent over the handle.
        unsafe impl MatchesRaw for $name<'_> {}

        impl UncommittedDatatype for $name<'_> {
            type DuplicatedDatatype = $dup;
        }
    };
}

reference!(
    DatatypeRef,
    "A borrowed [`Datatype`]: of the library (`'static`, see [`SystemDatatype`](super::SystemDatatype)) or of a [`UserDatatype`].",
    UserDatatype
);
reference!(
    UncommittedDatatypeRef,
    "A borrowed datatype that may not be committed yet.",
    UncommittedUserDatatype
);

impl Datatype for DatatypeRef<'_> {}

impl<'a> From<DatatypeRef<'a>> for UncommittedDatatypeRef<'a> {
    fn from(datatype: DatatypeRef<'a>) -> Self {
        Self::new(datatype.raw)
    }
}

impl<'a> From<&'a UserDatatype> for DatatypeRef<'a> {
    fn from(datatype: &'a UserDatatype) -> Self {
        datatype.as_ref()
    }
}

impl<'a> From<&'a UserDatatype> for UncommittedDatatypeRef<'a> {
    fn from(datatype: &'a UserDatatype) -> Self {
        Self::new(datatype.as_raw())
    }
}

impl<'a> From<&'a UncommittedUserDatatype> for UncommittedDatatypeRef<'a> {
    fn from(datatype: &'a UncommittedUserDatatype) -> Self {
        datatype.as_ref()
    }
}

macro_rules! owned {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[repr(transparent)]
        pub struct $name {
            /// The pointer of an `Arc<Layout>`, of which this owns one count.
            raw: MPI_Datatype,
        }

        // SAFETY: this owns a count of what the handle points to.
        unsafe impl AsRaw for $name {
            type Raw = MPI_Datatype;
            fn as_raw(&self) -> MPI_Datatype {
                self.raw
            }
        }

        impl FromRaw for $name {
            unsafe fn from_raw(raw: MPI_Datatype) -> Self {
                assert!(
                    raw.as_basic().is_none(),
                    "a basic datatype belongs to the library and cannot be owned; use dup()"
                );
                $name { raw }
            }
        }

        // SAFETY: transparent over the handle.
        unsafe impl MatchesRaw for $name {}

        impl UncommittedDatatype for $name {
            type DuplicatedDatatype = $name;
            fn owns_handle(&self) -> bool {
                true
            }
        }

        impl Clone for $name {
            fn clone(&self) -> Self {
                self.dup()
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: gives back the count that this value owns, and nothing uses the handle after this.
                drop(unsafe { Arc::from_raw(self.raw.0.cast::<Layout>()) });
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let layout = layout_of(self);
                f.debug_struct(stringify!($name))
                    .field("size", &layout.size())
                    .field("extent", &layout.extent())
                    .finish()
            }
        }
    };
}

owned!(
    UserDatatype,
    "A datatype that a program built, ready for messages. The constructors' arguments are MPI's."
);
owned!(
    UncommittedUserDatatype,
    "A datatype under construction: to build others from, or to [`commit`](Self::commit)."
);

impl Datatype for UserDatatype {}

impl UserDatatype {
    /// The datatype as a reference.
    ///
    /// ```
    /// use tercio::{datatype::UserDatatype, traits::*};
    /// let pair = UserDatatype::contiguous(2, &f64::equivalent_datatype());
    /// let borrowed = pair.as_ref();
    /// assert_eq!(borrowed.as_raw(), pair.as_raw());
    /// ```
    #[allow(clippy::should_implement_trait)] // rsmpi's name
    pub fn as_ref(&self) -> DatatypeRef<'_> {
        DatatypeRef::new(self.raw)
    }
}

impl UncommittedUserDatatype {
    /// Makes the datatype ready for messages.
    ///
    /// Corresponds to `MPI_Type_commit`.
    ///
    /// ```
    /// use tercio::{datatype::UncommittedUserDatatype, traits::*};
    /// let row = UncommittedUserDatatype::contiguous(8, &f32::equivalent_datatype());
    /// let rows = UncommittedUserDatatype::vector(4, 1, 2, &row).commit();
    /// assert!(format!("{rows:?}").contains("size: 128"));
    /// ```
    pub fn commit(self) -> UserDatatype {
        let raw = self.raw;
        core::mem::forget(self);
        UserDatatype { raw }
    }

    /// The datatype as a reference.
    ///
    /// ```
    /// use tercio::{datatype::UncommittedUserDatatype, traits::*};
    /// let pair = UncommittedUserDatatype::contiguous(2, &f64::equivalent_datatype());
    /// assert_eq!(pair.as_ref().as_raw(), pair.as_raw());
    /// ```
    #[allow(clippy::should_implement_trait)] // rsmpi's name
    pub fn as_ref(&self) -> UncommittedDatatypeRef<'_> {
        UncommittedDatatypeRef::new(self.raw)
    }
}

/// `value` as a length, or a sentence.
#[track_caller]
fn length(constructor: &str, what: &str, value: Count) -> usize {
    match usize::try_from(value) {
        Ok(length) => length,
        Err(_) => {
            panic!("{constructor} was asked for a {what} of {value}; lengths must not be negative")
        }
    }
}

#[track_caller]
fn equal_lengths(constructor: &str, one: (&str, usize), other: (&str, usize)) {
    assert!(
        one.1 == other.1,
        "{constructor} was given {} {} but {} {}; each block needs one of both",
        one.1,
        one.0,
        other.1,
        other.0
    );
}

#[track_caller]
fn built(constructor: &str, parts: &[Part<'_>], padded: bool) -> UncommittedUserDatatype {
    match construct::layout(parts, padded) {
        Some(layout) => UncommittedUserDatatype {
            raw: MPI_Datatype::from_owned(Arc::new(layout)),
        },
        None => panic!(
            "{constructor} was asked for a datatype that reaches beyond the address space; make its counts or displacements smaller"
        ),
    }
}

/// Displacements in bytes from displacements in elements of `old`.
#[track_caller]
fn in_bytes(constructor: &str, elements: isize, old: &Layout) -> isize {
    match elements.checked_mul(old.extent()) {
        Some(bytes) => bytes,
        None => panic!(
            "{constructor} was asked for a displacement of {elements} elements, which is beyond the address space; make it smaller"
        ),
    }
}

#[track_caller]
fn strided(
    constructor: &str,
    count: Count,
    blocklength: Count,
    stride: isize,
    old: &Layout,
) -> UncommittedUserDatatype {
    let (count, len) = (
        length(constructor, "count", count),
        length(constructor, "blocklength", blocklength),
    );
    let mut parts = Vec::with_capacity(count);
    for i in 0..count {
        match isize::try_from(i).ok().and_then(|i| i.checked_mul(stride)) {
            Some(at) => parts.push(Part { at, len, old }),
            None => panic!(
                "{constructor} was asked for {count} blocks {stride} bytes apart, which is beyond the address space; ask for less"
            ),
        }
    }
    built(constructor, &parts, false)
}

/// The constructors, once: `UserDatatype`'s commit what `UncommittedUserDatatype`'s build.
macro_rules! constructors {
    ($($(#[$doc:meta])* fn $name:ident<D>($($arg:ident: $ty:ty),*) where $bound:path $body:block)*) => {
        impl UncommittedUserDatatype {
            $($(#[$doc])*
            #[track_caller]
            pub fn $name<D>($($arg: $ty),*) -> Self where D: $bound {
                const NAME: &str = stringify!($name);
                $body
            })*
        }

        impl UserDatatype {
            $($(#[$doc])*
            #[track_caller]
            pub fn $name<D>($($arg: $ty),*) -> Self where D: $bound {
                UncommittedUserDatatype::$name($($arg),*).commit()
            })*
        }
    };
}

/// What [`UserDatatype::structured`] takes: datatypes that can stand in a slice.
#[doc(hidden)]
pub trait Member: UncommittedDatatype + MatchesRaw<Raw = MPI_Datatype> {}

impl<D: UncommittedDatatype + MatchesRaw<Raw = MPI_Datatype>> Member for D {}

constructors! {
    /// `count` elements of `oldtype` one after the other.
    ///
    /// Corresponds to `MPI_Type_contiguous`. Panics if `count` is negative.
    ///
    /// ```
    /// use tercio::{datatype::UserDatatype, traits::*};
    /// let row = UserDatatype::contiguous(3, &f64::equivalent_datatype());
    /// assert!(format!("{row:?}").contains("extent: 24"));
    /// ```
    fn contiguous<D>(count: Count, oldtype: &D) where UncommittedDatatype {
        let old = layout_of(oldtype);
        built(NAME, &[Part { at: 0, len: length(NAME, "count", count), old: &old }], false)
    }

    /// `count` blocks of `blocklength` elements, `stride` elements from the start of one to the start of the next: a matrix's column, say.
    ///
    /// Corresponds to `MPI_Type_vector`. Panics if `count` or `blocklength` is negative.
    ///
    /// ```
    /// use tercio::{datatype::UserDatatype, traits::*};
    /// let column = UserDatatype::vector(3, 1, 4, &f64::equivalent_datatype()); // of a 3 x 4 matrix
    /// assert!(format!("{column:?}").contains("size: 24"));
    /// ```
    fn vector<D>(count: Count, blocklength: Count, stride: Count, oldtype: &D) where UncommittedDatatype {
        let old = layout_of(oldtype);
        strided(NAME, count, blocklength, in_bytes(NAME, stride as isize, &old), &old)
    }

    /// As [`vector`](Self::vector), with the stride in bytes.
    ///
    /// Corresponds to `MPI_Type_create_hvector`. Panics if `count` or `blocklength` is negative.
    ///
    /// ```
    /// use tercio::{datatype::UserDatatype, traits::*};
    /// let column = UserDatatype::heterogeneous_vector(3, 1, 32, &f64::equivalent_datatype());
    /// assert!(format!("{column:?}").contains("extent: 72"));
    /// ```
    fn heterogeneous_vector<D>(count: Count, blocklength: Count, stride: Address, oldtype: &D) where UncommittedDatatype {
        strided(NAME, count, blocklength, stride, &layout_of(oldtype))
    }

    /// Blocks of `blocklengths` elements at `displacements` elements.
    ///
    /// Corresponds to `MPI_Type_indexed`. Panics if the slices differ in length or a length is negative.
    ///
    /// ```
    /// use tercio::{datatype::UserDatatype, traits::*};
    /// let triangle = UserDatatype::indexed(&[3, 2, 1], &[0, 4, 8], &f64::equivalent_datatype());
    /// assert!(format!("{triangle:?}").contains("size: 48"));
    /// ```
    fn indexed<D>(blocklengths: &[Count], displacements: &[Count], oldtype: &D) where UncommittedDatatype {
        equal_lengths(NAME, ("blocklengths", blocklengths.len()), ("displacements", displacements.len()));
        let old = layout_of(oldtype);
        let mut parts = Vec::with_capacity(blocklengths.len());
        for (&len, &disp) in blocklengths.iter().zip(displacements) {
            parts.push(Part { at: in_bytes(NAME, disp as isize, &old), len: length(NAME, "blocklength", len), old: &old });
        }
        built(NAME, &parts, false)
    }

    /// As [`indexed`](Self::indexed), with the displacements in bytes.
    ///
    /// Corresponds to `MPI_Type_create_hindexed`. Panics if the slices differ in length or a length is negative.
    ///
    /// ```
    /// use tercio::{datatype::UserDatatype, traits::*};
    /// let two = UserDatatype::heterogeneous_indexed(&[1, 2], &[16, 0], &i32::equivalent_datatype());
    /// assert!(format!("{two:?}").contains("size: 12"));
    /// ```
    fn heterogeneous_indexed<D>(blocklengths: &[Count], displacements: &[Address], oldtype: &D) where UncommittedDatatype {
        equal_lengths(NAME, ("blocklengths", blocklengths.len()), ("displacements", displacements.len()));
        let old = layout_of(oldtype);
        let mut parts = Vec::with_capacity(blocklengths.len());
        for (&len, &at) in blocklengths.iter().zip(displacements) {
            parts.push(Part { at, len: length(NAME, "blocklength", len), old: &old });
        }
        built(NAME, &parts, false)
    }

    /// Blocks of equal length at `displacements` elements.
    ///
    /// Corresponds to `MPI_Type_create_indexed_block`. Panics if `blocklength` is negative.
    ///
    /// ```
    /// use tercio::{datatype::UserDatatype, traits::*};
    /// let picked = UserDatatype::indexed_block(2, &[0, 6, 12], &u16::equivalent_datatype());
    /// assert!(format!("{picked:?}").contains("size: 12"));
    /// ```
    fn indexed_block<D>(blocklength: Count, displacements: &[Count], oldtype: &D) where UncommittedDatatype {
        let (old, len) = (layout_of(oldtype), length(NAME, "blocklength", blocklength));
        let mut parts = Vec::with_capacity(displacements.len());
        for &disp in displacements {
            parts.push(Part { at: in_bytes(NAME, disp as isize, &old), len, old: &old });
        }
        built(NAME, &parts, false)
    }

    /// As [`indexed_block`](Self::indexed_block), with the displacements in bytes.
    ///
    /// Corresponds to `MPI_Type_create_hindexed_block`. Panics if `blocklength` is negative.
    ///
    /// ```
    /// use tercio::{datatype::UserDatatype, traits::*};
    /// let picked = UserDatatype::heterogeneous_indexed_block(1, &[8, 0], &u64::equivalent_datatype());
    /// assert!(format!("{picked:?}").contains("extent: 16"));
    /// ```
    fn heterogeneous_indexed_block<D>(blocklength: Count, displacements: &[Address], oldtype: &D) where UncommittedDatatype {
        let (old, len) = (layout_of(oldtype), length(NAME, "blocklength", blocklength));
        let parts: Vec<Part<'_>> = displacements.iter().map(|&at| Part { at, len, old: &old }).collect();
        built(NAME, &parts, false)
    }

    /// Blocks of different types: `blocklengths[i]` elements of `types[i]` at `displacements[i]` bytes. The extent is padded to the
    /// strictest alignment among the items.
    ///
    /// Corresponds to `MPI_Type_create_struct`. Panics if the slices differ in length or a length is negative.
    ///
    /// ```
    /// use tercio::{datatype::UserDatatype, traits::*};
    /// let tagged = UserDatatype::structured(&[1, 1], &[0, 8], &[f64::equivalent_datatype(), u8::equivalent_datatype()]);
    /// assert!(format!("{tagged:?}").contains("size: 9, extent: 16"));
    /// ```
    fn structured<D>(blocklengths: &[Count], displacements: &[Address], types: &[D]) where Member {
        equal_lengths(NAME, ("blocklengths", blocklengths.len()), ("displacements", displacements.len()));
        equal_lengths(NAME, ("blocklengths", blocklengths.len()), ("types", types.len()));
        let old: Vec<Arc<Layout>> = types.iter().map(layout_of).collect();
        let mut parts = Vec::with_capacity(old.len());
        for ((&len, &at), old) in blocklengths.iter().zip(displacements).zip(&old) {
            parts.push(Part { at, len: length(NAME, "blocklength", len), old });
        }
        built(NAME, &parts, true)
    }
}
