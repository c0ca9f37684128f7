//! What MPI means at rest: envelopes, layouts, operators, groups, signatures, errors.
//! Pure data: no operating system, no unsafe, nothing that blocks.
#![forbid(unsafe_code)]

pub(crate) mod call;
pub(crate) mod costs;
pub(crate) mod datatype;
pub(crate) mod envelope;
pub(crate) mod error;
pub(crate) mod op;
pub(crate) mod schedule;
pub(crate) mod signature;

pub(crate) use call::{COLLECTIVE_CALLS, Call, call_name};
pub use costs::Costs;
pub(crate) use datatype::{Basic, Layout, TypeCode};
pub(crate) use envelope::{Envelope, Status};
pub use error::{Error, ErrorClass};
pub(crate) use op::{Op, Predefined};
pub(crate) use schedule::{Local, Round, Schedule, Transfer};
pub(crate) use signature::{CollKind, Signature};

/// Where in the user's program a call was made.
pub(crate) type Site = &'static core::panic::Location<'static>;
