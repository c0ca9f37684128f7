//! What is unsound or silent in the crate `mpi`: a panic or an end of the job here, with a sentence.
use super::{panic_of, says};
use tercio::collective::{SystemOperation, UserOperation, reduce_local_into};
use tercio::datatype::{MutView, Partition, PartitionMut, UserDatatype};
use tercio::environment::Universe;
use tercio::request::{WaitGuard, scope};
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

#[tercio::test(np = [1, 3])]
fn short_receive_buffers(world: SimpleCommunicator) {
    let (send, op) = ([1_u64; 5], SystemOperation::sum());
    let size = world.size() as usize;
    let root = world.this_process();
    // The memory behind a buffer that is too short stays as it is.
    let mut room = [7_u64; 8];
    let mut short = |call: &str, f: &mut dyn FnMut(&mut [u64])| {
        let text = panic_of(|| f(&mut room[..3]));
        says(&text, &[call, "5 elements into a buffer of 3"]);
        assert_eq!(room, [7; 8]);
    };
    short("all_reduce_into", &mut |room| {
        world.all_reduce_into(&send, room, op)
    });
    short("scan_into", &mut |room| world.scan_into(&send, room, op));
    short("exclusive_scan_into", &mut |room| {
        world.exclusive_scan_into(&send, room, op)
    });
    short("reduce_into_root", &mut |room| {
        root.reduce_into_root(&send, room, op)
    });
    short("reduce_local_into", &mut |room| {
        reduce_local_into(&send, room, op)
    });
    let keep = UserOperation::commutative(|_, _| {});
    short("all_reduce_into", &mut |room| {
        world.all_reduce_into(&send, room, &keep)
    });
    type Reduction = fn(&SimpleCommunicator, &[u64], &mut [u64]);
    let immediate: [Reduction; 5] = [
        |world, send, room| {
            scope(|scope| {
                drop(world.immediate_all_reduce_into(scope, send, room, SystemOperation::sum()))
            });
        },
        |world, send, room| {
            scope(|scope| {
                drop(world.immediate_scan_into(scope, send, room, SystemOperation::sum()))
            });
        },
        |world, send, room| {
            scope(|scope| {
                drop(world.immediate_exclusive_scan_into(scope, send, room, SystemOperation::sum()))
            });
        },
        |world, send, room| {
            let root = world.this_process();
            scope(|scope| {
                drop(root.immediate_reduce_into_root(scope, send, room, SystemOperation::sum()))
            });
        },
        |world, send, room| {
            let keep = UserOperation::commutative(|_, _| {});
            scope(|scope| drop(world.immediate_all_reduce_into(scope, send, room, &keep)));
        },
    ];
    for call in immediate {
        short("immediate_", &mut |room| call(&world, &send, room));
    }
    let text = panic_of(|| world.reduce_scatter_block_into(&send, &mut room[..6], op));
    says(&text, &["5 elements to 6"]);
    let text = panic_of(|| {
        scope(|scope| {
            drop(world.immediate_reduce_scatter_block_into(scope, &send, &mut room[..6], op))
        })
    });
    says(&text, &["5 elements to 6"]);
    // Of the other collectives too.
    let block = vec![1_u64; size * 5];
    let few = |call: &str, f: &dyn Fn(&mut [u64])| {
        let mut room = vec![7; size * 5];
        let (short, rest) = room.split_at_mut(size * 5 - 1);
        says(&panic_of(|| f(short)), &[call, "was given", "bytes"]);
        assert!(short.iter().all(|word| *word == 7) && rest == [7]);
    };
    few("all_gather", &|room| world.all_gather_into(&send, room));
    few("gather", &|room| root.gather_into_root(&send, room));
    few("all_to_all", &|room| {
        world.all_to_all_into(&block[..], room)
    });
    few("scatter", &|_| {
        root.scatter_into_root(&block[..size * 5 - 1], &mut [0_u64; 5])
    });
    few("all_gather", &|room| {
        scope(|scope| drop(world.immediate_all_gather_into(scope, &send, room)))
    });
    few("gather", &|room| {
        scope(|scope| drop(root.immediate_gather_into_root(scope, &send, room)))
    });
    few("all_to_all", &|room| {
        scope(|scope| drop(world.immediate_all_to_all_into(scope, &block[..], room)))
    });
    // Nothing of it was begun: the ranks still agree.
    let mut sum = 0;
    world.all_reduce_into(&1_usize, &mut sum, op);
    assert_eq!((sum, room), (size, [7; 8]));
}

#[tercio::test(np = 2)]
fn partitions(world: SimpleCommunicator) {
    let mut room = [0_i32; 4];
    let refused: [(&[i32], &[i32], &str); 6] = [
        (&[1, 1], &[0, -1], "1 elements from -1 on"),
        (&[-1, 1], &[2, 0], "-1 elements from 2 on"),
        (&[3, 2], &[0, 3], "but the buffer has 4"),
        (&[1, i32::MAX], &[0, i32::MAX], "but the buffer has 4"),
        (&[2, 2], &[0, 1], "overlap"),
        (&[1, 1, 1], &[0, 1], "3 counts but 2 displacements"),
    ];
    for (counts, displs, words) in refused {
        says(
            &panic_of(|| PartitionMut::new(&mut room, counts, displs).counts().len()),
            &[words],
        );
    }
    // What is sent twice harms nobody, but outside of the buffer there is nothing to send.
    Partition::new(&room, &[4, 4][..], &[0, 0][..]);
    says(
        &panic_of(|| Partition::new(&room, &[5][..], &[0][..]).counts().len()),
        &["but the buffer has 4"],
    );
    // For another number of ranks.
    let (one, three): (&[i32], &[i32]) = (&[1], &[1, 1, 1]);
    for counts in [one, three] {
        let displs: Vec<i32> = (0..counts.len() as i32).collect();
        let words = format!("{} counts for 2 ranks", counts.len());
        let mine = world.this_process();
        let outgoing = [0; 4];
        let send = Partition::new(&outgoing, counts, &displs[..]);
        let text = panic_of(|| mine.scatter_varcount_into_root(&send, &mut 0));
        says(&text, &["scatter_varcount_into_root", &words]);
        let mut parts = PartitionMut::new(&mut room, counts, &displs[..]);
        says(
            &panic_of(|| world.all_gather_varcount_into(&1, &mut parts)),
            &["all_gather_varcount_into", &words],
        );
        says(
            &panic_of(|| mine.gather_varcount_into_root(&1, &mut parts)),
            &["gather_varcount_into_root", &words],
        );
        says(
            &panic_of(|| world.all_to_all_varcount_into(&send, &mut parts)),
            &["all_to_all_varcount_into", &words],
        );
        // And as requests.
        says(
            &panic_of(|| {
                scope(|scope| drop(world.immediate_all_gather_varcount_into(scope, &1, &mut parts)))
            }),
            &["immediate_all_gather_varcount_into", &words],
        );
        says(
            &panic_of(|| {
                scope(|scope| {
                    drop(world.immediate_all_to_all_varcount_into(scope, &send, &mut parts))
                })
            }),
            &["immediate_all_to_all_varcount_into", &words],
        );
        says(
            &panic_of(|| {
                scope(|scope| drop(mine.immediate_gather_varcount_into_root(scope, &1, &mut parts)))
            }),
            &["immediate_gather_varcount_into_root", &words],
        );
        let mut part = 0;
        says(
            &panic_of(|| {
                scope(|scope| {
                    drop(mine.immediate_scatter_varcount_into_root(scope, &send, &mut part))
                })
            }),
            &["immediate_scatter_varcount_into_root", &words],
        );
    }
    world.barrier();
}

#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
struct Flagged {
    flag: bool,
    number: u16,
}

/// A message may be the beginning of what the receiver has room for, so bytes can meet a `bool` whose own type they have not.
#[tercio::test(np = 2)]
fn bytes_that_are_no_bool(world: SimpleCommunicator) {
    if world.rank() == 0 {
        for byte in [1_u8, 2, 255] {
            world.process_at_rank(1).send(&byte);
        }
        return;
    }
    let mut room = [Flagged::default(); 2];
    world.any_process().receive_into(&mut room);
    assert_eq!(
        room[0],
        Flagged {
            flag: true,
            number: 0
        }
    );
    for byte in ["2", "255"] {
        let mut room = [Flagged::default(); 2];
        let text = panic_of(|| world.any_process().receive_into(&mut room));
        says(&text, &["bool", byte]);
        // What is there is a bool again.
        assert!(room == [Flagged::default(); 2] || room[0].flag);
    }
    // In a view, in a matched message, in a request, as a vector.
    let me = world.this_process();
    let two = UserDatatype::contiguous(2, &Flagged::equivalent_datatype());
    let mut flags = [Flagged::default(); 2];
    me.send(&[1_u8, 4, 4, 3]);
    {
        // SAFETY: two are there.
        let mut view = unsafe { MutView::with_count_and_datatype(&mut flags[..], 1, &two) };
        says(&panic_of(|| me.receive_into(&mut view)), &["bool", "3"]);
    }
    assert_eq!(flags.map(|it| u8::from(it.flag)), [1, 1]);
    let mut room = [Flagged::default(); 2];
    me.send(&[9_u8]);
    let (message, _) = me.matched_probe();
    says(
        &panic_of(|| message.matched_receive_into(&mut room)),
        &["bool", "9"],
    );
    me.send(&[8_u8]);
    says(
        &panic_of(|| scope(|scope| me.immediate_receive_into(scope, &mut room).wait())),
        &["bool", "8"],
    );
    me.send(&[7_u8]);
    says(
        &panic_of(|| me.receive_vec::<Flagged>()),
        &["has 1 bytes", "no whole number"],
    );
    let mut flag = true;
    // SAFETY: none is needed: it is looked at.
    let text = panic_of(|| unsafe { world.unpack_into(&[3], &mut flag, 0) });
    says(&text, &["bool", "3"]);
}

mod elements_of_another_type {
    use super::*;

    #[tercio::test(np = 2)]
    #[should_panic(expected = "f64")]
    fn as_a_value(world: SimpleCommunicator) {
        match world.rank() {
            0 => world.process_at_rank(1).send(&1.5),
            _ => drop(world.any_process().receive::<i64>()),
        }
    }

    #[tercio::test(np = 2)]
    #[should_panic(expected = "u8")]
    fn as_a_bool(world: SimpleCommunicator) {
        match world.rank() {
            0 => world.process_at_rank(1).send(&[1_u8; 4]),
            _ => drop(world.any_process().receive_vec::<bool>()),
        }
    }

    #[tercio::test(np = 2)]
    #[should_panic(expected = "the element type")]
    fn as_a_bool_in_a_collective(world: SimpleCommunicator) {
        match world.rank() {
            0 => world.all_gather_into(&[2_u8, 3], &mut [0_u8; 4]),
            _ => world.all_gather_into(&[true, false], &mut [false; 4]),
        }
    }

    #[tercio::test(np = 2)]
    #[should_panic(expected = "the element type")]
    fn as_a_bool_in_a_request_for_parts(world: SimpleCommunicator) {
        let (counts, displs) = (&[1, 1][..], &[0, 1][..]);
        let (mut bytes, mut flags) = ([0_u8; 2], [false; 2]);
        let mut bytes = PartitionMut::new(&mut bytes, counts, displs);
        let mut flags = PartitionMut::new(&mut flags, counts, displs);
        scope(|scope| match world.rank() {
            0 => {
                world
                    .immediate_all_gather_varcount_into(scope, &2_u8, &mut bytes)
                    .wait();
            }
            _ => {
                world
                    .immediate_all_gather_varcount_into(scope, &true, &mut flags)
                    .wait();
            }
        });
    }

    #[tercio::test(np = 2)]
    #[should_panic(expected = "broadcast")]
    fn in_a_collective(world: SimpleCommunicator) {
        let root = world.process_at_rank(0);
        match world.rank() {
            0 => root.broadcast_into(&mut 1_i32),
            _ => root.broadcast_into(&mut 1_f32),
        }
    }
}

/// rsmpi makes a value of bytes that never came.
#[tercio::test(np = 2)]
fn an_empty_message_is_no_value(world: SimpleCommunicator) {
    let other = world.process_at_rank(1 - world.rank());
    for _ in 0..4 {
        other.send::<[f64]>(&[]);
    }
    let words = ["one f64 of 8 bytes", "has 0", "receive_vec"];
    says(&panic_of(|| other.receive::<f64>()), &words);
    let (message, _) = other.matched_probe();
    says(&panic_of(|| message.matched_receive::<f64>()), &words);
    says(&panic_of(|| other.immediate_receive::<f64>().get()), &words);
    // Into a place that has a value already it is ordinary.
    let mut value = 1.5;
    let status = other.receive_into(&mut value);
    assert_eq!((status.count(f64::equivalent_datatype()), value), (0, 1.5));
}

#[tercio::test(np = 2)]
fn calls_after_finalize(universe: Universe) {
    fn ignore<T>(_: T) {}
    let world = universe.world();
    let copy = world.duplicate();
    let grid = world
        .create_cartesian_communicator(&[2], &[true], false)
        .unwrap();
    let group = world.group();
    let me = world.this_process();
    drop(universe);
    let mut sum = 0;
    let op = SystemOperation::sum();
    let calls: [&mut dyn FnMut(); 17] = [
        &mut || ignore(world.rank()),
        &mut || ignore(world.size()),
        &mut || ignore(world.process_at_rank(0).rank()),
        &mut || ignore(SimpleCommunicator::world()),
        &mut || world.barrier(),
        &mut || copy.all_reduce_into(&1, &mut sum, op),
        &mut || me.send(&1),
        &mut || ignore(me.receive::<i32>()),
        &mut || ignore(world.any_process().probe()),
        &mut || ignore(world.any_process().immediate_probe()),
        &mut || ignore(world.immediate_barrier()),
        &mut || ignore(me.immediate_receive::<i32>()),
        &mut || ignore(world.duplicate()),
        &mut || ignore(grid.get_layout()),
        &mut || ignore(world.split_by_subgroup(&group)),
        &mut || ignore(world.group()),
        &mut || ignore(copy.get_name()),
    ];
    for (number, call) in calls.into_iter().enumerate() {
        let text = panic_of(call);
        assert!(
            text.contains("finalized") && text.contains("keep the Universe"),
            "{number}: {text}"
        );
    }
    // Groups are members only, and all can be dropped.
    assert_eq!(group.size(), 2);
    drop((world, copy, grid));
    assert!(tercio::is_finalized());
}

#[tercio::test(np = 1)]
fn a_request_dropped_alive(world: SimpleCommunicator) {
    let text = panic_of(|| drop(world.immediate_barrier()));
    says(&text, &["dropped alive", "refused.rs", "WaitGuard"]);
    let text = panic_of(|| drop(world.this_process().immediate_receive::<i32>()));
    says(&text, &["dropped alive"]);
}

#[tercio::test(np = 1)]
fn a_message_dropped_unreceived(world: SimpleCommunicator) {
    let me = world.this_process();
    me.send(&1);
    let text = panic_of(|| drop(me.matched_probe()));
    says(&text, &["matched probe", "matched_receive"]);
    me.send(&2);
    let text = panic_of(|| drop(me.immediate_matched_probe()));
    says(&text, &["matched probe", "matched_receive"]);
}

/// A second panic would abort the process, and nobody would know of the first.
#[tercio::test(np = 2)]
#[should_panic(expected = "the first of them")]
fn a_message_dropped_in_a_panic(world: SimpleCommunicator) {
    world.process_at_rank(1 - world.rank()).send(&1);
    let (_message, _) = world.any_process().matched_probe();
    let mut never = 0;
    scope(|scope| {
        let _guard = WaitGuard::from(
            world
                .any_process()
                .immediate_receive_into_with_tag(scope, &mut never, 5),
        );
        if world.rank() == 1 {
            panic!("the first of them");
        }
    });
}

#[derive(Equivalence, Clone, Copy)]
struct Nothing;

#[tercio::test(np = 1)]
fn more_elements_than_a_count(world: SimpleCommunicator) {
    // Three thousand million elements that need no memory.
    let many = [Nothing; 3_000_000_000];
    says(
        &panic_of(|| many[..].count()),
        &["3000000000 elements", "2147483647 that a Count can say"],
    );
    says(
        &panic_of(|| world.pack_size(i32::MAX, &u64::equivalent_datatype())),
        &["not a size that a Count can say"],
    );
    // They can be sent nevertheless: only where a Count is said they are too many.
    world.this_process().send(&many[..]);
    let (_, status) = world.this_process().receive_vec::<Nothing>();
    assert_eq!(status.tag(), 0);
}
