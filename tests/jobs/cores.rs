//! Cores: each rank one of its own where all can have one, and never the same as another job's.
use crate::parts::PART;
use crate::support::{Mark, soon, text, trial};
use std::process::Command;
use std::time::Instant;
use tercio::launch::{Bind, Outcome, Running};

pub fn tests() -> Vec<libtest_mimic::Trial> {
    vec![
        trial("jobs_share_the_cores_out_among_them", || play("cores")),
        trial("a_rank_out_of_memory_is_told", || play("memory")),
    ]
}

/// Plays a part in a process of its own, since it changes what the whole process may use.
fn play(part: &str) {
    let output = Command::new("/proc/self/exe")
        .env(PART, part)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    print!("{}", text(&output.stdout));
}

/// Cores are claimed in a network namespace of our own, so that other jobs on this machine do not matter; then jobs of one rank on two
/// processors get one each, and a third none.
pub fn cores() {
    // SAFETY: plain system calls on a process with one thread.
    let apart = unsafe {
        libc::unshare(libc::CLONE_NEWNET) == 0
            || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) == 0
    };
    if !apart {
        println!("no network namespace can be made here: the claims of cores are not tested");
        return;
    }
    let all = allowed_of("self");
    if all.len() < 2 {
        println!("one processor: the claims of cores are not tested");
        return;
    }
    let two = [all[0], all[1]];
    // SAFETY: the set is plain data, and both numbers are below its size since the kernel has just told them.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        two.iter().for_each(|cpu| libc::CPU_SET(*cpu, &mut set));
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
    let mark = Mark::new();
    let start = |ranks: usize, bind: Bind| {
        mark.job(ranks, "read x < /dev/null; sleep 60")
            .bind(bind)
            .verbose(true)
            .start()
            .unwrap()
    };
    let of = |running: &Running| allowed_of(&running.rank_pids()[0].to_string());
    let end = |running: Running| -> Outcome {
        running
            .handle()
            .end(tercio::launch::Ending::Signal(libc::SIGTERM));
        running.wait()
    };

    let (first, second) = (start(1, Bind::Core), start(1, Bind::Core));
    let mut bound = [of(&first), of(&second)].concat();
    bound.sort_unstable();
    assert_eq!(bound, two, "each job has one core, and not the same");
    let third = start(1, Bind::Core);
    assert_eq!(of(&third), two);
    let notes = end(third).notes;
    assert!(
        notes[0]
            .starts_with("ranks are not bound to cores: 1 ranks, 2 usable cores, 0 of them free"),
        "{notes:?}"
    );
    // What a job held is free when it has ended, however it did.
    assert!(end(first).notes[0].starts_with("1 ranks are bound to a core each: "));
    let unbound = start(1, Bind::None);
    assert_eq!(of(&unbound), two);
    let third = start(1, Bind::Core);
    assert_eq!(of(&third), two, "an unbound job holds its cores too");
    for job in [unbound, third, second] {
        end(job);
    }

    let both = start(2, Bind::Core);
    let pids = both.rank_pids().to_vec();
    let mut bound: Vec<usize> = pids
        .iter()
        .flat_map(|pid| allowed_of(&pid.to_string()))
        .collect();
    bound.sort_unstable();
    assert_eq!(bound, two);
    end(both);
    let more = start(3, Bind::Core);
    assert_eq!(of(&more), two, "more ranks than cores are not bound");
    end(more);
}

/// The processors that a process may run on.
fn allowed_of(pid: &str) -> Vec<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap()
        .trim()
        .to_owned();
    list.split(',')
        .flat_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            from.parse::<usize>().unwrap()..=to.parse().unwrap()
        })
        .collect()
}

/// A rank that takes more memory than its control group may use, where one can be made here.
pub fn memory() {
    let name = format!("tercio-test-{}", std::process::id());
    // The first interface (its controller mounted alone), then the second.
    let places = [
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ];
    let made = places.iter().find_map(|(root, limit)| {
        let directory = std::path::Path::new(root).join(&name);
        std::fs::create_dir(&directory).ok()?;
        let ready = std::fs::write(directory.join(limit), (48 << 20).to_string()).and_then(|()| {
            std::fs::write(
                directory.join("cgroup.procs"),
                std::process::id().to_string(),
            )
        });
        match ready {
            Ok(()) => Some((directory, *root)),
            Err(_) => {
                let _ = std::fs::remove_dir(&directory);
                None
            }
        }
    });
    let Some((directory, root)) = made else {
        println!("no memory group can be made here: running out of memory is not tested");
        return;
    };
    let _ = std::fs::write(directory.join("memory.swap.max"), "0");
    let mark = Mark::new();
    let begun = Instant::now();
    let outcome = mark.ranks(3, "sleep", "memory").run().unwrap();
    let took = begun.elapsed();
    std::fs::write(
        std::path::Path::new(root).join("cgroup.procs"),
        std::process::id().to_string(),
    )
    .unwrap();
    std::fs::remove_dir(&directory).unwrap();
    let said = crate::support::verdict(&outcome);
    assert_eq!(outcome.code, 137, "{said}");
    assert!(said.starts_with("tercio: rank 2 of 3 was killed because memory ran out: its memory group may use 48 MiB and used 4"), "{said}");
    assert!(took < 10 * soon(), "{took:?}");
}
