/* test_pool_threads.c - several threads with calls of their own on one pool: leases, growth, deaths among them. */
#define _GNU_SOURCE
#include "support/pools.h"

#include "os/os.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct job {
    joblot_pool *pool;
    size_t n_workers;
    uint64_t seed, rounds, tasks;
    unsigned retries;
    int deaths; /* every task of which number % 50 == 7 kills its worker */
};

static void one_call(const struct job *job, uint64_t round)
{
    joblot_call *call = open_call(job->pool, job->n_workers, job->retries);
    struct outcome *out = calloc(job->tasks, sizeof *out);
    for (uint64_t i = 0; i < job->tasks; i++) {
        uint64_t how[] = {i % 20 == 3 ? 150000 : (i * 37) % 2000, job->seed + round + i, 1 + i % 4};
        if (job->deaths && i % 50 == 7)
            submit_u64(call, DO_KILL, SIGKILL);
        else
            submit_u64s(call, DO_BIG, how, 3);
    }
    CHECK_EQUAL(drive(call, out, job->tasks), job->tasks);
    for (uint64_t i = 0; i < job->tasks; i++) {
        if (job->deaths && i % 50 == 7) {
            CHECK_EQUAL(out[i].kind, JOBLOT_EVENT_DIED);
            CHECK_EQUAL(out[i].death.attempts, job->retries + 1);
        } else {
            CHECK_EQUAL(out[i].kind, JOBLOT_EVENT_RESULT);
            CHECK_EQUAL(out[i].size, i % 20 == 3 ? 150000 : (i * 37) % 2000);
            check_pattern(out[i].data, out[i].size, job->seed + round + i);
        }
        free(out[i].data);
    }
    free(out);
    joblot_call_close(call);
}

static void *run_job(void *context)
{
    const struct job *job = context;
    for (uint64_t round = 0; round < job->rounds; round++)
        one_call(job, round);
    return NULL;
}

static void run_threads(size_t n, struct job job)
{
    pthread_t threads[16];
    struct job jobs[16];
    joblot_pool *pool = open_pool(0);
    CHECK(n <= 16);
    for (size_t i = 0; i < n; i++) {
        jobs[i] = job;
        jobs[i].pool = pool;
        jobs[i].seed = i * 1000003;
        CHECK(pthread_create(&threads[i], NULL, run_job, &jobs[i]) == 0);
    }
    for (size_t i = 0; i < n; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    close_pool(pool);
}

static void two_threads(void)
{
    run_threads(2, (struct job){.n_workers = 2, .rounds = 10, .tasks = 300});
}

static void eight_threads(void)
{
    run_threads(8, (struct job){.n_workers = 3, .rounds = 6, .tasks = 100});
}

static void eight_threads_under_deaths(void)
{
    run_threads(8, (struct job){.n_workers = 2, .rounds = 4, .tasks = 100, .retries = 1, .deaths = 1});
}

static void many_short_calls(void)
{
    run_threads(4, (struct job){.n_workers = 2, .rounds = 200, .tasks = 3});
}

/* ---- the rule for calls that overlap ---- */

/* Drives a call, whose tasks take long, until `n` workers are leased in all: more than processors come a moment later. */
static void grow(joblot_pool *pool, joblot_call *call, size_t n)
{
    joblot_error err;
    struct joblot_event event;
    do {
        CHECK_OK(joblot_call_next(call, 1000000, &event, &err));
        CHECK_EQUAL(event.kind, JOBLOT_EVENT_NONE);
    } while (joblot_pool_leased(pool) < n);
    for (int i = 0; i < 3; i++)
        CHECK_OK(joblot_call_next(call, 1000000, &event, &err));
    CHECK_EQUAL(joblot_pool_leased(pool), n);
}

static void an_overlapping_call_gets_what_is_left(void)
{
    joblot_pool *pool = open_pool(0);
    joblot_call *a = open_call(pool, 3, 0), *b = open_call(pool, 4, 0), *c = open_call(pool, 2, 0);
    for (int i = 0; i < 6; i++) {
        submit_u64(a, DO_SLEEP, 3000);
        submit_u64(b, DO_SLEEP, 3000);
        submit_u64(c, DO_SLEEP, 3000);
    }
    grow(pool, a, 3);
    grow(pool, b, 4); /* 4 less the 3 of a */
    grow(pool, c, 5); /* at least one */
    joblot_call_close(a);
    CHECK_EQUAL(joblot_pool_leased(pool), 2);
    grow(pool, b, 4); /* b has grown to 4 - 1 of c */
    joblot_call_close(b);
    joblot_call_close(c);
    CHECK_EQUAL(joblot_pool_leased(pool), 0);
    close_pool(pool);
}

static void *wait_for_the_echo(void *context)
{
    struct outcome one;
    CHECK_EQUAL(take_one(context, &one), 1);
    CHECK_EQUAL(u64_of(&one, 0), 5);
    return NULL;
}

/* A call asleep over one endless task gets a worker for its other one when another call ends. */
static void a_sleeping_call_grows_when_another_ends(void)
{
    joblot_error err;
    struct joblot_event event;
    pthread_t thread;
    joblot_pool *pool = open_pool(0);
    joblot_call *a = open_call(pool, 2, 0), *b = open_call(pool, 2, 0);
    submit_u64(a, DO_SLEEP, 300);
    submit_u64(a, DO_SLEEP, 300);
    CHECK_OK(joblot_call_next(a, 0, &event, &err));
    submit_u64(b, DO_SLEEP, 1000000);
    submit_u64(b, DO_ECHO, 5);
    CHECK_OK(joblot_call_next(b, 0, &event, &err));
    CHECK_EQUAL(joblot_pool_leased(pool), 3);
    CHECK(pthread_create(&thread, NULL, wait_for_the_echo, b) == 0);
    struct outcome out[2] = {{0}};
    CHECK_EQUAL(drive(a, out, 2), 2);
    joblot_call_close(a);
    CHECK(pthread_join(thread, NULL) == 0); /* it comes only so: the time limit tells */
    joblot_call_close(b);
    close_pool(pool);
}

/* ---- the server dies while several calls use it ---- */

static void *retrying(void *context)
{
    joblot_call *call = open_call(context, 2, 100);
    struct outcome out[60] = {{0}};
    for (uint64_t i = 0; i < 60; i++)
        submit_u64(call, DO_SLEEP, 5);
    CHECK_EQUAL(drive(call, out, 60), 60);
    for (uint64_t i = 0; i < 60; i++)
        CHECK_EQUAL(u64_of(&out[i], 0), 5);
    joblot_call_close(call);
    return NULL;
}

static void the_server_dies_under_four_calls(void)
{
    pthread_t threads[4];
    joblot_pool *pool = open_pool(0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, retrying, pool) == 0);
    for (int i = 0; i < 5; i++) {
        wait_ms(25);
        int server = joblot_pool_server_pid(pool);
        if (server > 1)
            (void)kill(server, SIGKILL);
    }
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK_EQUAL(joblot_pool_leased(pool), 0);
    joblot_pool_close(pool, 1000000000);
}

static const struct test_case cases[] = {
    {"two_threads", two_threads, 60},
    {"eight_threads", eight_threads, 60},
    {"eight_threads_under_deaths", eight_threads_under_deaths, 60},
    {"many_short_calls", many_short_calls, 60},
    {"an_overlapping_call_gets_what_is_left", an_overlapping_call_gets_what_is_left, 20},
    {"a_sleeping_call_grows_when_another_ends", a_sleeping_call_grows_when_another_ends, 20},
    {"the_server_dies_under_four_calls", the_server_dies_under_four_calls, 60},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
