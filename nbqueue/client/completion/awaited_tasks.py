"""The tasks that a client waits for, with the futures and groups that get their ends.

Knows the channels on which ends are announced, and when to look at tasks whose end may have been
missed. Pure; the listener's lock guards it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container, Iterable, Sequence
from typing import Protocol

from nbqueue.broker.commands.changed_tasks import MOST_LOOKED_AT
from nbqueue.client.completion.poll_schedule import SLICE, PollSchedule
from nbqueue.client.results.outcome import RawOutcome
from nbqueue.wire.keys import stored_keys

OWN_INTERVAL = 10.0
"""Seconds between two looks at a call of this client. Its end is mostly announced."""

OTHER_INTERVAL = 1.0
"""Seconds between two looks at an attached task, or a message that Go may handle."""

FIRST_INTERVAL = 0.25
"""Seconds from enqueuing a message to the first look at it."""

LOOK_SECONDS = 1.0
"""Seconds from one look at all tasks that are due to the next, on average."""


class Sink(Protocol):
    """Gets the ends of tasks: a future that of one, a group those of many.

    Called in the listener's thread, or in one that reads in its place.
    """

    def _take(self, ends: Sequence[tuple[str, RawOutcome]]) -> None:
        """Take in the ends of these tasks."""

    def _notice(self, task_id: str, state: str) -> None:
        """Note that a task was seen in this state, which is not a final one."""


class AwaitedTasks:
    """The registry of awaited tasks. Times are seconds on a monotonic clock.

    A task is *expected* before it is written to the store, so that no announcement is missed, and
    *written* after that: if it is not in the store then, it was deleted. One whose id was chosen is
    *unwritten* in between: no other future attaches to it, as it may turn out to exist.
    """

    def __init__(self, own_prefix: str) -> None:
        self._own_prefixes: tuple[str, ...] = (own_prefix,)
        self.channels: Counter[str] = Counter()
        """The channels to follow, with how many tasks need each."""
        self.queue_of: dict[str, str] = {}
        """The queue whose tasks end on each of these channels."""
        self._sinks: dict[str, dict[str, Sink]] = {}
        self._attached: set[tuple[str, str]] = set()
        """Tasks that this client did not enqueue."""
        self.unwritten: dict[tuple[str, str], Sink] = {}
        """The sinks of tasks with a chosen id that are being written."""
        self.being_cancelled: set[tuple[str, str]] = set()
        """Tasks that this client is cancelling, which may remove them from the store."""
        self._writing: dict[str, Sink] = {}
        """The sinks of tasks that are being written, by the first id of each batch."""
        self._reused: set[tuple[str, str]] = set()
        """Tasks with a chosen id that looks like one that this client made."""
        self.cancel_interrupted: set[tuple[str, str]] = set()
        """Tasks whose cancelling here was interrupted. If one is gone, it was cancelled."""
        self._own = PollSchedule(OWN_INTERVAL)
        self._others = PollSchedule(OTHER_INTERVAL)
        self._new_messages = PollSchedule(FIRST_INTERVAL)
        self._last_states: dict[tuple[str, str], str] = {}
        self._soon: deque[tuple[str, list[str]]] = deque()
        # When the next look would come if each came as late as it may.
        self._next_look_at = 0.0

    def inherit(self, own_prefix: str) -> None:
        """Become the registry of a forked child, whose ids begin with another prefix.

        The tasks are its parent's. It may wait for them, but did not enqueue them.
        """
        self._own_prefixes += (own_prefix,)
        self.unwritten.clear()  # threads of the parent write these
        self._writing.clear()
        self._attached.update((queue, i) for queue, sinks in self._sinks.items() for i in sinks)

    def __bool__(self) -> bool:
        return any(self._sinks.values())

    @property
    def own_count(self) -> int:
        """The number of awaited tasks that this client enqueued."""
        return sum(map(len, self._sinks.values())) - len(self._attached)

    def all(self, *, own: bool = False) -> list[tuple[str, str, Sink]]:
        """Return queue, id and sink of each task, or only of those that this client enqueued."""
        found = [(q, i, sink) for q, sinks in self._sinks.items() for i, sink in sinks.items()]
        return [each for each in found if not own or each[:2] not in self._attached]

    def ids_in(self, queue: str) -> Container[str]:
        """Return the ids of the tasks of a queue that are awaited now. Needs no lock."""
        return self._sinks.get(queue, {})

    def sink_of(self, queue: str, task_id: str) -> Sink | None:
        """Return the sink of a task; None if it is not awaited."""
        return self._sinks.get(queue, {}).get(task_id)

    def open_channel(self, queue: str, channel: str) -> None:
        """Follow a channel for as long as the client lives."""
        if channel not in self.queue_of:
            self.follow(queue, channel)

    def follow(self, queue: str, channel: str) -> None:
        """Follow a channel until `leave` was called as often."""
        self.queue_of[channel] = queue
        self.channels[channel] += 1

    def leave(self, channel: str) -> None:
        """Undo one `follow`."""
        if self.channels[channel] > 1:
            self.channels[channel] -= 1
        else:
            del self.channels[channel]
            self.queue_of.pop(channel, None)

    def expect(self, queue: str, task_ids: Sequence[str], sink: Sink) -> None:
        """Register tasks that are about to be written, and whose ids this client made."""
        sinks = self._sinks.get(queue)
        if sinks is None:
            sinks = self._sinks[queue] = {}
        for task_id in task_ids:
            sinks[task_id] = sink
        self._writing[task_ids[0]] = sink

    def expect_named(self, queue: str, task_id: str, sink: Sink) -> None:
        """Register a task that is about to be written, and whose id was chosen.

        No task of this id may be awaited.
        """
        self.follow(queue, stored_keys(queue).end_channel(task_id))
        self._sinks.setdefault(queue, {})[task_id] = sink
        self.unwritten[queue, task_id] = sink
        if task_id.startswith(self._own_prefixes):
            self._reused.add((queue, task_id))

    def has_own_id(self, queue: str, task_id: str) -> bool:
        """Return whether this client made the id, so that no earlier task had it."""
        if not task_id.startswith(self._own_prefixes):
            return False
        if not self._attached and not self._reused:
            return True
        key = (queue, task_id)
        return key not in self._attached and key not in self._reused

    def may_be_unwritten(self, queue: str, task_id: str) -> bool:
        """Return whether the task may be missing only because it is still being written."""
        if (queue, task_id) in self.unwritten:
            return True
        return bool(self._writing) and self.sink_of(queue, task_id) in self._writing.values()

    def is_unwritten(self, queue: str, task_id: str) -> bool:
        """Return whether a task with this chosen id is being written."""
        return (queue, task_id) in self.unwritten

    def forget(self, queue: str, task_ids: Sequence[str], sink: Sink) -> None:
        """Drop tasks that were not written. Other sinks that await such an id stay."""
        if task_ids:
            self._writing.pop(task_ids[0], None)
        for task_id in task_ids:
            if self.sink_of(queue, task_id) is sink:
                self.pop(queue, task_id)
            if self.unwritten.get((queue, task_id)) is sink:
                del self.unwritten[queue, task_id]

    def note_written(
        self, queue: str, task_ids: Sequence[str], now: float, is_message: bool = False
    ) -> bool:
        """Note that tasks are in the store.

        Returns True if they are to be looked at before all others.
        """
        self._writing.pop(task_ids[0], None)
        if self.unwritten:
            for task_id in task_ids:
                self.unwritten.pop((queue, task_id), None)
        schedule = self._new_messages if is_message else self._own
        is_first = schedule.next_at is None
        schedule.add(queue, task_ids, now)
        return is_first

    def attach(self, queue: str, task_id: str, sink: Sink, now: float) -> Sink | None:
        """Register a task that is in the store already, or is gone.

        Returns the sink that awaits it already, which then stays.
        """
        waiting = self.sink_of(queue, task_id)
        if waiting is not None:
            return waiting
        self.follow(queue, stored_keys(queue).end_channel(task_id))
        self._sinks.setdefault(queue, {})[task_id] = sink
        self._attached.add((queue, task_id))
        self._others.add(queue, (task_id,), now)
        self.look_soon(queue, (task_id,))
        return None

    def attach_many(
        self, queue: str, task_ids: Sequence[str], sink: Sink, now: float
    ) -> dict[str, Sink]:
        """Register a sink for many tasks, as `attach` does.

        Returns the sinks that await some of them already, by id.
        """
        sinks, keys = self._sinks.setdefault(queue, {}), stored_keys(queue)
        earlier = {task_id: sinks[task_id] for task_id in task_ids if task_id in sinks}
        new = [task_id for task_id in dict.fromkeys(task_ids) if task_id not in earlier]
        for task_id in new:
            self.follow(queue, keys.end_channel(task_id))
            sinks[task_id] = sink
            self._attached.add((queue, task_id))
        self._others.add(queue, new, now)
        self.look_soon(queue, new)
        return earlier

    def pop(self, queue: str, task_id: str) -> Sink | None:
        """Take out the sink of a task whose end is known, or None."""
        sink = self._sinks.get(queue, {}).pop(task_id, None)
        self._attached.discard((queue, task_id))
        if self._reused:
            self._reused.discard((queue, task_id))
        if self._last_states:
            self._last_states.pop((queue, task_id), None)
        if sink is not None and not task_id.startswith(self._own_prefixes):
            self.leave(stored_keys(queue).end_channel(task_id))
        return sink

    def pop_all(self, queue: str, task_ids: Iterable[str]) -> dict[Sink, list[str]]:
        """Take out the sinks of tasks whose ends are known, each with its tasks."""
        found: dict[Sink, list[str]] = {}
        for task_id in task_ids:
            sink = self.pop(queue, task_id)
            if sink is not None:
                found.setdefault(sink, []).append(task_id)
        return found

    @property
    def own_prefix(self) -> str:
        """The beginning of the ids that this client makes."""
        return self._own_prefixes[-1]

    # --- What to look at -----------------------------------------------------------------------

    def look_soon(self, queue: str, task_ids: Sequence[str]) -> None:
        """Look at tasks next, as their ends may have been missed."""
        for at in range(0, len(task_ids), SLICE):
            self._soon.append((queue, list(task_ids[at : at + SLICE])))

    def look_at_all_soon(self, now: float) -> None:
        """Look at all written tasks next, as their ends may have been missed."""
        self._soon.clear()
        for schedule in (self._own, self._others, self._new_messages):
            for queue, task_ids in schedule.take_all():
                self.look_soon(queue, task_ids)
                schedule.add(queue, task_ids, now)

    def next_look(self, now: float) -> dict[tuple[str, str], str] | None:
        """Return the tasks to look at now, each with its last known state; None for none.

        Those of `look_soon` come at once. For all others together there is one look for each
        `LOOK_SECONDS`; one more may come before its time.
        """
        while self._soon:
            queue, task_ids = self._soon.popleft()
            if found := self._with_last_states(queue, task_ids):
                return found
        if now < self._next_look_at - LOOK_SECONDS:
            return None
        found = {}
        for schedule in (self._new_messages, self._others, self._own):
            again = self._own if schedule is self._own else self._others
            taken = []
            while len(found) < MOST_LOOKED_AT and (due := schedule.take(now)) is not None:
                chosen = self._with_last_states(*due)
                found |= chosen
                taken.append((due[0], [task_id for _, task_id in chosen]))
            for queue, task_ids in taken:
                if task_ids:
                    again.add(queue, task_ids, now)
        if not found:
            return None
        self._next_look_at = max(self._next_look_at, now) + LOOK_SECONDS
        return found

    def _with_last_states(self, queue: str, task_ids: Sequence[str]) -> dict[tuple[str, str], str]:
        sinks, unwritten = self._sinks.get(queue, {}), self.unwritten
        keys = [(queue, task_id) for task_id in task_ids if task_id in sinks]
        return {key: self._last_states.get(key, "") for key in keys if key not in unwritten}

    def note_state(self, queue: str, task_id: str, state: str) -> Sink | None:
        """Note a state of a task that is not a final one; return its sink."""
        sink = self.sink_of(queue, task_id)
        if sink is not None:
            self._last_states[queue, task_id] = state
        return sink

    def next_look_in(self, now: float) -> float | None:
        """Return the seconds until the next look; None if there is nothing to look at."""
        if self._soon:
            return 0.0
        schedules = (self._own, self._others, self._new_messages)
        moments = [at for each in schedules if (at := each.next_at) is not None]
        if not moments:
            return None
        # A little later, so that it is surely due then.
        return max(min(moments), self._next_look_at - LOOK_SECONDS, now) - now + 0.001
