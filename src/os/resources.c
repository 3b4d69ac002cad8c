/* os/resources.c - how many processors and how much memory this process may use. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, TEXT_SIZE = 16384 };

static int affinity_count(void)
{
    for (int n = 1024; n <= 1 << 17; n *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)n);
        if (set == NULL)
            return 0;
        size_t size = CPU_ALLOC_SIZE((size_t)n);
        int rc = sched_getaffinity(0, size, set);
        int count = rc == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (rc == 0 || errno != EINVAL)
            return count;
    }
    return 0;
}

/* A number in a file below root; `missing` when there is none ("max", no file, no number). */
static int64_t number_in(const char *root, const char *folder, const char *name, int64_t missing)
{
    char path[PATH_SIZE], text[128];
    int n = snprintf(path, sizeof path, "%s%s/%s", root, folder, name);
    if (n < 0 || (size_t)n >= sizeof path || joblot__os_read_text(path, text, sizeof text) <= 0)
        return missing;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    return end == text || errno != 0 ? missing : (int64_t)value;
}

/* Calls visit(folder) for our cgroup of one controller and each one above it, innermost first.  controller "" is v2. */
static void each_cgroup(const char *root, const char *controller, void (*visit)(const char *, const char *, void *),
                        void *context)
{
    char path[PATH_SIZE], text[TEXT_SIZE];
    (void)snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (joblot__os_read_text(path, text, sizeof text) <= 0)
        return;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        char *names = strchr(line, ':');
        char *group = names != NULL ? strchr(names + 1, ':') : NULL;
        if (group == NULL)
            continue;
        *group++ = '\0';
        names++;
        char list[256], wanted[64];
        (void)snprintf(list, sizeof list, ",%s,", names);
        (void)snprintf(wanted, sizeof wanted, ",%s,", controller);
        if (controller[0] == '\0' ? names[0] != '\0' : strstr(list, wanted) == NULL)
            continue;
        char folder[PATH_SIZE];
        const char *mount = controller[0] == '\0' ? "/sys/fs/cgroup" : "/sys/fs/cgroup/";
        int base = snprintf(folder, sizeof folder, "%s%s", mount, controller[0] ? names : "");
        if (base < 0 || (size_t)base + strlen(group) >= sizeof folder)
            continue;
        memcpy(folder + base, group, strlen(group) + 1);
        for (;;) {
            size_t length = strlen(folder);
            while (length > (size_t)base && folder[length - 1] == '/')
                folder[--length] = '\0';
            visit(root, folder, context);
            if (length <= (size_t)base)
                break;
            *strrchr(folder, '/') = '\0';
        }
        /* inside a container the path may be the host's: the mount itself is then our group */
        visit(root, folder, context);
    }
}

static void take_quota(int64_t quota, int64_t period, void *context)
{
    int *cpus = context;
    if (quota > 0 && period > 0) {
        int64_t n = (quota + period - 1) / period;
        if (n < *cpus)
            *cpus = (int)n;
    }
}

static void cpu_v1(const char *root, const char *folder, void *context)
{
    take_quota(number_in(root, folder, "cpu.cfs_quota_us", -1), number_in(root, folder, "cpu.cfs_period_us", 0),
               context);
}

static void cpu_v2(const char *root, const char *folder, void *context)
{
    char path[PATH_SIZE], text[128];
    long long quota, period;
    int n = snprintf(path, sizeof path, "%s%s/cpu.max", root, folder);
    if (n > 0 && (size_t)n < sizeof path && joblot__os_read_text(path, text, sizeof text) > 0 &&
        sscanf(text, "%lld %lld", &quota, &period) == 2)
        take_quota(quota, period, context);
}

int joblot__os_cpu_count(const char *root)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int cpus = online > 0 ? (int)online : 1;
    int allowed = affinity_count();
    if (allowed > 0 && allowed < cpus)
        cpus = allowed;
    each_cgroup(root, "cpu", cpu_v1, &cpus);
    each_cgroup(root, "", cpu_v2, &cpus);
    const char *loky = getenv("LOKY_MAX_CPU_COUNT");
    if (loky != NULL) {
        char *end;
        long most = strtol(loky, &end, 10);
        if (end != loky && most < cpus)
            cpus = (int)most;
    }
    return cpus < 1 ? 1 : cpus;
}

static void take_room(int64_t limit, int64_t used, int64_t cache, void *context)
{
    int64_t *room = context;
    if (limit < 0 || limit >= INT64_MAX / 4096 * 4096 / 2 || used < 0) /* v1 writes "no limit" as a huge number */
        return;
    int64_t left = limit - used + (cache > 0 ? cache : 0);
    if (left < 0)
        left = 0;
    if (left < *room)
        *room = left;
}

/* File pages that the kernel would give up first: they count as used and are not. */
static int64_t inactive_file(const char *root, const char *folder, const char *key)
{
    char path[PATH_SIZE], text[TEXT_SIZE];
    int n = snprintf(path, sizeof path, "%s%s/memory.stat", root, folder);
    if (n < 0 || (size_t)n >= sizeof path || joblot__os_read_text(path, text, sizeof text) <= 0)
        return 0;
    size_t length = strlen(key);
    for (const char *at = text; at != NULL; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, key, length) == 0 && at[length] == ' ')
            return (int64_t)strtoll(at + length, NULL, 10);
        if (*at == '\0')
            break;
    }
    return 0;
}

static void memory_v1(const char *root, const char *folder, void *context)
{
    take_room(number_in(root, folder, "memory.limit_in_bytes", -1), number_in(root, folder, "memory.usage_in_bytes", -1),
              inactive_file(root, folder, "total_inactive_file"), context);
}

static void memory_v2(const char *root, const char *folder, void *context)
{
    take_room(number_in(root, folder, "memory.max", -1), number_in(root, folder, "memory.current", -1),
              inactive_file(root, folder, "inactive_file"), context);
}

int64_t joblot__os_memory_available(const char *root)
{
    char path[PATH_SIZE], text[TEXT_SIZE];
    int64_t room = INT64_MAX;
    (void)snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (joblot__os_read_text(path, text, sizeof text) > 0) {
        const char *at = strstr(text, "MemAvailable:");
        if (at != NULL)
            room = (int64_t)strtoll(at + strlen("MemAvailable:"), NULL, 10) * 1024;
    }
    each_cgroup(root, "memory", memory_v1, &room);
    each_cgroup(root, "", memory_v2, &room);
    return room;
}

/* The number behind `key` and a blank or colon at the start of a line; -1 where there is none. */
static int64_t number_of(const char *text, const char *key)
{
    size_t length = strlen(key);
    for (const char *at = text; at != NULL && *at != '\0'; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, key, length) == 0 && (at[length] == ' ' || at[length] == ':'))
            return (int64_t)strtoll(at + length + 1, NULL, 10);
    }
    return -1;
}

int64_t joblot__os_private_memory(int pid)
{
    char path[64], text[TEXT_SIZE];
    if (pid > 0)
        (void)snprintf(path, sizeof path, "/proc/%d/status", pid);
    else
        (void)snprintf(path, sizeof path, "/proc/self/status");
    int rc = -joblot__os_forbidden("status");
    if (rc == 0)
        rc = joblot__os_read_text(path, text, sizeof text);
    if (rc < 0)
        return rc;
    int64_t anonymous = number_of(text, "RssAnon"), swapped = number_of(text, "VmSwap");
    if (anonymous < 0) /* of a process that has ended there is no such line */
        return -ENODATA;
    return (anonymous + (swapped > 0 ? swapped : 0)) * 1024;
}

/* Of the innermost group that has the counter, since those above count the processes of others. */
static void oom_kills_in(const char *root, const char *folder, const char *name, int64_t *kills)
{
    char path[PATH_SIZE], text[TEXT_SIZE];
    int n = snprintf(path, sizeof path, "%s%s/%s", root, folder, name);
    if (*kills < 0 && n > 0 && (size_t)n < sizeof path && joblot__os_read_text(path, text, sizeof text) > 0)
        *kills = number_of(text, "oom_kill");
}

static void oom_kills_v1(const char *root, const char *folder, void *context)
{
    oom_kills_in(root, folder, "memory.oom_control", context);
}

static void oom_kills_v2(const char *root, const char *folder, void *context)
{
    oom_kills_in(root, folder, "memory.events", context);
}

int64_t joblot__os_oom_kills(const char *root)
{
    int64_t kills = -1;
    each_cgroup(root, "memory", oom_kills_v1, &kills);
    if (kills < 0)
        each_cgroup(root, "", oom_kills_v2, &kills);
    if (kills < 0)
        oom_kills_in(root, "", "proc/vmstat", &kills);
    return kills;
}
