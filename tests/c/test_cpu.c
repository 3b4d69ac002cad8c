/* test_cpu.c - processors and memory that this process may use, on trees of files as cgroups v1 and v2 show them. */
#define _GNU_SOURCE
#include "os/os.h"

#include "support/cases.h"

#include <joblot/pool.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int cpus(void) { return joblot__os_cpu_count(scratch_folder()); }

static int64_t memory(void) { return joblot__os_memory_available(scratch_folder()); }

static void put(const char *path, const char *text) { write_file(scratch_folder(), path, text); }

static int online(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }

static void set_up(const char *cgroup)
{
    CHECK(unsetenv("LOKY_MAX_CPU_COUNT") == 0);
    if (online() < 2)
        skip_case("one processor: a quota below it cannot be told apart");
    put("proc/meminfo", "MemTotal:       1000000 kB\nMemFree:          50000 kB\nMemAvailable:     400000 kB\n");
    put("proc/self/cgroup", cgroup);
}

static void nothing_there(void)
{
    CHECK(unsetenv("LOKY_MAX_CPU_COUNT") == 0);
    CHECK_EQUAL(joblot__os_cpu_count("/nowhere"), online());
    CHECK_EQUAL(joblot__os_memory_available("/nowhere"), INT64_MAX);
    CHECK(joblot_cpu_count() >= 1 && joblot_cpu_count() <= online());
    CHECK(joblot__os_memory_available("") > 0);
}

static void v2_quota(void)
{
    set_up("0::/a/b\n");
    CHECK_EQUAL(cpus(), online());
    put("sys/fs/cgroup/a/b/cpu.max", "100000 100000\n");
    CHECK_EQUAL(cpus(), 1);
    put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    CHECK_EQUAL(cpus(), online());
    put("sys/fs/cgroup/a/cpu.max", "50000 100000\n"); /* above us, rounded up */
    CHECK_EQUAL(cpus(), 1);
    put("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
    CHECK_EQUAL(cpus(), online() < 2 ? online() : 2);
    put("sys/fs/cgroup/cpu.max", "10000 100000\n"); /* the mount itself: a container's view */
    CHECK_EQUAL(cpus(), 1);
    put("sys/fs/cgroup/cpu.max", "rubbish\n");
    CHECK_EQUAL(cpus(), 2);
}

static void v2_group_of_the_host(void)
{
    set_up("0::/docker/0123456789\n"); /* a path that is not there inside the container */
    put("sys/fs/cgroup/cpu.max", "100000 100000\n");
    put("sys/fs/cgroup/memory.max", "104857600\n");
    put("sys/fs/cgroup/memory.current", "4857600\n");
    CHECK_EQUAL(cpus(), 1);
    CHECK_EQUAL(memory(), 100000000);
}

static int64_t oom(void) { return joblot__os_oom_kills(scratch_folder()); }

static void oom_kills(void)
{
    CHECK_EQUAL(oom(), -1);
    put("proc/vmstat", "nr_free_pages 5\noom_killer 4\noom_kill 9\nswap_ra 0\n"); /* the last resort */
    CHECK_EQUAL(oom(), 9);
    put("proc/self/cgroup", "0::/a/b\n");
    CHECK_EQUAL(oom(), 9);
    put("sys/fs/cgroup/a/memory.events", "low 0\nhigh 0\nmax 3\noom 3\noom_kill 2\noom_group_kill 0\n");
    CHECK_EQUAL(oom(), 2);
    put("sys/fs/cgroup/a/b/memory.events", "low 0\nhigh 0\nmax 3\noom 3\noom_kill 0\n"); /* ours counts before it */
    CHECK_EQUAL(oom(), 0);
    put("sys/fs/cgroup/a/b/memory.events", "oom_kill 7");
    CHECK_EQUAL(oom(), 7);
    put("sys/fs/cgroup/a/b/memory.events", "low 0\nhigh 0\n"); /* an old kernel */
    CHECK_EQUAL(oom(), 2);
    put("proc/self/cgroup", "4:cpu:/c\n3:memory:/m/n\n0::/\n");
    CHECK_EQUAL(oom(), 9);
    put("sys/fs/cgroup/memory/m/n/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
    CHECK_EQUAL(oom(), 5);
    put("sys/fs/cgroup/memory.events", "oom_kill 6\n");
    CHECK_EQUAL(oom(), 5);
    CHECK(joblot__os_oom_kills("") >= -1);
    CHECK_EQUAL(joblot__os_oom_kills("/nowhere"), -1);
}

static void private_memory(void)
{
    enum { SIZE = 64 << 20 };
    skip_under_tsan("its own memory counts as well");
    int64_t before = joblot__os_private_memory(0);
    CHECK(before > 0);
    char *block = malloc(SIZE);
    CHECK(block != NULL);
    memset(block, 1, SIZE);
    int64_t after = joblot__os_private_memory(getpid());
    CHECK(block[SIZE / 2] == 1 && after - before > SIZE - (4 << 20) && after - before < SIZE + (64 << 20));
    free(block);
    void *shared;
    int fd = joblot__os_memfd("test", SIZE);
    CHECK(fd >= 0 && joblot__os_map(fd, 0, SIZE, JOBLOT__MAP_WRITE, &shared) == 0);
    before = joblot__os_private_memory(0);
    memset(shared, 1, SIZE);
    after = joblot__os_private_memory(0);
    CHECK(after - before < SIZE / 4); /* shared memory is nobody's alone */
    CHECK(joblot__os_unmap(shared, SIZE) == 0);
    CHECK(joblot__os_close(fd) == 0);
    CHECK_EQUAL(joblot__os_private_memory(0x7ffffff0), -ENOENT);
    joblot__os_forbid("status", EACCES);
    CHECK_EQUAL(joblot__os_private_memory(0), -EACCES);
}

static void v1_quota(void)
{
    set_up("12:pids:/x\n4:cpu,cpuacct:/a/b\n3:memory:/m\n1:name=systemd:/z\n0::/\n");
    CHECK_EQUAL(cpus(), online());
    put("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
    CHECK_EQUAL(cpus(), online());
    put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "100000\n");
    put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    CHECK_EQUAL(cpus(), 1);
    put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "0\n");
    CHECK_EQUAL(cpus(), online());
}

static void loky_and_affinity(void)
{
    cpu_set_t one;
    set_up("0::/\n");
    CHECK(setenv("LOKY_MAX_CPU_COUNT", "1", 1) == 0);
    CHECK_EQUAL(cpus(), 1);
    CHECK(setenv("LOKY_MAX_CPU_COUNT", "1000", 1) == 0);
    CHECK_EQUAL(cpus(), online());
    CHECK(setenv("LOKY_MAX_CPU_COUNT", "0", 1) == 0);
    CHECK_EQUAL(cpus(), 1);
    CHECK(setenv("LOKY_MAX_CPU_COUNT", "many", 1) == 0);
    CHECK_EQUAL(cpus(), online());
    CHECK(unsetenv("LOKY_MAX_CPU_COUNT") == 0);
    CHECK(sched_getaffinity(0, sizeof one, &one) == 0);
    int first = 0;
    while (!CPU_ISSET(first, &one))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    CHECK_EQUAL(cpus(), 1);
}

static void memory_of_the_machine_and_of_groups(void)
{
    set_up("5:memory:/m/n\n0::/q\n");
    CHECK_EQUAL(memory(), 400000 * 1024);
    put("sys/fs/cgroup/memory/m/n/memory.limit_in_bytes", "9223372036854771712\n"); /* v1's way to say none */
    put("sys/fs/cgroup/memory/m/n/memory.usage_in_bytes", "1000\n");
    CHECK_EQUAL(memory(), 400000 * 1024);
    put("sys/fs/cgroup/memory/m/memory.limit_in_bytes", "300000000\n");
    put("sys/fs/cgroup/memory/m/memory.usage_in_bytes", "100000000\n");
    CHECK_EQUAL(memory(), 200000000);
    put("sys/fs/cgroup/memory/m/memory.stat", "cache 5\ntotal_inactive_file 50000000\ninactive_file 7\n");
    CHECK_EQUAL(memory(), 250000000);
    put("sys/fs/cgroup/q/memory.max", "max\n");
    put("sys/fs/cgroup/q/memory.current", "5\n");
    CHECK_EQUAL(memory(), 250000000);
    put("sys/fs/cgroup/q/memory.max", "1000000\n");
    put("sys/fs/cgroup/q/memory.current", "900000\n");
    put("sys/fs/cgroup/q/memory.stat", "anon 1\nfile 1\ninactive_file 50000\n");
    CHECK_EQUAL(memory(), 150000);
    put("sys/fs/cgroup/q/memory.current", "2000000\n"); /* over its limit: nothing is left, not less */
    CHECK_EQUAL(memory(), 0);
}

static const struct test_case cases[] = {
    {"nothing_there", nothing_there, 10},
    {"v2_quota", v2_quota, 10},
    {"v2_group_of_the_host", v2_group_of_the_host, 10},
    {"oom_kills", oom_kills, 10},
    {"private_memory", private_memory, 20},
    {"v1_quota", v1_quota, 10},
    {"loky_and_affinity", loky_and_affinity, 10},
    {"memory_of_the_machine_and_of_groups", memory_of_the_machine_and_of_groups, 10},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
