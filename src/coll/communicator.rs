//! Communicators: a group, its contexts, and its cells; how new ones come about.
use crate::engine::{Comm, Engine};
use crate::model::Site;
use crate::model::error::Result;
use std::sync::Arc;

/// A communicator as collectives see it. Shared by all handles of the face that mean it; its cells are given back when the last is dropped.
pub(crate) struct Communicator {
    comm: Comm,
}

impl Communicator {
    /// The engine's view: group and contexts.
    #[inline]
    pub(crate) fn comm(&self) -> &Comm {
        &self.comm
    }

    #[inline]
    pub(crate) fn rank(&self) -> usize {
        self.comm.rank()
    }

    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.comm.size()
    }
}

/// The communicator of all ranks of the job. No communication.
pub(crate) fn world(engine: &Engine) -> Result<Arc<Communicator>> {
    let members = (0..engine.size()).collect();
    let comm = Comm::new(0, members, engine.rank(), engine.size());
    Ok(Arc::new(Communicator { comm }))
}

/// The communicator of this rank alone. No communication.
pub(crate) fn self_comm(engine: &Engine) -> Result<Arc<Communicator>> {
    let comm = Comm::new(2, vec![engine.rank()], engine.rank(), engine.size());
    Ok(Arc::new(Communicator { comm }))
}

/// A new communicator with the same members (collective).
pub(crate) fn duplicate(
    engine: &Engine,
    parent: &Communicator,
    site: Site,
) -> Result<Arc<Communicator>> {
    let _ = (engine, parent, site);
    unimplemented!()
}

/// One new communicator for each color, members ordered by key and then by their rank in `parent`; `None` for those without a color
/// (collective).
pub(crate) fn split(
    engine: &Engine,
    parent: &Communicator,
    color: Option<i32>,
    key: i32,
    site: Site,
) -> Result<Option<Arc<Communicator>>> {
    let _ = (engine, parent, color, key, site);
    unimplemented!()
}
