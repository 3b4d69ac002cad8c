/* support/cases.c - runs cases, each in a process of its own. */
#define _GNU_SOURCE
#include "cases.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SKIPPED = 77, LINGER_MS = 2000 };

static char scratch[4096];
static int scratch_owner;

/* ---- in a case ---- */

void fail_case(const char *file, int line, const char *fmt, ...)
{
    va_list args;
    (void)fprintf(stderr, "%s:%d: ", file, line);
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fprintf(stderr, "\n");
    (void)fflush(NULL);
    _exit(1);
}

void skip_case(const char *fmt, ...)
{
    va_list args;
    (void)printf("    skipped: ");
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)printf("\n");
    (void)fflush(NULL);
    _exit(SKIPPED);
}

void check_equal(const char *file, int line, const char *what, long long seen, long long wanted)
{
    if (seen != wanted)
        fail_case(file, line, "%s is %lld, not %lld", what, seen, wanted);
}

void check_status(const char *file, int line, const char *what, int seen, int wanted, const joblot_error *err)
{
    if (seen != wanted)
        fail_case(file, line, "%s gave %s, not %s%s%s", what, joblot_status_name(seen), joblot_status_name(wanted),
                  seen == JOBLOT_OK ? "" : ": ", seen == JOBLOT_OK ? "" : err->message);
}

int open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = -3; /* ".", ".." and the folder's own */
    if (dir == NULL)
        fail_case(__FILE__, __LINE__, "/proc/self/fd: %s", strerror(errno));
    while (readdir(dir) != NULL)
        n++;
    (void)closedir(dir);
    return n;
}

bool can_read_processes(void)
{
    char from = 'x', to;
    struct iovec local = {&to, 1}, remote = {&from, 1};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

void skip_if_emulated(const char *why)
{
    if (!can_read_processes())
        skip_case("under an emulator, or without process_vm_readv: %s", why);
}

void skip_under_tsan(const char *why)
{
#ifdef __SANITIZE_THREAD__
    skip_case("under ThreadSanitizer: %s", why);
#else
    (void)why;
#endif
}

bool process_is_alive(int pid)
{
    char path[64], text[512];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end != NULL && name_end[2] != 'Z' && name_end[2] != 'X';
}

void wait_until_gone(int pid)
{
    while (process_is_alive(pid))
        wait_ms(2);
}

void wait_ms(unsigned ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

unsigned time_factor(void)
{
    const char *text = getenv("JOBLOT_TEST_TIME");
    int factor = text != NULL ? atoi(text) : 1;
    return factor > 0 ? (unsigned)factor : 1;
}

/* ---- folders ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

static void remove_scratch(void)
{
    if (scratch_owner == getpid())
        (void)nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void make_scratch(void)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(scratch, sizeof scratch, "%s/test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(scratch) == NULL) {
        (void)fprintf(stderr, "%s: %s\n", scratch, strerror(errno));
        exit(2);
    }
    scratch_owner = getpid();
    (void)atexit(remove_scratch);
}

const char *scratch_folder(void) { return scratch; }

void write_file(const char *folder, const char *path, const char *text)
{
    char whole[8192];
    (void)snprintf(whole, sizeof whole, "%s/%s", folder, path);
    for (char *at = whole + strlen(folder) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        if (mkdir(whole, 0755) != 0 && errno != EEXIST)
            fail_case(__FILE__, __LINE__, "%s: %s", whole, strerror(errno));
        *at = '/';
    }
    FILE *file = fopen(whole, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        fail_case(__FILE__, __LINE__, "%s: %s", whole, strerror(errno));
}

/* ---- the runner ---- */

/* Entries of a folder that the library could have made. */
static int count_named(const char *folder)
{
    DIR *dir = opendir(folder);
    int n = 0;
    if (dir == NULL)
        return 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        n += strncmp(entry->d_name, "joblot-", 7) == 0 && strlen(entry->d_name) == 13;
    (void)closedir(dir);
    return n;
}

static int64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits until the case's process ends; true when it did so in time. */
static bool wait_for(int pid, int64_t deadline, int *status)
{
    for (;;) {
        pid_t rc = waitpid(pid, status, WNOHANG);
        if (rc == pid)
            return true;
        if (now_ms() > deadline)
            return false;
        wait_ms(1);
    }
}

/* Reaps what the case left; the pid of a process that does not end, or 0. */
static int find_left(int64_t deadline)
{
    for (;;) {
        pid_t rc = waitpid(-1, NULL, WNOHANG);
        if (rc < 0)
            return 0; /* ECHILD: nothing is left */
        if (rc == 0 && now_ms() > deadline)
            break;
        if (rc == 0)
            wait_ms(2);
    }
    return -1;
}

static void print_children(void)
{
    char command[128];
    (void)fflush(stdout);
    (void)snprintf(command, sizeof command, "ps -o pid,ppid,pgid,stat,args --ppid %d 1>&2", (int)getpid());
    int rc = system(command);
    (void)rc;
}

static void kill_children(void)
{
    char path[64], text[4096];
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(path, "r");
    if (file != NULL && fgets(text, sizeof text, file) != NULL) {
        char *save = NULL;
        for (char *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
            if (atoi(word) > 1)
                (void)kill(atoi(word), SIGKILL);
    }
    if (file != NULL)
        (void)fclose(file);
}

/* 0 passed, 1 failed, SKIPPED. */
static int run_case(const struct test_case *c)
{
    int status = 0, failed = 0, named = count_named("/dev/shm") + count_named("/tmp");
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)setpgid(0, 0);
        size_t used = strlen(scratch);
        (void)snprintf(scratch + used, sizeof scratch - used, "/%s", c->name);
        CHECK(mkdir(scratch, 0700) == 0);
        c->run();
        exit(0);
    }
    if (!wait_for(pid, now_ms() + 1000 * (int64_t)c->seconds * time_factor(), &status)) {
        (void)fprintf(stderr, "%s: not done in %u s\n", c->name, c->seconds * time_factor());
        print_children();
        (void)kill(-pid, SIGKILL);
        (void)waitpid(pid, &status, 0);
        failed = 1;
    } else if (WIFSIGNALED(status)) {
        (void)fprintf(stderr, "%s: ended by signal %d\n", c->name, WTERMSIG(status));
        failed = 1;
    } else if (WEXITSTATUS(status) == SKIPPED) {
        failed = SKIPPED;
    } else if (WEXITSTATUS(status) != 0) {
        (void)fprintf(stderr, "%s: exit code %d\n", c->name, WEXITSTATUS(status));
        failed = 1;
    }
    if (find_left(now_ms() + LINGER_MS * (int64_t)time_factor()) != 0) {
        (void)fprintf(stderr, "%s: left processes behind:\n", c->name);
        print_children();
        kill_children();
        (void)find_left(now_ms() + 10000);
        failed = 1;
    }
    if (count_named("/dev/shm") + count_named("/tmp") > named) {
        (void)fprintf(stderr, "%s: left a file in /dev/shm or /tmp\n", c->name);
        failed = 1;
    }
    return failed;
}

static bool is_wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc < 2;
}

int run_cases(const struct test_case *cases, size_t n, int argc, char **argv)
{
    size_t ran = 0, failed = 0, skipped = 0;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        (void)fprintf(stderr, "no subreaper: %s\n", strerror(errno));
    make_scratch();
    for (size_t i = 0; i < n; i++) {
        if (!is_wanted(cases[i].name, argc, argv))
            continue;
        int64_t start = now_ms();
        int how = run_case(&cases[i]);
        ran++;
        failed += how == 1;
        skipped += how == SKIPPED;
        (void)printf("%s %-50s %6lld ms\n", how == 0 ? "ok  " : (how == 1 ? "FAIL" : "skip"), cases[i].name,
                     (long long)(now_ms() - start));
    }
    (void)printf("%zu cases: %zu failed, %zu skipped\n", ran, failed, skipped);
    return failed > 0 || ran == 0;
}
