/* pool.c - the type Pool: the parent's side of worker processes, and the loop that drives a call. */
#include "core.h"

#include <string.h>

/* Events that are taken before the input is looked at again. */
enum { MOST_AT_ONCE = 1024 };

struct pool {
    PyObject_HEAD
    struct core_state *st;
    joblot_pool *pool; /* NULL: closed, or abandoned in a forked child */
    uint32_t last_function;
    size_t n_held; /* by calls, which need it open */
    bool closing;  /* as soon as nobody holds it */
    int64_t grace;
};

/* One call of Parallel. */
struct run {
    struct core_state *st;
    struct pool *owner;
    joblot_call *call;
    PyObject *tasks;    /* iterator */
    PyObject *results;  /* list; `missing` where there is none yet */
    PyObject *missing;
    struct core_functions *functions;
    PyObject *progress;
    struct core_encoder *encoder;
    Py_ssize_t pre_dispatch; /* batches; < 0: all */
    Py_ssize_t n_jobs;
    double timeout;
    Py_ssize_t drawn, done, head; /* head: the first without a result */
    int64_t head_since;
    bool exhausted, preload_known;
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
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        (void)PyException_SetTraceback(value, traceback);
    PyObject *helper = core_helper(r->st, name);
    PyObject *better = helper ? PyObject_CallFunction(helper, "OOn", subject, value, r->drawn) : NULL;
    if (better != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(better), better);
    Py_XDECREF(helper);
    Py_XDECREF(better);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
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
    joblot_status status = joblot_call_submit(r->call, 0, r->encoder->parts, r->encoder->n_parts, &err);
    if (status != JOBLOT_OK)
        return fail_status(r, status, &err);
    if (core_shares_task(r->encoder->shares, (uint64_t)r->drawn) < 0 || PyList_Append(r->results, r->missing) < 0)
        return -1;
    core_encoder_reset(r->encoder);
    r->drawn++;
    return 0;
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

/* Draws tasks up to what pre_dispatch allows, a few at a time so that workers start on the first. */
static int
draw(struct run *r)
{
    size_t batch = joblot_call_batch(r->call);
    Py_ssize_t most = r->pre_dispatch < 0 ? PY_SSIZE_T_MAX : r->pre_dispatch * (Py_ssize_t)batch;
    Py_ssize_t chunk = r->n_jobs * (Py_ssize_t)batch;
    for (Py_ssize_t i = 0; i < chunk && r->drawn - r->done < most; i++) {
        PyObject *task = PyIter_Next(r->tasks);
        if (check_owner(r) < 0) {
            Py_XDECREF(task);
            return -1;
        }
        if (task == NULL) {
            r->exhausted = true;
            return PyErr_Occurred() ? -1 : 0;
        }
        int rc = check_task(r, task);
        if (rc == 0)
            rc = submit(r, task);
        Py_DECREF(task);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* ---- answers ---- */

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

static int
keep_result(struct run *r, uint64_t number, PyObject *result)
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

static int
raise_error(struct run *r, const unsigned char *stream, size_t size)
{
    PyObject *helper = core_helper(r->st, "unpack_error");
    PyObject *error = helper ? PyObject_CallFunction(helper, "y#", (const char *)stream, (Py_ssize_t)size) : NULL;
    Py_XDECREF(helper);
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    return -1;
}

static int
take_result(struct run *r, struct joblot_event *event)
{
    struct core_decoder d = {.st = r->st, .call = r->call, .event = event, .n_parts = event->n_parts};
    const unsigned char *stream;
    size_t size;
    PyObject *result = NULL;
    int rc = -1;
    if (event->status != JOBLOT_OK) {
        joblot_error err;
        snprintf(err.message, sizeof err.message, "task %llu: %s", (unsigned long long)event->number,
                 event->message != NULL ? event->message : joblot_status_text(event->status));
        err.os_errno = 0;
        core_raise(r->st, event->status, &err);
    } else if (core_decoder_init(&d, &stream, &size) == 0) {
        if (size > 1 && stream[0] == CORE_ERROR)
            rc = raise_error(r, stream + 1, size - 1);
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
        return keep_result(r, event->number, result);
    if (d.status == JOBLOT_WORKER_DIED) { /* under the reader: the engine tries the task again, or says so next */
        PyErr_Clear();
        return 0;
    }
    return rc;
}

/* {number: result} of the tasks that are done. */
static PyObject *
finished_results(struct run *r)
{
    PyObject *finished = PyDict_New();
    for (Py_ssize_t i = 0; finished != NULL && i < r->drawn; i++) {
        PyObject *key = PyList_GET_ITEM(r->results, i) == r->missing ? NULL : PyLong_FromSsize_t(i);
        if (key != NULL && PyDict_SetItem(finished, key, PyList_GET_ITEM(r->results, i)) < 0)
            Py_CLEAR(finished);
        Py_XDECREF(key);
    }
    return finished;
}

static int
raise_death(struct run *r, const struct joblot_event *event)
{
    const struct joblot_death *d = &event->death;
    PyObject *helper = core_helper(r->st, "make_death");
    PyObject *finished = finished_results(r);
    PyObject *error = NULL;
    if (helper != NULL && finished != NULL)
        error = PyObject_CallFunction(helper, "KiiiiKIOi", (unsigned long long)event->number, d->pid, d->status_known,
                                      d->signal, d->exit_code, (unsigned long long)d->peak_memory, d->attempts, finished,
                                      d->server_died);
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    Py_XDECREF(finished);
    Py_XDECREF(helper);
    return -1;
}

/* Workers die before they take a task: what catches a death is to catch this. */
static int
raise_no_workers(struct run *r, const joblot_error *err)
{
    PyObject *helper = core_helper(r->st, "make_no_workers");
    PyObject *finished = finished_results(r);
    PyObject *error = helper && finished ? PyObject_CallFunction(helper, "sO", err->message, finished) : NULL;
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    Py_XDECREF(finished);
    Py_XDECREF(helper);
    return -1;
}

/* ---- the loop ---- */

static int64_t
now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* How long to wait for the first result that is missing; < 0: for good; 0: its time is over. */
static int64_t
time_left(struct run *r)
{
    if (r->timeout < 0)
        return -1;
    int64_t now = now_ns();
    if (r->head_since == 0)
        r->head_since = now;
    int64_t left = r->head_since + (int64_t)(r->timeout * 1e9) - now;
    return left > 0 ? left : 0;
}

static int
raise_timeout(struct run *r)
{
    PyObject *helper = core_helper(r->st, "make_timeout");
    PyObject *error = helper ? PyObject_CallFunction(helper, "nd", r->head, r->timeout) : NULL;
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(helper);
    Py_XDECREF(error);
    return -1;
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
            return raise_timeout(r);
        Py_BEGIN_ALLOW_THREADS
        status = joblot_call_next(r->call, left, event, &err);
        Py_END_ALLOW_THREADS
    }
    if (status == JOBLOT_WORKER_DIED)
        return raise_no_workers(r, &err);
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
        return raise_death(r, event);
    return 0;
}

static bool
may_draw(const struct run *r)
{
    return !r->exhausted && (r->pre_dispatch < 0 || r->drawn - r->done <
                                                        r->pre_dispatch * (Py_ssize_t)joblot_call_batch(r->call));
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
    joblot_status status = joblot_call_open(r->owner->pool, options, &r->call, &err);
    if (status != JOBLOT_OK)
        return core_raise(r->st, status, &err);
    r->encoder->call = r->call;
    status = joblot_call_note(r->call, key << 8 | CORE_NOTE_SETTINGS, 1, settings->buf, (size_t)settings->len, &err);
    if (status != JOBLOT_OK)
        core_raise(r->st, status, &err);
    else if (loop(r) == 0)
        results = Py_NewRef(r->results);
    if (check_owner(r) < 0) {
        Py_INCREF(r->encoder); /* nor what it has of the parent's segments: this child leaves it all alone */
        return NULL;
    }
    /* Before the end of the call, so that it sees which segments are free. */
    core_encoder_reset(r->encoder);
    core_shares_free(r->encoder->shares);
    r->encoder->shares = NULL;
    r->encoder->call = NULL;
    Py_BEGIN_ALLOW_THREADS
    joblot_call_close(r->call);
    Py_END_ALLOW_THREADS
    return results;
}

static PyObject *
pool_run(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tasks",      "n_jobs",      "pre_dispatch", "batch",    "timeout",      "retries",  "max_nbytes",
                            "mmap_mode",  "folder",      "fallback_folder", "compare", "settings_key", "settings",
                            "progress",   NULL};
    struct pool *pool = (struct pool *)self;
    struct run r = {.st = pool->st, .owner = pool};
    struct joblot_call_options options = {.n_workers = 1};
    Py_ssize_t batch;
    long long max_nbytes;
    int mode, compare;
    unsigned long long key;
    Py_buffer settings;
    PyObject *results = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OnnndILizziKy*O:run", names, &r.tasks, &r.n_jobs, &r.pre_dispatch,
                                     &batch, &r.timeout, &options.retries, &max_nbytes, &mode, &options.folder,
                                     &options.fallback_folder, &compare, &key, &settings, &r.progress))
        return NULL;
    if (pool->pool == NULL || !PyIter_Check(r.tasks)) {
        PyBuffer_Release(&settings);
        PyErr_SetString(PyExc_ValueError, pool->pool == NULL ? "the pool is closed" : "tasks must be an iterator");
        return NULL;
    }
    options.n_workers = (size_t)r.n_jobs;
    options.batch = (size_t)batch;
    r.results = PyList_New(0);
    r.functions = core_functions_new(!compare, &pool->last_function);

    r.encoder = core_encoder_new(r.st);
    if (r.encoder != NULL)
        r.encoder->shares = core_shares_new((enum core_compare)compare);
    if (r.results != NULL && r.functions != NULL && r.encoder != NULL && r.encoder->shares != NULL) {
        r.missing = (PyObject *)r.encoder; /* an object that no task can return */
        r.encoder->max_nbytes = max_nbytes;
        r.encoder->mode = mode;
        results = run_call(&r, &options, key, &settings);
    }
    if (r.encoder != NULL) {
        core_encoder_reset(r.encoder);
        core_shares_free(r.encoder->shares);
        r.encoder->shares = NULL;
    }
    Py_XDECREF(r.encoder);
    core_functions_free(r.functions);
    Py_XDECREF(r.results);
    PyBuffer_Release(&settings);
    return results;
}

/* ---- the type ---- */

static const char **
string_list(PyObject *list)
{
    Py_ssize_t n = PySequence_Size(list);
    const char **out = n < 0 ? NULL : PyMem_Calloc((size_t)n + 1, sizeof *out);
    for (Py_ssize_t i = 0; out != NULL && i < n; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(list, i);
        if (!PyBytes_Check(item)) {
            PyErr_SetString(PyExc_TypeError, "arguments and environment of a server are lists of bytes");
            PyMem_Free(out);
            return NULL;
        }
        out[i] = PyBytes_AS_STRING(item);
    }
    return out;
}

static PyObject *
pool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"argv", "env", NULL};
    PyObject *argv, *env;
    joblot_error err;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!:Pool", names, &PyList_Type, &argv, &PyList_Type, &env))
        return NULL;
    struct pool *pool = (struct pool *)type->tp_alloc(type, 0);
    if (pool == NULL)
        return NULL;
    pool->st = core_state_of_type(type);
    const char **argv_list = string_list(argv), **env_list = argv_list ? string_list(env) : NULL;
    joblot_status status = JOBLOT_OK;
    if (env_list != NULL) {
        struct joblot_pool_options options = {.server_argv = argv_list, .server_env = env_list};
        status = joblot_pool_open(&options, &pool->pool, &err);
        if (status != JOBLOT_OK)
            core_raise(pool->st, status, &err);
    }
    PyMem_Free(argv_list);
    PyMem_Free(env_list);
    if (pool->pool == NULL)
        Py_CLEAR(pool);
    return (PyObject *)pool;
}

static void
close_unless_held(struct pool *pool)
{
    joblot_pool *closing = pool->pool;
    if (!pool->closing || pool->n_held > 0)
        return;
    pool->pool = NULL;
    Py_BEGIN_ALLOW_THREADS
    joblot_pool_close(closing, pool->grace);
    Py_END_ALLOW_THREADS
}

static PyObject *
pool_hold(PyObject *self, PyObject *unused)
{
    struct pool *pool = (struct pool *)self;
    (void)unused;
    if (pool->pool == NULL || pool->closing) {
        PyErr_SetString(PyExc_ValueError, "the pool is closed");
        return NULL;
    }
    pool->n_held++;
    Py_RETURN_NONE;
}

static PyObject *
pool_release(PyObject *self, PyObject *unused)
{
    struct pool *pool = (struct pool *)self;
    (void)unused;
    if (pool->n_held > 0)
        pool->n_held--;
    close_unless_held(pool);
    Py_RETURN_NONE;
}

static PyObject *
pool_close(PyObject *self, PyObject *arg)
{
    struct pool *pool = (struct pool *)self;
    double grace = PyFloat_AsDouble(arg);
    if (grace == -1.0 && PyErr_Occurred())
        return NULL;
    pool->closing = true;
    pool->grace = (int64_t)(grace * 1e9);
    close_unless_held(pool);
    return PyBool_FromLong(pool->pool == NULL);
}

static PyObject *
pool_abandon(PyObject *self, PyObject *unused)
{
    struct pool *pool = (struct pool *)self;
    (void)unused;
    joblot_pool_abandon(pool->pool);
    pool->pool = NULL;
    Py_RETURN_NONE;
}

static PyObject *
pool_processes(PyObject *self, PyObject *unused)
{
    struct pool *pool = (struct pool *)self;
    int pids[4096];
    (void)unused;
    if (pool->pool == NULL)
        return Py_BuildValue("i[]", 0);
    int server = joblot_pool_server_pid(pool->pool);
    size_t n = joblot_pool_workers(pool->pool, pids, 4096);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < n && i < 4096; i++) {
        PyObject *pid = PyLong_FromLong(pids[i]);
        if (pid == NULL || PyList_Append(list, pid) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pid);
    }
    return list == NULL ? NULL : Py_BuildValue("iN", server, list);
}

static void
pool_dealloc(PyObject *self)
{
    struct pool *pool = (struct pool *)self;
    PyTypeObject *type = Py_TYPE(self);
    joblot_pool *closing = pool->pool;
    if (closing != NULL) {
        Py_BEGIN_ALLOW_THREADS
        joblot_pool_close(closing, 0);
        Py_END_ALLOW_THREADS
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef pool_methods[] = {
    {"run", (PyCFunction)(void (*)(void))pool_run, METH_VARARGS | METH_KEYWORDS,
     "Run an iterator of (function, args, kwargs); return the results in input order."},
    {"hold", pool_hold, METH_NOARGS, "Keep it open until `release`."},
    {"release", pool_release, METH_NOARGS, "The end of a `hold`; the last one closes a pool that was to be closed."},
    {"close", pool_close, METH_O,
     "End server and workers, now or when nobody holds the pool; they have so many seconds to leave by themselves."},
    {"abandon", pool_abandon, METH_NOARGS, "In a forked child: forget the parent's processes."},
    {"processes", pool_processes, METH_NOARGS, "(pid of the server or 0, pids of the workers)"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_doc, "Worker processes behind one server."},
    {Py_tp_new, pool_new},
    {Py_tp_dealloc, pool_dealloc},
    {Py_tp_methods, pool_methods},
    {0, NULL},
};

PyType_Spec joblot__pool_spec = {
    .name = "joblot._core.Pool",
    .basicsize = sizeof(struct pool),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = pool_slots,
};
