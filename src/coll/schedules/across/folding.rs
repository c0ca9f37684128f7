//! Reductions. Where the grouping of operands shows, every way folds strictly from the left in rank order.
use super::super::{Builder, Fold, Plan, combine, receive, send};
use super::groups::{inside, slices, two_levels};
use super::moving::{BLOCK, add_broadcast, around, collect_rooms};
use super::{LANES, Way};
use crate::coll::hosts::Hosts;
use core::ops::Range;

pub(in crate::coll) fn reduce(
    hosts: &Hosts,
    rank: usize,
    root: usize,
    fold: &Fold,
    way: Way,
) -> Plan {
    let mut b = Builder::new(hosts.size(), rank);
    let result = match way {
        Way::Gathered => gathered(&mut b, hosts, root, fold),
        Way::Lanes => {
            let (own, pieces) = combined_in_lanes(&mut b, hosts, fold);
            deliver(&mut b, root, &pieces);
            own
        }
        Way::Chain | Way::Spread => {
            let pieces = match way {
                Way::Chain => chained(&mut b, hosts, fold),
                _ => spread(&mut b, hosts, fold),
            };
            deliver(&mut b, root, &pieces);
            around(
                &pieces
                    .into_iter()
                    .map(|(_, piece)| piece)
                    .collect::<Vec<_>>(),
            )
        }
        _ => {
            let own = b.input(0, fold.bytes);
            b.up(&two_levels(hosts, root, rank), &own);
            own
        }
    };
    if rank == root {
        b.output(result, 0);
    }
    b.done()
}

/// The pieces of a result come from those who have them to the root.
fn deliver(b: &mut Builder, root: usize, pieces: &[(usize, Range<usize>)]) {
    let mut transfers = Vec::new();
    for (owner, piece) in pieces {
        match (*owner == b.rank, b.rank == root) {
            (true, false) => transfers.push(send(root, piece)),
            (false, true) => transfers.push(receive(*owner, piece)),
            _ => {}
        }
    }
    transfers.retain(|transfer| !transfer.part().is_empty());
    b.pass(transfers, Vec::new());
}

pub(in crate::coll) fn all_reduce(hosts: &Hosts, rank: usize, fold: &Fold, way: Way) -> Plan {
    let mut b = Builder::new(hosts.size(), rank);
    let local = hosts.members(hosts.host(rank));
    let result = match way {
        Way::Gathered => {
            let rooms = everything(&mut b, hosts, fold);
            let result = rooms[hosts.size() - 1].clone();
            if rank == local[0] {
                let then = b.fold(&rooms);
                b.pass(Vec::new(), then);
            }
            b.down(&inside(hosts, None, rank), &result);
            result
        }
        Way::Lanes => {
            let (own, _) = combined_in_lanes(&mut b, hosts, fold);
            for (lane, piece) in lanes(hosts, &own, fold).iter().enumerate() {
                let parts = slices(piece, fold.element, hosts.count());
                b.gather_all(&hosts.lane(lane), &parts);
            }
            tell_lanes(&mut b, hosts, &lanes(hosts, &own, fold));
            own
        }
        Way::Chain => {
            let pieces = chained(&mut b, hosts, fold);
            let all = around(
                &pieces
                    .iter()
                    .map(|(_, piece)| piece.clone())
                    .collect::<Vec<_>>(),
            );
            // Each piece to all hosts by the members of its lane, which begins where the fold ended.
            for (lane, (owner, piece)) in pieces.iter().enumerate() {
                let mut group = hosts.lane(lane);
                group[hosts.host(*owner)] = *owner;
                let blocks = slices(piece, 1, piece.len().div_ceil(BLOCK).max(1));
                b.blocks(&group, hosts.host(*owner), &blocks, Vec::new());
            }
            let told: Vec<_> = pieces
                .iter()
                .enumerate()
                .map(
                    |(lane, (owner, piece))| match hosts.host(*owner) == hosts.host(rank) {
                        true => (*owner, piece.clone()),
                        false => (hosts.lane(lane)[hosts.host(rank)], piece.clone()),
                    },
                )
                .collect();
            b.tell(local, &told);
            all
        }
        Way::Spread => {
            let pieces = spread(&mut b, hosts, fold);
            let all = around(
                &pieces
                    .iter()
                    .map(|(_, piece)| piece.clone())
                    .collect::<Vec<_>>(),
            );
            // Everybody's piece to everybody: the host's members gather theirs, and each lane moves what is its own.
            for lane in 0..hosts.widest() {
                let group = hosts.lane(lane);
                let rooms: Vec<_> = (0..hosts.count())
                    .map(|h| match hosts.members(h).get(lane) {
                        Some(member) => pieces[*member].1.clone(),
                        None => 0..0,
                    })
                    .collect();
                b.gather_all(&group, &rooms);
            }
            let host = hosts.host(rank);
            let told: Vec<_> = pieces
                .iter()
                .map(|(owner, piece)| (hosts.lane(hosts.place(*owner))[host], piece.clone()))
                .collect();
            b.tell(local, &told);
            all
        }
        _ => {
            let own = b.input(0, fold.bytes);
            let root = hosts.leader(0, None);
            b.up(&two_levels(hosts, root, rank), &own);
            add_broadcast(&mut b, hosts, root, &own, Way::Leaders);
            own
        }
    };
    b.output(result, 0);
    b.done()
}

/// The members' slices of `own`.
fn lanes(hosts: &Hosts, own: &Range<usize>, fold: &Fold) -> Vec<Range<usize>> {
    slices(own, fold.element, hosts.widest().min(LANES))
}

fn tell_lanes(b: &mut Builder, hosts: &Hosts, pieces: &[Range<usize>]) {
    let host = hosts.host(b.rank);
    let told: Vec<_> = pieces
        .iter()
        .enumerate()
        .map(|(lane, piece)| (hosts.lane(lane)[host], piece.clone()))
        .collect();
    b.tell(hosts.members(host), &told);
}

/// Contributions at the root, in rank order, folded there.
fn gathered(b: &mut Builder, hosts: &Hosts, root: usize, fold: &Fold) -> Range<usize> {
    let (rank, host, home) = (b.rank, hosts.host(b.rank), hosts.host(root));
    let mut rooms = vec![0..0; hosts.size()];
    let held = |h: usize| rank == root || (h == host && host != home);
    let mut of_hosts = Vec::new();
    for h in 0..hosts.count() {
        let local = hosts.members(h);
        let alone = !held(h) || (rank != root && rank != local[0]);
        for &member in local {
            if !alone || member == rank {
                rooms[member] = b.room(fold.bytes);
            }
        }
        of_hosts.push(rooms[local[0]].start..rooms[local[local.len() - 1]].end);
    }
    b.fill(&rooms[rank], 0);
    let mut transfers = Vec::new();
    if rank == root {
        for (h, room) in of_hosts.iter().enumerate() {
            match h == home {
                true => transfers.extend(
                    hosts
                        .members(h)
                        .iter()
                        .filter(|m| **m != root)
                        .map(|m| receive(*m, &rooms[*m])),
                ),
                false => transfers.push(receive(hosts.leader(h, None), room)),
            }
        }
        let then = b.fold(&rooms);
        b.pass(transfers, then);
        return rooms[hosts.size() - 1].clone();
    }
    if host == home {
        b.round(vec![send(root, &rooms[rank])], Vec::new());
    } else {
        collect_rooms(b, hosts, &rooms);
        if rank == hosts.leader(host, None) {
            b.round(vec![send(root, &of_hosts[host])], Vec::new());
        }
    }
    rooms[rank].clone()
}

/// At each host's leader everybody's contribution, in rank order as the rooms say. All members have the rooms.
fn everything(b: &mut Builder, hosts: &Hosts, fold: &Fold) -> Vec<Range<usize>> {
    let host = hosts.host(b.rank);
    let leads = b.rank == hosts.leader(host, None);
    let mut rooms = vec![0..0; hosts.size()];
    if leads {
        let lens: Vec<_> = (0..hosts.count())
            .map(|h| hosts.members(h).len() * fold.bytes)
            .collect();
        let of_hosts = b.circle(host, &lens);
        for (h, room) in of_hosts.iter().enumerate() {
            for (i, member) in hosts.members(h).iter().enumerate() {
                let at = room.start + i * fold.bytes;
                rooms[*member] = at..at + fold.bytes;
            }
        }
        b.fill(&rooms[b.rank], 0);
        collect_rooms(b, hosts, &rooms);
        b.gather_all(&hosts.leaders(None), &of_hosts);
    } else {
        rooms[b.rank] = b.input(0, fold.bytes);
        collect_rooms(b, hosts, &rooms);
        // Room for the result.
        rooms[hosts.size() - 1] = b.room(fold.bytes);
    }
    rooms
}

/// Inside each host every member combines its slices (in any order), and between hosts each lane its own; the whole buffer, and who has which piece of
/// the result in it.
fn combined_in_lanes(
    b: &mut Builder,
    hosts: &Hosts,
    fold: &Fold,
) -> (Range<usize>, Vec<(usize, Range<usize>)>) {
    let own = b.input(0, fold.bytes);
    let pieces = lanes(hosts, &own, fold);
    let (rank, host) = (b.rank, hosts.host(b.rank));
    let local = hosts.members(host);
    let (mut transfers, mut then) = (Vec::new(), Vec::new());
    for (lane, piece) in pieces
        .iter()
        .enumerate()
        .filter(|(_, piece)| !piece.is_empty())
    {
        let owner = hosts.lane(lane)[host];
        if owner != rank {
            transfers.push(send(owner, piece));
            continue;
        }
        for other in local.iter().filter(|m| **m != rank) {
            let room = b.room(piece.len());
            transfers.push(receive(*other, &room));
            then.push(combine(&room, piece));
        }
    }
    b.pass(transfers, then);
    let mut owners = Vec::new();
    for (lane, piece) in pieces.iter().enumerate() {
        let group = hosts.lane(lane);
        let parts = slices(piece, fold.element, hosts.count());
        b.scatter_combined(&group, &parts);
        owners.extend(group.into_iter().zip(parts));
    }
    (own, owners)
}

/// The fold in slices from run to run; who has which slice of the result, in order, in a buffer of its own.
fn chained(b: &mut Builder, hosts: &Hosts, fold: &Fold) -> Vec<(usize, Range<usize>)> {
    let runs = hosts.runs();
    let widest = runs.iter().map(ExactSizeIterator::len).max().unwrap_or(1);
    let count = widest.min(LANES);
    let own = b.input(0, fold.bytes);
    let pieces = slices(&own, fold.element, count);
    let owner = |run: &Range<usize>, lane: usize| run.start + lane % run.len();
    let rank = b.rank;
    let at = runs.iter().position(|run| run.contains(&rank)).unwrap_or(0);
    let mine = runs[at].clone();
    // Inside of the run: everybody's slices to those who own them.
    let mut rooms = vec![Vec::new(); count];
    let mut transfers = Vec::new();
    for (lane, piece) in pieces
        .iter()
        .enumerate()
        .filter(|(_, piece)| !piece.is_empty())
    {
        let to = owner(&mine, lane);
        if to != rank {
            transfers.push(send(to, piece));
            continue;
        }
        rooms[lane] = mine
            .clone()
            .map(|member| match member == rank {
                true => piece.clone(),
                false => {
                    let room = b.room(piece.len());
                    transfers.push(receive(member, &room));
                    room
                }
            })
            .collect();
    }
    b.pass(transfers, Vec::new());
    // From run to run, block by block. The fold of a run ends in its last member's room.
    let mut results = Vec::new();
    for (lane, piece) in pieces.iter().enumerate() {
        let last = owner(&runs[runs.len() - 1], lane);
        results.push((last, piece.clone()));
        if rooms[lane].is_empty() {
            continue;
        }
        let before = (at > 0).then(|| (owner(&runs[at - 1], lane), b.room(piece.len())));
        let blocks = slices(
            &(0..piece.len()),
            fold.element,
            piece.len().div_ceil(BLOCK).max(1),
        );
        let sub = |room: &Range<usize>, block: &Range<usize>| {
            room.start + block.start..room.start + block.end
        };
        let mut outgoing = None;
        for block in blocks.iter().filter(|block| !block.is_empty()) {
            let mut transfers: Vec<_> = outgoing.take().into_iter().collect();
            let mut terms: Vec<_> = Vec::new();
            if let Some((from, room)) = &before {
                transfers.push(receive(*from, &sub(room, block)));
                terms.push(sub(room, block));
            }
            terms.extend(rooms[lane].iter().map(|room| sub(room, block)));
            let then = b.fold(&terms);
            b.pass(transfers, then);
            let end = rooms[lane].last().map(|room| sub(room, block));
            outgoing = runs
                .get(at + 1)
                .zip(end)
                .map(|(next, end)| send(owner(next, lane), &end));
        }
        b.pass(outgoing.into_iter().collect(), Vec::new());
        if at + 1 == runs.len() {
            let end = rooms[lane].last().cloned().unwrap_or(0..0);
            let copy = crate::model::Local::Copy {
                from: end.clone(),
                to: piece.start,
            };
            if end != *piece {
                b.pass(Vec::new(), vec![copy]);
            }
        }
    }
    results
}

/// Everybody gets all contributions to its slice, and folds them; who has which.
fn spread(b: &mut Builder, hosts: &Hosts, fold: &Fold) -> Vec<(usize, Range<usize>)> {
    let (rank, size) = (b.rank, hosts.size());
    let own = b.input(0, fold.bytes);
    let pieces = slices(&own, fold.element, size);
    let mine = pieces[rank].clone();
    let mut rooms = Vec::new();
    let mut transfers = Vec::new();
    for member in 0..size {
        rooms.push(match member == rank {
            true => mine.clone(),
            false => b.room(mine.len()),
        });
    }
    // The next one first, so that not all send to the same one.
    for step in 1..size {
        let (to, from) = (b.after(step), b.before(step));
        transfers.push(send(to, &pieces[to]));
        transfers.push(receive(from, &rooms[from]));
    }
    transfers.retain(|transfer| !transfer.part().is_empty());
    let mut then = b.fold(&rooms);
    let last = rooms[size - 1].clone();
    if last != mine && !mine.is_empty() {
        then.push(crate::model::Local::Copy {
            from: last,
            to: mine.start,
        });
    }
    b.pass(transfers, then);
    pieces.into_iter().enumerate().collect()
}

/// Every member's fold of all up to it, or before it: contributions to the hosts' leaders, results to their members.
pub(in crate::coll) fn prefix(hosts: &Hosts, rank: usize, fold: &Fold, inclusive: bool) -> Plan {
    let mut b = Builder::new(hosts.size(), rank);
    let local = hosts.members(hosts.host(rank));
    let rooms = everything(&mut b, hosts, fold);
    // The fold up to member r lies in r's room. What is before rank 0 is nothing.
    let result = |member: usize| match inclusive {
        true => Some(rooms[member].clone()),
        false => member.checked_sub(1).map(|before| rooms[before].clone()),
    };
    if rank == local[0] {
        let then = b.fold(&rooms);
        let sends = local[1..].iter();
        let sends = sends.filter_map(|m| result(*m).map(|room| send(*m, &room)));
        let sends = sends.collect();
        b.pass(Vec::new(), then);
        b.pass(sends, Vec::new());
        if let Some(room) = result(rank) {
            b.output(room, 0);
        }
    } else {
        // Nobody but a leader can be told nothing: rank 0 leads its host.
        let room = b.room(fold.bytes);
        b.round(vec![receive(local[0], &room)], Vec::new());
        b.output(room, 0);
    }
    b.done()
}

/// `fold.bytes` is one block's. `Gathered` folds everything at the leaders; `Leaders` (in any order) combines inside first, then between hosts.
pub(in crate::coll) fn reduce_scatter_block(
    hosts: &Hosts,
    rank: usize,
    fold: &Fold,
    way: Way,
) -> Plan {
    let mut b = Builder::new(hosts.size(), rank);
    let (host, block, size) = (hosts.host(rank), fold.bytes, hosts.size());
    let local = hosts.members(host);
    let whole = Fold {
        bytes: size * block,
        ..*fold
    };
    if way == Way::Gathered {
        let rooms = everything(&mut b, hosts, &whole);
        if rank != local[0] {
            let room = b.room(block);
            b.round(vec![receive(local[0], &room)], Vec::new());
            b.output(room, 0);
            return b.done();
        }
        let then = b.fold(&rooms);
        b.pass(Vec::new(), then);
        let all = rooms[size - 1].start;
        let of = |member: usize| all + member * block..all + (member + 1) * block;
        let sends = local[1..].iter().map(|m| send(*m, &of(*m))).collect();
        b.pass(sends, Vec::new());
        b.output(of(rank), 0);
        return b.done();
    }
    // The blocks host by host, so that a host's lie side by side.
    let mut rooms = vec![0..0; size];
    let mut of_hosts = Vec::new();
    for h in 0..hosts.count() {
        for &member in hosts.members(h) {
            rooms[member] = b.input(member * block, block);
        }
        let members = hosts.members(h);
        of_hosts.push(rooms[members[0]].start..rooms[members[members.len() - 1]].end);
    }
    let all = around(&of_hosts);
    b.up(&inside(hosts, None, rank), &all);
    if rank != local[0] {
        b.round(vec![receive(local[0], &rooms[rank])], Vec::new());
    } else {
        b.scatter_combined(&hosts.leaders(None), &of_hosts);
        let sends = local[1..].iter().map(|m| send(*m, &rooms[*m])).collect();
        b.pass(sends, Vec::new());
    }
    b.output(rooms[rank].clone(), 0);
    b.done()
}
