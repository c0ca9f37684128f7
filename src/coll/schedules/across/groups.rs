//! Steps that a group of members takes, which the algorithms are put together from. Members outside of the group do nothing.
use super::super::{Builder, combine, receive, send};
use super::circulant;
use crate::coll::hosts::Hosts;
use crate::model::{Local, Transfer};
use core::ops::Range;

/// A member's place in a tree.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) parent: Option<usize>,
    pub(super) children: Vec<usize>,
}

/// The binomial tree of `group` from its member number `root`; the child with the largest subtree comes first.
pub(super) fn binomial(group: &[usize], root: usize, me: usize) -> Tree {
    let Some(at) = group.iter().position(|m| *m == me) else {
        return Tree::default();
    };
    let size = group.len();
    let place = (at + size - root) % size;
    let member = |place: usize| group[(place + root) % size];
    let mut tree = Tree::default();
    let mut distance = 1;
    while distance < size && place & distance == 0 {
        distance *= 2;
    }
    if place > 0 {
        tree.parent = Some(member(place - distance));
    }
    while distance > 1 {
        distance /= 2;
        if place + distance < size {
            tree.children.push(member(place + distance));
        }
    }
    tree
}

/// The tree in which each host's leader hears from another host, and the host's other members from it. Other hosts are served first.
pub(super) fn two_levels(hosts: &Hosts, root: usize, me: usize) -> Tree {
    let leaders = hosts.leaders(Some(root));
    let mut tree = binomial(&leaders, hosts.host(root), me);
    let inside = inside(hosts, Some(root), me);
    tree.parent = tree.parent.or(inside.parent);
    tree.children.extend(inside.children);
    tree
}

/// The binomial tree inside of a member's host, from its leader.
pub(super) fn inside(hosts: &Hosts, root: Option<usize>, me: usize) -> Tree {
    let host = hosts.host(me);
    let leader = hosts.place(hosts.leader(host, root));
    binomial(hosts.members(host), leader, me)
}

/// Its pieces of `room`, each a whole number of `unit`s, as equal as can be.
pub(super) fn slices(room: &Range<usize>, unit: usize, count: usize) -> Vec<Range<usize>> {
    let units = room.len() / unit.max(1);
    let edge = |k: usize| match k == count {
        true => room.end,
        false => room.start + units * k / count * unit,
    };
    (0..count).map(|k| edge(k)..edge(k + 1)).collect()
}

/// Messages for these rooms: neighbours in the scratch buffer go as one, and what is empty not at all.
fn messages(rooms: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::new();
    for room in rooms {
        match all.last_mut() {
            Some(last) if last.end == room.start => last.end = room.end,
            _ => all.push(room),
        }
    }
    all.retain(|room| !room.is_empty());
    all
}

impl Builder {
    /// `room` comes from the parent and goes on to the children.
    pub(super) fn down(&mut self, tree: &Tree, room: &Range<usize>) {
        if let Some(parent) = tree.parent {
            self.round(vec![receive(parent, room)], Vec::new());
        }
        if !tree.children.is_empty() {
            let sends = tree.children.iter().map(|child| send(*child, room));
            self.round(sends.collect(), Vec::new());
        }
    }

    /// What the children bring is combined with `room` (in any order), and that goes to the parent.
    pub(super) fn up(&mut self, tree: &Tree, room: &Range<usize>) {
        if !tree.children.is_empty() {
            let rooms: Vec<_> = tree
                .children
                .iter()
                .map(|_| self.room(room.len()))
                .collect();
            let receives = tree.children.iter().zip(&rooms);
            let receives = receives
                .map(|(child, room)| receive(*child, room))
                .collect();
            let combines = rooms.iter().filter(|_| !room.is_empty());
            let then = combines.map(|other| combine(other, room)).collect();
            self.round(receives, then);
        }
        if let Some(parent) = tree.parent {
            self.round(vec![send(parent, room)], Vec::new());
        }
    }

    /// All of `group` wait for each other: dissemination, in `ceil(log2)` rounds.
    pub(super) fn meet(&mut self, group: &[usize]) {
        let (Some(at), size) = (group.iter().position(|m| *m == self.rank), group.len()) else {
            return;
        };
        let mut distance = 1;
        while distance < size {
            let (to, from) = (
                group[(at + distance) % size],
                group[(at + size - distance) % size],
            );
            self.round(vec![send(to, &(0..0)), receive(from, &(0..0))], Vec::new());
            distance *= 2;
        }
    }

    /// Rooms of these lengths, a group's, which lie in the scratch buffer in the order in which `at` comes by them in [`Builder::gather_all`].
    pub(super) fn circle(&mut self, at: usize, lens: &[usize]) -> Vec<Range<usize>> {
        let mut rooms = vec![0..0; lens.len()];
        for i in 0..lens.len() {
            let place = (at + i) % lens.len();
            rooms[place] = self.room(lens[place]);
        }
        rooms
    }

    /// Everybody in `group` gets everybody's room, each once, in `ceil(log2)` rounds: after a round everybody has twice as many, its own and those of
    /// the members behind it.
    pub(super) fn gather_all(&mut self, group: &[usize], rooms: &[Range<usize>]) {
        let (Some(at), size) = (group.iter().position(|m| *m == self.rank), group.len()) else {
            return;
        };
        let mut has = 1;
        while has < size {
            let next = (2 * has).min(size);
            let (to, from) = (group[(at + size - has) % size], group[(at + has) % size]);
            let part = |first: usize, count| {
                messages((first..first + count).map(|i| rooms[i % size].clone()))
            };
            let sends = part(at, next - has).into_iter().map(|room| send(to, &room));
            let receives = part(at + has, next - has);
            let receives = receives.into_iter().map(|room| receive(from, &room));
            self.pass(sends.chain(receives).collect(), Vec::new());
            has = next;
        }
    }

    /// The way back of [`Builder::gather_all`]: everybody's room ends as the combination (in any order) of all that the group had there.
    pub(super) fn scatter_combined(&mut self, group: &[usize], rooms: &[Range<usize>]) {
        let (Some(at), size) = (group.iter().position(|m| *m == self.rank), group.len()) else {
            return;
        };
        let mut steps = vec![1];
        while steps[steps.len() - 1] < size {
            steps.push((2 * steps[steps.len() - 1]).min(size));
        }
        for step in steps.windows(2).rev() {
            let (has, next) = (step[0], step[1]);
            let (to, from) = (group[(at + has) % size], group[(at + size - has) % size]);
            let part = |first: usize| {
                messages((first..first + next - has).map(|i| rooms[i % size].clone()))
            };
            let mut transfers: Vec<_> = part(at + has).iter().map(|room| send(to, room)).collect();
            let mut then = Vec::new();
            for place in part(at) {
                let room = self.room(place.len());
                transfers.push(receive(from, &room));
                then.push(combine(&room, &place));
            }
            self.pass(transfers, then);
        }
    }

    /// `room` of the group's member number `root` goes to all in `blocks` blocks; each comes to each once.
    pub(super) fn blocks(
        &mut self,
        group: &[usize],
        root: usize,
        blocks: &[Range<usize>],
        mut on: Vec<usize>,
    ) {
        let (Some(at), size) = (group.iter().position(|m| *m == self.rank), group.len()) else {
            return;
        };
        let member = |place: usize| group[(place + root) % size];
        let place = (at + size - root) % size;
        // Whoever is served inside of the host gets a block one round later than this member.
        on.sort_unstable();
        let inside = |block: &Range<usize>| on.iter().map(|m| send(*m, block)).collect::<Vec<_>>();
        let mut fresh: Vec<Transfer> = Vec::new();
        let mut own = blocks.iter();
        for exchange in circulant::broadcast(size, place, blocks.len()) {
            let mut transfers = core::mem::take(&mut fresh);
            if place == 0 {
                transfers.extend(own.next().iter().flat_map(|block| inside(block)));
            }
            if let Some((to, block)) = exchange.send {
                transfers.push(send(member(to), &blocks[block]));
            }
            if let Some((from, block)) = exchange.receive {
                transfers.push(receive(member(from), &blocks[block]));
                fresh = inside(&blocks[block]);
            }
            self.pass(transfers, Vec::new());
        }
        if place == 0 {
            fresh.extend(own.flat_map(inside));
        }
        self.pass(fresh, Vec::new());
    }

    /// A round, unless nothing is to be done in it.
    pub(super) fn pass(&mut self, transfers: Vec<Transfer>, then: Vec<Local>) {
        if !transfers.is_empty() || !then.is_empty() {
            self.round(transfers, then);
        }
    }

    /// The members of a host tell each other their rooms, all at once: `rooms` has whose they are.
    pub(super) fn tell(&mut self, local: &[usize], rooms: &[(usize, Range<usize>)]) {
        let mut transfers = Vec::new();
        for (teller, room) in rooms.iter().filter(|(_, room)| !room.is_empty()) {
            match *teller == self.rank {
                true => transfers.extend(
                    local
                        .iter()
                        .filter(|m| **m != self.rank)
                        .map(|m| send(*m, room)),
                ),
                false => transfers.push(receive(*teller, room)),
            }
        }
        self.pass(transfers, Vec::new());
    }

    /// Each room combined with all before it: the last one ends as the fold from the left.
    pub(super) fn fold(&self, rooms: &[Range<usize>]) -> Vec<Local> {
        let pairs = rooms.windows(2).filter(|pair| !pair[0].is_empty());
        pairs.map(|pair| combine(&pair[0], &pair[1])).collect()
    }
}
