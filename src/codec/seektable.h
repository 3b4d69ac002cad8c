/* codec/seektable.h - the table at the end of a zstd file: sizes of its frames, in a frame that decoders skip. */
#ifndef JOBLOT_CODEC_SEEKTABLE_H
#define JOBLOT_CODEC_SEEKTABLE_H

#include "codec.h"

enum {
    JOBLOT__SEEK_HEADER = 8,  /* magic and size of a skippable frame */
    JOBLOT__SEEK_FOOTER = 9,  /* number of frames, flags, magic */
    JOBLOT__SEEK_MAX_FRAMES = 0x8000000,
};
#define JOBLOT__SKIPPABLE_MAGIC 0x184D2A5Eu
#define JOBLOT__SEEK_MAGIC 0x8F92EAB1u

/* Notes a frame; table->status says when there is no memory. */
void joblot__seek_table_add(struct joblot__buffer *table, size_t compressed, size_t decoded);
/* Appends the frame with the table; nothing where there are more frames than it can hold. */
void joblot__seek_table_end(const struct joblot__buffer *table, struct joblot__buffer *out);

#endif
