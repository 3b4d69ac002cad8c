/* test_codec_writer.c - the writer's threads, its memory, its errors, and the joining of deflate blocks. */
#define _GNU_SOURCE
#include "support/codecs.h"

#include "base/alloc.h"
#include "codec/deflate.h"
#include "os/os.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { MANY = 16 };

struct sink_state {
    size_t calls, bytes, fail_at;
    bool silent;
};

static joblot_status count(void *user, const void *data, size_t size, joblot_error *err)
{
    struct sink_state *s = user;
    (void)data;
    s->calls++;
    s->bytes += size;
    if (s->calls != s->fail_at)
        return JOBLOT_OK;
    if (!s->silent && err != NULL) {
        err->code = JOBLOT_OS;
        (void)snprintf(err->message, sizeof err->message, "the disk is full");
    }
    return JOBLOT_OS;
}

static joblot_codec_writer *open_writer(const joblot_codec *codec, unsigned n_threads, uint32_t block_size,
                                        struct sink_state *state)
{
    struct joblot_codec_write_options options = {.n_threads = n_threads, .block_size = block_size};
    struct joblot_codec_sink sink = {.write = count, .user = state};
    joblot_codec_writer *w = NULL;
    joblot_error err;
    CHECK_OK(joblot_codec_writer_open(codec, &options, &sink, &w, &err));
    return w;
}

/* Never more than threads + 2 blocks are held back, whatever is written. */
static void blocks_in_flight_are_bounded(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    enum { BLOCK = 3000 };
    struct bytes data = make_bytes(RANDOM, BLOCK);
    joblot_error err;
    for (size_t i = 0; i < n; i++)
        for (unsigned threads = 1; threads <= 4; threads += 3) {
            struct sink_state state = {0};
            joblot_codec_writer *w = open_writer(codecs[i], threads, BLOCK, &state);
            for (size_t k = 1; k <= 60; k++) {
                CHECK_OK(joblot_codec_writer_write(w, data.data, BLOCK, &err));
                CHECK(state.bytes + (threads + 2) * BLOCK >= k * BLOCK);
            }
            CHECK_OK(joblot_codec_writer_finish(w, &err));
            CHECK(state.bytes >= 60 * BLOCK); /* random data does not get smaller */
            joblot_codec_writer_close(w);
        }
    FREE(data);
}

/* A writer that is closed at any time frees all, with its threads at work. */
static void closed_without_an_end(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    struct bytes data = make_bytes(TEXT, 200000);
    long live = joblot__alloc_live();
    joblot_error err;
    for (size_t i = 0; i < n; i++)
        for (size_t size = 0; size <= data.size; size += 50000) {
            struct sink_state state = {0};
            joblot_codec_writer *w = open_writer(codecs[i], 4, 20000, &state);
            CHECK_OK(joblot_codec_writer_write(w, data.data, size, &err));
            joblot_codec_writer_close(w);
            CHECK_EQUAL(joblot__alloc_live(), live);
        }
    joblot_codec_writer_close(NULL);
    joblot_codec_reader_close(NULL);
    FREE(data);
}

static void a_sink_that_fails(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    struct bytes data = make_bytes(TEXT, 100000);
    for (size_t i = 0; i < n; i++)
        for (size_t at = 1; at <= 6; at++) {
            struct sink_state state = {.fail_at = at, .silent = at % 2 == 0};
            joblot_error err = {.message = ""}, again = {.message = ""};
            joblot_codec_writer *w = open_writer(codecs[i], 3, 10000, &state);
            joblot_status status = joblot_codec_writer_write(w, data.data, data.size, &err);
            if (status == JOBLOT_OK)
                status = joblot_codec_writer_finish(w, &err);
            CHECK_STATUS(status, JOBLOT_OS);
            CHECK_EQUAL(err.code, JOBLOT_OS);
            CHECK_CONTAINS(err.message, state.silent ? "the callback that writes failed" : "the disk is full");
            CHECK_EQUAL(state.calls, at); /* not asked again */
            CHECK_EQUAL(joblot_codec_writer_finish(w, &again), JOBLOT_OS);
            CHECK(strcmp(again.message, err.message) == 0);
            CHECK_EQUAL(joblot_codec_writer_write(w, "x", 1, NULL), JOBLOT_OS);
            CHECK_EQUAL(state.calls, at);
            joblot_codec_writer_close(w);
        }
    FREE(data);
}

static joblot_status broken_source(void *user, void *out, size_t capacity, size_t *got, joblot_error *err)
{
    struct bytes *b = user;
    if (b->size == 0) {
        (void)snprintf(err->message, sizeof err->message, "the drive is gone");
        return JOBLOT_OS;
    }
    *got = b->size < capacity ? b->size : capacity;
    memcpy(out, b->data, *got);
    b->size = 0;
    return JOBLOT_OK;
}

static joblot_status boasting_source(void *user, void *out, size_t capacity, size_t *got, joblot_error *err)
{
    (void)user;
    (void)err;
    memset(out, 0, capacity);
    *got = capacity + 1;
    return JOBLOT_OK;
}

static void sources_that_fail(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    for (size_t i = 0; i < n; i++) {
        struct bytes data = make_bytes(TEXT, 5000), packed = library_pack(codecs[i], 3, data);
        struct bytes half = {packed.data, packed.size / 2};
        struct joblot_codec_source source = {.read = broken_source, .user = &half};
        joblot_codec_reader *r = NULL;
        joblot_error err = {.message = ""};
        unsigned char out[8000];
        size_t got;
        CHECK_OK(joblot_codec_reader_open(codecs[i], &source, NULL, &r, &err));
        CHECK_STATUS(joblot_codec_reader_read(r, out, sizeof out, &got, &err), JOBLOT_OS);
        CHECK_EQUAL(err.code, JOBLOT_OS);
        CHECK_CONTAINS(err.message, "the drive is gone");
        CHECK_EQUAL(joblot_codec_reader_read(r, out, sizeof out, &got, NULL), JOBLOT_OS);
        joblot_codec_reader_close(r);
        source.read = boasting_source;
        CHECK_OK(joblot_codec_reader_open(codecs[i], &source, NULL, &r, &err));
        CHECK_STATUS(joblot_codec_reader_read(r, out, sizeof out, &got, &err), JOBLOT_INVALID);
        joblot_codec_reader_close(r);
        FREE(data, packed);
    }
}

static void wrong_arguments(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    struct sink_state state = {0};
    struct joblot_codec_sink sink = {.write = count, .user = &state}, none = {0};
    struct joblot_codec_source no_source = {.size = 3};
    joblot_codec_writer *w = NULL;
    joblot_codec_reader *r = NULL;
    joblot_error err;
    CHECK_STATUS(joblot_codec_writer_open(NULL, NULL, &sink, &w, &err), JOBLOT_INVALID);
    CHECK_STATUS(joblot_codec_reader_open(NULL, &no_source, NULL, &r, &err), JOBLOT_INVALID);
    for (size_t i = 0; i < n; i++) {
        int low, high;
        joblot_codec_levels(codecs[i], &low, &high, NULL);
        struct joblot_codec_write_options options = {.level = high + 1};
        CHECK_STATUS(joblot_codec_writer_open(codecs[i], &options, &sink, &w, &err), JOBLOT_INVALID);
        CHECK_CONTAINS(err.message, "level");
        options.level = low > 0 ? -1 : low - 1;
        CHECK_STATUS(joblot_codec_writer_open(codecs[i], &options, &sink, &w, &err), JOBLOT_INVALID);
        options = (struct joblot_codec_write_options){.block_size = (1u << 30) + 1};
        CHECK_STATUS(joblot_codec_writer_open(codecs[i], &options, &sink, &w, &err), JOBLOT_INVALID);
        CHECK_STATUS(joblot_codec_writer_open(codecs[i], NULL, &none, &w, &err), JOBLOT_INVALID);
        CHECK_STATUS(joblot_codec_reader_open(codecs[i], &no_source, NULL, &r, &err), JOBLOT_INVALID);
        w = open_writer(codecs[i], 1, 0, &state);
        CHECK_OK(joblot_codec_writer_write(w, "abc", 3, &err));
        CHECK_OK(joblot_codec_writer_finish(w, &err));
        CHECK_STATUS(joblot_codec_writer_write(w, "abc", 3, &err), JOBLOT_INVALID);
        CHECK_STATUS(joblot_codec_writer_finish(w, &err), JOBLOT_INVALID);
        joblot_codec_writer_close(w);
    }
    CHECK(w != NULL || n == 0);
}

/* Where no thread can be started, the caller's does all. */
static void threads_are_refused(void)
{
    const joblot_codec *codecs[MANY];
    size_t n = usable_codecs(codecs);
    struct bytes data = make_bytes(TEXT, 100000);
    for (size_t i = 0; i < n; i++) {
        struct joblot_codec_write_options options = {.n_threads = 4, .block_size = 10000};
        struct bytes usual = pack(codecs[i], &options, data, 0);
        joblot__os_forbid("pthread_create", EAGAIN);
        struct bytes alone = pack(codecs[i], &options, data, 0);
        joblot__os_forbid(NULL, 0);
        CHECK_BYTES(alone, usual);
        FREE(alone, usual);
    }
    FREE(data);
}

static unsigned count_threads(void)
{
    int n = joblot__os_thread_count();
    CHECK(n > 0);
    return (unsigned)n;
}

/* A thread that was joined may be listed for a moment. */
static void wait_for_threads(unsigned wanted)
{
    for (int i = 0; i < 200 && count_threads() != wanted; i++)
        wait_ms(10);
    CHECK_EQUAL(count_threads(), wanted);
}

static void threads_only_when_needed(void)
{
    const joblot_codec *zlib = need_codec("zlib");
    struct sink_state state = {0};
    struct bytes data = make_bytes(TEXT, 100000);
    unsigned before = count_threads();
    joblot_error err;
    for (int round = 0; round < 2; round++) { /* with the first one, a sanitizer may start a thread of its own */
        joblot_codec_writer *w = open_writer(zlib, 3, 10000, &state);
        CHECK_OK(joblot_codec_writer_write(w, data.data, 10000, &err));
        CHECK_EQUAL(count_threads(), before);
        CHECK_OK(joblot_codec_writer_finish(w, &err));
        CHECK_EQUAL(count_threads(), before);
        joblot_codec_writer_close(w);
        w = open_writer(zlib, 3, 10000, &state);
        CHECK_OK(joblot_codec_writer_write(w, data.data, 100000, &err));
        if (round == 0)
            before = count_threads() - 2;
        CHECK_EQUAL(count_threads(), before + 2);
        joblot_codec_writer_close(w);
        wait_for_threads(before);
    }
    FREE(data);
}

/* The set of blocked signals of each thread but the first, as /proc has it in hexadecimal; how many threads. */
static size_t blocked_signals(unsigned long long *out, size_t room)
{
    DIR *tasks = opendir("/proc/self/task");
    size_t n = 0;
    CHECK(tasks != NULL);
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        char path[300], text[4096];
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == joblot__os_pid())
            continue;
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        if (joblot__os_read_text(path, text, sizeof text) < 0)
            continue; /* it has just ended */
        const char *line = strstr(text, "SigBlk:");
        CHECK(line != NULL && n < room);
        out[n++] = strtoull(line + 7, NULL, 16);
    }
    closedir(tasks);
    return n;
}

/* A signal goes to the program's own threads: SIGINT and SIGTERM, among others, are blocked in the helpers. */
static void helpers_take_no_signals(void)
{
    const joblot_codec *zlib = need_codec("zlib");
    struct sink_state state = {0};
    struct bytes data = make_bytes(TEXT, 100000);
    unsigned long long blocked[16];
    joblot_error err;
    size_t others = blocked_signals(blocked, 16), with = 0;
    skip_if_emulated("the emulator has threads and masks of its own");
    joblot_codec_writer *w = open_writer(zlib, 3, 10000, &state);
    CHECK_OK(joblot_codec_writer_write(w, data.data, data.size, &err));
    size_t n = blocked_signals(blocked, 16);
    for (size_t i = 0; i < n; i++)
        with += (blocked[i] >> (SIGINT - 1) & blocked[i] >> (SIGTERM - 1) & blocked[i] >> (SIGALRM - 1) & 1) != 0;
    CHECK(n >= others + 2 && with >= 2);
    joblot_codec_writer_close(w);
    FREE(data);
}

/* Deflate streams of every kind that zlib makes, whole, are reopened and joined, and read as one. */
static void deflate_streams_are_joined(void)
{
    const joblot_codec *gzip = need_codec("gzip");
    static const size_t sizes[] = {0, 1, 5, 100, 4000, 70000, 300000};
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int level = 0; level <= 9; level++)
            for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
                struct bytes data = make_bytes((enum kind)kind, sizes[k]), back, twice = join_bytes(data, data);
                struct bytes whole = library_pack(gzip, level, data);
                size_t size = whole.size - 18, end = 0; /* without head and tail */
                struct bytes part = copy_bytes(whole.data + 10, size);
                CHECK(joblot__deflate_reopen(part.data, size, &end));
                CHECK(end <= size * 8 && end + 8 > size * 8);
                struct bytes joined = {malloc(10 + 2 * (size + 5) + 10), 10};
                memcpy(joined.data, whole.data, 10);
                for (int i = 0; i < 2; i++) {
                    memcpy(joined.data + joined.size, part.data, size);
                    joined.size += size;
                    if (size * 8 - end < 3)
                        joined.data[joined.size++] = 0;
                    memcpy(joined.data + joined.size, "\0\0\xff\xff", 4);
                    joined.size += 4;
                }
                uint32_t tail[2] = {plain_crc32(twice.data, twice.size), (uint32_t)twice.size};
                memcpy(joined.data + joined.size, "\3\0", 2), joined.size += 2;
                for (int i = 0; i < 8; i++)
                    joined.data[joined.size++] = (unsigned char)(tail[i / 4] >> (8 * (i % 4)));
                back = library_unpack(gzip, joined, twice.size);
                CHECK_BYTES(back, twice);
                FREE(data, back, twice, whole, part, joined);
            }
}

static const struct test_case cases[] = {
    {"blocks_in_flight_are_bounded", blocks_in_flight_are_bounded, 60},
    {"closed_without_an_end", closed_without_an_end, 60},
    {"a_sink_that_fails", a_sink_that_fails, 60},
    {"sources_that_fail", sources_that_fail, 20},
    {"wrong_arguments", wrong_arguments, 20},
    {"threads_are_refused", threads_are_refused, 60},
    {"threads_only_when_needed", threads_only_when_needed, 20},
    {"helpers_take_no_signals", helpers_take_no_signals, 20},
    {"deflate_streams_are_joined", deflate_streams_are_joined, 60},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
