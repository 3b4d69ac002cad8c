/* base/alloc.c - the allocator and its fault hook. */
#include "alloc.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

static atomic_ulong asked;
static atomic_ulong fail_at;
static atomic_bool fail_for_good;
static atomic_long live;

static bool must_fail(void)
{
    unsigned long at = atomic_load_explicit(&fail_at, memory_order_relaxed);
    unsigned long now = atomic_fetch_add_explicit(&asked, 1, memory_order_relaxed) + 1;
    if (at == 0)
        return false;
    return now == at || (now > at && atomic_load_explicit(&fail_for_good, memory_order_relaxed));
}

static void *count(void *p)
{
    if (p != NULL)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

void *joblot__malloc(size_t size)
{
    return must_fail() ? NULL : count(malloc(size ? size : 1));
}

void *joblot__calloc(size_t n, size_t size)
{
    if (n == 0 || size == 0)
        n = size = 1;
    return must_fail() ? NULL : count(calloc(n, size));
}

void *joblot__realloc(void *p, size_t size)
{
    if (must_fail())
        return NULL;
    void *q = realloc(p, size ? size : 1);
    return p == NULL ? count(q) : q;
}

void joblot__free(void *p)
{
    if (p != NULL)
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    free(p);
}

void joblot__alloc_fail_at(unsigned long nth, bool for_good)
{
    atomic_store(&asked, 0);
    atomic_store(&fail_for_good, for_good);
    atomic_store(&fail_at, nth);
}

unsigned long joblot__alloc_count(void)
{
    return atomic_load(&asked);
}

long joblot__alloc_live(void)
{
    return atomic_load(&live);
}
