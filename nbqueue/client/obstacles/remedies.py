"""The commands that make a worker serve a queue, as people can type them where they are."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import NamedTuple

from nbqueue.errors import NbqueueError
from nbqueue.store.default_store import default_url
from nbqueue.store.url import StoreURL

_magic: list[Callable[[], StoreURL | None]] = []
"""Returns the store of ``%nbqueue`` in this process; empty where there is no such magic."""


def register_magic(store_of_magic: Callable[[], StoreURL | None]) -> None:
    """Name ``%nbqueue up`` as a way out from now on; it uses the store that is returned."""
    _magic[:] = [store_of_magic]


def unregister_magic() -> None:
    """Undo `register_magic`."""
    _magic.clear()


class Surroundings(NamedTuple):
    """The place where an obstacle is shown."""

    place: str
    """The store, without passwords."""
    url_option: str = ""
    """The option by which ``nbqueue worker`` finds the store; empty for the default."""
    magic: str = ""
    """The magics that come before ``up``, and ``up``; empty in a terminal."""


def surroundings_of(url: StoreURL) -> Surroundings:
    """Return how the store with this URL is reached from here."""
    is_default = _default() == url
    option = "" if is_default else f" --url {shlex.quote(url.place)}"
    if not _magic:
        return Surroundings(url.place, option)
    # A terminal may be in another folder, which has another default.
    option = f" --url {shlex.quote(url.place)}"
    if (_magic[0]() or _default()) == url:
        return Surroundings(url.place, option, "%nbqueue up")
    if url.has_password:
        return Surroundings(url.place, option)
    return Surroundings(
        url.place, option, f"%nbqueue connect {shlex.quote(url.place)}\n%nbqueue up"
    )


def start_line(around: Surroundings, queue: str) -> str:
    """Return the commands that start a worker for ``queue``, and what they do."""
    option = "" if queue == "default" else f" -q {shlex.quote(_weighted(queue))}"
    if "***" in around.place:
        terminal = f"`nbqueue worker{option}`, with the store's URL in NBQUEUE_URL,"
    else:
        terminal = f"`nbqueue worker{option}{around.url_option}`"
    if not around.magic or "," in queue:
        return f"{terminal} starts one"
    *before, up = around.magic.split("\n")
    magic = " and then ".join(f"`{line}`" for line in (*before, up + option))
    return f"{magic} starts one here, {terminal} in a terminal"


def _weighted(queue: str) -> str:
    return f"{queue}=1" if "=" in queue else queue


def _default() -> StoreURL | None:
    try:
        return default_url()
    except (NbqueueError, OSError):
        return None
