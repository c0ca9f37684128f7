//! What a job will do, before it does it: which file each program is, and what can be said against it.
use super::cores::Usable;
use super::job::{Bind, Error, Job, Program, Reach, Stdin};
use crate::job::layout::{MAX_LOCAL_RANKS, MAX_RANKS};
use crate::sys::process;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a job will do, as [`Job::plan`] finds it out without starting anything. Its `Display` is for people, several lines.
///
/// ```
/// use tercio::launch::{Job, Program};
///
/// let plan = Job::new().program(Program::new("sh", 2).args(["-c", "true"])).plan().unwrap();
/// assert!(plan.to_string().starts_with("ranks 0 to 1: /"));
/// let error = Job::new().program(Program::new("./no-such-program", 2)).plan().unwrap_err();
/// assert_eq!(error.code(), 127);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// For each program: its ranks, the file that is executed, its arguments.
    programs: Vec<(std::ops::Range<usize>, PathBuf, Vec<OsString>)>,
    cores: usize,
    bind: Bind,
}

impl Job {
    /// Checks the job and finds its programs, without starting anything.
    ///
    /// # Errors
    /// Those of [`Job::start`], as far as they can be foreseen.
    pub fn plan(&self) -> Result<Plan, Error> {
        let size = self.ranks();
        if self.programs.is_empty() {
            return Err(Error::new(
                125,
                "no program was given; say what to run, as in `tercio run -n 4 ./program`",
            ));
        }
        if let Some(program) = self.programs.iter().find(|program| program.ranks == 0) {
            let name = program.command.to_string_lossy();
            return Err(Error::new(
                125,
                format!("0 ranks were asked for {name}; ask for at least 1"),
            ));
        }
        let most = match self.spans_hosts() {
            true => MAX_RANKS,
            false => MAX_LOCAL_RANKS,
        };
        if size > most {
            return Err(Error::new(
                125,
                format!(
                    "{size} ranks were asked for, and {} at most {most}; use fewer",
                    if self.spans_hosts() {
                        "a job takes"
                    } else {
                        "one host takes"
                    }
                ),
            ));
        }
        if let Some(universe) = self.universe.filter(|n| *n < size || *n > MAX_LOCAL_RANKS) {
            return Err(Error::new(
                125,
                format!(
                    "a universe of {universe} ranks was asked for; it is at least the {size} that the job begins with, and at most {MAX_LOCAL_RANKS}"
                ),
            ));
        }
        if let Stdin::Inherit { rank } | Stdin::Forward { rank } = self.stdin {
            if rank >= size {
                let text = format!(
                    "standard input was to go to rank {rank}, but the ranks are 0 to {}",
                    size - 1
                );
                return Err(Error::new(125, text));
            }
        }
        self.check_hosts()?;
        let mut first = 0;
        let mut programs = Vec::new();
        for program in &self.programs {
            let ranks = first..first + program.ranks;
            first = ranks.end;
            // What runs elsewhere is looked for there.
            let file = match self.has_here(&ranks) {
                true => find(program)?,
                false => PathBuf::from(&program.command),
            };
            programs.push((ranks, file, program.args.clone()));
        }
        Ok(Plan {
            programs,
            cores: Usable::here().count(),
            bind: self.bind,
        })
    }
}

impl Job {
    /// Each rank must have one host, and no host more ranks than it can take.
    fn check_hosts(&self) -> Result<(), Error> {
        if self.hosts.is_empty() {
            return Ok(());
        }
        let refuse = |text: String| Err(Error::new(125, text));
        let mut seen = vec![false; self.ranks()];
        for host in &self.hosts {
            let name = &host.name;
            if host.ranks.is_empty() {
                return refuse(format!("host \"{name}\" has no rank; leave it out"));
            }
            if host.ranks.len() > MAX_LOCAL_RANKS {
                return refuse(format!(
                    "host \"{name}\" was to run {} ranks, and one host takes at most {MAX_LOCAL_RANKS}; use more hosts",
                    host.ranks.len()
                ));
            }
            if !host.ranks.is_sorted() {
                return refuse(format!("the ranks of host \"{name}\" are not in order"));
            }
            for &rank in &host.ranks {
                match seen.get_mut(rank) {
                    Some(seen) if !*seen => *seen = true,
                    Some(_) => return refuse(format!("rank {rank} was to run on two hosts")),
                    None => {
                        return refuse(format!(
                            "host \"{name}\" was to run rank {rank}, and there is none"
                        ));
                    }
                }
            }
        }
        match seen.iter().position(|seen| !seen) {
            Some(rank) => refuse(format!("rank {rank} has no host")),
            None => Ok(()),
        }
    }

    /// Whether one of these ranks runs on this host.
    fn has_here(&self, ranks: &std::ops::Range<usize>) -> bool {
        let here = self.hosts.iter().filter(|host| host.reach == Reach::Here);
        let mut of_here = here.flat_map(|host| &host.ranks);
        self.hosts.is_empty() || of_here.any(|rank| ranks.contains(rank))
    }

    /// Standard input can be inherited on this host only; to a rank on another it is forwarded.
    pub(super) fn find_reader(&mut self) {
        if let Stdin::Inherit { rank } = self.stdin {
            if !self.has_here(&(rank..rank + 1)) {
                self.stdin = Stdin::Forward { rank };
            }
        }
    }
}

impl Plan {
    /// The file that each program is, in the job's order.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.programs.iter().map(|(_, file, _)| file.as_path())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.programs.last().map_or(0, |(ranks, ..)| ranks.end);
        for (ranks, file, args) in &self.programs {
            match ranks.len() {
                1 => write!(f, "rank {}: {}", ranks.start, file.display())?,
                _ => write!(
                    f,
                    "ranks {} to {}: {}",
                    ranks.start,
                    ranks.end - 1,
                    file.display()
                )?,
            }
            for arg in args {
                write!(f, " {}", arg.to_string_lossy())?;
            }
            writeln!(f)?;
        }
        match (self.bind, size <= self.cores) {
            (Bind::Core, true) => writeln!(
                f,
                "{size} of {} cores, one for each rank where no other job holds them",
                self.cores
            ),
            (Bind::Core, false) => writeln!(f, "{size} ranks on {} cores, not bound", self.cores),
            (Bind::None, _) => writeln!(f, "{} cores, not bound on request", self.cores),
        }
    }
}

/// The file that executing `program` executes, by the rules of the shell: a name without a slash is looked up in the `PATH` that the rank
/// will have, relative names count from the directory that it will start in.
pub(super) fn find(program: &Program) -> Result<PathBuf, Error> {
    let name = program.command.to_string_lossy();
    let directory = program.wdir.clone().unwrap_or_default();
    if let Some(wdir) = program.wdir.as_ref().filter(|wdir| !wdir.is_dir()) {
        return Err(Error::new(
            125,
            format!(
                "{name} was to start in {}, which is no directory; make it, or name another",
                wdir.display()
            ),
        ));
    }
    let not_executable = |file: &Path| {
        let why = if file.is_dir() {
            "is a directory".into()
        } else {
            format!(
                "is not executable; `chmod +x {}` if it is a program",
                file.display()
            )
        };
        Error::new(
            126,
            format!("{name} cannot be run: {} {why}", file.display()),
        )
    };
    if program.command.as_bytes().contains(&b'/') {
        let file = directory.join(&program.command);
        return match file.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(not_executable(&file))
            }
            Err(_) => Err(Error::new(
                127,
                format!("there is no program {}; check the path", file.display()),
            )),
            Ok(_) if process::may_execute(&file) => Ok(file),
            Ok(_) => Err(not_executable(&file)),
        };
    }
    let path = program
        .env
        .iter()
        .rev()
        .find(|(variable, _)| variable == "PATH")
        .map(|(_, value)| value.clone());
    let path = path
        .or_else(|| std::env::var_os("PATH"))
        .unwrap_or_else(|| "/usr/local/bin:/bin:/usr/bin".into());
    let mut forbidden = None;
    for entry in path
        .as_bytes()
        .split(|&byte| byte == b':')
        .filter(|_| !program.command.is_empty())
    {
        let entry = if entry.is_empty() { b"." } else { entry };
        let file = directory
            .join(OsStr::from_bytes(entry))
            .join(&program.command);
        if file.is_file() {
            if process::may_execute(&file) {
                return Ok(file);
            }
            forbidden.get_or_insert(file);
        }
    }
    if let Some(file) = forbidden {
        return Err(not_executable(&file));
    }
    let here = if directory.join(&program.command).is_file() {
        format!("; there is ./{name} here: write it with the ./")
    } else {
        "; check its name, or give its path".into()
    };
    Err(Error::new(
        127,
        format!("there is no program \"{name}\" in PATH{here}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(job: Job) -> (i32, String) {
        let error = job.plan().unwrap_err();
        (error.code(), error.to_string())
    }

    #[test]
    fn programs_are_found_as_the_shell_finds_them() {
        let plan = Job::new()
            .program(Program::new("sh", 3).args(["-c", "true"]))
            .program(Program::new("/bin/sh", 1))
            .plan()
            .unwrap();
        assert!(
            plan.files()
                .all(|file| file.ends_with("sh") && file.is_absolute())
        );
        let text = plan.to_string();
        assert!(
            text.starts_with("ranks 0 to 2: /") && text.contains("-c true\nrank 3: /bin/sh\n"),
            "{text}"
        );
        let mut relative = Program::new("./sh", 1);
        relative.wdir = Some("/bin".into());
        assert_eq!(
            Job::new()
                .program(relative)
                .plan()
                .unwrap()
                .files()
                .next()
                .unwrap(),
            Path::new("/bin/./sh")
        );
        let elsewhere = Program::new("sh", 1).env("PATH", "/nowhere");
        assert_eq!(refused(Job::new().program(elsewhere)).0, 127);
    }

    #[test]
    fn what_cannot_be_run_is_said_before_anything_starts() {
        assert_eq!(refused(Job::new()).0, 125);
        assert_eq!(
            refused(Job::new().program(Program::new("sh", 0))).1,
            "0 ranks were asked for sh; ask for at least 1"
        );
        assert!(
            refused(Job::new().program(Program::new("sh", 1025)))
                .1
                .contains("at most 1024")
        );
        assert!(
            refused(
                Job::new()
                    .program(Program::new("sh", 2))
                    .stdin(Stdin::Inherit { rank: 2 })
            )
            .1
            .contains("ranks are 0 to 1")
        );
        assert_eq!(
            refused(Job::new().program(Program::new("no-such-program", 1))),
            (
                127,
                "there is no program \"no-such-program\" in PATH; check its name, or give its path"
                    .into()
            )
        );
        assert_eq!(
            refused(Job::new().program(Program::new("./no/such", 1))),
            (127, "there is no program ./no/such; check the path".into())
        );
        assert_eq!(
            refused(Job::new().program(Program::new("/etc", 1))),
            (126, "/etc cannot be run: /etc is a directory".into())
        );
        assert_eq!(
            refused(Job::new().program(Program::new("/etc/passwd", 1))).0,
            126
        );
        assert_eq!(refused(Job::new().program(Program::new("", 1))).0, 127);
        let mut lost = Program::new("sh", 1);
        lost.wdir = Some("/no/such/place".into());
        assert_eq!(refused(Job::new().program(lost)).0, 125);
    }
}
