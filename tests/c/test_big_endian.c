/* test_big_endian.c - a parent drives workers that were exec'd: of its own byte order, and, where JOBLOT_BE_WORKER names
 * the command of an emulated one (words between spaces), of the other.
 *
 * `make s390x` builds be_worker for s390x, and runs this program of the machine's own build with
 * JOBLOT_BE_WORKER="qemu-s390x-static -L SYSROOT .../be_worker". */
#define _GNU_SOURCE
#include "support/pools.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BE_SUM, BE_ECHO, BE_LARGE, BE_KILL, BE_ORDER };

static char self[4096];

/* The server's command: the emulated one, or be_worker beside this program. */
static joblot_pool *open_exec_pool(bool emulated)
{
    static char words[4096];
    static const char *argv[16];
    const char *command = getenv("JOBLOT_BE_WORKER");
    size_t n = 0;
    joblot_error err;
    joblot_pool *pool;
    if (emulated && (command == NULL || command[0] == '\0'))
        skip_case("JOBLOT_BE_WORKER names no emulated worker: make s390x builds one");
    (void)snprintf(words, sizeof words, "%s", emulated ? command : self);
    for (char *save = NULL, *word = strtok_r(words, " ", &save); word != NULL && n < 15; word = strtok_r(NULL, " ", &save))
        argv[n++] = word;
    argv[n] = NULL;
    struct joblot_pool_options options = {.server_argv = argv};
    CHECK_OK(joblot_pool_open(&options, &pool, &err));
    return pool;
}

static void check_order(joblot_pool *pool, bool emulated)
{
    struct outcome one;
    uint32_t native = 1;
    unsigned char ours;
    joblot_call *call = open_call(pool, 1, 0);
    submit(call, BE_ORDER, NULL, 0);
    (void)take_one(call, &one);
    CHECK_EQUAL(one.size, 1);
    memcpy(&ours, &native, 1);
    CHECK_EQUAL(one.data[0], emulated ? !ours : ours);
    joblot_call_close(call);
}

static void big_endian_array(joblot_pool *pool)
{
    enum { ROWS = 200000, N = 3 * ROWS };
    joblot_error err;
    joblot_segment *segment;
    unsigned char *data = malloc(4 * N);
    struct outcome out[6] = {{0}};
    int64_t sums[2] = {0, 0}, seen;
    for (int32_t i = 0; i < N; i++) {
        int32_t v = (i - N / 2) * 977;
        for (int k = 0; k < 4; k++)
            data[4 * i + k] = (unsigned char)((uint32_t)v >> (24 - 8 * k));
        sums[0] += v;
        sums[1] += i >= 1000 ? v : 0;
    }
    CHECK_OK(joblot_segment_new(4 * N, NULL, &segment, &err));
    CHECK_OK(joblot_segment_write(segment, 0, data, 4 * N, &err));
    joblot_call *call = open_call(pool, 2, 0);
    for (int i = 0; i < 6; i++) {
        uint64_t offset = i % 2 ? 4000 : 0; /* inside a page, as well */
        struct joblot_part part = {.segment = segment, .offset = offset, .size = 4 * N - offset};
        submit(call, BE_SUM, &part, 1);
    }
    CHECK_EQUAL(drive(call, out, 6), 6);
    for (int i = 0; i < 6; i++) {
        CHECK_EQUAL(out[i].size, 8);
        seen = 0;
        for (int k = 0; k < 8; k++)
            seen = (int64_t)((uint64_t)seen << 8 | out[i].data[k]);
        CHECK_EQUAL(seen, sums[i % 2]);
    }
    joblot_call_close(call);
    joblot_segment_release(segment);
    free(data);
}

static void bytes_of_all_sizes(joblot_pool *pool)
{
    static const size_t sizes[] = {0, 1, 7, 8, 1000, 60000, 70000, 300000};
    struct outcome out[64] = {{0}};
    unsigned char *data = malloc(300000);
    joblot_call *call = open_call(pool, 2, 0);
    for (size_t i = 0; i < 64; i++) { /* from 70000 on there by a segment; back by the ring, or held */
        struct joblot_part part = {.data = data, .size = sizes[i % 8]};
        fill_pattern(data, sizes[i % 8], i);
        submit(call, BE_ECHO, &part, 1);
    }
    CHECK_EQUAL(drive(call, out, 64), 64);
    for (size_t i = 0; i < 64; i++) {
        CHECK_EQUAL(out[i].status, JOBLOT_OK);
        CHECK_EQUAL(out[i].size, sizes[i % 8]);
        check_pattern(out[i].data, out[i].size, i);
    }
    joblot_call_close(call);
    free(data);
}

/* Memory of an emulated process cannot be read at the addresses that it knows: the cookie shows it, and the answer is
 * copied through a segment. */
static void large_answers(joblot_pool *pool)
{
    struct outcome out[4] = {{0}};
    joblot_call *call = open_call(pool, 2, 0);
    for (unsigned i = 0; i < 4; i++) {
        unsigned char size[8] = {0x40, (unsigned char)(0x42 + i), 0x1f, 0, 0, 0, 0, 0}; /* about 2 MB */
        struct joblot_part part = {.data = size, .size = 8};
        submit(call, BE_LARGE, &part, 1);
    }
    CHECK_EQUAL(drive(call, out, 4), 4);
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQUAL(out[i].size, 0x1f4240 + 256 * i);
        for (size_t k = 0; k < out[i].size; k++)
            if (out[i].data[k] != k % 251)
                fail_case(__FILE__, __LINE__, "byte %zu is %u", k, out[i].data[k]);
    }
    joblot_call_close(call);
}

static void deaths(joblot_pool *pool)
{
    char first[5000], second[5000];
    struct outcome out[3] = {{0}};
    unsigned char few_le[8] = {2}, many_le[8] = {9};
    joblot_call *call = open_call(pool, 2, 2);
    (void)snprintf(first, sizeof first, "%s/first", scratch_folder());
    (void)snprintf(second, sizeof second, "%s/second", scratch_folder());
    struct joblot_part a[] = {{.data = few_le, .size = 8}, {.data = first, .size = strlen(first) + 1}};
    struct joblot_part b[] = {{.data = many_le, .size = 8}, {.data = second, .size = strlen(second) + 1}};
    struct joblot_part c = {.data = "kept", .size = 5};
    submit(call, BE_KILL, a, 2);
    submit(call, BE_KILL, b, 2);
    submit(call, BE_ECHO, &c, 1);
    CHECK_EQUAL(drive(call, out, 3), 3);
    CHECK(out[0].kind == JOBLOT_EVENT_RESULT && strcmp((char *)out[0].data, "lived") == 0);
    CHECK_EQUAL(out[1].kind, JOBLOT_EVENT_DIED);
    CHECK_EQUAL(out[1].death.attempts, 3);
    CHECK_EQUAL(out[1].death.signal, SIGKILL);
    CHECK(strcmp((char *)out[2].data, "kept") == 0);
    joblot_call_close(call);
}

static void everything(bool emulated)
{
    joblot_pool *pool = open_exec_pool(emulated);
    check_order(pool, emulated);
    big_endian_array(pool);
    bytes_of_all_sizes(pool);
    large_answers(pool);
    deaths(pool);
    joblot_pool_close(pool, 2000000000);
}

static void workers_of_the_same_order(void) { everything(false); }
static void workers_of_the_other_order(void) { everything(true); }

static const struct test_case cases[] = {
    {"workers_of_the_same_order", workers_of_the_same_order, 60},
    {"workers_of_the_other_order", workers_of_the_other_order, 120},
};

int main(int argc, char **argv)
{
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 20);
    char *slash = n > 0 ? strrchr(self, '/') : NULL;
    if (slash == NULL)
        return 2;
    memcpy(slash, "/be_worker", 11);
    return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv);
}
