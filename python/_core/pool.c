/* pool.c - the type Pool: the parent's side of worker processes. */
#include "pool.h"

#include <structmember.h>

/* ---- the type ---- */

const char **
core_string_list(PyObject *list)
{
    Py_ssize_t n = PySequence_Size(list);
    const char **out = n < 0 ? NULL : PyMem_Calloc((size_t)n + 1, sizeof *out);
    for (Py_ssize_t i = 0; out != NULL && i < n; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(list, i);
        if (!PyBytes_Check(item)) {
            PyErr_SetString(PyExc_TypeError, "arguments and environment of a process are lists of bytes");
            PyMem_Free(out);
            return NULL;
        }
        out[i] = PyBytes_AS_STRING(item);
    }
    return out;
}

/* In a server that was forked off: this pool is the parent's, and the engine has forgotten it. */
static void
forget_pool(void *owner)
{
    ((struct core_pool *)owner)->pool = NULL;
}

/* A pool whose server is a program that is exec'd. */
static joblot_status
open_exec(struct core_pool *pool, PyObject *argv, PyObject *env, joblot_error *err)
{
    const char **argv_list = core_string_list(argv), **env_list = argv_list ? core_string_list(env) : NULL;
    joblot_status status = JOBLOT_NOMEM;
    if (env_list != NULL) {
        struct joblot_pool_options options = {.server_argv = argv_list, .server_env = env_list};
        status = joblot_pool_open(&options, &pool->pool, err);
    }
    PyMem_Free(argv_list);
    PyMem_Free(env_list);
    return status;
}

/* A pool whose server is a fork of this process. */
static joblot_status
open_forked(struct core_pool *pool, PyObject *main_names, joblot_error *err)
{
    struct joblot_pool_options options = {.ring_size = 0};
    pool->main_names = Py_NewRef(main_names);
    pool->forked = core_forked_new(pool->st, main_names, forget_pool, pool);
    if (pool->forked == NULL)
        return JOBLOT_NOMEM;
    core_forked_options(pool->forked, &options);
    return joblot_pool_open(&options, &pool->pool, err);
}

static PyObject *
pool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"argv", "env", "main_names", NULL};
    PyObject *argv, *env, *main_names = NULL;
    joblot_error err;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!|O!:Pool", names, &PyList_Type, &argv, &PyList_Type, &env,
                                     &PyDict_Type, &main_names))
        return NULL;
    struct core_pool *pool = (struct core_pool *)type->tp_alloc(type, 0);
    if (pool == NULL)
        return NULL;
    pool->st = core_state_of_type(type);
    core_pool_add(pool);
    joblot_status status = main_names != NULL ? open_forked(pool, main_names, &err) : open_exec(pool, argv, env, &err);
    if (status != JOBLOT_OK) {
        if (!PyErr_Occurred())
            core_raise(pool->st, status, &err);
        Py_CLEAR(pool);
    }
    return (PyObject *)pool;
}

static void
close_unless_held(struct core_pool *pool)
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
    struct core_pool *pool = (struct core_pool *)self;
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
    struct core_pool *pool = (struct core_pool *)self;
    (void)unused;
    if (pool->n_held > 0)
        pool->n_held--;
    close_unless_held(pool);
    Py_RETURN_NONE;
}

static PyObject *
pool_close(PyObject *self, PyObject *arg)
{
    struct core_pool *pool = (struct core_pool *)self;
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
    struct core_pool *pool = (struct core_pool *)self;
    (void)unused;
    joblot_pool_abandon(pool->pool);
    pool->pool = NULL;
    Py_RETURN_NONE;
}

static PyObject *
pool_processes(PyObject *self, PyObject *unused)
{
    struct core_pool *pool = (struct core_pool *)self;
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

static PyObject *
pool_execs(PyObject *self, PyObject *unused)
{
    struct core_pool *pool = (struct core_pool *)self;
    (void)unused;
    return PyLong_FromLong(pool->pool == NULL ? 0 : joblot_pool_execs(pool->pool));
}

static void
pool_dealloc(PyObject *self)
{
    struct core_pool *pool = (struct core_pool *)self;
    PyTypeObject *type = Py_TYPE(self);
    joblot_pool *closing = pool->pool;
    if (closing != NULL) {
        Py_BEGIN_ALLOW_THREADS
        joblot_pool_close(closing, 0);
        Py_END_ALLOW_THREADS
    }
    core_forked_free(pool->forked);
    Py_XDECREF(pool->main_names);
    core_pool_remove(pool);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef pool_methods[] = {
    {"run", (PyCFunction)(void (*)(void))core_pool_run, METH_VARARGS | METH_KEYWORDS,
     "Run an iterator of (function, args, kwargs); return the results in input order."},
    {"hold", pool_hold, METH_NOARGS, "Keep it open until `release`."},
    {"release", pool_release, METH_NOARGS, "The end of a `hold`; the last one closes a pool that was to be closed."},
    {"close", pool_close, METH_O,
     "End server and workers, now or when nobody holds the pool; they have so many seconds to leave by themselves."},
    {"abandon", pool_abandon, METH_NOARGS, "In a forked child: forget the parent's processes."},
    {"execs", pool_execs, METH_NOARGS,
     "Why workers are exec'd and not forked: the server's threads, or -errno where they cannot be counted; 0: they are."},
    {"processes", pool_processes, METH_NOARGS, "(pid of the server or 0, pids of the workers)"},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pool_members[] = {
    {"main_names", T_OBJECT, offsetof(struct core_pool, main_names), READONLY,
     "What __main__ was when the server was forked off; None where it is exec'd."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_doc, "Worker processes behind one server."},
    {Py_tp_new, pool_new},
    {Py_tp_dealloc, pool_dealloc},
    {Py_tp_methods, pool_methods},
    {Py_tp_members, pool_members},
    {0, NULL},
};

PyType_Spec joblot__pool_spec = {
    .name = "joblot._core.Pool",
    .basicsize = sizeof(struct core_pool),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = pool_slots,
};
