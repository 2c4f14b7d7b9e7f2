"""The workload of a worker: idle or busy."""

from __future__ import annotations

from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.scheduling.aggregator import Aggregator
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.fetcher import Fetcher
from nbqueue.worker.tasks.large_arguments import LargeArguments


class Workload:
    """Finds out whether a worker has work."""

    def __init__(
        self,
        waiting: WaitingAttempts,
        large_arguments: LargeArguments,
        fetcher: Fetcher,
        aggregator: Aggregator,
        acknowledger: Acknowledger,
    ) -> None:
        self._waiting = waiting
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
            and not self._large_arguments.under_way
            and not self._fetcher.is_asking
        )
