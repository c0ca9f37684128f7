// C = A * B with the rows of A dealt out to the ranks: scatter A, broadcast B, gather C.
//
//     cargo run --release -- run -n 4 --example matmul -- 600
//
// Rank 0 multiplies the matrices a second time on its own and compares: the results are equal to the last bit, since
// each element is summed up in the same order.
use tercio::traits::*;

fn main() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let size = world.size() as usize;
    let root = world.process_at_rank(0);

    // How large the matrices are: rank 0 reads it and tells the others.
    let mut n: u64 = 0;
    if world.rank() == 0 {
        n = match std::env::args().nth(1) {
            Some(word) => word.parse().expect("the argument is the number of rows"),
            None => 300,
        };
    }
    root.broadcast_into(&mut n);
    let n = n as usize;

    // Every rank gets equally many rows, so A and C have up to size - 1 rows of zeros at their ends.
    let rows = n.div_ceil(size);
    let mut my_rows_of_a = vec![0.0; rows * n];
    let mut b = vec![0.0; n * n];

    if world.rank() == 0 {
        let start = tercio::time();
        let mut a = matrix(n, 1);
        a.resize(rows * size * n, 0.0);
        b = matrix(n, 2);

        root.scatter_into_root(&a[..], &mut my_rows_of_a[..]);
        root.broadcast_into(&mut b[..]);
        let my_rows_of_c = product(&my_rows_of_a, &b, n);
        let mut c = vec![0.0; rows * size * n];
        root.gather_into_root(&my_rows_of_c[..], &mut c[..]);

        println!("# {size} ranks, {:.3} s", tercio::time() - start);
        assert!(
            c[..n * n] == product(&a[..n * n], &b, n)[..],
            "the parallel product differs from the sequential one"
        );
        println!(
            "{n} x {n}: the parallel product equals the sequential one; its trace is {}",
            trace(&c, n)
        );
    } else {
        // The same three calls, in the same order, from the other side.
        root.scatter_into(&mut my_rows_of_a[..]);
        root.broadcast_into(&mut b[..]);
        root.gather_into(&product(&my_rows_of_a, &b, n)[..]);
    }
}

/// Some matrix of n rows and columns.
fn matrix(n: usize, seed: usize) -> Vec<f64> {
    (0..n * n)
        .map(|i| ((i * 7 + seed * 13) % 101) as f64 / 8.0 - 6.0)
        .collect()
}

/// The product of some rows of n numbers with a matrix of n rows and n columns.
fn product(rows: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut result = vec![0.0; rows.len()];
    for (row, sums) in rows.chunks_exact(n).zip(result.chunks_exact_mut(n)) {
        for (factor, b_row) in row.iter().zip(b.chunks_exact(n)) {
            for (sum, value) in sums.iter_mut().zip(b_row) {
                *sum += factor * value;
            }
        }
    }
    result
}

fn trace(matrix: &[f64], n: usize) -> f64 {
    (0..n).map(|i| matrix[i * n + i]).sum()
}
