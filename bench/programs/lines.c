/* A writer of log lines: waits until GO is there, writes COUNT lines to stdout as stdio does into a pipe, marks begin and end
 * in FILE as mark.c does (INDEX, then INDEX + 1000000), and does nothing more.
 *
 *   lines FILE INDEX GO COUNT
 *
 * A line is 100 bytes with its newline: a number that counts, then text.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int tell(const char *path, long index) {
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int size = snprintf(line, sizeof line, "%ld %d %lld\n", index, (int)getpid(),
                        (long long)now.tv_sec * 1000000000 + now.tv_nsec);
    int bad = file < 0 || write(file, line, size) != size;
    close(file);
    return bad;
}

int main(int count, char **words) {
    if (count != 5) return 2;
    long index = atol(words[2]), lines = atol(words[4]);
    while (access(words[3], F_OK) != 0) usleep(1000);
    if (tell(words[1], index)) return 1;
    for (long number = 0; number < lines; number++)
        if (printf("%010ld GET /orders/%06ld 200 a line of logs as an app behind a proxy writes it, of common size\n",
                   number, number % 1000000) < 0) return 1;
    if (fflush(stdout)) return 1;
    if (tell(words[1], index + 1000000)) return 1;
    for (;;) pause();
}
