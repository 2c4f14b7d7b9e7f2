"""Which server holds which keys."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, NamedTuple, Protocol

from nbqueue.transport.server import Server


class Key(NamedTuple):
    """A key that belongs to no queue, such as ``asynq:queues``."""

    name: str | bytes


class _Anywhere(Enum):
    ANYWHERE = "anywhere"


ANYWHERE: Final = _Anywhere.ANYWHERE
"""The place of commands without a key, which any server answers: TIME, PUBLISH."""

Place = str | Key | Literal[_Anywhere.ANYWHERE]
"""The queue, key or other place that a command concerns.

The name of a queue, whose keys are all on one server; a key; or nothing in particular.
"""


class Topology(Protocol):
    """Answers which server holds the keys of a queue."""

    def server_for(self, place: Place) -> Server:
        """Return the server to send commands to that concern ``place``."""


class SingleServer:
    """The topology of a store with one server, which holds everything."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def server_for(self, place: Place) -> Server:
        return self.server
