/* pickle/arena.c - memory that is given back all at once, up to a limit. */
#include "arena.h"

#include "../base/alloc.h"
#include "../base/checked.h"

#include <stdalign.h>
#include <string.h>

enum { FIRST_BLOCK = 4096, LARGEST_BLOCK = 1 << 20 };

struct joblot__arena_block {
    struct joblot__arena_block *older;
    alignas(max_align_t) unsigned char bytes[];
};

static bool refuse(struct joblot__arena *a, joblot_status status)
{
    if (a->status == JOBLOT_OK)
        a->status = status;
    return false;
}

static bool charge(struct joblot__arena *a, size_t size)
{
    if (a->status != JOBLOT_OK)
        return false;
    if (size > a->limit - a->used)
        return refuse(a, JOBLOT_LIMIT);
    a->used += size;
    return true;
}

static struct joblot__arena_block *add_block(struct joblot__arena *a, size_t size)
{
    if (size > SIZE_MAX / 2 || !charge(a, size + sizeof(struct joblot__arena_block))) {
        (void)refuse(a, JOBLOT_LIMIT);
        return NULL;
    }
    struct joblot__arena_block *block = joblot__malloc(sizeof *block + size);
    if (block == NULL) {
        (void)refuse(a, JOBLOT_NOMEM);
        return NULL;
    }
    block->older = a->blocks;
    a->blocks = block;
    return block;
}

/* The next block, made smaller where the limit leaves no room for a whole one. */
static bool next_block(struct joblot__arena *a, size_t size)
{
    size_t wanted = a->next_block < FIRST_BLOCK ? FIRST_BLOCK : a->next_block;
    uint64_t left = a->limit - a->used;
    if (wanted + sizeof(struct joblot__arena_block) > left)
        wanted = size;
    struct joblot__arena_block *block = add_block(a, wanted);
    if (block == NULL)
        return false;
    a->at = block->bytes;
    a->end = block->bytes + wanted;
    a->next_block = wanted < LARGEST_BLOCK ? wanted * 2 : LARGEST_BLOCK;
    return true;
}

void *joblot__arena_alloc(struct joblot__arena *a, size_t size)
{
    if (a->status != JOBLOT_OK)
        return NULL;
    if (!joblot__round_up(size ? size : 1, alignof(max_align_t), &size)) {
        (void)refuse(a, JOBLOT_LIMIT);
        return NULL;
    }
    if (size > FIRST_BLOCK / 4 && size > (size_t)(a->end - a->at)) {
        struct joblot__arena_block *block = add_block(a, size);
        return block == NULL ? NULL : block->bytes;
    }
    if (size > (size_t)(a->end - a->at) && !next_block(a, size))
        return NULL;
    void *p = a->at;
    a->at += size;
    return p;
}

void joblot__arena_clear(struct joblot__arena *a)
{
    while (a->blocks != NULL) {
        struct joblot__arena_block *older = a->blocks->older;
        joblot__free(a->blocks);
        a->blocks = older;
    }
    memset(a, 0, sizeof *a);
}

bool joblot__arena_grow(struct joblot__arena *a, void **array, size_t *capacity, size_t item_size, size_t wanted)
{
    if (wanted <= *capacity)
        return true;
    size_t room = *capacity < 32 ? 64 : *capacity * 2, bytes;
    room = room < wanted ? wanted : room;
    if (!joblot__mul_size(room, item_size, &bytes))
        return refuse(a, JOBLOT_LIMIT);
    if (!charge(a, bytes - *capacity * item_size))
        return false;
    void *moved = joblot__realloc(*array, bytes);
    if (moved == NULL)
        return refuse(a, JOBLOT_NOMEM);
    memset((unsigned char *)moved + *capacity * item_size, 0, bytes - *capacity * item_size);
    *array = moved;
    *capacity = room;
    return true;
}

void joblot__arena_drop(struct joblot__arena *a, void *array, size_t capacity, size_t item_size)
{
    joblot__free(array);
    a->used -= capacity * item_size;
}
