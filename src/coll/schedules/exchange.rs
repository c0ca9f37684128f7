//! Collectives in which every member gives and takes the same way.
use super::{Builder, Plan, receive, send};
use crate::coll::Part;

/// Dissemination: after round k every member has heard, directly or not, of the 2^(k+1) - 1 before it.
pub(in crate::coll) fn barrier(size: usize, rank: usize) -> Plan {
    let mut b = Builder::new(size, rank);
    let mut distance = 1;
    while distance < size {
        let transfers = vec![
            send(b.after(distance), &(0..0)),
            receive(b.before(distance), &(0..0)),
        ];
        b.round(transfers, Vec::new());
        distance *= 2;
    }
    b.done()
}

/// A ring: in each round every member passes on what it got in the one before. `parts` is where each member's piece belongs.
pub(in crate::coll) fn all_gather(size: usize, rank: usize, parts: &[Part]) -> Plan {
    let mut b = Builder::new(size, rank);
    let rooms: Vec<_> = (0..size)
        .map(|member| {
            let bytes = parts[member].bytes;
            let room = if member == rank {
                b.input(0, bytes)
            } else {
                b.room(bytes)
            };
            b.output(room.clone(), parts[member].at);
            room
        })
        .collect();
    for step in 1..size {
        let transfers = vec![
            send(b.after(1), &rooms[b.before(step - 1)]),
            receive(b.before(1), &rooms[b.before(step)]),
        ];
        b.round(transfers, Vec::new());
    }
    b.done()
}

/// Pairwise: in round k every member sends to the k-th after it and receives from the k-th before it.
pub(in crate::coll) fn all_to_all(size: usize, rank: usize, give: &[Part], take: &[Part]) -> Plan {
    let mut b = Builder::new(size, rank);
    let own = b.input(give[rank].at, give[rank].bytes);
    // A piece for oneself that is longer than its place is a wrong argument, found before; it never reaches this.
    let fits = own.start..own.start + own.len().min(take[rank].bytes);
    b.output(fits, take[rank].at);
    for step in 1..size {
        let (to, from) = (b.after(step), b.before(step));
        let out = b.input(give[to].at, give[to].bytes);
        let place = b.room(take[from].bytes);
        b.output(place.clone(), take[from].at);
        b.round(vec![send(to, &out), receive(from, &place)], Vec::new());
    }
    b.done()
}
