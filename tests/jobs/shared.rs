//! Buffers that the ranks of a host read where they lie, as whole jobs.
use crate::parts::PART;
use crate::support::{Mark, timed, trial, verdict};
use libtest_mimic::Trial;
use std::time::Duration;
use tercio::collective::SystemOperation;
use tercio::datatype::SharedBuffer;
use tercio::request::{WaitGuard, scope};
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

pub fn tests() -> Vec<Trial> {
    vec![
        trial("shared_buffers_arrive_whole", contents),
        trial("shared_buffers_go_through_sockets_too", over_sockets),
        trial(
            "without_room_for_heaps_shared_buffers_are_ordinary",
            without_heaps,
        ),
        trial(
            "a_sender_killed_while_its_shared_buffer_is_read_ends_the_job",
            killed,
        ),
        trial(
            "a_root_killed_while_its_shared_buffer_is_read_ends_the_job",
            || killed_in_broadcast(0),
        ),
        trial(
            "a_rank_killed_while_it_reads_a_shared_buffer_ends_the_job",
            || killed_in_broadcast(1),
        ),
        trial("a_mismatch_on_shared_buffers_is_told", mismatch),
    ]
}

/// A job of `ranks` ranks that do `what` with shared buffers.
fn run(ranks: usize, what: &str, transport: &str) {
    let mark = Mark::new();
    let way = [("TERCIO_TRANSPORT", transport)];
    let (outcome, _) = timed(mark.part_with(ranks, "shared", &[what], &way));
    assert_eq!(outcome.code, 0, "{}", verdict(&outcome));
    mark.assert_nothing_left();
}

fn contents() {
    run(2, "contents", "auto");
    run(3, "contents", "auto");
}

fn over_sockets() {
    run(3, "contents", "tcp");
}

fn without_heaps() {
    let mark = Mark::new();
    let me = std::env::current_exe().unwrap();
    let script = format!("export {PART}=shared; exec '{}' refused", me.display());
    let launcher = mark.launcher(2, &script, &["files-without-heaps"]);
    let (code, _, errors) = launcher.finish();
    assert_eq!(code, Some(0), "{errors}");
}

fn killed() {
    let mark = Mark::new();
    let (outcome, _) = timed(mark.part(2, "shared", &["killed"]));
    assert_eq!(outcome.code, 137, "{}", verdict(&outcome));
    assert!(
        verdict(&outcome).contains("rank 0"),
        "{}",
        verdict(&outcome)
    );
    mark.assert_nothing_left();
}

fn killed_in_broadcast(victim: usize) {
    let mark = Mark::new();
    let who = victim.to_string();
    let (outcome, _) = timed(mark.part(3, "shared", &["killed-in-broadcast", &who]));
    assert_eq!(outcome.code, 137, "{}", verdict(&outcome));
    assert!(
        verdict(&outcome).contains(&format!("rank {victim}")),
        "{}",
        verdict(&outcome)
    );
    mark.assert_nothing_left();
}

fn mismatch() {
    let mark = Mark::new();
    let (outcome, _) = timed(mark.part(2, "shared", &["mismatch"]));
    assert_eq!(outcome.code, 120, "{}", verdict(&outcome));
    assert!(
        verdict(&outcome).contains("broadcast"),
        "{}",
        verdict(&outcome)
    );
    mark.assert_nothing_left();
}

/// The rank's part.
pub fn shared() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    match std::env::args().nth(1).as_deref() {
        Some("contents") => {
            assert!(SharedBuffer::filled(&world, 1, 0_u8).is_shared());
            exchange(&world);
            collect(&world);
        }
        Some("refused") => {
            assert!(!SharedBuffer::filled(&world, 1, 0_u8).is_shared());
            exchange(&world);
            collect(&world);
        }
        Some("killed") => be_killed(&world),
        Some("killed-in-broadcast") => {
            let victim = std::env::args().nth(2).and_then(|who| who.parse().ok());
            be_killed_in_broadcast(&world, victim.unwrap());
        }
        Some("mismatch") => differ(&world),
        what => panic!("there is no {what:?}"),
    }
    // It outlives the universe.
    let mut late = SharedBuffer::filled(&world, 100, 1_u8);
    drop(universe);
    late[99] = 2;
    assert_eq!((late[0], late[99]), (1, 2));
}

const SIZES: [usize; 8] = [0, 1, 100, 1023, 1025, 8192, 50_000, 300_001];
/// Of a rank's part in a collective.
const PARTS: [usize; 6] = [0, 5, 500, 2000, 9000, 70_001];

fn value(from: i32, round: usize, i: usize) -> u64 {
    (from as u64) << 56 | (round as u64) << 40 | i as u64
}

/// Every rank sends to every other at the same time: the whole buffer, a part of it, and from ordinary memory.
fn exchange(world: &SimpleCommunicator) {
    let (me, ranks) = (world.rank(), world.size());
    let mut kept = SharedBuffer::filled(world, 300_001, 0_u64);
    for (round, &len) in SIZES.iter().enumerate() {
        let mut fresh = SharedBuffer::filled(world, len, 0_u64);
        for i in 0..len {
            fresh[i] = value(me, round, i);
            kept[i] = !value(me, round, i);
        }
        let ordinary = fresh.to_vec();
        // Not at a page's beginning, and not at a line's.
        let part = len / 3..len - len / 7;
        for to in (0..ranks).filter(|&to| to != me) {
            let peer = world.process_at_rank(to);
            let mut into = SharedBuffer::filled(world, len, 0_u64);
            let (mut whole, mut cut) = (vec![0; len], vec![0; part.len()]);
            scope(|scope| {
                let _sends = [
                    WaitGuard::from(peer.immediate_send_with_tag(scope, &fresh[..], 1)),
                    WaitGuard::from(peer.immediate_send_with_tag(scope, &kept[part.clone()], 2)),
                    WaitGuard::from(peer.immediate_send_with_tag(scope, &ordinary[..], 3)),
                    WaitGuard::from(peer.immediate_synchronous_send_with_tag(scope, &fresh[..], 4)),
                ];
                peer.receive_into_with_tag(&mut into, 3);
                assert!((0..len).all(|i| into[i] == value(to, round, i)));
                into.fill(0);
                peer.receive_into_with_tag(&mut into, 1);
                peer.receive_into_with_tag(&mut cut[..], 2);
                let (vector, status) = peer.receive_vec_with_tag::<u64>(4);
                assert_eq!(status.count(u64::equivalent_datatype()) as usize, len);
                whole.copy_from_slice(&vector);
            });
            assert!((0..len).all(|i| into[i] == value(to, round, i) && whole[i] == into[i]));
            assert!(
                part.clone()
                    .all(|i| cut[i - part.start] == !value(to, round, i))
            );
        }
    }
}

/// Whichever ranks have shared buffers, and whatever they write to them as soon as a call returns.
fn collect(world: &SimpleCommunicator) {
    let (me, ranks) = (world.rank(), world.size());
    for (round, &len) in PARTS.iter().enumerate() {
        for sharing in 0..1_usize << ranks {
            let mut buffer = if sharing >> me & 1 == 1 {
                SharedBuffer::filled(world, len + 3, 0_u64)
            } else {
                // As an ordinary buffer of the same type.
                SharedBuffer::filled(world, 0, 0_u64)
            };
            let mut ordinary = vec![0; if buffer.is_empty() { len + 3 } else { 0 }];
            let own = if buffer.is_empty() {
                &mut ordinary[..]
            } else {
                &mut buffer[..]
            };
            let own = &mut own[1..=len];
            for root in 0..ranks {
                let term =
                    |rank: i32, i: usize| value(rank, round, i).wrapping_mul(2 * root as u64 + 3);
                let fill = |own: &mut [u64]| {
                    own.iter_mut()
                        .enumerate()
                        .for_each(|(i, x)| *x = term(me, i));
                };
                let sum =
                    |i: usize| (0..ranks).fold(0_u64, |sum, rank| sum.wrapping_add(term(rank, i)));
                let mut sums = vec![0; len];
                let process = world.process_at_rank(root);

                fill(own);
                world.all_reduce_into(&*own, &mut sums[..], SystemOperation::sum());
                own.fill(u64::MAX);
                assert!((0..len).all(|i| sums[i] == sum(i)));

                fill(own);
                sums.fill(0);
                if me == root {
                    process.reduce_into_root(&*own, &mut sums[..], SystemOperation::sum());
                    assert!((0..len).all(|i| sums[i] == sum(i)));
                } else {
                    process.reduce_into(&*own, SystemOperation::sum());
                }
                own.fill(u64::MAX);

                fill(own);
                process.broadcast_into(own);
                assert!((0..len).all(|i| own[i] == term(root, i)));
                own.fill(u64::MAX);

                fill(own);
                let mut all = vec![0; len * ranks as usize];
                world.all_gather_into(&*own, &mut all[..]);
                own.fill(u64::MAX);
                let gathered = |all: &[u64]| {
                    (0..ranks)
                        .all(|rank| (0..len).all(|i| all[rank as usize * len + i] == term(rank, i)))
                };
                assert!(gathered(&all));
                fill(own);
                if me == root {
                    all.fill(0);
                    process.gather_into_root(&*own, &mut all[..]);
                    assert!(gathered(&all));
                } else {
                    process.gather_into(&*own);
                }
                own.fill(u64::MAX);
            }
        }
    }
}

/// Rank 1 reads what rank 0 sends, and kills it amid that.
fn be_killed(world: &SimpleCommunicator) {
    const LEN: usize = 32 << 20;
    if world.rank() == 0 {
        let mut buffer = SharedBuffer::filled(world, LEN, 0_u8);
        let peer = world.process_at_rank(1);
        peer.send(&std::process::id());
        for round in 0.. {
            buffer.fill(round);
            peer.send(&buffer);
        }
    }
    let peer = world.process_at_rank(0);
    let (pid, _) = peer.receive::<u32>();
    let mut into = vec![0_u8; LEN];
    for round in 0.. {
        if round == 3 {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(3));
                crate::support::kill(pid, libc::SIGKILL);
            });
        }
        peer.receive_into(&mut into[..]);
        assert!(into.iter().all(|&x| x == round));
    }
}

/// All read what rank 0 broadcasts in place, in the ninth call of that kind and a few more at the latest; amid that `victim` is killed.
fn be_killed_in_broadcast(world: &SimpleCommunicator, victim: i32) {
    const LEN: usize = 32 << 20;
    let mut pids = vec![0_u32; world.size() as usize];
    world.all_gather_into(&std::process::id(), &mut pids[..]);
    let mut buffer = SharedBuffer::filled(world, LEN, 0_u8);
    for round in 0.. {
        if round == 10 && world.rank() == 2 {
            let pid = pids[victim as usize];
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(3));
                crate::support::kill(pid, libc::SIGKILL);
            });
        }
        if world.rank() == 0 {
            buffer.fill(round);
        }
        world.process_at_rank(0).broadcast_into(&mut buffer);
        assert!(buffer.iter().all(|&x| x == round));
    }
}

/// The root would wait until its buffer has been read by a rank that does something else.
fn differ(world: &SimpleCommunicator) {
    let mut buffer = SharedBuffer::filled(world, 100_000, 0_u8);
    // The next one is one of those that go in place to see how long that takes.
    for _ in 0..10 {
        world.process_at_rank(0).broadcast_into(&mut buffer);
    }
    if world.rank() == 0 {
        world.process_at_rank(0).broadcast_into(&mut buffer);
    } else {
        world.barrier();
    }
}
