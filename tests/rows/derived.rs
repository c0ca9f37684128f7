//! When the datatype of a deriving struct may be made first.
use super::{panic_of, says};
use tercio::Threading;
use tercio::datatype::SystemDatatype;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
struct Early(i32, u8);

#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
struct Known {
    wide: f64,
    narrow: [u16; 3],
}

#[derive(Equivalence)]
struct Late;

/// The panics are caught, and harm nobody.
#[tercio::test(np = [1, 2])]
fn before_during_and_after() {
    let text = panic_of(Early::equivalent_datatype);
    says(&text, &["Early", "before the library was initialized"]);
    let universe = tercio::initialize().unwrap();
    // It can be made now.
    let known: SystemDatatype = Known::equivalent_datatype();
    assert_eq!(known.as_raw(), Known::equivalent_datatype().as_raw());
    assert_eq!(universe.world().pack(&Early(1, 2)), [1, 0, 0, 0, 2]);
    drop(universe);
    let text = panic_of(Late::equivalent_datatype);
    says(&text, &["Late", "after the library was finalized"]);
    // What was made stays.
    assert_eq!(known.as_raw(), Known::equivalent_datatype().as_raw());
}

#[tercio::test(np = 2)]
fn by_another_thread(world: SimpleCommunicator) {
    let text = std::thread::scope(|threads| {
        threads
            .spawn(|| panic_of(Known::equivalent_datatype))
            .join()
            .unwrap()
    });
    says(&text, &["Known", "another thread", "Threading::Multiple"]);
    let mine = Known {
        wide: f64::from(world.rank()),
        narrow: [1, 2, 3],
    };
    let mut all = [Known::default(); 2];
    world.all_gather_into(&mine, &mut all);
    assert_eq!(all.map(|known| known.wide), [0.0, 1.0]);
    // Now that it is made, any thread may ask for it.
    std::thread::scope(|threads| threads.spawn(Known::equivalent_datatype).join()).unwrap();
}

#[tercio::test(np = 2)]
fn by_another_thread_at_multiple() {
    let (universe, _) = tercio::initialize_with_threading(Threading::Multiple).unwrap();
    let world = universe.world();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut all = [Early::default(); 2];
            world.all_gather_into(&Early(world.rank(), 9), &mut all);
            assert_eq!(all, [Early(0, 9), Early(1, 9)]);
        });
    });
}
