"""Read and set attributes of exceptions without running the code of their classes.

A class may refuse to set attributes (a frozen dataclass), or define ``__cause__`` or ``__notes__``
itself. The descriptors of ``BaseException`` bypass that.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

_BASE = vars(BaseException)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_NOT_STATE = frozenset({"__dict__", "__weakref__"})
_PLAIN = frozenset({BaseException, Exception, object})
# The type flag of classes made by Python code.
HEAP_TYPE = 1 << 9


def set_args(exc: BaseException, args: tuple[Any, ...]) -> None:
    """Set ``exc.args``."""
    _BASE["args"].__set__(exc, args)


def args_of(exc: BaseException) -> tuple[Any, ...]:
    """Return ``exc.args``, which a class may override."""
    args: tuple[Any, ...] = _BASE["args"].__get__(exc)
    return args


def set_cause(exc: BaseException, cause: BaseException | None) -> None:
    """Set ``exc.__cause__``, as ``raise … from cause`` does."""
    _BASE["__cause__"].__set__(exc, cause)


def drop_traceback(exc: BaseException) -> None:
    """Drop the traceback and the variables in its frames."""
    _BASE["__traceback__"].__set__(exc, None)


def traceback_of(exc: BaseException) -> types.TracebackType | None:
    """Return ``exc.__traceback__``."""
    found: types.TracebackType | None = _BASE["__traceback__"].__get__(exc)
    return found


def add_note(exc: BaseException, note: str) -> None:
    """Add a note if Python has notes (3.11) and the class accepts it."""
    with contextlib.suppress(Exception):
        exc.add_note(note)  # type: ignore[attr-defined,unused-ignore]


def names_of(exc: BaseException) -> dict[str, Any]:
    """Return the instance's own attributes, without those in slots."""
    names: dict[str, Any] = _BASE["__dict__"].__get__(exc)
    return names


def slots_of(exc: BaseException) -> dict[str, Any]:
    """Return the values in slots, and attributes of builtin types besides ``args``."""
    return dict(_slots(exc))


def set_attributes(exc: BaseException, names: dict[str, Any], slots: dict[str, Any]) -> None:
    """Set attributes and slots; those that cannot be set are skipped."""
    names_of(exc).update(names)
    for name, value in slots.items():
        for cls in type(exc).__mro__:
            descriptor = vars(cls).get(name)
            if isinstance(descriptor, _DESCRIPTORS):
                with contextlib.suppress(Exception):  # read-only attributes are already set by args
                    descriptor.__set__(exc, value)
                break


def _slots(exc: BaseException) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each slot that is set."""
    groups = group_types()
    for cls in type(exc).__mro__:
        if cls in _PLAIN or cls in groups:
            continue
        is_of_user = bool(cls.__flags__ & HEAP_TYPE)
        for name, descriptor in vars(cls).items():
            if name in _NOT_STATE or not isinstance(descriptor, _DESCRIPTORS):
                continue
            if cls is AttributeError and name == "obj":  # an arbitrary object of any size
                continue
            try:
                value = descriptor.__get__(exc, type(exc))
            except Exception:  # it is not set
                continue
            if is_of_user or value is not None:
                yield name, value


# --- groups


def group_types() -> tuple[type[BaseException], ...]:
    """Return the exception group types; ``exceptiongroup``'s before Python 3.11."""
    builtin = getattr(builtins, "BaseExceptionGroup", None)
    backport = getattr(sys.modules.get("exceptiongroup"), "BaseExceptionGroup", None)
    return tuple({kind for kind in (builtin, backport) if isinstance(kind, type)})


def members_of(group: Any) -> tuple[BaseException, ...]:
    """Return the members of an exception group."""
    return tuple(group.exceptions)


def plain_group(message: str, members: Iterable[BaseException]) -> BaseException:
    """Return a builtin group: ``ExceptionGroup`` if all members are exceptions."""
    # A plain group type, or one whose base chooses the narrower type.
    made: BaseException = group_types()[0].__new__(group_types()[0], message, list(members))
    return made
