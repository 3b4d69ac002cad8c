/* os/hook.c - for tests: making the n-th system call, or every call of one kind, fail; stopping at a named point. */
#define _GNU_SOURCE /* secure_getenv */
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* ---- stopping at a named point ---- */

enum { RECORD = 64 }; /* bytes of a line in the file: their count tells how often the point was reached */

atomic_bool joblot__os_stops;
static char stop_name[RECORD];
static long stop_nth;
static char stop_file[PATH_MAX];

int joblot__os_read_stops(void)
{
    /* A program with more rights than its user must not be told by him to write a file. */
    const char *text = secure_getenv("JOBLOT_TEST_STOP"), *colon = text != NULL ? strchr(text, ':') : NULL;
    char *end = NULL;
    atomic_store(&joblot__os_stops, false);
    if (text == NULL)
        return 0;
    colon = colon != NULL ? strchr(colon + 1, ':') : NULL;
    if (colon == NULL || (size_t)(colon - text) >= sizeof stop_name)
        return -EINVAL;
    stop_nth = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != ':' || end[1] != '/' || strlen(end + 1) >= sizeof stop_file)
        return -EINVAL;
    memcpy(stop_name, text, (size_t)(colon - text));
    stop_name[colon - text] = '\0';
    memcpy(stop_file, end + 1, strlen(end + 1) + 1);
    atomic_store(&joblot__os_stops, true);
    return 0;
}

void joblot__os_stop_at(const char *point)
{
    char line[RECORD + 1];
    int before = errno;
    if (strcmp(stop_name, "*:*") != 0 && strcmp(stop_name, point) != 0)
        return;
    int fd = open(stop_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return; /* the test that waits for this line says so */
    int n = snprintf(line, sizeof line, "%-10d %-*.*s\n", (int)getpid(), RECORD - 12, RECORD - 12, point);
    bool told = n == RECORD && write(fd, line, RECORD) == RECORD;
    off_t at = lseek(fd, 0, SEEK_CUR); /* behind our line: it says whose turn this was, among all processes */
    (void)close(fd);
    if (told && at == (off_t)stop_nth * RECORD)
        (void)raise(SIGSTOP);
    errno = before;
}
