/* pool/wire.h - what parent, server and worker say to each other.  All numbers are little-endian. */
#ifndef JOBLOT_POOL_WIRE_H
#define JOBLOT_POOL_WIRE_H

#include "ring.h"

#include <joblot/pool.h>

/* ---- the mapping that a parent and one worker share ---- */

/* Whose the worker is: nobody's, a call's (the parent: IDLE->LEASED), or its own, and it leaves: it starts no task more
 * (the worker: IDLE->GONE when it had nothing to do for its time, LEASED->GONE when it holds too much memory). */
enum { JOBLOT__LEASE_IDLE = 0, JOBLOT__LEASE_LEASED = 1, JOBLOT__LEASE_GONE = 2 };

/* Why a worker sleeps, and so what is worth waking it for. */
enum { JOBLOT__AWAKE = 0, JOBLOT__SLEEPS_IDLE = 1, JOBLOT__SLEEPS_FULL = 2, JOBLOT__SLEEPS_UNTAKEN = 3 };

#define JOBLOT__CHANNEL_MAGIC 0x314c424au /* "JBL1" */
#define JOBLOT__CHANNEL_HEADER 4096
#define JOBLOT__RING_DEFAULT (1u << 20)

struct joblot__channel {
    joblot__shared32 magic;
    joblot__shared32 ring_size;
    unsigned char pad0[56];
    /* written by the worker */
    joblot__shared64 started; /* sequence of the task that it started last: a task's start mark */
    joblot__shared32 worker_sleeps;
    joblot__shared32 handed; /* descriptors sent to the parent, over the socket */
    joblot__shared64 since;  /* ns, monotonic: when the task that runs was started; 0: none runs */
    joblot__shared64 inherited; /* bytes of private memory that it was forked with: they do not count as its own */
    unsigned char pad1[32];
    /* written by the parent */
    joblot__shared64 taken; /* sequence of the last answer that was taken out of the worker's memory */
    joblot__shared32 cancel; /* not 0: start no task, answer CANCELLED */
    joblot__shared32 parent_sleeps;
    joblot__shared64 idle_ns;      /* with nothing to do for so long it leaves; 0: never */
    joblot__shared64 memory_limit; /* bytes: with more after a task it leaves; 0: never */
    /* Tasks that are taken back: none up to `revoked` is started any more but those up to `kept`, which is known once
     * `settled` is the same number as `revoked`.  See balance.c. */
    joblot__shared64 revoked, kept, settled;
    unsigned char pad2[8];
    /* written by both, seldom */
    joblot__shared32 lease;
    unsigned char pad3[60];
    struct joblot__ring_words down; /* tasks, parent to worker */
    struct joblot__ring_words up;   /* answers, worker to parent */
};

/* What a worker's program writes when it crashes, which nobody need have seen coming: text, at the end of the mapping. */
#define JOBLOT__CRASH_SIZE (16u << 10)

static inline size_t joblot__channel_crash(size_t ring_size)
{
    return JOBLOT__CHANNEL_HEADER + 2 * ring_size;
}

static inline size_t joblot__channel_size(size_t ring_size)
{
    return joblot__channel_crash(ring_size) + JOBLOT__CRASH_SIZE;
}

static inline void *joblot__channel_down(struct joblot__channel *channel)
{
    return (unsigned char *)channel + JOBLOT__CHANNEL_HEADER;
}

static inline void *joblot__channel_up(struct joblot__channel *channel, size_t ring_size)
{
    return (unsigned char *)channel + JOBLOT__CHANNEL_HEADER + ring_size;
}

/* ---- records, parent to worker ---- */

enum {
    JOBLOT__TASK = 1, /* u64 sequence; u32 kind; u32 flags; body */
    JOBLOT__NOTE,     /* the same, sequence 0 */
    JOBLOT__FORGET,   /* u32 segment: the parent will not name it again */
    JOBLOT__EXIT      /* leave */
};
enum { JOBLOT__TASK_HEADER = 16, JOBLOT__FLAG_FAR = 1 };
/* A body: u32 n_parts, u32 0; n_parts times {u64 size; u64 offset (in the body, or in the segment); u32 segment (0: in
 * the body); u32 0}; the bytes of the parts in the body, each aligned to 8.
 * With FLAG_FAR the body lies in a segment: u64 size; u64 offset; u32 segment; u32 0. */
enum { JOBLOT__BODY_HEADER = 8, JOBLOT__PART_SIZE = 24, JOBLOT__FAR_SIZE = 24 };

/* ---- records, worker to parent ---- */

enum {
    JOBLOT__HELLO = 1, /* u64 address of a cookie in the worker's memory; 16 bytes: its value */
    JOBLOT__ANSWER,    /* u64 sequence; u64 duration ns; u32 status (two's complement); u32 flags; body (parts as above) */
    JOBLOT__KEPT,      /* u32 segment: mapped beyond the task that brought it */
    JOBLOT__RELEASED,  /* u32 segment: not any more */
    JOBLOT__COPIED     /* u64 sequence; u32 status: the answer's parts are in the segment that COPY_OUT named */
};
enum { JOBLOT__ANSWER_HEADER = 24, JOBLOT__FLAG_HELD = 2 };
/* With FLAG_HELD the offset of each part is its address in the worker's memory, which the worker keeps as it is until
 * `taken` is the answer's sequence. */

/* ---- messages on a worker's socket, one descriptor each: parent to worker, but for HANDED ---- */

/* HANDED: a segment of the worker's own, by its id there, that comes with the answer to task `sequence`. */
enum { JOBLOT__SEGMENT = 1, JOBLOT__COPY_OUT = 2, JOBLOT__HANDED = 3 };
struct joblot__socket_message {
    unsigned char type[4], segment[4];
    unsigned char size[8], sequence[8];
    unsigned char parent_fd[4], unused[4];
};

/* ---- messages on the server's socket ---- */

enum {
    JOBLOT__SPAWN = 1, /* worker; a: parent's pid; then preload bytes; fds: channel, socket, bell of the worker, of the parent */
    JOBLOT__CLOSE,     /* a: ns that workers have to leave */
    JOBLOT__SPAWNED,   /* worker; a: pid; fd: pidfd */
    JOBLOT__FAILED,    /* worker; a: errno of the fork */
    JOBLOT__DIED,      /* worker; a: wait status; b: peak memory in bytes */
    JOBLOT__EXECS,     /* a: number of threads, or -errno: workers are started by exec from now on */
    JOBLOT__IDLE       /* worker: slot; a: size, 0: the slot is empty; fd: the segment, or with slot UINT32_MAX the idle page */
};

/* Shared by parent and server: what the server may give back while the parent is in its own code. */
struct joblot__idle_page {
    joblot__shared32 states[64]; /* of the slots of the parent's cache: see segment/segment.h */
    joblot__shared64 since;      /* ns, monotonic: end of the last call that left free segments */
};
/* Segments that were free for so long are given back.  Longer than the pauses between the calls of a program's loop. */
#define JOBLOT__IDLE_NS ((int64_t)15 * 1000000000)
struct joblot__server_message {
    unsigned char type[4], worker[4];
    unsigned char a[8], b[8];
};
#define JOBLOT__PRELOAD_MAX 4096

#endif
