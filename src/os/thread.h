/* os/thread.h - helper threads of one object, and the condition that they wait for.
 *
 * Signals are for the program's own threads: a helper has all of them blocked. */
#ifndef JOBLOT_OS_THREAD_H
#define JOBLOT_OS_THREAD_H

#include "lock.h"

/* Caller's storage; must stay where it is until joined. */
typedef struct joblot__thread {
    pthread_t thread; /* reached only through these calls */
    void (*run)(void *argument);
    void *argument;
} joblot__thread;

int joblot__thread_start(joblot__thread *t, void (*run)(void *argument), void *argument); /* 0, or -errno */
void joblot__thread_join(joblot__thread *t);

typedef struct joblot__condition {
    pthread_cond_t condition;
} joblot__condition;

int joblot__condition_init(joblot__condition *c); /* 0, or -errno */
void joblot__condition_clear(joblot__condition *c);
void joblot__condition_wait(joblot__condition *c, joblot__lock *taken); /* may return without cause */
void joblot__condition_tell(joblot__condition *c);                      /* wakes one that waits */
void joblot__condition_tell_all(joblot__condition *c);

#endif
