/* ndarray/print.c - printing a dtype as NumPy prints its descr. */
#include "dtype.h"

#include "../base/error.h"

#include <string.h>

static void print_plain(const struct joblot_dtype *d, struct joblot__sink *sink)
{
    joblot__sink_char(sink, '\'');
    joblot__sink_char(sink, d->order);
    joblot__sink_char(sink, d->kind);
    if (d->kind != 'O')
        joblot__sink_number(sink, d->kind == 'U' ? d->itemsize / 4 : d->itemsize);
    if (d->unit != 0) {
        joblot__sink_char(sink, '[');
        if (d->multiple != 1)
            joblot__sink_number(sink, d->multiple);
        joblot__sink_text(sink, joblot__units[d->unit]);
        joblot__sink_char(sink, ']');
    }
    joblot__sink_char(sink, '\'');
}

static void print_shape(const struct joblot__subarray *sub, struct joblot__sink *sink)
{
    joblot__sink_char(sink, '(');
    for (int i = 0; i < sub->ndim; i++) {
        if (i > 0)
            joblot__sink_text(sink, ", ");
        joblot__sink_number(sink, (uint64_t)sub->shape[i]);
    }
    joblot__sink_text(sink, sub->ndim == 1 ? ",)" : ")");
}

static void print_field(const struct joblot__field *f, struct joblot__sink *sink)
{
    joblot__sink_char(sink, '(');
    if (f->title != NULL) {
        joblot__sink_char(sink, '(');
        joblot__literal_print(sink, f->title, f->title_size);
        joblot__sink_text(sink, ", ");
    }
    joblot__literal_print(sink, f->name, f->name_size);
    joblot__sink_text(sink, f->title != NULL ? "), " : ", ");
    if (f->dtype.form == JOBLOT__SUBARRAY) {
        joblot__dtype_print(&f->dtype.sub->element, sink);
        joblot__sink_text(sink, ", ");
        print_shape(f->dtype.sub, sink);
    } else {
        joblot__dtype_print(&f->dtype, sink);
    }
    joblot__sink_char(sink, ')');
}

/* Padding is what lies between the fields. */
static void print_gap(struct joblot__sink *sink, uint64_t from, uint64_t to, bool *first)
{
    if (from == to)
        return;
    joblot__sink_text(sink, *first ? "('', '|V" : ", ('', '|V");
    joblot__sink_number(sink, to - from);
    joblot__sink_text(sink, "')");
    *first = false;
}

static void print_struct(const struct joblot_dtype *d, struct joblot__sink *sink)
{
    uint64_t end = 0;
    bool first = true;
    joblot__sink_char(sink, '[');
    for (size_t i = 0; i < d->field_count; i++) {
        const struct joblot__field *f = &d->fields[i];
        print_gap(sink, end, f->offset, &first);
        if (!first)
            joblot__sink_text(sink, ", ");
        print_field(f, sink);
        end = f->offset + f->dtype.itemsize;
        first = false;
    }
    print_gap(sink, end, d->itemsize, &first);
    joblot__sink_char(sink, ']');
}

void joblot__dtype_print(const struct joblot_dtype *d, struct joblot__sink *sink)
{
    if (d->form == JOBLOT__PLAIN) {
        print_plain(d, sink);
    } else if (d->form == JOBLOT__STRUCT) {
        print_struct(d, sink);
    } else {
        joblot__sink_char(sink, '(');
        joblot__dtype_print(&d->sub->element, sink);
        joblot__sink_text(sink, ", ");
        print_shape(d->sub, sink);
        joblot__sink_char(sink, ')');
    }
}

joblot_status joblot_dtype_format(const joblot_dtype *dtype, char *out, size_t capacity, size_t *needed,
                                  joblot_error *err)
{
    struct joblot__sink sink = {.out = out, .capacity = capacity};
    joblot__dtype_print(dtype, &sink);
    if (needed != NULL)
        *needed = sink.used + 1;
    if (capacity > 0)
        out[sink.used < capacity ? sink.used : capacity - 1] = 0;
    if (sink.used >= capacity)
        return joblot__fail(err, JOBLOT_LIMIT, 0, "dtype: printed it takes %zu bytes, there is room for %zu",
                            sink.used + 1, capacity);
    return JOBLOT_OK;
}
