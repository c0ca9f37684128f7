//! The time, where std's clock takes too long.
use std::time::Duration;

/// When the kernel's clock last ticked, which it does every 1 to 10 ms (CLOCK_MONOTONIC_COARSE, clock_gettime(2)): a fifth of the time that the exact time takes.
#[inline]
pub(crate) fn tick() -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes one timespec. It cannot fail: Linux has had this clock since 2.6.32.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
