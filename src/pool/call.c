/* pool/call.c - a call: tasks in, the wait for what happens, and its end. */
#include "call_internal.h"

#include "../base/alloc.h"
#include "../base/error.h"

#include <errno.h>

/* In a row: workers that died before they were ready weigh more than those that died ready, without a task. */
enum { MAX_EARLY_DEATHS = 40, UNREADY_DEATH = 4, READY_DEATH = 1, LOOK_EVERY = 64 };
static const int64_t CANCEL_NS = 100000000; /* what a running task has left when its call ends early */
static const int64_t SETTLE_NS = 20000000;  /* workers go to sleep within microseconds of their last answer */

/* ---- open, note, submit ---- */

joblot_status joblot_call_open(joblot_pool *pool, const struct joblot_call_options *options, joblot_call **out,
                               joblot_error *err)
{
    if (options->n_workers == 0 || options->n_workers > (JOBLOT__POLL_MAX - 2) / 3)
        return joblot__fail(err, JOBLOT_INVALID, 0, "%zu workers: from 1 to %d are possible", options->n_workers,
                            (JOBLOT__POLL_MAX - 2) / 3);
    joblot_call *call = joblot__calloc(1, sizeof *call);
    if (call == NULL)
        return joblot__fail_nomem(err, sizeof *call, "a call");
    call->pool = pool;
    call->options = *options;
    call->average_ns = -1;
    joblot_status status = joblot_call_preload(call, options->preload, options->preload_size, err);
    int64_t memory = options->memory_limit != 0 ? joblot__os_private_memory(0) : 0;
    if (status == JOBLOT_OK && memory < 0)
        status = joblot__fail(err, JOBLOT_UNSUPPORTED, (int)-memory,
                              "memory_limit needs /proc, to see what workers hold: /proc/self/status cannot be read");
    if (status != JOBLOT_OK) {
        joblot_call_close(call);
        return status;
    }
    joblot__lock_take(&pool->lock);
    joblot__pool_count_oom(pool);
    joblot__lock_give(&pool->lock);
    *out = call;
    return status;
}

joblot_status joblot_call_preload(joblot_call *call, const void *preload, size_t size, joblot_error *err)
{
    if (size > JOBLOT__PRELOAD_MAX)
        return joblot__fail(err, JOBLOT_INVALID, 0, "preload has %zu bytes: at most %d are possible", size,
                            JOBLOT__PRELOAD_MAX);
    unsigned char *copy = joblot__malloc(size);
    if (copy == NULL)
        return joblot__fail_nomem(err, size, "what workers share");
    if (size > 0)
        memcpy(copy, preload, size);
    joblot__free(call->preload);
    call->preload = copy;
    call->options.preload_size = size;
    return JOBLOT_OK;
}

static joblot_status new_record(joblot_call *call, uint32_t kind, const struct joblot_part *parts, size_t n_parts,
                                struct joblot__task **out, joblot_error *err)
{
    struct joblot_segment_options where = {.folder = call->options.folder,
                                           .fallback_folder = call->options.fallback_folder};
    return joblot__task_new(kind, parts, n_parts, call->pool->ring_size, &where, out, err);
}

joblot_status joblot_call_note(joblot_call *call, uint64_t key, int keep, const void *data, size_t size,
                               joblot_error *err)
{
    struct joblot_part part = {.data = data, .size = size};
    if (call->n_notes == call->notes_capacity) {
        size_t capacity = call->notes_capacity ? 2 * call->notes_capacity : 4;
        struct joblot__note *notes = joblot__realloc(call->notes, capacity * sizeof *notes);
        if (notes == NULL)
            return joblot__fail_nomem(err, capacity * sizeof *notes, "a note to the workers");
        call->notes = notes;
        call->notes_capacity = capacity;
    }
    struct joblot__note *note = &call->notes[call->n_notes];
    *note = (struct joblot__note){.key = key, .keep = keep && key != 0};
    joblot_status status = new_record(call, (uint32_t)key, &part, 1, &note->task, err);
    if (status == JOBLOT_OK)
        call->n_notes++;
    return status;
}

joblot_status joblot_call_submit(joblot_call *call, uint32_t kind, const struct joblot_part *parts, size_t n_parts,
                                 joblot_error *err)
{
    struct joblot__task *task;
    joblot_status status = new_record(call, kind, parts, n_parts, &task, err);
    if (status != JOBLOT_OK)
        return status;
    joblot__os_point("parent:task-made");
    task->number = call->n_submitted++;
    joblot__queue_push(&call->queued, task);
    call->pending++;
    return JOBLOT_OK;
}

void joblot_call_skip(joblot_call *call)
{
    call->n_submitted++;
}

joblot_status joblot_call_segment(joblot_call *call, uint64_t size, joblot_segment **out, joblot_error *err)
{
    struct joblot_segment_options where = {.folder = call->options.folder,
                                           .fallback_folder = call->options.fallback_folder};
    return joblot_segment_cache_take(call->pool->segments, size, &where, out, err);
}

size_t joblot_call_pending(const joblot_call *call)
{
    return call->pending;
}

/* ---- records from workers ---- */

void joblot__call_condemn(joblot_call *call, struct joblot__peer *peer)
{
    peer->garbled = true;
    joblot__lock_take(&call->pool->lock);
    joblot__pool_condemn(call->pool, peer);
    joblot__lock_give(&call->pool->lock);
}

const unsigned char *joblot__call_read(joblot_call *call, struct joblot__peer *peer, uint32_t *type, size_t *size)
{
    for (;;) {
        bool broken;
        if (peer->garbled)
            return NULL;
        const unsigned char *record = joblot__ring_peek(&peer->up, type, size, &broken);
        if (broken)
            joblot__call_condemn(call, peer);
        if (record == NULL || *type == JOBLOT__COPIED)
            return record;
        if (*type == JOBLOT__ANSWER && *size >= JOBLOT__ANSWER_HEADER + JOBLOT__BODY_HEADER) {
            if (peer->doomed == 0 || joblot__load_le64(record) <= peer->doomed)
                return record;
            joblot__ring_consume(&peer->up); /* behind the task for which it was killed: that is run elsewhere */
            continue;
        }
        joblot__peer_take(peer, *type, record, *size);
    }
}

/* May this answer be made an event?  A large one is read by the worker's pid, and the server's word on that may come
 * after it; it is waited for as everything is. */
static bool can_take(joblot_call *call, struct joblot__peer *peer, const unsigned char *record)
{
    joblot_pool *pool = call->pool;
    if (peer->met || (joblot__load_le32(record + 20) & JOBLOT__FLAG_HELD) == 0)
        return true;
    joblot__lock_take(&pool->lock);
    joblot__pool_listen(pool);
    peer->met = peer->state != JOBLOT__STARTING;
    joblot__lock_give(&pool->lock);
    peer->unmet = !peer->met;
    return peer->met;
}

/* ---- the wait ---- */

static void weigh_death(joblot_call *call, const struct joblot__peer *peer)
{
    /* The death of a server is one, however many workers were on their way. */
    bool counted = peer->server_died != 0 && peer->server_died == call->dead_server;
    call->dead_server = peer->server_died != 0 ? peer->server_died : call->dead_server;
    if (peer->hello && joblot__shared64_load(&peer->channel->started, memory_order_relaxed) != 0)
        call->early_deaths = 0;
    else if (!counted)
        call->early_deaths += peer->hello ? READY_DEATH : UNREADY_DEATH;
}

static bool take_event(joblot_call *call, struct joblot_event *event, joblot_status *status, joblot_error *err)
{
    for (size_t k = 0; k < call->n_peers; k++) {
        size_t i = (call->next_peer + k) % call->n_peers;
        struct joblot__peer *peer = call->peers[i];
        uint32_t type;
        size_t size;
        const unsigned char *record = joblot__call_read(call, peer, &type, &size);
        if (record != NULL && type == JOBLOT__ANSWER) {
            if (!can_take(call, peer, record))
                continue;
            /* Stay with one worker while it has answers: its ring is warm, and the order is as good as another. */
            call->next_peer = i;
            *status = joblot__event_fill(call, peer, record, size, event, err);
            if (*status != JOBLOT_FORMAT)
                return true;
            joblot__call_condemn(call, peer); /* costs it the attempt, as any other death */
            *status = JOBLOT_OK;
            continue;
        }
        if (record != NULL)
            joblot__ring_consume(&peer->up); /* a COPIED that came too late */
        else if (peer->gone && (peer->leaving || joblot__call_verdict(call, peer, NULL))) {
            bool enough = peer->unborn && call->n_peers > 1; /* RLIMIT_NPROC: the others go on, no more are asked for */
            if (!enough)
                weigh_death(call, peer);
            if (joblot__call_bury(call, i, event))
                return true;
            call->enough = enough;
            call->given_back = true;
            k = (size_t)-1; /* the list has changed */
            call->next_peer = 0;
        }
    }
    return false;
}

static joblot_status reserve_set(joblot_call *call, joblot_error *err)
{
    size_t n = 2 + 3 * call->n_peers;
    if (n <= call->set_size)
        return JOBLOT_OK;
    struct joblot__poll *set = joblot__realloc(call->set, n * sizeof *set);
    if (set == NULL)
        return joblot__fail_nomem(err, n * sizeof *set, "the poll set of a call");
    call->set = set;
    call->set_size = n;
    return JOBLOT_OK;
}

static size_t fill_set(joblot_call *call)
{
    size_t n = 2;
    joblot__lock_take(&call->pool->lock);
    call->set[0] = (struct joblot__poll){.fd = call->pool->server_socket};
    call->set[1] = (struct joblot__poll){.fd = call->pool->server_pidfd};
    for (size_t i = 0; i < call->n_peers; i++) {
        struct joblot__peer *peer = call->peers[i];
        call->set[n++] = (struct joblot__poll){.fd = peer->own_bell};
        call->set[n++] = (struct joblot__poll){.fd = peer->gone ? -1 : peer->pidfd};
        call->set[n++] = (struct joblot__poll){.fd = peer->socket_full ? peer->socket : -1, .want_write = true};
    }
    joblot__lock_give(&call->pool->lock);
    return n;
}

static void look_around(joblot_call *call)
{
    if (call->set[0].ready || call->set[1].ready) {
        joblot__lock_take(&call->pool->lock);
        joblot__pool_listen(call->pool);
        joblot__lock_give(&call->pool->lock);
    }
    for (size_t i = 0; i < call->n_peers; i++) {
        struct joblot__peer *peer = call->peers[i];
        const struct joblot__poll *at = &call->set[2 + 3 * i];
        if (at[0].ready)
            (void)joblot__os_event_clear(peer->own_bell);
        if (at[1].ready)
            peer->gone = true;
        if (at[2].writable || at[2].ready)
            peer->socket_full = false;
        joblot__lock_take(&call->pool->lock);
        peer->gone = peer->gone || peer->state == JOBLOT__DEAD;
        joblot__lock_give(&call->pool->lock);
    }
}

static bool anything_there(joblot_call *call)
{
    for (size_t i = 0; i < call->n_peers; i++)
        if ((joblot__ring_has_more(&call->peers[i]->up) && !call->peers[i]->unmet) || joblot__peer_has_read(call->peers[i]))
            return true;
    return false;
}

static void say_asleep(joblot_call *call, uint32_t asleep)
{
    for (size_t i = 0; i < call->n_peers; i++)
        joblot__shared32_store(&call->peers[i]->channel->parent_sleeps, asleep, memory_order_relaxed);
}

joblot_status joblot__call_sleep(joblot_call *call, int64_t timeout_ns, bool *interrupted, joblot_error *err)
{
    joblot_status status = reserve_set(call, err);
    if (status != JOBLOT_OK)
        return status;
    size_t n = fill_set(call);
    if (timeout_ns != 0) {
        say_asleep(call, 1);
        atomic_thread_fence(memory_order_seq_cst); /* our flag before our last look */
        if (anything_there(call))
            timeout_ns = 0;
    }
    int rc = joblot__os_poll(call->set, n, timeout_ns);
    say_asleep(call, 0);
    *interrupted = rc == -EINTR;
    if (rc < 0 && rc != -EINTR)
        return joblot__fail_os(err, -rc, "waiting for workers");
    if (rc > 0)
        look_around(call);
    return JOBLOT_OK;
}

static joblot_status too_many_deaths(joblot_error *err)
{
    return joblot__fail(err, JOBLOT_WORKER_DIED, 0,
                        "workers died one after the other before they could take a task: see what they wrote to stderr "
                        "(memory, RLIMIT_NPROC, or a library that cannot be loaded)");
}

static bool has_limits(const joblot_call *call)
{
    return call->options.task_timeout_ns != 0 || call->options.memory_limit != 0 || call->n_leaving > 0;
}

/* `left` (< 0: for good), or the time until `next` (INT64_MAX: never) where that is less. */
static int64_t left_until(int64_t next, int64_t left)
{
    if (next == INT64_MAX)
        return left;
    next -= joblot__os_clock();
    next = next < 0 ? 0 : next;
    return left < 0 || next < left ? next : left;
}

/* The time to sleep, less when limits, or tasks that wait behind a long one, are to be looked at before. */
static int64_t until_look(joblot_call *call, int64_t left, bool *again)
{
    int64_t next = joblot__call_balance(call, again);
    if (has_limits(call)) {
        int64_t limits = joblot__call_enforce(call, again);
        next = limits < next ? limits : next;
    }
    return left_until(next, left);
}

/* The time to sleep, less when tasks that wait are to go to more workers before. */
static int64_t until_wider(joblot_call *call, int64_t left)
{
    return left_until(joblot__call_widens_at(call), left);
}

/* The time to sleep, less when a worker is gone of which the server may never tell. */
static int64_t until_verdict(joblot_call *call, int64_t left)
{
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < call->n_peers; i++)
        if (call->peers[i]->gone && (call->peers[i]->leaving || joblot__call_verdict(call, call->peers[i], &next)))
            return 0;
    return left_until(next, left);
}

joblot_status joblot_call_next(joblot_call *call, int64_t timeout_ns, struct joblot_event *event, joblot_error *err)
{
    int64_t deadline = timeout_ns > 0 ? joblot__os_clock() + timeout_ns : 0;
    bool interrupted = false, looked = timeout_ns == 0 && ++call->since_look < LOOK_EVERY;
    memset(event, 0, sizeof *event);
    if (call->event_open)
        return joblot__fail(err, JOBLOT_INVALID, 0, "the event before this one is not done");
    for (;;) {
        bool again = false;
        if (has_limits(call) && joblot__os_clock() >= call->limits_at) /* while events come there is no sleep */
            (void)joblot__call_enforce(call, &again);
        joblot_status status = joblot__call_dispatch(call, err);
        size_t waiting = call->queued.count;
        if (status != JOBLOT_OK || take_event(call, event, &status, err))
            return status;
        if (call->early_deaths >= MAX_EARLY_DEATHS)
            return too_many_deaths(err);
        if (call->given_back) { /* workers that are idle are not to sleep over it */
            call->given_back = false;
            continue;
        }
        if (call->queued.count > waiting) /* a death gave tasks back: hand them out before any sleep */
            continue;
        if (call->pending == 0)
            event->kind = JOBLOT_EVENT_IDLE;
        int64_t left = timeout_ns > 0 ? deadline - joblot__os_clock() : timeout_ns;
        if (call->pending == 0 || interrupted || looked || (timeout_ns > 0 && left <= 0))
            return JOBLOT_OK;
        if (left != 0) {
            left = until_look(call, left, &again);
            if (again)
                continue;
        }
        looked = timeout_ns == 0;
        call->since_look = 0;
        status = joblot__call_sleep(call, until_wider(call, until_verdict(call, left)), &interrupted, err);
        if (status != JOBLOT_OK)
            return status;
    }
}

/* ---- the end ---- */

/* Throws away what a worker answers to a call that is over. */
static void discard_answers(joblot_call *call, struct joblot__peer *peer)
{
    uint32_t type;
    size_t size;
    for (;;) {
        const unsigned char *record = joblot__call_read(call, peer, &type, &size);
        if (record == NULL)
            return;
        if (type == JOBLOT__ANSWER) {
            joblot__shared64_store(&peer->channel->taken, joblot__load_le64(record), memory_order_release);
            joblot__task_free(joblot__queue_pop(&peer->in_flight));
        }
        joblot__ring_consume(&peer->up);
        joblot__peer_wake(peer, JOBLOT__SLEEPS_FULL);
    }
}

static bool all_idle(joblot_call *call)
{
    bool idle = true;
    for (size_t i = 0; i < call->n_peers; i++) {
        struct joblot__peer *peer = call->peers[i];
        discard_answers(call, peer);
        idle = idle && (peer->gone || peer->in_flight.count == 0);
    }
    return idle;
}

/* Does a worker still map segments beyond its tasks, and has it not gone to sleep since? */
static bool any_holds(const joblot_call *call)
{
    for (size_t i = 0; i < call->n_peers; i++) {
        const struct joblot__peer *peer = call->peers[i];
        if (peer->gone || peer->garbled || peer->in_flight.count > 0 ||
            joblot__shared32_load(&peer->channel->worker_sleeps, memory_order_relaxed) == JOBLOT__SLEEPS_IDLE)
            continue;
        for (size_t k = 0; k < peer->n_told; k++)
            if (peer->told[k].kept)
                return true;
    }
    return false;
}

/* What workers said of segments since their last answer.  One whose large answer was taken a moment ago may be about to
 * say that it no longer keeps the segment under it: heard now, that memory need not wait for the next call. */
static void hear_last_words(joblot_call *call)
{
    int64_t deadline = joblot__os_clock() + SETTLE_NS, left = SETTLE_NS;
    bool interrupted;
    (void)all_idle(call);
    while (left > 0 && any_holds(call) && joblot__call_sleep(call, left, &interrupted, NULL) == JOBLOT_OK) {
        (void)all_idle(call);
        left = deadline - joblot__os_clock();
    }
}

/* Has a worker without a task still to say what it no longer keeps, or to read what it is to forget? */
static bool any_unsettled(joblot_call *call)
{
    bool any = any_holds(call);
    for (size_t i = 0; i < call->n_peers; i++) {
        struct joblot__peer *peer = call->peers[i];
        uint32_t type;
        size_t size;
        if (peer->gone || peer->in_flight.count > 0)
            continue;
        (void)joblot__call_read(call, peer, &type, &size);
        joblot__peer_forget(peer, false);
        if (peer->garbled || joblot__ring_used(&peer->down) == 0)
            continue;
        joblot__peer_wake(peer, JOBLOT__SLEEPS_IDLE);
        any = true;
    }
    return any;
}

void joblot_call_settle(joblot_call *call)
{
    int64_t deadline = joblot__os_clock() + SETTLE_NS, left = SETTLE_NS;
    bool interrupted;
    while (left > 0 && any_unsettled(call) && joblot__call_sleep(call, left, &interrupted, NULL) == JOBLOT_OK)
        left = deadline - joblot__os_clock();
}

static void cancel(joblot_call *call)
{
    int64_t deadline = joblot__os_clock() + CANCEL_NS;
    bool interrupted;
    joblot__queue_clear(&call->queued);
    for (size_t i = 0; i < call->n_peers; i++)
        joblot__shared32_store(&call->peers[i]->channel->cancel, 1, memory_order_release);
    joblot__os_point("parent:call-cancelled");
    while (!all_idle(call)) {
        int64_t left = deadline - joblot__os_clock();
        if (left <= 0 || joblot__call_sleep(call, left, &interrupted, NULL) != JOBLOT_OK)
            break;
    }
}

static void release_peer(joblot_call *call, struct joblot__peer *peer)
{
    joblot_pool *pool = call->pool;
    bool usable = !peer->gone && !peer->garbled && !peer->condemned && peer->in_flight.count == 0;
    if (usable && !peer->leaving && joblot__call_worn(call, peer))
        joblot__call_retire(call, peer);
    pool->n_leased -= !peer->leaving;
    if (usable && !peer->leaving) {
        joblot__shared32_store(&peer->channel->cancel, 0, memory_order_release);
        joblot__peer_drop_handed(peer, UINT64_MAX);
        joblot__peer_forget(peer, true); /* but for those that the pool keeps for the next call */
        if (joblot__ring_used(&peer->down) > 0) /* segments to forget: memory that nobody can use */
            joblot__peer_wake(peer, JOBLOT__SLEEPS_IDLE);
        /* From here on it may leave when it likes. */
        peer->leaving = !joblot__shared32_cas(&peer->channel->lease, JOBLOT__LEASE_LEASED, JOBLOT__LEASE_IDLE);
        peer->leave_by = peer->leaving ? joblot__os_clock() + JOBLOT__LEAVE_NS : 0;
    }
    peer->leased = false;
    if (peer->state == JOBLOT__DEAD)
        joblot__pool_drop(pool, peer);
    else if (!usable)
        joblot__pool_condemn(pool, peer);
}

void joblot_call_close(joblot_call *call)
{
    if (call == NULL)
        return;
    joblot__os_point("parent:call-closing");
    if (call->pending > 0)
        cancel(call);
    else
        hear_last_words(call);
    joblot_segment_release(call->copied);
    joblot__queue_clear(&call->queued);
    (void)joblot_segment_cache_trim(call->pool->segments);
    joblot__lock_take(&call->pool->lock);
    for (size_t i = 0; i < call->n_peers; i++)
        release_peer(call, call->peers[i]);
    joblot__os_point("parent:workers-released");
    joblot__pool_share_idle(call->pool);
    for (struct joblot__peer *peer = call->pool->peers; peer != NULL; peer = peer->next)
        if (peer->leased) /* another call's, which may have more workers now */
            (void)joblot__os_event_ring(peer->own_bell);
    joblot__lock_give(&call->pool->lock);
    for (size_t i = 0; i < call->n_notes; i++)
        joblot__task_free(call->notes[i].task);
    joblot__buffer_clear(&call->parts);
    joblot__buffer_clear(&call->sizes);
    joblot__free(call->crash);
    joblot__free(call->preload);
    joblot__free(call->notes);
    joblot__free(call->peers);
    joblot__free(call->set);
    joblot__free(call);
}
