/* pool/server.c - the server: forks workers on request, reaps them, and tells the parent how they died. */
#include "idle.h"
#include "worker.h"

#include "../base/alloc.h"
#include "../base/error.h"
#include "../os/os.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SIGKILL_NUMBER = 9 };
enum { NOTHING = 0, REPORT_SPAWNED, REPORT_FAILED, REPORT_DIED };

/* A worker of this server. */
struct child {
    uint32_t id;
    int pid, pidfd;
    int error;          /* of a fork that failed */
    bool spawned, died; /* reports that the parent has not got yet */
    bool reaped;
    struct joblot__exit how;
    struct child *next;
};

struct server {
    int socket, parent_pidfd, pid;
    const struct joblot_server_hooks *hooks;
    struct child *children;
    size_t n_children;
    bool prepared, closing, parent_gone;
    int execs;      /* why workers are exec'd: number of threads, or -errno; 0: they are not */
    bool execs_said;
    int64_t deadline; /* when closing */
    struct joblot__poll *set;
    size_t set_size;
    struct joblot__idle idle;
};

static const int64_t DEFAULT_GRACE = 500000000; /* for a parent that went without a word */

/* ---- reports ---- */

static bool send_report(struct server *s, struct child *c, uint32_t type, uint64_t a, uint64_t b, int fd)
{
    struct joblot__server_message m = {{0}, {0}, {0}, {0}};
    joblot__store_le32(m.type, type);
    joblot__store_le32(m.worker, c->id);
    joblot__store_le64(m.a, a);
    joblot__store_le64(m.b, b);
    int rc = joblot__os_send(s->socket, &m, sizeof m, &fd, fd >= 0);
    return rc != -EAGAIN && rc != -ENOBUFS && rc != -ETOOMANYREFS; /* a parent that is gone wants no report */
}

static bool report(struct server *s, struct child *c)
{
    if (c->error != 0)
        return send_report(s, c, JOBLOT__FAILED, (uint64_t)c->error, 0, -1);
    if (c->spawned) {
        if (!send_report(s, c, JOBLOT__SPAWNED, (uint64_t)c->pid, 0, c->pidfd))
            return false;
        c->spawned = false;
        joblot__os_point("server:birth-told");
    }
    if (c->died && !send_report(s, c, JOBLOT__DIED, (uint64_t)(uint32_t)c->how.status, c->how.peak_memory, -1))
        return false;
    if (c->died)
        joblot__os_point("server:death-told");
    return true;
}

/* That workers are exec'd, and why; once. */
static bool report_execs(struct server *s)
{
    struct child nobody = {.id = 0};
    if (s->execs != 0 && !s->execs_said)
        s->execs_said = send_report(s, &nobody, JOBLOT__EXECS, (uint64_t)(int64_t)s->execs, 0, -1);
    return s->execs == 0 || s->execs_said;
}

/* Sends what is due; frees children that are over.  False when the parent's queue is full. */
static bool report_all(struct server *s)
{
    bool all = report_execs(s);
    for (struct child **link = &s->children; *link != NULL;) {
        struct child *c = *link;
        bool sent = !(c->spawned || c->died || c->error != 0) || report(s, c);
        all = all && sent;
        if (!sent || !(c->reaped || c->error != 0)) {
            link = &c->next;
            continue;
        }
        *link = c->next;
        s->n_children--;
        (void)joblot__os_close(c->pidfd);
        joblot__free(c);
    }
    return all;
}

/* ---- births and deaths ---- */

static void close_all(const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)joblot__os_close(fds[i]);
}

/* In the new worker: away with everything that is the server's. */
static void leave_server(struct server *s)
{
    (void)joblot__os_close(s->socket);
    (void)joblot__os_close(s->parent_pidfd);
    while (s->children != NULL) {
        struct child *c = s->children;
        s->children = c->next;
        (void)joblot__os_close(c->pidfd);
        joblot__free(c);
    }
    joblot__free(s->set);
    joblot__idle_clear(&s->idle);
}

static joblot_status become_worker(struct server *s, const int *fds, int parent_pid, joblot_error *err)
{
    const struct joblot_server_hooks *hooks = s->hooks;
    int server_pid = s->pid;
    joblot__os_point("worker:forked");
    joblot__os_set_group(0); /* dispositions stay the program's own: Python ignores SIGPIPE, for one */
    joblot__os_ignore_interrupts();
    if (joblot__os_die_with_parent(true) != 0 || joblot__os_parent_pid() != server_pid)
        joblot__os_exit_now(1); /* the server went while we were being born */
    joblot__os_point("worker:bound");
    joblot__os_raise_oom_score();
    leave_server(s);
    if (hooks->after_fork_child != NULL)
        hooks->after_fork_child(hooks->context);
    int64_t inherited = joblot__os_private_memory(0);
    struct joblot__worker_fds worker_fds = {.channel = fds[0], .socket = fds[1], .bell = fds[2], .parent_bell = fds[3],
                                            .inherited = inherited > 0 ? inherited : 0};
    return joblot__worker_run(hooks->worker, &worker_fds, parent_pid, err);
}

static void prepare(struct server *s, const void *preload, size_t size)
{
    if (size == 0 || s->prepared)
        return;
    s->prepared = true;
    if (s->hooks->prepare != NULL)
        s->hooks->prepare(s->hooks->context, preload, size);
}

/* A fork copies one thread; a lock that another one holds then stays locked in the copy for good. */
static bool may_fork(struct server *s)
{
    if (s->hooks->worker_argv == NULL)
        return true;
    int n = joblot__os_thread_count();
    if (n != 1)
        s->execs = n == 0 ? -ENOENT : n;
    return n == 1;
}

/* The pid of a program that was exec'd as a worker, or -errno. */
static int exec_worker(struct server *s, int parent_pid, const int *fds)
{
    char numbers[2][16];
    size_t n = 0;
    int pid;
    while (s->hooks->worker_argv[n] != NULL)
        n++;
    const char **argv = joblot__malloc((n + 3) * sizeof *argv);
    if (argv == NULL)
        return -ENOMEM;
    memcpy(argv, s->hooks->worker_argv, n * sizeof *argv);
    (void)snprintf(numbers[0], sizeof numbers[0], "%d", s->pid);
    (void)snprintf(numbers[1], sizeof numbers[1], "%d", parent_pid);
    argv[n] = numbers[0];
    argv[n + 1] = numbers[1];
    argv[n + 2] = NULL;
    int rc = joblot__os_spawn(argv, NULL, fds, 4, &pid);
    joblot__free(argv);
    return rc < 0 ? rc : pid;
}

/* The pid of a forked worker, or -errno.  Returns in the worker, with 0, when that has done all its tasks. */
static int fork_worker(struct server *s, int parent_pid, const int *fds, joblot_status *status, joblot_error *err)
{
    const struct joblot_server_hooks *hooks = s->hooks;
    if (hooks->before_fork != NULL)
        hooks->before_fork(hooks->context);
    int pid = joblot__os_fork();
    if (pid == 0)
        *status = become_worker(s, fds, parent_pid, err);
    else if (hooks->after_fork_parent != NULL)
        hooks->after_fork_parent(hooks->context);
    return pid;
}

/* Returns in the server, or (true) in the new worker when that has done all its tasks. */
static bool spawn(struct server *s, uint32_t id, int parent_pid, const int *fds, joblot_status *status, joblot_error *err)
{
    struct child *c = joblot__calloc(1, sizeof *c);
    if (c == NULL) { /* the parent waits for a word about this worker: the server's end is one */
        *status = joblot__fail_nomem(err, sizeof *c, "a worker's record");
        s->closing = true;
        return false;
    }
    c->id = id;
    c->pidfd = -1;
    joblot__os_point("server:worker-wanted");
    int pid = may_fork(s) ? fork_worker(s, parent_pid, fds, status, err) : exec_worker(s, parent_pid, fds);
    if (pid == 0) {
        joblot__free(c);
        return true;
    }
    c->pid = pid;
    c->error = pid < 0 ? -pid : 0;
    if (pid > 0) {
        joblot__os_set_group(pid);
        c->spawned = true;
        c->pidfd = joblot__os_pidfd(pid);
        if (c->pidfd < 0) { /* no descriptor, no watch: such a worker cannot be used */
            c->error = -c->pidfd;
            (void)joblot__os_kill_group(pid, SIGKILL_NUMBER);
            (void)joblot__os_reap(pid, &c->how);
        }
    }
    joblot__os_point("server:worker-forked");
    c->next = s->children;
    s->children = c;
    s->n_children++;
    return false;
}

static void bury(struct child *c)
{
    if (c->reaped || c->pid <= 0 || joblot__os_ended(c->pid) == 0)
        return;
    joblot__os_point("server:death-seen");
    /* Not reaped yet, so its number is still its own: what it started goes with it. */
    (void)joblot__os_kill_group(c->pid, SIGKILL_NUMBER);
    if (joblot__os_reap(c->pid, &c->how) < 0)
        c->how.status = 0;
    c->reaped = c->died = true;
    joblot__os_point("server:worker-reaped");
}

/* ---- the loop ---- */

static void start_closing(struct server *s, int64_t grace)
{
    joblot__os_point("server:closing");
    int64_t deadline = joblot__os_clock() + grace;
    if (!s->closing || deadline < s->deadline) /* a parent that goes in the midst of its close waits for nobody */
        s->deadline = deadline;
    s->closing = true;
}

/* One message from the parent.  True in a new worker. */
static bool listen_to_parent(struct server *s, joblot_status *status, joblot_error *err)
{
    struct {
        struct joblot__server_message m;
        unsigned char preload[JOBLOT__PRELOAD_MAX];
    } in;
    int fds[JOBLOT__MAX_FDS];
    size_t n_fds = 0;
    int rc = joblot__os_receive(s->socket, &in, sizeof in, fds, &n_fds);
    if (rc == -EAGAIN)
        return false;
    if (rc < (int)sizeof in.m) {
        close_all(fds, n_fds);
        start_closing(s, DEFAULT_GRACE); /* end of file: the parent is gone, or has called exec */
        return false;
    }
    bool worker = false;
    uint32_t type = joblot__load_le32(in.m.type);
    if (type == JOBLOT__SPAWN && n_fds == 4 && !s->closing) {
        prepare(s, in.preload, (size_t)rc - sizeof in.m);
        worker = spawn(s, joblot__load_le32(in.m.worker), (int)joblot__load_le64(in.m.a), fds, status, err);
        if (worker)
            return true;
    } else if (type == JOBLOT__IDLE && n_fds <= 1) {
        joblot__idle_take(&s->idle, joblot__load_le32(in.m.worker), joblot__load_le64(in.m.a), n_fds == 1 ? fds[0] : -1);
        return false;
    } else if (type == JOBLOT__CLOSE) {
        start_closing(s, (int64_t)joblot__load_le64(in.m.a));
    }
    close_all(fds, n_fds);
    return worker;
}

static joblot_status fill_set(struct server *s, bool want_write, joblot_error *err)
{
    size_t n = 2 + s->n_children;
    if (n > s->set_size) {
        struct joblot__poll *set = joblot__realloc(s->set, n * 2 * sizeof *set);
        if (set == NULL)
            return joblot__fail_nomem(err, n * 2 * sizeof *set, "the server's poll set");
        s->set = set;
        s->set_size = n * 2;
    }
    s->set[0] = (struct joblot__poll){.fd = s->closing ? -1 : s->socket, .want_write = want_write};
    s->set[1] = (struct joblot__poll){.fd = s->parent_gone ? -1 : s->parent_pidfd};
    size_t i = 2;
    for (struct child *c = s->children; c != NULL; c = c->next)
        s->set[i++] = (struct joblot__poll){.fd = c->reaped ? -1 : c->pidfd};
    return JOBLOT_OK;
}

static void kill_all(struct server *s)
{
    joblot__os_point("server:killing-all");
    for (struct child *c = s->children; c != NULL; c = c->next)
        if (!c->reaped && c->pid > 0) {
            (void)joblot__os_kill_group(c->pid, SIGKILL_NUMBER);
            (void)joblot__os_kill(c->pid, SIGKILL_NUMBER); /* it may have gone to another group */
        }
    for (struct child *c = s->children; c != NULL; c = c->next)
        if (!c->reaped && c->pid > 0 && joblot__os_reap(c->pid, &c->how) == 0)
            c->reaped = c->died = true;
}

static joblot_status serve(struct server *s, int *role, joblot_error *err)
{
    joblot_status status = JOBLOT_OK;
    for (;;) {
        bool all_sent = report_all(s);
        if (s->closing && s->n_children == 0)
            return status;
        int64_t timeout = joblot__idle_timeout(&s->idle);
        if (s->closing) {
            timeout = s->deadline - joblot__os_clock();
            if (timeout <= 0) {
                kill_all(s);
                (void)report_all(s);
                return status;
            }
        }
        status = fill_set(s, !all_sent, err);
        if (status != JOBLOT_OK)
            return status;
        int rc = joblot__os_poll(s->set, 2 + s->n_children, timeout);
        if (rc < 0 && rc != -EINTR)
            return joblot__fail_os(err, -rc, "the server's wait");
        size_t i = 2;
        for (struct child *c = s->children; c != NULL; c = c->next)
            if (s->set[i++].ready)
                bury(c);
        if (s->set[0].ready && listen_to_parent(s, &status, err)) {
            *role = JOBLOT_ROLE_WORKER;
            return status;
        }
        if (s->set[1].ready) {
            s->parent_gone = true;
            start_closing(s, DEFAULT_GRACE);
        }
        if (rc == 0)
            joblot__idle_trim(&s->idle);
    }
}

joblot_status joblot_worker_run(const struct joblot_worker_hooks *hooks, int server_pid, int parent_pid,
                                joblot_error *err)
{
    const struct joblot__worker_fds fds = {.channel = 3, .socket = 4, .bell = 5, .parent_bell = 6};
    if (hooks == NULL || server_pid <= 0)
        return joblot__fail(err, JOBLOT_INVALID, 0, "a worker needs to know what it does, and whose it is");
    (void)joblot__os_read_stops(); /* the parent has checked it */
    joblot__os_point("worker:execed");
    joblot__os_ignore_interrupts();
    int rc = joblot__os_die_with_parent(true);
    if (rc != 0)
        return joblot__fail_os(err, -rc, "asking to end with the server");
    if (joblot__os_parent_pid() != server_pid) /* it went meanwhile */
        return JOBLOT_OK;
    joblot__os_point("worker:execed-bound");
    joblot__os_raise_oom_score();
    joblot__os_close_on_exec(3, 4);
    return joblot__worker_run(hooks, &fds, parent_pid, err);
}

joblot_status joblot_server_run(int socket, int parent_pidfd, const struct joblot_server_hooks *hooks, int *role,
                                joblot_error *err)
{
    struct server s = {.socket = socket, .parent_pidfd = parent_pidfd, .pid = joblot__os_pid(), .hooks = hooks};
    *role = JOBLOT_ROLE_SERVER;
    (void)joblot__os_read_stops(); /* the parent has checked it */
    joblot__os_point("server:started");
    if (hooks == NULL || hooks->worker == NULL)
        return joblot__fail(err, JOBLOT_INVALID, 0, "a server needs to know what its workers do");
    joblot__os_ignore_interrupts(); /* they are the parent's to act on */
    (void)joblot__os_set_blocking(socket, false);
    joblot_status status = serve(&s, role, err);
    if (*role == JOBLOT_ROLE_WORKER)
        return status;
    kill_all(&s);
    leave_server(&s);
    return status;
}
