/* codec_input.h - what the fuzzing targets of the codecs do: the same input decoded from memory and in small parts gives
 * the same bytes and the same end, within the limits; what says that it went wrong says where. */
#ifndef JOBLOT_TESTS_FUZZ_CODEC_INPUT_H
#define JOBLOT_TESTS_FUZZ_CODEC_INPUT_H

#include "base/alloc.h"

#include <joblot/codec.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OUTPUT = 1 << 16 };

struct fuzz_result {
    joblot_status status;
    size_t size;
    joblot_error err;
};

struct fuzz_source {
    const uint8_t *data;
    size_t size, part;
};

static inline void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "fuzz_codec: %s\n", what);
        abort();
    }
}

static inline joblot_status fuzz_read(void *user, void *out, size_t capacity, size_t *got, joblot_error *err)
{
    struct fuzz_source *s = user;
    size_t n = s->size < s->part ? s->size : s->part;
    (void)err;
    *got = n < capacity ? n : capacity;
    memcpy(out, s->data, *got);
    s->data += *got;
    s->size -= *got;
    return JOBLOT_OK;
}

/* part 0: from memory, in one read; else that many bytes at a time, read in parts that are no multiple of it. */
static inline struct fuzz_result fuzz_decode(const char *name, const uint8_t *data, size_t size, size_t part,
                                             unsigned char *out)
{
    struct joblot_codec_read_options options = {.max_output = MAX_OUTPUT, .max_memory = 1 << 24};
    struct fuzz_source state = {data, size, part};
    struct joblot_codec_source source = {.data = data, .size = size};
    struct fuzz_result result = {.status = JOBLOT_OK};
    joblot_codec_reader *r = NULL;
    if (part > 0)
        source = (struct joblot_codec_source){.read = fuzz_read, .user = &state};
    result.status = joblot_codec_reader_open(joblot_codec_find(name), &source, &options, &r, &result.err);
    for (size_t got = 1; result.status == JOBLOT_OK && got > 0; result.size += got) {
        size_t room = MAX_OUTPUT + 1 - result.size;
        if (part > 0 && room > part * 53 + 1)
            room = part * 53 + 1;
        result.status = joblot_codec_reader_read(r, out + result.size, room, &got, &result.err);
        expect(got <= room, "more than there was room for");
    }
    expect(result.size <= MAX_OUTPUT, "more than is allowed");
    expect(result.status == JOBLOT_OK || result.err.message[0] != 0, "an error that says nothing");
    joblot_codec_reader_close(r);
    return result;
}

static inline void fuzz_codec(const char *name, const uint8_t *data, size_t size)
{
    if (joblot_codec_check(joblot_codec_find(name), NULL) != JOBLOT_OK)
        return; /* a build without this library */
    long before = joblot__alloc_live();
    static unsigned char one[MAX_OUTPUT + 1], other[MAX_OUTPUT + 1];
    struct fuzz_result a = fuzz_decode(name, data, size, 0, one);
    struct fuzz_result b = fuzz_decode(name, data, size, 1 + (size > 0 ? data[size - 1] % 40 : 0), other);
    size_t same = a.size < b.size ? a.size : b.size;
    expect(memcmp(one, other, same) == 0, "the way of reading changes the data");
    expect(a.status == b.status, "the way of reading changes the result");
    expect(a.status != JOBLOT_OK || a.size == b.size, "the way of reading changes the size");
    expect(joblot__alloc_live() == before, "a leak");
}

#endif
