/* shared.h - memory that programs work in: what shared.c has for the writers and readers of messages.
 *
 * Such memory is a Memory that stands in a list of the process, `live`.  An array is known by its address: whatever view it
 * is of whatever object, where its bytes lie in live memory it travels as a place in that memory. */
#ifndef JOBLOT_CORE_SHARED_H
#define JOBLOT_CORE_SHARED_H

#include "core.h"

/* Bits of an entry's mode: the array is read-only; all of its memory is. */
enum { CORE_ARRAY_READONLY = 1, CORE_MEMORY_READONLY = 2 };

/* The live memory that holds all bytes from low up to high, borrowed, or NULL. */
struct core_memory *core_shared_find(const struct core_state *st, const void *low, const void *high);
/* Live memory over a segment of this process, which it borrows; an existing one where it has that memory already. */
struct core_memory *core_shared_of_segment(struct core_state *st, joblot_segment *segment, bool readonly);
/* The segment by which this process lends the memory to its own workers; borrowed.  NULL: an exception is set. */
joblot_segment *core_shared_segment(struct core_memory *m);
/* The parent's id of memory that a worker was lent and keeps; 0: it is none. */
uint32_t core_shared_id(const struct core_memory *m);
/* At the end of its life: no longer live, its segment released. */
void core_shared_end(struct core_memory *m);

/* Where the bytes of an entry of a message are: a new reference, and their offset in it.  NULL: an exception is set. */
struct core_place {
    unsigned char kind, mode;
    uint32_t part, segment;
    uint64_t offset, size, start;
};
struct core_memory *core_shared_take(struct core_decoder *d, const struct core_place *place, uint64_t *offset);

/* The handle that stands for an object of joblot.share in this worker. */
PyObject *core_shared_handle(struct core_decoder *d, const struct core_place *place);
/* Puts the objects of joblot.share in the place of their handles among the arguments of a task; 0 or -1. */
int core_shared_replace(struct core_state *st, PyObject **args, PyObject **kwargs);
/* The same in a worker, which has a look only where it was sent a handle. */
int core_shared_resolve(struct core_state *st, PyObject **args, PyObject **kwargs);
/* The parent gives the segment up: so does what is kept of it here. */
void core_shared_forget(struct core_state *st, uint32_t id);

/* places.c; each: -1, or NULL, or 0 of a number: an exception is set. */

/* 1: the array lies in live memory, and its entry is written; 0: it does not, or its bytes must travel. */
int core_place_shared(struct core_encoder *e, struct core_entry *entry, const struct core_view *view);
/* The number from 1 on of the group of entries in this memory. */
size_t core_group_of(struct core_encoder *e, struct core_memory *memory, uint64_t low, uint64_t size);
/* One part for each group. */
int core_put_groups(struct core_encoder *e);

/* entries.c, for places.c */
struct core_entry *core_new_entry(struct core_encoder *e); /* counted by whoever fills it */
int core_add_form(struct core_encoder *e, struct core_entry *entry, const struct joblot_array *array, uint64_t offset);
struct joblot_part *core_new_part(struct core_encoder *e, const void *data, uint64_t size);

/* Functions of joblot._core. */
PyObject *core_shared_memory(PyObject *module, PyObject *args);
PyObject *core_share_array(PyObject *module, PyObject *args);
PyObject *core_share_pack(PyObject *module, PyObject *args);
PyObject *core_share_unpack(PyObject *module, PyObject *memory);
PyObject *core_shared_class(PyObject *module, PyObject *cls);
PyObject *core_shared_forked(PyObject *module, PyObject *unused);
/* Has that called in every child that is forked. */
int core_shared_watch_forks(PyObject *module);

#endif
