"""Tasks that this client cancels itself, and whose futures it ends without an announcement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from nbqueue.client.completion.awaited_tasks import AwaitedTasks
from nbqueue.client.futures.outcome import RawOutcome


class LocalCancellations:
    """Keeps tasks that are gone, as they are cancelled here, from being taken for deleted ones."""

    def __init__(
        self,
        tasks: AwaitedTasks,
        mutex: AbstractContextManager[Any],
        notify: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        """``mutex`` guards ``tasks``. ``notify`` is called within it when a task is waited for no
        more, and ``wake`` has the listener look at the tasks."""
        self._tasks = tasks
        self._mutex = mutex
        self._notify = notify
        self._wake = wake

    @contextmanager
    def of(
        self, queue: str, task_ids: Sequence[str], answers: Mapping[str, RawOutcome | str]
    ) -> Iterator[None]:
        """While these tasks are cancelled, none that is gone is taken for one that was deleted.

        At the end, those with a `RawOutcome` among ``answers`` end for the futures of this client.
        After an interruption the others are looked at: scripts that were sent may have run.
        """
        places = {(queue, task_id) for task_id in task_ids}
        with self._mutex:
            self._tasks.cancelling |= places
        try:
            yield
        except BaseException:
            unanswered = [task_id for task_id in task_ids if task_id not in answers]
            with self._mutex:
                self._tasks.cut_off.update((queue, task_id) for task_id in unanswered)
                self._tasks.suspect(queue, unanswered)
            raise
        finally:
            self._end(queue, answers)
            with self._mutex:
                self._tasks.cancelling -= places
            self._wake()

    def _end(self, queue: str, answers: Mapping[str, RawOutcome | str]) -> None:
        ends = {i: answer for i, answer in answers.items() if isinstance(answer, RawOutcome)}
        with self._mutex:
            sinks = self._tasks.pop_all(queue, ends)
            self._notify()
        for sink, ids in sinks.items():
            sink._take([(task_id, ends[task_id]) for task_id in ids])
