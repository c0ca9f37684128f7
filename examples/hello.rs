// Every rank sends a greeting to rank 0, which prints them in the order of the ranks.
//
//     cargo run --release -- run -n 4 --example hello
use tercio::traits::*;

fn main() {
    // Joins the job that the launcher started. Without a launcher this is rank 0 of a job of one.
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let host = tercio::environment::processor_name().unwrap();
    let greeting = format!(
        "hello from rank {} of {} on {host}",
        world.rank(),
        world.size()
    );

    if world.rank() == 0 {
        println!("{greeting}");
        for other in 1..world.size() {
            // A message can be received as a vector when its length is not known beforehand.
            let (text, _status) = world.process_at_rank(other).receive_vec::<u8>();
            println!("{}", String::from_utf8(text).unwrap());
        }
    } else {
        world.process_at_rank(0).send(greeting.as_bytes());
    }
    // `universe` is dropped here: the rank says goodbye to the job.
}
