/* segment/cache.c - segments that are kept, warm, for the next use. */
#include "segment.h"

#include "../base/alloc.h"
#include "../base/error.h"
#include "../os/lock.h"
#include "../os/os.h"

#include <string.h>

/* Smaller segments are cheaper to make than to keep: a descriptor and a mapping in every process. */
static const uint64_t LEAST = 256 << 10;

struct joblot_segment_cache {
    joblot__lock lock;
    joblot_segment *kept[JOBLOT__CACHE_SLOTS]; /* each borrowed once by the cache; NULL: no segment */
    uint64_t used_at[JOBLOT__CACHE_SLOTS];     /* by the count of takes */
    uint64_t takes;
    joblot__shared32 *states; /* NULL: all BUSY */
    uint64_t in_use_peak;     /* bytes of kept segments in use at once, since the last trim */
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
    if (segment == NULL)
        return;
    joblot__segment_set_cached(segment, 0);
    joblot_segment_release(segment);
}

void joblot_segment_cache_free(joblot_segment_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < JOBLOT__CACHE_SLOTS; i++)
        drop(cache->kept[i]);
    joblot__lock_clear(&cache->lock);
    joblot__free(cache);
}

void joblot__cache_share(joblot_segment_cache *cache, joblot__shared32 *states)
{
    cache->states = states;
}

joblot_segment *joblot__cache_slot(joblot_segment_cache *cache, size_t slot)
{
    return cache->kept[slot];
}

/* Nobody but the cache, and workers that were told of it, has it. */
static bool is_free(const joblot_segment *segment)
{
    return segment != NULL && joblot_segment_others(segment) == 1;
}

bool joblot__cache_set_free(joblot_segment_cache *cache, const uint32_t *known)
{
    bool any = false;
    joblot__lock_take(&cache->lock);
    for (size_t i = 0; cache->states != NULL && i < JOBLOT__CACHE_SLOTS; i++)
        if (is_free(cache->kept[i]) && joblot_segment_id(cache->kept[i]) == known[i])
            any |= joblot__shared32_cas(&cache->states[i], JOBLOT__BUSY, JOBLOT__FREE);
    joblot__lock_give(&cache->lock);
    return any;
}

/* Makes a slot ours again; false while the trimmer is at it. *cold: its pages are gone. */
static bool claim(joblot_segment_cache *cache, size_t slot, bool *cold)
{
    *cold = false;
    if (cache->states == NULL || joblot__shared32_load(&cache->states[slot], memory_order_acquire) == JOBLOT__BUSY)
        return true;
    if (joblot__shared32_cas(&cache->states[slot], JOBLOT__FREE, JOBLOT__BUSY))
        return true;
    *cold = joblot__shared32_cas(&cache->states[slot], JOBLOT__COLD, JOBLOT__BUSY);
    return *cold;
}

static uint64_t bytes_in_use(const joblot_segment_cache *cache)
{
    uint64_t total = 0;
    for (size_t i = 0; i < JOBLOT__CACHE_SLOTS; i++)
        if (cache->kept[i] != NULL && !is_free(cache->kept[i]))
            total += joblot_segment_size(cache->kept[i]);
    return total;
}

/* The smallest free one that fits, and of which at least half is needed, made ours; NULL when there is none. */
static joblot_segment *take_free(joblot_segment_cache *cache, uint64_t size, bool *cold)
{
    bool passed_over[JOBLOT__CACHE_SLOTS] = {false};
    for (;;) {
        size_t best = JOBLOT__CACHE_SLOTS;
        for (size_t i = 0; i < JOBLOT__CACHE_SLOTS; i++) {
            joblot_segment *segment = cache->kept[i];
            if (passed_over[i] || !is_free(segment))
                continue;
            uint64_t has = joblot_segment_size(segment);
            if (has >= size && has / 2 <= size &&
                (best == JOBLOT__CACHE_SLOTS || has < joblot_segment_size(cache->kept[best])))
                best = i;
        }
        if (best == JOBLOT__CACHE_SLOTS)
            return NULL;
        if (claim(cache, best, cold)) {
            if (*cold)
                joblot__segment_cool(cache->kept[best]);
            cache->used_at[best] = ++cache->takes;
            return joblot_segment_borrow(cache->kept[best]);
        }
        passed_over[best] = true;
    }
}

static void note_use(joblot_segment_cache *cache)
{
    uint64_t now = bytes_in_use(cache);
    if (now > cache->in_use_peak)
        cache->in_use_peak = now;
}

/* Keeps a new segment, where a slot is empty that the trimmer has nothing to do with. */
static void keep(joblot_segment_cache *cache, joblot_segment *segment)
{
    for (size_t i = 0; i < JOBLOT__CACHE_SLOTS; i++) {
        bool cold;
        if (cache->kept[i] != NULL || !claim(cache, i, &cold))
            continue;
        cache->kept[i] = joblot_segment_borrow(segment);
        cache->used_at[i] = ++cache->takes;
        joblot__segment_set_cached(segment, 1);
        note_use(cache);
        return;
    }
}

joblot_status joblot_segment_cache_take(joblot_segment_cache *cache, uint64_t size,
                                        const struct joblot_segment_options *options, joblot_segment **out,
                                        joblot_error *err)
{
    bool keeps = size >= LEAST && (options == NULL || options->folder == NULL);
    joblot_segment *found = NULL;
    bool cold = false;
    joblot__lock_take(&cache->lock);
    if (keeps)
        found = take_free(cache, size, &cold);
    if (found != NULL)
        note_use(cache);
    joblot__lock_give(&cache->lock);
    joblot_status status = JOBLOT_OK;
    if (found != NULL) {
        if (!cold) /* into a cold one the first write is as into a fresh one, and this comes with the second */
            status = joblot_segment_warm(found, err);
        if (status != JOBLOT_OK)
            joblot_segment_release(found);
        else
            *out = found;
        return status;
    }
    status = joblot_segment_new(size, options, out, err);
    if (status != JOBLOT_OK || !keeps || joblot_segment_is_file(*out))
        return status;
    joblot__lock_take(&cache->lock);
    keep(cache, *out);
    joblot__lock_give(&cache->lock);
    return status;
}

/* What may stay free: what was in use at once, and no more than a quarter of the memory that there is. */
static uint64_t limit_of(const joblot_segment_cache *cache)
{
    uint64_t limit = cache->in_use_peak;
    if (limit > (64u << 20)) {
        uint64_t quarter = (uint64_t)joblot__os_memory_available("") / 4;
        limit = limit > quarter ? quarter : limit;
    }
    return limit;
}

/* The free slot that was used last, among those not yet looked at. */
static size_t newest(const joblot_segment_cache *cache, const bool *seen)
{
    size_t best = JOBLOT__CACHE_SLOTS;
    for (size_t i = 0; i < JOBLOT__CACHE_SLOTS; i++)
        if (!seen[i] && is_free(cache->kept[i]) &&
            (best == JOBLOT__CACHE_SLOTS || cache->used_at[i] > cache->used_at[best]))
            best = i;
    return best;
}

uint64_t joblot_segment_cache_trim(joblot_segment_cache *cache)
{
    joblot_segment *dropped[JOBLOT__CACHE_SLOTS] = {NULL};
    bool seen[JOBLOT__CACHE_SLOTS] = {false}, cold;
    uint64_t free_bytes = 0;
    joblot__lock_take(&cache->lock);
    uint64_t limit = limit_of(cache);
    for (size_t i = newest(cache, seen); i < JOBLOT__CACHE_SLOTS; i = newest(cache, seen)) {
        uint64_t size = joblot_segment_size(cache->kept[i]);
        seen[i] = true;
        if (free_bytes + size > limit && claim(cache, i, &cold)) {
            dropped[i] = cache->kept[i];
            cache->kept[i] = NULL;
        } else {
            free_bytes += size;
        }
    }
    cache->in_use_peak = bytes_in_use(cache);
    joblot__lock_give(&cache->lock);
    for (size_t i = 0; i < JOBLOT__CACHE_SLOTS; i++)
        drop(dropped[i]);
    return free_bytes;
}
