/* test_os.c - src/os: descriptors, mappings, processes, sockets, waits, and the hooks that make calls fail. */
#define _GNU_SOURCE
#include "os/os.h"

#include "support/cases.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_cloexec(int fd) { return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

/* ---- files ---- */

static void memfd_does_not_shrink(void)
{
    char text[4];
    int fd = joblot__os_memfd("test", 5000);
    CHECK(fd > 2 && is_cloexec(fd));
    CHECK_EQUAL(joblot__os_file_size(fd), 5000);
    CHECK(ftruncate(fd, 10) != 0 && errno == EPERM);
    CHECK(ftruncate(fd, 6000) != 0 && errno == EPERM);
    CHECK_EQUAL(joblot__os_pwrite(fd, "abc", 3, 4997), 0);
    CHECK_EQUAL(joblot__os_pread(fd, text, 3, 4997), 0);
    CHECK(memcmp(text, "abc", 3) == 0);
    CHECK_EQUAL(joblot__os_pread(fd, text, 4, 4997), -ENODATA);
    CHECK_EQUAL(joblot__os_memfd("test", UINT64_MAX), -EFBIG);
    int copy = joblot__os_dup(fd);
    CHECK(copy > 2 && copy != fd && is_cloexec(copy));
    CHECK_EQUAL(joblot__os_close(copy), 0);
    CHECK_EQUAL(joblot__os_close(fd), 0);
    CHECK_EQUAL(joblot__os_close(-1), 0);
    CHECK_EQUAL(joblot__os_file_size(fd), -EBADF);
}

static void check_tmpfile(const char *folder)
{
    struct stat st;
    int fd = joblot__os_tmpfile(folder, 100000);
    CHECK(fd > 2 && is_cloexec(fd));
    CHECK_EQUAL(joblot__os_file_size(fd), 100000);
    CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0); /* no name */
    CHECK(st.st_blocks * 512 >= 100000);            /* its blocks are there */
    CHECK_EQUAL(joblot__os_close(fd), 0);
}

static void tmpfile_has_no_name(void)
{
    check_tmpfile(scratch_folder());
    CHECK_EQUAL(joblot__os_tmpfile("/nowhere/at/all", 10), -ENOENT);
    CHECK(joblot__os_tmpfile("/dev/null", 10) < 0);
}

/* ramfs and overlays of old have no O_TMPFILE; proc and sysfs have no files to make. */
static void tmpfile_where_the_folder_cannot_do_it(void)
{
    if (mount("joblot-test", scratch_folder(), "ramfs", 0, NULL) != 0)
        skip_case("a ramfs cannot be mounted here: %s", strerror(errno));
    int fd = joblot__os_tmpfile(scratch_folder(), 100000);
    CHECK(fd > 2 && is_cloexec(fd));
    CHECK_EQUAL(joblot__os_file_size(fd), 100000);
    char command[5000];
    (void)snprintf(command, sizeof command, "test -z \"$(ls -A %s)\"", scratch_folder());
    CHECK_EQUAL(system(command), 0);
    CHECK_EQUAL(joblot__os_close(fd), 0);
    CHECK(umount(scratch_folder()) == 0);
}

static void a_full_disk_is_seen_at_once(void)
{
    if (mount("joblot-test", scratch_folder(), "tmpfs", 0, "size=1m") != 0)
        skip_case("a file system of 1 MB cannot be mounted here: %s", strerror(errno));
    CHECK_EQUAL(joblot__os_tmpfile(scratch_folder(), 2 << 20), -ENOSPC);
    CHECK_EQUAL(joblot__os_folder_free(scratch_folder()), 1 << 20);
    check_tmpfile(scratch_folder());
    CHECK(umount(scratch_folder()) == 0);
    CHECK_EQUAL(joblot__os_folder_free("/nowhere"), -ENOENT);
}

static void text_is_cut_and_ended(void)
{
    char path[5000], text[8];
    write_file(scratch_folder(), "text", "0123456789");
    (void)snprintf(path, sizeof path, "%s/text", scratch_folder());
    CHECK_EQUAL(joblot__os_read_text(path, text, sizeof text), 7);
    CHECK(strcmp(text, "0123456") == 0);
    CHECK_EQUAL(joblot__os_read_text("/nowhere", text, sizeof text), -ENOENT);
}

static void three_mappings(void)
{
    unsigned char *read_only, *shared, *own;
    size_t page = joblot__os_page_size();
    int fd = joblot__os_memfd("test", 3 * page);
    CHECK_EQUAL(joblot__os_map(fd, page, page, JOBLOT__MAP_READ, (void **)&read_only), 0);
    CHECK_EQUAL(joblot__os_map(fd, page, page, JOBLOT__MAP_WRITE, (void **)&shared), 0);
    CHECK_EQUAL(joblot__os_map(fd, page, page, JOBLOT__MAP_PRIVATE, (void **)&own), 0);
    shared[1] = 5;
    CHECK(read_only[1] == 5 && own[1] == 5);
    own[1] = 6;
    CHECK(read_only[1] == 5 && shared[1] == 5);
    CHECK(mprotect(read_only, page, PROT_READ) == 0);
    CHECK_EQUAL(joblot__os_dontfork(shared, page), 0);
    int rc = joblot__os_populate_read(shared, page);
    CHECK(rc == 0 || rc == -EINVAL);
    CHECK(joblot__os_map(fd, 1, page, JOBLOT__MAP_READ, (void **)&own) == -EINVAL); /* not a page's start */
    CHECK_EQUAL(joblot__os_unmap(read_only, page), 0);
    CHECK_EQUAL(joblot__os_unmap(NULL, 0), 0);
    CHECK_EQUAL(joblot__os_close(fd), 0);
}

/* With pagemap, and where it cannot be read or is not to be believed (as under an emulator). */
static void private_pages_are_as_in_the_file_again(void)
{
    enum { PAGES = 40 };
    size_t page = joblot__os_page_size();
    int fd = joblot__os_memfd("test", PAGES * page);
    unsigned char *own, *shared;
    CHECK_EQUAL(joblot__os_map(fd, 0, PAGES * page, JOBLOT__MAP_WRITE, (void **)&shared), 0);
    CHECK_EQUAL(joblot__os_map(fd, page, (PAGES - 1) * page, JOBLOT__MAP_PRIVATE, (void **)&own), 0);
    for (size_t i = 0; i < PAGES * page; i++)
        shared[i] = (unsigned char)(i % 251);
    for (int round = 0; round < 20; round++) {
        joblot__os_forbid(round % 2 ? "pagemap" : NULL, EPERM);
        for (size_t i = (size_t)round; i < (PAGES - 1) * page; i += page * (size_t)(1 + round / 4))
            own[i] ^= 0x5a;
        CHECK_EQUAL(joblot__os_reset_private(fd, page, own, (PAGES - 1) * page), 0);
        CHECK(memcmp(own, shared + page, (PAGES - 1) * page) == 0);
    }
    joblot__os_forbid(NULL, 0);
}

/* ---- processes ---- */

static int wait_status(int pid)
{
    struct joblot__exit how;
    int sig, code;
    CHECK_EQUAL(joblot__os_reap(pid, &how), 0);
    joblot__os_decode_status(how.status, &sig, &code);
    CHECK((sig == 0) != (code == -1));
    return sig ? -sig : code;
}

static void spawn_says_why_it_failed(void)
{
    static const char *const missing[] = {"/nowhere/program", NULL}, *const folder[] = {"/tmp", NULL};
    int pid = 77;
    skip_if_emulated("posix_spawn tells of no failure of exec");
    CHECK_EQUAL(joblot__os_spawn(missing, NULL, NULL, 0, &pid), -ENOENT);
    CHECK_EQUAL(joblot__os_spawn(folder, NULL, NULL, 0, &pid), -EACCES);
    CHECK_EQUAL(pid, 77);
    CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD); /* nothing to reap */
}

/* The child finds its descriptors at 3 and 4, in that order even where they cross, and nothing else of ours. */
static void check_passing(int first, int second)
{
    int a = fcntl(joblot__os_memfd("a", 10), F_DUPFD_CLOEXEC, 50), b = fcntl(joblot__os_memfd("b", 10), F_DUPFD_CLOEXEC, 50);
    int pid;
    CHECK(dup3(a, first, O_CLOEXEC) == first && dup3(b, second, O_CLOEXEC) == second);
    static const char *const argv[] = {
        "sh", "-c", "printf first >&3 && printf second >&4 && test ! -e /proc/self/fd/5 && "
                    "test \"$(readlink /proc/self/fd/0)\" = /dev/null && test \"$X\" = y && "
                    "test \"$(cut -d' ' -f5 /proc/$$/stat)\" = $$", NULL};
    static const char *const env[] = {"X=y", "PATH=/usr/bin:/bin", NULL};
    int fds[] = {first, second};
    char text[10];
    CHECK_EQUAL(joblot__os_spawn(argv, env, fds, 2, &pid), 0);
    CHECK_EQUAL(wait_status(pid), 0);
    CHECK_EQUAL(joblot__os_pread(a, text, 10, 0), 0);
    CHECK(memcmp(text, "first", 6) == 0);
    CHECK_EQUAL(joblot__os_pread(b, text, 10, 0), 0);
    CHECK(memcmp(text, "second", 7) == 0);
    (void)close(first);
    (void)close(second);
}

static void spawn_passes_descriptors(void)
{
    struct rlimit few = {.rlim_cur = 64, .rlim_max = 64};
    check_passing(4, 3);
    check_passing(3, 4);
    check_passing(5, 6);
    check_passing(6, 5);
    check_passing(201, 200); /* no number is free of the caller's own descriptors */
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    check_passing(4, 3);
}

static void spawn_resets_signals(void)
{
    int pid;
    sigset_t all;
    /* glibc leaves two signals of its own, 32 and 33, ignored. */
    static const char *const blocked[] = {"grep", "-q", "^SigBlk:.0000000000000000$", "/proc/self/status", NULL};
    static const char *const ignored[] = {"grep", "-q", "^SigIgn:.0000000[01][08]0000000$", "/proc/self/status", NULL};
    skip_if_emulated("the status of a process is the emulator's");
    sigfillset(&all);
    CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR && signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CHECK_EQUAL(joblot__os_spawn(blocked, NULL, NULL, 0, &pid), 0);
    CHECK_EQUAL(wait_status(pid), 0);
    CHECK_EQUAL(joblot__os_spawn(ignored, NULL, NULL, 0, &pid), 0);
    CHECK_EQUAL(wait_status(pid), 0);
    CHECK(sigprocmask(SIG_SETMASK, NULL, &all) == 0 && sigismember(&all, SIGUSR2) == 1);
}

static void ended_is_told_without_reaping(void)
{
    int pid = joblot__os_fork();
    if (pid == 0)
        for (;;)
            (void)pause();
    CHECK(pid > 0);
    int pidfd = joblot__os_pidfd(pid);
    struct joblot__poll set = {.fd = pidfd};
    CHECK(pidfd > 2 && is_cloexec(pidfd));
    CHECK_EQUAL(joblot__os_ended(pid), 0);
    CHECK_EQUAL(joblot__os_poll(&set, 1, 0), 0);
    CHECK_EQUAL(joblot__os_pidfd_kill(pidfd, 0), 0);
    CHECK_EQUAL(joblot__os_pidfd_kill(pidfd, SIGTERM), 0);
    CHECK_EQUAL(joblot__os_poll(&set, 1, -1), 1);
    CHECK(set.ready);
    CHECK_EQUAL(joblot__os_ended(pid), 1);
    CHECK_EQUAL(joblot__os_ended(pid), 1); /* still there */
    CHECK_EQUAL(wait_status(pid), -SIGTERM);
    CHECK_EQUAL(joblot__os_ended(pid), -ECHILD);
    CHECK_EQUAL(joblot__os_pidfd_kill(pidfd, 0), -ESRCH);
    CHECK_EQUAL(joblot__os_kill_group(1, SIGKILL), -EINVAL);
    CHECK_EQUAL(joblot__os_kill_group(-1, SIGKILL), -EINVAL);
    CHECK_EQUAL(joblot__os_kill_group(0, SIGKILL), -EINVAL);
#ifdef __SANITIZE_THREAD__
    int own = 1; /* the sanitizer has a thread of its own, and so has an emulator */
#else
    int own = !can_read_processes();
#endif
    CHECK_EQUAL(joblot__os_thread_count(), 1 + own);
}

static void memory_of_another_process(void)
{
    static unsigned char secret[10000], seen[10000];
    memset(secret, 1, sizeof secret);
    int pid = joblot__os_fork();
    if (pid == 0)
        for (;;)
            (void)pause();
    memset(secret, 2, sizeof secret);
    int64_t n = joblot__os_vm_read(pid, (uint64_t)(uintptr_t)secret, seen, sizeof seen);
    if (n == -ENOSYS || n == -EPERM) {
        (void)kill(pid, SIGKILL);
        (void)wait_status(pid);
        skip_case("process_vm_readv is not permitted here: %s", strerror((int)-n));
    }
    CHECK_EQUAL(n, sizeof seen);
    CHECK(seen[0] == 1 && seen[9999] == 1);
    CHECK_EQUAL(joblot__os_vm_read(pid, 16, seen, 10), -EFAULT);
    joblot__os_forbid("process_vm_readv", EPERM);
    CHECK_EQUAL(joblot__os_vm_read(pid, (uint64_t)(uintptr_t)secret, seen, 10), -EPERM);
    joblot__os_forbid("something else", EPERM);
    CHECK_EQUAL(joblot__os_vm_read(pid, (uint64_t)(uintptr_t)secret, seen, 10), 10);
    joblot__os_forbid(NULL, 0);
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK_EQUAL(wait_status(pid), -SIGKILL);
    CHECK_EQUAL(joblot__os_vm_read(pid, (uint64_t)(uintptr_t)secret, seen, 10), -ESRCH);
}

/* ---- sockets ---- */

static void sixteen_descriptors_in_a_message(void)
{
    int pair[2], fds[JOBLOT__MAX_FDS + 1], got[JOBLOT__MAX_FDS];
    size_t n;
    char data[10];
    CHECK_EQUAL(joblot__os_socketpair(pair), 0);
    CHECK(pair[0] > 2 && pair[1] > 2 && is_cloexec(pair[0]));
    for (int i = 0; i <= JOBLOT__MAX_FDS; i++)
        fds[i] = joblot__os_memfd("x", (uint64_t)i + 1);
    int before = open_descriptors();
    CHECK_EQUAL(joblot__os_send(pair[0], "hello", 6, fds, JOBLOT__MAX_FDS), 0);
    CHECK_EQUAL(joblot__os_receive(pair[1], data, sizeof data, got, &n), 6);
    CHECK_EQUAL(n, JOBLOT__MAX_FDS);
    for (int i = 0; i < JOBLOT__MAX_FDS; i++) {
        CHECK(is_cloexec(got[i]));
        CHECK_EQUAL(joblot__os_file_size(got[i]), i + 1);
        CHECK_EQUAL(joblot__os_close(got[i]), 0);
    }
    CHECK_EQUAL(joblot__os_send(pair[0], "hello", 6, fds, JOBLOT__MAX_FDS + 1), -EINVAL);
    CHECK_EQUAL(joblot__os_send(pair[0], "larger than that", 17, fds, 2), 0); /* cut: an error, and nothing leaks */
    CHECK_EQUAL(joblot__os_receive(pair[1], data, sizeof data, got, &n), -EMSGSIZE);
    CHECK_EQUAL(n, 0);
    CHECK_EQUAL(open_descriptors(), before);
    CHECK_EQUAL(joblot__os_send(pair[0], "next", 5, NULL, 0), 0);
    CHECK_EQUAL(joblot__os_receive(pair[1], data, sizeof data, got, &n), 5);
}

static void sockets_that_are_full_or_over(void)
{
    int pair[2], got[JOBLOT__MAX_FDS], sent = 0;
    size_t n;
    char data[100] = {0};
    CHECK_EQUAL(joblot__os_socketpair(pair), 0);
    CHECK_EQUAL(joblot__os_set_blocking(pair[1], false), 0);
    CHECK_EQUAL(joblot__os_receive(pair[1], data, sizeof data, got, &n), -EAGAIN);
    while (joblot__os_send(pair[0], data, sizeof data, NULL, 0) == 0)
        sent++;
    CHECK_EQUAL(joblot__os_send(pair[0], data, sizeof data, NULL, 0), -EAGAIN);
    CHECK(sent > 10);
    for (int i = 0; i < sent; i++)
        CHECK_EQUAL(joblot__os_receive(pair[1], data, sizeof data, got, &n), sizeof data);
    CHECK_EQUAL(joblot__os_close(pair[0]), 0);
    CHECK_EQUAL(joblot__os_receive(pair[1], data, sizeof data, got, &n), 0);
    CHECK_EQUAL(joblot__os_send(pair[1], data, 5, NULL, 0), -EPIPE); /* no SIGPIPE */
}

/* ---- waits ---- */

static void on_alarm(int sig) { (void)sig; }

static void waits_end_for_a_signal(void)
{
    struct sigaction act = {.sa_handler = on_alarm};
    struct joblot__poll set[2] = {{.fd = -1}, {.fd = joblot__os_event()}};
    CHECK(sigaction(SIGALRM, &act, NULL) == 0);
    (void)alarm(1);
    CHECK_EQUAL(joblot__os_poll(set, 2, -1), -EINTR);
    int64_t before = joblot__os_clock();
    CHECK_EQUAL(joblot__os_poll(set, 2, 20000000), 0);
    CHECK(joblot__os_clock() - before >= 20000000);
    CHECK_EQUAL(joblot__os_poll(set, JOBLOT__POLL_MAX + 1, 0), -EINVAL);
}

static void events_add_up_and_clear(void)
{
    int fd = joblot__os_event();
    struct joblot__poll set = {.fd = fd, .want_write = true};
    CHECK(fd > 2 && is_cloexec(fd));
    CHECK_EQUAL(joblot__os_event_clear(fd), 0);
    CHECK_EQUAL(joblot__os_event_ring(fd), 0);
    CHECK_EQUAL(joblot__os_event_ring(fd), 0);
    CHECK_EQUAL(joblot__os_poll(&set, 1, 0), 1);
    CHECK(set.ready && set.writable && !set.hangup);
    CHECK_EQUAL(joblot__os_event_clear(fd), 1);
    CHECK_EQUAL(joblot__os_event_clear(fd), 0);
}

/* ---- hooks ---- */

static void the_nth_call_fails(void)
{
    joblot__os_fail_at(3, false, EMFILE);
    int a = joblot__os_event(), b = joblot__os_event(), c = joblot__os_event(), d = joblot__os_event();
    CHECK(a > 2 && b > 2 && d > 2);
    CHECK_EQUAL(c, -EMFILE);
    CHECK_EQUAL(joblot__os_count(), 4);
    joblot__os_fail_at(2, true, ENOMEM);
    CHECK((a = joblot__os_event()) > 2);
    CHECK_EQUAL(joblot__os_event(), -ENOMEM);
    CHECK_EQUAL(joblot__os_memfd("x", 1), -ENOMEM);
    CHECK_EQUAL(joblot__os_fork(), -ENOMEM);
    joblot__os_fail_at(0, false, 0);
    CHECK((a = joblot__os_event()) > 2);
}

static void descriptors_stay_above_the_standard_ones(void)
{
    int pair[2], got[JOBLOT__MAX_FDS];
    size_t n;
    char data[4];
    (void)close(0);
    (void)close(1);
    (void)close(2);
    CHECK(joblot__os_event() > 2 && joblot__os_memfd("x", 5) > 2 && joblot__os_pidfd(getpid()) > 2);
    CHECK(joblot__os_tmpfile(scratch_folder(), 5) > 2);
    CHECK_EQUAL(joblot__os_socketpair(pair), 0);
    CHECK(pair[0] > 2 && pair[1] > 2);
    CHECK_EQUAL(joblot__os_send(pair[0], "abc", 3, pair, 2), 0);
    CHECK_EQUAL(joblot__os_receive(pair[1], data, sizeof data, got, &n), 3);
    CHECK(n == 2 && got[0] > 2 && got[1] > 2);
    CHECK(fcntl(0, F_GETFD) < 0 && fcntl(1, F_GETFD) < 0 && fcntl(2, F_GETFD) < 0);
}

static void standard_input_is_there_for_programs_too(void)
{
    char byte;
    (void)close(0);
    joblot__os_stdin_null();
    CHECK_EQUAL(read(0, &byte, 1), 0);
    CHECK_EQUAL(fcntl(0, F_GETFD) & FD_CLOEXEC, 0);
    joblot__os_stdin_null(); /* where it was open */
    CHECK_EQUAL(read(0, &byte, 1), 0);
    CHECK_EQUAL(fcntl(0, F_GETFD) & FD_CLOEXEC, 0);
}

static void what_a_program_was_started_with_is_its_own(void)
{
    int pair[2];
    CHECK(pipe(pair) == 0 && pair[1] == pair[0] + 1);
    joblot__os_close_on_exec(pair[0], 2);
    CHECK(fcntl(pair[0], F_GETFD) == FD_CLOEXEC && fcntl(pair[1], F_GETFD) == FD_CLOEXEC);
}

/* A child asks to end with us, or takes it back; then we end. */
static void end_over_a_child(bool yes)
{
    int pair[2];
    pid_t child = 0;
    skip_if_emulated("the emulator refuses prctl(PR_SET_CHILD_SUBREAPER)");
    CHECK(pipe(pair) == 0);
    CHECK_EQUAL(prctl(PR_SET_CHILD_SUBREAPER, 1), 0); /* the orphan is to be ours */
    pid_t parent = fork();
    if (parent == 0) {
        child = fork();
        if (child == 0) {
            CHECK_EQUAL(joblot__os_die_with_parent(true), 0);
            CHECK_EQUAL(joblot__os_die_with_parent(yes), 0);
            child = getpid();
            CHECK(write(pair[1], &child, sizeof child) == sizeof child);
            (void)alarm(1); /* it ends by itself then, by another signal */
            for (;;)
                (void)pause();
        }
        CHECK(read(pair[0], &child, sizeof child) == sizeof child);
        CHECK(write(pair[1], &child, sizeof child) == sizeof child);
        _exit(0);
    }
    CHECK_EQUAL(waitpid(parent, NULL, 0), parent);
    CHECK(read(pair[0], &child, sizeof child) == sizeof child);
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(WTERMSIG(status), yes ? SIGKILL : SIGALRM);
}

static void a_child_ends_with_us(void) { end_over_a_child(true); }
static void or_does_not_any_more(void) { end_over_a_child(false); }

static const struct test_case cases[] = {
    {"memfd_does_not_shrink", memfd_does_not_shrink, 10},
    {"tmpfile_has_no_name", tmpfile_has_no_name, 10},
    {"tmpfile_where_the_folder_cannot_do_it", tmpfile_where_the_folder_cannot_do_it, 10},
    {"a_full_disk_is_seen_at_once", a_full_disk_is_seen_at_once, 10},
    {"text_is_cut_and_ended", text_is_cut_and_ended, 10},
    {"three_mappings", three_mappings, 10},
    {"private_pages_are_as_in_the_file_again", private_pages_are_as_in_the_file_again, 10},
    {"spawn_says_why_it_failed", spawn_says_why_it_failed, 10},
    {"spawn_passes_descriptors", spawn_passes_descriptors, 10},
    {"spawn_resets_signals", spawn_resets_signals, 10},
    {"ended_is_told_without_reaping", ended_is_told_without_reaping, 10},
    {"memory_of_another_process", memory_of_another_process, 10},
    {"sixteen_descriptors_in_a_message", sixteen_descriptors_in_a_message, 10},
    {"sockets_that_are_full_or_over", sockets_that_are_full_or_over, 10},
    {"waits_end_for_a_signal", waits_end_for_a_signal, 10},
    {"events_add_up_and_clear", events_add_up_and_clear, 10},
    {"the_nth_call_fails", the_nth_call_fails, 10},
    {"descriptors_stay_above_the_standard_ones", descriptors_stay_above_the_standard_ones, 10},
    {"standard_input_is_there_for_programs_too", standard_input_is_there_for_programs_too, 10},
    {"what_a_program_was_started_with_is_its_own", what_a_program_was_started_with_is_its_own, 10},
    {"a_child_ends_with_us", a_child_ends_with_us, 10},
    {"or_does_not_any_more", or_does_not_any_more, 10},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
