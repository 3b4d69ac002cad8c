/* test_share.c - segments that programs work in: lent for good, handed over by workers, given up between calls. */
#define _GNU_SOURCE
#include "support/pools.h"
#include "support/rounds.h"

#include <joblot/share.h>

#include "os/os.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what workers do ---- */

/* MAKE: u64 size, u64 how often it is handed over: a segment full of 7s; answers u64 its id and the bytes.
 * USE: a segment, mapped shared: adds 1 to each byte; answers u64 the parent's id.  KEEP, LEND: the same, and the mapping
 * is kept, or lent and kept.  LOOK: u64 first byte of what is kept, u64 segments that were to be forgotten. */
enum { MAKE, USE, KEEP, LEND, LOOK, DIE };

static joblot_mapping *kept;
static uint64_t forgotten;

static uint64_t number(const struct joblot_task *task, size_t i)
{
    uint64_t value;
    memcpy(&value, task->parts[i].data, sizeof value);
    return value;
}

static joblot_status make(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)context;
    uint64_t size = number(task, 0), id;
    struct joblot_segment_options options = {.shared = 1};
    joblot_segment *segment;
    void *data;
    joblot_status status = joblot_segment_new(size, &options, &segment, err);
    if (status != JOBLOT_OK)
        return status;
    status = joblot_segment_data(segment, &data, err);
    if (status == JOBLOT_OK) {
        memset(data, 7, size);
        for (uint64_t i = 0; i < number(task, 1); i++)
            (void)(joblot_worker_hand_over(w, segment, NULL) == JOBLOT_OK); /* else the bytes must do */
        id = joblot_segment_id(segment);
        struct joblot_part parts[] = {{.data = &id, .size = 8}, {.data = data, .size = size}};
        status = joblot_worker_reply(w, parts, 2, err);
    }
    joblot_segment_release(segment);
    return status;
}

static joblot_status use(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)context;
    joblot_mapping *m;
    joblot_status status = joblot_worker_map(w, &task->parts[0], JOBLOT_MAP_SHARED, &m, err);
    if (status != JOBLOT_OK)
        return status;
    unsigned char *at = joblot_mapping_data(m);
    for (uint64_t i = 0; i < joblot_mapping_size(m); i++)
        at[i]++;
    uint64_t id = joblot_mapping_segment(m);
    struct joblot_part part = {.data = &id, .size = 8};
    if (task->kind != USE && kept == NULL) {
        kept = m;
        if (task->kind == LEND)
            joblot_mapping_lend(m);
    } else {
        joblot_mapping_release(m);
    }
    return joblot_worker_reply(w, &part, 1, err);
}

static joblot_status look(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)task;
    (void)context;
    uint64_t seen[2] = {kept != NULL ? *(unsigned char *)joblot_mapping_data(kept) : 0, forgotten};
    struct joblot_part part = {.data = seen, .size = sizeof seen};
    return joblot_worker_reply(w, &part, 1, err);
}

static joblot_status die(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)w;
    (void)task;
    (void)context;
    (void)err;
    (void)kill(getpid(), SIGKILL);
    return JOBLOT_OK;
}

static joblot_status forget(joblot_worker *w, const struct joblot_task *what, void *context, joblot_error *err)
{
    (void)w;
    (void)context;
    (void)err;
    forgotten += what->kind != 0;
    return JOBLOT_OK;
}

static const joblot_function functions[] = {[MAKE] = make, [USE] = use, [KEEP] = use, [LEND] = use, [LOOK] = look, [DIE] = die};
static const struct joblot_worker_hooks hooks = {.functions = functions, .n_functions = 6, .forget = forget};

/* ---- the parent ---- */

static joblot_segment *new_shared(uint64_t size)
{
    joblot_error err;
    joblot_segment *segment;
    struct joblot_segment_options options = {.shared = 1};
    CHECK_OK(joblot_segment_new(size, &options, &segment, &err));
    return segment;
}

static unsigned char *data_of(joblot_segment *segment)
{
    joblot_error err;
    void *data;
    CHECK_OK(joblot_segment_data(segment, &data, &err));
    return data;
}

static void submit_segment(joblot_call *call, uint32_t kind, joblot_segment *segment)
{
    struct joblot_part part = {.segment = segment, .size = joblot_segment_size(segment)};
    submit(call, kind, &part, 1);
}

/* Waits for a RESULT. */
static void next(joblot_call *call, struct joblot_event *event)
{
    joblot_error err;
    do
        CHECK_OK(joblot_call_next(call, -1, event, &err));
    while (event->kind == JOBLOT_EVENT_NONE);
    CHECK_EQUAL(event->kind, JOBLOT_EVENT_RESULT);
    CHECK_EQUAL(event->status, JOBLOT_OK);
}

static uint64_t first_u64(joblot_call *call, struct joblot_event *event)
{
    uint64_t value;
    joblot_error err;
    CHECK_OK(joblot_event_read(call, event, 0, &value, &err));
    return value;
}

/* The segment that a worker made and handed over, borrowed. */
static joblot_segment *take_handed(joblot_call *call, uint64_t size)
{
    struct joblot_event event;
    uint64_t arguments[] = {size, 1};
    submit_u64s(call, MAKE, arguments, 2);
    next(call, &event);
    joblot_segment *segment = joblot_event_handed(call, &event, (uint32_t)first_u64(call, &event));
    CHECK(segment != NULL);
    (void)joblot_segment_borrow(segment);
    joblot_event_done(call, &event);
    return segment;
}

static int open_files(void)
{
    int n = 0;
    for (int fd = 0; fd < 1000; fd++)
        n += joblot__os_identity(fd) != 0;
    return n;
}

/* ---- cases ---- */

static void both_see_what_is_written(void)
{
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_call(pool, 1, 0);
    joblot_segment *segment = new_shared(100000);
    struct joblot_event event;
    unsigned char *data = data_of(segment);
    memset(data, 1, 100000);
    submit_segment(call, USE, segment);
    next(call, &event);
    CHECK_EQUAL(first_u64(call, &event), joblot_segment_id(segment));
    CHECK(joblot_event_segment(call, &event, joblot_segment_id(segment)) == segment);
    CHECK(joblot_event_segment(call, &event, joblot_segment_id(segment) + 1) == NULL);
    CHECK(joblot_event_handed(call, &event, joblot_segment_id(segment)) == NULL);
    joblot_event_done(call, &event);
    CHECK(joblot_event_segment(call, &event, joblot_segment_id(segment)) == NULL); /* the event is over */
    CHECK_EQUAL(data[0], 2);
    CHECK_EQUAL(data[99999], 2);
    joblot_call_close(call);
    joblot_segment_release(segment);
    close_pool(pool);
}

static void handed_over(void)
{
    static const uint64_t sizes[] = {1, 5000, 3000000};
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_call(pool, 2, 0);
    for (int i = 0; i < 3; i++) {
        joblot_segment *segment = take_handed(call, sizes[i]);
        struct joblot_event event;
        CHECK_EQUAL(joblot_segment_size(segment), sizes[i]);
        CHECK_EQUAL(data_of(segment)[sizes[i] - 1], 7);
        submit_segment(call, USE, segment);
        next(call, &event);
        joblot_event_done(call, &event);
        CHECK_EQUAL(data_of(segment)[sizes[i] - 1], 8);
        joblot_segment_release(segment);
    }
    joblot_call_close(call);
    close_pool(pool);
}

/* It is the parent's as soon as its maker has answered, whatever becomes of that. */
static void the_maker_dies(void)
{
    joblot_error err;
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_call(pool, 1, 0);
    uint64_t arguments[] = {300, 1};
    struct joblot_event event;
    submit_u64s(call, MAKE, arguments, 2);
    submit(call, DIE, NULL, 0);
    (void)usleep(200000); /* both have happened, or happen later: right either way */
    next(call, &event);
    joblot_segment *segment = joblot_event_handed(call, &event, (uint32_t)first_u64(call, &event));
    CHECK(segment != NULL);
    (void)joblot_segment_borrow(segment);
    joblot_event_done(call, &event);
    do
        CHECK_OK(joblot_call_next(call, -1, &event, &err));
    while (event.kind == JOBLOT_EVENT_NONE);
    CHECK_EQUAL(event.kind, JOBLOT_EVENT_DIED);
    joblot_event_done(call, &event);
    CHECK_EQUAL(data_of(segment)[299], 7);
    submit_segment(call, USE, segment);
    next(call, &event);
    joblot_event_done(call, &event);
    CHECK_EQUAL(data_of(segment)[299], 8);
    joblot_segment_release(segment);
    joblot_call_close(call);
    close_pool(pool);
}

/* Nobody takes them: they are gone with their answer, or with the call. */
static void what_is_not_taken_goes(void)
{
    joblot_pool *pool = open_pool_of(&hooks, 0);
    int before = 0;
    for (int round = 0; round < 3; round++) {
        joblot_call *call = open_call(pool, 1, 0);
        uint64_t arguments[] = {300, 20};
        struct joblot_event event;
        for (int i = 0; i < 5; i++)
            submit_u64s(call, MAKE, arguments, 2);
        for (int i = 0; i < 3; i++) {
            next(call, &event);
            if (i == 1)
                CHECK(joblot_event_handed(call, &event, (uint32_t)first_u64(call, &event)) != NULL);
            joblot_event_done(call, &event);
        }
        joblot_call_close(call); /* two are left */
        if (round == 0)
            before = open_files();
        CHECK_EQUAL(open_files(), before);
    }
    close_pool(pool);
}

/* More than a socket takes: the rest has only its bytes, and nobody waits. */
static void too_many_on_their_way(void)
{
    joblot_error err;
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_call *call = open_call(pool, 1, 0);
    uint64_t arguments[] = {50, 5000};
    unsigned char bytes[50];
    struct joblot_event event;
    submit_u64s(call, MAKE, arguments, 2);
    next(call, &event);
    CHECK_OK(joblot_event_read(call, &event, 1, bytes, &err));
    CHECK_EQUAL(bytes[49], 7);
    joblot_event_done(call, &event);
    joblot_segment_release(take_handed(call, 10));
    joblot_call_close(call);
    close_pool(pool);
}

static uint64_t look_now(joblot_pool *pool, int which)
{
    joblot_call *call = open_call(pool, 1, 0);
    struct joblot_event event;
    uint64_t seen[2];
    joblot_error err;
    submit(call, LOOK, NULL, 0);
    next(call, &event);
    CHECK_OK(joblot_event_read(call, &event, 0, seen, &err));
    joblot_event_done(call, &event);
    joblot_call_close(call);
    return seen[which];
}

static void one_task(joblot_pool *pool, uint32_t kind, joblot_segment *segment)
{
    joblot_call *call = open_call(pool, 1, 0);
    struct joblot_event event;
    submit_segment(call, kind, segment);
    next(call, &event);
    joblot_event_done(call, &event);
    joblot_call_close(call);
}

static void given_up_between_calls(void)
{
    joblot_pool *pool = open_pool_of(&hooks, 0);
    joblot_segment *segment = new_shared(5000);
    one_task(pool, USE, segment);
    one_task(pool, USE, segment);
    CHECK_EQUAL(look_now(pool, 1), 0); /* lasting: the end of a call takes it from nobody */
    CHECK(joblot_segment_borrowers(segment) == 2);
    joblot_segment_release(segment);
    joblot_pool_forget(pool);
    CHECK_EQUAL(look_now(pool, 1), 1);
    close_pool(pool);
}

/* A worker that keeps a mapping keeps the segment; one that has it lent keeps only the memory. */
static void kept_and_lent(void)
{
    for (int lent = 0; lent < 2; lent++) {
        joblot_pool *pool = open_pool_of(&hooks, 0);
        joblot_segment *segment = new_shared(5000);
        data_of(segment)[0] = 40;
        one_task(pool, lent ? LEND : KEEP, segment);
        (void)look_now(pool, 0);
        joblot_segment_release(segment);
        joblot_pool_forget(pool);
        CHECK_EQUAL(look_now(pool, 1), (uint64_t)lent);
        CHECK_EQUAL(look_now(pool, 0), 41);
        close_pool(pool);
    }
}

static void a_forked_child_has_it(void)
{
    joblot_segment *segment = new_shared(8192);
    unsigned char *data = data_of(segment);
    int status;
    (void)joblot_segment_borrow(segment); /* by what the child does not have */
    pid_t pid = fork();
    if (pid == 0) {
        data[5] = 9;
        joblot_segment_forked(segment);
        int own = data_of(segment) == data && joblot_segment_borrowers(segment) == 1;
        joblot_segment_release(segment); /* the last: unmapped, and its descriptor closed */
        unsigned char vec[2];
        _exit(!own || !(mincore(data, 8192, vec) != 0 && errno == ENOMEM));
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(data[5], 9);
    CHECK_EQUAL(joblot_segment_borrowers(segment), 2);
    joblot_segment_release(segment);
    joblot_segment_release(segment);
}

static void adopted(void)
{
    joblot_error err;
    joblot_segment *segment = new_shared(3000), *other = NULL;
    data_of(segment)[2999] = 5;
    CHECK_OK(joblot_segment_adopt(joblot__os_dup(joblot_segment_fd(segment)), &other, &err));
    CHECK_EQUAL(joblot_segment_size(other), 3000);
    CHECK(joblot_segment_id(other) != joblot_segment_id(segment));
    CHECK(joblot_segment_identity(other) == joblot_segment_identity(segment));
    CHECK_EQUAL(data_of(other)[2999], 5);
    joblot_segment_release(segment);
    CHECK_EQUAL(data_of(other)[2999], 5);
    joblot_segment_release(other);
    other = NULL;
    CHECK_STATUS(joblot_segment_adopt(-1, &other, &err), JOBLOT_OS);
    int nothing = joblot__os_memfd("empty", 0);
    CHECK(nothing >= 0);
    CHECK_STATUS(joblot_segment_adopt(nothing, &other, &err), JOBLOT_INVALID);
    (void)joblot__os_close(nothing);
    CHECK(other == NULL);
}

/* ---- faults ---- */

static bool everywhere;

static joblot_status take_any(joblot_call *call, struct joblot_event *event, joblot_error *err)
{
    unsigned char bytes[70000];
    uint64_t id;
    joblot_status status = JOBLOT_OK;
    if (event->kind == JOBLOT_EVENT_RESULT && event->status == JOBLOT_OK && event->n_parts == 2) {
        void *data = bytes;
        status = joblot_event_read(call, event, 0, &id, err);
        joblot_segment *segment = status == JOBLOT_OK ? joblot_event_handed(call, event, (uint32_t)id) : NULL;
        if (status == JOBLOT_OK && (segment == NULL || joblot_segment_data(segment, &data, NULL) != JOBLOT_OK))
            status = joblot_event_read(call, event, 1, bytes, err);
        if (status == JOBLOT_OK)
            CHECK_EQUAL(((unsigned char *)data)[event->sizes[1] - 1], 7);
    }
    joblot_event_done(call, event);
    return status == JOBLOT_WORKER_DIED ? JOBLOT_OK : status;
}

static joblot_status run_call(joblot_pool *pool, joblot_error *err)
{
    static const uint64_t small[] = {300, 2}, large[] = {70000, 1};
    struct joblot_segment_options shared = {.shared = 1};
    struct joblot_call_options options = {.n_workers = 1, .retries = 1};
    joblot_segment *segment = NULL;
    joblot_call *call = NULL;
    struct joblot_event event = {.kind = JOBLOT_EVENT_NONE};
    joblot_status status = joblot_segment_new(5000, &shared, &segment, err);
    struct joblot_part part = {.segment = segment, .size = 5000};
    struct joblot_part first[] = {{.data = &small[0], .size = 8}, {.data = &small[1], .size = 8}};
    struct joblot_part second[] = {{.data = &large[0], .size = 8}, {.data = &large[1], .size = 8}};
    if (status == JOBLOT_OK)
        status = joblot_call_open(pool, &options, &call, err);
    if (status == JOBLOT_OK)
        status = joblot_call_submit(call, MAKE, first, 2, err);
    if (status == JOBLOT_OK)
        status = joblot_call_submit(call, MAKE, second, 2, err);
    if (status == JOBLOT_OK)
        status = joblot_call_submit(call, LEND, &part, 1, err);
    while (status == JOBLOT_OK && event.kind != JOBLOT_EVENT_IDLE) {
        status = joblot_call_next(call, -1, &event, err);
        if (status == JOBLOT_OK && (event.kind == JOBLOT_EVENT_RESULT || event.kind == JOBLOT_EVENT_DIED))
            status = take_any(call, &event, err);
    }
    joblot_call_close(call);
    joblot_segment_release(segment);
    joblot_pool_forget(pool);
    return status;
}

static joblot_status share_scenario(const struct fault *fault, joblot_error *err)
{
    joblot_pool *pool = NULL;
    struct joblot_pool_options options = {.hooks = &hooks};
    if (everywhere)
        arm_fault(fault);
    joblot_status status = joblot_pool_open(&options, &pool, err);
    if (!everywhere)
        arm_fault(fault);
    if (status == JOBLOT_OK)
        status = run_call(pool, err);
    if (status == JOBLOT_OK)
        status = run_call(pool, err);
    joblot_pool_close(pool, 1000000000);
    return status;
}

static void faults_in(bool all)
{
    static const int errors[] = {EMFILE, ENOMEM};
    everywhere = all;
    for (int i = 0; i < 2; i++) {
        run_rounds("system call", share_scenario, (struct fault){.system = true, .error = errors[i]}, 20);
        run_rounds("system call", share_scenario, (struct fault){.system = true, .error = errors[i], .for_good = true}, 20);
        run_rounds("allocation", share_scenario, (struct fault){.for_good = i == 1}, 20);
    }
}

static void faults_in_the_parent(void) { faults_in(false); }
static void faults_in_all_processes(void) { faults_in(true); }

static const struct test_case cases[] = {
    {"both_see_what_is_written", both_see_what_is_written, 30},
    {"handed_over", handed_over, 30},
    {"the_maker_dies", the_maker_dies, 30},
    {"what_is_not_taken_goes", what_is_not_taken_goes, 30},
    {"too_many_on_their_way", too_many_on_their_way, 60},
    {"given_up_between_calls", given_up_between_calls, 30},
    {"kept_and_lent", kept_and_lent, 30},
    {"a_forked_child_has_it", a_forked_child_has_it, 30},
    {"adopted", adopted, 10},
    {"faults_in_the_parent", faults_in_the_parent, 120},
    {"faults_in_all_processes", faults_in_all_processes, 120},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
