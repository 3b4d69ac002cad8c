"""The import checker for python/joblot: what each module imports, when, and whether an arrow points up."""
import ast
import sys

from . import tree

# Packages that joblot uses where the user has them, and always inside functions: `import joblot` must stay cheap.
THIRD_PARTY = {"numpy", "cloudpickle", "threadpoolctl", "fsspec", "dask", "distributed", "ray", "pyspark", "joblib"}
# Other ways to reach C.
FOREIGN = {"ctypes", "cffi", "_ctypes", "_posixshmem", "_multiprocessing"}


class Imports(ast.NodeVisitor):
    """Collects (line, dotted module, names, at import time?) of every import of a module."""

    def __init__(self, package):
        self.package = package  # dotted name of the package that holds the module
        self.found = []
        self._depth = 0

    def _function(self, node):
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def visit_If(self, node):
        test = ast.unparse(node.test)
        if test in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            self._function(ast.If(test=node.test, body=node.body, orelse=[]))
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Import(self, node):
        for alias in node.names:
            self.found.append((node.lineno, alias.name, (), self._depth == 0))

    def visit_ImportFrom(self, node):
        base = self.package.split(".")[: len(self.package.split(".")) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        self.found.append((node.lineno, module, tuple(alias.name for alias in node.names), self._depth == 0))


def module_name(path, root):
    parts = list(path.relative_to(root / "python").with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_imports(path, root):
    name = module_name(path, root)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    visitor = Imports(package)
    visitor.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return visitor.found


def inside(module, names, modules):
    """The modules of joblot that an import reaches: `from joblot import x` reaches joblot.x where that is one."""
    reached = {f"{module}.{name}" for name in names if f"{module}.{name}" in modules}
    if not names or any(f"{module}.{name}" not in modules for name in names):
        reached.add(module)
    return reached


def check_tree(root=tree.ROOT):
    paths = {module_name(path, root): path for path in tree.python_files(root)}
    modules = {*paths, "joblot._core"}
    found, arrows, heavy = [], {}, {}
    for name, path in paths.items():
        for line, module, names, early in read_imports(path, root):
            where = f"{path.relative_to(root)}:{line}"
            top = module.split(".")[0]
            if top == "joblot":
                reached = inside(module, names, modules)
                if early:
                    arrows.setdefault(name, set()).update(reached - {name})
                if "joblot" in reached and name not in ("joblot", "joblot.__main__") and early:
                    found.append(f"{where}: imports joblot itself, which is above all its modules")
                found += [f"{where}: there is no module {m}" for m in sorted(reached - modules)]
            elif top in FOREIGN:
                found.append(f"{where}: imports {module}: Python reaches C through joblot._core only")
            elif top not in sys.stdlib_module_names and top != "__main__":
                if top not in THIRD_PARTY:
                    found.append(f"{where}: imports {top}, which docs/dependencies.md does not know")
                elif early:
                    heavy.setdefault(name, []).append(f"{where}: imports {top}")
    return found + eager(heavy, arrows) + cycles(arrows)


def eager(heavy, arrows):
    """Modules that import a package at once, and are imported at once by another: only functions may reach them."""
    reached = set().union(*arrows.values()) if arrows else set()
    return [
        f"{line} when joblot is imported: do it inside a function"
        for name, lines in sorted(heavy.items())
        if name == "joblot" or name in reached or not name.rpartition(".")[2].startswith("_")
        for line in lines
    ]


def cycles(arrows):
    """Import-time cycles: in one, some arrow must point up."""
    found, done = [], set()

    def walk(name, trail):
        if name in trail:
            loop = [*trail[trail.index(name):], name]
            found.append("python/joblot: modules import each other: " + " -> ".join(loop))
        elif name not in done:
            for target in sorted(arrows.get(name, ())):
                walk(target, [*trail, name])
            done.add(name)

    for name in sorted(arrows):
        walk(name, [])
    return found
