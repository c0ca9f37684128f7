//! Jobs whose ranks the site's own launcher starts (`--transport mpi`): the same plan, as a command line of mpiexec or srun.
use std::ffi::{OsStr, OsString};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::environment;
use crate::options::{Binding, Input};
use crate::plan::{Plan, What, quoted};
use crate::sentence::Sentence;

/// Whose launcher it is: each has its own words for the same things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    OpenMpi,
    /// MPICH, Intel MPI, MVAPICH.
    Hydra,
    Slurm,
}

/// What is said of a launcher before the programs, and of a program.
struct Words {
    family: Family,
    job: Vec<OsString>,
    programs: Vec<Vec<OsString>>,
}

/// The command line that `plan` becomes; builds what cargo is to build.
fn command(plan: &Plan, family: Family) -> Result<Words, Sentence> {
    let mut job: Vec<OsString> = Vec::new();
    let mut say = |words: &[&str]| job.extend(words.iter().map(OsString::from));
    let crowded = plan.ranks() > plan.cores() || plan.binding == Binding::None;
    match family {
        Family::OpenMpi => {
            say(&["--oversubscribe", "--bind-to"]);
            say(&[if crowded { "none" } else { "core" }]);
            if plan.tag {
                say(&["--tag-output"]);
            }
        }
        Family::Hydra => {
            if !crowded {
                say(&["-bind-to", "core"]);
            }
            if plan.tag {
                say(&["-l"]);
            }
        }
        Family::Slurm => {
            say(&["--overcommit"]);
            say(&[if crowded {
                "--cpu-bind=none"
            } else {
                "--cpu-bind=cores"
            }]);
            if plan.tag {
                say(&["--label"]);
            }
        }
    }
    // Within an allocation the launcher knows the hosts by itself.
    if let (Some(hosts), None) = (&plan.hosts, &plan.allocation) {
        let by_host = hosts.by_host();
        let listed: Vec<_> = by_host
            .iter()
            .map(|(entry, ranks)| format!("{}:{}", entry.target(), ranks.len()))
            .collect();
        let in_turn = by_host
            .iter()
            .any(|(_, ranks)| ranks.windows(2).any(|pair| pair[1] != pair[0] + 1));
        match family {
            Family::OpenMpi => {
                say(&["--host", &listed.join(",")]);
                say(&["--map-by", if in_turn { "node" } else { "slot" }]);
            }
            Family::Hydra if in_turn => {
                return Err(cannot(
                    "--map-by node",
                    "an mpiexec of the MPICH family fills hosts one after the other",
                ));
            }
            Family::Hydra => say(&["-hosts", &listed.join(",")]),
            Family::Slurm => {
                let names: Vec<_> = by_host
                    .iter()
                    .map(|(entry, _)| entry.name.clone())
                    .collect();
                say(&["--nodelist", &names.join(",")]);
                say(&["--distribution", if in_turn { "cyclic" } else { "block" }]);
            }
        }
    }
    if family == Family::Slurm && plan.programs.len() > 1 {
        return Err(cannot(
            "several programs",
            "srun starts one; use an mpiexec",
        ));
    }
    let mut programs = Vec::new();
    for part in &plan.programs {
        let mut words: Vec<OsString> = vec!["-n".into(), part.ranks.to_string().into()];
        if let Some(directory) = &part.wdir {
            words.push(
                match family {
                    Family::Slurm => "--chdir",
                    _ => "-wdir",
                }
                .into(),
            );
            words.push(directory.into());
        }
        let mut env: Vec<(OsString, Option<OsString>)> = part
            .env
            .iter()
            .map(|(name, value)| (name.clone(), Some(value.clone())))
            .collect();
        if family == Family::OpenMpi {
            // It passes nothing else on to other hosts.
            let names = std::env::vars_os().map(|(name, _)| name);
            let passed = names.filter(|name| is_passed_on(name) && !part.env.contains_key(name));
            env.extend(passed.map(|name| (name, None)));
        }
        let mut exports: Vec<OsString> = Vec::new();
        for (name, value) in env {
            let mut word = name.clone();
            if let Some(value) = &value {
                word.push("=");
                word.push(value);
            }
            match (family, value) {
                (Family::OpenMpi, _) => words.extend(["-x".into(), word]),
                (Family::Hydra, Some(value)) => words.extend(["-env".into(), name, value]),
                (Family::Slurm, Some(_)) => exports.push(word),
                (_, None) => {}
            }
        }
        if !exports.is_empty() {
            let mut all = OsString::from("--export=ALL");
            for word in exports {
                all.push(",");
                all.push(word);
            }
            words.push(all);
        }
        words.push(match &part.what {
            What::Command(command) => command.clone(),
            What::Target(target) if plan.dry_run => target.to_string().into(),
            What::Target(target) => target.build()?.into(),
        });
        words.extend(part.args.iter().cloned());
        programs.push(words);
    }
    Ok(Words {
        family,
        job,
        programs,
    })
}

fn is_passed_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name == "LD_LIBRARY_PATH" || name.starts_with("TERCIO_") || name.starts_with("RUST_")
}

fn cannot(what: &str, why: &str) -> Sentence {
    Sentence::usage(format!("{what} cannot go with --transport mpi: {why}"))
}

impl Words {
    fn all(self) -> Vec<OsString> {
        let mut all = self.job;
        for (at, program) in self.programs.into_iter().enumerate() {
            if at > 0 && self.family != Family::Slurm {
                all.push(":".into());
            }
            all.extend(program);
        }
        all
    }
}

/// Which launcher `program` is, as its own words tell.
fn family(program: &OsStr) -> Result<Family, Sentence> {
    let name = Path::new(program).file_name().unwrap_or(program);
    if name == "srun" {
        return Ok(Family::Slurm);
    }
    let told = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| missing(program, &error))?;
    let mut text = String::from_utf8_lossy(&told.stdout).into_owned();
    text += &String::from_utf8_lossy(&told.stderr);
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["Open MPI", "OpenRTE", "PRRTE"]) {
        Ok(Family::OpenMpi)
    } else if says(&["HYDRA", "Intel(R) MPI", "MPICH", "mpich"]) {
        Ok(Family::Hydra)
    } else {
        let shown = quoted(program);
        Err(Sentence::own(format!(
            "{shown} is neither Open MPI's launcher nor one of the MPICH family nor srun, by what `{shown} --version` says; name another by --mpiexec"
        )))
    }
}

fn missing(program: &OsStr, error: &std::io::Error) -> Sentence {
    Sentence::own(format!(
        "cannot start {}: {error}; install the site's MPI (or load its module), or name its launcher by --mpiexec",
        quoted(program)
    ))
}

/// What the plan asks for that only our own agents can do.
fn refuse(plan: &Plan) -> Result<(), Sentence> {
    let ours = "the site's launcher owns the ranks' streams and ends";
    for (asked, what) in [
        (plan.output.is_some(), "--output-filename"),
        (plan.verdict.is_some(), "--verdict"),
        (plan.universe.is_some(), "--universe-size"),
        (
            !matches!(plan.stdin, Input::None | Input::Rank(0)),
            "--stdin of another rank than 0",
        ),
        (plan.push, "--push"),
    ] {
        if asked {
            return Err(cannot(what, ours));
        }
    }
    Ok(())
}

/// Runs the plan by the site's launcher; the exit code.
pub(crate) fn run(plan: &Plan) -> Result<i32, Sentence> {
    refuse(plan)?;
    let program: OsString = plan.mpiexec.clone().unwrap_or_else(|| "mpiexec".into());
    let words = command(plan, family(&program)?)?.all();
    if plan.dry_run || plan.verbose {
        let line: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        eprintln!("tercio: {} {}", quoted(&program), line.join(" "));
    }
    if plan.dry_run {
        return Ok(0);
    }
    let mut command = Command::new(&program);
    command.args(&words);
    for (name, value) in environment::changes() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if plan.stdin == Input::None {
        command.stdin(Stdio::null());
    }
    // SAFETY: prctl is one system call, which may be made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    let mut child = command.spawn().map_err(|error| missing(&program, &error))?;
    let end = plan.timeout.map(|limit| Instant::now() + limit);
    let mut told = None;
    loop {
        let status = child.try_wait().map_err(|error| {
            Sentence::own(format!("cannot wait for {}: {error}", quoted(&program)))
        })?;
        if let Some(status) = status {
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            return Ok(match told {
                Some(_) => 124,
                None => code.unwrap_or(125),
            });
        }
        let late = |end: Option<Instant>| end.is_some_and(|end| Instant::now() >= end);
        if told.is_none() && late(end) {
            let limit = plan.timeout.unwrap_or_default().as_secs_f64();
            eprintln!("tercio: the time limit of {limit} s is over; the job is ended");
            // SAFETY: a signal to our own child, which has not been waited for.
            unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
            told = Some(Instant::now() + plan.grace + Duration::from_secs(3));
        } else if late(told) {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{self, Reading};
    use crate::plan::Surroundings;

    fn words(family: Family, line: &str) -> Result<String, Sentence> {
        let given = line.split(' ').map(OsString::from).collect();
        let Reading::Programs(programs, remarks) = options::read(given)? else {
            panic!("a plan");
        };
        let around = Surroundings {
            cores: 4,
            variable: &|_| None,
        };
        let plan = Plan::new(programs, remarks, &around)?;
        refuse(&plan)?;
        let all = command(&plan, family)?.all();
        let mut text: Vec<_> = all.iter().map(|word| quoted(word)).collect();
        // What this test's own environment has is of no interest.
        while let Some(at) = text.iter().position(|word| word == "-x") {
            if text[at + 1].contains('=') {
                text[at] = "-X".into();
            } else {
                text.drain(at..at + 2);
            }
        }
        Ok(text.join(" ").replace("-X", "-x"))
    }

    #[test]
    fn each_launcher_is_told_in_its_words() {
        let line = "--transport mpi -n 2 -l -H a:2,b:1 --wdir /tmp -x A=1 ./p q : -n 1 ./r";
        let said = words(Family::OpenMpi, line).expect("words");
        assert_eq!(
            said,
            "--oversubscribe --bind-to core --tag-output --host a:2,b:1 --map-by slot -n 2 -wdir /tmp -x A=1 -x TERCIO_TRANSPORT=mpi ./p q : -n 1 -x TERCIO_TRANSPORT=mpi ./r"
        );
        let said = words(Family::Hydra, "--transport mpi:all -n 8 -x A=1 ./p").expect("words");
        assert_eq!(said, "-n 8 -env A 1 -env TERCIO_TRANSPORT mpi:all ./p");
        let said = words(Family::Slurm, "--transport mpi -n 2 -x A=1 ./p").expect("words");
        assert_eq!(
            said,
            "--overcommit --cpu-bind=cores -n 2 --export=ALL,A=1,TERCIO_TRANSPORT=mpi ./p"
        );
    }

    #[test]
    fn what_cannot_go_with_it_is_refused() {
        for (line, said) in [
            ("--transport mpi --verdict v -n 2 ./p", "--verdict"),
            ("--transport mpi --stdin 1 -n 2 ./p", "--stdin"),
            ("--transport mpi -n 2 ./p : -n 1 ./q", "several programs"),
        ] {
            let text = words(Family::Slurm, line).expect_err("refused").text;
            assert!(
                text.contains(said) && text.contains("--transport mpi"),
                "{text}"
            );
        }
    }
}
