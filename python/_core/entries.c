/* entries.c - the arrays and buffers of a message: how each travels, and the parts that they become. */
#include "shared.h"

#include <string.h>

/* Up to here bytes are copied into the message; from here on they are a part, or lie in a segment, of their own. */
enum { SMALL_MAX = 32 << 10, ALIGN = 64, MAX_LARGE_PARTS = 1000, ENTRY_SIZE = 40 };

int
core_bytes_add(struct core_bytes *b, const void *data, size_t size)
{
    unsigned char *at = core_bytes_extend(b, size);
    if (at == NULL)
        return -1;
    if (size > 0)
        memcpy(at, data, size);
    return 0;
}

unsigned char *
core_bytes_extend(struct core_bytes *b, size_t size)
{
    if (size > b->capacity - b->size || b->data == NULL) {
        size_t capacity = b->capacity ? b->capacity : 256;
        if (size > (size_t)PY_SSIZE_T_MAX / 4 - b->size) {
            PyErr_NoMemory();
            return NULL;
        }
        while (capacity < b->size + size)
            capacity *= 2;
        unsigned char *data = PyMem_Realloc(b->data, capacity);
        if (data == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        b->data = data;
        b->capacity = capacity;
    }
    b->size += size;
    return b->data + b->size - size;
}

void
core_bytes_clear(struct core_bytes *b)
{
    PyMem_Free(b->data);
    memset(b, 0, sizeof *b);
}

struct core_entry *
core_new_entry(struct core_encoder *e)
{
    if (e->n_entries == e->entries_capacity) {
        size_t capacity = e->entries_capacity ? 2 * e->entries_capacity : 8;
        struct core_entry *entries = PyMem_Realloc(e->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        e->entries = entries;
        e->entries_capacity = capacity;
    }
    struct core_entry *entry = &e->entries[e->n_entries];
    memset(entry, 0, sizeof *entry);
    return entry;
}

static void
clear_entry(struct core_entry *entry)
{
    Py_CLEAR(entry->owner);
    PyMem_RawFree(entry->heap);
    entry->heap = NULL;
    joblot_segment_release(entry->segment);
    entry->segment = NULL;
}

void
core_clear_entries(struct core_encoder *e)
{
    for (size_t i = 0; i < e->n_entries; i++)
        clear_entry(&e->entries[i]);
    for (size_t i = 0; i < e->n_groups; i++)
        Py_DECREF(e->groups[i].memory);
    e->n_groups = 0;
    e->n_entries = 0;
    e->n_parts = 0;
    e->table.size = e->inline_bytes.size = e->forms.size = 0;
}

/* ---- one array ---- */

struct layout {
    struct joblot_array array; /* as it travels */
    uint64_t offset, size;
    int kept;
};

int
core_add_form(struct core_encoder *e, struct core_entry *entry, const struct joblot_array *array, uint64_t offset)
{
    joblot_error err;
    size_t needed = 0;
    joblot_status status = joblot_array_encode(array, offset, NULL, 0, &needed, &err);
    if (status != JOBLOT_OK && status != JOBLOT_LIMIT) {
        core_raise(e->st, status, &err);
        return -1;
    }
    entry->form = e->forms.size;
    entry->form_size = needed;
    unsigned char *at = core_bytes_extend(&e->forms, (needed + 7) & ~(size_t)7);
    if (at == NULL)
        return -1;
    memset(at, 0, (needed + 7) & ~(size_t)7);
    status = joblot_array_encode(array, offset, at, needed, &needed, &err);
    if (status != JOBLOT_OK) {
        core_raise(e->st, status, &err);
        return -1;
    }
    return 0;
}

/* Writes the elements in the layout in which they travel to `out`, which has layout->size bytes. */
static int
copy_elements(struct core_state *st, const struct joblot_array *array, const struct layout *layout, unsigned char *out)
{
    joblot_error err;
    struct joblot_array to = layout->array;
    if (layout->kept) {
        memcpy(out, array->data - layout->offset, (size_t)layout->size);
        return 0;
    }
    to.data = out + layout->offset;
    joblot_status status = joblot_array_copy(&to, array, &err);
    if (status == JOBLOT_OK)
        return 0;
    core_raise(st, status, &err);
    return -1;
}

static int
put_small(struct core_encoder *e, struct core_entry *entry, const struct joblot_array *array, const struct layout *layout)
{
    size_t pad = (16 - (e->inline_bytes.size & 15)) & 15;
    unsigned char *at = core_bytes_extend(&e->inline_bytes, pad + (size_t)layout->size);
    if (at == NULL)
        return -1;
    memset(at, 0, pad);
    entry->kind = CORE_SMALL;
    entry->size = layout->size;
    entry->offset = e->inline_bytes.size - (size_t)layout->size;
    return copy_elements(e->st, array, layout, at + pad);
}

/* True when nobody can write to the memory through this array or what it is a view of. */
static bool
is_frozen(const struct core_view *view, PyObject *array)
{
    bool frozen = !view->writable;
    PyObject *at = Py_NewRef(array);
    for (int depth = 0; frozen && depth < 64; depth++) {
        PyObject *base = PyObject_GetAttrString(at, "base");
        if (base == NULL || base == Py_None || PyBytes_CheckExact(base)) {
            Py_XDECREF(base);
            PyErr_Clear(); /* an owner that is no array and says nothing of itself: see below */
            frozen = base != NULL;
            break;
        }
        PyObject *flags = PyObject_GetAttrString(base, "flags");
        PyObject *writable = flags ? PyObject_GetAttrString(flags, "writeable") : NULL;
        frozen = writable == Py_False;
        Py_XDECREF(flags);
        Py_XDECREF(writable);
        PyErr_Clear(); /* no flags: an owner that we do not know may be written to */
        Py_SETREF(at, base);
    }
    Py_DECREF(at);
    return frozen;
}

static int
make_bytes(struct core_encoder *e, struct core_entry *entry, const struct joblot_array *array, const struct layout *layout)
{
    entry->size = layout->size;
    if (layout->kept) {
        entry->data = array->data - layout->offset;
        return 0;
    }
    entry->heap = PyMem_RawMalloc((size_t)layout->size);
    if (entry->heap == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    entry->data = entry->heap;
    return copy_elements(e->st, array, layout, entry->heap);
}

/* The array whose memory this is a view of; new reference. */
static PyObject *
find_owner(struct core_state *st, PyObject *array)
{
    PyObject *owner = Py_NewRef(array);
    for (int depth = 0; depth < 64; depth++) {
        PyObject *base = PyObject_GetAttrString(owner, "base");
        if (base == NULL) {
            Py_DECREF(owner);
            return NULL;
        }
        if (!PyObject_TypeCheck(base, (PyTypeObject *)st->ndarray)) {
            Py_DECREF(base);
            return owner;
        }
        Py_SETREF(owner, base);
    }
    return owner;
}

/* What must be the same before a copy that is known of this owner is taken. A read-only array may have been made
 * writable for a moment, and an object in this task may have written to one while it was pickled: a sample shows it. */
static enum core_compare
trust(const struct core_encoder *e, const struct core_entry *entry, const struct core_view *view, PyObject *array)
{
    enum core_compare how = core_shares_compare(e->shares);
    if (how == CORE_COMPARE_WHOLE && is_frozen(view, array))
        return CORE_COMPARE_SAMPLE;
    if (how == CORE_COMPARE_NOTHING && e->ran_code && entry->mode != CORE_MAP_RPLUS)
        return CORE_COMPARE_SAMPLE;
    return how;
}

/* Takes the copy that an earlier task of this call has of the same array; entry->segment stays NULL without one. */
static int
find_share(struct core_encoder *e, struct core_entry *entry, const struct core_view *view, PyObject *array,
           const struct layout *layout)
{
    PyObject *owner = find_owner(e->st, array);
    int known = owner == NULL ? -1 : core_shares_know(e->shares, &entry->place, owner);
    Py_XDECREF(owner);
    if (known <= 0)
        return known;
    /* Memory of an array that is gone has another one now, which may differ in one element. */
    enum core_compare how = known == 2 ? trust(e, entry, view, array) : CORE_COMPARE_WHOLE;
    if (how != CORE_COMPARE_NOTHING && make_bytes(e, entry, &view->array, layout) < 0)
        return -1;
    joblot_segment *segment =
        core_shares_find(e->shares, &entry->place, how, entry->data, layout->size, &entry->offset);
    if (segment != NULL)
        entry->segment = joblot_segment_borrow(segment);
    return 0;
}

static int
put_large(struct core_encoder *e, struct core_entry *entry, const struct core_view *view, PyObject *array,
          const struct layout *layout)
{
    entry->kind = CORE_LARGE;
    entry->owner = Py_NewRef(array);
    entry->size = layout->size;
    if (e->shares != NULL) {
        entry->shared = true;
        entry->place = view->array;
        if (find_share(e, entry, view, array, layout) < 0)
            return -1;
    }
    return entry->segment != NULL || entry->data != NULL ? 0 : make_bytes(e, entry, &view->array, layout);
}

static uint64_t
count_bytes(const struct joblot_array *a)
{
    uint64_t n = a->itemsize;
    for (int i = 0; i < a->ndim; i++)
        if (__builtin_mul_overflow(n, (uint64_t)a->shape[i], &n))
            return UINT64_MAX;
    return n;
}

static int
place_array(struct core_encoder *e, struct core_entry *entry, const struct core_view *view, PyObject *array)
{
    struct layout layout;
    joblot_error err;
    int shared = core_place_shared(e, entry, view);
    if (shared != 0)
        return shared < 0 ? -1 : 0;
    joblot_status status =
        joblot_array_compact(&view->array, &layout.array, &layout.offset, &layout.size, &layout.kept, &err);
    if (status != JOBLOT_OK) {
        core_raise(e->st, status, &err);
        return -1;
    }
    if (core_add_form(e, entry, &layout.array, layout.offset) < 0)
        return -1;
    bool mapped = !e->is_result && layout.size > 0 && e->mode != CORE_MAP_COPY && entry->cls != CORE_MEMMAP &&
                  e->max_nbytes >= 0 && count_bytes(&view->array) > (uint64_t)e->max_nbytes;
    if (entry->cls == CORE_MEMMAP && layout.size > 0) /* a user's own that has no file: it stays a memmap */
        mapped = true;
    entry->mode = (unsigned char)(mapped ? (e->mode == CORE_MAP_COPY ? CORE_MAP_DEFAULT : e->mode) : CORE_MAP_COPY);
    if (!mapped && layout.size <= SMALL_MAX)
        return put_small(e, entry, &view->array, &layout);
    return put_large(e, entry, view, array, &layout);
}

int
core_add_array(struct core_encoder *e, PyObject *array, enum core_class cls)
{
    struct core_view view;
    struct core_entry *entry = core_new_entry(e);
    if (entry == NULL || core_view_init(&view, array) < 0)
        return -1;
    entry->cls = (unsigned char)cls;
    int rc = place_array(e, entry, &view, array);
    core_view_clear(&view);
    if (rc < 0)
        clear_entry(entry);
    else
        e->n_entries++;
    return rc;
}

int
core_add_raw(struct core_encoder *e, PyObject *owner, const void *data, size_t size)
{
    struct core_entry *entry = core_new_entry(e);
    if (entry == NULL)
        return -1;
    struct core_memory *memory =
        e->is_result ? NULL : core_shared_find(e->st, data, (const unsigned char *)data + size);
    entry->kind = CORE_RAW;
    entry->mode = CORE_MAP_DEFAULT;
    entry->owner = Py_NewRef(owner);
    entry->data = data;
    entry->size = size;
    if (memory != NULL) {
        entry->mode = memory->readonly ? CORE_MEMORY_READONLY : 0;
        entry->offset = (uint64_t)((const unsigned char *)data - memory->data);
        entry->group = core_group_of(e, memory, entry->offset, size);
        if (entry->group == 0) {
            clear_entry(entry);
            return -1;
        }
    }
    e->n_entries++;
    return 0;
}

/* ---- all of them ---- */

static uint64_t
aligned(uint64_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static int
add_share(struct core_encoder *e, const struct core_entry *entry)
{
    PyObject *owner = find_owner(e->st, entry->owner);
    struct core_origin origin = {&entry->place, owner, entry->data, entry->size, entry->mode == CORE_MAP_RPLUS};
    int rc = owner == NULL ? -1 : core_shares_add(e->shares, &origin, entry->segment, entry->offset);
    Py_XDECREF(owner);
    return rc;
}

/* Is it to be copied to a segment of the call? */
static bool
is_new(const struct core_entry *entry)
{
    return (entry->kind == CORE_LARGE || entry->kind == CORE_RAW) && entry->group == 0 && entry->segment == NULL;
}

/* The arrays of one message that are new share one segment. */
static int
fill_segment(struct core_encoder *e)
{
    joblot_segment *segment;
    joblot_error err;
    uint64_t size = 0;
    for (size_t i = 0; i < e->n_entries; i++)
        if (is_new(&e->entries[i]))
            size += aligned(e->entries[i].size);
    if (size == 0)
        return 0;
    if (e->call == NULL) { /* only tried for its errors: see joblot._transport.dumps */
        return 0;
    }
    joblot_status status = joblot_call_segment(e->call, size, &segment, &err);
    uint64_t at = 0;
    for (size_t i = 0; i < e->n_entries && status == JOBLOT_OK; i++) {
        struct core_entry *entry = &e->entries[i];
        if (!is_new(entry))
            continue;
        Py_BEGIN_ALLOW_THREADS
        status = joblot_segment_write(segment, at, entry->data, entry->size, &err);
        Py_END_ALLOW_THREADS
        entry->segment = joblot_segment_borrow(segment);
        entry->offset = at;
        at += aligned(entry->size);
        if (status == JOBLOT_OK && entry->shared && add_share(e, entry) < 0)
            status = JOBLOT_NOMEM;
    }
    if (status != JOBLOT_OK) {
        if (!PyErr_Occurred())
            core_raise(e->st, status, &err);
        if (at > 0)
            joblot_segment_release(segment);
        return -1;
    }
    joblot_segment_release(segment);
    return 0;
}

struct joblot_part *
core_new_part(struct core_encoder *e, const void *data, uint64_t size)
{
    if (e->n_parts == e->parts_capacity) {
        size_t capacity = e->parts_capacity ? 2 * e->parts_capacity : 8;
        struct joblot_part *parts = PyMem_Realloc(e->parts, capacity * sizeof *parts);
        if (parts == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        e->parts = parts;
        e->parts_capacity = capacity;
    }
    struct joblot_part *part = &e->parts[e->n_parts++];
    *part = (struct joblot_part){.data = data, .size = size};
    return part;
}

static void
put_le(unsigned char *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

/* An entry of the table: kind, class, mode, 1 where a raw buffer lies in live memory; u32 part; u64 offset in the part, or
 * in the segment where there is no part; u64 size; u32 size of the form; u32 segment; u64 where the part starts in that; the
 * form. */
static int
put_entry(struct core_encoder *e, const struct core_entry *entry, size_t part)
{
    unsigned char *at = core_bytes_extend(&e->table, ENTRY_SIZE);
    if (at == NULL)
        return -1;
    const struct core_group *group = entry->group > 0 ? &e->groups[entry->group - 1] : NULL;
    uint64_t start = entry->kind == CORE_HANDED ? group->low : 0;
    bool in_part = entry->kind == CORE_SMALL || entry->kind >= CORE_SHARED || group != NULL;
    at[0] = entry->kind;
    at[1] = entry->cls;
    at[2] = entry->mode;
    at[3] = entry->kind == CORE_RAW && group != NULL;
    put_le(at + 4, part, 4);
    put_le(at + 8, in_part ? entry->offset - start : 0, 8);
    put_le(at + 16, entry->size, 8);
    put_le(at + 24, entry->form_size, 4);
    put_le(at + 28, entry->kind == CORE_HANDED ? joblot_segment_id(group->memory->segment) : entry->shared_id, 4);
    put_le(at + 32, start, 8);
    return core_bytes_add(&e->table, e->forms.data + entry->form, (entry->form_size + 7) & ~(size_t)7);
}

/* With very many large buffers the rest of them is joined: a message has a bounded number of parts. */
static int
join_large(struct core_encoder *e, struct core_entry *entry)
{
    size_t pad = (16 - (e->inline_bytes.size & 15)) & 15;
    unsigned char *at = core_bytes_extend(&e->inline_bytes, pad + (size_t)entry->size);
    if (at == NULL)
        return -1;
    memcpy(at + pad, entry->data, (size_t)entry->size);
    entry->offset = e->inline_bytes.size - (size_t)entry->size;
    if (entry->kind == CORE_LARGE)
        entry->kind = CORE_SMALL;
    return 0;
}

int
core_finish_parts(struct core_encoder *e)
{
    size_t large = 0;
    e->n_parts = 0;
    if (e->n_entries == 0)
        return core_new_part(e, e->stream.data, e->stream.size) == NULL ? -1 : 0;
    if (!e->is_result && fill_segment(e) < 0)
        return -1;
    for (size_t i = 0; i < e->n_entries && e->is_result; i++)
        if (e->entries[i].kind == CORE_LARGE && ++large > MAX_LARGE_PARTS && join_large(e, &e->entries[i]) < 0)
            return -1;
    for (int i = 0; i < 3; i++)
        if (core_new_part(e, NULL, 0) == NULL)
            return -1;
    if (core_put_groups(e) < 0)
        return -1;
    for (size_t i = 0; i < e->n_entries; i++) {
        struct core_entry *entry = &e->entries[i];
        size_t part = 2;
        if (entry->group > 0) {
            part = e->groups[entry->group - 1].part;
        } else if (entry->kind == CORE_LARGE || entry->kind == CORE_RAW) {
            part = e->n_parts;
            struct joblot_part *p = core_new_part(e, entry->data, entry->size);
            if (p == NULL)
                return -1;
            p->segment = entry->segment;
            p->offset = entry->segment != NULL ? entry->offset : 0;
        }
        if (put_entry(e, entry, part) < 0)
            return -1;
    }
    e->parts[0] = (struct joblot_part){.data = e->stream.data, .size = e->stream.size};
    e->parts[1] = (struct joblot_part){.data = e->table.data, .size = e->table.size};
    e->parts[2] = (struct joblot_part){.data = e->inline_bytes.data, .size = e->inline_bytes.size};
    return 0;
}
