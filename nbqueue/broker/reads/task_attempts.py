"""Read the finished attempts of certain tasks, without reading those of all others."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

from nbqueue.errors import StoreDamaged
from nbqueue.wire.decoding import stream_entry
from nbqueue.wire.keys import stored_keys

if TYPE_CHECKING:
    from nbqueue.broker.broker import Broker

MOST_LOOKED_AT = 20_000
_PAGE = 300
_LATER_MS = 3_000
_EARLIER_MS = 1_000
"""How much later and earlier an attempt may be recorded: times of tasks may be whole seconds."""


def attempts_of(
    broker: Broker,
    queue: str,
    task_ids: Container[str],
    *,
    newest_ms: int | None = None,
    oldest_ms: int = 0,
    most_looked_at: int = MOST_LOOKED_AT,
) -> Iterator[dict[str, str]]:
    """Yield the attempts of these tasks, the last to finish first, as they are stored.

    Reads back from ``newest_ms`` to ``oldest_ms`` (Unix ms), page by page while the caller goes on;
    at most ``most_looked_at`` attempts of any tasks. Raises `StoreUnreachable`.
    """
    key = stored_keys(queue).attempts
    last = "+" if newest_ms is None else str(newest_ms + _LATER_MS)
    first = str(max(oldest_ms - _EARLIER_MS, 0))
    for _ in range(0, most_looked_at, _PAGE):
        try:
            [entries] = broker.call(("XREVRANGE", key, last, first, "COUNT", _PAGE), on=queue)
        except StoreDamaged:
            return
        for _, pairs in entries:
            row = stream_entry(pairs)
            if row.get("task_id") in task_ids:
                yield row
        if len(entries) < _PAGE:
            return
        last = "(" + entries[-1][0].decode()
