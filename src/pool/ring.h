/* pool/ring.h - a byte ring between one writer and one reader, in two threads or two processes.
 *
 * Positions count bytes since the start and never wrap in practice (2^64); the ring is a power of two.  A record is a
 * header of 8 bytes (size of its payload, type) and its payload, padded to 8, never split: where the end of the ring
 * is too near, a PAD record fills it.  The writer reserves one record or several and commits them together; nothing is
 * visible to the reader before.  All words are little-endian whatever the machine. */
#ifndef JOBLOT_POOL_RING_H
#define JOBLOT_POOL_RING_H

#include "../base/endian.h"

#include <stddef.h>

/* The words that both sides share: one cache line each. */
struct joblot__ring_words {
    joblot__shared64 tail; /* written by the writer: committed up to here */
    unsigned char pad0[56];
    joblot__shared64 head; /* written by the reader: consumed up to here */
    unsigned char pad1[56];
};

/* One side's view.  Zero-initialised private memory, filled in by init. */
struct joblot__ring {
    struct joblot__ring_words *words;
    unsigned char *data;
    size_t size;
    uint64_t head, tail; /* own position exactly, the other's as last seen */
    uint64_t reserved;   /* writer: end of what was reserved and not yet committed */
    size_t open;         /* reader: bytes of the record that peek gave */
};

enum { JOBLOT__RING_PAD = 0, JOBLOT__RING_HEADER = 8 };

void joblot__ring_init(struct joblot__ring *ring, struct joblot__ring_words *words, void *data, size_t size);

/* Writer: room for a record, or NULL when it does not fit now.  type is not 0.  A record of up to half the ring, its
 * header included, fits once the ring is empty; a larger one never does. */
void *joblot__ring_reserve(struct joblot__ring *ring, uint32_t type, size_t size);
/* Writer: takes back what was reserved since the last commit. */
void joblot__ring_rollback(struct joblot__ring *ring);
/* Writer: publishes all that was reserved. */
void joblot__ring_commit(struct joblot__ring *ring);
/* Writer: bytes that are written and not consumed. */
size_t joblot__ring_used(struct joblot__ring *ring);

/* Reader: the next record's payload, or NULL when there is none, or when what is there cannot be a record (then
 * *broken is set: the other side wrote garbage). */
const void *joblot__ring_peek(struct joblot__ring *ring, uint32_t *type, size_t *size, bool *broken);
/* Reader: is there anything behind the record that peek gave? */
bool joblot__ring_has_more(struct joblot__ring *ring);
/* Reader: gives the record's room back. */
void joblot__ring_consume(struct joblot__ring *ring);

#endif
