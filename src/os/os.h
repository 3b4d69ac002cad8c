/* os/os.h - every system call of the library.
 *
 * Calls return 0 or a value >= 0 on success and -errno on failure, with EINTR already dealt with except where a
 * wait must notice signals (those say so).  Every descriptor is close-on-exec, and above 2 also where the program has
 * closed its standard ones: a print must never land in a socket or a segment.  All of this is for Linux; a port
 * is another folder with the same header. */
#ifndef JOBLOT_OS_OS_H
#define JOBLOT_OS_OS_H

#include <joblot/base.h>

#include <stdatomic.h>
#include <stdbool.h>

/* ---- fault hook (tests) ---- */

/* From now on the nth system call (1: the next; 0: none) fails with `error`, and with `for_good` every later one. */
void joblot__os_fail_at(unsigned long nth, bool for_good, int error);
unsigned long joblot__os_count(void); /* system calls made since then */
/* Used by the wrappers: the errno to pretend, or 0. */
int joblot__os_injected(void);
/* Makes every call of one kind fail with `error` from now on ("process_vm_readv"); NULL: none. */
void joblot__os_forbid(const char *name, int error);
int joblot__os_forbidden(const char *name);

/* Stops this process (SIGSTOP) when the environment asks for it: JOBLOT_TEST_STOP=role:point:n:/file.  Every process that
 * reaches the point adds a line of 64 bytes, "pid point", to the file; the one that adds the n-th stops.  n is 0: none;
 * role:point is *:* - all points are noted.  See docs/testing.md; every point is in tests/python/kill/points.py. */
extern atomic_bool joblot__os_stops;
int joblot__os_read_stops(void); /* the environment, when a process of the engine starts; -EINVAL: not of that form */
void joblot__os_stop_at(const char *point);
static inline bool joblot__os_may_stop(void)
{
    return atomic_load_explicit(&joblot__os_stops, memory_order_relaxed);
}
static inline void joblot__os_point(const char *point)
{
    if (joblot__os_may_stop())
        joblot__os_stop_at(point);
}

/* ---- descriptors and files ---- */

int joblot__os_close(int fd); /* -1 is fine; never retried */
int joblot__os_above_standard(int fd); /* fd, or a copy of it above 2; a negative fd is given back */
/* A memfd of `size` bytes, sealed against shrinking (and growing). */
int joblot__os_memfd(const char *name, uint64_t size);
/* An unnamed file of `size` bytes in a folder: O_TMPFILE, or created and unlinked at once where that is missing. The
 * blocks are reserved, so a full disk is ENOSPC here and not a SIGBUS later. */
int joblot__os_tmpfile(const char *folder, uint64_t size);
int joblot__os_pwrite(int fd, const void *data, size_t size, uint64_t offset); /* all of it */
int joblot__os_pread(int fd, void *data, size_t size, uint64_t offset);        /* all of it; -ENODATA at the end */
int64_t joblot__os_file_size(int fd);
/* One more than the highest number that a descriptor of this process can have. */
int joblot__os_descriptor_limit(void);
/* What tells this open socket or file from all others; 0 where the descriptor is not open. */
uint64_t joblot__os_identity(int fd);
int joblot__os_read_text(const char *path, char *out, size_t capacity); /* terminated; length, cut at capacity - 1 */
int joblot__os_dup(int fd);
/* `n` descriptors from `first` on, which this program was exec'd with, are not to be inherited once more. */
void joblot__os_close_on_exec(int first, int n);
int joblot__os_move_high(int fd); /* to a number near 1,000 or the limit; fd is closed when that is done */
int joblot__os_seek(int fd, uint64_t offset);
int joblot__os_punch(int fd, uint64_t size); /* gives the pages of a memfd back; it reads as zeros then */
/* Bytes free for this process in the file system of a folder. */
int64_t joblot__os_folder_free(const char *folder);

/* ---- memory ---- */

size_t joblot__os_page_size(void);
enum { JOBLOT__MAP_READ, JOBLOT__MAP_WRITE, JOBLOT__MAP_PRIVATE };
/* Maps `size` bytes at `offset` (a multiple of the page size): shared read-only, shared writable, or private. */
int joblot__os_map(int fd, uint64_t offset, size_t size, int mode, void **out);
int joblot__os_unmap(void *at, size_t size);
int joblot__os_dontfork(void *at, size_t size);
int joblot__os_populate_read(void *at, size_t size); /* -EINVAL where the kernel has no MADV_POPULATE_READ */
/* Drops what was written to a private mapping of fd from `offset` on, so that it shows the file again: only the pages
 * that were written where the kernel tells which, else the whole is mapped anew, at the same place. */
int joblot__os_reset_private(int fd, uint64_t offset, void *at, size_t size);
/* Bytes that can still be allocated: MemAvailable, held against every memory cgroup above us (v1 and v2).
 * `root` is "" but in tests, where it is a folder with proc/ and sys/ in it. */
int64_t joblot__os_memory_available(const char *root);
/* Bytes of memory that a process alone has: anonymous, and swapped.  pid 0: ours. -errno where /proc cannot be read. */
int64_t joblot__os_private_memory(int pid);
/* How many processes of our cgroup (v2: and below it; else of the system) the kernel has killed for want of memory, since
 * it was made; -1 where nothing tells.  root as above. */
int64_t joblot__os_oom_kills(const char *root);

/* ---- processes ---- */

int joblot__os_pid(void);
int joblot__os_parent_pid(void);
/* exec of argv[0] (searched in PATH when it has no slash) as a child in a process group of its own, with default signal
 * dispositions, an empty mask and /dev/null as stdin; fds[i] becomes descriptor 3 + i there. env NULL: ours. */
enum { JOBLOT__SPAWN_FDS = 8 };
int joblot__os_spawn(const char *const *argv, const char *const *env, const int *fds, size_t n_fds, int *pid);
int joblot__os_fork(void); /* 0 in the child */
/* In a fresh child: default signal dispositions and an empty mask, a process group of its own. */
void joblot__os_reset_process(void);
void joblot__os_set_group(int pid);      /* a child into a process group of its own; it may have done so already */
int joblot__os_die_with_parent(bool yes); /* SIGKILL to us when the thread that forked us ends; or not any more */
void joblot__os_ignore_interrupts(void); /* a SIGINT handler that does nothing (not SIG_IGN, which exec inherits) */
void joblot__os_raise_oom_score(void);   /* best effort: we go before our parent does */
void joblot__os_stdin_null(void);
int joblot__os_pidfd(int pid);
int joblot__os_kill(int pid, int sig);
int joblot__os_kill_group(int pgid, int sig);
int joblot__os_pidfd_kill(int pidfd, int sig);
struct joblot__exit {
    int status;         /* as waitpid's */
    uint64_t peak_memory; /* bytes; 0: not known */
};
/* Does a child that has ended wait to be reaped?  It is not reaped: its pid stays its own. 1, 0, or -errno. */
int joblot__os_ended(int pid);
int joblot__os_reap(int pid, struct joblot__exit *out); /* blocks */
_Noreturn void joblot__os_exit_now(int code); /* no atexit handlers, no flushing */
void joblot__os_decode_status(int status, int *signal, int *exit_code); /* exit_code -1 when a signal ended it */
int joblot__os_thread_count(void); /* of this process; -errno where /proc cannot be read */
/* Reads another process's memory; the number of bytes, short at a hole. */
int64_t joblot__os_vm_read(int pid, uint64_t address, void *out, size_t size);
int joblot__os_cpu_count(const char *root); /* see joblot_cpu_count; root as above */

/* ---- sockets that carry descriptors (SOCK_SEQPACKET) ---- */

#define JOBLOT__MAX_FDS 16
int joblot__os_socketpair(int out[2]);
int joblot__os_set_blocking(int fd, bool blocking);
/* One message, at once: -EAGAIN when the queue is full, -EPIPE when the other side is gone. */
int joblot__os_send(int sock, const void *data, size_t size, const int *fds, size_t n_fds);
/* One message: its size, 0 at end of file, -EAGAIN when there is none and the socket does not block. Received fds are
 * in fds (room for JOBLOT__MAX_FDS), their number in *n_fds. */
int joblot__os_receive(int sock, void *data, size_t capacity, int *fds, size_t *n_fds);

/* ---- waiting ---- */

int64_t joblot__os_clock(void);  /* monotonic, ns */
int joblot__os_event(void);      /* eventfd, non-blocking, 0 */
int joblot__os_event_ring(int fd);
int joblot__os_event_clear(int fd);
struct joblot__poll {
    int fd;            /* -1: skipped */
    bool want_write;   /* wait for room as well */
    bool ready, writable, hangup; /* out */
};
#define JOBLOT__POLL_MAX 4096
/* Waits until one of n (<= JOBLOT__POLL_MAX) is ready, or timeout_ns passes (< 0: for good). The number ready, 0 at the
 * timeout, -EINTR when a signal came (not retried: the caller looks at its signals). */
int joblot__os_poll(struct joblot__poll *set, size_t n, int64_t timeout_ns);

#endif
