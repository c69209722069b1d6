/* A machine whose clocks are wrong, for the tests: LD_PRELOAD puts it in front of the C library.
 *
 * MINTMARK_CLOCK_SECONDS: so much time has passed; what the machine counts since it booted has gone on with the clock.
 * MINTMARK_CLOCK_JUMP: the clock alone was set by so many seconds.
 * MINTMARK_CLOCK_FROZEN: the clock stands still at this Unix time.
 * MINTMARK_BOOT: the machine was booted again, the so-maniest time, just now.
 * MINTMARK_NO_BOOT: the machine does not say what it counts.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long number(const char *name) {
    const char *seconds = getenv(name);
    return seconds ? strtoll(seconds, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        if (getenv("MINTMARK_CLOCK_FROZEN"))
            now->tv_sec = (time_t)number("MINTMARK_CLOCK_FROZEN");
        else
            now->tv_sec += (time_t)(number("MINTMARK_CLOCK_SECONDS") + number("MINTMARK_CLOCK_JUMP"));
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
        return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}

static int holding(const char *text) {
    int file = memfd_create("clock", MFD_CLOEXEC);
    if (file >= 0 && (write(file, text, strlen(text)) < 0 || lseek(file, 0, SEEK_SET) < 0)) {
        close(file);
        return -1;
    }
    return file;
}

/* What the machine counts; -2 for every other file. */
static int counted(const char *path) {
    int uptime = path && strcmp(path, "/proc/uptime") == 0;
    if (!uptime && !(path && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0))
        return -2;
    if (getenv("MINTMARK_NO_BOOT")) {
        errno = ENOENT;
        return -1;
    }
    char text[64];
    if (uptime) {
        struct timespec now;
        if (clock_gettime(CLOCK_BOOTTIME, &now) != 0)
            return -1;
        long long seconds = now.tv_sec + number("MINTMARK_CLOCK_SECONDS");
        snprintf(text, sizeof text, "%lld.00 0.00\n", seconds < 0 ? 0 : seconds);
        return holding(text);
    }
    if (!getenv("MINTMARK_BOOT"))
        return -2;
    snprintf(text, sizeof text, "00000000-0000-4000-8000-%012llx\n", number("MINTMARK_BOOT"));
    return holding(text);
}

#define OPEN(NAME)                                                             \
    int NAME(const char *path, int flags, ...) {                               \
        static int (*real)(const char *, int, ...);                            \
        va_list rest;                                                          \
        va_start(rest, flags);                                                 \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;      \
        va_end(rest);                                                          \
        int file = counted(path);                                              \
        if (file != -2)                                                        \
            return file;                                                       \
        if (!real)                                                             \
            real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #NAME);   \
        return real(path, flags, mode);                                        \
    }

OPEN(open)
OPEN(open64)
