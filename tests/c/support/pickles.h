/* support/pickles.h - what the tests of src/pickle share: sources that give bytes in pieces, and a tree as text. */
#ifndef JOBLOT_TESTS_SUPPORT_PICKLES_H
#define JOBLOT_TESTS_SUPPORT_PICKLES_H

#include "base/alloc.h"
#include "base/buffer.h"

#include <joblot/pickle.h>

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* One golden pickle: tests/c/data/make_pickles.py. */
struct golden {
    const char *name;
    int protocol;
    size_t size;
    const unsigned char *data;
    const char *shown;
};

static const struct golden goldens_of_3[] = {
#include "../data/pickles_3.h"
};
static const struct golden goldens_of_2[] = {
#include "../data/pickles_2.h"
};
enum {
    N_GOLDENS_OF_3 = sizeof goldens_of_3 / sizeof goldens_of_3[0],
    N_GOLDENS = N_GOLDENS_OF_3 + sizeof goldens_of_2 / sizeof goldens_of_2[0]
};

/* All of them, those of Python 3 first. */
static inline const struct golden *golden(size_t i)
{
    return i < N_GOLDENS_OF_3 ? &goldens_of_3[i] : &goldens_of_2[i - N_GOLDENS_OF_3];
}

/* A source that gives at most `piece` bytes at a time, fails at `fail_at`, and counts what was passed over. */
struct pieces {
    const unsigned char *data;
    size_t size, at, piece, fail_at, skipped;
};

static inline joblot_status give_piece(void *context, void *out, size_t capacity, size_t *n, joblot_error *err)
{
    struct pieces *p = context;
    size_t left = p->size - p->at;
    if (p->fail_at != 0 && p->at >= p->fail_at) {
        err->code = JOBLOT_OS;
        strcpy(err->message, "the disk is gone");
        return JOBLOT_OS;
    }
    *n = left < capacity ? left : capacity;
    *n = *n < p->piece ? *n : p->piece;
    memcpy(out, p->data + p->at, *n);
    p->at += *n;
    return JOBLOT_OK;
}

static inline joblot_status pass_over(void *context, uint64_t n, joblot_error *err)
{
    struct pieces *p = context;
    (void)err;
    p->at += n;
    p->skipped += n;
    return JOBLOT_OK;
}

static inline joblot_pickle_reader *open_memory(const void *data, size_t size, const struct joblot_pickle_limits *limits)
{
    struct joblot_pickle_source source = {.data = data, .size = size};
    joblot_pickle_reader *r = NULL;
    joblot_error err;
    assert_int_equal(joblot_pickle_reader_new(&source, limits, &r, &err), JOBLOT_OK);
    return r;
}

static inline joblot_pickle_reader *open_pieces(struct pieces *p, uint64_t known_size)
{
    struct joblot_pickle_source source = {.size = known_size, .read = give_piece, .context = p};
    joblot_pickle_reader *r = NULL;
    joblot_error err;
    assert_int_equal(joblot_pickle_reader_new(&source, NULL, &r, &err), JOBLOT_OK);
    return r;
}

/* ---- a tree as text: the grammar of make_pickles.py ---- */

struct shower {
    struct joblot__buffer text;
    unsigned char *seen;
};

static inline void show_node(struct shower *s, const joblot_pickle_node *n);

static inline void show_hex(struct shower *s, char tag, const struct joblot_pickle_bytes *bytes)
{
    joblot__buffer_printf(&s->text, "%c:", tag);
    for (uint64_t i = 0; i < bytes->size; i++)
        joblot__buffer_printf(&s->text, "%02x", bytes->data[i]);
}

/* Divides by ten again and again. */
static inline void show_big(struct shower *s, const struct joblot_pickle_bytes *bytes)
{
    size_t n = (size_t)bytes->size + 1, digits = 0;
    unsigned char *p = calloc(n, 1);
    char *text = malloc(n * 3 + 2);
    int negative = bytes->data[bytes->size - 1] & 0x80;
    assert_non_null(p);
    assert_non_null(text);
    for (size_t i = 0, carry = 1; i < n; i++) { /* the magnitude: negated where it is below 0 */
        unsigned byte = i < bytes->size ? bytes->data[i] : (negative ? 0xff : 0);
        carry += (unsigned char)~byte;
        p[i] = negative ? (unsigned char)carry : (unsigned char)byte;
        carry >>= 8;
    }
    for (int zero = 0; !zero;) {
        unsigned rest = 0;
        zero = 1;
        for (size_t i = n; i > 0; i--) {
            rest = rest << 8 | p[i - 1];
            p[i - 1] = (unsigned char)(rest / 10);
            rest %= 10;
            zero = zero && p[i - 1] == 0;
        }
        text[digits++] = (char)('0' + rest);
    }
    if (negative)
        text[digits++] = '-';
    while (digits > 0)
        joblot__buffer_u8(&s->text, (uint8_t)text[--digits]);
    free(p);
    free(text);
}

static inline void show_items(struct shower *s, const char *open, const struct joblot_pickle_items *items, int pairs,
                              const char *close)
{
    joblot__buffer_append_str(&s->text, open);
    for (uint64_t i = 0; i < items->count; i++) {
        if (i > 0)
            joblot__buffer_append_str(&s->text, pairs && i % 2 ? ":" : ",");
        show_node(s, items->at[i]);
    }
    joblot__buffer_append_str(&s->text, close);
}

static inline void show_scalar(struct shower *s, const joblot_pickle_node *n)
{
    uint64_t bits;
    switch (n->kind) {
    case JOBLOT_NODE_NONE:
        joblot__buffer_append_str(&s->text, "None");
        break;
    case JOBLOT_NODE_BOOL:
        joblot__buffer_append_str(&s->text, n->as.integer ? "True" : "False");
        break;
    case JOBLOT_NODE_INT:
        joblot__buffer_printf(&s->text, "%" PRId64, n->as.integer);
        break;
    case JOBLOT_NODE_BIG:
        show_big(s, &n->as.bytes);
        break;
    case JOBLOT_NODE_REAL:
        memcpy(&bits, &n->as.real, sizeof bits);
        joblot__buffer_printf(&s->text, "%016" PRIx64, bits);
        break;
    case JOBLOT_NODE_GLOBAL:
        joblot__buffer_printf(&s->text, "@%s.%s", (const char *)n->as.global->module.data,
                              (const char *)n->as.global->name.data);
        break;
    case JOBLOT_NODE_EXT:
        joblot__buffer_printf(&s->text, "X%" PRId64, n->as.integer);
        break;
    case JOBLOT_NODE_BUFFER:
        joblot__buffer_printf(&s->text, "%c%" PRId64, n->read_only ? 'R' : 'B', n->as.integer);
        break;
    case JOBLOT_NODE_FOREIGN:
        joblot__buffer_printf(&s->text, "<%s>", (const char *)n->as.foreign);
        break;
    default:
        assert_true(n->kind >= JOBLOT_NODE_TEXT && n->kind <= JOBLOT_NODE_STRING);
        show_hex(s, "tbas"[n->kind - JOBLOT_NODE_TEXT], &n->as.bytes);
    }
}

static inline void show_call(struct shower *s, const joblot_pickle_node *n)
{
    show_node(s, n->as.items.at[0]);
    joblot__buffer_append_str(&s->text, "(");
    show_node(s, n->as.items.at[1]);
    if (n->as.items.count > 2) {
        joblot__buffer_append_str(&s->text, "|");
        show_node(s, n->as.items.at[2]);
    }
    joblot__buffer_append_str(&s->text, ")");
}

static inline void show_container(struct shower *s, const joblot_pickle_node *n)
{
    switch (n->kind) {
    case JOBLOT_NODE_LIST:
        show_items(s, "[", &n->as.items, 0, "]");
        break;
    case JOBLOT_NODE_TUPLE:
        show_items(s, "(", &n->as.items, 0, ")");
        break;
    case JOBLOT_NODE_DICT:
        show_items(s, "{", &n->as.items, 1, "}");
        break;
    case JOBLOT_NODE_SET:
        show_items(s, "S{", &n->as.items, 0, "}");
        break;
    case JOBLOT_NODE_FROZENSET:
        show_items(s, "F{", &n->as.items, 0, "}");
        break;
    case JOBLOT_NODE_PERSISTENT:
        show_items(s, "P(", &n->as.items, 0, ")");
        break;
    case JOBLOT_NODE_CALL:
        show_call(s, n);
        break;
    default:
        show_scalar(s, n);
    }
}

static inline void show_node(struct shower *s, const joblot_pickle_node *n)
{
    int container = (n->kind >= JOBLOT_NODE_LIST && n->kind <= JOBLOT_NODE_FROZENSET) || n->kind == JOBLOT_NODE_CALL ||
                    n->kind == JOBLOT_NODE_PERSISTENT;
    int empty = n->kind != JOBLOT_NODE_CALL && container && n->as.items.count == 0 && n->extra == NULL;
    if (container && !empty && s->seen[n->number]) {
        joblot__buffer_append_str(&s->text, "&");
        return;
    }
    s->seen[n->number] = 1;
    show_container(s, n);
    if (n->extra == NULL)
        return;
    if (n->extra->items.count > 0)
        show_items(s, "[", &n->extra->items, 0, "]");
    if (n->extra->pairs.count > 0)
        show_items(s, "{", &n->extra->pairs, 1, "}");
    for (uint64_t i = 0; i < n->extra->states.count; i++) {
        joblot__buffer_append_str(&s->text, "!");
        show_node(s, n->extra->states.at[i]);
    }
}

/* The text of a tree; free() it with joblot__free. */
static inline char *show_tree(const joblot_pickle_tree *t)
{
    struct shower s = {.seen = calloc((size_t)joblot_pickle_tree_count(t) + 1, 1)};
    assert_non_null(s.seen);
    show_node(&s, joblot_pickle_tree_root(t));
    joblot__buffer_u8(&s.text, 0);
    assert_int_equal(s.text.status, JOBLOT_OK);
    free(s.seen);
    return (char *)s.text.data;
}

/* Every test leaves as many blocks as it found, and no allocation set to fail. */
static inline int remember(void **state)
{
    static long before;
    joblot__alloc_fail_at(0, false);
    before = joblot__alloc_live();
    *state = &before;
    return 0;
}

static inline int no_leak(void **state)
{
    joblot__alloc_fail_at(0, false);
    assert_int_equal(joblot__alloc_live(), *(long *)*state);
    return 0;
}

/* The n-th allocation of `run` fails, once and from then on, for every n that there is, more than `at_least`: each time an
 * error that says so, and nothing left. */
static inline void fail_each_allocation(joblot_status (*run)(joblot_error *err), unsigned long at_least)
{
    for (int for_good = 0; for_good < 2; for_good++) {
        unsigned long nth = 1;
        for (;; nth++) {
            joblot_error err = {.message = ""};
            long before = joblot__alloc_live();
            joblot__alloc_fail_at(nth, for_good);
            joblot_status status = run(&err);
            unsigned long made = joblot__alloc_count();
            joblot__alloc_fail_at(0, false);
            assert_int_equal(joblot__alloc_live(), before);
            if (made < nth) {
                assert_int_equal(status, JOBLOT_OK);
                break;
            }
            assert_int_equal(status, JOBLOT_NOMEM);
            assert_true(err.code == JOBLOT_NOMEM && err.message[0] != '\0');
        }
        assert_true(nth > at_least);
    }
}

#endif
