//! Collective calls: what a member says, what all must agree on, and which way a call goes.
use super::between::Exchange;
use super::choice;
use super::communicator::Begun;
use super::kernels::{self, Kernel};
use super::plans::{self, Asked};
use super::schedules::across::Way;
use super::schedules::{self, Plan};
use super::{Communicator, arguments, cells, check};
use crate::engine::{Combine, Engine, RecvSpan, RequestId, SendSpan, StartSchedule};
use crate::model::error::Result;
use crate::model::{
    Basic, CollKind, Costs, Error, ErrorClass, Layout, Op, Signature, Site, TypeCode,
};
use std::sync::Arc;

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
#[derive(Clone, Copy)]
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

impl<'a> Call<'a> {
    #[inline(always)]
    pub(super) fn kind(&self) -> CollKind {
        match self {
            Call::Barrier => CollKind::Barrier,
            Call::Broadcast { .. } => CollKind::Broadcast,
            Call::Gather { .. } => CollKind::Gather,
            Call::GatherVar { .. } => CollKind::GatherVar,
            Call::Scatter { .. } => CollKind::Scatter,
            Call::ScatterVar { .. } => CollKind::ScatterVar,
            Call::AllGather { .. } => CollKind::AllGather,
            Call::AllGatherVar { .. } => CollKind::AllGatherVar,
            Call::AllToAll { .. } => CollKind::AllToAll,
            Call::AllToAllVar { .. } => CollKind::AllToAllVar,
            Call::Reduce { .. } => CollKind::Reduce,
            Call::AllReduce { .. } => CollKind::AllReduce,
            Call::ReduceScatterBlock { .. } => CollKind::ReduceScatterBlock,
            Call::Scan { .. } => CollKind::Scan,
            Call::ExclusiveScan { .. } => CollKind::ExclusiveScan,
        }
    }

    #[inline(always)]
    pub(super) fn root(&self) -> Option<usize> {
        match *self {
            Call::Broadcast { root, .. }
            | Call::Gather { root, .. }
            | Call::GatherVar { root, .. }
            | Call::Scatter { root, .. }
            | Call::ScatterVar { root, .. }
            | Call::Reduce { root, .. } => Some(root),
            _ => None,
        }
    }

    #[inline(always)]
    pub(super) fn send(&self) -> Option<&'a SendSpan> {
        match *self {
            Call::Barrier | Call::Broadcast { .. } => None,
            Call::Scatter { send, .. } => send,
            Call::ScatterVar { send, .. } => send.map(|s| s.0),
            Call::Gather { send, .. }
            | Call::GatherVar { send, .. }
            | Call::AllGather { send, .. }
            | Call::AllGatherVar { send, .. }
            | Call::AllToAll { send, .. }
            | Call::AllToAllVar { send, .. }
            | Call::Reduce { send, .. }
            | Call::AllReduce { send, .. }
            | Call::ReduceScatterBlock { send, .. }
            | Call::Scan { send, .. }
            | Call::ExclusiveScan { send, .. } => Some(send),
        }
    }

    /// Where this member receives; `None` where it does not.
    #[inline(always)]
    pub(super) fn recv(&self) -> Option<&'a RecvSpan> {
        match *self {
            Call::Barrier => None,
            Call::Broadcast { span, .. } => Some(span),
            Call::Gather { recv, .. } | Call::Reduce { recv, .. } => recv,
            Call::GatherVar { recv, .. } => recv.map(|r| r.0),
            Call::Scatter { recv, .. }
            | Call::ScatterVar { recv, .. }
            | Call::AllGather { recv, .. }
            | Call::AllGatherVar { recv, .. }
            | Call::AllToAll { recv, .. }
            | Call::AllToAllVar { recv, .. }
            | Call::AllReduce { recv, .. }
            | Call::ReduceScatterBlock { recv, .. }
            | Call::Scan { recv, .. }
            | Call::ExclusiveScan { recv, .. } => Some(recv),
        }
    }

    #[inline(always)]
    pub(super) fn op(&self) -> Option<(&'a Op, Element)> {
        match *self {
            Call::Reduce { op, element, .. }
            | Call::AllReduce { op, element, .. }
            | Call::ReduceScatterBlock { op, element, .. }
            | Call::Scan { op, element, .. }
            | Call::ExclusiveScan { op, element, .. } => Some((op, element)),
            _ => None,
        }
    }

    /// Packed bytes of this member's buffer: of the one to send, where it has one.
    #[cold]
    pub(crate) fn bytes(&self) -> usize {
        match (self.send(), self.recv()) {
            (Some(send), _) => send.len(),
            (None, Some(recv)) => recv.len(),
            (None, None) => 0,
        }
    }

    /// Bytes that one member contributes or gets, where all say the same.
    #[inline(always)]
    fn block(&self, size: usize) -> Option<usize> {
        match self {
            Call::Barrier => Some(0),
            Call::Broadcast { span, .. } => Some(span.len()),
            Call::Scatter { recv, .. } | Call::ReduceScatterBlock { recv, .. } => Some(recv.len()),
            Call::Gather { send, .. }
            | Call::AllGather { send, .. }
            | Call::Reduce { send, .. }
            | Call::AllReduce { send, .. }
            | Call::Scan { send, .. }
            | Call::ExclusiveScan { send, .. } => Some(send.len()),
            Call::AllToAll { send, .. } => Some(send.len() / size),
            Call::GatherVar { .. }
            | Call::ScatterVar { .. }
            | Call::AllGatherVar { .. }
            | Call::AllToAllVar { .. } => None,
        }
    }

    /// What all members must agree on.
    #[inline(always)]
    fn signature(&self, kind: CollKind, immediate: bool, size: usize) -> Signature {
        let block = self.block(size);
        let code = match (self, block) {
            // Whoever has no data has no type.
            (_, Some(0)) => TypeCode::UNCHECKED,
            (Call::Scatter { recv, .. }, _) => recv.code(),
            (Call::ScatterVar { recv, .. }, _) if recv.len() > 0 => recv.code(),
            (Call::ScatterVar { .. }, _) => TypeCode::UNCHECKED,
            _ => match (self.send(), self.recv()) {
                (Some(send), _) if block.is_some() || send.len() > 0 => send.code(),
                (None, Some(recv)) => recv.code(),
                _ => TypeCode::UNCHECKED,
            },
        };
        let op = self.op().map_or(0, |(op, _)| op.number());
        // 0 goes with every count, so a count of no bytes is 1.
        let count = block.map_or(0, |bytes| bytes as u64 + 1);
        Signature::new(kind, immediate, self.root(), op, code, count)
    }

    /// What the schedules depend on, where all members give or get the same, or know what each gives.
    fn asked(&self, size: usize) -> Option<Asked> {
        let (bytes, parts) = match self {
            Call::AllGather { send, .. } => (send.len(), plans::blocks(size, send.len())),
            Call::AllGatherVar { send, parts, .. } => (send.len(), parts.to_vec()),
            _ => (self.block(size)?, Vec::new()),
        };
        let fold = self.op().map(|(op, element)| schedules::Fold {
            bytes,
            element: unit(op, &element),
            ordered: kernels::order_matters(op, &element),
        });
        Some(Asked {
            kind: self.kind(),
            root: self.root().unwrap_or(0),
            bytes,
            parts,
            fold,
        })
    }

    /// The schedule of this member.
    fn plan(&self, c: &Communicator, costs: &Costs) -> Result<Plan> {
        let (size, rank) = (c.size(), c.rank());
        let Some(asked) = self.asked(size) else {
            return self.plan_of_varying_counts(size, rank);
        };
        let way = match c.hosts().count() {
            1 => Way::Flat,
            _ => choice::choose(c.hosts(), costs, &asked.question()),
        };
        asked.plan(c.hosts(), rank, way).ok_or_else(no_schedule)
    }

    fn plan_of_varying_counts(&self, size: usize, rank: usize) -> Result<Plan> {
        Ok(match self {
            Call::GatherVar { root, send, recv } => {
                let parts = recv.map_or(&[][..], |(_, parts)| parts);
                schedules::gather(size, rank, *root, send.len(), parts)
            }
            Call::ScatterVar { root, send, recv } => {
                let parts = send.map_or(&[][..], |(_, parts)| parts);
                schedules::scatter(size, rank, *root, recv.len(), parts)
            }
            Call::AllToAllVar {
                send_parts,
                recv_parts,
                ..
            } => schedules::all_to_all(size, rank, send_parts, recv_parts),
            _ => return Err(no_schedule()),
        })
    }

    /// Whether it may run over cells: decided by what all members know alike.
    #[inline(always)]
    fn fits_cells(&self, size: usize) -> bool {
        match self.op() {
            Some((op, element)) => cells::takes_elements_of(unit(op, &element), size),
            None => self.block(size).is_some(),
        }
    }

    #[inline(always)]
    fn run_over_cells(&self, run: &cells::Run<'_>, kernel: Option<&Kernel>) -> Result<()> {
        let operator = kernel
            .zip(self.op())
            .map(|(kernel, (op, element))| cells::Operator {
                kernel,
                unit: unit(op, &element),
            });
        match (*self, operator) {
            (Call::Barrier, _) => cells::barrier(run),
            (Call::Broadcast { root, span }, _) => cells::broadcast(run, root, span),
            (Call::Gather { root, send, recv }, _) => cells::gather(run, root, send, recv),
            (Call::Scatter { root, send, recv }, _) => cells::scatter(run, root, send, recv),
            (Call::AllGather { send, recv }, _) => cells::all_gather(run, send, recv),
            (Call::AllToAll { send, recv }, _) => cells::all_to_all(run, send, recv),
            (
                Call::Reduce {
                    root, send, recv, ..
                },
                Some(operator),
            ) => cells::reduce(run, root, send, recv, operator),
            (Call::AllReduce { send, recv, .. }, Some(operator)) => {
                cells::all_reduce(run, send, recv, operator)
            }
            (Call::ReduceScatterBlock { send, recv, .. }, Some(operator)) => {
                cells::reduce_scatter_block(run, send, recv, operator)
            }
            (Call::Scan { send, recv, .. }, Some(operator)) => {
                cells::scan(run, send, recv, operator)
            }
            (Call::ExclusiveScan { send, recv, .. }, Some(operator)) => {
                cells::exclusive_scan(run, send, recv, operator)
            }
            // `fits_cells` lets nothing else through, and `prepare` makes a kernel for everything that has an operator.
            _ => Err(Error::new(
                ErrorClass::Internal,
                "a collective without cells came to the cells",
            )),
        }
    }

    /// The kernel, where there is an operator, and everything that can be wrong with the arguments.
    #[inline(always)]
    fn prepare(&self, c: &Communicator) -> Result<Option<Kernel>> {
        arguments::check(self, c)?;
        match self.op() {
            Some((op, element)) => Kernel::new(op, &element, self.kind().name()).map(Some),
            None => Ok(None),
        }
    }

    /// Where the packed source is read: at the root of a broadcast, from its only buffer.
    fn source(&self) -> Option<SendSpan> {
        match self {
            Call::Broadcast { span, .. } => Some(span.source()),
            _ => self.send().cloned(),
        }
    }

    /// The schedule with this member's buffers, ready to start.
    fn schedule(
        &self,
        c: &Communicator,
        kernel: Option<Kernel>,
        begun: &Begun,
        engine: &Engine,
    ) -> Result<StartSchedule> {
        let plan = self.plan(c, engine.costs())?;
        let mut scratch = engine.take_scratch(plan.schedule.scratch);
        if let Some(source) = self.source() {
            for (part, to) in &plan.inputs {
                source.pack_at(part.at, &mut scratch[*to..to + part.bytes]);
            }
        }
        let mut results = Vec::with_capacity(plan.outputs.len());
        if let Some(recv) = self.recv() {
            for (from, at) in plan.outputs {
                let span = recv.part(at, from.len()).ok_or_else(|| {
                    Error::new(
                        ErrorClass::Count,
                        format!("{} was given parts that cut an element", self.kind().name()),
                    )
                })?;
                results.push((from, span));
            }
        }
        let combine = kernel.map(|kernel| -> Combine {
            Arc::new(move |input, inout| kernel.combine(input, inout))
        });
        Ok(StartSchedule {
            schedule: plan.schedule,
            scratch,
            combine,
            results,
            signature: begun.signature,
            sequence: begun.sequence,
        })
    }
}

#[cold]
fn no_schedule() -> Error {
    Error::new(
        ErrorClass::Internal,
        "a collective came to the schedules that has none",
    )
}

/// The bytes at whose multiples contributions may be cut: predefined operators work on basic items, a user's on elements.
#[inline(always)]
fn unit(op: &Op, element: &Element) -> usize {
    match (op, element.basic) {
        (Op::Predefined(_), Some(basic)) => basic.size(),
        _ => element.size.max(1),
    }
}

/// Does `call` and returns when this rank's part is done: its buffers may be used again.
///
/// Each collective is compiled for itself: what a call has to ask of its kind takes as long as the message's way to the other core
/// (8 bytes near: a barrier 96 ns, of which the line's way is 57).
#[inline(always)]
pub(crate) fn run(engine: &Engine, c: &Communicator, call: Call<'_>, site: Site) -> Result<()> {
    macro_rules! each_for_itself {
        ($($kind:ident { $($field:ident: $of:ty),* })*) => {
            match call {
                // Taken apart, which goes through registers, and put together again, so that what it is stays known.
                $(Call::$kind { $($field),* } => {
                    #[inline(never)]
                    #[allow(clippy::too_many_arguments, reason = "they are the call's own, one for one")]
                    fn run(engine: &Engine, c: &Communicator, site: Site $(, $field: $of)*) -> Result<()> {
                        let call = Call::$kind { $($field),* };
                        blocking(engine, c, call, CollKind::$kind, site).map_err(|e| e.at(site))
                    }
                    run(engine, c, site $(, $field)*)
                })*
                _ => run_as(engine, c, call, call.kind(), site),
            }
        };
    }
    each_for_itself! {
        Barrier {}
        Broadcast { root: usize, span: &RecvSpan }
        Gather { root: usize, send: &SendSpan, recv: Option<&RecvSpan> }
        Scatter { root: usize, send: Option<&SendSpan>, recv: &RecvSpan }
        AllGather { send: &SendSpan, recv: &RecvSpan }
        AllToAll { send: &SendSpan, recv: &RecvSpan }
        Reduce { root: usize, send: &SendSpan, recv: Option<&RecvSpan>, op: &Op, element: Element }
        AllReduce { send: &SendSpan, recv: &RecvSpan, op: &Op, element: Element }
        ReduceScatterBlock { send: &SendSpan, recv: &RecvSpan, op: &Op, element: Element }
        Scan { send: &SendSpan, recv: &RecvSpan, op: &Op, element: Element }
        ExclusiveScan { send: &SendSpan, recv: &RecvSpan, op: &Op, element: Element }
    }
}

/// As [`run`], under the name of another collective of which `call` is a step.
#[inline(never)]
pub(crate) fn run_as(
    engine: &Engine,
    c: &Communicator,
    call: Call<'_>,
    kind: CollKind,
    site: Site,
) -> Result<()> {
    blocking(engine, c, call, kind, site).map_err(|e| e.at(site))
}

/// Between two groups: among both as one.
#[cold]
#[inline(never)]
fn between(
    engine: &Engine,
    inter: &Communicator,
    union: &Communicator,
    call: Call<'_>,
    kind: CollKind,
    site: Site,
) -> Result<()> {
    let exchange = Exchange::new(&call, kind, inter, union)?;
    run_as(engine, union, exchange.of(call), kind, site)
}

#[inline(always)]
fn blocking(
    engine: &Engine,
    c: &Communicator,
    call: Call<'_>,
    kind: CollKind,
    site: Site,
) -> Result<()> {
    if let Some(union) = c.union() {
        return between(engine, c, union, call, kind, site);
    }
    let kernel = call.prepare(c)?;
    let _occupied = c.occupy(engine)?;
    engine.is_open(site)?;
    let begun = c.begin(call.signature(kind, false, c.size()));
    match c.cells() {
        Some(cells) if call.fits_cells(c.size()) => {
            let run = cells::Run::new(engine, c, cells, begun, site);
            call.run_over_cells(&run, kernel.as_ref())?;
            run.finish()?;
        }
        _ => {
            return over_messages(engine, c, call, kernel, begun, (kind, site));
        }
    }
    settle(c, call, kind)
}

/// What came in is looked at where not everything is a value.
#[inline(always)]
fn settle(c: &Communicator, call: Call<'_>, kind: CollKind) -> Result<()> {
    match call.recv() {
        Some(recv) if recv.has_bools() => arguments::check_bools(kind.name(), call, recv, c),
        _ => Ok(()),
    }
}

/// A collective as a schedule of messages.
#[inline(never)]
fn over_messages(
    engine: &Engine,
    c: &Communicator,
    call: Call<'_>,
    kernel: Option<Kernel>,
    begun: Begun,
    (kind, site): (CollKind, Site),
) -> Result<()> {
    check::note(engine, c, &begun, site)?;
    let start = call.schedule(c, kernel, &begun, engine)?;
    let request = engine.start_schedule(c.comm(), start, site)?;
    let look = || check::look_around(engine, c, &begun, site);
    engine.wait_collective(request, &look, site)?;
    settle(c, call, kind)
}

/// Starts `call`. What is sent is read at once (packed); the memory of receive spans belongs to the request until it is complete.
pub(crate) fn start(
    engine: &Engine,
    c: &Communicator,
    call: Call<'_>,
    site: Site,
) -> Result<RequestId> {
    let starting = || {
        let (kind, exchange) = (call.kind(), &mut Exchange::default());
        let (c, call) = match c.union() {
            None => (c, call),
            Some(union) => {
                *exchange = Exchange::new(&call, kind, c, union)?;
                (&**union, exchange.of(call))
            }
        };
        let kernel = call.prepare(c)?;
        engine.is_open(site)?;
        let begun = c.begin(call.signature(kind, true, c.size()));
        check::note(engine, c, &begun, site)?;
        let start = call.schedule(c, kernel, &begun, engine)?;
        engine.start_schedule(c.comm(), start, site)
    };
    starting().map_err(|e: Error| e.at(site))
}
