//! Buffered sends: the message is copied, and its memory belongs to us until it has gone.
//!
//! The attached buffer is an allowance: what is copied counts against it, and what has gone is given back.
use super::instance::Instance;
use crate::engine::{Comm, Peer, RequestId, SendMode, SendSpan};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass, Site};
use std::sync::PoisonError;

/// What a message costs beside its bytes (`MPI_BSEND_OVERHEAD` of the MPI 5 ABI).
const OVERHEAD: usize = 512;

/// The attached buffer.
#[derive(Default)]
pub(super) struct Buffered {
    size: usize,
    used: usize,
    pending: Vec<Pending>,
}

/// A copied message on its way.
struct Pending {
    id: RequestId,
    /// Lent to the engine; where it lies does not change when this struct moves.
    bytes: Box<[u8]>,
}

impl Instance {
    pub(super) fn buffer_size(&self) -> usize {
        self.buffered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .size
    }

    pub(super) fn attach_buffer(&self, size: usize) {
        self.buffered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .size = size;
    }

    /// Waits until all that was buffered has gone.
    pub(super) fn drain_buffer(&self, site: Site) -> Result<()> {
        loop {
            // Not locked while waiting: another thread may be the one that receives.
            let next = self
                .buffered
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pending
                .pop();
            let Some(message) = next else { return Ok(()) };
            self.engine().wait(message.id, site)?;
            let mut buffered = self.buffered.lock().unwrap_or_else(PoisonError::into_inner);
            buffered.used -= message.bytes.len() + OVERHEAD;
        }
    }

    /// Copies what `span` holds and starts to send it.
    pub(crate) fn buffered_send(
        &self,
        comm: &Comm,
        to: Peer,
        tag: i32,
        span: &SendSpan,
        site: Site,
    ) -> Result<()> {
        let engine = self.engine();
        let cost = span.len() + OVERHEAD;
        let mut buffered = self.buffered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Vec::with_capacity(buffered.pending.len() + 1);
        for message in core::mem::take(&mut buffered.pending) {
            match engine.test(message.id, site, drop)? {
                Some(_) => buffered.used -= message.bytes.len() + OVERHEAD,
                None => kept.push(message),
            }
        }
        buffered.pending = kept;
        let (size, used) = (buffered.size, buffered.used);
        if cost > size - used.min(size) {
            return Err(Error::new(
                ErrorClass::Buffer,
                format!(
                    "a buffered send of {} bytes needs {cost} bytes of the attached buffer, which has {size} with {used} in use; attach a \
                     larger one with Universe::set_buffer_size",
                    span.len()
                ),
            ));
        }
        let bytes = span.to_packed().into_boxed_slice();
        // SAFETY: the box stays in `pending` until the request is complete.
        let copy = unsafe { SendSpan::contiguous(bytes.as_ptr(), bytes.len(), span.code()) };
        let id = engine.start_send(comm, to, tag, copy, SendMode::Standard, site)?;
        engine.let_go(id, site)?;
        buffered.used += cost;
        buffered.pending.push(Pending { id, bytes });
        Ok(())
    }
}
