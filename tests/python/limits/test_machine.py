"""What the machine may lack: /proc, another process's memory, room in the temp folder, mappings, memory."""

import pytest
from kill.programs import FORBID, run

from .places import as_nobody, memory_group, open_folder, with_mounts

WORK = """
        import numpy

        def work(i, array):
            array += i  # in place: byte order stays, and the worker writes to its mapping
            return array

        def call(n=40, size=400_000, n_jobs=2, **settings):
            tasks = (delayed(work)(i, numpy.arange(size, dtype=">i4")) for i in range(n))
            results = Parallel(n_jobs=n_jobs, **settings)(tasks)
            assert len(results) == n
            for i, result in enumerate(results):
                assert result.dtype.str == ">i4" and numpy.array_equal(result, numpy.arange(i, i + size))
"""


def test_memory_of_others_cannot_be_read(tmp_path):
    """process_vm_readv is EPERM: large answers come through a segment."""
    run(
        FORBID + WORK + """
        forbid("process_vm_readv")
        for _ in range(2):
            call()
            call(n=4, size=8_000_000)
        assert Parallel(n_jobs=2)([delayed(bytes)(3_000_000)] * 50) == [bytes(3_000_000)] * 50
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("name", ["memfd_create", "pidfd_open"])
def test_what_the_engine_cannot_do_without(tmp_path, name):
    run(
        FORBID + f"""
        forbid("{name}", 38)  # ENOSYS
        try:
            raise AssertionError(Parallel(n_jobs=2)([delayed(abs)(-1)] * 3))
        except OSError as error:
            assert error.errno == 38, error
            print(error)
        print("fine")
        """,
        tmp_path,
    )


def test_no_proc(tmp_path):
    prefix = with_mounts("mount -t tmpfs none /proc")
    run(
        WORK + """
        import warnings

        assert os.listdir("/proc") == []
        with warnings.catch_warnings(record=True) as said:
            for _ in range(2):
                call()
        assert len(said) == 1 and "cannot count its threads" in str(said[0].message), said
        try:
            Parallel(n_jobs=2)([delayed(os._exit)(3)])
        except WorkerDied as error:
            assert error.exit_code == 3, vars(error)
        call()
        print("fine")
        """,
        tmp_path,
        prefix=prefix,
    )


def test_a_temp_folder_of_8_mb(tmp_path):
    """Arrays that fit are right, one that does not is an error that names size, room and remedy; nothing stays."""
    folder = tmp_path / "small"
    folder.mkdir()
    run(
        WORK + f"""
        folder = {str(folder)!r}

        def used():
            info = os.statvfs(folder)
            return info.f_blocks - info.f_bfree, os.listdir(folder)

        def is_empty():  # once idle workers have heard that they are to forget
            end = time.monotonic() + 10
            while used() != before and time.monotonic() < end:
                time.sleep(0.01)
            return used() == before

        before = used()
        for _ in range(2):
            call(temp_folder=folder, n=100)
            assert is_empty(), used()
            try:
                raise AssertionError(call(temp_folder=folder, n=3, size=4_000_000))
            except MemoryError as error:
                assert "16000000 bytes" in str(error) and folder in str(error) and "temp_folder" in str(error), error
            assert is_empty(), used()
        print("fine")
        """,
        tmp_path,
        prefix=with_mounts(f"mount -t tmpfs -o size=8m none {folder}"),
    )


def test_65000_mappings_are_taken(tmp_path):
    """vm.max_map_count is 65,530 as a rule: the program has nearly all of them, and gives them back."""
    run(
        WORK + """
        import mmap

        libc = __import__("ctypes").CDLL(None)

        def fill(n):
            # Every other page has another protection, so that the kernel cannot join them.
            import ctypes
            most = int(open("/proc/sys/vm/max_map_count").read())
            area = mmap.mmap(-1, 4096 * most)
            at = ctypes.addressof(ctypes.c_char.from_buffer(area))
            left = most - n - sum(1 for _ in open("/proc/self/maps"))
            for page in range(0, left - 1, 2):
                assert libc.mprotect(ctypes.c_void_p(at + page * 4096), 4096, 1) == 0
            return area

        if int(open("/proc/sys/vm/max_map_count").read()) > 200_000:
            print("too many")
        outcomes = set()
        for left in (400, 60, 20, 8, 3, 0):
            area = fill(left)
            try:
                call(n=40)
            except (MemoryError, OSError) as error:
                assert getattr(error, "errno", 12) in (12, None), error
                outcomes.add("error")
            else:
                outcomes.add("right")
            del area
            from joblot import _processes
            _processes.shutdown()
        assert "right" in outcomes
        call(n=40)
        print("fine")
        """,
        tmp_path,
    )


def test_a_task_that_uses_up_the_memory_of_its_control_group(tmp_path):
    with memory_group(300 << 20) as prefix:
        run(
            WORK + """
            def eat():
                kept = [bytearray(b"x") * (10 << 20) for _ in range(100)]

            call(n=4)
            try:
                raise AssertionError(Parallel(n_jobs=2)([delayed(abs)(-1), delayed(eat)()]))
            except WorkerDied as error:
                assert (error.task, error.signal, error.oom_likely) == (1, 9, True), vars(error)
            call(n=40)
            print("fine")
            """.replace("\n            ", "\n        "),
            tmp_path,
            prefix=prefix,
        )


def test_arrays_larger_than_a_control_group_has_room_for(tmp_path):
    """They lie in a file of the temp folder, which is on disk."""
    with memory_group(400 << 20) as prefix:
        run(
            WORK + """
            array = numpy.zeros(60 << 20, dtype=">u1")
            for _ in range(3):
                sizes = Parallel(n_jobs=2)([delayed(numpy.count_nonzero)(array[: 58 << 20]) for _ in range(4)])
                assert sizes == [0] * 4
            print("fine")
            """.replace("\n            ", "\n        "),
            tmp_path,
            prefix=prefix,
        )


def test_an_ordinary_user(tmp_path):
    with open_folder() as folder:
        run(WORK + "        call()\n        assert os.getuid() == 65534\n        print('fine')\n", folder,
            prefix=as_nobody(folder))  # fmt: skip


def test_workers_whose_memory_is_closed_to_their_own_user(tmp_path):
    """A task has made its process undumpable: a real EPERM, from then on."""
    with open_folder() as folder:
        run(
            WORK + """
        import ctypes

        def close_it(i):
            assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0  # PR_SET_DUMPABLE
            return i

        call()
        assert Parallel(n_jobs=2)([delayed(close_it)(i) for i in range(50)]) == list(range(50))
        call()
        call(n=4, size=8_000_000)
        print("fine")
        """,
            folder,
            prefix=as_nobody(folder),
        )


@pytest.mark.parametrize("n_more", [0, 1, 2, 3, 6])
def test_ulimit_u(tmp_path, n_more):
    """As many workers as may be had; with none, or no server, an error that says so."""
    with open_folder() as folder:
        run(
            WORK + f"""
        import resource

        def processes():  # of this user, threads as well
            found = 0
            for name in os.listdir("/proc"):
                try:
                    if name.isdigit() and os.stat(f"/proc/{{name}}").st_uid == os.getuid():
                        found += len(os.listdir(f"/proc/{{name}}/task"))
                except OSError:
                    pass
            return found

        most = processes() + {n_more}
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        try:
            call(n_jobs=8)
            outcome = "right"
        except (OSError, WorkerDied) as error:
            outcome = str(error)
        if {n_more} == 0:
            assert "starting" in outcome or "server" in outcome, outcome
        elif {n_more} == 1:
            assert "RLIMIT_NPROC" in outcome, outcome
        else:
            assert outcome == "right", outcome
        print("fine")
        """,
            folder,
            prefix=as_nobody(folder),
        )


@pytest.mark.parametrize("megabytes", [4000, 600])
def test_ulimit_v(tmp_path, megabytes):
    run(
        WORK + f"""
        import resource

        resource.setrlimit(resource.RLIMIT_AS, ({megabytes} << 20, {megabytes} << 20))
        for _ in range(3):
            call()
        print("fine")
        """,
        tmp_path,
        environ={"OPENBLAS_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("megabytes", [1, 4, 16, 40, 70, 100])
def test_a_tight_ulimit_v(tmp_path, megabytes):
    """So many MB more than the program has: right, or an error; and once there is room again, all is well."""
    run(
        WORK + f"""
        import resource

        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        hard = resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_AS, (used + ({megabytes} << 20), hard))
        try:
            call()
        except (MemoryError, OSError, WorkerDied) as error:
            text = str(error)
            assert isinstance(error, MemoryError) or len(text) > 20, (type(error), text)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        from joblot import _processes
        _processes.shutdown()
        call()
        sys.stderr.flush()
        print("fine")
        """,
        tmp_path,
        environ={"OPENBLAS_NUM_THREADS": "1"},
    )


def test_all_signals_are_blocked(tmp_path):
    """Workers have an empty mask, whatever the parent's is."""
    run(
        WORK + """
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))

        def mask():
            return len(signal.pthread_sigmask(signal.SIG_BLOCK, []))

        call()
        assert Parallel(n_jobs=2)([delayed(mask)() for _ in range(4)]) == [0] * 4
        try:
            Parallel(n_jobs=2)([delayed(os.kill)(0, signal.SIGKILL) if i == 3 else delayed(abs)(-1) for i in range(9)])
        except WorkerDied as error:
            assert (error.task, error.signal) == (3, 9)
        call()
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize("name", ["SIGCHLD", "SIGPIPE", "SIGTERM"])
def test_a_signal_is_ignored(tmp_path, name):
    run(
        WORK + f"""
        signal.signal(signal.{name}, signal.SIG_IGN)
        call()
        try:
            Parallel(n_jobs=2)([delayed(os._exit)(3)])
        except WorkerDied as error:
            assert error.exit_code == 3, vars(error)
        call()
        print("fine")
        """,
        tmp_path,
    )


def test_no_descriptor_is_left(tmp_path):
    """The program has all of them: an error that says so, and once there are some again, all is well."""
    run(
        WORK + """
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        for spare in (0, 1, 2, 4, 6, 8, 12, 20):
            files = []
            try:
                while True:
                    files.append(open("/dev/null"))
            except OSError:
                del files[len(files) - spare :]
            try:
                call()
            except OSError as error:
                assert error.errno == 24 and spare < 20, error
            del files
            call(n=4)
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize(("name", "value", "text"), [("FSIZE", 100_000, "ulimit -f"), ("NOFILE", 12, "ulimit -n")])
def test_an_error_names_the_limit(tmp_path, name, value, text):
    run(
        WORK + f"""
        import resource

        before = resource.getrlimit(resource.RLIMIT_{name})
        resource.setrlimit(resource.RLIMIT_{name}, ({value}, before[1]))
        for _ in range(2):
            try:
                raise AssertionError(call())
            except OSError as error:
                assert {text!r} in str(error), error
        resource.setrlimit(resource.RLIMIT_{name}, before)
        call()
        print("fine")
        """,
        tmp_path,
    )


@pytest.mark.parametrize(("name", "value"), [("MEMLOCK", 0), ("CORE", 0), ("SIGPENDING", 0), ("NOFILE", 30)])
def test_limits_that_do_not_matter(tmp_path, name, value):
    run(
        WORK + f"""
        import resource

        resource.setrlimit(resource.RLIMIT_{name}, ({value}, {value}))
        call()
        print("fine")
        """,
        tmp_path,
    )


def test_a_large_answer_has_no_room_in_the_temp_folder(tmp_path):
    """Where memory cannot be read it goes through a segment there: an error, and the next call is right."""
    folder = tmp_path / "small"
    folder.mkdir()
    run(
        FORBID + f"""
        import numpy

        forbid("process_vm_readv")
        for _ in range(2):
            try:
                raise AssertionError(Parallel(n_jobs=2, temp_folder={str(folder)!r})(
                    delayed(numpy.full)(n, 3, ">i4") for n in (10, 100_000, 4_000_000, 100_000)))
            except MemoryError as error:
                assert "bytes free" in str(error) and {str(folder)!r} in str(error), error
            results = Parallel(n_jobs=2, temp_folder={str(folder)!r})(
                delayed(numpy.full)(n, 3, ">i4") for n in (10, 100_000, 400_000, 100_000))
            assert [len(result) for result in results] == [10, 100_000, 400_000, 100_000]
        print("fine")
        """,
        tmp_path,
        prefix=with_mounts(f"mount -t tmpfs -o size=8m none {folder}"),
    )
