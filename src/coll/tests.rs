//! Every collective against a sequential model, on engines in threads: random sequences of calls, over cells, as schedules, immediate.
mod in_place;

use super::*;
use crate::engine::{Comm, Engine, Settings, ThreadLevel};
use crate::job::Segment;
use crate::model::datatype::Layout;
use crate::model::{Basic, Costs, Predefined, Site};
use core::panic::Location;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::sync::{Arc, Mutex};

#[track_caller]
fn here() -> Site {
    Location::caller()
}

/// Runs `rank` on `size` engines in threads.
fn ranks<T: Send>(size: usize, cores: u32, rank: impl Fn(&Engine) -> T + Sync) -> Vec<T> {
    ranks_at(size, cores, Costs::default(), rank)
}

/// As [`ranks`], in a job whose messages are said to cost this.
fn ranks_at<T: Send>(
    size: usize,
    cores: u32,
    costs: Costs,
    rank: impl Fn(&Engine) -> T + Sync,
) -> Vec<T> {
    let segment = Arc::new(Segment::private(size).unwrap());
    let claimed = segment.control().claimed_cores();
    claimed.store(cores, core::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .map(|r| {
                let (segment, rank) = (segment.clone(), &rank);
                scope.spawn(move || {
                    let mut settings = Settings::new(ThreadLevel::Single);
                    settings.costs = costs;
                    let engine = Engine::new(segment.clone(), r, settings).unwrap();
                    let result = rank(&engine);
                    if !segment.control().is_aborted() {
                        engine.finalize(here()).unwrap();
                    }
                    result
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// All ranks, in a communicator that has no cells.
fn without_cells(engine: &Engine) -> Arc<Communicator> {
    let members = (0..engine.size()).collect();
    let comm = Comm::new(1 << 20, members, engine.rank(), engine.size());
    Communicator::new(engine, comm, None)
}

/// All ranks, as if they were on these hosts.
fn on_hosts(engine: &Engine, named: &[u32]) -> Communicator {
    let members = (0..engine.size()).collect();
    let comm = Comm::new(1 << 21, members, engine.rank(), engine.size());
    Communicator::on(comm, hosts::Hosts::new(named), None)
}

/// Costs of clusters that nobody has built, so that every way is the cheapest for somebody.
fn costs() -> impl Strategy<Value = Costs> {
    let cost = |most: u64| prop_oneof![Just(0), 1..100_u64, 0..most];
    let (latency, kib) = (|| cost(1_000_000), || cost(100_000));
    (latency(), kib(), latency(), kib(), kib(), kib()).prop_map(
        |(inside_latency, inside_kib, between_latency, between_kib, host_kib, combine_kib)| Costs {
            inside_latency,
            inside_kib,
            between_latency,
            between_kib,
            host_kib,
            combine_kib,
        },
    )
}

/// In `long`: the ranks are on a processor with a mesh.
const MESH: u32 = 1 << 31;

/// All ranks; those whose bits are in `long` write into their long areas, as if they had found the others near.
fn with_cells(engine: &Engine, long: u32) -> Arc<Communicator> {
    let world = world(engine, 0..engine.size(), None).unwrap();
    world
        .is_on_mesh
        .store(long & MESH != 0, core::sync::atomic::Ordering::Relaxed);
    if let (Some(cells), true) = (world.cells(), long >> engine.rank() & 1 == 1) {
        world.staging.lock().unwrap().grow(cells);
    }
    world
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    SumF64,
    MaxF64,
    ProductI32,
    XorU8,
    /// Neither associative nor commutative, on elements of three bytes.
    Odd,
}

impl Operator {
    fn op(self) -> (Op, Element) {
        let (op, basic) = match self {
            Operator::SumF64 => (Predefined::Sum, Basic::F64),
            Operator::MaxF64 => (Predefined::Max, Basic::F64),
            Operator::ProductI32 => (Predefined::Product, Basic::I32),
            Operator::XorU8 => (Predefined::BitwiseXor, Basic::U8),
            Operator::Odd => {
                let function = Arc::new(|a: &[u8], b: &mut [u8]| {
                    assert_eq!(a.len() % 3, 0);
                    odd(a, b)
                });
                let element = Element {
                    basic: None,
                    size: 3,
                };
                let op = Op::User {
                    function,
                    commutative: false,
                };
                return (op, element);
            }
        };
        (Op::Predefined(op), Element::of(basic))
    }

    fn left_fold(self, contributions: &[Vec<u8>]) -> Vec<u8> {
        let mut acc = contributions[0].clone();
        for next in &contributions[1..] {
            acc = match self {
                Operator::SumF64 => doubles(&acc, next, |a, b| a + b),
                Operator::MaxF64 => doubles(&acc, next, |a, b| if a > b { a } else { b }),
                Operator::ProductI32 => acc
                    .chunks(4)
                    .zip(next.chunks(4))
                    .flat_map(|(a, b)| {
                        let [a, b] = [a, b].map(|x| i32::from_ne_bytes(x.try_into().unwrap()));
                        a.wrapping_mul(b).to_ne_bytes()
                    })
                    .collect(),
                Operator::XorU8 => acc.iter().zip(next).map(|(a, b)| a ^ b).collect(),
                Operator::Odd => {
                    let mut next = next.clone();
                    odd(&acc, &mut next);
                    next
                }
            }
        }
        acc
    }

    /// Contribution number `call` of `rank`: doubles of very different sizes, so that every other grouping shows.
    fn contribution(self, rank: usize, call: usize, elements: usize) -> Vec<u8> {
        let mut state = (rank * 7919 + call * 104_729 + 1) as u64;
        let mut random = move || {
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            state >> 33
        };
        match self {
            Operator::SumF64 | Operator::MaxF64 => (0..elements)
                .flat_map(|_| {
                    let value = (random() as f64 - 1e9) * 10_f64.powi((random() % 12) as i32 - 6);
                    value.to_ne_bytes()
                })
                .collect(),
            _ => (0..elements * self.op().1.size)
                .map(|_| random() as u8)
                .collect(),
        }
    }
}

fn doubles(a: &[u8], b: &[u8], f: impl Fn(f64, f64) -> f64) -> Vec<u8> {
    a.chunks(8)
        .zip(b.chunks(8))
        .flat_map(|(a, b)| {
            let [a, b] = [a, b].map(|x| f64::from_ne_bytes(x.try_into().unwrap()));
            f(a, b).to_ne_bytes()
        })
        .collect()
}

fn odd(input: &[u8], inout: &mut [u8]) {
    for (a, b) in input.iter().zip(inout) {
        *b = a.wrapping_mul(3).wrapping_add(*b ^ 0x5a);
    }
}

/// How a call is done.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Cells,
    Schedule,
    Immediate,
}

/// One call of a random sequence; all ranks do the same.
#[derive(Clone, Copy, Debug)]
struct Planned {
    /// Which collective.
    kind: usize,
    form: Form,
    root: usize,
    elements: usize,
    operator: Operator,
    /// Whether buffers have gaps.
    gaps: bool,
}

const KINDS: usize = 15;

fn planned() -> impl Strategy<Value = Planned> {
    let form = prop::sample::select(vec![
        Form::Cells,
        Form::Cells,
        Form::Cells,
        Form::Schedule,
        Form::Immediate,
    ]);
    let operator = prop::sample::select(vec![
        Operator::SumF64,
        Operator::MaxF64,
        Operator::ProductI32,
        Operator::XorU8,
        Operator::Odd,
    ]);
    let elements = prop_oneof![
        6 => 0..12_usize,
        3 => 12..2000_usize,
        1 => 2000..30_000_usize,
    ];
    (
        0..KINDS,
        form,
        0..17_usize,
        elements,
        operator,
        any::<bool>(),
    )
        .prop_map(|(kind, form, root, elements, operator, gaps)| Planned {
            kind,
            form,
            root,
            elements,
            operator,
            gaps,
        })
}

/// A user's buffer of `bytes` packed bytes, with a gap after each of them or without.
struct Buffer {
    memory: Vec<u8>,
    bytes: usize,
    gaps: bool,
}

const UNTOUCHED: u8 = 0xee;

impl Buffer {
    fn holding(packed: &[u8], gaps: bool) -> Buffer {
        let mut buffer = Buffer::room(packed.len(), gaps);
        let step = 1 + gaps as usize;
        for (i, byte) in packed.iter().enumerate() {
            buffer.memory[i * step] = *byte;
        }
        buffer
    }

    fn room(bytes: usize, gaps: bool) -> Buffer {
        Buffer {
            memory: vec![UNTOUCHED; bytes * (1 + gaps as usize)],
            bytes,
            gaps,
        }
    }

    fn layout() -> Arc<Layout> {
        Arc::new(Layout::new(vec![(0, Basic::U8)], 0, 2))
    }

    fn send(&self) -> SendSpan {
        match self.gaps {
            true => SendSpan::over(&self.memory, self.bytes, &Buffer::layout()),
            false => SendSpan::bytes_of(&self.memory),
        }
    }

    fn recv(&mut self) -> RecvSpan {
        match self.gaps {
            true => RecvSpan::over(&mut self.memory, self.bytes, &Buffer::layout()),
            false => RecvSpan::bytes_of(&mut self.memory),
        }
    }

    fn packed(&self) -> Vec<u8> {
        if self.gaps {
            assert!(
                self.memory
                    .iter()
                    .skip(1)
                    .step_by(2)
                    .all(|b| *b == UNTOUCHED)
            );
        }
        self.memory
            .iter()
            .step_by(1 + self.gaps as usize)
            .copied()
            .collect()
    }
}

/// Parts that lie in another order than the ranks, with gaps.
fn parts(size: usize, bytes: impl Fn(usize) -> usize) -> (Vec<Part>, usize) {
    let mut parts = vec![Part { at: 0, bytes: 0 }; size];
    let mut at = 1;
    for member in (0..size).rev() {
        parts[member] = Part {
            at,
            bytes: bytes(member),
        };
        at += bytes(member) + 2;
    }
    (parts, at)
}

fn at(place: &Part) -> core::ops::Range<usize> {
    place.at..place.at + place.bytes
}

/// What the call does to this rank's destination, by the sequential model; `None` where it has none.
fn check_call(engine: &Engine, c: &Communicator, number: usize, plan: &Planned) {
    let (rank, size) = (c.rank(), c.size());
    let root = plan.root % size;
    let is_root = rank == root;
    let (op, element) = plan.operator.op();
    let elements = if plan.kind >= 10 {
        plan.elements
    } else {
        plan.elements.min(6000)
    };
    let contribution = |member: usize, factor: usize| {
        let most = 100_000 / size / factor;
        plan.operator
            .contribution(member, number, elements.min(most) * factor)
    };
    let all: Vec<Vec<u8>> = (0..size).map(|m| contribution(m, 1)).collect();
    let wide: Vec<Vec<u8>> = match plan.kind {
        3 | 5 | 10 => (0..size).map(|m| contribution(m, size)).collect(),
        _ => vec![Vec::new(); size],
    };
    let bytes = all[0].len();
    let block = wide[0].len() / size;
    let own = Buffer::holding(&all[rank], plan.gaps);
    let own_wide = Buffer::holding(&wide[rank], plan.gaps);
    let (send, send_wide) = (own.send(), own_wide.send());
    let varied = |member: usize| match plan.kind {
        11.. => (bytes + 3 * member).min(bytes * 2),
        _ => 0,
    };
    let varied_all: Vec<Vec<u8>> = (0..size)
        .map(|m| all[m].iter().cycle().take(varied(m)).copied().collect())
        .collect();
    let own_varied = Buffer::holding(&varied_all[rank], plan.gaps);
    let send_varied = own_varied.send();
    let (places, total) = parts(size, varied);
    let mut spread = vec![UNTOUCHED; total];
    for (place, piece) in places.iter().zip(&varied_all) {
        spread[at(place)].copy_from_slice(piece);
    }
    let spread_buffer = Buffer::holding(&spread, plan.gaps);
    let spread_send = spread_buffer.send();

    let run = |call: Call<'_>| match plan.form {
        Form::Immediate => {
            let request = start(engine, c, call, here()).unwrap();
            engine.wait(request, here()).unwrap();
        }
        _ => super::run(engine, c, call, here()).unwrap(),
    };
    // Room for what this rank should have in the end; `None` where it has no destination.
    let want: Option<Vec<u8>> = match plan.kind {
        0 => None,
        1 => Some(all[root].clone()),
        2 => is_root.then(|| all.concat()),
        3 | 13 => Some(if plan.kind == 3 {
            wide[root][rank * block..(rank + 1) * block].to_vec()
        } else {
            varied_all[rank].clone()
        }),
        4 => Some(all.concat()),
        5 => Some(
            (0..size)
                .flat_map(|m| wide[m][rank * block..(rank + 1) * block].to_vec())
                .collect(),
        ),
        6 => is_root.then(|| plan.operator.left_fold(&all)),
        7 => Some(plan.operator.left_fold(&all)),
        8 => Some(plan.operator.left_fold(&all[..=rank])),
        9 => Some(match rank {
            0 => vec![UNTOUCHED; bytes],
            _ => plan.operator.left_fold(&all[..rank]),
        }),
        10 => Some(plan.operator.left_fold(&wide)[rank * block..(rank + 1) * block].to_vec()),
        11 => is_root.then(|| spread.clone()),
        12 => Some(spread.clone()),
        // Everybody sends member m the piece of its own that m contributes to others.
        _ => {
            let mut want = vec![UNTOUCHED; parts(size, |m| varied(rank) + m % 2).1];
            for (m, place) in parts(size, |m| varied(rank) + m % 2).0.iter().enumerate() {
                let piece: Vec<u8> = (0..place.bytes).map(|i| (i + m + rank * 3) as u8).collect();
                want[at(place)].copy_from_slice(&piece);
            }
            Some(want)
        }
    };
    let mut destination = Buffer::room(want.as_ref().map_or(0, Vec::len), plan.gaps);
    if plan.kind == 1 && is_root {
        destination = Buffer::holding(&all[root], plan.gaps);
    }
    let recv = destination.recv();
    let at_root = is_root.then_some(&recv);
    match plan.kind {
        0 => run(Call::Barrier),
        1 => run(Call::Broadcast { root, span: &recv }),
        2 => run(Call::Gather {
            root,
            send: &send,
            recv: at_root,
        }),
        3 => run(Call::Scatter {
            root,
            send: is_root.then_some(&send_wide),
            recv: &recv,
        }),
        4 => run(Call::AllGather {
            send: &send,
            recv: &recv,
        }),
        5 => run(Call::AllToAll {
            send: &send_wide,
            recv: &recv,
        }),
        6 => run(Call::Reduce {
            root,
            send: &send,
            recv: at_root,
            op: &op,
            element,
        }),
        7 => run(Call::AllReduce {
            send: &send,
            recv: &recv,
            op: &op,
            element,
        }),
        8 => run(Call::Scan {
            send: &send,
            recv: &recv,
            op: &op,
            element,
        }),
        9 => run(Call::ExclusiveScan {
            send: &send,
            recv: &recv,
            op: &op,
            element,
        }),
        10 => run(Call::ReduceScatterBlock {
            send: &send_wide,
            recv: &recv,
            op: &op,
            element,
        }),
        11 => run(Call::GatherVar {
            root,
            send: &send_varied,
            recv: at_root.map(|recv| (recv, &places[..])),
        }),
        12 => run(Call::AllGatherVar {
            send: &send_varied,
            recv: &recv,
            parts: &places,
        }),
        13 => run(Call::ScatterVar {
            root,
            send: is_root.then_some((&spread_send, &places[..])),
            recv: &recv,
        }),
        _ => {
            // Member r gets varied(r) + m % 2 bytes from member m.
            let (give, give_total) = parts(size, |m| varied(m) + rank % 2);
            let (take, _) = parts(size, |m| varied(rank) + m % 2);
            let mut source = vec![UNTOUCHED; give_total];
            for (m, place) in give.iter().enumerate() {
                let piece: Vec<u8> = (0..place.bytes).map(|i| (i + rank + m * 3) as u8).collect();
                source[at(place)].copy_from_slice(&piece);
            }
            let source = Buffer::holding(&source, plan.gaps);
            run(Call::AllToAllVar {
                send: &source.send(),
                send_parts: &give,
                recv: &recv,
                recv_parts: &take,
            });
        }
    }
    if let Some(want) = want {
        let got = destination.packed();
        assert!(
            got == want,
            "call {number} {plan:?} on rank {rank} of {size}: byte {:?} differs",
            got.iter().zip(&want).position(|(a, b)| a != b)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").map_or(20, |_| ProptestConfig::default().cases), max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn collectives_do_what_the_model_does(size in 1..=17_usize, crowded: bool, long: u32, calls in prop::collection::vec(planned(), 1..25)) {
        ranks(size, if crowded { 1 } else { 2 }, |engine| {
            let world = with_cells(engine, long);
            let plain = without_cells(engine);
            for (number, plan) in calls.iter().enumerate() {
                let c = if plan.form == Form::Schedule { &plain } else { &world };
                check_call(engine, c, number, plan);
            }
            super::run(engine, &world, Call::Barrier, here()).unwrap();
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").map_or(20, |_| ProptestConfig::default().cases), max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Every grouping of floats and of an operator that is not associative shows, so all ways combine in the same order; small and large
    /// collectives follow each other, and what is immediate goes the same ways.
    #[test]
    fn collectives_of_several_hosts_do_what_the_model_does(hosts in prop::collection::vec(0..5_u32, 1..=11), costs in costs(), calls in prop::collection::vec(planned(), 1..20)) {
        ranks_at(hosts.len(), 2, costs, |engine| {
            let c = on_hosts(engine, &hosts);
            for (number, plan) in calls.iter().enumerate() {
                check_call(engine, &c, number, plan);
            }
        });
    }
}

#[test]
fn results_have_the_same_bits_whatever_messages_cost() {
    let layouts: [&[u32]; 3] = [
        &[0, 0, 0, 1, 2, 2],
        &[0, 1, 2, 0, 1, 2, 0],
        &[0, 1, 1, 0, 2],
    ];
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for (hosts, (operator, elements)) in layouts.iter().flat_map(|hosts| {
        [
            (Operator::SumF64, 5),
            (Operator::SumF64, 30_000),
            (Operator::Odd, 3),
            (Operator::Odd, 70_000),
        ]
        .map(|reduction| (*hosts, reduction))
    }) {
        let all: Vec<_> = (0..hosts.len())
            .map(|r| operator.contribution(r, 1, elements))
            .collect();
        let want = operator.left_fold(&all);
        for _ in 0..20 {
            let costs = costs().new_tree(&mut runner).unwrap().current();
            let results = ranks_at(hosts.len(), 2, costs, |engine| {
                let (c, own) = (on_hosts(engine, hosts), &all[engine.rank()]);
                let (op, element) = operator.op();
                let mut result = vec![0; own.len()];
                let call = Call::AllReduce {
                    send: &SendSpan::bytes_of(own),
                    recv: &RecvSpan::bytes_of(&mut result),
                    op: &op,
                    element,
                };
                run(engine, &c, call, here()).unwrap();
                result
            });
            assert!(
                results.iter().all(|r| *r == want),
                "{hosts:?} {operator:?} {costs:?}"
            );
        }
    }
}

/// Many small steps after each other, with roots that change: the rings turn often.
#[test]
fn rings_turn_under_changing_roots() {
    for (size, long) in [
        (2, 0),
        (2, 3),
        (2, MESH | 1),
        (3, 0),
        (3, 5),
        (5, 31),
        (5, MESH),
    ] {
        ranks(size, 2, |engine| {
            let world = with_cells(engine, long);
            for number in 0..if cfg!(miri) { 40 } else { 200 } {
                let plan = Planned {
                    kind: number * 7 % 11,
                    form: Form::Cells,
                    root: number / 3,
                    elements: [1, 5, 300, 3, 2500, 7, 6, 40][number % 8] * 2,
                    operator: [Operator::SumF64, Operator::Odd][number % 2],
                    gaps: number % 5 == 0,
                };
                check_call(engine, &world, number, &plan);
            }
        });
    }
}

/// Two members fold halves: in slots, in long areas, and in longer pieces once both are known to have long areas; or each everything. With operators whose order shows, of
/// elements that halves do not cut, and with gaps in memory.
#[test]
fn halves_of_two_members() {
    let sizes: &[usize] = match cfg!(miri) {
        true => &[2_100],
        false => &[2_100, 40_000, 300_001, 30_000, 131_072, 400_000, 2_500],
    };
    for long in (0..4).chain([MESH, MESH | 1, MESH | 3]) {
        ranks(2, 2, |engine| {
            let world = with_cells(engine, long);
            for (number, &elements) in sizes.iter().enumerate() {
                let operators = [Operator::SumF64, Operator::Odd, Operator::XorU8];
                for (k, operator) in operators.into_iter().enumerate() {
                    let all = [0, 1].map(|r| operator.contribution(r, number, elements));
                    let gaps = k == 2 && number % 2 == 0;
                    let own = Buffer::holding(&all[engine.rank()], gaps);
                    let mut result = Buffer::room(all[0].len(), gaps);
                    let (op, element) = operator.op();
                    let call = Call::AllReduce {
                        send: &own.send(),
                        recv: &result.recv(),
                        op: &op,
                        element,
                    };
                    run(engine, &world, call, here()).unwrap();
                    let equal = result.packed() == operator.left_fold(&all);
                    assert!(equal, "long {long}, {elements} elements, {operator:?}");
                }
            }
            run(engine, &world, Call::Barrier, here()).unwrap();
        });
    }
}

#[test]
fn float_sums_have_the_same_bits_in_every_form() {
    for (size, elements) in [(2, 3), (2, 3000), (4, 5), (4, 700), (5, 9000), (3, 40_000)] {
        let results = ranks(size, 2, |engine| {
            let world = world(engine, 0..engine.size(), None).unwrap();
            let plain = without_cells(engine);
            let own = Operator::SumF64.contribution(engine.rank(), 1, elements);
            let (op, element) = Operator::SumF64.op();
            let sum = |c: &Communicator, immediate: bool| {
                let mut result = vec![0; own.len()];
                let recv = RecvSpan::bytes_of(&mut result);
                let call = Call::AllReduce {
                    send: &SendSpan::bytes_of(&own),
                    recv: &recv,
                    op: &op,
                    element,
                };
                if immediate {
                    let request = start(engine, c, call, here()).unwrap();
                    engine.wait(request, here()).unwrap();
                } else {
                    run(engine, c, call, here()).unwrap();
                }
                result
            };
            let cells = sum(&world, false);
            assert!(cells == sum(&plain, false));
            assert!(cells == sum(&world, true));
            run(engine, &world, Call::Barrier, here()).unwrap();
            cells
        });
        assert!(results.iter().all(|r| *r == results[0]));
    }
}

#[test]
fn blocks_come_back_and_many_communicators_live_together() {
    ranks(3, 2, |engine| {
        let world = world(engine, 0..engine.size(), None).unwrap();
        let mut held = Vec::new();
        for round in 0..if cfg!(miri) { 5 } else { 1000 } {
            let color = (engine.rank() % 2) as i32;
            let new = match round % 2 {
                0 => duplicate(engine, &world, here()).unwrap(),
                _ => split(engine, &world, Some(color), -(engine.rank() as i32), here())
                    .unwrap()
                    .unwrap(),
            };
            let mut sum = [0_u8; 8];
            let one = 1_u64.to_ne_bytes();
            let call = Call::AllReduce {
                send: &SendSpan::bytes_of(&one),
                recv: &RecvSpan::bytes_of(&mut sum),
                op: &Op::Predefined(Predefined::Sum),
                element: Element::of(Basic::U64),
            };
            run(engine, &new, call, here()).unwrap();
            assert_eq!(u64::from_ne_bytes(sum), new.size() as u64);
            if round % 2 == 1 {
                // Ordered by key: the highest rank comes first.
                assert_eq!(
                    new.rank(),
                    if engine.rank() == 0 {
                        new.size() - 1
                    } else {
                        0
                    }
                );
            }
            // More live at a time than there are blocks.
            held.push(new);
            if held.len() == 150 {
                held.clear();
            }
        }
        let none = split(engine, &world, (engine.rank() == 1).then_some(7), 0, here()).unwrap();
        assert_eq!(none.map(|c| c.size()), (engine.rank() == 1).then_some(1));
        run(engine, &world, Call::Barrier, here()).unwrap();
    });
}

/// Runs `calls` on two ranks until one is told of a mismatch; its sentence.
fn mismatch(
    first: impl Fn(&Engine, &Communicator) -> crate::model::error::Result<()> + Sync,
    second: impl Fn(&Engine, &Communicator) -> crate::model::error::Result<()> + Sync,
) -> String {
    let told = Mutex::new(None);
    ranks(2, 2, |engine| {
        let world = world(engine, 0..engine.size(), None).unwrap();
        let result = match engine.rank() {
            0 => first(engine, &world),
            _ => second(engine, &world),
        }
        .and_then(|()| check_history(engine, &world, here()));
        if let Err(error) = result {
            if error.class() == crate::model::ErrorClass::Mismatch {
                told.lock().unwrap().get_or_insert(error.to_string());
            }
            // What the face does with such an error: the job ends.
            engine.segment().control().raise_abort();
        }
    });
    told.into_inner().unwrap().expect("somebody is told")
}

fn broadcast_from(
    engine: &Engine,
    c: &Communicator,
    root: usize,
    bytes: usize,
) -> crate::model::error::Result<()> {
    let mut data = vec![1; bytes];
    let span = &RecvSpan::bytes_of(&mut data);
    run(engine, c, Call::Broadcast { root, span }, here())
}

fn reduce_with(
    engine: &Engine,
    c: &Communicator,
    op: Predefined,
    bytes: usize,
) -> crate::model::error::Result<()> {
    let (data, mut result) = (vec![1; bytes], vec![0; bytes]);
    let call = Call::AllReduce {
        send: &SendSpan::bytes_of(&data),
        recv: &RecvSpan::bytes_of(&mut result),
        op: &Op::Predefined(op),
        element: Element::of(Basic::U8),
    };
    run(engine, c, call, here())
}

#[test]
fn mismatched_collectives_are_named_with_their_places() {
    let barrier = |e: &Engine, c: &Communicator| run(e, c, Call::Barrier, here());
    let text = mismatch(|e, c| broadcast_from(e, c, 0, 8), barrier);
    assert!(
        text.contains("called broadcast with root 0 at src/coll/tests.rs:"),
        "{text}"
    );
    assert!(
        text.contains("called barrier at src/coll/tests.rs:"),
        "{text}"
    );

    let text = mismatch(
        |e, c| broadcast_from(e, c, 0, 8),
        |e, c| broadcast_from(e, c, 1, 8),
    );
    assert!(
        text.contains("with root 0 at") && text.contains("with root 1 at"),
        "{text}"
    );
    let text = mismatch(
        |e, c| broadcast_from(e, c, 0, 8).and_then(|()| barrier(e, c)),
        |e, c| broadcast_from(e, c, 1, 8).and_then(|()| barrier(e, c)),
    );
    assert!(
        text.contains("with root 0 at") && text.contains("with root 1 at"),
        "{text}"
    );

    let text = mismatch(
        |e, c| reduce_with(e, c, Predefined::Sum, 100),
        |e, c| reduce_with(e, c, Predefined::Product, 100),
    );
    assert!(text.contains("the operator differs"), "{text}");
    for (a, b) in [(8, 16), (100, 50), (64, 1_000_000), (0, 8)] {
        let text = mismatch(
            |e, c| reduce_with(e, c, Predefined::Sum, a),
            |e, c| reduce_with(e, c, Predefined::Sum, b),
        );
        assert!(text.contains("the number of bytes differs"), "{text}");
    }

    // An immediate collective against a blocking one: neither comes to the other.
    let text = mismatch(barrier, |e, c| {
        let request = start(e, c, Call::Barrier, here())?;
        e.wait(request, here()).map(|_| ())
    });
    assert!(text.contains("immediate barrier"), "{text}");
    // Many immediate ones against a blocking one: the history has moved on.
    let text = mismatch(barrier, |e, c| {
        for _ in 0..50 {
            start(e, c, Call::Barrier, here())?;
        }
        barrier(e, c)
    });
    assert!(text.contains("immediate barrier"), "{text}");
    // Two roots that wait for each other's messages.
    let gather_to = |e: &Engine, c: &Communicator, root: usize| {
        let (data, mut room) = ([1_u8; 8], [0_u8; 16]);
        let parts = [Part { at: 0, bytes: 8 }, Part { at: 8, bytes: 8 }];
        let recv = RecvSpan::bytes_of(&mut room);
        let call = Call::GatherVar {
            root,
            send: &SendSpan::bytes_of(&data),
            recv: (c.rank() == root).then_some((&recv, &parts[..])),
        };
        run(e, c, call, here())
    };
    let text = mismatch(|e, c| gather_to(e, c, 0), |e, c| gather_to(e, c, 1));
    assert!(
        text.contains("with root 0 at") && text.contains("with root 1 at"),
        "{text}"
    );
}

#[test]
fn wrong_arguments_get_a_sentence() {
    ranks(1, 1, |engine| {
        let world = world(engine, 0..engine.size(), None).unwrap();
        let text = broadcast_from(engine, &world, 3, 8)
            .unwrap_err()
            .to_string();
        assert!(
            text.starts_with("broadcast with root 3 was asked on a communicator of 1; a root is a rank from 0 to 0 (at src/coll/tests.rs:"),
            "{text}"
        );
        let (data, mut room) = ([1_u8; 8], [0_u8; 9]);
        let call = Call::AllGather {
            send: &SendSpan::bytes_of(&data),
            recv: &RecvSpan::bytes_of(&mut room),
        };
        let text = run(engine, &world, call, here()).unwrap_err().to_string();
        assert!(text.contains("8 bytes to send and room for 9"), "{text}");
    });
}

/// At `Multiple`, threads of a rank are in collectives of different communicators at the same time.
#[test]
fn threads_have_communicators_of_their_own() {
    const THREADS: usize = 3;
    let size = 3;
    let segment = Arc::new(Segment::private(size).unwrap());
    std::thread::scope(|scope| {
        for r in 0..size {
            let segment = segment.clone();
            scope.spawn(move || {
                let settings = Settings::new(ThreadLevel::Multiple);
                let engine = Engine::new(segment, r, settings).unwrap();
                let world = world(&engine, 0..engine.size(), None).unwrap();
                let own: Vec<_> = (0..THREADS)
                    .map(|_| duplicate(&engine, &world, here()).unwrap())
                    .collect();
                std::thread::scope(|scope| {
                    for (thread, c) in own.iter().enumerate() {
                        let engine = &engine;
                        scope.spawn(move || {
                            for number in 0..if cfg!(miri) { 5 } else { 60 } {
                                let plan = Planned {
                                    kind: (number + thread) % KINDS,
                                    form: [Form::Cells, Form::Immediate][number % 2],
                                    root: number,
                                    elements: [3, 900, 12_000][number % 3],
                                    operator: Operator::SumF64,
                                    gaps: false,
                                };
                                check_call(engine, c, number, &plan);
                            }
                        });
                    }
                });
                run(&engine, &world, Call::Barrier, here()).unwrap();
                engine.finalize(here()).unwrap();
            });
        }
    });
}

#[test]
fn two_threads_in_one_communicator_get_a_sentence() {
    let segment = Arc::new(Segment::private(2).unwrap());
    let engine = Engine::new(segment.clone(), 0, Settings::new(ThreadLevel::Multiple)).unwrap();
    let world = world(&engine, 0..engine.size(), None).unwrap();
    std::thread::scope(|scope| {
        let wait = || run(&engine, &world, Call::Barrier, here()).unwrap_err();
        let threads = [scope.spawn(wait), scope.spawn(wait)];
        // The other rank never comes: one thread is told at once, the other when the job ends.
        while !threads.iter().any(|t| t.is_finished()) {
            std::thread::yield_now();
        }
        segment.control().raise_abort();
        let texts = threads.map(|t| t.join().unwrap().to_string());
        assert!(
            texts
                .iter()
                .any(|t| t.contains("give each thread a duplicate")),
            "{texts:?}"
        );
    });
}

/// A neighbour that writes anything anywhere in the cells: wrong results and errors are all that comes of it.
#[test]
fn scribbled_cells_break_nothing() {
    use core::sync::atomic::Ordering::Relaxed;
    for seed in 1..if cfg!(miri) { 2 } else { 9_u64 } {
        let size = 2 + seed as usize % 2;
        let segment = Arc::new(Segment::private(size).unwrap());
        let map = *segment.layout();
        std::thread::scope(|scope| {
            for r in 0..size {
                let segment = segment.clone();
                scope.spawn(move || {
                    let engine =
                        Engine::new(segment, r, Settings::new(ThreadLevel::Single)).unwrap();
                    let world = with_cells(&engine, 1 + seed as u32);
                    const MOST: usize = if cfg!(miri) { 50_000 } else { 600_000 };
                    let data = vec![1_u8; MOST];
                    let mut result = vec![0_u8; MOST * size];
                    for number in 0.. {
                        let bytes = [8, 1000, 50_000, 1000, MOST][number % 5];
                        let send = SendSpan::bytes_of(&data[..bytes]);
                        let recv = RecvSpan::bytes_of(&mut result[..bytes * size]);
                        let same = recv.part(0, bytes).unwrap();
                        let op = Op::Predefined(Predefined::Sum);
                        let element = Element::of(Basic::F64);
                        let call = match number % 4 {
                            0 => Call::AllGather {
                                send: &send,
                                recv: &recv,
                            },
                            1 => Call::AllReduce {
                                send: &send,
                                recv: &same,
                                op: &op,
                                element,
                            },
                            2 => Call::Scan {
                                send: &send,
                                recv: &same,
                                op: &op,
                                element,
                            },
                            _ => Call::Broadcast {
                                root: number % size,
                                span: &same,
                            },
                        };
                        if run(&engine, &world, call, here()).is_err() {
                            engine.segment().control().raise_abort();
                            break;
                        }
                    }
                });
            }
            let mut random = seed;
            for n in 0..2000_u64 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let page = map.cell_control(0, random as usize % size);
                let word = page + (random >> 8) as usize % 256 * 8;
                let value = match random >> 20 & 3 {
                    0 => u64::MAX,
                    1 => n % 40,
                    _ => random,
                };
                segment.u64(word).store(value, Relaxed);
                if n % 100 == 0 {
                    std::thread::yield_now();
                }
                if segment.control().is_aborted() {
                    break;
                }
            }
            segment.control().raise_abort();
        });
    }
}
