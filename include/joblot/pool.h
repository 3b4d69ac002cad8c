/* joblot/pool.h - run tasks in worker processes.
 *
 * THREE KINDS OF PROCESS. The parent is the program that opens the pool.  A server, one single-threaded process, forks
 * workers on request and reaps them; it is a fork of the parent (C programs) or an exec of a clean program (which then
 * calls joblot_server_run).  A worker runs one task at a time.  The parent owns everything that is shared, so any other
 * process may die at any instant: a worker's death costs one attempt at the one task that it was running.
 *
 * A TASK is opaque bytes in parts: each part lies in the message or in a segment.  The engine knows nothing of what they
 * mean.  `kind` picks the function that runs it, from the table that the workers were given.
 *
 * A CALL leases workers, takes tasks, and gives events back, one for each task.  One thread drives it: submit, next,
 * read, done, close.  Calls of several threads on one pool run side by side.
 *
 *     joblot_pool_open ... joblot_call_open
 *         joblot_call_submit (any number)
 *         joblot_call_next -> event;  joblot_event_read;  joblot_event_done
 *     joblot_call_close ... joblot_pool_close
 *
 * FORK. After a fork of the parent the pool belongs to the parent; the child calls joblot_pool_abandon and opens its own.
 * SIGNALS. No handler, mask or disposition of the parent is changed.  Waits end early when a signal comes.
 */
#ifndef JOBLOT_POOL_H
#define JOBLOT_POOL_H

#include <joblot/base.h>
#include <joblot/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------------------------ */
/* Messages                                                                                                            */

/* Most parts of a message. */
#define JOBLOT_MAX_PARTS 65536

/* A part to send.  With `segment` NULL it is the `size` bytes at `data`, copied when it is sent; else `size` bytes of
 * the segment from `offset` on, which are not copied. */
struct joblot_part {
    const void *data;
    uint64_t size;
    joblot_segment *segment;
    uint64_t offset;
};

/* A part that arrived at a worker.  `data` is set when it came in the message; else it lies in a segment: see
 * joblot_worker_map. */
struct joblot_arrived {
    const void *data; /* valid until the function returns */
    uint64_t size;
    uint32_t segment; /* 0: in the message */
    uint64_t offset;
};

/* A task, or a note, as a worker sees it. */
struct joblot_task {
    uint64_t sequence; /* of this worker: 1, 2, ... */
    uint32_t kind;
    uint32_t n_parts;
    const struct joblot_arrived *parts;
};

/* ------------------------------------------------------------------------------------------------------------------ */
/* The worker's side                                                                                                   */

typedef struct joblot_worker joblot_worker;
typedef struct joblot_mapping joblot_mapping;

/* A function that workers run.  It answers with joblot_worker_reply; when it returns another status than JOBLOT_OK
 * instead, the task's event carries that status and err's message. */
typedef joblot_status (*joblot_function)(joblot_worker *worker, const struct joblot_task *task, void *context,
                                         joblot_error *err);

/* What workers do.  Lives as long as the server. */
struct joblot_worker_hooks {
    const joblot_function *functions; /* functions[kind] runs a task of that kind */
    size_t n_functions;
    joblot_function start; /* optional: once in each worker, before its first task; task is NULL */
    joblot_function note;  /* optional: a note arrived (joblot_call_note); kind is its key's low half */
    joblot_function stop;  /* optional: the worker is about to leave; task is NULL */
    joblot_function forget; /* optional: the parent gives up the segment whose id is kind (joblot/share.h) */
    void *context;
};

/* joblot_worker_reply - answer the running task.  Called once per task.
 *
 * Up to a quarter of the ring (256 KiB) goes through it.  Of a larger answer the parent reads the parts straight out of this process, so this
 * call returns when it has done so: the bytes are borrowed until then.
 * Returns JOBLOT_OK, or INVALID | LIMIT | CANCELLED (nobody wants the answer any more; not an error for the caller). */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_worker_reply(joblot_worker *worker, const struct joblot_part *parts,
                                                             size_t n_parts, joblot_error *err);

/* How a range of a segment is mapped: shared and read-only; shared and writable; or private: writable, and what is
 * written stays in this process. */
enum joblot_map_mode { JOBLOT_MAP_READ = 0, JOBLOT_MAP_SHARED = 1, JOBLOT_MAP_PRIVATE = 2 };

/* joblot_worker_map - map a part that lies in a segment.
 *
 * The mapping may outlive the task: the parent reuses nothing that is mapped here.  Release it when the last user of the
 * memory is gone.
 *   part  one of the running task's parts, with segment != 0
 *   out   set on JOBLOT_OK; joblot_mapping_release() it
 * Returns JOBLOT_OK, or INVALID | NOMEM | OS. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_worker_map(joblot_worker *worker, const struct joblot_arrived *part,
                                                           enum joblot_map_mode mode, joblot_mapping **out,
                                                           joblot_error *err);

/* joblot_mapping_data, _size - the bytes of the part.  joblot_mapping_offset - where they lie in the segment.
 * joblot_mapping_fd - the segment's descriptor in the parent, by number (for /proc/<parent>/fd/<n>). */
JOBLOT_API void *joblot_mapping_data(const joblot_mapping *mapping);
JOBLOT_API uint64_t joblot_mapping_size(const joblot_mapping *mapping);
JOBLOT_API uint64_t joblot_mapping_offset(const joblot_mapping *mapping);
JOBLOT_API int joblot_mapping_parent_fd(const joblot_mapping *mapping);

/* joblot_mapping_release - unmap; NULL is fine.  By the worker's own thread (with Python: under the GIL). */
JOBLOT_API void joblot_mapping_release(joblot_mapping *mapping);

/* joblot_worker_parent_pid - the pid of the process that opened the pool. */
JOBLOT_API int joblot_worker_parent_pid(const joblot_worker *worker);

/* joblot_worker_crash_file - a descriptor for what this program writes when it crashes (a handler of SIGSEGV, for one): up
 * to 16 KB of text, which the parent gets with the death.  For the start hook, once; it stays open as long as the program.
 * Returns it, or -1 where there is none. */
JOBLOT_API int joblot_worker_crash_file(joblot_worker *worker);

/* joblot_worker_cancelled - 1 when the running task's answer is not wanted any more.  Cheap; for long tasks. */
JOBLOT_API int joblot_worker_cancelled(const joblot_worker *worker);

/* ------------------------------------------------------------------------------------------------------------------ */
/* The server's side (programs that are exec'd as a server)                                                            */

struct joblot_server_hooks {
    const struct joblot_worker_hooks *worker;
    void *context;
    /* All optional.  prepare: before the first fork that asks for it: load what workers will share (opaque bytes from
     * joblot_call_options.preload).  The others stand around each fork. */
    void (*prepare)(void *context, const void *preload, size_t size);
    void (*before_fork)(void *context);
    void (*after_fork_parent)(void *context);
    void (*after_fork_child)(void *context);
    /* A program that is exec'd as a worker where this process has more than one thread, or cannot count them: its
     * arguments, ended by NULL, to which two numbers are added for joblot_worker_run.  NULL: workers are forked all the
     * same, which is for programs that know that their threads hold no lock over a fork. */
    const char *const *worker_argv;
};

/* Around the fork of a server that is a fork of the caller, for programs that must know of it, as Python's.  They are
 * called with no lock of the engine held, by the thread that opens the pool, or that needs a server after the first one
 * has died.  after_child may use nothing of the pool. */
struct joblot_fork_hooks {
    void *context;
    int (*before)(void *context);
    void (*after_parent)(void *context, int before); /* before: what that returned */
    void (*after_child)(void *context, int before);
};

enum { JOBLOT_ROLE_SERVER = 0, JOBLOT_ROLE_WORKER = 1 };

/* joblot_server_run - serve until the parent closes the pool or is gone.
 *
 * Returns twice or more, like fork: in the server with *role JOBLOT_ROLE_SERVER when all is over, and in each worker
 * with JOBLOT_ROLE_WORKER after its last task, so that both leave in their program's own way.
 *   socket, parent_pidfd  the descriptors that the parent passed, 3 and 4 (JOBLOT_SERVER_SOCKET, JOBLOT_SERVER_PIDFD)
 * Returns JOBLOT_OK, or NOMEM | OS | FORMAT. */
#define JOBLOT_SERVER_SOCKET 3
#define JOBLOT_SERVER_PIDFD 4
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_server_run(int socket, int parent_pidfd,
                                                           const struct joblot_server_hooks *hooks, int *role,
                                                           joblot_error *err);

/* joblot_worker_run - in a program that was exec'd as a worker: serve until the parent says to leave, or is gone.
 *   server_pid, parent_pid  the last two arguments of the program, as numbers
 * Returns JOBLOT_OK, or NOMEM | OS | FORMAT. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_worker_run(const struct joblot_worker_hooks *hooks, int server_pid,
                                                           int parent_pid, joblot_error *err);

/* ------------------------------------------------------------------------------------------------------------------ */
/* The parent's side                                                                                                   */

typedef struct joblot_pool joblot_pool;
typedef struct joblot_call joblot_call;

/* How a pool's server comes to be.  Zero-initialise it. */
struct joblot_pool_options {
    /* A server that is a fork of the caller, made by joblot_pool_open: what its workers do.  Used when server_argv is
     * NULL.  The caller's stdio is flushed first; call it before there are threads. */
    const struct joblot_worker_hooks *hooks;
    /* The same for a program that must know of forks: server->worker is what workers do.  They live as long as the pool,
     * and in the server as long as that.  The functions around the server's own fork are optional. */
    const struct joblot_server_hooks *server;
    const struct joblot_fork_hooks *fork;
    /* A server that is exec'd, when the first worker is needed: its arguments and environment, ended by NULL, copied. */
    const char *const *server_argv;
    const char *const *server_env; /* NULL: the caller's at that time */
    size_t ring_size;              /* bytes of each ring, a power of two from 4 KiB to 64 MiB; 0: 1 MiB */
};

/* joblot_pool_open - open a pool.  No worker is started yet.
 * Returns JOBLOT_OK (joblot_pool_close it), or INVALID | NOMEM | OS. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_pool_open(const struct joblot_pool_options *options, joblot_pool **out,
                                                          joblot_error *err);

/* joblot_pool_close - end the workers and the server, in an orderly way within `grace_ns`, then by SIGKILL.
 * Every call on it must be closed.  NULL is fine. */
JOBLOT_API void joblot_pool_close(joblot_pool *pool, int64_t grace_ns);

/* joblot_pool_abandon - in a forked child: forget a pool that is the parent's.  Closes the descriptors that were
 * inherited and tells nobody.  Open calls of it are forgotten as well.  NULL is fine. */
JOBLOT_API void joblot_pool_abandon(joblot_pool *pool);

/* joblot_pool_server_pid - pid of the server, 0 when none runs.  joblot_pool_workers - pids of the workers that are
 * alive: up to `capacity` of them in `pids`; returns how many there are. */
JOBLOT_API int joblot_pool_server_pid(joblot_pool *pool);
JOBLOT_API size_t joblot_pool_workers(joblot_pool *pool, int *pids, size_t capacity);

/* joblot_pool_execs - how workers are started: 0, by fork, as far as is known; the number of threads of the server, or
 * -errno where it could not count them: by exec, since then (see joblot_server_hooks.worker_argv). */
JOBLOT_API int joblot_pool_execs(joblot_pool *pool);

/* joblot_pool_leased - workers that calls hold now. */
JOBLOT_API size_t joblot_pool_leased(joblot_pool *pool);

struct joblot_call_options {
    size_t n_workers;      /* how many to lease, at least 1; above the number of cores too */
    unsigned retries;      /* attempts after the first that a task may have when its worker dies */
    size_t batch;          /* tasks handed to a worker at a time; 0: as many as take a few milliseconds */
    const void *preload;   /* for the server's prepare hook, once per server; may be NULL */
    size_t preload_size;
    const char *folder;          /* for segments that the engine makes: see joblot_segment_options */
    const char *fallback_folder;
    /* Limits; 0: none.  A worker that a task takes over one is killed with its process group, and only that task is lost:
     * its event is a DIED whose cause says which limit, and it is not tried again.  Tasks that waited behind it in the
     * same worker run elsewhere. */
    int64_t task_timeout_ns; /* of one task's running, from its start in the worker to its answer */
    uint64_t memory_limit;   /* bytes of a worker's own memory (anonymous and swapped, not what it maps of segments and
                                files, nor what it was forked with), looked at every 30 ms while tasks run, and after each task: a worker that holds
                                more between two tasks is replaced */
    uint64_t max_tasks;      /* tasks of a worker's life, earlier calls' included: then it leaves in an orderly way */
    int64_t idle_timeout_ns; /* a worker that has had nothing to do for so long leaves */
};

/* joblot_call_open - open a call.  Workers are leased, and started, when tasks need them.
 * A call that overlaps with others on the pool leases max(1, n_workers - leased by others), more as they end.
 * Returns JOBLOT_OK (joblot_call_close it), or INVALID | NOMEM | UNSUPPORTED (memory_limit where there is no /proc). */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_call_open(joblot_pool *pool, const struct joblot_call_options *options,
                                                          joblot_call **out, joblot_error *err);

/* joblot_call_preload - as the option of that name, for a caller that knows it only from its first tasks: what is said
 * before the first joblot_call_next counts.  Returns JOBLOT_OK, or INVALID (too long) | NOMEM. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_call_preload(joblot_call *call, const void *preload, size_t size,
                                                             joblot_error *err);

/* joblot_call_note - bytes that every worker of the call gets before the next task submitted after them.
 *   key  not 0 with `keep`: a worker that got a note with this very key last among the kept ones does not get it again,
 *        in later calls neither (settings).  The note function sees the key's low 32 bits as kind.
 * Returns JOBLOT_OK, or NOMEM | LIMIT. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_call_note(joblot_call *call, uint64_t key, int keep, const void *data,
                                                          size_t size, joblot_error *err);

/* joblot_call_segment - a segment of at least `size` bytes for data of this call: warm memory of an earlier call where
 * there is some (what it holds is undefined), else new.  Borrowed by the caller, who releases it when the tasks that use
 * it have been submitted.  Returns as joblot_segment_new. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_call_segment(joblot_call *call, uint64_t size, joblot_segment **out,
                                                             joblot_error *err);

/* joblot_call_submit - queue a task.  Nothing is waited for.
 *
 * Bytes are copied; segments are borrowed until the task is done.  Tasks are numbered 0, 1, ... in the order of
 * submission.  A message over a quarter of the ring is put into a segment.
 * Returns JOBLOT_OK, or INVALID | LIMIT | NOMEM | OS; after an error the task does not exist and has no number. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_call_submit(joblot_call *call, uint32_t kind,
                                                            const struct joblot_part *parts, size_t n_parts,
                                                            joblot_error *err);

/* joblot_call_skip - leave a number out: the next task gets the one after it.  For a caller whose tasks have numbers of
 * their own, and that could not submit one of them. */
JOBLOT_API void joblot_call_skip(joblot_call *call);

/* Why a worker died. */
enum joblot_death_cause {
    JOBLOT_DEATH_OTHER = 0, /* see signal and exit_code */
    JOBLOT_DEATH_TIMEOUT,   /* killed by us: its task ran for longer than task_timeout_ns */
    JOBLOT_DEATH_MEMORY     /* killed by us: it held more than memory_limit while its task ran */
};

/* How a worker died. */
struct joblot_death {
    int pid;
    int status_known;     /* 0: the server died, and with it the knowledge */
    int signal;           /* that ended it, or 0 */
    int exit_code;        /* or -1 */
    uint64_t peak_memory; /* bytes; 0: not known */
    unsigned attempts;    /* that the task has had, this one included */
    int server_died;      /* the worker went because the server did */
    enum joblot_death_cause cause;
    uint64_t seen;        /* of TIMEOUT: ns that the task ran; of MEMORY: bytes that the worker held */
    int oom_likely;       /* killed by the kernel because memory ran out: 1, 0, or -1 where nothing tells */
    const char *crash;    /* text that the worker's program wrote when it crashed (joblot_worker_crash_file), or NULL */
};

enum joblot_event_kind {
    JOBLOT_EVENT_NONE = 0, /* the timeout passed, or a signal came */
    JOBLOT_EVENT_RESULT,   /* a task ended; status tells how */
    JOBLOT_EVENT_DIED,     /* a task's last attempt ended with its worker's death */
    JOBLOT_EVENT_IDLE      /* no task is queued or running */
};

/* What happened.  Caller's storage; its pointers hold until joblot_event_done. */
struct joblot_event {
    enum joblot_event_kind kind;
    uint64_t number;       /* the task's */
    joblot_status status;  /* of a RESULT: JOBLOT_OK, or the status that the function returned; of a DIED: WORKER_DIED,
                              or by its cause TIMEOUT or LIMIT */
    const char *message;   /* of a RESULT that is not OK: the function's message */
    uint64_t duration_ns;  /* that the function took */
    size_t n_parts;        /* of the answer */
    const uint64_t *sizes; /* bytes of each part */
    struct joblot_death death;
    void *internal[2];
};

/* joblot_call_next - wait for something to happen.
 *   timeout_ns  < 0: for good; 0: look, and do not wait
 * Returns JOBLOT_OK, or OS | NOMEM | WORKER_DIED (workers die before they take a task: nothing can run here). */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_call_next(joblot_call *call, int64_t timeout_ns,
                                                          struct joblot_event *event, joblot_error *err);

/* joblot_event_data - part of an answer that came through the ring, where it lies; NULL when it must be read. */
JOBLOT_API const void *joblot_event_data(const joblot_call *call, const struct joblot_event *event, size_t part);

/* joblot_event_read - copy a part of the answer to `out` (room for sizes[part] bytes): one copy, straight out of the
 * worker where the kernel permits it.
 * Returns JOBLOT_OK, or WORKER_DIED: the worker died under the reader, what was read is worthless, the event is over
 * (call joblot_event_done) and the task is tried again or comes back as DIED | CANCELLED: a signal came while it was
 * waited for, look at it and call this again, or joblot_event_done | NOMEM | OS. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_event_read(joblot_call *call, struct joblot_event *event, size_t part,
                                                           void *out, joblot_error *err);

/* joblot_event_done - the answer was taken: its worker goes on.  Once per event, before the next joblot_call_next. */
JOBLOT_API void joblot_event_done(joblot_call *call, struct joblot_event *event);

/* joblot_call_settle - where memory for a segment was short: wait, for 20 ms at most, until workers that have no task have
 * given up the segments of those that they had. */
JOBLOT_API void joblot_call_settle(joblot_call *call);

/* joblot_call_pending - tasks that were submitted and have not had their event. */
JOBLOT_API size_t joblot_call_pending(const joblot_call *call);

/* joblot_call_batch - tasks that go to a worker at a time now (with batch 0 it grows while tasks are quick). */
JOBLOT_API size_t joblot_call_batch(const joblot_call *call);

/* joblot_call_close - release the workers.  Tasks that have not had their event are cancelled: those queued are dropped;
 * workers that still run one 100 ms later are killed with their process groups.  NULL is fine. */
JOBLOT_API void joblot_call_close(joblot_call *call);

/* joblot_clock - a monotonic time in ns. */
JOBLOT_API int64_t joblot_clock(void);

/* joblot_cpu_count - processors that this process may use: online, affinity, cgroup quotas of v1 and v2 at every level
 * (rounded up), LOKY_MAX_CPU_COUNT; at least 1. */
JOBLOT_API int joblot_cpu_count(void);

#ifdef __cplusplus
}
#endif
#endif
