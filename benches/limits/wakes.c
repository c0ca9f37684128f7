// W0 and Y0: waking a process that sleeps on another core, and handing over to one on the same core.
// cc -O2 -march=native wakes.c -o wakes && ./wakes      prints: name placement nanoseconds
#include "limits.h"
#include <linux/futex.h>
#include <sys/syscall.h>

static struct { _Alignas(128) _Atomic uint32_t word; _Alignas(128) _Atomic uint64_t done; double at; } *sleeper;
static _Atomic uint64_t *turns; // turns[0], turns[64]
static uint64_t hop;

static void futex(int operation, uint32_t value) {
    syscall(SYS_futex, (uint32_t *)&sleeper->word, operation, value, NULL, NULL, 0);
}
// From the wake call of one process to the first instruction of the other.
static double wake(size_t a, size_t b, int times) {
    (void)a, (void)b;
    enum { MOST = 64 };
    double samples[MOST];
    for (int i = 0; i < times && i < MOST; i++) {
        uint32_t asleep = atomic_load(&sleeper->word);
        meet();
        if (!side) {
            double start = now();
            while (now() - start < 300000) {} // until the other side sleeps and its core is idle
            start = now();
            atomic_store_explicit(&sleeper->word, asleep + 1, memory_order_release);
            futex(FUTEX_WAKE, 1);
            while (atomic_load_explicit(&sleeper->done, memory_order_acquire) != asleep + 1) {}
            samples[i] = sleeper->at - start;
        } else {
            while (atomic_load_explicit(&sleeper->word, memory_order_acquire) == asleep) futex(FUTEX_WAIT, asleep);
            sleeper->at = now();
            atomic_store_explicit(&sleeper->done, asleep + 1, memory_order_release);
        }
        meet();
    }
    if (side) return 0;
    qsort(samples, times, sizeof(double), by_size);
    return samples[times / 2];
}
static double hand_over(size_t a, size_t b, int times) {
    (void)a, (void)b;
    pin(0);
    for (int i = 0; i < 10; i++) sched_yield();
    double start = now();
    for (int i = 0; i < times; i++) {
        hop++;
        if (!side) atomic_store_explicit(turns, hop, memory_order_release);
        while (atomic_load_explicit(turns + (side ? 0 : 64), memory_order_acquire) < hop) sched_yield();
        if (side) atomic_store_explicit(turns + 64, hop, memory_order_release);
    }
    double each = (now() - start) / times / 2;
    pin(side);
    return each;
}
int main(void) {
    sleeper = map(4096, 1), turns = map(4096, 1);
    two_sides();
    figure("W0", wake, 0, 0, 10);
    figure("Y0", hand_over, 0, 0, 2000);
    return leave();
}
