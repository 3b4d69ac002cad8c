/* pool/ring.c - the byte ring. */
#include "ring.h"

static size_t padded(size_t size)
{
    return (JOBLOT__RING_HEADER + size + 7) & ~(size_t)7;
}

void joblot__ring_init(struct joblot__ring *ring, struct joblot__ring_words *words, void *data, size_t size)
{
    memset(ring, 0, sizeof *ring);
    ring->words = words;
    ring->data = data;
    ring->size = size;
}

static bool has_room(struct joblot__ring *ring, size_t bytes)
{
    if (ring->reserved + bytes - ring->head <= ring->size)
        return true;
    ring->head = joblot__shared64_load(&ring->words->head, memory_order_acquire);
    return ring->reserved + bytes - ring->head <= ring->size;
}

static void put_header(struct joblot__ring *ring, uint32_t size, uint32_t type)
{
    unsigned char *at = ring->data + (ring->reserved & (ring->size - 1));
    joblot__store_le32(at, size);
    joblot__store_le32(at + 4, type);
}

void *joblot__ring_reserve(struct joblot__ring *ring, uint32_t type, size_t size)
{
    size_t need = padded(size);
    if (size > ring->size || need > ring->size / 2) /* with a PAD before it, it would fit at some places only */
        return NULL;
    size_t to_end = ring->size - (size_t)(ring->reserved & (ring->size - 1));
    if (need > to_end) { /* never split a record */
        if (!has_room(ring, to_end + need))
            return NULL;
        put_header(ring, (uint32_t)(to_end - JOBLOT__RING_HEADER), JOBLOT__RING_PAD);
        ring->reserved += to_end;
    } else if (!has_room(ring, need)) {
        return NULL;
    }
    put_header(ring, (uint32_t)size, type);
    unsigned char *at = ring->data + (ring->reserved & (ring->size - 1)) + JOBLOT__RING_HEADER;
    ring->reserved += need;
    return at;
}

void joblot__ring_rollback(struct joblot__ring *ring)
{
    ring->reserved = ring->tail;
}

void joblot__ring_commit(struct joblot__ring *ring)
{
    ring->tail = ring->reserved;
    joblot__shared64_store(&ring->words->tail, ring->tail, memory_order_release);
}

size_t joblot__ring_used(struct joblot__ring *ring)
{
    ring->head = joblot__shared64_load(&ring->words->head, memory_order_acquire);
    return (size_t)(ring->reserved - ring->head);
}

const void *joblot__ring_peek(struct joblot__ring *ring, uint32_t *type, size_t *size, bool *broken)
{
    *broken = false;
    for (;;) {
        if (ring->tail == ring->head) {
            ring->tail = joblot__shared64_load(&ring->words->tail, memory_order_acquire);
            if (ring->tail == ring->head)
                return NULL;
        }
        uint64_t left = ring->tail - ring->head;
        const unsigned char *at = ring->data + (ring->head & (ring->size - 1));
        size_t to_end = ring->size - (size_t)(ring->head & (ring->size - 1));
        if (left > ring->size || left < JOBLOT__RING_HEADER || (left & 7) != 0) {
            *broken = true;
            return NULL;
        }
        *size = joblot__load_le32(at);
        *type = joblot__load_le32(at + 4);
        size_t whole = padded(*size);
        if (whole > left || whole > to_end) {
            *broken = true;
            return NULL;
        }
        ring->open = whole;
        if (*type != JOBLOT__RING_PAD)
            return at + JOBLOT__RING_HEADER;
        joblot__ring_consume(ring);
    }
}

bool joblot__ring_has_more(struct joblot__ring *ring)
{
    if (ring->tail == ring->head + ring->open)
        ring->tail = joblot__shared64_load(&ring->words->tail, memory_order_acquire);
    return ring->tail != ring->head + ring->open;
}

void joblot__ring_consume(struct joblot__ring *ring)
{
    ring->head += ring->open;
    ring->open = 0;
    joblot__shared64_store(&ring->words->head, ring->head, memory_order_release);
}
