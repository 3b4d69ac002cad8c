/* places.c - entries of a message that lie in memory which programs work in: places instead of bytes.  See shared.h. */
#include "shared.h"

/* Segments that are handed over with one answer, and groups in it. */
enum { MAX_HANDED = 64, MAX_GROUPS = 1000 };

size_t
core_group_of(struct core_encoder *e, struct core_memory *memory, uint64_t low, uint64_t size)
{
    size_t i = e->n_groups;
    while (i > 0 && e->groups[i - 1].memory != memory)
        i--;
    if (i == 0) {
        if (e->n_groups == e->groups_capacity) {
            size_t capacity = e->groups_capacity ? 2 * e->groups_capacity : 4;
            struct core_group *groups = PyMem_Realloc(e->groups, capacity * sizeof *groups);
            if (groups == NULL) {
                PyErr_NoMemory();
                return 0;
            }
            e->groups = groups;
            e->groups_capacity = capacity;
        }
        i = ++e->n_groups;
        e->groups[i - 1] = (struct core_group){.memory = (struct core_memory *)Py_NewRef(memory), .low = low};
    }
    struct core_group *group = &e->groups[i - 1];
    group->low = low < group->low ? low : group->low;
    group->high = low + size > group->high ? low + size : group->high;
    return i;
}

/* How an array in such memory travels; CORE_LARGE: as any other, by its bytes. */
static enum core_entry_kind
kind_of(const struct core_encoder *e, struct core_memory *memory)
{
    if (!e->is_result || (e->worker != NULL && core_shared_id(memory) != 0))
        return CORE_SHARED;
    if (e->worker == NULL || memory->lent || e->n_groups >= MAX_GROUPS)
        return CORE_LARGE;
    if (core_shared_segment(memory) != NULL)
        return CORE_HANDED;
    PyErr_Clear(); /* no descriptor for it */
    return CORE_LARGE;
}

int
core_place_shared(struct core_encoder *e, struct core_entry *entry, const struct core_view *view)
{
    int64_t low, high;
    joblot_error err;
    if (e->st->n_live == 0)
        return 0;
    joblot_status status = joblot_array_extent(&view->array, &low, &high, &err);
    if (status != JOBLOT_OK) {
        core_raise(e->st, status, &err);
        return -1;
    }
    const unsigned char *at = (const unsigned char *)view->array.data + low;
    struct core_memory *memory = high > low ? core_shared_find(e->st, at, at + (high - low)) : NULL;
    enum core_entry_kind kind = memory != NULL ? kind_of(e, memory) : CORE_LARGE;
    if (kind == CORE_LARGE)
        return 0;
    if (core_add_form(e, entry, &view->array, (uint64_t)-low) < 0)
        return -1;
    entry->kind = (unsigned char)kind;
    entry->mode = (unsigned char)((view->writable ? 0 : CORE_ARRAY_READONLY) |
                                  (memory->readonly ? CORE_MEMORY_READONLY : 0));
    entry->offset = (uint64_t)(at - memory->data);
    entry->size = (uint64_t)(high - low);
    if (e->is_result && kind == CORE_SHARED) {
        /* The task that brought it holds it until its answer is taken; where an earlier one did, this worker must not say that
         * it has let go of it before. */
        entry->shared_id = core_shared_id(memory);
        if (joblot_mapping_is_kept(memory->mapping))
            entry->owner = Py_NewRef(memory);
        return 1;
    }
    entry->group = core_group_of(e, memory, entry->offset, entry->size);
    return entry->group == 0 ? -1 : 1;
}

int
core_add_object(struct core_encoder *e, PyObject *memory)
{
    struct core_entry *entry = core_new_entry(e);
    if (entry == NULL)
        return -1;
    entry->kind = CORE_OBJECT;
    entry->group = core_group_of(e, (struct core_memory *)memory, 0, (uint64_t)((struct core_memory *)memory)->size);
    if (entry->group == 0)
        return -1;
    e->n_entries++;
    return 0;
}

/* To workers a group is the whole segment.  To the parent it is the bytes, which it reads only where the segment that is
 * handed over does not arrive: then this process waits until it has. */
int
core_put_groups(struct core_encoder *e)
{
    for (size_t i = 0; i < e->n_groups; i++) {
        struct core_group *group = &e->groups[i];
        struct joblot_part part = {.data = group->memory->data + group->low, .size = group->high - group->low};
        if (!e->is_result) {
            part.data = NULL;
            part.size = (uint64_t)group->memory->size;
            part.segment = core_shared_segment(group->memory);
            if (part.segment == NULL)
                return -1;
        } else if (i < MAX_HANDED) {
            joblot_status status = joblot_worker_hand_over(e->worker, group->memory->segment, NULL);
            (void)status; /* where there is no room for its descriptor now, its bytes must do */
        }
        group->part = e->n_parts;
        struct joblot_part *p = core_new_part(e, NULL, 0);
        if (p == NULL)
            return -1;
        *p = part;
    }
    return 0;
}
