"""`MemberStates`: the states of a group's tasks that have not ended, as reads and events say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from nbqueue.wire import states

_STATE_AFTER: Final[Mapping[str, str]] = {
    "enqueued": states.PENDING,
    "scheduled": states.SCHEDULED,
    "forwarded": states.PENDING,
    "started": states.ACTIVE,
    "parked": states.SCHEDULED,
    "requeued": states.PENDING,
    "retried": states.RETRY,
}
_BEGUN: Final = (states.ACTIVE, states.RETRY)


class MemberStates:
    """States by task id. Does no I/O and holds no lock.

    Events, reads and ends reach a client on three ways, in any order: what has ended, as
    ``has_ended`` knows, is never counted as if it had not.
    """

    def __init__(self, has_ended: Callable[[str], bool]) -> None:
        self._has_ended = has_ended
        self._states: dict[str, str] = {}
        self.has_begun = False
        """True once any task was seen to have begun."""

    def read(self, found: Mapping[str, str]) -> None:
        """Take the states of all tasks, as they were just read."""
        self._states = {
            task_id: state for task_id, state in found.items() if state not in states.FINAL
        }
        self.has_begun |= any(state in _BEGUN for state in self._states.values())

    def note(self, event: str, task_ids: Iterable[str]) -> None:
        """Take an event of tasks, named as in the stream of events."""
        state = _STATE_AFTER.get(event)
        for task_id in task_ids:
            self.has_begun |= state is None or state in _BEGUN
            if state is None:
                self._states.pop(task_id, None)
            else:
                self._states[task_id] = state

    def counts(self, left: int) -> Counter[str]:
        """Count the tasks by state, of which ``left`` have not ended."""
        if len(self._states) > left:
            # Some ended although no event has said so yet, or an older event came late.
            self._states = {
                task_id: state
                for task_id, state in self._states.items()
                if not self._has_ended(task_id)
            }
        return Counter(self._states.values())
