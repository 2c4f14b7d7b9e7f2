"""Scripts as a cluster needs them.

While a slot moves to another node, its keys are on two nodes. A script there would find some of the
keys that it uses, fail in the middle, and leave half a change. So each script names one more key,
which never exists: a node runs no command with several keys, of which one is missing, in a slot
that moves. It answers TRYAGAIN or ASK instead, and the script runs once the slot has arrived.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, TypeVar

from nbqueue.transport.cluster.slots import tag_of
from nbqueue.transport.script_call import Arg, Command, Script

T = TypeVar("T")

_GUARD: Final = ":guard"
_DROP_GUARD: Final = b"KEYS[#KEYS] = nil\n"


def for_cluster(command: Command[T]) -> Command[T]:
    """Return a command whose script runs only while all keys of its slot are on one node."""
    if command.script.source.startswith(_DROP_GUARD):
        return command
    full = command.full_script
    return replace(
        command,
        script=_guarded(command.script),
        keys=[*command.keys, guard_of(command.keys[0])],
        full_script=None if full is None else _guarded(full),
    )


def all_for_cluster(commands: Iterable[Command[Any]]) -> Iterator[Command[Any]]:
    """Return `for_cluster` of each command, when it is asked for."""
    return map(for_cluster, commands)


def guard_of(key: str) -> str:
    """Return the key that never exists in the slot of ``key``."""
    return _guard(tag_of(key))


@lru_cache(maxsize=1024)
def _guard(tag: bytes) -> str:
    return f"nbqueue:{{{tag.decode('utf-8', 'surrogateescape')}}}{_GUARD}"


@lru_cache(maxsize=256)
def _guarded(script: Script) -> Script:
    source = _DROP_GUARD + script.source
    sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
    return replace(script, source=source, sha=sha)


def is_guard(key: Arg) -> bool:
    """Return whether a key is one of `guard_of`."""
    return isinstance(key, str) and key.endswith(_GUARD)
