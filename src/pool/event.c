/* pool/event.c - an answer: what it says, taking its bytes, and being done with it. */
#include "call_internal.h"

#include "../base/checked.h"
#include "../base/error.h"

#include <errno.h>

enum { HELD_ALIGN = 64 };
enum { HELD = 1, FAILED = 2 }; /* event->internal[1] */

static uintptr_t flags_of(const struct joblot_event *event)
{
    return (uintptr_t)event->internal[1];
}

static void set_flags(struct joblot_event *event, uintptr_t flags)
{
    event->internal[1] = (void *)flags;
}

static void note_duration(joblot_call *call, uint64_t ns)
{
    double d = (double)ns;
    call->n_answers++;
    call->average_ns = call->average_ns < 0 ? d : 0.8 * call->average_ns + 0.2 * d;
}

joblot_status joblot__event_fill(joblot_call *call, struct joblot__peer *peer, const unsigned char *record, size_t size,
                                 struct joblot_event *event, joblot_error *err)
{
    struct joblot__task *task = peer->in_flight.first;
    joblot__os_point("parent:answer-seen");
    bool held = (joblot__load_le32(record + 20) & JOBLOT__FLAG_HELD) != 0;
    size_t n;
    joblot_status status = joblot__body_parse(record + JOBLOT__ANSWER_HEADER, size - JOBLOT__ANSWER_HEADER, held,
                                              &call->parts, &n, err);
    if (status == JOBLOT_OK && (task == NULL || task->sequence != joblot__load_le64(record)))
        status = joblot__fail(err, JOBLOT_FORMAT, 0, "a worker answered a task that it was not given");
    if (status != JOBLOT_OK)
        return status;
    const struct joblot_arrived *parts = (const struct joblot_arrived *)(const void *)call->parts.data;
    call->sizes.size = 0;
    uint64_t *sizes = (uint64_t *)(void *)joblot__buffer_extend(&call->sizes, (n + 1) * sizeof *sizes);
    if (sizes == NULL)
        return joblot__fail_nomem(err, n * sizeof *sizes, "an answer");
    for (size_t i = 0; i < n; i++)
        sizes[i] = parts[i].size;
    event->kind = JOBLOT_EVENT_RESULT;
    event->number = task->number;
    event->status = (joblot_status)(int32_t)joblot__load_le32(record + 16);
    event->duration_ns = joblot__load_le64(record + 8);
    event->n_parts = n;
    event->sizes = sizes;
    if (event->status != JOBLOT_OK && n == 1 && parts[0].size > 0 && parts[0].data != NULL &&
        ((const char *)parts[0].data)[parts[0].size - 1] == '\0')
        event->message = parts[0].data;
    event->internal[0] = peer;
    set_flags(event, held ? HELD : 0);
    call->event_open = true;
    call->early_deaths = 0;
    note_duration(call, event->duration_ns);
    if (held) /* all that the record says is in call->parts, and what comes behind it may be wanted first */
        joblot__ring_consume(&peer->up);
    return JOBLOT_OK;
}

static const struct joblot_arrived *parts_of(const joblot_call *call)
{
    return (const struct joblot_arrived *)(const void *)call->parts.data;
}

const void *joblot_event_data(const joblot_call *call, const struct joblot_event *event, size_t part)
{
    return call->event_open && part < event->n_parts ? parts_of(call)[part].data : NULL;
}

/* Can the memory of this worker be read, and is it what we take it for?  An emulated worker has other addresses. */
static bool can_read(struct joblot__peer *peer)
{
    unsigned char seen[sizeof peer->cookie];
    if (peer->readable < 0)
        peer->readable = peer->hello &&
                         joblot__os_vm_read(peer->pid, peer->cookie_address, seen, sizeof seen) == sizeof seen &&
                         memcmp(seen, peer->cookie, sizeof seen) == 0;
    return peer->readable == 1;
}

static joblot_status died(struct joblot_event *event, joblot_error *err)
{
    struct joblot__peer *peer = event->internal[0];
    peer->gone = true;
    set_flags(event, flags_of(event) | FAILED);
    return joblot__fail(err, JOBLOT_WORKER_DIED, 0, "worker %d died while its answer was read", peer->pid);
}

static bool is_dead(const struct joblot__peer *peer)
{
    struct joblot__poll set = {.fd = peer->pidfd};
    return peer->pidfd < 0 || (joblot__os_poll(&set, 1, 0) > 0 && set.ready);
}

static joblot_status read_memory(struct joblot_event *event, uint64_t address, void *out, uint64_t size,
                                 joblot_error *err)
{
    struct joblot__peer *peer = event->internal[0];
    unsigned char *at = out;
    /* In tests that stop processes in the midst of a read there has to be one. */
    uint64_t most = joblot__os_may_stop() ? 1u << 16 : 1u << 30;
    joblot__os_point("parent:read-begins");
    while (size > 0) {
        int64_t n = joblot__os_vm_read(peer->pid, address, at, size > most ? (size_t)most : (size_t)size);
        joblot__os_point("parent:part-read");
        if (n <= 0) {
            if (is_dead(peer) || n == -ESRCH)
                return died(event, err);
            if (n == -EPERM || n == -ENOSYS) /* not any more: a task has changed its worker's user, for one */
                return JOBLOT_UNSUPPORTED;
            return joblot__fail_os(err, n < 0 ? (int)-n : EFAULT, "reading an answer out of worker %d", peer->pid);
        }
        at += n;
        address += (uint64_t)n;
        size -= (uint64_t)n;
    }
    joblot__os_point("parent:read-ends");
    /* Read after death means: of nobody knows whose memory. */
    return is_dead(peer) ? died(event, err) : JOBLOT_OK;
}

/* ---- where memory cannot be read: the worker copies its answer into a segment of ours ---- */

/* A worker that is stopped never copies: the caller looks at its signals, and may come again. */
static joblot_status interrupted(joblot_error *err)
{
    return joblot__fail(err, JOBLOT_CANCELLED, EINTR, "a signal came while an answer was waited for");
}

static joblot_status ask_for_copy(joblot_call *call, struct joblot_event *event, joblot_error *err)
{
    struct joblot__peer *peer = event->internal[0];
    struct joblot__socket_message m;
    int fd = joblot_segment_fd(call->copied);
    memset(&m, 0, sizeof m);
    joblot__store_le32(m.type, JOBLOT__COPY_OUT);
    joblot__store_le64(m.sequence, peer->in_flight.first->sequence);
    joblot__store_le64(m.size, joblot_segment_size(call->copied));
    for (;;) {
        int rc = joblot__os_send(peer->socket, &m, sizeof m, &fd, 1);
        joblot__os_point("parent:copy-asked");
        if (rc == 0)
            return JOBLOT_OK;
        if (is_dead(peer) || rc == -EPIPE || rc == -ECONNRESET) /* its files are closed before its pidfd fires */
            return died(event, err);
        if (rc != -EAGAIN)
            return joblot__fail_os(err, -rc, "asking worker %d for its answer", peer->pid);
        struct joblot__poll set[2] = {{.fd = peer->socket, .want_write = true}, {.fd = peer->pidfd}};
        if (joblot__os_poll(set, 2, -1) == -EINTR)
            return interrupted(err);
    }
}

static joblot_status wait_for_copy(joblot_call *call, struct joblot_event *event, joblot_error *err)
{
    struct joblot__peer *peer = event->internal[0];
    uint64_t sequence = peer->in_flight.first->sequence;
    for (;;) {
        uint32_t type;
        size_t size;
        joblot__shared32_store(&peer->channel->parent_sleeps, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        const unsigned char *record = joblot__call_read(call, peer, &type, &size);
        if (record != NULL && type == JOBLOT__COPIED && size >= 16 && joblot__load_le64(record) == sequence) {
            joblot_status status = (joblot_status)(int32_t)joblot__load_le32(record + 8);
            joblot__os_point("parent:copy-came");
            joblot__ring_consume(&peer->up);
            return status == JOBLOT_OK ? status
                                       : joblot__fail(err, status, 0, "worker %d could not hand its answer over", peer->pid);
        }
        if (is_dead(peer))
            return died(event, err);
        struct joblot__poll set[2] = {{.fd = peer->own_bell}, {.fd = peer->pidfd}};
        int rc = joblot__os_poll(set, 2, -1);
        if (rc == -EINTR)
            return interrupted(err);
        if (rc > 0 && set[0].ready)
            (void)joblot__os_event_clear(peer->own_bell);
    }
}

static uint64_t copied_offset(const joblot_call *call, size_t part)
{
    uint64_t at = 0;
    for (size_t i = 0; i < part; i++)
        at = (at + parts_of(call)[i].size + HELD_ALIGN - 1) / HELD_ALIGN * HELD_ALIGN;
    return at;
}

static void drop_copy(joblot_call *call)
{
    joblot_segment_release(call->copied);
    call->copied = NULL;
    call->copy_asked = call->copy_came = false;
}

static joblot_status read_copy(joblot_call *call, struct joblot_event *event, size_t part, void *out, joblot_error *err)
{
    struct joblot_segment_options where = {.folder = call->options.folder,
                                           .fallback_folder = call->options.fallback_folder};
    joblot_status status = JOBLOT_OK;
    if (call->copied == NULL) {
        uint64_t total = copied_offset(call, event->n_parts);
        status = joblot_segment_new(total ? total : 1, &where, &call->copied, err);
    }
    if (status == JOBLOT_OK && !call->copy_asked) {
        status = ask_for_copy(call, event, err);
        call->copy_asked = status == JOBLOT_OK;
    }
    if (status == JOBLOT_OK && !call->copy_came) {
        status = wait_for_copy(call, event, err);
        call->copy_came = status == JOBLOT_OK;
    }
    if (status == JOBLOT_CANCELLED)
        return status;
    if (status != JOBLOT_OK) { /* nothing is in it, and a later read must not take it for the answer */
        drop_copy(call);
        return status;
    }
    int rc = joblot__os_pread(joblot_segment_fd(call->copied), out, (size_t)event->sizes[part],
                              copied_offset(call, part));
    return rc < 0 ? joblot__fail_os(err, -rc, "reading an answer of %llu bytes", (unsigned long long)event->sizes[part])
                  : JOBLOT_OK;
}

joblot_status joblot_event_read(joblot_call *call, struct joblot_event *event, size_t part, void *out, joblot_error *err)
{
    if (event->kind != JOBLOT_EVENT_RESULT || !call->event_open)
        return joblot__fail(err, JOBLOT_INVALID, 0, "there is no answer to read: the event is done, or is no result");
    if (part >= event->n_parts)
        return joblot__fail(err, JOBLOT_INVALID, 0, "part %zu of an answer of %zu parts", part, event->n_parts);
    const struct joblot_arrived *arrived = &parts_of(call)[part];
    if (arrived->size == 0)
        return JOBLOT_OK;
    if ((flags_of(event) & HELD) == 0) {
        memcpy(out, arrived->data, (size_t)arrived->size);
        return JOBLOT_OK;
    }
    if ((flags_of(event) & FAILED) != 0)
        return died(event, err);
    struct joblot__peer *peer = event->internal[0];
    if (call->copied == NULL && can_read(peer)) {
        joblot_status status = read_memory(event, arrived->offset, out, arrived->size, err);
        if (status != JOBLOT_UNSUPPORTED)
            return status;
        peer->readable = 0;
    }
    return read_copy(call, event, part, out, err);
}

void joblot_event_done(joblot_call *call, struct joblot_event *event)
{
    struct joblot__peer *peer = event->internal[0];
    if (event->kind != JOBLOT_EVENT_RESULT || !call->event_open)
        return;
    joblot__os_point("parent:answer-used");
    call->event_open = false;
    if ((flags_of(event) & HELD) == 0)
        joblot__ring_consume(&peer->up);
    if (call->copied != NULL)
        drop_copy(call);
    if ((flags_of(event) & FAILED) != 0)
        return; /* the task is still in flight with a worker that is gone */
    struct joblot__task *task = joblot__queue_pop(&peer->in_flight);
    if ((flags_of(event) & HELD) != 0) {
        joblot__shared64_store(&peer->channel->taken, task->sequence, memory_order_release);
        joblot__os_point("parent:answer-taken");
        joblot__peer_wake(peer, JOBLOT__SLEEPS_UNTAKEN);
    } else {
        joblot__peer_wake(peer, JOBLOT__SLEEPS_FULL);
    }
    joblot__peer_drop_handed(peer, task->sequence);
    joblot__task_free(task);
    call->pending--;
    if (peer->n_told > 0)
        joblot__peer_forget(peer, false);
    if (peer->in_flight.count == 0 && !peer->leaving && joblot__call_worn(call, peer)) {
        joblot__lock_take(&call->pool->lock);
        joblot__call_retire(call, peer);
        joblot__lock_give(&call->pool->lock);
    }
    if (peer->in_flight.count == 0 && call->queued.count == 0 && joblot__ring_used(&peer->down) > 0)
        joblot__peer_wake(peer, JOBLOT__SLEEPS_IDLE); /* nothing else will, and it holds what it is to forget */
}
