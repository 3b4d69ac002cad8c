"""What workers run: module-level functions, so that they travel by name."""

import traceback

from .catalogue import load_all
from .exact import describe


def attempt(function, *args):
    """("value", result), or ("error", text): one failing case must not end a batch."""
    try:
        return "value", function(*args)
    except Exception:
        return "error", traceback.format_exc()


def see(x):
    """What the worker saw."""
    return attempt(describe, x)


def echo(x):
    return "value", x


def make(name, size, folder):
    """A result that was born in the worker."""
    return attempt(load_all()[name].make, size, folder)
