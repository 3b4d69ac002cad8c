/* ndarray/swap.c - swapping the bytes of elements in place. */
#include "dtype.h"
#include "layout.h"

#include "../base/error.h"

#include <string.h>

/* Structs are swapped field by field over blocks of this many bytes, so that a table is read from memory once. */
enum { BLOCK_BYTES = 16384 };

struct axis {
    int64_t n;
    int64_t stride; /* over 0 */
};

/* ---- units that stand side by side: eight bytes at a time ---- */

static uint64_t swap_2x4(uint64_t v)
{
    return (v & UINT64_C(0x00FF00FF00FF00FF)) << 8 | (v >> 8 & UINT64_C(0x00FF00FF00FF00FF));
}

static uint64_t swap_4x2(uint64_t v)
{
    v = swap_2x4(v);
    return (v & UINT64_C(0x0000FFFF0000FFFF)) << 16 | (v >> 16 & UINT64_C(0x0000FFFF0000FFFF));
}

static void swap_dense_2(unsigned char *p, int64_t n)
{
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint64_t v;
        memcpy(&v, p + 2 * i, 8);
        v = swap_2x4(v);
        memcpy(p + 2 * i, &v, 8);
    }
    for (; i < n; i++) {
        unsigned char first = p[2 * i];
        p[2 * i] = p[2 * i + 1];
        p[2 * i + 1] = first;
    }
}

static void swap_dense_4(unsigned char *p, int64_t n)
{
    int64_t i = 0;
    uint32_t v;
    for (; i + 2 <= n; i += 2) {
        uint64_t two;
        memcpy(&two, p + 4 * i, 8);
        two = swap_4x2(two);
        memcpy(p + 4 * i, &two, 8);
    }
    if (i < n) {
        memcpy(&v, p + 4 * i, 4);
        v = __builtin_bswap32(v);
        memcpy(p + 4 * i, &v, 4);
    }
}

static void swap_dense_8(unsigned char *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t v;
        memcpy(&v, p + 8 * i, 8);
        v = __builtin_bswap64(v);
        memcpy(p + 8 * i, &v, 8);
    }
}

/* ---- units at any distance ---- */

static void swap_2(unsigned char *p, int64_t n, int64_t stride)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, p + i * stride, 2);
        v = __builtin_bswap16(v);
        memcpy(p + i * stride, &v, 2);
    }
}

static void swap_4(unsigned char *p, int64_t n, int64_t stride)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t v;
        memcpy(&v, p + i * stride, 4);
        v = __builtin_bswap32(v);
        memcpy(p + i * stride, &v, 4);
    }
}

static void swap_8(unsigned char *p, int64_t n, int64_t stride)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t v;
        memcpy(&v, p + i * stride, 8);
        v = __builtin_bswap64(v);
        memcpy(p + i * stride, &v, 8);
    }
}

static void swap_16(unsigned char *p, int64_t n, int64_t stride)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t v[2], w[2];
        memcpy(v, p + i * stride, 16);
        w[0] = __builtin_bswap64(v[1]);
        w[1] = __builtin_bswap64(v[0]);
        memcpy(p + i * stride, w, 16);
    }
}

/* The 12-byte long double of some 32-bit machines. */
static void swap_any(unsigned char *p, int64_t n, int64_t stride, size_t size)
{
    for (int64_t i = 0; i < n; i++) {
        for (unsigned char *a = p + i * stride, *b = a + size - 1; a < b; a++, b--) {
            unsigned char first = *a;
            *a = *b;
            *b = first;
        }
    }
}

/* n units of `size` bytes, one every `stride` bytes. */
static void swap_units(unsigned char *p, int64_t n, int64_t stride, size_t size)
{
    bool dense = n == 1 || stride == (int64_t)size;
    if (size == 2 && dense)
        swap_dense_2(p, n);
    else if (size == 2)
        swap_2(p, n, stride);
    else if (size == 4 && dense)
        swap_dense_4(p, n);
    else if (size == 4)
        swap_4(p, n, stride);
    else if (size == 8 && dense)
        swap_dense_8(p, n);
    else if (size == 8)
        swap_8(p, n, stride);
    else if (size == 16)
        swap_16(p, n, dense ? 16 : stride);
    else
        swap_any(p, n, dense ? (int64_t)size : stride, size);
}

/* ---- elements ---- */

static bool has_work(const struct joblot_dtype *d, int orders)
{
    return d->itemsize > 0 && (d->orders & orders) != 0;
}

/* The unit that is turned round: half a complex number, one character, else the whole element. */
static int64_t unit_size(const struct joblot_dtype *d)
{
    return d->kind == 'U' ? 4 : (int64_t)(d->kind == 'c' ? d->itemsize / 2 : d->itemsize);
}

static void swap_elements(const struct joblot_dtype *d, unsigned char *p, int64_t n, int64_t stride, int orders);

/* `parts` equal parts side by side in each of n elements: the longer of the two is the inner loop. */
static void swap_parts(const struct joblot_dtype *d, int64_t parts, unsigned char *p, int64_t n, int64_t stride,
                       int orders)
{
    bool plain = d->form == JOBLOT__PLAIN;
    int64_t size = plain ? unit_size(d) : (int64_t)d->itemsize;
    bool by_part = parts < n;
    if (n == 1 || stride == parts * size) {
        parts *= n;
        n = 1;
        by_part = false;
    }
    int64_t outer = by_part ? parts : n, inner = by_part ? n : parts;
    int64_t outer_step = by_part ? size : stride, inner_step = by_part ? stride : size;
    for (int64_t i = 0; i < outer; i++) {
        if (plain)
            swap_units(p + i * outer_step, inner, inner_step, (size_t)size);
        else
            swap_elements(d, p + i * outer_step, inner, inner_step, orders);
    }
}

/* Depth is that of the dtype, which the parser bounds. */
static void swap_elements(const struct joblot_dtype *d, unsigned char *p, int64_t n, int64_t stride, int orders)
{
    if (!has_work(d, orders))
        return;
    if (d->form == JOBLOT__PLAIN) {
        swap_parts(d, (int64_t)d->itemsize / unit_size(d), p, n, stride, orders);
    } else if (d->form == JOBLOT__SUBARRAY) {
        const struct joblot_dtype *element = &d->sub->element;
        if (element->form == JOBLOT__PLAIN)
            swap_parts(element, (int64_t)d->itemsize / unit_size(element), p, n, stride, orders);
        else
            swap_parts(element, (int64_t)(d->itemsize / element->itemsize), p, n, stride, orders);
    } else {
        for (size_t i = 0; i < d->field_count; i++)
            swap_elements(&d->fields[i].dtype, p + d->fields[i].offset, n, stride, orders);
    }
}

static void swap_row(const struct joblot_dtype *d, unsigned char *p, struct axis row, int orders)
{
    int64_t block = row.n;
    if (d->form != JOBLOT__PLAIN)
        block = d->itemsize < BLOCK_BYTES ? BLOCK_BYTES / (int64_t)d->itemsize : 1;
    for (int64_t i = 0; i < row.n; i += block)
        swap_elements(d, p + i * row.stride, row.n - i < block ? row.n - i : block, row.stride, orders);
}

/* ---- arrays ---- */

/* The axes that have several distinct elements, from the smallest stride to the largest, turned to run forwards;
 * returns how many.  Order and direction do not matter here. */
static int collect(const struct joblot_array *array, struct axis *axes, unsigned char **start)
{
    int count = 0;
    for (int i = 0; i < array->ndim; i++) {
        struct axis a = {array->shape[i], array->strides[i]};
        if (a.n == 1 || a.stride == 0)
            continue;
        if (a.stride < 0) {
            *start += (a.n - 1) * a.stride;
            a.stride = -a.stride;
        }
        int k = count++;
        for (; k > 0 && axes[k - 1].stride > a.stride; k--)
            axes[k] = axes[k - 1];
        axes[k] = a;
    }
    return count;
}

/* True when each axis steps over all that lies within the smaller ones; no overflow in an array whose extent fits. */
static bool is_disjoint(const struct axis *axes, int count, uint64_t itemsize)
{
    int64_t reach = (int64_t)itemsize;
    for (int i = 0; i < count; i++) {
        if (axes[i].stride < reach)
            return false;
        reach += (axes[i].n - 1) * axes[i].stride;
    }
    return true;
}

static int merge(struct axis *axes, int count)
{
    int kept = 0;
    for (int i = 1; i < count; i++) {
        if (axes[i].stride == axes[kept].stride * axes[kept].n)
            axes[kept].n *= axes[i].n;
        else
            axes[++kept] = axes[i];
    }
    return count == 0 ? 0 : kept + 1;
}

static void walk(const struct joblot_dtype *d, unsigned char *p, const struct axis *axes, int count, int orders)
{
    int64_t at[JOBLOT_MAX_NDIM] = {0};
    struct axis row = count > 0 ? axes[0] : (struct axis){1, (int64_t)d->itemsize};
    for (;;) {
        swap_row(d, p, row, orders);
        int i = 1;
        for (; i < count; i++) {
            if (++at[i] < axes[i].n) {
                p += axes[i].stride;
                break;
            }
            p -= (axes[i].n - 1) * axes[i].stride;
            at[i] = 0;
        }
        if (i >= count)
            return;
    }
}

joblot_status joblot_array_swap(const struct joblot_array *array, char only_order, joblot_error *err)
{
    const struct joblot_dtype *d = array->dtype;
    struct axis axes[JOBLOT_MAX_NDIM];
    unsigned char *start = array->data;
    int64_t low, high;
    if (d == NULL || d->itemsize != array->itemsize)
        return joblot__fail(err, JOBLOT_INVALID, 0, "array swap: no dtype, or one of another size");
    if (!joblot__only_order_valid(only_order))
        return joblot__fail(err, JOBLOT_INVALID, 0, "array swap: only_order is 0, '<' or '>', not %d", only_order);
    if (d->has_object)
        return joblot__fail(err, JOBLOT_UNSUPPORTED, 0, "array swap: the dtype holds Python objects");
    joblot_status status = joblot_array_extent(array, &low, &high, err);
    int orders = only_order == '<' ? JOBLOT__HAS_LITTLE : only_order == '>' ? JOBLOT__HAS_BIG : ~0;
    if (status != JOBLOT_OK || low == high || !has_work(d, orders))
        return status;
    if (start == NULL)
        return joblot__fail(err, JOBLOT_INVALID, 0, "array swap: the array has no memory");
    int count = collect(array, axes, &start);
    if (!is_disjoint(axes, count, array->itemsize))
        return joblot__fail(err, JOBLOT_INVALID, 0,
                            "array swap: elements overlap in memory, so that some would be swapped twice: copy the "
                            "array first");
    count = merge(axes, count);
    walk(d, start, axes, count, orders);
    return JOBLOT_OK;
}
