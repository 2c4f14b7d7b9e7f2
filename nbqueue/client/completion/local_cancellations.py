"""Tasks that this client cancels, whose futures end without an announcement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from nbqueue.client.completion.listener_state import ListenerState
from nbqueue.client.results.outcome import RawOutcome


class LocalCancellations:
    """Keeps a task that is being cancelled here from being taken for a deleted one."""

    def __init__(self, state: ListenerState) -> None:
        self._state = state

    @contextmanager
    def during(
        self, queue: str, task_ids: Sequence[str], answers: Mapping[str, RawOutcome | str]
    ) -> Iterator[None]:
        """Take none of these tasks for deleted while they are cancelled.

        At the end, those with a `RawOutcome` among ``answers`` end for the futures of this client.
        After an interruption the others are looked at: scripts that were sent may have run.
        """
        state, tasks = self._state, self._state.tasks
        places = {(queue, task_id) for task_id in task_ids}
        with state.lock:
            tasks.being_cancelled |= places
        try:
            yield
        except BaseException:
            unanswered = [task_id for task_id in task_ids if task_id not in answers]
            with state.lock:
                tasks.cancel_interrupted.update((queue, task_id) for task_id in unanswered)
            raise
        finally:
            self._end(queue, answers)
            with state.lock:
                tasks.being_cancelled -= places
                # Also those that an earlier, interrupted call may have removed.
                interrupted = places & tasks.cancel_interrupted
                if interrupted:
                    tasks.look_soon(queue, [task_id for _, task_id in interrupted])
            state.wake()

    def _end(self, queue: str, answers: Mapping[str, RawOutcome | str]) -> None:
        ends = {i: answer for i, answer in answers.items() if isinstance(answer, RawOutcome)}
        with self._state.lock:
            sinks = self._state.tasks.pop_all(queue, ends)
            self._state.changed.notify_all()
        for sink, ids in sinks.items():
            sink._take([(task_id, ends[task_id]) for task_id in ids])
