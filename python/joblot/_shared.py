"""Memory that the program and its workers have at the same time: `joblot.empty` and `joblot.share`."""

from __future__ import annotations

import operator
import os

from . import _core, _processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import numpy as np

_FIRST_FOREIGN = 24


def empty(
    shape: Any, dtype: Any = float, order: str = "C", *, folder: str | os.PathLike[str] | None = None
) -> np.ndarray[Any, Any]:
    """Return a new array in memory that worker processes share.

    It is an ordinary array of zeros. Where it is part of a task, whole or as any view of it, the worker does not get a
    copy but the memory itself: it may write to it, and everybody sees what it wrote. A result that lies in such an
    array comes back as a view of it. Inside a task, `empty` makes an array that the parent gets without a copy when
    the task returns it. The memory is given back when the last array on it, in any process, is gone.

    Parameters
    ----------
    shape : int or sequence of int
        Lengths of the axes.
    dtype : data-type, optional
        Any of NumPy's own but those that hold Python objects. The byte order is kept.
    order : {'C', 'F'}, optional
        Which axis is the innermost: the last (C), or the first (F).
    folder : path-like, optional
        Where the memory lies: an unnamed file in this folder. By default JOBLIB_TEMP_FOLDER, or, where that is not
        set, main memory if it holds the array, else the system's folder for temporary files.

    Returns
    -------
    numpy.ndarray
        Writable, filled with zeros.

    Raises
    ------
    TypeError
        The dtype holds Python objects, or is not one of NumPy's own.
    ValueError
        A length is negative, the array is too large, or `order` is neither 'C' nor 'F'.
    MemoryError
        Neither memory nor the folder has room for it.
    OSError
        No further file can be opened (``ulimit -n``): each such array is one in every process that knows it.

    Notes
    -----
    Nothing orders the accesses of several tasks to one element. Copies (``copy``, pickle, `dump`) are ordinary arrays.

    Examples
    --------
    >>> import joblot
    >>> squares = joblot.empty(4, dtype=int)
    >>> def fill(out, i):
    ...     out[i] = i * i
    >>> joblot.Parallel(n_jobs=2)(joblot.delayed(fill)(squares, i) for i in range(4))
    [None, None, None, None]
    >>> squares
    array([0, 1, 4, 9])
    """
    import numpy as np

    dtype = np.dtype(dtype)
    _check_dtype(dtype)
    if order not in ("C", "F", "c", "f"):
        raise ValueError(f"order must be 'C' or 'F', got {order!r}")
    letter: Any = order.upper()
    lengths = _lengths(shape)
    n_bytes = dtype.itemsize
    for length in lengths:
        n_bytes *= length
    if n_bytes > 2**63 - 1:
        raise ValueError(f"an array of shape {lengths} and dtype {dtype} is too large: {n_bytes} bytes")
    if n_bytes == 0:  # there is nothing to share
        return np.ndarray(lengths, dtype, order=letter)
    memory = _core.shared_memory(n_bytes, *_folders(folder))
    return np.ndarray(lengths, dtype, memory, order=letter)


def share(obj: Any, *, folder: str | os.PathLike[str] | None = None) -> Any:
    """Put an object into memory that worker processes share, once, for any number of calls.

    Parameters
    ----------
    obj : object
        An array, or anything that can be pickled: a data frame, a model, a dict of arrays.
    folder : path-like, optional
        As in `joblot.empty`.

    Returns
    -------
    numpy.ndarray or Shared
        Of an ndarray, matrix or recarray (or memmap, which becomes an ndarray) without Python objects in it: a
        read-only array with its contents, used and passed like any other. A task gets the same memory, read-only.
        Of anything else a `Shared`: where that is an argument of a task, the task gets the object.

    Raises
    ------
    pickle.PicklingError
        A part of the object cannot be pickled; the message names it.
    MemoryError, OSError
        As in `joblot.empty`.

    Notes
    -----
    What is put there is a copy: later changes of `obj` are not seen. The memory is given back, in workers too, when
    what was returned is gone.

    Examples
    --------
    >>> import joblot
    >>> table = joblot.share({"a": 1, "b": 2})
    >>> joblot.Parallel(n_jobs=2)(joblot.delayed(dict.get)(table, key) for key in "ab")
    [1, 2]
    """
    if isinstance(obj, Shared):
        return obj
    import sys

    np = sys.modules.get("numpy")
    kinds = () if np is None else (np.ndarray, np.memmap, np.matrix, np.recarray)
    if type(obj) in kinds and np is not None and _is_plain(obj, np):
        if obj.nbytes == 0:
            copy = obj.copy(order="K")
            copy.flags.writeable = False
            return copy
        return _core.share_array(obj, np.ndarray if type(obj) is np.memmap else type(obj), *_folders(folder))
    return Shared(_pack(obj, folder))


class Shared:
    """An object in memory that worker processes share, made by `joblot.share`.

    As an argument of a task it becomes the object. A worker makes the object when a task needs it first, and keeps it
    for later tasks as long as this handle lives: what a task changes in it, later tasks of the same worker see. Its
    large arrays lie in the shared memory and are read-only. Inside other arguments, such as a list, it stays a
    `Shared`: call `get`.

    Attributes
    ----------
    nbytes : int
        Bytes of shared memory that it takes.
    """

    __slots__ = ("__weakref__", "_memory", "_object")

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self._object: tuple[Any] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of shared memory that it takes; 0 once it is released."""
        return 0 if self._memory is None else len(self._memory)

    def get(self) -> Any:
        """Return the object: made when it is asked for first, the same one from then on.

        Raises
        ------
        ValueError
            It was released.
        """
        if self._object is None:
            self._object = (_core.share_unpack(self._checked_memory()),)
        return self._object[0]

    def release(self) -> None:
        """Give the memory back, here and in workers. Arrays of the object that are in use keep it where they are."""
        self._memory = self._object = None

    def _checked_memory(self) -> Any:
        if self._memory is None:
            raise ValueError("this Shared was released: call joblot.share again to pass the object to tasks")
        return self._memory

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a copy of the object; only tasks of the engine get the memory itself."""
        return share, (self.get(),)

    def __repr__(self) -> str:
        state = "released" if self._memory is None else f"{self.nbytes} bytes"
        return f"<joblot.Shared, {state}>"


def replaced(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return the arguments of a task that runs in this process, with the objects in place of their `Shared`."""
    named = kwargs.values() if isinstance(kwargs, dict) else ()
    if any(type(arg) is Shared for arg in args) or any(type(arg) is Shared for arg in named):
        args = tuple(arg.get() if type(arg) is Shared else arg for arg in args)
        kwargs = {name: arg.get() if type(arg) is Shared else arg for name, arg in kwargs.items()}
    return args, kwargs


def _is_plain(array: Any, np: Any) -> bool:
    """True where an array is its bytes. NumPy squeezes a matrix of other than two axes when it is made."""
    dtype = array.dtype
    return not dtype.hasobject and dtype.num < _FIRST_FOREIGN and (type(array) is not np.matrix or array.ndim == 2)


def _pack(obj: Any, folder: Any) -> Any:
    try:
        return _core.share_pack(obj, *_folders(folder))
    except (MemoryError, OSError):
        raise
    except Exception as error:
        import pickle

        from ._pickle_path import find_unpicklable
        from ._transport import dumps

        part, reason = find_unpicklable(obj, "obj", dumps) or ("obj", error)
        raise pickle.PicklingError(
            f"joblot.share: {part} cannot be pickled ({type(reason).__name__}: {reason}): leave it out"
        ) from error


def _check_dtype(dtype: Any) -> None:
    if dtype.hasobject:
        raise TypeError(
            f"dtype {dtype} holds Python objects, which live in one process only: pass such an array as an ordinary "
            "argument, or use joblot.share"
        )
    if dtype.num >= _FIRST_FOREIGN:
        raise TypeError(f"dtype {dtype} is not one of NumPy's own: view an array of unsigned integers as it")


def _lengths(shape: Any) -> tuple[int, ...]:
    lengths: tuple[int, ...]
    try:
        lengths = (operator.index(shape),)
    except TypeError:
        try:
            lengths = tuple(operator.index(length) for length in shape)
        except TypeError:
            raise TypeError(f"shape must be an integer or a sequence of integers, got {shape!r}") from None
    if any(length < 0 for length in lengths):
        raise ValueError(f"negative dimensions are not allowed: shape is {shape!r}")
    return lengths


def _folders(folder: Any) -> tuple[Any, Any]:
    named = folder or os.environ.get("JOBLIB_TEMP_FOLDER")
    return (None if named is None else os.fspath(named)), _processes._fallback_folder()


_core.set_shared_class(Shared)
