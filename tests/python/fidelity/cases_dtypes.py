"""Cases by dtype: contiguous 1-D and 2-D arrays of everything NumPy can hold, and their dtypes."""

import numpy as np

from .catalogue import BOTH, SMALL, add, count_for, values

NUMERIC = "? b B h H i I l L q Q e f d g F D G".split()
UNITS = "Y M W D h m s ms us ns ps fs as".split()

SIMPLE = {}
for char in NUMERIC:
    for order in "<>" if np.dtype(char).itemsize > 1 else "=":
        SIMPLE[order + char] = np.dtype(order + char)
for order in "<>":
    for unit in ["", *(f"[{u}]" for u in UNITS), "[25s]", "[7D]", "[100ns]"]:
        for char in "Mm":
            SIMPLE[f"{order}{char}8{unit}"] = np.dtype(f"{order}{char}8{unit}")
    for length in (1, 5, 33):
        SIMPLE[f"{order}U{length}"] = np.dtype(f"{order}U{length}")
for length in (1, 3, 8, 31):
    SIMPLE[f"S{length}"] = np.dtype(f"S{length}")
    SIMPLE[f"V{length}"] = np.dtype(f"V{length}")
SIMPLE["int with fields"] = np.dtype(("<i4", {"low": ("<i2", 0), "high": ("<i2", 2)}))
SIMPLE["metadata"] = np.dtype(">i4", metadata={"unit": "counts"})

STRUCTURED = {
    "mixed byte orders": np.dtype([("a", ">i4"), ("b", "<f8"), ("c", ">u2"), ("d", "?")]),
    "all big": np.dtype([("a", ">i4"), ("b", ">f8")]),
    "with text": np.dtype([("id", ">i4"), ("name", "S3"), ("label", ">U4"), ("t", ">M8[ms]")]),
    "nested": np.dtype([("p", [("x", ">f4"), ("q", [("y", "<c8"), ("z", ">c16")])]), ("n", ">i8")]),
    "padded": np.dtype(
        {"names": ["a", "b"], "formats": ["u1", ">f8"], "offsets": [3, 16], "itemsize": 40}
    ),
    "aligned": np.dtype([("a", "u1"), ("b", ">i8"), ("c", "u1"), ("d", "f4")], align=True),
    "aligned nested": np.dtype([("a", "u1"), ("p", np.dtype("u1,>f8", align=True))], align=True),
    "sub-arrays": np.dtype([("m", ">f4", (2, 3)), ("v", "<i2", (4,)), ("s", ">i8")]),
    "sub-arrays of structs": np.dtype([("cells", [("a", ">i2"), ("b", "<f4", (2,))], (3, 2))]),
    "titles": np.dtype([(("the first", "a"), ">i4"), (("the second", "b"), "<f4")]),
    "out of order": np.dtype(
        {"names": ["late", "early"], "formats": [">i4", "<f8"], "offsets": [8, 0], "itemsize": 12}
    ),
    "overlapping": np.dtype(
        {"names": ["word", "high", "low"], "formats": [">u4", ">u2", ">u2"], "offsets": [0, 0, 2]}
    ),
    "zero-size fields": np.dtype([("a", ">i4"), ("none", "S0"), ("v", "V0"), ("b", ">f8")]),
    "empty sub-array": np.dtype([("a", ">i4"), ("m", ">f8", (0, 3))]),
    "one field": np.dtype([("only", ">f8")]),
    "odd names": np.dtype([("a b", ">i4"), ("\u00e9t\u00e9", ">f4"), ("'", "u1"), ("1", "u1")]),
    "record type": np.dtype((np.record, [("a", ">i4"), ("b", "<f8")])),
    "long double": np.dtype([("g", ">g"), ("G", "<G"), ("a", "u1")]),
    "field metadata": np.dtype([("a", np.dtype(">i4", metadata={"k": 1})), ("b", "f8")]),
}
WITH_OBJECTS = {
    "object": np.dtype(object),
    "struct with object": np.dtype([("a", ">i4"), ("o", object), ("b", ">f8")]),
    "struct with object sub-array": np.dtype([("o", object, (2,)), ("a", ">u2")]),
    "struct with object and more": np.dtype(
        [
            ("o", object),
            ("cells", [("t", "<M8"), ("g", ">g"), ("e", ">f2"), ("o", object, (2,)), ("s", ">U3", (2, 1))], (2,)),
            ("none", "S0"),
            ("r", ">M8[25s]"),
            (("the title", "ns"), ">m8[ns]"),
        ]
    ),
    "aligned struct with object": np.dtype([("o", object), ("flag", "?")], align=True),
    "record type with object": np.dtype((np.record, [("a", ">i4"), ("o", object)])),
    "object with metadata": np.dtype(object, metadata={"k": "v"}),
}
if hasattr(np.dtypes, "StringDType"):
    WITH_OBJECTS["StringDType"] = np.dtypes.StringDType()
    WITH_OBJECTS["StringDType with NA"] = np.dtypes.StringDType(na_object=None, coerce=False)


def flat(dtype):
    return lambda size, folder: values(dtype, count_for(dtype, size))


def table(dtype):
    def make(size, folder):
        rows = 4 if size == "small" else count_for(dtype, size) // 3 + 1
        return values(dtype, rows * 3).reshape(rows, 3)

    return make


for group in (SIMPLE, STRUCTURED, WITH_OBJECTS):
    for name, dtype in group.items():
        # A large array with objects takes no other way than a small one: it is pickled.
        sizes = SMALL if dtype.hasobject else BOTH
        add(f"dtype {name}", flat(dtype), sizes)
        add(f"dtype {name}, 2-D", table(dtype), SMALL)
        add(f"dtype instance {name}", lambda size, folder, dtype=dtype: dtype, SMALL)

add("dtype large object", lambda size, folder: values(object, LIMIT_OBJECTS), SMALL)
LIMIT_OBJECTS = (1 << 17) + 5  # over 1 MB of pointers


def empty_items(size, folder):
    """Elements of no bytes: V0 is the one plain dtype that NumPy leaves at size 0."""
    return np.empty(5 if size == "small" else 1 << 21, "V0")


add("dtype V0", empty_items, SMALL)


def no_characters(dtype):
    """Elements without bytes, strings among them: NumPy leaves those alone in fields only. Strides are the struct's."""
    return lambda size, folder: np.zeros((3, 2), [("text", dtype), ("n", ">i4")])["text"]


for text in ("S0", "<U0", ">U0"):
    add(f"dtype {text}", no_characters(text), SMALL)
    add(f"dtype {text}, transposed", lambda size, folder, t=text: no_characters(t)(size, folder).T[::-1], SMALL)
    add(f"dtype {text}, huge axis", lambda size, folder, t=text: huge_axis(no_characters(t)(size, folder)), SMALL)
for text in ("V0", [("a", ">i4", (0,))], [("o", object, (0, 2))], np.dtype((np.record, [("s", "S0")]))):
    add(f"dtype {text}, field", lambda size, folder, t=text: no_characters(t)(size, folder), SMALL)
    add(f"dtype {text}, reversed", lambda size, folder, t=text: no_characters(t)(size, folder)[::-1].T, SMALL)
    add(f"dtype {text}, 0-d", lambda size, folder, t=text: no_characters(t)(size, folder)[0, :1].reshape(()), SMALL)
add("dtype V0, huge axis", lambda size, folder: np.empty((1 << 40, 3), "V0"), SMALL)


def huge_axis(array):
    return np.lib.stride_tricks.as_strided(array, (3, 0, 1 << 40), (0, 0, 0))
