/* test_pool_calls.c - what a call says to its workers and lends them: notes, batches, segments; and its early end. */
#define _GNU_SOURCE
#include "support/pools.h"

#include "os/os.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static joblot_segment *new_segment(size_t size, uint64_t seed)
{
    joblot_error err;
    joblot_segment *segment;
    unsigned char *data = malloc(size);
    CHECK_OK(joblot_segment_new(size, NULL, &segment, &err));
    fill_pattern(data, size, seed);
    CHECK_OK(joblot_segment_write(segment, 0, data, size, &err));
    free(data);
    return segment;
}

static uint64_t sum_of(size_t size, uint64_t seed)
{
    unsigned char *data = malloc(size);
    uint64_t sum = 0;
    fill_pattern(data, size, seed);
    for (size_t i = 0; i < size; i++)
        sum += data[i];
    free(data);
    return sum;
}

static void submit_segment(joblot_call *call, uint32_t kind, uint64_t mode, joblot_segment *segment)
{
    struct joblot_part parts[] = {{.data = &mode, .size = 8},
                                  {.segment = segment, .size = joblot_segment_size(segment)}};
    submit(call, kind, parts, 2);
}

/* Descriptors of memfd segments that a process has open. */
static int segments_open_in(int pid)
{
    char path[300], target[200];
    int n = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    CHECK(dir != NULL);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        (void)snprintf(path, sizeof path, "/proc/%d/fd/%s", pid, entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length <= 0)
            continue;
        target[length] = '\0';
        n += strncmp(target, "/memfd:joblot ", 14) == 0;
    }
    (void)closedir(dir);
    return n;
}

/* ---- notes ---- */

static void note(joblot_call *call, uint64_t key, int keep, uint64_t value)
{
    joblot_error err;
    CHECK_OK(joblot_call_note(call, key, keep, &value, sizeof value, &err));
}

static void notes_come_before_the_next_task_once_and_in_order(void)
{
    struct outcome one;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    note(call, 0, 0, 11);
    note(call, 5, 0, 12);
    submit_u64(call, DO_NOTES, 0);
    (void)take_one(call, &one);
    CHECK_EQUAL(one.size, 16);
    CHECK_EQUAL(u64_of(&one, 0), (uint64_t)11 << 32);
    CHECK_EQUAL(u64_of(&one, 1), (uint64_t)12 << 32 | 5);
    submit_u64(call, DO_NOTES, 0);
    (void)take_one(call, &one);
    CHECK_EQUAL(one.size, 16);
    note(call, 6, 0, 13);
    submit_u64(call, DO_NOTES, 0);
    (void)take_one(call, &one);
    CHECK_EQUAL(one.size, 24);
    CHECK_EQUAL(u64_of(&one, 2), (uint64_t)13 << 32 | 6);
    joblot_call_close(call);
    close_pool(pool);
}

static size_t notes_seen(joblot_pool *pool, uint64_t key, uint64_t value)
{
    struct outcome one;
    joblot_call *call = open_call(pool, 1, 0);
    note(call, key, 1, value);
    submit_u64(call, DO_NOTES, 0);
    (void)take_one(call, &one);
    joblot_call_close(call);
    return one.size / 8;
}

static void kept_notes_are_not_sent_again(void)
{
    joblot_pool *pool = open_pool(0);
    CHECK_EQUAL(notes_seen(pool, 77, 1), 1);
    CHECK_EQUAL(notes_seen(pool, 77, 1), 1);
    CHECK_EQUAL(notes_seen(pool, 78, 2), 2);
    CHECK_EQUAL(notes_seen(pool, 78, 2), 2);
    CHECK_EQUAL(notes_seen(pool, 77, 1), 3); /* another came in between */
    CHECK_EQUAL(notes_seen(pool, 77, 1), 3);
    close_pool(pool);
}

/* Notes of a ring's size and more, and a far one, reach all workers, the one that replaces a dead one included. */
static void many_and_large_notes_reach_every_worker(void)
{
    static unsigned char large[40000];
    struct outcome out[30] = {{0}};
    joblot_error err;
    joblot_pool *pool = open_pool(4096);
    joblot_call *call = open_call(pool, 3, 1);
    for (uint64_t i = 0; i < 40; i++) {
        size_t size = i == 20 ? sizeof large : 900;
        memcpy(large, &i, sizeof i);
        CHECK_OK(joblot_call_note(call, i, 0, large, size, &err));
    }
    for (uint64_t i = 0; i < 29; i++)
        submit_u64(call, i == 7 ? DO_KILL : DO_NOTES, 9);
    CHECK_EQUAL(drive(call, out, 30), 29);
    for (uint64_t i = 0; i < 29; i++) {
        if (i == 7)
            continue;
        CHECK_EQUAL(out[i].size, 40 * 8);
        for (uint64_t k = 0; k < 40; k++)
            CHECK_EQUAL(u64_of(&out[i], k), k << 32 | k);
    }
    CHECK_EQUAL(out[7].kind, JOBLOT_EVENT_DIED);
    joblot_call_close(call);
    close_pool(pool);
}

/* ---- batches ---- */

static void batches_are_as_told_or_grow(void)
{
    joblot_error err;
    joblot_call *call;
    joblot_pool *pool = open_pool(0);
    struct outcome *out = calloc(20000, sizeof *out);
    struct joblot_call_options fixed = {.n_workers = 2, .batch = 10}, grown = {.n_workers = 2};
    CHECK_OK(joblot_call_open(pool, &fixed, &call, &err));
    CHECK_EQUAL(joblot_call_batch(call), 10);
    for (uint64_t i = 0; i < 105; i++)
        submit_u64(call, DO_ECHO, i);
    CHECK_EQUAL(drive(call, out, 105), 105);
    CHECK(joblot_call_batch(call) >= 10);
    joblot_call_close(call);
    memset(out, 0, 20000 * sizeof *out);
    CHECK_OK(joblot_call_open(pool, &grown, &call, &err));
    CHECK_EQUAL(joblot_call_batch(call), 1);
    for (uint64_t i = 0; i < 20000; i++)
        submit_u64(call, DO_ECHO, i);
    CHECK_EQUAL(drive(call, out, 20000), 20000);
    for (uint64_t i = 0; i < 20000; i++)
        CHECK_EQUAL(u64_of(&out[i], 0), i);
    CHECK(joblot_call_batch(call) > 1);
    joblot_call_close(call);
    free(out);
    close_pool(pool);
}

/* ---- segments ---- */

static void three_ways_to_map(void)
{
    enum { SIZE = 300000 };
    joblot_error err;
    struct outcome one;
    void *here;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    joblot_segment *segment = new_segment(SIZE, 2);
    uint64_t sum = sum_of(SIZE, 2), carried = 0;
    static const uint64_t modes[] = {JOBLOT_MAP_READ, JOBLOT_MAP_PRIVATE, JOBLOT_MAP_READ};
    for (size_t i = 0; i < 3; i++) { /* private writes stay in the worker, and end with the mapping */
        submit_segment(call, DO_SUM, modes[i], segment);
        (void)take_one(call, &one);
        CHECK_EQUAL(u64_of(&one, 0), sum);
    }
    CHECK_OK(joblot_segment_data(segment, &here, &err));
    check_pattern(here, SIZE, 2);
    submit_segment(call, DO_SUM, JOBLOT_MAP_SHARED, segment);
    (void)take_one(call, &one);
    CHECK_EQUAL(u64_of(&one, 0), sum);
    for (size_t i = 0; i < SIZE; i++)
        carried += ((unsigned char *)here)[i] == (unsigned char)(2 * 131 + i % 251 + (i >> 12) + 1);
    CHECK_EQUAL(carried, SIZE);
    submit_segment(call, DO_SUM, 9, segment);
    (void)take_one(call, &one);
    CHECK_EQUAL(one.status, JOBLOT_INVALID);
    joblot_call_close(call);
    CHECK_EQUAL(joblot_segment_borrowers(segment), 1);
    joblot_segment_release(segment);
    close_pool(pool);
}

static void ranges_of_a_segment(void)
{
    joblot_error err;
    struct outcome one;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    joblot_segment *segment = new_segment(100000, 0);
    uint64_t mode = JOBLOT_MAP_READ;
    static const size_t at[] = {0, 1, 4095, 4096, 4097, 50000, 99999};
    unsigned char *data = malloc(100000);
    fill_pattern(data, 100000, 0);
    for (size_t i = 0; i < 7; i++) {
        size_t size = 100000 - at[i] > 7000 ? 7000 : 100000 - at[i];
        uint64_t sum = 0;
        struct joblot_part parts[] = {{.data = &mode, .size = 8},
                                      {.segment = segment, .offset = at[i], .size = size}};
        for (size_t k = 0; k < size; k++)
            sum += data[at[i] + k];
        submit(call, DO_SUM, parts, 2);
        (void)take_one(call, &one);
        CHECK_EQUAL(u64_of(&one, 0), sum);
    }
    struct joblot_part over = {.segment = segment, .offset = 99999, .size = 2};
    CHECK_STATUS(joblot_call_submit(call, DO_SUM, &over, 1, &err), JOBLOT_INVALID);
    over.offset = UINT64_MAX;
    CHECK_STATUS(joblot_call_submit(call, DO_SUM, &over, 1, &err), JOBLOT_INVALID);
    free(data);
    joblot_segment_release(segment);
    joblot_call_close(call);
    close_pool(pool);
}

/* A mapping kept after its task stays as it was while other segments come and go, and holds its segment. */
static void kept_mappings_hold_their_segments(void)
{
    struct outcome one;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    joblot_segment *segment = new_segment(200000, 1);
    uint64_t first = sum_of(200000, 1) - (unsigned char)131 + 7;
    submit_segment(call, DO_KEEP, 0, segment);
    (void)take_one(call, &one);
    CHECK_EQUAL(u64_of(&one, 0), 1);
    joblot_call_close(call);
    CHECK(joblot_segment_borrowers(segment) > 1);
    call = open_call(pool, 1, 0);
    for (uint64_t i = 0; i < 50; i++) {
        joblot_segment *other = new_segment(200000, i + 10);
        submit_segment(call, DO_SUM, JOBLOT_MAP_PRIVATE, other);
        (void)take_one(call, &one);
        CHECK_EQUAL(u64_of(&one, 0), sum_of(200000, i + 10));
        joblot_segment_release(other);
        CHECK(segments_open_in(getpid()) <= 3); /* this one's end is taken note of with the next */
    }
    CHECK(joblot_segment_borrowers(segment) > 1);
    submit_u64(call, DO_CHECK_KEPT, 0);
    (void)take_one(call, &one);
    CHECK_EQUAL(u64_of(&one, 0), first);
    submit_u64(call, DO_DROP_KEPT, 0);
    (void)take_one(call, &one);
    joblot_call_close(call);
    CHECK_EQUAL(ask(pool, DO_ECHO, 1), 1); /* what it released it says at its next answer at the latest */
    CHECK_EQUAL(joblot_segment_borrowers(segment), 1);
    joblot_segment_release(segment);
    close_pool(pool);
}

static void a_death_returns_its_loans(void)
{
    struct outcome one;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    joblot_segment *segment = new_segment(200000, 1);
    submit_segment(call, DO_KEEP, 0, segment);
    (void)take_one(call, &one);
    submit_u64(call, DO_KILL, 9);
    (void)take_one(call, &one);
    CHECK_EQUAL(one.kind, JOBLOT_EVENT_DIED);
    CHECK_EQUAL(joblot_segment_borrowers(segment), 1);
    joblot_call_close(call);
    joblot_segment_release(segment);
    close_pool(pool);
}

/* Segments that no task looks at are forgotten, too; a sleeping worker holds no memory. */
static void unused_segments_are_given_up(void)
{
    struct outcome one;
    int pid;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 1, 0);
    for (uint64_t i = 0; i < 300; i++) {
        joblot_segment *segment = new_segment(10000, i);
        struct joblot_part part = {.segment = segment, .size = 10000};
        submit(call, DO_NOTHING, &part, 1);
        joblot_segment_release(segment);
        (void)take_one(call, &one);
    }
    CHECK_EQUAL(joblot_pool_workers(pool, &pid, 1), 1);
    joblot_call_close(call);
    while (segments_open_in(pid) > 0) /* it is told, and does so when it gets to it */
        wait_ms(1);
    close_pool(pool);
}

static void many_segments_in_one_task(void)
{
    enum { N = 600 };
    struct outcome one;
    int pid;
    joblot_pool *pool = open_pool(4096 << 4);
    joblot_call *call = open_call(pool, 1, 0);
    joblot_segment *segments[N];
    struct joblot_part parts[N];
    for (size_t i = 0; i < N; i++) {
        segments[i] = new_segment(100, i);
        parts[i] = (struct joblot_part){.segment = segments[i], .size = 100};
    }
    submit(call, DO_MAP_ALL, parts, N); /* kept: the words on that are more than the ring takes at once */
    (void)take_one(call, &one);
    CHECK_EQUAL(u64_of(&one, 0), N);
    CHECK_EQUAL(joblot_pool_workers(pool, &pid, 1), 1);
    submit_u64(call, DO_DROP_KEPT, 0);
    (void)take_one(call, &one);
    joblot_call_close(call);
    CHECK_EQUAL(ask(pool, DO_ECHO, 1), 1);
    for (size_t i = 0; i < N; i++) {
        CHECK_EQUAL(joblot_segment_borrowers(segments[i]), 1);
        joblot_segment_release(segments[i]);
    }
    while (segments_open_in(pid) > 0)
        wait_ms(1);
    close_pool(pool);
}

/* 500 words of 16 bytes on kept segments do not fit into a ring of 4 KiB: they go in pieces, and nobody sleeps for good. */
static void words_on_segments_may_fill_the_ring(void)
{
    enum { N = 500 };
    struct outcome one;
    joblot_pool *pool = open_pool(4096);
    joblot_call *call = open_call(pool, 1, 0);
    for (size_t i = 0; i < N; i++) {
        joblot_segment *segment = new_segment(100, i);
        submit_segment(call, DO_KEEP, 0, segment);
        joblot_segment_release(segment);
    }
    for (size_t i = 0; i < N; i++) {
        (void)take_one(call, &one);
        CHECK_EQUAL(u64_of(&one, 0), i + 1);
    }
    submit_u64(call, DO_DROP_KEPT, 0);
    (void)take_one(call, &one);
    joblot_call_close(call);
    CHECK_EQUAL(ask(pool, DO_ECHO, 3), 3);
    close_pool(pool);
}

static void every_task_its_own_segment(void)
{
    enum { N = 900 };
    struct outcome *out = calloc(N, sizeof *out);
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 2, 0);
    for (uint64_t i = 0; i < N; i++) {
        joblot_segment *segment = new_segment(5000, i);
        submit_segment(call, DO_SUM, JOBLOT_MAP_READ, segment);
        joblot_segment_release(segment);
    }
    CHECK_EQUAL(drive(call, out, N), N);
    for (uint64_t i = 0; i < N; i++)
        CHECK_EQUAL(u64_of(&out[i], 0), sum_of(5000, i));
    joblot_call_close(call);
    free(out);
    close_pool(pool);
}

/* ---- the early end of a call ---- */

static void closing_cancels_what_runs(void)
{
    int before[2], n, after[2];
    struct joblot_event event;
    joblot_error err;
    joblot_pool *pool = open_pool(0);
    joblot_call *call = open_call(pool, 2, 5);
    for (int i = 0; i < 50; i++)
        submit_u64(call, i == 0 ? DO_SPIN : DO_SLEEP, 100000);
    do { /* until both are there, which takes its time under a sanitizer */
        CHECK_OK(joblot_call_next(call, 50000000, &event, &err));
        CHECK_EQUAL(event.kind, JOBLOT_EVENT_NONE);
    } while (joblot_pool_workers(pool, before, 2) < 2);
    joblot_call_close(call); /* one sees that it is cancelled, the other is killed */
    CHECK_EQUAL(joblot_pool_leased(pool), 0);
    call = open_call(pool, 2, 0);
    for (int i = 0; i < 2; i++)
        submit_u64(call, DO_PID, 0);
    struct outcome out[2] = {{0}};
    CHECK_EQUAL(drive(call, out, 2), 2);
    joblot_call_close(call);
    for (n = 2; n != 1;) { /* the killed one's end is told soon */
        n = 0;
        for (size_t i = 0, k = joblot_pool_workers(pool, after, 2); i < k && i < 2; i++)
            n += after[i] == before[0] || after[i] == before[1];
    }
    close_pool(pool);
}

static void closing_with_answers_unread(void)
{
    joblot_error err;
    struct joblot_event event;
    joblot_pool *pool = open_pool(0);
    for (int round = 0; round < 4; round++) {
        joblot_call *call = open_call(pool, 2, 0);
        for (uint64_t i = 0; i < 30; i++) {
            uint64_t how[] = {i % 3 == 0 ? 500000 : 100, i, 2};
            submit_u64s(call, DO_BIG, how, 3);
        }
        if (round % 2 == 1) {
            do
                CHECK_OK(joblot_call_next(call, -1, &event, &err));
            while (event.kind == JOBLOT_EVENT_NONE);
            if (round == 1)
                joblot_event_done(call, &event);
        }
        if (round == 2)
            wait_ms(50);
        joblot_call_close(call);
        CHECK_EQUAL(ask(pool, DO_ECHO, 9), 9);
    }
    close_pool(pool);
}

static const struct test_case cases[] = {
    {"notes_come_before_the_next_task_once_and_in_order", notes_come_before_the_next_task_once_and_in_order, 20},
    {"kept_notes_are_not_sent_again", kept_notes_are_not_sent_again, 20},
    {"many_and_large_notes_reach_every_worker", many_and_large_notes_reach_every_worker, 20},
    {"batches_are_as_told_or_grow", batches_are_as_told_or_grow, 30},
    {"three_ways_to_map", three_ways_to_map, 20},
    {"ranges_of_a_segment", ranges_of_a_segment, 20},
    {"kept_mappings_hold_their_segments", kept_mappings_hold_their_segments, 20},
    {"a_death_returns_its_loans", a_death_returns_its_loans, 20},
    {"unused_segments_are_given_up", unused_segments_are_given_up, 30},
    {"many_segments_in_one_task", many_segments_in_one_task, 30},
    {"words_on_segments_may_fill_the_ring", words_on_segments_may_fill_the_ring, 30},
    {"every_task_its_own_segment", every_task_its_own_segment, 30},
    {"closing_cancels_what_runs", closing_cancels_what_runs, 20},
    {"closing_with_answers_unread", closing_with_answers_unread, 20},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
