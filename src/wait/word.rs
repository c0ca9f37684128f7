//! A 32-bit word on which threads sleep, as the protocols see it: a futex, or a loom model of one.
use crate::sys::futex;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

/// An atomic word with a futex's two calls.
pub(crate) trait SleepWord {
    fn load(&self, order: Ordering) -> u32;
    fn compare_exchange(&self, from: u32, to: u32, success: Ordering) -> Result<u32, u32>;
    fn fetch_add(&self, by: u32, order: Ordering) -> u32;
    fn fetch_sub(&self, by: u32, order: Ordering) -> u32;
    /// Sleeps while the word holds `expected`, at most `limit`; may return at any time.
    fn wait(&self, expected: u32, limit: Option<Duration>);
    /// Wakes all that sleep on the word.
    fn wake_all(&self);
    /// A SeqCst fence.
    fn fence();
}

macro_rules! futex_word {
    ($of:ty, $word:expr, $wait:path, $wake:path) => {
        impl SleepWord for $of {
            #[inline]
            fn load(&self, order: Ordering) -> u32 {
                $word(self).load(order)
            }

            fn compare_exchange(&self, from: u32, to: u32, success: Ordering) -> Result<u32, u32> {
                $word(self).compare_exchange(from, to, success, Ordering::Relaxed)
            }

            fn fetch_add(&self, by: u32, order: Ordering) -> u32 {
                $word(self).fetch_add(by, order)
            }

            fn fetch_sub(&self, by: u32, order: Ordering) -> u32 {
                $word(self).fetch_sub(by, order)
            }

            fn wait(&self, expected: u32, limit: Option<Duration>) {
                $wait($word(self), expected, limit);
            }

            fn wake_all(&self) {
                $wake($word(self), u32::MAX);
            }

            fn fence() {
                core::sync::atomic::fence(Ordering::SeqCst);
            }
        }
    };
}

/// A word that only the threads of this process use; the kernel then need not look up what memory it lies in.
#[derive(Default)]
pub(crate) struct Private(AtomicU32);

fn shared(word: &AtomicU32) -> &AtomicU32 {
    word
}

fn private(word: &Private) -> &AtomicU32 {
    &word.0
}

futex_word!(AtomicU32, shared, futex::wait, futex::wake);
futex_word!(Private, private, futex::wait_private, futex::wake_private);
