/* pickle/arena.h - memory that is given back all at once, up to a limit. */
#ifndef JOBLOT_PICKLE_ARENA_H
#define JOBLOT_PICKLE_ARENA_H

#include <joblot/base.h>

#include <stdbool.h>

struct joblot__arena_block;

/* Zero-initialise it and set `limit`.  The first refusal is kept in `status`. */
struct joblot__arena {
    struct joblot__arena_block *blocks;
    unsigned char *at, *end; /* of the newest block that is not one large piece */
    size_t next_block;
    uint64_t used, limit;
    joblot_status status; /* OK, NOMEM or LIMIT */
};

/* Aligned for everything, not zeroed; NULL: see status. */
void *joblot__arena_alloc(struct joblot__arena *a, size_t size);
void joblot__arena_clear(struct joblot__arena *a);

/* An array on the general heap that grows to at least `wanted` items and counts against the limit; new items are zero.
 * False: see status, and the array is as it was. */
bool joblot__arena_grow(struct joblot__arena *a, void **array, size_t *capacity, size_t item_size, size_t wanted);
void joblot__arena_drop(struct joblot__arena *a, void *array, size_t capacity, size_t item_size);

#endif
