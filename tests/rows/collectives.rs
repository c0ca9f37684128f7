//! Every collective, as a call and as a request, at ranks and lengths that divide nothing evenly.
use core::ffi::{c_int, c_void};
use tercio::collective::{SystemOperation, UnsafeUserOperation, UserOperation, reduce_local_into};
use tercio::datatype::{MutView, Partition, PartitionMut, UserDatatype, View};
use tercio::ffi::MPI_Datatype;
use tercio::request::scope;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

/// What `rank` has at `place`.
fn value(rank: i32, place: usize) -> i64 {
    i64::from(rank) * 1_000_000 + place as i64 * 3 + 1
}

fn of(rank: i32, len: usize) -> Vec<i64> {
    (0..len).map(|place| value(rank, place)).collect()
}

const LENGTHS: [usize; 4] = [1, 7, 1000, 40_001];

#[tercio::test(np = [1, 2, 3, 4, 7])]
fn rooted(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    for (len, root_rank) in LENGTHS.into_iter().zip([0, size - 1, size / 2, 0]) {
        let root = world.process_at_rank(root_rank);
        let mine = of(rank, len);
        let everything: Vec<i64> = (0..size).flat_map(|rank| of(rank, len)).collect();
        for immediate in [false, true] {
            let mut got = if rank == root_rank {
                of(root_rank, len)
            } else {
                vec![0; len]
            };
            let mut all = vec![0; len * size as usize];
            let mut part = vec![0; len];
            match (immediate, rank == root_rank) {
                (false, true) => {
                    root.broadcast_into(&mut got[..]);
                    root.gather_into_root(&mine[..], &mut all[..]);
                    root.scatter_into_root(&everything[..], &mut part[..]);
                }
                (false, false) => {
                    root.broadcast_into(&mut got[..]);
                    root.gather_into(&mine[..]);
                    root.scatter_into(&mut part[..]);
                }
                (true, true) => scope(|scope| {
                    let broadcast = root.immediate_broadcast_into(scope, &mut got[..]);
                    let gather = root.immediate_gather_into_root(scope, &mine[..], &mut all[..]);
                    let scatter =
                        root.immediate_scatter_into_root(scope, &everything[..], &mut part[..]);
                    scatter.wait();
                    gather.wait();
                    broadcast.wait();
                }),
                (true, false) => scope(|scope| {
                    let broadcast = root.immediate_broadcast_into(scope, &mut got[..]);
                    let gather = root.immediate_gather_into(scope, &mine[..]);
                    let scatter = root.immediate_scatter_into(scope, &mut part[..]);
                    broadcast.wait();
                    gather.wait();
                    scatter.wait();
                }),
            }
            assert_eq!(got, of(root_rank, len));
            assert_eq!(part, mine);
            assert_eq!(
                all,
                if rank == root_rank {
                    everything.clone()
                } else {
                    vec![0; all.len()]
                }
            );
        }
    }
}

#[tercio::test(np = [1, 2, 3, 4, 7])]
fn of_all(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    for len in LENGTHS {
        let mine = of(rank, len);
        let outgoing: Vec<i64> = (0..size).flat_map(|to| of(rank * 10 + to, len)).collect();
        let everything: Vec<i64> = (0..size).flat_map(|rank| of(rank, len)).collect();
        let incoming: Vec<i64> = (0..size)
            .flat_map(|from| of(from * 10 + rank, len))
            .collect();
        let (mut all, mut exchanged) = (vec![0; everything.len()], vec![0; everything.len()]);
        world.all_gather_into(&mine[..], &mut all[..]);
        world.all_to_all_into(&outgoing[..], &mut exchanged[..]);
        assert_eq!((&all, &exchanged), (&everything, &incoming));
        all.fill(0);
        exchanged.fill(0);
        scope(|scope| {
            let exchange =
                world.immediate_all_to_all_into(scope, &outgoing[..], &mut exchanged[..]);
            let gather = world.immediate_all_gather_into(scope, &mine[..], &mut all[..]);
            exchange.wait();
            gather.wait();
        });
        assert_eq!((&all, &exchanged), (&everything, &incoming));
    }
    // `bool`s, one byte each.
    let mut odd = vec![false; size as usize];
    world.all_gather_into(&(rank % 2 == 1), &mut odd[..]);
    assert!(odd.into_iter().eq((0..size).map(|rank| rank % 2 == 1)));
}

#[tercio::test(np = [1, 2, 3, 4, 7])]
fn reductions(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    type Case = (SystemOperation, fn(i64, i64) -> i64);
    let cases: [Case; 10] = [
        (SystemOperation::sum(), |x, y| x.wrapping_add(y)),
        (SystemOperation::product(), |x, y| x.wrapping_mul(y)),
        (SystemOperation::max(), i64::max),
        (SystemOperation::min(), i64::min),
        (SystemOperation::logical_and(), |x, y| {
            i64::from(x != 0 && y != 0)
        }),
        (SystemOperation::logical_or(), |x, y| {
            i64::from(x != 0 || y != 0)
        }),
        (SystemOperation::logical_xor(), |x, y| {
            i64::from((x != 0) != (y != 0))
        }),
        (SystemOperation::bitwise_and(), |x, y| x & y),
        (SystemOperation::bitwise_or(), |x, y| x | y),
        (SystemOperation::bitwise_xor(), |x, y| x ^ y),
    ];
    let number = |rank: i32, place: usize| match place % 5 {
        0 => 0,
        _ => value(rank, place) % 97 - 30,
    };
    for (case, (op, function)) in cases.into_iter().enumerate() {
        let len = [3, 700][case % 2];
        let numbers = |rank: i32| {
            (0..len)
                .map(|place| number(rank, place))
                .collect::<Vec<i64>>()
        };
        let expected: Vec<i64> = (1..size).map(numbers).fold(numbers(0), |all, next| {
            all.into_iter()
                .zip(next)
                .map(|(x, y)| function(x, y))
                .collect()
        });
        // Logical results of one operand are that operand where nothing is combined.
        let (mine, root) = (numbers(rank), world.process_at_rank(size - 1));
        let (mut all, mut later) = (vec![0; len], vec![0; len]);
        world.all_reduce_into(&mine[..], &mut all[..], op);
        scope(|scope| {
            world
                .immediate_all_reduce_into(scope, &mine[..], &mut later[..], op)
                .wait();
        });
        assert_eq!((&all, &later), (&expected, &expected), "case {case}");
        if root.is_self() {
            all.fill(0);
            later.fill(0);
            root.reduce_into_root(&mine[..], &mut all[..], op);
            scope(|scope| {
                root.immediate_reduce_into_root(scope, &mine[..], &mut later[..], op)
                    .wait();
            });
            assert_eq!((&all, &later), (&expected, &expected), "case {case}");
        } else {
            root.reduce_into(&mine[..], op);
            scope(|scope| {
                root.immediate_reduce_into(scope, &mine[..], op).wait();
            });
        }
        // The blocks of a longer one, each to its rank.
        let long: Vec<i64> = (0..size as usize * len)
            .map(|place| number(rank, place))
            .collect();
        let here = rank as usize * len;
        let expected: Vec<i64> = (here..here + len)
            .map(|place| {
                (1..size).fold(number(0, place), |x, rank| function(x, number(rank, place)))
            })
            .collect();
        let (mut part, mut later) = (vec![0; len], vec![0; len]);
        world.reduce_scatter_block_into(&long[..], &mut part[..], op);
        scope(|scope| {
            world
                .immediate_reduce_scatter_block_into(scope, &long[..], &mut later[..], op)
                .wait();
        });
        assert_eq!((&part, &later), (&expected, &expected), "case {case}");
        // And of one rank alone.
        let (x, y) = (numbers(0), numbers(1));
        let mut both = y.clone();
        reduce_local_into(&x[..], &mut both[..], op);
        assert!(
            both.into_iter()
                .eq(x.into_iter().zip(y).map(|(x, y)| function(x, y)))
        );
    }
}

#[tercio::test(np = [1, 2, 3, 4, 7])]
fn prefixes(world: SimpleCommunicator) {
    let rank = world.rank();
    for len in LENGTHS {
        let mine = of(rank, len);
        let sum = |ranks: core::ops::Range<i32>| -> Vec<i64> {
            (0..len)
                .map(|place| ranks.clone().map(|rank| value(rank, place)).sum())
                .collect()
        };
        let op = SystemOperation::sum();
        let (mut upto, mut before) = (vec![-1; len], vec![-1; len]);
        let (mut upto_later, mut before_later) = (vec![-1; len], vec![-1; len]);
        world.scan_into(&mine[..], &mut upto[..], op);
        world.exclusive_scan_into(&mine[..], &mut before[..], op);
        scope(|scope| {
            let exclusive =
                world.immediate_exclusive_scan_into(scope, &mine[..], &mut before_later[..], op);
            let inclusive = world.immediate_scan_into(scope, &mine[..], &mut upto_later[..], op);
            inclusive.wait();
            exclusive.wait();
        });
        assert_eq!((&upto, &upto_later), (&sum(0..rank + 1), &sum(0..rank + 1)));
        // Rank 0 gets nothing from nobody.
        let expected = if rank == 0 {
            vec![-1; len]
        } else {
            sum(0..rank)
        };
        assert_eq!((&before, &before_later), (&expected, &expected));
    }
}

/// Rank r has r * 3 % 4 elements: some have none.
fn count(rank: i32) -> i32 {
    rank * 3 % 4
}

#[tercio::test(np = [1, 2, 3, 4, 7])]
fn varying_counts(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    let mine = of(rank, count(rank) as usize);
    let counts: Vec<i32> = (0..size).map(count).collect();
    // The parts lie backwards, with an element between.
    let mut displs = vec![0; size as usize];
    let mut end = 0;
    for rank in (0..size as usize).rev() {
        displs[rank] = end;
        end += counts[rank] + 1;
    }
    let mut expected = vec![-1; end as usize];
    for rank in 0..size {
        let at = displs[rank as usize] as usize;
        let part = of(rank, count(rank) as usize);
        expected[at..at + part.len()].copy_from_slice(&part);
    }
    let root = world.process_at_rank(size / 2);
    let at_root = root.is_self();
    for immediate in [false, true] {
        let (mut all, mut gathered) = (vec![-1; end as usize], vec![-1; end as usize]);
        let mut part = vec![0; mine.len()];
        {
            let mut all = PartitionMut::new(&mut all[..], &counts[..], displs.clone());
            let mut gathered = PartitionMut::new(&mut gathered[..], counts.clone(), &displs[..]);
            let scattered = Partition::new(&expected[..], &counts[..], &displs[..]);
            match (immediate, at_root) {
                (false, _) => {
                    world.all_gather_varcount_into(&mine[..], &mut all);
                    if at_root {
                        root.gather_varcount_into_root(&mine[..], &mut gathered);
                        root.scatter_varcount_into_root(&scattered, &mut part[..]);
                    } else {
                        root.gather_varcount_into(&mine[..]);
                        root.scatter_varcount_into(&mut part[..]);
                    }
                }
                (true, true) => scope(|scope| {
                    let all = world.immediate_all_gather_varcount_into(scope, &mine[..], &mut all);
                    let gather =
                        root.immediate_gather_varcount_into_root(scope, &mine[..], &mut gathered);
                    let scatter =
                        root.immediate_scatter_varcount_into_root(scope, &scattered, &mut part[..]);
                    all.wait();
                    scatter.wait();
                    gather.wait();
                }),
                (true, false) => scope(|scope| {
                    let all = world.immediate_all_gather_varcount_into(scope, &mine[..], &mut all);
                    let gather = root.immediate_gather_varcount_into(scope, &mine[..]);
                    let scatter = root.immediate_scatter_varcount_into(scope, &mut part[..]);
                    gather.wait();
                    all.wait();
                    scatter.wait();
                }),
            }
        }
        assert_eq!(all, expected);
        assert_eq!(part, mine);
        assert_eq!(
            gathered,
            if at_root {
                expected.clone()
            } else {
                vec![-1; end as usize]
            }
        );
    }

    // From every rank r to every rank s, (r + 2 s) % 3 elements.
    let amount = |from: i32, to: i32| (from + 2 * to) % 3;
    let to: Vec<i32> = (0..size).map(|to| amount(rank, to)).collect();
    let from: Vec<i32> = (0..size).map(|from| amount(from, rank)).collect();
    let starts = |counts: &[i32]| -> Vec<i32> {
        counts
            .iter()
            .scan(0, |at, count| Some(core::mem::replace(at, *at + count)))
            .collect()
    };
    let data = |from: i32, to: i32| of(from * 10 + to, amount(from, to) as usize);
    let outgoing: Vec<i64> = (0..size).flat_map(|to| data(rank, to)).collect();
    let incoming: Vec<i64> = (0..size).flat_map(|from| data(from, rank)).collect();
    let (mut got, mut later) = (vec![0; incoming.len()], vec![0; incoming.len()]);
    let send = Partition::new(&outgoing[..], &to[..], starts(&to));
    let mut receive = PartitionMut::new(&mut got[..], &from[..], starts(&from));
    world.all_to_all_varcount_into(&send, &mut receive);
    let mut receive = PartitionMut::new(&mut later[..], &from[..], starts(&from));
    scope(|scope| {
        world
            .immediate_all_to_all_varcount_into(scope, &send, &mut receive)
            .wait();
    });
    assert_eq!((&got, &later), (&incoming, &incoming));
}

#[tercio::test(np = [1, 2, 3, 4])]
fn views(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    // A column of a 3 x 2 matrix is sent; it arrives as pairs with a gap, in the root's array and in everybody's.
    let column = UserDatatype::vector(3, 1, 2, &i32::equivalent_datatype());
    let spread = UserDatatype::indexed(&[2, 1], &[0, 3], &i32::equivalent_datatype());
    let matrix: Vec<i32> = (0..6).map(|place| rank * 10 + place).collect();
    // SAFETY: the column lies in the matrix.
    let mine = unsafe { View::with_count_and_datatype(&matrix[1..], 1, &column) };
    let expected: Vec<i32> = (0..size)
        .flat_map(|r| [r * 10 + 1, r * 10 + 3, -1, r * 10 + 5])
        .collect();
    let room = 4 * size as usize;
    let (mut all, mut at_root) = (vec![-1; room], vec![-1; room]);
    {
        // SAFETY: four elements for each rank, here and below.
        let mut all = unsafe { MutView::with_count_and_datatype(&mut all[..], size, &spread) };
        world.all_gather_into(&mine, &mut all);
    }
    assert_eq!(all, expected);
    let root = world.process_at_rank(0);
    if root.is_self() {
        // SAFETY: see above.
        let mut view = unsafe { MutView::with_count_and_datatype(&mut at_root[..], size, &spread) };
        root.gather_into_root(&mine, &mut view);
        assert_eq!(at_root, expected);
    } else {
        root.gather_into(&mine);
    }
    // One rank's triples become everybody's column.
    let mut target = vec![0; 6];
    // SAFETY: the column lies in the matrix.
    let mut view = unsafe { MutView::with_count_and_datatype(&mut target[..], 1, &column) };
    if root.is_self() {
        let triples: Vec<i32> = (0..3 * size).collect();
        root.scatter_into_root(&triples[..], &mut view);
    } else {
        root.scatter_into(&mut view);
    }
    assert_eq!(target, [3 * rank, 0, 3 * rank + 1, 0, 3 * rank + 2, 0]);
}

/// The greatest common divisor of each pair.
unsafe extern "C" fn divisors(
    x: *mut c_void,
    y: *mut c_void,
    len: *mut c_int,
    datatype: *mut MPI_Datatype,
) {
    // SAFETY: called with so many elements of the type that the reductions below are of.
    unsafe {
        assert_eq!(*datatype, u32::equivalent_datatype().as_raw());
        for place in 0..*len as usize {
            let (mut a, mut b) = (*x.cast::<u32>().add(place), *y.cast::<u32>().add(place));
            while b != 0 {
                (a, b) = (b, a % b);
            }
            *y.cast::<u32>().add(place) = a;
        }
    }
}

#[tercio::test(np = [1, 2, 3, 4, 7])]
fn users_operations(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    // SAFETY: see there.
    let common = unsafe { UnsafeUserOperation::commutative(divisors) };
    let mine: Vec<u32> = (0..50)
        .map(|place| (place + 1) * 6 * (rank as u32 + 1))
        .collect();
    let mut all = [0; 50];
    world.all_reduce_into(&mine[..], &mut all[..], &common);
    assert!(all.iter().copied().eq((0..50).map(|place| (place + 1) * 6)));

    // Keeps the first operand: associative, and anything but commutative.
    let first = UserOperation::associative(|x, y| {
        y.downcast::<i64>()
            .unwrap()
            .copy_from_slice(x.downcast().unwrap());
    });
    let last = UserOperation::associative(|_, _| {});
    let counted = core::sync::atomic::AtomicUsize::new(0);
    let sum = UserOperation::commutative(|x, y| {
        counted.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        for (x, y) in x
            .downcast::<i64>()
            .unwrap()
            .iter()
            .zip(y.downcast::<i64>().unwrap())
        {
            *y += x;
        }
    });
    for len in LENGTHS {
        let mine = of(rank, len);
        let mut got = [vec![0; len], vec![0; len], vec![0; len]];
        for (op, got) in [&first, &last, &sum].into_iter().zip(&mut got) {
            world.all_reduce_into(&mine[..], &mut got[..], op);
            let mut later = vec![0; len];
            scope(|scope| {
                world
                    .immediate_all_reduce_into(scope, &mine[..], &mut later[..], op)
                    .wait();
            });
            assert_eq!(*got, later);
        }
        let total: Vec<i64> = (0..len)
            .map(|place| (0..size).map(|rank| value(rank, place)).sum())
            .collect();
        assert_eq!(got, [of(0, len), of(size - 1, len), total]);
        let mut upto = vec![0; len];
        world.scan_into(&mine[..], &mut upto[..], &first);
        assert_eq!(upto, of(0, len));
    }
    let mut sums = of(1, 3);
    let before = counted.load(core::sync::atomic::Ordering::Relaxed);
    reduce_local_into(&of(0, 3)[..], &mut sums[..], &sum);
    assert!(counted.load(core::sync::atomic::Ordering::Relaxed) > before);
    assert!(
        sums.into_iter()
            .eq((0..3).map(|place| value(0, place) + value(1, place)))
    );
}

#[tercio::test(np = [1, 2, 3, 4])]
fn nothing_at_all(world: SimpleCommunicator) {
    let (none, size): ([f64; 0], _) = ([], world.size() as usize);
    let root = world.process_at_rank(0);
    let op = SystemOperation::sum();
    let mut got: [f64; 0] = [];
    root.broadcast_into(&mut got);
    world.all_gather_into(&none, &mut got);
    world.all_to_all_into(&none, &mut got);
    world.all_reduce_into(&none, &mut got, op);
    world.reduce_scatter_block_into(&none, &mut got, op);
    world.scan_into(&none, &mut got, op);
    world.exclusive_scan_into(&none, &mut got, op);
    let zeros = vec![0; size];
    world.all_gather_varcount_into(
        &none,
        &mut PartitionMut::new(&mut got, &zeros[..], &zeros[..]),
    );
    if root.is_self() {
        root.gather_into_root(&none, &mut got);
        root.scatter_into_root(&none, &mut got);
        root.reduce_into_root(&none, &mut got, op);
    } else {
        root.gather_into(&none);
        root.scatter_into(&mut got);
        root.reduce_into(&none, op);
    }
    // The ranks are still together.
    let mut sum = 0;
    world.all_reduce_into(&1_usize, &mut sum, op);
    assert_eq!(sum, size);
}
