"""A connection that never blocks, for event loops."""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from nbqueue.runtime.buffers import Gathering, Piece, ReceiveBuffer, Slot, send_pieces
from nbqueue.transport import resp
from nbqueue.transport.refusals import ends_connection
from nbqueue.transport.resp import Arg, ReplyError
from nbqueue.transport.script_call import (
    NEEDS_FULL,
    Command,
    pack_staged,
    staged_replies,
    staged_reply,
)
from nbqueue.transport.server import Server

T = TypeVar("T")

_RECEIVE: Final = 262_144
_TRIES: Final = 5
"""Maximum number of times to load a script for one call.

A server may refuse to load scripts for ever.
"""
_FULL_TIMES: Final = 50
"""Number of calls that use the full script after one that needed it."""
_WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

OnReply = Callable[[Any], None]
"""Callback for the reply to a plain command, or a `ReplyError`."""


class ConnectionLost(Exception):
    """The connection is gone. Commands without a reply may have run or not."""


class ChannelMoved(ConnectionLost):
    """A channel is at another node of the cluster; the connection cannot be used any more."""


class NonblockingConnection:
    """Sends commands and passes replies to callbacks, in order.

    The owner polls `fileno` and calls `read` and `flush`. They raise `ConnectionLost` when the
    connection is gone, or when a refusal ends it (`refusals.ends_connection`); callbacks of what
    was under way are then not called, and the owner opens another connection.

    Scripts that the server lacks are loaded and sent again, so that their replies may come later
    than in order.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._raw = server.open_connection()
        self._socket: Any = self._raw.socket
        self._socket.setblocking(False)
        self._is_tls = self._raw.is_tls
        self._reader = resp.new_reader()
        self.wants_write = False
        """True if bytes to send are queued."""
        self._out = bytearray()
        self._pieces: deque[Piece] = deque()
        """Pieces queued before ``_out``, which are too large to be copied."""
        self._large: ReceiveBuffer | Slot | None = None
        self._begins = False
        """True if the next byte is known to be the first of a reply."""
        self.under_way: deque[OnReply | None] = deque()
        """Callbacks of the replies still to come, in order."""
        self._moves = self._moves_seen = 0
        """Number of transfers of bytes until now, and until the last `beat`."""
        self._quiet_since = time.monotonic()
        self._answered = 0
        """Number of replies received."""
        self._slots: dict[int, Slot] = {}
        """Places for the replies with these numbers, from 0."""
        self.handle: Callable[[OnReply, Any], None] | None = None
        """Function that is called with each callback and its reply.

        Set by an owner that guards callbacks.
        """
        self._loaded: set[bytes] = set()
        self._full: dict[tuple[str, str], int] = {}
        """Calls that still use the full script, by script and first key."""

    def fileno(self) -> int:
        number: int = self._socket.fileno()
        return number

    def beat(self, seconds: float) -> None:
        """Raise `ConnectionLost` if nothing moved for ``seconds`` while a reply was due.

        Where none is due, the server is sent a PING. Call this regularly: a peer that vanished is
        noticed in no other way.
        """
        now = time.monotonic()
        if self._moves != self._moves_seen or not self._awaits_reply():
            self._moves_seen, self._quiet_since = self._moves, now
        if not self._awaits_reply():
            self._send_ping()
        elif now - self._quiet_since > seconds:
            raise ConnectionLost(f"the store gave no answer for {seconds:g} s")

    def _awaits_reply(self) -> bool:
        return bool(self.under_way)

    def _send_ping(self) -> None:
        self.call(("PING",))

    def send(
        self,
        command: Command[T],
        on_reply: Callable[[T | ReplyError], None],
        tries: int = _TRIES,
        *,
        is_tracked: bool = False,
    ) -> None:
        """Queue a script; `flush` sends it. ``on_reply`` gets what the reply means.

        ``is_tracked``: the server reports once when a key changes that the script reads.
        """
        if command.full_script is not None and self._full:
            command = self._likely_script(command)
        script = command.script
        if script.sha not in self._loaded and not command.by_source:
            self._loaded.add(script.sha)
            self.call(("SCRIPT", "LOAD", script.source))

        def read(reply: Any) -> None:
            if isinstance(reply, ReplyError):
                if reply.code == "NOSCRIPT" and tries > 1:
                    self._loaded.discard(script.sha)
                    # A server that forgets scripts all the time gets the whole script at last.
                    again = replace(command, by_source=tries < _TRIES)
                    self.send(again, on_reply, tries - 1, is_tracked=is_tracked)
                else:
                    on_reply(self._naming_keys(reply, command.keys))
            elif command.full_script is not None and reply == NEEDS_FULL:
                self._full[script.name, command.keys[0]] = _FULL_TIMES
                self.send(command.full or command, on_reply)
            else:
                meaning: T | ReplyError
                try:
                    meaning = command.read(reply)
                except Exception as error:
                    # Any program may have written what it returns. It counts as refused.
                    what = f"{type(error).__name__}: {str(error)[:200]}"
                    meaning = ReplyError(f"UNREADABLE reply of {script.name}.lua: {what}")
                on_reply(meaning)

        if command.staged:
            self._send_staged(command, read)
            return
        if is_tracked:
            self.call(("CLIENT", "CACHING", "YES"))  # for the next command only
        self.call(command.words(), read)

    def _naming_keys(self, refusal: ReplyError, keys: Sequence[Arg]) -> ReplyError:
        if "WRONGTYPE" not in str(refusal):
            return refusal
        return ReplyError(f"WRONGTYPE {self.server.damage_of(keys)}")

    def _likely_script(self, command: Command[T]) -> Command[T]:
        """Return the call of the full script if it was needed lately.

        Else returns ``command``. Where one task was not simple, the next ones probably are not
        either.
        """
        way = (command.script.name, command.keys[0])
        times = self._full.get(way)
        if times is None:
            return command
        if times > 1:
            self._full[way] = times - 1
        else:
            del self._full[way]
        return command.full or command

    def _send_staged(self, command: Command[Any], read: OnReply) -> None:
        expected = staged_replies(command)
        replies: list[Any] = []

        def gather(reply: Any) -> None:
            replies.append(reply)
            if len(replies) == expected:
                read(staged_reply(command, replies))

        self._send_pieces(pack_staged(command))
        self.under_way.extend([gather] * expected)

    def _send_pieces(self, pieces: Sequence[Piece]) -> None:
        if self._out:
            self._pieces.append(self._out)
            self._out = bytearray()
        self._pieces.extend(pieces)
        self.wants_write = True

    def call(self, words: Sequence[Arg], on_reply: OnReply | None = None) -> None:
        """Queue a plain command."""
        self._out += resp.pack(words)
        self.wants_write = True
        self.under_way.append(on_reply)

    def gather(
        self, calls: Sequence[Sequence[Arg]], gathering: Gathering, then: Callable[[], None]
    ) -> None:
        """Read the pieces that ``calls`` ask for into one place, in their order.

        ``then`` is called when there is a reply for each.
        """

        def take(slot: Slot, reply: Any) -> None:
            slot.take(reply)
            if gathering.is_over:
                then()

        for words, slot in zip(calls, gathering.slots, strict=True):
            self._slots[len(self.under_way) + self._answered] = slot
            self.call(words, partial(take, slot))

    def flush(self) -> None:
        """Send what is queued, as far as the socket takes it."""
        while self._out or self._pieces:
            try:
                if self._pieces:
                    send_pieces(self._socket, self._pieces, one_by_one=self._is_tls)
                    self._moves += 1
                    continue
                sent = self._socket.send(self._out)
            except _WOULD_BLOCK:
                return
            except OSError as error:
                raise ConnectionLost(str(error)) from error
            self._moves += 1
            if sent == len(self._out):
                # A new buffer: the old one may have grown to many megabytes.
                self._out = bytearray()
            else:
                del self._out[:sent]
        self.wants_write = False

    def read(self) -> None:
        """Receive what has come, and call the callbacks of complete replies."""
        while True:
            if self._large is not None and not self._read_large(self._large):
                break
            try:
                data = self._socket.recv(_RECEIVE)
            except _WOULD_BLOCK:
                break
            except OSError as error:
                raise ConnectionLost(str(error)) from error
            if not data:
                raise ConnectionLost("the server closed the connection")
            self._moves += 1
            large = resp.large_reply(data, self._slot_for) if self._begins else None
            self._begins = False
            if large is not None:
                at, self._large = large
                self._reader.feed(data[:at])
                self._dispatch()
                continue
            self._reader.feed(data)
            self._dispatch()
            if len(data) < _RECEIVE and not (self._is_tls and self._has_pending()):
                break

    def _slot_for(self, number: int) -> Slot | None:
        return self._slots.get(self._answered + number)

    def _read_large(self, large: ReceiveBuffer | Slot) -> bool:
        """Receive more of a large reply; return whether it is complete.

        At most as much as the socket holds, so that other connections have their turn.
        """
        while True:
            try:
                count = self._socket.recv_into(large.room)
            except _WOULD_BLOCK:
                return False
            except OSError as error:
                raise ConnectionLost(str(error)) from error
            if not count:
                raise ConnectionLost("the server closed the connection")
            self._moves += 1
            if large.came(count):
                break
            if not (self._is_tls and self._has_pending()):
                return False
        self._large = None
        self._begins = True
        self._answer(large.whole(resp.END))
        return True

    def _has_pending(self) -> bool:
        # TLS may hold decrypted bytes, for which polling the socket does not report readiness.
        return bool(self._socket.pending() > 0)

    def _dispatch(self) -> None:
        reader = self._reader
        while True:
            reply = reader.gets()
            if reply is resp.INCOMPLETE:
                return
            self._answer(reply)
            if not reader.has_data():
                # The reader holds no part of a reply.
                self._begins = True
                return

    def _answer(self, reply: Any) -> None:
        if type(reply) is ReplyError:
            self._check_serving(reply)
        on_reply = self.under_way.popleft()
        if self._slots:
            self._slots.pop(self._answered, None)
        self._answered += 1
        if on_reply is not None:
            if self.handle is not None:
                self.handle(on_reply, reply)
            else:
                on_reply(reply)

    @staticmethod
    def _check_serving(refusal: ReplyError) -> None:
        if ends_connection(refusal):
            raise ConnectionLost(f"the store refuses to serve: {refusal}")

    def close(self) -> None:
        self._raw.close()
