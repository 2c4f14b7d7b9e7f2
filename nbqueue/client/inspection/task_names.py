"""Finding tasks by id or by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nbqueue.broker.reads.store_reader import StoreReader

if TYPE_CHECKING:
    from nbqueue.client.session import Session


class TaskPlace(NamedTuple):
    """The id of a task, and its queue."""

    id: str
    queue: str


def resolve_names(
    session: Session, texts: Sequence[str], queue: str | None = None
) -> list[str | TaskPlace]:
    """Replace each name by the newest task with that name; return ids as they are.

    An id goes before a name, as in `Client.get`. Text that is neither is returned as it is. With
    ``queue`` only tasks of that queue are found by name.
    """
    homes = StoreReader(session.broker).find(texts)
    found: list[str | TaskPlace] = []
    for text in texts:
        named = None if homes[text] else session.find_by_name(text)
        is_meant = named is not None and queue in (None, named[0])
        found.append(TaskPlace(named[1], named[0]) if named is not None and is_meant else text)
    return found
