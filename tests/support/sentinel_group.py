"""A master, a replica and their Sentinels, on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import redis
from servers import Server
from waits import wait_until

NAME = "tasks"


class SentinelGroup:
    """Two servers of which the first is the master at first, and three Sentinels.

    ``servers`` are in the order in which they were started.
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        settings: Sequence[str] = (),
        password: str = "",
        sentinel_password: str = "",
        down_after_ms: int = 500,
        sentinels: int = 3,
    ) -> None:
        self._program = program
        self._folder = folder
        self._settings = [*settings, "--repl-diskless-sync-delay", "0", "--appendonly", "no"]
        if password:
            self._settings += ["--requirepass", password, "--masterauth", password]
        self._password = password
        self.sentinel_password = sentinel_password
        self._down_after_ms = down_after_ms
        self.servers: list[Server] = []
        self.sentinels: list[Server] = []
        try:
            self.start()
            self.start(self.servers[0])
            for number in range(sentinels):
                self._start_sentinel(number, quorum=sentinels // 2 + 1)
            wait_until(self._is_ready)
        except BaseException:
            self.end()
            raise

    def start(self, master: Server | None = None, port: int | None = None) -> Server:
        """Start a server, as a replica of ``master`` if one is given, and wait until it follows."""
        settings = list(self._settings)
        if master is not None:
            settings += ["--replicaof", "127.0.0.1", str(master.port)]
        folder = self._folder / f"server-{port or len(self.servers)}"
        folder.mkdir(exist_ok=True)
        server = Server.start(self._program, folder, *settings, at=port)
        self.servers.append(server)
        if master is not None:
            with self.client(server) as client:
                wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        return server

    def _start_sentinel(self, number: int, quorum: int) -> None:
        folder = self._folder / f"sentinel-{number}"
        folder.mkdir()
        config = folder / "sentinel.conf"
        lines = [f"sentinel monitor {NAME} 127.0.0.1 {self.servers[0].port} {quorum}"]
        lines += [f"sentinel down-after-milliseconds {NAME} {self._down_after_ms}"]
        lines += [f"sentinel failover-timeout {NAME} 3000"]
        if self._password:
            lines += [f'sentinel auth-pass {NAME} "{self._password}"']
        if self.sentinel_password:
            lines += [f'requirepass "{self.sentinel_password}"']
            lines += [f'sentinel sentinel-pass "{self.sentinel_password}"']
        config.write_text("\n".join(lines) + "\n")
        self.sentinels.append(Server.start(self._program, folder, "--sentinel", config=config))

    def _is_ready(self) -> bool:
        """Whether each Sentinel knows the replica and the other Sentinels."""
        others = len(self.sentinels) - 1
        for sentinel in self.sentinels:
            facts = self.ask(sentinel, "SENTINEL", "MASTER", NAME)
            if int(facts["num-slaves"]) < 1 or int(facts["num-other-sentinels"]) < others:
                return False
        return True

    def ask(self, sentinel: Server, *words: str) -> dict[str, str]:
        """Return the pairs of a Sentinel's reply."""
        with sentinel.client(password=self.sentinel_password or None) as client:
            client.response_callbacks.clear()
            reply = [each.decode() for each in client.execute_command(*words)]
        return dict(zip(reply[::2], reply[1::2], strict=True))

    def ask_all(self, fact: str) -> set[str]:
        """Return what the Sentinels say about the master, such as its ``port``."""
        return {self.ask(each, "SENTINEL", "MASTER", NAME)[fact] for each in self.sentinels}

    @property
    def url(self) -> str:
        return self.url_of(self.sentinels)

    def url_of(self, sentinels: Sequence[Server], name: str = NAME, db: int = 0) -> str:
        user = f":{quote(self._password, safe='')}@" if self._password else ""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
        password = quote(self.sentinel_password, safe="")
        query = f"?sentinel_password={password}" if password else ""
        return f"redis+sentinel://{user}{hosts}/{name}/{db}{query}"

    def client(self, server: Server) -> redis.Redis:
        """Return a client of redis-py at one server."""
        return server.client(password=self._password or None)

    @property
    def master(self) -> Server:
        """The server that most Sentinels name as the master."""
        port = self._master_port()
        # A server that was killed may have been started again at its port.
        return next(each for each in reversed(self.servers) if each.port == port)

    def _master_port(self) -> int:
        ports = [self.ask(each, "SENTINEL", "MASTER", NAME)["port"] for each in self.sentinels]
        return int(max(ports, key=ports.count))

    def wait_for_failover(self, old: Server, seconds: float = 30.0) -> float:
        """Wait until another server than ``old`` is the master; return the time of that."""
        wait_until(lambda: self._master_port() != old.port, seconds)
        return time.monotonic()

    def end(self) -> None:
        for server in (*self.sentinels, *self.servers):
            with contextlib.suppress(OSError):
                server.end()
