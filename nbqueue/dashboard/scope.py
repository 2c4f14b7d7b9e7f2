"""`Scope`: the store that a dashboard shows, and which of its queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbqueue.client.client import Client


@dataclass
class Scope:
    """The store of a client, or some queues of it. ``queues`` is None for all.

    ``read_only``: models refuse to change anything.
    """

    client: Client
    queues: tuple[str, ...] | None = None
    read_only: bool = False

    @property
    def now_ms(self) -> int:
        """The store's time, in Unix milliseconds."""
        return self.client._session.clock.now_ms()

    def queue_names(self) -> list[str]:
        """Read the names of the queues that exist and belong to the scope."""
        return [name for name in self.client.inspector.queues() if self.includes(name)]

    def includes(self, queue: str) -> bool:
        """Return whether a queue belongs to the scope."""
        return self.queues is None or queue in self.queues
