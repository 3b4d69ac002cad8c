/* module.c - joblot._core: the module, its state and its functions. */
#include "shared.h"

struct core_state *
core_state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

struct core_state *
core_state_of_type(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030b0000
    PyObject *module = PyType_GetModuleByDef(type, &joblot__core_module);
#else
    /* 3.10: a subclass does not know the module of the class that it was made from. */
    PyObject *module = NULL;
    for (PyTypeObject *at = type; at != NULL && module == NULL; at = at->tp_base) {
        if (PyType_HasFeature(at, Py_TPFLAGS_HEAPTYPE))
            module = ((PyHeapTypeObject *)at)->ht_module;
    }
#endif
    return module == NULL ? NULL : PyModule_GetState(module);
}

PyObject *
core_helper(struct core_state *st, const char *name)
{
    if (st->helpers == NULL) {
        st->helpers = PyImport_ImportModule("joblot._transport");
        if (st->helpers == NULL)
            return NULL;
    }
    return PyObject_GetAttrString(st->helpers, name);
}

static PyObject *
cpu_count(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromLong(joblot_cpu_count());
}

static PyObject *
is_by_reference(PyObject *module, PyObject *args)
{
    PyObject *obj, *main_names = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "O|O!:is_by_reference", &obj, &PyDict_Type, &main_names))
        return NULL;
    return PyBool_FromLong(core_is_by_reference(obj, main_names));
}

static PyMethodDef functions[] = {
    {"is_by_reference", is_by_reference, METH_VARARGS, "Does a worker find this function or class under its name?"},
    {"cpu_count", cpu_count, METH_NOARGS, "Processors that this process may use."},
    {"serve", core_serve, METH_VARARGS, "Be a server on a socket and the parent's pidfd; 'worker' in each fork of it."},
    {"work", core_work, METH_VARARGS, "Be a worker that was exec'd by a server: (its pid, the parent's pid)."},
    {"shared_memory", core_shared_memory, METH_VARARGS, "Memory over a new segment: (bytes, folder, fallback folder)."},
    {"share_array", core_share_array, METH_VARARGS, "A read-only copy in a segment: (array, class, folder, fallback folder)."},
    {"share_pack", core_share_pack, METH_VARARGS, "An object in a segment: (object, folder, fallback folder)."},
    {"share_unpack", core_share_unpack, METH_O, "The object of such memory; its large arrays lie in it."},
    {"set_shared_class", core_shared_class, METH_O, "The class whose instances stand for objects that were shared."},
    {"shared_forked", core_shared_forked, METH_NOARGS, "In a forked child: the memory that it inherited is its own."},
    {"_object", core_object, METH_O, "The handle of a shared object, of a message that is being read."},
    {"_array", (PyCFunction)(void (*)(void))core_array, METH_FASTCALL, "Make an array of a message that is being read."},
    {NULL, NULL, 0, NULL},
};

static int
add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **at, const char *name)
{
    *at = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (*at == NULL)
        return -1;
    return PyModule_AddObjectRef(module, name, (PyObject *)*at);
}

static int
add_types(PyObject *module, struct core_state *st)
{
    if (add_type(module, &joblot__delayed_spec, &st->delayed_type, "delayed") < 0 ||
        add_type(module, &joblot__encoder_spec, &st->encoder_type, "Encoder") < 0 ||
        add_type(module, &joblot__handle_spec, &st->handle_type, "Handle") < 0 ||
        add_type(module, &joblot__memory_spec, &st->memory_type, "Memory") < 0 ||
        add_type(module, &joblot__pool_spec, &st->pool_type, "Pool") < 0 ||
        add_type(module, &joblot__thread_queue_spec, &st->thread_queue_type, "ThreadQueue") < 0)
        return -1;
    joblot__delayed_finish(st->delayed_type);
    return 0;
}

static int
exec_module(PyObject *module)
{
    struct core_state *st = core_state_of(module);
    if (add_types(module, st) < 0 || core_errors_init(module, st) < 0 ||
        PyModule_AddStringConstant(module, "version", joblot_version()) < 0)
        return -1;
    st->by_value = PyErr_NewException("joblot._core.ByValue", PyExc_Exception, NULL);
    st->array_function = PyObject_GetAttrString(module, "_array");
    st->dtypes = PyDict_New();
    static const char *const names[CORE_NAMES] = {"dtype", "base", "nbytes"};
    for (int i = 0; i < CORE_NAMES; i++)
        if ((st->names[i] = PyUnicode_InternFromString(names[i])) == NULL)
            return -1;
    st->objects = PyDict_New();
    st->object_function = PyObject_GetAttrString(module, "_object");
    if (core_shared_watch_forks(module) < 0)
        return -1;
    PyObject *pickle = PyImport_ImportModule("_pickle");
    if (pickle == NULL)
        return -1;
    st->loads = PyObject_GetAttrString(pickle, "loads");
    Py_DECREF(pickle);
    if (st->objects == NULL || st->object_function == NULL)
        return -1;
    return st->by_value == NULL || st->array_function == NULL || st->dtypes == NULL || st->loads == NULL ? -1 : 0;
}

#define VISIT_ALL(X)                                                                                                 \
    X(st->delayed_type) X(st->encoder_type) X(st->handle_type) X(st->memory_type) X(st->pool_type) X(st->thread_queue_type) X(st->by_value)   \
    X(st->array_function) X(st->dtypes) X(st->loads) X(st->numpy) X(st->dtype) X(st->ndarray) X(st->memmap) X(st->matrix)         \
    X(st->shared_class) X(st->objects) X(st->object_function) X(st->recarray) X(st->masked) X(st->empty) X(st->helpers)

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    struct core_state *st = core_state_of(module);
#define VISIT(member) Py_VISIT(member);
    VISIT_ALL(VISIT)
#undef VISIT
    for (size_t i = 0; i < sizeof st->errors / sizeof *st->errors; i++)
        Py_VISIT(st->errors[i]);
    for (int i = 0; i < CORE_SPECS; i++)
        Py_VISIT(st->specs[i].dtype);
    return 0;
}

static int
clear(PyObject *module)
{
    struct core_state *st = core_state_of(module);
#define CLEAR(member) Py_CLEAR(member);
    VISIT_ALL(CLEAR)
#undef CLEAR
    for (size_t i = 0; i < sizeof st->errors / sizeof *st->errors; i++)
        Py_CLEAR(st->errors[i]);
    for (int i = 0; i < CORE_SPECS; i++) {
        Py_CLEAR(st->specs[i].dtype);
        Py_CLEAR(st->specs[i].spec);
    }
    for (int i = 0; i < CORE_NAMES; i++)
        Py_CLEAR(st->names[i]);
    return 0;
}

static void
free_module(void *module)
{
    (void)clear(module);
    PyMem_Free(core_state_of(module)->live);
    core_warm_begin(&core_state_of(module)->warm);
    core_warm_end(&core_state_of(module)->warm);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

struct PyModuleDef joblot__core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "joblot._core",
    .m_doc = "The C engine of joblot, as seen from Python.",
    .m_size = sizeof(struct core_state),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = free_module,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&joblot__core_module);
}
