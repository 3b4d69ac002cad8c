"""No import of python/joblot points up or makes `import joblot` dear; and the checker sees what it must."""
import sys

import pytest

from . import imports, tree


def test_no_import_points_up():
    assert imports.check_tree() == []


BAD = [
    ("import ctypes", "joblot._core only"),
    ("def f():\n    from ctypes import util", "joblot._core only"),
    ("import numpy as np", "inside a function"),
    ("try:\n    import cloudpickle\nexcept ImportError:\n    cloudpickle = None", "inside a function"),
    ("class A:\n    import numpy", "inside a function"),
    ("import requests", "does not know"),
    ("def f():\n    import requests", "does not know"),
    ("from joblot import Parallel", "above all its modules"),
    ("from . import Parallel", "above all its modules"),
    ("import joblot", "above all its modules"),
    ("from . import b", "import each other"),
    ("from .b import x", "import each other"),
    ("import joblot.b", "import each other"),
    ("from .nothing import x", "no module joblot.nothing"),
]
GOOD = [
    "import os, sys",
    "def f():\n    import numpy\n    from . import b\n    import joblot",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n    from .b import x",
    "from ._core import delayed\nfrom . import _core",
]


@pytest.fixture
def check(tmp_path):
    package = tmp_path / "python" / "joblot"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from . import a, b\nfrom .a import x\n")
    (package / "b.py").write_text("from .a import x\n")

    def check_a(text):
        (package / "a.py").write_text(text + "\n")
        return imports.check_tree(tmp_path)

    return check_a


@pytest.mark.parametrize(("text", "why"), BAD, ids=[text for text, _ in BAD])
def test_a_bad_import_is_seen(check, text, why):
    found = check(text)
    assert any(why in line for line in found), found


@pytest.mark.parametrize("text", GOOD)
def test_a_good_import_passes(check, text):
    assert check(text) == []


def test_import_joblot_is_cheap():
    code = "import sys, joblot; print(sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
    assert tree.run(sys.executable, "-c", code, *sorted(imports.THIRD_PARTY)) == "[]\n"


@pytest.mark.parametrize(("text", "good"), [("def f():\n    from . import _c", True), ("from . import _c", False)])
def test_a_private_module_may_need_numpy_while_only_functions_reach_it(check, tmp_path, text, good):
    (tmp_path / "python" / "joblot" / "_c.py").write_text("import numpy\n")
    assert any("inside a function" in line for line in check(text)) is not good
