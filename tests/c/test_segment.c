/* test_segment.c - segments: who borrows them, how they are filled, what happens where there is no room. */
#define _GNU_SOURCE
#include "base/alloc.h"
#include "os/os.h"

#include "support/cases.h"
#include "support/rounds.h"

#include <joblot/segment.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static joblot_segment *make(uint64_t size, const char *folder)
{
    joblot_error err;
    joblot_segment *segment;
    struct joblot_segment_options options = {.folder = folder};
    CHECK_OK(joblot_segment_new(size, &options, &segment, &err));
    return segment;
}

static void borrowers_are_counted(void)
{
    int before = open_descriptors();
    long blocks = joblot__alloc_live();
    joblot_segment *a = make(10, NULL), *b = make(10, NULL);
    CHECK(joblot_segment_id(a) != 0 && joblot_segment_id(a) != joblot_segment_id(b));
    CHECK_EQUAL(joblot_segment_borrowers(a), 1);
    CHECK(joblot_segment_borrow(a) == a);
    CHECK_EQUAL(joblot_segment_borrowers(a), 2);
    CHECK(joblot_segment_lend(a) == a);
    CHECK_EQUAL(joblot_segment_borrowers(a), 3);
    CHECK_EQUAL(joblot_segment_wanted(a), 1);
    joblot_segment_release(a);
    joblot_segment_release(a);
    CHECK_EQUAL(joblot_segment_borrowers(a), 1);
    CHECK_EQUAL(joblot_segment_wanted(a), 0); /* what was lent alone keeps nothing wanted */
    joblot_segment_return(a);
    joblot_segment_release(b);
    joblot_segment_release(NULL);
    joblot_segment_return(NULL);
    CHECK_EQUAL(open_descriptors(), before);
    CHECK_EQUAL(joblot__alloc_live(), blocks);
    uint32_t last = joblot_segment_id(a = make(1, NULL));
    joblot_segment_release(a);
    for (int i = 0; i < 100; i++) { /* never reused */
        a = make(1, NULL);
        CHECK(joblot_segment_id(a) > last);
        last = joblot_segment_id(a);
        joblot_segment_release(a);
    }
}

static void fill_and_look(joblot_segment *segment, uint64_t size)
{
    joblot_error err;
    void *data;
    unsigned char *bytes = malloc(size);
    CHECK_EQUAL(joblot_segment_size(segment), size);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(i % 253);
    CHECK_OK(joblot_segment_write(segment, 0, bytes, size, &err)); /* fresh: not mapped */
    CHECK_OK(joblot_segment_data(segment, &data, &err));
    CHECK(memcmp(data, bytes, size) == 0);
    CHECK_OK(joblot_segment_write(segment, size / 2, "warm", 4, &err)); /* mapped */
    CHECK(memcmp((char *)data + size / 2, "warm", 4) == 0);
    CHECK_OK(joblot_segment_write(segment, size, "", 0, &err));
    CHECK_STATUS(joblot_segment_write(segment, size - 3, "warm", 4, &err), JOBLOT_INVALID);
    CHECK_STATUS(joblot_segment_write(segment, UINT64_MAX, "warm", 4, &err), JOBLOT_INVALID);
    CHECK_STATUS(joblot_segment_write(segment, 4, "warm", UINT64_MAX, &err), JOBLOT_INVALID);
    CHECK_CONTAINS(err.message, "do not fit");
    CHECK(ftruncate(joblot_segment_fd(segment), 0) != 0 || joblot_segment_is_file(segment));
    free(bytes);
}

static void in_memory(void)
{
    static const uint64_t sizes[] = {9, 4096, 100001, 9 << 20};
    for (size_t i = 0; i < 4; i++) {
        joblot_segment *segment = make(sizes[i], NULL);
        CHECK_EQUAL(joblot_segment_is_file(segment), 0);
        fill_and_look(segment, sizes[i]);
        CHECK(fcntl(joblot_segment_fd(segment), F_GET_SEALS) & F_SEAL_SHRINK);
        joblot_segment_release(segment);
    }
}

static void in_a_folder(void)
{
    char command[5000];
    joblot_segment *segment = make(200000, scratch_folder());
    CHECK_EQUAL(joblot_segment_is_file(segment), 1);
    fill_and_look(segment, 200000);
    (void)snprintf(command, sizeof command, "test -z \"$(ls -A %s)\"", scratch_folder());
    CHECK_EQUAL(system(command), 0); /* no name at any time */
    joblot_segment_release(segment);
}

static void a_fresh_segment_is_zero(void)
{
    joblot_error err;
    void *data;
    for (int i = 0; i < 2; i++) {
        joblot_segment *segment = make(100000, i ? scratch_folder() : NULL);
        CHECK_OK(joblot_segment_data(segment, &data, &err));
        for (int k = 0; k < 100000; k++)
            CHECK_EQUAL(((unsigned char *)data)[k], 0);
        joblot_segment_release(segment);
    }
}

static void bad_arguments(void)
{
    joblot_error err;
    joblot_segment *segment = NULL;
    struct joblot_segment_options nowhere = {.folder = "/nowhere/at/all"};
    CHECK_STATUS(joblot_segment_new(0, NULL, &segment, &err), JOBLOT_INVALID);
    CHECK_STATUS(joblot_segment_new((uint64_t)INT64_MAX + 1, NULL, &segment, &err), JOBLOT_INVALID);
    CHECK_STATUS(joblot_segment_new(100, &nowhere, &segment, &err), JOBLOT_OS);
    CHECK_CONTAINS(err.message, "/nowhere/at/all");
    CHECK_EQUAL(err.os_errno, ENOENT);
    CHECK(segment == NULL);
}

static void too_large_for_memory(void)
{
    joblot_error err;
    joblot_segment *segment;
    uint64_t size = (uint64_t)1 << 45;
    struct joblot_segment_options nowhere = {.fallback_folder = "/nowhere"};
    CHECK_STATUS(joblot_segment_new(size, NULL, &segment, &err), JOBLOT_NOMEM);
    CHECK_CONTAINS(err.message, "35184372088832");
    CHECK_CONTAINS(err.message, "temp_folder");
    CHECK_STATUS(joblot_segment_new(size, &nowhere, &segment, &err), JOBLOT_OS); /* the folder is what was tried */
    CHECK_CONTAINS(err.message, "/nowhere");
}

/* That a segment which memory would not hold goes to the fallback folder is seen by that folder's error. */
static void a_full_folder_says_so(void)
{
    joblot_error err;
    joblot_segment *segment;
    if (mount("joblot-test", scratch_folder(), "tmpfs", 0, "size=2m") != 0)
        skip_case("a file system of 2 MB cannot be mounted here: %s", strerror(errno));
    struct joblot_segment_options there = {.folder = scratch_folder()};
    struct joblot_segment_options fallback = {.fallback_folder = scratch_folder()};
    CHECK_STATUS(joblot_segment_new(5000000, &there, &segment, &err), JOBLOT_NOMEM);
    CHECK_EQUAL(err.os_errno, ENOSPC);
    CHECK_CONTAINS(err.message, "5000000");
    CHECK_CONTAINS(err.message, scratch_folder());
    CHECK_CONTAINS(err.message, "bytes free");
    CHECK_STATUS(joblot_segment_new((uint64_t)1 << 45, &fallback, &segment, &err), JOBLOT_NOMEM);
    CHECK_CONTAINS(err.message, scratch_folder());
    segment = make(1500000, scratch_folder()); /* fits, with its blocks kept for it */
    CHECK(joblot__os_folder_free(scratch_folder()) < 700000);
    fill_and_look(segment, 1500000);
    joblot_segment_release(segment);
    CHECK(joblot__os_folder_free(scratch_folder()) > 1500000); /* nothing stays */
    CHECK(umount(scratch_folder()) == 0);
}

static void a_forked_child_does_not_inherit_the_mapping(void)
{
    joblot_error err;
    void *data;
    int status;
    joblot_segment *segment = make(8192, NULL);
    skip_if_emulated("MADV_DONTFORK does nothing");
    CHECK_OK(joblot_segment_data(segment, &data, &err));
    memset(data, 1, 8192);
    pid_t pid = fork();
    if (pid == 0) {
        unsigned char vec[2];
        _exit(mincore(data, 8192, vec) == 0 || errno != ENOMEM); /* ENOMEM: not mapped */
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQUAL(status, 0);
    joblot_segment_release(segment);
}

/* ---- faults ---- */

static const char *folder_to_use;

static joblot_status segment_scenario(const struct fault *fault, joblot_error *err)
{
    struct joblot_segment_options options = {.folder = folder_to_use};
    joblot_segment *segment = NULL;
    void *data;
    arm_fault(fault);
    joblot_status status = joblot_segment_new(9 << 20, &options, &segment, err);
    if (status == JOBLOT_OK)
        status = joblot_segment_write(segment, 10, "abc", 3, err);
    if (status == JOBLOT_OK)
        status = joblot_segment_data(segment, &data, err);
    if (status == JOBLOT_OK)
        CHECK(memcmp((char *)data + 10, "abc", 3) == 0);
    joblot_segment_release(segment);
    return status;
}

static void faults(void)
{
    static const int errors[] = {ENOMEM, EMFILE, ENOSPC, EIO};
    for (int i = 0; i < 4; i++) {
        folder_to_use = i % 2 ? scratch_folder() : NULL;
        run_rounds("system call", segment_scenario, (struct fault){.system = true, .error = errors[i]}, 2);
        run_rounds("system call", segment_scenario, (struct fault){.system = true, .error = errors[i], .for_good = true}, 2);
        run_rounds("allocation", segment_scenario, (struct fault){.for_good = i % 2}, 2);
    }
}

static const struct test_case cases[] = {
    {"borrowers_are_counted", borrowers_are_counted, 10},
    {"in_memory", in_memory, 20},
    {"in_a_folder", in_a_folder, 20},
    {"a_fresh_segment_is_zero", a_fresh_segment_is_zero, 20},
    {"bad_arguments", bad_arguments, 10},
    {"too_large_for_memory", too_large_for_memory, 10},
    {"a_full_folder_says_so", a_full_folder_says_so, 20},
    {"a_forked_child_does_not_inherit_the_mapping", a_forked_child_does_not_inherit_the_mapping, 20},
    {"faults", faults, 60},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
