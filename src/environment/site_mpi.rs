//! Whether and how a rank joins the others through the system's MPI.
use crate::engine::{Carrier, Mpi, Places, ThreadLevel};
use crate::job::collected::Collected;
use crate::job::identity::{self, foreign_size};
use crate::job::tasks::join_over;
use crate::job::{Membership, Segment};
use crate::launch::attend::Candidate;
use crate::model::{Error, ErrorClass};
use crate::sys;
use crate::sys::mpi_request::Threads;

/// Which ranks are reached through MPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Those of other hosts.
    BetweenHosts,
    /// All others.
    Everywhere,
}

impl Use {
    /// Whether this process is to join by MPI: told so, or built for it and one of several tasks of a launcher that is not ours.
    pub(crate) fn read(lookup: impl Fn(&str) -> Option<String>) -> Option<Use> {
        if lookup(identity::RANK).is_some() {
            return None;
        }
        match lookup(identity::TRANSPORT).as_deref() {
            Some("mpi") => Some(Use::BetweenHosts),
            Some("mpi:all") => Some(Use::Everywhere),
            _ => (sys::mpi::Mpi::PRESENT && foreign_size(&lookup).is_some())
                .then_some(Use::BetweenHosts),
        }
    }
}

/// A rank that has joined by MPI.
pub(crate) struct Joined {
    mpi: sys::mpi::Mpi,
    which: Use,
    /// No more than what MPI grants.
    pub(crate) level: ThreadLevel,
}

fn refused(text: String) -> Error {
    Error::new(ErrorClass::Join, text)
}

/// Joins the job that all processes of MPI make together.
pub(crate) fn join(
    which: Use,
    level: ThreadLevel,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<(Membership, Joined), Error> {
    // Before MPI starts threads: a process with several is not to be forked.
    let candidate = match sys::mpi::Mpi::PRESENT {
        true => Some(Candidate::new().map_err(|error| {
            refused(format!(
                "this rank cannot prepare an agent for its host: {error}"
            ))
        })?),
        false => None,
    };
    let threads = match level {
        ThreadLevel::Single => Threads::Single,
        ThreadLevel::Funneled => Threads::Funneled,
        ThreadLevel::Serialized | ThreadLevel::Multiple => Threads::Serialized,
    };
    let mpi = sys::mpi::Mpi::start(threads)
        .map_err(|error| refused(format!("the system's MPI cannot be used: {error}")))?;
    let started = foreign_size(&lookup).unwrap_or(1);
    if mpi.size() == 1 && started > 1 {
        return Err(refused(format!(
            "the launcher started {started} processes, and the MPI that this program was built with sees one; launcher and library are of different MPIs: \
             start it by the mpiexec that belongs to the mpicc of the build"
        )));
    }
    let (rank, size) = (mpi.rank(), mpi.size());
    let joined = join_over(
        &mut Collected::new(&mpi),
        rank,
        size,
        None,
        |service| match candidate {
            Some(candidate) => candidate.serve(service),
            None => Ok(String::new()),
        },
    )?;
    let level = level.min(match mpi.threads() {
        Threads::Single => ThreadLevel::Single,
        Threads::Funneled => ThreadLevel::Funneled,
        Threads::Serialized => ThreadLevel::Multiple,
    });
    let membership = joined.claim()?;
    Ok((membership, Joined { mpi, which, level }))
}

impl Joined {
    /// Where rank `rank` finds the others.
    pub(crate) fn open(self, segment: &Segment, rank: usize) -> (Places, Carrier) {
        let everywhere = self.which == Use::Everywhere && segment.directory().world() > 1;
        let places = Places::of(segment, rank, everywhere);
        let near = !places.any_remote();
        (places, Carrier::Mpi(Box::new(Mpi::over(self.mpi, near))))
    }
}
