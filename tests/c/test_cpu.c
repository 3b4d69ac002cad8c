/* test_cpu.c - processors and memory that this process may use, on trees of files as cgroups v1 and v2 show them. */
#define _GNU_SOURCE
#include "os/os.h"

#include "support/cases.h"

#include <joblot/pool.h>

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
    {"v1_quota", v1_quota, 10},
    {"loky_and_affinity", loky_and_affinity, 10},
    {"memory_of_the_machine_and_of_groups", memory_of_the_machine_and_of_groups, 10},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
