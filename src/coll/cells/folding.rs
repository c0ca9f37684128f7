//! Collectives that combine. All of them fold strictly from the left in rank order; who does it and in which pieces shows in no bit.
use super::in_place::Offer;
use super::moving::{copy_own, in_lines, piece_at, share_of, write_pieces};
use super::slices::{halved, sliced};
use super::{Cut, Run, Step, Words, even, piece, words_of};
use crate::coll::kernels::{Folds, Kernel};
use crate::engine::{RecvSpan, SendSpan};
use crate::model::CollKind;
use crate::model::error::Result;
use crate::transport::shm::cells::{INLINE, SLOT, Window};
use crate::transport::shm::way::Way;
use core::iter::once;
use core::ops::Range;

/// Bytes that are combined at a time. A cell's bytes come in one long copy (measured: short ones, with or without prefetching, are a
/// third slower), and are still in the second-level cache when they are combined.
const BLOCK: usize = 16 * 1024;
/// Up to so many bytes of all members together every member folds all of them itself: one step instead of two.
const ALL_FOLD: usize = 32 * 1024;
/// From here on what comes out of another core's cache is folded as it comes; what comes from memory is faster in long copies.
const JOINED_FROM: usize = 2 * 1024;
/// Longer ones pass from member to member in a scan.
const SCAN_DIRECT: usize = 4 * 1024;
/// The longest element that is not cut and still goes through cells.
pub(super) const LONGEST_ELEMENT: usize = 4 * 1024;

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
pub(super) enum Source<'a> {
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
    pub(super) fn fold<'a>(
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
    pub(super) fn fold_to<'a>(
        &self,
        members: Range<usize>,
        len: usize,
        source: impl Fn(usize) -> Source<'a>,
        recv: &RecvSpan,
        to: usize,
    ) {
        if let (Kernel::Predefined(folds), 2) = (self.kernel, members.len()) {
            // Of two operands either may come first (see kernels).
            if let (Source::Cell(window), Source::Own(own, start))
            | (Source::Own(own, start), Source::Cell(window)) =
                (source(members.start), source(members.start + 1))
            {
                if own.contiguous_ptr().is_some() && recv.contiguous_ptr().is_some() {
                    return fold_two(folds, (own, start), &window.part(0, len), recv, to);
                }
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

/// This member's contribution, from a byte on, and another's into bytes `to..` of `recv`, all packed.
fn fold_two(
    folds: &Folds,
    (own, start): (&SendSpan, usize),
    other: &Window<'_>,
    recv: &RecvSpan,
    to: usize,
) {
    let len = other.len();
    let joined = match other.way() {
        Way::Around => false,
        Way::Through => len > JOINED_FROM,
        Way::Upwards => true,
    };
    if joined {
        let own = own.bytes_at(start, len, &mut []);
        return recv.change_at(to, len, &mut [], |out| (folds.join)(out, own, other));
    }
    for at in (0..len).step_by(BLOCK) {
        let n = BLOCK.min(len - at);
        recv.fill_from(to + at, &other.part(at, n));
        recv.change_at(to + at, n, &mut [], |acc| {
            (folds.fold)(acc, own.bytes_at(start + at, n, &mut []));
        });
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
        return sliced(run, CollKind::Reduce, send, recv, operator);
    }
    let offer = match recv {
        None => run.offer(CollKind::Reduce, send, once(root)),
        Some(_) => Offer::NONE,
    };
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
                run.contribute(&step, &offer, send, at, len)?;
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
                false => Source::Cell(run.piece_or_slots(member, &step, len)),
            };
            operator.fold_to(all.clone(), len, source, recv, at);
        }
        run.pass(&step);
    }
    run.withdraw(&offer, once(root))
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
    if bytes * size > ALL_FOLD {
        return match size {
            2 if run.is_on_mesh() => whole(run, send, recv, operator),
            2 => halved(run, send, recv, operator),
            _ => sliced(run, CollKind::AllReduce, send, Some(recv), operator),
        };
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

/// Each of two members writes all of its contribution, a piece ahead of what it reads, and folds everything: on a mesh that is faster than halves of it, for
/// reading costs little beside the waits for the other.
fn whole(run: &Run<'_>, send: &SendSpan, recv: &RecvSpan, operator: Operator<'_>) -> Result<()> {
    let (rank, other) = (run.rank(), 1 - run.rank());
    let offer = run.offer(CollKind::AllReduce, send, once(other));
    let cut = Cut::new(send.len(), even(send.len(), SLOT), operator.unit);
    let mut open: Option<(usize, Step)> = None;
    for i in 0..=cut.count() {
        let next = (i < cut.count()).then(|| (i, run.step(1)));
        if let Some((i, step)) = &next {
            let done = open.map_or(step.first, |(_, before)| before.first);
            run.contribute_ahead(step, &offer, send, cut.at(*i), cut.len(*i), done)?;
        }
        let Some((j, step)) = core::mem::replace(&mut open, next) else {
            continue;
        };
        run.wait(other, &step, j == 0)?;
        let piece = run.piece_or_slots(other, &step, cut.len(j));
        let source = |member| match member == rank {
            true => Source::Own(send, cut.at(j)),
            false => Source::Cell(piece),
        };
        operator.fold_to(0..2, cut.len(j), source, recv, cut.at(j));
        run.learn(step.first - 1);
        if next.is_none() {
            // The other one's contribution may be in place.
            run.pass(&step);
        }
    }
    run.withdraw(&offer, once(other))
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
    let cut = Cut::new(bytes, room.min(in_lines(bytes)), operator.unit);
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
        if rank == 0 {
            let mine = run.claim_slots(&step, len)?.part(0, len);
            run.write(len, || send.pack_to(at, &mine));
            run.announce_slots(&step, step.first);
            if inclusive {
                copy_own(send, at, recv, at, len);
            }
            continue;
        }
        run.wait(rank - 1, &step, i == 0)?;
        let before = run.slots(rank - 1, &step).part(0, len);
        let source = |k| match k {
            0 => Source::Cell(before),
            _ => Source::Own(send, at),
        };
        if !inclusive {
            recv.fill_from(at, &before);
        }
        if rank + 1 == run.size() {
            if inclusive {
                operator.fold_to(0..2, len, source, recv, at);
            }
            run.pass(&step);
            continue;
        }
        let mine = run.claim_slots(&step, len)?.part(0, len);
        operator.fold(0..2, len, source, |to, block| {
            mine.part(to, block.len()).write(block);
            if inclusive {
                recv.fill_at(at + to, block);
            }
        });
        run.announce_slots(&step, step.first);
    }
    Ok(())
}
