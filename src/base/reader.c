/* base/reader.c - the sticky reader. */
#include "reader.h"

#include "endian.h"
#include "error.h"

void joblot__reader_init(struct joblot__reader *r, const void *data, size_t size)
{
    memset(r, 0, sizeof *r);
    r->data = data;
    r->size = size;
}

size_t joblot__reader_left(const struct joblot__reader *r)
{
    return r->status == JOBLOT_OK ? r->size - r->pos : 0;
}

void joblot__reader_fail(struct joblot__reader *r, joblot_status code, const char *text)
{
    if (r->status != JOBLOT_OK)
        return;
    r->status = code;
    r->error_pos = r->pos;
    r->error_text = text;
}

const unsigned char *joblot__reader_take(struct joblot__reader *r, size_t size)
{
    if (r->status != JOBLOT_OK)
        return NULL;
    if (size > r->size - r->pos) {
        joblot__reader_fail(r, JOBLOT_TRUNCATED, "data ends too early");
        return NULL;
    }
    const unsigned char *at = r->data + r->pos;
    r->pos += size;
    return at;
}

void joblot__reader_copy(struct joblot__reader *r, void *out, size_t size)
{
    const unsigned char *at = joblot__reader_take(r, size);
    if (at != NULL)
        memcpy(out, at, size);
    else
        memset(out, 0, size);
}

int joblot__reader_peek(const struct joblot__reader *r)
{
    return joblot__reader_left(r) > 0 ? r->data[r->pos] : -1;
}

uint8_t joblot__reader_u8(struct joblot__reader *r)
{
    const unsigned char *at = joblot__reader_take(r, 1);
    return at == NULL ? 0 : *at;
}

uint16_t joblot__reader_le16(struct joblot__reader *r)
{
    const unsigned char *at = joblot__reader_take(r, 2);
    return at == NULL ? 0 : joblot__load_le16(at);
}

uint32_t joblot__reader_le32(struct joblot__reader *r)
{
    const unsigned char *at = joblot__reader_take(r, 4);
    return at == NULL ? 0 : joblot__load_le32(at);
}

uint64_t joblot__reader_le64(struct joblot__reader *r)
{
    const unsigned char *at = joblot__reader_take(r, 8);
    return at == NULL ? 0 : joblot__load_le64(at);
}

joblot_status joblot__reader_finish(const struct joblot__reader *r, const char *what, joblot_error *err)
{
    if (r->status == JOBLOT_OK)
        return JOBLOT_OK;
    return joblot__fail(err, r->status, 0, "%s: %s at offset %zu", what, r->error_text, r->error_pos);
}
