"""In which state a task was seen, and how it is seen now."""

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
"""How old what is known of a task's state may be before the store is asked again."""

_END_SECONDS = 0.5
"""How long an end that was seen in the store may take to get here."""


class SeenState:
    """The state in which a task that has not ended was seen last."""

    # Defaults of the class: one is made for each task, and most never need more.
    state = states.PENDING
    _at = 0.0

    def note(self, state: str) -> None:
        """It was seen in this state just now."""
        self.state, self._at = state, time.monotonic()

    def look(
        self,
        session: Session | None,
        queue: str,
        task_id: str,
        ended: threading.Condition,
        has_ended: Callable[[], bool],
    ) -> None:
        """Ask the store, unless it was seen just now or the store is away.

        If it turns out to have ended, wait a moment until that is known here: until ``has_ended``,
        of which ``ended`` is notified.
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
            # Its end is on its way, unless nobody announced it.
            listener.suspect(queue, task_id)
            with ended:
                ended.wait_for(has_ended, _END_SECONDS)
