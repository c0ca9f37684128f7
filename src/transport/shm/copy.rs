//! Copies into memory that another core reads next.
use super::way::Way;
use crate::sys::cpu;

/// From here on a copy into shared memory goes around the cache: the ring was read by the other core last time, so ordinary stores would
/// first fetch its lines back (8 GB/s near, 2 GB/s far), and the reader would then find them dirty in our cache. Measured with a ring of 256 KiB
/// on Zen 4: 4 KiB equal near and 3.7 against 1.3 us far, 8 KiB 1.13 against 0.97 and 8.2 against 2.9; below, ordinary stores win near.
pub(crate) const STREAM_FROM: usize = 4096;

/// The `len` <= 32 bytes at `ptr` as words; what is above `len` is unspecified. Without a call to memcpy, whose dispatch costs as much as
/// the rest of a small send.
///
/// # Safety
/// `ptr` is valid for reading `len` bytes.
#[inline(always)]
pub(super) unsafe fn up_to_32(ptr: *const u8, len: usize) -> [u64; 4] {
    let mut words = [0_u64; 4];
    let out = words.as_mut_ptr().cast::<u8>();
    // SAFETY: in each arm the reads lie inside `len` bytes at `ptr` and the writes inside the 32 of `words`; unaligned access is asked for.
    unsafe {
        match len {
            8 => words[0] = ptr.cast::<u64>().read_unaligned(),
            0 => {}
            1..=3 => {
                *out = *ptr;
                *out.add(len / 2) = *ptr.add(len / 2);
                *out.add(len - 1) = *ptr.add(len - 1);
            }
            4..=7 => {
                let (head, tail) = (
                    ptr.cast::<u32>().read_unaligned(),
                    ptr.add(len - 4).cast::<u32>().read_unaligned(),
                );
                out.cast::<u32>().write_unaligned(head);
                out.add(len - 4).cast::<u32>().write_unaligned(tail);
            }
            9..=16 => {
                let (head, tail) = (
                    ptr.cast::<u64>().read_unaligned(),
                    ptr.add(len - 8).cast::<u64>().read_unaligned(),
                );
                out.cast::<u64>().write_unaligned(head);
                out.add(len - 8).cast::<u64>().write_unaligned(tail);
            }
            _ => {
                let len = if len < 32 { len } else { 32 };
                let (head, tail) = (
                    ptr.cast::<u128>().read_unaligned(),
                    ptr.add(len - 16).cast::<u128>().read_unaligned(),
                );
                out.cast::<u128>().write_unaligned(head);
                out.add(len - 16).cast::<u128>().write_unaligned(tail);
            }
        }
    }
    words
}

/// The last, perhaps partial, 64-bit word of the `len` >= 8 bytes at `ptr`; what is above `len` is unspecified.
///
/// # Safety
/// `ptr` is valid for reading `len` bytes.
#[inline(always)]
pub(super) unsafe fn last_word(ptr: *const u8, len: usize) -> u64 {
    // SAFETY: the last 8 of at least 8 bytes.
    let last = unsafe { ptr.add(len - 8).cast::<u64>().read_unaligned() };
    // Little-endian (both supported architectures): the bytes of the word before go out at the bottom.
    last >> (8 * (len.next_multiple_of(8) - len))
}

/// Asks for the line at `ptr`, which may lie anywhere, to be brought near.
#[inline(always)]
pub(super) fn prefetch(ptr: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint, touches no architectural state and cannot fault.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(ptr.cast());
    }
    // No stable intrinsic elsewhere.
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = ptr;
}

/// Asks for the line at `ptr`, which may lie anywhere, to be this core's own: it is going to be written.
#[inline(always)]
pub(super) fn prefetch_to_write(ptr: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint, touches no architectural state and cannot fault; processors that do not know it take it for nothing.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) ptr, options(nostack, preserves_flags, readonly));
    }
    // Nothing to ask with elsewhere that was measured.
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = ptr;
}

/// Asks for the lines of the `len` bytes at `ptr`, which may lie anywhere, or for the first of them: a message is going to be written there when this rank has done
/// something else. Near, half a round trip of 1 KiB, caches used by others between batches, 233 to 206 ns; alone 217 to 206, and 2 KiB 227 to 235 (Zen 4, medians by turns).
#[inline]
pub(crate) fn claim_ahead(ptr: *const u8, len: usize) {
    const MOST: usize = 4096;
    for at in (0..len.min(MOST)).step_by(64) {
        prefetch_to_write(ptr.wrapping_add(at));
    }
}

/// Copies `len` bytes, of which there are mostly 8: these without a call to memcpy.
///
/// # Safety
/// `from` is valid for reading and `to` for writing `len` bytes, and they do not overlap.
#[inline(always)]
pub(crate) unsafe fn mostly_8(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise; unaligned access is asked for.
    unsafe {
        if len == 8 {
            to.cast::<u64>()
                .write_unaligned(from.cast::<u64>().read_unaligned());
        } else {
            core::ptr::copy_nonoverlapping(from, to, len);
        }
    }
}

/// Copies `len` bytes into shared memory that another rank will read after the next Release store of this thread.
///
/// # Safety
/// `from` is valid for reading and `to` for writing `len` bytes, and they do not overlap.
#[inline]
pub(crate) unsafe fn to_shared(from: *const u8, to: *mut u8, len: usize) {
    if len >= STREAM_FROM {
        // SAFETY: the caller's promise.
        unsafe { by_lines::<true, false>(from, to, len) }
    } else {
        // SAFETY: the caller's promise.
        unsafe { core::ptr::copy_nonoverlapping(from, to, len) }
    }
}

/// From here on a copy into a lane's ring goes around the cache if the receiver's core is far: 512 bytes take 0.44 us instead of 0.56, 1 KiB 0.48 instead
/// of 0.86, 2 KiB 0.74 instead of 1.38 (half a round trip). On a mesh it goes through the cache and asks for its lines instead: 512 bytes 0.94 and 0.65 us, 1 KiB 1.08 and
/// 0.86, 8 KiB 3.5 and 2.9, windows of 1 and 8 KiB 0.56 and 0.37, 2.0 and 1.55 (Sapphire Rapids; by memcpy 0.67, 0.97, 3.0, 0.47 and 1.62).
const FAR_FROM: usize = 512;
/// From here on an ordinary copy into a lane's ring is made from the end, so that no prefetcher runs ahead of the stores into lines that the receiver may be
/// reading (1 KiB near 180 instead of 218 ns, 2 KiB 300 instead of 340; far 0.78 instead of 0.86 us, 1.29 instead of 1.38).
const DOWNWARDS_FROM: usize = 512;

/// As [`to_shared`], into the ring of a lane. `to` begins a line.
///
/// # Safety
/// As for [`to_shared`].
#[inline]
pub(crate) unsafe fn to_lane(from: *const u8, to: *mut u8, len: usize, far: bool) {
    if far && len >= FAR_FROM && cpu::is_mesh() {
        // SAFETY: the caller's promise.
        unsafe { by_lines::<false, true>(from, to, len) }
    } else if len >= if far { FAR_FROM } else { STREAM_FROM } {
        // SAFETY: the caller's promise.
        unsafe { by_lines::<true, false>(from, to, len) }
    } else if len >= DOWNWARDS_FROM {
        // SAFETY: the caller's promise.
        unsafe { downwards(from, to, len) }
    } else {
        // SAFETY: the caller's promise.
        unsafe { core::ptr::copy_nonoverlapping(from, to, len) }
    }
}

/// [`to_shared`], by the way that was chosen for a staging ring.
///
/// # Safety
/// As for [`to_shared`].
#[inline]
pub(crate) unsafe fn to_ring(from: *const u8, to: *mut u8, len: usize, way: Way) {
    match way {
        // SAFETY: the caller's promise.
        Way::Around => unsafe { to_shared(from, to, len) },
        // SAFETY: the caller's promise; the loop is the same for both directions.
        Way::Through => unsafe { from_shared(from, to, len) },
        // SAFETY: the caller's promise.
        Way::Upwards => unsafe { claiming(from, to, len) },
    }
}

/// From here on a copy by [`Way::Upwards`] asks for its lines.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const CLAIM_FROM: usize = 1024;
/// So far ahead of its stores; 512 bytes and 2 KiB are alike.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const CLAIM_AHEAD: usize = 1024;

/// Copies `len` bytes into lines that another core has read, upwards, and asks for each line to write it some stores before it is written: stores retire
/// in order, so that each would wait for its own line otherwise (Sapphire Rapids far, a message through a staging ring around the cache, by `rep movsb` and
/// like this: 64 KiB 14.2, 10.8 and 9.5 us, 256 KiB 42, 31.6 and 29.6, 1 MiB 206, 150 and 144). It also asks for what lies behind the copy: there the next one goes
/// mostly (an allreduce of 8 KiB 5.3 and 4.8 us).
///
/// # Safety
/// `from` is valid for reading and `to` for writing `len` bytes, and they do not overlap.
unsafe fn claiming(from: *const u8, to: *mut u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len >= CLAIM_FROM && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the caller's promise.
        return unsafe { by_lines::<false, true>(from, to, len) };
    }
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(from, to, len) }
}

/// Messages from here on do not stay in a cache: their receiver writes them around it, so that no line of its memory is fetched only to be overwritten. Half a round trip
/// of 4, 8 and 16 MiB far on Sapphire Rapids without and with 0.98 and 0.80, 1.89 and 1.58, 3.68 and 3.09 ms (512 KiB 74 and 93 us, 1 MiB alike). On Zen 4, near, 155 and 180 us for
/// 4 MiB, in windows 132 and 183, both ways at once 141 and 189; of two bare loops 8 and 16 MiB 438 and 334, 1220 and 790.
pub(crate) fn past_cache_from() -> usize {
    if cpu::is_mesh() { 4 << 20 } else { 8 << 20 }
}

/// Copies `len` bytes that another rank wrote into memory that nobody reads soon.
///
/// # Safety
/// `from` is valid for reading and `to` for writing `len` bytes, and they do not overlap.
pub(crate) unsafe fn past_cache(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { by_lines::<true, false>(from, to, len) }
}

/// Copies `len` bytes out of a ring that another rank filled by this way. What lies in its cache is taken from the end: where a core reads such
/// lines upwards, its prefetchers ask for them too, and each comes late. Near, in a ring of 2 MiB, half a round trip of 1, 2, 4, 8 and 16 KiB upwards and
/// downwards: 228 and 138, 359 and 163, 635 and 216, 924 and 386, 967 and 826 ns (Zen 4). Lines that are in memory come faster upwards (8 KiB 1.10
/// against 1.17 us).
///
/// # Safety
/// `from` is valid for reading and `to` for writing `len` bytes, and they do not overlap.
#[inline]
pub(crate) unsafe fn from_ring(from: *const u8, to: *mut u8, len: usize, way: Way) {
    match way {
        // SAFETY: the caller's promise.
        Way::Around | Way::Upwards => unsafe { from_shared(from, to, len) },
        // SAFETY: the caller's promise.
        Way::Through => unsafe { downwards(from, to, len) },
    }
}

/// Copies `len` bytes to two places, through the cache.
///
/// # Safety
/// `from` is valid for reading and `to` and `also` for writing `len` bytes, and none of the three overlap.
pub(crate) unsafe fn to_two(from: *const u8, to: *mut u8, also: *mut u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if std::arch::is_x86_feature_detected!("avx2") {
        let whole = len / 64 * 64;
        // SAFETY: the two parts are the `len` bytes; the processor has AVX2.
        unsafe {
            two_by_32(from, to, also, whole / 64);
            core::ptr::copy_nonoverlapping(from.add(whole), to.add(whole), len - whole);
            core::ptr::copy_nonoverlapping(from.add(whole), also.add(whole), len - whole);
        }
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        core::ptr::copy_nonoverlapping(from, to, len);
        core::ptr::copy_nonoverlapping(from, also, len);
    }
}

/// `lines` times 64 bytes.
///
/// # Safety
/// `from` is valid for reading and `to` and `also` for writing that many bytes, and none of the three overlap. The processor has AVX2.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx2")]
unsafe fn two_by_32(from: *const u8, to: *mut u8, also: *mut u8, lines: usize) {
    use core::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_storeu_si256};
    for line in 0..lines {
        // SAFETY: two vectors of 32 bytes a line, by the contract.
        unsafe {
            let src = from.cast::<__m256i>().add(2 * line);
            let parts = [_mm256_loadu_si256(src), _mm256_loadu_si256(src.add(1))];
            for target in [to, also] {
                let dst = target.cast::<__m256i>().add(2 * line);
                _mm256_storeu_si256(dst, parts[0]);
                _mm256_storeu_si256(dst.add(1), parts[1]);
            }
        }
    }
}

/// Copies `len` bytes, the last line first. For shared memory on either side, which begins a line.
///
/// # Safety
/// `from` is valid for reading and `to` for writing `len` bytes, and they do not overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
pub(crate) unsafe fn downwards(from: *const u8, to: *mut u8, len: usize) {
    const PAIR: usize = 128;
    let whole = len / PAIR * PAIR;
    // SAFETY: the two parts are the `len` bytes; the processor has AVX2 where it says so.
    unsafe {
        core::ptr::copy_nonoverlapping(from.add(whole), to.add(whole), len - whole);
        if std::arch::is_x86_feature_detected!("avx2") {
            pairs_by_32(from, to, whole / PAIR);
        } else {
            pairs_by_16(from, to, whole / PAIR);
        }
    }
}

/// `pairs` times two lines, the last ones first.
///
/// # Safety
/// `from` is valid for reading and `to` for writing that many lines, and they do not overlap. The processor has AVX2.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx2")]
unsafe fn pairs_by_32(from: *const u8, to: *mut u8, pairs: usize) {
    use core::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_storeu_si256};
    for pair in (0..pairs).rev() {
        // SAFETY: four vectors a pair, by the contract.
        unsafe {
            let (src, dst) = (
                from.cast::<__m256i>().add(4 * pair),
                to.cast::<__m256i>().add(4 * pair),
            );
            let parts = [0, 1, 2, 3].map(|i| _mm256_loadu_si256(src.add(i)));
            for (i, part) in parts.into_iter().enumerate() {
                _mm256_storeu_si256(dst.add(i), part);
            }
        }
    }
}

/// The same for processors without AVX2.
///
/// # Safety
/// As for [`pairs_by_32`], but for the processor: SSE2 belongs to x86-64.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn pairs_by_16(from: *const u8, to: *mut u8, pairs: usize) {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};
    for pair in (0..pairs).rev() {
        // SAFETY: eight vectors a pair, by the contract.
        unsafe {
            let (src, dst) = (
                from.cast::<__m128i>().add(8 * pair),
                to.cast::<__m128i>().add(8 * pair),
            );
            let parts = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| _mm_loadu_si128(src.add(i)));
            for (i, part) in parts.into_iter().enumerate() {
                _mm_storeu_si128(dst.add(i), part);
            }
        }
    }
}

/// # Safety
/// As above.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(crate) unsafe fn downwards(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(from, to, len) }
}

/// Copies a payload out of a lane. A call, so that the short way of 8 bytes stays short.
///
/// # Safety
/// `from` is valid for reading and `to` for writing `len` bytes, and they do not overlap.
#[inline(never)]
pub(super) unsafe fn from_lane(from: *const u8, to: *mut u8, len: usize, way: Way) {
    // SAFETY: the caller's promise.
    unsafe { from_ring(from, to, len, way) }
}

/// From here on a copy out of shared memory is a loop of our own: memcpy takes `rep movsb` from a few KiB on, which on Zen 4 halves in speed
/// where source and target are not equally aligned, and a `Vec` begins 16 bytes after a page (1 MiB through a stream: 110 against 50 us).
pub(crate) const LOOP_FROM: usize = 4096;

/// Copies `len` bytes that another rank wrote into shared memory.
///
/// # Safety
/// `from` is valid for reading and `to` for writing `len` bytes, and they do not overlap.
#[inline]
pub(crate) unsafe fn from_shared(from: *const u8, to: *mut u8, len: usize) {
    if len >= LOOP_FROM {
        // SAFETY: the caller's promise.
        unsafe { by_lines::<false, false>(from, to, len) }
    } else {
        // SAFETY: the caller's promise.
        unsafe { core::ptr::copy_nonoverlapping(from, to, len) }
    }
}

/// Whole lines of the target, by non-temporal stores if `AROUND_CACHE`, else by ordinary ones; the ends by ordinary ones. With `CLAIMING` the lines are
/// asked for, where the processor has AVX2.
///
/// # Safety
/// `from` is valid for reading and `to` for writing `len` bytes, and they do not overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn by_lines<const AROUND_CACHE: bool, const CLAIMING: bool>(
    from: *const u8,
    to: *mut u8,
    len: usize,
) {
    use core::arch::x86_64::_mm_sfence;
    const LINE: usize = 64;
    let ahead = to.align_offset(LINE).min(len);
    let lines = (len - ahead) / LINE;
    let done = ahead + lines * LINE;
    // SAFETY: the three parts lie inside `len` bytes, in order; `to + ahead` begins a line; the processor has AVX2 where it says so.
    unsafe {
        core::ptr::copy_nonoverlapping(from, to, ahead);
        if std::arch::is_x86_feature_detected!("avx2") {
            lines_by_32::<AROUND_CACHE, CLAIMING>(from.add(ahead), to.add(ahead), lines);
        } else {
            lines_by_16::<AROUND_CACHE>(from.add(ahead), to.add(ahead), lines);
        }
        core::ptr::copy_nonoverlapping(from.add(done), to.add(done), len - done);
        if AROUND_CACHE {
            // Non-temporal stores are not ordered by a later Release store; this orders them.
            _mm_sfence();
        }
    }
}

/// `lines` lines, two at a time: with fewer stores more lines are under way at once (Zen 4, a ring of 2 MiB through the cache: 4 KiB near 0.56
/// us against 0.91 by 16 bytes, 64 KiB far 24.6 against 41.6; AVX-512 is no faster).
///
/// # Safety
/// `from` is valid for reading and `to` for writing that many lines; `to` begins a line, so that each iteration writes whole ones and no
/// partly filled buffer is flushed early. The processor has AVX2.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx2")]
unsafe fn lines_by_32<const AROUND_CACHE: bool, const CLAIMING: bool>(
    from: *const u8,
    to: *mut u8,
    lines: usize,
) {
    use core::arch::x86_64::{
        __m256i, _mm256_loadu_si256, _mm256_store_si256, _mm256_stream_si256,
    };
    let (mut src, mut dst) = (from.cast::<__m256i>(), to.cast::<__m256i>());
    if CLAIMING {
        for at in (0..CLAIM_AHEAD).step_by(64) {
            prefetch_to_write(to.wrapping_add(at));
        }
    }
    // SAFETY: two vectors a line, by the contract.
    unsafe {
        for _ in 0..lines / 2 {
            if CLAIMING {
                prefetch_to_write(dst.cast::<u8>().wrapping_add(CLAIM_AHEAD));
                prefetch_to_write(dst.cast::<u8>().wrapping_add(CLAIM_AHEAD + 64));
            }
            let parts = [
                _mm256_loadu_si256(src),
                _mm256_loadu_si256(src.add(1)),
                _mm256_loadu_si256(src.add(2)),
                _mm256_loadu_si256(src.add(3)),
            ];
            for (i, part) in parts.into_iter().enumerate() {
                if AROUND_CACHE {
                    _mm256_stream_si256(dst.add(i), part);
                } else {
                    _mm256_store_si256(dst.add(i), part);
                }
            }
            (src, dst) = (src.add(4), dst.add(4));
        }
        if lines % 2 == 1 {
            for i in 0..2 {
                let part = _mm256_loadu_si256(src.add(i));
                if AROUND_CACHE {
                    _mm256_stream_si256(dst.add(i), part);
                } else {
                    _mm256_store_si256(dst.add(i), part);
                }
            }
        }
    }
}

/// `lines` lines, for processors without AVX2.
///
/// # Safety
/// As for [`lines_by_32`], but for the processor: SSE2 belongs to x86-64.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn lines_by_16<const AROUND_CACHE: bool>(from: *const u8, to: *mut u8, lines: usize) {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_store_si128, _mm_stream_si128};
    let (mut src, mut dst) = (from.cast::<__m128i>(), to.cast::<__m128i>());
    for _ in 0..lines {
        // SAFETY: four vectors a line, by the contract.
        unsafe {
            let parts = [0, 1, 2, 3].map(|i| _mm_loadu_si128(src.add(i)));
            for (i, part) in parts.into_iter().enumerate() {
                if AROUND_CACHE {
                    _mm_stream_si128(dst.add(i), part);
                } else {
                    _mm_store_si128(dst.add(i), part);
                }
            }
            (src, dst) = (src.add(4), dst.add(4));
        }
    }
}

/// # Safety
/// As above.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn by_lines<const AROUND_CACHE: bool, const CLAIMING: bool>(
    from: *const u8,
    to: *mut u8,
    len: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(from, to, len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_copies_take_exactly_their_bytes() {
        let source: Vec<u8> = (1..=32).collect();
        for len in 0..=32 {
            // SAFETY: `source` has 32 bytes.
            let words = unsafe { up_to_32(source.as_ptr(), len) };
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
            assert_eq!(bytes[..len], source[..len], "{len} bytes");
            if len >= 8 {
                // SAFETY: as above.
                let last = unsafe { last_word(source.as_ptr(), len) }.to_ne_bytes();
                let from = (len - 1) / 8 * 8;
                assert_eq!(last[..len - from], source[from..len], "{len} bytes");
            }
        }
    }

    #[test]
    fn both_places_get_exactly_their_bytes() {
        let source: Vec<u8> = (0..300_u32).map(|i| (i * 7) as u8).collect();
        for len in [0, 1, 63, 64, 65, 200, 256] {
            let mut targets = [[0_u8; 300]; 2];
            let [one, two] = &mut targets;
            // SAFETY: all three ranges lie inside their arrays.
            unsafe {
                to_two(
                    source.as_ptr().add(3),
                    one.as_mut_ptr().add(5),
                    two.as_mut_ptr().add(7),
                    len,
                )
            };
            for (target, at) in targets.iter().zip([5, 7]) {
                assert_eq!(target[at..at + len], source[3..3 + len]);
                let outside = target[..at].iter().chain(&target[at + len..]);
                assert!(outside.into_iter().all(|&b| b == 0));
            }
        }
    }

    #[test]
    fn claiming_copies_take_exactly_their_bytes() {
        let source: Vec<u8> = (0..4400_u32).map(|i| (i * 7 + i / 256) as u8).collect();
        let lengths = (0..4).chain(1022..1024 + 130);
        let aligned = lengths.map(|len| (len % 64, 0, len));
        let ends = (0..64).map(|at| (3 * at % 64, at, 4096 + at));
        for (i, (from, to, len)) in aligned.chain(ends).enumerate() {
            if cfg!(miri) && i % 16 != 0 {
                continue;
            }
            let mut target = vec![0xaa_u8; 4400];
            // SAFETY: both ranges lie inside their vectors.
            unsafe { claiming(source.as_ptr().add(from), target.as_mut_ptr().add(to), len) };
            assert_eq!(
                target[to..to + len],
                source[from..from + len],
                "{len} bytes"
            );
            let outside = target[..to].iter().chain(&target[to + len..]);
            assert!(outside.into_iter().all(|&b| b == 0xaa), "{len} bytes");
        }
    }

    #[test]
    fn long_copies_copy_every_alignment() {
        let source: Vec<u8> = (0..10_000_u32).map(|i| (i * 7 + i / 256) as u8).collect();
        type Copy = unsafe fn(*const u8, *mut u8, usize);
        for (from, to, len) in [
            (0, 0, 4096),
            (1, 0, 4096),
            (0, 1, 4097),
            (3, 63, 5000),
            (5, 17, 8191),
        ] {
            for copy in [
                to_shared as Copy,
                from_shared,
                downwards,
                past_cache,
                claiming,
                // SAFETY: both ranges lie inside their vectors.
                |from, to, len| unsafe { to_lane(from, to, len, true) },
            ] {
                let mut target = vec![0_u8; 10_000];
                // SAFETY: both ranges lie inside their vectors.
                unsafe { copy(source.as_ptr().add(from), target.as_mut_ptr().add(to), len) };
                assert_eq!(target[to..to + len], source[from..from + len]);
                assert!(
                    target[..to]
                        .iter()
                        .chain(&target[to + len..])
                        .all(|&b| b == 0)
                );
            }
        }
    }
}
