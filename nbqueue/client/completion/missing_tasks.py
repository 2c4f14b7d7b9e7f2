"""Tasks that were not found in the store, and whose ends may have been announced.

The script that deletes a task announces its end. That message comes over another connection than
the answer to a look, and may still be unread when the look is answered. So the listener subscribes
to one more channel first: what was announced before the look is read before that is confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from nbqueue.client.channels.channel_listeners import Subscribed
from nbqueue.client.completion.awaited_tasks import AwaitedTasks
from nbqueue.wire.keys import stored_keys


class MissingTasks:
    """Keeps missing tasks until all earlier messages were read. The listener's lock guards it."""

    def __init__(self, tasks: AwaitedTasks) -> None:
        self._tasks = tasks
        self._numbers = count()
        self._by_channel: dict[str, tuple[str, Sequence[str]]] = {}

    def add(self, missing: Mapping[str, Sequence[str]]) -> None:
        """Note tasks by queue, and follow a channel on which nothing is ever published."""
        for queue, task_ids in missing.items():
            channel = f"{stored_keys(queue).ends}gone {next(self._numbers)}"
            self._tasks.follow(queue, channel)
            self._by_channel[channel] = queue, task_ids

    def take(self, subscribed: Subscribed) -> list[tuple[str, Sequence[str]]]:
        """Take out the tasks, by queue, whose channel is confirmed."""
        if not self._by_channel:
            return []
        confirmed = [each for each in self._by_channel if subscribed.is_subscribed(each)]
        for channel in confirmed:
            self._tasks.leave(channel)
        return [self._by_channel.pop(channel) for channel in confirmed]
