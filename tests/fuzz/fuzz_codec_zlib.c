/* fuzz_codec_zlib.c - zlib input, by ISA-L and by zlib; and the same bytes as data that are written and read again, and as
 * a deflate stream whose last block is looked for. */
#include "codec_input.h"

#include "codec/deflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct output {
    unsigned char *data;
    size_t size, room;
};

static joblot_status keep(void *user, const void *data, size_t size, joblot_error *err)
{
    struct output *o = user;
    (void)err;
    expect(size <= o->room - o->size, "compressed data that are far too large");
    memcpy(o->data + o->size, data, size);
    o->size += size;
    return JOBLOT_OK;
}

/* Levels for which a compressor is small. */
static void there_and_back(const uint8_t *data, size_t size)
{
    static const int levels[] = {1, 4, 6};
    struct joblot_codec_write_options options = {.n_threads = 1};
    options.level = levels[size % 3];
    options.block_size = (uint32_t)(size / (1 + (size > 0 ? data[0] % 4u : 0)) + 1);
    struct output o = {malloc(4 * size + 1000), 0, 4 * size + 1000};
    static unsigned char back[MAX_OUTPUT + 1];
    struct joblot_codec_sink sink = {.write = keep, .user = &o};
    joblot_codec_writer *w = NULL;
    expect(o.data != NULL, "no memory for the test itself");
    expect(joblot_codec_writer_open(joblot_codec_find("zlib"), &options, &sink, &w, NULL) == JOBLOT_OK, "no writer");
    expect(joblot_codec_writer_write(w, data, size, NULL) == JOBLOT_OK, "not written");
    expect(joblot_codec_writer_finish(w, NULL) == JOBLOT_OK, "not finished");
    joblot_codec_writer_close(w);
    for (int plain = 0; plain < 2; plain++) {
        joblot__deflate_plain(plain);
        struct fuzz_result r = fuzz_decode("zlib", o.data, o.size, 0, back);
        expect(r.status == JOBLOT_OK && r.size == size && memcmp(back, data, size) == 0, "not the same again");
    }
    free(o.data);
}

static void reopen(const uint8_t *data, size_t size)
{
    unsigned char *copy = malloc(size + 1);
    size_t end = 0, changed = 0;
    expect(copy != NULL, "no memory for the test itself");
    memcpy(copy, data, size);
    bool done = joblot__deflate_reopen(copy, size, &end);
    for (size_t i = 0; i < size; i++)
        changed += copy[i] != data[i];
    expect(changed == done, "a change where there was nothing to do");
    expect(!done || (end + 7) / 8 == size, "an end that is not the end");
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (joblot_codec_check(joblot_codec_find("zlib"), NULL) != JOBLOT_OK)
        return 0; /* a build without zlib */
    joblot__deflate_plain(false);
    fuzz_codec("zlib", data, size);
    joblot__deflate_plain(true);
    fuzz_codec("zlib", data, size);
    joblot__deflate_plain(false);
    reopen(data, size);
    if (size <= MAX_OUTPUT)
        there_and_back(data, size);
    return 0;
}
