/* pickle/encode.h - the state of a pickle writer. */
#ifndef JOBLOT_PICKLE_ENCODE_H
#define JOBLOT_PICKLE_ENCODE_H

#include "../base/buffer.h"

#include <joblot/pickle.h>

/* A container that has begun and not ended. */
struct joblot__open {
    enum joblot_pickle_container kind;
    uint64_t count;   /* values (not pairs) that it will have */
    uint64_t written; /* values so far */
};

struct joblot_pickle_writer {
    struct joblot_pickle_sink sink;
    int protocol;
    struct joblot__buffer bytes; /* not yet handed on: [0, frame_start) done, the rest the open frame */
    bool framing;                /* between start and stop, with protocol 4 and 5 */
    bool in_frame;
    size_t frame_start; /* where the frame's FRAME opcode is, if it keeps it */
    uint64_t handed_on;
    struct joblot__open *open; /* containers */
    size_t n_open, open_capacity;
    joblot_error kept;
};

/* Says that a value begins: a frame may end, and a container may want its mark. */
void joblot__write_value(joblot_pickle_writer *w);
/* Room for n bytes of opcodes, in a frame where there are frames; NULL after an error. */
unsigned char *joblot__write_room(joblot_pickle_writer *w, size_t n);
void joblot__write_failed(joblot_pickle_writer *w, joblot_status code, const char *text);

/* containers.c: before a value of the innermost container. */
void joblot__write_member(joblot_pickle_writer *w);

#endif
