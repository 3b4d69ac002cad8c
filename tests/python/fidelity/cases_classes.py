"""Cases by class: matrix, MaskedArray, recarray, subclasses of every habit, NumPy scalars."""

import copyreg

import numpy as np

from .cases_dtypes import SIMPLE, STRUCTURED
from .catalogue import LIMIT, SMALL, add, case, values


class Tagged(np.ndarray):
    """A subclass that leaves pickling alone and has attributes."""

    def __array_finalize__(self, source):
        self.tag = getattr(source, "tag", None)


class Bare(np.ndarray):
    """A subclass that adds nothing."""


class OwnReduce(np.ndarray):
    """NumPy's documented way to keep an attribute: __reduce__ and __setstate__."""

    def __array_finalize__(self, source):
        self.unit = getattr(source, "unit", None)

    def __reduce__(self):
        rebuild, arguments, state = super().__reduce__()
        return rebuild, arguments, state + (self.unit,)

    def __setstate__(self, state):
        self.unit = state[-1]
        super().__setstate__(state[:-1])


class OwnReduceEx(np.ndarray):
    """A subclass that rebuilds itself from a plain array."""

    def __reduce_ex__(self, protocol):
        return rebuild_own, (np.asarray(self), dict(self.__dict__))


def rebuild_own(array, attributes):
    out = array.view(OwnReduceEx)
    out.__dict__.update(attributes)
    return out


class Registered(np.ndarray):
    """A subclass whose way to be pickled is registered with copyreg."""

    def __array_finalize__(self, source):
        self.how = getattr(source, "how", None)


def rebuild_registered(data, dtype, how):
    out = np.frombuffer(bytearray(data), dtype).view(Registered)
    out.how = how
    return out


copyreg.pickle(Registered, lambda x: (rebuild_registered, (x.tobytes(), x.dtype, x.how)))


class Holder:
    """The state of an array kept in an attribute, pickled by default."""


def vector(dtype, size):
    return values(dtype, 6 if size == "small" else LIMIT // np.dtype(dtype).itemsize + 5)


def grid(dtype, size):
    columns = 2 if size == "small" else LIMIT // np.dtype(dtype).itemsize // 3 + 5
    return values(dtype, 3 * columns).reshape(3, columns)


def tagged(cls, array, **attributes):
    out = array.view(cls)
    out.__dict__.update(attributes)
    return out


def masked(array, mask, **options):
    return np.ma.MaskedArray(array, mask=mask, **options)


def every_third(array):
    return (np.arange(array.size) % 3 == 0).reshape(array.shape)


def hard(array):
    out = masked(array, every_third(array))
    out.harden_mask()
    return out


def struct_mask(array):
    mask = np.zeros(array.shape, np.ma.make_mask_descr(array.dtype))
    mask["a"][::2] = True
    return masked(array, mask)


MASKED = {
    "no mask": lambda a: np.ma.MaskedArray(a),
    "full mask": lambda a: masked(a, every_third(a)),
    "all masked": lambda a: masked(a, True),
    "mask of falses": lambda a: masked(a, np.zeros(a.shape, bool)),
    "hard mask": hard,
    "shared mask": lambda a: masked(a, every_third(a))[...],
    "custom fill": lambda a: masked(a, every_third(a), fill_value=a.dtype.type(77)),
    "transposed": lambda a: masked(a, every_third(a)).T,
    "reversed": lambda a: masked(a, every_third(a))[:, ::-1],
    "Fortran": lambda a: masked(np.asfortranarray(a), np.asfortranarray(every_third(a))),
    "0-d": lambda a: masked(a[0, 0], True),
}

for name, wrap in MASKED.items():
    for text in (">f8", "<i4", ">c16"):
        sizes = SMALL if name == "0-d" else ("small", "large")
        add(f"masked {name}, {text}", lambda size, folder, w=wrap, t=text: w(grid(t, size)), sizes)
add("masked dates", lambda size, folder: masked(vector(">M8[s]", size), False))
add("masked text", lambda size, folder: masked(vector(">U3", size), [True] + [False] * 5), SMALL)
add("masked struct", lambda size, folder: struct_mask(vector(STRUCTURED["mixed byte orders"], size)))
add("masked object", lambda size, folder: masked(vector("O", size), [0, 1, 0, 1, 0, 0]), SMALL)
add("masked constant", lambda size, folder: masked(np.array([1, 2], ">i2"), True, fill_value=-5), SMALL)
add("matrix of mask", lambda size, folder: masked(np.asmatrix(grid(">f8", size)), False), SMALL)

for text in (">f8", "<i2", ">c8", "?", ">U2", "S4", ">m8[us]"):
    add(f"matrix {text}", lambda size, folder, t=text: np.asmatrix(grid(t, size)))
add("matrix transposed", lambda size, folder: np.asmatrix(grid(">f8", size)).T)
add("matrix reversed", lambda size, folder: np.asmatrix(grid(">f8", size))[:, ::-1])

# Matrices of other than two axes, which indexing with None leaves.
for text in (">f8", "<i2", ">M8[s]"):
    add(f"matrix of three axes {text}", lambda size, folder, t=text: np.asmatrix(grid(t, size))[None], SMALL)

for name in ("mixed byte orders", "nested", "padded", "aligned", "titles", "sub-arrays"):
    dtype = STRUCTURED[name]
    add(f"recarray {name}", lambda size, folder, d=dtype: vector(d, size).view(np.recarray))
    add(f"record {name}", lambda size, folder, d=dtype: vector(d, size).view(np.recarray)[1], SMALL)
add("recarray stepped", lambda size, folder: vector(STRUCTURED["padded"], size).view(np.recarray)[::-2], SMALL)
add("recarray field", lambda size, folder: vector(STRUCTURED["nested"], size).view(np.recarray).p, SMALL)
add("recarray plain dtype", lambda size, folder: vector(">f8", size).view(np.recarray))

for cls in (Bare, Tagged, OwnReduce, OwnReduceEx):
    for text in (">f8", "<f8", ">M8[s]", ">i4,<f8"):
        own = {"unit" if cls is OwnReduce else "note": {"k": [1, 2]}} if cls is not Bare else {}
        add(
            f"subclass {cls.__name__}, {text}",
            lambda size, folder, c=cls, t=text, o=own: tagged(c, vector(t, size), **o),
        )
    add(f"subclass {cls.__name__}, transposed", lambda size, folder, c=cls: grid(">f8", size).T.view(c))
    add(f"subclass {cls.__name__}, reversed", lambda size, folder, c=cls: grid(">f8", size)[::-1].view(c))
    add(f"subclass {cls.__name__}, 0-d", lambda size, folder, c=cls: np.array(1.5, ">f8").view(c), SMALL)
    add(f"subclass {cls.__name__}, empty", lambda size, folder, c=cls: np.empty((0, 2), ">i4").view(c), SMALL)


for text in (">f8", "<i2"):
    add(f"subclass Registered, {text}", lambda size, folder, t=text: tagged(Registered, vector(t, size), how="so"))


@case("subclass Tagged with an array in an attribute")
def tagged_with_array(size, folder):
    return tagged(Tagged, vector(">i4", size), other=vector(">f8", size)[::-1])


for text, dtype in SIMPLE.items():
    add(f"scalar {text}", lambda size, folder, d=dtype: values(d, 3)[1], SMALL)
    add(f"scalar first {text}", lambda size, folder, d=dtype: values(d, 3)[0], SMALL)
for text, dtype in STRUCTURED.items():
    add(f"scalar {text}", lambda size, folder, d=dtype: values(d, 3)[1], SMALL)
add("scalar void 0", lambda size, folder: np.void(b""), SMALL)
add("scalar bool", lambda size, folder: np.True_, SMALL)
add("scalar masked", lambda size, folder: [np.ma.masked is not None, np.float64("nan")], SMALL)
add("scalar types", lambda size, folder: [np.float64, np.dtype, np.ndarray, np.generic], SMALL)
