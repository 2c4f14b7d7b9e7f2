"""Tasks that a look did not find: gone from the store, and how they ended may be announced.

The script that deletes a task announces its end. The announcement comes over another connection
than the look, and may still be unread when the look is answered. So the connection that listens is
asked something first: what was announced before the look is read before the answer to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count

from nbqueue.client.completion.awaited_tasks import AwaitedTasks
from nbqueue.wire.keys import stored_keys


class MissingTasks:
    """Not safe for threads: the listener's lock guards it."""

    def __init__(self, tasks: AwaitedTasks) -> None:
        self._tasks = tasks
        self._numbers = count()
        self._by_channel: dict[str, tuple[str, Sequence[str]]] = {}

    def add(self, gone: Mapping[str, Sequence[str]]) -> None:
        """Note tasks by queue, and follow a channel on which nothing is ever published."""
        for queue, task_ids in gone.items():
            channel = f"{stored_keys(queue).ends}gone {next(self._numbers)}"
            self._tasks.follow(queue, channel)
            self._by_channel[channel] = queue, task_ids

    def take(self, hears: Callable[[str], bool]) -> list[tuple[str, Sequence[str]]]:
        """Take out tasks by queue of which everything that was announced before has been read."""
        if not self._by_channel:
            return []
        heard = [channel for channel in self._by_channel if hears(channel)]
        for channel in heard:
            self._tasks.leave(channel)
        return [self._by_channel.pop(channel) for channel in heard]
