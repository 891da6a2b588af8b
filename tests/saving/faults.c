/* Calls that fail as on a bad device, loaded before the C library (LD_PRELOAD).
 *
 * FAULT="CALL PART SKIP COUNT ERROR": of the calls CALL (read, write, fsync) on files whose path has
 * PART in it, COUNT after the first SKIP fail with the number ERROR; a write has then written half. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int strikes(const char *call, int fd) {
    static atomic_int seen;
    char wanted[16], part[64], link[64], path[4096];
    int skip, count, error;
    const char *fault = getenv("FAULT");
    if (!fault || sscanf(fault, "%15s %63s %d %d %d", wanted, part, &skip, &count, &error) != 5
        || strcmp(call, wanted) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, part)) return 0;
    int number = atomic_fetch_add(&seen, 1);
    return number >= skip && number - skip < count ? error : 0;
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    ssize_t (*real)(int, void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pread64");
    int error = strikes("read", fd);
    if (!error) return real(fd, bytes, count, at);
    errno = error;
    return -1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    int error = strikes("write", fd);
    if (!error) return real(fd, bytes, count);
    if (real(fd, bytes, count / 2) < 0) return -1;
    errno = error;
    return -1;
}

int fsync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    int error = strikes("fsync", fd);
    if (!error) return real(fd);
    errno = error;
    return -1;
}
