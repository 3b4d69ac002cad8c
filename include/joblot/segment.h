/* joblot/segment.h - memory that can be handed to another process without a copy.
 *
 * A segment is a memfd, sealed so that nobody can shrink it under a reader, or, where a folder was named, an unnamed
 * file in it.  It has no name anywhere: when the last process that holds it goes, however it goes, the kernel frees it.
 *
 * The process that makes a segment owns it.  It counts who borrows it there - a task, a call, a worker that still has
 * it mapped - and the segment is given up when the last borrower has released it.  Other processes only map it; they
 * never count, so their death needs no repair.
 *
 * Threads: borrow and release from any thread; the other calls by one thread per segment at a time.
 * Fork: a segment and its mapping stay with the parent (the mapping is not inherited), those made with `shared`
 * excepted: see joblot_segment_forked.
 */
#ifndef JOBLOT_SEGMENT_H
#define JOBLOT_SEGMENT_H

#include <joblot/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct joblot_segment joblot_segment;

/* Where a segment's memory comes from.  Zero-initialise it for the defaults. */
struct joblot_segment_options {
    const char *folder;          /* an unnamed file in this folder; NULL: memory (a memfd) */
    const char *fallback_folder; /* where memory would not hold it: a file here; NULL: an error then */
    int shared; /* memory that a program works in: its mapping is inherited over fork, and workers keep theirs until it
                 * is given up */
};

/* joblot_segment_new - make a segment of `size` bytes, all zero, borrowed once by the caller.
 *
 * The size is held against MemAvailable and every memory cgroup above this process first: pages of a memfd appear when
 * they are touched, so running out would be the OOM killer and not an error.  The blocks of a file are reserved here.
 *   size     bytes, at least 1
 *   options  may be NULL
 *   out      set on JOBLOT_OK; joblot_segment_release() it
 * Returns JOBLOT_OK, or INVALID | NOMEM (too large for memory, no folder to fall back on, or the folder is full; the
 * message names size and free space) | OS. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_segment_new(uint64_t size, const struct joblot_segment_options *options,
                                                            joblot_segment **out, joblot_error *err);

/* joblot_segment_adopt - make a segment of a descriptor that another process has handed over; as with `shared`.
 *   fd  taken over on JOBLOT_OK
 * Returns JOBLOT_OK, or INVALID (nothing is in it) | NOMEM | OS. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_segment_adopt(int fd, joblot_segment **out, joblot_error *err);

/* joblot_segment_forked - in a child that was forked: a `shared` segment is borrowed by the caller alone here, whoever
 * borrowed it in the parent.  The mapping and the descriptor are the child's own. */
JOBLOT_API void joblot_segment_forked(joblot_segment *segment);

/* joblot_segment_identity - a number of the memory itself, the same in every process that has it; 0: not known. */
JOBLOT_API uint64_t joblot_segment_identity(const joblot_segment *segment);

/* joblot_segment_borrow - one borrower more.  Returns the segment. */
JOBLOT_API joblot_segment *joblot_segment_borrow(joblot_segment *segment);

/* joblot_segment_release - one borrower less; the last one frees it.  NULL is fine. */
JOBLOT_API void joblot_segment_release(joblot_segment *segment);

/* joblot_segment_lend, _return - borrow and release on behalf of a process that was told of it.  Such a borrower needs
 * the segment only as long as somebody else does: see joblot_segment_wanted. */
JOBLOT_API joblot_segment *joblot_segment_lend(joblot_segment *segment);
JOBLOT_API void joblot_segment_return(joblot_segment *segment);

/* joblot_segment_wanted - 1 while anybody borrows it other than through joblot_segment_lend; _others - how many do.
 * joblot_segment_borrowers - how many borrow it now, in all. */
JOBLOT_API int joblot_segment_wanted(const joblot_segment *segment);
JOBLOT_API size_t joblot_segment_others(const joblot_segment *segment);
JOBLOT_API size_t joblot_segment_borrowers(const joblot_segment *segment);

/* joblot_segment_is_cached - 1 while a cache holds it (joblot_segment_cache_take), and for `shared` ones: workers keep
 * their mappings of it for the next call. */
JOBLOT_API int joblot_segment_is_cached(const joblot_segment *segment);

/* joblot_segment_id - a number that is unique in this process, never 0 and never reused. */
JOBLOT_API uint32_t joblot_segment_id(const joblot_segment *segment);

/* joblot_segment_size - its bytes. */
JOBLOT_API uint64_t joblot_segment_size(const joblot_segment *segment);

/* joblot_segment_fd - its descriptor, which stays the segment's own. */
JOBLOT_API int joblot_segment_fd(const joblot_segment *segment);

/* joblot_segment_is_file - 1 when it lies in a folder, 0 when in memory. */
JOBLOT_API int joblot_segment_is_file(const joblot_segment *segment);

/* joblot_segment_warm - map it here and make its pages present, so that the next write is a plain memcpy.
 * Returns JOBLOT_OK, or NOMEM | OS. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_segment_warm(joblot_segment *segment, joblot_error *err);

/* joblot_segment_data - where the segment is mapped here, shared and writable; mapped at the first call.
 * The address holds until the segment is freed.  Returns JOBLOT_OK, or NOMEM | OS. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_segment_data(joblot_segment *segment, void **out, joblot_error *err);

/* joblot_segment_write - copy `size` bytes into it.
 *
 * A segment that is mapped here is filled by memcpy; one that is not by pwrite, which fills fresh pages several times
 * faster than a fault for each of them.
 * Returns JOBLOT_OK, or INVALID (outside the segment) | NOMEM (no memory, or the folder's disk is full) | OS. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_segment_write(joblot_segment *segment, uint64_t offset, const void *data,
                                                              uint64_t size, joblot_error *err);

/* joblot_segment_cache - segments that are kept for the next use, with their mappings: warm memory.
 *
 * A copy into pages that are there and mapped is five to ten times faster than one into fresh ones.  The cache borrows
 * what it holds; a segment that nobody else wants is free to be taken.  Threads: any. */
typedef struct joblot_segment_cache joblot_segment_cache;

/* joblot_segment_cache_new - an empty cache.  Returns JOBLOT_OK (joblot_segment_cache_free it), or NOMEM. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_segment_cache_new(joblot_segment_cache **out, joblot_error *err);
/* joblot_segment_cache_free - give up what it holds; segments that others borrow live on.  NULL is fine. */
JOBLOT_API void joblot_segment_cache_free(joblot_segment_cache *cache);

/* joblot_segment_cache_take - a segment of at least `size` bytes, borrowed by the caller: a free one that fits, or a new
 * one.  What it holds is undefined.  Segments in a folder are always new and not kept.
 * Returns as joblot_segment_new. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_segment_cache_take(joblot_segment_cache *cache, uint64_t size,
                                                                   const struct joblot_segment_options *options,
                                                                   joblot_segment **out, joblot_error *err);

/* joblot_segment_cache_trim - give up free segments beyond what was in use at once since the last call of this, and
 * beyond a quarter of the memory that is available.  Returns the bytes that are still free. */
JOBLOT_API uint64_t joblot_segment_cache_trim(joblot_segment_cache *cache);

#ifdef __cplusplus
}
#endif
#endif
