/* os/process.c - processes: start, watch, signal, reap, read. */
#define _GNU_SOURCE
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

extern char **environ;

int joblot__os_pid(void)
{
    return (int)getpid();
}

int joblot__os_parent_pid(void)
{
    return (int)getppid();
}

static int prepare_spawn(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr, const int *fds, size_t n_fds)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n_fds; i++)
        rc = posix_spawn_file_actions_adddup2(actions, fds[i], 3 + (int)i);
    if (rc == 0)
        rc = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    if (rc == 0)
        rc = posix_spawnattr_setsigmask(attr, &none);
    if (rc == 0)
        rc = posix_spawnattr_setsigdefault(attr, &all);
    if (rc == 0)
        rc = posix_spawnattr_setpgroup(attr, 0);
    if (rc == 0)
        rc = posix_spawnattr_setflags(attr,
                                      POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    return rc;
}

static int spawn_with(const char *const *argv, const char *const *env, const int *fds, size_t n_fds, pid_t *child)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0)
        return -rc;
    rc = posix_spawnattr_init(&attr);
    if (rc == 0) {
        rc = prepare_spawn(&actions, &attr, fds, n_fds);
        if (rc == 0)
            rc = posix_spawnp(child, argv[0], &actions, &attr, (char *const *)argv,
                              env != NULL ? (char *const *)env : environ);
        (void)posix_spawnattr_destroy(&attr);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

int joblot__os_spawn(const char *const *argv, const char *const *env, const int *fds, size_t n_fds, int *pid)
{
    int copies[JOBLOT__SPAWN_FDS];
    size_t n = 0;
    pid_t child = -1;
    int rc = joblot__os_injected();
    if (rc != 0)
        return -rc;
    if (n_fds > JOBLOT__SPAWN_FDS)
        return -EINVAL;
    /* Above all that they become, so that none is replaced before it was copied; RLIMIT_NOFILE may forbid a fixed
     * number far up. */
    for (; rc >= 0 && n < n_fds; n += rc >= 0) {
        rc = fcntl(fds[n], F_DUPFD_CLOEXEC, 3 + (int)n_fds);
        copies[n] = rc;
    }
    rc = rc < 0 ? -errno : spawn_with(argv, env, copies, n_fds, &child);
    while (n > 0)
        (void)close(copies[--n]);
    if (rc == 0)
        *pid = (int)child;
    return rc;
}

int joblot__os_fork(void)
{
    int injected = joblot__os_injected();
    if (injected != 0)
        return -injected;
    pid_t pid = fork();
    return pid < 0 ? -errno : (int)pid;
}

void joblot__os_reset_process(void)
{
    struct sigaction act = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int sig = 1; sig < NSIG; sig++)
        (void)sigaction(sig, &act, NULL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setpgid(0, 0);
}

void joblot__os_set_group(int pid)
{
    (void)setpgid((pid_t)pid, (pid_t)pid);
}

int joblot__os_die_with_parent(bool yes)
{
    return prctl(PR_SET_PDEATHSIG, yes ? SIGKILL : 0) == 0 ? 0 : -errno;
}

static void nothing(int sig)
{
    (void)sig;
}

void joblot__os_ignore_interrupts(void)
{
    struct sigaction act = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    (void)sigaction(SIGINT, &act, NULL);
}

void joblot__os_raise_oom_score(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = write(fd, "300", 3);
    (void)n; /* best effort: the kernel may forbid it, and nothing depends on it */
    (void)close(fd);
}

void joblot__os_stdin_null(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fd == 0) /* it was closed: the programs that we start are to have one */
        (void)fcntl(fd, F_SETFD, 0);
    else
        (void)dup2(fd, 0);
    if (fd > 0)
        (void)close(fd);
}

void joblot__os_close_on_exec(int first, int n)
{
    for (int fd = first; fd < first + n; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

int joblot__os_pidfd(int pid)
{
    int injected = joblot__os_injected();
    if (injected != 0)
        return -injected;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : joblot__os_above_standard(fd);
}

int joblot__os_kill(int pid, int sig)
{
    return kill(pid, sig) == 0 ? 0 : -errno;
}

int joblot__os_kill_group(int pgid, int sig)
{
    if (pgid <= 1) /* kill(-1) would reach every process that we may signal */
        return -EINVAL;
    return kill(-pgid, sig) == 0 ? 0 : -errno;
}

int joblot__os_pidfd_kill(int pidfd, int sig)
{
    return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) == 0 ? 0 : -errno;
}

int joblot__os_ended(int pid)
{
    siginfo_t info = {0};
    int rc;
    do
        rc = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        return -errno;
    return info.si_pid == pid;
}

int joblot__os_reap(int pid, struct joblot__exit *out)
{
    struct rusage usage = {0};
    int status = 0;
    pid_t rc;
    do
        rc = wait4((pid_t)pid, &status, 0, &usage);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return -errno;
    out->status = status;
    out->peak_memory = (uint64_t)usage.ru_maxrss * 1024;
    return 0;
}

_Noreturn void joblot__os_exit_now(int code)
{
    _exit(code);
}

void joblot__os_decode_status(int status, int *signal, int *exit_code)
{
    *signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    *exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int joblot__os_thread_count(void)
{
    DIR *dir = opendir("/proc/self/task");
    int n = 0;
    if (dir == NULL)
        return -errno;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        n += entry->d_name[0] != '.';
    (void)closedir(dir);
    return n;
}

int64_t joblot__os_vm_read(int pid, uint64_t address, void *out, size_t size)
{
    int banned = joblot__os_forbidden("process_vm_readv");
    int injected = banned != 0 ? banned : joblot__os_injected();
    if (injected != 0)
        return -injected;
    struct iovec local = {.iov_base = out, .iov_len = size};
    struct iovec remote = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};
    ssize_t n;
    do
        n = process_vm_readv((pid_t)pid, &local, 1, &remote, 1, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : (int64_t)n;
}
