//! The processor's wide registers, where it has them: programs are built for the oldest processor of their architecture.

/// Runs `f`, compiled for AVX2 where this processor has it. `f` must be inlined whole for that to do anything (closures over
/// `#[inline(always)]` functions). It computes the same either way: nothing is fused or reordered.
#[inline(always)]
pub(crate) fn wide(f: impl FnOnce()) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { avx2(f) };
        }
    }
    f()
}

/// Work that is too long for the compiler to inline a closure of it, which would leave it narrow. `run` must be `#[inline(always)]`.
pub(crate) trait Work {
    fn run(self);
}

/// As [`wide`].
#[inline(always)]
pub(crate) fn wide_work(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { avx2_work(work) };
        }
    }
    work.run();
}

/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2_work(work: impl Work) {
    work.run();
}

/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(f: impl FnOnce()) {
    f()
}
