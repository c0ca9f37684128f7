//! Values that programs attach to communicators; see [`AnyCommunicator`](crate::topology::AnyCommunicator).

use crate::raw::AsRaw;
use core::any::TypeId;
use core::ffi::c_int;
use std::sync::{Mutex, PoisonError};

pub mod traits {
    //! The traits of this module.
    pub use super::CommAttribute;
}

/// A value that can be attached to a communicator, one of each type.
///
/// ```
/// use tercio::traits::*;
///
/// #[derive(Clone, Debug, PartialEq)]
/// struct Label(String);
/// impl CommAttribute for Label {
///     const CLONE_ON_DUP: bool = true;
/// }
///
/// let universe = tercio::initialize().unwrap();
/// let mut world = universe.world();
/// world.set_attr(Label("all".into()));
/// let copy = world.duplicate();
/// assert_eq!(copy.get_attr::<Label>(), Some(&Label("all".into())));
/// ```
pub trait CommAttribute: 'static + Sized + Clone {
    /// Whether a duplicate of the communicator gets a clone of the value.
    const CLONE_ON_DUP: bool = false;

    /// What values of this type are kept under: a key of its own for each type, unless the type says otherwise.
    ///
    /// Corresponds to `MPI_Comm_create_keyval`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// #[derive(Clone)]
    /// struct Step(u32);
    /// impl CommAttribute for Step {}
    /// assert_eq!(Step::get_key().as_raw(), Step::get_key().as_raw());
    /// ```
    fn get_key() -> AttributeKey {
        static TYPES: Mutex<Vec<TypeId>> = Mutex::new(Vec::new());
        let mut types = TYPES.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = TypeId::of::<Self>();
        let place = types.iter().position(|known| *known == wanted);
        let place = place.unwrap_or_else(|| {
            types.push(wanted);
            types.len() - 1
        });
        AttributeKey(FIRST_KEY + place as c_int)
    }
}

/// Far from the numbers that a program may choose for itself.
const FIRST_KEY: c_int = 0x10_0000;

/// What attributes are kept under; see [`CommAttribute::get_key`].
///
/// ```
/// use tercio::{attribute::AttributeKey, traits::*};
/// // SAFETY: two types under one key do not see each other's values, which is all that can happen.
/// let key = unsafe { AttributeKey::new_unchecked(7) };
/// assert_eq!(key.as_raw(), 7);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeKey(c_int);

impl AttributeKey {
    /// The key with this number.
    ///
    /// # Safety
    ///
    /// None is needed: values are looked at as the type that they have. The name is rsmpi's.
    ///
    /// ```
    /// use tercio::{attribute::AttributeKey, traits::*};
    /// #[derive(Clone)]
    /// struct Fixed(u32);
    /// impl CommAttribute for Fixed {
    ///     fn get_key() -> AttributeKey {
    ///         // SAFETY: see there.
    ///         unsafe { AttributeKey::new_unchecked(12) }
    ///     }
    /// }
    /// let universe = tercio::initialize().unwrap();
    /// let mut world = universe.world();
    /// world.set_attr(Fixed(3));
    /// assert_eq!(world.get_attr::<Fixed>().unwrap().0, 3);
    /// ```
    pub unsafe fn new_unchecked(key: i32) -> AttributeKey {
        AttributeKey(key)
    }
}

// SAFETY: a number.
unsafe impl AsRaw for AttributeKey {
    type Raw = c_int;
    fn as_raw(&self) -> c_int {
        self.0
    }
}
