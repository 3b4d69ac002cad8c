/* shares.c - one copy of an array for all tasks of a call that have it.
 *
 * An entry says: the elements at this place (address, shape, strides) lie in that segment. It lives while a task that
 * uses it is not done; what no task uses is given up before the next one is added. */
#include "core.h"

#include <string.h>

struct share {
    struct joblot_array place;
    PyObject *owner;         /* weak reference: once it is dead, its memory may be another array's */
    unsigned char *pristine; /* the bytes as they were, where tasks write to the segment; else NULL */
    joblot_segment *segment;
    uint64_t offset, size;
    size_t users;
    bool fresh; /* found or added for the task that is being written */
};

struct use {
    uint64_t number;
    struct share *share;
};

struct core_shares {
    enum core_compare compare;
    struct share **shares;
    size_t n, capacity;
    struct use *uses; /* of tasks that are not done, about in their order */
    size_t first, n_uses, uses_capacity;
    int64_t began, compared; /* when, and ns that went into comparing whole arrays */
};

struct core_shares *
core_shares_new(enum core_compare compare)
{
    struct core_shares *s = PyMem_Calloc(1, sizeof *s);
    if (s == NULL)
        PyErr_NoMemory();
    else
        s->compare = compare;
    if (s != NULL)
        s->began = joblot_clock();
    return s;
}

static void
free_share(struct share *share)
{
    joblot_segment_release(share->segment);
    Py_XDECREF(share->owner);
    PyMem_RawFree(share->pristine);
    PyMem_Free(share);
}

void
core_shares_free(struct core_shares *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n; i++)
        free_share(s->shares[i]);
    PyMem_Free(s->shares);
    PyMem_Free(s->uses);
    PyMem_Free(s);
}

enum core_compare
core_shares_compare(const struct core_shares *s)
{
    return s->compare;
}

static bool
same_place(const struct joblot_array *a, const struct joblot_array *b)
{
    size_t n = (size_t)a->ndim * sizeof a->shape[0];
    return a->data == b->data && a->itemsize == b->itemsize && a->ndim == b->ndim && memcmp(a->shape, b->shape, n) == 0 &&
           memcmp(a->strides, b->strides, n) == 0;
}

/* Lines of 64 bytes, spread evenly, that stand for the whole of a large array. */
enum { LINE = 64, LINES = 2048 };

static bool
same_bytes(const char *a, const char *b, size_t size, enum core_compare how)
{
    if (how == CORE_COMPARE_WHOLE || size <= (size_t)LINE * LINES)
        return memcmp(a, b, size) == 0;
    size_t step = size / LINES;
    for (size_t i = 0; i < LINES; i++)
        if (memcmp(a + i * step, b + i * step, LINE) != 0)
            return false;
    return memcmp(a + size - LINE, b + size - LINE, LINE) == 0;
}

int
core_shares_know(struct core_shares *s, const struct joblot_array *place, PyObject *owner)
{
    for (size_t i = s->n; i-- > 0;) {
        if (!same_place(&s->shares[i]->place, place))
            continue;
        PyObject *alive = PyObject_CallNoArgs(s->shares[i]->owner);
        Py_XDECREF(alive);
        return alive == NULL ? -1 : alive == owner ? 2 : 1;
    }
    return 0;
}

static bool
is_same(const struct share *share, const void *bytes, uint64_t size, enum core_compare how)
{
    void *data;
    if (share->size != size)
        return false;
    if (share->pristine != NULL)
        return same_bytes((const char *)share->pristine, bytes, (size_t)size, how);
    return joblot_segment_data(share->segment, &data, NULL) == JOBLOT_OK &&
           same_bytes((char *)data + share->offset, bytes, (size_t)size, how);
}

struct core_shares_cost
core_shares_cost(const struct core_shares *s)
{
    return (struct core_shares_cost){.compared = s->compared, .total = joblot_clock() - s->began};
}

/* Below this nobody would notice. */
static const int64_t WARN_FROM_NS = 50000000;

int
core_shares_warn(struct core_state *st, const struct core_shares_cost *cost)
{
    if (cost->compared < WARN_FROM_NS || cost->compared < cost->total / 20)
        return 0;
    PyObject *helper = core_helper(st, "warn_of_comparing");
    PyObject *done =
        helper ? PyObject_CallFunction(helper, "dd", (double)cost->compared / 1e9, (double)cost->total / 1e9) : NULL;
    Py_XDECREF(helper);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* As is_same, noting what it costs where the input of the call is the reason for it. */
static bool
is_same_timed(struct core_shares *s, const struct share *share, const void *bytes, uint64_t size, enum core_compare how)
{
    if (how != CORE_COMPARE_WHOLE || s->compare != CORE_COMPARE_WHOLE || size <= (size_t)LINE * LINES)
        return is_same(share, bytes, size, how);
    int64_t start = joblot_clock();
    bool same = is_same(share, bytes, size, how);
    s->compared += joblot_clock() - start;
    return same;
}

joblot_segment *
core_shares_find(struct core_shares *s, const struct joblot_array *place, enum core_compare how, const void *bytes,
                 uint64_t size, uint64_t *offset)
{
    for (size_t i = s->n; i-- > 0;) {
        struct share *share = s->shares[i];
        if (!same_place(&share->place, place))
            continue;
        if (how == CORE_COMPARE_NOTHING || is_same_timed(s, share, bytes, size, how)) {
            share->fresh = true;
            *offset = share->offset;
            return share->segment;
        }
        if (how == CORE_COMPARE_SAMPLE)
            break; /* a sample is enough for the newest only: of that one the owner is known */
    }
    return NULL;
}

static void
drop_unused(struct core_shares *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct share *share = s->shares[i];
        if (share->users == 0 && !share->fresh)
            free_share(share);
        else
            s->shares[kept++] = share;
    }
    s->n = kept;
}

static struct share *
new_share(const struct core_shares *s, const struct core_origin *origin, joblot_segment *segment, uint64_t offset)
{
    struct share *share = PyMem_Calloc(1, sizeof *share);
    if (share == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    share->place = *origin->place;
    share->segment = joblot_segment_borrow(segment);
    share->offset = offset;
    share->size = origin->size;
    share->fresh = true;
    share->owner = PyWeakref_NewRef(origin->owner, NULL);
    if (share->owner != NULL && origin->written_to && s->compare != CORE_COMPARE_NOTHING) {
        share->pristine = PyMem_RawMalloc((size_t)origin->size);
        if (share->pristine != NULL)
            memcpy(share->pristine, origin->bytes, (size_t)origin->size);
        else
            PyErr_NoMemory();
    }
    if (!PyErr_Occurred())
        return share;
    free_share(share);
    return NULL;
}

int
core_shares_add(struct core_shares *s, const struct core_origin *origin, joblot_segment *segment, uint64_t offset)
{
    drop_unused(s);
    if (s->n == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 8;
        struct share **shares = PyMem_Realloc(s->shares, capacity * sizeof *shares);
        if (shares == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        s->shares = shares;
        s->capacity = capacity;
    }
    struct share *share = new_share(s, origin, segment, offset);
    if (share == NULL)
        return -1;
    s->shares[s->n++] = share;
    return 0;
}

static int
add_use(struct core_shares *s, uint64_t number, struct share *share)
{
    if (s->n_uses == s->uses_capacity && s->first > s->n_uses / 2) {
        memmove(s->uses, s->uses + s->first, (s->n_uses - s->first) * sizeof *s->uses);
        s->n_uses -= s->first;
        s->first = 0;
    }
    if (s->n_uses == s->uses_capacity) {
        size_t capacity = s->uses_capacity ? 2 * s->uses_capacity : 16;
        struct use *uses = PyMem_Realloc(s->uses, capacity * sizeof *uses);
        if (uses == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        s->uses = uses;
        s->uses_capacity = capacity;
    }
    s->uses[s->n_uses++] = (struct use){number, share};
    share->users++;
    return 0;
}

int
core_shares_task(struct core_shares *s, uint64_t number)
{
    for (size_t i = 0; i < s->n; i++) {
        if (!s->shares[i]->fresh)
            continue;
        s->shares[i]->fresh = false;
        if (add_use(s, number, s->shares[i]) < 0)
            return -1;
    }
    return 0;
}

void
core_shares_done(struct core_shares *s, uint64_t number)
{
    bool front = true;
    for (size_t i = s->first; i < s->n_uses; i++) {
        struct use *use = &s->uses[i];
        if (use->share != NULL && use->number == number) {
            use->share->users--;
            use->share = NULL;
        }
        if (front && use->share == NULL)
            s->first = i + 1;
        else
            front = false;
        if (!front && use->share != NULL && use->number > number)
            break; /* uses are in the order of their tasks */
    }
}
