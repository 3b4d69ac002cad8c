/* test_pool.c - a pool in fair weather: every call of joblot/pool.h, with tasks of all sizes. */
#define _GNU_SOURCE
#include "support/pools.h"

#include "os/os.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void results_are_numbered_and_exact(void)
{
    struct outcome out[200] = {{0}};
    joblot_pool *pool = open_pool(0);
    CHECK_EQUAL(joblot_pool_workers(pool, NULL, 0), 0);
    CHECK(joblot_pool_server_pid(pool) > 0);
    joblot_call *call = open_call(pool, 2, 0);
    CHECK_EQUAL(joblot_call_pending(call), 0);
    for (uint64_t i = 0; i < 100; i++)
        submit_u64(call, DO_ECHO, i * i);
    CHECK_EQUAL(joblot_call_pending(call), 100);
    CHECK_EQUAL(drive(call, out, 100), 100);
    for (uint64_t i = 100; i < 200; i++) /* more after the first were taken */
        submit_u64(call, DO_ECHO, i * i);
    CHECK_EQUAL(drive(call, out, 200), 100);
    for (uint64_t i = 0; i < 200; i++)
        CHECK_EQUAL(u64_of(&out[i], 0), i * i);
    CHECK_EQUAL(joblot_call_pending(call), 0);
    CHECK_EQUAL(joblot_pool_leased(pool), 2);
    joblot_call_close(call);
    CHECK_EQUAL(joblot_pool_leased(pool), 0);
    wait_for_workers(pool, NULL, 2);
    close_pool(pool);
}

static void submit_while_others_run(void)
{
    struct outcome one;
    uint64_t submitted = 0, taken = 0, sum = 0;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 2, 0);
    for (; submitted < 4; submitted++)
        submit_u64(call, DO_ECHO, submitted);
    for (; taken < 3000; taken++) {
        uint64_t number = take_one(call, &one);
        CHECK_EQUAL(u64_of(&one, 0), number);
        sum += number;
        free(one.data);
        if (submitted < 3000)
            submit_u64(call, DO_ECHO, submitted++);
    }
    CHECK_EQUAL(sum, 3000 * 2999 / 2);
    joblot_call_close(call);
    close_pool(pool);
}

static void functions_that_fail_say_why(void)
{
    struct outcome out[4] = {{0}};
    uint64_t status = (uint64_t)(int64_t)JOBLOT_LIMIT;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 3);
    struct joblot_part parts[] = {{.data = &status, .size = 8}, {.data = "too much of it", .size = 15}};
    submit(call, DO_FAIL, parts, 2);
    submit(call, DO_NOTHING, NULL, 0);
    submit(call, 4711, NULL, 0);
    submit_u64(call, DO_ECHO, 1);
    CHECK_EQUAL(drive(call, out, 4), 4);
    CHECK_EQUAL(out[0].status, JOBLOT_LIMIT);
    CHECK(strcmp(out[0].message, "too much of it") == 0);
    CHECK_EQUAL(out[1].status, JOBLOT_INVALID);
    CHECK_CONTAINS(out[1].message, "without an answer");
    CHECK_EQUAL(out[2].status, JOBLOT_INVALID);
    CHECK_CONTAINS(out[2].message, "4711");
    CHECK_EQUAL(u64_of(&out[3], 0), 1);
    joblot_call_close(call);
    close_pool(pool);
}

static void parts_come_apart_as_they_went_in(void)
{
    enum { N = 3000 };
    static unsigned char data[N];
    struct joblot_part *parts = calloc(N, sizeof *parts);
    struct outcome out[2] = {{0}};
    joblot_error err;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    fill_pattern(data, N, 5);
    for (size_t i = 0, at = 0; i < N; i++) { /* sizes 0, 1, 2, 0, 1, 2, ... */
        parts[i] = (struct joblot_part){.data = data + at, .size = i % 3};
        at += i % 3;
    }
    submit(call, DO_ECHO, parts, N);
    submit(call, DO_ECHO, NULL, 0);
    CHECK_EQUAL(drive(call, out, 2), 2);
    CHECK_EQUAL(out[0].n_parts, N);
    CHECK_EQUAL(out[0].size, N);
    check_pattern(out[0].data, N, 5);
    CHECK_EQUAL(out[1].n_parts, 0);
    parts = realloc(parts, (JOBLOT_MAX_PARTS + 1) * sizeof *parts);
    memset(parts, 0, (JOBLOT_MAX_PARTS + 1) * sizeof *parts);
    CHECK_STATUS(joblot_call_submit(call, DO_ECHO, parts, JOBLOT_MAX_PARTS + 1, &err), JOBLOT_LIMIT);
    submit(call, DO_NOTHING, parts, JOBLOT_MAX_PARTS);
    CHECK_EQUAL(take_one(call, &out[1]), 2); /* a task that was refused has no number */
    joblot_call_close(call);
    free(parts);
    close_pool(pool);
}

static void an_answer_of_too_many_parts_is_refused(void)
{
    struct outcome out[3] = {{0}};
    joblot_pool *pool = open_pool(4096);
    joblot_call *call = open_call(pool, 1, 0);
    uint64_t fits[] = {2000, 1, 83}, just[] = {2000, 1, 84}, many[] = {2000, 1, 2000};
    submit_u64s(call, DO_BIG, fits, 3);
    submit_u64s(call, DO_BIG, just, 3);
    submit_u64s(call, DO_BIG, many, 3);
    CHECK_EQUAL(drive(call, out, 3), 3);
    CHECK_EQUAL(out[0].n_parts, 83);
    check_pattern(out[0].data, 2000, 1);
    CHECK_EQUAL(out[1].status, JOBLOT_LIMIT);
    CHECK_EQUAL(out[2].status, JOBLOT_LIMIT);
    CHECK_CONTAINS(out[2].message, "2000 parts");
    joblot_call_close(call);
    close_pool(pool);
}

/* The largest record that is held, sent from every place in the ring. */
static void the_largest_held_answer_fits_everywhere(void)
{
    struct outcome one;
    uint64_t held[] = {3000, 9, 83};
    joblot_pool *pool = open_pool(4096);
    joblot_call *call = open_call(pool, 1, 0);
    for (uint64_t i = 0; i < 600; i++) {
        if (i % 2 == 0)
            submit_u64s(call, DO_BIG, held, 3);
        else
            submit(call, DO_ECHO, NULL, 0); /* moves the place by 40 bytes */
        (void)take_one(call, &one);
        if (i % 2 == 0)
            check_pattern(one.data, 3000, 9);
        free(one.data);
    }
    joblot_call_close(call);
    close_pool(pool);
}

/* ---- many tasks, byte by byte ---- */

static size_t random_size(uint64_t i, size_t most)
{
    uint64_t state = i * 3 + 1;
    uint64_t r = next_random(&state);
    if (r % 500 == 0)
        return (size_t)((r >> 10) % most); /* now and then a large one */
    return (size_t)((r >> 10) % (r % 16 == 1 ? 8000 : 300));
}

static void run_random_sizes(size_t ring_size, uint64_t n, size_t most, size_t n_workers)
{
    joblot_error err;
    joblot_pool *pool = open_pool(ring_size);
    joblot_call *call = open_call(pool, n_workers, 0);
    unsigned char *buffer = malloc(most), *back = malloc(most);
    uint64_t submitted = 0, taken = 0;
    while (taken < n) {
        struct joblot_event event;
        for (; submitted < n && submitted < taken + 500; submitted++) {
            size_t size = random_size(submitted, most);
            struct joblot_part part = {.data = buffer, .size = size};
            fill_pattern(buffer, size, submitted);
            submit(call, DO_ECHO, &part, 1);
        }
        CHECK_OK(joblot_call_next(call, -1, &event, &err));
        if (event.kind == JOBLOT_EVENT_NONE)
            continue;
        CHECK_EQUAL(event.kind, JOBLOT_EVENT_RESULT);
        CHECK_EQUAL(event.status, JOBLOT_OK);
        CHECK_EQUAL(event.sizes[0], random_size(event.number, most));
        CHECK_OK(joblot_event_read(call, &event, 0, back, &err));
        check_pattern(back, (size_t)event.sizes[0], event.number);
        joblot_event_done(call, &event);
        taken++;
    }
    free(buffer);
    free(back);
    joblot_call_close(call);
    close_pool(pool);
}

static void a_hundred_thousand_tasks_of_random_sizes(void)
{
    run_random_sizes(0, time_factor() > 1 ? 10000 : 100000, 1 << 20, 2);
}

static void small_rings_carry_everything_too(void) { run_random_sizes(4096, 5000, 1 << 17, 3); }

/* ---- answers that are held, and messages that go through segments ---- */

static void far_messages_go_both_ways(void)
{
    static const size_t sizes[] = {65000, 65536, 65600, 262144, 5 << 20};
    joblot_error err;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 2, 0);
    struct outcome out[5] = {{0}};
    unsigned char *buffer = malloc(5 << 20);
    (void)err;
    for (size_t i = 0; i < 5; i++) {
        fill_pattern(buffer, sizes[i], i);
        struct joblot_part part = {.data = buffer, .size = sizes[i]};
        submit(call, DO_ECHO, &part, 1);
    }
    CHECK_EQUAL(drive(call, out, 5), 5);
    for (size_t i = 0; i < 5; i++) {
        CHECK_EQUAL(out[i].size, sizes[i]);
        check_pattern(out[i].data, sizes[i], i);
    }
    free(buffer);
    joblot_call_close(call);
    close_pool(pool);
}

static void take_big_answers(joblot_pool *pool)
{
    joblot_call *call = open_call(pool, 2, 0);
    struct outcome out[20] = {{0}};
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t how[] = {(i + 1) * 100000, i, 1 + i * 7};
        submit_u64s(call, DO_BIG, how, 3);
    }
    CHECK_EQUAL(drive(call, out, 20), 20);
    for (size_t i = 0; i < 20; i++) {
        CHECK_EQUAL(out[i].status, JOBLOT_OK);
        CHECK_EQUAL(out[i].n_parts, 1 + i * 7);
        CHECK_EQUAL(out[i].size, (i + 1) * 100000);
        check_pattern(out[i].data, out[i].size, i);
        free(out[i].data);
    }
    joblot_call_close(call);
}

static void held_answers_are_read_from_the_worker(void)
{
    joblot_pool *pool = open_pool(0);
    take_big_answers(pool);
    close_pool(pool);
}

static void without_vm_readv_answers_are_copied(void)
{
    joblot_pool *pool = open_pool(0);
    joblot__os_forbid("process_vm_readv", EPERM);
    take_big_answers(pool);
    joblot__os_forbid(NULL, 0);
    take_big_answers(pool); /* whether it may be read is asked once per worker */
    close_pool(pool);
}

static void a_worker_that_becomes_unreadable_is_copied_from(void)
{
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    struct outcome one;
    uint64_t how[] = {3000000, 3, 5};
    for (int round = 0; round < 3; round++) {
        submit_u64s(call, DO_BIG, how, 3);
        (void)take_one(call, &one);
        check_pattern(one.data, 3000000, 3);
        free(one.data);
        joblot__os_forbid("process_vm_readv", round == 0 ? EPERM : 0); /* after it has worked once */
        if (round == 1)
            joblot__os_forbid(NULL, 0);
    }
    joblot_call_close(call);
    close_pool(pool);
}

/* ---- misuse ---- */

static void misuse_is_told(void)
{
    joblot_error err;
    joblot_pool *pool;
    joblot_call *call;
    struct joblot_event event, second;
    unsigned char buffer[64];
    struct joblot_pool_options bad = {.hooks = &test_hooks, .ring_size = 5000};
    struct joblot_call_options none = {.n_workers = 0}, many = {.n_workers = 100000};
    CHECK_STATUS(joblot_pool_open(NULL, &pool, &err), JOBLOT_INVALID);
    CHECK_STATUS(joblot_pool_open(&bad, &pool, &err), JOBLOT_INVALID);
    CHECK_CONTAINS(err.message, "5000");
    pool = open_pool(0);
    CHECK_STATUS(joblot_call_open(pool, &none, &call, &err), JOBLOT_INVALID);
    CHECK_STATUS(joblot_call_open(pool, &many, &call, &err), JOBLOT_INVALID);
    call = open_call(pool, 1, 0);
    CHECK_OK(joblot_call_next(call, 0, &event, &err));
    CHECK_EQUAL(event.kind, JOBLOT_EVENT_IDLE);
    CHECK_STATUS(joblot_event_read(call, &event, 0, buffer, &err), JOBLOT_INVALID);
    submit_u64(call, DO_ECHO, 5);
    do
        CHECK_OK(joblot_call_next(call, -1, &event, &err));
    while (event.kind == JOBLOT_EVENT_NONE);
    CHECK_STATUS(joblot_call_next(call, -1, &second, &err), JOBLOT_INVALID);
    CHECK_STATUS(joblot_event_read(call, &event, 1, buffer, &err), JOBLOT_INVALID);
    CHECK(joblot_event_data(call, &event, 1) == NULL);
    CHECK(joblot_event_data(call, &event, 0) != NULL);
    joblot_event_done(call, &event);
    joblot_event_done(call, &event);
    CHECK(joblot_event_data(call, &event, 0) == NULL);
    CHECK_STATUS(joblot_event_read(call, &event, 0, buffer, &err), JOBLOT_INVALID);
    CHECK_EQUAL(joblot_call_pending(call), 0);
    joblot_call_close(call);
    joblot_call_close(NULL);
    joblot_pool_close(NULL, 0);
    joblot_pool_abandon(NULL);
    close_pool(pool);
}

/* ---- the rest ---- */

static void time_limits_and_looks(void)
{
    joblot_error err;
    struct joblot_event event;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    submit_u64(call, DO_SLEEP, 400);
    CHECK_OK(joblot_call_next(call, 0, &event, &err));
    CHECK_EQUAL(event.kind, JOBLOT_EVENT_NONE);
    int64_t before = joblot__os_clock();
    CHECK_OK(joblot_call_next(call, 20000000, &event, &err));
    CHECK_EQUAL(event.kind, JOBLOT_EVENT_NONE);
    CHECK(joblot__os_clock() - before >= 20000000);
    do
        CHECK_OK(joblot_call_next(call, 0, &event, &err)); /* looks alone get there, too */
    while (event.kind == JOBLOT_EVENT_NONE);
    CHECK_EQUAL(event.kind, JOBLOT_EVENT_RESULT);
    CHECK(event.duration_ns >= 400000000);
    joblot_event_done(call, &event);
    joblot_call_close(call);
    close_pool(pool);
}

static void idle_pools_come_and_go(void)
{
    int before = open_descriptors();
    for (int i = 0; i < 100; i++) {
        joblot_pool *pool = open_pool(0);
        if (i % 2 == 0)
            CHECK_EQUAL(ask(pool, DO_ECHO, (uint64_t)i), i);
        close_pool(pool);
    }
    CHECK_EQUAL(open_descriptors(), before);
}

static void more_workers_than_cores(void)
{
    enum { N = 24 };
    struct outcome out[N] = {{0}};
    int pids[N];
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, N, 0);
    for (int i = 0; i < N; i++)
        submit_u64(call, DO_SLEEP, 1000); /* longer than all workers take to start */
    CHECK_EQUAL(drive(call, out, N), N);
    CHECK_EQUAL(joblot_pool_leased(pool), N);
    wait_for_workers(pool, pids, N);
    joblot_call_close(call);
    close_pool(pool);
}

/* Of quick tasks as many workers as there are processors get all. */
static void quick_tasks_wake_few_workers(void)
{
    enum { N = 400, ROUNDS = 20 };
    struct outcome out[N];
    joblot_pool *pool = open_pool(0);
    size_t most = joblot_cpu_count() > 2 ? (size_t)joblot_cpu_count() : 2, narrow = 0;
    for (int round = 0; round < ROUNDS; round++) {
        joblot_call *call = open_call(pool, 64, 0);
        memset(out, 0, sizeof out);
        for (int i = 0; i < N; i++)
            submit_u64(call, DO_ECHO, (uint64_t)i);
        CHECK_EQUAL(drive(call, out, N), N);
        narrow += joblot_pool_leased(pool) <= most;
        joblot_call_close(call);
    }
    CHECK(narrow > 0); /* a busy machine makes quick tasks slow now and then */
    close_pool(pool);
}

static joblot_status start_late(joblot_worker *worker, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)worker;
    (void)task;
    (void)context;
    (void)err;
    (void)usleep(200000);
    return JOBLOT_OK;
}

/* Tasks that take long go to all workers, also when none had come yet as they were submitted, and no answer wakes the
 * call before.  (They went to as many as there are processors, and the rest waited for the first answer.) */
static void long_tasks_wake_all_workers(void)
{
    size_t n = (size_t)joblot_cpu_count() + 2;
    struct outcome one;
    static struct joblot_worker_hooks hooks; /* as long as the server */
    hooks = (struct joblot_worker_hooks){.functions = test_functions, .n_functions = N_DO, .start = start_late};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_call(pool, n, 0);
    for (size_t i = 0; i < n; i++)
        submit_u64(call, DO_SLEEP, 3000); /* longer than all workers take to start */
    (void)take_one(call, &one);
    free(one.data);
    CHECK_EQUAL(joblot_pool_leased(pool), n);
    joblot_call_close(call);
    close_pool(pool);
}

static void a_worker_opens_its_own_pool(void)
{
    joblot_pool *pool = open_pool(0);
    CHECK_EQUAL(ask(pool, DO_NESTED, 50), 50);
    CHECK_EQUAL(ask(pool, DO_NESTED, 50), 50);
    close_pool(pool);
}

static void closed_standard_descriptors_do_no_harm(void)
{
    (void)close(0);
    (void)close(1);
    joblot_pool *pool = open_pool(0);
    take_big_answers(pool);
    CHECK_EQUAL(ask(pool, DO_PRINT, 0), 1);
    take_big_answers(pool);
    CHECK_EQUAL(ask(pool, DO_READ_STDIN, 0), 0);
    close_pool(pool);
}

static const struct test_case cases[] = {
    {"results_are_numbered_and_exact", results_are_numbered_and_exact, 20},
    {"submit_while_others_run", submit_while_others_run, 20},
    {"functions_that_fail_say_why", functions_that_fail_say_why, 20},
    {"parts_come_apart_as_they_went_in", parts_come_apart_as_they_went_in, 20},
    {"an_answer_of_too_many_parts_is_refused", an_answer_of_too_many_parts_is_refused, 20},
    {"the_largest_held_answer_fits_everywhere", the_largest_held_answer_fits_everywhere, 30},
    {"a_hundred_thousand_tasks_of_random_sizes", a_hundred_thousand_tasks_of_random_sizes, 120},
    {"small_rings_carry_everything_too", small_rings_carry_everything_too, 60},
    {"far_messages_go_both_ways", far_messages_go_both_ways, 20},
    {"held_answers_are_read_from_the_worker", held_answers_are_read_from_the_worker, 20},
    {"without_vm_readv_answers_are_copied", without_vm_readv_answers_are_copied, 20},
    {"a_worker_that_becomes_unreadable_is_copied_from", a_worker_that_becomes_unreadable_is_copied_from, 20},
    {"misuse_is_told", misuse_is_told, 20},
    {"time_limits_and_looks", time_limits_and_looks, 20},
    {"idle_pools_come_and_go", idle_pools_come_and_go, 60},
    {"more_workers_than_cores", more_workers_than_cores, 30},
    {"quick_tasks_wake_few_workers", quick_tasks_wake_few_workers, 30},
    {"long_tasks_wake_all_workers", long_tasks_wake_all_workers, 60},
    {"a_worker_opens_its_own_pool", a_worker_opens_its_own_pool, 30},
    {"closed_standard_descriptors_do_no_harm", closed_standard_descriptors_do_no_harm, 20},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
