//! Ranks that reach each other through sockets, some of them or all: the rules of messages hold, and strangers spoil nothing.
use crate::parts::PART;
use crate::support::{timed, trial, verdict};
use libtest_mimic::Trial;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use tercio::datatype::{MutView, UserDatatype};
use tercio::launch::{Host, Job, Output, Program, Reach};
use tercio::request::{WaitGuard, scope};
use tercio::traits::*;

pub fn tests() -> Vec<Trial> {
    vec![
        trial("order_holds_across_lanes_and_sockets", mixed),
        trial("order_holds_across_encrypted_sockets", sealed),
        trial("a_peer_may_connect_and_send_while_a_rank_computes", busy),
        trial(
            "messages_that_are_gathered_leave_when_their_rank_waits",
            gathers,
        ),
        trial("sealed_messages_are_gathered_too", gathers_sealed),
        trial("short_messages_go_straight_and_in_order", straight),
        trial(
            "strangers_cost_their_own_sockets_and_nothing_else",
            strangers,
        ),
        trial("what_a_rank_sent_before_it_left_arrives", || leaves("0")),
        trial("what_a_rank_sealed_before_it_left_arrives", || leaves("1")),
        trial("a_job_of_several_hosts_spawns_nobody", spawns),
    ]
}

pub fn program(part: &str, ranks: usize) -> Program {
    let me = std::env::current_exe().unwrap();
    Program::new(me, ranks)
        .env(PART, part)
        .env("RUST_BACKTRACE", "0")
}

pub fn run(job: Job) {
    let job = job
        .timeout(Duration::from_secs(50))
        .output(Output::Capture { tag: false });
    let (outcome, _) = timed(job);
    assert_eq!(outcome.code, 0, "{}", verdict(&outcome));
}

/// Five ranks on three hosts, all of which are this one.
pub fn hosts(program: Program) -> Job {
    let agent = std::env::current_exe().unwrap();
    let there = || Reach::Command {
        words: vec![
            "env".into(),
            "TERCIO_ROLE=agent".into(),
            agent.clone().into(),
        ],
        push: false,
    };
    let host = |name: &str, reach, ranks: &[usize]| Host {
        name: name.into(),
        reach,
        ranks: ranks.to_vec(),
    };
    Job::new()
        .program(program.env("TERCIO_INTERFACE", "lo"))
        .host(host("localhost", Reach::Here, &[0, 3]))
        .host(host("two", there(), &[1, 4]))
        .host(host("three", there(), &[2]))
}

fn mixed() {
    run(hosts(program("mixed", 5)));
}

fn sealed() {
    let program = program("mixed", 4).env("TERCIO_TRANSPORT", "tcp");
    run(Job::new().program(program.env("TERCIO_ENCRYPT", "1")));
}

fn busy() {
    run(Job::new().program(program("busy", 2).env("TERCIO_TRANSPORT", "tcp")));
}

fn straight() {
    run(Job::new().program(program("straight", 3).env("TERCIO_TRANSPORT", "tcp")));
}

fn gathers() {
    run_gathering("0");
}

fn gathers_sealed() {
    run_gathering("1");
}

fn run_gathering(encrypt: &str) {
    let seen = std::env::temp_dir().join(format!("tercio-seen-{}-{encrypt}", std::process::id()));
    let program = program("gathers", 2)
        .env("TERCIO_TRANSPORT", "tcp")
        .env("TERCIO_ENCRYPT", encrypt)
        .env(SEEN, &seen);
    run(Job::new().program(program));
    std::fs::remove_file(seen).unwrap();
}

fn leaves(encrypt: &str) {
    let program = program("leaves", 2)
        .env("TERCIO_TRANSPORT", "tcp")
        .env("TERCIO_ENCRYPT", encrypt);
    run(Job::new().program(program));
}

fn strangers() {
    run(Job::new().program(program("strangers", 3).env("TERCIO_TRANSPORT", "tcp")));
}

fn spawns() {
    run(hosts(program("spawns-nobody", 5)));
}

/// Rank 0 sends as much as it may and leaves while rank 1 computes. That one tells credit as it takes the messages, which meets a closed socket, and takes
/// them slowly, for they go to every second byte of its memory.
pub fn leave() {
    const LEN: usize = 200_000;
    const MANY: usize = 18;
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let peer = world.process_at_rank(1 - world.rank());
    let mut data = vec![0_u8; LEN];
    // So much that the kernel keeps all of the rest for rank 1.
    for _ in 0..1000 {
        if world.rank() == 0 {
            peer.send(&data[..]);
        } else {
            peer.receive_into(&mut data[..]);
        }
    }
    if world.rank() == 0 {
        peer.receive::<u8>();
        for number in 0..MANY {
            data.fill(number as u8);
            peer.send(&data[..]);
        }
        return;
    }
    let second = UserDatatype::vector(LEN as i32, 1, 2, &u8::equivalent_datatype());
    let mut room = vec![vec![255_u8; 2 * LEN]; MANY];
    let mut views: Vec<_> = room
        .iter_mut()
        // SAFETY: every second byte of the room.
        .map(|room| unsafe { MutView::with_count_and_datatype(&mut room[..], 1, &second) })
        .collect();
    scope(|scope| {
        let receives: Vec<_> = views
            .iter_mut()
            .map(|view| WaitGuard::from(peer.immediate_receive_into(scope, view)))
            .collect();
        peer.send(&0_u8);
        thread::sleep(Duration::from_secs(1));
        drop(receives);
    });
    drop(views);
    for (number, room) in room.iter().enumerate() {
        assert!(room.chunks(2).all(|pair| pair == [number as u8, 255]));
    }
}

/// Blocking calls between ranks 0 and 1 for which the wanted message comes alone, behind another one, shorter than its room, long after the receive began, or
/// never as first; and rank 2, which calls while they talk.
pub fn go_straight() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let me = world.rank();
    let bytes =
        |round: usize, len: usize| -> Vec<u8> { (0..len).map(|at| (at + round) as u8).collect() };
    if me == 2 {
        for round in 0..20 {
            world.process_at_rank(0).send_with_tag(&round, 9);
            thread::sleep(Duration::from_millis(1));
        }
        let mut last = 0;
        world.process_at_rank(0).receive_into_with_tag(&mut last, 9);
        assert_eq!(last, 7);
        return;
    }
    let other = world.process_at_rank(1 - me);
    for round in 0..600 {
        let len = [
            0, 1, 8, 64, 100, 5000, 8192, 8193, 20_000, 32_768, 32_769, 70_000,
        ][round % 12];
        // Room for more than comes: what is behind the message stays as it is.
        let room = [len, len + 100, 32_768.max(len), 100_000][round / 12 % 4];
        let mut there = vec![7; room];
        let check = |there: &[u8]| {
            assert!(there[..len] == bytes(round, len), "round {round}");
            assert!(there[len..].iter().all(|byte| *byte == 7), "round {round}");
        };
        if me == 0 {
            if round % 50 == 0 {
                // Long enough for the other rank to sleep.
                thread::sleep(Duration::from_millis(5));
            }
            other.send_with_tag(&bytes(round, len), 1);
            if round % 5 == 0 {
                other.send_with_tag(&bytes(round, len), 2);
                other.send_with_tag(&bytes(round + 1, len), 3);
            }
        } else {
            if round % 5 == 0 {
                let mut second = vec![7; len];
                other.receive_into_with_tag(&mut second, 3);
                assert!(second == bytes(round + 1, len), "round {round}");
            }
            let status = other.receive_into_with_tag(&mut there, 1);
            assert_eq!(status.count(u8::equivalent_datatype()), len as i32);
            check(&there);
            if round % 5 == 0 {
                there.fill(7);
                other.receive_into_with_tag(&mut there, 2);
                check(&there);
            }
            other.send(&round);
        }
        if me == 0 {
            let mut answer = 0_usize;
            other.receive_into(&mut answer);
            assert_eq!(answer, round);
        }
    }
    if me == 0 {
        let third = world.process_at_rank(2);
        for round in 0..20 {
            let mut got = -1;
            third.receive_into_with_tag(&mut got, 9);
            assert_eq!(got, round);
        }
        third.send_with_tag(&7, 9);
    }
}

/// Where rank 1 writes how many messages it has.
const SEEN: &str = "TERCIO_TEST_SEEN";

/// Rank 0 starts many short sends at once and then makes no call at all before rank 1 has them: a wait, a test and a buffered send have let them go.
pub fn gather() {
    const BURST: usize = 40;
    let mut universe = tercio::initialize().unwrap();
    let world = universe.world();
    let seen = std::env::var(SEEN).unwrap();
    universe.set_buffer_size(1 << 16);
    if world.rank() == 1 {
        let peer = world.process_at_rank(0);
        peer.send(&0_u8);
        for number in 0..5 * BURST {
            assert_eq!(peer.receive::<u64>().0, number as u64);
            std::fs::write(&seen, (number + 1).to_string()).unwrap();
        }
        peer.send(&0_u8);
        return;
    }
    let peer = world.process_at_rank(1);
    peer.receive::<u8>();
    let wait_until_seen = |count: usize| {
        while std::fs::read_to_string(&seen).unwrap_or_default() != count.to_string() {
            thread::sleep(Duration::from_millis(1));
        }
    };
    let numbers: Vec<u64> = (0..5 * BURST as u64).collect();
    let mut bursts = numbers.chunks(BURST);
    for tested in [false, true, false] {
        tercio::request::multiple_scope(BURST, |scope, requests| {
            for number in bursts.next().unwrap() {
                requests.add(peer.immediate_send(scope, number));
            }
            match tested {
                true => assert!(requests.test_any().is_some()),
                false => assert!(requests.wait_any().is_some()),
            }
            wait_until_seen(numbers.len() - BURST * bursts.len());
            requests.wait_all(&mut Vec::new());
        });
    }
    for number in bursts.next().unwrap() {
        peer.buffered_send(number);
    }
    wait_until_seen(4 * BURST);
    // It goes also before its rank blocks for something else.
    tercio::request::scope(|scope| {
        let mut requests = Vec::new();
        for number in bursts.next().unwrap() {
            requests.push(peer.immediate_send(scope, number));
        }
        peer.receive::<u8>();
        for request in requests {
            request.wait();
        }
    });
}

/// The length of message number `number` from `from` to `to`, in words: by every way that a message can take, in any order.
fn words(from: i32, to: i32, number: usize) -> usize {
    let roll = (from as usize * 31 + to as usize * 17 + number * 7) % 23;
    match roll {
        0..=9 => roll,
        10..=15 => 600 + roll,
        16..=19 => 9_000 + roll,
        20 | 21 => 60_000 + roll,
        _ => 200_000,
    }
}

fn payload(from: i32, to: i32, number: usize) -> Vec<u64> {
    let first = (from as u64) << 32 | number as u64;
    (0..words(from, to, number) as u64)
        .map(|at| first.wrapping_mul(at + 1))
        .collect()
}

/// Every rank sends to every rank, itself too, and takes from anybody whatever comes; each sender's messages come in their order.
pub fn mix() {
    const MESSAGES: usize = 120;
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let (me, ranks) = (world.rank(), world.size());
    let out: Vec<Vec<Vec<u64>>> = (0..MESSAGES)
        .map(|number| (0..ranks).map(|to| payload(me, to, number)).collect())
        .collect();
    tercio::request::multiple_scope(ranks as usize * MESSAGES, |scope, sends| {
        for (number, all) in out.iter().enumerate() {
            for (to, data) in (0..).zip(all) {
                let (to, data) = (world.process_at_rank(to), &data[..]);
                let tag = number as i32;
                sends.add(match number % 3 {
                    0 => to.immediate_synchronous_send_with_tag(scope, data, tag),
                    _ => to.immediate_send_with_tag(scope, data, tag),
                });
            }
        }
        let mut next = vec![0; ranks as usize];
        for turn in 0..ranks as usize * MESSAGES {
            let (message, status) = match turn % 2 {
                0 => world.any_process().matched_probe(),
                _ => {
                    let seen = world.any_process().probe();
                    let from = world.process_at_rank(seen.source_rank());
                    from.matched_probe_with_tag(seen.tag())
                }
            };
            let from = status.source_rank();
            let number = &mut next[from as usize];
            assert_eq!(status.tag(), *number as i32, "from {from}");
            let mut data = vec![0_u64; status.count(u64::equivalent_datatype()) as usize];
            message.matched_receive_into(&mut data[..]);
            assert_eq!(data, payload(from, me, *number), "{number} from {from}");
            *number += 1;
        }
        let mut done = Vec::new();
        sends.wait_all(&mut done);
    });
    // What is too long is an error of its receiver only; communicators of some of the ranks work as that of all.
    let odd = tercio::topology::Color::with_value(me % 2);
    let half = world.split_by_color(odd).unwrap();
    let mut sum = 0;
    half.all_reduce_into(&me, &mut sum, tercio::collective::SystemOperation::sum());
    let mine = (0..ranks).filter(|rank| rank % 2 == me % 2);
    assert_eq!(sum, mine.sum::<i32>());
    let right = world.process_at_rank((me + 1) % ranks);
    let left = world.process_at_rank((me + ranks - 1) % ranks);
    let long = vec![me; 50_000];
    tercio::request::scope(|scope| {
        let send = right.immediate_send(scope, &long[..]);
        let mut short = [0; 3];
        use tercio::prelude::*;
        let error = left.try_receive_into(&mut short[..]).unwrap_err();
        assert_eq!(error.class(), tercio::ErrorClass::Truncate, "{error}");
        send.wait();
    });
    world.barrier();
}

/// Rank 1 computes for longer than a stranger may take to greet; rank 0 connects meanwhile and has much to say.
pub fn compute() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    if world.rank() == 0 {
        let data: Vec<u64> = (0..8 << 20).collect();
        world.process_at_rank(1).send(&7_u64);
        world.process_at_rank(1).send(&data[..]);
        return;
    }
    // Half a minute without a call; all of it computing takes a core from the other tests.
    let began = Instant::now();
    let computes = match std::env::var_os("TEST_DEEP") {
        Some(_) => Duration::from_secs(30),
        None => Duration::from_secs(7),
    };
    let mut x = 1_u64;
    while began.elapsed() < computes {
        x = std::hint::black_box(x.wrapping_mul(3));
    }
    thread::sleep(Duration::from_secs(30).saturating_sub(began.elapsed()));
    let (first, _) = world.process_at_rank(0).receive::<u64>();
    let (data, _) = world.process_at_rank(0).receive_vec::<u64>();
    assert!(first == 7 && data.len() == 8 << 20);
    assert!(data.iter().enumerate().all(|(at, word)| at as u64 == *word));
}

/// Where this process listens on 127.0.0.1.
fn listens() -> Vec<u16> {
    let mine: HashSet<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_mine = mine.contains(&format!("socket:[{}]", fields.get(9)?));
        let port = fields[1].strip_prefix("0100007F:")?;
        (fields[3] == "0A" && is_mine).then(|| u16::from_str_radix(port, 16).ok())?
    };
    table.lines().filter_map(port).collect()
}

fn call(port: u16) -> TcpStream {
    let at: SocketAddr = ([127, 0, 0, 1], port).into();
    let stream = TcpStream::connect(at).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

/// Whether the other end closed the connection without having said a word.
fn is_shut_out(mut stream: TcpStream) -> bool {
    let mut answer = [0; 16];
    match stream.read(&mut answer) {
        Ok(len) => len == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// While ranks 0 and 1 talk, rank 2 behaves towards them like strangers of all kinds. Then it talks to them as itself.
pub fn strange() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let me = world.rank();
    let ports: Vec<u16> = listens();
    assert!(!ports.is_empty());
    let path = |rank: i32| {
        let job = std::env::var("TERCIO_JOB").unwrap();
        std::env::temp_dir().join(format!("tercio-test-{job}-{rank}"))
    };
    if me < 2 {
        // Not by a message: rank 2 is to be a stranger until it has done its worst.
        std::fs::write(path(me).with_extension("new"), ports[0].to_string()).unwrap();
        std::fs::rename(path(me).with_extension("new"), path(me)).unwrap();
        let (other, stranger) = (world.process_at_rank(1 - me), world.process_at_rank(2));
        if me == 0 {
            let mut round = 0_u64;
            while stranger.immediate_probe().is_none() {
                other.send(&round);
                assert_eq!(other.receive::<u64>().0, round);
                round += 1;
            }
            other.send(&u64::MAX);
        } else {
            loop {
                let (round, _) = other.receive::<u64>();
                if round == u64::MAX {
                    break;
                }
                other.send(&round);
            }
        }
        assert_eq!(stranger.receive::<u64>().0, 2);
        return;
    }
    for victim in 0..2 {
        let port = loop {
            if let Ok(text) = std::fs::read_to_string(path(victim)) {
                break text.parse().unwrap();
            }
            thread::yield_now();
        };
        std::fs::remove_file(path(victim)).unwrap();
        // Many who say nothing: all but 64 are shut out at once, the others in their time.
        let silent: Vec<TcpStream> = (0..150).map(|_| call(port)).collect();
        for (at, garbage) in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            &[0; 84],
            &[0xff; 4096],
            b"TERCIO\r\n\x01\0\0\0\x02\0\0\0\0\0\0\0",
            b"TERCIO\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ]
        .into_iter()
        .enumerate()
        {
            let mut stream = call(port);
            // It may have been shut out before all was written.
            let _ = stream.write_all(garbage);
            if at == 3 {
                // A greeting of another job: of the right form, with a proof that none of this job made.
                let mut rest = [7_u8; 64];
                rest[63] = victim as u8;
                let _ = stream.write_all(&rest);
            }
            assert!(is_shut_out(stream), "garbage {at}");
        }
        assert!(silent.into_iter().all(is_shut_out));
    }
    for victim in 0..2 {
        world.process_at_rank(victim).send(&2_u64);
    }
}

/// The job goes on without those who could not be spawned.
pub fn spawn_nobody() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let refused = world
        .process_at_rank(0)
        .spawn(&std::process::Command::new("true"), 1);
    assert!(matches!(refused, Err(tercio::MpiError::Spawn(1, 1))));
    world.barrier();
}
