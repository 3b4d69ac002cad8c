/* os/map.c - mappings. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

size_t joblot__os_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

int joblot__os_map(int fd, uint64_t offset, size_t size, int mode, void **out)
{
    int injected = joblot__os_injected();
    if (injected != 0)
        return -injected;
    int prot = mode == JOBLOT__MAP_READ ? PROT_READ : PROT_READ | PROT_WRITE;
    void *at = mmap(NULL, size, prot, mode == JOBLOT__MAP_PRIVATE ? MAP_PRIVATE : MAP_SHARED, fd, (off_t)offset);
    if (at == MAP_FAILED)
        return -errno;
    *out = at;
    return 0;
}

int joblot__os_unmap(void *at, size_t size)
{
    if (at == NULL)
        return 0;
    return munmap(at, size) == 0 ? 0 : -errno;
}

int joblot__os_dontfork(void *at, size_t size)
{
    return madvise(at, size, MADV_DONTFORK) == 0 ? 0 : -errno;
}

int joblot__os_populate_read(void *at, size_t size)
{
    return madvise(at, size, MADV_POPULATE_READ) == 0 ? 0 : -errno;
}
