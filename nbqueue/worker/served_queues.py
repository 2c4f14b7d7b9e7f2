"""The queues that a worker serves at the moment."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

_SHOWN = 20
"""The maximum number of queues in a line of the log."""


class ServedQueues:
    """The queues of a worker with their weights.

    ``weights`` and ``names`` are shared with the parts that iterate over them, and change in place.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.weights = dict(weights)
        self.names = list(weights)

    def __str__(self) -> str:
        shown = islice(self.weights.items(), _SHOWN)
        text = ",".join(f"{name}={weight}" for name, weight in shown)
        more = len(self.weights) - _SHOWN
        return f"{text} and {more:,} more" if more > 0 else text

    def replace(self, weights: Mapping[str, int]) -> None:
        """Serve these queues from now on."""
        self.weights.clear()
        self.weights.update(weights)
        self.names[:] = weights
