/* memory.c - bytes that arrays stand on: heap memory, a worker's mapping of a segment, or a segment of our own. */
#include "shared.h"

#include <string.h>

/* A page that this process has not touched before costs more than copying it.  So blocks of these sizes are kept when
 * their arrays are gone, up to so many bytes in all, and the next results are read into them.  Smaller ones stay with
 * malloc, which keeps them as well; larger ones are too much memory to sit on. */
enum { WARM_LEAST = 16 << 10, WARM_MOST = 8 << 20, WARM_TOTAL = 32 << 20, MAX_LOOKS = 16 };

struct core_warm_block {
    struct core_warm_block *next;
    size_t capacity;
};

bool
core_is_warm_size(uint64_t size)
{
    return size >= WARM_LEAST && size <= WARM_MOST;
}

static unsigned char *
warm_take(struct core_warm *warm, size_t size, size_t *capacity)
{
    struct core_warm_block **link = &warm->first;
    for (int i = 0; *link != NULL && i < MAX_LOOKS; i++, link = &(*link)->next) {
        struct core_warm_block *block = *link;
        if (block->capacity < size || block->capacity - size > size / 4)
            continue;
        *link = block->next;
        *capacity = block->capacity;
        warm->bytes -= block->capacity;
        if (warm->unused > warm->bytes)
            warm->unused = warm->bytes;
        return (unsigned char *)block;
    }
    return NULL;
}

static void
warm_give(struct core_warm *warm, unsigned char *data, size_t capacity)
{
    struct core_warm_block *block = (struct core_warm_block *)(void *)data;
    if (warm == NULL || !warm->used || !core_is_warm_size(capacity) || warm->bytes + capacity > WARM_TOTAL) {
        PyMem_RawFree(data);
        return;
    }
    block->next = warm->first;
    block->capacity = capacity;
    warm->first = block;
    warm->bytes += capacity;
}

void
core_warm_begin(struct core_warm *warm)
{
    warm->used = true;
    warm->unused = warm->bytes;
}

void
core_warm_end(struct core_warm *warm)
{
    while (warm->first != NULL && warm->unused > 0) {
        struct core_warm_block *block = warm->first;
        warm->first = block->next;
        warm->bytes -= block->capacity;
        warm->unused -= warm->unused < block->capacity ? warm->unused : block->capacity;
        PyMem_RawFree(block);
    }
}

struct core_memory *
core_memory_bare(struct core_state *st)
{
    struct core_memory *m = PyObject_New(struct core_memory, st->memory_type);
    if (m != NULL)
        memset((char *)m + sizeof m->ob_base, 0, sizeof *m - sizeof m->ob_base);
    return m;
}

struct core_memory *
core_memory_new(struct core_state *st, Py_ssize_t size)
{
    struct core_memory *m = core_memory_bare(st);
    if (m == NULL)
        return NULL;
    m->size = size;
    m->capacity = size ? (size_t)size : 1;
    m->data = !core_is_warm_size((uint64_t)size) ? NULL : warm_take(&st->warm, (size_t)size, &m->capacity);
    if (m->data == NULL)
        m->data = PyMem_RawMalloc(m->capacity);
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
    struct core_memory *m = core_memory_bare(st);
    if (m == NULL)
        return NULL;
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

/* NULL: the module is gone already, at the end of the program. */
static struct core_warm *
warm_of(PyTypeObject *type)
{
    struct core_state *st = core_state_of_type(type);
    if (st == NULL)
        PyErr_Clear();
    return st != NULL ? &st->warm : NULL;
}

static void
memory_dealloc(PyObject *self)
{
    struct core_memory *m = (struct core_memory *)self;
    PyTypeObject *type = Py_TYPE(self);
    bool ours = m->segment != NULL; /* its data goes with it */
    PyObject *error[3];             /* it may be on its way through here */
    PyErr_Fetch(&error[0], &error[1], &error[2]);
    core_shared_end(m);
    if (m->mapping != NULL)
        joblot_mapping_release(m->mapping);
    else if (!ours && m->data != NULL)
        warm_give(warm_of(type), m->data, m->capacity);
    PyErr_Restore(error[0], error[1], error[2]);
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
    {Py_tp_doc, "Bytes of an array: heap memory, or a mapping of a segment, that end with their last user."},
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
