/* fuzz_descr.c - descr text: what is read is printed, read again as the same, and swapped twice is itself. */
#include "base/alloc.h"

#include <joblot/ndarray.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "fuzz_descr: %s\n", what);
        abort();
    }
}

/* Fields in order and inside their struct; sizes that add up. */
static void check_tree(const joblot_dtype *d)
{
    uint64_t end = 0, bytes;
    int64_t shape[JOBLOT_MAX_NDIM];
    const joblot_dtype *part = NULL;
    for (size_t i = 0; i < joblot_dtype_field_count(d); i++) {
        const char *name = NULL;
        uint64_t offset = 0;
        expect(joblot_dtype_field(d, i, &name, &part, &offset, NULL) == JOBLOT_OK, "a field is not there");
        expect(name != NULL && offset >= end, "fields overlap");
        end = offset + joblot_dtype_itemsize(part);
        expect(joblot_dtype_has_object(d) >= joblot_dtype_has_object(part), "an object is forgotten");
        check_tree(part);
    }
    expect(end <= joblot_dtype_itemsize(d), "a field outside its struct");
    int ndim = joblot_dtype_subarray(d, &part, shape);
    if (ndim == 0)
        return;
    bytes = joblot_dtype_itemsize(part);
    for (int i = 0; i < ndim; i++)
        bytes *= (uint64_t)shape[i];
    expect(bytes == joblot_dtype_itemsize(d), "the size of a sub-array is wrong");
    check_tree(part);
}

static void check_prints(const joblot_dtype *d)
{
    size_t needed = 0, again_needed = 0;
    joblot_dtype *again = NULL, *swapped = NULL, *back = NULL;
    expect(joblot_dtype_format(d, NULL, 0, &needed, NULL) == JOBLOT_LIMIT, "no room was enough");
    char *text = malloc(needed);
    expect(text != NULL && joblot_dtype_format(d, text, needed, NULL, NULL) == JOBLOT_OK, "not printed");
    expect(strlen(text) + 1 == needed, "a zero in the text");
    expect(joblot_dtype_parse(text, needed - 1, &again, NULL) == JOBLOT_OK, "what was printed is not read");
    expect(joblot_dtype_equal(d, again), "what was printed is read as something else");
    expect(joblot_dtype_format(again, text, needed, &again_needed, NULL) == JOBLOT_OK && again_needed == needed,
           "printed twice it differs");
    expect(joblot_dtype_swapped(d, 0, &swapped, NULL) == JOBLOT_OK, "not swapped");
    expect(joblot_dtype_swapped(swapped, 0, &back, NULL) == JOBLOT_OK, "not swapped back");
    expect(joblot_dtype_equal(d, back), "swapped twice it differs");
    joblot_dtype_free(again);
    joblot_dtype_free(swapped);
    joblot_dtype_free(back);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    long before = joblot__alloc_live();
    joblot_dtype *d = NULL;
    joblot_error err = {JOBLOT_OK, 0, ""};
    joblot_status status = joblot_dtype_parse((const char *)data, size, &d, &err);
    if (status == JOBLOT_OK) {
        check_tree(d);
        check_prints(d);
        joblot_dtype_free(d);
    } else {
        expect(d == NULL && err.code == status && err.message[0] != 0, "an error that says nothing");
    }
    expect(joblot__alloc_live() == before, "a leak");
    return 0;
}
