/* test_stops.c - the hook that stops a process at a named point, and a pool of a C program killed at such points. */
#define _GNU_SOURCE
#include "support/pools.h"

#include "os/os.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RECORD = 64 };

static const char *stop_file(void)
{
    static char path[5000];
    (void)snprintf(path, sizeof path, "%s/stops", scratch_folder());
    return path;
}

static void ask_for(const char *point, int nth)
{
    char text[6000];
    (void)snprintf(text, sizeof text, "%s:%d:%s", point, nth, stop_file());
    CHECK(setenv("JOBLOT_TEST_STOP", text, 1) == 0);
}

/* How often the point was passed, and by whom the n-th time (0: not yet). */
static int passed(int nth, int *pid)
{
    char line[RECORD + 1] = "";
    struct stat st;
    if (stat(stop_file(), &st) != 0)
        return 0;
    FILE *file = fopen(stop_file(), "r");
    CHECK(file != NULL);
    if (nth > 0 && st.st_size >= (off_t)nth * RECORD) {
        CHECK(fseek(file, (long)(nth - 1) * RECORD, SEEK_SET) == 0 && fread(line, RECORD, 1, file) == 1);
        *pid = atoi(line);
    }
    (void)fclose(file);
    return (int)(st.st_size / RECORD);
}

static void values_that_are_no_point(void)
{
    static const char *const bad[] = {"", "a", "a:b", "a:b:", "a:b:c:/f", "a:b:1", "a:b:1:", "a:b:1:relative", "a:b:1x:/f"};
    struct joblot_pool_options options = {.hooks = &test_hooks};
    joblot_pool *pool = NULL;
    joblot_error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(setenv("JOBLOT_TEST_STOP", bad[i], 1) == 0);
        CHECK_EQUAL(joblot__os_read_stops(), -EINVAL);
        CHECK_EQUAL(joblot__os_may_stop(), 0);
        CHECK_STATUS(joblot_pool_open(&options, &pool, &err), JOBLOT_INVALID);
        CHECK_CONTAINS(err.message, "role:point:n:/file");
    }
    ask_for("worker:x", 1);
    CHECK_EQUAL(joblot__os_read_stops(), 0);
    CHECK_EQUAL(joblot__os_may_stop(), 1);
    CHECK(unsetenv("JOBLOT_TEST_STOP") == 0);
    CHECK_EQUAL(joblot__os_read_stops(), 0);
    CHECK_EQUAL(joblot__os_may_stop(), 0);
    joblot__os_point("worker:x");
    CHECK_EQUAL(passed(0, NULL), 0);
}

/* The n-th to pass is stopped, whichever process it is, and no other before or after it. */
static void the_nth_of_all_processes_stops(void)
{
    int status, pid = 0;
    ask_for("worker:x", 3);
    CHECK_EQUAL(joblot__os_read_stops(), 0);
    joblot__os_point("worker:y");
    joblot__os_point("server:x");
    CHECK_EQUAL(passed(0, NULL), 0);
    joblot__os_point("worker:x");
    joblot__os_point("worker:x");
    pid_t child = fork();
    if (child == 0) {
        errno = 7;
        joblot__os_point("worker:x");
        _exit(errno);
    }
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK_EQUAL(passed(3, &pid), 3);
    CHECK_EQUAL(pid, child);
    joblot__os_point("worker:x");
    CHECK(kill(child, SIGCONT) == 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK_EQUAL(passed(0, NULL), 4);
}

static void all_points_can_be_noted(void)
{
    ask_for("*:*", 0);
    CHECK_EQUAL(joblot__os_read_stops(), 0);
    joblot__os_point("a:b");
    joblot__os_point("worker:a-name-that-is-far-longer-than-a-line-of-the-file-has-room-for");
    CHECK_EQUAL(passed(0, NULL), 2);
}

/* ---- a pool of a C program ---- */

/* A process that kills whom stops there, when `nth` have passed. */
static pid_t start_killer(int nth)
{
    pid_t killer = fork();
    if (killer != 0)
        return killer;
    for (int pid = 0; pid == 0; wait_ms(1))
        if (passed(nth, &pid) >= nth)
            (void)kill(pid, SIGKILL);
    _exit(0);
}

/* Small answers, and large ones that are held until they are read. */
static void work_through(const char *point, int nth)
{
    enum { N = 24 };
    struct outcome out[N] = {{0}};
    int status, pid;
    (void)unlink(stop_file());
    ask_for(point, nth);
    pid_t killer = start_killer(nth);
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 2, 2);
    for (uint64_t i = 0; i < N; i++) {
        uint64_t big[] = {300000, i, 2};
        if (i % 3 == 0)
            submit_u64s(call, DO_BIG, big, 3);
        else
            submit_u64(call, DO_ECHO, i);
    }
    CHECK_EQUAL(drive(call, out, N), N);
    for (uint64_t i = 0; i < N; i++) {
        CHECK_EQUAL(out[i].kind, JOBLOT_EVENT_RESULT);
        CHECK_EQUAL(out[i].status, JOBLOT_OK);
        if (i % 3 == 0)
            CHECK_EQUAL(out[i].size, 300000);
        else
            CHECK_EQUAL(u64_of(&out[i], 0), i);
        free(out[i].data);
    }
    joblot_call_close(call);
    CHECK_EQUAL(ask(pool, DO_ECHO, 5), 5);
    CHECK(unsetenv("JOBLOT_TEST_STOP") == 0);
    joblot_pool_close(pool, 1000000000);
    CHECK(waitpid(killer, &status, 0) == killer && WIFEXITED(status));
    CHECK(passed(nth, &pid) >= nth);
}

static void workers_are_killed_at_points(void)
{
    static const char *const points[] = {"worker:forked",       "worker:bound",           "worker:hello-written",
                                         "worker:task-found",   "worker:task-started",    "worker:function-returned",
                                         "worker:answer-written", "worker:answer-committed", "worker:held-committed",
                                         "worker:answer-held",  "worker:idle",            "worker:task-over"};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        work_through(points[i], 2);
}

static void servers_are_killed_at_points(void)
{
    static const char *const points[] = {"server:started", "server:worker-wanted", "server:worker-forked", "server:birth-told"};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        work_through(points[i], 1);
}

static void nothing(int sig) { (void)sig; }

/* A worker whose memory cannot be read stops while it copies its answer: each signal ends the wait, and it can be taken up
 * again. */
static void a_copy_by_a_stopped_worker(void)
{
    enum { SIZE = 300000 };
    static unsigned char out[SIZE];
    struct sigaction action = {.sa_handler = nothing};
    struct itimerval often = {.it_interval = {.tv_usec = 50000}, .it_value = {.tv_usec = 50000}}, never = {0};
    struct joblot_event event;
    joblot_error err;
    uint64_t big[] = {SIZE, 7, 1};
    joblot_status status;
    int pid = 0;
    ask_for("worker:copy-written", 1);
    joblot__os_forbid("process_vm_readv", EPERM);
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    submit_u64s(call, DO_BIG, big, 3);
    do
        CHECK_OK(joblot_call_next(call, -1, &event, &err));
    while (event.kind == JOBLOT_EVENT_NONE);
    CHECK_EQUAL(event.kind, JOBLOT_EVENT_RESULT);
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int i = 0; i < 3; i++)
        CHECK_STATUS(joblot_event_read(call, &event, 0, out, &err), JOBLOT_CANCELLED);
    while (passed(1, &pid) == 0) /* a signal may have come before the worker got so far */
        wait_ms(1);
    CHECK_STATUS(joblot_event_read(call, &event, 0, out, &err), JOBLOT_CANCELLED);
    CHECK(kill(pid, SIGCONT) == 0);
    do
        status = joblot_event_read(call, &event, 0, out, &err);
    while (status == JOBLOT_CANCELLED);
    CHECK_STATUS(status, JOBLOT_OK);
    check_pattern(out, SIZE, 7);
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    joblot_event_done(call, &event);
    joblot_call_settle(call);
    joblot_call_close(call);
    joblot__os_forbid(NULL, 0);
    CHECK_EQUAL(ask(pool, DO_ECHO, 5), 5);
    close_pool(pool);
}

static const struct test_case cases[] = {
    {"values_that_are_no_point", values_that_are_no_point, 20},
    {"the_nth_of_all_processes_stops", the_nth_of_all_processes_stops, 20},
    {"all_points_can_be_noted", all_points_can_be_noted, 20},
    {"workers_are_killed_at_points", workers_are_killed_at_points, 60},
    {"a_copy_by_a_stopped_worker", a_copy_by_a_stopped_worker, 20},
    {"servers_are_killed_at_points", servers_are_killed_at_points, 60},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
