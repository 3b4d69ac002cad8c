/* support/rounds.h - the fault lane: a scenario is run again and again, with the n-th allocation or system call failing,
 * until none is left to fail. */
#ifndef JOBLOT_TESTS_SUPPORT_ROUNDS_H
#define JOBLOT_TESTS_SUPPORT_ROUNDS_H

#include "cases.h"

struct fault {
    bool system;   /* a system call fails with `error`; else an allocation */
    bool for_good; /* and every later one */
    int error;
    unsigned long nth;
};

/* Switched on by the scenario, where faults are to begin; processes that are forked from then on have it, too. */
void arm_fault(const struct fault *fault);

/* Runs the scenario in a process per round, n = 1, 2, ... at least `least` times and until the n-th is not reached.  Each
 * round must end in time, with what it allocated freed, no descriptor more than before and no process left; a round that
 * fails must say why.  Prints how many rounds there were. */
typedef joblot_status (*scenario)(const struct fault *fault, joblot_error *err);
void run_rounds(const char *what, scenario run, struct fault fault, unsigned long least);

#endif
