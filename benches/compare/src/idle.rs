//! What ranks cost while they wait: processor time, a neighbour's time, memory.
use crate::World;
use crate::probe::now;
use mpi::traits::*;
use std::time::Duration;

/// How long a receiver waits before its message is sent: by then it sleeps.
pub const ASLEEP_NS: u64 = 5_000_000;

/// Ranks 0 and 1: how long after the send of a message its receiver, which waits for some ms, runs. The median, by rank 1.
pub fn wake(world: &World, count: usize) -> String {
    let mut times = Vec::new();
    for _ in 0..count {
        world.barrier();
        if world.rank() == 0 {
            let begin = now();
            while now() - begin < ASLEEP_NS {}
            world.process_at_rank(1).send(&now());
        } else if world.rank() == 1 {
            let (sent, _) = world.process_at_rank(0).receive::<u64>();
            times.push(now() - sent);
        }
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0).to_string()
}

/// Rank 1 receives what rank 0 sends after `ms`: its CPU time meanwhile, in ns.
pub fn blocked(world: &World, ms: usize) -> String {
    world.barrier();
    let before = cpu();
    if world.rank() == 0 {
        std::thread::sleep(Duration::from_millis(ms as u64));
        world.process_at_rank(1).send(&1_u8);
    } else if world.rank() == 1 {
        world.process_at_rank(0).receive::<u8>();
    }
    (cpu() - before).to_string()
}

/// Ranks 0 and 1 compute while ranks 2 and 3 wait for what they send afterwards: ns of the loop.
pub fn beside(world: &World, steps: usize) -> String {
    let rank = world.rank();
    world.barrier();
    if rank >= 2 {
        world.process_at_rank(rank - 2).receive::<u8>();
        return "0".to_owned();
    }
    let time = compute(steps);
    if rank + 2 < world.size() {
        world.process_at_rank(rank + 2).send(&1_u8);
    }
    time
}

/// A loop that only computes, in ns.
pub fn compute(steps: usize) -> String {
    let start = now();
    let mut state = start | 1;
    for _ in 0..steps {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    std::hint::black_box(state);
    (now() - start).to_string()
}

/// CPU time of this process so far, in ns.
fn cpu() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call fills in the structure, and cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// This process's memory, in bytes.
pub struct Memory {
    private: u64,
    proportional: u64,
}

impl Memory {
    pub fn now() -> Memory {
        // A memory file's pages that only this process maps count as private too; those are counted as the file's blocks. And so do clean pages of programs
        // and libraries, as long as no other process has looked at the same ones: they are nobody's own.
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let mut of_a_file = false;
        let (mut private, mut proportional) = (0, 0);
        for line in text.lines() {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            let Some(name) = name.strip_suffix(':') else {
                of_a_file = rest.contains("/memfd:");
                continue;
            };
            let kib = || rest.split_whitespace().next()?.parse::<u64>().ok();
            match name {
                "Private_Dirty" if !of_a_file => {
                    private += kib().unwrap_or_default();
                }
                "Pss" => proportional += kib().unwrap_or_default(),
                _ => {}
            }
        }
        Memory {
            private: 1024 * private,
            proportional: 1024 * proportional,
        }
    }

    /// Counts what came between two moments as here before.
    pub fn add(&mut self, from: &Memory, to: &Memory) {
        self.private += to.private.saturating_sub(from.private);
        self.proportional += to.proportional.saturating_sub(from.proportional);
    }
}

/// After 8 B, 4 KiB and 1 MiB were exchanged with each of four neighbours: private bytes and proportional bytes that came on
/// top of what the process had before `initialize`, and the bytes of the memory files that it has open.
pub fn memory(world: &World, before: &Memory) -> String {
    let (rank, size) = (world.rank(), world.size());
    {
        let (message, mut room) = (vec![1_u8; 1 << 20], vec![0_u8; 1 << 20]);
        for distance in [1, 2, size - 1, size - 2].map(|distance| distance.rem_euclid(size)) {
            let (to, from) = ((rank + distance) % size, (rank + size - distance) % size);
            if distance == 0 {
                continue;
            }
            for bytes in [8, 4096, 1 << 20] {
                mpi::request::scope(|scope| {
                    let from = world.process_at_rank(from);
                    let request = from.immediate_receive_into(scope, &mut room[..bytes]);
                    world.process_at_rank(to).send(&message[..bytes]);
                    request.wait();
                });
            }
        }
    }
    world.barrier();
    let after = Memory::now();
    let answer = format!(
        "{} {} {}",
        after.private.saturating_sub(before.private),
        after.proportional.saturating_sub(before.proportional),
        memory_files()
    );
    world.barrier();
    answer
}

/// The bytes taken by memory files that this process has mapped: the job's segment, each file once.
fn memory_files() -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut seen = Vec::new();
    let mut bytes = 0;
    for entry in std::fs::read_dir("/proc/self/map_files")
        .into_iter()
        .flatten()
        .flatten()
    {
        let Ok(target) = std::fs::read_link(entry.path()) else {
            continue;
        };
        if !target.to_string_lossy().starts_with("/memfd:") {
            continue;
        }
        if let Ok(about) = std::fs::metadata(entry.path()) {
            if !seen.contains(&about.ino()) && !target.to_string_lossy().contains("tercio-bench") {
                seen.push(about.ino());
                bytes += 512 * about.blocks();
            }
        }
    }
    bytes
}
