/* joblot/pickle.h - Python's pickle streams in plain C: a pull decoder, a tree, a writer.  No Python, no code is run.
 *
 * The decoder gives one event per opcode, protocols 0 to 5, from memory or from a callback.  The tree runs the stack
 * machine symbolically and says what a pickle would build.  The writer makes pickles of plain data, protocols 2 to 5.
 * docs/formats/pickle.md has the opcodes, their arguments and the limits.
 *
 * Input may be hostile: every size is held against the limits and against what the input can still hold before anything
 * is allocated, nothing recurses, and the first error is kept with its offset.  Nothing here calls the operating system.
 * Threads: any, one object in one thread at a time.  Fork: safe. */
#ifndef JOBLOT_PICKLE_H
#define JOBLOT_PICKLE_H

#include <joblot/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, byte, argument form): every opcode. */
#define JOBLOT_PICKLE_OPS(X)                                                                                         \
    X(MARK, 0x28, NONE) X(STOP, 0x2e, NONE) X(POP, 0x30, NONE) X(POP_MARK, 0x31, NONE) X(DUP, 0x32, NONE)              \
    X(FLOAT, 0x46, FLOAT_LINE) X(INT, 0x49, INT_LINE) X(BININT, 0x4a, I4) X(BININT1, 0x4b, U1) X(LONG, 0x4c, LONG_LINE) \
    X(BININT2, 0x4d, U2) X(NONE, 0x4e, NONE) X(PERSID, 0x50, LINE) X(BINPERSID, 0x51, NONE) X(REDUCE, 0x52, NONE)      \
    X(STRING, 0x53, STRING_LINE) X(BINSTRING, 0x54, BYTES_I4) X(SHORT_BINSTRING, 0x55, BYTES_U1)                       \
    X(UNICODE, 0x56, UNICODE_LINE) X(BINUNICODE, 0x58, TEXT_U4) X(APPEND, 0x61, NONE) X(BUILD, 0x62, NONE)              \
    X(GLOBAL, 0x63, PAIR) X(DICT, 0x64, NONE) X(EMPTY_DICT, 0x7d, NONE) X(APPENDS, 0x65, NONE) X(GET, 0x67, GET_LINE)   \
    X(BINGET, 0x68, GET_U1) X(INST, 0x69, PAIR) X(LONG_BINGET, 0x6a, GET_U4) X(LIST, 0x6c, NONE)                        \
    X(EMPTY_LIST, 0x5d, NONE) X(OBJ, 0x6f, NONE) X(PUT, 0x70, PUT_LINE) X(BINPUT, 0x71, PUT_U1)                         \
    X(LONG_BINPUT, 0x72, PUT_U4) X(SETITEM, 0x73, NONE) X(TUPLE, 0x74, NONE) X(EMPTY_TUPLE, 0x29, NONE)                 \
    X(SETITEMS, 0x75, NONE) X(BINFLOAT, 0x47, F8) X(BINBYTES, 0x42, BYTES_U4) X(SHORT_BINBYTES, 0x43, BYTES_U1)         \
    X(PROTO, 0x80, PROTO) X(NEWOBJ, 0x81, NONE) X(EXT1, 0x82, EXT1) X(EXT2, 0x83, EXT2) X(EXT4, 0x84, EXT4)             \
    X(TUPLE1, 0x85, NONE) X(TUPLE2, 0x86, NONE) X(TUPLE3, 0x87, NONE) X(NEWTRUE, 0x88, TRUE) X(NEWFALSE, 0x89, FALSE)   \
    X(LONG1, 0x8a, LONG_U1) X(LONG4, 0x8b, LONG_I4) X(SHORT_BINUNICODE, 0x8c, TEXT_U1) X(BINUNICODE8, 0x8d, TEXT_U8)    \
    X(BINBYTES8, 0x8e, BYTES_U8) X(EMPTY_SET, 0x8f, NONE) X(ADDITEMS, 0x90, NONE) X(FROZENSET, 0x91, NONE)              \
    X(NEWOBJ_EX, 0x92, NONE) X(STACK_GLOBAL, 0x93, NONE) X(MEMOIZE, 0x94, NONE) X(FRAME, 0x95, FRAME)                   \
    X(BYTEARRAY8, 0x96, BYTES_U8) X(NEXT_BUFFER, 0x97, NONE) X(READONLY_BUFFER, 0x98, NONE)

enum joblot_pickle_op {
#define JOBLOT_PICKLE_OP(name, byte, form) JOBLOT_OP_##name = byte,
    JOBLOT_PICKLE_OPS(JOBLOT_PICKLE_OP)
#undef JOBLOT_PICKLE_OP
};

/* joblot_pickle_op_name - the name of an opcode ("BININT"); NULL where the byte is none.  Static. */
JOBLOT_API const char *joblot_pickle_op_name(int op);

#define JOBLOT_SIZE_UNKNOWN UINT64_MAX

/* ---- the decoder ---- */

/* Where the bytes come from: memory, or a callback. */
struct joblot_pickle_source {
    const void *data; /* borrowed while the reader lives; NULL: read() gives the bytes */
    uint64_t size;    /* of data; else the bytes that read() will give in all, JOBLOT_SIZE_UNKNOWN where nobody knows */
    /* At most `capacity` bytes into `out`, at least one; *n = 0 is the end.  A failure is passed on as it is. */
    joblot_status (*read)(void *context, void *out, size_t capacity, size_t *n, joblot_error *err);
    /* Passes over n bytes that nobody wants; NULL: they are read. */
    joblot_status (*skip)(void *context, uint64_t n, joblot_error *err);
    void *context;
};

/* Zero is the default: docs/formats/pickle.md. */
struct joblot_pickle_limits {
    uint64_t max_string; /* bytes of one string, bytes or integer */
    uint64_t max_line;   /* bytes of a line of protocol 0 */
    uint64_t max_digits; /* decimal digits of an integer of protocol 0 */
    uint64_t max_memo;   /* entries */
    uint64_t max_depth;  /* tree: marks open at once, and parts of parts */
    uint64_t max_nodes;  /* tree: nodes, and entries of containers */
    uint64_t max_alloc;  /* tree: bytes of memory in all */
    uint64_t max_nested; /* tree: pickles inside one another */
    uint64_t max_kept;   /* tree: bytes that are kept of a string, at least 1,024; the rest is passed over */
};

/* What an event's argument is. */
enum joblot_pickle_arg {
    JOBLOT_ARG_NONE, /* nothing */
    JOBLOT_ARG_BOOL, /* integer: 0 or 1 */
    JOBLOT_ARG_INT,  /* integer; an EXT's code */
    JOBLOT_ARG_BIG,  /* data, size: an integer beyond 64 bits, little-endian two's complement, as few bytes as it needs */
    JOBLOT_ARG_REAL, /* real */
    JOBLOT_ARG_TEXT, /* data, size: UTF-8 where the pickler was honest (not checked), surrogates as three bytes */
    JOBLOT_ARG_BYTES, /* data, size: bytes, a Python 2 string, a persistent id */
    JOBLOT_ARG_PAIR, /* data, size: module; data2, size2: name */
    JOBLOT_ARG_MEMO, /* integer: index of the memo */
    JOBLOT_ARG_SIZE  /* integer: bytes of a frame; number of the protocol */
};

struct joblot_pickle_event {
    uint8_t op;  /* enum joblot_pickle_op */
    uint8_t arg; /* enum joblot_pickle_arg */
    uint64_t offset; /* of the opcode, from the first byte of the source */
    int64_t integer;
    double real;
    const unsigned char *data, *data2; /* valid until the next call; data NULL with size > 0: joblot_pickle_take() it */
    uint64_t size, size2;
};

typedef struct joblot_pickle_reader joblot_pickle_reader;

/* joblot_pickle_reader_new - a decoder at the first byte of a source.
 *   source  copied; its data and context are borrowed
 *   limits  copied; NULL: the defaults
 *   out     set on JOBLOT_OK only; joblot_pickle_reader_free() it
 * Returns JOBLOT_OK, or INVALID | NOMEM. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_pickle_reader_new(const struct joblot_pickle_source *source,
                                                                  const struct joblot_pickle_limits *limits,
                                                                  joblot_pickle_reader **out, joblot_error *err);
JOBLOT_API void joblot_pickle_reader_free(joblot_pickle_reader *reader); /* NULL is fine */

/* joblot_pickle_next - decode one opcode.
 *
 * A string or bytes object that a callback's source has not got in one piece (over 64 KiB) comes with data NULL: take
 * its bytes with joblot_pickle_take(), in as many calls as you like; what is left of it the next call passes over.
 * After STOP: INVALID, until joblot_pickle_resume().
 * Returns JOBLOT_OK, or FORMAT | TRUNCATED | UNSUPPORTED | LIMIT | NOMEM, or what read() said.  An error is kept: later
 * calls give it again. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_pickle_next(joblot_pickle_reader *reader,
                                                            struct joblot_pickle_event *event, joblot_error *err);

/* joblot_pickle_take - the next `size` bytes of the source as they are: of the last event's string, or raw bytes that lie
 * between two opcodes (as joblib puts arrays there).  `out` NULL passes over them.
 * Raw bytes are FORMAT inside a frame that is not at its end; TRUNCATED where the source ends. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_pickle_take(joblot_pickle_reader *reader, void *out, uint64_t size,
                                                            joblot_error *err);

/* joblot_pickle_view - the same without a copy: *out points to the bytes, until the next call, or as long as the memory
 * lives where the source is memory.  LIMIT (not kept) where a callback's source is asked for over 64 KiB. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_pickle_view(joblot_pickle_reader *reader, uint64_t size,
                                                            const unsigned char **out, joblot_error *err);

/* joblot_pickle_resume - after STOP, go on with what follows: another pickle, or the rest of the one around it. */
JOBLOT_API void joblot_pickle_resume(joblot_pickle_reader *reader);

/* joblot_pickle_offset - how many bytes have been decoded and taken. */
JOBLOT_API uint64_t joblot_pickle_offset(const joblot_pickle_reader *reader);

/* joblot_pickle_left - the bytes that are left of the source, or JOBLOT_SIZE_UNKNOWN. */
JOBLOT_API uint64_t joblot_pickle_left(const joblot_pickle_reader *reader);

/* joblot_pickle_fail - keep an error of the consumer's, at the offset of the last opcode, as if the decoder had found it.
 * `text` is copied.  Returns code. */
JOBLOT_API joblot_status joblot_pickle_fail(joblot_pickle_reader *reader, joblot_status code, const char *text,
                                            joblot_error *err);

/* ---- the tree ---- */

enum joblot_pickle_kind {
    JOBLOT_NODE_NONE,
    JOBLOT_NODE_BOOL,      /* as.integer */
    JOBLOT_NODE_INT,       /* as.integer */
    JOBLOT_NODE_BIG,       /* as.bytes: little-endian two's complement */
    JOBLOT_NODE_REAL,      /* as.real */
    JOBLOT_NODE_TEXT,      /* as.bytes: UTF-8, checked, surrogates as three bytes */
    JOBLOT_NODE_BYTES,     /* as.bytes */
    JOBLOT_NODE_BYTEARRAY, /* as.bytes */
    JOBLOT_NODE_STRING,    /* as.bytes: a str of Python 2 */
    JOBLOT_NODE_LIST,      /* as.items */
    JOBLOT_NODE_TUPLE,     /* as.items */
    JOBLOT_NODE_DICT,      /* as.items: key, value, key, value, ... as they came */
    JOBLOT_NODE_SET,       /* as.items, as they came */
    JOBLOT_NODE_FROZENSET, /* as.items */
    JOBLOT_NODE_GLOBAL,    /* as.global */
    JOBLOT_NODE_CALL,      /* as.items: callable or class, arguments, keyword arguments where there are any; op says how:
                              REDUCE, NEWOBJ, NEWOBJ_EX, OBJ, INST */
    JOBLOT_NODE_PERSISTENT, /* as.items: its id */
    JOBLOT_NODE_EXT,       /* as.integer: the code */
    JOBLOT_NODE_BUFFER,    /* as.integer: which of the buffers out of band, from 0 */
    JOBLOT_NODE_FOREIGN    /* as.foreign: made by a hook */
};

typedef struct joblot_pickle_node joblot_pickle_node;

struct joblot_pickle_items {
    joblot_pickle_node **at;
    uint64_t count;
};

struct joblot_pickle_bytes {
    const unsigned char *data; /* followed by a zero byte */
    uint64_t size;
};

struct joblot_pickle_global {
    struct joblot_pickle_bytes module, name; /* UTF-8 */
};

/* What was done to an object after it was made. */
struct joblot_pickle_extra {
    struct joblot_pickle_items states; /* of each BUILD */
    struct joblot_pickle_items items;  /* of APPEND(S) and ADDITEMS to what is no plain list or set */
    struct joblot_pickle_items pairs;  /* of SETITEM(S) to what is no plain dict: key, value, ... */
};

struct joblot_pickle_node {
    uint8_t kind;      /* enum joblot_pickle_kind */
    uint8_t op;        /* the opcode that made it */
    uint8_t read_only; /* a READONLY_BUFFER */
    uint8_t cut;       /* as.bytes is the beginning of a longer string: joblot_pickle_node_length() */
    uint32_t depth;    /* parts of parts that were there when it was made */
    uint32_t number;   /* nodes are numbered from 0 as they are made */
    uint64_t offset;   /* of its opcode */
    union {
        int64_t integer;
        double real;
        struct joblot_pickle_bytes bytes;
        struct joblot_pickle_items items;
        const struct joblot_pickle_global *global;
        void *foreign;
    } as;
    struct joblot_pickle_extra *extra; /* NULL: nothing */
};

typedef struct joblot_pickle_tree joblot_pickle_tree;

/* Called after each BUILD of a CALL, with the state added to object->extra.  It may take raw bytes from the reader, make
 * nodes (joblot_pickle_tree_foreign, joblot_pickle_tree_nested) and set *instead, which then takes the object's place on
 * the stack; the memo keeps the object.  A failure ends the reading. */
typedef joblot_status (*joblot_pickle_build_hook)(void *context, joblot_pickle_tree *tree, joblot_pickle_reader *reader,
                                                  joblot_pickle_node *object, joblot_pickle_node **instead,
                                                  joblot_error *err);

/* joblot_pickle_tree_read - read one pickle, up to and with its STOP, into a tree.
 *   limits  NULL: the defaults
 *   hook    may be NULL
 *   out     set on JOBLOT_OK only; joblot_pickle_tree_free() it
 * Returns JOBLOT_OK, or what joblot_pickle_next() returns, or what the hook says. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_pickle_tree_read(joblot_pickle_reader *reader,
                                                                 const struct joblot_pickle_limits *limits,
                                                                 joblot_pickle_build_hook hook, void *context,
                                                                 joblot_pickle_tree **out, joblot_error *err);
JOBLOT_API void joblot_pickle_tree_free(joblot_pickle_tree *tree); /* NULL is fine */

/* joblot_pickle_tree_root - the value; owned by the tree, as all nodes. */
JOBLOT_API const joblot_pickle_node *joblot_pickle_tree_root(const joblot_pickle_tree *tree);
/* joblot_pickle_tree_count - how many nodes there are; their numbers are below it. */
JOBLOT_API uint64_t joblot_pickle_tree_count(const joblot_pickle_tree *tree);

/* joblot_pickle_tree_foreign - for hooks: a node with `size` zeroed bytes at as.foreign, which the tree frees. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_pickle_tree_foreign(joblot_pickle_tree *tree, size_t size,
                                                                    joblot_pickle_node **out, joblot_error *err);
/* joblot_pickle_tree_nested - for hooks: read a whole pickle that lies at the reader's place; its value is *out.  It has a
 * stack and a memo of its own, and the same hook. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_pickle_tree_nested(joblot_pickle_tree *tree, joblot_pickle_node **out,
                                                                   joblot_error *err);

/* joblot_pickle_node_is_global - 1 for the global `module`.`name`. */
JOBLOT_API int joblot_pickle_node_is_global(const joblot_pickle_node *node, const char *module, const char *name);
/* joblot_pickle_node_is_text - 1 for this text, as text or as a str of Python 2. */
JOBLOT_API int joblot_pickle_node_is_text(const joblot_pickle_node *node, const char *text);
/* joblot_pickle_node_length - the bytes that a string, bytes or integer has in the pickle, kept or not; 0 of
 * other kinds. */
JOBLOT_API uint64_t joblot_pickle_node_length(const joblot_pickle_node *node);
/* joblot_pickle_node_value - the value that a dict has in the end under a text key; NULL: none, or no dict. */
JOBLOT_API const joblot_pickle_node *joblot_pickle_node_value(const joblot_pickle_node *dict, const char *key);

/* What a node is to its parent. */
enum joblot_pickle_role {
    JOBLOT_ROLE_ROOT,
    JOBLOT_ROLE_ITEM,     /* of a list, tuple, set, frozenset, or added to an object; the id of a persistent one */
    JOBLOT_ROLE_KEY,      /* of a dict, or of pairs set in an object */
    JOBLOT_ROLE_VALUE,    /* the same; the key came just before */
    JOBLOT_ROLE_CALLABLE, /* of a call */
    JOBLOT_ROLE_ARGUMENTS,
    JOBLOT_ROLE_KEYWORDS,
    JOBLOT_ROLE_STATE
};

struct joblot_pickle_visit {
    const joblot_pickle_node *node, *parent, *key; /* parent: NULL at the root; key: of a VALUE */
    enum joblot_pickle_role role;
    uint64_t index; /* among the parent's parts of this role */
    uint64_t depth; /* of the root: 0 */
    int again;      /* it has parts and was shown before: they are not shown again */
    int cut;        /* it has parts that lie too deep to be shown */
    int leaving;    /* all its parts have been shown; comes for each node with parts that were shown */
};

/* joblot_pickle_tree_walk - show each node, parents first, in the order of the pickle; nodes with parts once.
 *   max_depth  nodes at this depth are shown without their parts; 0: no bound
 *   visit      a failure ends the walk and is passed on
 * Returns JOBLOT_OK, or NOMEM, or what visit said. */
JOBLOT_API JOBLOT_MUST_USE joblot_status
joblot_pickle_tree_walk(const joblot_pickle_tree *tree, uint64_t max_depth,
                        joblot_status (*visit)(void *context, const struct joblot_pickle_visit *v, joblot_error *err),
                        void *context, joblot_error *err);

/* ---- the writer ---- */

/* Where bytes go; called with runs of about 64 KiB, and with large strings as they are. */
struct joblot_pickle_sink {
    joblot_status (*write)(void *context, const void *data, size_t size, joblot_error *err);
    void *context;
};

typedef struct joblot_pickle_writer joblot_pickle_writer;

/* joblot_pickle_writer_new - a writer of protocol 2 to 5; `sink` is copied.
 * The first failure is kept and later calls do nothing, so that a program checks once, with joblot_pickle_finish().
 * Returns JOBLOT_OK, or INVALID | UNSUPPORTED (the protocol) | NOMEM. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_pickle_writer_new(const struct joblot_pickle_sink *sink, int protocol,
                                                                  joblot_pickle_writer **out, joblot_error *err);
JOBLOT_API void joblot_pickle_writer_free(joblot_pickle_writer *w); /* NULL is fine */

/* joblot_pickle_finish - hand everything to the sink.  Returns JOBLOT_OK, or the first failure: the sink's, NOMEM, INVALID
 * (a container with fewer or more values than it was begun with), UNSUPPORTED (what the protocol has no form for). */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_pickle_finish(joblot_pickle_writer *w, joblot_error *err);

/* joblot_pickle_written - the offset of the next byte, what is still in the buffer included; with protocol 4 and 5
 * exact only where no frame is open (after write_start, write_raw, write_stop, write_flush). */
JOBLOT_API uint64_t joblot_pickle_written(const joblot_pickle_writer *w);

JOBLOT_API void joblot_pickle_write_start(joblot_pickle_writer *w); /* PROTO */
JOBLOT_API void joblot_pickle_write_stop(joblot_pickle_writer *w);  /* STOP, and the end of the frame */
JOBLOT_API void joblot_pickle_write_flush(joblot_pickle_writer *w); /* ends the frame */
/* Bytes outside of any frame, as they are: arrays, or a pickle's last opcodes. */
JOBLOT_API void joblot_pickle_write_raw(joblot_pickle_writer *w, const void *data, uint64_t size);
/* An opcode that has no argument. */
JOBLOT_API void joblot_pickle_write_op(joblot_pickle_writer *w, enum joblot_pickle_op op);
/* A frame may end here; the calls below that write values say so themselves. */
JOBLOT_API void joblot_pickle_write_boundary(joblot_pickle_writer *w);

/* Values, in the shortest form that the protocol has. */
JOBLOT_API void joblot_pickle_write_none(joblot_pickle_writer *w);
JOBLOT_API void joblot_pickle_write_bool(joblot_pickle_writer *w, int value);
JOBLOT_API void joblot_pickle_write_int(joblot_pickle_writer *w, int64_t value);
JOBLOT_API void joblot_pickle_write_big(joblot_pickle_writer *w, const void *little_endian, uint64_t size); /* signed */
JOBLOT_API void joblot_pickle_write_real(joblot_pickle_writer *w, double value);
JOBLOT_API void joblot_pickle_write_text(joblot_pickle_writer *w, const char *utf8, uint64_t size);
JOBLOT_API void joblot_pickle_write_bytes(joblot_pickle_writer *w, const void *data, uint64_t size);
JOBLOT_API void joblot_pickle_write_bytearray(joblot_pickle_writer *w, const void *data, uint64_t size);
JOBLOT_API void joblot_pickle_write_global(joblot_pickle_writer *w, const char *module, const char *name);
JOBLOT_API void joblot_pickle_write_ext(joblot_pickle_writer *w, int32_t code);

/* The memo is the caller's: an index for the value on top of the stack, numbered from 0 without gaps; and its use. */
JOBLOT_API void joblot_pickle_write_memo(joblot_pickle_writer *w, uint32_t index);
JOBLOT_API void joblot_pickle_write_get(joblot_pickle_writer *w, uint32_t index);

/* Containers for plain data: begin says how many values (pairs of a dict) will follow, and each value may be a container.
 * A memo of a list, dict or set comes right after begin, one of a tuple or frozenset after end. */
enum joblot_pickle_container {
    JOBLOT_CONTAINER_LIST,
    JOBLOT_CONTAINER_TUPLE,
    JOBLOT_CONTAINER_DICT,
    JOBLOT_CONTAINER_SET,
    JOBLOT_CONTAINER_FROZENSET
};
JOBLOT_API void joblot_pickle_write_begin(joblot_pickle_writer *w, enum joblot_pickle_container kind, uint64_t count);
JOBLOT_API void joblot_pickle_write_end(joblot_pickle_writer *w);

#ifdef __cplusplus
}
#endif
#endif
