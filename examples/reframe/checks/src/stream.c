/* Bandwidths of simple loops over large arrays, after the idea of J. D. McCalpin's STREAM benchmark. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
    size_t n = (argc > 1 ? strtoul(argv[1], NULL, 10) : 1000) * 1000;
    double *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b), *c = malloc(n * sizeof *c);
    double best_copy = 1e9, best_scale = 1e9, best_triad = 1e9, start, spent;
    if (!a || !b || !c) return 1;
    for (size_t i = 0; i < n; i++) { a[i] = 1.0; b[i] = 2.0; c[i] = 0.0; }
    for (int round = 0; round < 5; round++) {
        start = now();
        for (size_t i = 0; i < n; i++) c[i] = a[i];
        if ((spent = now() - start) < best_copy) best_copy = spent;
        start = now();
        for (size_t i = 0; i < n; i++) b[i] = 3.0 * c[i];
        if ((spent = now() - start) < best_scale) best_scale = spent;
        start = now();
        for (size_t i = 0; i < n; i++) a[i] = b[i] - 2.0 * c[i];
        if ((spent = now() - start) < best_triad) best_triad = spent;
    }
    printf("Copy:  %12.1f MB/s\n", 2e-6 * n * sizeof(double) / best_copy);
    printf("Scale: %12.1f MB/s\n", 2e-6 * n * sizeof(double) / best_scale);
    printf("Triad: %12.1f MB/s\n", 3e-6 * n * sizeof(double) / best_triad);
    for (size_t i = 0; i < n; i++)
        if (a[i] != 1.0) return puts("Solution is wrong"), 1;
    puts("Solution validates");
    return 0;
}
