/* support/pools.c - what the tests' workers do, and a call driven to its end. */
#define _GNU_SOURCE
#include "pools.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void fill_pattern(unsigned char *at, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)(seed * 131 + i % 251 + (i >> 12));
}

void check_pattern(const unsigned char *at, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++)
        if (at[i] != (unsigned char)(seed * 131 + i % 251 + (i >> 12)))
            fail_case(__FILE__, __LINE__, "byte %zu of %zu (seed %llu) is %u", i, size, (unsigned long long)seed, at[i]);
}

/* ---- in workers ---- */

static joblot_mapping *kept[2048];
static size_t n_kept;
static uint64_t notes[256];
static size_t n_notes;

static uint64_t argument(const struct joblot_task *task, size_t i)
{
    uint64_t value = 0;
    if (i < task->n_parts && task->parts[i].data != NULL && task->parts[i].size == sizeof value)
        memcpy(&value, task->parts[i].data, sizeof value);
    return value;
}

static joblot_status answer(joblot_worker *w, const uint64_t *values, size_t n, joblot_error *err)
{
    struct joblot_part part = {.data = values, .size = n * sizeof *values};
    return joblot_worker_reply(w, &part, 1, err);
}

static joblot_status answer_one(joblot_worker *w, uint64_t value, joblot_error *err) { return answer(w, &value, 1, err); }

#define FUNCTION(name)                                                                                        \
    static joblot_status name(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)

FUNCTION(do_echo)
{
    (void)context;
    struct joblot_part *parts = calloc(task->n_parts + 1, sizeof *parts);
    for (size_t i = 0; i < task->n_parts; i++)
        parts[i] = (struct joblot_part){.data = task->parts[i].data, .size = task->parts[i].size};
    joblot_status status = joblot_worker_reply(w, parts, task->n_parts, err);
    free(parts);
    return status;
}

FUNCTION(do_pid)
{
    (void)context;
    (void)task;
    return answer_one(w, (uint64_t)getpid(), err);
}

FUNCTION(do_sleep)
{
    (void)context;
    for (uint64_t left = argument(task, 0); left > 0 && !joblot_worker_cancelled(w); left--)
        wait_ms(1);
    return answer_one(w, argument(task, 0), err);
}

FUNCTION(do_spin)
{
    static volatile bool never;
    (void)w;
    (void)task;
    (void)context;
    (void)err;
    while (!never)
        ;
    return JOBLOT_OK;
}

FUNCTION(do_kill)
{
    (void)context;
    (void)kill(getpid(), (int)argument(task, 0));
    return answer_one(w, 0, err);
}

FUNCTION(do_exit)
{
    (void)w;
    (void)context;
    (void)err;
    _exit((int)argument(task, 0));
}

FUNCTION(do_segfault)
{
    (void)context;
    (void)task;
    (void)signal(SIGSEGV, SIG_DFL); /* sanitizers have a handler */
    (void)kill(getpid(), SIGSEGV);
    return answer_one(w, 0, err);
}

FUNCTION(do_fail)
{
    (void)w;
    (void)context;
    if (err != NULL && task->n_parts > 1)
        (void)snprintf(err->message, sizeof err->message, "%s", (const char *)task->parts[1].data);
    return (joblot_status)(int64_t)argument(task, 0);
}

FUNCTION(do_nothing)
{
    (void)w;
    (void)task;
    (void)context;
    (void)err;
    return JOBLOT_OK;
}

FUNCTION(do_count)
{
    (void)context;
    int fd = open(task->parts[1].data, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1)
        _exit(9);
    uint64_t size = (uint64_t)lseek(fd, 0, SEEK_END);
    (void)close(fd);
    if (size <= argument(task, 0))
        (void)kill(getpid(), SIGKILL);
    return answer_one(w, size, err);
}

static joblot_status map_last(joblot_worker *w, const struct joblot_task *task, int mode, joblot_mapping **m,
                              joblot_error *err)
{
    return joblot_worker_map(w, &task->parts[task->n_parts - 1], (enum joblot_map_mode)mode, m, err);
}

FUNCTION(do_sum)
{
    (void)context;
    joblot_mapping *m;
    int mode = (int)argument(task, 0);
    joblot_status status = map_last(w, task, mode, &m, err);
    if (status != JOBLOT_OK)
        return status;
    unsigned char *at = joblot_mapping_data(m);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < joblot_mapping_size(m); i++) {
        sum += at[i];
        if (mode != JOBLOT_MAP_READ)
            at[i]++;
    }
    joblot_mapping_release(m);
    return answer_one(w, sum, err);
}

FUNCTION(do_keep)
{
    (void)context;
    joblot_mapping *m;
    joblot_status status = map_last(w, task, JOBLOT_MAP_PRIVATE, &m, err);
    if (status != JOBLOT_OK)
        return status;
    ((unsigned char *)joblot_mapping_data(m))[0] = 7;
    kept[n_kept++] = m;
    return answer_one(w, n_kept, err);
}

FUNCTION(do_check_kept)
{
    (void)context;
    (void)task;
    uint64_t out[2] = {0, n_kept};
    for (size_t i = 0; i < n_kept; i++)
        for (uint64_t k = 0; k < joblot_mapping_size(kept[i]); k++)
            out[0] += ((const unsigned char *)joblot_mapping_data(kept[i]))[k];
    return answer(w, out, 2, err);
}

FUNCTION(do_drop_kept)
{
    (void)context;
    (void)task;
    while (n_kept > 0)
        joblot_mapping_release(kept[--n_kept]);
    return answer_one(w, 0, err);
}

FUNCTION(do_big)
{
    (void)context;
    size_t size = (size_t)argument(task, 0), n = (size_t)argument(task, 2);
    struct joblot_part *parts = calloc(n ? n : 1, sizeof *parts);
    unsigned char *data = malloc(size ? size : 1);
    fill_pattern(data, size, argument(task, 1));
    for (size_t i = 0; i < n; i++)
        parts[i] = (struct joblot_part){.data = data + size * i / n, .size = size * (i + 1) / n - size * i / n};
    joblot_status status = joblot_worker_reply(w, parts, n, err);
    memset(data, 0, size); /* whoever reads it now reads too late */
    free(data);
    free(parts);
    return status;
}

FUNCTION(do_child)
{
    (void)context;
    (void)task;
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            (void)pause();
    return answer_one(w, (uint64_t)pid, err);
}

FUNCTION(do_notes)
{
    (void)context;
    (void)task;
    return answer(w, notes, n_notes, err);
}

FUNCTION(take_note)
{
    (void)w;
    (void)context;
    (void)err;
    uint64_t value = 0;
    if (task->n_parts == 1 && task->parts[0].data != NULL && task->parts[0].size >= sizeof value)
        memcpy(&value, task->parts[0].data, sizeof value);
    if (n_notes < sizeof notes / sizeof notes[0])
        notes[n_notes++] = value << 32 | task->kind;
    return JOBLOT_OK;
}

FUNCTION(do_nested)
{
    (void)context;
    uint64_t n = argument(task, 0), good = 0;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 2, 0);
    struct outcome *out = calloc(n + 1, sizeof *out);
    for (uint64_t i = 0; i < n; i++)
        submit_u64(call, DO_ECHO, i);
    (void)drive(call, out, n);
    for (uint64_t i = 0; i < n; i++) {
        good += u64_of(&out[i], 0) == i;
        free(out[i].data);
    }
    free(out);
    joblot_call_close(call);
    joblot_pool_close(pool, 1000000000);
    return answer_one(w, good, err);
}

FUNCTION(do_print)
{
    (void)context;
    (void)task;
    (void)printf("printed by a worker\n");
    (void)fflush(stdout);
    return answer_one(w, 1, err);
}

FUNCTION(do_fds)
{
    (void)context;
    (void)task;
    return answer_one(w, (uint64_t)open_descriptors(), err);
}

FUNCTION(do_map_all)
{
    (void)context;
    for (size_t i = 0; i < task->n_parts; i++) {
        joblot_status status = joblot_worker_map(w, &task->parts[i], JOBLOT_MAP_READ, &kept[n_kept], err);
        if (status != JOBLOT_OK)
            return status;
        n_kept++;
    }
    return answer_one(w, n_kept, err);
}

FUNCTION(do_read_stdin)
{
    (void)context;
    (void)task;
    char c;
    return answer_one(w, (uint64_t)read(0, &c, 1), err);
}

const joblot_function test_functions[N_DO] = {
    [DO_ECHO] = do_echo,           [DO_PID] = do_pid,         [DO_SLEEP] = do_sleep,   [DO_SPIN] = do_spin,
    [DO_KILL] = do_kill,           [DO_EXIT] = do_exit,       [DO_SEGFAULT] = do_segfault, [DO_FAIL] = do_fail,
    [DO_NOTHING] = do_nothing,     [DO_COUNT] = do_count,     [DO_SUM] = do_sum,       [DO_KEEP] = do_keep,
    [DO_CHECK_KEPT] = do_check_kept, [DO_DROP_KEPT] = do_drop_kept, [DO_BIG] = do_big, [DO_CHILD] = do_child,
    [DO_NOTES] = do_notes,         [DO_NESTED] = do_nested,   [DO_PRINT] = do_print,
    [DO_FDS] = do_fds,             [DO_MAP_ALL] = do_map_all, [DO_READ_STDIN] = do_read_stdin,
};

const struct joblot_worker_hooks test_hooks = {.functions = test_functions, .n_functions = N_DO, .note = take_note};

/* ---- in the parent ---- */

static long blocks_before;
static int descriptors_before;

joblot_pool *open_pool(size_t ring_size) { return open_pool_of(&test_hooks, ring_size); }

joblot_pool *open_pool_of(const struct joblot_worker_hooks *hooks, size_t ring_size)
{
    joblot_error err;
    joblot_pool *pool;
    struct joblot_pool_options options = {.hooks = hooks, .ring_size = ring_size};
    blocks_before = joblot__alloc_live();
    descriptors_before = open_descriptors();
    CHECK_OK(joblot_pool_open(&options, &pool, &err));
    return pool;
}

joblot_call *open_call(joblot_pool *pool, size_t n_workers, unsigned retries)
{
    joblot_error err;
    joblot_call *call;
    struct joblot_call_options options = {.n_workers = n_workers, .retries = retries};
    CHECK_OK(joblot_call_open(pool, &options, &call, &err));
    return call;
}

void submit(joblot_call *call, uint32_t kind, const struct joblot_part *parts, size_t n_parts)
{
    joblot_error err;
    CHECK_OK(joblot_call_submit(call, kind, parts, n_parts, &err));
}

void submit_u64(joblot_call *call, uint32_t kind, uint64_t a) { submit_u64s(call, kind, &a, 1); }

void submit_u64s(joblot_call *call, uint32_t kind, const uint64_t *values, size_t n)
{
    struct joblot_part parts[8];
    for (size_t i = 0; i < n; i++)
        parts[i] = (struct joblot_part){.data = &values[i], .size = sizeof values[i]};
    submit(call, kind, parts, n);
}

/* Blocks that a case may leave to its end: a leak checker finds them here. */
static void *for_later(void *block)
{
    static struct later {
        struct later *next;
        void *block;
    } *_Atomic all;
    struct later *one = malloc(sizeof *one);
    one->block = block;
    one->next = all;
    while (!atomic_compare_exchange_weak(&all, &one->next, one))
        ;
    return block;
}

static void take(joblot_call *call, struct joblot_event *event, struct outcome *o)
{
    joblot_error err;
    joblot_status status = JOBLOT_OK;
    o->status = event->status;
    o->death = event->death;
    o->n_parts = event->n_parts;
    (void)snprintf(o->message, sizeof o->message, "%s", event->message != NULL ? event->message : "");
    o->size = 0;
    for (size_t i = 0; i < event->n_parts; i++)
        o->size += (size_t)event->sizes[i];
    unsigned char *at = o->data = for_later(malloc(o->size ? o->size : 1));
    for (size_t i = 0; i < event->n_parts && status == JOBLOT_OK; i++) {
        status = joblot_event_read(call, event, i, at, &err);
        if (status != JOBLOT_OK && status != JOBLOT_WORKER_DIED)
            fail_case(__FILE__, __LINE__, "reading an answer: %s", err.message);
        at += event->sizes[i];
    }
    joblot_event_done(call, event);
    if (status == JOBLOT_OK)
        o->kind = event->kind;
    else
        free(o->data); /* it comes again, or as DIED */
}

size_t drive(joblot_call *call, struct outcome *out, size_t n)
{
    joblot_error err;
    struct joblot_event event;
    size_t seen = 0;
    for (;;) {
        CHECK_OK(joblot_call_next(call, -1, &event, &err));
        if (event.kind == JOBLOT_EVENT_IDLE)
            return seen;
        if (event.kind == JOBLOT_EVENT_NONE)
            continue;
        if (event.number >= n || out[event.number].kind != JOBLOT_EVENT_NONE)
            fail_case(__FILE__, __LINE__, "an event for task %llu, which %s", (unsigned long long)event.number,
                      event.number >= n ? "there is not" : "had one");
        take(call, &event, &out[event.number]);
        seen += out[event.number].kind != JOBLOT_EVENT_NONE;
    }
}

uint64_t take_one(joblot_call *call, struct outcome *out)
{
    joblot_error err;
    struct joblot_event event;
    memset(out, 0, sizeof *out);
    while (out->kind == JOBLOT_EVENT_NONE) {
        CHECK_OK(joblot_call_next(call, -1, &event, &err));
        CHECK(event.kind != JOBLOT_EVENT_IDLE);
        if (event.kind != JOBLOT_EVENT_NONE)
            take(call, &event, out);
    }
    return event.number;
}

uint64_t u64_of(const struct outcome *o, size_t index)
{
    uint64_t value;
    if (o->kind != JOBLOT_EVENT_RESULT || o->status != JOBLOT_OK || o->size < (index + 1) * sizeof value)
        fail_case(__FILE__, __LINE__, "no number %zu in an outcome of kind %d, status %s (%s), %zu bytes", index, o->kind,
                  joblot_status_name(o->status), o->message, o->size);
    memcpy(&value, o->data + index * sizeof value, sizeof value);
    return value;
}

uint64_t ask(joblot_pool *pool, uint32_t kind, uint64_t a)
{
    struct outcome out;
    joblot_call *call = open_call(pool, 1, 0);
    submit_u64(call, kind, a);
    CHECK_EQUAL(take_one(call, &out), 0);
    uint64_t value = u64_of(&out, 0);
    free(out.data);
    joblot_call_close(call);
    return value;
}

void close_pool(joblot_pool *pool)
{
    int pids[64], server = joblot_pool_server_pid(pool);
    size_t n = joblot_pool_workers(pool, pids, 64);
    CHECK_EQUAL(joblot_pool_leased(pool), 0);
    joblot_pool_close(pool, 2000000000);
    CHECK(server == 0 || !process_is_alive(server));
    for (size_t i = 0; i < n && i < 64; i++)
        CHECK(!process_is_alive(pids[i]));
    CHECK_EQUAL(joblot__alloc_live(), blocks_before);
    CHECK_EQUAL(open_descriptors(), descriptors_before);
}

void wait_for_workers(joblot_pool *pool, int *pids, size_t n)
{
    for (int i = 0; i < 10000 && joblot_pool_workers(pool, pids, pids != NULL ? n : 0) != n; i++)
        wait_ms(1);
    CHECK_EQUAL(joblot_pool_workers(pool, pids, pids != NULL ? n : 0), n);
}
