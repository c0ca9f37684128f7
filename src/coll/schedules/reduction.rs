//! Reductions. Where the grouping of operands shows in the result, all of them fold strictly from the left in rank order.
use super::rooted::add_broadcast;
use super::{Builder, Plan, combine, receive, send};
use crate::coll::Part;
use core::ops::Range;

/// What the order and the cutting of a reduction depend on; equal on all members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::coll) struct Fold {
    /// Packed bytes of a member's contribution.
    pub(in crate::coll) bytes: usize,
    /// Packed bytes of an element, which is never cut.
    pub(in crate::coll) element: usize,
    /// Whether the grouping of operands shows.
    pub(in crate::coll) ordered: bool,
}

/// Up to this many bytes at the root an ordered reduction gathers all contributions (one hop); above it they pass along a chain.
const GATHER: usize = 32 * 1024;
/// Pieces of a chain: long enough that a message's cost is small, short enough that all links work at once.
const PIECE: usize = 64 * 1024;

fn pieces(fold: &Fold) -> Vec<Range<usize>> {
    let element = fold.element.max(1);
    let piece = (PIECE / element).max(1) * element;
    (0..fold.bytes)
        .step_by(piece)
        .map(|at| at..(at + piece).min(fold.bytes))
        .collect()
}

fn sub(room: &Range<usize>, piece: &Range<usize>) -> Range<usize> {
    room.start + piece.start..room.start + piece.end
}

/// Adds the chain 0, 1, ...: afterwards `own` holds the fold of all members up to this one, and `prefix` that of those before it.
fn add_chain(b: &mut Builder, fold: &Fold, own: &Range<usize>, prefix: &Range<usize>) {
    let mut outgoing = None;
    for piece in pieces(fold) {
        let mine = sub(own, &piece);
        let mut transfers: Vec<_> = outgoing.take().into_iter().collect();
        let mut then = Vec::new();
        if b.rank > 0 {
            let before = sub(prefix, &piece);
            transfers.push(receive(b.rank - 1, &before));
            then.push(combine(&before, &mine));
        }
        b.round(transfers, then);
        if b.rank + 1 < b.size {
            outgoing = Some(send(b.rank + 1, &mine));
        }
    }
    if let Some(last) = outgoing {
        b.round(vec![last], Vec::new());
    }
}

/// Adds a reduction to `root`; the room where the root finds the result.
fn add_reduce(b: &mut Builder, root: usize, fold: &Fold) -> Range<usize> {
    let own = b.input(0, fold.bytes);
    let last = b.size - 1;
    if !fold.ordered {
        return add_tree(b, root, fold, own);
    }
    if b.size * fold.bytes <= GATHER {
        if b.rank != root {
            b.round(vec![send(root, &own)], Vec::new());
            return own;
        }
        let rooms: Vec<_> = (0..b.size)
            .map(|member| match member == root {
                true => own.clone(),
                false => b.room(fold.bytes),
            })
            .collect();
        let transfers = (0..b.size)
            .filter(|m| *m != root)
            .map(|m| receive(m, &rooms[m]))
            .collect();
        let then = rooms.windows(2).map(|w| combine(&w[0], &w[1])).collect();
        b.round(transfers, then);
        return rooms[last].clone();
    }
    let prefix = b.room(if b.rank > 0 { fold.bytes } else { 0 });
    add_chain(b, fold, &own, &prefix);
    // The result goes to the root in a round of its own: a root that sat in the middle of the chain would else have to receive it
    // while it still passes pieces on.
    if root != last && b.rank == last {
        b.round(vec![send(root, &own)], Vec::new());
    }
    if root != last && b.rank == root {
        b.round(vec![receive(last, &own)], Vec::new());
    }
    own
}

/// A binomial tree, for operators whose grouping does not show.
fn add_tree(b: &mut Builder, root: usize, fold: &Fold, own: Range<usize>) -> Range<usize> {
    let size = b.size;
    let place = (b.rank + size - root) % size;
    let member = |place: usize| (place + root) % size;
    let mut incoming = None;
    let mut distance = 1;
    while distance < size {
        if place & distance != 0 {
            b.round(vec![send(member(place - distance), &own)], Vec::new());
            break;
        }
        if place + distance < size {
            let room = incoming.get_or_insert_with(|| b.room(fold.bytes)).clone();
            b.round(
                vec![receive(member(place + distance), &room)],
                vec![combine(&room, &own)],
            );
        }
        distance *= 2;
    }
    own
}

pub(in crate::coll) fn reduce(size: usize, rank: usize, root: usize, fold: &Fold) -> Plan {
    let mut b = Builder::new(size, rank);
    let result = add_reduce(&mut b, root, fold);
    if rank == root {
        b.output(result, 0);
    }
    b.done()
}

/// A reduction and a broadcast, to and from the member where the fold ends.
pub(in crate::coll) fn all_reduce(size: usize, rank: usize, fold: &Fold) -> Plan {
    let mut b = Builder::new(size, rank);
    let chained = fold.ordered && size * fold.bytes > GATHER;
    let root = if chained { size - 1 } else { 0 };
    let result = add_reduce(&mut b, root, fold);
    add_broadcast(&mut b, root, &result);
    b.output(result, 0);
    b.done()
}

pub(in crate::coll) fn scan(size: usize, rank: usize, fold: &Fold) -> Plan {
    let mut b = Builder::new(size, rank);
    let own = b.input(0, fold.bytes);
    let prefix = b.room(if rank > 0 { fold.bytes } else { 0 });
    add_chain(&mut b, fold, &own, &prefix);
    b.output(own, 0);
    b.done()
}

/// Rank 0 has no result.
pub(in crate::coll) fn exclusive_scan(size: usize, rank: usize, fold: &Fold) -> Plan {
    let mut b = Builder::new(size, rank);
    let own = b.input(0, fold.bytes);
    let prefix = b.room(if rank > 0 { fold.bytes } else { 0 });
    add_chain(&mut b, fold, &own, &prefix);
    if rank > 0 {
        b.output(prefix, 0);
    }
    b.done()
}

/// Every member collects all contributions to its block and folds them. `fold.bytes` is one block's.
pub(in crate::coll) fn reduce_scatter_block(size: usize, rank: usize, fold: &Fold) -> Plan {
    let mut b = Builder::new(size, rank);
    let block = |member: usize| Part {
        at: member * fold.bytes,
        bytes: fold.bytes,
    };
    let rooms: Vec<_> = (0..size)
        .map(|member| match member == rank {
            true => b.input(block(rank).at, fold.bytes),
            false => b.room(fold.bytes),
        })
        .collect();
    for step in 1..size {
        let (to, from) = (b.after(step), b.before(step));
        let out = b.input(block(to).at, fold.bytes);
        b.round(
            vec![send(to, &out), receive(from, &rooms[from])],
            Vec::new(),
        );
    }
    let then = rooms.windows(2).map(|w| combine(&w[0], &w[1])).collect();
    b.round(Vec::new(), then);
    b.output(rooms[size - 1].clone(), 0);
    b.done()
}
