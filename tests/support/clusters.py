"""Redis Clusters on loopback, of masters with replicas."""

from __future__ import annotations

import binascii
import contextlib
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis as redis_py
from waits import wait_until

SLOTS = 16_384


def free_port() -> int:
    """A free port for which that of the cluster's bus, 10,000 above it, is one too."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        port = port if port < 50_000 else port - 20_000
        with socket.socket() as probe, socket.socket() as bus, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            return port


def slot_of(queue: str) -> int:
    return binascii.crc_hqx(queue.encode(), 0) % SLOTS


@dataclass
class Node:
    """A server in cluster mode."""

    port: int
    process: subprocess.Popen[bytes]
    redis: redis_py.Redis
    id: str = ""

    @classmethod
    def start(cls, program: Path, folder: Path, *settings: str) -> Node:
        folder.mkdir(parents=True)
        port = free_port()
        words = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        words += ["--save", "", "--cluster-enabled", "yes", "--cluster-node-timeout", "1500"]
        words += ["--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"]
        words += ["--cluster-replica-validity-factor", "0", *settings]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        named = dict(zip(settings[::2], settings[1::2], strict=True))
        password = named.get("--requirepass")
        return cls(port, process, redis_py.Redis(port=port, protocol=2, password=password))

    def is_up(self) -> bool:
        with contextlib.suppress(redis_py.ConnectionError):
            return bool(self.redis.ping())
        return False

    def ask(self, *words: Any) -> Any:
        return self.redis.execute_command(*words)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.redis.close()
        self.kill()


class RedisCluster:
    """Three masters, which share the slots, and a replica of each."""

    def __init__(
        self,
        program: Path,
        folder: Path,
        masters: int = 3,
        replicas: int = 3,
        password: str | None = None,
    ) -> None:
        self._program, self._folder = program, folder
        self._settings: Sequence[str] = ()
        if password is not None:
            self._settings = ("--requirepass", password, "--masterauth", password)
        self.nodes: list[Node] = []
        try:
            self.nodes = [self._start() for _ in range(masters + replicas)]
            for node in self.nodes:
                wait_until(node.is_up)
                node.id = node.ask("CLUSTER MYID").decode()
            self.masters, self.replicas = self.nodes[:masters], self.nodes[masters:]
            self._create()
        except BaseException:
            self.close()
            raise

    def _start(self) -> Node:
        folder = self._folder / f"node{len(self.nodes)}-{free_port()}"
        return Node.start(self._program, folder, *self._settings)

    def _create(self) -> None:
        first, *others = self.nodes
        for number, node in enumerate(self.nodes, 1):
            node.ask("CLUSTER SET-CONFIG-EPOCH", number)
        count = len(self.masters)
        for i, node in enumerate(self.masters):
            node.ask("CLUSTER ADDSLOTS", *range(SLOTS * i // count, SLOTS * (i + 1) // count))
        for node in others:
            first.ask("CLUSTER MEET", "127.0.0.1", node.port)
        wait_until(lambda: all(self._knows_all(node) for node in self.nodes))
        for replica, master in zip(self.replicas, self.masters, strict=False):
            replica.ask("CLUSTER REPLICATE", master.id)
        wait_until(lambda: all(self._is_ready(node) for node in self.nodes))
        wait_until(lambda: all(self._is_linked(node) for node in self.replicas))

    def _knows_all(self, node: Node) -> bool:
        known = node.ask("CLUSTER NODES")
        return len(known) == len(self.nodes) and "handshake" not in str(known)

    def _is_ready(self, node: Node) -> bool:
        return bool(node.ask("CLUSTER INFO")["cluster_state"] == "ok")

    def _is_linked(self, node: Node) -> bool:
        return node.redis.info("replication")["master_link_status"] == "up"

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])
        return f"redis+cluster://{hosts}"

    def owner(self, queue: str) -> Node:
        """The master that has a queue."""
        for first, last, (_, port, *_), *_ in self.living().ask("CLUSTER SLOTS"):
            if first <= slot_of(queue) <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"no node has {queue!r}")

    def living(self) -> Node:
        return next(node for node in self.nodes if node.process.poll() is None)

    def queues(self, count: int = 3) -> list[str]:
        """Names of queues, each on another master."""
        found: dict[int, str] = {}
        number = 0
        while len(found) < count:
            name = f"q{number}"
            found.setdefault(self.owner(name).port, name)
            number += 1
        return list(found.values())

    def add_node(self) -> Node:
        """Add a master without slots."""
        node = self._start()
        self.nodes.append(node)
        wait_until(node.is_up)
        node.id = node.ask("CLUSTER MYID").decode()
        self.living().ask("CLUSTER MEET", "127.0.0.1", node.port)
        wait_until(lambda: self._knows_all(node) and self._is_ready(node))
        return node

    def begin_move(self, queue: str, target: Node) -> Node:
        """Begin to move a queue's slot; returns its node."""
        slot, source = slot_of(queue), self.owner(queue)
        target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
        return source

    def move_keys(self, queue: str, source: Node, target: Node, count: int = 100) -> bool:
        """Move some keys of a queue's slot; return whether there were any."""
        keys = source.ask("CLUSTER GETKEYSINSLOT", slot_of(queue), count)
        if keys:
            auth = ("AUTH", self._settings[1]) if self._settings else ()
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, *auth, "KEYS", *keys)
        return bool(keys)

    def end_move(self, queue: str, source: Node, target: Node) -> None:
        """Give the slot, whose keys were moved, to its new node."""
        while self.move_keys(queue, source, target):
            pass
        for node in (target, source, *self.nodes):
            if node.process.poll() is None and node.ask("ROLE")[0] == b"master":
                node.ask("CLUSTER SETSLOT", slot_of(queue), "NODE", target.id)

    def close(self) -> None:
        for node in self.nodes:
            node.close()
