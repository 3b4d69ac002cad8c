"""The comparison itself: it must see each kind of difference, and only those."""

import numpy as np
import pytest

from .exact import Rules, assert_same, describe, differences

ALIGNED = np.dtype("i4,f8", align=True)
BASE = np.arange(12, dtype=">f8").reshape(3, 4)


def nan(payload):
    return np.array([0x7FF8000000000000 + payload], "u8").view("f8")


def with_attribute(value):
    class_ = type("Sub", (np.ndarray,), {"__module__": "m", "__qualname__": "Sub"})
    out = BASE.view(class_)
    out.note = value
    return out


def hard_masked(hard):
    return np.ma.MaskedArray(BASE, mask=BASE > 3, hard_mask=hard)


def read_only(array):
    out = array.copy()
    out.flags.writeable = False
    return out


def pair(same):
    one = [1.5]
    return [one, one if same else [1.5]]


def records(second_offset, padding=0):
    dtype = {"names": "ab", "formats": [">i4", "u1"], "offsets": [0, second_offset], "itemsize": 12}
    raw = np.full(24, padding, "u1").view(np.dtype(dtype))
    raw["a"], raw["b"] = [1, 2], [3, 4]
    return raw


DIFFERENT = {
    "byte order": (BASE, BASE.astype("<f8")),
    "byte order in a scalar's dtype": (np.dtype(">i2"), np.dtype("<i2")),
    "values": (BASE, BASE + 1),
    "one bit": (nan(1), nan(2)),
    "minus zero": (np.array([0.0]), np.array([-0.0])),
    "python nan sign": (float("nan"), -float("nan")),
    "NaT": (np.array(["NaT"], "M8[s]"), np.array([0], "M8[s]")),
    "unit": (np.array([0], "M8[s]"), np.array([0], "M8[ms]")),
    "multiple of a unit": (np.dtype("M8[25s]"), np.dtype("M8[s]")),
    "shape": (BASE, BASE.reshape(4, 3)),
    "order": (BASE, np.asfortranarray(BASE)),
    "sign of a stride": (BASE[::-1], BASE[::-1].copy()),
    "zero stride": (np.broadcast_to(BASE[:, :1], (3, 4)), np.broadcast_to(BASE[:, :1], (3, 4)).copy()),
    "type": (BASE, np.asmatrix(BASE)),
    "ndarray for a subclass": (with_attribute(1), BASE),
    "attribute": (with_attribute(1), with_attribute(2)),
    "mask": (np.ma.MaskedArray(BASE, mask=BASE > 3), np.ma.MaskedArray(BASE, mask=BASE > 4)),
    "no mask": (np.ma.MaskedArray(BASE), np.ma.MaskedArray(BASE, mask=np.zeros(BASE.shape, bool))),
    "fill value": (np.ma.MaskedArray(BASE, fill_value=1), np.ma.MaskedArray(BASE, fill_value=2)),
    "hard mask": (hard_masked(True), hard_masked(False)),
    "writability": (BASE.copy(), read_only(BASE)),
    "field offset": (records(4), records(8)),
    "alignment": (ALIGNED, np.dtype({"names": ["f0", "f1"], "formats": ["i4", "f8"], "offsets": [0, 8]})),
    "title": (np.dtype([(("t", "a"), "i4")]), np.dtype([("a", "i4")])),
    "metadata": (np.dtype("i4", metadata={"a": 1}), np.dtype("i4")),
    "record class": (np.dtype([("a", "i4")]), np.dtype((np.record, [("a", "i4")]))),
    "identity": (pair(True), pair(False)),
    "scalar type": (np.float32(1), np.float64(1)),
    "scalar for a number": (np.float64(1), 1.0),
    "int for a bool": (1, True),
    "tuple for a list": ((1,), [1]),
    "object element": (np.array([1, None], object), np.array([1, 2], object)),
    "0-d": (np.array(1.0), np.float64(1.0)),
    "empty shape": (np.empty((0, 3)), np.empty((3, 0))),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_difference_is_seen(name):
    one, other = DIFFERENT[name]
    assert_same(one, one)
    assert_same(other, other)
    with pytest.raises(AssertionError):
        assert_same(one, other)


def test_padding_does_not_count():
    assert_same(records(8, 0), records(8, 255))


def test_padding_of_long_doubles_does_not_count():
    if np.finfo("g").nmant != 63:
        pytest.skip("long double has no unused bytes on this machine")
    one = np.array([1.5, -2], "g")
    other = one.copy()
    other.view("u1")[10:16] ^= 255
    assert_same(one, other)
    assert_same(one.astype(">g"), other.byteswap().view(">g"))


def test_distance_of_strides_does_not_count():
    view = BASE[:, ::2]
    assert_same(view, view.copy())
    assert_same(BASE[::-2], BASE[::-2][::-1].copy()[::-1])


def test_cycles_end():
    cycle = [BASE]
    cycle.append(cycle)
    assert_same(cycle, cycle)


def test_unknown_types_are_errors():
    with pytest.raises(TypeError, match="does not know"):
        describe(object())


def mapped(tmp_path, mode):
    path = tmp_path / "data"
    BASE.tofile(path)
    return np.memmap(path, ">f8", mode, shape=BASE.shape)


ARGUMENT = Rules("argument", max_nbytes=BASE.nbytes - 1)


@pytest.mark.parametrize(
    "mode, rules, good",
    [
        ("c", ARGUMENT, True),
        ("r", ARGUMENT, False),
        ("r", Rules("argument", BASE.nbytes - 1, "r"), True),
        ("c", Rules("argument", BASE.nbytes), False),
        ("c", Rules("argument", None), False),
        ("c", Rules("argument", BASE.nbytes - 1, None), False),
        ("c", Rules("result"), False),
        ("c", Rules("same"), False),
    ],
)
def test_where_an_ndarray_may_become_a_memmap(tmp_path, mode, rules, good):
    got = mapped(tmp_path, mode)
    found = list(differences(describe(BASE.copy()), describe(got), rules))
    assert (not found) == good, found


def test_a_large_argument_must_be_a_memmap():
    assert list(differences(describe(BASE.copy()), describe(BASE.copy()), ARGUMENT))


def test_a_memmap_needs_a_file_name(tmp_path):
    got = mapped(tmp_path, "c")
    got.filename = None
    assert list(differences(describe(BASE.copy()), describe(got), ARGUMENT))


def test_what_arrives_is_writable():
    sent = read_only(BASE)
    assert_same(sent, BASE.copy(), Rules("argument"))
    assert list(differences(describe(sent), describe(sent), Rules("argument")))


def test_a_users_memmap_keeps_its_mode(tmp_path):
    sent = describe(mapped(tmp_path, "r"))
    changed = describe(mapped(tmp_path, "r+"))
    assert not list(differences(sent, sent, Rules("argument")))
    assert list(differences(sent, changed, Rules("argument")))
    assert list(differences(sent, describe(BASE.copy()), Rules("argument")))
    assert not list(differences(sent, describe(BASE.copy()), Rules("result")))
    assert not list(differences(sent, describe(BASE.copy()), Rules("argument", stale_file=True)))
