"""The shared objects that nearly every part of a worker needs."""

from __future__ import annotations

from dataclasses import dataclass

from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.runtime.reactor import Reactor
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.served_queues import ServedQueues


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """The shared objects of one worker.

    ``clock`` follows the store's time; ``reactor.now()`` is the local time of timers. ``queues``
    changes in place while the worker runs, so keep the object and not a copy.
    """

    reactor: Reactor
    connections: WorkerConnections
    clock: Clock
    keys: Keyring
    queues: ServedQueues
    worker_id: str
