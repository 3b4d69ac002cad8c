"""Exact comparison of arrays, and of objects that hold arrays.

`describe` turns an object into plain Python data (dicts, lists, strings, bytes) that says all a
plain call could see of it. It runs in the worker for what the worker saw, and in the parent for
what the plain call sees, so that the comparison of an argument does not depend on how arrays
travel back. `assert_same` describes two objects and compares them under `Rules`.

What counts, and what was decided where the design leaves a choice:

* dtype: byte order, field names, titles, offsets, item size, alignment, metadata, recursively.
  `long long` and `long` of one size are one dtype, as they are in NumPy's descr.
* Values bit by bit: NaN payloads, -0.0 and NaT count. Padding (of structs, of x87 long doubles)
  does not.
* Strides: sign, zero or not, and order of the axes longer than one, plus both contiguity flags
  where the array was contiguous. Not the distance: a column need not drag its table along.
  Subclasses that pickle themselves have no say in strides, so there they do not count.
* Type: the same, but for plain ndarrays. In a worker one of more than ``max_nbytes`` without
  objects is an np.memmap with a file name and the mode asked for; a smaller one is an exact
  ndarray. Results are never memmaps of the engine. A plain ndarray that lies in a mapped file
  (np.asarray of a memmap) may be either; so may a user's memmap in a result, and in an argument
  where its file does not hold what it shows (mode c, file gone).
* Writability: whatever travels arrives writable, also when it was sent read-only (it is a copy, and
  the design says so for arguments of every size). A user's own memmap keeps its mode. Arrays whose
  elements share memory (broadcast, sliding windows) and subclasses that pickle themselves may be
  either.
* Identity: two references to one array, list, dict or instance inside one task stay one object.
"""

import dataclasses
import datetime
import decimal
import hashlib
import mmap
import struct
import types

import numpy as np

DEFAULT_MAX_NBYTES = 1 << 20
MASKED_INTERNAL = frozenset(
    "_mask _fill_value _hardmask _sharedmask _isfield _baseclass _optinfo _basedict".split()
)
MEMMAP_INTERNAL = frozenset(("_mmap", "filename", "offset", "mode"))
DESCRIPTOR_CLASSES = (np.ndarray, np.memmap, np.matrix, np.recarray, np.ma.MaskedArray)
ATOMS = (type(None), bool, int, str, bytes, bytearray, datetime.datetime, decimal.Decimal)


@dataclasses.dataclass(frozen=True)
class Rules:
    """How the object may have changed on its way: role is "argument", "result" or "same"."""

    role: str = "same"
    max_nbytes: int | None = DEFAULT_MAX_NBYTES
    mmap_mode: str | None = "c"
    stale_file: bool = False  # the file of a user's memmap no longer holds what the array shows

    def maps(self, array):
        """Whether the worker must find this plain array (a description) as a memmap."""
        return (
            self.role == "argument"
            and self.max_nbytes is not None
            and self.mmap_mode is not None
            and array["nbytes"] > self.max_nbytes
            and not array["objects"]
        )


def type_name(cls):
    return f"{cls.__module__}.{cls.__qualname__}"


def describe_dtype(dtype):
    """All that distinguishes a dtype, as nested lists of strings and numbers."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"sub-array of": describe_dtype(base), "shape": list(shape)}
    text = {"str": dtype.str, "itemsize": dtype.itemsize}
    if dtype.metadata:
        text["metadata"] = sorted((repr(k), repr(v)) for k, v in dtype.metadata.items())
    if dtype.kind == "T":
        text["string"] = repr(dtype)
    if dtype.kind == "V":
        # Of numbers NumPy knows it: one made through a structured dtype may say another, and means the same.
        text["alignment"] = dtype.alignment
        text["class"] = type_name(dtype.type)
        text["aligned"] = dtype.isalignedstruct
    if dtype.names is not None:
        text["fields"] = [
            {
                "name": name,
                "title": repr(dtype.fields[name][2:]),
                "offset": dtype.fields[name][1],
                "dtype": describe_dtype(dtype.fields[name][0]),
            }
            for name in dtype.names
        ]
    return text


def changes_pickling(cls):
    """Whether an ndarray subclass says itself how it is pickled."""
    if cls in DESCRIPTOR_CLASSES:
        return False
    return any(
        getattr(cls, name) is not getattr(np.ndarray, name)
        for name in ("__reduce__", "__reduce_ex__", "__setstate__")
    )


def may_overlap(array):
    """Whether two elements may share memory; errs towards True."""
    reach = array.itemsize
    axes = sorted((abs(s), n) for s, n in zip(array.strides, array.shape) if n > 1)
    for stride, length in axes:
        if stride < reach:
            return True
        reach += stride * (length - 1)
    return False


def lies_in_a_mapping(array):
    """Whether the memory of this array is that of an mmap."""
    owner = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return isinstance(owner, mmap.mmap)


def content_bytes(array):
    """The elements in C order with unused bytes of long doubles left out."""
    dtype = array.dtype
    if dtype.kind not in "fc" or np.finfo(dtype.newbyteorder("=")).nmant != 63:
        return array.tobytes()
    part = dtype.itemsize // (2 if dtype.kind == "c" else 1)
    parts = np.frombuffer(array.tobytes(), np.uint8).reshape(-1, part)
    return (parts[:, :10] if dtype.isnative else parts[:, part - 10 :]).tobytes()


def digest(data):
    """Short content as it is, long content as its length and SHA-256."""
    if len(data) <= 256:
        return data
    return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


class Describer:
    """One description; remembers what it has seen, so that cycles end and identity shows."""

    def __init__(self, attributes=True):
        self.attributes = attributes
        self.seen = {}

    def describe(self, x):
        """Dispatch on the type; a type it does not know is an error, never a match."""
        if isinstance(x, ATOMS):
            return [type_name(type(x)), x if type(x) in (bool, int, str, bytes) else repr(x)]
        if isinstance(x, (float, complex)) and not isinstance(x, np.generic):
            value = complex(x)
            return [type_name(type(x)), struct.pack("<dd", value.real, value.imag)]
        if isinstance(x, np.ndarray):
            return self.once(x, self.array)
        if isinstance(x, np.generic):
            return self.scalar(x)
        if isinstance(x, np.dtype):
            return ["dtype", describe_dtype(x)]
        if isinstance(x, (type, types.FunctionType, types.BuiltinFunctionType)):
            return ["global", type_name(x)]
        if isinstance(x, tuple):
            return [type_name(type(x)), [self.describe(item) for item in x]]
        if isinstance(x, (set, frozenset)):
            return [type_name(type(x)), sorted(repr(Describer().describe(item)) for item in x)]
        return self.once(x, self.container)

    def once(self, x, describe):
        """Describe x at its first occurrence; later ones refer to it. Keeps x alive, so that no
        other object gets its id meanwhile."""
        if id(x) in self.seen:
            return ["again", self.seen[id(x)][0]]
        self.seen[id(x)] = (len(self.seen), x)
        return describe(x)

    def container(self, x):
        if isinstance(x, list):
            return [type_name(type(x)), [self.describe(item) for item in x]]
        if isinstance(x, dict):
            pairs = [[self.describe(k), self.describe(v)] for k, v in x.items()]
            return [type_name(type(x)), pairs]
        if dataclasses.is_dataclass(x):
            names = [field.name for field in dataclasses.fields(x)]
            return [type_name(type(x)), [[n, self.describe(getattr(x, n))] for n in names]]
        if type(x).__reduce_ex__ is object.__reduce_ex__ and getattr(x, "__dict__", None):
            return [type_name(type(x)), [[k, self.describe(v)] for k, v in sorted(x.__dict__.items())]]
        raise TypeError(f"describe() does not know {type_name(type(x))}: add it to exact.py")

    def scalar(self, x):
        text = {"scalar": describe_dtype(x.dtype), "content": self.content(np.asarray(x))}
        if isinstance(x, np.void):
            text["class"] = type_name(type(x))
        return text

    def array(self, x):
        plain = np.ndarray.view(x, np.ndarray)
        text = {
            "array": type_name(type(x)),
            "dtype": describe_dtype(x.dtype),
            "shape": list(x.shape),
            "strides": list(x.strides),
            "C": x.flags.c_contiguous,
            "F": x.flags.f_contiguous,
            "writable": x.flags.writeable,
            "nbytes": x.nbytes,
            "objects": x.dtype.hasobject,
            "own pickle": changes_pickling(type(x)),
            "overlaps": may_overlap(x),
            "mapped": lies_in_a_mapping(x),
            "content": self.content(plain),
        }
        if isinstance(x, np.memmap):
            text["memmap"] = {"filename": x.filename and str(x.filename), "mode": x.mode}
        if isinstance(x, np.ma.MaskedArray):
            text["masked"] = self.masked(x)
        if self.attributes:
            internal = MEMMAP_INTERNAL if isinstance(x, np.memmap) else frozenset()
            if isinstance(x, np.ma.MaskedArray):
                internal = MASKED_INTERNAL | MEMMAP_INTERNAL
            own = getattr(x, "__dict__", {})
            text["attributes"] = {
                k: self.describe(v) for k, v in sorted(own.items()) if k not in internal
            }
        return text

    def masked(self, x):
        mask = np.ma.getmask(x)
        fill = x._fill_value
        if fill is not None and changes_pickling(type(x)) and x.dtype.names is None:
            fill = np.asarray(fill).astype(x.dtype)  # as numpy.ma's __setstate__ does with it
        base = np.ndarray if x.baseclass is np.memmap else x.baseclass  # a copy has no file
        return {
            "mask": "nomask" if mask is np.ma.nomask else Describer().array(np.asarray(mask)),
            "fill_value": None if fill is None else self.content(np.asarray(fill)),
            "fill_dtype": None if fill is None else describe_dtype(np.asarray(fill).dtype),
            "hard": x.hardmask,
            "base class": type_name(base),
        }

    def content(self, plain):
        """The values: per leaf field, so that padding and overlaps do not matter."""
        dtype = plain.dtype
        if dtype.names is not None:
            return {name: self.content(plain[name]) for name in dtype.names}
        if dtype.kind == "O":
            return [self.describe(item) for item in plain.flat]
        if dtype.kind == "T":
            return [self.describe(item) for item in plain.ravel().tolist()]
        return digest(content_bytes(plain))


def describe(x, attributes=True):
    """A description of x in plain Python data; attributes=False leaves out ``__dict__``."""
    return Describer(attributes).describe(x)


def allowed_types(expected, rules):
    """The types that the counterpart of an array may have."""
    name = expected["array"]
    if rules.role == "same" or name not in ("numpy.ndarray", "numpy.memmap"):
        return {name}
    either = {"numpy.ndarray", "numpy.memmap"}
    if name == "numpy.memmap":
        copied = rules.stale_file or expected["memmap"]["mode"] == "c"
        return either if copied or rules.role == "result" else {name}
    if expected["own pickle"]:
        return either
    if rules.maps(expected):
        return {"numpy.memmap"}
    return either if expected["mapped"] else {name}


def stride_differences(expected, got):
    """Signs, zeros and order of the axes that have more than one element."""
    axes = [i for i, length in enumerate(expected["shape"]) if length > 1]
    if expected["nbytes"] == 0 or expected["own pickle"]:
        return  # no element, or none with a place in memory
    before, after = expected["strides"], got["strides"]
    if any(np.sign(before[i]) != np.sign(after[i]) for i in axes):
        yield f"strides {before} became {after}: sign"
    for i in axes:
        for j in axes:
            if abs(before[i]) > abs(before[j]) and not abs(after[i]) > abs(after[j]):
                yield f"strides {before} became {after}: axes {i} and {j} changed order"
    if (expected["C"] or expected["F"]) and any(expected[k] != got[k] for k in "CF"):
        yield f"contiguity C={expected['C']} F={expected['F']} became C={got['C']} F={got['F']}"


def writable_differences(expected, got, rules):
    if rules.role == "same":
        wanted = expected["writable"]
    elif expected["own pickle"] or expected["overlaps"] or expected["mapped"]:
        by_file = expected["array"] == got["array"] == "numpy.memmap"
        copied = rules.role == "result" or rules.stale_file
        if not by_file or copied or expected["overlaps"]:
            return
        wanted = expected["writable"]
    else:
        wanted = not (rules.maps(expected) and rules.mmap_mode == "r")
    if got["writable"] != wanted:
        yield f"writable is {got['writable']}, should be {wanted}"


def array_differences(expected, got, rules):
    allowed = allowed_types(expected, rules)
    if got["array"] not in allowed:
        yield f"type {expected['array']} became {got['array']}, not {' or '.join(sorted(allowed))}"
    elif "memmap" in got and rules.maps(expected) and expected["array"] == "numpy.ndarray" and not expected["mapped"]:
        if not got["memmap"]["filename"]:
            yield "the memmap has no filename"
        if got["memmap"]["mode"] != rules.mmap_mode:
            yield f"the memmap has mode {got['memmap']['mode']}, not {rules.mmap_mode}"
    if expected["dtype"] != got["dtype"]:
        yield f"dtype {expected['dtype']} became {got['dtype']}"
    if expected["shape"] != got["shape"]:
        yield f"shape {expected['shape']} became {got['shape']}"
    else:
        yield from stride_differences(expected, got)
    yield from writable_differences(expected, got, rules)
    for key in ("content", "masked", "attributes"):
        inner = rules
        if key == "masked":
            inner = dataclasses.replace(rules, max_nbytes=None)
        for line in differences(expected.get(key), got.get(key), inner):
            yield f"{key}: {line}"


def differences(expected, got, rules):
    """Lines that say where two descriptions differ; none when they are the same."""
    if type(expected) is not type(got):
        yield f"{str(expected)[:200]} became {str(got)[:200]}"
    elif isinstance(expected, dict) and "array" in expected and "array" in got:
        yield from array_differences(expected, got, rules)
    elif isinstance(expected, dict):
        if list(expected) != list(got):
            yield f"keys {list(expected)} became {list(got)}"
        for key in expected.keys() & got.keys():
            for line in differences(expected[key], got[key], rules):
                yield f"{key}: {line}"
    elif isinstance(expected, list):
        if len(expected) != len(got):
            yield f"length {len(expected)} became {len(got)}"
        for index, (one, other) in enumerate(zip(expected, got)):
            for line in differences(one, other, rules):
                yield f"[{index}]: {line}"
    elif expected != got:
        yield f"{str(expected)[:200]} became {str(got)[:200]}"


def assert_described(expected, got, rules=Rules()):
    """Compare two descriptions; all differences are in the message."""
    lines = list(differences(expected, got, rules))
    assert not lines, "\n".join(lines[:20])


def assert_same(expected, got, rules=Rules()):
    """Compare two objects exactly, allowing only what the rules allow."""
    assert_described(describe(expected), describe(got), rules)
