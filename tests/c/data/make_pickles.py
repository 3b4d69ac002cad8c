"""Writes golden pickles as C tables: each with what a reader must find in it.

    python3.11 make_pickles.py > pickles_3.h
    python2.7 make_pickles.py > pickles_2.h

A pickle is described by a text that test_pickle_tree.c prints from its tree: the same grammar, two programs. Numbers
in decimal, floats as the 16 hex digits of their bits, t:<hex> text as UTF-8, b:<hex> bytes, a:<hex> bytearray, s:<hex>
a str of Python 2, [..] list, (..) tuple, {k:v,..} dict, S{..} set, F{..} frozenset, @module.name a global, X an
extension code, P(..) a persistent id, B and R a buffer, & an object that was shown before; an object is
callable(args) or callable(args|keywords), then [..] items added, {..} pairs set, !state.

It runs on Python 2.7 as well, which is why ruff does not look at how strings are formatted.
"""
# ruff: noqa: UP004, UP010, UP025, UP031
from __future__ import print_function

import codecs
import pickle
import struct
import sys

PY3 = sys.version_info[0] >= 3
if not PY3:
    import copy_reg as copyreg
    import cPickle
else:
    import copyreg

TOP = 5 if PY3 else 2
LONG = ("list_1001", "list_1002", "dict_1001", "many_memo")


def hexed(data):
    return codecs.encode(bytes(data), "hex").decode("ascii")


class Describer(object):
    """What the pickle of a plain value must show; `seen` holds containers that were shown."""

    def __init__(self, protocol):
        self.protocol = protocol
        self.seen = {}

    def scalar(self, v):
        if v is None or isinstance(v, bool):
            return repr(v)
        if isinstance(v, float):
            return "%016x" % struct.unpack("<Q", struct.pack("<d", v))
        if isinstance(v, bytearray):
            return "a:" + hexed(v)
        if PY3 and isinstance(v, bytes):
            return "b:" + hexed(v)
        if PY3 and isinstance(v, str):
            return "t:" + hexed(v.encode("utf-8", "surrogatepass"))
        if not PY3 and isinstance(v, unicode):  # noqa: F821
            return "t:" + hexed(v.encode("utf-8"))
        if not PY3 and isinstance(v, str):
            return "s:" + hexed(v)
        return "%d" % v

    def show(self, v):
        if not isinstance(v, (list, tuple, dict, set, frozenset)) or not v:
            empty = {list: "[]", tuple: "()", dict: "{}", set: "S{}", frozenset: "F{}"}
            return empty[type(v)] if type(v) in empty else self.scalar(v)
        if id(v) in self.seen:
            return "&"
        self.seen[id(v)] = v
        if isinstance(v, dict):
            return "{" + ",".join(self.show(k) + ":" + self.show(x) for k, x in v.items()) + "}"
        inner = ",".join(self.show(x) for x in v)
        if isinstance(v, list):
            return "[" + inner + "]"
        if isinstance(v, tuple):
            return "(" + inner + ")"
        return ("S{" if isinstance(v, set) else "F{") + inner + "}"


class Point(object):
    def __init__(self, x):
        self.x = x


class Old:
    def __init__(self, x):
        self.x = x


class Args(object):
    def __getinitargs__(self):
        return (1, 2)

    def __init__(self, a, b):
        pass


class OldArgs:
    def __getinitargs__(self):
        return (1, 2)

    def __init__(self, a, b):
        pass


class Reduced(object):
    def __reduce__(self):
        return (Reduced, (1,), {"s": 2}, iter([3, 4]), iter([("k", 5)]))


class New(object):
    def __new__(cls, *args, **keywords):
        return object.__new__(cls)

    def __getnewargs_ex__(self):
        return (1,), {"k": 2}


class Extension(object):
    pass


class Kept(object):
    """Pickled as a persistent id."""


copyreg.add_extension("__main__", "Extension", 300)


def plain_values():
    shared = [1, 2]
    pair = (3, 4)
    cycle = []
    cycle.append(cycle)
    yield "none", None
    yield "true", True
    yield "false", False
    for n in (0, 1, 255, 256, 65535, 65536, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63), 2**63,
              -(2**63) - 1, 2**64, 2**2030, -(2**2039), 2**2039, 10**700, -(10**19)):
        yield "int_%s%d" % ("m" if n < 0 else "", abs(n).bit_length()), n
    for x in (0.0, -0.0, 1.5, -1e300, 5e-324, 0.1, float("inf"), float("-inf")):
        yield "float", x
    yield "text", u"caf\xe9 \u20ac \U0001f600 \\u0041 \\ \n\r\x00\x1a '\""
    yield "text_empty", u""
    yield "text_255", u"x" * 255
    yield "text_256", u"y" * 256
    yield "str", "plain 'quoted' \"both\" \\ \n"
    if PY3:
        yield "surrogates", "\ud800\udfff\udc80"
        yield "bytes_empty", b""
        yield "bytes", bytes(range(256))
        yield "bytes_255", b"z" * 255
    else:
        yield "str_all", bytes(bytearray(range(256)))
        yield "str_255", "z" * 255
        yield "str_256", "z" * 256
        yield "long", eval("5L")
    yield "list_empty", []
    yield "list_one", [7]
    yield "list", [1, [2, [3]], []]
    yield "list_1001", [None] * 1001
    yield "list_1002", [None] * 1002
    for n in range(6):
        yield "tuple_%d" % n, tuple(range(n))
    yield "dict_empty", {}
    yield "dict_one", {u"a": 1}
    yield "dict", {u"a": 1, 2: (), 3.5: None}
    yield "dict_1001", dict.fromkeys(range(1001))
    yield "shared", [shared, shared, pair, pair, {u"k": shared}]
    yield "cycle", cycle
    yield "many_memo", [[i] for i in range(300)] * 2
    yield "deep", ((((((((((1,),),),),),),),),),)


def by_protocol(protocol, table):
    best = max(p for p in table if p <= protocol)
    return table[best]


def special(protocol):
    """(name, value, what it shows): objects, sets and bytes, whose opcodes depend on the protocol."""
    here = "@__main__."
    base = "@copyreg._reconstructor(({0},@builtins.object,None))" if PY3 and protocol >= 3 else \
           "@copy_reg._reconstructor(({0},@__builtin__.object,None))"
    text = "t:" if PY3 else "s:"

    def made(cls, state):
        return (here + cls + "(())" if protocol >= 2 else base.format(here + cls)) + "!" + state

    x = text + "78"
    yield "object", Point(1), made("Point", "{%s:1}" % x)
    yield "global", len, "@%s.len" % ("builtins" if protocol >= 3 else "__builtin__")
    if PY3 and protocol >= 4:
        for value in (set(), {5}, set(range(1001 if protocol == 4 else 3))):
            yield "set_%d" % len(value), value, Describer(protocol).show(value)
        for value in (frozenset(), frozenset([5]), frozenset(range(9))):
            yield "frozenset_%d" % len(value), value, Describer(protocol).show(value)
        yield "new_ex", New(), here + "New((1)|{t:6b:2})"
    if PY3 and protocol == 5:
        yield "bytearray", bytearray(b"ab"), "a:6162"
    if protocol < 5:
        module = "builtins" if protocol >= 3 else "__builtin__"
        as_bytes = "b:6162" if protocol >= 3 else "@_codecs.encode((t:6162,t:6c6174696e31))"
        if PY3:
            yield "bytearray", bytearray(b"ab"), "@%s.bytearray((%s))" % (module, as_bytes)
            yield "set", {5}, here_set(protocol, module)
    if PY3 and protocol < 3:
        yield "bytes_2", b"\xe9", "@_codecs.encode((t:c3a9,t:6c6174696e31))"
    yield "reduced", Reduced(), here + "Reduced((1))[3,4]{%s:5}!{%s:2}" % (text + "6b", text + "73")
    if protocol >= 2:
        yield "extension", Extension, "X300"
    yield "kept", [Kept(), 1], "[P(%s),1]" % persistent(protocol)
    if not PY3:
        yield "instance", Old(1), here + "Old(())!{s:78:1}"
        yield "instance_args", OldArgs(1, 2), here + "OldArgs((1,2))!{}"


def here_set(protocol, module):
    return "S{5}" if protocol >= 4 else "@%s.set(([5]))" % module


def persistent(protocol):
    return "t:6b3131" if protocol == 0 or PY3 else "s:6b3131"


def dump(value, protocol, pickler):
    import io

    def name_of(obj):
        return "k11" if isinstance(obj, Kept) else None

    file = io.BytesIO()
    if PY3:
        p = type("WithIds", (pickler,), {"persistent_id": lambda self, obj: name_of(obj)})(file, protocol)
    else:
        p = cPickle.Pickler(file, protocol)
        p.persistent_id = name_of
    p.dump(value)
    return file.getvalue()


def out_of_band():
    """Protocol 5: buffers that are not in the stream."""
    if TOP < 5:
        return
    buffers = []
    value = [pickle.PickleBuffer(b"ab"), pickle.PickleBuffer(bytearray(b"cd"))]
    yield "buffers", pickle.dumps(value, 5, buffer_callback=buffers.append), 5, "[R0,B1]"


def emit(name, data, protocol, shown):
    print('{"%s", %d, %d, (const unsigned char[]){' % (name, protocol, len(data)))
    emit_numbers(bytearray(data))
    if len(shown) > 4000:  # more than a string literal of C may have
        print("}, (const char[]){")
        emit_numbers(bytearray(shown.encode("ascii")) + b"\0")
        print("}},")
        return
    print("},")
    pieces = [shown[i : i + 100] for i in range(0, len(shown), 100)]
    print("\n".join('"%s"' % p for p in pieces) + "},")


def emit_numbers(data):
    numbers = ["%d" % b for b in data]
    for i in range(0, len(numbers), 40):
        print(",".join(numbers[i : i + 40]) + ",")


def main():
    print("/* Made by make_pickles.py with Python %d.%d.  Do not edit. */" % sys.version_info[:2])
    for protocol in range(TOP + 1):
        for name, value in plain_values():
            if PY3 and isinstance(value, bytes) and protocol < 3:
                continue
            if name in LONG and (protocol not in (2, 4) or not PY3):
                continue  # one of each kind of batch is enough
            pickler = pickle._Pickler if PY3 else None
            emit(name, dump(value, protocol, pickler), protocol, Describer(protocol).show(value))
        for name, value, shown in special(protocol):
            emit(name, dump(value, protocol, pickle.Pickler), protocol, shown)
    for name, data, protocol, shown in out_of_band():
        emit(name, data, protocol, shown)


main()
