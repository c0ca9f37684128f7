// A token travels once around all ranks; each adds its own number to it.
//
//     cargo run --release -- run -n 4 --example ring
use tercio::traits::*;

fn main() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let (rank, size) = (world.rank(), world.size());
    let next = world.process_at_rank((rank + 1) % size);
    let previous = world.process_at_rank((rank + size - 1) % size);

    if rank == 0 {
        let start = tercio::time();
        next.send(&0_i64);
        let (token, status) = previous.receive::<i64>();
        println!(
            "the token came back from rank {} with {token}",
            status.source_rank()
        );
        println!("# {size} hops in {:.1} us", (tercio::time() - start) * 1e6);
        let expected = i64::from(size) * i64::from(size - 1) / 2;
        assert_eq!(token, expected, "the sum of all ranks");
    } else {
        // The others wait for the token, and pass it on.
        let (token, _status) = previous.receive::<i64>();
        next.send(&(token + i64::from(rank)));
    }
}
