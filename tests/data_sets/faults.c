/* Preloaded into the program by interrupted.rs: ends it, or fails its calls, at a chosen place.
 *
 * KILL_AT=n      the process ends before its n-th call that changes what is on disk
 * FULL_AFTER=n   writes beyond n bytes in all find no room
 * BROKEN=text    reads of files with this text in their path fail as those of a broken disk
 *
 * Standard output and error are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static atomic_long calls, written;

static void step(void) {
    const char *at = getenv("KILL_AT");
    if (at && atomic_fetch_add(&calls, 1) + 1 == atol(at)) _exit(137);
}

ssize_t write(int file, const void *bytes, size_t count) {
    NEXT(write);
    if (file > 2) {
        step();
        const char *room = getenv("FULL_AFTER");
        if (room && atomic_fetch_add(&written, count) + (long)count > atol(room)) {
            errno = ENOSPC;
            return -1;
        }
    }
    return next(file, bytes, count);
}

ssize_t read(int file, void *bytes, size_t count) {
    NEXT(read);
    const char *broken = getenv("BROKEN");
    if (broken) {
        char link[64], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length > 0 ? length : 0] = 0;
        if (strstr(path, broken)) {
            errno = EIO;
            return -1;
        }
    }
    return next(file, bytes, count);
}

int open64(const char *path, int flags, ...) {
    NEXT(open64);
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (flags & O_CREAT) step();
    return next(path, flags, mode);
}

int rename(const char *from, const char *to) {
    NEXT(rename);
    step();
    return next(from, to);
}

int unlink(const char *path) {
    NEXT(unlink);
    step();
    return next(path);
}

int fsync(int file) {
    NEXT(fsync);
    step();
    return next(file);
}

int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    step();
    return next(path, mode);
}
