/* ndarray/layout.h - what the files of this module ask about shapes and strides. */
#ifndef JOBLOT_NDARRAY_LAYOUT_H
#define JOBLOT_NDARRAY_LAYOUT_H

#include <joblot/ndarray.h>

#include <stdbool.h>

/* Checks ndim, that no axis is negative, and that elements and bytes can be counted in an int64_t (axes of no length
 * left out, as NumPy does).  *touches is false when there is no byte in any element. */
joblot_status joblot__array_check(const struct joblot_array *array, bool *touches, joblot_error *err) JOBLOT_MUST_USE;

/* The absolute value of a stride; INT64_MIN has one, too. */
static inline uint64_t joblot__stride_size(int64_t stride)
{
    return stride < 0 ? 0 - (uint64_t)stride : (uint64_t)stride;
}

#endif
