/* codec/writer.c - writing: bytes into blocks, blocks through the threads, results to the sink in order. */
#include "blocks.h"
#include "seektable.h"

#include "../base/alloc.h"
#include "../base/error.h"

#include <string.h>

enum { MAX_BLOCK = 1 << 30 };

struct joblot_codec_writer {
    const joblot_codec *codec;
    const struct joblot__encoder *encoder;
    struct joblot_codec_sink sink;
    struct joblot__team *team;
    int level;
    size_t block_size;
    size_t filling, oldest, in_flight; /* slots; in_flight: from the oldest on, submitted */
    size_t filled;                     /* bytes in the one that is being filled */
    size_t history;                    /* bytes before it */
    uint64_t n_blocks, total;          /* that were handed to the sink */
    uint32_t check;
    bool finished;
    struct joblot__buffer table; /* sizes of the frames, for the seek table */
    joblot_error failed;
};

static joblot_status check_options(const joblot_codec *codec, const struct joblot_codec_write_options *options,
                                   joblot_error *err)
{
    if (options->level != 0 && (options->level < codec->lowest || options->level > codec->highest))
        return joblot__fail(err, JOBLOT_INVALID, 0, "%s has no level %d: its levels are %d to %d, and 0 for its usual one",
                            codec->name, options->level, codec->lowest, codec->highest);
    if (options->block_size > MAX_BLOCK)
        return joblot__fail(err, JOBLOT_INVALID, 0, "blocks of %lu bytes are asked for; at most %d are possible",
                            (unsigned long)options->block_size, MAX_BLOCK);
    return JOBLOT_OK;
}

joblot_status joblot_codec_writer_open(const joblot_codec *codec, const struct joblot_codec_write_options *options,
                                       const struct joblot_codec_sink *sink, joblot_codec_writer **out,
                                       joblot_error *err)
{
    static const struct joblot_codec_write_options standard = {0};
    if (codec == NULL || sink == NULL || sink->write == NULL)
        return joblot__fail(err, JOBLOT_INVALID, 0, "a codec and a sink are needed to write compressed data");
    options = options != NULL ? options : &standard;
    joblot_status status = joblot_codec_check(codec, err);
    if (status == JOBLOT_OK)
        status = check_options(codec, options, err);
    if (status != JOBLOT_OK)
        return status;
    joblot_codec_writer *w = joblot__calloc(1, sizeof *w);
    if (w == NULL)
        return joblot__fail_nomem(err, sizeof *w, "a writer of compressed data");
    w->codec = codec;
    w->encoder = *codec->encoder;
    w->sink = *sink;
    w->level = options->level != 0 ? options->level : codec->standard;
    w->block_size = options->block_size != 0 ? options->block_size : w->encoder->block_size(w->level);
    w->check = w->encoder->first_check;
    status = joblot__team_new(w->encoder, w->level, joblot__codec_threads(options->n_threads), &w->team, err);
    if (status != JOBLOT_OK) {
        joblot__free(w);
        return status;
    }
    *out = w;
    return JOBLOT_OK;
}

void joblot_codec_writer_close(joblot_codec_writer *w)
{
    if (w == NULL)
        return;
    joblot__team_free(w->team);
    joblot__buffer_clear(&w->table);
    joblot__free(w);
}

static joblot_status fail(joblot_codec_writer *w, joblot_status status, const char *why)
{
    return joblot__fail(&w->failed, status, 0, "%s: %s, after %llu bytes were compressed", w->codec->name, why,
                        (unsigned long long)w->total);
}

static joblot_status hand_on(joblot_codec_writer *w, const void *data, size_t size)
{
    joblot_status status = size > 0 ? w->sink.write(w->sink.user, data, size, &w->failed) : JOBLOT_OK;
    if (status != JOBLOT_OK && w->failed.message[0] == '\0')
        return fail(w, status, "the callback that writes failed");
    if (status != JOBLOT_OK)
        w->failed.code = status;
    return status;
}

/* What stands before the first block, or behind the last. */
static joblot_status hand_on_frame(joblot_codec_writer *w, bool head)
{
    struct joblot__buffer text;
    joblot__buffer_init(&text);
    if (head && w->encoder->head != NULL)
        w->encoder->head(w->level, &text);
    if (!head && w->encoder->tail != NULL)
        w->encoder->tail(w->check, w->total, &text);
    if (!head && w->encoder->seek_table)
        joblot__seek_table_end(&w->table, &text);
    joblot_status status = text.status != JOBLOT_OK ? fail(w, text.status, "out of memory (the end of the stream)")
                                                    : hand_on(w, text.data, text.size);
    joblot__buffer_clear(&text);
    return status;
}

/* The oldest block that was submitted: waits for it and hands it on. */
static joblot_status take_oldest(joblot_codec_writer *w)
{
    struct joblot__slot *slot = joblot__team_result(w->team, w->oldest);
    joblot_status status = slot->status;
    w->oldest = (w->oldest + 1) % joblot__team_slots(w->team);
    w->in_flight--;
    if (status != JOBLOT_OK)
        return fail(w, status, slot->why);
    if (w->n_blocks == 0)
        status = hand_on_frame(w, true);
    if (status == JOBLOT_OK)
        status = hand_on(w, slot->out.data, slot->out.size);
    if (status != JOBLOT_OK)
        return status;
    if (w->encoder->join != NULL)
        w->check = w->encoder->join(w->check, &slot->block);
    if (w->encoder->seek_table)
        joblot__seek_table_add(&w->table, slot->out.size, slot->block.size);
    w->n_blocks++;
    w->total += slot->block.size;
    return w->table.status == JOBLOT_OK ? JOBLOT_OK : fail(w, w->table.status, "out of memory (the seek table)");
}

/* The slot that is being filled, with room for a block. */
static struct joblot__slot *filling(joblot_codec_writer *w)
{
    struct joblot__slot *slot = joblot__team_slot(w->team, w->filling);
    if (slot->memory == NULL)
        slot->memory = joblot__malloc(w->encoder->history + w->block_size);
    if (slot->memory == NULL) {
        (void)fail(w, JOBLOT_NOMEM, "out of memory (a block)");
        return NULL;
    }
    return slot;
}

/* The next slot begins with the end of this one, where the format looks back. */
static joblot_status begin_next(joblot_codec_writer *w, const struct joblot__slot *before)
{
    size_t room = w->encoder->history;
    size_t all = w->history + before->block.size;
    size_t next = (w->filling + 1) % joblot__team_slots(w->team);
    size_t kept = all < room ? all : room;
    w->filling = next;
    w->filled = 0;
    if (room == 0)
        return JOBLOT_OK;
    struct joblot__slot *slot = filling(w);
    if (slot == NULL)
        return w->failed.code;
    memmove(slot->memory + room - kept, before->block.data + before->block.size - kept, kept);
    w->history = kept;
    return JOBLOT_OK;
}

/* Hands the filled slot over, and makes the next one free. */
static joblot_status submit(joblot_codec_writer *w, bool last)
{
    struct joblot__slot *slot = filling(w);
    size_t n_slots = joblot__team_slots(w->team);
    joblot_status status = JOBLOT_OK;
    if (slot == NULL)
        return w->failed.code;
    slot->block = (struct joblot__block){
        .data = slot->memory + w->encoder->history,
        .size = w->filled,
        .history = w->history,
    };
    joblot__team_submit(w->team, w->filling, last && w->in_flight == 0);
    w->in_flight++;
    while (status == JOBLOT_OK && w->in_flight > 0 &&
           (last || w->in_flight == n_slots || joblot__team_is_done(w->team, w->oldest)))
        status = take_oldest(w);
    return status == JOBLOT_OK && !last ? begin_next(w, slot) : status;
}

joblot_status joblot_codec_writer_write(joblot_codec_writer *w, const void *data, size_t size, joblot_error *err)
{
    const unsigned char *at = data;
    joblot_status status = w->failed.code;
    if (status == JOBLOT_OK && w->finished)
        status = fail(w, JOBLOT_INVALID, "it was finished: nothing can be written any more");
    while (status == JOBLOT_OK && size > 0) {
        /* A full block goes when there is more, so that the last one is known to be the last. */
        if (w->filled == w->block_size) {
            status = submit(w, false);
            continue;
        }
        struct joblot__slot *slot = filling(w);
        if (slot == NULL) {
            status = w->failed.code;
            break;
        }
        size_t room = w->block_size - w->filled, part = size < room ? size : room;
        memcpy(slot->memory + w->encoder->history + w->filled, at, part);
        w->filled += part;
        at += part;
        size -= part;
    }
    if (status != JOBLOT_OK && err != NULL)
        *err = w->failed;
    return status;
}

joblot_status joblot_codec_writer_finish(joblot_codec_writer *w, joblot_error *err)
{
    joblot_status status = w->failed.code;
    if (status == JOBLOT_OK && w->finished)
        status = fail(w, JOBLOT_INVALID, "it was finished before");
    w->finished = true;
    if (status == JOBLOT_OK)
        status = submit(w, true); /* an empty block where nothing was written, and only there */
    if (status == JOBLOT_OK)
        status = hand_on_frame(w, false);
    if (status != JOBLOT_OK && err != NULL)
        *err = w->failed;
    return status;
}
