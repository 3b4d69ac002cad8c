/* pickle/machine.h - a tree while it is read, and afterwards. */
#ifndef JOBLOT_PICKLE_MACHINE_H
#define JOBLOT_PICKLE_MACHINE_H

#include "arena.h"

#include <joblot/pickle.h>

/* What one pickle has while it runs; a pickle inside another has its own. */
struct joblot__machine {
    uint64_t start; /* offset of its first opcode */
    joblot_pickle_node **stack;
    size_t n, capacity;
    size_t *marks; /* places in the stack */
    size_t n_marks, mark_capacity;
    size_t fence; /* the last mark, or 0: nothing below is touched */
    joblot_pickle_node **memo;
    size_t memo_capacity, memo_count;
};

struct joblot_pickle_tree {
    struct joblot__arena arena;
    struct joblot_pickle_limits limits;
    joblot_pickle_reader *reader; /* while it is read */
    joblot_pickle_build_hook hook;
    void *context;
    joblot_pickle_node *root;
    uint64_t count;   /* of nodes */
    uint64_t entries; /* of containers */
    uint64_t buffers;
    uint64_t nested;
};

/* Runs one pickle up to its STOP.  Errors are the reader's. */
bool joblot__machine_run(joblot_pickle_tree *t, joblot_pickle_node **value);

joblot_pickle_node *joblot__tree_node(joblot_pickle_tree *t, int kind, int op, uint64_t offset);

#endif
