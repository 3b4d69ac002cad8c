/* segment/segment.h - what the cache tells a segment, and what the pool tells a cache. */
#ifndef JOBLOT_SEGMENT_SEGMENT_H
#define JOBLOT_SEGMENT_SEGMENT_H

#include <joblot/segment.h>

#include "../base/endian.h"

void joblot__segment_set_cached(joblot_segment *segment, int cached);
void joblot__segment_cool(joblot_segment *segment); /* its pages were given back: unmap it, and fill it as a fresh one */

/* Slots of a cache.  Each has a state word in memory that is shared with another process, the trimmer, which gives the
 * pages of segments back that nobody has used for a while:
 *
 *   BUSY   the owner's, in use or not
 *   FREE   the trimmer may take it: it swaps FREE for TRIM, gives the pages back, and stores COLD
 *   TRIM   the trimmer is at it: the owner passes over it
 *   COLD   no pages: the owner swaps COLD for BUSY and fills it as a fresh one
 *
 * The owner takes a free one by swapping FREE for BUSY, so a copy into it never meets the trimmer. */
enum { JOBLOT__CACHE_SLOTS = 64 };
enum { JOBLOT__BUSY = 0, JOBLOT__FREE = 1, JOBLOT__TRIM = 2, JOBLOT__COLD = 3 };

/* The state words, zeroed; they must outlive the cache.  Without this call nothing is ever trimmed. */
void joblot__cache_share(joblot_segment_cache *cache, joblot__shared32 *states);
/* Marks segments that nobody uses as FREE, as far as the trimmer knows them: known[slot] is the id of what it has there.
 * True when there was one. */
bool joblot__cache_set_free(joblot_segment_cache *cache, const uint32_t *known);
/* The segment in a slot, or NULL; for the owner, between two of its other calls. */
joblot_segment *joblot__cache_slot(joblot_segment_cache *cache, size_t slot);

#endif
