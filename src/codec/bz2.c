/* codec/bz2.c - bzip2, by libbz2: each block a stream of its own. */
#include "codec.h"

#ifndef JOBLOT__WITH_BZIP2

const struct joblot__decoder *const joblot__bz2_decoder = NULL;
const struct joblot__encoder *const joblot__bz2_encoder = NULL;

#else

#include "../base/alloc.h"
#include "../base/checked.h"

#include <bzlib.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static void *allocate(void *opaque, int count, int size)
{
    (void)opaque;
    size_t all;
    bool fits = count >= 0 && size >= 0 && joblot__mul_size((size_t)count, (size_t)size, &all);
    return fits ? joblot__malloc(all) : NULL;
}

static void release(void *opaque, void *p)
{
    (void)opaque;
    joblot__free(p);
}

static unsigned part(size_t size)
{
    return size < UINT_MAX ? (unsigned)size : UINT_MAX;
}

/* ---- reading ---- */

struct state {
    bz_stream z;
    bool open;
};

static enum joblot__next look(void *state, const unsigned char *at, size_t size)
{
    (void)state;
    size_t n = size < 3 ? size : 3;
    bool same = memcmp(at, "BZh", n) == 0 && (size < 4 || (at[3] >= '1' && at[3] <= '9'));
    return same ? JOBLOT__NEXT_STREAM : JOBLOT__NEXT_IGNORED;
}

static void *open_decoder(uint64_t max_memory)
{
    (void)max_memory; /* 4 MB are the most that the format can ask for */
    struct state *s = joblot__calloc(1, sizeof *s);
    return s;
}

static void close_decoder(void *state)
{
    struct state *s = state;
    if (s->open)
        (void)BZ2_bzDecompressEnd(&s->z);
    joblot__free(s);
}

static joblot_status begin(void *state, const unsigned char *at, size_t size, char why[200])
{
    struct state *s = state;
    (void)at;
    (void)size;
    if (s->open)
        (void)BZ2_bzDecompressEnd(&s->z);
    s->z = (bz_stream){.bzalloc = allocate, .bzfree = release};
    s->open = BZ2_bzDecompressInit(&s->z, 0, 0) == BZ_OK;
    if (!s->open)
        (void)snprintf(why, 200, "out of memory (a decoder)");
    return s->open ? JOBLOT_OK : JOBLOT_NOMEM;
}

static joblot_status step(void *state, struct joblot__step *step)
{
    struct state *s = state;
    unsigned in = part((size_t)(step->in_end - step->in)), out = part((size_t)(step->out_end - step->out));
    s->z.next_in = (char *)step->in; /* libbz2 does not write there */
    s->z.avail_in = in;
    s->z.next_out = (char *)step->out;
    s->z.avail_out = out;
    int rc = BZ2_bzDecompress(&s->z);
    step->in += in - s->z.avail_in;
    step->out += out - s->z.avail_out;
    step->finished = rc == BZ_STREAM_END;
    if (rc == BZ_OK || rc == BZ_STREAM_END)
        return JOBLOT_OK;
    if (rc == BZ_MEM_ERROR) {
        (void)snprintf(step->why, sizeof step->why, "out of memory (a decoder)");
        return JOBLOT_NOMEM;
    }
    (void)snprintf(step->why, sizeof step->why, "%s",
                   rc == BZ_DATA_ERROR_MAGIC ? "this is not the beginning of a bzip2 stream"
                                             : "malformed data, or a checksum that does not fit");
    return JOBLOT_FORMAT;
}

static const struct joblot__decoder decoder = {look, open_decoder, begin, step, close_decoder};
const struct joblot__decoder *const joblot__bz2_decoder = &decoder;

/* ---- writing ---- */

/* As many of bzip2's own blocks as make about 1 MB, filled to their end: 19 bytes of each are kept free by libbz2. */
static size_t block_size(int level)
{
    size_t own = (size_t)level * 100000 - 20;
    return own * (level >= 6 ? 1 : 6 / (size_t)level);
}

static void *open_encoder(int level)
{
    int *state = joblot__malloc(sizeof *state);
    if (state != NULL)
        *state = level;
    return state;
}

static joblot_status encode(void *state, struct joblot__block *block, struct joblot__buffer *out, char why[200])
{
    bz_stream z = {.bzalloc = allocate, .bzfree = release};
    size_t bound = block->size + block->size / 50 + 1024; /* the manual: 1 % and 600 bytes */
    unsigned char *at = joblot__buffer_extend(out, bound);
    if (at == NULL || BZ2_bzCompressInit(&z, *(int *)state, 0, 0) != BZ_OK) {
        (void)snprintf(why, 200, "out of memory (an encoder)");
        return JOBLOT_NOMEM;
    }
    z.next_in = (char *)block->data;
    z.avail_in = (unsigned)block->size;
    z.next_out = (char *)at;
    z.avail_out = (unsigned)bound;
    int rc;
    do
        rc = BZ2_bzCompress(&z, BZ_FINISH);
    while (rc == BZ_FINISH_OK && z.avail_out > 0);
    out->size -= z.avail_out;
    (void)BZ2_bzCompressEnd(&z);
    if (rc == BZ_STREAM_END)
        return JOBLOT_OK;
    (void)snprintf(why, 200, "libbz2 gave up (error %d)", rc);
    return JOBLOT_UNSUPPORTED;
}

static const struct joblot__encoder encoder = {
    .block_size = block_size,
    .open = open_encoder,
    .encode = encode,
    .close = joblot__free,
};
const struct joblot__encoder *const joblot__bz2_encoder = &encoder;

#endif
