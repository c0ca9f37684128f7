//! Calls with a time limit: what they say when it runs out, and that nothing is lost or left behind.
use std::time::{Duration, Instant};
use tercio::collective::SystemOperation;
use tercio::prelude::*;
use tercio::testing::ranks_with_threading;
use tercio::{ErrorClass, Threading, request};

const SOON: Duration = Duration::from_millis(3);
const LONG: Duration = Duration::from_secs(600);

#[test]
fn time_runs_out_in_words_and_later_messages_are_received() {
    for threading in [Threading::Single, Threading::Multiple] {
        ranks_with_threading(2, threading, |world| {
            let other = world.process_at_rank(1 - world.rank());
            if world.rank() == 0 {
                // Not before the other has seen its time run out in every call.
                other.receive_with_tag::<u8>(9);
                for _ in 0..5 {
                    other.send_with_tag(&vec![7_u8; 100_000][..], 4);
                }
                return;
            }
            let mut bytes = vec![0_u8; 100_000];
            let soon = other.within(SOON);
            let began = Instant::now();
            let errors = [
                soon.try_receive_with_tag::<f64>(4).unwrap_err(),
                soon.try_receive_into_with_tag(&mut bytes[..], 4)
                    .unwrap_err(),
                soon.try_receive_vec_with_tag::<u8>(4).unwrap_err(),
                soon.try_probe_with_tag(4).unwrap_err(),
                soon.try_matched_probe_with_tag(4).err().unwrap(),
                world.any_process().within(SOON).try_probe().unwrap_err(),
            ];
            assert!(began.elapsed() >= 6 * SOON);
            for error in &errors[..5] {
                assert_eq!(error.class(), ErrorClass::TimeLimit, "{error}");
                let words = "no message from rank 0 with tag 4 came within 3ms";
                assert!(error.text().starts_with(words), "{error}");
                assert_eq!((error.peer(), error.tag()), (Some(0), Some(4)));
                assert!(error.to_string().contains("limits.rs:"), "{error}");
            }
            assert!(errors[5].text().contains("from any rank with any tag"));
            assert_eq!(errors[5].peer(), None);

            other.send_with_tag(&0_u8, 9);
            let patient = other.within(LONG);
            assert_eq!(patient.try_probe().unwrap().tag(), 4);
            assert_eq!(patient.try_receive_vec::<u8>().unwrap().0, [7; 100_000]);
            patient.try_receive_into(&mut bytes[..]).unwrap();
            assert_eq!(bytes, [7; 100_000]);
            let (message, _) = patient.try_matched_probe().unwrap();
            assert_eq!(
                message.try_matched_receive_vec::<u8>().unwrap().0.len(),
                100_000
            );
            // What does not fit is told as without a limit.
            let error = patient.try_receive::<u8>().unwrap_err();
            assert_eq!(error.class(), ErrorClass::Truncate);
            // What is there needs no time.
            other.probe();
            let now = other.within(Duration::ZERO);
            assert_eq!(now.try_receive_vec::<u8>().unwrap().0.len(), 100_000);
            assert_eq!(now.try_probe().unwrap_err().class(), ErrorClass::TimeLimit);
        });
    }
}

/// What has begun cannot be taken back, but its request can be waited for with a limit.
#[test]
fn sends_and_collectives_go_on_when_the_time_of_a_wait_runs_out() {
    ranks_with_threading(2, Threading::Single, |world| {
        let (other, op) = (
            world.process_at_rank(1 - world.rank()),
            SystemOperation::sum(),
        );
        let (mine, mut sum) = (vec![world.rank() + 1; 100_000], vec![0; 100_000]);
        if world.rank() == 1 {
            other.receive_with_tag::<u8>(9);
            world.barrier();
            request::scope(|scope| {
                let reduction = world.immediate_all_reduce_into(scope, &mine, &mut sum, op);
                assert_eq!(other.receive_vec_with_tag::<i32>(3).0.len(), 100_000);
                reduction.wait();
            });
        } else {
            request::scope(|scope| {
                let send = other.immediate_synchronous_send_with_tag(scope, &mine, 3);
                let send = send.wait_within(SOON).unwrap_err();
                other.send_with_tag(&0_u8, 9);
                // Another collective meanwhile.
                world.barrier();
                let reduction = world.immediate_all_reduce_into(scope, &mine, &mut sum, op);
                assert!(send.wait_within(LONG).is_ok());
                assert!(reduction.wait_within(LONG).is_ok());
            });
        }
        assert_eq!(sum, vec![3; 100_000]);
        let future = other.immediate_receive::<i32>();
        let future = future.get_within(SOON).err().unwrap();
        world.barrier();
        other.send(&5);
        assert_eq!(future.get_within(LONG).ok().unwrap().0, 5);
    });
}

#[test]
fn a_follower_of_another_thread_has_its_own_limit() {
    ranks_with_threading(1, Threading::Multiple, |world| {
        let me = world.this_process();
        std::thread::scope(|threads| {
            // Takes the turn to poll, and keeps it.
            threads.spawn(|| me.receive_with_tag::<i32>(1));
            std::thread::sleep(SOON);
            let began = Instant::now();
            let error = me
                .within(10 * SOON)
                .try_receive_with_tag::<i32>(2)
                .unwrap_err();
            assert_eq!(error.class(), ErrorClass::TimeLimit);
            assert!(began.elapsed() >= 10 * SOON);
            me.send_with_tag(&0, 1);
        });
    });
}

#[test]
fn a_rank_that_is_gone_ends_the_job_before_the_time_runs_out() {
    let began = Instant::now();
    let end = std::panic::catch_unwind(|| {
        tercio::testing::ranks(2, |world| {
            if world.rank() == 0 {
                let _ = world.process_at_rank(1).within(LONG).try_receive::<i32>();
            }
        });
    });
    let text = *end.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("rank 1, which has finalized"), "{text}");
    assert!(began.elapsed() < LONG / 2);
}
