//! How far away a receiver's core is, by what a look at its credit line takes: that line comes from the receiver's core whenever it has written there.
//! Virtual processors move while a job runs, so the sender looks again now and then. Pure: it is told times, and decides.
#![forbid(unsafe_code)]
use super::way::Distance;
use std::time::Duration;

/// A look in so many calls, each of which sends a message of middle size or says that short ones may go: it costs the clock and one line, 100 ns.
const EVERY: u8 = 16;
/// So many looks in a row must say the same: one may have been a preemption, or found the line on its way.
const AGREE: u8 = 3;
/// Zen 4, with the clock's 20 to 30 ns in it: near 40 to 50 ns, far 130; what is in this core's cache anyway 20 to 30.
const NEAR: Duration = Duration::from_nanos(85);

/// What a sender knows of one receiver.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nearness {
    distance: Option<Distance>,
    /// What the last looks said, and how many in a row.
    seen: Option<Distance>,
    times: u8,
    messages: u8,
}

impl Nearness {
    /// Something goes there: whether it is time for a look. Until the distance is known it always is.
    #[inline]
    pub(crate) fn is_due(&mut self) -> bool {
        self.messages = self.messages.saturating_add(1);
        self.messages >= EVERY || self.distance.is_none()
    }

    /// The receiver had written nothing since the last look: the next one is a few messages later, for the clock costs as much as a short message.
    pub(crate) fn saw_nothing(&mut self) {
        self.messages = self.messages.min(EVERY - EVERY / 4);
    }

    /// A line that the receiver had written took this long to come.
    pub(crate) fn saw(&mut self, time: Duration) {
        self.messages = 0;
        let now = Some(if time < NEAR {
            Distance::Near
        } else {
            Distance::Far
        });
        self.times = if now == self.seen {
            self.times.saturating_add(1)
        } else {
            1
        };
        self.seen = now;
        if self.times >= AGREE {
            self.distance = now;
        }
    }

    /// `None`: not known yet.
    #[inline]
    pub(crate) fn distance(&self) -> Option<Distance> {
        self.distance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_looks_must_agree() {
        let mut nearness = Nearness::default();
        let look = |nearness: &mut Nearness, time| {
            let early = (1..EVERY).filter(|_| nearness.is_due()).count();
            let known = nearness.distance().is_some();
            assert_eq!(early, if known { 0 } else { EVERY as usize - 1 });
            // It stays due until a look finds the line written, once the distance is known with a few messages between two.
            assert!(nearness.is_due() && nearness.is_due());
            nearness.saw_nothing();
            let between = (0..EVERY).take_while(|_| !nearness.is_due()).count();
            assert_eq!(between, if known { EVERY as usize / 4 - 1 } else { 0 });
            nearness.saw(Duration::from_nanos(time));
            nearness.distance()
        };
        for time in [40, 130, 50, 40] {
            assert_eq!(look(&mut nearness, time), None);
        }
        assert_eq!(look(&mut nearness, 30), Some(Distance::Near));
        assert_eq!(look(&mut nearness, 4_000_000), Some(Distance::Near));
        assert_eq!(look(&mut nearness, 130), Some(Distance::Near));
        assert_eq!(look(&mut nearness, 140), Some(Distance::Far));
        for _ in 1..AGREE {
            assert_eq!(look(&mut nearness, 40), Some(Distance::Far));
        }
        assert_eq!(look(&mut nearness, 40), Some(Distance::Near));
    }
}
