"""Redis's protocol at speed: commands to bytes, bytes to replies, error replies to exceptions.

redis-py connects and authenticates; on the hot paths its sockets are used directly, with hiredis.
Large values are neither copied on their way out nor, where they are a reply of their own, on their
way in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

import hiredis

from nbqueue.broker.command import Arg, Command, Staged
from nbqueue.errors import NbqueueError, StoreDenied, StoreError, StoreUnsuitable
from nbqueue.pieces import LARGE, Incoming, Piece, Slot, parts_of


class ReplyError(NbqueueError):
    """The server refused a command; ``code`` is the first word of its reply."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]


def pack(words: Sequence[Arg]) -> bytes:
    # Its own way from numbers to text crashes if Ctrl-C comes just then.
    texts = tuple([word if type(word) in _TEXTS else str(word) for word in words])
    packed: bytes = hiredis.pack_command(texts)
    return packed


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
) -> tuple[int, Incoming | Slot] | None:
    """Find the beginning of a large string in ``data``, which begins with the beginning of a reply.

    Returns where it is, and what receives it: the rest goes into its `Incoming.room`, and `END`
    bytes of it do not count. Nothing is found behind a reply that is a list: who wants it read
    without a copy asks for it by itself. ``slot_for`` says where the reply with this number, from
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
                return at, place or Incoming(size + END, first)
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

_TRANSIENT = {"LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "OOM"}


def is_transient(error: ReplyError) -> bool:
    """True if the same command may succeed later: the server is loading, full, or failing over."""
    if error.code in _TRANSIENT:
        return True
    # Up to Redis 6.2 an error within a script is wrapped: "ERR Error running script …: -OOM …".
    text = str(error)
    return error.code == "ERR" and any(f"-{code} " in text for code in _TRANSIENT)


def is_full(error: ReplyError) -> bool:
    """True if the server has no memory left for what was asked."""
    return error.code == "OOM" or "-OOM " in str(error)


def store_error(error: ReplyError) -> StoreError:
    """The exception for a refusal that no repetition will mend."""
    text = str(error)
    if error.code in {"NOAUTH", "WRONGPASS", "NOPERM"}:
        return StoreDenied(f"The store refuses: {text}. Check the user and password in its URL.")
    if is_full(error):
        return StoreUnsuitable(
            f"The store is full: {text}. Raise maxmemory, or delete tasks that nobody needs."
        )
    if error.code == "MISCONF":
        return StoreUnsuitable(f"The store cannot write to its disk: {text}")
    return StoreError(f"The store refused a command: {text}")
