"""Release parked tasks when a limit has room or a lock is free.

The script that makes room mostly releases them itself. This service is for room that appears with
time, which is known to the millisecond, and for changes by programs in Go, which are found within
seconds.
"""

from __future__ import annotations

from typing import Any

from nbqueue.broker.commands import limits
from nbqueue.transport.script_call import Command
from nbqueue.worker.maintenance.forwarder import Forwarder


class ParkedTasks(Forwarder):
    """Runs a queue's script when a parked task may continue, by ``timers``."""

    def _command(self, queue: str) -> Command[Any]:
        return limits.release_parked(queue, self._clock.now_ms())
