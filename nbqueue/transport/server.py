"""A server's address and settings, for its connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nbqueue.errors import StoreDamaged, StoreError
from nbqueue.transport.connect import RawConnection
from nbqueue.transport.resp import Arg, ReplyError


class Server(Protocol):
    """A server that connections can be opened to."""

    @property
    def name(self) -> str:
        """Its URL without passwords, for messages."""

    def open_connection(self, timeout: float | None = 30.0) -> RawConnection:
        """Open a connection on which the handshake is done. Raises `StoreError`."""

    def error_for(self, refusal: ReplyError, keys: Sequence[Arg] = ()) -> StoreError:
        """Return the exception for a refused command with these keys."""

    def damage_of(self, keys: Sequence[Arg]) -> StoreDamaged:
        """Return the exception for a command with a key of the wrong type."""
