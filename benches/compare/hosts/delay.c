// A long path between two network namespaces: an interface in each, and every packet arrives so many milliseconds later.
//     delay SPACE-A SPACE-B MILLISECONDS      until it is ended; 10.99.0.1 and 10.99.0.2, both interfaces are called slow0
// It says "ready" when the path stands. Packets wait in rings of memory that is written once before: the path must not be what is short of time.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { MTU = 65000, ROOM = MTU + 64, PACKETS = 1024, BATCH = 8 };

struct way {
    int here, there;
    // Packets from `first` to `next`, each with the time when it is due; places are their numbers modulo PACKETS.
    uint64_t first, next, due[PACKETS];
    int len[PACKETS];
    char *bytes;
};

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

// An interface of the namespace whose packets we read and write.
static int interface(const char *space, const char *address) {
    char text[300];
    snprintf(text, sizeof text, "/run/netns/%s", space);
    int file = open(text, O_RDONLY | O_CLOEXEC);
    if (file < 0 || setns(file, CLONE_NEWNET))
        fail(text);
    close(file);
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_name = "slow0", .ifr_flags = IFF_TUN | IFF_NO_PI};
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request))
        fail("/dev/net/tun");
    snprintf(text, sizeof text, "ip address add %s/24 dev slow0 && ip link set slow0 mtu %d txqueuelen 10000 up", address, MTU);
    if (system(text))
        fail("ip");
    return tun;
}

int main(int count, char **words) {
    if (count != 4)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Timers of other programs are late by 50 us, which would be a part of the path.
    prctl(PR_SET_TIMERSLACK, 1000);
    uint64_t delay = atof(words[3]) * 1e6;
    int ends[] = {interface(words[1], "10.99.0.1"), interface(words[2], "10.99.0.2")};
    static struct way ways[2];
    for (int i = 0; i < 2; i++) {
        ways[i].here = ends[i], ways[i].there = ends[!i];
        ways[i].bytes = malloc((size_t)ROOM * PACKETS);
        memset(ways[i].bytes, 1, (size_t)ROOM * PACKETS);
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int moved = 0;
        for (struct way *way = ways; way < ways + 2; way++) {
            // A few at a time, so that neither way nor end waits for long. What finds no room stays with the interface.
            for (int i = 0; i < BATCH && way->next - way->first < PACKETS; i++) {
                int at = way->next % PACKETS, len = read(way->here, way->bytes + (size_t)at * ROOM, ROOM);
                if (len <= 0)
                    break;
                way->len[at] = len, way->due[at] = now() + delay, way->next++, moved = 1;
            }
            for (int i = 0; i < BATCH && way->first < way->next && way->due[way->first % PACKETS] <= now(); i++) {
                int at = way->first++ % PACKETS;
                // What is not taken is lost, as on any full path.
                moved |= write(way->there, way->bytes + (size_t)at * ROOM, way->len[at]) > 0;
            }
        }
        if (moved)
            continue;
        uint64_t next = UINT64_MAX, time = now();
        struct pollfd fds[2];
        for (int i = 0; i < 2; i++) {
            struct way *way = &ways[i];
            if (way->first < way->next && way->due[way->first % PACKETS] < next)
                next = way->due[way->first % PACKETS];
            fds[i] = (struct pollfd){way->next - way->first < PACKETS ? way->here : -1, POLLIN, 0};
        }
        uint64_t left = next > time ? next - time : 0;
        struct timespec limit = {left / 1000000000, left % 1000000000};
        ppoll(fds, 2, next == UINT64_MAX ? NULL : &limit, NULL);
    }
}
