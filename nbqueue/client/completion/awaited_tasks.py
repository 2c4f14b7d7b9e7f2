"""Which tasks a client waits for: who is to be told, where their ends are announced, and when to
look at them in case nobody announces them. Pure; the listener guards it with its lock."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container, Iterable, Sequence
from typing import Protocol

from nbqueue.broker.commands.look import MOST_LOOKED_AT
from nbqueue.client.completion.poll_schedule import SLICE, PollSchedule
from nbqueue.client.futures.outcome import RawOutcome
from nbqueue.wire.keys import stored_keys

OWN_INTERVAL = 10.0
"""Seconds after which a call of this client is looked at, in case nobody announces its end."""

OTHER_INTERVAL = 1.0
"""The same for a message, which a program in Go may handle, and for a task that this client
attached to."""

FIRST_INTERVAL = 0.25
"""The same for a message that was just enqueued, for the first time."""

LOOK_SECONDS = 1.0
"""How long it is from one look at all that is due to the next, on average."""


class Sink(Protocol):
    """Who waits for tasks: a future for one, a group for many. Called by the listener's thread."""

    def _take(self, ends: Sequence[tuple[str, RawOutcome]]) -> None:
        """These tasks ended."""

    def _notice(self, task_id: str, state: str) -> None:
        """This task was seen in this state, which is not the last one."""


class AwaitedTasks:
    """See the module. Times are seconds on a monotonic clock.

    A task is *expected* before it is enqueued, so that no announcement is missed, and *entered*
    after that: what is not in the store by then was deleted. One whose id somebody chose is
    *unwritten* in between: nobody else attaches to it, as it may turn out to exist.
    """

    def __init__(self, own_prefix: str) -> None:
        self._own_prefixes: tuple[str, ...] = (own_prefix,)
        self.channels: Counter[str] = Counter()
        """The channels to follow, with how many tasks need each."""
        self._queue_of: dict[str, str] = {}
        self._sinks: dict[str, dict[str, Sink]] = {}
        self._guests: set[tuple[str, str]] = set()
        self._unwritten: dict[tuple[str, str], Sink] = {}
        self.cancelling: set[tuple[str, str]] = set()
        """Tasks that are being cancelled here: one that is gone may be gone because of that."""
        self._writing: dict[str, Sink] = {}
        """The sinks of tasks that are being written, each by the first id."""
        self._reused: set[tuple[str, str]] = set()
        """Tasks with a chosen id that looks as if it had been made here."""
        self.cut_off: set[tuple[str, str]] = set()
        """Tasks whose cancelling here was interrupted: one that is gone was cancelled."""
        self._own = PollSchedule(OWN_INTERVAL)
        self._others = PollSchedule(OTHER_INTERVAL)
        self._fresh = PollSchedule(FIRST_INTERVAL)
        self._seen: dict[tuple[str, str], str] = {}
        self._suspects: deque[tuple[str, list[str]]] = deque()
        # When the next look would come if each came as late as it may.
        self._next_look_at = 0.0

    def inherit(self, own_prefix: str) -> None:
        """In a child process: what is waited for are the tasks of the parent; new ids of our own
        have another prefix, whose channel is followed for good, too."""
        self._own_prefixes += (own_prefix,)
        self._unwritten.clear()  # by threads of the parent
        self._writing.clear()
        self._guests.update((queue, i) for queue, sinks in self._sinks.items() for i in sinks)

    def __bool__(self) -> bool:
        return any(self._sinks.values())

    @property
    def own_count(self) -> int:
        """How many tasks are waited for that this client enqueued."""
        return sum(map(len, self._sinks.values())) - len(self._guests)

    def all(self, *, own: bool = False) -> list[tuple[str, str, Sink]]:
        """Queue, id and sink of each task; or only of those that this client enqueued."""
        found = [(q, i, sink) for q, sinks in self._sinks.items() for i, sink in sinks.items()]
        return [each for each in found if not own or each[:2] not in self._guests]

    def ids_in(self, queue: str) -> Container[str]:
        """The tasks of a queue that are waited for."""
        return self._sinks.get(queue, {})

    def sink_of(self, queue: str, task_id: str) -> Sink | None:
        return self._sinks.get(queue, {}).get(task_id)

    def queue_of(self, channel: str) -> str | None:
        return self._queue_of.get(channel)

    def open_channel(self, queue: str, channel: str) -> None:
        """Follow a channel for good."""
        if channel not in self._queue_of:
            self.follow(queue, channel)

    def follow(self, queue: str, channel: str) -> None:
        """Follow a channel, until `leave` was called as often."""
        self._queue_of[channel] = queue
        self.channels[channel] += 1

    def leave(self, channel: str) -> None:
        if self.channels[channel] > 1:
            self.channels[channel] -= 1
        else:
            del self.channels[channel]
            self._queue_of.pop(channel, None)

    def expect(self, queue: str, task_ids: Sequence[str], sink: Sink) -> None:
        self._sinks.setdefault(queue, {}).update(dict.fromkeys(task_ids, sink))
        self._writing[task_ids[0]] = sink

    def expect_named(self, queue: str, task_id: str, sink: Sink) -> None:
        """The same for a task whose id somebody chose, and of which nobody waits for one."""
        self.follow(queue, stored_keys(queue).end_channel(task_id))
        self._sinks.setdefault(queue, {})[task_id] = sink
        self._unwritten[queue, task_id] = sink
        if task_id.startswith(self._own_prefixes):
            self._reused.add((queue, task_id))

    def is_fresh(self, queue: str, task_id: str) -> bool:
        """Whether this client made the id, so that no earlier task had it."""
        if not task_id.startswith(self._own_prefixes):
            return False
        if not self._guests and not self._reused:
            return True
        key = (queue, task_id)
        return key not in self._guests and key not in self._reused

    def may_be_unwritten(self, queue: str, task_id: str) -> bool:
        """Whether the task may be missing in the store because it is still being written."""
        if (queue, task_id) in self._unwritten:
            return True
        return bool(self._writing) and self.sink_of(queue, task_id) in self._writing.values()

    def is_unwritten(self, queue: str, task_id: str) -> bool:
        return (queue, task_id) in self._unwritten

    def forget(self, queue: str, task_ids: Sequence[str], sink: Sink) -> None:
        """These were not enqueued after all; where others wait for one of this id, they go on."""
        if task_ids:
            self._writing.pop(task_ids[0], None)
        for task_id in task_ids:
            if self.sink_of(queue, task_id) is sink:
                self.pop(queue, task_id)
            if self._unwritten.get((queue, task_id)) is sink:
                del self._unwritten[queue, task_id]

    def enter(
        self, queue: str, task_ids: Sequence[str], now: float, is_message: bool = False
    ) -> bool:
        """These were enqueued. True if they are to be looked at before all others."""
        self._writing.pop(task_ids[0], None)
        rounds = self._fresh if is_message else self._own
        is_first = rounds.next_at is None
        rounds.add(queue, task_ids, now)
        return is_first

    def written(self, queue: str, task_ids: Sequence[str]) -> bool:
        """These exist now. True if one of them may have been waited for, because of its id."""
        if not self._unwritten:
            return False
        found = [self._unwritten.pop((queue, task_id), None) for task_id in task_ids]
        return any(sink is not None for sink in found)

    def watch(self, queue: str, task_id: str, sink: Sink, now: float) -> Sink | None:
        """Wait for a task that lies in the store already, or no more.

        Who waits for it already goes on doing so, and is returned.
        """
        waiting = self.sink_of(queue, task_id)
        if waiting is not None:
            return waiting
        self.follow(queue, stored_keys(queue).end_channel(task_id))
        self._sinks.setdefault(queue, {})[task_id] = sink
        self._guests.add((queue, task_id))
        self._others.add(queue, (task_id,), now)
        self.suspect(queue, (task_id,))
        return None

    def pop(self, queue: str, task_id: str) -> Sink | None:
        """Return who waits for this task, once: its end is known."""
        sink = self._sinks.get(queue, {}).pop(task_id, None)
        self._guests.discard((queue, task_id))
        if self._reused:
            self._reused.discard((queue, task_id))
        if self._seen:
            self._seen.pop((queue, task_id), None)
        if sink is not None and not task_id.startswith(self._own_prefixes):
            self.leave(stored_keys(queue).end_channel(task_id))
        return sink

    def pop_all(self, queue: str, task_ids: Iterable[str]) -> dict[Sink, list[str]]:
        """Return who waits for which of these tasks, once: their ends are known."""
        found: dict[Sink, list[str]] = {}
        for task_id in task_ids:
            sink = self.pop(queue, task_id)
            if sink is not None:
                found.setdefault(sink, []).append(task_id)
        return found

    @property
    def own_prefix(self) -> str:
        """How the ids begin that this client makes."""
        return self._own_prefixes[-1]

    # --- What to look at -----------------------------------------------------------------------

    def suspect(self, queue: str, task_ids: Sequence[str]) -> None:
        """These may have ended unheard: look at them next."""
        for at in range(0, len(task_ids), SLICE):
            self._suspects.append((queue, list(task_ids[at : at + SLICE])))

    def suspect_all(self, now: float) -> None:
        """All that were entered may have ended unheard."""
        self._suspects.clear()
        for rounds in (self._own, self._others, self._fresh):
            for queue, task_ids in rounds.take_all():
                self.suspect(queue, task_ids)
                rounds.add(queue, task_ids, now)

    def next_look(self, now: float) -> dict[tuple[str, str], str] | None:
        """What to look at now: tasks by queue and id, with the state in which each was seen.

        Those that are suspected of having ended come at once. Of all others together there is one
        look for each `LOOK_SECONDS`; one more may come before its time.
        """
        while self._suspects:
            queue, task_ids = self._suspects.popleft()
            if found := self._seen_states(queue, task_ids):
                return found
        if now < self._next_look_at - LOOK_SECONDS:
            return None
        found = {}
        for rounds in (self._fresh, self._others, self._own):
            again = self._own if rounds is self._own else self._others
            taken = []
            while len(found) < MOST_LOOKED_AT and (due := rounds.take(now)) is not None:
                chosen = self._seen_states(*due)
                found |= chosen
                taken.append((due[0], [task_id for _, task_id in chosen]))
            for queue, task_ids in taken:
                if task_ids:
                    again.add(queue, task_ids, now)
        if not found:
            return None
        self._next_look_at = max(self._next_look_at, now) + LOOK_SECONDS
        return found

    def _seen_states(self, queue: str, task_ids: Sequence[str]) -> dict[tuple[str, str], str]:
        sinks, unwritten = self._sinks.get(queue, {}), self._unwritten
        keys = [(queue, task_id) for task_id in task_ids if task_id in sinks]
        return {key: self._seen.get(key, "") for key in keys if key not in unwritten}

    def saw(self, queue: str, task_id: str, state: str) -> Sink | None:
        """It was seen in this state, which is not the last one. Returns who waits for it."""
        sink = self.sink_of(queue, task_id)
        if sink is not None:
            self._seen[queue, task_id] = state
        return sink

    def next_look_in(self, now: float) -> float | None:
        """For how many seconds there is nothing to look at; None: until something is put in."""
        if self._suspects:
            return 0.0
        rounds = (self._own, self._others, self._fresh)
        moments = [at for each in rounds if (at := each.next_at) is not None]
        if not moments:
            return None
        # A little later, so that it is surely due then.
        return max(min(moments), self._next_look_at - LOOK_SECONDS, now) - now + 0.001
