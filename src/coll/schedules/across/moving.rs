//! Collectives that move: what a host needs comes to it once.
use super::super::{Builder, Plan, receive, send};
use super::groups::{Tree, binomial, inside, slices, two_levels};
use super::{LANES, Way};
use crate::coll::Part;
use crate::coll::hosts::Hosts;
use crate::model::Local;
use core::ops::Range;

/// Bytes of a block that is passed on while the next one comes: long enough that a message's cost is small beside it.
pub(in crate::coll) const BLOCK: usize = 128 * 1024;

pub(in crate::coll) fn barrier(hosts: &Hosts, rank: usize) -> Plan {
    let mut b = Builder::new(hosts.size(), rank);
    let tree = inside(hosts, None, rank);
    b.up(&tree, &(0..0));
    b.meet(&hosts.leaders(None));
    b.down(&tree, &(0..0));
    b.done()
}

/// `bytes` in blocks.
fn blocks_of(room: &Range<usize>) -> Vec<Range<usize>> {
    slices(room, 1, room.len().div_ceil(BLOCK).max(1))
}

/// A tree in which a member has two children at the most, so that blocks follow each other through it.
fn binary(hosts: &Hosts, root: usize, me: usize) -> Tree {
    let (local, leader) = (
        hosts.members(hosts.host(me)),
        hosts.leader(hosts.host(me), Some(root)),
    );
    let (size, first) = (local.len(), hosts.place(leader));
    let member = |place: usize| local[(place + first) % size];
    let place = (hosts.place(me) + size - first) % size;
    Tree {
        parent: (place > 0).then(|| member((place.max(1) - 1) / 2)),
        children: (2 * place + 1..2 * place + 3)
            .filter(|child| *child < size)
            .map(member)
            .collect(),
    }
}

pub(in crate::coll) fn broadcast(
    hosts: &Hosts,
    rank: usize,
    root: usize,
    bytes: usize,
    way: Way,
) -> Plan {
    let mut b = Builder::new(hosts.size(), rank);
    let room = match rank == root {
        true => b.input(0, bytes),
        false => {
            let room = b.room(bytes);
            b.output(room.clone(), 0);
            room
        }
    };
    add_broadcast(&mut b, hosts, root, &room, way);
    b.done()
}

/// Adds a broadcast of `room` to `b`, to all but what the root's room is for.
pub(super) fn add_broadcast(
    b: &mut Builder,
    hosts: &Hosts,
    root: usize,
    room: &Range<usize>,
    way: Way,
) {
    let rank = b.rank;
    match way {
        Way::Blocks => {
            let (blocks, leaders) = (blocks_of(room), hosts.leaders(Some(root)));
            let tree = binary(hosts, root, rank);
            if leaders.contains(&rank) {
                b.blocks(&leaders, hosts.host(root), &blocks, tree.children);
            } else {
                let own = leaders[hosts.host(rank)];
                follow(b, &order(hosts, root, own, blocks.len()), &blocks, &tree);
            }
        }
        Way::Lanes => {
            let lanes = hosts.widest().min(LANES);
            let pieces = slices(room, 1, lanes);
            let local = hosts.members(hosts.host(rank));
            let mut starts = Vec::new();
            for (lane, piece) in pieces.iter().enumerate() {
                let first = hosts.lane(lane)[hosts.host(root)];
                if first != root && rank == root {
                    starts.push(send(first, piece));
                } else if first != root && rank == first {
                    starts.push(receive(root, piece));
                }
            }
            b.pass(starts, Vec::new());
            for (lane, piece) in pieces.iter().enumerate() {
                b.blocks(
                    &hosts.lane(lane),
                    hosts.host(root),
                    &blocks_of(piece),
                    Vec::new(),
                );
            }
            // Whoever is the root has all; so the others of its host tell only each other.
            let to: Vec<_> = local.iter().copied().filter(|m| *m != root).collect();
            let told: Vec<_> = pieces
                .iter()
                .enumerate()
                .map(|(lane, piece)| (hosts.lane(lane)[hosts.host(rank)], piece.clone()))
                .collect();
            match rank == root {
                true => {
                    let own = told
                        .into_iter()
                        .filter(|(m, _)| *m == root)
                        .collect::<Vec<_>>();
                    b.tell(&to, &own);
                }
                false => b.tell(&to, &told),
            }
        }
        // Anything else is a tree: the flat one of the members, or that in which each host hears once.
        Way::Flat => {
            let all: Vec<_> = (0..hosts.size()).collect();
            b.down(&binomial(&all, root, rank), room);
        }
        _ => b.down(&two_levels(hosts, root, rank), room),
    }
}

/// The order in which a host's leader has the blocks, and passes them on inside.
fn order(hosts: &Hosts, root: usize, leader: usize, blocks: usize) -> Vec<usize> {
    let (size, first) = (hosts.count(), hosts.host(root));
    let place = (hosts.host(leader) + size - first) % size;
    match place {
        0 => (0..blocks).collect(),
        _ => super::circulant::broadcast(size, place, blocks)
            .iter()
            .filter_map(|exchange| exchange.receive.map(|(_, block)| block))
            .collect(),
    }
}

/// Blocks come from the parent one by one and go on to the children.
fn follow(b: &mut Builder, order: &[usize], blocks: &[Range<usize>], tree: &Tree) {
    let Some(parent) = tree.parent else { return };
    let mut before: Option<usize> = None;
    for next in order.iter().map(|block| Some(*block)).chain([None]) {
        let mut transfers = Vec::new();
        if let Some(block) = before {
            transfers.extend(
                tree.children
                    .iter()
                    .map(|child| send(*child, &blocks[block])),
            );
        }
        transfers.extend(next.map(|block| receive(parent, &blocks[block])));
        b.pass(transfers, Vec::new());
        before = next;
    }
}

/// Everybody sends to the root: those of its host themselves, of each other host its leader for all.
pub(in crate::coll) fn gather(
    hosts: &Hosts,
    rank: usize,
    root: usize,
    bytes: usize,
    parts: &[Part],
) -> Plan {
    let mut b = Builder::new(hosts.size(), rank);
    let (host, home) = (hosts.host(rank), hosts.host(root));
    let leader = hosts.leader(host, Some(root));
    if rank == root {
        let mut receives = Vec::new();
        for other in 0..hosts.count() {
            let rooms: Vec<_> = hosts
                .members(other)
                .iter()
                .map(|member| {
                    let room = b.room(bytes);
                    match *member == root {
                        true => b.fill(&room, 0),
                        false if other == home => receives.push(receive(*member, &room)),
                        false => {}
                    }
                    b.output(room.clone(), parts[*member].at);
                    room
                })
                .collect();
            if other != home {
                receives.push(receive(hosts.leader(other, None), &around(&rooms)));
            }
        }
        b.pass(receives, Vec::new());
        return b.done();
    }
    if host == home || rank != leader {
        let own = b.input(0, bytes);
        b.round(vec![send(leader, &own)], Vec::new());
        return b.done();
    }
    let all = collect(&mut b, hosts.members(host), bytes);
    b.round(vec![send(root, &all)], Vec::new());
    b.done()
}

/// The range from the first to the last of neighbours.
pub(super) fn around(rooms: &[Range<usize>]) -> Range<usize> {
    let start = rooms.first().map_or(0, |room| room.start);
    start..rooms.last().map_or(start, |room| room.end)
}

/// At a host's leader: what its members contribute, side by side in rank order.
fn collect(b: &mut Builder, local: &[usize], bytes: usize) -> Range<usize> {
    let mut receives = Vec::new();
    let rooms: Vec<_> = local
        .iter()
        .map(|member| {
            let room = b.room(bytes);
            match *member == b.rank {
                true => b.fill(&room, 0),
                false => receives.push(receive(*member, &room)),
            }
            room
        })
        .collect();
    b.pass(receives, Vec::new());
    around(&rooms)
}

/// The way back of [`gather`].
pub(in crate::coll) fn scatter(
    hosts: &Hosts,
    rank: usize,
    root: usize,
    bytes: usize,
    parts: &[Part],
) -> Plan {
    let mut b = Builder::new(hosts.size(), rank);
    let (host, home) = (hosts.host(rank), hosts.host(root));
    let leader = hosts.leader(host, Some(root));
    if rank == root {
        let mut sends = Vec::new();
        for other in 0..hosts.count() {
            let mut rooms = Vec::new();
            for member in hosts.members(other) {
                let room = b.input(parts[*member].at, bytes);
                match *member == root {
                    true => b.output(room.clone(), 0),
                    false if other == home => sends.push(send(*member, &room)),
                    false => {}
                }
                rooms.push(room);
            }
            if other != home {
                sends.push(send(hosts.leader(other, None), &around(&rooms)));
            }
        }
        b.pass(sends, Vec::new());
        return b.done();
    }
    if host == home || rank != leader {
        let room = b.room(bytes);
        b.round(vec![receive(leader, &room)], Vec::new());
        b.output(room, 0);
        return b.done();
    }
    let local = hosts.members(host);
    let rooms: Vec<_> = local.iter().map(|_| b.room(bytes)).collect();
    b.round(vec![receive(root, &around(&rooms))], Vec::new());
    let sends = local.iter().zip(&rooms).filter(|(m, _)| **m != rank);
    let sends = sends.map(|(m, room)| send(*m, room)).collect();
    b.pass(sends, Vec::new());
    b.output(rooms[hosts.place(rank)].clone(), 0);
    b.done()
}

/// `parts` is where each member's piece belongs.
pub(in crate::coll) fn all_gather(hosts: &Hosts, rank: usize, parts: &[Part], way: Way) -> Plan {
    let mut b = Builder::new(hosts.size(), rank);
    let rooms = match way {
        Way::Lanes => in_lanes(&mut b, hosts, parts),
        _ => by_leaders(&mut b, hosts, parts),
    };
    for (room, part) in rooms.into_iter().zip(parts) {
        b.output(room, part.at);
    }
    b.done()
}

/// Everybody's piece by way of the hosts' leaders; where each lies.
fn by_leaders(b: &mut Builder, hosts: &Hosts, parts: &[Part]) -> Vec<Range<usize>> {
    let (rank, host) = (b.rank, hosts.host(b.rank));
    let lens: Vec<usize> = (0..hosts.count())
        .map(|h| hosts.members(h).iter().map(|m| parts[*m].bytes).sum())
        .collect();
    let of_hosts = b.circle(host, &lens);
    let mut rooms = vec![0..0; hosts.size()];
    for (h, room) in of_hosts.iter().enumerate() {
        let mut at = room.start;
        for &member in hosts.members(h) {
            rooms[member] = at..at + parts[member].bytes;
            at += parts[member].bytes;
        }
    }
    b.fill(&rooms[rank], 0);
    collect_rooms(b, hosts, &rooms);
    let leaders = hosts.leaders(None);
    b.gather_all(&leaders, &of_hosts);
    let all = of_hosts[host].start..of_hosts[host].start + lens.iter().sum::<usize>();
    b.down(&inside(hosts, None, rank), &all);
    rooms
}

/// The members of a host bring their rooms to its leader.
pub(super) fn collect_rooms(b: &mut Builder, hosts: &Hosts, rooms: &[Range<usize>]) {
    let local = hosts.members(hosts.host(b.rank));
    if b.rank != local[0] {
        let own = rooms[b.rank].clone();
        return b.round(vec![send(local[0], &own)], Vec::new());
    }
    let receives = local[1..].iter().map(|m| receive(*m, &rooms[*m]));
    b.pass(receives.collect(), Vec::new());
}

/// The pieces of the first members of all hosts by their first members, of the second by the second, and so on.
fn in_lanes(b: &mut Builder, hosts: &Hosts, parts: &[Part]) -> Vec<Range<usize>> {
    let (rank, host) = (b.rank, hosts.host(b.rank));
    let mut rooms = vec![0..0; hosts.size()];
    let mut told = Vec::new();
    let mut starts = Vec::new();
    for lane in 0..hosts.widest() {
        let lens: Vec<usize> = (0..hosts.count())
            .map(|h| hosts.members(h).get(lane).map_or(0, |m| parts[*m].bytes))
            .collect();
        let circle = b.circle(host, &lens);
        for (h, room) in circle.iter().enumerate() {
            if let Some(member) = hosts.members(h).get(lane) {
                rooms[*member] = room.clone();
            }
        }
        let all = circle[host].start..circle[host].start + lens.iter().sum::<usize>();
        told.push((hosts.lane(lane)[host], all));
        starts.push(circle);
    }
    b.fill(&rooms[rank], 0);
    for (lane, circle) in starts.iter().enumerate() {
        b.gather_all(&hosts.lane(lane), circle);
    }
    b.tell(hosts.members(host), &told);
    rooms
}

/// Each host's leader brings all that its members have for another host in one message. `block` bytes go from each member to each.
pub(in crate::coll) fn all_to_all(hosts: &Hosts, rank: usize, block: usize) -> Plan {
    let mut b = Builder::new(hosts.size(), rank);
    let host = hosts.host(rank);
    let local = hosts.members(host);
    let row = |b: &mut Builder, h: usize| -> Range<usize> {
        let rooms: Vec<_> = hosts
            .members(h)
            .iter()
            .map(|d| b.input(*d * block, block))
            .collect();
        around(&rooms)
    };
    if rank != local[0] {
        let rows: Vec<_> = (0..hosts.count()).map(|h| row(&mut b, h)).collect();
        let sends = rows.iter().map(|room| send(local[0], room)).collect();
        b.round(sends, Vec::new());
        let all = b.room(hosts.size() * block);
        b.round(vec![receive(local[0], &all)], Vec::new());
        for (i, source) in by_host(hosts).into_iter().enumerate() {
            let at = all.start + i * block;
            b.output(at..at + block, source * block);
        }
        return b.done();
    }
    let mut brought = Vec::new();
    // For each host, what goes there: source by source, and for each of them member by member.
    let outgoing: Vec<_> = (0..hosts.count())
        .map(|h| {
            let rows: Vec<_> = local
                .iter()
                .map(|source| match *source == rank {
                    true => row(&mut b, h),
                    false => {
                        let room = b.room(hosts.members(h).len() * block);
                        brought.push(receive(*source, &room));
                        room
                    }
                })
                .collect();
            around(&rows)
        })
        .collect();
    b.pass(brought, Vec::new());
    let mut exchange = Vec::new();
    let incoming: Vec<_> = (0..hosts.count())
        .map(|h| {
            if h == host {
                return outgoing[host].clone();
            }
            let room = b.room(hosts.members(h).len() * local.len() * block);
            exchange.push(send(hosts.leader(h, None), &outgoing[h]));
            exchange.push(receive(hosts.leader(h, None), &room));
            room
        })
        .collect();
    // What came is put in order for each member.
    let mut then = Vec::new();
    let mut sends = Vec::new();
    for (i, member) in local.iter().enumerate() {
        let mut found = (0..hosts.count()).flat_map(|h| {
            let start = incoming[h].start;
            (0..hosts.members(h).len()).map(move |s| start + (s * local.len() + i) * block)
        });
        if *member == rank {
            for (source, from) in by_host(hosts).into_iter().zip(found.by_ref()) {
                b.output(from..from + block, source * block);
            }
            continue;
        }
        let all = b.room(hosts.size() * block);
        for (k, from) in found.enumerate() {
            then.push(Local::Copy {
                from: from..from + block,
                to: all.start + k * block,
            });
        }
        sends.push(send(*member, &all));
    }
    b.pass(exchange, then);
    b.pass(sends, Vec::new());
    b.done()
}

/// All members, host by host.
fn by_host(hosts: &Hosts) -> Vec<usize> {
    (0..hosts.count())
        .flat_map(|h| hosts.members(h).iter().copied())
        .collect()
}
