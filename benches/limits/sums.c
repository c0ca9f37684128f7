// A sum of doubles for both of two sides, without a runtime: the least that an allreduce among two ranks takes through shared memory, in the layout of its cells.
// Not one of the limits that --check-limits compares; docs/performance.md says what it is for. ns for each sum:
//
//     cc -O3 -march=native -o /tmp/sums benches/limits/sums.c && /tmp/sums
#include "limits.h"

enum { RING = 2 << 20, LONGEST = 1 << 20 };
#define WHOLE(piece) (piece)
#define HALVES(piece) ((piece) | 1)
#define UPWARDS(shape) ((shape) | 2)

static char *ring[2], *own, *sum;
static _Atomic uint64_t *said[2];   // what each side has announced: one line each
static uint64_t round_;
static size_t next;
static int upwards; // read from the start on, for cores around one cache; else from the end on

static size_t place(size_t n) {
    if (next % RING + n > RING) next += RING - next % RING;
    size_t at = next % RING;
    next += n;
    return at;
}
static void say(uint64_t r) { atomic_store_explicit(said[side], r, memory_order_release); }
static void hear(uint64_t r) {
    while (atomic_load_explicit(said[!side], memory_order_acquire) < r) {}
}
// out = a + b, from the end on or upwards, in blocks that the compiler makes wide.
static void fold(char *out, const char *a, const char *b, size_t n) {
    size_t block = upwards ? n : 1024;
    for (size_t at = n; at > 0;) {
        size_t len = at < block ? at : block;
        at -= len;
        double *restrict o = (double *)(out + at);
        const double *x = (const double *)(a + at), *y = (const double *)(b + at);
        for (size_t i = 0; i < len / 8; i++) {
            double s = x[i] + y[i];
            o[i] = s == s ? s : __builtin_nan("");
        }
    }
}
// What the other core has just written is read from its end, unless its cache is this core's as well.
static void take(char *to, const char *from, size_t n) {
    size_t block = upwards ? n : 256;
    for (size_t at = n; at > 0;) {
        size_t len = at < block ? at : block;
        at -= len;
        memcpy(to + at, from + at, len);
    }
}
// Each side writes all of its contribution for the other, a piece ahead of what it reads, and both fold everything.
static void whole(size_t n, size_t piece) {
    size_t count = n / piece, at[2];
    for (size_t i = 0; i <= count; i++) {
        if (i < count) {
            at[i % 2] = place(piece);
            memcpy(ring[side] + at[i % 2], own + i * piece, piece);
            say(round_ + i + 1);
        }
        if (i > 0) {
            size_t j = i - 1;
            hear(round_ + j + 1);
            fold(sum + j * piece, own + j * piece, ring[!side] + at[j % 2], piece);
        }
    }
    round_ += count;
}
// Each side writes the half of a piece that the other folds, folds its own, writes that for the other, and takes the other's.
static void halves(size_t n, size_t piece) {
    enum { BLOCK = 4096 };
    size_t half = piece / 2;
    for (size_t from = 0; from < n; from += piece) {
        size_t mine = from + side * half, theirs = from + !side * half;
        size_t first = place(half), second = place(half);
        memcpy(ring[side] + first, own + theirs, half);
        say(++round_);
        hear(round_);
        for (size_t at = half; at > 0;) {
            at -= BLOCK;
            fold(sum + mine + at, own + mine + at, ring[!side] + first + at, BLOCK);
            memcpy(ring[side] + second + at, sum + mine + at, BLOCK);
        }
        say(++round_);
        hear(round_);
        take(sum + theirs, ring[!side] + second, half);
    }
}
static double sums(size_t n, size_t shape, int times) {
    meet();
    upwards = shape >> 1 & 1;
    double start = now();
    for (int i = 0; i < times; i++) shape & 1 ? halves(n, shape & ~(size_t)3) : whole(n, shape & ~(size_t)3);
    return (now() - start) / times;
}
int main(void) {
    for (int i = 0; i < 2; i++) ring[i] = map(RING, 1), said[i] = map(4096, 1);
    own = map(LONGEST, 0), sum = map(LONGEST, 0);
    two_sides();
    figure("sum(65536)-whole-16K", sums, 65536, WHOLE(16384), 256);
    figure("sum(65536)-whole-64K", sums, 65536, WHOLE(65536), 256);
    figure("sum(65536)-halves", sums, 65536, HALVES(65536), 256);
    figure("sum(1048576)-whole-32K", sums, 1 << 20, WHOLE(32768), 32);
    figure("sum(1048576)-halves-128K", sums, 1 << 20, HALVES(128 << 10), 32);
    figure("sum(1048576)-halves-1M", sums, 1 << 20, HALVES(1 << 20), 32);
    figure("sum(65536)-whole-16K-upwards", sums, 65536, UPWARDS(WHOLE(16384)), 256);
    figure("sum(65536)-whole-64K-upwards", sums, 65536, UPWARDS(WHOLE(65536)), 256);
    figure("sum(1048576)-whole-32K-upwards", sums, 1 << 20, UPWARDS(WHOLE(32768)), 32);
    figure("sum(1048576)-whole-512K-upwards", sums, 1 << 20, UPWARDS(WHOLE(512 << 10)), 32);
    figure("sum(1048576)-halves-1M-upwards", sums, 1 << 20, UPWARDS(HALVES(1 << 20)), 32);
    return leave();
}
