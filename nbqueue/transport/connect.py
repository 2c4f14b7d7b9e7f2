"""Connections without TLS, opened by ourselves: redis-py takes a tenth of a second to import.

What it does on a connection, `PlainConnection` does as well, as far as `nbqueue.store.connection`
needs it. Its exceptions are still those that errors become, and it is imported for these.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

_RECEIVE = 65_536


class _Socket(socket.socket):
    """A socket that closes itself, without a warning, when nothing refers to it any more.

    Clients may be dropped without being closed; with redis-py nobody complains either. It is done
    here and not in the connection, as the garbage collector may come to the socket first.
    """

    def __del__(self) -> None:
        self.close()


class PlainConnection:
    """A socket over TCP, or to a path, and a parser of replies."""

    _sock: Any = None  # also of one whose making was interrupted

    def __init__(
        self, place: tuple[str, int] | str, seconds: float, keepalive: dict[int, int]
    ) -> None:
        self._place = place
        self._seconds = seconds
        self._keepalive = keepalive
        self._reader: Any = None

    def connect(self) -> None:
        """Raises `OSError`; its text says what was tried."""
        shown = self._place if isinstance(self._place, str) else ":".join(map(str, self._place))
        try:
            self._sock = self._open()
        except TimeoutError as error:
            raise TimeoutError(f"Timeout connecting to {shown}") from error
        except OSError as error:
            said = error.strerror or str(error) or type(error).__name__
            raise OSError(f"Error {error.errno} connecting to {shown}. {said}") from error
        self._reader = hiredis.Reader(protocolError=_protocol_error, replyError=_reply_error)

    def _open(self) -> socket.socket:
        if isinstance(self._place, str):
            sock: socket.socket = _Socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(self._seconds)
                sock.connect(self._place)
            except BaseException:
                sock.close()
                raise
            return sock
        plain = socket.create_connection(self._place, self._seconds)
        sock = _Socket(plain.family, plain.type, plain.proto, plain.detach())
        sock.settimeout(self._seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in self._keepalive.items():
            sock.setsockopt(socket.IPPROTO_TCP, name, value)
        return sock

    def exchange(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        """Send commands in one go; return their replies, errors as values.

        A connection that breaks raises `OSError`, or the error that was the last reply before: it
        may say why.
        """
        replies: list[Any] = []
        try:
            self._send(commands)
            while len(replies) < len(commands):
                reply = self._reader.gets()
                if reply is not False:
                    replies.append(reply)
                    continue
                data = self._sock.recv(_RECEIVE)
                if not data:
                    raise ConnectionResetError("Connection closed by server.")
                self._reader.feed(data)
        except TimeoutError as error:
            raise TimeoutError("Timeout reading from socket") from error
        except OSError as error:
            refusals = [reply for reply in replies if isinstance(reply, Exception)]
            raise refusals[0] if refusals else error from None
        return replies

    def _send(self, commands: Sequence[tuple[str, ...]]) -> None:
        try:
            self._sock.sendall(b"".join(hiredis.pack_command(words) for words in commands))
        except (BrokenPipeError, ConnectionResetError):
            # A server that hangs up at once mostly says why, and that may still be read.
            pass

    def disconnect(self) -> None:
        """Close the socket. Doing it twice is harmless."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()


def _reply_error(text: str) -> Exception:
    from redis.connection import DefaultParser

    parse: Callable[[str], Exception] = DefaultParser.parse_error
    return parse(text)


def _protocol_error(text: str) -> Exception:
    from redis.exceptions import InvalidResponse

    return InvalidResponse(text)
