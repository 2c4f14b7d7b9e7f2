"""State that a client's threads and its listener's thread share."""

from __future__ import annotations

import threading

from nbqueue.client.completion.awaited_tasks import AwaitedTasks
from nbqueue.runtime.reactor import Reactor


class ListenerState:
    """The tasks that are awaited, with the one lock that guards them.

    Take ``lock``, and not ``changed``, where nothing is waited for: the methods of a condition are
    Python code, and an interrupt inside them would leave the lock held.
    """

    def __init__(self, own_prefix: str) -> None:
        self.tasks = AwaitedTasks(own_prefix)
        self.is_stopping = False
        self.reset()

    def reset(self) -> None:
        """Make new locks, in a child process whose parent may have held the old ones.

        The listener's thread does not run there.
        """
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        """Notified when a channel is confirmed, and when a task is not awaited any more."""
        self.channel_waits = 0
        """The number of threads that wait for a channel to be confirmed."""
        self.reactor: Reactor | None = None
        """The event loop of the listener's thread, while it runs."""

    def wake(self) -> None:
        """Have the listener's thread begin a round. Does nothing while it does not run."""
        reactor = self.reactor
        if reactor is not None:
            reactor.wake()
