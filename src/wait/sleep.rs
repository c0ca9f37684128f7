//! The sleep word: how a rank goes to sleep and how it is woken. README.md has the proof; loom runs this very code.
//!
//! The word is an epoch whose lowest bit is set while the rank sleeps or is about to. It moves in three ways: *announce* sets
//! the bit, *wake* clears it by adding 1 (which is the next epoch) and wakes the sleeper, and *retract* is the sleeper's own next epoch.
use super::word::SleepWord;
use core::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};

/// Sleeps until somebody wakes the word's rank or `look` sees news. `wait` waits on the ticket, as long as it likes, and says whether to sleep on;
/// there is a look before each. `count` is told when this call turns the word: `false` to asleep, `true` to awake.
pub(super) fn sleep<W: SleepWord>(
    word: &W,
    look: &mut impl FnMut() -> bool,
    mut wait: impl FnMut(u32) -> bool,
    count: impl Fn(bool),
) {
    let ticket = announce(word);
    count(false);
    // SeqCst: pairs with the fence before `wake`. Either the waker's load comes after our announcement, or our look after its store.
    W::fence();
    while !look() {
        let sleeps_on = wait(ticket);
        // Acquire: pairs with the Release of the wake, so that the caller's next poll sees what came before it.
        if word.load(core::sync::atomic::Ordering::Acquire) != ticket {
            return;
        }
        if !sleeps_on {
            break;
        }
    }
    // Nobody else sleeps on this ticket: there is no one to wake. Who comes second leaves it to the first.
    if move_on(word, ticket) {
        count(true);
    }
}

/// Sets the low bit; returns the value to sleep on.
fn announce<W: SleepWord>(word: &W) -> u32 {
    let mut seen = word.load(Relaxed);
    // At once: beside the one thread that sleeps here only wakes move the word, and those from odd values.
    loop {
        match word.compare_exchange(seen, seen | 1, SeqCst) {
            Ok(_) => return seen | 1,
            Err(now) => seen = now,
        }
    }
}

/// Wakes the word's rank if it is seen asleep; tells whether it did. Certain only after a SeqCst fence.
#[inline(always)]
pub(super) fn wake<W: SleepWord>(word: &W) -> bool {
    let seen = word.load(Relaxed);
    seen & 1 == 1 && wake_seen(word, seen)
}

/// Wakes who sleeps on this ticket; tells whether it was this call that moved the word on.
#[cold]
fn wake_seen<W: SleepWord>(word: &W, ticket: u32) -> bool {
    let moved = move_on(word, ticket);
    if moved {
        word.wake_all();
    }
    moved
}

/// Moves the word on from `ticket`; `false`: somebody else has.
fn move_on<W: SleepWord>(word: &W, ticket: u32) -> bool {
    let next = ticket.wrapping_add(1);
    word.compare_exchange(ticket, next, AcqRel).is_ok()
}
