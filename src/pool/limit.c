/* pool/limit.c - limits of time, memory and number of tasks: who is over one, and how a worker leaves. */
#include "call_internal.h"

static const int64_t MEMORY_NS = 30000000;  /* between two looks at the memory of workers that run a task */

/* ---- leaving ---- */

bool joblot__call_worn(const joblot_call *call, const struct joblot__peer *peer)
{
    return call->options.max_tasks != 0 && peer->last_sequence - peer->n_revoked >= call->options.max_tasks;
}

void joblot__peer_say_exit(struct joblot__peer *peer)
{
    unsigned char *at = joblot__ring_reserve(&peer->down, JOBLOT__EXIT, 8);
    if (at != NULL) {
        memset(at, 0, 8);
        joblot__ring_commit(&peer->down);
        joblot__peer_wake(peer, JOBLOT__SLEEPS_IDLE);
    } else { /* its ring is full, of notes for one: the end of the socket says the same */
        (void)joblot__os_close(peer->socket);
        peer->socket = -1;
    }
}

static void set_leaving(joblot_call *call, struct joblot__peer *peer)
{
    peer->leaving = true;
    peer->leave_by = joblot__os_clock() + JOBLOT__LEAVE_NS;
    call->n_leaving++;
    call->pool->n_leased--;
    call->limits_at = 0;
}

void joblot__call_retire(joblot_call *call, struct joblot__peer *peer)
{
    set_leaving(call, peer);
    joblot__peer_say_exit(peer);
}

/* A worker that leaves by itself, since it holds too much: what it has not started goes back to the queue. */
static void see_it_go(joblot_call *call, struct joblot__peer *peer, bool *again)
{
    if (joblot__ring_has_more(&peer->up)) /* its last answer first */
        return;
    *again = *again || peer->in_flight.count > 0;
    joblot__queue_prepend(&call->queued, &peer->in_flight);
    joblot__lock_take(&call->pool->lock);
    set_leaving(call, peer);
    joblot__lock_give(&call->pool->lock);
}

/* ---- over the limit ---- */

uint64_t joblot__peer_running(const struct joblot__peer *peer, int64_t *since)
{
    uint64_t sequence = joblot__shared64_load(&peer->channel->started, memory_order_acquire);
    *since = (int64_t)joblot__shared64_load(&peer->channel->since, memory_order_acquire);
    return *since != 0 && joblot__shared64_load(&peer->channel->started, memory_order_acquire) == sequence ? sequence : 0;
}

/* Kills a worker for its running task.  What it may still answer to that one counts, and nothing behind it. */
static void doom(joblot_call *call, struct joblot__peer *peer, uint64_t sequence, enum joblot_death_cause cause,
                 uint64_t seen)
{
    peer->doomed = sequence;
    peer->cause = cause;
    peer->seen = seen;
    joblot__shared32_store(&peer->channel->cancel, 1, memory_order_release);
    joblot__lock_take(&call->pool->lock);
    joblot__pool_condemn(call->pool, peer);
    joblot__lock_give(&call->pool->lock);
}

/* The time of the next look at this worker's task. */
static int64_t look_at_time(joblot_call *call, struct joblot__peer *peer, int64_t now)
{
    int64_t since, limit = call->options.task_timeout_ns;
    uint64_t sequence = joblot__peer_running(peer, &since);
    if (sequence == 0)
        return now + limit; /* whatever starts from now on */
    if (now - since < limit)
        return since + limit;
    doom(call, peer, sequence, JOBLOT_DEATH_TIMEOUT, (uint64_t)(now - since));
    return INT64_MAX;
}

static void look_at_memory(joblot_call *call, struct joblot__peer *peer)
{
    int64_t since, after;
    uint64_t sequence = joblot__peer_running(peer, &since);
    joblot__lock_take(&call->pool->lock);
    int pid = peer->state == JOBLOT__RUNNING ? peer->pid : 0;
    joblot__lock_give(&call->pool->lock);
    if (sequence == 0 || pid == 0)
        return;
    /* A fork begins with all that its server holds, the whole program for one; it shares these pages. */
    int64_t held = joblot__os_private_memory(pid) -
                   (int64_t)joblot__shared64_load(&peer->channel->inherited, memory_order_acquire);
    if (held > (int64_t)call->options.memory_limit && joblot__peer_running(peer, &after) == sequence && after == since)
        doom(call, peer, sequence, JOBLOT_DEATH_MEMORY, (uint64_t)held);
}

static int64_t look_at(joblot_call *call, struct joblot__peer *peer, int64_t now, bool *again)
{
    int64_t next = INT64_MAX;
    bool memory = call->options.memory_limit != 0;
    if (peer->gone || peer->garbled || peer->doomed != 0)
        return next;
    if (!peer->leaving &&
        joblot__shared32_load(&peer->channel->lease, memory_order_acquire) == JOBLOT__LEASE_GONE)
        see_it_go(call, peer, again);
    if (peer->leaving) {
        if (now < peer->leave_by)
            return peer->leave_by;
        joblot__call_condemn(call, peer);
        return next;
    }
    if (peer->in_flight.count == 0)
        return next;
    if (memory && now >= call->memory_at)
        look_at_memory(call, peer);
    if (call->options.task_timeout_ns != 0 && peer->doomed == 0)
        next = look_at_time(call, peer, now);
    if (memory && peer->doomed == 0)
        next = next < now + MEMORY_NS ? next : now + MEMORY_NS;
    return next;
}

int64_t joblot__call_enforce(joblot_call *call, bool *again)
{
    int64_t now = joblot__os_clock(), next = INT64_MAX;
    for (size_t i = 0; i < call->n_peers; i++) {
        int64_t at = look_at(call, call->peers[i], now, again);
        next = at < next ? at : next;
    }
    if (now >= call->memory_at)
        call->memory_at = now + MEMORY_NS;
    /* Tasks that are handed out before the next look have their limits as well. */
    call->limits_at = next;
    if (call->options.task_timeout_ns != 0 && call->limits_at > now + call->options.task_timeout_ns)
        call->limits_at = now + call->options.task_timeout_ns;
    if (call->options.memory_limit != 0 && call->limits_at > call->memory_at)
        call->limits_at = call->memory_at;
    return next;
}
