//! When to spin, to yield and to sleep. Pure: it is told the time by nobody else than the clock, and does nothing itself.
#![forbid(unsafe_code)]
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Polls before the ranks awake are counted: what is there already need not wait for that.
const UNCOUNTED: u32 = 2;
/// Polls without a pause where each rank that is awake has a core: a message from a core that is close arrives within them.
const FRESH: u32 = 64;
/// Polls of one lane before anything else is looked at, where ranks share cores.
const FIRST_POLLS_CROWDED: u32 = 16;
/// Polls of one lane before anything else is looked at: a few times the flight of a message between far cores (280 ns).
const FIRST_POLLS: u32 = 2000;
/// Paused polls between two looks at the clock (a pause is 24 ns here, the clock 25).
const BETWEEN_LOOKS: u32 = 32;
/// The longest spin. Waking an idle core costs 25-31 µs here (W0), so this is about twice what a sleep and a wake cost both sides.
const SPIN: Duration = Duration::from_micros(100);
/// The shortest, where spinners were preempted again and again.
const SPIN_LEAST: Duration = Duration::from_micros(1);
/// The same two where some news wake nobody. A nap of 100 µs ends 160 to 210 µs later (a timer's slack is 50 µs, and an idle core wakes): who spins for less than
/// that has gone to sleep when the other's answer comes, and the two go on so for a while (8 B over Open MPI 4.1, long runs: 676 ns in the median, 622 with these).
const SPIN_FOR_NAPPERS: Duration = Duration::from_millis(2);
const SPIN_FOR_NAPPERS_LEAST: Duration = Duration::from_micros(300);
/// Between two looks at the clock lies about 1 µs; a longer gap than this was another's time on our core.
const PREEMPTED: Duration = Duration::from_micros(50);
/// Yields in a row before sleeping. A hop by yield is 1.24 µs here against 2.1 by futex (Y0), so that yielding is worth it while it is
/// likely that one of the few next hops brings the news.
const YIELDS: u32 = 16;
/// Between two long waits that sleep until something comes: what comes meanwhile is worth one wake together, and README.md says what some kernels make
/// of more than 10,000 sleeps a second on every core.
const BETWEEN_SLEEPS: Duration = Duration::from_micros(200);

/// What the user asked for (`TERCIO_WAIT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WaitMode {
    /// Spin while each rank that is awake has a core, else yield; then sleep.
    #[default]
    Auto,
    /// Spin and never sleep.
    Spin,
    /// Yield at once, then sleep.
    Yield,
}

impl WaitMode {
    /// The mode called `text`.
    pub(crate) fn parse(text: &str) -> Option<WaitMode> {
        match text {
            "auto" => Some(WaitMode::Auto),
            "spin" => Some(WaitMode::Spin),
            "yield" => Some(WaitMode::Yield),
            _ => None,
        }
    }
}

/// What a rank remembers from wait to wait.
pub(super) struct Policy {
    mode: WaitMode,
    /// The shortest and the longest spin.
    spins: (Duration, Duration),
    /// Nanoseconds that a wait may spin.
    budget: AtomicU32,
    since: Instant,
    /// Nanoseconds from `since` to the last long wait's sleep, or the end of its doze.
    slept: AtomicU64,
}

impl Policy {
    /// `naps`: some news wake nobody, so that others sleep by the clock.
    pub(super) fn new(mode: WaitMode, naps: bool) -> Policy {
        let spins = match naps {
            false => (SPIN_LEAST, SPIN),
            true => (SPIN_FOR_NAPPERS_LEAST, SPIN_FOR_NAPPERS),
        };
        Policy {
            mode,
            spins,
            budget: AtomicU32::new(spins.1.as_nanos() as u32),
            since: Instant::now(),
            slept: AtomicU64::new(0),
        }
    }

    /// What a long wait does `now`, in nanoseconds from `since` on: it sleeps, unless one just did; then it dozes first, until it may.
    fn long_wait(&self, now: u64, dozed: bool) -> Step {
        let between = BETWEEN_SLEEPS.as_nanos() as u64;
        let due = match self.slept.load(Relaxed) {
            0 => 0,
            // One that ended early, by news or a time limit, leaves no debt.
            last => last.saturating_add(between).min(now + between),
        };
        let dozes = !dozed && now < due;
        self.slept
            .store(if dozes { due } else { now.max(1) }, Relaxed);
        match dozes {
            true => Step::Doze(Duration::from_nanos(due - now)),
            false => Step::Sleep,
        }
    }

    #[inline]
    pub(super) fn first_polls(&self, crowded: impl FnOnce() -> bool) -> u32 {
        match self.mode {
            WaitMode::Spin => FIRST_POLLS,
            WaitMode::Auto if !crowded() => FIRST_POLLS,
            _ => FIRST_POLLS_CROWDED,
        }
    }

    fn budget(&self) -> Duration {
        Duration::from_nanos(self.budget.load(Relaxed) as u64)
    }

    fn set_budget(&self, budget: Duration) {
        let (least, most) = self.spins;
        let budget = budget.clamp(least, most);
        self.budget.store(budget.as_nanos() as u32, Relaxed);
    }
}

/// What to do before the next poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing at all.
    Nothing,
    /// Nothing but a pause.
    Poll,
    /// Look at what is not polled each time.
    Look,
    /// Let others run on this core; `look` at what is not polled each time before.
    Yield { look: bool },
    /// Sleep for so long, unless woken by a rank.
    Doze(Duration),
    /// Sleep until woken.
    Sleep,
}

/// How far one wait has come.
pub(super) struct Course {
    polls: u32,
    /// The number of polls up to which there is nothing to decide.
    undisturbed: u32,
    yields: u32,
    dozed: bool,
    /// When spinning began and when the clock was last looked at.
    clock: Option<(Instant, Instant)>,
}

impl Course {
    #[inline(always)]
    pub(super) fn new() -> Course {
        Course {
            polls: 0,
            undisturbed: UNCOUNTED,
            yields: 0,
            dozed: false,
            clock: None,
        }
    }

    /// After a sleep, all over again.
    pub(super) fn restart(&mut self) {
        *self = Course::new();
    }

    /// A poll found something, though not what ends the wait: what comes next is as likely to be close as it was at the beginning, and the time that went into it was
    /// nobody else's.
    #[inline]
    pub(super) fn found_something(&mut self) {
        let dozed = self.dozed;
        self.restart();
        self.dozed = dozed;
    }

    /// Counts a poll. Whether there is nothing to decide yet.
    #[inline(always)]
    pub(super) fn is_undisturbed(&mut self) -> bool {
        self.polls += 1;
        self.polls <= self.undisturbed
    }

    /// What to do after a poll that found nothing; `long`: what is awaited is so far away that a sleep is nothing beside it; `crowded`: there are
    /// more ranks awake than cores.
    pub(super) fn step(
        &mut self,
        policy: &Policy,
        long: bool,
        crowded: impl FnOnce() -> bool,
    ) -> Step {
        if long && policy.mode != WaitMode::Spin {
            let now = policy.since.elapsed().as_nanos() as u64;
            let step = policy.long_wait(now, self.dozed);
            self.dozed = matches!(step, Step::Doze(_));
            return step;
        }
        if self.clock.is_some() && self.yields == 0 && self.polls < FRESH + BETWEEN_LOOKS {
            return Step::Poll;
        }
        let yielding = self.yields > 0
            || match policy.mode {
                WaitMode::Spin => false,
                WaitMode::Yield => true,
                WaitMode::Auto => crowded(),
            };
        if yielding {
            self.yields += 1;
            return match self.yields {
                // The first look gives back credit, the others are a bound on how late an abort is seen.
                1..=YIELDS => Step::Yield {
                    look: self.yields % 8 == 1,
                },
                _ => Step::Sleep,
            };
        }
        if self.undisturbed < FRESH {
            self.undisturbed = FRESH;
            return Step::Nothing;
        }
        self.polls = FRESH;
        self.spin(policy, Instant::now())
    }

    /// A look at the clock while spinning.
    fn spin(&mut self, policy: &Policy, now: Instant) -> Step {
        let Some((began, last)) = self.clock else {
            self.clock = Some((now, now));
            return Step::Look;
        };
        self.clock = Some((began, now));
        let budget = policy.budget();
        let spent = now - began > budget;
        if now - last > PREEMPTED {
            policy.set_budget(budget / 2);
        } else if spent {
            // It ran its whole course, and not preempted at the end: the core is ours again.
            policy.set_budget(budget * 2);
        }
        if spent && policy.mode != WaitMode::Spin {
            Step::Sleep
        } else {
            Step::Look
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(mode: WaitMode, crowded: bool, until: Step) -> Vec<Step> {
        let policy = Policy::new(mode, false);
        let mut course = Course::new();
        let mut taken = Vec::new();
        while course.is_undisturbed() {}
        loop {
            let step = course.step(&policy, false, || crowded);
            taken.push(step);
            if step == until {
                return taken;
            }
            while course.is_undisturbed() {}
        }
    }

    #[test]
    fn a_rank_with_a_core_spins_and_then_sleeps() {
        let taken = steps(WaitMode::Auto, false, Step::Sleep);
        assert_eq!(taken[..2], [Step::Nothing, Step::Look]);
        assert!(taken[2..].contains(&Step::Poll));
        assert!(!taken.iter().any(|s| matches!(s, Step::Yield { .. })));
    }

    #[test]
    fn a_crowded_rank_yields_a_bounded_number_of_times() {
        for (mode, crowded) in [(WaitMode::Auto, true), (WaitMode::Yield, false)] {
            let taken = steps(mode, crowded, Step::Sleep);
            assert_eq!(taken.len(), YIELDS as usize + 1);
            assert_eq!(taken[0], Step::Yield { look: true });
            let yields = &taken[..YIELDS as usize];
            assert!(yields.iter().all(|s| matches!(s, Step::Yield { .. })));
        }
    }

    #[test]
    fn a_long_wait_sleeps_at_once_unless_told_to_spin() {
        for mode in [WaitMode::Auto, WaitMode::Yield, WaitMode::Spin] {
            let mut course = Course::new();
            while course.is_undisturbed() {}
            let policy = Policy::new(mode, false);
            let step = course.step(&policy, true, || false);
            assert_eq!(step == Step::Sleep, mode != WaitMode::Spin, "{mode:?}");
        }
    }

    #[test]
    fn long_waits_in_a_row_doze_before_they_sleep() {
        let policy = Policy::new(WaitMode::Auto, false);
        let between = BETWEEN_SLEEPS.as_nanos() as u64;
        assert_eq!(policy.long_wait(1, false), Step::Sleep);
        let dozes = |now, left| {
            let step = policy.long_wait(now, false);
            assert_eq!(step, Step::Doze(Duration::from_nanos(left)));
        };
        dozes(1 + between / 4, between - between / 4);
        // Once in a wait.
        assert_eq!(policy.long_wait(1 + between, true), Step::Sleep);
        dozes(2 + between, between - 1);
        // Ended early: it leaves no debt, however many do.
        for n in 0..1000 {
            dozes(3 + between + n, between);
        }
        // The next one comes after the last has ended.
        assert_eq!(policy.long_wait(2000 + 3 * between, false), Step::Sleep);
    }

    #[test]
    fn preemption_halves_the_budget_and_quiet_restores_it() {
        let policy = Policy::new(WaitMode::Auto, false);
        let start = Instant::now();
        let mut course = Course::new();
        course.spin(&policy, start);
        assert_eq!(course.spin(&policy, start + PREEMPTED * 2), Step::Look);
        assert_eq!(policy.budget(), SPIN / 2);
        // However often it is preempted, a wait ends in sleep.
        assert_eq!(course.spin(&policy, start + PREEMPTED * 4), Step::Sleep);
        assert_eq!(policy.budget(), SPIN / 4);
        for _ in 0..40 {
            let mut course = Course::new();
            course.spin(&policy, start);
            course.spin(&policy, start + PREEMPTED * 2);
        }
        assert_eq!(policy.budget(), SPIN_LEAST);
        for _ in 0..10 {
            let mut course = Course::new();
            let looks = (0..)
                .map(|n| course.spin(&policy, start + PREEMPTED / 2 * n))
                .take_while(|&step| step == Step::Look)
                .count();
            assert!(looks >= 1, "a spin ends at once");
        }
        assert_eq!(policy.budget(), SPIN);
    }

    #[test]
    fn what_comes_begins_the_spin_anew_and_is_no_preemption() {
        let policy = Policy::new(WaitMode::Auto, false);
        let start = Instant::now();
        let mut course = Course::new();
        // Parts of something long, each of which takes a while to read, with short waits between them.
        for part in 0..100 {
            let at = start + 2 * PREEMPTED * part;
            assert_eq!(course.spin(&policy, at), Step::Look);
            assert_eq!(course.spin(&policy, at + PREEMPTED / 8), Step::Look);
            course.found_something();
        }
        assert_eq!(policy.budget(), SPIN);
        let looks = (0..)
            .map(|n| course.spin(&policy, start + PREEMPTED / 2 * n))
            .take_while(|&step| step == Step::Look)
            .count();
        assert!(looks >= 4, "it spins for less than its budget");
    }

    #[test]
    fn where_others_nap_a_spin_is_longer_than_a_nap_however_often_it_is_preempted() {
        let policy = Policy::new(WaitMode::Auto, true);
        let start = Instant::now();
        for _ in 0..40 {
            let mut course = Course::new();
            course.spin(&policy, start);
            let mut at = start;
            while course.spin(&policy, at) == Step::Look {
                at += PREEMPTED * 2;
            }
            assert!(at - start > SPIN_FOR_NAPPERS_LEAST);
        }
        assert_eq!(policy.budget(), SPIN_FOR_NAPPERS_LEAST);
    }

    #[test]
    fn spinning_on_request_never_sleeps() {
        let policy = Policy::new(WaitMode::Spin, false);
        let start = Instant::now();
        let mut course = Course::new();
        for ms in 0..1000 {
            assert_eq!(
                course.spin(&policy, start + Duration::from_millis(ms)),
                Step::Look
            );
        }
    }
}
