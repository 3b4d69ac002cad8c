/* pool/death.c - the verdict on a worker that died: what it cost, and what becomes of its tasks. */
#include "pool_internal.h"

/* After a pidfd has fired the server's report is a few microseconds away; a server that is stopped may never send it. */
static const int64_t VERDICT_NS = 3000000000;

bool joblot__call_verdict(joblot_call *call, struct joblot__peer *peer, int64_t *next)
{
    joblot_pool *pool = call->pool;
    joblot__lock_take(&pool->lock);
    joblot__pool_listen(pool);
    bool known = peer->state == JOBLOT__DEAD;
    joblot__lock_give(&pool->lock);
    if (known)
        return true;
    int64_t now = joblot__os_clock();
    if (peer->verdict_by == 0)
        peer->verdict_by = now + VERDICT_NS;
    if (next != NULL && peer->verdict_by < *next)
        *next = peer->verdict_by;
    return now >= peer->verdict_by;
}

static void describe(const struct joblot__peer *peer, const struct joblot__task *task, struct joblot_death *death)
{
    memset(death, 0, sizeof *death);
    death->pid = peer->pid;
    death->attempts = task->attempts;
    death->server_died = peer->server_died;
    death->exit_code = -1;
    if (peer->status_known) {
        death->status_known = 1;
        death->peak_memory = peer->how.peak_memory;
        joblot__os_decode_status(peer->how.status, &death->signal, &death->exit_code);
    }
}

/* Takes back what the worker had been given.  The task that it was running, if any, is returned. */
static struct joblot__task *take_back(joblot_call *call, struct joblot__peer *peer)
{
    uint64_t started = joblot__shared64_load(&peer->channel->started, memory_order_acquire);
    struct joblot__queue rest = peer->in_flight;
    struct joblot__task *running = NULL;
    memset(&peer->in_flight, 0, sizeof peer->in_flight);
    if (rest.first != NULL && rest.first->sequence <= started)
        running = joblot__queue_pop(&rest);
    if (rest.first != NULL) { /* to the head of the queue, in their order */
        rest.last->next = call->queued.first;
        if (call->queued.last == NULL)
            call->queued.last = rest.last;
        call->queued.first = rest.first;
        call->queued.count += rest.count;
    }
    return running;
}

bool joblot__call_bury(joblot_call *call, size_t index, struct joblot_event *event)
{
    joblot_pool *pool = call->pool;
    struct joblot__peer *peer = call->peers[index];
    bool told = false;
    joblot__os_point("parent:worker-dead");
    struct joblot__task *running = take_back(call, peer);
    if (running != NULL) {
        running->attempts++;
        if (running->attempts <= call->options.retries) {
            joblot__queue_push_front(&call->queued, running);
        } else {
            event->kind = JOBLOT_EVENT_DIED;
            event->number = running->number;
            event->status = JOBLOT_WORKER_DIED;
            describe(peer, running, &event->death);
            joblot__task_free(running);
            call->pending--;
            told = true;
        }
    }
    call->peers[index] = call->peers[--call->n_peers];
    call->enough = false;
    joblot__lock_take(&pool->lock);
    pool->n_leased--;
    joblot__pool_drop(pool, peer);
    joblot__lock_give(&pool->lock);
    return told;
}
