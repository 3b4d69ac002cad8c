/* test_message.c - message bodies: there and back, and what a hostile one can do. */
#define _GNU_SOURCE
#include "base/alloc.h"
#include "pool/message.h"

#include "support/cases.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 40 };

static const struct joblot_arrived *parse(unsigned char *body, size_t size, bool held, struct joblot__buffer *parts,
                                          size_t *n)
{
    joblot_error err;
    CHECK_OK(joblot__body_parse(body, size, held, parts, n, &err));
    return (const struct joblot_arrived *)(const void *)parts->data;
}

static void there_and_back(void)
{
    joblot_error err;
    joblot_segment *segment;
    uint64_t random = 3;
    struct joblot__buffer parsed = {0};
    CHECK_OK(joblot_segment_new(5000, NULL, &segment, &err));
    for (int round = 0; round < 500; round++) {
        struct joblot_part parts[MOST];
        unsigned char bytes[300];
        size_t n = (size_t)(next_random(&random) % MOST), size, back;
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (unsigned char)next_random(&random);
        for (size_t i = 0; i < n; i++) {
            uint64_t r = next_random(&random);
            parts[i] = (struct joblot_part){.data = bytes + r % 40, .size = (r >> 8) % 250};
            if ((r >> 20) % 4 == 0)
                parts[i] = (struct joblot_part){.segment = segment, .offset = r % 4000, .size = (r >> 8) % 1000};
        }
        CHECK_OK(joblot__body_size(parts, n, &size, &err));
        CHECK_EQUAL(size % 8, 0);
        unsigned char *body = malloc(size);
        joblot__body_write(body, parts, n);
        const struct joblot_arrived *out = parse(body, size, false, &parsed, &back);
        CHECK_EQUAL(back, n);
        for (size_t i = 0; i < n; i++) {
            CHECK_EQUAL(out[i].size, parts[i].size);
            if (parts[i].segment != NULL) {
                CHECK(out[i].data == NULL);
                CHECK_EQUAL(out[i].segment, joblot_segment_id(segment));
                CHECK_EQUAL(out[i].offset, parts[i].offset);
                continue;
            }
            CHECK_EQUAL(out[i].segment, 0);
            CHECK(((uintptr_t)out[i].data - (uintptr_t)body) % 8 == 0);
            CHECK(memcmp(out[i].data, parts[i].data, (size_t)parts[i].size) == 0);
        }
        free(body);
    }
    joblot__buffer_clear(&parsed);
    joblot_segment_release(segment);
}

static void held_bodies_carry_addresses(void)
{
    unsigned char body[8 + 2 * 24], byte;
    struct joblot_part parts[] = {{.data = &byte, .size = 1}, {.data = body, .size = UINT64_MAX}};
    struct joblot__buffer parsed = {0};
    size_t n;
    CHECK_EQUAL(joblot__body_held_size(2), sizeof body);
    joblot__body_write_held(body, parts, 2);
    const struct joblot_arrived *out = parse(body, sizeof body, true, &parsed, &n);
    CHECK_EQUAL(n, 2);
    CHECK(out[0].data == NULL && out[1].data == NULL); /* addresses are of another process */
    CHECK(out[0].offset == (uint64_t)(uintptr_t)&byte && out[1].size == UINT64_MAX);
    joblot__buffer_clear(&parsed);
}

static void sizes_that_overflow(void)
{
    joblot_error err;
    size_t size;
    struct joblot_part huge[] = {{.size = UINT64_MAX - 3}}, two[] = {{.size = UINT64_MAX / 2}, {.size = UINT64_MAX / 2}};
    CHECK_STATUS(joblot__body_size(huge, 1, &size, &err), JOBLOT_LIMIT);
    CHECK_STATUS(joblot__body_size(two, 2, &size, &err), JOBLOT_LIMIT);
    CHECK_STATUS(joblot__body_size(two, JOBLOT_MAX_PARTS + 1, &size, &err), JOBLOT_LIMIT);
    CHECK_CONTAINS(err.message, "65537");
}

static unsigned char *one_part(uint32_t n, uint64_t size, uint64_t offset, uint32_t segment)
{
    unsigned char *body = calloc(1, 8 + 24 + 16);
    joblot__store_le32(body, n);
    joblot__store_le64(body + 8, size);
    joblot__store_le64(body + 16, offset);
    joblot__store_le32(body + 24, segment);
    return body;
}

static void hostile_bodies_are_refused(void)
{
    static const struct {
        uint32_t n;
        uint64_t size, offset;
        joblot_status status;
    } hostile[] = {
        {1, 16, 32, JOBLOT_OK},        {1, 17, 32, JOBLOT_FORMAT},         {1, 0, 48, JOBLOT_OK},
        {1, 0, 49, JOBLOT_FORMAT},     {1, UINT64_MAX, 32, JOBLOT_FORMAT}, {1, 16, UINT64_MAX, JOBLOT_FORMAT},
        {2, 0, 0, JOBLOT_FORMAT},      {UINT32_MAX, 0, 0, JOBLOT_FORMAT},  {0x80000000u, 0, 0, JOBLOT_FORMAT},
        {1, UINT64_MAX - 31, 32, JOBLOT_FORMAT},
    };
    joblot_error err;
    struct joblot__buffer parsed = {0};
    size_t n;
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        unsigned char *body = one_part(hostile[i].n, hostile[i].size, hostile[i].offset, 0);
        CHECK_STATUS(joblot__body_parse(body, 48, false, &parsed, &n, &err), hostile[i].status);
        free(body);
    }
    for (size_t size = 0; size < 32; size++) { /* cut anywhere */
        unsigned char *body = one_part(1, 0, 0, 0), *cut = malloc(size ? size : 1);
        memcpy(cut, body, size);
        joblot_status status = joblot__body_parse(cut, size, false, &parsed, &n, &err);
        CHECK(status == JOBLOT_FORMAT || status == JOBLOT_TRUNCATED);
        free(cut);
        free(body);
    }
    joblot__buffer_clear(&parsed);
}

static void random_bodies_never_leave_the_message(void)
{
    uint64_t random = 8;
    struct joblot__buffer parsed = {0};
    for (int round = 0; round < 200000; round++) {
        unsigned char body[120];
        size_t size = (size_t)(next_random(&random) % sizeof body), n = 0;
        for (size_t i = 0; i < size; i++)
            body[i] = next_random(&random) % 3 ? 0 : (unsigned char)next_random(&random);
        if (size > 0)
            body[0] = (unsigned char)(next_random(&random) % 5);
        if (joblot__body_parse(body, size, false, &parsed, &n, NULL) != JOBLOT_OK)
            continue;
        const struct joblot_arrived *out = (const struct joblot_arrived *)(const void *)parsed.data;
        for (size_t i = 0; i < n; i++) {
            const unsigned char *at = out[i].data;
            CHECK(out[i].segment != 0 || (at >= body && at + out[i].size <= body + size));
        }
    }
    joblot__buffer_clear(&parsed);
}

static void no_memory_for_the_parts(void)
{
    joblot_error err;
    struct joblot__buffer parsed = {0};
    size_t n;
    unsigned char *body = one_part(1, 16, 32, 0);
    joblot__alloc_fail_at(1, false);
    CHECK_STATUS(joblot__body_parse(body, 48, false, &parsed, &n, &err), JOBLOT_NOMEM);
    joblot__alloc_fail_at(0, false);
    joblot__buffer_clear(&parsed);
    free(body);
}

static const struct test_case cases[] = {
    {"there_and_back", there_and_back, 20},
    {"held_bodies_carry_addresses", held_bodies_carry_addresses, 10},
    {"sizes_that_overflow", sizes_that_overflow, 10},
    {"hostile_bodies_are_refused", hostile_bodies_are_refused, 10},
    {"random_bodies_never_leave_the_message", random_bodies_never_leave_the_message, 30},
    {"no_memory_for_the_parts", no_memory_for_the_parts, 10},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
