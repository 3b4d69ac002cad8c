/* codec/lz4.c - LZ4 frames, by liblz4: each block a frame of its own, with its size and a checksum. */
#include "codec.h"

#ifndef JOBLOT__WITH_LZ4

const struct joblot__decoder *const joblot__lz4_decoder = NULL;
const struct joblot__encoder *const joblot__lz4_encoder = NULL;

#else

#include "../base/alloc.h"

#include <lz4frame.h>
#include <stdio.h>
#include <string.h>

/* liblz4 tells errors by name only. */
static joblot_status explain(LZ4F_errorCode_t code, char why[200])
{
    const char *name = LZ4F_getErrorName(code);
    bool memory = strstr(name, "allocation") != NULL;
    (void)snprintf(why, 200, "%s (%s)", memory ? "out of memory" : "malformed data", name);
    return memory ? JOBLOT_NOMEM : JOBLOT_FORMAT;
}

/* ---- reading ---- */

static enum joblot__next look(void *state, const unsigned char *at, size_t size)
{
    (void)state;
    (void)at;
    (void)size;
    return JOBLOT__NEXT_STREAM; /* and liblz4 says what it is not */
}

static void *open_decoder(uint64_t max_memory)
{
    (void)max_memory; /* 8 MB and a bit are the most that the format can ask for */
    LZ4F_dctx **state = joblot__malloc(sizeof(LZ4F_dctx *));
    if (state != NULL && LZ4F_isError(LZ4F_createDecompressionContext(state, LZ4F_VERSION))) {
        joblot__free(state);
        state = NULL;
    }
    return state;
}

static void close_decoder(void *state)
{
    (void)LZ4F_freeDecompressionContext(*(LZ4F_dctx **)state);
    joblot__free(state);
}

static joblot_status begin(void *state, const unsigned char *at, size_t size, char why[200])
{
    (void)state;
    (void)at;
    (void)size;
    (void)why;
    return JOBLOT_OK; /* a context that ended a frame is ready for the next */
}

static joblot_status step(void *state, struct joblot__step *step)
{
    size_t in = (size_t)(step->in_end - step->in), out = (size_t)(step->out_end - step->out);
    size_t rc = LZ4F_decompress(*(LZ4F_dctx **)state, step->out, &out, step->in, &in, NULL);
    if (LZ4F_isError(rc))
        return explain(rc, step->why);
    step->in += in;
    step->out += out;
    step->finished = rc == 0;
    return JOBLOT_OK;
}

static const struct joblot__decoder decoder = {look, open_decoder, begin, step, close_decoder};
const struct joblot__decoder *const joblot__lz4_decoder = &decoder;

/* ---- writing ---- */

static size_t block_size(int level)
{
    (void)level;
    return 1 << 20;
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
    LZ4F_preferences_t how = {
        .frameInfo = {.blockSizeID = LZ4F_max1MB, .contentChecksumFlag = LZ4F_contentChecksumEnabled,
                      .contentSize = block->size},
        .compressionLevel = *(int *)state,
    };
    size_t bound = LZ4F_compressFrameBound(block->size, &how);
    unsigned char *at = joblot__buffer_extend(out, bound);
    if (at == NULL) {
        (void)snprintf(why, 200, "out of memory (an encoder)");
        return JOBLOT_NOMEM;
    }
    size_t rc = LZ4F_compressFrame(at, bound, block->data, block->size, &how);
    if (LZ4F_isError(rc)) {
        joblot_status status = explain(rc, why);
        return status == JOBLOT_NOMEM ? status : JOBLOT_UNSUPPORTED;
    }
    out->size -= bound - rc;
    return JOBLOT_OK;
}

static const struct joblot__encoder encoder = {
    .block_size = block_size,
    .open = open_encoder,
    .encode = encode,
    .close = joblot__free,
};
const struct joblot__encoder *const joblot__lz4_encoder = &encoder;

#endif
