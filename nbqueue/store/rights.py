"""Check a user's permissions in the store, and describe missing ones.

Commands are tested by queueing them in a transaction that is then discarded: a server refuses a
command without permission when it is queued, and none of them runs. This is part of the first round
trip, so where transactions are refused the commands do run: on a key that is deleted at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nbqueue.store.url import StoreURL
from nbqueue.transport.resp import ReplyError

KEYS: Final = ("~asynq:*", "~nbqueue:*")
CHANNELS: Final = ("&asynq:*", "&nbqueue:*", "&__redis__:invalidate")
COMMANDS: Final = (
    "+@all -@admin -@dangerous +info +client|setname +client|id +client|tracking +client|caching"
)
_RESET: Final = "resetchannels"
"""Removes all channels of a user before patterns are added.

Redis 6.2 gives users all channels, and refuses a pattern that is added to these.
"""
RULES: Final = " ".join((*KEYS, _RESET, *CHANNELS, COMMANDS))
"""The ``ACL SETUSER`` rules that grant everything nbqueue needs."""

_KEY = "nbqueue:{default}:rights"

# A single word is a command that takes a key and values; others are written out.
_SCRIPTS: Final = """
DECRBY k 1|DEL k|EXISTS k|EXPIREAT k 1|GET k|HDEL k f|HEXISTS k f|HGET k f|HKEYS k
HMGET k f|HSET k f v|HSETNX k f v|HSTRLEN k f|INCRBY k 1|LINDEX k 0|LLEN k|LPOP k|LPUSH k v
LRANGE k 0 0|LREM k 1 v|LSET k 0 v|LTRIM k 0 0|PEXPIRE k 1|PTTL k|RENAME k k|RPOP k|RPUSH k v
SADD k v|SCARD k|SET k v|SREM k v|TIME|TYPE k|UNLINK k|XADD k * f v|XDEL k 1|XLEN k|XRANGE k - +
ZADD k 1 v|ZCARD k|ZMSCORE k v|ZRANGE k 0 0|ZRANGEBYSCORE k 0 0|ZREM k v|ZREMRANGEBYRANK k 0 0
ZPOPMIN k|ZREVRANGE k 0 0|ZSCORE k v|PUBSUB NUMSUB c
"""
_OTHERS: Final = """
MGET k|EVALSHA x 0|SCRIPT LOAD x|EXPIRE k 1|HGETALL k|HVALS k|SISMEMBER k v|SMEMBERS k
XREVRANGE k + -|XTRIM k MAXLEN 0|ZCOUNT k 0 0|ZREMRANGEBYSCORE k 0 0
"""
_FOR_CHANNELS: Final = ("PUBLISH", "SUBSCRIBE")
_OF_WORKERS: Final = "BLMOVE k k RIGHT RIGHT 1"
_PROBED_KEYS: Final = ("asynq:queues", "asynq:{default}:rights", "nbqueue:{default}:rights")
_PROBED_CHANNELS: Final = ("asynq:cancel", "nbqueue:{default}:wake")


class MissingRights(NamedTuple):
    """The missing permissions of a user: commands, key patterns and channel patterns.

    ``for_channels`` are commands that only channels need, without which nbqueue polls.
    """

    commands: Sequence[str] = ()
    keys: Sequence[str] = ()
    channels: Sequence[str] = ()
    for_channels: Sequence[str] = ()


def _parsed(text: str) -> list[tuple[str, ...]]:
    probes = [probe.split() for line in text.splitlines() for probe in line.split("|") if probe]
    return [tuple(_KEY if word == "k" else word for word in probe) for probe in probes]


def probes(*, is_worker: bool) -> list[tuple[str, ...]]:
    """Return the commands to test, in order; `missing` reads their replies."""
    found = [("MULTI",), *_parsed(_SCRIPTS), *_parsed(_OTHERS)]
    if is_worker:
        found += _parsed(_OF_WORKERS)
    found += [("EXISTS", key) for key in _PROBED_KEYS]
    found += [("PUBLISH", channel, "") for channel in _PROBED_CHANNELS]
    # If it is executed, the connection accepts no further tests.
    found += [("DEL", _KEY), *(("SUBSCRIBE", channel) for channel in _PROBED_CHANNELS)]
    return [*found, ("DISCARD",)]


def missing(tried: Sequence[tuple[str, ...]], replies: Sequence[Any]) -> MissingRights:
    """Read the replies to `probes`."""
    refused = [
        (words, reply.text if isinstance(reply, ReplyError) else str(reply))
        for words, reply in zip(tried, replies, strict=True)
        if isinstance(reply, Exception) and _is_for_want_of_rights(reply)
    ]
    commands = list(dict.fromkeys(_shown(words) for words, text in refused if _is_command(text)))
    keys = {words[1] for words, text in refused if words[0] == "EXISTS" and not _is_command(text)}
    channels = {
        words[1] for words, text in refused if words[0] in _FOR_CHANNELS and not _is_command(text)
    }
    lacks_channels = [
        pattern for pattern, channel in zip(CHANNELS, _PROBED_CHANNELS, strict=False)
        if channel in channels
    ]  # fmt: skip
    needed = [name for name in commands if name not in _FOR_CHANNELS]
    for_channels = [name for name in commands if name in _FOR_CHANNELS]
    return MissingRights(needed, _missing_keys(keys), lacks_channels, for_channels)


def _is_for_want_of_rights(error: Exception) -> bool:
    return isinstance(error, ReplyError) and error.code == "NOPERM"


def _shown(words: tuple[str, ...]) -> str:
    return " ".join(words[:2]) if words[0] in ("SCRIPT", "PUBSUB") else words[0]


def _missing_keys(refused: set[str]) -> list[str]:
    names, of_asynq, of_nbqueue = (key in refused for key in _PROBED_KEYS)
    # A user without any key of this queue may be meant for other queues, which are unknown here.
    is_of_other_queues = of_asynq and of_nbqueue and not names
    found = []
    if names or (of_asynq and not is_of_other_queues):
        found.append("~asynq:*")
    if of_nbqueue and not is_of_other_queues:
        found.append("~nbqueue:*")
    return found


def _is_command(text: str) -> bool:
    # "this user has no permissions to run the 'x' command", "User u has no permissions to run …"
    return "to run the" in text


def refusal(url: StoreURL, lacks: MissingRights) -> str:
    """Describe the missing rights, and the ACL rule that grants them."""
    parts = []
    if lacks.commands:
        parts.append(f"the commands {', '.join(lacks.commands)}")
    if lacks.keys:
        parts.append(f"the keys {' '.join(lacks.keys)}")
    if lacks.channels:
        parts.append(f"the channels {' '.join(lacks.channels)}")
    return (
        f"{_user(url)} lacks rights that nbqueue needs: {' and '.join(parts)}. "
        f"This suffices: {_line(url, with_keys=bool(lacks.keys))} (see docs/store.md)"
    )


def refused_queues(url: StoreURL, queues: Sequence[str]) -> str:
    """Return the error for a worker without access to its queues' keys."""
    patterns = " ".join(f"~asynq:{{{name}}}:* ~nbqueue:{{{name}}}:*" for name in queues)
    return (
        f"{_user(url)} may not use the keys of the queues {', '.join(map(repr, queues))}, which "
        f"this worker is to serve. This gives it the right: ACL SETUSER {_name(url)} {patterns} "
        "(see docs/store.md)"
    )


def refused_channel(channel: str, text: str) -> MissingRights:
    """Return the message for a refused subscription to ``channel``."""
    if _is_command(text):
        return MissingRights(for_channels=["SUBSCRIBE"])
    return MissingRights(
        channels=[each for each in CHANNELS if channel.startswith(each[1:].removesuffix("*"))]
    )


def slower(url: StoreURL, lacks: MissingRights) -> str:
    """Return the warning for a user without some channels or channel commands."""
    parts, follows = [], []
    if lacks.channels:
        parts.append(f"use the channels {' '.join(lacks.channels)}")
    if lacks.for_channels:
        parts.append(f"run the commands {', '.join(lacks.for_channels)}")
    if lacks.for_channels or set(lacks.channels) & set(CHANNELS[1:]):
        follows.append("nbqueue asks the store again and again instead, which takes longer")
    if lacks.for_channels or CHANNELS[0] in lacks.channels:
        follows.append("tasks that run cannot be cancelled")
    grants = [*lacks.channels, *(f"+{name.lower()}" for name in lacks.for_channels)]
    return (
        f"{_user(url)} may not {' nor '.join(parts)}: {', and '.join(follows)}. "
        f"This gives it the right: ACL SETUSER {_name(url)} {' '.join(grants)} (see docs/store.md)"
    )


def missing_right(url: StoreURL, text: str) -> str:
    """Explain a server's refusal ``text`` about a missing permission."""
    line = _line(url, with_keys=is_about_keys(text))
    return f"the store's user lacks a right: {text}. This suffices: {line} (see docs/store.md)"


def is_about_keys(text: str) -> bool:
    """Return whether a server's refusal ``text`` is about a key."""
    return " key" in text and not _is_command(text)


def _name(url: StoreURL) -> str:
    return url.username or "default"


def _user(url: StoreURL) -> str:
    return f"the user {_name(url)!r} of the store {url.redacted}"


def _line(url: StoreURL, *, with_keys: bool) -> str:
    # A key pattern that is added to "all keys" is refused.
    rules = RULES if with_keys else RULES.removeprefix(" ".join(KEYS) + " ")
    return f"ACL SETUSER {_name(url)} {rules}"
