//! Who this process is, as its environment tells: a rank of a job, or a program on its own.
use super::layout::MAX_LOCAL_RANKS;
use crate::model::error::Result;
use crate::model::{Error, ErrorClass};
use core::ops::Range;
use std::os::fd::RawFd;

/// The names of the variables by which an agent tells a rank who it is.
pub(crate) const RANK: &str = "TERCIO_RANK";
pub(crate) const SIZE: &str = "TERCIO_SIZE";
pub(crate) const SEGMENT_FD: &str = "TERCIO_SEGMENT_FD";
pub(crate) const CLAIM_FD: &str = "TERCIO_CLAIM_FD";
pub(crate) const JOB: &str = "TERCIO_JOB";
/// `tcp`: ranks reach each other through sockets, also on one host.
pub(crate) const TRANSPORT: &str = "TERCIO_TRANSPORT";
/// Which of the host's addresses to use for other hosts.
pub(crate) const INTERFACE: &str = "TERCIO_INTERFACE";
/// `1`: what goes between hosts is encrypted.
pub(crate) const ENCRYPT: &str = "TERCIO_ENCRYPT";
/// What messages cost, as the launcher tells all ranks alike (`Costs::word`).
pub(crate) const COSTS: &str = "TERCIO_COSTS";
/// In a job with sockets, the descriptors that rouse the host's ranks: numbers with commas between.
pub(crate) const BELLS: &str = "TERCIO_BELLS";
/// Which of the job's programs it runs.
pub(crate) const APPNUM: &str = "TERCIO_APPNUM";

/// What a spawned rank has beyond that: see [`Birth`].
pub(crate) const BIRTH: &str = "TERCIO_BIRTH";

/// A rank of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// In its world: the ranks that were started together.
    pub(crate) rank: usize,
    /// Of its world.
    pub(crate) size: usize,
    /// For a rank that others spawned.
    pub(crate) birth: Option<Birth>,
    /// The number under which this process inherited the segment.
    pub(crate) segment: RawFd,
    /// The number under which it inherited its socket to the agent.
    pub(crate) claim: RawFd,
    /// The job's name for messages.
    pub(crate) job: String,
}

/// How ranks that were spawned by others came into the job, the same for all that were spawned together. As a variable: five words, the
/// members of the parent group as numbers and spans of them, as in `6 0 12 14 0-3,5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Birth {
    /// The number in the job of the first of them. Ranks that are spawned are numbered on after those that are there.
    pub(crate) first: usize,
    /// The cells of their world, if there were any left.
    pub(crate) cells: Option<usize>,
    /// The context of messages between the spawning group and them.
    pub(crate) between: u32,
    /// The context of both groups as one.
    pub(crate) union: u32,
    /// The spawning group, as numbers in the job.
    pub(crate) parents: Vec<usize>,
}

impl Birth {
    pub(crate) fn to_text(&self) -> String {
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for &parent in &self.parents {
            match spans.last_mut() {
                Some((_, last)) if *last + 1 == parent => *last = parent,
                _ => spans.push((parent, parent)),
            }
        }
        let spans: Vec<_> = spans
            .iter()
            .map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            })
            .collect();
        format!(
            "{} {} {} {} {}",
            self.first,
            self.cells.map_or(0, |block| block + 1),
            self.between,
            self.union,
            spans.join(",")
        )
    }

    fn from_text(text: &str) -> Option<Birth> {
        let mut words = text.split(' ');
        let mut number = || words.next()?.parse::<u32>().ok();
        let (first, cells, between, union) = (number()?, number()?, number()?, number()?);
        let mut parents = Vec::new();
        for span in words.next()?.split(',') {
            let (from, to) = span.split_once('-').unwrap_or((span, span));
            let (from, to) = (from.parse().ok()?, to.parse::<usize>().ok()?);
            if to >= MAX_LOCAL_RANKS {
                return None;
            }
            parents.extend(from..=to);
        }
        Some(Birth {
            first: first as usize,
            cells: (cells as usize).checked_sub(1),
            between,
            union,
            parents,
        })
    }
}

impl Identity {
    /// The numbers in the job of its world's ranks.
    pub(crate) fn world(&self) -> Range<usize> {
        let first = self.birth.as_ref().map_or(0, |birth| birth.first);
        first..first.saturating_add(self.size)
    }
}

/// Reads the identity by `lookup`: `None` for a program on its own.
///
/// On evidence that this process is one of several tasks of a launcher that is not ours it is an error: a world of one in each
/// of them would be a trap.
pub(crate) fn identify(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Identity>> {
    let Some(rank) = lookup(RANK) else {
        return match foreign_launcher(&lookup) {
            Some((launcher, instead)) => Err(join(format!(
                "this program was started as one of several tasks by {launcher}, and cannot join the others; start it by {instead} or by \
                 `tercio run -n N PROGRAM` (to run it alone here, unset that launcher's variables)"
            ))),
            None => Ok(None),
        };
    };
    let number = |name: &str| {
        let text = if name == RANK {
            Some(rank.clone())
        } else {
            lookup(name)
        };
        let text = text.ok_or_else(|| {
            join(format!("{RANK} is set but {name} is not; start the program by `tercio run`, and let wrappers keep all TERCIO_* variables"))
        })?;
        text.parse::<u32>().map_err(|_| {
            join(format!(
                "{name}={text} is not a number; only `tercio run` sets it"
            ))
        })
    };
    let birth = match lookup(BIRTH) {
        None => None,
        Some(text) => Some(Birth::from_text(&text).ok_or_else(|| {
            join(format!(
                "{BIRTH}={text} does not tell who spawned this rank; only tercio's agent sets it"
            ))
        })?),
    };
    let identity = Identity {
        rank: number(RANK)? as usize,
        size: number(SIZE)? as usize,
        birth,
        segment: number(SEGMENT_FD)? as RawFd,
        claim: number(CLAIM_FD)? as RawFd,
        job: lookup(JOB).unwrap_or_default(),
    };
    if identity.rank >= identity.size {
        return Err(join(format!(
            "{RANK}={} is not below {SIZE}={}; only `tercio run` sets them",
            identity.rank, identity.size
        )));
    }
    Ok(Some(identity))
}

/// The launcher of another make that runs this process as one of several tasks without a way to the others, and what to start it by instead.
fn foreign_launcher(
    lookup: impl Fn(&str) -> Option<String>,
) -> Option<(&'static str, &'static str)> {
    let several = |name: &str| {
        lookup(name)
            .and_then(|n| n.parse::<u64>().ok())
            .is_some_and(|n| n > 1)
    };
    let set = |name: &str| lookup(name).is_some();
    if set("PMIX_RANK") && several("OMPI_COMM_WORLD_SIZE") {
        Some(("Open MPI's mpirun", "an mpiexec of the MPICH family"))
    } else if (set("PMI_FD") || set("PMI_PORT")) && several("PMI_SIZE") {
        Some((
            "an mpiexec of the MPICH family over a port",
            "one that gives PMI_FD and PMI_RANK",
        ))
    } else if set("SLURM_STEP_ID") && several("SLURM_STEP_NUM_TASKS") {
        Some(("srun", "`srun --mpi=pmi2`"))
    } else {
        None
    }
}

/// How many tasks the launcher of another make started, if this process is one of several.
pub(crate) fn foreign_size(lookup: impl Fn(&str) -> Option<String>) -> Option<usize> {
    foreign_launcher(&lookup)?;
    let number = |name: &str| lookup(name)?.parse::<usize>().ok();
    let names = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];
    names
        .into_iter()
        .find_map(|name| number(name).filter(|n| *n > 1))
}

pub(super) fn join(text: String) -> Error {
    Error::new(ErrorClass::Join, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Option<Identity>> {
        identify(|name| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn an_agent_says_who_a_rank_is() {
        let all = [
            (RANK, "2"),
            (SIZE, "4"),
            (SEGMENT_FD, "5"),
            (CLAIM_FD, "7"),
            (JOB, "x"),
        ];
        let identity = with(&all).unwrap().unwrap();
        assert_eq!(
            (
                identity.rank,
                identity.size,
                identity.segment,
                identity.claim
            ),
            (2, 4, 5, 7)
        );
        for missing in 1..4 {
            let mut some = all.to_vec();
            let (name, _) = some.remove(missing);
            let text = with(&some).unwrap_err().to_string();
            assert!(text.contains(&format!("{name} is not;")), "{text}");
        }
        assert!(
            with(&[(RANK, "-1")])
                .unwrap_err()
                .to_string()
                .contains("is not a number")
        );
        assert!(
            with(&[(RANK, "4"), (SIZE, "4"), (SEGMENT_FD, "5"), (CLAIM_FD, "7")])
                .unwrap_err()
                .to_string()
                .contains("not below")
        );
    }

    #[test]
    fn a_spawned_rank_knows_who_spawned_it() {
        let birth = Birth {
            first: 6,
            cells: Some(3),
            between: 12,
            union: 14,
            parents: vec![2, 0, 1, 5],
        };
        assert_eq!(birth.to_text(), "6 4 12 14 2,0-1,5");
        let lookup = |text: &'static str| {
            with(&[
                (RANK, "1"),
                (SIZE, "2"),
                (SEGMENT_FD, "5"),
                (CLAIM_FD, "7"),
                (BIRTH, text),
            ])
        };
        let identity = lookup("6 4 12 14 2,0-1,5").unwrap().unwrap();
        assert_eq!(identity.world(), 6..8);
        assert_eq!(identity.birth, Some(birth));
        for strange in [
            "",
            "6 4 12 14",
            "6 4 12 14 x",
            "6 4 12 14 0-4000000",
            "6 -4 12 14 0",
        ] {
            let text = lookup(strange).unwrap_err().to_string();
            assert!(text.contains("does not tell who spawned"), "{text}");
        }
    }

    #[test]
    fn alone_only_without_evidence_of_others() {
        assert_eq!(with(&[]).unwrap(), None);
        // An interactive Slurm shell, or a single task, is alone.
        assert_eq!(
            with(&[("SLURM_JOB_ID", "7"), ("SLURM_NTASKS", "4")]).unwrap(),
            None
        );
        assert_eq!(
            with(&[("PMIX_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")]).unwrap(),
            None
        );
        assert_eq!(with(&[("PMI_RANK", "0"), ("PMI_SIZE", "4")]).unwrap(), None);
        for (variables, name) in [
            (
                [("PMIX_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "4")],
                "mpirun",
            ),
            ([("PMI_FD", "6"), ("PMI_SIZE", "2")], "mpiexec"),
            ([("PMI_PORT", "h:1"), ("PMI_SIZE", "2")], "mpiexec"),
            (
                [("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "8")],
                "srun",
            ),
        ] {
            let text = with(&variables).unwrap_err().to_string();
            assert!(text.contains(name) && text.contains("tercio run"), "{text}");
        }
    }
}
