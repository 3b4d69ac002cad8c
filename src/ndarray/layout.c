/* ndarray/layout.c - which bytes an array touches, and the layout in which it should travel. */
#include "layout.h"

#include "../base/checked.h"
#include "../base/error.h"

joblot_status joblot__array_check(const struct joblot_array *array, bool *touches, joblot_error *err)
{
    if (array->ndim < 0 || array->ndim > JOBLOT_MAX_NDIM)
        return joblot__fail(err, JOBLOT_INVALID, 0, "array: %d dimensions, from 0 to %d are possible", array->ndim,
                            JOBLOT_MAX_NDIM);
    if (array->itemsize > INT64_MAX)
        return joblot__fail(err, JOBLOT_LIMIT, 0, "array: elements of %llu bytes, over 2**63 - 1",
                            (unsigned long long)array->itemsize);
    int64_t bytes = array->itemsize == 0 ? 1 : (int64_t)array->itemsize;
    *touches = array->itemsize != 0;
    for (int i = 0; i < array->ndim; i++) {
        if (array->shape[i] < 0)
            return joblot__fail(err, JOBLOT_INVALID, 0, "array: axis %d has the length %lld", i,
                                (long long)array->shape[i]);
        if (array->shape[i] == 0)
            *touches = false;
        else if (!joblot__mul_i64(bytes, array->shape[i], &bytes))
            return joblot__fail(err, JOBLOT_LIMIT, 0, "array: up to axis %d it has over 2**63 - 1 bytes", i);
    }
    return JOBLOT_OK;
}

joblot_status joblot_array_extent(const struct joblot_array *array, int64_t *low, int64_t *high, joblot_error *err)
{
    bool touches = false;
    int64_t below = 0, above = 0, size;
    joblot_status status = joblot__array_check(array, &touches, err);
    if (status != JOBLOT_OK)
        return status;
    for (int i = 0; touches && i < array->ndim; i++) {
        int64_t *end = array->strides[i] < 0 ? &below : &above;
        int64_t reach;
        if (!joblot__mul_i64(array->shape[i] - 1, array->strides[i], &reach) || !joblot__add_i64(*end, reach, end))
            return joblot__fail(err, JOBLOT_LIMIT, 0, "array: axis %d (length %lld, stride %lld) reaches too far", i,
                                (long long)array->shape[i], (long long)array->strides[i]);
    }
    if (touches && (!joblot__add_i64(above, (int64_t)array->itemsize, &above) || below == INT64_MIN ||
                    !joblot__add_i64(above, -below, &size)))
        return joblot__fail(err, JOBLOT_LIMIT, 0, "array: it reaches over more than 2**63 - 1 bytes");
    *low = below;
    *high = above;
    return JOBLOT_OK;
}

/* Axis numbers from the smallest stride to the largest; of equal ones the later axis first, as in C order. */
static void order_axes(const struct joblot_array *array, int *order)
{
    for (int i = 0; i < array->ndim; i++) {
        int axis = array->ndim - 1 - i;
        uint64_t stride = joblot__stride_size(array->strides[axis]);
        int k = i;
        for (; k > 0 && joblot__stride_size(array->strides[order[k - 1]]) > stride; k--)
            order[k] = order[k - 1];
        order[k] = axis;
    }
}

/* Bytes of the distinct elements; no overflow after joblot__array_check. */
static uint64_t distinct_bytes(const struct joblot_array *array)
{
    uint64_t bytes = array->itemsize;
    for (int i = 0; i < array->ndim; i++) {
        if (array->strides[i] != 0)
            bytes *= (uint64_t)array->shape[i];
    }
    return bytes;
}

/* Gives `layout` strides without gaps; returns the offset of element [0, 0, ...]. */
static uint64_t close_gaps(const struct joblot_array *array, struct joblot_array *layout)
{
    int order[JOBLOT_MAX_NDIM];
    int64_t next = (int64_t)array->itemsize;
    uint64_t offset = 0;
    order_axes(array, order);
    for (int i = 0; i < array->ndim; i++) {
        int axis = order[i];
        if (array->strides[axis] == 0)
            continue;
        layout->strides[axis] = array->strides[axis] < 0 ? -next : next;
        if (array->strides[axis] < 0)
            offset += (uint64_t)next * (uint64_t)(array->shape[axis] - 1);
        next *= array->shape[axis];
    }
    return offset;
}

joblot_status joblot_array_compact(const struct joblot_array *array, struct joblot_array *layout, uint64_t *offset,
                                   uint64_t *size, int *kept, joblot_error *err)
{
    int64_t low = 0, high = 0;
    joblot_status status = joblot_array_extent(array, &low, &high, err);
    if (status != JOBLOT_OK)
        return status;
    layout->dtype = array->dtype;
    layout->itemsize = array->itemsize;
    layout->data = NULL;
    layout->ndim = array->ndim;
    for (int i = 0; i < array->ndim; i++) {
        layout->shape[i] = array->shape[i];
        layout->strides[i] = array->strides[i];
    }
    uint64_t extent = (uint64_t)(high - low);
    uint64_t distinct = distinct_bytes(array);
    *kept = extent <= 2 * distinct; /* of an empty array both are 0 */
    *offset = *kept ? (uint64_t)-low : close_gaps(array, layout);
    *size = *kept ? extent : distinct;
    return JOBLOT_OK;
}
