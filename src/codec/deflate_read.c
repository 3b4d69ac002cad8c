/* codec/deflate_read.c - reading zlib (RFC 1950) and gzip (RFC 1952).
 *
 * Headers, checksums and what may follow are dealt with here; the deflate stream between them is decoded by ISA-L where
 * it is there, else by zlib. */
#include "codec.h"
#include "deflate.h"

#include <stdatomic.h>

static atomic_bool plain_only;

void joblot__deflate_plain(bool plain)
{
    atomic_store(&plain_only, plain);
}

bool joblot__deflate_is_plain(void)
{
    return atomic_load(&plain_only);
}

#ifndef JOBLOT__WITH_ZLIB

const struct joblot__decoder *const joblot__zlib_decoder = NULL;
const struct joblot__decoder *const joblot__gzip_decoder = NULL;

#else

#include "../base/alloc.h"
#include "../base/checked.h"
#include "../base/endian.h"

#ifdef JOBLOT__WITH_ISAL
#include <isa-l.h>
#endif
#include <limits.h>
#ifdef JOBLOT__WITH_LIBDEFLATE
#include <libdeflate.h>
#endif
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#ifndef JOBLOT__WITH_LIBDEFLATE
static unsigned part(size_t size)
{
    return size < UINT_MAX / 2 ? (unsigned)size : UINT_MAX / 2;
}
#endif

uint32_t joblot__adler32(uint32_t check, const void *data, size_t size)
{
#ifdef JOBLOT__WITH_LIBDEFLATE
    return libdeflate_adler32(check, data, size);
#else
    const unsigned char *at = data;
    for (; size > 0; at += part(size), size -= part(size))
        check = (uint32_t)adler32(check, at, part(size));
    return check;
#endif
}

uint32_t joblot__crc32(uint32_t check, const void *data, size_t size)
{
#ifdef JOBLOT__WITH_LIBDEFLATE
    return libdeflate_crc32(check, data, size);
#else
    const unsigned char *at = data;
    for (; size > 0; at += part(size), size -= part(size))
        check = (uint32_t)crc32(check, at, part(size));
    return check;
#endif
}

/* Where in a stream: the fields of its header, each of which may be cut anywhere; the deflate stream; the checksum. */
enum place { FIXED, EXTRA_SIZE, EXTRA, NAME, COMMENT, HEADER_CHECK, BODY, TRAILER };
enum { F_CHECK = 2, F_EXTRA = 4, F_NAME = 8, F_COMMENT = 16, F_UNKNOWN = 0xe0 };

struct state {
    bool gzip;
    enum place place;
    unsigned char held[10]; /* what is there of a field of fixed size */
    size_t n_held;
    unsigned flags, extra;
    uint32_t header_check, check;
    uint32_t size; /* decoded bytes, modulo 2^32 */
    z_stream z;
    bool z_open;
#ifdef JOBLOT__WITH_ISAL
    struct inflate_state *fast;
#endif
};

static void *allocate(void *opaque, uInt count, uInt size)
{
    (void)opaque;
    size_t all;
    return joblot__mul_size(count, size, &all) ? joblot__malloc(all) : NULL;
}

static void release(void *opaque, void *p)
{
    (void)opaque;
    joblot__free(p);
}

static void close_decoder(void *state)
{
    struct state *s = state;
#ifdef JOBLOT__WITH_ISAL
    joblot__free(s->fast);
#endif
    if (s->z_open)
        (void)inflateEnd(&s->z);
    joblot__free(s);
}

static struct state *open_decoder(bool gzip)
{
    struct state *s = joblot__calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->gzip = gzip;
#ifdef JOBLOT__WITH_ISAL
    if (!joblot__deflate_is_plain()) {
        s->fast = joblot__malloc(sizeof *s->fast);
        if (s->fast != NULL)
            return s;
        close_decoder(s);
        return NULL;
    }
#endif
    s->z = (z_stream){.zalloc = allocate, .zfree = release};
    s->z_open = inflateInit2(&s->z, -MAX_WBITS) == Z_OK;
    if (s->z_open)
        return s;
    close_decoder(s);
    return NULL;
}

static void *open_zlib(uint64_t max_memory)
{
    (void)max_memory; /* the window has 32 KB, always */
    return open_decoder(false);
}

static void *open_gzip(uint64_t max_memory)
{
    (void)max_memory;
    return open_decoder(true);
}

static joblot_status begin(void *state, const unsigned char *at, size_t size, char why[200])
{
    struct state *s = state;
    (void)at;
    (void)size;
    (void)why;
    s->place = FIXED;
    s->n_held = 0;
    s->header_check = 0;
    s->check = s->gzip ? 0 : 1;
    s->size = 0;
#ifdef JOBLOT__WITH_ISAL
    if (s->fast != NULL) {
        isal_inflate_init(s->fast);
        s->fast->crc_flag = ISAL_DEFLATE;
        return JOBLOT_OK;
    }
#endif
    (void)inflateReset(&s->z); /* fails only for a stream that was not opened */
    return JOBLOT_OK;
}

/* ---- headers ---- */

static joblot_status wrong(struct joblot__step *step, joblot_status status, const char *why)
{
    (void)snprintf(step->why, sizeof step->why, "%s", why);
    return status;
}

/* The next field of a gzip header, of those that the flags name. */
static void next_field(struct state *s, enum place from)
{
    static const struct {
        enum place place;
        unsigned flag;
    } fields[] = {{EXTRA_SIZE, F_EXTRA}, {NAME, F_NAME}, {COMMENT, F_COMMENT}, {HEADER_CHECK, F_CHECK}};
    s->n_held = 0;
    s->place = BODY;
    for (size_t i = 0; i < 4 && s->place == BODY; i++)
        if (fields[i].place > from && (s->flags & fields[i].flag) != 0)
            s->place = fields[i].place;
}

/* So many bytes of a field of fixed size are in `held`; true when they are all there. */
static bool hold(struct state *s, struct joblot__step *step, size_t wanted)
{
    while (s->n_held < wanted && step->in < step->in_end)
        s->held[s->n_held++] = *step->in++;
    return s->n_held == wanted;
}

static joblot_status zlib_header(struct state *s, struct joblot__step *step)
{
    if (!hold(s, step, 2))
        return JOBLOT_OK;
    if ((s->held[0] & 15) != 8 || s->held[0] >> 4 > 7 || (s->held[0] << 8 | s->held[1]) % 31 != 0)
        return wrong(step, JOBLOT_FORMAT, "this is not the beginning of a zlib stream");
    if ((s->held[1] & 32) != 0)
        return wrong(step, JOBLOT_UNSUPPORTED, "it was compressed with a dictionary, which is needed");
    s->place = BODY;
    return JOBLOT_OK;
}

static joblot_status gzip_fixed(struct state *s, struct joblot__step *step)
{
    if (!hold(s, step, 10))
        return JOBLOT_OK;
    if (s->held[0] != 0x1f || s->held[1] != 0x8b)
        return wrong(step, JOBLOT_FORMAT, "this is not the beginning of a gzip member");
    if (s->held[2] != 8 || (s->held[3] & F_UNKNOWN) != 0)
        return wrong(step, JOBLOT_FORMAT, "a gzip member with a method or flags that do not exist");
    s->flags = s->held[3];
    s->header_check = joblot__crc32(0, s->held, 10);
    next_field(s, FIXED);
    return JOBLOT_OK;
}

static joblot_status gzip_header(struct state *s, struct joblot__step *step)
{
    const unsigned char *from = step->in;
    size_t left = (size_t)(step->in_end - step->in);
    switch (s->place) {
    case FIXED:
        return gzip_fixed(s, step);
    case EXTRA_SIZE:
        if (hold(s, step, 2)) {
            s->extra = joblot__load_le16(s->held);
            s->header_check = joblot__crc32(s->header_check, s->held, 2);
            s->place = EXTRA;
        }
        return JOBLOT_OK;
    case EXTRA:
        left = left < s->extra ? left : s->extra;
        step->in += left;
        s->extra -= (unsigned)left;
        s->header_check = joblot__crc32(s->header_check, from, left);
        if (s->extra == 0)
            next_field(s, EXTRA);
        return JOBLOT_OK;
    case NAME:
    case COMMENT: {
        const unsigned char *zero = left > 0 ? memchr(from, 0, left) : NULL;
        step->in = zero != NULL ? zero + 1 : step->in_end;
        s->header_check = joblot__crc32(s->header_check, from, (size_t)(step->in - from));
        if (zero != NULL)
            next_field(s, s->place);
        return JOBLOT_OK;
    }
    default: /* HEADER_CHECK */
        if (hold(s, step, 2)) {
            if (joblot__load_le16(s->held) != (s->header_check & 0xffff))
                return wrong(step, JOBLOT_FORMAT, "the checksum of the gzip header does not fit");
            next_field(s, HEADER_CHECK);
        }
        return JOBLOT_OK;
    }
}

/* ---- the deflate stream ---- */

#ifdef JOBLOT__WITH_ISAL
static joblot_status inflate_fast(struct state *s, struct joblot__step *step, bool *end)
{
    struct inflate_state *f = s->fast;
    size_t in = (size_t)(step->in_end - step->in), out = (size_t)(step->out_end - step->out);
    f->next_in = (unsigned char *)step->in; /* ISA-L does not write there */
    f->avail_in = in < INT_MAX ? (uint32_t)in : INT_MAX;
    f->next_out = step->out;
    f->avail_out = out < INT_MAX ? (uint32_t)out : INT_MAX;
    int rc = isal_inflate(f);
    step->in = f->next_in;
    if (rc < 0) /* it may have written more than was right before it noticed: nothing of this step counts */
        return wrong(step, JOBLOT_FORMAT, "malformed data");
    step->out = f->next_out;
    *end = f->block_state == ISAL_BLOCK_FINISH;
    if (*end) { /* whole bytes that it read ahead are not the stream's */
        step->in -= f->read_in_length / 8;
        f->read_in_length = 0;
    }
    return JOBLOT_OK;
}
#endif

static joblot_status inflate_plain(struct state *s, struct joblot__step *step, bool *end)
{
    size_t in = (size_t)(step->in_end - step->in), out = (size_t)(step->out_end - step->out);
    s->z.next_in = (unsigned char *)step->in; /* zlib does not write there */
    s->z.avail_in = in < UINT_MAX ? (uInt)in : UINT_MAX;
    s->z.next_out = step->out;
    s->z.avail_out = out < UINT_MAX ? (uInt)out : UINT_MAX;
    int rc = inflate(&s->z, Z_NO_FLUSH);
    step->in = s->z.next_in;
    step->out = s->z.next_out;
    *end = rc == Z_STREAM_END;
    if (rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR)
        return JOBLOT_OK;
    if (rc == Z_MEM_ERROR)
        return wrong(step, JOBLOT_NOMEM, "out of memory (zlib)");
    (void)snprintf(step->why, sizeof step->why, "malformed data%s%s%s", s->z.msg != NULL ? " (" : "",
                   s->z.msg != NULL ? s->z.msg : "", s->z.msg != NULL ? ")" : "");
    return JOBLOT_FORMAT;
}

static joblot_status body(struct state *s, struct joblot__step *step)
{
    unsigned char *from = step->out;
    joblot_status status;
    bool end = false;
#ifdef JOBLOT__WITH_ISAL
    status = s->fast != NULL ? inflate_fast(s, step, &end) : inflate_plain(s, step, &end);
#else
    status = inflate_plain(s, step, &end);
#endif
    size_t got = (size_t)(step->out - from);
    s->check = s->gzip ? joblot__crc32(s->check, from, got) : joblot__adler32(s->check, from, got);
    s->size += (uint32_t)got;
    if (status == JOBLOT_OK && end) {
        s->place = TRAILER;
        s->n_held = 0;
    }
    return status;
}

static joblot_status trailer(struct state *s, struct joblot__step *step)
{
    if (!hold(s, step, s->gzip ? 8 : 4))
        return JOBLOT_OK;
    const unsigned char *h = s->held;
    uint32_t stored = s->gzip ? joblot__load_le32(h)
                              : (uint32_t)h[0] << 24 | (uint32_t)h[1] << 16 | (uint32_t)h[2] << 8 | h[3];
    if (stored != s->check)
        return wrong(step, JOBLOT_FORMAT, "the checksum does not fit what was decoded");
    if (s->gzip && joblot__load_le32(h + 4) != s->size)
        return wrong(step, JOBLOT_FORMAT, "the size does not fit what was decoded");
    step->finished = true;
    return JOBLOT_OK;
}

/* Goes on while it can without more room: the end is seen in the step that gives the last byte, where it is there. */
static joblot_status step(void *state, struct joblot__step *step)
{
    struct state *s = state;
    joblot_status status = JOBLOT_OK;
    while (status == JOBLOT_OK && s->place < BODY) {
        enum place before = s->place;
        status = s->gzip ? gzip_header(s, step) : zlib_header(s, step);
        if (s->place == before && step->in == step->in_end)
            return status;
    }
    if (status == JOBLOT_OK && s->place == BODY)
        status = body(s, step);
    if (status == JOBLOT_OK && s->place == TRAILER)
        status = trailer(s, step);
    return status;
}

static enum joblot__next look_zlib(void *state, const unsigned char *at, size_t size)
{
    (void)state;
    (void)at;
    (void)size;
    return JOBLOT__NEXT_IGNORED;
}

static enum joblot__next look_gzip(void *state, const unsigned char *at, size_t size)
{
    (void)state;
    if (at[0] == 0)
        return JOBLOT__NEXT_SKIP;
    return at[0] == 0x1f && (size < 2 || at[1] == 0x8b) ? JOBLOT__NEXT_STREAM : JOBLOT__NEXT_WRONG;
}

static const struct joblot__decoder zlib_decoder = {look_zlib, open_zlib, begin, step, close_decoder};
static const struct joblot__decoder gzip_decoder = {look_gzip, open_gzip, begin, step, close_decoder};
const struct joblot__decoder *const joblot__zlib_decoder = &zlib_decoder;
const struct joblot__decoder *const joblot__gzip_decoder = &gzip_decoder;

#endif
