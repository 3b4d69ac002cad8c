/* test_ndarray_layout.c - src/ndarray: extents, compaction, copies, byte swaps and the binary form. */
#include "base/alloc.h"

#include <joblot/ndarray.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int remember(void **state)
{
    static long before;
    joblot__alloc_fail_at(0, false);
    before = joblot__alloc_live();
    *state = &before;
    return 0;
}

static int no_leak(void **state)
{
    joblot__alloc_fail_at(0, false);
    assert_int_equal(joblot__alloc_live(), *(long *)*state);
    return 0;
}

static joblot_dtype *parse(const char *text)
{
    joblot_dtype *d = NULL;
    joblot_error err = {.message = ""};
    if (joblot_dtype_parse(text, strlen(text), &d, &err) != JOBLOT_OK)
        fail_msg("%s: %s", text, err.message);
    return d;
}

/* shape and strides of `ndim` numbers each. */
static struct joblot_array make(uint64_t itemsize, int ndim, const int64_t *shape, const int64_t *strides)
{
    struct joblot_array a = {.itemsize = itemsize, .ndim = ndim};
    for (int i = 0; i < ndim; i++) {
        a.shape[i] = shape[i];
        a.strides[i] = strides[i];
    }
    return a;
}

#define AXES(...) ((const int64_t[]){__VA_ARGS__})

/* The same small pseudo-random numbers on every run. */
static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 16;
}

/* --- extent and compaction --------------------------------------------------------------------------------- */

static void check_extent(struct joblot_array a, int64_t low, int64_t high)
{
    int64_t l = -1, h = -1;
    assert_int_equal(joblot_array_extent(&a, &l, &h, NULL), JOBLOT_OK);
    assert_int_equal(l, low);
    assert_int_equal(h, high);
}

static void extents(void **state)
{
    (void)state;
    check_extent(make(4, 0, NULL, NULL), 0, 4);
    check_extent(make(8, 2, AXES(2, 3), AXES(24, 8)), 0, 48);
    check_extent(make(8, 2, AXES(2, 3), AXES(-24, 8)), -24, 24);
    check_extent(make(8, 2, AXES(2, 3), AXES(-24, -8)), -40, 8);
    check_extent(make(8, 2, AXES(1000, 3), AXES(0, 8)), 0, 24);
    check_extent(make(8, 2, AXES(1, 3), AXES(INT64_MIN, 8)), 0, 24);
    check_extent(make(8, 2, AXES(0, 3), AXES(INT64_MIN, INT64_MAX)), 0, 0);
    check_extent(make(0, 1, AXES(7), AXES(100)), 0, 0);
    check_extent(make(1, 1, AXES(INT64_MAX), AXES(0)), 0, 1);
    check_extent(make(1, 1, AXES(INT64_MAX), AXES(1)), 0, INT64_MAX);
}

static void check_no_extent(struct joblot_array a, joblot_status status)
{
    int64_t low = 7, high = 7;
    uint64_t offset, size;
    int kept;
    struct joblot_array layout;
    joblot_error err = {.message = ""};
    assert_int_equal(joblot_array_extent(&a, &low, &high, &err), status);
    assert_true(err.message[0] != 0 && low == 7 && high == 7);
    assert_int_equal(joblot_array_compact(&a, &layout, &offset, &size, &kept, NULL), status);
    assert_int_equal(joblot_array_encode(&a, 0, NULL, 0, NULL, NULL), status);
}

static void hostile_layouts(void **state)
{
    (void)state;
    struct joblot_array a = make(4, 0, NULL, NULL);
    a.ndim = -1;
    check_no_extent(a, JOBLOT_INVALID);
    a.ndim = JOBLOT_MAX_NDIM + 1;
    check_no_extent(a, JOBLOT_INVALID);
    check_no_extent(make(4, 1, AXES(-1), AXES(4)), JOBLOT_INVALID);
    check_no_extent(make(4, 2, AXES(0, -3), AXES(4, 4)), JOBLOT_INVALID);
    check_no_extent(make(UINT64_MAX, 0, NULL, NULL), JOBLOT_LIMIT);
    check_no_extent(make((uint64_t)1 << 63, 0, NULL, NULL), JOBLOT_LIMIT);
    check_no_extent(make(1, 2, AXES(INT64_MAX, 2), AXES(0, 0)), JOBLOT_LIMIT);
    check_no_extent(make(8, 3, AXES(0, INT64_MAX, 2), AXES(0, 0, 0)), JOBLOT_LIMIT);
    check_no_extent(make(2, 1, AXES(INT64_MAX), AXES(0)), JOBLOT_LIMIT);
    check_no_extent(make(1, 1, AXES(3), AXES(INT64_MAX)), JOBLOT_LIMIT);
    check_no_extent(make(1, 1, AXES(2), AXES(INT64_MAX)), JOBLOT_LIMIT);
    check_no_extent(make(1, 1, AXES(2), AXES(INT64_MIN)), JOBLOT_LIMIT);
    check_no_extent(make(1, 1, AXES(3), AXES(INT64_MIN)), JOBLOT_LIMIT);
    check_no_extent(make(1, 2, AXES(2, 2), AXES(INT64_MAX - 1, 1)), JOBLOT_LIMIT);
    check_no_extent(make(1, 2, AXES(2, 2), AXES(INT64_MAX - 1, -2)), JOBLOT_LIMIT);
}

static void check_compact(struct joblot_array a, const int64_t *strides, uint64_t offset, uint64_t size, int kept)
{
    struct joblot_array layout;
    uint64_t o = 99, s = 99;
    int k = 99;
    a.data = (unsigned char *)"";
    assert_int_equal(joblot_array_compact(&a, &layout, &o, &s, &k, NULL), JOBLOT_OK);
    assert_null(layout.data);
    assert_int_equal(layout.ndim, a.ndim);
    assert_int_equal(layout.itemsize, a.itemsize);
    for (int i = 0; i < a.ndim; i++) {
        assert_int_equal(layout.shape[i], a.shape[i]);
        assert_int_equal(layout.strides[i], strides[i]);
    }
    assert_int_equal(o, offset);
    assert_int_equal(s, size);
    assert_int_equal(k, kept);
}

static void compaction(void **state)
{
    (void)state;
    check_compact(make(4, 0, NULL, NULL), AXES(0), 0, 4, 1);
    check_compact(make(4, 2, AXES(2, 3), AXES(12, 4)), AXES(12, 4), 0, 24, 1);
    check_compact(make(4, 2, AXES(2, 3), AXES(4, 8)), AXES(4, 8), 0, 24, 1);
    check_compact(make(4, 1, AXES(10), AXES(-4)), AXES(-4), 36, 40, 1);
    /* twice the elements, to the byte, is kept; one more is not */
    check_compact(make(4, 1, AXES(2), AXES(12)), AXES(12), 0, 16, 1);
    check_compact(make(4, 1, AXES(2), AXES(13)), AXES(4), 0, 8, 0);
    check_compact(make(4, 1, AXES(10), AXES(8)), AXES(8), 0, 76, 1);
    check_compact(make(4, 1, AXES(10), AXES(9)), AXES(4), 0, 40, 0);
    check_compact(make(4, 1, AXES(10), AXES(-9)), AXES(-4), 36, 40, 0);
    /* a column of a table, its two axes swapped, and with a broadcast axis between */
    check_compact(make(8, 2, AXES(100, 3), AXES(1000, 8)), AXES(24, 8), 0, 2400, 0);
    check_compact(make(8, 2, AXES(3, 100), AXES(8, 1000)), AXES(8, 24), 0, 2400, 0);
    check_compact(make(8, 3, AXES(3, 50, 100), AXES(-8, 0, -1000)), AXES(-8, 0, -24), 16 + 99 * 24, 2400, 0);
    check_compact(make(8, 2, AXES(1000000, 4), AXES(0, 8)), AXES(0, 8), 0, 32, 1);
    check_compact(make(8, 2, AXES(1000000, 4), AXES(0, 80)), AXES(0, 8), 0, 32, 0);
    check_compact(make(8, 1, AXES(5), AXES(0)), AXES(0), 0, 8, 1);
    /* axes of one element: their stride means nothing, but has its place in the order */
    check_compact(make(8, 2, AXES(1, 4), AXES(-123456, 8)), AXES(-123456, 8), 0, 32, 1);
    check_compact(make(8, 3, AXES(4, 1, 4), AXES(8000, 80, 8)), AXES(32, 32, 8), 0, 128, 0);
    check_compact(make(8, 2, AXES(1, 4), AXES(INT64_MIN, 80)), AXES(-32, 8), 0, 32, 0);
    /* sliding windows: kept where that is smaller, laid out where a table would come along */
    check_compact(make(8, 2, AXES(100, 10), AXES(8, 8)), AXES(8, 8), 0, 109 * 8, 1);
    check_compact(make(8, 2, AXES(100, 3), AXES(800, 800)), AXES(24, 8), 0, 2400, 0);
    /* nothing in it */
    check_compact(make(8, 2, AXES(0, 4), AXES(800, -80)), AXES(800, -80), 0, 0, 1);
    check_compact(make(0, 2, AXES(3, 4), AXES(800, -80)), AXES(800, -80), 0, 0, 1);
}

/* --- copies ------------------------------------------------------------------------------------------------ */

enum { ARENA = 1 << 17 };

/* Element by element, by the definition. */
static void copy_plainly(const struct joblot_array *dst, const struct joblot_array *src)
{
    int64_t at[JOBLOT_MAX_NDIM] = {0};
    for (int i = 0; i < src->ndim; i++) {
        if (src->shape[i] == 0)
            return;
    }
    for (;;) {
        int64_t to = 0, from = 0;
        for (int i = 0; i < src->ndim; i++) {
            to += at[i] * dst->strides[i];
            from += at[i] * src->strides[i];
        }
        memcpy(dst->data + to, src->data + from, (size_t)src->itemsize);
        int i = src->ndim - 1;
        for (; i >= 0 && ++at[i] == src->shape[i]; i--)
            at[i] = 0;
        if (i < 0)
            return;
    }
}

/* Strides for a random order of axes with random gaps and signs; a stride of 0 here and there where allowed. */
static void random_layout(struct joblot_array *a, unsigned char *arena, uint32_t *seed, bool broadcast,
                          uint32_t gap)
{
    int order[JOBLOT_MAX_NDIM];
    int64_t next = (int64_t)a->itemsize, low, high;
    for (int i = 0; i < a->ndim; i++) {
        int k = (int)(next_random(seed) % (uint32_t)(i + 1));
        order[i] = order[k];
        order[k] = i;
    }
    for (int i = 0; i < a->ndim; i++) {
        int axis = order[i];
        if (next_random(seed) % 3 == 0)
            next += next_random(seed) % gap;
        a->strides[axis] = next_random(seed) % 4 == 0 ? -next : next;
        if (broadcast && next_random(seed) % 6 == 0)
            a->strides[axis] = 0;
        else if (a->shape[axis] > 0)
            next *= a->shape[axis];
    }
    assert_int_equal(joblot_array_extent(a, &low, &high, NULL), JOBLOT_OK);
    assert_true(high - low <= ARENA);
    a->data = arena - low;
}

static void random_copies(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 3, 4, 8, 12, 16, 24};
    unsigned char *from = malloc(ARENA), *to = malloc(ARENA), *expected = malloc(ARENA);
    uint32_t seed = 1;
    assert_true(from && to && expected);
    for (int i = 0; i < ARENA; i++)
        from[i] = (unsigned char)(i % 251);
    for (int round = 0; round < 4000; round++) {
        struct joblot_array src = {.itemsize = (uint64_t)sizes[next_random(&seed) % 8]}, dst;
        src.ndim = (int)(next_random(&seed) % 5);
        for (int i = 0; i < src.ndim; i++)
            src.shape[i] = next_random(&seed) % 40 == 0 ? 0 : src.ndim > 2 ? 1 + next_random(&seed) % 4
                                                                           : 1 + next_random(&seed) % 40;
        dst = src;
        random_layout(&src, from, &seed, true, 5);
        random_layout(&dst, to, &seed, false, 5);
        memset(to, 0xEE, ARENA);
        copy_plainly(&dst, &src);
        memcpy(expected, to, ARENA);
        memset(to, 0xEE, ARENA);
        assert_int_equal(joblot_array_copy(&dst, &src, NULL), JOBLOT_OK);
        assert_memory_equal(to, expected, ARENA);
    }
    free(from);
    free(to);
    free(expected);
}

/* A random view is compacted, copied there and back, and nothing but its elements is written. */
static void random_compactions(void **state)
{
    (void)state;
    unsigned char *from = malloc(ARENA), *back = malloc(ARENA), *travel = malloc(ARENA + 1);
    uint32_t seed = 2;
    int compacted = 0;
    assert_true(from && back && travel);
    for (int i = 0; i < ARENA; i++)
        from[i] = (unsigned char)(i % 251);
    for (int round = 0; round < 2000; round++) {
        struct joblot_array src = {.itemsize = 1 + next_random(&seed) % 9}, layout, again;
        uint64_t offset, size;
        int kept;
        src.ndim = (int)(next_random(&seed) % 5);
        for (int i = 0; i < src.ndim; i++)
            src.shape[i] = 1 + next_random(&seed) % 5;
        random_layout(&src, from, &seed, true, 60);
        assert_int_equal(joblot_array_compact(&src, &layout, &offset, &size, &kept, NULL), JOBLOT_OK);
        assert_true(size <= ARENA);
        compacted += !kept;
        memset(travel, 0xFE, ARENA + 1);
        layout.data = travel + offset;
        assert_int_equal(joblot_array_copy(&layout, &src, NULL), JOBLOT_OK);
        for (uint64_t i = 0; !kept && i < size; i++)
            assert_int_not_equal(travel[i], 0xFE); /* no gap is left; no element has this byte */
        assert_int_equal(travel[size], 0xFE);
        again = src;
        again.data = back + (src.data - from);
        memcpy(back, from, ARENA);
        assert_int_equal(joblot_array_copy(&again, &layout, NULL), JOBLOT_OK);
        assert_memory_equal(back, from, ARENA);
    }
    assert_true(compacted > 100);
    free(from);
    free(back);
    free(travel);
}

static void copies_that_are_refused(void **state)
{
    (void)state;
    unsigned char memory[64] = {0};
    struct joblot_array a = make(4, 1, AXES(4), AXES(4)), b = a;
    joblot_error err;
    assert_int_equal(joblot_array_copy(&a, &b, &err), JOBLOT_INVALID);
    assert_non_null(strstr(err.message, "no memory"));
    a.data = memory;
    b.data = memory + 32;
    assert_int_equal(joblot_array_copy(&a, &b, NULL), JOBLOT_OK);
    b.shape[0] = 3;
    assert_int_equal(joblot_array_copy(&a, &b, &err), JOBLOT_INVALID);
    assert_non_null(strstr(err.message, "axis 0"));
    b.shape[0] = 4;
    a.strides[0] = 0;
    assert_int_equal(joblot_array_copy(&a, &b, &err), JOBLOT_INVALID);
    assert_non_null(strstr(err.message, "stride 0"));
    a.strides[0] = INT64_MIN;
    assert_int_equal(joblot_array_copy(&a, &b, NULL), JOBLOT_LIMIT);
    a = b;
    a.itemsize = 8;
    assert_int_equal(joblot_array_copy(&a, &b, NULL), JOBLOT_INVALID);
    a = b;
    a.ndim = 0;
    assert_int_equal(joblot_array_copy(&a, &b, NULL), JOBLOT_INVALID);
    a = b = make(4, 1, AXES(0), AXES(4));
    assert_int_equal(joblot_array_copy(&a, &b, NULL), JOBLOT_OK);
}

/* --- byte swaps -------------------------------------------------------------------------------------------- */

static void reverse(unsigned char *p, size_t size)
{
    for (size_t i = 0; i < size / 2; i++) {
        unsigned char first = p[i];
        p[i] = p[size - 1 - i];
        p[size - 1 - i] = first;
    }
}

/* One element, by the definition, through the public functions only. */
static void swap_plainly(const joblot_dtype *d, unsigned char *p, char only)
{
    const joblot_dtype *part = NULL;
    uint64_t offset, size = joblot_dtype_itemsize(d);
    char kind = joblot_dtype_kind(d), order = joblot_dtype_byteorder(d);
    if (joblot_dtype_subarray(d, &part, NULL) > 0) {
        for (offset = 0; offset < size; offset += joblot_dtype_itemsize(part))
            swap_plainly(part, p + offset, only);
    }
    for (size_t i = 0; i < joblot_dtype_field_count(d); i++) {
        assert_int_equal(joblot_dtype_field(d, i, NULL, &part, &offset, NULL), JOBLOT_OK);
        swap_plainly(part, p + offset, only);
    }
    if (order == '|' || (only != 0 && only != order))
        return;
    uint64_t unit = kind == 'U' ? 4 : kind == 'c' ? size / 2 : size;
    for (offset = 0; offset < size; offset += unit)
        reverse(p + offset, (size_t)unit);
}

static const char *const swappable[] = {
    "'|b1'", "'|i1'", "'<i2'", "'>u4'", "'<i8'", "'<f2'", "'>f4'", "'<f8'", "'>f12'", "'<f16'", "'>c8'", "'<c16'",
    "'<c24'", "'>c32'", "'<M8[ns]'", "'>m8'", "'|S5'", "'>U1'", "'<U3'", "'|V6'", "[('', '|V3')]",
    "[('a', '>i4'), ('', '|V1'), ('b', '<f8'), ('c', '|S3'), ('d', '>U2')]",
    "[('a', [('b', '<c16', (2,)), ('c', [('d', '>u2'), ('e', '<u2')], (2, 3))], (2,)), ('f', '>f16')]",
    "('<i4', (2, 3))", "(('>c8', (2,)), (3,))", "[('z', '<i4', (0,)), ('y', '<U0'), ('x', '>i2')]",
};

static void check_swap(const char *descr, int ndim, const int64_t *shape, char only, uint32_t *seed)
{
    unsigned char *memory = malloc(ARENA), *expected = malloc(ARENA), *start = malloc(ARENA);
    struct joblot_array a = {.ndim = ndim};
    joblot_dtype *d = parse(descr), *dense = NULL;
    assert_true(memory && expected && start);
    a.dtype = d;
    a.itemsize = joblot_dtype_itemsize(d);
    if (ndim > 0)
        memcpy(a.shape, shape, (size_t)ndim * sizeof *shape);
    random_layout(&a, memory, seed, true, 9);
    for (int i = 0; i < ARENA; i++)
        start[i] = memory[i] = (unsigned char)(i % 251);
    memcpy(expected, memory, ARENA);
    /* each distinct element once: broadcast axes have one */
    int64_t at[JOBLOT_MAX_NDIM] = {0};
    for (int i = 0; i >= 0;) {
        int64_t to = 0;
        for (int k = 0; k < ndim; k++)
            to += at[k] * a.strides[k];
        swap_plainly(d, expected + (a.data - memory) + to, only);
        for (i = ndim - 1; i >= 0 && ++at[i] >= (a.strides[i] == 0 ? 1 : shape[i]); i--)
            at[i] = 0;
    }
    assert_int_equal(joblot_array_swap(&a, only, NULL), JOBLOT_OK);
    assert_memory_equal(memory, expected, ARENA);
    assert_int_equal(joblot_dtype_swapped(d, only, &dense, NULL), JOBLOT_OK);
    if (only == 0) { /* and back, as the swapped dtype says */
        a.dtype = dense;
        assert_int_equal(joblot_array_swap(&a, 0, NULL), JOBLOT_OK);
        assert_memory_equal(memory, start, ARENA);
    }
    joblot_dtype_free(d);
    joblot_dtype_free(dense);
    free(memory);
    free(expected);
    free(start);
}

static void swaps(void **state)
{
    (void)state;
    uint32_t seed = 3;
    for (size_t i = 0; i < sizeof swappable / sizeof swappable[0]; i++) {
        for (int k = 0; k < 3; k++) {
            char only = "\0<>"[k];
            check_swap(swappable[i], 0, NULL, only, &seed);
            check_swap(swappable[i], 1, AXES(1), only, &seed);
            check_swap(swappable[i], 1, AXES(301), only, &seed);
            check_swap(swappable[i], 2, AXES(7, 5), only, &seed);
            check_swap(swappable[i], 2, AXES(1, 33), only, &seed);
            check_swap(swappable[i], 4, AXES(2, 3, 1, 4), only, &seed);
            check_swap(swappable[i], 3, AXES(3, 3, 9), only, &seed);
        }
    }
}

static void check_no_swap(const char *descr, struct joblot_array a, char only, joblot_status status)
{
    unsigned char memory[256];
    joblot_dtype *d = descr == NULL ? NULL : parse(descr);
    joblot_error err = {.message = ""};
    memset(memory, 1, sizeof memory);
    memory[3] = 2;
    a.dtype = d;
    a.data = memory;
    assert_int_equal(joblot_array_swap(&a, only, &err), status);
    assert_true(status == JOBLOT_OK || err.message[0] != 0);
    for (size_t i = 0; i < sizeof memory; i++)
        assert_int_equal(memory[i], i == 3 ? 2 : 1);
    joblot_dtype_free(d);
}

static void swaps_that_are_refused(void **state)
{
    (void)state;
    check_no_swap(NULL, make(4, 1, AXES(4), AXES(4)), 0, JOBLOT_INVALID);
    check_no_swap("'>i8'", make(4, 1, AXES(4), AXES(4)), 0, JOBLOT_INVALID);
    check_no_swap("'>i4'", make(4, 1, AXES(4), AXES(4)), '=', JOBLOT_INVALID);
    check_no_swap("'|O'", make(sizeof(void *), 1, AXES(4), AXES(8)), 0, JOBLOT_UNSUPPORTED);
    check_no_swap("'>i4'", make(4, 2, AXES(4, 2), AXES(4, 4)), 0, JOBLOT_INVALID);
    check_no_swap("'>i4'", make(4, 1, AXES(4), AXES(3)), 0, JOBLOT_INVALID);
    check_no_swap("'>i4'", make(4, 1, AXES(4), AXES(INT64_MIN)), 0, JOBLOT_LIMIT);
    check_no_swap("'>i4'", make(4, 2, AXES(4, 0), AXES(4, 4)), 0, JOBLOT_OK);
    check_no_swap("'>i4'", make(4, 1, AXES(4), AXES(4)), '<', JOBLOT_OK);
    check_no_swap("('<i4', (0,))", make(0, 1, AXES(4), AXES(4)), 0, JOBLOT_OK);
    struct joblot_array none = make(4, 1, AXES(4), AXES(4));
    joblot_dtype *d = parse("'>i4'");
    none.dtype = d;
    assert_int_equal(joblot_array_swap(&none, 0, NULL), JOBLOT_INVALID);
    joblot_dtype_free(d);
}

/* --- the binary form --------------------------------------------------------------------------------------- */

/* Bytes of a form as docs/ndarray.md has them, on every machine. */
static void form_bytes(void **state)
{
    (void)state;
    static const unsigned char pinned[] = {
        1, 2, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, /* head */
        2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, /* shape */
        12, 0, 0, 0, 0, 0, 0, 0, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, /* strides */
        '\'', '>', 'i', '4', '\'', 0, 0, 0,
    };
    struct joblot_array a = make(4, 2, AXES(2, 3), AXES(12, -4)), back;
    joblot_dtype *d = parse("'>i4'"), *got = NULL;
    unsigned char out[sizeof pinned + 1], buffer[64];
    size_t needed = 0;
    uint64_t offset = 0;
    a.dtype = d;
    for (size_t room = 0; room < sizeof pinned; room++) {
        assert_int_equal(joblot_array_encode(&a, 20, out, room, &needed, NULL), JOBLOT_LIMIT);
        assert_int_equal(needed, sizeof pinned);
    }
    memset(out, 0xEE, sizeof out);
    assert_int_equal(joblot_array_encode(&a, 20, out, sizeof out, &needed, NULL), JOBLOT_OK);
    assert_int_equal(needed, sizeof pinned);
    assert_memory_equal(out, pinned, sizeof pinned);
    assert_int_equal(out[sizeof pinned], 0xEE);
    assert_int_equal(joblot_array_decode(pinned, sizeof pinned, buffer, 44, &back, &got, &offset, NULL), JOBLOT_OK);
    assert_true(joblot_dtype_equal(got, d));
    assert_ptr_equal(back.dtype, got);
    assert_ptr_equal(back.data, buffer + 20);
    assert_int_equal(offset, 20);
    assert_int_equal(back.ndim, 2);
    assert_memory_equal(back.shape, a.shape, 16);
    assert_memory_equal(back.strides, a.strides, 16);
    joblot_dtype_free(got);
    got = NULL;
    assert_int_equal(joblot_array_decode(pinned, sizeof pinned, NULL, 36, &back, &got, NULL, NULL), JOBLOT_OK);
    assert_null(back.data);
    joblot_dtype_free(got);
    got = NULL;
    assert_int_equal(joblot_array_decode(pinned, sizeof pinned, NULL, 35, &back, &got, NULL, NULL), JOBLOT_FORMAT);
    assert_null(got);
    joblot_dtype_free(d);
}

static void encode_without_dtype(void **state)
{
    (void)state;
    struct joblot_array a = make(24, 1, AXES(2), AXES(24)), back;
    unsigned char out[128];
    size_t needed = 0;
    joblot_dtype *d = NULL;
    assert_int_equal(joblot_array_encode(&a, 0, out, sizeof out, &needed, NULL), JOBLOT_OK);
    assert_int_equal(joblot_array_decode(out, needed, NULL, 48, &back, &d, NULL, NULL), JOBLOT_OK);
    assert_int_equal(joblot_dtype_kind(d), 'V');
    assert_int_equal(back.itemsize, 24);
    joblot_dtype_free(d);
    a.strides[0] = -24;
    assert_int_equal(joblot_array_encode(&a, 23, out, sizeof out, &needed, NULL), JOBLOT_INVALID);
    assert_int_equal(joblot_array_encode(&a, UINT64_MAX, out, sizeof out, &needed, NULL), JOBLOT_INVALID);
    d = parse("'|O'");
    a = make(sizeof(void *), 0, NULL, NULL);
    a.dtype = d;
    assert_int_equal(joblot_array_encode(&a, 0, out, sizeof out, &needed, NULL), JOBLOT_UNSUPPORTED);
    a.itemsize = 3;
    assert_int_equal(joblot_array_encode(&a, 0, out, sizeof out, &needed, NULL), JOBLOT_INVALID);
    joblot_dtype_free(d);
}

/* A form with one thing changed. */
static void check_no_decode(const unsigned char *form, size_t size, uint64_t buffer_size, joblot_status status)
{
    struct joblot_array a;
    joblot_dtype *d = NULL;
    joblot_error err = {.message = ""};
    unsigned char *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    if (size > 0)
        memcpy(copy, form, size);
    assert_int_equal(joblot_array_decode(copy, size, NULL, buffer_size, &a, &d, NULL, &err), status);
    assert_true(d == NULL && err.code == status && err.message[0] != 0);
    free(copy);
}

static void hostile_forms(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        unsigned char value;
        joblot_status status;
    } changes[] = {
        {0, 2, JOBLOT_FORMAT},         {1, 65, JOBLOT_FORMAT},    {1, 255, JOBLOT_FORMAT},  {2, 1, JOBLOT_FORMAT},
        {3, 1, JOBLOT_FORMAT},         {1, 1, JOBLOT_FORMAT},     {1, 3, JOBLOT_TRUNCATED}, {4, 4, JOBLOT_FORMAT},
        {4, 9, JOBLOT_TRUNCATED},      {7, 255, JOBLOT_TRUNCATED}, {8, 3, JOBLOT_FORMAT},    {15, 128, JOBLOT_LIMIT},
        {16, 0, JOBLOT_FORMAT},        {16, 28, JOBLOT_FORMAT},   {23, 255, JOBLOT_FORMAT}, {24, 3, JOBLOT_FORMAT},
        {31, 128, JOBLOT_FORMAT},      {31, 127, JOBLOT_LIMIT},   {40, 13, JOBLOT_FORMAT},  {47, 128, JOBLOT_LIMIT},
        {55, 127, JOBLOT_LIMIT},       {57, '=', JOBLOT_FORMAT},  {57, '|', JOBLOT_FORMAT}, {58, 'O', JOBLOT_UNSUPPORTED},
        {58, 'x', JOBLOT_UNSUPPORTED}, {59, '8', JOBLOT_FORMAT},  {61, 1, JOBLOT_FORMAT},   {63, 1, JOBLOT_FORMAT},
    };
    struct joblot_array a = make(4, 2, AXES(2, 3), AXES(12, -4));
    joblot_dtype *d = parse("'>i4'");
    unsigned char form[64], changed[72] = {0};
    size_t needed;
    a.dtype = d;
    assert_int_equal(joblot_array_encode(&a, 20, form, sizeof form, &needed, NULL), JOBLOT_OK);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        memcpy(changed, form, sizeof form);
        changed[changes[i].at] = changes[i].value;
        check_no_decode(changed, sizeof form, 36, changes[i].status);
    }
    for (size_t n = 0; n < sizeof form; n++)
        check_no_decode(form, n, 36, JOBLOT_TRUNCATED);
    memcpy(changed, form, sizeof form);
    check_no_decode(changed, sizeof form + 8, 36, JOBLOT_FORMAT);
    joblot_dtype_free(d);
}

static void decode_without_memory(void **state)
{
    struct joblot_array a = make(22, 1, AXES(2), AXES(22)), back;
    joblot_dtype *d = parse("[(('t', 'a'), '>i4'), ('b', [('c', '<U2', (2,)), ('d', '|S2')])]");
    unsigned char form[256];
    size_t needed;
    a.dtype = d;
    joblot__alloc_fail_at(1, true);
    assert_int_equal(joblot_array_encode(&a, 0, form, sizeof form, &needed, NULL), JOBLOT_OK);
    joblot__alloc_fail_at(0, false);
    joblot_dtype_free(d);
    for (int for_good = 0; for_good <= 1; for_good++) {
        unsigned long nth = 1;
        for (;; nth++) {
            joblot_dtype *got = NULL;
            joblot__alloc_fail_at(nth, for_good);
            joblot_status status = joblot_array_decode(form, needed, NULL, 44, &back, &got, NULL, NULL);
            joblot__alloc_fail_at(0, false);
            joblot_dtype_free(got);
            assert_int_equal(joblot__alloc_live(), *(long *)*state);
            if (status == JOBLOT_OK)
                break;
            assert_null(got);
            assert_int_equal(status, JOBLOT_NOMEM);
        }
        assert_true(nth > 6);
    }
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, remember, no_leak)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(extents),
        CASE(hostile_layouts),
        CASE(compaction),
        CASE(random_copies),
        CASE(random_compactions),
        CASE(copies_that_are_refused),
        CASE(swaps),
        CASE(swaps_that_are_refused),
        CASE(form_bytes),
        CASE(encode_without_dtype),
        CASE(hostile_forms),
        CASE(decode_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
