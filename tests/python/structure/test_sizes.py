"""Files and functions stay short: a warning at the rule, an error at the hard limit."""
import re
import warnings

from . import tree

FILE_RULE, FILE_LIMIT = 600, 1000
FUNCTION_RULE, FUNCTION_LIMIT = 60, 100
HEADER_LIMIT, PYTHON_LIMIT = 400, 500


def functions(text):
    """(name, lines) of each function of a C file in our style: its braces stand in the first column."""
    lines = text.split("\n")
    start = None
    for number, line in enumerate(lines):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            head = " ".join(lines[max(0, start - 4) : start])
            names = re.findall(r"(\w+)\s*\(", head)
            yield (names[-1] if names else f"line {start}"), number - start + 1
            start = None


def judge(size, rule, limit, what):
    """The text of an error over the limit; a warning over the rule."""
    if size > limit:
        return [f"{what}: {size} lines, the limit is {limit}"]
    if size > rule:
        warnings.warn(f"{what}: {size} lines, the rule is {rule}", stacklevel=2)
    return []


def test_c_files_and_functions():
    found = []
    for path in tree.c_files():
        name = path.relative_to(tree.ROOT)
        text = path.read_text(encoding="utf-8")
        public = path.is_relative_to(tree.ROOT / "include")
        if not re.search("table|vector", path.name):
            limit = HEADER_LIMIT if public else FILE_LIMIT
            found += judge(text.count("\n"), min(limit, FILE_RULE), limit, name)
        for function, size in functions(text):
            found += judge(size, FUNCTION_RULE, FUNCTION_LIMIT, f"{name}: {function}")
    assert found == []


def test_python_modules():
    found = []
    for path in tree.python_files():
        lines = path.read_text(encoding="utf-8").count("\n")
        found += judge(lines, PYTHON_LIMIT, PYTHON_LIMIT, path.relative_to(tree.ROOT))
    assert found == []


def test_functions_are_measured():
    body = "    call();\n" * 98
    text = f"static int\nlong_one(int a)\n{{\n{body}}}\n\nvoid short_one(void)\n{{\n}}\nstruct x {{\n    int a;\n}};\n"
    assert list(functions(text)) == [("long_one", 100), ("short_one", 2)]


def test_limits_are_limits(recwarn):
    assert judge(100, 60, 100, "x") == []
    assert [str(w.message) for w in recwarn] == ["x: 100 lines, the rule is 60"]
    assert judge(101, 60, 100, "x") == ["x: 101 lines, the limit is 100"]
