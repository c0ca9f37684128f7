//! Reductions in which every member folds a part of everything, and the others take that from it.
use super::folding::{LONGEST_ELEMENT, Operator, Source};
use super::{Cut, LARGE, Run, Step};
use crate::coll::kernels::Kernel;
use crate::engine::{RecvSpan, SendSpan};
use crate::model::CollKind;
use crate::model::error::Result;
use crate::transport::shm::cells::{SLOT, Window};
use core::iter::{empty, once};
use core::ops::Range;

/// Bytes that the members fold in slices in one large step, and room for the longest slice behind them.
const SLICED_PIECE: usize = 80 * 1024;
/// Bytes that two members fold at a time where they are copied on at once.
const JOINED: usize = 4 * 1024;

const _: () = assert!(JOINED >= LONGEST_ELEMENT);
const _: () = assert!(
    SLICED_PIECE.div_ceil(3) + LONGEST_ELEMENT <= LARGE as usize * SLOT - SLICED_PIECE
        && SLICED_PIECE % 64 == 0
);

/// Of each piece both members write the half that the other folds, fold theirs, write that for the other, and take the other's. So each half of a
/// contribution is read once, and a piece has three phases in which one stream of bytes goes into shared memory and one comes out of it; the longer they
/// are, the better. (Bare loops, Zen 4 near, beside both members folding everything from pieces of 16 and 32 KiB: 64 KiB 4.0 us and 5.2, 1 MiB 54 and 80;
/// in pieces of 128 KiB 60; far around the cache 6.6 and 7.7, 83 and 96.)
pub(super) fn halved(
    run: &Run<'_>,
    send: &SendSpan,
    recv: &RecvSpan,
    operator: Operator<'_>,
) -> Result<()> {
    let (rank, other) = (run.rank(), 1 - run.rank());
    let (bytes, unit) = (send.len(), operator.unit);
    // Whoever announces a result has folded its half of the piece: what lies in place has been read when the last one was heard.
    let offer = run.offer(CollKind::AllReduce, send, once(other));
    let mut at = 0;
    while at < bytes {
        // Pieces of one length, as far as elements allow, whose halves fit.
        let most = 2 * (run.large_room() - LONGEST_ELEMENT);
        let left = bytes - at;
        let len = left.div_ceil(left.div_ceil(most)).next_multiple_of(unit);
        let edge = at + len / unit / 2 * unit;
        let half = |member| {
            if member == 0 {
                at..edge
            } else {
                edge..at + len
            }
        };
        let (mine, theirs) = (half(rank), half(other));

        let step = run.step(LARGE);
        run.contribute(&step, &offer, send, theirs.start, theirs.len())?;

        let result = run.step(LARGE);
        run.wait(other, &step, at == 0)?;
        run.learn(step.first);
        let from = run.piece_of(other, &step, mine.len())?;
        let slots = run.claim_slots(&result, mine.len())?;
        operator.fold_half(run, send, recv, mine, &from, &slots);
        run.announce_slots(&result, result.first);

        run.wait(other, &result, false)?;
        run.learn(result.first);
        run.note_long(&result);
        let from = run.piece_of(other, &result, theirs.len())?;
        recv.fill_from(theirs.start, &from);
        at += len;
    }
    run.withdraw(&offer, empty())
}

/// Every member folds a slice of each piece; those with a destination collect the slices one step later.
pub(super) fn sliced(
    run: &Run<'_>,
    kind: CollKind,
    send: &SendSpan,
    recv: Option<&RecvSpan>,
    operator: Operator<'_>,
) -> Result<()> {
    let (rank, size) = (run.rank(), run.size());
    let cut = Cut::new(send.len(), SLICED_PIECE, operator.unit);
    let slice = |i: usize, member: usize| {
        let units = cut.len(i) / operator.unit;
        let edge = |k: usize| units * k / size * operator.unit;
        edge(member)..edge(member + 1)
    };
    // Whoever announces the last step has folded its slice of everything: what lies in place has been read when all were heard.
    let offer = run.offer(kind, send, run.others());
    let mut last: Option<Step> = None;
    for i in 0..=cut.count() {
        let step = run.step(LARGE);
        let slots = run.claim_slots(&step, LARGE as usize * SLOT)?;
        if i < cut.count() && !offer.is_in_place() {
            // All but the slice that this member folds itself.
            let mine = slice(i, rank);
            run.write(cut.len(i) - mine.len(), || {
                for part in [0..mine.start, mine.end..cut.len(i)] {
                    send.pack_to(cut.at(i) + part.start, &slots.part(part.start, part.len()));
                }
            });
        }
        if let Some(before) = last.replace(step) {
            let mine = slice(i - 1, rank);
            let start = cut.at(i - 1) + mine.start;
            let source = |member| match member == rank {
                true => Source::Own(send, start),
                false => {
                    let slots = || run.slots(member, &before).part(mine.start, mine.len());
                    let there = run.contribution_of(member, &before, mine.start, mine.len());
                    Source::Cell(there.unwrap_or_else(slots))
                }
            };
            operator.fold(0..size, mine.len(), source, |at, block| {
                slots.part(SLICED_PIECE + at, block.len()).write(block);
                if let Some(recv) = recv {
                    recv.fill_at(start + at, block);
                }
            });
        }
        let contributed = cut.at(i.min(cut.count() - 1));
        run.announce_both(&step, &offer, contributed);
        for member in run.others() {
            run.wait(member, &step, i == 0)?;
            run.heed(member, &step);
            let (Some(recv), true) = (recv, i > 0) else {
                continue;
            };
            let slice = slice(i - 1, member);
            let result = run.slots(member, &step).part(SLICED_PIECE, slice.len());
            recv.fill_from(cut.at(i - 1) + slice.start, &result);
        }
        run.learn(step.first);
    }
    run.withdraw(&offer, empty())
}

impl Operator<'_> {
    /// Folds bytes `mine` of two members' contributions, of which `from` has the other's, to where they belong and to `slots`.
    fn fold_half(
        &self,
        run: &Run<'_>,
        send: &SendSpan,
        recv: &RecvSpan,
        mine: Range<usize>,
        from: &Window<'_>,
        slots: &Window<'_>,
    ) {
        let rank = run.rank();
        // Small enough to be in the first-level cache when it is written for the other, unless that is timed or goes around the cache.
        let block = match self.kernel {
            Kernel::Predefined(_) if run.writes_through() => JOINED / self.unit * self.unit,
            _ => mine.len(),
        };
        let mut end = mine.len();
        while end > 0 {
            let at = (end - 1) / block * block;
            let len = end - at;
            let source = |member| match member == rank {
                true => Source::Own(send, mine.start + at),
                false => Source::Cell(from.part(at, len)),
            };
            self.fold_to(0..2, len, source, recv, mine.start + at);
            run.write(len, || {
                let result = recv.source();
                result.pack_to(mine.start + at, &slots.part(at, len));
            });
            end = at;
        }
    }
}
