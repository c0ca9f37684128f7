//! Contributions that the other members read where they lie, in their owner's heap. ../README.md says how they are told of, and until when they are read.
use super::{Run, Step, Words};
use crate::engine::SendSpan;
use crate::model::error::Result;
use crate::model::{CollKind, Error, ErrorClass};
use crate::transport::shm::cells::Window;
use core::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The bit of a line's first word that says that the rest of it is a place in the writer's heap.
const HEAP: u64 = 1 << 63;
/// The second word of the line of a member that would like the readers to map its heap.
const ASKS: u64 = 1;
/// Shorter contributions are not worth it: they are copied in a fraction of the time that everything else takes.
const FROM: usize = 8 * 1024;

/// Both ways are compared after so many calls of one kind and size, soon again, since long areas are made only when the others have been found near, and
/// then after each so many.
const FIRST: u32 = 8;
const SECOND: u32 = 128;
const PERIOD: u32 = 1024;
/// Calls of a comparison: half of them in place, then half through cells; of each half the first ones say nothing, since caches are as the other way left them.
const TRIALS: u32 = 12;
const WARM: u32 = 2;
/// In place must be faster by a part in so many: what little it saves is not worth that a root waits for its readers.
const MARGIN: u32 = 32;
/// Size classes, in powers of four.
const CLASSES: usize = 8;
/// Kinds of collectives that have the choice.
const KINDS: usize = 4;

/// What one member knows of one kind and size.
#[derive(Clone, Copy, Default)]
struct Account {
    calls: u32,
    /// The fastest of the running comparison, in place and through cells.
    best: [Option<Duration>; 2],
    /// When the last call of the running comparison was over.
    over: Option<Instant>,
    in_place: bool,
    /// It was compared twice.
    is_old: bool,
}

/// What a member knows of how its contributions are read faster. What counts is the time from the end of a call to the end of the next: who contributes in place
/// waits for its readers, who copies into cells does that, and what others have read in place takes longer to write again.
#[derive(Default)]
pub(in crate::coll) struct Choice {
    accounts: [[Account; CLASSES]; KINDS],
    #[cfg(test)]
    forced: Option<bool>,
}

fn class(bytes: usize) -> usize {
    (bytes.max(FROM).ilog2() as usize - FROM.ilog2() as usize)
        .div_euclid(2)
        .min(CLASSES - 1)
}

/// The number of a kind among those that have the choice.
fn number(kind: CollKind) -> Option<usize> {
    Some(match kind {
        CollKind::Broadcast => 0,
        CollKind::Reduce => 1,
        CollKind::AllReduce => 2,
        CollKind::Gather => 3,
        _ => return None,
    })
}

impl Choice {
    /// The way of the next call; in a comparison, whether its time counts.
    fn next(&mut self, kind: usize, bytes: usize) -> (bool, Option<bool>) {
        #[cfg(test)]
        if let Some(forced) = self.forced {
            return (forced, None);
        }
        let account = &mut self.accounts[kind][class(bytes)];
        let at = account.calls;
        account.calls += 1;
        let Some(trial) = at.checked_sub(FIRST) else {
            return (account.in_place, None);
        };
        if trial >= TRIALS {
            if at + 1 == if account.is_old { PERIOD } else { SECOND } {
                (account.calls, account.is_old) = (FIRST, true);
            }
            return (account.in_place, None);
        }
        if trial == 0 {
            (account.best, account.over) = ([None; 2], None);
        }
        let in_place = trial < TRIALS / 2;
        (in_place, Some(trial % (TRIALS / 2) >= WARM))
    }

    /// A call of a comparison is over.
    fn ended(&mut self, kind: usize, bytes: usize, in_place: bool, counts: bool, now: Instant) {
        let account = &mut self.accounts[kind][class(bytes)];
        let since = account.over.replace(now);
        let Some(time) = since.filter(|_| counts).map(|since| now - since) else {
            return;
        };
        let best = &mut account.best[usize::from(!in_place)];
        *best = Some(best.map_or(time, |known| known.min(time)));
        if let [Some(here), Some(cells)] = account.best {
            account.in_place = here + here / MARGIN < cells;
        }
    }

    /// As if this way were always the faster one.
    #[cfg(test)]
    pub(in crate::coll) fn force(&mut self, in_place: bool) {
        self.forced = Some(in_place);
    }
}

/// What a member does with its contribution to one call.
pub(super) struct Offer {
    /// Where it begins in this member's heap, if it is read there.
    at: Option<usize>,
    /// The second word of the first line.
    asks: u64,
    /// In a comparison: the number of the kind, and whether the call's time counts.
    compared: Option<(usize, bool)>,
    bytes: usize,
}

impl Offer {
    /// Of a member that contributes nothing that others could read in place.
    pub(super) const NONE: Offer = Offer {
        at: None,
        asks: 0,
        compared: None,
        bytes: 0,
    };

    pub(super) fn is_in_place(&self) -> bool {
        self.at.is_some()
    }
}

/// Whether the line's first word tells of a place in a heap.
pub(super) fn is_place(word: u64) -> bool {
    word & HEAP != 0
}

impl<'a> Run<'a> {
    /// What to do with `span`, which `readers` are going to read: in place if it lies packed in this member's heap, all of them have mapped that, and it is
    /// the faster way.
    #[inline]
    pub(super) fn offer(
        &self,
        kind: CollKind,
        span: &SendSpan,
        readers: impl Iterator<Item = usize>,
    ) -> Offer {
        if span.len() < FROM {
            return Offer::NONE;
        }
        let offer = self.offer_long(kind, span, readers);
        offer.unwrap_or(Offer::NONE)
    }

    #[inline(never)]
    fn offer_long(
        &self,
        kind: CollKind,
        span: &SendSpan,
        mut readers: impl Iterator<Item = usize>,
    ) -> Option<Offer> {
        let at = self.engine.place_in_heap(span)?;
        let kind = number(kind)?;
        let bytes = span.len();
        let mut offer = Offer {
            at: None,
            asks: ASKS,
            compared: None,
            bytes,
        };
        if !readers.all(|reader| self.cells.has_mapped(reader, self.rank())) {
            return Some(offer);
        }
        offer.asks = 0;
        let (in_place, counts) = self.choice().next(kind, bytes);
        offer.at = in_place.then_some(at);
        offer.compared = counts.map(|counts| (kind, counts));
        Some(offer)
    }

    fn choice(&self) -> std::sync::MutexGuard<'a, Choice> {
        // A panic in there leaves it as it was: it has whole values at any time.
        let choice = self.c.choice.lock();
        choice.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Contributes bytes `at..at + len` of `span` in `step`, in place or copied into cells; this member has read all that it will of the rounds before.
    #[inline]
    pub(super) fn contribute(
        &self,
        step: &Step,
        offer: &Offer,
        span: &SendSpan,
        at: usize,
        len: usize,
    ) -> Result<()> {
        self.contribute_ahead(step, offer, span, at, len, step.first)
    }

    /// As [`Run::contribute`], where this member has read all that it will of the rounds before `done`.
    #[inline]
    pub(super) fn contribute_ahead(
        &self,
        step: &Step,
        offer: &Offer,
        span: &SendSpan,
        at: usize,
        len: usize,
        done: u64,
    ) -> Result<()> {
        let mut words = Words::default();
        if let Some(heap) = offer.at {
            self.claim_line(step)?;
            words[0] = HEAP | (heap + at) as u64;
        } else {
            let slots = self.claim_slots(step, len)?;
            self.write(len, || span.pack_to(at, &slots.part(0, len)));
            words[0] = self.place.get().word;
            words[1] = offer.asks;
        }
        self.announce(step, done, &words);
        Ok(())
    }

    /// Announces `step`, whose slots were claimed last, and a contribution from byte `at` on, which is in place if it is not in the slots.
    pub(super) fn announce_both(&self, step: &Step, offer: &Offer, at: usize) {
        let mut words = Words::default();
        words[0] = self.place.get().word;
        words[1] = offer.asks;
        words[2] = offer.at.map_or(0, |heap| HEAP | (heap + at) as u64);
        self.announce(step, step.first, &words);
    }

    /// The call is over but for this: who contributed in place waits until `readers` have read all rounds, which they say without being asked. (None: those
    /// who did not are known to have.)
    #[inline]
    pub(super) fn withdraw(
        &self,
        offer: &Offer,
        readers: impl Iterator<Item = usize>,
    ) -> Result<()> {
        if offer.is_in_place() {
            let last = self.c.round.load(Ordering::Relaxed);
            for reader in readers {
                let progress = self.cells.progress(reader);
                let at = self.cells.progress_at(reader);
                self.note()?;
                self.wait_for(progress, last + 1, at, reader)?;
            }
        }
        if let Some((kind, counts)) = offer.compared {
            let (in_place, now) = (offer.is_in_place(), Instant::now());
            let mut choice = self.choice();
            choice.ended(kind, offer.bytes, in_place, counts, now);
        }
        Ok(())
    }

    /// The `bytes` bytes that `member` announced in `step`, wherever they are, after [`Run::wait`] for it.
    #[inline]
    pub(super) fn piece_of(&self, member: usize, step: &Step, bytes: usize) -> Result<Window<'a>> {
        self.heed(member, step);
        let word = self.word(member, step);
        let piece = match is_place(word) {
            true => self.in_heap_of(member, (word & !HEAP) as usize, bytes),
            false => Some(self.slots_at(member, step, word, bytes)),
        };
        piece
            .filter(|piece| piece.len() >= bytes)
            .map(|piece| piece.part(0, bytes))
            .ok_or_else(|| damaged(member, bytes))
    }

    /// As [`Run::piece_of`], no more than slots hold: where a member says what cannot be, whatever lies in its slots.
    #[inline]
    pub(super) fn piece_or_slots(&self, member: usize, step: &Step, bytes: usize) -> Window<'a> {
        match self.piece_of(member, step, bytes) {
            Ok(piece) => piece,
            Err(_) => self.slots_at(member, step, 0, bytes).part(0, bytes),
        }
    }

    /// Where `member`'s contribution is that [`Run::announce_both`] told of, `bytes` bytes from byte `from` on; `None`: in the slots.
    pub(super) fn contribution_of(
        &self,
        member: usize,
        step: &Step,
        from: usize,
        bytes: usize,
    ) -> Option<Window<'a>> {
        let word = self.cells.line(member, step.last).words[2].load(Ordering::Relaxed);
        let at = is_place(word).then_some((word & !HEAP) as usize)?;
        self.in_heap_of(member, at.checked_add(from)?, bytes)
    }

    /// Maps the heap of `member`, if it asks for that in `step`.
    #[inline]
    pub(super) fn heed(&self, member: usize, step: &Step) {
        if self.cells.line(member, step.last).words[1].load(Ordering::Relaxed) == ASKS {
            self.map_heap_of(member);
        }
    }

    #[inline(never)]
    fn in_heap_of(&self, member: usize, at: usize, bytes: usize) -> Option<Window<'a>> {
        let local = self.engine.local_index(self.c.comm().world_rank(member));
        self.cells.in_heap(local, at, bytes)
    }

    /// Maps the heap of `member` and says so; once. Where it cannot be mapped nothing is said, and the member goes on copying.
    #[inline(never)]
    fn map_heap_of(&self, member: usize) {
        if !self.cells.has_mapped(self.rank(), member) && self.in_heap_of(member, 0, 0).is_some() {
            self.cells.say_mapped(member);
        }
    }
}

#[cold]
fn damaged(member: usize, bytes: usize) -> Error {
    Error::new(
        ErrorClass::Corrupt,
        format!(
            "rank {member} of the communicator announced {bytes} bytes of a collective at a place that it cannot have; \
             its shared memory was damaged"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `calls` go in place, where a call takes so many ns in place and through cells.
    fn in_place(calls: usize, ns: impl Fn(usize) -> [u64; 2]) -> usize {
        let (mut choice, mut now) = (Choice::default(), Instant::now());
        let mut count = 0;
        for i in 0..calls {
            let (here, counts) = choice.next(1, 64 << 10);
            now += Duration::from_nanos(ns(i)[usize::from(!here)]);
            count += usize::from(here);
            if let Some(counts) = counts {
                choice.ended(1, 64 << 10, here, counts, now);
            }
        }
        count
    }

    #[test]
    fn the_faster_way_is_taken_and_the_other_is_not_forgotten() {
        assert!(in_place(8000, |_| [2000, 3000]) > 7800);
        let few = in_place(8000, |_| [9000, 3000]);
        assert!((40..120).contains(&few), "{few}");
        // The cores move, there and back.
        let moved = in_place(16_000, |i| [if i < 8000 { 33_000 } else { 2000 }, 9000]);
        assert!((6500..8500).contains(&moved), "{moved}");
    }

    #[test]
    fn one_slow_call_decides_nothing() {
        assert!(in_place(8000, |i| [if i % 10 == 6 { 900_000 } else { 2000 }, 3000]) > 7800);
    }

    #[test]
    fn sizes_are_told_apart() {
        let classes = [FROM, 40_000, 65_536, 1 << 20, 4 << 20, 1 << 40].map(class);
        assert_eq!(classes, [0, 1, 1, 3, 4, CLASSES - 1]);
    }
}
