//! Collectives of several hosts, all of which are this one: what they give, to the bit, and what crosses between hosts.
use crate::parts::PART;
use crate::support::{timed, trial, verdict};
use libtest_mimic::Trial;
use std::time::Duration;
use tercio::collective::{SystemOperation, UserOperation};
use tercio::launch::{Host, Job, Output, Program, Reach};
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

pub fn tests() -> Vec<Trial> {
    vec![
        trial("a_host_is_sent_the_same_bytes_once", once),
        trial("reductions_have_the_same_bits_whatever_messages_cost", bits),
        trial(
            "different_collectives_on_different_hosts_are_named",
            mismatch,
        ),
    ]
}

/// Ranks of `part` on hosts as named by `places`: a host's number for each rank.
fn job(part: &str, places: &[usize], costs: &str) -> Job {
    let me = std::env::current_exe().unwrap();
    let mut job = Job::new().program(
        Program::new(&me, places.len())
            .env(PART, part)
            .env("RUST_BACKTRACE", "0")
            .env("TERCIO_INTERFACE", "lo")
            .env("TERCIO_COSTS", costs),
    );
    for (host, name) in ["localhost", "two", "three"].into_iter().enumerate() {
        let ranks: Vec<usize> = (0..places.len()).filter(|r| places[*r] == host).collect();
        let there = || Reach::Command {
            words: vec!["env".into(), "TERCIO_ROLE=agent".into(), me.clone().into()],
            push: false,
        };
        if !ranks.is_empty() {
            job = job.host(Host {
                name: name.into(),
                reach: if host == 0 { Reach::Here } else { there() },
                ranks,
            });
        }
    }
    job.timeout(Duration::from_secs(50))
        .output(Output::Capture { tag: false })
}

fn run(job: Job) -> String {
    let (outcome, _) = timed(job);
    assert_eq!(outcome.code, 0, "{}", verdict(&outcome));
    String::from_utf8(outcome.stdout).unwrap()
}

/// What each way of a broadcast is the cheapest with.
const WAYS: [&str; 3] = [
    // Connections without end and none inside: a tree of leaders.
    "between.latency=1000000;between.kib=1;host.kib=1;inside.kib=1",
    // Blocks that follow each other.
    "between.latency=1;between.kib=1000;host.kib=1000;inside.kib=1;inside.latency=100000",
    // One connection takes long, a host none.
    "between.latency=1;between.kib=9000;host.kib=1;inside.kib=1;inside.latency=0",
];

const LENGTH: usize = 3_000_000;

fn once() {
    for costs in WAYS {
        let told = run(job("across-once", &[0, 1, 1, 1, 1], costs));
        let words: Vec<u64> = told
            .split_whitespace()
            .map(|w| w.parse().unwrap())
            .collect();
        // Greetings, heads of frames, and what came before.
        let (came, most) = (words[0], LENGTH as u64 + 40_000);
        assert!(
            (LENGTH as u64..most).contains(&came),
            "{came} bytes came to the host with {costs}"
        );
    }
}

/// Bytes that all TCP connections of this process have received, as the system counts them.
fn received() -> u64 {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let count = |number: i32| {
        // The offset of tcpi_bytes_received; the crate libc's structure ends before it.
        const AT: usize = 128;
        let mut info = [0_u8; 192];
        let mut len = info.len() as libc::socklen_t;
        // SAFETY: the system writes up to `len` bytes into `info`.
        let result = unsafe {
            libc::getsockopt(
                number,
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &mut len,
            )
        };
        let word: [u8; 8] = info[AT..AT + 8].try_into().unwrap();
        if result == 0 {
            u64::from_ne_bytes(word)
        } else {
            0
        }
    };
    numbers.map(count).sum()
}

/// Rank 0 broadcasts to the ranks of another host, which say how much came to all of them.
pub fn sends_once() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let mut data = vec![0_u8; LENGTH];
    if world.rank() == 0 {
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = (i * 7 / 3) as u8;
        }
    }
    // From the beginning of all connections: who is first sends while others have not begun to look.
    world.process_at_rank(0).broadcast_into(&mut data[..1]);
    world.barrier();
    world.process_at_rank(0).broadcast_into(&mut data[..]);
    let came = received();
    assert!(
        data.iter()
            .enumerate()
            .all(|(i, byte)| *byte == (i * 7 / 3) as u8)
    );
    let mut all = 0_u64;
    let own = if world.rank() == 0 { 0 } else { came };
    world.all_reduce_into(&own, &mut all, SystemOperation::sum());
    if world.rank() == 0 {
        println!("{all}");
    }
}

fn bits() {
    let cheap_or_dear = [
        "between.latency=1000000;combine.kib=0",
        "between.latency=0;between.kib=100000;host.kib=1",
        "between.latency=1;between.kib=1;host.kib=100000;combine.kib=100000",
        "inside.latency=1000000;inside.kib=100000",
    ];
    for places in [&[0, 0, 0, 1, 2, 2][..], &[0, 1, 2, 0, 2]] {
        let mut first = None;
        for costs in cheap_or_dear {
            let told = run(job("across-bits", places, costs));
            assert!(told.lines().count() > 5, "{told}");
            assert_eq!(*first.get_or_insert(told.clone()), told, "{costs}");
        }
        // Where the ranks are changes nothing either.
        let here = run(job("across-bits", &vec![0; places.len()], ""));
        assert_eq!(first.unwrap(), here);
    }
}

fn number(rank: i32, i: usize) -> f64 {
    let odd = (rank as usize * 7919 + i * 104_729) % 1000;
    (odd as f64 - 499.5) * 10_f64.powi((odd % 21) as i32 - 10)
}

fn mixed(bits: impl Iterator<Item = u64>) -> u64 {
    bits.fold(7, |sum, bits| {
        (sum ^ bits).wrapping_mul(0x5851_f42d_4c95_7f2d)
    })
}

/// Sums of floats and an operation in which order shows, in all forms; rank 0 tells what came out.
pub fn reduces() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    for length in [1, 100, 40_000, 120_000] {
        let own: Vec<f64> = (0..length).map(|i| number(world.rank(), i)).collect();
        let odd = UserOperation::associative(|input, inout| {
            let (input, inout): (&[f64], &mut [f64]) =
                (input.downcast().unwrap(), inout.downcast().unwrap());
            for (a, b) in input.iter().zip(inout) {
                *b = *a * 0.75 - *b;
            }
        });
        let mut result = vec![0.0; length];
        tell(&world, &result, |result| {
            world.all_reduce_into(&own[..], result, SystemOperation::sum())
        });
        tell(&world, &result, |result| {
            world.all_reduce_into(&own[..], result, &odd)
        });
        tell(&world, &result, |result| {
            world.scan_into(&own[..], result, &odd)
        });
        tell(&world, &result, |result| {
            tercio::request::scope(|scope| {
                world
                    .immediate_all_reduce_into(scope, &own[..], result, SystemOperation::sum())
                    .wait();
            })
        });
        let last = world.process_at_rank(world.size() - 1);
        match world.rank() == world.size() - 1 {
            true => last.reduce_into_root(&own[..], &mut result[..], &odd),
            false => last.reduce_into(&own[..], &odd),
        }
        tell(&world, &result, |_| {});
    }
}

/// Has everybody's result mixed together told by rank 0.
fn tell(world: &SimpleCommunicator, room: &[f64], reduce: impl FnOnce(&mut [f64])) {
    let mut result = room.to_vec();
    reduce(&mut result);
    let own = mixed(result.iter().map(|value| value.to_bits()));
    let mut all = vec![0_u64; world.size() as usize];
    world.all_gather_into(&own, &mut all[..]);
    if world.rank() == 0 {
        println!("{:x}", mixed(all.into_iter()));
    }
}

fn mismatch() {
    let (outcome, _) = timed(job("across-mismatch", &[0, 0, 1, 1, 2], ""));
    assert_eq!(outcome.code, 120, "{}", verdict(&outcome));
    let said = verdict(&outcome);
    assert!(
        said.contains("all members of a communicator must call the same"),
        "{said}"
    );
}

/// The last rank broadcasts more than the others expect.
pub fn differ() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let length = if world.rank() == 4 { 2_000_000 } else { 8 };
    let mut data = vec![0_u8; length];
    world.process_at_rank(4).broadcast_into(&mut data[..]);
    world.barrier();
}
