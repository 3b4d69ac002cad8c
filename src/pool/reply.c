/* pool/reply.c - a worker's answers. */
#include "worker_internal.h"

#include "../base/error.h"
#include "../os/os.h"

enum { HELD_ALIGN = 64, BELL_INTERVAL_NS = 30000, LOOK_NS = 10000 };

static void put_header(unsigned char *at, joblot_worker *w, joblot_status status, uint32_t flags)
{
    int64_t now = joblot__os_clock();
    joblot__store_le64(at, w->sequence);
    joblot__store_le64(at + 8, (uint64_t)(now - w->started_at));
    joblot__store_le32(at + 16, (uint32_t)(int32_t)status);
    joblot__store_le32(at + 20, flags);
    w->look = now - w->started_at > LOOK_NS;
    w->started_at = now; /* the next task in line starts now: one look at the clock per task */
}

static joblot_status gone(joblot_worker *w, joblot_error *err)
{
    w->leaving = true;
    return joblot__fail(err, JOBLOT_CANCELLED, 0, "the parent process is gone");
}

static joblot_status reply_inline(joblot_worker *w, joblot_status status, const struct joblot_part *parts,
                                  size_t n_parts, size_t body, joblot_error *err)
{
    joblot__known_report(w);
    unsigned char *at = joblot__worker_reserve(w, JOBLOT__ANSWER, JOBLOT__ANSWER_HEADER + body);
    if (at == NULL)
        return gone(w, err);
    put_header(at, w, status, 0);
    joblot__body_write(at + JOBLOT__ANSWER_HEADER, parts, n_parts);
    joblot__os_point("worker:answer-written");
    joblot__ring_commit(&w->up);
    joblot__os_point("worker:answer-committed");
    /* Ring when there is nothing more to do, when the ring is half full, or some time after the last bell. */
    bool more = joblot__ring_has_more(&w->down);
    bool must = !more || joblot__ring_used(&w->up) > w->ring_size / 2 || w->started_at - w->last_bell > BELL_INTERVAL_NS;
    joblot__worker_ring(w, must);
    return JOBLOT_OK;
}

static bool was_taken(joblot_worker *w)
{
    return joblot__shared64_load(&w->channel->taken, memory_order_acquire) == w->sequence;
}

static joblot_status reply_held(joblot_worker *w, const struct joblot_part *parts, size_t n_parts, joblot_error *err)
{
    joblot__known_report(w);
    unsigned char *at =
        joblot__worker_reserve(w, JOBLOT__ANSWER, JOBLOT__ANSWER_HEADER + joblot__body_held_size(n_parts));
    if (at == NULL)
        return gone(w, err);
    put_header(at, w, JOBLOT_OK, JOBLOT__FLAG_HELD);
    joblot__body_write_held(at + JOBLOT__ANSWER_HEADER, parts, n_parts);
    w->held = parts;
    w->n_held = n_parts;
    joblot__os_point("worker:held-written");
    joblot__ring_commit(&w->up);
    joblot__os_point("worker:held-committed");
    joblot__worker_ring(w, true);
    joblot__os_point("worker:answer-held");
    while (!was_taken(w) && !w->lost)
        joblot__worker_sleep(w, JOBLOT__SLEEPS_UNTAKEN, was_taken);
    /* Only a task can have cut us off from a parent that lives.  It may be reading: what it reads must not be freed while
     * this process is alive, since death is what it is looked at for. */
    if (!was_taken(w) && joblot__os_identity(w->fds.socket) != w->identity)
        joblot__os_exit_now(1);
    joblot__os_point("worker:held-over");
    w->held = NULL;
    w->n_held = 0;
    w->started_at = joblot__os_clock();
    return w->lost ? gone(w, err) : JOBLOT_OK;
}

joblot_status joblot_worker_reply(joblot_worker *w, const struct joblot_part *parts, size_t n_parts, joblot_error *err)
{
    size_t body;
    if (w->sequence == 0 || w->replied)
        return joblot__fail(err, JOBLOT_INVALID, 0, "there is no task that waits for an answer");
    if (w->lost)
        return gone(w, err);
    for (size_t i = 0; i < n_parts; i++)
        if (parts[i].segment != NULL)
            return joblot__fail(err, JOBLOT_INVALID, 0, "an answer cannot lie in a segment of the worker's own");
    joblot_status status = joblot__body_size(parts, n_parts, &body, err);
    if (status != JOBLOT_OK)
        return status;
    if (joblot__body_held_size(n_parts) > w->ring_size / 2 - JOBLOT__ANSWER_HEADER - JOBLOT__RING_HEADER)
        return joblot__fail(err, JOBLOT_LIMIT, 0, "an answer of %zu parts does not fit into the ring: join some of them",
                            n_parts);
    w->replied = true;
    joblot__worker_task_ended(w);
    if (body <= w->ring_size / 4)
        return reply_inline(w, JOBLOT_OK, parts, n_parts, body, err);
    return reply_held(w, parts, n_parts, err);
}

joblot_status joblot__reply_status(joblot_worker *w, joblot_status status, const char *message)
{
    struct joblot_part text = {.data = message, .size = strlen(message) + 1};
    size_t body;
    w->replied = true;
    joblot__worker_task_ended(w);
    if (joblot__body_size(&text, 1, &body, NULL) != JOBLOT_OK)
        return JOBLOT_LIMIT;
    return reply_inline(w, status, &text, 1, body, NULL);
}

joblot_status joblot__reply_copy_out(joblot_worker *w, uint64_t sequence, int fd)
{
    joblot_status status = JOBLOT_OK;
    uint64_t offset = 0;
    for (size_t i = 0; i < w->n_held && status == JOBLOT_OK; i++) {
        if (sequence != w->sequence)
            break;
        int rc = joblot__os_pwrite(fd, w->held[i].data, (size_t)w->held[i].size, offset);
        if (rc < 0)
            status = JOBLOT_OS;
        offset = (offset + w->held[i].size + HELD_ALIGN - 1) / HELD_ALIGN * HELD_ALIGN;
    }
    unsigned char *at = joblot__worker_reserve(w, JOBLOT__COPIED, 16);
    if (at == NULL)
        return JOBLOT_CANCELLED;
    joblot__store_le64(at, sequence);
    joblot__store_le64(at + 8, (uint32_t)(int32_t)status);
    joblot__os_point("worker:copy-written");
    joblot__ring_commit(&w->up);
    joblot__worker_ring(w, true);
    return JOBLOT_OK;
}
