/* A machine whose clocks are wrong, for the tests: LD_PRELOAD puts it in front of the C library.
 *
 * MINTMARK_CLOCK_SECONDS: so much time has passed; what the machine counts since it booted has gone on with the clock.
 * MINTMARK_CLOCK_JUMP: the clock alone was set by so many seconds.
 * MINTMARK_CLOCK_FROZEN: the clock stands still at this Unix time.
 * MINTMARK_BOOT: the machine was booted again, the so-maniest time, just now.
 * MINTMARK_NO_BOOT: the machine does not say what it counts.
 * MINTMARK_CLOCK_PACE: what measures how long something takes runs so many times as fast from the start of the process on, and
 * whoever waits for so long at a lock waits that much less. The time of day is as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long number(const char *name) {
    const char *seconds = getenv(name);
    return seconds ? strtoll(seconds, NULL, 10) : 0;
}

#define SECOND 1000000000LL

static long long pace = 1;
static long long begin; /* By the machine's own count, in nanoseconds. */

static long long nanoseconds(const struct timespec *time) {
    return time->tv_sec * SECOND + time->tv_nsec;
}

static struct timespec timespec_of(long long nanoseconds) {
    return (struct timespec){.tv_sec = nanoseconds / SECOND, .tv_nsec = nanoseconds % SECOND};
}

static int told(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    return real(clock, now);
}

__attribute__((constructor)) static void start(void) {
    struct timespec now;
    if (number("MINTMARK_CLOCK_PACE") > 1 && told(CLOCK_MONOTONIC, &now) == 0) {
        begin = nanoseconds(&now);
        pace = number("MINTMARK_CLOCK_PACE");
    }
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = told(clock, now);
    if (result == 0 && clock == CLOCK_MONOTONIC)
        *now = timespec_of(begin + (nanoseconds(now) - begin) * pace);
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

/* Rust waits at a lock by this call, and names the instant until when by the clock that runs fast. */
long syscall(long call, ...) {
    static long (*real)(long, ...);
    long words[6];
    va_list rest;
    va_start(rest, call);
    for (int at = 0; at < 6; at++)
        words[at] = va_arg(rest, long);
    va_end(rest);
    if (!real)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    int what = (int)words[1] & FUTEX_CMD_MASK;
    int is_instant = what == FUTEX_WAIT_BITSET && !(words[1] & FUTEX_CLOCK_REALTIME);
    struct timespec until;
    if (pace > 1 && call == SYS_futex && (is_instant || what == FUTEX_WAIT) && words[3]) {
        long long asked = nanoseconds((const struct timespec *)words[3]);
        until = timespec_of(is_instant ? begin + (asked - begin) / pace : asked / pace);
        words[3] = (long)&until;
    }
    return real(call, words[0], words[1], words[2], words[3], words[4], words[5]);
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
