"""Runs that no executor has yet, and what they wait for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, MutableSequence

from nbqueue.worker.executors.code_cache import CodeCache
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.decisions import Refusal, without_code

_SURE_PART = 0.9
"""For this part of a lease it has surely not ended, whatever clocks and delays there are."""


class WaitingAttempts:
    """Runs that wait for an executor, for their code, or for their leases to be extended.

    ``ready`` are those that wait for an executor only, in their order. ``on_refused(run,
    refusal)`` is called for a run that is taken out because its code is not in the store.
    """

    def __init__(
        self, codes: CodeCache, lease_seconds: float, on_refused: Callable[[Attempt, Refusal], None]
    ) -> None:
        self._codes = codes
        self._on_refused = on_refused
        self.ready: deque[Attempt] = deque()
        self.unsure: deque[Attempt] = deque()
        """Runs whose leases may have ended: they must not begin before these were extended."""
        self._without_code: dict[bytes, list[Attempt]] = {}
        self.sure_ms = int(lease_seconds * 1000 * _SURE_PART)
        """For how long after it was written a lease has surely not ended."""

    def __iter__(self) -> Iterator[Attempt]:
        for place in self._places():
            yield from place

    def remove(self, run: Attempt) -> bool:
        """Take out ``run``; False if it is not here."""
        for place in self._places():
            if run in place:
                place.remove(run)
                return True
        return False

    def take_all(self) -> list[Attempt]:
        """Take out all, in the order of their numbers."""
        runs = sorted(self, key=lambda run: run.number)
        self.ready.clear()
        self.unsure.clear()
        self._without_code.clear()
        return runs

    def renewed(self) -> None:
        """Leases were extended, so it is worth another look."""
        self.ready.extendleft(reversed(self.unsure))
        self.unsure.clear()

    def await_code(self, run: Attempt) -> None:
        """Fetch the code of ``run``, which is ready when that has come."""
        fingerprint = run.fingerprint
        waiting = self._without_code.setdefault(fingerprint, [])
        waiting.append(run)
        if len(waiting) == 1:
            self._codes.ask(run.queue, fingerprint, lambda blob: self._on_code(fingerprint, blob))

    def _on_code(self, fingerprint: bytes, blob: bytes | None) -> None:
        waiting = self._without_code.pop(fingerprint, [])
        if blob is not None:
            self.ready.extend(waiting)
            return
        for run in waiting:
            self._on_refused(run, without_code(run))

    def _places(self) -> list[MutableSequence[Attempt]]:
        return [self.unsure, self.ready, *self._without_code.values()]
