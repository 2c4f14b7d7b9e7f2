"""The error for a request that the store may have carried out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nbqueue.errors import StoreUnreachable, SubmitUnconfirmed


@contextmanager
def confirmed(
    what: str, way: str, *, task_ids: Sequence[str] = (), schedule_id: str | None = None
) -> Iterator[None]:
    """Raise `SubmitUnconfirmed` if the connection is lost after ``what`` was sent.

    ``way`` is a call that shows whether it is in the store.
    """
    try:
        yield
    except StoreUnreachable as error:
        if not error.was_sent:
            raise
        raise SubmitUnconfirmed(
            f"{what} may be in the store, which did not confirm it: {way} says once the store is "
            f"back. {error}",
            task_ids,
            schedule_id,
        ) from error
