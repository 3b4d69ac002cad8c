"""Cases of arrays inside other objects, and of objects inside arrays."""

import collections
import dataclasses

import numpy as np

from .catalogue import LIMIT, SMALL, case, values

Pair = collections.namedtuple("Pair", "left right")


@dataclasses.dataclass
class Model:
    weights: np.ndarray
    bias: np.ndarray
    name: str


def vector(dtype, size, extra=0):
    return values(dtype, (6 if size == "small" else LIMIT // np.dtype(dtype).itemsize + 5) + extra)


def table(dtype, size):
    return vector(dtype, size)[: 6 if size == "small" else None][::-1]


@case("in list")
def in_list(size, folder):
    return [vector(">f8", size), vector("<i4", size), vector(">f8", size)[::-2], []]


@case("in dict")
def in_dict(size, folder):
    return {"a": vector(">i4", size), 2: {"b": vector(">M8[s]", size)}, (3, 4): vector(">U2", size)}


@case("in tuple")
def in_tuple(size, folder):
    return (vector(">c16", size), (vector(">f4", size), None), 1.5)


@case("in named tuple")
def in_named_tuple(size, folder):
    return Pair(vector(">f8", size), [vector(">i2", size)])


@case("in OrderedDict")
def in_ordered_dict(size, folder):
    return collections.OrderedDict(z=vector(">f8", size), a=vector(">i2", size))


@case("in dataclass")
def in_dataclass(size, folder):
    return Model(vector(">f8", size), np.array(2, ">i4"), "m")


@case("in object array")
def in_object_array(size, folder):
    out = np.empty(4, object)
    out[0] = vector(">f8", size)
    out[1] = vector("<f8", size)[::-1]
    out[2] = {"k": vector(">i2", size)}
    return out


@case("in 2-D object array, transposed")
def in_object_grid(size, folder):
    out = np.empty((2, 3), object)
    for i in range(6):
        out.flat[i] = vector(">i4", size, i)
    return out.T


@case("in object field")
def in_object_field(size, folder):
    out = np.zeros(3, [("n", ">i4"), ("o", object)])
    out["n"] = [1, 2, 3]
    out["o"][0] = vector(">f8", size)
    out["o"][2] = "text"
    return out


@case("deep nesting")
def deep(size, folder):
    inner = vector(">f8", size)
    for i in range(30):
        inner = [i, inner] if i % 2 else {"k": inner}
    return inner


@case("many arrays")
def many(size, folder):
    return [values(">i4", n) for n in range(300)] + [vector(">f8", size)]


@case("the same array twice")
def twice(size, folder):
    array = vector(">f8", size)
    return [array, array, {"again": array}]


@case("two views of one array")
def two_views(size, folder):
    array = vector(">f8", size)
    return [array, array[::-1], array[:]]


@case("the same list twice")
def list_twice(size, folder):
    inner = [vector(">i4", size)]
    return {"a": inner, "b": inner}


@case("the same subclass twice")
def subclass_twice(size, folder):
    array = np.asmatrix(vector(">f8", size))
    return (array, array)


@case("object array that holds itself", SMALL)
def self_reference(size, folder):
    out = np.empty(3, object)
    out[0] = out
    out[1] = [out, np.array([1, 2], ">i4")]
    return out


@case("object array that holds one array twice")
def shared_element(size, folder):
    out = np.empty(3, object)
    out[0] = out[2] = vector(">f8", size)
    return out


@case("list that holds itself", SMALL)
def cyclic_list(size, folder):
    out = [np.array([1.5], ">f8")]
    out.append(out)
    return out


@case("object array of scalars", SMALL)
def object_scalars(size, folder):
    out = np.empty(5, object)
    out[:] = [np.float32(1.5), np.datetime64("NaT", "s"), np.int8(-1), float("nan"), -0.0]
    return out


@case("plain objects only", SMALL)
def plain(size, folder):
    return [None, True, -1, 2**80, -0.0, float("nan"), 1 + 2j, "t\u00e9xt", b"\0", {1, 2}, [], ()]
