/* decode.c - from a message back to an object: arrays are made when the unpickler reaches them. */
#include "shared.h"

#include <string.h>

/* What the unpickler gets for an array: which entry of which message.  `d` is NULL once the message is over. */
struct handle {
    PyObject_HEAD
    struct core_decoder *d;
    unsigned char cls;
    struct core_place place;
    const unsigned char *form;
    size_t form_size;
};

enum { ENTRY_SIZE = 40 };

static uint64_t
get_le(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

/* ---- parts ---- */

/* Parts that lie here: of a task, or of an object that was shared.  Else they are those of an event. */
static bool
is_here(const struct core_decoder *d)
{
    return d->arrived != NULL;
}

static uint64_t
part_size(const struct core_decoder *d, size_t i)
{
    return is_here(d) ? d->arrived[i].size : d->event->sizes[i];
}

/* Copies a part to memory of ours. */
static int
read_part(struct core_decoder *d, size_t i, void *out)
{
    joblot_error err;
    joblot_status status = JOBLOT_OK;
    if (is_here(d) && d->arrived[i].data != NULL) {
        memcpy(out, d->arrived[i].data, (size_t)d->arrived[i].size);
    } else if (d->worker != NULL) {
        joblot_mapping *mapping;
        status = joblot_worker_map(d->worker, &d->arrived[i], JOBLOT_MAP_READ, &mapping, &err);
        if (status == JOBLOT_OK) {
            memcpy(out, joblot_mapping_data(mapping), (size_t)d->arrived[i].size);
            joblot_mapping_release(mapping);
        }
    } else {
        do {
            Py_BEGIN_ALLOW_THREADS
            status = joblot_event_read(d->call, d->event, i, out, &err);
            Py_END_ALLOW_THREADS
        } while (status == JOBLOT_CANCELLED && PyErr_CheckSignals() == 0);
        if (status == JOBLOT_CANCELLED) {
            d->status = status;
            return -1;
        }
    }
    if (status == JOBLOT_OK)
        return 0;
    d->status = status;
    core_raise(d->st, status, &err);
    return -1;
}

/* The bytes of one of the first three parts, where they lie or in memory that the decoder keeps. */
static int
find_part(struct core_decoder *d, size_t i, const unsigned char **data, size_t *size)
{
    *size = (size_t)part_size(d, i);
    *data = is_here(d) ? d->arrived[i].data : joblot_event_data(d->call, d->event, i);
    if (*data != NULL)
        return 0;
    struct core_memory *memory = core_memory_new(d->st, (Py_ssize_t)*size);
    if (memory == NULL)
        return -1;
    d->keep[i] = (PyObject *)memory;
    *data = memory->data;
    return *size > 0 ? read_part(d, i, memory->data) : 0;
}

int
core_decoder_init(struct core_decoder *d, const unsigned char **stream, size_t *size)
{
    d->table = d->inline_bytes = NULL;
    d->table_size = d->inline_size = 0;
    d->keep[0] = d->keep[1] = d->keep[2] = NULL;
    d->status = JOBLOT_OK;
    if (d->n_parts == 0) {
        PyErr_SetString(PyExc_ValueError, "a message without parts");
        return -1;
    }
    if (find_part(d, 0, stream, size) < 0)
        return -1;
    if (d->n_parts < 3)
        return 0;
    if (find_part(d, 1, &d->table, &d->table_size) < 0)
        return -1;
    return find_part(d, 2, &d->inline_bytes, &d->inline_size);
}

void
core_decoder_clear(struct core_decoder *d)
{
    for (int i = 0; i < 3; i++)
        Py_CLEAR(d->keep[i]);
    Py_CLEAR(d->copies);
}

struct core_memory *
core_decoder_copy(struct core_decoder *d, size_t part)
{
    struct core_memory *memory = core_memory_new(d->st, (Py_ssize_t)part_size(d, part));
    if (memory != NULL && memory->size > 0 && read_part(d, part, memory->data) < 0)
        Py_CLEAR(memory);
    return memory;
}

/* ---- handles ---- */

/* Some of a Memory's bytes, as an object with a buffer. */
static PyObject *
slice_of(struct core_memory *memory, uint64_t offset, uint64_t size)
{
    PyObject *whole = PyMemoryView_FromObject((PyObject *)memory), *part = NULL;
    if (whole != NULL)
        part = PySequence_GetSlice(whole, (Py_ssize_t)offset, (Py_ssize_t)(offset + size));
    Py_XDECREF(whole);
    return part;
}

static PyObject *
raw_buffer(struct core_decoder *d, const struct core_place *place, bool live)
{
    if (live) {
        uint64_t offset;
        struct core_memory *memory = core_shared_take(d, place, &offset);
        PyObject *slice = memory ? slice_of(memory, offset, place->size) : NULL;
        Py_XDECREF(memory);
        return slice;
    }
    if (d->memory != NULL)
        return slice_of(d->memory, (uint64_t)((const unsigned char *)d->arrived[place->part].data - d->memory->data),
                        place->size);
    if (d->worker != NULL && d->arrived[place->part].segment != 0)
        return (PyObject *)core_memory_map(d->st, d->worker, &d->arrived[place->part], JOBLOT_MAP_PRIVATE, false);
    return (PyObject *)core_decoder_copy(d, place->part);
}

static PyObject *
small_raw_buffer(struct core_decoder *d, uint64_t offset, uint64_t size)
{
    struct core_memory *memory = core_memory_new(d->st, (Py_ssize_t)size);
    if (memory != NULL)
        memcpy(memory->data, d->inline_bytes + offset, (size_t)size);
    return (PyObject *)memory;
}

static PyObject *
make_handle(struct core_decoder *d, const unsigned char *at, uint64_t form_size)
{
    struct core_place place = {.kind = at[0],
                               .mode = at[2],
                               .part = (uint32_t)get_le(at + 4, 4),
                               .segment = (uint32_t)get_le(at + 28, 4),
                               .offset = get_le(at + 8, 8),
                               .size = get_le(at + 16, 8),
                               .start = get_le(at + 32, 8)};
    bool has_part = place.kind != CORE_SHARED || is_here(d);
    if (has_part && (place.part >= d->n_parts || place.offset > part_size(d, place.part) ||
                     place.size > part_size(d, place.part) - place.offset)) {
        PyErr_SetString(PyExc_ValueError, "a message whose table of arrays does not fit its parts");
        return NULL;
    }
    if (place.kind == CORE_RAW)
        return place.part == 2 ? small_raw_buffer(d, place.offset, place.size) : raw_buffer(d, &place, at[3] != 0);
    struct handle *handle = PyObject_New(struct handle, d->st->handle_type);
    if (handle == NULL)
        return NULL;
    handle->d = d;
    handle->cls = at[1];
    handle->place = place;
    handle->form = at + ENTRY_SIZE;
    handle->form_size = (size_t)form_size;
    return (PyObject *)handle;
}

static PyObject *
make_handles(struct core_decoder *d)
{
    PyObject *list = PyList_New(0);
    size_t at = 0;
    while (list != NULL && at < d->table_size) {
        const unsigned char *entry = d->table + at;
        size_t left = d->table_size - at;
        uint64_t form_size = left >= ENTRY_SIZE ? get_le(entry + 24, 4) : 0;
        if (left < ENTRY_SIZE || form_size > left - ENTRY_SIZE) {
            PyErr_SetString(PyExc_ValueError, "a message whose table of arrays is cut");
            Py_CLEAR(list);
            break;
        }
        PyObject *handle = make_handle(d, entry, form_size);
        if (handle == NULL || PyList_Append(list, handle) < 0)
            Py_CLEAR(list);
        Py_XDECREF(handle);
        at += ENTRY_SIZE + ((size_t)form_size + 7) / 8 * 8;
    }
    return list;
}

static void
end_handles(struct core_state *st, PyObject *list)
{
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        if (Py_IS_TYPE(item, st->handle_type))
            ((struct handle *)item)->d = NULL;
    }
}

PyObject *
core_decode(struct core_decoder *d, const unsigned char *pickle, size_t size)
{
    struct core_state *st = d->st;
    PyObject *result = NULL, *keywords = NULL, *view = NULL;
    PyObject *handles = make_handles(d);
    if (handles == NULL)
        return NULL;
    view = PyMemoryView_FromMemory((char *)(uintptr_t)pickle, (Py_ssize_t)size, PyBUF_READ);
    PyObject *args = view ? PyTuple_Pack(1, view) : NULL;
    if (args != NULL && PyList_GET_SIZE(handles) > 0) {
        keywords = PyDict_New();
        if (keywords == NULL || PyDict_SetItemString(keywords, "buffers", handles) < 0)
            Py_CLEAR(args);
    }
    if (args != NULL)
        result = PyObject_Call(st->loads, args, keywords);
    end_handles(st, handles);
    Py_XDECREF(args);
    Py_XDECREF(view);
    Py_XDECREF(keywords);
    Py_DECREF(handles);
    return result;
}

/* ---- arrays ---- */

static PyObject *
int_tuple(const int64_t *values, int n)
{
    PyObject *tuple = PyTuple_New(n);
    for (int i = 0; tuple != NULL && i < n; i++) {
        PyObject *value = PyLong_FromLongLong(values[i]);
        if (value == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, value);
    }
    return tuple;
}

PyObject *
core_new_array(struct core_state *st, PyObject *cls, const struct joblot_array *a, PyObject *dtype, PyObject *buffer,
               uint64_t offset)
{
    PyObject *shape = int_tuple(a->shape, a->ndim), *strides = int_tuple(a->strides, a->ndim), *array = NULL;
    if (shape != NULL && strides != NULL)
        array = PyObject_CallMethod(st->ndarray, "__new__", "OOOOKO", cls, shape, dtype, buffer,
                                    (unsigned long long)offset, strides);
    Py_XDECREF(shape);
    Py_XDECREF(strides);
    return array;
}

static bool
is_contiguous(const struct joblot_array *a, bool fortran)
{
    int64_t step = (int64_t)a->itemsize;
    for (int k = 0; k < a->ndim; k++) {
        int i = fortran ? k : a->ndim - 1 - k;
        if (a->shape[i] != 1 && a->strides[i] != step)
            return false;
        step *= a->shape[i];
    }
    return true;
}

static int
fill_from_message(struct handle *h, void *out)
{
    if (h->place.size == 0)
        return 0;
    if (h->place.kind == CORE_SMALL) {
        memcpy(out, h->d->inline_bytes + h->place.offset, (size_t)h->place.size);
        return 0;
    }
    return read_part(h->d, h->place.part, out);
}

/* An array on memory of ours, which is likely to be there already: a page that is touched for the first time costs more
 * than copying it. */
static PyObject *
warm_array(struct handle *h, PyObject *cls, const struct joblot_array *a, PyObject *dtype, uint64_t offset)
{
    struct core_memory *memory = core_memory_new(h->d->st, (Py_ssize_t)h->place.size);
    if (memory == NULL)
        return NULL;
    PyObject *array = fill_from_message(h, memory->data) < 0
                          ? NULL
                          : core_new_array(h->d->st, cls, a, dtype, (PyObject *)memory, offset);
    Py_DECREF(memory);
    return array;
}

/* An array with memory of its own, owned by NumPy where the layout is C's or Fortran's. */
static PyObject *
own_array(struct handle *h, PyObject *cls, const struct joblot_array *a, PyObject *dtype, uint64_t offset)
{
    struct core_state *st = h->d->st;
    struct core_view view;
    bool c_order = is_contiguous(a, false), whole = offset == 0 && (c_order || is_contiguous(a, true));
    PyObject *array = NULL, *base = NULL;
    if (h->d->worker == NULL && core_is_warm_size(h->place.size))
        return warm_array(h, cls, a, dtype, offset);
    if (whole) { /* not numpy.empty, which makes a date without a unit native */
        PyObject *shape = int_tuple(a->shape, a->ndim);
        if (shape != NULL)
            base = PyObject_CallMethod(st->ndarray, "__new__", "OOOOiOs", cls, shape, dtype, Py_None, 0, Py_None,
                                       c_order ? "C" : "F");
        Py_XDECREF(shape);
    } else {
        base = PyObject_CallFunction(st->empty, "(K)s", (unsigned long long)h->place.size, "u1");
    }
    if (base == NULL || core_view_init(&view, base) < 0)
        goto error;
    int rc = fill_from_message(h, view.array.data);
    core_view_clear(&view);
    if (rc < 0)
        goto error;
    if (whole)
        return base;
    array = core_new_array(st, cls, a, dtype, base, offset);
error:
    Py_XDECREF(base);
    return array;
}

/* What numpy.memmap sets: _mmap, filename, offset, mode. */
static int
dress_memmap(struct core_decoder *d, PyObject *array, struct core_memory *memory, const char *mode)
{
    PyObject *name = PyUnicode_FromFormat("/proc/%d/fd/%d", joblot_worker_parent_pid(d->worker),
                                          joblot_mapping_parent_fd(memory->mapping));
    PyObject *offset = PyLong_FromUnsignedLongLong(joblot_mapping_offset(memory->mapping));
    PyObject *text = PyUnicode_FromString(mode);
    int rc = name == NULL || offset == NULL || text == NULL ||
                     PyObject_SetAttrString(array, "_mmap", (PyObject *)memory) < 0 ||
                     PyObject_SetAttrString(array, "filename", name) < 0 ||
                     PyObject_SetAttrString(array, "offset", offset) < 0 ||
                     PyObject_SetAttrString(array, "mode", text) < 0
                 ? -1
                 : 0;
    Py_XDECREF(name);
    Py_XDECREF(offset);
    Py_XDECREF(text);
    return rc;
}

static PyObject *
mapped_array(struct handle *h, PyObject *cls, const struct joblot_array *a, PyObject *dtype, uint64_t offset)
{
    static const struct {
        enum joblot_map_mode map;
        bool readonly;
        const char *name;
    } modes[] = {[CORE_MAP_COPY] = {JOBLOT_MAP_PRIVATE, false, "c"},
                 [CORE_MAP_R] = {JOBLOT_MAP_READ, true, "r"},
                 [CORE_MAP_RPLUS] = {JOBLOT_MAP_SHARED, false, "r+"},
                 [CORE_MAP_C] = {JOBLOT_MAP_PRIVATE, false, "c"},
                 [CORE_MAP_DEFAULT] = {JOBLOT_MAP_PRIVATE, false, "c"}};
    struct core_decoder *d = h->d;
    bool memmap = cls == d->st->memmap;
    int mode = memmap && h->place.mode <= CORE_MAP_DEFAULT ? h->place.mode : CORE_MAP_DEFAULT;
    struct core_memory *memory =
        core_memory_map(d->st, d->worker, &d->arrived[h->place.part], modes[mode].map, modes[mode].readonly);
    if (memory == NULL)
        return NULL;
    PyObject *array = core_new_array(d->st, cls, a, dtype, (PyObject *)memory, offset);
    if (array != NULL && memmap && dress_memmap(d, array, memory, modes[mode].name) < 0)
        Py_CLEAR(array);
    Py_DECREF(memory);
    return array;
}

/* An array in memory that both sides have, or that a shared object lies in: no copy. */
static PyObject *
live_array(struct handle *h, PyObject *cls, const struct joblot_array *a, PyObject *dtype, uint64_t offset)
{
    struct core_decoder *d = h->d;
    struct core_memory *memory;
    uint64_t start;
    bool readonly = (h->place.mode & CORE_ARRAY_READONLY) != 0;
    if (d->memory != NULL) {
        memory = (struct core_memory *)Py_NewRef(d->memory);
        start = (uint64_t)((const unsigned char *)d->arrived[h->place.part].data - memory->data);
        readonly = false; /* as its memory is anyway */
    } else {
        memory = core_shared_take(d, &h->place, &start);
    }
    if (memory == NULL)
        return NULL;
    PyObject *array = core_new_array(d->st, cls, a, dtype, (PyObject *)memory, start + offset);
    if (array != NULL && readonly && !memory->readonly) {
        PyObject *done = PyObject_CallMethod(array, "setflags", "O", Py_False);
        Py_XDECREF(done);
        if (done == NULL)
            Py_CLEAR(array);
    }
    Py_DECREF(memory);
    return array;
}

static PyObject *
build(struct handle *h, PyObject *spec)
{
    struct core_state *st = h->d->st;
    struct joblot_array a;
    joblot_dtype *form_dtype;
    joblot_error err;
    uint64_t offset;
    joblot_status status =
        joblot_array_decode(h->form, h->form_size, NULL, h->place.size, &a, &form_dtype, &offset, &err);
    if (status != JOBLOT_OK)
        return core_raise(st, status, &err);
    joblot_dtype_free(form_dtype);
    PyObject *dtype = core_dtype_of_spec(st, spec), *array = NULL;
    if (dtype == NULL)
        return NULL;
    if (st->numpy == NULL) { /* a dtype object came first, and with it NumPy: load the names */
        PyObject *text = PyUnicode_FromString("|u1");
        PyObject *any = text ? core_dtype_of_spec(st, text) : NULL;
        Py_XDECREF(text);
        Py_XDECREF(any);
        if (any == NULL)
            goto done;
    }
    bool mapped = h->place.kind == CORE_LARGE && h->d->worker != NULL && h->place.mode != CORE_MAP_COPY;
    PyObject *cls = h->cls == CORE_MATRIX                                     ? st->matrix
                    : h->cls == CORE_RECARRAY                                 ? st->recarray
                    : h->cls == CORE_MEMMAP || mapped                         ? st->memmap
                                                                              : st->ndarray;
    bool live = h->place.kind == CORE_SHARED || h->place.kind == CORE_HANDED ||
                (h->place.kind == CORE_LARGE && h->d->memory != NULL);
    array = live     ? live_array(h, cls, &a, dtype, offset)
            : mapped ? mapped_array(h, cls, &a, dtype, offset)
                     : own_array(h, cls, &a, dtype, offset);
done:
    Py_DECREF(dtype);
    return array;
}

PyObject *
core_array(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct core_state *st = core_state_of(module);
    if (nargs != 2 || !Py_IS_TYPE(args[0], st->handle_type) || ((struct handle *)args[0])->d == NULL) {
        PyErr_SetString(PyExc_TypeError, "_array is called by unpicklers of joblot's messages only");
        return NULL;
    }
    return build((struct handle *)args[0], args[1]);
}

PyObject *
core_object(PyObject *module, PyObject *arg)
{
    struct core_state *st = core_state_of(module);
    struct handle *handle = (struct handle *)arg;
    if (!Py_IS_TYPE(arg, st->handle_type) || handle->d == NULL || handle->d->worker == NULL ||
        handle->place.kind != CORE_OBJECT) {
        PyErr_SetString(PyExc_TypeError, "_object is called by unpicklers of joblot's messages only");
        return NULL;
    }
    return core_shared_handle(handle->d, &handle->place);
}

static void
handle_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, "An array of a message that is being read."},
    {Py_tp_dealloc, handle_dealloc},
    {0, NULL},
};

PyType_Spec joblot__handle_spec = {
    .name = "joblot._core.Handle",
    .basicsize = sizeof(struct handle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = handle_slots,
};
