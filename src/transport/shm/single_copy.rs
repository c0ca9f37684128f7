//! Large messages by one system call of the receiver, where that is allowed and faster than the staging stream.
//!
//! On the machines measured it is four times slower (the kernel pins the pages of a guest one by one), so it has to win a measurement. A
//! refusal is never an error: the message then goes through a stream.
use crate::sys::cma;
use std::time::Duration;

/// What the user asked for (`TERCIO_SINGLE_COPY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SingleCopyMode {
    /// Where it is allowed and measured to be faster.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Wherever it is allowed.
    Force,
}

impl SingleCopyMode {
    /// The mode called `text`.
    pub(crate) fn parse(text: &str) -> Option<SingleCopyMode> {
        match text {
            "auto" => Some(SingleCopyMode::Auto),
            "off" => Some(SingleCopyMode::Off),
            "force" => Some(SingleCopyMode::Force),
            _ => None,
        }
    }
}

/// What is known about reading one peer's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairState {
    /// Not enough messages yet.
    Unknown,
    /// Allowed, and not slower.
    Allowed,
    /// The system refused it.
    Refused,
    /// Allowed, but streams are faster.
    Slower,
}

/// The system refused a read; the message must come another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// Messages shorter than this go through the stream and measure nothing: the call alone costs more than copying them twice.
const AT_LEAST: usize = 64 * 1024;
/// Messages by each way before one is chosen. The better of each counts, since a sender that comes late is no fault of the way.
const TRIALS: u32 = 3;
/// Messages by single copy after which the ways are compared again: cores move, and staging is far faster between near ones.
const COMPARED_EVERY: u32 = 256;

/// The best time by one way, and from how many messages.
#[derive(Clone, Copy)]
struct Trials {
    count: u32,
    /// Picoseconds a byte.
    best: u64,
}

impl Trials {
    const NONE: Trials = Trials {
        count: 0,
        best: u64::MAX,
    };

    fn add(&mut self, len: usize, took: Duration) {
        let rate = (took.as_nanos() as u64).saturating_mul(1000) / len.max(1) as u64;
        self.best = self.best.min(rate);
        self.count += 1;
    }
}

#[derive(Clone, Copy)]
struct Pair {
    state: PairState,
    copied: Trials,
    streamed: Trials,
}

impl Pair {
    const NEW: Pair = Pair {
        state: PairState::Unknown,
        copied: Trials::NONE,
        streamed: Trials::NONE,
    };
}

/// The receiver's choice between single copy and stream, for each sender.
pub(crate) struct SingleCopy {
    mode: SingleCopyMode,
    pairs: Vec<Pair>,
}

impl SingleCopy {
    /// The choice of a rank among `ranks` local ones.
    pub(crate) fn new(mode: SingleCopyMode, ranks: usize) -> SingleCopy {
        SingleCopy {
            mode,
            pairs: vec![Pair::NEW; ranks],
        }
    }

    /// What the user asked for.
    pub(crate) fn mode(&self) -> SingleCopyMode {
        self.mode
    }

    /// What is known about `peer`.
    pub(crate) fn state(&self, peer: usize) -> PairState {
        self.pairs[peer].state
    }

    /// Whether [`SingleCopy::streamed`] wants to know about messages from `peer`.
    pub(crate) fn is_measuring(&self, peer: usize) -> bool {
        self.mode == SingleCopyMode::Auto && self.pairs[peer].state == PairState::Unknown
    }

    /// Reads the `len` bytes at `remote` of `peer`, which is process `pid`.
    ///
    /// # Safety
    /// `local` is valid for writing `len` bytes, and nobody else uses them meanwhile.
    pub(crate) unsafe fn read(
        &mut self,
        peer: usize,
        pid: i32,
        remote: u64,
        local: *mut u8,
        len: usize,
    ) -> Result<(), Refused> {
        let began = std::time::Instant::now();
        // pid 0 would be ourselves: a peer that has not claimed its rank has no process to read from.
        // SAFETY: the caller's promise.
        if pid <= 0 || unsafe { cma::read(pid, remote, local, len) }.is_err() {
            self.pairs[peer].state = PairState::Refused;
            return Err(Refused);
        }
        let pair = &mut self.pairs[peer];
        if self.mode == SingleCopyMode::Auto && pair.state == PairState::Allowed {
            pair.copied.count += 1;
            if pair.copied.count >= COMPARED_EVERY {
                *pair = Pair::NEW;
            }
        } else if self.is_measuring(peer) && len >= AT_LEAST {
            self.pairs[peer].copied.add(len, began.elapsed());
            self.decide(peer);
        } else if self.mode == SingleCopyMode::Force {
            self.pairs[peer].state = PairState::Allowed;
        }
        Ok(())
    }

    /// A message of `len` bytes from `peer` came through a stream within `took`, from its match to its last byte.
    pub(crate) fn streamed(&mut self, peer: usize, len: usize, took: Duration) {
        // Before the first trial of the other way the streams are not warm.
        if self.is_measuring(peer) && len >= AT_LEAST && self.pairs[peer].copied.count > 0 {
            self.pairs[peer].streamed.add(len, took);
            self.decide(peer);
        }
    }

    fn decide(&mut self, peer: usize) {
        let pair = &mut self.pairs[peer];
        if pair.copied.count >= TRIALS && pair.streamed.count >= TRIALS {
            // The sender does nothing meanwhile, so a narrow win is none.
            pair.state = if pair.copied.best < pair.streamed.best / 5 * 4 {
                PairState::Allowed
            } else {
                PairState::Slower
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 1 << 20;

    #[test]
    fn automatic_choice_takes_what_was_faster() {
        // Miri has no such system call.
        if cfg!(miri) {
            return;
        }
        for (stream, expected) in [
            (Duration::from_secs(9), PairState::Allowed),
            (Duration::from_nanos(1), PairState::Slower),
        ] {
            let mut choice = SingleCopy::new(SingleCopyMode::Auto, 2);
            let (source, mut target) = (vec![1_u8; LEN], vec![0_u8; LEN]);
            let pid = std::process::id() as i32;
            for _ in 0..TRIALS {
                // SAFETY: `target` has LEN bytes.
                let read = unsafe {
                    choice.read(1, pid, source.as_ptr() as u64, target.as_mut_ptr(), LEN)
                };
                if read.is_err() {
                    // Forbidden here (a sandbox): then never asked for again.
                    assert_eq!(choice.state(1), PairState::Refused);
                    return;
                }
                choice.streamed(1, 100, Duration::ZERO);
                choice.streamed(1, LEN, stream);
            }
            assert_eq!(source, target);
            assert_eq!(choice.state(1), expected);
            for _ in TRIALS..COMPARED_EVERY {
                // SAFETY: as above.
                unsafe { choice.read(1, pid, source.as_ptr() as u64, target.as_mut_ptr(), LEN) }
                    .unwrap();
            }
            let compares_again = expected == PairState::Allowed;
            assert_eq!(choice.is_measuring(1), compares_again);
        }
    }

    #[test]
    fn a_refusal_is_remembered() {
        let mut choice = SingleCopy::new(SingleCopyMode::Force, 1);
        assert_eq!(choice.state(0), PairState::Unknown);
        let mut byte = 0_u8;
        // SAFETY: one byte.
        assert_eq!(unsafe { choice.read(0, 0, 1, &mut byte, 1) }, Err(Refused));
        assert_eq!(choice.state(0), PairState::Refused);
    }
}
