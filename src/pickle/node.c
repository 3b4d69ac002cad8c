/* pickle/node.c - the nodes of a tree: made, filled, held against its limits. */
#include "machine.h"

#include "text.h"

#include <string.h>

typedef joblot_pickle_node node;
typedef struct joblot_pickle_items items;

bool joblot__tree_fail(joblot_pickle_tree *t, joblot_status code, const char *text)
{
    (void)joblot_pickle_fail(t->reader, code, text, NULL);
    return false;
}

/* After an allocation that was refused. */
bool joblot__tree_no_room(joblot_pickle_tree *t)
{
    if (t->arena.status == JOBLOT_NOMEM)
        return joblot__tree_fail(t, JOBLOT_NOMEM, "no memory for the tree");
    return joblot__tree_fail(t, JOBLOT_LIMIT, "the tree needs more memory than the limit (max_alloc)");
}

static bool count_entries(joblot_pickle_tree *t, uint64_t n)
{
    if (n > t->limits.max_nodes - t->count - t->entries)
        return joblot__tree_fail(t, JOBLOT_LIMIT, "more nodes and entries than the limit (max_nodes)");
    t->entries += n;
    return true;
}

node *joblot__tree_node(joblot_pickle_tree *t, int kind, int op, uint64_t offset)
{
    if (t->count >= UINT32_MAX || t->count + t->entries >= t->limits.max_nodes) {
        (void)joblot__tree_fail(t, JOBLOT_LIMIT, "more nodes and entries than the limit (max_nodes)");
        return NULL;
    }
    node *made = joblot__arena_alloc(&t->arena, sizeof *made);
    if (made == NULL) {
        (void)joblot__tree_no_room(t);
        return NULL;
    }
    memset(made, 0, sizeof *made);
    made->kind = (uint8_t)kind;
    made->op = (uint8_t)op;
    made->offset = offset;
    made->number = (uint32_t)t->count++;
    return made;
}

/* The depth that something made of these has; false beyond the limit. */
bool joblot__tree_deepen(joblot_pickle_tree *t, node *made, node *const *parts, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (parts[i]->depth >= made->depth)
            made->depth = parts[i]->depth + 1;
    if (made->depth > t->limits.max_depth)
        return joblot__tree_fail(t, JOBLOT_LIMIT, "objects that are nested deeper than the limit (max_depth)");
    return true;
}

/* Room that `count` entries have, by rule, so that no capacity need be kept. */
uint64_t joblot__tree_room_for(uint64_t count)
{
    uint64_t room = 4;
    while (room < count)
        room *= 2;
    return room;
}

bool joblot__tree_set_items(joblot_pickle_tree *t, items *to, node *const *from, uint64_t n, uint64_t room)
{
    if (!count_entries(t, n))
        return false;
    to->at = joblot__arena_alloc(&t->arena, room * sizeof *to->at);
    if (to->at == NULL)
        return joblot__tree_no_room(t);
    if (n > 0)
        memcpy(to->at, from, n * sizeof *to->at);
    to->count = n;
    return true;
}

bool joblot__tree_add_items(joblot_pickle_tree *t, items *to, node *const *from, uint64_t n)
{
    if (to->at == NULL || to->count + n > joblot__tree_room_for(to->count)) {
        items grown = {NULL, 0};
        grown.at = joblot__arena_alloc(&t->arena, joblot__tree_room_for(to->count + n) * sizeof *to->at);
        if (grown.at == NULL)
            return joblot__tree_no_room(t);
        if (to->count > 0)
            memcpy(grown.at, to->at, to->count * sizeof *to->at);
        to->at = grown.at;
    }
    if (!count_entries(t, n))
        return false;
    if (n > 0)
        memcpy(to->at + to->count, from, n * sizeof *to->at);
    to->count += n;
    return true;
}

/* A string whose length nobody can hold against anything: memory grows with what really comes. */
static unsigned char *take_unknown(joblot_pickle_tree *t, uint64_t size, size_t head)
{
    void *bytes = NULL;
    size_t held = 0, capacity = 0;
    bool good = true;
    while (held < size && good) {
        size_t piece = size - held < 65536 ? (size_t)(size - held) : 65536;
        good = joblot__arena_grow(&t->arena, &bytes, &capacity, 1, held + piece);
        if (!good)
            (void)joblot__tree_no_room(t);
        else
            good = joblot_pickle_take(t->reader, (unsigned char *)bytes + held, piece, NULL) == JOBLOT_OK;
        held += piece;
    }
    unsigned char *copy = good ? joblot__arena_alloc(&t->arena, head + held + 1) : NULL;
    if (copy != NULL)
        memcpy(copy + head, bytes, held);
    else if (good)
        (void)joblot__tree_no_room(t);
    joblot__arena_drop(&t->arena, bytes, capacity, 1);
    return copy;
}

/* Room for `head` bytes and a copy of an event's string, whose end is not terminated yet; data NULL: it is still to be
 * taken. */
static unsigned char *copy_string(joblot_pickle_tree *t, const unsigned char *data, uint64_t size, size_t head)
{
    if (data == NULL && size > 0 && joblot_pickle_left(t->reader) == JOBLOT_SIZE_UNKNOWN)
        return take_unknown(t, size, head);
    unsigned char *copy = size < SIZE_MAX / 2 ? joblot__arena_alloc(&t->arena, head + (size_t)size + 1) : NULL;
    if (copy == NULL) {
        (void)joblot__tree_no_room(t);
        return NULL;
    }
    if (data != NULL && size > 0)
        memcpy(copy + head, data, (size_t)size);
    else if (size > 0 && joblot_pickle_take(t->reader, copy + head, size, NULL) != JOBLOT_OK)
        return NULL;
    return copy;
}

bool joblot__tree_name(joblot_pickle_tree *t, const unsigned char *data, uint64_t size, struct joblot_pickle_bytes *out)
{
    unsigned char *copy = copy_string(t, data, size, 0);
    if (copy == NULL)
        return false;
    copy[size] = 0;
    out->data = copy;
    out->size = size;
    return true;
}

bool joblot__tree_string(joblot_pickle_tree *t, node *made, const struct joblot_pickle_event *e)
{
    uint64_t kept = e->size < t->limits.max_kept ? e->size : t->limits.max_kept, whole = e->size;
    size_t head = kept < whole ? sizeof whole : 0;
    unsigned char *copy = copy_string(t, e->data, kept, head);
    if (copy == NULL)
        return false;
    memcpy(copy, &whole, head);
    made->cut = head != 0;
    if (made->cut && made->kind == JOBLOT_NODE_TEXT)
        kept = joblot__utf8_whole(copy + head, (size_t)kept);
    copy[head + kept] = 0;
    made->as.bytes.data = copy + head;
    made->as.bytes.size = kept;
    return true;
}

uint64_t joblot_pickle_node_length(const node *n)
{
    if (n->kind != JOBLOT_NODE_BIG && (n->kind < JOBLOT_NODE_TEXT || n->kind > JOBLOT_NODE_STRING))
        return 0;
    uint64_t whole = n->as.bytes.size;
    if (n->cut)
        memcpy(&whole, n->as.bytes.data - sizeof whole, sizeof whole);
    return whole;
}
