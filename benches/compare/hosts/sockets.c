// What a raw TCP connection does between two processes on two cores, both spinning: half a round trip, and a stream that is answered at its end.
// The least of several sizes of the send buffer is printed; 0 is the kernel's own choice.
//     sockets serve ADDRESS PORT latency|bandwidth BYTES        first, on one host
//     sockets call  ADDRESS PORT latency|bandwidth BYTES        then, on the other
// With the word "plain" behind these: blocking calls, on any core, with the kernel's choice alone; the median of 20 windows of 64 messages, each of which is
// answered, as `tercio bench` has them, behind two that warm the connection.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int fd, flags = MSG_DONTWAIT;
static char *buffer;

static int less(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec * 1e-3;
}

static void move(size_t n, int sends) {
    for (size_t at = 0; at < n;) {
        ssize_t moved = sends ? send(fd, buffer + at, n - at, flags | MSG_NOSIGNAL) : recv(fd, buffer + at, n - at, flags);
        if (moved > 0)
            at += moved;
        else if (moved == 0 || errno != EAGAIN)
            exit(1);
    }
}

int main(int count, char **words) {
    if (count < 6)
        return 2;
    int first = !strcmp(words[1], "serve"), latency = !strcmp(words[4], "latency"), one = 1;
    size_t n = strtoul(words[5], 0, 10);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(words[3]))};
    inet_pton(AF_INET, words[2], &at.sin_addr);
    unsigned choices = 5;
    if (count > 6) {
        flags = 0;
        choices = 1;
    } else {
        cpu_set_t core;
        CPU_ZERO(&core);
        CPU_SET(!first, &core);
        sched_setaffinity(0, sizeof core, &core);
    }
    buffer = malloc(n);
    memset(buffer, 1, n);
    static const int sizes[] = {0, 128 << 10, 256 << 10, 512 << 10, 1 << 20};
    double best = 1e18;
    int best_size = 0;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (first && (bind(listener, (void *)&at, sizeof at) || listen(listener, 8)))
        return 1;
    for (unsigned which = 0; which < choices; which++) {
        if (first)
            fd = accept(listener, 0, 0);
        else
            for (int tries = 0; tries < 5000; tries++, usleep(1000), close(fd)) {
                fd = socket(AF_INET, SOCK_STREAM, 0);
                if (!connect(fd, (void *)&at, sizeof at))
                    break;
            }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (sizes[which])
            setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sizes[which], sizeof sizes[which]);
        if (!flags && !latency) {
            double windows[22];
            for (int window = 0; window < 22; window++) {
                double start = now();
                for (int message = 0; message < 64; message++)
                    move(n, first);
                move(1, !first);
                windows[window] = (now() - start) / 64;
            }
            qsort(windows + 2, 20, sizeof windows[0], less);
            best = (windows[11] + windows[12]) / 2;
            close(fd);
            break;
        }
        int steps = latency ? n < 65536 ? 1000 : 20 + (8 << 20) / n : 16 + (64 << 20) / n;
        for (int batch = 0; batch < 4; batch++) {
            double start = now();
            for (int step = 0; step < steps; step++) {
                move(n, first);
                if (latency)
                    move(latency ? n : 1, !first);
            }
            if (!latency)
                move(1, !first);
            double each = (now() - start) / steps / (latency ? 2 : 1);
            // The first one warms the connection.
            if (batch && each < best)
                best = each, best_size = sizes[which];
        }
        close(fd);
    }
    if (first)
        printf("%.3f %d\n", best, best_size);
    return 0;
}
