//! Which Rust types take part in messages.
use super::{Datatype, DatatypeRef};
use crate::ffi::MPI_Datatype;
use crate::model::Basic;

/// A datatype that is part of the library: those of the primitive types, and what `#[derive(Equivalence)]` makes.
pub type SystemDatatype = DatatypeRef<'static>;

/// A Rust type that has a datatype.
///
/// The primitives have one (`bool`, the integers to 64 bits, `isize` and `usize` travelling as `i64` and `u64`, `f32`, `f64`), and
/// `#[derive(Equivalence)]` gives one to structs. By hand it is done with a [`UserDatatype`](super::UserDatatype).
///
/// # Safety
///
/// * The datatype must lie within the type: each of its items at the offset of a field (or part of one) of that basic type.
/// * Any values of those items that are valid for their basic types must make a valid value of the Rust type.
/// * Fields that the datatype leaves out must be valid when all their bytes are zero.
///
/// ```
/// use tercio::{datatype::UserDatatype, traits::*, Address};
/// use std::mem::offset_of;
///
/// struct Sample { time: f64, id: u32 }
///
/// unsafe impl Equivalence for Sample {
///     type Out = UserDatatype;
///     fn equivalent_datatype() -> UserDatatype {
///         UserDatatype::structured(
///             &[1, 1],
///             &[offset_of!(Sample, time) as Address, offset_of!(Sample, id) as Address],
///             &[f64::equivalent_datatype(), u32::equivalent_datatype()],
///         )
///     }
/// }
///
/// let universe = tercio::initialize().unwrap();
/// let packed = universe.world().pack(&Sample { time: 0.5, id: 7 });
/// assert_eq!(packed.len(), 12); // no padding
/// ```
pub unsafe trait Equivalence {
    /// The datatype's type: [`SystemDatatype`] or [`UserDatatype`](super::UserDatatype).
    type Out: Datatype;
    /// The datatype.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let _: tercio::datatype::SystemDatatype = f64::equivalent_datatype();
    /// ```
    fn equivalent_datatype() -> Self::Out;
}

macro_rules! primitive {
    ($($rust:ty => $basic:ident),* $(,)?) => {$(
        // SAFETY: a primitive is one item of its own basic type; `bool`s are checked on arrival.
        unsafe impl Equivalence for $rust {
            type Out = SystemDatatype;
            fn equivalent_datatype() -> SystemDatatype {
                DatatypeRef::new(const { MPI_Datatype::basic(Basic::$basic) })
            }
        }
    )*};
}

primitive! {
    bool => Bool, f32 => F32, f64 => F64,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64, isize => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64, usize => U64,
}
