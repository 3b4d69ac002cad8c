/* fuzz_codec_parts.c - zstd files with a seek table: parts, read from memory and by a callback, are the same. */
#include "codec_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct file {
    const uint8_t *data;
    size_t size;
};

static joblot_status read_at(void *user, uint64_t offset, void *out, size_t size, joblot_error *err)
{
    const struct file *f = user;
    (void)err;
    expect(offset <= f->size && size <= f->size - offset, "a read outside the file");
    memcpy(out, f->data + offset, size);
    return JOBLOT_OK;
}

static joblot_status read_part(const struct joblot_codec_random *source, size_t divide, unsigned char *out, size_t *got)
{
    joblot_codec_seekable *s = NULL;
    joblot_error err = {JOBLOT_OK, 0, ""};
    joblot_status status = joblot_codec_seekable_open(source, 1 << 24, &s, &err);
    *got = 0;
    if (status == JOBLOT_OK) {
        uint64_t all = joblot_codec_seekable_size(s), from = all / divide, n = (all - from) / divide;
        *got = (size_t)(n < MAX_OUTPUT ? n : MAX_OUTPUT);
        status = joblot_codec_seekable_read(s, from, out, *got, 1, &err);
    }
    expect(status == JOBLOT_OK || err.message[0] != 0, "an error that says nothing");
    joblot_codec_seekable_close(s);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (joblot_codec_check(joblot_codec_find("zstd"), NULL) != JOBLOT_OK)
        return 0; /* a build without libzstd */
    long before = joblot__alloc_live();
    static unsigned char one[MAX_OUTPUT], other[MAX_OUTPUT];
    struct file file = {data, size};
    struct joblot_codec_random memory = {.data = data, .size = size}, callback = {.size = size, .read_at = read_at};
    callback.user = &file;
    for (size_t divide = 1; divide <= 3; divide += 2) {
        size_t n_one = 0, n_other = 0;
        joblot_status a = read_part(&memory, divide, one, &n_one), b = read_part(&callback, divide, other, &n_other);
        expect(a == b && n_one == n_other, "the way of reading changes the result");
        expect(a != JOBLOT_OK || memcmp(one, other, n_one) == 0, "the way of reading changes the data");
    }
    expect(joblot__alloc_live() == before, "a leak");
    return 0;
}
