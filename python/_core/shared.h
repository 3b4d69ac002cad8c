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
int core_shared_resolve(struct core_state *st, PyObject **args, PyObject **kwargs);
/* The parent gives the segment up: so does what is kept of it here. */
void core_shared_forget(struct core_state *st, uint32_t id);

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
