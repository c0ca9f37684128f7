//! What only the library's own types can be.
use super::shared::Shared;
use crate::ffi::MPI_Comm;
use crate::raw::AsRaw;
use std::sync::Arc;

/// A communicator's handle.
#[derive(Clone)]
pub struct CommunicatorHandle(pub(crate) Arc<Shared>);

// SAFETY: this owns a count of what the handle points to.
unsafe impl AsRaw for CommunicatorHandle {
    type Raw = MPI_Comm;
    fn as_raw(&self) -> MPI_Comm {
        MPI_Comm(Arc::as_ptr(&self.0).cast())
    }
}

impl CommunicatorHandle {
    /// A further handle of the communicator that `raw` is of.
    ///
    /// # Safety
    ///
    /// `raw` must be the handle of a communicator that is alive.
    pub(super) unsafe fn of(raw: MPI_Comm) -> CommunicatorHandle {
        let shared: *const Shared = raw.0.cast();
        // SAFETY: by the contract it came from an Arc that is alive, so adding to its count and owning that is fine.
        CommunicatorHandle(unsafe {
            Arc::increment_strong_count(shared);
            Arc::from_raw(shared)
        })
    }
}

/// What has a communicator.
pub trait AsHandle: AsRaw<Raw = MPI_Comm> {
    fn as_handle(&self) -> &CommunicatorHandle;
}
