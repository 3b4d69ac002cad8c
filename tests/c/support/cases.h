/* support/cases.h - a test program made of cases, each a process of its own with a time limit.
 *
 * What a case leaves behind is found: the program adopts orphans, and a process that is still there two seconds after
 * its case ended, or a named file in /dev/shm or /tmp, fails the case.  `test_x NAME...` runs the named cases only.
 * JOBLOT_TEST_TIME multiplies the time limits (sanitizers, emulators). */
#ifndef JOBLOT_TESTS_SUPPORT_CASES_H
#define JOBLOT_TESTS_SUPPORT_CASES_H

#include <joblot/base.h>

#include <stdbool.h>
#include <stdint.h>

struct test_case {
    const char *name;
    void (*run)(void);
    unsigned seconds;
};

int run_cases(const struct test_case *cases, size_t n, int argc, char **argv);

/* Ends the case as failed, with where and why. */
_Noreturn void fail_case(const char *file, int line, const char *fmt, ...) JOBLOT_PRINTF(3, 4);
/* Ends the case as skipped, with the reason. */
_Noreturn void skip_case(const char *fmt, ...) JOBLOT_PRINTF(1, 2);

void check_equal(const char *file, int line, const char *what, long long seen, long long wanted);
void check_status(const char *file, int line, const char *what, int seen, int wanted, const joblot_error *err);

#define CHECK(condition)                                        \
    do {                                                        \
        if (!(condition))                                       \
            fail_case(__FILE__, __LINE__, "not so: %s", #condition); \
    } while (0)
#define CHECK_EQUAL(seen, wanted) check_equal(__FILE__, __LINE__, #seen, (long long)(seen), (long long)(wanted))
/* A call whose last argument is &err, with `err` in scope. */
#define CHECK_OK(call) check_status(__FILE__, __LINE__, #call, (call), JOBLOT_OK, &err)
#define CHECK_STATUS(call, wanted) check_status(__FILE__, __LINE__, #call, (call), (wanted), &err)
#define CHECK_CONTAINS(text, part)                                                                     \
    do {                                                                                               \
        if (strstr((text), (part)) == NULL)                                                            \
            fail_case(__FILE__, __LINE__, "%s is \"%s\", without \"%s\"", #text, (text), (part));       \
    } while (0)

/* ---- what cases look at ---- */

int open_descriptors(void);       /* of this process */
unsigned time_factor(void);       /* by how much time limits are multiplied */
bool can_read_processes(void);    /* process_vm_readv is there; under qemu-user it is not */
void skip_if_emulated(const char *why); /* where it is not */
void skip_under_tsan(const char *why);  /* in a build with -fsanitize=thread */
bool process_is_alive(int pid);   /* a zombie is not */
void wait_until_gone(int pid);    /* returns when it is; the case's time limit is the bound */
uint64_t next_random(uint64_t *state);
void wait_ms(unsigned ms);        /* sleeps; for workers and for giving events time, never for a verdict */
/* The case's own fresh folder below TMPDIR or /tmp; removed with all that is in it when the program ends. */
const char *scratch_folder(void);
void write_file(const char *folder, const char *path, const char *text); /* makes the folders on the way */

#endif
