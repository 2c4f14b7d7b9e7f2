"""Open connections to servers, over TCP or to a Unix socket.

Both with or without TLS.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nbqueue.transport import resp

if TYPE_CHECKING:
    import ssl

_RECEIVE: Final = 65_536
# The last is for data that were sent and never acknowledged, which keepalive does not notice.
_KEEPALIVE: Final = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 45_000,
}


class TlsOptions(NamedTuple):
    """Options for checking a server's certificate, and for a client certificate."""

    cert_reqs: str = "required"
    """``required``, ``optional`` or ``none``."""
    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """Return a context of these options. Raises `OSError` for files that cannot be used."""
        import ssl  # not imported where nothing uses TLS

        context = ssl.create_default_context()
        # A certificate that is not checked has no name to check either.
        context.check_hostname = self.check_hostname and self.cert_reqs != "none"
        context.verify_mode = {
            "none": ssl.CERT_NONE,
            "optional": ssl.CERT_OPTIONAL,
            "required": ssl.CERT_REQUIRED,
        }[self.cert_reqs]
        if self.certfile is not None or self.keyfile is not None:
            context.load_cert_chain(self.certfile or self.keyfile or "", self.keyfile)
        if self.ca_certs is not None:
            context.load_verify_locations(cafile=self.ca_certs)
        return context


class Address(NamedTuple):
    """The address of a server, as host and port or as a path.

    ``path`` is that of a Unix socket, and then there is no host.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    tls: TlsOptions | None = None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class _Socket(socket.socket):
    """A socket that is closed without a warning when dropped.

    Clients may be dropped without being closed. The socket does this rather than the connection, as
    the garbage collector may come to the socket first.
    """

    def __del__(self) -> None:
        self.close()


class RawConnection:
    """An open socket and its first exchanges. Usable as a context manager.

    Speak RESP2 on ``socket``: nothing has been read ahead. Close it through `close`.
    """

    def __init__(self, opened: socket.socket, *, is_tls: bool = False) -> None:
        self.socket = opened
        self.is_tls = is_tls
        self._reader = resp.new_reader()

    def exchange(self, commands: Sequence[Sequence[str]]) -> list[Any]:
        """Send commands in one go and return their replies; refusals are values.

        Raises `OSError` for a connection that breaks, or the last refusal before that, which may
        explain why; `resp.ProtocolError` for a server that uses another protocol.
        """
        replies: list[Any] = []
        try:
            self._send(b"".join(map(resp.pack, commands)))
            while len(replies) < len(commands):
                reply = self._reader.gets()
                if reply is not resp.INCOMPLETE:
                    replies.append(reply)
                    continue
                data = self.socket.recv(_RECEIVE)
                if not data:
                    raise ConnectionResetError("Connection closed by server.")
                self._reader.feed(data)
        except TimeoutError as error:
            raise TimeoutError("Timeout reading from socket") from error
        except OSError as error:
            refusals = [reply for reply in replies if isinstance(reply, resp.ReplyError)]
            raise refusals[0] if refusals else error from None
        return replies

    def _send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            # A server that hangs up at once mostly gives a reason, which may still be read.
            pass

    def close(self) -> None:
        """Close the connection. Doing it twice is harmless."""
        self.socket.close()

    def cut(self) -> None:
        """Have its owner, in any thread, find the connection closed by the server."""
        with contextlib.suppress(OSError):
            # Not the method of TLS sockets, which would go on without TLS.
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_raw(address: Address, seconds: float) -> RawConnection:
    """Open a connection. Connecting and each later wait may take ``seconds``.

    Raises `OSError` with a text that names the address.
    """
    opened: socket.socket | None = None
    try:
        opened = open_path(address.path, seconds) if address.path else _open_tcp(address, seconds)
        if address.tls is not None:
            opened = _start_tls(opened, address.host, address.tls)
    except BaseException as error:
        if opened is not None:
            opened.close()
        if isinstance(error, TimeoutError):
            raise TimeoutError(f"Timeout connecting to {address}") from error
        if isinstance(error, OSError):
            said = error.strerror or str(error) or type(error).__name__
            raise OSError(f"Error {error.errno} connecting to {address}. {said}") from error
        raise
    return RawConnection(opened, is_tls=address.tls is not None)


def open_path(path: str, seconds: float) -> socket.socket:
    """Open a connection to a Unix socket. Raises `OSError` as the system does."""
    opened = _Socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(seconds)
        opened.connect(path)
    except BaseException:
        opened.close()
        raise
    return opened


def _open_tcp(address: Address, seconds: float) -> socket.socket:
    plain = socket.create_connection((address.host, address.port), seconds)
    opened = _Socket(plain.family, plain.type, plain.proto, plain.detach())
    opened.settimeout(seconds)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return opened


def _start_tls(opened: socket.socket, host: str, options: TlsOptions) -> socket.socket:
    import ssl

    class TlsSocket(ssl.SSLSocket):
        """TLS socket that is closed without a warning when dropped, as `_Socket` is."""

        def __del__(self) -> None:
            self.close()

    context = options.context()
    context.sslsocket_class = TlsSocket
    return context.wrap_socket(opened, server_hostname=host)
