"""The include checker: reads every #include under src/, include/ and python/_core and names each arrow that points up.

The layers are those of the design: base < os < leaves < composites < cli and _core.  A leaf never includes another
leaf.  A public header counts as its module.  cli and _core see public headers and their own files, nothing else.
"""
import re

from . import tree

LEAVES = {"hash", "codec", "ndarray", "segment"}
COMPOSITES = {"pickle", "persist", "cache", "pool"}
TOPS = {"cli", "_core"}
RANK = {"base": 0, "os": 1, **dict.fromkeys(LEAVES, 2), **dict.fromkeys(COMPOSITES, 3), **dict.fromkeys(TOPS, 4)}
# Between composites there are only these arrows: persist and cache use pickle's writer.
SIDEWAYS = {("persist", "pickle"), ("cache", "pickle")}

# C11 without what reaches the operating system: signal.h, threads.h and time.h belong to src/os.
STANDARD = {
    f"{name}.h"
    for name in (
        "assert ctype errno float inttypes iso646 limits locale math setjmp stdalign stdarg stdatomic stdbool stddef "
        "stdint stdio stdlib stdnoreturn string tgmath uchar wchar wctype"
    ).split()
}
# What a module may include beside that.
EXTRA = {
    "_core": {"Python.h", "structmember.h"},
    "hash": {"xxhash.h", "immintrin.h", "arm_neon.h"},
    "codec": {"zlib.h", "bzlib.h", "lzma.h", "lz4.h", "lz4hc.h", "lz4frame.h", "zstd.h", "zstd_errors.h",
              "libdeflate.h", "isa-l.h"},
    "ndarray": {"immintrin.h", "arm_neon.h"},
}

# Modules whose public interface is too long for one header.
SECOND_HEADERS = {"share": "pool"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
FEATURE_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(_(?:GNU|DEFAULT|POSIX_C|XOPEN|BSD|ALL)_SOURCE)\b", re.M)
SYSTEM_MACRO = re.compile(r"^[ \t]*#[ \t]*(?:if|ifdef|ifndef|elif)\b.*\b(__linux__|__linux|__unix__|_WIN32|__APPLE__|"
                          r"__FreeBSD__|__OpenBSD__|__NetBSD__|__sun|__ANDROID__)\b", re.M)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)


def module_of(path, root):
    """The module that a file belongs to, or None for a file outside the layers."""
    parts = path.relative_to(root).parts
    if parts[:2] == ("include", "joblot"):
        return SECOND_HEADERS.get(path.stem, path.stem)
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[:2] == ("python", "_core"):
        return "_core"
    return None


def arrow_is_wrong(source, target):
    """Why a file of module `source` may not include a file of module `target`; None when it may."""
    if source == target:
        return None
    if target not in RANK:
        return f"there is no module '{target}' in the design"
    if RANK[target] < RANK[source] or (source, target) in SIDEWAYS:
        return None
    if source in LEAVES and target in LEAVES:
        return f"{source} and {target} are leaves, and leaves never include one another"
    return f"{source} must not know {target}, which is not below it"


def check_quoted(path, root, module, name):
    """A include in quotes: a file of the tree, found from the folder of the file that includes it."""
    target = (path.parent / name).resolve()
    if not target.is_file():
        return f"there is no file {name} beside it"
    if not target.is_relative_to(root):
        return "the file lies outside the checkout"
    if target.suffix != ".h":
        return "only headers are included"
    owner = module_of(target, root)
    if owner is None:
        return "the file belongs to no module"
    if path.is_relative_to(root / "include"):
        return "a public header includes <joblot/*.h> and the C library only"
    if module in TOPS and owner != module:
        return f"{module} includes <joblot/*.h> and its own files only"
    return arrow_is_wrong(module, owner)


def check_angled(path, root, module, name):
    """An include in angle brackets: a public header, or one of the system's."""
    if name.startswith("joblot/"):
        target = root / "include" / name
        if not target.is_file():
            return "there is no such public header"
        if target.stem == "joblot":
            return None if module in TOPS else "joblot.h is for users: include the headers that are needed"
        return arrow_is_wrong(module, module_of(target, root))
    public = path.is_relative_to(root / "include")
    if name in STANDARD or (module == "os" and not public):
        return None
    if name in EXTRA.get(module, ()) and not public:
        return None
    if name == "Python.h":
        return "only python/_core includes Python.h"
    return "not a header of plain C: system headers belong to src/os"


def check_file(path, root):
    """Every departure in one file, as texts `path:line: what`."""
    module = module_of(path, root)
    text = COMMENT.sub(lambda m: "\n" * m.group().count("\n"), path.read_text(encoding="utf-8"))
    found = []

    def say(match, what):
        line = text.count("\n", 0, match.start(1)) + 1
        found.append(f"{path.relative_to(root)}:{line}: {what}")

    umbrella = path == root / "include" / "joblot" / "joblot.h"
    if not umbrella and module not in RANK:
        return [f"{path.relative_to(root)}: belongs to no module of the design"]
    for match in INCLUDE.finditer(text):
        style, name = match.groups()
        if umbrella:
            why = None if style == "<" and name.startswith("joblot/") else "joblot.h includes <joblot/*.h> only"
        else:
            why = (check_quoted if style == '"' else check_angled)(path, root, module, name)
        if why:
            say(match, f"#include {name}: {why}")
    if module != "os":
        for match in FEATURE_MACRO.finditer(text):
            say(match, f"defines {match.group(1)}, which only src/os may")
        for match in SYSTEM_MACRO.finditer(text):
            say(match, f"asks for {match.group(1)}: what differs between systems belongs to src/os")
    return found


def check_tree(root=tree.ROOT):
    found = []
    for path in tree.c_files(root):
        found += check_file(path, root)
    return found
