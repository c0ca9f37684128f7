//! Ranks that start further ranks: what passes between them, and how such jobs end.
use crate::parts::PART;
use crate::support::{Mark, text, trial};
use libtest_mimic::Trial;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use tercio::collective::SystemOperation;
use tercio::launch::{Job, Outcome, Output};
use tercio::topology::{InterCommunicator, MergeOrder, SimpleCommunicator};
use tercio::traits::*;
use tercio::{MpiError, environment::Universe};

pub fn tests() -> Vec<Trial> {
    vec![
        trial("spawn_messages_barrier_and_merge", || {
            for parents in [1, 3] {
                assert_eq!(well("messages", parents), parents + 2);
            }
        }),
        trial("spawn_several_programs_in_their_directories", several),
        trial("spawn_in_a_spawned_world", || {
            assert_eq!(well("nested", 2), 2 + 2 + 1);
        }),
        trial("spawn_by_two_groups_at_once", || {
            assert_eq!(well("halves", 4), 4 + 2 * 2);
        }),
        trial("spawn_until_there_is_no_room", || {
            assert_eq!(well("room", 2), 2 + 16);
        }),
        trial("spawn_what_cannot_be_started", || {
            let outcome = run("unstartable", 2);
            assert_eq!(outcome.code, 0, "{:?}", outcome.verdict);
            let said = text(&outcome.stderr);
            for sentence in [
                "/./no/such; check the path",
                "the interpreter or loader that it names does not exist",
                "is not executable",
                "room for 13 more, and 14 were to be spawned; ask for room with --universe-size",
            ] {
                assert!(said.contains(sentence), "{sentence} is not in:\n{said}");
            }
        }),
        trial("spawn_wrong_arguments_and_collectives", || {
            assert_eq!(well("misuse", 2), 2 + 1);
        }),
        trial("spawned_ranks_that_fail_end_the_job", fail),
        trial("spawned_ranks_that_never_initialize", || {
            assert_eq!(well("silent", 1), 1);
            let outcome = run("waits-for-silent", 1);
            assert_eq!(outcome.code, 120);
            let verdict = outcome.verdict.unwrap().text();
            assert!(
                verdict.contains("for rank 1, which has ended without initializing"),
                "{verdict}"
            );
        }),
        trial("spawned_ranks_show_as_ranks_of_the_job", || {
            let outcome = run_as(1, &["hello"], |job| {
                job.output(Output::Capture { tag: true })
            });
            assert_eq!(outcome.code, 0, "{:?}", outcome.verdict);
            let mut lines: Vec<_> = text(&outcome.stdout).lines().map(str::to_owned).collect();
            lines.sort();
            assert_eq!(lines, ["[0] done", "[1] child 0 of 2", "[2] child 1 of 2"]);
        }),
        trial("spawn_needs_a_launcher", alone),
    ]
}

/// Runs a job of parents that play `args`, and looks whether anything is left.
fn run_as(parents: usize, args: &[&str], change: impl Fn(Job) -> Job) -> Outcome {
    let mark = Mark::new();
    let outcome = change(mark.part(parents, "spawner", args)).run().unwrap();
    mark.assert_nothing_left();
    outcome
}

fn run(mode: &str, parents: usize) -> Outcome {
    run_as(parents, &[mode], |job| job)
}

/// Runs a job that must end well; how many of its ranks said that they are done.
fn well(mode: &str, parents: usize) -> usize {
    let outcome = run(mode, parents);
    let verdict = outcome.verdict.map(|verdict| verdict.text());
    assert_eq!(
        outcome.code,
        0,
        "{mode}: {verdict:?}\n{}",
        text(&outcome.stderr)
    );
    text(&outcome.stdout).matches("done\n").count()
}

/// This executable again, as a child of `mode`.
fn child(mode: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(PART, "spawner").arg(mode);
    command
}

/// The part of a rank, parent or child.
pub fn spawner() {
    let mode = std::env::args().nth(1).unwrap();
    let mut universe = tercio::initialize().unwrap();
    let world = universe.world();
    match (mode.as_str(), world.parent()) {
        ("messages", None) => {
            let root = world.process_at_rank(world.size() - 1);
            let children = root.spawn(&child("messages"), 2).unwrap();
            exchange(&world, &children, MergeOrder::Low);
        }
        ("messages", Some(parent)) => {
            exchange(&world, &parent, MergeOrder::High);
            assert_eq!(parent.get_name(), "MPI_COMM_PARENT");
            universe.disconnect_parent();
            assert!(world.parent().is_none());
        }
        ("several", None) => parent_of_several(&universe, &world),
        ("several", Some(parent)) => {
            let what = std::env::var("WHAT").unwrap_or_default();
            let here = std::env::current_dir().unwrap();
            let said = format!(
                "{} {} {what} {} {}",
                universe.appnum().unwrap(),
                std::env::args().nth(2).unwrap(),
                here.display(),
                std::env::var_os("PATH").is_some()
            );
            parent.process_at_rank(0).send(said.as_bytes());
        }
        ("nested", parent) => nested(&world, parent),
        ("halves", None) => {
            let half = world
                .split_by_color(tercio::topology::Color::with_value(world.rank() % 2))
                .unwrap();
            let children = half.process_at_rank(1).spawn(&child("halves"), 2).unwrap();
            let all = children.merge(MergeOrder::High);
            assert_eq!((all.rank(), all.size()), (2 + half.rank(), 4));
            assert_eq!(
                sum(&all),
                2 * world.size() * (world.rank() % 2) + half_sum(&world)
            );
        }
        ("halves", Some(parent)) => {
            let all = parent.merge(MergeOrder::Low);
            assert_eq!((all.rank(), all.size()), (world.rank(), 4));
            sum_of(&all, 0);
        }
        ("room", None) => {
            for number in 0..16 {
                let one = world.process_at_rank(0).spawn(&child("room"), 1).unwrap();
                if world.rank() == 1 {
                    one.process_at_rank(0).send(&number);
                    assert_eq!(one.any_process().receive::<i32>().0, number + 1);
                }
            }
            let refused = world.process_at_rank(0).spawn(&child("room"), 1);
            assert!(matches!(refused, Err(MpiError::Spawn(1, 1))));
        }
        ("room", Some(parent)) => {
            let (number, status) = parent.any_process().receive::<i32>();
            assert_eq!(status.source_rank(), 1);
            parent.process_at_rank(1).send(&(number + 1));
        }
        ("unstartable", None) => unstartable(&world),
        ("misuse", None) => misuse(&world),
        ("misuse", Some(parent)) => drop(parent.merge(MergeOrder::High)),
        ("fail", None) => {
            let how = std::env::args().nth(2).unwrap();
            let children = world
                .process_at_rank(0)
                .spawn(child("fail").arg(how), 2)
                .unwrap();
            // Waits for a message that never comes.
            children.any_process().receive::<i32>();
        }
        ("fail", Some(parent)) => {
            world.barrier();
            if world.rank() == 1 {
                match std::env::args().nth(2).unwrap().as_str() {
                    "exit" => std::process::exit(3),
                    "abort" => parent.abort(5),
                    "panic" => panic!("a child's panic"),
                    // SAFETY: a signal to this process.
                    _ => unsafe { libc::raise(libc::SIGKILL) },
                };
            }
            parent.process_at_rank(0).receive::<i32>();
        }
        ("silent", None) => {
            let children = world.process_at_rank(0).spawn(&Command::new("true"), 2);
            assert_eq!(children.unwrap().remote_size(), 2);
        }
        ("waits-for-silent", None) => {
            let children = world.process_at_rank(0).spawn(&Command::new("true"), 1);
            children.unwrap().process_at_rank(0).receive::<i32>();
        }
        ("hello", None) => drop(world.process_at_rank(0).spawn(&child("hello"), 2).unwrap()),
        ("hello", Some(_)) => {
            println!("child {} of {}", world.rank(), world.size());
            return;
        }
        (other, _) => panic!("there is no mode {other}"),
    }
    println!("done");
}

fn sum_of(comm: &SimpleCommunicator, mine: i32) -> i32 {
    let mut sum = 0;
    comm.all_reduce_into(&mine, &mut sum, SystemOperation::sum());
    sum
}

fn sum(all: &SimpleCommunicator) -> i32 {
    let world = SimpleCommunicator::world();
    sum_of(all, world.size() * (world.rank() % 2) + world.rank())
}

fn half_sum(world: &SimpleCommunicator) -> i32 {
    (0..world.size())
        .filter(|r| r % 2 == world.rank() % 2)
        .sum()
}

/// Both sides of a spawn, in turn and at once.
fn exchange(world: &SimpleCommunicator, other: &InterCommunicator, order: MergeOrder) {
    assert!(other.test_inter() && !world.test_inter());
    assert_eq!((other.rank(), other.size()), (world.rank(), world.size()));
    assert_eq!(other.target_size(), other.remote_size());
    assert!(!other.this_process().is_self());
    let (mine, theirs) = (other.size(), other.remote_size());
    // Small and large, to each of the others at once; what comes first from anybody.
    let long = vec![world.rank() as u8; 300_000];
    tercio::request::scope(|scope| {
        let mut sends = Vec::new();
        for rank in 0..theirs {
            let peer = other.process_at_rank(rank);
            sends.push(peer.immediate_send_with_tag(scope, &long[..], 7));
        }
        for rank in 0..theirs {
            let (bytes, status) = other.process_at_rank(rank).receive_vec_with_tag::<u8>(7);
            assert_eq!((bytes.len(), status.source_rank()), (300_000, rank));
            assert!(bytes.iter().all(|byte| *byte == rank as u8));
        }
        for send in sends {
            send.wait();
        }
    });
    for rank in 0..theirs {
        other.process_at_rank(rank).send(&world.rank());
    }
    for rank in 0..theirs {
        assert_eq!(other.process_at_rank(rank).receive::<i32>().0, rank);
    }
    other.barrier();
    let group = other.remote_group();
    assert_eq!((group.size(), group.rank()), (theirs, None));
    assert_eq!(group.intersection(&world.group()).size(), 0);
    for order in [order, MergeOrder::High, MergeOrder::Low] {
        let all = other.merge(order);
        assert_eq!(all.size(), mine + theirs);
        let everybody: i32 = (0..all.size()).sum();
        assert_eq!(sum_of(&all, all.rank()), everybody);
        let mut from_last = all.rank();
        all.process_at_rank(all.size() - 1)
            .broadcast_into(&mut from_last);
        assert_eq!(from_last, all.size() - 1);
        assert_eq!(all.group().union(&world.group()).size(), all.size());
        let pair = all.split_by_subgroup_collective(&all.group().include(&[0, all.size() - 1]));
        assert_eq!(pair.is_some(), [0, all.size() - 1].contains(&all.rank()));
        if let Some(pair) = pair {
            assert_eq!(sum_of(&pair, 1), 2);
        }
    }
    // Parents said Low and the children High; where both say the same the parents come first too.
    let all = other.merge(order);
    let parents = if order == MergeOrder::Low {
        mine
    } else {
        theirs
    };
    let expected = match order {
        MergeOrder::Low => world.rank(),
        MergeOrder::High => parents + world.rank(),
    };
    assert_eq!(all.rank(), expected);
}

fn parent_of_several(universe: &Universe, world: &SimpleCommunicator) {
    assert_eq!(universe.size(), Some(9));
    let mut commands = [child("several"), child("several")];
    commands[0]
        .arg("first")
        .env("WHAT", "a b")
        .current_dir("/usr");
    commands[1]
        .arg("second")
        .env_remove("PATH")
        .current_dir("bin");
    std::env::set_current_dir("/usr").unwrap();
    let children = world
        .process_at_rank(0)
        .spawn_multiple(&commands, &[2, 1])
        .unwrap();
    if world.rank() == 0 {
        for rank in 0..3 {
            let (said, _) = children.process_at_rank(rank).receive_vec::<u8>();
            let expected = match rank {
                2 => "1 second  /usr/bin false",
                _ => "0 first a b /usr true",
            };
            assert_eq!(String::from_utf8(said).unwrap(), expected);
        }
    }
}

fn several() {
    let outcome = run_as(2, &["several"], |job| job.universe_size(9));
    assert_eq!(outcome.code, 0, "{:?}", outcome.verdict);
    assert_eq!(text(&outcome.stdout).matches("done\n").count(), 2 + 3);
    let refused = Mark::new()
        .part(4, "spawner", &["several"])
        .universe_size(3)
        .plan()
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("at least the 4 that the job begins with"),
        "{refused}"
    );
}

fn nested(world: &SimpleCommunicator, parent: Option<InterCommunicator>) {
    let depth: i32 = std::env::args()
        .nth(2)
        .map_or(0, |text| text.parse().unwrap());
    if depth < 2 {
        let next = world
            .process_at_rank(0)
            .spawn(child("nested").arg((depth + 1).to_string()), 2 - depth)
            .unwrap();
        if world.rank() == 0 {
            assert_eq!(next.process_at_rank(0).receive::<i32>().0, depth + 1);
        }
    }
    if let Some(parent) = parent {
        if world.rank() == 0 {
            parent.process_at_rank(0).send(&depth);
        }
        assert_eq!(parent.remote_size(), 2);
    }
}

fn unstartable(world: &SimpleCommunicator) {
    let directory = std::env::temp_dir().join(format!("tercio-spawn-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let script = directory.join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = world.process_at_rank(0);
    let sleeper = || {
        let mut sleeper = Command::new("sleep");
        sleeper.arg("600");
        sleeper
    };
    let refused = |result: Result<InterCommunicator, MpiError>, all: i32| match result {
        Err(MpiError::Spawn(failed, of)) => assert_eq!((failed, of), (all, all)),
        _ => panic!("it was started, or another error"),
    };
    refused(root.spawn(&Command::new("./no/such"), 2), 2);
    refused(root.spawn(&Command::new("/etc/passwd"), 1), 1);
    // The first program runs when the second turns out not to.
    let programs = [sleeper(), Command::new(&script)];
    refused(root.spawn_multiple(&programs, &[2, 1]), 3);
    // Those that were started for it keep their numbers.
    refused(root.spawn(&sleeper(), 14), 14);
    std::fs::remove_dir_all(directory).unwrap();
    // The world is as it was.
    assert_eq!(sum_of(world, 1), 2);
}

fn misuse(world: &SimpleCommunicator) {
    let root = world.process_at_rank(0);
    let sentence = |call: &dyn Fn()| {
        let caught = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        caught.downcast_ref::<String>().unwrap().clone()
    };
    let children = root.spawn(&child("misuse"), 1).unwrap();
    if world.rank() == 0 {
        let said = sentence(&|| drop(root.spawn_multiple(&[], &[])));
        assert!(said.contains("0 commands and 0 numbers"), "{said}");
        let said = sentence(&|| drop(root.spawn(&child("misuse"), 0)));
        assert!(said.contains("0 processes; ask for at least 1"), "{said}");
        let said = sentence(&|| {
            children.process_at_rank(1);
        });
        assert!(said.contains("rank 1 of a communicator of 1"), "{said}");
    }
    let mut sum = 0;
    let calls: [&mut dyn FnMut(); 4] = [
        &mut || children.all_reduce_into(&1, &mut sum, SystemOperation::sum()),
        &mut || drop(children.duplicate()),
        &mut || drop(children.split_shared(0)),
        &mut || drop(children.split_by_subgroup(&world.group())),
    ];
    for call in calls {
        let caught = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        let said = caught.downcast_ref::<String>().unwrap();
        assert!(
            said.contains("on an inter-communicator") || said.contains("not in the communicator"),
            "{said}"
        );
    }
    drop(children.merge(MergeOrder::Low));
}

fn fail() {
    for (how, code, said) in [
        ("exit", 3, "exited with code 3"),
        ("abort", 5, "called abort(5)"),
        ("panic", 101, "a child's panic"),
        ("signal", 137, "signal 9 (SIGKILL"),
    ] {
        let outcome = run_as(2, &["fail", how], |job| job);
        assert_eq!(outcome.code, code, "{how}");
        let verdict = outcome.verdict.unwrap().text();
        assert!(
            verdict.contains("rank 3 of 4") && verdict.contains(said),
            "{verdict}"
        );
        // After a panic or an abort the others may have seen the word for it, and left, before the agent looks.
        if matches!(how, "exit" | "signal") {
            assert!(verdict.contains("ended too  rank"), "{verdict}");
        }
    }
}

fn alone() {
    let out = Command::new(std::env::current_exe().unwrap())
        .env(PART, "spawner")
        .args(["hello"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(101));
    let said = text(&out.stderr);
    assert!(
        said.contains("start the program by `tercio run -n 1 PROGRAM`")
            && said.contains("Spawn(2, 2)"),
        "{said}"
    );
}
