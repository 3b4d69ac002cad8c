/* pool/call_internal.h - what call.c and event.c share. */
#ifndef JOBLOT_POOL_CALL_INTERNAL_H
#define JOBLOT_POOL_CALL_INTERNAL_H

#include "pool_internal.h"

/* call.c: the next ANSWER or COPIED record of a worker, others having been taken; not consumed. */
const unsigned char *joblot__call_read(joblot_call *call, struct joblot__peer *peer, uint32_t *type, size_t *size);
/* call.c: a worker that wrote what cannot be read is killed, and nothing more is read from it. */
void joblot__call_condemn(joblot_call *call, struct joblot__peer *peer);
/* call.c: sleeps until a worker rings or dies, the server speaks, a signal comes or the time is over. */
joblot_status joblot__call_sleep(joblot_call *call, int64_t timeout_ns, bool *interrupted, joblot_error *err);

/* event.c: makes an event of an ANSWER record, which stays in the ring until joblot_event_done. */
joblot_status joblot__event_fill(joblot_call *call, struct joblot__peer *peer, const unsigned char *record, size_t size,
                                 struct joblot_event *event, joblot_error *err);

#endif
