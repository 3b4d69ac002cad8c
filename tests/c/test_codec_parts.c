/* test_codec_parts.c - parts of zstd files, by their seek table. */
#include "support/codecs.h"

#include "base/alloc.h"
#include "os/os.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCK = 10000 };

struct file {
    struct bytes packed;
    atomic_size_t read; /* bytes that were asked for */
    uint64_t fail_from; /* offsets from here on fail; 0: none */
};

static joblot_status read_at(void *user, uint64_t offset, void *out, size_t size, joblot_error *err)
{
    struct file *f = user;
    CHECK(offset <= f->packed.size && size <= f->packed.size - offset);
    if (f->fail_from != 0 && offset + size > f->fail_from) {
        (void)snprintf(err->message, sizeof err->message, "bad sector");
        return JOBLOT_OS;
    }
    atomic_fetch_add(&f->read, size);
    memcpy(out, f->packed.data + offset, size);
    return JOBLOT_OK;
}

static joblot_codec_seekable *open_parts(struct file *f, bool memory)
{
    struct joblot_codec_random source = {.size = f->packed.size};
    joblot_codec_seekable *s = NULL;
    joblot_error err;
    if (memory)
        source.data = f->packed.data;
    else
        source.read_at = read_at, source.user = f;
    CHECK_OK(joblot_codec_seekable_open(&source, 0, &s, &err));
    return s;
}

static void make_file(struct file *f, struct bytes data)
{
    struct joblot_codec_write_options options = {.block_size = BLOCK, .n_threads = 2};
    memset(f, 0, sizeof *f);
    f->packed = pack(need_codec("zstd"), &options, data, 0);
}

static void any_part(void)
{
    struct file f;
    struct bytes data = make_bytes(TEXT, 20 * BLOCK + 123);
    joblot_error err;
    uint64_t state = 5;
    make_file(&f, data);
    unsigned char *out = malloc(data.size);
    for (int memory = 0; memory < 2; memory++) {
        joblot_codec_seekable *s = open_parts(&f, memory);
        CHECK_EQUAL(joblot_codec_seekable_size(s), data.size);
        CHECK_EQUAL(joblot_codec_seekable_frames(s), 21);
        for (unsigned threads = 0; threads < 4; threads++)
            for (int round = 0; round < 100; round++) {
                size_t from = round == 0 ? 0 : next_random(&state) % (data.size + 1);
                size_t most = data.size - from, n = round == 0 ? most : next_random(&state) % (most + 1);
                if (round % 3 == 1) { /* at the borders of frames */
                    from -= from % BLOCK;
                    n -= n % BLOCK;
                }
                memset(out, 0xaa, data.size);
                CHECK_OK(joblot_codec_seekable_read(s, from, out, n, threads, &err));
                CHECK_BYTES(((struct bytes){out, n}), ((struct bytes){data.data + from, n}));
                CHECK(n == data.size || out[n] == 0xaa);
            }
        CHECK_STATUS(joblot_codec_seekable_read(s, data.size, out, 1, 1, &err), JOBLOT_INVALID);
        CHECK_STATUS(joblot_codec_seekable_read(s, UINT64_MAX, out, 1, 1, &err), JOBLOT_INVALID);
        CHECK_STATUS(joblot_codec_seekable_read(s, 1, out, data.size, 1, &err), JOBLOT_INVALID);
        joblot_codec_seekable_close(s);
    }
    joblot_codec_seekable_close(NULL);
    free(out);
    FREE(data, f.packed);
}

static void nothing_else_is_read(void)
{
    struct file f;
    struct bytes data = make_bytes(RANDOM, 50 * BLOCK);
    unsigned char out[BLOCK];
    joblot_error err;
    make_file(&f, data);
    joblot_codec_seekable *s = open_parts(&f, false);
    CHECK(atomic_load(&f.read) < 1000); /* the table */
    atomic_store(&f.read, 0);
    CHECK_OK(joblot_codec_seekable_read(s, 30 * BLOCK + 5, out, 100, 1, &err));
    CHECK(atomic_load(&f.read) < BLOCK + 100);
    atomic_store(&f.read, 0);
    CHECK_OK(joblot_codec_seekable_read(s, 30 * BLOCK - 5, out, 10, 2, &err));
    CHECK(atomic_load(&f.read) < 2 * (BLOCK + 100));
    joblot_codec_seekable_close(s);
    FREE(data, f.packed);
}

static void empty_and_single(void)
{
    static const size_t sizes[] = {0, 1, BLOCK};
    for (size_t i = 0; i < 3; i++) {
        struct file f;
        struct bytes data = make_bytes(TEXT, sizes[i]);
        unsigned char out[BLOCK];
        joblot_error err;
        make_file(&f, data);
        joblot_codec_seekable *s = open_parts(&f, true);
        CHECK_EQUAL(joblot_codec_seekable_size(s), sizes[i]);
        CHECK_OK(joblot_codec_seekable_read(s, 0, out, sizes[i], 2, &err));
        CHECK_BYTES(((struct bytes){out, sizes[i]}), data);
        joblot_codec_seekable_close(s);
        FREE(data, f.packed);
    }
}

static joblot_status try_open(struct bytes packed, joblot_codec_seekable **out, joblot_error *err)
{
    struct joblot_codec_random source = {.data = packed.data, .size = packed.size};
    *out = NULL;
    return joblot_codec_seekable_open(&source, 0, out, err);
}

static void files_without_a_table(void)
{
    const joblot_codec *zstd = need_codec("zstd");
    struct file f;
    struct bytes data = make_bytes(TEXT, 3 * BLOCK), back;
    struct bytes foreign = library_pack(zstd, 3, data);
    joblot_codec_seekable *s;
    joblot_error err;
    make_file(&f, data);
    CHECK_STATUS(try_open(foreign, &s, &err), JOBLOT_UNSUPPORTED);
    CHECK_STATUS(try_open((struct bytes){foreign.data, 5}, &s, &err), JOBLOT_UNSUPPORTED);
    CHECK_STATUS(try_open((struct bytes){foreign.data, 0}, &s, &err), JOBLOT_UNSUPPORTED);
    /* Two files in one: the table at the end is of the second only, and is not believed; all is read all the same. */
    struct bytes two = join_bytes(f.packed, f.packed), wanted = join_bytes(data, data);
    CHECK_STATUS(try_open(two, &s, &err), JOBLOT_FORMAT);
    CHECK_OK(unpack(zstd, two, NULL, &back, NULL, &err));
    CHECK_BYTES(back, wanted);
    FREE(foreign, two, wanted, back, data, f.packed);
}

/* Every byte of the file flipped, every length: an error at the opening or at the reading, or the right data. */
static void damaged_files(void)
{
    struct file f;
    struct bytes data = make_bytes(TEXT, 900);
    struct joblot_codec_write_options options = {.block_size = 300};
    f.packed = pack(need_codec("zstd"), &options, data, 0);
    size_t refused = 0, found = 0, harmless = 0;
    unsigned char out[900];
    for (size_t at = 0; at < f.packed.size * 2; at++) {
        bool cut = at >= f.packed.size;
        struct bytes bad = copy_bytes(f.packed.data, cut ? at - f.packed.size : f.packed.size);
        joblot_error err = {.message = ""};
        joblot_codec_seekable *s = NULL;
        if (!cut)
            bad.data[at] ^= 0x15;
        joblot_status status = try_open(bad, &s, &err);
        refused += status != JOBLOT_OK;
        if (status == JOBLOT_OK) {
            uint64_t size = joblot_codec_seekable_size(s), n = size < sizeof out ? size : sizeof out;
            status = joblot_codec_seekable_read(s, 0, out, (size_t)n, 2, &err);
            found += status != JOBLOT_OK;
            if (status == JOBLOT_OK)
                CHECK_BYTES(((struct bytes){out, (size_t)n}), ((struct bytes){data.data, (size_t)n}));
            harmless += status == JOBLOT_OK;
        }
        CHECK(status == JOBLOT_OK || err.message[0] != '\0');
        joblot_codec_seekable_close(s);
        FREE(bad);
    }
    printf("    %zu refused, %zu found, %zu harmless\n", refused, found, harmless);
    CHECK(refused > 0 && found > 0);
    FREE(data, f.packed);
}

/* A table that claims 2^27 frames, or frames of 4 GB, allocates nothing for them. */
static void tables_that_lie(void)
{
    (void)need_codec("zstd");
    unsigned char many[17] = {0x5e, 0x2a, 0x4d, 0x18, 9, 0, 0, 0x40, 0, 0, 0, 8, 0, 0xb1, 0xea, 0x92, 0x8f};
    joblot_codec_seekable *s;
    joblot_error err;
    joblot__alloc_fail_at(0, false);
    CHECK_STATUS(try_open((struct bytes){many, sizeof many}, &s, &err), JOBLOT_FORMAT);
    CHECK(joblot__alloc_count() <= 1);
    struct file f;
    struct bytes data = make_bytes(TEXT, 100);
    make_file(&f, data);
    size_t entry = f.packed.size - 9 - 8;
    memset(f.packed.data + entry + 4, 0xff, 4); /* it decodes to 4 GB, it says */
    CHECK_EQUAL(try_open(f.packed, &s, &err), JOBLOT_OK);
    CHECK_EQUAL(joblot_codec_seekable_size(s), UINT32_MAX);
    unsigned char out[200];
    CHECK_STATUS(joblot_codec_seekable_read(s, 0, out, 200, 1, &err), JOBLOT_FORMAT);
    CHECK_STATUS(joblot_codec_seekable_read(s, 4000000000u, out, 200, 1, &err), JOBLOT_FORMAT);
    CHECK_CONTAINS(err.message, "frame 0");
    joblot_codec_seekable_close(s);
    FREE(data, f.packed);
}

static void callbacks_that_fail_and_threads_that_are_refused(void)
{
    struct file f;
    struct bytes data = make_bytes(RANDOM, 10 * BLOCK);
    unsigned char *out = malloc(data.size);
    joblot_error err = {.message = ""};
    make_file(&f, data);
    joblot_codec_seekable *s = open_parts(&f, false);
    f.fail_from = 5 * BLOCK;
    CHECK_STATUS(joblot_codec_seekable_read(s, 0, out, data.size, 3, &err), JOBLOT_OS);
    CHECK_EQUAL(err.code, JOBLOT_OS);
    CHECK_CONTAINS(err.message, "bad sector");
    CHECK_OK(joblot_codec_seekable_read(s, 0, out, 2 * BLOCK, 3, &err)); /* an error is not kept */
    f.fail_from = 0;
    joblot__os_forbid("pthread_create", EAGAIN);
    CHECK_OK(joblot_codec_seekable_read(s, 0, out, data.size, 3, &err));
    CHECK_BYTES(((struct bytes){out, data.size}), data);
    joblot_codec_seekable_close(s);
    struct joblot_codec_random none = {.size = 100};
    CHECK_STATUS(joblot_codec_seekable_open(&none, 0, &s, &err), JOBLOT_INVALID);
    free(out);
    FREE(data, f.packed);
}

static void without_the_library(void)
{
    const joblot_codec *zstd = joblot_codec_find("zstd");
    joblot_error err;
    if (joblot_codec_check(zstd, NULL) == JOBLOT_OK)
        skip_case("libzstd is there");
    struct joblot_codec_random source = {.data = "x", .size = 1};
    joblot_codec_seekable *s = NULL;
    CHECK_STATUS(joblot_codec_seekable_open(&source, 0, &s, &err), JOBLOT_UNSUPPORTED);
    CHECK_CONTAINS(err.message, "libzstd");
}

static const struct test_case cases[] = {
    {"any_part", any_part, 30},
    {"nothing_else_is_read", nothing_else_is_read, 30},
    {"empty_and_single", empty_and_single, 30},
    {"files_without_a_table", files_without_a_table, 30},
    {"damaged_files", damaged_files, 30},
    {"tables_that_lie", tables_that_lie, 30},
    {"callbacks_that_fail_and_threads_that_are_refused", callbacks_that_fail_and_threads_that_are_refused, 30},
    {"without_the_library", without_the_library, 10},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
