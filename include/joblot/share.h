/* joblot/share.h - segments that programs work in: memory that parent and workers have at the same time.
 *
 * An ordinary segment brings a copy of something to workers and is filled again when they are done.  One that is made
 * with `shared` (see joblot_segment_options) is the thing itself: it is never reused, any process that was told of it may
 * read and write it, and it lives as long as one of them has it mapped.
 *
 * FROM PARENT TO WORKER it goes as a part of a task, like any segment; the worker maps it with JOBLOT_MAP_SHARED.
 * FROM WORKER TO PARENT there are two ways.  A segment that the parent told of is named by its id
 * (joblot_mapping_segment), and joblot_event_segment finds it.  One that the worker made itself is handed over: its
 * descriptor goes over the worker's socket before the answer (joblot_worker_hand_over), and joblot_event_handed takes it.
 * A descriptor may fail to arrive, where files are short; so the answer has to hold the bytes as well, and the parent
 * reads them then.  A worker that dies after that costs nothing: what it handed over is the parent's.
 */
#ifndef JOBLOT_SHARE_H
#define JOBLOT_SHARE_H

#include <joblot/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the worker's side ---- */

/* joblot_worker_hand_over - give the parent a segment of this process, with the answer that follows.
 *
 * Called while a task runs, before joblot_worker_reply.  Nothing is waited for.
 * Returns JOBLOT_OK, or INVALID | LIMIT (no room on the socket, or too many descriptors on their way) | OS | CANCELLED (the
 * parent is gone): then the segment is not handed over, and nothing else has changed. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_worker_hand_over(joblot_worker *worker, joblot_segment *segment,
                                                                 joblot_error *err);

/* joblot_mapping_segment - the parent's id of the segment.  joblot_mapping_identity - as joblot_segment_identity. */
JOBLOT_API uint32_t joblot_mapping_segment(const joblot_mapping *mapping);
JOBLOT_API uint64_t joblot_mapping_identity(const joblot_mapping *mapping);

/* joblot_mapping_adopt - a segment of this process with the memory of one that is mapped, to be lent to workers of its own.
 * Returns JOBLOT_OK (joblot_segment_release it), or NOMEM | OS (out of descriptors, or the parent has had it forgotten). */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_mapping_adopt(const joblot_mapping *mapping, joblot_segment **out,
                                                              joblot_error *err);

/* joblot_mapping_is_kept - 1 when the parent was told that the segment is mapped beyond the task that brought it. */
JOBLOT_API int joblot_mapping_is_kept(const joblot_mapping *mapping);

/* joblot_mapping_lend - this mapping does not keep the parent from giving the segment up.
 *
 * For what is kept as long as the parent wants it to be: see `forget` in joblot_worker_hooks.  The memory stays valid until
 * joblot_mapping_release all the same. */
JOBLOT_API void joblot_mapping_lend(joblot_mapping *mapping);

/* ---- the parent's side ---- */

/* joblot_event_segment - a segment that the worker which answered was told of, by its id; NULL when there is none.
 * joblot_event_handed - one that it handed over with this answer, by the id that it has in the worker; NULL when it did
 * not arrive.  Both are borrowed by the event: borrow them before joblot_event_done. */
JOBLOT_API joblot_segment *joblot_event_segment(const joblot_call *call, const struct joblot_event *event, uint32_t id);
JOBLOT_API joblot_segment *joblot_event_handed(joblot_call *call, const struct joblot_event *event, uint32_t id);

/* joblot_pool_forget - have workers that no call uses give up segments that nobody wants any more.
 *
 * Calls do so by themselves; this is for a segment that is released between two calls.  Takes the pool's lock for a moment.
 * Threads: any. */
JOBLOT_API void joblot_pool_forget(joblot_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
