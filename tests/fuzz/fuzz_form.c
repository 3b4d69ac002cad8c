/* fuzz_form.c - binary forms: what is accepted lies in its buffer, is encoded to the same bytes, and can be read,
 * made compact, copied and swapped without leaving the buffer.
 *
 * The first byte of the input is the size of the buffer in units of 16 bytes, the rest is the form. */
#include "base/alloc.h"

#include <joblot/ndarray.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_BYTES = 1 << 16, MOST_ELEMENTS = 4096 };

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "fuzz_form: %s\n", what);
        abort();
    }
}

static void check_encodes(const struct joblot_array *a, uint64_t offset, const uint8_t *form, size_t size)
{
    size_t needed = 0;
    unsigned char *out = malloc(size);
    expect(out != NULL && joblot_array_encode(a, offset, out, size, &needed, NULL) == JOBLOT_OK, "not encoded");
    expect(needed == size && memcmp(out, form, size) == 0, "encoded again it differs");
    free(out);
}

/* Copies the array into the layout in which it would travel, and back. */
static void check_travels(const struct joblot_array *a)
{
    struct joblot_array layout;
    uint64_t offset = 0, size = 0;
    int kept = -1;
    int64_t low = 0, high = 0;
    expect(joblot_array_compact(a, &layout, &offset, &size, &kept, NULL) == JOBLOT_OK, "no layout");
    expect(joblot_array_extent(&layout, &low, &high, NULL) == JOBLOT_OK, "the layout has no extent");
    expect((uint64_t)(high - low) == size && offset == (uint64_t)-low, "the layout does not fill its buffer");
    expect(size <= MOST_BYTES, "larger than the array was");
    unsigned char *memory = calloc(1, size ? (size_t)size : 1);
    expect(memory != NULL, "out of memory");
    layout.data = memory + offset;
    expect(joblot_array_copy(&layout, a, NULL) == JOBLOT_OK, "not copied");
    if (joblot_array_swap(&layout, 0, NULL) == JOBLOT_OK)
        expect(joblot_array_swap(&layout, 0, NULL) == JOBLOT_OK, "swapped once but not twice");
    expect(joblot_array_copy(a, &layout, NULL) == JOBLOT_OK, "not copied back");
    free(memory);
}

/* Elements, as copying takes time for each of them: broadcast axes count once. */
static uint64_t elements(const struct joblot_array *a)
{
    uint64_t n = 1;
    for (int i = 0; i < a->ndim && n <= MOST_ELEMENTS; i++)
        n *= a->strides[i] == 0 || a->shape[i] == 0 ? 1 : (uint64_t)a->shape[i];
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    long before = joblot__alloc_live();
    struct joblot_array a;
    joblot_dtype *dtype = NULL;
    uint64_t offset = 0;
    int64_t low = 0, high = 0;
    joblot_error err = {JOBLOT_OK, 0, ""};
    if (size == 0)
        return 0;
    size_t buffer_size = (size_t)data[0] * 16;
    unsigned char *buffer = malloc(buffer_size ? buffer_size : 1), *copy = malloc(buffer_size ? buffer_size : 1);
    expect(buffer != NULL && copy != NULL, "out of memory");
    for (size_t i = 0; i < buffer_size; i++)
        copy[i] = buffer[i] = (unsigned char)(i % 251);
    joblot_status status = joblot_array_decode(data + 1, size - 1, buffer, buffer_size, &a, &dtype, &offset, &err);
    if (status == JOBLOT_OK) {
        expect(a.dtype == dtype && a.data == buffer + offset, "the array is not at its offset");
        expect(joblot_array_extent(&a, &low, &high, NULL) == JOBLOT_OK, "no extent");
        expect((uint64_t)-low <= offset && offset + (uint64_t)high <= buffer_size, "outside the buffer");
        check_encodes(&a, offset, data + 1, size - 1);
        if (elements(&a) <= MOST_ELEMENTS)
            check_travels(&a);
        expect(memcmp(buffer, copy, buffer_size) == 0, "there and back again it differs");
        joblot_dtype_free(dtype);
    } else {
        expect(dtype == NULL && err.code == status && err.message[0] != 0, "an error that says nothing");
    }
    free(buffer);
    free(copy);
    expect(joblot__alloc_live() == before, "a leak");
    return 0;
}
