"""Say on standard error why a wait takes long, in programs that show no card and no line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from nbqueue.printable import printable

if TYPE_CHECKING:
    from nbqueue.client.obstacles.obstacle_watch import Found, ObstacleWatch
    from nbqueue.client.obstacles.store_facts import Wanted

NOTICE_SECONDS = 0.8
"""The time for which a wait says nothing. With that of a read it is a second."""


class Awaited(Protocol):
    """Tasks that are waited for."""

    def _obstacle_watch(self) -> ObstacleWatch: ...
    def _sample(self) -> Wanted:
        """Return some of the tasks that have not ended, by queue."""


def say_why(handle: Awaited) -> Callable[[], None]:
    """Write what keeps the tasks of ``handle`` from running, until the returned function is called.

    Each reason is written once, and again only if it was gone in between.
    """
    watch = handle._obstacle_watch()

    def on_change(found: Found) -> None:
        reasons = {(each.kind, each.subject): each.text for each in found}
        new = watch.note_said(set(reasons))
        for reason, text in reasons.items():
            if reason in new:
                write_notice(text)

    return watch.follow(handle._sample, on_change, after=0.0)


def write_notice(text: str) -> None:
    """Write a line to standard error, if that is open."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):  # it is closed, or the other end of a pipe is
        sys.stderr.write(f"nbqueue: {printable(text)}\n")
        sys.stderr.flush()
