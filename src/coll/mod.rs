//! Collective operations: algorithms over shared cells, and as schedules over the engine; the choice among them.
//!
//! Every collective is a [`Call`]. [`run`] does it and returns when this rank's part is done; [`start`] makes a request of it. Both give
//! bit-identical results: the order of combination is fixed (docs/reductions.md). A call knows ranks of its communicator, spans and
//! operators; it never sees a user's type, a lane or a socket. How the cells work, and why they are right, is in README.md here.
#![forbid(unsafe_code)]

mod arguments;
mod between;
mod call;
mod cells;
mod check;
mod choice;
mod communicator;
mod explain;
mod hosts;
mod kernels;
#[cfg(all(test, loom))]
mod loom_models;
mod plans;
mod schedules;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use call::{Call, Element, Part, run, run_as, start};
pub(crate) use check::check_history;
pub(crate) use communicator::{
    Communicator, between, draw_birth, duplicate, form, merge, self_comm, split, undo_birth, world,
};

pub use explain::Explained;
pub(crate) use explain::Wish;

use crate::engine::{RecvSpan, SendSpan};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass, Op};
use kernels::Kernel;

/// `inout = input op inout`, element by element, in this process (`MPI_Reduce_local`).
pub(crate) fn reduce_local(
    input: &SendSpan,
    inout: &RecvSpan,
    op: &Op,
    element: &Element,
) -> Result<()> {
    if input.len() != inout.len() {
        return Err(Error::new(
            ErrorClass::Count,
            format!(
                "reduce_local was given {} and {} bytes; both sides must have the same length",
                input.len(),
                inout.len()
            ),
        ));
    }
    let kernel = Kernel::new(op, element, "reduce_local")?;
    let (len, left) = (inout.len(), input.to_packed());
    inout.change_at(0, len, &mut vec![0; len], |x| kernel.combine(&left, x));
    Ok(())
}
