/* test_limits.c - limits of a task's time, of a worker's memory, of the tasks and the idle time of a worker's life. */
#define _GNU_SOURCE
#include "support/pools.h"

#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const int64_t MS = 1000000;
static const uint64_t MB = 1 << 20;

/* ---- what workers do ---- */

enum { PID, SLEEP, HOLD, LEAK, CRASH, HANG, WAIT, SPIN, N_KINDS };

static int crash_file = -1;

static void leave_byte(const char *name)
{
    char path[5000];
    (void)snprintf(path, sizeof path, "%s/%s", scratch_folder(), name);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1)
        _exit(9);
    (void)close(fd);
}

static long long bytes_of(const char *name)
{
    char path[5000];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/%s", scratch_folder(), name);
    return stat(path, &st) == 0 ? (long long)st.st_size : 0;
}

static uint64_t argument(const struct joblot_task *task, size_t i)
{
    uint64_t value = 0;
    if (i < task->n_parts && task->parts[i].size == sizeof value)
        memcpy(&value, task->parts[i].data, sizeof value);
    return value;
}

#define FUNCTION(name) \
    static joblot_status name(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)

/* (pid, argument 0), after argument 1 ms; leaves a byte in the file r<argument 0>. */
FUNCTION(sleep_then_answer)
{
    char name[40];
    (void)context;
    (void)snprintf(name, sizeof name, "r%llu", (unsigned long long)argument(task, 0));
    leave_byte(name);
    for (uint64_t left = argument(task, 1); left > 0 && !joblot_worker_cancelled(w); left--)
        wait_ms(1);
    uint64_t out[2] = {(uint64_t)getpid(), argument(task, 0)};
    struct joblot_part part = {.data = out, .size = sizeof out};
    return joblot_worker_reply(w, &part, 1, err);
}

/* Memory that stays for good. */
static void hold(uint64_t size)
{
    static void *volatile last;
    char *block = malloc((size_t)size);
    if (block == NULL)
        _exit(8);
    memset(block, 1, (size_t)size);
    last = block;
    (void)last;
}

/* As above, with argument 2 bytes of memory. */
FUNCTION(hold_memory)
{
    hold(argument(task, 2));
    return sleep_then_answer(w, task, context, err);
}

/* The memory, and a pause, come when the answer has been given. */
FUNCTION(leak)
{
    joblot_status status = sleep_then_answer(w, task, context, err);
    hold(argument(task, 2));
    wait_ms(100);
    return status;
}

FUNCTION(crash)
{
    (void)w;
    (void)context;
    (void)err;
    for (uint64_t i = 0; i < argument(task, 0); i++)
        if (write(crash_file, "a line of what was running\n", 27) < 0)
            break;
    (void)kill(getpid(), SIGKILL);
    return JOBLOT_OK;
}

FUNCTION(hang)
{
    (void)w;
    (void)task;
    (void)context;
    (void)err;
    for (;;)
        (void)pause();
    return JOBLOT_OK;
}

/* Ends when the tasks from argument 1 to argument 2 have left their bytes. */
FUNCTION(wait_for_others)
{
    char name[40];
    for (uint64_t i = argument(task, 1); i < argument(task, 2); i++) {
        (void)snprintf(name, sizeof name, "r%llu", (unsigned long long)i);
        while (bytes_of(name) == 0 && !joblot_worker_cancelled(w))
            wait_ms(1);
    }
    uint64_t values[3] = {argument(task, 0), 0, 0};
    struct joblot_arrived parts[3];
    for (int i = 0; i < 3; i++)
        parts[i] = (struct joblot_arrived){.data = &values[i], .size = sizeof values[i]};
    struct joblot_task same = {.sequence = task->sequence, .kind = SLEEP, .n_parts = 3, .parts = parts};
    return sleep_then_answer(w, &same, context, err);
}

/* As sleep_then_answer, for argument 1 us, busy. */
FUNCTION(spin_then_answer)
{
    int64_t until = joblot_clock() + (int64_t)argument(task, 1) * 1000;
    char name[40];
    (void)context;
    (void)snprintf(name, sizeof name, "r%llu", (unsigned long long)argument(task, 0));
    leave_byte(name);
    while (joblot_clock() < until)
        ;
    uint64_t out[2] = {(uint64_t)getpid(), argument(task, 0)};
    struct joblot_part part = {.data = out, .size = sizeof out};
    return joblot_worker_reply(w, &part, 1, err);
}

FUNCTION(start)
{
    (void)task;
    (void)context;
    (void)err;
    crash_file = joblot_worker_crash_file(w);
    return JOBLOT_OK;
}

static bool hang_at_the_end;

FUNCTION(stop)
{
    (void)w;
    (void)task;
    (void)context;
    (void)err;
    leave_byte("stopped");
    while (hang_at_the_end)
        (void)pause();
    return JOBLOT_OK;
}

static const joblot_function functions[N_KINDS] = {
    [PID] = sleep_then_answer, [SLEEP] = sleep_then_answer, [HOLD] = hold_memory, [LEAK] = leak, [CRASH] = crash,
    [HANG] = hang, [WAIT] = wait_for_others, [SPIN] = spin_then_answer};
static const struct joblot_worker_hooks hooks = {
    .functions = functions, .n_functions = N_KINDS, .start = start, .stop = stop};

/* ---- the parent's side ---- */

static joblot_call *open_limited(joblot_pool *pool, struct joblot_call_options options)
{
    joblot_error err;
    joblot_call *call;
    if (options.n_workers == 0)
        options.n_workers = 2;
    CHECK_OK(joblot_call_open(pool, &options, &call, &err));
    return call;
}

static void submit3(joblot_call *call, uint32_t kind, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t values[] = {a, b, c};
    submit_u64s(call, kind, values, 3);
}

static void wait_for_bytes(const char *name, long long n)
{
    while (bytes_of(name) < n)
        wait_ms(1);
    CHECK_EQUAL(bytes_of(name), n);
}

/* ---- tasks of a worker's life ---- */

static void check_lives(size_t n_workers, size_t batch, uint64_t max_tasks, int n)
{
    struct outcome *out = calloc((size_t)n, sizeof *out);
    int *tasks_of = calloc(1 << 22, sizeof *tasks_of), pids = 0;
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call =
        open_limited(pool, (struct joblot_call_options){.n_workers = n_workers, .batch = batch, .max_tasks = max_tasks});
    for (int i = 0; i < n; i++)
        submit3(call, PID, (uint64_t)i, 0, 0);
    CHECK_EQUAL(drive(call, out, (size_t)n), n);
    for (int i = 0; i < n; i++) {
        uint64_t pid = u64_of(&out[i], 0);
        CHECK_EQUAL(u64_of(&out[i], 1), i);
        pids += tasks_of[pid % (1 << 22)]++ == 0;
        CHECK(tasks_of[pid % (1 << 22)] <= (int)max_tasks);
    }
    CHECK(pids >= (n + (int)max_tasks - 1) / (int)max_tasks);
    joblot_call_close(call);
    close_pool(pool);
    CHECK(bytes_of("stopped") >= pids); /* each left in an orderly way; those without a task as well */
    free(out);
    free(tasks_of);
}

static void a_process_for_each_task(void) { check_lives(2, 0, 1, 40); }
static void five_tasks_each(void) { check_lives(2, 0, 5, 100); }
static void a_batch_does_not_pass_the_limit(void) { check_lives(2, 50, 7, 200); }
static void one_worker_at_a_time(void) { check_lives(1, 1, 3, 31); }
static void more_workers_than_tasks(void) { check_lives(8, 0, 2, 5); }

static void earlier_calls_count(void)
{
    struct outcome out[6] = {{0}};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_limited(pool, (struct joblot_call_options){.n_workers = 1});
    for (int i = 0; i < 3; i++)
        submit3(call, PID, (uint64_t)i, 0, 0);
    CHECK_EQUAL(drive(call, out, 3), 3);
    uint64_t first = u64_of(&out[0], 0);
    CHECK_EQUAL(u64_of(&out[2], 0), first);
    joblot_call_close(call);
    call = open_limited(pool, (struct joblot_call_options){.n_workers = 1, .max_tasks = 5});
    memset(out, 0, sizeof out);
    for (int i = 0; i < 6; i++)
        submit3(call, PID, (uint64_t)i, 0, 0);
    CHECK_EQUAL(drive(call, out, 6), 6);
    CHECK_EQUAL(u64_of(&out[1], 0), first); /* its fourth and fifth */
    CHECK(u64_of(&out[2], 0) != first);
    CHECK_EQUAL(u64_of(&out[5], 0), u64_of(&out[2], 0));
    joblot_call_close(call);
    wait_for_bytes("stopped", 1);
    call = open_limited(pool, (struct joblot_call_options){.n_workers = 1, .max_tasks = 4}); /* it has had four */
    memset(out, 0, sizeof out);
    submit3(call, PID, 1, 0, 0);
    uint64_t second = 0;
    CHECK_EQUAL(drive(call, out, 1), 1);
    second = u64_of(&out[0], 0);
    CHECK(second != first);
    joblot_call_close(call);
    close_pool(pool);
}

static void one_that_hangs_when_it_leaves(void)
{
    struct outcome out[3] = {{0}};
    hang_at_the_end = true;
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_limited(pool, (struct joblot_call_options){.n_workers = 1, .max_tasks = 1});
    for (int i = 0; i < 3; i++)
        submit3(call, PID, (uint64_t)i, 0, 0);
    CHECK_EQUAL(drive(call, out, 3), 3); /* the others do not wait for it */
    int first = (int)u64_of(&out[0], 0);
    CHECK(process_is_alive(first));
    submit3(call, SLEEP, 3, 100000, 0);
    joblot_error err;
    struct joblot_event event;
    while (process_is_alive(first)) /* 5 s */
        CHECK_OK(joblot_call_next(call, 100 * MS, &event, &err));
    joblot_call_close(call);
    joblot_pool_close(pool, 0);
}

static void a_call_that_is_closed_early(void)
{
    joblot_pool *pool = open_pool_of(&hooks, 0);
    for (int round = 0; round < 10; round++) {
        struct outcome out;
        joblot_call *call = open_limited(pool, (struct joblot_call_options){.n_workers = 2, .max_tasks = 2});
        for (uint64_t i = 0; i < 20; i++)
            submit3(call, SLEEP, i, 2, 0);
        for (int i = 0; i < round; i++)
            (void)take_one(call, &out);
        joblot_call_close(call);
        CHECK_EQUAL(joblot_pool_leased(pool), 0);
    }
    close_pool(pool);
}

/* ---- time ---- */

static void a_task_that_takes_too_long(void)
{
    struct outcome out[6] = {{0}};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call =
        open_limited(pool, (struct joblot_call_options){.batch = 3, .retries = 5, .task_timeout_ns = 500 * MS});
    submit3(call, PID, 0, 0, 0);
    submit3(call, HANG, 0, 0, 0);
    for (uint64_t i = 2; i < 6; i++)
        submit3(call, SLEEP, i, 30, 0);
    CHECK_EQUAL(drive(call, out, 6), 6);
    for (int i = 0; i < 6; i++) {
        char name[10];
        (void)snprintf(name, sizeof name, "r%d", i);
        if (i == 1)
            continue;
        CHECK_EQUAL(u64_of(&out[i], 1), i);
        CHECK_EQUAL(bytes_of(name), 1); /* those behind it in its worker as well: run once */
    }
    CHECK_EQUAL(out[1].kind, JOBLOT_EVENT_DIED);
    CHECK_EQUAL(out[1].status, JOBLOT_TIMEOUT);
    CHECK_EQUAL(out[1].death.cause, JOBLOT_DEATH_TIMEOUT);
    CHECK_EQUAL(out[1].death.attempts, 1); /* not tried again */
    CHECK_EQUAL(out[1].death.signal, SIGKILL);
    CHECK_EQUAL(out[1].death.oom_likely, 0);
    CHECK(out[1].death.seen >= 500 * 1000000u && out[1].death.peak_memory > 0);
    CHECK(!process_is_alive(out[1].death.pid));
    joblot_call_close(call);
    close_pool(pool);
}

static void waiting_in_line_does_not_count(void)
{
    enum { N = 30 };
    struct outcome out[N] = {{0}};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call =
        open_limited(pool, (struct joblot_call_options){.n_workers = 1, .batch = N, .task_timeout_ns = 600 * MS});
    for (uint64_t i = 0; i < N; i++)
        submit3(call, SLEEP, i, 30, 0);
    CHECK_EQUAL(drive(call, out, N), N);
    for (size_t i = 0; i < N; i++)
        CHECK_EQUAL(u64_of(&out[i], 0), u64_of(&out[0], 0));
    joblot_call_close(call);
    close_pool(pool);
}

static void a_parent_that_comes_late(void)
{
    enum { N = 400 };
    struct outcome *out = calloc(N, sizeof *out);
    joblot_pool *pool = open_pool(4096); /* small rings: the worker waits for room, with its answer ready */
    joblot_call *call =
        open_limited(pool, (struct joblot_call_options){.n_workers = 1, .batch = N, .task_timeout_ns = 400 * MS});
    joblot_error err;
    struct joblot_event event;
    for (uint64_t i = 0; i < N; i++)
        submit_u64(call, DO_ECHO, i);
    CHECK_OK(joblot_call_next(call, 0, &event, &err));
    if (event.kind == JOBLOT_EVENT_RESULT)
        joblot_event_done(call, &event);
    wait_ms(900);
    (void)drive(call, out, N);
    for (uint64_t i = 1; i < N; i++)
        CHECK_EQUAL(u64_of(&out[i], 0), i);
    joblot_call_close(call);
    free(out);
    close_pool(pool);
}

static void quick_events_do_not_hide_a_slow_task(void)
{
    joblot_error err;
    struct joblot_event event;
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_limited(pool, (struct joblot_call_options){.task_timeout_ns = 500 * MS});
    uint64_t number = 1;
    submit3(call, HANG, 0, 0, 0);
    for (;;) { /* always more to do, and never a look without an event */
        while (joblot_call_pending(call) < 300)
            submit3(call, PID, number++, 0, 0);
        CHECK_OK(joblot_call_next(call, 0, &event, &err));
        if (event.kind == JOBLOT_EVENT_DIED)
            break;
        joblot_event_done(call, &event);
    }
    CHECK_EQUAL(event.number, 0);
    CHECK_EQUAL(event.status, JOBLOT_TIMEOUT);
    joblot_call_close(call);
    close_pool(pool);
}

static void many_that_hang(void)
{
    enum { N = 30 };
    struct outcome out[N] = {{0}};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_limited(pool, (struct joblot_call_options){.n_workers = 10, .task_timeout_ns = 300 * MS});
    for (uint64_t i = 0; i < N; i++)
        submit3(call, i % 3 == 0 ? PID : HANG, i, 0, 0);
    CHECK_EQUAL(drive(call, out, N), N);
    for (int i = 0; i < N; i++)
        CHECK_EQUAL(out[i].status, i % 3 == 0 ? JOBLOT_OK : JOBLOT_TIMEOUT);
    joblot_call_close(call);
    close_pool(pool);
}

/* ---- memory ---- */

static void a_task_that_takes_too_much(void)
{
    struct outcome out[5] = {{0}};
    skip_under_tsan("its own memory counts as well");
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_limited(
        pool, (struct joblot_call_options){.batch = 2, .retries = 3, .memory_limit = 100 * MB});
    submit3(call, HOLD, 0, 300, 20 * MB);
    submit3(call, HOLD, 1, 60000, 200 * MB);
    for (uint64_t i = 2; i < 5; i++)
        submit3(call, SLEEP, i, 10, 0);
    CHECK_EQUAL(drive(call, out, 5), 5);
    for (int i = 0; i < 5; i++)
        if (i != 1)
            CHECK_EQUAL(u64_of(&out[i], 1), i);
    CHECK_EQUAL(out[1].kind, JOBLOT_EVENT_DIED);
    CHECK_EQUAL(out[1].status, JOBLOT_LIMIT);
    CHECK_EQUAL(out[1].death.cause, JOBLOT_DEATH_MEMORY);
    CHECK_EQUAL(out[1].death.attempts, 1);
    CHECK(out[1].death.seen > 100 * MB && out[1].death.seen < 400 * MB);
    CHECK(out[1].death.peak_memory > 100 * MB);
    CHECK_EQUAL(out[1].death.oom_likely, 0);
    joblot_call_close(call);
    close_pool(pool);
}

static void what_a_task_leaves_is_not_the_next_ones_fault(void)
{
    enum { N = 12 };
    struct outcome out[N] = {{0}};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_limited(
        pool, (struct joblot_call_options){.n_workers = 1, .batch = N, .memory_limit = 100 * MB});
    for (uint64_t i = 0; i < N; i++) /* after the second leak there is too much */
        submit3(call, i % 3 == 2 ? SLEEP : LEAK, i, 0, 60 * MB);
    CHECK_EQUAL(drive(call, out, N), N);
    for (int i = 0; i < N; i++) {
        CHECK_EQUAL(u64_of(&out[i], 1), i);
        char name[10];
        (void)snprintf(name, sizeof name, "r%d", i);
        CHECK_EQUAL(bytes_of(name), 1);
    }
    for (int i = 2; i < N; i++)
        CHECK_EQUAL(u64_of(&out[i], 0) == u64_of(&out[i - 1], 0), i % 3 != 2);
    CHECK(bytes_of("stopped") > 0); /* such a worker leaves in an orderly way */
    joblot_call_close(call);
    close_pool(pool);
}

static void shared_memory_does_not_count(void)
{
    struct outcome out = {0};
    skip_under_tsan("its own memory counts as well");
    joblot_error err;
    joblot_segment *segment;
    void *data;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_limited(pool, (struct joblot_call_options){.memory_limit = 60 * MB});
    CHECK_OK(joblot_call_segment(call, 150 * MB, &segment, &err));
    CHECK_OK(joblot_segment_data(segment, &data, &err));
    memset(data, 1, 150 * MB);
    uint64_t mode = JOBLOT_MAP_READ;
    struct joblot_part parts[] = {{.data = &mode, .size = 8}, {.size = 150 * MB, .segment = segment}};
    submit(call, DO_SUM, parts, 2);
    joblot_segment_release(segment);
    CHECK_EQUAL(drive(call, &out, 1), 1);
    CHECK_EQUAL(u64_of(&out, 0), 150 * MB);
    joblot_call_close(call);
    close_pool(pool);
}

static void the_limit_ends_with_its_call(void)
{
    struct outcome out[2] = {{0}};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_limited(pool, (struct joblot_call_options){.n_workers = 1, .memory_limit = 100 * MB});
    submit3(call, PID, 0, 0, 0);
    CHECK_EQUAL(drive(call, out, 1), 1);
    joblot_call_close(call);
    call = open_limited(pool, (struct joblot_call_options){.n_workers = 1});
    submit3(call, HOLD, 0, 100, 200 * MB);
    CHECK_EQUAL(drive(call, out + 1, 1), 1);
    CHECK_EQUAL(u64_of(&out[1], 0), u64_of(&out[0], 0));
    joblot_call_close(call);
    close_pool(pool);
}

static void no_proc(void)
{
    joblot_error err;
    joblot_call *call;
    joblot_pool *pool = open_pool(0);
    joblot__os_forbid("status", ENOENT);
    struct joblot_call_options options = {.n_workers = 1, .memory_limit = 100 * MB};
    CHECK_STATUS(joblot_call_open(pool, &options, &call, &err), JOBLOT_UNSUPPORTED);
    CHECK_CONTAINS(err.message, "/proc");
    close_pool(pool);
}

/* ---- idle time ---- */

static void idle_workers_leave(void)
{
    struct outcome out[4] = {{0}};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    for (int round = 0; round < 2; round++) {
        joblot_call *call = open_limited(pool, (struct joblot_call_options){.idle_timeout_ns = 200 * MS});
        memset(out, 0, sizeof out);
        for (uint64_t i = 0; i < 4; i++)
            submit3(call, SLEEP, i, 20, 0);
        CHECK_EQUAL(drive(call, out, 4), 4);
        joblot_call_close(call);
        CHECK_EQUAL(joblot_pool_workers(pool, NULL, 0), 2);
        int server = joblot_pool_server_pid(pool);
        wait_for_workers(pool, NULL, 0);
        CHECK_EQUAL(joblot_pool_server_pid(pool), server); /* it stays */
        CHECK_EQUAL(bytes_of("stopped"), 2 * (round + 1));
    }
    close_pool(pool);
}

static void a_worker_that_waits_within_a_call_stays(void)
{
    struct outcome out[2] = {{0}};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_limited(pool, (struct joblot_call_options){.n_workers = 1, .idle_timeout_ns = 50 * MS});
    submit3(call, PID, 0, 0, 0);
    CHECK_EQUAL(drive(call, out, 1), 1);
    wait_ms(300);
    submit3(call, PID, 1, 0, 0);
    CHECK_EQUAL(drive(call, out, 2), 1);
    CHECK_EQUAL(u64_of(&out[1], 0), u64_of(&out[0], 0));
    joblot_call_close(call);
    close_pool(pool);
}

static void leases_race_with_leaving(void)
{
    uint64_t last = 0;
    int changes = 0;
    joblot_pool *pool = open_pool_of(&hooks, 0);
    for (unsigned i = 0; i < 600; i++) {
        struct outcome out = {0};
        joblot_call *call = open_limited(pool, (struct joblot_call_options){.n_workers = 1, .idle_timeout_ns = MS});
        submit3(call, PID, i, 0, 0);
        CHECK_EQUAL(drive(call, &out, 1), 1);
        CHECK_EQUAL(u64_of(&out, 1), i);
        changes += u64_of(&out, 0) != last;
        last = u64_of(&out, 0);
        joblot_call_close(call);
        int64_t until = joblot_clock() + MS - 150000 + (int64_t)(i % 30) * 10000; /* around the worker's time */
        while (joblot_clock() < until)
            ;
    }
    CHECK(changes > 1); /* else nothing was tried */
    close_pool(pool);
}

/* ---- what it costs ---- */

/* System calls of the parent while it waits for one task of half a second, its worker being warm. */
static unsigned long calls_made(joblot_pool *pool, struct joblot_call_options options)
{
    struct outcome out[3] = {{0}};
    joblot_call *call = open_limited(pool, options);
    submit3(call, PID, 0, 0, 0);
    submit3(call, PID, 1, 0, 0);
    CHECK_EQUAL(drive(call, out, 2), 2);
    unsigned long before = joblot__os_count();
    submit3(call, SLEEP, 2, 500, 0);
    CHECK_EQUAL(drive(call, out, 3), 1);
    unsigned long made = joblot__os_count() - before;
    joblot_call_close(call);
    return made;
}

static void nobody_looks_without_need(void)
{
    joblot_pool *pool = open_pool_of(&hooks, 0);
    unsigned long bare = calls_made(pool, (struct joblot_call_options){0});
    unsigned long timed = calls_made(pool, (struct joblot_call_options){.task_timeout_ns = 60000 * MS});
    unsigned long counted = calls_made(pool, (struct joblot_call_options){.max_tasks = 100, .idle_timeout_ns = MS});
    unsigned long weighed = calls_made(pool, (struct joblot_call_options){.memory_limit = 1000 * MB});
    CHECK(bare < 20);
    CHECK(timed < bare + 10);
    CHECK(counted < bare + 10);
    CHECK(weighed > bare && weighed < bare + 10 * 500 / 30);
    close_pool(pool);
}

/* ---- tasks behind a long one ---- */

static void nothing_waits_behind_a_long_task(void)
{
    enum { N = 41 };
    struct outcome out[N] = {{0}};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_limited(pool, (struct joblot_call_options){.n_workers = 2, .batch = 20});
    submit3(call, WAIT, 0, 1, N); /* it has tasks in line that it waits for */
    for (uint64_t i = 1; i < N; i++)
        submit3(call, PID, i, 0, 0);
    CHECK_EQUAL(drive(call, out, N), N);
    for (int i = 1; i < N; i++) {
        char name[10];
        (void)snprintf(name, sizeof name, "r%d", i);
        CHECK_EQUAL(u64_of(&out[i], 1), i);
        CHECK_EQUAL(bytes_of(name), 1);
        CHECK(u64_of(&out[i], 0) != u64_of(&out[0], 0));
    }
    joblot_call_close(call);
    close_pool(pool);
}

static void taken_back_at_the_last_instant(void)
{
    enum { N = 240 };
    struct outcome *out = calloc(N, sizeof *out);
    int moved = 0;
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_limited(pool, (struct joblot_call_options){.n_workers = 2, .batch = 3, .max_tasks = 1000});
    for (uint64_t i = 0; i < N; i += 4) { /* three to one worker, one to the other, which is idle soon */
        for (uint64_t k = 0; k < 4; k++) /* each of them ends about when it is found to be long */
            submit3(call, SPIN, i + k, k < 3 ? 9900 + (i * 7 + k * 3) % 200 : 0, 0);
        CHECK_EQUAL(drive(call, out, N), 4);
        moved += u64_of(&out[i + 2], 0) != u64_of(&out[i], 0);
    }
    for (int i = 0; i < N; i++) {
        char name[10];
        (void)snprintf(name, sizeof name, "r%d", i);
        CHECK_EQUAL(u64_of(&out[i], 1), i);
        CHECK_EQUAL(bytes_of(name), 1); /* neither lost nor run twice */
    }
    CHECK(moved > 0);
    joblot_call_close(call);
    free(out);
    close_pool(pool);
}

static void killed_after_tasks_were_taken_back(void)
{
    enum { N = 30 };
    struct outcome out[N] = {{0}};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call =
        open_limited(pool, (struct joblot_call_options){.n_workers = 2, .batch = 15, .task_timeout_ns = 300 * MS});
    for (uint64_t i = 0; i < N; i++)
        submit3(call, i % 10 == 0 ? HANG : PID, i, 0, 0);
    CHECK_EQUAL(drive(call, out, N), N);
    for (int i = 0; i < N; i++) {
        CHECK_EQUAL(out[i].status, i % 10 == 0 ? JOBLOT_TIMEOUT : JOBLOT_OK);
        char name[10];
        (void)snprintf(name, sizeof name, "r%d", i);
        CHECK_EQUAL(bytes_of(name), i % 10 != 0);
    }
    joblot_call_close(call);
    close_pool(pool);
}

/* ---- crashes ---- */

static void what_a_crash_says(void)
{
    struct outcome out = {0};
    static const uint64_t lines[] = {0, 2, 600, 1000};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_limited(pool, (struct joblot_call_options){.n_workers = 1});
    for (size_t i = 0; i < 4; i++) {
        memset(&out, 0, sizeof out);
        submit3(call, CRASH, lines[i], 0, 0);
        CHECK_EQUAL(take_one(call, &out), i);
        CHECK_EQUAL(out.kind, JOBLOT_EVENT_DIED);
        CHECK_EQUAL(out.death.cause, JOBLOT_DEATH_OTHER);
        CHECK(out.death.oom_likely <= 0);
        if (lines[i] == 0) {
            CHECK(out.death.crash == NULL);
            continue;
        }
        CHECK_CONTAINS(out.death.crash, "a line of what was running\n");
        size_t length = strlen(out.death.crash), whole = 27 * (size_t)lines[i];
        CHECK(whole <= 16384 ? length == whole : length <= 16384 && length > 16384 - 4096);
    }
    joblot_call_close(call);
    close_pool(pool);
}

static const struct test_case cases[] = {
    {"a_process_for_each_task", a_process_for_each_task, 20},
    {"five_tasks_each", five_tasks_each, 20},
    {"a_batch_does_not_pass_the_limit", a_batch_does_not_pass_the_limit, 20},
    {"one_worker_at_a_time", one_worker_at_a_time, 20},
    {"more_workers_than_tasks", more_workers_than_tasks, 20},
    {"earlier_calls_count", earlier_calls_count, 20},
    {"one_that_hangs_when_it_leaves", one_that_hangs_when_it_leaves, 30},
    {"a_call_that_is_closed_early", a_call_that_is_closed_early, 20},
    {"a_task_that_takes_too_long", a_task_that_takes_too_long, 20},
    {"waiting_in_line_does_not_count", waiting_in_line_does_not_count, 20},
    {"a_parent_that_comes_late", a_parent_that_comes_late, 20},
    {"quick_events_do_not_hide_a_slow_task", quick_events_do_not_hide_a_slow_task, 20},
    {"many_that_hang", many_that_hang, 20},
    {"a_task_that_takes_too_much", a_task_that_takes_too_much, 20},
    {"what_a_task_leaves_is_not_the_next_ones_fault", what_a_task_leaves_is_not_the_next_ones_fault, 20},
    {"shared_memory_does_not_count", shared_memory_does_not_count, 20},
    {"the_limit_ends_with_its_call", the_limit_ends_with_its_call, 20},
    {"no_proc", no_proc, 20},
    {"idle_workers_leave", idle_workers_leave, 20},
    {"a_worker_that_waits_within_a_call_stays", a_worker_that_waits_within_a_call_stays, 20},
    {"leases_race_with_leaving", leases_race_with_leaving, 30},
    {"nobody_looks_without_need", nobody_looks_without_need, 20},
    {"nothing_waits_behind_a_long_task", nothing_waits_behind_a_long_task, 20},
    {"taken_back_at_the_last_instant", taken_back_at_the_last_instant, 40},
    {"killed_after_tasks_were_taken_back", killed_after_tasks_were_taken_back, 20},
    {"what_a_crash_says", what_a_crash_says, 20},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
