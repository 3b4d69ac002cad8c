/* pickle/decode.h - the state of a pull decoder. */
#ifndef JOBLOT_PICKLE_DECODE_H
#define JOBLOT_PICKLE_DECODE_H

#include "../base/buffer.h"

#include <joblot/pickle.h>

/* Bytes of a callback's source that are held at once; longer strings are taken from it by the consumer. */
enum { JOBLOT__PICKLE_WINDOW = 64 * 1024 };

/* By how much the index of a memo entry may be larger than the bytes of the pickle so far. */
enum { JOBLOT__MEMO_SLACK = 4096 };

#define JOBLOT__NO_FRAME UINT64_MAX

/* The window [window, end) holds the bytes from offset `base` on; all of a source that is memory. `stop` is its end, or
 * that of the frame when it ends before, so that one comparison tells whether an argument is there and in its frame. */
struct joblot_pickle_reader {
    const unsigned char *at, *stop, *end, *window;
    uint64_t base;
    uint64_t frame_end; /* offset, or JOBLOT__NO_FRAME */
    uint64_t pending;   /* bytes of the last event's string that are still to be taken */
    uint64_t op_offset; /* of the last opcode */
    struct joblot_pickle_source source;
    struct joblot_pickle_limits limits;
    unsigned char *buffer; /* a callback's window */
    size_t capacity;
    bool ended;   /* the callback has said that there is no more */
    bool stopped; /* after STOP */
    struct joblot__buffer text; /* what a line of protocol 0 means */
    joblot_error kept;          /* code JOBLOT_OK: none */
};

void joblot__pickle_limits(struct joblot_pickle_limits *limits, const struct joblot_pickle_limits *given);

/* Keeps an error at the opcode that is being decoded, unless one is kept already; false.  Gives it to the caller. */
bool joblot__decode_fail(joblot_pickle_reader *r, joblot_status code, const char *text);
joblot_status joblot__decode_give(const joblot_pickle_reader *r, joblot_error *err);

/* After the window or the frame has changed. */
void joblot__window_set_stop(joblot_pickle_reader *r);
void joblot__window_leave_frame(joblot_pickle_reader *r);
/* Reads until `n` bytes are in the window, or the source ends. */
bool joblot__window_refill(joblot_pickle_reader *r, size_t n);
/* May an argument have n more bytes, by its frame and by what is left? */
bool joblot__window_has(joblot_pickle_reader *r, uint64_t n);
/* A line without its newline; NULL after an error. */
const unsigned char *joblot__window_line(joblot_pickle_reader *r, size_t *size);
const unsigned char *joblot__window_need(joblot_pickle_reader *r, size_t n);

/* The next n bytes (at most a window); NULL after an error. */
static inline const unsigned char *need(joblot_pickle_reader *r, size_t n)
{
    if (n > (size_t)(r->stop - r->at))
        return joblot__window_need(r, n);
    const unsigned char *p = r->at;
    r->at += n;
    return p;
}

#endif
