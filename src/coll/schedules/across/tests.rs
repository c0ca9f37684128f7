//! The schedules of all members, simulated, for up to 40 members in any layout: what they give, in how many rounds, and what crosses between hosts.
use super::super::simulator::simulate;
use super::super::{Fold, Plan};
use super::*;
use crate::coll::Part;
use crate::coll::hosts::Hosts;
use crate::model::Transfer;
use proptest::prelude::*;

/// Layouts of up to 40 members: neighbours on a host, dealt out in turn, or anyhow; some hosts with more than others.
fn layouts() -> impl Strategy<Value = Hosts> {
    let uneven = prop::collection::vec(1..=10_usize, 1..=9).prop_map(|counts| {
        let named = counts.iter().enumerate();
        let mut named: Vec<u32> = named.flat_map(|(h, n)| vec![h as u32; *n]).collect();
        named.truncate(40);
        named
    });
    let dealt = (1..=40_usize, 1..=9_u32)
        .prop_map(|(size, hosts)| (0..size).map(|m| m as u32 % hosts).collect());
    let any = prop::collection::vec(0..7_u32, 1..=40);
    prop_oneof![uneven, dealt, any].prop_map(|named| Hosts::new(&named))
}

fn bytes_of(rank: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (rank * 37 + i * 11 + 1) as u8).collect()
}

/// Neither commutative nor associative, on elements of three bytes: any other order, grouping or cut shows.
fn odd(input: &[u8], inout: &mut [u8]) {
    assert_eq!(input.len() % 3, 0);
    for (a, b) in input.chunks(3).zip(inout.chunks_mut(3)) {
        let sum = a[0].wrapping_mul(3).wrapping_add(b[1]);
        b[0] = sum ^ a[2];
        b[1] = b[1].wrapping_mul(5).wrapping_add(a[1]);
        b[2] = b[2].wrapping_add(a[0] ^ 0x5a);
    }
}

fn xor(input: &[u8], inout: &mut [u8]) {
    input.iter().zip(inout).for_each(|(a, b)| *b ^= a);
}

fn fold_of(contributions: &[Vec<u8>], op: fn(&[u8], &mut [u8])) -> Vec<u8> {
    let mut acc = contributions[0].clone();
    for next in &contributions[1..] {
        let mut next = next.clone();
        op(&acc, &mut next);
        acc = next;
    }
    acc
}

fn plans(hosts: &Hosts, plan: impl Fn(usize) -> Plan) -> Vec<Plan> {
    (0..hosts.size()).map(plan).collect()
}

/// Bytes and messages that come to each host from others.
fn incoming(hosts: &Hosts, plans: &[Plan]) -> Vec<(usize, usize)> {
    let mut all = vec![(0, 0); hosts.count()];
    for (rank, plan) in plans.iter().enumerate() {
        for transfer in plan.schedule.rounds.iter().flat_map(|r| &r.transfers) {
            if let Transfer::Receive { from, part } = transfer {
                let host = hosts.host(rank);
                if hosts.host(*from) != host {
                    all[host].0 += part.len();
                    all[host].1 += 1;
                }
            }
        }
    }
    all
}

/// The most rounds that one member has in which it meets another host.
fn rounds_between(hosts: &Hosts, plans: &[Plan]) -> usize {
    let meets = |rank: usize, transfer: &Transfer| match transfer {
        Transfer::Receive { from: peer, .. } | Transfer::Send { to: peer, .. } => {
            hosts.host(*peer) != hosts.host(rank)
        }
    };
    let of = |(rank, plan): (usize, &Plan)| {
        let rounds = plan.schedule.rounds.iter();
        rounds
            .filter(|round| round.transfers.iter().any(|t| meets(rank, t)))
            .count()
    };
    plans.iter().enumerate().map(of).max().unwrap_or(0)
}

fn log2(hosts: &Hosts) -> usize {
    hosts.count().next_power_of_two().trailing_zeros() as usize
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("PROPTEST_CASES").map_or(64, |_| ProptestConfig::default().cases)))]

    #[test]
    fn moving(hosts in layouts(), root in 0..40_usize, bytes in prop_oneof![7 => 0..70_usize, 1 => Just(3 * moving::BLOCK + 5)], lens in prop::collection::vec(0..30_usize, 40), seed: u64) {
        let size = hosts.size();
        let root = root % size;
        let nothing = vec![Vec::new(); size];
        let several = hosts.count() > 1;

        let all = plans(&hosts, |r| barrier(&hosts, r));
        simulate(&all, &nothing, nothing.clone(), &xor, seed);
        prop_assert_eq!(rounds_between(&hosts, &all), log2(&hosts));

        let source = bytes_of(root, bytes);
        for way in [Way::Leaders, Way::Blocks, Way::Lanes] {
            let all = plans(&hosts, |r| broadcast(&hosts, r, root, bytes, way));
            let got = simulate(&all, &vec![source.clone(); size], vec![vec![0xee; bytes]; size], &xor, seed);
            prop_assert!((0..size).all(|r| r == root || got[r] == source), "{way:?}");
            // A host receives the same bytes once.
            for (host, (came, messages)) in incoming(&hosts, &all).into_iter().enumerate() {
                prop_assert_eq!(came, if host == hosts.host(root) { 0 } else { bytes });
                prop_assert!(way != Way::Leaders || messages == (host != hosts.host(root)) as usize);
            }
            let blocks = bytes.div_ceil(moving::BLOCK).max(1);
            let most = match way {
                Way::Leaders => 1 + several as usize,
                Way::Blocks => blocks - 1 + log2(&hosts),
                _ => usize::MAX,
            };
            prop_assert!(rounds_between(&hosts, &all) <= most, "{way:?}");
        }

        let few = bytes.min(70);
        let parts: Vec<_> = (0..size).map(|m| Part { at: m * (few + 1), bytes: few }).collect();
        let mut together = vec![0xee; size * (few + 1)];
        let sources: Vec<_> = (0..size).map(|r| bytes_of(r, few)).collect();
        for (part, source) in parts.iter().zip(&sources) {
            together[part.at..part.at + few].copy_from_slice(source);
        }
        let all = plans(&hosts, |r| gather(&hosts, r, root, few, if r == root { &parts } else { &[] }));
        let got = simulate(&all, &sources, vec![vec![0xee; together.len()]; size], &xor, seed);
        prop_assert_eq!(&got[root], &together);
        prop_assert_eq!(incoming(&hosts, &all)[hosts.host(root)].1, hosts.count() - 1);
        let all = plans(&hosts, |r| scatter(&hosts, r, root, few, if r == root { &parts } else { &[] }));
        let got = simulate(&all, &vec![together.clone(); size], vec![vec![0xee; few]; size], &xor, seed);
        prop_assert_eq!(&got, &sources);
        prop_assert!(incoming(&hosts, &all).iter().all(|(_, messages)| *messages <= 1));

        // Pieces of any lengths.
        let mut at = 0;
        let parts: Vec<_> = lens[..size].iter().map(|&bytes| { at += bytes + 1; Part { at: at - bytes - 1, bytes } }).collect();
        let sources: Vec<_> = (0..size).map(|r| bytes_of(r, parts[r].bytes)).collect();
        let mut together = vec![0xee; at];
        for (part, source) in parts.iter().zip(&sources) {
            together[part.at..part.at + part.bytes].copy_from_slice(source);
        }
        let total: usize = parts.iter().map(|p| p.bytes).sum();
        for way in [Way::Leaders, Way::Lanes] {
            let all = plans(&hosts, |r| all_gather(&hosts, r, &parts, way));
            let got = simulate(&all, &sources, vec![vec![0xee; at]; size], &xor, seed);
            prop_assert!(got.iter().all(|g| *g == together), "{way:?}");
            for (host, (came, _)) in incoming(&hosts, &all).into_iter().enumerate() {
                let own: usize = hosts.members(host).iter().map(|m| parts[*m].bytes).sum();
                prop_assert_eq!(came, total - own);
            }
            prop_assert!(way == Way::Lanes || rounds_between(&hosts, &all) <= log2(&hosts));
        }

        let block = bytes % 7;
        let sources: Vec<_> = (0..size).map(|r| bytes_of(r, size * block)).collect();
        let all = plans(&hosts, |r| all_to_all(&hosts, r, block));
        let got = simulate(&all, &sources, vec![vec![0xee; size * block]; size], &xor, seed);
        for r in 0..size {
            for k in 0..size {
                prop_assert_eq!(&got[r][k * block..(k + 1) * block], &sources[k][r * block..(r + 1) * block]);
            }
        }
        prop_assert!(incoming(&hosts, &all).iter().all(|(_, messages)| *messages == hosts.count() - 1));
    }

    #[test]
    fn folding(hosts in layouts(), root in 0..40_usize, elements in prop_oneof![5 => 0..70_usize, 1 => Just(120_000)], seed: u64) {
        let size = hosts.size();
        // Long ones are for the ways that cut them, of few members.
        let elements = if size > 9 { elements % 70 } else { elements };
        let (root, bytes) = (root % size, 3 * elements);
        let sources: Vec<_> = (0..size).map(|r| bytes_of(r, bytes)).collect();
        let empty = |len: usize| vec![vec![0xee; len]; size];
        let blocks: Vec<_> = (0..size).map(|r| bytes_of(r, (bytes % 210) * size)).collect();
        let ordered = [Way::Gathered, Way::Chain, Way::Spread];
        let unordered = [Way::Leaders, Way::Lanes, Way::Gathered, Way::Chain, Way::Spread];
        for (ways, op, is_ordered) in [(&ordered[..], odd as fn(&[u8], &mut [u8]), true), (&unordered[..], xor, false)] {
            let fold = Fold { bytes, element: 3, ordered: is_ordered };
            let want = fold_of(&sources, op);
            for &way in ways {
                let all = plans(&hosts, |r| reduce(&hosts, r, root, &fold, way));
                prop_assert_eq!(&simulate(&all, &sources, empty(bytes), &op, seed)[root], &want, "{:?}", way);
                if way == Way::Leaders {
                    prop_assert!(incoming(&hosts, &all).iter().all(|(came, _)| *came <= log2(&hosts) * bytes));
                }
                let all = plans(&hosts, |r| all_reduce(&hosts, r, &fold, way));
                let got = simulate(&all, &sources, empty(bytes), &op, seed);
                prop_assert!(got.iter().all(|g| *g == want), "{:?}", way);
                for (host, (came, _)) in incoming(&hosts, &all).into_iter().enumerate() {
                    let others = size - hosts.members(host).len();
                    let most = match way {
                        // Everybody's contribution, once.
                        Way::Gathered => others * bytes,
                        // A prefix for each run, and the result.
                        Way::Chain => (1 + hosts.runs().iter().filter(|run| hosts.host(run.start) == host).count()) * bytes,
                        // What other hosts have of its own slices, and their slices of the result; slices are whole elements.
                        Way::Lanes => 2 * (bytes + 3 * hosts.count() * hosts.widest().min(LANES)),
                        _ => usize::MAX,
                    };
                    prop_assert!(came <= most, "{way:?}: {came} of {most}");
                }
                prop_assert!(way != Way::Gathered || rounds_between(&hosts, &all) <= log2(&hosts));
            }
            for inclusive in [true, false] {
                let all = plans(&hosts, |r| prefix(&hosts, r, &fold, inclusive));
                let got = simulate(&all, &sources, empty(bytes), &op, seed);
                prop_assert!((!inclusive as usize..size).all(|r| got[r] == fold_of(&sources[..r + inclusive as usize], op)));
                prop_assert!(inclusive || got[0] == vec![0xee; bytes]);
            }
            let fold = Fold { bytes: bytes % 210, ..fold };
            let want = fold_of(&blocks, op);
            for &way in if is_ordered { &[Way::Gathered][..] } else { &[Way::Gathered, Way::Leaders] } {
                let all = plans(&hosts, |r| reduce_scatter_block(&hosts, r, &fold, way));
                let got = simulate(&all, &blocks, empty(fold.bytes), &op, seed);
                prop_assert!((0..size).all(|r| got[r][..] == want[r * fold.bytes..(r + 1) * fold.bytes]), "{way:?}");
            }
        }
    }
}
