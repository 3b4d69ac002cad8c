/* pickle/window.c - where a decoder's bytes come from: memory or a callback, in frames or not. */
#include "decode.h"

#include "../base/alloc.h"
#include "../base/error.h"

#include <inttypes.h>
#include <string.h>

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
        .max_kept = UINT64_MAX,
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
    USUAL(max_kept);
#undef USUAL
    limits->max_kept = limits->max_kept < 1024 ? 1024 : limits->max_kept;
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

joblot_status joblot__decode_give(const joblot_pickle_reader *r, joblot_error *err)
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
bool joblot__decode_fail(joblot_pickle_reader *r, joblot_status code, const char *text)
{
    return fail_at(r, code, r->op_offset, text);
}

joblot_status joblot_pickle_fail(joblot_pickle_reader *r, joblot_status code, const char *text, joblot_error *err)
{
    (void)joblot__decode_fail(r, code, text);
    return joblot__decode_give(r, err);
}

/* ---- the window ---- */

void joblot__window_set_stop(joblot_pickle_reader *r)
{
    r->stop = r->end;
    if (r->frame_end != JOBLOT__NO_FRAME && r->frame_end - r->base < (uint64_t)(r->end - r->window))
        r->stop = r->window + (r->frame_end - r->base);
}

void joblot__window_leave_frame(joblot_pickle_reader *r)
{
    r->frame_end = JOBLOT__NO_FRAME;
    r->stop = r->end;
}

static bool source_failed(joblot_pickle_reader *r, joblot_status status, const joblot_error *why)
{
    if (why->code != status || why->message[0] == '\0')
        return joblot__decode_fail(r, status, "the source could not be read");
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
        return joblot__decode_fail(r, JOBLOT_INVALID, "the source's read function gave more than it was asked for");
    r->ended = *n == 0;
    return true;
}

/* Moves what is left to the front of the buffer and reads until `n` bytes are there, or the source ends. */
bool joblot__window_refill(joblot_pickle_reader *r, size_t n)
{
    size_t held = (size_t)(r->end - r->at), more;
    if (n > r->capacity) {
        size_t capacity = r->capacity;
        while (capacity < n)
            capacity *= 2;
        unsigned char *buffer = joblot__malloc(capacity);
        if (buffer == NULL)
            return joblot__decode_fail(r, JOBLOT_NOMEM, "no memory for a line");
        memcpy(buffer, r->at, held);
        r->base = joblot_pickle_offset(r);
        joblot__free(r->buffer);
        r->buffer = buffer;
        r->capacity = capacity;
    } else {
        r->base = joblot_pickle_offset(r);
        if (r->at != r->buffer)
            memmove(r->buffer, r->at, held);
    }
    bool good = true;
    while (held < n && !r->ended && good) {
        good = read_more(r, r->buffer + held, r->capacity - held, &more);
        held += good ? more : 0;
    }
    r->window = r->at = r->buffer;
    r->end = r->buffer + held;
    joblot__window_set_stop(r);
    return good;
}

/* May an argument have n more bytes? */
bool joblot__window_has(joblot_pickle_reader *r, uint64_t n)
{
    uint64_t offset = joblot_pickle_offset(r);
    if (r->frame_end != JOBLOT__NO_FRAME && n > r->frame_end - offset)
        return joblot__decode_fail(r, JOBLOT_FORMAT, "an opcode that crosses the end of its frame");
    if (n > joblot_pickle_left(r))
        return joblot__decode_fail(r, JOBLOT_TRUNCATED, "the data ends inside an opcode");
    return true;
}

const unsigned char *joblot__window_need(joblot_pickle_reader *r, size_t n)
{
    if (!joblot__window_has(r, n) || (!r->ended && !joblot__window_refill(r, n)) || !joblot__window_has(r, n))
        return NULL;
    const unsigned char *p = r->at;
    r->at += n;
    return p;
}

/* A line without its newline; NULL after an error. */
const unsigned char *joblot__window_line(joblot_pickle_reader *r, size_t *size)
{
    size_t seen = 0;
    for (;;) {
        size_t held = (size_t)(r->stop - r->at);
        const unsigned char *newline = held > seen ? memchr(r->at + seen, '\n', held - seen) : NULL;
        *size = newline != NULL ? (size_t)(newline - r->at) : held;
        if (*size > r->limits.max_line) {
            (void)joblot__decode_fail(r, JOBLOT_LIMIT, "a line that is longer than the limit (max_line)");
            return NULL;
        }
        if (newline != NULL) {
            const unsigned char *line = r->at;
            r->at = newline + 1;
            return line;
        }
        seen = held;
        if (r->stop != r->end || r->ended) {
            (void)joblot__window_has(r, held + 1);
            return NULL;
        }
        if (!joblot__window_refill(r, held + 1))
            return NULL;
    }
}

/* ---- bytes as they are ---- */

/* Are `size` bytes there to be taken? */
static bool may_take(joblot_pickle_reader *r, uint64_t size)
{
    if (r->kept.code != JOBLOT_OK)
        return false;
    if (r->pending == 0 && r->frame_end != JOBLOT__NO_FRAME) {
        if (joblot_pickle_offset(r) != r->frame_end)
            return joblot__decode_fail(r, JOBLOT_FORMAT, "raw bytes inside a frame");
        joblot__window_leave_frame(r);
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
    joblot__window_set_stop(r);
    return r->kept.code == JOBLOT_OK;
}

/* The caller's mistake, not the data's: nothing is kept. */
static joblot_status beyond_string(const joblot_pickle_reader *r, uint64_t size, joblot_error *err)
{
    return joblot__fail(err, JOBLOT_INVALID, 0, "pickle: %" PRIu64 " bytes asked for of a string with %" PRIu64, size,
                        r->pending);
}

joblot_status joblot_pickle_take(joblot_pickle_reader *r, void *out, uint64_t size, joblot_error *err)
{
    if (r->pending > 0 && size > r->pending)
        return beyond_string(r, size, err);
    if (!may_take(r, size))
        return joblot__decode_give(r, err);
    uint64_t here = (uint64_t)(r->end - r->at);
    here = size < here ? size : here;
    if (out != NULL && here > 0)
        memcpy(out, r->at, (size_t)here);
    r->at += here;
    if (r->pending > 0)
        r->pending -= size;
    if (size > here && !take_beyond(r, out != NULL ? (unsigned char *)out + here : NULL, size - here))
        return joblot__decode_give(r, err);
    return JOBLOT_OK;
}

joblot_status joblot_pickle_view(joblot_pickle_reader *r, uint64_t size, const unsigned char **out, joblot_error *err)
{
    if (r->pending > 0 && size > r->pending)
        return beyond_string(r, size, err);
    if (!may_take(r, size))
        return joblot__decode_give(r, err);
    if (size > (uint64_t)(r->end - r->at)) {
        if (size > JOBLOT__PICKLE_WINDOW)
            return joblot__fail(err, JOBLOT_LIMIT, 0, "pickle: %" PRIu64 " bytes are more than a window has", size);
        if (!joblot__window_refill(r, (size_t)size))
            return joblot__decode_give(r, err);
        if (size > (uint64_t)(r->end - r->at)) {
            (void)fail_at(r, JOBLOT_TRUNCATED, joblot_pickle_offset(r), "the data ends inside a string or an array");
            return joblot__decode_give(r, err);
        }
    }
    *out = r->at;
    r->at += size;
    if (r->pending > 0)
        r->pending -= size;
    return JOBLOT_OK;
}
