/* functions.c - functions that are sent once per call, and named by the tasks that follow. */
#include "core.h"

/* Kinds of check: see joblot/_functions.py. */
enum { IN_DICT, IN_CELL, CODE, DEFAULTS, KWDEFAULTS, ABSENT };

/* Does this still hold? 1, 0, or -1 with an exception. */
static int
holds(PyObject *check)
{
    PyObject *where = PyTuple_GET_ITEM(check, 1), *key = PyTuple_GET_ITEM(check, 2), *value = PyTuple_GET_ITEM(check, 3);
    PyObject *found = NULL;
    switch (PyLong_AsLong(PyTuple_GET_ITEM(check, 0))) {
    case IN_DICT:
        found = PyDict_GetItemWithError(where, key);
        break;
    case ABSENT:
        found = PyDict_GetItemWithError(where, key);
        return PyErr_Occurred() ? -1 : found == NULL;
    case IN_CELL:
        found = PyCell_GET(where);
        break;
    case CODE:
        found = PyFunction_GetCode(where);
        break;
    case DEFAULTS:
        found = PyFunction_GetDefaults(where);
        found = found == NULL ? Py_None : found;
        break;
    case KWDEFAULTS:
        found = PyFunction_GetKwDefaults(where);
        found = found == NULL ? Py_None : found;
        break;
    default:
        break;
    }
    return PyErr_Occurred() ? -1 : found == value;
}

static int
all_hold(PyObject *checks)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(checks); i++) {
        int rc = holds(PyList_GET_ITEM(checks, i));
        if (rc <= 0)
            return rc;
    }
    return 1;
}

struct core_functions {
    PyObject *known; /* function -> (id, checks or None); id 0: pickled with each task */
    bool sequence;   /* the input was a list: nothing runs between two draws */
    bool first;
    uint32_t *last_id;
};

struct core_functions *
core_functions_new(bool sequence, uint32_t *last_id)
{
    struct core_functions *f = PyMem_Calloc(1, sizeof *f);
    if (f == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    f->known = PyDict_New();
    f->sequence = sequence;
    f->first = true;
    f->last_id = last_id;
    if (f->known == NULL) {
        PyMem_Free(f);
        return NULL;
    }
    return f;
}

void
core_functions_free(struct core_functions *f)
{
    if (f == NULL)
        return;
    Py_XDECREF(f->known);
    PyMem_Free(f);
}

/* Sends the function to the call's workers; 0, or -1 with an exception; *id stays 0 where arrays hang on it. */
static int
send(struct core_functions *f, joblot_call *call, struct core_encoder *e, PyObject *function, uint32_t *id)
{
    joblot_error err;
    uint32_t next = *f->last_id + 1;
    unsigned char head[5] = {f->first, (unsigned char)next, (unsigned char)(next >> 8), (unsigned char)(next >> 16),
                             (unsigned char)(next >> 24)};
    core_encoder_reset(e);
    if (core_bytes_add(&e->stream, head, sizeof head) < 0 || core_encode(e, function) < 0)
        return -1;
    if (e->n_entries > 0)
        return 0;
    joblot_status status = joblot_call_note(call, CORE_NOTE_FUNCTION, 0, e->stream.data, e->stream.size, &err);
    if (status != JOBLOT_OK) {
        core_raise(e->st, status, &err);
        return -1;
    }
    f->first = false;
    *id = *f->last_id = next;
    return 0;
}

/* How a function that is new, or has changed, is to travel: sends it where it can be sent once. */
static long
learn(struct core_functions *f, joblot_call *call, struct core_encoder *e, PyObject *function)
{
    PyObject *checks = Py_NewRef(Py_None);
    uint32_t id = 0;
    if (!core_is_by_reference(function, e->main_names) && !f->sequence) {
        PyObject *helper = core_helper(e->st, "checks_of");
        Py_SETREF(checks, helper ? PyObject_CallOneArg(helper, function) : NULL);
        Py_XDECREF(helper);
        if (checks == NULL)
            return -1;
        if (checks != Py_None && send(f, call, e, function, &id) < 0)
            id = UINT32_MAX;
    } else if (send(f, call, e, function, &id) < 0) {
        id = UINT32_MAX;
    }
    if (id == UINT32_MAX) {
        Py_DECREF(checks);
        return -1;
    }
    PyObject *entry = Py_BuildValue("kN", (unsigned long)id, checks);
    int rc = entry == NULL ? -1 : PyDict_SetItem(f->known, function, entry);
    Py_XDECREF(entry);
    return rc < 0 ? -1 : (long)id;
}

long
core_function_id(struct core_functions *f, joblot_call *call, struct core_encoder *e, PyObject *function)
{
    /* Built-in functions and classes are named only where workers find them by name: they have no checks. */
    bool plain = PyFunction_Check(function);
    if (!plain && !PyCFunction_CheckExact(function) && !PyType_Check(function))
        return 0;
    PyObject *entry = PyDict_GetItemWithError(f->known, function);
    if (entry != NULL) {
        PyObject *checks = PyTuple_GET_ITEM(entry, 1);
        int same = checks == Py_None ? 1 : all_hold(checks);
        if (same != 0)
            return same < 0 ? -1 : PyLong_AsLong(PyTuple_GET_ITEM(entry, 0));
    } else if (PyErr_Occurred()) {
        return -1;
    }
    return plain || core_is_by_reference(function, e->main_names) ? learn(f, call, e, function) : 0;
}
