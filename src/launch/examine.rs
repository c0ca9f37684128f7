//! What a host has for jobs: looked at, not guessed, each with what mends it.
use super::cgroup::Groups;
use super::cores::Usable;
use crate::job::Segment;
use crate::job::layout::MAX_LOCAL_RANKS;
use crate::sys::{cma, process};
use std::fs::read_to_string;

/// How something that was looked at is; later ones are worse.
///
/// ```
/// use tercio::launch::{Level, examine};
/// let worst = examine().into_iter().map(|check| check.level).max();
/// assert!(worst >= Some(Level::Fine));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine,
    /// Jobs run, and something costs them time or room.
    Warning,
    /// Jobs cannot run, or not with as many ranks as there are cores.
    Failure,
}

/// One thing that [`examine`] looked at.
///
/// ```
/// use tercio::launch::{Level, examine};
/// let cores = examine().into_iter().find(|check| check.what == "processors").unwrap();
/// assert!(cores.level == Level::Fine && cores.mend.is_none());
/// println!("{}", cores.text); // "8 usable"
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// What was looked at, in a word or two.
    pub what: &'static str,
    /// How it is.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// The command or change that mends it, if something is to be mended.
    pub mend: Option<String>,
}

impl Check {
    fn fine(what: &'static str, text: String) -> Check {
        Check {
            what,
            level: Level::Fine,
            text,
            mend: None,
        }
    }

    fn or(self, level: Level, bad: bool, mend: &str) -> Check {
        match bad {
            true => Check {
                level,
                mend: Some(mend.into()),
                ..self
            },
            false => self,
        }
    }
}

/// Descriptors that an agent takes for each rank, and besides.
const DESCRIPTORS: usize = 6;
const DESCRIPTORS_BESIDES: usize = 64;
/// A rank is a process with two threads of ours, and perhaps some of its own.
const TASKS: usize = 4;
/// Memory that ranks take before their programs do anything, with room to spare.
const MEMORY: u64 = 2 << 20;

/// Looks at what this host has for jobs: processors, memory, limits, and what the kernel allows.
///
/// ```
/// use tercio::launch::{Level, examine};
///
/// for check in examine() {
///     println!("{}: {}", check.what, check.text);
///     if let (Level::Failure, Some(mend)) = (check.level, &check.mend) {
///         println!("  {mend}");
///     }
/// }
/// ```
pub fn examine() -> Vec<Check> {
    let usable = Usable::here();
    let ranks = usable.count().clamp(1, MAX_LOCAL_RANKS);
    let mut checks = vec![kernel(), processors(&usable)];
    checks.push(shared_memory(ranks));
    checks.push(memory(ranks));
    checks.push(descriptors(ranks));
    checks.push(processes(ranks));
    checks.push(single_copy());
    checks.extend(huge_pages());
    checks
}

fn kernel() -> Check {
    let release = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let text = format!("Linux {} on {}", release.trim(), std::env::consts::ARCH);
    let old = process::open(process::id()).is_err();
    Check::fine("kernel", text).or(
        Level::Failure,
        old,
        "Linux 5.4 or newer is needed, and pidfd_open must not be forbidden by a sandbox",
    )
}

fn processors(usable: &Usable) -> Check {
    let count = usable.count();
    let all = usable.allowed();
    let text = match count < all {
        true => format!(
            "{count} usable: {all} by the affinity mask, {count} by a control group's quota"
        ),
        false => format!("{count} usable"),
    };
    Check::fine("processors", text).or(
        Level::Failure,
        count == 0,
        "allow this process a processor: `taskset -cp 0- PID`, or the container's setting",
    )
}

fn shared_memory(ranks: usize) -> Check {
    const WHAT: &str = "shared memory";
    match Segment::create(ranks, ranks) {
        Ok(_) => Check::fine(
            WHAT,
            format!("a segment with room for a rank on each of {ranks} processors can be made"),
        ),
        Err(error) => Check {
            what: WHAT,
            level: Level::Failure,
            text: error.to_string(),
            mend: Some(
                "raise the container's limits of memory and address space (`ulimit -v`)".into(),
            ),
        },
    }
}

fn memory(ranks: usize) -> Check {
    let info = read_to_string("/proc/meminfo").unwrap_or_default();
    let free = info.lines().find_map(|line| {
        let kib = line
            .strip_prefix("MemAvailable:")?
            .trim()
            .strip_suffix(" kB")?;
        kib.parse::<u64>().ok()
    });
    let free = free.unwrap_or(0) << 10;
    let limit = Groups::of("memory")
        .and_then(|groups| groups.memory())
        .map(|(limit, _)| limit);
    let mut text = format!("{} MiB are free", free >> 20);
    if let Some(limit) = limit {
        text += &format!(", and a control group allows {} MiB", limit >> 20);
    }
    let room = free.min(limit.unwrap_or(u64::MAX));
    Check::fine("memory", text).or(
        Level::Warning,
        room < ranks as u64 * MEMORY,
        "end what takes the memory, or raise the container's limit",
    )
}

/// Soft and hard value of a row of /proc/self/limits; `usize::MAX` is no limit.
fn limit(row: &str) -> Option<(usize, usize)> {
    let all = read_to_string("/proc/self/limits").ok()?;
    limit_in(&all, row)
}

fn limit_in(all: &str, row: &str) -> Option<(usize, usize)> {
    let mut words = all
        .lines()
        .find_map(|line| line.strip_prefix(row))?
        .split_whitespace();
    let mut value = || match words.next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    };
    Some((value()?, value()?))
}

fn descriptors(ranks: usize) -> Check {
    let (soft, hard) = limit("Max open files").unwrap_or((usize::MAX, usize::MAX));
    // An agent raises its own limit as far as it goes.
    let fits = hard.saturating_sub(DESCRIPTORS_BESIDES) / DESCRIPTORS;
    let text = match fits >= MAX_LOCAL_RANKS {
        true => format!("`ulimit -n` is {soft}, and {hard} at most: enough for any job"),
        false => format!("`ulimit -n` is {soft}, and {hard} at most: enough for {fits} ranks"),
    };
    Check::fine("descriptors", text).or(
        Level::Warning,
        fits < ranks,
        "raise the hard limit: `ulimit -Hn 65536` as root, or nofile in /etc/security/limits.conf",
    )
}

fn processes(ranks: usize) -> Check {
    const WHAT: &str = "processes";
    let (soft, _) = limit("Max processes").unwrap_or((usize::MAX, usize::MAX));
    let needed = ranks * TASKS;
    if soft == usize::MAX {
        return Check::fine(WHAT, "`ulimit -u` sets no limit".into());
    }
    Check::fine(
        WHAT,
        format!("`ulimit -u` is {soft}; a rank for each processor takes {needed}"),
    )
    .or(
        Level::Warning,
        soft < needed && process::user() != 0,
        "raise it: `ulimit -u 65536`, or nproc in /etc/security/limits.conf",
    )
}

fn single_copy() -> Check {
    const WHAT: &str = "single copy";
    let scope = read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
    let scope = scope.as_deref().map(str::trim);
    let (source, mut target) = ([7_u8; 8], [0_u8; 8]);
    // SAFETY: `target` has eight bytes, and nobody else uses them.
    let read = unsafe {
        cma::read(
            process::id() as i32,
            source.as_ptr() as u64,
            target.as_mut_ptr(),
            source.len(),
        )
    };
    let instead = "large messages go through shared memory, which is often as fast";
    match (read, scope) {
        (Err(error), _) => Check::fine(
            WHAT,
            format!("process_vm_readv is refused ({error}): {instead}"),
        )
        .or(
            Level::Warning,
            true,
            "allow it in the container: `--cap-add SYS_PTRACE`, or its seccomp profile",
        ),
        (Ok(()), Some("2" | "3")) => Check::fine(
            WHAT,
            format!("Yama refuses process_vm_readv between ranks: {instead}"),
        )
        .or(
            Level::Warning,
            process::user() != 0 || scope == Some("3"),
            "`sysctl kernel.yama.ptrace_scope=1` as root",
        ),
        (Ok(()), _) => Check::fine(WHAT, "process_vm_readv is allowed".into()),
    }
}

fn huge_pages() -> Option<Check> {
    let modes = read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").ok()?;
    let mode = modes.split_once('[')?.1.split_once(']')?.0.to_owned();
    let wasteful = matches!(mode.as_str(), "always" | "force");
    let text = match wasteful {
        true => format!(
            "transparent huge pages for shared memory: {mode}; each pair of ranks that talks takes 2 MiB at least"
        ),
        false => format!("transparent huge pages for shared memory: {mode}"),
    };
    Some(Check::fine("huge pages", text).or(
        Level::Warning,
        wasteful,
        "`echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled` as root",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let all = "Limit                     Soft Limit           Hard Limit           Units     \n\
                   Max processes             unlimited            unlimited            processes \n\
                   Max open files            1024                 524288               files     \n";
        assert_eq!(limit_in(all, "Max open files"), Some((1024, 524288)));
        assert_eq!(
            limit_in(all, "Max processes"),
            Some((usize::MAX, usize::MAX))
        );
        assert_eq!(limit_in(all, "Max nothing"), None);
    }

    #[test]
    fn what_is_amiss_has_something_that_mends_it() {
        let checks = examine();
        for check in &checks {
            assert_eq!(
                check.level == Level::Fine,
                check.mend.is_none(),
                "{check:?}"
            );
            assert!(!check.text.is_empty());
        }
        // The tests themselves need these.
        for what in ["kernel", "processors", "shared memory"] {
            let check = checks.iter().find(|check| check.what == what).unwrap();
            assert_eq!(check.level, Level::Fine, "{check:?}");
        }
    }
}
