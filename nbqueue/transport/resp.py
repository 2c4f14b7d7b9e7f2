"""Redis's protocol at speed: commands to bytes, bytes to replies, error replies to exceptions.

redis-py connects and authenticates; on the hot paths its sockets are used directly, with hiredis.
Large values are neither copied on their way out nor, where they are a reply of their own, on their
way in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

import hiredis

from nbqueue.errors import (
    NbqueueError,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    StoreUnsuitable,
)
from nbqueue.runtime.buffers import LARGE, Piece, ReceiveBuffer, Slot, parts_of
from nbqueue.store.rights import is_about_keys, missing_right
from nbqueue.store.url import StoreURL
from nbqueue.transport.script_call import Arg, Command, Staged


class ReplyError(NbqueueError):
    """The server refused a command; ``code`` is the first word of its reply."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]

    @property
    def reason(self) -> str:
        """The code, also of an error within a script, which servers before 7.0 wrap in ``ERR``."""
        code, _, text = str(self).partition(" ")
        if code != "ERR":
            return code
        if "max number of clients" in text:
            return "MAXCLIENTS"
        if "The user executing the script" in text:
            return "NOPERM"
        if "Script killed by user" in text:
            return "KILLED"
        wrapped = _WRAPPED.search(text)
        return wrapped[1] if wrapped else code


class KeyDenied(StoreDenied, StoreDamaged):
    """The store's user may not use a key: to those who look at many, it is one that cannot be
    read."""


def pack(words: Sequence[Arg]) -> bytes:
    # Its own way from numbers to text crashes if Ctrl-C comes just then.
    texts = tuple([word if type(word) in _TEXTS else str(word) for word in words])
    try:
        packed: bytes = hiredis.pack_command(texts)
    except UnicodeEncodeError:
        # A name that some program wrote, and that is no UTF-8; see `wire.keys.stored_name`.
        packed = hiredis.pack_command(tuple(map(_bytes_of, texts)))
    return packed


def _bytes_of(word: Arg) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape")


_TEXTS: Final = frozenset({bytes, str})


def packer(words: Sequence[Arg | None]) -> Callable[..., bytes]:
    """What packs a command of which only the words that are ``None`` here change: it takes these,
    in order, as bytes. The others are packed once."""
    text = b"*%d\r\n" % len(words)
    for word in words:
        text += b"$%d\r\n%b\r\n" if word is None else _word(word).replace(b"%", b"%%")

    def pack_with(*values: bytes) -> bytes:
        return text % tuple(chain.from_iterable(zip(map(len, values), values, strict=True)))

    return pack_with


def _word(word: Arg) -> bytes:
    packed = pack((word,))
    return packed[packed.index(b"$") :]


def pack_staged(command: Command[Any]) -> list[Piece]:
    """A command and what is staged for it, in one transaction. `staged_reply` finds the reply that
    matters among the `staged_replies` that come."""
    pieces: list[Piece] = [pack(("MULTI",))]
    for staged in command.staged:
        pieces += _pack_hash(staged)
    last = pack(command.words())
    keys = [staged.key for staged in command.staged if not staged.stays]
    if keys:
        last += pack(("DEL", *keys))
    pieces.append(last + pack(("EXEC",)))
    return pieces


def staged_replies(command: Command[Any]) -> int:
    """How many replies come to `pack_staged`."""
    return len(command.staged) + 3 + (not all(staged.stays for staged in command.staged))


def _pack_hash(staged: Staged) -> list[Piece]:
    head = pack(("HSET", staged.key))
    pieces: list[Piece] = []
    text = b"*%d%b" % (2 + 2 * len(staged.values), head[head.index(b"\r") :])
    for name, value in staged.values:
        text += b"$%d\r\n%b\r\n$%d\r\n" % (len(name), name.encode(), len(value))
        pieces.append(text)
        pieces += [piece for piece in parts_of(value) if len(piece)]
        text = b"\r\n"
    pieces.append(text)
    return pieces


def staged_reply(command: Command[Any], replies: Sequence[Any]) -> Any:
    """What the script of `pack_staged` replied, or why it did not run."""
    *said, results = replies
    if isinstance(results, ReplyError):
        # Discarded because of an earlier refusal, which says more: there is no memory, say.
        return next((each for each in said if isinstance(each, ReplyError)), results)
    return results[len(command.staged)]


def new_reader() -> Any:
    """A parser of replies: ``feed`` it bytes, ``gets`` replies; errors come as `ReplyError`."""
    return hiredis.Reader(protocolError=StoreError, replyError=ReplyError, notEnoughData=INCOMPLETE)


def large_reply(
    data: bytes, slot_for: Callable[[int], Slot | None] | None = None
) -> tuple[int, ReceiveBuffer | Slot] | None:
    """Find the beginning of a large string in ``data``, which begins with the beginning of a reply.

    Returns where it is, and what receives it: the rest goes into its `ReceiveBuffer.room`, and
    `END` bytes of it do not count. Nothing is found behind a reply that is a list: read such a
    string by itself. ``slot_for`` says where the reply with this number, from
    0, belongs, if it has a place.
    """
    at = number = 0
    while data[at : at + 1] in _LINES:
        end = data.find(b"\r\n", at, at + _LONGEST_LINE) + 2
        if end == 1:
            return None
        if data[at] == _STRING:
            size = int(data[at + 1 : end - 2])
            if size > LARGE and end + size + END > len(data):
                first = memoryview(data)[end:]
                slot = slot_for(number) if slot_for is not None else None
                place = slot.incoming(size + END, first) if slot is not None else None
                return at, place or ReceiveBuffer(size + END, first)
            at = end + size + END if size >= 0 else end
        else:
            at = end
        number += 1
    return None


END: Final = 2
_LINES: Final = frozenset({b"$", b"+", b":"})
_STRING: Final = ord("$")
_LONGEST_LINE: Final = 64


class _Incomplete:
    """Stands for a reply that has not come whole; a nil reply is ``None``."""


INCOMPLETE = _Incomplete()

_WRAPPED: Final = re.compile(r" -([A-Z]{3,}) ")

_NOT_SERVING: Final = frozenset(
    {"LOADING", "MASTERDOWN", "READONLY", "NOAUTH", "WRONGPASS", "MAXCLIENTS", "DENIED"}
)
_NOT_READY: Final = frozenset(
    {
        *("LOADING", "MASTERDOWN", "READONLY", "MAXCLIENTS", "BUSY", "TRYAGAIN", "CLUSTERDOWN"),
        *("NOREPLICAS", "KILLED"),
    }
)
_TRANSIENT: Final = _NOT_SERVING | _NOT_READY | {"OOM", "MISCONF", "NOPERM"}

STORE_WIDE: Final = (_NOT_READY | {"OOM", "MISCONF"}) - {"KILLED"}
"""The reasons for which a server refuses any command of a kind, and not one in particular."""


def ends_connection(error: ReplyError) -> bool:
    """Whether this connection is of no more use: its server refuses to serve it, or is a replica.

    Another connection may reach another server, or the same one once it is ready.
    """
    return error.reason in _NOT_SERVING


def is_not_ready(error: ReplyError) -> bool:
    """Whether the same command should soon succeed: the server is loading or failing over, say."""
    return error.reason in _NOT_READY


def is_transient(error: ReplyError) -> bool:
    """Whether the same command may succeed later, perhaps once somebody has mended the server."""
    return error.reason in _TRANSIENT


_CAUSES: Final = {
    "LOADING": "it is still reading its data",
    "MASTERDOWN": "it is a replica that lost its master",
    "READONLY": "it is a replica, which cannot be written to",
    "MAXCLIENTS": "it has as many clients as its maxclients allows",
    "BUSY": "it is busy with a script",
    "NOREPLICAS": "too few of its replicas are connected (min-replicas-to-write)",
    "KILLED": "somebody ended the script (SCRIPT KILL)",
}


_MOST_SHOWN: Final = 3


def keys_of(data: bytes) -> list[bytes]:
    """The keys of a script's call, as `pack` made it."""
    reader = new_reader()
    reader.feed(data)
    words: list[bytes] = reader.gets()
    return words[3 : 3 + int(words[2])]


def named(error: ReplyError, keys: Sequence[Arg]) -> ReplyError:
    """The refusal of a command with these keys; if one of them is the reason, it names them."""
    if "WRONGTYPE" not in str(error):
        return error
    return ReplyError(f"WRONGTYPE {damage(keys)}")


def damage(keys: Sequence[Arg]) -> StoreDamaged:
    """The exception for a command of which one of ``keys`` holds something else than it is for."""
    names = [key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key) for key in keys]
    # The keys of a queue rather than those of tasks, so that logs say the same of all its tasks.
    names = [repr(name) for name in names if ":t:" not in name] or list(map(repr, names))
    if not names:
        subject = "a key of the store"
    elif len(names) == 1:
        subject = names[0]
    else:
        more = ", …" if len(names) > _MOST_SHOWN else ""
        subject = f"one of the keys {', '.join(names[:_MOST_SHOWN])}{more}"
    way = "" if len(names) == 1 else "; `nbqueue store check` says which"
    return StoreDamaged(f"{subject} holds something else than its name says{way}")


def store_error(error: ReplyError, url: StoreURL, keys: Sequence[Arg] = ()) -> StoreError:
    """Return the exception for a refusal by the store at ``url`` of a command with these keys.

    It names the cause and what can be done about it.
    """
    text, reason = str(error), error.reason
    sentence = text.rstrip(". ")
    if reason in _NOT_READY:
        cause = _CAUSES.get(reason)
        shown = f"{cause} ({text})" if cause else text
        return StoreUnreachable(f"The store is not ready: {shown}")
    if reason == "NOPERM":
        kind = KeyDenied if is_about_keys(text) else StoreDenied
        return kind(missing_right(url, text))
    if reason in {"NOAUTH", "WRONGPASS", "DENIED"}:
        return StoreDenied(
            f"The store refuses: {sentence}. Check the user and password in its URL."
        )
    if reason == "OOM":
        return StoreUnsuitable(
            f"The store is full: {sentence}. Raise maxmemory, or delete tasks that nobody needs."
        )
    if reason == "MISCONF":
        return StoreUnsuitable(
            f"The store cannot write to its disk: {text} Make room on it, or mend its rights."
        )
    if "WRONGTYPE" in text:
        return StoreDamaged(f"{damage(keys)} (WRONGTYPE)")
    return StoreError(f"The store refused a command: {text}")
