//! What only the library's own types can be.
use super::group::Members;
use super::shared::Shared;
use crate::ffi::{MPI_Comm, MPI_Group};
use crate::raw::AsRaw;
use std::sync::Arc;

/// A communicator's handle.
#[derive(Clone)]
pub struct CommunicatorHandle(pub(crate) Arc<Shared>);

// SAFETY: a number that no other communicator ever has.
unsafe impl AsRaw for CommunicatorHandle {
    type Raw = MPI_Comm;
    fn as_raw(&self) -> MPI_Comm {
        MPI_Comm(self.0.number())
    }
}

/// What has a communicator.
pub trait AsHandle: AsRaw<Raw = MPI_Comm> {
    fn as_handle(&self) -> &CommunicatorHandle;
}

/// What has a group.
pub trait AsMembers: AsRaw<Raw = MPI_Group> {
    fn as_members(&self) -> &Members;
}
