/* pickle/decode.c - the pull decoder: one event per opcode. */
#include "decode.h"

#include "text.h"

#include "../base/alloc.h"
#include "../base/endian.h"
#include "../base/error.h"

#include <inttypes.h>

/* How an opcode's argument is written down. */
enum form {
    FORM_BAD,
    FORM_NONE,
    FORM_TRUE,
    FORM_FALSE,
    FORM_U1,
    FORM_U2,
    FORM_I4,
    FORM_F8,
    FORM_INT_LINE,
    FORM_LONG_LINE,
    FORM_FLOAT_LINE,
    FORM_STRING_LINE,
    FORM_UNICODE_LINE,
    FORM_LINE,
    FORM_PAIR,
    FORM_GET_LINE,
    FORM_GET_U1,
    FORM_GET_U4,
    FORM_PUT_LINE,
    FORM_PUT_U1,
    FORM_PUT_U4,
    FORM_BYTES_U1,
    FORM_BYTES_I4,
    FORM_BYTES_U4,
    FORM_BYTES_U8,
    FORM_TEXT_U1,
    FORM_TEXT_U4,
    FORM_TEXT_U8,
    FORM_LONG_U1,
    FORM_LONG_I4,
    FORM_EXT1,
    FORM_EXT2,
    FORM_EXT4,
    FORM_PROTO,
    FORM_FRAME
};

static const unsigned char forms[256] = {
#define FORM(name, byte, form) [byte] = FORM_##form,
    JOBLOT_PICKLE_OPS(FORM)
#undef FORM
};

static const char *const names[256] = {
#define NAME(name, byte, form) [byte] = #name,
    JOBLOT_PICKLE_OPS(NAME)
#undef NAME
};

const char *joblot_pickle_op_name(int op)
{
    return op >= 0 && op < 256 ? names[op] : NULL;
}

void joblot__pickle_limits(struct joblot_pickle_limits *limits, const struct joblot_pickle_limits *given)
{
    static const struct joblot_pickle_limits usual = {
        .max_string = UINT64_C(1) << 40,
        .max_line = UINT64_C(1) << 26,
        .max_digits = 4300,
        .max_memo = UINT64_C(1) << 31,
        .max_depth = 100000,
        .max_nodes = UINT64_C(1) << 27,
        .max_alloc = UINT64_C(1) << 30,
        .max_nested = 16,
    };
    *limits = given != NULL ? *given : usual;
#define USUAL(field) limits->field = limits->field ? limits->field : usual.field
    USUAL(max_string);
    USUAL(max_line);
    USUAL(max_digits);
    USUAL(max_memo);
    USUAL(max_depth);
    USUAL(max_nodes);
    USUAL(max_alloc);
    USUAL(max_nested);
#undef USUAL
}

joblot_status joblot_pickle_reader_new(const struct joblot_pickle_source *source,
                                       const struct joblot_pickle_limits *limits, joblot_pickle_reader **out,
                                       joblot_error *err)
{
    static const unsigned char nothing[1];
    if (source == NULL || out == NULL || (source->data == NULL && source->read == NULL && source->size != 0) ||
        (source->data != NULL && source->size > PTRDIFF_MAX))
        return joblot__fail(err, JOBLOT_INVALID, 0, "pickle: a source needs memory and its size, or a read function");
    joblot_pickle_reader *r = joblot__calloc(1, sizeof *r);
    if (r == NULL)
        return joblot__fail_nomem(err, sizeof *r, "a pickle reader");
    r->source = *source;
    r->frame_end = JOBLOT__NO_FRAME;
    joblot__pickle_limits(&r->limits, limits);
    if (source->data != NULL || source->read == NULL) {
        r->window = source->data != NULL ? source->data : nothing;
        r->end = r->window + source->size;
        r->ended = true;
        r->source.read = NULL;
    } else {
        r->buffer = joblot__malloc(JOBLOT__PICKLE_WINDOW);
        if (r->buffer == NULL) {
            joblot__free(r);
            return joblot__fail_nomem(err, JOBLOT__PICKLE_WINDOW, "the window of a pickle reader");
        }
        r->capacity = JOBLOT__PICKLE_WINDOW;
        r->window = r->end = r->buffer;
    }
    r->at = r->window;
    r->stop = r->end;
    *out = r;
    return JOBLOT_OK;
}

void joblot_pickle_reader_free(joblot_pickle_reader *r)
{
    if (r == NULL)
        return;
    joblot__buffer_clear(&r->text);
    joblot__free(r->buffer);
    joblot__free(r);
}

uint64_t joblot_pickle_offset(const joblot_pickle_reader *r)
{
    return r->base + (uint64_t)(r->at - r->window);
}

uint64_t joblot_pickle_left(const joblot_pickle_reader *r)
{
    if (r->ended)
        return (uint64_t)(r->end - r->at);
    if (r->source.size == JOBLOT_SIZE_UNKNOWN)
        return JOBLOT_SIZE_UNKNOWN;
    uint64_t at = joblot_pickle_offset(r);
    return at < r->source.size ? r->source.size - at : 0;
}

/* ---- errors: the first is kept ---- */

static joblot_status give(const joblot_pickle_reader *r, joblot_error *err)
{
    if (err != NULL)
        *err = r->kept;
    return r->kept.code;
}

static bool fail_at(joblot_pickle_reader *r, joblot_status code, uint64_t offset, const char *text)
{
    if (r->kept.code == JOBLOT_OK)
        (void)joblot__fail(&r->kept, code, 0, "pickle: %s at offset %" PRIu64, text, offset);
    return false;
}

/* At the opcode that is being decoded. */
static bool fail(joblot_pickle_reader *r, joblot_status code, const char *text)
{
    return fail_at(r, code, r->op_offset, text);
}

joblot_status joblot_pickle_fail(joblot_pickle_reader *r, joblot_status code, const char *text, joblot_error *err)
{
    (void)fail(r, code, text);
    return give(r, err);
}

/* ---- the window ---- */

static void set_stop(joblot_pickle_reader *r)
{
    r->stop = r->end;
    if (r->frame_end != JOBLOT__NO_FRAME && r->frame_end - r->base < (uint64_t)(r->end - r->window))
        r->stop = r->window + (r->frame_end - r->base);
}

static void leave_frame(joblot_pickle_reader *r)
{
    r->frame_end = JOBLOT__NO_FRAME;
    r->stop = r->end;
}

static bool source_failed(joblot_pickle_reader *r, joblot_status status, const joblot_error *why)
{
    if (why->code != status || why->message[0] == '\0')
        return fail(r, status, "the source could not be read");
    r->kept = *why;
    return false;
}

/* One call of the source's read(). */
static bool read_more(joblot_pickle_reader *r, unsigned char *out, size_t capacity, size_t *n)
{
    joblot_error why = {.code = JOBLOT_OK, .message = ""};
    *n = 0;
    joblot_status status = r->source.read(r->source.context, out, capacity, n, &why);
    if (status != JOBLOT_OK)
        return source_failed(r, status, &why);
    if (*n > capacity)
        return fail(r, JOBLOT_INVALID, "the source's read function gave more than it was asked for");
    r->ended = *n == 0;
    return true;
}

/* Moves what is left to the front of the buffer and reads until `n` bytes are there, or the source ends. */
static bool refill(joblot_pickle_reader *r, size_t n)
{
    size_t held = (size_t)(r->end - r->at), more;
    if (n > r->capacity) {
        size_t capacity = r->capacity;
        while (capacity < n)
            capacity *= 2;
        unsigned char *buffer = joblot__malloc(capacity);
        if (buffer == NULL)
            return fail(r, JOBLOT_NOMEM, "no memory for a line");
        memcpy(buffer, r->at, held);
        r->base = joblot_pickle_offset(r);
        joblot__free(r->buffer);
        r->buffer = buffer;
        r->capacity = capacity;
    } else {
        r->base = joblot_pickle_offset(r);
        memmove(r->buffer, r->at, held);
    }
    bool good = true;
    while (held < n && !r->ended && good) {
        good = read_more(r, r->buffer + held, r->capacity - held, &more);
        held += good ? more : 0;
    }
    r->window = r->at = r->buffer;
    r->end = r->buffer + held;
    set_stop(r);
    return good;
}

/* May an argument have n more bytes? */
static bool has_room(joblot_pickle_reader *r, uint64_t n)
{
    uint64_t offset = joblot_pickle_offset(r);
    if (r->frame_end != JOBLOT__NO_FRAME && n > r->frame_end - offset)
        return fail(r, JOBLOT_FORMAT, "an opcode that crosses the end of its frame");
    if (n > joblot_pickle_left(r))
        return fail(r, JOBLOT_TRUNCATED, "the data ends inside an opcode");
    return true;
}

static const unsigned char *need_slow(joblot_pickle_reader *r, size_t n)
{
    if (!has_room(r, n) || (!r->ended && !refill(r, n)) || !has_room(r, n))
        return NULL;
    const unsigned char *p = r->at;
    r->at += n;
    return p;
}

/* The next n bytes (at most a window); NULL after an error. */
static inline const unsigned char *need(joblot_pickle_reader *r, size_t n)
{
    if (n > (size_t)(r->stop - r->at))
        return need_slow(r, n);
    const unsigned char *p = r->at;
    r->at += n;
    return p;
}

/* A line without its newline; NULL after an error. */
static const unsigned char *need_line(joblot_pickle_reader *r, size_t *size)
{
    size_t seen = 0;
    for (;;) {
        size_t held = (size_t)(r->stop - r->at);
        const unsigned char *newline = held > seen ? memchr(r->at + seen, '\n', held - seen) : NULL;
        *size = newline != NULL ? (size_t)(newline - r->at) : held;
        if (*size > r->limits.max_line) {
            (void)fail(r, JOBLOT_LIMIT, "a line that is longer than the limit (max_line)");
            return NULL;
        }
        if (newline != NULL) {
            const unsigned char *line = r->at;
            r->at = newline + 1;
            return line;
        }
        seen = held;
        if (r->stop != r->end || r->ended) {
            (void)has_room(r, held + 1);
            return NULL;
        }
        if (!refill(r, held + 1))
            return NULL;
    }
}

/* ---- arguments ---- */

static bool take_string(joblot_pickle_reader *r, uint64_t n, int arg, struct joblot_pickle_event *e)
{
    e->arg = (uint8_t)arg;
    e->size = n;
    if (n <= (uint64_t)(r->stop - r->at) && n <= r->limits.max_string) {
        e->data = r->at;
        r->at += n;
        return true;
    }
    if (n > r->limits.max_string)
        return fail(r, JOBLOT_LIMIT, "a string that is longer than the limit (max_string)");
    if (!has_room(r, n))
        return false;
    if (n <= JOBLOT__PICKLE_WINDOW) {
        e->data = need_slow(r, (size_t)n);
        return e->data != NULL;
    }
    r->pending = n;
    return true;
}

static bool take_long(joblot_pickle_reader *r, uint64_t n, struct joblot_pickle_event *e)
{
    if (!take_string(r, n, JOBLOT_ARG_BIG, e))
        return false;
    if (n > 0 && e->data == NULL)
        return true;
    e->size = joblot__integer_trim(e->data, (size_t)n);
    if (e->size > 8)
        return true;
    uint64_t bits = e->size > 0 && e->data[e->size - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = (size_t)e->size; i > 0; i--)
        bits = bits << 8 | e->data[i - 1];
    memcpy(&e->integer, &bits, sizeof bits);
    e->arg = JOBLOT_ARG_INT;
    e->data = NULL;
    e->size = 0;
    return true;
}

static bool take_length(joblot_pickle_reader *r, const unsigned char *p, uint64_t *n)
{
    uint32_t length = p == NULL ? 0 : joblot__load_le32(p);
    *n = length;
    if (length > INT32_MAX)
        return fail(r, JOBLOT_FORMAT, "a negative length");
    return p != NULL;
}

static bool take_number_line(joblot_pickle_reader *r, bool is_long, struct joblot_pickle_event *e)
{
    size_t n;
    bool big = false;
    const unsigned char *line = need_line(r, &n);
    if (line == NULL)
        return false;
    if (!is_long && n == 2 && line[0] == '0' && (line[1] == '0' || line[1] == '1')) {
        e->arg = JOBLOT_ARG_BOOL;
        e->integer = line[1] == '1';
        return true;
    }
    n -= is_long && n > 0 && line[n - 1] == 'L';
    if (n > r->limits.max_digits && joblot__text_digits(line, n) > r->limits.max_digits)
        return fail(r, JOBLOT_LIMIT, "an integer with more digits than the limit (max_digits)");
    const char *wrong = joblot__text_int(line, n, &e->integer, &big, &r->text);
    if (wrong != NULL)
        return fail(r, JOBLOT_FORMAT, wrong);
    e->arg = JOBLOT_ARG_INT;
    if (big) {
        e->arg = JOBLOT_ARG_BIG;
        e->data = r->text.data;
        e->size = r->text.size;
    }
    return true;
}

static bool take_string_line(joblot_pickle_reader *r, bool unicode, struct joblot_pickle_event *e)
{
    size_t n;
    const unsigned char *line = need_line(r, &n);
    if (line == NULL)
        return false;
    const char *wrong = (unicode ? joblot__text_unicode : joblot__text_string)(line, n, &r->text);
    if (wrong != NULL)
        return fail(r, JOBLOT_FORMAT, wrong);
    e->arg = unicode ? JOBLOT_ARG_TEXT : JOBLOT_ARG_BYTES;
    e->data = r->text.data;
    e->size = r->text.size;
    return true;
}

static bool take_real_line(joblot_pickle_reader *r, struct joblot_pickle_event *e)
{
    size_t n;
    const unsigned char *line = need_line(r, &n);
    if (line == NULL)
        return false;
    const char *wrong = joblot__text_real(line, n, &e->real, &r->text);
    e->arg = JOBLOT_ARG_REAL;
    return wrong == NULL || fail(r, JOBLOT_FORMAT, wrong);
}

/* Two lines.  The first is copied where the second may move the window. */
static bool take_pair(joblot_pickle_reader *r, struct joblot_pickle_event *e)
{
    size_t n, m;
    const unsigned char *module = need_line(r, &n), *name;
    if (module == NULL)
        return false;
    if (r->source.read != NULL) {
        r->text.size = 0;
        joblot__buffer_append(&r->text, module, n);
        module = r->text.data;
        if (r->text.status != JOBLOT_OK)
            return true; /* the caller looks at the buffer */
    }
    name = need_line(r, &m);
    if (name == NULL)
        return false;
    if (n == 0 || m == 0)
        return fail(r, JOBLOT_FORMAT, "a global without module or name");
    e->arg = JOBLOT_ARG_PAIR;
    e->data = module;
    e->size = n;
    e->data2 = name;
    e->size2 = m;
    return true;
}

/* e->integer is an index: is it one that a pickler could have come to? */
static bool check_put(joblot_pickle_reader *r, struct joblot_pickle_event *e)
{
    e->arg = JOBLOT_ARG_MEMO;
    uint64_t index = (uint64_t)e->integer;
    if (index >= r->limits.max_memo)
        return fail(r, JOBLOT_LIMIT, "a memo index beyond the limit (max_memo)");
    return index <= r->op_offset + JOBLOT__MEMO_SLACK ||
           fail(r, JOBLOT_LIMIT, "a memo index larger than the entries that there can be so far");
}

static bool take_memo_line(joblot_pickle_reader *r, bool put, struct joblot_pickle_event *e)
{
    size_t n;
    const unsigned char *line = need_line(r, &n);
    if (line == NULL)
        return false;
    const char *wrong = joblot__text_index(line, n, &e->integer);
    e->arg = JOBLOT_ARG_MEMO;
    if (wrong != NULL)
        return fail(r, JOBLOT_FORMAT, wrong);
    return !put || check_put(r, e);
}

static bool take_frame(joblot_pickle_reader *r, struct joblot_pickle_event *e)
{
    if (r->frame_end != JOBLOT__NO_FRAME)
        return fail(r, JOBLOT_FORMAT, "a frame that begins before the end of the one around it");
    const unsigned char *p = need(r, 8);
    if (p == NULL)
        return false;
    uint64_t size = joblot__load_le64(p);
    if (size > joblot_pickle_left(r) || size > UINT64_MAX / 4)
        return fail(r, JOBLOT_TRUNCATED, "a frame that is longer than what is left of the data");
    e->arg = JOBLOT_ARG_SIZE;
    e->integer = (int64_t)size;
    r->frame_end = joblot_pickle_offset(r) + size;
    set_stop(r);
    return true;
}

static bool take_ext(joblot_pickle_reader *r, size_t bytes, struct joblot_pickle_event *e)
{
    const unsigned char *p = need(r, bytes);
    if (p == NULL)
        return false;
    e->arg = JOBLOT_ARG_INT;
    e->integer = bytes == 1 ? p[0] : (bytes == 2 ? joblot__load_le16(p) : (int64_t)(int32_t)joblot__load_le32(p));
    return e->integer > 0 || fail(r, JOBLOT_FORMAT, "an extension code that is not positive");
}

/* Opcodes that are rare: lines of protocol 0, long strings and numbers, protocol and frame. */
static bool take_rare(joblot_pickle_reader *r, unsigned form, struct joblot_pickle_event *e)
{
    const unsigned char *p;
    uint64_t n;
    size_t size;
    switch (form) {
    case FORM_INT_LINE:
    case FORM_LONG_LINE:
        return take_number_line(r, form == FORM_LONG_LINE, e);
    case FORM_FLOAT_LINE:
        return take_real_line(r, e);
    case FORM_STRING_LINE:
    case FORM_UNICODE_LINE:
        return take_string_line(r, form == FORM_UNICODE_LINE, e);
    case FORM_LINE:
        e->arg = JOBLOT_ARG_BYTES;
        e->data = need_line(r, &size);
        e->size = e->data == NULL ? 0 : size;
        return e->data != NULL;
    case FORM_PAIR:
        return take_pair(r, e);
    case FORM_GET_LINE:
    case FORM_PUT_LINE:
        return take_memo_line(r, form == FORM_PUT_LINE, e);
    case FORM_BYTES_I4:
        return take_length(r, need(r, 4), &n) && take_string(r, n, JOBLOT_ARG_BYTES, e);
    case FORM_LONG_U1:
        p = need(r, 1);
        return p != NULL && take_long(r, p[0], e);
    case FORM_LONG_I4:
        return take_length(r, need(r, 4), &n) && take_long(r, n, e);
    case FORM_BYTES_U8:
    case FORM_TEXT_U8:
        p = need(r, 8);
        return p != NULL &&
               take_string(r, joblot__load_le64(p), form == FORM_BYTES_U8 ? JOBLOT_ARG_BYTES : JOBLOT_ARG_TEXT, e);
    case FORM_EXT1:
    case FORM_EXT2:
    case FORM_EXT4:
        return take_ext(r, form == FORM_EXT1 ? 1 : (form == FORM_EXT2 ? 2 : 4), e);
    case FORM_PROTO:
        p = need(r, 1);
        e->arg = JOBLOT_ARG_SIZE;
        e->integer = p == NULL ? 0 : p[0];
        if (e->integer > 5)
            return fail(r, JOBLOT_UNSUPPORTED, "a protocol that is newer than 5: write the file with protocol=5");
        return p != NULL;
    case FORM_FRAME:
        return take_frame(r, e);
    default:
        return fail(r, JOBLOT_FORMAT, "a byte that is no opcode (the data is damaged, or no pickle)");
    }
}

static double load_be_double(const unsigned char *p)
{
    uint64_t bits = joblot__load_le64(p);
    double value;
    bits = __builtin_bswap64(bits);
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool take_argument(joblot_pickle_reader *r, unsigned form, struct joblot_pickle_event *e)
{
    const unsigned char *p;
    switch (form) {
    case FORM_NONE:
        return true;
    case FORM_TRUE:
    case FORM_FALSE:
        e->arg = JOBLOT_ARG_BOOL;
        e->integer = form == FORM_TRUE;
        return true;
    case FORM_U1:
    case FORM_GET_U1:
    case FORM_PUT_U1:
        if ((p = need(r, 1)) == NULL)
            return false;
        e->integer = p[0];
        e->arg = form == FORM_U1 ? JOBLOT_ARG_INT : JOBLOT_ARG_MEMO;
        return true; /* 255 is never too far */
    case FORM_U2:
        if ((p = need(r, 2)) == NULL)
            return false;
        e->integer = joblot__load_le16(p);
        e->arg = JOBLOT_ARG_INT;
        return true;
    case FORM_I4:
        if ((p = need(r, 4)) == NULL)
            return false;
        e->integer = (int32_t)joblot__load_le32(p);
        e->arg = JOBLOT_ARG_INT;
        return true;
    case FORM_GET_U4:
    case FORM_PUT_U4:
        if ((p = need(r, 4)) == NULL)
            return false;
        e->integer = joblot__load_le32(p);
        e->arg = JOBLOT_ARG_MEMO;
        return form == FORM_GET_U4 || check_put(r, e);
    case FORM_F8:
        if ((p = need(r, 8)) == NULL)
            return false;
        e->real = load_be_double(p);
        e->arg = JOBLOT_ARG_REAL;
        return true;
    case FORM_TEXT_U1:
    case FORM_BYTES_U1:
        p = need(r, 1);
        return p != NULL && take_string(r, p[0], form == FORM_TEXT_U1 ? JOBLOT_ARG_TEXT : JOBLOT_ARG_BYTES, e);
    case FORM_TEXT_U4:
    case FORM_BYTES_U4:
        p = need(r, 4);
        return p != NULL && take_string(r, joblot__load_le32(p),
                                        form == FORM_TEXT_U4 ? JOBLOT_ARG_TEXT : JOBLOT_ARG_BYTES, e);
    default:
        return take_rare(r, form, e);
    }
}

/* ---- the calls ---- */

/* Before an opcode at the end of the window or of a frame, or with bytes of a string left. */
static bool turn(joblot_pickle_reader *r)
{
    if (r->kept.code != JOBLOT_OK)
        return false;
    if (r->pending > 0) {
        if (joblot_pickle_take(r, NULL, r->pending, NULL) != JOBLOT_OK)
            return false;
    }
    r->op_offset = joblot_pickle_offset(r);
    if (r->op_offset == r->frame_end)
        leave_frame(r);
    if (r->at == r->end && !r->ended && !refill(r, 1))
        return false;
    if (r->at == r->end)
        return fail(r, JOBLOT_TRUNCATED, "the data ends before STOP");
    return true;
}

joblot_status joblot_pickle_next(joblot_pickle_reader *r, struct joblot_pickle_event *e, joblot_error *err)
{
    if (r->stopped)
        return joblot__fail(err, JOBLOT_INVALID, 0, "pickle: read on after STOP without joblot_pickle_resume");
    if ((r->at == r->stop || r->pending > 0 || r->kept.code != JOBLOT_OK) && !turn(r))
        return give(r, err);
    r->op_offset = joblot_pickle_offset(r);
    e->op = *r->at++;
    e->arg = JOBLOT_ARG_NONE;
    e->offset = r->op_offset;
    e->integer = 0;
    e->data = e->data2 = NULL;
    e->size = e->size2 = 0;
    if (!take_argument(r, forms[e->op], e))
        return give(r, err);
    if (r->text.status != JOBLOT_OK) {
        (void)fail(r, r->text.status, "no memory for a line");
        return give(r, err);
    }
    if (e->op == JOBLOT_OP_STOP) {
        if (r->frame_end != JOBLOT__NO_FRAME && joblot_pickle_offset(r) != r->frame_end) {
            (void)fail(r, JOBLOT_FORMAT, "a STOP before the end of its frame");
            return give(r, err);
        }
        leave_frame(r);
        r->stopped = true;
    }
    return JOBLOT_OK;
}

void joblot_pickle_resume(joblot_pickle_reader *r)
{
    r->stopped = false;
}

/* Are `size` bytes there to be taken? */
static bool may_take(joblot_pickle_reader *r, uint64_t size)
{
    if (r->kept.code != JOBLOT_OK)
        return false;
    if (r->pending == 0 && r->frame_end != JOBLOT__NO_FRAME) {
        if (joblot_pickle_offset(r) != r->frame_end)
            return fail(r, JOBLOT_FORMAT, "raw bytes inside a frame");
        leave_frame(r);
    }
    if (size > joblot_pickle_left(r))
        return fail_at(r, JOBLOT_TRUNCATED, joblot_pickle_offset(r), "the data ends inside a string or an array");
    return true;
}

/* Bytes beyond the window, straight from the source. */
static bool take_beyond(joblot_pickle_reader *r, unsigned char *out, uint64_t size)
{
    r->base = joblot_pickle_offset(r);
    r->window = r->at = r->end = r->buffer;
    if (out == NULL && r->source.skip != NULL && size > 0) {
        joblot_error why = {.code = JOBLOT_OK, .message = ""};
        joblot_status status = r->source.skip(r->source.context, size, &why);
        if (status != JOBLOT_OK)
            return source_failed(r, status, &why);
        r->base += size;
        size = 0;
    }
    while (size > 0 && r->kept.code == JOBLOT_OK) {
        size_t n, room = out != NULL ? (size < SIZE_MAX / 2 ? (size_t)size : SIZE_MAX / 2) : r->capacity;
        room = size < room ? (size_t)size : room;
        if (read_more(r, out != NULL ? out : r->buffer, room, &n) && n == 0)
            (void)fail_at(r, JOBLOT_TRUNCATED, r->base, "the data ends inside a string or an array");
        r->base += n;
        size -= n;
        out = out != NULL ? out + n : NULL;
    }
    set_stop(r);
    return r->kept.code == JOBLOT_OK;
}

joblot_status joblot_pickle_take(joblot_pickle_reader *r, void *out, uint64_t size, joblot_error *err)
{
    if (r->pending > 0 && size > r->pending)
        return joblot__fail(err, JOBLOT_INVALID, 0, "pickle: %" PRIu64 " bytes asked for of a string with %" PRIu64, size,
                            r->pending);
    if (!may_take(r, size))
        return give(r, err);
    uint64_t here = (uint64_t)(r->end - r->at);
    here = size < here ? size : here;
    if (out != NULL && here > 0)
        memcpy(out, r->at, (size_t)here);
    r->at += here;
    if (r->pending > 0)
        r->pending -= size;
    if (size > here && !take_beyond(r, out != NULL ? (unsigned char *)out + here : NULL, size - here))
        return give(r, err);
    return JOBLOT_OK;
}

joblot_status joblot_pickle_view(joblot_pickle_reader *r, uint64_t size, const unsigned char **out, joblot_error *err)
{
    if (r->pending > 0 && size > r->pending)
        return joblot__fail(err, JOBLOT_INVALID, 0, "pickle: %" PRIu64 " bytes asked for of a string with %" PRIu64, size,
                            r->pending);
    if (!may_take(r, size))
        return give(r, err);
    if (size > (uint64_t)(r->end - r->at)) {
        if (size > JOBLOT__PICKLE_WINDOW)
            return joblot__fail(err, JOBLOT_LIMIT, 0, "pickle: %" PRIu64 " bytes are more than a source has at once", size);
        if (!refill(r, (size_t)size))
            return give(r, err);
        if (size > (uint64_t)(r->end - r->at)) {
            (void)fail_at(r, JOBLOT_TRUNCATED, joblot_pickle_offset(r), "the data ends inside a string or an array");
            return give(r, err);
        }
    }
    *out = r->at;
    r->at += size;
    if (r->pending > 0)
        r->pending -= size;
    return JOBLOT_OK;
}
