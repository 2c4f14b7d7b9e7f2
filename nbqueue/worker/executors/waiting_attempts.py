"""Attempts without an executor, and the conditions for which they wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, MutableSequence

from nbqueue.worker.executors.code_cache import CodeCache
from nbqueue.worker.executors.load_estimate import LoadEstimate
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.decisions import without_code

_SURE_PART = 0.9
"""The share of a lease that is certain despite clock errors and delays."""


class WaitingAttempts:
    """Attempts that wait for an executor, for code, or for a lease extension.

    ``ready`` are those that wait for an executor only, in their order. ``in_hand`` counts all
    attempts that were added and have not ended, those in executors included.
    """

    def __init__(self, codes: CodeCache, load: LoadEstimate, settings: WorkerSettings) -> None:
        self._codes = codes
        self._load = load
        self._concurrency = settings.concurrency
        self.in_hand = 0
        self.ready: deque[Attempt] = deque()
        self.unsure: deque[Attempt] = deque()
        """Attempts whose lease may have expired.

        They begin only after it was extended.
        """
        self.is_renewing = False
        """True if an extension of leases was requested and not confirmed yet."""
        self._without_code: dict[bytes, list[Attempt]] = {}
        self.sure_ms = int(settings.lease_seconds * 1000 * _SURE_PART)
        """Milliseconds for which a lease is certainly valid after it was written."""

    def __iter__(self) -> Iterator[Attempt]:
        for place in self._places():
            yield from place

    def add(self, attempt: Attempt) -> None:
        """Add an attempt; `Pool.dispatch`, once a round, hands it to an executor."""
        self.in_hand += 1
        self.ready.append(attempt)

    def room(self) -> int:
        """Return the number of attempts that may still be added."""
        return self._concurrency + self._load.ahead(self._concurrency) - self.in_hand

    def drop(self, attempt: Attempt) -> bool:
        """Remove an attempt for good; return False if it is not waiting."""
        for place in self._places():
            if attempt in place:
                place.remove(attempt)
                self.in_hand -= 1
                return True
        return False

    def take_ready(self) -> list[Attempt]:
        """Remove the attempts that wait for an executor only, for good."""
        attempts = list(self.ready)
        self.in_hand -= len(attempts)
        self.ready.clear()
        return attempts

    def take_all(self) -> list[Attempt]:
        """Remove all for good; return them in the order of their numbers."""
        attempts = sorted(self, key=lambda attempt: attempt.number)
        self.in_hand -= len(attempts)
        self.ready.clear()
        self.unsure.clear()
        self._without_code.clear()
        return attempts

    def on_renewed(self) -> None:
        """Make unsure attempts ready, as leases were extended."""
        self.is_renewing = False
        self.ready.extendleft(reversed(self.unsure))
        self.unsure.clear()

    def await_code(self, attempt: Attempt) -> None:
        """Read the code of ``attempt``.

        The attempt is ready afterwards, or refused if there is no code.
        """
        fingerprint = attempt.fingerprint
        waiting = self._without_code.setdefault(fingerprint, [])
        waiting.append(attempt)
        if len(waiting) == 1:
            self._codes.ask(
                attempt.queue, fingerprint, lambda code: self._on_code(fingerprint, code)
            )

    def _on_code(self, fingerprint: bytes, code: bytes | None) -> None:
        waiting = self._without_code.pop(fingerprint, [])
        if code is not None:
            self.ready.extend(waiting)
            return
        for attempt in waiting:
            self.in_hand -= 1
            attempt.owner.refused(attempt, without_code(attempt))

    def _places(self) -> list[MutableSequence[Attempt]]:
        return [self.unsure, self.ready, *self._without_code.values()]
