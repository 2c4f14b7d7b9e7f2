"""Calls as Python would write them, with long values cut: ``load(path='s3://…', rows=100)``.

The values come from pickles of users: their own ``__repr__`` is never called, as it may take
forever, or fail. Only built-in types and well-known ones of the standard library are shown with
their contents; others with their type, fields or shape.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import itertools
import pathlib
import sys
import types
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from nbqueue.printable import printable

LONGEST_VALUE: Final = 60
LONGEST_CALL: Final = 200
_MOST_ITEMS: Final = 6
_DEEPEST: Final = 3
_LARGEST_BITS: Final = 256

_SHORT: Final = frozenset(
    {bool, type(None), type(...), float, complex, datetime.datetime, datetime.date, datetime.time}
    | {datetime.timedelta, uuid.UUID, range}
)
"""Types whose ``repr`` is short and cannot fail."""
_ZONED: Final = frozenset({datetime.datetime, datetime.time})
_PATHS: Final = frozenset(
    {pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath}
)
_BRACKETS: Final[Mapping[type, tuple[str, str]]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def call_text(name: str, arguments: Mapping[str, Any], most: int = LONGEST_CALL) -> str:
    """Return a call in at most ``most`` characters, printable; never raises.

    ``name``: of the function, without its module. ``arguments``: as `Parameters.bind` names them;
    those named by a number are shown without the name.
    """
    parts: list[str] = []
    left = most - len(name) - 2
    for parameter, value in arguments.items():
        text = value_text(value)
        part = text if parameter.isdecimal() else f"{printable(str(parameter))}={text}"
        left -= len(part) + 2
        if left < 0:
            parts.append("…")
            break
        parts.append(part)
    return _cut(f"{printable(name)}({', '.join(parts)})", most)


def value_text(value: Any, most: int = LONGEST_VALUE) -> str:
    """Return a value in at most ``most`` characters, printable; never raises."""
    try:
        return _cut(printable(_text(value, most, _DEEPEST)), most)
    except Exception:
        return _opaque(value)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = text[-1] if text[-1] in "'\")]}>" else ""
    return text[: most - 1 - len(end)] + "…" + end


def _text(value: Any, most: int, depth: int) -> str:
    kind = type(value)
    if kind in _ZONED and type(value.tzinfo) not in _known_zones():
        value = value.replace(tzinfo=None)
    if kind in _SHORT:
        return repr(value)
    if kind is int:
        bits = value.bit_length()
        return str(value) if bits <= _LARGEST_BITS else f"<int of {bits:,} bits>"
    if kind is str or kind is bytes or kind is bytearray:
        return _cut(repr(value[: most + 1]), most)
    if depth == 0 and (kind in _BRACKETS or kind is dict):
        return "…"
    if kind in _BRACKETS:
        return _items(value, most, depth)
    if kind is dict:
        inner = _joined(
            (
                f"{_text(key, most, 0)}: {_text(each, most, depth - 1)}"
                for key, each in value.items()
            ),
            most,
            len(value),
        )
        return "{" + inner + "}"
    if kind in _PATHS:
        return f"{kind.__name__}({_cut(repr(str(value)[: most + 1]), most)})"
    if kind in (decimal.Decimal, fractions.Fraction):
        return _cut(repr(value), most)
    return _rich(value, kind, most, depth)


def _items(value: Any, most: int, depth: int) -> str:
    begin, end = _BRACKETS[type(value)]
    if not value:
        return f"{type(value).__name__}()" if begin.endswith("{") else begin + end
    inner = _joined((_text(each, most, depth - 1) for each in value), most, len(value))
    return f"{begin}{inner}{',' if type(value) is tuple and len(value) == 1 else ''}{end}"


def _joined(texts: Iterable[str], most: int, count: int) -> str:
    parts: list[str] = []
    length = 0
    for text in itertools.islice(texts, _MOST_ITEMS):
        length += len(text) + 2
        if length > most and parts:
            break
        parts.append(text)
    return ", ".join(parts) + (", …" if len(parts) < count else "")


def _rich(value: Any, kind: type, most: int, depth: int) -> str:
    if issubclass(kind, type):
        return str(type.__getattribute__(value, "__qualname__")).rpartition("<locals>.")[2]
    if kind in (types.FunctionType, types.BuiltinFunctionType, types.ModuleType):
        return str(value.__name__)
    if issubclass(kind, enum.Enum):
        return f"{kind.__name__}.{object.__getattribute__(value, '_name_')}"
    fields = _fields(value, kind)
    if fields is not None:
        shown = (f"{name}={_text(each, most, depth - 1)}" for name, each in fields.items())
        inner = _joined(shown, most, len(fields)) if depth else "…"
        return f"{kind.__name__}({inner})"
    describe = _DESCRIBED.get((kind.__module__.partition(".")[0], kind.__name__))
    if describe is not None:
        return describe(value)
    if kind.__module__ == "numpy":
        scalar = value.item() if getattr(value, "ndim", None) == 0 else None
        if type(scalar) in _SHORT or type(scalar) in (int, str, bytes):
            return _text(scalar, most, depth)
    return _opaque(value)


def _fields(value: Any, kind: type) -> dict[str, Any] | None:
    """Return the fields of a dataclass or a named tuple, without running code of its class."""
    if issubclass(kind, tuple) and "_fields" in kind.__dict__:
        return dict(zip(kind.__dict__["_fields"], tuple.__iter__(value), strict=True))
    if dataclasses.is_dataclass(kind):
        held = {} if "__slots__" in kind.__dict__ else object.__getattribute__(value, "__dict__")
        for name in kind.__dict__.get("__slots__", ()):
            held[name] = kind.__dict__[name].__get__(value)
        shown = (each.name for each in dataclasses.fields(kind) if each.repr)
        return {name: held[name] for name in shown if name in held}
    return None


def _opaque(value: Any) -> str:
    # A metaclass may have code of its own for all attributes.
    return printable(f"<{type.__getattribute__(type(value), '__name__')}>")


def _known_zones() -> tuple[type, ...]:
    """Return the types of time zones whose ``repr`` is known."""
    module = sys.modules.get("zoneinfo")
    zone = getattr(module, "ZoneInfo", datetime.timezone)
    return type(None), datetime.timezone, zone


def _array(value: Any) -> str:
    return f"array(shape={value.shape}, dtype={value.dtype})"


def _frame(value: Any) -> str:
    rows, columns = value.shape
    return f"DataFrame({rows:,} × {columns:,})"


def _series(value: Any) -> str:
    return f"Series({len(value):,} × {value.dtype})"


def _tensor(value: Any) -> str:
    return f"Tensor(shape={tuple(value.shape)}, dtype={value.dtype})"


_DESCRIBED: Final[Mapping[tuple[str, str], Callable[[Any], str]]] = {
    ("numpy", "ndarray"): _array,
    ("pandas", "DataFrame"): _frame,
    ("polars", "DataFrame"): _frame,
    ("pandas", "Series"): _series,
    ("polars", "Series"): _series,
    ("torch", "Tensor"): _tensor,
}
