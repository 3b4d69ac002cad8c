"""A C user's way: install, ask pkg-config, compile an example against the installed headers, run it."""
import os
import re

import pytest

from . import tree

EXAMPLES = sorted((tree.ROOT / "examples" / "c").glob("*.c"))


@pytest.fixture(scope="module")
def installed(build_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    tree.meson("install", "-C", build_dir, "--no-rebuild", "--quiet", "--destdir", root)
    folders = [str(p.parent) for p in root.rglob("joblot.pc")]
    assert len(folders) == 1
    environment = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": str(root), "PKG_CONFIG_LIBDIR": folders[0]}
    flags = tree.run("pkg-config", "--cflags", "--libs", "joblot", env=environment).split()
    library = next(root.rglob("libjoblot.so")).parent
    return root, flags, library


def test_a_program_finds_version_and_headers(installed, tmp_path):
    root, flags, library = installed
    (tmp_path / "p.c").write_text(
        '#include <joblot/joblot.h>\n#include <stdio.h>\nint main(void) { return puts(joblot_version()) < 0; }\n'
    )
    tree.run("cc", "-std=c11", tmp_path / "p.c", "-o", tmp_path / "p", *flags)
    version = tree.run(tmp_path / "p", env={**os.environ, "LD_LIBRARY_PATH": str(library)}).strip()
    assert version in (root / library / "pkgconfig" / "joblot.pc").read_text()


def test_no_internal_header_is_installed(installed):
    root, _, _ = installed
    headers = {p.name for p in root.rglob("*.h")}
    assert headers == {p.name for p in (tree.ROOT / "include" / "joblot").glob("*.h")}


def compile_and_run(source, installed, tmp_path):
    _, flags, library = installed
    program = tmp_path / source.stem
    tree.run("cc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", source, "-o", program, *flags)
    return tree.run(program, env={**os.environ, "LD_LIBRARY_PATH": str(library)}, timeout=60)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_runs(installed, example, tmp_path):
    assert compile_and_run(example, installed, tmp_path)


def test_the_big_endian_example_survives_a_kill(installed, tmp_path):
    out = compile_and_run(tree.ROOT / "examples" / "c" / "be_array.c", installed, tmp_path)
    assert len(re.findall(r"^[xyz] .* equal$", out, re.M)) == 3
    assert re.search(r"^worker [1-9]\d* was killed with SIGKILL while it ran task 10;", out, re.M)
    assert "DIFFERENT" not in out


def test_the_example_of_the_readme_runs(installed, tmp_path):
    (block,) = re.findall(r"^```c\n(.*?)^```$", (tree.ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    (tmp_path / "squares.c").write_text(block, encoding="utf-8")
    lines = compile_and_run(tmp_path / "squares.c", installed, tmp_path).splitlines()
    assert sorted(lines) == [f"task {i}: {i * i}" for i in range(5)]
