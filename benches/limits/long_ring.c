// The staging stream of src/transport/shm, bare: the same ring with its head and its tail, filled and emptied in chunks by the best loops known, and nothing
// else; no matching, no wake-ups, no choice on the way. For each size every way of copying is tried, and the fastest is measured. What this does not reach, no runtime
// over such a ring does. "one" is half a round trip of one message, "both" an exchange: both send, then both receive.
//     cc -O2 -march=native long_ring.c -o long_ring && ./long_ring [KiB ...]      prints: name placement nanoseconds, and the way that won
#include "limits.h"
#include <immintrin.h>

enum { LARGEST = 16 << 20, LONGEST = 2 << 20, SLOW = 4 << 20 };
static char *ring[2], *from, *to;
static struct { _Alignas(128) _Atomic uint64_t head; _Alignas(128) _Atomic uint64_t tail; } *state;
static uint64_t sent, received, freed;  // sent by this side, received from the other

struct way { size_t ring, chunk; char write, read, ahead; };
static struct way way;

enum { UP, DOWN, CLAIMING, AROUND };
static inline __attribute__((always_inline)) void pair(char *out, const char *in, int around) {
    __m256i a = _mm256_loadu_si256((void *)in), b = _mm256_loadu_si256((void *)(in + 32));
    __m256i c = _mm256_loadu_si256((void *)(in + 64)), d = _mm256_loadu_si256((void *)(in + 96));
    __m256i *o = (void *)out;
    if (around) {
        _mm256_stream_si256(o, a), _mm256_stream_si256(o + 1, b), _mm256_stream_si256(o + 2, c), _mm256_stream_si256(o + 3, d);
    } else
        o[0] = a, o[1] = b, o[2] = c, o[3] = d;
}
static void copy(char *out, const char *in, size_t n, int how) {
    enum { AHEAD = 1024 };
    switch (how) {
    case UP:
        for (size_t i = 0; i < n; i += 128) pair(out + i, in + i, 0);
        return;
    case DOWN:
        for (size_t i = n; i; i -= 128) pair(out + i - 128, in + i - 128, 0);
        return;
    case CLAIMING:
        for (size_t i = 0; i < AHEAD && i < n; i += 64) _mm_prefetch(out + i, _MM_HINT_ET0);
        for (size_t i = 0; i < n; i += 128) {
            if (i + AHEAD < n) _mm_prefetch(out + i + AHEAD, _MM_HINT_ET0), _mm_prefetch(out + i + AHEAD + 64, _MM_HINT_ET0);
            pair(out + i, in + i, 0);
        }
        return;
    default:
        for (size_t i = 0; i < n; i += 128) pair(out + i, in + i, 1);
        _mm_sfence();
    }
}
// As much as there is room for, or there is to take, of n bytes of which `done` are done; so an exchange needs nobody to be first.
static size_t fill(size_t n, size_t done) {
    size_t window = way.ring < LONGEST ? way.ring : way.ring / 4, now = n - done < way.chunk ? n - done : way.chunk;
    if (sent + now - freed > window) freed = atomic_load_explicit(&state[side].tail, memory_order_acquire);
    if (!now || sent + now - freed > window) return done;
    copy(ring[side] + sent % way.ring, from + done, now, way.write);
    atomic_store_explicit(&state[side].head, sent += now, memory_order_release);
    return done + now;
}
static size_t take(size_t n, size_t done) {
    size_t now = n - done < way.chunk ? n - done : way.chunk;
    if (!now || atomic_load_explicit(&state[!side].head, memory_order_acquire) - received < now) return done;
    copy(to + done, ring[!side] + received % way.ring, now, n >= SLOW ? AROUND : way.read);
    atomic_store_explicit(&state[!side].tail, received += now, memory_order_release);
    return done + now;
}
static double one(size_t n, size_t unused, int times) {
    (void)unused;
    meet();
    double start = now();
    for (int i = 0; i < 2 * times; i++)
        if ((i & 1) == side) for (size_t done = 0; done < n;) done = fill(n, done);
        else for (size_t done = 0; done < n;) done = take(n, done);
    return (now() - start) / times / 2;
}
static double both(size_t n, size_t unused, int times) {
    (void)unused;
    meet();
    double start = now();
    for (int i = 0; i < times; i++)
        for (size_t out = 0, in = 0, before; out < n || in < n;) {
            // Chunk by chunk, or as far as there is room before anything is taken.
            do before = out, out = fill(n, out); while (way.ahead && out > before);
            do before = in, in = take(n, in); while (way.ahead && in > before);
        }
    return (now() - start) / times;
}
// Side 0 tells both what a time means: the two must choose alike.
static double agreed(double value) {
    if (!side) atomic_store(words + 256, (uint64_t)value);
    meet();
    value = atomic_load(words + 256);
    meet();
    return value;
}
static void best(const char *mode, double (*batch)(size_t, size_t, int), size_t n) {
    static const size_t rings[] = {256 << 10, LONGEST}, chunks[] = {4 << 10, 8 << 10, 16 << 10, 32 << 10};
    static const char writes[] = {UP, CLAIMING, AROUND}, reads[] = {UP, DOWN};
    static const char *names[] = {"up", "down", "claiming", "around"};
    int times = (4 << 20) / n < 3 ? 3 : (4 << 20) / n;
    struct way won = {0};
    double least = 1e30;
    for (int r = 0; r < 2; r++) for (int c = 0; c < 4; c++) for (int w = 0; w < 3; w++) for (int k = 0; k < (batch == both ? 4 : 2); k++) {
        // The positions of both sides are on a whole lap, so that the ring may change.
        way = (struct way){rings[r], chunks[c], writes[w], reads[k % 2], k / 2};
        sent = received = freed = 0;
        meet();
        atomic_store(&state[side].head, 0), atomic_store(&state[side].tail, 0);
        meet();
        batch(n, 0, way.ring / n + 1);
        double a = agreed(batch(n, 0, times)), b = agreed(batch(n, 0, times)), time = a < b ? a : b;
        if (time < least) least = time, won = way;
    }
    way = won;
    sent = received = freed = 0;
    meet();
    atomic_store(&state[side].head, 0), atomic_store(&state[side].tail, 0);
    meet();
    char name[128];
    snprintf(name, sizeof name, "%s(%zu) ring=%zuK chunk=%zuK write=%s read=%s%s", mode, n, way.ring >> 10, way.chunk >> 10, names[(int)way.write],
             n >= SLOW ? "around" : names[(int)way.read], way.ahead ? " ahead" : "");
    figure(name, batch, n, 0, times);
}
int main(int count, char **arguments) {
    ring[0] = map(LONGEST, 1), ring[1] = map(LONGEST, 1), state = map(4096, 1), from = map(LARGEST, 0), to = map(LARGEST, 0);
    two_sides();
    if (count > 1)
        for (int i = 1; i < count; i++) best("one", one, atol(arguments[i]) << 10), best("both", both, atol(arguments[i]) << 10);
    else {
        for (size_t n = 32 << 10; n <= LARGEST; n *= 2) best("one", one, n);
        best("both", both, 64 << 10), best("both", both, 256 << 10);
    }
    return leave();
}
