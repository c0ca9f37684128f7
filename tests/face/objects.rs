//! Objects: what serde can serialize goes from rank to rank, and what is no object, or another, is told.
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tercio::ErrorClass;
use tercio::prelude::*;

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
enum Shape {
    Nothing,
    Number(i128),
    Pair(String, f32),
    Many {
        words: BTreeMap<String, Vec<Option<Option<u8>>>>,
        next: Option<Box<Shape>>,
    },
}

fn shapes(rank: i32) -> Vec<Shape> {
    let mut words = BTreeMap::new();
    words.insert("none".into(), vec![None, Some(None), Some(Some(7))]);
    words.insert("long".into(), vec![Some(Some(rank as u8)); 10_000]);
    let next = Some(Box::new(Shape::Pair("ä\0ß".into(), f32::MIN_POSITIVE)));
    vec![
        Shape::Nothing,
        Shape::Number(i128::MIN + i128::from(rank)),
        Shape::Many { words, next },
    ]
}

#[test]
fn every_value_arrives_as_it_was() {
    tercio::testing::ranks(2, |world| {
        let other = world.process_at_rank(1 - world.rank());
        if world.rank() == 0 {
            for shape in &shapes(5) {
                other.send_object(shape);
            }
            other.send_object_with_tag(&shapes(6)[..], 3);
            other.send_object(&HashMap::from([("a", 1_usize), ("b", 2)]));
            other.send_object(&());
        } else {
            for shape in shapes(5) {
                assert_eq!(other.receive_object::<Shape>().0, shape);
            }
            // A slice is a vector where it comes, text is a String, usize has the size of u64.
            let (many, status) = other.receive_object_with_tag::<Vec<Shape>>(3);
            assert_eq!((many, status.tag()), (shapes(6), 3));
            let (map, _) = world.any_process().receive_object::<HashMap<String, u64>>();
            assert_eq!(map["a"] + map["b"], 3);
            let soon = other.within(Duration::from_secs(600));
            soon.try_receive_object::<()>().unwrap();
        }
    });
}

#[test]
fn what_cannot_be_sent_or_read_is_a_value_and_later_messages_arrive() {
    tercio::testing::ranks(2, |world| {
        let other = world.process_at_rank(1 - world.rank());
        if world.rank() == 0 {
            let endless = std::sync::Mutex::new(std::iter::repeat_n(1, 3).filter(|_| true));
            struct Unsized<'i, I>(&'i std::sync::Mutex<I>);
            impl<I: Iterator<Item = i32>> Serialize for Unsized<'_, I> {
                fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    let mut items = self.0.lock().unwrap();
                    to.collect_seq(std::iter::from_fn(|| items.next()))
                }
            }
            let error = other.try_send_object(&Unsized(&endless)).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Object);
            assert!(error.text().contains("cannot be serialized"), "{error}");
            assert_eq!((error.peer(), error.tag()), (Some(1), Some(0)));
            other.send_object(&1_i32);
            other.send(b"bytes");
            other.send(&[1_i32]);
            other.send_object("text");
            return;
        }
        let error = other.try_receive_object::<u32>().unwrap_err();
        assert_eq!(error.class(), ErrorClass::Type);
        let words = "receive_object was asked for a u32, but rank 0 sent a i32";
        assert!(error.text().starts_with(words), "{error}");
        assert!(error.to_string().contains("objects.rs:"), "{error}");
        let error = other.try_receive_object::<u32>().unwrap_err();
        assert_eq!((error.class(), error.size()), (ErrorClass::Object, Some(5)));
        assert!(
            error
                .text()
                .contains("the 5 bytes from rank 0 are no object"),
            "{error}"
        );
        let error = other.try_receive_object::<u32>().unwrap_err();
        assert_eq!(error.class(), ErrorClass::Type);
        assert!(
            error.text().contains("rank 0 sent 4 bytes of i32"),
            "{error}"
        );
        assert_eq!(other.receive_object::<String>().0, "text");
    });
}

#[test]
fn all_ranks_call_alike() {
    for size in 1..=4 {
        tercio::testing::ranks(size as usize, |world| {
            let me = world.rank();
            let everybody: Vec<_> = (0..size).map(shapes).collect();
            assert_eq!(world.all_gather_objects(&shapes(me)), everybody);
            for root in 0..size {
                let at_root = me == root;
                let given = at_root.then(|| shapes(root));
                assert_eq!(world.broadcast_object(root, given), shapes(root));
                // What those who are no root give is dropped.
                assert_eq!(world.broadcast_object(root, Some(me)), root);
                let gathered = world.gather_objects(root, &shapes(me));
                assert_eq!(gathered, at_root.then(|| everybody.clone()));
                let mine = world.scatter_objects(root, at_root.then_some(&everybody[..]));
                assert_eq!(mine, shapes(me));
            }
        });
    }
}

#[test]
fn objects_that_do_not_go_together_are_told() {
    tercio::testing::ranks(2, |world| {
        let result = match world.rank() {
            0 => world.try_all_gather_objects(&5_u8).map(drop),
            _ => world.try_all_gather_objects(&"five".to_string()).map(drop),
        };
        let error = result.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Type);
        assert_eq!(error.peer(), Some(1 - world.rank()));
        assert_eq!(error.operation(), Some("all_gather_objects"));
    });
    let end = std::panic::catch_unwind(|| {
        tercio::testing::ranks(1, |world| {
            world.this_process().send_object(&5);
            world.this_process().receive_object::<f64>();
        });
    });
    let text = *end.unwrap_err().downcast::<String>().unwrap();
    assert!(
        text.contains("asked for a f64, but rank 0 sent a i32"),
        "{text}"
    );
}
