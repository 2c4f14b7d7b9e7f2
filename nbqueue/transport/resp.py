"""Redis's protocol: commands to bytes, bytes to replies.

Large values are not copied on their way out, nor on their way in where they are a reply of their
own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis

from nbqueue.errors import StoreError
from nbqueue.runtime.buffers import LARGE, ReceiveBuffer, Slot
from nbqueue.transport.refusals import STORE_WIDE as STORE_WIDE
from nbqueue.transport.refusals import ReplyError as ReplyError
from nbqueue.transport.refusals import is_transient as is_transient

Arg = bytes | str | int | float


class ProtocolError(StoreError):
    """Received bytes are not Redis's protocol."""


def pack(words: Sequence[Arg]) -> bytes:
    """Return a command as bytes."""
    # hiredis's own conversion of numbers crashes if Ctrl-C comes just then.
    texts = tuple([word if type(word) in _TEXTS else str(word) for word in words])
    try:
        packed: bytes = hiredis.pack_command(texts)
    except UnicodeEncodeError:
        # A name that another program wrote and that is not UTF-8: see `wire.keys.stored_name`.
        packed = hiredis.pack_command(tuple(map(_bytes_of, texts)))
    return packed


def _bytes_of(word: Arg) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape")


_TEXTS: Final = frozenset({bytes, str})


def template(words: Sequence[Arg | None]) -> bytes:
    """Return a command of which only a few words change, to be filled in by ``%``.

    Those words are ``None`` in ``words``. The length of each, and it as bytes, are filled in in
    order. The other words are packed once.
    """
    text = b"*%d\r\n" % len(words)
    for word in words:
        text += b"$%d\r\n%b\r\n" if word is None else _word(word).replace(b"%", b"%%")
    return text


def _word(word: Arg) -> bytes:
    packed = pack((word,))
    return packed[packed.index(b"$") :]


def new_reader() -> Any:
    """Return a parser of replies: ``feed`` it bytes, then ``gets`` replies.

    A refusal is a `ReplyError`; `INCOMPLETE` stands for a reply that has not come whole.
    """
    return hiredis.Reader(
        protocolError=ProtocolError, replyError=ReplyError, notEnoughData=INCOMPLETE
    )


def large_reply(
    data: bytes, slot_for: Callable[[int], Slot | None] | None = None
) -> tuple[int, ReceiveBuffer | Slot] | None:
    """Find where a large string begins in ``data``, which begins where a reply does.

    Returns the position and what receives the string: the rest of it goes into the buffer's
    ``room``, and the last `END` bytes do not count. Strings after or within a reply that is a list
    are not found, so request a large one alone. ``slot_for`` returns where the reply with this
    number, from 0, is to be received, if it has a place.
    """
    at = number = 0
    while data[at : at + 1] in MAY_BE_LARGE:
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
MAY_BE_LARGE: Final = frozenset({b"$", b"+", b":"})
"""The first bytes of data in which `large_reply` may find a string."""
_STRING: Final = ord("$")
_LONGEST_LINE: Final = 64


class _Incomplete:
    """Stands for an incomplete reply. A nil reply is ``None``."""


INCOMPLETE = _Incomplete()


def keys_of(data: bytes) -> list[bytes]:
    """Return the keys of a packed call of a script."""
    reader = new_reader()
    reader.feed(data)
    words: list[bytes] = reader.gets()
    return words[3 : 3 + int(words[2])]
