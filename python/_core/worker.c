/* worker.c - the Python side of server and workers: hooks that the engine calls, without the GIL, around tasks and forks. */
#include "shared.h"

#include <string.h>

/* An answer of at most so many bytes is written without letting other threads run. */
enum { QUICK_REPLY = 16 << 10 };

struct context {
    struct core_state *st;
    PyThreadState *thread; /* of the one thread of this process that the engine knows */
    PyObject *functions;   /* id -> function, or the exception that loading it raised */
    PyObject *restore;     /* (callable, list, list): called before a task where a list is not empty */
    PyObject *unflushed;   /* list of streams; flush_streams is called after a task where it is not empty */
    struct core_encoder *encoder;
};

static void
enter(struct context *c)
{
    PyEval_RestoreThread(c->thread);
}

static void
leave(struct context *c)
{
    c->thread = PyEval_SaveThread();
}

/* ---- forks ---- */

static void
before_fork(void *context)
{
    struct context *c = context;
    enter(c);
    PyObject *helper = core_helper(c->st, "before_fork");
    PyObject *done = helper ? PyObject_CallNoArgs(helper) : NULL;
    if (done == NULL)
        PyErr_WriteUnraisable(helper);
    Py_XDECREF(helper);
    Py_XDECREF(done);
    PyOS_BeforeFork();
}

static void
after_fork_parent(void *context)
{
    PyOS_AfterFork_Parent();
    leave(context);
}

static void
after_fork_child(void *context)
{
    PyOS_AfterFork_Child();
    leave(context);
}

static void
prepare(void *context, const void *preload, size_t size)
{
    struct context *c = context;
    enter(c);
    PyObject *helper = core_helper(c->st, "preload");
    PyObject *done = helper ? PyObject_CallFunction(helper, "y#", (const char *)preload, (Py_ssize_t)size) : NULL;
    if (done == NULL)
        PyErr_WriteUnraisable(helper);
    Py_XDECREF(helper);
    Py_XDECREF(done);
    leave(c);
}

/* ---- errors ---- */

/* Answers a task with the exception that is set. The GIL is held. */
static joblot_status
reply_exception(struct context *c, joblot_worker *worker, joblot_error *err)
{
    PyObject *exception = core_take_exception();
    PyObject *helper = core_helper(c->st, "pack_error");
    PyObject *packed = helper && exception ? PyObject_CallOneArg(helper, exception) : NULL;
    Py_XDECREF(helper);
    Py_XDECREF(exception);
    if (packed == NULL || !PyBytes_Check(packed)) {
        PyErr_WriteUnraisable(NULL);
        Py_XDECREF(packed);
        snprintf(err->message, sizeof err->message, "a task failed, and so did telling of it: see the worker's stderr");
        return JOBLOT_INVALID;
    }
    struct joblot_part part = {.data = PyBytes_AS_STRING(packed), .size = (uint64_t)PyBytes_GET_SIZE(packed)};
    leave(c);
    joblot_status status = joblot_worker_reply(worker, &part, 1, err);
    enter(c);
    Py_DECREF(packed);
    return status == JOBLOT_CANCELLED ? JOBLOT_OK : status;
}

/* ---- tasks ---- */

/* The function of a task that names it; borrowed, or NULL with what loading it raised. */
static PyObject *
named_function(struct context *c, const unsigned char *stream)
{
    uint32_t id = stream[1] | (uint32_t)stream[2] << 8 | (uint32_t)stream[3] << 16 | (uint32_t)stream[4] << 24;
    PyObject *key = PyLong_FromUnsignedLong(id);
    PyObject *function = key ? PyDict_GetItemWithError(c->functions, key) : NULL;
    Py_XDECREF(key);
    if (function != NULL && !PyExceptionInstance_Check(function))
        return function;
    if (function != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(function), function);
    else if (!PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "the function of a task has not arrived");
    return NULL;
}

/* The parts of a task out of the tuple that was pickled; takes the reference. */
static int
take_parts(PyObject *tuple, Py_ssize_t n, PyObject *out[3])
{
    if (tuple == NULL)
        return -1;
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != n) {
        Py_DECREF(tuple);
        PyErr_SetString(PyExc_ValueError, "a task that is no (function, args, kwargs)");
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        out[3 - n + i] = Py_NewRef(PyTuple_GET_ITEM(tuple, i));
    Py_DECREF(tuple);
    return 0;
}

/* (function, args, kwargs) of a message; new references in out, kwargs NULL where there are none. */
static int
read_task(struct context *c, struct core_decoder *d, PyObject *out[3])
{
    const unsigned char *stream;
    size_t size;
    if (core_decoder_init(d, &stream, &size) < 0)
        return -1;
    if (size > 1 && stream[0] == CORE_CALL)
        return take_parts(core_decode(d, stream + 1, size - 1), 3, out);
    if (size < 6 || (stream[0] != CORE_NAMED && stream[0] != CORE_PLAIN)) {
        PyErr_SetString(PyExc_ValueError, "a task that this version of joblot does not know");
        return -1;
    }
    PyObject *function = named_function(c, stream);
    if (function == NULL)
        return -1;
    out[0] = Py_NewRef(function);
    if (stream[0] == CORE_NAMED)
        return take_parts(core_decode(d, stream + 5, size - 5), 2, out);
    out[1] = core_scalar_read(stream + 5, size - 5);
    return out[1] == NULL ? -1 : 0;
}

static PyObject *
call_task(PyObject *const part[3])
{
    PyObject *args = PySequence_Tuple(part[1]), *result = NULL;
    PyObject *kwargs = part[2];
    if (kwargs != NULL && !PyDict_Check(kwargs)) { /* another mapping */
        kwargs = PyDict_New();
        if (kwargs != NULL && PyDict_Update(kwargs, part[2]) < 0)
            Py_CLEAR(kwargs);
        if (kwargs == NULL)
            Py_CLEAR(args);
    } else {
        Py_XINCREF(kwargs);
    }
    if (args != NULL)
        result = PyObject_Call(part[0], args, kwargs == NULL || PyDict_GET_SIZE(kwargs) == 0 ? NULL : kwargs);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    return result;
}

/* Turns a failure to pickle a result into an error that names the part. */
static void
explain_result(struct context *c, PyObject *result)
{
    PyObject *exception = core_take_exception();
    PyObject *helper = core_helper(c->st, "explain_result");
    PyObject *better = helper && exception ? PyObject_CallFunctionObjArgs(helper, result, exception, NULL) : NULL;
    if (better != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(better), better);
    Py_XDECREF(helper);
    Py_XDECREF(better);
    Py_XDECREF(exception);
}

/* Pickles the result into the encoder; -1: an exception is set. */
static int
write_result(struct context *c, joblot_worker *worker, PyObject *result)
{
    unsigned char form = CORE_VALUE;
    core_encoder_reset(c->encoder);
    c->encoder->by_value = false;
    c->encoder->worker = worker;
    if (core_bytes_add(&c->encoder->stream, &form, 1) < 0)
        return -1;
    int plain = core_scalar_write(&c->encoder->stream, result);
    if (plain != 0)
        return plain < 0 ? -1 : core_finish_parts(c->encoder);
    c->encoder->stream.data[0] = CORE_RESULT;
    if (core_encode(c->encoder, result) == 0)
        return 0;
    core_encoder_reset(c->encoder);
    if (PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(PyExc_MemoryError))
        explain_result(c, result);
    return -1;
}

/* What an earlier task left set in this thread goes, and what came with the packages of this one is seen to. */
static int
restore(struct context *c)
{
    if (c->restore == NULL || (PyList_GET_SIZE(PyTuple_GET_ITEM(c->restore, 1)) == 0 &&
                               PyList_GET_SIZE(PyTuple_GET_ITEM(c->restore, 2)) == 0))
        return 0;
    PyObject *restored = PyObject_CallNoArgs(PyTuple_GET_ITEM(c->restore, 0));
    Py_XDECREF(restored);
    return restored == NULL ? -1 : 0;
}

/* What the task has printed is there before its answer is, also without a newline. */
static void
flush_streams(struct context *c)
{
    PyObject *type, *value, *traceback;
    if (c->unflushed == NULL || PyList_GET_SIZE(c->unflushed) == 0)
        return;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *helper = core_helper(c->st, "flush_streams");
    PyObject *done = helper ? PyObject_CallNoArgs(helper) : NULL;
    if (done == NULL)
        PyErr_WriteUnraisable(helper);
    Py_XDECREF(helper);
    Py_XDECREF(done);
    PyErr_Restore(type, value, traceback);
}

static joblot_status
run_task(joblot_worker *worker, const struct joblot_task *task, void *context, joblot_error *err)
{
    struct context *c = context;
    struct core_decoder d = {.st = c->st, .worker = worker, .arrived = task->parts, .n_parts = task->n_parts};
    PyObject *part[3] = {NULL, NULL, NULL}, *result = NULL;
    joblot_status status = JOBLOT_OK;
    enter(c);
    bool ok = read_task(c, &d, part) == 0;
    core_decoder_clear(&d);
    ok = ok && restore(c) == 0;
    if (ok && core_shared_resolve(c->st, &part[1], &part[2]) < 0)
        ok = false;
    if (ok)
        result = call_task(part);
    ok = ok && result != NULL && write_result(c, worker, result) == 0;
    flush_streams(c);
    for (int i = 0; i < 3; i++) /* before the answer, so that what it does not hold can go back at once */
        Py_CLEAR(part[i]);
    if (ok && c->encoder->n_entries > 0) /* what it lies in may be the parent's: not ours any more when it answers */
        Py_CLEAR(result);
    if (!ok) {
        Py_CLEAR(result);
        status = reply_exception(c, worker, err);
    } else {
        bool quick = c->encoder->n_parts == 1 && c->encoder->stream.size <= QUICK_REPLY; /* waits for nobody */
        if (!quick)
            leave(c);
        status = joblot_worker_reply(worker, c->encoder->parts, c->encoder->n_parts, err);
        if (status == JOBLOT_CANCELLED)
            status = JOBLOT_OK;
        if (!quick)
            enter(c);
        core_encoder_reset(c->encoder);
        Py_XDECREF(result);
    }
    leave(c);
    return status;
}

/* ---- notes ---- */

/* {u8: the first of its call; u32 id; pickle}: a function that later tasks name. */
static int
take_function(struct context *c, struct core_decoder *d, const unsigned char *bytes, size_t size)
{
    if (size < 6) {
        PyErr_SetString(PyExc_ValueError, "a function that is cut");
        return -1;
    }
    if (bytes[0])
        PyDict_Clear(c->functions);
    uint32_t id = bytes[1] | (uint32_t)bytes[2] << 8 | (uint32_t)bytes[3] << 16 | (uint32_t)bytes[4] << 24;
    PyObject *function = core_decode(d, bytes + 5, size - 5);
    if (function == NULL)
        function = core_take_exception(); /* each task that names it raises this */
    PyObject *key = PyLong_FromUnsignedLong(id);
    int rc = key == NULL || function == NULL ? -1 : PyDict_SetItem(c->functions, key, function);
    Py_XDECREF(key);
    Py_XDECREF(function);
    return rc;
}

static joblot_status
take_note(joblot_worker *worker, const struct joblot_task *task, void *context, joblot_error *err)
{
    struct context *c = context;
    struct core_decoder d = {.st = c->st, .worker = worker, .arrived = task->parts, .n_parts = task->n_parts};
    const unsigned char *bytes;
    size_t size;
    (void)err;
    enter(c);
    int rc = core_decoder_init(&d, &bytes, &size);
    if (rc == 0 && (task->kind & 0xff) == CORE_NOTE_FUNCTION) {
        rc = take_function(c, &d, bytes, size);
    } else if (rc == 0) {
        PyObject *helper = core_helper(c->st, "apply_settings");
        PyObject *done = helper ? PyObject_CallFunction(helper, "y#", (const char *)bytes, (Py_ssize_t)size) : NULL;
        rc = done != NULL && PyTuple_Check(done) && PyTuple_GET_SIZE(done) == 3 ? 0 : -1;
        if (rc == 0)
            Py_XSETREF(c->restore, Py_NewRef(done));
        Py_XDECREF(helper);
        Py_XDECREF(done);
    }
    if (rc < 0)
        PyErr_WriteUnraisable(NULL);
    core_decoder_clear(&d);
    leave(c);
    return JOBLOT_OK;
}

static joblot_status
forget(joblot_worker *worker, const struct joblot_task *what, void *context, joblot_error *err)
{
    struct context *c = context;
    (void)worker;
    (void)err;
    enter(c);
    core_shared_forget(c->st, what->kind);
    leave(c);
    return JOBLOT_OK;
}

/* What the helper returned, a new reference or NULL; the GIL is held. */
static PyObject *
call_helper(struct context *c, const char *name)
{
    PyObject *helper = core_helper(c->st, name);
    PyObject *done = helper ? PyObject_CallNoArgs(helper) : NULL;
    if (done == NULL)
        PyErr_WriteUnraisable(helper);
    Py_XDECREF(helper);
    return done;
}

static joblot_status
start_worker(joblot_worker *worker, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)task;
    struct context *c = context;
    enter(c);
    PyObject *helper = core_helper(c->st, "start_worker");
    c->unflushed = helper ? PyObject_CallFunction(helper, "i", joblot_worker_crash_file(worker)) : NULL;
    if (c->unflushed == NULL)
        PyErr_WriteUnraisable(helper);
    Py_XDECREF(helper);
    leave(c);
    if (c->unflushed != NULL && PyList_Check(c->unflushed))
        return JOBLOT_OK;
    snprintf(err->message, sizeof err->message, "this worker could not be set up: see stderr");
    return JOBLOT_INVALID;
}

/* ---- servers and workers ---- */

static const joblot_function functions[] = {run_task};

static int
context_init(struct context *c)
{
    c->functions = PyDict_New();
    c->encoder = core_encoder_new(c->st);
    if (c->functions == NULL || c->encoder == NULL)
        return -1;
    c->encoder->is_result = true;
    return 0;
}

static void
context_clear(struct context *c)
{
    Py_CLEAR(c->functions);
    Py_CLEAR(c->encoder);
    Py_CLEAR(c->restore);
    Py_CLEAR(c->unflushed);
}

static struct joblot_worker_hooks
worker_hooks(struct context *c)
{
    return (struct joblot_worker_hooks){
        .functions = functions, .n_functions = 1, .start = start_worker, .note = take_note, .forget = forget, .context = c};
}

static struct joblot_server_hooks
server_hooks(struct context *c, const struct joblot_worker_hooks *worker)
{
    return (struct joblot_server_hooks){.worker = worker,
                                        .context = c,
                                        .prepare = prepare,
                                        .before_fork = before_fork,
                                        .after_fork_parent = after_fork_parent,
                                        .after_fork_child = after_fork_child};
}

PyObject *
core_work(PyObject *module, PyObject *args)
{
    struct context c = {.st = core_state_of(module)};
    int server_pid, parent_pid;
    joblot_error err = {.message = ""};
    if (!PyArg_ParseTuple(args, "ii:work", &server_pid, &parent_pid))
        return NULL;
    if (context_init(&c) < 0) {
        context_clear(&c);
        return NULL;
    }
    struct joblot_worker_hooks worker = worker_hooks(&c);
    leave(&c);
    joblot_status status = joblot_worker_run(&worker, server_pid, parent_pid, &err);
    enter(&c);
    context_clear(&c);
    if (status != JOBLOT_OK)
        return core_raise(c.st, status, &err);
    Py_RETURN_NONE;
}

/* ---- a server that is a fork of this process ---- */

struct core_forked {
    struct context c;
    PyObject *main_names;
    void (*forget)(void *owner);
    void *owner;
    struct joblot_worker_hooks worker;
    struct joblot_server_hooks server;
    struct joblot_fork_hooks fork;
};

/* The caller may hold the GIL, or have let it go while it waits for workers. */
static int
before_server(void *context)
{
    struct core_forked *f = context;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *helper = core_helper(f->c.st, "before_server");
    PyObject *done = helper ? PyObject_CallNoArgs(helper) : NULL;
    if (done == NULL)
        PyErr_WriteUnraisable(helper);
    Py_XDECREF(helper);
    Py_XDECREF(done);
    PyOS_BeforeFork();
    return (int)state;
}

static void
after_server_parent(void *context, int before)
{
    (void)context;
    PyOS_AfterFork_Parent();
    PyGILState_Release((PyGILState_STATE)before);
}

static void
after_server_child(void *context, int before)
{
    struct core_forked *f = context;
    (void)before;
    f->forget(f->owner);
    PyOS_AfterFork_Child();
    PyObject *helper = context_init(&f->c) < 0 ? NULL : core_helper(f->c.st, "become_server");
    PyObject *done = helper ? PyObject_CallOneArg(helper, f->main_names) : NULL;
    if (done == NULL)
        PyErr_WriteUnraisable(helper);
    else
        f->c.encoder->main_names = f->main_names;
    Py_XDECREF(helper);
    Py_XDECREF(done);
    leave(&f->c);
}

/* A worker leaves here, and not through the frames of the caller that it was forked from. */
static joblot_status
leave_worker(joblot_worker *worker, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)worker;
    (void)task;
    (void)err;
    struct context *c = context;
    enter(c);
    Py_XDECREF(call_helper(c, "leave_worker"));
    leave(c);
    return JOBLOT_OK;
}

struct core_forked *
core_forked_new(struct core_state *st, PyObject *main_names, void (*forget)(void *owner), void *owner)
{
    struct core_forked *f = PyMem_Calloc(1, sizeof *f);
    if (f == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    f->c.st = st;
    f->main_names = main_names;
    f->forget = forget;
    f->owner = owner;
    f->worker = worker_hooks(&f->c);
    f->worker.stop = leave_worker;
    f->server = server_hooks(&f->c, &f->worker);
    f->fork = (struct joblot_fork_hooks){.context = f,
                                         .before = before_server,
                                         .after_parent = after_server_parent,
                                         .after_child = after_server_child};
    return f;
}

void
core_forked_options(struct core_forked *f, struct joblot_pool_options *options)
{
    options->server = &f->server;
    options->fork = &f->fork;
}

void
core_forked_free(struct core_forked *f)
{
    PyMem_Free(f);
}

/* ---- a server that was exec'd ---- */

PyObject *
core_serve(PyObject *module, PyObject *args)
{
    struct context c = {.st = core_state_of(module)};
    int socket, pidfd, role = JOBLOT_ROLE_SERVER;
    joblot_error err = {.message = ""};
    PyObject *argv;
    if (!PyArg_ParseTuple(args, "iiO!:serve", &socket, &pidfd, &PyList_Type, &argv))
        return NULL;
    const char **worker_argv = core_string_list(argv);
    if (worker_argv == NULL || context_init(&c) < 0) {
        PyMem_Free(worker_argv);
        context_clear(&c);
        return NULL;
    }
    struct joblot_worker_hooks worker = worker_hooks(&c);
    struct joblot_server_hooks server = server_hooks(&c, &worker);
    server.worker_argv = worker_argv;
    leave(&c);
    joblot_status status = joblot_server_run(socket, pidfd, &server, &role, &err);
    enter(&c);
    context_clear(&c);
    PyMem_Free(worker_argv);
    if (status != JOBLOT_OK)
        return core_raise(c.st, status, &err);
    return PyUnicode_FromString(role == JOBLOT_ROLE_WORKER ? "worker" : "server");
}
