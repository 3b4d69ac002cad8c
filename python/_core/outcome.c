/* outcome.c - what a task has come to: a result, an exception, a death; and where it goes. */
#include "run.h"

#include <stdarg.h>

static int
report_progress(struct run *r)
{
    if (r->progress == Py_None)
        return 0;
    PyObject *done =
        PyObject_CallFunction(r->progress, "nnO", r->drawn, r->done, r->exhausted ? Py_True : Py_False);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
core_run_keep(struct run *r, uint64_t number, PyObject *result)
{
    if (PyList_SetItem(r->results, (Py_ssize_t)number, result) < 0)
        return -1;
    core_shares_done(r->encoder->shares, number);
    r->done++;
    if ((Py_ssize_t)number == r->head) {
        while (r->head < r->drawn && PyList_GET_ITEM(r->results, r->head) != r->missing)
            r->head++;
        r->head_since = 0;
    }
    return report_progress(r);
}

int
core_run_fail(struct run *r, uint64_t number)
{
    /* KeyboardInterrupt and its like are for whoever waits for the call. */
    if (r->on_error == CORE_RAISE || !PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyObject *error = core_take_exception();
    if (r->on_error == CORE_RETURN)
        return core_run_keep(r, number, error);
    Py_DECREF(error);
    r->n_skipped++;
    return core_run_keep(r, number, Py_NewRef(r->skipped));
}

int
core_run_raise(struct run *r, const char *name, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    PyObject *args = Py_VaBuildValue(format, list);
    va_end(list);
    PyObject *helper = args ? core_helper(r->st, name) : NULL;
    PyObject *error = helper ? PyObject_CallObject(helper, args) : NULL;
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(args);
    Py_XDECREF(helper);
    Py_XDECREF(error);
    return -1;
}

PyObject *
core_run_finished(struct run *r)
{
    PyObject *finished = PyDict_New();
    if (r->on_error != CORE_RAISE) /* the list that the call returns has them */
        return finished;
    for (Py_ssize_t i = 0; finished != NULL && i < r->drawn; i++) {
        PyObject *key = PyList_GET_ITEM(r->results, i) == r->missing ? NULL : PyLong_FromSsize_t(i);
        if (key != NULL && PyDict_SetItem(finished, key, PyList_GET_ITEM(r->results, i)) < 0)
            Py_CLEAR(finished);
        Py_XDECREF(key);
    }
    return finished;
}

int
core_run_died(struct run *r, const struct joblot_event *event)
{
    const struct joblot_death *d = &event->death;
    double seconds = (double)r->options->task_timeout_ns / 1e9;
    (void)core_run_raise(r, "make_death", "(KiiiiKINiiyidKK)", (unsigned long long)event->number, d->pid,
                         d->status_known, d->signal, d->exit_code, (unsigned long long)d->peak_memory, d->attempts,
                         core_run_finished(r), d->server_died, d->oom_likely, d->crash, (int)d->cause, seconds,
                         (unsigned long long)r->options->memory_limit, (unsigned long long)d->seen);
    return core_run_fail(r, event->number);
}

PyObject *
core_run_results(struct run *r)
{
    if (r->n_skipped == 0)
        return Py_NewRef(r->results);
    PyObject *rest = PyList_New(0);
    for (Py_ssize_t i = 0; rest != NULL && i < r->drawn; i++) {
        PyObject *result = PyList_GET_ITEM(r->results, i);
        if (result != r->skipped && PyList_Append(rest, result) < 0)
            Py_CLEAR(rest);
    }
    return rest;
}
