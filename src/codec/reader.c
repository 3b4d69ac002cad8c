/* codec/reader.c - reading: the window over the input, stream after stream, limits, and the error that is kept. */
#include "codec.h"

#include "../base/alloc.h"
#include "../base/error.h"

#include <stdio.h>
#include <string.h>

/* The window: `at` to `end` is there to be decoded.  With a callback it lies in `buffer`, behind the last KEPT bytes
 * that were taken, since a decoder may give some back. */
enum { KEPT = 16, CHUNK = 128 * 1024 };

/* Small reads are served from so many bytes that were decoded ahead: the libraries are slow at small pieces (ISA-L copies
 * its window at each). */
enum { AHEAD = 64 * 1024 };

enum place { BETWEEN, INSIDE, AT_END };

struct joblot_codec_reader {
    const joblot_codec *codec;
    const struct joblot__decoder *decoder;
    void *state;
    struct joblot_codec_source source;
    const unsigned char *at, *end;
    bool last; /* nothing comes behind `end` */
    unsigned char *buffer;
    uint64_t end_offset; /* of `end`, in the input */
    enum place place;
    bool strict_end, ignored;
    uint64_t max_output, decoded, streams;
    unsigned char *ahead; /* NULL until the first small read */
    size_t ahead_at, ahead_size;
    joblot_error failed; /* code OK: nothing did; reported when what was decoded before it has been given out */
};

static uint64_t offset(const joblot_codec_reader *r)
{
    return r->end_offset - (uint64_t)(r->end - r->at);
}

joblot_status joblot_codec_reader_open(const joblot_codec *codec, const struct joblot_codec_source *source,
                                       const struct joblot_codec_read_options *options, joblot_codec_reader **out,
                                       joblot_error *err)
{
    static const struct joblot_codec_read_options standard = {0};
    if (codec == NULL || source == NULL || (source->data == NULL && source->size > 0 && source->read == NULL))
        return joblot__fail(err, JOBLOT_INVALID, 0, "a codec and a source are needed to read compressed data");
    joblot_status status = joblot_codec_check(codec, err);
    if (status != JOBLOT_OK)
        return status;
    options = options != NULL ? options : &standard;
    joblot_codec_reader *r = joblot__calloc(1, sizeof *r);
    if (r == NULL)
        return joblot__fail_nomem(err, sizeof *r, "a reader of compressed data");
    r->codec = codec;
    r->decoder = *codec->decoder;
    r->source = *source;
    r->strict_end = options->strict_end != 0;
    r->max_output = options->max_output != 0 ? options->max_output : UINT64_MAX;
    r->state = r->decoder->open(joblot__codec_max_memory(options->max_memory));
    if (source->data == NULL && source->read != NULL)
        r->buffer = joblot__malloc(KEPT + CHUNK);
    if (r->state == NULL || (source->data == NULL && source->read != NULL && r->buffer == NULL)) {
        joblot_codec_reader_close(r);
        return joblot__fail(err, JOBLOT_NOMEM, 0, "out of memory (a decoder of %s)", codec->name);
    }
    if (r->buffer != NULL) {
        r->at = r->end = r->buffer + KEPT;
        memset(r->buffer, 0, KEPT);
    } else {
        static const unsigned char nothing[1];
        r->at = source->data != NULL ? source->data : nothing;
        r->end = r->at + source->size;
        r->end_offset = source->size;
        r->last = true;
    }
    *out = r;
    return JOBLOT_OK;
}

void joblot_codec_reader_close(joblot_codec_reader *r)
{
    if (r == NULL)
        return;
    if (r->state != NULL)
        r->decoder->close(r->state);
    joblot__free(r->ahead);
    joblot__free(r->buffer);
    joblot__free(r);
}

static joblot_status fail(joblot_codec_reader *r, joblot_status status, const char *why)
{
    return joblot__fail(&r->failed, status, 0, "%s: %s, at byte %llu of the compressed data", r->codec->name, why,
                        (unsigned long long)offset(r));
}

/* Makes `wanted` (<= CHUNK) bytes be there, or all that is left. */
static joblot_status fill(joblot_codec_reader *r, size_t wanted)
{
    while ((size_t)(r->end - r->at) < wanted && !r->last) {
        size_t left = (size_t)(r->end - r->at), got = 0;
        size_t kept = (size_t)(r->at - r->buffer); /* fewer than KEPT where some were just given back */
        kept = kept < KEPT ? kept : KEPT;
        memmove(r->buffer + KEPT - kept, r->at - kept, kept + left);
        r->at = r->buffer + KEPT;
        r->end = r->at + left;
        joblot_status status = r->source.read(r->source.user, r->buffer + KEPT + left, CHUNK - left, &got, &r->failed);
        if (status != JOBLOT_OK) {
            if (r->failed.message[0] == '\0')
                return fail(r, status, "the callback that reads failed");
            r->failed.code = status;
            return status;
        }
        if (got > CHUNK - left)
            return fail(r, JOBLOT_INVALID, "the callback that reads said that it gave more than it was asked for");
        r->end += got;
        r->end_offset += got;
        r->last = got == 0;
    }
    return JOBLOT_OK;
}

/* Between two streams, or before the first. */
static joblot_status find_stream(joblot_codec_reader *r)
{
    joblot_status status = fill(r, JOBLOT__LOOK_SIZE);
    if (status != JOBLOT_OK)
        return status;
    size_t left = (size_t)(r->end - r->at);
    if (left == 0 && r->streams == 0)
        return fail(r, JOBLOT_TRUNCATED, "there is no data");
    if (left == 0) {
        r->place = AT_END;
        return JOBLOT_OK;
    }
    enum joblot__next next = r->streams == 0 ? JOBLOT__NEXT_STREAM : r->decoder->look(r->state, r->at, left);
    if (next == JOBLOT__NEXT_SKIP) {
        r->at++;
    } else if (next == JOBLOT__NEXT_STREAM) {
        char why[200] = "";
        status = r->decoder->begin(r->state, r->at, left, why);
        if (status != JOBLOT_OK)
            return fail(r, status, why);
        r->streams++;
        r->place = INSIDE;
    } else if (next == JOBLOT__NEXT_WRONG || r->strict_end) {
        return fail(r, JOBLOT_FORMAT, "what follows the end of a stream is not another one");
    } else {
        r->ignored = true;
        r->place = AT_END;
    }
    return JOBLOT_OK;
}

/* Inside a stream: decodes something into at most `size` bytes. */
static joblot_status decode(joblot_codec_reader *r, unsigned char *out, size_t size, size_t *got)
{
    struct joblot__step step = {.why = ""};
    joblot_status status = fill(r, 1);
    if (status != JOBLOT_OK)
        return status;
    step.in = r->at;
    step.in_end = r->end;
    step.last = r->last;
    step.out = out;
    step.out_end = out + size;
    status = r->decoder->step(r->state, &step);
    bool moved = step.in != r->at || step.out != out;
    r->at = step.in;
    *got = (size_t)(step.out - out);
    r->decoded += *got;
    if (status != JOBLOT_OK)
        return fail(r, status, step.why);
    if (step.finished) {
        r->place = BETWEEN;
        return JOBLOT_OK;
    }
    if (!moved && r->at == r->end && r->last)
        return fail(r, JOBLOT_TRUNCATED, "the data ends in the middle of a stream");
    if (!moved && r->at != r->end)
        return fail(r, JOBLOT_FORMAT, "the data cannot be decoded any further");
    return JOBLOT_OK;
}

/* All that is allowed was given: only the end may follow. */
static joblot_status expect_end(joblot_codec_reader *r)
{
    unsigned char more;
    size_t got = 0;
    uint64_t decoded = r->decoded;
    joblot_status status = decode(r, &more, 1, &got);
    r->decoded = decoded;
    if (status == JOBLOT_OK && got > 0) {
        char why[100];
        (void)snprintf(why, sizeof why, "it decodes to more than the %llu bytes that are allowed",
                       (unsigned long long)r->max_output);
        return fail(r, JOBLOT_LIMIT, why);
    }
    return status;
}

/* Some more bytes, at most `size`; none at the end, at an error, or between two streams. */
static joblot_status advance(joblot_codec_reader *r, unsigned char *out, size_t size, size_t *got)
{
    uint64_t allowed = r->max_output - r->decoded;
    *got = 0;
    if (r->place == BETWEEN)
        return find_stream(r);
    if (allowed == 0)
        return expect_end(r);
    return decode(r, out, size < allowed ? size : (size_t)allowed, got);
}

static size_t take_ahead(joblot_codec_reader *r, void *out, size_t size)
{
    size_t left = r->ahead_size - r->ahead_at;
    size = size < left ? size : left;
    if (size > 0)
        memcpy(out, r->ahead + r->ahead_at, size);
    r->ahead_at += size;
    return size;
}

/* `ahead` is empty: decodes something into it. */
static joblot_status decode_ahead(joblot_codec_reader *r)
{
    if (r->ahead == NULL)
        r->ahead = joblot__malloc(AHEAD);
    if (r->ahead == NULL)
        return fail(r, JOBLOT_NOMEM, "out of memory (decoding ahead)");
    r->ahead_at = 0;
    return advance(r, r->ahead, AHEAD, &r->ahead_size);
}

joblot_status joblot_codec_reader_read(joblot_codec_reader *r, void *out, size_t size, size_t *got, joblot_error *err)
{
    unsigned char *at = out;
    *got = take_ahead(r, at, size);
    while (*got < size && r->place != AT_END && r->failed.code == JOBLOT_OK) {
        size_t part = 0, room = size - *got;
        if (room >= AHEAD) {
            (void)advance(r, at + *got, room, &part); /* its error is kept in r->failed */
        } else {
            (void)decode_ahead(r);
            part = take_ahead(r, at + *got, room);
        }
        *got += part;
    }
    if (*got == size && size > 0)
        return JOBLOT_OK;
    if (r->failed.code != JOBLOT_OK && err != NULL)
        *err = r->failed;
    return r->failed.code;
}

void joblot_codec_reader_position(const joblot_codec_reader *r, struct joblot_codec_position *out)
{
    *out = (struct joblot_codec_position){
        .in = offset(r),
        .out = r->decoded - (r->ahead_size - r->ahead_at),
        .streams = r->streams,
        .ignored_bytes = r->ignored,
    };
}
