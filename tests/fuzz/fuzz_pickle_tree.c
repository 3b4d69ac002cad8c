/* fuzz_pickle_tree.c - the symbolic tree, with a hook that takes raw bytes and nested pickles: bounded memory, numbers
 * and depths as they should be, a walk that shows each part once; what is plain is written again and read as the same. */
#include "base/alloc.h"
#include "base/buffer.h"

#include <joblot/pickle.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "fuzz_pickle_tree: %s\n", what);
        abort();
    }
}

/* An object whose class is named m.r takes a byte for each state that it has, one named m.n a pickle. */
static joblot_status hook(void *context, joblot_pickle_tree *tree, joblot_pickle_reader *reader, joblot_pickle_node *object,
                          joblot_pickle_node **instead, joblot_error *err)
{
    const joblot_pickle_node *class = object->as.items.at[0];
    (void)context;
    expect(object->kind == JOBLOT_NODE_CALL && object->extra != NULL && object->extra->states.count > 0, "no state");
    if (joblot_pickle_node_is_global(class, "m", "n"))
        return joblot_pickle_tree_nested(tree, instead, err);
    if (!joblot_pickle_node_is_global(class, "m", "r"))
        return JOBLOT_OK;
    size_t size = (size_t)object->extra->states.count;
    joblot_status status = joblot_pickle_tree_foreign(tree, size, instead, err);
    return status == JOBLOT_OK ? joblot_pickle_take(reader, (*instead)->as.foreign, size, err) : status;
}

struct seen {
    uint64_t count, open, shown, visits;
    unsigned char *nodes;
};

static joblot_status visit(void *context, const struct joblot_pickle_visit *v, joblot_error *err)
{
    struct seen *s = context;
    (void)err;
    expect(v->node->number < s->count, "a node with a wrong number");
    expect(v->node->kind != JOBLOT_NODE_TEXT || v->node->as.bytes.data[v->node->as.bytes.size] == 0, "no end of a text");
    expect(!v->node->cut || joblot_pickle_node_length(v->node) > v->node->as.bytes.size, "cut, and not shorter");
    if (v->leaving) {
        expect(s->open-- > 0 && v->depth == s->open, "left without having been entered");
        return JOBLOT_OK;
    }
    expect(v->depth == s->open, "a wrong depth");
    s->visits++;
    if (v->again) {
        expect(s->nodes[v->node->number], "again for the first time");
        return JOBLOT_OK;
    }
    bool parts = (v->node->kind >= JOBLOT_NODE_LIST && v->node->kind <= JOBLOT_NODE_FROZENSET && v->node->as.items.count > 0) ||
                 v->node->kind == JOBLOT_NODE_CALL || v->node->kind == JOBLOT_NODE_PERSISTENT ||
                 (v->node->extra != NULL && v->node->extra->items.count + v->node->extra->pairs.count +
                                                    v->node->extra->states.count > 0);
    if (!parts)
        return JOBLOT_OK;
    expect(!s->nodes[v->node->number] && !v->cut, "parts that are shown twice");
    s->nodes[v->node->number] = 1;
    s->open++;
    return JOBLOT_OK;
}

static void check_walk(const joblot_pickle_tree *t, size_t size)
{
    struct seen s = {.count = joblot_pickle_tree_count(t)};
    expect(s.count <= 2 * size, "more nodes than opcodes make");
    s.nodes = calloc((size_t)s.count + 1, 1);
    expect(s.nodes != NULL, "out of memory");
    expect(joblot_pickle_tree_walk(t, 0, visit, &s, NULL) == JOBLOT_OK && s.open == 0, "the walk does not end");
    expect(s.visits <= 4 * size + 1, "more visits than opcodes make");
    free(s.nodes);
}

/* ---- written again ---- */

static joblot_status keep(void *context, const void *data, size_t size, joblot_error *err)
{
    (void)err;
    joblot__buffer_append(context, data, size);
    return JOBLOT_OK;
}

/* Scalars only: at the root, or in a list at the root. */
static bool write_scalar(joblot_pickle_writer *w, const joblot_pickle_node *n)
{
    switch (n->kind) {
    case JOBLOT_NODE_NONE:
        joblot_pickle_write_none(w);
        return true;
    case JOBLOT_NODE_BOOL:
        joblot_pickle_write_bool(w, (int)n->as.integer);
        return true;
    case JOBLOT_NODE_INT:
        joblot_pickle_write_int(w, n->as.integer);
        return true;
    case JOBLOT_NODE_BIG:
        joblot_pickle_write_big(w, n->as.bytes.data, n->as.bytes.size);
        return true;
    case JOBLOT_NODE_REAL:
        joblot_pickle_write_real(w, n->as.real);
        return true;
    case JOBLOT_NODE_TEXT:
        joblot_pickle_write_text(w, (const char *)n->as.bytes.data, n->as.bytes.size);
        return true;
    case JOBLOT_NODE_BYTES:
        joblot_pickle_write_bytes(w, n->as.bytes.data, n->as.bytes.size);
        return true;
    default:
        joblot_pickle_write_none(w);
        return false;
    }
}

static bool same_scalar(const joblot_pickle_node *a, const joblot_pickle_node *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind >= JOBLOT_NODE_TEXT || a->kind == JOBLOT_NODE_BIG)
        return a->as.bytes.size == b->as.bytes.size &&
               memcmp(a->as.bytes.data, b->as.bytes.data, (size_t)a->as.bytes.size) == 0;
    return a->kind == JOBLOT_NODE_NONE || memcmp(&a->as.integer, &b->as.integer, 8) == 0;
}

static void check_written(const joblot_pickle_node *list, int protocol)
{
    struct joblot__buffer bytes = {0};
    struct joblot_pickle_sink sink = {.write = keep, .context = &bytes};
    joblot_pickle_writer *w = NULL;
    joblot_pickle_reader *r = NULL;
    joblot_pickle_tree *t = NULL;
    uint64_t n = list->as.items.count;
    expect(joblot_pickle_writer_new(&sink, protocol, &w, NULL) == JOBLOT_OK, "no writer");
    joblot_pickle_write_start(w);
    joblot_pickle_write_begin(w, JOBLOT_CONTAINER_LIST, n);
    for (uint64_t i = 0; i < n; i++)
        (void)write_scalar(w, list->as.items.at[i]);
    joblot_pickle_write_end(w);
    joblot_pickle_write_stop(w);
    expect(joblot_pickle_finish(w, NULL) == JOBLOT_OK, "not written");
    joblot_pickle_writer_free(w);
    struct joblot_pickle_source source = {.data = bytes.data, .size = bytes.size};
    expect(joblot_pickle_reader_new(&source, NULL, &r, NULL) == JOBLOT_OK, "no reader");
    expect(joblot_pickle_tree_read(r, NULL, NULL, NULL, &t, NULL) == JOBLOT_OK, "what was written is not read");
    const joblot_pickle_node *again = joblot_pickle_tree_root(t);
    expect(again->kind == JOBLOT_NODE_LIST && again->as.items.count == n, "another list is read");
    for (uint64_t i = 0; i < n; i++) {
        const joblot_pickle_node *a = list->as.items.at[i], *b = again->as.items.at[i];
        bool plain = a->kind <= JOBLOT_NODE_TEXT || (a->kind == JOBLOT_NODE_BYTES && protocol >= 3);
        expect(!plain || same_scalar(a, b), "another value is read");
    }
    joblot_pickle_tree_free(t);
    joblot_pickle_reader_free(r);
    joblot__buffer_clear(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    long live = joblot__alloc_live();
    struct joblot_pickle_limits limits = {.max_alloc = 1 << 22, .max_depth = 200, .max_nested = 3, .max_kept = 1};
    struct joblot_pickle_source source = {.data = data, .size = size};
    joblot_pickle_reader *r = NULL;
    joblot_error err = {JOBLOT_OK, 0, ""};
    expect(joblot_pickle_reader_new(&source, &limits, &r, NULL) == JOBLOT_OK, "no reader");
    for (;;) {
        joblot_pickle_tree *t = NULL;
        joblot_status status = joblot_pickle_tree_read(r, &limits, hook, NULL, &t, &err);
        if (status != JOBLOT_OK) {
            expect(t == NULL && err.code == status && err.message[0] != 0, "an error that says nothing");
            break;
        }
        check_walk(t, size);
        if (joblot_pickle_tree_root(t)->kind == JOBLOT_NODE_LIST)
            check_written(joblot_pickle_tree_root(t), 2 + (int)(size % 4));
        joblot_pickle_tree_free(t);
        joblot_pickle_resume(r);
    }
    joblot_pickle_reader_free(r);
    expect(joblot__alloc_live() == live, "a leak");
    return 0;
}
