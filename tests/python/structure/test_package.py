"""One version everywhere, every file in the build's lists, and nothing but the package in the wheel."""
import importlib.metadata
import os
import re
import sysconfig

import joblot

from . import tree
from .test_c_code import symbols


def version_of_base_h():
    text = (tree.ROOT / "include" / "joblot" / "base.h").read_text()
    return re.search(r'^#define JOBLOT_VERSION "(.*)"$', text, re.M).group(1)


def test_one_version(build_dir):
    version = version_of_base_h()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert joblot.__version__ == version
    assert importlib.metadata.version("joblot") == version
    pc = (build_dir / "meson-private" / "joblot.pc").read_text()
    assert f"\nVersion: {version}\n" in pc
    assert re.search(rf"^## {re.escape(version)}\b", (tree.ROOT / "CHANGELOG.md").read_text(), re.M)


def listed(meson_build, pattern):
    text = (tree.ROOT / meson_build).read_text()
    found = re.findall(rf"^\s*'({pattern})',", text, re.M)
    assert len(found) == len(set(found)), f"{meson_build} names a file twice"
    return set(found)


def in_folder(folder, *patterns):
    base = tree.ROOT / folder
    return {str(p.relative_to(base)) for pattern in patterns for p in base.glob(pattern)}


def test_every_file_is_in_the_lists():
    """Meson's lists are written out, so a file can be forgotten: then it is neither built nor installed."""
    assert listed("src/meson.build", r"[\w/]+\.c") == in_folder("src", "[!c]*/*.c", "c[!l]*/*.c")
    assert listed("include/joblot/meson.build", r"\w+\.h") == in_folder("include/joblot", "*.h")
    assert listed("python/meson.build", r"_core/\w+\.c") == in_folder("python", "_core/*.c")
    assert listed("python/meson.build", r"joblot/[\w/]+\.(?:py|pyi|typed)") == in_folder(
        "python", "joblot/*.py", "joblot/*.pyi", "joblot/py.typed"
    )
    programs = {f"{name}.c" for name in listed("examples/c/meson.build", r"\w+")}
    assert programs == in_folder("examples/c", "*.c")
    text = (tree.ROOT / "tests/c/meson.build").read_text()
    tests = {f"test_{name}.c" for name in re.findall(r"^  '(\w+)': \[", text, re.M)}
    assert tests == in_folder("tests/c", "test_*.c")
    text = (tree.ROOT / "tests/fuzz/meson.build").read_text()
    targets = {f"fuzz_{name}.c" for name in listed("tests/fuzz/meson.build", r"\w+")}
    assert targets == in_folder("tests/fuzz", "fuzz_*.c")


def test_the_wheel_holds_the_package_alone():
    files = [str(p) for p in importlib.metadata.files("joblot")]
    # Compiled files and dist-info's own records come with any installation.
    files = [f for f in files if "__pycache__" not in f]
    version = version_of_base_h()
    assert [f for f in files if not f.startswith(("joblot/", f"joblot-{version}.dist-info/"))] == []
    core = "joblot/_core" + sysconfig.get_config_var("EXT_SUFFIX")
    package = {f for f in files if f.startswith("joblot/")}
    assert package == in_folder("python", "joblot/*.py", "joblot/*.pyi", "joblot/py.typed") | {core}


def test_the_tests_run_on_the_installed_package():
    """Not on the checkout, whose python/joblot has no extension module."""
    assert not os.path.realpath(joblot.__file__).startswith(str(tree.ROOT / "python"))


def test_the_extension_exports_its_init_function_only():
    from joblot import _core

    assert {name for _, _, name in symbols("-D", "--defined-only", _core.__file__)} == {"PyInit__core"}
