//! When a short message to a rank of another host waits for company, so that many leave in one system call. README.md of the engine has the rules.
use super::super::RequestId;
use super::super::state::State;
use crate::model::error::Result;
use crate::sys::clock;
use std::time::{Duration, Instant};

/// Sends that follow each other within this are one burst. A system call that sends is 1-2 µs on loopback, a message that is gathered 0.1.
const SOON: Duration = Duration::from_micros(20);
/// Bursts up to this long are written message by message: whoever sends so few may then compute, and nothing would write the last ones meanwhile.
const FEW: u32 = 4;
/// Who has sent so many at once, twice in a row, does so once more: then the first one waits too, for a window costs two system calls otherwise.
const MANY: u32 = 16;
/// No message waits longer than this for the next one, however long the burst.
const HELD: Duration = Duration::from_micros(50);
/// In a long burst only one message of so many looks at the clock, which takes 25 ns, a fifth of all that a gathered message does. The others look whether the
/// kernel's tick has come since, every 1 to 10 ms, which takes 5: no burst that slows down keeps messages back for longer.
const LOOK: u32 = 8;
/// So many bytes leave without waiting for more: the receiver should have something to do.
const ENOUGH: usize = 32 * 1024;

/// The sends to one rank that follow each other without anything between.
#[derive(Default)]
pub(super) struct Burst {
    last: Option<Instant>,
    /// When the first of those was sent that wait.
    held: Option<Instant>,
    messages: u32,
    /// How many there were at the last look at the clock.
    looked: u32,
    /// How many of the next messages need not look at the clock, if it is still this tick.
    unlooked: u32,
    tick: Duration,
    /// How long the burst before was, and the one before that.
    before: [u32; 2],
}

/// What time it is, by a clock that is exact and by one that is cheap.
trait Clock {
    fn now(&self) -> Instant;
    /// Moves every few ms.
    fn tick(&self) -> Duration;
}

struct System;

impl Clock for System {
    fn now(&self) -> Instant {
        Instant::now()
    }
    fn tick(&self) -> Duration {
        clock::tick()
    }
}

impl Burst {
    /// One more message is sent; `pending` bytes are not written. Whether it may wait for others.
    #[inline]
    fn more(&mut self, clock: &impl Clock, pending: usize) -> bool {
        if self.unlooked > 0 && pending < ENOUGH && self.tick == clock.tick() {
            self.unlooked -= 1;
            self.messages += 1;
            return true;
        }
        self.look(clock, pending)
    }

    /// The same, with a look at the clock.
    fn look(&mut self, clock: &impl Clock, pending: usize) -> bool {
        let now = clock.now();
        let since = self.last.map(|last| now - last);
        let fresh = self.messages + 1 - self.looked;
        if since.is_none_or(|since| since > SOON * fresh) {
            self.end();
        }
        self.last = Some(now);
        self.messages += 1;
        self.looked = self.messages;
        let habitual = self.before.iter().all(|burst| *burst >= MANY);
        let long = match self.messages {
            1 => habitual,
            messages => messages > FEW || self.before[0] > FEW,
        };
        let in_time = self.held.is_none_or(|since| now - since <= HELD);
        let waits = long && in_time && pending < ENOUGH;
        self.held = waits.then(|| self.held.unwrap_or(now));
        self.unlooked = 0;
        let quick = self.messages > 1 && since.is_some_and(|since| since * LOOK <= SOON * fresh);
        if waits && quick && (habitual || self.messages >= MANY) {
            self.unlooked = LOOK - 1;
            self.tick = clock.tick();
        }
        waits
    }

    /// All that was sent has been written, and something else is done.
    pub(super) fn end(&mut self) {
        if self.messages > 0 {
            self.before = [self.messages, self.before[0]];
            self.messages = 0;
            self.looked = 0;
            self.unlooked = 0;
            self.held = None;
        }
    }
}

impl State {
    /// Whether the message to `to` that was just put into the outbox may stay there for a moment.
    pub(super) fn gathers(&mut self, to: usize) -> bool {
        self.remote(to)
            .is_some_and(|remote| remote.burst.more(&System, remote.outbox.pending()))
    }

    /// Somebody asks after `request`: if its message was gathered it leaves now, with all others that were.
    pub(in super::super) fn let_go(&mut self, request: RequestId) -> Result<()> {
        if request == RequestId::GATHERED && !self.is_let_go() {
            self.write_remotes(false)?;
        }
        Ok(())
    }

    /// Whether nothing at all is gathered.
    #[inline]
    pub(in super::super) fn is_let_go(&self) -> bool {
        self.net.as_ref().is_none_or(|net| net.writing.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// So many microseconds after the start; it ticks every 4 ms, and counts how often it is asked for the exact time.
    struct Simulated {
        start: Instant,
        at: Cell<u64>,
        looks: Cell<u32>,
    }

    impl Clock for Simulated {
        fn now(&self) -> Instant {
            self.looks.set(self.looks.get() + 1);
            self.start + Duration::from_micros(self.at.get())
        }
        fn tick(&self) -> Duration {
            Duration::from_micros(self.at.get() / 4000 * 4000)
        }
    }

    fn simulated() -> Simulated {
        Simulated {
            start: Instant::now(),
            at: Cell::new(0),
            looks: Cell::new(0),
        }
    }

    /// Which messages, sent at these microseconds, wait for others.
    fn waiting(
        burst: &mut Burst,
        clock: &Simulated,
        at: impl IntoIterator<Item = u64>,
    ) -> Vec<bool> {
        let sent = at.into_iter().map(|at| {
            clock.at.set(at);
            burst.more(clock, 40)
        });
        sent.collect()
    }

    #[test]
    fn a_lone_message_and_the_first_ones_never_wait() {
        let (mut burst, clock) = (Burst::default(), simulated());
        assert_eq!(
            waiting(&mut burst, &clock, 0..6),
            [false, false, false, false, true, true]
        );
        // Each a while after the one before.
        assert!(!waiting(&mut burst, &clock, (1..9).map(|n| n * 1000)).contains(&true));
    }

    #[test]
    fn none_waits_for_long() {
        let (mut burst, clock) = (Burst::default(), simulated());
        let waited = waiting(&mut burst, &clock, (0..40).map(|n| n * 15));
        let longest = waited.split(|waits| !waits).map(<[bool]>::len).max();
        assert_eq!(longest, Some(4), "{waited:?}");
    }

    #[test]
    fn who_sends_many_at_once_is_expected_to_do_so_again() {
        let (mut burst, clock) = (Burst::default(), simulated());
        waiting(&mut burst, &clock, 0..64);
        burst.end();
        assert_eq!(waiting(&mut burst, &clock, 100..103), [false, true, true]);
        burst.end();
        // Three are few again.
        assert_eq!(waiting(&mut burst, &clock, 200..203), [false; 3]);
        assert!(!burst.more(&clock, ENOUGH), "what is enough leaves");
    }

    #[test]
    fn the_first_one_waits_where_many_came_twice_and_never_twice_in_vain() {
        let (mut burst, clock) = (Burst::default(), simulated());
        for (at, first) in [(0, false), (100, false), (200, true), (300, true)] {
            assert_eq!(waiting(&mut burst, &clock, at..at + 30)[0], first);
            burst.end();
        }
        // Alone this time: the next ones leave at once.
        assert_eq!(waiting(&mut burst, &clock, [1000]), [true]);
        assert_eq!(waiting(&mut burst, &clock, [2000]), [false]);
        burst.end();
        assert_eq!(waiting(&mut burst, &clock, 3000..3003), [false; 3]);
    }

    #[test]
    fn long_bursts_look_at_the_clock_seldom_and_at_each_tick() {
        let (mut burst, clock) = (Burst::default(), simulated());
        for window in 0..4 {
            clock.looks.set(0);
            // Five messages a microsecond.
            waiting(&mut burst, &clock, (0..64).map(|n| window * 100 + n / 5));
            burst.end();
        }
        assert!(clock.looks.get() <= 10, "{} looks", clock.looks.get());
        // It slows down: with the next tick nothing waits any longer.
        let slow = [1, 1, 1, 1100, 2100, 3100, 4100, 5100];
        assert_eq!(
            waiting(&mut burst, &clock, slow.map(|at| 4000 + at)),
            [true, true, true, true, true, true, false, false]
        );
    }
}
