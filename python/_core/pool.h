/* pool.h - the type Pool, shared by pool.c and run.c. */
#ifndef JOBLOT_CORE_POOL_H
#define JOBLOT_CORE_POOL_H

#include "core.h"

struct core_pool {
    PyObject_HEAD
    struct core_state *st;
    struct core_pool *next; /* of all pools: st->pools */
    joblot_pool *pool; /* NULL: closed, or abandoned in a forked child */
    uint32_t last_function;
    size_t n_held; /* by calls, which need it open */
    bool closing;  /* as soon as nobody holds it */
    int64_t grace;
    struct core_forked *forked; /* NULL: the server is exec'd */
    PyObject *main_names;       /* what __main__ was when the server was forked off; NULL: it was exec'd */
};

PyObject *core_pool_run(PyObject *self, PyObject *args, PyObject *kwargs); /* Pool.run */

/* shared.c: the list of all pools */
void core_pool_add(struct core_pool *pool);
void core_pool_remove(struct core_pool *pool);

#endif
