/* test_pool_server.c - the two ways of making a server, and of making workers: forks with hooks around them, and workers
 * that are exec'd where the server has threads. */
#define _GNU_SOURCE
#include "support/pools.h"

#include "base/alloc.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- a server that is a fork, of a program that must know of forks ---- */

/* What the hooks have seen, in this process; a global that is set at run time is seen by workers. */
static struct {
    int before, after_parent, after_child, token, forks;
    pthread_mutex_t lock; /* of the program: held around the fork, as Python's is */
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int before_server(void *context)
{
    CHECK(context == &seen);
    CHECK_EQUAL(pthread_mutex_lock(&seen.lock), 0);
    seen.before++;
    return 40 + seen.before;
}

static void after_server_parent(void *context, int before)
{
    CHECK(context == &seen);
    seen.after_parent++;
    seen.token = before;
    CHECK_EQUAL(pthread_mutex_unlock(&seen.lock), 0);
}

static void after_server_child(void *context, int before)
{
    CHECK(context == &seen);
    seen.after_child++;
    seen.token = before;
    CHECK_EQUAL(pthread_mutex_unlock(&seen.lock), 0);
}

static int n_deadly; /* so many servers die before they fork a worker */

static void before_worker(void *context)
{
    (void)context;
    seen.forks++;
    if (seen.before <= n_deadly)
        (void)kill(getpid(), SIGKILL);
}

enum { TELL_BEFORE, TELL_CHILD, TELL_TOKEN, TELL_FORKS, N_TELL };

static joblot_status tell(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)context;
    (void)task;
    uint64_t values[N_TELL] = {(uint64_t)seen.before, (uint64_t)seen.after_child, (uint64_t)seen.token,
                               (uint64_t)seen.forks};
    struct joblot_part part = {.data = values, .size = sizeof values};
    return joblot_worker_reply(w, &part, 1, err);
}

static joblot_status kill_server(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)w;
    (void)task;
    (void)context;
    (void)err;
    CHECK_EQUAL(kill(getppid(), SIGKILL), 0);
    while (pause() == -1)
        continue;
    return JOBLOT_OK;
}

static _Noreturn joblot_status leave(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)w;
    (void)task;
    (void)context;
    (void)err;
    _exit(0); /* as Python leaves */
}

static const joblot_function forked_functions[] = {tell, kill_server};
static const struct joblot_worker_hooks forked_worker = {.functions = forked_functions, .n_functions = 2, .stop = leave};
static const struct joblot_server_hooks forked_server = {.worker = &forked_worker, .before_fork = before_worker};
static const struct joblot_fork_hooks fork_hooks = {
    .context = &seen, .before = before_server, .after_parent = after_server_parent, .after_child = after_server_child};

static joblot_pool *open_forked(void)
{
    struct joblot_pool_options options = {.server = &forked_server, .fork = &fork_hooks};
    joblot_pool *pool;
    joblot_error err;
    CHECK_OK(joblot_pool_open(&options, &pool, &err));
    return pool;
}

static void check_forked(joblot_pool *pool, int n)
{
    struct outcome out[4] = {{0}};
    joblot_call *call = open_call(pool, 2, 0);
    for (int i = 0; i < 4; i++)
        submit(call, 0, NULL, 0);
    CHECK_EQUAL(drive(call, out, 4), 4);
    for (int i = 0; i < 4; i++) {
        CHECK_EQUAL(u64_of(&out[i], TELL_BEFORE), n);
        CHECK_EQUAL(u64_of(&out[i], TELL_CHILD), 1);
        CHECK_EQUAL(u64_of(&out[i], TELL_TOKEN), 40 + n);
        CHECK(u64_of(&out[i], TELL_FORKS) >= 1);
        free(out[i].data);
    }
    joblot_call_close(call);
    CHECK_EQUAL(seen.before, n);
    CHECK_EQUAL(seen.after_parent, n);
    CHECK_EQUAL(seen.after_child, 0);
    CHECK_EQUAL(seen.token, 40 + n);
    CHECK_EQUAL(joblot_pool_execs(pool), 0);
}

/* A worker answers what it has got until the kernel has taken it away. */
static void kill_server_of(joblot_pool *pool)
{
    int pids[8], server = joblot_pool_server_pid(pool);
    size_t n = joblot_pool_workers(pool, pids, 8);
    CHECK_EQUAL(kill(server, SIGKILL), 0);
    wait_until_gone(server);
    for (size_t i = 0; i < n; i++)
        wait_until_gone(pids[i]);
}

static void close_forked(joblot_pool *pool)
{
    int pids[8], server = joblot_pool_server_pid(pool);
    size_t n = joblot_pool_workers(pool, pids, 8);
    joblot_pool_close(pool, 2000000000);
    CHECK(server > 1 && !process_is_alive(server));
    for (size_t i = 0; i < n; i++)
        CHECK(!process_is_alive(pids[i]));
}

static void hooks_stand_around_the_fork_of_a_server(void)
{
    size_t blocks = joblot__alloc_live();
    int descriptors = open_descriptors();
    joblot_pool *pool = open_forked();
    check_forked(pool, 1);
    kill_server_of(pool);
    check_forked(pool, 2);
    struct outcome one;
    joblot_call *call = open_call(pool, 2, 0);
    submit(call, 1, NULL, 0);
    (void)take_one(call, &one);
    CHECK_EQUAL(one.kind, JOBLOT_EVENT_DIED);
    CHECK(one.death.server_died && !one.death.status_known);
    joblot_call_close(call);
    check_forked(pool, 3);
    close_forked(pool);
    CHECK_EQUAL(joblot__alloc_live(), blocks);
    CHECK_EQUAL(open_descriptors(), descriptors);
}

/* Threads that hold the program's lock while they ask the pool, and one that needs it for a new server. */
static joblot_pool *shared;
static atomic_bool over;

static void *ask_with_the_lock(void *unused)
{
    while (!atomic_load(&over)) {
        CHECK_EQUAL(pthread_mutex_lock(&seen.lock), 0);
        (void)joblot_pool_server_pid(shared);
        (void)joblot_pool_leased(shared);
        CHECK_EQUAL(pthread_mutex_unlock(&seen.lock), 0);
    }
    return unused;
}

static void the_programs_lock_may_be_held_by_one_who_waits_for_the_pools(void)
{
    pthread_t threads[3];
    shared = open_forked();
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, ask_with_the_lock, NULL), 0);
    for (int n = 1; n <= 20; n++) {
        check_forked(shared, n);
        kill_server_of(shared);
    }
    check_forked(shared, 21);
    atomic_store(&over, true);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    close_forked(shared);
}

/* ---- workers that are exec'd ---- */

static char self[4096];

static void *idle(void *unused)
{
    for (;;)
        (void)pause();
    return unused;
}

/* This program as a server.  `how`: "threads": it has two; "gone": and its workers' program is not there; "fork": it has
 * two, and no program for workers, which it forks all the same. */
static _Noreturn void be_server(const char *how)
{
    const char *const argv[] = {strcmp(how, "gone") == 0 ? "/no/such/program" : self, "worker", NULL};
    struct joblot_server_hooks hooks = {.worker = &test_hooks, .worker_argv = strcmp(how, "fork") == 0 ? NULL : argv};
    joblot_error err = {.message = ""};
    pthread_t thread;
    int role;
    CHECK_EQUAL(pthread_create(&thread, NULL, idle, NULL), 0);
    joblot_status status = joblot_server_run(JOBLOT_SERVER_SOCKET, JOBLOT_SERVER_PIDFD, &hooks, &role, &err);
    if (status != JOBLOT_OK)
        (void)fprintf(stderr, "server: %s\n", err.message);
    _exit(status != JOBLOT_OK); /* a worker keeps what a mapping may still refer to: no leak */
}

static _Noreturn void be_worker(const char *server_pid, const char *parent_pid)
{
    joblot_error err = {.message = ""};
    joblot_status status = joblot_worker_run(&test_hooks, atoi(server_pid), atoi(parent_pid), &err);
    if (status != JOBLOT_OK)
        (void)fprintf(stderr, "worker: %s\n", err.message);
    _exit(status != JOBLOT_OK);
}

static joblot_pool *open_execd(const char *how)
{
    const char *const argv[] = {self, "server", how, NULL};
    struct joblot_pool_options options = {.server_argv = argv};
    joblot_pool *pool;
    joblot_error err;
    CHECK_OK(joblot_pool_open(&options, &pool, &err));
    return pool;
}

static void echo_large_ones(joblot_pool *pool)
{
    struct outcome out[8] = {{0}};
    joblot_call *call = open_call(pool, 2, 0);
    for (uint64_t i = 0; i < 8; i++) {
        uint64_t how[] = {i % 2 ? 3000000 : 50, i, 3};
        submit_u64s(call, DO_BIG, how, 3);
    }
    CHECK_EQUAL(drive(call, out, 8), 8);
    for (uint64_t i = 0; i < 8; i++) {
        check_pattern(out[i].data, out[i].size, i);
        free(out[i].data);
    }
    joblot_call_close(call);
}

static void a_server_with_threads_execs_its_workers(void)
{
    joblot_pool *pool = open_execd("threads");
    int pids[2], again[2];
    echo_large_ones(pool);
    wait_for_workers(pool, pids, 2);
    CHECK(joblot_pool_execs(pool) >= 2); /* more where one was lost on its way */
    /* Their deaths are told as those of others. */
    struct outcome one;
    joblot_call *call = open_call(pool, 1, 0);
    submit_u64(call, DO_KILL, SIGTERM);
    (void)take_one(call, &one);
    CHECK_EQUAL(one.kind, JOBLOT_EVENT_DIED);
    CHECK_EQUAL(one.death.signal, SIGTERM);
    CHECK(one.death.peak_memory > 100000);
    joblot_call_close(call);
    echo_large_ones(pool);
    wait_for_workers(pool, again, 2);
    uint64_t execd = ask(pool, DO_FDS, 0);
    close_forked(pool);
    pool = open_execd("fork");
    CHECK_EQUAL(execd, ask(pool, DO_FDS, 0)); /* as many as a forked one has: nothing of the server's */
    close_forked(pool);
}

static void such_workers_go_with_the_server(void)
{
    joblot_pool *pool = open_execd("threads");
    joblot_error err;
    struct joblot_event event;
    int pids[2];
    joblot_call *call = open_call(pool, 2, 0);
    submit_u64(call, DO_SPIN, 0);
    submit_u64(call, DO_SPIN, 0);
    CHECK_OK(joblot_call_next(call, 0, &event, &err));
    for (size_t n = 0; n < 2;) {
        CHECK_OK(joblot_call_next(call, 10000000, &event, &err));
        n = joblot_pool_workers(pool, pids, 2);
    }
    CHECK_EQUAL(kill(joblot_pool_server_pid(pool), SIGKILL), 0);
    wait_until_gone(pids[0]);
    wait_until_gone(pids[1]);
    joblot_call_close(call);
    joblot_pool_close(pool, 0);
}

static void a_program_for_workers_that_is_not_there(void)
{
    joblot_pool *pool = open_execd("gone");
    joblot_error err;
    struct joblot_event event = {.kind = JOBLOT_EVENT_NONE};
    joblot_status status = JOBLOT_OK;
    joblot_call *call = open_call(pool, 2, 0);
    submit_u64(call, DO_PID, 0);
    while (status == JOBLOT_OK) {
        status = joblot_call_next(call, -1, &event, &err);
        CHECK(status != JOBLOT_OK || event.kind == JOBLOT_EVENT_NONE);
    }
    CHECK_EQUAL(status, JOBLOT_WORKER_DIED);
    joblot_call_close(call);
    close_forked(pool);
}

/* One death, however many workers were on their way: else a single one would end a call for many workers. */
static void a_server_dies_with_many_workers_on_their_way(void)
{
    static struct outcome out[200];
    n_deadly = 6;
    joblot_pool *pool = open_forked();
    joblot_call *call = open_call(pool, 64, 0);
    for (int i = 0; i < 200; i++)
        submit(call, 0, NULL, 0);
    CHECK_EQUAL(drive(call, out, 200), 200);
    for (int i = 0; i < 200; i++)
        CHECK(u64_of(&out[i], TELL_BEFORE) > 6);
    joblot_call_close(call);
    close_forked(pool);
}

static void without_a_program_for_workers_they_are_forked(void)
{
    joblot_pool *pool = open_execd("fork");
    echo_large_ones(pool);
    CHECK_EQUAL(joblot_pool_execs(pool), 0);
    close_forked(pool);
}

static void what_is_refused(void)
{
    struct joblot_pool_options options = {.fork = &fork_hooks};
    joblot_pool *pool;
    joblot_error err;
    CHECK_STATUS(joblot_pool_open(&options, &pool, &err), JOBLOT_INVALID);
    CHECK_CONTAINS(err.message, "a pool needs hooks");
    CHECK_STATUS(joblot_worker_run(NULL, 1, 1, &err), JOBLOT_INVALID);
    CHECK_STATUS(joblot_worker_run(&test_hooks, 0, 1, &err), JOBLOT_INVALID);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"hooks_stand_around_the_fork_of_a_server", hooks_stand_around_the_fork_of_a_server, 20},
        {"the_programs_lock_may_be_held_by_one_who_waits_for_the_pools",
         the_programs_lock_may_be_held_by_one_who_waits_for_the_pools, 60},
        {"a_server_with_threads_execs_its_workers", a_server_with_threads_execs_its_workers, 20},
        {"such_workers_go_with_the_server", such_workers_go_with_the_server, 20},
        {"a_server_dies_with_many_workers_on_their_way", a_server_dies_with_many_workers_on_their_way, 30},
        {"a_program_for_workers_that_is_not_there", a_program_for_workers_that_is_not_there, 20},
        {"without_a_program_for_workers_they_are_forked", without_a_program_for_workers_they_are_forked, 20},
        {"what_is_refused", what_is_refused, 10},
    };
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    if (argc == 3 && strcmp(argv[1], "server") == 0)
        be_server(argv[2]);
    if (argc == 4 && strcmp(argv[1], "worker") == 0)
        be_worker(argv[2], argv[3]);
    return run_cases(cases, sizeof cases / sizeof *cases, argc, argv);
}
