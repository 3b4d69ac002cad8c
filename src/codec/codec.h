/* codec/codec.h - what reader and writer know of a format, and the formats that there are.
 *
 * A format is one struct of functions for each direction.  Which libraries there are is said by the macros
 * JOBLOT__WITH_ZLIB, _LIBDEFLATE, _ISAL, _BZIP2, _LZMA, _LZ4 and _ZSTD, which Meson defines; without one, the file of
 * the format compiles to nothing but the two NULL pointers. */
#ifndef JOBLOT_CODEC_CODEC_H
#define JOBLOT_CODEC_CODEC_H

#include <joblot/codec.h>

#include "../base/buffer.h"

#include <stdbool.h>

/* ---- reading ---- */

/* What may begin where a stream ended, or at the beginning. */
enum joblot__next {
    JOBLOT__NEXT_STREAM,  /* another stream: begin() */
    JOBLOT__NEXT_SKIP,    /* one byte of padding */
    JOBLOT__NEXT_IGNORED, /* bytes that are no part of it */
    JOBLOT__NEXT_WRONG,   /* bytes that make the file malformed */
};

/* Bytes that look() is given, at least, where the input has them. */
enum { JOBLOT__LOOK_SIZE = 32 };

/* One step of a decoder.  It takes bytes from `in` and puts bytes into `out`, and moves both on.  A decoder may move `in`
 * back by at most 8 bytes: over bytes that it took in an earlier step. */
struct joblot__step {
    const unsigned char *in, *in_end;
    unsigned char *out, *out_end; /* there is room */
    bool last;                    /* nothing comes behind in_end */
    bool finished;                /* set: the stream has ended, with all of it given out */
    char why[200];                /* set with a status other than OK: what is wrong */
};

struct joblot__decoder {
    /* What stands at the end of a stream.  At least one byte is there; fewer than JOBLOT__LOOK_SIZE only at the end. */
    enum joblot__next (*look)(void *state, const unsigned char *at, size_t size);
    void *(*open)(uint64_t max_memory);                                            /* NULL: NOMEM */
    joblot_status (*begin)(void *state, const unsigned char *at, size_t size, char why[200]); /* a stream; takes nothing */
    joblot_status (*step)(void *state, struct joblot__step *step);
    void (*close)(void *state);
};

/* ---- writing ---- */

struct joblot__block {
    const unsigned char *data;
    size_t size;
    size_t history;  /* so many bytes before `data` are those before it in the stream */
    uint32_t check;  /* set by encoders of formats with one checksum over all */
};

struct joblot__encoder {
    size_t history; /* bytes that a block can look back at */
    size_t (*block_size)(int level);
    void *(*open)(int level); /* a thread's state; NULL: NOMEM */
    /* Appends the compressed form to `out`; says why on failure. */
    joblot_status (*encode)(void *state, struct joblot__block *block, struct joblot__buffer *out, char why[200]);
    void (*close)(void *state);
    /* On the writer's thread, in order.  Each may be NULL.  `total` is what the blocks before came to. */
    void (*head)(int level, struct joblot__buffer *out);
    uint32_t (*join)(uint32_t check, const struct joblot__block *next);
    void (*tail)(uint32_t check, uint64_t total, struct joblot__buffer *out);
    bool seek_table;  /* the writer keeps each block's sizes, and ends with the table */
    uint32_t first_check;
};

/* ---- the formats ---- */

struct joblot_codec {
    const char *name, *extension;
    const char *magic;
    size_t magic_size;
    int lowest, highest, standard;
    const char *library, *package, *option; /* what to install, and the build option */
    const struct joblot__decoder *const *decoder; /* a pointer to NULL where the library is not there */
    const struct joblot__encoder *const *encoder;
};

extern const struct joblot__decoder *const joblot__zlib_decoder, *const joblot__gzip_decoder, *const joblot__bz2_decoder,
    *const joblot__lzma_decoder, *const joblot__lz4_decoder, *const joblot__zstd_decoder;
extern const struct joblot__encoder *const joblot__zlib_encoder, *const joblot__gzip_encoder, *const joblot__bz2_encoder,
    *const joblot__lzma_encoder, *const joblot__xz_encoder, *const joblot__lz4_encoder, *const joblot__zstd_encoder;

uint64_t joblot__codec_max_memory(uint64_t wanted); /* the default for 0 */
unsigned joblot__codec_threads(unsigned wanted);    /* the cores for 0; at most 64 */

#endif
