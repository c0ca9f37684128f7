//! Around the cache or through it: how a sender fills its staging ring. Which is faster depends on how far apart the two cores are, and that changes
//! under a running job, so it is measured on the way. Pure: it is told times, and decides.
#![forbid(unsafe_code)]
use std::time::Duration;

/// How a chunk is written into the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By non-temporal stores: as fast near as far.
    Around,
    /// By ordinary stores. Near, in a ring so long that its lines have left both private caches before they are written again, this is
    /// three times faster; far it is ten times slower.
    Through,
    /// By ordinary stores too, into lines that were asked for some stores before, and read upwards, as what went around the cache is. For processors whose cores
    /// sit around one cache: nothing else is as fast there, however long the ring is.
    Upwards,
}

/// How far away a receiver's core is, as a sender's stores tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distance {
    /// The same core, or one that shares its private caches.
    None,
    /// A core that shares a cache with this one.
    Near,
    Far,
}

/// One message of so many compares the ways: not the first ones, with cold caches.
const EVERY: u32 = 64;
const FIRST_COMPARED: u32 = 8;
/// What the sender spends on a chunk tells near from far: through takes 1.5 to 4.6 times as long as around between near cores, where the reader
/// more than makes up for it, and 7 to 16 times as long between far ones (Zen 4, 8 and 16 KiB).
const WON: f32 = 5.0;
const LOST: f32 = 6.0;
/// Where the receiver shares this core's caches, through is the faster way for the sender itself.
const SHARED: f32 = 1.0;
/// So often in a row: one slow chunk may have been a preemption.
const STRIKES: u8 = 2;

/// What a sender knows of one receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways {
    distance: Distance,
    messages: u32,
    /// Nanoseconds that a KiB took: through in the running trial, around when last measured.
    trial: f32,
    around: f32,
    strikes: u8,
}

impl Default for Ways {
    fn default() -> Ways {
        Ways {
            distance: Distance::Far,
            messages: 0,
            trial: 0.0,
            around: 0.0,
            strikes: 0,
        }
    }
}

impl Ways {
    /// A message begins.
    pub(crate) fn begin(&mut self) {
        self.messages = self.messages.wrapping_add(1);
        self.trial = f32::INFINITY;
    }

    pub(crate) fn distance(&self) -> Distance {
        self.distance
    }

    /// The receiver's core is near, as something else has shown: then the way through is the better one in a ring that is long.
    pub(crate) fn is_near(&mut self) {
        if self.distance != Distance::Near {
            (self.distance, self.strikes) = (Distance::Near, 0);
        }
    }

    /// The way for a ring of this kind. In a short one through is only for those who share a core's caches: elsewhere each line is dirty in one
    /// core when the other needs it.
    pub(crate) fn way(&self, long: bool) -> Way {
        match self.distance {
            Distance::None => Way::Through,
            Distance::Near if long => Way::Through,
            Distance::Near | Distance::Far => Way::Around,
        }
    }

    /// How to write chunk number `chunk` of the message, and whether to time that. Every so often the first chunk goes through and the
    /// second one around, and the two are compared.
    #[inline]
    pub(crate) fn of_chunk(&self, chunk: usize, long: bool) -> (Way, bool) {
        match (self.messages % EVERY, chunk) {
            (FIRST_COMPARED, 0) => (Way::Through, true),
            (FIRST_COMPARED, 1) => (Way::Around, true),
            // Cores that have moved apart are noticed within a few messages, or within one that is long.
            (message, _) if self.way(long) == Way::Through => (
                Way::Through,
                (chunk == 0 && message % 4 == 0) || chunk % 16 == 15,
            ),
            _ => (Way::Around, false),
        }
    }

    /// A timed chunk of `bytes` took `time`.
    pub(crate) fn took(&mut self, way: Way, bytes: usize, time: Duration) {
        let cost = time.as_nanos() as f32 / (bytes as f32 / 1024.0);
        match way {
            Way::Around => {
                // Once only: a preemption that made this one slow must not make the other way look fast for long.
                self.around = match self.around {
                    0.0 => cost,
                    before => cost.min(2.0 * before),
                };
                self.judge(self.trial);
            }
            Way::Through if self.messages % EVERY == FIRST_COMPARED && self.trial.is_infinite() => {
                self.trial = cost;
            }
            Way::Through => self.judge(cost),
            // Where there is nothing to choose.
            Way::Upwards => {}
        }
    }

    /// What the way through cost, beside what the way around did.
    fn judge(&mut self, through: f32) {
        let limit = match self.distance {
            Distance::Far => WON,
            Distance::None | Distance::Near => LOST,
        };
        if through <= SHARED * self.around {
            (self.distance, self.strikes) = (Distance::None, 0);
        } else if through <= limit * self.around {
            (self.distance, self.strikes) = (Distance::Near, 0);
        } else if self.distance != Distance::Far {
            self.strikes += 1;
            if self.strikes == STRIKES {
                self.distance = Distance::Far;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `messages` of eight chunks of 16 KiB between cores where a KiB takes so many nanoseconds. How many chunks went through the cache.
    fn send(ways: &mut Ways, messages: usize, around: u64, through: u64) -> usize {
        let mut count = 0;
        for _ in 0..messages {
            ways.begin();
            for chunk in 0..8 {
                let (way, timed) = ways.of_chunk(chunk, true);
                let cost = match way {
                    Way::Around => around,
                    Way::Through | Way::Upwards => through,
                };
                count += (way == Way::Through) as usize;
                if timed {
                    ways.took(way, 16 * 1024, Duration::from_nanos(16 * cost));
                }
            }
        }
        count
    }

    #[test]
    fn the_faster_way_is_found_and_left_again() {
        let mut ways = Ways::default();
        // Near.
        send(&mut ways, 8, 50, 100);
        assert_eq!(send(&mut ways, 128, 50, 30), 128 * 8 - 2);
        // Then far: a few messages find out, and from then on only the first chunk of a comparison is slow.
        assert!(send(&mut ways, 64, 50, 450) < 12 * 8);
        assert_eq!(send(&mut ways, 640, 50, 450), 10);
        // And near again.
        send(&mut ways, 64, 50, 200);
        assert!(send(&mut ways, 64, 50, 30) >= 63 * 8);
    }

    #[test]
    fn one_preemption_changes_nothing() {
        let mut ways = Ways::default();
        send(&mut ways, 8, 50, 100);
        let before = ways.distance();
        ways.took(Way::Through, 16 * 1024, Duration::from_millis(4));
        assert_eq!((before, ways.distance()), (Distance::Near, Distance::Near));
        assert!(send(&mut ways, 48, 50, 30) >= 48 * 8 - 1);
    }
}
