//! `#[tercio::test]`: tests that run on several ranks, those that pass and those that must fail.
use std::process::Command;
use tercio::collective::SystemOperation;
use tercio::environment::Universe;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

#[tercio::test(np = [1, 2, 4])]
fn sums_agree(world: SimpleCommunicator) {
    let mut sum = 0;
    world.all_reduce_into(&world.rank(), &mut sum, SystemOperation::sum());
    assert_eq!(sum, world.size() * (world.size() - 1) / 2);
}

mod within {
    use super::*;

    #[tercio::test(np = 3)]
    fn a_module_and_the_universe(universe: Universe) -> Result<(), String> {
        let size = universe.world().size();
        (size == 3)
            .then_some(())
            .ok_or(format!("{size} ranks instead of 3"))
    }
}

#[tercio::test(np = 2)]
fn a_function_that_initializes_itself() {
    let (universe, level) = tercio::initialize_with_threading(tercio::Threading::Multiple).unwrap();
    assert_eq!(level, tercio::Threading::Multiple);
    assert_eq!(universe.world().size(), 2);
}

#[tercio::test(np = [2, 3])]
#[should_panic(expected = "rank 1 of")]
fn a_panic_names_its_rank(world: SimpleCommunicator) {
    println!("rank {} is here", world.rank());
    world.barrier();
    assert!(world.rank() != 1, "on purpose");
    world.barrier();
}

#[tercio::test(np = 2)]
#[should_panic(expected = "Err(\"no such thing\")")]
fn an_err_fails(world: SimpleCommunicator) -> Result<(), &'static str> {
    match world.rank() {
        0 => Err("no such thing"),
        _ => Ok(()),
    }
}

#[tercio::test(np = 2, timeout = 0.3)]
#[should_panic(expected = "the time limit of 0.3 s is over")]
fn a_test_that_hangs_is_ended(world: SimpleCommunicator) {
    // Each waits for the other.
    world.process_at_rank(1 - world.rank()).receive::<u8>();
}

#[tercio::test(np = 2)]
#[should_panic(expected = "SIGKILL")]
fn a_killed_rank_is_named(world: SimpleCommunicator) {
    if world.rank() == 0 {
        let me = std::process::id().to_string();
        Command::new("kill").args(["-KILL", &me]).status().unwrap();
    }
    world.barrier();
}

/// What a person sees: this executable is run as `cargo test` would, for one test.
fn run_one(name: &str) -> (bool, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn the_output_of_each_rank_is_labelled_and_comes_with_the_verdict() {
    let (passed, text) = run_one("a_panic_names_its_rank::np_3");
    assert!(passed, "{text}");
    for wanted in [
        "[0] rank 0 is here\n",
        "[2] rank 2 is here\n",
        "on purpose",
        "tests/attribute.rs",
        "test result: ok. 1 passed",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
    }
    assert_eq!(text.matches("running 1 test").count(), 1, "{text}");
}

#[test]
fn each_number_of_ranks_is_a_test() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--format", "terse"])
        .output()
        .unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    for name in [
        "sums_agree::np_1: test",
        "sums_agree::np_2: test",
        "sums_agree::np_4: test",
        "within::a_module_and_the_universe::np_3: test",
    ] {
        assert!(
            list.lines().any(|line| line == name),
            "{name} is not in:\n{list}"
        );
    }
}
