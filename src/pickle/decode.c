/* pickle/decode.c - the pull decoder: one event per opcode. */
#include "decode.h"

#include "text.h"

#include "../base/endian.h"
#include "../base/error.h"

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
        return joblot__decode_fail(r, JOBLOT_LIMIT, "a string that is longer than the limit (max_string)");
    if (!joblot__window_has(r, n))
        return false;
    if (n <= JOBLOT__PICKLE_WINDOW) {
        e->data = joblot__window_need(r, (size_t)n);
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
        return joblot__decode_fail(r, JOBLOT_FORMAT, "a negative length");
    return p != NULL;
}

static bool take_number_line(joblot_pickle_reader *r, bool is_long, struct joblot_pickle_event *e)
{
    size_t n;
    bool big = false;
    const unsigned char *line = joblot__window_line(r, &n);
    if (line == NULL)
        return false;
    if (!is_long && n == 2 && line[0] == '0' && (line[1] == '0' || line[1] == '1')) {
        e->arg = JOBLOT_ARG_BOOL;
        e->integer = line[1] == '1';
        return true;
    }
    n -= is_long && n > 0 && line[n - 1] == 'L';
    if (n > r->limits.max_digits && joblot__text_digits(line, n) > r->limits.max_digits)
        return joblot__decode_fail(r, JOBLOT_LIMIT, "an integer with more digits than the limit (max_digits)");
    const char *wrong = joblot__text_int(line, n, &e->integer, &big, &r->text);
    if (wrong != NULL)
        return joblot__decode_fail(r, JOBLOT_FORMAT, wrong);
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
    const unsigned char *line = joblot__window_line(r, &n);
    if (line == NULL)
        return false;
    const char *wrong = (unicode ? joblot__text_unicode : joblot__text_string)(line, n, &r->text);
    if (wrong != NULL)
        return joblot__decode_fail(r, JOBLOT_FORMAT, wrong);
    e->arg = unicode ? JOBLOT_ARG_TEXT : JOBLOT_ARG_BYTES;
    e->data = r->text.data;
    e->size = r->text.size;
    return true;
}

static bool take_real_line(joblot_pickle_reader *r, struct joblot_pickle_event *e)
{
    size_t n;
    const unsigned char *line = joblot__window_line(r, &n);
    if (line == NULL)
        return false;
    const char *wrong = joblot__text_real(line, n, &e->real, &r->text);
    e->arg = JOBLOT_ARG_REAL;
    return wrong == NULL || joblot__decode_fail(r, JOBLOT_FORMAT, wrong);
}

/* Two lines.  The first is copied where the second may move the window. */
static bool take_pair(joblot_pickle_reader *r, struct joblot_pickle_event *e)
{
    size_t n, m;
    const unsigned char *module = joblot__window_line(r, &n), *name;
    if (module == NULL)
        return false;
    if (r->source.read != NULL) {
        r->text.size = 0;
        joblot__buffer_append(&r->text, module, n);
        module = r->text.data;
        if (r->text.status != JOBLOT_OK)
            return true; /* the caller looks at the buffer */
    }
    name = joblot__window_line(r, &m);
    if (name == NULL)
        return false;
    if (n == 0 || m == 0)
        return joblot__decode_fail(r, JOBLOT_FORMAT, "a global without module or name");
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
        return joblot__decode_fail(r, JOBLOT_LIMIT, "a memo index beyond the limit (max_memo)");
    return index <= r->op_offset + JOBLOT__MEMO_SLACK ||
           joblot__decode_fail(r, JOBLOT_LIMIT, "a memo index larger than the entries that there can be so far");
}

static bool take_memo_line(joblot_pickle_reader *r, bool put, struct joblot_pickle_event *e)
{
    size_t n;
    const unsigned char *line = joblot__window_line(r, &n);
    if (line == NULL)
        return false;
    const char *wrong = joblot__text_index(line, n, &e->integer);
    e->arg = JOBLOT_ARG_MEMO;
    if (wrong != NULL)
        return joblot__decode_fail(r, JOBLOT_FORMAT, wrong);
    return !put || check_put(r, e);
}

static bool take_frame(joblot_pickle_reader *r, struct joblot_pickle_event *e)
{
    if (r->frame_end != JOBLOT__NO_FRAME)
        return joblot__decode_fail(r, JOBLOT_FORMAT, "a frame that begins before the end of the one around it");
    const unsigned char *p = need(r, 8);
    if (p == NULL)
        return false;
    uint64_t size = joblot__load_le64(p);
    if (size > joblot_pickle_left(r) || size > UINT64_MAX / 4)
        return joblot__decode_fail(r, JOBLOT_TRUNCATED, "a frame that is longer than what is left of the data");
    e->arg = JOBLOT_ARG_SIZE;
    e->integer = (int64_t)size;
    r->frame_end = joblot_pickle_offset(r) + size;
    joblot__window_set_stop(r);
    return true;
}

static bool take_ext(joblot_pickle_reader *r, size_t bytes, struct joblot_pickle_event *e)
{
    const unsigned char *p = need(r, bytes);
    if (p == NULL)
        return false;
    e->arg = JOBLOT_ARG_INT;
    e->integer = bytes == 1 ? p[0] : (bytes == 2 ? joblot__load_le16(p) : (int64_t)(int32_t)joblot__load_le32(p));
    return e->integer > 0 || joblot__decode_fail(r, JOBLOT_FORMAT, "an extension code that is not positive");
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
        e->data = joblot__window_line(r, &size);
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
            return joblot__decode_fail(r, JOBLOT_UNSUPPORTED,
                                       "a protocol that is newer than 5: write the file with protocol=5");
        return p != NULL;
    case FORM_FRAME:
        return take_frame(r, e);
    default:
        return joblot__decode_fail(r, JOBLOT_FORMAT, "a byte that is no opcode (the data is damaged, or no pickle)");
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
        joblot__window_leave_frame(r);
    if (r->at == r->end && !r->ended && !joblot__window_refill(r, 1))
        return false;
    if (r->at == r->end)
        return joblot__decode_fail(r, JOBLOT_TRUNCATED, "the data ends before STOP");
    return true;
}

joblot_status joblot_pickle_next(joblot_pickle_reader *r, struct joblot_pickle_event *e, joblot_error *err)
{
    if (r->stopped)
        return joblot__fail(err, JOBLOT_INVALID, 0, "pickle: read on after STOP without joblot_pickle_resume");
    if ((r->at == r->stop || r->pending > 0 || r->kept.code != JOBLOT_OK) && !turn(r))
        return joblot__decode_give(r, err);
    r->op_offset = joblot_pickle_offset(r);
    e->op = *r->at++;
    e->arg = JOBLOT_ARG_NONE;
    e->offset = r->op_offset;
    e->integer = 0;
    e->data = e->data2 = NULL;
    e->size = e->size2 = 0;
    if (!take_argument(r, forms[e->op], e))
        return joblot__decode_give(r, err);
    if (r->text.status != JOBLOT_OK) {
        (void)joblot__decode_fail(r, r->text.status, "no memory for a line");
        return joblot__decode_give(r, err);
    }
    if (e->op == JOBLOT_OP_STOP) {
        if (r->frame_end != JOBLOT__NO_FRAME && joblot_pickle_offset(r) != r->frame_end) {
            (void)joblot__decode_fail(r, JOBLOT_FORMAT, "a STOP before the end of its frame");
            return joblot__decode_give(r, err);
        }
        joblot__window_leave_frame(r);
        r->stopped = true;
    }
    return JOBLOT_OK;
}

void joblot_pickle_resume(joblot_pickle_reader *r)
{
    r->stopped = false;
}
