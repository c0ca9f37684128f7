//! Collectives that give values: the same call on every rank, checked against what the ranks' arguments say.
use tercio::collective::{SystemOperation, UserOperation};
use tercio::prelude::*;
use tercio::topology::Color;
use tercio::{ErrorClass, Rank};

/// Padding inside and at the end, and no `Clone`.
#[derive(Equivalence, Debug, PartialEq)]
struct Sample {
    seen: bool,
    at: f64,
    kind: u8,
}

fn sample(number: i64) -> Sample {
    Sample {
        seen: number % 3 == 0,
        at: number as f64 / 4.0,
        kind: number as u8,
    }
}

fn samples(seed: i64, len: usize) -> Vec<Sample> {
    (0..len as i64).map(|i| sample(1000 * seed + i)).collect()
}

/// How many elements go from one rank to another: none, few, or more than the cells or a lane take at once.
fn len(from: Rank, to: Rank) -> usize {
    [0, 3, 1, 70_000, 2][(2 * from + 3 * to) as usize % 5]
}

#[test]
fn every_root_gets_and_gives_what_belongs_to_it() {
    for size in 1..=5 {
        tercio::testing::ranks(size as usize, |world| {
            let me = world.rank();
            for root in 0..size {
                let at_root = me == root;
                let everybody = || (0..size).map(|r| sample(r.into()));
                let gathered = world.gather(root, &sample(me.into()));
                assert_eq!(gathered, at_root.then(|| everybody().collect()));
                let slices = || (0..size).map(|r| samples(r.into(), len(r, root)));
                let gathered = world.gather_slices(root, &samples(me.into(), len(me, root)));
                assert_eq!(gathered, at_root.then(|| slices().collect::<Vec<_>>()));

                // What those who are no root give is not looked at.
                let given: Vec<Sample> = everybody().collect();
                let mine = world.scatter(root, at_root.then_some(&given[..]));
                assert_eq!(mine, sample(me.into()));
                let given: Vec<Vec<Sample>> = slices().collect();
                let given = if at_root { &given[..] } else { &given[..1] };
                let mine = world.scatter_slices(root, Some(given));
                assert_eq!(mine, samples(me.into(), len(me, root)));

                let mut one = sample(i64::from(me) + 7);
                world.broadcast(root, &mut one);
                assert_eq!(one, sample(i64::from(root) + 7));
                let mut many = samples(me.into(), len(me, 1));
                world.broadcast_vec(root, &mut many);
                assert_eq!(many, samples(root.into(), len(root, 1)));

                let sum = world.reduce(root, me + 1, SystemOperation::sum());
                assert_eq!(sum, at_root.then_some(size * (size + 1) / 2));
                let least = world.reduce_slice(root, &[-me, me], SystemOperation::min());
                assert_eq!(least, at_root.then(|| vec![1 - size, 0]));
            }
        });
    }
}

#[test]
fn all_get_the_same_of_all() {
    for size in 1..=5 {
        tercio::testing::ranks(size as usize, |world| {
            let me = world.rank();
            let everybody: Vec<Sample> = (0..size).map(|r| sample(r.into())).collect();
            assert_eq!(world.all_gather(&sample(me.into())), everybody);
            let slices: Vec<_> = (0..size).map(|r| samples(r.into(), len(r, 0))).collect();
            assert_eq!(
                world.all_gather_slices(&samples(me.into(), len(me, 0))),
                slices
            );

            let mine: Vec<i64> = (0..2 * size).map(|i| (100 * me + i).into()).collect();
            let theirs = (0..size).flat_map(|r| [100 * r + 2 * me, 100 * r + 2 * me + 1]);
            assert!(
                world
                    .all_to_all(&mine)
                    .into_iter()
                    .eq(theirs.map(i64::from))
            );
            let mine: Vec<_> = (0..size).map(|r| samples(me.into(), len(me, r))).collect();
            let theirs: Vec<_> = (0..size).map(|r| samples(r.into(), len(r, me))).collect();
            assert_eq!(world.all_to_all_slices(&mine), theirs);

            let op = SystemOperation::sum();
            assert_eq!(world.all_reduce(me, op), size * (size - 1) / 2);
            let many = vec![f64::from(me); 30_000];
            let sums = world.all_reduce_slice(&many, op);
            assert_eq!(sums, vec![f64::from(size * (size - 1) / 2); 30_000]);
            assert_eq!(world.scan(me, op), me * (me + 1) / 2);
            let before = world.exclusive_scan(me, op);
            assert_eq!(before, (me > 0).then_some(me * (me - 1) / 2));

            // The first of all, in the order of ranks.
            let first = UserOperation::associative(|first, last| {
                let (first, last) = (first.downcast::<i32>(), last.downcast::<i32>());
                last.unwrap().copy_from_slice(first.unwrap());
            });
            assert_eq!(world.all_reduce(me + 5, &first), 5);
        });
    }
}

#[test]
fn elements_without_bytes_are_counted() {
    #[derive(Equivalence, Debug, PartialEq)]
    struct Nothing;
    tercio::testing::ranks(3, |world| {
        let mine = || (0..world.rank()).map(|_| Nothing).collect::<Vec<_>>();
        let lens = |all: Vec<Vec<Nothing>>| all.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(world.all_gather_slices(&mine())), [0, 1, 2]);
        assert_eq!(world.gather_slices(1, &mine()).is_some(), world.rank() == 1);
        let parts = [mine(), mine(), mine()];
        assert_eq!(lens(world.all_to_all_slices(&parts)), [0, 1, 2]);
        assert_eq!(world.scatter_slices(2, Some(&parts)), [Nothing, Nothing]);
    });
}

#[test]
fn any_communicator_has_them() {
    fn total(comm: &dyn Communicator) -> i32 {
        comm.all_reduce(1, SystemOperation::sum())
    }
    tercio::testing::ranks(4, |world| {
        let half = world
            .split_by_color(Color::with_value(world.rank() % 2))
            .unwrap();
        assert_eq!((total(&world), total(&half)), (4, 2));
        assert_eq!(
            half.all_gather(&world.rank()),
            [world.rank() % 2, world.rank() % 2 + 2]
        );
    });
}

#[test]
fn wrong_arguments_are_found_before_anything_happens() {
    tercio::testing::ranks(2, |world| {
        let class = |result: Result<(), tercio::Error>| result.unwrap_err().class();
        let sum = SystemOperation::sum();
        for root in [-1, 2] {
            assert_eq!(class(world.try_broadcast(root, &mut 0)), ErrorClass::Root);
            assert_eq!(
                class(world.try_gather(root, &0).map(drop)),
                ErrorClass::Root
            );
            assert_eq!(
                class(world.try_reduce(root, 0, sum).map(drop)),
                ErrorClass::Root
            );
        }
        assert_eq!(
            class(world.try_all_reduce(true, sum).map(drop)),
            ErrorClass::Op
        );
        if world.rank() == 1 {
            for (given, words) in [
                (None, "scatter was given no values at its root, rank 1"),
                (
                    Some(&[1, 2, 3][..]),
                    "scatter was given 3 values at its root, for 2 ranks",
                ),
            ] {
                let error = world.try_scatter(1, given).unwrap_err();
                assert!(error.text().starts_with(words), "{error}");
                assert_eq!(error.peer(), Some(1));
            }
        }
        // Nobody has begun a collective.
        assert_eq!(world.all_gather(&world.rank()), [0, 1]);
    });
}
