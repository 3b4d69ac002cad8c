/* pool/worker.h - a worker process, from its first to its last step. */
#ifndef JOBLOT_POOL_WORKER_H
#define JOBLOT_POOL_WORKER_H

#include "wire.h"

/* What this worker begins with: the descriptors that the parent gave it, which joblot__worker_run closes. */
struct joblot__worker_fds {
    int channel, socket, bell, parent_bell;
    int64_t inherited; /* bytes of private memory that it was forked with */
};

/* Serves tasks until the parent says to leave, or is gone. */
joblot_status joblot__worker_run(const struct joblot_worker_hooks *hooks, const struct joblot__worker_fds *fds,
                                 int parent_pid, joblot_error *err);

#endif
