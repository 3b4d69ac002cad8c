/* pool/idle.h - the server's part in giving free segments back. */
#ifndef JOBLOT_POOL_IDLE_H
#define JOBLOT_POOL_IDLE_H

#include "wire.h"

#include "../segment/segment.h"

/* Zero-initialised. */
struct joblot__idle {
    struct joblot__idle_page *page;
    struct {
        int fd; /* of the segment in that slot of the parent's cache, plus 1; 0: none */
        uint64_t size;
    } held[JOBLOT__CACHE_SLOTS];
    bool armed; /* there are free ones, and a time for them */
};

void joblot__idle_take(struct joblot__idle *idle, uint32_t slot, uint64_t size, int fd); /* an IDLE message; takes fd */
int64_t joblot__idle_timeout(struct joblot__idle *idle);                                 /* ns; < 0: never */
void joblot__idle_trim(struct joblot__idle *idle);                                       /* when its time has come */
void joblot__idle_clear(struct joblot__idle *idle);

#endif
