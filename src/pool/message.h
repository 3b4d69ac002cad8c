/* pool/message.h - the body of a message: parts, in it or in segments. */
#ifndef JOBLOT_POOL_MESSAGE_H
#define JOBLOT_POOL_MESSAGE_H

#include "wire.h"

#include "../base/buffer.h"
#include "../base/reader.h"

/* Bytes that a body with these parts takes; JOBLOT_LIMIT when that overflows. Parts in segments take no bytes. */
joblot_status joblot__body_size(const struct joblot_part *parts, size_t n_parts, size_t *size, joblot_error *err);
/* Writes the body to `out`, which has room for joblot__body_size bytes. */
void joblot__body_write(unsigned char *out, const struct joblot_part *parts, size_t n_parts);
/* Writes a body that names addresses instead of holding bytes (FLAG_HELD). */
size_t joblot__body_held_size(size_t n_parts);
void joblot__body_write_held(unsigned char *out, const struct joblot_part *parts, size_t n_parts);

/* Parses a body into an array of parts in `parts` (emptied first).  With `held`, offsets are addresses and data NULL. */
joblot_status joblot__body_parse(const unsigned char *body, size_t size, bool held, struct joblot__buffer *parts,
                                 size_t *n_parts, joblot_error *err);

#endif
