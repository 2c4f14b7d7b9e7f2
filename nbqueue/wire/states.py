"""The states of a task, in the order of its life."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from nbqueue.names import did_you_mean
from nbqueue.printable import shown

WAITING: Final = "waiting"
SCHEDULED: Final = "scheduled"
AGGREGATING: Final = "aggregating"
PENDING: Final = "pending"
ACTIVE: Final = "active"
RETRY: Final = "retry"
COMPLETED: Final = "completed"
ARCHIVED: Final = "archived"

ALL: Final = (WAITING, SCHEDULED, AGGREGATING, PENDING, ACTIVE, RETRY, COMPLETED, ARCHIVED)
FINAL: Final = frozenset({COMPLETED, ARCHIVED})

_MEANT: Final = {
    "failed": (RETRY, ARCHIVED),
    "error": (RETRY, ARCHIVED),
    "cancelled": (ARCHIVED,),
    "canceled": (ARCHIVED,),
    "dead": (ARCHIVED,),
    "retrying": (RETRY,),
    "running": (ACTIVE,),
    "started": (ACTIVE,),
    "queued": (PENDING,),
    "delayed": (SCHEDULED,),
    "done": (COMPLETED,),
    "finished": (COMPLETED,),
    "success": (COMPLETED,),
    "succeeded": (COMPLETED,),
}
"""Words of other queues, and of sums of states, for states of Asynq."""


def meant_state(word: object, known: Iterable[str]) -> str:
    """Return a question for the states that ``word`` may stand for, or ""."""
    meant = _MEANT.get(word.lower(), ()) if isinstance(word, str) else ()
    if meant:
        return f"did you mean {' or '.join(map(repr, meant))}?"
    return did_you_mean(word, known)


def unknown_state(word: object, known: Sequence[str] = ALL) -> str:
    """Return a sentence that says ``word`` is no state, which was meant, and which there are.

    >>> unknown_state("failed", ("retry", "archived"))
    "'failed' is no state: did you mean 'retry' or 'archived'? There are retry, archived"
    """
    question = meant_state(word, known)
    rest = f": {question} There are" if question else "; there are"
    return f"{shown(word)} is no state{rest} {', '.join(known)}"
