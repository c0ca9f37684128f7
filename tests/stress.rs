//! Much of one thing, between ranks that are processes, and once more between ranks that are threads: it behaves as MPI says, in bounded
//! memory. scripts/test runs it in both waiting modes. The tests that took a minute where a hypervisor had most of the cores' time, and five seconds
//! else, have a longer limit: what they do is of one amount, and a limit is for what hangs.
use std::fs;
use tercio::collective::SystemOperation;
use tercio::point_to_point::send_receive_with_tags;
use tercio::request::{LocalScope, RequestCollection, multiple_scope, scope};
use tercio::topology::{Color, SimpleCommunicator};
use tercio::traits::*;

/// Numbers that are the same in every run, for whoever starts with the same seed.
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next, below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// How a rank may be blocked until the last rank has something for it.
const BLOCKS: [fn(&SimpleCommunicator); 6] = [
    |world| {
        let (word, _) = last(world).receive::<i32>();
        assert_eq!(word, 7);
    },
    |world| {
        let mut word = [0];
        world.any_process().receive_into_with_tag(&mut word, WORD);
        assert_eq!(word, [7]);
    },
    |world| {
        assert_eq!(last(world).probe().tag(), WORD);
        assert_eq!(last(world).receive_vec::<i32>().0, [7]);
    },
    |world| {
        let (message, _) = world.any_process().matched_probe();
        assert_eq!(message.matched_receive::<i32>().0, 7);
    },
    |world| {
        let mut word = 0;
        scope(|scope| {
            last(world).immediate_receive_into(scope, &mut word).wait();
        });
        assert_eq!(word, 7);
    },
    |world| {
        let (word, _): (i32, _) =
            send_receive_with_tags(&0, &last(world), WORD, &last(world), WORD);
        assert_eq!(word, 7);
    },
];

const WORD: i32 = 3;

fn last(world: &SimpleCommunicator) -> tercio::topology::Process<'_> {
    world.process_at_rank(world.size() - 1)
}

/// Starts `count` collectives of several kinds and sizes, each of which needs something of every rank.
fn start_collectives<'a>(
    world: &SimpleCommunicator,
    scope: &LocalScope<'a>,
    requests: &mut RequestCollection<'a, [i64]>,
    send: &'a [Vec<i64>],
    receive: &'a mut [Vec<i64>],
) {
    let size = world.size() as usize;
    for (number, (mine, all)) in send.iter().zip(receive).enumerate() {
        let root = world.process_at_rank((number % size) as i32);
        requests.add(match number % 4 {
            0 => world.immediate_all_reduce_into(
                scope,
                &mine[..],
                &mut all[..mine.len()],
                SystemOperation::sum(),
            ),
            1 => world.immediate_all_gather_into(scope, &mine[..], &mut all[..]),
            2 => world.immediate_all_to_all_into(
                scope,
                &mine[..mine.len() / size * size],
                &mut all[..mine.len() / size * size],
            ),
            _ if root.is_self() => {
                all[..mine.len()].copy_from_slice(mine);
                root.immediate_broadcast_into(scope, &mut all[..mine.len()])
            }
            _ => root.immediate_broadcast_into(scope, &mut all[..mine.len()]),
        });
    }
}

/// What collective `number` must give to `rank`.
fn check_collective(
    number: usize,
    (rank, size): (usize, usize),
    all: &[i64],
    of: impl Fn(usize) -> Vec<i64>,
) {
    let mine = of(rank);
    match number % 4 {
        0 => {
            let all_of: Vec<Vec<i64>> = (0..size).map(&of).collect();
            for (place, sum) in all[..mine.len()].iter().enumerate() {
                assert_eq!(*sum, all_of.iter().map(|of| of[place]).sum::<i64>());
            }
        }
        1 => assert!((0..size).flat_map(&of).eq(all.iter().copied())),
        2 => {
            let part = mine.len() / size;
            let parts = (0..size).flat_map(|from| of(from)[rank * part..][..part].to_vec());
            assert!(parts.eq(all[..part * size].iter().copied()));
        }
        _ => assert_eq!(of(number % size), all[..mine.len()]),
    }
}

#[tercio::test(np = [2, 4])]
fn a_rank_blocked_in_a_message_progresses_128_collectives_of_the_others(world: SimpleCommunicator) {
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    for (round, block) in BLOCKS.iter().enumerate() {
        let length = |number: usize| [1, 5, 300, 9000][(number + round) / 4 % 4];
        let data = |number: usize, rank: usize| -> Vec<i64> {
            (0..length(number))
                .map(|place| (place * 3 + number * 1000 + rank * 100_000) as i64)
                .collect()
        };
        let send: Vec<Vec<i64>> = (0..128).map(|number| data(number, rank)).collect();
        let mut receive: Vec<Vec<i64>> =
            send.iter().map(|mine| vec![0; mine.len() * size]).collect();
        multiple_scope(128, |scope, requests| {
            start_collectives(&world, scope, requests, &send, &mut receive);
            if rank == 0 {
                // Nothing here waits for a collective, and the others send only when all of theirs are complete.
                block(&world);
            }
            let mut done = Vec::new();
            requests.wait_all(&mut done);
            assert_eq!(done.len(), 128);
            drop(done);
            let finished = world.process_at_rank(0);
            if rank != 0 && rank + 1 < size {
                last(&world).send_with_tag(&rank, 1);
            } else if rank != 0 {
                for other in 1..size - 1 {
                    world
                        .process_at_rank(other as i32)
                        .receive_with_tag::<usize>(1);
                }
                finished.send_with_tag(&7, WORD);
                if round + 1 == BLOCKS.len() {
                    finished.receive::<i32>();
                }
            }
        });
        for (number, all) in receive.iter().enumerate() {
            check_collective(number, (rank, size), all, |rank| data(number, rank));
        }
    }
}

#[tercio::test(np = [2, 3, 4])]
fn of_128_barriers_none_ends_before_all_ranks_have_come(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    for round in 0..3 {
        let late = (round % size as usize) as i32;
        if rank == late {
            // The others say when they have found theirs open.
            for other in (0..size).filter(|other| *other != late) {
                world.process_at_rank(other).receive::<i32>();
            }
        }
        let mut barriers: Vec<_> = (0..128).map(|_| world.immediate_barrier()).collect();
        if rank != late {
            barriers = barriers
                .into_iter()
                .map(|barrier| barrier.test().expect_err("not all have come"))
                .collect();
            world.process_at_rank(late).send(&rank);
        }
        match round {
            0 => barriers
                .into_iter()
                .rev()
                .for_each(|barrier| barrier.wait_without_status()),
            1 => while tercio::request::wait_any(&mut barriers).is_some() {},
            _ => {
                while let Some(barrier) = barriers.pop() {
                    if let Err(open) = barrier.test() {
                        barriers.push(open);
                    }
                }
            }
        }
    }
}

#[tercio::test(np = 3)]
fn wildcard_receives_waited_for_backwards_get_what_came_in_their_order(world: SimpleCommunicator) {
    const MANY: usize = 200;
    if world.rank() != 0 {
        let large = vec![world.rank(); 30_000];
        for number in 0..MANY as i32 / 2 {
            let root = world.process_at_rank(0);
            match number % 10 {
                0 => root.send_with_tag(&large, number),
                _ => root.send_with_tag(&[world.rank()][..], number),
            }
        }
        return;
    }
    let mut buffers = vec![vec![0; 30_000]; MANY];
    let mut statuses = Vec::new();
    scope(|scope| {
        let any = world.any_process();
        let receives: Vec<_> = buffers
            .iter_mut()
            .map(|buffer| any.immediate_receive_into(scope, &mut buffer[..]))
            .collect();
        statuses.extend(receives.into_iter().rev().map(|receive| receive.wait()));
    });
    // In the order of posting: of each rank one message after the other.
    let mut next = [0; 3];
    for (status, buffer) in statuses.iter().rev().zip(&buffers) {
        let from = status.source_rank();
        assert_eq!(status.tag(), next[from as usize]);
        next[from as usize] += 1;
        let length = status.count(i32::equivalent_datatype()) as usize;
        assert_eq!(length, if status.tag() % 10 == 0 { 30_000 } else { 1 });
        assert!(buffer[..length].iter().all(|word| *word == from));
    }
    assert_eq!(next, [0, MANY as i32 / 2, MANY as i32 / 2]);
}

/// What a batch of messages is made of: a tag and a length of each.
fn batch(numbers: &mut Numbers) -> Vec<(i32, usize)> {
    (0..64)
        .map(|_| {
            let tag = match numbers.below(20) {
                0 => i32::MAX - numbers.below(3) as i32,
                1 => numbers.below(1 << 30) as i32,
                _ => numbers.below(12) as i32,
            };
            let length = match numbers.below(200) {
                0 => numbers.below(20_000),
                1..20 => numbers.below(100),
                _ => 1,
            };
            (tag, length.max(1))
        })
        .collect()
}

/// Every rank sends to the next and receives from the one before, a batch at a time; the receiver takes the tags of a batch in an order of its own.
fn messages_with_random_tags(world: &SimpleCommunicator, count: usize) {
    let (rank, size) = (world.rank(), world.size());
    let next = world.process_at_rank((rank + 1) % size);
    let previous = world.process_at_rank((rank + size - 1) % size);
    let (mut mine, mut theirs) = (
        Numbers::new(rank as u64),
        Numbers::new(previous.rank() as u64),
    );
    let mut choice = Numbers::new(1000 + rank as u64);
    let data: Vec<u64> = (0..20_000).map(|place| place * 7).collect();
    let mut room = vec![0; data.len()];
    let batch_of = |number: u64, numbers: &mut Numbers| -> Vec<(i32, Vec<u64>)> {
        let shapes = batch(numbers).into_iter().enumerate();
        shapes
            .map(|(place, (tag, length))| {
                let mut message = data[..length].to_vec();
                message[0] = number * 64 + place as u64;
                (tag, message)
            })
            .collect()
    };
    let mut receive = |number: u64| {
        let mut open = batch(&mut theirs);
        let mut places: Vec<usize> = (0..open.len()).collect();
        while !open.is_empty() {
            // The first message with a tag that is drawn, or the first of all.
            let drawn = match choice.below(4) {
                0 => None,
                _ => Some(open[choice.below(open.len())].0),
            };
            let at = open
                .iter()
                .position(|(tag, _)| drawn.is_none_or(|drawn| drawn == *tag))
                .unwrap();
            let ((tag, length), place) = (open.remove(at), places.remove(at));
            let status = match drawn {
                Some(tag) => previous.receive_into_with_tag(&mut room[..length], tag),
                None => previous.receive_into(&mut room[..length]),
            };
            assert_eq!(
                (status.tag(), status.count(u64::equivalent_datatype())),
                (tag, length as i32)
            );
            assert_eq!(room[0], number * 64 + place as u64);
            assert_eq!(room[1..length], data[1..length]);
        }
    };
    for number in 0..(count / size as usize).div_ceil(64) as u64 {
        let messages = batch_of(number, &mut mine);
        multiple_scope(messages.len(), |scope, requests| {
            for (tag, message) in &messages {
                requests.add(next.immediate_send_with_tag(scope, &message[..], *tag));
            }
            receive(number);
            requests.wait_all(&mut Vec::new());
        });
    }
}

#[tercio::test(np = 2, timeout = 900)]
fn a_million_messages_with_random_tags_keep_the_order_of_each(world: SimpleCommunicator) {
    messages_with_random_tags(&world, 1_000_000);
}

#[tercio::test(np = 6, timeout = 900)]
fn ranks_that_outnumber_the_cores_exchange_messages_with_random_tags(world: SimpleCommunicator) {
    messages_with_random_tags(&world, 200_000);
}

/// KiB of memory that this process has, its part of the job's shared memory included.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tercio::test(np = [2, 3], timeout = 900)]
fn a_hundred_thousand_splits_leave_nothing_behind(world: SimpleCommunicator) {
    let grown = splits(&world, 100_000);
    assert!(grown < 2048, "{grown} KiB more than after a tenth of them");
}

/// Splits `world` so often; KiB of memory that came after the first tenth of them.
fn splits(world: &SimpleCommunicator, count: i32) -> u64 {
    let (rank, size) = (world.rank(), world.size());
    let mut kept: Vec<Option<SimpleCommunicator>> = (0..8).map(|_| None).collect();
    let mut settled = 0;
    for number in 0..count {
        let color = match (rank + number) % 3 {
            0 if number % 5 == 0 => Color::undefined(),
            part => Color::with_value(part / 2),
        };
        let split = world.split_by_color_with_key(color, -rank);
        let members: Vec<i32> = (0..size)
            .rev()
            .filter(|other| match (other + number) % 3 {
                0 if number % 5 == 0 => false,
                part => color_of(rank + number) == part / 2,
            })
            .collect();
        let Some(comm) = &split else {
            assert!((rank + number) % 3 == 0 && number % 5 == 0);
            continue;
        };
        assert_eq!(comm.size() as usize, members.len());
        assert_eq!(members[comm.rank() as usize], rank);
        if number % 500 == 1 {
            // It works, beside those that are kept.
            for comm in kept.iter().flatten().chain([comm]) {
                let mut sum = 0;
                comm.all_reduce_into(&1, &mut sum, SystemOperation::sum());
                assert_eq!(sum, comm.size());
            }
        }
        if number % 2000 == 3 {
            kept[number as usize / 2000 % 8] = split;
        }
        if number == count / 10 + 1 {
            settled = resident();
        }
    }
    assert!(settled > 0);
    resident().saturating_sub(settled)
}

fn color_of(number: i32) -> i32 {
    number % 3 / 2
}

/// The same between threads.
mod threads {
    use super::*;
    use tercio::testing::ranks;

    #[test]
    fn a_rank_blocked_in_a_message_progresses_collectives() {
        ranks(
            3,
            a_rank_blocked_in_a_message_progresses_128_collectives_of_the_others,
        );
    }

    #[test]
    fn barriers_end_when_all_have_come() {
        ranks(3, of_128_barriers_none_ends_before_all_ranks_have_come);
    }

    #[test]
    fn wildcard_receives_get_what_came_in_their_order() {
        ranks(
            3,
            wildcard_receives_waited_for_backwards_get_what_came_in_their_order,
        );
    }

    #[test]
    fn messages_with_random_tags_keep_their_order() {
        ranks(3, |world| messages_with_random_tags(&world, 300_000));
    }

    #[test]
    fn splits_go_on() {
        ranks(3, |world| {
            splits(&world, 20_000);
        });
    }
}
