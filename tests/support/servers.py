"""Redis servers that listen on TCP, and TLS in front of them."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from waits import wait_until


@dataclass
class Server:
    """A running server on 127.0.0.1, without persistence."""

    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls,
        program: Path,
        folder: Path,
        *settings: str,
        config: Path | None = None,
        at: int | None = None,
    ) -> Server:
        """Start a server with its files in ``folder``. ``settings`` are words of its command.

        ``config`` is the configuration file that a Sentinel writes to, ``at`` a certain port.
        """
        for _ in range(5):  # another process may take the port before the server does
            port = at or free_port()
            command = [str(program), *([str(config)] if config else ["--save", ""])]
            command += ["--port", str(port), "--bind", "127.0.0.1"]
            process = subprocess.Popen(
                [*command, "--dir", str(folder), *settings],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            server = cls(port, process)
            try:
                wait_until(lambda server=server: server._is_up() or server._has_ended())
                if process.poll() is None:
                    return server
            except BaseException:
                server.end()
                raise
        raise AssertionError("no server started")

    def client(self, **login: str | None) -> redis.Redis:
        return redis.Redis(port=self.port, protocol=2, **login)  # type: ignore[arg-type]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def _has_ended(self) -> bool:
        return self.process.poll() is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for the name ``localhost`` alone, and its key. Skips without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    make += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key)]
    make += ["-addext", "subjectAltName=DNS:localhost", "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    return certificate, key


@dataclass
class Tunnel:
    """Takes TLS connections and passes them on to a server without TLS.

    Tests do not depend on how the server was built: the one of the wheel has no TLS.
    """

    certificate: tuple[Path, Path]
    to: int

    def __enter__(self) -> Tunnel:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*self.certificate)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._serve)]
        self.threads[0].start()
        return self

    def __exit__(self, *error: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            try:
                outer, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._pass_on, args=(outer,))
            self.threads.append(thread)
            thread.start()

    def _pass_on(self, outer: socket.socket) -> None:
        with outer, contextlib.suppress(OSError):
            outer.settimeout(10)
            with (
                self.context.wrap_socket(outer, server_side=True) as near,
                socket.create_connection(("127.0.0.1", self.to)) as far,
            ):
                # A TLS record has 16 KiB at most, so no read leaves a part of one behind, of
                # which select would not know.
                while True:
                    for ready in select.select([near, far], [], [], 10)[0]:
                        if not (got := ready.recv(65536)):
                            return
                        (far if ready is near else near).sendall(got)
