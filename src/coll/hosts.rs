//! Which members of a communicator share a host: all that an algorithm knows of where they are. The same on all members.
use core::ops::Range;

/// The members of a communicator by host. Hosts are numbered by their first members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hosts {
    /// The host of each member.
    host: Vec<usize>,
    /// Each member's place among those of its host.
    place: Vec<usize>,
    /// The members of each host, in rank order.
    members: Vec<Vec<usize>>,
    /// Consecutive members of one host, as long as they go.
    runs: Vec<Range<usize>>,
}

impl Hosts {
    /// `named` has a number for each member's host, whatever numbers they are.
    pub(super) fn new(named: &[u32]) -> Hosts {
        let mut names: Vec<u32> = Vec::new();
        let mut number = std::collections::HashMap::new();
        let (mut host, mut place) = (Vec::new(), Vec::new());
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (member, &name) in named.iter().enumerate() {
            let at = *number.entry(name).or_insert_with(|| {
                names.push(name);
                members.push(Vec::new());
                names.len() - 1
            });
            match runs.last_mut() {
                Some(run) if host[run.start] == at => run.end += 1,
                _ => runs.push(member..member + 1),
            }
            host.push(at);
            place.push(members[at].len());
            members[at].push(member);
        }
        Hosts {
            host,
            place,
            members,
            runs,
        }
    }

    /// How many members there are.
    pub(super) fn size(&self) -> usize {
        self.host.len()
    }

    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    pub(super) fn host(&self, member: usize) -> usize {
        self.host[member]
    }

    pub(super) fn members(&self, host: usize) -> &[usize] {
        &self.members[host]
    }

    pub(super) fn runs(&self) -> &[Range<usize>] {
        &self.runs
    }

    /// A member's place among those of its host.
    pub(super) fn place(&self, member: usize) -> usize {
        self.place[member]
    }

    /// The most members that a host has.
    pub(super) fn widest(&self) -> usize {
        self.members.iter().map(Vec::len).max().unwrap_or(1)
    }

    /// Who speaks for a host: `root` for its own, the first member for any other.
    pub(super) fn leader(&self, host: usize, root: Option<usize>) -> usize {
        match root {
            Some(root) if self.host[root] == host => root,
            _ => self.members[host][0],
        }
    }

    /// Who speaks for each host.
    pub(super) fn leaders(&self, root: Option<usize>) -> Vec<usize> {
        (0..self.count()).map(|h| self.leader(h, root)).collect()
    }

    /// The member of each host that moves slice `lane`.
    pub(super) fn lane(&self, lane: usize) -> Vec<usize> {
        self.members.iter().map(|m| m[lane % m.len()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_by_host_and_runs_of_neighbours() {
        let hosts = Hosts::new(&[7, 7, 3, 7, 3, 9]);
        assert_eq!((hosts.size(), hosts.count(), hosts.widest()), (6, 3, 3));
        assert_eq!(hosts.members(0), [0, 1, 3]);
        assert_eq!(hosts.runs(), [0..2, 2..3, 3..4, 4..5, 5..6]);
        assert_eq!(hosts.leaders(Some(3)), [3, 2, 5]);
        assert_eq!(hosts.lane(2), [3, 2, 5]);
        assert_eq!(hosts.place(3), 2);
    }
}
