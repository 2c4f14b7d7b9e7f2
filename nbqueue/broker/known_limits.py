"""Limits whose numbers this client wrote lately."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from nbqueue.broker.commands.limits import set_limit
from nbqueue.transport.script_call import Command

_KNOWN_SECONDS = 60.0
_MOST_KNOWN = 10_000


class KnownLimits:
    """Remembers limits that were written, to save writing them with each task."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[str, float]] = {}
        """Numbers by queue and name, and the time until which they count as written."""

    def commands(
        self, queue: str, limits: Mapping[str, str], due_ms: int | None, now_ms: int
    ) -> list[Command[Any]]:
        """Return the commands that write the numbers of limits that are not known.

        ``due_ms``: tasks ask for them then. An unused limit would be forgotten before.
        """
        now = time.monotonic()
        found: list[Command[Any]] = []
        for name, numbers in limits.items():
            known = self._known.get((queue, name))
            if due_ms is not None or known is None or known[0] != numbers or now >= known[1]:
                found.append(set_limit(queue, name, numbers, max(now_ms, due_ms or 0), now_ms))
        return found

    def note(self, queue: str, limits: Mapping[str, str]) -> None:
        """Note that the numbers of these limits were written just now."""
        if len(self._known) + len(limits) > _MOST_KNOWN:
            self._known.clear()
        until = time.monotonic() + _KNOWN_SECONDS
        self._known.update(((queue, name), (numbers, until)) for name, numbers in limits.items())

    def forget(self, queue: str, name: str | None = None) -> None:
        """Write this limit again, or with no name all of the queue."""
        self._known = {
            key: value
            for key, value in list(self._known.items())
            if key[0] != queue or name not in (None, key[1])
        }
