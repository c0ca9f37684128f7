//! Collectives that combine. All of them fold strictly from the left in rank order; who does it and in which pieces shows in no bit.
use super::moving::{piece_at, share_of, write_pieces};
use super::{Cut, LARGE, Run, Step, Words, piece, words_of};
use crate::coll::kernels::Kernel;
use crate::engine::{RecvSpan, SendSpan};
use crate::model::error::Result;
use crate::transport::shm::cells::{INLINE, SLOT, Window};
use core::ops::Range;

/// Bytes that are combined at a time. A cell's bytes come in one long copy (measured: short ones, with or without prefetching, are a
/// third slower), and are still in the second-level cache when they are combined.
const BLOCK: usize = 16 * 1024;
/// Up to so many bytes of all members together every member folds all of them itself: one step instead of two.
const ALL_FOLD: usize = 32 * 1024;
/// Longer ones pass from member to member in a scan.
const SCAN_DIRECT: usize = 4 * 1024;
/// Bytes that the members fold in slices in one large step, and room for the longest slice behind them.
const SLICED_PIECE: usize = 80 * 1024;
/// The longest element that is not cut and still goes through cells.
const LONGEST_ELEMENT: usize = 4 * 1024;

const _: () = assert!(
    SLICED_PIECE.div_ceil(3) + LONGEST_ELEMENT <= LARGE as usize * SLOT - SLICED_PIECE
        && SLICED_PIECE % 64 == 0
);

/// Whether reductions of elements that are cut only every `unit` bytes go through cells on a communicator of `size`.
pub(in crate::coll) fn takes_elements_of(unit: usize, size: usize) -> bool {
    unit <= LONGEST_ELEMENT && unit * (size - 1) <= SLOT
}

/// An operator and the bytes at whose multiples contributions may be cut.
#[derive(Clone, Copy)]
pub(in crate::coll) struct Operator<'k> {
    pub(in crate::coll) kernel: &'k Kernel,
    pub(in crate::coll) unit: usize,
}

/// Where a fold finds the contribution of a member, `at` bytes into it.
enum Source<'a> {
    Own(&'a SendSpan, usize),
    Cell(Window<'a>),
}

impl Source<'_> {
    fn read(&self, at: usize, out: &mut [u8]) {
        match self {
            Source::Own(span, start) => span.pack_at(start + at, out),
            Source::Cell(window) => window.part(at, out.len()).read(out),
        }
    }
}

impl Operator<'_> {
    /// Folds `len` bytes of the contributions of `members` in their order, block by block: `put(at, block)` takes each result.
    fn fold<'a>(
        &self,
        members: Range<usize>,
        len: usize,
        source: impl Fn(usize) -> Source<'a>,
        mut put: impl FnMut(usize, &[u8]),
    ) {
        let block = (BLOCK / self.unit).max(1) * self.unit;
        let mut room = vec![0_u8; 2 * block.min(len)];
        let (acc, next) = room.split_at_mut(block.min(len));
        for at in (0..len).step_by(block) {
            let n = block.min(len - at);
            for member in members.clone() {
                if member == members.start {
                    source(member).read(at, &mut acc[..n]);
                } else {
                    source(member).read(at, &mut next[..n]);
                    self.kernel.fold(&mut acc[..n], &mut next[..n]);
                }
            }
            put(at, &acc[..n]);
        }
    }

    /// As [`Operator::fold`] into bytes `to..` of `recv`.
    fn fold_to<'a>(
        &self,
        members: Range<usize>,
        len: usize,
        source: impl Fn(usize) -> Source<'a>,
        recv: &RecvSpan,
        to: usize,
    ) {
        if let (Kernel::Predefined(fold), 2, true) =
            (self.kernel, members.len(), recv.contiguous_ptr().is_some())
        {
            // Of two operands either may come first (see kernels): the cell's is copied straight into place.
            let (window, own, start) = match (source(members.start), source(members.start + 1)) {
                (Source::Cell(window), Source::Own(own, start))
                | (Source::Own(own, start), Source::Cell(window)) => (window, own, start),
                _ => {
                    return self.fold(members, len, source, |at, block| {
                        recv.fill_at(to + at, block)
                    });
                }
            };
            if own.contiguous_ptr().is_some() {
                for at in (0..len).step_by(BLOCK) {
                    let n = BLOCK.min(len - at);
                    recv.fill_from(to + at, &window.part(at, n));
                    recv.change_at(to + at, n, &mut [], |acc| {
                        fold(acc, own.bytes_at(start + at, n, &mut []));
                    });
                }
                return;
            }
        }
        self.fold(members, len, source, |at, block| {
            recv.fill_at(to + at, block);
        });
    }

    /// The fold of the inline contributions of `members`.
    fn fold_inline(
        &self,
        run: &Run<'_>,
        step: &Step,
        members: Range<usize>,
        own: &[u8],
        from: impl Fn(usize) -> usize,
    ) -> [u8; INLINE] {
        let mut acc = [0; INLINE];
        let n = own.len();
        for member in members.clone() {
            let mut next = [0; INLINE];
            if member == run.rank() {
                next[..n].copy_from_slice(own);
            } else {
                let words = run.words(member, step);
                let at = from(member);
                next[..n].copy_from_slice(&words[at..at + n]);
            }
            if member == members.start {
                acc = next;
            } else {
                self.kernel.fold(&mut acc[..n], &mut next[..n]);
            }
        }
        acc
    }
}

fn own_bytes(send: &SendSpan, at: usize, len: usize) -> [u8; INLINE] {
    let mut own = [0; INLINE];
    send.pack_at(at, &mut own[..len]);
    own
}

#[inline(always)]
pub(in crate::coll) fn reduce(
    run: &Run<'_>,
    root: usize,
    send: &SendSpan,
    recv: Option<&RecvSpan>,
    operator: Operator<'_>,
) -> Result<()> {
    let bytes = send.len();
    let all = 0..run.size();
    let inline = bytes <= INLINE;
    if !inline && run.size() > 2 && bytes * run.size() > ALL_FOLD {
        return sliced(run, send, recv, operator);
    }
    let most = if inline { INLINE } else { piece(bytes) };
    let cut = Cut::new(bytes, most, operator.unit);
    for i in 0..cut.count() {
        let step = run.step(1);
        let (at, len) = (cut.at(i), cut.len(i));
        let Some(recv) = recv else {
            if inline {
                run.claim_line(&step)?;
                run.announce_and_go_on(&step, &words_of(send, 0, bytes));
            } else {
                let slots = run.claim_slots(&step, len)?;
                run.write(len, || send.pack_to(at, &slots.part(0, len)));
                run.announce_slots(&step, step.first);
            }
            continue;
        };
        for member in run.others() {
            run.wait(member, &step, i == 0)?;
        }
        run.learn(step.first);
        if inline {
            let own = own_bytes(send, 0, bytes);
            let result = operator.fold_inline(run, &step, all.clone(), &own[..bytes], |_| 0);
            recv.fill_at(0, &result[..bytes]);
        } else {
            let source = |member| match member == root {
                true => Source::Own(send, at),
                false => Source::Cell(run.slots(member, &step)),
            };
            operator.fold_to(all.clone(), len, source, recv, at);
        }
        run.pass(&step);
    }
    Ok(())
}

#[inline(always)]
pub(in crate::coll) fn all_reduce(
    run: &Run<'_>,
    send: &SendSpan,
    recv: &RecvSpan,
    operator: Operator<'_>,
) -> Result<()> {
    let bytes = send.len();
    let (rank, size) = (run.rank(), run.size());
    if bytes == 8 {
        return all_reduce_word(run, send, recv, operator);
    }
    if bytes <= INLINE {
        let step = run.step(1);
        run.claim_line(&step)?;
        let own = own_bytes(send, 0, bytes);
        run.announce(&step, step.first, &super::to_words(&own));
        for member in run.others() {
            run.wait(member, &step, true)?;
        }
        run.learn(step.first);
        let result = operator.fold_inline(run, &step, 0..size, &own[..bytes], |_| 0);
        recv.fill_at(0, &result[..bytes]);
        return Ok(());
    }
    if size > 2 && bytes * size > ALL_FOLD {
        return sliced(run, send, Some(recv), operator);
    }
    let most = if size > 2 { SLOT } else { piece(bytes) };
    let cut = Cut::new(bytes, most, operator.unit);
    run.exchange(
        cut.count(),
        1,
        cut.piece.min(bytes),
        |i, slots| send.pack_to(cut.at(i), &slots.part(0, cut.len(i))),
        |i, step| {
            for member in run.others() {
                run.wait(member, step, i == 0)?;
            }
            let source = |member| match member == rank {
                true => Source::Own(send, cut.at(i)),
                false => Source::Cell(run.slots(member, step)),
            };
            operator.fold_to(0..size, cut.len(i), source, recv, cut.at(i));
            Ok(())
        },
    )
}

/// The shortest and most frequent one, without copies of unknown length.
#[inline(always)]
fn all_reduce_word(
    run: &Run<'_>,
    send: &SendSpan,
    recv: &RecvSpan,
    operator: Operator<'_>,
) -> Result<()> {
    let step = run.step(1);
    run.claim_line(&step)?;
    let mut own = [0; 8];
    send.pack_at(0, &mut own);
    let mut words = Words::default();
    words[0] = u64::from_ne_bytes(own);
    run.announce(&step, step.first, &words);
    for member in run.others() {
        run.wait(member, &step, true)?;
    }
    run.learn(step.first);
    let word_of = |member| match member == run.rank() {
        true => own,
        false => run.word(member, &step).to_ne_bytes(),
    };
    let mut acc = word_of(0);
    for member in 1..run.size() {
        operator.kernel.fold(&mut acc, &mut word_of(member));
    }
    recv.fill_at(0, &acc);
    Ok(())
}

/// Every member folds a slice of each piece; those with a destination collect the slices one step later.
fn sliced(
    run: &Run<'_>,
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
    let mut last: Option<Step> = None;
    for i in 0..=cut.count() {
        let step = run.step(LARGE);
        let slots = run.claim_slots(&step, LARGE as usize * SLOT)?;
        if i < cut.count() {
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
                    let window = run.slots(member, &before);
                    Source::Cell(window.part(mine.start, mine.len()))
                }
            };
            operator.fold(0..size, mine.len(), source, |at, block| {
                slots.part(SLICED_PIECE + at, block.len()).write(block);
                if let Some(recv) = recv {
                    recv.fill_at(start + at, block);
                }
            });
        }
        run.announce_slots(&step, step.first);
        for member in run.others() {
            run.wait(member, &step, i == 0)?;
            let (Some(recv), true) = (recv, i > 0) else {
                continue;
            };
            let slice = slice(i - 1, member);
            let result = run.slots(member, &step).part(SLICED_PIECE, slice.len());
            recv.fill_from(cut.at(i - 1) + slice.start, &result);
        }
        run.learn(step.first);
    }
    Ok(())
}

#[inline(always)]
pub(in crate::coll) fn reduce_scatter_block(
    run: &Run<'_>,
    send: &SendSpan,
    recv: &RecvSpan,
    operator: Operator<'_>,
) -> Result<()> {
    let (rank, size) = (run.rank(), run.size());
    let bytes = recv.len();
    let room = share_of(if size > 2 { SLOT } else { piece(bytes) }, size);
    let cut = Cut::new(bytes, room, operator.unit);
    run.exchange(
        cut.count(),
        1,
        (size - 1) * cut.piece,
        |i, slots| write_pieces(run, send, &cut, i, slots),
        |i, step| {
            for member in run.others() {
                run.wait(member, step, i == 0)?;
            }
            let source = |member| match member == rank {
                true => Source::Own(send, rank * bytes + cut.at(i)),
                false => {
                    let at = piece_at(&cut, member, rank);
                    Source::Cell(run.slots(member, step).part(at, cut.len(i)))
                }
            };
            operator.fold_to(0..size, cut.len(i), source, recv, cut.at(i));
            Ok(())
        },
    )
}

#[inline(always)]
pub(in crate::coll) fn scan(
    run: &Run<'_>,
    send: &SendSpan,
    recv: &RecvSpan,
    operator: Operator<'_>,
) -> Result<()> {
    prefix(run, send, recv, operator, true)
}

#[inline(always)]
pub(in crate::coll) fn exclusive_scan(
    run: &Run<'_>,
    send: &SendSpan,
    recv: &RecvSpan,
    operator: Operator<'_>,
) -> Result<()> {
    prefix(run, send, recv, operator, false)
}

fn prefix(
    run: &Run<'_>,
    send: &SendSpan,
    recv: &RecvSpan,
    operator: Operator<'_>,
    inclusive: bool,
) -> Result<()> {
    let (rank, bytes) = (run.rank(), send.len());
    if bytes > SCAN_DIRECT {
        return chain(run, send, recv, operator, inclusive);
    }
    // Small ones: everybody folds the contributions of all members before itself.
    let members = 0..rank + inclusive as usize;
    let step = run.step(1);
    let inline = bytes <= INLINE;
    if inline {
        run.claim_line(&step)?;
        run.announce_and_go_on(&step, &words_of(send, 0, bytes));
    } else {
        send.pack_to(0, &run.claim_slots(&step, bytes)?.part(0, bytes));
        run.announce_slots(&step, step.first);
    }
    for member in 0..rank {
        run.wait(member, &step, true)?;
    }
    if members.is_empty() {
        return Ok(());
    }
    if inline {
        let own = own_bytes(send, 0, bytes);
        let result = operator.fold_inline(run, &step, members, &own[..bytes], |_| 0);
        recv.fill_at(0, &result[..bytes]);
    } else {
        let source = |member| match member == rank {
            true => Source::Own(send, 0),
            false => Source::Cell(run.slots(member, &step)),
        };
        operator.fold(members, bytes, source, |at, block| recv.fill_at(at, block));
    }
    Ok(())
}

/// Long ones: every member takes the fold of all before it from its neighbour, adds its own, and passes that on.
fn chain(
    run: &Run<'_>,
    send: &SendSpan,
    recv: &RecvSpan,
    operator: Operator<'_>,
    inclusive: bool,
) -> Result<()> {
    let rank = run.rank();
    let cut = Cut::new(send.len(), piece(send.len()), operator.unit);
    for i in 0..cut.count() {
        let step = run.step(1);
        let (at, len) = (cut.at(i), cut.len(i));
        let mine = run.claim_slots(&step, len)?.part(0, len);
        if rank == 0 {
            run.write(len, || send.pack_to(at, &mine));
        } else {
            run.wait(rank - 1, &step, i == 0)?;
            let before = run.slots(rank - 1, &step);
            if !inclusive {
                recv.fill_from(at, &before.part(0, len));
            }
            let source = |k| match k {
                0 => Source::Cell(before),
                _ => Source::Own(send, at),
            };
            operator.fold(0..2, len, source, |to, block| {
                mine.part(to, block.len()).write(block);
            });
        }
        if inclusive {
            recv.fill_from(at, &mine);
        }
        run.announce_slots(&step, step.first);
    }
    Ok(())
}
