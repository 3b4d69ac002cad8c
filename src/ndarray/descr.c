/* ndarray/descr.c - NumPy's descr text: parser and printer.
 *
 * dtype  = string | '[' [entry {',' entry} [',']] ']' | '(' dtype ',' shape [','] ')'
 * entry  = '(' name ',' dtype [',' shape] [','] ')'
 * name   = string | '(' string ',' string [','] ')'                  title, name
 * shape  = number | '(' [number {',' number} [',']] ')'
 *
 * The text of a string in the place of a dtype is a type: [<>=|] kind [size] ['[' [multiple] unit ']'].
 */
#include "dtype.h"

#include "../base/alloc.h"
#include "../base/checked.h"
#include "../base/endian.h"
#include "../base/error.h"

#include <string.h>

/* What is printed can be longer than what was read ('V' becomes '|V0', one control character four), never by this
 * factor: shorter texts need not be printed to know that they keep to the limit. */
enum { MOST_GROWTH = 16 };

struct parser {
    struct joblot__reader r;
    struct joblot__buffer text; /* the last string */
    int depth;
    size_t entries; /* fields, padding and sub-arrays so far */
    char message[200];
};

static bool failed(const struct parser *p)
{
    return p->r.status != JOBLOT_OK;
}

static void parse_dtype(struct parser *p, struct joblot_dtype *d);

static void enter(struct parser *p)
{
    if (++p->depth > JOBLOT_DESCR_MAX_DEPTH)
        joblot__reader_fail(&p->r, JOBLOT_LIMIT, "nested too deeply");
}

static void count_entry(struct parser *p)
{
    if (++p->entries > JOBLOT_DESCR_MAX_FIELDS)
        joblot__reader_fail(&p->r, JOBLOT_LIMIT, "too many fields");
}

/* A comma, or the closing character `end`, which is taken: true while there is another item. */
static bool next_item(struct parser *p, char end, const char *text)
{
    joblot__literal_space(&p->r);
    int c = joblot__reader_peek(&p->r);
    if (c == ',') {
        p->r.pos++;
        joblot__literal_space(&p->r);
        c = joblot__reader_peek(&p->r);
        if (c != (unsigned char)end)
            return !failed(p);
    }
    joblot__literal_expect(&p->r, end, text);
    return false;
}

/* ---- types ---- */

static bool size_fits(int kind, uint64_t size)
{
    switch (kind) {
    case 'i':
    case 'u':
        return size == 1 || size == 2 || size == 4 || size == 8;
    case 'f':
        return size == 2 || size == 4 || size == 8 || size == 12 || size == 16;
    case 'c':
        return size == 8 || size == 16 || size == 24 || size == 32;
    default: /* m, M */
        return size == 8;
    }
}

/* `[25s]` behind m and M. */
static void parse_unit(struct joblot__reader *r, struct joblot_dtype *d)
{
    char unit[8] = "";
    bool numbered = false;
    d->multiple = 1;
    if (joblot__reader_peek(r) != '[')
        return;
    r->pos++;
    int c = joblot__reader_peek(r);
    if (c >= '0' && c <= '9') {
        int64_t n = joblot__literal_number(r);
        if (n > INT32_MAX)
            joblot__reader_fail(r, JOBLOT_LIMIT, "datetime multiple over 2**31 - 1");
        d->multiple = (uint32_t)n;
        numbered = true;
    }
    size_t start = r->pos, size = 0;
    for (; size < sizeof unit - 1 && (c = joblot__reader_peek(r)) >= 0 && c != ']'; r->pos++)
        unit[size++] = (char)c;
    for (size_t i = numbered ? 1 : 0; i < joblot__unit_count; i++) {
        if (size == strlen(joblot__units[i]) && memcmp(unit, joblot__units[i], size) == 0) {
            d->unit = (unsigned char)i;
            joblot__literal_expect(r, ']', "datetime unit without its ]");
            return;
        }
    }
    r->pos = start;
    joblot__reader_fail(r, JOBLOT_FORMAT, "unknown datetime unit");
}

/* The kinds that have a size of their own: ? b B O, and b1, which is not b but ?. */
static bool parse_sizeless(struct joblot__reader *r, struct joblot_dtype *d, int kind, bool numbered, uint64_t size)
{
    if (kind == 'O') {
        if (numbered && size != 4 && size != 8)
            joblot__reader_fail(r, JOBLOT_FORMAT, "no such size of a Python object");
        d->kind = 'O';
        d->itemsize = sizeof(void *);
        d->has_object = true;
        return true;
    }
    if (kind != '?' && kind != 'b' && kind != 'B')
        return false;
    if (numbered && !(kind == 'b' && size == 1))
        joblot__reader_fail(r, JOBLOT_FORMAT, "this kind has no size");
    d->kind = kind == '?' || numbered ? 'b' : kind == 'b' ? 'i' : 'u';
    d->itemsize = 1;
    return true;
}

static void parse_kind(struct joblot__reader *r, struct joblot_dtype *d)
{
    size_t start = r->pos;
    int kind = joblot__reader_peek(r);
    if (kind < 0 || strchr("?bBiufcmMOSaUV", kind) == NULL || kind == 0) {
        joblot__reader_fail(r, kind < 0 ? JOBLOT_FORMAT : JOBLOT_UNSUPPORTED,
                            kind < 0 ? "a type without a kind" : "no such kind of type (known: ? b B i u f c m M O S a U V)");
        return;
    }
    r->pos++;
    int c = joblot__reader_peek(r);
    bool numbered = c >= '0' && c <= '9';
    uint64_t size = numbered ? (uint64_t)joblot__literal_number(r) : 0;
    if (parse_sizeless(r, d, kind, numbered, size))
        return;
    d->kind = (char)(kind == 'a' ? 'S' : kind);
    d->itemsize = size;
    if (kind == 'U') {
        if (size > INT64_MAX / 4)
            joblot__reader_fail(r, JOBLOT_LIMIT, "the size of the type overflows");
        d->itemsize = size * 4;
    } else if (strchr("iufcmM", kind) != NULL) {
        if (!numbered && (kind == 'm' || kind == 'M'))
            d->itemsize = 8;
        else if (!numbered)
            joblot__reader_fail(r, JOBLOT_FORMAT, "a type without its size");
        if (!size_fits(kind, d->itemsize)) {
            r->pos = start;
            joblot__reader_fail(r, JOBLOT_UNSUPPORTED, "no such size of this kind of type");
        }
        if (kind == 'm' || kind == 'M')
            parse_unit(r, d);
    }
}

/* The text of a type, which stands at `at` in the descr. */
static void parse_type(struct parser *p, const void *text, size_t size, size_t at, struct joblot_dtype *d)
{
    struct joblot__reader r;
    joblot__reader_init(&r, text, size);
    int order = joblot__reader_peek(&r);
    if (order == '<' || order == '>' || order == '=' || order == '|')
        r.pos++;
    parse_kind(&r, d);
    if (joblot__reader_left(&r) > 0)
        joblot__reader_fail(&r, JOBLOT_FORMAT, "something behind the type");
    if (r.status != JOBLOT_OK) {
        p->r.pos = at + r.error_pos;
        joblot__reader_fail(&p->r, r.status == JOBLOT_TRUNCATED ? JOBLOT_FORMAT : r.status, r.error_text);
        return;
    }
    if (d->itemsize == 1 || strchr("bOSV", d->kind) != NULL)
        d->order = '|';
    else if (order == '<' || order == '>')
        d->order = (char)order;
    else
        d->order = JOBLOT__BIG_ENDIAN ? '>' : '<';
    joblot__dtype_note_order(d);
}

/* ---- sub-arrays ---- */

/* An axis; Python 2 wrote 3L where it had computed the number. */
static int64_t parse_length(struct parser *p)
{
    int64_t n = joblot__literal_number(&p->r);
    if (joblot__reader_peek(&p->r) == 'L')
        p->r.pos++;
    return n;
}

static int parse_shape(struct parser *p, int64_t *shape)
{
    int ndim = 0;
    joblot__literal_space(&p->r);
    if (joblot__reader_peek(&p->r) != '(') {
        shape[0] = parse_length(p);
        return 1;
    }
    p->r.pos++;
    joblot__literal_space(&p->r);
    if (joblot__reader_peek(&p->r) == ')') {
        p->r.pos++;
        return 0;
    }
    do {
        if (ndim == JOBLOT_MAX_NDIM) {
            joblot__reader_fail(&p->r, JOBLOT_LIMIT, "a sub-array of too many dimensions");
            break;
        }
        shape[ndim++] = parse_length(p);
    } while (next_item(p, ')', "a shape without its )"));
    return ndim;
}

/* Bytes of a sub-array.  Axes of no length are left out while looking for overflow, as NumPy does. */
static bool subarray_size(uint64_t itemsize, int ndim, const int64_t *shape, uint64_t *size)
{
    int64_t bytes = itemsize == 0 ? 1 : (int64_t)itemsize;
    bool empty = itemsize == 0;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] == 0)
            empty = true;
        else if (!joblot__mul_i64(bytes, shape[i], &bytes))
            return false;
    }
    *size = empty ? 0 : (uint64_t)bytes;
    return true;
}

/* Makes of `d` a sub-array of what it was. */
static void wrap(struct parser *p, struct joblot_dtype *d, int ndim, const int64_t *shape)
{
    uint64_t size;
    if (failed(p) || ndim == 0)
        return;
    count_entry(p);
    if (!subarray_size(d->itemsize, ndim, shape, &size)) {
        joblot__reader_fail(&p->r, JOBLOT_LIMIT, "the size of the sub-array overflows");
        return;
    }
    struct joblot__subarray *sub = joblot__malloc(sizeof *sub + (size_t)ndim * sizeof shape[0]);
    if (sub == NULL) {
        joblot__reader_fail(&p->r, JOBLOT_NOMEM, "out of memory");
        return;
    }
    sub->element = *d;
    sub->ndim = ndim;
    memcpy(sub->shape, shape, (size_t)ndim * sizeof shape[0]);
    memset(d, 0, sizeof *d);
    d->kind = 'V';
    d->order = '|';
    d->form = JOBLOT__SUBARRAY;
    d->itemsize = size;
    d->sub = sub;
    joblot__dtype_note_part(d, &sub->element);
}

/* (dtype, shape) */
static void parse_tuple(struct parser *p, struct joblot_dtype *d)
{
    int64_t shape[JOBLOT_MAX_NDIM];
    enter(p);
    p->r.pos++;
    parse_dtype(p, d);
    joblot__literal_expect(&p->r, ',', "a comma is missing: (dtype, shape)");
    joblot__literal_space(&p->r);
    if (joblot__reader_peek(&p->r) == '{')
        joblot__reader_fail(&p->r, JOBLOT_UNSUPPORTED, "dtype metadata is not supported");
    int ndim = parse_shape(p, shape);
    if (next_item(p, ')', "a tuple without its )"))
        joblot__reader_fail(&p->r, JOBLOT_FORMAT, "a tuple that is not (dtype, shape)");
    wrap(p, d, ndim, shape);
    p->depth--;
}

/* ---- structs ---- */

/* The name, or (title, name), of a field. */
static void parse_name(struct parser *p, struct joblot__field *f)
{
    bool titled;
    p->text.size = 0;
    joblot__literal_space(&p->r);
    titled = joblot__reader_peek(&p->r) == '(';
    if (titled) {
        p->r.pos++;
        joblot__literal_space(&p->r);
        f->at = p->r.pos;
        if (!joblot__literal_at_string(&p->r))
            joblot__reader_fail(&p->r, JOBLOT_UNSUPPORTED, "a title that is not a string");
        joblot__literal_string(&p->r, &p->text);
        f->title_size = p->text.size;
        joblot__literal_expect(&p->r, ',', "a comma is missing: (title, name)");
        joblot__literal_space(&p->r);
    }
    f->at = p->r.pos;
    if (!joblot__literal_at_string(&p->r))
        joblot__reader_fail(&p->r, joblot__reader_peek(&p->r) < 0 ? JOBLOT_TRUNCATED : JOBLOT_FORMAT,
                            "a field without a name");
    joblot__literal_string(&p->r, &p->text);
    f->name_size = p->text.size - f->title_size;
    if (titled && next_item(p, ')', "a (title, name) without its )"))
        joblot__reader_fail(&p->r, JOBLOT_FORMAT, "a name that is not (title, name)");
    if (failed(p))
        return;
    f->name = joblot__calloc(1, p->text.size + 2);
    if (f->name == NULL) {
        joblot__reader_fail(&p->r, JOBLOT_NOMEM, "out of memory");
        return;
    }
    if (f->name_size > 0)
        memcpy(f->name, p->text.data + f->title_size, f->name_size);
    if (titled)
        f->title = f->name + f->name_size + 1;
    if (f->title_size > 0)
        memcpy(f->name + f->name_size + 1, p->text.data, f->title_size);
}

static void append_field(struct parser *p, struct joblot_dtype *d, size_t *capacity, struct joblot__field *f)
{
    uint64_t end = d->itemsize + f->dtype.itemsize; /* both at most INT64_MAX */
    bool padding = f->title == NULL && f->name_size == 0 && f->dtype.kind == 'V' && f->dtype.form != JOBLOT__STRUCT;
    if (end > INT64_MAX) {
        joblot__reader_fail(&p->r, JOBLOT_LIMIT, "the size of the struct overflows");
        return;
    }
    f->offset = d->itemsize;
    d->itemsize = end;
    if (padding)
        return;
    if (d->field_count == *capacity) {
        size_t more = *capacity == 0 ? 4 : 2 * *capacity;
        struct joblot__field *fields = joblot__realloc(d->fields, more * sizeof *fields);
        if (fields == NULL) {
            joblot__reader_fail(&p->r, JOBLOT_NOMEM, "out of memory");
            return;
        }
        d->fields = fields;
        *capacity = more;
    }
    joblot__dtype_note_part(d, &f->dtype);
    d->fields[d->field_count++] = *f;
    memset(f, 0, sizeof *f);
}

static void parse_entry(struct parser *p, struct joblot_dtype *d, size_t *capacity)
{
    struct joblot__field f = {0};
    int64_t shape[JOBLOT_MAX_NDIM];
    count_entry(p);
    joblot__literal_expect(&p->r, '(', "a field is a tuple: (name, dtype) or (name, dtype, shape)");
    parse_name(p, &f);
    joblot__literal_expect(&p->r, ',', "a field without a dtype");
    parse_dtype(p, &f.dtype);
    if (next_item(p, ')', "a field without its )")) {
        int ndim = parse_shape(p, shape);
        if (next_item(p, ')', "a field without its )"))
            joblot__reader_fail(&p->r, JOBLOT_FORMAT, "a field is (name, dtype) or (name, dtype, shape)");
        wrap(p, &f.dtype, ndim, shape);
    }
    if (!failed(p))
        append_field(p, d, capacity, &f);
    joblot__free(f.name);
    joblot__dtype_clear(&f.dtype);
}

/* ---- names must differ ---- */

struct key {
    const char *text;
    size_t size;
    size_t at;
};

static int compare_keys(const struct key *a, const struct key *b)
{
    int order = memcmp(a->text, b->text, a->size < b->size ? a->size : b->size);
    return order != 0 ? order : (a->size > b->size) - (a->size < b->size);
}

static void sift_down(struct key *keys, size_t root, size_t count)
{
    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && compare_keys(&keys[child], &keys[child + 1]) < 0)
            child++;
        if (compare_keys(&keys[root], &keys[child]) >= 0)
            return;
        struct key swap = keys[root];
        keys[root] = keys[child];
        keys[child] = swap;
    }
}

/* Heap sort: n log n whatever the names are, and no memory that is not ours, unlike qsort. */
static void sort_keys(struct key *keys, size_t count)
{
    for (size_t i = count / 2; i-- > 0;)
        sift_down(keys, i, count);
    for (size_t end = count; end > 1;) {
        struct key last = keys[--end];
        keys[end] = keys[0];
        keys[0] = last;
        sift_down(keys, 0, end);
    }
}

static void fail_twice(struct parser *p, const struct key *a, const struct key *b)
{
    struct joblot__sink sink = {.out = p->message, .capacity = 100};
    bool cut = false;
    joblot__sink_text(&sink, "the name or title ");
    joblot__literal_print(&sink, a->text, a->size);
    if (sink.used > sink.capacity) { /* cut, but not inside a character */
        for (sink.used = sink.capacity; (p->message[sink.used - 1] & 0x80) != 0;)
            sink.used--;
        cut = true;
    }
    sink.capacity = sizeof p->message - 1;
    joblot__sink_text(&sink, cut ? "..." : "");
    joblot__sink_text(&sink, " is there twice");
    p->message[sink.used] = 0;
    p->r.pos = a->at > b->at ? a->at : b->at;
    joblot__reader_fail(&p->r, JOBLOT_FORMAT, p->message);
}

/* Names and titles of one struct are one name space, as in NumPy. */
static void check_names(struct parser *p, const struct joblot_dtype *d)
{
    struct key few[32];
    struct key *keys = few;
    size_t count = 0;
    if (failed(p) || d->field_count == 0)
        return;
    if (2 * d->field_count > sizeof few / sizeof few[0])
        keys = joblot__malloc(2 * d->field_count * sizeof *keys);
    if (keys == NULL) {
        joblot__reader_fail(&p->r, JOBLOT_NOMEM, "out of memory");
        return;
    }
    for (size_t i = 0; i < d->field_count; i++) {
        const struct joblot__field *f = &d->fields[i];
        keys[count++] = (struct key){f->name, f->name_size, f->at};
        if (f->title != NULL)
            keys[count++] = (struct key){f->title, f->title_size, f->at};
    }
    sort_keys(keys, count);
    for (size_t i = 1; i < count && !failed(p); i++) {
        if (compare_keys(&keys[i - 1], &keys[i]) == 0)
            fail_twice(p, &keys[i - 1], &keys[i]);
    }
    if (keys != few)
        joblot__free(keys);
}

static void parse_list(struct parser *p, struct joblot_dtype *d)
{
    size_t capacity = 0;
    enter(p);
    d->kind = 'V';
    d->order = '|';
    d->form = JOBLOT__STRUCT;
    p->r.pos++;
    joblot__literal_space(&p->r);
    if (joblot__reader_peek(&p->r) == ']') {
        p->r.pos++;
    } else {
        do
            parse_entry(p, d, &capacity);
        while (next_item(p, ']', "a list without its ]"));
    }
    check_names(p, d);
    p->depth--;
}

/* Into a zeroed node.  After an error it holds what was read so far and can be cleared. */
static void parse_dtype(struct parser *p, struct joblot_dtype *d)
{
    joblot__literal_space(&p->r);
    int c = joblot__reader_peek(&p->r);
    if (c == '[') {
        parse_list(p, d);
    } else if (c == '(') {
        parse_tuple(p, d);
    } else if (joblot__literal_at_string(&p->r)) {
        p->text.size = 0;
        size_t at = p->r.pos + (c == 'u' ? 2 : 1);
        joblot__literal_string(&p->r, &p->text);
        if (!failed(p))
            parse_type(p, p->text.data, p->text.size, at, d);
    } else {
        joblot__reader_fail(&p->r, c < 0 ? JOBLOT_TRUNCATED : JOBLOT_FORMAT,
                            "a dtype is missing: a quoted type, a list of fields, or (dtype, shape)");
    }
}

static void parse_all(struct parser *p, struct joblot_dtype *d)
{
    joblot__literal_space(&p->r);
    int c = joblot__reader_peek(&p->r);
    if (c >= 0 && c != '[' && c != '(' && !joblot__literal_at_string(&p->r)) {
        size_t size = joblot__reader_left(&p->r);
        const unsigned char *bare = joblot__reader_take(&p->r, size);
        size_t at = p->r.pos - size;
        while (strchr(" \t\n\r\f", bare[size - 1]) != NULL && bare[size - 1] != 0)
            size--;
        parse_type(p, bare, size, at, d);
    } else {
        parse_dtype(p, d);
        joblot__literal_space(&p->r);
    }
    if (joblot__reader_left(&p->r) > 0)
        joblot__reader_fail(&p->r, JOBLOT_FORMAT, "something behind the dtype");
    if (failed(p) || p->r.size <= JOBLOT_DESCR_MAX_BYTES / MOST_GROWTH)
        return;
    struct joblot__sink sink = {0};
    joblot__dtype_print(d, &sink);
    if (sink.used > JOBLOT_DESCR_MAX_BYTES)
        joblot__reader_fail(&p->r, JOBLOT_LIMIT, "the descr is over 1 MiB when it is printed in full");
}

joblot_status joblot_dtype_parse(const char *text, size_t size, joblot_dtype **out, joblot_error *err)
{
    struct parser p = {0};
    if (size > JOBLOT_DESCR_MAX_BYTES)
        return joblot__fail(err, JOBLOT_LIMIT, 0, "descr: %zu bytes, at most %u are read", size,
                            JOBLOT_DESCR_MAX_BYTES);
    joblot_dtype *d = joblot__calloc(1, sizeof *d);
    if (d == NULL)
        return joblot__fail_nomem(err, sizeof *d, "a dtype");
    joblot__reader_init(&p.r, text, size);
    parse_all(&p, d);
    joblot__buffer_clear(&p.text);
    if (failed(&p)) {
        joblot_dtype_free(d);
        return joblot__reader_finish(&p.r, "descr", err);
    }
    *out = d;
    return JOBLOT_OK;
}
