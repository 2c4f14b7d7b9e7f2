"""Scripts as a cluster needs them.

While a slot moves to another node, its keys are on two nodes. A script there would find some of the
keys that it uses, fail in the middle, and leave half a change. So each script names one more key,
which never exists: a node runs no command with several keys, of which one is missing, in a slot
that moves. It answers TRYAGAIN or ASK instead, and the script runs once the slot has arrived.

From Redis 7 on, channels have slots as well, and their messages stay on the node of the slot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, TypeVar

from nbqueue.transport.cluster.slots import tag_of
from nbqueue.transport.script_call import Arg, Command, Script

T = TypeVar("T")

_GUARD: Final = ":guard"
_DROP_GUARD: Final = b"KEYS[#KEYS] = nil\n"
_SHARDED: Final = (
    (b"redis.pcall('PUBLISH',", b"redis.pcall('SPUBLISH',"),
    (b"redis.pcall('PUBSUB', 'NUMSUB',", b"redis.pcall('PUBSUB', 'SHARDNUMSUB',"),
)


def for_cluster(command: Command[T], *, is_sharded: bool) -> Command[T]:
    """Return a command whose script runs only while all keys of its slot are on one node.

    ``is_sharded``: it publishes on channels that have slots.
    """
    if command.script.source.startswith(_DROP_GUARD):
        return command
    full = command.full_script
    return replace(
        command,
        script=_adapted(command.script, is_sharded),
        keys=[*command.keys, guard_of(command.keys[0])],
        full_script=None if full is None else _adapted(full, is_sharded),
    )


def publication(words: Sequence[Arg], *, is_sharded: bool) -> Sequence[Arg]:
    """Return a plain command, as a sharded one if it publishes on a channel that has a slot."""
    if is_sharded and words[0] == "PUBLISH" and has_slot(str(words[1])):
        return ("SPUBLISH", *words[1:])
    return words


def has_slot(channel: str) -> bool:
    """Return whether a channel belongs to a queue, and so has the slot of it."""
    return channel.startswith("nbqueue:{")


def guard_of(key: str) -> str:
    """Return the key that never exists in the slot of ``key``."""
    return _guard(tag_of(key))


@lru_cache(maxsize=1024)
def _guard(tag: bytes) -> str:
    return f"nbqueue:{{{tag.decode('utf-8', 'surrogateescape')}}}{_GUARD}"


@lru_cache(maxsize=256)
def _adapted(script: Script, is_sharded: bool) -> Script:
    source = _DROP_GUARD + script.source
    for word, sharded in _SHARDED if is_sharded else ():
        source = source.replace(word, sharded)
    sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
    return replace(script, source=source, sha=sha)


def is_guard(key: Arg) -> bool:
    """Return whether a key is one of `guard_of`."""
    return isinstance(key, str) and key.endswith(_GUARD)
