/* fuzz_pickle.c - the decoder: in memory, in pieces with the size known, in pieces with the size unknown, the same events
 * come; with the same error at the end.
 *
 * The first byte of the input is the size of the pieces, the rest is the pickle (or several, one after another). */
#include "base/alloc.h"

#include <joblot/pickle.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct pieces {
    const uint8_t *data;
    size_t size, at, piece;
};

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "fuzz_pickle: %s\n", what);
        abort();
    }
}

static joblot_status give(void *context, void *out, size_t capacity, size_t *n, joblot_error *err)
{
    struct pieces *p = context;
    size_t left = p->size - p->at;
    (void)err;
    *n = left < capacity ? left : capacity;
    *n = *n < p->piece ? *n : p->piece;
    if (*n > 0)
        memcpy(out, p->data + p->at, *n);
    p->at += *n;
    return JOBLOT_OK;
}

/* The string of an event, taken where it was not given. */
static const uint8_t *string_of(joblot_pickle_reader *r, const struct joblot_pickle_event *e, uint8_t **taken,
                                joblot_status *status)
{
    *taken = NULL;
    *status = JOBLOT_OK;
    if (e->data != NULL || e->size == 0)
        return e->data;
    *taken = malloc((size_t)e->size);
    expect(*taken != NULL, "a string larger than the input");
    *status = joblot_pickle_take(r, *taken, e->size, NULL);
    return *taken;
}

/* With the size known both end alike.  Where it is not, the reader in memory may notice earlier, never later. */
static void compare_ends(joblot_status a, joblot_status b, const joblot_error *err_a, const joblot_error *err_b, int known)
{
    expect(a != JOBLOT_OK, "a reader in memory goes on where one of pieces cannot");
    expect(err_a->code == a && err_a->message[0] != 0, "an error that says nothing");
    expect(!known || (a == b && strcmp(err_a->message, err_b->message) == 0), "two readers end in another way");
}

static void compare(joblot_pickle_reader *a, joblot_pickle_reader *b, size_t size, int known)
{
    struct joblot_pickle_event x, y;
    joblot_error err_a = {JOBLOT_OK, 0, ""}, err_b = {JOBLOT_OK, 0, ""};
    for (;;) {
        uint64_t before = joblot_pickle_offset(a);
        joblot_status status = joblot_pickle_next(a, &x, &err_a), other = joblot_pickle_next(b, &y, &err_b);
        if (status != JOBLOT_OK || other != JOBLOT_OK) {
            compare_ends(status, other, &err_a, &err_b, known);
            return;
        }
        expect(x.offset == before && joblot_pickle_offset(a) <= size, "not where it should be");
        expect(joblot_pickle_op_name(x.op) != NULL, "an opcode without a name");
        expect(x.op == y.op && x.arg == y.arg && x.offset == y.offset && x.integer == y.integer && x.size == y.size &&
                   x.size2 == y.size2,
               "two readers differ");
        expect(x.size <= size * 2 && (x.size == 0 || x.data != NULL), "a string of memory that is not given");
        uint8_t *taken = NULL;
        const uint8_t *bytes = string_of(b, &y, &taken, &other);
        expect(other == JOBLOT_OK, "a string that cannot be taken");
        expect(x.size == 0 || memcmp(x.data, bytes, (size_t)x.size) == 0, "two readers have other strings");
        expect(x.size2 == 0 || memcmp(x.data2, y.data2, (size_t)x.size2) == 0, "two readers have other names");
        free(taken);
        if (x.op == JOBLOT_OP_STOP) {
            joblot_pickle_resume(a);
            joblot_pickle_resume(b);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    long live = joblot__alloc_live();
    if (size == 0)
        return 0;
    for (int known = 0; known < 2; known++) {
        struct pieces p = {data + 1, size - 1, 0, (size_t)data[0] * 4 + 1};
        struct joblot_pickle_source memory = {.data = data + 1, .size = size - 1};
        struct joblot_pickle_source pieces = {.size = known ? size - 1 : JOBLOT_SIZE_UNKNOWN, .read = give, .context = &p};
        joblot_pickle_reader *a = NULL, *b = NULL;
        expect(joblot_pickle_reader_new(&memory, NULL, &a, NULL) == JOBLOT_OK, "no reader");
        expect(joblot_pickle_reader_new(&pieces, NULL, &b, NULL) == JOBLOT_OK, "no reader");
        compare(a, b, size - 1, known);
        joblot_pickle_reader_free(a);
        joblot_pickle_reader_free(b);
    }
    expect(joblot__alloc_live() == live, "a leak");
    return 0;
}
