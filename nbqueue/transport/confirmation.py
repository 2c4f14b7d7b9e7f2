"""Commands that wait until acknowledged writes are safe."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple


class Confirmation(NamedTuple):
    """A command that waits until earlier writes of its connection are safe."""

    command: tuple[str, ...]
    """Its words, without the last one, which is the time-out in milliseconds."""
    place: str
    """Where the writes are then, for messages."""
    longest: float = math.inf
    """The most seconds to wait for it at once."""

    def is_given(self, reply: Any) -> bool:
        """Return whether the reply to the command, which is no refusal, confirms the writes."""
        count = reply[0] if isinstance(reply, list) else reply
        return bool(count >= 1)


ON_DISK: Final = Confirmation(("WAITAOF", "1", "0"), "on disk")
ON_REPLICA: Final = Confirmation(("WAIT", "1"), "on a replica", 2.0)
"""Short, as the connection may be to a master that another one has replaced."""
