/* codec/seektable.c - writing the seek table. */
#include "seektable.h"

void joblot__seek_table_add(struct joblot__buffer *table, size_t compressed, size_t decoded)
{
    joblot__buffer_le32(table, (uint32_t)compressed);
    joblot__buffer_le32(table, (uint32_t)decoded);
}

void joblot__seek_table_end(const struct joblot__buffer *table, struct joblot__buffer *out)
{
    size_t n = table->size / 8;
    if (n > JOBLOT__SEEK_MAX_FRAMES)
        return;
    joblot__buffer_le32(out, JOBLOT__SKIPPABLE_MAGIC);
    joblot__buffer_le32(out, (uint32_t)(table->size + JOBLOT__SEEK_FOOTER));
    joblot__buffer_append(out, table->data, table->size);
    joblot__buffer_le32(out, (uint32_t)n);
    joblot__buffer_u8(out, 0); /* no checksum per frame: the frames have their own */
    joblot__buffer_le32(out, JOBLOT__SEEK_MAGIC);
}
