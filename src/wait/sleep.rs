//! The sleep word: how a rank goes to sleep and how it is woken. README.md has the proof; loom runs this very code.
//!
//! The word is an epoch whose lowest bit is set while threads of the rank sleep or are about to. It moves in three ways: *announce* sets
//! the bit, *wake* clears it by adding 1 (which is the next epoch) and wakes all, and *retract* is a wake of oneself.
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
    let (ticket, turned) = announce(word);
    if turned {
        count(false);
    }
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
    // Other threads of the rank may sleep on the same ticket, so taking the bit back without waking them would lose their wake-ups.
    if wake_seen(word, ticket) {
        count(true);
    }
}

/// Sets the low bit; returns the value to sleep on, and whether it was this call that set it.
fn announce<W: SleepWord>(word: &W) -> (u32, bool) {
    let mut seen = word.load(Relaxed);
    // Another thread of this rank may have set it; its ticket serves both.
    while seen & 1 == 0 {
        match word.compare_exchange(seen, seen | 1, SeqCst) {
            Ok(_) => return (seen | 1, true),
            Err(now) => seen = now,
        }
    }
    (seen, false)
}

/// Wakes the word's rank if it is seen asleep; tells whether it did. Certain only after a SeqCst fence.
#[inline(always)]
pub(super) fn wake<W: SleepWord>(word: &W) -> bool {
    let seen = word.load(Relaxed);
    seen & 1 == 1 && wake_seen(word, seen)
}

/// Moves the word on from `ticket` and wakes all; who comes second leaves it to the first.
#[cold]
fn wake_seen<W: SleepWord>(word: &W, ticket: u32) -> bool {
    let turned = word
        .compare_exchange(ticket, ticket.wrapping_add(1), AcqRel)
        .is_ok();
    if turned {
        word.wake_all();
    }
    turned
}
