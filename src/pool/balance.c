/* pool/balance.c - tasks that wait in a worker behind one that turned out long are taken back while others are idle.
 *
 * The parent and the worker may reach for a task at the same time.  The worker marks it as started, then looks whether it
 * was revoked; the parent revokes, then looks what was started; both in one order that all see (seq_cst), so at least one
 * sees the other.  What the parent saw as started is the worker's (`kept`); the worker that sees a revocation waits for
 * that word, which is there in a moment. */
#include "pool_internal.h"

static const int64_t LONG_NS = 10000000; /* a batch aims at a fifth of it */

static bool is_idle(const struct joblot__peer *peer)
{
    return peer->in_flight.count == 0 && peer->hello && !peer->gone && !peer->garbled && !peer->leaving;
}

static void take_back(joblot_call *call, struct joblot__peer *peer)
{
    uint64_t last = peer->last_sequence;
    joblot__shared64_store(&peer->channel->revoked, last, memory_order_seq_cst);
    uint64_t kept = joblot__shared64_load(&peer->channel->started, memory_order_seq_cst);
    joblot__shared64_store(&peer->channel->kept, kept, memory_order_relaxed);
    joblot__shared64_store(&peer->channel->settled, last, memory_order_release);
    joblot__peer_wake(peer, JOBLOT__SLEEPS_IDLE);

    struct joblot__queue all = peer->in_flight;
    memset(&peer->in_flight, 0, sizeof peer->in_flight);
    while (all.first != NULL && all.first->sequence <= kept)
        joblot__queue_push(&peer->in_flight, joblot__queue_pop(&all));
    peer->n_revoked += all.count;
    joblot__queue_prepend(&call->queued, &all);
}

int64_t joblot__call_balance(joblot_call *call, bool *again)
{
    bool idle = false, waiting = false;
    for (size_t i = 0; i < call->n_peers; i++) {
        idle = idle || is_idle(call->peers[i]);
        waiting = waiting || call->peers[i]->in_flight.count > 1;
    }
    if (!idle || !waiting || call->queued.count > 0)
        return INT64_MAX;
    int64_t now = joblot__os_clock(), next = INT64_MAX;
    for (size_t i = 0; i < call->n_peers; i++) {
        struct joblot__peer *peer = call->peers[i];
        int64_t since;
        if (peer->in_flight.count < 2 || peer->gone || peer->garbled || peer->doomed != 0)
            continue;
        uint64_t sequence = joblot__peer_running(peer, &since);
        if (sequence == 0 || now - since < LONG_NS) {
            int64_t at = (sequence != 0 ? since : now) + LONG_NS;
            next = at < next ? at : next;
            continue;
        }
        peer->slow = sequence;
        take_back(call, peer);
        *again = *again || call->queued.count > 0;
    }
    return next;
}
