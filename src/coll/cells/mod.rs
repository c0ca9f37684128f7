//! Collectives over shared cells: rounds in which every member announces itself in a line of its own, and reads those of others.
//!
//! The protocol, and why no byte is overwritten while somebody still reads it, is in ../README.md.
mod folding;
mod in_place;
mod moving;
mod slices;
mod staging;

pub(super) use folding::{
    Operator, all_reduce, exclusive_scan, reduce, reduce_scatter_block, scan, takes_elements_of,
};
pub(super) use moving::{all_gather, all_to_all, barrier, broadcast, gather, scatter};

pub(super) use in_place::Choice;
use staging::Place;
pub(super) use staging::Staging;

use super::Communicator;
use super::check;
use super::communicator::Begun;
use crate::engine::{Engine, SendSpan};
use crate::job::layout::LONG_CELLS;
use crate::model::Site;
use crate::model::error::Result;
use crate::transport::shm::cells::{Cells, INLINE, LINE_WORDS, LINES, SLOT, SLOTS, Window};
use crate::transport::shm::way::Way;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

/// The payload of a line.
type Words = [u64; LINE_WORDS];

/// Bytes of a piece of `bytes` that are written while the piece before is read: for middle sizes small enough that both sides work at the
/// same time, for large ones as long as a slot, since every piece costs a hand-over. Measured (far, 1 MiB): 16 KiB 51 us, 32 KiB 45 us.
fn piece(bytes: usize) -> usize {
    if bytes >= 256 * 1024 { SLOT } else { 16 * 1024 }
}

/// Bytes of pieces of one length, as few as there can be of at most `most`, a number of whole lines.
fn even(bytes: usize, most: usize) -> usize {
    bytes
        .div_ceil(bytes.div_ceil(most).max(1))
        .next_multiple_of(64)
}

/// So many rounds ahead a member that waits for nobody asks for its lines, back to back far: broadcast 148 ns without, 134, 103 and 89 with 2, 4 and
/// 8 ahead; reduce 175 to 118, gather 151 to 101; near they gain 1 to 2 ns. Not scatter (far 158 to 93, but near 60 to 68), and not where all wait for all
/// (allreduce 310 to 328).
const AHEAD: u64 = 8;
const _: () = assert!(AHEAD < LINES);

/// Rounds of a large step: its buffers lie side by side and count as one.
const LARGE: u64 = 4;
/// Bytes of a large step in long areas, at the most. Two of them and the gap where the area begins again are less than the area.
const LONGEST_PIECE: usize = 512 * 1024;
const _: () = assert!(3 * LONGEST_PIECE <= LONG_CELLS);

/// The progress that every other member must have made before the place of `round` in a ring of `ring` places is written again.
#[inline]
pub(super) fn passed_before(round: u64, ring: u64) -> u64 {
    (round + 1).saturating_sub(ring)
}

/// One or more rounds taken together: announced once, as the last of them.
#[derive(Clone, Copy)]
struct Step {
    first: u64,
    last: u64,
}

/// A collective of one member, over cells.
pub(super) struct Run<'a> {
    engine: &'a Engine,
    c: &'a Communicator,
    cells: &'a Cells,
    begun: Begun,
    site: Site,
    /// The first round that is not over: all before are those of earlier collectives.
    start: u64,
    /// Whether the call stands in the history. It is noted after the first line is out, while others fetch that.
    is_noted: Cell<bool>,
    /// Of the buffers that were claimed last.
    place: Cell<Place>,
}

impl<'a> Run<'a> {
    #[inline(always)]
    pub(super) fn new(
        engine: &'a Engine,
        c: &'a Communicator,
        cells: &'a Cells,
        begun: Begun,
        site: Site,
    ) -> Run<'a> {
        Run {
            engine,
            c,
            cells,
            begun,
            site,
            start: c.round.load(Ordering::Relaxed) + 1,
            is_noted: Cell::new(false),
            place: Cell::new(Place::OF_ROUND),
        }
    }

    /// The last thing in a collective: one that waited for nobody is noted now.
    #[inline(always)]
    pub(super) fn finish(&self) -> Result<()> {
        self.note()
    }

    #[inline(always)]
    fn note(&self) -> Result<()> {
        match self.is_noted.replace(true) {
            true => Ok(()),
            false => check::note(self.engine, self.c, &self.begun, self.site),
        }
    }

    #[inline(always)]
    fn rank(&self) -> usize {
        self.c.rank()
    }

    #[inline(always)]
    fn size(&self) -> usize {
        self.c.size()
    }

    /// The other members, the next one first, so that not all look at the same line.
    #[inline(always)]
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let (rank, size) = (self.rank(), self.size());
        (rank + 1..size).chain(0..rank)
    }

    /// The next step of `rounds` rounds (1, or `LARGE`). All members take the same steps.
    #[inline(always)]
    fn step(&self, rounds: u64) -> Step {
        let next = self.c.round.load(Ordering::Relaxed) + 1;
        let first = next.next_multiple_of(rounds);
        let last = first + rounds - 1;
        self.c.round.store(last, Ordering::Relaxed);
        Step { first, last }
    }

    /// Waits until every other member has read all that it will of the rounds before `needed`.
    #[inline(always)]
    fn ensure(&self, needed: u64) -> Result<()> {
        if self.c.known.load(Ordering::Relaxed) >= needed {
            return Ok(());
        }
        self.ensure_slowly(needed)
    }

    #[inline(never)]
    fn ensure_slowly(&self, needed: u64) -> Result<()> {
        let mut known = u64::MAX;
        for member in self.others() {
            let progress = self.cells.progress(member);
            self.note()?;
            self.wait_for(progress, needed, self.cells.progress_at(member), member)?;
            // Acquire: pairs with the Release in `announce`; what the member read, it has read.
            known = known.min(progress.load(Ordering::Acquire));
        }
        self.learn(known);
        Ok(())
    }

    #[inline(always)]
    fn learn(&self, known: u64) {
        if known > self.c.known.load(Ordering::Relaxed) {
            self.c.known.store(known, Ordering::Relaxed);
        }
    }

    /// Waits until this member may announce `step`.
    #[inline(always)]
    fn claim_line(&self, step: &Step) -> Result<()> {
        self.ensure(passed_before(step.last, LINES))
    }

    /// Waits until this member may fill its buffers of `step`, `bytes` bytes of them, and announce it.
    #[inline]
    fn claim_slots(&self, step: &Step, bytes: usize) -> Result<Window<'a>> {
        if !self.c.has_buffers.load(Ordering::Relaxed) {
            self.cells.reserve_buffers()?;
            self.c.has_buffers.store(true, Ordering::Relaxed);
        }
        self.ensure(passed_before(step.last, SLOTS))?;
        let rounds = step.last - step.first + 1;
        let place = if staging::has_choice(bytes) {
            let mut staging = self.staging();
            let room = bytes.max(rounds as usize * SLOT);
            let crowded = || self.engine.is_crowded();
            staging.place(self.cells, room, bytes, self.is_on_mesh(), crowded)
        } else {
            Place::OF_ROUND
        };
        self.place.set(place);
        let slots = self.slots_at(self.rank(), step, place.word, bytes);
        Ok(slots.by(place.way))
    }

    fn staging(&self) -> MutexGuard<'a, Staging> {
        // A panic in there leaves it as it was: it has whole values at any time.
        self.c
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `write` write `bytes` bytes into the buffers that were claimed last, by the clock where that is to tell which way is faster.
    #[inline]
    fn write(&self, bytes: usize, write: impl FnOnce()) {
        let place = self.place.get();
        if !place.timed {
            return write();
        }
        let began = Instant::now();
        write();
        self.staging().took(place.way, bytes, began.elapsed());
    }

    /// Whether the buffers that were claimed last are written through the cache, untimed.
    fn writes_through(&self) -> bool {
        let place = self.place.get();
        place.way == Way::Through && !place.timed
    }

    /// Whether pieces are written by [`Way::Upwards`]; all members know that alike.
    #[inline]
    fn is_on_mesh(&self) -> bool {
        self.c.is_on_mesh.load(Ordering::Relaxed)
    }

    /// Bytes of a large step: more than slots hold where all members write to long areas.
    fn large_room(&self) -> usize {
        match self.c.all_long.load(Ordering::Relaxed) {
            true => LONGEST_PIECE,
            false => LARGE as usize * SLOT,
        }
    }

    /// All members have announced `step`, a large one that has a choice of places, and this one claimed its buffers last: whether they all chose long areas is from now on known to all.
    fn note_long(&self, step: &Step) {
        if !self.c.all_long.load(Ordering::Relaxed) {
            let is_long = |word| staging::offset(word).is_some();
            let all = self.others().all(|member| is_long(self.word(member, step)));
            let own = is_long(self.place.get().word);
            self.c.all_long.store(all && own, Ordering::Relaxed);
        }
    }

    /// The buffers of `member` for `step`, after [`Run::wait`] for it.
    #[inline]
    fn slots(&self, member: usize, step: &Step) -> Window<'a> {
        self.slots_at(member, step, self.word(member, step), 0)
    }

    /// The buffers of a step; in a long area at least `bytes` bytes.
    #[inline]
    fn slots_at(&self, member: usize, step: &Step, word: u64, bytes: usize) -> Window<'a> {
        let rounds = step.last - step.first + 1;
        let len = bytes.max(rounds as usize * SLOT);
        let long = staging::offset(word).and_then(|at| self.cells.long_slots(member, at, len));
        let place = long.unwrap_or_else(|| self.cells.slots(member, step.first, rounds));
        place.by(staging::way(word))
    }

    /// Announces `step`, for which the buffers were claimed last and filled.
    #[inline]
    fn announce_slots(&self, step: &Step, done: u64) {
        let mut words = Words::default();
        words[0] = self.place.get().word;
        self.announce(step, done, &words);
    }

    /// Announces `step`, with all that was written for it; this member has read all that it will of the rounds before `done`.
    #[inline(always)]
    fn announce(&self, step: &Step, done: u64, words: &Words) {
        let line = self.cells.line(self.rank(), step.last);
        line.signature
            .store(self.begun.signature.0, Ordering::Relaxed);
        line.previous
            .store(self.begun.previous.0, Ordering::Relaxed);
        for (place, word) in line.words.iter().zip(words) {
            place.store(*word, Ordering::Relaxed);
        }
        // Release: pairs with the Acquire in `wait` and in `Engine::wait_word`.
        line.round.store(step.last, Ordering::Release);
        self.progress(done);
    }

    /// As [`Run::announce`], where this member waits for nobody and so announces the next steps soon.
    #[inline(always)]
    fn announce_and_go_on(&self, step: &Step, words: &Words) {
        self.announce(step, step.first, words);
        self.cells.prefetch_own(step.last + AHEAD);
    }

    /// This member has read all that it will of the rounds before `done`. All that a member says in a step in which it only reads.
    #[inline(always)]
    fn progress(&self, done: u64) {
        // Release: pairs with the Acquire in `ensure_slowly`.
        self.cells
            .progress(self.rank())
            .store(done, Ordering::Release);
        self.engine.wake_members(self.c.comm());
    }

    /// This member is through with `step`, in which it only read.
    #[inline(always)]
    fn pass(&self, step: &Step) {
        self.progress(step.last + 1);
    }

    /// Waits until `member`, which has something to say in it, has announced `step`; `first` is the first step of this collective, where
    /// the calls are compared.
    #[inline(always)]
    fn wait(&self, member: usize, step: &Step, first: bool) -> Result<()> {
        self.note()?;
        let line = self.cells.line(member, step.last);
        self.wait_for(
            &line.round,
            step.last,
            self.cells.line_at(member, step.last),
            member,
        )?;
        // Who streams has perhaps announced the next one already: its line comes while this one's data is copied.
        self.cells.prefetch_line(member, step.last + 1);
        if first {
            self.compare(member, step)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn compare(&self, member: usize, step: &Step) -> Result<()> {
        let line = self.cells.line(member, step.last);
        let signature = line.signature.load(Ordering::Relaxed);
        let previous = line.previous.load(Ordering::Relaxed);
        if signature == self.begun.signature.0 && previous == self.begun.previous.0 {
            return Ok(());
        }
        let theirs = (
            crate::model::Signature(signature),
            crate::model::Signature(previous),
        );
        check::mismatch(
            self.engine,
            self.c,
            self.cells,
            &self.begun,
            member,
            theirs,
            self.site,
        )
    }

    /// Waits until `word`, which is at `at` of the segment and written by `member`, is at least `value`.
    #[inline(always)]
    fn wait_for(&self, word: &AtomicU64, value: u64, at: usize, member: usize) -> Result<()> {
        // Acquire: pairs with the Release in `announce` and `progress`.
        if word.load(Ordering::Acquire) >= value {
            return Ok(());
        }
        self.wait_word(at, value, member)
    }

    #[inline(never)]
    fn wait_word(&self, at: usize, value: u64, member: usize) -> Result<()> {
        // Whoever waits says what it has read, if it has not: the others may wait for that, to begin a step that takes several rounds.
        if self.cells.progress(self.rank()).load(Ordering::Relaxed) < self.start {
            self.progress(self.start);
        }
        let (engine, site) = (self.engine, self.site);
        let check = || {
            check::look(engine, self.c, self.cells, &self.begun, member, site)?;
            // After the history: a member that has come here by now may well have gone on.
            let waits = || engine.segment().u64(at).load(Ordering::Acquire) < value;
            check::gone_on(engine, self.c, self.cells, &self.begun, member, site, waits)
        };
        engine.wait_word(self.c.comm(), at, value, member, &check, site)
    }

    /// The first word of `member`'s payload for `step`, after [`Run::wait`].
    #[inline(always)]
    fn word(&self, member: usize, step: &Step) -> u64 {
        self.cells.line(member, step.last).words[0].load(Ordering::Relaxed)
    }

    /// The payload of `member`'s line for `step`, after [`Run::wait`].
    #[inline(always)]
    fn words(&self, member: usize, step: &Step) -> [u8; INLINE] {
        let line = self.cells.line(member, step.last);
        let mut bytes = [0; INLINE];
        for (place, word) in bytes.chunks_exact_mut(8).zip(&line.words) {
            place.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes
    }

    /// All members say something and hear all others, in `pieces` steps of `rounds` rounds and at most `bytes` bytes: `write(i, mine)` fills
    /// this member's buffers, `read(i, step)` waits for the others and takes what they wrote. With small steps the next piece is written
    /// before the last one is read, so that nobody waits for a member that is a little later.
    fn exchange(
        &self,
        pieces: usize,
        rounds: u64,
        bytes: usize,
        mut write: impl FnMut(usize, &Window<'a>),
        mut read: impl FnMut(usize, &Step) -> Result<()>,
    ) -> Result<()> {
        let ahead = rounds == 1;
        let mut open: Option<(usize, Step)> = None;
        let mut take = |(i, step): (usize, Step)| -> Result<()> {
            read(i, &step)?;
            // All have announced this step: before that they had read what came before it, but for the piece that they hold back.
            self.learn(step.first - ahead as u64);
            Ok(())
        };
        for i in 0..pieces {
            let step = self.step(rounds);
            let slots = self.claim_slots(&step, bytes)?;
            self.write(bytes, || write(i, &slots));
            let done = open.map_or(step.first, |(_, s)| s.first);
            self.announce_slots(&step, done);
            if let Some(last) = open.replace((i, step)) {
                take(last)?;
            }
            if !ahead {
                open.take().map_or(Ok(()), &mut take)?;
            }
        }
        open.map_or(Ok(()), take)
    }
}

/// Bytes of a span as a line's payload.
#[inline]
fn words_of(span: &SendSpan, at: usize, len: usize) -> Words {
    let mut bytes = [0; INLINE];
    span.pack_at(at, &mut bytes[..len]);
    to_words(&bytes)
}

#[inline]
fn to_words(bytes: &[u8; INLINE]) -> Words {
    let mut words = Words::default();
    for (word, eight) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut room = [0; 8];
        room.copy_from_slice(eight);
        *word = u64::from_ne_bytes(room);
    }
    words
}

/// `at..at + len` of `bytes` bytes cut into pieces of at most `piece`, a multiple of `unit`.
#[derive(Clone, Copy)]
struct Cut {
    bytes: usize,
    piece: usize,
}

impl Cut {
    /// `piece` is rounded down to whole units, but for one at least.
    fn new(bytes: usize, piece: usize, unit: usize) -> Cut {
        let unit = unit.max(1);
        Cut {
            bytes,
            piece: (piece / unit).max(1) * unit,
        }
    }

    /// At least one piece, so that every collective is heard of.
    fn count(&self) -> usize {
        self.bytes.div_ceil(self.piece).max(1)
    }

    fn at(&self, i: usize) -> usize {
        i * self.piece
    }

    fn len(&self, i: usize) -> usize {
        self.piece.min(self.bytes - self.at(i))
    }
}
