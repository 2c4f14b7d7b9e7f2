"""Ends of tasks, announced or found in the store, on their way to futures and groups."""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from nbqueue.broker.commands.changed_tasks import changed_tasks
from nbqueue.calls.keys.signing import Keyring
from nbqueue.calls.payloads import detached_result
from nbqueue.client.channels.channel_listeners import ChannelListeners
from nbqueue.client.channels.inline_read import InlineRead
from nbqueue.client.channels.listener_connection import ListenerConnection
from nbqueue.client.completion.awaited_tasks import Sink
from nbqueue.client.completion.listener_state import ListenerState
from nbqueue.client.completion.unconfirmed_ends import Announced, UnconfirmedEnds
from nbqueue.client.results.outcome import (
    CANCELLED,
    GONE,
    RawOutcome,
    broken,
    end_as,
    read_announcement,
    verified,
)
from nbqueue.errors import StoreUnreachable
from nbqueue.wire import states

_ENDS_AT_ONCE = 64

_log = logging.getLogger("nbqueue.client")


Delivery = tuple[Sink, list[tuple[str, RawOutcome]]]
"""Ends that one sink is to get."""


class EndDispatcher:
    """Delivers ends to the sinks of their tasks.

    It is called in the thread that reads from the connection, except `end_all`.
    """

    def __init__(
        self,
        state: ListenerState,
        connection: ListenerConnection,
        channels: ChannelListeners,
        inline_read: InlineRead,
        keyring: Keyring,
    ) -> None:
        self._state = state
        self._tasks = state.tasks
        self._connection = connection
        self._channels = channels
        self._inline_read = inline_read
        self._keyring = keyring
        self._unconfirmed = UnconfirmedEnds()
        self._undelivered: list[Delivery] = []

    @property
    def undelivered(self) -> list[Delivery]:
        """The deliveries that are not made yet."""
        return list(self._undelivered)

    def inherit(self, undelivered: list[Delivery]) -> None:
        """Make these deliveries next, which were the parent's when this process was forked."""
        self._undelivered += undelivered

    def on_message(self, channel: str, data: bytes) -> None:
        """Deliver the ends that a message announces, or pass it to the callbacks of its channel.

        A signed result of a task whose id was made here is its end. Anything else may be forged, or
        of an earlier task of the same id: the store decides.
        """
        queue = self._tasks.queue_of.get(channel)
        if queue is None:
            self._channels.dispatch(channel, data, self._connection.broker)
            return
        try:
            ends, unread = read_announcement(data)
        except (struct.error, ValueError):
            # Any program may publish there. Looking will find the ends, if there are any.
            _log.warning("a message on %s could not be read", channel)
            return
        tasks, certain = self._tasks, []
        unproved: list[tuple[str, RawOutcome | None]] = []
        awaited = tasks.ids_in(queue)
        for task_id, end in ends:
            if task_id not in awaited:
                continue
            if tasks.has_own_id(queue, task_id):
                proved = verified(end, task_id, self._keyring)
                if proved is not None:
                    certain.append((task_id, proved))
                    continue
            unproved.append((task_id, end))
        if certain:
            self._deliver(queue, certain)
        if unread:
            unproved += [(task_id, None) for task_id in unread if task_id in awaited]
        if unproved:
            with self._state.lock:
                self._unconfirmed.add(queue, unproved)
            if self.confirm_ends(time.monotonic()) is not None:
                self._state.wake()  # the listener's thread continues with them later

    def confirm_ends(self, now: float) -> float | None:
        """Look at tasks whose end was announced without proof.

        Returns the seconds until there is more to look at, or None.
        """
        while True:
            with self._state.lock:
                chosen = self._unconfirmed.take(now)
                if chosen is None:
                    return self._unconfirmed.next_in(now)
            in_vain = True
            try:
                in_vain = self._look_at_announced(*chosen)
            except StoreUnreachable as error:
                self._connection.raise_if_store_wide(error)
            finally:
                with self._state.lock:
                    self._unconfirmed.note_look(*chosen, now, in_vain=in_vain)

    def _look_at_announced(self, queue: str, announced: Announced) -> bool:
        """Deliver the ends of those that have ended; return whether some have not."""
        with self._state.lock:
            ids = [i for i in announced if self._tasks.sink_of(queue, i) is not None]
        found = self._connection.broker().endings(queue, ids) if ids else []
        ends: list[tuple[str, RawOutcome]] = []
        unwritten: Announced = {}
        for task_id, ending in zip(ids, found, strict=True):
            end, claimed = end_as(ending), announced[task_id]
            if ending is None and self._tasks.may_be_unwritten(queue, task_id):
                unwritten[task_id] = claimed
            elif ending is None and claimed is not None:
                # The store keeps nothing of it: the announcement is all there is.
                ends.append((task_id, claimed))
            elif end is not None:
                ends.append((task_id, end))
        if unwritten:
            with self._state.lock:
                self._unconfirmed.add(queue, unwritten.items())
        self._deliver(queue, ends)
        return len(ends) < len(ids)

    def look_at(self, tasks: Mapping[tuple[str, str], str]) -> dict[str, list[str]]:
        """Read tasks, given with their last states, and deliver the ends of those that ended.

        Returns the missing ones by queue; see `end_missing`.
        """
        by_queue: dict[str, dict[str, str]] = {}
        for (queue, task_id), state in tasks.items():
            by_queue.setdefault(queue, {})[task_id] = state
        changed = self._connection.run_each(changed_tasks(*each) for each in by_queue.items())
        ended: dict[str, list[tuple[str, RawOutcome]]] = {}
        missing: dict[str, list[str]] = {}
        unread: dict[str, list[str]] = {}
        for queue, task_id, state, ending in chain.from_iterable(changed):
            if state is None and (queue, task_id) in self._tasks.being_cancelled:
                continue
            if state is None and (queue, task_id) in self._tasks.cancel_interrupted:
                ended.setdefault(queue, []).append((task_id, CANCELLED))
            elif state is None:
                missing.setdefault(queue, []).append(task_id)
            elif state not in states.FINAL:
                with self._state.lock:
                    sink = self._tasks.note_state(queue, task_id, state)
                if sink is not None:
                    sink._notice(task_id, state)
            elif ending is None or detached_result(ending.result) is not None:
                unread.setdefault(queue, []).append(task_id)
            else:
                end = end_as(ending)
                assert end is not None
                ended.setdefault(queue, []).append((task_id, end))
        for queue, ends in ended.items():
            self._deliver(queue, ends)
        for queue, ids in unread.items():
            self._read_and_deliver(queue, ids)
        return missing

    def end_missing(self, queue: str, task_ids: Sequence[str]) -> None:
        """End tasks that are gone, except those whose announced end is being confirmed."""
        with self._state.lock:
            task_ids = [i for i in task_ids if not self._unconfirmed.has(queue, i)]
        self._deliver(queue, [(task_id, RawOutcome(GONE)) for task_id in task_ids])

    def _read_and_deliver(self, queue: str, ended: Sequence[str]) -> None:
        """Deliver the ends of tasks whose results are read separately, a few at a time."""
        for at in range(0, len(ended), _ENDS_AT_ONCE):
            ids = ended[at : at + _ENDS_AT_ONCE]
            found = self._connection.broker().endings(queue, ids)
            ends = [(i, end_as(ending)) for i, ending in zip(ids, found, strict=True)]
            # A task that has not ended after all is found by a later look.
            self._deliver(queue, [(i, end) for i, end in ends if end is not None])

    def end_all(self, end: Callable[[str], RawOutcome]) -> None:
        """End all awaited tasks."""
        with self._state.lock:
            awaited = self._tasks.all()
        for queue, task_id, _ in awaited:
            self._deliver(queue, [(task_id, end(task_id))])

    def _deliver(self, queue: str, ends: Sequence[tuple[str, RawOutcome]]) -> None:
        by_sink: dict[Sink, list[tuple[str, RawOutcome]]] = {}
        with self._state.lock:
            for task_id, end in ends:
                sink = self._tasks.pop(queue, task_id)
                if sink is not None:
                    by_sink.setdefault(sink, []).append((task_id, end))
            self._undelivered += by_sink.items()
        self.deliver_rest()
        with self._state.lock:
            self._state.changed.notify_all()

    def deliver_rest(self) -> None:
        """Make the deliveries that are left, as the thread that was about to was interrupted."""
        while self._undelivered:
            sink, taken = self._undelivered[0]
            # The user's callbacks run in there; even a SystemExit must not end this thread.
            try:
                sink._take(taken)
            except BaseException as error:
                if threading.current_thread() is self._inline_read.thread and not isinstance(
                    error, Exception
                ):
                    raise  # it is meant for the thread that waits, and not for the task
                _log.exception("the end of %d tasks could not be taken in", len(taken))
                sink._take([(task_id, broken(task_id, error)) for task_id, _ in taken])
            try:
                self._undelivered.remove((sink, taken))
            except ValueError:
                pass  # another thread delivered it, too
