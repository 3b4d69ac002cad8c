/* segment/segment.h - what the cache tells a segment. */
#ifndef JOBLOT_SEGMENT_SEGMENT_H
#define JOBLOT_SEGMENT_SEGMENT_H

#include <joblot/segment.h>

void joblot__segment_set_cached(joblot_segment *segment, int cached);

#endif
