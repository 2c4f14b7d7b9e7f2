"""Arguments of tasks in lists: `CallTexts` shows them, `ArgumentFilter` searches them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from nbqueue.broker.reads.task_table import TaskRow
from nbqueue.client.arguments.stored_arguments import ArgumentReader, StoredCall, stored_calls
from nbqueue.dashboard.tables.task_key import task_key
from nbqueue.dashboard.task_actions import by_queue
from nbqueue.dashboard.task_line import TaskLine
from nbqueue.views.call_text import value_text

if TYPE_CHECKING:
    from nbqueue.client.session import Session


_MOST_CALLS: Final = 2_000
"""The greatest number of calls that are remembered between readings."""


class CallTexts:
    """The calls of tasks as Python would write them. Each is read once, as it does not change."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._texts: dict[str, str] = {}

    def added_to(self, lines: Sequence[TaskLine]) -> list[TaskLine]:
        """Return tasks with their calls. Raises `StoreError`."""
        if len(self._texts) > _MOST_CALLS:
            self._texts.clear()
        missing = by_queue([line.key for line in lines if line.key not in self._texts])
        for queue, ids in missing.items():
            for task_id, call in stored_calls(self._session, queue, ids).items():
                self._texts[task_key(queue, task_id)] = call.text
        return [line._replace(call=self._texts.get(line.key, "")) for line in lines]


class ArgumentFilter:
    """Takes tasks whose arguments fit a text.

    ``lr=0.1`` takes tasks whose parameter ``lr`` is 0.1, given or by default; several of these,
    separated by commas, have to fit all. Any other text has to be a part of the call as Python
    would write it. Tasks whose arguments cannot be read do not fit.
    """

    def __init__(self, session: Session, text: str) -> None:
        self._reader = ArgumentReader(session)
        self._text = text

    def takes(self, row: TaskRow) -> bool:
        """Return whether a task fits. Its message must have its payload."""
        return fits(self._reader.call(row.queue, row.message), self._text)


def fits(call: StoredCall, text: str) -> bool:
    """Return whether a call fits a text; see `ArgumentFilter`."""
    if call.fault is not None:
        return False
    if text in call.text:
        # A value of which the text is only the beginning does not fit.
        return not _is_pair(text) or _has(call, text)
    pairs = [part.strip() for part in text.split(",")]
    return all(_is_pair(pair) and _has(call, pair) for pair in pairs)


def _is_pair(text: str) -> bool:
    name, separator, _ = text.partition("=")
    return bool(separator) and name.strip().isidentifier()


def _has(call: StoredCall, pair: str) -> bool:
    name, _, wanted = pair.partition("=")
    name, wanted = name.strip(), wanted.strip()
    if name not in call.values:
        return False
    value = call.values[name]
    return wanted in (value_text(value), value if isinstance(value, str) else None)
