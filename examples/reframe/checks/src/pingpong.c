#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static double exchange(char *buffer, int size, int rounds, int rank) {
    double start = MPI_Wtime();
    for (int i = 0; i < rounds; i++) {
        if (rank == 0) {
            MPI_Send(buffer, size, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(buffer, size, MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else if (rank == 1) {
            MPI_Recv(buffer, size, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(buffer, size, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
        }
    }
    return (MPI_Wtime() - start) / (2.0 * rounds);
}

int main(int argc, char **argv) {
    int rank, ranks, large = 1 << 20;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    char *buffer = calloc(large, 1);
    double small_time = ranks > 1 ? exchange(buffer, 1, 100, rank) : 0;
    double large_time = ranks > 1 ? exchange(buffer, large, 20, rank) : 1;
    if (rank == 0)
        printf("%d ranks: latency %.2f us, bandwidth %.1f MB/s\n", ranks, 1e6 * small_time, 1e-6 * large / large_time);
    MPI_Finalize();
    return 0;
}
