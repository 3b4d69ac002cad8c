/* pickle/tree.c - a tree as a whole: made, asked, walked, freed. */
#include "machine.h"

#include "decode.h"

#include "../base/alloc.h"
#include "../base/checked.h"
#include "../base/error.h"

#include <string.h>

typedef joblot_pickle_node node;

joblot_status joblot_pickle_tree_read(joblot_pickle_reader *reader, const struct joblot_pickle_limits *limits,
                                      joblot_pickle_build_hook hook, void *context, joblot_pickle_tree **out,
                                      joblot_error *err)
{
    joblot_pickle_tree *t = joblot__calloc(1, sizeof *t);
    if (t == NULL)
        return joblot__fail_nomem(err, sizeof *t, "a pickle's tree");
    joblot__pickle_limits(&t->limits, limits);
    t->arena.limit = t->limits.max_alloc;
    t->reader = reader;
    t->hook = hook;
    t->context = context;
    bool good = joblot__machine_run(t, &t->root);
    t->reader = NULL;
    if (!good) {
        joblot_pickle_tree_free(t);
        return joblot_pickle_fail(reader, JOBLOT_INVALID, "read on after STOP without joblot_pickle_resume", err);
    }
    *out = t;
    return JOBLOT_OK;
}

void joblot_pickle_tree_free(joblot_pickle_tree *t)
{
    if (t == NULL)
        return;
    joblot__arena_clear(&t->arena);
    joblot__free(t);
}

const node *joblot_pickle_tree_root(const joblot_pickle_tree *t)
{
    return t->root;
}

uint64_t joblot_pickle_tree_count(const joblot_pickle_tree *t)
{
    return t->count;
}

/* ---- for hooks ---- */

joblot_status joblot_pickle_tree_foreign(joblot_pickle_tree *t, size_t size, node **out, joblot_error *err)
{
    if (t->reader == NULL)
        return joblot__fail(err, JOBLOT_INVALID, 0, "pickle: a node for a tree that is finished");
    node *made = joblot__tree_node(t, JOBLOT_NODE_FOREIGN, JOBLOT_OP_BUILD, joblot_pickle_offset(t->reader));
    void *bytes = made == NULL ? NULL : joblot__arena_alloc(&t->arena, size);
    if (made != NULL && bytes == NULL)
        return joblot_pickle_fail(t->reader, t->arena.status, "no memory for the tree", err);
    if (made == NULL) /* the error is kept already */
        return joblot_pickle_fail(t->reader, JOBLOT_LIMIT, "no room for a node", err);
    memset(bytes, 0, size);
    made->as.foreign = bytes;
    *out = made;
    return JOBLOT_OK;
}

joblot_status joblot_pickle_tree_nested(joblot_pickle_tree *t, node **out, joblot_error *err)
{
    if (t->reader == NULL)
        return joblot__fail(err, JOBLOT_INVALID, 0, "pickle: a pickle for a tree that is finished");
    if (t->nested >= t->limits.max_nested)
        return joblot_pickle_fail(t->reader, JOBLOT_LIMIT, "pickles inside pickles, deeper than the limit (max_nested)",
                                  err);
    t->nested++;
    bool good = joblot_pickle_take(t->reader, NULL, 0, err) == JOBLOT_OK && joblot__machine_run(t, out);
    t->nested--;
    if (!good)
        return joblot_pickle_fail(t->reader, JOBLOT_FORMAT, "a pickle that cannot be read", err);
    joblot_pickle_resume(t->reader);
    return JOBLOT_OK;
}

/* ---- questions ---- */

static bool is_bytes(const struct joblot_pickle_bytes *bytes, const char *text)
{
    size_t n = strlen(text);
    return bytes->size == n && memcmp(bytes->data, text, n) == 0;
}

int joblot_pickle_node_is_global(const node *n, const char *module, const char *name)
{
    return n->kind == JOBLOT_NODE_GLOBAL && is_bytes(&n->as.global->module, module) &&
           is_bytes(&n->as.global->name, name);
}

int joblot_pickle_node_is_text(const node *n, const char *text)
{
    return (n->kind == JOBLOT_NODE_TEXT || n->kind == JOBLOT_NODE_STRING) && is_bytes(&n->as.bytes, text);
}

const node *joblot_pickle_node_value(const node *dict, const char *key)
{
    if (dict->kind != JOBLOT_NODE_DICT)
        return NULL;
    for (uint64_t i = dict->as.items.count; i >= 2; i -= 2)
        if (joblot_pickle_node_is_text(dict->as.items.at[i - 2], key))
            return dict->as.items.at[i - 1];
    return NULL;
}

/* ---- walking ---- */

struct frame {
    const node *node;
    uint64_t next; /* which of its parts is shown next */
};

struct walk {
    struct frame *frames;
    size_t n, capacity;
    unsigned char *shown; /* a bit per node */
};

static uint64_t own_parts(const node *n)
{
    switch (n->kind) {
    case JOBLOT_NODE_LIST:
    case JOBLOT_NODE_TUPLE:
    case JOBLOT_NODE_DICT:
    case JOBLOT_NODE_SET:
    case JOBLOT_NODE_FROZENSET:
    case JOBLOT_NODE_CALL:
    case JOBLOT_NODE_PERSISTENT:
        return n->as.items.count;
    default:
        return 0;
    }
}

static uint64_t count_parts(const node *n)
{
    const struct joblot_pickle_extra *x = n->extra;
    return own_parts(n) + (x == NULL ? 0 : x->items.count + x->pairs.count + x->states.count);
}

static void show_pair(const struct joblot_pickle_items *pairs, uint64_t i, struct joblot_pickle_visit *v)
{
    v->node = pairs->at[i];
    v->role = i % 2 ? JOBLOT_ROLE_VALUE : JOBLOT_ROLE_KEY;
    v->key = i % 2 ? pairs->at[i - 1] : NULL;
    v->index = i / 2;
}

/* The i-th part of a node: its own, then what was added, then its states, which is the order of a pickler. */
static void show_part(const node *parent, uint64_t i, struct joblot_pickle_visit *v)
{
    uint64_t own = own_parts(parent);
    const struct joblot_pickle_extra *x = parent->extra;
    v->parent = parent;
    v->key = NULL;
    v->index = i;
    if (i < own && parent->kind == JOBLOT_NODE_DICT) {
        show_pair(&parent->as.items, i, v);
    } else if (i < own) {
        v->node = parent->as.items.at[i];
        bool is_call = parent->kind == JOBLOT_NODE_CALL;
        v->role = is_call ? (enum joblot_pickle_role)(JOBLOT_ROLE_CALLABLE + i) : JOBLOT_ROLE_ITEM;
        v->index = is_call ? 0 : i;
    } else if ((i -= own) < x->items.count) {
        v->node = x->items.at[i];
        v->role = JOBLOT_ROLE_ITEM;
        v->index = i;
    } else if ((i -= x->items.count) < x->pairs.count) {
        show_pair(&x->pairs, i, v);
    } else {
        v->index = i - x->pairs.count;
        v->node = x->states.at[v->index];
        v->role = JOBLOT_ROLE_STATE;
    }
}

static bool enter(struct walk *w, const node *n)
{
    if (w->n == w->capacity) {
        size_t capacity = w->capacity ? w->capacity * 2 : 64, bytes;
        struct frame *frames = NULL;
        if (joblot__mul_size(capacity, sizeof *frames, &bytes))
            frames = joblot__realloc(w->frames, bytes);
        if (frames == NULL)
            return false;
        w->frames = frames;
        w->capacity = capacity;
    }
    w->frames[w->n++] = (struct frame){n, 0};
    return true;
}

typedef joblot_status (*visitor)(void *context, const struct joblot_pickle_visit *v, joblot_error *err);

/* Shows v->node, and goes into it unless it has no parts, was shown before or lies too deep. */
static joblot_status show(struct walk *w, struct joblot_pickle_visit *v, uint64_t max_depth, visitor visit,
                          void *context, joblot_error *err)
{
    bool parts = count_parts(v->node) > 0;
    unsigned char *shown = &w->shown[v->node->number / 8], bit = (unsigned char)(1u << v->node->number % 8);
    v->depth = w->n;
    v->leaving = 0;
    v->again = parts && (*shown & bit) != 0;
    v->cut = parts && !v->again && max_depth != 0 && w->n >= max_depth;
    if (parts && !v->again && !v->cut) {
        *shown |= bit;
        if (!enter(w, v->node))
            return joblot__fail_nomem(err, 2 * w->capacity * sizeof *w->frames, "walking a pickle's tree");
    }
    return visit(context, v, err);
}

joblot_status joblot_pickle_tree_walk(const joblot_pickle_tree *t, uint64_t max_depth, visitor visit, void *context,
                                      joblot_error *err)
{
    struct walk w = {.n = 0};
    struct joblot_pickle_visit v = {.node = t->root, .role = JOBLOT_ROLE_ROOT};
    size_t bits = (size_t)(t->count / 8) + 1;
    w.shown = joblot__calloc(bits, 1);
    if (w.shown == NULL)
        return joblot__fail_nomem(err, bits, "walking a pickle's tree");
    joblot_status status = show(&w, &v, max_depth, visit, context, err);
    while (status == JOBLOT_OK && w.n > 0) {
        struct frame *top = &w.frames[w.n - 1];
        if (top->next < count_parts(top->node)) {
            show_part(top->node, top->next++, &v);
            status = show(&w, &v, max_depth, visit, context, err);
            continue;
        }
        memset(&v, 0, sizeof v);
        v.node = top->node;
        v.leaving = 1;
        v.depth = --w.n;
        status = visit(context, &v, err);
    }
    joblot__free(w.frames);
    joblot__free(w.shown);
    return status;
}
