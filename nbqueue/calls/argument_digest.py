"""What makes two calls the same for ``unique=``: the function by its name, the arguments by value.

Pickles do not serve: equal arguments may differ in theirs, and code differs by its line numbers. So
a function that was edited is still the same one; functions without a name of their own (a lambda)
are known by what they do, and closures by what they close over as well.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable, Iterator
from typing import Any

from nbqueue.calls.pickling import pickler

_MOST_DEPTH = 12
"""Deeper than this the pickle decides; what contains itself ends there."""


def call_digest(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """32 hexadecimal digits that are equal for equal calls, in whatever process.

    Of arguments that are neither plain data nor functions the pickle decides, so equal ones may
    be told apart. Raises what pickling raises for what cannot be sent.
    """
    text = b"".join((*_parts(fn, 0), *_parts(args, 0), *_parts(kwargs, 0)))
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _parts(value: Any, depth: int) -> Iterator[bytes]:
    kind = type(value)
    if depth > _MOST_DEPTH:
        yield _framed(b"deep", pickler.dump(value).data)
    elif value is None or kind in (bool, int, float, str, bytes):
        yield _framed(kind.__name__.encode(), _atom(value))
    elif kind in (list, tuple):
        yield _framed(kind.__name__.encode(), b"".join(_each(value, depth)))
    elif kind in (set, frozenset):
        yield _framed(kind.__name__.encode(), b"".join(sorted(_each(value, depth))))
    elif kind is dict:
        pairs = (b"".join(_each(pair, depth)) for pair in value.items())
        yield _framed(b"dict", b"".join(sorted(pairs)))
    elif isinstance(value, functools.partial):
        inside = (value.func, value.args, value.keywords)
        yield _framed(b"partial", b"".join(_each(inside, depth)))
    elif isinstance(value, types.MethodType):
        yield _framed(b"method", b"".join(_each((value.__func__, value.__self__), depth)))
    elif isinstance(value, types.FunctionType):
        yield _framed(b"function", b"".join(_function(value, depth)))
    elif isinstance(value, type):
        yield _framed(b"type", f"{value.__module__}:{value.__qualname__}".encode())
    else:
        yield _framed(b"object", pickler.dump(value).data)


def _each(values: Any, depth: int) -> Iterator[bytes]:
    for value in values:
        yield b"".join(_parts(value, depth + 1))


def _function(fn: types.FunctionType, depth: int) -> Iterator[bytes]:
    yield _framed(b"name", f"{fn.__module__}:{fn.__qualname__}".encode("utf-8", "replace"))
    if fn.__name__ == "<lambda>":
        yield from _code(fn.__code__, depth)
        yield from _each(fn.__defaults__ or (), depth)
    for cell in fn.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if isinstance(content, types.FunctionType):
            # Functions may close over each other.
            yield _framed(b"cell", content.__qualname__.encode("utf-8", "replace"))
        else:
            yield from _each((content,), depth)


def _code(code: types.CodeType, depth: int) -> Iterator[bytes]:
    yield _framed(b"code", code.co_code)
    yield from _each(code.co_names, depth)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant, depth + 1)
        else:
            yield from _parts(constant, depth + 1)


def _atom(value: Any) -> bytes:
    return value if type(value) is bytes else repr(value).encode("utf-8", "replace")


def _framed(tag: bytes, body: bytes) -> bytes:
    return b"%s:%d:%s" % (tag, len(body), body)
