"""Cancelling tasks that run in a program in Go.

A server in Go cancels the context of the handler, and then retries the task as after any error. So
a cancelled task is followed: once it waits for its next attempt, it is archived as cancelled. The
client does so while `TaskFuture.cancel` waits, and whenever it sees the task after that. Workers do
so for an hour (`nbqueue.worker.maintenance.cancelled_in_go`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from nbqueue.client.results.outcome import RawOutcome
from nbqueue.transport.script_call import Arg
from nbqueue.transport.topology import ANYWHERE
from nbqueue.wire import states
from nbqueue.wire.keys import CANCEL_CHANNEL, stored_keys

if TYPE_CHECKING:
    from nbqueue.client.session import Session

CANCELLABLE: Final = frozenset({states.PENDING, states.SCHEDULED, states.RETRY, states.AGGREGATING})
"""The states that a task leaves for the archive when it is cancelled."""

CANCEL_SECONDS = 2.0
"""Seconds to wait for the worker of a running task."""

FOLLOWED_SECONDS = 3_600
"""Seconds for which workers follow a task that was cancelled while it ran in Go."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_SLICE = 250


def cancel_running(
    session: Session, queue: str, task_ids: Sequence[str]
) -> dict[str, RawOutcome | str]:
    """Ask the workers of running tasks to end them, and follow those that run in Go.

    Returns the answers of tasks that left the state active, as `Session.cancel` does, after
    `CANCEL_SECONDS` at most.
    """
    left = _held_by_go(session, queue, task_ids)  # first, as Go releases a cancelled task at once
    if left:
        _have_followed(session, queue, left)
    _ask_to_cancel(session, task_ids)
    answers: dict[str, RawOutcome | str] = {}
    if session.listener.is_this_thread():
        return answers  # which must not wait; the next look finds the ends
    until, pause, never = time.monotonic() + CANCEL_SECONDS, _FIRST_PAUSE, threading.Event()
    while left and time.monotonic() < until:
        never.wait(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        found = session.cancel(queue, left, running=False)
        answers |= {i: answer for i, answer in found.items() if answer != states.ACTIVE}
        left = [i for i in left if i not in answers]
        if left and pause == _LONGEST_PAUSE:
            # Go ignores the cancellation of a task that it has fetched and not yet begun.
            _ask_to_cancel(session, left)
    return answers


def _ask_to_cancel(session: Session, task_ids: Sequence[str]) -> None:
    calls = (("PUBLISH", CANCEL_CHANNEL, task_id) for task_id in task_ids)
    session.broker.call(*calls, on=ANYWHERE)


def _held_by_go(session: Session, queue: str, task_ids: Sequence[str]) -> list[str]:
    """Return the tasks that no worker of nbqueue holds: its leases are never whole seconds."""
    lease = stored_keys(queue).lease
    scores = session.broker.call(*(("ZSCORE", lease, task_id) for task_id in task_ids), on=queue)
    return [i for i, score in zip(task_ids, scores, strict=True) if not (score and b"." in score)]


def _have_followed(session: Session, queue: str, task_ids: Sequence[str]) -> None:
    key, until = stored_keys(queue).cancels, session.clock.now_ms() // 1000 + FOLLOWED_SECONDS
    for start in range(0, len(task_ids), _SLICE):
        words: list[Arg] = ["ZADD", key]
        for task_id in task_ids[start : start + _SLICE]:
            words += (until, task_id)
        session.broker.call(words, ("EXPIREAT", key, until), on=queue)
