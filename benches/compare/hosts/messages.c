// The loops of benches/compare for other MPIs over TCP, each rank on a core of its own. A job of benches/compare/jobs.py:
//     messages FOLDER          commands come by FOLDER/in.RANK, answers go by FOLDER/out.RANK
// "run latency|bandwidth BYTES STEPS ..." is answered by the ns of a step: a round trip, or a window of 64 messages and its answer.
#define _GNU_SOURCE
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 64, ROOM = 4 << 20 };
static char *out, *in;
static int rank;

static void work(int latency, int n, int steps) {
    MPI_Request requests[WINDOW];
    MPI_Status statuses[WINDOW];
    // As many buffers as the other programs have: up to 4 MiB together.
    int at_once = ROOM / n > WINDOW ? WINDOW : ROOM / n;
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
}

int main(int count, char **words) {
    MPI_Init(&count, &words);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    cpu_set_t core;
    CPU_ZERO(&core);
    CPU_SET(rank, &core);
    sched_setaffinity(0, sizeof core, &core);
    out = malloc(ROOM), in = malloc(ROOM);
    memset(out, 1, ROOM), memset(in, 1, ROOM);
    char path[4096], line[256], op[32], version[MPI_MAX_LIBRARY_VERSION_STRING];
    snprintf(path, sizeof path, "%s/in.%d", words[1], rank);
    FILE *commands = fopen(path, "r");
    snprintf(path, sizeof path, "%s/out.%d", words[1], rank);
    FILE *answers = fopen(path, "w");
    MPI_Get_library_version(version, &count);
    version[strcspn(version, "\n")] = 0;
    fprintf(answers, "ready %s\n", version);
    fflush(answers);
    int n, steps;
    while (fgets(line, sizeof line, commands) && sscanf(line, "run %31s %d %d", op, &n, &steps) == 3) {
        int latency = !strcmp(op, "latency");
        work(latency, n, (steps + 3) / 4);
        MPI_Barrier(MPI_COMM_WORLD);
        double start = MPI_Wtime();
        work(latency, n, steps);
        fprintf(answers, "%.1f 0 0\n", (MPI_Wtime() - start) * 1e9 / steps);
        fflush(answers);
    }
    MPI_Finalize();
    return 0;
}
