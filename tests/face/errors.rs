//! The `try_` calls: what went wrong comes back as a value, in words and in parts, and everything can go on.
use tercio::collective::SystemOperation;
use tercio::datatype::PartitionMut;
use tercio::prelude::*;
use tercio::{ErrorClass, request};

/// What does not fit, of every way that a message can take: with its header, through the lane's ring, as a stream, by its sender's wait.
const LENGTHS: [usize; 4] = [3, 300, 40_000, 3_000_000];

/// None of the lengths is a multiple of it.
#[derive(Equivalence)]
struct Seven([u32; 7]);

#[test]
fn a_message_that_does_not_fit_is_a_value_and_the_next_ones_arrive() {
    tercio::testing::ranks(2, |world| {
        let other = world.process_at_rank(1 - world.rank());
        for (round, len) in LENGTHS.into_iter().enumerate() {
            let (tag, message) = (round as i32, vec![round as u32; len]);
            if world.rank() == 0 {
                for _ in 0..3 {
                    other
                        .try_synchronous_send_with_tag(&message[..], tag)
                        .unwrap();
                }
                other.try_send(&message[..]).unwrap();
                continue;
            }
            let (any, bytes) = (world.any_process(), 4 * len);
            let mut short = vec![0_u32; len - 1];
            let errors = [
                any.try_receive_into(&mut short[..]).unwrap_err(),
                other.try_receive::<u32>().unwrap_err(),
                // Known to be no whole number of elements before anything is received.
                any.try_receive_vec::<Seven>().err().unwrap(),
            ];
            for (error, class) in errors.iter().zip([
                ErrorClass::Truncate,
                ErrorClass::Truncate,
                ErrorClass::Count,
            ]) {
                assert_eq!(error.class(), class, "{error}");
                assert_eq!(error.peer(), Some(0));
                assert_eq!((error.tag(), error.size()), (Some(tag), Some(bytes)));
                assert!(error.to_string().contains("errors.rs:"), "{error}");
            }
            assert_eq!(any.try_receive_vec::<u32>().unwrap().0, message);
        }
    });
}

#[test]
fn another_type_than_was_sent_is_a_value() {
    tercio::testing::ranks(2, |world| {
        let other = world.process_at_rank(1 - world.rank());
        for len in LENGTHS {
            if world.rank() == 0 {
                other.send(&vec![1.5_f32; len][..]);
                continue;
            }
            let mut numbers = vec![7_i32; len];
            let error = other.try_receive_into(&mut numbers[..]).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Type, "{error}");
            let words = format!("receives i32 but rank 0 sent {} bytes of f32", 4 * len);
            assert!(error.text().contains(&words), "{error}");
            assert!(numbers.iter().all(|x| *x == 7));
        }
        // Nothing is broken.
        let mut sum = 0;
        let op = SystemOperation::sum();
        world.try_all_reduce_into(&1, &mut sum, op).unwrap();
        assert_eq!(sum, 2);
    });
}

#[test]
fn a_request_and_a_matched_message_fail_as_values() {
    tercio::testing::ranks(2, |world| {
        let other = world.process_at_rank(1 - world.rank());
        if world.rank() == 0 {
            for len in LENGTHS {
                for _ in 0..5 {
                    other.send(&vec![1_u64; len][..]);
                }
            }
            return;
        }
        for len in LENGTHS {
            let mut room = vec![0_u64; len - 1];
            request::scope(|scope| {
                let request = other.immediate_receive_into(scope, &mut room[..]);
                let error = request.try_wait().unwrap_err();
                assert_eq!(error.class(), ErrorClass::Truncate);
                assert_eq!(error.operation(), Some("wait"));
            });
            request::scope(|scope| {
                let mut request = other.immediate_receive_into(scope, &mut room[..]);
                let error = loop {
                    match request.try_test() {
                        Ok(Ok(_)) => panic!("it does not fit"),
                        Ok(Err(again)) => request = again,
                        Err(error) => break error,
                    }
                };
                assert_eq!((error.peer(), error.size()), (Some(0), Some(8 * len)));
            });
            let error = other.immediate_receive::<u64>().try_get().unwrap_err();
            assert_eq!(error.class(), ErrorClass::Truncate);
            let (message, _) = other.try_matched_probe().unwrap();
            let error = message.try_matched_receive_into(&mut room[..]).unwrap_err();
            assert_eq!(error.operation(), Some("matched_receive_into"));
            let (message, _) = other.try_matched_probe().unwrap();
            assert_eq!(
                message.try_matched_receive_vec::<u64>().unwrap().0.len(),
                len
            );
        }
    });
}

#[test]
fn wrong_arguments_are_found_before_anything_happens() {
    tercio::testing::ranks(2, |world| {
        let (me, root) = (world.this_process(), world.process_at_rank(0));
        let op = SystemOperation::sum();
        let mut all = [0; 2];
        let mut parts = PartitionMut::new(&mut all, [1], [0]);
        let own = [
            me.try_send_with_tag(&1, -4).unwrap_err(),
            me.try_buffered_send(&1).unwrap_err(),
            me.try_probe_with_tag(-4).unwrap_err(),
            me.try_receive_with_tag::<u8>(-4).unwrap_err(),
        ];
        assert!(own.iter().all(|e| e.peer() == Some(world.rank())));
        let classes = [
            (own[0].class(), ErrorClass::Tag),
            (own[1].class(), ErrorClass::Buffer),
            (own[2].class(), ErrorClass::Tag),
            (own[3].class(), ErrorClass::Tag),
            (
                world
                    .try_all_gather_varcount_into(&1, &mut parts)
                    .unwrap_err()
                    .class(),
                ErrorClass::Count,
            ),
            (
                world
                    .try_scan_into(&1.5, &mut 0_i32, op)
                    .unwrap_err()
                    .class(),
                ErrorClass::Arg,
            ),
            (
                world
                    .try_scan_into(&true, &mut false, op)
                    .unwrap_err()
                    .class(),
                ErrorClass::Op,
            ),
            (
                match world.rank() {
                    0 => root.try_scatter_into(&mut 0).unwrap_err().class(),
                    _ => root
                        .try_reduce_into_root(&0, &mut 0, op)
                        .unwrap_err()
                        .class(),
                },
                ErrorClass::Root,
            ),
        ];
        for (number, (found, wanted)) in classes.into_iter().enumerate() {
            assert_eq!(found, wanted, "number {number}");
        }
        // Nobody has begun a collective.
        world.try_barrier().unwrap();
    });
}

#[test]
fn an_error_knows_its_call() {
    tercio::testing::ranks(3, |world| {
        let pair = world.duplicate();
        let other = pair.process_at_rank(2);
        let line = line!() + 1;
        let error = other.try_send_with_tag(&[1_u16; 5], -7).unwrap_err();
        assert_eq!(error.operation(), Some("send_with_tag"));
        assert_eq!(
            (error.peer(), error.tag(), error.size()),
            (Some(2), Some(-7), Some(10))
        );
        assert!(
            error.communicator().unwrap().ends_with(" of 3"),
            "{error:?}"
        );
        assert_eq!(
            error.site().map(|site| (site.file(), site.line())),
            Some((file!(), line))
        );
        assert_eq!(format!("{error:?}"), format!("Tag: {error}"));
        let barrier: Result<(), Box<dyn std::error::Error + Send + Sync>> =
            pair.try_barrier().map_err(Into::into);
        barrier.unwrap();
    });
}

#[test]
fn bytes_that_are_no_bool_leave_a_valid_buffer() {
    #[derive(Equivalence)]
    struct Flagged(u8, bool);
    tercio::testing::ranks(1, |world| {
        let me = world.this_process();
        // As no whole number of the receiver's elements it may be a prefix of them, which has no type of its own.
        me.send(&[1_u8, 7, 9]);
        let mut flagged = [Flagged(0, false)];
        let error = me.try_receive_into(&mut flagged).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Truncate, "{error}");
        assert!(matches!(flagged, [Flagged(1, true)]));
    });
}

#[test]
fn a_thread_that_may_not_call_is_told_so() {
    tercio::testing::ranks(1, |world| {
        let error = std::thread::scope(|scope| {
            let call = || world.this_process().try_send(&1).unwrap_err();
            scope.spawn(call).join().unwrap()
        });
        assert_eq!(error.class(), ErrorClass::Thread);
    });
}

/// What ends a job is no value.
#[test]
fn a_rank_that_is_gone_and_calls_that_do_not_go_together_end_the_job() {
    let gone = std::panic::catch_unwind(|| {
        tercio::testing::ranks(2, |world| {
            if world.rank() == 0 {
                let _ = world.process_at_rank(1).try_receive::<i32>();
                unreachable!("the job has ended");
            }
        });
    });
    let mismatch = std::panic::catch_unwind(|| {
        tercio::testing::ranks(2, |world| {
            let _ = match world.rank() {
                0 => world.try_barrier(),
                _ => world.process_at_rank(0).try_broadcast_into(&mut 0),
            };
            unreachable!("the job has ended");
        });
    });
    for (end, words) in [
        (gone, "rank 1, which has finalized"),
        (mismatch, "broadcast"),
    ] {
        let text = *end.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains(words), "{text}");
    }
}
