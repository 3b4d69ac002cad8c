/* os/wait.c - clock, events, poll, and sockets that carry descriptors. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int64_t joblot__os_clock(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int joblot__os_event(void)
{
    int injected = joblot__os_injected();
    if (injected != 0)
        return -injected;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : joblot__os_above_standard(fd);
}

int joblot__os_event_ring(int fd)
{
    uint64_t one = 1;
    ssize_t n;
    do
        n = write(fd, &one, sizeof one);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof one || errno == EAGAIN ? 0 : -errno; /* EAGAIN: it has been rung 2^64 - 2 times */
}

int joblot__os_event_clear(int fd)
{
    uint64_t count;
    ssize_t n;
    do
        n = read(fd, &count, sizeof count);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof count ? 1 : (errno == EAGAIN ? 0 : -errno);
}

int joblot__os_poll(struct joblot__poll *set, size_t n, int64_t timeout_ns)
{
    struct pollfd fds[JOBLOT__POLL_MAX];
    struct timespec ts;
    if (n > JOBLOT__POLL_MAX)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        fds[i].fd = set[i].fd;
        fds[i].events = (short)(POLLIN | (set[i].want_write ? POLLOUT : 0));
        fds[i].revents = 0;
    }
    if (timeout_ns >= 0) {
        ts.tv_sec = (time_t)(timeout_ns / 1000000000);
        ts.tv_nsec = (long)(timeout_ns % 1000000000);
    }
    int rc = ppoll(fds, (nfds_t)n, timeout_ns < 0 ? NULL : &ts, NULL);
    if (rc < 0)
        return -errno;
    for (size_t i = 0; i < n; i++) {
        set[i].ready = (fds[i].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) != 0;
        set[i].writable = (fds[i].revents & POLLOUT) != 0;
        set[i].hangup = (fds[i].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
    }
    return rc;
}

int joblot__os_socketpair(int out[2])
{
    int injected = joblot__os_injected();
    if (injected != 0)
        return -injected;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, out) != 0)
        return -errno;
    int a = joblot__os_above_standard(out[0]), b = joblot__os_above_standard(out[1]);
    if (a < 0 || b < 0) {
        (void)joblot__os_close(a);
        (void)joblot__os_close(b);
        return a < 0 ? a : b;
    }
    out[0] = a;
    out[1] = b;
    return 0;
}

int joblot__os_set_blocking(int fd, bool blocking)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    flags = blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK;
    return fcntl(fd, F_SETFL, flags) == 0 ? 0 : -errno;
}

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(JOBLOT__MAX_FDS * sizeof(int))];
};

int joblot__os_send(int sock, const void *data, size_t size, const int *fds, size_t n_fds)
{
    int injected = joblot__os_injected();
    if (injected != 0)
        return -injected;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    union control control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > JOBLOT__MAX_FDS)
        return -EINVAL;
    if (n_fds > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(head), fds, n_fds * sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

static size_t take_fds(struct msghdr *msg, int *fds)
{
    size_t n = 0;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(msg); head != NULL; head = CMSG_NXTHDR(msg, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof fd);
            fd = joblot__os_above_standard(fd);
            if (n < JOBLOT__MAX_FDS && fd >= 0)
                fds[n++] = fd;
            else
                (void)joblot__os_close(fd);
        }
    }
    return n;
}

int joblot__os_receive(int sock, void *data, size_t capacity, int *fds, size_t *n_fds)
{
    *n_fds = 0;
    int injected = joblot__os_injected();
    if (injected != 0)
        return -injected;
    struct iovec iov = {.iov_base = data, .iov_len = capacity};
    union control control;
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    *n_fds = take_fds(&msg, fds);
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) { /* a message too large, or no room for its descriptors */
        for (size_t i = 0; i < *n_fds; i++)
            (void)close(fds[i]);
        *n_fds = 0;
        return msg.msg_flags & MSG_CTRUNC ? -EMFILE : -EMSGSIZE;
    }
    return (int)n;
}
