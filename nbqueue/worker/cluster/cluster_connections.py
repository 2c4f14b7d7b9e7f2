"""The connections of a worker to a cluster, opened anew when nodes or slots change."""

from __future__ import annotations

import logging
from typing import Any

from nbqueue.runtime.backoff import Backoff
from nbqueue.runtime.reactor import Reactor
from nbqueue.store.connection import Store
from nbqueue.transport.nonblocking import ChannelMoved, ConnectionLost
from nbqueue.transport.topology import Key
from nbqueue.worker.cluster.all_nodes import AllNodes
from nbqueue.worker.connections import DOWN, WorkerConnections, call_all
from nbqueue.worker.served_queues import ServedQueues
from nbqueue.worker.server_connections import QueueConnection
from nbqueue.worker.store_refusals import faults

log = logging.getLogger("nbqueue.worker")

_FIRST_PROBE, _LONGEST_PROBE = 0.2, 2.0
_MAP_SECONDS = 2.0
_ANSWER_SECONDS = 6.0


class ClusterConnections(WorkerConnections):
    """Connections to the nodes of a cluster, asked for by queue.

    A node that is away refuses the commands for its queues. When it is lost or back, or when
    another node has a served queue, all connections are opened anew, which takes milliseconds.
    """

    _server: AllNodes | None  # type: ignore[assignment]

    def __init__(
        self,
        reactor: Reactor,
        store: Store,
        queues: ServedQueues,
        answer_timeout: float = 30.0,
    ) -> None:
        # A node that hangs is dropped sooner, as the queues of other nodes wait for its replies.
        super().__init__(reactor, store, queues, min(answer_timeout, _ANSWER_SECONDS))
        self._probes = Backoff(_FIRST_PROBE, _LONGEST_PROBE)
        self._reactor.after(_MAP_SECONDS, self._ask_map)

    def tasks(self, queue: str) -> QueueConnection:
        return DOWN if self._server is None else self._server.tasks_of(queue)

    def blocking(self, queue: str) -> QueueConnection:
        return DOWN if self._server is None else self._server.blocking_of(queue)

    def upkeep(self, queue: str) -> QueueConnection:
        return DOWN if self._server is None else self._server.upkeep_of(queue)

    def registry(self, key: str | None = None) -> QueueConnection:
        if self._server is None:
            return DOWN
        if key is not None:
            return self._server.upkeep_at(Key(key))
        return self._server.registry

    @property
    def awaits_reply(self) -> bool:
        return self._server is not None and self._server.awaits_reply

    def confirm(self) -> None:
        super().confirm()
        if self._server is not None and not self._server.away:
            self._probes.reset()

    def flush(self) -> None:
        super().flush()
        server = self._server
        if server is None or server.version == server.topology.version or server.is_current():
            return
        self._open_anew()

    def _ask_map(self) -> None:
        self._reactor.after(_MAP_SECONDS, self._ask_map)
        if self._server is not None:
            self._server.ask_map()

    def _lost(self, error: ConnectionLost) -> None:
        if isinstance(error, ChannelMoved):
            self._open_anew()
        else:
            super()._lost(error)

    def _open(self) -> AllNodes:  # type: ignore[override]
        assert self._store.nodes is not None
        queues = list(self._queues.names)  # they may change meanwhile
        return AllNodes(self._reactor, self._store.nodes.topology, queues, self._events)

    def _take(self, server: AllNodes) -> None:  # type: ignore[override]
        for node in self._store.nodes.topology.masters() if self._store.nodes is not None else ():
            if node not in server.away:
                faults.over(("node", node.name), "node back url=%s", node.name)
        for node, error in server.away.items():
            faults.occurred(
                ("node", node.name), "node away, its queues wait url=%s error=%s", node.name, error
            )
        super()._take(server)  # type: ignore[arg-type]
        if server.away:
            self._probe_later(server)

    def _probe_later(self, server: AllNodes) -> None:
        self._reactor.after(self._probes.pause(), lambda: self._probe(server))

    def _probe(self, server: AllNodes) -> None:
        if self._server is server:
            self._reactor.in_thread(
                server.is_missing_back, lambda found: self._on_probed(server, found)
            )

    def _on_probed(self, server: AllNodes, found: Any) -> None:
        if self._server is not server:
            return
        if found is True:
            self._open_anew()
        else:
            self._probe_later(server)

    def _open_anew(self) -> None:
        """Open all connections again, which are well, at other nodes."""
        if not self.is_up:
            return
        log.info("cluster has changed url=%s", self._store.url.redacted)
        self._drop()
        call_all(self.on_down)
        self._reconnect()
