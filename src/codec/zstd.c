/* codec/zstd.c - zstd, by libzstd: each block a frame of its own, with its size and a checksum, and a seek table. */
#include "codec.h"

#ifndef JOBLOT__WITH_ZSTD

const struct joblot__decoder *const joblot__zstd_decoder = NULL;
const struct joblot__encoder *const joblot__zstd_encoder = NULL;

#else

#include "zstd_error.h"

#include "../base/alloc.h"

#include <stdio.h>
#include <zstd.h>
#include <zstd_errors.h>

joblot_status joblot__zstd_explain(size_t rc, char why[200])
{
    const char *name = ZSTD_getErrorName(rc);
    joblot_status status = JOBLOT_FORMAT;
    const char *text = "malformed data";
    switch (ZSTD_getErrorCode(rc)) {
    case ZSTD_error_memory_allocation:
        status = JOBLOT_NOMEM;
        text = "out of memory";
        break;
    case ZSTD_error_frameParameter_windowTooLarge:
        status = JOBLOT_LIMIT;
        text = "decoding needs more memory than is allowed (max_memory)";
        break;
    case ZSTD_error_dictionary_wrong:
        status = JOBLOT_UNSUPPORTED;
        text = "it was compressed with a dictionary, which is needed";
        break;
    default:
        break;
    }
    (void)snprintf(why, 200, "%s (%s)", text, name);
    return status;
}

void joblot__zstd_limit(ZSTD_DCtx *context, uint64_t max_memory)
{
    int log = 63 - __builtin_clzll(max_memory | 1);
    ZSTD_bounds bounds = ZSTD_dParam_getBounds(ZSTD_d_windowLogMax);
    log = log < bounds.lowerBound ? bounds.lowerBound : (log > bounds.upperBound ? bounds.upperBound : log);
    (void)ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, log);
}

/* ---- reading ---- */

static enum joblot__next look(void *state, const unsigned char *at, size_t size)
{
    (void)state;
    (void)at;
    (void)size;
    return JOBLOT__NEXT_STREAM; /* a frame, or one to be skipped; libzstd says what it is not */
}

struct state {
    ZSTD_DCtx *context;
    unsigned long long stated, decoded; /* bytes of the frame: by its header, if that says so, and seen */
};

static void *open_decoder(uint64_t max_memory)
{
    struct state *s = joblot__malloc(sizeof *s);
    if (s == NULL)
        return NULL;
    s->context = ZSTD_createDCtx();
    if (s->context == NULL) {
        joblot__free(s);
        return NULL;
    }
    joblot__zstd_limit(s->context, max_memory);
    return s;
}

static void close_decoder(void *state)
{
    struct state *s = state;
    (void)ZSTD_freeDCtx(s->context);
    joblot__free(s);
}

/* A context that ended a frame is ready for the next. */
static joblot_status begin(void *state, const unsigned char *at, size_t size, char why[200])
{
    struct state *s = state;
    (void)why;
    s->stated = ZSTD_getFrameContentSize(at, size);
    s->decoded = 0;
    return JOBLOT_OK;
}

static joblot_status step(void *state, struct joblot__step *step)
{
    struct state *s = state;
    ZSTD_inBuffer in = {step->in, (size_t)(step->in_end - step->in), 0};
    ZSTD_outBuffer out = {step->out, (size_t)(step->out_end - step->out), 0};
    size_t rc = ZSTD_decompressStream(s->context, &out, &in);
    if (ZSTD_isError(rc))
        return joblot__zstd_explain(rc, step->why);
    step->in += in.pos;
    step->out += out.pos;
    s->decoded += out.pos;
    step->finished = rc == 0;
    /* Decoding piece by piece, libzstd 1.5 does not look at the size of a frame whose last block is empty. */
    if (step->finished && s->stated != ZSTD_CONTENTSIZE_UNKNOWN && s->stated != ZSTD_CONTENTSIZE_ERROR &&
        s->stated != s->decoded) {
        (void)snprintf(step->why, sizeof step->why, "a frame has another size than its header says");
        return JOBLOT_FORMAT;
    }
    return JOBLOT_OK;
}

static const struct joblot__decoder decoder = {look, open_decoder, begin, step, close_decoder};
const struct joblot__decoder *const joblot__zstd_decoder = &decoder;

/* ---- writing ---- */

/* What is one frame is decoded as one: larger ones are smaller in all, and cost more when a part is read. */
static size_t block_size(int level)
{
    return level >= 10 ? 4 << 20 : 1 << 20;
}

struct encoder {
    ZSTD_CCtx *context;
};

static void *open_encoder(int level)
{
    struct encoder *e = joblot__malloc(sizeof *e);
    if (e == NULL)
        return NULL;
    e->context = ZSTD_createCCtx();
    if (e->context == NULL || ZSTD_isError(ZSTD_CCtx_setParameter(e->context, ZSTD_c_compressionLevel, level)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(e->context, ZSTD_c_checksumFlag, 1))) {
        (void)ZSTD_freeCCtx(e->context);
        joblot__free(e);
        return NULL;
    }
    return e;
}

static void close_encoder(void *state)
{
    struct encoder *e = state;
    (void)ZSTD_freeCCtx(e->context);
    joblot__free(e);
}

static joblot_status encode(void *state, struct joblot__block *block, struct joblot__buffer *out, char why[200])
{
    struct encoder *e = state;
    size_t bound = ZSTD_compressBound(block->size);
    unsigned char *at = joblot__buffer_extend(out, bound);
    if (at == NULL) {
        (void)snprintf(why, 200, "out of memory (an encoder)");
        return JOBLOT_NOMEM;
    }
    size_t rc = ZSTD_compress2(e->context, at, bound, block->data, block->size);
    if (ZSTD_isError(rc)) {
        joblot_status status = joblot__zstd_explain(rc, why);
        return status == JOBLOT_NOMEM ? status : JOBLOT_UNSUPPORTED;
    }
    out->size -= bound - rc;
    return JOBLOT_OK;
}

static const struct joblot__encoder encoder = {
    .block_size = block_size,
    .open = open_encoder,
    .encode = encode,
    .close = close_encoder,
    .seek_table = true,
};
const struct joblot__encoder *const joblot__zstd_encoder = &encoder;

#endif
