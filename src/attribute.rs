//! Values that programs attach to communicators; see [`AnyCommunicator`](crate::topology::AnyCommunicator).

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
}
