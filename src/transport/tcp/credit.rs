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
