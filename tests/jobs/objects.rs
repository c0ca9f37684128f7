//! Objects between processes: what was sent arrives, and ranks that speak of different types end the job with a sentence.
use crate::support::{Mark, text, timed, trial, verdict};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tercio::prelude::*;

pub fn tests() -> Vec<Trial> {
    vec![
        trial("objects_reach_other_processes", they_arrive),
        trial(
            "a_job_ends_where_another_type_is_received_than_was_sent",
            they_differ,
        ),
    ]
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
enum Item {
    Nothing,
    Words(BTreeMap<String, Vec<Option<f32>>>),
    Bulk { from: i32, bytes: Vec<u16> },
}

/// As large as a message of the short way, of the ring and of the large way.
fn items(rank: i32) -> Vec<Item> {
    let words = (0..100).map(|i| (format!("word {i} of {rank}"), vec![None, Some(0.5)]));
    let bytes = (0..60_000).collect();
    let bulk = Item::Bulk { from: rank, bytes };
    vec![Item::Nothing, Item::Words(words.collect()), bulk]
}

/// A rank that sends objects to the next one, and makes every collective call with them.
pub fn exchanger() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let (me, size) = (world.rank(), world.size());
    let next = world.process_at_rank((me + 1) % size);
    let previous = (me + size - 1) % size;
    for item in items(me) {
        // By turns, since the large ones wait for who receives them.
        if me % 2 == 0 {
            next.send_object_with_tag(&item, 7);
        }
        let (came, status) = world
            .process_at_rank(previous)
            .receive_object_with_tag::<Item>(7);
        if me % 2 == 1 {
            next.send_object_with_tag(&item, 7);
        }
        assert_eq!((status.source_rank(), status.tag()), (previous, 7));
        assert!(items(previous).contains(&came));
    }
    let everybody: Vec<_> = (0..size).map(items).collect();
    for root in 0..size {
        let at_root = me == root;
        let given = at_root.then(|| items(root));
        assert!(world.broadcast_object(root, given) == items(root));
        let gathered = world.gather_objects(root, &items(me));
        assert!(gathered == at_root.then(|| everybody.clone()));
        let given = at_root.then_some(&everybody[..]);
        assert!(world.scatter_objects(root, given) == items(me));
    }
    assert!(world.all_gather_objects(&items(me)) == everybody);
    println!("all came to {me}");
}

/// Rank 1 receives another type than rank 0 sends, and rank 2 waits for both.
pub fn mistaken() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    match world.rank() {
        0 => world.process_at_rank(1).send_object(&Item::Nothing),
        1 => drop(world.any_process().receive_object::<Vec<String>>()),
        _ => {}
    }
    world.barrier();
}

fn they_arrive() {
    let mark = Mark::new();
    let (outcome, _) = timed(mark.part(4, "exchanger", &[]));
    assert_eq!(outcome.code, 0, "{}", verdict(&outcome));
    assert_eq!(text(&outcome.stdout).matches("all came to").count(), 4);
}

fn they_differ() {
    let mark = Mark::new();
    let (outcome, _) = timed(mark.part(3, "mistaken", &[]));
    let verdict = verdict(&outcome);
    assert_eq!(outcome.code, 120, "{verdict}");
    assert!(verdict.contains("rank 1"), "{verdict}");
    let sentence = "receive_object was asked for a [str], but rank 0 sent a Item";
    assert!(verdict.contains(sentence), "{verdict}");
    assert!(verdict.contains("tests/jobs/objects.rs:"), "{verdict}");
    mark.assert_nothing_left();
}
