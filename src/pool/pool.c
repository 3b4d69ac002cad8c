/* pool/pool.c - the pool in the parent: its server, and the list of its workers. */
#include "pool_internal.h"

#include "../base/alloc.h"
#include "../base/error.h"

#include <errno.h>
#include <stdio.h>

enum { SIGKILL_NUMBER = 9, MAX_UNHEARD = 20, MAX_SERVERS = 3 };

int64_t joblot_clock(void)
{
    return joblot__os_clock();
}

int joblot_cpu_count(void)
{
    return joblot__os_cpu_count("");
}

/* ---- open ---- */

static joblot_status copy_list(const char *const *list, const char ***out, joblot_error *err)
{
    size_t n = 0, bytes = 0;
    while (list[n] != NULL)
        bytes += strlen(list[n++]) + 1;
    const char **copy = joblot__malloc((n + 1) * sizeof *copy + bytes);
    if (copy == NULL)
        return joblot__fail_nomem(err, bytes, "the server's arguments");
    char *at = (char *)(copy + n + 1);
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(list[i]) + 1;
        copy[i] = memcpy(at, list[i], size);
        at += size;
    }
    copy[n] = NULL;
    *out = copy;
    return JOBLOT_OK;
}

static joblot_status set_up(joblot_pool *pool, const struct joblot_pool_options *options, joblot_error *err)
{
    joblot_status status = JOBLOT_OK;
    pool->options = *options;
    pool->ring_size = options->ring_size ? options->ring_size : JOBLOT__RING_DEFAULT;
    if (options->server_argv != NULL)
        status = copy_list(options->server_argv, &pool->argv, err);
    if (status == JOBLOT_OK && options->server_env != NULL)
        status = copy_list(options->server_env, &pool->env, err);
    if (status == JOBLOT_OK && options->server_argv == NULL) {
        joblot__lock_take(&pool->lock);
        status = joblot__pool_start_server(pool, err);
        joblot__lock_give(&pool->lock);
    }
    return status;
}

joblot_status joblot_pool_open(const struct joblot_pool_options *options, joblot_pool **out, joblot_error *err)
{
    if (options == NULL || (options->server_argv == NULL && options->hooks == NULL && options->server == NULL))
        return joblot__fail(err, JOBLOT_INVALID, 0, "a pool needs hooks, or the arguments of a server");
    if (joblot__os_read_stops() < 0)
        return joblot__fail(err, JOBLOT_INVALID, 0, "JOBLOT_TEST_STOP must be role:point:n:/file, see docs/testing.md");
    if (options->ring_size != 0 && (options->ring_size < 4096 || options->ring_size > (64u << 20) ||
                                    (options->ring_size & (options->ring_size - 1)) != 0))
        return joblot__fail(err, JOBLOT_INVALID, 0, "ring_size is %zu: it must be a power of two from 4 KiB to 64 MiB",
                            options->ring_size);
    joblot_pool *pool = joblot__calloc(1, sizeof *pool);
    if (pool == NULL)
        return joblot__fail_nomem(err, sizeof *pool, "a pool");
    pool->server_pidfd = pool->server_socket = -1;
    pool->owner_pid = joblot__os_pid();
    pool->n_processors = joblot__os_cpu_count("");
    int rc = joblot__lock_init(&pool->lock);
    if (rc != 0) {
        joblot__free(pool);
        return joblot__fail_os(err, -rc, "a pool's lock");
    }
    joblot_status status = joblot_segment_cache_new(&pool->segments, err);
    if (status == JOBLOT_OK)
        status = set_up(pool, options, err);
    if (status != JOBLOT_OK) {
        joblot_pool_abandon(pool);
        return status;
    }
    *out = pool;
    return JOBLOT_OK;
}

/* ---- the server ---- */

/* The child of a pool without an exec'd server: it is the server, and its children are workers. */
static _Noreturn void be_forked_server(joblot_pool *pool, int before, int socket, int parent_pidfd, int parent_end)
{
    struct joblot_server_hooks hooks = {.worker = pool->options.hooks};
    const struct joblot_fork_hooks *fork = pool->options.fork;
    joblot_error err = {.message = ""};
    int role, parent = pool->owner_pid;
    if (pool->options.server != NULL)
        hooks = *pool->options.server;
    /* Until it serves: the program's own code, which runs here now, may wait for a lock that nobody will give back. */
    if (joblot__os_die_with_parent(true) != 0 || joblot__os_parent_pid() != parent)
        joblot__os_exit_now(1);
    joblot__os_reset_process();
    joblot__os_stdin_null();
    (void)joblot__os_close(parent_end);
    joblot_pool_abandon(pool); /* it may have had a server before, and workers: they are the parent's */
    if (fork != NULL && fork->after_child != NULL)
        fork->after_child(fork->context, before);
    (void)joblot__os_die_with_parent(false); /* the thread that forked us may end; the parent's pidfd is watched */
    joblot_status status = joblot_server_run(socket, parent_pidfd, &hooks, &role, &err);
    if (status != JOBLOT_OK)
        (void)fprintf(stderr, "joblot %s %d: %s\n", role == JOBLOT_ROLE_WORKER ? "worker" : "server", joblot__os_pid(),
                      err.message);
    (void)fflush(NULL);
    joblot__os_exit_now(status != JOBLOT_OK);
}

static joblot_status launch(joblot_pool *pool, int before, int pair[2], int own_pidfd, int *pid, joblot_error *err)
{
    int rc;
    if (pool->argv != NULL) {
        int fds[2] = {pair[1], own_pidfd};
        rc = joblot__os_spawn(pool->argv, pool->env, fds, 2, pid);
        return rc < 0 ? joblot__fail_os(err, -rc, "starting %s as the server of worker processes", pool->argv[0])
                      : JOBLOT_OK;
    }
    (void)fflush(NULL); /* what is buffered here must not be written again by children */
    rc = joblot__os_fork();
    if (rc == 0)
        be_forked_server(pool, before, pair[1], own_pidfd, pair[0]);
    *pid = rc;
    return rc < 0 ? joblot__fail_os(err, -rc, "forking the server of worker processes") : JOBLOT_OK;
}

static joblot_status start_server(joblot_pool *pool, int before, joblot_error *err)
{
    int pair[2] = {-1, -1}, pid = 0;
    joblot_status status = JOBLOT_OK;
    int own = joblot__os_pidfd(joblot__os_pid()); /* on ourselves, before there is a child that could outlive us */
    int rc = own < 0 ? own : joblot__os_socketpair(pair);
    if (rc < 0)
        status = joblot__fail_os(err, -rc, "the socket of a server");
    else
        status = launch(pool, before, pair, own, &pid, err);
    joblot__os_point("parent:server-launched");
    (void)joblot__os_close(own);
    (void)joblot__os_close(pair[1]);
    if (status == JOBLOT_OK) {
        rc = joblot__os_pidfd(pid);
        if (rc < 0) {
            status = joblot__fail_os(err, -rc, "watching the server of worker processes");
            (void)joblot__os_kill(pid, SIGKILL_NUMBER);
        }
    }
    if (status != JOBLOT_OK) {
        (void)joblot__os_close(pair[0]);
        return status;
    }
    (void)joblot__os_set_blocking(pair[0], false);
    pool->server_pid = pid;
    pool->server_pidfd = rc;
    pool->server_socket = pair[0];
    pool->preloaded = false;
    pool->idle_told = false;
    memset(pool->server_knows, 0, sizeof pool->server_knows);
    pool->unheard = 0;
    pool->execs = 0;
    joblot__os_point("parent:server-known");
    return JOBLOT_OK;
}

/* The hooks may wait for a lock of the program's (Python's GIL) whose holder waits for ours. */
joblot_status joblot__pool_start_server(joblot_pool *pool, joblot_error *err)
{
    const struct joblot_fork_hooks *fork = pool->argv == NULL ? pool->options.fork : NULL;
    joblot_status status = JOBLOT_OK;
    int before = 0;
    if (fork == NULL)
        return start_server(pool, 0, err);
    joblot__lock_give(&pool->lock);
    if (fork->before != NULL)
        before = fork->before(fork->context);
    joblot__lock_take(&pool->lock);
    if (pool->server_socket < 0) /* else another call was quicker */
        status = start_server(pool, before, err);
    joblot__lock_give(&pool->lock);
    if (fork->after_parent != NULL)
        fork->after_parent(fork->context, before);
    joblot__lock_take(&pool->lock);
    return status;
}

/* A server's end shows at its socket before it shows at its pidfd: it is waited for, for its last words, and followed. */
static joblot_status replace_server(joblot_pool *pool, joblot_error *err)
{
    struct joblot__poll dead = {.fd = pool->server_pidfd};
    (void)joblot__os_pidfd_kill(pool->server_pidfd, SIGKILL_NUMBER);
    while (joblot__os_poll(&dead, 1, -1) == -EINTR)
        continue;
    joblot__pool_listen(pool);
    return pool->server_socket >= 0 ? JOBLOT_OK : joblot__pool_start_server(pool, err);
}

joblot_status joblot__pool_ask(joblot_pool *pool, struct joblot__peer *peer, const int worker_fds[4], const void *preload,
                               size_t preload_size, joblot_error *err)
{
    struct {
        struct joblot__server_message m;
        unsigned char preload[JOBLOT__PRELOAD_MAX];
    } out;
    size_t size = 0;
    memset(&out.m, 0, sizeof out.m);
    joblot__store_le32(out.m.type, JOBLOT__SPAWN);
    joblot__store_le32(out.m.worker, peer->id);
    joblot__store_le64(out.m.a, (uint64_t)pool->owner_pid);
    if (preload_size > 0)
        memcpy(out.preload, preload, preload_size);
    int rc = -EPIPE;
    for (int servers = 0; rc == -EPIPE && servers < MAX_SERVERS; servers++) {
        joblot_status status = servers > 0 ? replace_server(pool, err) : JOBLOT_OK;
        if (status != JOBLOT_OK)
            return status;
        size = pool->preloaded ? 0 : preload_size;
        rc = joblot__os_send(pool->server_socket, &out, sizeof out.m + size, worker_fds, 4);
    }
    if (rc < 0)
        return joblot__fail_os(err, -rc, "asking the server for a worker");
    joblot__os_point("parent:worker-asked");
    pool->preloaded = pool->preloaded || size > 0;
    peer->asked = true;
    pool->n_asked++;
    return JOBLOT_OK;
}

/* ---- what the server says ---- */

static void mark_dead(joblot_pool *pool, struct joblot__peer *peer)
{
    if (peer->asked && peer->state == JOBLOT__STARTING)
        pool->n_asked--;
    peer->state = JOBLOT__DEAD;
    if (peer->leased)
        (void)joblot__os_event_ring(peer->own_bell); /* its call may be asleep, and somebody else read the news */
    else
        joblot__pool_drop(pool, peer);
}

static struct joblot__peer *find_peer(joblot_pool *pool, uint32_t id)
{
    struct joblot__peer *peer = pool->peers;
    while (peer != NULL && peer->id != id)
        peer = peer->next;
    return peer;
}

static void take_message(joblot_pool *pool, const struct joblot__server_message *m, int *fds, size_t n_fds)
{
    struct joblot__peer *peer = find_peer(pool, joblot__load_le32(m->worker));
    uint32_t type = joblot__load_le32(m->type);
    uint64_t a = joblot__load_le64(m->a);
    if (peer != NULL && type == JOBLOT__SPAWNED && n_fds == 1 && peer->state == JOBLOT__STARTING) {
        peer->pid = (int)a;
        peer->pidfd = fds[0];
        n_fds = 0;
        peer->state = JOBLOT__RUNNING;
        pool->n_asked--;
        if (peer->condemned)
            (void)joblot__os_pidfd_kill(peer->pidfd, SIGKILL_NUMBER);
        else if (peer->leased)
            (void)joblot__os_event_ring(peer->own_bell);
    } else if (peer != NULL && type == JOBLOT__DIED) {
        peer->status_known = true;
        peer->how.status = (int)(uint32_t)a;
        peer->how.peak_memory = joblot__load_le64(m->b);
        mark_dead(pool, peer);
    } else if (peer != NULL && type == JOBLOT__FAILED) {
        peer->unborn = true;
        mark_dead(pool, peer);
    } else if (type == JOBLOT__EXECS) {
        pool->execs = (int)(int64_t)a;
    }
    for (size_t i = 0; i < n_fds; i++)
        (void)joblot__os_close(fds[i]);
}

/* The server is gone, and with it every worker of it. */
static void bury_server(joblot_pool *pool)
{
    struct joblot__exit how;
    struct joblot__peer *next;
    int server_pid = pool->server_pid;
    joblot__os_point("parent:server-dead");
    (void)joblot__os_reap(server_pid, &how); /* ECHILD: a wait of the user's has had it, which is no matter */
    (void)joblot__os_close(pool->server_pidfd);
    (void)joblot__os_close(pool->server_socket);
    pool->server_pid = 0;
    pool->server_pidfd = pool->server_socket = -1;
    for (struct joblot__peer *peer = pool->peers; peer != NULL; peer = next) {
        next = peer->next;
        if (peer->state == JOBLOT__DEAD)
            continue;
        if (peer->pidfd >= 0 && joblot__os_pidfd_kill(peer->pidfd, 0) == 0) /* alive: its number is its own */
            (void)joblot__os_kill_group(peer->pid, SIGKILL_NUMBER);
        peer->server_died = server_pid;
        mark_dead(pool, peer);
    }
    pool->n_asked = 0;
}

/* A worker that cannot be watched: without its socket it leaves. */
static void give_up_worker(joblot_pool *pool, uint32_t id)
{
    struct joblot__peer *peer = find_peer(pool, id);
    if (peer == NULL || peer->state != JOBLOT__STARTING)
        return;
    (void)joblot__os_close(peer->socket);
    peer->socket = -1;
    mark_dead(pool, peer);
}

void joblot__pool_listen(joblot_pool *pool)
{
    struct joblot__server_message m;
    int fds[JOBLOT__MAX_FDS];
    size_t n_fds;
    if (pool->server_socket < 0)
        return;
    struct joblot__poll dead = {.fd = pool->server_pidfd}; /* looked at first: then all that it said is in the socket */
    (void)joblot__os_poll(&dead, 1, 0);
    for (;;) {
        memset(&m, 0, sizeof m);
        int rc = joblot__os_receive(pool->server_socket, &m, sizeof m, fds, &n_fds);
        if (rc == (int)sizeof m) {
            pool->unheard = 0;
            take_message(pool, &m, fds, n_fds);
            continue;
        }
        for (size_t i = 0; i < n_fds; i++)
            (void)joblot__os_close(fds[i]);
        if (rc == -EMFILE && joblot__load_le32(m.type) == JOBLOT__SPAWNED) { /* its pidfd could not be received */
            give_up_worker(pool, joblot__load_le32(m.worker));
            continue;
        }
        /* It has nothing more to say, and its workers are gone; or what it says cannot be heard, time after time. */
        pool->unheard = rc == -EAGAIN ? 0 : pool->unheard + 1;
        if (rc == 0 || pool->unheard > MAX_UNHEARD)
            (void)joblot__os_pidfd_kill(pool->server_pidfd, SIGKILL_NUMBER);
        break;
    }
    if (dead.ready)
        bury_server(pool);
}

/* ---- the list of workers ---- */

void joblot__pool_drop(joblot_pool *pool, struct joblot__peer *peer)
{
    struct joblot__peer **link = &pool->peers;
    while (*link != NULL && *link != peer)
        link = &(*link)->next;
    if (*link != NULL)
        *link = peer->next;
    joblot__peer_free(peer);
}

void joblot__pool_condemn(joblot_pool *pool, struct joblot__peer *peer)
{
    (void)pool;
    peer->condemned = true;
    if (peer->pidfd >= 0)
        (void)joblot__os_pidfd_kill(peer->pidfd, SIGKILL_NUMBER);
}

int joblot_pool_server_pid(joblot_pool *pool)
{
    joblot__lock_take(&pool->lock);
    joblot__pool_listen(pool);
    int pid = pool->server_pid;
    joblot__lock_give(&pool->lock);
    return pid;
}

size_t joblot_pool_workers(joblot_pool *pool, int *pids, size_t capacity)
{
    size_t n = 0;
    joblot__lock_take(&pool->lock);
    joblot__pool_listen(pool);
    for (struct joblot__peer *peer = pool->peers; peer != NULL; peer = peer->next) {
        if (peer->state != JOBLOT__RUNNING)
            continue;
        if (n < capacity)
            pids[n] = peer->pid;
        n++;
    }
    joblot__lock_give(&pool->lock);
    return n;
}

int joblot_pool_execs(joblot_pool *pool)
{
    joblot__lock_take(&pool->lock);
    int execs = pool->execs;
    joblot__lock_give(&pool->lock);
    return execs;
}

size_t joblot_pool_leased(joblot_pool *pool)
{
    joblot__lock_take(&pool->lock);
    size_t n = pool->n_leased;
    joblot__lock_give(&pool->lock);
    return n;
}

/* ---- close ---- */

static void kill_workers(joblot_pool *pool)
{
    for (struct joblot__peer *peer = pool->peers; peer != NULL; peer = peer->next)
        if (peer->pidfd >= 0 && joblot__os_pidfd_kill(peer->pidfd, 0) == 0) /* alive: its number is its own */
            (void)joblot__os_kill_group(peer->pid, SIGKILL_NUMBER);
}

/* A process that was killed is there for a moment still, and the pool's close means that nothing is. */
static void wait_for_workers(joblot_pool *pool)
{
    int64_t deadline = joblot__os_clock() + 1000000000;
    for (struct joblot__peer *peer = pool->peers; peer != NULL; peer = peer->next) {
        struct joblot__poll dead = {.fd = peer->pidfd};
        int64_t left = deadline - joblot__os_clock();
        while (dead.fd >= 0 && !dead.ready && left > 0 && joblot__os_poll(&dead, 1, left) != 0)
            left = deadline - joblot__os_clock();
    }
}

/* Tells the server to let its workers go, and waits for its end: it ends last. */
static void end_server(joblot_pool *pool, int64_t grace_ns)
{
    struct joblot__server_message m;
    struct joblot__exit how;
    if (pool->server_socket < 0)
        return;
    memset(&m, 0, sizeof m);
    joblot__store_le32(m.type, JOBLOT__CLOSE);
    joblot__store_le64(m.a, (uint64_t)(grace_ns < 0 ? 0 : grace_ns));
    if (joblot__os_send(pool->server_socket, &m, sizeof m, NULL, 0) < 0) { /* end of file says the same */
        (void)joblot__os_close(pool->server_socket);
        pool->server_socket = -1;
    }
    joblot__os_point("parent:close-said");
    int64_t deadline = joblot__os_clock() + grace_ns + 1000000000;
    struct joblot__poll dead = {.fd = pool->server_pidfd};
    for (int64_t left = grace_ns + 1000000000; left > 0 && !dead.ready; left = deadline - joblot__os_clock()) {
        int rc = joblot__os_poll(&dead, 1, left);
        if (rc < 0 && rc != -EINTR)
            break;
    }
    if (!dead.ready) {
        kill_workers(pool);
        (void)joblot__os_pidfd_kill(pool->server_pidfd, SIGKILL_NUMBER);
    }
    (void)joblot__os_reap(pool->server_pid, &how);
    kill_workers(pool); /* a server that was killed has left them to be */
    wait_for_workers(pool);
}

void joblot_pool_close(joblot_pool *pool, int64_t grace_ns)
{
    if (pool == NULL)
        return;
    joblot__os_point("parent:pool-closing");
    for (struct joblot__peer *peer = pool->peers; peer != NULL; peer = peer->next)
        joblot__peer_say_exit(peer);
    end_server(pool, grace_ns);
    joblot__os_point("parent:server-ended");
    joblot_pool_abandon(pool);
}

void joblot_pool_abandon(joblot_pool *pool)
{
    if (pool == NULL)
        return;
    bool inherited = pool->owner_pid != joblot__os_pid();
    while (pool->peers != NULL) {
        struct joblot__peer *peer = pool->peers;
        pool->peers = peer->next;
        if (inherited)
            peer->channel = NULL; /* not mapped here: something else may be by now */
        joblot__peer_free(peer);
    }
    (void)joblot__os_close(pool->server_socket);
    (void)joblot__os_close(pool->server_pidfd);
    joblot_segment_cache_free(pool->segments);
    joblot__pool_forget_idle(pool, inherited);
    if (!inherited) /* in a child, a thread that is not there may hold it */
        joblot__lock_clear(&pool->lock);
    joblot__free(pool->argv);
    joblot__free(pool->env);
    joblot__free(pool);
}
