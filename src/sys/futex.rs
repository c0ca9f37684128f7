//! Sleeping on a 32-bit word that others change (futex(2)).
use core::sync::atomic::AtomicU32;
use core::time::Duration;

/// Sleeps while `word` holds `expected`, at most `limit`. Returns on a wake, on a changed value, on a signal and on the limit alike:
/// the caller looks again.
pub(crate) fn wait(word: &AtomicU32, expected: u32, limit: Option<Duration>) {
    wait_by(libc::FUTEX_WAIT, word, expected, limit);
}

/// [`wait`] on a word that only this process uses.
pub(crate) fn wait_private(word: &AtomicU32, expected: u32, limit: Option<Duration>) {
    wait_by(
        libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
        word,
        expected,
        limit,
    );
}

fn wait_by(call: i32, word: &AtomicU32, expected: u32, limit: Option<Duration>) {
    let limit = limit.map(|d| libc::timespec {
        tv_sec: d.as_secs() as libc::time_t,
        tv_nsec: d.subsec_nanos() as libc::c_long,
    });
    let limit_ptr = limit
        .as_ref()
        .map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: `word` is a live, aligned 32-bit word, and `limit_ptr` is null or points at `limit`, which outlives the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            call,
            expected,
            limit_ptr,
            core::ptr::null::<u32>(),
            0,
        );
    }
}

/// Wakes up to `count` sleepers on `word`.
pub(crate) fn wake(word: &AtomicU32, count: u32) {
    wake_by(libc::FUTEX_WAKE, word, count);
}

/// [`wake`] on a word that only this process uses.
pub(crate) fn wake_private(word: &AtomicU32, count: u32) {
    wake_by(libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, word, count);
}

fn wake_by(call: i32, word: &AtomicU32, count: u32) {
    let count = count.min(i32::MAX as u32);
    // SAFETY: `word` is a live, aligned 32-bit word; waking reads nothing else.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            call,
            count,
            core::ptr::null::<libc::timespec>(),
            core::ptr::null::<u32>(),
            0,
        );
    }
}
