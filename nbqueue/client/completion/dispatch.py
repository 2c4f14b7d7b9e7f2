"""Ends of tasks, announced or found in the store, on their way to whoever waits for them."""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands.look import look
from nbqueue.calls.keys.signing import Keyring
from nbqueue.calls.payloads import beside_result
from nbqueue.client.completion.awaited_tasks import AwaitedTasks, Sink
from nbqueue.client.completion.inline_read import InlineRead
from nbqueue.client.completion.unconfirmed_ends import Announced, UnconfirmedEnds
from nbqueue.client.futures.outcome import (
    CANCELLED,
    GONE,
    RawOutcome,
    broken,
    end_as,
    read_announcement,
    verified,
)
from nbqueue.wire import states

_ENDS_AT_ONCE = 64

_log = logging.getLogger("nbqueue.client")


class EndDispatcher:
    """Called by whichever thread reads from the connection, but for `end_all`."""

    def __init__(
        self,
        tasks: AwaitedTasks,
        lock: threading.Condition,
        leading: InlineRead,
        broker: Callable[[], Broker],
        keyring: Keyring,
        on_later: Callable[[], None],
    ) -> None:
        """``lock`` guards ``tasks``, and is notified when one is waited for no more. ``on_later``
        is called when `check_announced` is to be called again."""
        self._tasks = tasks
        self._lock = lock
        self._leading = leading
        self._broker = broker
        self._keyring = keyring
        self._on_later = on_later
        self._doubts = UnconfirmedEnds()
        self._untold: list[tuple[Sink, list[tuple[str, RawOutcome]]]] = []

    @property
    def untold(self) -> list[tuple[Sink, list[tuple[str, RawOutcome]]]]:
        """What is known and was not told yet."""
        return list(self._untold)

    def inherit(self, untold: list[tuple[Sink, list[tuple[str, RawOutcome]]]]) -> None:
        """Tell this next: the process that was about to is the parent of this one."""
        self._untold += untold

    def announced(self, queue: str, channel: str, data: bytes) -> None:
        """Take in the ends that a message on a channel of ``queue`` announces.

        A signed result of a task whose id was made here is its end. Anything else may be forged, or
        of an earlier task of the same id: the store decides.
        """
        try:
            ends, unread = read_announcement(data)
        except (struct.error, ValueError):
            # Anybody may publish anything there. What this was about, the rounds will find.
            _log.warning("a message on %s could not be read", channel)
            return
        tasks, certain = self._tasks, []
        doubtful: list[tuple[str, RawOutcome | None]] = []
        # The sender of a task holds the lock until its sink is registered; the task may end before.
        with self._lock:
            waited_for = tasks.ids_in(queue)
            ends = [each for each in ends if each[0] in waited_for]
            unread = [task_id for task_id in unread if task_id in waited_for]
        for task_id, end in ends:
            if tasks.is_fresh(queue, task_id):
                proved = verified(end, task_id, self._keyring)
                if proved is not None:
                    certain.append((task_id, proved))
                    continue
            doubtful.append((task_id, end))
        if certain:
            self._tell(queue, certain)
        doubtful += [(task_id, None) for task_id in unread]
        if doubtful:
            with self._lock:
                self._doubts.add(queue, doubtful)
            if self.check_announced(time.monotonic()) is not None:
                self._on_later()

    def check_announced(self, now: float) -> float | None:
        """Look at tasks whose end was announced without proof.

        Returns the seconds until there is more to look at, or None.
        """
        while True:
            with self._lock:
                chosen = self._doubts.take(now)
                if chosen is None:
                    return self._doubts.next_in(now)
            in_vain = True
            try:
                in_vain = self._look_at_announced(*chosen)
            finally:
                with self._lock:
                    self._doubts.looked(*chosen, now, in_vain=in_vain)

    def _look_at_announced(self, queue: str, announced: Announced) -> bool:
        """Tell of those that have ended; returns whether some have not."""
        with self._lock:
            ids = [i for i in announced if self._tasks.sink_of(queue, i) is not None]
        found = self._broker().endings(queue, ids) if ids else []
        ends: list[tuple[str, RawOutcome]] = []
        unwritten: Announced = {}
        for task_id, ending in zip(ids, found, strict=True):
            end, said = end_as(ending), announced[task_id]
            if ending is None and self._tasks.may_be_unwritten(queue, task_id):
                unwritten[task_id] = said
            elif ending is None and said is not None:
                # The store keeps nothing of it: what was announced is all there is.
                ends.append((task_id, said))
            elif end is not None:
                ends.append((task_id, end))
        if unwritten:
            with self._lock:
                self._doubts.add(queue, unwritten.items())
        self._tell(queue, ends)
        return len(ends) < len(ids)

    def look_at(self, tasks: Mapping[tuple[str, str], str]) -> dict[str, list[str]]:
        """Look at tasks, by queue and id, that may have ended unheard since they were seen.

        Returns those that are gone, by queue: see `gone`.
        """
        broker = self._broker()
        ended: dict[str, list[tuple[str, RawOutcome]]] = {}
        gone: dict[str, list[str]] = {}
        unread: dict[str, list[str]] = {}
        for queue, task_id, state, ending in broker.run(look(tasks)):
            if state is None and (queue, task_id) in self._tasks.cancelling:
                continue
            if state is None and (queue, task_id) in self._tasks.cut_off:
                ended.setdefault(queue, []).append((task_id, CANCELLED))
            elif state is None:
                gone.setdefault(queue, []).append(task_id)
            elif state not in states.FINAL:
                with self._lock:
                    sink = self._tasks.saw(queue, task_id, state)
                if sink is not None:
                    sink._notice(task_id, state)
            elif ending is None or beside_result(ending.result) is not None:
                unread.setdefault(queue, []).append(task_id)
            else:
                end = end_as(ending)
                assert end is not None
                ended.setdefault(queue, []).append((task_id, end))
        for queue, ends in ended.items():
            self._tell(queue, ends)
        for queue, ids in unread.items():
            self._tell_what_came(queue, ids)
        return gone

    def gone(self, queue: str, task_ids: Sequence[str]) -> None:
        """Tell that these are gone, except those whose end was announced and is being looked up."""
        with self._lock:
            task_ids = [i for i in task_ids if not self._doubts.has(queue, i)]
        self._tell(queue, [(task_id, RawOutcome(GONE)) for task_id in task_ids])

    def _tell_what_came(self, queue: str, ended: Sequence[str]) -> None:
        """Tell of tasks that ended, one at a time if they are large: each is told once read."""
        for at in range(0, len(ended), _ENDS_AT_ONCE):
            ids = ended[at : at + _ENDS_AT_ONCE]
            found = self._broker().endings(queue, ids)
            ends = [(i, end_as(ending)) for i, ending in zip(ids, found, strict=True)]
            # What has not ended after all, or again not, a later round will find.
            self._tell(queue, [(i, end) for i, end in ends if end is not None])

    def end_all(self, end: Callable[[str], RawOutcome]) -> None:
        """Tell everybody that his task has this end."""
        with self._lock:
            outstanding = self._tasks.all()
        for queue, task_id, _ in outstanding:
            self._tell(queue, [(task_id, end(task_id))])

    def _tell(self, queue: str, ends: Sequence[tuple[str, RawOutcome]]) -> None:
        by_sink: dict[Sink, list[tuple[str, RawOutcome]]] = {}
        with self._lock:
            for task_id, end in ends:
                sink = self._tasks.pop(queue, task_id)
                if sink is not None:
                    by_sink.setdefault(sink, []).append((task_id, end))
            self._untold += by_sink.items()
        self.tell_untold()
        with self._lock:
            self._lock.notify_all()

    def tell_untold(self) -> None:
        """Tell what is known and could not be told: whoever was about to was interrupted."""
        while self._untold:
            sink, taken = self._untold[0]
            # The user's callbacks run in there; even a SystemExit must not end this thread.
            try:
                sink._take(taken)
            except BaseException as error:
                if self._leading.is_this_thread() and not isinstance(error, Exception):
                    raise  # it is meant for the thread that leads, and not for the task
                _log.exception("the end of %d tasks could not be taken in", len(taken))
                sink._take([(task_id, broken(task_id, error)) for task_id, _ in taken])
            try:
                self._untold.remove((sink, taken))
            except ValueError:
                pass  # another thread told it, too
