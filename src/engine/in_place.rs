//! Whether a payload in its sender's heap is read there, or comes through a stream after all: whichever was faster lately. README.md, "Heaps".
use std::time::Duration;

/// Bytes of a message decide over the way, too: what the sender wrote just now is dirty in its private caches if it is short. Half a round trip, near, in place and
/// through streams: 64 KiB that are written before each message 9.2 and 3.4 us, written once 1.8 and 2.7; 1 MiB written before each message 42 and 43, written once 24
/// and 35.
const CLASSES: usize = 8;

/// Before the ways are compared, and after each comparison that streams win, so many bytes, and messages, go through streams without an offer. A stream is slow until its
/// ring has grown and gone round once: one message in between says nothing (64 KiB near: 8 us, and 3 after that).
const UNOFFERED_BYTES: usize = 4 << 20;
const UNOFFERED: core::ops::RangeInclusive<usize> = 31..=512;
/// Messages that are read in place before that is believed: in the first, pages are mapped.
const TRIALS: u32 = 3;
/// While reading in place is faster, one offer in so many is followed by such a row of streamed messages: about 6 % of those of 64 KiB, which costs 3 %.
const ROW_ONE_IN: u32 = 1024;
/// While streams are faster, one offer in so many is read in place: that is one message in 128 or more. Where it is six times slower it costs 4 %.
const READ_ONE_IN: u32 = 4;
/// A sample counts as so many times what is known at the most: it may tell of something else, that this rank did not look or did not run. A few such in a row tell
/// that the cores have moved.
const AT_MOST: u64 = 2;

/// What lies in its owner's private caches costs more than its reader feels: lines must be fetched back when they are written next. Messages from
/// [`IN_PRIVATE_CACHE`] on are not there any more. So a short one is read in place only where that takes less than two thirds of the time (64 KiB near, in ps a byte: in place
/// 20 to 23 if written once and 56 if written each time; streamed 41 to 50).
const WEIGHT: [u64; 2] = [3, 2];
const IN_PRIVATE_CACHE: usize = 512 << 10;

fn class(len: usize) -> usize {
    // From 8 KiB on, in powers of four.
    (len.max(1).ilog2().saturating_sub(13) as usize / 2).min(CLASSES - 1)
}

/// What is known of messages of one class.
#[derive(Clone, Copy, Default)]
struct Account {
    offers: u32,
    /// Picoseconds a byte, lately: in place, and through streams.
    in_place: Option<u64>,
    streamed: Option<u64>,
    /// A row of streamed messages was asked for, and the next offer comes after it.
    in_row: bool,
    /// The last message was read in place, so that the next one does not say what streams take.
    cold: bool,
    /// As a sender: so many messages go through streams without an offer.
    unoffered: u16,
}

/// What a receiver does with an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    InPlace,
    /// Through a stream, but the next one may be offered again.
    Once,
    /// Through a stream, as the next ones shall come without an offer.
    Streamed,
}

/// What one rank knows of another: of reading in that one's heap, and of what that one does not want to read in this one's.
#[derive(Default)]
pub(super) struct InPlace {
    classes: [Account; CLASSES],
}

impl InPlace {
    /// The way of a message of `len` bytes that is offered in place.
    pub(super) fn take(&mut self, len: usize) -> Taken {
        let account = &mut self.classes[class(len)];
        account.offers = account.offers.wrapping_add(1);
        if account.offers <= TRIALS {
            return Taken::InPlace;
        }
        let [weight, per] = if len < IN_PRIVATE_CACHE {
            WEIGHT
        } else {
            [1, 1]
        };
        let streams_win = match (account.in_place, account.streamed) {
            (Some(here), Some(there)) => there * per < here * weight,
            _ => false,
        };
        let after_row = std::mem::take(&mut account.in_row);
        if streams_win {
            return match account.offers % READ_ONE_IN {
                0 => Taken::InPlace,
                _ => Taken::Streamed,
            };
        }
        if after_row {
            return Taken::Once;
        }
        if account.streamed.is_none() || account.offers % ROW_ONE_IN == 0 {
            account.in_row = true;
            return Taken::Streamed;
        }
        Taken::InPlace
    }

    /// A message of `len` bytes that was offered came so, within `time` of its match.
    pub(super) fn took(&mut self, len: usize, taken: Taken, time: Duration) {
        let account = &mut self.classes[class(len)];
        let sample = time.as_nanos() as u64 * 1000 / len.max(1) as u64;
        let in_place = taken == Taken::InPlace;
        let was_cold = std::mem::replace(&mut account.cold, in_place);
        let (pace, trial) = match in_place {
            true => (&mut account.in_place, account.offers <= TRIALS),
            false if was_cold => return,
            false => (&mut account.streamed, false),
        };
        *pace = match *pace {
            Some(known) if !trial => Some((known + sample.min(AT_MOST * known)) / 2),
            _ => Some(sample),
        };
    }

    /// The peer wants messages of `len` bytes through streams.
    pub(super) fn refused(&mut self, len: usize) {
        let row = (UNOFFERED_BYTES / len.max(1)).clamp(*UNOFFERED.start(), *UNOFFERED.end());
        self.classes[class(len)].unoffered = row as u16;
    }

    /// Whether to offer the peer a message of `len` bytes in place.
    pub(super) fn offers(&mut self, len: usize) -> bool {
        let left = &mut self.classes[class(len)].unoffered;
        let offers = *left == 0;
        *left = left.saturating_sub(1);
        offers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `messages` go in place, between a sender and a receiver who needs so many ns by each way for the `i`th, of which so many were streamed just before.
    fn in_place(messages: usize, len: usize, ns: impl Fn(usize, usize) -> [u64; 2]) -> usize {
        let (mut sender, mut receiver) = (InPlace::default(), InPlace::default());
        let (mut count, mut streamed) = (0, 0);
        for i in 0..messages {
            let taken = match sender.offers(len) {
                true => receiver.take(len),
                false => {
                    streamed += 1;
                    continue;
                }
            };
            let [here, there] = ns(i, streamed);
            let time = if taken == Taken::InPlace { here } else { there };
            receiver.took(len, taken, Duration::from_nanos(time));
            match taken {
                Taken::InPlace => (count, streamed) = (count + 1, 0),
                Taken::Once => streamed += 1,
                Taken::Streamed => sender.refused(len),
            }
        }
        count
    }

    #[test]
    fn the_faster_way_is_taken_and_the_other_is_not_forgotten() {
        let len = 64 << 10;
        assert!(in_place(6400, len, |_, _| [1500, 2800]) > 5800);
        for slow in [33_000, 3500] {
            let few = in_place(6400, len, |_, _| [slow, 2800]);
            assert!((10..100).contains(&few), "{few}");
        }
        assert!(in_place(6400, 1 << 20, |_, _| [25_000, 28_000]) > 5800);
        // The cores move, there and back.
        let moved = in_place(12_800, len, |i, _| {
            [if i < 6400 { 33_000 } else { 2000 }, 9000]
        });
        assert!((4500..6500).contains(&moved), "{moved}");
        let moved = in_place(12_800, len, |i, _| {
            [if i < 6400 { 2000 } else { 33_000 }, 9000]
        });
        assert!((5600..6800).contains(&moved), "{moved}");
    }

    #[test]
    fn streams_are_judged_when_they_are_warm() {
        let warming = |_: usize, streamed: usize| [3700, if streamed < 30 { 8000 } else { 2800 }];
        let few = in_place(6400, 64 << 10, warming);
        assert!(few < 100, "{few}");
    }

    #[test]
    fn first_samples_and_rare_ones_decide_nothing() {
        let slow_once = |i: usize, _: usize| match i {
            0 => [900_000, 900_000],
            n if n % 500 == 0 => [10_000_000, 10_000_000],
            _ => [25_000, 58_000],
        };
        assert!(in_place(6400, 1 << 20, slow_once) > 5800);
    }

    #[test]
    fn sizes_are_told_apart() {
        let classes = [8193, 16_385, 40_000, 65_536, 1 << 20, 4 << 20, 1 << 40].map(class);
        assert_eq!(classes, [0, 0, 1, 1, 3, 4, CLASSES - 1]);
    }
}
