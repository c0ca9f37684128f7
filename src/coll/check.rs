//! Mismatched collectives: finding out that members called different things, and saying who called what where.
//!
//! Every member notes each collective that it begins, in whatever form it runs, in a small history that the others can read.
use super::Communicator;
use super::communicator::Begun;
use crate::engine::Engine;
use crate::model::error::Result;
use crate::model::{Error, ErrorClass, Signature, Site};
use crate::transport::shm::cells::{Cells, HISTORY};
use core::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// Notes a call in this member's history, in whatever form it runs, and as the call that the rank is in.
#[inline]
pub(super) fn note(engine: &Engine, c: &Communicator, begun: &Begun, site: Site) -> Result<()> {
    let site_id = engine.note_collective(begun.signature, site)?;
    if let Some(cells) = c.cells() {
        write(cells, c.rank(), begun, site_id);
    }
    Ok(())
}

#[inline]
fn write(cells: &Cells, member: usize, begun: &Begun, site_id: u32) {
    let entry = cells.entry(member, begun.sequence);
    entry.sequence.store(0, Ordering::Relaxed);
    // Release: pairs with the Acquire fence in `look_up`; whoever sees the new words below sees that the old entry is gone.
    fence(Ordering::Release);
    entry.signature.store(begun.signature.0, Ordering::Relaxed);
    entry.site.store(site_id as u64, Ordering::Relaxed);
    // Release: pairs with the first Acquire in `look_up`.
    entry.sequence.store(begun.sequence, Ordering::Release);
}

/// A call of a member, as its history tells.
#[derive(Clone, Copy)]
struct Noted {
    sequence: u64,
    signature: Signature,
    site_id: u32,
}

/// What stands in `member`'s history in the place of call `sequence`: that call, or one `HISTORY` calls away from it.
fn look_up(cells: &Cells, member: usize, sequence: u64) -> Option<Noted> {
    let entry = cells.entry(member, sequence);
    let before = entry.sequence.load(Ordering::Acquire);
    let signature = Signature(entry.signature.load(Ordering::Relaxed));
    let site_id = entry.site.load(Ordering::Relaxed) as u32;
    // Acquire: pairs with the Release fence in `write`.
    fence(Ordering::Acquire);
    let after = entry.sequence.load(Ordering::Relaxed);
    (before == after && before != 0).then_some(Noted {
        sequence: before,
        signature,
        site_id,
    })
}

fn place(engine: &Engine, c: &Communicator, member: usize, site_id: u32) -> String {
    engine
        .segment()
        .directory()
        .site(c.comm().world_rank(member), site_id)
        .unwrap_or_else(|| "an unknown place".to_string())
}

/// Ranks are told as the job numbers them, whatever their communicator does.
fn sentence(
    engine: &Engine,
    c: &Communicator,
    mine: (Signature, String),
    member: usize,
    theirs: Noted,
) -> Error {
    let differs = match mine.0.difference(theirs.signature) {
        "the operation" => String::new(),
        other => format!(" ({other} differs)"),
    };
    let (me, other) = (c.comm().world_rank(c.rank()), c.comm().world_rank(member));
    Error::new(
        ErrorClass::Mismatch,
        format!(
            "rank {me} called {} at {}, but rank {other} called {} at {}{differs}; all members of a communicator must call the same \
             collectives in the same order",
            mine.0.describe(),
            mine.1,
            theirs.signature.describe(),
            place(engine, c, member, theirs.site_id),
        ),
    )
}

/// While this member waits for `member` in a collective: whether the other has gone another way.
#[cold]
pub(super) fn look(
    engine: &Engine,
    c: &Communicator,
    cells: &Cells,
    begun: &Begun,
    member: usize,
    site: Site,
) -> Result<()> {
    // The call before this one is looked at too: a rooted collective may have ended here without waiting for anybody.
    for sequence in [begun.sequence - 1, begun.sequence] {
        let (Some(own), Some(theirs)) = (
            look_up(cells, c.rank(), sequence),
            look_up(cells, member, sequence),
        ) else {
            continue;
        };
        if own.sequence == sequence
            && theirs.sequence == sequence
            && !own.signature.goes_with(theirs.signature)
        {
            let mine = match sequence == begun.sequence {
                true => format!("{}:{}", site.file(), site.line()),
                false => place(engine, c, c.rank(), own.site_id),
            };
            return Err(sentence(engine, c, (own.signature, mine), member, theirs));
        }
    }
    Ok(())
}

/// As [`look`], at all members: for a collective that runs as a schedule.
#[cold]
pub(super) fn look_around(
    engine: &Engine,
    c: &Communicator,
    begun: &Begun,
    site: Site,
) -> Result<()> {
    let Some(cells) = c.cells() else {
        return Ok(());
    };
    (0..c.size())
        .filter(|member| *member != c.rank())
        .try_for_each(|member| look(engine, c, cells, begun, member, site))
}

/// While this member waits for a round of `member`: whether the other has begun so many more collectives that the one that is waited for
/// is not in its history any more, and cannot come.
#[cold]
pub(super) fn gone_on(
    engine: &Engine,
    c: &Communicator,
    cells: &Cells,
    begun: &Begun,
    member: usize,
    site: Site,
    still_waits: impl Fn() -> bool,
) -> Result<()> {
    let Some(theirs) = look_up(cells, member, begun.sequence) else {
        return Ok(());
    };
    // The member announced its rounds of a call before it noted the next call; the Acquire in `look_up` shows them to `still_waits`.
    if theirs.sequence <= begun.sequence || !still_waits() {
        return Ok(());
    }
    let (me, other) = (c.comm().world_rank(c.rank()), c.comm().world_rank(member));
    Err(Error::new(
        ErrorClass::Mismatch,
        format!(
            "rank {me} called {} at {}:{}, its collective number {} on this communicator, but rank {other} took no part in it and has gone \
             on to its number {}: {} at {}; all members of a communicator must call the same collectives in the same order",
            begun.signature.describe(),
            site.file(),
            site.line(),
            begun.sequence,
            theirs.sequence,
            theirs.signature.describe(),
            place(engine, c, member, theirs.site_id),
        ),
    ))
}

/// Signatures that arrived with a round do not go together: says why. `theirs` is what the line of `member` says.
#[cold]
pub(super) fn mismatch(
    engine: &Engine,
    c: &Communicator,
    cells: &Cells,
    begun: &Begun,
    member: usize,
    theirs: (Signature, Signature),
    site: Site,
) -> Result<()> {
    // A member notes its call right after it has announced its first line, by which we know of it. A second is more than it needs, unless
    // it was stopped or has died there.
    let end = Instant::now() + Duration::from_secs(1);
    let is_noted =
        || look_up(cells, member, begun.sequence).is_some_and(|n| n.sequence >= begun.sequence);
    while !is_noted() && Instant::now() < end {
        std::thread::sleep(Duration::from_micros(50));
    }
    look(engine, c, cells, begun, member, site)?;
    let this = begun.signature.goes_with(theirs.0);
    if this && begun.previous.goes_with(theirs.1) {
        return Ok(());
    }
    // The history has moved on, or the other has not come to note its call: without its place.
    let (sequence, mine, signature) = match this {
        true => (begun.sequence - 1, begun.previous, theirs.1),
        false => (begun.sequence, begun.signature, theirs.0),
    };
    let own_place = match look_up(cells, c.rank(), sequence) {
        Some(own) if own.sequence == sequence => place(engine, c, c.rank(), own.site_id),
        _ => format!("{}:{}", site.file(), site.line()),
    };
    let noted = Noted {
        sequence,
        signature,
        site_id: 0,
    };
    Err(sentence(engine, c, (mine, own_place), member, noted))
}

/// At the end of a communicator's use: whether the last collectives of this member and the others, as far as both remember them, go
/// together. Finds the mismatches of rooted collectives in which nobody waited for anybody.
pub(crate) fn check_history(engine: &Engine, c: &Communicator, site: Site) -> Result<()> {
    let Some(cells) = c.cells() else {
        return Ok(());
    };
    // SeqCst: of two members that end at the same time, at least one sees the other's last entry.
    fence(Ordering::SeqCst);
    for place_in_history in 0..HISTORY {
        let Some(own) = look_up(cells, c.rank(), place_in_history) else {
            continue;
        };
        for member in (0..c.size()).filter(|m| *m != c.rank()) {
            match look_up(cells, member, own.sequence) {
                Some(theirs)
                    if theirs.sequence == own.sequence
                        && !theirs.signature.goes_with(own.signature) =>
                {
                    let mine = (own.signature, place(engine, c, c.rank(), own.site_id));
                    return Err(sentence(engine, c, mine, member, theirs).at(site));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
