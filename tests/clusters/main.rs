//! Ranks that other launchers start: an mpiexec of the MPICH family, and srun; and our own within an allocation of Slurm; on one host and on two. What is not installed, or not running
//! (srun needs a Slurm that answers, scripts/slurm makes one; two hosts for hydra are those of scripts/hosts), is left out and said; `scripts/test clusters` sees to both.
//!
//! This executable is the program that they start, named by a variable. Built with `system-mpi`, and with TERCIO_TEST_MPIEXEC naming the launcher
//! of that MPI, it tests ranks that reach each other through it (`scripts/test mpi`).
mod buffers;
mod nodes;

use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tercio::MpiError;
use tercio::collective::SystemOperation;
use tercio::datatype::{UserDatatype, View};
use tercio::topology::{Process, SimpleCommunicator};
use tercio::traits::*;

const TASK: &str = "TERCIO_TEST_TASK";
const MARK: &str = "TERCIO_TEST_MARK";

fn main() {
    if let Ok(task) = std::env::var(TASK) {
        return play(&task);
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let mut trials = Vec::new();
    let launchers = match std::env::var("TERCIO_TEST_MPIEXEC") {
        Ok(mpiexec) => of_mpi(mpiexec),
        Err(_) => vec![HYDRA, SLURM, SLURM_TWO_NODES, ALLOCATION, TWO_NODES],
    };
    // Elsewhere hydra waits for hosts that there are not.
    let hosts = std::env::var("TERCIO_TEST_SSH").map(hydra_on_hosts);
    for launcher in launchers.into_iter().chain(hosts) {
        match launcher.missing() {
            None => trials.extend(tests(launcher)),
            Some(why) => println!("left out: ranks started by {} ({why})", launcher.name),
        }
        if launcher.name == TWO_NODES.name && launcher.missing().is_none() {
            trials.extend(nodes::tests());
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Another launcher, and how it is told to start so many tasks.
#[derive(Clone, Copy)]
struct Launcher {
    name: &'static str,
    words: &'static [&'static str],
    /// A command that succeeds where it works.
    probe: &'static [&'static str],
    way: Way,
}

const HYDRA: Launcher = Launcher {
    name: "mpiexec.hydra",
    words: &["mpiexec.hydra", "-n"],
    probe: &["mpiexec.hydra", "-n", "1", "true"],
    way: Way::Near,
};

const SLURM: Launcher = Launcher {
    name: "srun",
    words: &["srun", "--mpi=pmi2", "--overcommit", "-N", "1", "-n"],
    probe: &["srun", "--immediate=5", "-n", "1", "true"],
    way: Way::Near,
};

/// The same on both nodes of scripts/slurm.
const SLURM_TWO_NODES: Launcher = Launcher {
    name: "srun_two_nodes",
    words: &["srun", "--mpi=pmi2", "--overcommit", "-N", "2", "-n"],
    probe: &["srun", "--immediate=5", "-N", "2", "-n", "2", "true"],
    way: Way::Near,
};

/// The same over two hosts of scripts/hosts.
fn hydra_on_hosts(ssh: String) -> Launcher {
    let words = [
        "mpiexec.hydra",
        "-launcher",
        "ssh",
        "-launcher-exec",
        ssh.leak(),
    ];
    let words = [
        &words[..],
        &["-hosts", "node1,node2", "-iface", "eth0", "-ppn", "1", "-n"],
    ]
    .concat();
    Launcher {
        name: "mpiexec.hydra_two_hosts",
        words: words.clone().leak(),
        probe: [&words[..], &["2", "true"]].concat().leak(),
        way: Way::Near,
    }
}

/// Our own launcher within an allocation: how many ranks, and where, it hears from Slurm.
const ALLOCATION: Launcher = Launcher {
    name: "salloc",
    words: &["salloc", "--quiet", "--overcommit", "-N", "1", "-n"],
    probe: &["salloc", "--quiet", "--immediate=5", "-n", "1", "true"],
    way: Way::Near,
};

/// The same with ranks on both nodes of scripts/slurm: agents started by srun, sockets between the nodes.
const TWO_NODES: Launcher = Launcher {
    name: "salloc_two_nodes",
    words: &["salloc", "--quiet", "--overcommit", "-N", "2", "-n"],
    probe: &[
        "salloc",
        "--quiet",
        "--immediate=5",
        "-N",
        "2",
        "-n",
        "2",
        "true",
    ],
    way: Way::Near,
};

/// The launcher of an MPI, of which this executable was built with `system-mpi`: with lanes, with MPI between all ranks, and with several hosts, for
/// which namespaces stand.
fn of_mpi(mpiexec: String) -> Vec<Launcher> {
    let mpiexec: &'static str = mpiexec.leak();
    let words: &'static [&'static str] = match mpiexec.contains("openmpi") {
        true => vec![mpiexec, "--oversubscribe", "-n"].leak(),
        false => vec![mpiexec, "-n"].leak(),
    };
    let probe: &'static [&'static str] = [words, &["1", "true"]].concat().leak();
    let names = [
        (mpiexec.to_owned(), Way::Near),
        (format!("{mpiexec}_all"), Way::Everywhere),
        (format!("{mpiexec}_hosts"), Way::Hosts),
    ];
    let launcher = |(name, way): (String, Way)| Launcher {
        name: name.leak(),
        words,
        probe,
        way,
    };
    // With MPICH 4.0 and more ranks than cores, MPI_Finalize of ranks that met over lanes did not come back; why is open.
    let kept = names
        .into_iter()
        .filter(|(_, way)| *way != Way::Hosts || mpiexec.contains("openmpi"));
    kept.map(launcher).collect()
}

/// How ranks that an MPI starts are to reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Near,
    Everywhere,
    Hosts,
}

/// Two namespaces that tell processes which of two "hosts" they are on, each held by a process that sleeps.
fn hosts() -> &'static [Child; 2] {
    static HOSTS: OnceLock<[Child; 2]> = OnceLock::new();
    HOSTS.get_or_init(|| {
        [0, 1].map(|_| {
            let mut command = quiet(&["unshare", "--ipc", "sleep", "120"]);
            // SAFETY: one system call between fork and exec; it ends with this process.
            unsafe {
                command.pre_exec(|| {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    Ok(())
                });
            }
            let child = command.spawn().unwrap();
            let (own, pid) = (std::fs::read_link("/proc/self/ns/ipc").unwrap(), child.id());
            while std::fs::read_link(format!("/proc/{pid}/ns/ipc")).unwrap() == own {
                std::thread::sleep(Duration::from_millis(1));
            }
            child
        })
    })
}

/// Where our own launcher lies: beside this executable's directory, where cargo builds it.
fn own_launcher() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    me.ancestors().nth(2).unwrap().join("tercio")
}

fn quiet(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

impl Launcher {
    /// Whether it belongs to an MPI through which the ranks join.
    fn is_of_mpi(self) -> bool {
        std::env::var("TERCIO_TEST_MPIEXEC").is_ok()
    }

    fn has_two_hosts(self) -> bool {
        self.name.contains("_two_")
    }

    fn is_own(self) -> bool {
        [ALLOCATION.name, TWO_NODES.name].contains(&self.name)
    }

    fn missing(self) -> Option<String> {
        if self.is_own() && !own_launcher().exists() {
            return Some(format!("{} is not built", own_launcher().display()));
        }
        match quiet(self.probe).output() {
            Err(error) => Some(error.to_string()),
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(
                text(&output.stderr)
                    .lines()
                    .next()
                    .unwrap_or("it fails")
                    .into(),
            ),
        }
    }

    fn command(self, tasks: usize, task: &str, mark: &Mark) -> Command {
        let mut command = quiet(self.words);
        let me = std::env::current_exe().unwrap();
        match self.way {
            Way::Near => {
                command.arg(tasks.to_string());
                command.args(self.is_own().then(own_launcher));
                command.args(self.is_own().then_some("run")).arg(me)
            }
            Way::Everywhere => {
                command.env("TERCIO_TRANSPORT", "mpi:all");
                command.arg(tasks.to_string()).arg(me)
            }
            Way::Hosts => {
                let [one, two] = &hosts().each_ref().map(|child| child.id().to_string());
                let first = tasks.div_ceil(2);
                command.arg(first.to_string());
                command.args(["nsenter", "-t", one, "-i"]).arg(&me);
                command.args([":", "-n", &(tasks - first).to_string()]);
                command.args(["nsenter", "-t", two, "-i"]).arg(&me)
            }
        };
        command
            .env(TASK, task)
            .env(MARK, &mark.0)
            .env("RUST_BACKTRACE", "0");
        command
    }

    /// Runs so many tasks, and sees that nothing is left of them.
    fn run(self, tasks: usize, task: &str) -> Output {
        let _nodes = nodes::in_use();
        let mark = Mark::new();
        let output = self.command(tasks, task, &mark).output().unwrap();
        mark.wait_until_gone();
        output
    }
}

/// A variable that everything of one test carries.
struct Mark(String);

impl Mark {
    fn new() -> Mark {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Mark(format!("{}.{number}", std::process::id()))
    }

    /// Processes that carry the mark, by their names.
    fn alive(&self) -> BTreeMap<u32, String> {
        let wanted = format!("{MARK}={}", self.0);
        let all = std::fs::read_dir("/proc").unwrap();
        all.flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| {
                let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
                environment
                    .split(|byte| *byte == 0)
                    .any(|variable| variable == wanted.as_bytes())
                    .then(|| (pid, name.trim().to_owned()))
            })
            .collect()
    }

    #[track_caller]
    fn wait_until_gone(&self) {
        let begun = Instant::now();
        while !self.alive().is_empty() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "left: {:?}",
                self.alive()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn tests(launcher: Launcher) -> Vec<Trial> {
    let trial = |name: &str, test: fn(Launcher)| {
        Trial::test(format!("{}_{name}", launcher.name), move || {
            test(launcher);
            Ok(())
        })
    };
    let mut trials = vec![
        trial("tasks_are_ranks_that_talk", |launcher| {
            // MPIs that poll take long with many ranks on each core.
            let most = if launcher.is_of_mpi() { 3 } else { 5 };
            for tasks in [2, 3, most] {
                let output = launcher.run(tasks, "talk");
                assert!(output.status.success(), "{}", text(&output.stderr));
                let mut lines: Vec<_> = text(&output.stdout).lines().map(str::to_owned).collect();
                lines.sort();
                let expected: Vec<_> = (0..tasks)
                    .map(|rank| format!("{rank} of {tasks}"))
                    .collect();
                assert_eq!(lines, expected);
            }
        }),
        trial("a_rank_that_fails_ends_all_and_is_named", |launcher| {
            for (task, said) in [
                ("exit", "rank 1 of 3 "),
                ("kill", "rank 1 of 3 "),
                ("panic", "rank 1 of 3 panicked at tests/clusters/main.rs"),
                ("abort", "rank 1 of 3 called abort(9)"),
            ] {
                let begun = Instant::now();
                let output = launcher.run(3, task);
                assert!(!output.status.success(), "{task}");
                let errors = text(&output.stderr);
                // The launcher of an MPI kills the others as soon as it sees a rank's connection close, and stops listening: our verdict may come
                // too late to be shown, and who was killed first cannot be told. Then the launcher has its own words.
                let launchers = ["exit code", "EXIT CODE", "signal", "was killed by"];
                let verdicts = errors.matches("  exit code  ").count();
                let by_mpi = launcher.is_of_mpi() && launchers.iter().any(|w| errors.contains(w));
                // Hydra kills the others by itself, with the same signal: see below.
                let by_hydra = task == "kill"
                    && launcher.name.contains("hydra")
                    && errors.contains(" of 3 was killed by signal 9");
                assert!(
                    errors.contains(said) || by_mpi || by_hydra,
                    "{task}: {errors}"
                );
                assert!(verdicts == 1 || launcher.is_of_mpi(), "{task}: {errors}");
                assert!(begun.elapsed() < Duration::from_secs(15), "{task}");
            }
        }),
        trial("a_send_that_is_over_has_left_its_buffer", |launcher| {
            let output = launcher.run(2, "spoilt");
            assert!(output.status.success(), "{}", text(&output.stderr));
        }),
        trial("a_stream_from_one_rank_starves_no_other", |launcher| {
            let output = launcher.run(3, "stream");
            assert!(output.status.success(), "{}", text(&output.stderr));
        }),
    ];
    if !launcher.is_of_mpi() {
        trials.push(trial("a_rank_that_is_killed_ends_all", |launcher| {
            // The first and the last: with two hosts each of another one.
            for victim in [0, 1] {
                let _nodes = nodes::in_use();
                let job = Forever::start(launcher, 2);
                kill(job.rank(victim));
                let (code, errors) = job.end();
                assert_ne!(code, Some(0), "{errors}");
                // Hydra kills the others by itself, with the same signal: an agent that does not run in between cannot tell who was first.
                let named = |rank: usize| errors.contains(&format!("tercio: rank {rank} of 2 "));
                let hydra = launcher.name.contains("hydra") && named(1 - victim);
                assert!(named(victim) || hydra, "{errors}");
                assert_eq!(errors.matches("  exit code  ").count(), 1, "{errors}");
            }
        }));
    }
    if launcher.is_own() {
        return trials;
    }
    if launcher.has_two_hosts() {
        trials.push(trial(
            "ranks_do_not_outlive_the_agent_of_any_host",
            |launcher| {
                let _nodes = nodes::in_use();
                for which in [0, 1] {
                    let job = Forever::start(launcher, 2);
                    let agents = job.named("tercio-agent");
                    assert_eq!(agents.len(), 2);
                    kill(agents[which]);
                    let (code, errors) = job.end();
                    assert_ne!(code, Some(0), "{errors}");
                    let said = [
                        "was lost: the connection to its agent ended",
                        "the agent of the first host",
                    ];
                    assert!(said.iter().any(|said| errors.contains(said)), "{errors}");
                }
            },
        ));
    }
    trials.extend([
        trial("a_rank_that_leaves_without_goodbye_is_named", |launcher| {
            let output = launcher.run(3, "no-goodbye");
            let errors = text(&output.stderr);
            // Open MPI's stops listening at once, and says so in words of its own.
            assert!(errors.contains("rank 1 "), "{errors}");
        }),
        trial("ranks_do_not_outlive_their_agent", |launcher| {
            let _nodes = nodes::in_use();
            let job = Forever::start(launcher, 2);
            kill(job.named("tercio-agent")[0]);
            assert_ne!(job.end().0, Some(0));
        }),
        trial("threads_before_initialize_are_a_sentence", |launcher| {
            let output = launcher.run(2, "threads");
            assert!(!output.status.success());
            let errors = text(&output.stderr);
            assert!(
                errors.contains("has started threads already; initialize the library before that"),
                "{errors}"
            );
        }),
        trial("spawn_is_refused", |launcher| {
            let output = launcher.run(2, "spawn");
            assert!(output.status.success(), "{}", text(&output.stderr));
        }),
    ]);
    trials
}

fn kill(pid: u32) {
    // SAFETY: a plain system call; the process carries our mark.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

/// A job whose ranks wait for ever.
struct Forever {
    mark: Mark,
    child: Child,
}

impl Forever {
    fn start(launcher: Launcher, tasks: usize) -> Forever {
        let mark = Mark::new();
        let mut command = launcher.command(tasks, "forever", &mark);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let job = Forever { mark, child };
        let begun = Instant::now();
        while job.named("forever").len() < tasks {
            let alive = job.mark.alive();
            assert!(begun.elapsed() < Duration::from_secs(20), "{alive:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        job
    }

    fn named(&self, name: &str) -> Vec<u32> {
        let alive = self.mark.alive();
        let named = alive.iter().filter(|(_, alive)| *alive == name);
        named.map(|(pid, _)| *pid).collect()
    }

    /// The process of this rank, as its environment tells.
    fn rank(&self, rank: usize) -> u32 {
        let wanted = ["TERCIO_RANK", "PMI_RANK"].map(|name| format!("{name}={rank}"));
        let is_it = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|variable| wanted.iter().any(|wanted| wanted.as_bytes() == variable))
        };
        let found = self.named("forever").into_iter().find(is_it);
        found.expect("a process of that rank")
    }

    /// Waits for its end, and until nothing is left of it: the launcher's code, and what was said.
    fn end(self) -> (Option<i32>, String) {
        let output = self.child.wait_with_output().unwrap();
        self.mark.wait_until_gone();
        (output.status.code(), text(&output.stderr))
    }
}

/// Blocking messages by turns, many of one kind and then some of others: what comes next is mostly, but not always, like what came before.
fn take_turns(other: &Process, rank: i32) {
    let (payload, mut room) = (|turn: u32, len| vec![turn as u8; len], vec![0_u8; 20_000]);
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 33) % below
    };
    for turn in 0..6000 {
        let kind = if turn % 100 < 60 { 0 } else { random(8) };
        let len = match kind {
            1 => random(100) as usize,
            2 => 4096,
            3 => 16384,
            4 => 20_000,
            _ => 8,
        };
        if (turn + rank as u32) % 2 == 0 {
            match kind {
                5 => other.send_with_tag(&payload(turn, len)[..], 5),
                // Received in the other order.
                6 => {
                    other.send_with_tag(&payload(turn, 16)[..], 6);
                    other.send(&payload(turn, len)[..]);
                }
                7 => other.synchronous_send(&payload(turn, len)[..]),
                _ => other.send(&payload(turn, len)[..]),
            }
            continue;
        }
        if turn % 701 == 0 {
            // It is there already, or the wait for it is long.
            std::thread::sleep(Duration::from_millis(2));
        }
        let tag = if kind == 5 { 5 } else { 0 };
        let status = match kind {
            2 => other.receive_into(&mut room[..]),
            _ => other.receive_into_with_tag(&mut room[..], tag),
        };
        let got = status.count(u8::equivalent_datatype()) as usize;
        assert_eq!((status.tag(), got), (tag, len), "turn {turn}");
        assert_eq!(room[..got], payload(turn, len), "turn {turn}");
        if kind == 6 {
            other.receive_into_with_tag(&mut room[..16], 6);
            assert_eq!(room[..16], payload(turn, 16), "turn {turn}");
        }
    }
}

/// Long messages by turns, sent and received in all ways: what comes next is often, but not always, like what came before, and sometimes late.
fn take_long_turns(world: &SimpleCommunicator, other: &Process, rank: i32) {
    let mut room = vec![0_u8; 400_000];
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 33) % below
    };
    for turn in 0..2000 {
        let kind = if turn % 50 < 20 { 0 } else { random(10) };
        let len = match turn % 200 {
            ..100 => 30_000,
            _ => [8, 30_000, 70_000, 400_000][random(4) as usize],
        };
        let payload = vec![(turn + len) as u8; len];
        if (turn + rank as usize) % 2 == 0 {
            match kind {
                1 => tercio::request::scope(|scope| {
                    other.immediate_send(scope, &payload[..]).wait();
                }),
                2 => other.synchronous_send(&payload[..]),
                3 | 4 => tercio::request::scope(|scope| {
                    // Received in the other order.
                    let first = other.immediate_send_with_tag(scope, &payload[..], 6);
                    other.send(&payload[..]);
                    first.wait();
                }),
                5 => {
                    std::thread::sleep(Duration::from_millis(1));
                    other.send(&payload[..]);
                }
                _ => other.send(&payload[..]),
            }
            continue;
        }
        if kind == 6 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let status = match kind {
            4 | 7 => tercio::request::scope(|scope| {
                let room = &mut room[..];
                match kind {
                    4 => other.immediate_receive_into_with_tag(scope, room, 0).wait(),
                    _ => other.immediate_receive_into(scope, room).wait(),
                }
            }),
            8 => world.any_process().receive_into(&mut room[..]),
            9 => {
                let status = other.probe();
                assert_eq!(status.count(u8::equivalent_datatype()) as usize, len);
                other.receive_into(&mut room[..])
            }
            _ => other.receive_into_with_tag(&mut room[..], 0),
        };
        let got = status.count(u8::equivalent_datatype()) as usize;
        assert_eq!((status.tag(), got), (0, len), "turn {turn}");
        assert!(room[..got] == payload, "turn {turn}");
        if matches!(kind, 3 | 4) {
            room.fill(0);
            other.receive_into_with_tag(&mut room[..len], 6);
            assert!(room[..len] == payload, "turn {turn}");
        }
        room[..len].fill(0);
    }
}

/// The part of a task.
fn play(task: &str) {
    if task == "threads" {
        std::thread::scope(|threads| {
            threads.spawn(|| std::thread::sleep(Duration::from_secs(2)));
            drop(tercio::initialize());
        });
        return;
    }
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let (rank, size) = (world.rank(), world.size());
    // All are there.
    world.barrier();
    match task {
        "spoilt" => buffers::spoilt(&world),
        // Rank 1 sends to rank 0 until rank 2 tells it to stop, which has a synchronous message of rank 0 to receive before.
        "stream" => {
            let [zero, one, two] = [0, 1, 2].map(|rank| world.process_at_rank(rank));
            let begun = Instant::now();
            match rank {
                0 => tercio::request::scope(|scope| {
                    let sent = two.immediate_synchronous_send(scope, &[2_u8; 100][..]);
                    while one.receive::<u8>().0 != 0 {}
                    sent.wait();
                }),
                1 => {
                    while two.immediate_probe().is_none() {
                        assert!(
                            begun.elapsed() < Duration::from_secs(20),
                            "nobody stops this"
                        );
                        zero.send(&1_u8);
                    }
                    two.receive::<u8>();
                    zero.send(&0_u8);
                }
                _ => {
                    std::thread::sleep(Duration::from_millis(300));
                    assert_eq!(zero.receive_vec::<u8>().0, [2; 100]);
                    one.send(&1_u8);
                }
            }
        }
        "talk" => {
            let long = vec![rank as u8; 2_000_000];
            let (next, last) = ((rank + 1) % size, (rank + size - 1) % size);
            tercio::request::scope(|scope| {
                let sent = world.process_at_rank(next).immediate_send(scope, &long[..]);
                let (got, _) = world.process_at_rank(last).receive_vec::<u8>();
                assert!(got.len() == long.len() && got.iter().all(|byte| *byte == last as u8));
                sent.wait();
            });
            // More than two parts of a long message, and one with gaps.
            if rank == 0 {
                let huge: Vec<u64> = (0..3_000_000).collect();
                world.process_at_rank(1).synchronous_send(&huge[..]);
                let every_third =
                    UserDatatype::vector(1_000_000, 1, 3, &u64::equivalent_datatype());
                // SAFETY: the last item of the type is inside of `huge`.
                let view = unsafe { View::with_count_and_datatype(&huge[..], 1, &every_third) };
                world.process_at_rank(1).send(&view);
            } else if rank == 1 {
                let (huge, _) = world.process_at_rank(0).receive_vec::<u64>();
                assert!(huge.iter().copied().eq(0..3_000_000));
                let (third, _) = world.process_at_rank(0).receive_vec::<u64>();
                assert!(third.iter().copied().eq((0..3_000_000).step_by(3)));
            }
            // Many short ones, received in another order.
            for tag in 0..1000 {
                let to = world.process_at_rank(next);
                to.send_with_tag(&[tag; 100][..], tag);
                if tag % 25 == 24 {
                    for tag in (tag - 24..=tag).rev() {
                        let (got, _) = world.process_at_rank(last).receive_vec_with_tag::<i32>(tag);
                        assert_eq!(got, [tag; 100]);
                    }
                }
            }
            if rank < 2 {
                take_turns(&world.process_at_rank(1 - rank), rank);
                take_long_turns(&world, &world.process_at_rank(1 - rank), rank);
            }
            let mut sum = 0;
            world.all_reduce_into(&rank, &mut sum, SystemOperation::sum());
            assert_eq!(sum, size * (size - 1) / 2);
            println!("{rank} of {size}");
        }
        "spawn" => {
            let refused = world.process_at_rank(0).spawn(&Command::new("true"), 1);
            assert!(matches!(refused, Err(MpiError::Spawn(_, 1))));
        }
        "forever" => {
            let name = c"forever";
            // SAFETY: a C string that the call copies.
            unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
            world.any_process().receive::<i32>();
        }
        _ if rank == 1 => match task {
            "exit" => std::process::exit(3),
            "no-goodbye" => std::process::exit(0),
            "panic" => panic!("a task's panic"),
            "abort" => world.abort(9),
            // SAFETY: a signal to this process.
            _ => drop(unsafe { libc::raise(libc::SIGKILL) }),
        },
        _ => drop(world.process_at_rank(1).receive::<i32>()),
    }
}
