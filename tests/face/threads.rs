//! Several threads of a rank.
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tercio::Threading;
use tercio::testing::ranks_with_threading;
use tercio::traits::*;

#[test]
fn a_thread_serves_another_of_its_rank() {
    ranks_with_threading(1, Threading::Multiple, |world| {
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let (x, _) = world.this_process().receive_with_tag::<i32>(7);
                world.this_process().send_with_tag(&(x + 1), 8);
            });
            threads.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                world.this_process().send_with_tag(&41, 7);
            });
            assert_eq!(world.any_process().receive_with_tag::<i32>(8).0, 42);
        });
    });
}

#[test]
fn eight_threads_exchange_with_eight_peers() {
    const THREADS: i32 = 8;
    const RANKS: i32 = 8;
    const ROUNDS: u64 = 200;
    ranks_with_threading(RANKS as usize, Threading::Multiple, |world| {
        std::thread::scope(|threads| {
            for tag in 0..THREADS {
                let world = &world;
                threads.spawn(move || {
                    let mut sum = 0;
                    for round in 0..ROUNDS {
                        for step in 0..RANKS {
                            let to = world.process_at_rank((world.rank() + step) % RANKS);
                            let from = world.process_at_rank((world.rank() + RANKS - step) % RANKS);
                            let (x, _): (u64, _) = tercio::point_to_point::send_receive_with_tags(
                                &(round * 100 + world.rank() as u64),
                                &to,
                                tag,
                                &from,
                                tag,
                            );
                            assert_eq!(x, round * 100 + from.rank() as u64);
                            sum += x;
                        }
                    }
                    assert_eq!(sum, (0..ROUNDS).map(|r| 800 * r + 28).sum());
                });
            }
        });
    });
}

#[test]
fn one_thread_at_a_time_at_serialized() {
    let (inside, refused) = (Barrier::new(2), AtomicBool::new(false));
    ranks_with_threading(2, Threading::Serialized, |world| {
        std::thread::scope(|threads| threads.spawn(|| world.barrier()).join()).unwrap();
        match world.rank() {
            // One thread waits in the library for a message while another calls.
            0 => std::thread::scope(|threads| {
                threads.spawn(|| {
                    inside.wait();
                    assert_eq!(world.any_process().receive::<i32>().0, 5);
                });
                inside.wait();
                let panic = loop {
                    // Until the first thread is inside, this one may probe.
                    let call = || {
                        world.any_process().immediate_probe_with_tag(9);
                    };
                    if let Err(panic) = threads.spawn(call).join() {
                        break panic;
                    }
                };
                let text = *panic.downcast::<String>().unwrap();
                assert!(
                    text.contains("two threads are in the library at once"),
                    "{text}"
                );
                refused.store(true, Ordering::Relaxed);
            }),
            _ => {
                while !refused.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                world.process_at_rank(0).send(&5);
            }
        }
    });
}

#[test]
fn a_wait_that_another_thread_may_end_is_no_failure() {
    ranks_with_threading(2, Threading::Multiple, |world| {
        if world.rank() == 0 {
            std::thread::scope(|threads| {
                threads.spawn(|| assert_eq!(world.any_process().receive::<i32>().0, 3));
                // The other rank finalizes meanwhile.
                std::thread::sleep(Duration::from_millis(100));
                world.this_process().send(&3);
            });
        }
    });
}

/// Programs keep these in statics and send them to threads.
#[test]
fn what_may_go_to_other_threads() {
    fn both<T: Send + Sync>() {}
    both::<tercio::environment::Universe>();
    both::<tercio::topology::SimpleCommunicator>();
    both::<tercio::topology::CartesianCommunicator>();
    both::<tercio::topology::Process<'_>>();
    both::<tercio::topology::AnyProcess<'_>>();
    both::<tercio::topology::UserGroup>();
    both::<tercio::datatype::UserDatatype>();
    both::<tercio::datatype::DatatypeRef<'_>>();
    both::<tercio::point_to_point::Status>();
    both::<tercio::collective::SystemOperation>();
}
