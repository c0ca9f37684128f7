//! The hosts that a resource manager has given this job: what Slurm, PBS and Torque, LSF and SGE say of them in the environment.
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::reach::Starter;
use super::{Entry, file};
use crate::sentence::Sentence;

/// The environment, by a variable's name.
type Variables<'a> = &'a dyn Fn(&OsStr) -> Option<OsString>;

/// What a resource manager gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allocation {
    /// "Slurm job 17"
    pub job: String,
    pub manager: Manager,
    pub entries: Vec<Entry>,
    /// How many ranks were asked of the manager, where it tells that beside the hosts.
    pub ranks: Option<usize>,
}

/// Who gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    Slurm,
    Pbs,
    Lsf,
    Sge,
}

impl Manager {
    /// The command of its own by which programs are started on a job's other hosts, if it has one that takes a host and a command.
    pub(crate) fn starter(self) -> Option<Starter> {
        match self {
            Manager::Slurm => Some(Starter::Srun),
            Manager::Lsf => Some(Starter::Blaunch),
            Manager::Sge => Some(Starter::Qrsh),
            Manager::Pbs => None,
        }
    }
}

/// The allocation that this process runs in, if it runs in one.
pub(crate) fn found(variables: Variables<'_>) -> Result<Option<Allocation>, Sentence> {
    let around = Around(variables);
    for manager in [slurm, pbs, lsf, sge] {
        if let Some(allocation) = manager(&around)? {
            return Ok(Some(allocation));
        }
    }
    Ok(None)
}

struct Around<'a>(Variables<'a>);

impl Around<'_> {
    /// A variable that is set and not empty.
    fn get(&self, name: &str) -> Option<String> {
        let value = (self.0)(OsStr::new(name))?;
        Some(value.to_string_lossy().trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The first of these variables that is set, with its name.
    fn first<'b>(&self, names: &[&'b str]) -> Option<(&'b str, String)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// The lines of the file that a variable names, each as its words.
    fn lines(&self, name: &str) -> Result<Option<Vec<Vec<String>>>, Sentence> {
        let Some(path) = (self.0)(OsStr::new(name)).filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        let path = PathBuf::from(path);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let path = path.display();
            Sentence::own(format!(
                "{name} names the file {path}, which cannot be read: {error}; {}",
                elsewhere(name)
            ))
        })?;
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        let lines = text.lines().map(words);
        Ok(Some(
            lines.filter(|line: &Vec<_>| !line.is_empty()).collect(),
        ))
    }
}

/// What to do about a variable that does not hold.
fn elsewhere(name: &str) -> String {
    format!(
        "run inside of the job that it is of, name the hosts with --host, or unset {name} to run without it"
    )
}

fn unclear(name: &str, value: &str, why: impl std::fmt::Display) -> Sentence {
    Sentence::own(format!("{name}=\"{value}\": {why}; {}", elsewhere(name)))
}

/// Steps of these numbers are the job's own shell or script, and what is said of the job holds in them.
const SLURMS_OWN_STEPS: [&str; 3] = ["4294967290", "4294967291", "4294967292"];

fn slurm(around: &Around<'_>) -> Result<Option<Allocation>, Sentence> {
    let Some((_, job)) = around.first(&["SLURM_JOB_ID", "SLURM_JOBID"]) else {
        return Ok(None);
    };
    let step = around
        .get("SLURM_STEP_ID")
        .filter(|step| !SLURMS_OWN_STEPS.contains(&step.as_str()));
    let tasks = around.get("SLURM_STEP_NUM_TASKS");
    if let (Some(_), Some(tasks)) = (&step, tasks.filter(|tasks| tasks != "1")) {
        return Err(Sentence::own(format!(
            "srun started {tasks} launchers, each of which would start the whole job; start one (srun -n 1 tercio run ..), or the program itself (srun --mpi=pmi2 -n {tasks} ./program), or name a host for each with --host"
        )));
    }
    let names: (&[&str], &[&str], &[&str]) = match step {
        Some(_) => (
            &["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"],
            &["SLURM_STEP_TASKS_PER_NODE"],
            &["SLURM_STEP_NUM_TASKS"],
        ),
        None => (
            &["SLURM_JOB_NODELIST", "SLURM_NODELIST"],
            &["SLURM_TASKS_PER_NODE"],
            &["SLURM_NTASKS", "SLURM_NPROCS"],
        ),
    };
    // A job without hosts of its own (one of several parts, or a shell that only knows of the job) has nothing to say here.
    let Some((variable, list)) = around.first(names.0) else {
        return Ok(None);
    };
    let mut entries = Vec::new();
    for word in file::split_list(&list) {
        let hosts = file::host(word).map_err(|(_, why)| unclear(variable, word, why))?;
        entries.extend(hosts);
    }
    let each = match around.first(names.1) {
        Some((name, counts)) => Some((name, repeated(name, &counts)?)),
        None => match around
            .get("SLURM_JOB_CPUS_PER_NODE")
            .filter(|_| step.is_none())
        {
            Some(cores) => {
                let name = "SLURM_JOB_CPUS_PER_NODE";
                let per_task = match around.get("SLURM_CPUS_PER_TASK") {
                    Some(count) => number("SLURM_CPUS_PER_TASK", &count)?,
                    None => 1,
                };
                let ranks = repeated(name, &cores)?;
                Some((
                    name,
                    ranks
                        .iter()
                        .map(|cores| (cores / per_task).max(1))
                        .collect(),
                ))
            }
            None => None,
        },
    };
    if let Some((name, each)) = each {
        if each.len() != entries.len() {
            let (counts, hosts) = (each.len(), entries.len());
            let why =
                format!("it counts the tasks of {counts} hosts, and {variable} names {hosts}");
            return Err(unclear(name, &around.get(name).unwrap_or_default(), why));
        }
        for (entry, slots) in entries.iter_mut().zip(each) {
            entry.slots = Some(slots);
        }
    }
    let ranks = match around.first(names.2) {
        Some((name, count)) => Some(number(name, &count)?),
        None => None,
    };
    Ok(Some(Allocation {
        entries: once(entries, variable),
        job: format!("Slurm job {job}"),
        manager: Manager::Slurm,
        ranks,
    }))
}

/// "2(x3),1" is 2, 2, 2, 1.
fn repeated(name: &str, list: &str) -> Result<Vec<usize>, Sentence> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (count, times) = match part.split_once("(x") {
            Some((count, times)) => (count, times.strip_suffix(')').unwrap_or(times)),
            None => (part, "1"),
        };
        let (count, times) = (number(name, count)?, number(name, times)?);
        if all.len() + times > MOST_HOSTS {
            return Err(unclear(name, list, format!("more than {MOST_HOSTS} hosts")));
        }
        all.extend(std::iter::repeat_n(count, times));
    }
    Ok(all)
}

/// Hosts that a list may count.
const MOST_HOSTS: usize = 1 << 16;

fn number(name: &str, text: &str) -> Result<usize, Sentence> {
    match text.trim().parse() {
        Ok(number) if (1..=1 << 20).contains(&number) => Ok(number),
        _ => Err(unclear(name, text, "not a number of ranks")),
    }
}

/// PBS and Torque: a file with a line for each rank.
fn pbs(around: &Around<'_>) -> Result<Option<Allocation>, Sentence> {
    let Some(lines) = around.lines("PBS_NODEFILE")? else {
        return Ok(None);
    };
    let names = lines.into_iter().map(|mut line| line.swap_remove(0));
    let job = around.get("PBS_JOBID").unwrap_or_default();
    a_slot_each(Manager::Pbs, &job, "PBS_NODEFILE", names.collect()).map(Some)
}

/// LSF: a file with a line for each rank, or a list of hosts and numbers, or of a host for each rank.
fn lsf(around: &Around<'_>) -> Result<Option<Allocation>, Sentence> {
    let Some(job) = around.get("LSB_JOBID") else {
        return Ok(None);
    };
    if let Some(lines) = around.lines("LSB_DJOB_HOSTFILE")? {
        let names = lines.into_iter().map(|mut line| line.swap_remove(0));
        return a_slot_each(Manager::Lsf, &job, "LSB_DJOB_HOSTFILE", names.collect()).map(Some);
    }
    if let Some(list) = around.get("LSB_MCPU_HOSTS") {
        let name = "LSB_MCPU_HOSTS";
        let words: Vec<_> = list.split_whitespace().collect();
        let mut entries = Vec::new();
        for pair in words.chunks(2) {
            let [host, slots] = pair else {
                return Err(unclear(name, &list, "the last host has no number"));
            };
            entries.push(entry(name, host, number(name, slots)?)?);
        }
        return Ok(Some(whole(Manager::Lsf, &job, once(entries, name))));
    }
    match around.get("LSB_HOSTS") {
        Some(list) => {
            let names = list.split_whitespace().map(str::to_owned).collect();
            a_slot_each(Manager::Lsf, &job, "LSB_HOSTS", names).map(Some)
        }
        None => Ok(None),
    }
}

/// SGE: a file with "host slots queue processors" in each line.
fn sge(around: &Around<'_>) -> Result<Option<Allocation>, Sentence> {
    let name = "PE_HOSTFILE";
    let Some(lines) = around.lines(name)? else {
        return Ok(None);
    };
    let mut entries = Vec::new();
    for line in lines {
        let [host, slots, ..] = &line[..] else {
            return Err(unclear(
                name,
                &line.join(" "),
                "a line of its file says no number",
            ));
        };
        entries.push(entry(name, host, number(name, slots)?)?);
    }
    if entries.is_empty() {
        return Err(unclear(name, "", "its file names no host"));
    }
    let job = around.get("JOB_ID").unwrap_or_default();
    Ok(Some(whole(Manager::Sge, &job, once(entries, name))))
}

/// An allocation that names a host once for each rank.
fn a_slot_each(
    manager: Manager,
    job: &str,
    variable: &str,
    names: Vec<String>,
) -> Result<Allocation, Sentence> {
    let entries: Result<Vec<_>, _> = names.iter().map(|name| entry(variable, name, 1)).collect();
    let entries = entries?;
    if entries.is_empty() {
        return Err(unclear(variable, "", "it names no host"));
    }
    Ok(whole(manager, job, once(entries, variable)))
}

fn entry(variable: &str, name: &str, slots: usize) -> Result<Entry, Sentence> {
    let mut found = file::host(name).map_err(|(_, why)| unclear(variable, name, why))?;
    match (found.pop(), found.is_empty()) {
        (Some(entry), true) => Ok(Entry {
            slots: Some(slots),
            ..entry
        }),
        _ => Err(unclear(variable, name, "not the name of one host")),
    }
}

fn whole(manager: Manager, job: &str, entries: Vec<Entry>) -> Allocation {
    let name = match manager {
        Manager::Slurm => "Slurm",
        Manager::Pbs => "PBS",
        Manager::Lsf => "LSF",
        Manager::Sge => "SGE",
    };
    Allocation {
        job: format!("{name} job {job}").trim_end().to_owned(),
        manager,
        entries,
        ranks: None,
    }
}

/// Each host once, with all its slots, in the order of their first mention.
fn once(entries: Vec<Entry>, origin: &str) -> Vec<Entry> {
    let mut hosts: Vec<Entry> = Vec::new();
    for entry in entries {
        match hosts.iter_mut().find(|host| host.name == entry.name) {
            Some(host) => {
                host.slots = Some(host.slots.unwrap_or(0) + entry.slots.unwrap_or(0));
            }
            None => hosts.push(Entry {
                origin: origin.to_owned(),
                ..entry
            }),
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn read(set: &[(&str, &str)]) -> Result<Option<Allocation>, Sentence> {
        found(&|name| {
            let found = set.iter().find(|(known, _)| OsStr::new(known) == name);
            found.map(|(_, value)| value.into())
        })
    }

    fn none(set: &[(&str, &str)]) -> bool {
        read(set).expect("no fault").is_none()
    }

    fn shown(set: &[(&str, &str)]) -> (String, Vec<String>, Option<usize>) {
        let found = read(set).expect("no fault").expect("an allocation");
        let entries = found.entries.iter().map(Entry::to_string).collect();
        (found.job, entries, found.ranks)
    }

    fn refused(set: &[(&str, &str)]) -> String {
        read(set).expect_err("a sentence").text
    }

    /// A file of this test, removed when it is dropped.
    struct Written(PathBuf);

    impl Written {
        fn new(text: &str) -> Written {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("tercio-hosts-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).expect("written");
            Written(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().expect("a path")
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn no_manager() {
        assert!(none(&[("HOME", "/home/alice")]));
        // Names that a job leaves in shells of users who only talk to the manager.
        assert!(none(&[("SLURM_CONF", "/etc/slurm.conf")]));
        assert!(none(&[("SLURM_JOB_ID", "3")]));
        assert!(none(&[("LSB_JOBID", "3")]));
        assert!(none(&[("PBS_NODEFILE", "")]));
    }

    /// As `salloc -n 7` and sbatch scripts see it.
    #[test]
    fn slurm_jobs() {
        let set = [
            ("SLURM_JOB_ID", "17"),
            ("SLURM_JOB_NODELIST", "node[01-03,07],gpu1"),
            ("SLURM_TASKS_PER_NODE", "2(x3),1,4"),
            ("SLURM_NTASKS", "11"),
            ("SLURM_JOB_CPUS_PER_NODE", "8(x5)"),
            // The shell of the allocation is a step of its own.
            ("SLURM_STEP_ID", "4294967290"),
            ("SLURM_STEP_NODELIST", "node01"),
            ("SLURM_STEP_NUM_TASKS", "1"),
        ];
        let (job, entries, ranks) = shown(&set);
        assert_eq!((job.as_str(), ranks), ("Slurm job 17", Some(11)));
        let expected = [
            "node01 slots=2",
            "node02 slots=2",
            "node03 slots=2",
            "node07 slots=1",
            "gpu1 slots=4",
        ];
        assert_eq!(entries, expected);
        // Without a number of tasks: as many as the cores allow.
        let set = [
            ("SLURM_JOBID", "18"),
            ("SLURM_NODELIST", "a,b"),
            ("SLURM_JOB_CPUS_PER_NODE", "8,3"),
            ("SLURM_CPUS_PER_TASK", "4"),
        ];
        let expected = ["a slots=2", "b slots=1"].map(str::to_owned).to_vec();
        assert_eq!(shown(&set), ("Slurm job 18".into(), expected, None));
        let bare = [("SLURM_JOB_ID", "19"), ("SLURM_JOB_NODELIST", "a")];
        let expected = vec!["a".to_owned()];
        assert_eq!(shown(&bare), ("Slurm job 19".into(), expected, None));
    }

    /// As a task of `srun` sees it.
    #[test]
    fn slurm_steps() {
        let step = |tasks: &'static str| {
            [
                ("SLURM_JOB_ID", "17"),
                ("SLURM_JOB_NODELIST", "node[01-03]"),
                ("SLURM_TASKS_PER_NODE", "1"),
                ("SLURM_NTASKS", "1"),
                ("SLURM_STEP_ID", "0"),
                ("SLURM_STEP_NODELIST", "node02"),
                ("SLURM_STEP_TASKS_PER_NODE", tasks),
                ("SLURM_STEP_NUM_TASKS", tasks),
            ]
        };
        let expected = vec!["node02 slots=1".to_owned()];
        assert_eq!(
            shown(&step("1")),
            ("Slurm job 17".into(), expected, Some(1))
        );
        let text = refused(&step("3"));
        assert!(text.contains("started 3 launchers"), "{text}");
    }

    #[test]
    fn slurm_that_contradicts_itself() {
        let with = |list: &'static str, counts: &'static str, tasks: &'static str| {
            refused(&[
                ("SLURM_JOB_ID", "17"),
                ("SLURM_JOB_NODELIST", list),
                ("SLURM_TASKS_PER_NODE", counts),
                ("SLURM_NTASKS", tasks),
            ])
        };
        for (text, said) in [
            (with("a[1-2", "1(x2)", "2"), "SLURM_JOB_NODELIST"),
            (with("a[1-2]", "1(x3)", "3"), "counts the tasks of 3 hosts"),
            (with("a", "x", "1"), "SLURM_TASKS_PER_NODE=\"x\""),
            (with("a", "1(x99999999)", "1"), "not a number"),
            (with("a", "1000(x100000)", "1"), "more than"),
            (with("a", "1", "0"), "SLURM_NTASKS=\"0\""),
        ] {
            assert!(text.contains(said) && text.contains("--host"), "{text}");
        }
    }

    #[test]
    fn pbs_and_torque() {
        let file = Written::new("n1\nn1\n\nn2\nn1\n");
        let path = file.path();
        let set = [("PBS_JOBID", "9.head"), ("PBS_NODEFILE", path)];
        let expected = vec!["n1 slots=3".to_owned(), "n2 slots=1".to_owned()];
        assert_eq!(shown(&set), ("PBS job 9.head".into(), expected, None));
        let text = refused(&[("PBS_NODEFILE", "/no/such/file")]);
        assert!(
            text.contains("cannot be read") && text.contains("unset PBS_NODEFILE"),
            "{text}"
        );
        let text = refused(&[("PBS_NODEFILE", "/dev/null")]);
        assert!(text.contains("names no host"), "{text}");
    }

    #[test]
    fn lsf_lists() {
        let file = Written::new("n1\nn1\nn2\n");
        let path = file.path();
        let expected = vec!["n1 slots=2".to_owned(), "n2 slots=1".to_owned()];
        for (name, value) in [
            ("LSB_DJOB_HOSTFILE", path),
            ("LSB_MCPU_HOSTS", "n1 2 n2 1"),
            ("LSB_HOSTS", "n1 n1 n2"),
        ] {
            let set = [("LSB_JOBID", "5"), (name, value)];
            assert_eq!(shown(&set), ("LSF job 5".into(), expected.clone(), None));
        }
        let text = refused(&[("LSB_JOBID", "5"), ("LSB_MCPU_HOSTS", "n1 2 n2")]);
        assert!(text.contains("no number"), "{text}");
        let text = refused(&[("LSB_JOBID", "5"), ("LSB_HOSTS", "n1 n[1-2]")]);
        assert!(text.contains("one host"), "{text}");
    }

    #[test]
    fn sge_files() {
        let file = Written::new("n1.cluster 2 all.q@n1 UNDEFINED\nn2.cluster 1 all.q@n2 <NULL>\n");
        let path = file.path();
        let set = [("JOB_ID", "12"), ("PE_HOSTFILE", path)];
        let expected = vec![
            "n1.cluster slots=2".to_owned(),
            "n2.cluster slots=1".to_owned(),
        ];
        assert_eq!(shown(&set), ("SGE job 12".into(), expected, None));
        let file = Written::new("n1\n");
        let path = file.path();
        let text = refused(&[("PE_HOSTFILE", path)]);
        assert!(text.contains("says no number"), "{text}");
    }
}
