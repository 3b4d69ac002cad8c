/* os/lock.c - the mutex.  An ordinary one fails only when it is misused (EDEADLK, EPERM need other types), so taking
 * and giving return nothing. */
#define _GNU_SOURCE
#include "lock.h"

int joblot__lock_init(joblot__lock *lock)
{
    return -pthread_mutex_init(&lock->mutex, NULL);
}

void joblot__lock_clear(joblot__lock *lock)
{
    (void)pthread_mutex_destroy(&lock->mutex);
}

void joblot__lock_take(joblot__lock *lock)
{
    (void)pthread_mutex_lock(&lock->mutex);
}

void joblot__lock_give(joblot__lock *lock)
{
    (void)pthread_mutex_unlock(&lock->mutex);
}
