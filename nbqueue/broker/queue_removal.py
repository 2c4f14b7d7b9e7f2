"""Remove a queue with everything in it.

Other programs may still enqueue to it meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import inspect
from nbqueue.broker.reads.store_reader import no_queue
from nbqueue.errors import QueueNotEmpty
from nbqueue.transport.topology import Key
from nbqueue.wire import states
from nbqueue.wire.keys import (
    QUEUES,
    SCHEDULERS,
    QueueKeys,
    name_bytes,
    scheduler_entries,
    scheduler_history,
    stored_keys,
    stored_name,
)
from nbqueue.wire.schedule_record import NBQUEUE_SCHEDULER, asynq_id

_ROUNDS = 20
_SLICE = 500
_STATES = (
    states.PENDING,
    states.SCHEDULED,
    states.RETRY,
    states.ARCHIVED,
    states.COMPLETED,
)


class QueueRemoval:
    """Removes one queue.

    A task that is enqueued meanwhile is removed too, or kept complete.
    """

    def __init__(self, broker: Broker, queue: str) -> None:
        self._broker = broker
        self._queue = queue
        self._keys: QueueKeys = stored_keys(queue)

    def run(self, force: bool) -> None:
        """Remove the queue; with ``force`` its tasks too.

        Raises `QueueNotFound`; `QueueNotEmpty` if there are tasks and ``force`` is not set, or if
        a worker holds some. Then nothing, or only other tasks, were deleted.
        """
        queue = self._queue
        [is_there] = self._broker.call(("SISMEMBER", QUEUES, queue), on=Key(QUEUES))
        if not is_there:
            raise no_queue(queue, self._broker.queues())
        for _ in range(_ROUNDS):
            if force:
                self._empty_place(self._keys.active, states.ACTIVE)  # first: it may be refused
            names = list(self._names())
            self._empty_groups(names, only_gone=not force)
            if force:
                self._empty_states()
                names.append(name_bytes(self._keys.events))  # by now it lists the deleted tasks
            elif self._holds_tasks() or any(self._is_task(name) for name in names):
                raise QueueNotEmpty(
                    f"queue {queue!r} holds tasks: remove it with force=True to delete them", queue
                )
            [schedules] = self._broker.call(("HKEYS", self._keys.schedules), on=queue)
            if self._drop(names):
                self._forget_schedules(schedules)
                if self._forget():
                    return
        raise QueueNotEmpty(f"tasks keep coming in to queue {queue!r}: stop who enqueues", queue)

    def _names(self) -> Iterator[bytes]:
        """Yield all keys of the queue, by a scan of the whole store.

        No index lists the keys that programs in Go leave behind.
        """
        cursors = {
            re.sub(r"([\\*?\[\]^-])", r"\\\1", prefix) + "*": b"0"
            for prefix in (self._keys.prefix, self._keys.own_prefix)
        }
        for pattern, start in cursors.items():
            cursor = start
            while True:
                [(cursor, names)] = self._broker.call(
                    ("SCAN", cursor, "MATCH", pattern, "COUNT", _SLICE), on=self._queue
                )
                yield from names
                if int(cursor) == 0:
                    break

    def _is_task(self, name: bytes) -> bool:
        return name.startswith(name_bytes(self._keys.task_prefix))

    def _empty_states(self) -> None:
        for state in _STATES:
            self._empty_place(self._keys.by_state(state), state)

    def _empty_groups(self, names: list[bytes], *, only_gone: bool) -> None:
        """Empty the aggregation groups; with ``only_gone``, only remove empty ones."""
        keys = self._keys
        prefix = name_bytes(keys.group(""))
        groups, sets = self._broker.call(
            ("SMEMBERS", keys.groups), ("ZRANGE", keys.aggregation_sets, 0, -1), on=self._queue
        )
        places = dict.fromkeys([*sets, *(each for each in names if each.startswith(prefix))], b"")
        places |= {prefix + group: group for group in groups}
        for place, group in places.items():
            if not (only_gone and self._exists(place)):
                self._empty_place(_text(place), states.AGGREGATING, _text(group))

    def _exists(self, place: bytes) -> bool:
        [number] = self._broker.call(("EXISTS", place), on=self._queue)
        return bool(number)

    def _empty_place(self, place: str, state: str, group: str = "") -> None:
        found = 1
        while found:
            now_ms = self._broker.clock.now_ms()
            found = self._broker.run(inspect.empty(self._queue, place, state, now_ms, group=group))
            if found == inspect.HELD:
                raise QueueNotEmpty(
                    f"workers run tasks of queue {self._queue!r}: cancel these or stop the "
                    "workers, and remove the queue then",
                    self._queue,
                )

    def _holds_tasks(self) -> bool:
        keys = self._keys
        places = [keys.active, *(keys.by_state(state) for state in _STATES), keys.groups]
        [number] = self._broker.call(("EXISTS", *places, keys.aggregation_sets), on=self._queue)
        return bool(number)

    def _drop(self, names: list[bytes]) -> bool:
        for start in range(0, len(names), _SLICE):
            part = names[start : start + _SLICE]
            if not self._broker.run(inspect.drop(self._queue, part)):
                return False
        return True

    def _forget_schedules(self, ids: list[bytes]) -> None:
        """Delete the records of the schedules for Asynq's programs, in other slots."""
        for each in ids:
            history = scheduler_history(asynq_id(self._queue, _text(each)))
            self._broker.call(("DEL", history), on=Key(history))
        record = scheduler_entries(NBQUEUE_SCHEDULER + self._queue)
        self._broker.call_each(
            [(Key(SCHEDULERS), ("ZREM", SCHEDULERS, record)), (Key(record), ("DEL", record))]
        )
        self._broker.publish(self._keys.wake, "schedules")

    def _forget(self) -> bool:
        """Remove the queue's name, unless a task was enqueued meanwhile.

        Returns whether the name was removed.
        """
        self._broker.call(("SREM", QUEUES, self._queue), on=Key(QUEUES))
        self._broker.publish(self._keys.wake, "handlers")
        self._broker.forget_queue(self._queue)
        if self._holds_tasks():
            self._broker.call(("SADD", QUEUES, self._queue), on=Key(QUEUES))
            return False
        return True


def _text(name: bytes) -> str:
    return stored_name(name)
