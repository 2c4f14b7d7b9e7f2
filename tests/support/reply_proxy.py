"""A proxy in front of a store that can lose or change its replies."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path


class ReplyProxy:
    """Listens on a local port, and forwards to the server at ``place``.

    ``on_reply`` gets a reply of the server and returns the client's reply; None cuts the connection
    instead.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self.on_reply: Callable[[bytes], bytes | None] = lambda data: data
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._place))
            except OSError:
                client.close()
                server.close()
                continue
            self._sockets += [client, server]
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._replies, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        _shut(client, server)

    def _replies(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                reply = self.on_reply(data)
                if reply is None:
                    break
                client.sendall(reply)
        _shut(client, server)

    def close(self) -> None:
        _shut(self._listener, *self._sockets)
        for each in self._sockets:
            each.close()
        self._listener.close()


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
