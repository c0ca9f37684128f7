//! The one line of Cargo.toml, `mpi = { package = "tercio", ... }`: derives and test attributes find the library under that name.
use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use tercio_as_mpi::Point;

#[derive(mpi::traits::Equivalence, Clone, Copy, Debug, Default, PartialEq)]
struct Pair(Point, (u8, [i32; 2]));

#[mpi::test(np = [1, 2, 3])]
fn derived_types_travel(world: SimpleCommunicator) {
    let pair = |rank: i32| {
        let point = Point {
            place: [f64::from(rank); 3],
            free: rank == 1,
        };
        Pair(point, (7, [rank, -rank]))
    };
    let mut all = vec![Pair::default(); world.size() as usize];
    world.all_gather_into(&pair(world.rank()), &mut all[..]);
    assert!(all.into_iter().eq((0..world.size()).map(pair)));
    let mut sum = 0;
    world.all_reduce_into(&1, &mut sum, SystemOperation::sum());
    assert_eq!(sum, world.size());
}
