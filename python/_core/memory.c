/* memory.c - bytes that arrays stand on: heap memory, or a worker's mapping of a segment. */
#include "core.h"

struct core_memory *
core_memory_new(struct core_state *st, Py_ssize_t size)
{
    struct core_memory *m = PyObject_New(struct core_memory, st->memory_type);
    if (m == NULL)
        return NULL;
    m->mapping = NULL;
    m->readonly = false;
    m->size = size;
    m->data = PyMem_RawMalloc(size ? (size_t)size : 1);
    if (m->data == NULL) {
        Py_DECREF(m);
        PyErr_NoMemory();
        return NULL;
    }
    return m;
}

struct core_memory *
core_memory_map(struct core_state *st, joblot_worker *worker, const struct joblot_arrived *part,
                enum joblot_map_mode mode, bool readonly)
{
    joblot_error err;
    struct core_memory *m = PyObject_New(struct core_memory, st->memory_type);
    if (m == NULL)
        return NULL;
    m->mapping = NULL;
    m->data = NULL;
    joblot_status status = joblot_worker_map(worker, part, mode, &m->mapping, &err);
    if (status != JOBLOT_OK) {
        Py_DECREF(m);
        core_raise(st, status, &err);
        return NULL;
    }
    m->data = joblot_mapping_data(m->mapping);
    m->size = (Py_ssize_t)joblot_mapping_size(m->mapping);
    m->readonly = readonly;
    return m;
}

static void
memory_dealloc(PyObject *self)
{
    struct core_memory *m = (struct core_memory *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (m->mapping != NULL)
        joblot_mapping_release(m->mapping);
    else
        PyMem_RawFree(m->data);
    PyObject_Free(self);
    Py_DECREF(type);
}

static int
memory_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    struct core_memory *m = (struct core_memory *)self;
    return PyBuffer_FillInfo(view, self, m->data, m->size, m->readonly, flags);
}

static Py_ssize_t
memory_length(PyObject *self)
{
    return ((struct core_memory *)self)->size;
}

static PyType_Slot memory_slots[] = {
    {Py_tp_doc, "Bytes of an array: heap memory, or a mapping of a segment that ends with its last user."},
    {Py_tp_dealloc, memory_dealloc},
    {Py_bf_getbuffer, memory_getbuffer},
    {Py_sq_length, memory_length},
    {0, NULL},
};

PyType_Spec joblot__memory_spec = {
    .name = "joblot._core.Memory",
    .basicsize = sizeof(struct core_memory),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = memory_slots,
};
