// L0, S0 and L(n): messages in slots with a flag in their last line, between two cores, without any runtime.
// cc -O2 -march=native slots.c -o slots && ./slots      prints: name placement nanoseconds
#include "limits.h"

enum { SLOTS = 64, LARGE_SLOTS = 16, RING = 1 << 20 };
static char *ring[2], *mine;
static _Atomic uint64_t *credit;
static uint64_t count;

static char *slot(int direction, size_t n, size_t *flag) {
    size_t stride = (n + 8 + 63) / 64 * 64, slots = n <= 56 ? SLOTS : LARGE_SLOTS;
    *flag = stride - 8;
    return ring[direction] + count % slots * stride;
}
static void put(int direction, size_t n) {
    size_t flag;
    char *at = slot(direction, n, &flag);
    if (n == 8) memcpy(at, mine, 8); else memcpy(at, mine, n);
    atomic_store_explicit((_Atomic uint64_t *)(at + flag), count, memory_order_release);
}
static void take(int direction, size_t n) {
    size_t flag;
    char *at = slot(direction, n, &flag);
    while (atomic_load_explicit((_Atomic uint64_t *)(at + flag), memory_order_acquire) != count) {}
    if (n == 8) memcpy(mine, at, 8); else memcpy(mine, at, n);
}
static double latency(size_t n, size_t unused, int times) {
    (void)unused;
    double start = now();
    for (int i = 0; i < times; i++) {
        count++;
        if (!side) { put(0, n); take(1, n); } else { take(0, n); put(1, n); }
    }
    return (now() - start) / times / 2;
}
static double stream(size_t n, size_t unused, int times) {
    (void)unused;
    uint64_t slots = n <= 56 ? SLOTS : LARGE_SLOTS, first = count;
    meet();
    if (side) atomic_store(credit, first);
    meet();
    double start = now();
    for (int i = 0; i < times; i++) {
        count++;
        if (!side) {
            if (count % (slots / 2) == 0)
                while (1) {
                    uint64_t back = atomic_load_explicit(credit, memory_order_acquire);
                    if (count <= back + slots / 2) break;
                }
            put(0, n);
        } else {
            take(0, n);
            if (count % (slots / 4) == 0) atomic_store_explicit(credit, count, memory_order_release);
        }
    }
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
