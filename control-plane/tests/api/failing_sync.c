/* Stands before the C library: once the file SYNC_FAILS_IF is there, every sync of a file fails as a failing disk makes it
 * fail, and is noted in SYNC_NOTES with what it was of. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd, const char *call) {
    const char *switch_file = getenv("SYNC_FAILS_IF");
    const char *notes = getenv("SYNC_NOTES");
    if (switch_file == NULL || notes == NULL || access(switch_file, F_OK) != 0) return 0;
    char link[64], path[512], line[640];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    int note = open(notes, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (note >= 0) {
        int written = snprintf(line, sizeof line, "%s %s\n", call, path);
        if (write(note, line, written) != written) abort();
        close(note);
    }
    errno = EIO;
    return 1;
}

int fsync(int fd) {
    static int (*real)(int);
    if (real == NULL) real = dlsym(RTLD_NEXT, "fsync");
    return fails(fd, "fsync") ? -1 : real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (real == NULL) real = dlsym(RTLD_NEXT, "fdatasync");
    return fails(fd, "fdatasync") ? -1 : real(fd);
}
