/* support/codecs.c - the two ways of the tests of codecs: joblot's, and each library's own. */
#include "codecs.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef JOBLOT__WITH_ZLIB
#include <zlib.h>
#endif
#ifdef JOBLOT__WITH_BZIP2
#include <bzlib.h>
#endif
#ifdef JOBLOT__WITH_LZMA
#include <lzma.h>
#endif
#ifdef JOBLOT__WITH_LZ4
#include <lz4frame.h>
#endif
#ifdef JOBLOT__WITH_ZSTD
#include <zstd.h>
#endif

static unsigned char *need_memory(size_t size)
{
    unsigned char *p = malloc(size > 0 ? size : 1);
    CHECK(p != NULL);
    return p;
}

struct bytes make_bytes(enum kind kind, size_t size)
{
    static const char *const words[] = {"array ", "of ", "doubles, ", "stored ", "in ", "C ", "order\n", "1.5e-3 "};
    struct bytes b = {need_memory(size + 16), size};
    uint64_t state = 0x9e3779b97f4a7c15u + size;
    memset(b.data, 0, size + 16);
    for (size_t at = 0; at < size && kind != ZEROS;) {
        uint64_t v = next_random(&state);
        if (kind == RANDOM) {
            memcpy(b.data + at, &v, 8);
            at += 8;
        } else {
            const char *word = words[v >> 32 & 7];
            memcpy(b.data + at, word, strlen(word));
            at += strlen(word);
        }
    }
    return b;
}

struct bytes copy_bytes(const void *data, size_t size)
{
    struct bytes b = {need_memory(size), size};
    memcpy(b.data, data, size);
    return b;
}

struct bytes join_bytes(struct bytes a, struct bytes b)
{
    struct bytes c = {need_memory(a.size + b.size), a.size + b.size};
    memcpy(c.data, a.data, a.size);
    memcpy(c.data + a.size, b.data, b.size);
    return c;
}

void free_bytes(struct bytes *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(list[i].data);
}

void check_bytes(const char *file, int line, struct bytes seen, struct bytes wanted)
{
    check_equal(file, line, "number of bytes", (long long)seen.size, (long long)wanted.size);
    for (size_t i = 0; i < seen.size; i++)
        if (seen.data[i] != wanted.data[i])
            fail_case(file, line, "byte %zu of %zu is %u, not %u", i, seen.size, seen.data[i], wanted.data[i]);
}

static const char *first_used, *second_used;

void use_codecs(const char *first, const char *second)
{
    first_used = first;
    second_used = second;
}

size_t usable_codecs(const joblot_codec **out)
{
    const joblot_codec *codec;
    size_t n = 0;
    for (size_t i = 0; (codec = joblot_codec_at(i)) != NULL; i++) {
        joblot_error err = {.message = ""};
        const char *name = joblot_codec_name(codec);
        if (first_used != NULL && strcmp(name, first_used) != 0 && strcmp(name, second_used) != 0)
            continue;
        joblot_status status = joblot_codec_check(codec, &err);
        if (status == JOBLOT_OK) {
            out[n++] = codec;
            continue;
        }
        CHECK_STATUS(status, JOBLOT_UNSUPPORTED);
        CHECK_CONTAINS(err.message, "install it");
        struct joblot_codec_source source = {.data = "x", .size = 1};
        joblot_codec_reader *r = NULL;
        CHECK_STATUS(joblot_codec_reader_open(codec, &source, NULL, &r, &err), JOBLOT_UNSUPPORTED);
        printf("    without %s\n", joblot_codec_name(codec));
    }
    return n;
}

static bool is_codec(const joblot_codec *codec, const char *name)
{
    return strcmp(joblot_codec_name(codec), name) == 0;
}

bool is_greedy(const joblot_codec *codec)
{
    return is_codec(codec, "bz2") || is_codec(codec, "lzma") || is_codec(codec, "xz");
}

const joblot_codec *need_codec(const char *name)
{
    const joblot_codec *codec = joblot_codec_find(name);
    CHECK(codec != NULL);
    joblot_error err;
    if (joblot_codec_check(codec, &err) != JOBLOT_OK)
        skip_case("%s", err.message);
    return codec;
}

uint32_t plain_crc32(const void *data, size_t size)
{
    const unsigned char *at = data;
    uint32_t check = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        check ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            check = check >> 1 ^ (check & 1 ? 0xedb88320u : 0);
    }
    return ~check;
}

/* ---- joblot's way ---- */

struct grow {
    struct bytes b;
    size_t room;
    struct marks *marks;
};

static joblot_status keep(void *user, const void *data, size_t size, joblot_error *err)
{
    struct grow *g = user;
    (void)err;
    while (g->b.size + size > g->room) {
        g->room = g->room * 2 + 4096;
        g->b.data = realloc(g->b.data, g->room);
        CHECK(g->b.data != NULL);
    }
    memcpy(g->b.data + g->b.size, data, size);
    g->b.size += size;
    if (g->marks != NULL && g->marks->n < 64)
        g->marks->at[g->marks->n++] = g->b.size;
    return JOBLOT_OK;
}

static struct bytes pack_all(const joblot_codec *codec, const struct joblot_codec_write_options *options,
                             struct bytes data, size_t part, struct marks *marks)
{
    struct grow g = {.marks = marks, .b.data = need_memory(1)};
    struct joblot_codec_sink sink = {.write = keep, .user = &g};
    joblot_codec_writer *w = NULL;
    joblot_error err;
    CHECK_OK(joblot_codec_writer_open(codec, options, &sink, &w, &err));
    for (size_t at = 0; at < data.size;) {
        size_t n = part == 0 || part > data.size - at ? data.size - at : part;
        CHECK_OK(joblot_codec_writer_write(w, data.data + at, n, &err));
        at += n;
    }
    CHECK_OK(joblot_codec_writer_finish(w, &err));
    joblot_codec_writer_close(w);
    return g.b;
}

struct bytes pack(const joblot_codec *codec, const struct joblot_codec_write_options *options, struct bytes data,
                  size_t part)
{
    return pack_all(codec, options, data, part, NULL);
}

struct bytes pack_with_marks(const joblot_codec *codec, const struct joblot_codec_write_options *options,
                             struct bytes data, struct marks *marks)
{
    marks->n = 0;
    return pack_all(codec, options, data, 0, marks);
}

static joblot_status read_all(joblot_codec_reader *r, size_t part, struct bytes *out, joblot_error *err)
{
    struct grow g = {.b.data = need_memory(1)};
    unsigned char *buffer = need_memory(part);
    struct joblot_codec_position here;
    joblot_status status;
    size_t got;
    do {
        status = joblot_codec_reader_read(r, buffer, part, &got, err);
        CHECK(got <= part);
        (void)keep(&g, buffer, got, NULL);
        joblot_codec_reader_position(r, &here);
        CHECK_EQUAL(here.out, g.b.size);
    } while (status == JOBLOT_OK && got == part);
    if (status != JOBLOT_OK) { /* it is kept */
        joblot_error again = {.message = ""};
        CHECK_EQUAL(joblot_codec_reader_read(r, buffer, part, &got, &again), status);
        CHECK_EQUAL(got, 0);
        CHECK(again.message[0] != '\0' && strcmp(again.message, err->message) == 0);
    }
    free(buffer);
    *out = g.b;
    return status;
}

joblot_status unpack(const joblot_codec *codec, struct bytes packed, const struct joblot_codec_read_options *options,
                     struct bytes *out, struct joblot_codec_position *position, joblot_error *err)
{
    struct joblot_codec_source source = {.data = packed.data, .size = packed.size};
    struct joblot_codec_position here;
    joblot_codec_reader *r = NULL;
    *out = (struct bytes){0};
    joblot_status status = joblot_codec_reader_open(codec, &source, options, &r, err);
    CHECK_EQUAL(status, JOBLOT_OK);
    status = read_all(r, 100000, out, err);
    joblot_codec_reader_position(r, &here);
    CHECK_EQUAL(here.out, out->size);
    CHECK(here.in <= packed.size);
    if (position != NULL)
        *position = here;
    joblot_codec_reader_close(r);
    return status;
}

struct trickle {
    struct bytes b;
    size_t at, part;
};

static joblot_status trickle(void *user, void *out, size_t capacity, size_t *got, joblot_error *err)
{
    struct trickle *t = user;
    size_t n = t->b.size - t->at;
    (void)err;
    n = n < t->part ? n : t->part;
    *got = n < capacity ? n : capacity;
    memcpy(out, t->b.data + t->at, *got);
    t->at += *got;
    return JOBLOT_OK;
}

joblot_status unpack_in_parts(const joblot_codec *codec, struct bytes packed, size_t part, size_t room, struct bytes *out,
                              joblot_error *err)
{
    struct trickle t = {packed, 0, part};
    struct joblot_codec_source source = {.read = trickle, .user = &t};
    joblot_codec_reader *r = NULL;
    CHECK_EQUAL(joblot_codec_reader_open(codec, &source, NULL, &r, err), JOBLOT_OK);
    joblot_status status = read_all(r, room, out, err);
    joblot_codec_reader_close(r);
    return status;
}

/* ---- the libraries' way ---- */


#ifdef JOBLOT__WITH_ZLIB
static size_t zlib_pack(bool gzip, int level, struct bytes data, unsigned char *out, size_t room)
{
    z_stream z = {.next_in = data.data, .avail_in = (uInt)data.size, .next_out = out, .avail_out = (uInt)room};
    CHECK(deflateInit2(&z, level, Z_DEFLATED, gzip ? 31 : 15, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    CHECK(deflateEnd(&z) == Z_OK);
    return room - z.avail_out;
}

static size_t zlib_unpack(bool gzip, struct bytes packed, unsigned char *out, size_t room)
{
    z_stream z = {.next_in = packed.data, .avail_in = (uInt)packed.size, .next_out = out, .avail_out = (uInt)room};
    CHECK(inflateInit2(&z, gzip ? 31 : 15) == Z_OK);
    CHECK_EQUAL(inflate(&z, Z_FINISH), Z_STREAM_END);
    CHECK_EQUAL(z.avail_in, 0); /* one stream, and nothing behind it: joblib's reader needs that */
    CHECK(inflateEnd(&z) == Z_OK);
    return room - z.avail_out;
}
#endif

#ifdef JOBLOT__WITH_BZIP2
static size_t bz2_unpack(struct bytes packed, unsigned char *out, size_t room)
{
    size_t at = 0, done = 0;
    while (at < packed.size) { /* stream after stream, as Python's bz2 does */
        bz_stream z = {.next_in = (char *)packed.data + at, .avail_in = (unsigned)(packed.size - at)};
        z.next_out = (char *)out + done;
        z.avail_out = (unsigned)(room - done);
        CHECK(BZ2_bzDecompressInit(&z, 0, 0) == BZ_OK);
        CHECK_EQUAL(BZ2_bzDecompress(&z), BZ_STREAM_END);
        at = packed.size - z.avail_in;
        done = room - z.avail_out;
        (void)BZ2_bzDecompressEnd(&z);
    }
    return done;
}
#endif

#ifdef JOBLOT__WITH_LZMA
static size_t lzma_pack(bool xz, int level, struct bytes data, unsigned char *out, size_t room)
{
    lzma_stream z = LZMA_STREAM_INIT;
    lzma_options_lzma options;
    CHECK(!lzma_lzma_preset(&options, (uint32_t)level));
    CHECK((xz ? lzma_easy_encoder(&z, (uint32_t)level, LZMA_CHECK_CRC64) : lzma_alone_encoder(&z, &options)) == LZMA_OK);
    z.next_in = data.data;
    z.avail_in = data.size;
    z.next_out = out;
    z.avail_out = room;
    CHECK_EQUAL(lzma_code(&z, LZMA_FINISH), LZMA_STREAM_END);
    size_t size = room - z.avail_out;
    lzma_end(&z);
    return size;
}

static size_t lzma_unpack(bool xz, struct bytes packed, unsigned char *out, size_t room)
{
    size_t at = 0, done = 0;
    while (at < packed.size) {
        lzma_stream z = LZMA_STREAM_INIT;
        CHECK((xz ? lzma_stream_decoder(&z, UINT64_MAX, 0) : lzma_alone_decoder(&z, UINT64_MAX)) == LZMA_OK);
        z.next_in = packed.data + at;
        z.avail_in = packed.size - at;
        z.next_out = out + done;
        z.avail_out = room - done;
        CHECK_EQUAL(lzma_code(&z, LZMA_FINISH), LZMA_STREAM_END);
        at = packed.size - z.avail_in;
        done = room - z.avail_out;
        lzma_end(&z);
    }
    return done;
}
#endif

#ifdef JOBLOT__WITH_LZ4
static size_t lz4_unpack(struct bytes packed, unsigned char *out, size_t room)
{
    LZ4F_dctx *context = NULL;
    size_t at = 0, done = 0, rc = 0;
    CHECK(!LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)));
    while (at < packed.size) {
        size_t in = packed.size - at, n = room - done;
        rc = LZ4F_decompress(context, out + done, &n, packed.data + at, &in, NULL);
        CHECK(!LZ4F_isError(rc) && in + n > 0);
        at += in;
        done += n;
    }
    CHECK_EQUAL(rc, 0);
    (void)LZ4F_freeDecompressionContext(context);
    return done;
}
#endif

/* One #ifdef for each library: without it the codec is not among those that are tested. */
struct bytes library_pack(const joblot_codec *codec, int level, struct bytes data)
{
    size_t room = data.size + data.size / 8 + 100000;
    struct bytes out = {need_memory(room), room};
#ifdef JOBLOT__WITH_ZLIB
    if (is_codec(codec, "zlib") || is_codec(codec, "gzip"))
        out.size = zlib_pack(is_codec(codec, "gzip"), level, data, out.data, room);
#endif
#ifdef JOBLOT__WITH_BZIP2
    if (is_codec(codec, "bz2")) {
        unsigned n = (unsigned)room;
        CHECK(BZ2_bzBuffToBuffCompress((char *)out.data, &n, (char *)data.data, (unsigned)data.size, level, 0, 0) == BZ_OK);
        out.size = n;
    }
#endif
#ifdef JOBLOT__WITH_LZMA
    if (is_codec(codec, "lzma") || is_codec(codec, "xz"))
        out.size = lzma_pack(is_codec(codec, "xz"), level, data, out.data, room);
#endif
#ifdef JOBLOT__WITH_LZ4
    if (is_codec(codec, "lz4")) {
        LZ4F_preferences_t how = {.compressionLevel = level};
        out.size = LZ4F_compressFrame(out.data, room, data.data, data.size, &how);
        CHECK(!LZ4F_isError(out.size));
    }
#endif
#ifdef JOBLOT__WITH_ZSTD
    if (is_codec(codec, "zstd")) {
        out.size = ZSTD_compress(out.data, room, data.data, data.size, level);
        CHECK(!ZSTD_isError(out.size));
    }
#endif
    (void)codec, (void)level;
    CHECK(out.size < room);
    return out;
}

struct bytes library_unpack(const joblot_codec *codec, struct bytes packed, size_t size)
{
    size_t room = size + 1, nothing = (size_t)-1;
    struct bytes out = {need_memory(room), nothing};
#ifdef JOBLOT__WITH_ZLIB
    if (is_codec(codec, "zlib") || is_codec(codec, "gzip"))
        out.size = zlib_unpack(is_codec(codec, "gzip"), packed, out.data, room);
#endif
#ifdef JOBLOT__WITH_BZIP2
    if (is_codec(codec, "bz2"))
        out.size = bz2_unpack(packed, out.data, room);
#endif
#ifdef JOBLOT__WITH_LZMA
    if (is_codec(codec, "lzma") || is_codec(codec, "xz"))
        out.size = lzma_unpack(is_codec(codec, "xz"), packed, out.data, room);
#endif
#ifdef JOBLOT__WITH_LZ4
    if (is_codec(codec, "lz4"))
        out.size = lz4_unpack(packed, out.data, room);
#endif
#ifdef JOBLOT__WITH_ZSTD
    if (is_codec(codec, "zstd")) {
        out.size = ZSTD_decompress(out.data, room, packed.data, packed.size);
        CHECK(!ZSTD_isError(out.size));
    }
#endif
    (void)codec, (void)packed;
    CHECK(out.size != nothing);
    return out;
}
