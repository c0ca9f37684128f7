//! Which way a collective of several hosts goes: the one that costs least by a model whose numbers all members have alike.
//!
//! What is estimated here is what schedules/README.md says of each way; nothing but operation, sizes, placement and the model's numbers goes into
//! it, all in whole numbers, so all members choose alike.
use super::hosts::Hosts;
use super::schedules::across::{BLOCK, LANES, Way};
use crate::model::{CollKind, Costs};

/// What the costs depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) kind: CollKind,
    /// The bytes of the collective: of a broadcast or reduction one member's; of a gather, scatter or exchange those of one block; of
    /// `all_gather` all together.
    pub(super) bytes: usize,
    /// Whether the grouping of operands shows.
    pub(super) ordered: bool,
}

/// The ways that there are, the one to be taken first where two cost the same.
pub(super) fn ways(question: &Question) -> &'static [Way] {
    use Way::*;
    match question.kind {
        CollKind::Broadcast => &[Leaders, Blocks, Lanes, Flat],
        CollKind::Reduce if question.ordered => &[Gathered, Chain, Spread, Flat],
        CollKind::Reduce => &[Leaders, Lanes, Gathered, Chain, Spread, Flat],
        CollKind::AllReduce if question.ordered => &[Gathered, Chain, Spread, Flat],
        CollKind::AllReduce => &[Gathered, Leaders, Lanes, Chain, Spread, Flat],
        CollKind::AllGather | CollKind::AllGatherVar => &[Leaders, Lanes, Flat],
        CollKind::Gather | CollKind::Scatter | CollKind::AllToAll => &[Leaders, Flat],
        CollKind::ReduceScatterBlock if question.ordered => &[Gathered, Flat],
        CollKind::ReduceScatterBlock => &[Leaders, Gathered, Flat],
        CollKind::Scan | CollKind::ExclusiveScan => &[Gathered, Flat],
        CollKind::Barrier => &[Leaders, Flat],
        _ => &[Flat],
    }
}

/// The way that costs least. What has a way in which a host receives the same bytes once never goes the flat one, which knows of no hosts.
pub(super) fn choose(hosts: &Hosts, costs: &Costs, question: &Question) -> Way {
    let all = ways(question).iter();
    let sends_twice = matches!(
        question.kind,
        CollKind::Barrier
            | CollKind::Broadcast
            | CollKind::Reduce
            | CollKind::AllReduce
            | CollKind::AllGather
            | CollKind::AllGatherVar
    );
    all.copied()
        .filter(|way| !(sends_twice && *way == Way::Flat))
        .min_by_key(|way| estimate(hosts, costs, question, *way))
        .unwrap_or(Way::Flat)
}

fn log2(count: usize) -> u64 {
    count.next_power_of_two().trailing_zeros() as u64
}

/// What `way` costs, in nanoseconds.
pub(super) fn estimate(hosts: &Hosts, costs: &Costs, question: &Question, way: Way) -> u64 {
    let (size, count, wide) = (
        hosts.size() as u64,
        hosts.count() as u64,
        hosts.widest() as u64,
    );
    let (lh, lk, lp) = (
        log2(hosts.count()),
        log2(hosts.widest()),
        log2(hosts.size()),
    );
    let n = question.bytes as u64;
    let others = size - size / count;
    let at = |bytes: u64, kib: u64| {
        (bytes as u128 * kib as u128 / 1024).min(u64::MAX as u128 >> 16) as u64
    };
    // So much of the way of a message is the sender's own work, one message after the other.
    let each = costs.between_latency / 8;
    let inside = |bytes: u64| costs.inside_latency + at(bytes, costs.inside_kib);
    let between = |bytes: u64| costs.between_latency + at(bytes, costs.between_kib);
    // Of what goes over `lanes` connections of a host together, as long as one of them takes for its share.
    let share = |bytes: u64, lanes: u64| {
        at(bytes / lanes, costs.between_kib).max(at(bytes, costs.host_kib))
    };
    let combine = |bytes: u64| at(bytes, costs.combine_kib);
    // All members of a host tell each other their slices.
    let tell = |bytes: u64| wide * costs.inside_latency / 2 + inside(bytes);
    // Blocks of a slice one after the other: so many rounds, and what each of them takes.
    let stream = |bytes: u64, lanes: u64, steps: u64| {
        let blocks = (bytes / lanes).div_ceil(BLOCK as u64).max(1);
        (blocks - 1 + steps) * (costs.between_latency + share(bytes / blocks, lanes))
    };
    let lanes = wide.min(LANES as u64);
    let ordered_chain = || {
        let runs = hosts.runs();
        let lanes = runs
            .iter()
            .map(ExactSizeIterator::len)
            .max()
            .unwrap_or(1)
            .min(LANES) as u64;
        let crowd = (runs.len() as u64).div_ceil(count);
        let blocks = (n / lanes).div_ceil(BLOCK as u64).max(1);
        let block = n / blocks;
        let step =
            costs.between_latency + share(block * crowd, lanes) + combine(wide * block / lanes);
        (tell(n) + (blocks + runs.len() as u64 - 2) * step, lanes)
    };
    let spread = || {
        let sends = size * each;
        let came = at(n, costs.between_kib).max(at(wide * n, costs.host_kib));
        costs.between_latency + sends + came + combine(n)
    };
    let everything = |n: u64| {
        inside(wide * n)
            + lh * costs.between_latency
            + at(others * n, costs.between_kib)
            + combine(size * n)
    };
    match (question.kind, way) {
        (CollKind::Barrier, Way::Flat) => lp * costs.between_latency * 2,
        (CollKind::Barrier, _) => lh * costs.between_latency + 2 * lk * costs.inside_latency,
        (CollKind::Broadcast, Way::Leaders) => lh * between(n) + lk * inside(n),
        (CollKind::Broadcast, Way::Blocks) => {
            stream(n, 1, lh) + lk * inside(2 * n.min(BLOCK as u64)) + at(n, costs.inside_kib)
        }
        (CollKind::Broadcast, Way::Lanes) => inside(n) + stream(n, lanes, lh) + tell(n),
        (CollKind::Reduce, Way::Leaders) => {
            lh * (between(n) + combine(n)) + lk * (inside(n) + combine(n))
        }
        (CollKind::AllReduce, Way::Leaders) => {
            2 * (lh * between(n) + lk * inside(n)) + (lh + lk) * combine(n)
        }
        (CollKind::Reduce, Way::Gathered) => {
            let came = at(others * n, costs.host_kib).max(at(wide * n, costs.between_kib));
            inside(wide * n) + costs.between_latency + count * each + came + combine(size * n)
        }
        (CollKind::AllReduce, Way::Gathered) => everything(n) + lk * inside(n),
        (CollKind::Reduce, Way::Lanes) => {
            tell(n) + 2 * combine(n) + (lh + 1) * costs.between_latency + 2 * share(n, lanes)
        }
        (CollKind::AllReduce, Way::Lanes) => {
            2 * tell(n) + 2 * combine(n) + 2 * lh * costs.between_latency + 2 * share(n, lanes)
        }
        (CollKind::Reduce, Way::Chain) => {
            let (chain, lanes) = ordered_chain();
            chain + costs.between_latency + share(n, lanes)
        }
        (CollKind::AllReduce, Way::Chain) => {
            let (chain, lanes) = ordered_chain();
            chain + stream(n, lanes, lh) + tell(n)
        }
        (CollKind::Reduce, Way::Spread) => {
            spread() + costs.between_latency + size * each + share(n, size)
        }
        (CollKind::AllReduce, Way::Spread) => {
            spread() + lh * costs.between_latency + share(n, wide) + tell(n)
        }
        (CollKind::AllGather | CollKind::AllGatherVar, Way::Leaders) => {
            inside(n / count)
                + lh * costs.between_latency
                + at(n, costs.between_kib)
                + lk * inside(n)
        }
        (CollKind::AllGather | CollKind::AllGatherVar, Way::Lanes) => {
            lh * costs.between_latency + share(n - n / count, wide) + tell(n)
        }
        (CollKind::AllGather | CollKind::AllGatherVar, _) => (size - 1) * between(n / size),
        (CollKind::Gather | CollKind::Scatter, Way::Leaders) => {
            inside(2 * wide * n)
                + between(wide * n).max(at(others * n, costs.host_kib))
                + count * each
        }
        (CollKind::Gather | CollKind::Scatter, _) => {
            costs.between_latency + size * each + at(others * n, costs.host_kib)
        }
        (CollKind::AllToAll, Way::Leaders) => {
            2 * inside(2 * wide * size * n)
                + costs.between_latency
                + count * each
                + at(wide * others * n, costs.between_kib)
        }
        (CollKind::AllToAll, _) => (size - 1) * between(n).max(at(wide * n, costs.host_kib)),
        (CollKind::ReduceScatterBlock, Way::Leaders) => {
            let all = size * n;
            lk * (inside(all) + combine(all))
                + lh * costs.between_latency
                + at(all, costs.between_kib)
                + combine(all)
                + inside(wide * n)
        }
        (CollKind::ReduceScatterBlock, Way::Gathered) => everything(size * n) + inside(wide * n),
        (CollKind::ReduceScatterBlock, _) => {
            (size - 1) * between(n).max(at(wide * n, costs.host_kib)) + combine(size * n)
        }
        (CollKind::Scan | CollKind::ExclusiveScan, Way::Gathered) => {
            everything(n) + inside(wide * n)
        }
        (CollKind::Scan | CollKind::ExclusiveScan, _) => {
            let piece = n.min(BLOCK as u64 / 2);
            let crossings = hosts.runs().len() as u64 - 1;
            crossings * (between(piece) + combine(piece))
                + (size - 1 - crossings) * (inside(piece) + combine(piece))
                + n / (BLOCK as u64 / 2) * between(piece)
        }
        // Levels of a tree that knows nothing of hosts, and what they bring to a host at the same time.
        (CollKind::Broadcast, _) => lp * between(n) + at(wide / 2 * n, costs.host_kib),
        (CollKind::Reduce, _) if !question.ordered => lp * (between(n) + combine(n)),
        (CollKind::AllReduce, _) if !question.ordered => lp * (2 * between(n) + combine(n)),
        _ => {
            let chain = (size - 1) * between(n.min(BLOCK as u64)) + between(n);
            let gathered = between(others * n) + size * (each + combine(n));
            let half = if size * n <= 32 * 1024 {
                gathered
            } else {
                chain
            };
            half + if question.kind == CollKind::AllReduce {
                lp * between(n)
            } else {
                0
            }
        }
    }
}
