/* base/reader.h - a sticky reader over bytes in memory.
 *
 * The first error is kept, with the offset where it happened; later reads do nothing and give zeros.  A parser
 * therefore reads like the format that it parses and looks at `status` once, before it trusts what it read. */
#ifndef JOBLOT_BASE_READER_H
#define JOBLOT_BASE_READER_H

#include <joblot/base.h>

#include <stdbool.h>

struct joblot__reader {
    const unsigned char *data; /* borrowed */
    size_t size;
    size_t pos;
    joblot_status status;
    size_t error_pos;
    const char *error_text; /* static */
};

void joblot__reader_init(struct joblot__reader *r, const void *data, size_t size);
size_t joblot__reader_left(const struct joblot__reader *r); /* 0 after an error */

/* Notes an error at the present position, unless one was noted before. */
void joblot__reader_fail(struct joblot__reader *r, joblot_status code, const char *text);

/* The next `size` bytes, borrowed; NULL (TRUNCATED) when fewer are left. */
const unsigned char *joblot__reader_take(struct joblot__reader *r, size_t size);
void joblot__reader_copy(struct joblot__reader *r, void *out, size_t size); /* zeros after an error */
int joblot__reader_peek(const struct joblot__reader *r);                    /* next byte, or -1 */
uint8_t joblot__reader_u8(struct joblot__reader *r);
uint16_t joblot__reader_le16(struct joblot__reader *r);
uint32_t joblot__reader_le32(struct joblot__reader *r);
uint64_t joblot__reader_le64(struct joblot__reader *r);

/* OK, or the kept error as "<what>: <text> at offset <n>". */
joblot_status joblot__reader_finish(const struct joblot__reader *r, const char *what, joblot_error *err)
    JOBLOT_MUST_USE;

#endif
