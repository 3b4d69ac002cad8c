"""The C code compiles where only a compiler is, its headers stand alone, and its names stay in its name space."""
import concurrent.futures
import os
import re

import pytest

from . import tree

HEADERS = sorted((tree.ROOT / "include" / "joblot").glob("*.h"))
SOURCES = sorted((tree.ROOT / "src").glob("*/*.c"))
CC = os.environ.get("CC", "cc")
CXX = os.environ.get("CXX", "c++")
STRICT = ("-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{tree.ROOT / 'include'}", "-c")


@pytest.mark.parametrize("header", HEADERS, ids=lambda p: p.name)
@pytest.mark.parametrize(
    ("compiler", "standard", "suffix"),
    [(CC, "c11", ".c"), (CXX, "c++11", ".cpp"), (CXX, "c++20", ".cpp")],
    ids=["c11", "c++11", "c++20"],
)
def test_a_public_header_stands_alone(header, compiler, standard, suffix, tmp_path):
    text = f"#include <joblot/{header.name}>\n" * 2 + "extern int joblot_test_unit;\n"
    (tmp_path / f"unit{suffix}").write_text(text)
    tree.run(compiler, f"-std={standard}", *STRICT, f"unit{suffix}", cwd=tmp_path)


def test_joblot_h_includes_every_public_header():
    text = (tree.ROOT / "include" / "joblot" / "joblot.h").read_text()
    assert sorted(re.findall(r"#include <joblot/(\w+\.h)>", text)) == [
        p.name for p in HEADERS if p.name != "joblot.h"
    ]


def test_the_sources_compile_with_no_flags(tmp_path):
    """`cc -std=c11 -Iinclude -c src/*/*.c`: one object per file here, since names may repeat between folders."""

    def compile_one(numbered):
        number, source = numbered
        tree.run(CC, "-std=c11", "-Iinclude", "-c", source, "-o", tmp_path / f"{number}.o", cwd=tree.ROOT)

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        done = list(threads.map(compile_one, enumerate(SOURCES)))
    assert len(done) == len(SOURCES) > 0


def symbols(*arguments):
    """(object file, type, name) of every symbol that nm names."""
    found, member = [], ""
    for line in tree.run("nm", *arguments).splitlines():
        if line.endswith(":"):
            member = line[:-1]
        elif line.strip():
            kind, name = line.split()[-2:]
            found.append((member, kind, name))
    return found


def test_the_shared_library_shows_public_names_only(build_dir):
    names = {name for _, _, name in symbols("-D", "--defined-only", build_dir / "src" / "libjoblot.so")}
    assert "joblot_version" in names
    assert sorted(n for n in names if not n.startswith("joblot_") or n.startswith("joblot__")) == []


def test_every_public_function_is_in_the_shared_library(build_dir):
    """What a header declares with JOBLOT_API is there: a name only declared would fail in the user's linker."""
    declared = set()
    for header in HEADERS:
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        declared |= set(re.findall(r"JOBLOT_API\b[^;{(]*?\b(joblot_\w+)\s*\(", text))
    names = {name for _, _, name in symbols("-D", "--defined-only", build_dir / "src" / "libjoblot.so")}
    assert "joblot_version" in declared
    assert sorted(declared - names) == []
    assert sorted(names - declared) == []


def test_the_static_library_keeps_to_its_name_space(build_dir):
    names = {name for _, _, name in symbols("-g", "--defined-only", build_dir / "src" / "libjoblot.a")}
    assert "joblot__malloc" in names
    assert sorted(n for n in names if not n.startswith("joblot_")) == []


# Calls that reach the kernel.  The list is of what an engine like this one could be tempted by.
SYSTEM_CALLS = set(
    "open openat creat close read write pread pwrite readv writev lseek ftruncate fallocate fcntl ioctl dup dup2 dup3 "
    "pipe pipe2 unlink unlinkat link linkat rename renameat mkdir stat fstat lstat fstatat access opendir readdir "
    "mmap munmap mremap mprotect madvise msync memfd_create shm_open fork vfork clone execv execve execvp execvpe "
    "posix_spawn posix_spawnp waitpid waitid wait4 kill tgkill killpg getpid getppid setpgid setsid prctl poll ppoll "
    "select pselect epoll_create1 epoll_ctl epoll_wait eventfd signalfd timerfd_create socket socketpair bind listen "
    "accept accept4 connect send recv sendto recvfrom sendmsg recvmsg shutdown signal sigaction sigprocmask "
    "clock_gettime gettimeofday time nanosleep clock_nanosleep usleep sleep sched_yield sched_getaffinity sysconf "
    "getrlimit setrlimit process_vm_readv process_vm_writev syscall pidfd_open pidfd_send_signal fopen fdopen popen "
    "system _exit exit abort getpagesize flock lockf".split()
)
ALLOCATION = {"malloc", "calloc", "realloc", "reallocarray", "free", "strdup", "strndup", "asprintf", "vasprintf"}


def test_system_calls_sit_in_os_and_allocation_in_alloc(build_dir):
    """Looks at what each object file asks the C library for, so a call without a header is seen as well."""
    wrong = []
    for member, _, name in symbols("-u", build_dir / "src" / "libjoblot.a"):
        name = name.removesuffix("64").split("@")[0]
        if (name in SYSTEM_CALLS or name.startswith("pthread_")) and not member.startswith("os_"):
            wrong.append(f"{member}: calls {name}, and is not in src/os")
        if name in ALLOCATION and member != "base_alloc.c.o":
            wrong.append(f"{member}: calls {name} instead of src/base/alloc.h")
    assert wrong == []
