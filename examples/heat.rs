// Heat spreads over a plate: the rows of the plate are dealt out in blocks, and in every step each rank needs the rows
// just beyond its block (the halo) from its neighbours. At the end rank 0 writes a picture.
//
//     cargo run --release -- run -n 4 --example heat -- plate.png
//
// Every cell is computed from the same numbers in the same way wherever it lies, so the picture is the same for any
// number of ranks.
use std::{fs::File, io::BufWriter, path::PathBuf};
use tercio::{
    datatype::PartitionMut,
    request::{WaitGuard, scope},
    traits::*,
};

const WIDTH: usize = 240;
const HEIGHT: usize = 160;
const STEPS: usize = 2000;

fn main() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    assert!(
        size <= HEIGHT,
        "every rank needs a row of the plate's {HEIGHT}: start at most as many ranks"
    );

    // The first row of each rank's block; mine are first_row(rank)..first_row(rank + 1).
    let first_row = |rank: usize| rank * HEIGHT / size;
    let rows = first_row(rank + 1) - first_row(rank);
    let above = (rank > 0).then(|| world.process_at_rank(rank as i32 - 1));
    let below = (rank + 1 < size).then(|| world.process_at_rank(rank as i32 + 1));

    // My rows with one row of halo above and one below. At the plate's edges the halo stays cold.
    let mut plate = vec![0.0_f64; (rows + 2) * WIDTH];
    let mut next = plate.clone();
    let start = tercio::time();
    for _ in 0..STEPS {
        heat_the_sources(&mut plate[WIDTH..], first_row(rank), rows);

        let (halo_above, rest) = plate.split_at_mut(WIDTH);
        let (mine, halo_below) = rest.split_at_mut(rows * WIDTH);
        let mine = &*mine;
        let (first, last) = (&mine[..WIDTH], &mine[(rows - 1) * WIDTH..]);
        // All four messages are under way at once. Inside the scope their buffers stay borrowed; a WaitGuard waits for
        // its message when it is dropped, at the latest at the end of the scope.
        scope(|scope| {
            let mut under_way = Vec::new();
            if let Some(above) = above {
                under_way.push(WaitGuard::from(
                    above.immediate_receive_into(scope, halo_above),
                ));
                under_way.push(WaitGuard::from(above.immediate_send(scope, first)));
            }
            if let Some(below) = below {
                under_way.push(WaitGuard::from(
                    below.immediate_receive_into(scope, halo_below),
                ));
                under_way.push(WaitGuard::from(below.immediate_send(scope, last)));
            }
            // Meanwhile: the rows that need nothing from the neighbours.
            for (i, three_rows) in mine.windows(3 * WIDTH).step_by(WIDTH).enumerate() {
                diffuse(three_rows, &mut next[(i + 2) * WIDTH..(i + 3) * WIDTH]);
            }
        });
        // Now the halo is here: the first and the last of my rows.
        for row in [1, rows] {
            diffuse(
                &plate[(row - 1) * WIDTH..(row + 2) * WIDTH],
                &mut next[row * WIDTH..(row + 1) * WIDTH],
            );
        }
        std::mem::swap(&mut plate, &mut next);
    }

    // Each rank paints its rows; rank 0 gathers blocks of different lengths into the picture.
    let pixels: Vec<u8> = plate[WIDTH..(rows + 1) * WIDTH]
        .iter()
        .flat_map(|&heat| colour(heat))
        .collect();
    let root = world.process_at_rank(0);
    if rank == 0 {
        let starts: Vec<i32> = (0..=size)
            .map(|rank| (first_row(rank) * WIDTH * 3) as i32)
            .collect();
        let lengths: Vec<i32> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mut picture = vec![0_u8; WIDTH * HEIGHT * 3];
        let mut parts = PartitionMut::new(&mut picture[..], &lengths[..], &starts[..size]);
        root.gather_varcount_into_root(&pixels[..], &mut parts);

        println!("# {size} ranks, {:.3} s", tercio::time() - start);
        println!(
            "sum of all pixels: {}",
            picture.iter().map(|&byte| u64::from(byte)).sum::<u64>()
        );
        let path = std::env::args_os().nth(1).map(PathBuf::from);
        let path = path.unwrap_or_else(|| std::env::temp_dir().join("tercio-heat.png"));
        write_png(&path, &picture)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        println!("# the picture is in {}", path.display());
    } else {
        root.gather_varcount_into(&pixels[..]);
    }
}

/// Two bars of the plate are kept hot.
fn heat_the_sources(mine: &mut [f64], first_row: usize, rows: usize) {
    for row in 0..rows {
        let heated = match first_row + row {
            30..40 => 40..200,
            100..110 => 20..120,
            _ => continue,
        };
        mine[row * WIDTH..][heated].fill(1.0);
    }
}

/// One step for the middle one of three rows; the left and right edges stay cold.
fn diffuse(three_rows: &[f64], next: &mut [f64]) {
    let (above, rest) = three_rows.split_at(WIDTH);
    let (row, below) = rest.split_at(WIDTH);
    for x in 1..WIDTH - 1 {
        next[x] = row[x] + 0.2 * (row[x - 1] + row[x + 1] + above[x] + below[x] - 4.0 * row[x]);
    }
}

/// From black over red and yellow to white.
fn colour(heat: f64) -> [u8; 3] {
    [0.0, 1.0, 2.0].map(|from| ((heat * 3.0 - from).clamp(0.0, 1.0) * 255.0) as u8)
}

fn write_png(path: &std::path::Path, picture: &[u8]) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(
        BufWriter::new(File::create(path)?),
        WIDTH as u32,
        HEIGHT as u32,
    );
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(picture)
}
