/* encode.c - the type Encoder: file, reducer_override and buffer_callback of a pickler, in one object. */
#include "core.h"

#include <string.h>
#include <structmember.h>

/* Buffers of other libraries (pandas, pyarrow) from this size on leave the pickle. */
enum { RAW_MIN = 32 << 10 };

struct core_encoder *
core_encoder_new(struct core_state *st)
{
    return (struct core_encoder *)PyObject_CallNoArgs((PyObject *)st->encoder_type);
}

void
core_encoder_reset(struct core_encoder *e)
{
    e->stream.size = 0;
    e->ran_code = false;
    Py_CLEAR(e->fallback);
    Py_CLEAR(e->expected);
    core_clear_entries(e);
}

/* ---- what stands in the pickle for an array ---- */

static PyObject *
reduce_by_helper(struct core_encoder *e, const char *name, PyObject *obj)
{
    PyObject *helper = core_helper(e->st, name);
    if (helper == NULL)
        return NULL;
    PyObject *result = PyObject_CallFunctionObjArgs(helper, obj, (PyObject *)e, NULL);
    Py_DECREF(helper);
    return result;
}

/* A buffer that the pickler hands to encoder_take_buffer, which knows it again; new reference. */
static PyObject *
new_buffer(struct core_encoder *e)
{
    PyObject *token = PyByteArray_FromStringAndSize(NULL, 0); /* writable: else the pickle asks for a memoryview of it */
    PyObject *buffer = token ? PyPickleBuffer_FromObject(token) : NULL;
    Py_XDECREF(token);
    if (buffer != NULL)
        Py_XSETREF(e->expected, Py_NewRef(buffer));
    return buffer;
}

/* (joblot._core._array, (buffer that is handed over out of band, spec)) */
static PyObject *
reduce_plain(struct core_encoder *e, PyObject *array, enum core_class cls, PyObject *spec)
{
    if (core_add_array(e, array, cls) < 0)
        return NULL;
    PyObject *buffer = new_buffer(e);
    return buffer == NULL ? NULL : Py_BuildValue("O(NO)", e->st->array_function, buffer, spec);
}

/* (joblot._core._object, (buffer that is handed over out of band,)), for a handle of joblot.share. */
static PyObject *
reduce_object(struct core_encoder *e, PyObject *handle)
{
    PyObject *memory = PyObject_CallMethod(handle, "_checked_memory", NULL);
    int rc = memory == NULL ? -1 : core_add_object(e, memory);
    Py_XDECREF(memory);
    PyObject *buffer = rc < 0 ? NULL : new_buffer(e);
    return buffer == NULL ? NULL : Py_BuildValue("O(N)", e->st->object_function, buffer);
}

static PyObject *
reduce_typed(struct core_encoder *e, PyObject *array, enum core_class cls)
{
    PyObject *spec = core_dtype_spec(e->st, array);
    if (spec == Py_None) { /* objects, fields, or a type that NumPy does not know by itself */
        Py_DECREF(spec);
        spec = reduce_by_helper(e, "special_dtype", array);
        if (spec == Py_NotImplemented || (spec != NULL && PyTuple_Check(spec)))
            return spec;
    }
    if (spec == NULL)
        return NULL;
    PyObject *result = reduce_plain(e, array, cls, spec);
    Py_DECREF(spec);
    return result;
}

/* Is this ndarray a view of a memmap, and large enough to go as one?  1, 0, or -1.  For small ones, and where nothing is
 * under the array, no Python code is called. */
static int
is_large_view(const struct core_encoder *e, PyObject *array)
{
    struct core_state *st = e->st;
    if (e->is_result || e->max_nbytes < 0)
        return 0;
    PyObject *size = PyObject_GetAttr(array, st->names[CORE_NBYTES]);
    long long bytes = size ? PyLong_AsLongLong(size) : -1;
    Py_XDECREF(size);
    if (bytes < 0 || bytes <= e->max_nbytes)
        return bytes < 0 ? -1 : 0;
    PyObject *base = PyObject_GetAttr(array, st->names[CORE_BASE]);
    while (base != NULL && (PyObject *)Py_TYPE(base) != st->memmap &&
           PyObject_TypeCheck(base, (PyTypeObject *)st->ndarray))
        Py_SETREF(base, PyObject_GetAttr(base, st->names[CORE_BASE]));
    int is = base == NULL ? -1 : (PyObject *)Py_TYPE(base) == st->memmap;
    Py_XDECREF(base);
    return is;
}

static PyObject *
reduce_array(struct core_encoder *e, PyObject *array)
{
    struct core_state *st = e->st;
    PyObject *type = (PyObject *)Py_TYPE(array);
    if (type == st->masked)
        return reduce_by_helper(e, "reduce_masked", array);
    bool memmap = type == st->memmap;
    if (type != st->ndarray && type != st->matrix && type != st->recarray && !memmap)
        return reduce_by_helper(e, "reduce_subclass", array);
    int view = type == st->ndarray ? is_large_view(e, array) : 0;
    if (view < 0)
        return NULL;
    if (memmap || view) {
        PyObject *by_file = reduce_by_helper(e, memmap ? "reduce_memmap" : "reduce_view", array);
        if (by_file == NULL || by_file != Py_NotImplemented)
            return by_file;
        Py_DECREF(by_file);
    }
    if (type == st->matrix) {
        struct core_view view;
        if (core_view_init(&view, array) < 0)
            return NULL;
        int ndim = view.array.ndim;
        core_view_clear(&view);
        if (ndim != 2)
            return reduce_by_helper(e, "reduce_odd_matrix", array);
    }
    enum core_class cls = type == st->matrix     ? CORE_MATRIX
                          : type == st->recarray ? CORE_RECARRAY
                          : memmap && !e->is_result ? CORE_MEMMAP
                                                    : CORE_NDARRAY;
    return reduce_typed(e, array, cls);
}

/* ---- functions and classes: by reference, or by value ---- */

/* The module of the program itself, which no other process imports; in a child that multiprocessing spawned it has
 * another name. */
static bool
is_main(PyObject *module)
{
    return PyUnicode_CompareWithASCIIString(module, "__main__") == 0 ||
           PyUnicode_CompareWithASCIIString(module, "__mp_main__") == 0;
}

/* What a module, or the dict that stands for one, has under a dotted name; new reference, NULL: nothing. */
static PyObject *
find_path(PyObject *module, PyObject *names, PyObject *path)
{
    PyObject *at = names != NULL ? PyDict_GetItemWithError(names, PyList_GET_ITEM(path, 0)) : module;
    Py_XINCREF(at);
    for (Py_ssize_t i = names != NULL; at != NULL && i < PyList_GET_SIZE(path); i++)
        Py_SETREF(at, PyObject_GetAttr(at, PyList_GET_ITEM(path, i)));
    return at;
}

/* 1: another process finds it under its name; 0: it does not.  In __main__, processes that were forked off it find what
 * was there then (main_names), as far as the name has kept its meaning. */
static int
is_importable(PyObject *obj, PyObject *main_names)
{
    PyObject *module = PyObject_GetAttrString(obj, "__module__");
    PyObject *name = module ? PyObject_GetAttrString(obj, "__qualname__") : NULL;
    int answer = 0;
    if (name == NULL) {
        PyErr_Clear(); /* nameless things travel by value */
        Py_XDECREF(module);
        return 0;
    }
    bool main = PyUnicode_Check(module) && is_main(module);
    if (PyUnicode_Check(module) && PyUnicode_Check(name) && (!main || main_names != NULL)) {
        PyObject *home = PyImport_GetModule(module);
        PyObject *dot = PyUnicode_FromString(".");
        PyObject *path = dot ? PyUnicode_Split(name, dot, -1) : NULL;
        PyObject *at = home && path ? find_path(home, NULL, path) : NULL;
        answer = at != NULL && at == obj;
        if (answer && main) {
            Py_SETREF(at, find_path(home, main_names, path));
            answer = at == obj;
        }
        Py_XDECREF(dot);
        Py_XDECREF(home);
        Py_XDECREF(at);
        Py_XDECREF(path);
        PyErr_Clear(); /* a name that leads nowhere: by value */
    }
    Py_DECREF(module);
    Py_DECREF(name);
    return answer;
}

/* Has the user asked cloudpickle to send whole modules by value? */
static bool
has_by_value_modules(void)
{
    PyObject *name = PyUnicode_InternFromString("cloudpickle.cloudpickle");
    PyObject *module = name ? PyImport_GetModule(name) : NULL;
    Py_XDECREF(name);
    PyObject *set = module ? PyObject_GetAttrString(module, "_PICKLE_BY_VALUE_MODULES") : NULL;
    PyObject *ours = PyUnicode_InternFromString("__mp_main__"); /* this one is registered by _transport.py */
    bool any = set != NULL && PyObject_IsTrue(set) == 1;
    if (any && ours != NULL && PySet_Check(set) && PySet_GET_SIZE(set) == 1 && PySet_Contains(set, ours) == 1)
        any = false;
    Py_XDECREF(ours);
    Py_XDECREF(module);
    Py_XDECREF(set);
    PyErr_Clear(); /* another version of cloudpickle: it decides by itself */
    return any;
}

int
core_is_by_reference(PyObject *obj, PyObject *main_names)
{
    return is_importable(obj, main_names) && !has_by_value_modules();
}

static PyObject *
reduce(struct core_encoder *e, PyObject *obj)
{
    int array = PyType_Check(obj) || PyFunction_Check(obj) ? 0 : core_is_array(e->st, obj);
    if (array < 0)
        return NULL;
    if (array)
        return reduce_array(e, obj);
    if ((PyObject *)Py_TYPE(obj) == e->st->shared_class && !e->is_result)
        return reduce_object(e, obj);
    if (!PyType_Check(obj) && !PyFunction_Check(obj))
        e->ran_code = true;
    int date = core_is_date_dtype(e->st, obj);
    if (date != 0)
        return date < 0 ? NULL : reduce_by_helper(e, "reduce_date_dtype", obj);
    bool named = PyFunction_Check(obj) || PyType_Check(obj);
    if (e->by_value && named && e->main_names != NULL && core_is_by_reference(obj, e->main_names))
        return Py_NewRef(Py_NotImplemented); /* cloudpickle would send what lives in __main__ by value */
    if (e->by_value)
        return e->fallback != NULL ? PyObject_CallOneArg(e->fallback, obj) : Py_NewRef(Py_NotImplemented);
    if (named) {
        int importable = PyType_Check(obj) && !PyType_HasFeature((PyTypeObject *)obj, Py_TPFLAGS_HEAPTYPE)
                             ? 1
                             : core_is_by_reference(obj, e->main_names);
        if (importable)
            return Py_NewRef(Py_NotImplemented);
        PyErr_SetNone(e->st->by_value);
        return NULL;
    }
    return Py_NewRef(Py_NotImplemented);
}

static PyObject *
encoder_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names)
{
    if (PyVectorcall_NARGS(nargsf) != 1 || names != NULL) {
        PyErr_SetString(PyExc_TypeError, "an encoder takes one object");
        return NULL;
    }
    return reduce((struct core_encoder *)self, args[0]);
}

/* ---- the pickler's file, and its buffers ---- */

static PyObject *
encoder_write(PyObject *self, PyObject *data)
{
    struct core_encoder *e = (struct core_encoder *)self;
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    int rc = core_bytes_add(&e->stream, view.buf, (size_t)view.len);
    Py_ssize_t n = view.len;
    PyBuffer_Release(&view);
    return rc < 0 ? NULL : PyLong_FromSsize_t(n);
}

/* False: the buffer travels out of band; True: in the pickle. */
static PyObject *
encoder_take_buffer(PyObject *self, PyObject *buffer)
{
    struct core_encoder *e = (struct core_encoder *)self;
    if (buffer == e->expected) {
        Py_CLEAR(e->expected);
        Py_RETURN_FALSE;
    }
    const Py_buffer *view = PyPickleBuffer_GetBuffer(buffer);
    if (view == NULL)
        return NULL;
    /* Who hands over bytes or a bytearray gets one: an object of a user's class may keep it, and show it. */
    if (view->obj != NULL && (PyBytes_CheckExact(view->obj) || PyByteArray_CheckExact(view->obj)))
        Py_RETURN_TRUE;
    if (view->len < RAW_MIN || !(PyBuffer_IsContiguous(view, 'C') || PyBuffer_IsContiguous(view, 'F')))
        Py_RETURN_TRUE;
    if (core_add_raw(e, buffer, view->buf, (size_t)view->len) < 0)
        return NULL;
    Py_RETURN_FALSE;
}

/* ---- a whole object ---- */

static int
dump(struct core_encoder *e, const char *how, PyObject *obj)
{
    PyObject *helper = core_helper(e->st, how);
    PyObject *done = helper ? PyObject_CallFunctionObjArgs(helper, (PyObject *)e, obj, NULL) : NULL;
    Py_XDECREF(helper);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* What pickles as the name of a global of __main__, as a TypeVar does, went past us: no worker finds it there. */
static bool
names_main(const struct core_encoder *e, size_t start)
{
    return memmem(e->stream.data + start, e->stream.size - start, "__main__", 8) != NULL;
}

int
core_encode(struct core_encoder *e, PyObject *obj)
{
    size_t start = e->stream.size;
    int rc = -1;
    if (!e->by_value) {
        rc = dump(e, "dump_plain", obj);
        if (rc < 0 && (PyErr_ExceptionMatches(e->st->by_value) || PyErr_ExceptionMatches(PyExc_Exception))) {
            /* Something here is not to be pickled by its name, or not by plain pickle at all: all over again. */
            if (PyErr_ExceptionMatches(PyExc_MemoryError) || PyErr_ExceptionMatches(PyExc_OSError))
                return -1;
            PyErr_Clear();
            e->stream.size = start;
            core_clear_entries(e);
            e->by_value = true;
        } else if (rc == 0 && names_main(e, start)) {
            e->stream.size = start;
            core_clear_entries(e);
            e->by_value = true;
            rc = -1;
        }
    }
    if (rc < 0 && e->by_value)
        rc = dump(e, "dump_by_value", obj);
    Py_CLEAR(e->fallback);
    return rc < 0 ? -1 : core_finish_parts(e);
}

/* ---- the type ---- */

static PyObject *
encoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    struct core_encoder *e = (struct core_encoder *)type->tp_alloc(type, 0);
    if (e == NULL)
        return NULL;
    e->st = core_state_of_type(type);
    e->vectorcall = encoder_call;
    e->max_nbytes = -1;
    return (PyObject *)e;
}

static int
encoder_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct core_encoder *e = (struct core_encoder *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(e->fallback);
    Py_VISIT(e->expected);
    for (size_t i = 0; i < e->n_entries; i++)
        Py_VISIT(e->entries[i].owner);
    return 0;
}

static int
encoder_clear(PyObject *self)
{
    core_encoder_reset((struct core_encoder *)self);
    return 0;
}

static void
encoder_dealloc(PyObject *self)
{
    struct core_encoder *e = (struct core_encoder *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    core_encoder_reset(e);
    core_bytes_clear(&e->stream);
    core_bytes_clear(&e->table);
    core_bytes_clear(&e->inline_bytes);
    core_bytes_clear(&e->forms);
    PyMem_Free(e->entries);
    PyMem_Free(e->groups);
    PyMem_Free(e->parts);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
encoder_get_is_result(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((struct core_encoder *)self)->is_result);
}

static PyObject *
encoder_get_max_nbytes(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(((struct core_encoder *)self)->max_nbytes);
}

static PyMethodDef encoder_methods[] = {
    {"write", encoder_write, METH_O, "Append bytes to the stream."},
    {"take_buffer", encoder_take_buffer, METH_O, "Take a PickleBuffer out of band; False when it was taken."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef encoder_members[] = {
    {"fallback", T_OBJECT, offsetof(struct core_encoder, fallback), 0, "reducer_override of the pickler behind this one"},
    {"main_names", T_OBJECT, offsetof(struct core_encoder, main_names), READONLY,
     "what __main__ was when the reader of the message was forked off; None: it was exec'd"},
    {"by_value", T_BOOL, offsetof(struct core_encoder, by_value), 0, "cloudpickle's pickler is the one behind this one"},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct core_encoder, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef encoder_getset[] = {
    {"is_result", encoder_get_is_result, NULL, "True when a worker's result is written.", NULL},
    {"max_nbytes", encoder_get_max_nbytes, NULL, "Arrays of more bytes become memmaps; negative: none do.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot encoder_slots[] = {
    {Py_tp_doc, "Writes one message: file, reducer_override and buffer_callback of a pickler."},
    {Py_tp_new, encoder_new},
    {Py_tp_dealloc, encoder_dealloc},
    {Py_tp_traverse, encoder_traverse},
    {Py_tp_clear, encoder_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_methods, encoder_methods},
    {Py_tp_members, encoder_members},
    {Py_tp_getset, encoder_getset},
    {0, NULL},
};

PyType_Spec joblot__encoder_spec = {
    .name = "joblot._core.Encoder",
    .basicsize = sizeof(struct core_encoder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = encoder_slots,
};
