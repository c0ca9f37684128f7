//! Signs of life between the launcher's side and an agent on another host: when to give one, and when the other side has been silent for too
//! long. Times go in, decisions come out.
use std::time::{Duration, Instant};

/// Signs in the time of silence that is allowed.
const SIGNS: u32 = 5;

/// One side of a channel over which both give signs.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    /// A silence of this long is the end.
    limit: Duration,
    /// When the next sign is given.
    next: Instant,
    /// When the other side was last heard, later by all that we ourselves were late since then.
    heard: Instant,
    /// When we last looked.
    looked: Instant,
}

impl Pulse {
    pub(super) fn new(limit: Duration, now: Instant) -> Pulse {
        Pulse {
            limit,
            next: now,
            heard: now,
            looked: now,
        }
    }

    fn period(&self) -> Duration {
        self.limit / SIGNS
    }

    /// The other side was heard.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Whether it is time for a sign of ours. It must be called as often as [`Pulse::deadline`] says: if it is called later than that, we were kept
    /// from running (the machine is busy, this process was stopped), and the same may have kept the other side's signs from us. A silence
    /// of which we slept through a part is not held against anybody.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let late = now
            .saturating_duration_since(self.looked)
            .saturating_sub(2 * self.period());
        self.looked = now;
        self.heard += late;
        let due = now >= self.next;
        if due {
            self.next = now + self.period();
        }
        due
    }

    /// For how long the other side has been silent, once that is too long. What has come in meanwhile must have been read before.
    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        let silent = now.saturating_duration_since(self.heard);
        (silent >= self.limit).then_some(silent)
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Instant {
        self.next.min(self.heard + self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn signs_are_given_each_second_and_silence_is_seen_at_its_limit() {
        let begun = Instant::now();
        let mut pulse = Pulse::new(LIMIT, begun);
        let mut signs = 0;
        let mut now = begun;
        while pulse.silence(now).is_none() {
            signs += usize::from(pulse.look(now));
            assert!(pulse.deadline() > now);
            now = pulse.deadline();
        }
        assert_eq!((now - begun, signs), (LIMIT, 5));
        assert_eq!(pulse.silence(now), Some(LIMIT));
    }

    #[test]
    fn a_late_look_is_no_silence() {
        let begun = Instant::now();
        let mut pulse = Pulse::new(LIMIT, begun);
        pulse.look(begun);
        // Stopped for a minute: nothing was heard, and nothing could have been.
        let now = begun + Duration::from_secs(60);
        pulse.look(now);
        assert_eq!(pulse.silence(now), None);
        // From here on silence counts again.
        let mut later = now;
        while later < now + ms(3100) {
            later += ms(500);
            pulse.look(later);
        }
        assert!(pulse.silence(later).is_some());
    }

    #[test]
    fn looks_that_are_a_little_late_do_not_hide_a_silence() {
        let begun = Instant::now();
        let mut pulse = Pulse::new(LIMIT, begun);
        let mut now = begun;
        while pulse.silence(now).is_none() {
            pulse.look(now);
            now += ms(1900);
            assert!(now < begun + ms(6000));
        }
    }

    #[test]
    fn who_is_heard_is_not_silent() {
        let begun = Instant::now();
        let mut pulse = Pulse::new(LIMIT, begun);
        for second in 1..100 {
            let now = begun + Duration::from_secs(second);
            pulse.look(now);
            pulse.hear(now);
            assert_eq!(pulse.silence(now + ms(900)), None);
        }
    }
}
