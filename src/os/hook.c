/* os/hook.c - making the n-th system call, or every call of one kind, fail in tests. */
#include "os.h"

#include <stdatomic.h>
#include <string.h>

static atomic_ulong made;
static atomic_ulong fail_at;
static atomic_bool fail_for_good;
static atomic_int fail_error;
static _Atomic(const char *) forbidden_name;
static atomic_int forbidden_error;

void joblot__os_fail_at(unsigned long nth, bool for_good, int error)
{
    atomic_store(&made, 0);
    atomic_store(&fail_error, error);
    atomic_store(&fail_for_good, for_good);
    atomic_store(&fail_at, nth);
}

unsigned long joblot__os_count(void)
{
    return atomic_load(&made);
}

int joblot__os_injected(void)
{
    unsigned long at = atomic_load_explicit(&fail_at, memory_order_relaxed);
    unsigned long now = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) + 1;
    if (at == 0 || now < at || (now > at && !atomic_load(&fail_for_good)))
        return 0;
    return atomic_load(&fail_error);
}

void joblot__os_forbid(const char *name, int error)
{
    atomic_store(&forbidden_error, error);
    atomic_store(&forbidden_name, name);
}

int joblot__os_forbidden(const char *name)
{
    const char *banned = atomic_load(&forbidden_name);
    return banned != NULL && strcmp(banned, name) == 0 ? atomic_load(&forbidden_error) : 0;
}
