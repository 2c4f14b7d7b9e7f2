"""`SeenState`: the last known state of a task."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nbqueue.errors import StoreError
from nbqueue.wire import states

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_FRESH_SECONDS = 0.05
"""Seconds for which a known state is used before the store is asked again."""

_END_SECONDS = 0.5
"""Seconds to wait for the announcement of an end seen in the store."""


class SeenState:
    """The last known state of a task that has not ended."""

    # Class attributes: there is one object for each task, and most never set them.
    state = states.PENDING
    _at = 0.0

    def note(self, state: str) -> None:
        """Note that the task was in this state just now."""
        self.state, self._at = state, time.monotonic()

    def look(
        self,
        session: Session | None,
        queue: str,
        task_id: str,
        ended: threading.Condition,
        has_ended: Callable[[], bool],
    ) -> None:
        """Read the state from the store, unless it is fresh or there is no connection.

        If the task turns out to have ended, wait a moment for its outcome: until ``has_ended``,
        with the condition ``ended``.
        """
        now = time.monotonic()
        if session is None or now - self._at < _FRESH_SECONDS:
            return
        listener = session.listener
        if not session.is_open or not listener.is_connected:
            return
        self._at = now
        try:
            state = session.broker.state_now(queue, task_id)
        except StoreError:
            return
        if state is not None and state not in states.FINAL:
            self.state = state
        elif not listener.is_this_thread():
            # The announcement is on its way, unless it was lost.
            listener.look_soon(queue, task_id)
            with ended:
                ended.wait_for(has_ended, _END_SECONDS)
