/* os/lock.h - a mutex between the threads of one process.  It is held for moments only, never across a wait. */
#ifndef JOBLOT_OS_LOCK_H
#define JOBLOT_OS_LOCK_H

#include <pthread.h>

typedef struct joblot__lock {
    pthread_mutex_t mutex; /* reached only through these calls */
} joblot__lock;

int joblot__lock_init(joblot__lock *lock); /* 0, or -errno */
void joblot__lock_clear(joblot__lock *lock);
void joblot__lock_take(joblot__lock *lock);
void joblot__lock_give(joblot__lock *lock);

#endif
