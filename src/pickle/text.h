/* pickle/text.h - the arguments of protocol 0: numbers and strings as lines of text.
 *
 * Each call returns NULL, or why the line is not what it should be (static text); a failed allocation is in out->status
 * and returns NULL as well. */
#ifndef JOBLOT_PICKLE_TEXT_H
#define JOBLOT_PICKLE_TEXT_H

#include "../base/buffer.h"

/* A decimal integer: in *value with *big false, or, beyond 64 bits, as little-endian two's complement in `out`. */
const char *joblot__text_int(const unsigned char *s, size_t n, int64_t *value, bool *big, struct joblot__buffer *out);

/* How many digits a line has, sign and suffix left out. */
size_t joblot__text_digits(const unsigned char *s, size_t n);

/* An index of the memo: decimal digits, at most 2^32 - 1. */
const char *joblot__text_index(const unsigned char *s, size_t n, int64_t *value);

/* A float as repr writes it; `scratch` is overwritten. */
const char *joblot__text_real(const unsigned char *s, size_t n, double *value, struct joblot__buffer *scratch);

/* A quoted string with Python's escapes; the bytes are in `out`. */
const char *joblot__text_string(const unsigned char *s, size_t n, struct joblot__buffer *out);

/* Latin-1 with \u and \U; UTF-8 is in `out`. */
const char *joblot__text_unicode(const unsigned char *s, size_t n, struct joblot__buffer *out);

/* Drops the bytes of a little-endian two's complement number that only repeat its sign; the size that is left. */
size_t joblot__integer_trim(const unsigned char *p, size_t n);

/* How many of n bytes of UTF-8 are left when a character that is not all there is dropped from the end. */
size_t joblot__utf8_whole(const unsigned char *p, size_t n);

/* Is this UTF-8?  Surrogates are let through as three bytes each. */
bool joblot__utf8_valid(const unsigned char *p, size_t n);

#endif
