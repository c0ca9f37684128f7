//! Initializing, and what may be asked before.
use tercio::Threading;
use tercio::environment::{library_version, processor_name, threading_support, version};
use tercio::request::{WaitGuard, scope};
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

#[tercio::test(np = [1, 3])]
fn what_may_be_asked_before() {
    assert!(!tercio::is_initialized() && !tercio::is_finalized());
    assert!(version() >= (3, 1));
    assert!(!library_version().unwrap().is_empty());
    let (universe, level) = tercio::initialize_with_threading(Threading::Funneled).unwrap();
    assert!(tercio::is_initialized() && !tercio::is_finalized());
    assert!(tercio::initialize().is_none());
    assert_eq!(
        (level, threading_support()),
        (Threading::Funneled, Threading::Funneled)
    );
    let world = universe.world();
    assert!((0..world.size()).contains(&world.rank()));
    assert!(universe.size().unwrap() >= world.size() as usize);
    drop(universe);
    assert!(tercio::is_initialized() && tercio::is_finalized());
    assert!(tercio::initialize().is_none());
    assert_eq!(threading_support(), Threading::Funneled);
}

/// The level that is given is never above the one that was asked for.
fn at_level(level: Threading) {
    let (universe, given) = tercio::initialize_with_threading(level).unwrap();
    assert_eq!((given, threading_support()), (level, level));
    assert!(given <= Threading::Multiple);
    universe.world().barrier();
}

mod the_level_that_is_asked_for {
    use super::*;

    #[tercio::test(np = 2)]
    fn single() {
        at_level(Threading::Single);
    }

    #[tercio::test(np = 2)]
    fn funneled() {
        at_level(Threading::Funneled);
    }

    #[tercio::test(np = 2)]
    fn serialized() {
        at_level(Threading::Serialized);
    }

    #[tercio::test(np = 2)]
    fn multiple() {
        at_level(Threading::Multiple);
    }
}

#[tercio::test(np = 2)]
fn the_clock_and_the_names(world: SimpleCommunicator) {
    let (start, tick) = (tercio::time(), tercio::time_resolution());
    world.barrier();
    let end = tercio::time();
    assert!(end >= start && tick > 0.0 && tick < 1e-3);
    // All ranks are on one host.
    let name = processor_name().unwrap();
    let mut names = vec![0; 2 * name.len()];
    world.all_gather_into(name.as_bytes(), &mut names);
    assert_eq!(names, name.repeat(2).as_bytes());
}

#[tercio::test(np = [1, 2, 3, 4, 7])]
fn the_ring_of_the_readme(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    let next = world.process_at_rank((rank + 1) % size);
    let previous = world.process_at_rank((rank + size - 1) % size);
    let message = [rank, 2 * rank, 4 * rank];
    scope(|scope| {
        let _sending = WaitGuard::from(next.immediate_send(scope, &message[..]));
        let (theirs, status) = world.any_process().receive_vec();
        let p = previous.rank();
        assert_eq!((theirs, status.source_rank()), (vec![p, 2 * p, 4 * p], p));
    });
    let mut numbers = if rank == 0 {
        vec![2, 4, 8, 16]
    } else {
        vec![0; 4]
    };
    world.process_at_rank(0).broadcast_into(&mut numbers[..]);
    assert_eq!(numbers, [2, 4, 8, 16]);
}
