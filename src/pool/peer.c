/* pool/peer.c - the parent's end of one worker: its channel, its bells, what it was told of. */
#include "pool_internal.h"

#include <joblot/share.h>

#include "../base/alloc.h"
#include "../base/error.h"

#include <errno.h>

static joblot_status open_channel(struct joblot__peer *peer, int *fd, joblot_error *err)
{
    size_t size = joblot__channel_size(peer->ring_size);
    void *at;
    int rc = joblot__os_memfd("joblot-ring", size);
    if (rc < 0)
        return joblot__fail_os(err, -rc, "a worker's channel of %zu bytes", size);
    *fd = rc;
    rc = joblot__os_map(*fd, 0, size, JOBLOT__MAP_WRITE, &at);
    if (rc < 0)
        return joblot__fail_os(err, -rc, "mapping a worker's channel of %zu bytes", size);
    (void)joblot__os_dontfork(at, size);
    peer->channel = at;
    joblot__shared32_store(&peer->channel->ring_size, (uint32_t)peer->ring_size, memory_order_relaxed);
    joblot__shared32_store(&peer->channel->lease, JOBLOT__LEASE_LEASED, memory_order_relaxed); /* it is made for a call */
    joblot__shared32_store(&peer->channel->magic, JOBLOT__CHANNEL_MAGIC, memory_order_release);
    joblot__ring_init(&peer->down, &peer->channel->down, joblot__channel_down(at), peer->ring_size);
    joblot__ring_init(&peer->up, &peer->channel->up, joblot__channel_up(at, peer->ring_size), peer->ring_size);
    return JOBLOT_OK;
}

/* A bell for each side: the worker gets a copy of both. */
static joblot_status open_bells(struct joblot__peer *peer, int worker_fds[4], joblot_error *err)
{
    int rc = joblot__os_event();
    if (rc >= 0) {
        peer->bell = rc;
        rc = joblot__os_event();
    }
    if (rc >= 0) {
        peer->own_bell = rc;
        rc = joblot__os_dup(peer->bell);
    }
    if (rc >= 0) {
        worker_fds[2] = rc;
        rc = joblot__os_dup(peer->own_bell);
    }
    if (rc < 0)
        return joblot__fail_os(err, -rc, "a worker's bell");
    worker_fds[3] = rc;
    return JOBLOT_OK;
}

joblot_status joblot__peer_new(joblot_pool *pool, struct joblot__peer **out, int worker_fds[4], joblot_error *err)
{
    int pair[2];
    worker_fds[0] = worker_fds[1] = worker_fds[2] = worker_fds[3] = -1;
    struct joblot__peer *peer = joblot__calloc(1, sizeof *peer);
    if (peer == NULL)
        return joblot__fail_nomem(err, sizeof *peer, "a worker");
    peer->pidfd = peer->socket = peer->bell = peer->own_bell = peer->readable = -1;
    peer->ring_size = pool->ring_size;
    joblot_status status = open_channel(peer, &worker_fds[0], err);
    if (status == JOBLOT_OK) {
        int rc = joblot__os_socketpair(pair);
        if (rc < 0) {
            status = joblot__fail_os(err, -rc, "a worker's socket");
        } else {
            peer->socket = pair[0];
            worker_fds[1] = pair[1];
            (void)joblot__os_set_blocking(peer->socket, false);
            status = open_bells(peer, worker_fds, err);
        }
    }
    if (status != JOBLOT_OK) {
        for (int i = 0; i < 4; i++)
            (void)joblot__os_close(worker_fds[i]);
        joblot__peer_free(peer);
        return status;
    }
    peer->id = ++pool->last_id;
    *out = peer;
    return JOBLOT_OK;
}

void joblot__peer_free(struct joblot__peer *peer)
{
    if (peer == NULL)
        return;
    joblot__queue_clear(&peer->in_flight);
    for (size_t i = 0; i < peer->n_told; i++) {
        if (peer->told[i].kept)
            joblot_segment_release(peer->told[i].segment);
        joblot_segment_return(peer->told[i].segment);
    }
    joblot__free(peer->told);
    for (size_t i = 0; i < peer->n_handed; i++)
        joblot_segment_release(peer->handed[i].segment);
    joblot__free(peer->handed);
    if (peer->channel != NULL)
        (void)joblot__os_unmap(peer->channel, joblot__channel_size(peer->ring_size));
    (void)joblot__os_close(peer->pidfd);
    (void)joblot__os_close(peer->socket);
    (void)joblot__os_close(peer->bell);
    (void)joblot__os_close(peer->own_bell);
    joblot__free(peer);
}

void joblot__peer_wake(struct joblot__peer *peer, uint32_t least_reason)
{
    atomic_thread_fence(memory_order_seq_cst); /* what we wrote before our look at the flag */
    if (joblot__shared32_load(&peer->channel->worker_sleeps, memory_order_relaxed) < least_reason ||
        joblot__shared32_exchange(&peer->channel->worker_sleeps, JOBLOT__AWAKE, memory_order_acq_rel) == JOBLOT__AWAKE)
        return;
    (void)joblot__os_event_ring(peer->bell);
}

bool joblot__peer_has_read(struct joblot__peer *peer)
{
    (void)joblot__ring_used(&peer->down);
    return peer->ring_full && peer->down.head != peer->full_at;
}

static struct joblot__told *find_told(struct joblot__peer *peer, uint32_t id)
{
    for (size_t i = peer->n_told; i-- > 0;)
        if (joblot_segment_id(peer->told[i].segment) == id)
            return &peer->told[i];
    return NULL;
}

static joblot_status send_segment(struct joblot__peer *peer, const joblot_segment *segment, bool *sent, joblot_error *err)
{
    struct joblot__socket_message m;
    int fd = joblot_segment_fd(segment);
    memset(&m, 0, sizeof m);
    joblot__store_le32(m.type, JOBLOT__SEGMENT);
    joblot__store_le32(m.segment, joblot_segment_id(segment));
    joblot__store_le64(m.size, joblot_segment_size(segment));
    joblot__store_le32(m.parent_fd, (uint32_t)fd);
    int rc = joblot__os_send(peer->socket, &m, sizeof m, &fd, 1);
    *sent = rc == 0;
    peer->socket_full = rc == -EAGAIN;
    joblot__os_point("parent:segment-sent");
    if (rc == 0 || rc == -EAGAIN || rc == -EPIPE || rc == -ECONNRESET) /* the worker is gone: its pidfd tells */
        return JOBLOT_OK;
    return joblot__fail_os(err, -rc, "passing a segment to worker %d", peer->pid);
}

/* A larger array, made beside the old one: a fork at any instant finds one that is whole. */
static joblot_status grow_told(struct joblot__peer *peer, joblot_error *err)
{
    size_t capacity = peer->told_capacity ? 2 * peer->told_capacity : 8;
    struct joblot__told *old = peer->told, *told = joblot__malloc(capacity * sizeof *told);
    if (told == NULL)
        return joblot__fail_nomem(err, capacity * sizeof *told, "the segments of a worker");
    if (peer->n_told > 0)
        memcpy(told, old, peer->n_told * sizeof *told);
    peer->told = told;
    peer->told_capacity = capacity;
    joblot__free(old);
    return JOBLOT_OK;
}

/* Tells the worker of a segment, unless it knows. */
static joblot_status tell(struct joblot__peer *peer, joblot_segment *segment, bool *told, joblot_error *err)
{
    joblot_status status = JOBLOT_OK;
    *told = find_told(peer, joblot_segment_id(segment)) != NULL;
    if (*told)
        return status;
    if (peer->n_told == peer->told_capacity)
        status = grow_told(peer, err);
    if (status == JOBLOT_OK)
        status = send_segment(peer, segment, told, err);
    if (*told)
        peer->told[peer->n_told++] = (struct joblot__told){.segment = joblot_segment_lend(segment)};
    return status;
}

joblot_status joblot__peer_send(struct joblot__peer *peer, struct joblot__task *task, uint32_t type, bool *sent,
                                joblot_error *err)
{
    *sent = true;
    for (size_t i = 0; i < task->n_segments && *sent; i++) {
        joblot_status status = tell(peer, task->segments[i], sent, err);
        if (status != JOBLOT_OK)
            return status;
    }
    unsigned char *at = *sent ? joblot__ring_reserve(&peer->down, type, task->size) : NULL;
    peer->ring_full = *sent && at == NULL;
    peer->full_at = peer->down.head;
    *sent = at != NULL;
    if (at == NULL)
        return JOBLOT_OK;
    memcpy(at, task->record, task->size);
    if (type == JOBLOT__TASK) {
        task->sequence = ++peer->last_sequence;
        joblot__store_le64(at, task->sequence);
    }
    joblot__os_point("parent:task-written");
    joblot__ring_commit(&peer->down);
    joblot__os_point("parent:task-committed");
    return JOBLOT_OK;
}

void joblot__peer_forget(struct joblot__peer *peer, bool all)
{
    for (size_t i = 0; i < peer->n_told;) {
        joblot_segment *segment = peer->told[i].segment;
        unsigned char *at = NULL;
        if (!peer->told[i].kept && ((all && !joblot_segment_is_cached(segment)) || !joblot_segment_wanted(segment)))
            at = joblot__ring_reserve(&peer->down, JOBLOT__FORGET, 8);
        if (at == NULL) {
            i++;
            continue;
        }
        joblot__store_le64(at, joblot_segment_id(segment));
        joblot__ring_commit(&peer->down);
        joblot_segment_return(segment);
        peer->told[i] = peer->told[--peer->n_told];
    }
}

static void set_kept(struct joblot__peer *peer, uint32_t segment, bool kept)
{
    struct joblot__told *told = find_told(peer, segment);
    if (told == NULL || told->kept == kept)
        return;
    told->kept = kept;
    if (kept) /* not only lent: nobody may write to it while it is mapped there */
        (void)joblot_segment_borrow(told->segment);
    else
        joblot_segment_release(told->segment);
}

static void say_hello(struct joblot__peer *peer, const unsigned char *record)
{
    peer->hello = true;
    peer->cookie_address = joblot__load_le64(record);
    memcpy(peer->cookie, record + 8, sizeof peer->cookie);
}

void joblot__peer_take(struct joblot__peer *peer, uint32_t type, const unsigned char *record, size_t size)
{
    if (type == JOBLOT__HELLO && size >= 24)
        say_hello(peer, record);
    else if ((type == JOBLOT__KEPT || type == JOBLOT__RELEASED) && size >= 4)
        set_kept(peer, joblot__load_le32(record), type == JOBLOT__KEPT);
    joblot__ring_consume(&peer->up);
    joblot__peer_wake(peer, JOBLOT__SLEEPS_FULL);
    if (type == JOBLOT__RELEASED)
        joblot__peer_forget(peer, false);
}

/* What a worker that no call uses said after its last answer, and what it is to forget. */
static void tidy(struct joblot__peer *peer)
{
    uint32_t type;
    size_t size;
    bool broken = false;
    const unsigned char *record;
    while ((record = joblot__ring_peek(&peer->up, &type, &size, &broken)) != NULL && !broken &&
           (type == JOBLOT__HELLO || type == JOBLOT__KEPT || type == JOBLOT__RELEASED))
        joblot__peer_take(peer, type, record, size);
    joblot__peer_forget(peer, false);
    if (joblot__ring_used(&peer->down) > 0)
        joblot__peer_wake(peer, JOBLOT__SLEEPS_IDLE);
}

void joblot_pool_forget(joblot_pool *pool)
{
    if (pool->owner_pid != joblot__os_pid()) /* in a child that was forked: another thread's lock may be taken for good */
        return;
    joblot__lock_take(&pool->lock);
    for (struct joblot__peer *peer = pool->peers; peer != NULL; peer = peer->next)
        if (!peer->leased && peer->state == JOBLOT__RUNNING && !peer->gone && !peer->garbled && peer->n_told > 0)
            tidy(peer);
    joblot__lock_give(&pool->lock);
}

/* ---- what a worker hands over ---- */

static bool add_handed(struct joblot__peer *peer, uint32_t id, uint64_t sequence, int fd)
{
    if (peer->n_handed == peer->handed_capacity) {
        size_t capacity = peer->handed_capacity ? 2 * peer->handed_capacity : 8;
        struct joblot__handed *handed = joblot__realloc(peer->handed, capacity * sizeof *handed);
        if (handed == NULL)
            return false;
        peer->handed = handed;
        peer->handed_capacity = capacity;
    }
    struct joblot__handed *next = &peer->handed[peer->n_handed];
    *next = (struct joblot__handed){.id = id, .sequence = sequence};
    if (joblot_segment_adopt(fd, &next->segment, NULL) != JOBLOT_OK)
        return false;
    peer->n_handed++;
    return true;
}

/* The last eighth of all descriptors is for the program's own files: a call's results are not to take them all. */
static bool leaves_files(int fd)
{
    int limit = joblot__os_descriptor_limit();
    return fd < limit - limit / 8;
}

/* Takes what is on the socket.  What cannot be taken is left to the bytes of its answer. */
static void receive_handed(struct joblot__peer *peer)
{
    while (joblot__shared32_load(&peer->channel->handed, memory_order_acquire) != peer->handed_seen) {
        struct joblot__socket_message m = {{0}, {0}, {0}, {0}, {0}, {0}};
        int fds[JOBLOT__MAX_FDS];
        size_t n_fds = 0;
        int rc = joblot__os_receive(peer->socket, &m, sizeof m, fds, &n_fds);
        if (rc <= 0 && rc != -EMFILE) /* -EMFILE: the message came, its descriptor did not */
            return;
        peer->handed_seen++;
        bool taken = rc == (int)sizeof m && n_fds == 1 && joblot__load_le32(m.type) == JOBLOT__HANDED && leaves_files(fds[0]) &&
                     add_handed(peer, joblot__load_le32(m.segment), joblot__load_le64(m.sequence), fds[0]);
        for (size_t i = 0; i < n_fds && !taken; i++)
            (void)joblot__os_close(fds[i]);
    }
}

void joblot__peer_drop_handed(struct joblot__peer *peer, uint64_t sequence)
{
    size_t kept = 0;
    receive_handed(peer);
    for (size_t i = 0; i < peer->n_handed; i++) {
        if (peer->handed[i].sequence <= sequence)
            joblot_segment_release(peer->handed[i].segment);
        else
            peer->handed[kept++] = peer->handed[i];
    }
    peer->n_handed = kept;
}

joblot_segment *joblot_event_handed(joblot_call *call, const struct joblot_event *event, uint32_t id)
{
    struct joblot__peer *peer = event->internal[0];
    if (event->kind != JOBLOT_EVENT_RESULT || !call->event_open || peer->in_flight.first == NULL)
        return NULL;
    receive_handed(peer);
    for (size_t i = 0; i < peer->n_handed; i++)
        if (peer->handed[i].id == id && peer->handed[i].sequence == peer->in_flight.first->sequence)
            return peer->handed[i].segment;
    return NULL;
}

joblot_segment *joblot_event_segment(const joblot_call *call, const struct joblot_event *event, uint32_t id)
{
    if (event->kind != JOBLOT_EVENT_RESULT || !call->event_open)
        return NULL;
    struct joblot__told *told = find_told(event->internal[0], id);
    return told != NULL ? told->segment : NULL;
}
