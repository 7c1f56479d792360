/* Stands before the C library of a program, and makes its hardware as a test wants it: HARDWARE_FAULTS names a file of two numbers,
 * which are read at each call, so that the test changes them while the program runs.
 *
 * - how far the clock on the wall is ahead, in seconds;
 * - how long a sync takes more than it does, in milliseconds. One that waits goes on once the number is smaller. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct faults {
    int64_t clock_seconds;
    int64_t sync_ms;
};

static volatile struct faults *faults;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HARDWARE_FAULTS");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *faults, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) abort();
    faults = map;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && faults != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += faults->clock_seconds;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &found) != 0) return -1;
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec found;
    if (clock_gettime(CLOCK_REALTIME, &found) != 0) return -1;
    if (out != NULL) *out = found.tv_sec;
    return found.tv_sec;
}

static void wait_for_disk(void) {
    for (int64_t waited = 0; faults != NULL && waited < faults->sync_ms; waited += 5) usleep(5000);
}

#define DELAYED(name, parameters, arguments)                                                                         \
    int name parameters {                                                                                            \
        static int(*real) parameters;                                                                                \
        if (real == NULL) real = (int(*) parameters)dlsym(RTLD_NEXT, #name);                                         \
        wait_for_disk();                                                                                             \
        return real arguments;                                                                                       \
    }

DELAYED(fsync, (int fd), (fd))
DELAYED(fdatasync, (int fd), (fd))
DELAYED(sync_file_range, (int fd, off64_t from, off64_t length, unsigned int flags), (fd, from, length, flags))
