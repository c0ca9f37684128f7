//! The engine's state: behind a lock at `Multiple`, behind the callers' promise below it.
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A value that one thread at a time uses.
pub(super) struct Guarded<T> {
    /// `None`: the callers promise that one thread at a time is inside.
    lock: Option<Mutex<()>>,
    /// Found out in debug builds: a second use while one is going on.
    busy: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: with a lock, access is exclusive by the lock. Without, the engine's callers let only one thread in at a time
// (below `ThreadLevel::Multiple`), with a happens-before edge from one thread's call to the next one's.
unsafe impl<T: Send> Send for Guarded<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Guarded<T> {}

pub(super) struct Guard<'a, T> {
    of: &'a Guarded<T>,
    _lock: Option<MutexGuard<'a, ()>>,
}

impl<T> Guarded<T> {
    pub(super) fn new(value: T, locked: bool) -> Guarded<T> {
        Guarded {
            lock: locked.then(|| Mutex::new(())),
            busy: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Access to the value. Must not be nested.
    #[inline(always)]
    pub(super) fn get(&self) -> Guard<'_, T> {
        let lock = self.lock.as_ref().map(take);
        debug_assert!(
            !self.busy.swap(true, Ordering::Acquire),
            "the engine's state is used twice at once"
        );
        Guard {
            of: self,
            _lock: lock,
        }
    }

    /// As [`Guarded::get`] where no lock is needed, else `None`.
    #[inline(always)]
    pub(super) fn get_unlocked(&self) -> Option<Guard<'_, T>> {
        if self.is_locked() {
            return None;
        }
        debug_assert!(
            !self.busy.swap(true, Ordering::Acquire),
            "the engine's state is used twice at once"
        );
        Some(Guard {
            of: self,
            _lock: None,
        })
    }

    #[inline]
    pub(super) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }
}

/// Waits for the lock. A call, so that the way without one stays short.
#[inline(never)]
fn take(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Drop for Guard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        debug_assert!(self.of.busy.swap(false, Ordering::Release));
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: guards exist one at a time: by the lock, or by the promise of the callers.
        unsafe { &*self.of.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.of.value.get() }
    }
}
