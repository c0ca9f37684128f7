//! A job in frames for the wire, and back.
use super::job::{Bind, Host, Job, Output, Program, Reach, Site, Stdin};
use super::wire::{Order, PAYLOAD};
use crate::job::bytes::{Reader, Writer};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// The most bytes of a job's description: more than the kernel takes as arguments and environment of one program.
const DESCRIPTION: usize = 64 << 20;

/// The job as the agent needs it, in frames for the wire, the last of them [`Order::Go`].
pub(super) fn describe(job: &Job) -> Vec<Order> {
    let stdin = match job.stdin {
        Stdin::None => (0, 0),
        Stdin::Inherit { rank } => (1, rank),
        Stdin::Forward { rank } => (2, rank),
    };
    let (output, tag, path) = match &job.output {
        Output::Inherit { tag } => (0, *tag, None),
        Output::Directory { path, tag } => (1, *tag, Some(path)),
        Output::Capture { tag } => (2, *tag, None),
    };
    let mut w = Writer::default()
        .u64(
            job.timeout
                .map_or(u64::MAX, |d| d.as_nanos().min(u64::MAX as u128 - 1) as u64),
        )
        .u64(job.grace.as_nanos().min(u64::MAX as u128) as u64)
        .u32((job.bind == Bind::Core) as u32)
        .u32(stdin.0)
        .u32(stdin.1 as u32)
        .u32(output)
        .u32(tag as u32)
        .bytes(path.map_or(&[], |p| p.as_os_str().as_bytes()))
        .u32(job.verbose as u32)
        .u32(job.foreign_names as u32)
        .u32(job.universe.map_or(0, |n| n as u32))
        .u32(job.programs.len() as u32);
    for program in &job.programs {
        w = w
            .bytes(program.command.as_bytes())
            .u32(program.ranks as u32)
            .u32(program.args.len() as u32);
        w = program
            .args
            .iter()
            .fold(w, |w, arg| w.bytes(arg.as_bytes()));
        w = w.u32(program.env.len() as u32);
        w = program.env.iter().fold(w, |w, (name, value)| {
            w.bytes(name.as_bytes()).bytes(value.as_bytes())
        });
        w = w.u32(program.wdir.is_some() as u32).bytes(
            program
                .wdir
                .as_ref()
                .map_or(&[], |d| d.as_os_str().as_bytes()),
        );
    }
    w = w
        .u64(job.start_limit.as_nanos().min(u64::MAX as u128) as u64)
        .u64(job.silence.as_nanos().min(u64::MAX as u128) as u64)
        .u32(job.hosts.len() as u32);
    for host in &job.hosts {
        let (kind, command, push) = match &host.reach {
            Reach::Here => (0, &[][..], false),
            Reach::Command { words, push } => (1, &words[..], *push),
        };
        w = w
            .bytes(host.name.as_bytes())
            .u32(kind)
            .u32(push as u32)
            .u32(command.len() as u32);
        w = command.iter().fold(w, |w, word| w.bytes(word.as_bytes()));
        w = w.u32(host.ranks.len() as u32);
        w = host.ranks.iter().fold(w, |w, rank| w.u32(*rank as u32));
    }
    w = w.u32(job.site.is_some() as u32);
    if let Some(site) = &job.site {
        w = w
            .bytes(site.name.as_bytes())
            .bytes(site.job.as_bytes())
            .u32(site.here);
        for list in [&site.host_of_rank, &site.appnums] {
            w = w.u32(list.len() as u32);
            w = list.iter().fold(w, |w, value| w.u32(*value));
        }
    }
    w.0.chunks(PAYLOAD)
        .map(|part| Order::Describe(part.to_vec()))
        .chain([Order::Go])
        .collect()
}

/// A description that arrives in parts.
#[derive(Default)]
pub(super) struct Description(Vec<u8>);

impl Description {
    /// Adds a part; false once it is longer than any job's.
    pub(super) fn push(&mut self, part: &[u8]) -> bool {
        self.0.extend(part);
        self.0.len() <= DESCRIPTION
    }

    /// The job; `None` if the bytes do not describe one.
    pub(super) fn job(&self) -> Option<Job> {
        let mut r = Reader(&self.0);
        let mut job = Job::new();
        job.timeout = Some(r.u64()?)
            .filter(|n| *n != u64::MAX)
            .map(Duration::from_nanos);
        job.grace = Duration::from_nanos(r.u64()?);
        job.bind = if r.u32()? == 1 {
            Bind::Core
        } else {
            Bind::None
        };
        job.stdin = match (r.u32()?, r.u32()? as usize) {
            (0, _) => Stdin::None,
            (1, rank) => Stdin::Inherit { rank },
            (2, rank) => Stdin::Forward { rank },
            _ => return None,
        };
        let (output, tag, path) = (r.u32()?, r.u32()? != 0, PathBuf::from(r.os()?));
        job.output = match output {
            0 => Output::Inherit { tag },
            1 => Output::Directory { path, tag },
            2 => Output::Capture { tag },
            _ => return None,
        };
        job.verbose = r.u32()? != 0;
        job.foreign_names = r.u32()? != 0;
        job.universe = Some(r.u32()? as usize).filter(|n| *n != 0);
        for _ in 0..r.count()? {
            let mut program = Program::new(r.os()?, r.u32()? as usize);
            program.args = (0..r.count()?).map(|_| r.os()).collect::<Option<_>>()?;
            program.env = (0..r.count()?)
                .map(|_| Some((r.os()?, r.os()?)))
                .collect::<Option<_>>()?;
            let has_wdir = r.u32()? != 0;
            let wdir = r.os()?;
            program.wdir = has_wdir.then(|| PathBuf::from(wdir));
            job.programs.push(program);
        }
        job.start_limit = Duration::from_nanos(r.u64()?);
        job.silence = Duration::from_nanos(r.u64()?);
        for _ in 0..r.count()? {
            let (name, kind, push) = (r.text()?, r.u32()?, r.u32()? != 0);
            let words = (0..r.count()?).map(|_| r.os()).collect::<Option<_>>()?;
            let ranks = (0..r.count()?)
                .map(|_| Some(r.u32()? as usize))
                .collect::<Option<_>>()?;
            let reach = match kind {
                0 => Reach::Here,
                _ => Reach::Command { words, push },
            };
            job.hosts.push(Host { name, reach, ranks });
        }
        if r.u32()? != 0 {
            let (name, own, here) = (r.text()?, r.text()?, r.u32()?);
            let mut list = || (0..r.count()?).map(|_| r.u32()).collect::<Option<Vec<_>>>();
            job.site = Some(Site {
                name,
                job: own,
                here,
                host_of_rank: list()?,
                appnums: list()?,
            });
        }
        r.0.is_empty().then_some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::PACKET;
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    fn whole(job: &Job) -> Option<Job> {
        let mut description = Description::default();
        for order in describe(job) {
            assert!(order.encode().len() <= PACKET);
            if let Order::Describe(part) = order {
                assert!(description.push(&part));
            }
        }
        description.job()
    }

    #[test]
    fn jobs_come_back() {
        let program = Program::new("prog", 3)
            .args(["-n", "5"])
            .env("A", "b=c")
            .env("LONG", "x".repeat(3 * PAYLOAD));
        let mut other = Program::new(OsString::from_vec(vec![0xff, b'x']), 1);
        other.wdir = Some("/tmp".into());
        let job = Job::new()
            .program(program)
            .program(other)
            .timeout(Duration::from_millis(1500))
            .grace(Duration::ZERO)
            .bind(Bind::None)
            .stdin(Stdin::Forward { rank: 2 })
            .output(Output::Directory {
                path: "out".into(),
                tag: true,
            })
            .verbose(true)
            .universe_size(12)
            .foreign_names(true)
            .host(Host {
                name: "a".into(),
                reach: Reach::Here,
                ranks: vec![0, 2],
            })
            .host(Host {
                name: "b".into(),
                reach: Reach::Command {
                    words: vec!["ssh".into(), "b".into()],
                    push: true,
                },
                ranks: vec![1, 3],
            })
            .silence(Duration::from_secs(9));
        let mut job = job;
        job.site = Some(Site {
            name: "b".into(),
            job: "1-2".into(),
            here: 1,
            host_of_rank: vec![0, 1, 0, 1],
            appnums: vec![0, 1],
        });
        assert_eq!(format!("{:?}", whole(&job).unwrap()), format!("{job:?}"));
        assert_eq!(
            format!("{:?}", whole(&Job::new()).unwrap()),
            format!("{:?}", Job::new())
        );
    }

    proptest! {
        #[test]
        fn strange_bytes_describe_no_job_or_one(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut description = Description::default();
            prop_assert!(description.push(&bytes));
            let _ = description.job();
        }

        #[test]
        fn a_damaged_description_never_panics(at in 0_usize..120, value in any::<u8>(), keep in 0_usize..120) {
            let job = Job::new().program(Program::new("prog", 3).args(["a"]).env("A", "b"));
            let Order::Describe(mut bytes) = describe(&job).remove(0) else { unreachable!() };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(keep);
            let mut description = Description::default();
            description.push(&bytes);
            let _ = description.job();
        }
    }
}
