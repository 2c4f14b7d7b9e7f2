"""Asking the store for what would be announced on channels to which our user may not listen."""

from __future__ import annotations

import logging
import time

from nbqueue.client.completion.awaited_tasks import AwaitedTasks
from nbqueue.client.completion.channels import ChannelListeners
from nbqueue.store.connection import Store
from nbqueue.store.rights import CHANNELS, MissingRights, slower

ASK_SECONDS = 0.5
_ASKED_A_SECOND = 5_000

_log = logging.getLogger("nbqueue.client")


class PolledChannels:
    """Has all that is waited for looked at twice a second, and less often where that is much."""

    def __init__(self, store: Store, tasks: AwaitedTasks, hearers: ChannelListeners) -> None:
        self._store = store
        self._tasks = tasks
        self._hearers = hearers
        self._next_at = 0.0
        # What was found when connecting was said then.
        self._is_said = not store.has_channels

    def hears(self, channel: str) -> bool:
        """True: whatever is said on a channel is asked for soon."""
        return True

    def ask(self) -> None:
        """Have it looked at if it is time. The caller holds the lock of the tasks."""
        if not self._is_said:
            self._is_said = True
            _log.warning("%s", slower(self._store.url, MissingRights(channels=CHANNELS[:2])))
        now = time.monotonic()
        if now >= self._next_at:
            self._tasks.suspect_all(now)
            self._hearers.connected()
            self._next_at = now + ASK_SECONDS + self._tasks.own_count / _ASKED_A_SECOND
