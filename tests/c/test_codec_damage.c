/* test_codec_damage.c - inputs that are cut, flipped, or made to hurt: an error with an offset, or the whole right data. */
#include "support/codecs.h"

#include "codec/deflate.h"

#include <stdio.h>
#include <stdlib.h>

enum { MANY = 16, SMALL = 300 };

/* Three streams (frames, blocks) of 300 bytes and one of 50. */
static struct bytes small_file(const joblot_codec *codec, struct bytes data, struct marks *marks)
{
    struct joblot_codec_write_options options = {.block_size = SMALL, .n_threads = 1};
    return pack_with_marks(codec, &options, data, marks);
}

static bool is_mark(const struct marks *marks, size_t at)
{
    for (size_t i = 0; i < marks->n; i++)
        if (marks->at[i] == at)
            return true;
    return false;
}

static void check_prefix(struct bytes seen, struct bytes of)
{
    CHECK(seen.size <= of.size);
    CHECK_BYTES(seen, ((struct bytes){of.data, seen.size}));
}

static void cut_file(const joblot_codec *codec, struct bytes packed, struct bytes data, const struct marks *marks)
{
    bool one = strcmp(joblot_codec_name(codec), "zlib") == 0 || strcmp(joblot_codec_name(codec), "gzip") == 0;
    for (size_t cut = 0; cut < packed.size; cut++) {
        struct joblot_codec_position position;
        joblot_error err = {.message = ""};
        struct bytes back, part = copy_bytes(packed.data, cut); /* so that ASan sees a step too far */
        joblot_status status = unpack(codec, part, NULL, &back, &position, &err);
        check_prefix(back, data);
        CHECK_EQUAL(position.in, cut);
        if (cut > 0 && is_mark(marks, cut) && !one) {
            CHECK_STATUS(status, JOBLOT_OK); /* fewer streams, each of them whole */
        } else {
            char where[40];
            CHECK_STATUS(status, JOBLOT_TRUNCATED);
            (void)snprintf(where, sizeof where, "at byte %zu of", cut);
            CHECK_CONTAINS(err.message, where);
        }
        FREE(back);
        CHECK_EQUAL(unpack_in_parts(codec, part, 1, 70, &back, &err), status);
        check_prefix(back, data);
        FREE(back);
        FREE(part);
    }
}

static void cut_anywhere(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    for (size_t i = 0; i < n; i++)
        for (int kind = is_greedy(codecs[i]) ? TEXT : ZEROS; kind < (is_greedy(codecs[i]) ? RANDOM : N_KINDS); kind++) {
            struct marks marks;
            struct bytes data = make_bytes((enum kind)kind, 3 * SMALL + 50);
            struct bytes packed = small_file(codecs[i], data, &marks);
            cut_file(codecs[i], packed, data, &marks);
            FREE(packed, data);
        }
}

/* Each byte, all bits and one: an error, or data that are the same.  lzma has no checksum: it cannot tell. */
static void flip_file(const joblot_codec *codec, struct bytes packed, struct bytes data)
{
    bool blind = strcmp(joblot_codec_name(codec), "lzma") == 0;
    static const unsigned char flips[] = {0xff, 0x01, 0x80, 0x10};
    size_t found = 0, harmless = 0;
    for (size_t at = 0; at < packed.size; at++)
        for (size_t k = 0; k < (is_greedy(codec) ? 2 : sizeof flips); k++) {
            struct joblot_codec_read_options options = {.strict_end = 1, .max_output = 100000};
            struct joblot_codec_position position;
            joblot_error err = {.message = ""};
            struct bytes back;
            packed.data[at] ^= flips[k];
            joblot_status status = unpack(codec, packed, &options, &back, &position, &err);
            if (status != JOBLOT_OK) {
                CHECK(status == JOBLOT_FORMAT || status == JOBLOT_TRUNCATED || status == JOBLOT_LIMIT ||
                      status == JOBLOT_UNSUPPORTED);
                CHECK_CONTAINS(err.message, "at byte ");
                found++;
            } else if (!blind) {
                CHECK_BYTES(back, data);
                harmless++;
            }
            FREE(back);
            packed.data[at] ^= flips[k];
        }
    printf("    %s: %zu found, %zu harmless\n", joblot_codec_name(codec), found, harmless);
    CHECK(found > 0);
}

static void flip_anything(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    for (size_t i = 0; i < n; i++)
        for (int kind = TEXT; kind < (is_greedy(codecs[i]) ? RANDOM : N_KINDS); kind++) {
            struct marks marks;
            struct bytes data = make_bytes((enum kind)kind, 2 * SMALL + 50);
            struct bytes packed = small_file(codecs[i], data, &marks);
            flip_file(codecs[i], packed, data);
            FREE(packed, data);
        }
}

static void random_input(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    uint64_t state = 7;
    struct bytes model = make_bytes(TEXT, 100);
    for (size_t i = 0; i < n; i++) {
        struct bytes good = library_pack(codecs[i], 1, model);
        for (int round = 0; round < 300; round++) {
            struct joblot_codec_read_options options = {.max_output = 1000000};
            unsigned char input[200];
            struct bytes back;
            joblot_error err;
            for (size_t k = 0; k < sizeof input; k++)
                input[k] = (unsigned char)(next_random(&state) >> 40);
            memcpy(input, good.data, 4 + (size_t)round % 12); /* a good beginning */
            joblot_status status = unpack(codecs[i], (struct bytes){input, sizeof input}, &options, &back, NULL, &err);
            CHECK(status == JOBLOT_OK || err.message[0] != '\0');
            FREE(back);
        }
        FREE(good);
    }
    FREE(model);
}

/* Zeros without end in a small file: the limit ends it, and what is allowed is there. */
static void bombs_end_at_once(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    struct bytes zeros = make_bytes(ZEROS, 2000000);
    joblot_error err;
    for (size_t i = 0; i < n; i++) {
        struct bytes back, bomb = pack(codecs[i], NULL, zeros, 0);
        CHECK(bomb.size < 40000);
        struct joblot_codec_read_options options = {.max_output = 1000};
        struct joblot_codec_position position;
        CHECK_STATUS(unpack(codecs[i], bomb, &options, &back, &position, &err), JOBLOT_LIMIT);
        CHECK_CONTAINS(err.message, "1000");
        CHECK_EQUAL(back.size, 1000);
        FREE(back);
        options.max_output = zeros.size - 1;
        CHECK_STATUS(unpack(codecs[i], bomb, &options, &back, NULL, &err), JOBLOT_LIMIT);
        FREE(back);
        options.max_output = zeros.size;
        CHECK_OK(unpack(codecs[i], bomb, &options, &back, NULL, &err));
        CHECK_BYTES(back, zeros);
        FREE(back, bomb);
    }
    FREE(zeros);
}

/* A header may ask for gigabytes before a byte of data is there. */
static void memory_is_limited(void)
{
    static const struct {
        const char *codec, *bytes;
        size_t size;
    } greedy[] = {
        {"lzma", "\x5d\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0", 19},
        {"zstd", "\x28\xb5\x2f\xfd\0\xa8\1\0\0", 9},                       /* a window of 2 GB */
        {"xz", "\xfd" "7zXZ\0\0\4\xe6\xd6\xb4\x46\2\0\x21\1\x28\0\0\0\0\0\0\0", 24}, /* its dictionary of 4 GB; CRC below */
    };
    joblot_error err;
    struct bytes back;
    for (size_t i = 0; i < 3; i++) {
        const joblot_codec *codec = joblot_codec_find(greedy[i].codec);
        if (joblot_codec_check(codec, NULL) != JOBLOT_OK)
            continue;
        struct bytes input = copy_bytes(greedy[i].bytes, greedy[i].size);
        if (i == 2) {
            uint32_t check = plain_crc32(input.data + 12, 8);
            for (int k = 0; k < 4; k++)
                input.data[20 + k] = (unsigned char)(check >> (8 * k));
        }
        CHECK_STATUS(unpack(codec, input, NULL, &back, NULL, &err), JOBLOT_LIMIT);
        CHECK_CONTAINS(err.message, "max_memory");
        FREE(back, input);
    }
    /* And what it may ask for can be set: 8 MB of dictionary, in 4 MB and in 64 MB. */
    const joblot_codec *xz = joblot_codec_find("xz");
    if (joblot_codec_check(xz, NULL) != JOBLOT_OK)
        return;
    struct bytes data = make_bytes(TEXT, 1000), packed = library_pack(xz, 6, data);
    struct joblot_codec_read_options options = {.max_memory = 4 << 20};
    CHECK_STATUS(unpack(xz, packed, &options, &back, NULL, &err), JOBLOT_LIMIT);
    FREE(back);
    options.max_memory = 64 << 20;
    CHECK_OK(unpack(xz, packed, &options, &back, NULL, &err));
    FREE(data, packed, back);
}

/* A deflate stream that is not one is left alone by the search for its last block. */
static void broken_deflate_is_not_reopened(void)
{
    const joblot_codec *zlib = need_codec("zlib");
    struct bytes data = make_bytes(TEXT, 20000), packed = library_pack(zlib, 6, data);
    size_t size = packed.size - 6, end;
    for (size_t cut = 0; cut < size; cut += cut < 300 ? 1 : 37) {
        struct bytes part = copy_bytes(packed.data + 2, cut);
        CHECK(!joblot__deflate_reopen(part.data, cut, &end));
        CHECK_BYTES(part, ((struct bytes){packed.data + 2, cut}));
        FREE(part);
    }
    uint64_t state = 3;
    for (int round = 0; round < 3000; round++) {
        struct bytes wild = copy_bytes(packed.data + 2, size < 400 ? size : 400);
        for (int k = 0; k < 3; k++)
            wild.data[next_random(&state) % (round % 2 ? 40 : wild.size)] ^= (unsigned char)(next_random(&state) >> 33);
        (void)joblot__deflate_reopen(wild.data, wild.size, &end); /* for the sanitizers */
        FREE(wild);
    }
    FREE(data, packed);
}

static void plain_zlib_as_well(void)
{
    (void)need_codec("zlib");
    joblot__deflate_plain(true);
    use_codecs("zlib", "gzip");
    cut_anywhere();
    flip_anything();
    random_input();
    bombs_end_at_once();
}

static const struct test_case cases[] = {
    {"cut_anywhere", cut_anywhere, 60},
    {"flip_anything", flip_anything, 60},
    {"random_input", random_input, 60},
    {"bombs_end_at_once", bombs_end_at_once, 60},
    {"memory_is_limited", memory_is_limited, 30},
    {"broken_deflate_is_not_reopened", broken_deflate_is_not_reopened, 30},
    {"plain_zlib_as_well", plain_zlib_as_well, 60},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
