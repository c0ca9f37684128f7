//! Runs the schedules of all members in one thread, one message at a time in an order drawn from a seed: a deterministic test tool.
use super::Plan;
use crate::model::{Local, Transfer};
use std::collections::{HashMap, VecDeque};

/// How `inout = input op inout` is done.
pub(in crate::coll) type Combine<'a> = &'a dyn Fn(&[u8], &mut [u8]);

struct Member {
    scratch: Vec<u8>,
    round: usize,
    /// Which transfers of the round are complete.
    complete: Vec<bool>,
}

/// What each member's destination holds at the end, given each member's source and the destination's bytes before.
///
/// A send completes only when its receive takes it, so a schedule that needs buffering deadlocks here (and panics).
pub(in crate::coll) fn simulate(
    plans: &[Plan],
    sources: &[Vec<u8>],
    mut destinations: Vec<Vec<u8>>,
    combine: Combine<'_>,
    seed: u64,
) -> Vec<Vec<u8>> {
    let mut members: Vec<Member> = plans
        .iter()
        .zip(sources)
        .map(|(plan, source)| {
            let mut scratch = vec![0; plan.schedule.scratch];
            for (part, to) in &plan.inputs {
                scratch[*to..to + part.bytes]
                    .copy_from_slice(&source[part.at..part.at + part.bytes]);
            }
            Member {
                scratch,
                round: 0,
                complete: Vec::new(),
            }
        })
        .collect();
    let mut random = seed | 1;
    loop {
        // Members that have nothing left to wait for in their round go on.
        for (plan, member) in plans.iter().zip(&mut members) {
            advance(plan, member, combine);
        }
        if plans
            .iter()
            .zip(&members)
            .all(|(p, m)| m.round == p.schedule.rounds.len())
        {
            break;
        }
        let ready = matches(plans, &members);
        assert!(
            !ready.is_empty(),
            "the schedules wait for each other: {plans:#?}"
        );
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Some of them, from anywhere on: from one to all.
        let (first, count) = (
            random as usize % ready.len(),
            (random >> 32) as usize % ready.len(),
        );
        for i in first..=first + count {
            let (out, place) = ready[i % ready.len()];
            deliver(plans, &mut members, out, place);
        }
    }
    for ((plan, member), destination) in plans.iter().zip(&members).zip(&mut destinations) {
        for (from, at) in &plan.outputs {
            destination[*at..at + from.len()].copy_from_slice(&member.scratch[from.clone()]);
        }
    }
    destinations
}

fn advance(plan: &Plan, member: &mut Member, combine: Combine<'_>) {
    while let Some(round) = plan.schedule.rounds.get(member.round) {
        if member.complete.len() != round.transfers.len() {
            member.complete = vec![false; round.transfers.len()];
        }
        if member.complete.contains(&false) {
            return;
        }
        for step in &round.then {
            match step {
                Local::Combine { input, inout } => {
                    assert!(input.end <= inout.start || inout.end <= input.start);
                    let left = member.scratch[input.clone()].to_vec();
                    combine(&left, &mut member.scratch[inout.clone()]);
                }
                Local::Copy { from, to } => member.scratch.copy_within(from.clone(), *to),
            }
        }
        member.round += 1;
        member.complete.clear();
    }
}

/// The pairs (member, transfer) of sends and receives that meet now: between two members, the first open send meets the first open receive.
fn matches(plans: &[Plan], members: &[Member]) -> Vec<((usize, usize), (usize, usize))> {
    let mut sends: HashMap<(usize, usize), VecDeque<usize>> = HashMap::new();
    let mut receives: HashMap<(usize, usize), VecDeque<usize>> = HashMap::new();
    for (rank, (plan, member)) in plans.iter().zip(members).enumerate() {
        let Some(round) = plan.schedule.rounds.get(member.round) else {
            continue;
        };
        for (i, transfer) in round.transfers.iter().enumerate() {
            if member.complete[i] {
                continue;
            }
            match transfer {
                Transfer::Send { to, .. } => sends.entry((rank, *to)).or_default().push_back(i),
                Transfer::Receive { from, .. } => {
                    receives.entry((*from, rank)).or_default().push_back(i)
                }
            }
        }
    }
    let mut ready: Vec<_> = sends
        .iter()
        .filter_map(|(pair, out)| {
            let place = receives.get(pair)?;
            Some(((pair.0, out[0]), (pair.1, place[0])))
        })
        .collect();
    ready.sort_unstable();
    ready
}

fn deliver(
    plans: &[Plan],
    members: &mut [Member],
    (from, out): (usize, usize),
    (to, place): (usize, usize),
) {
    let transfer =
        |rank: usize, i: usize| &plans[rank].schedule.rounds[members[rank].round].transfers[i];
    let (Transfer::Send { part: source, .. }, Transfer::Receive { part: room, .. }) =
        (transfer(from, out), transfer(to, place))
    else {
        unreachable!("matches pairs sends with receives")
    };
    assert_eq!(
        source.len(),
        room.len(),
        "a message from {from} to {to} does not fit"
    );
    let bytes = members[from].scratch[source.clone()].to_vec();
    members[to].scratch[room.clone()].copy_from_slice(&bytes);
    members[from].complete[out] = true;
    members[to].complete[place] = true;
}

mod tests {
    use super::super::*;
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(rank: usize, len: usize) -> Vec<u8> {
        (0..len).map(|i| (rank * 37 + i * 11 + 1) as u8).collect()
    }

    /// Neither commutative nor associative: any other order or grouping shows.
    fn odd(input: &[u8], inout: &mut [u8]) {
        for (a, b) in input.iter().zip(inout) {
            *b = a.wrapping_mul(3).wrapping_add(*b ^ 0x5a);
        }
    }

    fn left_fold(contributions: &[Vec<u8>]) -> Vec<u8> {
        let mut acc = contributions[0].clone();
        for next in &contributions[1..] {
            let mut next = next.clone();
            odd(&acc, &mut next);
            acc = next;
        }
        acc
    }

    fn parts_of(lens: &[usize]) -> Vec<Part> {
        let mut at = 0;
        lens.iter()
            .map(|&bytes| {
                let part = Part { at, bytes };
                // A gap of one byte that nobody may touch.
                at += bytes + 1;
                part
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(std::env::var("PROPTEST_CASES").map_or(60, |_| ProptestConfig::default().cases)))]

        #[test]
        fn moving_collectives(size in 1..=17_usize, root in 0..17_usize, lens in prop::collection::vec(0..70_usize, 17), seed: u64) {
            let root = root % size;
            let lens = &lens[..size];
            let sources: Vec<_> = (0..size).map(|r| bytes_of(r, lens[r])).collect();
            let parts = parts_of(lens);
            let total = parts[size - 1].at + lens[size - 1] + 1;
            let mut all = vec![0xee; total];
            for (part, source) in parts.iter().zip(&sources) {
                all[part.at..part.at + part.bytes].copy_from_slice(source);
            }
            let empty = |len: usize| vec![vec![0xee; len]; size];

            let plans: Vec<_> = (0..size).map(|r| barrier(size, r)).collect();
            simulate(&plans, &sources, empty(0), &odd, seed);

            let plans: Vec<_> = (0..size).map(|r| broadcast(size, r, root, lens[root])).collect();
            let got = simulate(&plans, &sources, empty(lens[root]), &odd, seed);
            prop_assert!((0..size).all(|r| r == root || got[r] == sources[root]));

            let plans: Vec<_> = (0..size)
                .map(|r| gather(size, r, root, lens[r], if r == root { &parts } else { &[] }))
                .collect();
            let got = simulate(&plans, &sources, empty(total), &odd, seed);
            prop_assert_eq!(&got[root], &all);

            let plans: Vec<_> = (0..size).map(|r| all_gather(size, r, &parts)).collect();
            let got = simulate(&plans, &sources, empty(total), &odd, seed);
            prop_assert!(got.iter().all(|g| *g == all));

            let plans: Vec<_> = (0..size)
                .map(|r| scatter(size, r, root, lens[r], if r == root { &parts } else { &[] }))
                .collect();
            let got = simulate(&plans, &vec![all.clone(); size], empty(70), &odd, seed);
            prop_assert!((0..size).all(|r| got[r][..lens[r]] == sources[r][..] && got[r][lens[r]..].iter().all(|b| *b == 0xee)));

            // Member r gives (r + k) % 5 bytes to member k.
            let give: Vec<_> = (0..size).map(|r| parts_of(&(0..size).map(|k| (r + k) % 5).collect::<Vec<_>>())).collect();
            let take: Vec<_> = (0..size).map(|r| parts_of(&(0..size).map(|k| (k + r) % 5).collect::<Vec<_>>())).collect();
            let sources: Vec<_> = (0..size).map(|r| bytes_of(r, 6 * size)).collect();
            let plans: Vec<_> = (0..size).map(|r| all_to_all(size, r, &give[r], &take[r])).collect();
            let got = simulate(&plans, &sources, empty(6 * size), &odd, seed);
            for r in 0..size {
                for k in 0..size {
                    let (from, to) = (give[k][r], take[r][k]);
                    prop_assert_eq!(&got[r][to.at..to.at + to.bytes], &sources[k][from.at..from.at + from.bytes]);
                }
            }
        }

        #[test]
        fn reductions(size in 1..=17_usize, root in 0..17_usize, elements in 0..40_usize, element in prop::sample::select(vec![1_usize, 8, 24, 5000]), seed: u64) {
            let root = root % size;
            let bytes = if element > 100 { elements % 8 } else { elements } * element;
            let fold = Fold { bytes, element, ordered: true };
            let sources: Vec<_> = (0..size).map(|r| bytes_of(r, bytes)).collect();
            let want = left_fold(&sources);
            let empty = |len: usize| vec![vec![0xee; len]; size];

            let plans: Vec<_> = (0..size).map(|r| reduce(size, r, root, &fold)).collect();
            prop_assert_eq!(&simulate(&plans, &sources, empty(bytes), &odd, seed)[root], &want);
            let plans: Vec<_> = (0..size).map(|r| all_reduce(size, r, &fold)).collect();
            prop_assert!(simulate(&plans, &sources, empty(bytes), &odd, seed).iter().all(|g| *g == want));
            let plans: Vec<_> = (0..size).map(|r| scan(size, r, &fold)).collect();
            let got = simulate(&plans, &sources, empty(bytes), &odd, seed);
            prop_assert!((0..size).all(|r| got[r] == left_fold(&sources[..=r])));
            let plans: Vec<_> = (0..size).map(|r| exclusive_scan(size, r, &fold)).collect();
            let got = simulate(&plans, &sources, empty(bytes), &odd, seed);
            prop_assert!((1..size).all(|r| got[r] == left_fold(&sources[..r])));
            prop_assert_eq!(&got[0], &vec![0xee; bytes]);

            let blocks: Vec<_> = (0..size).map(|r| bytes_of(r, bytes * size)).collect();
            let plans: Vec<_> = (0..size).map(|r| reduce_scatter_block(size, r, &fold)).collect();
            let got = simulate(&plans, &blocks, empty(bytes), &odd, seed);
            let want = left_fold(&blocks);
            prop_assert!((0..size).all(|r| got[r][..] == want[r * bytes..(r + 1) * bytes]));

            // Exclusive or: any order will do.
            let xor = |a: &[u8], b: &mut [u8]| a.iter().zip(b).for_each(|(a, b)| *b ^= a);
            let fold = Fold { ordered: false, ..fold };
            let mut want = vec![0; bytes];
            sources.iter().for_each(|s| xor(s, &mut want));
            let plans: Vec<_> = (0..size).map(|r| reduce(size, r, root, &fold)).collect();
            prop_assert_eq!(&simulate(&plans, &sources, empty(bytes), &xor, seed)[root], &want);
            let plans: Vec<_> = (0..size).map(|r| all_reduce(size, r, &fold)).collect();
            prop_assert!(simulate(&plans, &sources, empty(bytes), &xor, seed).iter().all(|g| *g == want));
        }
    }
}
