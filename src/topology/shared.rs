//! What all handles of one communicator share.
use super::attributes::Attributes;
use super::cartesian::Grid;
use crate::coll::{self, Communicator};
use crate::environment::instance::Instance;
use crate::model::{Error, Site};
use core::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};

/// Which communicator this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    World,
    SelfComm,
    /// Of a spawned rank with those who spawned it.
    Parent,
    User,
}

/// A communicator of this process. What is pending on it keeps it alive.
pub(crate) struct Shared {
    instance: Arc<Instance>,
    coll: Arc<Communicator>,
    role: Role,
    name: Mutex<String>,
    pub(super) attributes: Attributes,
    grid: Option<Grid>,
}

impl Shared {
    pub(crate) fn new(
        instance: &Arc<Instance>,
        coll: Arc<Communicator>,
        role: Role,
    ) -> Arc<Shared> {
        Shared::with_grid(instance, coll, role, None)
    }

    pub(super) fn with_grid(
        instance: &Arc<Instance>,
        coll: Arc<Communicator>,
        role: Role,
        grid: Option<Grid>,
    ) -> Arc<Shared> {
        let name = match role {
            Role::World => "MPI_COMM_WORLD",
            Role::SelfComm => "MPI_COMM_SELF",
            Role::Parent => "MPI_COMM_PARENT",
            Role::User => "",
        };
        Arc::new(Shared {
            instance: instance.clone(),
            coll,
            role,
            name: Mutex::new(name.into()),
            attributes: Attributes::default(),
            grid,
        })
    }

    #[inline]
    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    #[inline]
    pub(crate) fn coll(&self) -> &Communicator {
        &self.coll
    }

    pub(super) fn grid(&self) -> Option<&Grid> {
        self.grid.as_ref()
    }

    pub(super) fn name(&self) -> String {
        self.name
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// An error of `call` on this communicator, made at `site`, for the call to return; what concerns the whole job ends it instead.
    #[cold]
    #[track_caller]
    pub(crate) fn told(&self, call: &'static str, site: Site, error: Error) -> Error {
        let title = match self.name() {
            name if name.is_empty() => {
                format!("an unnamed communicator of {}", self.coll.size())
            }
            name => name,
        };
        self.instance.told(error.at(site).of(call, Some(title)))
    }

    pub(super) fn set_name(&self, name: &str) {
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = name.into();
    }
}

impl Drop for Shared {
    #[track_caller]
    fn drop(&mut self) {
        if matches!(self.role, Role::World | Role::SelfComm) {
            return;
        }
        // A thread that may not call leaves the queues of the context behind; they are empty, and finalize takes them away.
        let Some(_entry) = self.instance.try_enter() else {
            return;
        };
        let engine = self.instance.engine();
        engine.forget(self.coll.comm());
        if let Some(union) = self.coll.union() {
            engine.forget(union.comm());
        }
        if !std::thread::panicking() {
            let history = coll::check_history(engine, &self.coll, Location::caller());
            self.instance.check(history);
        }
    }
}
