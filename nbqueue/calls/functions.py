"""Encode and decode functions, arguments and results.

A function is stored once for all of its calls; its arguments are stored with each call. A class of
the notebook that occurs in both is loaded as one class, so ``isinstance`` works; so does a result
that returns to the process that defined its class. Variables of a module are copied into each
pickle: a call does not see what another call assigns.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbqueue.calls import source_lines
from nbqueue.calls.modules.call_loader import has_code, load_into
from nbqueue.calls.modules.module_set import ModuleSet
from nbqueue.calls.pickling import captured_values, pickler, preflight
from nbqueue.calls.pickling.fast_pickle import dump_plain_arguments, dump_plain_value
from nbqueue.calls.pickling.function_cache import FunctionCache
from nbqueue.calls.readable_names import callable_name, is_coroutine_function, type_name
from nbqueue.errors import CannotPickle, IncompatiblePython
from nbqueue.runtime.buffers import LARGE, Body
from nbqueue.runtime.forks import in_children

_FORMAT = 1
_PYTHON = (sys.version_info.major, sys.version_info.minor)
FINGERPRINT_SIZE = 16

_ATOMS = frozenset({int, float, str, bytes, bool, type(None)})
_SMALL = _ATOMS - {bytes}
_dumps = pickle.dumps


@dataclass(frozen=True, slots=True)
class Code:
    """An encoded function, stored once under its fingerprint for all of its calls.

    ``by_reference`` means that ``blob`` only names an installed function, so that other minor
    versions of Python can load it. ``imports`` names the local modules in it that the code imports
    when it runs.
    """

    fingerprint: bytes
    blob: bytes
    name: str
    is_coroutine: bool
    by_reference: bool
    size: int = 0
    """The size of the function in bytes, without its source."""
    imports: frozenset[str] = frozenset()


_kept: FunctionCache[Code] = FunctionCache()
in_children(_kept.renew_lock)


def dump_function(fn: Callable[..., Any], limit: int | None = None) -> Code:
    """Encode ``fn`` so that `load_function` can load it in any process.

    Code of the notebook and of local modules is sent by value, in its current state; installed code
    is sent by reference. Raises `CannotPickle`, which names the cause, if ``fn`` is not callable or
    something that it uses cannot be sent; `ValueTooLarge` if that has more than ``limit`` bytes.
    With a limit, warns of large values and random generators.
    """
    code = _kept.get(fn)
    if code is None:
        code = _dump_function(fn, limit)
        _kept.put(fn, code)
    elif limit is not None and code.size > limit:
        raise captured_values.too_large(fn, limit)
    return code


def _dump_function(fn: Callable[..., Any], limit: int | None) -> Code:
    if not callable(fn):
        raise CannotPickle(_not_callable(fn))
    try:
        pickled = pickler.dump_function(fn, limit)
    except MemoryError:
        raise
    except pickler.TooLarge:
        assert limit is not None
        raise captured_values.too_large(fn, limit) from None
    except Exception as error:
        raise preflight.explain_function(fn, error) from error
    if limit is not None:
        captured_values.warn_of_captures(fn, pickled)
    body = (
        _FORMAT,
        _PYTHON,
        not pickled.by_value,
        pickled.data,
        source_lines.collect(pickled.files),
    )
    blob = _dumps(body, pickler.PROTOCOL)
    return Code(
        fingerprint=fingerprint_of(blob),
        blob=blob,
        name=callable_name(fn),
        is_coroutine=is_coroutine_function(fn),
        by_reference=not pickled.by_value,
        size=len(pickled.data),
        imports=pickled.imports,
    )


def fingerprint_of(blob: bytes) -> bytes:
    """Return the first 16 bytes of the SHA-256 of ``blob``."""
    return hashlib.sha256(blob).digest()[:FINGERPRINT_SIZE]


class Loaded(NamedTuple):
    """A loaded function and the local modules that were sent with it."""

    function: Callable[..., Any]
    modules: ModuleSet


def load_function(blob: bytes | memoryview) -> Callable[..., Any]:
    """Load the function of `dump_function`. Its fingerprint must be verified.

    Raises as `load_code` does.
    """
    return load_code(blob).function


def load_code(blob: bytes | memoryview) -> Loaded:
    """Load the function of `dump_function` with its modules, for `modules.enter`.

    Raises `IncompatiblePython` if it holds code that another minor version of Python pickled, and
    `ModuleNotFoundError` if it needs a package that is not installed here.
    """
    version, *rest = pickle.loads(blob)
    if version != _FORMAT:
        raise IncompatiblePython(
            f"the function was stored in format {version} by a newer nbqueue: upgrade this worker"
        )
    python, by_reference, data, texts = rest
    if tuple(python) != _PYTHON and not by_reference:
        raise IncompatiblePython(
            f"the function was sent by Python {python[0]}.{python[1]}, and this worker runs "
            f"Python {_PYTHON[0]}.{_PYTHON[1]}, which cannot load its code: start a worker with "
            f"Python {python[0]}.{python[1]}"
        )
    source_lines.register(texts)
    if by_reference:
        return Loaded(_load(data, "the function"), ModuleSet())
    modules = ModuleSet(texts, blob=bytes(blob))
    return Loaded(_load_into(data, modules, "the function"), modules)


def dump_arguments(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    callee: str = "",
    fn: Callable[..., Any] | None = None,
    generators: list[object] | None = None,
    imports: frozenset[str] = frozenset(),
) -> bytes:
    """Encode the arguments of one call.

    ``callee`` is the name of the function and ``fn`` the function itself, if known; both are only
    used in error messages. Random generators among the arguments are added to ``generators``.
    ``imports`` are those of the function's `Code`, which are not sent again. Raises `CannotPickle`,
    which names the argument and the part of it that cannot be sent.
    """
    for value in args:
        if type(value) not in _ATOMS and not _is_plain(value):
            return _dump_rich_arguments(args, kwargs, callee, fn, generators, imports)
    for value in kwargs.values():
        if type(value) not in _ATOMS and not _is_plain(value):
            return _dump_rich_arguments(args, kwargs, callee, fn, generators, imports)
    return dump_plain_arguments(args, kwargs)


def dump_call(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    callee: str = "",
    fn: Callable[..., Any] | None = None,
    generators: list[object] | None = None,
    imports: frozenset[str] = frozenset(),
) -> Body:
    """Encode the arguments of one call, in pieces if they are large."""
    values = (*args, *kwargs.values()) if kwargs else args
    if _SMALL.issuperset(map(type, values)):
        return dump_plain_arguments(args, kwargs)
    if not any(map(_may_be_large, values)):
        return dump_arguments(
            args, kwargs, callee=callee, fn=fn, generators=generators, imports=imports
        )
    collector = pickler.Collector()
    if all(map(_is_plain, values)):
        pickle.Pickler(collector, 5).dump((args, kwargs))
        return collector.body()
    rich = pickler.Pickler(collector, known=imports)
    try:
        rich.dump((args, kwargs))
        rich.dump_needs()
    except MemoryError:
        raise
    except Exception as error:
        raise preflight.explain_arguments(args, kwargs, callee, fn, error) from error
    if generators is not None:
        generators += rich.generators
    return collector.body()


def load_arguments(data: bytes | memoryview) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Load the arguments of `dump_arguments`. Only for verified ``data``.

    It may raise anything but `SystemExit`, which would end the program that only shows them.
    """
    try:
        args, kwargs = _load(data, "an argument")
    except SystemExit as error:
        raise RuntimeError(f"an argument raised SystemExit({error}) when it was loaded") from error
    return args, kwargs


def load_arguments_for(
    data: bytes | memoryview, modules: ModuleSet
) -> tuple[tuple[Any, ...], dict[str, Any], ModuleSet]:
    """Load the arguments of a call whose function was sent with ``modules``.

    Also returns the modules of the arguments. Only for verified ``data``.
    """
    if len(data) < LARGE and not has_code(data):
        args, kwargs = _load(data, "an argument")
        return args, kwargs, modules
    own = ModuleSet(parent=modules)
    args, kwargs = _load_into(data, own, "an argument")
    return args, kwargs, own if own.modules or own.names else modules


def dump_value(value: Any, *, callee: str = "") -> bytes:
    """Encode the result of a call. Raises `CannotPickle` if it cannot be sent."""
    if type(value) in _ATOMS or _is_plain(value):
        return dump_plain_value(value)
    try:
        return pickler.dump(value).data
    except MemoryError:
        raise
    except Exception as error:
        raise preflight.explain_result(value, callee, error) from error


def dump_returned(value: Any, *, callee: str = "") -> Body:
    """Encode the result of a call, in pieces if it is large."""
    if type(value) in _SMALL:
        return dump_plain_value(value)
    if not _may_be_large(value):
        return dump_value(value, callee=callee)
    collector = pickler.Collector()
    if _is_plain(value):
        pickle.Pickler(collector, 5).dump(value)
        return collector.body()
    try:
        pickler.Pickler(collector).dump(value)
    except MemoryError:
        raise
    except Exception as error:
        raise preflight.explain_result(value, callee, error) from error
    return collector.body()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it needs {module}.{name}")


def load_plain_value(data: bytes | memoryview) -> Any:
    """Load a value of builtin types, such as a list of numbers. Only for verified ``data``.

    Neither imports nor calls anything: raises `ValueError` for other values.
    """
    try:
        return _PlainUnpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise ValueError(f"not a plain value: {error}") from None


def load_value(data: bytes | memoryview) -> Any:
    """Load the result of `dump_value`. Only for verified ``data``."""
    return _load(data, "the result")


def _dump_rich_arguments(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    callee: str,
    fn: Callable[..., Any] | None,
    generators: list[object] | None,
    imports: frozenset[str],
) -> bytes:
    try:
        pickled = pickler.dump((args, kwargs), with_needs=True, known=imports)
    except MemoryError:
        raise
    except Exception as error:
        raise preflight.explain_arguments(args, kwargs, callee, fn, error) from error
    if generators is not None:
        generators += pickled.generators
    return pickled.data


def _may_be_large(value: Any) -> bool:
    kind = type(value)
    if kind is bytes:
        return len(value) > LARGE
    return kind not in _SMALL and kind not in (list, tuple, dict)


def _is_plain(value: Any) -> bool:
    """Return whether plain pickle is sufficient: no code, and only simple types."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is list or kind is tuple:
        return _ATOMS.issuperset(map(type, value))
    if kind is dict:
        return _ATOMS.issuperset(map(type, value)) and _ATOMS.issuperset(map(type, value.values()))
    numpy = sys.modules.get("numpy")
    return (
        numpy is not None and kind is getattr(numpy, "ndarray", None) and not value.dtype.hasobject
    )


def _load(data: bytes | memoryview, what: str) -> Any:
    try:
        return pickle.loads(data)
    except ModuleNotFoundError as error:
        raise _missing(error, what) from error


def _load_into(data: bytes | memoryview, modules: ModuleSet, what: str) -> Any:
    try:
        return load_into(data, modules)
    except ModuleNotFoundError as error:
        raise _missing(error, what) from error


def _missing(error: ModuleNotFoundError, what: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"{what} needs the module {error.name!r}, which is not installed here: install it, "
        f"in the version that the sender has",
        name=error.name,
        path=error.path,
    )


def _not_callable(fn: object) -> str:
    if inspect.iscoroutine(fn):
        name = fn.__name__
        return f"a coroutine cannot be sent: pass {name} and its arguments, not {name}(…)"
    kind = preflight.with_article(type_name(type(fn)))
    return (
        f"the first argument must be a function, and this is {kind}: pass fn and its arguments, "
        "not fn(…)"
    )
