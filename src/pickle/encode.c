/* pickle/encode.c - the pickle writer: opcodes, frames and plain values. */
#include "encode.h"

#include "text.h"

#include "../base/alloc.h"
#include "../base/endian.h"
#include "../base/error.h"

/* A frame may end when it has so many bytes, and strings of so many lie outside of frames. */
enum { FRAME_TARGET = 64 * 1024, FRAME_HEADER = 9, FRAME_LEAST = 4 };

joblot_status joblot_pickle_writer_new(const struct joblot_pickle_sink *sink, int protocol, joblot_pickle_writer **out,
                                       joblot_error *err)
{
    if (sink == NULL || sink->write == NULL || out == NULL)
        return joblot__fail(err, JOBLOT_INVALID, 0, "pickle: a writer needs a sink");
    if (protocol < 2 || protocol > 5)
        return joblot__fail(err, JOBLOT_UNSUPPORTED, 0, "pickle: protocol %d is not written: take 2, 3, 4 or 5",
                            protocol);
    joblot_pickle_writer *w = joblot__calloc(1, sizeof *w);
    if (w == NULL)
        return joblot__fail_nomem(err, sizeof *w, "a pickle writer");
    w->sink = *sink;
    w->protocol = protocol;
    *out = w;
    return JOBLOT_OK;
}

void joblot_pickle_writer_free(joblot_pickle_writer *w)
{
    if (w == NULL)
        return;
    joblot__buffer_clear(&w->bytes);
    joblot__free(w->open);
    joblot__free(w);
}

void joblot__write_failed(joblot_pickle_writer *w, joblot_status code, const char *text)
{
    if (w->kept.code == JOBLOT_OK)
        (void)joblot__fail(&w->kept, code, 0, "pickle: %s", text);
}

/* ---- bytes, frames, the sink ---- */

static void hand_on(joblot_pickle_writer *w, const void *data, size_t size)
{
    if (w->kept.code != JOBLOT_OK || size == 0)
        return;
    joblot_error why = {.code = JOBLOT_OK, .message = ""};
    joblot_status status = w->sink.write(w->sink.context, data, size, &why);
    if (status != JOBLOT_OK && why.code == status && why.message[0] != '\0')
        w->kept = why;
    else if (status != JOBLOT_OK)
        joblot__write_failed(w, status, "the bytes could not be written");
    w->handed_on += size;
}

static void empty_buffer(joblot_pickle_writer *w)
{
    hand_on(w, w->bytes.data, w->bytes.size);
    w->bytes.size = 0;
}

/* Ends the open frame: its size is known now.  A very small one goes without its header. */
static void end_frame(joblot_pickle_writer *w)
{
    if (!w->in_frame)
        return;
    unsigned char *header = w->bytes.data + w->frame_start;
    size_t size = w->bytes.size - w->frame_start - FRAME_HEADER;
    if (size < FRAME_LEAST) {
        memmove(header, header + FRAME_HEADER, size);
        w->bytes.size -= FRAME_HEADER;
    } else {
        header[0] = JOBLOT_OP_FRAME;
        joblot__store_le64(header + 1, size);
    }
    w->in_frame = false;
}

unsigned char *joblot__write_room(joblot_pickle_writer *w, size_t n)
{
    bool begins = w->framing && !w->in_frame;
    if (w->kept.code != JOBLOT_OK)
        return NULL;
    unsigned char *at = joblot__buffer_extend(&w->bytes, n + (begins ? FRAME_HEADER : 0));
    if (at == NULL) {
        joblot__write_failed(w, JOBLOT_NOMEM, "no memory for a frame");
        return NULL;
    }
    if (begins) {
        w->in_frame = true;
        w->frame_start = (size_t)(at - w->bytes.data);
        at += FRAME_HEADER;
    }
    return at;
}

void joblot_pickle_write_boundary(joblot_pickle_writer *w)
{
    size_t used = w->in_frame ? w->bytes.size - w->frame_start - FRAME_HEADER : w->bytes.size;
    if (used < FRAME_TARGET)
        return;
    end_frame(w);
    empty_buffer(w);
}

void joblot_pickle_write_flush(joblot_pickle_writer *w)
{
    end_frame(w);
    empty_buffer(w);
}

void joblot_pickle_write_raw(joblot_pickle_writer *w, const void *data, uint64_t size)
{
    joblot_pickle_write_flush(w);
    if (size > SIZE_MAX)
        joblot__write_failed(w, JOBLOT_INVALID, "more bytes than memory can have");
    else
        hand_on(w, data, (size_t)size);
}

uint64_t joblot_pickle_written(const joblot_pickle_writer *w)
{
    return w->handed_on + w->bytes.size;
}

joblot_status joblot_pickle_finish(joblot_pickle_writer *w, joblot_error *err)
{
    if (w->n_open > 0)
        joblot__write_failed(w, JOBLOT_INVALID, "a container that was not ended");
    joblot_pickle_write_flush(w);
    if (w->kept.code != JOBLOT_OK && err != NULL)
        *err = w->kept;
    return w->kept.code;
}

/* ---- opcodes ---- */

void joblot_pickle_write_op(joblot_pickle_writer *w, enum joblot_pickle_op op)
{
    unsigned char *at = joblot__write_room(w, 1);
    if (at != NULL)
        *at = (unsigned char)op;
}

static void op_u1(joblot_pickle_writer *w, enum joblot_pickle_op op, unsigned value)
{
    unsigned char *at = joblot__write_room(w, 2);
    if (at == NULL)
        return;
    at[0] = (unsigned char)op;
    at[1] = (unsigned char)value;
}

static void op_u4(joblot_pickle_writer *w, enum joblot_pickle_op op, uint32_t value)
{
    unsigned char *at = joblot__write_room(w, 5);
    if (at == NULL)
        return;
    at[0] = (unsigned char)op;
    joblot__store_le32(at + 1, value);
}

void joblot_pickle_write_start(joblot_pickle_writer *w)
{
    joblot_pickle_write_flush(w);
    w->framing = false;
    op_u1(w, JOBLOT_OP_PROTO, (unsigned)w->protocol);
    w->framing = w->protocol >= 4;
}

void joblot_pickle_write_stop(joblot_pickle_writer *w)
{
    if (w->n_open > 0)
        joblot__write_failed(w, JOBLOT_INVALID, "a STOP inside a container");
    joblot_pickle_write_op(w, JOBLOT_OP_STOP);
    end_frame(w);
    w->framing = false;
}

void joblot__write_value(joblot_pickle_writer *w)
{
    if (w->n_open > 0)
        joblot__write_member(w); /* its mark still belongs to the frame before */
    joblot_pickle_write_boundary(w);
}

/* ---- values ---- */

void joblot_pickle_write_none(joblot_pickle_writer *w)
{
    joblot__write_value(w);
    joblot_pickle_write_op(w, JOBLOT_OP_NONE);
}

void joblot_pickle_write_bool(joblot_pickle_writer *w, int value)
{
    joblot__write_value(w);
    joblot_pickle_write_op(w, value ? JOBLOT_OP_NEWTRUE : JOBLOT_OP_NEWFALSE);
}

/* LONG1 or LONG4; the bytes are trimmed already. */
static void op_long(joblot_pickle_writer *w, const unsigned char *bytes, size_t size)
{
    if (size < 256)
        op_u1(w, JOBLOT_OP_LONG1, (unsigned)size);
    else if (size <= INT32_MAX)
        op_u4(w, JOBLOT_OP_LONG4, (uint32_t)size);
    else
        joblot__write_failed(w, JOBLOT_UNSUPPORTED, "an integer of 2 GiB or more");
    unsigned char *at = joblot__write_room(w, size);
    if (at != NULL && size > 0)
        memcpy(at, bytes, size);
}

void joblot_pickle_write_int(joblot_pickle_writer *w, int64_t value)
{
    joblot__write_value(w);
    if (value >= 0 && value < 256) {
        op_u1(w, JOBLOT_OP_BININT1, (unsigned)value);
    } else if (value >= 0 && value < 65536) {
        unsigned char *at = joblot__write_room(w, 3);
        if (at == NULL)
            return;
        at[0] = JOBLOT_OP_BININT2;
        joblot__store_le16(at + 1, (uint16_t)value);
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
        op_u4(w, JOBLOT_OP_BININT, (uint32_t)(int32_t)value);
    } else {
        unsigned char bytes[8];
        joblot__store_le64(bytes, (uint64_t)value);
        op_long(w, bytes, joblot__integer_trim(bytes, sizeof bytes));
    }
}

void joblot_pickle_write_big(joblot_pickle_writer *w, const void *little_endian, uint64_t size)
{
    const unsigned char *bytes = little_endian;
    size_t n = size > SIZE_MAX ? SIZE_MAX : joblot__integer_trim(bytes, (size_t)size);
    if (n > 8) {
        joblot__write_value(w);
        op_long(w, bytes, n);
        return;
    }
    uint64_t bits = n > 0 && bytes[n - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = n; i > 0; i--)
        bits = bits << 8 | bytes[i - 1];
    int64_t value;
    memcpy(&value, &bits, sizeof value);
    joblot_pickle_write_int(w, value);
}

void joblot_pickle_write_real(joblot_pickle_writer *w, double value)
{
    uint64_t bits;
    joblot__write_value(w);
    unsigned char *at = joblot__write_room(w, 9);
    if (at == NULL)
        return;
    memcpy(&bits, &value, sizeof bits);
    at[0] = JOBLOT_OP_BINFLOAT;
    joblot__store_le64(at + 1, __builtin_bswap64(bits)); /* big-endian */
}

/* An opcode with its length and bytes; long ones lie outside of frames and go to the sink as they are. */
static void op_string(joblot_pickle_writer *w, enum joblot_pickle_op op, size_t length_bytes, const void *data,
                      uint64_t size)
{
    unsigned char head[9];
    size_t n = 1 + length_bytes;
    head[0] = (unsigned char)op;
    joblot__store_le64(head + 1, size); /* the bytes that count come first */
    if (size >= FRAME_TARGET) {
        bool framing = w->framing;
        end_frame(w);
        w->framing = false;
        unsigned char *at = joblot__write_room(w, n);
        if (at != NULL)
            memcpy(at, head, n);
        joblot_pickle_write_raw(w, data, size);
        w->framing = framing;
        return;
    }
    unsigned char *at = joblot__write_room(w, n + (size_t)size);
    if (at == NULL)
        return;
    memcpy(at, head, n);
    if (size > 0)
        memcpy(at + n, data, (size_t)size);
}

static void plain_text(joblot_pickle_writer *w, const char *utf8, uint64_t size)
{
    if (w->protocol >= 4 && size < 256)
        op_string(w, JOBLOT_OP_SHORT_BINUNICODE, 1, utf8, size);
    else if (size <= UINT32_MAX)
        op_string(w, JOBLOT_OP_BINUNICODE, 4, utf8, size);
    else if (w->protocol >= 4)
        op_string(w, JOBLOT_OP_BINUNICODE8, 8, utf8, size);
    else
        joblot__write_failed(w, JOBLOT_UNSUPPORTED, "a text of 4 GiB or more needs protocol 4");
}

void joblot_pickle_write_text(joblot_pickle_writer *w, const char *utf8, uint64_t size)
{
    joblot__write_value(w);
    plain_text(w, utf8, size);
}

/* GLOBAL: two lines. */
static void op_global(joblot_pickle_writer *w, const char *module, const char *name)
{
    size_t n = strlen(module), m = strlen(name);
    if (n == 0 || m == 0 || memchr(module, '\n', n) != NULL || memchr(name, '\n', m) != NULL) {
        joblot__write_failed(w, JOBLOT_INVALID, "a global without module or name, or with a line break in it");
        return;
    }
    unsigned char *at = joblot__write_room(w, n + m + 3);
    if (at == NULL)
        return;
    at[0] = JOBLOT_OP_GLOBAL;
    memcpy(at + 1, module, n);
    at[1 + n] = '\n';
    memcpy(at + 2 + n, name, m);
    at[2 + n + m] = '\n';
}

void joblot_pickle_write_global(joblot_pickle_writer *w, const char *module, const char *name)
{
    joblot__write_value(w);
    if (w->protocol < 4) {
        op_global(w, module, name);
        return;
    }
    plain_text(w, module, strlen(module));
    joblot_pickle_write_boundary(w);
    plain_text(w, name, strlen(name));
    joblot_pickle_write_op(w, JOBLOT_OP_STACK_GLOBAL);
}

/* Protocol 2 has no bytes: _codecs.encode(text, 'latin1') makes them, in Python 2 as well. */
static void bytes_as_text(joblot_pickle_writer *w, const unsigned char *data, uint64_t size)
{
    struct joblot__buffer text = {0};
    if (size == 0) {
        op_global(w, "__builtin__", "bytes");
        joblot_pickle_write_op(w, JOBLOT_OP_EMPTY_TUPLE);
        joblot_pickle_write_op(w, JOBLOT_OP_REDUCE);
        return;
    }
    unsigned char *to = size < SIZE_MAX / 2 ? joblot__buffer_extend(&text, (size_t)size * 2) : NULL;
    if (to == NULL) {
        joblot__write_failed(w, JOBLOT_NOMEM, "no memory for bytes as text");
        return;
    }
    for (uint64_t i = 0; i < size; i++) {
        if (data[i] >= 0x80)
            *to++ = (unsigned char)(0xc0 | data[i] >> 6);
        *to++ = data[i] >= 0x80 ? (unsigned char)(0x80 | (data[i] & 0x3f)) : data[i];
    }
    op_global(w, "_codecs", "encode");
    plain_text(w, (const char *)text.data, (uint64_t)(to - text.data));
    plain_text(w, "latin1", 6);
    joblot_pickle_write_op(w, JOBLOT_OP_TUPLE2);
    joblot_pickle_write_op(w, JOBLOT_OP_REDUCE);
    joblot__buffer_clear(&text);
}

static void plain_bytes(joblot_pickle_writer *w, const void *data, uint64_t size)
{
    if (w->protocol < 3)
        bytes_as_text(w, data, size);
    else if (size < 256)
        op_string(w, JOBLOT_OP_SHORT_BINBYTES, 1, data, size);
    else if (size <= UINT32_MAX)
        op_string(w, JOBLOT_OP_BINBYTES, 4, data, size);
    else if (w->protocol >= 4)
        op_string(w, JOBLOT_OP_BINBYTES8, 8, data, size);
    else
        joblot__write_failed(w, JOBLOT_UNSUPPORTED, "bytes of 4 GiB or more need protocol 4");
}

void joblot_pickle_write_bytes(joblot_pickle_writer *w, const void *data, uint64_t size)
{
    joblot__write_value(w);
    plain_bytes(w, data, size);
}

void joblot_pickle_write_bytearray(joblot_pickle_writer *w, const void *data, uint64_t size)
{
    joblot__write_value(w);
    if (w->protocol >= 5) {
        op_string(w, JOBLOT_OP_BYTEARRAY8, 8, data, size);
        return;
    }
    if (w->protocol == 4) {
        plain_text(w, "builtins", 8);
        plain_text(w, "bytearray", 9);
        joblot_pickle_write_op(w, JOBLOT_OP_STACK_GLOBAL);
    } else {
        op_global(w, w->protocol == 3 ? "builtins" : "__builtin__", "bytearray");
    }
    if (size > 0)
        plain_bytes(w, data, size);
    joblot_pickle_write_op(w, size > 0 ? JOBLOT_OP_TUPLE1 : JOBLOT_OP_EMPTY_TUPLE);
    joblot_pickle_write_op(w, JOBLOT_OP_REDUCE);
}

void joblot_pickle_write_ext(joblot_pickle_writer *w, int32_t code)
{
    joblot__write_value(w);
    if (code <= 0) {
        joblot__write_failed(w, JOBLOT_INVALID, "an extension code that is not positive");
    } else if (code < 256) {
        op_u1(w, JOBLOT_OP_EXT1, (unsigned)code);
    } else if (code < 65536) {
        unsigned char *at = joblot__write_room(w, 3);
        if (at == NULL)
            return;
        at[0] = JOBLOT_OP_EXT2;
        joblot__store_le16(at + 1, (uint16_t)code);
    } else {
        op_u4(w, JOBLOT_OP_EXT4, (uint32_t)code);
    }
}

/* ---- the memo ---- */

void joblot_pickle_write_memo(joblot_pickle_writer *w, uint32_t index)
{
    if (w->protocol >= 4)
        joblot_pickle_write_op(w, JOBLOT_OP_MEMOIZE);
    else if (index < 256)
        op_u1(w, JOBLOT_OP_BINPUT, index);
    else
        op_u4(w, JOBLOT_OP_LONG_BINPUT, index);
}

void joblot_pickle_write_get(joblot_pickle_writer *w, uint32_t index)
{
    joblot__write_value(w);
    if (index < 256)
        op_u1(w, JOBLOT_OP_BINGET, index);
    else
        op_u4(w, JOBLOT_OP_LONG_BINGET, index);
}
