//! Becoming the rank that the environment says: one process only, known to the agent from then on.
use super::exchange::Secret;
use super::identity::{self, Birth, Identity, join};
use super::{Control, Exchange, FailureKind, RankState, Segment, leave, lifeline};
use crate::model::error::Result;
use crate::sys::{cma, fd, process};
use core::ops::Range;
use core::sync::atomic::Ordering;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// What a claimant sends to its agent, together with its end of the lifeline and its own pidfd.
pub(crate) const CLAIM: &[u8] = b"tercio claim 1";

/// This process as a member of a job: the segment, and which rank it is there.
pub(crate) struct Membership {
    segment: Arc<Segment>,
    /// Its number in the job.
    rank: usize,
    /// Its index in the segment.
    local: usize,
    world: Range<usize>,
    birth: Option<Birth>,
    /// This rank's side of what ranks publish, until somebody takes it.
    exchange: Mutex<Option<Exchange>>,
    /// The socket to the agent; `None` alone.
    agent: Option<OwnedFd>,
    /// Whether there is nobody but this process.
    alone: bool,
}

/// The word in the segment that names a process for good.
pub(crate) fn claim_word(pid: u32, start_time: u64) -> u64 {
    (pid as u64) << 32 | start_time & 0xffff_ffff
}

impl Membership {
    /// Joins the job that the environment names, as the rank that it names; alone without one.
    ///
    /// # Errors
    /// A sentence when this process cannot be that rank: another one is already, the descriptors were closed, the launcher is of
    /// another version, or a launcher of another make started several of us.
    pub(crate) fn join() -> Result<Membership> {
        match identity::identify(|name| std::env::var(name).ok())? {
            Some(identity) => Membership::claim(identity),
            None => Membership::alone(),
        }
    }

    fn alone() -> Result<Membership> {
        let segment = Arc::new(Segment::private(1)?);
        segment
            .control()
            .claimed_cores()
            .store(1, Ordering::Relaxed);
        segment.control().set_state(0, RankState::Active);
        let exchange = Exchange::new(segment.clone(), 0, None);
        Ok(Membership {
            segment,
            rank: 0,
            local: 0,
            world: 0..1,
            birth: None,
            exchange: Mutex::new(Some(exchange)),
            agent: None,
            alone: true,
        })
    }

    /// Becomes the rank that `identity` says.
    pub(super) fn claim(identity: Identity) -> Result<Membership> {
        let world = identity.world();
        let (rank, job) = (world.start.saturating_add(identity.rank), &identity.job);
        if !fd::is_socket(identity.claim) {
            return Err(closed(&identity, identity::CLAIM_FD));
        }
        let segment =
            fd::inherited(identity.segment).map_err(|_| closed(&identity, identity::SEGMENT_FD))?;
        let segment = Segment::attach(segment)?;
        let directory = segment.directory();
        if world.end > directory.world() {
            return Err(join(format!(
                "{}={}, but the job has {} ranks; only `tercio run` sets it",
                identity::SIZE,
                identity.size,
                directory.world()
            )));
        }
        let place = directory.place(rank);
        let local = place.local as usize;
        if place.host != directory.here() || local >= segment.ranks() {
            return Err(join(format!(
                "{}={rank}, but rank {rank} of job {job} is on another host; only `tercio run` sets it",
                identity::RANK
            )));
        }
        let control = segment.control();
        let me = claim_word(
            process::id(),
            process::start_time(process::id()).unwrap_or(0),
        );
        if let Err(other) =
            control
                .claim(local)
                .compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire)
        {
            return Err(join(format!(
                "rank {rank} of job {job} is process {} already, and this is process {}; a rank is one process that initializes once: start \
                 one program for each rank, or unset {} for a program that is to run alone",
                other >> 32,
                process::id(),
                identity::RANK
            )));
        }
        if control.state(local).is_gone() {
            return Err(join(format!(
                "rank {rank} of job {job} {}; a program that joins a job must be started before its rank's first process ends",
                control.state(local).words()
            )));
        }
        let claim =
            fd::inherited(identity.claim).map_err(|_| closed(&identity, identity::CLAIM_FD))?;
        if let Ok(agent) = fd::peer(claim.as_fd()) {
            // Lets the other ranks, its descendants, copy from here; where that is refused, they do without.
            let _ = cma::allow(agent as i32);
        }
        let lifeline = introduce(&claim).map_err(|error| {
            join(format!("rank {rank} cannot reach its agent ({error}); the job has ended, or a container hides it"))
        })?;
        let agent = claim.try_clone().ok();
        lifeline::hold(lifeline).map_err(|error| {
            join(format!("rank {rank} cannot start its lifeline thread ({error}); raise the limit of processes (`ulimit -u`)"))
        })?;
        control.set_state(local, RankState::Active);
        let segment = Arc::new(segment);
        let exchange = Exchange::new(segment.clone(), rank, Some(claim));
        Ok(Membership {
            segment,
            rank,
            local,
            world,
            birth: identity.birth,
            exchange: Mutex::new(Some(exchange)),
            agent,
            alone: false,
        })
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn control(&self) -> Control<'_> {
        self.segment.control()
    }

    /// Its number among all ranks of the job.
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// Its index in its host's segment.
    pub(crate) fn local(&self) -> usize {
        self.local
    }

    /// This rank's side of what ranks publish for each other; whoever comes first gets it.
    pub(crate) fn exchange(&self) -> Option<Exchange> {
        self.exchange
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The same, and the job's secret if it has one.
    pub(crate) fn exchange_and_secret(&self) -> Result<(Exchange, Option<Secret>)> {
        let exchange = self
            .exchange()
            .ok_or_else(|| join("this rank's exchange was taken before".into()))?;
        let secret = exchange.secret()?;
        Ok((exchange, secret))
    }

    /// The numbers in the job of the ranks that were started with this one.
    pub(crate) fn world(&self) -> Range<usize> {
        self.world.clone()
    }

    /// How this rank came into the job, if others spawned it.
    pub(crate) fn birth(&self) -> Option<&Birth> {
        self.birth.as_ref()
    }

    /// The socket to the agent; `None` without one.
    pub(super) fn agent(&self) -> Option<BorrowedFd<'_>> {
        self.agent.as_ref().map(OwnedFd::as_fd)
    }

    /// Ends the job because of this rank: records why, raises the abort word and ends this process at once with `code`.
    pub(crate) fn fail(&self, kind: FailureKind, code: i32, text: &str) -> ! {
        if self.alone && kind != FailureKind::Panic {
            // Nobody else will tell; a panic has told for itself.
            eprintln!("tercio: {text}");
        }
        self.control().record_failure(self.local, kind, code, text);
        self.control().raise_abort();
        process::exit_now(code)
    }

    /// Leaves a job that is ending: see [`leave::leave`].
    pub(crate) fn leave(&self) -> ! {
        leave::leave()
    }

    /// Has every panic of this process noted on the control page before what the program does about panics. It ends nothing: a panic
    /// may be caught.
    pub(crate) fn note_panics(self: &Arc<Self>) {
        // Kept to the end of the process: it may panic after it has finalized.
        let me = self.clone();
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            me.control().record_panic(me.local, &panic_record(info));
            next(info);
        }));
    }
}

/// A panic as the control page keeps it: the place on the first line, then the text.
fn panic_record(info: &std::panic::PanicHookInfo<'_>) -> String {
    let place = info
        .location()
        .map(|at| format!("{}:{}", at.file(), at.line()))
        .unwrap_or_default();
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("{place}\n{}", text.unwrap_or("(a value that is no text)"))
}

fn closed(identity: &Identity, name: &str) -> crate::model::Error {
    join(format!(
        "rank {} cannot join its job: the descriptor in {name} is not open in this process; a wrapper closed it (sudo closes all, ssh and \
         containers hand none on), or this program was started by one that is the rank already (then unset {} to run it alone)",
        identity.rank,
        identity::RANK
    ))
}

/// Hands the agent one end of a new lifeline and a pidfd of this process; the other end.
fn introduce(claim: &OwnedFd) -> std::io::Result<OwnedFd> {
    let (mine, theirs) = fd::packet_pair()?;
    let me = process::open(process::id())?;
    fd::send_descriptors(claim.as_fd(), CLAIM, &[theirs.as_fd(), me.as_fd()])?;
    Ok(mine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};

    fn identity(segment: &Segment, claim: OwnedFd, rank: usize) -> Identity {
        let fd = segment
            .fd()
            .unwrap()
            .try_clone_to_owned()
            .unwrap()
            .into_raw_fd();
        Identity {
            rank,
            size: segment.ranks(),
            birth: None,
            segment: fd,
            claim: claim.into_raw_fd(),
            job: "test".into(),
        }
    }

    #[test]
    fn one_process_claims_a_rank_and_the_agent_learns_which() {
        let segment = Segment::create(2, 2).unwrap();
        let (agent, rank) = fd::packet_pair().unwrap();
        fd::ask_credentials(agent.as_fd()).unwrap();
        let first = Membership::claim(identity(&segment, rank, 1)).unwrap();
        assert_eq!((first.rank(), first.alone), (1, false));
        assert_eq!(segment.control().state(1), RankState::Active);
        let packet = fd::receive_descriptors(agent.as_fd(), 256)
            .unwrap()
            .unwrap();
        assert_eq!(packet.bytes, CLAIM);
        assert_eq!(packet.sender.unwrap().0, process::id());
        assert_eq!(
            process::number(packet.descriptors[1].as_fd()),
            Some(process::id())
        );

        let (_agent, rank) = fd::packet_pair().unwrap();
        let text = Membership::claim(identity(&segment, rank, 1))
            .err()
            .unwrap()
            .to_string();
        assert!(
            text.contains("rank 1 of job test is process") && text.contains("already"),
            "{text}"
        );
        // The lifeline must not end this test's process.
        core::mem::forget(packet);
    }

    #[test]
    fn closed_descriptors_and_lost_ranks_get_a_sentence() {
        let segment = Segment::create(2, 2).unwrap();
        let (_agent, rank) = fd::packet_pair().unwrap();
        let mut closed = identity(&segment, rank, 0);
        closed.segment = 987_654;
        let text = Membership::claim(closed).err().unwrap().to_string();
        assert!(text.contains("TERCIO_SEGMENT_FD is not open"), "{text}");
        let (agent, rank) = fd::packet_pair().unwrap();
        let mut closed = identity(&segment, rank, 0);
        closed.claim = 987_654;
        let text = Membership::claim(closed).err().unwrap().to_string();
        assert!(text.contains("TERCIO_CLAIM_FD is not open"), "{text}");
        segment.control().set_state(1, RankState::EndedWithoutInit);
        let late = identity(&segment, agent, 1);
        assert!(late.claim.as_raw_fd() > 2);
        let text = Membership::claim(late).err().unwrap().to_string();
        assert!(text.contains("has ended without initializing"), "{text}");
    }
}
