/* base/buffer.h - a growing byte buffer with a sticky error. */
#ifndef JOBLOT_BASE_BUFFER_H
#define JOBLOT_BASE_BUFFER_H

#include <joblot/base.h>

#include <stdbool.h>

/* Caller's storage; zero-initialise it, or call init; clear frees what it holds.  The first failure to grow is
 * kept in `status`, and later appends do nothing, so that a writer checks once, at its end. */
struct joblot__buffer {
    unsigned char *data;
    size_t size;
    size_t capacity;
    joblot_status status;
};

void joblot__buffer_init(struct joblot__buffer *b);
void joblot__buffer_clear(struct joblot__buffer *b);

/* Room for `size` more bytes, counted as written; NULL (and a sticky NOMEM) when there is none. */
unsigned char *joblot__buffer_extend(struct joblot__buffer *b, size_t size);
void joblot__buffer_append(struct joblot__buffer *b, const void *data, size_t size);
void joblot__buffer_append_str(struct joblot__buffer *b, const char *text);
void joblot__buffer_printf(struct joblot__buffer *b, const char *fmt, ...) JOBLOT_PRINTF(2, 3);
void joblot__buffer_u8(struct joblot__buffer *b, uint8_t v);
void joblot__buffer_le16(struct joblot__buffer *b, uint16_t v);
void joblot__buffer_le32(struct joblot__buffer *b, uint32_t v);
void joblot__buffer_le64(struct joblot__buffer *b, uint64_t v);
/* Zero bytes up to a multiple of `to` (a power of two). */
void joblot__buffer_align(struct joblot__buffer *b, size_t to);

#endif
