/* joblot/ndarray.h - what an array is: dtype, shape, strides; and moving its elements exactly.
 *
 * A dtype is kept as NumPy's `descr` says it: byte order, kind and size, fields, sub-arrays, padding.  Byte order
 * is part of the dtype and nothing here changes it, but for joblot_array_swap, which is called only when asked.
 *
 * An array is a description (struct joblot_array) of memory that somebody else owns.  Its binary form
 * (joblot_array_encode) is little-endian on every machine and is what travels between processes; decoding takes
 * hostile input and refuses every description that reaches outside the buffer it is about.
 *
 * Nothing here calls the operating system.  Threads: any number of readers per object.  Fork: safe.
 */
#ifndef JOBLOT_NDARRAY_H
#define JOBLOT_NDARRAY_H

#include <joblot/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Most dimensions of an array (NumPy's limit). */
#define JOBLOT_MAX_NDIM 64
/* Limits on descr text that the parser accepts: bytes (as read, and as printed), nesting depth of lists and tuples,
 * fields in all (padding and sub-arrays count). */
#define JOBLOT_DESCR_MAX_BYTES (1u << 20)
#define JOBLOT_DESCR_MAX_DEPTH 32
#define JOBLOT_DESCR_MAX_FIELDS 65536

/* A parsed dtype: opaque, immutable once made. */
typedef struct joblot_dtype joblot_dtype;

/* joblot_dtype_parse - parse a NumPy descr: the Python literal that stands in .npy headers.
 *
 * Accepts a bare type string (`>i4`), a quoted one (`'>i4'`), and the list form with nested lists, sub-array
 * shapes, padding fields and (title, name) pairs: `[('x', '>f8'), (('title', 'b'), '|u1', (2, 3)), ('', '|V4')]`.
 * A sub-array outside a struct is a tuple: `('>i4', (2, 3))`.
 * Kinds: ? b B i u f c m M (with units, such as <M8[25s]) O S a U V; byte orders < > = |, where = and none are the
 * machine's.  Strings have Python's escapes, but for \N; names with NUL or lone surrogates are UNSUPPORTED, as is
 * dtype metadata.  No size, and no sum of sizes, passes 2**63 - 1 bytes.
 *   text, size  borrowed, need not be terminated
 *   out         set on JOBLOT_OK only; joblot_dtype_free() it
 *   err         optional
 * Returns JOBLOT_OK, or FORMAT | TRUNCATED | LIMIT | UNSUPPORTED | NOMEM.
 * Trust: input may be hostile.  Threads: any.  Fork: safe. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_dtype_parse(const char *text, size_t size, joblot_dtype **out,
                                                            joblot_error *err);

/* joblot_dtype_free - free a dtype; NULL is fine. */
JOBLOT_API void joblot_dtype_free(joblot_dtype *dtype);

/* joblot_dtype_format - print a dtype as NumPy prints its descr: `'>i4'` with quotes, or a list.
 *
 * Parsing what was printed gives an equal dtype.  Names keep every Unicode character (escaped as Python's repr does).
 *   out, capacity  caller's storage; terminated when capacity > 0; may be NULL with capacity 0
 *   needed         optional; bytes needed, with the terminator
 * Returns JOBLOT_OK, or LIMIT when capacity is too small (out then holds what fits). */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_dtype_format(const joblot_dtype *dtype, char *out, size_t capacity,
                                                             size_t *needed, joblot_error *err);

/* joblot_dtype_equal - 1 when both describe the same dtype, byte order, names, titles and padding included. */
JOBLOT_API int joblot_dtype_equal(const joblot_dtype *a, const joblot_dtype *b);

/* joblot_dtype_itemsize - bytes per element, fields, sub-arrays and padding included. */
JOBLOT_API uint64_t joblot_dtype_itemsize(const joblot_dtype *dtype);

/* joblot_dtype_kind - NumPy's kind character: one of `biufcmMOSUV`, where b is bool and i and u have the bytes; 'V'
 * for structured and sub-array dtypes. */
JOBLOT_API char joblot_dtype_kind(const joblot_dtype *dtype);

/* joblot_dtype_byteorder - '<', '>' or '|' (byte order has no meaning, or it is one of fields). */
JOBLOT_API char joblot_dtype_byteorder(const joblot_dtype *dtype);

/* joblot_dtype_has_object - 1 when any part is a Python object (kind O): such memory never travels as bytes. */
JOBLOT_API int joblot_dtype_has_object(const joblot_dtype *dtype);

/* joblot_dtype_field_count - number of fields, those that are padding not counted; 0 for a plain dtype. */
JOBLOT_API size_t joblot_dtype_field_count(const joblot_dtype *dtype);

/* joblot_dtype_field - the i-th field: its name (UTF-8, terminated, lives as long as the dtype), dtype and offset.
 * name, field and offset may each be NULL.  Returns JOBLOT_OK, or INVALID when there is no such field. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_dtype_field(const joblot_dtype *dtype, size_t i, const char **name,
                                                            const joblot_dtype **field, uint64_t *offset,
                                                            joblot_error *err);

/* joblot_dtype_subarray - the element dtype and shape of a sub-array dtype (`('>i4', (2, 3))`).
 * Returns the number of dimensions, 0 when dtype is no sub-array; shape (room for JOBLOT_MAX_NDIM) may be NULL. */
JOBLOT_API int joblot_dtype_subarray(const joblot_dtype *dtype, const joblot_dtype **element, int64_t *shape);

/* An array: a description of memory that somebody else owns.  Caller's storage. */
struct joblot_array {
    const joblot_dtype *dtype;         /* borrowed; NULL where only the size of an element matters */
    uint64_t itemsize;                 /* bytes per element */
    unsigned char *data;               /* element [0, 0, ...], or NULL in a description with no memory yet */
    int ndim;                          /* 0 to JOBLOT_MAX_NDIM */
    int64_t shape[JOBLOT_MAX_NDIM];    /* elements; none negative */
    int64_t strides[JOBLOT_MAX_NDIM];  /* bytes; any sign, 0 for broadcast axes */
};

/* joblot_array_extent - the bytes that an array touches: data + *low up to data + *high, *low <= 0 <= *high.
 * Both are 0 for an array with no elements, and for elements of no bytes.
 * Returns JOBLOT_OK, or INVALID (ndim or shape out of range) | LIMIT (overflow). */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_array_extent(const struct joblot_array *array, int64_t *low,
                                                             int64_t *high, joblot_error *err);

/* joblot_array_compact - the layout in which an array should travel.
 *
 * Where the extent is at most twice the bytes of its distinct elements (axes of stride 0 count once) the layout is
 * kept.  Else it is made compact: the order of axes by stride, the signs of strides and zero strides stay as they
 * are, and no gap is left, so that a column never drags its table along.  Distinct elements that overlap in memory
 * (sliding windows) count as they are laid out: such a layout is kept when that is smaller.
 *   layout  caller's storage: dtype, itemsize, ndim and shape as in `array`, strides of the layout, data NULL
 *   offset  bytes from the start of the travelling buffer to element [0, 0, ...]
 *   size    bytes of that buffer
 *   kept    1 when the layout is the array's own, so that its extent can be copied in one piece
 * Returns JOBLOT_OK, or INVALID | LIMIT. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_array_compact(const struct joblot_array *array,
                                                              struct joblot_array *layout, uint64_t *offset,
                                                              uint64_t *size, int *kept, joblot_error *err);

/* joblot_array_copy - copy every element of src to the same index of dst.
 *
 * Same ndim, shape and itemsize; any strides; the two do not overlap.  Bytes are copied, never converted.  Axes are
 * walked in the order of memory and merged where they are contiguous, so that equal layouts are one memcpy.  An axis
 * of stride 0 in dst has stride 0 in src as well, and is copied once.
 * Returns JOBLOT_OK, or INVALID | LIMIT (overflow). */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_array_copy(const struct joblot_array *dst,
                                                           const struct joblot_array *src, joblot_error *err);

/* joblot_array_swap - swap the bytes of every element, in place, as its dtype says.
 *
 * Recursive per field and sub-array; each half of a complex number; U per character; S, V, b, B, ? and padding are
 * left alone.  The dtype is not changed: joblot_dtype_swapped gives the one that fits afterwards.  With
 * `only_order` '<' or '>' only parts of that byte order are swapped; 0 swaps every part.
 * Axes of stride 0 are swapped once.  Overlapping elements (sliding windows) are INVALID, and so are axes that are
 * interleaved in such a way that no slicing of an array gives them, as nothing shows that they do not overlap.
 * Returns JOBLOT_OK, or INVALID | LIMIT (overflow) | UNSUPPORTED (object dtype). */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_array_swap(const struct joblot_array *array, char only_order,
                                                           joblot_error *err);

/* joblot_dtype_swapped - a new dtype with the byte order of every part swapped; with only_order, of those parts only.
 * joblot_dtype_free() it.  Returns JOBLOT_OK, or INVALID (only_order is none of 0, '<', '>') | NOMEM. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_dtype_swapped(const joblot_dtype *dtype, char only_order,
                                                              joblot_dtype **out, joblot_error *err);

/* joblot_array_encode - the binary form of a description: dtype descr, shape, strides, offset.
 *
 *   array          data is not read; dtype may be NULL, then the descr is `|V<itemsize>`
 *   offset         bytes from the start of the buffer to element [0, 0, ...]
 *   out, capacity  caller's storage; may be NULL with capacity 0
 *   needed         optional; bytes of the form, a multiple of 8; always written on OK, and when capacity is too small
 * Returns JOBLOT_OK, or LIMIT (capacity too small, overflow) | INVALID | UNSUPPORTED (object dtype).  Allocates
 * nothing. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_array_encode(const struct joblot_array *array, uint64_t offset,
                                                             void *out, size_t capacity, size_t *needed,
                                                             joblot_error *err);

/* joblot_array_decode - read the binary form back and hold it against the buffer it is about.
 *
 *   form, size    borrowed
 *   buffer        start of the buffer, may be NULL; array->data is buffer + offset (NULL when buffer is NULL)
 *   buffer_size   bytes of the buffer: every element must lie inside
 *   array         caller's storage; array->dtype points to *dtype
 *   dtype         set on JOBLOT_OK; joblot_dtype_free() it.  Object dtypes are UNSUPPORTED, and the descr must be
 *                 written as encode writes it, so that a description has one form
 *   offset        optional
 * Returns JOBLOT_OK, or FORMAT | TRUNCATED | LIMIT | UNSUPPORTED | NOMEM.
 * Trust: input may be hostile. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_array_decode(const void *form, size_t size, void *buffer,
                                                             uint64_t buffer_size, struct joblot_array *array,
                                                             joblot_dtype **dtype, uint64_t *offset,
                                                             joblot_error *err);

#ifdef __cplusplus
}
#endif
#endif
