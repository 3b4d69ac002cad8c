/* arrays.c - NumPy arrays without NumPy's headers: through __array_struct__ and a few names of the module. */
#include "core.h"

/* NumPy's array interface, version 3, in its C form (numpy.org/doc/stable/reference/arrays.interface.html). */
struct interface {
    int two;
    int nd;
    char typekind;
    int itemsize;
    int flags;
    Py_intptr_t *shape;
    Py_intptr_t *strides;
    void *data;
    PyObject *descr;
};
enum { WRITEABLE = 0x400 };

static int
is_writable(PyObject *array)
{
    PyObject *flags = PyObject_GetAttrString(array, "flags");
    PyObject *writable = flags ? PyObject_GetAttrString(flags, "writeable") : NULL;
    Py_XDECREF(flags);
    Py_XDECREF(writable);
    return writable == NULL ? -1 : writable == Py_True;
}

int
core_view_init(struct core_view *view, PyObject *array)
{
    view->keep = PyObject_GetAttrString(array, "__array_struct__");
    if (view->keep == NULL)
        return -1;
    const struct interface *in = PyCapsule_GetPointer(view->keep, NULL);
    if (in == NULL || in->two != 2 || in->nd < 0 || in->nd > JOBLOT_MAX_NDIM) {
        if (in != NULL)
            PyErr_SetString(PyExc_ValueError, "an array whose __array_struct__ is none");
        Py_CLEAR(view->keep);
        return -1;
    }
    struct joblot_array *a = &view->array;
    a->dtype = NULL;
    a->itemsize = (uint64_t)in->itemsize;
    a->data = in->data;
    a->ndim = in->nd;
    for (int i = 0; i < in->nd; i++) {
        a->shape[i] = in->shape[i];
        a->strides[i] = in->strides[i];
    }
    view->writable = (in->flags & WRITEABLE) != 0;
    /* NumPy masks the flags of arrays with fields away where it means to add one. */
    int writable = view->writable || in->descr == NULL ? view->writable : is_writable(array);
    if (writable < 0)
        core_view_clear(view);
    view->writable = writable > 0;
    return writable < 0 ? -1 : 0;
}

void
core_view_clear(struct core_view *view)
{
    Py_CLEAR(view->keep);
}

static int
load_names(struct core_state *st, PyObject *numpy)
{
    struct {
        const char *name;
        PyObject **at;
    } names[] = {{"dtype", &st->dtype}, {"ndarray", &st->ndarray},   {"memmap", &st->memmap}, {"matrix", &st->matrix},
                 {"recarray", &st->recarray}, {"empty", &st->empty}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Py_XDECREF(*names[i].at);
        *names[i].at = PyObject_GetAttrString(numpy, names[i].name);
        if (*names[i].at == NULL)
            return -1;
    }
    PyObject *ma = PyImport_ImportModule("numpy.ma");
    if (ma == NULL)
        return -1;
    Py_XSETREF(st->masked, PyObject_GetAttrString(ma, "MaskedArray"));
    Py_DECREF(ma);
    if (st->masked == NULL)
        return -1;
    st->numpy = Py_NewRef(numpy);
    return 0;
}

enum {
    OBJECT_NUM = 17,
    BYTES_NUM,
    TEXT_NUM,
    VOID_NUM,
    DATETIME_NUM,
    TIMEDELTA_NUM,
    FIRST_UNKNOWN_NUM = 24
};

static long
int_attribute(PyObject *obj, const char *name)
{
    PyObject *value = PyObject_GetAttrString(obj, name);
    if (value == NULL)
        return -1;
    long n = PyLong_AsLong(value);
    Py_DECREF(value);
    return n;
}

/* A dtype of dates: what NumPy pickles of one without a unit loses its byte order. */
int
core_is_date_dtype(struct core_state *st, PyObject *obj)
{
    if (st->dtype == NULL || !PyObject_TypeCheck(obj, (PyTypeObject *)st->dtype))
        return 0;
    long num = int_attribute(obj, "num");
    return num < 0 && PyErr_Occurred() ? -1 : num == DATETIME_NUM || num == TIMEDELTA_NUM;
}

int
core_is_array(struct core_state *st, PyObject *obj)
{
    if (st->numpy == NULL) {
        /* An ndarray can only be here when NumPy has been imported, wholly: look, and do not import. */
        PyObject *name = PyUnicode_InternFromString("numpy");
        PyObject *numpy = name ? PyImport_GetModule(name) : NULL;
        Py_XDECREF(name);
        if (numpy == NULL)
            return PyErr_Occurred() ? -1 : 0;
        PyObject *ndarray = PyObject_GetAttrString(numpy, "ndarray");
        int is = ndarray == NULL ? 0 : PyObject_IsInstance(obj, ndarray);
        if (ndarray == NULL)
            PyErr_Clear(); /* NumPy is only half imported: nobody has arrays yet */
        if (is == 1 && load_names(st, numpy) < 0)
            is = -1;
        Py_XDECREF(ndarray);
        Py_DECREF(numpy);
        return is;
    }
    return PyObject_TypeCheck(obj, (PyTypeObject *)st->ndarray);
}

static int
is_none(PyObject *obj, const char *name)
{
    PyObject *value = PyObject_GetAttrString(obj, name);
    if (value == NULL)
        return -1;
    Py_DECREF(value);
    return value == Py_None;
}

/* Strings of no bytes need care: NumPy makes them one character long where it can. */
static int
has_items(PyObject *dtype)
{
    long size = int_attribute(dtype, "itemsize");
    return size < 0 && PyErr_Occurred() ? -1 : size > 0;
}

/* '>' + 'i': names the C type as well, where two of them have one size (long and long long). */
static PyObject *
numeric_spec(PyObject *dtype)
{
    PyObject *order = PyObject_GetAttrString(dtype, "byteorder");
    PyObject *code = order ? PyObject_GetAttrString(dtype, "char") : NULL;
    PyObject *spec = code ? PyUnicode_Concat(order, code) : NULL;
    Py_XDECREF(order);
    Py_XDECREF(code);
    return spec;
}

static PyObject *
make_spec(PyObject *dtype)
{
    long num = int_attribute(dtype, "num");
    int plain = num < 0 || num >= FIRST_UNKNOWN_NUM || num == OBJECT_NUM || num == VOID_NUM ? 0 : is_none(dtype, "metadata");
    if (plain > 0)
        plain = is_none(dtype, "fields"); /* an int may have some */
    if (plain > 0 && (num == BYTES_NUM || num == TEXT_NUM))
        plain = has_items(dtype);
    PyObject *spec = NULL;
    if (plain < 0 || (num < 0 && PyErr_Occurred()))
        return NULL;
    if (!plain)
        spec = Py_NewRef(Py_None);
    else if (num <= 16 || num == 23) /* numbers: a size is in the letter; others have theirs, or a unit, in `str` */
        spec = numeric_spec(dtype);
    else
        spec = PyObject_GetAttrString(dtype, "str");
    return spec;
}

PyObject *
core_dtype_spec(struct core_state *st, PyObject *array)
{
    PyObject *dtype = PyObject_GetAttr(array, st->names[CORE_DTYPE]);
    if (dtype == NULL)
        return NULL;
    size_t at = (uintptr_t)dtype / 64 % CORE_SPECS;
    if (st->specs[at].dtype == dtype) {
        Py_DECREF(dtype);
        return Py_NewRef(st->specs[at].spec);
    }
    PyObject *spec = make_spec(dtype);
    if (spec != NULL && spec != Py_None) { /* of a plain one, which cannot change */
        Py_XSETREF(st->specs[at].dtype, Py_NewRef(dtype));
        Py_XSETREF(st->specs[at].spec, Py_NewRef(spec));
    }
    Py_DECREF(dtype);
    return spec;
}

/* NumPy reads '>M8', a date without a unit, as native: put the order of the spec back.  Takes the reference. */
static PyObject *
in_order_of(PyObject *dtype, PyObject *spec)
{
    Py_UCS4 wanted = PyUnicode_GET_LENGTH(spec) > 0 ? PyUnicode_READ_CHAR(spec, 0) : 0;
    PyObject *order = wanted == '<' || wanted == '>' ? PyObject_GetAttrString(dtype, "byteorder") : NULL;
    bool native = order != NULL && PyUnicode_CompareWithASCIIString(order, "=") == 0;
    Py_XDECREF(order);
    if (order == NULL && PyErr_Occurred()) {
        Py_DECREF(dtype);
        return NULL;
    }
    if (native && wanted != (PY_BIG_ENDIAN ? '>' : '<'))
        Py_SETREF(dtype, PyObject_CallMethod(dtype, "newbyteorder", "C", (int)wanted));
    return dtype;
}

PyObject *
core_dtype_of_spec(struct core_state *st, PyObject *spec)
{
    if (!PyUnicode_CheckExact(spec))
        return Py_NewRef(spec);
    PyObject *dtype = PyDict_GetItemWithError(st->dtypes, spec);
    if (dtype != NULL)
        return Py_NewRef(dtype);
    if (PyErr_Occurred())
        return NULL;
    PyObject *module = PyImport_ImportModule("numpy");
    if (module == NULL)
        return NULL;
    if (st->numpy == NULL && load_names(st, module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    dtype = PyObject_CallMethod(module, "dtype", "O", spec);
    Py_DECREF(module);
    if (dtype != NULL)
        dtype = in_order_of(dtype, spec);
    if (dtype != NULL && PyDict_SetItem(st->dtypes, spec, dtype) < 0)
        Py_CLEAR(dtype);
    return dtype;
}
