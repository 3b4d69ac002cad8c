/* pool/mapping.c - a worker's segments: those that it knows, and its mappings of them. */
#include "worker_internal.h"

#include <joblot/share.h>

#include "../base/alloc.h"
#include "../base/error.h"
#include "../os/os.h"

#include <errno.h>

struct joblot_mapping {
    struct joblot__known *known;
    struct joblot__view *view;
    unsigned char *data;
    uint64_t size, offset;
    bool lent; /* counts among known->lent, not among known->mappings */
};

joblot_status joblot__known_reserve(joblot_worker *w, joblot_error *err)
{
    if (w->spare != NULL)
        return JOBLOT_OK;
    struct joblot__known *spare = joblot__calloc(1, sizeof *spare);
    if (spare == NULL)
        return joblot__fail_nomem(err, sizeof *spare, "a segment");
    int rc = joblot__lock_init(&spare->lock);
    if (rc < 0) {
        joblot__free(spare);
        return joblot__fail_os(err, -rc, "the lock of a segment");
    }
    w->spare = spare;
    return JOBLOT_OK;
}

void joblot__known_add(joblot_worker *w, uint32_t id, uint64_t size, int fd, int parent_fd)
{
    struct joblot__known *known = w->spare;
    w->spare = NULL;
    known->id = id;
    known->fd = fd;
    known->parent_fd = parent_fd;
    known->size = size;
    known->next = w->known;
    w->known = known;
}

static struct joblot__known *look_up(joblot_worker *w, uint32_t id)
{
    struct joblot__known *known = w->known;
    while (known != NULL && (known->id != id || known->forgotten))
        known = known->next;
    return known;
}

/* The segment; its descriptor was sent before the record that names it, so when it is not here it is on the socket. */
static joblot_status find_known(joblot_worker *w, uint32_t id, struct joblot__known **out, joblot_error *err)
{
    joblot_status status = JOBLOT_OK;
    *out = NULL;
    if (!joblot__worker_in_reach(w)) /* nor are the descriptors of segments ours any more */
        return joblot__fail_os(err, EBADF, "a segment: the task before this one has closed it");
    while ((*out = look_up(w, id)) == NULL && status == JOBLOT_OK)
        status = joblot__worker_listen(w, true, err);
    return status;
}

static bool is_mapped(struct joblot__known *known)
{
    return atomic_load(&known->mappings) + atomic_load(&known->lent) != 0;
}

static void drop(struct joblot__known **link)
{
    struct joblot__known *known = *link;
    *link = known->next;
    joblot__view_end(known);
    joblot__lock_clear(&known->lock);
    (void)joblot__os_close(known->fd);
    joblot__free(known);
}

void joblot__known_forget(joblot_worker *w, uint32_t id)
{
    struct joblot__known *here;
    /* No task looked at it, so it may be on the socket still: there it would never be given up. */
    if (find_known(w, id, &here, NULL) != JOBLOT_OK)
        return;
    for (struct joblot__known **link = &w->known; *link != NULL; link = &(*link)->next) {
        struct joblot__known *known = *link;
        if (known->id != id || known->forgotten)
            continue;
        joblot__os_point("worker:forgetting");
        known->forgotten = true;
        joblot__view_end(known);
        (void)joblot__os_close(known->fd);
        known->fd = -1;
        if (!is_mapped(known))
            drop(link);
        return;
    }
}

void joblot__known_report(joblot_worker *w)
{
    for (struct joblot__known **link = &w->known; *link != NULL;) {
        struct joblot__known *known = *link;
        bool mapped = atomic_load(&known->mappings) != 0;
        if (known->forgotten && !is_mapped(known)) {
            drop(link);
            continue;
        }
        if (mapped != known->kept && !known->forgotten) {
            unsigned char *at = joblot__ring_reserve(&w->up, mapped ? JOBLOT__KEPT : JOBLOT__RELEASED, 8);
            if (at == NULL && mapped)
                at = joblot__worker_reserve(w, JOBLOT__KEPT, 8); /* must be said; the other may wait */
            if (at != NULL) {
                joblot__store_le64(at, known->id);
                known->kept = mapped;
                joblot__os_point("worker:segment-report");
            }
        }
        link = &known->next;
    }
}

joblot_status joblot_worker_map(joblot_worker *worker, const struct joblot_arrived *part, enum joblot_map_mode mode,
                                joblot_mapping **out, joblot_error *err)
{
    static const int modes[] = {JOBLOT__MAP_READ, JOBLOT__MAP_WRITE, JOBLOT__MAP_PRIVATE};
    if (part->segment == 0)
        return joblot__fail(err, JOBLOT_INVALID, 0, "a part that came in the message is in no segment");
    if ((unsigned)mode > JOBLOT_MAP_PRIVATE)
        return joblot__fail(err, JOBLOT_INVALID, 0, "there is no mode %d to map a segment in", (int)mode);
    struct joblot__known *known;
    joblot_status status = find_known(worker, part->segment, &known, err);
    if (status != JOBLOT_OK)
        return status;
    if (known->fd < 0)
        return joblot__fail(err, JOBLOT_OS, EMFILE,
                            "a segment could not be received: this worker has too many open files (raise ulimit -n, or "
                            "keep fewer arrays at a time)");
    if (part->size == 0 || part->offset > known->size || part->size > known->size - part->offset)
        return joblot__fail(err, JOBLOT_FORMAT, 0, "%llu bytes at %llu lie outside a segment of %llu bytes",
                            (unsigned long long)part->size, (unsigned long long)part->offset,
                            (unsigned long long)known->size);
    joblot_mapping *mapping = joblot__calloc(1, sizeof *mapping);
    if (mapping == NULL)
        return joblot__fail_nomem(err, sizeof *mapping, "a mapping");
    uint64_t lead = part->offset % joblot__os_page_size();
    int rc = joblot__view_take(known, part->offset - lead, (size_t)(part->size + lead), modes[mode], &mapping->view);
    if (rc < 0) {
        joblot__free(mapping);
        return joblot__fail_os(err, -rc, "mapping %llu bytes of a segment", (unsigned long long)part->size);
    }
    joblot__os_point("worker:segment-mapped");
    mapping->known = known;
    mapping->data = joblot__view_base(mapping->view) + lead;
    mapping->size = part->size;
    mapping->offset = part->offset;
    atomic_fetch_add(&known->mappings, 1);
    *out = mapping;
    return JOBLOT_OK;
}

void *joblot_mapping_data(const joblot_mapping *mapping)
{
    return mapping->data;
}

uint64_t joblot_mapping_size(const joblot_mapping *mapping)
{
    return mapping->size;
}

uint64_t joblot_mapping_offset(const joblot_mapping *mapping)
{
    return mapping->offset;
}

int joblot_mapping_parent_fd(const joblot_mapping *mapping)
{
    return mapping->known->parent_fd;
}

uint32_t joblot_mapping_segment(const joblot_mapping *mapping)
{
    return mapping->known->id;
}

int joblot_mapping_is_kept(const joblot_mapping *mapping)
{
    return mapping->known->kept;
}

uint64_t joblot_mapping_identity(const joblot_mapping *mapping)
{
    return joblot__os_identity(mapping->known->fd);
}

joblot_status joblot_mapping_adopt(const joblot_mapping *mapping, joblot_segment **out, joblot_error *err)
{
    int fd = joblot__os_dup(mapping->known->fd);
    if (fd < 0)
        return joblot__fail_os(err, -fd, "the descriptor of a segment that is to be lent on");
    joblot_status status = joblot_segment_adopt(fd, out, err);
    if (status != JOBLOT_OK)
        (void)joblot__os_close(fd);
    return status;
}

void joblot_mapping_lend(joblot_mapping *mapping)
{
    if (mapping->lent)
        return;
    mapping->lent = true;
    atomic_fetch_add(&mapping->known->lent, 1);
    atomic_fetch_sub(&mapping->known->mappings, 1);
}

void joblot_mapping_release(joblot_mapping *mapping)
{
    if (mapping == NULL)
        return;
    joblot__view_give(mapping->known, mapping->view);
    /* The worker's loop tells the parent, and frees it. */
    atomic_fetch_sub(mapping->lent ? &mapping->known->lent : &mapping->known->mappings, 1);
    joblot__free(mapping);
}

joblot_status joblot_worker_hand_over(joblot_worker *worker, joblot_segment *segment, joblot_error *err)
{
    struct joblot__socket_message m;
    int fd = joblot_segment_fd(segment);
    if (worker->sequence == 0 || worker->replied)
        return joblot__fail(err, JOBLOT_INVALID, 0, "a segment is handed over with the answer of a task, before it");
    if (!joblot__worker_in_reach(worker))
        return joblot__fail(err, JOBLOT_CANCELLED, 0, "the parent process is gone");
    memset(&m, 0, sizeof m);
    joblot__store_le32(m.type, JOBLOT__HANDED);
    joblot__store_le32(m.segment, joblot_segment_id(segment));
    joblot__store_le64(m.size, joblot_segment_size(segment));
    joblot__store_le64(m.sequence, worker->sequence);
    int rc = joblot__os_send(worker->fds.socket, &m, sizeof m, &fd, 1);
    if (rc == -EAGAIN || rc == -ETOOMANYREFS)
        return joblot__fail(err, JOBLOT_LIMIT, -rc, "too many segments are on their way to the parent");
    if (rc < 0)
        return joblot__fail_os(err, -rc, "handing a segment over");
    uint32_t sent = joblot__shared32_load(&worker->channel->handed, memory_order_relaxed);
    joblot__shared32_store(&worker->channel->handed, sent + 1, memory_order_release);
    return JOBLOT_OK;
}
