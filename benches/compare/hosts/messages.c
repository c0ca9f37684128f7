// The loops of `tercio bench` for other MPIs, each rank on a core of its own: microseconds a message, the median of 15 batches.
//     messages latency|window BYTES
#define _GNU_SOURCE
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 64, BATCHES = 15 };

static int compare(const void *a, const void *b) {
    double x = *(double *)a, y = *(double *)b;
    return x < y ? -1 : x > y;
}

int main(int count, char **words) {
    int rank;
    MPI_Init(&count, &words);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    int latency = !strcmp(words[1], "latency"), n = atoi(words[2]);
    cpu_set_t core;
    CPU_ZERO(&core);
    CPU_SET(rank, &core);
    sched_setaffinity(0, sizeof core, &core);
    // As many buffers as `tercio bench` has: up to 4 MiB together.
    int at_once = (4 << 20) / n < 1 ? 1 : (4 << 20) / n > WINDOW ? WINDOW : (4 << 20) / n;
    char *out = malloc(n), *in = malloc((size_t)n * at_once);
    memset(out, 1, n);
    memset(in, 1, (size_t)n * at_once);
    MPI_Request requests[WINDOW];
    MPI_Status statuses[WINDOW];
    double times[BATCHES];
    int steps = latency ? n < 65536 ? 500 : 10 + (4 << 20) / n : n < 65536 ? 50 : 2 + (1 << 20) / n;
    for (int batch = -2; batch < BATCHES; batch++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double start = MPI_Wtime();
        for (int step = 0; step < steps; step++) {
            if (latency) {
                for (int turn = 0; turn < 2; turn++)
                    if (rank == turn)
                        MPI_Send(out, n, MPI_CHAR, !rank, 1, MPI_COMM_WORLD);
                    else
                        MPI_Recv(in, n, MPI_CHAR, !rank, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            } else if (rank == 0) {
                for (int i = 0; i < WINDOW; i++)
                    MPI_Isend(out, n, MPI_CHAR, 1, 1, MPI_COMM_WORLD, requests + i);
                MPI_Waitall(WINDOW, requests, statuses);
                MPI_Recv(in, 1, MPI_CHAR, 1, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            } else {
                for (int done = 0; done < WINDOW; done += at_once) {
                    for (int i = 0; i < at_once; i++)
                        MPI_Irecv(in + (size_t)i * n, n, MPI_CHAR, 0, 1, MPI_COMM_WORLD, requests + i);
                    MPI_Waitall(at_once, requests, statuses);
                }
                MPI_Send(out, 1, MPI_CHAR, 0, 2, MPI_COMM_WORLD);
            }
        }
        if (batch >= 0)
            times[batch] = (MPI_Wtime() - start) * 1e6 / steps / (latency ? 2 : WINDOW);
    }
    qsort(times, BATCHES, sizeof *times, compare);
    if (!rank)
        printf("%.3f\n", times[BATCHES / 2]);
    MPI_Finalize();
    return 0;
}
