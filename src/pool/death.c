/* pool/death.c - the verdict on a worker that died: what it cost, and what becomes of its tasks. */
#include "pool_internal.h"

#include "../base/alloc.h"

enum { SIGKILL_NUMBER = 9 };

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

static joblot_status status_of(enum joblot_death_cause cause)
{
    return cause == JOBLOT_DEATH_TIMEOUT ? JOBLOT_TIMEOUT : cause == JOBLOT_DEATH_MEMORY ? JOBLOT_LIMIT : JOBLOT_WORKER_DIED;
}

/* What the worker's program wrote when it crashed, in the call's storage, or NULL. */
static const char *crash_text(joblot_call *call, const struct joblot__peer *peer)
{
    const char *text = (const char *)peer->channel + joblot__channel_crash(peer->ring_size);
    if (text[0] == '\0')
        return NULL;
    if (call->crash == NULL)
        call->crash = joblot__malloc(JOBLOT__CRASH_SIZE + 1);
    if (call->crash == NULL) /* told without it */
        return NULL;
    memcpy(call->crash, text, JOBLOT__CRASH_SIZE);
    call->crash[JOBLOT__CRASH_SIZE] = '\0';
    return call->crash;
}

/* Read anew before a call, at most once a second: what was killed before is not a worker of the call. */
void joblot__pool_count_oom(joblot_pool *pool)
{
    static const int64_t SECOND = 1000000000;
    int64_t now = joblot__os_clock();
    if (pool->oom_read_at != 0 && now - pool->oom_read_at < SECOND)
        return;
    pool->oom_read_at = now;
    pool->oom_kills = joblot__os_oom_kills("");
}

/* Has the kernel killed a process of ours for want of memory since its counter was read last?  1, 0, or -1: not known. */
static int oom_likely(joblot_pool *pool)
{
    int64_t kills = joblot__os_oom_kills("");
    if (kills < 0 || pool->oom_kills < 0)
        return -1;
    if (kills <= pool->oom_kills)
        return 0;
    pool->oom_kills++; /* one for this worker; another may have gone the same way */
    return 1;
}

static void describe(joblot_call *call, const struct joblot__peer *peer, const struct joblot__task *task,
                     struct joblot_death *death)
{
    memset(death, 0, sizeof *death);
    death->pid = peer->pid;
    death->crash = crash_text(call, peer);
    if (peer->doomed != 0) {
        death->cause = peer->cause;
        death->seen = peer->seen;
    }
    death->attempts = task->attempts;
    death->server_died = peer->server_died != 0;
    death->exit_code = -1;
    if (peer->status_known) {
        death->status_known = 1;
        death->peak_memory = peer->how.peak_memory;
        joblot__os_decode_status(peer->how.status, &death->signal, &death->exit_code);
    }
    death->oom_likely = peer->status_known || peer->condemned ? 0 : -1;
    if (death->signal == SIGKILL_NUMBER && !peer->condemned) {
        joblot__lock_take(&call->pool->lock);
        death->oom_likely = oom_likely(call->pool);
        joblot__lock_give(&call->pool->lock);
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
    joblot__queue_prepend(&call->queued, &rest);
    return running;
}

bool joblot__call_bury(joblot_call *call, size_t index, struct joblot_event *event)
{
    joblot_pool *pool = call->pool;
    struct joblot__peer *peer = call->peers[index];
    bool told = false;
    joblot__os_point("parent:worker-dead");
    struct joblot__task *running = take_back(call, peer);
    if (running != NULL && peer->doomed != 0 && running->sequence != peer->doomed) {
        joblot__queue_push_front(&call->queued, running); /* started at the last instant: not what it was killed for */
    } else if (running != NULL) {
        running->attempts++;
        if (peer->doomed == 0 && running->attempts <= call->options.retries) {
            joblot__queue_push_front(&call->queued, running);
        } else {
            event->kind = JOBLOT_EVENT_DIED;
            event->number = running->number;
            event->status = status_of(peer->doomed != 0 ? peer->cause : JOBLOT_DEATH_OTHER);
            describe(call, peer, running, &event->death);
            joblot__task_free(running);
            call->pending--;
            told = true;
        }
    }
    call->peers[index] = call->peers[--call->n_peers];
    call->enough = false;
    joblot__lock_take(&pool->lock);
    if (peer->leaving)
        call->n_leaving--;
    else
        pool->n_leased--;
    joblot__pool_drop(pool, peer);
    joblot__lock_give(&pool->lock);
    return told;
}
