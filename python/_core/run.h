/* run.h - the state of one call of Parallel, shared by run.c and outcome.c. */
#ifndef JOBLOT_CORE_RUN_H
#define JOBLOT_CORE_RUN_H

#include "pool.h"

/* What becomes of the exception of a task: it ends the call, stands for the result, or its place is left out. */
enum core_on_error { CORE_RAISE, CORE_RETURN, CORE_SKIP };

struct run {
    struct core_state *st;
    struct core_pool *owner;
    joblot_call *call;
    PyObject *tasks;    /* iterator */
    PyObject *results;  /* list; `missing` where there is none yet, `skipped` where there will be none */
    PyObject *missing, *skipped; /* objects that no task can return */
    struct core_functions *functions;
    PyObject *progress;
    struct core_encoder *encoder;
    Py_ssize_t pre_dispatch; /* batches; < 0: all */
    Py_ssize_t batch;        /* tasks of one, as asked for; 0: as the engine sees fit */
    int elastic;             /* pre_dispatch is nobody's wish: quick tasks without arrays may be drawn further ahead */
    bool arrays;             /* a task had some */
    Py_ssize_t n_jobs;
    double timeout;
    const struct joblot_call_options *options;
    enum core_on_error on_error;
    Py_ssize_t drawn, done, head; /* head: the first without a result */
    Py_ssize_t n_skipped;
    int64_t head_since;
    PyObject *waiting;       /* a task that was drawn, and for whose arrays there was no room; NULL: none */
    Py_ssize_t waited_at;    /* `done` at that time: what is done since may have made some */
    bool exhausted, preload_known;
};

/* outcome.c; each returns 0, or -1 with an exception set that ends the call. */

/* A task has ended with this; takes the reference. */
int core_run_keep(struct run *r, uint64_t number, PyObject *result);
/* A task has ended with the exception that is set. */
int core_run_fail(struct run *r, uint64_t number);
/* A task has ended with its worker's death. */
int core_run_died(struct run *r, const struct joblot_event *event);
/* Sets the exception that a helper of _transport makes; `format` as of Py_BuildValue, in brackets.  Returns -1. */
int core_run_raise(struct run *r, const char *helper, const char *format, ...);
/* {number: result} of the tasks that are done. */
PyObject *core_run_finished(struct run *r);
/* The results of a call that has ended well; a new reference. */
PyObject *core_run_results(struct run *r);

#endif
