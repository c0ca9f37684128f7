//! Groups, splits, names, attributes, grids.
use super::{panic_of, says};
use tercio::collective::SystemOperation;
use tercio::topology::{
    Color, CommunicatorRelation, GroupRelation, IntoTopology, SimpleCommunicator, SystemGroup,
    Topology,
};
use tercio::traits::*;

#[tercio::test(np = [1, 2, 3])]
fn duplicates(world: SimpleCommunicator) {
    let copy = world.duplicate();
    assert_eq!(world.compare(&copy), CommunicatorRelation::Congruent);
    assert_eq!(
        world.compare(&SimpleCommunicator::world()),
        CommunicatorRelation::Identical
    );
    // Messages of the two never meet.
    let me = copy.this_process();
    world.this_process().send(&1);
    me.send(&2);
    assert_eq!(
        (
            me.receive::<i32>().0,
            world.this_process().receive::<i32>().0
        ),
        (2, 1)
    );
    drop(world);
    copy.barrier();
}

#[tercio::test(np = [1, 2, 3, 4, 7])]
fn splits(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    let parity = world
        .split_by_color_with_key(Color::with_value(rank % 2), -rank)
        .unwrap();
    let mut ranks = vec![0; parity.size() as usize];
    parity.all_gather_into(&rank, &mut ranks[..]);
    let expected: Vec<i32> = (0..size)
        .rev()
        .filter(|other| other % 2 == rank % 2)
        .collect();
    assert_eq!(ranks, expected);
    let even = world.split_by_color(if rank % 2 == 0 {
        Color::with_value(0)
    } else {
        Color::undefined()
    });
    assert_eq!(even.is_some(), rank % 2 == 0);
    // All are on one host.
    assert_eq!(world.split_shared(rank).size(), size);
    assert_eq!(
        SimpleCommunicator::self_comm().compare(&world) == CommunicatorRelation::Congruent,
        size == 1
    );
    let backwards = world
        .split_by_color_with_key(Color::with_value(0), size - rank)
        .unwrap();
    let relation = if size == 1 {
        CommunicatorRelation::Congruent
    } else {
        CommunicatorRelation::Similar
    };
    assert_eq!(world.compare(&backwards), relation);
    if size > 1 {
        assert_eq!(world.compare(&parity), CommunicatorRelation::Unequal);
    }
}

#[tercio::test(np = [1, 2, 3, 4, 7])]
fn groups(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    let all = world.group();
    assert_eq!((all.size(), all.rank()), (size, Some(rank)));
    let odds: Vec<i32> = (0..size).filter(|rank| rank % 2 == 1).collect();
    let (odd, even) = (all.include(&odds), all.exclude(&odds));
    assert_eq!(odd.size() + even.size(), size);
    assert_eq!(
        (odd.rank().is_some(), even.rank().is_some()),
        (rank % 2 == 1, rank % 2 == 0)
    );
    assert_eq!(
        odd.intersection(&even).compare(&SystemGroup::empty()),
        GroupRelation::Identical
    );
    assert_eq!(
        all.difference(&even).compare(&odd),
        GroupRelation::Identical
    );
    let turned = odd.union(&even);
    let sorted = (0..size).collect::<Vec<_>>()
        == [odds.clone(), (0..size).filter(|r| r % 2 == 0).collect()].concat();
    assert_eq!(
        turned.compare(&all),
        if sorted {
            GroupRelation::Identical
        } else {
            GroupRelation::Similar
        }
    );
    if odd.size() > 0 {
        assert_eq!(
            (odd.translate_rank(0, &all), odd.translate_rank(0, &even)),
            (Some(1), None)
        );
    }
    let translated = all.translate_ranks(&(0..size).collect::<Vec<_>>(), &odd);
    assert!(
        translated
            .into_iter()
            .eq((0..size).map(|rank| (rank % 2 == 1).then_some(rank / 2)))
    );

    // A communicator of some, made by all or by those alone.
    let collective = world.split_by_subgroup_collective(&odd);
    assert_eq!(collective.map(|comm| comm.rank()), odd.rank());
    if rank % 2 == 1 {
        let mine = world.split_by_subgroup_with_tag(&odd, 5).unwrap();
        let mut sum = 0;
        mine.all_reduce_into(&rank, &mut sum, SystemOperation::sum());
        assert_eq!(sum, odds.iter().sum());
    } else {
        assert_eq!(world.split_by_subgroup(&even).unwrap().size(), even.size());
        assert!(world.split_by_subgroup(&odd).is_none());
    }
}

fn sum_of_ranks(comm: &dyn Communicator) -> i32 {
    let mut sum = 0;
    comm.all_reduce_into(&comm.rank(), &mut sum, SystemOperation::sum());
    comm.barrier();
    sum
}

#[tercio::test(np = [1, 4])]
fn trait_objects(world: SimpleCommunicator) {
    let size = world.size();
    let grid = world
        .create_cartesian_communicator(&[size], &[true], false)
        .unwrap();
    let comms: [&dyn Communicator; 3] = [&world, &grid, &world.this_process()];
    for comm in comms {
        assert_eq!(sum_of_ranks(comm), size * (size - 1) / 2);
        assert_eq!(comm.process_at_rank(0).is_self(), world.rank() == 0);
    }
    let group: &dyn Group = &world.group();
    assert_eq!(group.include(&[0]).size(), 1);
}

#[tercio::test(np = 2)]
fn names(world: SimpleCommunicator) {
    assert_eq!(world.get_name(), "MPI_COMM_WORLD");
    assert_eq!(SimpleCommunicator::self_comm().get_name(), "MPI_COMM_SELF");
    let copy = world.duplicate();
    assert_ne!(copy.get_name(), "MPI_COMM_WORLD");
    copy.set_name("all of us");
    world.set_name("the world");
    assert_eq!(
        (copy.get_name(), SimpleCommunicator::world().get_name()),
        ("all of us".into(), "the world".into())
    );
}

#[tercio::test(np = 2)]
fn attributes(mut world: SimpleCommunicator) {
    #[derive(Clone, Debug, PartialEq)]
    struct Copied(Vec<i32>);
    impl CommAttribute for Copied {
        const CLONE_ON_DUP: bool = true;
    }
    #[derive(Clone, Debug, PartialEq)]
    struct Left(i32);
    impl CommAttribute for Left {}
    assert!(world.get_attr::<Copied>().is_none());
    world.set_attr(Copied(vec![1, 2]));
    world.set_attr(Left(3));
    let mut copy = world.duplicate();
    assert_eq!(
        (copy.get_attr(), copy.get_attr::<Left>()),
        (Some(&Copied(vec![1, 2])), None)
    );
    copy.set_attr(Copied(vec![9]));
    assert_eq!(
        (world.get_attr(), world.get_attr()),
        (Some(&Copied(vec![1, 2])), Some(&Left(3)))
    );
    // A part of it is another communicator.
    assert!(
        world
            .split_by_color(Color::with_value(0))
            .unwrap()
            .get_attr::<Copied>()
            .is_none()
    );
}

#[tercio::test(np = [1, 2, 3, 4, 6, 7])]
fn grids(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    // Every place of the ring is a process's; a zero dimension has no place for anybody.
    assert_eq!(world.cartesian_map(&[size, 1], &[true, false]), Some(rank));
    assert_eq!(world.cartesian_map(&[size, 0], &[true, false]), None);
    says(
        &panic_of(|| world.create_cartesian_communicator(&[0, size], &[false; 2], true)),
        &["at least one process"],
    );
    says(
        &panic_of(|| world.cartesian_map(&[-1], &[false])),
        &["must not be negative"],
    );
    says(
        &panic_of(|| world.cartesian_map(&[1], &[])),
        &["1 dims but 0 periods"],
    );
    if size < 6 {
        assert!(
            world
                .create_cartesian_communicator(&[1], &[false], false)
                .is_some()
                == (rank == 0)
        );
        return;
    }
    let Some(grid) = world.create_cartesian_communicator(&[2, 3], &[false, true], false) else {
        assert_eq!(rank, 6);
        return;
    };
    assert_eq!(grid.topology_of(), Topology::Cartesian);
    let layout = grid.get_layout();
    assert_eq!(
        (grid.num_dimensions(), &layout.dims[..], &layout.periods[..]),
        (2, &[2, 3][..], &[false, true][..])
    );
    let [row, column] = layout.coords[..] else {
        panic!("{:?}", layout.coords)
    };
    assert_eq!((row, column), (rank / 3, rank % 3));
    for other in 0..6 {
        let place = grid.rank_to_coordinates(other);
        assert_eq!(
            (grid.coordinates_to_rank(&place), place),
            (other, vec![other / 3, other % 3])
        );
    }
    assert_eq!(grid.coordinates_to_rank(&[row, column + 3]), rank);
    says(
        &panic_of(|| grid.coordinates_to_rank(&[2, 0])),
        &["no ring"],
    );
    says(&panic_of(|| grid.rank_to_coordinates(6)), &["rank 6 of 6"]);
    says(&panic_of(|| grid.shift(2, 1)), &["dimension 2 of 2"]);
    says(
        &panic_of(|| grid.subgroup(&[true])),
        &["1 flags for a grid of 2 dimensions"],
    );
    let (above, below) = grid.shift(0, 1);
    assert_eq!(
        (above, below),
        ((row == 1).then(|| rank - 3), (row == 0).then(|| rank + 3))
    );
    let (left, right) = grid.shift(1, 1);
    assert_eq!(
        (left, right),
        (
            Some(row * 3 + (column + 2) % 3),
            Some(row * 3 + (column + 1) % 3)
        )
    );
    let (theirs, _): (i32, _) = tercio::point_to_point::send_receive(
        &rank,
        &grid.process_at_rank(right.unwrap()),
        &grid.process_at_rank(left.unwrap()),
    );
    assert_eq!(theirs, left.unwrap());
    let (mine, line) = (grid.subgroup(&[true, false]), grid.subgroup(&[false, true]));
    assert_eq!(
        (mine.size(), mine.rank(), line.size(), line.rank()),
        (2, row, 3, column)
    );
    assert_eq!(line.get_layout().periods, [true]);
}

/// What a grid says of itself as an ordinary communicator.
trait TopologyOf {
    fn topology_of(&self) -> Topology;
}

impl TopologyOf for tercio::topology::CartesianCommunicator {
    fn topology_of(&self) -> Topology {
        let copy = self.duplicate();
        let topology = copy.topology();
        assert!(
            matches!(copy.into_topology(), IntoTopology::Cartesian(grid) if grid.num_dimensions() == 2)
        );
        topology
    }
}
