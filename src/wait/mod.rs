//! Spin, yield, sleep: the one place that decides, and the words by which sleepers are woken.
//!
//! Uses the segment's control words and the futex calls; must never know messages. README.md has the protocols and the proofs.

mod bed;
mod home;
mod policy;
mod sleep;
mod turn;
mod word;

#[cfg(all(test, loom))]
mod loom_models;

pub(crate) use policy::WaitMode;
pub(crate) use turn::Turn;

use crate::job::Segment;
use crate::sys::net::Epoll;
use bed::Bed;
use core::sync::atomic::Ordering;
use core::time::Duration;
use home::Home;
use policy::{Course, Policy, Step};
use std::sync::Arc;
use std::time::Instant;
use word::SleepWord;

/// The first sleep's limit: it closes the window that [`Waiter::wake`] leaves without a fence.
const FIRST_SLEEP: Duration = Duration::from_millis(1);
/// The limit of every further sleep: a net under the protocol, not a part of it.
const LONG_SLEEP: Duration = Duration::from_secs(1);

/// Where some news wake nobody, each sleep of a wait is longer than the one before by this part of it: so news are late by such a part of the wait,
const NAP_GROWTH: u32 = 16;
/// and never by more than this.
const LONG_NAP: Duration = Duration::from_millis(2);

/// How one rank waits, and how it wakes others.
pub(crate) struct Waiter {
    segment: Arc<Segment>,
    /// Where each rank sleeps.
    beds: Vec<Bed>,
    rank: usize,
    policy: Policy,
    /// The first sleep of a wait, where some news wake nobody.
    nap: Option<Duration>,
    /// Where it waits if ranks share cores.
    home: Option<Home>,
}

impl Waiter {
    /// As `among`, with all ranks on this host.
    #[cfg(test)]
    pub(crate) fn new(segment: &Arc<Segment>, rank: usize, mode: WaitMode, spread: bool) -> Waiter {
        let all: Vec<_> = (0..segment.ranks()).map(Some).collect();
        Waiter::among(segment, &all, rank, mode, spread, None, None)
    }

    /// The waiter of `rank`, which counts as awake from here on, until the waiter is dropped. `index` is each rank's in the segment, of those
    /// on this host. In a job with sockets the rank sleeps in `epoll`, where its sockets are watched. `spread`: the rank is a process, which
    /// waits on a core of its turn where ranks share cores. Where some news wake nobody a wait's sleeps begin with `nap`.
    pub(crate) fn among(
        segment: &Arc<Segment>,
        index: &[Option<usize>],
        rank: usize,
        mode: WaitMode,
        spread: bool,
        epoll: Option<Arc<Epoll>>,
        nap: Option<Duration>,
    ) -> Waiter {
        segment.control().awake().fetch_add(1, Ordering::Relaxed);
        let mut epoll = epoll;
        let beds = index.iter().enumerate().map(|(other, at)| {
            let epoll = if other == rank { epoll.take() } else { None };
            Bed::new(segment, *at, epoll)
        });
        Waiter {
            beds: beds.collect(),
            segment: segment.clone(),
            rank,
            policy: Policy::new(mode, nap.is_some()),
            nap,
            home: spread.then(|| Home::of(rank)).flatten(),
        }
    }

    /// Starts one wait, which sleeps no longer than until `until`; its `look` says then that there is news.
    #[inline]
    pub(crate) fn spell(&self, until: Option<Instant>) -> Spell<'_> {
        Spell {
            waiter: self,
            course: Course::new(),
            until,
            long: false,
        }
    }

    /// Wakes `rank` if it is seen asleep: one load of a read-mostly line. For after a message; what the load misses while the message is
    /// still in the store buffer, [`Waiter::wake_fenced`] or the sleeper's first time limit finds.
    #[inline]
    pub(crate) fn wake(&self, rank: usize) {
        if sleep::wake(&self.beds[rank]) {
            self.count(true);
        }
    }

    /// Wakes `rank` if it is asleep. With what was stored before, no wake-up can be lost.
    pub(crate) fn wake_fenced(&self, rank: usize) {
        self.fence();
        self.wake(rank);
    }

    /// The fence that a [`Waiter::wake`] needs before it to be certain; one for many.
    #[inline]
    pub(crate) fn fence(&self) {
        // SeqCst: pairs with the sleeper's fence between announcing and its last look.
        core::sync::atomic::fence(Ordering::SeqCst);
    }

    /// How many polls without a pause a wait should start with, before it takes a [`Spell`]: many while each rank that is awake has a core,
    /// few where spinning keeps the very rank off the core that it waits for.
    #[inline]
    pub(crate) fn first_polls(&self) -> u32 {
        self.policy.first_polls(|| self.is_crowded())
    }

    /// Whether more ranks are awake than there are cores.
    pub(crate) fn is_crowded(&self) -> bool {
        let control = self.segment.control();
        // Relaxed: advice only. A damaged count makes a rank wait in the wrong way, no more.
        let awake = control.awake().load(Ordering::Relaxed) as i32;
        let cores = control.claimed_cores().load(Ordering::Relaxed).max(1);
        awake > cores.min(i32::MAX as u32) as i32
    }

    /// Counts a rank that has just been turned to awake or asleep. Whoever wakes a rank counts it at once: were it to count itself when it
    /// runs, its waker would think that it has the core to itself, and spin on the very core on which the other is to run.
    #[cold]
    fn count(&self, awake: bool) {
        let ranks = self.segment.control().awake();
        if awake {
            ranks.fetch_add(1, Ordering::Relaxed);
        } else {
            ranks.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[cold]
    fn sleep(&self, until: Option<Instant>, look: &mut impl FnMut() -> bool) {
        let bed = &self.beds[self.rank];
        let (first, most) = match self.nap {
            None => (FIRST_SLEEP, LONG_SLEEP),
            Some(nap) => (nap, LONG_NAP),
        };
        // Taken once: the last of several sleeps may end later than `until` by the first one's length.
        let left = until.map_or(most, |until| {
            until.saturating_duration_since(Instant::now())
        });
        let mut limit = first.min(left);
        let wait = |ticket| {
            bed.wait(ticket, Some(limit));
            limit = match self.nap {
                None => most.min(left),
                Some(_) => (limit + limit / NAP_GROWTH).min(most).min(left),
            };
            true
        };
        sleep::sleep(bed, look, wait, |awake| self.count(awake));
    }

    /// Sleeps for so long, and lets news of sockets gather meanwhile.
    #[cold]
    fn doze(&self, long: Duration, look: &mut impl FnMut() -> bool) {
        let bed = &self.beds[self.rank];
        let wait = |ticket| {
            bed.doze(ticket, long);
            false
        };
        sleep::sleep(bed, look, wait, |awake| self.count(awake));
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.segment
            .control()
            .awake()
            .fetch_sub(1, Ordering::Relaxed);
    }
}

/// One wait: from the first poll that found nothing to the one that found something.
pub(crate) struct Spell<'w> {
    waiter: &'w Waiter,
    course: Course,
    until: Option<Instant>,
    long: bool,
}

impl Spell<'_> {
    /// Whether the wait is for somebody so far away that a wake is nothing beside it: then it sleeps at once.
    #[inline]
    pub(crate) fn is_long(&mut self, long: bool) {
        self.long = long;
    }

    /// To be called after a poll that found something, when the wait goes on.
    #[inline]
    pub(crate) fn found_something(&mut self) {
        self.course.found_something();
    }

    /// To be called after each poll that found nothing. Returns when it is time to poll again.
    ///
    /// `look` is a full look at everything that could end the wait: all lanes, the abort word, departures. It is asked every few
    /// microseconds of spinning and always between announcing sleep and sleeping, and says whether there is news. Credit that a peer may
    /// be waiting for must have been published when it returns `false`.
    #[inline]
    pub(crate) fn idle(&mut self, look: impl FnMut() -> bool) {
        if self.course.is_undisturbed() {
            return;
        }
        self.idle_longer(look);
    }

    #[inline(never)]
    fn idle_longer(&mut self, mut look: impl FnMut() -> bool) {
        let course = &mut self.course;
        match course.step(&self.waiter.policy, self.long, || self.waiter.is_crowded()) {
            Step::Nothing => {}
            Step::Poll => core::hint::spin_loop(),
            Step::Look => {
                look();
            }
            Step::Yield { look: full } => {
                if full {
                    look();
                    // Ranks that have a core each, and yield because they were told to, stay where they are.
                    match &self.waiter.home {
                        Some(home) if self.waiter.is_crowded() => home.go(),
                        _ => {}
                    }
                }
                std::thread::yield_now();
            }
            Step::Doze(long) => {
                let left = self
                    .until
                    .map(|until| until.saturating_duration_since(Instant::now()));
                self.waiter
                    .doze(left.map_or(long, |left| left.min(long)), &mut look);
            }
            Step::Sleep => {
                self.waiter.sleep(self.until, &mut look);
                self.course.restart();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    fn pair(mode: WaitMode) -> (Arc<Segment>, Waiter, Waiter) {
        let segment = Arc::new(Segment::private(2).unwrap());
        let (a, b) = (
            Waiter::new(&segment, 0, mode, false),
            Waiter::new(&segment, 1, mode, false),
        );
        (segment, a, b)
    }

    /// Two threads hand a number back and forth through a word and the waiter.
    #[test]
    fn a_hand_over_wakes_whoever_sleeps() {
        for mode in [WaitMode::Auto, WaitMode::Yield] {
            let (segment, a, b) = pair(mode);
            let turns = if cfg!(miri) { 10 } else { 2000 };
            let word = AtomicU32::new(0);
            let play = |waiter: &Waiter, me: u32| {
                for turn in 0..turns {
                    let mut spell = waiter.spell(None);
                    while word.load(Ordering::Acquire) != 2 * turn + me {
                        spell.idle(|| word.load(Ordering::Acquire) == 2 * turn + me);
                    }
                    word.store(2 * turn + me + 1, Ordering::Release);
                    waiter.wake_fenced(1 - me as usize);
                }
            };
            std::thread::scope(|scope| {
                scope.spawn(|| play(&a, 0));
                play(&b, 1);
            });
            assert_eq!(segment.control().awake().load(Ordering::Relaxed), 2);
            drop((a, b));
            assert_eq!(segment.control().awake().load(Ordering::Relaxed), 0);
        }
    }

    /// A wake without a fence may come to nothing; the first limit finds it within milliseconds.
    #[test]
    fn a_store_without_any_wake_is_found_soon() {
        let (_segment, a, _b) = pair(WaitMode::Auto);
        let flag = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut spell = a.spell(None);
                while flag.load(Ordering::Acquire) == 0 {
                    spell.idle(|| flag.load(Ordering::Acquire) != 0);
                }
                Instant::now()
            });
            flag.store(1, Ordering::Release);
            let stored = Instant::now();
            let seen = waiting.join().unwrap();
            assert!(
                seen.saturating_duration_since(stored) < Duration::from_millis(500),
                "the net of a second was needed"
            );
        });
    }

    #[test]
    fn an_abort_wakes_sleepers() {
        let (segment, a, _b) = pair(WaitMode::Auto);
        let control = segment.control();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut spell = a.spell(None);
                while !control.is_aborted() {
                    spell.idle(|| control.is_aborted());
                }
            });
            // Asleep for sure: the low bit is set only then.
            while control.sleep_word(0).load(Ordering::Relaxed) & 1 == 0 {
                std::thread::yield_now();
            }
            let raised = Instant::now();
            control.raise_abort();
            waiting.join().unwrap();
            assert!(raised.elapsed() < Duration::from_millis(900));
        });
    }
}
