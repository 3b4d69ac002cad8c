/* ndarray/form.c - the binary form of a description.  docs/ndarray.md has the layout byte by byte. */
#include "dtype.h"
#include "layout.h"

#include "../base/checked.h"
#include "../base/endian.h"
#include "../base/error.h"

#include <string.h>

enum { FORM_VERSION = 1, HEAD_BYTES = 24, ALIGNMENT = 8 };

/* The dtype of an array that has none: opaque bytes. */
static struct joblot_dtype opaque(uint64_t itemsize)
{
    return (struct joblot_dtype){.kind = 'V', .order = '|', .form = JOBLOT__PLAIN, .itemsize = itemsize};
}

/* What can be said of a description without its buffer. */
static joblot_status check(const struct joblot_array *array, uint64_t offset, joblot_error *err)
{
    int64_t low, high;
    if (array->dtype != NULL && array->dtype->itemsize != array->itemsize)
        return joblot__fail(err, JOBLOT_INVALID, 0, "array form: elements of %llu bytes with a dtype of %llu",
                            (unsigned long long)array->itemsize, (unsigned long long)array->dtype->itemsize);
    if (array->dtype != NULL && array->dtype->has_object)
        return joblot__fail(err, JOBLOT_UNSUPPORTED, 0, "array form: Python objects do not travel as bytes");
    joblot_status status = joblot_array_extent(array, &low, &high, err);
    if (status != JOBLOT_OK)
        return status;
    if (offset > INT64_MAX || offset < (uint64_t)-low)
        return joblot__fail(err, JOBLOT_INVALID, 0,
                            "array form: the array reaches %lld bytes below an offset of %llu", -(long long)low,
                            (unsigned long long)offset);
    return JOBLOT_OK;
}

joblot_status joblot_array_encode(const struct joblot_array *array, uint64_t offset, void *out, size_t capacity,
                                  size_t *needed, joblot_error *err)
{
    struct joblot__sink sink = {0};
    joblot_status status = check(array, offset, err);
    if (status != JOBLOT_OK)
        return status;
    struct joblot_dtype bytes = opaque(array->itemsize);
    const struct joblot_dtype *dtype = array->dtype != NULL ? array->dtype : &bytes;
    joblot__dtype_print(dtype, &sink);
    size_t descr_at = HEAD_BYTES + 16 * (size_t)array->ndim;
    size_t descr_size = sink.used; /* at most JOBLOT_DESCR_MAX_BYTES */
    size_t size = (descr_at + descr_size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (needed != NULL)
        *needed = size;
    if (capacity < size)
        return joblot__fail(err, JOBLOT_LIMIT, 0, "array form: it takes %zu bytes, there is room for %zu", size,
                            capacity);
    unsigned char *at = out;
    at[0] = FORM_VERSION;
    at[1] = (unsigned char)array->ndim;
    joblot__store_le16(at + 2, 0);
    joblot__store_le32(at + 4, (uint32_t)descr_size);
    joblot__store_le64(at + 8, array->itemsize);
    joblot__store_le64(at + 16, offset);
    for (int i = 0; i < array->ndim; i++) {
        joblot__store_le64(at + HEAD_BYTES + 8 * i, (uint64_t)array->shape[i]);
        joblot__store_le64(at + HEAD_BYTES + 8 * (array->ndim + i), (uint64_t)array->strides[i]);
    }
    memset(at + size - ALIGNMENT, 0, ALIGNMENT);
    sink = (struct joblot__sink){.out = (char *)at + descr_at, .capacity = descr_size};
    joblot__dtype_print(dtype, &sink);
    return JOBLOT_OK;
}

/* Reads everything but the dtype; *descr is borrowed from the form. */
static void read_form(struct joblot__reader *r, struct joblot_array *array, uint64_t *offset,
                      const unsigned char **descr, size_t *descr_size)
{
    uint8_t version = joblot__reader_u8(r);
    if (version != FORM_VERSION)
        joblot__reader_fail(r, JOBLOT_FORMAT, "unknown version");
    int ndim = joblot__reader_u8(r);
    if (ndim > JOBLOT_MAX_NDIM)
        joblot__reader_fail(r, JOBLOT_FORMAT, "too many dimensions");
    if (joblot__reader_le16(r) != 0)
        joblot__reader_fail(r, JOBLOT_FORMAT, "unknown flags");
    *descr_size = joblot__reader_le32(r);
    array->itemsize = joblot__reader_le64(r);
    *offset = joblot__reader_le64(r);
    array->ndim = r->status == JOBLOT_OK ? ndim : 0;
    for (int i = 0; i < array->ndim; i++)
        array->shape[i] = (int64_t)joblot__reader_le64(r);
    for (int i = 0; i < array->ndim; i++)
        array->strides[i] = (int64_t)joblot__reader_le64(r);
    *descr = joblot__reader_take(r, *descr_size);
    while ((r->pos & (ALIGNMENT - 1)) != 0 && r->status == JOBLOT_OK) {
        if (joblot__reader_u8(r) != 0)
            joblot__reader_fail(r, JOBLOT_FORMAT, "padding that is not zero");
    }
    if (joblot__reader_left(r) != 0)
        joblot__reader_fail(r, JOBLOT_FORMAT, "something behind the form");
}

/* Every element lies inside the buffer. */
static joblot_status check_reach(const struct joblot_array *array, uint64_t offset, uint64_t buffer_size,
                                 joblot_error *err)
{
    int64_t low, high;
    for (int i = 0; i < array->ndim; i++) {
        if (array->shape[i] < 0)
            return joblot__fail(err, JOBLOT_FORMAT, 0, "array form: axis %d has the length %lld", i,
                                (long long)array->shape[i]);
    }
    joblot_status status = joblot_array_extent(array, &low, &high, err);
    if (status != JOBLOT_OK)
        return status;
    if (offset > buffer_size || offset > INT64_MAX || (uint64_t)-low > offset ||
        (uint64_t)high > buffer_size - offset)
        return joblot__fail(err, JOBLOT_FORMAT, 0,
                            "array form: the array reaches from %lld below to %lld above offset %llu, outside its "
                            "buffer of %llu bytes", -(long long)low, (long long)high, (unsigned long long)offset,
                            (unsigned long long)buffer_size);
    return JOBLOT_OK;
}

/* One dtype has one form: the text must be what encode prints. */
static joblot_status read_dtype(const unsigned char *descr, size_t size, uint64_t itemsize, joblot_dtype **out,
                                joblot_error *err)
{
    joblot_dtype *dtype = NULL;
    struct joblot__sink sink = {.expected = (const char *)descr, .capacity = size};
    joblot_status status = joblot_dtype_parse((const char *)descr, size, &dtype, err);
    if (status != JOBLOT_OK)
        return status;
    joblot__dtype_print(dtype, &sink);
    if (dtype->has_object)
        status = joblot__fail(err, JOBLOT_UNSUPPORTED, 0, "array form: Python objects do not travel as bytes");
    else if (sink.differs || sink.used != size)
        status = joblot__fail(err, JOBLOT_FORMAT, 0, "array form: the descr is not written as joblot writes it");
    else if (dtype->itemsize != itemsize)
        status = joblot__fail(err, JOBLOT_FORMAT, 0, "array form: elements of %llu bytes with a dtype of %llu",
                              (unsigned long long)itemsize, (unsigned long long)dtype->itemsize);
    if (status != JOBLOT_OK)
        joblot_dtype_free(dtype);
    else
        *out = dtype;
    return status;
}

joblot_status joblot_array_decode(const void *form, size_t size, void *buffer, uint64_t buffer_size,
                                  struct joblot_array *array, joblot_dtype **dtype, uint64_t *offset,
                                  joblot_error *err)
{
    struct joblot__reader r;
    struct joblot_array a;
    uint64_t at = 0;
    const unsigned char *descr = NULL;
    size_t descr_size = 0;
    a.ndim = 0;
    joblot__reader_init(&r, form, size);
    read_form(&r, &a, &at, &descr, &descr_size);
    joblot_status status = joblot__reader_finish(&r, "array form", err);
    if (status == JOBLOT_OK)
        status = check_reach(&a, at, buffer_size, err);
    if (status == JOBLOT_OK)
        status = read_dtype(descr, descr_size, a.itemsize, dtype, err);
    if (status != JOBLOT_OK)
        return status;
    array->dtype = *dtype;
    array->itemsize = a.itemsize;
    array->data = buffer == NULL ? NULL : (unsigned char *)buffer + at;
    array->ndim = a.ndim;
    memcpy(array->shape, a.shape, (size_t)a.ndim * sizeof a.shape[0]);
    memcpy(array->strides, a.strides, (size_t)a.ndim * sizeof a.strides[0]);
    if (offset != NULL)
        *offset = at;
    return JOBLOT_OK;
}
