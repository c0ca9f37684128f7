//! Spawned ranks and their parents, when something goes wrong or ends early, and many spawns at a time.
use crate::parts::PART;
use crate::support::{Mark, text, trial};
use libtest_mimic::Trial;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;
use tercio::collective::SystemOperation;
use tercio::datatype::{Partition, PartitionMut};
use tercio::launch::Outcome;
use tercio::topology::{Color, InterCommunicator, MergeOrder, SimpleCommunicator};
use tercio::traits::*;
use tercio::{MpiError, Threading};

pub fn tests() -> Vec<Trial> {
    vec![
        trial("spawn_and_leave_before_the_children", || {
            well("parents-leave", 2, 2 + 3);
            well("children-leave", 2, 2 + 2);
        }),
        trial("spawn_and_wait_for_children_that_left", || {
            for (mode, words) in [
                ("barrier-of-the-gone", "which has finalized"),
                ("merge-with-the-gone", "which has finalized"),
                (
                    "merge-with-the-silent",
                    "which has ended without initializing",
                ),
                ("receive-from-the-gone", "can never be satisfied"),
                ("child-waits-for-parents", "which has finalized"),
            ] {
                let said = told(mode, 2, 120);
                assert!(said.contains(words), "{mode}: {words:?} is not in:\n{said}");
            }
        }),
        trial("spawn_while_a_rank_dies", || {
            for _ in 0..5 {
                let said = told("rank-dies", 3, 137);
                assert!(said.contains("rank 2"), "{said}");
            }
        }),
        trial("spawn_many_at_once", || {
            well("crossing", 4, 4 + 2 * 4 + 2 * 4);
            well("threads", 1, 1 + 4 * 2);
        }),
        trial("spawn_with_odd_words", || well("words", 1, 1 + 1)),
        trial("spawn_refusals_leave_the_communicator_as_it_was", || {
            well("refusals", 2, 2 + 1);
        }),
        trial("spawn_merges_that_disagree_are_told", || {
            let said = told("disagree", 2, 120);
            assert!(
                said.contains("all members of a group must say the same"),
                "{said}"
            );
        }),
        trial("spawn_groups_exchange_with_each_other", || {
            well("exchange", 3, 3 + 2);
            well("exchange", 1, 1 + 2);
        }),
        trial("spawn_inter_communicators_say_what_they_have_not", || {
            well("collectives", 2, 2 + 2);
        }),
    ]
}

fn run(mode: &str, parents: usize) -> Outcome {
    let mark = Mark::new();
    let job = mark.part(parents, "spawn-ends", &[mode]);
    let outcome = job.universe_size(40).run().unwrap();
    mark.assert_nothing_left();
    outcome
}

/// It ends well, and so many ranks say that they are done.
fn well(mode: &str, parents: usize, ranks: usize) {
    let outcome = run(mode, parents);
    let verdict = outcome.verdict.map(|verdict| verdict.text());
    let said = text(&outcome.stderr);
    assert_eq!(outcome.code, 0, "{mode}: {verdict:?}\n{said}");
    assert_eq!(
        text(&outcome.stdout).matches("done\n").count(),
        ranks,
        "{mode}"
    );
}

/// It ends with this code; the verdict.
fn told(mode: &str, parents: usize, code: i32) -> String {
    let outcome = run(mode, parents);
    let said = outcome.verdict.map_or_else(String::new, |it| it.text());
    assert_eq!(outcome.code, code, "{mode}: {said}");
    said
}

fn child(mode: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(PART, "spawn-ends").arg(mode);
    command
}

fn sentence(call: impl FnOnce()) -> String {
    let caught = catch_unwind(AssertUnwindSafe(call)).expect_err("it panics");
    caught.downcast_ref::<String>().unwrap().clone()
}

fn sum(comm: &SimpleCommunicator) -> i32 {
    let mut sum = 0;
    comm.all_reduce_into(&1, &mut sum, SystemOperation::sum());
    sum
}

/// The part of a rank, parent or child.
pub fn spawn_ends() {
    let mode = std::env::args().nth(1).unwrap();
    let threading = match mode.as_str() {
        "threads" => Threading::Multiple,
        _ => Threading::Single,
    };
    let (universe, _) = tercio::initialize_with_threading(threading).unwrap();
    let world = universe.world();
    match world.parent() {
        None => parent(&mode, &world),
        Some(parent) => born(&mode, &world, &parent),
    }
    println!("done");
}

fn parent(mode: &str, world: &SimpleCommunicator) {
    let root = world.process_at_rank(0);
    let spawn = |number: i32| root.spawn(&child(mode), number).unwrap();
    match mode {
        "parents-leave" => drop(spawn(3)),
        "children-leave" => {
            let children = spawn(2);
            std::thread::sleep(Duration::from_millis(100));
            // What they sent before they left is there.
            if world.rank() == 0 {
                let (first, _) = children.process_at_rank(0).receive::<i32>();
                let (second, _) = children.any_process().receive::<i32>();
                assert_eq!((first, second), (0, 1));
            }
        }
        "barrier-of-the-gone" => spawn(1).barrier(),
        "merge-with-the-gone" => drop(spawn(1).merge(MergeOrder::Low)),
        "merge-with-the-silent" => {
            let silent = root.spawn(&Command::new("true"), 2).unwrap();
            drop(silent.merge(MergeOrder::Low));
        }
        "receive-from-the-gone" => drop(spawn(2).any_process().receive::<i32>()),
        "child-waits-for-parents" => drop(spawn(1)),
        "rank-dies" => {
            if world.rank() == 2 {
                // SAFETY: a signal to this process.
                unsafe { libc::raise(libc::SIGKILL) };
            }
            for _ in 0..10 {
                drop(spawn(1));
            }
        }
        "crossing" => {
            // Two halves and two pairs that cross them, each of which spawns.
            let row = world.split_by_color(Color::with_value(world.rank() / 2));
            let column = world.split_by_color(Color::with_value(world.rank() % 2));
            for comm in [row.unwrap(), column.unwrap()] {
                for root in [1, 0] {
                    let children = comm.process_at_rank(root).spawn(&child(mode), 2).unwrap();
                    let all = children.merge(MergeOrder::Low);
                    assert_eq!((all.size(), sum(&all)), (4, 4));
                }
            }
        }
        "threads" => {
            let comms: Vec<_> = (0..4).map(|_| world.duplicate()).collect();
            std::thread::scope(|threads| {
                for comm in &comms {
                    threads.spawn(|| {
                        let root = comm.process_at_rank(0);
                        let children = root.spawn(&child("threads"), 2).unwrap();
                        children.process_at_rank(1).send(&5);
                        assert_eq!(children.process_at_rank(0).receive::<i32>().0, 6);
                    });
                }
            });
        }
        "words" => {
            let mut odd = child(mode);
            odd.args(["two words", "", "\u{e4} \"quoted\" $HOME * \n"]);
            odd.env("ODD", " a=b\nc ").env("EMPTY", "");
            let children = root.spawn(&odd, 1).unwrap();
            assert_eq!(children.process_at_rank(0).receive::<i32>().0, 4);
        }
        "refusals" => refusals(world),
        "disagree" => {
            let order = [MergeOrder::Low, MergeOrder::High][world.rank() as usize];
            drop(spawn(1).merge(order));
        }
        "collectives" => collectives(world, &spawn(2)),
        "exchange" => exchange(world, &spawn(2), 1),
        other => panic!("there is no mode {other}"),
    }
}

fn born(mode: &str, world: &SimpleCommunicator, parent: &InterCommunicator) {
    match mode {
        "parents-leave" => {
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(sum(world), 3);
            assert_eq!(parent.remote_size(), 2);
        }
        "children-leave" => {
            if world.rank() == 1 {
                // After the other one's.
                world.process_at_rank(0).receive::<i32>();
            }
            parent.process_at_rank(0).send(&world.rank());
            if world.rank() == 0 {
                world.process_at_rank(1).send(&0);
            }
        }
        "child-waits-for-parents" => drop(parent.process_at_rank(1).receive::<i32>()),
        "crossing" => {
            let all = parent.merge(MergeOrder::High);
            assert_eq!((all.size(), sum(&all)), (4, 4));
        }
        "threads" => match world.rank() {
            0 => parent
                .process_at_rank(0)
                .send(&(world.any_process().receive::<i32>().0)),
            _ => {
                let (number, _) = parent.any_process().receive::<i32>();
                world.process_at_rank(0).send(&(number + 1));
            }
        },
        "words" => {
            let words: Vec<String> = std::env::args().skip(2).collect();
            assert_eq!(words, ["two words", "", "\u{e4} \"quoted\" $HOME * \n"]);
            assert_eq!(std::env::var("ODD").unwrap(), " a=b\nc ");
            assert_eq!(std::env::var("EMPTY").unwrap(), "");
            parent.process_at_rank(0).send(&4);
        }
        "refusals" => parent.barrier(),
        "disagree" => drop(parent.merge(MergeOrder::High)),
        "collectives" => collectives(world, parent),
        "exchange" => exchange(world, parent, 2),
        _ => {}
    }
}

fn refusals(world: &SimpleCommunicator) {
    let root = world.process_at_rank(1);
    let refused = |command: &Command, number: i32| match root.spawn(command, number) {
        Err(MpiError::Spawn(failed, all)) => assert_eq!((failed, all), (number, number)),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was started"),
    };
    for _ in 0..20 {
        refused(&Command::new("/no/such/program"), 3);
    }
    let mut nowhere = child("refusals");
    nowhere.current_dir("/no/such/directory");
    refused(&nowhere, 1);
    refused(&child("refusals"), i32::MAX);
    let zeros: [&dyn Fn(&mut Command); 4] = [
        &|command| *command = Command::new("a\0b"),
        &|command| {
            command.arg("a\0b");
        },
        &|command| {
            command.env("A", "a\0b");
        },
        &|command| {
            command.current_dir("a\0b");
        },
    ];
    for zero in zeros {
        let mut command = child("refusals");
        zero(&mut command);
        match root.spawn(&command, 2) {
            Err(MpiError::StringNul(_)) => assert!(root.is_self()),
            Err(MpiError::Spawn(2, 2)) => assert!(!root.is_self()),
            _ => panic!("it was started, or refused for another reason"),
        }
    }
    if root.is_self() {
        for number in [0, -1, i32::MIN] {
            let said = sentence(|| drop(root.spawn(&child("refusals"), number)));
            let words = format!("spawn was asked for {number} processes; ask for at least 1");
            assert!(said.contains(&words), "{said}");
        }
        let both = [child("refusals"), child("refusals")];
        let said = sentence(|| drop(root.spawn_multiple(&both, &[1])));
        assert!(said.contains("2 commands and 1 numbers"), "{said}");
    }
    assert_eq!(sum(world), 2);
    root.spawn(&child("refusals"), 1).unwrap().barrier();
}

/// What an inter-communicator cannot do says so on all ranks, and harms nobody.
fn collectives(world: &SimpleCommunicator, other: &InterCommunicator) {
    let (mine, mut all) = ([1, 2], [0; 2]);
    let op = SystemOperation::sum();
    let root = other.process_at_rank(0);
    let calls: [&mut dyn FnMut(); 8] = [
        &mut || other.all_reduce_into(&mine, &mut [0; 2], op),
        &mut || other.reduce_scatter_block_into(&mine, &mut 0, op),
        &mut || other.scan_into(&mine, &mut [0; 2], op),
        &mut || root.broadcast_into(&mut [0; 2]),
        &mut || drop(root.spawn(&child("refusals"), 1)),
        &mut || drop(other.duplicate()),
        &mut || drop(other.split_by_color(Color::with_value(0))),
        &mut || drop(other.create_cartesian_communicator(&[2], &[false], false)),
    ];
    for (number, call) in calls.into_iter().enumerate() {
        let said = sentence(call);
        assert!(
            said.contains("inter-communicator") && said.contains("merge"),
            "{number}: {said}"
        );
    }
    let said = sentence(|| {
        tercio::request::scope(|scope| {
            drop(other.immediate_all_reduce_into(scope, &mine, &mut all, op));
        });
    });
    assert!(said.contains("inter-communicator"), "{said}");
    other.immediate_barrier().wait();
    other.barrier();
    assert_eq!(sum(&other.merge(MergeOrder::Low)), 4);
    assert_eq!(sum(world), 2);
}

/// Each group gathers what the other one has, and both exchange; group 1 gives 3000 elements a rank, group 2 one.
fn exchange(world: &SimpleCommunicator, other: &InterCommunicator, group: i32) {
    let (rank, others) = (world.rank(), other.remote_size());
    let len = |group: i32| if group == 1 { 3000 } else { 1 };
    let of = |group: i32, rank: i32, to: i32| vec![group * 100 + rank * 10 + to; len(group)];
    let mine = of(group, rank, 0);
    let theirs: Vec<i32> = (0..others).flat_map(|r| of(3 - group, r, 0)).collect();
    let for_each: Vec<i32> = (0..others).flat_map(|to| of(group, rank, to)).collect();
    let for_me: Vec<i32> = (0..others).flat_map(|r| of(3 - group, r, rank)).collect();
    let parts = |group: i32| -> (Vec<i32>, Vec<i32>) {
        let len = len(group) as i32;
        (
            vec![len; others as usize],
            (0..others).map(|r| r * len).collect(),
        )
    };
    let ((give, give_at), (take, take_at)) = (parts(group), parts(3 - group));
    let room = || vec![0; theirs.len()];
    for _ in 0..3 {
        let (mut all, mut swapped, mut varied, mut varied_swap) = (room(), room(), room(), room());
        other.all_gather_into(&mine[..], &mut all[..]);
        other.all_to_all_into(&for_each[..], &mut swapped[..]);
        let send = Partition::new(&for_each[..], &give[..], &give_at[..]);
        let mut recv = PartitionMut::new(&mut varied[..], &take[..], &take_at[..]);
        other.all_gather_varcount_into(&mine[..], &mut recv);
        let mut recv = PartitionMut::new(&mut varied_swap[..], &take[..], &take_at[..]);
        other.all_to_all_varcount_into(&send, &mut recv);
        assert!(all == theirs && varied == theirs);
        assert!(swapped == for_me && varied_swap == for_me);
        all.fill(0);
        swapped.fill(0);
        tercio::request::scope(|scope| {
            let gather = other.immediate_all_gather_into(scope, &mine[..], &mut all[..]);
            let swap = other.immediate_all_to_all_into(scope, &for_each[..], &mut swapped[..]);
            swap.wait();
            gather.wait();
        });
        assert!(all == theirs && swapped == for_me);
        other.barrier();
    }
    // What does not fit is found before anything happens.
    let said = sentence(|| {
        let (counts, at) = (vec![0; others as usize + 1], vec![0; others as usize + 1]);
        let mut recv = [0; 1];
        let mut recv = PartitionMut::new(&mut recv, counts, at);
        other.all_gather_varcount_into(&mine[..], &mut recv);
    });
    let words = format!("{} counts for {others} ranks", others + 1);
    assert!(said.contains(&words), "{said}");
    assert_eq!(sum(&other.merge(MergeOrder::Low)), world.size() + others);
}
