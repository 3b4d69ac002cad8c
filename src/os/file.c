/* os/file.c - descriptors and files. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define INJECT()                           \
    do {                                   \
        int injected = joblot__os_injected(); \
        if (injected != 0)                 \
            return -injected;              \
    } while (0)

int joblot__os_close(int fd)
{
    if (fd < 0)
        return 0;
    return close(fd) == 0 || errno == EINTR ? 0 : -errno;
}

int joblot__os_above_standard(int fd)
{
    if (fd < 0 || fd > 2)
        return fd;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int rc = copy < 0 ? -errno : copy;
    (void)close(fd);
    return rc;
}

static int with_size(int fd, uint64_t size)
{
    if (size > (uint64_t)INT64_MAX) {
        (void)close(fd);
        return -EFBIG;
    }
    int rc;
    do
        rc = ftruncate(fd, (off_t)size);
    while (rc != 0 && errno == EINTR);
    if (rc == 0)
        return fd;
    rc = -errno;
    (void)close(fd);
    return rc;
}

int joblot__os_memfd(const char *name, uint64_t size)
{
    INJECT();
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    fd = with_size(fd, size);
    if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
        int error = errno;
        (void)close(fd);
        return -error;
    }
    return joblot__os_above_standard(fd);
}

static int named_and_unlinked(const char *folder)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/joblot-XXXXXX", folder);
    if (n < 0 || (size_t)n >= sizeof path)
        return -ENAMETOOLONG;
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    (void)unlink(path);
    return fd;
}

int joblot__os_tmpfile(const char *folder, uint64_t size)
{
    INJECT();
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL))
        fd = named_and_unlinked(folder);
    else if (fd < 0)
        fd = -errno;
    if (fd < 0)
        return fd;
    int rc;
    do
        rc = posix_fallocate(fd, 0, (off_t)(size ? size : 1));
    while (rc == EINTR);
    if (rc != 0 && rc != EOPNOTSUPP && rc != EINVAL) {
        (void)close(fd);
        return -rc;
    }
    return joblot__os_above_standard(with_size(fd, size));
}

int joblot__os_pwrite(int fd, const void *data, size_t size, uint64_t offset)
{
    const char *p = data;
    while (size > 0) {
        INJECT();
        ssize_t n = pwrite(fd, p, size > (1u << 30) ? (1u << 30) : size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int joblot__os_pread(int fd, void *data, size_t size, uint64_t offset)
{
    char *p = data;
    while (size > 0) {
        INJECT();
        ssize_t n = pread(fd, p, size > (1u << 30) ? (1u << 30) : size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENODATA;
        p += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int64_t joblot__os_file_size(int fd)
{
    struct stat st;
    INJECT();
    return fstat(fd, &st) == 0 ? (int64_t)st.st_size : -errno;
}

int joblot__os_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX)
        return INT_MAX;
    return (int)limit.rlim_cur;
}

uint64_t joblot__os_identity(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_dev << 40 ^ (uint64_t)st.st_ino : 0;
}

int joblot__os_read_text(const char *path, char *out, size_t capacity)
{
    INJECT();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t used = 0;
    while (used < capacity - 1) {
        ssize_t n = read(fd, out + used, capacity - 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int error = errno;
            (void)close(fd);
            return -error;
        }
        if (n == 0)
            break;
        used += (size_t)n;
    }
    out[used] = '\0';
    (void)close(fd);
    return (int)used;
}

int joblot__os_move_high(int fd)
{
    INJECT();
    enum { HIGH = 1000 };
    int limit = joblot__os_descriptor_limit(), copy = -1;
    for (int from = limit > HIGH ? HIGH : limit - 1; copy < 0 && from > fd && from > 2; from /= 2)
        copy = fcntl(fd, F_DUPFD_CLOEXEC, from);
    if (copy < 0)
        return fd < 0 ? -EBADF : fd;
    (void)close(fd);
    return copy;
}

int joblot__os_seek(int fd, uint64_t offset)
{
    INJECT();
    return lseek(fd, (off_t)offset, SEEK_SET) < 0 ? -errno : 0;
}

int joblot__os_dup(int fd)
{
    INJECT();
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? -errno : copy;
}

int64_t joblot__os_folder_free(const char *folder)
{
    struct statvfs st;
    INJECT();
    if (statvfs(folder, &st) != 0)
        return -errno;
    return (int64_t)((uint64_t)st.f_bavail * st.f_frsize);
}

int joblot__os_punch(int fd, uint64_t size)
{
    INJECT();
    int rc;
    do
        rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)size);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : -errno;
}
