"""Which tasks a client waits for: who is to be told, where their ends are announced, and when to
look at them in case nobody announces them. Pure; the listener guards it with its lock."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

from nbqueue.client.outcomes import End
from nbqueue.client.rounds import SLICE, Rounds
from nbqueue.wire.keys import queue_keys

OWN_INTERVAL = 10.0
"""Seconds after which a task of this client is looked at, in case nobody announces its end."""

OTHER_INTERVAL = 1.0
"""The same for a task that this client attached to."""

_BETWEEN_SLICES = 0.25


class Sink(Protocol):
    """Who waits for tasks: a future for one, a group for many. Called by the listener's thread."""

    def _take(self, ends: Sequence[tuple[str, End]]) -> None:
        """These tasks ended."""

    def _notice(self, task_id: str, state: str) -> None:
        """This task was seen in this state, which is not the last one."""


class Outstanding:
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
        self._own = Rounds(OWN_INTERVAL)
        self._others = Rounds(OTHER_INTERVAL)
        self._suspects: deque[tuple[str, list[str]]] = deque()
        self._next_slice_at = 0.0

    def inherit(self, own_prefix: str) -> None:
        """In a child process: what is waited for are the tasks of the parent; new ids of our own
        have another prefix, whose channel is followed for good, too."""
        self._own_prefixes += (own_prefix,)
        self._unwritten.clear()  # by threads of the parent
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

    def expect_named(self, queue: str, task_id: str, sink: Sink) -> None:
        """The same for a task whose id somebody chose, and of which nobody waits for one."""
        self.follow(queue, queue_keys(queue).end_channel(task_id))
        self._sinks.setdefault(queue, {})[task_id] = sink
        self._unwritten[queue, task_id] = sink

    def is_unwritten(self, queue: str, task_id: str) -> bool:
        return (queue, task_id) in self._unwritten

    def forget(self, queue: str, task_ids: Sequence[str], sink: Sink) -> None:
        """These were not enqueued after all; where others wait for one of this id, they go on."""
        for task_id in task_ids:
            if self.sink_of(queue, task_id) is sink:
                self.pop(queue, task_id)
            if self._unwritten.get((queue, task_id)) is sink:
                del self._unwritten[queue, task_id]

    def enter(self, queue: str, task_ids: Sequence[str], now: float) -> bool:
        """These were enqueued. True if there was nothing to look at before."""
        is_first = self._own.next_at is None
        self._own.add(queue, task_ids, now)
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
        self.follow(queue, queue_keys(queue).end_channel(task_id))
        self._sinks.setdefault(queue, {})[task_id] = sink
        self._guests.add((queue, task_id))
        self._others.add(queue, (task_id,), now)
        self.suspect(queue, (task_id,))
        return None

    def pop(self, queue: str, task_id: str) -> Sink | None:
        """Return who waits for this task, once: its end is known."""
        sink = self._sinks.get(queue, {}).pop(task_id, None)
        self._guests.discard((queue, task_id))
        if sink is not None and not task_id.startswith(self._own_prefixes):
            self.leave(queue_keys(queue).end_channel(task_id))
        return sink

    # --- What to look at -----------------------------------------------------------------------

    def suspect(self, queue: str, task_ids: Sequence[str]) -> None:
        """These may have ended unheard: look at them next."""
        for at in range(0, len(task_ids), SLICE):
            self._suspects.append((queue, list(task_ids[at : at + SLICE])))

    def suspect_all(self, now: float) -> None:
        """All that were entered may have ended unheard."""
        self._suspects.clear()
        for rounds in (self._own, self._others):
            for queue, task_ids in rounds.take_all():
                self.suspect(queue, task_ids)
                rounds.add(queue, task_ids, now)

    def next_slice(self, now: float) -> tuple[str, dict[str, Sink]] | None:
        """What to look at now: tasks of one queue with their sinks."""
        while self._suspects:
            found = self._with_sinks(*self._suspects.popleft())
            if found[1]:
                return found
        if now < self._next_slice_at:
            return None
        for rounds in (self._others, self._own):
            while (due := rounds.take(now)) is not None:
                found = self._with_sinks(*due)
                if found[1]:
                    rounds.add(found[0], list(found[1]), now)
                    self._next_slice_at = now + _BETWEEN_SLICES
                    return found
        return None

    def _with_sinks(self, queue: str, task_ids: Sequence[str]) -> tuple[str, dict[str, Sink]]:
        sinks = self._sinks.get(queue, {})
        unwritten = self._unwritten
        return queue, {i: sinks[i] for i in task_ids if i in sinks and (queue, i) not in unwritten}

    def next_slice_in(self, now: float) -> float | None:
        """For how many seconds there is nothing to look at; None: until something is put in."""
        if self._suspects:
            return 0.0
        moments = [at for at in (self._own.next_at, self._others.next_at) if at is not None]
        # A little later, so that it is surely due then.
        return max(min(moments), self._next_slice_at, now) - now + 0.001 if moments else None
