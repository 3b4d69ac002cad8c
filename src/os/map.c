/* os/map.c - mappings. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
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

/* ---- private mappings ---- */

enum { ENTRIES = 4096 };
/* Documentation/admin-guide/mm/pagemap.rst: present, swapped, and a page of the file itself. */
static const uint64_t PRESENT = (uint64_t)1 << 63, SWAPPED = (uint64_t)1 << 62, OF_FILE = (uint64_t)1 << 61;

static bool was_written(uint64_t entry)
{
    return (entry & (PRESENT | SWAPPED)) != 0 && (entry & OF_FILE) == 0;
}

/* Drops the written pages among `n` from `at` on. */
static int drop_written(const uint64_t *entries, size_t n, unsigned char *at, size_t page)
{
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && was_written(entries[end]))
            end++;
        if (end > i && madvise(at + i * page, (end - i) * page, MADV_DONTNEED) != 0)
            return -errno;
        i = end > i ? end : i + 1;
    }
    return 0;
}

static int drop_by_pagemap(int pagemap, unsigned char *at, size_t size)
{
    uint64_t entries[ENTRIES];
    size_t page = joblot__os_page_size(), pages = (size + page - 1) / page;
    for (size_t done = 0; done < pages;) {
        size_t n = pages - done < ENTRIES ? pages - done : ENTRIES;
        int rc = joblot__os_pread(pagemap, entries, n * sizeof *entries, ((uintptr_t)at / page + done) * sizeof *entries);
        if (rc == 0)
            rc = drop_written(entries, n, at + done * page, page);
        if (rc < 0)
            return rc;
        done += n;
    }
    return 0;
}

enum { PROBE_PAGES = 32 };

/* Pages of our own, every other one written: does pagemap say so of each, and are they as in the file once dropped? */
static bool probe(int pagemap, volatile unsigned char *at, size_t page)
{
    uint64_t entries[PROBE_PAGES];
    unsigned char touched = 0;
    for (size_t i = 0; i < PROBE_PAGES; i++) {
        touched |= at[i * page];
        if (i % 2 == 1)
            at[i * page] = 1;
    }
    if (touched != 0 ||
        joblot__os_pread(pagemap, entries, sizeof entries, (uintptr_t)at / page * sizeof entries[0]) != 0)
        return false;
    for (size_t i = 0; i < PROBE_PAGES; i++)
        if (was_written(entries[i]) != (i % 2 == 1))
            return false;
    if (drop_by_pagemap(pagemap, (unsigned char *)(uintptr_t)at, PROBE_PAGES * page) != 0)
        return false;
    for (size_t i = 0; i < PROBE_PAGES; i++)
        touched |= at[i * page];
    return touched == 0;
}

/* Under an emulator pagemap may speak of other addresses than ours, or in another byte order, and pages may stay when
 * they are dropped: tried once. */
static bool pagemap_works(int pagemap)
{
    static atomic_int known; /* 0: not tried; 1: yes; 2: no */
    int works = atomic_load_explicit(&known, memory_order_relaxed);
    if (works == 0) {
        size_t page = joblot__os_page_size(), size = PROBE_PAGES * page;
        int fd = joblot__os_memfd("joblot-probe", size);
        void *at = fd >= 0 ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) : MAP_FAILED;
        works = at != MAP_FAILED && probe(pagemap, at, page) ? 1 : 2;
        if (at != MAP_FAILED)
            (void)munmap(at, size);
        (void)joblot__os_close(fd);
        atomic_store_explicit(&known, works, memory_order_relaxed);
    }
    return works == 1;
}

int joblot__os_reset_private(int fd, uint64_t offset, void *at, size_t size)
{
    int rc = joblot__os_forbidden("pagemap");
    int pagemap = rc != 0 ? -1 : open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap >= 0) {
        rc = pagemap_works(pagemap) ? drop_by_pagemap(pagemap, at, size) : -ENOTSUP;
        (void)joblot__os_close(pagemap);
        if (rc == 0)
            return 0;
    }
    return mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED ? -errno : 0;
}
