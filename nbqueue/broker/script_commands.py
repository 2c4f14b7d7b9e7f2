"""Make a `Command` from named keys and arguments.

They are put into the order of the script's header.

Times are Unix milliseconds on the store's clock. Ends of leases are Unix seconds with a fraction
that is never zero; leases of programs in Go end at whole seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from nbqueue.broker import script_loader
from nbqueue.transport.script_call import Arg, Command, Script, Staged
from nbqueue.wire.keys import QueueKeys

T = TypeVar("T")

MOST_AT_ONCE = 1000
"""Maximum number of tasks in one command.

Lua unpacks no more than some thousands of values at once.
"""

_NO_OTHERS: Mapping[str, str] = {}
_Getter = Callable[[Mapping[str, Any]], tuple[Any, ...]]


class _Layout(NamedTuple):
    """A script with functions that collect its keys and arguments in order."""

    script: Script
    keys: _Getter
    args: _Getter
    key_names: frozenset[str]
    full: Script | None


class PerTask(NamedTuple):
    """Further keys of a call, mostly of tasks, and the arguments of each."""

    keys: Sequence[str]
    names: tuple[str, ...] = ()
    """The names of these arguments, in the order of the script's header."""
    values: Collection[Arg] = ()
    """The values of these arguments, task after task."""
    most: int = MOST_AT_ONCE
    """Maximum number of keys."""


@cache
def _layout(name: str) -> _Layout:
    script = script_loader.load(name)
    return _Layout(
        script,
        _getter(script.keys),
        _getter(script.args),
        frozenset(script.keys),
        script_loader.load(script.full) if script.full else None,
    )


def _getter(names: tuple[str, ...]) -> _Getter:
    if not names:
        return lambda _: ()
    if len(names) == 1:
        [name] = names
        return lambda values: (values[name],)
    return itemgetter(*names)


def command(
    name: str,
    keys: QueueKeys | None,
    args: Mapping[str, Arg],
    read: Callable[[Any], T],
    *,
    other_keys: Mapping[str, str] = _NO_OTHERS,
    tasks: PerTask | None = None,
    staged: Sequence[Staged] = (),
) -> Command[T]:
    """Make a call of the script ``name``; ``read`` turns the reply into the result.

    A key that the script's header names is that attribute of ``keys``, or one of ``other_keys``.
    ``tasks`` has the further keys. Raises `TypeError` if a name is missing or unknown.
    """
    script, keys_of, args_of, key_names, full = _layout(name)
    try:
        found_args = args_of(args)
        known: Mapping[str, str] = {} if keys is None else vars(keys)
        found_keys: Sequence[str]
        if other_keys:
            found_keys = [
                other_keys[key] if key in other_keys else known[key] for key in script.keys
            ]
            if not key_names >= other_keys.keys():
                raise _unknown(script, other_keys.keys() - key_names)
        else:
            found_keys = keys_of(known)
    except KeyError as error:
        raise TypeError(f"{_takes(script)}; {error} is missing") from None
    if len(args) != len(found_args):
        raise _unknown(script, {*args} - {*script.args})
    if tasks is not None:
        task_keys, names, values, most = tasks
        if len(task_keys) > most:
            raise ValueError(f"{name}: at most {most} tasks at once, not {len(task_keys)}")
        if not script.has_further_keys or names != script.rest:
            raise TypeError(f"{_takes(script)}, not {names} for each task")
        if len(values) != len(names) * len(task_keys):
            raise TypeError(f"{name}: {len(values)} values do not fit {len(task_keys)} x {names}")
        found_keys = [*found_keys, *task_keys]
        found_args = (*found_args, *values)
    elif script.has_further_keys:
        raise TypeError(f"{_takes(script)}; tasks= is missing")
    return Command(script, found_keys, found_args, read, staged, full)


def _unknown(script: Script, names: Iterable[str]) -> TypeError:
    return TypeError(f"{_takes(script)}, not {', '.join(sorted(names))}")


def _takes(script: Script) -> str:
    rest = f", and for each task {script.rest}" if script.rest else ""
    return f"{script.name}.lua takes the keys {script.keys} and the arguments {script.args}{rest}"


def flat(rows: Iterable[Iterable[Arg]]) -> list[Arg]:
    """The values of ``rows``, row after row."""
    return list(chain.from_iterable(rows))


def positions(reply: Any) -> list[int]:
    """Read a reply that lists positions."""
    return list(map(int, reply))


def check_limit(limit: int) -> None:
    """Raise `ValueError` unless ``limit`` tasks can be in one command."""
    if not 1 <= limit <= MOST_AT_ONCE:
        raise ValueError(f"limit={limit} is not between 1 and {MOST_AT_ONCE}")
