"""`Obstacle`: a reason why tasks do not run, and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

UNSERVED = frozenset({"no_worker", "mistyped", "stopping", "silent"})
"""The kinds of obstacles of a queue that no worker takes tasks of."""

_MOST = 3
"""The most sentences of a line."""


class Obstacle(NamedTuple):
    """A reason why tasks do not run.

    Commands in ``sentence`` and ``remedy`` stand between backticks. Both may contain text from the
    store.
    """

    kind: str
    """``no_worker``, ``mistyped``, ``stopping``, ``silent``, ``elsewhere``, ``paused``,
    ``concurrency``, ``limit``, ``lock`` or ``requirement``."""
    sentence: str
    remedy: str
    subject: str = ""
    """The queue, limit, lock or requirement, by which a repeated obstacle is recognised."""

    @property
    def text(self) -> str:
        """The sentence and the way out, as one line."""
        return f"{self.sentence}: {self.remedy}" if self.remedy else self.sentence


def in_short(obstacles: Iterable[Obstacle]) -> str:
    """Return the sentences as one line, without the ways out; empty without obstacles."""
    sentences = list(dict.fromkeys(each.sentence for each in obstacles))
    more = len(sentences) - _MOST
    return "; ".join(sentences[:_MOST]) + (f"; and {more} more" if more > 0 else "")


def advice(obstacles: Iterable[Obstacle]) -> str:
    """Return the ways out as the end of a text; empty if there is none.

    That is the first one, and that of a worker at another store.
    """
    known = [each for each in obstacles if each.remedy]
    remedies = [each.remedy for each in known[:1]]
    remedies += [each.remedy for each in known[1:] if each.kind == "elsewhere"]
    return "".join(f". {remedy}" for remedy in dict.fromkeys(remedies))
