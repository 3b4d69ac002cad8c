"""Arrays that are more than a dtype, a shape and strides over plain memory: objects, masks, subclasses, files.

The reducers here are called by `_core.Encoder` with the array and the encoder. They return a tuple as `__reduce__`
does, or NotImplemented, which leaves the array to the C code (or, for a dtype, to NumPy's own pickling).
"""

from __future__ import annotations

import copyreg
import mmap
import os
import warnings

import numpy as np

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_VOID = 20
_FIRST_FOREIGN = 24


# ---- dtypes that a short name does not describe ---------------------------------------------------------------------


def special_dtype(array: Any, encoder: Any) -> Any:
    """Return the dtype, where the bytes can travel as they are; else a reduction of the whole array."""
    dtype = array.dtype
    if dtype.itemsize == 0:  # there is nothing that its strides could step over
        return _no_items, (array.shape, dtype, type(array))
    if not dtype.hasobject and (dtype.num == _VOID or dtype.num < _FIRST_FOREIGN):
        return dtype
    # Objects are pickled one by one; foreign types (strings of any length, bfloat16) know how to do it themselves.
    if array.flags.c_contiguous or array.size == 0:
        if dtype.names is not None:
            return _reduce_struct(array)
        return _view_class(array, array.view(np.ndarray).__reduce_ex__(2))
    packed, order, flipped, shape = _pack(array.view(np.ndarray))
    return _unpack, (packed, order, flipped, shape, type(array))


def reduce_date_dtype(dtype: Any, encoder: Any) -> Any:
    """Reduce a dtype of dates: NumPy's own pickle of one without a unit comes back in the machine's byte order."""
    if dtype.str[0] == np.dtype("M8").str[0] or dtype.str[2:] != "8":
        return NotImplemented
    return _date_dtype, (dtype.str,)


def _date_dtype(text: str) -> Any:
    return np.dtype(text).newbyteorder(text[0])  # type: ignore[arg-type]


def _no_items(shape: tuple[int, ...], dtype: Any, cls: Any) -> Any:
    """Return an array of elements without bytes; NumPy leaves strings of no characters alone in a field only."""
    array = np.empty(shape, [("text", dtype)])["text"]
    return array if cls is np.ndarray else array.view(cls)


def _view_class(array: Any, reduced: Any) -> Any:
    """Give NumPy's reduction the class of the array: it makes an empty one of it, and sets its state."""
    function, args, state = reduced
    return function, (type(array), *args[1:]), state


# ---- structs with objects: NumPy pickles them as lists, in which dates without a unit are lost ---------------------


def _reduce_struct(array: Any) -> Any:
    plain = np.zeros(array.shape, _without_objects(array.dtype))
    fields = np.ndarray.view(array, np.ndarray)
    _copy_fields(fields, plain)
    return _empty_struct, (plain, array.dtype, type(array)), _object_columns(fields), None, None, _set_columns


def _without_objects(dtype: Any) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.dtype((_without_objects(base), shape))
    if dtype.names is None:
        return np.dtype(f"V{dtype.itemsize}") if dtype.hasobject else dtype
    fields = [dtype.fields[name] for name in dtype.names]
    return np.dtype(
        {
            "names": list(dtype.names),
            "formats": [_without_objects(field[0]) for field in fields],
            "offsets": [field[1] for field in fields],
            "itemsize": dtype.itemsize,
        }
    )


def _copy_fields(source: Any, target: Any) -> None:
    """Copy what is no object, bit by bit."""
    if source.dtype.names is not None:
        for name in source.dtype.names:
            _copy_fields(source[name], target[name])
    elif source.dtype.itemsize > 0 and not source.dtype.hasobject and not target.dtype.hasobject:
        target[...] = source


def _object_columns(array: Any) -> list[Any]:
    if array.dtype.names is not None:
        return [column for name in array.dtype.names for column in _object_columns(array[name])]
    return [array] if array.dtype.hasobject else []


def _empty_struct(plain: Any, dtype: Any, cls: Any) -> Any:
    array = np.empty(plain.shape, dtype)
    _copy_fields(plain, array)
    return array if cls is np.ndarray else array.view(cls)


def _set_columns(array: Any, columns: list[Any]) -> None:
    for target, column in zip(_object_columns(np.ndarray.view(array, np.ndarray)), columns, strict=True):
        target[...] = column


# ---- other layouts than C's ------------------------------------------------------------------------------------


def _pack(array: Any) -> tuple[Any, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the elements in the order of memory, each once, and what leads back to the array's own layout."""
    shape = array.shape
    flipped = tuple(i for i, stride in enumerate(array.strides) if stride < 0)
    # An axis of stride 0 repeats its first element.
    index = tuple(
        slice(None, None, -1) if stride < 0 else slice(0, 1) if stride == 0 and n > 1 else slice(None)
        for n, stride in zip(shape, array.strides, strict=True)
    )
    core = array[index]
    order = tuple(sorted(range(core.ndim), key=lambda i: -core.strides[i]))
    return np.ascontiguousarray(core.transpose(order)) if core.ndim else core, order, flipped, shape


def _unpack(packed: Any, order: tuple[int, ...], flipped: tuple[int, ...], shape: tuple[int, ...], cls: Any) -> Any:
    back = [0] * len(order)
    for at, axis in enumerate(order):
        back[axis] = at
    array = packed.transpose(back)
    if flipped:
        array = array[tuple(slice(None, None, -1) if i in flipped else slice(None) for i in range(array.ndim))]
    if array.shape != shape:
        array = np.broadcast_to(array, shape)  # not as_strided, which refuses some structs with objects
        array.flags.writeable = packed.flags.writeable
    return array if cls is np.ndarray else array.view(cls)


# ---- masks and subclasses -------------------------------------------------------------------------------------------


def reduce_masked(array: Any, encoder: Any) -> Any:
    """Reduce a MaskedArray to its data, as an array of its own, and its attributes (mask, fill value, ...)."""
    state = {name: _without_maps(value) for name, value in array.__dict__.items() if not isinstance(value, mmap.mmap)}
    data = np.ndarray.view(array, np.ndarray)
    return _rebuild_masked, (data, state)


def _without_maps(value: Any) -> Any:
    """Leave out the map that a masked view of a memmap notes among its options: it belongs to this process."""
    if type(value) is not dict:
        return value
    return {name: item for name, item in value.items() if not isinstance(item, mmap.mmap)}


def _rebuild_masked(data: Any, state: dict[str, Any]) -> Any:
    array = _plain(data).view(np.ma.MaskedArray)
    array.__dict__.update(state)
    return array


def _plain(data: Any) -> Any:
    """Return a large argument, which arrives as a memmap, as the ndarray that it was inside another object."""
    array = np.asarray(data)
    return array if array.flags.writeable else array.copy(order="K")


def reduce_subclass(array: Any, encoder: Any) -> Any:
    """Reduce an instance of a subclass: by descriptor where it is pickled as ndarray is, else in its own way."""
    cls = type(array)
    registered = copyreg.dispatch_table.get(cls)
    if registered is None and (
        cls.__reduce__ is np.ndarray.__reduce__
        and cls.__reduce_ex__ is np.ndarray.__reduce_ex__
        and cls.__setstate__ is np.ndarray.__setstate__
    ):
        data = np.ndarray.view(array, np.ndarray)
        return _rebuild_subclass, (cls, data, dict(getattr(array, "__dict__", {})))
    return _keep_dtype(array, array.__reduce_ex__(5) if registered is None else registered(array))


def reduce_odd_matrix(array: Any, encoder: Any) -> Any:
    """Reduce a matrix of other than two axes, which only NumPy's own way of pickling can make again."""
    return _keep_dtype(array, array.__reduce_ex__(2))


def _keep_dtype(array: Any, reduced: Any) -> Any:
    if not isinstance(reduced, tuple) or len(reduced) > 5:  # it does without us
        return reduced
    function, args, state, items, pairs = (*reduced, None, None, None)[:5]
    if state is None:
        return _call_and_restore, (function, args, array.dtype), None, items, pairs
    return function, args, (state, array.dtype), items, pairs, _set_state


def _rebuild_subclass(cls: Any, data: Any, attributes: dict[str, Any]) -> Any:
    data = _plain(data)
    try:
        array = data.view(cls)
    except Exception:  # an __array_finalize__ that only knows arrays of its own class
        array = np.ndarray.__new__(cls, data.shape, data.dtype, order="F" if data.flags.fnc else "C")
        np.ndarray.view(array, np.ndarray)[...] = data
    if attributes:
        array.__dict__.update(attributes)
    return array


def _call_and_restore(function: Any, args: tuple[Any, ...], dtype: Any) -> Any:
    array = function(*args)
    _restore_dtype(array, dtype)
    return array


def _set_state(array: Any, state_and_dtype: tuple[Any, Any]) -> None:
    state, dtype = state_and_dtype
    if hasattr(array, "__setstate__"):
        array.__setstate__(state)
    else:
        array.__dict__.update(state)
    _restore_dtype(array, dtype)


def _restore_dtype(array: Any, dtype: Any) -> None:
    """Put the byte order back that NumPy's `__setstate__` drops: it swaps foreign bytes and forgets that it did."""
    if not isinstance(array, np.ndarray) or array.dtype == dtype:
        return
    if array.dtype.newbyteorder() != dtype:  # something else on purpose
        return
    np.ndarray.view(array, np.ndarray).byteswap(inplace=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of setting a dtype in place: this array is still ours
        np.ndarray.dtype.__set__(array, dtype)  # type: ignore[attr-defined]


# ---- arrays that do not leave the pickle -------------------------------------------------------------------------


def in_band(reducer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a `reducer_override` for pickles without an encoder: those of exceptions, which may hold arrays."""

    def reduce(obj: Any) -> Any:
        if isinstance(obj, np.dtype) and obj.kind in "mM":
            return reduce_date_dtype(obj, None)
        if not isinstance(obj, np.ndarray) or type(obj) is np.ndarray:
            return reducer(obj)
        if type(obj) is np.ma.MaskedArray:
            return reduce_masked(obj, None)
        return np.asarray(obj).__reduce_ex__(5) if type(obj) is np.memmap else reduce_subclass(obj, None)

    return reduce


# ---- memory maps of the user: by file, offset and mode --------------------------------------------------------------


def reduce_view(array: Any, encoder: Any) -> Any:
    """Reduce a large ndarray that is a view of a user's memmap as that memmap."""
    if encoder.is_result or encoder.max_nbytes < 0 or array.nbytes <= encoder.max_nbytes:
        return NotImplemented
    base = array.base
    while isinstance(base, np.ndarray) and type(base) is not np.memmap:
        base = base.base
    return _by_file(array, base) if type(base) is np.memmap else NotImplemented


def reduce_memmap(array: Any, encoder: Any) -> Any:
    """Reduce a user's memmap, or a view of one, to where it lies in its file."""
    return _by_file(array, array)


def _by_file(array: Any, owner: Any) -> Any:
    mapped = getattr(owner, "_mmap", None)
    # Private changes ('c') are in no file, and neither is memory of the engine.
    if not isinstance(mapped, mmap.mmap) or owner.mode not in ("r", "r+", "w+") or owner.filename is None:
        return NotImplemented
    name = os.path.abspath(os.fspath(owner.filename))
    start = _address(np.ndarray((1,), "u1", mapped)) if len(mapped) else 0
    file_start = owner.offset - owner.offset % mmap.ALLOCATIONGRANULARITY
    low, high = _extent(array)
    first = _address(array) + low
    if array.size == 0 or not start <= first <= first + (high - low) <= start + len(mapped):
        return NotImplemented
    if not _is_mapping_of(start, name):
        return NotImplemented
    mode = "r" if owner.mode == "r" or not array.flags.writeable else "r+"
    return _open_memmap, (
        name,
        mode,
        array.dtype,
        array.shape,
        array.strides,
        file_start,
        first + (high - low) - start,
        _address(array) - start,
        owner.offset,
        "r" if owner.mode == "r" else "r+",  # w+ would empty the file if it were used again
    )


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _extent(array: Any) -> tuple[int, int]:
    """Return the first and the last byte that the array touches, counted from its first element."""
    low, high = 0, array.itemsize
    for n, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (n - 1) * stride
        else:
            high += (n - 1) * stride
    return low, high


def _is_mapping_of(address: int, name: str) -> bool:
    """True when memory at this address is a mapping of the file that has this name now."""
    try:
        there = os.stat(name)
        with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
            for line in maps:
                span, _, _, device, inode = line.split(None, 5)[:5]
                low, high = span.split("-")
                if int(low, 16) <= address < int(high, 16):
                    major, minor = (int(part, 16) for part in device.split(":"))
                    return int(inode) == there.st_ino and os.makedev(major, minor) == there.st_dev
    except OSError:  # no such file any more, or no /proc: the bytes are sent instead
        return False
    return False


def _open_memmap(
    name: str,
    mode: str,
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    start: int,
    size: int,
    origin: int,
    offset: int,
    shown_mode: str,
) -> Any:
    """Map a file, from where its memmap began, as the array that it was in the process that sent it."""
    access = mmap.ACCESS_READ if mode == "r" else mmap.ACCESS_WRITE
    with open(name, "rb" if mode == "r" else "r+b") as file:
        there = os.fstat(file.fileno()).st_size
        if there < start + size:
            raise ValueError(
                f"the file {name!r} of a memmap has {there} bytes now, and the array needs {start + size}: it was cut "
                "after it had been mapped; write it anew, or send a part that is there"
            )
        mapped = mmap.mmap(file.fileno(), size, access=access, offset=start)
    array = np.ndarray.__new__(np.memmap, shape, dtype, mapped, origin, strides)
    array._mmap = mapped
    array.filename = name
    array.offset = offset
    array.mode = shown_mode
    return array
