// Rows 16 to 18 without a runtime: the same loops, buffers and cores, over one raw TCP connection with whatever settings are asked for. Two processes, a job of
// benches/compare/jobs.py like the others:
//     wire FOLDER 0 ADDRESS PORT        on core 0 of the first host, at this port and the next one
//     wire FOLDER 1 ADDRESS PORT        on core 1 of the second
// "run latency|bandwidth BYTES STEPS ROOM PIECE SPIN TUNED ..." is answered by the ns of a step: a round trip, or a window of 64 messages and its answer. ROOM is SO_SNDBUF, 0 the kernel's
// own choice; PIECE the most that is given to one recv, 0 a message; SPIN whether calls are tried again and again, or block; TUNED whether the connection was made with Reno instead of the
// system's congestion control, and acknowledges short messages of a latency when they come, where it spins (SO_RCVLOWAT of 64 KiB), as Tercio's do on a short path. Messages of a window that are shorter than 1 KiB leave in one call.
// Process 1 also tells how far apart the cores are: "distance" is answered by ns, half the round trip of a cache line.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROOMS = 32, UNHEARD = 64 << 10, SHORT = 32 << 10, WINDOW = 64, BUFFERS = 4 << 20, TOGETHER = 1 << 10, TURNS = 2000 };
static char *out, *in;
static int fd = -1, side, flags;
static size_t piece;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void pin(int to) {
    cpu_set_t core;
    CPU_ZERO(&core);
    CPU_SET(to, &core);
    pthread_setaffinity_np(pthread_self(), sizeof core, &core);
}

static void put(const char *from, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t moved = send(fd, from + at, n - at, flags | MSG_NOSIGNAL);
        if (moved > 0)
            at += moved;
        else if (moved == 0 || errno != EAGAIN)
            exit(1);
    }
}

static void take(char *to, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t moved = recv(fd, to + at, piece && piece < n - at ? piece : n - at, flags);
        if (moved > 0)
            at += moved;
        else if (moved == 0 || errno != EAGAIN)
            exit(1);
    }
}

static void work(int latency, size_t n, int steps) {
    size_t all = n * WINDOW, at_once = BUFFERS / n > WINDOW ? WINDOW : BUFFERS / n;
    for (int step = 0; step < steps; step++) {
        if (latency && side == 0)
            put(out, n), take(in, n);
        else if (latency)
            take(in, n), put(out, n);
        else if (side == 0) {
            for (size_t at = 0; at < all; at += n < TOGETHER ? all : n)
                put(out, n < TOGETHER ? all : n);
            take(in, 1);
        } else {
            for (size_t i = 0; n < TOGETHER ? i < 1 : i < WINDOW; i++)
                take(in + i % at_once * n, n < TOGETHER ? all : n);
            put(out, 1);
        }
    }
}

// One for each way, 512 bytes apart, as the runtime's slots and all other probes have them: one line that goes back and forth is here in half the time.
static struct {
    _Alignas(512) atomic_uint there;
    _Alignas(512) atomic_uint back;
} ball;

static void *other(void *unused) {
    (void)unused;
    pin(0);
    for (unsigned turn = 1; turn <= TURNS; turn++) {
        while (atomic_load_explicit(&ball.there, memory_order_acquire) != turn) {}
        atomic_store_explicit(&ball.back, turn, memory_order_release);
    }
    return 0;
}

static double distance(void) {
    pthread_t thread;
    atomic_store(&ball.there, 0);
    atomic_store(&ball.back, 0);
    pthread_create(&thread, 0, other, 0);
    double start = 0;
    for (unsigned turn = 1; turn <= TURNS; turn++) {
        atomic_store_explicit(&ball.there, turn, memory_order_release);
        while (atomic_load_explicit(&ball.back, memory_order_acquire) != turn) {}
        // The first turns wait for the thread to run.
        if (turn == TURNS / 4)
            start = now();
    }
    double time = (now() - start) / (TURNS - TURNS / 4) / 2;
    pthread_join(thread, 0);
    return time;
}

int main(int count, char **words) {
    if (count < 5)
        return 2;
    side = atoi(words[2]);
    pin(side);
    out = malloc(BUFFERS), in = malloc(BUFFERS);
    memset(out, 1, BUFFERS), memset(in, 1, BUFFERS);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(words[4]))};
    inet_pton(AF_INET, words[3], &at.sin_addr);
    int listeners[2], one = 1, n, steps, wanted, spin, tuned, rooms[ROOMS], connections[ROOMS];
    for (int i = 0; i < ROOMS; i++)
        rooms[i] = -1;
    for (tuned = 0; tuned < 2; tuned++) {
        int listener = listeners[tuned] = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (tuned)
            setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
        at.sin_port = htons(atoi(words[4]) + tuned);
        if (side == 0 && (bind(listener, (void *)&at, sizeof at) || listen(listener, 8)))
            return 1;
    }
    char path[4096], line[256], op[32];
    snprintf(path, sizeof path, "%s/in.%d", words[1], side);
    FILE *commands = fopen(path, "r");
    snprintf(path, sizeof path, "%s/out.%d", words[1], side);
    FILE *answers = fopen(path, "w");
    fprintf(answers, "ready raw sockets\n");
    fflush(answers);
    while (fgets(line, sizeof line, commands)) {
        if (!strncmp(line, "distance", 8)) {
            fprintf(answers, "%.1f\n", distance());
            fflush(answers);
            continue;
        }
        if (sscanf(line, "run %31s %d %d %d %zu %d %d", op, &n, &steps, &wanted, &piece, &spin, &tuned) != 7)
            return 2;
        // Each size of the send buffer has a connection of its own, which lives as long as those of the others: what the kernel has learned about one stays with it.
        int at_room = 0, room = 2 * wanted + tuned;
        while (rooms[at_room] >= 0 && rooms[at_room] != room)
            if (++at_room == ROOMS)
                return 2;
        if (rooms[at_room] < 0) {
            if (side == 0)
                fd = accept(listeners[tuned], 0, 0);
            else
                for (int tries = 0; tries < 5000; tries++, usleep(1000), close(fd)) {
                    fd = socket(AF_INET, SOCK_STREAM, 0);
                    at.sin_port = htons(atoi(words[4]) + tuned);
                    if (tuned)
                        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
                    if (!connect(fd, (void *)&at, sizeof at))
                        break;
                }
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            if (wanted)
                setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);
            rooms[at_room] = room;
            connections[at_room] = fd;
        }
        fd = connections[at_room];
        flags = spin ? MSG_DONTWAIT : 0;
        int latency = !strcmp(op, "latency"), unheard = tuned && spin && latency && n <= SHORT ? UNHEARD : 1;
        setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &unheard, sizeof unheard);
        work(latency, n, (steps + 3) / 4);
        double start = now();
        work(latency, n, steps);
        fprintf(answers, "%.1f 0 0\n", (now() - start) / steps);
        fflush(answers);
    }
    return 0;
}
