/* pool/mapping.c - a worker's segments: those that it knows, and its mappings of them. */
#include "worker_internal.h"

#include "../base/alloc.h"
#include "../base/error.h"
#include "../os/os.h"

struct joblot_mapping {
    struct joblot__known *known;
    unsigned char *base; /* page-aligned */
    size_t length;
    unsigned char *data;
    uint64_t size, offset;
};

joblot_status joblot__known_add(joblot_worker *w, uint32_t id, uint64_t size, int fd, int parent_fd, joblot_error *err)
{
    struct joblot__known *known = joblot__calloc(1, sizeof *known);
    if (known == NULL) {
        (void)joblot__os_close(fd);
        return joblot__fail_nomem(err, sizeof *known, "a segment");
    }
    known->id = id;
    known->fd = fd;
    known->parent_fd = parent_fd;
    known->size = size;
    known->next = w->known;
    w->known = known;
    return JOBLOT_OK;
}

struct joblot__known *joblot__known_find(joblot_worker *w, uint32_t id, joblot_error *err)
{
    for (;;) {
        for (struct joblot__known *known = w->known; known != NULL; known = known->next)
            if (known->id == id && !known->forgotten)
                return known;
        /* Its descriptor was sent before the record that names it: it is on the socket. */
        if (joblot__worker_listen(w, true, err) != JOBLOT_OK)
            return NULL;
    }
}

static void drop(struct joblot__known **link)
{
    struct joblot__known *known = *link;
    *link = known->next;
    (void)joblot__os_close(known->fd);
    joblot__free(known);
}

void joblot__known_forget(joblot_worker *w, uint32_t id)
{
    for (struct joblot__known **link = &w->known; *link != NULL; link = &(*link)->next) {
        struct joblot__known *known = *link;
        if (known->id != id || known->forgotten)
            continue;
        known->forgotten = true;
        (void)joblot__os_close(known->fd);
        known->fd = -1;
        if (atomic_load(&known->mappings) == 0)
            drop(link);
        return;
    }
}

void joblot__known_report(joblot_worker *w)
{
    for (struct joblot__known **link = &w->known; *link != NULL;) {
        struct joblot__known *known = *link;
        bool mapped = atomic_load(&known->mappings) != 0;
        if (known->forgotten && !mapped) {
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
            }
        }
        link = &known->next;
    }
}

void joblot__known_clear(joblot_worker *w)
{
    while (w->known != NULL)
        drop(&w->known);
}

joblot_status joblot_worker_map(joblot_worker *worker, const struct joblot_arrived *part, enum joblot_map_mode mode,
                                joblot_mapping **out, joblot_error *err)
{
    static const int modes[] = {JOBLOT__MAP_READ, JOBLOT__MAP_WRITE, JOBLOT__MAP_PRIVATE};
    if (part->segment == 0)
        return joblot__fail(err, JOBLOT_INVALID, 0, "a part that came in the message is in no segment");
    struct joblot__known *known = joblot__known_find(worker, part->segment, err);
    if (known == NULL)
        return JOBLOT_OS;
    if (part->size == 0 || part->offset > known->size || part->size > known->size - part->offset)
        return joblot__fail(err, JOBLOT_FORMAT, 0, "%llu bytes at %llu lie outside a segment of %llu bytes",
                            (unsigned long long)part->size, (unsigned long long)part->offset,
                            (unsigned long long)known->size);
    joblot_mapping *mapping = joblot__calloc(1, sizeof *mapping);
    if (mapping == NULL)
        return joblot__fail_nomem(err, sizeof *mapping, "a mapping");
    uint64_t page = joblot__os_page_size(), lead = part->offset % page;
    void *base;
    int rc = joblot__os_map(known->fd, part->offset - lead, (size_t)(part->size + lead), modes[mode], &base);
    if (rc < 0) {
        joblot__free(mapping);
        return joblot__fail_os(err, -rc, "mapping %llu bytes of a segment", (unsigned long long)part->size);
    }
    mapping->known = known;
    mapping->base = base;
    mapping->length = (size_t)(part->size + lead);
    mapping->data = mapping->base + lead;
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

void joblot_mapping_release(joblot_mapping *mapping)
{
    if (mapping == NULL)
        return;
    (void)joblot__os_unmap(mapping->base, mapping->length);
    atomic_fetch_sub(&mapping->known->mappings, 1); /* the worker's loop tells the parent, and frees it */
    joblot__free(mapping);
}
