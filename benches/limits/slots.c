// L0, S0 and L(n): messages in slots with a flag in their last line, between two cores, without any runtime.
// cc -O2 -march=native slots.c -o slots && ./slots      prints: name placement nanoseconds
#include "limits.h"

enum { RING = 1 << 20 };
static char *ring[2], *mine;
static _Atomic uint64_t *credit;
static uint64_t count;

// Slots for messages of n bytes: whole lines, the flag in the last word. As many as are sensible, a power of two.
static inline size_t stride_of(size_t n) { return (n + 8 + 63) / 64 * 64; }
static inline uint64_t slots_of(size_t n) { return n <= 56 ? 64 : 16; }

static inline void put(char *slot, size_t stride, size_t n, uint64_t number) {
    if (n == 8) memcpy(slot, mine, 8); else memcpy(slot, mine, n);
    atomic_store_explicit((_Atomic uint64_t *)(slot + stride - 8), number, memory_order_release);
}
static inline void take(char *slot, size_t stride, size_t n, uint64_t number) {
    while (atomic_load_explicit((_Atomic uint64_t *)(slot + stride - 8), memory_order_acquire) != number) {}
    if (n == 8) memcpy(mine, slot, 8); else memcpy(mine, slot, n);
}
static double latency(size_t n, size_t unused, int times) {
    (void)unused;
    size_t stride = stride_of(n), mask = slots_of(n) - 1;
    uint64_t number = count;
    double start = now();
    for (int i = 0; i < times; i++) {
        number++;
        char *there = ring[0] + (number & mask) * stride, *back = ring[1] + (number & mask) * stride;
        if (!side) { put(there, stride, n, number); take(back, stride, n, number); }
        else { take(there, stride, n, number); put(back, stride, n, number); }
    }
    count = number;
    return (now() - start) / times / 2;
}
static double stream(size_t n, size_t unused, int times) {
    (void)unused;
    size_t stride = stride_of(n);
    uint64_t slots = slots_of(n), number = count;
    meet();
    atomic_store(credit, number); // both sides write the same
    meet();
    double start = now();
    for (int i = 0; i < times; i++) {
        number++;
        char *slot = ring[0] + (number & (slots - 1)) * stride;
        if (!side) {
            if ((number & (slots / 2 - 1)) == 0)
                while (number > atomic_load_explicit(credit, memory_order_acquire) + slots / 2) {}
            put(slot, stride, n, number);
        } else {
            take(slot, stride, n, number);
            if ((number & (slots / 4 - 1)) == 0) atomic_store_explicit(credit, number, memory_order_release);
        }
    }
    count = number;
    return (now() - start) / times;
}
int main(void) {
    ring[0] = map(RING, 1), ring[1] = map(RING, 1), mine = map(1 << 20, 0);
    credit = map(4096, 1);
    two_sides();
    figure("L0", latency, 8, 0, 3000);
    figure("S0", stream, 8, 0, 30000);
    figure("L(64)", latency, 64, 0, 1000);
    figure("L(256)", latency, 256, 0, 1000);
    figure("L(1024)", latency, 1024, 0, 1000);
    figure("L(2048)", latency, 2048, 0, 1000);
    return leave();
}
