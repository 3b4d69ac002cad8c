/* segment/cache.c - segments that are kept, warm, for the next use. */
#include "segment.h"

#include "../base/alloc.h"
#include "../base/error.h"
#include "../os/lock.h"
#include "../os/os.h"

#include <string.h>

/* Smaller segments are cheaper to make than to keep: a descriptor and a mapping in every process. */
static const uint64_t LEAST = 256 << 10;
enum { MOST_KEPT = 64 };

struct joblot_segment_cache {
    joblot__lock lock;
    joblot_segment *kept[MOST_KEPT]; /* each borrowed once by the cache */
    size_t n;
    uint64_t in_use_peak; /* bytes of kept segments in use at once, since the last trim */
};

joblot_status joblot_segment_cache_new(joblot_segment_cache **out, joblot_error *err)
{
    joblot_segment_cache *cache = joblot__calloc(1, sizeof *cache);
    if (cache == NULL)
        return joblot__fail_nomem(err, sizeof *cache, "a cache of segments");
    int rc = joblot__lock_init(&cache->lock);
    if (rc < 0) {
        joblot__free(cache);
        return joblot__fail_os(err, -rc, "the lock of a cache of segments");
    }
    *out = cache;
    return JOBLOT_OK;
}

static void drop(joblot_segment *segment)
{
    joblot__segment_set_cached(segment, 0);
    joblot_segment_release(segment);
}

void joblot_segment_cache_free(joblot_segment_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < cache->n; i++)
        drop(cache->kept[i]);
    joblot__lock_clear(&cache->lock);
    joblot__free(cache);
}

/* Nobody but the cache, and workers that were told of it, has it. */
static bool is_free(const joblot_segment *segment)
{
    return joblot_segment_others(segment) == 1;
}

static uint64_t bytes_in_use(const joblot_segment_cache *cache)
{
    uint64_t total = 0;
    for (size_t i = 0; i < cache->n; i++)
        if (!is_free(cache->kept[i]))
            total += joblot_segment_size(cache->kept[i]);
    return total;
}

/* The smallest free one that fits, and of which at least half is needed. */
static joblot_segment *find_free(joblot_segment_cache *cache, uint64_t size)
{
    joblot_segment *best = NULL;
    for (size_t i = 0; i < cache->n; i++) {
        joblot_segment *segment = cache->kept[i];
        uint64_t has = joblot_segment_size(segment);
        if (has >= size && has / 2 <= size && is_free(segment) && (best == NULL || has < joblot_segment_size(best)))
            best = segment;
    }
    return best;
}

static void note_use(joblot_segment_cache *cache)
{
    uint64_t now = bytes_in_use(cache);
    if (now > cache->in_use_peak)
        cache->in_use_peak = now;
}

joblot_status joblot_segment_cache_take(joblot_segment_cache *cache, uint64_t size,
                                        const struct joblot_segment_options *options, joblot_segment **out,
                                        joblot_error *err)
{
    bool keep = size >= LEAST && (options == NULL || options->folder == NULL);
    joblot_segment *found = NULL;
    joblot__lock_take(&cache->lock);
    if (keep)
        found = find_free(cache, size);
    if (found != NULL) {
        *out = joblot_segment_borrow(found);
        note_use(cache);
    }
    joblot__lock_give(&cache->lock);
    if (found != NULL) {
        joblot_status warm = joblot_segment_warm(found, err);
        if (warm != JOBLOT_OK)
            joblot_segment_release(found);
        return warm;
    }
    joblot_status status = joblot_segment_new(size, options, out, err);
    if (status != JOBLOT_OK || !keep || joblot_segment_is_file(*out))
        return status;
    joblot__lock_take(&cache->lock);
    if (cache->n < MOST_KEPT) {
        cache->kept[cache->n++] = joblot_segment_borrow(*out);
        joblot__segment_set_cached(*out, 1);
        note_use(cache);
    }
    joblot__lock_give(&cache->lock);
    return status;
}

uint64_t joblot_segment_cache_trim(joblot_segment_cache *cache)
{
    joblot_segment *dropped[MOST_KEPT];
    size_t n_dropped = 0, kept = 0;
    uint64_t free_bytes = 0;
    joblot__lock_take(&cache->lock);
    uint64_t limit = cache->in_use_peak;
    if (limit > (64u << 20)) {
        int64_t quarter = joblot__os_memory_available("") / 4;
        if (limit > (uint64_t)quarter)
            limit = (uint64_t)quarter;
    }
    /* The newest are kept: they are what the next call will want. */
    for (size_t i = cache->n; i-- > 0;) {
        joblot_segment *segment = cache->kept[i];
        uint64_t size = joblot_segment_size(segment);
        bool idle = is_free(segment);
        if (idle && free_bytes + size > limit) {
            dropped[n_dropped++] = segment;
            cache->kept[i] = NULL;
        } else if (idle) {
            free_bytes += size;
        }
    }
    for (size_t i = 0; i < cache->n; i++)
        if (cache->kept[i] != NULL)
            cache->kept[kept++] = cache->kept[i];
    cache->n = kept;
    cache->in_use_peak = bytes_in_use(cache);
    joblot__lock_give(&cache->lock);
    for (size_t i = 0; i < n_dropped; i++)
        drop(dropped[i]);
    return free_bytes;
}
