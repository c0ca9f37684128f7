//! The schedule runner: starts a round's transfers together, and goes on when all are complete.
use super::comm::Members;
use super::receiving::self_checked;
use super::requests::{Receive, RecvPhase, Senders, State as Request};
use super::state::State;
use super::{Combine, Comm, Engine, Peer, RecvSpan, RequestId, SendMode, SendSpan, StartSchedule};
use crate::model::error::Result;
use crate::model::{
    Basic, Envelope, Error, ErrorClass, Local, Schedule, Signature, Site, Status, Transfer,
    TypeCode,
};
use core::ops::Range;

/// Scratch buffers of these lengths are kept for the next collective, one at a time: new memory costs a page fault for each 4 KiB, and zeroes.
const KEPT: core::ops::RangeInclusive<usize> = 256 * 1024..=16 * 1024 * 1024;

/// A collective under way.
pub(super) struct Run {
    context: u32,
    members: Members,
    rank: usize,
    schedule: Schedule,
    scratch: Vec<u8>,
    combine: Option<Combine>,
    results: Vec<(Range<usize>, RecvSpan)>,
    signature: Signature,
    tag: i32,
    site: Site,
    site_id: u32,
    /// The round whose transfers are under way, or whose local steps come next.
    round: usize,
    pending: Vec<RequestId>,
    failed: Option<Error>,
}

impl Run {
    pub(super) fn new(comm: &Comm, start: StartSchedule, site: Site, site_id: u32) -> Run {
        debug_assert!(start.scratch.len() >= start.schedule.scratch);
        Run {
            context: comm.context() | 1,
            members: comm.members().clone(),
            rank: comm.rank(),
            schedule: start.schedule,
            scratch: start.scratch,
            combine: start.combine,
            results: start.results,
            signature: start.signature,
            // Members number their collectives alike, so this tag keeps those that overlap apart; it may wrap after two thousand million.
            tag: (start.sequence & i32::MAX as u64) as i32,
            site,
            site_id,
            round: 0,
            pending: Vec::new(),
            failed: None,
        }
    }

    pub(super) fn pending(&self) -> &[RequestId] {
        &self.pending
    }

    /// Runs the local steps of the round that is complete. Called outside of the engine's state: operators are the user's functions.
    pub(super) fn compute(&mut self) {
        let Some(round) = self.schedule.rounds.get(self.round) else {
            return;
        };
        for step in &round.then {
            match (step, &self.combine) {
                (Local::Combine { input, inout }, Some(combine)) => {
                    let (a, b) = disjoint(&mut self.scratch, input, inout);
                    combine(a, b);
                }
                (Local::Combine { .. }, None) => {}
                (Local::Copy { from, to }, _) => self.scratch.copy_within(from.clone(), *to),
            }
        }
    }
}

/// Two ranges of a buffer, the second one to write.
fn disjoint<'a>(
    buffer: &'a mut [u8],
    input: &Range<usize>,
    inout: &Range<usize>,
) -> (&'a [u8], &'a mut [u8]) {
    if input.start < inout.start {
        let (low, high) = buffer.split_at_mut(inout.start);
        (&low[input.clone()], &mut high[..inout.len()])
    } else {
        let (low, high) = buffer.split_at_mut(input.start);
        (&high[..input.len()], &mut low[inout.clone()])
    }
}

impl Engine {
    /// A scratch buffer of at least `len` bytes, whatever they are: no schedule reads what it has not written.
    pub(crate) fn take_scratch(&self, len: usize) -> Vec<u8> {
        // Tests find whoever counts on zeroes.
        const BYTE: u8 = if cfg!(debug_assertions) { 0xa5 } else { 0 };
        if KEPT.contains(&len) {
            let kept = core::mem::take(&mut self.state.get().scratch);
            if kept.len() >= len {
                return kept;
            }
        }
        vec![BYTE; len]
    }
}

impl State {
    /// Starts a collective.
    pub(super) fn start_run(&mut self, run: Run) -> Result<RequestId> {
        let id = self.requests.add(Request::Run(Some(Box::new(run))));
        self.runs.push(id);
        self.start_rounds(id)?;
        Ok(id)
    }

    fn run(&mut self, id: RequestId) -> Option<&mut Run> {
        match self.requests.get(id)? {
            Request::Run(run) => run.as_deref_mut(),
            _ => None,
        }
    }

    /// Starts rounds from the current one on, until one has something to wait for or to compute.
    fn start_rounds(&mut self, id: RequestId) -> Result<()> {
        loop {
            let Some(run) = self.run(id) else {
                return Ok(());
            };
            let Some(round) = run.schedule.rounds.get(run.round) else {
                self.end_run(id);
                return Ok(());
            };
            let transfers = round.transfers.clone();
            let computes = !round.then.is_empty();
            // Receives first: a message that is on its way then finds its place.
            for transfer in &transfers {
                if let Transfer::Receive { from, part } = transfer {
                    self.start_part(id, *from, part, false)?;
                }
            }
            for transfer in &transfers {
                if let Transfer::Send { to, part } = transfer {
                    self.start_part(id, *to, part, true)?;
                }
            }
            let Some(run) = self.run(id) else {
                return Ok(());
            };
            if !run.pending.is_empty() {
                return Ok(());
            }
            if computes {
                self.ready.push(id);
                return Ok(());
            }
            run.round += 1;
        }
    }

    fn start_part(
        &mut self,
        id: RequestId,
        peer: usize,
        part: &Range<usize>,
        send: bool,
    ) -> Result<()> {
        let Some(run) = self.run(id) else {
            return Ok(());
        };
        assert!(
            part.start <= part.end && part.end <= run.scratch.len(),
            "a schedule's part lies in its scratch buffer"
        );
        let (world, context, tag, signature, site) = (
            run.members[peer],
            run.context,
            run.tag,
            run.signature,
            run.site,
        );
        // SAFETY: in bounds by the assertion. The scratch buffer is not touched otherwise before the round's transfers are complete.
        let ptr = unsafe { run.scratch.as_mut_ptr().add(part.start) };
        let request = if send {
            let envelope = Envelope {
                context,
                source: run.rank as u32,
                tag,
                bytes: part.len() as u64,
                code: TypeCode(signature.0),
                site: run.site_id,
                sync: false,
                ready: false,
            };
            // SAFETY: as above.
            let span = unsafe { SendSpan::contiguous(ptr, part.len(), TypeCode::UNCHECKED) };
            self.start_send(world, envelope, span, SendMode::Standard, site)?
        } else {
            let receive = Receive {
                context,
                from: Peer::Rank(peer),
                tag: Some(tag),
                // SAFETY: as above.
                span: unsafe { RecvSpan::contiguous(ptr, part.len(), Basic::Byte) },
                phase: RecvPhase::Posted,
                site,
                message: None,
                senders: Senders::One(world),
                collective: Some(signature),
                refused: None,
                asked: None,
            };
            Some(self.start_receive(receive)?)
        };
        if let (Some(request), Some(run)) = (request, self.run(id)) {
            run.pending.push(request);
        }
        Ok(())
    }

    /// Looks which rounds are complete.
    pub(super) fn advance_runs(&mut self) -> Result<bool> {
        let mut any = false;
        let mut at = 0;
        while at < self.runs.len() {
            let id = self.runs[at];
            any |= self.advance_run(id)?;
            if self.requests.is_complete(id) {
                self.runs.swap_remove(at);
            } else {
                at += 1;
            }
        }
        Ok(any)
    }

    fn advance_run(&mut self, id: RequestId) -> Result<bool> {
        let Some(run) = self.run(id) else {
            return Ok(false);
        };
        if run.pending.is_empty() {
            return Ok(false);
        }
        let mut pending = core::mem::take(&mut run.pending);
        let before = pending.len();
        let mut failed = None;
        pending.retain(|&part| match self.requests.take_result(part) {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(error)) => {
                failed.get_or_insert(error);
                false
            }
        });
        let moved = pending.len() < before;
        let empty = pending.is_empty();
        let Some(run) = self.run(id) else {
            return Ok(moved);
        };
        run.pending = pending;
        if run.failed.is_none() {
            run.failed = failed;
        }
        if empty {
            if run.failed.is_some() {
                self.end_run(id);
            } else if run.schedule.rounds[run.round].then.is_empty() {
                run.round += 1;
                self.start_rounds(id)?;
            } else {
                self.ready.push(id);
            }
        }
        Ok(moved)
    }

    /// The error of a collective that waits, if a member has sent something that shows that it is in another one: calls that differ run by
    /// schedules that differ, in which nobody need wait for that message.
    pub(super) fn is_elsewhere(&mut self, id: RequestId) -> Option<Error> {
        let run = self.run(id)?;
        let (context, tag, own) = (run.context, run.tag, run.signature);
        let held = self.contexts.of(context).leftovers();
        let (envelope, from) = held
            .map(|message| (message.envelope, message.from))
            .find(|(e, _)| e.tag == tag && !own.goes_with(Signature(e.code.0)))?;
        let (rank, segment) = (self.rank, self.segment.clone());
        // SAFETY: nothing is read or written through a span of no bytes.
        let none = unsafe { RecvSpan::contiguous(core::ptr::dangling_mut(), 0, Basic::Byte) };
        self_checked(rank, &segment, &none, Some(own), &envelope, from).err()
    }

    /// Takes a collective whose local steps are to be run.
    pub(super) fn take_ready(&mut self) -> Option<(RequestId, Box<Run>)> {
        while let Some(id) = self.ready.pop() {
            if let Some(Request::Run(run)) = self.requests.get(id) {
                if let Some(run) = run.take() {
                    return Some((id, run));
                }
            }
        }
        None
    }

    /// Puts it back and starts the next round.
    pub(super) fn put_back(&mut self, id: RequestId, mut run: Box<Run>) -> Result<()> {
        run.round += 1;
        if let Some(Request::Run(place)) = self.requests.get(id) {
            *place = Some(run);
        }
        self.start_rounds(id)
    }

    fn end_run(&mut self, id: RequestId) {
        let Some(run) = self.run(id) else { return };
        let result = match run.failed.take() {
            Some(error) => Err(error.at(run.site)),
            None => {
                for (part, span) in &run.results {
                    span.fill_at(0, &run.scratch[part.clone()]);
                }
                let bad = run.results.iter().find_map(|(part, span)| {
                    if span.has_bools() {
                        span.invalid_bool(part.len())
                    } else {
                        None
                    }
                });
                match bad {
                    None => Ok(Status::EMPTY),
                    Some(value) => Err(Error::new(
                        ErrorClass::Type,
                        format!(
                            "a collective brought the byte {value} for a bool, which must be 0 or 1; another member sent raw bytes"
                        ),
                    )
                    .at(run.site)),
                }
            }
        };
        let scratch = core::mem::take(&mut run.scratch);
        if KEPT.contains(&scratch.len()) && scratch.len() > self.scratch.len() {
            self.scratch = scratch;
        }
        self.requests.complete(id, result);
    }
}
