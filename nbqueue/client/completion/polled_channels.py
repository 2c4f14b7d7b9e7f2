"""Polling the store in place of channels to which its user may not subscribe."""

from __future__ import annotations

import logging
import time

from nbqueue.client.channels.channel_listeners import ChannelListeners
from nbqueue.client.completion.awaited_tasks import AwaitedTasks
from nbqueue.store.connection import Store
from nbqueue.store.rights import CHANNELS, MissingRights, slower

POLL_SECONDS = 0.5
_TASKS_A_SECOND = 5_000

_log = logging.getLogger("nbqueue.client")


class PolledChannels:
    """Looks at all awaited tasks twice a second, and less often where there are many."""

    def __init__(self, store: Store, tasks: AwaitedTasks, channels: ChannelListeners) -> None:
        self._store = store
        self._tasks = tasks
        self._channels = channels
        self._next_at = 0.0
        # If the right was missing when the store was connected to, that was logged then.
        self._has_warned = not store.has_channels

    def is_subscribed(self, channel: str) -> bool:
        """True, as the messages of each channel are made up for by polling."""
        return True

    def poll(self) -> None:
        """Have the tasks looked at if it is time. The caller holds the listener's lock."""
        if not self._has_warned:
            self._has_warned = True
            _log.warning("%s", slower(self._store.url, MissingRights(channels=CHANNELS[:2])))
        now = time.monotonic()
        if now >= self._next_at:
            self._tasks.look_at_all_soon(now)
            self._channels.restart()
            self._next_at = now + POLL_SECONDS + self._tasks.own_count / _TASKS_A_SECOND
