//! Engines on threads over one private segment: what MPI says of messages, seen through the engine's calls.
use super::*;
use crate::model::{Basic, CollKind, Local, Round, Transfer, TypeCode};
use crate::transport::shm::single_copy::SingleCopyMode;
use crate::wait::WaitMode;
use core::panic::Location;

const I32: TypeCode = TypeCode::of(Basic::I32);

pub(super) fn here() -> Site {
    Location::caller()
}

/// Runs `body` on `n` engines; the communicator is the world.
pub(super) fn ranks_with(n: usize, settings: Settings, body: impl Fn(&Engine, &Comm) + Sync) {
    let segment = Arc::new(Segment::private(n).unwrap());
    segment
        .control()
        .claimed_cores()
        .store(2, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n)
            .map(|rank| {
                let (segment, body) = (segment.clone(), &body);
                scope.spawn(move || {
                    let engine = Engine::new(segment, rank, settings).unwrap();
                    body(&engine, &Comm::new(0, (0..n).collect(), rank, n));
                    assert_eq!(engine.finalize(here()).unwrap(), Vec::<String>::new());
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

fn ranks(n: usize, body: impl Fn(&Engine, &Comm) + Sync) {
    for wait in [WaitMode::Auto, WaitMode::Yield] {
        ranks_with(
            n,
            Settings {
                wait,
                ..Settings::new(ThreadLevel::Single)
            },
            &body,
        );
    }
}

pub(super) fn out(data: &[i32]) -> SendSpan {
    // SAFETY: the tests keep the data until their requests are complete.
    unsafe { SendSpan::contiguous(data.as_ptr().cast(), size_of_val(data), I32) }
}

pub(super) fn into(data: &mut [i32]) -> RecvSpan {
    // SAFETY: as above, and nobody else uses it.
    unsafe { RecvSpan::contiguous(data.as_mut_ptr().cast(), size_of_val(data), Basic::I32) }
}

pub(super) fn pattern(len: usize, seed: i32) -> Vec<i32> {
    (0..len as i32)
        .map(|i| i.wrapping_mul(31).wrapping_add(seed))
        .collect()
}

const SIZES: [usize; 12] = [0, 1, 2, 8, 9, 63, 64, 2047, 2049, 20_000, 262_144, 700_001];

#[test]
fn messages_of_every_size_arrive_whole() {
    for single_copy in [
        SingleCopyMode::Off,
        SingleCopyMode::Force,
        SingleCopyMode::Auto,
    ] {
        let settings = Settings {
            single_copy,
            ..Settings::new(ThreadLevel::Single)
        };
        ranks_with(2, settings, |engine, world| {
            let peer = Peer::Rank(1 - world.rank());
            for mode in [
                SendMode::Standard,
                SendMode::Synchronous,
                SendMode::Standard,
            ] {
                for (tag, &len) in SIZES.iter().enumerate() {
                    let data = pattern(len, tag as i32);
                    let mut got = vec![-1; len];
                    let tag = tag as i32;
                    if world.rank() == 0 {
                        engine
                            .send(world, peer, tag, &out(&data), mode, here())
                            .unwrap();
                        engine
                            .receive(world, peer, Some(tag), &into(&mut got), here())
                            .unwrap();
                    } else {
                        let status = engine
                            .receive(world, peer, None, &into(&mut got), here())
                            .unwrap();
                        assert_eq!(
                            (status.source, status.tag, status.bytes),
                            (Some(0), Some(tag), 4 * len as u64)
                        );
                        engine
                            .send(world, peer, tag, &out(&got), mode, here())
                            .unwrap();
                    }
                    assert_eq!(got, data);
                }
            }
        });
    }
}

#[test]
fn many_sends_without_receives_do_not_block_and_keep_their_order() {
    ranks(2, |engine, world| {
        const MANY: usize = 3000;
        let peer = Peer::Rank(1 - world.rank());
        let data: Vec<Vec<i32>> = (0..MANY).map(|i| pattern(SIZES[i % 9], i as i32)).collect();
        let requests: Vec<_> = data
            .iter()
            .map(|d| {
                engine
                    .start_send(world, peer, 5, out(d), SendMode::Standard, here())
                    .unwrap()
            })
            .collect();
        for expected in &data {
            let mut got = vec![0; 2100];
            let status = engine
                .receive(world, peer, Some(5), &into(&mut got), here())
                .unwrap();
            assert_eq!(status.bytes as usize, 4 * expected.len());
            assert_eq!(got[..expected.len()], expected[..]);
        }
        for request in requests {
            engine.wait(request, here()).unwrap();
        }
    });
}

#[test]
fn large_messages_cross_in_both_directions_with_many_under_way() {
    ranks(3, |engine, world| {
        const EACH: usize = 12;
        let len = 100_000;
        let n = world.size();
        let data = pattern(len, world.rank() as i32);
        let sends: Vec<_> = (0..n * EACH)
            .map(|i| {
                engine
                    .start_send(
                        world,
                        Peer::Rank(i % n),
                        (i / n) as i32,
                        out(&data),
                        SendMode::Standard,
                        here(),
                    )
                    .unwrap()
            })
            .collect();
        // Backwards: every message but the last has to wait for its receive.
        for tag in (0..EACH).rev() {
            for source in 0..n {
                let mut got = vec![0; len];
                engine
                    .receive(
                        world,
                        Peer::Rank(source),
                        Some(tag as i32),
                        &into(&mut got),
                        here(),
                    )
                    .unwrap();
                assert_eq!(got, pattern(len, source as i32));
            }
        }
        for request in sends {
            engine.wait(request, here()).unwrap();
        }
    });
}

#[test]
fn wildcard_receives_waited_for_backwards_keep_the_order_of_posting() {
    ranks(2, |engine, world| {
        if world.rank() == 0 {
            for value in [1, 2] {
                engine
                    .send(
                        world,
                        Peer::Rank(1),
                        value,
                        &out(&[value]),
                        SendMode::Standard,
                        here(),
                    )
                    .unwrap();
            }
        } else {
            let (mut a, mut b) = ([0], [0]);
            let first = engine
                .start_receive(world, Peer::Any, None, into(&mut a), here())
                .unwrap();
            let second = engine
                .start_receive(world, Peer::Any, None, into(&mut b), here())
                .unwrap();
            assert_eq!(engine.wait(second, here()).unwrap().tag, Some(2));
            assert_eq!(engine.wait(first, here()).unwrap().tag, Some(1));
            assert_eq!((a, b), ([1], [2]));
        }
    });
}

#[test]
fn a_message_too_long_is_an_error_at_the_receiver_only() {
    ranks(2, |engine, world| {
        for len in [100, 5000, 500_000] {
            if world.rank() == 0 {
                for mode in [SendMode::Standard, SendMode::Synchronous] {
                    engine
                        .send(
                            world,
                            Peer::Rank(1),
                            1,
                            &out(&pattern(len, 0)),
                            mode,
                            here(),
                        )
                        .unwrap();
                }
                engine
                    .send(
                        world,
                        Peer::Rank(1),
                        1,
                        &out(&[7]),
                        SendMode::Standard,
                        here(),
                    )
                    .unwrap();
            } else {
                let mut short = [0; 10];
                for _ in 0..2 {
                    let error = engine
                        .receive(world, Peer::Rank(0), None, &into(&mut short), here())
                        .unwrap_err();
                    assert_eq!(error.class(), ErrorClass::Truncate, "{error}");
                }
                engine
                    .receive(world, Peer::Rank(0), None, &into(&mut short), here())
                    .unwrap();
                assert_eq!(short[0], 7);
            }
        }
    });
}

#[test]
fn other_types_and_bools_that_are_none_are_found_out() {
    ranks(2, |engine, world| {
        let mut got = [0_u8; 8];
        if world.rank() == 0 {
            engine
                .send(
                    world,
                    Peer::Rank(1),
                    0,
                    &out(&[1, 2]),
                    SendMode::Standard,
                    here(),
                )
                .unwrap();
            engine
                .send(
                    world,
                    Peer::Rank(1),
                    0,
                    &SendSpan::bytes_of(&[1, 0, 9]),
                    SendMode::Standard,
                    here(),
                )
                .unwrap();
        } else {
            // SAFETY: `got` outlives the call.
            let doubles = unsafe { RecvSpan::contiguous(got.as_mut_ptr(), 8, Basic::F64) };
            let error = engine
                .receive(world, Peer::Rank(0), None, &doubles, here())
                .unwrap_err();
            assert_eq!(error.class(), ErrorClass::Type);
            let text = error.to_string();
            assert!(
                text.contains("receives f64")
                    && text.contains("sent 8 bytes of i32 at src/engine/tests.rs:"),
                "{text}"
            );
            // SAFETY: as above.
            let bools = unsafe { RecvSpan::contiguous(got.as_mut_ptr(), 8, Basic::Bool) };
            let error = engine
                .receive(world, Peer::Rank(0), None, &bools, here())
                .unwrap_err();
            assert!(error.to_string().contains("holds the byte 9"), "{error}");
        }
    });
}

#[test]
fn probes_tell_and_take() {
    ranks(2, |engine, world| {
        let peer = Peer::Rank(1 - world.rank());
        for len in [3, 3000, 300_000] {
            let data = pattern(len, 3);
            if world.rank() == 0 {
                assert!(
                    engine
                        .immediate_matched_probe(world, peer, Some(99), here())
                        .unwrap()
                        .is_none()
                );
                let start = |span| {
                    engine
                        .start_send(world, peer, 4, span, SendMode::Standard, here())
                        .unwrap()
                };
                for request in [start(out(&data)), start(out(&data[1..]))] {
                    engine.wait(request, here()).unwrap();
                }
            } else {
                let status = engine
                    .probe(None, world, Peer::Any, Some(4), here())
                    .unwrap();
                assert_eq!(status.bytes as usize, 4 * len);
                let message = engine
                    .matched_probe(None, world, peer, None, here())
                    .unwrap();
                // The next receive gets the second one.
                let mut second = vec![0; len];
                engine
                    .receive(world, peer, Some(4), &into(&mut second), here())
                    .unwrap();
                assert_eq!(second[..len - 1], data[1..]);
                let mut first = vec![0; len];
                let request = engine
                    .start_matched_receive(message, into(&mut first), here())
                    .unwrap();
                assert_eq!(
                    engine.wait(request, here()).unwrap().bytes as usize,
                    4 * len
                );
                assert_eq!(first, data);
            }
        }
    });
}

#[test]
fn messages_to_oneself_are_ordinary() {
    ranks(1, |engine, world| {
        let me = Peer::Rank(0);
        for len in [1, 100_000] {
            let data = pattern(len, 1);
            for mode in [SendMode::Standard, SendMode::Synchronous] {
                let send = engine
                    .start_send(world, me, 0, out(&data), mode, here())
                    .unwrap();
                let mut got = vec![0; len];
                engine
                    .receive(world, me, None, &into(&mut got), here())
                    .unwrap();
                engine.wait(send, here()).unwrap();
                assert_eq!(got, data);
                let mut got = vec![0; len];
                let receive = engine
                    .start_receive(world, me, Some(1), into(&mut got), here())
                    .unwrap();
                engine
                    .send(world, me, 1, &out(&data), mode, here())
                    .unwrap();
                engine.wait(receive, here()).unwrap();
                assert_eq!(got, data);
            }
        }
        engine
            .send(
                world,
                Peer::Null,
                0,
                &out(&[1]),
                SendMode::Synchronous,
                here(),
            )
            .unwrap();
        assert_eq!(
            engine
                .receive(world, Peer::Null, None, &into(&mut [0]), here())
                .unwrap(),
            Status::EMPTY
        );
    });
}

#[test]
fn arguments_are_checked_before_any_effect() {
    ranks(1, |engine, world| {
        let text = |r: Result<()>| r.unwrap_err().to_string();
        let send =
            |to, tag| text(engine.send(world, to, tag, &out(&[1]), SendMode::Standard, here()));
        assert!(
            send(Peer::Rank(1), 0).starts_with("send to rank 1 of a communicator with 1 ranks")
        );
        assert!(send(Peer::Rank(0), -1).starts_with("the tag is -1; tags go from 0 to 2147483647"));
        let request = engine
            .start_receive(world, Peer::Rank(0), None, into(&mut [0]), here())
            .unwrap();
        engine.cancel(request, here()).unwrap();
        assert!(engine.wait(request, here()).unwrap().cancelled);
        assert_eq!(
            engine.wait(request, here()).unwrap_err().class(),
            ErrorClass::Request
        );
    });
}

#[test]
fn waiting_for_someone_who_is_gone_is_an_error() {
    let segment = Arc::new(Segment::private(2).unwrap());
    std::thread::scope(|scope| {
        let other = segment.clone();
        scope.spawn(move || {
            let engine = Engine::new(other, 1, Settings::new(ThreadLevel::Single)).unwrap();
            let world = Comm::new(0, vec![0, 1], 1, 2);
            engine
                .send(
                    &world,
                    Peer::Rank(0),
                    3,
                    &out(&[5]),
                    SendMode::Standard,
                    here(),
                )
                .unwrap();
            engine.finalize(here()).unwrap();
        });
        let engine = Engine::new(segment.clone(), 0, Settings::new(ThreadLevel::Single)).unwrap();
        let world = Comm::new(0, vec![0, 1], 0, 2);
        let mut got = [0];
        engine
            .receive(&world, Peer::Any, None, &into(&mut got), here())
            .unwrap();
        assert_eq!(got, [5]);
        for from in [Peer::Rank(1), Peer::Any] {
            let error = engine
                .receive(&world, from, None, &into(&mut got), here())
                .unwrap_err();
            assert_eq!(error.class(), ErrorClass::Gone, "{error}");
        }
        let error = engine
            .send(
                &world,
                Peer::Rank(1),
                0,
                &out(&[1]),
                SendMode::Synchronous,
                here(),
            )
            .unwrap_err();
        assert!(
            error.to_string().contains("rank 1, which has finalized"),
            "{error}"
        );
        let error = engine
            .probe(None, &world, Peer::Any, None, here())
            .unwrap_err();
        assert_eq!(error.class(), ErrorClass::Gone);
    });
}

#[test]
fn the_abort_word_ends_a_wait() {
    let segment = Arc::new(Segment::private(2).unwrap());
    let engine = Engine::new(segment.clone(), 0, Settings::new(ThreadLevel::Single)).unwrap();
    let world = Comm::new(0, vec![0, 1], 0, 2);
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| engine.receive(&world, Peer::Rank(1), None, &into(&mut [0]), here()));
        while segment.control().sleep_word(0).load(Ordering::Relaxed) & 1 == 0 {
            std::thread::yield_now();
        }
        segment.control().raise_abort();
        assert_eq!(
            waiting.join().unwrap().unwrap_err().class(),
            ErrorClass::Aborted
        );
    });
}

#[test]
fn schedules_run_beside_messages_and_each_other() {
    ranks(4, |engine, world| {
        // A ring sum: each rank passes on what it has, one hop a round, adding what comes.
        let n = world.size();
        let (next, before) = ((world.rank() + 1) % n, (world.rank() + n - 1) % n);
        let hop = |round: usize| {
            let (out, into) = [(0..4, 4..8), (4..8, 0..4)][round % 2].clone();
            Round {
                transfers: vec![
                    Transfer::Send {
                        to: next,
                        part: out,
                    },
                    Transfer::Receive {
                        from: before,
                        part: into.clone(),
                    },
                ],
                then: vec![Local::Combine {
                    input: into,
                    inout: 8..12,
                }],
            }
        };
        let add: Combine = Arc::new(|input, inout| {
            let sum = i32::from_ne_bytes(input.try_into().unwrap())
                + i32::from_ne_bytes((&*inout).try_into().unwrap());
            inout.copy_from_slice(&sum.to_ne_bytes());
        });
        let mut sums = vec![[0]; 128];
        let requests: Vec<_> = sums
            .iter_mut()
            .enumerate()
            .map(|(i, sum)| {
                let own = (world.rank() + i) as i32;
                let start = StartSchedule {
                    schedule: Schedule {
                        scratch: 12,
                        rounds: (0..n - 1).map(hop).collect(),
                    },
                    scratch: [own.to_ne_bytes(), [0; 4], own.to_ne_bytes()].concat(),
                    combine: Some(add.clone()),
                    results: vec![(8..12, into(sum))],
                    signature: Signature::new(CollKind::AllReduce, true, None, 3, I32, 4),
                    sequence: i as u64,
                };
                engine.start_schedule(world, start, here()).unwrap()
            })
            .collect();
        // A message meanwhile.
        let mut got = [0];
        let receive = engine
            .start_receive(world, Peer::Rank(before), Some(0), into(&mut got), here())
            .unwrap();
        engine
            .send(
                world,
                Peer::Rank(next),
                0,
                &out(&[world.rank() as i32]),
                SendMode::Synchronous,
                here(),
            )
            .unwrap();
        engine.wait(receive, here()).unwrap();
        assert_eq!(got[0] as usize, before);
        for request in requests.into_iter().rev() {
            engine.wait(request, here()).unwrap();
        }
        for (i, sum) in sums.iter().enumerate() {
            assert_eq!(sum[0] as usize, n * (n - 1) / 2 + n * i);
        }
    });
}

#[test]
fn another_thread_of_the_rank_may_send_what_a_blocked_one_waits_for() {
    ranks_with(1, Settings::new(ThreadLevel::Multiple), |engine, world| {
        std::thread::scope(|scope| {
            let mut got = [0];
            let span = into(&mut got);
            let waiting = scope.spawn(move || {
                engine
                    .receive(world, Peer::Rank(0), Some(1), &span, here())
                    .map(|_| ())
            });
            let sleep = engine.segment().control().sleep_word(0);
            while sleep.load(Ordering::Relaxed) & 1 == 0 {
                std::thread::yield_now();
            }
            engine
                .send(
                    world,
                    Peer::Rank(0),
                    1,
                    &out(&[9]),
                    SendMode::Standard,
                    here(),
                )
                .unwrap();
            waiting.join().unwrap().unwrap();
            assert_eq!(got, [9]);
        });
    });
}

#[test]
fn threads_of_two_ranks_exchange_messages_by_tag() {
    const THREADS: i32 = 4;
    const MESSAGES: i32 = 2000;
    ranks_with(2, Settings::new(ThreadLevel::Multiple), |engine, world| {
        let peer = Peer::Rank(1 - world.rank());
        std::thread::scope(|scope| {
            for tag in 0..THREADS {
                scope.spawn(move || {
                    for i in 0..MESSAGES {
                        let mut got = [0];
                        let receive = engine
                            .start_receive(world, peer, Some(tag), into(&mut got), here())
                            .unwrap();
                        engine
                            .send(
                                world,
                                peer,
                                tag,
                                &out(&[i * THREADS + tag]),
                                SendMode::Standard,
                                here(),
                            )
                            .unwrap();
                        engine.wait(receive, here()).unwrap();
                        assert_eq!(got, [i * THREADS + tag]);
                    }
                });
            }
        });
    });
}

/// A block of the engine's heap as numbers.
fn shared(block: &mut crate::job::HeapBlock, len: usize) -> &mut [i32] {
    // SAFETY: the tests take blocks that are long enough, and the slice borrows its block.
    unsafe { core::slice::from_raw_parts_mut(block.ptr().as_ptr().cast(), len) }
}

#[test]
fn what_lies_in_a_heap_is_copied_by_its_receiver() {
    ranks(2, |engine, world| {
        let peer = Peer::Rank(1 - world.rank());
        let mut block = engine.take_from_heap(4 * 20_000).unwrap();
        for (round, len) in [20_000, 2049, 2048, 19_999].into_iter().enumerate() {
            let tag = round as i32;
            let memory = &mut shared(&mut block, 20_000)[20_000 - len..];
            memory.copy_from_slice(&pattern(len, tag));
            // Both at a time: neither is over before the other rank has taken it.
            let send = engine
                .start_send(world, peer, tag, out(memory), SendMode::Standard, here())
                .unwrap();
            let mut got = vec![0; len + 1];
            let status = engine
                .receive(world, peer, Some(tag), &into(&mut got), here())
                .unwrap();
            assert_eq!(status.bytes, 4 * len as u64);
            assert_eq!(got[..len], pattern(len, tag));
            engine.wait(send, here()).unwrap();
            // Too long for its buffer: the sender notices nothing.
            let send = engine
                .start_send(world, peer, 99, out(memory), SendMode::Synchronous, here())
                .unwrap();
            let error = engine
                .receive(world, peer, Some(99), &into(&mut got[..1]), here())
                .unwrap_err();
            assert_eq!(error.class(), ErrorClass::Truncate);
            engine.wait(send, here()).unwrap();
        }
    });
}

#[test]
fn a_place_that_no_heap_has_is_damage() {
    let segment = Arc::new(Segment::private(2).unwrap());
    let settings = Settings::new(ThreadLevel::Single);
    let liar = Engine::new(segment.clone(), 0, settings).unwrap();
    let engine = Engine::new(segment, 1, settings).unwrap();
    let world = Comm::new(0, vec![0, 1], 1, 2);
    for at in [crate::job::layout::PRIVATE_HEAP as u64, u64::MAX - 5] {
        let envelope = Envelope {
            context: 0,
            source: 0,
            tag: 0,
            bytes: 10_000,
            code: I32,
            site: 0,
            sync: false,
            ready: false,
        };
        let offer = protocol::Offer {
            send: RequestId::new(0, 0),
            source: protocol::Source::Heap(at),
        };
        let (head, body) = protocol::offer(&envelope, &offer);
        liar.state.get().push_control(1, head, body).unwrap();
        let mut got = vec![0; 10_000];
        let error = engine
            .receive(&world, Peer::Rank(0), None, &into(&mut got), here())
            .unwrap_err();
        assert_eq!(error.class(), ErrorClass::Corrupt, "{error}");
    }
}
