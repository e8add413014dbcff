#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static void *greet(void *number) {
    printf("Hello from thread %ld\n", (long)number);
    return NULL;
}

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 1;
    pthread_t threads[64];
    for (long i = 0; i < count && i < 64; i++) pthread_create(&threads[i], NULL, greet, (void *)i);
    for (long i = 0; i < count && i < 64; i++) pthread_join(threads[i], NULL);
    return 0;
}
