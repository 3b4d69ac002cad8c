/* test_inject_codec.c - writing, reading and reading parts, while the n-th allocation or system call fails. */
#include "support/codecs.h"
#include "support/rounds.h"

#include "codec/deflate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIZE = 5500, BLOCK = 1000, ROOM = 20000 };

static const joblot_codec *codec;
static unsigned n_threads;
static unsigned char packed[ROOM], out[SIZE + 1];
static size_t n_packed;
static struct bytes data;

static joblot_status keep(void *user, const void *bytes, size_t size, joblot_error *err)
{
    (void)user;
    (void)err;
    CHECK(n_packed + size <= ROOM);
    memcpy(packed + n_packed, bytes, size);
    n_packed += size;
    return JOBLOT_OK;
}

static joblot_status read_packed(void *user, void *to, size_t capacity, size_t *got, joblot_error *err)
{
    size_t *at = user;
    (void)err;
    *got = n_packed - *at < capacity ? n_packed - *at : capacity;
    memcpy(to, packed + *at, *got);
    *at += *got;
    return JOBLOT_OK;
}

static joblot_status write_it(joblot_error *err)
{
    struct joblot_codec_write_options options = {.level = 1, .block_size = BLOCK, .n_threads = n_threads};
    struct joblot_codec_sink sink = {.write = keep};
    joblot_codec_writer *w = NULL;
    n_packed = 0;
    joblot_status status = joblot_codec_writer_open(codec, &options, &sink, &w, err);
    if (status == JOBLOT_OK)
        status = joblot_codec_writer_write(w, data.data, SIZE, err);
    if (status == JOBLOT_OK)
        status = joblot_codec_writer_finish(w, err);
    joblot_codec_writer_close(w);
    return status;
}

static joblot_status read_it(joblot_error *err)
{
    size_t at = 0, got = 0;
    struct joblot_codec_source source = {.read = read_packed, .user = &at};
    joblot_codec_reader *r = NULL;
    joblot_status status = joblot_codec_reader_open(codec, &source, NULL, &r, err);
    if (status == JOBLOT_OK)
        status = joblot_codec_reader_read(r, out, SIZE + 1, &got, err);
    if (status == JOBLOT_OK)
        CHECK_BYTES(((struct bytes){out, got}), data);
    joblot_codec_reader_close(r);
    return status;
}

static joblot_status read_a_part(joblot_error *err)
{
    struct joblot_codec_random source = {.data = packed, .size = n_packed};
    joblot_codec_seekable *s = NULL;
    joblot_status status = joblot_codec_seekable_open(&source, 0, &s, err);
    if (status == JOBLOT_OK)
        status = joblot_codec_seekable_read(s, 700, out, 3000, n_threads, err);
    if (status == JOBLOT_OK)
        CHECK_BYTES(((struct bytes){out, 3000}), ((struct bytes){data.data + 700, 3000}));
    joblot_codec_seekable_close(s);
    return status;
}

static joblot_status run(const struct fault *fault, joblot_error *err)
{
    arm_fault(fault);
    joblot_status status = write_it(err);
    if (status == JOBLOT_OK)
        status = read_it(err);
    if (status == JOBLOT_OK && strcmp(joblot_codec_name(codec), "zstd") == 0)
        status = read_a_part(err);
    return status;
}

static void run_codecs(bool system, unsigned threads)
{
    const joblot_codec *codecs[16];
    size_t n = usable_codecs(codecs);
    data = make_bytes(TEXT, SIZE);
    n_threads = threads;
    for (size_t i = 0; i < n; i++) {
        char what[80];
        codec = codecs[i];
        (void)snprintf(what, sizeof what, "%s, %s, %u threads", joblot_codec_name(codec),
                       system ? "system call" : "allocation", threads);
        run_rounds(what, run, (struct fault){.system = system, .error = EAGAIN}, 3);
        run_rounds(what, run, (struct fault){.system = system, .error = EAGAIN, .for_good = true}, 3);
    }
    FREE(data);
}

static void allocations_alone(void) { run_codecs(false, 1); }
static void allocations_of_threads(void) { run_codecs(false, 3); }
static void system_calls_of_threads(void) { run_codecs(true, 3); }
static void allocations_of_zlib(void)
{
    (void)need_codec("zlib");
    joblot__deflate_plain(true);
    use_codecs("zlib", "gzip");
    run_codecs(false, 1);
}

static const struct test_case cases[] = {
    {"allocations_alone", allocations_alone, 120},
    {"allocations_of_threads", allocations_of_threads, 120},
    {"system_calls_of_threads", system_calls_of_threads, 120},
    {"allocations_of_zlib", allocations_of_zlib, 60},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
