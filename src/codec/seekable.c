/* codec/seekable.c - reading parts of a zstd file by its seek table. */
#include "seektable.h"

#include "../base/error.h"

#ifndef JOBLOT__WITH_ZSTD

joblot_status joblot_codec_seekable_open(const struct joblot_codec_random *source, uint64_t max_memory,
                                         joblot_codec_seekable **out, joblot_error *err)
{
    (void)source;
    (void)max_memory;
    (void)out;
    return joblot_codec_check(joblot_codec_find("zstd"), err);
}

uint64_t joblot_codec_seekable_size(const joblot_codec_seekable *s)
{
    (void)s;
    return 0; /* there is none to ask */
}

size_t joblot_codec_seekable_frames(const joblot_codec_seekable *s)
{
    (void)s;
    return 0;
}

joblot_status joblot_codec_seekable_read(joblot_codec_seekable *s, uint64_t offset, void *out, size_t size,
                                         unsigned n_threads, joblot_error *err)
{
    (void)s;
    (void)offset;
    (void)out;
    (void)size;
    (void)n_threads;
    return joblot_codec_check(joblot_codec_find("zstd"), err);
}

void joblot_codec_seekable_close(joblot_codec_seekable *s)
{
    (void)s;
}

#else

#include "zstd_error.h"

#include "../base/alloc.h"
#include "../base/endian.h"
#include "../os/thread.h"

#include <stdatomic.h>
#include <string.h>

enum { CHUNK = 128 * 1024, MAX_THREADS = 64 };

struct frame {
    uint64_t in, out; /* where it begins, compressed and decoded */
};

struct joblot_codec_seekable {
    struct joblot_codec_random source;
    uint64_t max_memory;
    size_t n;
    struct frame *frames; /* one more: the end of the last */
};

static joblot_status read_at(const joblot_codec_seekable *s, uint64_t offset, void *out, size_t size, joblot_error *err)
{
    if (s->source.data != NULL) {
        memcpy(out, (const unsigned char *)s->source.data + offset, size);
        return JOBLOT_OK;
    }
    return s->source.read_at(s->source.user, offset, out, size, err);
}

/* ---- the table ---- */

static joblot_status misfit(joblot_error *err, const char *what)
{
    return joblot__fail(err, JOBLOT_FORMAT, 0,
                        "zstd: the seek table at the end does not fit the file (%s): it was changed, or is damaged; it can "
                        "still be read from its beginning", what);
}

/* The number of frames, and the bytes of an entry. */
static joblot_status read_footer(joblot_codec_seekable *s, size_t *entry, joblot_error *err)
{
    unsigned char f[JOBLOT__SEEK_FOOTER], h[JOBLOT__SEEK_HEADER];
    if (s->source.size < JOBLOT__SEEK_HEADER + JOBLOT__SEEK_FOOTER)
        return joblot__fail(err, JOBLOT_UNSUPPORTED, 0, "zstd: there is no seek table: the file is too short for one");
    joblot_status status = read_at(s, s->source.size - sizeof f, f, sizeof f, err);
    if (status != JOBLOT_OK)
        return status;
    if (joblot__load_le32(f + 5) != JOBLOT__SEEK_MAGIC)
        return joblot__fail(err, JOBLOT_UNSUPPORTED, 0,
                            "zstd: there is no seek table at the end: the file is read from its beginning");
    s->n = joblot__load_le32(f);
    *entry = (f[4] & 0x80) != 0 ? 12 : 8;
    if ((f[4] & 0x7c) != 0 || s->n > JOBLOT__SEEK_MAX_FRAMES)
        return misfit(err, "flags or number of frames");
    uint64_t size = (uint64_t)s->n * *entry + JOBLOT__SEEK_FOOTER;
    if (size + JOBLOT__SEEK_HEADER > s->source.size)
        return misfit(err, "it has more frames than the file has room for");
    status = read_at(s, s->source.size - size - sizeof h, h, sizeof h, err);
    if (status != JOBLOT_OK)
        return status;
    if (joblot__load_le32(h) != JOBLOT__SKIPPABLE_MAGIC || joblot__load_le32(h + 4) != size)
        return misfit(err, "its header");
    return JOBLOT_OK;
}

static joblot_status read_entries(joblot_codec_seekable *s, size_t entry, joblot_error *err)
{
    unsigned char part[12 * 512];
    uint64_t in = 0, out = 0;
    uint64_t at = s->source.size - JOBLOT__SEEK_FOOTER - (uint64_t)s->n * entry;
    uint64_t end = at - JOBLOT__SEEK_HEADER;
    s->frames = joblot__malloc((s->n + 1) * sizeof *s->frames); /* at most twice what the file holds of them */
    if (s->frames == NULL)
        return joblot__fail_nomem(err, (s->n + 1) * sizeof *s->frames, "the seek table");
    for (size_t i = 0; i < s->n; i++) {
        size_t place = i % 512;
        if (place == 0) {
            size_t left = s->n - i < 512 ? s->n - i : 512;
            joblot_status status = read_at(s, at + (uint64_t)i * entry, part, left * entry, err);
            if (status != JOBLOT_OK)
                return status;
        }
        s->frames[i] = (struct frame){in, out};
        in += joblot__load_le32(part + place * entry);
        out += joblot__load_le32(part + place * entry + 4);
    }
    s->frames[s->n] = (struct frame){in, out};
    return in == end ? JOBLOT_OK : misfit(err, "its frames are not as long as the file");
}

joblot_status joblot_codec_seekable_open(const struct joblot_codec_random *source, uint64_t max_memory,
                                         joblot_codec_seekable **out, joblot_error *err)
{
    size_t entry = 0;
    if (source == NULL || (source->data == NULL && source->read_at == NULL))
        return joblot__fail(err, JOBLOT_INVALID, 0, "a source is needed to read parts of a zstd file");
    joblot_codec_seekable *s = joblot__calloc(1, sizeof *s);
    if (s == NULL)
        return joblot__fail_nomem(err, sizeof *s, "a reader of parts of a zstd file");
    s->source = *source;
    s->max_memory = joblot__codec_max_memory(max_memory);
    joblot_status status = read_footer(s, &entry, err);
    if (status == JOBLOT_OK)
        status = read_entries(s, entry, err);
    if (status != JOBLOT_OK) {
        joblot_codec_seekable_close(s);
        return status;
    }
    *out = s;
    return JOBLOT_OK;
}

void joblot_codec_seekable_close(joblot_codec_seekable *s)
{
    if (s == NULL)
        return;
    joblot__free(s->frames);
    joblot__free(s);
}

uint64_t joblot_codec_seekable_size(const joblot_codec_seekable *s)
{
    return s->frames[s->n].out;
}

size_t joblot_codec_seekable_frames(const joblot_codec_seekable *s)
{
    return s->n;
}

/* ---- frames ---- */

/* One thread's part in a read: frames are taken one by one, each is decoded into its place. */
struct task;
struct member {
    joblot__thread thread;
    struct task *task;
    ZSTD_DCtx *context;
    unsigned char *in, *skipped; /* room for compressed bytes, and for those before the part */
    joblot_status status;
    size_t failed; /* the frame */
    joblot_error error;
};

struct task {
    joblot_codec_seekable *s;
    uint64_t offset;
    unsigned char *out;
    size_t size;
    atomic_size_t next;
    size_t end; /* frames [next, end) are to be taken */
    atomic_bool stop;
};

static joblot_status frame_error(struct member *m, joblot_status status, size_t i, const char *why)
{
    return joblot__fail(&m->error, status, 0, "zstd: %s, in frame %lu, which begins at byte %llu of the compressed data",
                        why, (unsigned long)i, (unsigned long long)m->task->s->frames[i].in);
}

/* Compressed bytes of a frame, from memory or read. */
static joblot_status next_input(struct member *m, uint64_t *at, uint64_t end, ZSTD_inBuffer *in)
{
    const joblot_codec_seekable *s = m->task->s;
    uint64_t left = end - *at;
    size_t part = s->source.data != NULL ? (size_t)left : (size_t)(left < CHUNK ? left : CHUNK);
    in->src = s->source.data != NULL ? (const unsigned char *)s->source.data + *at : m->in;
    in->size = part;
    in->pos = 0;
    if (s->source.data == NULL && part > 0) {
        joblot_status status = s->source.read_at(s->source.user, *at, m->in, part, &m->error);
        if (status != JOBLOT_OK)
            return status;
    }
    *at += part;
    return JOBLOT_OK;
}

/* Decodes frame i, which holds `frame_size` bytes: `skip` of them are dropped, `want` go to out.  It is decoded to its end
 * where all to its end is wanted, so that its checksum is looked at. */
static joblot_status decode_frame(struct member *m, size_t i, size_t skip, unsigned char *out, size_t want)
{
    const joblot_codec_seekable *s = m->task->s;
    uint64_t at = s->frames[i].in, end = s->frames[i + 1].in;
    uint64_t whole = s->frames[i + 1].out - s->frames[i].out;
    bool to_end = skip + want == whole;
    size_t done = 0, rc = 1;
    ZSTD_inBuffer in = {NULL, 0, 0};
    (void)ZSTD_DCtx_reset(m->context, ZSTD_reset_session_only);
    while (done < skip + want || (to_end && rc != 0)) {
        unsigned char spare[1]; /* the frame may hold more than the table says */
        size_t room = done < skip ? skip - done : skip + want - done;
        if (done < skip && room > CHUNK)
            room = CHUNK;
        ZSTD_outBuffer to = {done < skip ? m->skipped : out + (done - skip), room, 0};
        if (room == 0)
            to = (ZSTD_outBuffer){spare, 1, 0};
        if (in.pos == in.size) {
            joblot_status status = next_input(m, &at, end, &in);
            if (status != JOBLOT_OK)
                return status;
        }
        size_t before = in.pos;
        rc = ZSTD_decompressStream(m->context, &to, &in);
        if (ZSTD_isError(rc)) {
            char why[200];
            joblot_status status = joblot__zstd_explain(rc, why);
            return frame_error(m, status, i, why);
        }
        done += to.pos;
        if (done > skip + want || (rc == 0 && done != whole) || (rc == 0 && (in.pos != in.size || at != end)))
            return frame_error(m, JOBLOT_FORMAT, i, "the seek table does not fit the data");
        if (to.pos == 0 && in.pos == before && at == end)
            return frame_error(m, JOBLOT_TRUNCATED, i, "the data ends in the middle of a frame");
    }
    return JOBLOT_OK;
}

static joblot_status prepare(struct member *m)
{
    m->context = ZSTD_createDCtx();
    m->skipped = joblot__malloc(CHUNK);
    m->in = m->task->s->source.data == NULL ? joblot__malloc(CHUNK) : NULL;
    if (m->context == NULL || m->skipped == NULL || (m->in == NULL && m->task->s->source.data == NULL))
        return joblot__fail(&m->error, JOBLOT_NOMEM, 0, "out of memory (a decoder of zstd)");
    joblot__zstd_limit(m->context, m->task->s->max_memory);
    return JOBLOT_OK;
}

static void run_member(void *argument)
{
    struct member *m = argument;
    struct task *t = m->task;
    m->status = prepare(m);
    m->failed = 0;
    while (m->status == JOBLOT_OK && !atomic_load(&t->stop)) {
        size_t i = atomic_fetch_add(&t->next, 1);
        if (i >= t->end)
            break;
        uint64_t begin = t->s->frames[i].out, end = t->s->frames[i + 1].out, last = t->offset + t->size;
        uint64_t from = begin > t->offset ? begin : t->offset, to = end < last ? end : last;
        if (from < to)
            m->status = decode_frame(m, i, (size_t)(from - begin), t->out + (from - t->offset), (size_t)(to - from));
        m->failed = i;
    }
    if (m->status != JOBLOT_OK)
        atomic_store(&t->stop, true);
    (void)ZSTD_freeDCtx(m->context);
    joblot__free(m->in);
    joblot__free(m->skipped);
}

/* The last frame that begins at or before an offset: the one that holds it, if any does. */
static size_t frame_at(const joblot_codec_seekable *s, uint64_t offset)
{
    size_t low = 0, high = s->n;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (s->frames[middle].out <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static joblot_status run_all(struct task *t, size_t n_threads, joblot_error *err)
{
    struct member *members = joblot__calloc(n_threads, sizeof *members);
    size_t n_started = 1;
    if (members == NULL)
        return joblot__fail_nomem(err, n_threads * sizeof *members, "the threads that decode");
    for (size_t i = 0; i < n_threads; i++)
        members[i].task = t;
    while (n_started < n_threads &&
           joblot__thread_start(&members[n_started].thread, run_member, &members[n_started]) == 0)
        n_started++;
    run_member(&members[0]);
    const struct member *first = &members[0];
    for (size_t i = 1; i < n_started; i++) {
        joblot__thread_join(&members[i].thread);
        if (members[i].status != JOBLOT_OK && (first->status == JOBLOT_OK || members[i].failed < first->failed))
            first = &members[i];
    }
    joblot_status status = first->status;
    if (status != JOBLOT_OK && err != NULL) {
        *err = first->error;
        err->code = status;
    }
    joblot__free(members);
    return status;
}

joblot_status joblot_codec_seekable_read(joblot_codec_seekable *s, uint64_t offset, void *out, size_t size,
                                         unsigned n_threads, joblot_error *err)
{
    uint64_t all = joblot_codec_seekable_size(s);
    if (offset > all || size > all - offset)
        return joblot__fail(err, JOBLOT_INVALID, 0, "zstd: %llu bytes from %llu on are not in a file of %llu decoded bytes",
                            (unsigned long long)size, (unsigned long long)offset, (unsigned long long)all);
    if (size == 0)
        return JOBLOT_OK;
    struct task t = {.s = s, .offset = offset, .out = out, .size = size};
    size_t first = frame_at(s, offset), end = frame_at(s, offset + (size - 1)) + 1;
    n_threads = joblot__codec_threads(n_threads);
    atomic_init(&t.next, first);
    atomic_init(&t.stop, false);
    t.end = end;
    return run_all(&t, end - first < n_threads ? end - first : n_threads, err);
}

#endif
