/* run.c - the loop that drives a call of Parallel: tasks are drawn, written and submitted, answers are taken. */
#include "run.h"

#include <string.h>

/* Events that are taken before the input is looked at again. */
enum { MOST_AT_ONCE = 1024 };

/* What `run` was called with, besides what the engine takes. */
struct core_run_settings {
    enum core_compare compare;
    int64_t max_nbytes;
    int mode;
    uint64_t key;
    Py_buffer settings;
};

/* ---- tasks ---- */

static int
fail_status(struct run *r, joblot_status status, const joblot_error *err)
{
    core_raise(r->st, status, err);
    return -1;
}

static int
write_task(struct run *r, PyObject *task)
{
    PyObject *function = PyTuple_GET_ITEM(task, 0);
    long id = core_function_id(r->functions, r->call, r->encoder, function);
    unsigned char head[5] = {CORE_NAMED, (unsigned char)id, (unsigned char)(id >> 8), (unsigned char)(id >> 16),
                             (unsigned char)(id >> 24)};
    if (id < 0)
        return -1;
    core_encoder_reset(r->encoder);
    if (id == 0) {
        head[0] = CORE_CALL;
        return core_bytes_add(&r->encoder->stream, head, 1) < 0 ? -1 : core_encode(r->encoder, task);
    }
    if (PyTuple_CheckExact(PyTuple_GET_ITEM(task, 1)) && PyDict_CheckExact(PyTuple_GET_ITEM(task, 2)) &&
        PyDict_GET_SIZE(PyTuple_GET_ITEM(task, 2)) == 0) {
        head[0] = CORE_PLAIN;
        int plain = core_bytes_add(&r->encoder->stream, head, 5) < 0
                        ? -1
                        : core_scalar_write(&r->encoder->stream, PyTuple_GET_ITEM(task, 1));
        if (plain != 0)
            return plain < 0 ? -1 : core_finish_parts(r->encoder);
        r->encoder->stream.size = 0;
        head[0] = CORE_NAMED;
    }
    PyObject *rest = PyTuple_Pack(2, PyTuple_GET_ITEM(task, 1), PyTuple_GET_ITEM(task, 2));
    int rc = rest == NULL || core_bytes_add(&r->encoder->stream, head, 5) < 0 ? -1 : core_encode(r->encoder, rest);
    Py_XDECREF(rest);
    return rc;
}

/* Replaces the exception that is set by what a helper makes of it. */
static void
explain(struct run *r, const char *name, PyObject *subject)
{
    PyObject *value = core_take_exception();
    PyObject *helper = core_helper(r->st, name);
    PyObject *better = helper ? PyObject_CallFunction(helper, "OOn", subject, value, r->drawn) : NULL;
    if (better != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(better), better);
    Py_XDECREF(helper);
    Py_XDECREF(better);
    Py_XDECREF(value);
}

/* What the server should have loaded before it forks, as far as the first tasks tell. */
static int
find_preload(struct run *r)
{
    joblot_error err;
    PyObject *helper = core_helper(r->st, "preload_for");
    PyObject *names = helper ? PyObject_CallFunction(helper, "y#ii", (const char *)r->encoder->stream.data,
                                                     (Py_ssize_t)r->encoder->stream.size, r->encoder->n_entries > 0,
                                                     r->encoder->by_value)
                             : NULL;
    Py_XDECREF(helper);
    if (names == NULL)
        return -1;
    joblot_status status =
        joblot_call_preload(r->call, PyBytes_AS_STRING(names), (size_t)PyBytes_GET_SIZE(names), &err);
    Py_DECREF(names);
    return status == JOBLOT_OK ? 0 : fail_status(r, status, &err);
}

/* Python code of the user's has run, and it may have forked: in the child the call is gone, and must not be touched. */
static int
check_owner(struct run *r)
{
    if (r->owner->pool != NULL)
        return 0;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "this process was forked off in the midst of a call, which is its parent's");
    return -1;
}

static int
submit(struct run *r, PyObject *task)
{
    joblot_error err;
    if (write_task(r, task) < 0) {
        /* An interrupt that came in the midst of it is no fault of the task. */
        if (PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(PyExc_MemoryError) &&
            !PyErr_ExceptionMatches(PyExc_OSError))
            explain(r, "explain_task", task);
        return -1;
    }
    if (!r->preload_known) {
        r->preload_known = true;
        if (find_preload(r) < 0)
            return -1;
    }
    r->arrays = r->arrays || r->encoder->n_entries > 0;
    joblot_status status = joblot_call_submit(r->call, 0, r->encoder->parts, r->encoder->n_parts, &err);
    if (status != JOBLOT_OK)
        return fail_status(r, status, &err);
    if (core_shares_task(r->encoder->shares, (uint64_t)r->drawn) < 0 || PyList_Append(r->results, r->missing) < 0)
        return -1;
    core_encoder_reset(r->encoder);
    r->drawn++;
    return 0;
}

/* A task that cannot be sent: the exception that is set is its own. */
static int
fail_unsent(struct run *r)
{
    if (check_owner(r) < 0 || r->on_error == CORE_RAISE || !PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    core_encoder_reset(r->encoder);
    if (PyList_Append(r->results, r->missing) < 0)
        return -1;
    joblot_call_skip(r->call); /* numbers stay positions in the input */
    return core_run_fail(r, (uint64_t)r->drawn++);
}

static int
check_task(struct run *r, PyObject *task)
{
    if (PyTuple_Check(task) && PyTuple_GET_SIZE(task) == 3 && PyCallable_Check(PyTuple_GET_ITEM(task, 0))) {
        PyObject *args = PyTuple_GET_ITEM(task, 1), *kwargs = PyTuple_GET_ITEM(task, 2);
        if ((PyTuple_CheckExact(args) || Py_TYPE(args)->tp_iter != NULL) &&
            (PyDict_CheckExact(kwargs) || PyMapping_Check(kwargs)))
            return 0;
    }
    PyErr_SetString(PyExc_TypeError, "not a task");
    explain(r, "explain_no_task", task);
    return -1;
}

/* ---- a task that there is no room for: it was drawn ahead of time, so it waits for others to end ---- */

static bool
is_stuck(const struct run *r)
{
    return r->waiting != NULL && r->done == r->waited_at && r->drawn > r->done;
}

static PyObject *
next_task(struct run *r)
{
    PyObject *task = r->waiting;
    if (task == NULL)
        return PyIter_Next(r->tasks);
    r->waiting = NULL;
    Py_BEGIN_ALLOW_THREADS
    joblot_call_settle(r->call);
    Py_END_ALLOW_THREADS
    return task;
}

/* After a failure to submit: may it succeed when a task in flight has ended?  Then the task is kept, and no error is set. */
static bool
can_wait(struct run *r, PyObject *task)
{
    if (r->drawn == r->done || !PyErr_ExceptionMatches(r->st->errors[-JOBLOT_NOMEM]) || check_owner(r) < 0)
        return false;
    PyErr_Clear();
    core_encoder_reset(r->encoder); /* the segments that it has got already */
    r->waiting = Py_NewRef(task);
    r->waited_at = r->done;
    return true;
}

/* How many tasks may be drawn and not done.  The batches of pre_dispatch are those that were asked for: an engine that hands
 * out more at a time must not draw more, since what is drawn takes memory, and is fixed.  Where nobody named a number,
 * quick tasks that hold next to nothing are the exception. */
static Py_ssize_t
most_ahead(const struct run *r)
{
    if (r->pre_dispatch < 0)
        return PY_SSIZE_T_MAX;
    bool as_asked = r->batch > 0 && (!r->elastic || r->arrays);
    Py_ssize_t batch = as_asked ? r->batch : (Py_ssize_t)joblot_call_batch(r->call);
    return r->pre_dispatch < PY_SSIZE_T_MAX / batch ? r->pre_dispatch * batch : PY_SSIZE_T_MAX;
}

/* Draws tasks up to what pre_dispatch allows, a few at a time so that workers start on the first. */
static int
draw(struct run *r)
{
    Py_ssize_t most = most_ahead(r), chunk = r->n_jobs * (Py_ssize_t)joblot_call_batch(r->call);
    for (Py_ssize_t i = 0; i < chunk && r->drawn - r->done < most && !is_stuck(r); i++) {
        PyObject *task = next_task(r);
        if (check_owner(r) < 0) {
            Py_XDECREF(task);
            return -1;
        }
        if (task == NULL) {
            r->exhausted = true;
            return PyErr_Occurred() ? -1 : 0;
        }
        int rc = check_task(r, task);
        if (rc == 0 && submit(r, task) < 0)
            rc = can_wait(r, task) ? 0 : fail_unsent(r);
        Py_DECREF(task);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* ---- answers ---- */

static int
take_result(struct run *r, struct joblot_event *event)
{
    struct core_decoder d = {.st = r->st, .call = r->call, .event = event, .n_parts = event->n_parts};
    const unsigned char *stream;
    size_t size;
    PyObject *result = NULL;
    if (event->status != JOBLOT_OK) {
        joblot_error err;
        snprintf(err.message, sizeof err.message, "task %llu: %s", (unsigned long long)event->number,
                 event->message != NULL ? event->message : joblot_status_text(event->status));
        err.os_errno = 0;
        core_raise(r->st, event->status, &err);
    } else if (core_decoder_init(&d, &stream, &size) == 0) {
        if (size > 1 && stream[0] == CORE_ERROR)
            (void)core_run_raise(r, "unpack_error", "(y#)", (const char *)stream + 1, (Py_ssize_t)size - 1);
        else if (size > 1 && stream[0] == CORE_RESULT)
            result = core_decode(&d, stream + 1, size - 1);
        else if (size > 1 && stream[0] == CORE_VALUE)
            result = core_scalar_read(stream + 1, size - 1);
        else
            PyErr_SetString(PyExc_ValueError, "an answer that this version of joblot does not know");
    }
    core_decoder_clear(&d);
    joblot_event_done(r->call, event);
    if (result != NULL)
        return core_run_keep(r, event->number, result);
    if (d.status == JOBLOT_WORKER_DIED) { /* under the reader: the engine tries the task again, or says so next */
        PyErr_Clear();
        return 0;
    }
    return core_run_fail(r, event->number);
}

/* ---- the loop ---- */

/* How long to wait for the first result that is missing; < 0: for good; 0: its time is over. */
static int64_t
time_left(struct run *r)
{
    if (r->timeout < 0)
        return -1;
    int64_t now = joblot_clock();
    if (r->head_since == 0)
        r->head_since = now;
    int64_t left = r->head_since + (int64_t)(r->timeout * 1e9) - now;
    return left > 0 ? left : 0;
}

/* One event: without the GIL where it must be waited for, which it is when nothing more may be drawn meanwhile. */
static int
wait_event(struct run *r, struct joblot_event *event, bool wait)
{
    joblot_error err;
    joblot_status status = joblot_call_next(r->call, 0, event, &err);
    if (status == JOBLOT_OK && event->kind == JOBLOT_EVENT_NONE && wait) {
        int64_t left = time_left(r);
        if (left == 0)
            return core_run_raise(r, "make_timeout", "(nd)", r->head, r->timeout);
        Py_BEGIN_ALLOW_THREADS
        status = joblot_call_next(r->call, left, event, &err);
        Py_END_ALLOW_THREADS
    }
    if (status == JOBLOT_WORKER_DIED)
        return core_run_raise(r, "make_no_workers", "(sN)", err.message, core_run_finished(r)); /* as a death is caught */
    if (status != JOBLOT_OK)
        return fail_status(r, status, &err);
    return PyErr_CheckSignals();
}

static int
take_event(struct run *r, struct joblot_event *event)
{
    if (event->kind == JOBLOT_EVENT_RESULT)
        return take_result(r, event);
    if (event->kind == JOBLOT_EVENT_DIED)
        return core_run_died(r, event);
    return 0;
}

static bool
may_draw(const struct run *r)
{
    return !r->exhausted && !is_stuck(r) && r->drawn - r->done < most_ahead(r);
}

/* Takes all that has come, up to a bound, before more is drawn: workers are then fed in groups, and woken once. */
static int
take_all(struct run *r)
{
    struct joblot_event event = {.kind = JOBLOT_EVENT_RESULT};
    for (int n = 0; n < MOST_AT_ONCE && event.kind == JOBLOT_EVENT_RESULT; n++) {
        if (wait_event(r, &event, n == 0 && !may_draw(r)) < 0) {
            if (r->owner->pool != NULL)
                joblot_event_done(r->call, &event);
            return -1;
        }
        if (take_event(r, &event) < 0)
            return -1;
        if (r->exhausted && r->done == r->drawn)
            return 0;
    }
    return 0;
}

static int
loop(struct run *r)
{
    for (;;) {
        if (!r->exhausted && draw(r) < 0)
            return -1;
        if (r->exhausted && r->done == r->drawn)
            return 0;
        if (take_all(r) < 0)
            return -1;
    }
}

static PyObject *
run_call(struct run *r, const struct joblot_call_options *options, uint64_t key, const Py_buffer *settings)
{
    joblot_error err;
    PyObject *results = NULL;
    core_warm_begin(&r->st->warm);
    joblot_status status = joblot_call_open(r->owner->pool, options, &r->call, &err);
    if (status != JOBLOT_OK)
        return core_raise(r->st, status, &err);
    r->encoder->call = r->call;
    status = joblot_call_note(r->call, key << 8 | CORE_NOTE_SETTINGS, 1, settings->buf, (size_t)settings->len, &err);
    if (status != JOBLOT_OK)
        core_raise(r->st, status, &err);
    else if (loop(r) == 0)
        results = core_run_results(r);
    if (check_owner(r) < 0) {
        Py_INCREF(r->encoder); /* nor what it has of the parent's segments: this child leaves it all alone */
        return NULL;
    }
    /* Before the end of the call, so that it sees which segments are free. */
    core_encoder_reset(r->encoder);
    struct core_shares_cost cost = core_shares_cost(r->encoder->shares);
    core_shares_free(r->encoder->shares);
    r->encoder->shares = NULL;
    r->encoder->call = NULL;
    Py_BEGIN_ALLOW_THREADS
    joblot_call_close(r->call);
    Py_END_ALLOW_THREADS
    core_warm_end(&r->st->warm);
    if (results != NULL && core_shares_warn(r->st, &cost) < 0)
        Py_CLEAR(results);
    return results;
}

/* A folder's name in the file system's own bytes, or None. */
static int
to_folder(PyObject *value, void *out)
{
    if (value == NULL || value == Py_None) { /* NULL: clean up after an argument that comes later */
        Py_CLEAR(*(PyObject **)out);
        return 1;
    }
    return PyUnicode_FSConverter(value, out);
}

static PyObject *
run_tasks(struct run *r, struct joblot_call_options *options, const struct core_run_settings *s)
{
    PyObject *results = NULL;
    r->results = PyList_New(0);
    r->functions = core_functions_new(s->compare == CORE_COMPARE_NOTHING, &r->owner->last_function);
    r->encoder = core_encoder_new(r->st);
    if (r->encoder != NULL)
        r->encoder->shares = core_shares_new(s->compare);
    if (r->results != NULL && r->functions != NULL && r->encoder != NULL && r->encoder->shares != NULL) {
        r->missing = (PyObject *)r->encoder;
        r->skipped = (PyObject *)r->owner;
        r->encoder->max_nbytes = s->max_nbytes;
        r->encoder->mode = s->mode;
        r->encoder->main_names = r->owner->main_names;
        results = run_call(r, options, s->key, &s->settings);
    }
    if (r->encoder != NULL) {
        core_encoder_reset(r->encoder);
        core_shares_free(r->encoder->shares);
        r->encoder->shares = NULL;
    }
    Py_XDECREF(r->encoder);
    core_functions_free(r->functions);
    Py_CLEAR(r->waiting);
    Py_XDECREF(r->results);
    return results;
}

PyObject *
core_pool_run(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tasks",      "n_jobs",      "pre_dispatch", "batch",    "timeout",      "retries",  "max_nbytes",
                            "mmap_mode",  "folder",      "fallback_folder", "compare", "settings_key", "settings",
                            "progress",   "on_error",    "max_tasks", "task_timeout_ns", "memory_limit", "idle_timeout_ns",
                            "elastic", NULL};
    struct core_pool *pool = (struct core_pool *)self;
    struct run r = {.st = pool->st, .owner = pool};
    struct joblot_call_options options = {.n_workers = 1};
    struct core_run_settings s = {.compare = CORE_COMPARE_WHOLE};
    PyObject *folder = NULL, *fallback = NULL, *results = NULL;
    Py_ssize_t batch;
    long long max_nbytes, task_timeout = 0, idle_timeout = 0;
    unsigned long long key, max_tasks = 0, memory_limit = 0;
    int compare, on_error = CORE_RAISE;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OnnndILiO&O&iKy*O|iKLKLp:run", names, &r.tasks, &r.n_jobs, &r.pre_dispatch,
                                     &batch, &r.timeout, &options.retries, &max_nbytes, &s.mode, to_folder, &folder,
                                     to_folder, &fallback, &compare, &key, &s.settings, &r.progress, &on_error,
                                     &max_tasks, &task_timeout, &memory_limit, &idle_timeout, &r.elastic))
        return NULL;
    s.compare = (enum core_compare)compare;
    r.on_error = (enum core_on_error)on_error;
    s.max_nbytes = max_nbytes;
    s.key = key;
    options.n_workers = (size_t)r.n_jobs;
    options.batch = (size_t)batch;
    r.batch = batch;
    options.max_tasks = max_tasks;
    options.task_timeout_ns = task_timeout;
    options.memory_limit = memory_limit;
    options.idle_timeout_ns = idle_timeout;
    r.options = &options;
    options.folder = folder != NULL ? PyBytes_AS_STRING(folder) : NULL;
    options.fallback_folder = fallback != NULL ? PyBytes_AS_STRING(fallback) : NULL;
    if (pool->pool == NULL || !PyIter_Check(r.tasks))
        PyErr_SetString(PyExc_ValueError, pool->pool == NULL ? "the pool is closed" : "tasks must be an iterator");
    else
        results = run_tasks(&r, &options, &s);
    PyBuffer_Release(&s.settings);
    Py_XDECREF(folder);
    Py_XDECREF(fallback);
    return results;
}
