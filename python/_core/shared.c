/* shared.c - memory that programs work in: joblot.empty and joblot.share.
 *
 * Threads: the list of live memory is guarded by the GIL.  Fork: a child has the memory as well; core_shared_forked makes
 * it the owner of what it inherited. */
#include "shared.h"

#include "pool.h"

#include <string.h>

/* ---- the list of live memory, by address ---- */

/* The first whose address is above `at`. */
static size_t
position_of(const struct core_state *st, const void *at)
{
    size_t low = 0, high = st->n_live;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if ((uintptr_t)st->live[mid]->data > (uintptr_t)at)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

struct core_memory *
core_shared_find(const struct core_state *st, const void *low, const void *high)
{
    size_t i = position_of(st, low);
    if (i == 0)
        return NULL;
    struct core_memory *m = st->live[i - 1];
    return (uintptr_t)high <= (uintptr_t)m->data + (size_t)m->size ? m : NULL;
}

static int
add_live(struct core_state *st, struct core_memory *m)
{
    if (st->n_live == st->live_capacity) {
        size_t capacity = st->live_capacity ? 2 * st->live_capacity : 16;
        struct core_memory **live = PyMem_Realloc(st->live, capacity * sizeof *live);
        if (live == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        st->live = live;
        st->live_capacity = capacity;
    }
    size_t i = position_of(st, m->data);
    memmove(st->live + i + 1, st->live + i, (st->n_live - i) * sizeof *st->live);
    st->live[i] = m;
    st->n_live++;
    m->live = true;
    return 0;
}

static void
have_forgotten(const struct core_state *st)
{
    for (struct core_pool *pool = st->pools; pool != NULL; pool = pool->next)
        if (pool->pool != NULL)
            joblot_pool_forget(pool->pool);
}

void
core_shared_end(struct core_memory *m)
{
    struct core_state *st = m->live || m->segment != NULL ? core_state_of_type(Py_TYPE(m)) : NULL;
    if (st == NULL) /* it never was, or the module is gone, at the end of the program */
        PyErr_Clear();
    if (m->live && st != NULL) {
        size_t i = position_of(st, m->data) - 1;
        st->n_live--;
        memmove(st->live + i, st->live + i + 1, (st->n_live - i) * sizeof *st->live);
        m->live = false;
    }
    if (m->segment == NULL)
        return;
    bool told = joblot_segment_borrowers(m->segment) > 1;
    joblot_segment_release(m->segment);
    m->segment = NULL;
    if (told && st != NULL) /* workers that were told of it would hold it until the next call */
        have_forgotten(st);
}

void
core_pool_add(struct core_pool *pool)
{
    pool->next = pool->st->pools;
    pool->st->pools = pool;
}

void
core_pool_remove(struct core_pool *pool)
{
    for (struct core_pool **link = &pool->st->pools; *link != NULL; link = &(*link)->next)
        if (*link == pool) {
            *link = pool->next;
            return;
        }
}

/* ---- memory of segments ---- */

static struct core_memory *
find_identity(const struct core_state *st, uint64_t identity, size_t size)
{
    for (size_t i = 0; identity != 0 && i < st->n_live; i++)
        if (st->live[i]->identity == identity && (size_t)st->live[i]->size == size)
            return st->live[i];
    return NULL;
}

struct core_memory *
core_shared_of_segment(struct core_state *st, joblot_segment *segment, bool readonly)
{
    joblot_error err;
    void *data;
    uint64_t identity = joblot_segment_identity(segment), size = joblot_segment_size(segment);
    struct core_memory *m = find_identity(st, identity, (size_t)size);
    if (m != NULL)
        return (struct core_memory *)Py_NewRef(m);
    joblot_status status = joblot_segment_data(segment, &data, &err);
    if (status != JOBLOT_OK) {
        core_raise(st, status, &err);
        return NULL;
    }
    m = core_memory_bare(st);
    if (m == NULL)
        return NULL;
    m->segment = joblot_segment_borrow(segment);
    m->data = data;
    m->size = (Py_ssize_t)size;
    m->readonly = readonly;
    m->identity = identity;
    if (add_live(st, m) < 0)
        Py_CLEAR(m);
    return m;
}

joblot_segment *
core_shared_segment(struct core_memory *m)
{
    joblot_error err;
    if (m->segment != NULL)
        return m->segment;
    /* A worker that is a parent itself lends on what it was lent. */
    joblot_status status = joblot_mapping_adopt(m->mapping, &m->segment, &err);
    if (status == JOBLOT_OK)
        return m->segment;
    core_raise(core_state_of_type(Py_TYPE(m)), status, &err);
    return NULL;
}

uint32_t
core_shared_id(const struct core_memory *m)
{
    return m->mapping != NULL && !m->lent ? m->parent_id : 0;
}

/* ---- a worker: what the parent lends ---- */

static struct core_memory *
find_lent(const struct core_state *st, uint32_t id, bool lent)
{
    for (size_t i = 0; i < st->n_live; i++)
        if (st->live[i]->parent_id == id && st->live[i]->lent == lent)
            return st->live[i];
    return NULL;
}

static struct core_memory *
take_lent(struct core_decoder *d, uint32_t part, bool readonly, bool lent)
{
    struct core_state *st = d->st;
    const struct joblot_arrived *arrived = &d->arrived[part];
    struct core_memory *m = find_lent(st, arrived->segment, lent), *same;
    if (m != NULL)
        return (struct core_memory *)Py_NewRef(m);
    m = core_memory_map(st, d->worker, arrived, readonly ? JOBLOT_MAP_READ : JOBLOT_MAP_SHARED, readonly);
    if (m == NULL)
        return NULL;
    m->identity = joblot_mapping_identity(m->mapping);
    same = lent ? NULL : find_identity(st, m->identity, (size_t)m->size);
    if (same != NULL && !same->lent && same->readonly == readonly) {
        /* It is this worker's own: it made it and handed it over, or inherited it in a fork. */
        same->parent_id = arrived->segment;
        Py_DECREF(m);
        return (struct core_memory *)Py_NewRef(same);
    }
    m->parent_id = arrived->segment;
    m->lent = lent;
    if (lent)
        joblot_mapping_lend(m->mapping);
    if (add_live(st, m) < 0)
        Py_CLEAR(m);
    return m;
}

/* ---- the parent: what comes back ---- */

static struct core_memory *
take_own(struct core_decoder *d, const struct core_place *place)
{
    for (size_t i = 0; i < d->st->n_live; i++) {
        struct core_memory *m = d->st->live[i];
        if (m->segment != NULL && joblot_segment_id(m->segment) == place->segment)
            return (struct core_memory *)Py_NewRef(m);
    }
    /* Nobody here has it any more, but for the worker that answers. */
    joblot_segment *segment = joblot_event_segment(d->call, d->event, place->segment);
    if (segment != NULL)
        return core_shared_of_segment(d->st, segment, (place->mode & CORE_MEMORY_READONLY) != 0);
    PyErr_SetString(PyExc_ValueError, "an answer names memory that its worker was not told of");
    return NULL;
}

/* What the worker made: the memory itself where its descriptor has arrived, else a copy of the bytes. */
static struct core_memory *
take_handed(struct core_decoder *d, const struct core_place *place, uint64_t *offset)
{
    joblot_segment *segment = joblot_event_handed(d->call, d->event, place->segment);
    struct core_memory *m = NULL;
    if (segment != NULL) {
        m = core_shared_of_segment(d->st, segment, (place->mode & CORE_MEMORY_READONLY) != 0);
        *offset += place->start;
        if (m != NULL || !(PyErr_ExceptionMatches(PyExc_OSError) || PyErr_ExceptionMatches(PyExc_MemoryError)))
            return m;
        PyErr_Clear(); /* it cannot be mapped here */
        *offset -= place->start;
    }
    PyObject *key = PyLong_FromUnsignedLong(place->part);
    if (d->copies == NULL)
        d->copies = PyDict_New();
    m = key && d->copies ? (struct core_memory *)PyDict_GetItemWithError(d->copies, key) : NULL;
    if (m != NULL) {
        Py_INCREF(m);
    } else if (!PyErr_Occurred()) {
        m = core_decoder_copy(d, place->part);
        if (m != NULL && PyDict_SetItem(d->copies, key, (PyObject *)m) < 0)
            Py_CLEAR(m);
    }
    Py_XDECREF(key);
    return m;
}

struct core_memory *
core_shared_take(struct core_decoder *d, const struct core_place *place, uint64_t *offset)
{
    struct core_memory *m;
    *offset = place->offset;
    if (d->worker != NULL)
        m = take_lent(d, place->part, (place->mode & CORE_MEMORY_READONLY) != 0, false);
    else if (place->kind == CORE_HANDED)
        m = take_handed(d, place, offset);
    else
        m = take_own(d, place);
    if (m != NULL && (*offset > (uint64_t)m->size || place->size > (uint64_t)m->size - *offset)) {
        PyErr_SetString(PyExc_ValueError, "a message with an array that does not fit into its memory");
        Py_CLEAR(m);
    }
    return m;
}

/* ---- objects of joblot.share ---- */

PyObject *
core_shared_handle(struct core_decoder *d, const struct core_place *place)
{
    struct core_state *st = d->st;
    PyObject *key = PyLong_FromUnsignedLong(d->arrived[place->part].segment);
    PyObject *handle = key ? PyDict_GetItemWithError(st->objects, key) : NULL;
    if (handle != NULL) {
        Py_INCREF(handle);
    } else if (key != NULL && !PyErr_Occurred()) {
        struct core_memory *m = take_lent(d, place->part, true, true);
        PyObject *helper = m ? core_helper(st, "make_shared") : NULL;
        handle = helper ? PyObject_CallOneArg(helper, (PyObject *)m) : NULL;
        Py_XDECREF(helper);
        Py_XDECREF(m);
        if (handle != NULL && PyDict_SetItem(st->objects, key, handle) < 0)
            Py_CLEAR(handle);
    }
    Py_XDECREF(key);
    return handle;
}

void
core_shared_forget(struct core_state *st, uint32_t id)
{
    PyObject *key = PyDict_GET_SIZE(st->objects) > 0 ? PyLong_FromUnsignedLong(id) : NULL;
    if (key != NULL && PyDict_GetItemWithError(st->objects, key) != NULL)
        (void)PyDict_DelItem(st->objects, key);
    PyErr_Clear();
    Py_XDECREF(key);
}

/* The object of a handle, or another argument as it is; new reference. */
static PyObject *
resolved(struct core_state *st, PyObject *obj)
{
    return (PyObject *)Py_TYPE(obj) == st->shared_class ? PyObject_CallMethod(obj, "get", NULL) : Py_NewRef(obj);
}

int
core_shared_resolve(struct core_state *st, PyObject **args, PyObject **kwargs)
{
    return PyDict_GET_SIZE(st->objects) == 0 ? 0 : core_shared_replace(st, args, kwargs);
}

/* True where one of the arguments is a handle. */
static bool
has_handle(struct core_state *st, PyObject *args, PyObject *kwargs)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    if (!PyTuple_Check(args)) /* what it gives is not known before it is a tuple */
        return true;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++) {
        if ((PyObject *)Py_TYPE(PyTuple_GET_ITEM(args, i)) == st->shared_class)
            return true;
    }
    while (kwargs != NULL && PyDict_Check(kwargs) && PyDict_Next(kwargs, &at, &key, &value)) {
        if ((PyObject *)Py_TYPE(value) == st->shared_class)
            return true;
    }
    return false;
}

int
core_shared_replace(struct core_state *st, PyObject **args, PyObject **kwargs)
{
    if (st->shared_class == NULL || !has_handle(st, *args, *kwargs))
        return 0;
    PyObject *tuple = PySequence_Tuple(*args), *out = tuple ? PyTuple_New(PyTuple_GET_SIZE(tuple)) : NULL;
    for (Py_ssize_t i = 0; out != NULL && i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *item = resolved(st, PyTuple_GET_ITEM(tuple, i));
        if (item == NULL)
            Py_CLEAR(out);
        else
            PyTuple_SET_ITEM(out, i, item);
    }
    Py_XDECREF(tuple);
    if (out == NULL)
        return -1;
    Py_SETREF(*args, out);
    if (*kwargs == NULL || !PyDict_Check(*kwargs) || PyDict_GET_SIZE(*kwargs) == 0)
        return 0;
    PyObject *copy = PyDict_New(), *key, *value;
    Py_ssize_t at = 0;
    while (copy != NULL && PyDict_Next(*kwargs, &at, &key, &value)) {
        PyObject *item = resolved(st, value);
        if (item == NULL || PyDict_SetItem(copy, key, item) < 0)
            Py_CLEAR(copy);
        Py_XDECREF(item);
    }
    if (copy == NULL)
        return -1;
    Py_SETREF(*kwargs, copy);
    return 0;
}

/* ---- functions of the module ---- */

static int
to_folder(PyObject *value, void *out)
{
    if (value == NULL || value == Py_None) {
        Py_CLEAR(*(PyObject **)out);
        return 1;
    }
    return PyUnicode_FSConverter(value, out);
}

/* A new segment of `size` bytes; NULL: an exception is set. */
static joblot_segment *
new_segment(struct core_state *st, uint64_t size, PyObject *folder, PyObject *fallback)
{
    struct joblot_segment_options options = {.folder = folder ? PyBytes_AS_STRING(folder) : NULL,
                                             .fallback_folder = fallback ? PyBytes_AS_STRING(fallback) : NULL,
                                             .shared = 1};
    joblot_segment *segment;
    joblot_error err;
    joblot_status status = joblot_segment_new(size, &options, &segment, &err);
    if (status == JOBLOT_OK)
        return segment;
    core_raise(st, status, &err);
    return NULL;
}

PyObject *
core_shared_memory(PyObject *module, PyObject *args)
{
    struct core_state *st = core_state_of(module);
    PyObject *folder = NULL, *fallback = NULL;
    unsigned long long size;
    if (!PyArg_ParseTuple(args, "KO&O&:shared_memory", &size, to_folder, &folder, to_folder, &fallback))
        return NULL;
    joblot_segment *segment = new_segment(st, size, folder, fallback);
    PyObject *memory = segment ? (PyObject *)core_shared_of_segment(st, segment, false) : NULL;
    joblot_segment_release(segment);
    Py_XDECREF(folder);
    Py_XDECREF(fallback);
    return memory;
}

/* The elements of an array in the layout in which it would travel, in a segment of their own. */
static joblot_segment *
copy_array(struct core_state *st, const struct joblot_array *array, struct joblot_array *layout, uint64_t *offset,
           PyObject *folder, PyObject *fallback)
{
    joblot_error err;
    uint64_t size;
    int kept;
    void *data;
    joblot_segment *segment = NULL;
    joblot_status status = joblot_array_compact(array, layout, offset, &size, &kept, &err);
    if (status == JOBLOT_OK) {
        segment = new_segment(st, size ? size : 1, folder, fallback);
        if (segment == NULL)
            return NULL;
        if (kept && size > 0) {
            Py_BEGIN_ALLOW_THREADS
            status = joblot_segment_write(segment, 0, array->data - *offset, size, &err);
            Py_END_ALLOW_THREADS
        } else if (size > 0) {
            status = joblot_segment_data(segment, &data, &err);
            struct joblot_array to = *layout;
            to.data = (unsigned char *)data + *offset;
            if (status == JOBLOT_OK)
                status = joblot_array_copy(&to, array, &err);
        }
    }
    if (status == JOBLOT_OK)
        return segment;
    core_raise(st, status, &err);
    joblot_segment_release(segment);
    return NULL;
}

PyObject *
core_share_array(PyObject *module, PyObject *args)
{
    struct core_state *st = core_state_of(module);
    PyObject *array, *cls, *folder = NULL, *fallback = NULL, *out = NULL, *dtype = NULL;
    struct core_memory *memory = NULL;
    struct core_view view;
    struct joblot_array layout;
    uint64_t offset;
    if (!PyArg_ParseTuple(args, "OOO&O&:share_array", &array, &cls, to_folder, &folder, to_folder, &fallback))
        return NULL;
    int is = core_is_array(st, array);
    if (is > 0 && core_view_init(&view, array) == 0) {
        joblot_segment *segment = copy_array(st, &view.array, &layout, &offset, folder, fallback);
        core_view_clear(&view);
        if (segment != NULL)
            memory = core_shared_of_segment(st, segment, true);
        joblot_segment_release(segment);
        dtype = memory ? PyObject_GetAttrString(array, "dtype") : NULL;
        if (dtype != NULL)
            out = core_new_array(st, cls, &layout, dtype, (PyObject *)memory, offset);
        Py_XDECREF(dtype);
        Py_XDECREF(memory);
    } else if (is == 0) {
        PyErr_SetString(PyExc_TypeError, "share_array takes an array");
    }
    Py_XDECREF(folder);
    Py_XDECREF(fallback);
    return out;
}

/* ---- an object in one segment: u64 n; n times {u64 offset; u64 size}; the parts of its message ---- */

enum { PART_ALIGN = 64, PLACE_SIZE = 16, MAX_PACKED = 65536 };

static uint64_t
round_up(uint64_t n)
{
    return (n + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
}

static struct core_memory *
write_parts(struct core_encoder *e, PyObject *folder, PyObject *fallback)
{
    joblot_error err;
    uint64_t at = round_up(8 + (uint64_t)e->n_parts * PLACE_SIZE);
    size_t head_size = 8 + e->n_parts * PLACE_SIZE;
    uint64_t *head = PyMem_Malloc(head_size);
    if (head == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    head[0] = e->n_parts;
    for (size_t i = 0; i < e->n_parts; i++) {
        head[1 + 2 * i] = at;
        head[2 + 2 * i] = e->parts[i].size;
        at = round_up(at + e->parts[i].size);
    }
    joblot_segment *segment = new_segment(e->st, at, folder, fallback);
    joblot_status status = JOBLOT_OK;
    if (segment != NULL) {
        status = joblot_segment_write(segment, 0, head, head_size, &err);
        Py_BEGIN_ALLOW_THREADS
        for (size_t i = 0; i < e->n_parts && status == JOBLOT_OK; i++)
            if (e->parts[i].size > 0)
                status = joblot_segment_write(segment, head[1 + 2 * i], e->parts[i].data, e->parts[i].size, &err);
        Py_END_ALLOW_THREADS
        if (status != JOBLOT_OK)
            core_raise(e->st, status, &err);
    }
    struct core_memory *memory =
        segment != NULL && status == JOBLOT_OK ? core_shared_of_segment(e->st, segment, true) : NULL;
    joblot_segment_release(segment);
    PyMem_Free(head);
    return memory;
}

PyObject *
core_share_pack(PyObject *module, PyObject *args)
{
    struct core_state *st = core_state_of(module);
    PyObject *obj, *folder = NULL, *fallback = NULL, *memory = NULL;
    unsigned char form = CORE_RESULT;
    if (!PyArg_ParseTuple(args, "OO&O&:share_pack", &obj, to_folder, &folder, to_folder, &fallback))
        return NULL;
    struct core_encoder *e = core_encoder_new(st);
    if (e != NULL) {
        e->is_result = true; /* buffers stay where they are, and are written from there */
        if (core_bytes_add(&e->stream, &form, 1) == 0 && core_encode(e, obj) == 0)
            memory = (PyObject *)write_parts(e, folder, fallback);
        core_encoder_reset(e);
        Py_DECREF(e);
    }
    Py_XDECREF(folder);
    Py_XDECREF(fallback);
    return memory;
}

PyObject *
core_share_unpack(PyObject *module, PyObject *arg)
{
    struct core_state *st = core_state_of(module);
    struct core_memory *m = (struct core_memory *)arg;
    if (!Py_IS_TYPE(arg, st->memory_type) || m->size < 8) {
        PyErr_SetString(PyExc_TypeError, "share_unpack takes the memory of an object that was shared");
        return NULL;
    }
    const uint64_t *head = (const uint64_t *)(const void *)m->data;
    uint64_t size = (uint64_t)m->size, n = head[0];
    if (n == 0 || n > MAX_PACKED || 8 + n * PLACE_SIZE > size) {
        PyErr_SetString(PyExc_ValueError, "memory that holds no shared object");
        return NULL;
    }
    struct joblot_arrived *parts = PyMem_Calloc((size_t)n, sizeof *parts);
    if (parts == NULL)
        return PyErr_NoMemory();
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = head[1 + 2 * i], bytes = head[2 + 2 * i];
        if (at > size || bytes > size - at) {
            PyErr_SetString(PyExc_ValueError, "memory that holds no shared object");
            PyMem_Free(parts);
            return NULL;
        }
        parts[i] = (struct joblot_arrived){.data = m->data + at, .size = bytes};
    }
    struct core_decoder d = {.st = st, .memory = m, .arrived = parts, .n_parts = (size_t)n};
    const unsigned char *stream;
    size_t stream_size;
    PyObject *obj = NULL;
    if (core_decoder_init(&d, &stream, &stream_size) == 0)
        obj = core_decode(&d, stream + 1, stream_size - 1);
    core_decoder_clear(&d);
    PyMem_Free(parts);
    return obj;
}

PyObject *
core_shared_class(PyObject *module, PyObject *cls)
{
    Py_XSETREF(core_state_of(module)->shared_class, Py_NewRef(cls));
    Py_RETURN_NONE;
}

PyObject *
core_shared_forked(PyObject *module, PyObject *unused)
{
    struct core_state *st = core_state_of(module);
    (void)unused;
    /* First what the parent's pools borrowed, whichever hook comes first. */
    for (struct core_pool *pool = st->pools; pool != NULL; pool = pool->next) {
        joblot_pool_abandon(pool->pool);
        pool->pool = NULL;
    }
    for (size_t i = 0; i < st->n_live; i++) {
        st->live[i]->parent_id = 0; /* by which another process named it */
        if (st->live[i]->segment != NULL)
            joblot_segment_forked(st->live[i]->segment);
    }
    Py_RETURN_NONE;
}

int
core_shared_watch_forks(PyObject *module)
{
    PyObject *posix = PyImport_ImportModule("posix");
    PyObject *watch = posix ? PyObject_GetAttrString(posix, "register_at_fork") : NULL;
    PyObject *none = PyTuple_New(0);
    PyObject *hooks = Py_BuildValue("{s:N}", "after_in_child", PyObject_GetAttrString(module, "shared_forked"));
    PyObject *done = watch && none && hooks ? PyObject_Call(watch, none, hooks) : NULL;
    Py_XDECREF(posix);
    Py_XDECREF(watch);
    Py_XDECREF(none);
    Py_XDECREF(hooks);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}
