/* segment/segment.c - memfd and file segments, owned by the process that made them. */
#include "segment.h"

#include "../base/alloc.h"
#include "../base/error.h"
#include "../os/os.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

struct joblot_segment {
    /* Borrowers in the low half, of which lent in the high half: one word, so that both are seen at one instant. */
    _Atomic uint64_t counts;
    atomic_bool cached;
    bool shared;
    uint32_t id;
    int fd;
    int is_file;
    uint64_t size;
    void *data;    /* shared mapping in process `mapped_by`, or NULL */
    int mapped_by; /* a child that was forked has no such mapping, and perhaps another one at its place; but of `shared` */
};

static atomic_uint last_id;

/* Pages that a process needs besides its segments, left alone when room is reckoned. */
static const int64_t MARGIN = 64 << 20;

static joblot_status open_file(const char *folder, uint64_t size, int *fd, joblot_error *err)
{
    int rc = joblot__os_tmpfile(folder, size);
    if (rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG)
        return joblot__fail(err, JOBLOT_NOMEM, -rc,
                            "no room for a segment of %llu bytes in %s (%lld bytes free): name another folder with "
                            "temp_folder or JOBLOT_TEMP_FOLDER, or send less at a time",
                            (unsigned long long)size, folder, (long long)joblot__os_folder_free(folder));
    if (rc < 0)
        return joblot__fail_os(err, -rc, "a segment file of %llu bytes in %s", (unsigned long long)size, folder);
    *fd = rc;
    return JOBLOT_OK;
}

static joblot_status open_memory(uint64_t size, const char *fallback, int *fd, int *is_file, joblot_error *err)
{
    /* Small segments are not worth the reading of /proc: they could not be what fills the memory. */
    if (size > (4u << 20)) {
        int64_t room = joblot__os_memory_available("");
        if (room < MARGIN || size > (uint64_t)(room - MARGIN)) {
            if (fallback == NULL)
                return joblot__fail(err, JOBLOT_NOMEM, ENOMEM,
                                    "a segment of %llu bytes does not fit into memory (%lld bytes available): name a "
                                    "folder on disk with temp_folder, or send less at a time",
                                    (unsigned long long)size, (long long)room);
            *is_file = 1;
            return open_file(fallback, size, fd, err);
        }
    }
    int rc = joblot__os_memfd("joblot", size);
    if (rc < 0)
        return joblot__fail_os(err, -rc, "a memory segment of %llu bytes", (unsigned long long)size);
    *fd = rc;
    return JOBLOT_OK;
}

/* What all segments have, however they came to be. */
static void set_up(joblot_segment *segment, uint64_t size, bool shared)
{
    segment->size = size;
    segment->shared = shared;
    do
        segment->id = atomic_fetch_add(&last_id, 1) + 1;
    while (segment->id == 0);
    atomic_init(&segment->counts, 1);
    atomic_init(&segment->cached, shared);
}

joblot_status joblot_segment_new(uint64_t size, const struct joblot_segment_options *options, joblot_segment **out,
                                 joblot_error *err)
{
    static const struct joblot_segment_options defaults;
    if (options == NULL)
        options = &defaults;
    if (size == 0 || size > (uint64_t)INT64_MAX)
        return joblot__fail(err, JOBLOT_INVALID, 0, "a segment cannot have %llu bytes", (unsigned long long)size);
    joblot_segment *segment = joblot__calloc(1, sizeof *segment);
    if (segment == NULL)
        return joblot__fail_nomem(err, sizeof *segment, "a segment");
    joblot_status status;
    if (options->folder != NULL) {
        segment->is_file = 1;
        status = open_file(options->folder, size, &segment->fd, err);
    } else {
        status = open_memory(size, options->fallback_folder, &segment->fd, &segment->is_file, err);
    }
    if (status != JOBLOT_OK) {
        joblot__free(segment);
        return status;
    }
    set_up(segment, size, options->shared != 0);
    *out = segment;
    return JOBLOT_OK;
}

joblot_status joblot_segment_adopt(int fd, joblot_segment **out, joblot_error *err)
{
    int64_t size = joblot__os_file_size(fd);
    if (size < 0)
        return joblot__fail_os(err, (int)-size, "a segment that was handed over");
    if (size == 0)
        return joblot__fail(err, JOBLOT_INVALID, 0, "a segment that was handed over has no bytes");
    joblot_segment *segment = joblot__calloc(1, sizeof *segment);
    if (segment == NULL)
        return joblot__fail_nomem(err, sizeof *segment, "a segment");
    segment->fd = fd;
    set_up(segment, (uint64_t)size, true);
    *out = segment;
    return JOBLOT_OK;
}

static bool is_mapped(const joblot_segment *segment)
{
    return segment->data != NULL && (segment->shared || segment->mapped_by == joblot__os_pid());
}

void joblot_segment_forked(joblot_segment *segment)
{
    if (segment->shared)
        atomic_store(&segment->counts, 1);
}

uint64_t joblot_segment_identity(const joblot_segment *segment)
{
    return joblot__os_identity(segment->fd);
}

static const uint64_t ONE_LENT = (uint64_t)1 << 32;

joblot_segment *joblot_segment_borrow(joblot_segment *segment)
{
    atomic_fetch_add_explicit(&segment->counts, 1, memory_order_relaxed);
    return segment;
}

static void give_back(joblot_segment *segment, uint64_t what)
{
    if ((uint32_t)atomic_fetch_sub_explicit(&segment->counts, what, memory_order_acq_rel) != 1)
        return;
    if (is_mapped(segment))
        (void)joblot__os_unmap(segment->data, (size_t)segment->size);
    (void)joblot__os_close(segment->fd);
    joblot__free(segment);
}

void joblot_segment_release(joblot_segment *segment)
{
    if (segment != NULL)
        give_back(segment, 1);
}

joblot_segment *joblot_segment_lend(joblot_segment *segment)
{
    atomic_fetch_add_explicit(&segment->counts, ONE_LENT + 1, memory_order_relaxed);
    return segment;
}

void joblot_segment_return(joblot_segment *segment)
{
    if (segment != NULL)
        give_back(segment, ONE_LENT + 1);
}

size_t joblot_segment_others(const joblot_segment *segment)
{
    uint64_t counts = atomic_load_explicit(&segment->counts, memory_order_acquire);
    return (uint32_t)counts - (uint32_t)(counts >> 32);
}

int joblot_segment_wanted(const joblot_segment *segment)
{
    return joblot_segment_others(segment) > 0;
}

size_t joblot_segment_borrowers(const joblot_segment *segment)
{
    return (uint32_t)atomic_load_explicit(&segment->counts, memory_order_acquire);
}

int joblot_segment_is_cached(const joblot_segment *segment)
{
    return atomic_load_explicit(&segment->cached, memory_order_relaxed);
}

void joblot__segment_set_cached(joblot_segment *segment, int cached)
{
    atomic_store_explicit(&segment->cached, cached != 0, memory_order_relaxed);
}

void joblot__segment_cool(joblot_segment *segment)
{
    if (is_mapped(segment))
        (void)joblot__os_unmap(segment->data, (size_t)segment->size);
    segment->data = NULL;
}

uint32_t joblot_segment_id(const joblot_segment *segment)
{
    return segment->id;
}

uint64_t joblot_segment_size(const joblot_segment *segment)
{
    return segment->size;
}

int joblot_segment_fd(const joblot_segment *segment)
{
    return segment->fd;
}

int joblot_segment_is_file(const joblot_segment *segment)
{
    return segment->is_file;
}

joblot_status joblot_segment_data(joblot_segment *segment, void **out, joblot_error *err)
{
    if (!is_mapped(segment)) {
        void *at;
        int rc = joblot__os_map(segment->fd, 0, (size_t)segment->size, JOBLOT__MAP_WRITE, &at);
        if (rc < 0)
            return joblot__fail_os(err, -rc, "mapping a segment of %llu bytes", (unsigned long long)segment->size);
        /* A child that the user forks has no use for it, and must not keep it alive. */
        if (!segment->shared)
            (void)joblot__os_dontfork(at, (size_t)segment->size);
        segment->data = at;
        segment->mapped_by = joblot__os_pid();
    }
    *out = segment->data;
    return JOBLOT_OK;
}

joblot_status joblot_segment_write(joblot_segment *segment, uint64_t offset, const void *data, uint64_t size,
                                   joblot_error *err)
{
    if (offset > segment->size || size > segment->size - offset)
        return joblot__fail(err, JOBLOT_INVALID, 0, "%llu bytes at %llu do not fit into a segment of %llu bytes",
                            (unsigned long long)size, (unsigned long long)offset, (unsigned long long)segment->size);
    if (is_mapped(segment)) {
        memcpy((char *)segment->data + offset, data, (size_t)size);
        joblot__os_point("parent:segment-filled");
        return JOBLOT_OK;
    }
    int rc = joblot__os_pwrite(segment->fd, data, (size_t)size, offset);
    joblot__os_point("parent:segment-written");
    if (rc == -ENOSPC)
        return joblot__fail(err, JOBLOT_NOMEM, ENOSPC, "the disk of the temp folder is full: %llu bytes were to be written",
                            (unsigned long long)size);
    if (rc < 0)
        return joblot__fail_os(err, -rc, "writing %llu bytes to a segment", (unsigned long long)size);
    return JOBLOT_OK;
}

joblot_status joblot_segment_warm(joblot_segment *segment, joblot_error *err)
{
    void *data;
    if (is_mapped(segment))
        return JOBLOT_OK;
    joblot_status status = joblot_segment_data(segment, &data, err);
    if (status == JOBLOT_OK) /* an old kernel refuses, and the pages come one by one */
        (void)joblot__os_populate_read(data, (size_t)segment->size);
    return status;
}
