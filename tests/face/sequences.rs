//! Collectives of all kinds and lengths one after another: each begins where the ones before have left the communicator.
use tercio::collective::SystemOperation;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

/// What `rank` has at `place` in the collective number `number`.
fn value(number: usize, rank: usize, place: usize) -> i32 {
    (rank * 1_000_003 + place * 7 + number) as i32
}

fn sequence(world: &SimpleCommunicator, mut seed: u64) {
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let mut draw = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % below
    };
    for number in 0..150 {
        let len = [0, 1 + draw(8), draw(300), draw(5000), draw(60000)][draw(5)];
        let (root, kind) = (draw(size), draw(5));
        let process = world.process_at_rank(root as i32);
        let of = |rank: usize| (0..len).map(move |place| value(number, rank, place));
        let mine: Vec<i32> = of(rank).collect();
        let mut got = vec![0; len];
        match kind {
            0 => {
                got.copy_from_slice(&mine);
                process.broadcast_into(&mut got);
                assert!(of(root).eq(got));
            }
            1 => {
                let mut all = vec![0; len * size];
                world.all_gather_into(&mine, &mut all);
                assert!((0..size).flat_map(of).eq(all));
            }
            2 => {
                world.all_reduce_into(&mine, &mut got, SystemOperation::max());
                assert!(of(size - 1).eq(got));
            }
            3 => {
                world.scan_into(&mine, &mut got, SystemOperation::min());
                assert!(of(0).eq(got));
            }
            _ if rank == root => {
                process.reduce_into_root(&mine, &mut got, SystemOperation::min());
                assert!(of(0).eq(got));
            }
            _ => process.reduce_into(&mine, SystemOperation::min()),
        }
    }
}

#[test]
fn a_collective_may_follow_any_other() {
    for (ranks, seed) in [(5, 99), (3, 1), (2, 2), (4, 3), (5, 4)] {
        println!("{ranks} ranks, seed {seed}");
        tercio::testing::ranks(ranks, |world| sequence(&world, seed));
    }
}

#[test]
fn an_exchange_of_large_steps_may_follow_a_reduction_that_nobody_reads_to_its_end() {
    tercio::testing::ranks(5, |world| {
        let (mine, numbers) = (vec![1; 8892], vec![1; 5 * 8576]);
        let (mut all, mut sums) = (vec![0; 5 * 8892], vec![0; 8576]);
        for barriers in 0..8 {
            (0..barriers).for_each(|_| world.barrier());
            world.reduce_scatter_block_into(&numbers, &mut sums, SystemOperation::bitwise_xor());
            world.all_gather_into(&mine, &mut all);
            assert!(all.iter().chain(&sums).all(|number| *number == 1));
        }
    });
}
