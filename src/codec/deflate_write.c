/* codec/deflate_write.c - writing zlib (RFC 1950) and gzip (RFC 1952): one stream of blocks that end on a byte.
 *
 * joblib reads one stream and nothing behind it, so the blocks that the threads make must join: each ends with an empty
 * stored block, which brings it to a byte; a last empty block ends the stream; and the checksum is put together from those
 * of the blocks. */
#include "codec.h"

#ifndef JOBLOT__WITH_ZLIB

const struct joblot__encoder *const joblot__zlib_encoder = NULL;
const struct joblot__encoder *const joblot__gzip_encoder = NULL;

#else

#include "deflate.h"

#include "../base/alloc.h"
#include "../base/checked.h"

#ifdef JOBLOT__WITH_LIBDEFLATE
#include <libdeflate.h>
#endif
#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum { HISTORY = 32768 };

/* libdeflate's level for each of zlib's: the fastest whose output is at most 3 % larger (docs/codec.md). */
static const int fast_levels[10] = {0, 1, 1, 1, 3, 6, 6, 6, 10, 10};

struct encoder {
    z_stream z;
    int level;
    bool gzip;
#ifdef JOBLOT__WITH_LIBDEFLATE
    struct libdeflate_compressor *fast; /* NULL: zlib */
#endif
};

static size_t block_size(int level)
{
    (void)level;
    return 1 << 20;
}

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

static void close_encoder(void *state)
{
    struct encoder *e = state;
#ifdef JOBLOT__WITH_LIBDEFLATE
    if (e->fast != NULL)
        libdeflate_free_compressor(e->fast);
#endif
    if (e->z.state != NULL)
        (void)deflateEnd(&e->z);
    joblot__free(e);
}

static struct encoder *open_encoder(int level, bool gzip)
{
    struct encoder *e = joblot__calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    e->level = level;
    e->gzip = gzip;
#ifdef JOBLOT__WITH_LIBDEFLATE
    if (!joblot__deflate_is_plain() && fast_levels[level] > 0) {
        e->fast = libdeflate_alloc_compressor(fast_levels[level]);
        if (e->fast == NULL) {
            close_encoder(e);
            return NULL;
        }
    }
#endif
    return e;
}

static void *open_zlib(int level)
{
    return open_encoder(level, false);
}

static void *open_gzip(int level)
{
    return open_encoder(level, true);
}

#ifdef JOBLOT__WITH_LIBDEFLATE
/* libdeflate makes whole streams: it is reopened, and brought to a byte.  False: by zlib, then. */
static bool encode_fast(struct encoder *e, const struct joblot__block *block, struct joblot__buffer *out)
{
    size_t before = out->size, end = 0;
    size_t bound = libdeflate_deflate_compress_bound(e->fast, block->size);
    unsigned char *at = joblot__buffer_extend(out, bound + 5);
    if (at == NULL)
        return false;
    size_t size = libdeflate_deflate_compress(e->fast, block->data, block->size, at, bound);
    if (size == 0 || !joblot__deflate_reopen(at, size, &end)) {
        out->size = before;
        return false;
    }
    /* Three zero bits begin a stored block that is not the last.  They are there, or need one byte more. */
    if (size * 8 - end < 3)
        at[size++] = 0;
    memcpy(at + size, "\x00\x00\xff\xff", 4);
    out->size = before + size + 4;
    return true;
}
#endif

static joblot_status encode_plain(struct encoder *e, const struct joblot__block *block, struct joblot__buffer *out,
                                  char why[200])
{
    if (e->z.state == NULL) {
        e->z = (z_stream){.zalloc = allocate, .zfree = release};
        if (deflateInit2(&e->z, e->level, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
            e->z.state = NULL;
            (void)snprintf(why, 200, "out of memory (zlib)");
            return JOBLOT_NOMEM;
        }
    }
    size_t bound = deflateBound(&e->z, (uLong)block->size) + 16;
    unsigned char *at = joblot__buffer_extend(out, bound);
    if (at == NULL) {
        (void)snprintf(why, 200, "out of memory (an encoder)");
        return JOBLOT_NOMEM;
    }
    int rc = deflateReset(&e->z);
    if (rc == Z_OK && block->history > 0)
        rc = deflateSetDictionary(&e->z, block->data - block->history, (uInt)block->history);
    e->z.next_in = (unsigned char *)block->data; /* zlib does not write there */
    e->z.avail_in = (uInt)block->size;
    e->z.next_out = at;
    e->z.avail_out = (uInt)bound;
    if (rc == Z_OK)
        rc = deflate(&e->z, Z_SYNC_FLUSH);
    out->size -= e->z.avail_out;
    if (rc == Z_OK && e->z.avail_in == 0 && e->z.avail_out > 0)
        return JOBLOT_OK;
    (void)snprintf(why, 200, "zlib gave up (error %d)", rc);
    return JOBLOT_UNSUPPORTED;
}

static joblot_status encode(void *state, struct joblot__block *block, struct joblot__buffer *out, char why[200])
{
    struct encoder *e = state;
    block->check = e->gzip ? joblot__crc32(0, block->data, block->size) : joblot__adler32(1, block->data, block->size);
    if (block->size == 0)
        return JOBLOT_OK;
#ifdef JOBLOT__WITH_LIBDEFLATE
    if (e->fast != NULL && encode_fast(e, block, out))
        return JOBLOT_OK;
#endif
    return encode_plain(e, block, out, why);
}

/* ---- what stands around the blocks ---- */

static void zlib_head(int level, struct joblot__buffer *out)
{
    /* deflate with a window of 32 KB; then a hint at the level, which makes the two bytes a multiple of 31. */
    joblot__buffer_u8(out, 0x78);
    joblot__buffer_u8(out, level < 2 ? 0x01 : (level < 6 ? 0x5e : (level == 6 ? 0x9c : 0xda)));
}

static void gzip_head(int level, struct joblot__buffer *out)
{
    /* magic, deflate, no flags, no time, a hint at the level, no system */
    unsigned char head[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, level >= 9 ? 2 : (level == 1 ? 4 : 0), 255};
    joblot__buffer_append(out, head, sizeof head);
}

static const unsigned char last_block[2] = {3, 0}; /* fixed codes, with nothing but their end */

static void zlib_tail(uint32_t check, uint64_t total, struct joblot__buffer *out)
{
    unsigned char tail[4] = {(unsigned char)(check >> 24), (unsigned char)(check >> 16), (unsigned char)(check >> 8),
                             (unsigned char)check};
    (void)total;
    joblot__buffer_append(out, last_block, sizeof last_block);
    joblot__buffer_append(out, tail, sizeof tail);
}

static void gzip_tail(uint32_t check, uint64_t total, struct joblot__buffer *out)
{
    joblot__buffer_append(out, last_block, sizeof last_block);
    joblot__buffer_le32(out, check);
    joblot__buffer_le32(out, (uint32_t)total);
}

static uint32_t join_adler32(uint32_t check, const struct joblot__block *next)
{
    return (uint32_t)adler32_combine(check, next->check, (z_off_t)next->size);
}

static uint32_t join_crc32(uint32_t check, const struct joblot__block *next)
{
    return (uint32_t)crc32_combine(check, next->check, (z_off_t)next->size);
}

static const struct joblot__encoder zlib_encoder = {
    .history = HISTORY,
    .block_size = block_size,
    .open = open_zlib,
    .encode = encode,
    .close = close_encoder,
    .head = zlib_head,
    .join = join_adler32,
    .tail = zlib_tail,
    .first_check = 1,
};
static const struct joblot__encoder gzip_encoder = {
    .history = HISTORY,
    .block_size = block_size,
    .open = open_gzip,
    .encode = encode,
    .close = close_encoder,
    .head = gzip_head,
    .join = join_crc32,
    .tail = gzip_tail,
};
const struct joblot__encoder *const joblot__zlib_encoder = &zlib_encoder;
const struct joblot__encoder *const joblot__gzip_encoder = &gzip_encoder;

#endif
