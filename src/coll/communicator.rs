//! Communicators: a group, its contexts, and its cells; how new ones come about.
use super::call::{Call, run_as};
use super::cells::{Choice, Staging};
use super::hosts::Hosts;
use crate::engine::{Comm, Engine, Peer, RecvSpan, SendMode, SendSpan};
use crate::job::identity::Birth;
use crate::model::error::Result;
use crate::model::{CollKind, Error, ErrorClass, Signature, Site};
use crate::sys::cpu;
use crate::transport::shm::cells::Cells;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A communicator as collectives see it. Shared by all handles of the face that mean it; its cells are given back when the last is dropped.
///
/// The counters are this member's own. One collective at a time is begun on a communicator (a rule of MPI, enforced by `occupy`), so
/// plain loads and stores do.
pub(crate) struct Communicator {
    comm: Comm,
    cells: Option<Cells>,
    /// Where the members are, which all know alike.
    hosts: Hosts,
    /// Between two groups: both as one, in an order that all know alike.
    union: Option<Arc<Communicator>>,
    /// Collectives begun.
    sequence: AtomicU64,
    /// The signature of the last one.
    previous: AtomicU64,
    /// The last round of the cells that was handed out; the same on all members between collectives.
    pub(super) round: AtomicU64,
    /// Every other member has read all that it will of the rounds before this one, as far as this member knows.
    pub(super) known: AtomicU64,
    /// Whether memory for this member's buffers has been taken.
    pub(super) has_buffers: AtomicBool,
    /// Whether all members were seen to write to their long areas, which none of them leaves again; the same on all between collectives.
    pub(super) all_long: AtomicBool,
    /// Whether pieces are written and read upwards through the cache (`Way::Upwards`); the same on all members.
    pub(super) is_on_mesh: AtomicBool,
    /// Where and how this member writes its buffers. Locked for that decision only.
    pub(super) staging: Mutex<Staging>,
    /// Which contributions of this member others read in place. Locked for that decision only.
    pub(super) choice: Mutex<Choice>,
    busy: AtomicBool,
}

/// A collective that has begun on a communicator: its number, and the signatures of it and of the one before.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    pub(super) sequence: u64,
    pub(super) signature: Signature,
    pub(super) previous: Signature,
}

/// Keeps other threads' blocking collectives out.
pub(super) struct Occupied<'c>(Option<&'c AtomicBool>);

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        if let Some(busy) = self.0 {
            // Release: pairs with the Acquire in `occupy`.
            busy.store(false, Ordering::Release);
        }
    }
}

impl Communicator {
    pub(super) fn new(engine: &Engine, comm: Comm, cells: Option<Cells>) -> Arc<Communicator> {
        Arc::new(Communicator::with(engine, comm, cells))
    }

    fn with(engine: &Engine, comm: Comm, cells: Option<Cells>) -> Communicator {
        let hosts = Hosts::new(&engine.hosts_of(comm.members()));
        Communicator::on(comm, hosts, cells)
    }

    /// With its members on these hosts, whatever is so.
    pub(super) fn on(comm: Comm, hosts: Hosts, cells: Option<Cells>) -> Communicator {
        Communicator {
            comm,
            cells,
            hosts,
            union: None,
            sequence: AtomicU64::new(0),
            previous: AtomicU64::new(0),
            round: AtomicU64::new(0),
            known: AtomicU64::new(0),
            has_buffers: AtomicBool::new(false),
            all_long: AtomicBool::new(false),
            is_on_mesh: AtomicBool::new(cpu::is_mesh()),
            staging: Mutex::default(),
            choice: Mutex::default(),
            busy: AtomicBool::new(false),
        }
    }

    /// The engine's view: group and contexts.
    #[inline]
    pub(crate) fn comm(&self) -> &Comm {
        &self.comm
    }

    #[inline]
    pub(crate) fn rank(&self) -> usize {
        self.comm.rank()
    }

    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.comm.size()
    }

    pub(super) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Between two groups: both as one.
    pub(crate) fn union(&self) -> Option<&Arc<Communicator>> {
        self.union.as_ref()
    }

    #[inline]
    pub(super) fn cells(&self) -> Option<&Cells> {
        self.cells.as_ref()
    }

    /// Numbers a collective. It must be noted too (`check::note`) before this member waits for others.
    #[inline]
    pub(super) fn begin(&self, signature: Signature) -> Begun {
        let sequence = self.sequence.load(Ordering::Relaxed) + 1;
        self.sequence.store(sequence, Ordering::Relaxed);
        let previous = Signature(self.previous.load(Ordering::Relaxed));
        self.previous.store(signature.0, Ordering::Relaxed);
        Begun {
            sequence,
            signature,
            previous,
        }
    }

    /// With several threads at work, one of them at a time may be in a blocking collective of this communicator.
    #[inline]
    pub(super) fn occupy(&self, engine: &Engine) -> Result<Occupied<'_>> {
        if engine.level() < crate::engine::ThreadLevel::Multiple {
            return Ok(Occupied(None));
        }
        // Acquire: pairs with the Release of the thread that left; its stores to the counters are seen.
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(Error::new(
                ErrorClass::Comm,
                "two threads of this rank are in collectives of the same communicator at once, so no order of the calls is defined; \
                 give each thread a duplicate of the communicator",
            ));
        }
        Ok(Occupied(Some(&self.busy)))
    }
}

/// The communicator of the ranks that were started together, numbers in the job. No communication. `birth` is theirs if they were spawned.
pub(crate) fn world(
    engine: &Engine,
    ranks: Range<usize>,
    birth: Option<&Birth>,
) -> Result<Arc<Communicator>> {
    let size = ranks.len();
    let members: Vec<usize> = ranks.collect();
    let shared = engine.share_memory(&members);
    let comm = Comm::new(0, members, engine.rank(), engine.size());
    let cells = match birth {
        _ if size == 1 || !shared => None,
        None => Some(Cells::world(engine.segment(), comm.rank(), size)?),
        Some(birth) => birth
            .cells
            .map(|block| Cells::attach(engine.segment(), block, comm.rank(), size)),
    };
    Ok(Communicator::new(engine, comm, cells))
}

/// The communicator of this rank alone. No communication.
pub(crate) fn self_comm(engine: &Engine) -> Result<Arc<Communicator>> {
    let comm = Comm::new(2, vec![engine.rank()], engine.rank(), engine.size());
    Ok(Communicator::new(engine, comm, None))
}

/// What the root of a spawn decides for `size` ranks that are to be spawned by the members of `parent`.
pub(crate) fn draw_birth(engine: &Engine, parent: &Communicator, size: usize) -> Result<Birth> {
    let segment = engine.segment();
    let cells = match size {
        1 => None,
        _ if size > segment.ranks() || engine.has_sockets() => None,
        _ => Cells::take(segment, size)?,
    };
    Ok(Birth {
        first: 0,
        cells,
        between: segment.control().draw_context(),
        union: segment.control().draw_context(),
        parents: parent.comm.own().to_vec(),
    })
}

/// Nothing came of a birth that was drawn.
pub(crate) fn undo_birth(engine: &Engine, birth: &Birth) {
    if let Some(block) = birth.cells {
        Cells::give_back(engine.segment(), block);
    }
}

/// The communicator between those who spawned and the `children` whom they spawned, as either of them sees it. No communication.
pub(crate) fn between(engine: &Engine, birth: &Birth, children: Range<usize>) -> Arc<Communicator> {
    let (me, room) = (engine.rank(), engine.size());
    let (parents, children): (Vec<_>, Vec<_>) = (birth.parents.clone(), children.collect());
    let all = [&parents[..], &children[..]].concat();
    let (own, others) = match children.contains(&me) {
        true => (children, parents),
        false => (parents, children),
    };
    let mut both = Communicator::with(
        engine,
        Comm::between(birth.between, own, others, me, room),
        None,
    );
    both.union = Some(Communicator::new(
        engine,
        Comm::new(birth.union, all, me, room),
        None,
    ));
    Arc::new(both)
}

/// One communicator of both groups of an inter-communicator (collective over both). Those who say `high` come last; where both say the
/// same, those who spawned come first.
pub(crate) fn merge(
    engine: &Engine,
    inter: &Communicator,
    high: bool,
    site: Site,
) -> Result<Arc<Communicator>> {
    let Some(union) = inter.union() else {
        return Err(Error::new(
            ErrorClass::Comm,
            "merge was called on a communicator of one group; only an inter-communicator can be merged",
        )
        .at(site));
    };
    let own = [high as u8];
    let mut said = vec![0_u8; union.size()];
    let (send, recv) = (SendSpan::bytes_of(&own), RecvSpan::bytes_of(&mut said));
    let call = Call::AllGather {
        send: &send,
        recv: &recv,
    };
    run_as(engine, union, call, CollKind::Merge, site)?;
    drop(recv);
    // Where the own group lies in the union tells which of the two it is.
    let own = inter.comm.own();
    let first = union.comm.member(own[0]).unwrap_or(0);
    let split = if first == 0 { own.len() } else { first };
    let (low, high) = said.split_at(split);
    let agree = |group: &[u8]| group.iter().all(|it| *it == group[0]);
    if !agree(low) || !agree(high) {
        return Err(Error::new(
            ErrorClass::Mismatch,
            "merge was called with MergeOrder::Low by some members of a group and with MergeOrder::High by others; all members of a group \
             must say the same",
        )
        .at(site));
    }
    let mut members = union.comm.members().to_vec();
    if low[0] > high[0] {
        members.rotate_left(split);
    }
    of_all(engine, union, members, CollKind::Merge, site)
}

/// What one member decides for a new communicator and tells the others: its context, and its cell block + 1, or 0 for none.
type Drawn = [u32; 2];

/// Draws a context, and a block if there is one, for a communicator of these ranks of the job, of which the caller is one.
fn draw(engine: &Engine, members: &[usize]) -> Result<Drawn> {
    let segment = engine.segment();
    let block = match members.len() {
        1 => None,
        size if engine.share_memory(members) => Cells::take(segment, size)?,
        _ => None,
    };
    let context = segment.control().draw_context();
    Ok([context, block.map_or(0, |b| b as u32 + 1)])
}

fn born(engine: &Engine, birth: Drawn, members: Vec<usize>) -> Arc<Communicator> {
    let comm = Comm::new(birth[0], members, engine.rank(), engine.size());
    let cells = (birth[1] as usize)
        .checked_sub(1)
        .map(|block| Cells::attach(engine.segment(), block, comm.rank(), comm.size()));
    Communicator::new(engine, comm, cells)
}

/// The first member of each new group draws (its block is one of its own host), all learn. What this member's group was given, whose first
/// member is `leader`; `None` for a member of no group, which learns nothing but takes part. `group` are ranks of the job.
fn tell_births(
    engine: &Engine,
    parent: &Communicator,
    leader: Option<usize>,
    group: &[usize],
    kind: CollKind,
    site: Site,
) -> Result<Option<Drawn>> {
    let mut own = [0_u8; 8];
    if leader == Some(parent.rank()) {
        own = bytes_of(draw(engine, group)?);
    }
    let mut all = vec![0_u8; own.len() * parent.size()];
    let (send, recv) = (SendSpan::bytes_of(&own), RecvSpan::bytes_of(&mut all));
    let call = Call::AllGather {
        send: &send,
        recv: &recv,
    };
    run_as(engine, parent, call, kind, site)?;
    Ok(leader.map(|leader| drawn_of(&all[8 * leader..])))
}

fn bytes_of(drawn: Drawn) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&drawn[0].to_ne_bytes());
    bytes[4..].copy_from_slice(&drawn[1].to_ne_bytes());
    bytes
}

fn drawn_of(bytes: &[u8]) -> Drawn {
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[at..at + 4]);
        u32::from_ne_bytes(word)
    };
    [word(0), word(4)]
}

/// The communicator of all of `parent`'s members, whose first one draws, in the order of `members`.
fn of_all(
    engine: &Engine,
    parent: &Communicator,
    members: Vec<usize>,
    kind: CollKind,
    site: Site,
) -> Result<Arc<Communicator>> {
    let drawn = tell_births(engine, parent, Some(0), &members, kind, site)?;
    drawn
        .map(|drawn| born(engine, drawn, members))
        .ok_or_else(|| {
            Error::new(
                ErrorClass::Internal,
                "a communicator of all has a first member",
            )
        })
}

/// A new communicator with the same members (collective).
pub(crate) fn duplicate(
    engine: &Engine,
    parent: &Communicator,
    site: Site,
) -> Result<Arc<Communicator>> {
    let members = parent.comm.members().to_vec();
    of_all(engine, parent, members, CollKind::Duplicate, site)
}

/// One new communicator for each color, members ordered by key and then by their rank in `parent`; `None` for those without a color
/// (collective).
pub(crate) fn split(
    engine: &Engine,
    parent: &Communicator,
    color: Option<i32>,
    key: i32,
    site: Site,
) -> Result<Option<Arc<Communicator>>> {
    // Has a color, color, key.
    let own = [color.is_some() as i32, color.unwrap_or(0), key];
    let own: Vec<u8> = own.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut all = vec![0_u8; own.len() * parent.size()];
    let (send, recv) = (SendSpan::bytes_of(&own), RecvSpan::bytes_of(&mut all));
    let call = Call::AllGather {
        send: &send,
        recv: &recv,
    };
    run_as(engine, parent, call, CollKind::Split, site)?;
    let word = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&all[at..at + 4]);
        i32::from_ne_bytes(bytes)
    };
    let mut wishes: Vec<(i32, i32, usize)> = (0..parent.size())
        .filter(|member| word(12 * member) != 0)
        .map(|member| (word(12 * member + 4), word(12 * member + 8), member))
        .collect();
    wishes.sort_unstable();
    let mine = wishes
        .chunk_by(|a, b| a.0 == b.0)
        .find(|group| group.iter().any(|wish| wish.2 == parent.rank()));
    let members: Vec<usize> = mine
        .unwrap_or_default()
        .iter()
        .map(|wish| parent.comm.world_rank(wish.2))
        .collect();
    let leader = mine.map(|group| group[0].2);
    let drawn = tell_births(engine, parent, leader, &members, CollKind::Split, site)?;
    Ok(drawn.map(|drawn| born(engine, drawn, members)))
}

/// The context in which groups form without their parent; see the segment's header.
const FORMATION: u32 = 4;

/// A new communicator of `group`, ranks of `parent` of which this is one: only they call it. Groups that form at once between the same
/// processes are told apart by `tag`.
pub(crate) fn form(
    engine: &Engine,
    parent: &Communicator,
    group: &[usize],
    tag: i32,
    site: Site,
) -> Result<Arc<Communicator>> {
    if parent.comm.is_inter() {
        return Err(super::between::between_groups("split_by_subgroup").at(site));
    }
    let all = Comm::new(
        FORMATION,
        (0..engine.size()).collect(),
        engine.rank(),
        engine.size(),
    );
    let members: Vec<usize> = group.iter().map(|&r| parent.comm.world_rank(r)).collect();
    // The parent's context is in the tag, so that equal tags of different parents do not meet.
    let tag = (tag.wrapping_mul(0x9e37_79b1_u32 as i32) ^ parent.comm.context() as i32) & i32::MAX;
    let leader = members[0];
    let mut told = [0_u8; 8];
    if engine.rank() == leader {
        told = bytes_of(draw(engine, &members)?);
        let span = SendSpan::bytes_of(&told);
        for &member in &members[1..] {
            engine.send(
                &all,
                Peer::Rank(member),
                tag,
                &span,
                SendMode::Standard,
                site,
            )?;
        }
    } else {
        let span = RecvSpan::bytes_of(&mut told);
        engine.receive(&all, Peer::Rank(leader), Some(tag), &span, site)?;
    }
    Ok(born(engine, drawn_of(&told), members))
}
