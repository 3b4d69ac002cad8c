/* test_pool_death.c - workers and servers that die: what each death costs, and what it does not. */
#define _GNU_SOURCE
#include "support/pools.h"

#include "os/os.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void submit_count(joblot_call *call, uint64_t deaths, const char *name)
{
    char path[5000];
    (void)snprintf(path, sizeof path, "%s/%s", scratch_folder(), name);
    struct joblot_part parts[] = {{.data = &deaths, .size = 8}, {.data = path, .size = strlen(path) + 1}};
    submit(call, DO_COUNT, parts, 2);
}

static long long runs_of(const char *name)
{
    char path[5000];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/%s", scratch_folder(), name);
    return stat(path, &st) == 0 ? (long long)st.st_size : 0;
}

/* ---- how they die ---- */

static void a_death_is_told_with_its_cause(void)
{
    struct outcome out[8] = {{0}};
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 2, 0);
    submit_u64(call, DO_ECHO, 1);
    submit_u64(call, DO_KILL, SIGKILL);
    submit_u64(call, DO_EXIT, 3);
    submit_u64(call, DO_SEGFAULT, 0);
    submit_u64(call, DO_KILL, SIGTERM);
    submit_u64(call, DO_EXIT, 0);
    submit_u64(call, DO_KILL, SIGINT); /* does nothing to a worker */
    submit_u64(call, DO_ECHO, 2);
    CHECK_EQUAL(drive(call, out, 8), 8);
    static const int signals[] = {0, SIGKILL, 0, SIGSEGV, SIGTERM, 0}, codes[] = {0, -1, 3, -1, -1, 0};
    for (int i = 1; i <= 5; i++) {
        CHECK_EQUAL(out[i].kind, JOBLOT_EVENT_DIED);
        CHECK_EQUAL(out[i].status, JOBLOT_WORKER_DIED);
        CHECK_EQUAL(out[i].death.status_known, 1);
        CHECK_EQUAL(out[i].death.signal, signals[i]);
        CHECK_EQUAL(out[i].death.exit_code, codes[i]);
        CHECK_EQUAL(out[i].death.attempts, 1);
        CHECK_EQUAL(out[i].death.server_died, 0);
        CHECK(out[i].death.pid > 1 && out[i].death.peak_memory > 0);
    }
    CHECK_EQUAL(u64_of(&out[0], 0), 1);
    CHECK_EQUAL(u64_of(&out[6], 0), 0);
    CHECK_EQUAL(u64_of(&out[7], 0), 2);
    joblot_call_close(call);
    close_pool(pool);
}

static void a_death_costs_the_running_task_only(void)
{
    enum { N = 200 };
    struct outcome out[N] = {{0}};
    char name[20];
    joblot_error err;
    joblot_call *call;
    joblot_pool *pool = open_pool(0);
    struct joblot_call_options options = {.n_workers = 1, .batch = 50};
    CHECK_OK(joblot_call_open(pool, &options, &call, &err));
    for (int i = 0; i < N; i++) {
        (void)snprintf(name, sizeof name, "c%d", i);
        if (i % 40 == 13)
            submit_u64(call, DO_KILL, SIGKILL);
        else
            submit_count(call, 0, name);
    }
    CHECK_EQUAL(drive(call, out, N), N);
    for (int i = 0; i < N; i++) {
        (void)snprintf(name, sizeof name, "c%d", i);
        CHECK_EQUAL(out[i].kind, i % 40 == 13 ? JOBLOT_EVENT_DIED : JOBLOT_EVENT_RESULT);
        if (i % 40 != 13)
            CHECK_EQUAL(runs_of(name), 1); /* once: neither lost with the batch nor done again */
    }
    joblot_call_close(call);
    close_pool(pool);
}

static void retries_count_exactly(void)
{
    struct outcome out[5] = {{0}};
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 2, 2);
    submit_count(call, 2, "two");
    submit_count(call, 3, "three");
    submit_count(call, 0, "none");
    submit_u64(call, DO_EXIT, 7);
    submit_u64(call, DO_ECHO, 5);
    CHECK_EQUAL(drive(call, out, 5), 5);
    CHECK_EQUAL(u64_of(&out[0], 0), 3);
    CHECK_EQUAL(out[1].kind, JOBLOT_EVENT_DIED);
    CHECK_EQUAL(out[1].death.attempts, 3);
    CHECK_EQUAL(runs_of("two"), 3);
    CHECK_EQUAL(runs_of("three"), 3);
    CHECK_EQUAL(runs_of("none"), 1);
    CHECK_EQUAL(out[3].death.attempts, 3);
    CHECK_EQUAL(out[3].death.exit_code, 7);
    CHECK_EQUAL(u64_of(&out[4], 0), 5);
    joblot_call_close(call);
    close_pool(pool);
}

static void an_idle_workers_death_costs_nothing(void)
{
    int pids[2];
    struct outcome out[20] = {{0}};
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 2, 0);
    for (uint64_t i = 0; i < 10; i++)
        submit_u64(call, DO_SLEEP, 5);
    CHECK_EQUAL(drive(call, out, 10), 10);
    wait_for_workers(pool, pids, 2);
    CHECK(kill(pids[0], SIGKILL) == 0);
    for (uint64_t i = 10; i < 20; i++)
        submit_u64(call, DO_ECHO, i);
    CHECK_EQUAL(drive(call, out, 20), 10);
    joblot_call_close(call);
    size_t n = joblot_pool_workers(pool, pids, 2); /* one may have done it all */
    for (size_t i = 0; i < n; i++)
        CHECK(kill(pids[i], SIGKILL) == 0); /* between two calls */
    CHECK_EQUAL(ask(pool, DO_ECHO, 4), 4);
    close_pool(pool);
}

/* ---- an answer that nobody has read yet ---- */

static void next_result(joblot_call *call, struct joblot_event *event)
{
    joblot_error err;
    do
        CHECK_OK(joblot_call_next(call, -1, event, &err));
    while (event->kind == JOBLOT_EVENT_NONE);
}

static void killed_while_its_answer_is_read(unsigned retries, bool read_first)
{
    joblot_error err;
    struct joblot_event event;
    struct outcome one;
    int pid;
    unsigned char *back = malloc(1000000);
    uint64_t how[] = {1000000, 4, 2};
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, retries);
    submit_u64s(call, DO_BIG, how, 3);
    next_result(call, &event);
    CHECK_EQUAL(event.kind, JOBLOT_EVENT_RESULT);
    CHECK(joblot_event_data(call, &event, 0) == NULL);
    if (read_first) {
        CHECK_OK(joblot_event_read(call, &event, 0, back, &err));
        check_pattern(back, 500000, 4);
    }
    CHECK_EQUAL(joblot_pool_workers(pool, &pid, 1), 1);
    CHECK(kill(pid, SIGKILL) == 0);
    wait_until_gone(pid);
    CHECK_STATUS(joblot_event_read(call, &event, 1, back, &err), JOBLOT_WORKER_DIED);
    CHECK_STATUS(joblot_event_read(call, &event, 0, back, &err), JOBLOT_WORKER_DIED);
    joblot_event_done(call, &event);
    CHECK_EQUAL(joblot_call_pending(call), 1);
    (void)take_one(call, &one);
    CHECK_EQUAL(one.kind, retries ? JOBLOT_EVENT_RESULT : JOBLOT_EVENT_DIED);
    if (retries)
        check_pattern(one.data, 1000000, 4);
    else
        CHECK_EQUAL(one.death.signal, SIGKILL);
    joblot_call_close(call);
    close_pool(pool);
    free(back);
}

static void killed_under_the_reader_and_retried(void) { killed_while_its_answer_is_read(1, can_read_processes()); }
static void killed_under_the_reader(void) { killed_while_its_answer_is_read(0, can_read_processes()); }

static void killed_under_the_reader_without_vm_readv(void)
{
    joblot__os_forbid("process_vm_readv", 1);
    killed_while_its_answer_is_read(1, false);
}

static void killed_with_its_answer_unseen(void)
{
    struct outcome out[2] = {{0}};
    int pid;
    uint64_t how[] = {1000000, 4, 2}, small[] = {10, 6, 1};
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 1);
    struct joblot_event event;
    joblot_error err;
    submit_u64s(call, DO_BIG, small, 3);
    submit_u64s(call, DO_BIG, how, 3);
    CHECK_OK(joblot_call_next(call, 0, &event, &err));
    CHECK_EQUAL(event.kind, JOBLOT_EVENT_NONE);
    wait_ms(100);
    CHECK_EQUAL(joblot_pool_workers(pool, &pid, 1), 1);
    CHECK(kill(pid, SIGKILL) == 0);
    wait_until_gone(pid);
    CHECK_EQUAL(drive(call, out, 2), 2); /* what is in the ring counts; what lay in the worker is made again */
    check_pattern(out[0].data, 10, 6);
    check_pattern(out[1].data, 1000000, 4);
    joblot_call_close(call);
    close_pool(pool);
}

/* ---- at the start ---- */

static int starts_left;

static joblot_status bad_start(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)w;
    (void)task;
    (void)err;
    const char *path = context;
    if (runs_of(path) >= starts_left)
        return JOBLOT_OK;
    char whole[5000];
    (void)snprintf(whole, sizeof whole, "%s/%s", scratch_folder(), path);
    FILE *file = fopen(whole, "a");
    if (file == NULL || fputs("x", file) < 0 || fclose(file) != 0)
        _exit(9);
    _exit(5);
}

static joblot_pool *open_bad_pool(int deaths, char *name)
{
    joblot_error err;
    joblot_pool *pool;
    static struct joblot_worker_hooks bad_hooks; /* as long as the server */
    struct joblot_worker_hooks *hooks = &bad_hooks;
    *hooks = (struct joblot_worker_hooks){
        .functions = test_functions, .n_functions = N_DO, .start = bad_start, .context = name};
    struct joblot_pool_options options = {.hooks = hooks};
    starts_left = deaths;
    CHECK_OK(joblot_pool_open(&options, &pool, &err));
    return pool;
}

static void workers_that_die_at_start(void)
{
    static char never[] = "never", twice[] = "twice";
    joblot_error err;
    struct joblot_event event;
    joblot_pool *pool = open_bad_pool(1000000, never);
    joblot_call *call = open_call(pool, 1, 0);
    submit_u64(call, DO_ECHO, 1);
    joblot_status status;
    do
        status = joblot_call_next(call, -1, &event, &err);
    while (status == JOBLOT_OK && event.kind == JOBLOT_EVENT_NONE);
    CHECK_EQUAL(status, JOBLOT_WORKER_DIED);
    CHECK_CONTAINS(err.message, "before they could take a task");
    joblot_call_close(call);
    joblot_pool_close(pool, 1000000000);
    pool = open_bad_pool(2, twice);
    CHECK_EQUAL(ask(pool, DO_ECHO, 8), 8);
    joblot_pool_close(pool, 1000000000);
}

/* ---- the server ---- */

static void kill_server(joblot_pool *pool)
{
    int server = joblot_pool_server_pid(pool);
    CHECK(server > 1);
    CHECK(kill(server, SIGKILL) == 0);
}

static void the_servers_death_costs_what_ran(unsigned retries)
{
    struct outcome out[4] = {{0}};
    int pids[2];
    joblot_error err;
    struct joblot_event event;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 2, retries);
    submit_u64(call, DO_SLEEP, 300);
    submit_u64(call, DO_SLEEP, 300);
    submit_u64(call, DO_ECHO, 1);
    submit_u64(call, DO_ECHO, 2);
    CHECK_OK(joblot_call_next(call, 100000000, &event, &err));
    CHECK_EQUAL(event.kind, JOBLOT_EVENT_NONE);
    wait_for_workers(pool, pids, 2);
    kill_server(pool);
    CHECK_EQUAL(drive(call, out, 4), 4);
    wait_until_gone(pids[0]);
    wait_until_gone(pids[1]);
    for (int i = 0; i < 2 && retries == 0; i++) {
        CHECK_EQUAL(out[i].kind, JOBLOT_EVENT_DIED);
        CHECK_EQUAL(out[i].death.server_died, 1);
        CHECK_EQUAL(out[i].death.status_known, 0);
        CHECK_EQUAL(out[i].death.exit_code, -1);
    }
    for (int i = 0; i < 2 && retries > 0; i++)
        CHECK_EQUAL(u64_of(&out[i], 0), 300);
    CHECK_EQUAL(u64_of(&out[2], 0), 1);
    CHECK_EQUAL(u64_of(&out[3], 0), 2);
    joblot_call_close(call);
    kill_server(pool); /* idle */
    CHECK_EQUAL(ask(pool, DO_ECHO, 6), 6);
    close_pool(pool);
}

static void the_server_dies(void) { the_servers_death_costs_what_ran(0); }
static void the_server_dies_and_tasks_are_retried(void) { the_servers_death_costs_what_ran(1); }

static void the_server_is_reaped_by_somebody_else(void)
{
    joblot_pool *pool = open_pool(0);
    CHECK_EQUAL(ask(pool, DO_ECHO, 1), 1);
    int server = joblot_pool_server_pid(pool);
    CHECK(kill(server, SIGKILL) == 0);
    CHECK(waitpid(-1, NULL, 0) == server);
    CHECK_EQUAL(ask(pool, DO_ECHO, 2), 2);
    close_pool(pool);
}

static void closing_a_pool_whose_server_is_dead_or_stopped(void)
{
    joblot_pool *pool = open_pool(0);
    CHECK_EQUAL(ask(pool, DO_ECHO, 1), 1);
    kill_server(pool);
    joblot_pool_close(pool, 1000000000);
    pool = open_pool(0);
    CHECK_EQUAL(ask(pool, DO_ECHO, 1), 1);
    CHECK(kill(joblot_pool_server_pid(pool), SIGSTOP) == 0);
    joblot_pool_close(pool, 100000000);
}

/* ---- children of workers ---- */

static void a_workers_child_goes_with_it(void)
{
    joblot_pool *pool = open_pool(0);
    int child = (int)ask(pool, DO_CHILD, 0), worker;
    CHECK(process_is_alive(child));
    CHECK_EQUAL(joblot_pool_workers(pool, &worker, 1), 1);
    CHECK(kill(worker, SIGKILL) == 0);
    wait_until_gone(child);
    child = (int)ask(pool, DO_CHILD, 0);
    CHECK(process_is_alive(child));
    close_pool(pool);
    wait_until_gone(child);
}

static void a_death_is_seen_though_a_child_holds_everything(void)
{
    struct outcome out[2] = {{0}};
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    submit_u64(call, DO_CHILD, 0);
    submit_u64(call, DO_KILL, SIGKILL);
    CHECK_EQUAL(drive(call, out, 2), 2);
    CHECK_EQUAL(out[1].kind, JOBLOT_EVENT_DIED);
    wait_until_gone((int)u64_of(&out[0], 0));
    joblot_call_close(call);
    close_pool(pool);
}

/* ---- under fire ---- */

/* A process that kills workers of its parent's pool, whichever there are, until it is killed itself. */
static int start_killer(joblot_pool *pool)
{
    int server = joblot_pool_server_pid(pool);
    pid_t pid = fork();
    if (pid != 0)
        return (int)pid;
    joblot_pool_abandon(pool);
    uint64_t random = 5;
    for (;;) {
        char path[64], text[400] = "";
        (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", server, server);
        if (joblot__os_read_text(path, text, sizeof text) < 0)
            _exit(0);
        for (char *save = NULL, *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
            if (next_random(&random) % 3 == 0 && atoi(word) > 1)
                (void)kill(atoi(word), SIGKILL);
        wait_ms((3 + (unsigned)(next_random(&random) % 10)) * time_factor()); /* a worker is to get as far as a task */
    }
}

static void results_are_exact_under_fire(void)
{
    enum { N = 2000 };
    struct outcome *out = calloc(N, sizeof *out);
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 3, 1000000);
    int killer = start_killer(pool);
    for (uint64_t i = 0; i < N; i++) {
        uint64_t how[] = {i % 10 == 0 ? 300000 : 50 + i, i, 3};
        if (i % 4 == 3)
            submit_u64(call, DO_SLEEP, 1);
        else
            submit_u64s(call, DO_BIG, how, 3);
    }
    CHECK_EQUAL(drive(call, out, N), N);
    CHECK(kill(killer, SIGKILL) == 0);
    CHECK(waitpid(killer, NULL, 0) == killer);
    for (uint64_t i = 0; i < N; i++) {
        CHECK_EQUAL(out[i].kind, JOBLOT_EVENT_RESULT);
        if (i % 4 != 3)
            check_pattern(out[i].data, i % 10 == 0 ? 300000 : 50 + i, i);
    }
    joblot_call_close(call);
    free(out);
    close_pool(pool);
}

static const struct test_case cases[] = {
    {"a_death_is_told_with_its_cause", a_death_is_told_with_its_cause, 20},
    {"a_death_costs_the_running_task_only", a_death_costs_the_running_task_only, 20},
    {"retries_count_exactly", retries_count_exactly, 20},
    {"an_idle_workers_death_costs_nothing", an_idle_workers_death_costs_nothing, 20},
    {"killed_under_the_reader", killed_under_the_reader, 20},
    {"killed_under_the_reader_and_retried", killed_under_the_reader_and_retried, 20},
    {"killed_under_the_reader_without_vm_readv", killed_under_the_reader_without_vm_readv, 20},
    {"killed_with_its_answer_unseen", killed_with_its_answer_unseen, 20},
    {"workers_that_die_at_start", workers_that_die_at_start, 20},
    {"the_server_dies", the_server_dies, 20},
    {"the_server_dies_and_tasks_are_retried", the_server_dies_and_tasks_are_retried, 20},
    {"the_server_is_reaped_by_somebody_else", the_server_is_reaped_by_somebody_else, 20},
    {"closing_a_pool_whose_server_is_dead_or_stopped", closing_a_pool_whose_server_is_dead_or_stopped, 20},
    {"a_workers_child_goes_with_it", a_workers_child_goes_with_it, 20},
    {"a_death_is_seen_though_a_child_holds_everything", a_death_is_seen_though_a_child_holds_everything, 20},
    {"results_are_exact_under_fire", results_are_exact_under_fire, 60},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
