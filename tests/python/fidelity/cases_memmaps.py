"""Cases of a user's own memmaps: every mode and view, and files that went away."""

import mmap
import os
import tempfile

import numpy as np

from .catalogue import LIMIT, SMALL, add, case, values

STRUCT = np.dtype([("a", ">i4"), ("b", "<f8"), ("c", ">f4", (2,))])


def new_path(folder):
    descriptor, path = tempfile.mkstemp(dir=folder, suffix=".dat")
    os.close(descriptor)
    return path


def shape_for(dtype, size):
    return (6, 4) if size == "small" else (6, LIMIT // np.dtype(dtype).itemsize + 5)


def written(dtype, size, folder, offset=0):
    """A file of offset bytes and a C-ordered table; gives path and shape."""
    shape = shape_for(dtype, size)
    path = new_path(folder)
    with open(path, "wb") as out:
        out.write(b"\xa5" * offset)
        out.write(values(dtype, shape[0] * shape[1]).tobytes())
    return path, shape


def mapped(dtype, mode, offset=0, order="C"):
    def make(size, folder):
        path, shape = written(dtype, size, folder, offset)
        return np.memmap(path, dtype, mode, offset, shape, order)

    return make


def view_of(view, dtype=">f8", mode="r", offset=0):
    return lambda size, folder: view(mapped(dtype, mode, offset)(size, folder))


for mode in ("r", "r+", "c"):
    for dtype in (">i4", "<f8", ">M8[s]", STRUCT):
        add(f"memmap {mode}, {'struct' if dtype is STRUCT else dtype}", mapped(dtype, mode))

VIEWS = {
    "transposed": lambda m: m.T,
    "reversed rows": lambda m: m[::-1],
    "reversed columns": lambda m: m[:, ::-1],
    "reversed both": lambda m: m[::-1, ::-1],
    "stepped": lambda m: m[::2, ::2],
    "stepped backwards": lambda m: m[::-2, ::3],
    "slice": lambda m: m[2:5, 1:],
    "one row": lambda m: m[3],
    "column": lambda m: m.reshape(-1, m.shape[0])[:, 2],
    "reversed transposed": lambda m: m[::-1].T[1:],
    "new axes": lambda m: m[None, :, None, :],
    "view of a view": lambda m: m[1:][::-1][:, 1:][1:],
    "raveled": lambda m: m.reshape(-1),
    "broadcast": lambda m: np.broadcast_to(m[:, :1], m.shape, subok=True),
    "asarray": np.asarray,
    "asarray reversed": lambda m: np.asarray(m)[::-1],
    "as bytes": lambda m: m.view("u1"),
    "as other order": lambda m: m.view("<f8"),
    "as matrix": lambda m: m.view(np.matrix),
    "masked": lambda m: np.ma.MaskedArray(m, mask=np.asarray(m) > 0),
}
SMALL_VIEWS = {
    "0-d": lambda m: m[1:2, 1:2].reshape(()),
    "short column": lambda m: m[:, 2],
    "empty": lambda m: m[3:3],
    "empty columns": lambda m: m[::-1, 4:4],
    "fancy": lambda m: m[[0, 2, 4]],
    "result of arithmetic": lambda m: m[:2] + 1,
    "element": lambda m: m[2, 1],
}
for name, view in VIEWS.items():
    for mode in ("r", "r+"):
        add(f"memmap view {name}, {mode}", view_of(view, mode=mode, offset=0))
for name, view in SMALL_VIEWS.items():
    add(f"memmap view {name}", view_of(view), SMALL)
add("memmap copy-on-write view", view_of(lambda m: m[::-1].T, mode="c"))
add("memmap offset", mapped(">f8", "r", 12))
add("memmap offset over a page", mapped(">i2", "r", 3 * 4096 + 10))
add("memmap offset reversed", view_of(lambda m: m[:, ::-1], offset=40))
add("memmap Fortran", mapped(">f8", "r", 0, "F"))
add("memmap Fortran transposed slice", lambda s, f: mapped(">f8", "r", 0, "F")(s, f).T[:, 1:])
add("memmap field", view_of(lambda m: m["b"], STRUCT))
add("memmap field reversed", view_of(lambda m: m["a"][::-1], STRUCT))
add("memmap sub-array field", view_of(lambda m: m["c"][:, :, 1], STRUCT))
add("memmap several fields", view_of(lambda m: m[["a", "c"]], STRUCT))
add("memmap recarray", view_of(lambda m: m.view(np.recarray), STRUCT))
add("memmaps in a dict", lambda s, f: {"r": mapped(">f8", "r")(s, f), "x": mapped(">i2", "r+")(s, f)[::-1]})
add("memmap twice", lambda s, f: [mapped(">f8", "r")(s, f)] * 2)


@case("memmap w+")
def created(size, folder):
    shape = shape_for(">f8", size)
    out = np.memmap(new_path(folder), ">f8", "w+", 0, shape)
    out[:] = values(">f8", out.size).reshape(shape)
    return out


@case("memmap r+ written, not flushed")
def unflushed(size, folder):
    out = mapped(">f8", "r+")(size, folder)
    out[1] = 7
    return out


@case("memmap c with private changes")
def private_changes(size, folder):
    out = mapped(">f8", "c")(size, folder)
    out[1] = 7
    return out


@case("memmap c with private changes, reversed")
def private_changes_reversed(size, folder):
    out = mapped(">f8", "c")(size, folder)
    out[1] = 7
    return out[::-1]


@case("memmap of a deleted file", stale_file=True)
def deleted(size, folder):
    out = mapped(">f8", "r")(size, folder)
    os.unlink(out.filename)
    return out


@case("memmap of a deleted file, reversed", stale_file=True)
def deleted_reversed(size, folder):
    out = mapped(">f8", "r+")(size, folder)
    os.unlink(out.filename)
    return out[::-1]


@case("memmap of a replaced file", stale_file=True)
def replaced(size, folder):
    out = mapped(">f8", "r")(size, folder)
    other = new_path(folder)
    with open(other, "wb") as stream:
        stream.write(bytes(os.path.getsize(out.filename)))
    os.replace(other, out.filename)
    return out


@case("memmap of a renamed file", stale_file=True)
def renamed(size, folder):
    out = mapped(">f8", "r")(size, folder)
    os.rename(out.filename, new_path(folder))
    return out


@case("memmap of a file object")
def from_file_object(size, folder):
    path, shape = written(">f8", size, folder)
    with open(path, "rb") as stream:
        return np.memmap(stream, ">f8", "r", 0, shape)


@case("memmap without a file name", stale_file=True)
def nameless(size, folder):
    """NumPy cannot name an unnamed temporary file: filename is None."""
    shape = shape_for(">f8", size)
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(values(">f8", shape[0] * shape[1]).tobytes())
        stream.flush()
        return np.memmap(stream, ">f8", "r+", 0, shape)


def raw_map(size, folder, access):
    path, shape = written(">f8", size, folder)
    with open(path, "r+b") as stream:
        return mmap.mmap(stream.fileno(), 0, access=access), shape


@case("frombuffer of a read-only mmap")
def buffer_read_only(size, folder):
    memory, shape = raw_map(size, folder, mmap.ACCESS_READ)
    return np.frombuffer(memory, ">f8").reshape(shape)


@case("frombuffer of a private mmap with changes")
def buffer_private(size, folder):
    memory, shape = raw_map(size, folder, mmap.ACCESS_COPY)
    array = np.frombuffer(memory, ">f8").reshape(shape)
    array[2] = 9
    return array[::-1]


@case("ndarray over an anonymous mmap")
def anonymous(size, folder):
    shape = shape_for(">f8", size)
    memory = mmap.mmap(-1, shape[0] * shape[1] * 8)
    array = np.ndarray(shape, ">f8", memory)
    array[:] = values(">f8", array.size).reshape(shape)
    return array


@case("memmap relative path", SMALL)
def relative(size, folder):
    path, shape = written(">f8", size, folder)
    return np.memmap(os.path.relpath(path), ">f8", "r", 0, shape)
