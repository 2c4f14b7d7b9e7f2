"""A blocking connection to a server, shared by the threads of a client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

from nbqueue.errors import StoreDamaged, StoreError, StoreUnreachable
from nbqueue.runtime.buffers import LARGE, Gathering, Piece, ReceiveBuffer, Slot
from nbqueue.runtime.busy_poll import BusyPoll, limit_waits
from nbqueue.transport import resp
from nbqueue.transport.confirmation import Confirmation
from nbqueue.transport.connect import RawConnection
from nbqueue.transport.refusals import ends_connection
from nbqueue.transport.resp import Arg
from nbqueue.transport.script_call import (
    NEEDS_FULL,
    Command,
    Script,
    pack_staged,
    staged_replies,
    staged_reply,
    with_source,
)
from nbqueue.transport.server import Server

T = TypeVar("T")

_RECEIVE = 262_144
_SEND_AT = 32_768
"""Bytes to collect before a system call, while more are being made."""


class BlockingConnection:
    """Sends commands in one go and waits for their replies.

    Connects when first used.
    """

    def __init__(
        self, server: Server, timeout: float = 30.0, on_open: Callable[[], None] = lambda: None
    ) -> None:
        self._server = server
        self._timeout = timeout
        self._on_open = on_open
        self._lock = threading.Lock()
        self._raw: RawConnection | None = None
        self._reader: Any = None
        self._loaded: set[bytes] = set()
        self._is_ended = False
        """True if the server refused to serve this connection."""
        self.number = 0
        """Number of connections opened so far, which identifies the present one."""
        self._busy_poll, self._may_poll = BusyPoll(), False

    def run(self, commands: Iterable[Command[Any]], then: bytes = b"") -> list[Any]:
        """Run scripts in one round trip, and return their results in order.

        ``then`` is a packed plain command to send after them, whose reply is only checked.

        ``commands`` is consumed while the first are sent already, so that the server works on
        them; it must not use this connection. Scripts that the server lacks are loaded. Raises
        `StoreUnreachable` on a lost connection, `StoreError` on a refusal.
        """
        sent, replies = self._run(commands, then)
        try:
            return [
                command.read(self._checked(reply, command.keys))
                for command, reply in zip(sent, replies, strict=True)
            ]
        except StoreUnreachable as error:
            # Some may have run, although one was refused.
            error.was_sent = not all(isinstance(reply, resp.ReplyError) for reply in replies)
            raise

    def try_run(self, commands: Iterable[Command[Any]]) -> list[Any]:
        """Like `run`, with `StoreDamaged` in place of a reply that cannot be read."""
        return [self._read_or_damage(*each) for each in zip(*self._run(commands), strict=True)]

    def _read_or_damage(self, command: Command[T], reply: Any) -> T | StoreDamaged:
        try:
            return command.read(self._checked(reply, command.keys))
        except StoreDamaged as error:
            return error

    def _run(
        self, commands: Iterable[Command[Any]], then: bytes = b""
    ) -> tuple[list[Command[Any]], list[Any]]:
        """Run scripts; return those that were sent and the reply to each."""
        with self._lock:
            sent, replies = self._exchange_scripts(commands, then)
            self._run_missing(sent, replies)
            instead = {
                i: command.full or command
                for i, command in enumerate(sent)
                if command.full_script is not None and replies[i] == NEEDS_FULL
            }
            if instead:
                _, again = self._exchange_scripts(instead.values())
                self._run_missing([*instead.values()], again)
                for i, reply in zip(instead, again, strict=True):
                    replies[i] = reply
        return sent, replies

    def run_packed(self, script: Script, data: bytes, then: bytes = b"") -> Any:
        """Run a script that is packed already, and return its reply.

        For tasks that are submitted one by one, so it takes few steps (benchmark A1). ``then`` is
        as for `run`, and so is what it raises.
        """

        reply: Any = None
        with self._lock:
            for tries in range(3):
                is_connected = False
                try:
                    raw = self._raw
                    if raw is None or self._is_ended:
                        raw = self._connect()
                    connection, is_connected = raw.socket, True
                    if script.sha not in self._loaded:
                        connection.sendall(resp.pack(("SCRIPT", "LOAD", script.source)))
                        self._checked(self._receive(connection, 1)[0])
                        self._loaded.add(script.sha)
                    connection.sendall(data + then)
                    reply, *rest = self._receive(connection, 2 if then else 1)
                    if rest and isinstance(rest[0], resp.ReplyError):
                        self._checked(rest[0])
                except BaseException as error:
                    self._fail(error, is_connected)
                if not isinstance(reply, resp.ReplyError):
                    return reply
                if not _is_missing_script(reply):
                    break
                self._loaded.clear()
                if tries:
                    data = with_source(script, data)
        return self._checked(reply, resp.keys_of(data))

    def _run_missing(self, sent: Sequence[Command[Any]], replies: list[Any]) -> None:
        """Run again what found no script: loaded anew, or sent whole if it is forgotten at once."""
        for by_source in (False, True):
            missing = [i for i, reply in enumerate(replies) if _is_missing_script(reply)]
            if not missing:
                return
            self._loaded.clear()
            again = [replace(sent[i], by_source=by_source) for i in missing]
            for i, reply in zip(missing, self._exchange_scripts(again)[1], strict=True):
                replies[i] = reply

    def call(self, *calls: Sequence[Arg]) -> list[Any]:
        """Run plain commands in one round trip, and return their replies."""
        replies = self._replies(calls)
        return [
            self._checked(reply, words[1:2]) for words, reply in zip(calls, replies, strict=True)
        ]

    def _replies(self, calls: Sequence[Sequence[Arg]]) -> list[Any]:
        with self._lock:
            return self._exchange([[resp.pack(words) for words in calls]], lambda: len(calls))

    def try_call(self, *calls: Sequence[Arg]) -> list[Any]:
        """Like `call`, with `StoreDamaged` for a key of the wrong type."""
        replies = self._replies(calls)
        return [self._damage_of(words, reply) for words, reply in zip(calls, replies, strict=True)]

    def _damage_of(self, words: Sequence[Arg], reply: Any) -> Any:
        """Return the reply, or an error that names the key at fault."""
        if isinstance(reply, resp.ReplyError) and reply.code == "WRONGTYPE":
            return self._server.damage_of(words[1:2])
        try:
            return self._checked(reply)
        except StoreDamaged as error:
            return error

    def confirm(self, number: int, seconds: float, mark: str, until: Confirmation) -> None:
        """Wait until everything written over connection ``number`` is as safe as ``until`` says.

        The key ``mark`` is written for it. Raises `StoreUnreachable` if it takes longer than
        ``seconds``, or if that connection was lost: the next may be to another server.
        """
        seconds = min(seconds, until.longest)
        with self._lock:
            if self._raw is None or self.number != number:
                raise _unconfirmed(until, "its connection was lost before")
            # The server waits for what this connection wrote last, and a repeated script may have
            # written nothing.
            write = resp.pack(("SET", mark, number, "PX", 1000))
            wait = resp.pack((*until.command, round(seconds * 1000)))
            written, reply = self._exchange([[write, wait]], lambda: 2)
        for each in (written, reply):
            # A user of certain queues only may not write the mark.
            if isinstance(each, resp.ReplyError) and (each is reply or each.reason != "NOPERM"):
                raise _unconfirmed(until, str(each))
        if not until.is_given(reply):
            raise _unconfirmed(until, f"that took longer than {seconds:g} s")

    def gather(self, calls: Sequence[Sequence[Arg]], gathering: Gathering) -> bytes | None:
        """Read the pieces that ``calls`` ask for into one place.

        None if one is not as expected.
        """
        slots = gathering.slots
        with self._lock:
            packed = [b"".join(resp.pack(words) for words in calls)]
            replies = self._exchange([packed], lambda: len(slots), slots)
        for slot, reply in zip(slots, replies, strict=True):
            slot.take(self._checked(reply))
        return gathering.whole()

    def open(self) -> None:
        """Connect if not connected, so that the next call takes one round trip only."""
        with self._lock:
            self._ask(lambda connection: None)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _exchange_scripts(
        self, commands: Iterable[Command[Any]], then: bytes = b""
    ) -> tuple[list[Command[Any]], list[Any]]:
        """Send scripts, with those to load.

        Returns the commands that were sent and the reply to each.
        """
        sent: list[Command[Any]] = []
        loads: list[int] = []
        expected = 0

        def parts() -> Iterator[list[Piece]]:
            nonlocal expected
            for command in commands:
                script = command.script
                made: list[Piece] = []
                if script.sha not in self._loaded and not command.by_source:
                    self._loaded.add(script.sha)
                    made.append(resp.pack(("SCRIPT", "LOAD", script.source)))
                    loads.append(expected)
                    expected += 1
                if command.staged:
                    made += pack_staged(command)
                    expected += staged_replies(command)
                else:
                    made.append(resp.pack(command.words()))
                    expected += 1
                sent.append(command)
                yield made
            if then:
                expected += 1
                yield [then]

        replies = self._exchange(parts(), lambda: expected)
        if then:
            self._checked(replies.pop())
        for at in reversed(loads):
            reply = replies.pop(at)
            if isinstance(reply, resp.ReplyError):
                self._loaded.clear()
            self._checked(reply)
        if len(replies) > len(sent):
            replies = _by_command(sent, replies)
        return sent, replies

    def _exchange(
        self,
        parts: Iterable[Sequence[Piece]],
        expected: Callable[[], int],
        slots: Sequence[Slot] = (),
    ) -> list[Any]:
        def ask(connection: Any) -> list[Any]:
            waiting: list[Piece] = []
            size = 0
            for each in parts:
                waiting += each
                size += sum(map(len, each))
                if size > _SEND_AT:
                    for data in _joined(waiting):
                        connection.sendall(data)
                    waiting, size = [], 0
            for data in _joined(waiting):
                connection.sendall(data)
            return self._receive(connection, expected(), slots)

        return self._ask(ask)

    def _ask(self, ask: Callable[[Any], T]) -> T:
        """Call ``ask`` with the socket; drop the connection if that fails."""
        is_connected = False
        try:
            raw = self._connect()
            is_connected = True
            return ask(raw.socket)
        except BaseException as error:
            self._fail(error, is_connected)

    def _fail(self, error: BaseException, is_connected: bool) -> NoReturn:
        """Drop the connection and raise the error of an exchange that failed."""
        # After an interrupt, too: the rest of a reply would be taken for the next call's.
        self._drop()
        if isinstance(error, StoreError) or not isinstance(error, OSError):
            raise error
        lost = StoreUnreachable(
            f"The connection to the store at {self._server.name} was lost: {error}"
        )
        lost.was_sent = is_connected
        raise lost from error

    def _receive(self, connection: Any, expected: int, slots: Sequence[Slot] = ()) -> list[Any]:
        reader = self._reader
        replies: list[Any] = []
        begins = True  # whether what comes next is the beginning of a reply
        while True:
            while len(replies) < expected:
                reply = reader.gets()
                if reply is resp.INCOMPLETE:
                    break
                if type(reply) is resp.ReplyError and ends_connection(reply):
                    self._is_ended = True
                replies.append(reply)
            if len(replies) == expected:
                return replies
            data = self._busy_poll.receive(connection, _RECEIVE) if self._may_poll else None
            if data is None:
                try:
                    data = connection.recv(_RECEIVE)
                except BlockingIOError:
                    raise TimeoutError(f"no answer within {self._timeout:g} s") from None
            if not data:
                raise ConnectionResetError("the server closed it")
            large = None
            if begins and data[:1] in resp.MAY_BE_LARGE:
                slot_for = slots[len(replies) :].__getitem__ if slots else None
                large = resp.large_reply(data, slot_for)
            begins = large is not None
            if large is None:
                reader.feed(data)
                continue
            at, incoming = large
            reader.feed(data[:at])
            while (reply := reader.gets()) is not resp.INCOMPLETE:
                replies.append(reply)
            replies.append(_receive_large(connection, incoming))

    def _connect(self) -> RawConnection:
        if self._is_ended:
            self._drop()
        raw = self._raw
        if raw is None:
            raw = self._server.open_connection()
            raw.socket.settimeout(self._timeout)
            self._may_poll = not raw.is_tls and limit_waits(raw.socket, self._timeout)
            self._raw, self._reader = raw, resp.new_reader()
            self._loaded.clear()
            self.number += 1
            self._on_open()
        return raw

    def _checked(self, reply: Any, keys: Sequence[Arg] = ()) -> Any:
        """Return the reply, or raise the refusal of a command with these keys."""
        if isinstance(reply, resp.ReplyError):
            raise self._server.error_for(reply, keys)
        return reply

    def _drop(self) -> None:
        self._is_ended = False
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()


def _unconfirmed(until: Confirmation, reason: str) -> StoreUnreachable:
    error = StoreUnreachable(f"The store did not confirm that it is {until.place}: {reason}")
    error.was_sent = True
    return error


def _receive_large(connection: Any, incoming: ReceiveBuffer | Slot) -> bytes:
    while True:
        count = connection.recv_into(incoming.room)
        if not count:
            raise ConnectionResetError("the server closed it")
        if incoming.came(count):
            return incoming.whole(resp.END)


def _joined(parts: Sequence[Piece]) -> Iterator[Piece]:
    """Join small parts, and leave large ones as they are, uncopied."""
    if len(parts) == 1:
        yield parts[0]
        return
    small: list[Piece] = []
    for part in parts:
        if len(part) < LARGE:
            small.append(part)
            continue
        if small:
            yield b"".join(small)
            small = []
        yield part
    if small:
        yield b"".join(small)


def _by_command(commands: Sequence[Command[Any]], replies: list[Any]) -> list[Any]:
    found: list[Any] = []
    at = 0
    for command in commands:
        if command.staged:
            end = at + staged_replies(command)
            found.append(staged_reply(command, replies[at:end]))
        else:
            end = at + 1
            found.append(replies[at])
        at = end
    return found


def _is_missing_script(reply: Any) -> bool:
    return isinstance(reply, resp.ReplyError) and reply.code == "NOSCRIPT"
