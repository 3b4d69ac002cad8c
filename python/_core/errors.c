/* errors.c - from a status of the library to a Python exception: the only place that does it. */
#include "core.h"

#include <string.h>

/* Which built-in stands for which status. */
static PyObject *
base_of(int status)
{
    switch (status) {
    case JOBLOT_NOMEM:
        return PyExc_MemoryError;
    case JOBLOT_OS:
        return PyExc_OSError;
    case JOBLOT_TIMEOUT:
        return PyExc_TimeoutError;
    case JOBLOT_INVALID:
    case JOBLOT_FORMAT:
    case JOBLOT_TRUNCATED:
    case JOBLOT_LIMIT:
        return PyExc_ValueError;
    case JOBLOT_UNSUPPORTED:
        return PyExc_NotImplementedError;
    default:
        return PyExc_RuntimeError;
    }
}

static int
add_class(PyObject *module, struct core_state *st, int status, const char *text)
{
    char name[64] = "joblot._core.";
    size_t at = strlen(name);
    bool upper = true;
    for (const char *p = joblot_status_name(status); *p != '\0' && at < sizeof name - 6; p++) { /* WORKER_DIED: WorkerDied */
        if (*p != '_')
            name[at++] = (char)(upper ? *p : *p - 'A' + 'a');
        upper = *p == '_';
    }
    memcpy(name + at, "Error", 6);
    st->errors[-status] = PyErr_NewExceptionWithDoc(name, text, base_of(status), NULL);
    if (st->errors[-status] == NULL)
        return -1;
    return PyModule_AddObjectRef(module, name + sizeof "joblot._core." - 1, st->errors[-status]);
}

int
core_errors_init(PyObject *module, struct core_state *st)
{
#define ADD(name, value, text)                                          \
    if ((value) != 0 && add_class(module, st, value, text) < 0)         \
        return -1;
    JOBLOT_STATUS_MAP(ADD)
#undef ADD
    return 0;
}

PyObject *
core_raise(struct core_state *st, joblot_status status, const joblot_error *err)
{
    PyObject *type = -status >= 1 && -status <= 10 ? st->errors[-status] : PyExc_RuntimeError;
    PyObject *exception;
    if (PyErr_Occurred())
        return NULL;
    /* A path in it may be of any bytes, and the message may have been cut within a character. */
    PyObject *text = PyUnicode_DecodeUTF8(err->message, (Py_ssize_t)strlen(err->message), "replace");
    if (text == NULL)
        return NULL;
    if (status == JOBLOT_OS && err->os_errno != 0)
        exception = PyObject_CallFunction(type, "iN", err->os_errno, text);
    else
        exception = PyObject_CallFunction(type, "N", text);
    if (exception == NULL)
        return NULL;
    PyObject *code = PyLong_FromLong(status);
    if (code != NULL && PyObject_SetAttrString(exception, "code", code) == 0)
        PyErr_SetObject(type, exception);
    Py_XDECREF(code);
    Py_DECREF(exception);
    return NULL;
}

PyObject *
core_take_exception(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL && value != NULL)
        (void)PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}
