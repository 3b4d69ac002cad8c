"""Cases by layout: one array of each kind of strides, for a few dtypes."""

import array
import ctypes

import numpy as np

from .catalogue import BOTH, LIMIT, SMALL, add, values

STRUCT = np.dtype([("a", ">i4"), ("b", "<f8"), ("c", ">f4", (2,))])
DTYPES = {">f8": np.dtype(">f8"), "<i2": np.dtype("<i2"), ">c16": np.dtype(">c16"), "struct": STRUCT}
LARGE_DTYPES = (">f8", "struct")


def grid(dtype, size, ndim, shrink=1):
    """A C-contiguous base array; shrink is the share of it that the view will keep."""
    shape = (5, 4, 3, 2)[:ndim]
    if size == "large":
        rest = int(np.prod(shape[:-1]))
        shape = shape[:-1] + (LIMIT * shrink // (dtype.itemsize * rest) + 7,)
    return values(dtype, int(np.prod(shape))).reshape(shape)


def fortran(dtype, size, ndim=2):
    return np.asfortranarray(grid(dtype, size, ndim))


def read_only(dtype, size):
    array = grid(dtype, size, 2)
    array.flags.writeable = False
    return array


def column(dtype, size):
    """One column of a C-ordered table of eight."""
    rows = 6 if size == "small" else LIMIT // dtype.itemsize + 3
    return values(dtype, rows * 8).reshape(rows, 8)[:, 3]


def field_view(dtype, size):
    """A field of a structured array: not aligned, and strided by the item size."""
    rows = 6 if size == "small" else LIMIT // dtype.itemsize + 3
    return values(np.dtype([("skip", "u1"), ("x", dtype), ("y", ">i2")]), rows)["x"]


def several_fields(dtype, size):
    """Two of three fields: a dtype with a hole in it."""
    rows = 6 if size == "small" else LIMIT // dtype.itemsize + 3
    return values(np.dtype([("x", dtype), ("skip", "u1"), ("y", ">i2")]), rows)[["x", "y"]]


def unaligned(dtype, size):
    """Contiguous data at an odd address."""
    count = 6 if size == "small" else LIMIT // dtype.itemsize + 3
    raw = np.zeros(count * dtype.itemsize + 1, np.uint8)
    view = raw[1:].view(dtype)
    view[:] = values(dtype, count)
    return view


def size_one_axes(dtype, size):
    return grid(dtype, size, 2)[:, None, :, None][:, :, ::1]


def broadcast_column(dtype, size):
    rows, columns = (4, 3) if size == "small" else (LIMIT // dtype.itemsize // 4, 5)
    return np.broadcast_to(values(dtype, rows).reshape(rows, 1), (rows, columns))


def broadcast_scalar(dtype, size):
    shape = (3, 2) if size == "small" else (LIMIT // dtype.itemsize + 1, 2)
    return np.broadcast_to(values(dtype, 1)[0], shape)


def windows(dtype, size):
    count = 8 if size == "small" else LIMIT // dtype.itemsize
    return np.lib.stride_tricks.sliding_window_view(values(dtype, count), 3)


LAYOUTS = {
    "C 2-D": lambda d, s: grid(d, s, 2),
    "C 4-D": lambda d, s: grid(d, s, 4),
    "Fortran 2-D": fortran,
    "Fortran 3-D": lambda d, s: fortran(d, s, 3),
    "transposed": lambda d, s: grid(d, s, 2).T,
    "permuted 3-D": lambda d, s: grid(d, s, 3).transpose(1, 2, 0),
    "permuted 4-D": lambda d, s: grid(d, s, 4).transpose(2, 0, 3, 1),
    "stepped": lambda d, s: grid(d, s, 2, 2)[:, ::2],
    "stepped rows": lambda d, s: grid(d, s, 2, 3)[::3],
    "stepped far": lambda d, s: grid(d, s, 2, 12)[::2, ::5],
    "inner slice": lambda d, s: grid(d, s, 2, 2)[1:4, 1:],
    "reversed 1-D": lambda d, s: grid(d, s, 1)[::-1],
    "reversed rows": lambda d, s: grid(d, s, 2)[::-1],
    "reversed columns": lambda d, s: grid(d, s, 2)[:, ::-1],
    "reversed both": lambda d, s: grid(d, s, 2)[::-1, ::-1],
    "reversed and stepped": lambda d, s: grid(d, s, 2, 3)[:, ::-3],
    "reversed transposed": lambda d, s: grid(d, s, 3)[:, ::-1].transpose(2, 0, 1),
    "reversed Fortran": lambda d, s: fortran(d, s)[::-1],
    "column": column,
    "field view": field_view,
    "several fields": several_fields,
    "unaligned": unaligned,
    "broadcast column": broadcast_column,
    "broadcast scalar": broadcast_scalar,
    "broadcast middle": lambda d, s: np.broadcast_to(
        grid(d, s, 2)[:, None, :], (5, 3) + grid(d, s, 2).shape[1:]
    ),
    "sliding window": windows,
    "read-only": read_only,
    "read-only transposed": lambda d, s: read_only(d, s).T,
    "size-1 axes": size_one_axes,
    "size-1 axis, odd stride": lambda d, s: grid(d, s, 2, 12)[:1, ::2],
}
SMALL_ONLY = {
    "diagonal": lambda d, s: values(d, 25).reshape(5, 5).diagonal(),
    "one element of many": lambda d, s: grid(d, s, 2)[2:3, 1:2],
    "0-d": lambda d, s: values(d, 1).reshape(()),
    "0-d view": lambda d, s: values(d, 9)[4:5].reshape(()),
    # NumPy 1 allows 32 axes, and one dtype here has a sub-array of one axis.
    "31 axes": lambda d, s: values(d, 2**5).reshape((2,) * 5 + (1,) * 26)[::-1],
    "huge broadcast axis": lambda d, s: np.broadcast_to(values(d, 1), (2, 0, 1 << 50)),
    "as_strided, folded": lambda d, s: np.lib.stride_tricks.as_strided(
        values(d, 20), (4, 3, 5), (3 * d.itemsize, d.itemsize, d.itemsize)
    ),
    "as_strided, backwards": lambda d, s: np.lib.stride_tricks.as_strided(
        values(d, 20)[10:], (4, 3), (-3 * d.itemsize, d.itemsize)
    ),
    "memoryview owner": lambda d, s: np.asarray(memoryview(bytearray(values(d, 9).tobytes()))).view(d),
    "array.array owner": lambda d, s: np.frombuffer(array.array("B", values(d, 9).tobytes()), d),
    "ctypes owner": lambda d, s: np.frombuffer((ctypes.c_char * (9 * d.itemsize)).from_buffer_copy(values(d, 9)), d),
    "bytes owner": lambda d, s: np.frombuffer(values(d, 9).tobytes(), d),
    "bytearray owner": lambda d, s: np.frombuffer(bytearray(values(d, 9).tobytes()), d),
}
EMPTY = ((0,), (0, 3), (3, 0), (2, 0, 4), (0, 0), (1, 0), (0, 1, 1))
for shape in EMPTY:
    SMALL_ONLY[f"empty {shape}"] = lambda d, s, shape=shape: np.empty(shape, d)
SMALL_ONLY["empty Fortran"] = lambda d, s: np.empty((3, 0), d, order="F")
SMALL_ONLY["empty slice"] = lambda d, s: values(d, 12).reshape(3, 4)[3:, ::-1]


def maker(layout, dtype):
    return lambda size, folder: layout(dtype, size)


for name, layout in {**LAYOUTS, **SMALL_ONLY}.items():
    for text, dtype in DTYPES.items():
        large = name in LAYOUTS and text in LARGE_DTYPES
        add(f"layout {name}, {text}", maker(layout, dtype), BOTH if large else SMALL)

for name in ("transposed", "reversed both", "stepped", "column", "broadcast column", "0-d", "field view"):
    layout = {**LAYOUTS, **SMALL_ONLY}[name]
    for text in ("O", ">M8[s]", ">U3", "S2", "?"):
        add(f"layout {name}, {text}", maker(layout, np.dtype(text)), SMALL)

WITH_OBJECTS = np.dtype([("o", object), ("p", [("t", "<M8"), ("flag", "?")])], align=True)
STRIDED = ("transposed", "reversed both", "stepped", "column", "broadcast column", "0-d", "field view", "empty slice")
for name in STRIDED:
    add(f"layout {name}, struct with object", maker({**LAYOUTS, **SMALL_ONLY}[name], WITH_OBJECTS), SMALL)
