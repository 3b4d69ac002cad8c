/* os/thread.c - helper threads and conditions.  What is given to them is valid, so only starting can fail. */
#define _GNU_SOURCE
#include "thread.h"

#include "os.h"

#include <signal.h>

static void *enter(void *argument)
{
    joblot__thread *t = argument;
    t->run(t->argument);
    return NULL;
}

int joblot__thread_start(joblot__thread *t, void (*run)(void *argument), void *argument)
{
    sigset_t all, before;
    int error = joblot__os_injected();
    if (error == 0)
        error = joblot__os_forbidden("pthread_create");
    if (error != 0)
        return -error;
    t->run = run;
    t->argument = argument;
    (void)sigfillset(&all);
    /* A thread begins with the mask of the one that starts it. */
    error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error != 0)
        return -error;
    error = pthread_create(&t->thread, NULL, enter, t);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

void joblot__thread_join(joblot__thread *t)
{
    (void)pthread_join(t->thread, NULL);
}

int joblot__condition_init(joblot__condition *c)
{
    return -pthread_cond_init(&c->condition, NULL);
}

void joblot__condition_clear(joblot__condition *c)
{
    (void)pthread_cond_destroy(&c->condition);
}

void joblot__condition_wait(joblot__condition *c, joblot__lock *taken)
{
    (void)pthread_cond_wait(&c->condition, &taken->mutex);
}

void joblot__condition_tell(joblot__condition *c)
{
    (void)pthread_cond_signal(&c->condition);
}

void joblot__condition_tell_all(joblot__condition *c)
{
    (void)pthread_cond_broadcast(&c->condition);
}
