/* test_codec.c - what is written is what the libraries' own decoders read, what they write is what is read, and what
 * stands between and around streams. */
#include "support/codecs.h"

#include "base/alloc.h"
#include "codec/deflate.h"
#include "os/os.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { MANY = 16 };

static void names_and_first_bytes(void)
{
    static const struct {
        const char *name, *file, *first;
        size_t size;
    } known[] = {
        {"zlib", "a/b.pkl.z", "\x78\x5e", 2},          {"gzip", "b.gz", "\x1f\x8b\x08", 3},
        {"bz2", "x.bz2", "BZh9", 4},                   {"lzma", "x.lzma", "\x5d\0\0", 3},
        {"xz", "x.xz", "\xfd\x37\x7a\x58\x5a", 5},     {"lz4", "x.lz4", "\x04\x22\x4d\x18", 4},
        {"zstd", "x.pkl.zst", "\x28\xb5\x2f\xfd", 4},
    };
    size_t n = sizeof known / sizeof known[0];
    for (size_t i = 0; i < n; i++) {
        const joblot_codec *codec = joblot_codec_find(known[i].name);
        CHECK(codec != NULL && codec == joblot_codec_at(i));
        CHECK(strcmp(joblot_codec_name(codec), known[i].name) == 0);
        CHECK(joblot_codec_find_extension(known[i].file) == codec);
        CHECK(joblot_codec_find_extension(joblot_codec_extension(codec)) == codec);
        CHECK(joblot_codec_detect(known[i].first, known[i].size) == codec);
        int low = 0, high = 0, standard = 0;
        joblot_codec_levels(codec, &low, &high, &standard);
        CHECK(low <= standard && standard <= high && standard != 0);
    }
    CHECK(joblot_codec_at(n) == NULL);
    CHECK(joblot_codec_find("snappy") == NULL && joblot_codec_find("") == NULL && joblot_codec_find("ZLIB") == NULL);
    CHECK(joblot_codec_find_extension("pickle.pkl") == NULL && joblot_codec_find_extension("") == NULL);
    CHECK(joblot_codec_find_extension("x.GZ") == NULL);
    CHECK(joblot_codec_detect("", 0) == NULL && joblot_codec_detect("\x80\x04", 2) == NULL);
    CHECK(joblot_codec_detect("\x1f", 1) == NULL && joblot_codec_detect("\x28\xb5\x2f", 3) == NULL);
}

/* There and back: by joblot in both directions, whole and in parts, and by the library's decoder. */
static void round_trip(const joblot_codec *codec, const struct joblot_codec_write_options *options, struct bytes data)
{
    joblot_error err;
    struct bytes back, packed = pack(codec, options, data, 0);
    CHECK(joblot_codec_detect(packed.data, packed.size) == codec);
    CHECK_OK(unpack(codec, packed, NULL, &back, NULL, &err));
    CHECK_BYTES(back, data);
    FREE(back);
    CHECK_OK(unpack_in_parts(codec, packed, data.size < 2000 ? 1 : 777, data.size < 2000 ? 1 : 1013, &back, &err));
    CHECK_BYTES(back, data);
    FREE(back);
    back = library_unpack(codec, packed, data.size);
    CHECK_BYTES(back, data);
    FREE(back);
    FREE(packed);
}

static void all_sizes(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    enum { BLOCK = 5000 };
    static const size_t sizes[] = {0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1, 7 * BLOCK + 77};
    struct joblot_codec_write_options options = {.block_size = BLOCK, .n_threads = 3};
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
            for (int kind = 0; kind < N_KINDS; kind++) {
                struct bytes data = make_bytes((enum kind)kind, sizes[k]);
                round_trip(codecs[i], &options, data);
                FREE(data);
            }
}

static void all_levels(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    for (size_t i = 0; i < n; i++) {
        int low, high;
        joblot_codec_levels(codecs[i], &low, &high, NULL);
        for (int level = low; level <= high; level++)
            for (int kind = 0; kind < N_KINDS; kind++) {
                struct joblot_codec_write_options options = {.level = level, .block_size = 20000, .n_threads = 2};
                struct bytes data = make_bytes((enum kind)kind, 50000);
                round_trip(codecs[i], &options, data);
                FREE(data);
            }
    }
}

/* The usual blocks: 10 MB of several, and one more or less than a block. */
static void usual_blocks(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    for (size_t i = 0; i < n; i++) {
        bool slow = is_greedy(codecs[i]);
        size_t block = !slow ? 1u << 20 : (strcmp(joblot_codec_name(codecs[i]), "bz2") == 0 ? 899980 : 4u << 20);
        struct bytes data = make_bytes(slow ? ZEROS : TEXT, slow ? 2 * block + 5 : 10000000);
        round_trip(codecs[i], NULL, data);
        for (size_t size = slow ? block : block - 1; size <= block + 1; size++)
            round_trip(codecs[i], NULL, (struct bytes){data.data, size});
        FREE(data);
    }
}

static void threads_and_cuts_do_not_show(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    struct bytes data = make_bytes(TEXT, 100000);
    for (size_t i = 0; i < n; i++) {
        struct joblot_codec_write_options options = {.block_size = 4000, .n_threads = 1};
        struct bytes one = pack(codecs[i], &options, data, 0);
        static const unsigned threads[] = {1, 2, 5, 64};
        for (size_t k = 0; k < 4; k++) {
            options.n_threads = threads[k];
            struct bytes other = pack(codecs[i], &options, data, 3333 * k + 1);
            CHECK_BYTES(other, one);
            FREE(other);
        }
        FREE(one);
    }
    FREE(data);
}

static void what_the_libraries_write(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    joblot_error err;
    for (size_t i = 0; i < n; i++)
        for (int kind = 0; kind < N_KINDS; kind++)
            for (int level = 1; level <= (is_greedy(codecs[i]) ? 2 : 9); level += is_greedy(codecs[i]) ? 1 : 8) {
                struct bytes data = make_bytes((enum kind)kind, 100001), back;
                struct bytes packed = library_pack(codecs[i], level, data);
                CHECK_OK(unpack(codecs[i], packed, NULL, &back, NULL, &err));
                CHECK_BYTES(back, data);
                FREE(back);
                CHECK_OK(unpack_in_parts(codecs[i], packed, 1009, 2003, &back, &err));
                CHECK_BYTES(back, data);
                FREE(back);
                FREE(packed);
                FREE(data);
            }
}

/* Streams one behind the other, from the library and from joblot, are read as one. */
static void streams_one_behind_the_other(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    joblot_error err;
    struct joblot_codec_write_options options = {.block_size = 5000};
    for (size_t i = 0; i < n; i++) {
        struct bytes a = make_bytes(TEXT, 12000), none = make_bytes(TEXT, 0), back;
        struct bytes one = library_pack(codecs[i], 3, a), empty = library_pack(codecs[i], 3, none);
        struct bytes ours = pack(codecs[i], &options, a, 0);
        struct bytes two = join_bytes(one, empty), all = join_bytes(two, ours);
        struct bytes wanted = join_bytes(a, a);
        struct joblot_codec_position position;
        CHECK_OK(unpack(codecs[i], all, NULL, &back, &position, &err));
        if (strcmp(joblot_codec_name(codecs[i]), "zlib") == 0) { /* one stream, and the rest is known to be there */
            CHECK_BYTES(back, a);
            CHECK_EQUAL(position.in, one.size);
            CHECK_EQUAL(position.ignored_bytes, 1);
        } else {
            CHECK_BYTES(back, wanted);
            CHECK_EQUAL(position.in, all.size);
            CHECK_EQUAL(position.ignored_bytes, 0);
            CHECK(position.streams >= 3);
            FREE(back);
            CHECK_OK(unpack_in_parts(codecs[i], all, 1, 700, &back, &err));
            CHECK_BYTES(back, wanted);
        }
        FREE(back);
        FREE(a, none, one, empty, ours, two, all, wanted);
    }
}

/* What may follow the last stream: docs/formats/codecs.md. */
static void what_follows(void)
{
    static const struct {
        const char *codec, *bytes;
        size_t size;
        joblot_status usual, strict;
    } rules[] = {
        {"zlib", "abc", 3, JOBLOT_OK, JOBLOT_FORMAT},
        {"zlib", "\0", 1, JOBLOT_OK, JOBLOT_FORMAT},
        {"gzip", "\0\0\0", 3, JOBLOT_OK, JOBLOT_OK},
        {"gzip", "\0x", 2, JOBLOT_FORMAT, JOBLOT_FORMAT},
        {"gzip", "\x1f", 1, JOBLOT_TRUNCATED, JOBLOT_TRUNCATED},
        {"gzip", "\x1f\x8c", 2, JOBLOT_FORMAT, JOBLOT_FORMAT},
        {"bz2", "abc", 3, JOBLOT_OK, JOBLOT_FORMAT},
        {"bz2", "\0", 1, JOBLOT_OK, JOBLOT_FORMAT},
        {"bz2", "BZ", 2, JOBLOT_TRUNCATED, JOBLOT_TRUNCATED},
        {"bz2", "BZh0", 4, JOBLOT_OK, JOBLOT_FORMAT},
        {"bz2", "BZh1xxxxxxxxxx", 14, JOBLOT_FORMAT, JOBLOT_FORMAT},
        {"xz", "\0\0\0\0\0\0\0\0", 8, JOBLOT_OK, JOBLOT_OK},
        {"xz", "\0\0\0", 3, JOBLOT_OK, JOBLOT_FORMAT},
        {"xz", "\0\0\0\0\0", 5, JOBLOT_OK, JOBLOT_FORMAT},
        {"xz", "abc", 3, JOBLOT_OK, JOBLOT_FORMAT},
        {"xz", "\xfd" "7zX", 4, JOBLOT_TRUNCATED, JOBLOT_TRUNCATED},
        {"lzma", "abcdefghijklmnopq", 17, JOBLOT_OK, JOBLOT_FORMAT},
        {"lzma", "\x5d\0\0\0\1", 5, JOBLOT_TRUNCATED, JOBLOT_TRUNCATED},
        {"lzma", "\0\0\0\0", 4, JOBLOT_OK, JOBLOT_FORMAT},
        {"lz4", "\x50\x2a\x4d\x18\2\0\0\0ab", 10, JOBLOT_OK, JOBLOT_OK},
        {"lz4", "abcdefgh", 8, JOBLOT_FORMAT, JOBLOT_FORMAT},
        {"lz4", "\x04\x22", 2, JOBLOT_TRUNCATED, JOBLOT_TRUNCATED},
        {"zstd", "\x51\x2a\x4d\x18\2\0\0\0ab", 10, JOBLOT_OK, JOBLOT_OK},
        {"zstd", "abcdefgh", 8, JOBLOT_FORMAT, JOBLOT_FORMAT},
        {"zstd", "\x51\x2a\x4d\x18\2\0\0\0a", 9, JOBLOT_TRUNCATED, JOBLOT_TRUNCATED},
    };
    struct bytes data = make_bytes(TEXT, 3000);
    joblot_error err;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const joblot_codec *codec = joblot_codec_find(rules[i].codec);
        if (joblot_codec_check(codec, NULL) != JOBLOT_OK)
            continue;
        struct bytes one = library_pack(codec, 3, data), tail = copy_bytes(rules[i].bytes, rules[i].size), back;
        struct bytes all = join_bytes(one, tail);
        for (int strict = 0; strict < 2; strict++) {
            struct joblot_codec_read_options options = {.strict_end = strict};
            joblot_status seen = unpack(codec, all, &options, &back, NULL, &err);
            joblot_status wanted = strict ? rules[i].strict : rules[i].usual;
            if (seen != wanted)
                fail_case(__FILE__, __LINE__, "rule %zu (%s), strict %d: %d, not %d (%s)", i, rules[i].codec, strict, seen,
                          wanted, seen != JOBLOT_OK ? err.message : "");
            CHECK_BYTES(back, data);
            FREE(back);
        }
        FREE(one, tail, all);
    }
    FREE(data);
}

/* An xz file may have an lzma stream behind it, and the other way round: Python's reader takes both. */
static void xz_and_lzma_mixed(void)
{
    const joblot_codec *xz = need_codec("xz"), *lzma = need_codec("lzma");
    struct bytes data = make_bytes(TEXT, 3000), back;
    struct bytes a = library_pack(xz, 1, data), b = library_pack(lzma, 1, data);
    struct bytes ab = join_bytes(a, b), ba = join_bytes(b, a), wanted = join_bytes(data, data);
    joblot_error err;
    CHECK_OK(unpack(xz, ab, NULL, &back, NULL, &err));
    CHECK_BYTES(back, wanted);
    FREE(back);
    CHECK_OK(unpack(lzma, ba, NULL, &back, NULL, &err));
    CHECK_BYTES(back, wanted);
    FREE(back);
    CHECK_OK(unpack(lzma, a, NULL, &back, NULL, &err));
    CHECK_BYTES(back, data);
    FREE(data, back, a, b, ab, ba, wanted);
}

/* Every field of a gzip header, with each cut into single bytes. */
static void gzip_header_fields(void)
{
    const joblot_codec *gzip = need_codec("gzip");
    struct bytes data = make_bytes(TEXT, 500), back, packed = library_pack(gzip, 6, data);
    unsigned char head[64] = {0x1f, 0x8b, 8, 2 | 4 | 8 | 16 | 1, 1, 2, 3, 4, 0, 3, 5, 0, 'e', 'x', 't', 'r', 'a'};
    size_t n = 17;
    memcpy(head + n, "a name", 7), n += 7;
    memcpy(head + n, "a comment", 10), n += 10;
    uint32_t check = plain_crc32(head, n);
    head[n++] = (unsigned char)check;
    head[n++] = (unsigned char)(check >> 8);
    struct bytes all = join_bytes((struct bytes){head, n}, (struct bytes){packed.data + 10, packed.size - 10});
    joblot_error err;
    CHECK_OK(unpack(gzip, all, NULL, &back, NULL, &err));
    CHECK_BYTES(back, data);
    FREE(back);
    CHECK_OK(unpack_in_parts(gzip, all, 1, 64, &back, &err));
    CHECK_BYTES(back, data);
    FREE(back);
    for (size_t cut = 1; cut < n; cut++) {
        CHECK_STATUS(unpack(gzip, (struct bytes){all.data, cut}, NULL, &back, NULL, &err), JOBLOT_TRUNCATED);
        FREE(back);
    }
    for (size_t at = 0; at < n; at++) {
        if (at == 3 || at == 10 || at == 11)
            continue; /* which fields there are, and how long: what then comes is something else */
        all.data[at] ^= 0x40;
        CHECK_STATUS(unpack(gzip, all, NULL, &back, NULL, &err), JOBLOT_FORMAT);
        all.data[at] ^= 0x40;
        FREE(back);
    }
    all.data[3] |= 0x20;
    CHECK_STATUS(unpack(gzip, all, NULL, &back, NULL, &err), JOBLOT_FORMAT);
    FREE(data, back, packed, all);
}

static void a_zlib_dictionary_is_not_there(void)
{
    const joblot_codec *zlib = need_codec("zlib");
    struct bytes packed = copy_bytes("\x78\xbb\0\0\0\1\3\0\0\0\0\1", 12), back;
    joblot_error err;
    CHECK_STATUS(unpack(zlib, packed, NULL, &back, NULL, &err), JOBLOT_UNSUPPORTED);
    CHECK_CONTAINS(err.message, "dictionary");
    FREE(packed, back);
}

/* All of the above for zlib alone, without what is faster. */
static void zlib_alone(void)
{
    (void)need_codec("zlib");
    joblot__deflate_plain(true);
    use_codecs("zlib", "gzip");
    all_sizes();
    all_levels();
    usual_blocks();
    threads_and_cuts_do_not_show();
    what_the_libraries_write();
    streams_one_behind_the_other();
    what_follows();
    gzip_header_fields();
}

static const struct test_case cases[] = {
    {"names_and_first_bytes", names_and_first_bytes, 10},
    {"all_sizes", all_sizes, 60},
    {"all_levels", all_levels, 60},
    {"usual_blocks", usual_blocks, 60},
    {"threads_and_cuts_do_not_show", threads_and_cuts_do_not_show, 60},
    {"what_the_libraries_write", what_the_libraries_write, 60},
    {"streams_one_behind_the_other", streams_one_behind_the_other, 60},
    {"what_follows", what_follows, 60},
    {"xz_and_lzma_mixed", xz_and_lzma_mixed, 10},
    {"gzip_header_fields", gzip_header_fields, 10},
    {"a_zlib_dictionary_is_not_there", a_zlib_dictionary_is_not_there, 10},
    {"zlib_alone", zlib_alone, 90},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
