"""The workload of a worker: idle, busy, or about to get a reply."""

from __future__ import annotations

from nbqueue.worker.executors.load_estimate import LoadEstimate
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.scheduling.aggregator import Aggregator
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.fetcher import Fetcher
from nbqueue.worker.tasks.large_arguments import LargeArguments

_SHORT = 0.0005
"""Seconds. The supervisor waits without sleeping for the end of shorter tasks."""


class Workload:
    """Finds out whether a worker has work, or should get a reply soon."""

    def __init__(
        self,
        context: ServiceContext,
        waiting: WaitingAttempts,
        load: LoadEstimate,
        large_arguments: LargeArguments,
        fetcher: Fetcher,
        aggregator: Aggregator,
        acknowledger: Acknowledger,
    ) -> None:
        self._connections = context.connections
        self._waiting = waiting
        self._load = load
        self._large_arguments = large_arguments
        self._fetcher = fetcher
        self._aggregator = aggregator
        self._acknowledger = acknowledger

    def is_idle(self) -> bool:
        """Return whether nothing runs, waits, or is unanswered by the store."""
        return (
            not self._waiting.in_hand
            and self._acknowledger.is_idle
            and self._aggregator.is_idle
            and not self._large_arguments
            and not self._fetcher.is_asking
        )

    def is_reply_near(self) -> bool:
        """Return whether to poll without sleeping.

        A reply should then come within microseconds.

        That is the reply of the store, or the end of a short task, while no task needs the CPU
        more.
        """
        in_hand = self._waiting.in_hand
        if in_hand and self._load.estimate >= _SHORT:
            return False
        return in_hand > 0 or self._connections.awaits_reply
