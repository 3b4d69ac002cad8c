/* support/pools.h - functions that workers of the tests run, and the driving of a call to its end. */
#ifndef JOBLOT_TESTS_SUPPORT_POOLS_H
#define JOBLOT_TESTS_SUPPORT_POOLS_H

#include "cases.h"

#include <joblot/pool.h>

#include <string.h>

/* The kinds of task.  Arguments are parts: "u64" is a part of 8 bytes. */
enum {
    DO_ECHO,       /* any inline parts: the same */
    DO_PID,        /* u64 pid */
    DO_SLEEP,      /* u64 ms: the same, after a sleep that watches for cancellation */
    DO_SPIN,       /* never returns; busy in C */
    DO_KILL,       /* u64 signal: sends it to itself */
    DO_EXIT,       /* u64 code: exit() */
    DO_SEGFAULT,   /* reads address 16 */
    DO_FAIL,       /* u64 status, text: returns that status with that message */
    DO_NOTHING,    /* returns without an answer */
    DO_COUNT,      /* u64 deaths, path: adds a byte to the file, kills itself while it has at most `deaths` bytes, then
                      answers the file's size */
    DO_SUM,        /* u64 mode, segment: u64 sum of its bytes, then adds 1 to each where the mode permits */
    DO_KEEP,       /* segment: maps it (private), writes 7 into its first byte, keeps the mapping */
    DO_CHECK_KEPT, /* u64 sum over the kept mappings' bytes; u64 how many there are */
    DO_DROP_KEPT,  /* releases them */
    DO_BIG,        /* u64 size, u64 seed, u64 parts: patterned bytes in so many parts */
    DO_CHILD,      /* forks a child that sleeps for good and holds all descriptors; u64 its pid */
    DO_NOTES,      /* u64 each: the notes that this worker has seen */
    DO_NESTED,     /* opens a pool of its own and runs u64 echoes in it; u64 how many came back */
    DO_PRINT,      /* prints to stdout, then answers */
    DO_FDS,        /* u64 open descriptors of this worker */
    DO_MAP_ALL,    /* many segments: maps all (read-only), keeps them; u64 how many */
    DO_READ_STDIN, /* u64 what read(0) gave */
    N_DO
};

extern const joblot_function test_functions[N_DO];
extern const struct joblot_worker_hooks test_hooks;

/* Bytes that every part of an answer or task in the tests is made of. */
void fill_pattern(unsigned char *at, size_t size, uint64_t seed);
void check_pattern(const unsigned char *at, size_t size, uint64_t seed);

/* ---- the parent's side ---- */

struct outcome {
    enum joblot_event_kind kind; /* NONE: nothing came for this number */
    joblot_status status;
    char message[300];
    size_t n_parts, size; /* size: of all parts */
    unsigned char *data;  /* all parts, one behind the other; free() it, or let the case's end do so */
    struct joblot_death death;
};

joblot_pool *open_pool(size_t ring_size);
joblot_pool *open_pool_of(const struct joblot_worker_hooks *hooks, size_t ring_size); /* instead of test_hooks */
joblot_call *open_call(joblot_pool *pool, size_t n_workers, unsigned retries);
void submit(joblot_call *call, uint32_t kind, const struct joblot_part *parts, size_t n_parts);
void submit_u64(joblot_call *call, uint32_t kind, uint64_t a);
void submit_u64s(joblot_call *call, uint32_t kind, const uint64_t *values, size_t n);
/* Takes events until the call is idle; out has room for numbers below n, others fail the case.  Returns how many. */
size_t drive(joblot_call *call, struct outcome *out, size_t n);
/* Waits for one event that is not NONE and takes it. */
uint64_t take_one(joblot_call *call, struct outcome *out);
uint64_t u64_of(const struct outcome *o, size_t index); /* of a RESULT that is OK */
/* One call of one worker, for a task of one u64: what it answers. */
uint64_t ask(joblot_pool *pool, uint32_t kind, uint64_t a);
void close_pool(joblot_pool *pool); /* and checks that server and workers are gone and nothing leaks */

/* Waits until the pool has `n` workers, and stores their pids (pids may be NULL). */
void wait_for_workers(joblot_pool *pool, int *pids, size_t n);

#endif
