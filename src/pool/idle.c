/* pool/idle.c - free segments while the program is in its own code: the parent tells the server of them, and the server
 * gives their pages back when they have been free for a while.  Nobody wakes up for it but the server, once. */
#include "idle.h"
#include "pool_internal.h"

#include "../base/alloc.h"

/* ---- the parent's side ---- */

static bool open_page(joblot_pool *pool)
{
    void *at;
    if (pool->idle != NULL)
        return true;
    int fd = joblot__os_memfd("joblot-idle", sizeof *pool->idle);
    if (fd < 0)
        return false;
    if (joblot__os_map(fd, 0, sizeof *pool->idle, JOBLOT__MAP_WRITE, &at) < 0) {
        (void)joblot__os_close(fd);
        return false;
    }
    (void)joblot__os_dontfork(at, sizeof *pool->idle);
    pool->idle_fd = fd;
    pool->idle = at;
    joblot__cache_share(pool->segments, pool->idle->states);
    return true;
}

static bool tell(joblot_pool *pool, uint32_t slot, uint64_t size, int fd)
{
    struct joblot__server_message m;
    memset(&m, 0, sizeof m);
    joblot__store_le32(m.type, JOBLOT__IDLE);
    joblot__store_le32(m.worker, slot);
    joblot__store_le64(m.a, size);
    return joblot__os_send(pool->server_socket, &m, sizeof m, &fd, fd >= 0) == 0;
}

/* What cannot be said now (a full socket, no memory) is said after the next call; until then it stays BUSY. */
void joblot__pool_share_idle(joblot_pool *pool)
{
    bool any = false;
    for (uint32_t i = 0; i < JOBLOT__CACHE_SLOTS; i++)
        any = any || joblot__cache_slot(pool->segments, i) != NULL || pool->server_knows[i] != 0;
    if (!any || pool->server_socket < 0 || !open_page(pool))
        return;
    if (!pool->idle_told) { /* a new server: what the one before may have died over has no pages to speak of */
        for (uint32_t i = 0; i < JOBLOT__CACHE_SLOTS; i++)
            (void)joblot__shared32_cas(&pool->idle->states[i], JOBLOT__TRIM, JOBLOT__COLD);
        if (!tell(pool, UINT32_MAX, 0, pool->idle_fd))
            return;
    }
    pool->idle_told = true;
    for (uint32_t i = 0; i < JOBLOT__CACHE_SLOTS; i++) {
        joblot_segment *segment = joblot__cache_slot(pool->segments, i);
        uint32_t id = segment != NULL ? joblot_segment_id(segment) : 0;
        if (id == pool->server_knows[i])
            continue;
        if (!tell(pool, i, id ? joblot_segment_size(segment) : 0, id ? joblot_segment_fd(segment) : -1))
            return;
        pool->server_knows[i] = id;
    }
    joblot__os_point("parent:idle-told");
    joblot__shared64_store(&pool->idle->since, (uint64_t)joblot__os_clock(), memory_order_release);
    if (joblot__cache_set_free(pool->segments, pool->server_knows))
        (void)tell(pool, JOBLOT__CACHE_SLOTS, 0, -1); /* the server sets its timer */
}

void joblot__pool_forget_idle(joblot_pool *pool, bool inherited)
{
    if (pool->idle == NULL)
        return;
    if (!inherited)
        (void)joblot__os_unmap(pool->idle, sizeof *pool->idle);
    (void)joblot__os_close(pool->idle_fd);
    pool->idle = NULL;
}

/* ---- the server's side ---- */

void joblot__idle_take(struct joblot__idle *idle, uint32_t slot, uint64_t size, int fd)
{
    void *at;
    if (slot == UINT32_MAX && fd >= 0 && idle->page == NULL) {
        if (joblot__os_map(fd, 0, sizeof *idle->page, JOBLOT__MAP_WRITE, &at) == 0)
            idle->page = at;
    } else if (slot < JOBLOT__CACHE_SLOTS) {
        (void)joblot__os_close(idle->held[slot].fd - 1);
        idle->held[slot].fd = fd >= 0 ? fd + 1 : 0;
        idle->held[slot].size = size;
        return;
    } else if (slot == JOBLOT__CACHE_SLOTS) {
        idle->armed = true;
    }
    (void)joblot__os_close(fd);
}

int64_t joblot__idle_timeout(struct joblot__idle *idle)
{
    if (!idle->armed || idle->page == NULL)
        return -1;
    int64_t since = (int64_t)joblot__shared64_load(&idle->page->since, memory_order_acquire);
    int64_t left = since + JOBLOT__IDLE_NS - joblot__os_clock();
    return left > 0 ? left : 0;
}

void joblot__idle_trim(struct joblot__idle *idle)
{
    if (joblot__idle_timeout(idle) != 0)
        return;
    idle->armed = false;
    for (size_t i = 0; i < JOBLOT__CACHE_SLOTS; i++) {
        joblot__shared32 *state = &idle->page->states[i];
        if (idle->held[i].fd == 0 || !joblot__shared32_cas(state, JOBLOT__FREE, JOBLOT__TRIM))
            continue;
        joblot__os_point("server:segment-claimed");
        int rc = joblot__os_punch(idle->held[i].fd - 1, idle->held[i].size);
        joblot__os_point("server:segment-punched");
        joblot__shared32_store(state, rc == 0 ? JOBLOT__COLD : JOBLOT__FREE, memory_order_release);
    }
}

void joblot__idle_clear(struct joblot__idle *idle)
{
    for (size_t i = 0; i < JOBLOT__CACHE_SLOTS; i++)
        (void)joblot__os_close(idle->held[i].fd - 1);
    (void)joblot__os_unmap(idle->page, sizeof *idle->page);
    memset(idle, 0, sizeof *idle);
}
