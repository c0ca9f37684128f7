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
