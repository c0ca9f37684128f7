// Monte Carlo: how many of many random points in a square lie inside the circle?
//
//     cargo run --release -- run -n 4 --example pi -- 100000000
//
// The points are drawn in blocks, and each block has a random sequence of its own. So the sum, and every digit printed,
// is the same for any number of ranks.
use tercio::{collective::SystemOperation, traits::*};

const BLOCK: u64 = 100_000;

fn main() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let (rank, size) = (world.rank() as u64, world.size() as u64);
    let root = world.process_at_rank(0);

    // Rank 0 reads the command line and tells the others.
    let mut points: u64 = 0;
    if rank == 0 {
        points = match std::env::args().nth(1) {
            Some(word) => word.parse().expect("the argument is a number of points"),
            None => 20_000_000,
        };
    }
    root.broadcast_into(&mut points);

    let start = tercio::time();
    let blocks = points.div_ceil(BLOCK);
    // Blocks are dealt like cards: rank, rank + size, rank + 2 * size, ...
    let mine = (rank..blocks).step_by(size as usize);
    let hits: u64 = mine
        .map(|block| hits_in(block, BLOCK.min(points - block * BLOCK)))
        .sum();

    // The sum over all ranks arrives at rank 0; the others only contribute.
    if rank == 0 {
        let mut all: u64 = 0;
        root.reduce_into_root(&hits, &mut all, SystemOperation::sum());
        println!(
            "{all} of {points} points hit: pi is about {:.6}",
            4.0 * all as f64 / points as f64
        );
        println!("# {size} ranks, {:.3} s", tercio::time() - start);
    } else {
        root.reduce_into(&hits, SystemOperation::sum());
    }
}

/// How many of `points` random points of the unit square have a distance below 1 from its corner.
fn hits_in(block: u64, points: u64) -> u64 {
    let mut state = block.wrapping_mul(0xd129_0b2d_37c6_5a4f);
    (0..points)
        .filter(|_| {
            let (x, y) = (random(&mut state), random(&mut state));
            x * x + y * y < 1.0
        })
        .count() as u64
}

/// The next number in [0, 1) of the sequence splitmix64.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
