/* An idle program: says with its first instructions that it runs, then does nothing.
 *
 *   mark FILE INDEX
 *
 * appends "INDEX PID NANOSECONDS\n" (CLOCK_MONOTONIC) to FILE. O_APPEND makes lines of a thousand of them whole.
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words) {
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (count != 3) return 2;
    int file = open(words[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int size = snprintf(line, sizeof line, "%s %d %lld\n", words[2], (int)getpid(),
                        (long long)now.tv_sec * 1000000000 + now.tv_nsec);
    if (file < 0 || write(file, line, size) != size) return 1;
    close(file);
    for (;;) pause();
}
