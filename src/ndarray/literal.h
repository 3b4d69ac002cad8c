/* ndarray/literal.h - the pieces of Python literals that a descr is made of: read and printed. */
#ifndef JOBLOT_NDARRAY_LITERAL_H
#define JOBLOT_NDARRAY_LITERAL_H

#include "../base/buffer.h"
#include "../base/reader.h"

void joblot__literal_space(struct joblot__reader *r);

/* True where a string starts: a quote, or u and a quote. */
bool joblot__literal_at_string(const struct joblot__reader *r);

/* Reads a string and appends it to `out` as UTF-8 (not terminated).  Refuses NUL and surrogates, which a
 * terminated UTF-8 name cannot hold. */
void joblot__literal_string(struct joblot__reader *r, struct joblot__buffer *out);

/* Reads a decimal number from 0 to INT64_MAX; 0 after an error. */
int64_t joblot__literal_number(struct joblot__reader *r);

/* Takes the byte `c`, after white space, or fails. */
void joblot__literal_expect(struct joblot__reader *r, char c, const char *text);

/* Where printed text goes: into `out` as far as it reaches, or held against `expected`; `used` counts all. */
struct joblot__sink {
    char *out;            /* may be NULL */
    const char *expected; /* may be NULL */
    size_t capacity;      /* of whichever of the two is there */
    size_t used;
    bool differs; /* from expected */
};

void joblot__sink_char(struct joblot__sink *sink, char c);
void joblot__sink_text(struct joblot__sink *sink, const char *text);
void joblot__sink_number(struct joblot__sink *sink, uint64_t n);

/* Prints UTF-8 text as Python's repr does.  Code points that no Unicode version had assigned when this was written
 * are kept, where repr, which knows one version, escapes them. */
void joblot__literal_print(struct joblot__sink *sink, const char *text, size_t size);

#endif
