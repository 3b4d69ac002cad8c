/* pool/dispatch.c - leasing workers for a call, and handing tasks to them. */
#include "pool_internal.h"

#include "../base/alloc.h"
#include "../base/error.h"

#include <errno.h>

/* Workers that may be on their way at a time: each has four descriptors in flight on the server's socket. */
enum { MAX_ASKED = 16, MAX_BATCH = 4096, MAX_AHEAD = 64, MAX_TOLD = 200 };
static const double QUICK_NS = 5e4; /* tasks quicker than this gain nothing from more workers than processors */
static const int64_t WIDEN_NS = 500000; /* without an answer for so long they are not quick */
static const double AIM_NS = 2e6;   /* a batch that the engine sizes itself takes about this */
static const double AHEAD_NS = 1e5; /* of tasks quicker than this a worker gets the next before it is done */

/* ---- leases ---- */

static joblot_status add_peer(joblot_call *call, struct joblot__peer *peer, joblot_error *err)
{
    if (call->n_peers == call->peers_capacity) {
        size_t capacity = call->peers_capacity ? 2 * call->peers_capacity : 4;
        struct joblot__peer **peers = joblot__realloc(call->peers, capacity * sizeof *peers);
        if (peers == NULL)
            return joblot__fail_nomem(err, capacity * sizeof *peers, "the workers of a call");
        call->peers = peers;
        call->peers_capacity = capacity;
    }
    peer->leased = true;
    peer->notes_sent = 0;
    joblot__shared64_store(&peer->channel->idle_ns, (uint64_t)call->options.idle_timeout_ns, memory_order_relaxed);
    joblot__shared64_store(&peer->channel->memory_limit, call->options.memory_limit, memory_order_relaxed);
    call->peers[call->n_peers++] = peer;
    call->pool->n_leased++;
    return JOBLOT_OK;
}

/* Takes hold of a worker that nobody has, unless it has just gone by itself. */
static bool claim(struct joblot__peer *peer)
{
    peer->leaving = !joblot__shared32_cas(&peer->channel->lease, JOBLOT__LEASE_IDLE, JOBLOT__LEASE_LEASED);
    if (peer->leaving)
        peer->leave_by = joblot__os_clock() + JOBLOT__LEAVE_NS;
    return !peer->leaving;
}

/* One that nobody has, claimed: one that runs before one that is on its way. */
static struct joblot__peer *find_idle(joblot_pool *pool)
{
    struct joblot__peer *starting = NULL;
    for (struct joblot__peer *peer = pool->peers; peer != NULL; peer = peer->next) {
        if (peer->leased || peer->condemned || peer->state == JOBLOT__DEAD)
            continue;
        if (peer->leaving && joblot__os_clock() >= peer->leave_by)
            joblot__pool_condemn(pool, peer); /* it hangs in its exit handlers */
        else if (!peer->leaving && peer->state != JOBLOT__RUNNING)
            starting = peer;
        else if (!peer->leaving && claim(peer))
            return peer;
    }
    return starting != NULL && claim(starting) ? starting : NULL;
}

/* A quarter of all descriptors is for segments, and for the program itself.  Of workers that are on their way the pidfds
 * are still to come. */
static bool leaves_room(const joblot_pool *pool, const struct joblot__peer *peer)
{
    int limit = joblot__os_descriptor_limit();
    return peer->own_bell + (int)pool->n_asked < limit - limit / 4;
}

static joblot_status start_worker(joblot_call *call, struct joblot__peer **out, joblot_error *err)
{
    joblot_pool *pool = call->pool;
    int fds[4];
    joblot__pool_listen(pool);
    joblot_status status = JOBLOT_OK;
    if (pool->server_socket < 0)
        status = joblot__pool_start_server(pool, err);
    if (status == JOBLOT_OK)
        status = joblot__peer_new(pool, out, fds, err);
    if (status != JOBLOT_OK)
        return status;
    if (call->n_peers > 0 && !leaves_room(pool, *out)) {
        status = joblot__fail(err, JOBLOT_LIMIT, EMFILE, "one more worker would leave no descriptors for segments");
    } else {
        status = joblot__pool_ask(pool, *out, fds, call->preload, call->options.preload_size, err);
    }
    for (int i = 0; i < 4; i++)
        (void)joblot__os_close(fds[i]);
    if (status != JOBLOT_OK) {
        joblot__peer_free(*out);
        *out = NULL;
        return status;
    }
    (*out)->next = pool->peers;
    pool->peers = *out;
    return JOBLOT_OK;
}

/* One worker more, if there is one to be had now; with the lock held. *got tells. */
static joblot_status lease_one(joblot_call *call, bool *got, joblot_error *err)
{
    joblot_pool *pool = call->pool;
    joblot_status status = JOBLOT_OK;
    struct joblot__peer *peer = find_idle(pool);
    *got = false;
    while (peer != NULL && joblot__call_worn(call, peer)) { /* it has run what a worker may in earlier calls */
        status = add_peer(call, peer, err);
        if (status != JOBLOT_OK)
            return status;
        joblot__call_retire(call, peer);
        peer = find_idle(pool);
    }
    if (peer == NULL) {
        if (pool->n_asked >= MAX_ASKED && call->n_peers > 0) /* with none, it would have nothing to wait for */
            return JOBLOT_OK;
        if (call->enough && call->n_peers > 0)
            return JOBLOT_OK;
        status = start_worker(call, &peer, err);
        /* Short of something for one more is no reason to fail while there are workers to go on with. */
        call->enough = status != JOBLOT_OK;
        if (status != JOBLOT_OK)
            return call->n_peers > 0 ? JOBLOT_OK : status;
    }
    status = add_peer(call, peer, err);
    *got = status == JOBLOT_OK;
    return status;
}

static size_t allowed(const joblot_call *call)
{
    size_t others = call->pool->n_leased - joblot__call_active(call), n = call->options.n_workers;
    if (others == 0)
        return n;
    return n > others ? n - others : 1;
}

/* Workers that leave are not to pile up, faster than the machine sees them off: the call waits for them. */
static bool many_leave(const joblot_call *call)
{
    return call->n_leaving > 2 * call->options.n_workers || call->n_peers >= (JOBLOT__POLL_MAX - 2) / 3;
}

/* How many workers the call may use now.  Beyond the number of processors only tasks that take their time gain from one
 * more, and to wake dozens for a handful of quick ones costs more than the tasks. */
static size_t width(joblot_call *call)
{
    size_t n = call->options.n_workers;
    if (call->wide || n <= 2)
        return n;
    size_t least = call->pool->n_processors > 2 ? (size_t)call->pool->n_processors : 2;
    return n < least ? n : least;
}

/* May the call have more workers than it has, once answers fail to come? */
static bool may_widen(const joblot_call *call)
{
    if (call->wide || call->n_peers >= call->options.n_workers)
        return false;
    for (size_t i = 0; i < call->n_peers; i++)
        if (!call->peers[i]->hello) /* on its way: that takes longer, and its first word wakes the call */
            return false;
    return true;
}

static void wait_for_answers(joblot_call *call, int64_t now)
{
    call->widen_at = now + WIDEN_NS;
    call->answers_then = call->n_answers;
}

/* Tasks are left over: are they to wait for the workers that have some?  True when more may have them from now on. */
static bool must_widen(joblot_call *call)
{
    if (!may_widen(call))
        return false;
    int64_t now = joblot__os_clock();
    bool quick = call->n_answers > call->answers_then && call->average_ns < QUICK_NS;
    if (call->widen_at == 0 || (now >= call->widen_at && quick))
        wait_for_answers(call, now);
    else if (now >= call->widen_at || call->average_ns >= QUICK_NS)
        call->wide = true;
    return call->wide;
}

int64_t joblot__call_widens_at(joblot_call *call)
{
    if (call->queued.count == 0 || !may_widen(call))
        return INT64_MAX;
    if (call->widen_at == 0) /* the last worker on its way has come since tasks were handed out */
        wait_for_answers(call, joblot__os_clock());
    return call->widen_at;
}

static joblot_status lease(joblot_call *call, joblot_error *err)
{
    size_t most = width(call), wanted = call->pending < most ? call->pending : most;
    if (joblot__call_active(call) >= wanted || call->queued.count == 0)
        return JOBLOT_OK;
    joblot_status status = JOBLOT_OK;
    bool got = true;
    joblot__lock_take(&call->pool->lock);
    while (status == JOBLOT_OK && got && joblot__call_active(call) < wanted &&
           joblot__call_active(call) < allowed(call) && !many_leave(call))
        status = lease_one(call, &got, err);
    joblot__lock_give(&call->pool->lock);
    return status;
}

/* ---- handing out ---- */

size_t joblot_call_batch(const joblot_call *call)
{
    size_t batch = call->options.batch ? call->options.batch : 1;
    if (call->average_ns < 0)
        return batch;
    double aim = call->options.batch ? AHEAD_NS : AIM_NS;
    double most = call->options.batch ? MAX_AHEAD : MAX_BATCH;
    double fit = aim / (call->average_ns < 50 ? 50 : call->average_ns);
    fit = fit > most ? most : fit;
    return fit > (double)batch ? (size_t)fit : batch;
}

/* How many tasks a worker may have: the batch, less where there are too few for all workers to have that many. */
static size_t batch_now(const joblot_call *call)
{
    size_t batch = joblot_call_batch(call), least = call->options.batch ? call->options.batch : 1;
    size_t unfinished = call->queued.count;
    for (size_t i = 0; i < call->n_peers; i++)
        unfinished += call->peers[i]->in_flight.count;
    size_t active = joblot__call_active(call);
    size_t share = (unfinished + active - 1) / (active ? active : 1);
    if (batch > share)
        batch = share;
    return batch > least ? batch : least;
}

/* *all: every note of the call is with the worker. */
static joblot_status send_notes(joblot_call *call, struct joblot__peer *peer, bool *all, joblot_error *err)
{
    *all = true;
    while (peer->notes_sent < call->n_notes) {
        struct joblot__note *note = &call->notes[peer->notes_sent];
        if (!(note->keep && note->key == peer->kept_key)) {
            joblot_status status = joblot__peer_send(peer, note->task, JOBLOT__NOTE, all, err);
            if (status != JOBLOT_OK || !*all)
                return status;
            if (note->keep)
                peer->kept_key = note->key;
        }
        peer->notes_sent++;
    }
    return JOBLOT_OK;
}

/* May the worker be told of one task more?  It holds a descriptor for each segment until it forgets it. */
static bool has_room(const joblot_call *call, const struct joblot__peer *peer, const struct joblot__task *task, size_t batch)
{
    if (peer->in_flight.count >= batch || joblot__call_worn(call, peer))
        return false;
    return peer->in_flight.count == 0 || task->n_segments == 0 || peer->n_told + task->n_segments <= MAX_TOLD;
}

/* Fills one worker up to `batch` tasks. */
static joblot_status fill(joblot_call *call, struct joblot__peer *peer, size_t batch, joblot_error *err)
{
    bool sent = false;
    uint64_t before = peer->down.tail;
    if (peer->gone || peer->garbled || peer->leaving || peer->doomed != 0 || peer->in_flight.count >= batch)
        return JOBLOT_OK;
    joblot_status status = send_notes(call, peer, &sent, err);
    while (status == JOBLOT_OK && sent && call->queued.first != NULL && has_room(call, peer, call->queued.first, batch)) {
        status = joblot__peer_send(peer, call->queued.first, JOBLOT__TASK, &sent, err);
        if (status == JOBLOT_OK && sent)
            joblot__queue_push(&peer->in_flight, joblot__queue_pop(&call->queued));
    }
    joblot__os_point("parent:worker-filled");
    if (peer->down.tail != before)
        joblot__peer_wake(peer, JOBLOT__SLEEPS_IDLE);
    return status;
}

static bool is_busy(const joblot_call *call)
{
    for (size_t i = 0; i < call->n_peers; i++)
        if (call->peers[i]->in_flight.count > 0)
            return true;
    return false;
}

static joblot_status hand_out(joblot_call *call, joblot_error *err)
{
    joblot_status status = lease(call, err);
    if (status != JOBLOT_OK)
        return status;
    /* The idle first: a task is not to wait behind another while a worker has nothing to do. */
    size_t batch = batch_now(call);
    for (size_t pass = 0; pass < 2 && call->queued.count > 0; pass++) {
        for (size_t i = 0; i < call->n_peers && call->queued.count > 0; i++) {
            struct joblot__peer *peer = call->peers[i];
            if (pass == 0 && peer->in_flight.count > 0)
                continue;
            if (peer->in_flight.count > 0 && peer->in_flight.first->sequence == peer->slow)
                continue;
            status = fill(call, peer, batch, err);
            if (status != JOBLOT_OK) /* what is short now may be there when a task has ended */
                return is_busy(call) ? JOBLOT_OK : status;
        }
    }
    return JOBLOT_OK;
}

joblot_status joblot__call_dispatch(joblot_call *call, joblot_error *err)
{
    joblot_status status = JOBLOT_OK;
    do {
        if (call->queued.count > 0)
            status = hand_out(call, err);
    } while (status == JOBLOT_OK && call->queued.count > 0 && must_widen(call));
    return status;
}
