"""Warn of names that nothing in the store has, as an empty frame does not say so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nbqueue.broker.reads.asynq_records import AsynqRecords
from nbqueue.broker.reads.store_reader import no_queue
from nbqueue.calls.pickling.captured_values import warn_at_user
from nbqueue.client.inspection.task_names import recent_tasks
from nbqueue.errors import NbqueueError, UnknownNameWarning
from nbqueue.names import did_you_mean, known_names, near_names
from nbqueue.printable import shown

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_MOST_LISTED = 20
_VERY_LIKE = 0.8


def warn_of_queues(session: Session, queues: Sequence[str]) -> None:
    """Warn of queues that do not exist, unless a worker serves them or the store is new."""
    known, served = _queues(session, queues)
    for queue in queues:
        if known and queue not in (*known, *served):
            _warn(str(no_queue(queue, known)))


def warn_of_new_queue(session: Session, queue: str) -> None:
    """Warn of a queue that does not exist yet, if one that does is very like it."""
    known, served = _queues(session, [queue])
    if near_names(queue, known, likeness=_VERY_LIKE) and queue not in (*known, *served):
        _warn(str(no_queue(queue, known)))


def _queues(session: Session, names: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return the queues of the store and, if one of ``names`` is not among them, the served ones.

    None are known to a user who may not list them.
    """
    try:
        known = session.broker.queues()
        if all(name in known for name in names):
            return known, set()
        servers = AsynqRecords(session.broker).servers()
    except NbqueueError:
        return [], set()
    return known, {name for server in servers for name in server.queues}


def warn_of_parameters(unknown: Iterable[str], known: Sequence[str]) -> None:
    """Warn of parameters that none of the tasks has; their functions have the ``known`` ones."""
    for name in unknown if known else ():
        listed = known_names(name, known[:_MOST_LISTED])
        _warn(f"arguments: none of these tasks has a parameter {shown(name)}{listed}")


def warn_of_types(session: Session, types: Iterable[str], known: Iterable[str] = ()) -> None:
    """Warn of types that no recent task has, if one is like them; ``known`` are types of tasks."""
    found = dict.fromkeys(known) or dict.fromkeys(
        message.type for message in recent_tasks(session.broker).message
    )
    for word in types:
        if "*" in word or word in found:
            continue
        ends = [name for name in found if name.rpartition(".")[2] == word]
        question = f"did you mean {shown(ends[0])}?" if ends else did_you_mean(word, found)
        if question:
            _warn(f"none of the newest tasks is of type {shown(word)}: {question}")


def warn_of_names(known: Iterable[str], names: Iterable[str]) -> None:
    """Warn of names that no task and no group has, if a ``known`` one is like them."""
    known = list(known)
    for name in names:
        question = did_you_mean(name, known)
        if question:
            _warn(f"no task and no group has the name {shown(name)}: {question}")


def warn_of_limit(name: str, known: Sequence[str]) -> None:
    """Warn of a limit that does not exist, if a ``known`` one is like it."""
    question = did_you_mean(name, known)
    if question:
        _warn(f"there is no limit {shown(name)}: {question}")


def _warn(text: str) -> None:
    warn_at_user(text, UnknownNameWarning)
