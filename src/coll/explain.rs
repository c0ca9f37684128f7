//! What the ways of a collective come to on a cluster: the schedules of all members are run in time that the model makes, and what crosses between
//! hosts is followed.
//!
//! Three numbers of application-level multicast judge a way. *Link stress*: how often the same bytes cross the same link of a host. *Relative delay
//! penalty*: when a member is done, beside the time that what it gets would take straight to it. *Tree cost*: the time of all messages together.
use super::choice::{self, Question};
use super::hosts::Hosts;
use super::plans::Asked;
use super::schedules::across::Way;
use super::schedules::{Fold, Plan};
use crate::model::error::Result;
use crate::model::{CollKind, Costs, Error, ErrorClass, Local, Transfer};
use core::cmp::Reverse;
use core::ops::Range;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

/// A way in which a collective of several hosts can run, and what it comes to. Times are in nanoseconds; docs/clusters.md says what the ways are.
///
/// # Examples
///
/// ```
/// use tercio::explain::{Costs, Question};
///
/// // Four hosts with a rank each: the root's link carries the bytes once for each of the two ranks that it serves itself.
/// let ways = Question::new("bcast", &[0, 1, 2, 3]).explain(&Costs::default()).unwrap();
/// let leaders = ways.iter().find(|way| way.way == "leaders").unwrap();
/// assert_eq!((leaders.messages_between, leaders.link_stress), (3, 2));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explained {
    /// Its name.
    pub way: &'static str,
    /// Whether it is the one that runs.
    pub is_chosen: bool,
    /// How long it takes by the formula that chooses.
    pub estimate: u64,
    /// How long it takes by the schedules of all ranks, run with these costs.
    pub time: u64,
    /// Messages from one host to another.
    pub messages_between: u64,
    /// Their bytes.
    pub bytes_between: u64,
    /// How often the same bytes cross the same host's link in the same direction, at the most.
    pub link_stress: u64,
    /// When a rank is done, as a multiple of the time that one message with all that it gets would take straight to it: the mean of
    /// all ranks that get something, and the worst.
    pub delay_penalty: (f64, f64),
    /// The times of all messages together.
    pub tree_cost: u64,
}

/// All ways of a collective on these hosts, as `choice` has them.
fn explain(asked: &Asked, hosts: &Hosts, costs: &Costs) -> Vec<Explained> {
    let question = asked.question();
    let chosen = match hosts.count() {
        1 => Way::Flat,
        _ => choice::choose(hosts, costs, &question),
    };
    let ways: &[Way] = match hosts.count() {
        1 => &[Way::Flat],
        _ => choice::ways(&question),
    };
    ways.iter()
        .filter_map(|&way| {
            let plans: Option<Vec<Plan>> = (0..hosts.size())
                .map(|rank| asked.plan(hosts, rank, way))
                .collect();
            let plans = plans?;
            let mut course = Course::new(&plans, hosts, costs);
            course.run();
            Some(Explained {
                way: way.name(),
                is_chosen: way == chosen,
                estimate: choice::estimate(hosts, costs, &question, way),
                time: course.members.iter().map(|m| m.time).max().unwrap_or(0),
                messages_between: course.messages,
                bytes_between: course.bytes,
                link_stress: course.crossed.values().copied().max().unwrap_or(0),
                delay_penalty: penalty(asked, hosts, costs, &plans, &course),
                tree_cost: course.cost,
            })
        })
        .collect()
}

fn at(bytes: usize, kib: u64) -> u64 {
    (bytes as u128 * kib as u128 / 1024) as u64
}

/// When members are done beside the time of one message with all that they get.
fn penalty(
    asked: &Asked,
    hosts: &Hosts,
    costs: &Costs,
    plans: &[Plan],
    course: &Course<'_>,
) -> (f64, f64) {
    let from_root = matches!(asked.kind, CollKind::Broadcast | CollKind::Scatter);
    let mut all = Vec::new();
    for (rank, plan) in plans.iter().enumerate() {
        let bytes: usize = plan.outputs.iter().map(|(from, _)| from.len()).sum();
        let waits = asked.kind == CollKind::Barrier || !plan.outputs.is_empty();
        if !waits || from_root && rank == asked.root {
            continue;
        }
        let bytes = match asked.kind {
            CollKind::Gather | CollKind::AllGather | CollKind::AllToAll => {
                bytes - bytes / hosts.size()
            }
            _ => bytes,
        };
        let inside = hosts.count() == 1 || from_root && hosts.host(rank) == hosts.host(asked.root);
        let direct = match inside {
            true => costs.inside_latency + at(bytes, costs.inside_kib),
            false => costs.between_latency + at(bytes, costs.between_kib),
        };
        all.push(course.members[rank].time as f64 / direct.max(1) as f64);
    }
    let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
    (mean, all.into_iter().fold(0.0, f64::max))
}

/// Bytes of a member's source that are followed.
const FOLLOWED: usize = 61;

struct Member {
    round: usize,
    time: u64,
    /// Whether the round's sends are out.
    has_sent: bool,
    /// What the bytes that are followed are, and where in the scratch buffer.
    holds: BTreeMap<usize, u64>,
}

struct Message {
    arrives: u64,
    /// Bytes that are followed, counted from the message's start.
    holds: Vec<(usize, u64)>,
}

/// The schedules of all members on their way.
struct Course<'a> {
    plans: &'a [Plan],
    hosts: &'a Hosts,
    costs: &'a Costs,
    members: Vec<Member>,
    under_way: HashMap<(usize, usize), VecDeque<Message>>,
    /// When what a host sends to others, and receives from them, is through its link.
    link: Vec<[u64; 2]>,
    /// How often a byte has crossed a host's link: host, direction, what it is.
    crossed: HashMap<(usize, usize, u64), u64>,
    messages: u64,
    bytes: u64,
    cost: u64,
}

fn mix(a: u64, b: u64) -> u64 {
    (a.rotate_left(23) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ a >> 7
}

impl<'a> Course<'a> {
    fn new(plans: &'a [Plan], hosts: &'a Hosts, costs: &'a Costs) -> Course<'a> {
        let member = |(rank, plan): (usize, &Plan)| {
            let len = plan
                .inputs
                .iter()
                .map(|(part, _)| part.at + part.bytes)
                .max()
                .unwrap_or(0);
            let mut holds = BTreeMap::new();
            for i in 0..FOLLOWED.min(len) {
                let byte = len * i / FOLLOWED.min(len);
                for (part, to) in &plan.inputs {
                    if (part.at..part.at + part.bytes).contains(&byte) {
                        holds.insert(to + byte - part.at, mix(rank as u64 + 1, byte as u64 + 1));
                    }
                }
            }
            Member {
                round: 0,
                time: 0,
                has_sent: false,
                holds,
            }
        };
        Course {
            plans,
            hosts,
            costs,
            members: plans.iter().enumerate().map(member).collect(),
            under_way: HashMap::new(),
            link: vec![[0; 2]; hosts.count()],
            crossed: HashMap::new(),
            messages: 0,
            bytes: 0,
            cost: 0,
        }
    }

    /// Members in the order of their times, each as far as it comes.
    fn run(&mut self) {
        let mut next: BinaryHeap<_> = (0..self.plans.len())
            .map(|rank| Reverse((0, rank)))
            .collect();
        while let Some(Reverse((_, rank))) = next.pop() {
            let Some(round) = self.plans[rank]
                .schedule
                .rounds
                .get(self.members[rank].round)
            else {
                continue;
            };
            if !self.members[rank].has_sent {
                for transfer in &round.transfers {
                    if let Transfer::Send { to, part } = transfer {
                        self.send(rank, *to, part);
                        // Whoever waits for it looks again.
                        next.push(Reverse((self.members[*to].time, *to)));
                    }
                }
                self.members[rank].has_sent = true;
            }
            if self.receive(rank) {
                next.push(Reverse((self.members[rank].time, rank)));
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, part: &Range<usize>) {
        let (host, other) = (self.hosts.host(from), self.hosts.host(to));
        let holds: Vec<_> = self.members[from]
            .holds
            .range(part.clone())
            .map(|(place, what)| (place - part.start, *what))
            .collect();
        let costs = self.costs;
        let arrives = if host == other {
            let time = &mut self.members[from].time;
            *time += at(part.len(), costs.inside_kib);
            self.cost += costs.inside_latency + at(part.len(), costs.inside_kib);
            *time + costs.inside_latency
        } else {
            self.messages += 1;
            self.bytes += part.len() as u64;
            self.cost += costs.between_latency + at(part.len(), costs.between_kib);
            for (_, what) in &holds {
                *self.crossed.entry((host, 0, *what)).or_default() += 1;
                *self.crossed.entry((other, 1, *what)).or_default() += 1;
            }
            // The sender's own work, then the links of both hosts, which others use too.
            let (begun, wire) = (self.members[from].time, at(part.len(), costs.host_kib));
            let sent = begun + costs.between_latency / 8 + at(part.len(), costs.between_kib);
            self.members[from].time = sent;
            let out = self.link[host][0].max(begun) + wire;
            self.link[host][0] = out;
            let into = self.link[other][1].max(begun) + wire;
            self.link[other][1] = into;
            sent.max(out).max(into) + costs.between_latency - costs.between_latency / 8
        };
        let message = Message { arrives, holds };
        self.under_way
            .entry((from, to))
            .or_default()
            .push_back(message);
    }

    /// Ends the round of `rank`, if all that it waits for is under way.
    fn receive(&mut self, rank: usize) -> bool {
        let plans = self.plans;
        let round = &plans[rank].schedule.rounds[self.members[rank].round];
        let mut wanted: HashMap<usize, usize> = HashMap::new();
        for transfer in &round.transfers {
            if let Transfer::Receive { from, .. } = transfer {
                *wanted.entry(*from).or_default() += 1;
            }
        }
        let there = |from: usize| self.under_way.get(&(from, rank)).map_or(0, VecDeque::len);
        if wanted.iter().any(|(from, count)| there(*from) < *count) {
            return false;
        }
        let member = &mut self.members[rank];
        for transfer in &round.transfers {
            let Transfer::Receive { from, part } = transfer else {
                continue;
            };
            let message = self
                .under_way
                .get_mut(&(*from, rank))
                .and_then(VecDeque::pop_front);
            let Some(message) = message else { continue };
            member.time = member.time.max(message.arrives);
            put(&mut member.holds, part, message.holds);
        }
        for step in &round.then {
            let (from, to) = match step {
                Local::Combine { input, inout } => {
                    member.time += at(inout.len(), self.costs.combine_kib);
                    (input.clone(), inout.start)
                }
                Local::Copy { from, to } => (from.clone(), *to),
            };
            let moved: Vec<_> = member
                .holds
                .range(from.clone())
                .map(|(place, what)| (place - from.start, *what))
                .collect();
            if let Local::Copy { .. } = step {
                put(&mut member.holds, &(to..to + from.len()), moved);
                continue;
            }
            for (offset, what) in moved {
                let other = member.holds.entry(to + offset).or_default();
                *other = mix(what, *other);
            }
        }
        member.round += 1;
        member.has_sent = false;
        true
    }
}

fn put(holds: &mut BTreeMap<usize, u64>, part: &Range<usize>, what: Vec<(usize, u64)>) {
    let old: Vec<_> = holds.range(part.clone()).map(|(place, _)| *place).collect();
    for place in old {
        holds.remove(&place);
    }
    holds.extend(
        what.into_iter()
            .map(|(offset, what)| (part.start + offset, what)),
    );
}

impl Asked {
    /// What the choice depends on.
    pub(super) fn question(&self) -> Question {
        Question {
            kind: self.kind,
            bytes: match self.parts.is_empty() {
                true => self.bytes,
                false => self.parts.iter().map(|part| part.bytes).sum(),
            },
            ordered: self.fold.is_some_and(|fold| fold.ordered),
        }
    }
}

/// What a user asks to have explained: an operation by its name, on hosts.
#[derive(Clone, Debug)]
pub(crate) struct Wish<'w> {
    pub(crate) operation: &'w str,
    /// A number for each rank's host.
    pub(crate) hosts: &'w [u32],
    pub(crate) root: usize,
    pub(crate) bytes: usize,
    pub(crate) is_ordered: bool,
}

/// The operations that have ways, by the names that this library has for them.
const KINDS: [CollKind; 11] = [
    CollKind::Barrier,
    CollKind::Broadcast,
    CollKind::Reduce,
    CollKind::AllReduce,
    CollKind::Gather,
    CollKind::Scatter,
    CollKind::AllGather,
    CollKind::AllToAll,
    CollKind::Scan,
    CollKind::ExclusiveScan,
    CollKind::ReduceScatterBlock,
];

impl Wish<'_> {
    /// All ways; the sentence for what cannot be explained.
    pub(crate) fn explain(&self, costs: &Costs) -> Result<Vec<Explained>> {
        let refuse = |text: String| Err(Error::new(ErrorClass::Arg, text));
        let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
        let short = |kind: CollKind| match kind {
            CollKind::Broadcast => "bcast",
            CollKind::ExclusiveScan => "exscan",
            other => other.name(),
        };
        let wanted = plain(self.operation);
        let found = KINDS
            .into_iter()
            .find(|kind| [plain(kind.name()), plain(short(*kind))].contains(&wanted));
        let Some(kind) = found else {
            let names: Vec<_> = KINDS.into_iter().map(short).collect();
            return refuse(format!(
                "there is no collective {:?} to explain; there are {}",
                self.operation,
                names.join(", ")
            ));
        };
        let size = self.hosts.len();
        if size == 0 || size > MOST_RANKS || self.root >= size || self.bytes > MOST_BYTES {
            return refuse(format!(
                "{} by {size} ranks from root {} with {} bytes cannot be explained; there can be 1 to {MOST_RANKS} ranks, of which one is the root, \
                 and {MOST_BYTES} bytes",
                kind.name(),
                self.root,
                self.bytes
            ));
        }
        let folds = matches!(
            kind,
            CollKind::Reduce
                | CollKind::AllReduce
                | CollKind::Scan
                | CollKind::ExclusiveScan
                | CollKind::ReduceScatterBlock
        );
        // Reductions of whole words.
        let bytes = match (kind, folds) {
            (CollKind::Barrier, _) => 0,
            (_, true) => self.bytes.next_multiple_of(8),
            _ => self.bytes,
        };
        let asked = Asked {
            kind,
            root: self.root,
            bytes,
            parts: match kind {
                CollKind::AllGather => super::plans::blocks(size, bytes),
                _ => Vec::new(),
            },
            fold: folds.then_some(Fold {
                bytes,
                element: 8,
                ordered: self.is_ordered,
            }),
        };
        Ok(explain(&asked, &Hosts::new(self.hosts), costs))
    }
}

/// So many ranks' schedules are simulated within seconds.
const MOST_RANKS: usize = 1024;
const MOST_BYTES: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(operation: &str, hosts: &[u32], bytes: usize, is_ordered: bool) -> Vec<Explained> {
        let wish = Wish {
            operation,
            hosts,
            root: 0,
            bytes,
            is_ordered,
        };
        wish.explain(&Costs::default()).unwrap()
    }

    fn of<'e>(all: &'e [Explained], way: &str) -> &'e Explained {
        all.iter().find(|it| it.way == way).unwrap()
    }

    /// Four hosts of eight ranks, dealt out in turn.
    fn dealt() -> Vec<u32> {
        (0..32).map(|rank| rank % 4).collect()
    }

    #[test]
    fn only_what_knows_nothing_of_hosts_sends_a_host_the_same_bytes_twice() {
        for bytes in [8, 100_000, 1 << 20] {
            let all = ways("bcast", &dealt(), bytes, false);
            for way in &all {
                match way.way {
                    "flat" => assert!(way.link_stress > 3, "{way:?}"),
                    // Out of the root's host a tree goes twice.
                    "leaders" => assert_eq!((way.link_stress, way.messages_between), (2, 3)),
                    "lanes" | "blocks" => assert!(way.link_stress <= 2, "{way:?}"),
                    _ => unreachable!(),
                }
                assert!(way.way == "flat" || way.bytes_between == 3 * bytes as u64);
            }
            assert_eq!(all.iter().filter(|way| way.is_chosen).count(), 1);
            let least = all.iter().map(|way| way.estimate).min().unwrap();
            assert_eq!(
                all.iter().find(|way| way.is_chosen).unwrap().estimate,
                least
            );
            assert!(of(&all, "leaders").tree_cost < of(&all, "flat").tree_cost);
        }
        let small = ways("bcast", &dealt(), 8, false);
        assert!(of(&small, "leaders").is_chosen);
        let by_three: Vec<u32> = (0..32).map(|rank| rank % 3).collect();
        let odd = ways("bcast", &by_three, 8, false);
        assert!(of(&odd, "leaders").time < of(&odd, "flat").time);
        assert!(of(&odd, "leaders").delay_penalty.0 < of(&odd, "flat").delay_penalty.0);
        assert!(!of(&ways("bcast", &dealt(), 1 << 24, false), "leaders").is_chosen);
    }

    #[test]
    fn estimates_are_near_what_the_schedules_take() {
        let near: Vec<u32> = (0..32).map(|rank| rank / 8).collect();
        for (kind, bytes) in KINDS
            .iter()
            .flat_map(|kind| [(kind, 8), (kind, 4096), (kind, 1 << 18)])
        {
            for is_ordered in [true, false] {
                for way in ways(kind.name(), &near, bytes, is_ordered) {
                    // The flat ways are estimated for ranks anyhow.
                    if way.way == "flat" {
                        continue;
                    }
                    let ratio = way.estimate as f64 / way.time as f64;
                    assert!((0.2..5.0).contains(&ratio), "{kind:?} {bytes} {way:?}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_explained_gets_a_sentence() {
        let wish = Wish {
            operation: "gossip",
            hosts: &[0],
            root: 0,
            bytes: 8,
            is_ordered: false,
        };
        let text = wish.explain(&Costs::default()).unwrap_err().to_string();
        assert!(
            text.contains("no collective \"gossip\"") && text.contains("bcast"),
            "{text}"
        );
        let text = Wish {
            operation: "bcast",
            root: 1,
            ..wish
        }
        .explain(&Costs::default());
        assert!(text.unwrap_err().to_string().contains("1 to 1024 ranks"));
    }
}
