"""Finding tasks by id or by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.list_tasks import Listing, Wanted
from nbqueue.broker.reads.store_reader import StoreReader
from nbqueue.broker.reads.task_table import TaskTable
from nbqueue.errors import NbqueueError
from nbqueue.printable import restored
from nbqueue.wire import states

if TYPE_CHECKING:
    from nbqueue.client.session import Session


_STATES = (
    states.ACTIVE, states.ARCHIVED, states.RETRY, states.PENDING, states.SCHEDULED, states.COMPLETED
)  # fmt: skip
_MOST_QUEUES = 50
_MOST_RECENT = 100


class TaskPlace(NamedTuple):
    """The id of a task, and its queue."""

    id: str
    queue: str


def find_named(session: Session, text: str, queue: str | None = None) -> TaskPlace | None:
    """Return the newest task with a name, or None if there is none, or none in ``queue``."""
    named = session.find_by_name(text)
    if named is None or queue not in (None, named[0]):
        return None
    return TaskPlace(named[1], named[0])


def resolve_names(
    session: Session, texts: Sequence[str], queue: str | None = None
) -> list[str | TaskPlace]:
    """Replace each name by the newest task with that name; return ids as they are.

    An id goes before a name, as in `Client.get`. Text that is neither is returned as it is. With
    ``queue`` only tasks of that queue are found by name.
    """
    homes = StoreReader(session.broker).find(texts)
    return [text if homes[text] else find_named(session, text, queue) or text for text in texts]


def recent_tasks(broker: Broker, most: int = _MOST_RECENT) -> TaskTable:
    """Return the newest ``most`` tasks of each state and queue, of some queues.

    For suggestions: it raises nothing, and leaves out tasks that cannot be read.
    """
    wanted = Wanted(with_message=False, with_attempts=False)
    try:
        queues = broker.queues()[:_MOST_QUEUES]
        return Listing(broker).tasks(queues, wanted, _STATES, most)
    except NbqueueError:  # also from a client without a store
        return TaskTable()


def queue_named(broker: Broker, name: str) -> str:
    """Return the name of a queue that may have been copied from a frame, with its escapes.

    Programs in Go make queues whose names contain control characters.
    """
    is_as_shown = "\\" in name and name not in broker.queues()
    return restored(name) if is_as_shown else name
