"""A connection to the store that never blocks, for the event loop of a worker."""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from nbqueue.runtime.buffers import Gathering, Piece, ReceiveBuffer, Slot, send_pieces
from nbqueue.store.connection import Store
from nbqueue.transport import resp
from nbqueue.transport.script_call import NEEDS_FULL, Arg, Command

_RECEIVE = 262_144
_TRIES = 5
"""A server that refuses to load scripts must not be asked for ever."""
_CAREFUL_TIMES = 50
"""Where one task was not simple, the next ones are taken for the same, so as not to ask twice."""
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

OnReply = Callable[[Any], None]


class ConnectionLost(Exception):
    """The connection is gone; what was not answered may have run or not."""


class NonblockingConnection:
    """Commands out, replies to callbacks, in order. The owner polls `fileno` and calls `read`.

    A callback gets what the reply means, or a `resp.ReplyError`. Scripts that the server lacks are
    loaded and the command sent again by itself; its reply then comes later than its place in the
    order. `read` and `flush` raise `ConnectionLost` when the connection is gone; callbacks of
    what was under way are then not called, the owner starts over with a new link.
    """

    def __init__(self, store: Store) -> None:
        self.url = store.url
        self._raw = store.open_connection()
        self._socket: Any = self._raw.socket
        self._socket.setblocking(False)
        self._is_tls = isinstance(self._socket, ssl.SSLSocket)
        self._reader = resp.new_reader()
        self.wants_write = False
        """Whether something is queued."""
        self._out = bytearray()
        self._pieces: deque[Piece] = deque()
        """What goes before that, and is too large to be copied."""
        self._large: ReceiveBuffer | Slot | None = None
        self._begins = False
        """Whether what comes next is surely the beginning of a reply."""
        self._waiting: deque[OnReply | None] = deque()
        self._moves = self._moves_seen = 0
        """How often bytes moved, and how often they had when `beat` was called last."""
        self._quiet_since = time.monotonic()
        self._answered = 0
        """How many replies came."""
        self._slots: dict[int, Slot] = {}
        """Where the reply with this number, from 0, is to be received."""
        self.handle: Callable[[OnReply, Any], None] | None = None
        """Calls the callbacks with their replies, if the owner wants to guard these."""
        self._loaded: set[bytes] = set()
        self._careful: dict[tuple[str, str], int] = {}

    def fileno(self) -> int:
        number: int = self._socket.fileno()
        return number

    @property
    def under_way(self) -> int:
        """How many replies are still to come."""
        return len(self._waiting)

    def beat(self, seconds: float) -> None:
        """Raise `ConnectionLost` if nothing moved for so long while an answer was due.

        Where none is due, the server is asked for a sign of life. Call this regularly: of a peer
        that vanished, or never answers, nothing else tells.
        """
        now = time.monotonic()
        if self._moves != self._moves_seen or not self._awaits_answer():
            self._moves_seen, self._quiet_since = self._moves, now
        if not self._awaits_answer():
            self._ask_for_sign()
        elif now - self._quiet_since > seconds:
            raise ConnectionLost(f"the store gave no answer for {seconds:g} s")

    def _awaits_answer(self) -> bool:
        return bool(self._waiting)

    def _ask_for_sign(self) -> None:
        self.call(("PING",))

    def send(
        self,
        command: Command[Any],
        on_reply: OnReply,
        tries: int = _TRIES,
        *,
        is_tracked: bool = False,
    ) -> None:
        """Queue a script; `flush` sends. ``is_tracked``: the server is to tell, once, when a key
        changes that it reads."""
        if command.full_script is not None and self._careful:
            command = self._likely_way(command)
        script = command.script
        if script.sha not in self._loaded:
            self._loaded.add(script.sha)
            self.call(("SCRIPT", "LOAD", script.source))

        def read(reply: Any) -> None:
            if isinstance(reply, resp.ReplyError):
                if reply.code == "NOSCRIPT" and tries > 1:
                    self._loaded.discard(script.sha)
                    self.send(command, on_reply, tries - 1, is_tracked=is_tracked)
                else:
                    on_reply(resp.named(reply, command.keys))
            elif command.full_script is not None and reply == NEEDS_FULL:
                self._careful[script.name, command.keys[0]] = _CAREFUL_TIMES
                self.send(command.full or command, on_reply)
            else:
                on_reply(_understood(command, reply))

        if command.staged:
            self._send_staged(command, read)
            return
        if is_tracked:
            self.call(("CLIENT", "CACHING", "YES"))  # which is for the next command only
        self._queue(command.words())
        self._waiting.append(read)

    def _queue(self, words: Sequence[Arg]) -> None:
        self._out += resp.pack(words)
        self.wants_write = True

    def _likely_way(self, command: Command[Any]) -> Command[Any]:
        """The careful way for as long as that was needed a moment ago, else the short one."""
        way = (command.script.name, command.keys[0])
        times = self._careful.get(way)
        if times is None:
            return command
        if times > 1:
            self._careful[way] = times - 1
        else:
            del self._careful[way]
        return command.full or command

    def _send_staged(self, command: Command[Any], read: OnReply) -> None:
        expected = resp.staged_replies(command)
        replies: list[Any] = []

        def gather(reply: Any) -> None:
            replies.append(reply)
            if len(replies) == expected:
                read(resp.staged_reply(command, replies))

        self._send_pieces(resp.pack_staged(command))
        self._waiting.extend([gather] * expected)

    def _send_pieces(self, pieces: Sequence[Piece]) -> None:
        if self._out:
            self._pieces.append(self._out)
            self._out = bytearray()
        self._pieces.extend(pieces)
        self.wants_write = True

    def call(self, words: Sequence[Arg], on_reply: OnReply | None = None) -> None:
        """Queue a plain command."""
        self._queue(words)
        self._waiting.append(on_reply)

    def gather(
        self, calls: Sequence[Sequence[Arg]], gathering: Gathering, then: Callable[[], None]
    ) -> None:
        """Read the pieces that ``calls`` ask for, in their order, into one place, and call ``then``
        when something came for each."""

        def take(slot: Slot, reply: Any) -> None:
            slot.take(reply)
            if gathering.is_over:
                then()

        for words, slot in zip(calls, gathering.slots, strict=True):
            self._slots[len(self._waiting) + self._answered] = slot
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
                # A new one: the old one may have grown to many megabytes.
                self._out = bytearray()
            else:
                del self._out[:sent]
        self.wants_write = False

    def read(self) -> None:
        """Take what has come, and call the callbacks of whole replies."""
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
            if len(data) < _RECEIVE and not self._has_pending():
                break

    def _slot_for(self, number: int) -> Slot | None:
        return self._slots.get(self._answered + number)

    def _read_large(self, large: ReceiveBuffer | Slot) -> bool:
        """Go on with a large reply; returns whether it is whole. Not more at once than there is
        room for in the socket, so that others have their turn."""
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
            if not self._has_pending():
                return False
        self._large = None
        self._begins = True
        self._answer(large.whole(resp.END))
        return True

    def _has_pending(self) -> bool:
        # TLS may hold decrypted bytes that no poll of the socket shows.
        return self._is_tls and self._socket.pending() > 0

    def _dispatch(self) -> None:
        reader = self._reader
        while True:
            reply = reader.gets()
            if reply is resp.INCOMPLETE:
                return
            self._answer(reply)
            if not reader.has_data():
                # The reader has no half of a reply.
                self._begins = True
                return

    def _answer(self, reply: Any) -> None:
        if type(reply) is resp.ReplyError and resp.ends_connection(reply):
            raise ConnectionLost(f"the store refuses to serve: {reply}")
        on_reply = self._waiting.popleft()
        if self._slots:
            self._slots.pop(self._answered, None)
        self._answered += 1
        if on_reply is not None:
            if self.handle is not None:
                self.handle(on_reply, reply)
            else:
                on_reply(reply)

    def close(self) -> None:
        self._raw.close()


def _understood(command: Command[Any], reply: Any) -> Any:
    """What a reply means. A script returns values that any program may have written: one that
    cannot be read counts as refused."""
    try:
        return command.read(reply)
    except Exception as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        return resp.ReplyError(f"UNREADABLE reply of {command.script.name}.lua: {what}")


class MessageLink(NonblockingConnection):
    """A link on which messages come by themselves, and replies belong to no callback."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._is_asked = False

    def _awaits_answer(self) -> bool:
        return self._is_asked

    def _ask_for_sign(self) -> None:
        self._is_asked = True
        self._queue(("PING",))

    def _replies(self) -> Iterator[Any]:
        self._is_asked = False  # whatever comes is a sign of life
        while (reply := self._reader.gets()) is not resp.INCOMPLETE:
            if isinstance(reply, resp.ReplyError) and resp.ends_connection(reply):
                raise ConnectionLost(f"the store refuses to serve: {reply}")
            yield reply


class PubSubConnection(MessageLink):
    """Subscriptions of a worker.

    ``on_id`` gets the number that the server has for this connection, ``on_refused`` each channel
    that its user may not listen to, and the error.
    """

    def __init__(
        self,
        store: Store,
        channels: Sequence[str],
        on_message: OnReply,
        on_id: OnReply,
        on_refused: Callable[[str, resp.ReplyError], None],
    ) -> None:
        super().__init__(store)
        self._on_message = on_message
        self._on_id = on_id
        self._on_refused = on_refused
        self._has_id = False
        self._asked_for: deque[str] = deque()
        """The channels of subscriptions that are not answered yet."""
        self._queue(("CLIENT", "ID"))
        for channel in channels:
            self.follow(channel)  # one by one, as the user may lack the right to some

    def follow(self, channel: str) -> None:
        """Listen to one more channel; `flush` sends."""
        self._asked_for.append(channel)
        self._queue(("SUBSCRIBE", channel))

    def unfollow(self, channel: str) -> None:
        """Listen to a channel no more."""
        self._queue(("UNSUBSCRIBE", channel))

    def _dispatch(self) -> None:
        for reply in self._replies():
            if isinstance(reply, list) and reply[0] == b"message":
                self._on_message(reply)
            elif not self._has_id:  # which was asked for first
                self._has_id = True
                if isinstance(reply, int):
                    self._on_id(reply)
            elif isinstance(reply, list) and reply[0] == b"subscribe":
                self._asked_for.popleft()
            elif (
                isinstance(reply, resp.ReplyError) and reply.reason == "NOPERM" and self._asked_for
            ):
                self._on_refused(self._asked_for.popleft(), reply)
