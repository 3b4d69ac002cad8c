/* pool/worker.c - a worker's loop: take a record, run it, sleep when there is none. */
#include "worker_internal.h"

#include "../base/alloc.h"
#include "../base/error.h"
#include "../os/os.h"

#include <errno.h>
#include <stdio.h>

/* ---- bells and sleep ---- */

bool joblot__worker_in_reach(joblot_worker *w)
{
    if (joblot__os_identity(w->fds.socket) != w->identity)
        w->lost = true;
    return !w->lost;
}

void joblot__worker_ring(joblot_worker *w, bool must)
{
    if (!must)
        return;
    atomic_thread_fence(memory_order_seq_cst); /* our commit before our look at the flag */
    if (joblot__shared32_load(&w->channel->parent_sleeps, memory_order_relaxed) == 0 ||
        joblot__shared32_exchange(&w->channel->parent_sleeps, 0, memory_order_acq_rel) == 0)
        return;
    if (!joblot__worker_in_reach(w)) /* our end wakes the parent as well */
        return;
    (void)joblot__os_event_ring(w->fds.parent_bell);
    w->last_bell = joblot__os_clock();
}

static bool has_record(joblot_worker *w)
{
    return joblot__ring_has_more(&w->down);
}

static bool has_room(joblot_worker *w)
{
    return joblot__ring_used(&w->up) == 0 || w->ring_size - joblot__ring_used(&w->up) >= w->wanted;
}

void joblot__worker_sleep(joblot_worker *w, uint32_t reason, bool (*done)(joblot_worker *w))
{
    joblot__worker_ring(w, true);
    joblot__shared32_store(&w->channel->worker_sleeps, reason, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* our flag before our last look */
    if (!done(w) && joblot__worker_in_reach(w)) {
        struct joblot__poll set[2] = {{.fd = w->fds.bell}, {.fd = w->deaf ? -1 : w->fds.socket}};
        int64_t idle = (int64_t)joblot__shared64_load(&w->channel->idle_ns, memory_order_relaxed);
        bool may_go = reason == JOBLOT__SLEEPS_IDLE && idle > 0;
        int rc = joblot__os_poll(set, 2, may_go ? idle : -1);
        if (rc > 0 && set[0].ready)
            (void)joblot__os_event_clear(w->fds.bell);
        w->deaf = rc > 0 && set[1].ready && joblot__worker_listen(w, false, NULL) == JOBLOT_NOMEM;
        /* Nothing to do for so long: it goes, unless a call has taken hold of it and is about to send something. */
        if (rc == 0 && may_go)
            w->leaving = joblot__shared32_cas(&w->channel->lease, JOBLOT__LEASE_IDLE, JOBLOT__LEASE_GONE);
    }
    joblot__shared32_store(&w->channel->worker_sleeps, JOBLOT__AWAKE, memory_order_relaxed);
}

void *joblot__worker_reserve(joblot_worker *w, uint32_t type, size_t size)
{
    for (;;) {
        void *at = joblot__ring_reserve(&w->up, type, size);
        if (at != NULL || w->lost)
            return w->lost ? NULL : at;
        w->wanted = 2 * (size + 2 * JOBLOT__RING_HEADER); /* a PAD before it is smaller than it is */
        joblot__ring_commit(&w->up); /* what was reserved before is complete, and the parent must make room */
        joblot__worker_sleep(w, JOBLOT__SLEEPS_FULL, has_room);
    }
}

/* ---- the socket ---- */

joblot_status joblot__worker_listen(joblot_worker *w, bool wait, joblot_error *err)
{
    struct joblot__socket_message m = {{0}, {0}, {0}, {0}, {0}, {0}};
    int fds[JOBLOT__MAX_FDS];
    size_t n_fds = 0;
    int rc;
    joblot_status status = joblot__known_reserve(w, err);
    if (status != JOBLOT_OK)
        return status;
    if (!joblot__worker_in_reach(w))
        return joblot__fail_os(err, EBADF, "the parent's socket");
    for (;;) {
        rc = joblot__os_receive(w->fds.socket, &m, sizeof m, fds, &n_fds);
        if (rc != -EAGAIN || !wait)
            break;
        struct joblot__poll set = {.fd = w->fds.socket};
        (void)joblot__os_poll(&set, 1, -1);
    }
    if (rc == -EAGAIN)
        return JOBLOT_OK;
    joblot__os_point("worker:message-received");
    if (rc == -EMFILE && joblot__load_le32(m.type) == JOBLOT__COPY_OUT) /* the message came, its descriptor did not */
        return joblot__reply_copy_out(w, joblot__load_le64(m.sequence), -1);
    if (rc == -EMFILE && joblot__load_le32(m.type) == JOBLOT__SEGMENT) {
        joblot__known_add(w, joblot__load_le32(m.segment), joblot__load_le64(m.size), -1, -1);
        return JOBLOT_OK;
    }
    if (rc <= 0) {
        w->lost = true;
        return joblot__fail_os(err, rc < 0 ? -rc : EPIPE, "the parent's socket");
    }
    if (rc != (int)sizeof m || n_fds != 1) {
        for (size_t i = 0; i < n_fds; i++)
            (void)joblot__os_close(fds[i]);
        return joblot__fail(err, JOBLOT_FORMAT, 0, "a message of %d bytes and %zu descriptors from the parent", rc, n_fds);
    }
    if (joblot__load_le32(m.type) == JOBLOT__SEGMENT) {
        joblot__known_add(w, joblot__load_le32(m.segment), joblot__load_le64(m.size), fds[0],
                          (int)joblot__load_le32(m.parent_fd));
        return JOBLOT_OK;
    }
    status = joblot__reply_copy_out(w, joblot__load_le64(m.sequence), fds[0]);
    (void)joblot__os_close(fds[0]);
    return status;
}

/* ---- records ---- */

struct body {
    const unsigned char *data;
    size_t size;
    joblot_mapping *mapping; /* of a body that lies in a segment */
};

static joblot_status find_body(joblot_worker *w, const unsigned char *record, size_t size, uint32_t flags,
                               struct body *body, joblot_error *err)
{
    body->data = record + JOBLOT__TASK_HEADER;
    body->size = size - JOBLOT__TASK_HEADER;
    body->mapping = NULL;
    if ((flags & JOBLOT__FLAG_FAR) == 0)
        return JOBLOT_OK;
    struct joblot_arrived far = {.size = joblot__load_le64(body->data),
                                 .offset = joblot__load_le64(body->data + 8),
                                 .segment = joblot__load_le32(body->data + 16)};
    joblot_status status = joblot_worker_map(w, &far, JOBLOT_MAP_READ, &body->mapping, err);
    if (status != JOBLOT_OK)
        return status;
    body->data = joblot_mapping_data(body->mapping);
    body->size = (size_t)far.size;
    return JOBLOT_OK;
}

static joblot_status call_function(joblot_worker *w, joblot_function function, const unsigned char *record, size_t size,
                                   joblot_error *err)
{
    struct body body;
    struct joblot_task task = {.sequence = joblot__load_le64(record), .kind = joblot__load_le32(record + 8)};
    joblot_status status = find_body(w, record, size, joblot__load_le32(record + 12), &body, err);
    if (status != JOBLOT_OK)
        return status;
    size_t n_parts = 0;
    status = joblot__body_parse(body.data, body.size, false, &w->parts, &n_parts, err);
    task.n_parts = (uint32_t)n_parts;
    task.parts = (const struct joblot_arrived *)(const void *)w->parts.data;
    if (status == JOBLOT_OK)
        status = function(w, &task, w->hooks->context, err);
    joblot__os_point("worker:function-returned");
    joblot_mapping_release(body.mapping);
    return status;
}

/* Between two looks at what we hold: of quick tasks not each one, since not much can be touched in so short a time. */
enum { MEMORY_NS = 1000000 };

static bool is_settled(joblot_worker *w)
{
    return joblot__shared64_load(&w->channel->settled, memory_order_acquire) >= w->sequence;
}

/* The parent takes tasks back, this one perhaps: it says in a moment. */
static bool was_taken_back(joblot_worker *w)
{
    while (!is_settled(w) && !w->lost)
        joblot__worker_sleep(w, JOBLOT__SLEEPS_FULL, is_settled);
    if (!w->lost && w->sequence <= joblot__shared64_load(&w->channel->kept, memory_order_relaxed))
        return false;
    joblot__worker_task_ended(w);
    return true;
}

/* Holds more than a worker may: the next task is not to pay for what this one has left. */
static void give_up(joblot_worker *w)
{
    while (!joblot__shared32_cas(&w->channel->lease, JOBLOT__LEASE_LEASED, JOBLOT__LEASE_GONE) &&
           !joblot__shared32_cas(&w->channel->lease, JOBLOT__LEASE_IDLE, JOBLOT__LEASE_GONE))
        ;
    w->leaving = true;
    joblot__worker_ring(w, true);
}

static void run_task(joblot_worker *w, const unsigned char *record, size_t size)
{
    joblot_error err = {.message = ""};
    if (w->look && !joblot__worker_in_reach(w)) /* this task is to have no part in what the last one did */
        return;
    uint32_t kind = joblot__load_le32(record + 8);
    w->sequence = joblot__load_le64(record);
    w->replied = false;
    if (joblot__shared32_load(&w->channel->cancel, memory_order_acquire) != 0) {
        (void)joblot__reply_status(w, JOBLOT_CANCELLED, "the call was cancelled");
        w->sequence = 0;
        return;
    }
    joblot__os_point("worker:task-found");
    joblot__shared64_store(&w->channel->since, (uint64_t)w->started_at, memory_order_relaxed);
    joblot__shared64_store(&w->channel->started, w->sequence, memory_order_seq_cst); /* before the look at `revoked` */
    if (w->sequence <= joblot__shared64_load(&w->channel->revoked, memory_order_seq_cst) && was_taken_back(w)) {
        w->sequence = 0;
        return;
    }
    joblot__os_point("worker:task-started");
    joblot_status status = JOBLOT_INVALID;
    if (kind < w->hooks->n_functions)
        status = call_function(w, w->hooks->functions[kind], record, size, &err);
    else
        (void)joblot__fail(&err, status, 0, "there is no function %u in the workers' table", kind);
    if (!w->replied && !w->lost) {
        if (status == JOBLOT_OK)
            status = joblot__fail(&err, JOBLOT_INVALID, 0, "the function returned without an answer");
        (void)joblot__reply_status(w, status, err.message);
    }
    joblot__os_point("worker:task-over");
    w->sequence = 0;
    uint64_t limit = joblot__shared64_load(&w->channel->memory_limit, memory_order_relaxed);
    if (limit != 0 && w->started_at - w->memory_seen > MEMORY_NS) {
        w->memory_seen = w->started_at;
        if (joblot__os_private_memory(0) - w->inherited > (int64_t)limit)
            give_up(w);
    }
}

static void run_note(joblot_worker *w, const unsigned char *record, size_t size)
{
    joblot_error err = {.message = ""};
    if (w->hooks->note == NULL)
        return;
    if (call_function(w, w->hooks->note, record, size, &err) != JOBLOT_OK && !w->lost)
        (void)fprintf(stderr, "joblot worker %d: a note could not be taken: %s\n", joblot__os_pid(), err.message);
    w->started_at = joblot__os_clock(); /* what it took is not the next task's */
}

static void leave(joblot_worker *w)
{
    joblot__os_point("worker:leaving");
    w->leaving = true;
}

static void forget(joblot_worker *w, uint32_t id)
{
    struct joblot_task what = {.kind = id};
    if (w->hooks->forget != NULL)
        (void)w->hooks->forget(w, &what, w->hooks->context, NULL);
    joblot__known_forget(w, id);
}

static void take_record(joblot_worker *w, uint32_t type, const unsigned char *record, size_t size)
{
    if (type == JOBLOT__TASK && size >= JOBLOT__TASK_HEADER + JOBLOT__BODY_HEADER)
        run_task(w, record, size);
    else if (type == JOBLOT__NOTE && size >= JOBLOT__TASK_HEADER + JOBLOT__BODY_HEADER)
        run_note(w, record, size);
    else if (type == JOBLOT__FORGET && size >= 4 && joblot__worker_in_reach(w))
        forget(w, joblot__load_le32(record));
    else
        leave(w); /* EXIT, or a parent that speaks another language: nothing can be done here */
}

static void serve(joblot_worker *w)
{
    while (!w->leaving && !w->lost) {
        uint32_t type;
        size_t size;
        bool broken;
        const void *record = joblot__ring_peek(&w->down, &type, &size, &broken);
        if (broken)
            return;
        if (record == NULL) {
            joblot__known_report(w);
            joblot__ring_commit(&w->up);
            joblot__os_point("worker:idle");
            joblot__worker_sleep(w, JOBLOT__SLEEPS_IDLE, has_record);
            w->started_at = joblot__os_clock();
            continue;
        }
        take_record(w, type, record, size);
        joblot__ring_consume(&w->down);
    }
}

/* ---- life ---- */

static void say_hello(joblot_worker *w)
{
    int64_t now = joblot__os_clock();
    uint64_t mix = (uint64_t)now * 0x9e3779b97f4a7c15u ^ (uint64_t)joblot__os_pid();
    joblot__store_le64(w->cookie, mix);
    joblot__store_le64(w->cookie + 8, ~mix);
    unsigned char *at = joblot__worker_reserve(w, JOBLOT__HELLO, 24);
    if (at == NULL)
        return;
    joblot__store_le64(at, (uint64_t)(uintptr_t)w->cookie);
    memcpy(at + 8, w->cookie, 16);
    joblot__os_point("worker:hello-written");
    joblot__ring_commit(&w->up);
    joblot__os_point("worker:hello-said");
    joblot__worker_ring(w, true); /* tasks may wait for a worker that has come, or for more than those */
    w->started_at = w->last_bell = now;
}

static joblot_status open_channel(joblot_worker *w, joblot_error *err)
{
    int64_t size = joblot__os_file_size(w->fds.channel);
    void *at;
    if (size < JOBLOT__CHANNEL_HEADER)
        return joblot__fail(err, JOBLOT_FORMAT, 0, "the channel has %lld bytes", (long long)size);
    int rc = joblot__os_map(w->fds.channel, 0, (size_t)size, JOBLOT__MAP_WRITE, &at);
    if (rc < 0)
        return joblot__fail_os(err, -rc, "mapping the channel");
    (void)joblot__os_dontfork(at, (size_t)size);
    w->channel = at;
    w->ring_size = joblot__shared32_load(&w->channel->ring_size, memory_order_acquire);
    if (joblot__shared32_load(&w->channel->magic, memory_order_acquire) != JOBLOT__CHANNEL_MAGIC ||
        joblot__channel_size(w->ring_size) != (size_t)size)
        return joblot__fail(err, JOBLOT_FORMAT, 0, "the channel is not one of this version of joblot");
    joblot__ring_init(&w->down, &w->channel->down, joblot__channel_down(w->channel), w->ring_size);
    joblot__ring_init(&w->up, &w->channel->up, joblot__channel_up(w->channel, w->ring_size), w->ring_size);
    joblot__shared64_store(&w->channel->inherited, (uint64_t)w->inherited, memory_order_release);
    return JOBLOT_OK;
}

static joblot_status live(joblot_worker *w, joblot_error *err)
{
    const struct joblot_worker_hooks *hooks = w->hooks;
    joblot_status status = open_channel(w, err);
    if (status != JOBLOT_OK)
        return status;
    (void)joblot__os_set_blocking(w->fds.socket, false);
    w->identity = joblot__os_identity(w->fds.socket);
    if (hooks->start != NULL)
        status = hooks->start(w, NULL, hooks->context, err);
    (void)joblot__os_close(w->fds.channel); /* unless the hook has made it the crash file */
    w->fds.channel = -1;
    joblot__os_point("worker:set-up");
    if (status == JOBLOT_OK) {
        say_hello(w);
        serve(w);
    }
    joblot__os_point("worker:over");
    if (hooks->stop != NULL)
        (void)hooks->stop(w, NULL, hooks->context, NULL);
    return status;
}

joblot_status joblot__worker_run(const struct joblot_worker_hooks *hooks, const struct joblot__worker_fds *fds,
                                 int parent_pid, joblot_error *err)
{
    joblot_worker *w = joblot__calloc(1, sizeof *w);
    if (w == NULL)
        return joblot__fail_nomem(err, sizeof *w, "a worker");
    w->hooks = hooks;
    w->fds = *fds;
    w->parent_pid = parent_pid;
    w->inherited = fds->inherited;
    (void)joblot__os_read_stops(); /* of a worker that was started by exec; the parent has checked it */
    joblot_status status = live(w, err);
    /* What the program still has mapped stays mapped; it is about to end.  The worker itself stays as well, since a
     * mapping that is released during the program's finalisation still refers to what it knows. */
    if (w->identity == 0 || joblot__os_identity(w->fds.socket) == w->identity) { /* else they are somebody else's now */
        (void)joblot__os_close(w->fds.channel);
        (void)joblot__os_close(w->fds.socket);
        (void)joblot__os_close(w->fds.bell);
        (void)joblot__os_close(w->fds.parent_bell);
    }
    joblot__buffer_clear(&w->parts);
    return status;
}

int joblot_worker_crash_file(joblot_worker *w)
{
    /* A number that no file of a task gets: one that closes all descriptors must not have this text in its own file. */
    int fd = joblot__os_move_high(w->fds.channel);
    if (fd < 0)
        return -1;
    w->fds.channel = -1;
    if (joblot__os_seek(fd, joblot__channel_crash(w->ring_size)) == 0)
        return fd;
    (void)joblot__os_close(fd);
    return -1;
}

int joblot_worker_parent_pid(const joblot_worker *worker)
{
    return worker->parent_pid;
}

int joblot_worker_cancelled(const joblot_worker *worker)
{
    return joblot__shared32_load(&worker->channel->cancel, memory_order_relaxed) != 0;
}
