/* base/buffer.c - the growing byte buffer. */
#include "buffer.h"

#include "alloc.h"
#include "checked.h"
#include "endian.h"

#include <stdarg.h>
#include <stdio.h>

void joblot__buffer_init(struct joblot__buffer *b)
{
    memset(b, 0, sizeof *b);
}

void joblot__buffer_clear(struct joblot__buffer *b)
{
    joblot__free(b->data);
    joblot__buffer_init(b);
}

static bool grow(struct joblot__buffer *b, size_t needed)
{
    size_t capacity = b->capacity < 64 ? 64 : b->capacity;
    while (capacity < needed) {
        if (!joblot__mul_size(capacity, 2, &capacity))
            capacity = needed;
    }
    unsigned char *data = joblot__realloc(b->data, capacity);
    if (data == NULL) {
        b->status = JOBLOT_NOMEM;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

unsigned char *joblot__buffer_extend(struct joblot__buffer *b, size_t size)
{
    size_t needed;
    if (b->status != JOBLOT_OK)
        return NULL;
    if (!joblot__add_size(b->size, size, &needed)) {
        b->status = JOBLOT_NOMEM;
        return NULL;
    }
    if ((needed > b->capacity || b->data == NULL) && !grow(b, needed))
        return NULL;
    unsigned char *at = b->data + b->size;
    b->size = needed;
    return at;
}

void joblot__buffer_append(struct joblot__buffer *b, const void *data, size_t size)
{
    unsigned char *at = joblot__buffer_extend(b, size);
    if (at != NULL && size != 0)
        memcpy(at, data, size);
}

void joblot__buffer_append_str(struct joblot__buffer *b, const char *text)
{
    joblot__buffer_append(b, text, strlen(text));
}

void joblot__buffer_printf(struct joblot__buffer *b, const char *fmt, ...)
{
    char small[256];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    if (n < 0) {
        b->status = b->status ? b->status : JOBLOT_INVALID;
        return;
    }
    if ((size_t)n < sizeof small) {
        joblot__buffer_append(b, small, (size_t)n);
        return;
    }
    char *at = (char *)joblot__buffer_extend(b, (size_t)n + 1); /* vsnprintf writes its zero as well */
    if (at == NULL)
        return;
    va_start(args, fmt);
    (void)vsnprintf(at, (size_t)n + 1, fmt, args);
    va_end(args);
    b->size--;
}

void joblot__buffer_u8(struct joblot__buffer *b, uint8_t v)
{
    joblot__buffer_append(b, &v, 1);
}

void joblot__buffer_le16(struct joblot__buffer *b, uint16_t v)
{
    unsigned char *at = joblot__buffer_extend(b, 2);
    if (at != NULL)
        joblot__store_le16(at, v);
}

void joblot__buffer_le32(struct joblot__buffer *b, uint32_t v)
{
    unsigned char *at = joblot__buffer_extend(b, 4);
    if (at != NULL)
        joblot__store_le32(at, v);
}

void joblot__buffer_le64(struct joblot__buffer *b, uint64_t v)
{
    unsigned char *at = joblot__buffer_extend(b, 8);
    if (at != NULL)
        joblot__store_le64(at, v);
}

void joblot__buffer_align(struct joblot__buffer *b, size_t to)
{
    size_t pad = (to - (b->size & (to - 1))) & (to - 1);
    unsigned char *at = joblot__buffer_extend(b, pad);
    if (at != NULL)
        memset(at, 0, pad);
}
