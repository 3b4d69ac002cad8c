/* support/rounds.c - rounds of the fault lane, each in a process of its own. */
#define _GNU_SOURCE
#include "rounds.h"

#include "base/alloc.h"
#include "os/os.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUND_SECONDS = 20, PASSED = 0, REFUSED = 40, NOT_REACHED = 41 };

void arm_fault(const struct fault *fault)
{
    if (fault->system)
        joblot__os_fail_at(fault->nth, fault->for_good, fault->error);
    else
        joblot__alloc_fail_at(fault->nth, fault->for_good);
}

static unsigned long disarm(const struct fault *fault)
{
    unsigned long made = fault->system ? joblot__os_count() : joblot__alloc_count();
    joblot__os_fail_at(0, false, 0);
    joblot__alloc_fail_at(0, false);
    return made;
}

static _Noreturn void one_round(scenario run, const struct fault *fault)
{
    joblot_error err = {.message = ""};
    int descriptors = open_descriptors();
    long blocks = joblot__alloc_live();
    (void)alarm(ROUND_SECONDS * time_factor());
    joblot_status status = run(fault, &err);
    unsigned long made = disarm(fault);
    if (status != JOBLOT_OK && err.message[0] == '\0')
        fail_case(__FILE__, __LINE__, "%s without a message", joblot_status_name(status));
    CHECK_EQUAL(joblot__alloc_live(), blocks);
    CHECK_EQUAL(open_descriptors(), descriptors);
    if (made < fault->nth && status != JOBLOT_OK)
        fail_case(__FILE__, __LINE__, "%s, with nothing that failed here: %s", joblot_status_name(status), err.message);
    exit(status != JOBLOT_OK ? REFUSED : (made < fault->nth ? NOT_REACHED : PASSED));
}

/* The whole family of a round is gone; a process that is not holds this up until the case's time is over. */
static void reap_all(void)
{
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
}

void run_rounds(const char *what, scenario run, struct fault fault, unsigned long least)
{
    unsigned long passed = 0, refused = 0;
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    const char *first = getenv("JOBLOT_TEST_ROUND"); /* to go straight to a round that fails */
    for (fault.nth = first != NULL ? strtoul(first, NULL, 10) : 1;; fault.nth++) {
        int status;
        (void)fflush(NULL);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            one_round(run, &fault);
        CHECK(waitpid(pid, &status, 0) == pid);
        if (WIFSIGNALED(status))
            fail_case(__FILE__, __LINE__, "%s, the %luth%s: signal %d%s", what, fault.nth,
                      fault.for_good ? " and all after it" : "", WTERMSIG(status),
                      WTERMSIG(status) == SIGALRM ? " (it hangs)" : "");
        reap_all();
        int code = WEXITSTATUS(status);
        if (code != PASSED && code != REFUSED && code != NOT_REACHED)
            fail_case(__FILE__, __LINE__, "%s, the %luth%s: exit code %d", what, fault.nth,
                      fault.for_good ? " and all after it" : "", code);
        passed += code == PASSED;
        refused += code == REFUSED;
        if (code == NOT_REACHED && fault.nth >= least)
            break;
        CHECK(fault.nth < 100000);
    }
    (void)printf("    %s%s: %lu rounds, %lu refused, %lu went well all the same\n", what,
                 fault.for_good ? ", for good" : "", fault.nth, refused, passed);
}
