"""Digests of calls for ``unique=``: the function by name, the arguments by value.

Pickles are unsuitable: equal arguments may have different pickles, and code contains line numbers.
An edited function keeps its digest. Functions without a name of their own (lambdas) are identified
by their code, and closures also by the values they close over.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable, Iterator
from typing import Any

from nbqueue.calls.pickling import pickler

_MOST_DEPTH = 12
"""Maximum depth. Deeper values, such as recursive ones, are identified by their pickle."""


def call_digest(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return 32 hexadecimal digits that are equal for equal calls in any process.

    Arguments that are neither plain data nor functions are identified by their pickle, so equal
    ones may get different digests. Raises the error of pickling for arguments that cannot be sent.
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
