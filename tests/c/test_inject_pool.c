/* test_inject_pool.c - a pool, a call and its end, while the n-th allocation or system call fails: in the parent alone,
 * or in server and workers as well. */
#define _GNU_SOURCE
#include "support/pools.h"
#include "support/rounds.h"

#include "os/os.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static bool everywhere; /* armed before the server is forked: all processes have the fault */
static bool limited;    /* calls have limits, and workers leave after two tasks */

enum { N_TASKS = 7, FAR_SIZE = 80000, BIG_SIZE = 200000, SEGMENT_SIZE = 20000 };

static unsigned char far_bytes[FAR_SIZE], back[BIG_SIZE];

static joblot_status submit_all(joblot_call *call, joblot_segment *segment, joblot_error *err)
{
    static const uint64_t big[] = {BIG_SIZE, 3, 2}, mode = JOBLOT_MAP_READ, kill_itself = 9;
    struct joblot_part big_parts[] = {{.data = &big[0], .size = 8}, {.data = &big[1], .size = 8}, {.data = &big[2], .size = 8}};
    struct joblot_part far = {.data = far_bytes, .size = FAR_SIZE}, small = {.data = "abc", .size = 3};
    struct joblot_part mapped[] = {{.data = &mode, .size = 8}, {.segment = segment, .size = SEGMENT_SIZE}};
    struct joblot_part sig = {.data = &kill_itself, .size = 8};
    joblot_status status = joblot_call_submit(call, DO_ECHO, &small, 1, err);
    if (status == JOBLOT_OK)
        status = joblot_call_note(call, 4, 1, "a note for all", 15, err);
    if (status == JOBLOT_OK)
        status = joblot_call_submit(call, DO_ECHO, &far, 1, err);
    if (status == JOBLOT_OK)
        status = joblot_call_submit(call, DO_BIG, big_parts, 3, err);
    if (status == JOBLOT_OK)
        status = joblot_call_submit(call, DO_SUM, mapped, 2, err);
    if (status == JOBLOT_OK)
        status = joblot_call_submit(call, DO_KEEP, mapped, 2, err);
    if (status == JOBLOT_OK)
        status = joblot_call_submit(call, DO_KILL, &sig, 1, err);
    if (status == JOBLOT_OK)
        status = joblot_call_submit(call, DO_BIG, big_parts, 3, err);
    return status;
}

/* What came back is right, or is an error that says something. */
static joblot_status take(joblot_call *call, struct joblot_event *event, joblot_error *err)
{
    joblot_status status = JOBLOT_OK;
    unsigned char *at = back;
    if (event->kind == JOBLOT_EVENT_RESULT && event->status != JOBLOT_OK)
        CHECK(event->message != NULL && event->message[0] != '\0');
    for (size_t i = 0; i < event->n_parts && event->status == JOBLOT_OK && status == JOBLOT_OK; i++) {
        status = joblot_event_read(call, event, i, at, err);
        at += event->sizes[i];
    }
    if (status == JOBLOT_OK && event->kind == JOBLOT_EVENT_RESULT && event->status == JOBLOT_OK) {
        if (event->number == 1)
            check_pattern(back, FAR_SIZE, 1);
        if (event->number == 2 || event->number == 6)
            check_pattern(back, BIG_SIZE, 3);
    }
    joblot_event_done(call, event);
    return status == JOBLOT_WORKER_DIED ? JOBLOT_OK : status; /* it comes again */
}

static joblot_status drive_all(joblot_call *call, joblot_error *err)
{
    for (;;) {
        struct joblot_event event;
        joblot_status status = joblot_call_next(call, -1, &event, err);
        if (status != JOBLOT_OK || event.kind == JOBLOT_EVENT_IDLE)
            return status;
        if (event.kind != JOBLOT_EVENT_NONE)
            status = take(call, &event, err);
        if (status != JOBLOT_OK)
            return status;
    }
}

static joblot_status use_pool(joblot_pool *pool, joblot_error *err)
{
    joblot_segment *segment = NULL;
    joblot_call *call = NULL;
    struct joblot_call_options options = {.n_workers = 2, .retries = 1, .preload = "x", .preload_size = 1};
    if (limited) {
        options.max_tasks = 2;
        options.memory_limit = (uint64_t)1 << 30;
        options.task_timeout_ns = (int64_t)60 * 1000000000;
        options.idle_timeout_ns = 1000000;
    }
    joblot_status status = joblot_segment_new(SEGMENT_SIZE, NULL, &segment, err);
    if (status == JOBLOT_OK)
        status = joblot_segment_write(segment, 5, "12345", 5, err);
    if (status == JOBLOT_OK)
        status = joblot_call_open(pool, &options, &call, err);
    if (status == JOBLOT_OK)
        status = submit_all(call, segment, err);
    if (status == JOBLOT_OK)
        status = drive_all(call, err);
    joblot_call_close(call);
    joblot_segment_release(segment);
    return status;
}

static joblot_status pool_scenario(const struct fault *fault, joblot_error *err)
{
    joblot_pool *pool = NULL;
    struct joblot_pool_options options = {.hooks = &test_hooks};
    fill_pattern(far_bytes, FAR_SIZE, 1);
    if (everywhere)
        arm_fault(fault);
    joblot_status status = joblot_pool_open(&options, &pool, err);
    if (!everywhere)
        arm_fault(fault);
    if (status == JOBLOT_OK)
        status = use_pool(pool, err);
    if (status == JOBLOT_OK)
        status = use_pool(pool, err); /* with workers that are there */
    joblot_pool_close(pool, 1000000000);
    return status;
}

static void in_all(bool all, bool system, int error)
{
    char what[100];
    everywhere = all;
    (void)snprintf(what, sizeof what, "%s %s (errno %d)", system ? "system call" : "allocation",
                   all ? "in all processes" : "in the parent", error);
    run_rounds(what, pool_scenario, (struct fault){.system = system, .error = error}, 30);
    run_rounds(what, pool_scenario, (struct fault){.system = system, .error = error, .for_good = true}, 30);
}

static void allocations_in_the_parent(void) { in_all(false, false, 0); }
static void allocations_everywhere(void) { in_all(true, false, 0); }
static void system_calls_in_the_parent(void)
{
    in_all(false, true, EMFILE);
    in_all(false, true, ENOMEM);
}
static void system_calls_everywhere(void)
{
    in_all(true, true, EMFILE);
    in_all(true, true, ENOMEM);
}

/* The slower way for answers, where memory cannot be read. */
static void system_calls_while_answers_are_copied(void)
{
    joblot__os_forbid("process_vm_readv", EPERM);
    in_all(false, true, ENOMEM);
    in_all(true, true, EMFILE);
}

static void allocations_with_limits(void)
{
    limited = true;
    in_all(true, false, 0);
}

static void system_calls_with_limits(void)
{
    limited = true;
    in_all(false, true, EMFILE);
    in_all(true, true, ENOMEM);
}

static const struct test_case cases[] = {
    {"allocations_in_the_parent", allocations_in_the_parent, 120},
    {"allocations_everywhere", allocations_everywhere, 120},
    {"system_calls_in_the_parent", system_calls_in_the_parent, 120},
    {"system_calls_everywhere", system_calls_everywhere, 120},
    {"allocations_with_limits", allocations_with_limits, 120},
    {"system_calls_with_limits", system_calls_with_limits, 120},
    {"system_calls_while_answers_are_copied", system_calls_while_answers_are_copied, 120},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
