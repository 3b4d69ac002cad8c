/* codec/lzma.c - xz and the older lzma ("alone"), by liblzma: each block a stream of its own.
 *
 * One decoder reads both, as Python's lzma does: which it is, each stream says by its first bytes. */
#include "codec.h"

#ifndef JOBLOT__WITH_LZMA

const struct joblot__decoder *const joblot__lzma_decoder = NULL;
const struct joblot__encoder *const joblot__lzma_encoder = NULL;
const struct joblot__encoder *const joblot__xz_encoder = NULL;

#else

#include "../base/alloc.h"
#include "../base/endian.h"

#include <lzma.h>
#include <stdio.h>
#include <string.h>

static void *allocate(void *opaque, size_t count, size_t size)
{
    (void)opaque;
    return size != 0 && count > SIZE_MAX / size ? NULL : joblot__malloc(count * size);
}

static void release(void *opaque, void *p)
{
    (void)opaque;
    joblot__free(p);
}

static const lzma_allocator allocator = {allocate, release, NULL};

static joblot_status explain(lzma_ret rc, char why[200])
{
    joblot_status status = JOBLOT_FORMAT;
    const char *text = "malformed data, or a checksum that does not fit";
    if (rc == LZMA_MEM_ERROR) {
        status = JOBLOT_NOMEM;
        text = "out of memory (liblzma)";
    } else if (rc == LZMA_MEMLIMIT_ERROR) {
        status = JOBLOT_LIMIT;
        text = "decoding needs more memory than is allowed (max_memory)";
    } else if (rc == LZMA_FORMAT_ERROR) {
        text = "this is not the beginning of an xz or lzma stream";
    } else if (rc == LZMA_OPTIONS_ERROR) {
        text = "a header that liblzma does not know";
    } else if (rc == LZMA_UNSUPPORTED_CHECK) {
        status = JOBLOT_UNSUPPORTED;
        text = "an integrity check that this liblzma does not know";
    }
    (void)snprintf(why, 200, "%s", text);
    return status;
}

/* ---- reading ---- */

struct state {
    lzma_stream z;
    uint64_t max_memory;
    bool was_xz;
    unsigned zeros; /* of padding behind an xz stream */
};

static const unsigned char xz_magic[6] = {0xfd, '7', 'z', 'X', 'Z', 0};

static bool begins_xz(const unsigned char *at, size_t size)
{
    return memcmp(at, xz_magic, size < sizeof xz_magic ? size : sizeof xz_magic) == 0;
}

/* An lzma header has no magic: properties below 225, a dictionary of 2^n or 2^n + 2^(n-1) bytes, and a size that is
 * unknown or below 256 GiB are what its readers go by. */
static bool begins_lzma(const unsigned char *at, size_t size)
{
    if (size < 13)
        return memcmp(at, "\x5d", size < 2 ? size : 2) == 0;
    uint32_t dictionary = joblot__load_le32(at + 1);
    uint64_t decoded = joblot__load_le64(at + 5);
    uint32_t top = dictionary == 0 ? 0 : UINT32_C(1) << (31 - __builtin_clz(dictionary));
    bool usual = dictionary >= 4096 && (dictionary == top || dictionary == top + top / 2 || dictionary == UINT32_MAX);
    return at[0] < 225 && usual && (decoded == UINT64_MAX || decoded < UINT64_C(1) << 38);
}

static enum joblot__next look(void *state, const unsigned char *at, size_t size)
{
    struct state *s = state;
    if (s->was_xz && at[0] == 0 && (s->zeros % 4 != 0 || (size >= 4 && memcmp(at, "\0\0\0", 4) == 0))) {
        s->zeros++;
        return JOBLOT__NEXT_SKIP;
    }
    return begins_xz(at, size) || begins_lzma(at, size) ? JOBLOT__NEXT_STREAM : JOBLOT__NEXT_IGNORED;
}

static void *open_decoder(uint64_t max_memory)
{
    struct state *s = joblot__calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->z = (lzma_stream)LZMA_STREAM_INIT;
    s->z.allocator = &allocator;
    s->max_memory = max_memory;
    return s;
}

static void close_decoder(void *state)
{
    struct state *s = state;
    lzma_end(&s->z);
    joblot__free(s);
}

static joblot_status begin(void *state, const unsigned char *at, size_t size, char why[200])
{
    struct state *s = state;
    s->was_xz = begins_xz(at, size);
    s->zeros = 0;
    lzma_ret rc = s->was_xz ? lzma_stream_decoder(&s->z, s->max_memory, LZMA_TELL_UNSUPPORTED_CHECK)
                            : lzma_alone_decoder(&s->z, s->max_memory);
    return rc == LZMA_OK ? JOBLOT_OK : explain(rc, why);
}

static joblot_status step(void *state, struct joblot__step *step)
{
    struct state *s = state;
    s->z.next_in = step->in;
    s->z.avail_in = (size_t)(step->in_end - step->in);
    s->z.next_out = step->out;
    s->z.avail_out = (size_t)(step->out_end - step->out);
    lzma_ret rc = lzma_code(&s->z, step->last ? LZMA_FINISH : LZMA_RUN);
    step->in = s->z.next_in;
    step->out = s->z.next_out;
    step->finished = rc == LZMA_STREAM_END;
    /* BUF_ERROR: nothing moved, of which the reader makes the end of the data or an error. */
    if (rc == LZMA_OK || rc == LZMA_STREAM_END || rc == LZMA_BUF_ERROR)
        return JOBLOT_OK;
    return explain(rc, step->why);
}

static const struct joblot__decoder decoder = {look, open_decoder, begin, step, close_decoder};
const struct joblot__decoder *const joblot__lzma_decoder = &decoder;

/* ---- writing ---- */

enum { BLOCK = 4 << 20 };

struct encoder {
    lzma_stream z;
    int level;
};

static size_t block_size(int level)
{
    (void)level;
    return BLOCK;
}

static void *open_encoder(int level)
{
    struct encoder *e = joblot__calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    e->z = (lzma_stream)LZMA_STREAM_INIT;
    e->z.allocator = &allocator;
    e->level = level;
    return e;
}

static void close_encoder(void *state)
{
    struct encoder *e = state;
    lzma_end(&e->z);
    joblot__free(e);
}

/* The preset, with a dictionary no larger than the block: a larger one is memory that nothing is found in. */
static bool options_of(lzma_options_lzma *options, int level, size_t size)
{
    if (lzma_lzma_preset(options, (uint32_t)level))
        return false;
    uint32_t dictionary = LZMA_DICT_SIZE_MIN;
    while (dictionary < size && dictionary < options->dict_size)
        dictionary *= 2;
    options->dict_size = dictionary;
    return true;
}

static joblot_status run(struct encoder *e, const struct joblot__block *block, struct joblot__buffer *out, char why[200])
{
    lzma_ret rc = LZMA_OK;
    size_t room = block->size + block->size / 16 + 1024;
    e->z.next_in = block->data;
    e->z.avail_in = block->size;
    while (rc == LZMA_OK) {
        e->z.next_out = joblot__buffer_extend(out, room);
        if (e->z.next_out == NULL)
            return explain(LZMA_MEM_ERROR, why);
        e->z.avail_out = room;
        rc = lzma_code(&e->z, LZMA_FINISH);
        out->size -= e->z.avail_out;
    }
    if (rc == LZMA_STREAM_END)
        return JOBLOT_OK;
    (void)explain(rc, why);
    return rc == LZMA_MEM_ERROR ? JOBLOT_NOMEM : JOBLOT_UNSUPPORTED;
}

static joblot_status encode_xz(void *state, struct joblot__block *block, struct joblot__buffer *out, char why[200])
{
    struct encoder *e = state;
    lzma_options_lzma options;
    lzma_filter filters[] = {{.id = LZMA_FILTER_LZMA2, .options = &options}, {.id = LZMA_VLI_UNKNOWN}};
    lzma_ret rc = LZMA_OPTIONS_ERROR;
    if (options_of(&options, e->level, block->size))
        rc = lzma_stream_encoder(&e->z, filters, LZMA_CHECK_CRC64);
    if (rc == LZMA_OK)
        return run(e, block, out, why);
    (void)explain(rc, why);
    return rc == LZMA_MEM_ERROR ? JOBLOT_NOMEM : JOBLOT_UNSUPPORTED;
}

static joblot_status encode_lzma(void *state, struct joblot__block *block, struct joblot__buffer *out, char why[200])
{
    struct encoder *e = state;
    lzma_options_lzma options;
    lzma_ret rc = LZMA_OPTIONS_ERROR;
    if (options_of(&options, e->level, block->size))
        rc = lzma_alone_encoder(&e->z, &options);
    if (rc == LZMA_OK)
        return run(e, block, out, why);
    (void)explain(rc, why);
    return rc == LZMA_MEM_ERROR ? JOBLOT_NOMEM : JOBLOT_UNSUPPORTED;
}

static const struct joblot__encoder xz_encoder = {
    .block_size = block_size,
    .open = open_encoder,
    .encode = encode_xz,
    .close = close_encoder,
};
static const struct joblot__encoder lzma_encoder = {
    .block_size = block_size,
    .open = open_encoder,
    .encode = encode_lzma,
    .close = close_encoder,
};
const struct joblot__encoder *const joblot__xz_encoder = &xz_encoder;
const struct joblot__encoder *const joblot__lzma_encoder = &lzma_encoder;

#endif
