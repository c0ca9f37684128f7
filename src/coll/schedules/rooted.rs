//! Collectives in which one member gives or takes everything.
use super::{Builder, Plan, receive, send};
use crate::coll::Part;
use core::ops::Range;

/// Adds a binomial broadcast of `room` from `root` to `b`.
pub(super) fn add_broadcast(b: &mut Builder, root: usize, room: &Range<usize>) {
    let size = b.size;
    let place = (b.rank + size - root) % size;
    let member = |place: usize| (place + root) % size;
    let mut distance = 1;
    while distance < size {
        if place & distance != 0 {
            b.round(vec![receive(member(place - distance), room)], Vec::new());
            break;
        }
        distance *= 2;
    }
    // The farthest subtree is the largest: it is served first.
    let mut sends = Vec::new();
    while distance > 1 {
        distance /= 2;
        if place + distance < size {
            sends.push(send(member(place + distance), room));
        }
    }
    if !sends.is_empty() {
        b.round(sends, Vec::new());
    }
}

/// A binomial tree; at the root the buffer is the source, elsewhere the destination.
pub(in crate::coll) fn broadcast(size: usize, rank: usize, root: usize, bytes: usize) -> Plan {
    let mut b = Builder::new(size, rank);
    let room = if rank == root {
        b.input(0, bytes)
    } else {
        let room = b.room(bytes);
        b.output(room.clone(), 0);
        room
    };
    add_broadcast(&mut b, root, &room);
    b.done()
}

/// Everybody sends to the root. `parts` is empty elsewhere.
pub(in crate::coll) fn gather(
    size: usize,
    rank: usize,
    root: usize,
    bytes: usize,
    parts: &[Part],
) -> Plan {
    let mut b = Builder::new(size, rank);
    let own = b.input(0, bytes);
    if rank != root {
        b.round(vec![send(root, &own)], Vec::new());
        return b.done();
    }
    let mut transfers = Vec::new();
    for (member, part) in parts.iter().enumerate() {
        if member == rank {
            b.output(own.clone(), part.at);
        } else {
            let room = b.room(part.bytes);
            transfers.push(receive(member, &room));
            b.output(room, part.at);
        }
    }
    b.round(transfers, Vec::new());
    b.done()
}

/// The root sends to everybody. `parts` is empty elsewhere; `bytes` is what this member receives.
pub(in crate::coll) fn scatter(
    size: usize,
    rank: usize,
    root: usize,
    bytes: usize,
    parts: &[Part],
) -> Plan {
    let mut b = Builder::new(size, rank);
    if rank != root {
        let room = b.room(bytes);
        b.round(vec![receive(root, &room)], Vec::new());
        b.output(room, 0);
        return b.done();
    }
    let mut transfers = Vec::new();
    for (member, part) in parts.iter().enumerate() {
        let room = b.input(part.at, part.bytes);
        if member == rank {
            b.output(room, 0);
        } else {
            transfers.push(send(member, &room));
        }
    }
    b.round(transfers, Vec::new());
    b.done()
}
