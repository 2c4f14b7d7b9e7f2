"""Pickle exceptions whole, in part, or member by member.

The first form that survives a round trip is used.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import Any

from nbqueue.calls import raw_exceptions, rebuild
from nbqueue.calls.pickling import pickler
from nbqueue.calls.readable_names import clean_text, type_name

MAX_SIZE = 1_000_000
_MAX_PART = MAX_SIZE // 10
_MAX_STAND_IN = 1_000

# Returns the message of an exception's substitute, and its notes.
Describe = Callable[[BaseException], tuple[str, list[str]]]


def dump_itself(exc: BaseException, describe: Describe) -> bytes | None:
    """Return the pickled exception, or None if no form survives a round trip.

    A group always survives: a member that does not is replaced by a `TaskFailed` with the text that
    ``describe`` returns for it.
    """
    forms: list[Any] = [exc, _Bare(exc)]
    if isinstance(exc, raw_exceptions.group_types()):
        forms = [exc, _Group(exc, type(exc), describe), _Group(exc, None, describe)]
    for form in forms:
        # Many exceptions pickle and then fail to load, because ``__init__`` wants arguments that
        # ``args`` does not have. Find out here rather than in the notebook.
        with contextlib.suppress(Exception):
            data = pickler.dump(form).data
            if len(data) <= MAX_SIZE and _survives(exc, _load_here(data), is_whole=form is exc):
                return data
    return None


def _survives(exc: BaseException, loaded: Any, *, is_whole: bool) -> bool:
    groups = raw_exceptions.group_types()
    if isinstance(exc, groups):
        if not is_whole:
            return isinstance(loaded, groups)
        pairs = zip(exc.exceptions, loaded.exceptions, strict=True)  # type: ignore[attr-defined]
        return type(loaded) is type(exc) and all(_survives(*pair, is_whole=True) for pair in pairs)
    return type(loaded) is type(exc)


class _Bare:
    """An exception without the parts that cannot be sent, rebuilt without ``__init__``."""

    def __init__(self, exc: BaseException) -> None:
        self.exc = exc

    def __reduce__(self) -> tuple[Any, ...]:
        exc, trial = self.exc, pickler.Trial()
        args = tuple(
            value if _is_portable(value, trial) else _stand_in(value)
            for value in raw_exceptions.args_of(exc)
        )
        names = _portable(raw_exceptions.names_of(exc), trial)
        slots = _portable(raw_exceptions.slots_of(exc), trial)
        return rebuild.restore_exception, (type(exc), args, names, slots)


class _Group:
    """An exception group whose members are pickled each in their own form."""

    def __init__(self, exc: Any, kind: type[BaseException] | None, describe: Describe) -> None:
        self.exc = exc
        self.kind = kind
        self.describe = describe

    def __reduce__(self) -> tuple[Any, ...]:
        exc, trial = self.exc, pickler.Trial()
        members = raw_exceptions.members_of(exc)
        most = MAX_SIZE // 2 // len(members)
        portable = [_Member(member, self.describe, most) for member in members]
        names = raw_exceptions.names_of(exc).items()
        state = _portable({n: value for n, value in names if value is not members}, trial)
        slots = _portable(raw_exceptions.slots_of(exc), trial)
        kind = self.kind or raw_exceptions.group_types()[0]
        return rebuild.restore_group, (kind, str(exc.message), portable, state, slots)


class _Member:
    """A member of an exception group."""

    def __init__(self, exc: BaseException, describe: Describe, most: int) -> None:
        self.exc = exc
        self.describe = describe
        self.most = most

    def __reduce__(self) -> tuple[Any, ...]:
        data = dump_itself(self.exc, self.describe)
        if data is not None and len(data) > self.most:
            data = None
        return rebuild.load_member, (data, *self.describe(self.exc))


def _portable(values: dict[str, Any], trial: pickler.Trial) -> dict[str, Any]:
    return {name: value for name, value in values.items() if _is_portable(value, trial)}


def _is_portable(value: object, trial: pickler.Trial) -> bool:
    if trial.error_of(value) is not None:
        return False
    try:
        data = pickler.dump(value).data
        _load_here(data)
    except Exception:
        return False
    return len(data) < _MAX_PART


def _load_here(data: bytes) -> object:
    with rebuild.classes_unchanged():
        return pickle.loads(data)


def _stand_in(value: object) -> str:
    try:
        return clean_text(repr(value), _MAX_STAND_IN)
    except Exception:
        return f"<{type_name(type(value))}>"
