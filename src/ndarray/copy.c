/* ndarray/copy.c - copying elements from one layout to another. */
#include "layout.h"

#include "../base/error.h"

#include <string.h>

/* Where source and destination run along different axes, blocks of this many elements each way are copied, so that
 * a cache line is used up while it is there.  Larger ones collide in the cache when strides are powers of two. */
enum { TILE = 16 };

struct axis {
    int64_t n;
    int64_t dst;
    int64_t src;
};

/* Axes from the outermost to the innermost. */
struct walk {
    struct axis axes[JOBLOT_MAX_NDIM];
    int count;
    unsigned char *dst;
    const unsigned char *src;
    size_t item; /* bytes copied in one piece */
};

typedef void kernel(unsigned char *dst, const unsigned char *src, const struct axis *a, int64_t n, size_t item);

#define COPY_KERNEL(bytes)                                                                                    \
    static void copy_##bytes(unsigned char *dst, const unsigned char *src, const struct axis *a, int64_t n,   \
                             size_t item)                                                                     \
    {                                                                                                         \
        const int64_t dst_step = a->dst, src_step = a->src;                                                   \
        (void)item;                                                                                           \
        for (int64_t i = 0; i < n; i++)                                                                       \
            memcpy(dst + i * dst_step, src + i * src_step, bytes);                                            \
    }

COPY_KERNEL(1)
COPY_KERNEL(2)
COPY_KERNEL(4)
COPY_KERNEL(8)
COPY_KERNEL(16)

static void copy_any(unsigned char *dst, const unsigned char *src, const struct axis *a, int64_t n, size_t item)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(dst + i * a->dst, src + i * a->src, item);
}

static kernel *kernel_for(size_t item)
{
    switch (item) {
    case 1:
        return copy_1;
    case 2:
        return copy_2;
    case 4:
        return copy_4;
    case 8:
        return copy_8;
    case 16:
        return copy_16;
    default:
        return copy_any;
    }
}

/* Keeps the axes from the largest to the smallest step of the destination, then of the source. */
static void insert_axis(struct walk *w, struct axis a)
{
    int k = w->count++;
    for (; k > 0; k--) {
        const struct axis *before = &w->axes[k - 1];
        if (before->dst > a.dst ||
            (before->dst == a.dst && joblot__stride_size(before->src) >= joblot__stride_size(a.src)))
            break;
        w->axes[k] = *before;
    }
    w->axes[k] = a;
}

/* Collects the axes that have a length, turned so that the destination runs forwards. */
static joblot_status collect(struct walk *w, const struct joblot_array *dst, const struct joblot_array *src,
                             joblot_error *err)
{
    for (int i = 0; i < dst->ndim; i++) {
        struct axis a = {dst->shape[i], dst->strides[i], src->strides[i]};
        if (a.n == 1 || (a.dst == 0 && a.src == 0))
            continue;
        if (a.dst == 0)
            return joblot__fail(err, JOBLOT_INVALID, 0,
                                "array copy: axis %d has stride 0 in the destination only, so that its %lld elements "
                                "have one place", i, (long long)a.n);
        if (a.dst < 0) {
            w->dst += (a.n - 1) * a.dst;
            w->src += (a.n - 1) * a.src;
            a.dst = -a.dst;
            a.src = -a.src;
        }
        insert_axis(w, a);
    }
    return JOBLOT_OK;
}

/* Makes one axis of two that follow one another in both layouts, and one piece of elements that are contiguous. */
static void merge(struct walk *w)
{
    int kept = 0;
    for (int i = 1; i < w->count; i++) {
        struct axis *outer = &w->axes[kept];
        const struct axis *inner = &w->axes[i];
        if (outer->dst == inner->dst * inner->n && outer->src == inner->src * inner->n)
            *outer = (struct axis){outer->n * inner->n, inner->dst, inner->src};
        else
            w->axes[++kept] = *inner;
    }
    if (w->count == 0)
        return;
    w->count = kept + 1;
    const struct axis *last = &w->axes[kept];
    if (last->dst == (int64_t)w->item && last->src == (int64_t)w->item) {
        w->item *= (size_t)last->n;
        w->count--;
    }
}

/* Puts the axis along which the source is densest beside the innermost one; true when they are two. */
static bool needs_tiles(struct walk *w)
{
    int best = w->count - 1;
    if (w->count < 2 || w->item > 16)
        return false;
    for (int i = 0; i < w->count; i++) {
        if (joblot__stride_size(w->axes[i].src) < joblot__stride_size(w->axes[best].src))
            best = i;
    }
    if (best == w->count - 1 || w->axes[w->count - 1].src == 0 || w->axes[best].src == 0)
        return false;
    struct axis densest = w->axes[best];
    for (; best < w->count - 2; best++)
        w->axes[best] = w->axes[best + 1];
    w->axes[best] = densest;
    return true;
}

static void copy_tiles(const struct walk *w, unsigned char *dst, const unsigned char *src, kernel *copy)
{
    const struct axis *rows = &w->axes[w->count - 2], *row = rows + 1;
    for (int64_t i = 0; i < rows->n; i += TILE) {
        int64_t end = rows->n - i < TILE ? rows->n : i + TILE;
        for (int64_t j = 0; j < row->n; j += TILE) {
            int64_t n = row->n - j < TILE ? row->n - j : TILE;
            for (int64_t k = i; k < end; k++)
                copy(dst + k * rows->dst + j * row->dst, src + k * rows->src + j * row->src, row, n, w->item);
        }
    }
}

/* Walks the outer axes like an odometer. */
static void run(struct walk *w)
{
    int64_t at[JOBLOT_MAX_NDIM] = {0};
    bool tiles = needs_tiles(w);
    int outer = w->count - (tiles ? 2 : 1);
    kernel *copy = kernel_for(w->item);
    unsigned char *dst = w->dst;
    const unsigned char *src = w->src;
    if (w->count == 0) {
        memcpy(dst, src, w->item);
        return;
    }
    for (;;) {
        if (tiles)
            copy_tiles(w, dst, src, copy);
        else
            copy(dst, src, &w->axes[outer], w->axes[outer].n, w->item);
        int i = outer - 1;
        for (; i >= 0; i--) {
            const struct axis *a = &w->axes[i];
            if (++at[i] < a->n) {
                dst += a->dst;
                src += a->src;
                break;
            }
            dst -= (a->n - 1) * a->dst;
            src -= (a->n - 1) * a->src;
            at[i] = 0;
        }
        if (i < 0)
            return;
    }
}

/* The bytes of both arrays can be reached with int64_t arithmetic. */
static joblot_status check(const struct joblot_array *dst, const struct joblot_array *src, bool *touches,
                           joblot_error *err)
{
    int64_t low, high;
    if (dst->ndim != src->ndim || dst->itemsize != src->itemsize)
        return joblot__fail(err, JOBLOT_INVALID, 0,
                            "array copy: %d dimensions of %llu-byte elements from %d of %llu bytes", dst->ndim,
                            (unsigned long long)dst->itemsize, src->ndim, (unsigned long long)src->itemsize);
    joblot_status status = joblot_array_extent(dst, &low, &high, err);
    if (status == JOBLOT_OK)
        status = joblot_array_extent(src, &low, &high, err);
    if (status == JOBLOT_OK)
        status = joblot__array_check(dst, touches, err);
    if (status != JOBLOT_OK)
        return status;
    for (int i = 0; i < dst->ndim; i++) {
        if (dst->shape[i] != src->shape[i])
            return joblot__fail(err, JOBLOT_INVALID, 0, "array copy: axis %d has %lld elements in one, %lld in the other",
                                i, (long long)dst->shape[i], (long long)src->shape[i]);
    }
    if (*touches && (dst->data == NULL || src->data == NULL))
        return joblot__fail(err, JOBLOT_INVALID, 0, "array copy: an array has no memory");
    return JOBLOT_OK;
}

joblot_status joblot_array_copy(const struct joblot_array *dst, const struct joblot_array *src, joblot_error *err)
{
    struct walk w;
    bool touches = false;
    joblot_status status = check(dst, src, &touches, err);
    if (status != JOBLOT_OK || !touches)
        return status;
    w.count = 0;
    w.dst = dst->data;
    w.src = src->data;
    w.item = (size_t)dst->itemsize;
    status = collect(&w, dst, src, err);
    if (status != JOBLOT_OK)
        return status;
    merge(&w);
    run(&w);
    return JOBLOT_OK;
}
