"""The table of named objects that must travel exactly, and the means to fill arrays.

A case has a factory ``make(size, folder)``: size is "small" (far below the limit above which
arrays go through shared memory) or "large" (above it), folder a place for files. The same factory
gives the same object in any process. The cases_*.py modules fill the table.
"""

import dataclasses
import math
import typing
import zlib

import numpy as np

LIMIT = 1 << 20
BOTH = ("small", "large")
SMALL = ("small",)


@dataclasses.dataclass(frozen=True)
class Case:
    """One row: stale_file says that its file no longer holds what the array shows."""

    name: str
    make: typing.Callable
    sizes: tuple = BOTH
    stale_file: bool = False


CASES: dict[str, Case] = {}


def add(name, make, sizes=BOTH, **facts):
    """Enter a case; two cases of one name are a mistake in the table."""
    if name in CASES:
        raise ValueError(f"two cases are called {name}")
    CASES[name] = Case(name, make, sizes, **facts)


def case(name, sizes=BOTH, **facts):
    """Decorator form of `add`."""

    def enter(make):
        add(name, make, sizes, **facts)
        return make

    return enter


def count_for(dtype, size):
    """How many elements make an array of this size (large: a little over the limit)."""
    return 7 if size == "small" else LIMIT // max(np.dtype(dtype).itemsize, 1) + 3


def random_for(dtype, count):
    return np.random.default_rng(zlib.crc32(f"{dtype} {count}".encode()))


def float_values(dtype, count, rng):
    """Any bit pattern, so that NaN payloads and subnormals are there; long doubles, which have
    invalid patterns, from numbers. The first elements are NaN, -0.0 and infinities."""
    special = np.array([np.nan, -0.0, np.inf, -np.inf], "f8")[: max(count, 0)]
    part = dtype.itemsize // (2 if dtype.kind == "c" else 1)
    if part > 8:
        values = rng.standard_normal(count).astype(dtype)
        values[: len(special)] = special[:count]
        if dtype.kind == "c" and count:
            values.imag[:] = rng.standard_normal(count)
        return values
    values = np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).copy()
    values[-len(special) :] = special[:count]
    return values


def struct_values(dtype, count, rng):
    """Every field filled on its own; what lies between fields is noise."""
    if dtype.hasobject or dtype.itemsize == 0:
        out = np.zeros(count, dtype)
    else:
        out = np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).copy()
    for name in dtype.names:
        field = dtype.fields[name][0]
        if field.itemsize:
            shape = (count,) + field.shape
            out[name] = values(field.base, math.prod(shape)).reshape(shape)
    return out


def values(dtype, count):
    """A 1-D array of this dtype with deterministic and telling content."""
    dtype = np.dtype(dtype)
    rng = random_for(dtype, count)
    if dtype.names is not None:
        return struct_values(dtype, count, rng)
    if dtype.kind == "b":
        return rng.integers(0, 2, count).astype(bool)
    if dtype.kind in "fc":
        return float_values(dtype, count, rng)
    if dtype.kind == "U":
        points = rng.integers(1, 0xD800, count * dtype.itemsize // 4)
        return points.astype(dtype.str[0] + "u4").view(dtype)
    if dtype.kind == "O":
        pool = (None, 1, "two", 3.0, (4, 5), [6], b"7")
        out = np.empty(count, object)
        for i in range(count):
            out[i] = pool[i % len(pool)]
        return out
    if dtype.kind == "T":
        return np.array([f"text {i} \u20ac" * (i % 9) for i in range(count)], dtype)
    out = np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).copy()
    if dtype.kind in "mM" and count:
        out[:1] = "NaT"
    return out


def load_all():
    """Fill the table; importing twice does nothing new."""
    from . import (  # noqa: F401
        cases_classes,
        cases_containers,
        cases_dtypes,
        cases_layouts,
        cases_memmaps,
    )

    return CASES
