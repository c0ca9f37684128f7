//! Collective calls: what a member says, what is checked before anything happens, and which way it goes.
use super::Communicator;
use crate::engine::{Engine, RecvSpan, RequestId, SendSpan};
use crate::model::error::Result;
use crate::model::{Basic, Layout, Op, Site};

/// What a reduction needs to know of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// The basic type, if all items of an element are of one.
    pub(crate) basic: Option<Basic>,
    /// Packed bytes of one element: what a user's function gets a whole number of.
    pub(crate) size: usize,
}

impl Element {
    pub(crate) const fn of(basic: Basic) -> Element {
        Element {
            basic: Some(basic),
            size: basic.size(),
        }
    }

    pub(crate) fn of_layout(layout: &Layout) -> Element {
        Element {
            basic: layout.uniform(),
            size: layout.size(),
        }
    }
}

/// One rank's part of a buffer of a varying-count collective: where it starts in the packed stream of the span, and how many bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) at: usize,
    pub(crate) bytes: usize,
}

/// A collective call of one member.
///
/// Where only the root has a buffer, the others say `None`. `parts` have one entry for each member, in rank order.
#[derive(Clone)]
pub(crate) enum Call<'a> {
    Barrier,
    /// The source at the root, the destination elsewhere.
    Broadcast {
        root: usize,
        span: &'a RecvSpan,
    },
    Gather {
        root: usize,
        send: &'a SendSpan,
        recv: Option<&'a RecvSpan>,
    },
    GatherVar {
        root: usize,
        send: &'a SendSpan,
        recv: Option<(&'a RecvSpan, &'a [Part])>,
    },
    Scatter {
        root: usize,
        send: Option<&'a SendSpan>,
        recv: &'a RecvSpan,
    },
    ScatterVar {
        root: usize,
        send: Option<(&'a SendSpan, &'a [Part])>,
        recv: &'a RecvSpan,
    },
    AllGather {
        send: &'a SendSpan,
        recv: &'a RecvSpan,
    },
    AllGatherVar {
        send: &'a SendSpan,
        recv: &'a RecvSpan,
        parts: &'a [Part],
    },
    AllToAll {
        send: &'a SendSpan,
        recv: &'a RecvSpan,
    },
    AllToAllVar {
        send: &'a SendSpan,
        send_parts: &'a [Part],
        recv: &'a RecvSpan,
        recv_parts: &'a [Part],
    },
    Reduce {
        root: usize,
        send: &'a SendSpan,
        recv: Option<&'a RecvSpan>,
        op: &'a Op,
        element: Element,
    },
    AllReduce {
        send: &'a SendSpan,
        recv: &'a RecvSpan,
        op: &'a Op,
        element: Element,
    },
    /// `send` holds one block for each member, in rank order.
    ReduceScatterBlock {
        send: &'a SendSpan,
        recv: &'a RecvSpan,
        op: &'a Op,
        element: Element,
    },
    Scan {
        send: &'a SendSpan,
        recv: &'a RecvSpan,
        op: &'a Op,
        element: Element,
    },
    /// Rank 0's buffer stays as it is.
    ExclusiveScan {
        send: &'a SendSpan,
        recv: &'a RecvSpan,
        op: &'a Op,
        element: Element,
    },
}

/// Does `call` and returns when this rank's part is done: its buffers may be used again.
pub(crate) fn run(engine: &Engine, c: &Communicator, call: Call<'_>, site: Site) -> Result<()> {
    let _ = (engine, c, call, site);
    unimplemented!()
}

/// Starts `call`. What is sent is read at once (packed); the memory of receive spans belongs to the request until it is complete.
pub(crate) fn start(
    engine: &Engine,
    c: &Communicator,
    call: Call<'_>,
    site: Site,
) -> Result<RequestId> {
    let _ = (engine, c, call, site);
    unimplemented!()
}
