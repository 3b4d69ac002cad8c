/* ndarray/dtype.h - the tree behind joblot_dtype. */
#ifndef JOBLOT_NDARRAY_DTYPE_H
#define JOBLOT_NDARRAY_DTYPE_H

#include <joblot/ndarray.h>

#include "literal.h"

#include <stdbool.h>

enum joblot__dtype_form { JOBLOT__PLAIN, JOBLOT__STRUCT, JOBLOT__SUBARRAY };

/* Which byte orders occur in a dtype, in parts that have bytes to swap. */
enum { JOBLOT__HAS_LITTLE = 1, JOBLOT__HAS_BIG = 2 };

/* A node.  The root is a block of its own; a field and a sub-array hold theirs by value.  Zeroed is a valid node. */
struct joblot_dtype {
    char kind;
    char order;             /* '<', '>' or '|' */
    unsigned char form;     /* enum joblot__dtype_form */
    unsigned char orders;   /* JOBLOT__HAS_LITTLE | JOBLOT__HAS_BIG */
    bool has_object;
    unsigned char unit;     /* of m and M: index into joblot__units, 0 for none */
    uint32_t multiple;      /* of m and M: the 25 of [25s] */
    uint64_t itemsize;      /* at most INT64_MAX */
    struct joblot__field *fields; /* of a struct, in the order of memory; what lies between them is padding */
    size_t field_count;
    struct joblot__subarray *sub; /* of a sub-array */
};

struct joblot__field {
    char *name;        /* UTF-8, terminated; the title stands behind it in the same block */
    const char *title; /* NULL: none */
    size_t name_size;
    size_t title_size;
    uint64_t offset;
    size_t at; /* where the name stands in the descr that was parsed, for errors */
    struct joblot_dtype dtype;
};

struct joblot__subarray {
    struct joblot_dtype element;
    int ndim; /* 1 to JOBLOT_MAX_NDIM */
    int64_t shape[];
};

/* The units of datetime64 and timedelta64; the first stands for none. */
extern const char *const joblot__units[];
extern const size_t joblot__unit_count;

/* Frees what the node holds, not the node, and zeroes it. */
void joblot__dtype_clear(struct joblot_dtype *d);

/* Takes over in `d` what follows from a part of it: byte orders and objects. */
void joblot__dtype_note_part(struct joblot_dtype *d, const struct joblot_dtype *part);

/* The byte-order flag of a plain dtype from its order and size. */
void joblot__dtype_note_order(struct joblot_dtype *d);

/* Prints the descr; the sink counts and never fails. */
void joblot__dtype_print(const struct joblot_dtype *d, struct joblot__sink *sink);

/* `only_order` of a public call is 0, '<' or '>'. */
bool joblot__only_order_valid(char only_order);

#endif
