// A lane without its runtime: slots of 17 lines, header and first word as in src/transport/shm/lane.rs, and for 1 KiB the long ring of 2 MiB that is read from its
// end. No requests, no matching, no checks, no waiting but for the line. What is missed here too is the layout's; what is above it is the runtime's.
//
//     cc -O2 -march=native -o /tmp/lane benches/limits/lane.c && /tmp/lane      prints: name placement nanoseconds (of a message)
//
// "latency" is half a round trip, "window" a message of 64 that are sent at once and answered by one, and so is "ahead" with slots and lines asked for ahead as the lane does.
#include "limits.h"
#include <immintrin.h>

enum { SLOTS = 64, SLOT = 17 * 64, BODY = 32, INLINE = SLOT - BODY - 8, SHORT = 96, LONG = 2 << 20, QUARTER = SLOTS / 4, AHEAD = 5, BEHIND = 8, WINDOW = 64 };
static char *slots[2], *spans[2], *mine;
static _Atomic uint64_t *credit[2];
static uint64_t sent[2], taken[2], freed[2], span[2];

static inline char *slot_of(int d, uint64_t number) { return slots[d] + number % SLOTS * SLOT; }
static inline _Atomic uint64_t *word(char *slot, int at) { return (_Atomic uint64_t *)slot + at; }

// Into lines that the other side reads: the short ones by words, the line of the header last.
static inline void fill(char *to, const char *from, size_t n) {
    if (n > SHORT) { memcpy(to, from, n); return; }
    for (size_t at = 32; at < n; at += 8) memcpy(to + at, from + at, 8);
    for (size_t at = 0; at < n && at < 32; at += 8) memcpy(to + at, from + at, 8);
}
static inline void send(int d, size_t n, int ahead) {
    uint64_t number = sent[d]++;
    if (number - freed[d] >= SLOTS)
        while (number - (freed[d] = atomic_load_explicit(credit[d], memory_order_acquire)) >= SLOTS) {}
    char *slot = slot_of(d, number);
    if (n <= INLINE) fill(slot + BODY, mine, n);
    else {
        memcpy(spans[d] + span[d] % LONG, mine, n);
        atomic_store_explicit(word(slot, 4), span[d], memory_order_relaxed);
        span[d] += (n + 63) / 64 * 64;
    }
    atomic_store_explicit(word(slot, 1), 7, memory_order_relaxed);
    atomic_store_explicit(word(slot, 2), 1, memory_order_relaxed);
    atomic_store_explicit(word(slot, 3), 3, memory_order_relaxed);
    atomic_store_explicit(word(slot, 0), (number / SLOTS + 1) << 32 | n, memory_order_release);
    if (ahead) __asm__ volatile("prefetchw (%0)" ::"r"(slot_of(d, number + BEHIND)));
}
static inline void receive(int d, size_t n, int ahead) {
    uint64_t number = taken[d]++, lap = number / SLOTS + 1;
    char *slot = slot_of(d, number);
    while (atomic_load_explicit(word(slot, 0), memory_order_acquire) >> 32 != lap) {}
    if (ahead) _mm_prefetch(slot_of(d, number + AHEAD), _MM_HINT_T0);
    if (n <= INLINE) {
        if (n > SHORT) for (size_t at = 32; at < n; at += 64) _mm_prefetch(slot + BODY + at, _MM_HINT_T0);
        if (n == 8) memcpy(mine, slot + BODY, 8); else memcpy(mine, slot + BODY, n);
    } else {
        const char *from = spans[d] + atomic_load_explicit(word(slot, 4), memory_order_relaxed) % LONG;
        for (size_t at = n; at > 0; at -= 64) memcpy(mine + at - 64, from + at - 64, 64);
    }
    if (taken[d] % QUARTER == 0) atomic_store_explicit(credit[d], taken[d], memory_order_release);
}
static double latency(size_t n, size_t unused, int times) {
    (void)unused;
    double start = now();
    for (int i = 0; i < times; i++)
        if (!side) { send(0, n, 0); receive(1, n, 0); } else { receive(0, n, 0); send(1, n, 0); }
    return (now() - start) / times / 2;
}
static double window(size_t n, size_t ahead, int times) {
    double start = now();
    for (int i = 0; i < times; i++)
        if (!side) {
            for (int k = 0; k < WINDOW; k++) send(0, n, (int)ahead);
            receive(1, 8, 0);
        } else {
            for (int k = 0; k < WINDOW; k++) receive(0, n, (int)ahead);
            send(1, 8, 0);
        }
    return (now() - start) / times / WINDOW;
}
// Both send at once, and then receive.
static double exchange(size_t n, size_t unused, int times) {
    (void)unused;
    double start = now();
    for (int i = 0; i < times; i++) { send(side, n, 0); receive(!side, n, 0); }
    return (now() - start) / times;
}
int main(void) {
    for (int d = 0; d < 2; d++) slots[d] = map(SLOTS * SLOT, 1), spans[d] = map(LONG, 1), credit[d] = map(4096, 1);
    mine = map(4096, 0);
    two_sides();
    size_t sizes[] = {8, 64, 128, 256, 512, 1024};
    char name[32];
    for (int i = 0; i < 6; i++) snprintf(name, sizeof name, "latency(%zu)", sizes[i]), figure(name, latency, sizes[i], 0, 2000);
    figure("exchange(8)", exchange, 8, 0, 2000);
    figure("window(8)", window, 8, 0, 200);
    figure("window(8)-ahead", window, 8, 1, 200);
    figure("window(1024)", window, 1024, 0, 100);
    figure("window(1024)-ahead", window, 1024, 1, 100);
    return leave();
}
