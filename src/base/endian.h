/* base/endian.h - values of a fixed byte order, in private memory and in memory shared between processes.
 *
 * Everything that two processes share, or that goes to a file, is little-endian whatever the machine is. */
#ifndef JOBLOT_BASE_ENDIAN_H
#define JOBLOT_BASE_ENDIAN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define JOBLOT__BIG_ENDIAN 1
#else
#define JOBLOT__BIG_ENDIAN 0
#endif

static inline uint16_t joblot__le16(uint16_t v) { return JOBLOT__BIG_ENDIAN ? __builtin_bswap16(v) : v; }
static inline uint32_t joblot__le32(uint32_t v) { return JOBLOT__BIG_ENDIAN ? __builtin_bswap32(v) : v; }
static inline uint64_t joblot__le64(uint64_t v) { return JOBLOT__BIG_ENDIAN ? __builtin_bswap64(v) : v; }

static inline uint16_t joblot__load_le16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return joblot__le16(v);
}

static inline uint32_t joblot__load_le32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return joblot__le32(v);
}

static inline uint64_t joblot__load_le64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return joblot__le64(v);
}

static inline void joblot__store_le16(void *p, uint16_t v)
{
    v = joblot__le16(v);
    memcpy(p, &v, sizeof v);
}

static inline void joblot__store_le32(void *p, uint32_t v)
{
    v = joblot__le32(v);
    memcpy(p, &v, sizeof v);
}

static inline void joblot__store_le64(void *p, uint64_t v)
{
    v = joblot__le64(v);
    memcpy(p, &v, sizeof v);
}

/* Shared words: naturally aligned, little-endian, reached only through these. */
typedef struct joblot__shared32 {
    _Atomic uint32_t raw;
} joblot__shared32;
typedef struct joblot__shared64 {
    _Atomic uint64_t raw;
} joblot__shared64;

static inline uint32_t joblot__shared32_load(const joblot__shared32 *w, memory_order order)
{
    return joblot__le32(atomic_load_explicit(&w->raw, order));
}

static inline void joblot__shared32_store(joblot__shared32 *w, uint32_t v, memory_order order)
{
    atomic_store_explicit(&w->raw, joblot__le32(v), order);
}

static inline uint32_t joblot__shared32_exchange(joblot__shared32 *w, uint32_t v, memory_order order)
{
    return joblot__le32(atomic_exchange_explicit(&w->raw, joblot__le32(v), order));
}

/* Compare and swap, sequentially consistent: true when the word was `from` and is now `to`. */
static inline bool joblot__shared32_cas(joblot__shared32 *w, uint32_t from, uint32_t to)
{
    uint32_t expected = joblot__le32(from);
    return atomic_compare_exchange_strong(&w->raw, &expected, joblot__le32(to));
}

static inline uint64_t joblot__shared64_load(const joblot__shared64 *w, memory_order order)
{
    return joblot__le64(atomic_load_explicit(&w->raw, order));
}

static inline void joblot__shared64_store(joblot__shared64 *w, uint64_t v, memory_order order)
{
    atomic_store_explicit(&w->raw, joblot__le64(v), order);
}

#endif
