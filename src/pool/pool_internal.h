/* pool/pool_internal.h - the parent's state, shared by pool.c, peer.c, call.c, event.c and death.c. */
#ifndef JOBLOT_POOL_POOL_INTERNAL_H
#define JOBLOT_POOL_POOL_INTERNAL_H

#include "message.h"

#include "../segment/segment.h"

#include "../os/lock.h"
#include "../os/os.h"

/* A task from submission to its event.  `record` is what goes into a ring, complete but for the sequence. */
struct joblot__task {
    struct joblot__task *next;
    uint64_t number, sequence;
    unsigned attempts; /* that ended with a death */
    size_t n_segments;
    joblot_segment **segments; /* borrowed; behind the record in the same block */
    size_t size;
    unsigned char record[];
};

struct joblot__queue {
    struct joblot__task *first, *last;
    size_t count;
};

enum joblot__peer_state { JOBLOT__STARTING, JOBLOT__RUNNING, JOBLOT__DEAD };

/* A segment that a worker was told of: borrowed while it may use it. */
struct joblot__told {
    joblot_segment *segment;
    bool kept; /* the worker maps it beyond the task that brought it */
};

/* A segment that a worker has handed over with its answer to task `sequence`; `id` is the worker's. */
struct joblot__handed {
    uint32_t id;
    uint64_t sequence;
    joblot_segment *segment;
};

/* The parent's end of a worker. */
struct joblot__peer {
    struct joblot__peer *next; /* in the pool */
    uint32_t id;
    int pid, pidfd, socket, bell, own_bell;
    struct joblot__channel *channel;
    size_t ring_size;
    struct joblot__ring down, up;
    /* guarded by the pool's lock */
    enum joblot__peer_state state;
    bool leased, asked; /* asked: the server was told to fork it */
    bool condemned;     /* killed as soon as its pidfd is there, and never leased */
    bool unborn;        /* the server could not fork it */
    bool leaving;       /* told to leave, or leaves by itself: it starts no task more, and is never leased again */
    int64_t leave_by;   /* of one that leaves: then it is killed */
    bool status_known;
    int server_died; /* the pid of its server, which went before it did; 0: it did not */
    struct joblot__exit how;
    /* the leasing call's */
    struct joblot__queue in_flight;
    uint64_t last_sequence, started_seen;
    struct joblot__told *told;
    size_t n_told, told_capacity;
    struct joblot__handed *handed;
    size_t n_handed, handed_capacity;
    uint32_t handed_seen; /* messages with such a segment that were received, or lost */
    size_t notes_sent;
    uint64_t kept_key;
    bool socket_full, hello, gone; /* gone: its pidfd has fired */
    int64_t verdict_by;            /* when it is gone: until then the server's report is waited for; 0: not begun */
    bool ring_full; /* what was to be sent did not fit when the worker had read up to full_at */
    uint64_t full_at;
    bool met;     /* its pid and pidfd are known to its call's thread */
    bool unmet;   /* a large answer of it waits in the ring until they are */
    bool garbled; /* it wrote what cannot be read: nothing more is read, and it is condemned */
    uint64_t n_revoked;     /* sequences of tasks that were taken back */
    uint64_t slow;          /* sequence of a task that turned out long: nothing is to wait behind it; 0: none */
    uint64_t doomed;        /* sequence of a task for which it was killed; 0: none */
    enum joblot_death_cause cause; /* of that */
    uint64_t seen;
    uint64_t cookie_address;
    unsigned char cookie[16];
    int readable; /* its memory: -1 not tried, 0 no, 1 yes */
};

struct joblot_pool {
    joblot__lock lock;
    struct joblot_pool_options options;
    const char **argv, **env; /* copies */
    size_t ring_size;
    int owner_pid;
    int n_processors;
    int server_pid, server_pidfd, server_socket; /* 0, -1, -1: none */
    bool preloaded;
    int execs; /* see joblot_pool_execs */
    unsigned unheard; /* messages of the server in a row that could not be received */
    uint32_t last_id;
    joblot_segment_cache *segments;
    struct joblot__idle_page *idle; /* shared with the server; NULL until there is something to share */
    int idle_fd;
    bool idle_told;
    uint32_t server_knows[JOBLOT__CACHE_SLOTS]; /* ids of the segments that the server has, by slot */
    struct joblot__peer *peers;
    size_t n_leased, n_asked; /* leased and not leaving; asked and not yet there */
    int64_t oom_kills, oom_read_at; /* the kernel's counter when it was read last, less those that were accounted for */
};

struct joblot__note {
    uint64_t key;
    bool keep;
    struct joblot__task *task; /* a record of type NOTE */
};

struct joblot_call {
    joblot_pool *pool;
    struct joblot_call_options options;
    unsigned char *preload;
    struct joblot__peer **peers;
    size_t n_peers, peers_capacity, next_peer; /* next_peer: whose ring is looked at first */
    size_t n_leaving;                          /* of the peers: they take no tasks, and are waited for */
    int64_t limits_at, memory_at;              /* when limits, and memory, are to be looked at next */
    char *crash;                               /* of the last death that was told */
    struct joblot__queue queued;
    uint64_t n_submitted;
    size_t pending;
    struct joblot__note *notes;
    size_t n_notes, notes_capacity;
    double average_ns; /* of a task's duration; < 0: none seen */
    struct joblot__poll *set;
    size_t set_size;
    unsigned early_deaths; /* the weight of workers in a row that died before they took a task */
    int dead_server;       /* pid of the last server whose death was weighed */
    unsigned since_look;   /* events since the last look at the pidfds */
    bool event_open;
    bool wide;          /* more workers than there are processors have tasks */
    int64_t widen_at;   /* when they shall, unless answers come; 0: not begun */
    uint64_t n_answers, answers_then; /* then: when widen_at was set */
    bool enough;     /* workers: starting one more failed, and none has died since */
    bool given_back; /* a death has put tasks back into the queue */
    struct joblot__buffer parts, sizes; /* of the open event's answer */
    joblot_segment *copied;             /* where the worker copies the answer, if it has to */
    bool copy_asked, copy_came;
};

#define JOBLOT__LEAVE_NS ((int64_t)5000000000) /* what a worker that leaves has for its exit handlers */

static inline size_t joblot__call_active(const joblot_call *call)
{
    return call->n_peers - call->n_leaving;
}

/* peer.c: one worker as the parent sees it */
joblot_status joblot__peer_new(joblot_pool *pool, struct joblot__peer **out, int worker_fds[4], joblot_error *err);
void joblot__peer_free(struct joblot__peer *peer);
void joblot__peer_wake(struct joblot__peer *peer, uint32_t least_reason);
/* Something did not fit into its ring, and it has read on since. */
bool joblot__peer_has_read(struct joblot__peer *peer);
/* Writes a task or note into its ring, its segments told.  *sent is false when there is no room now, in the ring or on
 * the socket: the worker will make some.  An error means that memory or descriptors are short. */
joblot_status joblot__peer_send(struct joblot__peer *peer, struct joblot__task *task, uint32_t type, bool *sent,
                                joblot_error *err);
/* Makes the worker forget segments that nobody else borrows; with `all` those that it does not keep. */
void joblot__peer_forget(struct joblot__peer *peer, bool all);
/* Takes a record that is no answer: HELLO, KEPT, RELEASED. */
void joblot__peer_take(struct joblot__peer *peer, uint32_t type, const unsigned char *record, size_t size);
/* Gives up what was handed over with answers up to that of task `sequence`, and was not taken. */
void joblot__peer_drop_handed(struct joblot__peer *peer, uint64_t sequence);

/* pool.c; with the lock held.  Where the pool has fork hooks the lock is given back around them. */
joblot_status joblot__pool_start_server(joblot_pool *pool, joblot_error *err);
joblot_status joblot__pool_ask(joblot_pool *pool, struct joblot__peer *peer, const int worker_fds[4], const void *preload,
                               size_t preload_size, joblot_error *err);
void joblot__pool_listen(joblot_pool *pool); /* reads what the server has to say, and sees whether it lives */
void joblot__pool_drop(joblot_pool *pool, struct joblot__peer *peer);
void joblot__pool_condemn(joblot_pool *pool, struct joblot__peer *peer);

/* idle.c; with the lock held: tells the server which segments are free, so that it may give them back */
void joblot__pool_share_idle(joblot_pool *pool);
void joblot__pool_forget_idle(joblot_pool *pool, bool inherited);

/* task.c */
joblot_status joblot__task_new(uint32_t kind, const struct joblot_part *parts, size_t n_parts, size_t ring_size,
                               const struct joblot_segment_options *where, struct joblot__task **out, joblot_error *err);
void joblot__task_free(struct joblot__task *task);
void joblot__queue_push(struct joblot__queue *q, struct joblot__task *task);
void joblot__queue_push_front(struct joblot__queue *q, struct joblot__task *task);
void joblot__queue_prepend(struct joblot__queue *q, struct joblot__queue *rest); /* in their order; rest is empty then */
struct joblot__task *joblot__queue_pop(struct joblot__queue *q);
void joblot__queue_clear(struct joblot__queue *q);

/* dispatch.c */
joblot_status joblot__call_dispatch(joblot_call *call, joblot_error *err);
/* The time at which tasks that wait are to go to more workers; INT64_MAX: nothing is waited for. */
int64_t joblot__call_widens_at(joblot_call *call);

/* limit.c.  The task that the worker runs now, and since when; 0: none.  A worker that has ended one and begun the next in
 * the midst of this look gives the old number with a later time, which is no harm. */
uint64_t joblot__peer_running(const struct joblot__peer *peer, int64_t *since);
/* A leased worker leaves in an orderly way; with the lock held. */
void joblot__call_retire(joblot_call *call, struct joblot__peer *peer);
void joblot__peer_say_exit(struct joblot__peer *peer);
/* Has it run as many tasks as a worker may? */
bool joblot__call_worn(const joblot_call *call, const struct joblot__peer *peer);
/* Looks at the limits of what runs.  The time of the next look that is worth a wake-up (INT64_MAX: none); with *again set
 * tasks have come back into the queue. */
int64_t joblot__call_enforce(joblot_call *call, bool *again);

/* balance.c: takes tasks back that wait behind a long one while a worker has nothing to do.  The time of the next look
 * (INT64_MAX: none); *again as above. */
int64_t joblot__call_balance(joblot_call *call, bool *again);

/* death.c: a leased worker whose pidfd has fired and whose ring has been read.  True when the event was filled in. */
void joblot__pool_count_oom(joblot_pool *pool); /* with the lock held */
bool joblot__call_bury(joblot_call *call, size_t index, struct joblot_event *event);
/* Has the server told how this worker, which is gone, ended, or has that been waited for long enough?  `next`, where not
 * NULL: set to the time at which that is so, when it is earlier. */
bool joblot__call_verdict(joblot_call *call, struct joblot__peer *peer, int64_t *next);

#endif
