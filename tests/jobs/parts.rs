//! The parts that this executable plays when a test starts it anew, named by a variable.
use crate::support::TELL;
use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::time::{Duration, Instant};
use tercio::launch::{Bind, Ending, Job, Output, Program, Stdin};
use tercio::traits::*;

pub const PART: &str = "TERCIO_TEST_PART";

/// Plays the part that the environment names and exits; returns if it names none.
pub fn play() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    // SAFETY: this process has one thread yet.
    unsafe { std::env::remove_var(PART) };
    let code = match part.as_str() {
        "launcher" => launcher(),
        "rank" => {
            rank();
            0
        }
        "forgetful" => {
            // SAFETY: this process has one thread yet.
            unsafe { std::env::set_var("TERCIO_ROLE", "guard") };
            let error = Job::new()
                .program(Program::new("true", 1))
                .run()
                .unwrap_err();
            assert!(
                error.code() == 125 && error.to_string().contains("role()"),
                "{error}"
            );
            0
        }
        "across-once" => {
            crate::across::sends_once();
            0
        }
        "across-bits" => {
            crate::across::reduces();
            0
        }
        "across-mismatch" => {
            crate::across::differ();
            0
        }
        "alone" => {
            crate::alone::alone();
            0
        }
        "cores" => {
            crate::cores::cores();
            0
        }
        "publisher" => {
            crate::exchange::publisher();
            0
        }
        #[cfg(feature = "serde")]
        "exchanger" => {
            crate::objects::exchanger();
            0
        }
        #[cfg(feature = "serde")]
        "mistaken" => {
            crate::objects::mistaken();
            0
        }
        "spawn-ends" => {
            crate::spawn_ends::spawn_ends();
            0
        }
        "spawner" => {
            crate::spawn::spawner();
            0
        }
        "memory" => {
            crate::cores::memory();
            0
        }
        "million" => {
            crate::traffic::million();
            0
        }
        "ahead" => {
            crate::far::go_ahead();
            0
        }
        "mixed" => {
            crate::sockets::mix();
            0
        }
        "leaves" => {
            crate::sockets::leave();
            0
        }
        "straight" => {
            crate::sockets::go_straight();
            0
        }
        "gathers" => {
            crate::sockets::gather();
            0
        }
        "busy" => {
            crate::sockets::compute();
            0
        }
        "rests" => {
            crate::rests::rests();
            0
        }
        "short-of-files" => {
            crate::rests::short_of_files();
            0
        }
        "hears" => {
            crate::rests::hears();
            0
        }
        "goes-on" => {
            crate::rests::goes_on();
            0
        }
        "strangers" => {
            crate::sockets::strange();
            0
        }
        "spawns-nobody" => {
            crate::sockets::spawn_nobody();
            0
        }
        "serves-itself" => {
            crate::traffic::serve_oneself();
            0
        }
        "shared" => {
            crate::shared::shared();
            0
        }
        other => panic!("there is no part {other}"),
    };
    std::process::exit(code)
}

/// A small launcher: RANKS SCRIPT [option...]. Exits as `tercio run` would.
fn launcher() -> i32 {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ranks = words[0].parse().unwrap();
    let option = |name: &str| words[2..].iter().any(|word| word == name);
    let stdin = match (option("stdin"), option("forward")) {
        (true, _) => Stdin::Inherit { rank: 0 },
        (_, true) => Stdin::Forward { rank: 0 },
        _ => Stdin::None,
    };
    let job = Job::new()
        .program(Program::new("sh", ranks).args(["-c", &words[1]]))
        .stdin(stdin)
        .bind(if option("unbound") {
            Bind::None
        } else {
            Bind::Core
        })
        .verbose(option("verbose"))
        .output(Output::Inherit { tag: option("tag") });
    for (name, resource, limit) in [
        ("few-descriptors", libc::RLIMIT_NOFILE, 120),
        ("small-files", libc::RLIMIT_FSIZE, 1 << 20),
        ("files-without-heaps", libc::RLIMIT_FSIZE, 6 << 30),
    ] {
        if option(name) {
            let limit = libc::rlimit {
                rlim_cur: limit,
                rlim_max: limit,
            };
            // SAFETY: the structure is valid for reads.
            unsafe { libc::setrlimit(resource, &limit) };
        }
    }
    if option("again") {
        again(&job);
    }
    let running = match job.start() {
        Ok(running) => running,
        Err(error) => {
            eprintln!("tercio: {error}");
            return error.code();
        }
    };
    let tell: i32 = std::env::var(TELL).unwrap().parse().unwrap();
    // SAFETY: the test opened it for this, and nothing else here owns it.
    let mut tell = unsafe { File::from_raw_fd(tell) };
    let mut told = format!("{} {}", running.guard_pid(), running.agent_pid());
    running
        .rank_pids()
        .iter()
        .for_each(|pid| told += &format!(" {pid}"));
    tell.write_all(told.as_bytes()).unwrap();
    if option("end") {
        running.handle().end(Ending::Signal(libc::SIGTERM));
    }
    let outcome = running.wait();
    if let Some(verdict) = outcome.verdict {
        eprint!("{}", verdict.text());
    }
    outcome.code
}

/// Runs a job twenty times; afterwards this process has what it had before.
fn again(job: &Job) {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = (open(), threads());
    for _ in 0..20 {
        assert_eq!(job.clone().run().unwrap().code, 0);
    }
    // A thread that was joined is in the list until the kernel has taken it off.
    let begun = std::time::Instant::now();
    while threads() != before.1 && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((open(), threads()), before);
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children, "");
}

/// A rank: WORDS for all ranks, then WORDS for rank 2 alone, done one after the other; see `act`.
fn rank() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let me: usize = std::env::var("TERCIO_RANK").unwrap().parse().unwrap();
    let script = if me == 2 { &words[1] } else { &words[0] };
    let mut universe = None;
    for word in script.split(' ') {
        act(word, &mut universe);
    }
}

fn act(word: &str, universe: &mut Option<tercio::environment::Universe>) {
    match word {
        "init" => *universe = tercio::initialize(),
        "close-descriptors" => close_descriptors(),
        "multiple" => {
            *universe =
                tercio::initialize_with_threading(tercio::Threading::Multiple).map(|it| it.0)
        }
        // A rank that only begins does not make the others' turn: they are told that it is there.
        "ready" => println!("ready"),
        "finalize" => *universe = None,
        "barrier" => world(universe).barrier(),
        "receive" => {
            let world = world(universe);
            world.process_at_rank(other(&world)).receive::<i32>();
        }
        "receive-any" => drop(world(universe).any_process().receive::<i32>()),
        "probe" => {
            let world = world(universe);
            world.process_at_rank(other(&world)).probe();
        }
        "all-reduce" => {
            let mut sum = 0;
            world(universe).all_reduce_into(
                &1,
                &mut sum,
                tercio::collective::SystemOperation::sum(),
            );
        }
        "work" => loop {
            let world = world(universe);
            let (me, size) = (world.rank(), world.size());
            let (next, last) = ((me + 1) % size, (me + size - 1) % size);
            let long = vec![me as u8; 100_000];
            let mut sum = 0;
            world.all_reduce_into(&1, &mut sum, tercio::collective::SystemOperation::sum());
            tercio::request::scope(|scope| {
                let to = world.process_at_rank(next);
                let _sent = tercio::request::WaitGuard::from(to.immediate_send(scope, &long[..]));
                let (got, _) = world.process_at_rank(last).receive_vec::<u8>();
                assert_eq!(got.len(), 100_000);
            });
        },
        "scope" => {
            let (world, mut value) = (world(universe), 0);
            tercio::request::scope(|scope| {
                let request = world
                    .process_at_rank(0)
                    .immediate_receive_into(scope, &mut value);
                let _guard = tercio::request::WaitGuard::from(request);
                panic!("left the scope");
            })
        }
        "scope-dropped" => {
            let (world, mut value) = (world(universe), 0);
            tercio::request::scope(|scope| {
                let _ = world
                    .process_at_rank(0)
                    .immediate_receive_into(scope, &mut value);
            })
        }
        "operator" => all_reduce_with(universe, false),
        "operator-panics" => all_reduce_with(universe, true),
        "refused-wait" => refused_wait(),
        "waiting-destructor" => {
            struct Waits(tercio::topology::SimpleCommunicator);
            impl Drop for Waits {
                fn drop(&mut self) {
                    self.0.barrier();
                }
            }
            let _waits = Waits(world(universe));
            panic!("before its destructors");
        }
        "compute" => compute(Duration::from_secs(60)),
        "compute-a-little" => compute(Duration::from_millis(200)),
        "sleep" => std::thread::sleep(Duration::from_secs(60)),
        "shell" => drop(
            std::process::Command::new("sh")
                .args(["-c", "sleep 60; true"])
                .status(),
        ),
        "checkpoint" => checkpoint_on_term(),
        "panic" => panic!("out of cheese\nand crackers"),
        "panic-caught" => drop(std::panic::catch_unwind(|| panic!("caught"))),
        "panic-in-thread" => drop(std::thread::spawn(|| panic!("in a thread")).join()),
        "abort" => world(universe).abort(7),
        "memory" => {
            let taken: Vec<Vec<u8>> = (0..1024).map(|_| vec![1_u8; 1 << 20]).collect();
            panic!("{} MiB were to be had", taken.len())
        }
        "exit-0" => std::process::exit(0),
        "exit-3" => std::process::exit(3),
        "segv" => raise(libc::SIGSEGV),
        "kill" => raise(libc::SIGKILL),
        "abrt" => std::process::abort(),
        other => panic!("nobody knows how to {other}"),
    }
}

fn world(universe: &Option<tercio::environment::Universe>) -> tercio::topology::SimpleCommunicator {
    universe.as_ref().expect("initialized before").world()
}

/// The rank from which nothing comes: rank 2, and for itself another.
fn other(world: &tercio::topology::SimpleCommunicator) -> i32 {
    if world.rank() == 2 { 0 } else { 2 }
}

/// A reduction with an operator that panics, if it is to, and is caught; with others that cannot finish without this rank.
fn all_reduce_with(universe: &Option<tercio::environment::Universe>, panics: bool) {
    let (world, numbers) = (world(universe), vec![1_u64; 1 << 16]);
    let operation = tercio::collective::UserOperation::commutative(|_, _| {
        assert!(!panics, "in the operator");
    });
    let mut result = numbers.clone();
    let reduce = || world.all_reduce_into(&numbers, &mut result, &operation);
    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(
        reduce,
    )));
    world.barrier();
}

/// At `Serialized`, waits for a receive while another thread is in the library.
fn refused_wait() {
    let (universe, _) = tercio::initialize_with_threading(tercio::Threading::Serialized).unwrap();
    let (world, mut value) = (universe.world(), 0);
    let calls = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_ok();
    tercio::request::scope(|scope| {
        let request = world
            .process_at_rank(0)
            .immediate_receive_into(scope, &mut value);
        std::thread::scope(|threads| {
            // Whoever comes second is refused, which may be this thread: it tries until it is in.
            threads.spawn(|| {
                while !calls(&|| {
                    world.process_at_rank(1).receive::<i32>();
                }) {}
            });
            while calls(&|| {
                world.process_at_rank(1).immediate_probe();
            }) {}
            let refused = std::panic::AssertUnwindSafe(|| request.wait());
            drop(std::panic::catch_unwind(refused));
            // The receive goes on; its memory must not go.
            std::process::exit(0);
        });
    });
}

fn compute(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn raise(signal: i32) {
    // SAFETY: plain system calls; the default action ends this process.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// As a wrapper like sudo does it.
fn close_descriptors() {
    for name in ["TERCIO_SEGMENT_FD", "TERCIO_CLAIM_FD"] {
        // SAFETY: nothing in this process owns what it inherited, before initialize.
        unsafe { libc::close(std::env::var(name).unwrap().parse().unwrap()) };
    }
}

/// A thread waits for TERM, which is blocked everywhere, and writes a checkpoint then.
fn checkpoint_on_term() {
    // SAFETY: the set is initialized by sigemptyset before it is used, and moved into the thread by value.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    };
    std::thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: both are valid for the call.
        unsafe { libc::sigwait(&set, &mut signal) };
        std::thread::sleep(Duration::from_millis(50));
        println!("checkpoint");
        std::process::exit(0);
    });
}
