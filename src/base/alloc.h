/* base/alloc.h - every allocation of the library, with a hook that makes the n-th one fail. */
#ifndef JOBLOT_BASE_ALLOC_H
#define JOBLOT_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

void *joblot__malloc(size_t size);               /* size 0 gives a unique pointer */
void *joblot__calloc(size_t count, size_t size); /* zeroed; NULL when count * size overflows */
void *joblot__realloc(void *p, size_t size);
void joblot__free(void *p); /* NULL is fine */

/* For tests.  After this call the nth allocation from now on fails (1 is the next one; 0: none), and with
 * `for_good` every later one as well.  Returns nothing; joblot__alloc_count() tells how many were asked for
 * since, joblot__alloc_live() how many blocks are allocated and not freed in this process. */
void joblot__alloc_fail_at(unsigned long nth, bool for_good);
unsigned long joblot__alloc_count(void);
long joblot__alloc_live(void);

#endif
