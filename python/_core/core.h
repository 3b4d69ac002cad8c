/* core.h - what the files of joblot._core share.  The only code of joblot that includes Python.h.
 *
 * ENCODING. A Python object becomes a message of parts:
 *   0     a form byte and the pickle
 *   1     the table of arrays (encode.c), when there are any
 *   2     the bytes of small arrays
 *   3...  large buffers, one part each
 * Arrays are taken out of the pickle by `reducer_override` (arrays.c): what stands there is a call of
 * joblot._core._array with a buffer that protocol 5 hands over out of band, which on the other side is a Handle: the
 * array is made when the unpickler reaches it (decode.c), by then with its dtype known.
 */
#ifndef JOBLOT_CORE_H
#define JOBLOT_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <joblot/joblot.h>
#include <stdbool.h>

/* ---- the module ---- */

/* Memory of results that are gone, kept for those to come: its pages are there already.  Guarded by the GIL. */
struct core_warm_block;
struct core_warm {
    struct core_warm_block *first;
    bool used;     /* this process runs calls: a worker keeps nothing */
    size_t bytes;  /* in the list */
    size_t unused; /* of these, what has not been wanted since core_warm_begin */
};

/* Attributes of arrays that are asked for often: st->names. */
enum core_name { CORE_DTYPE = 0, CORE_BASE, CORE_NBYTES, CORE_NAMES };
/* dtypes whose spec is remembered. */
enum { CORE_SPECS = 8 };

struct core_state {
    PyTypeObject *thread_queue_type, *delayed_type, *encoder_type, *handle_type, *memory_type, *pool_type;
    PyObject *by_value;     /* exception: only cloudpickle can do this */
    PyObject *array_function;
    PyObject *errors[11];   /* -status: exception class, or NULL */
    PyObject *dtypes;       /* spec -> numpy.dtype */
    PyObject *names[CORE_NAMES];
    struct {
        PyObject *dtype, *spec;
    } specs[CORE_SPECS];    /* by the address of the dtype: plain ones */
    PyObject *loads;        /* _pickle.loads */
    PyObject *numpy;        /* module, once there was an array */
    PyObject *dtype, *ndarray, *memmap, *matrix, *recarray, *masked, *empty; /* of it */
    PyObject *helpers;      /* joblot._transport, imported when first needed */
    struct core_warm warm;
    struct core_memory **live; /* memory that programs work in, by address: shared.c */
    size_t n_live, live_capacity;
    struct core_pool *pools;   /* all there are */
    PyObject *object_function; /* joblot._core._object */
    PyObject *shared_class;    /* joblot._shared.Shared, once it is imported */
    PyObject *objects;         /* a worker's: id of a segment -> Shared */
};

extern struct PyModuleDef joblot__core_module;
struct core_state *core_state_of(PyObject *module);
struct core_state *core_state_of_type(PyTypeObject *type);
PyObject *core_helper(struct core_state *st, const char *name); /* joblot._transport.<name>, new reference */

/* ---- errors.c ---- */

int core_errors_init(PyObject *module, struct core_state *st);
/* Raises what a status stands for; returns NULL. The exception has the attributes `code` and `errno`. */
PyObject *core_raise(struct core_state *st, joblot_status status, const joblot_error *err);
/* The exception that is set, as an object with its traceback; none is set afterwards. */
PyObject *core_take_exception(void);

/* ---- types ---- */

extern PyType_Spec joblot__delayed_spec, joblot__encoder_spec, joblot__handle_spec, joblot__memory_spec,
    joblot__pool_spec, joblot__thread_queue_spec;
void joblot__delayed_finish(PyTypeObject *type);

/* Bytes that NumPy and others see through the buffer protocol: on the heap, a worker's mapping of a segment, or a segment
 * of this process.  `live`: programs work in it, see shared.h. */
struct core_memory {
    PyObject_HEAD
    unsigned char *data;
    Py_ssize_t size;
    size_t capacity;         /* of data, on the heap */
    joblot_mapping *mapping; /* of a segment of the parent's */
    joblot_segment *segment; /* of this process; with a mapping as well: the same memory, for workers of a worker */
    bool readonly, live;
    bool lent;               /* the parent may give the segment up all the same */
    uint32_t parent_id;      /* by which the parent names it; 0: it does not */
    uint64_t identity;
};
struct core_memory *core_memory_bare(struct core_state *st); /* all zero */
struct core_memory *core_memory_new(struct core_state *st, Py_ssize_t size);
struct core_memory *core_memory_map(struct core_state *st, joblot_worker *worker, const struct joblot_arrived *part,
                                    enum joblot_map_mode mode, bool readonly);
/* Around a call of Parallel: what it had no use for is given back at its end. */
bool core_is_warm_size(uint64_t size);
void core_warm_begin(struct core_warm *warm);
void core_warm_end(struct core_warm *warm);

/* ---- arrays.c ---- */

enum core_map_mode { CORE_MAP_COPY = 0, CORE_MAP_R, CORE_MAP_RPLUS, CORE_MAP_C, CORE_MAP_DEFAULT };
enum core_class { CORE_NDARRAY = 0, CORE_MEMMAP, CORE_MATRIX, CORE_RECARRAY };

/* An array's memory, as `__array_struct__` tells it; valid while `array` lives and is not reshaped in place. */
struct core_view {
    PyObject *keep; /* owned: what the pointers hang on */
    struct joblot_array array;
    bool writable;
};
int core_view_init(struct core_view *view, PyObject *array);
void core_view_clear(struct core_view *view);
/* Is NumPy there, and obj an ndarray?  Loads the names that arrays.c needs once NumPy is. */
int core_is_array(struct core_state *st, PyObject *obj);
int core_is_date_dtype(struct core_state *st, PyObject *obj);
/* A short name for a dtype that a name describes fully ('>i4'), or None; new reference. */
PyObject *core_dtype_spec(struct core_state *st, PyObject *array);
PyObject *core_dtype_of_spec(struct core_state *st, PyObject *spec); /* spec, or a dtype itself; new reference */

/* ---- encode.c ---- */

/* How one array or buffer travels. */
struct core_entry {
    PyObject *owner;     /* what keeps the bytes alive */
    unsigned char *heap; /* compact copy, owned */
    const void *data;    /* bytes to send */
    uint64_t size;
    unsigned char kind, cls, mode; /* core_entry_kind, core_class, core_map_mode */
    bool shared;                   /* goes into e->shares */
    struct joblot_array place;     /* SHARED: where the elements are, as found */
    uint64_t offset;               /* SMALL: in part 2; else in the segment */
    joblot_segment *segment;       /* borrowed */
    size_t form, form_size;        /* in encoder.forms */
    size_t group;                  /* SHARED, HANDED, OBJECT, and RAW in live memory: encoder.groups[group - 1]; else 0 */
    uint32_t shared_id;            /* SHARED in an answer: the parent's id of the segment */
};
/* SHARED: in memory that both sides have; HANDED: in an answer, in memory that the worker made; OBJECT: of joblot.share. */
enum core_entry_kind { CORE_SMALL = 0, CORE_LARGE, CORE_RAW, CORE_SHARED, CORE_HANDED, CORE_OBJECT };

/* Live memory that entries of a message lie in, and what they need of it: one part of the message. */
struct core_group {
    struct core_memory *memory;
    uint64_t low, high;
    size_t part;
};

struct core_bytes {
    unsigned char *data;
    size_t size, capacity;
};
int core_bytes_add(struct core_bytes *b, const void *data, size_t size); /* -1: MemoryError set */
unsigned char *core_bytes_extend(struct core_bytes *b, size_t size);
void core_bytes_clear(struct core_bytes *b);

struct core_shares; /* arrays that went into segments in this call: shares.c */

struct core_encoder {
    PyObject_HEAD
    struct core_state *st;
    vectorcallfunc vectorcall;
    bool is_result;       /* of a worker: no segments, no memmaps */
    int64_t max_nbytes;   /* < 0: no limit */
    int mode;             /* core_map_mode of large arguments */
    bool by_value;        /* cloudpickle does the rest */
    PyObject *main_names; /* borrowed: what __main__ was when the other process was forked off; NULL: it was exec'd */
    bool ran_code;        /* objects of classes are in this message: they may have written to what went before */
    PyObject *fallback;   /* its reducer_override, bound */
    PyObject *expected;   /* the PickleBuffer that is ours */
    struct core_bytes stream, table, inline_bytes, forms;
    struct core_entry *entries;
    size_t n_entries, entries_capacity;
    struct joblot_part *parts;
    size_t n_parts, parts_capacity;
    struct core_shares *shares;
    joblot_call *call; /* of an argument: where segments come from */
    joblot_worker *worker; /* of a result: who hands segments over */
    struct core_group *groups;
    size_t n_groups, groups_capacity;
};
struct core_encoder *core_encoder_new(struct core_state *st);
void core_encoder_reset(struct core_encoder *e);
/* Pickles obj behind what is in e->stream, and fills e->parts. -1: an exception is set. */
int core_encode(struct core_encoder *e, PyObject *obj);
/* Does another process find this function or class under its name?  main_names: see core_encoder. */
int core_is_by_reference(PyObject *obj, PyObject *main_names);
/* entries.c: takes an array, or a contiguous buffer, into the message; -1: an exception is set. */
int core_add_array(struct core_encoder *e, PyObject *array, enum core_class cls);
int core_add_raw(struct core_encoder *e, PyObject *owner, const void *data, size_t size);
int core_add_object(struct core_encoder *e, PyObject *memory);
int core_finish_parts(struct core_encoder *e);
void core_clear_entries(struct core_encoder *e);

/* shares.c: one copy of an array for all tasks of a call that have it.  What must be the same besides the place
 * (see joblot/_snapshot.py): nothing, a sample of the bytes, or all of them. */
enum core_compare { CORE_COMPARE_NOTHING = 0, CORE_COMPARE_SAMPLE, CORE_COMPARE_WHOLE };
struct core_shares *core_shares_new(enum core_compare compare);
void core_shares_free(struct core_shares *shares);
/* Warns where comparing whole arrays took over a twentieth of the call, and long enough to be noticed; once the call is
 * over.  -1: the warning is an error. */
struct core_shares_cost {
    int64_t compared, total; /* ns */
};
struct core_shares_cost core_shares_cost(const struct core_shares *shares);
int core_shares_warn(struct core_state *st, const struct core_shares_cost *cost);
enum core_compare core_shares_compare(const struct core_shares *shares);
/* Is there a copy of what lies at this place?  0: none; 1: of an array that is gone, or of another one; 2: of a view of
 * this very owner, the array whose memory it is; -1: an exception is set. */
int core_shares_know(struct core_shares *shares, const struct joblot_array *place, PyObject *owner);
/* The segment of the copy that is the same as `bytes`, or NULL; CORE_COMPARE_NOTHING: of the newest, bytes unseen. */
joblot_segment *core_shares_find(struct core_shares *shares, const struct joblot_array *place, enum core_compare how,
                                 const void *bytes, uint64_t size, uint64_t *offset);
/* What a new copy is of.  written_to: tasks write to the segment, so that later comparisons need the bytes as sent. */
struct core_origin {
    const struct joblot_array *place;
    PyObject *owner;
    const void *bytes;
    uint64_t size;
    bool written_to;
};
int core_shares_add(struct core_shares *shares, const struct core_origin *origin, joblot_segment *segment,
                    uint64_t offset);
/* What was found or added since the last call of this is used by task `number`. */
int core_shares_task(struct core_shares *shares, uint64_t number);
void core_shares_done(struct core_shares *shares, uint64_t number);

/* ---- functions.c ---- */

/* Functions that are sent once per call.  `sequence`: nothing runs between two draws of the input. */
struct core_functions *core_functions_new(bool sequence, uint32_t *last_id);
void core_functions_free(struct core_functions *f);
/* The number by which tasks name a function, sent to the workers now if need be; 0: it goes with each task; -1: an
 * exception is set. */
long core_function_id(struct core_functions *f, joblot_call *call, struct core_encoder *e, PyObject *function);

/* ---- scalars.c ---- */

/* 1: written; 0: something in it is no scalar, and nothing was written; -1: an exception is set. */
int core_scalar_write(struct core_bytes *out, PyObject *obj);
PyObject *core_scalar_read(const unsigned char *data, size_t size);

/* ---- decode.c ---- */

/* Where a message's parts are: with a worker (arrived parts), or in an event of the parent. */
struct core_decoder {
    struct core_state *st;
    joblot_worker *worker;
    const struct joblot_arrived *arrived;
    joblot_call *call;
    struct joblot_event *event;
    size_t n_parts;
    const unsigned char *table, *inline_bytes; /* parts 1 and 2 */
    size_t table_size, inline_size;
    PyObject *keep[3]; /* parts 0 to 2 where they had to be read */
    joblot_status status; /* of a read that failed */
    struct core_memory *memory; /* what the parts lie in, where that is no message: shared.c */
    PyObject *copies;           /* part -> Memory, of what was handed over and did not arrive */
};
/* Part 0. The decoder's storage is the caller's; clear it. -1: an exception is set. */
int core_decoder_init(struct core_decoder *d, const unsigned char **stream, size_t *size);
PyObject *core_decode(struct core_decoder *d, const unsigned char *pickle, size_t size);
void core_decoder_clear(struct core_decoder *d);
PyObject *core_array(PyObject *module, PyObject *const *args, Py_ssize_t nargs); /* joblot._core._array */
PyObject *core_object(PyObject *module, PyObject *handle);                        /* joblot._core._object */
/* A part in memory of its own. */
struct core_memory *core_decoder_copy(struct core_decoder *d, size_t part);
/* ndarray.__new__(cls, shape, dtype, buffer, offset, strides) */
PyObject *core_new_array(struct core_state *st, PyObject *cls, const struct joblot_array *a, PyObject *dtype,
                         PyObject *buffer, uint64_t offset);


/* ---- worker.c, pool.c ---- */

/* First byte of part 0. */
enum core_form {
    CORE_CALL = 'C',   /* pickle of (function, args, kwargs) */
    CORE_NAMED = 'N',  /* u32 function; pickle of (args, kwargs) */
    CORE_PLAIN = 'S',  /* u32 function; args as scalars */
    CORE_RESULT = 'R', /* pickle */
    CORE_VALUE = 'V',  /* scalars */
    CORE_ERROR = 'E'
};
/* Kinds of note. */
enum { CORE_NOTE_SETTINGS = 1, CORE_NOTE_FUNCTION = 2 };

PyObject *core_serve(PyObject *module, PyObject *args); /* joblot._core.serve */
PyObject *core_work(PyObject *module, PyObject *args);  /* joblot._core.work */

/* A server that is a fork of this process.  `forget` is called in it first, with `owner`: its pool is the parent's.
 * main_names is borrowed.  core_forked_free() it after the pool. */
struct core_forked;
struct core_forked *core_forked_new(struct core_state *st, PyObject *main_names, void (*forget)(void *owner), void *owner);
void core_forked_options(struct core_forked *forked, struct joblot_pool_options *options);
void core_forked_free(struct core_forked *forked);
/* A sequence of bytes as C strings, ended by NULL, borrowed from it; PyMem_Free() it. */
const char **core_string_list(PyObject *list);

#endif
