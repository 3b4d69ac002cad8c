/* pickle/container.c - lists, tuples, dicts and sets of plain data, in the batches of Python's pickler. */
#include "encode.h"

#include "../base/alloc.h"
#include "../base/checked.h"

#include <string.h>

/* Items (pairs of a dict) that go between a mark and its APPENDS, SETITEMS or ADDITEMS. */
enum { BATCH = 1000 };

/* Sets of protocol 2 and 3 are a call with a list, so they are written as one. */
static bool is_batched(const joblot_pickle_writer *w, const struct joblot__open *o)
{
    if (o->kind == JOBLOT_CONTAINER_FROZENSET)
        return w->protocol < 4;
    return o->kind != JOBLOT_CONTAINER_TUPLE;
}

static enum joblot_pickle_container form_of(const joblot_pickle_writer *w, const struct joblot__open *o)
{
    bool is_set = o->kind == JOBLOT_CONTAINER_SET || o->kind == JOBLOT_CONTAINER_FROZENSET;
    return is_set && w->protocol < 4 ? JOBLOT_CONTAINER_LIST : o->kind;
}

static uint64_t batch_values(const struct joblot__open *o)
{
    return o->kind == JOBLOT_CONTAINER_DICT ? 2 * BATCH : BATCH;
}

/* Is the batch that starts with value `first` a single item, which goes without a mark? */
static bool is_single(const joblot_pickle_writer *w, const struct joblot__open *o, uint64_t first)
{
    return form_of(w, o) != JOBLOT_CONTAINER_SET && o->count - first == (o->kind == JOBLOT_CONTAINER_DICT ? 2 : 1);
}

static void end_batch(joblot_pickle_writer *w, const struct joblot__open *o)
{
    uint64_t first = (o->written - 1) / batch_values(o) * batch_values(o);
    bool single = is_single(w, o, first);
    switch (form_of(w, o)) {
    case JOBLOT_CONTAINER_LIST:
        joblot_pickle_write_op(w, single ? JOBLOT_OP_APPEND : JOBLOT_OP_APPENDS);
        break;
    case JOBLOT_CONTAINER_DICT:
        joblot_pickle_write_op(w, single ? JOBLOT_OP_SETITEM : JOBLOT_OP_SETITEMS);
        break;
    default:
        joblot_pickle_write_op(w, JOBLOT_OP_ADDITEMS);
    }
}

void joblot__write_member(joblot_pickle_writer *w)
{
    struct joblot__open *o = &w->open[w->n_open - 1];
    if (o->written >= o->count) {
        joblot__write_failed(w, JOBLOT_INVALID, "more values than a container was begun with");
        return;
    }
    if (is_batched(w, o) && o->written % batch_values(o) == 0) {
        if (o->written > 0)
            end_batch(w, o);
        if (!is_single(w, o, o->written))
            joblot_pickle_write_op(w, JOBLOT_OP_MARK);
    }
    o->written++;
}

/* The class of a set, for protocols that have none. */
static void write_class(joblot_pickle_writer *w, const char *name)
{
    static const char module_2[] = "__builtin__\n", module_3[] = "builtins\n";
    const char *module = w->protocol < 3 ? module_2 : module_3;
    size_t n = strlen(module), m = strlen(name);
    unsigned char *at = joblot__write_room(w, 1 + n + m + 1);
    if (at == NULL)
        return;
    at[0] = JOBLOT_OP_GLOBAL;
    memcpy(at + 1, module, n);
    memcpy(at + 1 + n, name, m);
    at[1 + n + m] = '\n';
}

static void write_opening(joblot_pickle_writer *w, const struct joblot__open *o)
{
    switch (o->kind) {
    case JOBLOT_CONTAINER_LIST:
        joblot_pickle_write_op(w, JOBLOT_OP_EMPTY_LIST);
        break;
    case JOBLOT_CONTAINER_DICT:
        joblot_pickle_write_op(w, JOBLOT_OP_EMPTY_DICT);
        break;
    case JOBLOT_CONTAINER_TUPLE:
        if (o->count > 3)
            joblot_pickle_write_op(w, JOBLOT_OP_MARK);
        break;
    default:
        if (w->protocol < 4) {
            write_class(w, o->kind == JOBLOT_CONTAINER_SET ? "set" : "frozenset");
            joblot_pickle_write_op(w, JOBLOT_OP_EMPTY_LIST);
        } else {
            joblot_pickle_write_op(w, o->kind == JOBLOT_CONTAINER_SET ? JOBLOT_OP_EMPTY_SET : JOBLOT_OP_MARK);
        }
    }
}

void joblot_pickle_write_begin(joblot_pickle_writer *w, enum joblot_pickle_container kind, uint64_t count)
{
    joblot__write_value(w);
    if (w->kept.code != JOBLOT_OK)
        return;
    if (kind == JOBLOT_CONTAINER_DICT && count > UINT64_MAX / 2) {
        joblot__write_failed(w, JOBLOT_INVALID, "a dict with more pairs than there can be");
        return;
    }
    if (w->n_open == w->open_capacity) {
        size_t capacity = w->open_capacity ? w->open_capacity * 2 : 16, bytes;
        struct joblot__open *open = NULL;
        if (joblot__mul_size(capacity, sizeof *open, &bytes))
            open = joblot__realloc(w->open, bytes);
        if (open == NULL) {
            joblot__write_failed(w, JOBLOT_NOMEM, "no memory for another container in a container");
            return;
        }
        w->open = open;
        w->open_capacity = capacity;
    }
    struct joblot__open *o = &w->open[w->n_open++];
    o->kind = kind;
    o->count = kind == JOBLOT_CONTAINER_DICT ? 2 * count : count;
    o->written = 0;
    write_opening(w, o);
}

void joblot_pickle_write_end(joblot_pickle_writer *w)
{
    static const enum joblot_pickle_op tuples[] = {JOBLOT_OP_EMPTY_TUPLE, JOBLOT_OP_TUPLE1, JOBLOT_OP_TUPLE2,
                                                   JOBLOT_OP_TUPLE3, JOBLOT_OP_TUPLE};
    if (w->kept.code != JOBLOT_OK)
        return;
    if (w->n_open == 0 || w->open[w->n_open - 1].written != w->open[w->n_open - 1].count) {
        joblot__write_failed(w, JOBLOT_INVALID, w->n_open == 0 ? "the end of a container that was not begun"
                                                               : "fewer values than a container was begun with");
        return;
    }
    struct joblot__open o = w->open[--w->n_open];
    if (o.kind == JOBLOT_CONTAINER_TUPLE)
        joblot_pickle_write_op(w, tuples[o.count < 4 ? o.count : 4]);
    else if (!is_batched(w, &o))
        joblot_pickle_write_op(w, JOBLOT_OP_FROZENSET);
    else if (o.count > 0)
        end_batch(w, &o);
    if (w->protocol < 4 && (o.kind == JOBLOT_CONTAINER_SET || o.kind == JOBLOT_CONTAINER_FROZENSET)) {
        joblot_pickle_write_op(w, JOBLOT_OP_TUPLE1);
        joblot_pickle_write_op(w, JOBLOT_OP_REDUCE);
    }
}
