//! The ranks' processes: how they are started, and what the agent knows of each.
use super::job::{Error, Job, Program, Stdin};
use super::streams::Lines;
use crate::job::Segment;
use crate::job::identity::{self, Birth};
use crate::sys::{cpu, fd, process};
use core::ops::Range;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

/// The process that claimed a rank.
pub(super) struct Claimant {
    pub(super) pid: u32,
    pub(super) process: OwnedFd,
    /// Our end of its lifeline: it lives while this is open.
    pub(super) _lifeline: OwnedFd,
    pub(super) ended: bool,
}

/// A stop that was seen and not yet followed by a continue.
pub(super) struct Stop {
    pub(super) since: Instant,
    pub(super) signal: i32,
    pub(super) told: bool,
}

/// One rank: the process started for it, which leads a group of its own, and the process that claimed it.
pub(super) struct Rank {
    pub(super) pid: u32,
    pub(super) process: OwnedFd,
    /// It stays a zombie until the job is over, so that its number and its group's keep their meaning.
    pub(super) exit: Option<process::Exit>,
    pub(super) claim: Option<OwnedFd>,
    pub(super) claimant: Option<Claimant>,
    pub(super) stop: Option<Stop>,
    /// Standard output and error: the pipe, until its end, and what is held of it.
    pub(super) streams: [(Option<OwnedFd>, Lines); 2],
    pub(super) program: usize,
    /// It was to be spawned, and one of those to be spawned with it could not be: how it ends is no failure of the job.
    pub(super) given_up: bool,
    /// The other hosts know that it is gone.
    pub(super) departed: bool,
}

impl Rank {
    /// Whether neither the process started for it nor its claimant is left.
    pub(super) fn over(&self) -> bool {
        self.exit.is_some() && self.claimant.as_ref().is_none_or(|claimant| claimant.ended)
    }

    /// The process that is the rank, for messages.
    pub(super) fn main_pid(&self) -> u32 {
        self.claimant
            .as_ref()
            .map_or(self.pid, |claimant| claimant.pid)
    }

    /// That process: a wrapper that started it hears nothing of what is meant for it.
    pub(super) fn main_process(&self) -> BorrowedFd<'_> {
        let claimant = self.claimant.as_ref();
        claimant.map_or(self.process.as_fd(), |claimant| claimant.process.as_fd())
    }

    /// Whether the process started for it claimed it itself.
    pub(super) fn is_claimant(&self) -> bool {
        self.claimant
            .as_ref()
            .is_some_and(|claimant| claimant.pid == self.pid)
    }

    /// Whether its claimant lives and is not our child, but a wrapper's.
    pub(super) fn has_stranger(&self) -> bool {
        self.claimant
            .as_ref()
            .is_some_and(|claimant| !claimant.ended && claimant.pid != self.pid)
    }

    /// Whether all that it wrote has been read.
    pub(super) fn silent(&self) -> bool {
        self.streams.iter().all(|(pipe, _)| pipe.is_none())
    }
}

/// What was not done of a rank's start, as its process tells over the launch pipe before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    Setup = 0,
    Directory = 1,
    Execute = 2,
}

const FAILED: usize = 9;

/// Turns what a process told over the launch pipe into a sentence.
pub(super) fn refusal(told: &[u8], job: &Job, numbers: &[usize]) -> Option<Error> {
    let told = told.get(..FAILED)?;
    let rank = u32::from_le_bytes(told[..4].try_into().ok()?) as usize;
    let error = io::Error::from_raw_os_error(i32::from_le_bytes(told[4..8].try_into().ok()?));
    let program = program_of(job, rank)?;
    let name = program.command.to_string_lossy();
    let rank = numbers.get(rank).copied().unwrap_or(rank);
    Some(match told[8] {
        1 => {
            let directory = program.wdir.clone().unwrap_or_default();
            Error::new(
                125,
                format!(
                    "rank {rank} cannot start in {}: {error}",
                    directory.display()
                ),
            )
        }
        2 if error.raw_os_error() == Some(libc::ENOENT) => Error::new(
            126,
            format!(
                "{name} cannot be executed: the interpreter or loader that it names does not exist"
            ),
        ),
        2 => Error::new(126, format!("{name} cannot be executed: {error}")),
        _ => Error::new(125, format!("rank {rank} cannot be set up: {error}")),
    })
}

fn program_of(job: &Job, rank: usize) -> Option<&Program> {
    let mut first = 0;
    job.programs.iter().find(|program| {
        first += program.ranks;
        rank < first
    })
}

/// What ranks that are started together have in common.
pub(super) struct Launch<'a> {
    pub(super) job: &'a Job,
    pub(super) name: &'a str,
    pub(super) segment: &'a Segment,
    /// Their numbers in the job.
    pub(super) world: Range<usize>,
    /// The first of their programs.
    pub(super) first_program: usize,
    /// How they came to be, if others spawned them.
    pub(super) birth: Option<&'a Birth>,
    /// The processor of each of them; empty if none is bound.
    pub(super) cores: &'a [usize],
    pub(super) null: OwnedFd,
    /// The reading end of the pipe that feeds the rank to which standard input is forwarded.
    pub(super) fed: Option<OwnedFd>,
    /// Their numbers among the ranks of all hosts, by index; empty if there is one host.
    pub(super) numbers: &'a [usize],
    /// Writing end of the launch pipe: closed by each successful exec.
    pub(super) tell: OwnedFd,
    pub(super) limit: Option<process::DescriptorLimit>,
}

impl Launch<'_> {
    /// Starts rank `rank` as a process of program number `program`, which is the file `file`.
    pub(super) fn start(&self, rank: usize, program: usize, file: &Path) -> io::Result<Rank> {
        let (agent_end, claim) = fd::packet_pair()?;
        fd::ask_credentials(agent_end.as_fd())?;
        let (out, out_end) = fd::pipe()?;
        let (err, err_end) = fd::pipe()?;
        fd::set_nonblocking(&out)?;
        fd::set_nonblocking(&err)?;
        let image = self.image(rank, program, file, claim.as_raw_fd())?;
        let agent = process::id();
        match process::fork()? {
            process::Fork::Child => {
                let (step, error) = self.become_rank(
                    rank,
                    agent,
                    &image,
                    &claim,
                    [out_end.as_fd(), err_end.as_fd()],
                );
                let mut told = Vec::with_capacity(FAILED);
                told.extend((rank as u32).to_le_bytes());
                told.extend(error.raw_os_error().unwrap_or(libc::EINVAL).to_le_bytes());
                told.push(step as u8);
                let _ = fd::write(self.tell.as_raw_fd(), &told);
                process::exit_now(127)
            }
            process::Fork::Parent(pid) => {
                // Both sides do it, so that it is done for whoever comes first; after exec it is refused, and was done.
                let _ = process::new_group(pid);
                Ok(Rank {
                    pid,
                    process: process::open(pid)?,
                    exit: None,
                    claim: Some(agent_end),
                    claimant: None,
                    stop: None,
                    streams: [(Some(out), Lines::default()), (Some(err), Lines::default())],
                    program,
                    given_up: false,
                    departed: false,
                })
            }
        }
    }

    /// In the new process: everything between fork and exec. Returns only what failed.
    fn become_rank(
        &self,
        rank: usize,
        agent: u32,
        image: &Image,
        claim: &OwnedFd,
        streams: [BorrowedFd<'_>; 2],
    ) -> (Step, io::Error) {
        let set_up = || -> io::Result<()> {
            process::new_group(0)?;
            process::die_with_parent()?;
            if process::parent() != agent {
                // The agent died before that took hold.
                process::exit_now(127);
            }
            if let Some(&core) = self.cores.get(rank - self.world.start) {
                cpu::bind(core)?;
            }
            match self.job.stdin {
                Stdin::Inherit { rank: reader } if reader == rank => {}
                Stdin::Forward { rank: reader } if reader == rank => {
                    fd::duplicate_onto(self.fed.as_ref().unwrap_or(&self.null).as_raw_fd(), 0)?;
                }
                _ => fd::duplicate_onto(self.null.as_raw_fd(), 0)?,
            }
            fd::duplicate_onto(streams[0].as_raw_fd(), 1)?;
            fd::duplicate_onto(streams[1].as_raw_fd(), 2)?;
            fd::set_close_on_exec(claim.as_raw_fd(), false)?;
            if let Some(segment) = self.segment.fd() {
                fd::set_close_on_exec(segment.as_raw_fd(), false)?;
            }
            for bell in self.segment.bells() {
                fd::set_close_on_exec(bell.as_raw_fd(), false)?;
            }
            if let Some(limit) = self.limit {
                limit.set();
            }
            Ok(())
        };
        if let Err(error) = set_up() {
            return (Step::Setup, error);
        }
        if let Some(Err(error)) = self.job.programs[image.program]
            .wdir
            .as_ref()
            .map(std::env::set_current_dir)
        {
            return (Step::Directory, error);
        }
        process::reset_signals();
        let error = process::execute(&image.file, &image.args, &image.env);
        if error.raw_os_error() != Some(libc::ENOEXEC) {
            return (Step::Execute, error);
        }
        // A script without a first line that names its interpreter is the shell's, as execvp has it.
        let mut args = vec![c"/bin/sh".to_owned(), image.file.clone()];
        args.extend(image.args.iter().skip(1).cloned());
        (
            Step::Execute,
            process::execute(c"/bin/sh", &args, &image.env),
        )
    }

    fn image(&self, rank: usize, number: usize, file: &Path, claim: RawFd) -> io::Result<Image> {
        let program = &self.job.programs[number];
        let text = |text: &OsStr| {
            CString::new(text.as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
        };
        // Spawned ranks have the environment that their parent gave them.
        let mut env: BTreeMap<OsString, OsString> = match self.birth {
            None => std::env::vars_os()
                .filter(|(name, _)| !super::is_our_role(name))
                .collect(),
            Some(_) => BTreeMap::new(),
        };
        env.extend(program.env.iter().cloned());
        let (local, local_size) = (rank - self.world.start, self.world.len());
        let (own, size, appnum) = match &self.job.site {
            Some(site) => (
                self.numbers[rank],
                site.host_of_rank.len(),
                site.appnums[number] as usize,
            ),
            None => (local, local_size, number - self.first_program),
        };
        if self.job.foreign_names {
            for (name, value) in foreign_names(own, size, local, local_size) {
                env.insert(name.into(), value.into());
            }
        }
        let segment = self.segment.fd().map_or(-1, |fd| fd.as_raw_fd());
        for (name, value) in [
            (identity::RANK, own.to_string()),
            (identity::SIZE, size.to_string()),
            (identity::SEGMENT_FD, segment.to_string()),
            (identity::CLAIM_FD, claim.to_string()),
            (identity::JOB, self.name.to_owned()),
            (identity::APPNUM, appnum.to_string()),
        ] {
            env.insert(name.into(), value.into());
        }
        match self.birth {
            Some(birth) => env.insert(identity::BIRTH.into(), birth.to_text().into()),
            None => env.remove(OsStr::new(identity::BIRTH)),
        };
        let bells: Vec<String> = self
            .segment
            .bells()
            .iter()
            .map(|bell| bell.as_raw_fd().to_string())
            .collect();
        match bells.is_empty() {
            false => env.insert(identity::BELLS.into(), bells.join(",").into()),
            true => env.remove(OsStr::new(identity::BELLS)),
        };
        // A relative file counts from the directory that the rank starts in, which `file` names already.
        let file = if program.wdir.is_some() {
            std::path::absolute(file)?
        } else {
            file.to_path_buf()
        };
        Ok(Image {
            program: number,
            file: text(file.as_os_str())?,
            args: [&program.command]
                .into_iter()
                .chain(&program.args)
                .map(|arg| text(arg))
                .collect::<io::Result<_>>()?,
            env: env
                .iter()
                .map(|(name, value)| {
                    text(&[name.as_os_str(), value.as_os_str()].join(OsStr::new("=")))
                })
                .collect::<io::Result<_>>()?,
        })
    }
}

/// What a rank executes.
struct Image {
    program: usize,
    file: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

/// Rank and size as launchers of other makes tell them. Only names that no library takes for its launcher's presence.
fn foreign_names(
    rank: usize,
    size: usize,
    local: usize,
    local_size: usize,
) -> [(&'static str, String); 10] {
    let (rank, size) = (rank.to_string(), size.to_string());
    let (local, local_size) = (local.to_string(), local_size.to_string());
    [
        ("OMPI_COMM_WORLD_RANK", rank.clone()),
        ("OMPI_COMM_WORLD_SIZE", size.clone()),
        ("OMPI_COMM_WORLD_LOCAL_RANK", local.clone()),
        ("OMPI_COMM_WORLD_LOCAL_SIZE", local_size.clone()),
        ("PMI_RANK", rank.clone()),
        ("PMI_SIZE", size.clone()),
        ("RANK", rank),
        ("WORLD_SIZE", size),
        ("LOCAL_RANK", local),
        ("LOCAL_WORLD_SIZE", local_size),
    ]
}
