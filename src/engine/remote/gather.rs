//! When a short message to a rank of another host waits for company, so that many leave in one system call. README.md of the engine has the rules.
use super::super::RequestId;
use super::super::state::State;
use crate::model::error::Result;
use std::time::{Duration, Instant};

/// Sends that follow each other within this are one burst. A system call that sends is 1-2 µs on loopback, a message that is gathered 0.1.
const SOON: Duration = Duration::from_micros(20);
/// Bursts up to this long are written message by message: whoever sends so few may then compute, and nothing would write the last ones meanwhile.
const FEW: u32 = 4;
/// Who has sent so many at once, twice in a row, does so once more: then the first one waits too, for a window costs two system calls otherwise.
const MANY: u32 = 16;
/// No message waits longer than this for the next one, however long the burst.
const HELD: Duration = Duration::from_micros(50);
/// So many bytes leave without waiting for more: the receiver should have something to do.
const ENOUGH: usize = 32 * 1024;

/// The sends to one rank that follow each other without anything between.
#[derive(Default)]
pub(super) struct Burst {
    last: Option<Instant>,
    /// When the first of those was sent that wait.
    held: Option<Instant>,
    messages: u32,
    /// How long the burst before was, and the one before that.
    before: [u32; 2],
}

impl Burst {
    /// One more message is sent `now`; `pending` bytes are not written. Whether it may wait for others.
    fn more(&mut self, now: Instant, pending: usize) -> bool {
        if self.last.is_none_or(|last| now - last > SOON) {
            self.end();
        }
        self.last = Some(now);
        self.messages += 1;
        let long = match self.messages {
            1 => self.before.iter().all(|burst| *burst >= MANY),
            messages => messages > FEW || self.before[0] > FEW,
        };
        let in_time = self.held.is_none_or(|since| now - since <= HELD);
        let waits = long && in_time && pending < ENOUGH;
        self.held = waits.then(|| self.held.unwrap_or(now));
        waits
    }

    /// All that was sent has been written, and something else is done.
    pub(super) fn end(&mut self) {
        if self.messages > 0 {
            self.before = [self.messages, self.before[0]];
            self.messages = 0;
            self.held = None;
        }
    }
}

impl State {
    /// Whether the message to `to` that was just put into the outbox may stay there for a moment.
    pub(super) fn gathers(&mut self, to: usize) -> bool {
        self.remote(to)
            .is_some_and(|remote| remote.burst.more(Instant::now(), remote.outbox.pending()))
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

    /// Which messages, sent at these microseconds, wait for others.
    fn waiting(burst: &mut Burst, from: Instant, at: impl IntoIterator<Item = u64>) -> Vec<bool> {
        at.into_iter()
            .map(|at| burst.more(from + Duration::from_micros(at), 40))
            .collect()
    }

    #[test]
    fn a_lone_message_and_the_first_ones_never_wait() {
        let (mut burst, start) = (Burst::default(), Instant::now());
        assert_eq!(
            waiting(&mut burst, start, 0..6),
            [false, false, false, false, true, true]
        );
        // Each a while after the one before.
        assert!(!waiting(&mut burst, start, (1..9).map(|n| n * 1000)).contains(&true));
    }

    #[test]
    fn none_waits_for_long() {
        let (mut burst, start) = (Burst::default(), Instant::now());
        let waited = waiting(&mut burst, start, (0..40).map(|n| n * 15));
        let longest = waited.split(|waits| !waits).map(<[bool]>::len).max();
        assert_eq!(longest, Some(4), "{waited:?}");
    }

    #[test]
    fn who_sends_many_at_once_is_expected_to_do_so_again() {
        let (mut burst, start) = (Burst::default(), Instant::now());
        waiting(&mut burst, start, 0..64);
        burst.end();
        assert_eq!(waiting(&mut burst, start, 100..103), [false, true, true]);
        burst.end();
        // Three are few again.
        assert_eq!(waiting(&mut burst, start, 200..203), [false; 3]);
        assert!(!burst.more(start, ENOUGH), "what is enough leaves");
    }

    #[test]
    fn the_first_one_waits_where_many_came_twice_and_never_twice_in_vain() {
        let (mut burst, start) = (Burst::default(), Instant::now());
        for (at, first) in [(0, false), (100, false), (200, true), (300, true)] {
            assert_eq!(waiting(&mut burst, start, at..at + 30)[0], first);
            burst.end();
        }
        // Alone this time: the next ones leave at once.
        assert_eq!(waiting(&mut burst, start, [1000]), [true]);
        assert_eq!(waiting(&mut burst, start, [2000]), [false]);
        burst.end();
        assert_eq!(waiting(&mut burst, start, 3000..3003), [false; 3]);
    }
}
