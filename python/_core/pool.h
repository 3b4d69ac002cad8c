/* pool.h - the type Pool, shared by pool.c and run.c. */
#ifndef JOBLOT_CORE_POOL_H
#define JOBLOT_CORE_POOL_H

#include "core.h"

struct core_pool {
    PyObject_HEAD
    struct core_state *st;
    joblot_pool *pool; /* NULL: closed, or abandoned in a forked child */
    uint32_t last_function;
    size_t n_held; /* by calls, which need it open */
    bool closing;  /* as soon as nobody holds it */
    int64_t grace;
    struct core_forked *forked; /* NULL: the server is exec'd */
    PyObject *main_names;       /* what __main__ was when the server was forked off; NULL: it was exec'd */
};

PyObject *core_pool_run(PyObject *self, PyObject *args, PyObject *kwargs); /* Pool.run */

#endif
