/* threads.c - the queue of a call on threads: each thread that has ended a task draws the next one from the input.
 *
 * All of a task's path but the task itself runs here while the thread holds the GIL: no lock is taken for it but the one
 * that keeps two threads from advancing the input, or reporting progress, at the same time, since both run Python code.
 * What goes wrong is left to methods of the Python class on top (joblot/_threads.py): `_keep_error`, `_fail`, `_notify`.
 *
 * Threads: any; the GIL guards all members.  Fork: the child has the thread that forked and no other.
 */
#include "shared.h"

#include <stddef.h>
#include <structmember.h>

struct item {
    Py_ssize_t index;
    PyObject *task;
};

struct queue {
    PyObject_HEAD
    struct core_state *st;
    PyObject *tasks, *results, *pending; /* pending: stands in `results` for what has not ended */
    PyObject *local, *outer, *nested;    /* the configuration of this thread: while drawing, and in tasks */
    PyObject *progress;                  /* or None */
    PyThread_type_lock drawing;
    struct item *ready; /* a ring of tasks that were drawn and not taken */
    size_t first, count, capacity;
    Py_ssize_t n_completed;
    int n_threads;
    char notify, exhausted, stopped, end_is_told;
};

/* ---- what is ready ---- */

static int
make_room(struct queue *q)
{
    if (q->count < q->capacity)
        return 0;
    size_t capacity = q->capacity ? 2 * q->capacity : 16;
    struct item *ready = PyMem_New(struct item, capacity);
    if (ready == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < q->count; i++)
        ready[i] = q->ready[(q->first + i) % q->capacity];
    PyMem_Free(q->ready);
    q->ready = ready;
    q->capacity = capacity;
    q->first = 0;
    return 0;
}

static bool
pop(struct queue *q, struct item *out)
{
    if (q->count == 0 || q->stopped)
        return false;
    *out = q->ready[q->first];
    q->first = (q->first + 1) % q->capacity;
    q->count--;
    return true;
}

/* ---- drawing ---- */

/* Where the input blocks while another thread draws, a signal must still reach its Python handler, which may raise. */
static int
take_lock(struct queue *q)
{
    PyLockStatus status = PyThread_acquire_lock_timed(q->drawing, 0, 0);
    while (status != PY_LOCK_ACQUIRED) {
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(q->drawing, -1, 1);
        Py_END_ALLOW_THREADS
        if (status != PY_LOCK_ACQUIRED && PyErr_CheckSignals() < 0)
            return -1;
    }
    return 0;
}

/* Ends the call with the exception that is set. */
static void
fail(struct queue *q)
{
    PyObject *error = core_take_exception();
    PyObject *done = PyObject_CallMethod((PyObject *)q, "_fail", "O", error);
    if (done == NULL)
        PyErr_WriteUnraisable((PyObject *)q);
    q->stopped = 1;
    Py_XDECREF(done);
    Py_DECREF(error);
}

/* Draws one task, the lock being held; false when there is none.  An error in the input ends the call. */
static bool
draw(struct queue *q)
{
    if (q->exhausted || q->stopped)
        return false;
    if (make_room(q) < 0) {
        fail(q);
        return false;
    }
    PyObject *task = PyIter_Next(q->tasks);
    if (task == NULL) {
        if (PyErr_Occurred())
            fail(q);
        else
            q->exhausted = 1;
        return false;
    }
    Py_ssize_t index = PyList_GET_SIZE(q->results);
    if (PyList_Append(q->results, q->pending) < 0 || make_room(q) < 0) {
        Py_DECREF(task);
        fail(q);
        return false;
    }
    q->ready[(q->first + q->count++) % q->capacity] = (struct item){index, task};
    return true;
}

static PyObject *
queue_draw(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct queue *q = (struct queue *)self;
    if (take_lock(q) < 0)
        return NULL;
    bool drawn = draw(q);
    PyThread_release_lock(q->drawing);
    return PyBool_FromLong(drawn);
}

/* ---- running ---- */

/* function(*args, **kwargs) of a task, whatever three things it holds. */
static PyObject *
run_task(struct queue *q, PyObject *task)
{
    PyObject *parts = PySequence_Tuple(task), *args = NULL, *kwargs = NULL, *result = NULL;
    if (parts == NULL)
        return NULL;
    if (PyTuple_GET_SIZE(parts) != 3) {
        PyErr_Format(PyExc_ValueError, "a task has three parts, not %zd", PyTuple_GET_SIZE(parts));
        goto done;
    }
    args = PySequence_Tuple(PyTuple_GET_ITEM(parts, 1));
    if (args == NULL)
        goto done;
    kwargs = PyTuple_GET_ITEM(parts, 2);
    if (PyDict_CheckExact(kwargs)) {
        Py_INCREF(kwargs);
    } else {
        PyObject *mapping = kwargs;
        kwargs = PyDict_New();
        if (kwargs == NULL || PyDict_Update(kwargs, mapping) < 0)
            goto done;
    }
    if (core_shared_replace(q->st, &args, &kwargs) < 0)
        goto done;
    result = PyObject_Call(PyTuple_GET_ITEM(parts, 0), args, PyDict_GET_SIZE(kwargs) > 0 ? kwargs : NULL);
done:
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_DECREF(parts);
    return result;
}

/* Runs a task and puts its result, or what is to stand there for its error, into the list; false: the call is over. */
static bool
run_item(struct queue *q, struct item *item)
{
    PyObject *result = run_task(q, item->task);
    if (result != NULL && PyList_SetItem(q->results, item->index, result) == 0)
        return true;
    PyObject *error = core_take_exception();
    PyObject *kept = PyObject_CallMethod((PyObject *)q, "_keep_error", "nOO", item->index, item->task, error);
    Py_DECREF(error);
    if (kept == NULL)
        fail(q);
    bool go_on = kept == Py_True;
    Py_XDECREF(kept);
    return go_on;
}

static int
use_config(struct queue *q, PyObject *config)
{
    return PyObject_SetAttrString(q->local, "config", config);
}

/* A task has ended: it is counted and reported, and the next one is drawn.  False when the call is over. */
static bool
go_on(struct queue *q)
{
    if (q->stopped)
        return false;
    q->n_completed++;
    if (q->progress != Py_None) {
        PyObject *done = PyObject_CallFunction(q->progress, "nnO", PyList_GET_SIZE(q->results), q->n_completed,
                                               q->end_is_told ? Py_True : Py_False);
        if (done == NULL) {
            fail(q);
            return false;
        }
        Py_DECREF(done);
    }
    if (!q->exhausted) {
        if (use_config(q, q->outer) < 0) {
            fail(q);
            return false;
        }
        (void)draw(q);
        if (use_config(q, q->nested) < 0) {
            fail(q);
            return false;
        }
    }
    q->end_is_told = q->exhausted;
    return true;
}

static int
notify(struct queue *q)
{
    PyObject *done = PyObject_CallMethod((PyObject *)q, "_notify", NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* The body of a thread: takes tasks until there are none. */
static PyObject *
queue_work(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct queue *q = (struct queue *)self;
    struct item item;
    if (use_config(q, q->nested) < 0)
        fail(q);
    while (pop(q, &item)) {
        bool more = run_item(q, &item);
        Py_CLEAR(item.task); /* not kept while the input is drawn from */
        if (!more)
            break;
        if (take_lock(q) < 0) {
            fail(q);
            break;
        }
        more = go_on(q);
        PyThread_release_lock(q->drawing);
        if (!more)
            break;
        if (q->notify && notify(q) < 0)
            fail(q);
    }
    q->n_threads--;
    if (q->n_threads == 0 && notify(q) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the type ---- */

static int
queue_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"tasks", "pending", "local", "nested", "progress", "notify", NULL};
    struct queue *q = (struct queue *)self;
    PyObject *tasks, *pending, *local, *nested, *progress;
    int notify_each;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOp:ThreadQueue", names, &tasks, &pending, &local, &nested,
                                     &progress, &notify_each))
        return -1;
    if (q->drawing != NULL || !PyIter_Check(tasks)) {
        PyErr_SetString(PyExc_TypeError, "tasks must be an iterator, and a queue is initialised once");
        return -1;
    }
    q->st = core_state_of_type(Py_TYPE(self));
    if (q->st == NULL)
        return -1;
    q->outer = PyObject_GetAttrString(local, "config");
    q->results = PyList_New(0);
    q->drawing = PyThread_allocate_lock();
    if (q->outer == NULL || q->results == NULL || q->drawing == NULL) {
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        return -1;
    }
    q->tasks = Py_NewRef(tasks);
    q->pending = Py_NewRef(pending);
    q->local = Py_NewRef(local);
    q->nested = Py_NewRef(nested);
    q->progress = Py_NewRef(progress);
    q->notify = (char)notify_each;
    return 0;
}

#define VISIT_MEMBERS(X) \
    X(q->tasks) X(q->results) X(q->pending) X(q->local) X(q->outer) X(q->nested) X(q->progress)

static int
queue_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct queue *q = (struct queue *)self;
    Py_VISIT(Py_TYPE(self));
#define VISIT(member) Py_VISIT(member);
    VISIT_MEMBERS(VISIT)
#undef VISIT
    for (size_t i = 0; i < q->count; i++)
        Py_VISIT(q->ready[(q->first + i) % q->capacity].task);
    return 0;
}

static int
queue_clear(PyObject *self)
{
    struct queue *q = (struct queue *)self;
#define CLEAR(member) Py_CLEAR(member);
    VISIT_MEMBERS(CLEAR)
#undef CLEAR
    while (q->count > 0) {
        PyObject *task = q->ready[q->first].task;
        q->first = (q->first + 1) % q->capacity;
        q->count--;
        Py_DECREF(task);
    }
    return 0;
}

static void
queue_dealloc(PyObject *self)
{
    struct queue *q = (struct queue *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)queue_clear(self);
    PyMem_Free(q->ready);
    if (q->drawing != NULL)
        PyThread_free_lock(q->drawing);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef queue_methods[] = {
    {"draw", queue_draw, METH_NOARGS, "Draw one task; False when there is none."},
    {"work", queue_work, METH_NOARGS, "Run tasks until there are none: the body of a thread."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef queue_members[] = {
    {"results", T_OBJECT, offsetof(struct queue, results), READONLY, "results in input order"},
    {"n_completed", T_PYSSIZET, offsetof(struct queue, n_completed), READONLY, "tasks that have ended"},
    {"n_threads", T_INT, offsetof(struct queue, n_threads), 0, "threads that have not ended"},
    {"exhausted", T_BOOL, offsetof(struct queue, exhausted), READONLY, "the input has no more tasks"},
    {"stopped", T_BOOL, offsetof(struct queue, stopped), 0, "no further task is started"},
    {"end_is_told", T_BOOL, offsetof(struct queue, end_is_told), 0, "progress reports may speak of the end"},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, "The tasks of a call on threads, and their results."},
    {Py_tp_init, queue_init},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_traverse, queue_traverse},
    {Py_tp_clear, queue_clear},
    {Py_tp_methods, queue_methods},
    {Py_tp_members, queue_members},
    {0, NULL},
};

PyType_Spec joblot__thread_queue_spec = {
    .name = "joblot._core.ThreadQueue",
    .basicsize = sizeof(struct queue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = queue_slots,
};
