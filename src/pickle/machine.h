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

/* node.c.  What returns false or NULL has kept an error in the reader. */
bool joblot__tree_fail(joblot_pickle_tree *t, joblot_status code, const char *text); /* false */
bool joblot__tree_no_room(joblot_pickle_tree *t); /* after an allocation of the arena's that was refused */
joblot_pickle_node *joblot__tree_node(joblot_pickle_tree *t, int kind, int op, uint64_t offset);
/* Gives a node the depth that something made of these parts has. */
bool joblot__tree_deepen(joblot_pickle_tree *t, joblot_pickle_node *made, joblot_pickle_node *const *parts, uint64_t n);
/* Room that `count` entries of a growing container have, by rule, so that no capacity need be kept. */
uint64_t joblot__tree_room_for(uint64_t count);
bool joblot__tree_set_items(joblot_pickle_tree *t, struct joblot_pickle_items *to, joblot_pickle_node *const *from,
                            uint64_t n, uint64_t room);
bool joblot__tree_add_items(joblot_pickle_tree *t, struct joblot_pickle_items *to, joblot_pickle_node *const *from,
                            uint64_t n);
/* Gives a node the string of an event, or what is kept of it. */
bool joblot__tree_string(joblot_pickle_tree *t, joblot_pickle_node *made, const struct joblot_pickle_event *e);
/* A terminated copy of the name of a global. */
bool joblot__tree_name(joblot_pickle_tree *t, const unsigned char *data, uint64_t size,
                       struct joblot_pickle_bytes *out);

#endif
