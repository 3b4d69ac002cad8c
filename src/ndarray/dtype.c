/* ndarray/dtype.c - the dtype tree: looking at it, comparing, a swapped copy. */
#include "dtype.h"

#include "../base/alloc.h"
#include "../base/error.h"

#include <string.h>

const char *const joblot__units[] = {"generic", "Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"};
const size_t joblot__unit_count = sizeof joblot__units / sizeof joblot__units[0];

/* The tree is at most twice JOBLOT_DESCR_MAX_DEPTH deep, which bounds every recursion over it. */
void joblot__dtype_clear(struct joblot_dtype *d)
{
    for (size_t i = 0; i < d->field_count; i++) {
        joblot__free(d->fields[i].name);
        joblot__dtype_clear(&d->fields[i].dtype);
    }
    joblot__free(d->fields);
    if (d->sub != NULL)
        joblot__dtype_clear(&d->sub->element);
    joblot__free(d->sub);
    memset(d, 0, sizeof *d);
}

void joblot_dtype_free(joblot_dtype *dtype)
{
    if (dtype == NULL)
        return;
    joblot__dtype_clear(dtype);
    joblot__free(dtype);
}

void joblot__dtype_note_part(struct joblot_dtype *d, const struct joblot_dtype *part)
{
    d->orders |= part->orders;
    d->has_object |= part->has_object;
}

void joblot__dtype_note_order(struct joblot_dtype *d)
{
    d->orders = 0;
    if (d->itemsize > 0 && d->order != '|')
        d->orders = d->order == '<' ? JOBLOT__HAS_LITTLE : JOBLOT__HAS_BIG;
}

bool joblot__only_order_valid(char only_order)
{
    return only_order == 0 || only_order == '<' || only_order == '>';
}

static bool same_text(const char *a, size_t a_size, const char *b, size_t b_size)
{
    if (a == NULL || b == NULL)
        return a == b;
    return a_size == b_size && memcmp(a, b, a_size) == 0;
}

static int fields_equal(const struct joblot__field *a, const struct joblot__field *b)
{
    return a->offset == b->offset && same_text(a->name, a->name_size, b->name, b->name_size) &&
           same_text(a->title, a->title_size, b->title, b->title_size) && joblot_dtype_equal(&a->dtype, &b->dtype);
}

int joblot_dtype_equal(const joblot_dtype *a, const joblot_dtype *b)
{
    if (a == b)
        return 1;
    if (a == NULL || b == NULL)
        return 0;
    if (a->form != b->form || a->kind != b->kind || a->order != b->order || a->itemsize != b->itemsize ||
        a->unit != b->unit || a->multiple != b->multiple || a->field_count != b->field_count)
        return 0;
    for (size_t i = 0; i < a->field_count; i++) {
        if (!fields_equal(&a->fields[i], &b->fields[i]))
            return 0;
    }
    if (a->form != JOBLOT__SUBARRAY)
        return 1;
    return a->sub->ndim == b->sub->ndim &&
           memcmp(a->sub->shape, b->sub->shape, (size_t)a->sub->ndim * sizeof a->sub->shape[0]) == 0 &&
           joblot_dtype_equal(&a->sub->element, &b->sub->element);
}

uint64_t joblot_dtype_itemsize(const joblot_dtype *dtype)
{
    return dtype->itemsize;
}

char joblot_dtype_kind(const joblot_dtype *dtype)
{
    return dtype->kind;
}

char joblot_dtype_byteorder(const joblot_dtype *dtype)
{
    return dtype->order;
}

int joblot_dtype_has_object(const joblot_dtype *dtype)
{
    return dtype->has_object;
}

size_t joblot_dtype_field_count(const joblot_dtype *dtype)
{
    return dtype->field_count;
}

joblot_status joblot_dtype_field(const joblot_dtype *dtype, size_t i, const char **name, const joblot_dtype **field,
                                 uint64_t *offset, joblot_error *err)
{
    if (i >= dtype->field_count)
        return joblot__fail(err, JOBLOT_INVALID, 0, "dtype: field %zu asked for, the dtype has %zu", i,
                            dtype->field_count);
    const struct joblot__field *f = &dtype->fields[i];
    if (name != NULL)
        *name = f->name;
    if (field != NULL)
        *field = &f->dtype;
    if (offset != NULL)
        *offset = f->offset;
    return JOBLOT_OK;
}

int joblot_dtype_subarray(const joblot_dtype *dtype, const joblot_dtype **element, int64_t *shape)
{
    if (dtype->form != JOBLOT__SUBARRAY)
        return 0;
    if (element != NULL)
        *element = &dtype->sub->element;
    if (shape != NULL)
        memcpy(shape, dtype->sub->shape, (size_t)dtype->sub->ndim * sizeof *shape);
    return dtype->sub->ndim;
}

static bool clone_swapped(struct joblot_dtype *to, const struct joblot_dtype *from, char only_order);

static bool clone_field(struct joblot__field *to, const struct joblot__field *from, char only_order)
{
    size_t size = from->name_size + 1 + (from->title == NULL ? 0 : from->title_size + 1);
    *to = *from;
    memset(&to->dtype, 0, sizeof to->dtype);
    to->name = joblot__malloc(size);
    if (to->name == NULL)
        return false;
    memcpy(to->name, from->name, size);
    to->title = from->title == NULL ? NULL : to->name + from->name_size + 1;
    return clone_swapped(&to->dtype, &from->dtype, only_order);
}

/* false when memory ran out; `to` can then be cleared. */
static bool clone_swapped(struct joblot_dtype *to, const struct joblot_dtype *from, char only_order)
{
    *to = *from;
    to->fields = NULL;
    to->field_count = 0;
    to->sub = NULL;
    to->orders = 0;
    if (from->form == JOBLOT__PLAIN) {
        if (from->order != '|' && (only_order == 0 || only_order == from->order))
            to->order = from->order == '<' ? '>' : '<';
        joblot__dtype_note_order(to);
        return true;
    }
    if (from->form == JOBLOT__SUBARRAY) {
        size_t shape_size = (size_t)from->sub->ndim * sizeof from->sub->shape[0];
        to->sub = joblot__calloc(1, sizeof *to->sub + shape_size);
        if (to->sub == NULL)
            return false;
        to->sub->ndim = from->sub->ndim;
        memcpy(to->sub->shape, from->sub->shape, shape_size);
        bool done = clone_swapped(&to->sub->element, &from->sub->element, only_order);
        joblot__dtype_note_part(to, &to->sub->element);
        return done;
    }
    to->fields = joblot__calloc(from->field_count, sizeof *to->fields);
    if (to->fields == NULL)
        return false;
    for (size_t i = 0; i < from->field_count; i++) {
        to->field_count++;
        if (!clone_field(&to->fields[i], &from->fields[i], only_order))
            return false;
        joblot__dtype_note_part(to, &to->fields[i].dtype);
    }
    return true;
}

joblot_status joblot_dtype_swapped(const joblot_dtype *dtype, char only_order, joblot_dtype **out, joblot_error *err)
{
    if (!joblot__only_order_valid(only_order))
        return joblot__fail(err, JOBLOT_INVALID, 0, "dtype: only_order is 0, '<' or '>', not %d", only_order);
    joblot_dtype *copy = joblot__calloc(1, sizeof *copy);
    if (copy == NULL || !clone_swapped(copy, dtype, only_order)) {
        joblot_dtype_free(copy);
        return joblot__fail_nomem(err, sizeof *copy, "a copy of a dtype");
    }
    *out = copy;
    return JOBLOT_OK;
}
