/* base/checked.h - arithmetic that says when it overflows.  Each returns true on success and then writes *out. */
#ifndef JOBLOT_BASE_CHECKED_H
#define JOBLOT_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool joblot__add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool joblot__mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool joblot__add_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool joblot__mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* Rounds up to a multiple of `to`, a power of two. */
static inline bool joblot__round_up(size_t n, size_t to, size_t *out)
{
    if (!joblot__add_size(n, to - 1, &n))
        return false;
    *out = n & ~(to - 1);
    return true;
}

#endif
