/* pool/message.c - writing and parsing message bodies. */
#include "message.h"

#include "../base/checked.h"
#include "../base/error.h"

static bool padded(size_t size, size_t *out)
{
    return joblot__round_up(size, 8, out);
}

joblot_status joblot__body_size(const struct joblot_part *parts, size_t n_parts, size_t *size, joblot_error *err)
{
    if (n_parts > JOBLOT_MAX_PARTS)
        return joblot__fail(err, JOBLOT_LIMIT, 0, "a message of %zu parts: at most %d are possible", n_parts,
                            JOBLOT_MAX_PARTS);
    size_t total = joblot__body_held_size(n_parts);
    for (size_t i = 0; i < n_parts; i++) {
        size_t bytes;
        if (parts[i].segment != NULL)
            continue;
        if (parts[i].size > SIZE_MAX || !padded((size_t)parts[i].size, &bytes) || !joblot__add_size(total, bytes, &total))
            return joblot__fail(err, JOBLOT_LIMIT, 0, "a message larger than the address space");
    }
    *size = total;
    return JOBLOT_OK;
}

size_t joblot__body_held_size(size_t n_parts)
{
    return JOBLOT__BODY_HEADER + n_parts * JOBLOT__PART_SIZE;
}

static void put_part(unsigned char *at, uint64_t size, uint64_t offset, uint32_t segment)
{
    joblot__store_le64(at, size);
    joblot__store_le64(at + 8, offset);
    joblot__store_le32(at + 16, segment);
    joblot__store_le32(at + 20, 0);
}

void joblot__body_write(unsigned char *out, const struct joblot_part *parts, size_t n_parts)
{
    size_t at = joblot__body_held_size(n_parts);
    joblot__store_le32(out, (uint32_t)n_parts);
    joblot__store_le32(out + 4, 0);
    for (size_t i = 0; i < n_parts; i++) {
        unsigned char *entry = out + JOBLOT__BODY_HEADER + i * JOBLOT__PART_SIZE;
        if (parts[i].segment != NULL) {
            put_part(entry, parts[i].size, parts[i].offset, joblot_segment_id(parts[i].segment));
            continue;
        }
        size_t size = (size_t)parts[i].size, room = (size + 7) & ~(size_t)7;
        put_part(entry, size, at, 0);
        if (size > 0)
            memcpy(out + at, parts[i].data, size);
        memset(out + at + size, 0, room - size);
        at += room;
    }
}

void joblot__body_write_held(unsigned char *out, const struct joblot_part *parts, size_t n_parts)
{
    joblot__store_le32(out, (uint32_t)n_parts);
    joblot__store_le32(out + 4, 0);
    for (size_t i = 0; i < n_parts; i++)
        put_part(out + JOBLOT__BODY_HEADER + i * JOBLOT__PART_SIZE, parts[i].size,
                 (uint64_t)(uintptr_t)parts[i].data, 0);
}

joblot_status joblot__body_parse(const unsigned char *body, size_t size, bool held, struct joblot__buffer *parts,
                                 size_t *n_parts, joblot_error *err)
{
    struct joblot__reader r;
    joblot__reader_init(&r, body, size);
    uint32_t n = joblot__reader_le32(&r);
    (void)joblot__reader_le32(&r);
    if (n > joblot__reader_left(&r) / JOBLOT__PART_SIZE)
        joblot__reader_fail(&r, JOBLOT_FORMAT, "more parts than the message can hold");
    parts->size = 0;
    struct joblot_arrived *out = NULL;
    if (r.status == JOBLOT_OK)
        out = (struct joblot_arrived *)(void *)joblot__buffer_extend(parts, n * sizeof *out);
    if (out == NULL && r.status == JOBLOT_OK)
        return joblot__fail_nomem(err, n * sizeof *out, "the parts of a message");
    for (uint32_t i = 0; i < n && r.status == JOBLOT_OK; i++) {
        out[i].size = joblot__reader_le64(&r);
        out[i].offset = joblot__reader_le64(&r);
        out[i].segment = joblot__reader_le32(&r);
        out[i].data = NULL;
        (void)joblot__reader_le32(&r);
        if (held || out[i].segment != 0)
            continue;
        if (out[i].offset > size || out[i].size > size - out[i].offset)
            joblot__reader_fail(&r, JOBLOT_FORMAT, "a part outside its message");
        else
            out[i].data = body + out[i].offset;
    }
    *n_parts = n;
    return joblot__reader_finish(&r, "message", err);
}
