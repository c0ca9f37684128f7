//! The values attached to a communicator.
use super::Communicator;
use crate::attribute::{AttributeKey, CommAttribute};
use crate::environment::instance::thread_number;
use core::any::Any;
use core::mem;
use std::sync::{Mutex, PoisonError};

/// Attached values. One that was replaced stays until the communicator goes, since a reference to it may be about.
#[derive(Default)]
pub(super) struct Attributes {
    /// In the order in which they were attached; the last of each type counts.
    values: Mutex<Vec<Attached>>,
}

/// Clones a value of the type that it is made for.
type Cloner = fn(&dyn Any) -> Box<dyn Any>;

struct Attached {
    key: AttributeKey,
    value: Box<dyn Any>,
    /// The thread that attached it: a value need not be Send or Sync, so nobody else sees or drops it.
    owner: u64,
    clone: Option<Cloner>,
}

// SAFETY: values are touched by the thread that attached them only: looked at in `get` and `clones`, dropped in Attached's drop.
unsafe impl Send for Attached {}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.owner != thread_number() {
            // A unit that needs no drop takes its place; the value is leaked, since it may not be dropped here.
            mem::forget(mem::replace(&mut self.value, Box::new(())));
        }
    }
}

fn cloned<A: CommAttribute>(value: &dyn Any) -> Box<dyn Any> {
    Box::new(
        value
            .downcast_ref::<A>()
            .expect("kept under its type")
            .clone(),
    )
}

impl Attributes {
    fn set<A: CommAttribute>(&self, value: A) {
        let clone = A::CLONE_ON_DUP.then_some(cloned::<A> as Cloner);
        let attached = Attached {
            key: A::get_key(),
            value: Box::new(value),
            owner: thread_number(),
            clone,
        };
        self.values
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(attached);
    }

    #[track_caller]
    fn get<A: CommAttribute>(&self) -> Option<&A> {
        let key = A::get_key();
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let attached = values.iter().rfind(|a| a.key == key && a.value.is::<A>())?;
        assert!(
            attached.owner == thread_number(),
            "an attribute was asked for by another thread than the one that set it; keep attributes to one thread"
        );
        let value: *const A = attached.value.downcast_ref::<A>()?;
        // SAFETY: the box stays where it is until `self` goes: values are only ever added.
        Some(unsafe { &*value })
    }

    /// Attaches to `other` clones of the values that want it.
    pub(super) fn clone_to(&self, other: &Attributes) {
        let mut clones: Vec<Attached> = Vec::new();
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, attached) in values.iter().enumerate() {
            let replaced = values[at + 1..]
                .iter()
                .any(|later| later.key == attached.key);
            if let (Some(clone), false, true) =
                (attached.clone, replaced, attached.owner == thread_number())
            {
                clones.push(Attached {
                    key: attached.key.clone(),
                    value: clone(&*attached.value),
                    owner: attached.owner,
                    clone: attached.clone,
                });
            }
        }
        other
            .values
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(clones);
    }
}

/// What can be done with any communicator, `dyn Communicator` too, beyond what a trait object allows: attributes.
pub trait AnyCommunicator: Communicator {
    /// The attached value of type `A`.
    ///
    /// Corresponds to `MPI_Comm_get_attr`. Panics in another thread than the one that attached it.
    ///
    /// ```
    /// use tercio::traits::*;
    /// #[derive(Clone)]
    /// struct Step(u32);
    /// impl CommAttribute for Step {}
    /// let universe = tercio::initialize().unwrap();
    /// assert!(universe.world().get_attr::<Step>().is_none());
    /// ```
    #[track_caller]
    fn get_attr<A: CommAttribute>(&self) -> Option<&A> {
        self.as_handle().0.attributes.get()
    }

    /// Attaches `value` to the communicator, in place of the one of its type that is there. A replaced value is dropped with the
    /// communicator, since references to it may be about.
    ///
    /// Corresponds to `MPI_Comm_set_attr`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// #[derive(Clone)]
    /// struct Step(u32);
    /// impl CommAttribute for Step {}
    /// let universe = tercio::initialize().unwrap();
    /// let mut world = universe.world();
    /// world.set_attr(Step(3));
    /// assert_eq!(world.get_attr::<Step>().unwrap().0, 3);
    /// ```
    fn set_attr<A: CommAttribute>(&mut self, value: A) {
        self.as_handle().0.attributes.set(value);
    }
}

impl<C: ?Sized + Communicator> AnyCommunicator for C {}
