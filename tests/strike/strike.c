/* Runs a command, lists every system call by which it changes something below a folder, and has one of them struck.
 *
 * strike LOG FOLDER none|kill|ERROR|ERROR+|full CALL PATTERN NTH -- COMMAND...
 *
 * LOG gets a line for each such call before it is made, whichever thread makes it: `CALL PATH`; the one that is struck,
 * `!CALL PATH`. It is the NTH of this name whose path the shell pattern fits. `kill`: nothing of it is done, and the process
 * is gone. `EIO`, say: it is not done and fails so. `EIO+`: so does every later call of that name below the folder. `full`:
 * there is no room any more, for it and for every later call below the folder that wants some.
 *
 * A call fails late, when everybody else has had the time to wait for it. A command that does not end is killed, and 124 is
 * what this ends with.
 *
 * strace counts calls by thread, and cannot tell a path whose name is random from others.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/ptrace.h>

/* Where a call names what it changes: a link, by its new name. */
enum place {
    BY_DESCRIPTOR,
    BY_PATH,
    BY_FOLDER_AND_PATH,
    BY_LATER_PATH,
    BY_LATER_FOLDER_AND_PATH,
    BY_LAST_FOLDER_AND_PATH,
};

static const struct call {
    long number;
    const char *name;
    enum place place;
    int wants_room;
} CALLS[] = {
#define CALL(name, place) {SYS_##name, #name, place, 0}
#define GROWING(name, place) {SYS_##name, #name, place, 1}
    GROWING(openat, BY_FOLDER_AND_PATH),
    GROWING(mkdirat, BY_FOLDER_AND_PATH),
    GROWING(write, BY_DESCRIPTOR),
    GROWING(pwrite64, BY_DESCRIPTOR),
    GROWING(writev, BY_DESCRIPTOR),
    GROWING(pwritev, BY_DESCRIPTOR),
    GROWING(pwritev2, BY_DESCRIPTOR),
    CALL(truncate, BY_PATH),
    CALL(ftruncate, BY_DESCRIPTOR),
    GROWING(fallocate, BY_DESCRIPTOR),
    CALL(renameat, BY_FOLDER_AND_PATH),
    CALL(renameat2, BY_FOLDER_AND_PATH),
    GROWING(linkat, BY_LAST_FOLDER_AND_PATH),
    GROWING(symlinkat, BY_LATER_FOLDER_AND_PATH),
    CALL(unlinkat, BY_FOLDER_AND_PATH),
    CALL(fsync, BY_DESCRIPTOR),
    CALL(fdatasync, BY_DESCRIPTOR),
    CALL(syncfs, BY_DESCRIPTOR),
    CALL(sync_file_range, BY_DESCRIPTOR),
    CALL(fchmod, BY_DESCRIPTOR),
    CALL(fchmodat, BY_FOLDER_AND_PATH),
    CALL(utimensat, BY_FOLDER_AND_PATH),
    GROWING(sendfile, BY_DESCRIPTOR),
#ifdef SYS_open
    /* What newer machines do not have any more. */
    GROWING(open, BY_PATH),
    GROWING(creat, BY_PATH),
    GROWING(mkdir, BY_PATH),
    CALL(rename, BY_PATH),
    GROWING(link, BY_LATER_PATH),
    GROWING(symlink, BY_LATER_PATH),
    CALL(unlink, BY_PATH),
    CALL(rmdir, BY_PATH),
    CALL(chmod, BY_PATH),
#endif
};

/* `copy_file_range` writes to its third argument. */
static const struct call COPY = {SYS_copy_file_range, "copy_file_range", BY_DESCRIPTOR, 1};

static const struct error {
    const char *name;
    long number;
} ERRORS[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EROFS", EROFS}, {"EDQUOT", EDQUOT}};

static void expect(int holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "strike: %s: %s\n", what, strerror(errno));
    exit(125);
}

static const struct call *call_of(__u64 number) {
    for (size_t i = 0; i < sizeof CALLS / sizeof *CALLS; i++)
        if ((__u64)CALLS[i].number == number)
            return &CALLS[i];
    return (__u64)COPY.number == number ? &COPY : NULL;
}

/* A link below /proc, without the word that follows the path of what was removed. */
static int link_at(pid_t thread, const char *what, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/%s", thread, what);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    char *gone = strstr(path, " (deleted)");
    if (gone && !gone[10])
        *gone = 0;
    return 1;
}

static int text_at(pid_t thread, __u64 address, char text[PATH_MAX]) {
    /* Byte by byte at the end of a page; nobody knows what is behind it. */
    size_t have = 0;
    while (have < PATH_MAX) {
        size_t left = 4096 - (address + have) % 4096;
        if (left > PATH_MAX - have)
            left = PATH_MAX - have;
        struct iovec here = {text + have, left}, there = {(void *)(uintptr_t)(address + have), left};
        ssize_t got = process_vm_readv(thread, &here, 1, &there, 1, 0);
        if (got <= 0)
            return 0;
        if (memchr(text + have, 0, got))
            return 1;
        have += got;
    }
    return 0;
}

static int target_of(pid_t thread, const struct call *call, const __u64 *arguments, char path[PATH_MAX]) {
    char name[PATH_MAX], descriptor[32], folder[PATH_MAX];
    int at = AT_FDCWD;
    __u64 text = 0;
    switch (call->place) {
    case BY_DESCRIPTOR:
        snprintf(descriptor, sizeof descriptor, "fd/%d", (int)arguments[call == &COPY ? 2 : 0]);
        return link_at(thread, descriptor, path);
    case BY_PATH:
        text = arguments[0];
        break;
    case BY_LATER_PATH:
        text = arguments[1];
        break;
    case BY_FOLDER_AND_PATH:
        at = (int)arguments[0];
        text = arguments[1];
        break;
    case BY_LATER_FOLDER_AND_PATH:
        at = (int)arguments[1];
        text = arguments[2];
        break;
    case BY_LAST_FOLDER_AND_PATH:
        at = (int)arguments[2];
        text = arguments[3];
        break;
    }
    if (!text_at(thread, text, name))
        return 0;
    if (name[0] == '/')
        return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
    snprintf(descriptor, sizeof descriptor, at == AT_FDCWD ? "cwd" : "fd/%d", at);
    if (!link_at(thread, descriptor, folder))
        return 0;
    return snprintf(path, PATH_MAX, name[0] ? "%s/%s" : "%s", folder, name) < PATH_MAX;
}

static int changes(const struct call *call, const __u64 *arguments) {
    __u64 flags;
    if (!strcmp(call->name, "openat"))
        flags = arguments[2];
    else if (!strcmp(call->name, "open"))
        flags = arguments[1];
    else
        return 1;
    return (flags & (O_CREAT | O_TRUNC)) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

/* Has the kernel make no call at all, in the place of the one that a thread is about to make. */
static void call_nothing(pid_t thread) {
#if defined __x86_64__
    struct user_regs_struct registers;
    expect(!ptrace(PTRACE_GETREGS, thread, 0, &registers), "registers");
    registers.orig_rax = (unsigned long long)-1;
    expect(!ptrace(PTRACE_SETREGS, thread, 0, &registers), "registers");
#elif defined __aarch64__
    int none = -1;
    struct iovec set = {&none, sizeof none};
    expect(!ptrace(PTRACE_SETREGSET, thread, NT_ARM_SYSTEM_CALL, &set), "registers");
#else
#error "this machine is not known here"
#endif
}

static void return_error(pid_t thread, long error) {
#if defined __x86_64__
    struct user_regs_struct registers;
    expect(!ptrace(PTRACE_GETREGS, thread, 0, &registers), "registers");
    registers.rax = (unsigned long long)-error;
    expect(!ptrace(PTRACE_SETREGS, thread, 0, &registers), "registers");
#elif defined __aarch64__
    struct user_pt_regs registers;
    struct iovec all = {&registers, sizeof registers};
    expect(!ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &all), "registers");
    registers.regs[0] = (unsigned long long)-error;
    expect(!ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &all), "registers");
#endif
}

/* How late a call fails, in milliseconds; and when a command is said not to end, in seconds. */
#define LATE_MILLISECONDS 30
#define LIMIT_SECONDS 300

static volatile sig_atomic_t is_over;

static void over(int signal) {
    (void)signal;
    is_over = 1;
}

static long long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

#define THREADS_MAX 1024

/* What is known of each thread. */
static struct thread {
    pid_t id;
    int fails;
} threads[THREADS_MAX];

static struct thread *thread_of(pid_t id, int *is_new) {
    struct thread *free = NULL;
    for (size_t i = 0; i < THREADS_MAX; i++) {
        if (threads[i].id == id) {
            *is_new = 0;
            return &threads[i];
        }
        if (!threads[i].id && !free)
            free = &threads[i];
    }
    expect(free != NULL, "too many threads");
    *free = (struct thread){id, 0};
    *is_new = 1;
    return free;
}

int main(int count, char **words) {
    if (count < 9 || strcmp(words[7], "--")) {
        fprintf(stderr, "strike: LOG FOLDER none|kill|ERROR|ERROR+|full CALL PATTERN NTH -- COMMAND...\n");
        return 125;
    }
    const char *folder = words[2], *fate = words[3], *name = words[4], *pattern = words[5];
    size_t folder_length = strlen(folder);
    long nth = atol(words[6]), error = 0;
    int kills = !strcmp(fate, "kill"), is_full = !strcmp(fate, "full");
    int goes_on = fate[strlen(fate) - 1] == '+', struck = 0;
    if (is_full)
        error = ENOSPC;
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++) {
        size_t length = strlen(ERRORS[i].name);
        if (!strncmp(fate, ERRORS[i].name, length) && (size_t)goes_on == strlen(fate) - length)
            error = ERRORS[i].number;
    }
    expect(kills || error || !strcmp(fate, "none"), "no such fate");
    FILE *log = fopen(words[1], "we");
    expect(log != NULL, "the log");

    pid_t first = fork();
    expect(first >= 0, "fork");
    if (first == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execvp(words[8], words + 8);
        expect(0, words[8]);
    }
    int status, is_new;
    expect(waitpid(first, &status, __WALL) == first && WIFSTOPPED(status), "the first stop");
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                   PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    expect(!ptrace(PTRACE_SETOPTIONS, first, 0, options), "options");
    thread_of(first, &is_new);
    ptrace(PTRACE_SYSCALL, first, 0, 0);

    struct sigaction alarmed = {.sa_handler = over};
    expect(!sigaction(SIGALRM, &alarmed, NULL), "the limit");
    alarm(LIMIT_SECONDS);
    int ended = 0;
    pid_t late = 0;
    long long late_until = 0;
    for (;;) {
        pid_t id = waitpid(-1, &status, late ? __WALL | WNOHANG : __WALL);
        if (late && milliseconds() >= late_until) {
            ptrace(PTRACE_SYSCALL, late, 0, 0);
            late = 0;
        }
        if (is_over)
            kill(first, SIGKILL);
        if (id == 0) {
            usleep(500);
            continue;
        }
        if (id < 0 && errno == EINTR)
            continue;
        if (id < 0)
            break;
        struct thread *thread = thread_of(id, &is_new);
        if (!WIFSTOPPED(status)) {
            if (id == first)
                ended = status;
            thread->id = 0;
            continue;
        }
        int signal = WSTOPSIG(status);
        if (signal == (SIGTRAP | 0x80)) {
            signal = 0;
            struct ptrace_syscall_info info;
            if (ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof info, &info) > 0) {
                const struct call *call;
                char path[PATH_MAX];
                if (info.op == PTRACE_SYSCALL_INFO_EXIT && thread->fails) {
                    return_error(id, error);
                    thread->fails = 0;
                }
                if (info.op == PTRACE_SYSCALL_INFO_ENTRY && (call = call_of(info.entry.nr)) &&
                    changes(call, info.entry.args) && target_of(id, call, info.entry.args, path) &&
                    !strncmp(path, folder, folder_length) && (!path[folder_length] || path[folder_length] == '/')) {
                    int meant = !strcmp(call->name, name);
                    int is_it = meant && !struck && !fnmatch(pattern, path, 0) && --nth == 0;
                    int again = struck && (is_full ? call->wants_room : meant && goes_on);
                    fprintf(log, "%s%s %s\n", is_it ? "!" : "", call->name, path);
                    struck |= is_it;
                    if (is_it && kills) {
                        fflush(log);
                        kill(first, SIGKILL);
                    } else if (is_it || again) {
                        call_nothing(id);
                        thread->fails = 1;
                        if (is_it) {
                            late = id;
                            late_until = milliseconds() + LATE_MILLISECONDS;
                            continue;
                        }
                    }
                }
            }
        } else if (signal == SIGTRAP && status >> 16) {
            signal = 0;
        } else if (signal == SIGSTOP && is_new) {
            /* The first stop of a thread. */
            signal = 0;
        }
        ptrace(PTRACE_SYSCALL, id, 0, signal);
    }
    expect(!fclose(log), "the log");
    if (is_over)
        return 124;
    if (WIFSIGNALED(ended)) {
        /* As it ended, so does this. */
        signal(WTERMSIG(ended), SIG_DFL);
        raise(WTERMSIG(ended));
    }
    return WEXITSTATUS(ended);
}
