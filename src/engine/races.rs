//! Engines on threads over one private segment: what must hold whenever ranks leave and threads meet, in whatever order things happen.
use super::tests::{here, into, out, pattern, ranks_with};
use super::*;
use crate::model::{Round, Transfer};
use crate::transport::shm::single_copy::SingleCopyMode;
use crate::wait::WaitMode;
use core::time::Duration;
use std::time::Instant;

fn at(level: ThreadLevel) -> Settings {
    Settings::new(level)
}

/// Lets some nanoseconds pass, other ones each time.
fn dawdle(round: u32) {
    let pause = Duration::from_nanos(round as u64 * 7919 % 30_000);
    let start = Instant::now();
    while start.elapsed() < pause {
        core::hint::spin_loop();
    }
}

/// One engine on a thread of its own, over `segment`.
fn engine_of(segment: &Arc<Segment>, rank: usize, settings: Settings) -> (Engine, Comm) {
    let n = segment.ranks();
    (
        Engine::new(segment.clone(), rank, settings).unwrap(),
        Comm::new(0, (0..n).collect(), rank, n),
    )
}

#[test]
fn what_a_rank_sent_before_it_left_is_received() {
    for wait in [WaitMode::Yield, WaitMode::Auto] {
        let settings = Settings {
            wait,
            ..at(ThreadLevel::Single)
        };
        for round in 0..150 {
            let segment = Arc::new(Segment::private(2).unwrap());
            std::thread::scope(|scope| {
                let other = segment.clone();
                scope.spawn(move || {
                    let (engine, world) = engine_of(&other, 1, settings);
                    let data = pattern([1, 500, 6000][round as usize % 3], 3);
                    dawdle(round);
                    let to = Peer::Rank(0);
                    engine
                        .send(&world, to, 3, &out(&data), SendMode::Standard, here())
                        .unwrap();
                    engine.finalize(here()).unwrap();
                });
                let (engine, world) = engine_of(&segment, 0, settings);
                let mut got = vec![0; 6000];
                let from = [Peer::Rank(1), Peer::Any][round as usize % 2];
                if round % 5 == 0 {
                    engine.probe(None, &world, from, None, here()).unwrap();
                }
                let request = engine
                    .start_receive(&world, from, None, into(&mut got), here())
                    .unwrap();
                let status = engine.wait(request, here()).unwrap();
                assert_eq!(
                    got[..status.bytes as usize / 4],
                    pattern(status.bytes as usize / 4, 3)
                );
            });
        }
    }
}

#[test]
fn a_send_that_was_received_is_no_wait_for_someone_who_left() {
    let settings = Settings {
        wait: WaitMode::Yield,
        ..at(ThreadLevel::Single)
    };
    for round in 0..150 {
        let segment = Arc::new(Segment::private(2).unwrap());
        std::thread::scope(|scope| {
            let other = segment.clone();
            scope.spawn(move || {
                let (engine, world) = engine_of(&other, 1, settings);
                let mut got = vec![0; 70_000];
                dawdle(round);
                engine
                    .receive(&world, Peer::Rank(0), None, &into(&mut got), here())
                    .unwrap();
                engine.finalize(here()).unwrap();
            });
            let (engine, world) = engine_of(&segment, 0, settings);
            let data = pattern([1, 70_000][round as usize % 2], 1);
            let to = Peer::Rank(1);
            engine
                .send(&world, to, 0, &out(&data), SendMode::Synchronous, here())
                .unwrap();
        });
    }
}

/// Blocks a thread of rank 0 at `Multiple` in `wait`, and has another thread run `meanwhile` when the first one sleeps.
fn while_asleep<R: Send>(
    engine: &Engine,
    wait: impl FnOnce() -> R + Send,
    meanwhile: impl FnOnce(),
) -> (R, Duration) {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || (wait(), Instant::now()));
        let word = engine.segment().control().sleep_word(engine.rank());
        while word.load(Ordering::Relaxed) & 1 == 0 && !waiting.is_finished() {
            std::thread::yield_now();
        }
        // Long enough for the first time limit to be over.
        std::thread::sleep(Duration::from_millis(20));
        meanwhile();
        let began = Instant::now();
        let (result, ended) = waiting.join().unwrap();
        (result, ended.saturating_duration_since(began))
    })
}

/// Well below the nets of 100 ms and 1 s that would catch a lost wake-up, well above what a loaded machine needs.
const SOON: Duration = Duration::from_millis(80);

/// The best of some tries, since the machine may be busy.
fn best(mut attempt: impl FnMut() -> Duration) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        best = best.min(attempt());
        if best < SOON {
            break;
        }
    }
    best
}

#[test]
fn a_probe_sees_what_another_thread_of_the_rank_sends() {
    ranks_with(1, at(ThreadLevel::Multiple), |engine, world| {
        let me = Peer::Rank(0);
        let took = best(|| {
            let probe = || {
                engine
                    .probe(None, world, me, Some(4), here())
                    .map(|s| s.tag)
            };
            let send = || {
                engine
                    .send(world, me, 4, &out(&[1]), SendMode::Standard, here())
                    .unwrap()
            };
            let (seen, took) = while_asleep(engine, probe, send);
            assert_eq!(seen.unwrap(), Some(4));
            engine
                .receive(world, me, None, &into(&mut [0]), here())
                .unwrap();
            took
        });
        assert!(took < SOON, "{took:?}");
    });
}

#[test]
fn a_probe_sees_what_the_thread_that_polls_takes_in() {
    let segment = Arc::new(Segment::private(2).unwrap());
    let (engine, world) = engine_of(&segment, 0, at(ThreadLevel::Multiple));
    let (other, theirs) = engine_of(&segment, 1, at(ThreadLevel::Single));
    let from = Peer::Rank(1);
    let send = |tag| {
        other
            .send(
                &theirs,
                Peer::Rank(0),
                tag,
                &out(&[1]),
                SendMode::Standard,
                here(),
            )
            .unwrap();
    };
    let took = best(|| {
        std::thread::scope(|scope| {
            // The first one to come polls.
            let word = segment.control().sleep_word(0);
            let polls =
                scope.spawn(|| engine.receive(&world, from, Some(5), &into(&mut [0]), here()));
            while word.load(Ordering::Relaxed) & 1 == 0 {
                std::thread::yield_now();
            }
            let probes = scope.spawn(|| {
                engine
                    .matched_probe(None, &world, from, Some(4), here())
                    .unwrap();
                Instant::now()
            });
            std::thread::sleep(Duration::from_millis(20));
            let began = Instant::now();
            send(4);
            let took = probes.join().unwrap().saturating_duration_since(began);
            send(5);
            polls.join().unwrap().unwrap();
            took
        })
    });
    assert!(took < Duration::from_millis(50), "{took:?}");
}

#[test]
fn a_receive_from_anybody_may_yet_be_served_by_another_thread() {
    let segment = Arc::new(Segment::private(2).unwrap());
    let (other, _) = engine_of(&segment, 1, at(ThreadLevel::Single));
    other.finalize(here()).unwrap();
    let (engine, world) = engine_of(&segment, 0, at(ThreadLevel::Multiple));
    let mut got = [0];
    let span = into(&mut got);
    let (status, took) = while_asleep(
        &engine,
        || engine.receive(&world, Peer::Any, None, &span, here()),
        || {
            engine
                .send(
                    &world,
                    Peer::Rank(0),
                    7,
                    &out(&[3]),
                    SendMode::Standard,
                    here(),
                )
                .unwrap()
        },
    );
    assert_eq!(status.unwrap().tag, Some(7));
    assert!(took < Duration::from_secs(1));
}

#[test]
fn a_thread_that_waits_for_someone_who_is_gone_is_told_while_another_polls() {
    let segment = Arc::new(Segment::private(3).unwrap());
    let (engine, world) = engine_of(&segment, 0, at(ThreadLevel::Multiple));
    let (gone, _) = engine_of(&segment, 1, at(ThreadLevel::Single));
    let (alive, alive_world) = engine_of(&segment, 2, at(ThreadLevel::Single));
    std::thread::scope(|scope| {
        let polls =
            scope.spawn(|| engine.receive(&world, Peer::Rank(2), None, &into(&mut [0]), here()));
        let word = segment.control().sleep_word(0);
        while word.load(Ordering::Relaxed) & 1 == 0 {
            std::thread::yield_now();
        }
        let follows = scope.spawn(|| {
            engine
                .receive(&world, Peer::Rank(1), None, &into(&mut [0]), here())
                .unwrap_err()
        });
        std::thread::sleep(Duration::from_millis(20));
        gone.finalize(here()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !follows.is_finished() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let told = follows.is_finished() && !polls.is_finished();
        alive
            .send(
                &alive_world,
                Peer::Rank(0),
                0,
                &out(&[1]),
                SendMode::Standard,
                here(),
            )
            .unwrap();
        polls.join().unwrap().unwrap();
        assert_eq!(follows.join().unwrap().class(), ErrorClass::Gone);
        assert!(told);
    });
}

/// The other rank sends and leaves at every moment of a wait, as far as the wait's own calls can be counted.
#[test]
fn a_last_message_is_found_whenever_its_sender_left() {
    // Polls, full looks between yields, and the last ones before sleeping.
    for moment in (1..5).chain(28..36).chain(60..110) {
        let settings = Settings {
            wait: WaitMode::Yield,
            ..at(ThreadLevel::Single)
        };
        let segment = Arc::new(Segment::private(2).unwrap());
        let (engine, _) = engine_of(&segment, 0, settings);
        let (other, world) = engine_of(&segment, 1, settings);
        let (mut asked, mut left) = (0, false);
        let arrived = |state: &mut State| {
            asked += 1;
            // The last moment of all is the last look before sleeping.
            let asleep = segment.control().sleep_word(0).load(Ordering::Relaxed) & 1 == 1;
            if !left && (asked == moment || asleep) {
                left = true;
                let to = Peer::Rank(0);
                other
                    .send(&world, to, 0, &out(&[1]), SendMode::Standard, here())
                    .unwrap();
                other.finalize(here()).unwrap();
            }
            let held = state.contexts.of(0).peek_unexpected(Some(1), None);
            held.map(|_| Ok(()))
        };
        engine
            .block(&[], here(), arrived, |state| state.gone_error(1, "a test"))
            .unwrap();
    }
}

/// A small generator of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Whatever a neighbour writes over everything that two ranks share, calls end with a result or an error: no panic, no memory taken for
/// what a number claims.
#[test]
fn engines_survive_what_is_scribbled_over_all_that_they_share() {
    use crate::job::layout::{LINE, STREAMS};
    for seed in 1..if cfg!(miri) { 3 } else { 300 } {
        let mut numbers = Numbers(seed * 0x9e37_79b9);
        let segment = Arc::new(Segment::private(2).unwrap());
        let settings = Settings {
            single_copy: [SingleCopyMode::Off, SingleCopyMode::Force][seed as usize % 2],
            ..at(ThreadLevel::Single)
        };
        let (engine, world) = engine_of(&segment, 0, settings);
        let (other, theirs) = engine_of(&segment, 1, settings);
        let (data, mut got) = (pattern(70_000, 1), vec![vec![0; 70_000]; 8]);
        let start = |from: &Engine, comm: &Comm, tag| {
            let len = [1, 20, 500, 2040, 3000, 70_000][tag as usize % 6];
            let mode = [SendMode::Standard, SendMode::Synchronous][tag as usize % 2];
            let to = Peer::Rank(1 - comm.rank());
            drop(from.start_send(comm, to, tag, out(&data[..len]), mode, here()));
        };
        for tag in 0..12 {
            start(&other, &theirs, tag);
            start(&engine, &world, tag);
        }
        let posted: Vec<_> = got
            .iter_mut()
            .zip([0, 3, 5, 1])
            .map(|(got, tag)| {
                engine
                    .start_receive(&world, Peer::Any, Some(tag), into(got), here())
                    .unwrap()
            })
            .collect();
        let map = segment.layout();
        for _ in 0..numbers.below(12) {
            let line = numbers.below(8) as usize * 128 + numbers.below(8) as usize * 8;
            let stream = map.stream(1, numbers.below(STREAMS as u64) as usize);
            let place = match numbers.below(5) {
                0 => map.credit(0, 1) + 8 * numbers.below(3) as usize,
                1 => stream + LINE * numbers.below(2) as usize,
                _ => map.lane(1, 0) + line,
            };
            let word = segment.u64(place);
            let old = word.load(Ordering::Relaxed);
            let value = match numbers.below(4) {
                0 => old ^ 1 << numbers.below(64),
                1 => old & !0xffff_ffff | numbers.below(1 << 32),
                2 => u64::MAX - numbers.below(100_000),
                _ => numbers.below(u64::MAX),
            };
            word.store(value, Ordering::Relaxed);
        }
        for round in 0..20 {
            if engine.progress().is_err() || other.progress().is_err() {
                break;
            }
            for (at, &request) in posted.iter().enumerate() {
                if at == round {
                    drop(engine.test(request, here(), drop));
                }
            }
            if let Ok(Some(message)) =
                engine.immediate_matched_probe(&world, Peer::Any, None, here())
            {
                let span = into(&mut got[4 + round % 4]);
                drop(engine.start_matched_receive(message, span, here()));
            }
        }
    }
}

#[test]
fn a_collective_that_nobody_else_joins_does_not_keep_finalize_for_ever() {
    let segment = Arc::new(Segment::private(2).unwrap());
    let (engine, world) = engine_of(&segment, 0, at(ThreadLevel::Single));
    let (other, _) = engine_of(&segment, 1, at(ThreadLevel::Single));
    let start = StartSchedule {
        schedule: Schedule {
            scratch: 0,
            rounds: vec![Round {
                transfers: vec![Transfer::Receive {
                    from: 1,
                    part: 0..0,
                }],
                then: Vec::new(),
            }],
        },
        scratch: Vec::new(),
        combine: None,
        results: Vec::new(),
        signature: Signature(1 << 58),
        sequence: 1,
    };
    engine.start_schedule(&world, start, here()).unwrap();
    other.finalize(here()).unwrap();
    let error = engine.finalize(here()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Gone, "{error}");
}

/// Receives are posted and taken back while messages come in: each message is received once, in order.
#[test]
fn cancelled_receives_lose_no_message() {
    ranks_with(2, at(ThreadLevel::Single), |engine, world| {
        const MANY: i32 = 2000;
        let peer = Peer::Rank(1 - world.rank());
        let len = |value: i32| [1, 30, 2500, 20_000][value as usize % 4];
        if world.rank() == 1 {
            for value in 0..MANY {
                let mode = [SendMode::Standard, SendMode::Synchronous][value as usize % 2];
                engine
                    .send(
                        world,
                        peer,
                        0,
                        &out(&pattern(len(value), value)),
                        mode,
                        here(),
                    )
                    .unwrap();
            }
            return;
        }
        let (mut value, mut cancelled) = (0, 0);
        let mut numbers = Numbers(7);
        while value < MANY {
            let mut got = vec![0; 20_000];
            let from = [peer, Peer::Any][numbers.below(2) as usize];
            let request = engine
                .start_receive(world, from, None, into(&mut got), here())
                .unwrap();
            for _ in 0..numbers.below(3) {
                engine.progress().unwrap();
            }
            engine.cancel(request, here()).unwrap();
            let status = engine.wait(request, here()).unwrap();
            if status.cancelled {
                cancelled += 1;
                continue;
            }
            assert_eq!(got[..len(value)], pattern(len(value), value));
            value += 1;
        }
        assert!(cancelled > 0);
    });
}

/// A rank whose own messages are always there at once still answers those who wait for it. One thread plays all three ranks.
#[test]
fn receives_that_never_wait_make_progress_on_the_rest() {
    let segment = Arc::new(Segment::private(3).unwrap());
    let settings = at(ThreadLevel::Single);
    let [(busy, a), (waiting, b), (sender, c)] =
        [0, 1, 2].map(|rank| engine_of(&segment, rank, settings));
    let data = pattern(1000, 1);
    let mut got = vec![0; 1000];
    let send = busy
        .start_send(
            &a,
            Peer::Rank(1),
            0,
            out(&data),
            SendMode::Synchronous,
            here(),
        )
        .unwrap();
    let receive = waiting
        .start_receive(&b, Peer::Rank(0), None, into(&mut got), here())
        .unwrap();
    assert_eq!(waiting.test(receive, here(), drop).unwrap(), None);
    // The answer to the send lies in a lane that these receives have no reason to look at.
    for value in 0..100 {
        let (to, mut next) = (Peer::Rank(0), [0]);
        sender
            .send(&c, to, 0, &out(&[value]), SendMode::Standard, here())
            .unwrap();
        busy.receive(&a, Peer::Rank(2), None, &into(&mut next), here())
            .unwrap();
        assert_eq!(next, [value]);
    }
    assert!(waiting.test(receive, here(), drop).unwrap().is_some());
    assert!(busy.test(send, here(), drop).unwrap().is_some());
    assert_eq!(got, data);
}
