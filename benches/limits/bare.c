// Tercio's lanes and streams, bare: rows 2 to 7 by the layouts of src/transport/shm and nothing else. Slots of 17 lines whose first word says that a message is there, bodies in them or in
// the long ring; the ring of a stream with its head and its tail, filled and emptied in chunks. No requests, no matching, no wake-ups, no choice on the way: for each size every
// way is tried, near and far apart, and the fastest is measured. What this does not reach, no runtime with these layouts does.
//
//     cc -O2 -march=native bare.c -o bare
//     ./bare OP BYTES ...        prints each size's time near or far, and the way that won
//     ./bare FOLDER              a job of benches/compare/jobs.py: "run OP BYTES STEPS REWRITE ..." is answered by the ns of a step, and how far apart the cores were before and after
//
// OP is latency (a step is a round trip), exchange (both send, then both receive), bandwidth (a window of 64 messages and its answer) or bibandwidth (both send a window and receive one).
#include "limits.h"
#include <immintrin.h>

enum { SLOTS = 64, SLOT = 17 * 64, BODY = 32, INLINE = SLOT - BODY - 8, SHORT = 96, LONG_MAX = 16 << 10, WINDOW = 64, BUFFERS = 4 << 20, PAST_CACHE = 1 << 20, LARGEST = 64 << 20 };
enum { SMALL_RING = 32 << 10, SHORT_RING = 256 << 10, LONG_RING = 2 << 20 };
enum { UP, DOWN, CLAIMING, AROUND, ASKING };
static const char *loops[] = {"upwards", "downwards", "upwards, lines of the target asked for ahead", "around the cache", "upwards, lines of the source asked for ahead"};

// `layout` is where a message's bytes are: in its slot, in a ring beside the slots, or in a stream. `ahead`: slots and lines are asked for ahead, as long as there is
// something to send everything is sent, and else chunk by chunk in turn with what is received.
struct way { enum { IN_SLOT, BESIDE, STREAM } layout; size_t ring, chunk; char write, read, ahead; };
static struct way way;
static char *slots[2], *rings[2], *from, *to;
static struct { _Alignas(128) _Atomic uint64_t freed; _Alignas(128) _Atomic uint64_t head; _Alignas(128) _Atomic uint64_t tail; } *shared;
// Of each direction, as this side knows it: messages and stream bytes sent or received, and what is known to be free again.
static struct { uint64_t messages, freed, bytes, bytes_freed; } at[2];

static inline __attribute__((always_inline)) void pair(char *out, const char *in, int around) {
    __m256i a = _mm256_loadu_si256((void *)in), b = _mm256_loadu_si256((void *)(in + 32));
    __m256i c = _mm256_loadu_si256((void *)(in + 64)), d = _mm256_loadu_si256((void *)(in + 96));
    __m256i *o = (void *)out;
    if (around)
        _mm256_stream_si256(o, a), _mm256_stream_si256(o + 1, b), _mm256_stream_si256(o + 2, c), _mm256_stream_si256(o + 3, d);
    else
        _mm256_storeu_si256(o, a), _mm256_storeu_si256(o + 1, b), _mm256_storeu_si256(o + 2, c), _mm256_storeu_si256(o + 3, d);
}
// Pairs of lines, and what is left over by memcpy; whole lines of the target where the copy goes around the cache.
static void copy(char *out, const char *in, size_t n, int how) {
    enum { AHEAD = 1024 };
    size_t first = how == AROUND ? -(uintptr_t)out & 63 : 0;
    first = first < n ? first : n;
    memcpy(out, in, first);
    out += first, in += first, n -= first;
    size_t pairs = n & ~(size_t)127;
    if (pairs < n) memcpy(out + pairs, in + pairs, n - pairs);
    switch (how) {
    case UP:
        for (size_t i = 0; i < pairs; i += 128) pair(out + i, in + i, 0);
        return;
    case DOWN:
        for (size_t i = pairs; i; i -= 128) pair(out + i - 128, in + i - 128, 0);
        return;
    case CLAIMING:
        for (size_t i = 0; i < AHEAD && i < pairs; i += 64) _mm_prefetch(out + i, _MM_HINT_ET0);
        for (size_t i = 0; i < pairs; i += 128) {
            if (i + AHEAD < pairs) _mm_prefetch(out + i + AHEAD, _MM_HINT_ET0), _mm_prefetch(out + i + AHEAD + 64, _MM_HINT_ET0);
            pair(out + i, in + i, 0);
        }
        return;
    case ASKING:
        for (size_t i = 0; i < pairs; i += 128) {
            if (i + AHEAD < pairs) _mm_prefetch(in + i + AHEAD, _MM_HINT_T0), _mm_prefetch(in + i + AHEAD + 64, _MM_HINT_T0);
            pair(out + i, in + i, 0);
        }
        return;
    default:
        for (size_t i = 0; i < pairs; i += 128) pair(out + i, in + i, 1);
        _mm_sfence();
    }
}

static inline _Atomic uint64_t *word(char *slot, int index) { return (_Atomic uint64_t *)slot + index; }
// A message as a slot with its head, the word with the flag last; false if no slot or no room is free now.
static inline int send_slot(size_t n, int beside) {
    uint64_t number = at[side].messages, most = beside ? way.ring / n : SLOTS;
    if (most > SLOTS) most = SLOTS;
    if (number - at[side].freed >= most && number - (at[side].freed = atomic_load_explicit(&shared[side].freed, memory_order_acquire)) >= most) return 0;
    char *slot = slots[side] + number % SLOTS * SLOT;
    if (beside) {
        size_t place = number * n % way.ring;
        copy(rings[side] + place, from, n, way.write);
        atomic_store_explicit(word(slot, 4), place, memory_order_relaxed);
        if (way.ahead) for (size_t i = 0; i < n && i < 4096; i += 64) _mm_prefetch(rings[side] + (place + n) % way.ring + i, _MM_HINT_ET0);
    } else if (n == 8)
        memcpy(slot + BODY, from, 8);
    else if (n > SHORT)
        copy(slot + BODY, from, n, way.write);
    else {
        // The line of the head last.
        for (size_t i = 32; i < n; i += 8) memcpy(slot + BODY + i, from + i, 8);
        for (size_t i = 0; i < n && i < 32; i += 8) memcpy(slot + BODY + i, from + i, 8);
    }
    atomic_store_explicit(word(slot, 1), 7, memory_order_relaxed);
    atomic_store_explicit(word(slot, 2), 1, memory_order_relaxed);
    atomic_store_explicit(word(slot, 3), 3, memory_order_relaxed);
    atomic_store_explicit(word(slot, 0), (number / SLOTS + 1) << 32 | n, memory_order_release);
    if (way.ahead) _mm_prefetch(slots[side] + (number + 8) % SLOTS * SLOT, _MM_HINT_ET0);
    at[side].messages++;
    return 1;
}
static inline int take_slot(size_t n, char *into, int beside) {
    uint64_t number = at[!side].messages;
    char *slot = slots[!side] + number % SLOTS * SLOT;
    if (atomic_load_explicit(word(slot, 0), memory_order_acquire) >> 32 != number / SLOTS + 1) return 0;
    if (way.ahead) _mm_prefetch(slots[!side] + (number + 5) % SLOTS * SLOT, _MM_HINT_T0);
    if (beside)
        copy(into, rings[!side] + atomic_load_explicit(word(slot, 4), memory_order_relaxed), n, way.read);
    else if (n == 8)
        memcpy(into, slot + BODY, 8);
    else {
        if (n > SHORT) for (size_t i = 32; i < n; i += 64) _mm_prefetch(slot + BODY + i, _MM_HINT_T0);
        memcpy(into, slot + BODY, n);
    }
    number = ++at[!side].messages;
    uint64_t quarter = (beside && way.ring / n < SLOTS ? way.ring / n : SLOTS) / 4;
    if (quarter < 2 || number % quarter == 0) atomic_store_explicit(&shared[!side].freed, number, memory_order_release);
    return 1;
}
// As much as there is room for, or there is to take, of the message of n bytes of which `done` are done: how many are done then.
static inline size_t fill(size_t n, size_t done) {
    if (way.layout != STREAM) return send_slot(n, way.layout == BESIDE) ? n : 0;
    size_t window = way.ring < LONG_RING ? way.ring : way.ring / 4, now = n - done < way.chunk ? n - done : way.chunk;
    if (at[side].bytes + now - at[side].bytes_freed > window) at[side].bytes_freed = atomic_load_explicit(&shared[side].tail, memory_order_acquire);
    if (at[side].bytes + now - at[side].bytes_freed > window) return done;
    copy(rings[side] + at[side].bytes % way.ring, from + done, now, way.write);
    atomic_store_explicit(&shared[side].head, at[side].bytes += now, memory_order_release);
    return done + now;
}
static inline size_t take(size_t n, char *into, size_t done) {
    if (way.layout != STREAM) return take_slot(n, into, way.layout == BESIDE) ? n : 0;
    size_t now = n - done < way.chunk ? n - done : way.chunk;
    if (atomic_load_explicit(&shared[!side].head, memory_order_acquire) - at[!side].bytes < now) return done;
    copy(into + done, rings[!side] + at[!side].bytes % way.ring, now, way.read);
    atomic_store_explicit(&shared[!side].tail, at[!side].bytes += now, memory_order_release);
    return done + now;
}
static inline void send_one(size_t n) { for (size_t done = 0; done < n;) done = fill(n, done); }
static inline void take_one(size_t n, char *into) { for (size_t done = 0; done < n;) done = take(n, into, done); }

static int rewrite;
static void write_anew(size_t n) {
    static int round;
    if (rewrite) memset(from, ++round, n);
}
static double latency(size_t n, size_t unused, int steps) {
    (void)unused;
    double start = now();
    for (int i = 0; i < 2 * steps; i++)
        if ((i & 1) == side) write_anew(n), send_one(n);
        else take_one(n, to);
    return (now() - start) / steps;
}
// `count` messages both ways at once, into a buffer each.
static void both(size_t n, int count) {
    size_t out = 0, in = 0;
    for (int sent = 0, taken = 0; sent < count || taken < count;) {
        while (sent < count) {
            size_t before = out;
            out = fill(n, out);
            if (out == n) out = 0, sent++;
            else if (out == before) break;
            if (!way.ahead) break;
        }
        while (taken < count) {
            size_t before = in;
            in = take(n, to + (size_t)taken * n, in);
            if (in == n) in = 0, taken++;
            else if (in == before) break;
            if (!way.ahead) break;
        }
    }
}
static double exchange(size_t n, size_t unused, int steps) {
    (void)unused;
    double start = now();
    for (int i = 0; i < steps; i++) write_anew(n), both(n, 1);
    return (now() - start) / steps;
}
static int at_once(size_t n) { return BUFFERS / n > WINDOW ? WINDOW : BUFFERS / n ? BUFFERS / n : 1; }
static double bandwidth(size_t n, size_t unused, int steps) {
    (void)unused;
    char answer[8];
    double start = now();
    for (int i = 0; i < steps; i++)
        if (!side) {
            write_anew(n);
            for (int k = 0; k < WINDOW; k++) send_one(n);
            while (!take_slot(8, answer, 0)) {}
        } else {
            for (int k = 0; k < WINDOW; k++) take_one(n, to + k % at_once(n) * n);
            while (!send_slot(8, 0)) {}
        }
    return (now() - start) / steps;
}
static double bibandwidth(size_t n, size_t unused, int steps) {
    (void)unused;
    double start = now();
    for (int i = 0; i < steps; i++) {
        write_anew(n);
        for (int k = 0; k < WINDOW; k += at_once(n)) both(n, at_once(n));
    }
    return (now() - start) / steps;
}
static const struct { const char *name; double (*batch)(size_t, size_t, int); int messages; } ops[] = {
    {"latency", latency, 2}, {"exchange", exchange, 2}, {"bandwidth", bandwidth, WINDOW}, {"bibandwidth", bibandwidth, 2 * WINDOW}};

// Side 0 tells both what a time means: the two must choose alike.
static double agreed(double value) {
    if (!side) atomic_store(words + 256, (uint64_t)(value * 16));
    meet();
    value = atomic_load(words + 256) / 16.0;
    meet();
    return value;
}
static void begin(struct way with) {
    way = with;
    memset(at, 0, sizeof at);
    meet();
    memset(slots[side], 0, SLOTS * SLOT);
    atomic_store(&shared[side].freed, 0), atomic_store(&shared[side].head, 0), atomic_store(&shared[side].tail, 0);
    meet();
}
static int ways_of(size_t n, int op, struct way *ways) {
    static const char writes[] = {AROUND, UP, CLAIMING, DOWN}, reads[] = {UP, DOWN, ASKING, AROUND};
    int count = 0, orders = ops[op].batch == latency ? 1 : 2;
    if (n <= INLINE)
        for (int w = UP; w <= (n > SHORT ? DOWN : UP); w++) for (int a = 0; a < 2; a++) ways[count++] = (struct way){IN_SLOT, 0, 0, w, UP, a};
    if (n > SHORT && n <= LONG_MAX)
        for (int r = 0; r < 2; r++) for (int w = 0; w < 4; w++) for (int k = 0; k < 2; k++) for (int a = 0; a < 2; a++)
            ways[count++] = (struct way){BESIDE, r ? LONG_RING : SMALL_RING, 0, writes[w], reads[k], a};
    if (n >= LONG_MAX)
        for (int r = 0; r < 2; r++) for (size_t c = 4 << 10; c <= 32 << 10; c *= 2) for (int w = 0; w < 3; w++) for (int k = 0; k < (n >= PAST_CACHE ? 4 : 3); k++)
            for (int a = 0; a < orders; a++) ways[count++] = (struct way){STREAM, r ? LONG_RING : SHORT_RING, c, writes[w], reads[k], a};
    return count;
}
// What is best for an operation of a size where the cores are as far apart as now.
static struct way best(int op, size_t n, int far) {
    enum { KEPT = 256 };
    static struct { int op, far; size_t n; struct way way; } kept[KEPT];
    static int count;
    // Longer ones go by the ways of these: the slowest of all ways takes forty times as long as the fastest.
    size_t tried = ops[op].messages < WINDOW ? 8 << 20 : 1 << 20;
    n = n < tried ? n : tried;
    for (int i = 0; i < count; i++)
        if (kept[i].op == op && kept[i].n == n && kept[i].far == far) return kept[i].way;
    struct way ways[256], won = {0};
    int tries = ways_of(n, op, ways), steps = (1 << 20) / n / ops[op].messages;
    int fewest = ops[op].messages < WINDOW ? 4 : 1;
    steps = steps < fewest ? fewest : steps > 300 ? 300 : steps;
    double least = 1e30;
    for (int i = 0; i < tries; i++) {
        begin(ways[i]);
        if (agreed(ops[op].batch(n, 0, 1 + LONG_RING / n / ops[op].messages)) > 4 * least) continue;
        double a = agreed(ops[op].batch(n, 0, steps)), b = agreed(ops[op].batch(n, 0, steps)), time = a < b ? a : b;
        if (time < least) least = time, won = ways[i];
    }
    if (count < KEPT) kept[count].op = op, kept[count].far = far, kept[count].n = n, kept[count++].way = won;
    return won;
}
static double run(int op, size_t n, int steps, double *before, double *after) {
    meet();
    *before = agreed(distance());
    struct way chosen = best(op, n, *before > 130);
    begin(chosen);
    ops[op].batch(n, 0, steps / 4 + 1);
    meet();
    *before = distance();
    double time = ops[op].batch(n, 0, steps);
    meet();
    *after = distance();
    return time;
}
static int op_of(const char *name) {
    for (int op = 0; op < 4; op++) if (!strcmp(name, ops[op].name)) return op;
    fprintf(stderr, "there is no %s\n", name);
    exit(2);
}
static int serve(const char *folder) {
    char path[4096], line[256], name[32];
    snprintf(path, sizeof path, "%s/in.%d", folder, side);
    FILE *commands = fopen(path, "r");
    snprintf(path, sizeof path, "%s/out.%d", folder, side);
    FILE *answers = fopen(path, "w");
    if (!commands || !answers) return 1;
    fprintf(answers, "ready bare\n");
    fflush(answers);
    while (fgets(line, sizeof line, commands)) {
        size_t n;
        int steps;
        double before, after;
        if (sscanf(line, "run %31s %zu %d %d", name, &n, &steps, &rewrite) != 4 || n < 8 || n > LARGEST) return 2;
        double time = run(op_of(name), n, steps, &before, &after);
        fprintf(answers, "%.1f %.1f %.1f\n", time, before, after);
        fflush(answers);
    }
    return 0;
}
int main(int count, char **arguments) {
    if (count < 2) return 2;
    for (int d = 0; d < 2; d++) slots[d] = map(SLOTS * SLOT, 1), rings[d] = map(LONG_RING, 1);
    shared = map(4096, 1);
    // As the heap gives large memory: 16 bytes behind a page.
    from = (char *)map(LARGEST + 4096, 0) + 16, to = (char *)map(LARGEST + 4096, 0) + 16;
    two_sides();
    int failed = 0;
    if (count == 2)
        failed = serve(arguments[1]);
    else
        for (int i = 2, op = op_of(arguments[1]); i < count; i++) {
            enum { TIMES = 7 };
            double times[TIMES], before, after;
            size_t n = atol(arguments[i]);
            int steps = (4 << 20) / n / ops[op].messages;
            for (int k = 0; k < TIMES; k++) times[k] = run(op, n, steps < 3 ? 3 : steps > 2000 ? 2000 : steps, &before, &after);
            qsort(times, TIMES, sizeof *times, by_size);
            if (!side)
                printf("%s(%zu) %.1f ns a message, cores %.0f ns apart; ring %zu KiB, chunks of %zu KiB, written %s, read %s%s\n", arguments[1], n, times[TIMES / 2] / ops[op].messages, after,
                       way.ring >> 10, way.chunk >> 10, loops[(int)way.write], loops[(int)way.read], way.ahead ? ", ahead" : "");
        }
    int code = leave();
    return failed ? failed : code;
}
