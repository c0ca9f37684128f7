//! What the control groups around this process allow: processors and memory, both versions of the interface (cgroups(7)).
use std::path::{Path, PathBuf};

/// Which interface a controller is mounted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The directories that govern this process for one controller, its own first, then those around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Groups {
    version: Version,
    directories: Vec<PathBuf>,
}

impl Groups {
    /// Those of `controller` ("cpu", "memory") for this process, if it is mounted.
    pub(super) fn of(controller: &str) -> Option<Groups> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        Groups::locate(&groups, &mounts, controller)
    }

    fn locate(groups: &str, mounts: &str, controller: &str) -> Option<Groups> {
        let entries: Vec<(&str, &str)> = groups
            .lines()
            .filter_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                Some((fields.next()?, fields.next()?))
            })
            .collect();
        let v1 = entries
            .iter()
            .find(|(names, _)| names.split(',').any(|name| name == controller));
        let v2 = entries.iter().find(|(names, _)| names.is_empty());
        let (version, path) = match (v1, v2) {
            (Some((_, path)), _) => (Version::V1, *path),
            (None, Some((_, path))) => (Version::V2, *path),
            (None, None) => return None,
        };
        // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAGS] - TYPE SOURCE SUPER-OPTIONS
        let (root, top) = mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let (kind, options) = (right.next()?, right.nth(1)?);
            let fits = match version {
                Version::V1 => {
                    kind == "cgroup" && options.split(',').any(|option| option == controller)
                }
                Version::V2 => kind == "cgroup2",
            };
            let mut left = left.split(' ').skip(3);
            let place = (left.next()?, left.next()?);
            fits.then_some(place)
        })?;
        // In a container the mount may show a part of the tree only, and the path may be told from outside.
        let inside = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let top = PathBuf::from(top);
        let own = top.join(inside);
        let directories = own
            .ancestors()
            .take_while(|dir| dir.starts_with(&top))
            .map(Path::to_path_buf)
            .collect();
        Some(Groups {
            version,
            directories,
        })
    }

    fn read(directory: &Path, file: &str) -> Option<String> {
        std::fs::read_to_string(directory.join(file)).ok()
    }

    fn number(directory: &Path, file: &str) -> Option<u64> {
        Groups::read(directory, file)?.trim().parse().ok()
    }

    /// How many processors' worth of time the groups of "cpu" grant, at least one; `None` without a limit.
    pub(super) fn processors(&self) -> Option<usize> {
        let quota = |dir: &PathBuf| -> Option<u64> {
            let (quota, period) = match self.version {
                Version::V1 => (
                    Groups::number(dir, "cpu.cfs_quota_us")?,
                    Groups::number(dir, "cpu.cfs_period_us")?,
                ),
                Version::V2 => {
                    let text = Groups::read(dir, "cpu.max")?;
                    let (quota, period) = text.trim().split_once(' ')?;
                    (quota.parse().ok()?, period.parse().ok()?)
                }
            };
            quota.checked_div(period)
        };
        self.directories
            .iter()
            .filter_map(quota)
            .min()
            .map(|n| n.max(1) as usize)
    }

    /// How many processes of this group the kernel has killed for want of memory.
    pub(super) fn out_of_memory_kills(&self) -> Option<u64> {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = Groups::read(self.directories.first()?, file)?;
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill "))?
            .trim()
            .parse()
            .ok()
    }

    /// The tightest memory limit and the most that was used under it, in bytes; `None` without a limit.
    pub(super) fn memory(&self) -> Option<(u64, u64)> {
        let (limit, used) = match self.version {
            Version::V1 => (
                "memory.limit_in_bytes",
                ["memory.max_usage_in_bytes", "memory.usage_in_bytes"],
            ),
            Version::V2 => ("memory.max", ["memory.peak", "memory.current"]),
        };
        self.directories
            .iter()
            .filter_map(|dir| {
                // v1 writes "no limit" as a number near 2^63.
                let limit = Groups::number(dir, limit).filter(|n| *n < 1 << 60)?;
                let used = used.iter().find_map(|file| Groups::number(dir, file))?;
                Some((limit, used))
            })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let v2 = Groups::locate(
            "0::/user.slice/job\n",
            "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "cpu",
        )
        .unwrap();
        assert_eq!(v2.version, Version::V2);
        assert_eq!(
            v2.directories,
            [
                "/sys/fs/cgroup/user.slice/job",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup"
            ]
            .map(PathBuf::from)
        );
        let mounts = "30 23 0:27 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n31 23 0:28 / /cg/memory rw shared:9 - cgroup cgroup rw,memory\n";
        let groups = "4:memory:/a\n1:cpu,cpuacct:/b\n0::/\n";
        let v1 = Groups::locate(groups, mounts, "memory").unwrap();
        assert_eq!(
            (v1.version, v1.directories),
            (
                Version::V1,
                vec!["/cg/memory/a".into(), "/cg/memory".into()]
            )
        );
        assert_eq!(
            Groups::locate(groups, mounts, "cpu").unwrap().directories[0],
            Path::new("/cg/cpu/b")
        );
    }

    #[test]
    fn a_container_sees_its_own_part() {
        let mounts = "30 23 0:27 /docker/abc /cg/memory ro - cgroup cgroup rw,memory\n";
        for path in ["4:memory:/docker/abc/x\n", "4:memory:/x\n"] {
            let found = Groups::locate(path, mounts, "memory").unwrap();
            assert!(found.directories[0].starts_with("/cg/memory"), "{found:?}");
        }
        assert_eq!(Groups::locate("", "", "cpu"), None);
    }

    #[test]
    fn limits_are_read() {
        let dir = std::env::temp_dir().join(format!("tercio-cgroup-{}", std::process::id()));
        let inner = dir.join("inner");
        std::fs::create_dir_all(&inner).unwrap();
        for (file, text) in [
            ("cpu.max", "max 100000"),
            ("memory.events", "low 0\noom_kill 3\n"),
            ("memory.max", "4096"),
            ("memory.peak", "4000"),
        ] {
            std::fs::write(inner.join(file), text).unwrap();
        }
        std::fs::write(dir.join("cpu.max"), "250000 100000\n").unwrap();
        let v2 = Groups {
            version: Version::V2,
            directories: vec![inner.clone(), dir.clone()],
        };
        assert_eq!(
            (v2.processors(), v2.out_of_memory_kills(), v2.memory()),
            (Some(2), Some(3), Some((4096, 4000)))
        );
        for (file, text) in [
            ("cpu.cfs_quota_us", "50000\n"),
            ("cpu.cfs_period_us", "100000\n"),
            ("memory.oom_control", "under_oom 0\noom_kill 2\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.usage_in_bytes", "5\n"),
        ] {
            std::fs::write(inner.join(file), text).unwrap();
        }
        let v1 = Groups {
            version: Version::V1,
            directories: vec![inner],
        };
        assert_eq!(
            (v1.processors(), v1.out_of_memory_kills(), v1.memory()),
            (Some(1), Some(2), None)
        );
        std::fs::remove_dir_all(dir).unwrap();
    }
}
