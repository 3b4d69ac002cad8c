/* pickle/machine.c - the stack machine, run with nodes instead of objects. */
#include "machine.h"

#include "decode.h"
#include "text.h"

#include "../base/alloc.h"

#include <string.h>

typedef joblot_pickle_node node;
typedef struct joblot_pickle_event event;
typedef struct joblot_pickle_items items;

static bool bad(joblot_pickle_tree *t, const char *text)
{
    return joblot__tree_fail(t, JOBLOT_FORMAT, text);
}

/* ---- the stack ---- */

static bool push(joblot_pickle_tree *t, struct joblot__machine *m, node *made)
{
    if (made == NULL)
        return false;
    if (m->n == m->capacity &&
        !joblot__arena_grow(&t->arena, (void **)&m->stack, &m->capacity, sizeof *m->stack, m->n + 1))
        return joblot__tree_no_room(t);
    m->stack[m->n++] = made;
    return true;
}

/* The top `n` items, which stay where they are; NULL where there are fewer above the last mark. */
static node **top(joblot_pickle_tree *t, struct joblot__machine *m, size_t n)
{
    if (m->n - m->fence < n) {
        (void)bad(t, "an opcode that wants more than there is on the stack");
        return NULL;
    }
    return m->stack + m->n - n;
}

static bool push_mark(joblot_pickle_tree *t, struct joblot__machine *m)
{
    if (m->n_marks >= t->limits.max_depth)
        return joblot__tree_fail(t, JOBLOT_LIMIT, "marks that are nested deeper than the limit (max_depth)");
    if (!joblot__arena_grow(&t->arena, (void **)&m->marks, &m->mark_capacity, sizeof *m->marks, m->n_marks + 1))
        return joblot__tree_no_room(t);
    m->marks[m->n_marks++] = m->fence = m->n;
    return true;
}

/* Takes the last mark; what lies above it starts at *from, and stays there until the caller sets m->n. */
static bool pop_mark(joblot_pickle_tree *t, struct joblot__machine *m, size_t *from)
{
    *from = 0;
    if (m->n_marks == 0)
        return bad(t, "an opcode that wants a mark where there is none");
    *from = m->marks[--m->n_marks];
    m->fence = m->n_marks > 0 ? m->marks[m->n_marks - 1] : 0;
    return true;
}

/* ---- what opcodes make ---- */

static bool push_integer(joblot_pickle_tree *t, struct joblot__machine *m, int kind, const event *e)
{
    node *made = joblot__tree_node(t, kind, e->op, e->offset);
    if (made != NULL)
        made->as.integer = e->integer;
    return push(t, m, made);
}

static bool push_string(joblot_pickle_tree *t, struct joblot__machine *m, int kind, const event *e)
{
    node *made = joblot__tree_node(t, kind, e->op, e->offset);
    if (made == NULL || !joblot__tree_string(t, made, e))
        return false;
    if (kind == JOBLOT_NODE_TEXT && !joblot__utf8_valid(made->as.bytes.data, (size_t)made->as.bytes.size))
        return bad(t, "a text that is not UTF-8");
    return push(t, m, made);
}

static node *make_global(joblot_pickle_tree *t, const event *e, const struct joblot_pickle_bytes *module,
                         const struct joblot_pickle_bytes *name)
{
    node *made = joblot__tree_node(t, JOBLOT_NODE_GLOBAL, e->op, e->offset);
    struct joblot_pickle_global *pair = made == NULL ? NULL : joblot__arena_alloc(&t->arena, sizeof *pair);
    if (pair == NULL) {
        (void)(made != NULL && joblot__tree_no_room(t));
        return NULL;
    }
    pair->module = *module;
    pair->name = *name;
    made->as.global = pair;
    return made;
}

/* GLOBAL and INST: two lines of text. */
static node *named_global(joblot_pickle_tree *t, const event *e)
{
    struct joblot_pickle_bytes module, name;
    if (!joblot__utf8_valid(e->data, (size_t)e->size) || !joblot__utf8_valid(e->data2, (size_t)e->size2)) {
        (void)bad(t, "a global whose name is not UTF-8");
        return NULL;
    }
    if (!joblot__tree_name(t, e->data, e->size, &module) || !joblot__tree_name(t, e->data2, e->size2, &name))
        return NULL;
    return make_global(t, e, &module, &name);
}

static bool stack_global(joblot_pickle_tree *t, struct joblot__machine *m, const event *e)
{
    node **pair = top(t, m, 2);
    if (pair == NULL)
        return false;
    if (pair[0]->kind != JOBLOT_NODE_TEXT || pair[1]->kind != JOBLOT_NODE_TEXT || pair[0]->as.bytes.size == 0 ||
        pair[1]->as.bytes.size == 0)
        return bad(t, "a STACK_GLOBAL whose module or name is no text");
    if (pair[0]->cut || pair[1]->cut)
        return joblot__tree_fail(t, JOBLOT_LIMIT, "a module or name that is longer than what is kept of it (max_kept)");
    m->n -= 2;
    return push(t, m, make_global(t, e, &pair[0]->as.bytes, &pair[1]->as.bytes));
}

/* A container of the items from place `from` of the stack on, which it takes. */
static node *gather(joblot_pickle_tree *t, struct joblot__machine *m, int kind, size_t from, const event *e)
{
    uint64_t n = m->n - from;
    node *made = joblot__tree_node(t, kind, e->op, e->offset), **parts = m->stack != NULL ? m->stack + from : NULL;
    bool fixed = kind != JOBLOT_NODE_LIST && kind != JOBLOT_NODE_DICT;
    uint64_t room = fixed ? (n ? n : 1) : joblot__tree_room_for(n);
    if (made == NULL || !joblot__tree_set_items(t, &made->as.items, parts, n, room))
        return NULL;
    if (fixed && !joblot__tree_deepen(t, made, parts, n))
        return NULL;
    m->n = from;
    return made;
}

static bool gather_marked(joblot_pickle_tree *t, struct joblot__machine *m, int kind, const event *e)
{
    size_t from;
    if (!pop_mark(t, m, &from))
        return false;
    if (kind == JOBLOT_NODE_DICT && (m->n - from) % 2 != 0)
        return bad(t, "a dict with a key and no value");
    return push(t, m, gather(t, m, kind, from, e));
}

static bool gather_top(joblot_pickle_tree *t, struct joblot__machine *m, size_t n, const event *e)
{
    return top(t, m, n) != NULL && push(t, m, gather(t, m, JOBLOT_NODE_TUPLE, m->n - n, e));
}

/* A call of the top n items: callable, arguments, keyword arguments. */
static bool make_call(joblot_pickle_tree *t, struct joblot__machine *m, size_t n, const event *e)
{
    return top(t, m, n) != NULL && push(t, m, gather(t, m, JOBLOT_NODE_CALL, m->n - n, e));
}

/* INST and OBJ: the arguments lie above the mark; OBJ has the class before them. */
static bool make_instance(joblot_pickle_tree *t, struct joblot__machine *m, const event *e)
{
    size_t from;
    node *parts[2], *made;
    if (!pop_mark(t, m, &from))
        return false;
    if (e->op == JOBLOT_OP_OBJ) {
        if (m->n == from)
            return bad(t, "an OBJ without a class");
        parts[0] = m->stack[from++];
    } else {
        parts[0] = named_global(t, e);
    }
    parts[1] = parts[0] == NULL ? NULL : gather(t, m, JOBLOT_NODE_TUPLE, from, e);
    if (parts[1] == NULL)
        return false;
    m->n = from - (e->op == JOBLOT_OP_OBJ);
    made = joblot__tree_node(t, JOBLOT_NODE_CALL, e->op, e->offset);
    return made != NULL && joblot__tree_set_items(t, &made->as.items, parts, 2, 2) &&
           joblot__tree_deepen(t, made, parts, 2) && push(t, m, made);
}

static bool make_persistent(joblot_pickle_tree *t, struct joblot__machine *m, const event *e)
{
    if (e->op == JOBLOT_OP_PERSID && !push_string(t, m, JOBLOT_NODE_TEXT, e))
        return false;
    return top(t, m, 1) != NULL && push(t, m, gather(t, m, JOBLOT_NODE_PERSISTENT, m->n - 1, e));
}

/* ---- what opcodes change ---- */

/* What was added to an object; NULL where nothing can be. */
static struct joblot_pickle_extra *extra_of(joblot_pickle_tree *t, node *object)
{
    if ((object->kind <= JOBLOT_NODE_STRING && object->kind != JOBLOT_NODE_BYTEARRAY) ||
        object->kind == JOBLOT_NODE_TUPLE || object->kind == JOBLOT_NODE_FROZENSET) {
        (void)bad(t, "an opcode that changes a value that cannot change");
        return NULL;
    }
    if (object->extra == NULL) {
        object->extra = joblot__arena_alloc(&t->arena, sizeof *object->extra);
        if (object->extra == NULL)
            (void)joblot__tree_no_room(t);
        else
            memset(object->extra, 0, sizeof *object->extra);
    }
    return object->extra;
}

/* Adds the items from place `from` on to the object below `below`, as `kind` of container takes them. */
static bool add_to(joblot_pickle_tree *t, struct joblot__machine *m, size_t below, size_t from, int kind)
{
    if (below <= m->fence)
        return bad(t, "an opcode that wants a container below its items");
    node *object = m->stack[below - 1], **parts = m->stack + from;
    uint64_t n = m->n - from;
    items *to = &object->as.items;
    if (kind == JOBLOT_NODE_DICT && n % 2 != 0)
        return bad(t, "a dict with a key and no value");
    if (object->kind != kind) {
        struct joblot_pickle_extra *extra = extra_of(t, object);
        if (extra == NULL)
            return false;
        to = kind == JOBLOT_NODE_DICT ? &extra->pairs : &extra->items;
    }
    if (!joblot__tree_add_items(t, to, parts, n))
        return false;
    m->n = below;
    return true;
}

static bool add_marked(joblot_pickle_tree *t, struct joblot__machine *m, int kind)
{
    size_t from;
    return pop_mark(t, m, &from) && add_to(t, m, from, from, kind);
}

static bool add_top(joblot_pickle_tree *t, struct joblot__machine *m, size_t n, int kind)
{
    return top(t, m, n) != NULL && add_to(t, m, m->n - n, m->n - n, kind);
}

static bool build(joblot_pickle_tree *t, struct joblot__machine *m)
{
    node **pair = top(t, m, 2), *object, *instead;
    struct joblot_pickle_extra *extra = pair == NULL ? NULL : extra_of(t, pair[0]);
    if (extra == NULL || !joblot__tree_add_items(t, &extra->states, pair + 1, 1))
        return false;
    object = instead = pair[0];
    m->n--;
    if (t->hook == NULL || object->kind != JOBLOT_NODE_CALL)
        return true;
    joblot_error why = {.code = JOBLOT_OK, .message = ""};
    joblot_status status = t->hook(t->context, t, t->reader, object, &instead, &why);
    if (status != JOBLOT_OK)
        return joblot__tree_fail(t, status,
                                 why.message[0] != '\0' ? why.message : "an object that the program refused");
    m->stack[m->n - 1] = instead;
    return true;
}

/* ---- the memo ---- */

/* A pickle cannot have more entries than bytes so far, so the table stays as small as the pickle. */
static bool put(joblot_pickle_tree *t, struct joblot__machine *m, uint64_t index, const event *e)
{
    node **noted = top(t, m, 1);
    if (noted == NULL)
        return false;
    if (index >= t->limits.max_memo || index > e->offset - m->start + JOBLOT__MEMO_SLACK)
        return joblot__tree_fail(t, JOBLOT_LIMIT,
                                 "a memo index beyond the limit (max_memo), or than entries that there can be");
    if (!joblot__arena_grow(&t->arena, (void **)&m->memo, &m->memo_capacity, sizeof *m->memo, (size_t)index + 1))
        return joblot__tree_no_room(t);
    m->memo_count += m->memo[index] == NULL;
    m->memo[index] = *noted;
    return true;
}

static bool get(joblot_pickle_tree *t, struct joblot__machine *m, uint64_t index)
{
    if (index >= m->memo_capacity || m->memo[index] == NULL)
        return bad(t, "a reference to a memo entry that was never made");
    return push(t, m, m->memo[index]);
}

/* ---- one opcode ---- */

static bool pop(joblot_pickle_tree *t, struct joblot__machine *m)
{
    size_t from;
    if (m->n > m->fence || m->n_marks == 0) {
        if (top(t, m, 1) == NULL)
            return false;
        m->n--;
        return true;
    }
    return pop_mark(t, m, &from);
}

static bool drop_marked(joblot_pickle_tree *t, struct joblot__machine *m)
{
    size_t from;
    if (!pop_mark(t, m, &from))
        return false;
    m->n = from;
    return true;
}

static bool next_buffer(joblot_pickle_tree *t, struct joblot__machine *m, const event *e)
{
    node *made = joblot__tree_node(t, JOBLOT_NODE_BUFFER, e->op, e->offset);
    if (made != NULL)
        made->as.integer = (int64_t)t->buffers++;
    return push(t, m, made);
}

static bool read_only_buffer(joblot_pickle_tree *t, struct joblot__machine *m)
{
    node **buffer = top(t, m, 1);
    if (buffer == NULL)
        return false;
    (*buffer)->read_only = 1;
    return true;
}

/* Opcodes that put a value without parts on the stack. */
static bool step_value(joblot_pickle_tree *t, struct joblot__machine *m, const event *e)
{
    node *made;
    switch (e->op) {
    case JOBLOT_OP_NONE:
        return push(t, m, joblot__tree_node(t, JOBLOT_NODE_NONE, e->op, e->offset));
    case JOBLOT_OP_FLOAT:
    case JOBLOT_OP_BINFLOAT:
        made = joblot__tree_node(t, JOBLOT_NODE_REAL, e->op, e->offset);
        if (made != NULL)
            made->as.real = e->real;
        return push(t, m, made);
    case JOBLOT_OP_STRING:
    case JOBLOT_OP_BINSTRING:
    case JOBLOT_OP_SHORT_BINSTRING:
        return push_string(t, m, JOBLOT_NODE_STRING, e);
    case JOBLOT_OP_BINBYTES:
    case JOBLOT_OP_SHORT_BINBYTES:
    case JOBLOT_OP_BINBYTES8:
        return push_string(t, m, JOBLOT_NODE_BYTES, e);
    case JOBLOT_OP_BYTEARRAY8:
        return push_string(t, m, JOBLOT_NODE_BYTEARRAY, e);
    case JOBLOT_OP_UNICODE:
    case JOBLOT_OP_BINUNICODE:
    case JOBLOT_OP_SHORT_BINUNICODE:
    case JOBLOT_OP_BINUNICODE8:
        return push_string(t, m, JOBLOT_NODE_TEXT, e);
    case JOBLOT_OP_GLOBAL:
        return push(t, m, named_global(t, e));
    case JOBLOT_OP_EXT1:
    case JOBLOT_OP_EXT2:
    case JOBLOT_OP_EXT4:
        return push_integer(t, m, JOBLOT_NODE_EXT, e);
    case JOBLOT_OP_EMPTY_LIST:
        return push(t, m, joblot__tree_node(t, JOBLOT_NODE_LIST, e->op, e->offset));
    case JOBLOT_OP_EMPTY_TUPLE:
        return push(t, m, joblot__tree_node(t, JOBLOT_NODE_TUPLE, e->op, e->offset));
    case JOBLOT_OP_EMPTY_DICT:
        return push(t, m, joblot__tree_node(t, JOBLOT_NODE_DICT, e->op, e->offset));
    case JOBLOT_OP_EMPTY_SET:
        return push(t, m, joblot__tree_node(t, JOBLOT_NODE_SET, e->op, e->offset));
    case JOBLOT_OP_NEXT_BUFFER:
        return next_buffer(t, m, e);
    default: /* integers and bools, as the argument says */
        if (e->arg == JOBLOT_ARG_BIG)
            return push_string(t, m, JOBLOT_NODE_BIG, e);
        return push_integer(t, m, e->arg == JOBLOT_ARG_BOOL ? JOBLOT_NODE_BOOL : JOBLOT_NODE_INT, e);
    }
}

/* Opcodes that call something, or say what an object has become. */
static bool step_object(joblot_pickle_tree *t, struct joblot__machine *m, const event *e)
{
    switch (e->op) {
    case JOBLOT_OP_STACK_GLOBAL:
        return stack_global(t, m, e);
    case JOBLOT_OP_REDUCE:
    case JOBLOT_OP_NEWOBJ:
        return make_call(t, m, 2, e);
    case JOBLOT_OP_NEWOBJ_EX:
        return make_call(t, m, 3, e);
    case JOBLOT_OP_INST:
    case JOBLOT_OP_OBJ:
        return make_instance(t, m, e);
    case JOBLOT_OP_BUILD:
        return build(t, m);
    case JOBLOT_OP_PERSID:
    case JOBLOT_OP_BINPERSID:
        return make_persistent(t, m, e);
    case JOBLOT_OP_READONLY_BUFFER:
        return read_only_buffer(t, m);
    default:
        return step_value(t, m, e);
    }
}

/* Opcodes that make something of what is on the stack. */
static bool step(joblot_pickle_tree *t, struct joblot__machine *m, const event *e)
{
    node **twice;
    switch (e->op) {
    case JOBLOT_OP_PROTO:
    case JOBLOT_OP_FRAME:
        return true;
    case JOBLOT_OP_MARK:
        return push_mark(t, m);
    case JOBLOT_OP_POP:
        return pop(t, m);
    case JOBLOT_OP_POP_MARK:
        return drop_marked(t, m);
    case JOBLOT_OP_DUP:
        twice = top(t, m, 1);
        return twice != NULL && push(t, m, *twice);
    case JOBLOT_OP_TUPLE1:
    case JOBLOT_OP_TUPLE2:
    case JOBLOT_OP_TUPLE3:
        return gather_top(t, m, (size_t)(e->op - JOBLOT_OP_TUPLE1) + 1, e);
    case JOBLOT_OP_TUPLE:
        return gather_marked(t, m, JOBLOT_NODE_TUPLE, e);
    case JOBLOT_OP_LIST:
        return gather_marked(t, m, JOBLOT_NODE_LIST, e);
    case JOBLOT_OP_DICT:
        return gather_marked(t, m, JOBLOT_NODE_DICT, e);
    case JOBLOT_OP_FROZENSET:
        return gather_marked(t, m, JOBLOT_NODE_FROZENSET, e);
    case JOBLOT_OP_APPEND:
        return add_top(t, m, 1, JOBLOT_NODE_LIST);
    case JOBLOT_OP_SETITEM:
        return add_top(t, m, 2, JOBLOT_NODE_DICT);
    case JOBLOT_OP_APPENDS:
        return add_marked(t, m, JOBLOT_NODE_LIST);
    case JOBLOT_OP_SETITEMS:
        return add_marked(t, m, JOBLOT_NODE_DICT);
    case JOBLOT_OP_ADDITEMS:
        return add_marked(t, m, JOBLOT_NODE_SET);
    case JOBLOT_OP_GET:
    case JOBLOT_OP_BINGET:
    case JOBLOT_OP_LONG_BINGET:
        return get(t, m, (uint64_t)e->integer);
    case JOBLOT_OP_PUT:
    case JOBLOT_OP_BINPUT:
    case JOBLOT_OP_LONG_BINPUT:
        return put(t, m, (uint64_t)e->integer, e);
    case JOBLOT_OP_MEMOIZE:
        return put(t, m, m->memo_count, e);
    default:
        return step_object(t, m, e);
    }
}

bool joblot__machine_run(joblot_pickle_tree *t, node **value)
{
    struct joblot__machine m;
    event e;
    bool good = true;
    memset(&m, 0, sizeof m);
    m.start = joblot_pickle_offset(t->reader);
    do {
        good = joblot_pickle_next(t->reader, &e, NULL) == JOBLOT_OK && (e.op == JOBLOT_OP_STOP || step(t, &m, &e));
    } while (good && e.op != JOBLOT_OP_STOP);
    node **last = good ? top(t, &m, 1) : NULL;
    if (last != NULL)
        *value = *last;
    joblot__arena_drop(&t->arena, m.stack, m.capacity, sizeof *m.stack);
    joblot__arena_drop(&t->arena, m.marks, m.mark_capacity, sizeof *m.marks);
    joblot__arena_drop(&t->arena, m.memo, m.memo_capacity, sizeof *m.memo);
    return last != NULL;
}
