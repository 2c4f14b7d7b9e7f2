"""Log in, choose the database and ask first questions, in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nbqueue.transport.connect import RawConnection
from nbqueue.transport.refusals import is_login_refused, is_out_of_clients
from nbqueue.transport.resp import ReplyError

_CLIENT_NAME: Final = "nbqueue"


class Login(NamedTuple):
    """The user and the database of a connection."""

    username: str | None = None
    password: str | None = None
    db: int = 0


def shake_hands(
    raw: RawConnection, login: Login, questions: Sequence[Sequence[str]] = ()
) -> list[Any]:
    """Log in and return the replies to ``questions``; refusals are values.

    The connection uses RESP2 on purpose: a server that does so never sends anything unasked between
    two replies. Raises `ReplyError` for a refused login, or from a server that serves this client
    nothing at all, and as `RawConnection.exchange` does.
    """
    needed: list[Sequence[str]] = []
    if login.password is not None:
        needed.append(("AUTH", *filter(None, [login.username]), login.password))
    if login.db:
        needed.append(("SELECT", str(login.db)))
    replies = raw.exchange([*needed, ("CLIENT", "SETNAME", _CLIENT_NAME), *questions])
    for reply in replies[: len(needed)]:
        if isinstance(reply, ReplyError):
            raise reply
    named = replies[len(needed)]
    # This user may lack the right to name its connection, which does not matter.
    if isinstance(named, ReplyError) and (is_login_refused(named) or is_out_of_clients(named)):
        raise named
    return replies[len(needed) + 1 :]
