import os
import pathlib

import pytest

from . import tree


@pytest.fixture(scope="session")
def build_dir(tmp_path_factory):
    """A build of the C library: the Makefile's (JOBLOT_BUILD_DIR), or one made here."""
    given = os.environ.get("JOBLOT_BUILD_DIR")
    if given:
        path = pathlib.Path(given)
        assert (path / "build.ninja").exists(), f"JOBLOT_BUILD_DIR={given} is no Meson build folder"
    else:
        path = tmp_path_factory.mktemp("build-c")
        tree.meson("setup", path, tree.ROOT, "-Dpython=disabled")
    tree.meson("compile", "-C", path)
    return path
