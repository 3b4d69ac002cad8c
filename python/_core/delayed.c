/* delayed.c - the type `delayed`: records a call instead of making it.
 *
 * delayed(f)(1, x=2) is the plain tuple (f, (1,), {"x": 2}). Both calls sit in the loop that writes tasks down, once per
 * task, so both go through vectorcall. The names that functools.wraps would have copied from f are looked up on f.
 *
 * Threads: immutable after construction.  Fork: safe.
 */
#include "core.h"

#include <stddef.h>
#include <structmember.h>

struct delayed {
    PyObject_HEAD
    PyObject *function;
    vectorcallfunc vectorcall;
};

/* What functools.wraps copies, and __wrapped__, which it sets. */
static const char *const wrapped_names[] = {
    "__wrapped__", "__name__", "__qualname__", "__doc__", "__module__", "__annotations__", "__type_params__",
};

static PyObject *
keywords_of(PyObject *const *values, PyObject *names)
{
    PyObject *keywords = PyDict_New();
    if (keywords == NULL || names == NULL)
        return keywords;
    Py_ssize_t n = PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (PyDict_SetItem(keywords, PyTuple_GET_ITEM(names, i), values[i]) < 0) {
            Py_DECREF(keywords);
            return NULL;
        }
    }
    return keywords;
}

/* delayed(f)(*args, **keywords) -> (f, args, keywords). The dict is new each time: the task's owner may change it. */
static PyObject *
record_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *names)
{
    struct delayed *self = (struct delayed *)op;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    PyObject *keywords = NULL, *task = NULL;
    PyObject *positional = PyTuple_New(nargs);
    if (positional == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < nargs; i++) {
        Py_INCREF(args[i]);
        PyTuple_SET_ITEM(positional, i, args[i]);
    }
    keywords = keywords_of(args + nargs, names);
    if (keywords == NULL)
        goto error;
    task = PyTuple_New(3);
    if (task == NULL)
        goto error;
    Py_INCREF(self->function);
    PyTuple_SET_ITEM(task, 0, self->function);
    PyTuple_SET_ITEM(task, 1, positional);
    PyTuple_SET_ITEM(task, 2, keywords);
    return task;
error:
    Py_DECREF(positional);
    Py_XDECREF(keywords);
    return NULL;
}

static PyObject *
make_delayed(PyTypeObject *type, PyObject *function)
{
    if (!PyCallable_Check(function)) {
        PyErr_Format(PyExc_TypeError,
                     "delayed() records the call of a function, so it needs a callable, but got %R of type %.200s: "
                     "write delayed(f)(x), not delayed(f(x))",
                     function, Py_TYPE(function)->tp_name);
        return NULL;
    }
    struct delayed *self = (struct delayed *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(function);
    self->function = function;
    self->vectorcall = record_call;
    return (PyObject *)self;
}

static PyObject *
delayed_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"function", NULL};
    PyObject *function;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O:delayed", names, &function))
        return NULL;
    return make_delayed(type, function);
}

/* The quick way in for delayed(f); anything else is left to delayed_new. */
static PyObject *
delayed_new_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *names)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (nargs == 1 && names == NULL)
        return make_delayed((PyTypeObject *)type, args[0]);
    PyObject *result = NULL, *keywords = NULL;
    PyObject *positional = PyTuple_New(nargs);
    if (positional == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < nargs; i++) {
        Py_INCREF(args[i]);
        PyTuple_SET_ITEM(positional, i, args[i]);
    }
    keywords = keywords_of(args + nargs, names);
    if (keywords != NULL)
        result = delayed_new((PyTypeObject *)type, positional, keywords);
    Py_XDECREF(keywords);
    Py_DECREF(positional);
    return result;
}

static int
delayed_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((struct delayed *)op)->function);
    return 0;
}

static int
delayed_clear(PyObject *op)
{
    Py_CLEAR(((struct delayed *)op)->function);
    return 0;
}

static void
delayed_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_CLEAR(((struct delayed *)op)->function);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
delayed_repr(PyObject *op)
{
    PyObject *function = ((struct delayed *)op)->function;
    int entered = Py_ReprEnter(op);
    if (entered != 0)
        return entered > 0 ? PyUnicode_FromString("delayed(...)") : NULL;
    PyObject *text = PyUnicode_FromFormat("delayed(%R)", function);
    Py_ReprLeave(op);
    return text;
}

static int
is_wrapped_name(PyObject *name)
{
    for (size_t i = 0; i < sizeof wrapped_names / sizeof *wrapped_names; i++) {
        if (PyUnicode_CompareWithASCIIString(name, wrapped_names[i]) == 0)
            return 1;
    }
    return 0;
}

/* An entry of function.__dict__, or NULL without an exception where there is none. */
static PyObject *
attribute_of_function(PyObject *function, PyObject *name)
{
    PyObject *attributes = PyObject_GetAttrString(function, "__dict__");
    if (attributes == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError))
            PyErr_Clear();
        return NULL;
    }
    PyObject *value = PyObject_GetItem(attributes, name);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_KeyError))
        PyErr_Clear();
    Py_DECREF(attributes);
    return value;
}

static PyObject *
delayed_getattro(PyObject *op, PyObject *name)
{
    PyObject *function = ((struct delayed *)op)->function;
    if (is_wrapped_name(name)) {
        if (PyUnicode_CompareWithASCIIString(name, "__wrapped__") == 0) {
            Py_INCREF(function);
            return function;
        }
        PyObject *value = PyObject_GetAttr(function, name);
        if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
            return value;
        PyErr_Clear();
    }
    PyObject *value = PyObject_GenericGetAttr(op, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return value;
    PyObject *error_type, *error, *traceback;
    PyErr_Fetch(&error_type, &error, &traceback);
    value = attribute_of_function(function, name);
    if (value == NULL && !PyErr_Occurred()) {
        PyErr_Restore(error_type, error, traceback);
        return NULL;
    }
    Py_XDECREF(error_type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return value;
}

/* As a function in a class body does: obj.method(x) records the call with obj in front. */
static PyObject *
delayed_descr_get(PyObject *op, PyObject *instance, PyObject *Py_UNUSED(owner))
{
    if (instance == NULL || instance == Py_None) {
        Py_INCREF(op);
        return op;
    }
    return PyMethod_New(op, instance);
}

static PyObject *
delayed_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("O(O)", (PyObject *)Py_TYPE(op), ((struct delayed *)op)->function);
}

static PyMethodDef delayed_methods[] = {
    {"__reduce__", delayed_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef delayed_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct delayed, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(delayed_doc,
"delayed(function)\n"
"--\n"
"\n"
"Record calls of a function instead of making them.\n"
"\n"
"Parameters\n"
"----------\n"
"function : callable\n"
"    What a worker shall call.\n"
"\n"
"Returns\n"
"-------\n"
"callable\n"
"    Called with ``(*args, **kwargs)`` it returns the tuple ``(function, args, kwargs)``, which is the form in which\n"
"    `Parallel` takes its tasks. It has the name, docstring and attributes of `function`.\n"
"\n"
"Raises\n"
"------\n"
"TypeError\n"
"    `function` is not callable.\n"
"\n"
"Examples\n"
"--------\n"
">>> delayed(pow)(2, 5)\n"
"(<built-in function pow>, (2, 5), {})\n");

static PyType_Slot delayed_slots[] = {
    {Py_tp_doc, (void *)delayed_doc},
    {Py_tp_new, delayed_new},
    {Py_tp_dealloc, delayed_dealloc},
    {Py_tp_traverse, delayed_traverse},
    {Py_tp_clear, delayed_clear},
    {Py_tp_repr, delayed_repr},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_getattro, delayed_getattro},
    {Py_tp_descr_get, delayed_descr_get},
    {Py_tp_methods, delayed_methods},
    {Py_tp_members, delayed_members},
    {0, NULL},
};

PyType_Spec joblot__delayed_spec = {
    .name = "joblot.delayed",
    .basicsize = sizeof(struct delayed),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = delayed_slots,
};

/* joblot__delayed_finish - give the type its quick constructor; there is no slot for it before Python 3.14.
 *   type  borrowed; just made from joblot__delayed_spec */
void
joblot__delayed_finish(PyTypeObject *type)
{
    type->tp_vectorcall = delayed_new_vectorcall;
}
