"""A blocking connection to the store, shared by the threads of a client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from nbqueue.errors import StoreDamaged, StoreError, StoreUnreachable
from nbqueue.runtime.buffers import LARGE, Gathering, Piece, ReceiveBuffer, Slot
from nbqueue.runtime.busy_poll import BusyPoll, limit_waits
from nbqueue.store.connection import Store
from nbqueue.transport import resp
from nbqueue.transport.script_call import NEEDS_FULL, Arg, Command, Script
from nbqueue.wire.keys import CONFIRM_KEY

T = TypeVar("T")

_RECEIVE = 262_144
_SEND_AT = 32_768
"""Bytes that are worth a call of the system while more is being made."""


class Sending(Protocol):
    """What is to be done before and after something is sent, with ``lock`` held."""

    lock: AbstractContextManager[Any]

    def begin(self) -> None: ...

    def end(self) -> None: ...


class BlockingConnection:
    """Sends commands in one go and waits for their replies; connects when first used.

    One thread at a time. A lost connection raises `StoreUnreachable` and is opened anew by the
    next call: whether the commands ran is then not known, and the caller decides what to repeat.
    """

    def __init__(self, store: Store, timeout: float = 30.0) -> None:
        self._store = store
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connection: Any = None
        self._reader: Any = None
        self._loaded: set[bytes] = set()
        self._is_of_no_use = False
        self.number = 0
        """How often a connection was opened, which tells one from the next."""
        self._spin, self._may_spin = BusyPoll(), False

    def run(self, commands: Iterable[Command[Any]], then: bytes = b"") -> list[Any]:
        """Run scripts in one round trip, and return what their replies mean, in order.

        ``then`` is a packed plain command that is sent after them, whose reply tells nothing.

        What ``commands`` yields is sent as it comes, so that the server works on the first while
        the next are made; whatever that calls must not use this channel. Scripts that the server
        does not have (it was restarted or flushed) are loaded first or again. Raises
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
        """As `run`, but a script whose key holds what it cannot read does not raise: a
        `StoreDamaged` stands where the meaning of its reply would."""
        return [self._read_or_damage(*each) for each in zip(*self._run(commands), strict=True)]

    def _read_or_damage(self, command: Command[T], reply: Any) -> T | StoreDamaged:
        try:
            return command.read(self._checked(reply, command.keys))
        except StoreDamaged as error:
            return error

    def _run(
        self, commands: Iterable[Command[Any]], then: bytes = b""
    ) -> tuple[list[Command[Any]], list[Any]]:
        """Run scripts: those that were sent, and the reply to each."""
        with self._lock:
            sent, replies = self._exchange_scripts(commands, then)
            missing = [i for i, reply in enumerate(replies) if _is_missing_script(reply)]
            if missing:
                self._loaded.clear()
                self._run_instead({i: sent[i] for i in missing}, replies)
            instead = {
                i: command.full or command
                for i, command in enumerate(sent)
                if command.full_script is not None and replies[i] == NEEDS_FULL
            }
            if instead:
                self._run_instead(instead, replies)
        return sent, replies

    def run_packed(self, script: Script, data: bytes, sending: Sending, then: bytes = b"") -> Any:
        """Run a script that was packed already, and return its reply, in few steps: these lie on
        the way of each task that is submitted by itself. ``then``: as for `run`.

        What ``sending`` does at its end is done while the server works; the script may have to be
        sent again. Raises as `run` does.
        """

        def ask(connection: Any) -> Any:
            if script.sha not in self._loaded:
                connection.sendall(resp.pack(("SCRIPT", "LOAD", script.source)))
                self._checked(self._receive(connection, 1)[0])
                self._loaded.add(script.sha)
            with sending.lock:
                sending.begin()
                connection.sendall(data + then)
                sending.end()
            replies = self._receive(connection, 2 if then else 1)
            if then:
                self._checked(replies[1])
            return replies[0]

        with self._lock:
            reply = self._ask(ask)
            if _is_missing_script(reply):
                self._loaded.clear()
                reply = self._ask(ask)
        return self._checked(reply, resp.keys_of(data) if isinstance(reply, Exception) else ())

    def _run_instead(self, commands: Mapping[int, Command[Any]], replies: list[Any]) -> None:
        _, again = self._exchange_scripts(commands.values())
        for i, reply in zip(commands, again, strict=True):
            replies[i] = reply

    def call(self, *calls: Sequence[Arg]) -> list[Any]:
        """Run plain commands in one round trip, and return their replies."""
        with self._lock:
            replies = self._exchange([[resp.pack(words) for words in calls]], lambda: len(calls))
        return [
            self._checked(reply, words[1:2]) for words, reply in zip(calls, replies, strict=True)
        ]

    def try_call(self, *calls: Sequence[Arg]) -> list[Any]:
        """As `call`, but a key that holds what the command cannot read does not raise: the
        `StoreDamaged` that names it stands where its reply would."""
        with self._lock:
            replies = self._exchange([[resp.pack(words) for words in calls]], lambda: len(calls))
        return [self._damage_of(words, reply) for words, reply in zip(calls, replies, strict=True)]

    def _damage_of(self, words: Sequence[Arg], reply: Any) -> Any:
        """The reply, or the error that says that the key of this command holds something else."""
        if isinstance(reply, resp.ReplyError) and reply.code == "WRONGTYPE":
            return resp.damage(words[1:2])
        try:
            return self._checked(reply)
        except resp.KeyDenied as error:
            return error

    def confirm(self, number: int, seconds: float) -> None:
        """Wait until all that was written over connection ``number`` is on the server's disk.

        Raises `StoreUnreachable` if that connection is gone, as the server may then be another one,
        or if it takes longer.
        """
        with self._lock:
            if self._connection is None or self.number != number:
                raise _unconfirmed("its connection was lost before")
            # The server waits for what this connection wrote last, and a repeated script may write
            # nothing.
            mark = resp.pack(("SET", CONFIRM_KEY, number, "PX", 1000))
            wait = resp.pack(("WAITAOF", 1, 0, round(seconds * 1000)))
            _, reply = self._exchange([[mark, wait]], lambda: 2)
        if isinstance(reply, resp.ReplyError):
            raise _unconfirmed(str(reply))
        if reply[0] < 1:
            raise _unconfirmed(f"that took longer than {seconds:g} s")

    def gather(self, calls: Sequence[Sequence[Arg]], gathering: Gathering) -> bytes | None:
        """Read the pieces that ``calls`` ask for, in their order, into one place; None if that is
        not what they are said to be."""
        slots = gathering.slots
        with self._lock:
            packed = [b"".join(resp.pack(words) for words in calls)]
            replies = self._exchange([packed], lambda: len(slots), slots)
        for slot, reply in zip(slots, replies, strict=True):
            slot.take(self._checked(reply))
        return gathering.whole()

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _exchange_scripts(
        self, commands: Iterable[Command[Any]], then: bytes = b""
    ) -> tuple[list[Command[Any]], list[Any]]:
        """The commands that were sent, and the reply to each."""
        sent: list[Command[Any]] = []
        loads: list[int] = []
        expected = 0

        def parts() -> Iterator[list[Piece]]:
            nonlocal expected
            for command in commands:
                script = command.script
                made: list[Piece] = []
                if script.sha not in self._loaded:
                    self._loaded.add(script.sha)
                    made.append(resp.pack(("SCRIPT", "LOAD", script.source)))
                    loads.append(expected)
                    expected += 1
                if command.staged:
                    made += resp.pack_staged(command)
                    expected += resp.staged_replies(command)
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
        """What ``ask`` returns of the connection, which is lost if that fails."""
        is_connected = False
        try:
            connection = self._connect()
            is_connected = True
            return ask(connection)
        except StoreError:
            self._drop()
            raise
        except OSError as error:
            self._drop()
            lost = StoreUnreachable(
                f"The connection to the store at {self._store.url.redacted} was lost: {error}"
            )
            lost.was_sent = is_connected
            raise lost from error
        except BaseException:
            # An interrupt in mid-reply: the rest of it would be taken for the next call's.
            self._drop()
            raise

    def _receive(self, connection: Any, expected: int, slots: Sequence[Slot] = ()) -> list[Any]:
        reader = self._reader
        replies: list[Any] = []
        begins = True  # what comes next is the beginning of a reply
        while True:
            while len(replies) < expected:
                reply = reader.gets()
                if reply is resp.INCOMPLETE:
                    break
                replies.append(reply)
            if len(replies) == expected:
                return replies
            data = self._spin.receive(connection, _RECEIVE) if self._may_spin else None
            if data is None:
                data = self._recv(connection)
            if not data:
                raise ConnectionResetError("the server closed it")
            large = None
            if begins:
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

    def _recv(self, connection: Any) -> bytes:
        try:
            data: bytes = connection.recv(_RECEIVE)
        except BlockingIOError:
            raise TimeoutError(f"no answer within {self._timeout:g} s") from None
        return data

    def _connect(self) -> Any:
        if self._is_of_no_use:
            self._drop()
        if self._connection is None:
            raw = self._store.open_connection()
            raw.socket.settimeout(self._timeout)
            self._may_spin = limit_waits(raw.socket, self._timeout)
            self._raw, self._connection, self._reader = raw, raw.socket, resp.new_reader()
            self._loaded.clear()
            self.number += 1
        return self._connection

    def _checked(self, reply: Any, keys: Sequence[Arg] = ()) -> Any:
        """The reply; raises what it says if it is a refusal of a command with these keys."""
        if isinstance(reply, resp.ReplyError):
            if resp.ends_connection(reply):
                self._is_of_no_use = True
            raise resp.store_error(reply, self._store.url, keys)
        return reply

    def _drop(self) -> None:
        self._is_of_no_use = False
        if self._connection is not None:
            self._connection = None
            self._raw.close()


def _unconfirmed(reason: str) -> StoreUnreachable:
    error = StoreUnreachable(f"The store did not confirm that it is on disk: {reason}")
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
    """These parts in as few as that takes without a copy of the large ones."""
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
            end = at + resp.staged_replies(command)
            found.append(resp.staged_reply(command, replies[at:end]))
        else:
            end = at + 1
            found.append(replies[at])
        at = end
    return found


def _is_missing_script(reply: Any) -> bool:
    return isinstance(reply, resp.ReplyError) and reply.code == "NOSCRIPT"
