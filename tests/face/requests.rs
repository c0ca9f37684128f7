//! Requests, scopes and collections.
use std::panic::{AssertUnwindSafe, catch_unwind};
use tercio::collective::{SystemOperation, UserOperation};
use tercio::request::{CancelGuard, RequestCollection, WaitGuard, multiple_scope, scope};
use tercio::traits::*;

#[test]
fn two_wildcard_receives_waited_for_in_reverse_order_get_their_own_messages() {
    tercio::testing::ranks(2, |world| {
        let other = world.process_at_rank(1 - world.rank());
        if world.rank() == 0 {
            other.send(&1);
            other.send(&2);
        } else {
            let (mut first, mut second) = (0, 0);
            scope(|scope| {
                let one = world
                    .any_process()
                    .immediate_receive_into(scope, &mut first);
                let two = world
                    .any_process()
                    .immediate_receive_into(scope, &mut second);
                two.wait();
                one.wait();
            });
            assert_eq!((first, second), (1, 2));
        }
    });
}

#[test]
fn a_cancelled_receive_says_so_and_takes_nothing() {
    tercio::testing::ranks(1, |world| {
        let me = world.this_process();
        let (mut x, mut y) = (5, 0);
        scope(|scope| {
            let request = me.immediate_receive_into(scope, &mut x);
            request.cancel();
            assert!(request.wait().is_cancelled());
            let _guard = CancelGuard::from(me.immediate_receive_into(scope, &mut y));
        });
        me.send(&6);
        assert_eq!(me.receive::<i32>().0, 6);
        assert_eq!(x, 5);
    });
}

#[test]
fn of_many_receives_the_cancelled_ones_say_so() {
    tercio::testing::ranks(2, |world| {
        let other = world.process_at_rank(1 - world.rank());
        let mut received = [0; 20];
        multiple_scope(20, |scope, requests| {
            for (number, x) in received.iter_mut().enumerate() {
                let request = other.immediate_receive_into_with_tag(scope, x, number as i32);
                if number % 3 == 0 {
                    request.cancel();
                }
                requests.add(request);
            }
            for number in 0..20 {
                other.send_with_tag(&(number + 100), number);
            }
            let mut done = Vec::new();
            requests.wait_all(&mut done);
            for (number, status, _) in done {
                assert_eq!(status.is_cancelled(), number % 3 == 0, "{number}");
                let count = status.count(i32::equivalent_datatype());
                assert_eq!(count, i32::from(number % 3 != 0));
            }
        });
        for (number, x) in (0..).zip(received) {
            assert_eq!(x, if number % 3 == 0 { 0 } else { number + 100 });
        }
        // What came for them is there for others.
        for number in (0..20).step_by(3) {
            assert_eq!(other.receive_with_tag::<i32>(number).0, number + 100);
        }
    });
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    tercio::testing::ranks(1, |world| {
        let me = world.this_process();
        let (mut x, y) = (0, 8);
        scope(|scope| {
            let receive = me.immediate_receive_into(scope, &mut x);
            let send = me.immediate_synchronous_send(scope, &y);
            receive.cancel();
            send.cancel();
            assert!(!receive.wait().is_cancelled() && !send.wait().is_cancelled());
        });
        assert_eq!(x, 8);
    });
}

#[test]
fn a_request_that_is_dropped_alive_panics() {
    let panic = catch_unwind(AssertUnwindSafe(|| {
        tercio::testing::ranks(1, |world| drop(world.immediate_barrier()));
    }));
    let text = *panic.unwrap_err().downcast::<String>().unwrap();
    assert!(
        text.contains("dropped alive") && text.contains("requests.rs"),
        "{text}"
    );
}

#[test]
fn a_panic_among_requests_ends_the_job_and_is_told() {
    let panic = catch_unwind(AssertUnwindSafe(|| {
        tercio::testing::ranks(2, |world| {
            let mut x = 0;
            scope(|scope| {
                let _guard =
                    WaitGuard::from(world.any_process().immediate_receive_into(scope, &mut x));
                assert!(world.rank() == 1, "rank 0 gives up");
            });
        });
    }));
    let text = *panic.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(text, "rank 0 gives up");
}

fn start_ring<'a>(
    world: &impl Communicator,
    scope: &tercio::request::LocalScope<'a>,
    requests: &mut RequestCollection<'a, i32>,
    send: &'a [i32],
    receive: &'a mut [i32],
) {
    let (rank, size) = (world.rank(), world.size());
    for (x, y) in send.iter().zip(receive) {
        requests.add(
            world
                .process_at_rank((rank + 1) % size)
                .immediate_send(scope, x),
        );
        requests.add(
            world
                .process_at_rank((rank + size - 1) % size)
                .immediate_receive_into(scope, y),
        );
    }
}

#[test]
fn collections_complete_in_six_ways() {
    tercio::testing::ranks(3, |world| {
        let send: Vec<i32> = (0..50).collect();
        for way in 0..6 {
            let mut receive = vec![-1; send.len()];
            multiple_scope(100, |scope, requests| {
                start_ring(&world, scope, requests, &send, &mut receive);
                let (mut done, mut seen) = (Vec::new(), 0);
                while requests.incomplete() > 0 {
                    match way {
                        0 => seen += requests.wait_any().iter().len(),
                        1 => seen += requests.test_any().iter().len(),
                        2 => requests.wait_some(&mut done),
                        3 => requests.test_some(&mut done),
                        4 => requests.wait_all(&mut done),
                        _ => {
                            let all = requests.test_all(&mut done);
                            assert_eq!(all, requests.incomplete() == 0);
                        }
                    }
                    seen += done.len();
                    assert_eq!(requests.incomplete(), 100 - seen, "way {way}");
                }
                assert!(requests.wait_any().is_none());
            });
            assert_eq!(receive, send);
        }
    });
}

/// Rows of messages that came together, cut by whatever else stands between them: each number comes once, in order, with its own status and data.
#[test]
fn wait_all_gives_each_request_what_is_its_own() {
    const MESSAGES: i32 = 60;
    tercio::testing::ranks(2, |world| {
        let other = world.process_at_rank(1 - world.rank());
        let numbers: Vec<i32> = (0..MESSAGES).collect();
        let mut received = vec![-1; MESSAGES as usize];
        for round in 0..30 {
            received.fill(-1);
            multiple_scope(200, |scope, requests| {
                // Of some numbers the tag is not a message's, as of a send or a collective.
                let mut tags = Vec::new();
                for (number, place) in (0..).zip(&mut received) {
                    let receive = other.immediate_receive_into_with_tag(scope, place, number);
                    requests.add(receive);
                    tags.push(Some(number));
                    if number % 7 == round % 7 {
                        requests.add(other.immediate_send_with_tag(scope, &round, 1000));
                        tags.push(None);
                    }
                }
                // The other rank's messages come now, in another order than their receives were posted in.
                let sends = numbers.iter().rev().filter(|n| *n % 2 == 0);
                for number in sends.chain(numbers.iter().filter(|n| *n % 2 == 1)) {
                    other.send_with_tag(number, *number);
                }
                if round % 3 == 0 {
                    world.barrier();
                }
                let mut gone = Vec::new();
                if round % 2 == 0 {
                    gone.push(requests.wait_any().unwrap().0);
                }
                let mut done = Vec::new();
                requests.wait_all(&mut done);
                assert_eq!(requests.incomplete(), 0);
                let left: Vec<usize> = (0..tags.len()).filter(|n| !gone.contains(n)).collect();
                let given: Vec<usize> = done.iter().map(|&(number, _, _)| number).collect();
                assert_eq!(given, left, "round {round}");
                for (number, status, data) in done {
                    if let Some(tag) = tags[number] {
                        assert_eq!((status.tag(), *data), (tag, tag), "round {round}");
                    }
                }
            });
            assert_eq!(received, numbers, "round {round}");
            for _ in (0..MESSAGES).filter(|n| n % 7 == round % 7) {
                assert_eq!(other.receive_with_tag::<i32>(1000).0, round);
            }
        }
    });
}

/// Sends that are over when their calls return do not keep the rank from its other requests.
#[test]
fn wait_any_gives_every_request_its_turn() {
    tercio::testing::ranks(2, |world| {
        let other = world.process_at_rank(1 - world.rank());
        if world.rank() == 1 {
            other.send(&-1);
            world.barrier();
            while other.receive::<i32>().0 >= 0 {}
            return;
        }
        let (mut stop, sent) = (0, 7);
        let mut sends = 0;
        multiple_scope(10, |scope, requests| {
            requests.add(other.immediate_receive_into(scope, &mut stop));
            world.barrier();
            // The message is there.
            loop {
                assert!(sends < 100, "the receive never had its turn");
                requests.add(other.immediate_send(scope, &sent));
                sends += 1;
                if requests.wait_any().unwrap().0 == 0 {
                    break;
                }
            }
            requests.wait_all(&mut Vec::new());
        });
        assert_eq!(stop, -1);
        other.send(&-1);
    });
}

#[test]
fn many_collectives_overlap_each_other_and_messages() {
    tercio::testing::ranks(3, |world| {
        let mine: Vec<i32> = (0..20).map(|i| i + world.rank()).collect();
        let mut sums = vec![0; 20];
        multiple_scope(20, |scope, requests| {
            for (x, sum) in mine.iter().zip(&mut sums) {
                requests.add(world.immediate_all_reduce_into(
                    scope,
                    x,
                    sum,
                    SystemOperation::sum(),
                ));
            }
            let next = world.process_at_rank((world.rank() + 1) % 3);
            let previous = world.process_at_rank((world.rank() + 2) % 3);
            let (x, _): (i32, _) =
                tercio::point_to_point::send_receive(&world.rank(), &next, &previous);
            assert_eq!(x, previous.rank());
            let mut done = Vec::new();
            requests.wait_all(&mut done);
        });
        assert_eq!(sums, (0..20).map(|i| 3 * i + 3).collect::<Vec<_>>());
    });
}

#[test]
fn a_users_operation_keeps_the_order_of_ranks() {
    // 2 x 2 matrices under multiplication: associative, not commutative.
    tercio::testing::ranks(5, |world| {
        let product = UserOperation::associative(|x, y| {
            let (x, y) = (x.downcast::<i64>().unwrap(), y.downcast::<i64>().unwrap());
            for (x, y) in x.chunks(4).zip(y.chunks_mut(4)) {
                let z = [
                    x[0] * y[0] + x[1] * y[2],
                    x[0] * y[1] + x[1] * y[3],
                    x[2] * y[0] + x[3] * y[2],
                    x[2] * y[1] + x[3] * y[3],
                ];
                y.copy_from_slice(&z);
            }
        });
        let matrix = |r: i64| [1, r + 1, r, r * r + r + 1];
        let multiply = |x: [i64; 4], y: [i64; 4]| {
            [
                x[0] * y[0] + x[1] * y[2],
                x[0] * y[1] + x[1] * y[3],
                x[2] * y[0] + x[3] * y[2],
                x[2] * y[1] + x[3] * y[3],
            ]
        };
        let expected = (1..5).fold(matrix(0), |all, r| multiply(all, matrix(r)));
        let mine = matrix(world.rank().into());
        let mut all = [0; 4];
        world.all_reduce_into(&mine, &mut all, &product);
        let mut later = [0; 4];
        scope(|scope| {
            world
                .immediate_all_reduce_into(scope, &mine, &mut later, &product)
                .wait();
        });
        assert_eq!((all, later), (expected, expected));
    });
}
