// P(n), C(n) and M(n): a pipelined double copy through a shared ring, one copy straight out of shared memory, and one
// core's own copy. cc -O2 -march=native rings.c -o rings && ./rings      prints: name placement nanoseconds
#include "limits.h"

enum { RING = 1 << 20 };
static char *ring[2], *mine;
static struct { _Alignas(128) _Atomic uint64_t head, pad[15]; _Alignas(128) _Atomic uint64_t tail; } *state;
static uint64_t base[2];

// shape: the chunk in the upper half, the ring in the lower.
#define SHAPE(chunk, ring) ((size_t)(chunk) << 32 | (ring))

static void send(int d, size_t n, size_t shape) {
    size_t chunk = shape >> 32, size = (uint32_t)shape;
    uint64_t head = atomic_load_explicit(&state[d].head, memory_order_relaxed);
    for (size_t done = 0; done < n; done += chunk, head += chunk) {
        while (head + chunk - atomic_load_explicit(&state[d].tail, memory_order_acquire) > size) {}
        memcpy(ring[d] + (head - base[d]) % size, mine + done, n - done < chunk ? n - done : chunk);
        atomic_store_explicit(&state[d].head, head + chunk, memory_order_release);
    }
}
static void receive(int d, size_t n, size_t shape) {
    size_t chunk = shape >> 32, size = (uint32_t)shape;
    uint64_t tail = atomic_load_explicit(&state[d].tail, memory_order_relaxed);
    for (size_t done = 0; done < n; done += chunk, tail += chunk) {
        while (atomic_load_explicit(&state[d].head, memory_order_acquire) == tail) {}
        memcpy(mine + done, ring[d] + (tail - base[d]) % size, n - done < chunk ? n - done : chunk);
        atomic_store_explicit(&state[d].tail, tail + chunk, memory_order_release);
    }
}
static void begin(void) {
    meet();
    base[0] = atomic_load(&state[0].head), base[1] = atomic_load(&state[1].head);
    meet();
}
static double latency(size_t n, size_t shape, int times) {
    begin();
    double start = now();
    for (int i = 0; i < times; i++)
        if (!side) { send(0, n, shape); receive(1, n, shape); } else { receive(0, n, shape); send(1, n, shape); }
    return (now() - start) / times / 2;
}
static double stream(size_t n, size_t shape, int times) {
    begin();
    double start = now();
    for (int i = 0; i < times; i++)
        if (!side) send(0, n, shape); else receive(0, n, shape);
    return (now() - start) / times;
}
// Each side copies, in turn, what the other published: written in place before, or by nobody any more.
static double shared(size_t n, size_t rewritten, int times) {
    meet();
    double start = now();
    for (int i = 0; i < times; i++) {
        turn++;
        if (!side) {
            if (rewritten) memset(ring[side], (int)turn | 1, n);
            atomic_store_explicit(words, turn, memory_order_release);
            while (atomic_load_explicit(words + 64, memory_order_acquire) != turn) {}
        } else
            while (atomic_load_explicit(words, memory_order_acquire) != turn) {}
        memcpy(mine, ring[!side], n);
        if (side && rewritten) memset(ring[side], (int)turn | 1, n);
        if (side) atomic_store_explicit(words + 64, turn, memory_order_release);
    }
    return (now() - start) / times / 2;
}
static double alone(size_t n, size_t unused, int times) {
    (void)unused;
    double start = now();
    for (int i = 0; i < times; i++) {
        memcpy(mine + n, mine, n);
        __asm__ volatile("" ::"r"(mine) : "memory");
    }
    return (now() - start) / times;
}
int main(void) {
    ring[0] = map(RING, 1), ring[1] = map(RING, 1), state = map(4096, 1), mine = map(4 << 20, 0);
    two_sides();
    figure("P(4096)", latency, 4096, SHAPE(4096, 256 << 10), 1024);
    figure("P(4096)-stream", stream, 4096, SHAPE(4096, 256 << 10), 2048);
    figure("P(65536)", latency, 65536, SHAPE(16384, 256 << 10), 64);
    figure("P(65536)-stream", stream, 65536, SHAPE(16384, 256 << 10), 128);
    figure("P(1048576)", latency, 1 << 20, SHAPE(32768, 1 << 20), 4);
    figure("P(1048576)-stream", stream, 1 << 20, SHAPE(32768, 1 << 20), 8);
    figure("C(65536)", shared, 65536, 0, 128);
    figure("C(65536)-rewritten", shared, 65536, 1, 128);
    figure("M(65536)", alone, 65536, 0, 128);
    figure("C(1048576)", shared, 1 << 20, 0, 8);
    figure("C(1048576)-rewritten", shared, 1 << 20, 1, 8);
    figure("M(1048576)", alone, 1 << 20, 0, 8);
    return leave();
}
