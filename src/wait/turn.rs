//! Whose turn it is to poll, among the threads of one rank (`Threading::Multiple`). README.md has the proof; loom runs this very code.
use super::word::{Private, SleepWord};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::time::Duration;

/// One thread at a time holds the turn and polls for all; the others follow: they sleep until there is news.
///
/// A thread that waits does, over and over: [`Turn::epoch`]; look whether its request is complete; [`Turn::try_take`] and poll, or else
/// [`Turn::follow`] that epoch.
#[derive(Default)]
pub(crate) struct Turn<W = Private> {
    taken: W,
    /// Counts news: something was completed for another thread, or the turn was given up.
    epoch: W,
    followers: W,
}

/// The turn. Dropping it hands it on.
pub(crate) struct TurnGuard<'t, W: SleepWord = Private> {
    turn: &'t Turn<W>,
}

impl<W: SleepWord> Turn<W> {
    #[cfg(all(test, loom))]
    pub(super) fn over(taken: W, epoch: W, followers: W) -> Turn<W> {
        Turn {
            taken,
            epoch,
            followers,
        }
    }

    /// Takes the turn unless another thread has it.
    #[inline]
    pub(crate) fn try_take(&self) -> Option<TurnGuard<'_, W>> {
        // Acquire: pairs with the Release when the guard is dropped; the state that the turn protects passes from thread to thread.
        match self.taken.compare_exchange(0, 1, Acquire) {
            Ok(_) => Some(TurnGuard { turn: self }),
            Err(_) => None,
        }
    }

    /// The epoch to follow. Read it *before* looking whether there is still reason to wait.
    #[inline]
    pub(crate) fn epoch(&self) -> u32 {
        // Acquire: pairs with the Release in `news`, so that the look that follows sees what the news was about.
        self.epoch.load(Acquire)
    }

    /// Sleeps until there is news after `epoch`, at most `limit`. May return early.
    pub(crate) fn follow(&self, epoch: u32, limit: Option<Duration>) {
        self.followers.fetch_add(1, Relaxed);
        // SeqCst: pairs with the fence in `news`. Either it counts us and wakes us, or we see its epoch and do not sleep.
        W::fence();
        self.epoch.wait(epoch, limit);
        self.followers.fetch_sub(1, Relaxed);
    }

    /// Tells the followers to look again. After completing something for another thread; dropping the turn does it too.
    pub(crate) fn news(&self) {
        // Release: pairs with the Acquire in `epoch`.
        self.epoch.fetch_add(1, Release);
        // SeqCst: pairs with the fence in `follow`.
        W::fence();
        if self.followers.load(Relaxed) > 0 {
            self.epoch.wake_all();
        }
    }
}

impl<W: SleepWord> Drop for TurnGuard<'_, W> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `try_take`.
        self.turn.taken.fetch_sub(1, Release);
        // Only then the news: a follower that is woken by it finds the turn free.
        self.turn.news();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Each thread waits for a number that only some poller of the moment produces.
    #[test]
    fn some_thread_always_polls() {
        const THREADS: u32 = 4;
        let rounds = if cfg!(miri) { 20 } else { 3000 };
        let turn: Turn = Turn::default();
        let done: [AtomicU32; THREADS as usize] = Default::default();
        let next = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for me in 0..THREADS {
                let (turn, done, next) = (&turn, &done, &next);
                scope.spawn(move || {
                    for round in 1..=rounds {
                        loop {
                            let epoch = turn.epoch();
                            if done[me as usize].load(Ordering::Acquire) >= round {
                                break;
                            }
                            let Some(guard) = turn.try_take() else {
                                turn.follow(epoch, None);
                                continue;
                            };
                            // One completion a poll, for the threads in turn.
                            let n = next.load(Ordering::Relaxed);
                            next.store(n + 1, Ordering::Relaxed);
                            done[(n % THREADS) as usize].fetch_add(1, Ordering::Release);
                            if n % THREADS != me {
                                turn.news();
                            }
                            drop(guard);
                        }
                    }
                });
            }
        });
    }
}
