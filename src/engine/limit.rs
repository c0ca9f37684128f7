//! How long a call may wait.
use super::Peer;
use crate::model::{Error, ErrorClass};
use core::time::Duration;
use std::time::Instant;

/// A call's time limit, which runs from when this was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    length: Duration,
    /// `None`: later than the clock can say.
    until: Option<Instant>,
}

impl Limit {
    pub(crate) fn of(length: Duration) -> Limit {
        Limit {
            length,
            until: Instant::now().checked_add(length),
        }
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// What is left of `most`, if the limit comes first.
    pub(super) fn at_most(&self, most: Duration) -> Duration {
        match self.until {
            Some(until) => most.min(until.saturating_duration_since(Instant::now())),
            None => most,
        }
    }

    /// The error of a wait that lasted so long.
    pub(super) fn ran_out(&self) -> Option<Error> {
        let over = self.until.is_some_and(|until| Instant::now() >= until);
        over.then(|| {
            let text = format!("the time limit of {:?} ran out", self.length);
            Error::new(ErrorClass::TimeLimit, text)
        })
    }

    /// The error of a call that got no message.
    pub(super) fn no_message(&self, from: Peer, tag: Option<i32>) -> Error {
        let from = match from {
            Peer::Rank(rank) => format!("rank {rank}"),
            _ => "any rank".to_string(),
        };
        let tag = tag.map_or_else(|| "any tag".to_string(), |tag| format!("tag {tag}"));
        let text = format!(
            "no message from {from} with {tag} came within {:?}; one that comes later can be received by a later call",
            self.length
        );
        Error::new(ErrorClass::TimeLimit, text)
    }
}

/// Whether the error says that a time limit ran out.
pub(crate) fn is_late(error: &Error) -> bool {
    error.class() == ErrorClass::TimeLimit
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::tests::{here, into, out, pattern, ranks_with};
    use super::*;
    use crate::engine::{SendMode, Settings, ThreadLevel};
    use crate::wait::WaitMode;

    /// Receives are taken back while their messages are on their way, in every phase: none is lost, none comes twice, and (asserted at
    /// finalize) nothing is left behind.
    #[test]
    fn no_message_is_lost_to_a_receive_that_is_taken_back() {
        const SIZES: [usize; 5] = [1, 40, 3000, 20_000, 500_000];
        let rounds = if cfg!(miri) { 2 } else { 60 };
        for level in [ThreadLevel::Single, ThreadLevel::Multiple] {
            for wait in [WaitMode::Auto, WaitMode::Yield] {
                let settings = Settings {
                    wait,
                    ..Settings::new(level)
                };
                ranks_with(2, settings, |engine, world| {
                    let mut late = 0;
                    for round in 0..rounds {
                        let len = SIZES[round % SIZES.len()];
                        let data = pattern(len, round as i32);
                        if engine.rank() == 0 {
                            std::thread::sleep(Duration::from_micros(37 * (round as u64 % 13)));
                            let (to, mode) = (Peer::Rank(1), SendMode::Standard);
                            engine
                                .send(world, to, 5, &out(&data), mode, here())
                                .unwrap();
                            continue;
                        }
                        let mut got = vec![0; len];
                        let from = [Peer::Rank(0), Peer::Any][round % 2];
                        for micros in (0..).map(|attempt| 1 + attempt * 7 % 200) {
                            let limit = Limit::of(Duration::from_micros(micros));
                            let span = into(&mut got);
                            let received =
                                engine.receive_within(limit, world, from, Some(5), &span, here());
                            match received {
                                Ok(status) => {
                                    assert_eq!(status.bytes, 4 * len as u64);
                                    break;
                                }
                                Err(error) => assert!(is_late(&error), "{error}"),
                            }
                            late += 1;
                        }
                        assert!(got == data, "round {round}");
                    }
                    assert!(engine.rank() == 0 || late > 0, "no receive was taken back");
                });
            }
        }
    }

    #[test]
    fn the_clock_has_an_end() {
        let limit = Limit::of(Duration::MAX);
        assert!(limit.ran_out().is_none());
        assert_eq!(limit.at_most(Duration::from_secs(1)).as_secs(), 1);
        let limit = Limit::of(Duration::ZERO);
        assert!(limit.ran_out().is_some());
        assert_eq!(limit.at_most(Duration::from_secs(1)), Duration::ZERO);
    }
}
