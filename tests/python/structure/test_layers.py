"""No #include points up; and the checker sees each kind of bad arrow when it is fed one."""
import pytest

from . import layers, tree


def test_no_arrow_points_up():
    assert len(tree.c_files()) > 10, "the checker found no files: it looks in the wrong place"
    assert layers.check_tree() == []


@pytest.fixture
def small_tree(tmp_path):
    """A checkout with one good file in each kind of place; returns a function that writes a file and checks all."""
    good = {
        "include/joblot/base.h": "#include <stddef.h>\n",
        "include/joblot/ndarray.h": "#include <joblot/base.h>\n",
        "include/joblot/segment.h": "#include <joblot/base.h>\n",
        "include/joblot/pool.h": "#include <joblot/segment.h>\n",
        "include/joblot/joblot.h": "#include <joblot/pool.h>\n",
        "src/base/alloc.h": "#include <joblot/base.h>\n",
        "src/os/os.h": "",
        "src/os/map.c": '#define _GNU_SOURCE\n#include "os.h"\n#include "../base/alloc.h"\n#include <sys/mman.h>\n',
        "src/ndarray/dtype.h": '#include "../base/alloc.h"\n',
        "src/segment/segment.c": '#include <joblot/segment.h>\n#include "../os/os.h"\n',
        "src/pickle/writer.h": '#include "../ndarray/dtype.h"\n',
        "src/persist/file.c": '#include "../pickle/writer.h"\n',
        "src/pool/call.c": '#include "../ndarray/dtype.h"\n#include <joblot/pool.h>\n#ifdef __GNUC__\n#endif\n',
        "src/cli/main.c": "#include <joblot/joblot.h>\n#include <stdio.h>\n",
        "python/_core/core.h": "#include <Python.h>\n#include <joblot/pool.h>\n",
        "python/_core/module.c": '#include "core.h"\n/* #include "../../src/pool/call.h" in a comment is none */\n',
    }

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def check(name, text):
        write(name, text)
        return layers.check_tree(tmp_path)

    for name, text in good.items():
        write(name, text)
    assert layers.check_tree(tmp_path) == []
    return check


BAD = [
    ("src/base/x.c", '#include "../os/os.h"', "not below it"),
    ("src/base/x.c", "#include <unistd.h>", "src/os"),
    ("src/base/x.c", "#include <joblot/pool.h>", "not below it"),
    ("src/base/x.c", "#ifdef __linux__\n#endif", "asks for __linux__"),
    ("src/base/x.c", "#if defined(__unix__) && 1\n#endif", "asks for __unix__"),
    ("src/os/x.c", '#include "../ndarray/dtype.h"', "not below it"),
    ("src/ndarray/x.c", "#include <joblot/segment.h>", "leaves never include"),
    ("src/segment/x.c", '#include "../ndarray/dtype.h"', "leaves never include"),
    ("src/segment/x.c", "  #  include   <joblot/pool.h>", "not below it"),
    ("src/segment/x.c", "#include <sys/mman.h>", "src/os"),
    ("src/segment/x.c", "#define _GNU_SOURCE", "only src/os"),
    ("src/segment/x.c", "#define _DEFAULT_SOURCE 1", "only src/os"),
    ("src/pickle/x.c", '#include "../persist/file.h"', "no file"),
    ("src/persist/x.c", "#include <joblot/pool.h>", "not below it"),
    ("src/pool/x.c", "#include <Python.h>", "python/_core"),
    ("src/pool/x.c", "#include <joblot/joblot.h>", "for users"),
    ("src/pool/x.c", "#include <joblot/nothing.h>", "no such public header"),
    ("src/pool/x.c", '#include "../os/map.c"', "only headers"),
    ("src/cli/x.c", '#include "../base/alloc.h"', "its own files only"),
    ("src/extra/x.c", "", "no module of the design"),
    ("python/_core/x.c", '#include "../../src/base/alloc.h"', "its own files only"),
    ("python/_core/x.c", "#include <unistd.h>", "src/os"),
    ("python/_core/x.c", "#define _GNU_SOURCE", "only src/os"),
    ("include/joblot/ndarray.h", "#include <joblot/segment.h>", "leaves never include"),
    ("include/joblot/ndarray.h", "#include <sys/types.h>", "src/os"),
    ("include/joblot/ndarray.h", '#include "base.h"', "public header"),
    ("include/joblot/joblot.h", "#include <stdio.h>", "only"),
]


@pytest.mark.parametrize(("name", "text", "why"), BAD, ids=[f"{name}:{text}" for name, text, _ in BAD])
def test_a_bad_arrow_is_seen(small_tree, name, text, why):
    found = small_tree(name, text + "\n")
    assert len(found) == 1, found
    assert found[0].startswith(name)
    assert why in found[0]


def test_a_departure_names_its_line(small_tree):
    found = small_tree("src/base/x.c", '/* two\n lines */\n\n#include "../os/os.h"\n')
    assert [text.split(": ")[0] for text in found] == ["src/base/x.c:4"]
