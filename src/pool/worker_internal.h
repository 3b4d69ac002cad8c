/* pool/worker_internal.h - the state of a worker process, shared by worker.c, reply.c and mapping.c. */
#ifndef JOBLOT_POOL_WORKER_INTERNAL_H
#define JOBLOT_POOL_WORKER_INTERNAL_H

#include "message.h"
#include "worker.h"

#include "../os/lock.h"

#include <stdatomic.h>

/* A segment that the parent has told us of. */
struct joblot__view;
struct joblot__known {
    uint32_t id;
    int fd;        /* ours; -1 once it was forgotten and is only mapped, or when it could not be received */
    int parent_fd; /* the number of the descriptor in the parent */
    uint64_t size;
    atomic_size_t mappings; /* released under another lock than ours (Python's), so atomic */
    atomic_size_t lent;     /* mappings that do not count for the parent: joblot_mapping_lend */
    bool kept;              /* the parent knows that we keep it */
    bool forgotten;
    joblot__lock lock;             /* of what follows */
    struct joblot__view *views;    /* mappings, in use and kept for later tasks */
    bool over;                     /* nothing is kept any more */
    struct joblot__known *next;
};

struct joblot_worker {
    const struct joblot_worker_hooks *hooks;
    struct joblot__worker_fds fds;
    int parent_pid;
    struct joblot__channel *channel;
    size_t ring_size;
    struct joblot__ring down, up;
    struct joblot__known *known;
    struct joblot__known *spare; /* for the next segment: made before its message is taken off the socket */
    bool deaf;                   /* there was no memory for that: the next sleep leaves the socket alone */
    size_t wanted;               /* room in the ring that an answer waits for */
    struct joblot__buffer parts; /* struct joblot_arrived of the running task */
    uint64_t sequence;           /* of the running task; 0: none */
    bool replied, leaving, lost; /* lost: the parent is gone, or out of reach */
    uint64_t identity;           /* of the socket */
    bool look;                   /* the last task took its time: it may have closed descriptors */
    int64_t started_at, last_bell, memory_seen, inherited;
    const struct joblot_part *held; /* the answer that waits to be taken */
    size_t n_held;
    unsigned char cookie[16];
};

/* The task's own part is over: what follows, a wait for room or for the parent, does not count as its running. */
static inline void joblot__worker_task_ended(joblot_worker *w)
{
    joblot__shared64_store(&w->channel->since, 0, memory_order_relaxed);
}

/* worker.c */
/* Sleeps until the parent rings, or something is on the socket, or for `reason`'s cause to go (checked by `done`). */
void joblot__worker_sleep(joblot_worker *w, uint32_t reason, bool (*done)(joblot_worker *w));
/* Reads one message from the socket; waits for it when `wait`. */
joblot_status joblot__worker_listen(joblot_worker *w, bool wait, joblot_error *err);
void *joblot__worker_reserve(joblot_worker *w, uint32_t type, size_t size); /* waits for room; NULL: parent gone */
void joblot__worker_ring(joblot_worker *w, bool must);
/* False, and lost, when a task has closed the descriptors of the engine: others may have their numbers now. */
bool joblot__worker_in_reach(joblot_worker *w);

/* mapping.c */
joblot_status joblot__known_reserve(joblot_worker *w, joblot_error *err); /* before a message is received */
void joblot__known_add(joblot_worker *w, uint32_t id, uint64_t size, int fd, int parent_fd); /* after it */
void joblot__known_forget(joblot_worker *w, uint32_t id);
void joblot__known_report(joblot_worker *w); /* KEPT and RELEASED records, reserved and not committed */

/* view.c: mappings, which later tasks use again */
int joblot__view_take(struct joblot__known *known, uint64_t offset, size_t size, int mode,
                      struct joblot__view **out); /* 0, or -errno */
unsigned char *joblot__view_base(const struct joblot__view *view);
/* No longer used: what was written to a private one is dropped, and it is kept, or unmapped. */
void joblot__view_give(struct joblot__known *known, struct joblot__view *view);
void joblot__view_end(struct joblot__known *known); /* unmaps what is kept, and keeps nothing from now on */

/* reply.c */
joblot_status joblot__reply_status(joblot_worker *w, joblot_status status, const char *message);
joblot_status joblot__reply_copy_out(joblot_worker *w, uint64_t sequence, int fd);

#endif
