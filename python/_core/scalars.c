/* scalars.c - None, bool, int, float, str, bytes and tuples of them, exact types only, without a pickler.
 *
 * A value is a tag and what follows: N, T, F: nothing; i: 8 bytes, two's complement; d: 8 bytes, IEEE 754; s (UTF-8) and
 * b: u32 size and bytes; ( : u32 number and the values. All little-endian. */
#include "core.h"

#include <string.h>

enum { MAX_DEPTH = 32 };

static void
put_u32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

static void
put_u64(unsigned char *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t
get(const unsigned char *at, int n)
{
    uint64_t value = 0;
    for (int i = 0; i < n; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static int
write_sized(struct core_bytes *out, unsigned char tag, const void *data, Py_ssize_t size)
{
    if (size > (Py_ssize_t)1 << 24)
        return 0; /* large ones are the pickler's */
    unsigned char *at = core_bytes_extend(out, 5 + (size_t)size);
    if (at == NULL)
        return -1;
    at[0] = tag;
    put_u32(at + 1, (uint32_t)size);
    memcpy(at + 5, data, (size_t)size);
    return 1;
}

static int
write_int(struct core_bytes *out, PyObject *obj)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(obj, &overflow);
    if (overflow != 0 || (value == -1 && PyErr_Occurred()))
        return overflow != 0 ? 0 : -1;
    unsigned char *at = core_bytes_extend(out, 9);
    if (at == NULL)
        return -1;
    at[0] = 'i';
    put_u64(at + 1, (uint64_t)value);
    return 1;
}

static int
write_float(struct core_bytes *out, PyObject *obj)
{
    double value = PyFloat_AS_DOUBLE(obj);
    uint64_t bits;
    unsigned char *at = core_bytes_extend(out, 9);
    if (at == NULL)
        return -1;
    memcpy(&bits, &value, sizeof bits);
    at[0] = 'd';
    put_u64(at + 1, bits);
    return 1;
}

static int
write_str(struct core_bytes *out, PyObject *obj)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(obj, &size);
    if (text == NULL) { /* lone surrogates */
        PyErr_Clear();
        return 0;
    }
    return write_sized(out, 's', text, size);
}

static int write_value(struct core_bytes *out, PyObject *obj, int depth);

static int
write_tuple(struct core_bytes *out, PyObject *obj, int depth)
{
    Py_ssize_t n = PyTuple_GET_SIZE(obj);
    if (depth >= MAX_DEPTH || n > 1 << 20)
        return 0;
    unsigned char *at = core_bytes_extend(out, 5);
    if (at == NULL)
        return -1;
    at[0] = '(';
    put_u32(at + 1, (uint32_t)n);
    for (Py_ssize_t i = 0; i < n; i++) {
        int rc = write_value(out, PyTuple_GET_ITEM(obj, i), depth + 1);
        if (rc <= 0)
            return rc;
    }
    return 1;
}

static int
write_value(struct core_bytes *out, PyObject *obj, int depth)
{
    if (PyLong_CheckExact(obj))
        return write_int(out, obj);
    if (PyFloat_CheckExact(obj))
        return write_float(out, obj);
    if (PyUnicode_CheckExact(obj))
        return write_str(out, obj);
    if (PyTuple_CheckExact(obj))
        return write_tuple(out, obj, depth);
    if (PyBytes_CheckExact(obj))
        return write_sized(out, 'b', PyBytes_AS_STRING(obj), PyBytes_GET_SIZE(obj));
    if (obj != Py_None && !PyBool_Check(obj))
        return 0;
    unsigned char *at = core_bytes_extend(out, 1);
    if (at == NULL)
        return -1;
    *at = obj == Py_None ? 'N' : obj == Py_True ? 'T' : 'F';
    return 1;
}

int
core_scalar_write(struct core_bytes *out, PyObject *obj)
{
    size_t before = out->size;
    int rc = write_value(out, obj, 0);
    if (rc <= 0)
        out->size = before;
    return rc;
}

/* ---- back ---- */

static PyObject *
cut(void)
{
    PyErr_SetString(PyExc_ValueError, "a message whose values are cut");
    return NULL;
}

static PyObject *read_value(const unsigned char **at, const unsigned char *end, int depth);

static PyObject *
read_tuple(const unsigned char **at, const unsigned char *end, size_t n, int depth)
{
    if (n > (size_t)(end - *at) || depth >= MAX_DEPTH) /* a value takes a byte at least */
        return cut();
    PyObject *tuple = PyTuple_New((Py_ssize_t)n);
    for (size_t i = 0; tuple != NULL && i < n; i++) {
        PyObject *item = read_value(at, end, depth + 1);
        if (item == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
    }
    return tuple;
}

static PyObject *
read_value(const unsigned char **at, const unsigned char *end, int depth)
{
    size_t left = (size_t)(end - *at);
    if (left < 1)
        return cut();
    const unsigned char *p = *at;
    unsigned char tag = p[0];
    size_t fixed = tag == 'i' || tag == 'd' ? 9 : tag == 's' || tag == 'b' || tag == '(' ? 5 : 1;
    if (left < fixed)
        return cut();
    size_t size = fixed == 5 ? (size_t)get(p + 1, 4) : 0;
    if (tag != '(' && size > left - fixed)
        return cut();
    *at = p + fixed + (tag == '(' ? 0 : size);
    switch (tag) {
    case 'N':
        Py_RETURN_NONE;
    case 'T':
        Py_RETURN_TRUE;
    case 'F':
        Py_RETURN_FALSE;
    case 'i':
        return PyLong_FromLongLong((long long)get(p + 1, 8));
    case 'd': {
        uint64_t bits = get(p + 1, 8);
        double value;
        memcpy(&value, &bits, sizeof value);
        return PyFloat_FromDouble(value);
    }
    case 's':
        return PyUnicode_DecodeUTF8((const char *)p + 5, (Py_ssize_t)size, NULL);
    case 'b':
        return PyBytes_FromStringAndSize((const char *)p + 5, (Py_ssize_t)size);
    case '(':
        return read_tuple(at, end, size, depth);
    default:
        PyErr_SetString(PyExc_ValueError, "a message with a value that this version of joblot does not know");
        return NULL;
    }
}

PyObject *
core_scalar_read(const unsigned char *data, size_t size)
{
    const unsigned char *at = data;
    return read_value(&at, data + size, 0);
}
