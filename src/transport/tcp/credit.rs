//! How much a receiver lets each sender send before it is matched. README.md has the numbers.
#![forbid(unsafe_code)]

/// Bytes of unmatched messages that every sender may have here: as many as the kernel keeps of one connection on a long path.
pub(crate) const CREDIT: u64 = 4 * 1024 * 1024;
/// The least and the most of a sender behind a long path.
pub(crate) const FAR: u64 = 16 * 1024 * 1024;
const FAR_MOST: u64 = 64 * 1024 * 1024;
/// All that is given to senders behind long paths beyond [`CREDIT`], together.
pub(crate) const POOL: u64 = 256 * 1024 * 1024;
/// A sender is told of so many bytes at the latest.
const NEWS: u64 = 2 * 1024 * 1024;

/// What one sender behind a long path should have, one of `far` such: twice what the kernel now keeps of its connection, `kept` bytes.
pub(crate) fn for_far(kept: usize, far: usize) -> u64 {
    let share = (POOL / far.max(1) as u64).max(CREDIT);
    (2 * kept as u64).clamp(FAR, FAR_MOST).min(share)
}

/// The credit of one sender, as its receiver keeps account of it. Sums count bytes from the beginning.
#[derive(Debug)]
pub(crate) struct Given {
    /// What has been matched.
    matched: u64,
    /// What has come that costs credit.
    taken: u64,
    /// What the sender was told that it may send.
    allowed: u64,
    /// How much may lie here unmatched, as it was when the sender was last told.
    window: u64,
    /// How much of the pool it may be using.
    booked: u64,
}

impl Given {
    pub(crate) fn new(window: u64) -> Given {
        Given {
            matched: 0,
            taken: 0,
            allowed: window,
            window,
            booked: 0,
        }
    }

    /// So many bytes have come. Whether the sender may have sent them.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        self.taken = self.taken.saturating_add(bytes);
        self.taken <= self.allowed
    }

    /// So many bytes have been matched.
    pub(crate) fn matched(&mut self, bytes: u64) {
        self.matched += bytes;
    }

    /// So many bytes were said to have been matched since the sender was last told, and were not.
    pub(crate) fn put_back(&mut self, bytes: u64) {
        self.matched -= bytes;
    }

    /// Whether the sender could be allowed `least` bytes more; `None`: as many as it is always told of.
    pub(crate) fn is_due(&self, least: Option<u64>) -> bool {
        let least = least.unwrap_or((self.window / 4).min(NEWS));
        self.matched + self.window >= self.allowed + least
    }

    /// What to tell the sender that it may send. `window` may lie here unmatched, as far as `pool` has what exceeds [`CREDIT`].
    pub(crate) fn tell(&mut self, window: u64, pool: &mut u64) -> u64 {
        self.window = window.min(CREDIT + self.booked + *pool);
        // What was allowed is not taken back.
        self.allowed = self.allowed.max(self.matched + self.window);
        let booked = (self.allowed - self.matched).saturating_sub(CREDIT);
        // Never below zero: what is allowed beyond the window was booked before, and has only become less.
        *pool = *pool + self.booked - booked;
        self.booked = booked;
        self.allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever senders do, and whoever is matched when: all that lies unmatched is within the pool and everybody's own credit, and nobody waits for ever.
        #[test]
        fn the_pool_bounds_what_all_senders_have_here(
            steps in proptest::collection::vec((0_usize..6, 0_u8..3, 0_u64..(80 << 20)), 1..200),
        ) {
            let mut pool = POOL;
            let mut given: Vec<Given> = (0..6).map(|_| Given::new(CREDIT)).collect();
            for (who, what, bytes) in steps {
                let one = &mut given[who];
                match what {
                    0 => {
                        // As much of it as the sender may.
                        let bytes = bytes.min(one.allowed - one.taken);
                        prop_assert!(one.take(bytes));
                    }
                    1 => one.matched(bytes.min(one.taken - one.matched)),
                    _ => {
                        let before = one.allowed;
                        let told = one.tell(for_far(bytes as usize, 1 + who * 20), &mut pool);
                        prop_assert!(told >= before && told == one.allowed);
                    }
                }
                for one in &given {
                    prop_assert!(one.taken - one.matched <= CREDIT + one.booked);
                }
                let booked: u64 = given.iter().map(|one| one.booked).sum();
                prop_assert_eq!(pool + booked, POOL);
            }
            // When all is matched each may send what everybody may, at least.
            for one in &mut given {
                one.matched(one.taken - one.matched);
                one.tell(CREDIT, &mut pool);
                prop_assert!(one.allowed >= one.taken + CREDIT);
            }
        }
    }

    #[test]
    fn more_than_was_allowed_is_noticed() {
        let mut one = Given::new(CREDIT);
        assert!(one.take(CREDIT));
        assert!(!one.take(1));
        assert!(!one.take(u64::MAX));
    }

    #[test]
    fn many_far_senders_share() {
        assert_eq!(for_far(128 << 10, 1), FAR);
        assert_eq!(for_far(12 << 20, 2), 24 << 20);
        assert_eq!(for_far(1 << 30, 3), FAR_MOST);
        assert_eq!(for_far(1 << 30, 32), 8 << 20);
        assert_eq!(for_far(1 << 30, 10_000), CREDIT);
    }
}
