//! One host's part of a job.
use crate::job::identity;
use crate::launch::job::{Job, Output, Program, Reach, Site, Stdin};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What ranks on other hosts get of the launcher's surroundings.
pub(super) struct Around {
    pub(super) directory: PathBuf,
    pub(super) env: Vec<(OsString, OsString)>,
}

impl Around {
    /// This process's directory, and of its variables those that say where programs and libraries are, or how Rust and Tercio behave.
    pub(super) fn here() -> std::io::Result<Around> {
        Ok(Around {
            directory: std::env::current_dir()?,
            env: std::env::vars_os()
                .filter(|(name, _)| goes_along(name))
                .collect(),
        })
    }
}

fn goes_along(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let own = [
        identity::RANK,
        identity::SIZE,
        identity::SEGMENT_FD,
        identity::CLAIM_FD,
        identity::JOB,
        identity::APPNUM,
        identity::BIRTH,
        crate::launch::ROLE,
        crate::launch::CONTROL,
    ];
    matches!(name, "PATH" | "LD_LIBRARY_PATH")
        || name.starts_with("RUST_")
        || name.starts_with("TERCIO_") && !own.contains(&name)
}

/// The part of `job` that host number `at` runs; `name` is the job's.
pub(super) fn part(job: &Job, at: usize, name: &str, around: &Around) -> Job {
    let host = &job.hosts[at];
    let remote = host.reach != Reach::Here;
    let mut part = Job {
        programs: Vec::new(),
        timeout: None,
        hosts: Vec::new(),
        universe: None,
        ..job.clone()
    };
    let mut appnums = Vec::new();
    let mut first = 0;
    for (number, program) in job.programs.iter().enumerate() {
        let all = first..first + program.ranks;
        first = all.end;
        let ranks = host.ranks.iter().filter(|rank| all.contains(rank)).count();
        if ranks == 0 {
            continue;
        }
        let mut own = Program {
            ranks,
            ..program.clone()
        };
        if remote {
            own.env = around.env.iter().chain(&program.env).cloned().collect();
            own.wdir = Some(match &program.wdir {
                Some(wdir) => around.directory.join(wdir),
                None => around.directory.clone(),
            });
        }
        part.programs.push(own);
        appnums.push(number as u32);
    }
    let local = |reader: usize| host.ranks.iter().position(|rank| *rank == reader);
    part.stdin = match job.stdin {
        Stdin::Inherit { rank } if !remote => {
            local(rank).map_or(Stdin::None, |rank| Stdin::Inherit { rank })
        }
        Stdin::Forward { rank } => local(rank).map_or(Stdin::None, |rank| Stdin::Forward { rank }),
        _ => Stdin::None,
    };
    if let Output::Directory { path, .. } = &mut part.output {
        *path = around.directory.join(&*path);
    }
    let mut host_of_rank = vec![0; job.ranks()];
    for (number, host) in job.hosts.iter().enumerate() {
        for &rank in &host.ranks {
            host_of_rank[rank] = number as u32;
        }
    }
    part.site = Some(Site {
        name: host.name.clone(),
        job: name.into(),
        here: at as u32,
        host_of_rank,
        appnums,
    });
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::directory::Place;
    use crate::launch::Host;

    #[test]
    fn each_host_gets_its_part() {
        let host = |name: &str, reach: Reach, ranks: &[usize]| Host {
            name: name.into(),
            reach,
            ranks: ranks.to_vec(),
        };
        let there = Reach::Command {
            words: vec!["ssh".into()],
            push: false,
        };
        let mut second = Program::new("./y", 2);
        second.wdir = Some("sub".into());
        let job = Job::new()
            .program(Program::new("./x", 3).env("A", "1"))
            .program(second)
            .stdin(Stdin::Forward { rank: 1 })
            .output(Output::Directory {
                path: "logs".into(),
                tag: true,
            })
            .host(host("a", Reach::Here, &[0, 2, 4]))
            .host(host("b", there.clone(), &[1]))
            .host(host("c", there, &[3]));
        let around = Around {
            directory: "/home/me".into(),
            env: vec![("PATH".into(), "/bin".into())],
        };
        let parts: Vec<Job> = (0..3).map(|at| part(&job, at, "7-1", &around)).collect();
        let ranks = |job: &Job| job.programs.iter().map(|p| p.ranks).collect::<Vec<_>>();
        assert_eq!(ranks(&parts[0]), [2, 1]);
        assert_eq!((ranks(&parts[1]), ranks(&parts[2])), (vec![1], vec![1]));
        assert_eq!(parts[1].stdin, Stdin::Forward { rank: 0 });
        assert_eq!(parts[0].stdin, Stdin::None);
        assert_eq!(parts[0].programs[1].wdir, Some("sub".into()));
        assert_eq!(parts[2].programs[0].wdir, Some("/home/me/sub".into()));
        assert_eq!(parts[1].programs[0].wdir, Some("/home/me".into()));
        assert_eq!(
            parts[1].programs[0].env,
            [("PATH".into(), "/bin".into()), ("A".into(), "1".into())]
        );
        let site = parts[2].site.clone().unwrap();
        assert_eq!(site.host_of_rank, [0, 1, 0, 2, 0]);
        assert_eq!((site.numbers(), site.appnums.clone()), (vec![3], vec![1]));
        let place = |host, local| Place { host, local };
        assert_eq!(site.places()[2..4], [place(0, 1), place(2, 0)]);
        assert!(matches!(&parts[1].output, Output::Directory { path, .. } if path.is_absolute()));
    }

    #[test]
    fn what_goes_along() {
        for name in ["PATH", "LD_LIBRARY_PATH", "RUST_BACKTRACE", "TERCIO_WAIT"] {
            assert!(goes_along(OsStr::new(name)), "{name}");
        }
        for name in ["HOME", "TERCIO_ROLE", "TERCIO_RANK", "TERCIO_CONTROL_FD"] {
            assert!(!goes_along(OsStr::new(name)), "{name}");
        }
    }
}
