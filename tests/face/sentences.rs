//! Wrong calls are panics with a sentence that says what was asked, what is so, and what to do.
use std::panic::{AssertUnwindSafe, catch_unwind};
use tercio::collective::SystemOperation;
use tercio::datatype::{Partition, PartitionMut, UserDatatype};
use tercio::point_to_point::send_receive;
use tercio::topology::{Color, SimpleCommunicator};
use tercio::traits::*;

/// What `f` panics with.
pub(super) fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(f()))).expect_err("it panics");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().expect("a text").to_string(),
    }
}

/// What a job of `count` ranks panics with.
fn panic_of_ranks(count: usize, f: impl Fn(SimpleCommunicator) + Sync) -> String {
    panic_of(|| tercio::testing::ranks(count, f))
}

#[track_caller]
pub(super) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn ranks_tags_and_colors_out_of_range() {
    tercio::testing::ranks(2, |world| {
        let text = panic_of(|| world.process_at_rank(2).rank());
        says(&text, &["rank 2 of a communicator of 2", "0 to size - 1"]);
        let text = panic_of(|| world.process_at_rank(-1).rank());
        says(&text, &["rank -1"]);
        let text = panic_of(|| world.this_process().send_with_tag(&1, -5));
        says(
            &text,
            &["send_with_tag was asked for tag -5", "0 to 2147483647"],
        );
        let text = panic_of(|| world.any_process().receive_with_tag::<i32>(-1));
        says(&text, &["receive_with_tag was asked for tag -1"]);
        let text = panic_of(|| Color::with_value(-3));
        says(&text, &["color of -3", "Color::undefined()"]);
    });
}

#[test]
fn a_message_that_does_not_fit_is_an_error_at_the_receiver_only() {
    tercio::testing::ranks(2, |world| {
        if world.rank() == 0 {
            world.process_at_rank(1).send(&[1, 2, 3]);
            world.process_at_rank(1).send(&[4, 5]);
            world.process_at_rank(1).send(&7.5);
        } else {
            let text = panic_of(|| {
                world.any_process().receive_into(&mut [0; 2]);
            });
            says(&text, &["12", "8"]);
            // One i32 was asked for, two came.
            let text = panic_of(|| world.any_process().receive::<i32>());
            says(&text, &["8", "4"]);
            // The channel is still good.
            assert_eq!(world.any_process().receive::<f64>().0, 7.5);
        }
    });
}

#[test]
fn fewer_bytes_than_one_element_is_no_element() {
    tercio::testing::ranks(1, |world| {
        let me = world.this_process();
        me.send::<[u64]>(&[]);
        let text = panic_of(|| me.receive::<u64>());
        says(
            &text,
            &[
                "receive was asked for one u64 of 8 bytes",
                "has 0",
                "receive_vec",
            ],
        );
        me.send(&[1u8; 6]);
        let (message, _) = me.matched_probe();
        let mut bytes = [0u8; 6];
        message.matched_receive_into(&mut bytes);
        assert_eq!(bytes, [1; 6]);
    });
}

#[test]
fn messages_of_other_types_end_the_job() {
    let text = panic_of_ranks(2, |world| match world.rank() {
        0 => world.process_at_rank(1).send(&1.5f64),
        _ => drop(world.any_process().receive::<u64>()),
    });
    says(&text, &["f64", "u64"]);
}

#[test]
fn other_collectives_end_the_job() {
    let text = panic_of_ranks(2, |world| match world.rank() {
        0 => world.barrier(),
        _ => world.process_at_rank(0).broadcast_into(&mut 0),
    });
    says(&text, &["barrier", "broadcast", "sentences.rs"]);
    let text = panic_of_ranks(3, |world| {
        let op = match world.rank() {
            2 => SystemOperation::max(),
            _ => SystemOperation::sum(),
        };
        world.all_reduce_into(&world.rank(), &mut 0, op);
    });
    says(&text, &["all_reduce", "operator"]);
    // Ranks are the job's, whatever number they have in the communicator.
    let text = panic_of_ranks(4, |world| {
        let color = Color::with_value(world.rank() % 2);
        let pair = world.split_by_color_with_key(color, -world.rank()).unwrap();
        match world.rank() {
            1 => pair.barrier(),
            3 => pair.process_at_rank(0).broadcast_into(&mut 0),
            _ => {}
        }
    });
    assert!(
        text.starts_with("rank 1 called barrier") && text.contains("but rank 3 called broadcast")
            || text.starts_with("rank 3 called broadcast")
                && text.contains("but rank 1 called barrier"),
        "{text}"
    );
}

#[test]
fn counts_that_are_not_what_is_sent_end_the_job() {
    for (sent, words) in [
        (0, "which sends 0 at"),
        (1, "which sends 4 at"),
        (3, "which sends 12 at"),
        (1 << 20, "which sends 4194304 at"),
    ] {
        let text = panic_of_ranks(2, |world| {
            let root = world.process_at_rank(0);
            if world.rank() == 0 {
                let mut all = [0; 4];
                let mut parts = PartitionMut::new(&mut all, [2, 2], [0, 2]);
                root.gather_varcount_into_root(&[1, 2], &mut parts);
            } else {
                root.gather_varcount_into(&vec![3; sent]);
            }
        });
        says(
            &text,
            &["gather_varcount", "expects 8 bytes from rank 1", words],
        );
    }
}

#[test]
fn no_elements_have_no_type_and_basic_elements_have_no_prefix() {
    tercio::testing::ranks(1, |world| {
        let me = world.this_process();
        me.send::<[f64]>(&[]);
        assert_eq!(me.receive_vec::<i32>().0, []);
        me.send::<[f64]>(&[]);
        me.receive_into(&mut [0_u8; 4]);
    });
    let text = panic_of_ranks(1, |world| {
        let me = world.this_process();
        me.send(&[1_u8; 3]);
        me.receive_into(&mut [0; 2]);
    });
    says(&text, &["receives i32", "3 bytes of u8"]);
}

#[test]
fn reductions_check_lengths_types_and_operations() {
    tercio::testing::ranks(1, |world| {
        let text =
            panic_of(|| world.all_reduce_into(&[1, 2, 3], &mut [0; 2], SystemOperation::sum()));
        says(
            &text,
            &["all_reduce_into was asked to reduce 3 elements into a buffer of 2"],
        );
        let text = panic_of(|| world.scan_into(&1u64, &mut 0f64, SystemOperation::sum()));
        says(&text, &["scan_into was asked to reduce u64 into f64"]);
        let text =
            panic_of(|| world.all_reduce_into(&1.5, &mut 0.0, SystemOperation::bitwise_or()));
        says(
            &text,
            &[
                "SystemOperation::bitwise_or of f64",
                "not defined",
                "UserOperation",
            ],
        );
        let text = panic_of(|| {
            world.reduce_scatter_block_into(&[1, 2, 3], &mut [0; 2], SystemOperation::sum());
        });
        says(&text, &["3 elements to 2 for each of 1 ranks"]);
        let longer = &mut [0, 0, 9];
        world.all_reduce_into(&[1, 2], longer, SystemOperation::sum());
        assert_eq!(*longer, [1, 2, 9]);
    });
}

/// `usize` into `i32` and the like is combined as what is sent, and converted.
#[test]
fn integers_are_reduced_into_other_integers_if_they_fit() {
    let op = SystemOperation::sum();
    tercio::testing::ranks(3, |world| {
        let rank = world.rank();
        let mine = rank as usize;
        let communicator: &dyn Communicator = &world;
        let mut sum = 0;
        communicator.scan_into(&mine, &mut sum, op);
        assert_eq!(sum, [0_i32, 1, 3][mine]);
        let mut before = [-7_i8, -7];
        world.exclusive_scan_into(&[mine, 50], &mut before, op);
        assert_eq!(before, [[-7, -7], [0, 50], [1, 100]][mine]);
    });
    tercio::testing::ranks(3, |world| {
        let rank = world.rank();
        // Negative results fit a wider signed type; the receive buffer may be longer.
        let mut sums = [5_i64; 3];
        world.all_reduce_into(&[-rank, i32::MAX], &mut sums, SystemOperation::min());
        assert_eq!(sums, [-2, i32::MAX as i64, 5]);
        let mut part = [0_u16; 1];
        world.reduce_scatter_block_into(&[1_i64, 2, 3], &mut part, op);
        assert_eq!(part, [3 * (rank as u16 + 1)]);
        let root = world.process_at_rank(1);
        if rank == 1 {
            let mut sum = 0_u8;
            root.reduce_into_root(&85_u64, &mut sum, op);
            assert_eq!(sum, 255);
            let text = panic_of(|| root.reduce_into_root(&86_u64, &mut sum, op));
            says(
                &text,
                &[
                    "reduce_into_root gave 258 as element 0",
                    "u64",
                    "does not fit the u8",
                ],
            );
            assert_eq!(sum, 255);
        } else {
            root.reduce_into(&85_u64, op);
            root.reduce_into(&86_u64, op);
        }
        // Only integers, and only where the results are there when the call returns.
        let text = panic_of(|| world.all_reduce_into(&1_i32, &mut 0.0_f64, op));
        says(&text, &["i32 into f64"]);
        let (one, mut other) = (1_i32, 0_i64);
        let text = panic_of(|| {
            tercio::request::scope(|scope| {
                world
                    .immediate_all_reduce_into(scope, &one, &mut other, op)
                    .wait()
            })
        });
        says(&text, &["i32 into i64"]);
    });
}

#[test]
fn the_forms_for_the_root_and_for_the_others() {
    tercio::testing::ranks(2, |world| {
        let root = world.process_at_rank(0);
        match world.rank() {
            0 => {
                let text = panic_of(|| root.gather_into(&1));
                says(
                    &text,
                    &[
                        "gather_into was called by its root, rank 0",
                        "gather_into_root",
                    ],
                );
            }
            _ => {
                let text = panic_of(|| root.scatter_into_root(&[1, 2], &mut 0));
                says(
                    &text,
                    &[
                        "scatter_into_root with root 0 was called by rank 1",
                        "scatter_into is",
                    ],
                );
            }
        }
    });
}

#[test]
fn partitions_are_for_as_many_ranks_as_there_are() {
    tercio::testing::ranks(1, |world| {
        let (mine, mut all) = ([1, 2], [0; 2]);
        let mut parts = PartitionMut::new(&mut all, vec![1, 1], vec![0, 1]);
        let text = panic_of(|| world.all_gather_varcount_into(&mine, &mut parts));
        says(&text, &["2 counts for 1 ranks"]);
        let text = panic_of(|| Partition::new(&mine, vec![1], vec![]).counts().len());
        says(&text, &["1 counts but 0 displacements"]);
    });
}

#[test]
fn an_exchange_is_on_one_communicator() {
    tercio::testing::ranks(1, |world| {
        let other = world.duplicate();
        let text = panic_of(|| {
            let _: (i32, _) = send_receive(&1, &world.this_process(), &other.this_process());
        });
        says(
            &text,
            &["destination of one communicator", "source of another"],
        );
    });
}

#[test]
fn datatypes_are_built_of_sense() {
    let text = panic_of(|| UserDatatype::contiguous(-1, &i32::equivalent_datatype()));
    says(&text, &["contiguous was asked for a count of -1"]);
    let text = panic_of(|| {
        drop(UserDatatype::indexed(
            &[1, 2],
            &[0],
            &u8::equivalent_datatype(),
        ))
    });
    says(
        &text,
        &["indexed was given 2 blocklengths but 1 displacements"],
    );
    let huge = isize::MAX - 2;
    let text = panic_of(|| {
        drop(UserDatatype::heterogeneous_indexed(
            &[1],
            &[huge],
            &i32::equivalent_datatype(),
        ));
    });
    says(&text, &["beyond the address space"]);
}

#[test]
fn a_datatype_outside_of_its_type_is_refused() {
    struct Wrong(#[allow(dead_code)] u8);
    // SAFETY: none: that is what is refused.
    unsafe impl Equivalence for Wrong {
        type Out = UserDatatype;
        fn equivalent_datatype() -> UserDatatype {
            UserDatatype::contiguous(2, &u64::equivalent_datatype())
        }
    }
    tercio::testing::ranks(1, |world| {
        let text = panic_of(|| world.this_process().send(&Wrong(1)));
        says(&text, &["a type of 1 bytes", "correct its Equivalence"]);
    });
}

#[test]
fn a_zero_dimension_is_no_grid() {
    tercio::testing::ranks(2, |world| {
        let text = panic_of(|| world.create_cartesian_communicator(&[2, 0], &[false; 2], false));
        says(&text, &["grid of [2, 0]", "at least one process"]);
        let text = panic_of(|| world.create_cartesian_communicator(&[3], &[false], false));
        says(&text, &["3 processes, but there are 2"]);
    });
}

#[test]
fn another_thread_needs_a_level_for_it() {
    tercio::testing::ranks(1, |world| {
        let text = std::thread::scope(|scope| {
            let call = || panic_of(|| world.barrier());
            scope.spawn(call).join().unwrap()
        });
        says(
            &text,
            &["another thread", "Threading::Single", "Threading::Multiple"],
        );
    });
}

#[test]
fn the_first_rank_that_fails_is_the_one_that_is_told() {
    let text = panic_of_ranks(4, |world| match world.rank() {
        2 => panic!("rank two is unwell"),
        _ => world.barrier(),
    });
    assert_eq!(text, "rank two is unwell");
}

#[test]
fn a_wait_for_a_rank_that_is_gone_is_told() {
    let text = panic_of_ranks(2, |world| {
        if world.rank() == 0 {
            world.process_at_rank(1).receive::<i32>();
        }
    });
    says(&text, &["rank 1", "finalized"]);
}

#[test]
fn a_dropped_message_is_missed() {
    tercio::testing::ranks(1, |world| {
        world.this_process().send(&1);
        let text = panic_of(|| world.any_process().matched_probe());
        says(&text, &["matched probe", "matched_receive"]);
    });
}

#[test]
fn buffered_sends_need_room() {
    tercio::testing::ranks(1, |world| {
        let text = panic_of(|| world.this_process().buffered_send(&[1.5; 8]));
        says(&text, &["64 bytes needs 576", "set_buffer_size"]);
    });
}

/// Counts that grow after they were first asked for.
struct Growing(std::cell::Cell<u32>, [i32; 2], [i32; 2]);

impl std::borrow::Borrow<[i32]> for Growing {
    fn borrow(&self) -> &[i32] {
        self.0.set(self.0.get() + 1);
        if self.0.get() < 3 { &self.1 } else { &self.2 }
    }
}

#[test]
fn parts_that_change_after_they_were_checked_are_checked_again() {
    tercio::testing::ranks(2, |world| {
        let send = [1; 4096];
        for (grown, words) in [
            ([4096, 4096], "4096 elements at 0, but the buffer has 2"),
            ([2, 1], "parts 0 and 1 of a PartitionMut overlap"),
        ] {
            let text = panic_of(|| {
                let mut buffer = [0; 2];
                let counts = Growing(0.into(), [1, 1], grown);
                let mut parts = PartitionMut::new(&mut buffer, counts, [0, 1]);
                world.all_gather_varcount_into(&send[..], &mut parts);
            });
            says(&text, &[words]);
        }
    });
}
