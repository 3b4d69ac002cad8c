/* test_pool_parent.c - a parent that dies, forks, calls exec, or has odd signal settings: nobody is left behind. */
#define _GNU_SOURCE
#include "support/pools.h"

#include "os/os.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a parent says of its family before it ends: server, two workers, and perhaps a worker's child. */
struct family {
    int server, workers[2], child;
};

enum ending { BY_KILL, BY_EXIT, BY_EXEC, WITH_SERVER };

static void be_parent(uint32_t kind, enum ending ending, int report)
{
    joblot_error err;
    struct joblot_event event;
    struct outcome one;
    struct family family = {0};
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 2, 0);
    if (kind == DO_CHILD) { /* busy as well, in the other worker */
        submit_u64(call, DO_CHILD, 0);
        (void)take_one(call, &one);
        family.child = (int)u64_of(&one, 0);
    }
    submit_u64(call, kind == DO_CHILD ? DO_SPIN : kind, 1);
    submit_u64(call, kind == DO_CHILD ? DO_SPIN : kind, 1);
    CHECK_OK(joblot_call_next(call, 100000000, &event, &err));
    if (event.kind == JOBLOT_EVENT_RESULT)
        joblot_event_done(call, &event);
    while (joblot_pool_workers(pool, family.workers, 2) < 2)
        wait_ms(1);
    family.server = joblot_pool_server_pid(pool);
    CHECK(write(report, &family, sizeof family) == sizeof family);
    if (ending == BY_EXIT)
        _exit(0);
    if (ending == BY_EXEC)
        (void)execlp("sleep", "sleep", "1000", (char *)NULL);
    for (;;)
        (void)pause();
}

static void end_parent(uint32_t kind, enum ending ending)
{
    struct family family;
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    pid_t parent = fork();
    if (parent == 0)
        be_parent(kind, ending, pipes[1]);
    CHECK(read(pipes[0], &family, sizeof family) == sizeof family);
    CHECK(family.server > 1 && family.workers[0] > 1 && family.workers[1] > 1);
    if (ending == WITH_SERVER)
        CHECK(kill(family.server, SIGKILL) == 0);
    if (ending == BY_KILL || ending == WITH_SERVER)
        CHECK(kill(parent, SIGKILL) == 0);
    wait_until_gone(family.workers[0]); /* the time limit of the case is what it may take */
    wait_until_gone(family.workers[1]);
    wait_until_gone(family.server);
    if (family.child != 0)
        wait_until_gone(family.child);
    if (ending == BY_EXEC) {
        CHECK(process_is_alive((int)parent));
        CHECK(kill(parent, SIGKILL) == 0);
    }
    CHECK(waitpid(parent, NULL, 0) == parent);
}

static void killed_idle(void) { end_parent(DO_ECHO, BY_KILL); }
static void killed_while_tasks_are_busy_in_c(void) { end_parent(DO_SPIN, BY_KILL); }
static void killed_while_a_tasks_child_holds_everything(void) { end_parent(DO_CHILD, BY_KILL); }
static void exits_without_a_word(void) { end_parent(DO_SPIN, BY_EXIT); }
static void calls_exec(void) { end_parent(DO_ECHO, BY_EXEC); }
static void calls_exec_while_tasks_are_busy(void) { end_parent(DO_SPIN, BY_EXEC); }
static void killed_together_with_its_server(void) { end_parent(DO_SPIN, WITH_SERVER); }

static void killed_while_workers_are_stopped(void)
{
    struct family family;
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    pid_t parent = fork();
    if (parent == 0)
        be_parent(DO_SPIN, BY_KILL, pipes[1]);
    CHECK(read(pipes[0], &family, sizeof family) == sizeof family);
    CHECK(kill(family.workers[0], SIGSTOP) == 0);
    CHECK(kill(parent, SIGKILL) == 0);
    wait_until_gone(family.workers[0]);
    wait_until_gone(family.workers[1]);
    wait_until_gone(family.server);
    CHECK(waitpid(parent, NULL, 0) == parent);
}

/* ---- fork ---- */

static void work(joblot_pool *pool)
{
    struct outcome out[20] = {{0}};
    joblot_call *call = open_call(pool, 2, 0);
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t how[] = {i % 2 ? 200000 : 30, i, 2};
        submit_u64s(call, DO_BIG, how, 3);
    }
    CHECK_EQUAL(drive(call, out, 20), 20);
    for (uint64_t i = 0; i < 20; i++) {
        check_pattern(out[i].data, out[i].size, i);
        free(out[i].data);
    }
    joblot_call_close(call);
}

static void a_forked_child_starts_its_own(void)
{
    int status;
    joblot_pool *pool = open_pool(0), *another;
    work(pool);
    joblot_call *call = open_call(pool, 2, 0);
    submit_u64(call, DO_SLEEP, 300);
    struct joblot_event event;
    joblot_error err;
    CHECK_OK(joblot_call_next(call, 0, &event, &err));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int server = joblot_pool_server_pid(pool), before = open_descriptors();
        joblot_pool_abandon(pool);
        CHECK(open_descriptors() < before);
        CHECK(process_is_alive(server));
        struct joblot_pool_options options = {.hooks = &test_hooks};
        CHECK_OK(joblot_pool_open(&options, &another, &err));
        work(another);
        joblot_pool_close(another, 1000000000);
        CHECK(process_is_alive(server));
        _exit(0);
    }
    struct outcome out[1] = {{0}};
    CHECK_EQUAL(drive(call, out, 1), 1);
    CHECK_EQUAL(u64_of(&out[0], 0), 300);
    joblot_call_close(call);
    work(pool);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    work(pool);
    close_pool(pool);
}

/* What a child releases was never mapped there: the memory that lies at the same address stays. */
static void a_forked_child_unmaps_nothing_of_its_own(void)
{
    int status;
    joblot_error err;
    joblot_segment *segment;
    void *at, *in_child;
    joblot_pool *pool = open_pool(0);
    work(pool);
    CHECK_OK(joblot_segment_new(1 << 20, NULL, &segment, &err));
    CHECK_OK(joblot_segment_data(segment, &at, &err));
    memset(at, 1, 1 << 20);
    pid_t child = fork();
    if (child == 0) {
        unsigned char *own[40]; /* mmapped by malloc: some come to lie where rings and segment were */
        for (int i = 0; i < 40; i++) {
            own[i] = malloc(i % 2 ? 1 << 20 : 600000);
            memset(own[i], 5, 600000);
        }
        CHECK_OK(joblot_segment_data(segment, &in_child, &err));
        check_equal(__FILE__, __LINE__, "a byte", *(unsigned char *)in_child, 1);
        joblot_segment_release(segment);
        joblot_pool_abandon(pool);
        for (int i = 0; i < 40; i++)
            for (int k = 0; k < 600000; k += 512)
                CHECK_EQUAL(own[i][k], 5);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    joblot_segment_release(segment);
    work(pool);
    close_pool(pool);
}

/* ---- signals ---- */

static void children_ignored(void)
{
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    joblot_pool *pool = open_pool(0);
    struct outcome out[2] = {{0}};
    work(pool);
    joblot_call *call = open_call(pool, 1, 0);
    submit_u64(call, DO_KILL, SIGKILL);
    submit_u64(call, DO_ECHO, 1);
    CHECK_EQUAL(drive(call, out, 2), 2);
    CHECK_EQUAL(out[0].death.signal, SIGKILL); /* the server's view of SIGCHLD is its own */
    joblot_call_close(call);
    int server = joblot_pool_server_pid(pool);
    CHECK(kill(server, SIGKILL) == 0);
    work(pool);
    close_pool(pool);
}

static void all_signals_blocked(void)
{
    sigset_t all, now;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    joblot_pool *pool = open_pool(0);
    struct outcome out[2] = {{0}};
    work(pool);
    joblot_call *call = open_call(pool, 1, 0);
    submit_u64(call, DO_KILL, SIGTERM); /* not blocked in workers */
    submit_u64(call, DO_KILL, SIGUSR1);
    CHECK_EQUAL(drive(call, out, 2), 2);
    CHECK_EQUAL(out[0].death.signal, SIGTERM);
    CHECK_EQUAL(out[1].death.signal, SIGUSR1);
    joblot_call_close(call);
    close_pool(pool);
    CHECK(sigprocmask(SIG_SETMASK, NULL, &now) == 0);
    CHECK(sigismember(&now, SIGTERM) == 1 && sigismember(&now, SIGUSR1) == 1);
}

static void count_signal(int sig) { (void)sig; }

static void a_signal_ends_a_wait_early(void)
{
    joblot_error err;
    struct joblot_event event;
    struct sigaction act = {.sa_handler = count_signal}, seen;
    CHECK(sigaction(SIGALRM, &act, NULL) == 0);
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    submit_u64(call, DO_SLEEP, 1000000);
    do /* wake-ups for the worker's start come as well, and are not told */
        (void)alarm(1);
    while (joblot_call_next(call, -1, &event, &err) != JOBLOT_OK);
    CHECK_EQUAL(event.kind, JOBLOT_EVENT_NONE);
    joblot_call_close(call);
    close_pool(pool);
    CHECK(sigaction(SIGALRM, NULL, &seen) == 0 && seen.sa_handler == count_signal);
    CHECK(sigaction(SIGINT, NULL, &seen) == 0 && seen.sa_handler == SIG_DFL);
}

static void a_storm_of_signals_changes_nothing(void)
{
    struct sigaction act = {.sa_handler = count_signal, .sa_flags = 0};
    CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
    joblot_pool *pool = open_pool(0);
    pid_t parent = getpid(), storm = fork();
    if (storm == 0)
        for (;;) {
            if (kill(parent, SIGUSR1) != 0)
                _exit(0);
            (void)usleep(200);
        }
    for (int i = 0; i < 10; i++)
        work(pool);
    CHECK_EQUAL(ask(pool, DO_SLEEP, 50), 50);
    close_pool(pool);
    CHECK(kill(storm, SIGKILL) == 0);
    while (waitpid(storm, NULL, 0) != storm)
        CHECK_EQUAL(errno, EINTR);
}

static const struct test_case cases[] = {
    {"killed_idle", killed_idle, 5},
    {"killed_while_tasks_are_busy_in_c", killed_while_tasks_are_busy_in_c, 5},
    {"killed_while_a_tasks_child_holds_everything", killed_while_a_tasks_child_holds_everything, 5},
    {"exits_without_a_word", exits_without_a_word, 5},
    {"calls_exec", calls_exec, 5},
    {"calls_exec_while_tasks_are_busy", calls_exec_while_tasks_are_busy, 5},
    {"killed_together_with_its_server", killed_together_with_its_server, 5},
    {"killed_while_workers_are_stopped", killed_while_workers_are_stopped, 5},
    {"a_forked_child_starts_its_own", a_forked_child_starts_its_own, 20},
    {"a_forked_child_unmaps_nothing_of_its_own", a_forked_child_unmaps_nothing_of_its_own, 20},
    {"children_ignored", children_ignored, 20},
    {"all_signals_blocked", all_signals_blocked, 20},
    {"a_signal_ends_a_wait_early", a_signal_ends_a_wait_early, 20},
    {"a_storm_of_signals_changes_nothing", a_storm_of_signals_changes_nothing, 60},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
